package credential

import (
	"context"
	"database/sql"
	"errors"
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

// Service is the operations on extensions and registrations.
type Service struct {
	DB      *db.DB
	Numbers Numbers
	Now     func() time.Time // for expiries; nil is db.Now
}

// Numbers tells which numbers are an account's: nobody shows a number that is not theirs.
type Numbers interface {
	// Owns reads a number as the account writes it and gives it in E.164, or the short code; found is false when it
	// is none of the account's. conn is the transaction that asks, if any.
	Owns(ctx context.Context, conn db.Conn, id webhooks.AccountID, number string) (normal string, found bool, err error)
}

// checkCallerID puts the caller ID into its normal form.
func (s *Service) checkCallerID(ctx context.Context, tx *db.Tx, account string, d *Draft) error {
	if d.CallerID == "" {
		return nil
	}
	normal, found, err := s.Numbers.Owns(ctx, tx, webhooks.AccountID(account), d.CallerID)
	if err != nil {
		return err
	}
	if !found {
		return problem.RefusedField("/caller_id", "not_owned", "is not one of this account's numbers; add it to /v1/numbers before")
	}
	d.CallerID = normal
	return nil
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
	all["listRegistrations"] = rest.Op(s.listRegistrations)
	return all
}

// draft is what a caller writes of an extension. The digits are written once; the password stays unless one is given.
type draft struct {
	rest.Keys
	Extension string `json:"extension"`
	Password  string `json:"password,omitempty"`
	Draft
}

func (s *Service) resource() rest.Resource[Credential, draft] {
	return rest.Resource[Credential, draft]{
		DB: s.DB, One: "Credential", Many: "Credentials", Prefix: "cred", Table: table(), Uses: uses(),
		Draft: func(c *Credential) draft { return draft{Extension: c.Extension, Draft: c.Draft} },
		Put:   s.put,
		// Registrations go with it (ON DELETE CASCADE).
		Removed: func(ctx context.Context, tx *db.Tx, _ auth.Caller, c *Credential) error {
			return FreeCode(ctx, tx, c.ID)
		},
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"extension": {Sort: true}, "application_id": {}}),
		Search: []string{"extension", "caller_name"},
	}
}

func uses() []db.Use {
	return []db.Use{
		{Table: "numbers", Column: "credential_id", Name: "number"},
		{Table: "agents", Column: "credential_id", Name: "agent"},
	}
}

// minPassword is the least length of a password: digests are guessed offline by whoever hears one.
const minPassword = 8

// put makes the digests of a password that is given, and takes the digits of a new extension.
func (s *Service) put(ctx context.Context, tx *db.Tx, who auth.Caller, c *Credential, d draft) error {
	fresh := c.Etag == ""
	switch {
	case !fresh && d.Extension != c.Extension:
		return problem.RefusedField("/extension", "fixed", "cannot be changed: an extension is removed, and another added")
	case !IsExtension(d.Extension):
		return problem.InvalidField("/extension", "pattern", "must be 2 to 8 digits, is %q", d.Extension)
	case len(d.Password) < minPassword && (fresh || d.Password != ""):
		return problem.InvalidField("/password", "minLength", "must have at least %d characters", minPassword)
	}
	if err := s.checkCallerID(ctx, tx, c.AccountID, &d.Draft); err != nil {
		return err
	}
	c.Extension, c.Draft = d.Extension, d.Draft
	if fresh {
		if err := start(ctx, tx, who.Scope, c); err != nil {
			return err
		}
	}
	if d.Password != "" {
		c.digest(d.Password)
	}
	return nil
}

// start gives a new extension its realm, and takes its digits.
func start(ctx context.Context, tx *db.Tx, scope auth.Scope, c *Credential) error {
	var err error
	if c.Domain, err = account.RealmOf(ctx, tx, webhooks.AccountID(c.AccountID)); errors.Is(err, sql.ErrNoRows) {
		return problem.Refused("this account has no SIP domain, which extensions need; ask the operator to give it one")
	} else if err != nil {
		return err
	}
	return TakeCode(ctx, tx, scope, c.Extension, c.ID, "/extension")
}

// Insert checks and stores a new extension; ID, Domain and the digests are made here.
func (s *Service) Insert(ctx context.Context, scope auth.Scope, c *Credential, password string) error {
	made, err := rest.Insert(ctx, s.DB, s.resource(), auth.Caller{AccountID: scope.AccountID(), Scope: scope},
		draft{Keys: rest.Keys{ExternalID: c.ExternalID, Metadata: c.Metadata}, Extension: c.Extension, Password: password, Draft: c.Draft})
	if err != nil {
		return err
	}
	*c = *made
	return nil
}

// SetPassword gives an extension another password.
func (s *Service) SetPassword(ctx context.Context, scope auth.Scope, id, password string) error {
	_, err := db.Change(ctx, s.DB, scope, id, "", func(c *Credential) error {
		c.digest(password)
		return nil
	})
	return err
}

// Get reads an extension by its id. It is a NotFound problem when there is none in the account.
func (s *Service) Get(ctx context.Context, id webhooks.AccountID, credential webhooks.CredentialID) (*Credential, error) {
	return db.Get[Credential](ctx, s.DB, auth.Account(string(id)), string(credential))
}

// ByID reads an extension whose account is not known yet, as after its digest was checked.
func (s *Service) ByID(ctx context.Context, credential webhooks.CredentialID) (*Credential, error) {
	return db.Get[Credential](ctx, s.DB, auth.Everywhere(), string(credential))
}

// Extension finds an extension of an account by its digits.
func (s *Service) Extension(ctx context.Context, id webhooks.AccountID, digits string) (c *Credential, found bool, err error) {
	if !IsExtension(digits) {
		return nil, false, nil
	}
	c, err = db.Find[Credential](ctx, s.DB, auth.Account(string(id)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("extension = ?", digits)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return c, err == nil, err
}
