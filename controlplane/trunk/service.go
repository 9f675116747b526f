package trunk

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the operations on trunks.
type Service struct {
	DB      *db.DB
	Numbers credential.Numbers
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation { return rest.Operations(s.resource()) }

// draft is what a caller writes of a trunk.
type draft struct {
	rest.Keys
	Password string `json:"password,omitempty"`
	Draft
}

func (s *Service) resource() rest.Resource[Trunk, draft] {
	return rest.Resource[Trunk, draft]{
		DB: s.DB, One: "Trunk", Many: "Trunks", Prefix: "trk", Table: table(),
		Draft: func(t *Trunk) draft { return draft{Password: t.Password, Draft: t.Draft} },
		Put:   s.put, Stored: claim, Exclusive: s.exclusive,
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"name": {Sort: true}}), Search: []string{"name", "address"}}
}

func (s *Service) put(ctx context.Context, tx *db.Tx, _ auth.Caller, t *Trunk, d draft) error {
	if err := d.Check(); err != nil {
		return err
	}
	if d.CallerID != "" {
		number, found, err := s.Numbers.Owns(ctx, tx, webhooks.AccountID(t.AccountID), d.CallerID)
		if err != nil {
			return err
		}
		if !found {
			return problem.RefusedField("/caller_id", "not_owned", "is not one of this account's numbers; add it to /v1/numbers before")
		}
		d.CallerID = number
	}
	t.Draft, t.Password = d.Draft, d.Password
	return nil
}

// exclusive runs a change of networks while no other is made: that two overlap is no unique key's business.
func (s *Service) exclusive(ctx context.Context, change func(ctx context.Context) error) error {
	return s.DB.Lock(ctx, "trunk_networks", change)
}

// claim writes a trunk's networks, unless one overlaps a network of another account: whose call would it be?
func claim(ctx context.Context, tx *db.Tx, _ auth.Caller, t *Trunk) error {
	var others []network
	err := tx.Write().NewSelect().Model(&others).Where("account_id <> ?", t.AccountID).Scan(db.AsInstallation(ctx))
	if err != nil {
		return db.Check(err)
	}
	if _, err := tx.Write().NewDelete().Model((*network)(nil)).Where("trunk_id = ?", t.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	for _, text := range t.Networks {
		mine, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		for _, other := range others {
			if theirs, err := netip.ParsePrefix(other.Network); err == nil && theirs.Overlaps(mine) {
				return problem.Conflict("another account has a trunk in "+text+"; calls from there could not be told apart",
					problem.Field("/networks", "overlap", "%s overlaps a network of another account", text))
			}
		}
		row := &network{Network: text, TrunkID: t.ID, AccountID: t.AccountID, Bits: int64(mine.Bits())}
		if _, err := tx.Write().NewInsert().Model(row).Exec(ctx); err != nil {
			return db.Check(err)
		}
	}
	return nil
}

// OfSource finds the trunk that calls from an address belong to: that with the narrowest network, the oldest of
// several.
func (s *Service) OfSource(ctx context.Context, source netip.Addr) (t *Trunk, found bool, err error) {
	source = source.Unmap().WithZone("")
	if !source.IsValid() {
		return nil, false, nil
	}
	var prefixes []string
	for bits := range source.BitLen() + 1 {
		p, err := source.Prefix(bits)
		if err != nil {
			return nil, false, err
		}
		prefixes = append(prefixes, p.String())
	}
	var n network
	err = s.DB.Read().NewSelect().Model(&n).Where("network IN (?)", bun.List(prefixes)).
		OrderBy("bits", bun.OrderDesc).OrderBy("trunk_id", bun.OrderAsc).Limit(1).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, db.Check(err)
	}
	t, err = db.Get[Trunk](ctx, s.DB, auth.Account(n.AccountID), n.TrunkID)
	return t, err == nil, err
}

// All are an account's trunks, the oldest first: the order in which calls out try them.
func (s *Service) All(ctx context.Context, id webhooks.AccountID) ([]Trunk, error) {
	return db.List[Trunk](ctx, s.DB, auth.Account(string(id)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc)
	})
}

// Named finds a trunk of an account by its id or its name.
func (s *Service) Named(ctx context.Context, id webhooks.AccountID, name string) (t *Trunk, found bool, err error) {
	t, err = db.Find[Trunk](ctx, s.DB, auth.Account(string(id)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("(id = ? OR name = ?)", name, name)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return t, err == nil, err
}
