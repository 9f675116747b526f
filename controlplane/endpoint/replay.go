package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Test is the type of the event of a test delivery. It goes to the endpoint that is tested, whatever types that has.
const Test = "endpoint.test"

// about is an event about an endpoint.
func about(e *Endpoint, kind string, data map[string]any) event.Event {
	text, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("endpoint: an event's data cannot be marshalled: %v", err))
	}
	return event.Event{ID: db.NewID("evt"), AccountID: e.AccountID, Type: kind, Resource: "event_endpoints", ObjectID: e.ID, Data: text}
}

type testIn struct {
	ID string `path:"endpoint_id"`
}

// test sends a test event to one endpoint, ahead of nothing and behind nothing: it is a subject of its own.
func (s *Service) test(ctx context.Context, who auth.Caller, in testIn) (*Delivery, error) {
	var d Delivery
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.on(ctx, tx, who, in.ID); err != nil {
			return err
		}
		e, err := db.Get[Endpoint](ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		told := about(e, Test, map[string]any{"endpoint_id": e.ID})
		if err := event.Emit(ctx, tx, told); err != nil {
			return err
		}
		d = NewDelivery(told, e.ID, db.Now())
		d.Subject, d.Next = d.EventID, &d.NextAttemptAt
		return Queue(ctx, tx, []Delivery{d}, false)
	})
	if err != nil {
		return nil, err
	}
	s.wake()
	return &d, nil
}

// Replay names the events that are to be sent again: by their ids, or those that occurred within a time, of some types.
type Replay struct {
	IDs   []string   `json:"ids,omitempty"`
	Types []string   `json:"types,omitempty"`
	From  *time.Time `json:"from,omitempty"`
	To    *time.Time `json:"to,omitempty"`
}

// Replayed is how many events are on their way again.
type Replayed struct {
	Count int `json:"count"`
}

const (
	replayMost = 10_000 // events of one request
	// clockAhead is how much earlier than it occurred an event may have been stored, by the clocks of two machines.
	clockAhead = time.Hour
)

type replayIn struct {
	ID   string `path:"endpoint_id"`
	Body Replay `body:"json"`
}

func (r Replay) check() error {
	ranged := r.From != nil || r.To != nil || len(r.Types) > 0
	switch {
	case len(r.IDs) > 0 && ranged:
		return problem.InvalidField("/ids", "conflict", "cannot stand together with types, from and to")
	case len(r.IDs) == 0 && r.From == nil:
		return problem.InvalidField("/from", "required", "is missing; say which events: by ids, or by from, to and types")
	case r.From != nil && r.To != nil && !r.From.Before(*r.To):
		return problem.InvalidField("/to", "range", "must be later than from")
	}
	for _, p := range r.Types {
		if !pattern.MatchString(p) {
			return problem.InvalidField("/types", "pattern", "must be types such as call.ended, call.* or *, is %q", p)
		}
	}
	return nil
}

// replay sends events again, with the ids they had: those that the endpoint never got as well as those it did. By time it
// takes the types that the endpoint wants where none are named. Only what the caller may read is sent.
func (s *Service) replay(ctx context.Context, who auth.Caller, in replayIn) (Replayed, error) {
	if err := in.Body.check(); err != nil {
		return Replayed{}, err
	}
	n := 0
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.on(ctx, tx, who, in.ID); err != nil {
			return err
		}
		e, err := db.Get[Endpoint](ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		events, err := in.Body.events(ctx, tx, who, e)
		if err != nil {
			return err
		}
		n = len(events)
		now := db.Now()
		deliveries := make([]Delivery, n)
		for i, one := range events {
			deliveries[i] = NewDelivery(one, e.ID, now)
		}
		return Queue(ctx, tx, deliveries, true)
	})
	if err != nil {
		return Replayed{}, err
	}
	s.wake()
	return Replayed{Count: n}, nil
}

// events finds what is meant, without the data.
func (r Replay) events(ctx context.Context, tx *db.Tx, who auth.Caller, e *Endpoint) ([]event.Event, error) {
	var found []event.Event
	q := tx.Read().NewSelect().Model(&found).Column("id", "account_id", "type", "object_id", "call_id", "position").
		Apply(event.ReaderOf(who).Where).Where("position IS NOT NULL").Where("type <> ?", Test).
		OrderBy("position", bun.OrderAsc).Limit(replayMost + 1)
	types := r.Types
	if len(types) == 0 {
		types = e.Types
	}
	if len(r.IDs) > 0 {
		q = q.Where("id IN (?)", bun.List(r.IDs))
	} else {
		q = event.OfTypes(q, types).Where("occurred_at >= ?", *r.From).Where("created_at >= ?", r.From.Add(-clockAhead))
	}
	if r.To != nil {
		q = q.Where("occurred_at < ?", *r.To)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, db.Check(err)
	}
	if len(found) > replayMost {
		return nil, problem.RefusedField("/to", "count", "more than %d events are meant; narrow the time or the types and repeat", replayMost)
	}
	for _, id := range r.IDs {
		if !slices.ContainsFunc(found, func(e event.Event) bool { return e.ID == id }) {
			return nil, problem.RefusedField("/ids", "unknown", "there is no event %q that you may read and that can be replayed", id)
		}
	}
	return found, nil
}
