package edges_test

import (
	"context"
	"errors"
	"fmt"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/edges"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// BenchmarkForwardedChange is a live change of one process to an edge that is connected by HTTP/2 to another, so many at a
// time: "command" from the asking process to the edge and back, "change" with what the database keeps of it as well.
func BenchmarkForwardedChange(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) func() *bus.Bus{
		"memory": func(b *testing.B) func() *bus.Bus {
			shared := bustest.Open(b, "memory:")
			return func() *bus.Bus { return shared }
		},
		"redis": func(b *testing.B) func() *bus.Bus {
			location := bustest.RedisURL(b)
			return func() *bus.Bus { return bustest.Open(b, location) }
		},
	} {
		for database, location := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
			b.Run(name+"/"+database, func(b *testing.B) {
				h, calls := benchmarked(b, location(b), open(b))
				who := auth.Caller{AccountID: resttest.Account, Scope: auth.Account(resttest.Account)}
				for _, most := range []int{1, 8} {
					b.Run(fmt.Sprint("command/", most), func(b *testing.B) {
						clocked(b, most, func() error {
							return h.Act(b.Context(), "edge_1", call.Action{ID: webhooks.NewActionID(), AccountID: resttest.Account, CallID: "call_1", Change: hangUp()})
						})
					})
					b.Run(fmt.Sprint("change/", most), func(b *testing.B) {
						clocked(b, most, func() error {
							got, err := calls.ActAll(b.Context(), who, "", []webhooks.CallID{"call_1"}, call.ActionDraft{Action: hangUp()})
							if err == nil && got.Data[0].Error != nil {
								err = errors.New(got.Data[0].Error.Detail)
							}
							return err
						})
					})
				}
			})
		}
	}
}

func hangUp() webhooks.Action { return webhooks.Action{Op: &webhooks.OpHangUp{}} }

// benchmarked is a process that asks, with one beside it that an edge with one call is connected to.
func benchmarked(b *testing.B, location string, open func() *bus.Bus) (*edges.Service, *call.Service) {
	b.Helper()
	d, err := db.Open(b.Context(), location)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	_, err = d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
		VALUES (?, ?, '{}', ?, ?, '1', 'test', 'CN', '{}')`, resttest.Account, resttest.Account, db.Now(), db.Now()).Exec(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	calls := &call.Service{DB: d}
	h := &house{Service: &edges.Service{DB: d, Bus: open(), Calls: calls, Log: slog.New(slog.DiscardHandler)}}
	calls.Edges = h.Service
	e := webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: db.Now()}
	if _, err := h.Publish(b.Context(), control.Batch{Owner: ownerOf("call_1", "boot_1"), Events: []webhooks.Event{e}}); err != nil {
		b.Fatal(err)
	}
	start(b, h.Service)
	p := h.beside(b, open())
	p.connect(b, h, "edge_1", &controltest.Edge{OnAct: func(context.Context, control.Action) error { return nil }})
	until(b, "a way to the edge", func() bool {
		return h.Act(b.Context(), "edge_1", call.Action{ID: webhooks.NewActionID(), CallID: "call_1", Change: hangUp()}) == nil
	})
	return h.Service, calls
}

// clocked runs fn so many times at once and reports how long it took in the middle, at the 99th of a hundred, and at worst.
func clocked(b *testing.B, most int, fn func() error) {
	b.Helper()
	var mu sync.Mutex // guards took
	var took []time.Duration
	limit := make(chan struct{}, most)
	var all sync.WaitGroup
	for b.Loop() {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			began := time.Now()
			if err := fn(); err != nil {
				b.Error(fmt.Errorf("after %s: %w", time.Since(began), err))
			}
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		})
	}
	all.Wait()
	slices.Sort(took)
	for name, share := range map[string]float64{"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1} {
		b.ReportMetric(float64(took[int(share*float64(len(took)-1))].Microseconds())/1000, name)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}
