package media

import "time"

// A leg is in one shard at a time, and moves when it is to meet one that is in another. Whoever asks for it sends opMove to
// the old shard and from then on everything else to the new one. At its next tick the old shard gives the leg up, with
// its sockets, its jitter buffer and all that runs on it, and at its own next tick the new one drives it on, in the slot
// that comes next after the time of its next frame: no packet is left out or repeated, and the phase changes by less
// than two slots.
//
// A shard whose next command is for a leg that is still on its way takes no more commands until the leg is there, so that
// what was asked happens in the order asked.
//
// Why shards cannot wait for each other in a circle: the command that waits was sent after the opMove that it waits for, and
// every queue is taken in order. Whatever holds up that opMove was sent before it. The oldest of all commands waits for
// nothing.

// moveTo sends the leg to a shard; false means that leg or engine is closed. The caller holds mu, until it has sent what
// the leg is wanted there for.
func (l *Leg) moveTo(to *shard) bool {
	if l.shard == to {
		return true
	}
	if !l.hand(command{op: opMove, to: to}) {
		return false
	}
	l.shard = to
	return true
}

// handOver gives a leg to another shard. A closed one stays, and only its commands go there from now on.
func (s *shard) handOver(l *leg, to *shard) {
	if l.closed {
		l.home.Store(to)
		return
	}
	l.unbridge()
	l.leave()
	l.unwatched()
	s.remove(l)
	s.load.Add(-1)
	to.load.Add(1)
	l.home.Store(nil)
	to.arrivals <- l // which has room for every leg
}

// land takes over the legs that arrived.
func (s *shard) land(now time.Time) {
	for len(s.arrivals) > 0 {
		s.receive(<-s.arrivals, now)
	}
}

func (s *shard) receive(l *leg, now time.Time) {
	l.home.Store(s)
	l.shard = s
	start, first := now, int64(0) // as the tick will count them, when there was no leg here
	if s.counted {
		start, first = s.start, s.slot
	}
	slot := int64((l.firedAt.Add(Frame).Sub(start) + Slot - 1) / Slot)
	slot = max(first, min(slot, first+slotsPerFrame-1))
	s.put(l, int(slot%slotsPerFrame))
}

// here reports whether a command can be carried out: its legs are in this shard.
func (s *shard) here(c *command) bool {
	return (c.leg == nil || c.leg.home.Load() == s) && (c.peer == nil || c.peer.home.Load() == s)
}
