// Package delivery owns bringing events to the endpoints of accounts: which endpoint gets which event, the order per
// subject, retries, breakers, and sharing the work between processes. The endpoints and the record of what was sent are
// package endpoint's; the feed of events is package event's.
//
// How it works. The transaction that gives events their positions also writes a delivery for each endpoint that wants
// one (FanOut), so none is ever without. All deliveries to one endpoint are its lane. One process at a time works on a
// lane: it holds as many deliveries in memory as are on their way, sends those of different subjects (calls, objects)
// side by side and those of one subject one after the other, and records the results of all lanes together. A process
// is alive while it says so in delivery_workers; the lanes of one that is not are free to any other.
//
// Why a lane and not each delivery is claimed: what keeps the order, the bounds and the breaker of an endpoint is then in
// the memory of one process, and a lane that hangs holds up nothing but itself.
//
// A process that dies has sent what it has not recorded: that is sent again, with the same webhook-id.
package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Config is what deliveries need. Guard is theirs alone, so that their connections are no one else's; it stays its
// caller's, to be closed after Run.
type Config struct {
	DB    *db.DB
	Feed  *event.Feed
	Guard *guard.Client
	Log   *slog.Logger

	PerEndpoint int           // requests to one endpoint at the same time; 20 when 0
	PerAccount  int           // and to all endpoints of one account, in this process; 50 when 0
	Timeout     time.Duration // of one request; 15 s when 0
	Retention   time.Duration // of deliveries and attempts; 30 days when 0
	// Observe, when set, is told each request that was made: "delivered", or the class of what failed. It must not block.
	Observe func(outcome string, took time.Duration)
}

// Service delivers.
type Service struct {
	Config
	accounts places
	finished chan result
	present  atomic.Pointer[worker]

	lease  time.Duration // how long a process that says nothing is taken for alive
	look   time.Duration // how often one looks for work unasked
	linger time.Duration // how long an idle lane is kept
	grace  time.Duration // how long requests may go on when Run ends
	next   schedule
}

// New makes a Service. Put its FanOut into event.Feed.Also and its Placed into event.Feed.Placed, and Run it
// beside the feed.
func New(cfg Config) (*Service, error) {
	if cfg.DB == nil || cfg.Feed == nil || cfg.Guard == nil || cfg.Log == nil {
		return nil, errors.New("delivery: DB, Feed, Guard and Log are needed")
	}
	if cfg.PerEndpoint == 0 {
		cfg.PerEndpoint = 20
	}
	if cfg.PerAccount == 0 {
		cfg.PerAccount = 50
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Retention == 0 {
		cfg.Retention = event.DefaultRetention
	}
	return &Service{
		Config: cfg, accounts: places{most: cfg.PerAccount}, finished: make(chan result),
		lease: 15 * time.Second, look: time.Second, linger: 10 * time.Second, grace: 5 * time.Second, next: next,
	}, nil
}

// subscriber is what is asked of an endpoint when events are placed.
type subscriber struct {
	ID        string   `bun:"id"`
	AccountID string   `bun:"account_id"`
	Types     []string `bun:"types,type:jsonb"`
}

// FanOut writes the deliveries of events that are being placed (event.Feed.Also).
func (s *Service) FanOut(ctx context.Context, tx *db.Tx, placed []event.Event) error {
	accounts := map[string]bool{}
	var ids []string
	for _, e := range placed {
		if !accounts[e.AccountID] {
			accounts[e.AccountID] = true
			ids = append(ids, e.AccountID)
		}
	}
	var found []subscriber
	err := tx.Read().NewSelect().TableExpr("event_endpoints").Column("id", "account_id", "types").
		Where("account_id IN (?)", bun.List(ids)).Where("enabled").Scan(ctx, &found)
	if err != nil || len(found) == 0 {
		return db.Check(err)
	}
	of := map[string][]subscriber{}
	for _, one := range found {
		of[one.AccountID] = append(of[one.AccountID], one)
	}
	now := db.Now()
	var deliveries []endpoint.Delivery
	for _, e := range placed {
		if e.Type == endpoint.Test {
			continue // it has its delivery already
		}
		for _, one := range of[e.AccountID] {
			if event.Match(one.Types, e.Type) {
				deliveries = append(deliveries, endpoint.NewDelivery(e, one.ID, now))
			}
		}
	}
	return endpoint.Queue(ctx, tx, deliveries, false)
}

// Placed has the lanes of this process look for what FanOut wrote, now that it is committed (event.Feed.Placed). Others are
// found by who watches the feed.
func (s *Service) Placed(placed []event.Event) {
	w := s.present.Load()
	if w == nil {
		return
	}
	accounts := map[string]bool{}
	for _, e := range placed {
		accounts[e.AccountID] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lanes {
		if accounts[l.accountID] {
			signal(l.nudged)
		}
	}
}

// retryAfter is the pause after a failure of the database.
const retryAfter = time.Second

// pause waits, and is false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// signal leaves a note in a channel of 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends; requests on their way then have 5 s. It is called once.
func (s *Service) Run(ctx context.Context) error {
	var recorder sync.WaitGroup
	recorder.Go(func() { s.record(ctx) })
	for ctx.Err() == nil {
		if err := s.work(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("delivery.interrupted", "error", err.Error())
			pause(ctx, retryAfter)
		}
	}
	close(s.finished)
	recorder.Wait()
	return nil
}

// purgeMost bounds the rows of one transaction of Purge.
const purgeMost = 1000

// Purge removes the record of deliveries that are older than the retention. Run it from time to time, in any process.
func (s *Service) Purge(ctx context.Context) error {
	before := db.Now().Add(-s.Retention)
	for _, q := range []string{
		"DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE created_at < ? ORDER BY created_at LIMIT ?)",
		"DELETE FROM delivery_attempts WHERE id IN (SELECT id FROM delivery_attempts WHERE started_at < ? ORDER BY started_at LIMIT ?)",
	} {
		for {
			result, err := s.DB.Write().NewRaw(q, before, purgeMost).Exec(ctx)
			if err != nil {
				return db.Check(err)
			}
			if n, err := result.RowsAffected(); err != nil || n == 0 {
				if err != nil {
					return err
				}
				break
			}
		}
	}
	_, err := s.DB.Write().NewRaw("DELETE FROM delivery_workers WHERE alive_until < ?", db.Now().Add(-time.Hour)).Exec(ctx)
	return db.Check(err)
}
