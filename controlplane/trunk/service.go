package trunk

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"net/url"

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
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listTrunks":  rest.Op(s.list),
		"createTrunk": rest.Op(s.create),
		"getTrunk":    rest.Op(s.get),
		"updateTrunk": rest.Op(s.update),
		"deleteTrunk": rest.Op(s.remove),
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"name": {Sort: true}}), Search: []string{"name", "address"}}
}

type listIn struct {
	Query url.Values `query:"*"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Trunk], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Trunk]{}, err
	}
	return list.Run[Trunk](ctx, s.DB, who.Scope, q)
}

// newTrunk is the body of a create, and what a merge patch is applied to.
type newTrunk struct {
	ExternalID *string        `json:"external_id,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Password   string         `json:"password,omitempty"`
	Draft
}

type createIn struct {
	Body newTrunk `body:"json"`
}

func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (*Trunk, error) {
	t := &Trunk{
		Row:   db.Row{ID: db.NewID("trk"), ExternalID: in.Body.ExternalID, Metadata: in.Body.Metadata},
		Draft: in.Body.Draft, Password: in.Body.Password,
	}
	if err := s.check(ctx, who.Scope, &t.Draft); err != nil {
		return nil, err
	}
	return t, s.exclusive(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, who.Scope, t); err != nil {
			return err
		}
		return claim(ctx, tx, t)
	})
}

type byID struct {
	ID string `path:"trunk_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in byID) (*Trunk, error) {
	return db.Get[Trunk](ctx, s.DB, who.Scope, in.ID)
}

type updateIn struct {
	byID
	IfMatch string     `header:"If-Match"`
	Patch   rest.Patch `body:"json"`
}

func (s *Service) update(ctx context.Context, who auth.Caller, in updateIn) (*Trunk, error) {
	var changed *Trunk
	err := s.exclusive(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		changed, err = db.Change(ctx, tx, who.Scope, in.ID, in.IfMatch, func(t *Trunk) error {
			wanted := newTrunk{ExternalID: t.ExternalID, Metadata: t.Metadata, Password: t.Password, Draft: t.Draft}
			if err := in.Patch.Apply(&wanted); err != nil {
				return err
			}
			if err := s.check(ctx, who.Scope, &wanted.Draft); err != nil {
				return err
			}
			t.ExternalID, t.Metadata, t.Password, t.Draft = wanted.ExternalID, wanted.Metadata, wanted.Password, wanted.Draft
			return nil
		})
		if err != nil {
			return err
		}
		return claim(ctx, tx, changed)
	})
	return changed, err
}

type removeIn struct {
	byID
	IfMatch string `header:"If-Match"`
}

func (s *Service) remove(ctx context.Context, who auth.Caller, in removeIn) (rest.None, error) {
	return rest.None{}, db.Delete[Trunk](ctx, s.DB, who.Scope, in.ID, in.IfMatch)
}

func (s *Service) check(ctx context.Context, scope auth.Scope, d *Draft) error {
	if err := d.Check(); err != nil {
		return err
	}
	if d.CallerID == "" {
		return nil
	}
	number, found, err := s.Numbers.Owned(ctx, webhooks.AccountID(scope.AccountID()), d.CallerID)
	if err != nil {
		return err
	}
	if !found {
		return problem.RefusedField("/caller_id", "not_owned", "is not one of this account's numbers; add it to /v1/numbers before")
	}
	d.CallerID = number
	return nil
}

// exclusive runs a change of networks while no other is made: that two overlap is no unique key's business.
func (s *Service) exclusive(ctx context.Context, fn func(ctx context.Context, tx *db.Tx) error) error {
	return s.DB.Lock(ctx, "trunk_networks", func(ctx context.Context) error { return s.DB.InTx(ctx, fn) })
}

// claim writes a trunk's networks, unless one overlaps a network of another account: whose call would it be?
func claim(ctx context.Context, tx *db.Tx, t *Trunk) error {
	var others []network
	err := tx.Write().NewSelect().Model(&others).Where("account_id <> ?", t.AccountID).Scan(ctx)
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
