package db

import (
	"context"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations are plain SQL that both databases run: the types text, boolean, bigint, double precision,
// timestamptz and jsonb, keys, unique, check and (partial) indexes; nothing else. jsonb holds objects or arrays
// only: SQLite gives the column numeric affinity and would round a bare number.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies what is missing, each migration in a transaction of its own. Several processes may start at
// once: PostgreSQL's advisory lock lets one of them work.
func (d *DB) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	kind, options := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if d.postgres() {
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		kind, options = goose.DialectPostgres, append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(kind, d.write.DB, files, options...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}
