package db_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type shelf struct {
	bun.BaseModel `bun:"table:shelves"`
	db.Row
	Name string `bun:"name" json:"name"`
}

type book struct {
	bun.BaseModel `bun:"table:books"`
	db.Row
	ShelfID string     `bun:"shelf_id" json:"shelf_id"`
	Title   string     `bun:"title" json:"title"`
	Pages   int64      `bun:"pages" json:"pages"`
	Weight  float64    `bun:"weight" json:"weight"`
	Lent    bool       `bun:"lent" json:"lent"`
	Tags    []string   `bun:"tags,type:jsonb" json:"tags"`
	ReadAt  *time.Time `bun:"read_at" json:"read_at"`
	Secret  string     `bun:"secret" json:"-"`
}

const tables = `
CREATE TABLE shelves (id text PRIMARY KEY, account_id text NOT NULL, external_id text, metadata jsonb NOT NULL, created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL, etag text NOT NULL, name text NOT NULL, UNIQUE (account_id, id), UNIQUE (account_id, name));
CREATE TABLE books (id text PRIMARY KEY, account_id text NOT NULL, external_id text, metadata jsonb NOT NULL, created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL, etag text NOT NULL, shelf_id text NOT NULL, title text NOT NULL, pages bigint NOT NULL,
	weight double precision NOT NULL, lent boolean NOT NULL, tags jsonb NOT NULL, read_at timestamptz, secret text NOT NULL,
	UNIQUE (account_id, external_id), FOREIGN KEY (account_id, shelf_id) REFERENCES shelves (account_id, id))`

var (
	mine   = auth.Account("acc_mine")
	theirs = auth.Account("acc_theirs")
)

// each runs fn on both databases, with a shelf of ours.
func each(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for _, statement := range strings.Split(tables, ";") {
			if _, err := d.Write().NewRaw(statement).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		insert(t, d, mine, &shelf{Row: db.Row{ID: "shelf_1"}, Name: "one"})
		fn(t, d)
	})
}

func insert[T any, P db.Entity[T]](t *testing.T, d *db.DB, scope auth.Scope, object *T) {
	t.Helper()
	if err := db.Insert[T, P](t.Context(), d, scope, object); err != nil {
		t.Fatal(err)
	}
}

// status is the HTTP status of an error's problem.
func status(err error) int {
	if err == nil {
		return 0
	}
	return problem.From(err).Status
}

func newBook(id string) *book {
	return &book{Row: db.Row{ID: id}, ShelfID: "shelf_1", Title: "T", Tags: []string{}}
}

func TestARowIsReadAsItWasWritten(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		external := "x'1\\"
		at := time.Date(2026, 1, 31, 16, 0, 0, 123456000, time.FixedZone("CST", 8*3600))
		in := newBook("book_1")
		in.ExternalID, in.Title, in.Pages, in.Weight, in.Lent = &external, `it's "so" \ ? 中文 😀`, 1<<62+1, 0.1, true
		in.Tags, in.ReadAt, in.Metadata = []string{"a'b", "?"}, &at, map[string]any{"deep": map[string]any{"x": []any{"?", true, nil}}}
		insert(t, d, mine, in)
		out, err := db.Get[book](t.Context(), d, mine, "book_1")
		if err != nil {
			t.Fatal(err)
		}
		if !out.ReadAt.Equal(at) || !out.CreatedAt.Equal(in.CreatedAt) || out.CreatedAt.Nanosecond()%1000 != 0 {
			t.Errorf("times: %s %s", out.ReadAt, out.CreatedAt)
		}
		in.ReadAt = ptr(at.UTC())
		a, _ := json.Marshal(in)
		if b, _ := json.Marshal(out); string(a) != string(b) {
			t.Errorf("got\n%s, want\n%s", b, a)
		}
		if out.AccountID != "acc_mine" || out.Etag != "1" || *out.ExternalID != external {
			t.Errorf("got %+v", out.Row)
		}
		if text, _ := json.Marshal(out); !strings.Contains(string(text), `"read_at":"2026-01-31T08:00:00.123456Z"`) {
			t.Errorf("not UTC: %s", text)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestMetadataIsAnObjectEvenWhenThereIsNone(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		insert(t, d, mine, newBook("book_1"))
		got, err := db.Get[book](t.Context(), d, mine, "book_1")
		if err != nil || got.Metadata == nil || len(got.Metadata) != 0 {
			t.Errorf("got %v %v", got, err)
		}
		large := newBook("book_2")
		large.Metadata = map[string]any{"x": strings.Repeat("y", db.MaxMetadata)}
		if err := db.Insert(t.Context(), d, mine, large); status(err) != 422 {
			t.Errorf("large metadata: %v", err)
		}
	})
}

// The zone of the machine must not be seen in a row. It can be set only for a whole process.
func TestTimesAreUTCWhateverTheZone(t *testing.T) {
	if os.Getenv("TZ") == "Asia/Shanghai" {
		if _, offset := time.Now().Zone(); offset != 8*3600 {
			t.Fatalf("the zone has the offset %d", offset)
		}
		t.Run("row", TestARowIsReadAsItWasWritten)
		t.Run("outbox", TestClaim)
		return
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTimesAreUTCWhateverTheZone$", "-test.v")
	again.Env = append(os.Environ(), "TZ=Asia/Shanghai")
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestTimesAreUTCWhateverTheZone/row/postgres") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestNothingCrossesAnAccount(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		insert(t, d, mine, newBook("book_1"))
		for name, scope := range map[string]auth.Scope{"theirs": theirs, "nobody": {}} {
			_, get := db.Get[book](ctx, d, scope, "book_1")
			_, change := db.Change(ctx, d, scope, "book_1", "", func(*book) error { return nil })
			for what, err := range map[string]error{
				"get": get, "change": change, "update": db.Update(ctx, d, scope, ptr(*stored(t, d, "book_1")), ""), "delete": db.Delete[book](ctx, d, scope, "book_1", ""),
			} {
				if status(err) != 404 {
					t.Errorf("%s %s: %v", name, what, err)
				}
			}
			if rows, err := db.List[book](ctx, d, scope); rows == nil || len(rows) != 0 || err != nil {
				t.Errorf("%s list: %v %v", name, rows, err)
			}
			if n, err := db.Count[book](ctx, d, scope); n != 0 || err != nil {
				t.Errorf("%s count: %d %v", name, n, err)
			}
			if _, err := db.Find[book](ctx, d, scope, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("title = 'T'") }); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("%s find: %v", name, err)
			}
		}
		if err := db.Insert(ctx, d, auth.Scope{}, newBook("book_2")); err == nil {
			t.Error("nobody inserted")
		}
		// A row cannot refer to another account's, whatever its id.
		if err := db.Insert(ctx, d, theirs, newBook("book_3")); status(err) != 422 {
			t.Errorf("a book of theirs on our shelf: %v", err)
		}
		if rows, err := db.List[book](ctx, d, auth.Everywhere()); len(rows) != 1 || err != nil {
			t.Errorf("everywhere: %v %v", rows, err)
		}
	})
}

func stored(t *testing.T, d *db.DB, id string) *book {
	t.Helper()
	b, err := db.Get[book](t.Context(), d, auth.Everywhere(), id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInsertSaysWhatIsInTheWay(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		external := newBook("book_1")
		external.ExternalID = ptr("x")
		insert(t, d, mine, external)
		again := newBook("book_2")
		again.ExternalID = ptr("x")
		for want, err := range map[string]error{
			"/external_id": db.Insert(ctx, d, mine, again),
			"/name":        db.Insert(ctx, d, mine, &shelf{Row: db.Row{ID: "shelf_2"}, Name: "one"}),
			"/id":          db.Insert(ctx, d, mine, &shelf{Row: db.Row{ID: "shelf_1"}, Name: "two"}),
		} {
			if p := problem.From(err); p.Status != 409 || len(p.Errors) != 1 || p.Errors[0].Pointer != want {
				t.Errorf("%s: %v", want, err)
			}
		}
		insert(t, d, theirs, &shelf{Row: db.Row{ID: "shelf_3"}, Name: "one"})
		lost := newBook("book_4")
		lost.ShelfID = "shelf_none"
		if err := db.Insert(ctx, d, mine, lost); status(err) != 422 {
			t.Errorf("a shelf that is not there: %v", err)
		}
		if err := db.Insert(ctx, d, mine, &book{}); err == nil {
			t.Error("a row without an id")
		}
	})
}

func TestChange(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		insert(t, d, mine, newBook("book_1"))
		created := stored(t, d, "book_1")
		journal := db.NewJournal(nil)
		changed, err := db.Change(db.WithJournal(ctx, journal), d, mine, "book_1", `W/"0", "1"`, func(b *book) error {
			b.Title = "B"
			// What a caller must not change stays.
			b.ID, b.AccountID, b.CreatedAt, b.Etag = "book_x", "acc_x", time.Time{}, "77"
			return nil
		})
		if err != nil || changed.Etag != "2" || changed.Title != "B" || !changed.UpdatedAt.After(created.UpdatedAt) {
			t.Fatalf("got %+v %v", changed, err)
		}
		if got := stored(t, d, "book_1"); got.Title != "B" || got.AccountID != "acc_mine" || !got.CreatedAt.Equal(created.CreatedAt) || got.Etag != "2" {
			t.Errorf("stored %+v", got)
		}
		if c := journal.Changes(); len(c) != 1 || c[0].ID != "book_1" || !strings.Contains(string(c[0].Before), `"title":"T"`) ||
			!strings.Contains(string(c[0].After), `"title":"B"`) || c[0].Type != reflect.TypeFor[book]() {
			t.Errorf("recorded %+v", c)
		}
		for _, stale := range []string{`"1"`, "1", `"3"`, "nonsense"} {
			if _, err := db.Change(ctx, d, mine, "book_1", stale, func(*book) error { return nil }); status(err) != 412 {
				t.Errorf("If-Match %s: %v", stale, err)
			}
			if err := db.Delete[book](ctx, d, mine, "book_1", stale); status(err) != 412 {
				t.Errorf("delete with If-Match %s: %v", stale, err)
			}
		}
		refused := problem.Refused("no")
		if _, err := db.Change(ctx, d, mine, "book_1", "*", func(b *book) error { b.Title = "C"; return refused }); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		if got := stored(t, d, "book_1").Title; got != "B" {
			t.Errorf("a refused change left %q", got)
		}
		if _, err := db.Change(ctx, d, mine, "book_1", "", func(b *book) error { b.ShelfID = "none"; return nil }); status(err) != 422 {
			t.Errorf("an unknown reference: %v", err)
		}
	})
}

func TestConcurrentChangesAreAllKept(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		insert(t, d, mine, newBook("book_1"))
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := db.Change(t.Context(), d, mine, "book_1", "", func(b *book) error { b.Pages++; return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := stored(t, d, "book_1"); got.Pages != 10 || got.Etag != "11" {
			t.Errorf("got %d pages, etag %s", got.Pages, got.Etag)
		}
	})
}

func TestUpdateRefusesAStateThatIsOld(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		insert(t, d, mine, newBook("book_1"))
		first, second := stored(t, d, "book_1"), stored(t, d, "book_1")
		first.Title, second.Title = "first", "second"
		if err := db.Update(ctx, d, mine, first, `"1"`); err != nil || first.Etag != "2" {
			t.Fatal(err, first.Etag)
		}
		if err := db.Update(ctx, d, mine, second, ""); status(err) != 412 || second.Etag != "1" {
			t.Errorf("got %v, etag %s", err, second.Etag)
		}
		if got := stored(t, d, "book_1").Title; got != "first" {
			t.Errorf("stored %q", got)
		}
	})
}

func TestDeleteNamesWhatStillUsesIt(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		for i := range 12 {
			insert(t, d, mine, newBook(fmt.Sprintf("book_%02d", i)))
		}
		use := db.Use{Table: "books", Column: "shelf_id", Name: "book"}
		err := db.Delete[shelf](ctx, d, mine, "shelf_1", "", use)
		if p := problem.From(err); p.Status != 409 || len(p.Errors) != 10 || !strings.Contains(p.Detail, "book book_00, book book_01") {
			t.Errorf("got %v", err)
		}
		if err := db.Delete[shelf](ctx, d, mine, "shelf_1", ""); status(err) != 409 {
			t.Errorf("without names: %v", err)
		}
		for i := range 12 {
			if err := db.Delete[book](ctx, d, mine, fmt.Sprintf("book_%02d", i), ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Delete[shelf](ctx, d, mine, "shelf_1", `"1"`, use); err != nil {
			t.Error(err)
		}
		if err := db.Delete[shelf](ctx, d, mine, "shelf_1", ""); status(err) != 404 {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

func TestATransactionIsWholeOrNothing(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		errStop := errors.New("stop")
		err := d.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := db.Insert(ctx, tx, mine, newBook("book_1")); err != nil {
				return err
			}
			if err := db.Enqueue(ctx, tx, "acc_mine", "topic", map[string]int{"n": 1}, time.Time{}); err != nil {
				return err
			}
			// It sees itself, and an inner one is the same.
			if _, err := db.Get[book](ctx, tx, mine, "book_1"); err != nil {
				t.Errorf("not seen inside: %v", err)
			}
			return tx.InTx(ctx, func(context.Context, *db.Tx) error { return errStop })
		})
		if !errors.Is(err, errStop) {
			t.Fatalf("got %v", err)
		}
		if n, _ := db.Count[book](ctx, d, mine); n != 0 {
			t.Errorf("%d books are left", n)
		}
		if m, err := d.Claim(ctx, "topic", 10, time.Minute); len(m) != 0 || err != nil {
			t.Errorf("messages are left: %v %v", m, err)
		}
	})
}

func enqueue(t *testing.T, d *db.DB, topic string, n int, at time.Time) {
	t.Helper()
	err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.Enqueue(ctx, tx, "acc_mine", topic, map[string]int{"n": n}, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func claim(t *testing.T, d *db.DB, topic string, n int, lease time.Duration) []db.Message {
	t.Helper()
	m, err := d.Claim(t.Context(), topic, n, lease)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestClaim(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		for i := range 3 {
			enqueue(t, d, "a", i, time.Time{})
		}
		enqueue(t, d, "a", 9, time.Now().Add(time.Hour))
		enqueue(t, d, "b", 8, time.Time{})
		first := claim(t, d, "a", 2, time.Hour)
		if len(first) != 2 || string(compact(t, first[0].Payload)) != `{"n":0}` || string(compact(t, first[1].Payload)) != `{"n":1}` {
			t.Fatalf("got %+v", first)
		}
		if first[0].Attempts != 1 || first[0].AccountID != "acc_mine" || first[0].Topic != "a" {
			t.Errorf("got %+v", first[0])
		}
		if rest := claim(t, d, "a", 10, time.Hour); len(rest) != 1 || string(compact(t, rest[0].Payload)) != `{"n":2}` {
			t.Errorf("got %+v", rest)
		}
		// One is done, the other is to be tried again at once.
		if err := errors.Join(d.Done(ctx, first[0]), d.Retry(ctx, first[1], time.Now().Add(-time.Second))); err != nil {
			t.Fatal(err)
		}
		again := claim(t, d, "a", 10, -time.Second)
		if len(again) != 1 || again[0].ID != first[1].ID || again[0].Attempts != 2 {
			t.Fatalf("got %+v", again)
		}
		// Its lease is over: another has it, and the late worker changes nothing.
		taken := claim(t, d, "a", 10, time.Hour)
		if len(taken) != 1 || taken[0].ID != first[1].ID {
			t.Fatalf("got %+v", taken)
		}
		if err := errors.Join(d.Done(ctx, again...), d.Retry(ctx, again[0], time.Now().Add(-time.Second))); err != nil {
			t.Fatal(err)
		}
		if m := claim(t, d, "a", 10, time.Hour); len(m) != 0 {
			t.Errorf("a late worker freed %+v", m)
		}
		if err := d.Done(ctx, taken...); err != nil {
			t.Fatal(err)
		}
		if n, err := d.Read().NewSelect().Table("outbox").Count(ctx); n != 3 || err != nil {
			t.Errorf("%d messages are left: %v", n, err)
		}
		if err := d.Done(ctx); err != nil {
			t.Error(err)
		}
	})
}

func compact(t *testing.T, text json.RawMessage) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAMessageIsClaimedByOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		const messages = 60
		for i := range messages {
			enqueue(t, d, "a", i, time.Time{})
		}
		var mu sync.Mutex // guards seen
		seen := map[string]int{}
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for {
					m, err := d.Claim(t.Context(), "a", 7, time.Hour)
					if err != nil {
						t.Error(err)
						return
					}
					if len(m) == 0 {
						return
					}
					mu.Lock()
					for _, each := range m {
						seen[each.ID]++
					}
					mu.Unlock()
				}
			})
		}
		workers.Wait()
		// A worker that found all rows locked by others may have left early; what is left is left for the next.
		for _, m := range claim(t, d, "a", messages, time.Hour) {
			seen[m.ID]++
		}
		if len(seen) != messages {
			t.Errorf("%d of %d were claimed", len(seen), messages)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
	})
}

func TestEnqueueTakesObjectsAndArraysOnly(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for _, payload := range []any{1, "x", nil, true, func() {}} {
			err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.Enqueue(ctx, tx, "", "a", payload, time.Time{}) })
			if err == nil {
				t.Errorf("%T was taken", payload)
			}
		}
	})
}

func TestLock(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		inside := 0
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				err := d.Lock(t.Context(), "name", func(ctx context.Context) error {
					inside++ // the race detector sees two at once
					return d.Lock(ctx, "another", func(context.Context) error { return nil })
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if inside != 5 {
			t.Errorf("%d were inside", inside)
		}
		errFailed := errors.New("failed")
		err := d.Lock(t.Context(), "name", func(context.Context) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := d.Lock(ctx, "name", func(context.Context) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a taken lock: %v", err)
			}
			return errFailed
		})
		if !errors.Is(err, errFailed) {
			t.Errorf("got %v", err)
		}
		if err := d.Lock(t.Context(), "name", func(context.Context) error { return nil }); err != nil {
			t.Errorf("not freed: %v", err)
		}
	})
}

func TestOpenMigratesOnce(t *testing.T) {
	for name, location := range map[string]string{"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "new.db"), "postgres": dbtest.EmptyPostgresURL(t)} {
		t.Run(name, func(t *testing.T) {
			// All at once, as the processes of an installation start.
			var all sync.WaitGroup
			if name == "postgres" {
				for range 3 {
					all.Go(func() {
						d, err := db.Open(t.Context(), location)
						if err != nil {
							t.Error(err)
							return
						}
						if err := d.Close(); err != nil {
							t.Error(err)
						}
					})
				}
			}
			all.Wait()
			d := dbtest.Open(t, location)
			if err := d.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestASQLiteFileIsItsOwnersAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new folder", "ümlaut?#%")
	d := dbtest.Open(t, "sqlite:"+filepath.Join(folder, "a b.db"))
	if _, err := d.Write().NewRaw("CREATE TABLE x (a text)").Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s %v", entry.Name(), info.Mode(), err)
		}
	}
	if _, err := d.Read().NewRaw("INSERT INTO x VALUES ('a')").Exec(t.Context()); err == nil {
		t.Error("the readers can write")
	}
}

func TestOpenSaysWhatIsWrongWithoutThePassword(t *testing.T) {
	for _, location := range []string{"", "mysql://u:hunter2@h/d", "sqlite:", "sqlite::memory:", "postgres://u:hunter2@%zz/d", "postgres://u:hunter2@127.0.0.1:1/d", "postgres://u:hunter2@h/d?sslmode=nonsense"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		d, err := db.Open(ctx, location)
		cancel()
		if err == nil {
			t.Errorf("%q was opened", location)
			_ = d.Close()
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", location, err)
		}
	}
}

func TestADatabaseThatIsAwayIsUnavailable(t *testing.T) {
	d := dbtest.Open(t, dbtest.PostgresURL(t))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	err := d.InTx(t.Context(), func(context.Context, *db.Tx) error { return nil })
	if err == nil {
		t.Error("a closed database answers")
	}
	// The server ends every connection, as when it is restarted.
	location := dbtest.PostgresURL(t)
	a, b := dbtest.Open(t, location), dbtest.Open(t, location)
	err = a.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.Write().NewRaw("SELECT 1").Exec(ctx); err != nil {
			return err
		}
		if _, err := b.Write().NewRaw("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()").Exec(ctx); err != nil {
			t.Error(err)
		}
		_, err := tx.Write().NewRaw("SELECT 1").Exec(ctx)
		return err
	})
	if status(err) != 503 {
		t.Errorf("got %v", err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Errorf("not back: %v", err)
	}
}

func TestNewIDsSortByTime(t *testing.T) {
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = db.NewID("x")
	}
	if !slices.IsSorted(ids) || !strings.HasPrefix(ids[0], "x_") || len(ids[0]) != 28 {
		t.Errorf("got %s … %s", ids[0], ids[999])
	}
}
