package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Service is the operations on queues, and what edges ask of them. It is safe for concurrent use.
type Service struct {
	DB *db.DB
	// Bus wakes takes that wait in other processes; nil is this process alone.
	Bus *bus.Bus
	Log *slog.Logger
	// Calls changes the calls that wait in a queue.
	Calls *call.Service
	// Wake, where set, has the readers of events look sooner.
	Wake func()
	// Lease is how long what an edge holds is its own without a renewal; zero is 5 s.
	Lease time.Duration
	// Now is the time of rows; nil is db.Now.
	Now func() time.Time

	hub  hub
	poll time.Duration // how long a take that waits goes without looking; zero is pollEvery

	mu      sync.Mutex         // guards what follows
	renewed map[life]time.Time // until when a lease is known to run
	heard   time.Time          // since when Run sweeps without a failure; zero while it does not
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

func (s *Service) lease() time.Duration {
	if s.Lease == 0 {
		return 5 * time.Second
	}
	return s.Lease
}

// Operations are the functions of queues.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Resource())
	maps.Copy(all, map[string]rest.Operation{
		"getQueueStatus":    rest.Op(s.status),
		"listWaitingCalls":  rest.Op(s.listWaiting),
		"getWaitingCall":    rest.Op(s.getWaiting),
		"createQueueAction": rest.Op(s.act),
	})
	return all
}

// Written is what a caller writes of a queue.
type Written struct {
	rest.Keys
	Draft
}

// Resource is how queues are made and changed, for whoever does so without a request.
func (s *Service) Resource() rest.Resource[Queue, Written] {
	return rest.Resource[Queue, Written]{
		DB: s.DB, One: "Queue", Many: "Queues", Prefix: "que", Table: table(),
		Draft:    func(q *Queue) Written { return Written{Draft: q.Draft} },
		Put:      put,
		Removing: removing,
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"name": {Sort: true}, "enabled": {Type: list.Bool}, "music_id": {},
		}),
		Search: []string{"name", "description"},
	}
}

func put(ctx context.Context, tx *db.Tx, _ auth.Caller, q *Queue, w Written) error {
	if err := w.Check(); err != nil {
		return err
	}
	before := q.MusicID
	q.Draft = w.Draft
	if q.MusicID == "" || q.MusicID == before {
		return nil
	}
	n, err := tx.Read().NewSelect().Table("media").Where("account_id = ?", q.AccountID).Where("id = ?", q.MusicID).Count(ctx)
	if err == nil && n == 0 {
		return problem.RefusedField("/music_id", "unknown", "there is no media file %s in this account", q.MusicID)
	}
	return db.Check(err)
}

// removing refuses to remove a queue that calls wait in, and takes away what is left of those that did.
func removing(ctx context.Context, tx *db.Tx, _ auth.Caller, q *Queue) error {
	// No call joins from here on.
	if _, err := locked(ctx, tx, q.AccountID, "id", q.ID); err != nil {
		return err
	}
	n, err := tx.Read().NewSelect().Model((*waiting)(nil)).Where("account_id = ?", q.AccountID).Where("queue_id = ?", q.ID).Where(inQueue).Count(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n > 0 {
		return problem.Conflict(fmt.Sprintf("%d calls wait in this queue; disable it, and remove it when they have been served or moved", n),
			problem.Field("", "in_use", "%d calls wait in it", n))
	}
	_, err = tx.Write().NewDelete().Model((*waiting)(nil)).Where("account_id = ?", q.AccountID).Where("queue_id = ?", q.ID).Exec(ctx)
	return db.Check(err)
}

// locking is the clause that a read needs before a write in a transaction. SQLite's has the only writer.
func locking(idb bun.IDB, clause string) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		if idb.Dialect().Name() == dialect.PG {
			return q.For(clause)
		}
		return q
	}
}

// locked reads the queue whose column has a value, so that nobody else changes how many wait in it until the transaction
// ends; nil when there is none.
func locked(ctx context.Context, tx *db.Tx, accountID, column, value string) (*Queue, error) {
	q, err := db.Find[Queue](ctx, tx, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.? = ?", bun.Ident(column), value).Apply(locking(tx.Write(), "NO KEY UPDATE"))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return q, err
}

// life is one life of an edge, from a start to the next.
type life struct {
	edge string
	boot string
}

// renew has the lease of an edge run on. What another call has renewed a moment ago is left as it is.
func (s *Service) renew(ctx context.Context, edge, boot string) error {
	now, l := s.now(), life{edge, boot}
	s.mu.Lock()
	fresh := s.renewed[l].Sub(now) > s.lease()*3/4
	s.mu.Unlock()
	if fresh {
		return nil
	}
	row := lease{EdgeID: edge, BootID: boot, Until: now.Add(s.lease())}
	_, err := s.DB.Write().NewInsert().Model(&row).On("CONFLICT (edge_id, boot_id) DO UPDATE").Set("lease_until = EXCLUDED.lease_until").Exec(ctx)
	if err != nil {
		return db.Check(fmt.Errorf("lease of %s: %w", edge, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renewed == nil {
		s.renewed = map[life]time.Time{}
	}
	for known, until := range s.renewed {
		if until.Before(now) {
			delete(s.renewed, known)
		}
	}
	s.renewed[l] = row.Until
	return nil
}

// lease is until when an edge holds what it holds.
//
// Why one row for all of an edge's calls: a caller whose row is being renewed would be passed over by whoever takes the
// next one at that moment, and the order would be wrong; and a thousand callers would be a thousand writes a second.
type lease struct {
	bun.BaseModel `bun:"table:queue_leases"`

	EdgeID string    `bun:"edge_id,pk"`
	BootID string    `bun:"boot_id,pk"`
	Until  time.Time `bun:"lease_until"`
}

// leased are the lives of edges whose lease runs at a time.
func leased(idb bun.IDB, now time.Time) *bun.SelectQuery {
	return idb.NewSelect().Model((*lease)(nil)).Column("boot_id").Where("lease_until > ?", now)
}
