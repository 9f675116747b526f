package db

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
)

// Observe has fn told of every query: the context it ran in, how long it took, and its error, nil where there was none
// or no row. Call it before the database is used by more than one goroutine; fn must not block.
func (d *DB) Observe(fn func(ctx context.Context, took time.Duration, err error)) {
	same := d.read == d.write
	d.write = d.write.WithQueryHook(observer(fn))
	if same {
		d.read = d.write
		return
	}
	d.read = d.read.WithQueryHook(observer(fn))
}

// observer is a hook of bun.
type observer func(ctx context.Context, took time.Duration, err error)

// BeforeQuery does nothing: bun keeps when the query began.
func (o observer) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

// AfterQuery tells of the query.
func (o observer) AfterQuery(ctx context.Context, e *bun.QueryEvent) {
	err := e.Err
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	o(ctx, time.Since(e.StartTime), err)
}

// Pools are the states of the connection pools: read and write on SQLite, one of both on PostgreSQL.
func (d *DB) Pools() map[string]sql.DBStats {
	if d.read == d.write {
		return map[string]sql.DBStats{"all": d.write.Stats()}
	}
	return map[string]sql.DBStats{"read": d.read.Stats(), "write": d.write.Stats()}
}
