package db_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

// Every query is told, those of a transaction too, with the context that it ran in.
func TestQueriesAreObserved(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		type key struct{}
		var mu sync.Mutex
		told, failed := map[any]int{}, 0
		d.Observe(func(ctx context.Context, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			told[ctx.Value(key{})]++
			if err != nil {
				failed++
			}
			if took < 0 {
				t.Errorf("a query took %s", took)
			}
		})
		named := func(name string) context.Context { return context.WithValue(t.Context(), key{}, name) }
		var n int
		if err := d.Read().NewRaw("SELECT 1").Scan(named("read"), &n); err != nil {
			t.Fatal(err)
		}
		err := d.InTx(named("transaction"), func(ctx context.Context, tx *db.Tx) error {
			return db.Enqueue(ctx, tx, "", "topic", struct{}{}, time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Read().NewRaw("SELECT id FROM outbox WHERE id = ?", "none").Scan(named("nothing"), new(string)); err == nil {
			t.Fatal("found a row that is not there")
		}
		if failed != 0 {
			t.Errorf("%d queries failed; one that finds no row did not", failed)
		}
		if err := d.Read().NewRaw("SELECT nothing FROM nowhere").Scan(named("mistake"), &n); err == nil {
			t.Fatal("a table that is not there was read")
		}
		mu.Lock()
		defer mu.Unlock()
		if told["read"] != 1 || told["transaction"] < 1 || told["nothing"] != 1 || told["mistake"] != 1 || failed != 1 {
			t.Errorf("told %v, failed %d", told, failed)
		}
		for name, pool := range d.Pools() {
			if pool.MaxOpenConnections < 1 || pool.OpenConnections < 1 {
				t.Errorf("pool %s: %+v", name, pool)
			}
		}
	})
}
