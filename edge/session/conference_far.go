package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// farRoom is a conference that another edge carries, as a leg of this edge knows it. The room decides what becomes of the leg
// and says so; this edge emits the leg's events, in the order said, runs its wait program and hears its keys. When the link
// breaks the leg is out, whatever becomes of the room.
type farRoom struct {
	s    *Session
	p    *participant
	link *link
	name string

	settled chan struct{} // closed when it is known whether the leg is in; what follows is final then
	id      webhooks.ConferenceID
	refused *refused // it is not in

	mu     sync.Mutex         // guards what follows, and the participant; that of the session may be taken under it
	about  webhooks.EventData // the participant, as last told
	here   int
	muting bool // the leg was muted by the last op that was asked for, made or not
	asked  int
	asking map[int]func(made)
}

var errFarLost = errors.New("the connection with the edge that carries the conference was lost")

// enterElsewhere puts the leg into a conference of another edge. The trigger is set when it is not in it; neither of the two
// when that conference has ended.
func (s *Session) enterElsewhere(name string, at control.ConferencePlace, i *webhooks.Conference) (*participant, *webhooks.Trigger) {
	refuse := func(text string) *webhooks.Trigger {
		t := s.failed(errors.New("the conference " + name + " is carried by another edge, " + text))
		t.ConferenceID = at.ConferenceID
		return t
	}
	if !at.SIP.IsValid() {
		return nil, refuse("and nobody knows where that is reached")
	}
	l, err := s.openLink(at.SIP.Addr(), s.codecs())
	if err != nil {
		return nil, s.failed(fmt.Errorf("no audio can be set up: %w", err))
	}
	d, t, err := s.inviteEdge(at.SIP, control.LinkConference, at.Ticket, l)
	switch {
	case t != nil, notThere(err):
		l.close()
		return nil, t
	case err != nil:
		l.close()
		return nil, refuse("which could not be reached: " + err.Error())
	}
	l.follow(d)
	if err := l.accept(); err != nil {
		l.close()
		return nil, refuse("whose audio cannot be had: " + err.Error())
	}
	f := s.joinElsewhere(name, l, i)
	p, t := f.await()
	if p == nil {
		f.leave(webhooks.Hangup, webhooks.ParticipantHungUp)
		l.close()
	}
	return p, t
}

// joinElsewhere asks to be let in over a link.
func (s *Session) joinElsewhere(name string, l *link, i *webhooks.Conference) *farRoom {
	p := s.newParticipant(i)
	f := &farRoom{s: s, p: p, link: l, name: name, settled: make(chan struct{}), asking: map[int]func(made){}}
	p.far = f
	l.say(legWord{Join: &joining{
		Label: p.label, StartOnEnter: p.startOnEnter, EndOnExit: p.endOnExit, Beep: p.beep, Mode: p.mode, WhisperTo: p.whisperTo,
		Muted: p.muted, Record: p.record, RecordingStatusURL: p.recordStatus.to.URL, RecordingStatusMethod: p.recordStatus.to.Method, RecordingStatusEvents: p.recordStatus.events,
		MaxParticipants: i.MaxParticipants, Language: s.lang,
	}})
	s.spawn(func() {
		l.listen(nil, f.take)
		f.lost()
	})
	return f
}

// await waits until the leg is in, or is not to be: as enterElsewhere.
func (f *farRoom) await() (*participant, *webhooks.Trigger) {
	s := f.s
	s.news = f.settled
	defer func() { s.news = nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			switch r := f.refused; {
			case r == nil:
				return f.p, nil
			case r.Over:
				return nil, nil
			case r.Full:
				return nil, s.notAdmitted(r.ConferenceID, errRoomFull)
			default:
				return nil, s.notAdmitted(r.ConferenceID, errors.New(r.Message))
			}
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			return nil, s.interrupted()
		}
	}
}

// take is a word of the room's edge.
func (f *farRoom) take(body []byte) {
	var w roomWord
	if err := json.Unmarshal(body, &w); err != nil {
		f.s.log.Error("conference.word", "error", err.Error())
		f.link.end(true)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.Done != nil {
		if then := f.asking[w.Done.Number]; then != nil {
			delete(f.asking, w.Done.Number)
			then(*w.Done)
		}
		return
	}
	switch {
	case f.p.out():
	case w.Refused != nil && !closed(f.settled):
		f.refused = w.Refused
		close(f.settled)
	case w.Event != nil:
		f.happened(*w.Event)
	case w.Begun && !closed(f.p.called): // once; it is heard again with every seat
		f.begun()
	case w.Size > 0:
		f.here = w.Size
	case w.RecordingID != "":
		f.p.recordingID = w.RecordingID
	case w.Out != nil:
		if w.Out.RecordingID != "" {
			f.p.recordingID = w.Out.RecordingID
		}
		f.finish(w.Out.Outcome)
	}
}

// happened emits an event of the leg.
func (f *farRoom) happened(e roomEvent) {
	p := f.p
	if e.Type == webhooks.EventConferenceJoined && !closed(f.settled) {
		p.joined, f.id = time.Now(), e.Data.ConferenceID
		close(f.settled)
	}
	if !closed(f.settled) {
		return
	}
	f.emit(e.At, e.Type, e.Data, e.Report)
	if e.Type == webhooks.EventConferenceJoined {
		f.link.say(legWord{Here: true})
	}
	if e.Data.Mode == "" { // not of a participant
		return
	}
	f.about = e.Data
	if e.Data.Participants != nil {
		f.here = *e.Data.Participants
	}
	p.muted = e.Data.Muted != nil && *e.Data.Muted
	p.held = e.Data.Held != nil && *e.Data.Held
	if !p.held {
		p.leg.StopPlay(p.hold)
		p.hold, p.holdAudio = 0, nil
	}
	p.touch()
}

// emit emits an event of the leg, and tells the room's edge as what where it wants to know.
func (f *farRoom) emit(at time.Time, kind webhooks.EventType, data webhooks.EventData, report bool) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.emitOf(at, kind, data)
	if !ok || !report {
		return
	}
	call := s.call
	if s.ctx.Err() != nil {
		call.Status = webhooks.StatusCompleted
	}
	f.link.say(legWord{Told: &told{Event: e, Call: call}})
}

// begun lets the leg hear the room.
func (f *farRoom) begun() {
	f.p.wake()
	if err := media.Bridge(f.p.leg, f.link.leg); err != nil {
		f.link.end(true)
		return
	}
	if f.p.held {
		f.p.playHold()
	}
}

// finish takes the leg out.
func (f *farRoom) finish(outcome webhooks.Outcome) {
	p := f.p
	p.left, p.outcome = time.Now(), outcome
	p.leg.StopPlay(p.hold)
	p.leg.Unbridge()
	p.wake()
	close(p.gone)
}

// leave has the leg leave, with the outcome of its instruction and the reason that is told. When it is out already nothing
// happens.
func (f *farRoom) leave(outcome webhooks.Outcome, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.goOut(outcome, reason)
}

func (f *farRoom) goOut(outcome webhooks.Outcome, reason string) {
	p := f.p
	if p.out() {
		return
	}
	if f.id != "" {
		data := f.about
		stayed := webhooks.SecondsOf(time.Since(p.joined))
		left := max(0, f.here-1)
		data.Duration, data.Reason, data.Participants = &stayed, reason, &left
		f.emit(time.Now(), webhooks.EventConferenceLeft, data, true)
		p.touch()
	}
	f.finish(outcome)
}

// lost is the end of the link: when nobody has said that the leg is out, it has broken.
func (f *farRoom) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.p.out() {
		if !closed(f.settled) {
			f.refused = &refused{Message: errFarLost.Error()}
			close(f.settled)
		}
		f.p.failure = errFarLost
		f.goOut(webhooks.Failed, webhooks.ParticipantLost)
	}
	for n, then := range f.asking {
		delete(f.asking, n)
		then(made{Number: n, Message: errFarLost.Error()})
	}
}

func (f *farRoom) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.here
}

// makes reports whether an op of a live change is one for the room.
func (f *farRoom) makes(op webhooks.Op) bool {
	switch op := op.(type) {
	case *webhooks.OpUnmute:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.p.muted || f.muting // else it is the leg's own voice that is given back
	case *webhooks.OpMute, *webhooks.OpHold, *webhooks.OpUnhold, *webhooks.OpDrop, *webhooks.OpDisconnect:
		return true
	case *webhooks.OpPlay:
		return op.To == "both"
	case *webhooks.OpSay:
		return op.To == "both"
	}
	_, ok := companionOf(op, f.s.id)
	return ok
}

// ask has the room make such an op; what becomes of it is told later.
func (f *farRoom) ask(o *acting, op webhooks.Op) error {
	sent, err := f.s.filled(op)
	if err != nil {
		return err
	}
	v, supervises := companionOf(op, f.s.id)
	if supervises && v.target != nil {
		return errNoTarget
	}
	o.data.PeerCallID = v.by
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.p.out() {
		return errLeftRoom
	}
	switch op.(type) {
	case *webhooks.OpMute:
		f.muting = true
	case *webhooks.OpUnmute:
		f.muting = false
	}
	f.asked++
	f.asking[f.asked] = func(d made) {
		f.s.apart(func(context.Context) {}, func() { f.answered(o, op, d) })
	}
	f.link.say(legWord{Ask: &asking{Number: f.asked, Change: webhooks.Action{Op: sent}}})
	return errLater
}

// answered is what the leg's own goroutine does when the room has made an op, or could not.
func (f *farRoom) answered(o *acting, op webhooks.Op, d made) {
	s := f.s
	if v, ok := companionOf(op, s.id); ok && d.Absent {
		found, err := s.calls.sendToConference(s.account, f.name, v)
		if !found {
			err = fmt.Errorf("call_id: no call %s is live on the edge of this leg, or on the one that has the conference", v.by)
		}
		o.done(err)
		return
	}
	if d.Message != "" {
		o.done(errors.New(d.Message))
		return
	}
	hold, ok := op.(*webhooks.OpHold)
	switch {
	case !ok:
		o.done(nil)
	case hold.Prompt == nil:
		s.heldHears(s.music())
		o.done(nil)
	default:
		s.fetchHold(o, hold.Prompt)
	}
}

// filled is an op with what only this edge can fill in.
func (s *Session) filled(op webhooks.Op) (webhooks.Op, error) {
	v := s.vars()
	switch op := op.(type) {
	case *webhooks.OpHold:
		return &webhooks.OpHold{}, nil // what it hears is fetched here
	case *webhooks.OpPlay:
		if op.RecordingID != "" {
			return nil, errors.New("recording_id: a recording of this call cannot be played to a conference that another edge carries; play a url")
		}
		sent := *op
		if op.URL != "" {
			sent.URL = s.resolve(v.URL(op.URL))
		}
		sent.MediaID = webhooks.MediaID(v.Text(string(op.MediaID)))
		return &sent, nil
	case *webhooks.OpSay:
		sent := *op
		sent.Text, sent.SSML, sent.Language = v.Text(op.Text), v.XML(op.SSML), s.language(op.Language)
		return &sent, nil
	}
	return op, nil
}
