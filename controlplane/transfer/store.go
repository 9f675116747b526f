package transfer

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// lock keeps a row from being changed by others until the end of the transaction. SQLite's has the only writer.
func lock(ctx context.Context, tx *db.Tx, table, id string) error {
	if tx.Write().Dialect().Name() != dialect.PG {
		return nil
	}
	var found string
	err := tx.Write().NewSelect().Table(table).Column("id").Where("id = ?", id).For("UPDATE").Scan(ctx, &found)
	if errors.Is(err, sql.ErrNoRows) {
		return problem.NoSuch(id)
	}
	return db.Check(err)
}

// batches reads some batches of an import in order, from a number on.
func batches(ctx context.Context, conn db.Conn, importID string, from int64, most int) ([]batch, error) {
	var found []batch
	err := conn.Read().NewSelect().Model(&found).Where("import_id = ?", importID).Where("number >= ?", from).
		OrderBy("number", bun.OrderAsc).Limit(int64(most)).Scan(ctx)
	return found, db.Check(err)
}
