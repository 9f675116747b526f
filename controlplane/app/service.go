package app

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on applications.
type Service struct {
	DB  *db.DB
	Now func() time.Time // for expiries; nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listApplications":        rest.Op(s.list),
		"createApplication":       rest.Op(s.create),
		"getApplication":          rest.Op(s.get),
		"updateApplication":       rest.Op(s.update),
		"deleteApplication":       rest.Op(s.remove),
		"rotateApplicationSecret": rest.Op(s.rotate),
	}
}

// table is what lists of applications can be filtered and sorted by.
func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "format": {}}),
		Search: []string{"name"},
	}
}

// uses are the columns that refer to an application.
func uses() []db.Use {
	return []db.Use{
		{Table: "numbers", Column: "application_id", Name: "number"},
		{Table: "credentials", Column: "application_id", Name: "extension"},
	}
}

type listIn struct {
	Query url.Values `query:"*"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Application], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Application]{}, err
	}
	return list.Run[Application](ctx, s.DB, who.Scope, q)
}

// newApplication is the body of a create.
type newApplication struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Draft
}

type createIn struct {
	Body newApplication `body:"json"`
}

func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (*Application, error) {
	a := &Application{Row: db.Row{ExternalID: in.Body.ExternalID, Metadata: in.Body.Metadata}, Draft: in.Body.Draft}
	return a, s.Insert(ctx, who.Scope, a)
}

// Insert checks and stores a new application, whose id and secret it makes.
func (s *Service) Insert(ctx context.Context, scope auth.Scope, a *Application) error {
	if err := a.Check(); err != nil {
		return err
	}
	a.ID, a.Secret = db.NewID("app"), newSecret()
	return db.Insert(ctx, s.DB, scope, a)
}

type byID struct {
	ID string `path:"application_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*Application, error) {
	return db.Get[Application](ctx, s.DB, who.Scope, in.ID)
}

type updateIn struct {
	byID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) update(ctx context.Context, who auth.Caller, in updateIn) (*Application, error) {
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(a *Application) error {
		if err := in.Patch.Apply(a); err != nil {
			return err
		}
		return a.Check()
	})
}

type changeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

func (s *Service) remove(ctx context.Context, who auth.Caller, in changeIn) (rest.None, error) {
	return rest.None{}, db.Delete[Application](ctx, s.DB, who.Scope, in.ID, in.IfMatch, uses()...)
}

func (s *Service) rotate(ctx context.Context, who auth.Caller, in changeIn) (*Application, error) {
	until := s.now().Add(rotation)
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(a *Application) error {
		a.OldSecret, a.OldSecretUntil, a.Secret = a.Secret, &until, newSecret()
		return nil
	})
}

// Get reads an application of an account. It is a NotFound problem when there is none.
func (s *Service) Get(ctx context.Context, account webhooks.AccountID, id webhooks.ApplicationID) (*Application, error) {
	return db.Get[Application](ctx, s.DB, auth.Account(string(account)), string(id))
}

// Default is the application whose secret signs for calls that name none: the account's oldest. found is false when
// the account has none.
func (s *Service) Default(ctx context.Context, account webhooks.AccountID) (a *Application, found bool, err error) {
	a, err = db.Find[Application](ctx, s.DB, auth.Account(string(account)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return a, err == nil, err
}
