package session

import (
	"context"
	"errors"

	"github.com/hookswitch/hookswitch/webhooks"
)

// retarget ends what rings for this leg's dial, and has the dial ring another instead, whose outcome is then its own.
func (s *Session) retarget(op *webhooks.OpRetarget) error {
	d := s.ringing
	switch {
	case d == nil && s.partner() != nil:
		return errors.New("the call speaks with somebody already; use transfer")
	case d == nil:
		return errors.New("nothing rings for this call: retarget is made to the call whose dial rings")
	case d.accepted():
		return errors.New("it has just been answered; use transfer")
	}
	d.cancel(ended{cause: webhooks.CauseCanceled, by: webhooks.EndedByAPI})
	s.leg.Unbridge() // from early audio of what rang
	dial := *d.Dial
	to := op.To
	to.Timeout = op.Timeout
	dial.To = []webhooks.DialTarget{to}
	d.Dial, d.parties = &dial, make(chan party, 2*len(dial.To))
	d.ctx, d.cancel = context.WithCancelCause(s.ctx)
	d.ringing, d.worst, d.last, d.machine = 0, ended{}, party{}, nil
	s.parties = d.parties
	if d.ringback == 0 {
		d.play()
	}
	d.call()
	return nil
}

// accepted reports whether there is news of a party that has accepted, which is left where it is.
func (d *dialing) accepted() bool {
	found := false
	for range len(d.parties) {
		p := <-d.parties
		found = found || p.state == partyAccepted
		d.parties <- p
	}
	return found
}
