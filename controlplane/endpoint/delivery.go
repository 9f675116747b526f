package endpoint

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Status is how far a delivery is.
type Status string

// The statuses.
const (
	Pending   Status = "pending"   // to be tried, for the first time or again
	Delivered Status = "delivered" // the endpoint has answered with 2xx
	Dead      Status = "dead"      // given up: failures for three days, or nothing left to send
)

// Delivery is one event on its way to one endpoint. There is one for each pair: an event that is sent again has the same.
type Delivery struct {
	bun.BaseModel `bun:"table:deliveries" json:"-"`

	ID         string `bun:"id,pk" json:"id"` // dlv_…
	AccountID  string `bun:"account_id" json:"-"`
	EndpointID string `bun:"endpoint_id" json:"endpoint_id"`
	EventID    string `bun:"event_id" json:"event_id"` // the webhook-id of every attempt
	Type       string `bun:"type" json:"type"`
	CallID     string `bun:"call_id,nullzero" json:"call_id,omitempty"`
	// Subject is what the event is about (event.Event.Subject): of one subject an endpoint gets one event after the other.
	Subject  string `bun:"subject" json:"-"`
	Position int64  `bun:"position" json:"-"`
	Status   Status `bun:"status" json:"status"`
	Attempts int64  `bun:"attempts" json:"attempts"`
	// Failures counts those of this round, which began with FirstAttemptAt.
	Failures       int64      `bun:"failures" json:"-"`
	FirstAttemptAt *time.Time `bun:"first_attempt_at" json:"first_attempt_at,omitempty"`
	NextAttemptAt  time.Time  `bun:"next_attempt_at" json:"-"`
	// ResponseStatus and Error are the last attempt's: a status of HTTP, or why there was none.
	ResponseStatus int        `bun:"response_status,nullzero" json:"response_status,omitempty"`
	Error          string     `bun:"error,nullzero" json:"error,omitempty"`
	CreatedAt      time.Time  `bun:"created_at" json:"created_at"`
	FinishedAt     *time.Time `bun:"finished_at" json:"finished_at,omitempty"`

	// Next is NextAttemptAt of what is pending. It waits longer for an earlier event of the same subject, and while the
	// endpoint fails as a whole.
	Next *time.Time `bun:"-" json:"next_attempt_at,omitempty"`
}

// AfterScanRow fills what follows from the columns.
func (d *Delivery) AfterScanRow(context.Context) error {
	if d.Status == Pending {
		next := d.NextAttemptAt
		d.Next = &next
	}
	return nil
}

// Attempt is one request to an endpoint.
type Attempt struct {
	bun.BaseModel `bun:"table:delivery_attempts" json:"-"`

	ID             string            `bun:"id,pk" json:"-"`
	AccountID      string            `bun:"account_id" json:"-"`
	DeliveryID     string            `bun:"delivery_id" json:"-"`
	Number         int64             `bun:"number" json:"number"` // from 1
	StartedAt      time.Time         `bun:"started_at" json:"started_at"`
	DurationMS     int64             `bun:"duration_ms" json:"duration_ms"`
	RequestHeaders map[string]string `bun:"request_headers,type:jsonb" json:"request_headers"`
	ResponseStatus int               `bun:"response_status,nullzero" json:"response_status,omitempty"`
	ResponseBody   string            `bun:"response_body,nullzero" json:"response_body,omitempty"` // its first 4 KiB
	// Error is a class: status, or one of guard.Class. Message is a sentence about it.
	Error   string `bun:"error,nullzero" json:"error,omitempty"`
	Message string `bun:"message,nullzero" json:"message,omitempty"`
}

// Detail is a delivery with all that was sent and answered.
type Detail struct {
	Delivery
	// Request is the body that is sent, absent once the event is no longer kept.
	Request json.RawMessage `json:"request_body,omitempty"`
	History []Attempt       `json:"history"` // the last 100 attempts, the latest first
}

// historyMost bounds Detail.History.
const historyMost = 100

// NewDelivery is the delivery of an event to an endpoint, to be tried at a time.
func NewDelivery(e event.Event, endpointID string, at time.Time) Delivery {
	return Delivery{
		ID: db.NewID("dlv"), AccountID: e.AccountID, EndpointID: endpointID, EventID: e.ID, Type: e.Type, CallID: e.CallID,
		Subject: e.Subject(), Position: e.Position, Status: Pending, NextAttemptAt: at, CreatedAt: at,
	}
}

// insertMost bounds the rows of one INSERT.
const insertMost = 500

// Queue stores deliveries and says that their endpoints have something to do. One that exists is left as it is, or with
// again begins anew. All must have the same NextAttemptAt.
func Queue(ctx context.Context, tx *db.Tx, deliveries []Delivery, again bool) error {
	if len(deliveries) == 0 {
		return nil
	}
	endpoints := map[string]bool{}
	for rest := deliveries; len(rest) > 0; {
		part := rest[:min(len(rest), insertMost)]
		rest = rest[len(part):]
		q := tx.Write().NewInsert().Model(&part)
		if again {
			q = q.On("CONFLICT (endpoint_id, event_id) DO UPDATE").Set("status = 'pending'").Set("failures = 0").
				Set("first_attempt_at = NULL").Set("finished_at = NULL").Set("next_attempt_at = EXCLUDED.next_attempt_at")
		} else {
			q = q.On("CONFLICT (endpoint_id, event_id) DO NOTHING")
		}
		if _, err := q.Exec(ctx); err != nil {
			return db.Check(err)
		}
		for _, d := range part {
			endpoints[d.EndpointID] = true
		}
	}
	ids := make([]string, 0, len(endpoints))
	for id := range endpoints {
		ids = append(ids, id)
	}
	return due(ctx, tx, deliveries[0].NextAttemptAt, ids...)
}

// due says that endpoints have something to do at a time.
func due(ctx context.Context, tx *db.Tx, at time.Time, endpointIDs ...string) error {
	_, err := tx.Write().NewRaw("UPDATE delivery_lanes SET due_at = ? WHERE endpoint_id IN (?) AND (due_at IS NULL OR due_at > ?)",
		at, bun.List(endpointIDs), at).Exec(ctx)
	return db.Check(err)
}

type deliveriesIn struct {
	ID     string     `path:"endpoint_id"`
	Query  url.Values `query:"*"`
	Cursor string     `query:"cursor"`
	Sort   string     `query:"sort"`
}

// deliveriesTable is what deliveries may be filtered by. Their order is that of their ids, which is that of their
// creation.
func deliveriesTable() list.Table {
	return list.Table{
		Sort: "created_at",
		Fields: map[string]list.Field{
			"created_at": {Type: list.Time, Sort: true}, "status": {}, "type": {}, "event_id": {}, "call_id": {},
			"response_status": {Type: list.Int}, "error": {},
		},
	}
}

func (s *Service) deliveries(ctx context.Context, who auth.Caller, in deliveriesIn) (list.Page[Delivery], error) {
	page := list.Page[Delivery]{Data: []Delivery{}}
	if _, err := db.Get[Endpoint](ctx, s.DB, who.Scope, in.ID); err != nil {
		return page, err
	}
	in.Query.Del("cursor")
	in.Query.Del("sort")
	q, err := deliveriesTable().Parse(in.Query)
	if err != nil {
		return page, err
	}
	if in.Cursor != "" && !strings.HasPrefix(in.Cursor, "dlv_") {
		return page, problem.InvalidField("cursor", "cursor", "is not one that this list gave out; start again without it")
	}
	wanted := func(b *bun.SelectQuery) *bun.SelectQuery {
		return db.Scoped(b, who.Scope).Where("endpoint_id = ?", in.ID).Apply(q.Where(who.Scope))
	}
	rows := s.DB.Read().NewSelect().Model(&page.Data).Apply(wanted).Limit(int64(q.Limit) + 1)
	order, after := bun.OrderDesc, "id < ?"
	if in.Sort == "created_at" {
		order, after = bun.OrderAsc, "id > ?"
	}
	if in.Cursor != "" {
		rows = rows.Where(after, in.Cursor)
	}
	if err := rows.OrderBy("id", order).Scan(ctx); err != nil {
		return page, db.Check(err)
	}
	if len(page.Data) > q.Limit {
		page.Data = page.Data[:q.Limit]
		page.NextCursor = page.Data[q.Limit-1].ID
	}
	if q.Count {
		n, err := s.DB.Read().NewSelect().Model((*Delivery)(nil)).Apply(wanted).Count(ctx)
		if err != nil {
			return page, db.Check(err)
		}
		page.Total = &n
	}
	return page, nil
}

type deliveryIn struct {
	ID         string `path:"endpoint_id"`
	DeliveryID string `path:"delivery_id"`
}

func find(ctx context.Context, conn db.Conn, scope auth.Scope, in deliveryIn) (*Delivery, error) {
	found := new(Delivery)
	err := db.Scoped(conn.Read().NewSelect().Model(found), scope).Where("id = ?", in.DeliveryID).Where("endpoint_id = ?", in.ID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.NoSuch(in.DeliveryID)
	}
	return found, db.Check(err)
}

// delivery reads one with its attempts. What a masked reader must not see is hidden in the request, and the answers of
// the endpoint, which may repeat it, are withheld.
func (s *Service) delivery(ctx context.Context, who auth.Caller, in deliveryIn) (Detail, error) {
	if _, err := db.Get[Endpoint](ctx, s.DB, who.Scope, in.ID); err != nil {
		return Detail{}, err
	}
	found, err := find(ctx, s.DB, who.Scope, in)
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Delivery: *found, History: []Attempt{}}
	err = s.DB.Read().NewSelect().Model(&d.History).Where("delivery_id = ?", found.ID).OrderBy("number", bun.OrderDesc).
		OrderBy("started_at", bun.OrderDesc).Limit(historyMost).Scan(ctx)
	if err != nil {
		return d, db.Check(err)
	}
	events, err := event.ByID(ctx, s.DB, found.AccountID, []string{found.EventID})
	if err != nil {
		return d, err
	}
	if who.Mask != (auth.Mask{}) {
		for i := range d.History {
			d.History[i].ResponseBody = ""
		}
	}
	if len(events) > 0 {
		d.Request, err = event.Encode(s.Masks.For(events[0], who.Mask))
	}
	return d, err
}

// retry has a delivery tried again at once, whatever has become of it, and gives it another three days.
func (s *Service) retry(ctx context.Context, who auth.Caller, in deliveryIn) (*Delivery, error) {
	var found *Delivery
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.on(ctx, tx, who, in.ID); err != nil {
			return err
		}
		var err error
		if found, err = find(ctx, tx, who.Scope, in); err != nil {
			return err
		}
		now := db.Now()
		_, err = tx.Write().NewUpdate().Model((*Delivery)(nil)).Set("status = 'pending'").Set("failures = 0").Set("first_attempt_at = NULL").
			Set("finished_at = NULL").Set("next_attempt_at = ?", now).Where("id = ?", found.ID).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		found.Status, found.FirstAttemptAt, found.FinishedAt, found.Next = Pending, nil, nil, &now
		return due(ctx, tx, now, in.ID)
	})
	if err != nil {
		return nil, err
	}
	s.wake()
	return found, nil
}

// on refuses an endpoint that is off: nothing is sent to it.
func (s *Service) on(ctx context.Context, conn db.Conn, who auth.Caller, id string) error {
	e, err := db.Get[Endpoint](ctx, conn, who.Scope, id)
	if err != nil {
		return err
	}
	if !e.Enabled {
		return problem.Conflict("the endpoint is off; set enabled to true first", problem.Field("/enabled", string(e.DisabledReason), "is false"))
	}
	return nil
}
