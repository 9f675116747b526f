package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Picking up has a dial connect somebody else beside the phone that rings: a party that is called as well, or a leg that is up,
// which does this instead of its program. Whoever is there first is connected: when that is the one who picks up, the phone
// that has rung is told that it was answered elsewhere, and when it is not, that phone rings on.

var (
	errNotRinging = errors.New("the call does not ring: only the leg of a dial that rings can be picked up")
	errElsewhere  = errors.New("the call was answered elsewhere first")
)

// pick is one who is to pick up, until the dial has taken that one, or never will.
type pick struct {
	o     *acting
	rings *Session // that the op was made to
	state atomic.Int32
	lost  chan struct{} // closed when the dial will not take it
}

// States of a pick.
const (
	pickOffered int32 = iota
	pickTaken
	pickLost
)

// take is the dial's: it connects the one who picks up. False: that one is not there any more.
func (p *pick) take() bool {
	if !p.state.CompareAndSwap(pickOffered, pickTaken) {
		return false
	}
	p.o.made.Store(true) // before the leg ends that has rung
	return true
}

// lose says why nobody picks up, unless the dial has taken that one.
func (p *pick) lose(why error) {
	if p.state.CompareAndSwap(pickOffered, pickLost) {
		close(p.lost)
		p.rings.tellPick(p.o, why)
	}
}

// pickedUpBy has the dial by which this leg rings connect another instead.
func (s *Session) pickedUpBy(o *acting, op *webhooks.OpPickUp) error {
	d := s.rungBy
	if d == nil {
		return errNotRinging
	}
	id := webhooks.CallID(s.vars().Text(string(op.CallID)))
	p := &pick{o: o, rings: s, lost: make(chan struct{})}
	begin := func() { d.s.handToLeg(d, p, id) }
	if op.By != nil {
		to := s.filledIn(*op.By)
		begin = func() { d.callBeside(p, to) }
	}
	s.spawn(func() {
		select {
		case d.s.besides <- func() {
			if d.awaiting {
				begin()
				return
			}
			p.lose(errNotRinging)
		}:
		case <-s.ctx.Done():
		}
	})
	return errLater
}

// callBeside calls whom an op on a leg that rings has named, on the goroutine of the session that dials.
func (d *dialing) callBeside(p *pick, to webhooks.DialTarget) {
	dial := newDial(to)
	dial.CallerID, dial.CallerName, dial.Headers, dial.Timeout, dial.Refer = d.CallerID, d.CallerName, d.Headers, d.Timeout, d.Refer
	beside := &dialing{Dial: &dial, s: d.s, from: d.from, parties: make(chan party, 2)}
	beside.ctx, beside.cancel = context.WithCancelCause(d.ctx)
	call := beside.callee(to)
	ctx, parties := d.ctx, d.parties
	d.s.spawn(func() { d.s.callTarget(call) })
	d.s.spawn(func() {
		for news := range beside.parties {
			switch news.state {
			case partyGone:
				p.lose(notPicked(news))
				return
			case partyAccepted:
				news.pick = p
				select {
				case parties <- news:
				case <-ctx.Done(): // the leg ends with it, unless it is the one that was connected
				}
				return
			}
		}
	})
	context.AfterFunc(p.rings.ctx, func() { // ended otherwise
		if p.state.Load() != pickTaken {
			beside.cancel(endOf(p.rings.ctx))
		}
	})
}

// tellPick tells, on the leg's own goroutine, why nobody has picked up.
func (s *Session) tellPick(o *acting, why error) {
	s.calls.work.Go(func() { // not the leg's own, which may be at its end
		select {
		case s.besides <- func() { o.done(why) }:
		case <-s.ctx.Done():
		}
	})
}

func notPicked(p party) error {
	switch p.end.cause {
	case webhooks.CauseBusy:
		return errors.New("by: whoever was to pick up is busy")
	case webhooks.CauseDeclined:
		return errors.New("by: whoever was to pick up declined")
	case webhooks.CauseNoAnswer:
		return errors.New("by: whoever was to pick up did not answer")
	case webhooks.CauseCanceled:
		return errElsewhere
	}
	return fmt.Errorf("by: whoever was to pick up could not be reached: %w", p.end)
}

// takeUp is what a leg does that picks up what rings, as the one instruction of its program.
type takeUp struct {
	*webhooks.Pause // its attributes, which all have their defaults
	p               *pick
	offer           func(*Session)
}

// Verb returns the name that traces and journals show.
func (*takeUp) Verb() string { return "pick_up" }

// handToLeg has a leg that is up pick up what a dial of this one rings. It runs on this one's goroutine.
func (s *Session) handToLeg(d *dialing, p *pick, id webhooks.CallID) {
	offer := d.offer(p)
	context.AfterFunc(p.rings.ctx, func() { p.lose(errElsewhere) })
	other := s.calls.find(id)
	switch {
	case id == s.id || id == p.rings.id:
		p.lose(errors.New("call_id: a leg of the call itself cannot pick it up"))
	case other == nil:
		s.spawn(func() { s.borrowToPickUp(p, id, offer) })
	default:
		code := other.spare(s.account)
		i := &takeUp{Pause: new(webhooks.Pause), p: p, offer: offer}
		webhooks.Defaults(i.Pause)
		if code == 0 && !other.give(webhooks.Program{Instructions: []webhooks.Instruction{i}}) {
			code = lendBusy
		}
		if code != 0 {
			p.lose(notLent(id, code))
			return
		}
		context.AfterFunc(other.ctx, func() { p.lose(errOffDuty) })
	}
}

// offer is how a leg is offered to a dial as it is now. Whoever offers it has made it ready to be connected.
func (d *dialing) offer(p *pick) func(leg *Session) {
	ctx, parties, target := d.ctx, d.parties, d.To[0]
	return func(leg *Session) {
		leg.detach = context.AfterFunc(ctx, func() { p.lose(errElsewhere) })
		d.s.spawn(func() {
			select {
			case parties <- party{leg: leg, target: target, state: partyAccepted, pick: p}:
			case <-p.lost:
			}
		})
	}
}

// borrowToPickUp is that for a leg of another edge.
func (s *Session) borrowToPickUp(p *pick, id webhooks.CallID, offer func(*Session)) {
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	s.spawn(func() {
		select {
		case <-p.lost:
			stop()
		case <-ctx.Done():
		}
	})
	leg, err := s.borrow(ctx, id)
	if err != nil {
		p.lose(err)
		return
	}
	leg.deputy.pick, leg.deputy.until = p, p.lost
	offer(leg)
	s.station(leg)
}

// pickUpRinging waits until the dial has taken this leg, and speaks with whom that is of.
func (s *Session) pickUpRinging(i *takeUp) {
	p, before := i.p, s.bonded()
	s.mayBond()
	i.offer(s)
	s.inTalk, s.news = true, p.lost
	defer func() { s.inTalk, s.news = false, nil }()
	for s.bonded() == before {
		switch woke, e := s.wait(nil); woke {
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokeOrder:
			s.order.refuse()
		case wokeNews, wokeEnd:
			p.lose(errOffDuty)
			return
		case wokeAction:
			p.lose(errOffDuty)
			s.leave() // it takes no partner any more, whatever the dial has decided
			return
		}
	}
	s.news = nil
	s.talkInBond(webhooks.EndedByCaller)
}
