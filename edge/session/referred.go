package session

import (
	"context"
	"errors"

	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// REFER from a phone that speaks with somebody: its user presses "transfer". What becomes of it is the dial's to say, by its
// refer: without one it is declined and the talk goes on. With one
//
//   - a REFER of the party that was dialled ends the dial with the outcome referred, and the application that refer names
//     says what the caller goes on with; the party is hung up;
//   - a REFER of the one whose dial it is, or of a party that has been transferred before, has its partner call the target:
//     while it rings the partner hears that; when the target does not take the call, the two speak with each other again;
//   - an attended transfer (Replaces) between two calls of one phone on this edge connects the two other parties.
//
// Either way NOTIFYs tell the phone how it went (RFC 3515 §2.4.5), and it hangs up what it need not have any more.

// transferred is the end of a party without a program of its own whose phone has sent the other party elsewhere.
var transferred = ended{cause: webhooks.CauseCalleeHangup, by: webhooks.EndedByCallee, text: "transferred"}

// referReceived decides on a REFER. It runs on the dialog's goroutine.
func (s *Session) referReceived(r *sip.Referral) (code int) {
	b := s.bonded()
	switch {
	case b == nil || b.isOver() || b.refer == nil:
		s.log.Info("refer.declined", "replaces", r.Replaces != nil)
		return 603
	case r.Replaces != nil:
		return s.joinReferred(b, r)
	case b.owner != nil && b.owner != s:
		if !b.ask(s, order{referral: r}) {
			return 491
		}
		return 202
	}
	return s.handReferred(b, r)
}

// handReferred has the partner call the target.
func (s *Session) handReferred(b *bond, r *sip.Referral) (code int) {
	h := &handover{dial: newDial(referredTarget(r.To, s.dialogHost())), done: make(chan struct{})}
	if !b.ask(s, order{handover: h}) {
		return 491 // it is being transferred already
	}
	s.spawn(func() {
		select {
		case <-h.done: // the partner's goroutine closes it, whatever happens
		case <-s.ctx.Done(): // and nobody is left to be told
			return
		}
		if !h.ok {
			s.notifyReferral(r, notifyCode(h.end))
			return
		}
		s.notifyReferral(r, 200)
		b.endReferred(transferred, r.To.String())
	})
	return 202
}

// notifyCode is the status of a call that was not answered, for a NOTIFY.
func notifyCode(e ended) int {
	if e.code >= 300 {
		return e.code
	}
	if code := e.cause.Info().SIP; code >= 300 {
		return code
	}
	return 480
}

// joinReferred connects the two parties that a phone speaks with in two calls, when both are on this edge.
func (s *Session) joinReferred(b *bond, r *sip.Referral) (code int) {
	second := s.calls.ofDialog(*r.Replaces)
	if second == nil || second == s || !s.samePhone(second) {
		s.log.Info("refer.declined", "replaces", true)
		return 603
	}
	with := second.bonded()
	if with == nil || with.isOver() || with == b {
		return 603
	}
	if !rebind(b.other(s), b, with.other(second), with) {
		return 491
	}
	s.spawn(func() {
		s.notifyReferral(r, 200)
		b.endReferred(transferred, r.To.String())
		with.endReferred(transferred, r.To.String())
	})
	return 202
}

// samePhone reports whether another leg is of the same account and the same phone: only its own calls may be joined.
func (s *Session) samePhone(o *Session) bool {
	if s.account != o.account {
		return false
	}
	if s.call.CredentialID != "" && o.call.CredentialID != "" {
		return s.call.CredentialID == o.call.CredentialID
	}
	return s.dialog.RemoteAddr() == o.dialog.RemoteAddr()
}

// notifyReferral tells the phone how the new call went, and waits for its answer for a while.
func (s *Session) notifyReferral(r *sip.Referral, code int) {
	ctx, done := context.WithTimeout(s.ctx, notifyTime)
	defer done()
	if err := r.Notify(ctx, code, true); err != nil {
		s.log.Debug("refer.notify", "error", err.Error())
	}
}

// dialogHost is the host under which the peer knows us, and with that the people it may want to call.
func (s *Session) dialogHost() string {
	if s.dialog.Outbound() {
		return s.dialog.From().Host
	}
	return s.dialog.To().Host
}

// referredTarget is whom a REFER names, as a dial would: in the domain that we are in ourselves an extension or a number,
// else an address.
func referredTarget(to sip.URI, ours string) webhooks.DialTarget {
	switch {
	case to.Scheme == "tel":
		return webhooks.DialTarget{Number: to.User}
	case to.Host != ours:
		return webhooks.DialTarget{SIP: sip.URI{Scheme: "sip", User: to.User, Host: to.Host, Port: to.Port}.String()}
	case isExtension(to.User):
		return webhooks.DialTarget{Extension: to.User}
	}
	return webhooks.DialTarget{Number: to.User}
}

// isExtension tells an extension of 2–8 digits from a number.
func isExtension(user string) bool {
	if len(user) < 2 || len(user) > 8 {
		return false
	}
	for i := range len(user) {
		if user[i] < '0' || user[i] > '9' {
			return false
		}
	}
	return true
}

// referral is a REFER of the party that was dialled, until the application has said what the caller goes on with.
type referral struct {
	*sip.Referral
	by   *Session
	bond *bond
}

// referredBy is the outcome of a dial whose party has sent a REFER.
func (s *Session) referredBy(r *sip.Referral, b *bond) *webhooks.Trigger {
	s.aloneAgain()
	s.referral = &referral{Referral: r, by: b.other(s), bond: b}
	return &webhooks.Trigger{
		Outcome: webhooks.Referred, ReferTo: r.To.String(), EndedBy: webhooks.EndedByCallee, Cause: webhooks.CauseCalleeHangup,
	}
}

// followReferral asks the application what the caller goes on with: on.referred of the dial, else its refer.
func (s *Session) followReferral(i webhooks.Instruction, t *webhooks.Trigger) {
	target := i.(*webhooks.Dial).Refer
	if sub, ok := i.Common().On[string(webhooks.Referred)]; ok {
		if sub.Target == nil {
			s.rest = append(append([]webhooks.Instruction{}, sub.Instructions...), s.rest...)
			s.settleReferral(200)
			return
		}
		target = sub.Target
	}
	got, err := s.ask(s.ctx, webhooks.ReasonAction, *target, t)
	switch {
	case err == nil:
		s.replace(got.program, got.base)
		s.settleReferral(200)
	case errors.Is(err, errInterrupted): // nothing was decided: see outcome
		s.rest = nil
	default: // the phone need not wait until the failure path has been heard
		s.settleReferral(503)
		s.failurePath(err)
	}
}

// settleReferral tells the phone that sent the REFER what became of it, and hangs up on it: because it has sent the other
// elsewhere, or because that has hung up or been given another program before it was decided where to.
func (s *Session) settleReferral(code int) {
	r, why := s.referral, transferred
	s.referral = nil
	if r == nil {
		return
	}
	switch {
	case s.ctx.Err() != nil:
		why = s.leaving()
	case s.pending != nil:
		why = ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByAPI}
		s.peerOf(r.bond)
	}
	if s.fenced() && r.by.guestIn(r.bond) { // who takes a call over takes both its legs
		r.by.fence()
		return
	}
	s.spawn(func() {
		r.by.notifyReferral(r.Referral, code)
		r.by.cancel(why)
		r.bond.end(why)
	})
}
