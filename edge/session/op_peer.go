package session

import (
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// replaced parts from a partner because a live change takes the place of what the leg runs.
func (s *Session) replaced(b *bond) {
	s.peerOf(b)
	s.part(b, ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByAPI})
}

// peerOf does what the live change that is to be made says of the partner in a bond, before the two part: it hangs it up,
// or gives it a program. When it says nothing, the partner goes on as when this leg had hung up.
func (s *Session) peerOf(b *bond) {
	if b == nil || s.pending == nil {
		return
	}
	partner := b.other(s)
	switch p := s.pending.Change.Peer; {
	case p.HangUp:
		partner.cancel(ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI})
	case p.Instructions != nil:
		partner.give(webhooks.Program{Instructions: p.Instructions})
	}
}

// give has a leg run a program instead of what it runs, because of a change to another leg, which tells of it. False: it
// cannot be given one, and goes on as it is.
func (s *Session) give(p webhooks.Program) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.ctx.Err() != nil {
		return false
	}
	select {
	case s.actions <- control.Action{AccountID: s.account, CallID: s.id, Change: webhooks.Action{Program: &p}}:
		s.guest = false // it lives by its program
		return true
	default:
		return false
	}
}
