package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/user"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Seed is what a first start makes: an account, its API key, extensions with random passwords, and a number that a
// stored program answers.
type Seed struct {
	Account     string // name
	Domain      string // SIP domain, also the digest realm
	Country     string // of national numbers, such as CN
	Owner       string // login of the first user, an owner, where the account has none; "" for nobody
	APIKey      string // "" for one that is made
	Extensions  []string
	Number      string          // short code
	Application string          // name of what answers it
	Program     json.RawMessage // its stored program
}

// Seeded is the outcome of a Seed. The secrets are there on the first start alone: they are stored nowhere.
type Seeded struct {
	First      bool
	AccountID  webhooks.AccountID
	Domain     string
	APIKey     string
	Extensions map[string]string // extension to password
	OwnerLink  user.Link         // by which the first owner chooses a password; zero when there is a user already
}

// Seed makes what the first start makes, unless it is there, and has the account stand for the edges' own addresses where
// Config says so. Call it before Run. It is the first start until the API key exists, which comes last: so one that
// was interrupted is finished, with new passwords, by the next. Of several processes that start at once one does it.
func (p *ControlPlane) Seed(ctx context.Context, s Seed) (Seeded, error) {
	var done Seeded
	err := p.db.Lock(ctx, "seed", func(ctx context.Context) error {
		var err error
		done, err = p.seed(ctx, s)
		return err
	})
	if err != nil {
		return Seeded{}, fmt.Errorf("first start: %w", err)
	}
	return done, p.findDefault(ctx)
}

func (p *ControlPlane) seed(ctx context.Context, s Seed) (Seeded, error) {
	a, found, err := p.accounts.Named(ctx, s.Account)
	if err != nil {
		return Seeded{}, err
	}
	if !found {
		draft := account.Draft{Name: s.Account, DefaultCountry: s.Country}
		if a, err = p.accounts.Create(ctx, draft, s.Domain); err != nil {
			return Seeded{}, err
		}
	}
	done := Seeded{AccountID: webhooks.AccountID(a.ID)}
	if done.Domain, err = p.accounts.Realm(ctx, done.AccountID); err != nil {
		return Seeded{}, err
	}
	if keyed, err := p.accounts.HasKey(ctx, done.AccountID); err != nil || keyed {
		return done, err
	}
	done.First, done.Extensions = true, map[string]string{}
	scope := auth.Account(a.ID)
	for _, extension := range s.Extensions {
		if done.Extensions[extension], err = p.seedExtension(ctx, scope, extension); err != nil {
			return Seeded{}, err
		}
	}
	if err := p.seedNumber(ctx, scope, s); err != nil {
		return Seeded{}, err
	}
	if s.Owner != "" {
		if done.OwnerLink, _, err = p.users.First(ctx, a.ID, s.Owner, s.Owner); err != nil {
			return Seeded{}, err
		}
	}
	if s.APIKey != "" {
		done.APIKey = s.APIKey
		return done, p.accounts.AdoptKey(ctx, done.AccountID, "first start", s.APIKey, "*")
	}
	done.APIKey, err = p.accounts.CreateKey(ctx, done.AccountID, "first start", "*")
	return done, err
}

// passwordLength is that of a random password, of 5 bits a letter.
const passwordLength = 20

func (p *ControlPlane) seedExtension(ctx context.Context, scope auth.Scope, extension string) (password string, err error) {
	password = rand.Text()[:passwordLength]
	had, found, err := p.credentials.Extension(ctx, webhooks.AccountID(scope.AccountID()), extension)
	switch {
	case err != nil:
		return "", err
	case found:
		return password, p.credentials.SetPassword(ctx, scope, had.ID, password)
	}
	c := &credential.Credential{Extension: extension, Draft: credential.Draft{MaxContacts: credential.DefaultMaxContacts}}
	return password, p.credentials.Insert(ctx, scope, c, password)
}

func (p *ControlPlane) seedNumber(ctx context.Context, scope auth.Scope, s Seed) error {
	if s.Number == "" {
		return nil
	}
	if _, found, err := p.numbers.Owned(ctx, webhooks.AccountID(scope.AccountID()), s.Number); err != nil || found {
		return err
	}
	a := &app.Application{Draft: app.Defaults()}
	a.Name, a.Program = s.Application, s.Program
	if err := p.apps.Insert(ctx, scope, a); err != nil {
		return err
	}
	return p.numbers.Insert(ctx, scope, &number.Number{Number: s.Number, Binding: number.Binding{ApplicationID: a.ID}})
}

// authorizeEdge puts the refusal of a token into the seam's terms.
func (p *ControlPlane) authorizeEdge(ctx context.Context, token string) error {
	err := p.accounts.AuthorizeEdge(ctx, token)
	if refused, ok := errors.AsType[*problem.Problem](err); ok && refused.Code == problem.CodeUnauthenticated {
		return &control.Error{Code: control.CodeUnauthorized, Message: refused.Detail}
	}
	return err
}

// secretNamed gives the installation's secret of a name, 32 random bytes, which the first process to ask makes.
func secretNamed(ctx context.Context, d *db.DB, name string) ([]byte, error) {
	var fresh [32]byte
	// rand.Read never fails (crypto/rand, since Go 1.24 it ends the process instead).
	_, _ = rand.Read(fresh[:])
	_, err := d.Write().NewRaw("INSERT INTO secrets (name, value, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		name, base64.StdEncoding.EncodeToString(fresh[:]), db.Now()).Exec(ctx)
	if err != nil {
		return nil, db.Check(fmt.Errorf("secret %s: %w", name, err))
	}
	var value string
	if err := d.Write().NewRaw("SELECT value FROM secrets WHERE name = ?", name).Scan(ctx, &value); err != nil {
		return nil, db.Check(fmt.Errorf("secret %s: %w", name, err))
	}
	return base64.StdEncoding.DecodeString(value)
}
