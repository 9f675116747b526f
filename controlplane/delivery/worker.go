package delivery

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
)

// worker is this process for as long as it is known to be alive.
type worker struct {
	*Service
	id    string
	again chan struct{} // of 1: look for lanes

	mu    sync.Mutex // guards what follows
	lanes map[string]*lane
	until time.Time // others take it for alive
}

// errLapsed ends a worker whose lease ran out: others may have its lanes.
var errLapsed = errors.New("the database did not take the sign of life in time; lanes are given up")

// work delivers as one worker until ctx ends or its lease is lost.
func (s *Service) work(ctx context.Context) error {
	w := &worker{Service: s, id: db.NewID("worker"), again: make(chan struct{}, 1), lanes: map[string]*lane{}}
	if err := w.beat(ctx); err != nil {
		return err
	}
	s.present.Store(w)
	defer s.present.Store(nil)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// What is on its way may come to an end.
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	stopGrace := context.AfterFunc(ctx, func() { time.AfterFunc(s.grace, abort) })
	defer stopGrace()

	var beating, lanes sync.WaitGroup
	beating.Go(func() { cancel(w.live(ctx)) })
	woken, stop := s.Feed.Watch()
	defer stop()
	tick := time.NewTicker(s.look)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := w.claim(ctx, requests, &lanes); err != nil && ctx.Err() == nil {
			s.Log.Error("delivery.no_work", "error", err.Error())
			pause(ctx, retryAfter)
		}
		select {
		case <-ctx.Done():
		case <-woken:
		case <-w.again:
		case <-tick.C:
		}
	}
	lanes.Wait()
	beating.Wait()
	err := w.leave(context.WithoutCancel(ctx))
	if cause := context.Cause(ctx); errors.Is(cause, errLapsed) {
		err = errors.Join(cause, err)
	}
	return err
}

// beat says that the worker is alive. Clocks of machines may differ by less than the lease.
func (w *worker) beat(ctx context.Context) error {
	until := db.Now().Add(w.lease)
	ctx, cancel := context.WithTimeout(ctx, w.lease/3)
	defer cancel()
	_, err := w.DB.Write().NewRaw(`INSERT INTO delivery_workers (id, alive_until) VALUES (?, ?)
		ON CONFLICT (id) DO UPDATE SET alive_until = EXCLUDED.alive_until`, w.id, until).Exec(ctx)
	if err != nil {
		return fmt.Errorf("sign of life: %w", db.Check(err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = until
	return nil
}

// alive reports whether no other worker can have taken a lane of this one.
func (w *worker) alive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.until)
}

// live repeats the sign of life until ctx ends, or until it is too late for it.
func (w *worker) live(ctx context.Context) error {
	for pause(ctx, w.lease/3) {
		err := w.beat(ctx)
		if err != nil && ctx.Err() == nil {
			w.Log.Warn("delivery.silent", "error", err.Error())
		}
		if !w.alive() {
			return errLapsed
		}
	}
	return nil
}

// leaveWithin bounds giving lanes back at the end. What is not given back is free when the lease ends.
const leaveWithin = 5 * time.Second

func (w *worker) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	_, err := w.DB.Write().NewRaw("DELETE FROM delivery_workers WHERE id = ?", w.id).Exec(ctx)
	if err == nil {
		w.Feed.Tell()
	}
	return db.Check(err)
}

// claimMost bounds the lanes taken at a time, so that several processes that look at once each get some.
const claimMost = 50

// claim wakes the lanes of this worker that have something to do, and takes those that are free.
func (w *worker) claim(ctx, requests context.Context, lanes *sync.WaitGroup) error {
	now := db.Now()
	var mine []string
	err := w.DB.Read().NewRaw("SELECT endpoint_id FROM delivery_lanes WHERE worker_id = ? AND due_at <= ?", w.id, now).Scan(ctx, &mine)
	if err != nil {
		return db.Check(err)
	}
	for _, id := range mine {
		if w.nudge(id) {
			continue
		}
		// Its goroutine ended without giving it back: the database was away.
		if err := w.take(ctx, requests, lanes, id, "l.worker_id = ?", w.id); err != nil {
			return err
		}
	}
	var others []string
	err = w.DB.Read().NewRaw(`SELECT l.endpoint_id FROM delivery_lanes AS l JOIN event_endpoints AS e ON e.id = l.endpoint_id
		WHERE e.enabled AND l.due_at <= ? AND `+isFree+` ORDER BY l.due_at LIMIT ?`, now, w.id, now, claimMost).Scan(ctx, &others)
	if err != nil {
		return db.Check(err)
	}
	for _, id := range others {
		if w.nudge(id) {
			continue // it was given back a moment ago, and is not quite gone
		}
		if err := w.take(ctx, requests, lanes, id, isFree, w.id, now); err != nil {
			return err
		}
	}
	if len(others) == claimMost {
		signal(w.again)
	}
	return nil
}

// take makes a lane this worker's, under a condition, and starts it.
func (w *worker) take(ctx, requests context.Context, lanes *sync.WaitGroup, id, where string, args ...any) error {
	var accountID string
	err := w.DB.Write().NewRaw("UPDATE delivery_lanes AS l SET worker_id = ? WHERE endpoint_id = ? AND "+where+" RETURNING account_id",
		append([]any{w.id, id}, args...)...).Scan(ctx, &accountID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // another process was faster
	}
	if err != nil {
		return db.Check(err)
	}
	l := newLane(w, id, accountID)
	w.put(l)
	lanes.Go(func() {
		l.run(ctx, requests)
		w.drop(l)
	})
	return nil
}

// isFree is when a lane may be taken: nobody has it who is alive. It takes the worker's own id, whose lanes it holds
// already, and the time.
const isFree = `(l.worker_id IS NULL OR (l.worker_id <> ? AND NOT EXISTS
	(SELECT 1 FROM delivery_workers AS w WHERE w.id = l.worker_id AND w.alive_until > ?)))`

func (w *worker) put(l *lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lanes[l.id] = l
}

// drop forgets a lane that has ended, and looks whether it has something to do again.
func (w *worker) drop(l *lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.lanes, l.id)
	signal(w.again)
}

// nudge has a lane look for work; false: it is not here.
func (w *worker) nudge(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, here := w.lanes[id]
	if here {
		signal(l.nudged)
	}
	return here
}
