package credential

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Registration is one contact of an extension: where a phone is to be reached until it expires.
type Registration struct {
	bun.BaseModel `bun:"table:registrations" json:"-"`
	db.Row

	CredentialID string    `bun:"credential_id" json:"credential_id"`
	Extension    string    `bun:"extension" json:"extension"`
	Contact      string    `bun:"contact" json:"contact"` // SIP URI
	EdgeID       string    `bun:"edge_id" json:"edge_id"`
	Source       string    `bun:"source" json:"source"`       // address and port its REGISTER came from
	Transport    string    `bun:"transport" json:"transport"` // udp, tcp
	UserAgent    string    `bun:"user_agent" json:"user_agent"`
	Q            float64   `bun:"q" json:"q"` // preference, 1 the highest
	SIPCallID    string    `bun:"sip_call_id" json:"-"`
	CSeq         int64     `bun:"cseq" json:"-"`
	ExpiresAt    time.Time `bun:"expires_at" json:"expires_at"`
}

// Register is a REGISTER whose sender has proved to be the extension.
type Register struct {
	EdgeID    webhooks.EdgeID
	SIPCallID string
	CSeq      uint32
	Source    string
	Transport string
	UserAgent string
	Star      bool // Contact: * with Expires 0 removes all
	Contacts  []Contact
}

// Contact is one binding of a REGISTER. Expires 0 removes it.
type Contact struct {
	URI     string
	Expires time.Duration
	Q       float64 // 0 is taken for 1, the default of RFC 3261 §20.10
}

// ErrOutOfOrder is a REGISTER that comes after a later one of the same phone (RFC 3261 §10.3, step 7).
var ErrOutOfOrder = errors.New("a later REGISTER of this Call-ID has been processed already")

// MaxExpires is the longest a contact lives without being renewed; a phone that asks for more gets this.
const MaxExpires = 2 * time.Hour

// maxContactsAtOnce bounds what one REGISTER may hold, whatever the extension's max_contacts.
const maxContactsAtOnce = 20

// Register changes an extension's contacts and returns those that stand, the preferred and newest first (RFC 3261
// §10.3). It is all or nothing: one contact out of order is ErrOutOfOrder, and nothing is changed.
//
// Why the oldest contact gives way when there are more than max_contacts, instead of the new one being refused: a phone
// that restarts behind NAT comes back with another contact and never removes the one before; refusing would lock it
// out until that expired.
func (s *Service) Register(ctx context.Context, c *Credential, r Register) ([]Registration, error) {
	var standing []Registration
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		// Two REGISTERs of one extension at once would both count the contacts of before.
		if _, err := tx.Write().NewRaw("UPDATE credentials SET etag = etag WHERE id = ?", c.ID).Exec(ctx); err != nil {
			return db.Check(err)
		}
		now := s.now()
		had, err := contacts(ctx, tx, c, now)
		if err != nil {
			return err
		}
		standing, err = merge(c, r, had, now)
		if err != nil {
			return err
		}
		return replace(ctx, tx, c, had, standing)
	})
	if err != nil {
		return nil, err
	}
	return standing, nil
}

// Contacts are an extension's that have not expired, the preferred and newest first.
func (s *Service) Contacts(ctx context.Context, c *Credential) ([]Registration, error) {
	return contacts(ctx, s.DB, c, s.now())
}

func contacts(ctx context.Context, conn db.Conn, c *Credential, now time.Time) ([]Registration, error) {
	return db.List[Registration](ctx, conn, auth.Account(c.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("credential_id = ?", c.ID).Where("expires_at > ?", now).
			OrderBy("q", bun.OrderDesc).OrderBy("updated_at", bun.OrderDesc).OrderBy("id", bun.OrderDesc)
	})
}

// merge applies a REGISTER to the contacts there were.
func merge(c *Credential, r Register, had []Registration, now time.Time) ([]Registration, error) {
	standing := slices.Clone(had)
	stale := func(old Registration) bool { return old.SIPCallID == r.SIPCallID && int64(r.CSeq) <= old.CSeq }
	if r.Star {
		if slices.ContainsFunc(standing, stale) {
			return nil, ErrOutOfOrder
		}
		return []Registration{}, nil
	}
	for _, contact := range r.Contacts[:min(len(r.Contacts), maxContactsAtOnce)] {
		same := func(old Registration) bool { return old.Contact == contact.URI }
		if at := slices.IndexFunc(had, same); at >= 0 && stale(had[at]) {
			return nil, ErrOutOfOrder
		}
		at := slices.IndexFunc(standing, same)
		switch {
		case contact.Expires <= 0 && at >= 0:
			standing = slices.Delete(standing, at, at+1)
			continue
		case contact.Expires <= 0:
			continue
		case at < 0:
			standing = append(standing, Registration{Row: db.Row{ID: db.NewID("reg"), Metadata: map[string]any{}, CreatedAt: now}})
			at = len(standing) - 1
		}
		standing[at] = fill(standing[at], c, r, contact, now)
	}
	slices.SortStableFunc(standing, func(a, b Registration) int {
		return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), cmp.Compare(b.ID, a.ID))
	})
	if c.MaxContacts > 0 && len(standing) > c.MaxContacts {
		standing = standing[:c.MaxContacts]
	}
	slices.SortStableFunc(standing, func(a, b Registration) int { return cmp.Compare(b.Q, a.Q) })
	return standing, nil
}

func fill(row Registration, c *Credential, r Register, contact Contact, now time.Time) Registration {
	row.CredentialID, row.AccountID, row.Extension, row.Contact = c.ID, c.AccountID, c.Extension, contact.URI
	row.EdgeID, row.Source, row.Transport, row.UserAgent = string(r.EdgeID), r.Source, r.Transport, r.UserAgent
	row.SIPCallID, row.CSeq = r.SIPCallID, int64(r.CSeq)
	row.Q = cmp.Or(contact.Q, 1)
	row.ExpiresAt = now.Add(min(contact.Expires, MaxExpires)).Truncate(time.Microsecond)
	row.UpdatedAt, row.Etag = now, "1"
	return row
}

// replace writes the contacts that stand, and removes the rest with those that have expired.
func replace(ctx context.Context, tx *db.Tx, c *Credential, had, standing []Registration) error {
	kept := slices.DeleteFunc(slices.Clone(standing), func(r Registration) bool {
		return !slices.ContainsFunc(had, func(old Registration) bool { return sameBinding(old, r) })
	})
	gone := tx.Write().NewDelete().Model((*Registration)(nil)).Where("credential_id = ?", c.ID)
	if len(kept) > 0 {
		ids := make([]string, 0, len(kept))
		for _, r := range kept {
			ids = append(ids, r.ID)
		}
		gone = gone.Where("id NOT IN (?)", bun.List(ids))
	}
	if _, err := gone.Exec(ctx); err != nil {
		return db.Check(err)
	}
	fresh := slices.DeleteFunc(slices.Clone(standing), func(r Registration) bool {
		return slices.ContainsFunc(kept, func(k Registration) bool { return k.ID == r.ID })
	})
	if len(fresh) == 0 {
		return nil
	}
	_, err := tx.Write().NewInsert().Model(&fresh).Exec(ctx)
	return db.Check(err)
}

// sameBinding reports whether a row stands as it was stored.
func sameBinding(a, b Registration) bool {
	return a.ID == b.ID && a.CSeq == b.CSeq && a.SIPCallID == b.SIPCallID && a.ExpiresAt.Equal(b.ExpiresAt)
}

// Expire removes the contacts that have run out; call it every minute or so. Look-ups pass over them before.
func (s *Service) Expire(ctx context.Context) error {
	_, err := s.DB.Write().NewDelete().Model((*Registration)(nil)).Where("expires_at <= ?", s.now()).Exec(ctx)
	return db.Check(err)
}

func registrationTable() list.Table {
	return list.Table{Fields: map[string]list.Field{
		"created_at": {Type: list.Time, Sort: true}, "updated_at": {Type: list.Time, Sort: true}, "expires_at": {Type: list.Time, Sort: true},
		"credential_id": {}, "extension": {Sort: true}, "edge_id": {},
	}}
}

func (s *Service) listRegistrations(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Registration], error) {
	q, err := registrationTable().Parse(in.Query)
	if err != nil {
		return list.Page[Registration]{}, err
	}
	return list.Run[Registration](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("expires_at > ?", s.now())
	})
}
