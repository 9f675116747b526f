package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

var errUndo = errors.New("undo")

// written gives a context with a journal, and the lines that it seals.
func written(t *testing.T, fail *error) (context.Context, *db.Journal, *[]string) {
	t.Helper()
	lines := &[]string{}
	j := db.NewJournal(func(ctx context.Context, tx *db.Tx, changes []db.Altered) error {
		for _, c := range changes {
			*lines = append(*lines, fmt.Sprintf("%s %t %t", c.ID, c.Before != nil, c.After != nil))
		}
		if fail != nil && *fail != nil {
			return *fail
		}
		_, err := tx.Write().NewRaw("INSERT INTO shelves VALUES (?, 'acc_journal', NULL, '{}', ?, ?, '1', ?)", db.NewID("s"), db.Now(), db.Now(), db.NewID("s")).Exec(ctx)
		return err
	})
	return db.WithJournal(t.Context(), j), j, lines
}

func sealed(t *testing.T, d *db.DB) int {
	t.Helper()
	n, err := d.Read().NewSelect().Table("shelves").Where("account_id = 'acc_journal'").Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func TestAChangeIsSealedInItsTransaction(t *testing.T) {
	for name, change := range map[string]func(ctx context.Context, d *db.DB) error{
		"book_new false true": func(ctx context.Context, d *db.DB) error { return db.Insert(ctx, d, mine, newBook("book_new")) },
		"book_1 true true": func(ctx context.Context, d *db.DB) error {
			_, err := db.Change(ctx, d, mine, "book_1", "", func(*book) error { return nil })
			return err
		},
		"book_1 true false": func(ctx context.Context, d *db.DB) error { return db.Delete[book](ctx, d, mine, "book_1", "") },
		"book_1 false true": func(ctx context.Context, d *db.DB) error {
			b, err := db.Get[book](ctx, d, mine, "book_1")
			if err != nil {
				return err
			}
			return db.Update(ctx, d, mine, b, "")
		},
		"x true false": func(ctx context.Context, d *db.DB) error {
			return d.InTx(ctx, func(ctx context.Context, _ *db.Tx) error { return db.Record(ctx, "x", newBook("x"), nil) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, d *db.DB) {
				insert(t, d, mine, newBook("book_1"))
				before := stored(t, d, "book_1")
				broken := errUndo
				ctx, j, lines := written(t, &broken)
				if err := change(ctx, d); !errors.Is(err, errUndo) {
					t.Fatalf("a change whose seal failed: %v", err)
				}
				if got := stored(t, d, "book_1"); got.Etag != before.Etag || sealed(t, d) != 0 || j.Sealed() || len(j.Changes()) != 0 {
					t.Errorf("left %+v, %v", got, j.Changes())
				}
				if _, err := db.Get[book](t.Context(), d, mine, "book_new"); err == nil {
					t.Error("left the new row")
				}
				broken, *lines = nil, nil
				if err := change(ctx, d); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(*lines, []string{name}) || sealed(t, d) != 1 || !j.Sealed() {
					t.Errorf("sealed %q, %d rows", *lines, sealed(t, d))
				}
			})
		})
	}
}

func TestAnOperationIsSealedOnceByItsFirstChange(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx, j, lines := written(t, nil)
		for i, fn := range []func(ctx context.Context, tx *db.Tx) error{
			func(context.Context, *db.Tx) error { return nil }, // changes nothing
			func(ctx context.Context, tx *db.Tx) error { // rolled back
				return errors.Join(db.Insert(ctx, tx, mine, newBook("book_0")), errUndo)
			},
			func(ctx context.Context, tx *db.Tx) error {
				return errors.Join(db.Insert(ctx, tx, mine, newBook("book_1")), tx.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
					return db.Insert(ctx, tx, mine, newBook("book_2"))
				}))
			},
			func(ctx context.Context, tx *db.Tx) error { return db.Insert(ctx, tx, mine, newBook("book_3")) },
		} {
			if err := d.InTx(ctx, fn); err != nil && i != 1 {
				t.Fatal(err)
			}
		}
		if want := []string{"book_1 false true", "book_2 false true"}; !slices.Equal(*lines, want) || sealed(t, d) != 1 {
			t.Errorf("sealed %q in %d rows, want %q", *lines, sealed(t, d), want)
		}
		if got := len(j.Changes()); got != 3 {
			t.Errorf("%d changes, want those of the committed transactions", got)
		}
	})
}

// What a change does to other rows in its own transaction stands behind it.
func TestTheMainChangeStandsFirst(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		insert(t, d, mine, newBook("book_1"))
		ctx, _, lines := written(t, nil)
		_, err := db.ChangeTx(ctx, d, mine, "book_1", "", func(ctx context.Context, tx *db.Tx, _ *book) error {
			return db.Insert(ctx, tx, mine, newBook("book_2"))
		})
		if want := []string{"book_1 true true", "book_2 false true"}; err != nil || !slices.Equal(*lines, want) {
			t.Errorf("sealed %q, %v", *lines, err)
		}
	})
}

// upsert puts a book with an external id and a title.
func upsert(ctx context.Context, d *db.DB, external, title, ifMatch string) (*book, bool, error) {
	return db.Upsert[book](ctx, d, mine, external, ifMatch, func(ctx context.Context, tx *db.Tx) (*book, error) {
		b := newBook(db.NewID("book"))
		b.ExternalID, b.Title = &external, title
		return b, db.Insert(ctx, tx, mine, b)
	}, func(ctx context.Context, tx *db.Tx, id string) (*book, error) {
		return db.Change(ctx, tx, mine, id, ifMatch, func(b *book) error { b.Title = title; return nil })
	})
}

func TestUpsertCreatesThenReplaces(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		if _, _, err := upsert(t.Context(), d, "x", "A", `"1"`); status(err) != 412 {
			t.Errorf("If-Match on nothing: %v", err)
		}
		first, created, err := upsert(t.Context(), d, "x", "A", "")
		if err != nil || !created || first.Etag != "1" {
			t.Fatalf("got %+v %t %v", first, created, err)
		}
		second, created, err := upsert(t.Context(), d, "x", "B", `"1"`)
		if err != nil || created || second.ID != first.ID || second.Etag != "2" || stored(t, d, first.ID).Title != "B" {
			t.Errorf("got %+v %t %v", second, created, err)
		}
		if _, _, err := upsert(t.Context(), d, "x", "C", `"1"`); status(err) != 412 {
			t.Errorf("a stale If-Match: %v", err)
		}
		// The external id of another account is another's.
		external := "y"
		other := newBook("book_theirs")
		other.ExternalID, other.ShelfID = &external, "shelf_2"
		insert(t, d, theirs, &shelf{Row: db.Row{ID: "shelf_2"}, Name: "two"})
		insert(t, d, theirs, other)
		if b, created, err := upsert(t.Context(), d, "y", "mine", ""); err != nil || !created || b.ID == other.ID {
			t.Errorf("got %+v %t %v", b, created, err)
		}
	})
}

func TestAConflictThatIsNoRaceStays(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		tries := 0
		_, _, err := db.Upsert[shelf](t.Context(), d, mine, "x", "", func(ctx context.Context, tx *db.Tx) (*shelf, error) {
			tries++
			s := &shelf{Row: db.Row{ID: db.NewID("shelf"), ExternalID: ptr("x")}, Name: "one"} // taken by shelf_1
			return s, db.Insert(ctx, tx, mine, s)
		}, nil)
		if p := problem.From(err); p.Code != problem.CodeConflict || tries != 1 || !strings.Contains(p.Detail, "name") {
			t.Errorf("after %d tries: %v", tries, err)
		}
	})
}

func TestConcurrentUpsertsMakeOneRow(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		const n = 12
		var wait sync.WaitGroup
		var mu sync.Mutex // guards made
		made := map[bool]int{}
		for i := range n {
			wait.Go(func() {
				_, created, err := upsert(t.Context(), d, "x", fmt.Sprint(i), "")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				made[created]++
				mu.Unlock()
			})
		}
		wait.Wait()
		rows, err := db.List[book](t.Context(), d, mine)
		if err != nil || len(rows) != 1 || rows[0].Etag != fmt.Sprint(n) || made[true] != 1 || made[false] != n-1 {
			t.Errorf("%d rows, created %v: %+v %v", len(rows), made, rows, err)
		}
	})
}
