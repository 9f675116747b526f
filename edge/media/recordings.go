package media

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// recordings are those that run, or are being finished, on one leg or room.
type recordings struct {
	list    []*recorder
	dropped uint64 // octets that no recording could keep
}

// frame feeds every recording that has not ended; both frames are in codec c.
func (rs *recordings) frame(heard, said *[samplesPerFrame]byte, c codec.ID) {
	for _, r := range rs.list {
		if r.reason == 0 {
			r.reason = r.frame(heard, said, c)
		}
	}
}

// sweep tells the recordings that are over and reports whether there was one.
func (rs *recordings) sweep(o *outbox, now time.Time) (told bool) {
	left := rs.list[:0]
	for _, r := range rs.list {
		if r.reason != 0 && r.ended() {
			rs.dropped += r.dropped
			o.emit(r.event(now))
			told = true
			continue
		}
		left = append(left, r)
	}
	clear(rs.list[len(left):])
	rs.list = left
	return told
}

func (rs *recordings) stop(id RecordID) {
	for _, r := range rs.list {
		if r.id == id && r.reason == 0 {
			r.reason = Stopped
		}
	}
}

func (rs *recordings) stopAll() {
	for _, r := range rs.list {
		if r.reason == 0 {
			r.reason = Stopped
		}
	}
}

func (rs *recordings) pause(id RecordID, paused bool) {
	for _, r := range rs.list {
		if r.id == id {
			r.paused = paused
		}
	}
}

// lose accounts for frames that could not be recorded because the machine was away.
func (rs *recordings) lose(frames int64) {
	for _, r := range rs.list {
		r.lose(frames)
	}
}
