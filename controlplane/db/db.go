// Package db owns SQL: opening SQLite or PostgreSQL, the migrations, the generic queries that every resource
// shares, transactions and the journal of what they change, row security, the outbox, and named locks. The dialects
// differ only in here. Which rows there are and what
// they mean is left to the nouns; list parameters and cursors to list.
package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/oklog/ulid/v2"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	// Registers the driver "sqlite".
	_ "modernc.org/sqlite"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Conn runs queries: a *DB, or the *Tx of an InTx. Functions that must see and join a transaction in progress
// take a Conn.
type Conn interface {
	// Read runs SELECTs that need not be the latest inside a transaction of someone else.
	Read() bun.IDB
	// Write runs everything else.
	Write() bun.IDB
	// InTx runs fn in one transaction, joining the one that is already open.
	InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error

	postgres() bool
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	write *bun.DB
	read  *bun.DB // the same as write on PostgreSQL
	locks keyedMutex
	// tenants holds statements to their accounts; nil on SQLite.
	tenants *tenants
}

// Tx is an open transaction. It must be used by one goroutine, and not after the function given to InTx
// returned.
type Tx struct {
	tx   bun.Tx
	pg   bool
	once map[any]any // see Once
}

// maxOnce bounds what a transaction remembers; above it all is forgotten.
const maxOnce = 4096

// Once gives what read gave for this key earlier in the transaction, and asks read otherwise: for what many rows need and
// no row changes, as the row of their account. Keys are of a type of the package that asks, as those of a context. What
// read gives must not be changed. An error is not remembered.
func Once[T any](tx *Tx, key any, read func() (T, error)) (T, error) {
	if known, ok := tx.once[key]; ok {
		return known.(T), nil
	}
	value, err := read()
	if err != nil {
		return value, err
	}
	Remember(tx, key, value)
	return value, nil
}

// Remember has Once give a value for a key without asking: for what was read for many keys together.
func Remember[T any](tx *Tx, key any, value T) {
	if tx.once == nil || len(tx.once) >= maxOnce {
		tx.once = map[any]any{}
	}
	tx.once[key] = value
}

var (
	_ Conn = (*DB)(nil)
	_ Conn = (*Tx)(nil)
)

// Open opens the database of a URL and brings its schema up to date:
//
//	sqlite:PATH                         a file, made with mode 0600 when missing, as is its folder
//	postgres://user:password@host/name  PostgreSQL 14 or later; the parameters are those of pgx
//
// Close it.
func Open(ctx context.Context, location string) (*DB, error) {
	d, err := connect(location)
	if err != nil {
		return nil, err
	}
	if err := d.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), d.Close())
	}
	if err := d.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database: %w", err), d.Close())
	}
	if err := d.secure(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("row security of the database: %w", err), d.Close())
	}
	return d, nil
}

func connect(location string) (*DB, error) {
	scheme, rest, _ := strings.Cut(location, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(rest)
	case "postgres", "postgresql":
		return openPostgres(location)
	}
	return nil, fmt.Errorf("database %q: must be sqlite:PATH or postgres://user:password@host/name", redact(location))
}

// openSQLite opens one connection that writes and a pool that reads. Why one: SQLite has one writer at a time;
// waiting for it in the pool's queue is fair, waiting inside SQLite is not.
func openSQLite(path string) (*DB, error) {
	if path == "" || strings.HasPrefix(path, ":") {
		return nil, errors.New("database sqlite: needs the path of a file, as in sqlite:data/hookswitch.db")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("database folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	// synchronous(FULL): an acknowledged write survives the loss of power.
	pragmas := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	open := func(extra ...string) (*sql.DB, error) {
		q := url.Values{"_pragma": append(append([]string(nil), pragmas["_pragma"]...), extra...), "_txlock": {"immediate"}}
		return sql.Open("sqlite", (&url.URL{Scheme: "file", Path: absolute, RawQuery: q.Encode()}).String())
	}
	w, err := open()
	if err != nil {
		return nil, fmt.Errorf("open sqlite: %w", err)
	}
	w.SetMaxOpenConns(1)
	r, err := open("query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sqlite: %w", err), w.Close())
	}
	r.SetMaxOpenConns(max(4, 2*runtime.GOMAXPROCS(0)))
	return &DB{write: bun.NewDB(w, sqlitedialect.New()), read: bun.NewDB(r, sqlitedialect.New())}, nil
}

// maxPostgresConns bounds what one process takes of PostgreSQL's 100 connections.
const maxPostgresConns = 20

func openPostgres(location string) (*DB, error) {
	cfg, err := pgx.ParseConfig(location)
	if err != nil {
		// pgx's parse error masks the password but repeats the rest of the URL.
		return nil, fmt.Errorf("database %q: not a PostgreSQL URL", redact(location))
	}
	// bun writes arguments into the text, so that no statement is worth preparing.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	defaults := map[string]string{
		"application_name":                    "hookswitch",
		"timezone":                            "UTC",
		"statement_timeout":                   "30000",
		"idle_in_transaction_session_timeout": "60000",
	}
	for name, value := range defaults {
		if cfg.RuntimeParams[name] == "" {
			cfg.RuntimeParams[name] = value
		}
	}
	held := &tenants{Connector: stdlib.GetConnector(*cfg, stdlib.OptionAfterConnect(func(_ context.Context, c *pgx.Conn) error {
		c.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}))}
	conns := sql.OpenDB(held)
	conns.SetMaxOpenConns(maxPostgresConns)
	conns.SetMaxIdleConns(maxPostgresConns)
	conns.SetConnMaxIdleTime(5 * time.Minute)
	d := bun.NewDB(conns, pgdialect.New())
	return &DB{write: d, read: d, tenants: held}, nil
}

// redact leaves of a database URL what may be shown.
func redact(location string) string {
	if u, err := url.Parse(location); err == nil {
		return u.Redacted()
	}
	scheme, _, _ := strings.Cut(location, ":")
	return scheme + ":…"
}

// Close waits for nothing: queries in progress end with an error. It can be called twice.
func (d *DB) Close() error {
	if d.read == d.write {
		return d.write.Close()
	}
	return errors.Join(d.read.Close(), d.write.Close())
}

// Ping reports whether the database answers. Connections that broke while nobody used them are dropped on the way.
func (d *DB) Ping(ctx context.Context) error {
	return errors.Join(ping(ctx, d.write), ping(ctx, d.read))
}

func ping(ctx context.Context, pool *bun.DB) error {
	err := pool.PingContext(ctx)
	for range maxPostgresConns {
		if !errors.Is(err, driver.ErrBadConn) {
			break
		}
		err = pool.PingContext(ctx)
	}
	return err
}

// Read gives the pool of readers.
func (d *DB) Read() bun.IDB { return d.read }

// Write gives the writer. On SQLite it is one connection: use the Tx inside InTx, else the call waits for itself
// until its context ends.
func (d *DB) Write() bun.IDB { return d.write }

func (d *DB) postgres() bool { return d.write.Dialect().Name() == dialect.PG }

// InTx runs fn in a transaction that is committed when fn returns nil. Errors are translated (see Check). What fn
// records in the context's Journal is sealed before the commit.
func (d *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	journal := journalOf(ctx)
	from, sealing := journal.begin(), false
	err := d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		t := &Tx{tx: tx, pg: d.postgres()}
		if err := fn(ctx, t); err != nil {
			return err
		}
		var err error
		sealing, err = journal.commit(ctx, t, from)
		return err
	})
	journal.end(from, sealing, err == nil)
	return Check(err)
}

// Read gives the transaction.
func (t *Tx) Read() bun.IDB { return t.tx }

// Write gives the transaction.
func (t *Tx) Write() bun.IDB { return t.tx }

func (t *Tx) postgres() bool { return t.pg }

// CommitAsync has the transaction's commit not wait for the disk, where the database can (PostgreSQL): after a failure of the
// database's machine it may be as if it had never been, as may all that were committed since by this call. Only for a step
// of work that goes on from what it finds stored, and whose end is committed in the ordinary way: that makes sure of all
// before it (PostgreSQL 30.4).
func (t *Tx) CommitAsync(ctx context.Context) error {
	if !t.pg {
		return nil
	}
	_, err := t.tx.ExecContext(ctx, "SET LOCAL synchronous_commit TO off")
	return Check(err)
}

// InTx runs fn in this same transaction.
func (t *Tx) InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return fn(ctx, t)
}

// Now is the time for a row: UTC, in microseconds, which is what both databases keep.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// NewID makes an id of a type prefix and a ULID: NewID("req") is "req_01J…". Ids of one process sort by time.
func NewID(prefix string) string { return prefix + "_" + ulid.Make().String() }

// Lock runs fn while holding the named lock: no other Lock of that name runs meanwhile, on PostgreSQL in any
// process, on SQLite in this one (whose file has one serving process). It waits until ctx ends. fn must not Lock the
// same name.
func (d *DB) Lock(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	if !d.postgres() {
		unlock, err := d.locks.lock(ctx, name)
		if err != nil {
			return err
		}
		defer unlock()
		return fn(ctx)
	}
	return d.lockPostgres(ctx, name, fn)
}

// lockPostgres holds a connection for an advisory lock; PostgreSQL frees it when the connection is lost.
func (d *DB) lockPostgres(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return Check(fmt.Errorf("lock %s: %w", name, err))
	}
	// Waiting is bounded by ctx and not by statement_timeout, so it polls.
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var got bool
		err := conn.NewRaw("SELECT pg_try_advisory_lock(hashtextextended(?, 0))", name).Scan(ctx, &got)
		if err != nil {
			return errors.Join(Check(fmt.Errorf("lock %s: %w", name, err)), conn.Close())
		}
		if got {
			break
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), conn.Close())
		case <-time.After(wait):
		}
	}
	err = fn(ctx)
	unlockCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, e := conn.ExecContext(unlockCtx, "SELECT pg_advisory_unlock_all()"); e != nil {
		// A connection that may still hold the lock must not go back to the pool.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return errors.Join(err, conn.Close())
}

// keyedMutex is one mutex per name whose waiters can give up. The zero value is ready.
type keyedMutex struct {
	mu   sync.Mutex // guards held
	held map[string]chan struct{}
}

func (k *keyedMutex) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		busy, taken := k.held[name]
		if !taken {
			if k.held == nil {
				k.held = map[string]chan struct{}{}
			}
			free := make(chan struct{})
			k.held[name] = free
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, name)
				k.mu.Unlock()
				close(free)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// problemUnavailable is the answer while the database is away.
func problemUnavailable() *problem.Problem {
	return problem.Unavailable("the database does not answer; repeat the request shortly", time.Second)
}
