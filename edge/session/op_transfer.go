package session

import (
	"github.com/hookswitch/hookswitch/webhooks"
)

// handedOn is the end of a leg without a program of its own that has handed the other party on.
var handedOn = ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI, text: "the other party was transferred"}

// transferOther has the other party call the target. It is told of when that has been decided, which this leg need not
// wait for: it may hang up meanwhile.
func (s *Session) transferOther(o *acting, op *webhooks.OpTransfer) error {
	b, err := s.talk()
	if err != nil {
		return err
	}
	h := &handover{dial: s.dialFor(op.To, op.Timeout, op.CallerID), done: make(chan struct{})}
	if !b.claim() {
		return errEngaged
	}
	if !b.ask(s, order{handover: h}) {
		b.unclaim()
		return errEngaged
	}
	s.aloneAgain() // a hold ends: the other party hears the target ring
	o.elsewhere(func() error {
		<-h.done // the partner's goroutine closes it, whatever happens
		b.unclaim()
		switch {
		case h.ok:
			o.data.PeerCallID = h.callID
			s.followPeer(op.Peer)
			b.end(handedOn)
			return nil
		case h.err != nil:
			return h.err
		case h.refused:
			return errGone
		}
		return notTakenBy(h.outcome, h.end)
	})
	return errLater
}

// dialFor is a dial to the target of a live change, for any leg to make.
func (s *Session) dialFor(to webhooks.DialTarget, timeout webhooks.Seconds, callerID string) webhooks.Dial {
	d := newDial(s.filledIn(to))
	d.Timeout = timeout
	d.CallerID = s.vars().Text(callerID)
	return d
}
