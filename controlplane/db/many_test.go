package db_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

func text(t *testing.T, value any) string {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInsertManyKeepsEveryValue(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		at := db.Now()
		external, null := `a "b" \c 'd' {e,f}`, "NULL"
		made := func(id string, fill func(*book)) book {
			b := book{Row: db.Row{
				ID: id, AccountID: "acc_mine", Metadata: map[string]any{}, CreatedAt: at, UpdatedAt: at, Etag: "1",
			}, ShelfID: "shelf_1", Tags: []string{}}
			fill(&b)
			return b
		}
		books := []book{
			made("book_1", func(b *book) {
				b.ExternalID, b.Title, b.Pages, b.Weight, b.Lent = &external, "二手书\n\\N, \"quoted\", it's", 1<<53+1, 0.1, true
				b.Tags, b.ReadAt = []string{`"`, `\`, "'", "{}", "NULL", ""}, &at
				b.Metadata = map[string]any{"路": `c:\x "y" it's`, "list": []any{"a,b", nil}}
			}),
			made("book_2", func(b *book) { b.ExternalID, b.Title, b.Pages, b.Weight = &null, "NULL", -1, -1e-300 }),
			made("book_3", func(b *book) { early := time.Date(1999, 12, 31, 23, 59, 59, 123456000, time.UTC); b.ReadAt = &early }),
		}
		if err := db.InsertMany(t.Context(), d, mine, books); err != nil {
			t.Fatal(err)
		}
		if err := db.InsertMany[book](t.Context(), d, mine, nil); err != nil {
			t.Errorf("no rows: %v", err)
		}
		stored, err := db.List[book](t.Context(), d, mine, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Order("id") })
		if got, want := text(t, stored), text(t, books); err != nil || got != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
		again := []book{made("book_4", func(b *book) { b.ExternalID = &null })}
		if err := db.InsertMany(t.Context(), d, mine, again); problem.From(err).Code != problem.CodeConflict {
			t.Errorf("a second external_id: %v", err)
		}
		lost := []book{made("book_5", func(b *book) { b.ShelfID = "shelf_9" })}
		if err := db.InsertMany(t.Context(), d, mine, lost); problem.From(err).Code != problem.CodeRefused {
			t.Errorf("an unknown shelf: %v", err)
		}
	})
}

func TestAnyOfFindsEachValueHoweverItIsWritten(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		names := []string{"one", `"quoted", {x} \`, "it's", "NULL", "二", ""}
		for i, name := range names[1:] {
			insert(t, d, mine, &shelf{Row: db.Row{ID: fmt.Sprint("shelf_", i+2)}, Name: name})
		}
		insert(t, d, mine, &shelf{Row: db.Row{ID: "shelf_other"}, Name: "another"})
		condition, args := db.AnyOf(d, "name", names)
		found, err := db.List[shelf](t.Context(), d, mine, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where(condition, args...) })
		if err != nil || len(found) != len(names) {
			t.Errorf("%d found, want %d: %v", len(found), len(names), err)
		}
		condition, args = db.AnyOf(d, "name", []string{"none of them"})
		if n, err := db.Count[shelf](t.Context(), d, mine, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where(condition, args...) }); err != nil || n != 0 {
			t.Errorf("%d found: %v", n, err)
		}
	})
}
