package survey

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
)

// outcomes are those that a response can have; others are no response.
var outcomes = []webhooks.Outcome{webhooks.Answered, webhooks.Skipped, webhooks.Hangup, webhooks.Redirected, webhooks.Failed}

// Apply makes responses of what the events of calls tell, in the transaction that stores these: it is one of
// call.Service.Also.
func (s *Service) Apply(ctx context.Context, tx *db.Tx, events []webhooks.Event) error {
	for _, e := range events {
		if e.Type != webhooks.EventSurveyCompleted || !slices.Contains(outcomes, e.Data.Outcome) {
			continue
		}
		if err := respond(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// respond makes the response of an event. That of a survey which is there no more has nothing to belong to.
func respond(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	v, err := versionOf(ctx, tx, e)
	if err != nil || v == nil {
		return err
	}
	now := db.Now()
	r := &Response{
		Row: db.Row{
			ID: "srr" + strings.TrimPrefix(string(e.ID), "evt"), AccountID: string(e.AccountID), Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1",
		},
		SurveyID: e.Data.SurveyID, SurveyVersion: e.Data.SurveyVersion, CallID: e.CallID, ConversationID: e.ConversationID,
		AgentID: e.Data.AgentID, QueueID: e.Data.QueueID, Outcome: e.Data.Outcome, CompletedAt: e.OccurredAt,
	}
	r.answer(v.Questions, e.Data.Answers)
	if err := r.attribute(ctx, tx); err != nil {
		return err
	}
	done, err := tx.Write().NewInsert().Model(r).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("event of %s: %w", r.ID, err)
	}
	return event.Emit(ctx, tx, event.Event{
		AccountID: r.AccountID, Type: "survey_response.created", Resource: "survey_responses", ObjectID: r.ID, CallID: string(r.CallID),
		OwnerID: r.OwnerID, DepartmentID: r.DepartmentID, Data: data,
	})
}

// versionOf is what the caller was asked; nil when there is no such survey.
func versionOf(ctx context.Context, tx *db.Tx, e webhooks.Event) (*Version, error) {
	v, err := db.Find[Version](ctx, tx, auth.Account(string(e.AccountID)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.survey_id = ?", e.Data.SurveyID).Where("?TableAlias.version = ?", e.Data.SurveyVersion)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return v, err
}

// answer puts in what was answered, in the order in which it was asked, with what it means.
func (r *Response) answer(questions []Question, given map[string]any) {
	r.Answers = []Answer{}
	sum, scored := 0.0, 0
	for _, q := range questions {
		key, ok := given[q.Name].(string)
		if !ok {
			continue
		}
		a := Answer{Question: q.Name, Key: key}
		for _, o := range q.Options {
			if o.Key == key {
				a.Label, a.Score = o.Label, o.Score
			}
		}
		if a.Score != nil {
			sum += *a.Score
			scored++
		}
		r.Answers = append(r.Answers, a)
	}
	if scored > 0 {
		mean := sum / float64(scored)
		r.Score = &mean
	}
}

// attribute finds out whom the response is about: the agent that the edge knows of; else the one whose leg this is, or its
// parent, or who was the last to answer a leg of it.
func (r *Response) attribute(ctx context.Context, tx *db.Tx) error {
	var of call.Call
	err := tx.Read().NewSelect().Model(&of).Where("id = ?", r.CallID).Where("account_id = ?", r.AccountID).Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return db.Check(err)
	}
	r.From = of.From
	if of.Direction != webhooks.Inbound && of.To != "" {
		r.From = of.To
	}
	if r.AgentID != "" {
		return r.about(ctx, tx, "id", string(r.AgentID))
	}
	owners, err := spoke(ctx, tx, of)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if err := r.about(ctx, tx, "user_id", owner); err != nil || r.AgentID != "" {
			return err
		}
	}
	return nil
}

// about makes the response the agent's who is found by a column, if there is one.
func (r *Response) about(ctx context.Context, tx *db.Tx, column, value string) error {
	a, err := db.Find[agent.Agent](ctx, tx, auth.Account(r.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.? = ?", bun.Ident(column), value)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		r.AgentID, r.Owned = webhooks.AgentID(a.ID), a.Owned
	}
	return err
}

// spoke are the users whose legs were in a call, the one that is most likely meant first.
func spoke(ctx context.Context, tx *db.Tx, of call.Call) ([]string, error) {
	owners := []string{}
	if of.OwnerID != "" {
		owners = append(owners, of.OwnerID)
	}
	if of.ParentCallID != "" {
		var parents []string
		err := tx.Read().NewSelect().Model((*call.Call)(nil)).Column("owner_id").Where("id = ?", of.ParentCallID).
			Where("account_id = ?", of.AccountID).Where("owner_id IS NOT NULL").Scan(ctx, &parents)
		if err != nil {
			return nil, db.Check(err)
		}
		owners = append(owners, parents...)
	}
	if of.ID == "" {
		return owners, nil
	}
	var legs []string
	err := tx.Read().NewSelect().Model((*call.Call)(nil)).Column("owner_id").Where("account_id = ?", of.AccountID).
		Where("parent_call_id = ?", of.ID).Where("owner_id IS NOT NULL").Where("answered_at IS NOT NULL").
		OrderBy("answered_at", bun.OrderDesc).Limit(10).Scan(ctx, &legs)
	return append(owners, legs...), db.Check(err)
}
