package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hookswitch/hookswitch/controlplane/db"
)

// item is what is stored, and by which store call.
type item struct{ name, by int }

func TestGroupStoresWhatGathersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g db.Group[*item]
		var sizes []int
		free := make(chan struct{})
		store := func(_ context.Context, all []*item) {
			<-free
			sizes = append(sizes, len(all)) // one store at a time
			for _, i := range all {
				i.by = len(sizes)
			}
		}
		items := make([]item, 100)
		var all sync.WaitGroup
		for i := range items {
			all.Go(func() {
				if err := g.Do(t.Context(), &items[i], store); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(free)
		all.Wait()
		if len(sizes) != 3 || sizes[0] != 1 || sizes[1] != 64 || sizes[2] != 35 {
			t.Errorf("stored in groups of %v, want 1, 64 and 35", sizes)
		}
		for i, it := range items {
			if want := 1 + min(i, 1) + i/65; it.by != want {
				t.Errorf("item %d was stored by store %d, want %d: in the order they came", i, it.by, want)
			}
		}
	})
}

func TestWhoGivesUpIsNotStoredAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g db.Group[*item]
		free := make(chan struct{})
		var stored []int
		store := func(ctx context.Context, all []*item) {
			<-free
			if ctx.Err() != nil {
				t.Error("what others wait for ends with its leader's patience")
			}
			for _, i := range all {
				stored = append(stored, i.name)
			}
		}
		leader, leaves := context.WithCancel(t.Context())
		impatient, gone := context.WithCancelCause(t.Context())
		late := errors.New("late")
		results := make([]error, 3)
		var all sync.WaitGroup
		for i, ctx := range []context.Context{leader, impatient, t.Context()} {
			all.Go(func() { results[i] = g.Do(ctx, &item{name: i}, store) })
			synctest.Wait()
		}
		leaves()
		gone(late)
		synctest.Wait()
		close(free)
		all.Wait()
		if results[0] != nil || !errors.Is(results[1], late) || results[2] != nil {
			t.Errorf("results are %v", results)
		}
		if len(stored) != 2 || stored[0] != 0 || stored[1] != 2 {
			t.Errorf("stored were %v, want 0 and 2", stored)
		}
	})
}
