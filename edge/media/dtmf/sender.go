package dtmf

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Key press and pause lengths that a Sender accepts.
const (
	// MinDuration is what every receiver still takes for a key (ITU-T Q.24: 40 ms).
	MinDuration = 40 * time.Millisecond
	// MaxDuration keeps a press within one segment (65,535 samples, RFC 4733 §2.5.1.3).
	MaxDuration = 8 * time.Second
	// MinGap leaves room for the two repeats of the final packet before the next key.
	MinGap = 40 * time.Millisecond
	// MaxGap is the longest pause between keys.
	MaxGap = 8 * time.Second
)

// finalPackets is how often the packet with the end bit is sent, RFC 4733 §2.5.1.4.
const finalPackets = 3

// volume is the level of each event in dBm0 without its sign; 10 is what phones send.
const volume = 10

// State says what one tick of a Sender is for.
type State uint8

const (
	// Done: nothing is left; the zero Sender is done. The tick carries audio.
	Done State = iota
	// Sending: the packet goes out in place of this tick's audio.
	Sending
	// Gap: no key is down and no packet is due; the tick carries silence.
	Gap
)

// Packet is one telephone-event packet, to be sent with the stream's next sequence number.
type Packet struct {
	// Payload is the four octets of RFC 4733 §2.3.
	Payload [4]byte
	// Offset is the RTP timestamp less the timestamp of the Sender's first tick, in samples at 8 kHz: the same in all
	// packets of a key press.
	Offset uint32
	// Marker is the RTP marker bit: set on the first packet of a key press.
	Marker bool
	// Digit is the key. First packets (Marker) are where a bridge or a log counts it.
	Digit byte
}

// Sender walks through a string of keys, one call of Next for each 20 ms. The zero value is done. It is a plain value:
// it can be copied, allocates nothing, and is not safe for concurrent use.
type Sender struct {
	keys       string
	press, gap uint32 // in ticks

	offset uint32 // samples since the first tick
	start  uint32 // offset at which the current key went down
	at     uint32 // ticks since then
}

// NewSender prepares to send keys as Valid allows them, each held for duration and followed by gap, both rounded up to
// whole ticks of 20 ms. It refuses keys that are not valid and lengths outside MinDuration..MaxDuration and
// MinGap..MaxGap. A gap follows the last key too, so that a second Sender may start at once.
func NewSender(keys string, duration, gap time.Duration) (Sender, error) {
	if err := Valid(keys); err != nil {
		return Sender{}, err
	}
	if duration < MinDuration || duration > MaxDuration {
		return Sender{}, fmt.Errorf("duration_ms must be %d–%d, is %d",
			MinDuration.Milliseconds(), MaxDuration.Milliseconds(), duration.Milliseconds())
	}
	if gap < MinGap || gap > MaxGap {
		return Sender{}, fmt.Errorf("gap_ms must be %d–%d, is %d",
			MinGap.Milliseconds(), MaxGap.Milliseconds(), gap.Milliseconds())
	}
	return Sender{keys: keys, press: ticks(duration), gap: ticks(gap)}, nil
}

// Next is called once per 20 ms tick and says what this tick is for. The packet counts only when the state is Sending.
func (s *Sender) Next() (Packet, State) {
	if s.keys == "" {
		return Packet{}, Done
	}
	key := s.keys[0]
	length, isKey := s.lengthOf(key)
	if s.at == 0 {
		s.start = s.offset
	}
	at := s.at

	s.offset += tickSamples
	if s.at++; s.at == length {
		s.keys, s.at = s.keys[1:], 0
	}
	if !isKey || at >= s.press+finalPackets-1 {
		return Packet{}, Gap
	}
	return s.packet(key, at), Sending
}

// lengthOf is how many ticks a key with its gap, or a pause, takes.
func (s *Sender) lengthOf(key byte) (length uint32, isKey bool) {
	switch key {
	case shortPause:
		return ticks(shortPauseLength), false
	case longPause:
		return ticks(longPauseLength), false
	}
	return s.press + s.gap, true
}

// packet is what goes out at ticks after the key went down. The final packet ends the press; its repeats say the same.
func (s *Sender) packet(key byte, at uint32) Packet {
	code, _ := Event(key)
	p := Packet{Offset: s.start, Marker: at == 0, Digit: key}
	p.Payload[0] = code
	p.Payload[1] = volume
	if at+1 >= s.press {
		p.Payload[1] |= endBit
	}
	binary.BigEndian.PutUint16(p.Payload[2:], uint16(min(at+1, s.press)*tickSamples))
	return p
}

func ticks(d time.Duration) uint32 {
	const tick = tickMs * time.Millisecond
	return uint32((d + tick - 1) / tick)
}
