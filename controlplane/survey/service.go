package survey

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on surveys and their responses. Its Apply belongs into call.Service.Also, and Purge keeps the
// responses to their retention. It is safe for concurrent use.
type Service struct {
	DB  *db.DB
	Now func() time.Time // nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Operations are the functions of surveys.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Resource())
	maps.Copy(all, map[string]rest.Operation{
		"listSurveyVersions":    rest.Op(s.versions),
		"listSurveyResponses":   rest.List[Response](s.DB, responses()),
		"searchSurveyResponses": rest.Search[Response](s.DB, responses()),
		"getSurveyResponse":     rest.Get[Response](s.DB),
	})
	return all
}

// Written is what a caller writes of a survey.
type Written struct {
	rest.Keys
	Draft
}

// Resource is how surveys are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Survey, Written] {
	return rest.Resource[Survey, Written]{
		DB: s.DB, One: "Survey", Many: "Surveys", Prefix: "sur",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "enabled": {Type: list.Bool}, "version": {Type: list.Int}}),
			Search: []string{"name"},
		},
		Uses:     []db.Use{{Table: "survey_responses", Column: "survey_id", Name: "survey response"}},
		Draft:    func(v *Survey) Written { return Written{Draft: v.Draft} },
		Put:      put,
		Stored:   keepVersion,
		Removing: removing,
	}
}

func put(_ context.Context, _ *db.Tx, _ auth.Caller, v *Survey, w Written) error {
	if err := w.Check(); err != nil {
		return err
	}
	if v.Version == 0 || !v.same(w.Asked) {
		v.Version++
	}
	v.Draft = w.Draft
	return nil
}

// keepVersion writes down what is asked from now on, unless it is what was asked before.
func keepVersion(ctx context.Context, tx *db.Tx, _ auth.Caller, v *Survey) error {
	now := db.Now()
	kept := &Version{
		Row:      db.Row{ID: db.NewID("suv"), AccountID: v.AccountID, Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1"},
		SurveyID: v.ID, Version: v.Version, Asked: v.Asked,
	}
	_, err := tx.Write().NewInsert().Model(kept).On("CONFLICT (survey_id, version) DO NOTHING").Exec(ctx)
	return db.Check(err)
}

func removing(ctx context.Context, tx *db.Tx, _ auth.Caller, v *Survey) error {
	_, err := tx.Write().NewDelete().Model((*Version)(nil)).Where("survey_id = ?", v.ID).Exec(ctx)
	return db.Check(err)
}

type versionsIn struct {
	rest.ListIn
	SurveyID string `path:"survey_id"`
}

func (s *Service) versions(ctx context.Context, who auth.Caller, in versionsIn) (list.Page[Version], error) {
	t := list.Table{Fields: map[string]list.Field{"version": {Type: list.Int, Sort: true}}, Sort: "-version"}
	q, err := t.Parse(in.Query)
	if err != nil {
		return list.Page[Version]{}, err
	}
	if _, err := db.Get[Survey](ctx, s.DB, who.Scope, in.SurveyID); err != nil {
		return list.Page[Version]{}, err
	}
	return list.Run[Version](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.survey_id = ?", in.SurveyID)
	})
}

func responses() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"survey_id": {}, "survey_version": {Type: list.Int}, "call_id": {}, "conversation_id": {}, "agent_id": {}, "queue_id": {},
			"owner_id": {}, "department_id": {}, "from": {Mask: true}, "outcome": {}, "score": {Type: list.Float},
			"completed_at": {Type: list.Time, Sort: true},
		}),
	}
}

// Asking is a survey as an edge asks it.
type Asking struct {
	Survey
	Programs
	Keys []string // that answer each question
}

// ErrDisabled is what Ask of a survey that is not to be asked fails with.
var ErrDisabled = errors.New("the survey is disabled")

// Ask gives the survey of this id or name as it is now. One that is not there is a NotFound problem.
func (s *Service) Ask(ctx context.Context, accountID webhooks.AccountID, name string) (Asking, error) {
	column := "name"
	if strings.HasPrefix(name, idPrefix) {
		column = "id"
	}
	v, err := db.Find[Survey](ctx, s.DB, auth.Account(string(accountID)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.? = ?", bun.Ident(column), name)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Asking{}, problem.NotFound("there is no survey " + name + " in this account")
	case err != nil:
		return Asking{}, err
	case !v.Enabled:
		return Asking{}, ErrDisabled
	}
	p, err := v.programs()
	if err != nil {
		return Asking{}, err
	}
	a := Asking{Survey: *v, Programs: p}
	for _, q := range v.Questions {
		a.Keys = append(a.Keys, q.keysOf())
	}
	return a, nil
}

// purgeRows bounds the rows of one DELETE.
const purgeRows = 1000

// Purge removes responses that are older than their account's retention of records.
func (s *Service) Purge(ctx context.Context) error {
	accounts, err := db.List[account.Account](ctx, s.DB, auth.Everywhere())
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.Limits.RetentionDays == 0 {
			continue
		}
		if err := s.purge(ctx, a.ID, s.now().AddDate(0, 0, -a.Limits.RetentionDays)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) purge(ctx context.Context, accountID string, before time.Time) error {
	for {
		old := s.DB.Write().NewSelect().Model((*Response)(nil)).Column("id").Where("account_id = ?", accountID).
			Where("created_at < ?", before).OrderBy("created_at", bun.OrderAsc).Limit(purgeRows)
		done, err := s.DB.Write().NewDelete().Model((*Response)(nil)).Where("id IN (?)", old).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := done.RowsAffected(); err != nil || n < purgeRows {
			return err
		}
	}
}
