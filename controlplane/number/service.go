package number

import (
	"context"
	"net/url"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on numbers.
type Service struct {
	DB       *db.DB
	Accounts *account.Service
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listNumbers":  rest.Op(s.list),
		"createNumber": rest.Op(s.create),
		"getNumber":    rest.Op(s.get),
		"updateNumber": rest.Op(s.update),
		"deleteNumber": rest.Op(s.remove),
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"number": {Sort: true}, "application_id": {}, "credential_id": {}}),
		Search: []string{"number"},
	}
}

type listIn struct {
	Query url.Values `query:"*"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Number], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Number]{}, err
	}
	return list.Run[Number](ctx, s.DB, who.Scope, q)
}

// newNumber is the body of a create.
type newNumber struct {
	Number string `json:"number"`
	changed
}

// changed is what a merge patch of a number is applied to: the number itself stays.
type changed struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Binding
}

type createIn struct {
	Body newNumber `body:"json"`
}

func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (*Number, error) {
	n := &Number{
		Row:    db.Row{ExternalID: in.Body.ExternalID, Metadata: in.Body.Metadata},
		Number: in.Body.Number, Binding: in.Body.Binding,
	}
	return n, s.Insert(ctx, who.Scope, n)
}

// Insert checks and stores a new number, which it writes in its normal form; the id is made here.
func (s *Service) Insert(ctx context.Context, scope auth.Scope, n *Number) error {
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(scope.AccountID()))
	if err != nil {
		return err
	}
	normal, ok := Normal(n.Number, a.DefaultCountry)
	if !ok {
		return problem.InvalidField("/number", "number",
			"must be E.164 with +, a number as it is dialled in %s with its area code, or a short code of 2 to 8 digits", a.DefaultCountry)
	}
	if err := n.Check(); err != nil {
		return err
	}
	n.Number, n.ID = normal, db.NewID("num")
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if !IsE164(n.Number) {
			if err := credential.TakeCode(ctx, tx, scope, n.Number, n.ID, "/number"); err != nil {
				return err
			}
		}
		return db.Insert(ctx, tx, scope, n)
	})
}

type byID struct {
	ID string `path:"number_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*Number, error) {
	return db.Get[Number](ctx, s.DB, who.Scope, in.ID)
}

type updateIn struct {
	byID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) update(ctx context.Context, who auth.Caller, in updateIn) (*Number, error) {
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(n *Number) error {
		wanted := changed{ExternalID: n.ExternalID, Metadata: n.Metadata, Binding: n.Binding}
		if err := in.Patch.Apply(&wanted); err != nil {
			return err
		}
		n.ExternalID, n.Metadata, n.Binding = wanted.ExternalID, wanted.Metadata, wanted.Binding
		return n.Check()
	})
}

type removeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

// used are the columns that show a number as the caller's.
func used() []db.Use {
	return []db.Use{
		{Table: "credentials", Column: "caller_id", Name: "extension"},
		{Table: "trunks", Column: "caller_id", Name: "trunk"},
	}
}

func (s *Service) remove(ctx context.Context, who auth.Caller, in removeIn) (rest.None, error) {
	return rest.None{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.Get[Number](ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		if err := inUse(ctx, tx, n); err != nil {
			return err
		}
		if err := db.Delete[Number](ctx, tx, who.Scope, in.ID, in.IfMatch); err != nil {
			return err
		}
		return credential.FreeCode(ctx, tx, in.ID)
	})
}

// inUse is a Conflict while an extension or a trunk shows the number as its own.
func inUse(ctx context.Context, tx *db.Tx, n *Number) error {
	for _, u := range used() {
		var ids []string
		err := tx.Read().NewSelect().Table(u.Table).Column("id").Where("? = ?", bun.Ident(u.Column), n.Number).
			Where("account_id = ?", n.AccountID).OrderBy("id", bun.OrderAsc).Limit(1).Scan(ctx, &ids)
		if err != nil {
			return db.Check(err)
		}
		if len(ids) > 0 {
			return problem.Conflict("this is still the caller_id of "+u.Name+" "+ids[0]+"; change that first",
				problem.Field("", "in_use", "%s %s refers to it in %s", u.Name, ids[0], u.Column))
		}
	}
	return nil
}

// Dialed finds the number of an account that dialled digits name, in whatever form they are written.
func (s *Service) Dialed(ctx context.Context, a *account.Account, digits string) (n *Number, found bool, err error) {
	candidates := Candidates(digits, a.DefaultCountry)
	rows, err := db.List[Number](ctx, s.DB, auth.Account(a.ID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("number IN (?)", bun.List(candidates))
	})
	if err != nil {
		return nil, false, err
	}
	for _, candidate := range candidates {
		for i := range rows {
			if rows[i].Number == candidate {
				return &rows[i], true, nil
			}
		}
	}
	return nil, false, nil
}

// Owned is credential.Numbers.
func (s *Service) Owned(ctx context.Context, id webhooks.AccountID, text string) (normal string, found bool, err error) {
	a, err := s.Accounts.Get(ctx, id)
	if err != nil {
		return "", false, err
	}
	n, found, err := s.Dialed(ctx, a, text)
	if err != nil || !found {
		return "", false, err
	}
	return n.Number, true, nil
}

// First is the account's oldest number of the telephone network: what a call out shows when nothing else is configured.
// found is false when there is none.
func (s *Service) First(ctx context.Context, id webhooks.AccountID) (n *Number, found bool, err error) {
	rows, err := db.List[Number](ctx, s.DB, auth.Account(string(id)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("number LIKE '+%'").OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(1)
	})
	if err != nil || len(rows) == 0 {
		return nil, false, err
	}
	return &rows[0], true, nil
}
