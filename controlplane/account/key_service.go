package account

import (
	"context"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// The operations on an account's own keys.

func keyTable() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"name": {Sort: true}, "expires_at": {Type: list.Time}, "last_used_at": {Type: list.Time},
		}),
		Search: []string{"name"},
	}
}

type listIn struct {
	Query url.Values `query:"*"`
}

type searchIn struct {
	Search list.Search `body:"json"`
}

func (s *Service) listKeys(ctx context.Context, who auth.Caller, in listIn) (list.Page[Key], error) {
	q, err := keyTable().Parse(in.Query)
	if err != nil {
		return list.Page[Key]{}, err
	}
	return s.pageOfKeys(ctx, who, q)
}

func (s *Service) searchKeys(ctx context.Context, who auth.Caller, in searchIn) (list.Page[Key], error) {
	q, err := keyTable().ParseSearch(in.Search)
	if err != nil {
		return list.Page[Key]{}, err
	}
	return s.pageOfKeys(ctx, who, q)
}

func (s *Service) pageOfKeys(ctx context.Context, who auth.Caller, q list.Query) (list.Page[Key], error) {
	return list.Run[Key](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.kind = ?", auth.APIKey)
	})
}

// keyBody is the body of a create, and what a merge patch is applied to.
type keyBody struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	KeyDraft
}

// ShownKey is a key with its text, which is shown when it is made and never again.
type ShownKey struct {
	Key
	Text string `json:"key"`
}

type createKeyIn struct {
	Body keyBody `body:"json"`
}

func (s *Service) createKey(ctx context.Context, who auth.Caller, in createKeyIn) (*ShownKey, error) {
	if err := mayMake(who, in.Body.Permissions); err != nil {
		return nil, err
	}
	return s.makeKey(ctx, who.Scope, in.Body)
}

// makeKey stores a new key of an account, whose maker was checked.
func (s *Service) makeKey(ctx context.Context, scope auth.Scope, body keyBody) (*ShownKey, error) {
	shown := &ShownKey{Key: Key{Row: db.Row{ID: db.NewID("key"), ExternalID: body.ExternalID, Metadata: body.Metadata}, KeyDraft: body.KeyDraft}}
	if err := s.checkKey(&shown.KeyDraft); err != nil {
		return nil, err
	}
	if shown.expired(s.now()) {
		return nil, problem.InvalidField("/expires_at", "past", "must be in the future")
	}
	shown.Text = shown.renew(auth.APIKey)
	return shown, db.Insert(ctx, s.DB, scope, &shown.Key)
}

type keyByID struct {
	ID string `path:"api_key_id"`
}

func (s *Service) getKey(ctx context.Context, who auth.Caller, in keyByID) (*Key, error) {
	return db.Get[Key](ctx, s.DB, who.Scope, in.ID)
}

type updateKeyIn struct {
	keyByID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) updateKey(ctx context.Context, who auth.Caller, in updateKeyIn) (*Key, error) {
	defer s.keys.Forget(in.ID)
	return db.Change(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(k *Key) error {
		// Also as it is: else one could open a stronger key's networks.
		if err := mayMake(who, k.Permissions); err != nil {
			return err
		}
		wanted := keyBody{ExternalID: k.ExternalID, Metadata: k.Metadata, KeyDraft: k.KeyDraft}
		if err := in.Patch.Apply(&wanted); err != nil {
			return err
		}
		k.ExternalID, k.Metadata, k.KeyDraft = wanted.ExternalID, wanted.Metadata, wanted.KeyDraft
		if err := s.checkKey(&k.KeyDraft); err != nil {
			return err
		}
		return mayMake(who, k.Permissions)
	})
}

type revokeKeyIn struct {
	keyByID
	IfMatch string `header:"If-Match"`
}

// revokeKey takes a key away from whoever has it, within Fresh. Anyone who may write keys may: nobody gains by it.
func (s *Service) revokeKey(ctx context.Context, who auth.Caller, in revokeKeyIn) (rest.None, error) {
	defer s.keys.Forget(in.ID)
	return rest.None{}, db.Delete[Key](ctx, s.DB, who.Scope, in.ID, in.IfMatch)
}

// The time for which both texts of a rotated key open.
const (
	defaultOverlap = 24 * time.Hour
	maxOverlap     = 30 * 24 * time.Hour
)

type rotateKeyIn struct {
	keyByID
	Body struct {
		// Overlap is in seconds; absent for a day, 0 for none.
		Overlap *int64 `json:"overlap,omitempty"`
	} `body:"json"`
}

func (s *Service) rotateKey(ctx context.Context, who auth.Caller, in rotateKeyIn) (*ShownKey, error) {
	defer s.keys.Forget(in.ID)
	overlap := defaultOverlap
	if given := in.Body.Overlap; given != nil {
		if *given < 0 || *given > int64(maxOverlap/time.Second) {
			return nil, problem.InvalidField("/overlap", "range", "must be 0–%d seconds", int64(maxOverlap/time.Second))
		}
		overlap = time.Duration(*given) * time.Second
	}
	shown := &ShownKey{}
	k, err := db.Change(ctx, s.DB, who.Scope, in.ID, "", func(k *Key) error {
		if err := mayMake(who, k.Permissions); err != nil {
			return err
		}
		until := s.now().Add(overlap)
		k.OldHash, k.OldUntil = k.Hash, &until
		shown.Text = k.renew(auth.APIKey)
		return nil
	})
	if err != nil {
		return nil, err
	}
	shown.Key = *k
	return shown, nil
}
