package media

import (
	"fmt"
	"sync/atomic"
)

// Room is where more than two legs hear each other. Legs join it with a role, from any shard, and leave it or are closed;
// the room stays until Close. Every method is safe for concurrent use and returns without waiting; what it asks for
// happens at one of the next ticks, in the order asked. After Close, and after the engine ended, methods do nothing.
//
// Nobody hears himself. Up to three legs that talk are all heard; of more, the three loudest are, and who is heard stays
// so for half a second at least and until another is 6 dB louder, so that no voice is chopped. Concealment,
// mute and gain come before the mix. Keys are told as Events of the leg that received them and never mixed.
//
// Why three: more voices at once are not understood by anyone, and the noise of every open microphone would add up.
//
// Why a room mixes in a slot of its own: its legs keep the phase they send in, so that nobody notices who joins or leaves,
// and the packets of 250 legs stay spread over the frame. A voice needs up to a frame longer than over a bridge.
type Room struct {
	engine *Engine
	shard  *shard
	events chan Event
	own    *room // the shard's; never touched from here, only handed over in commands
	closed atomic.Bool
	max    int32
	legs   atomic.Int32 // in it, or on their way
}

// DefaultMaxLegs is how many legs a room takes.
const DefaultMaxLegs = 250

// RoomConfig is what a new room needs; the zero value works.
type RoomConfig struct {
	// Near puts the room into the shard of a leg, so that this one needs not move to join.
	Near *Leg
	// MaxLegs bounds the room; 0 is DefaultMaxLegs.
	MaxLegs int
	// EventBuffer is the room of the event channel; 0 is 64.
	EventBuffer int
}

// Role says who hears a leg in a room. All hear the mix.
type Role uint8

// The roles.
const (
	Talk    Role = iota // heard by all
	Listen              // heard by nobody
	Whisper             // heard by one other leg alone: Seat.To
)

func (r Role) String() string {
	switch r {
	case Talk:
		return "talk"
	case Listen:
		return "listen"
	case Whisper:
		return "whisper"
	}
	return "unknown"
}

// Seat is how a leg takes part in a room. The zero value talks.
type Seat struct {
	Role Role
	// To is the leg that hears a whisper, beside the mix. While it is not in the room nobody does.
	To *Leg
}

func (s Seat) check() error {
	if s.Role > Whisper {
		return fmt.Errorf("media: no role %d", s.Role)
	}
	if (s.Role == Whisper) != (s.To != nil) {
		return fmt.Errorf("media: to whisper takes one to whisper to, and nothing else does")
	}
	return nil
}

// NewRoom opens an empty room. It returns ErrClosed after Run ended.
func (e *Engine) NewRoom(config RoomConfig) (*Room, error) {
	if config.EventBuffer <= 0 {
		config.EventBuffer = defaultEvents
	}
	if config.MaxLegs <= 0 {
		config.MaxLegs = DefaultMaxLegs
	}
	s := e.near(config.Near)
	r := &Room{engine: e, shard: s, max: int32(config.MaxLegs), events: make(chan Event, config.EventBuffer)}
	r.own = newRoom(r)
	if !e.send(s, command{op: opOpenRoom, room: r.own}) {
		return nil, ErrClosed
	}
	return r, nil
}

// Join lets a leg into the room, instead of the bridge or the room it was in. What it plays goes on and covers the room
// for as long as it lasts. It returns ErrRoomFull, ErrClosed, ErrOtherShard, or what is wrong with the seat.
func (r *Room) Join(l *Leg, s Seat) error {
	own, err := r.seat(l, s)
	if err != nil {
		return err
	}
	if r.legs.Add(1) > r.max {
		r.legs.Add(-1)
		return ErrRoomFull
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.moveTo(r.shard) || !l.hand(command{op: opJoin, room: r.own, seat: own}) {
		r.legs.Add(-1)
		return ErrClosed
	}
	return nil
}

// Change gives a leg of the room another seat; nothing happens when it is not in it. It returns ErrClosed, or what is wrong
// with the seat.
func (r *Room) Change(l *Leg, s Seat) error {
	own, err := r.seat(l, s)
	if err != nil {
		return err
	}
	if !l.send(command{op: opChange, room: r.own, seat: own}) {
		return ErrClosed
	}
	return nil
}

// seat checks a seat and builds the shard's.
func (r *Room) seat(l *Leg, s Seat) (*seat, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if l.engine != r.engine || s.To != nil && s.To.engine != r.engine {
		return nil, ErrOtherShard
	}
	if s.To == l {
		return nil, fmt.Errorf("media: a leg cannot whisper to itself")
	}
	if r.closed.Load() {
		return nil, ErrClosed
	}
	own := &seat{room: r.own, leg: l.own, role: s.Role}
	if s.To != nil {
		own.target = s.To.own
	}
	return own, nil
}

// Leave takes a leg out of this room; nothing happens when it is not in it.
func (r *Room) Leave(l *Leg) {
	l.send(command{op: opLeave, room: r.own})
}

// Legs is how many legs are in the room, or on their way into it.
func (r *Room) Legs() int { return int(r.legs.Load()) }

// Events is what happens in the room: PlayDone and RecordDone. It is closed as that of a Leg is, and as lossy.
func (r *Room) Events() <-chan Event { return r.events }

// Play replaces the prompts that everybody in the room hears, over the voices. It ends with PlayDone, an event of the
// room. It returns 0 when the room is closed.
func (r *Room) Play(config PlayConfig) PlayID {
	id := PlayID(r.engine.ids.Add(1))
	if !r.send(command{op: opPlay, player: newPlayer(id, config)}) {
		return 0
	}
	return id
}

// StopPlay ends a Play; nothing happens when another one, or none, is playing.
func (r *Room) StopPlay(id PlayID) {
	r.send(command{op: opStopPlay, id: uint64(id)})
}

// Record starts a recording of what somebody hears who says nothing: one channel of PCMU, whatever config says of
// channels. Time passes in it while the room is empty too. It ends with RecordDone, an event of the room. It returns 0
// when the room is closed.
func (r *Room) Record(config RecordConfig) RecordID {
	config.Channels = 1
	id := RecordID(r.engine.ids.Add(1))
	own := newRecorder(id, roomCodec, config)
	r.engine.writers.add(own)
	if !r.send(command{op: opRecord, recorder: own}) {
		own.discard()
		return 0
	}
	return id
}

// StopRecord ends a recording; what it holds is still written.
func (r *Room) StopRecord(id RecordID) {
	r.send(command{op: opStopRecord, id: uint64(id)})
}

// PauseRecord leaves out what happens until it is called again with paused false.
func (r *Room) PauseRecord(id RecordID, paused bool) {
	r.send(command{op: opPauseRecord, id: uint64(id), paused: paused})
}

// Close ends what plays and records and leaves the legs alone, in silence. It may be called twice.
func (r *Room) Close() {
	if !r.closed.Swap(true) {
		r.engine.send(r.shard, command{op: opClose, room: r.own})
	}
}

func (r *Room) send(c command) bool {
	if r.closed.Load() {
		return false
	}
	c.room = r.own
	return r.engine.send(r.shard, c)
}
