package call

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Service is the calls of an installation.
type Service struct {
	DB    *db.DB
	Edges Edges
	// Also is told of events in the transaction that stores them.
	Also []func(ctx context.Context, tx *db.Tx, events []webhooks.Event) error
	// Wake tells the readers of events, after a commit, that there are more (event.Feed.Wake). nil leaves them to look
	// by themselves.
	Wake func()
	// Customers are whom calls may name by their ids; nil is none.
	Customers *customer.Service
	// OwnerOf says whose a leg is; nil is nobody's.
	OwnerOf OwnerOf
	// DepartmentOf gives the department that a user is in, "" for none: who starts a call owns it.
	DepartmentOf func(ctx context.Context, conn db.Conn, account, userID string) (string, error)
	// Release removes what others keep of calls, in the transaction in which Purge removes these, and gives those that must
	// stay for now; nil is nothing.
	Release func(ctx context.Context, tx *db.Tx, account webhooks.AccountID, calls []webhooks.CallID) (stay []webhooks.CallID, err error)

	group db.Group[*publication]
}

// Operations are the functions of calls.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{
		"createCall":       rest.Op(s.create),
		"listCalls":        rest.List[Call](s.DB, table()),
		"searchCalls":      rest.Search[Call](s.DB, table()),
		"getCall":          rest.Get[Call](s.DB),
		"listCallEvents":   rest.Op(s.listEvents),
		"createCallAction": rest.Op(s.act),
	}
}

// table is what the list of calls may be filtered and sorted by.
func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{
		"from": {Mask: true}, "to": {Mask: true}, "direction": {}, "status": {}, "cause": {},
		"application_id": {}, "conversation_id": {}, "parent_call_id": {}, "number_id": {}, "trunk_id": {}, "credential_id": {}, "agent_id": {}, "customer_id": {}, "answered_by": {}, "sip_call_id": {},
		"owner_id": {}, "department_id": {}, "ended_by": {}, "sip_code": {Type: list.Int},
		"duration": {Type: list.Float}, "ring_duration": {Type: list.Float}, "talk_duration": {Type: list.Float},
		"answered_at": {Type: list.Time}, "ended_at": {Type: list.Time},
		"started_at": {Type: list.Time, Sort: true},
	})}
}

type eventsIn struct {
	ID     string   `path:"call_id"`
	After  int64    `query:"after"`
	Type   []string `query:"type"`
	Limit  int      `query:"limit"`
	Cursor string   `query:"cursor"`
	Sort   string   `query:"sort"`
	Count  bool     `query:"count"`
}

// listEvents gives a call's events by sequence, which is also the cursor: that of the page's last event.
func (s *Service) listEvents(ctx context.Context, who auth.Caller, in eventsIn) (list.Page[webhooks.Event], error) {
	page := list.Page[webhooks.Event]{Data: []webhooks.Event{}}
	from := int64(-1)
	if in.Cursor != "" {
		n, err := strconv.ParseInt(in.Cursor, 10, 64)
		if err != nil || n < 0 {
			return page, problem.InvalidField("cursor", "cursor", "is not one that this list gave out; start again without it")
		}
		from = n
	}
	if _, err := db.Get[Call](ctx, s.DB, who.Scope, in.ID); err != nil {
		return page, err
	}
	wanted := func(q *bun.SelectQuery) *bun.SelectQuery {
		q = db.Scoped(q, who.Scope).Where("call_id = ?", in.ID).Where("sequence > ?", in.After)
		if len(in.Type) > 0 {
			q = q.Where("type IN (?)", bun.List(in.Type))
		}
		return q
	}
	var rows []event.Event
	q := wanted(s.DB.Read().NewSelect().Model(&rows)).Limit(int64(in.Limit) + 1)
	switch backwards := in.Sort == "-sequence"; {
	case backwards && from >= 0:
		q = q.Where("sequence < ?", from).OrderBy("sequence", bun.OrderDesc)
	case backwards:
		q = q.OrderBy("sequence", bun.OrderDesc)
	default:
		q = q.Where("sequence > ?", from).OrderBy("sequence", bun.OrderAsc)
	}
	if err := q.Scan(ctx); err != nil {
		return page, db.Check(err)
	}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		page.NextCursor = strconv.FormatInt(rows[in.Limit-1].Sequence, 10)
	}
	for _, r := range rows {
		e, err := envelope(r)
		if err != nil {
			return page, err
		}
		page.Data = append(page.Data, e)
	}
	if in.Count {
		n, err := wanted(s.DB.Read().NewSelect().Model((*event.Event)(nil))).Count(ctx)
		if err != nil {
			return page, db.Check(err)
		}
		page.Total = &n
	}
	return page, nil
}

// envelope is a stored event of a call with its data as a struct.
func envelope(r event.Event) (webhooks.Event, error) {
	e := webhooks.Event{
		ID: webhooks.EventID(r.ID), Type: webhooks.EventType(r.Type), AccountID: webhooks.AccountID(r.AccountID), CallID: webhooks.CallID(r.CallID),
		ConversationID: webhooks.ConversationID(r.ConversationID), Sequence: r.Sequence, OccurredAt: r.OccurredAt,
	}
	if err := json.Unmarshal(r.Data, &e.Data); err != nil {
		return e, fmt.Errorf("event %s: %w", r.ID, err)
	}
	return e, nil
}
