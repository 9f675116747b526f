package media

import "time"

// source counts what one synchronisation source sent us, as RFC 3550 appendix A does. The zero value waits for a packet.
type source struct {
	ssrc      uint32
	known     bool
	base      uint32 // extended number of the first packet
	highest   uint32 // extended number of the newest packet
	odd       uint32 // sequence number that would confirm a jump; over 16 bits: none
	received  uint64 // without duplicates
	seen      uint64 // bit n: highest−n came
	transit   int64  // relative transit time of the last packet, in nanoseconds
	hasTime   bool   // transit is of a packet
	jitter    int64  // nanoseconds, times 16
	lastStamp uint32

	expectedBefore, receivedBefore uint64 // at the last report

	senderReport   uint32 // middle 32 bits of the NTP time in the last SR
	senderReportAt time.Time
}

const (
	// RFC 3550 A.1: how far the sequence may run ahead, and back, without being a new beginning.
	maxDropout  = 3000
	maxMisorder = 100

	noOdd = 1 << 16
)

// order says where a packet stands in its stream.
type order uint8

const (
	newest    order = iota
	reordered       // behind the newest, not seen before
	duplicate
	astray    // far from everything before: to be dropped
	restarted // as astray, and the one before it too: the sender began a new sequence
)

// begin starts counting at the first packet of a source.
func (s *source) begin(ssrc uint32, sequence uint16) {
	*s = source{ssrc: ssrc, known: true}
	s.beginSequence(sequence)
}

func (s *source) beginSequence(sequence uint16) {
	// One cycle up, so that packets sent before the first that came do not fall below zero.
	s.base = 1<<16 | uint32(sequence)
	s.highest, s.seen, s.odd = s.base, 1, noOdd
	s.received = 1
	s.expectedBefore, s.receivedBefore = 0, 0
	s.hasTime = false
}

// count places a packet that is not the source's first.
func (s *source) count(sequence uint16) order {
	ahead := sequence - uint16(s.highest)
	switch {
	case ahead == 0:
		return duplicate
	case ahead < maxDropout:
		s.highest += uint32(ahead)
		s.seen = s.seen<<min(ahead, 64) | 1
		s.received++
		s.odd = noOdd
		return newest
	case -ahead <= maxMisorder:
		behind := -ahead
		if behind >= 64 || s.seen&(1<<behind) != 0 {
			return duplicate
		}
		s.seen |= 1 << behind
		s.received++
		s.base = min(s.base, s.highest-uint32(behind))
		return reordered
	case uint32(sequence) == s.odd:
		return restarted
	}
	s.odd = uint32(sequence + 1)
	return astray
}

func (s *source) expected() uint64 {
	if !s.known {
		return 0
	}
	return uint64(s.highest-s.base) + 1
}

func (s *source) lost() uint64 {
	if expected := s.expected(); expected > s.received {
		return expected - s.received
	}
	return 0
}

// arrive takes the arrival of an audio packet into the jitter (RFC 3550 A.8). Packets that share a timestamp say nothing.
func (s *source) arrive(timestamp uint32, at time.Time) {
	if s.hasTime && timestamp == s.lastStamp {
		return
	}
	const tick = int64(time.Second / SampleRate)
	now := at.UnixNano()
	if s.hasTime {
		// The difference of two transit times, so that the 32-bit clock may wrap.
		d := now - s.transit - int64(int32(timestamp-s.lastStamp))*tick
		// A pause in which the sender's clock stood still, or a step of the wall clock, is not jitter.
		if d > -int64(time.Second) && d < int64(time.Second) {
			s.jitter += max(d, -d) - (s.jitter+8)/16
		}
	}
	s.transit, s.lastStamp, s.hasTime = now, timestamp, true
}

func (s *source) interarrivalJitter() time.Duration { return time.Duration(s.jitter / 16) }

// reportLoss is the fraction lost since the last report, in 256ths (RFC 3550 A.3).
func (s *source) reportLoss() uint8 {
	expected, received := s.expected()-s.expectedBefore, s.received-s.receivedBefore
	s.expectedBefore, s.receivedBefore = s.expected(), s.received
	if expected == 0 || received >= expected {
		return 0
	}
	return uint8(min(255, (expected-received)*256/expected))
}
