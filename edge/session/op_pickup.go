package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Picking up has a dial call somebody else beside the phone that rings. Whoever answers first is connected: when that is the
// one who picks up, the phone that has rung is told that it was answered elsewhere, and when it is not, that phone rings on.

var errNotRinging = errors.New("the call does not ring: only the leg of a dial that rings can be picked up")

// pickedUpBy has the dial by which this leg rings call a target as well.
func (s *Session) pickedUpBy(o *acting, op *webhooks.OpPickUp) error {
	d := s.rungBy
	switch {
	case d == nil:
		return errNotRinging
	case op.By == nil:
		return errors.New("call_id: a ringing call cannot be handed to a leg that is up; name with by whom to call")
	}
	to := s.filledIn(*op.By)
	s.spawn(func() {
		select {
		case d.s.besides <- func() { d.callBeside(s, o, to) }:
		case <-s.ctx.Done():
		}
	})
	return errLater
}

// callBeside calls whom an op on a leg that rings has named, on the goroutine of the session that dials.
func (d *dialing) callBeside(leg *Session, o *acting, to webhooks.DialTarget) {
	if !d.awaiting {
		leg.tellPick(o, errNotRinging)
		return
	}
	dial := newDial(to)
	dial.CallerID, dial.CallerName, dial.Headers, dial.Timeout, dial.Refer = d.CallerID, d.CallerName, d.Headers, d.Timeout, d.Refer
	beside := &dialing{Dial: &dial, s: d.s, from: d.from, parties: make(chan party, 2)}
	beside.ctx, beside.cancel = context.WithCancelCause(d.ctx)
	call := beside.callee(to)
	d.s.spawn(func() { d.s.callTarget(call) })
	d.s.spawn(func() {
		for p := range beside.parties {
			switch p.state {
			case partyGone:
				leg.tellPick(o, notPicked(p))
				return
			case partyAccepted:
				p.picks = o
				select {
				case d.parties <- p:
				case <-d.ctx.Done(): // the leg ends with it, unless it is the one that was connected
				}
				return
			}
		}
	})
	context.AfterFunc(leg.ctx, func() { beside.cancelUnpicked(o, leg) })
}

// cancelUnpicked ends the call to who was to pick up, when the leg that rang has ended otherwise.
func (d *dialing) cancelUnpicked(o *acting, leg *Session) {
	if !o.made.Load() {
		d.cancel(endOf(leg.ctx))
	}
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
		return errors.New("the call was answered elsewhere first")
	}
	return fmt.Errorf("by: whoever was to pick up could not be reached: %w", p.end)
}
