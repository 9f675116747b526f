package credential

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
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
	// Owned reads a number as the account writes it and gives it in E.164, or the short code; found is false when it
	// is none of the account's.
	Owned(ctx context.Context, id webhooks.AccountID, number string) (normal string, found bool, err error)
}

// checkCallerID puts the caller ID into its normal form.
func (s *Service) checkCallerID(ctx context.Context, scope auth.Scope, d *Draft) error {
	if d.CallerID == "" {
		return nil
	}
	normal, found, err := s.Numbers.Owned(ctx, webhooks.AccountID(scope.AccountID()), d.CallerID)
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
	return map[string]rest.Operation{
		"listCredentials":   rest.Op(s.list),
		"createCredential":  rest.Op(s.create),
		"getCredential":     rest.Op(s.get),
		"updateCredential":  rest.Op(s.update),
		"deleteCredential":  rest.Op(s.remove),
		"listRegistrations": rest.Op(s.listRegistrations),
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{"extension": {Sort: true}, "application_id": {}}),
		Search: []string{"extension", "caller_name"},
	}
}

func uses() []db.Use { return []db.Use{{Table: "numbers", Column: "credential_id", Name: "number"}} }

type listIn struct {
	Query url.Values `query:"*"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Credential], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Credential]{}, err
	}
	return list.Run[Credential](ctx, s.DB, who.Scope, q)
}

// newCredential is the body of a create.
type newCredential struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Extension  string         `json:"extension"`
	Password   string         `json:"password"`
	Draft
}

type createIn struct {
	Body newCredential `body:"json"`
}

func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (*Credential, error) {
	c := &Credential{
		Row:       db.Row{ExternalID: in.Body.ExternalID, Metadata: in.Body.Metadata},
		Extension: in.Body.Extension, Draft: in.Body.Draft,
	}
	return c, s.Insert(ctx, who.Scope, c, in.Body.Password)
}

// minPassword is the least length of a password: digests are guessed offline by whoever hears one.
const minPassword = 8

// Insert checks and stores a new extension; ID, Domain and the digests are made here.
func (s *Service) Insert(ctx context.Context, scope auth.Scope, c *Credential, password string) error {
	switch {
	case !IsExtension(c.Extension):
		return problem.InvalidField("/extension", "pattern", "must be 2 to 8 digits, is %q", c.Extension)
	case len(password) < minPassword:
		return problem.InvalidField("/password", "minLength", "must have at least %d characters", minPassword)
	}
	if err := s.checkCallerID(ctx, scope, &c.Draft); err != nil {
		return err
	}
	c.ID = db.NewID("cred")
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if c.Domain, err = account.RealmOf(ctx, tx, webhooks.AccountID(scope.AccountID())); errors.Is(err, sql.ErrNoRows) {
			return problem.Refused("this account has no SIP domain, which extensions need; ask the operator to give it one")
		} else if err != nil {
			return err
		}
		c.digest(password)
		if err := TakeCode(ctx, tx, scope, c.Extension, c.ID, "/extension"); err != nil {
			return err
		}
		return db.Insert(ctx, tx, scope, c)
	})
}

type byID struct {
	ID string `path:"credential_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*Credential, error) {
	return db.Get[Credential](ctx, s.DB, who.Scope, in.ID)
}

type updateIn struct {
	byID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

// changed is what a merge patch of an extension is applied to: its fields, and a password that is there only when the
// patch gives one.
type changed struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Password   string         `json:"password,omitempty"`
	Draft
}

func (s *Service) update(ctx context.Context, who auth.Caller, in updateIn) (*Credential, error) {
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(c *Credential) error {
		wanted := changed{ExternalID: c.ExternalID, Metadata: c.Metadata, Draft: c.Draft}
		if err := in.Patch.Apply(&wanted); err != nil {
			return err
		}
		if err := s.checkCallerID(ctx, who.Scope, &wanted.Draft); err != nil {
			return err
		}
		c.ExternalID, c.Metadata, c.Draft = wanted.ExternalID, wanted.Metadata, wanted.Draft
		if wanted.Password != "" {
			c.digest(wanted.Password)
		}
		return nil
	})
}

type removeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

func (s *Service) remove(ctx context.Context, who auth.Caller, in removeIn) (rest.None, error) {
	return rest.None{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		// Registrations go with it (ON DELETE CASCADE).
		if err := db.Delete[Credential](ctx, tx, who.Scope, in.ID, in.IfMatch, uses()...); err != nil {
			return err
		}
		return FreeCode(ctx, tx, in.ID)
	})
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
