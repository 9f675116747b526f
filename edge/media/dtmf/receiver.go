package dtmf

import "encoding/binary"

// Receiver turns the telephone-event packets of one RTP stream into key presses. The zero value is ready; keep one per
// stream and Reset it when the SSRC changes. It is not safe for concurrent use and allocates nothing.
type Receiver struct {
	timestamp uint32 // of the event's first segment or, when it is longer than 65,535 samples, its latest
	earlier   uint32 // samples in the segments before that one
	duration  uint32 // of the latest segment
	idleTicks uint8
	digit     byte
	seen      bool // timestamp is of a packet that came
	down      bool // the key is still held

	finished         bool // finishedDigit waits for Ended
	finishedDigit    byte
	finishedDuration uint32
}

const (
	// reordered is how far back in samples (5 s) a timestamp is an old event's late packet; anything further back is a
	// sender that started its clock anew.
	reordered = 5 * 8000

	// maxSegment is the longest duration one segment can tell, RFC 4733 §2.5.1.3.
	maxSegment = 0xFFFF

	// idleLimit is 100 ms: no update for so long means that all three final packets were lost.
	idleLimit = 100 / tickMs

	payloadSize = 4
	endBit      = 0x80
)

// Packet takes the payload of one packet with its RTP timestamp and marker bit, in order of arrival, and reports the
// digit at the first packet of each key press that arrives, be that the start, an update or an end. Repeats, late
// packets, events that are not keys and short payloads report nothing.
//
// Events are told apart by timestamp alone (RFC 4733 §2.5.1.2), so a lost marker or end does no harm.
func (r *Receiver) Packet(payload []byte, timestamp uint32, marker bool) (digit byte, ok bool) {
	if len(payload) < payloadSize {
		return 0, false
	}
	digit, ok = Digit(payload[0])
	if !ok {
		return 0, false
	}
	end := payload[1]&endBit != 0
	duration := uint32(binary.BigEndian.Uint16(payload[2:]))

	behind := r.timestamp - timestamp
	switch {
	case !r.seen:
	case behind == 0:
		r.update(duration, end)
		return 0, false
	case behind <= reordered:
		return 0, false
	case r.continues(digit, timestamp, marker):
		r.earlier += maxSegment
		r.timestamp, r.duration = timestamp, 0
		r.update(duration, end)
		return 0, false
	}

	r.finish()
	r.timestamp, r.earlier, r.duration = timestamp, 0, 0
	r.digit, r.seen, r.down = digit, true, true
	r.update(duration, end)
	return digit, true
}

// Tick tells the receiver that 20 ms passed. A key whose updates have stopped for 100 ms counts as released, with the
// duration last told.
func (r *Receiver) Tick() {
	if !r.down {
		return
	}
	if r.idleTicks++; r.idleTicks >= idleLimit {
		r.finish()
	}
}

// Ended reports each key press once after its release: by the end bit, by the next key, or by silence when the caller
// ticks. Ask after every Packet and Tick, after taking the press: when the packet of the next key ends the one before, it
// reports both. A release not asked for is replaced by the next.
func (r *Receiver) Ended() (digit byte, durationSamples uint32, ok bool) {
	if !r.finished {
		return 0, 0, false
	}
	r.finished = false
	return r.finishedDigit, r.finishedDuration, true
}

// Down reports whether a key is held now: what to mute in a recording.
func (r *Receiver) Down() bool { return r.down }

// Reset forgets the stream, as after a change of SSRC.
func (r *Receiver) Reset() { *r = Receiver{} }

func (r *Receiver) update(duration uint32, end bool) {
	if !r.down {
		return
	}
	r.idleTicks = 0
	r.duration = max(r.duration, duration)
	if end {
		r.finish()
	}
}

// continues recognises the next segment of a key held for more than 8 s: same event, no marker, and a timestamp that
// follows on the full segment before it (RFC 4733 §2.5.1.3).
func (r *Receiver) continues(digit byte, timestamp uint32, marker bool) bool {
	return r.down && !marker && digit == r.digit && timestamp-r.timestamp == maxSegment
}

func (r *Receiver) finish() {
	if !r.down {
		return
	}
	r.down, r.idleTicks = false, 0
	r.finished, r.finishedDigit, r.finishedDuration = true, r.digit, r.earlier+r.duration
}
