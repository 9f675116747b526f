package event

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Feed gives events their positions and tells those who follow them. One of the processes of an installation does the
// first, each the second. Make it with NewFeed; set the fields before Run.
//
// Why positions are given after the commit and not with the insert: transactions commit in another order than they
// insert. A reader that has seen position 8 and asks for what follows would never see 7, whose transaction was slower;
// and to let transactions wait for each other would put every change of every account in one line. So an event is
// written without a position, and placed once it is committed:
//
//   - only committed events are placed: the statement that looks for them sees no others;
//   - one transaction places at a time: it begins by changing the row of event_feed, which the next one then waits for,
//     and only afterwards looks, with a fresh snapshot, for what has no position. db.Lock saves the others the trouble,
//     but nothing depends on it: PostgreSQL frees it when its connection breaks, while its holder may go on;
//   - what it places becomes visible all at once, and above everything that was visible before.
//
// So whoever reads "position > p, in order" and goes on from the last one misses nothing, however late something is
// committed, and a transaction that runs for minutes (an import that is rolled back) holds nobody up. Both databases are
// treated alike; on SQLite, where transactions come one after the other anyway, it costs one commit more.
//
// The events of a call are placed by their sequence: an event can be written only when the one before it is
// committed, so each look that finds one finds what precedes it, placed or not.
type Feed struct {
	// Also is told of the events that were placed, in their order, in the transaction that places them.
	Also []func(ctx context.Context, tx *db.Tx, placed []Event) error
	// Placed is told of them after that, in the process that placed them. It must not block.
	Placed []func(placed []Event)
	// Retention is how long events are kept; DefaultRetention when zero.
	Retention time.Duration

	db  *db.DB
	bus *bus.Bus
	log *slog.Logger

	look     time.Duration // how often the placing process looks for events that nobody woke it for
	leading  atomic.Bool
	appended chan struct{} // of 1: somebody here has committed events
	toPlace  chan struct{} // of 1: there may be events to place
	placed   chan struct{} // of 1: some were placed here

	mu      sync.Mutex // guards readers
	readers map[chan struct{}]struct{}
}

// DefaultRetention is how long events are kept.
const DefaultRetention = 30 * 24 * time.Hour

// NewFeed makes a feed. Whoever emits calls Wake after the commit.
func NewFeed(d *db.DB, b *bus.Bus, log *slog.Logger) *Feed {
	return &Feed{
		Retention: DefaultRetention, db: d, bus: b, log: log, look: lookEvery,
		appended: make(chan struct{}, 1), toPlace: make(chan struct{}, 1), placed: make(chan struct{}, 1),
		readers: map[chan struct{}]struct{}{},
	}
}

// What the processes of an installation tell each other.
const (
	topicAppended = "events.appended"
	topicPlaced   = "events.placed"
)

const (
	lookEvery = 100 * time.Millisecond
	// gather is how long events are waited for that could share a transaction with the one that woke us.
	gather = 3 * time.Millisecond
	// recent is how far back it looks but once in lookAll: PostgreSQL keeps the index entries of what was placed until the
	// next vacuum, and reading a minute's worth of them each time would cost more than all the rest.
	recent  = 2 * time.Second
	lookAll = 10
	// placeMost bounds the events of one transaction.
	placeMost = 500
	// retryAfter is the pause after a failure: of the database, of the bus.
	retryAfter = time.Second
)

// signal leaves a note in a channel of 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Wake says that events were committed. It never blocks. Without it they are seen up to a tenth of a second later.
func (f *Feed) Wake() { signal(f.appended) }

// Tell has everybody who watches look again, in every process, as if events had been placed. It never blocks.
func (f *Feed) Tell() { signal(f.placed) }

// Watch gives a channel on which there is a note whenever events may have been placed, until stop is called. Notes can
// be lost when the bus is away: look from time to time as well.
func (f *Feed) Watch() (woken <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[c] = struct{}{}
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.readers, c)
	}
}

func (f *Feed) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.readers {
		signal(c)
	}
}

// Run places events and passes wake-ups on until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { f.listen(ctx) })
	parts.Go(func() { f.notify(ctx) })
	parts.Go(func() { f.stand(ctx) })
	parts.Wait()
	return nil
}

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

// listen hears what other processes tell.
func (f *Feed) listen(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := f.bus.Subscribe(ctx, topicAppended, topicPlaced)
		if err != nil {
			f.log.Warn("events.bus_away", "error", err.Error())
			if !pause(ctx, retryAfter) {
				return
			}
			continue
		}
		f.hear(ctx, s)
		if err := s.Close(); err != nil {
			f.log.Warn("events.bus_away", "error", err.Error())
		}
	}
}

func (f *Feed) hear(ctx context.Context, s *bus.Subscription) {
	for {
		select {
		case <-ctx.Done():
			return
		case m, open := <-s.C:
			switch {
			case !open:
				pause(ctx, retryAfter)
				return
			case m.Topic == topicAppended:
				signal(f.toPlace)
			default:
				f.tell()
			}
		}
	}
}

// notify tells other processes, one message at a time however much happens: a slow bus makes fewer of them.
func (f *Feed) notify(ctx context.Context) {
	for {
		topic := topicAppended
		select {
		case <-ctx.Done():
			return
		case <-f.appended:
			// Where the bus is Redis, the way to this same process is spared.
			if f.leading.Load() {
				signal(f.toPlace)
				continue
			}
		case <-f.placed:
			topic = topicPlaced
			f.tell()
		}
		if err := f.bus.Publish(ctx, topic, nil); err != nil && ctx.Err() == nil {
			f.log.Warn("events.bus_away", "error", err.Error())
		}
	}
}

// stand waits for the turn to place, and places, for as long as it goes well.
func (f *Feed) stand(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.db.Lock(ctx, "events.positions", func(ctx context.Context) error {
			f.leading.Store(true)
			defer f.leading.Store(false)
			return f.lead(ctx)
		})
		if err != nil && ctx.Err() == nil {
			f.log.Error("events.not_placed", "error", err.Error())
			pause(ctx, retryAfter)
		}
	}
}

func (f *Feed) lead(ctx context.Context) error {
	tick := time.NewTicker(f.look)
	defer tick.Stop()
	for looks := 0; ; looks++ {
		var since time.Time
		if looks%lookAll != 0 {
			since = db.Now().Add(-recent)
		}
		for n := placeMost; n >= placeMost; {
			var err error
			if n, err = f.placeSince(ctx, since); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.toPlace:
			pause(ctx, gather)
		case <-tick.C:
		}
	}
}

// Place gives positions to up to 500 events and returns how many. Run does it; it is here for tests and for programs
// that write events without running a feed.
func (f *Feed) Place(ctx context.Context) (n int, err error) { return f.placeSince(ctx, time.Time{}) }

// waiting selects the events without a position that were written since a time; zero for all.
func waiting(q *bun.SelectQuery, since time.Time) *bun.SelectQuery {
	q = q.Where("position IS NULL")
	if since.IsZero() {
		return q
	}
	return q.Where("created_at > ?", since)
}

func (f *Feed) placeSince(ctx context.Context, since time.Time) (n int, err error) {
	// A look that takes no lock and, on SQLite, not the writer.
	some, err := waiting(f.db.Read().NewSelect().Model((*Event)(nil)), since).Limit(1).Exists(ctx)
	if err != nil || !some {
		return 0, db.Check(err)
	}
	var placed []Event
	err = f.db.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		placed, err = f.place(ctx, tx, since)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("place events: %w", err)
	}
	if len(placed) > 0 {
		signal(f.placed)
		for _, fn := range f.Placed {
			fn(placed)
		}
	}
	return len(placed), nil
}

func (f *Feed) place(ctx context.Context, tx *db.Tx, since time.Time) ([]Event, error) {
	var last int64
	// Waits for whoever else places; what follows sees what they have placed.
	err := tx.Write().NewRaw("UPDATE event_feed SET last = last WHERE id = 'feed' RETURNING last").Scan(ctx, &last)
	if err != nil {
		return nil, err
	}
	events, err := unplaced(ctx, tx, since)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	order(events)
	pairs := make([]bun.TupleValues, len(events))
	for i := range events {
		last++
		events[i].Position = last
		pairs[i] = bun.Tuple([]any{events[i].ID, last})
	}
	_, err = tx.Write().NewRaw("UPDATE events SET position = placed.column2 FROM (VALUES ?) AS placed WHERE events.id = placed.column1", bun.List(pairs)).Exec(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Write().NewRaw("UPDATE event_feed SET last = ? WHERE id = 'feed'", last).Exec(ctx); err != nil {
		return nil, err
	}
	for _, fn := range f.Also {
		if err := fn(ctx, tx, events); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// unplaced reads the oldest events without a position, all or those written since a time. Why it may read more than that:
// created_at is the writers' clocks before their commits, so that a call's later event may seem the older one, or the only
// recent one.
func unplaced(ctx context.Context, tx *db.Tx, since time.Time) ([]Event, error) {
	var found []struct {
		Event
		// Follows says that the event before it in its call has no position. The test is no WHERE position IS NULL, for which
		// PostgreSQL would read the index of all that had none.
		Follows bool `bun:"follows"`
	}
	err := waiting(tx.Read().NewSelect().Model((*Event)(nil)), since).ColumnExpr("event.*").
		ColumnExpr(`EXISTS (SELECT 1 FROM events AS b WHERE b.call_id = event.call_id AND b.sequence = event.sequence - 1 AND b.sequence > 0
			AND COALESCE(b.position, 0) = 0) AS follows`).
		OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(placeMost).Scan(ctx, &found)
	if err != nil {
		return nil, err
	}
	events, here, missing := make([]Event, len(found)), map[place]bool{}, false
	for i, f := range found {
		events[i] = f.Event
		here[place{f.CallID, f.Sequence}] = true
	}
	for _, f := range found {
		missing = missing || (f.Follows && !here[place{f.CallID, f.Sequence - 1}])
	}
	switch {
	case !missing:
		return events, nil
	case !since.IsZero():
		return unplaced(ctx, tx, time.Time{})
	}
	more, err := ofCalls(ctx, tx, events)
	return append(events, more...), err
}

// place is an event's place in its call.
type place struct {
	callID   string
	sequence int64
}

// ofCalls reads the other events without a position of the calls of some.
func ofCalls(ctx context.Context, tx *db.Tx, events []Event) ([]Event, error) {
	taken, calls := make([]string, 0, len(events)), map[string]bool{}
	for _, e := range events {
		taken = append(taken, e.ID)
		if e.Sequence > 0 {
			calls[e.CallID] = true
		}
	}
	if len(calls) == 0 {
		return nil, nil
	}
	var more []Event
	err := tx.Read().NewSelect().Model(&more).Where("position IS NULL").Where("call_id IN (?)", bun.List(keys(calls))).
		Where("id NOT IN (?)", bun.List(taken)).Scan(ctx)
	return more, err
}

func keys(set map[string]bool) []string {
	all := make([]string, 0, len(set))
	for k := range set {
		all = append(all, k)
	}
	return all
}

// order puts the events of each call, within the places that they have, into the order of their sequence.
func order(events []Event) {
	places := map[string][]int{}
	for i, e := range events {
		if e.Sequence > 0 {
			places[e.CallID] = append(places[e.CallID], i)
		}
	}
	for _, at := range places {
		of := make([]Event, len(at))
		for i, place := range at {
			of[i] = events[place]
		}
		slices.SortFunc(of, func(a, b Event) int { return int(a.Sequence - b.Sequence) })
		for i, place := range at {
			events[place] = of[i]
		}
	}
}

// Last is the highest position given so far, 0 before the first.
func (f *Feed) Last(ctx context.Context) (int64, error) {
	var last int64
	err := f.db.Read().NewRaw("SELECT last FROM event_feed WHERE id = 'feed'").Scan(ctx, &last)
	return last, db.Check(err)
}

// purged is the highest position of an event that was kept long enough.
func purged(ctx context.Context, conn db.Conn) (int64, error) {
	var highest int64
	err := conn.Read().NewRaw("SELECT purged FROM event_feed WHERE id = 'feed'").Scan(ctx, &highest)
	return highest, db.Check(err)
}

// After reads up to limit events of all accounts that follow a position, in order. An answer shorter than limit is the
// end for now.
func (f *Feed) After(ctx context.Context, position int64, limit int) ([]Event, error) {
	var events []Event
	err := f.db.Read().NewSelect().Model(&events).Where("position > ?", position).
		OrderBy("position", bun.OrderAsc).Limit(int64(limit)).Scan(ctx)
	return events, db.Check(err)
}

// Of reads up to limit events that a reader may see, of types that match, which follow a position and are not beyond
// another, in order.
func (f *Feed) Of(ctx context.Context, r Reader, types []string, after, to int64, limit int) ([]Event, error) {
	var events []Event
	err := OfTypes(r.Where(f.db.Read().NewSelect().Model(&events)), types).Where("?TableAlias.position > ?", after).
		Where("?TableAlias.position <= ?", to).OrderBy("position", bun.OrderAsc).Limit(int64(limit)).Scan(ctx)
	return events, db.Check(err)
}

// Kept refuses a position of which events that follow are no longer kept, and names the account's first that is left.
func (f *Feed) Kept(ctx context.Context, accountID string, after int64) error {
	return Kept(ctx, f.db, accountID, after)
}

// purgeMost bounds the rows of one transaction of Purge.
const purgeMost = 1000

// Purge removes what is older than the retention. Run it from time to time, in any process.
func (f *Feed) Purge(ctx context.Context) error {
	before := db.Now().Add(-f.Retention)
	for {
		n, err := f.purge(ctx, before)
		if err != nil {
			return fmt.Errorf("purge events: %w", err)
		}
		if n == 0 {
			return nil
		}
	}
}

// purge removes the lowest positions that are old enough. Positions follow the times of creation but for what was
// committed late, so nothing has to be found by its time.
func (f *Feed) purge(ctx context.Context, before time.Time) (n int, err error) {
	var gone []int64
	err = f.db.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		lowest := tx.Read().NewSelect().Model((*Event)(nil)).Column("position").Where("position IS NOT NULL").
			OrderBy("position", bun.OrderAsc).Limit(purgeMost)
		err := tx.Write().NewDelete().Model((*Event)(nil)).Where("position IN (?)", lowest).Where("created_at < ?", before).
			Returning("position").Scan(ctx, &gone)
		if err != nil || len(gone) == 0 {
			return err
		}
		_, err = tx.Write().NewRaw("UPDATE event_feed SET purged = ? WHERE id = 'feed' AND purged < ?", slices.Max(gone), slices.Max(gone)).Exec(ctx)
		return err
	})
	return len(gone), err
}
