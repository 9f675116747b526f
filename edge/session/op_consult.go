package session

import (
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// aside is a consultation by a live change: the leg speaks with a target while its partner, who stays its partner, hears
// music. It runs within the talk of the two, which goes on after it:
//
//	complete, or the leg's own hang-up    the two others speak; the leg is hung up
//	cancel, or the target hangs up        the leg speaks with its partner again
//	merge                                 all three speak, until one of them leaves: see merged
//	the partner hangs up                  the target is hung up, and the talk is over
//	a program for the leg                 the target is hung up; the partner goes on as the change says
//
// Unlike the transfer of a program it is not ended by keys: those are the target's.
type aside struct {
	consultation
	ringing   *dialing // until the target has answered
	canceled  bool     // while it rang
	completed bool
}

// asideOrder has a leg begin one within its talk.
type asideOrder struct {
	o  *acting
	op *webhooks.OpConsult
}

// consultOther begins a consultation, when the leg's talk comes to it.
func (s *Session) consultOther(o *acting, op *webhooks.OpConsult) error {
	b, err := s.talk()
	if err != nil {
		return err
	}
	if !b.claim() {
		return errEngaged
	}
	select {
	case s.orders <- order{bond: b, from: s, consult: &asideOrder{o: o, op: op}}:
		return errLater
	default:
		b.unclaim()
		return errEngaged
	}
}

// consultBeside is the consultation, from the first ring to its end. limit ends it with the talk that it is in: then the
// result is true. What else has ended it is for the talk to notice.
func (s *Session) consultBeside(ask *asideOrder, b *bond, limit <-chan time.Time) (timeUp bool) {
	defer b.unclaim()
	if b.isOver() {
		ask.o.done(errGone)
		return false
	}
	s.aloneAgain()
	s.leg.Unbridge()
	c := &aside{consultation: consultation{s: s, partner: b.other(s), held: b}}
	dial := s.dialFor(ask.op.To, ask.op.Timeout, ask.op.CallerID)
	c.ringing = s.callAside(&dial, b)
	outer := s.peerGone
	s.aside, s.inTalk, s.peerGone = c, false, nil
	c.playTo(ask.op.Prompt)
	defer func() {
		c.hush()
		s.aside, s.inTalk, s.peerGone, s.news = nil, true, outer, nil
		s.aloneAgain()
	}()
	target, t := c.ringing.reach()
	ringing := c.ringing
	c.ringing = nil
	if target == nil || c.canceled || b.isOver() {
		if target != nil {
			target.cancel(ended{cause: webhooks.CauseCanceled, by: webhooks.EndedByAPI})
		}
		ringing.giveUp(t)
		c.unreached(ask.o, t)
		return false
	}
	c.target, c.with = target, newBond(nil, s, target, nil)
	c.with.claim() // the target is not to hand on whom it is asked by
	s.aloneAgain()
	ask.o.data.PeerCallID = target.id
	c.begin()
	ringing.cancel(elsewhere())
	ask.o.done(nil)
	return c.speak(limit)
}

// unreached goes back to the partner, if it is there, because nobody is consulted.
func (c *aside) unreached(o *acting, t *webhooks.Trigger) {
	s := c.s
	switch {
	case s.ctx.Err() != nil:
		o.done(errTooLate)
		return
	case c.held.isOver():
		o.done(errGone)
		return
	case c.canceled:
		o.done(errors.New("another change has canceled it"))
	case t.Outcome == webhooks.Redirected:
		o.done(errors.New("another change has given the call something else to do"))
		return
	default:
		o.done(notTakenBy(t.Outcome, ended{cause: t.Cause, code: t.SIPCode}))
	}
	c.hush()
	s.bridgeAgain(c.held)
}

// speak is the talk with the target.
func (c *aside) speak(limit <-chan time.Time) (timeUp bool) {
	s := c.s
	for {
		woke, e := s.wait(limit)
		switch woke {
		case wokePeer: // the target has gone, or was sent away
			c.apart()
			s.part(c.with, partnerLeft)
			c.hush()
			s.bridgeAgain(c.held)
			return false
		case wokeNews: // the partner has gone
			if c.apart() && rebind(s, c.held, c.target, c.with) { // of three, the two who are left speak on
				return false
			}
			s.part(c.with, partnerLeft)
			return false
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokeTimer:
			c.apart()
			s.part(c.with, ended{cause: webhooks.CauseTimeLimit})
			return true
		case wokeEnd:
			three := c.apart()
			goOn := (three || s.hungUp()) && !s.fenced()
			if !c.completed && (!goOn || !c.complete()) {
				s.part(c.with, s.leaving())
			}
			return false
		case wokeAction:
			three, peer := c.apart(), s.pending.Change.Peer
			if !three || peer.HangUp || peer.Instructions != nil || transfers(*s.pending) || !c.complete() {
				s.part(c.with, ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByAPI})
			}
			return false
		}
	}
}

// playTo lets the partner hear music, or prompts when they are there. Prompts that cannot be had are no reason to hear
// nothing.
func (c *aside) playTo(prompts *webhooks.Sub) {
	c.music = c.s.playMusic(c.partner)
	if prompts == nil {
		return
	}
	c.s.fetchPrompts(prompts, func(audio []*media.Prompt, failure error) {
		if c.s.aside != c || c.s.merged.Load() != nil || failure != nil || len(audio) == 0 {
			return
		}
		c.hush()
		c.music = c.partner.leg.Play(media.PlayConfig{Prompts: audio, Loop: 0})
	})
}

// hush ends what the partner hears.
func (c *aside) hush() {
	c.partner.leg.StopPlay(c.music)
	c.music = 0
}

// asideSpoken is the consultation whose target has answered.
func (s *Session) asideSpoken() (*aside, error) {
	c := s.aside
	switch {
	case c == nil:
		return nil, errNoAside
	case s.merged.Load() != nil:
		return nil, errors.New("the consultation is over: all three speak with each other; use drop, or hang up")
	case c.target == nil:
		return nil, errors.New("whom the call wants to consult has not answered yet")
	}
	return c, nil
}

// completeAside connects the two others and hangs this leg up.
func (s *Session) completeAside(o *acting) error {
	c, err := s.asideSpoken()
	if err != nil {
		return err
	}
	if !c.complete() {
		return errors.New("one of the two others has just hung up")
	}
	c.completed = true
	o.data.PeerCallID = c.target.id
	o.done(nil)
	s.cancel(handedOn)
	return nil
}

// cancelAside goes back to the partner.
func (s *Session) cancelAside(o *acting) error {
	if c := s.aside; c != nil && c.ringing != nil {
		c.canceled = true
		o.data.PeerCallID = c.partner.who()
		c.ringing.cancel(ended{cause: webhooks.CauseCanceled, by: webhooks.EndedByAPI})
		return nil
	}
	c, err := s.asideSpoken()
	if err != nil {
		return err
	}
	if c.with.isOver() || c.held.isOver() {
		return errors.New("the consultation has just ended")
	}
	o.data.PeerCallID = c.partner.who()
	s.part(c.with, ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI}) // which wakes the talk with it
	return nil
}
