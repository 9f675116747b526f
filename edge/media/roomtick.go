package media

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// room is a Room's state in its shard; only a tick touches it.
//
// Once per frame it takes what each of its legs has said since, and makes one mix for all who are not in it. Each leg
// fetches its frame when it fires, which is as often, so nothing is heard twice or left out.
type room struct {
	api        *Room
	slot       int
	closed     bool
	closedAt   time.Time
	told       outbox
	recordings recordings
	player     *player
	seats      []*seat

	all     sum      // of the voices and what the room plays
	mix     pcmFrame // the same, clipped
	silent  bool     // nothing is in the mix
	coded   [codec.PCMA + 1][samplesPerFrame]byte
	isCoded [codec.PCMA + 1]bool
}

// seat is a leg's place in a room.
type seat struct {
	room   *room
	leg    *leg
	role   Role
	target *leg  // of a whisper; it may be anywhere
	into   *seat // target's, while it is in the room

	said  pcmFrame // what the leg said, if ready, for the room to take
	ready bool

	heard    bool  // it is among the speakers
	since    int   // frames since it came to be, or ceased to be
	loudness int64 // mean square; falls slowly

	mix    pcmFrame // what this leg alone hears, if own
	own    bool
	whisps int // whispers into it
}

const (
	// roomCodec is that of a room's recordings and prompts.
	roomCodec = codec.PCMU

	maxSpeakers = 3
	// louder is how many times the power of a speaker somebody else needs to take its place: 6 dB.
	louder = 4
	// fading is the part of its loudness that a voice keeps through a frame of silence: 7/8, or 29 dB a second. A pause
	// between words does not cost a speaker its place, one between sentences may.
	fading = 8
	// shortestTurn is how many frames a speaker stays, unless it is quiet: half a second.
	shortestTurn = 25
	// quietSpeaker (−50 dBFS) is a mean square that nobody speaks with.
	quietSpeaker = 10_700
)

func newRoom(api *Room) *room {
	return &room{api: api, told: outbox{events: api.events}, silent: true}
}

// fire is one frame of the room's life.
func (r *room) fire(now time.Time) {
	r.choose()
	r.blend(now)
	if len(r.recordings.list) > 0 {
		frame := r.encoded(roomCodec)
		r.recordings.frame(frame, frame, roomCodec)
		r.recordings.sweep(&r.told, now)
	}
	r.told.flush()
}

// choose decides who is heard: whoever talks, and of more than three the loudest.
func (r *room) choose() {
	talkers, speakers := 0, 0
	var loudest, weakest *seat // who is not heard, and who is
	for _, s := range r.seats {
		s.own = false
		s.since++
		if s.role != Talk || s.leg.in.muted {
			s.turn(false)
			s.loudness = 0
			continue
		}
		talkers++
		s.measure()
		switch {
		case s.heard:
			speakers++
			if s.yields() && (weakest == nil || s.loudness < weakest.loudness) {
				weakest = s
			}
		case loudest == nil || s.loudness > loudest.loudness:
			loudest = s
		}
	}
	switch {
	case loudest == nil:
	case talkers <= maxSpeakers:
		for _, s := range r.seats {
			s.turn(s.role == Talk && !s.leg.in.muted)
		}
	case speakers < maxSpeakers:
		loudest.turn(true) // one place a frame
	case weakest != nil && loudest.loudness > louder*weakest.loudness:
		weakest.turn(false)
		loudest.turn(true)
	}
}

func (s *seat) turn(heard bool) {
	if s.heard != heard {
		s.heard, s.since = heard, 0
	}
}

// yields reports whether a speaker has had its turn.
func (s *seat) yields() bool { return s.since >= shortestTurn || s.loudness < quietSpeaker }

func (s *seat) measure() {
	s.loudness -= (s.loudness + fading - 1) / fading
	if s.ready {
		s.loudness = max(s.loudness, s.said.meanSquare())
	}
}

// blend makes the mix, and the few that are made for one leg alone.
func (r *room) blend(now time.Time) {
	r.silent, r.isCoded = true, [codec.PCMA + 1]bool{}
	clear(r.all[:])
	for _, s := range r.seats {
		if s.speaks() {
			r.all.add(&s.said)
			r.silent = false
		}
	}
	r.addPrompt(now)
	r.all.put(&r.mix)
	for _, s := range r.seats {
		if s.whisps > 0 || s.speaks() {
			r.blendFor(s)
		}
	}
	for _, s := range r.seats {
		s.ready = false
	}
}

// speaks reports whether a seat is part of the mix in this frame.
func (s *seat) speaks() bool { return s.heard && s.ready }

// addPrompt adds what the room plays.
func (r *room) addPrompt(now time.Time) {
	if r.player == nil {
		return
	}
	var octets [samplesPerFrame]byte
	var pcm pcmFrame
	r.player.take(octets[:], roomCodec)
	roomCodec.Decode(pcm[:], octets[:])
	r.all.add(&pcm)
	r.silent = false
	if r.player.done() {
		r.endPlay(Ended, now)
	}
}

// blendFor makes what one leg alone hears: the mix without itself, and what is whispered into it.
func (r *room) blendFor(s *seat) {
	all := r.all
	if s.speaks() {
		all.subtract(&s.said)
	}
	for _, other := range r.seats {
		if s.whisps > 0 && other.into == s && other.ready {
			all.add(&other.said)
		}
	}
	all.put(&s.mix)
	s.own = true
}

// encoded is the mix in a codec, made when it is first asked for.
func (r *room) encoded(c codec.ID) *[samplesPerFrame]byte {
	frame := &r.coded[c]
	if !r.isCoded[c] {
		r.isCoded[c] = true
		if r.silent {
			fill(frame[:], c.Silence())
		} else {
			c.Encode(frame[:], r.mix[:])
		}
	}
	return frame
}

// hear fills a frame with what the leg is to hear of the room.
func (s *seat) hear(frame *[samplesPerFrame]byte, c codec.ID) {
	if s.own {
		c.Encode(frame[:], s.mix[:])
		return
	}
	*frame = *s.room.encoded(c)
}

// join seats a leg, after taking it out of the bridge or the room it was in. A seat in this room that it had is changed,
// and the place that was counted for the new one given back.
func (r *room) join(l *leg, s *seat) {
	switch {
	case r.closed:
		r.api.legs.Add(-1)
		return
	case l.seat != nil && l.seat.room == r:
		r.api.legs.Add(-1)
		r.change(l, s)
		return
	}
	l.unbridge()
	l.leave()
	l.unwatch()
	l.good = l.silent
	l.seat = s
	r.seats = append(r.seats, s)
	r.link()
}

func (r *room) change(l *leg, s *seat) {
	if old := l.seat; old != nil && old.room == r {
		old.role, old.target = s.role, s.target
		r.link()
	}
}

// leave takes the leg out of its room, if it is in one.
func (l *leg) leave() {
	s := l.seat
	if s == nil {
		return
	}
	r := s.room
	l.seat = nil
	for i := range r.seats {
		if r.seats[i] == s {
			last := len(r.seats) - 1
			r.seats[i], r.seats[last] = r.seats[last], nil
			r.seats = r.seats[:last]
			break
		}
	}
	r.api.legs.Add(-1)
	r.link()
}

// link finds for each whisper the seat that hears it.
func (r *room) link() {
	for _, s := range r.seats {
		s.into, s.whisps = nil, 0
	}
	for _, s := range r.seats {
		if s.role != Whisper {
			continue
		}
		for _, other := range r.seats {
			if other.leg == s.target {
				s.into = other
				other.whisps++
				break
			}
		}
	}
}

func (r *room) play(p *player, now time.Time) {
	if r.player != nil {
		r.endPlay(Replaced, now)
	}
	r.player = p
	if p.done() {
		r.endPlay(Ended, now)
	}
}

func (r *room) endPlay(reason Reason, now time.Time) {
	r.told.emit(r.player.event(reason, now))
	r.player = nil
}

// close stops everything and lets the legs go. What is left is told by finish.
func (r *room) close(now time.Time) {
	r.closed, r.closedAt = true, now
	for len(r.seats) > 0 {
		r.seats[len(r.seats)-1].leg.leave()
	}
	if r.player != nil {
		r.endPlay(Stopped, now)
	}
	r.recordings.stopAll()
}

// finish reports whether a closed room is over: its recordings written, its events told or given up, its channel closed.
func (r *room) finish(now time.Time) bool {
	if r.recordings.sweep(&r.told, now) {
		r.closedAt = now // the reader has had no time to read this one
	}
	if len(r.recordings.list) > 0 || !r.told.done(now, r.closedAt) {
		return false
	}
	close(r.told.events)
	return true
}
