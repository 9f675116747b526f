// Package survey owns surveys, in versions, and what callers have answered: which agent and queue each answer is about,
// and that it is there once. Asking is left to the edges.
//
// A response is made from the one survey.completed of its call, in the transaction that stores that event, and named after
// it: so it survives an absence of the control plane in the edge's spool, and is made once.
package survey

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Survey is questions for callers, as they are now.
type Survey struct {
	bun.BaseModel `bun:"table:surveys" json:"-"`
	db.Row
	// Version counts the changes of Asked, from 1.
	Version int `bun:"version" json:"version"`
	Draft
}

// Draft is what a caller may write and change.
type Draft struct {
	Name    string `bun:"name" json:"name"` // 1–64 characters, unique in the account
	Enabled bool   `bun:"enabled" json:"enabled"`
	Asked
}

// Asked is what callers hear and answer. The programs are of say, play and pause, and kept as they were given.
type Asked struct {
	Invite    json.RawMessage `bun:"invite,type:jsonb,nullzero" json:"invite,omitempty"` // before the questions
	Thanks    json.RawMessage `bun:"thanks,type:jsonb,nullzero" json:"thanks,omitempty"` // when all are answered
	Questions []Question      `bun:"questions,type:jsonb" json:"questions"`
}

// Question is answered by one key.
type Question struct {
	Name          string          `json:"name"`            // of the answer: small letters, digits and _, unique in the survey
	Label         string          `json:"label,omitempty"` // for reports
	Prompt        json.RawMessage `json:"prompt"`
	InvalidPrompt json.RawMessage `json:"invalid_prompt,omitempty"` // after a key that is no answer
	Options       []Option        `json:"options"`
	Attempts      int             `json:"attempts,omitempty"` // in which it is asked
	Timeout       float64         `json:"timeout,omitempty"`  // seconds
}

// Option is one answer.
type Option struct {
	Key   string   `json:"key"`
	Label string   `json:"label,omitempty"`
	Score *float64 `json:"score,omitempty"` // −1,000 to 1,000
}

// Version is what a survey has asked from one change to the next. It never changes.
type Version struct {
	bun.BaseModel `bun:"table:survey_versions" json:"-"`
	db.Row
	SurveyID string `bun:"survey_id" json:"survey_id"`
	Version  int    `bun:"version" json:"version"`
	Asked
}

// Response is what a caller has answered. Its owner is the agent's user, its department the one the user was in then.
type Response struct {
	bun.BaseModel `bun:"table:survey_responses" json:"-"`
	db.Row
	db.Owned

	SurveyID       string                  `bun:"survey_id" json:"survey_id"`
	SurveyVersion  int                     `bun:"survey_version" json:"survey_version"`
	CallID         webhooks.CallID         `bun:"call_id" json:"call_id"`
	ConversationID webhooks.ConversationID `bun:"conversation_id,nullzero" json:"conversation_id,omitempty"`
	AgentID        webhooks.AgentID        `bun:"agent_id,nullzero" json:"agent_id,omitempty"` // who has spoken with the caller
	QueueID        webhooks.QueueID        `bun:"queue_id,nullzero" json:"queue_id,omitempty"`
	From           string                  `bun:"from,nullzero" json:"from,omitempty"` // the caller
	Outcome        webhooks.Outcome        `bun:"outcome" json:"outcome"`
	Answers        []Answer                `bun:"answers,type:jsonb" json:"answers"`
	Score          *float64                `bun:"score" json:"score,omitempty"` // the mean of the answers' scores
	CompletedAt    time.Time               `bun:"completed_at" json:"completed_at"`
}

// Answer is one question's.
type Answer struct {
	Question string   `json:"question"` // its name
	Key      string   `json:"key"`
	Label    string   `json:"label,omitempty"`
	Score    *float64 `json:"score,omitempty"`
}

// Bounds of a survey.
const (
	maxName      = 64
	maxLabel     = 100
	maxQuestions = 20
	maxOptions   = 12
	maxAttempts  = 5
	maxTimeout   = 60
	maxScore     = 1000
	// What a question has that does not say.
	usualAttempts = 2
	usualTimeout  = 5
)

// idPrefix begins an id, and so no name: either is given where a survey is wanted.
const idPrefix = "sur_"

var (
	names = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	keys  = regexp.MustCompile(`^[0-9*#]$`)
)

// Check refuses what no survey can be, and puts in what a question may leave out.
func (d *Draft) Check() error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case strings.HasPrefix(d.Name, idPrefix):
		return problem.InvalidField("/name", "pattern", "must not begin with %s, as ids do", idPrefix)
	case len(d.Questions) == 0:
		return problem.InvalidField("/questions", "minItems", "must have at least one")
	case len(d.Questions) > maxQuestions:
		return problem.InvalidField("/questions", "maxItems", "may have at most %d, has %d", maxQuestions, len(d.Questions))
	}
	seen := map[string]bool{}
	for i := range d.Questions {
		at := fmt.Sprintf("/questions/%d", i)
		if err := d.Questions[i].check(at); err != nil {
			return err
		}
		if seen[d.Questions[i].Name] {
			return problem.InvalidField(at+"/name", "duplicate", "another question has the name %q", d.Questions[i].Name)
		}
		seen[d.Questions[i].Name] = true
	}
	_, err := d.programs()
	return err
}

func (q *Question) check(at string) error {
	if q.Attempts == 0 {
		q.Attempts = usualAttempts
	}
	if q.Timeout == 0 {
		q.Timeout = usualTimeout
	}
	switch {
	case !names.MatchString(q.Name):
		return problem.InvalidField(at+"/name", "pattern", "must be small letters, digits and _, beginning with a letter, is %q", q.Name)
	case len([]rune(q.Label)) > maxLabel:
		return problem.InvalidField(at+"/label", "maxLength", "may have at most %d characters", maxLabel)
	case q.Attempts < 1 || q.Attempts > maxAttempts:
		return problem.InvalidField(at+"/attempts", "range", "must be 1–%d, is %d", maxAttempts, q.Attempts)
	case !(q.Timeout >= 1 && q.Timeout <= maxTimeout):
		return problem.InvalidField(at+"/timeout", "range", "must be 1–%d seconds, is %g", maxTimeout, q.Timeout)
	case len(q.Options) == 0:
		return problem.InvalidField(at+"/options", "minItems", "must have at least one")
	case len(q.Options) > maxOptions:
		return problem.InvalidField(at+"/options", "maxItems", "may have at most %d, has %d", maxOptions, len(q.Options))
	}
	seen := map[string]bool{}
	for i, o := range q.Options {
		here := fmt.Sprintf("%s/options/%d", at, i)
		switch {
		case !keys.MatchString(o.Key):
			return problem.InvalidField(here+"/key", "pattern", "must be one key of 0–9, * and #, is %q", o.Key)
		case seen[o.Key]:
			return problem.InvalidField(here+"/key", "duplicate", "another option has the key %s", o.Key)
		case len([]rune(o.Label)) > maxLabel:
			return problem.InvalidField(here+"/label", "maxLength", "may have at most %d characters", maxLabel)
		case o.Score != nil && !(*o.Score >= -maxScore && *o.Score <= maxScore):
			return problem.InvalidField(here+"/score", "range", "must be −%d to %d, is %g", maxScore, maxScore, *o.Score)
		}
		seen[o.Key] = true
	}
	return nil
}

// Programs are those of a survey, nil where there is none.
type Programs struct {
	Invite, Thanks *webhooks.Program
	Questions      []QuestionPrograms // one for each question
}

// QuestionPrograms are those of one question. Prompt is always there.
type QuestionPrograms struct {
	Prompt, Invalid *webhooks.Program
}

// programs reads the stored programs.
func (a *Asked) programs() (p Programs, err error) {
	if p.Invite, err = program("/invite", &a.Invite); err != nil {
		return p, err
	}
	if p.Thanks, err = program("/thanks", &a.Thanks); err != nil {
		return p, err
	}
	for i := range a.Questions {
		q, at := &a.Questions[i], fmt.Sprintf("/questions/%d", i)
		var of QuestionPrograms
		if of.Prompt, err = program(at+"/prompt", &q.Prompt); err != nil {
			return p, err
		}
		if of.Prompt == nil || len(of.Prompt.Instructions) == 0 {
			return p, problem.InvalidField(at+"/prompt", "required", "must say or play the question")
		}
		if of.Invalid, err = program(at+"/invalid_prompt", &q.InvalidPrompt); err != nil {
			return p, err
		}
		p.Questions = append(p.Questions, of)
	}
	return p, nil
}

// program reads a program that holds only what may stand in a prompt. The text of null becomes nil.
func program(pointer string, text *json.RawMessage) (*webhooks.Program, error) {
	p, err := app.ParseProgram(pointer, *text)
	if err != nil {
		return nil, err
	}
	if p == nil {
		*text = nil
		return nil, nil
	}
	err = p.Fits(webhooks.SubPrompt)
	if refused, ok := errors.AsType[*webhooks.ProgramError](err); ok {
		return nil, problem.InvalidField(pointer+refused.Pointer, "program", "%s", refused.Message)
	}
	return p, err
}

// same reports whether two are the same to whoever is asked. A database may write JSON otherwise than it was given.
func (a Asked) same(b Asked) bool {
	return reflect.DeepEqual(a.value(), b.value())
}

func (a Asked) value() any {
	var v any
	text, err := json.Marshal(a)
	if err != nil || json.Unmarshal(text, &v) != nil {
		return nil
	}
	return v
}

// keysOf are the keys that answer a question.
func (q Question) keysOf() string {
	var all strings.Builder
	for _, o := range q.Options {
		all.WriteString(o.Key)
	}
	return all.String()
}
