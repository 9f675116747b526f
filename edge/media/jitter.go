package media

import (
	"math/bits"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// jitterBuffer puts the received octets of one G.711 stream back onto the sender's time line and takes one frame off it
// per tick.
//
// Why it is keyed by timestamp rather than by sequence number: in G.711 an octet is a tick of the RTP clock. A ring of
// octets with a bit for each says exactly what is missing, whatever the packet length (10 to 60 ms, and changing), and
// time in which the sender said nothing (silence suppression, telephone-event) is a gap of the right length, not a loss.
//
// The level is how much is left after a frame was taken. What counts is its lowest value in a window of 5 s: that is what
// the network's jitter leaves. Above the target plus a frame, the sender's clock is faster, or a disturbance is over:
// frames are skipped. At nothing, the clock is slower or the network worse: a frame is inserted. Both wait for silence
// as long as they can.
type jitterBuffer struct {
	octets  [ringSize]byte
	present [ringSize / 64]uint64
	next    uint32 // timestamp of the next octet to be taken
	end     uint32 // timestamp behind the newest octet held
	running bool
	strays  int // packets in a row that are the newest, and yet outside the ring

	lowest  int32 // level in this window
	frames  int   // taken in this window
	arrived int   // octets put in this window

	insert, skip int // frames to insert or leave out
	waited       int // frames since then

	inserted, skipped uint64
}

const (
	// ringSize is 1.024 s and a power of two, so that a timestamp's place survives its wrap-around.
	ringSize = 8192
	// targetLevel is 40 ms.
	targetLevel = 2 * int32(samplesPerFrame)
	// highestLevel ends the growing: a network worse than this is heard as loss.
	highestLevel = 10 * int32(samplesPerFrame)

	windowFrames = 250
	// insertPatience is how many frames an insertion may wait for silence: the next packet late is one lost.
	insertPatience = 50
	// unhurriedPatience is how many frames a skip may wait for silence while the delay is bearable.
	unhurriedPatience = 500

	// A stream whose timestamps jumped is followed after so many packets; one may be a corrupted header.
	straysAhead  = 2
	straysBehind = 3
)

// arrival says what became of a packet.
type arrival uint8

const (
	stored  arrival = iota
	late            // its time is over: dropped
	outside         // far ahead of what can be held: dropped
	jumped          // stored, and the buffer began anew there
)

// put stores the payload of one packet. newest says that no later sequence number has been seen, marker that the sender
// calls this the beginning of a talk spurt.
func (j *jitterBuffer) put(timestamp uint32, payload []byte, newest, marker bool) arrival {
	if len(payload) == 0 || len(payload) > ringSize/2 {
		return outside
	}
	if !j.running {
		j.begin(timestamp)
	}
	offset, length := int32(timestamp-j.next), int32(len(payload))
	result := stored
	switch {
	case offset+length <= 0:
		if !j.follow(newest, marker, straysBehind) {
			if j.insert == 0 && j.level() < highestLevel && newest {
				j.insert, j.waited = 1, 0
			}
			return late
		}
		result = jumped
	case offset > ringSize-length:
		if !j.follow(newest, marker, straysAhead) {
			return outside
		}
		result = jumped
	}
	if result == jumped {
		j.reset()
		j.begin(timestamp)
	} else if offset < 0 {
		timestamp, payload = j.next, payload[-offset:]
	}
	j.strays = 0
	j.store(timestamp, payload)
	return result
}

// follow decides whether a packet outside the ring shows that the stream went elsewhere.
func (j *jitterBuffer) follow(newest, marker bool, patience int) bool {
	if !newest {
		return false
	}
	j.strays++
	return marker || j.strays >= patience
}

// begin lets the first octet wait for the target time.
func (j *jitterBuffer) begin(timestamp uint32) {
	j.running = true
	j.next, j.end = timestamp-uint32(targetLevel), timestamp
	j.newWindow()
}

// reset drops what is held; the next packet begins anew.
func (j *jitterBuffer) reset() {
	clear(j.present[:])
	j.running, j.strays, j.insert, j.skip, j.waited = false, 0, 0, 0, 0
}

func (j *jitterBuffer) newWindow() {
	j.lowest, j.frames, j.arrived = ringSize, 0, 0
}

func (j *jitterBuffer) level() int32 { return int32(j.end - j.next) }

func (j *jitterBuffer) store(timestamp uint32, payload []byte) {
	at := timestamp % ringSize
	n := copy(j.octets[at:], payload)
	copy(j.octets[:], payload[n:])
	for i := uint32(0); i < uint32(len(payload)); {
		word, bit := (at+i)%ringSize/64, (at+i)%64
		count := min(64-bit, uint32(len(payload))-i)
		j.present[word] |= mask(bit, count)
		i += count
	}
	j.arrived += len(payload)
	if after := timestamp + uint32(len(payload)); int32(after-j.end) > 0 {
		j.end = after
	}
}

// mask is count bits from bit upwards.
func mask(bit, count uint32) uint64 { return ^uint64(0) >> (64 - count) << bit }

// take fills frame with the next samplesPerFrame octets, silence where nothing came, and says how many did.
func (j *jitterBuffer) take(frame *[samplesPerFrame]byte, c codec.ID) (octets int) {
	if !j.running {
		fill(frame[:], c.Silence())
		return 0
	}
	if j.insert > 0 && (j.waited >= insertPatience || j.silent(c)) {
		j.insert, j.waited = j.insert-1, 0
		j.inserted++
		fill(frame[:], c.Silence())
		return 0
	}
	if j.skip > 0 && (j.waited >= j.skipPatience() || j.silent(c)) {
		j.skip, j.waited = j.skip-1, 0
		j.skipped++
		j.read(nil, 0)
	}
	j.waited++
	octets = j.read(frame[:], c.Silence())
	j.measure()
	return octets
}

// skipPatience is how many frames a skip may wait for silence: a high level costs nothing but delay.
func (j *jitterBuffer) skipPatience() int {
	if j.level() >= highestLevel {
		return insertPatience
	}
	return unhurriedPatience
}

// read advances by one frame; with a frame to fill it copies what came and puts silence elsewhere.
func (j *jitterBuffer) read(frame []byte, silence byte) (octets int) {
	at := j.next % ringSize
	if frame != nil {
		n := copy(frame, j.octets[at:])
		copy(frame[n:], j.octets[:])
	}
	for i := uint32(0); i < uint32(samplesPerFrame); {
		word, bit := (at+i)%ringSize/64, (at+i)%64
		count := min(64-bit, uint32(samplesPerFrame)-i)
		wanted := mask(bit, count)
		found := j.present[word] & wanted
		j.present[word] &^= wanted
		octets += bits.OnesCount64(found)
		if frame != nil && found != wanted {
			for k := range count {
				if found&(1<<(bit+k)) == 0 {
					frame[i+k] = silence
				}
			}
		}
		i += count
	}
	j.next += uint32(samplesPerFrame)
	return octets
}

// measure follows the level, and closes the window when it is over.
func (j *jitterBuffer) measure() {
	level := j.level()
	if level < -ringSize {
		// Nothing for a second: whatever comes next is a new beginning, wherever its timestamp is.
		j.reset()
		return
	}
	j.lowest = min(j.lowest, level)
	if j.frames++; j.frames < windowFrames {
		return
	}
	// A window in which the sender mostly paused says nothing about its clock.
	busy := j.arrived >= windowFrames*samplesPerFrame/2
	switch {
	case !busy:
	case j.lowest <= 0 && level < highestLevel && j.insert == 0:
		j.insert, j.skip, j.waited = 1, 0, 0
	case j.lowest >= targetLevel+int32(samplesPerFrame) && j.skip == 0:
		j.skip, j.insert, j.waited = int((j.lowest-targetLevel)/int32(samplesPerFrame)), 0, 0
	}
	j.newWindow()
}

// silent reports whether the next frame may be left out or moved unheard: nothing came for it, or nothing is said in it.
func (j *jitterBuffer) silent(c codec.ID) bool {
	const quiet = 100 // mean deviation of a 16-bit sample from zero: −50 dBFS
	var coded [samplesPerFrame]byte
	var pcm [samplesPerFrame]int16
	at := j.next % ringSize
	n := copy(coded[:], j.octets[at:])
	copy(coded[n:], j.octets[:])
	c.Decode(pcm[:], coded[:])
	sum := 0
	for i, s := range pcm {
		place := (at + uint32(i)) % ringSize
		if j.present[place/64]&(1<<(place%64)) != 0 {
			sum += max(int(s), -int(s))
		}
	}
	return sum < quiet*samplesPerFrame
}

// fill sets every octet of b. The doubling copy is several times faster than a loop over octets.
func fill(b []byte, octet byte) {
	if len(b) == 0 {
		return
	}
	b[0] = octet
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}
