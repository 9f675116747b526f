package account

import (
	"context"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Shown is an account as the API answers it.
type Shown struct {
	Account
	Domains []string `json:"domains"` // SIP domains; the first is the digest realm
}

func show(ctx context.Context, conn db.Conn, a *Account) (*Shown, error) {
	all, err := domains(ctx, conn, a.ID)
	if err != nil {
		return nil, err
	}
	return &Shown{Account: *a, Domains: all[a.ID]}, nil
}

// own answers with the caller's account. A platform key has none.
func (s *Service) own(ctx context.Context, who auth.Caller, _ struct{}) (*Shown, error) {
	a, err := db.Get[Account](ctx, s.DB, auth.Account(who.AccountID), who.AccountID)
	if err != nil {
		return nil, err
	}
	return show(ctx, s.DB, a)
}

// ownDraft is what an account may change of itself.
type ownDraft struct {
	Name           string `json:"name"`
	DefaultCountry string `json:"default_country"`
	TimeZone       string `json:"time_zone"`
}

type updateOwnIn struct {
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) updateOwn(ctx context.Context, who auth.Caller, in updateOwnIn) (*Shown, error) {
	a, err := db.Change(ctx, s.DB, auth.Account(who.AccountID), who.AccountID, in.IfMatch, func(a *Account) error {
		wanted := ownDraft{a.Name, a.DefaultCountry, a.TimeZone}
		if err := in.Patch.Apply(&wanted); err != nil {
			return err
		}
		a.Name, a.DefaultCountry, a.TimeZone = wanted.Name, wanted.DefaultCountry, wanted.TimeZone
		return a.Check()
	})
	if err != nil {
		return nil, err
	}
	return show(ctx, s.DB, a)
}

// Usage is what an account uses of its limits, and what it has, at this moment.
type Usage struct {
	Limits         Limits `json:"limits"`
	Calls          int64  `json:"calls"` // legs in progress
	Agents         int64  `json:"agents"`
	Users          int64  `json:"users"`
	Numbers        int64  `json:"numbers"`
	Extensions     int64  `json:"extensions"`
	StorageBytes   int64  `json:"storage_bytes"` // RecordingBytes and MediaBytes
	RecordingBytes int64  `json:"recording_bytes"`
	MediaBytes     int64  `json:"media_bytes"`
}

func (s *Service) usage(ctx context.Context, who auth.Caller, _ struct{}) (*Usage, error) {
	return s.Usage(ctx, webhooks.AccountID(who.AccountID))
}

// Usage counts what an account uses.
func (s *Service) Usage(ctx context.Context, id webhooks.AccountID) (*Usage, error) {
	a, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	u := &Usage{Limits: a.Limits}
	for _, each := range []struct {
		into  *int64
		query string
	}{
		{&u.Calls, "SELECT count(*) FROM calls WHERE account_id = ? AND ended_at IS NULL"},
		{&u.Users, "SELECT count(*) FROM users WHERE account_id = ?"},
		{&u.Numbers, "SELECT count(*) FROM numbers WHERE account_id = ?"},
		{&u.Extensions, "SELECT count(*) FROM credentials WHERE account_id = ?"},
	} {
		if err := s.DB.Read().NewRaw(each.query, id).Scan(ctx, each.into); err != nil {
			return nil, db.Check(err)
		}
	}
	if u.RecordingBytes, u.MediaBytes, err = Stored(ctx, s.DB, id); err != nil {
		return nil, err
	}
	u.StorageBytes = u.RecordingBytes + u.MediaBytes
	if s.Agents != nil {
		if u.Agents, err = s.Agents(ctx, string(id)); err != nil {
			return nil, err
		}
	}
	return u, nil
}
