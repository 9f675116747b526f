package db_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// twoAccounts opens PostgreSQL with accounts acc_a and acc_b, each with an application, and one key of the installation.
func twoAccounts(t testing.TB, location string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if !d.RowSecurity() {
		t.Fatal("row security is off")
	}
	run := func(statement string, args ...any) {
		t.Helper()
		if _, err := d.Write().NewRaw(statement, args...).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	now := db.Now()
	for _, id := range []string{"acc_a", "acc_b"} {
		run("INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits) VALUES (?, ?, '{}', ?, ?, '1', ?, 'CN', '{}')", id, id, now, now, id)
		run(`INSERT INTO applications (id, account_id, metadata, created_at, updated_at, etag, name, format, voice_url, method, secret, connect_timeout_ms, budget_ms, retries, fallback_timeout_ms)
			VALUES (?, ?, '{}', ?, ?, '1', 'x', 'native', 'https://example.com/', 'POST', 's', 1, 1, 1, 1)`, "app_"+id, id, now, now)
	}
	run("INSERT INTO api_keys (id, metadata, created_at, updated_at, etag, name, kind, hash, permissions, networks, rate_per_second) VALUES ('key_1', '{}', ?, ?, '1', 'x', 'edge', 'h', '[]', '[]', 0)", now, now)
	return d
}

// names are the ids that a statement which forgot its scope finds.
func names(ctx context.Context, idb bun.IDB, table string) (string, error) {
	var ids []string
	err := idb.NewRaw("SELECT id FROM ? WHERE 1 = 0 OR 1 = 1 ORDER BY id", bun.Ident(table)).Scan(ctx, &ids)
	return strings.Join(ids, " "), err
}

func TestAStatementWithoutItsScopeFindsOneAccountAlone(t *testing.T) {
	d := twoAccounts(t, dbtest.PostgresURL(t))
	a, b := db.AsAccount(t.Context(), "acc_a"), db.AsAccount(t.Context(), "acc_b")
	for range 3 { // over connections that others have used
		for _, c := range []struct {
			ctx         context.Context
			table, want string
		}{
			{t.Context(), "applications", "app_acc_a app_acc_b"}, {a, "applications", "app_acc_a"}, {b, "applications", "app_acc_b"},
			{db.AsInstallation(a), "applications", "app_acc_a app_acc_b"}, {db.AsAccount(t.Context(), "acc_none"), "applications", ""},
			{a, "accounts", "acc_a"}, {a, "api_keys", ""}, {t.Context(), "api_keys", "key_1"}, {db.AsAccount(t.Context(), "' OR true --"), "applications", ""},
		} {
			if got, err := names(c.ctx, d.Read(), c.table); err != nil || got != c.want {
				t.Errorf("%s: found %q, %v; want %q", c.table, got, err, c.want)
			}
			err := d.InTx(c.ctx, func(ctx context.Context, tx *db.Tx) error {
				got, err := names(ctx, tx.Read(), c.table)
				if got != c.want {
					t.Errorf("%s in a transaction: found %q, want %q", c.table, got, c.want)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAStatementWithoutItsScopeChangesNobodyElse(t *testing.T) {
	d := twoAccounts(t, dbtest.PostgresURL(t))
	a := db.AsAccount(t.Context(), "acc_a")
	for _, statement := range []string{"UPDATE applications SET name = 'stolen'", "DELETE FROM applications WHERE id = 'app_acc_b'"} {
		if _, err := d.Write().NewRaw(statement).Exec(a); err != nil {
			t.Fatal(err)
		}
	}
	var name string
	if err := d.Read().NewRaw("SELECT name FROM applications WHERE id = 'app_acc_b'").Scan(t.Context(), &name); err != nil || name != "x" {
		t.Errorf("theirs is %q, %v", name, err)
	}
	const insert = "INSERT INTO domains (domain, account_id, position) VALUES (?, ?, 0)"
	if _, err := d.Write().NewRaw(insert, "b.example", "acc_b").Exec(a); err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("wrote a row of another account: %v", err)
	}
	if _, err := d.Write().NewRaw(insert, "a.example", "acc_a").Exec(a); err != nil {
		t.Error(err)
	}
	for _, statement := range []string{"UPDATE audit_entries SET status = 0", "DELETE FROM audit_entries", "ALTER TABLE applications DISABLE ROW LEVEL SECURITY", "DROP TABLE domains"} {
		if _, err := d.Write().NewRaw(statement).Exec(a); err == nil {
			t.Errorf("%s was done", statement)
		}
	}
}

func TestWhoseStatementsRunChangesWithinATransaction(t *testing.T) {
	d := twoAccounts(t, dbtest.PostgresURL(t))
	a := db.AsAccount(t.Context(), "acc_a")
	see := func(ctx context.Context, idb bun.IDB, want string) {
		t.Helper()
		if got, err := names(ctx, idb, "applications"); err != nil || got != want {
			t.Errorf("found %q, %v; want %q", got, err, want)
		}
	}
	for _, fail := range []error{nil, errUndo} {
		err := d.InTx(a, func(ctx context.Context, tx *db.Tx) error {
			see(ctx, tx.Read(), "app_acc_a")
			see(db.AsInstallation(ctx), tx.Read(), "app_acc_a app_acc_b")
			see(ctx, tx.Read(), "app_acc_a")
			see(db.AsAccount(ctx, "acc_b"), tx.Read(), "app_acc_b")
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatal(err)
		}
		// Whichever connection it was, it is nobody's now.
		for range 25 {
			see(t.Context(), d.Read(), "app_acc_a app_acc_b")
			see(a, d.Read(), "app_acc_a")
		}
	}
	// A transaction that the database has given up on.
	err := d.InTx(a, func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.Write().NewRaw("SELECT 1 / 0").Exec(ctx)
		_, _ = names(db.AsInstallation(ctx), tx.Read(), "applications")
		return err
	})
	if err == nil {
		t.Fatal("no error")
	}
	for range 25 {
		see(t.Context(), d.Read(), "app_acc_a app_acc_b")
		see(a, d.Read(), "app_acc_a")
	}
}

func TestAGenericQueryRunsAsItsScopeSays(t *testing.T) {
	d := twoAccounts(t, dbtest.PostgresURL(t))
	for held, ctx := range map[string]context.Context{"nobody": t.Context(), "acc_a": db.AsAccount(t.Context(), "acc_a")} {
		for want, scope := range map[int]auth.Scope{2: auth.Everywhere(), 1: auth.Account("acc_b"), 0: {}} {
			rows, err := db.List[application](ctx, d, scope)
			if err != nil || len(rows) != want {
				t.Errorf("held to %s: %d rows, %v; want %d", held, len(rows), err, want)
			}
		}
	}
}

func TestManyAccountsAtOnceNeverSeeEachOther(t *testing.T) {
	d := twoAccounts(t, dbtest.PostgresURL(t))
	var wait sync.WaitGroup
	for i := range 40 {
		account := []string{"acc_a", "acc_b", ""}[i%3]
		want := map[string]string{"acc_a": "app_acc_a", "acc_b": "app_acc_b", "": "app_acc_a app_acc_b"}[account]
		wait.Go(func() {
			ctx := t.Context()
			if account != "" {
				ctx = db.AsAccount(ctx, account)
			}
			for n := range 30 {
				var got string
				var err error
				switch n % 3 {
				case 0:
					got, err = names(ctx, d.Read(), "applications")
				case 1:
					err = d.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
						got, err = names(ctx, tx.Read(), "applications")
						return err
					})
				case 2: // given up in the middle
					ended, cancel := context.WithCancel(ctx)
					cancel()
					_, _ = names(ended, d.Read(), "applications")
					got = want
				}
				if err != nil || got != want {
					t.Errorf("%s found %q, %v", account, got, err)
				}
			}
		})
	}
	wait.Wait()
}

// Whoever kills the connections between two statements of an account is not noticed by its next one.
func TestABrokenConnectionIsReplacedBeforeAnAccountUsesIt(t *testing.T) {
	location := dbtest.PostgresURL(t)
	d, killer := twoAccounts(t, location), dbtest.Open(t, location)
	a := db.AsAccount(t.Context(), "acc_a")
	if _, err := names(t.Context(), d.Read(), "applications"); err != nil {
		t.Fatal(err)
	}
	if _, err := killer.Write().NewRaw("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()").Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := names(a, d.Read(), "applications"); err != nil || got != "app_acc_a" {
		t.Errorf("found %q, %v", got, err)
	}
}

func TestADuplicateIsNamedUnderRowSecurity(t *testing.T) {
	d := twoAccounts(t, dbtest.PostgresURL(t))
	a := db.AsAccount(t.Context(), "acc_a")
	if _, err := d.Write().NewRaw("CREATE TABLE shelves (id text PRIMARY KEY, account_id text NOT NULL, external_id text, metadata jsonb NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, etag text NOT NULL, name text NOT NULL, UNIQUE (account_id, name))").Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	scope := auth.Account("acc_a")
	for _, want := range []int{0, 409} {
		err := db.Insert(a, d, scope, &shelf{Row: db.Row{ID: db.NewID("shelf")}, Name: "one"})
		if status(err) != want {
			t.Fatalf("got %v", err)
		}
		if want != 0 && problem.From(err).Errors[0].Pointer != "/name" {
			t.Errorf("got %v", err)
		}
	}
	const number = "INSERT INTO numbers (id, account_id, metadata, created_at, updated_at, etag, number) VALUES (?, ?, '{}', ?, ?, '1', '+8613800138000')"
	for _, account := range []string{"acc_b", "acc_a"} {
		_, err := d.Write().NewRaw(number, "num_"+account, account, db.Now(), db.Now()).Exec(db.AsAccount(t.Context(), account))
		if err = db.Check(err); account == "acc_a" && (status(err) != 409 || problem.From(err).Errors[0].Pointer != "/number") {
			t.Errorf("got %v", err)
		}
	}
}

// A user that owns the database and may make no role has it without row security; one that may make roles has it with.
func TestTheDatabasesUserDecides(t *testing.T) {
	location := dbtest.EmptyPostgresURL(t)
	admin := dbtest.Open(t, dbtest.PostgresURL(t))
	for name, options := range map[string]string{"plain": "LOGIN", "maker": "LOGIN CREATEROLE"} {
		t.Run(name, func(t *testing.T) {
			user := strings.ToLower(db.NewID("user"))
			for _, statement := range []string{"CREATE ROLE " + user + " " + options, "CREATE DATABASE of_" + user + " OWNER " + user} {
				if _, err := admin.Write().NewRaw(statement).Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() {
				for _, statement := range []string{"DROP DATABASE of_" + user + " WITH (FORCE)", "DROP ROLE " + user} {
					if _, err := admin.Write().NewRaw(statement).Exec(context.WithoutCancel(t.Context())); err != nil {
						t.Error(err)
					}
				}
			})
			_, host, _ := strings.Cut(location, "?")
			mine := fmt.Sprintf("postgres://%s@/of_%s?%s", user, user, host)
			if name == "plain" {
				d := dbtest.Open(t, mine)
				if d.RowSecurity() {
					t.Error("row security is on")
				}
				if got, err := names(db.AsAccount(t.Context(), "acc_a"), d.Read(), "applications"); err != nil || got != "" {
					t.Errorf("found %q, %v", got, err)
				}
				return
			}
			d := twoAccounts(t, mine)
			for ctx, want := range map[context.Context]string{t.Context(): "app_acc_a app_acc_b", db.AsAccount(t.Context(), "acc_a"): "app_acc_a"} {
				if got, err := names(ctx, d.Read(), "applications"); err != nil || got != want {
					t.Errorf("found %q, %v; want %q", got, err, want)
				}
			}
		})
	}
}

type application struct {
	bun.BaseModel `bun:"table:applications"`
	db.Row
}

// What row security costs a read by its id, where every connection goes from one account to another each time, where
// it stays one account's, and where there is none.
func BenchmarkGet(b *testing.B) {
	d := twoAccounts(b, dbtest.Postgres(b))
	a, other := db.AsAccount(b.Context(), "acc_a"), db.AsAccount(b.Context(), "acc_b")
	for name, contexts := range map[string][2]context.Context{
		"without": {b.Context(), b.Context()}, "one account": {a, a}, "other accounts": {a, other},
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				id := []string{"acc_a", "acc_b"}[i%2]
				if name == "one account" {
					id = "acc_a"
				}
				if _, err := db.Get[application](contexts[i%2], d, auth.Account(id), "app_"+id); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
