package media

import (
	"encoding/binary"

	"github.com/hookswitch/hookswitch/edge/media/dtmf"
)

// sending is one SendDigits.
type sending struct {
	sender dtmf.Sender
	err    error  // the request made no sense
	began  bool   // base is set
	base   uint32 // timestamp of its first tick
}

// telephoneEvent is one RFC 4733 packet, before its sequence number.
type telephoneEvent struct {
	payload [4]byte
	stamp   uint32
	marker  bool
}

// next says what this tick, whose timestamp is stamp, is for.
func (s *sending) next(stamp uint32) (event telephoneEvent, state dtmf.State) {
	if !s.began {
		s.began, s.base = true, stamp
	}
	p, state := s.sender.Next()
	return telephoneEvent{payload: p.Payload, stamp: s.base + p.Offset, marker: p.Marker}, state
}

// relay passes keys that a bridged leg received on to this leg's peer, while they are still held: with our timestamps,
// and durations by our clock, since the other side's packets may come at any distance.
type relay struct {
	keys  [relayKeys]relayedKey
	first int // the key being sent, or the next
	count int

	active bool
	start  uint32 // timestamp of the key's first packet
	told   uint32 // samples told so far
	finals int    // final packets left
}

type relayedKey struct {
	digit byte
	over  bool   // released
	held  uint32 // samples, once released
}

const (
	relayKeys = 16
	// shortestPress is what every receiver still takes for a key (dtmf.MinDuration).
	shortestPress = uint32(2 * samplesPerFrame)
	// longestPress ends a key that is held longer than one RFC 4733 segment can tell (8 s).
	longestPress = uint32(0xFFFF/samplesPerFrame) * uint32(samplesPerFrame)

	// RFC 4733 §2.3 and §2.5.1.4.
	eventEnd         = 0x80
	eventVolume      = 10
	eventFinals      = 3
	eventPayloadSize = 4
)

// press queues a key; when the queue is full it is dropped, which takes 16 keys in less than a second.
func (r *relay) press(digit byte) {
	if r.count > 0 {
		r.keys[(r.first+r.count-1)%relayKeys].over = true // one finger
	}
	if r.count < relayKeys {
		r.keys[(r.first+r.count)%relayKeys] = relayedKey{digit: digit}
		r.count++
	}
}

// release ends the key pressed last.
func (r *relay) release(digit byte, held uint32) {
	if r.count == 0 {
		return
	}
	key := &r.keys[(r.first+r.count-1)%relayKeys]
	if key.digit == digit && !key.over {
		key.over, key.held = true, held
	}
}

// next is the packet this tick sends in place of audio, if any.
func (r *relay) next(stamp uint32) (event telephoneEvent, ok bool) {
	if r.count == 0 {
		return event, false
	}
	key := &r.keys[r.first]
	first := !r.active
	if first {
		*r = relay{keys: r.keys, first: r.first, count: r.count, active: true, start: stamp}
	}
	if r.finals == 0 {
		r.told += uint32(samplesPerFrame)
		if key.over && r.told >= max(shortestPress, key.held) || r.told >= longestPress {
			r.finals = eventFinals
		}
	}
	event = telephoneEvent{stamp: r.start, marker: first}
	event.payload[0], _ = dtmf.Event(key.digit)
	event.payload[1] = eventVolume
	binary.BigEndian.PutUint16(event.payload[2:], uint16(r.told))
	if r.finals > 0 {
		event.payload[1] |= eventEnd
		if r.finals--; r.finals == 0 {
			r.active = false
			r.first, r.count = (r.first+1)%relayKeys, r.count-1
		}
	}
	return event, true
}

// drop forgets every key, as when the bridge ends: the one being sent is released.
func (r *relay) drop() {
	if !r.active {
		*r = relay{}
		return
	}
	r.count = 1
	key := &r.keys[r.first]
	key.over = true
}
