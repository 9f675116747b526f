package app

import (
	"context"
	"database/sql"
	"errors"
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
	all := rest.Operations(s.resource())
	all["rotateApplicationSecret"] = rest.Op(s.rotate)
	return all
}

// draft is what a caller writes of an application.
type draft struct {
	rest.Keys
	Draft
}

func (s *Service) resource() rest.Resource[Application, draft] {
	return rest.Resource[Application, draft]{
		DB: s.DB, One: "Application", Many: "Applications", Prefix: "app", Table: table(), Uses: uses(),
		Draft: func(a *Application) draft { return draft{Draft: a.Draft} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, a *Application, d draft) error {
			a.Draft = d.Draft
			if a.Secret == "" {
				a.Secret = newSecret()
			}
			return a.Check()
		},
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

// Insert checks and stores a new application, whose id and secret it makes.
func (s *Service) Insert(ctx context.Context, scope auth.Scope, a *Application) error {
	made, err := rest.Insert(ctx, s.DB, s.resource(), auth.Caller{AccountID: scope.AccountID(), Scope: scope},
		draft{Keys: rest.Keys{ExternalID: a.ExternalID, Metadata: a.Metadata}, Draft: a.Draft})
	if err != nil {
		return err
	}
	*a = *made
	return nil
}

func (s *Service) rotate(ctx context.Context, who auth.Caller, in rest.ChangeIn) (*Application, error) {
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
