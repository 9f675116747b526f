package session

import (
	"context"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// parkIn is the instruction park in a slot that is given already, so that nobody is taken out of a talk for a slot that
// cannot be had.
type parkIn struct {
	*webhooks.Park
	id    string // of the stay
	given control.Parked
	began chan struct{} // closed when it runs
}

// parkedBy is the stay of a call that a live change to another has parked.
func (s *Session) parkedBy(i parkIn) *webhooks.Trigger {
	close(i.began)
	s.dropTyped()
	return s.stayIn(i.id, i.given)
}

// parkOther puts the other party into a slot. The leg speaks with it until the slot is given.
func (s *Session) parkOther(o *acting, op *webhooks.OpPark) error {
	b, err := s.talk()
	if err != nil {
		return err
	}
	if !b.claim() {
		return errEngaged
	}
	sent := *op
	sent.Slot = s.vars().Text(op.Slot)
	o.data.PeerCallID = b.other(s).who()
	o.elsewhere(func() (err error) {
		defer b.unclaim()
		o.data.Slot, err = s.parkPartner(b, &sent)
		return err
	})
	return errLater
}

// parkPartner puts the partner in a bond into a slot, and returns that. Any goroutine may call it, and waits.
func (s *Session) parkPartner(b *bond, op *webhooks.OpPark) (slot string, err error) {
	partner, id := b.other(s), webhooks.NewID("park")
	if partner.deputy != nil {
		done := partner.deputy.inquire(webhooks.Action{Op: op})
		return done.Slot, done.err()
	}
	q := control.Park{
		Owner: control.Owner{EdgeID: s.calls.cfg.EdgeID, BootID: s.calls.cfg.BootID, Epoch: 1, AccountID: s.account, CallID: partner.id},
		ID:    id, Slot: op.Slot,
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(s.ctx), inquiryTime)
	given, err := s.calls.cfg.Control.Park(ctx, q)
	done()
	if err != nil {
		if control.CodeOf(err) == "" { // it may have been given
			s.spawn(func() { s.leaveSlot(id) })
		}
		return "", refusal(err)
	}
	i := parkIn{Park: &webhooks.Park{Slot: given.Slot}, id: id, given: given, began: make(chan struct{})}
	if !partner.sent(b, i, i.began, op.Peer) {
		s.spawn(func() { s.leaveSlot(id) })
		return "", errGone
	}
	return given.Slot, nil
}

// sent has a leg leave a bond for an instruction, and waits until that runs; peer is for whom it leaves. False: it never does,
// because the leg is not in that bond any more, or at its end.
func (s *Session) sent(b *bond, i webhooks.Instruction, began <-chan struct{}, peer webhooks.Peer) bool {
	p := webhooks.Program{Instructions: []webhooks.Instruction{i}}
	if b.isOver() || s.bonded() != b || !s.change(webhooks.Action{Program: &p, Peer: peer}) {
		return false
	}
	select {
	case <-began:
		return true
	case <-s.ctx.Done():
		return closed(began)
	}
}
