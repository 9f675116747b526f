package session

import (
	"errors"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/webhooks"
)

// waiting is what a leg hears, and may do, while it waits for something.
type waiting struct {
	sub      *webhooks.Sub   // nil: music; an empty list: silence
	called   <-chan struct{} // closed when there is no more to wait for
	standing func() *webhooks.Waiting

	left  bool // by the instruction leave
	music bool // there is no program, or none to be had
}

// whileWaiting runs a wait program until called, until it leaves (true), or until the call ends or is changed. A program
// that is through is followed by silence. One that cannot be had is no reason to lose the call: music is heard instead.
//
// A verb in it that is called away ends as if a live change had come, and is not told: nothing has been changed.
func (s *Session) whileWaiting(w waiting) (left bool) {
	rest, base, guard, verb := s.rest, s.base, s.guard, s.noting.verb
	s.waiting, s.called, s.rest = &w, w.called, nil
	defer func() {
		s.waiting, s.called = nil, nil
		s.rest, s.base, s.guard, s.noting.verb = rest, base, guard, verb
	}()
	switch {
	case w.sub == nil:
		w.music = true
	case w.sub.Target != nil:
		s.askNext(webhooks.ReasonWait, *w.sub.Target, nil)
	default:
		s.rest = w.sub.Instructions
	}
	for len(s.rest) > 0 && !w.left && !s.calledAway() {
		next := s.rest[0]
		s.rest = s.rest[1:]
		if s.silent++; s.silent > webhooks.MaxSilentStretch {
			s.cancel(ended{cause: webhooks.CauseLoop})
			return false
		}
		t := s.observed(next)
		if s.ctx.Err() == nil && s.pending == nil && closed(w.called) {
			break
		}
		s.outcome(next, t)
	}
	if !w.left {
		s.hearNothing(w.music)
	}
	return w.left
}

// calledAway reports that a wait program has no more to do.
func (s *Session) calledAway() bool {
	return s.ctx.Err() != nil || s.pending != nil || closed(s.waiting.called)
}

// hearNothing waits, with music or in silence, to be called.
func (s *Session) hearNothing(music bool) {
	if audio := s.music(); music && len(audio) > 0 {
		id := s.leg.Play(media.PlayConfig{Prompts: audio, Loop: 0})
		defer s.leg.StopPlay(id)
	}
	for {
		switch woke, e := s.wait(nil); woke {
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			return
		}
	}
}

// music is what is heard by who waits without a program: repeated, for ever.
func (s *Session) music() []*media.Prompt {
	if hold, ok := s.calls.cfg.Prompts.System(prompt.Hold, s.lang); ok {
		return []*media.Prompt{hold}
	}
	return nil
}

// plain is an error as the application is told of it.
func plain(err error) error {
	if known, ok := errors.AsType[*prompt.Error](err); ok {
		return errors.New(known.Message)
	}
	return err
}

// leaveWait ends the wait program; outside one it does nothing.
func (s *Session) leaveWait() {
	if s.waiting != nil {
		s.waiting.left, s.rest = true, nil
	}
}

// redirectReason is why a redirect asks: in a wait program the answer is to be one again.
func (s *Session) redirectReason() webhooks.Reason {
	if s.waiting != nil {
		return webhooks.ReasonWait
	}
	return webhooks.ReasonRedirect
}
