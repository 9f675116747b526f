package media

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/detect"
)

// recorder carries the octets of one recording from a tick to a goroutine that writes them (see writers). The ring between them holds
// two seconds: the tick never waits for a disk. When the ring is full the tick drops frames, and as soon as half of it is
// free hands over how many octets are missing, which the goroutine writes as silence: the recording keeps its time.
type recorder struct {
	id       RecordID
	writer   io.Writer
	codec    codec.ID
	channels int
	max      int64 // samples; 0 is no limit
	silence  int64 // samples; 0 is no limit
	trim     bool

	// What both sides touch. The tick appends at head; the goroutine removes at tail. A gap lies at position gapAt and is
	// handed over while gap is 0.
	ring     []byte
	head     atomic.Uint64
	tail     atomic.Uint64
	gapAt    atomic.Uint64
	gap      atomic.Uint64
	stopped  atomic.Bool // nothing more comes
	failed   atomic.Bool // err is set
	finished atomic.Bool // nothing is written any more; err and wrote are final
	writers  *writers
	turn     atomic.Int32
	err      error
	wrote    uint64 // octets

	// What only the tick touches.
	reason   Reason // once it has ended
	paused   bool
	elapsed  int64 // samples, pauses not counted
	missing  uint64
	dropped  uint64
	woken    uint64 // head when the goroutine was last woken
	listens  bool   // the detectors run
	in, out  detect.VAD
	spoken   bool
	quiet    int64 // samples since somebody spoke
	lead     []byte
	leadFrom int // of the frames in lead, the oldest
	leadHeld int
}

const (
	// ringPerChannel is 2.048 s of G.711.
	ringPerChannel = 16384
	// wakeParts is how many times the goroutine is woken per ring: every half second, far below the 2 s of audio that a
	// killed process may lose.
	wakeParts = 4
	// leadFrames is how much before the first word Trim leaves: detectors notice a word after it began.
	leadFrames = 10
)

func newRecorder(id RecordID, c codec.ID, config RecordConfig) *recorder {
	r := &recorder{
		id:       id,
		writer:   config.Writer,
		codec:    c,
		channels: 1,
		max:      samples(max(0, config.MaxLength)),
		silence:  samples(max(0, config.Silence)),
		trim:     config.Trim,
	}
	if config.Channels == 2 {
		r.channels = 2
	}
	if !r.codec.Valid() {
		r.codec = codec.PCMU
	}
	r.listens = r.trim || r.silence > 0
	r.ring = make([]byte, ringPerChannel*r.channels)
	if r.trim {
		r.lead = make([]byte, leadFrames*samplesPerFrame*r.channels)
	}
	return r
}

// frame records one frame of what was heard and said, both in codec c, and returns a reason when that ends the recording.
func (r *recorder) frame(heard, said *[samplesPerFrame]byte, c codec.ID) Reason {
	if r.paused {
		return 0
	}
	if r.failed.Load() {
		return Failed
	}
	n := samplesPerFrame
	if r.max > 0 {
		n = int(max(0, min(int64(n), r.max-r.elapsed)))
	}
	r.elapsed += int64(n)
	voice := r.listens && r.listen(heard, said, c)
	if voice {
		r.quiet = 0
	} else {
		r.quiet += int64(n)
	}
	var mixed [2 * samplesPerFrame]byte
	r.keep(r.interleave(&mixed, heard[:n], said[:n], c), voice)
	switch {
	case r.max > 0 && r.elapsed >= r.max:
		return Max
	case r.silence > 0 && r.quiet >= r.silence:
		return Silence
	}
	return 0
}

func (r *recorder) listen(heard, said *[samplesPerFrame]byte, c codec.ID) bool {
	var pcm [samplesPerFrame]int16
	c.Decode(pcm[:], heard[:])
	voice := r.in.Frame(pcm[:])
	if r.channels == 2 {
		c.Decode(pcm[:], said[:])
		voice = r.out.Frame(pcm[:]) || voice
	}
	return voice
}

// interleave lays a frame out as it is written.
func (r *recorder) interleave(mixed *[2 * samplesPerFrame]byte, heard, said []byte, c codec.ID) []byte {
	b := mixed[:len(heard)*r.channels]
	if r.channels == 1 {
		copy(b, heard)
	} else {
		for i := range heard {
			b[2*i], b[2*i+1] = heard[i], said[i]
		}
	}
	if c != r.codec {
		codec.Transcode(b, b, c, r.codec)
	}
	return b
}

// keep appends a frame, or holds it back while only silence was heard.
func (r *recorder) keep(b []byte, voice bool) {
	if !r.trim || r.spoken {
		r.push(b)
		return
	}
	if voice {
		r.spoken = true
		size := samplesPerFrame * r.channels
		for range r.leadHeld {
			r.push(r.lead[r.leadFrom*size : (r.leadFrom+1)*size])
			r.leadFrom = (r.leadFrom + 1) % leadFrames
		}
		r.leadHeld = 0
		r.push(b)
		return
	}
	at := (r.leadFrom + r.leadHeld) % leadFrames
	copy(r.lead[at*samplesPerFrame*r.channels:], b)
	if r.leadHeld < leadFrames {
		r.leadHeld++
	} else {
		r.leadFrom = (r.leadFrom + 1) % leadFrames
	}
}

// lose accounts for frames that could not be recorded because the machine was away.
func (r *recorder) lose(frames int64) {
	if r.paused || r.reason != 0 {
		return
	}
	n := frames * int64(samplesPerFrame)
	r.elapsed += n
	r.quiet += n
	if !r.trim || r.spoken {
		r.missing += uint64(n) * uint64(r.channels)
	}
}

// push appends octets to the ring, or drops and counts them.
func (r *recorder) push(b []byte) {
	head, size := r.head.Load(), uint64(len(r.ring))
	free := size - (head - r.tail.Load())
	if r.missing > 0 && free < size/2 || !r.settle() || free < uint64(len(b)) {
		r.missing += uint64(len(b))
		r.dropped += uint64(len(b))
		return
	}
	at := head % size
	n := copy(r.ring[at:], b)
	copy(r.ring, b[n:])
	head += uint64(len(b))
	r.head.Store(head)
	if head-r.woken >= size/wakeParts && r.rouse() {
		r.woken = head
	}
}

// settle hands over how many octets are missing at head; false means that the last gap was not written yet.
func (r *recorder) settle() bool {
	if r.missing == 0 {
		return true
	}
	if r.gap.Load() != 0 {
		return false
	}
	r.gapAt.Store(r.head.Load())
	r.gap.Store(r.missing)
	r.missing = 0
	return true
}

// rouse asks for a goroutine to write what the ring holds; false means that more recordings ask than there is room for.
func (r *recorder) rouse() bool {
	for {
		switch r.turn.Load() {
		case turnNone:
			if !r.turn.CompareAndSwap(turnNone, turnQueued) {
				continue
			}
			if r.writers.offer(r) {
				return true
			}
			r.turn.Store(turnNone)
			return false
		case turnWriting:
			if r.turn.CompareAndSwap(turnWriting, turnAgain) {
				return true
			}
		default:
			return true
		}
	}
}

// discard ends a recording that no tick has seen.
func (r *recorder) discard() {
	r.stopped.Store(true)
	r.turn.Store(turnQueued)
	r.writers.ready <- r
}

// ended drives a recording that has a reason to its end and reports whether it is there. The tick asks until it is.
func (r *recorder) ended() bool {
	if r.finished.Load() {
		return true
	}
	if r.settle() {
		r.stopped.Store(true)
	}
	r.rouse()
	return false
}

// event is what to report once ended.
func (r *recorder) event(now time.Time) Event {
	e := Event{Kind: RecordDone, At: now, Record: r.id, Reason: r.reason, Err: r.err}
	if r.err != nil {
		e.Reason = Failed
	}
	written := int64(r.wrote) / int64(r.channels)
	e.Duration = duration(written)
	if r.listens {
		e.Trailing = duration(min(r.quiet, written))
	}
	return e
}

// write hands the ring to the Writer, and reports whether the recording has ended with that.
func (r *recorder) write() (last bool) {
	for {
		r.turn.Store(turnWriting)
		last = r.stopped.Load() // before the ring is emptied: nothing is added after
		for r.drain() {
		}
		if last {
			r.finished.Store(true)
			return true
		}
		if r.turn.CompareAndSwap(turnWriting, turnNone) {
			return false
		}
	}
}

// drain writes the next octets, up to a gap or the end of the ring, or the gap; false means that there was nothing.
func (r *recorder) drain() bool {
	head, tail := r.head.Load(), r.tail.Load()
	// Loaded after head: a gap is handed over before what follows it.
	gap := r.gap.Load()
	if gap > 0 {
		head = min(head, r.gapAt.Load())
	}
	size := uint64(len(r.ring))
	switch {
	case head > tail:
		at := tail % size
		n := min(head-tail, size-at)
		r.hand(r.ring[at : at+n])
		r.tail.Store(tail + n)
		return true
	case gap > 0:
		var silence [1024]byte
		fill(silence[:], r.codec.Silence())
		for left := gap; left > 0; {
			n := min(left, uint64(len(silence)))
			r.hand(silence[:n])
			left -= n
		}
		r.gap.Store(0)
		return true
	}
	return false
}

// hand gives octets to the Writer; after its first error they are thrown away.
func (r *recorder) hand(b []byte) {
	if r.err != nil {
		return
	}
	n, err := r.writer.Write(b)
	r.wrote += uint64(max(0, min(n, len(b))))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		r.err = err
		r.failed.Store(true)
	}
}
