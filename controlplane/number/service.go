package number

import (
	"context"

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
func (s *Service) Operations() map[string]rest.Operation { return rest.Operations(s.resource()) }

// draft is what a caller writes of a number. The number itself is written once.
type draft struct {
	rest.Keys
	Number string `json:"number"`
	Binding
}

func (s *Service) resource() rest.Resource[Number, draft] {
	return rest.Resource[Number, draft]{
		DB: s.DB, One: "Number", Many: "Numbers", Prefix: "num", Table: table(),
		Draft: func(n *Number) draft { return draft{Number: n.Number, Binding: n.Binding} },
		Put:   put, Removing: inUse,
		Removed: func(ctx context.Context, tx *db.Tx, _ auth.Caller, n *Number) error {
			return credential.FreeCode(ctx, tx, n.ID)
		},
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"number": {Sort: true, Mask: true}, "application_id": {}, "credential_id": {}}),
		Search: []string{"number"},
	}
}

// put reads a number in the account's country, and takes a new short code.
func put(ctx context.Context, tx *db.Tx, who auth.Caller, n *Number, d draft) error {
	normal, country, err := NormalIn(ctx, tx, n.AccountID, d.Number)
	if err != nil {
		return err
	}
	if normal == "" {
		return problem.InvalidField("/number", "number",
			"must be E.164 with +, a number as it is dialled in %s with its area code, or a short code of 2 to 8 digits", country)
	}
	if n.Etag != "" && n.Number != normal {
		return problem.RefusedField("/number", "fixed", "cannot be changed: a number is removed, and another added")
	}
	fresh := n.Etag == "" && !IsE164(normal)
	n.Number, n.Binding = normal, d.Binding
	if err := n.Check(); err != nil || !fresh {
		return err
	}
	return credential.TakeCode(ctx, tx, who.Scope, n.Number, n.ID, "/number")
}

// What a transaction remembers (db.Once): the country of an account, and how a text was read there.
type (
	countryOf string
	readIn    struct{ country, text string }
)

// NormalIn is Normal in the country of an account, normal being empty where that is not ok. Of the many numbers of an import
// each is read once in a transaction, although it is asked for more often.
func NormalIn(ctx context.Context, tx *db.Tx, accountID, text string) (normal, country string, err error) {
	country, err = db.Once(tx, countryOf(accountID), func() (string, error) {
		a, err := db.Get[account.Account](ctx, tx, auth.Account(accountID), accountID)
		if err != nil {
			return "", err
		}
		return a.DefaultCountry, nil
	})
	if err != nil {
		return "", "", err
	}
	normal, err = db.Once(tx, readIn{country, text}, func() (string, error) {
		normal, _ := Normal(text, country)
		return normal, nil
	})
	return normal, country, err
}

// Insert checks and stores a new number, which it writes in its normal form; the id is made here.
func (s *Service) Insert(ctx context.Context, scope auth.Scope, n *Number) error {
	made, err := rest.Insert(ctx, s.DB, s.resource(), auth.Caller{AccountID: scope.AccountID(), Scope: scope},
		draft{Keys: rest.Keys{ExternalID: n.ExternalID, Metadata: n.Metadata}, Number: n.Number, Binding: n.Binding})
	if err != nil {
		return err
	}
	*n = *made
	return nil
}

// used are the columns that show a number as the caller's.
func used() []db.Use {
	return []db.Use{
		{Table: "credentials", Column: "caller_id", Name: "extension"},
		{Table: "trunks", Column: "caller_id", Name: "trunk"},
	}
}

// inUse is a Conflict while an extension or a trunk shows the number as its own.
func inUse(ctx context.Context, tx *db.Tx, _ auth.Caller, n *Number) error {
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
	return dialed(ctx, s.DB, a, digits)
}

func dialed(ctx context.Context, conn db.Conn, a *account.Account, digits string) (n *Number, found bool, err error) {
	candidates := Candidates(digits, a.DefaultCountry)
	rows, err := db.List[Number](ctx, conn, auth.Account(a.ID), func(q *bun.SelectQuery) *bun.SelectQuery {
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

// Owned tells whether a number, however it is written, is an account's, and gives it in its normal form.
func (s *Service) Owned(ctx context.Context, id webhooks.AccountID, text string) (normal string, found bool, err error) {
	return s.Owns(ctx, s.DB, id, text)
}

// Owns is credential.Numbers.
func (s *Service) Owns(ctx context.Context, conn db.Conn, id webhooks.AccountID, text string) (normal string, found bool, err error) {
	a, err := db.Get[account.Account](ctx, conn, auth.Account(string(id)), string(id))
	if err != nil {
		return "", false, err
	}
	n, found, err := dialed(ctx, conn, a, text)
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
