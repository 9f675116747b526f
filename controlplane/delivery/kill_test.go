package delivery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/delivery"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// A child is this test binary, told by these to deliver until it is killed.
const (
	childDatabase = "HOOKSWITCH_TEST_DELIVER_DATABASE"
	childBus      = "HOOKSWITCH_TEST_DELIVER_BUS"
	begun         = "delivering"
)

func TestMain(m *testing.M) {
	if database := os.Getenv(childDatabase); database != "" {
		if err := deliver(database, os.Getenv(childBus)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	verifyNoLeaks(m)
}

// deliver is what a control plane does with events. Its standard output says when it begins.
func deliver(database, busURL string) error {
	ctx := context.Background()
	d, err := db.Open(ctx, database)
	if err != nil {
		return err
	}
	b, err := bus.Open(ctx, busURL)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	feed := event.NewFeed(d, b, log)
	client := guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s, err := delivery.New(delivery.Config{DB: d, Feed: feed, Guard: client, Log: log})
	if err != nil {
		return err
	}
	s.Hurry(10 * time.Millisecond)
	s.Lease(3 * time.Second)
	feed.Also, feed.Placed = append(feed.Also, s.FanOut), append(feed.Placed, s.Placed)
	if _, err := os.Stdout.WriteString(begun); err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { _ = feed.Run(ctx) })
	running.Go(func() { _ = s.Run(ctx) })
	running.Wait()
	return nil
}

// child is a process that delivers.
type child struct {
	*exec.Cmd
	out io.ReadCloser
}

func spawn(t *testing.T, database, busURL string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDatabase+"="+database, childBus+"="+busURL)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: cmd, out: out}
	t.Cleanup(c.kill)
	if _, err := io.ReadFull(out, make([]byte, len(begun))); err != nil {
		t.Fatalf("the child did not begin: %v", err)
	}
	return c
}

func (c *child) kill() {
	if c.ProcessState == nil {
		_ = c.Process.Kill() // SIGKILL
		_ = c.Wait()
	}
}

// TestAKilledProcessLosesNothing has events committed while the processes that deliver them are killed at random moments,
// one after the other, and new ones take over.
func TestAKilledProcessLosesNothing(t *testing.T) {
	const kills, calls, each = 8, 40, 25
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			database, redis := location(t), bustest.RedisURL(t)
			d := dbtest.Open(t, database)
			feed := event.NewFeed(d, bustest.Open(t, redis), logger(t)) // wakes, and does no more
			account(t, d, "acc_1")
			x := receive(t, func(_ http.ResponseWriter, _ received) int { return http.StatusOK })
			var endpoints []*endpoint.Endpoint
			for range 3 {
				endpoints = append(endpoints, subscribe(t, d, "acc_1", x.URL, "*"))
			}
			// SQLite has one process that serves; PostgreSQL shares the work between two.
			running := []*child{spawn(t, database, redis)}
			if name == "postgres" {
				running = append(running, spawn(t, database, redis))
			}
			var writing sync.WaitGroup
			writing.Go(func() {
				for sequence := range each {
					for call := range calls {
						emit(t, d, inCall("acc_1", fmt.Sprintf("call_%d", call), int64(sequence+1)))
					}
					feed.Wake()
				}
			})
			for i := range kills {
				seen := len(x.seen())
				wanted := min(seen+1+rand.IntN(calls*each*3/kills), calls*each*3)
				until(t, "going on", x.more, func() bool { return len(x.seen()) >= wanted })
				running[i%len(running)].kill()
				running[i%len(running)] = spawn(t, database, redis)
			}
			writing.Wait()
			until(t, "delivering all", nil, func() bool {
				n, err := d.Read().NewSelect().Model((*endpoint.Delivery)(nil)).Where("status = 'delivered'").Count(t.Context())
				return err == nil && n == calls*each*3
			})
			for _, c := range running {
				c.kill()
			}
			ids, firsts := map[string]int{}, map[string]int64{}
			for _, r := range x.seen() {
				ids[r.event.ID]++
				if last := firsts[r.event.CallID]; r.event.Sequence > last+1 {
					t.Errorf("%s: %d came before %d", r.event.CallID, r.event.Sequence, last+1)
				} else {
					firsts[r.event.CallID] = max(last, r.event.Sequence)
				}
			}
			again := 0
			for _, n := range ids {
				again += n - 3
				if n < 3 {
					t.Errorf("an event came %d times to 3 endpoints", n)
				}
			}
			if len(ids) != calls*each {
				t.Errorf("%d events arrived, want %d", len(ids), calls*each)
			}
			t.Logf("%d kills: %d of %d deliveries came again", kills, again, calls*each*len(endpoints))
		})
	}
}

// TestTwoProcessesShareTheWork has each of two processes on one database deliver some of the endpoints' events, and one
// all of them when the other has gone.
func TestTwoProcessesShareTheWork(t *testing.T) {
	const endpoints = 60
	database, redis := dbtest.PostgresURL(t), bustest.RedisURL(t)
	a, b := dbtest.Open(t, database), dbtest.Open(t, database)
	account(t, a, "acc_1")
	account(t, a, "acc_2")
	release := make(chan struct{})
	x := receive(t, func(_ http.ResponseWriter, r received) int {
		<-release
		return http.StatusOK
	})
	unhang := sync.OnceFunc(func() { close(release) })
	t.Cleanup(unhang)
	for i := range endpoints {
		subscribe(t, a, fmt.Sprintf("acc_%d", i%2+1), x.URL, "*")
	}
	emit(t, a, thing("acc_1", "a"), thing("acc_2", "b"))
	first := start(t, a, redis, time.Millisecond)
	second := start(t, b, redis, time.Millisecond)
	held := func() (lanes, workers int) {
		var counts []struct {
			WorkerID string `bun:"worker_id"`
			N        int    `bun:"n"`
		}
		err := a.Read().NewRaw("SELECT worker_id, COUNT(*) AS n FROM delivery_lanes WHERE worker_id IS NOT NULL GROUP BY worker_id").Scan(t.Context(), &counts)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			lanes += c.N
		}
		return lanes, len(counts)
	}
	until(t, "taking all lanes", nil, func() bool { lanes, _ := held(); return lanes == endpoints })
	unhang()
	x.awaitTaken(t, endpoints)
	first.stop()
	emit(t, a, thing("acc_1", "c"), thing("acc_2", "d"))
	second.feed.Wake()
	x.awaitTaken(t, 2*endpoints)
	second.stop()
	if n := len(x.seen()); n != 2*endpoints {
		t.Errorf("%d requests, want %d: none twice", n, 2*endpoints)
	}
}
