package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A transfer hands the party that a leg speaks with to a target. It is that party's own leg that calls the target and then
// speaks with it, so that the one who transfers is free, and may hang up, whatever becomes of it. Recordings belong to a leg
// and stay with it: what the remaining party's leg records, its dial's recording included, goes on with the new partner.

// Keys of the one who transfers, while he speaks with the target of an attended transfer. Hanging up completes it as well.
const (
	completeKey = '#'
	cancelKey   = '*'
)

// handover has a leg call a target and go on with it. Who asks for it reads what follows done when that is closed.
type handover struct {
	dial webhooks.Dial

	done    chan struct{}
	callID  webhooks.CallID  // of the target that answered, or was tried last
	ok      bool             // they are connected
	end     ended            // else why not
	outcome webhooks.Outcome // of calling the target, where it was not reached
	refused bool             // nobody was called
	err     error            // why not, where that is known better
}

// transfers reports whether a live change hands over whom the leg speaks with: its program begins with a transfer. The
// partner is then kept until the instruction runs.
func transfers(a control.Action) bool {
	p := a.Change.Program
	if p == nil || len(p.Instructions) == 0 {
		return false
	}
	_, is := p.Instructions[0].(*webhooks.Transfer)
	return is
}

// keepsPartner reports whether whom the leg speaks with stays its partner until what replaces the leg's program is known:
// it may be a transfer. Of a change that says what becomes of the partner only its own program can be one.
func keepsPartner(a control.Action) bool {
	return transfers(a) || a.Change.Target != nil && !a.Change.Peer.HangUp && a.Change.Peer.Instructions == nil
}

// letGo parts from a partner that was kept for a transfer, when something else is what runs next: nil for nothing.
func (s *Session) letGo(next webhooks.Instruction) {
	if _, is := next.(*webhooks.Transfer); is || !s.keeping {
		return
	}
	s.keeping = false
	s.leg.Unbridge()
	s.replaced(s.bonded())
}

func (s *Session) transfer(i *webhooks.Transfer) *webhooks.Trigger {
	s.keeping = false
	b := s.bonded()
	if b == nil || b.isOver() {
		return s.failed(errors.New("there is nobody to transfer: a transfer is a live change to a leg that speaks with another"))
	}
	s.onItsOwn()
	s.aloneAgain() // a hold ends: what the partner hears from here on is the transfer's to say
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	defer func() { s.peerGone, s.news = nil, nil }()
	if i.Mode == "attended" {
		return s.transferAttended(i, b)
	}
	return s.transferBlind(i, b)
}

// transferDial is a transfer as the dial of the leg that makes it.
func (s *Session) transferDial(i *webhooks.Transfer) webhooks.Dial {
	d := newDial(s.filledIn(i.To))
	d.Timeout = i.Timeout
	d.CallerID = s.vars().Text(i.CallerID)
	if i.Screen != nil {
		screen := *i.Screen
		if screen.Target != nil { // it is the other leg that asks
			target := *screen.Target
			target.URL = s.resolve(s.vars().URL(target.URL))
			screen.Target = &target
		}
		d.Screen = &screen
	}
	return d
}

// newDial is a dial to one target with every attribute as the contract has it where it is not given.
func newDial(to webhooks.DialTarget) webhooks.Dial {
	var d webhooks.Dial
	webhooks.Defaults(&d)
	d.To = []webhooks.DialTarget{to}
	return d
}

// filledIn is a target with its templates filled in, for another leg to call.
func (s *Session) filledIn(t webhooks.DialTarget) webhooks.DialTarget {
	v := s.vars()
	t.Number, t.SIP, t.Extension, t.CallerID = v.Text(t.Number), v.Text(t.SIP), v.Text(t.Extension), v.Text(t.CallerID)
	return t
}

// transferBlind has the partner call the target, and hear it ring. This leg waits; when the target does not take the
// call, it speaks with the partner again.
func (s *Session) transferBlind(i *webhooks.Transfer, b *bond) *webhooks.Trigger {
	h := &handover{dial: s.transferDial(i), done: make(chan struct{})}
	if !b.ask(s, order{handover: h}) {
		return s.failed(errors.New("the other party is not there any more"))
	}
	s.news = h.done
	for {
		woke, e := s.wait(nil)
		switch {
		case woke == wokeNews && h.ok:
			s.part(b, partnerLeft)
			return &webhooks.Trigger{Outcome: webhooks.Completed, CallID: h.callID}
		case woke == wokeNews && b.isOver():
			s.part(b, b.why)
			return s.failed(errors.New("the other party hung up"))
		case woke == wokeNews:
			return s.returnedAt(b, &webhooks.Trigger{Outcome: webhooks.Returned, CallID: h.callID, SIPCode: h.end.code, Cause: h.end.cause})
		case woke == wokeDigit:
			s.typeAhead(e.Digit)
		case woke == wokeAction: // the partner goes on without a way back
			s.replaced(b)
			return s.interrupted()
		case woke == wokeEnd:
			s.part(b, s.leaving())
			return s.interrupted()
		}
	}
}

// returned speaks with the partner again, after a transfer that came to nothing. The instruction ends with the talk.
func (s *Session) returned(b *bond, t *webhooks.Trigger) *webhooks.Trigger {
	s.news, s.inTalk = nil, true
	defer func() { s.inTalk = false }()
	for {
		s.peerGone = b.over
		woke, e := s.wait(nil)
		switch {
		case woke == wokePeer && s.bonded() != b: // somebody else has taken the partner's place
			b = s.bonded()
		case woke == wokePeer:
			s.leg.Unbridge()
			s.part(b, b.why)
			return t
		case woke == wokeOrder && s.bonded() != b:
			s.order.refuse()
			b = s.bonded()
		case woke == wokeOrder && s.order.handover != nil && s.order.bond == b: // now it is the partner who transfers
			s.handOver(s.order.handover, b)
			b = s.bonded()
		case woke == wokeOrder && s.order.consult != nil && s.order.bond == b:
			s.consultBeside(s.order.consult, b, nil)
			b = s.bonded()
		case woke == wokeOrder:
			s.order.refuse()
		case woke == wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case woke == wokeAction && keepsPartner(*s.pending):
			s.keeping = true
			t.Outcome = s.interrupted().Outcome
			return t
		case woke == wokeAction:
			s.leg.Unbridge()
			s.replaced(b)
			t.Outcome = s.interrupted().Outcome
			return t
		case woke == wokeEnd:
			s.part(b, s.leaving())
			t.Outcome = s.interrupted().Outcome
			return t
		}
	}
}

// transferAttended calls the target for this leg to speak with, while the partner hears music, and connects the two when
// this leg hangs up or presses the key for it.
func (s *Session) transferAttended(i *webhooks.Transfer, b *bond) *webhooks.Trigger {
	partner, dial := b.other(s), s.transferDial(i)
	s.leg.Unbridge()
	music := s.playMusic(partner)
	defer partner.leg.StopPlay(music)
	d := s.callAside(&dial, b)
	defer d.giveUp(nil)
	target, t := d.reach()
	switch {
	case t != nil && t.Outcome == webhooks.Redirected:
		s.replaced(b)
		return t
	case t != nil && t.Outcome == webhooks.Hangup:
		s.part(b, s.leaving())
		return t
	case b.isOver():
		if target != nil {
			target.cancel(partnerLeft)
		}
		s.part(b, b.why)
		return s.failed(errors.New("the other party hung up"))
	case t != nil:
		partner.leg.StopPlay(music)
		return s.returnedAt(b, notReached(t))
	}
	return s.consult(b, target, music)
}

// callAside calls somebody for this leg to speak with while its partner waits. That is over when the partner leaves.
func (s *Session) callAside(dial *webhooks.Dial, b *bond) *dialing {
	d := &dialing{Dial: dial, s: s, from: s.partyName(), parties: make(chan party, 2)}
	d.ctx, d.cancel = context.WithCancelCause(s.ctx)
	s.spawn(func() {
		select {
		case <-b.over: // nobody is left to be transferred
			d.cancel(partnerLeft)
		case <-d.ctx.Done():
		}
	})
	return d
}

// reach rings whom a leg wants to speak with aside; the trigger is set when that was not to be.
func (d *dialing) reach() (*Session, *webhooks.Trigger) {
	s := d.s
	s.parties = d.parties
	defer func() { s.parties = nil }()
	d.play()
	d.call()
	target, t := d.await()
	s.leg.StopPlay(d.ringback)
	if t != nil {
		d.giveUp(t)
	}
	return target, t
}

// notReached is the outcome of an attended transfer whose target could not be spoken with.
func notReached(t *webhooks.Trigger) *webhooks.Trigger {
	out := &webhooks.Trigger{Outcome: webhooks.NoAnswer, CallID: t.CallID, SIPCode: t.SIPCode, Cause: t.Cause}
	if t.Outcome == webhooks.Busy {
		out.Outcome = webhooks.Busy
	}
	return out
}

// returnedAt connects this leg with its partner again, unless that speaks with somebody else by now, and speaks with it to
// the end.
func (s *Session) returnedAt(b *bond, t *webhooks.Trigger) *webhooks.Trigger {
	s.bridgeAgain(b)
	return s.returned(b, t)
}

// bridgeAgain lets the two of a bond hear each other again, unless the partner speaks with somebody else by now.
func (s *Session) bridgeAgain(b *bond) {
	if b.other(s).bonded() == b {
		if err := media.Bridge(s.leg, b.other(s).leg); err != nil {
			b.end(s.leaving())
		}
	}
}

// consultation is an attended transfer while its leg speaks with the target.
type consultation struct {
	s       *Session
	partner *Session // who is held
	held    *bond    // with the partner, which stays the leg's own
	target  *Session
	with    *bond // with the target, beside it
	music   media.PlayID
}

// consult speaks with the target of an attended transfer.
func (s *Session) consult(b *bond, target *Session, music media.PlayID) *webhooks.Trigger {
	c := &consultation{s: s, partner: b.other(s), held: b, target: target, with: newBond(nil, s, target, nil), music: music}
	c.begin()
	for {
		woke, e := s.wait(nil)
		switch {
		case woke == wokePeer, woke == wokeDigit && e.Digit == cancelKey:
			return c.callOff()
		case woke == wokeNews: // the partner was tired of the music
			return c.givenUp()
		case woke == wokeDigit && e.Digit == completeKey:
			if !c.complete() { // one of the two has gone in this moment
				if b.isOver() {
					return c.givenUp()
				}
				return c.callOff()
			}
			s.part(b, partnerLeft)
			return &webhooks.Trigger{Outcome: webhooks.Completed, CallID: target.id}
		case woke == wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case woke == wokeEnd:
			t := s.interrupted()
			if s.hungUp() && c.complete() {
				t.CallID = target.id
			} else {
				s.part(c.with, s.leaving())
			}
			s.part(b, s.leaving())
			return t
		case woke == wokeAction:
			s.part(c.with, ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByAPI})
			s.replaced(b)
			return s.interrupted()
		}
	}
}

// begin lets the leg speak with the target.
func (c *consultation) begin() {
	s, target := c.s, c.target
	target.detach()
	target.enter(c.with)
	if err := media.Bridge(s.leg, target.leg); err != nil {
		c.with.end(partnerLeft)
	} else {
		s.emit(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: target.id})
		target.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: s.id})
	}
	s.peerGone, s.news = c.with.over, c.held.over
}

// complete connects the two others. False: one of them is not there any more.
func (c *consultation) complete() bool {
	c.s.leg.Unbridge()
	c.partner.leg.StopPlay(c.music)
	return rebind(c.partner, c.held, c.target, c.with)
}

// callOff parts from the target, if it is still there, and goes back to the partner.
func (c *consultation) callOff() *webhooks.Trigger {
	c.s.leg.Unbridge()
	c.s.part(c.with, partnerLeft)
	c.partner.leg.StopPlay(c.music)
	return c.s.returnedAt(c.held, &webhooks.Trigger{Outcome: webhooks.Returned, CallID: c.target.id})
}

// givenUp parts from the target because the partner has hung up.
func (c *consultation) givenUp() *webhooks.Trigger {
	c.s.part(c.with, partnerLeft)
	c.s.part(c.held, c.held.why)
	return c.s.failed(errors.New("the other party hung up"))
}

// hungUp reports whether it was this leg's own phone that ended it.
func (s *Session) hungUp() bool {
	cause := endOf(s.ctx).cause
	return cause == webhooks.CauseCallerHangup || cause == webhooks.CauseCalleeHangup
}

// playMusic lets a leg hear music instead of its partner.
func (s *Session) playMusic(to *Session) media.PlayID {
	music, ok := s.calls.cfg.Prompts.System("sys_hold", to.lang)
	if !ok {
		return 0
	}
	return to.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{music}, Loop: 0})
}

// handOver calls the target of a transfer that the partner in a bond has asked for, hearing it ring, and goes on with it.
// When the target does not take the call, the partner is spoken with again, if it is still there.
func (s *Session) handOver(h *handover, b *bond) {
	defer close(h.done)
	s.leg.Unbridge()
	outer, gone := s.parties, s.peerGone
	d := &dialing{Dial: &h.dial, s: s, from: s.partyName(), parties: make(chan party, 2)}
	d.ctx, d.cancel = context.WithCancelCause(s.ctx)
	s.parties, s.peerGone, s.inTalk = d.parties, nil, false
	defer func() {
		s.parties, s.peerGone, s.inTalk = outer, gone, true
		s.handing(false)
	}()
	d.play()
	d.call()
	target, t := d.await()
	s.leg.StopPlay(d.ringback)
	if t != nil {
		d.giveUp(t)
		h.callID, h.end, h.outcome = t.CallID, ended{cause: t.Cause, code: t.SIPCode}, t.Outcome
		if t.Outcome != webhooks.Hangup && t.Outcome != webhooks.Redirected && !b.isOver() && s.bonded() == b {
			if err := media.Bridge(s.leg, b.other(s).leg); err != nil {
				b.end(partnerLeft)
			}
		}
		return
	}
	target.detach()
	d.cancel(elsewhere())
	now := newBond(nil, s, target, b.refer)
	if b.owner == s {
		now.owner = s
	}
	h.callID = target.id
	if !s.trade(b, now) {
		target.cancel(partnerLeft)
		h.end = ended{cause: webhooks.CauseCanceled, text: "the other party is with somebody else"}
		return
	}
	target.enter(now)
	now.connect()
	h.ok = true
}
