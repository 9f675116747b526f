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
	b.other(s).followPeer(s.pending.Change.Peer)
}

// followPeer does what a live change to another leg says of this one.
func (s *Session) followPeer(p webhooks.Peer) {
	switch {
	case p.HangUp:
		s.endBy(ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI})
	case p.Instructions != nil && !s.give(webhooks.Program{Instructions: p.Instructions}):
		s.log.Warn("op.peer", "detail", "it takes no program, and goes on as if the other had hung up")
	}
}

// give has a leg run a program instead of what it runs, because of a change to another leg, which tells of it. False: it
// cannot be given one, and goes on as it is.
func (s *Session) give(p webhooks.Program) bool { return s.change(webhooks.Action{Program: &p}) }

// change is give with what the partner does then.
func (s *Session) change(a webhooks.Action) bool {
	if s.deputy != nil {
		return s.ctx.Err() == nil && s.deputy.say(talkWord{Change: &a})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.ctx.Err() != nil {
		return false
	}
	select {
	case s.actions <- control.Action{AccountID: s.account, CallID: s.id, Change: a}:
		s.guest = false // it lives by its program
		return true
	default:
		return false
	}
}
