package account

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service answers what others ask of accounts and keys.
type Service struct {
	DB  *db.DB
	Now func() time.Time // for rows and expiries; nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Create makes an account with its SIP domains, of which the first is its digest realm for good. It is for the
// operator: no account's key reaches it.
func (s *Service) Create(ctx context.Context, draft Draft, domains ...string) (*Account, error) {
	if err := draft.Check(); err != nil {
		return nil, err
	}
	if len(domains) == 0 {
		return nil, problem.InvalidField("/domains", "required", "must name at least one SIP domain")
	}
	id := db.NewID("acc")
	a := &Account{Row: db.Row{ID: id, AccountID: id}, Draft: draft}
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, auth.Everywhere(), a); err != nil {
			return err
		}
		for i, name := range domains {
			name = NormalDomain(name)
			if !hostName.MatchString(name) || len(name) > 253 {
				return problem.InvalidField("/domains", "format", "must be host names such as pbx.example.com, is %q", name)
			}
			if _, err := tx.Write().NewInsert().Model(&domain{Domain: name, AccountID: id, Position: int64(i)}).Exec(ctx); err != nil {
				return db.Check(err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Get reads an account.
func (s *Service) Get(ctx context.Context, id webhooks.AccountID) (*Account, error) {
	return db.Get[Account](ctx, s.DB, auth.Account(string(id)), string(id))
}

// Named finds an account by its name; the oldest when there are several, and found false when there is none.
func (s *Service) Named(ctx context.Context, name string) (a *Account, found bool, err error) {
	a, err = db.Find[Account](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("name = ?", name).OrderBy("id", bun.OrderAsc)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
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

// Key is a stored API key or edge token.
type Key struct {
	bun.BaseModel `bun:"table:api_keys" json:"-"`
	db.Row

	Name          string     `bun:"name" json:"name"`
	Kind          auth.Kind  `bun:"kind" json:"kind"`
	Hash          string     `bun:"hash" json:"-"`
	Permissions   []string   `bun:"permissions,type:jsonb" json:"permissions"`
	Networks      []string   `bun:"networks,type:jsonb" json:"networks"` // CIDRs it may be used from; none: from anywhere
	RatePerSecond float64    `bun:"rate_per_second" json:"rate_per_second"`
	ExpiresAt     *time.Time `bun:"expires_at" json:"expires_at,omitempty"`
	LastUsedAt    *time.Time `bun:"last_used_at" json:"last_used_at,omitempty"`
}

const keyPrefix = "key_"

// CreateKey makes an API key of an account. The text is shown once and stored nowhere.
func (s *Service) CreateKey(ctx context.Context, id webhooks.AccountID, name string, permissions ...string) (text string, err error) {
	rowID := db.NewID("key")
	text, key := auth.NewKey(auth.APIKey, rowID[len(keyPrefix):])
	return text, s.store(ctx, id, name, key, permissions)
}

// AdoptKey stores an API key whose text exists already, as one made by CreateKey in another database.
func (s *Service) AdoptKey(ctx context.Context, id webhooks.AccountID, name, text string, permissions ...string) error {
	key, err := auth.ParseKey(text)
	if err != nil {
		return err
	}
	if key.Kind != auth.APIKey {
		return errors.New("an edge's token is no API key: it must begin with sk_")
	}
	return s.store(ctx, id, name, key, permissions)
}

// CreateEdgeToken makes a token for edges. It belongs to the installation.
func (s *Service) CreateEdgeToken(ctx context.Context, name string) (text string, err error) {
	rowID := db.NewID("key")
	text, key := auth.NewKey(auth.EdgeToken, rowID[len(keyPrefix):])
	return text, s.store(ctx, "", name, key, nil)
}

// HasKey reports whether an account has an API key.
func (s *Service) HasKey(ctx context.Context, id webhooks.AccountID) (bool, error) {
	n, err := db.Count[Key](ctx, s.DB, auth.Account(string(id)))
	return n > 0, err
}

func (s *Service) store(ctx context.Context, id webhooks.AccountID, name string, key auth.Key, permissions []string) error {
	if permissions == nil {
		permissions = []string{}
	}
	return db.Insert(ctx, s.DB, auth.Everywhere(), &Key{
		Row:  db.Row{ID: keyPrefix + key.ID, AccountID: string(id)},
		Name: name, Kind: key.Kind, Hash: key.Hash, Permissions: permissions, Networks: []string{},
	})
}

// Authenticate finds who holds an API key: it is rest's Authenticate. A key that is unknown, expired, an edge's, or
// used from elsewhere than its networks is one and the same Unauthenticated.
func (s *Service) Authenticate(ctx context.Context, token string, from netip.Addr) (auth.Caller, error) {
	row, err := s.holder(ctx, token, auth.APIKey, from)
	if err != nil {
		return auth.Caller{}, err
	}
	return auth.Caller{
		AccountID: row.AccountID, KeyID: row.ID, Permissions: row.Permissions, Scope: auth.Account(row.AccountID),
		RatePerSecond: row.RatePerSecond,
	}, nil
}

// AuthorizeEdge reports whether a token is one that edges may present; it is an Unauthenticated problem otherwise.
func (s *Service) AuthorizeEdge(ctx context.Context, token string) error {
	_, err := s.holder(ctx, token, auth.EdgeToken, netip.Addr{})
	return err
}

func (s *Service) holder(ctx context.Context, token string, kind auth.Kind, from netip.Addr) (*Key, error) {
	refused := problem.Unauthenticated("this key is not accepted; check that it is whole, has not expired, and may be used from this address")
	key, err := auth.ParseKey(token)
	if err != nil || key.Kind != kind {
		return nil, refused
	}
	row, err := db.Find[Key](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("id = ?", keyPrefix+key.ID)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	now := s.now()
	if !key.Matches(row.Hash) || row.Kind != kind || (row.ExpiresAt != nil && !now.Before(*row.ExpiresAt)) || !row.allows(from) {
		return nil, refused
	}
	return row, s.used(ctx, row, now)
}

func (k *Key) allows(from netip.Addr) bool {
	if len(k.Networks) == 0 {
		return true
	}
	for _, text := range k.Networks {
		if network, err := netip.ParsePrefix(text); err == nil && network.Contains(from) {
			return true
		}
	}
	return false
}

// usedEvery is how exact last_used_at is: a write per request would cost more than the request.
const usedEvery = time.Minute

func (s *Service) used(ctx context.Context, k *Key, now time.Time) error {
	if k.LastUsedAt != nil && now.Sub(*k.LastUsedAt) < usedEvery {
		return nil
	}
	_, err := s.DB.Write().NewUpdate().Model((*Key)(nil)).Set("last_used_at = ?", now).
		Where("id = ?", k.ID).Where("(last_used_at IS NULL OR last_used_at < ?)", now.Add(-usedEvery/2)).Exec(ctx)
	return db.Check(err)
}
