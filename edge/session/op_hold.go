package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// holding is what a leg does that has put whom it speaks with on hold: the other hears music or a prompt, and neither hears
// the other. The two stay partners, so that whoever leaves leaves as ever.
type holding struct {
	other *Session // who hears it
	audio []*media.Prompt
	play  media.PlayID // on other
}

// holdOther puts whom the leg speaks with on hold; in a conference the leg itself. Once is enough.
func (s *Session) holdOther(o *acting, prompts *webhooks.Sub) error {
	p, other := s.participant, s.partner()
	switch {
	case p != nil:
		if err := p.room.hold(p); err != nil {
			return err
		}
	case other == nil:
		return fmt.Errorf("there is nobody to hold: %w", errNobody)
	case s.merged.Load() != nil || other.deputy != nil && other.deputy.three.Load():
		return errors.New("three speak with each other, whom one of them cannot put on hold; use mute, or drop")
	case s.holding != nil:
		return nil
	default:
		s.holding = &holding{other: other}
		s.cutOff(true)
		o.data.PeerCallID = other.who()
	}
	if prompts == nil {
		s.heldHears(s.music())
		return nil
	}
	s.fetchHold(o, prompts)
	return errLater
}

// fetchHold gets what who is held is to hear. Until it is there, and when there is none, that is silence.
func (s *Session) fetchHold(o *acting, prompts *webhooks.Sub) {
	s.fetchPrompts(prompts, func(audio []*media.Prompt, failure error) {
		if failure != nil {
			o.done(fmt.Errorf("held, in silence: %w", plain(failure)))
			return
		}
		s.heldHears(audio)
		o.done(nil)
	})
}

// fetchPrompts gets prompts apart, and has what follows from it done on the leg's own goroutine.
func (s *Session) fetchPrompts(prompts *webhooks.Sub, then func([]*media.Prompt, error)) {
	var audio []*media.Prompt
	var failure error
	after := func() { then(audio, failure) }
	if prompts.Target == nil {
		get := s.promptsFor(prompts.Instructions, s.base)
		s.apart(func(ctx context.Context) { audio, failure = get(ctx) }, after)
		return
	}
	ask := s.prepare(question{reason: webhooks.ReasonPrompt, target: *prompts.Target})
	written := s.resolve(prompts.Target.URL)
	var got reply
	s.apart(func(ctx context.Context) { got = s.fetch(ctx, ask) }, func() {
		if got.err != nil {
			s.tellFailure(ask, written, got.err)
			failure = got.err
			after()
			return
		}
		get := s.promptsFor(got.program.Instructions, got.base)
		s.apart(func(ctx context.Context) { audio, failure = get(ctx) }, after)
	})
}

// heldHears plays to who is held: whom the leg speaks with or, in a conference, the leg itself.
func (s *Session) heldHears(audio []*media.Prompt) {
	if p := s.participant; p != nil {
		p.holdMusic(audio)
		return
	}
	h := s.holding
	if h == nil { // taken back, or gone
		return
	}
	h.other.leg.StopPlay(h.play)
	h.audio, h.play = audio, 0
	if len(audio) > 0 {
		h.play = h.other.leg.Play(media.PlayConfig{Prompts: audio, Loop: 0})
	}
}

// cutOff keeps the voices of a talk from each other, and tells of it.
func (s *Session) cutOff(held bool) {
	s.leg.SetMute(media.Out, held)
	s.leg.SetMute(media.Passed, held || s.muted)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = held
	if !s.over && s.ctx.Err() == nil {
		s.tellHeld()
	}
}

// unhold lets the two hear each other again. Who was not on hold is not.
func (s *Session) unhold() error {
	if p := s.participant; p != nil {
		return p.room.unhold(p)
	}
	s.endHold()
	return nil
}

// endHold ends the hold, also because one of the two has gone.
func (s *Session) endHold() {
	h := s.holding
	if h == nil {
		return
	}
	s.holding = nil
	h.other.leg.StopPlay(h.play)
	s.cutOff(false)
}

// followHold has the one hear the music who has taken the place of the one who was on hold.
func (s *Session) followHold() {
	h := s.holding
	other := s.partner()
	if h == nil || other == nil || other == h.other {
		return
	}
	h.other.leg.StopPlay(h.play)
	h.other, h.play = other, 0
	s.heldHears(h.audio)
}
