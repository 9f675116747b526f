package event

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"slices"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on events.
type Service struct {
	DB    *db.DB
	Masks Masks
}

// Operations are the functions of events.yaml but for the stream, which is live's.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"listEvents": rest.Op(s.list),
		"getEvent":   rest.Op(s.get),
	}
}

// table is what the list may be filtered by. Its order is the position's alone, which is its cursor as well.
func table() list.Table {
	return list.Table{
		Sort: "-position",
		Fields: map[string]list.Field{
			"position": {Type: list.Int, Sort: true}, "resource": {}, "object_id": {}, "call_id": {}, "conversation_id": {},
			"occurred_at": {Type: list.Time}, "created_at": {Type: list.Time},
		},
	}
}

type listIn struct {
	Query  url.Values `query:"*"`
	Type   []string   `query:"type"`
	After  *int64     `query:"after"`
	Cursor string     `query:"cursor"`
	Sort   string     `query:"sort"`
}

func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[Event], error) {
	page := list.Page[Event]{Data: []Event{}}
	for _, own := range []string{"type", "after", "cursor", "sort"} {
		in.Query.Del(own)
	}
	q, err := table().Parse(in.Query)
	if err != nil {
		return page, err
	}
	// What follows a position is read forwards, unless it is asked for otherwise.
	ascending := in.Sort == "position" || (in.Sort == "" && in.After != nil)
	from, err := cursor(in.Cursor)
	if err != nil {
		return page, err
	}
	if in.After != nil {
		if err := Kept(ctx, s.DB, who.Scope.AccountID(), *in.After); err != nil {
			return page, err
		}
	}
	reader := ReaderOf(who)
	wanted := func(s *bun.SelectQuery) *bun.SelectQuery {
		s = OfTypes(reader.Where(s.Apply(q.Where(who.Scope))), in.Type).Where("?TableAlias.position IS NOT NULL")
		if in.After != nil {
			s = s.Where("?TableAlias.position > ?", *in.After)
		}
		return s
	}
	rows := s.DB.Read().NewSelect().Model(&page.Data).Apply(wanted).Limit(int64(q.Limit) + 1)
	switch {
	case ascending:
		rows = rows.Where("?TableAlias.position > ?", from).OrderBy("position", bun.OrderAsc)
	case from > 0:
		rows = rows.Where("?TableAlias.position < ?", from).OrderBy("position", bun.OrderDesc)
	default:
		rows = rows.OrderBy("position", bun.OrderDesc)
	}
	if err := rows.Scan(ctx); err != nil {
		return page, db.Check(err)
	}
	if len(page.Data) > q.Limit {
		page.Data = page.Data[:q.Limit]
		page.NextCursor = strconv.FormatInt(page.Data[q.Limit-1].Position, 10)
	}
	for i := range page.Data {
		page.Data[i] = s.Masks.For(page.Data[i], who.Mask)
	}
	if q.Count {
		n, err := s.DB.Read().NewSelect().Model((*Event)(nil)).Apply(wanted).Count(ctx)
		if err != nil {
			return page, db.Check(err)
		}
		page.Total = &n
	}
	return page, nil
}

// cursor reads the position that a page ended with; 0 for none.
func cursor(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, problem.InvalidField("cursor", "cursor", "is not one that this list gave out; start again without it")
	}
	return n, nil
}

// Kept is a Refused problem when events that follow a position were purged; it names the account's first that is left.
func Kept(ctx context.Context, conn db.Conn, accountID string, after int64) error {
	gone, err := purged(ctx, conn)
	if err != nil || after >= gone {
		return err
	}
	var first int64
	err = conn.Read().NewSelect().Model((*Event)(nil)).Column("position").Where("account_id = ?", accountID).Where("position IS NOT NULL").
		OrderBy("position", bun.OrderAsc).Limit(1).Scan(ctx, &first)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return problem.RefusedField("after", "too_old", "is older than events are kept, and none is left; read on after %d", gone)
	case err != nil:
		return db.Check(err)
	}
	return problem.RefusedField("after", "too_old", "is older than events are kept; the first that is left has position %d, so read on after %d", first, first-1)
}

type getIn struct {
	ID string `path:"event_id"`
}

func (s *Service) get(ctx context.Context, who auth.Caller, in getIn) (Event, error) {
	var e Event
	err := s.DB.Read().NewSelect().Model(&e).Apply(ReaderOf(who).Where).Where("?TableAlias.id = ?", in.ID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return e, problem.NoSuch(in.ID)
	}
	return s.Masks.For(e, who.Mask), db.Check(err)
}

// ByID reads some events of an account, in no order; those that are unknown are left out.
func ByID(ctx context.Context, conn db.Conn, accountID string, ids []string) ([]Event, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var found []Event
	err := conn.Read().NewSelect().Model(&found).Where("account_id = ?", accountID).Where("id IN (?)", bun.List(slices.Clone(ids))).Scan(ctx)
	return found, db.Check(err)
}
