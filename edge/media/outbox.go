package media

import "time"

// outbox tells the events of a leg or a room, from the tick to whoever reads, and never waits.
type outbox struct {
	events  chan Event
	pending []Event // that must arrive, and did not fit
	dropped uint64
}

// emit tells an event. One that must arrive waits when the channel is full; their number is bounded by the commands
// whoever does not read has given.
func (o *outbox) emit(e Event) {
	if len(o.pending) == 0 {
		select {
		case o.events <- e:
			return
		default:
		}
	}
	if e.Kind.mustArrive() {
		o.pending = append(o.pending, e)
		return
	}
	o.dropped++
}

// flush tells what waits, in order, as far as there is room.
func (o *outbox) flush() {
	told := 0
	for ; told < len(o.pending); told++ {
		select {
		case o.events <- o.pending[told]:
			continue
		default:
		}
		break
	}
	if told > 0 {
		o.pending = append(o.pending[:0], o.pending[told:]...)
	}
}

// done reports, after a Close at closedAt, whether everything is told or given up.
func (o *outbox) done(now, closedAt time.Time) bool {
	o.flush()
	if len(o.pending) > 0 && now.Sub(closedAt) < unreadLimit {
		return false
	}
	o.dropped += uint64(len(o.pending))
	o.pending = nil
	return true
}
