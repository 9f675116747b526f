package session

import (
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// replace serves an INVITE that is to take the place of a call we have (RFC 3891 §3): the party of that call goes on with
// who sent it. A phone of the same account may do so, and nobody else.
func (c *Calls) replace(d *sip.Dialog, in control.Incoming, route control.Route, r sip.Replaces) {
	old := c.ofDialog(r)
	var b *bond
	if old != nil {
		b = old.bonded()
	}
	switch {
	case old == nil || old.account != route.AccountID:
		c.refuse(d, 481)
		return
	case in.CredentialID == "":
		c.refuse(d, 403)
		return
	case r.EarlyOnly: // RFC 3891 §3: it is answered
		c.refuse(d, 486)
		return
	case b == nil || b.isOver(): // it speaks with nobody but us
		c.refuse(d, 481)
		return
	}
	s := c.newSession(c.ctx, in.CallID, route.AccountID, route.Application, route.Language)
	s.call.Direction = webhooks.Inbound
	s.call.From, s.call.To, s.call.Dialed = route.From, route.To, route.Dialed
	s.call.FromName = in.FromName
	s.call.NumberID, s.call.TrunkID, s.call.CredentialID = route.NumberID, route.TrunkID, route.CredentialID
	s.call.AgentID = route.AgentID
	s.call.ConversationID = old.call.ConversationID
	s.guest = true
	if !c.admit(s) {
		s.dismiss()
		c.refuse(d, 503, retryAfter)
		return
	}
	defer c.work.Done()
	s.conduct(func() {
		defer s.leave()
		s.follow(d)
		s.emitInitiated()
		if err := s.offered(d.Body()); err != nil {
			s.cancel(mediaEnd(err))
			return
		}
		s.limit(route.TimeLimit)
		if s.answer(nil) {
			s.takePlace(old, b)
		}
	})
}

// takePlace goes on with the partner of another leg, which is hung up.
func (s *Session) takePlace(old *Session, was *bond) {
	partner := was.other(old)
	now := newBond(nil, partner, s, was.refer)
	if was.owner == partner {
		now.owner = partner
	}
	s.enter(now)
	if !partner.trade(was, now) {
		s.cancel(ended{cause: webhooks.CauseUnreachable, by: webhooks.EndedBySystem, text: "the call to be replaced is over"})
		return
	}
	now.connect()
	old.cancel(ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedBySystem, text: "replaced"})
	was.end(partnerLeft)
	s.attend()
}

// ofDialog is the live leg whose dialog is named; nil for none.
func (c *Calls) ofDialog(r sip.Replaces) *Session {
	c.mu.Lock()
	s := c.dialogs[r.DialogID()]
	c.mu.Unlock()
	if s == nil || !r.Names(s.dialog) {
		return nil
	}
	return s
}

// nameDialog makes a leg known by its dialog.
func (c *Calls) nameDialog(s *Session) {
	c.mu.Lock()
	c.dialogs[s.dialog.ID()] = s
	c.mu.Unlock()
}
