package session

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/webhooks"
)

// rooms are the conferences on this edge. The zero value is none. Legs of other edges take part over links: see farLeg.
//
// Locks are taken in this order: of rooms, of a room, of a session.
type rooms struct {
	mu   sync.Mutex // guards live
	live map[roomKey]*room
}

// roomKey names a conference.
type roomKey struct {
	account webhooks.AccountID
	name    string
}

// room is one conference, from the first who comes to the last who leaves. Whoever changes it does so on his own
// goroutine, under its lock, and emits the events of all whom the change concerns: so that they are told in one order.
//
// Why a lock and not a goroutine that owns it: nothing that is done under it waits for anything, and what a leg does on
// entering or leaving is done when the function returns, with no answer to wait for while the leg's call ends.
type room struct {
	roomKey
	calls *Calls
	id    webhooks.ConferenceID
	audio *media.Room
	ended chan struct{}
	first *Session // who came first, always a leg of this edge: its application is told of the room

	mu       sync.Mutex     // guards what follows
	here     []*participant // in the order they came
	begun    time.Time      // zero: not yet
	over     bool           // nobody can enter any more; ended is closed
	status   statusTarget
	spool    *spool // the recording; nil for none
	opening  bool   // it is about to begin
	recorder *Session
	notice   announcement
}

// announcement is what plays to everybody in a room because somebody asked for it; the zero value is nothing.
type announcement struct {
	id  media.PlayID
	by  *participant
	url string
}

// participant is a leg in a room: of this edge in its own, of another edge in one of this, or of this edge in another's.
type participant struct {
	room   *room    // nil in one of another edge
	far    *farRoom // that one
	line   *farLeg  // of a leg of another edge
	s      *Session // nil for a leg of another edge
	id     webhooks.CallID
	leg    *media.Leg // in the room's audio: of the call, or of the link to its edge
	lang   string
	log    *slog.Logger
	joined time.Time

	label        string
	startOnEnter bool
	beep         string
	hangUpOn     byte // 0: no key
	record       bool
	recordStatus statusTarget

	called chan struct{} // closed when the room begins, or the leg is out of it: there is no more to wait for
	gone   chan struct{} // closed when the leg is out of the room: what follows is final then

	// Under the lock of the room, or of the farRoom, until gone is closed:
	endOnExit   bool
	mode        string
	whisperTo   webhooks.CallID
	muted, held bool
	hold        media.PlayID // heard while held
	holdAudio   []*media.Prompt
	seated      bool // in the room's audio
	left        time.Time
	outcome     webhooks.Outcome // of its instruction
	recordingID webhooks.RecordingID
	failure     error // with the outcome failed
}

var (
	errRoomFull = errors.New("the conference is full")
	errRoomOver = errors.New("the conference has just ended")
)

// maxRoom is how many a room takes whatever its instructions say.
const maxRoom = media.DefaultMaxLegs

// enterRoom puts a leg into the room of a name, which is made as id when there is none. The room is returned with errRoomFull
// and a label that is taken, too.
func (c *Calls) enterRoom(s *Session, name string, id webhooks.ConferenceID, i *webhooks.Conference) (*participant, *room, error) {
	key := roomKey{s.account, name}
	p := s.newParticipant(i)
	status := s.statusTarget(webhooks.Target{URL: i.StatusURL, Method: i.StatusMethod}, i.StatusEvents)
	c.rooms.mu.Lock()
	defer c.rooms.mu.Unlock()
	if r := c.rooms.live[key]; r != nil {
		if err := r.admit(p, i.MaxParticipants); !errors.Is(err, errRoomOver) {
			return p, r, err
		}
	}
	r, err := c.newRoom(key, id, s, status)
	if err != nil {
		return nil, nil, err
	}
	if err := r.admit(p, i.MaxParticipants); err != nil {
		return nil, r, err
	}
	if c.rooms.live == nil {
		c.rooms.live = map[roomKey]*room{}
	}
	c.rooms.live[key] = r
	return p, r, nil
}

// forget lets the name of a room that is over go.
func (rs *rooms) forget(r *room) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.live[r.roomKey] == r {
		delete(rs.live, r.roomKey)
	}
}

func (s *Session) newParticipant(i *webhooks.Conference) *participant {
	v := s.vars()
	p := &participant{
		s: s, id: s.id, leg: s.leg, lang: s.lang, log: s.log, joined: time.Now(),
		label: v.Text(i.Label), startOnEnter: i.StartOnEnter, endOnExit: i.EndOnExit, beep: i.Beep,
		mode: i.Mode, whisperTo: webhooks.CallID(v.Text(string(i.WhisperTo))), muted: i.Muted,
		record:       i.Record,
		recordStatus: s.statusTarget(webhooks.Target{URL: i.RecordingStatusURL, Method: i.RecordingStatusMethod}, i.RecordingStatusEvents),
		called:       make(chan struct{}), gone: make(chan struct{}),
	}
	if i.HangUpOn != "" {
		p.hangUpOn = i.HangUpOn[0]
	}
	return p
}

func (c *Calls) newRoom(key roomKey, id webhooks.ConferenceID, first *Session, status statusTarget) (*room, error) {
	audio, err := c.cfg.Media.NewRoom(media.RoomConfig{Near: first.leg, MaxLegs: 2 * maxRoom}) // who leaves gives the place back a tick later
	if err != nil {
		return nil, fmt.Errorf("the conference cannot be made: %w", err)
	}
	r := &room{roomKey: key, calls: c, id: id, audio: audio, ended: make(chan struct{}), first: first, status: status}
	r.status.usual = conferenceEvents()
	c.work.Go(r.listen) // Run waits for it, as for the session that made it
	return r, nil
}

// conferenceEvents is what a status_url is told where no status_events are named: everything.
func conferenceEvents() []webhooks.EventType {
	return slices.DeleteFunc(webhooks.EventTypes(), func(t webhooks.EventType) bool { return !t.Matches("conference.*") })
}

// listen takes what the room's audio tells, until it is closed and the last octet of its recording written.
func (r *room) listen() {
	for e := range r.audio.Events() {
		switch e.Kind {
		case media.PlayDone:
			r.announced(e)
		case media.RecordDone:
			r.recordDone(e)
		}
	}
}

func (r *room) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.here)
}

// admit lets a leg in, if there is room for it.
func (r *room) admit(p *participant, most int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over:
		return errRoomOver
	case len(r.here) >= min(most, maxRoom):
		return errRoomFull
	case p.label != "" && slices.ContainsFunc(r.here, func(o *participant) bool { return o.label == p.label }):
		return fmt.Errorf("label: somebody in the conference has the label %q; give each participant another", p.label)
	}
	p.room = r
	r.here = append(r.here, p)
	r.tell(p, webhooks.EventConferenceJoined, r.about(p))
	r.sizeChanged()
	p.touch()
	return nil
}

// begin does what the coming of a leg leads to: the room begins, with all who have waited for it; or the leg joins those
// who speak already.
func (r *room) begin(p *participant) {
	if r.speaks(p) {
		r.record()
	}
}

// speaks has the leg take part; false: it is still to wait for the room, or is out of it.
func (r *room) speaks(p *participant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.out():
		return false
	case !r.begun.IsZero():
		r.seat(p)
	case len(r.here) >= 2 && slices.ContainsFunc(r.here, func(o *participant) bool { return o.startOnEnter }):
		r.start(p)
	default:
		return false
	}
	if p.beep == "enter" || p.beep == "both" {
		r.sound(p)
	}
	return true
}

// start begins the room; by is the leg whose coming does.
func (r *room) start(by *participant) {
	r.begun = time.Now()
	size := len(r.here)
	r.tellOf(r.voice(by), webhooks.EventConferenceStarted, webhooks.EventData{ConferenceID: r.id, Name: r.name, Participants: &size})
	for _, p := range r.here {
		r.seat(p)
	}
}

// seat lets a leg hear the others and be heard. Whoever whispers to it has waited for that.
func (r *room) seat(p *participant) {
	p.wake()
	p.line.begun()
	if p.held {
		p.playHold()
		return
	}
	if err := r.audio.Join(p.leg, r.seatOf(p)); err != nil {
		p.log.Debug("conference.seat", "error", err.Error()) // its call, or the edge, is ending
		return
	}
	p.seated = true
	for _, o := range r.here {
		if o != p && o.seated && o.whisperTo == p.id {
			r.reseat(o)
		}
	}
}

func (r *room) reseat(p *participant) {
	if !p.seated {
		return
	}
	if err := r.audio.Change(p.leg, r.seatOf(p)); err != nil {
		p.log.Debug("conference.seat", "error", err.Error())
	}
}

// seatOf is how a leg takes part in the audio. One that is muted is in nobody's ear; its own recording hears it still.
func (r *room) seatOf(p *participant) media.Seat {
	switch {
	case p.muted, p.mode == "listen":
		return media.Seat{Role: media.Listen}
	case p.mode == "whisper":
		if to := r.find(p.whisperTo); to != nil {
			return media.Seat{Role: media.Whisper, To: to.leg}
		}
		return media.Seat{Role: media.Listen} // until that one comes
	}
	return media.Seat{Role: media.Talk}
}

func (r *room) find(id webhooks.CallID) *participant {
	for _, p := range r.here {
		if p.id == id {
			return p
		}
	}
	return nil
}

// sound beeps to the others, over their voices. An announcement is not cut short for it.
func (r *room) sound(p *participant) {
	beep, ok := r.calls.cfg.Prompts.System(prompt.Beep, p.lang)
	if !ok || r.notice.id != 0 {
		return
	}
	if p.seated { // who comes hears nothing of it
		p.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{silenceOf(beep.Duration())}, Loop: 1})
	}
	r.audio.Play(media.PlayConfig{Prompts: []*media.Prompt{beep}, Loop: 1})
}

func silenceOf(d time.Duration) *media.Prompt {
	return media.NewPrompt(make([]int16, int(d.Seconds()*media.SampleRate)))
}

// remove takes a leg out of the room, with the outcome of its instruction and the reason that is told. When the leg was
// out already, nothing happens. The last who leaves ends the room, and so does one with end_on_exit.
func (r *room) remove(p *participant, outcome webhooks.Outcome, reason string) {
	r.mu.Lock()
	if p.out() {
		r.mu.Unlock()
		return
	}
	kicked := reason == webhooks.ParticipantKicked
	r.release(p, outcome, reason)
	switch {
	case p.endOnExit && len(r.here) > 0:
		r.empty()
		r.end(p, choose(kicked, webhooks.ConferenceEnderKicked, webhooks.ConferenceEnderLeft), p.id)
	case len(r.here) == 0:
		r.end(p, choose(kicked, webhooks.ConferenceLastKicked, webhooks.ConferenceLastLeft), p.id)
	case !r.begun.IsZero() && (p.beep == "exit" || p.beep == "both"):
		r.sound(p)
	}
	over := r.over
	r.mu.Unlock()
	if over {
		r.calls.rooms.forget(r)
	}
}

func choose(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

// close ends the room for all because a live change to one of them says so, after that was told. One that has just left
// ends it no more.
func (r *room) close(by *participant, told func()) error {
	r.mu.Lock()
	if by.out() {
		r.mu.Unlock()
		return errLeftRoom
	}
	told()
	r.empty()
	r.end(by, webhooks.ConferenceEndedByAPI, "")
	r.mu.Unlock()
	r.calls.rooms.forget(r)
	return nil
}

// empty takes everybody out because the room ends.
func (r *room) empty() {
	for len(r.here) > 0 {
		r.release(r.here[0], webhooks.Ended, webhooks.ParticipantRoomsEnding)
	}
}

// end closes an empty room. by is the leg whose event it is; ender, where a leg has ended the room by leaving, its id.
func (r *room) end(by *participant, reason string, ender webhooks.CallID) {
	r.over = true
	close(r.ended)
	data := webhooks.EventData{ConferenceID: r.id, Name: r.name, Reason: reason, EndedByCall: ender}
	if ender != "" {
		data.Label = by.label
	}
	if !r.begun.IsZero() {
		talked := webhooks.SecondsOf(time.Since(r.begun))
		data.Duration = &talked
	}
	r.tellOf(r.voice(by), webhooks.EventConferenceEnded, data)
	r.audio.Close()
}

// release takes one leg out.
func (r *room) release(p *participant, outcome webhooks.Outcome, reason string) {
	r.here = slices.DeleteFunc(r.here, func(o *participant) bool { return o == p })
	r.audio.Leave(p.leg)
	p.leg.StopPlay(p.hold)
	p.seated = false
	p.left, p.outcome = time.Now(), outcome
	if r.spool != nil {
		p.recordingID = r.spool.RecordingID
	}
	data := r.about(p)
	stayed := webhooks.SecondsOf(p.left.Sub(p.joined))
	data.Duration, data.Reason = &stayed, reason
	r.tell(p, webhooks.EventConferenceLeft, data)
	p.line.out(p)
	r.sizeChanged()
	p.touch()
	p.wake()
	close(p.gone)
}

func (p *participant) out() bool { return closed(p.gone) }

// wake ends the leg's wait for the room. The caller holds the room's lock.
func (p *participant) wake() {
	if !closed(p.called) {
		close(p.called)
	}
}

// about is what is told of a participant.
func (r *room) about(p *participant) webhooks.EventData {
	muted, held, starts, ends, size := p.muted, p.held, p.startOnEnter, p.endOnExit, len(r.here)
	return webhooks.EventData{
		ConferenceID: r.id, Name: r.name, Label: p.label, Mode: p.mode,
		Muted: &muted, Held: &held, StartOnEnter: &starts, EndOnExit: &ends, Participants: &size,
	}
}

// voice is the leg of this edge whose event tells of the room as a whole because of what by does: that leg, unless it is of
// another edge. That one's call may be over before the event could be told there.
func (r *room) voice(by *participant) *Session {
	if by.s != nil {
		return by.s
	}
	for _, p := range r.here {
		if p.s != nil {
			return p.s
		}
	}
	return r.first
}

// sizeChanged tells the legs of other edges how many are here.
func (r *room) sizeChanged() {
	for _, p := range r.here {
		p.line.size(len(r.here))
	}
}

// touch makes the leg's call a new version. For one of another edge that is done there.
func (p *participant) touch() {
	if p.s != nil {
		p.s.touch()
	}
}

// tell emits an event of a leg and has the room's status URL told: of a leg of another edge, when that has emitted it.
func (r *room) tell(p *participant, kind webhooks.EventType, data webhooks.EventData) {
	if p.line != nil {
		p.line.tell(kind, data)
		return
	}
	r.tellOf(p.s, kind, data)
}

func (r *room) tellOf(s *Session, kind webhooks.EventType, data webhooks.EventData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.emitLocked(kind, data)
	if !ok || !r.status.wants(kind) {
		return
	}
	call := s.call
	if s.ctx.Err() != nil {
		call.Status = webhooks.StatusCompleted
	}
	r.tellStatus(e, &call)
}

// tellStatus tells the room's status URL of an event that it wants.
func (r *room) tellStatus(e webhooks.Event, call *webhooks.Call) {
	r.first.status.push(r.first, statusCall{to: r.status.to, event: e, sequence: r.status.told, call: call})
	r.status.told++
}
