package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// An op is a live change that acts beside whatever the leg runs, or ends it. It is made on the leg's own goroutine, where
// that waits, and told of once: as completed when what it asks for is so, else as failed with a sentence. What takes long
// (audio to be fetched, keys to be pressed, a phone to be rung) is done apart, so that a hang-up never waits for it.
//
// What each does follows from where the leg stands:
//
//	               not answered  alone     in a talk                       in a conference
//	hangup         ends it       ends it   ends it, and who depends on it  ends it
//	mute, unmute   failed        made      made                            as a participant
//	hold, unhold   failed        failed    the other hears the prompt      it hears the prompt
//	digits         failed        made      made                            made
//	play, say      failed        self      self, or both                   self, or the room
//	recording      made          made      made                            made
//	disconnect     ends it       ends it   ends it and the other           ends the conference
//	transfer       failed        failed    the other calls the target      failed
//	consult        failed        failed    the other waits: see aside      failed
//	park           failed        failed    the other goes into a slot      failed
//	survey         failed        failed    see surveyOther                 failed
//	drop           failed        failed    hangs up one of the talk        takes one out
//	retarget       while its dial rings: another is rung instead; else failed
//
// priority, move and assign are made while the call waits in a queue, listen, whisper and barge in a talk or a conference,
// intercept in a talk; anywhere else they fail.
//
// On a leg of ours that still rings only a hang-up can be made, what replaces its program, and pick_up.

// acting is an op from being taken to being told of.
type acting struct {
	s    *Session
	data webhooks.EventData // of its event, when it is completed
	told bool
	away bool        // another goroutine tells of it, also after the end of the call
	made atomic.Bool // it is, whatever the leg comes to before it tells
}

var (
	// errLater: what becomes of the op is told by what goes on apart.
	errLater = errors.New("later")

	errUnanswered = errors.New("the call is not answered yet")
	errNobody     = errors.New("the call speaks with nobody")
	errTooLate    = errors.New("the call ended before the change could be made")
)

// done tells what became of the op, once.
func (o *acting) done(err error) {
	if o.told {
		return
	}
	o.told = true
	if err != nil {
		data := webhooks.EventData{ActionID: o.data.ActionID, Op: o.data.Op, Message: err.Error()}
		if known, ok := errors.AsType[*notTaken](err); ok {
			data.Code = string(known.cause)
		}
		o.s.settleAction(webhooks.EventActionFailed, data)
		return
	}
	o.s.settleAction(webhooks.EventActionCompleted, o.data)
}

// settleAction tells what became of a live change. One without an id is of another leg's making, which tells of its own.
func (s *Session) settleAction(kind webhooks.EventType, data webhooks.EventData) {
	if data.ActionID != "" {
		s.emit(kind, data)
	}
}

// actBeside makes a live change that does not take the place of what runs. After a hang-up the session's context has
// ended. False: it is one that does take its place.
func (s *Session) actBeside(a control.Action) bool {
	if a.Change.Op == nil {
		return false
	}
	s.noteAction(a)
	s.showTag()
	o := &acting{s: s, data: webhooks.EventData{ActionID: a.ActionID, Op: opName(a)}}
	if h, is := a.Change.Op.(*webhooks.OpHangUp); is {
		o.done(nil)
		s.cancel(hungUpBy(h))
		return true
	}
	s.acting = append(s.acting, o)
	if err := s.act(o, a.Change.Op); !errors.Is(err, errLater) {
		o.done(err)
	}
	s.forgetTold()
	return true
}

// forgetTold keeps the list of ops under way short.
func (s *Session) forgetTold() {
	left := s.acting[:0]
	for _, o := range s.acting {
		if !o.away && !o.told {
			left = append(left, o)
		}
	}
	clear(s.acting[len(left):])
	s.acting = left
}

// hungUpBy is the end of a call that a live change hangs up: for the cause that it gives, where that is one of the
// contract.
func hungUpBy(h *webhooks.OpHangUp) ended {
	end := ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI, text: h.Cause}
	if known := webhooks.Cause(h.Cause); known.Known() {
		end.cause = known
	}
	return end
}

// act makes one op; errLater where it is told of later.
func (s *Session) act(o *acting, op webhooks.Op) error {
	switch op := op.(type) {
	case *webhooks.OpRecording:
		return s.actRecording(o, op)
	case *webhooks.OpDisconnect:
		if p := s.participant; p != nil && p.far != nil {
			return p.far.ask(o, op)
		}
		return s.disconnect()
	case *webhooks.OpRetarget:
		return s.retarget(op)
	}
	if !s.answered() {
		return errUnanswered
	}
	if p := s.participant; p != nil && p.far != nil && p.far.makes(op) {
		return p.far.ask(o, op)
	}
	switch op := op.(type) {
	case *webhooks.OpMute:
		return s.mute(true)
	case *webhooks.OpUnmute:
		return s.mute(false)
	case *webhooks.OpHold:
		return s.holdOther(o, op.Prompt)
	case *webhooks.OpUnhold:
		return s.unhold()
	case *webhooks.OpDigits:
		return s.pressBeside(o, op)
	case *webhooks.OpPlay:
		return s.playBeside(o, op)
	case *webhooks.OpSay:
		return s.sayBeside(o, op)
	case *webhooks.OpPriority, *webhooks.OpMove, *webhooks.OpAssign:
		return s.changeQueued(o, op)
	}
	if made, err := s.actOnTalk(o, op); made {
		return err
	}
	if s.participant != nil {
		return s.conferenceOp(op, &o.data)
	}
	return s.superviseTalk(o, op)
}

// actRinging makes a live change to a leg of ours that is not answered yet; false: it replaces its program.
func (s *Session) actRinging(a control.Action) bool {
	switch a.Change.Op.(type) {
	case nil, *webhooks.OpHangUp, *webhooks.OpDisconnect:
		return s.actBeside(a)
	}
	s.noteAction(a)
	s.showTag()
	o := &acting{s: s, data: webhooks.EventData{ActionID: a.ActionID, Op: opName(a)}}
	if op, is := a.Change.Op.(*webhooks.OpPickUp); is {
		s.acting = append(s.acting, o)
		if err := s.pickedUpBy(o, op); !errors.Is(err, errLater) {
			o.done(err)
		}
		s.forgetTold()
		return true
	}
	o.done(errUnanswered)
	return true
}

// hearChange takes the live changes that have come while an instruction ended, and makes those that act beside it.
func (s *Session) hearChange() {
	for s.pending == nil && s.ctx.Err() == nil {
		select {
		case a := <-s.actions:
			if !s.actBeside(a) {
				s.pending = &a
			}
		default:
			return
		}
	}
}

// apart has work done on another goroutine, and what follows from it on the leg's own, where it waits next. When the call
// ends before, nothing follows.
func (s *Session) apart(work func(context.Context), then func()) {
	s.spawn(func() {
		work(s.ctx)
		select {
		case s.besides <- then:
		case <-s.ctx.Done():
		}
	})
}

// meanwhile gets audio on another goroutine and waits for it. errInterrupted: the call is over, or something else is to
// run; who waits for the audio then need not wait for its end.
func (s *Session) meanwhile(get func(context.Context) (*media.Prompt, error)) (*media.Prompt, error) {
	ctx, cancel := context.WithTimeout(s.ctx, loadTime)
	defer cancel()
	type loaded struct {
		audio *media.Prompt
		err   error
	}
	done := make(chan loaded, 1)
	s.spawn(func() {
		audio, err := get(ctx)
		done <- loaded{audio, err}
	})
	for {
		select {
		case got := <-done:
			return got.audio, got.err
		case a := <-s.actions:
			if s.tooLate(a) || s.actBeside(a) {
				continue
			}
			s.pending = &a
			return nil, errInterrupted
		case then := <-s.besides:
			then()
		case <-s.called:
			return nil, errInterrupted
		case <-s.ctx.Done():
			return nil, errInterrupted
		}
	}
}

// partner is whom the leg speaks with; nil for nobody.
func (s *Session) partner() *Session {
	if s.aside != nil {
		return s.aside.target
	}
	if b := s.bonded(); b != nil && !b.isOver() {
		return b.other(s)
	}
	return nil
}

// aloneAgain ends what was done to whom the leg spoke with.
func (s *Session) aloneAgain() {
	s.endHold()
	s.stopBeside()
}

// leaving is how the end of this leg stands in the record of one that ends with it: for the same reason, and who hangs up
// is the caller to the one who is left.
func (s *Session) leaving() ended {
	if s.ctx.Err() == nil || s.hungUp() {
		return partnerLeft
	}
	end := endOf(s.ctx)
	return ended{cause: end.cause, by: end.by, text: end.text}
}

// disconnect ends the conference, else the call and that of whom the leg speaks with.
func (s *Session) disconnect() error {
	if p := s.participant; p != nil {
		return p.room.close(p, func() {})
	}
	end := ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI}
	for _, o := range s.speakers() {
		if o != nil && o != s {
			o.endBy(end)
		}
	}
	s.cancel(end)
	return nil
}

// endBy ends a call because of a live change to another.
func (s *Session) endBy(why ended) {
	if s.deputy != nil {
		s.deputy.say(talkWord{HangUp: endingOf(why)})
		return
	}
	s.cancel(why)
}

// mute keeps the leg's voice from everybody it speaks with, or gives it back. Its own recording hears it all the same.
// Doing it twice is as once.
func (s *Session) mute(muted bool) error {
	if p := s.participant; p != nil && p.far == nil && (muted || p.muted) {
		return p.room.mute(p, muted)
	}
	s.muted = muted
	s.leg.SetMute(media.Passed, muted || s.holding != nil)
	return nil
}

// actRecording starts, pauses, resumes or stops the recording that goes on beside the program.
func (s *Session) actRecording(o *acting, op *webhooks.OpRecording) error {
	id, err := s.recordingOp(&webhooks.Recording{
		Op: op.Do, Channels: op.Channels, Format: op.Format, StatusURL: op.StatusURL, StatusEvents: op.StatusEvents,
	})
	switch {
	case err != nil:
		return err
	case id != "":
		o.data.RecordingID = id
		return nil
	case op.Do == "start":
		o.data.RecordingID = s.beside.RecordingID // it runs already
		return nil
	}
	return fmt.Errorf("nothing is being recorded that could be told to %s", op.Do)
}
