package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// run runs a service until the test ends.
func run(t *testing.T, s *queue.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// every calls fn regularly until the test's own function ends with a call of stop.
func every(t *testing.T, interval time.Duration, fn func()) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			fn()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// ledger is who was connected with whom.
type ledger struct {
	t  *testing.T
	mu sync.Mutex
	by map[webhooks.CallID]int64
}

// heard notes a connection, of which every caller has at most one.
func (l *ledger) heard(call webhooks.CallID, claim int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, twice := l.by[call]; twice {
		l.t.Errorf("%s was given to two legs, by the claims %d and %d", call, other, claim)
	}
	l.by[call] = claim
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.by)
}

// TestNobodyIsTakenTwice has callers join, hang up and be taken by legs of two processes, of which some die holding a
// caller, give callers back, or ask twice.
func TestNobodyIsTakenTwice(t *testing.T) {
	for name, c := range map[string]struct {
		location func(*testing.T) string
		callers  int
	}{"sqlite": {dbtest.SQLiteURL, 150}, "postgres": {dbtest.PostgresURL, 500}} {
		t.Run(name, func(t *testing.T) {
			location := c.location(t)
			first := dbtest.Open(t, location)
			f := mount(t, first)
			f.queue(t, `{"name":"a","max_waiting":0}`)
			second := first // SQLite has one process
			if name == "postgres" {
				second = dbtest.Open(t, location)
			}
			redis := bustest.RedisURL(t)
			services := []*queue.Service{
				{DB: first, Bus: bustest.Open(t, redis), Log: logger(t), Lease: time.Minute},
				{DB: second, Bus: bustest.Open(t, redis), Log: logger(t), Lease: time.Minute},
			}
			for _, s := range services {
				run(t, s)
			}
			l := &ledger{t: t, by: map[webhooks.CallID]int64{}}
			var served, over atomic.Int64 // over: hung up before they were connected
			ctx, done := context.WithCancel(t.Context())
			defer done()
			finish := func() {
				if int(served.Load()+over.Load()) == c.callers {
					done()
				}
			}
			var all sync.WaitGroup
			const joiners = 4
			for n := range joiners {
				all.Go(func() {
					for i := n; i < c.callers; i += joiners {
						call := webhooks.CallID(fmt.Sprintf("call_%d", i))
						e, err := services[i%2].Join(t.Context(), joining("a", call, priority(rand.IntN(3)), at(edge("callers", 1))))
						if err != nil {
							t.Error(err)
							over.Add(1)
							continue
						}
						if rand.IntN(5) > 0 {
							continue
						}
						if err := services[(i+1)%2].Leave(t.Context(), leaving(e, webhooks.Hangup)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			const legs = 16
			for n := range legs {
				all.Go(func() {
					s := services[n%2]
					for i := 0; ctx.Err() == nil; i++ {
						// Each leg is on an edge of its own life, so that it can die alone.
						o := edge(fmt.Sprintf("taker_%d", n), i)
						q := queue.Taking{AccountID: account, Queue: "a", Leg: webhooks.CallID(fmt.Sprintf("call_leg_%d_%d", n, i)), EdgeID: o.EdgeID, BootID: o.BootID, Timeout: 2}
						got, err := s.Take(ctx, q)
						if err != nil && ctx.Err() == nil {
							t.Error(err)
						}
						if got == nil || err != nil {
							continue
						}
						switch rand.IntN(20) {
						case 0: // it dies
							if err := services[rand.IntN(2)].EdgeLost(t.Context(), o.EdgeID, o.BootID); err != nil {
								t.Error(err)
							}
							if err := s.Confirm(t.Context(), account, got.ID, got.Claim); !errors.Is(err, queue.ErrFenced) {
								t.Errorf("a dead leg was connected: %v", err)
							}
							continue
						case 1, 2:
							why := []queue.Why{queue.Unanswered, queue.Failed}[rand.IntN(2)]
							if err := s.Return(t.Context(), returned(got, why)); err != nil && !errors.Is(err, queue.ErrFenced) {
								t.Error(err)
							}
							continue
						case 3: // its answer was lost
							again, err := services[rand.IntN(2)].Take(t.Context(), q)
							if err != nil {
								t.Error(err)
							}
							if again == nil || again.Claim != got.Claim || again.ID != got.ID {
								continue // the caller hung up meanwhile; the leg may hold another, which is given back at its next
							}
						}
						if err := s.Confirm(t.Context(), account, got.ID, got.Claim); err == nil {
							l.heard(got.CallID, got.Claim)
							served.Add(1)
							finish()
						} else if !errors.Is(err, queue.ErrFenced) {
							t.Error(err)
						}
					}
				})
			}
			// Whoever waits is served in the end, also those whose leg asked twice and then left.
			stop := every(t, 200*time.Millisecond, func() {
				var n struct{ In, Gone int64 }
				err := first.Read().NewSelect().Table("waiting_calls").
					ColumnExpr("COALESCE(SUM(CASE WHEN status = 'left' AND connected_at IS NULL THEN 1 ELSE 0 END), 0) AS gone").
					ColumnExpr("COALESCE(SUM(CASE WHEN status = 'offered' AND taken_at < ? THEN 1 ELSE 0 END), 0) AS \"in\"", db.Now().Add(-3*time.Second)).
					Scan(ctx, &n)
				if err != nil {
					return
				}
				if n.In > 0 { // legs that have gone on: their edges' lives are over
					for i := range legs {
						o := edge(fmt.Sprintf("taker_%d", i), 0)
						var boots []string
						if err := first.Read().NewSelect().Table("waiting_calls").Column("taken_boot_id").Where("taken_edge_id = ?", o.EdgeID).
							Where("status = 'offered'").Where("taken_at < ?", db.Now().Add(-3*time.Second)).Scan(ctx, &boots); err != nil {
							return
						}
						for _, boot := range boots {
							if err := services[0].EdgeLost(ctx, o.EdgeID, boot); err != nil && ctx.Err() == nil {
								t.Error(err)
							}
						}
					}
				}
				over.Store(n.Gone)
				finish()
			})
			all.Wait()
			stop()
			n, err := first.Read().NewSelect().Table("waiting_calls").Where("connected_at IS NOT NULL").Count(t.Context())
			if err != nil || int(n) != l.count() {
				t.Errorf("%d were connected, %d have a leg: %v", n, l.count(), err)
			}
			t.Logf("%d connected, %d hung up before", l.count(), over.Load())
		})
	}
}

// TestAKilledProcessTakesNobodyWithIt has processes that take callers killed at random moments, and new ones started.
func TestAKilledProcessTakesNobodyWithIt(t *testing.T) {
	const kills, callers = 6, 600
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			database, redis := location(t), bustest.RedisURL(t)
			d := dbtest.Open(t, database)
			mount(t, d).queue(t, `{"name":"a","max_waiting":0}`)
			s := &queue.Service{DB: d, Bus: bustest.Open(t, redis), Log: logger(t), Lease: childLease}
			run(t, s)
			more := make(chan struct{}, 1)
			l := &ledger{t: t, by: map[webhooks.CallID]int64{}}
			heard := func(call webhooks.CallID, claim int64) {
				l.heard(call, claim)
				select {
				case more <- struct{}{}:
				default:
				}
			}
			callersEdge := edge("callers", 1)
			stop := every(t, childLease/4, func() {
				if _, err := s.Renew(t.Context(), queue.Renewal{EdgeID: callersEdge.EdgeID, BootID: callersEdge.BootID, After: "~"}); err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
			})
			defer stop()
			children := 1 // SQLite has one process that serves
			if name == "postgres" {
				children = 3
			}
			running := make([]*child, children)
			for i := range running {
				running[i] = spawn(t, database, redis, fmt.Sprintf("child_%d", i), heard)
			}
			var joiners sync.WaitGroup
			joiners.Go(func() {
				for i := range callers {
					if _, err := s.Join(t.Context(), joining("a", webhooks.CallID(fmt.Sprintf("call_%d", i)), at(callersEdge), priority(i%2))); err != nil {
						t.Error(err)
					}
				}
			})
			for i := range kills {
				for wanted := min(l.count()+1+rand.IntN(callers/kills), callers-childLegs); l.count() < wanted; {
					await(t, more)
				}
				running[i%children].kill()
				running[i%children] = spawn(t, database, redis, fmt.Sprintf("child_%d_%d", i%children, i+1), heard)
			}
			joiners.Wait()
			// A killed child may have connected one whom it could not tell of any more.
			connected := func() int64 {
				n, err := d.Read().NewSelect().Table("waiting_calls").Where("status = 'connected'").Count(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			for connected() < callers {
				await(t, more)
			}
			for _, c := range running {
				c.kill()
			}
			var rows []struct {
				CallID webhooks.CallID
				Claim  int64
			}
			if err := d.Read().NewSelect().Table("waiting_calls").Column("call_id", "claim").Scan(t.Context(), &rows); err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if claim, told := l.by[r.CallID]; told && claim != r.Claim {
					t.Errorf("%s was connected by the claim %d, and is held by %d", r.CallID, claim, r.Claim)
				}
			}
			if untold := callers - l.count(); untold > kills*childLegs+children*childLegs {
				t.Errorf("nobody told of %d", untold)
			}
		})
	}
}

// await waits for news, or a little while for what nobody tells.
func await(t *testing.T, news <-chan struct{}) {
	t.Helper()
	select {
	case <-news:
	case <-time.After(100 * time.Millisecond):
	case <-t.Context().Done():
		t.Fatal("the test is over")
	}
}

// TestAJoinWakesWhoWaitsInAnotherProcess has no poll to fall back on.
func TestAJoinWakesWhoWaitsInAnotherProcess(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		mount(t, d).queue(t, `{"name":"a"}`)
		redis := bustest.RedisURL(t)
		there := &queue.Service{DB: d, Bus: bustest.Open(t, redis), Log: logger(t), Lease: time.Minute}
		here := &queue.Service{DB: d, Bus: bustest.Open(t, redis), Log: logger(t), Lease: time.Minute}
		there.Poll(time.Hour)
		run(t, here)
		run(t, there)
		got := make(chan *queue.Taken, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		var waiting sync.WaitGroup
		waiting.Go(func() {
			q := taking("a", "call_leg")
			q.Timeout = queue.MaxTimeout
			c, err := there.Take(ctx, q)
			if err != nil {
				t.Error(err)
			}
			got <- c
		})
		// Until the other listens, a wake is lost.
		for i := 0; ; i++ {
			e, err := here.Join(t.Context(), joining("a", webhooks.CallID(fmt.Sprint("call_", i))))
			if err != nil {
				t.Fatal(err)
			}
			select {
			case c := <-got:
				if c == nil {
					t.Error("nobody came")
				}
				waiting.Wait()
				return
			case <-time.After(50 * time.Millisecond):
			}
			if err := here.Leave(t.Context(), leaving(e, webhooks.Left)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestABusThatIsAwayOnlyDelays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		mount(t, d).queue(t, `{"name":"a"}`)
		b, err := bus.Open(t.Context(), "memory:")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		here, there := &queue.Service{DB: d, Bus: b, Log: logger(t)}, &queue.Service{DB: d, Bus: b, Log: logger(t)}
		run(t, here)
		run(t, there)
		var waiting sync.WaitGroup
		began := make(chan struct{})
		waiting.Go(func() {
			q := taking("a", "call_leg")
			q.Timeout = queue.MaxTimeout
			close(began)
			if c, err := there.Take(t.Context(), q); err != nil || c == nil {
				t.Errorf("got %+v %v", c, err)
			}
		})
		<-began
		if _, err := here.Join(t.Context(), joining("a", "call_1")); err != nil {
			t.Fatal(err)
		}
		stop := every(t, time.Second, func() {
			o := edge("a", 1)
			_, _ = here.Renew(t.Context(), queue.Renewal{EdgeID: o.EdgeID, BootID: o.BootID, After: "~"})
		})
		waiting.Wait()
		stop()
	})
}

// TestATakeThatNobodyHearsOfTakesNobody has the asker give up at every moment of its take.
func TestATakeThatNobodyHearsOfTakesNobody(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a"}`)
		f.join(t, joining("a", "call_1"))
		unheard := false
		for i := range 40 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			got, err := f.Take(ctx, taking("a", webhooks.CallID(fmt.Sprint("call_leg_", i))))
			cancel()
			// Nobody waits any more (nil, nil) once a take has been committed that its asker did not live to hear of.
			if unheard = unheard || err != nil; got != nil && err != nil || got == nil && !unheard {
				t.Errorf("got %+v, %v", got, err)
			}
			if got == nil {
				continue
			}
			if err := f.Return(t.Context(), returned(got, queue.Canceled)); err != nil {
				t.Error(err)
			}
		}
		// On a connection that broke in the middle nobody knows; then the sweep gives the caller back.
		f.clock.pass(time.Minute)
		f.renew(t, edge("a", 1))
		if err := f.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := f.waiting(t, "call_1"); w.Status != queue.Waiting || w.Position != 1 {
			t.Errorf("got %+v", w)
		}
	})
}

// BenchmarkTake is one Take and one Confirm with 1,000 callers waiting.
func BenchmarkTake(b *testing.B) {
	for name, location := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		b.Run(name, func(b *testing.B) {
			d, err := db.Open(b.Context(), location(b))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			_, err = d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
				VALUES (?, ?, '{}', ?, ?, '1', 'x', 'CN', '{}')`, resttest.Account, resttest.Account, db.Now(), db.Now()).Exec(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			s := &queue.Service{DB: d, Lease: time.Hour}
			n := 0
			join := func() {
				n++
				j := joining("a", webhooks.CallID(fmt.Sprint("call_", n)), priority(n%5), size(100_000))
				j.Create = true
				if _, err := s.Join(b.Context(), j); err != nil {
					b.Fatal(err)
				}
			}
			for range 1000 {
				join()
			}
			b.ResetTimer()
			for i := range b.N {
				c, err := s.Take(b.Context(), taking("a", webhooks.CallID(fmt.Sprint("call_leg_", i))))
				if err != nil || c == nil {
					b.Fatal(c, err)
				}
				if err := s.Confirm(b.Context(), account, c.ID, c.Claim); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				join()
				b.StartTimer()
			}
		})
	}
}
