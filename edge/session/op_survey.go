package session

import (
	"errors"

	"github.com/hookswitch/hookswitch/webhooks"
)

// surveyNow is the instruction survey on behalf of a live change.
type surveyNow struct {
	*webhooks.Survey
	began chan struct{} // closed when it runs
}

// surveyedBy asks the caller how it was, because a live change says so.
func (s *Session) surveyedBy(i surveyNow) *webhooks.Trigger {
	close(i.began)
	return s.survey(i.Survey)
}

// surveyAsk is a survey that waits for this leg to leave.
type surveyAsk struct {
	o      *acting
	survey *webhooks.Survey
}

// surveyOther hands the one who called to a survey: this leg at once when it is that one, else its partner when this leg
// leaves. The op is completed when the survey begins.
func (s *Session) surveyOther(o *acting, op *webhooks.OpSurvey) error {
	b, err := s.talk()
	if err != nil {
		return err
	}
	i := &webhooks.Survey{SurveyID: s.vars().Text(op.SurveyID), Invite: s.promptElsewhere(op.Invite)}
	if !s.isCallers(b) {
		o.data.PeerCallID = b.other(s).id
		s.surveys = append(s.surveys, &surveyAsk{o, i})
		return errLater
	}
	began := make(chan struct{})
	if !s.give(webhooks.Program{Instructions: []webhooks.Instruction{surveyNow{i, began}}}) {
		return errors.New("the call has too many changes waiting; try again when one has completed")
	}
	return o.elsewhere(func() error {
		select {
		case <-began:
			return nil
		case <-s.ctx.Done():
			if closed(began) {
				return nil
			}
			return errTooLate
		}
	})
}

// isCallers reports whether the talk is this leg's: it has dialled the other, or has waited for it in a queue.
func (s *Session) isCallers(b *bond) bool {
	return b.owner == s || b.owner == nil && s.noting.verb == "enqueue"
}

// promptElsewhere is a prompt for another leg to get.
func (s *Session) promptElsewhere(sub *webhooks.Sub) *webhooks.Sub {
	if sub == nil || sub.Target == nil {
		return sub
	}
	target := *sub.Target
	target.URL = s.resolve(s.vars().URL(target.URL))
	return &webhooks.Sub{Target: &target}
}

// surveyAfter hands the partner in a bond, which this leg leaves, to the survey that a live change has asked for. Nobody is
// there for one when the partner has left first, or when the change that this leg goes on with has other plans for it.
func (s *Session) surveyAfter(b *bond) {
	asked := s.surveys
	s.surveys = nil
	if s.fenced() { // the process that has the call now has the other party as well
		return
	}
	partner := b.other(s)
	for n, ask := range asked {
		switch {
		case ask.o.told:
			continue
		case n < len(asked)-1:
			ask.o.done(errors.New("another survey was asked for after it"))
			continue
		case b.isOver() || s.pending != nil && (s.pending.Change.Peer.HangUp || s.pending.Change.Peer.Instructions != nil):
			ask.o.done(errGone)
			continue
		}
		i := surveyNow{ask.survey, make(chan struct{})}
		if partner.bonded() != b || !partner.give(webhooks.Program{Instructions: []webhooks.Instruction{i}}) {
			ask.o.done(errGone)
			continue
		}
		ask.o.elsewhere(func() error { //nolint:errcheck // it is told of by then
			select {
			case <-i.began:
				return nil
			case <-partner.ctx.Done():
				if closed(i.began) {
					return nil
				}
				return errGone
			}
		})
	}
}
