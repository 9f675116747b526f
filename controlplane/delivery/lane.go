package delivery

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// window is how many deliveries of a lane are in memory at most.
const window = 64

// disableAfter is how long an endpoint may do nothing but fail.
const disableAfter = 5 * 24 * time.Hour

// lane is the work on one endpoint. All of it is its goroutine's (run) but for what mu guards.
type lane struct {
	*worker
	id        string // the endpoint's
	accountID string
	nudged    chan struct{} // of 1: there may be more to do
	told      chan struct{} // of 1: see news

	mu   sync.Mutex // guards news
	news []news

	held         map[string]*item // in memory, by delivery id, until its result is recorded
	subjects     map[string]*subject
	ready        []*subject // with something to send and nothing on its way
	flying       int
	unrecorded   int  // attempts that ended and are on their way into the database
	more         bool // the database may have deliveries that are due and not here
	breaker      breaker
	failingSince *time.Time
	off          bool // the endpoint is off or gone
	quiet        bool // idle for long enough to be said so
	requests     sync.WaitGroup
}

// item is one delivery in memory.
type item struct {
	endpoint.Delivery
	event event.Event
}

// subject is the deliveries in memory that must come one after the other, in their order.
type subject struct {
	name  string
	queue []*item // the first of them is on its way or has failed while busy
	busy  bool
}

// news is what happened to a delivery: first its attempt ended, then that was recorded.
type news struct {
	item     *item
	recorded bool
	result   result
}

func newLane(w *worker, id, accountID string) *lane {
	return &lane{
		worker: w, id: id, accountID: accountID, nudged: make(chan struct{}, 1), told: make(chan struct{}, 1),
		held: map[string]*item{}, subjects: map[string]*subject{}, more: true,
	}
}

// tell brings news to the lane's goroutine. It never blocks; there are at most two for each delivery held.
func (l *lane) tell(n news) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news = append(l.news, n)
	signal(l.told)
}

// run works until there has been nothing to do for a while, the endpoint is off, or ctx ends; then it waits for what is
// on its way, and gives the lane back.
func (l *lane) run(ctx, requests context.Context) {
	err := l.begin(ctx)
	for err == nil && ctx.Err() == nil && !l.off {
		err = l.step(ctx, requests)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errIdle) {
		l.Log.Error("delivery.lane_stopped", "endpoint_id", l.id, "error", err.Error())
	}
	// The last step may have taken the signal of news that it did not hear.
	for l.hear(requests); l.flying > 0 || l.unrecorded > 0; l.hear(requests) {
		<-l.told
	}
	l.requests.Wait()
	l.giveBack(context.WithoutCancel(ctx))
	if err != nil && !errors.Is(err, errIdle) {
		pause(ctx, retryAfter)
	}
}

// errIdle ends a lane that has nothing to do.
var errIdle = errors.New("nothing to do")

func (l *lane) begin(ctx context.Context) error {
	err := l.DB.Read().NewRaw("SELECT failing_since FROM delivery_lanes WHERE endpoint_id = ?", l.id).Scan(ctx, &l.failingSince)
	if errors.Is(err, sql.ErrNoRows) {
		l.off = true
		return nil
	}
	return db.Check(err)
}

// step does what can be done now, and waits for the next thing to happen.
func (l *lane) step(ctx, requests context.Context) error {
	l.hear(requests) // what an answer says of the endpoint is written down even while the process stops
	if l.more && len(l.held) <= window/2 {
		if err := l.load(ctx); err != nil {
			return err
		}
	}
	if err := l.dispatch(ctx, requests); err != nil || l.off {
		return err
	}
	if l.more && len(l.held) <= window/2 {
		return nil
	}
	wait, idle := l.linger, len(l.held) == 0
	switch {
	case idle && !l.quiet:
		// What comes in a row is not worth writing down that it is over each time.
		wait = settleFor
	case idle:
		var err error
		if wait, err = l.rest(ctx); err != nil || l.more {
			return err
		}
	case l.flying == 0 && len(l.ready) > 0 && !l.breaker.openUntil.IsZero():
		wait = time.Until(l.breaker.openUntil)
	}
	over := l.await(ctx, min(wait, l.linger))
	switch {
	case !over:
		l.quiet = false
	case idle && l.quiet && wait > l.linger:
		return errIdle
	case idle && !l.quiet:
		l.quiet = true
	default:
		l.more = true
	}
	return nil
}

// settleFor is how long a lane that has become idle waits for more before it says so.
const settleFor = 50 * time.Millisecond

// await waits for something to happen; true: for the whole time in vain.
func (l *lane) await(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.nudged:
		l.more = true
	case <-l.told:
	case <-t.C:
		return true
	}
	return false
}

// load takes what is due into memory.
func (l *lane) load(ctx context.Context) error {
	most := window - len(l.held)
	q := l.DB.Read().NewSelect().Model((*endpoint.Delivery)(nil)).ColumnExpr("delivery.*").
		ColumnExpr(`(SELECT MIN(f.position) FROM deliveries AS f WHERE f.endpoint_id = delivery.endpoint_id AND f.subject = delivery.subject
			AND f.status = 'pending') AS first`).
		Where("endpoint_id = ?", l.id).Where("status = 'pending'").Where("next_attempt_at <= ?", db.Now()).OrderBy("next_attempt_at", bun.OrderAsc).OrderBy("position", bun.OrderAsc).Limit(int64(most))
	if len(l.held) > 0 {
		held := make([]string, 0, len(l.held))
		for id := range l.held {
			held = append(held, id)
		}
		q = q.Where("id NOT IN (?)", bun.List(held))
	}
	var found []loaded
	if err := q.Scan(ctx, &found); err != nil {
		return db.Check(err)
	}
	l.more = len(found) == most
	if len(found) == 0 {
		return nil
	}
	return l.admit(ctx, found)
}

// loaded is a delivery as it is read.
type loaded struct {
	endpoint.Delivery
	First int64 `bun:"first"` // the position of its subject's earliest pending delivery, here or in the database
}

// admit puts deliveries behind those of their subject that are here, unless an earlier one is not here: then they wait
// for it in the database.
func (l *lane) admit(ctx context.Context, found []loaded) error {
	slices.SortFunc(found, func(a, b loaded) int { return cmp.Compare(a.Position, b.Position) })
	ids := make([]string, len(found))
	for i, d := range found {
		ids[i] = d.EventID
	}
	events, err := event.ByID(ctx, l.DB, l.accountID, ids)
	if err != nil {
		return err
	}
	byID := make(map[string]event.Event, len(events))
	for _, e := range events {
		byID[e.ID] = e
	}
	for _, d := range found {
		s := l.subjects[d.Subject]
		if s == nil && d.First < d.Position {
			if err := l.park(ctx, d.Subject, d.First); err != nil {
				return err
			}
			continue
		}
		if s == nil {
			s = &subject{name: d.Subject}
			l.subjects[d.Subject] = s
		}
		one := &item{Delivery: d.Delivery, event: byID[d.EventID]}
		l.held[d.ID] = one
		s.queue = append(s.queue, one)
		if len(s.queue) == 1 {
			l.ready = append(l.ready, s)
		}
		if slices.IsSortedFunc(s.queue, byPosition) {
			continue
		}
		// One that is tried again by hand goes ahead of what is not on its way yet.
		slices.SortStableFunc(s.queue[s.underWay():], byPosition)
	}
	return nil
}

func byPosition(a, b *item) int { return cmp.Compare(a.Position, b.Position) }

// underWay is how many of the queue's first are on their way: 0 or 1.
func (s *subject) underWay() int {
	if s.busy {
		return 1
	}
	return 0
}

// park has what follows a subject's first delivery, which is not here, wait for as long as that does.
func (l *lane) park(ctx context.Context, name string, first int64) error {
	var until time.Time
	err := l.DB.Read().NewSelect().Model((*endpoint.Delivery)(nil)).Column("next_attempt_at").Where("endpoint_id = ?", l.id).
		Where("subject = ?", name).Where("position = ?", first).Where("status = 'pending'").Scan(ctx, &until)
	if errors.Is(err, sql.ErrNoRows) {
		l.more = true // it was recorded this moment
		return nil
	}
	if err != nil {
		return db.Check(err)
	}
	_, err = l.DB.Write().NewRaw(`UPDATE deliveries SET next_attempt_at = ?
		WHERE endpoint_id = ? AND subject = ? AND status = 'pending' AND position > ? AND next_attempt_at < ?`,
		until, l.id, name, first, until).Exec(ctx)
	return db.Check(err)
}

// dispatch sends what may go out. The endpoint is read anew each time: a secret that was rotated signs at once.
func (l *lane) dispatch(ctx, requests context.Context) error {
	n := l.breaker.room(min(len(l.ready), l.PerEndpoint-l.flying), time.Now())
	if n <= 0 || !l.alive() {
		return nil
	}
	to, err := db.Get[endpoint.Endpoint](ctx, l.DB, auth.Account(l.accountID), l.id)
	if p, ok := errors.AsType[*problem.Problem](err); ok && p.Code == problem.CodeNotFound {
		l.off = true
		return nil
	}
	if err != nil {
		return err
	}
	if !to.Enabled {
		l.off = true
		return nil
	}
	for _, s := range l.ready[:n] {
		s.busy = true
		l.flying++
		l.breaker.sent()
		one := s.queue[0]
		l.requests.Go(func() { l.attempt(requests, to, one) })
	}
	l.ready = slices.Delete(l.ready, 0, n)
	return nil
}

// attempt makes one request and has its result recorded.
func (l *lane) attempt(ctx context.Context, to *endpoint.Endpoint, one *item) {
	r := result{lane: l, item: one, outcome: returned}
	if l.accounts.enter(ctx, l.accountID) {
		r = l.send(ctx, to, one)
		r.lane = l
		l.accounts.leave(l.accountID)
	}
	l.tell(news{item: one, result: r})
	if r.sent && l.Observe != nil {
		word := r.attempt.Error
		if r.outcome == delivered {
			word = "delivered"
		}
		l.Observe(word, time.Duration(r.attempt.DurationMS)*time.Millisecond)
	}
	if r.outcome != returned {
		l.finished <- r
	}
}

// hear takes the news in.
func (l *lane) hear(ctx context.Context) {
	l.mu.Lock()
	all := l.news
	l.news = nil
	l.mu.Unlock()
	for _, n := range all {
		if n.recorded {
			l.unrecorded--
			l.recorded(n.item, n.result)
			continue
		}
		l.flying--
		if n.result.outcome != returned {
			l.unrecorded++
		}
		l.ended(ctx, n.item, n.result)
	}
}

// ended takes an attempt's end in. What was delivered makes room for what follows it at once; what failed holds it up
// until it is recorded, so that both wait in the database.
func (l *lane) ended(ctx context.Context, one *item, r result) {
	s := l.subjects[one.Subject]
	now := time.Now()
	switch r.outcome {
	case returned:
		s.busy = false
		l.forget(s)
	case delivered:
		s.busy = false
		s.queue = s.queue[1:]
		if len(s.queue) > 0 {
			l.ready = append(l.ready, s)
		} else {
			delete(l.subjects, s.name)
		}
	case failed, dead:
	}
	if !r.sent {
		l.breaker.returned()
		return
	}
	l.breaker.answered(r.outcome == delivered, now)
	l.health(ctx, r, now)
}

// forget drops a subject from memory, to be loaded again when it is due.
func (l *lane) forget(s *subject) {
	for _, each := range s.queue {
		delete(l.held, each.ID)
	}
	l.ready = slices.DeleteFunc(l.ready, func(other *subject) bool { return other == s })
	delete(l.subjects, s.name)
	l.more = true
}

// recorded takes in that a result is in the database.
func (l *lane) recorded(one *item, r result) {
	delete(l.held, one.ID)
	if r.outcome != delivered {
		if s := l.subjects[one.Subject]; s != nil && len(s.queue) > 0 && s.queue[0] == one {
			l.forget(s)
		}
	}
	l.more = l.more || r.outcome == dead || one.Failures > 0
}

// health keeps since when the endpoint does nothing but fail, and switches it off when it is gone or that was for too
// long.
func (l *lane) health(ctx context.Context, r result, now time.Time) {
	var err error
	switch {
	case r.outcome == delivered && l.failingSince != nil:
		l.failingSince = nil
		err = l.failing(ctx)
	case r.outcome == delivered:
	case r.attempt.ResponseStatus == statusGone:
		err = l.disable(ctx, endpoint.Gone)
	case l.failingSince == nil:
		since := r.attempt.StartedAt
		l.failingSince = &since
		err = l.failing(ctx)
	case now.Sub(*l.failingSince) >= disableAfter:
		err = l.disable(ctx, endpoint.Failing)
	}
	if err != nil && ctx.Err() == nil {
		l.Log.Warn("delivery.health_unknown", "endpoint_id", l.id, "error", err.Error())
	}
}

func (l *lane) failing(ctx context.Context) error {
	_, err := l.DB.Write().NewRaw("UPDATE delivery_lanes SET failing_since = ? WHERE endpoint_id = ?", l.failingSince, l.id).Exec(ctx)
	return db.Check(err)
}

func (l *lane) disable(ctx context.Context, why endpoint.Reason) error {
	err := l.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return endpoint.Disable(ctx, tx, l.accountID, l.id, why, db.Now())
	})
	if err == nil {
		l.off = true
		l.Log.Warn("delivery.endpoint_disabled", "account_id", l.accountID, "endpoint_id", l.id, "reason", string(why))
		l.Feed.Wake()
	}
	return err
}

// rest writes down when there is something to do next, and gives how long that is; forever is an hour. l.more is set
// when it is now, and l.off when the lane is no longer ours.
func (l *lane) rest(ctx context.Context) (time.Duration, error) {
	wait := time.Hour
	err := l.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		// Whoever queues more writes the deliveries first and this row then: either it waits here, and writes that there is
		// something to do over what we write, or the next statement sees its deliveries.
		kept, err := tx.Write().NewRaw("UPDATE delivery_lanes SET worker_id = worker_id WHERE endpoint_id = ? AND worker_id = ?", l.id, l.worker.id).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := kept.RowsAffected(); err != nil || n != 1 {
			l.off = true
			return err
		}
		var first []endpoint.Delivery
		err = tx.Read().NewSelect().Model(&first).Column("next_attempt_at").Where("endpoint_id = ?", l.id).Where("status = 'pending'").
			OrderBy("next_attempt_at", bun.OrderAsc).Limit(1).Scan(ctx)
		if err != nil {
			return err
		}
		var due *time.Time
		if len(first) > 0 {
			due = &first[0].NextAttemptAt
			wait = time.Until(*due)
			if l.more = wait <= 0; l.more {
				return nil
			}
		}
		_, err = tx.Write().NewRaw("UPDATE delivery_lanes SET due_at = ? WHERE endpoint_id = ?", due, l.id).Exec(ctx)
		return err
	})
	return wait, db.Check(err)
}

// giveBack frees the lane. Where that fails it is free when the worker is gone, or taken up again by it.
func (l *lane) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	_, err := l.DB.Write().NewRaw("UPDATE delivery_lanes SET worker_id = NULL WHERE endpoint_id = ? AND worker_id = ?", l.id, l.worker.id).Exec(ctx)
	if err != nil {
		l.Log.Warn("delivery.lane_kept", "endpoint_id", l.id, "error", err.Error())
	}
}
