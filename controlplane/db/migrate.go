package db

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
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

// Schema names what Open brings an empty database to: two databases of one kind and one Schema have the same tables and the
// same row security. It is for those who keep a database to copy it.
func Schema() string {
	sum := sha256.New()
	err := fs.WalkDir(migrations, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations, path)
		fmt.Fprintf(sum, "%s\n%s\n", path, text)
		return err
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	for _, name := range append(appendOnly(), "table") {
		fmt.Fprintln(sum, secured{Name: name, Held: true}.statements())
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}
