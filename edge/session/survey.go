package session

import (
	"fmt"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// surveyKeys are the keys that a question can be answered with: one of them in the invitation is the first answer.
const surveyKeys = "0123456789*#ABCD"

// survey asks the caller how it was. It is answered when every question is; the first that gets no answer ends it, as
// skipped. What comes of it is kept from its one survey.completed: see control.Verbs.
func (s *Session) survey(i *webhooks.Survey) *webhooks.Trigger { return s.surveyFrom(i, func() {}) }

// surveyFrom is survey; begins is called when it is known and the first question is about to be asked.
func (s *Session) surveyFrom(i *webhooks.Survey, begins func()) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	q := control.SurveyQuery{AccountID: s.account, Survey: s.vars().Text(i.SurveyID)}
	v, known, t, err := remembered(s, q, s.calls.cfg.Control.Survey)
	switch {
	case t != nil:
		return t
	case err != nil:
		return s.failed(refusal(err))
	case !known:
		return s.failed(errAway)
	case len(v.Questions) == 0:
		return s.failed(fmt.Errorf("the survey %s has no questions", v.ID))
	}
	begins()
	answers := map[string]any{}
	t = s.questions(i, v, answers)
	if len(answers) > 0 {
		t.Answers = answers
	}
	s.emit(webhooks.EventSurveyCompleted, webhooks.EventData{
		Instruction: i.ID, SurveyID: v.ID, SurveyVersion: v.Version, Outcome: t.Outcome, Answers: t.Answers,
		AgentID: s.call.AgentID, QueueID: s.call.QueueID,
	})
	if t.Outcome == webhooks.Answered {
		s.thank(v.Thanks)
	}
	return t
}

// questions asks them in turn and puts what is answered into answers.
func (s *Session) questions(i *webhooks.Survey, v control.Survey, answers map[string]any) *webhooks.Trigger {
	s.dropTyped()
	invite := i.Invite
	if invite == nil {
		invite = subOf(v.Invite)
	}
	if t := s.invitation(invite); t != nil {
		return t
	}
	for _, question := range v.Questions {
		got := s.attempts(gatherOf(question))
		switch got.Outcome {
		case webhooks.Digits:
			answers[question.Name] = got.Digits
		case webhooks.Timeout, webhooks.Invalid:
			return &webhooks.Trigger{Outcome: webhooks.Skipped}
		default:
			return &webhooks.Trigger{Outcome: got.Outcome, Error: got.Error}
		}
	}
	return &webhooks.Trigger{Outcome: webhooks.Answered}
}

// invitation plays what comes before the questions. Whoever knows them answers the first through it.
func (s *Session) invitation(invite *webhooks.Sub) *webhooks.Trigger {
	if invite == nil {
		return nil
	}
	prompts, t := s.prompts([]*webhooks.Sub{invite})
	if t != nil {
		return t
	}
	return s.hear(prompts, surveyKeys)
}

// gatherOf is a question as the gather that asks it.
func gatherOf(q control.SurveyQuestion) *webhooks.Gather {
	return &webhooks.Gather{
		NumDigits: 1, MinDigits: 1, Timeout: q.Timeout, BargeIn: true, Attempts: max(1, q.Attempts), Valid: "[" + q.Keys + "]",
		Prompt: subOf(q.Prompt), InvalidPrompt: subOf(q.InvalidPrompt),
	}
}

// thank plays what comes after the last answer. The answers are safe: what becomes of it no longer matters to them.
func (s *Session) thank(thanks *webhooks.Program) {
	if thanks == nil {
		return
	}
	prompts, t := s.prompts([]*webhooks.Sub{subOf(thanks)})
	if t == nil {
		s.hear(prompts, surveyKeys)
		return
	}
	s.log.Info("survey.thanks", "error", t.Error)
}
