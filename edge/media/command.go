package media

import "time"

// op says what a command asks for.
type op uint8

const (
	opAdd op = iota
	opSet
	opPlay
	opStopPlay
	opDigits
	opRecord
	opStopRecord
	opPauseRecord
	opBridge
	opUnbridge
	opMute
	opGain
	opDetect
	opAnswered
	opExpireDetect
	opStopDetect
	opMove
	opOpenRoom
	opJoin
	opChange
	opLeave
	opWatch
	opUnwatch
	opClose
)

// command is one thing asked of a leg, or of a room when leg is nil, as a value; op says which fields count.
type command struct {
	op       op
	leg      *leg
	peer     *leg
	room     *room
	seat     *seat
	to       *shard
	params   Params
	player   *player
	recorder *recorder
	digits   sending
	id       uint64
	detector detector
	paused   bool
	muted    bool
	way      Direction
	role     Role
	db       float64
}

// takeCommands carries out what came, in the order it came.
func (s *shard) takeCommands(now time.Time) {
	for range cap(s.commands) {
		if !s.holds {
			select {
			case s.held = <-s.commands:
				s.holds = true
			default:
				return
			}
		}
		if !s.applyHeld(now) {
			return
		}
	}
}

// applyHeld carries out the command in hand; false means that it has to wait for its leg.
func (s *shard) applyHeld(now time.Time) bool {
	c := s.held
	switch {
	case s.here(&c):
		s.apply(c, now)
	case s.ended:
		s.discard(c)
	default:
		return false
	}
	s.held, s.holds = command{}, false
	return true
}

func (s *shard) apply(c command, now time.Time) {
	switch {
	case c.leg == nil:
		s.applyRoom(c, now)
	case c.leg.closed:
		s.applyClosed(c)
	default:
		s.applyLeg(c, now)
	}
}

// applyClosed takes a command that Close has overtaken on its way.
func (s *shard) applyClosed(c command) {
	switch c.op {
	case opRecord:
		c.recorder.discard()
	case opJoin:
		c.room.api.legs.Add(-1)
	case opMove:
		s.handOver(c.leg, c.to)
	}
}

func (s *shard) applyRoom(c command, now time.Time) {
	r := c.room
	if r.closed {
		if c.op == opRecord {
			c.recorder.discard()
		}
		return
	}
	switch c.op {
	case opOpenRoom:
		s.openRoom(r)
	case opPlay:
		r.play(c.player, now)
	case opStopPlay:
		if r.player != nil && r.player.id == PlayID(c.id) {
			r.endPlay(Stopped, now)
		}
	case opRecord:
		r.recordings.list = append(r.recordings.list, c.recorder)
	case opStopRecord:
		r.recordings.stop(RecordID(c.id))
	case opPauseRecord:
		r.recordings.pause(RecordID(c.id), c.paused)
	case opClose:
		s.closeRoom(r, now)
	}
}

func (s *shard) applyLeg(c command, now time.Time) {
	l := c.leg
	switch c.op {
	case opAdd:
		s.add(l)
	case opSet:
		l.configure(c.params, now)
	case opPlay:
		l.play(c.player, now)
	case opStopPlay:
		l.stopPlay(PlayID(c.id), now)
	case opDigits:
		l.sendDigits(c.digits, now)
	case opRecord:
		l.recordings.list = append(l.recordings.list, c.recorder)
	case opStopRecord:
		l.recordings.stop(RecordID(c.id))
	case opPauseRecord:
		l.recordings.pause(RecordID(c.id), c.paused)
	case opBridge:
		if !c.peer.closed {
			bridge(l, c.peer)
		}
	case opUnbridge:
		l.unbridge()
	case opMute:
		l.mute(c.way, c.muted)
	case opGain:
		l.gain(c.way, c.db)
	case opDetect:
		l.addDetector(c.detector)
	case opAnswered:
		l.answer()
	case opExpireDetect:
		l.expireDetector(DetectID(c.id), now)
	case opStopDetect:
		l.stopDetector(DetectID(c.id))
	case opMove:
		if !s.ended {
			s.handOver(l, c.to)
		}
	case opJoin:
		c.room.join(l, c.seat)
	case opChange:
		c.room.change(l, c.seat)
	case opLeave:
		if l.seat != nil && l.seat.room == c.room {
			l.leave()
		}
	case opWatch:
		if !c.peer.closed {
			l.watch(c.peer, c.role)
		}
	case opUnwatch:
		l.unwatch()
	case opClose:
		s.close(l, now)
	}
}

// discardCommands ends what was asked for too late. No command can come any more.
func (s *shard) discardCommands() {
	for len(s.commands) > 0 {
		s.discard(<-s.commands)
	}
}

func (s *shard) discard(c command) {
	switch c.op {
	case opAdd:
		c.leg.discard()
		s.load.Add(-1)
	case opRecord:
		c.recorder.discard()
	case opOpenRoom:
		close(c.room.told.events)
	}
}
