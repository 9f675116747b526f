package delivery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/delivery"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// BenchmarkAppendToDelivery emits 500 events a second, each in a transaction of its own, and measures from the begin of
// that transaction until the request for it is at its endpoint. Use -benchtime=5000x for ten seconds. In "hanging" the
// endpoint of another account never answers, and 10,000 events wait for it. It runs on SQLite, and on an empty PostgreSQL
// database when the environment's HOOKSWITCH_BENCH_POSTGRES is its URL.
func BenchmarkAppendToDelivery(b *testing.B) {
	for _, backlog := range []int{0, 10_000} {
		for _, name := range []string{"sqlite", "postgres"} {
			location := os.Getenv("HOOKSWITCH_BENCH_POSTGRES")
			if name == "postgres" && location == "" {
				continue
			}
			b.Run(fmt.Sprintf("%s/hanging=%t", name, backlog > 0), func(b *testing.B) {
				if name == "sqlite" {
					location = "sqlite:" + filepath.Join(b.TempDir(), "bench.db")
				}
				benchmark(b, location, backlog)
			})
		}
	}
}

func benchmark(b *testing.B, location string, backlog int) {
	const every = time.Second / 500
	d, err := db.Open(b.Context(), location)
	if err != nil {
		b.Fatal(err)
	}
	defer closing(b, d)
	memory, err := bus.Open(b.Context(), "memory:")
	if err != nil {
		b.Fatal(err)
	}
	defer closing(b, memory)
	feed := event.NewFeed(d, memory, slog.New(slog.DiscardHandler))
	client := guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer client.Close()
	s, err := delivery.New(delivery.Config{DB: d, Feed: feed, Guard: client, Log: slog.New(slog.DiscardHandler), Timeout: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	feed.Also, feed.Placed = append(feed.Also, s.FanOut), append(feed.Placed, s.Placed)
	var mu sync.Mutex
	begun, took := map[string]time.Time{}, make([]time.Duration, 0, b.N)
	all, release := make(chan struct{}), make(chan struct{})
	x := receive(b, func(_ http.ResponseWriter, r received) int {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		took = append(took, now.Sub(begun[r.event.ID]))
		if len(took) == b.N {
			close(all)
		}
		return http.StatusNoContent
	})
	hangs := receive(b, func(http.ResponseWriter, received) int { <-release; return http.StatusNoContent })
	mine, other := db.NewID("acc"), db.NewID("acc") // the database may have those of the run before
	account(b, d, mine)
	account(b, d, other)
	subscribe(b, d, mine, x.URL, "*")
	subscribe(b, d, other, hangs.URL, "*")
	var waiting []event.Event
	for i := range backlog {
		waiting = append(waiting, thing(other, fmt.Sprint(i)))
	}
	emit(b, d, waiting...)
	for range backlog/500 + 1 {
		if _, err := feed.Place(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running, emitting sync.WaitGroup
	running.Go(func() { _ = feed.Run(ctx) })
	running.Go(func() { _ = s.Run(ctx) })
	b.ResetTimer()
	tick := time.NewTicker(every)
	for i := range b.N {
		<-tick.C
		emitting.Go(func() {
			e := inCall(mine, fmt.Sprintf("%s_call_%d", mine, i/10), int64(i%10+1))
			e.Data = []byte(`{"from":"+8613800138000","to":"+862368925278","direction":"inbound","application_id":"app_01J00000000000000000000001"}`)
			mu.Lock()
			begun[e.ID] = time.Now()
			mu.Unlock()
			emit(b, d, e)
			feed.Wake()
		})
	}
	tick.Stop()
	emitting.Wait()
	<-all
	b.StopTimer()
	close(release)
	cancel()
	running.Wait()
	slices.Sort(took)
	at := func(p float64) float64 { return float64(took[int(p*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.95), "p95-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func closing(b *testing.B, c io.Closer) {
	b.Helper()
	if err := c.Close(); err != nil {
		b.Error(err)
	}
}
