package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sdp"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A live change may name a leg that is up and is carried by another edge, to supervise a talk or to pick up what rings here.
// That edge lends it: the leg does, instead of its program, what this edge wants, over a link, and a deputy does it here.

// Why an edge does not lend a leg, as the status of its answer.
const (
	lendNone       = 404 // it has no such call
	lendUnanswered = 480
	lendSpeaks     = 486 // with somebody else
	lendBusy       = 491 // with changes
)

// notLent says why a leg cannot be had.
func notLent(id webhooks.CallID, code int) error {
	switch code {
	case lendUnanswered:
		return fmt.Errorf("call_id: the call %s is not answered yet", id)
	case lendSpeaks:
		return fmt.Errorf("call_id: the call %s speaks with somebody else", id)
	case lendBusy:
		return fmt.Errorf("call_id: the call %s takes no change at the moment", id)
	}
	return fmt.Errorf("call_id: no call %s is live", id)
}

// spare says whether a leg can be had for something else than its program: 0, or the code why not.
func (s *Session) spare(account webhooks.AccountID) (code int) {
	switch {
	case s == nil || s.account != account:
		return lendNone
	case !s.answered():
		return lendUnanswered
	}
	if b := s.bonded(); b != nil && !b.isOver() {
		return lendSpeaks
	}
	return 0
}

// borrow has a deputy of this edge be what a leg of another is. It waits until that is so.
func (s *Session) borrow(ctx context.Context, id webhooks.CallID) (*Session, error) {
	ctx, done := context.WithTimeout(ctx, linkTime)
	defer done()
	q := control.LegQuery{EdgeID: s.calls.cfg.EdgeID, AccountID: s.account, CallID: s.id, Leg: id}
	found, err := s.calls.cfg.Control.FindLeg(ctx, q)
	switch {
	case control.CodeOf(err) == control.CodeNotFound, err == nil && found.EdgeID == s.calls.cfg.EdgeID:
		return nil, notLent(id, lendNone)
	case err != nil:
		return nil, refusal(err)
	case !found.SIP.IsValid():
		return nil, fmt.Errorf("call_id: nobody knows where the edge is reached that carries the call %s", id)
	}
	d, err := s.openDeputy(id, found.SIP.Addr(), s.codecs())
	if err != nil {
		return nil, fmt.Errorf("no audio can be set up: %w", err)
	}
	dialog, err := s.calls.callEdge(ctx, found.SIP, control.LinkLeg, found.Ticket, d.deputy.link)
	if err == nil {
		err = d.deputy.reach(dialog)
	}
	if err == nil {
		err = d.deputy.greet(ctx)
	}
	if err == nil {
		return d, nil
	}
	s.dismissDeputy(d)
	if rejected, ok := errors.AsType[*sip.RejectedError](err); ok && rejected.Code < 500 {
		return nil, notLent(id, rejected.Code)
	}
	return nil, fmt.Errorf("call_id: the edge that carries the call %s could not be reached: %w", id, err)
}

// callEdge calls another edge.
func (c *Calls) callEdge(ctx context.Context, at netip.AddrPort, kind, right string, l *link) (*sip.Dialog, error) {
	return c.cfg.Invite(ctx, sip.InviteConfig{
		URI: "sip:" + kind + "@" + at.String(), Transport: "udp", Destination: at,
		From:    sip.Party{User: "edge", Host: c.cfg.MediaAddr(at.Addr()).String()},
		Headers: []sip.Header{{Name: linkHeader, Value: kind + " " + right}},
		Body:    sdp.Offer(l.local),
	})
}

// lent is what a leg does that another edge has borrowed, as the one instruction of its program.
type lent struct {
	*webhooks.Pause // its attributes, which all have their defaults
	dialog          *sip.Dialog
	by              webhooks.CallID // for which leg
	taken           atomic.Bool     // it runs, or is not to run any more
	served          chan struct{}   // closed when the link is over
}

// Verb returns the name that traces and journals show.
func (*lent) Verb() string { return "assist" }

// lend serves the INVITE of another edge that needs a leg of this one, until the link is over.
func (c *Calls) lend(d *sip.Dialog, of control.Link) {
	s := c.find(webhooks.CallID(of.Name))
	if code := s.spare(of.AccountID); code != 0 {
		c.refuse(d, code)
		return
	}
	i := &lent{Pause: new(webhooks.Pause), dialog: d, by: of.CallID, served: make(chan struct{})}
	webhooks.Defaults(i.Pause)
	if !s.give(webhooks.Program{Instructions: []webhooks.Instruction{i}}) {
		c.refuse(d, lendBusy)
		return
	}
	limit := time.NewTimer(dutyTime)
	defer limit.Stop()
	select {
	case <-i.served:
		return
	case <-s.ctx.Done():
	case <-d.Context().Done():
	case <-limit.C:
	}
	if i.taken.CompareAndSwap(false, true) { // it does something else by now
		c.refuse(d, lendBusy)
		return
	}
	<-i.served
}

// assist is what a leg does for another edge, until that wants no more of it or the leg is to do something else.
func (s *Session) assist(i *lent) {
	if !i.taken.CompareAndSwap(false, true) {
		return
	}
	d, err := s.answerDeputy(i.by, i.dialog)
	if err != nil {
		defer close(i.served)
		s.log.Warn("lend.link", "error", err.Error())
		s.calls.refuse(i.dialog, 488)
		return
	}
	s.spawn(func() {
		<-d.deputy.over
		close(i.served)
	})
	d.deputy.link.follow(i.dialog)
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	s.meetOver(d)
	s.talkInBond("")
}
