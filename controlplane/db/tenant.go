package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// Row security is the second lock behind the scope: on PostgreSQL every table with account_id has a policy, and a
// statement whose context is an account's (AsAccount) is run by a role that the policies hold to that account's rows.
// So a query that forgot its scope, or an OR that escaped from it, finds nothing of anyone else. It is on whenever the
// database's user may make that role, or has it already; SQLite has nothing of the kind.
//
// Why the driver's connection looks at the context of each statement, and no setting is left to whoever begins a
// transaction: reads have none, and a statement that nobody thought of would run unheld. The role and the account are
// set in the session when they differ from what the connection has, and with SET LOCAL where that happens within a
// transaction, so that the next user of a connection never finds what the last one left: it is compared every time.
//
// What it costs: the planner takes account_id = current_setting(…) together with the scope's account_id = '…', checks it
// once per query and uses the same indexes, keyset pages among them; and one round trip whenever a connection goes from
// one account to another. BenchmarkGet over a local socket, PostgreSQL 15, two busy cores, the best of six: a read by its
// id takes 137 µs without, 149 µs on a connection that stays with its account, and 205 µs on one that changes each time.
//
// It needs sessions of its own, as the named locks do: not a pooler that hands them on after each transaction.

const (
	tenantRole   = "hookswitch_tenant"
	tenantPolicy = "tenant"
	// installationPolicy leaves the owner of the tables all rows: FORCE holds it to the policies too.
	installationPolicy = "installation"
)

type accountKey struct{}

// AsAccount gives a context whose statements are held to the rows of an account, where the database has row security.
// The package rest does so for every operation of a caller who is one account's; workers that act for one account
// should.
func AsAccount(ctx context.Context, accountID string) context.Context {
	return context.WithValue(ctx, accountKey{}, accountID)
}

// AsInstallation gives a context whose statements are held to no account, for what must look across accounts in the
// middle of an operation of one. The generic queries do so by themselves for auth.Everywhere.
func AsInstallation(ctx context.Context) context.Context {
	if accountOf(ctx) == "" {
		return ctx
	}
	return context.WithValue(ctx, accountKey{}, "")
}

func accountOf(ctx context.Context) string {
	id, _ := ctx.Value(accountKey{}).(string)
	return id
}

// as gives the context of a generic query: where an account holds it, the scope says which.
func as(ctx context.Context, scope auth.Scope) context.Context {
	switch held := accountOf(ctx); {
	case held == "" || held == scope.AccountID():
		return ctx
	case scope.IsEverywhere():
		return AsInstallation(ctx)
	case scope.AccountID() == "":
		return ctx
	}
	return AsAccount(ctx, scope.AccountID())
}

// RowSecurity reports whether the database holds statements to the rows of their account.
func (d *DB) RowSecurity() bool { return d.tenants != nil && d.tenants.on.Load() }

// tenants opens connections that run each statement as its context says.
type tenants struct {
	driver.Connector
	on      atomic.Bool
	uniques atomic.Pointer[map[string]string] // the columns of unique indexes, by name
}

// Connect opens a connection.
func (t *tenants) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := t.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &tenantConn{Conn: c.(*stdlib.Conn), of: t}, nil
}

// tenantConn is one connection. database/sql uses it from one goroutine at a time.
type tenantConn struct {
	*stdlib.Conn
	of      *tenants
	session string // whose rows the session is held to: an account's id, "" for all
	now     string // the same, within a transaction that has changed it
	unsure  bool   // a change may have failed
	inTx    bool
}

const (
	enterSession = "SELECT set_config('role', $1, false), set_config('hookswitch.account', $2, false)"
	enterLocal   = "SELECT set_config('role', $1, true), set_config('hookswitch.account', $2, true)"
)

// enter makes the connection run what follows as a context says.
func (c *tenantConn) enter(ctx context.Context) error {
	wanted := accountOf(ctx)
	if !c.of.on.Load() || (wanted == c.now && !c.unsure) {
		return nil
	}
	role, statement := tenantRole, enterSession
	if wanted == "" {
		role = "none"
	}
	if c.inTx {
		statement = enterLocal
	}
	c.unsure = true
	_, err := c.Conn.ExecContext(ctx, statement, []driver.NamedValue{{Ordinal: 1, Value: role}, {Ordinal: 2, Value: wanted}})
	switch {
	case err != nil && !c.inTx && c.Conn.Conn().IsClosed():
		// It broke while nobody used it, and nothing was done: database/sql takes another.
		return driver.ErrBadConn
	case err != nil:
		return fmt.Errorf("row security: %w", err)
	}
	c.unsure, c.now = false, wanted
	if !c.inTx {
		c.session = wanted
	}
	return nil
}

// ExecContext runs a statement as its context says.
func (c *tenantConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	result, err := c.Conn.ExecContext(ctx, query, args)
	return result, c.explained(err)
}

// QueryContext runs a query as its context says.
func (c *tenantConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	rows, err := c.Conn.QueryContext(ctx, query, args)
	return rows, c.explained(err)
}

// PrepareContext refuses: a prepared statement would run as whoever prepared it.
func (c *tenantConn) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return nil, errors.New("statements are not prepared here; run them with their arguments")
}

// BeginTx begins a transaction that runs as its context says.
func (c *tenantConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	tx, err := c.Conn.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	c.inTx = true
	return tenantTx{tx, c}, nil
}

// tenantTx ends what was set within a transaction.
type tenantTx struct {
	driver.Tx
	conn *tenantConn
}

// Commit ends the transaction.
func (t tenantTx) Commit() error {
	defer t.over()
	return t.Tx.Commit()
}

// Rollback ends the transaction.
func (t tenantTx) Rollback() error {
	defer t.over()
	return t.Tx.Rollback()
}

func (t tenantTx) over() {
	t.conn.inTx, t.conn.now, t.conn.unsure = false, t.conn.session, false
}

// explained gives a unique violation back its columns, which PostgreSQL keeps from a role that policies hold.
func (c *tenantConn) explained(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != pgUnique || e.Detail != "" {
		return err
	}
	columns := ""
	if known := c.of.uniques.Load(); known != nil {
		columns = (*known)[e.ConstraintName]
	}
	if columns == "" {
		// The names that PostgreSQL gives: table_account_id_name_key.
		columns = strings.TrimSuffix(strings.TrimPrefix(e.ConstraintName, e.TableName+"_"), "_key")
		columns = strings.TrimPrefix(columns, "account_id_")
	}
	e.Detail = "Key (" + columns + ")=(…) already exists."
	return err
}

// secure switches row security on where it can be had, and gives tables that have none their policies.
func (d *DB) secure(ctx context.Context) error {
	if d.tenants == nil {
		return nil
	}
	err := d.Lock(ctx, "row_security", func(ctx context.Context) error {
		able, err := d.tenant(ctx)
		if err != nil || !able {
			return err
		}
		if err := d.policies(ctx); err != nil {
			return err
		}
		d.tenants.on.Store(true)
		return nil
	})
	if err != nil || !d.RowSecurity() {
		return err
	}
	return d.uniqueIndexes(ctx)
}

// tenant makes the role that policies hold, unless it is there; able is whether this database's user can become it.
func (d *DB) tenant(ctx context.Context) (able bool, err error) {
	var user struct {
		Able   bool `bun:"able"`   // superuser
		Maker  bool `bun:"maker"`  // may make roles
		Exists bool `bun:"exists"` // the role does
		Member bool `bun:"member"`
	}
	const ask = `SELECT r.rolsuper AS able, r.rolcreaterole AS maker, t.oid IS NOT NULL AS exists,
		coalesce(pg_has_role(r.oid, t.oid, 'MEMBER'), false) AS member
		FROM pg_roles r LEFT JOIN pg_roles t ON t.rolname = ? WHERE r.rolname = current_user`
	if err := d.write.NewRaw(ask, tenantRole).Scan(ctx, &user); err != nil {
		return false, err
	}
	if !user.Exists {
		if !user.Able && !user.Maker {
			return false, nil
		}
		// Another database of the same server may have made it just now.
		if _, err := d.write.NewRaw("CREATE ROLE ? NOLOGIN", bun.Ident(tenantRole)).Exec(ctx); err != nil && !alreadyThere(err) {
			return false, err
		}
	}
	if user.Able || user.Member {
		return true, nil
	}
	if !user.Maker {
		return false, nil
	}
	if _, err := d.write.NewRaw("GRANT ? TO CURRENT_USER", bun.Ident(tenantRole)).Exec(ctx); err != nil {
		// From PostgreSQL 16 on only whoever made a role, or was given it, may grant it.
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == pgNotAllowed {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

func alreadyThere(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == pgDuplicateObject || e.Code == pgUnique)
}

// appendOnly are the tables that no account changes what it wrote in.
func appendOnly() []string { return []string{"audit_entries"} }

// secured is a table and what it has.
type secured struct {
	Name    string `bun:"name"`
	Granted bool   `bun:"granted"`
	Held    bool   `bun:"held"` // to accounts: it has account_id
	Done    bool   `bun:"done"` // it has its policies
}

// policies gives every table its privileges and its policies, unless it has them.
func (d *DB) policies(ctx context.Context) error {
	var tables []secured
	const ask = `SELECT c.relname AS name, has_table_privilege(?, c.oid, 'INSERT') AS granted,
		EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'account_id' AND NOT a.attisdropped) AS held,
		EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = ?) AS done
		FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND c.relname NOT LIKE 'goose%' ORDER BY 1`
	if err := d.write.NewRaw(ask, tenantRole, tenantPolicy).Scan(ctx, &tables); err != nil {
		return err
	}
	var statements []string
	for _, t := range tables {
		statements = append(statements, t.statements()...)
	}
	if len(statements) == 0 {
		return nil
	}
	// Tables of later migrations are the role's from the start; their policies come with the next Open.
	statements = append(statements, "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO hookswitch_tenant', current_schema()); "+
		"EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO hookswitch_tenant', current_schema()); END $$")
	return d.InTx(ctx, func(ctx context.Context, tx *Tx) error {
		for _, statement := range statements {
			if _, err := tx.tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
}

// statements are what a table lacks.
func (t secured) statements() []string {
	var all []string
	name := pgx.Identifier{t.Name}.Sanitize()
	if !t.Granted {
		privileges := "SELECT, INSERT, UPDATE, DELETE"
		if slices.Contains(appendOnly(), t.Name) {
			privileges = "SELECT, INSERT"
		}
		all = append(all, "GRANT "+privileges+" ON "+name+" TO "+tenantRole)
	}
	if !t.Held || t.Done {
		return all
	}
	return append(all,
		"ALTER TABLE "+name+" ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE "+name+" FORCE ROW LEVEL SECURITY",
		"CREATE POLICY "+installationPolicy+" ON "+name+" TO CURRENT_USER USING (true) WITH CHECK (true)",
		// What belongs to the installation may be written by everyone, and read by none of them.
		"CREATE POLICY "+tenantPolicy+" ON "+name+" TO "+tenantRole+" USING (account_id = current_setting('hookswitch.account', true)) "+
			"WITH CHECK (account_id = current_setting('hookswitch.account', true) OR account_id IS NULL)")
}

// uniqueIndexes reads what explained has to know.
func (d *DB) uniqueIndexes(ctx context.Context) error {
	var found []struct {
		Name    string `bun:"name"`
		Columns string `bun:"columns"`
	}
	const ask = `SELECT c.relname AS name, string_agg(a.attname, ', ' ORDER BY a.attnum) AS columns
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = i.indexrelid
		WHERE i.indisunique AND c.relnamespace = current_schema()::regnamespace GROUP BY 1`
	if err := d.read.NewRaw(ask).Scan(ctx, &found); err != nil {
		return err
	}
	known := map[string]string{}
	for _, index := range found {
		known[index.Name] = index.Columns
	}
	d.tenants.uniques.Store(&known)
	return nil
}
