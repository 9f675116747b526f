package session

import (
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/webhooks"
)

// The ops of a live change that hand whom a leg speaks with to somebody else, or bring somebody else in:
//
//   - transfer: the other party calls the target, as for a blind transfer by REFER. When the target does not take the call
//     the two speak again, and the op has failed.
//   - consult, and with it complete, cancel, merge and drop: see aside.
//   - park: the other party goes into a slot; survey: to a survey.
//
// They are made where two legs share a bond and the leg does nothing but speak: not in a conference, not while the leg or
// its partner is handing on, or is being handed on, already. Who is carried by another edge has a deputy in the bond.

var (
	errEngaged    = errors.New("the call or the other party is in the middle of a transfer or a consultation; wait until that is over")
	errGone       = errors.New("the other party is not there any more")
	errConference = errors.New("the call is in a conference, whose participants cannot be handed on; make the change to the call of the one who is meant")
	errNoAside    = errors.New("the call consults nobody")
)

// actOnTalk makes an op that concerns the talk of a leg; false: it is no such op.
func (s *Session) actOnTalk(o *acting, op webhooks.Op) (made bool, err error) {
	switch op := op.(type) {
	case *webhooks.OpTransfer:
		err = s.transferOther(o, op)
	case *webhooks.OpConsult:
		err = s.consultOther(o, op)
	case *webhooks.OpComplete:
		err = s.completeAside(o)
	case *webhooks.OpCancel:
		err = s.cancelAside(o)
	case *webhooks.OpMerge:
		err = s.mergeAside(o)
	case *webhooks.OpDrop:
		if s.participant != nil {
			return false, nil
		}
		err = s.drop(o, op)
	case *webhooks.OpPark:
		err = s.parkOther(o, op)
	case *webhooks.OpSurvey:
		err = s.surveyOther(o, op)
	default:
		return false, nil
	}
	return true, err
}

// talk is the bond that such an op is made in.
func (s *Session) talk() (*bond, error) {
	b := s.bonded()
	switch {
	case s.participant != nil:
		return nil, errConference
	case s.aside != nil:
		return nil, errEngaged
	case b == nil || b.isOver():
		return nil, errNobody
	case !s.inTalk || b.claimed.Load():
		return nil, errEngaged
	}
	return b, nil
}

// elsewhere has another goroutine tell what becomes of the op, also when the call is over by then: what it asks for goes
// on without this leg.
func (o *acting) elsewhere(wait func() error) {
	o.away = true
	o.s.spawn(func() { o.done(wait()) })
}

// notTaken is why a target does not speak with whom it was called for.
type notTaken struct {
	cause webhooks.Cause
	text  string
}

func (e *notTaken) Error() string { return e.text }

// notTakenBy is that for an end, and for the outcome of calling it where there is one.
func notTakenBy(outcome webhooks.Outcome, end ended) error {
	text := "the target could not be reached"
	switch {
	case outcome == webhooks.Hangup:
		return errGone
	case outcome == webhooks.Redirected:
		return errors.New("another change has given the other party something else to do")
	case outcome == webhooks.Machine:
		text = "a machine answered at the target"
	case end.cause == webhooks.CauseBusy:
		text = "the target is busy"
	case end.cause == webhooks.CauseNoAnswer:
		text = "the target does not answer"
	case end.cause == webhooks.CauseDeclined || end.cause == webhooks.CauseCalleeHangup:
		text = "the target declined"
	case end.cause == webhooks.CauseNotAllowed:
		text = "the target may not be called"
	case end.cause == webhooks.CauseNotFound:
		text = "there is no such target"
	case end.cause == webhooks.CauseCanceled:
		text = "the call to the target was given up"
	}
	if end.code > 0 {
		text = fmt.Sprintf("%s (SIP %d)", text, end.code)
	}
	if end.cause == "" {
		return errors.New(text)
	}
	return &notTaken{end.cause, text}
}
