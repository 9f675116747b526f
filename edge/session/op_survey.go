package session

import (
	"context"
	"errors"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// surveyNow is the instruction survey on behalf of a live change, which reads at the end of one channel or the other
// whether it has begun. One that cannot be had has not.
type surveyNow struct {
	*webhooks.Survey
	began  chan struct{} // closed when it has
	failed chan error    // why it has not; it holds one
}

func newSurveyNow(i *webhooks.Survey) surveyNow {
	return surveyNow{i, make(chan struct{}), make(chan error, 1)}
}

// surveyedBy asks the caller how it was, because a live change says so.
func (s *Session) surveyedBy(i surveyNow) *webhooks.Trigger {
	t := s.surveyFrom(i.Survey, func() { close(i.began) })
	switch {
	case closed(i.began):
	case t.Error != "":
		i.failed <- errors.New(t.Error)
	case s.ctx.Err() == nil:
		i.failed <- errors.New("another change came before the survey could begin")
	}
	return t
}

// wait waits until it has begun on a leg, or never will; left is the error where the leg ends before.
func (i surveyNow) wait(of *Session, left error) error {
	select {
	case <-i.began:
		return nil
	case err := <-i.failed:
		return err
	case <-of.ctx.Done():
		if closed(i.began) {
			return nil
		}
		return left
	}
}

// surveyAsk is a survey that waits for this leg to leave.
type surveyAsk struct {
	o      *acting
	survey *webhooks.Survey
}

// surveyOther hands the one who called to a survey: this leg at once when it is that one, else its partner when this leg
// leaves. The op is completed when the survey begins. Nobody is taken out of a talk for a survey that there is not.
func (s *Session) surveyOther(o *acting, op *webhooks.OpSurvey) error {
	b, err := s.talk()
	if err != nil {
		return err
	}
	i := newSurveyNow(&webhooks.Survey{SurveyID: s.vars().Text(op.SurveyID), Invite: s.promptElsewhere(op.Invite)})
	if !s.isCallers(b) {
		o.data.PeerCallID = b.other(s).who()
		s.surveys = append(s.surveys, &surveyAsk{o, i.Survey})
		return errLater
	}
	q := control.SurveyQuery{AccountID: s.account, Survey: i.SurveyID}
	o.elsewhere(func() error {
		ctx, done := context.WithTimeout(s.ctx, inquiryTime)
		_, err := s.calls.cfg.Control.Survey(ctx, q)
		done()
		switch {
		case control.CodeOf(err) != "": // when nobody can be asked, it may be known from before
			return refusal(err)
		case s.ctx.Err() != nil:
			return errTooLate
		case b.isOver() || s.bonded() != b || !s.give(webhooks.Program{Instructions: []webhooks.Instruction{i}}):
			return errGone
		}
		return i.wait(s, errTooLate)
	})
	return errLater
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
		ask.o.elsewhere(partner.sendToSurvey(b, ask.survey))
	}
}

// sendToSurvey hands the leg to a survey, when it leaves a bond that it is in. The function that is returned waits until that
// has begun, or cannot.
func (s *Session) sendToSurvey(b *bond, survey *webhooks.Survey) (wait func() error) {
	gone := func() error { return errGone }
	if s.bonded() != b {
		return gone
	}
	if p := s.deputy; p != nil {
		got := make(chan answered, 1)
		p.ask(webhooks.Action{Op: &webhooks.OpSurvey{SurveyID: survey.SurveyID, Invite: survey.Invite}}, func(a answered) { got <- a })
		return func() error { return (<-got).err() }
	}
	i := newSurveyNow(survey)
	if !s.give(webhooks.Program{Instructions: []webhooks.Instruction{i}}) {
		return gone
	}
	return func() error { return i.wait(s, errGone) }
}
