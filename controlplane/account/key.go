package account

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Key is a stored API key, platform key or edge token. Its text is "<kind>_<id without prefix>_<secret>", of which only
// hashes are stored.
type Key struct {
	bun.BaseModel `bun:"table:api_keys" json:"-"`
	db.Row
	KeyDraft

	Kind       auth.Kind  `bun:"kind" json:"-"`
	Hash       string     `bun:"hash" json:"-"`
	LastUsedAt *time.Time `bun:"last_used_at" json:"last_used_at,omitempty"` // exact to a minute
	// OldHash is that of the text before the last rotation, which opens as well until OldUntil.
	OldHash  string     `bun:"old_hash,nullzero" json:"-"`
	OldUntil *time.Time `bun:"old_until" json:"old_until,omitempty"`
}

// KeyDraft is what a caller may write of a key.
type KeyDraft struct {
	Name          string     `bun:"name" json:"name"`
	Permissions   []string   `bun:"permissions,type:jsonb" json:"permissions"`
	Networks      []string   `bun:"networks,type:jsonb" json:"networks"`    // CIDRs it may be used from; none: from anywhere
	RatePerSecond float64    `bun:"rate_per_second" json:"rate_per_second"` // 0 for the server's default
	ExpiresAt     *time.Time `bun:"expires_at" json:"expires_at,omitempty"` // nil for never
}

const (
	keyPrefix      = "key_"
	maxPermissions = 500
	maxNetworks    = 100
	maxRate        = 10_000
)

// permission is the form of one, of a whole resource, and of all.
var permission = regexp.MustCompile(`^(\*|[a-z_]+\.(\*|[a-z_]+))$`)

// check refuses what no key can be, and writes the networks in their normal form. That the maker has the permissions is
// checked by mayMake.
func (s *Service) checkKey(d *KeyDraft) error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case len(d.Permissions) == 0 || len(d.Permissions) > maxPermissions:
		return problem.InvalidField("/permissions", "count", "must be 1–%d permissions", maxPermissions)
	case len(d.Networks) > maxNetworks:
		return problem.InvalidField("/networks", "count", "may be at most %d networks", maxNetworks)
	case d.RatePerSecond < 0 || d.RatePerSecond > maxRate:
		return problem.InvalidField("/rate_per_second", "range", "must be 0–%d", maxRate)
	}
	for i, p := range d.Permissions {
		// What begins so is the operator's, and "*" does not mean it.
		if !permission.MatchString(p) || auth.Resource(p) == platform || (s.Knows != nil && !s.Knows(p)) {
			return problem.RefusedField("/permissions/"+strconv.Itoa(i), "unknown", "there is no permission %q", p)
		}
	}
	networks := make([]string, 0, len(d.Networks))
	for i, text := range d.Networks {
		network, ok := readNetwork(text)
		if !ok {
			return problem.InvalidField("/networks/"+strconv.Itoa(i), "cidr", "must be a network such as 192.0.2.0/24, or an address")
		}
		networks = append(networks, network.String())
	}
	d.Networks = networks
	if d.ExpiresAt != nil {
		at := d.ExpiresAt.UTC().Truncate(time.Microsecond)
		d.ExpiresAt = &at
	}
	return nil
}

// readNetwork reads a network, or an address as the network of it alone.
func readNetwork(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	network, err := netip.ParsePrefix(text)
	return network.Masked(), err == nil
}

// mayMake refuses a caller who would make, or take over, a key that may do more than he: one with a permission that he
// has not; and one at all where he sees only some rows or no numbers, because a key sees everything in its account.
func mayMake(who auth.Caller, permissions []string) error {
	for i, p := range permissions {
		if !who.Can(p) {
			return problem.RefusedField("/permissions/"+strconv.Itoa(i), "beyond", "you do not have %s yourself, and so no key of yours can", p)
		}
		if _, narrowed := who.Over(auth.Resource(p)).Rows(); narrowed {
			return problem.New(problem.CodeForbidden, "a key sees all "+auth.Resource(p)+" of the account, of which you see only some; ask somebody who sees all to make it")
		}
	}
	if who.Mask.Numbers {
		return problem.New(problem.CodeForbidden, "a key sees telephone numbers, which are hidden from you; ask somebody who sees them to make it")
	}
	return nil
}

// fresh gives a key a new text.
func (k *Key) renew(kind auth.Kind) (text string) {
	text, made := auth.NewKey(kind, strings.TrimPrefix(k.ID, keyPrefix))
	k.Kind, k.Hash = kind, made.Hash
	return text
}

// CreateKey makes an API key of an account. The text is shown once and stored nowhere.
func (s *Service) CreateKey(ctx context.Context, id webhooks.AccountID, name string, permissions ...string) (text string, err error) {
	k := &Key{Row: db.Row{ID: db.NewID("key"), AccountID: string(id)}, KeyDraft: KeyDraft{Name: name, Permissions: permissions}}
	text = k.renew(auth.APIKey)
	return text, s.store(ctx, k)
}

// AdoptKey stores an API key whose text exists already, as one made by CreateKey in another database.
func (s *Service) AdoptKey(ctx context.Context, id webhooks.AccountID, name, text string, permissions ...string) error {
	key, err := auth.ParseKey(text)
	if err != nil {
		return err
	}
	if key.Kind != auth.APIKey {
		return errors.New("this is no API key: it must begin with sk_")
	}
	return s.store(ctx, &Key{
		Row: db.Row{ID: keyPrefix + key.ID, AccountID: string(id)}, KeyDraft: KeyDraft{Name: name, Permissions: permissions},
		Kind: key.Kind, Hash: key.Hash,
	})
}

// CreateEdgeToken makes a token for edges. It belongs to the installation.
func (s *Service) CreateEdgeToken(ctx context.Context, name string) (text string, err error) {
	k := &Key{Row: db.Row{ID: db.NewID("key")}, KeyDraft: KeyDraft{Name: name}}
	text = k.renew(auth.EdgeToken)
	return text, s.store(ctx, k)
}

// CreatePlatformKey makes a key of the operator. It belongs to the installation.
func (s *Service) CreatePlatformKey(ctx context.Context, name string) (text string, err error) {
	k := &Key{Row: db.Row{ID: db.NewID("key")}, KeyDraft: KeyDraft{Name: name, Permissions: []string{platformRead, platformWrite}}}
	text = k.renew(auth.PlatformKey)
	return text, s.store(ctx, k)
}

// HasKey reports whether an account has an API key.
func (s *Service) HasKey(ctx context.Context, id webhooks.AccountID) (bool, error) {
	n, err := db.Count[Key](ctx, s.DB, auth.Account(string(id)))
	return n > 0, err
}

func (s *Service) store(ctx context.Context, k *Key) error {
	if k.Permissions == nil {
		k.Permissions = []string{}
	}
	if k.Networks == nil {
		k.Networks = []string{}
	}
	return db.Insert(ctx, s.DB, auth.Everywhere(), k)
}

// errBadKey is the one answer to every key that is not taken.
func errBadKey() error {
	return problem.Unauthenticated("this key is not accepted; check that it is whole, has not expired or been revoked, and may be used from this address")
}

// Authenticate finds who holds an API key or a platform key. A key that is unknown, expired, revoked, an edge's, or used
// from elsewhere than its networks is one and the same Unauthenticated; that of a suspended account is Forbidden.
func (s *Service) Authenticate(ctx context.Context, token string, from netip.Addr) (auth.Caller, error) {
	k, err := s.holder(ctx, token, from, auth.APIKey, auth.PlatformKey)
	if err != nil {
		return auth.Caller{}, err
	}
	return s.caller(ctx, k)
}

// Caller is who uses a key, as Authenticate says, for a token that was made with it: the token's bearer was not asked
// for the key's text, and may be elsewhere than its networks.
func (s *Service) Caller(ctx context.Context, keyID string) (auth.Caller, error) {
	k, err := s.key(ctx, keyID)
	if err != nil {
		return auth.Caller{}, err
	}
	if k.Kind != auth.APIKey || k.expired(s.now()) {
		return auth.Caller{}, errBadKey()
	}
	return s.caller(ctx, k)
}

func (s *Service) caller(ctx context.Context, k *Key) (auth.Caller, error) {
	who := auth.Caller{
		AccountID: k.AccountID, KeyID: k.ID, Permissions: k.Permissions, Scope: auth.Account(k.AccountID), RatePerSecond: k.RatePerSecond,
	}
	if k.Kind == auth.PlatformKey {
		who.Scope = auth.Everywhere()
		return who, nil
	}
	served, err := s.IsActive(ctx, webhooks.AccountID(k.AccountID))
	if err != nil {
		return auth.Caller{}, err
	}
	if !served {
		return auth.Caller{}, ErrSuspended()
	}
	return who, nil
}

// AuthorizeEdge reports whether a token is one that edges may present; it is an Unauthenticated problem otherwise.
func (s *Service) AuthorizeEdge(ctx context.Context, token string) error {
	_, err := s.holder(ctx, token, netip.Addr{}, auth.EdgeToken)
	return err
}

// holder finds the key of a text, which must be of one of these kinds.
func (s *Service) holder(ctx context.Context, token string, from netip.Addr, kinds ...auth.Kind) (*Key, error) {
	given, err := auth.ParseKey(token)
	if err != nil {
		return nil, errBadKey()
	}
	k, err := s.key(ctx, keyPrefix+given.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	for _, kind := range kinds {
		if given.Kind == kind && k.Kind == kind && k.opens(given, now) && !k.expired(now) && k.allows(from) {
			return k, s.used(ctx, k, now)
		}
	}
	return nil, errBadKey()
}

// key reads a key, as it was at most a second ago.
func (s *Service) key(ctx context.Context, id string) (*Key, error) {
	return s.keys.Get(id, func() (*Key, error) {
		k, err := db.Find[Key](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("id = ?", id) })
		if errors.Is(err, sql.ErrNoRows) {
			return nil, errBadKey()
		}
		return k, err
	})
}

// opens reports whether a text is the key's, or was until it was rotated.
func (k *Key) opens(given auth.Key, now time.Time) bool {
	return given.Matches(k.Hash) || (k.OldUntil != nil && now.Before(*k.OldUntil) && given.Matches(k.OldHash))
}

func (k *Key) expired(now time.Time) bool { return k.ExpiresAt != nil && !now.Before(*k.ExpiresAt) }

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
	s.keys.Forget(k.ID)
	return db.Check(err)
}
