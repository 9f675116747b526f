package db_test

import (
	"context"
	"slices"
	"testing"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

type note struct {
	bun.BaseModel `bun:"table:notes" json:"-"`
	db.Row
	db.Owned
	Text string `bun:"text" json:"text"`
}

const notes = `CREATE TABLE notes (id text PRIMARY KEY, account_id text NOT NULL, external_id text, metadata jsonb NOT NULL, created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL, etag text NOT NULL, owner_id text, department_id text, text text NOT NULL,
	UNIQUE (account_id, id), UNIQUE (account_id, external_id), UNIQUE (account_id, text))`

// eachNote runs fn on both databases, with notes of several owners.
func eachNote(t *testing.T, fn func(t *testing.T, d *db.DB)) {
	t.Helper()
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		if _, err := d.Write().NewRaw(notes).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, owned := range map[string]db.Owned{
			"n_ann": {OwnerID: "usr_ann"}, "n_bob": {OwnerID: "usr_bob", DepartmentID: "dep_1"}, "n_dep": {DepartmentID: "dep_1"}, "n_none": {},
		} {
			insert(t, d, mine, &note{Row: db.Row{ID: id}, Owned: owned, Text: id})
		}
		insert(t, d, theirs, &note{Row: db.Row{ID: "n_theirs"}, Owned: db.Owned{OwnerID: "usr_ann"}})
		fn(t, d)
	})
}

// only is the scope of a caller who may see some rows of our account.
func only(rows auth.Rows) auth.Scope {
	return auth.Caller{Scope: mine, Reach: map[string]auth.Rows{"notes": rows}}.Over("notes")
}

func TestAScopeOfSomeOwnersIsNarrowedEverywhere(t *testing.T) {
	eachNote(t, func(t *testing.T, d *db.DB) {
		for _, c := range []struct {
			name string
			rows auth.Rows
			want []string
		}{
			{"nothing", auth.Rows{}, nil},
			{"own", auth.Rows{Users: []string{"usr_ann"}}, []string{"n_ann"}},
			{"own and reports", auth.Rows{Users: []string{"usr_ann", "usr_bob"}}, []string{"n_ann", "n_bob"}},
			{"department", auth.Rows{Departments: []string{"dep_1", "dep_2"}}, []string{"n_bob", "n_dep"}},
			{"own and department", auth.Rows{Users: []string{"usr_ann"}, Departments: []string{"dep_1"}}, []string{"n_ann", "n_bob", "n_dep"}},
			{"all", auth.Rows{All: true}, []string{"n_ann", "n_bob", "n_dep", "n_none"}},
			{"a quote", auth.Rows{Users: []string{"' OR 1=1 --"}}, nil},
		} {
			t.Run(c.name, func(t *testing.T) { narrowed(t, d, only(c.rows), c.want) })
		}
	})
}

// narrowed checks that every generic query sees these notes and no other.
func narrowed(t *testing.T, d *db.DB, scope auth.Scope, want []string) {
	t.Helper()
	ctx := t.Context()
	rows, err := db.List[note](ctx, d, scope, func(q *bun.SelectQuery) *bun.SelectQuery { return q.OrderBy("id", bun.OrderAsc) })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range rows {
		got = append(got, n.ID)
	}
	if n, err := db.Count[note](ctx, d, scope); err != nil || !slices.Equal(got, want) || n != int64(len(want)) {
		t.Errorf("listed %v, counted %d %v; want %v", got, n, err, want)
	}
	for _, id := range []string{"n_ann", "n_bob", "n_dep", "n_none", "n_theirs"} {
		see := slices.Contains(want, id)
		_, get := db.Get[note](ctx, d, scope, id)
		_, find := db.Find[note](ctx, d, scope, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("id = ?", id) })
		_, change := db.Change(ctx, d, scope, id, "", func(*note) error { return nil })
		remove := d.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := db.Delete[note](ctx, tx, scope, id, ""); err != nil {
				return err
			}
			return errUndo
		})
		for what, ok := range map[string]bool{"get": get == nil, "find": find == nil, "change": change == nil, "delete": remove != nil && status(remove) != 404} {
			if ok != see {
				t.Errorf("%s %s: done %t, want %t", what, id, ok, see)
			}
		}
		// Update takes an object that somebody else may have read.
		stored, err := db.Get[note](ctx, d, auth.Everywhere(), id)
		if err != nil {
			t.Fatal(err)
		}
		stored.Text += "!"
		if err := db.Update(ctx, d, scope, stored, ""); (err == nil) != see {
			t.Errorf("update %s: %v", id, err)
		}
	}
}

func TestNobodyWritesRowsThatTheyCannotSee(t *testing.T) {
	eachNote(t, func(t *testing.T, d *db.DB) {
		ann := only(auth.Rows{Users: []string{"usr_ann"}, Departments: []string{"dep_2"}})
		for name, c := range map[string]struct {
			owned db.Owned
			want  int
		}{
			"mine": {db.Owned{OwnerID: "usr_ann"}, 0}, "my department's": {db.Owned{OwnerID: "usr_bob", DepartmentID: "dep_2"}, 0},
			"another's": {db.Owned{OwnerID: "usr_bob"}, 403}, "another department's": {db.Owned{DepartmentID: "dep_1"}, 403}, "nobody's": {db.Owned{}, 403},
		} {
			n := &note{Row: db.Row{ID: db.NewID("n")}, Owned: c.owned, Text: name}
			if err := db.Insert(t.Context(), d, ann, n); status(err) != c.want {
				t.Errorf("insert %s: %v", name, err)
			}
			_, err := db.Change(t.Context(), d, ann, "n_ann", "", func(n *note) error { n.Owned = c.owned; return nil })
			if status(err) != c.want {
				t.Errorf("give away to %s: %v", name, err)
			}
			if _, err := db.Change(t.Context(), d, mine, "n_ann", "", func(n *note) error { n.Owned = db.Owned{OwnerID: "usr_ann"}; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Insert(t.Context(), d, mine, &note{Row: db.Row{ID: "n_free"}, Text: "nobody's, by who sees all"}); err != nil {
			t.Error(err)
		}
	})
}

// A table without an owner is the whole account's.
func TestAScopeOfSomeOwnersSeesWhatHasNone(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		insert(t, d, only(auth.Rows{}), newBook("book_1"))
		if _, err := db.Get[book](t.Context(), d, only(auth.Rows{}), "book_1"); err != nil {
			t.Error(err)
		}
	})
}
