package account

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on accounts and keys, and answers what others ask of them.
type Service struct {
	DB  *db.DB
	Now func() time.Time // for rows and expiries; nil is db.Now
	// Knows reports whether there is such a permission ("calls.read", "calls.*", "*"). Without it every well-formed one
	// is taken.
	Knows func(permission string) bool
	// Agents counts the agents of an account; nil is none.
	Agents func(ctx context.Context, account string) (int64, error)
	// OnCreate is called in the transaction that makes an account: its built-in roles are made there.
	OnCreate []func(ctx context.Context, tx *db.Tx, account string) error

	keys     Recent[*Key]
	statuses Recent[Status]
}

// Operations are the functions of accounts.yaml, api_keys.yaml and usage.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"getOwnAccount":    rest.Op(s.own),
		"updateOwnAccount": rest.Op(s.updateOwn),
		"getUsage":         rest.Op(s.usage),

		"listAccounts":        rest.Op(s.list),
		"searchAccounts":      rest.Op(s.search),
		"createAccount":       rest.Op(s.create),
		"getAccount":          rest.Op(s.get),
		"updateAccount":       rest.Op(s.update),
		"suspendAccount":      rest.Op(s.suspend),
		"setAccountLimits":    rest.Op(s.setLimits),
		"getAccountUsage":     rest.Op(s.usageOf),
		"createAccountApiKey": rest.Op(s.createKeyOf),

		"listApiKeys":   rest.Op(s.listKeys),
		"searchApiKeys": rest.Op(s.searchKeys),
		"createApiKey":  rest.Op(s.createKey),
		"getApiKey":     rest.Op(s.getKey),
		"updateApiKey":  rest.Op(s.updateKey),
		"revokeApiKey":  rest.Op(s.revokeKey),
		"rotateApiKey":  rest.Op(s.rotateKey),
	}
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Create makes an account with its SIP domains, of which the first is its digest realm for good. It is for the
// operator: no account's key reaches it. An empty TimeZone is that of the country.
func (s *Service) Create(ctx context.Context, draft Draft, domains ...string) (*Account, error) {
	a := &Account{Draft: draft}
	if err := s.insert(ctx, s.DB, a, domains); err != nil {
		return nil, err
	}
	return a, nil
}

// insert stores a new account; the id is made here.
func (s *Service) insert(ctx context.Context, conn db.Conn, a *Account, domains []string) error {
	if a.TimeZone == "" {
		a.TimeZone = zoneOf(a.DefaultCountry)
	}
	if err := a.Check(); err != nil {
		return err
	}
	if len(domains) == 0 {
		return problem.InvalidField("/domains", "required", "must name at least one SIP domain")
	}
	a.ID = db.NewID("acc")
	a.AccountID, a.Status = a.ID, Active
	return conn.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, auth.Everywhere(), a); err != nil {
			return err
		}
		for i, name := range domains {
			name = NormalDomain(name)
			if err := checkDomain("/domains/"+strconv.Itoa(i), name); err != nil {
				return err
			}
			if _, err := tx.Write().NewInsert().Model(&domain{Domain: name, AccountID: a.ID, Position: int64(i)}).Exec(ctx); err != nil {
				return takenDomain(i, db.Check(err))
			}
		}
		for _, also := range s.OnCreate {
			if err := also(ctx, tx, a.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// takenDomain says of a duplicate which of the domains it is.
func takenDomain(i int, err error) error {
	if problem.From(err).Code != problem.CodeConflict {
		return err
	}
	return problem.Conflict("one of the domains is taken; choose another",
		problem.Field("/domains/"+strconv.Itoa(i), "duplicate", "is already taken"))
}

// Get reads an account.
func (s *Service) Get(ctx context.Context, id webhooks.AccountID) (*Account, error) {
	return db.Get[Account](ctx, s.DB, auth.Account(string(id)), string(id))
}

// IsActive reports whether an account is served: of a suspended one, and of none, no call and no credential is taken. It
// is asked for every call and every request, and looks once a second.
func (s *Service) IsActive(ctx context.Context, id webhooks.AccountID) (bool, error) {
	status, err := s.statuses.Get(string(id), func() (Status, error) {
		a, err := s.Get(ctx, id)
		if problem.From(err).Code == problem.CodeNotFound {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return a.Status, nil
	})
	return status == Active, err
}

// ErrSuspended is the answer to a credential of an account that is not served (403).
func ErrSuspended() error {
	return problem.New(problem.CodeForbidden, "this account is suspended; ask the operator of the installation")
}

// Named finds an account by its name; found is false when there is none.
func (s *Service) Named(ctx context.Context, name string) (a *Account, found bool, err error) {
	a, err = db.Find[Account](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("name = ?", name)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return a, err == nil, err
}

// Called finds an account as people name it when they sign in: by its name, else by one of its SIP domains.
func (s *Service) Called(ctx context.Context, text string) (a *Account, found bool, err error) {
	if a, found, err = s.Named(ctx, text); err != nil || found {
		return a, found, err
	}
	id, found, err := s.OfDomain(ctx, text)
	if err != nil || !found {
		return nil, false, err
	}
	a, err = s.Get(ctx, id)
	return a, err == nil, err
}

// Realm is the account's first domain: the digest realm of its extensions.
func (s *Service) Realm(ctx context.Context, id webhooks.AccountID) (string, error) {
	return RealmOf(ctx, s.DB, id)
}

// RealmOf is Realm, within a transaction.
func RealmOf(ctx context.Context, conn db.Conn, id webhooks.AccountID) (string, error) {
	var d domain
	err := conn.Read().NewSelect().Model(&d).Where("account_id = ?", id).Where("position = 0").Scan(ctx)
	return d.Domain, db.Check(err)
}

// OfDomain finds the account that a SIP domain belongs to.
func (s *Service) OfDomain(ctx context.Context, name string) (id webhooks.AccountID, found bool, err error) {
	var d domain
	err = s.DB.Read().NewSelect().Model(&d).Where("domain = ?", NormalDomain(name)).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return webhooks.AccountID(d.AccountID), err == nil, db.Check(err)
}

// domains gives the SIP domains of accounts, in their order.
func domains(ctx context.Context, conn db.Conn, ids ...string) (map[string][]string, error) {
	found := map[string][]string{}
	for _, id := range ids {
		found[id] = []string{}
	}
	if len(ids) == 0 {
		return found, nil
	}
	var rows []domain
	err := conn.Read().NewSelect().Model(&rows).Where("account_id IN (?)", bun.List(ids)).
		OrderBy("account_id", bun.OrderAsc).OrderBy("position", bun.OrderAsc).Scan(ctx)
	for _, d := range rows {
		found[d.AccountID] = append(found[d.AccountID], d.Domain)
	}
	return found, db.Check(err)
}
