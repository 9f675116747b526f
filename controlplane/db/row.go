package db

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Row is what every resource's table and JSON have; a resource embeds it:
//
//	type Application struct {
//		bun.BaseModel `bun:"table:applications" json:"-"`
//		db.Row
//		Draft
//	}
//
// The caller of Insert sets ID and what else of ExternalID and Metadata there is; AccountID, the times and
// Etag are written by Insert and Update.
type Row struct {
	ID         string         `bun:"id,pk" json:"id"`
	AccountID  string         `bun:"account_id,nullzero" json:"-"`
	ExternalID *string        `bun:"external_id" json:"external_id,omitempty"`
	Metadata   map[string]any `bun:"metadata,type:jsonb" json:"metadata"`
	CreatedAt  time.Time      `bun:"created_at" json:"created_at"`
	UpdatedAt  time.Time      `bun:"updated_at" json:"updated_at"`
	Etag       string         `bun:"etag" json:"etag"` // a decimal count of the changes
}

// MaxMetadata is the most bytes of JSON that a row's metadata may have.
const MaxMetadata = 16 << 10

func (r *Row) row() *Row { return r }

// RowOf gives the row of an object.
func RowOf[T any, P Entity[T]](object *T) *Row { return P(object).row() }

// Identity gives what an answer's Location and ETag headers need.
func (r Row) Identity() (id, etag string) { return r.ID, r.Etag }

// Entity is a pointer to a struct that embeds Row. It is inferred: callers write db.Get[Application](…).
type Entity[T any] interface {
	*T
	row() *Row
}

// Select starts a query for rows of T within scope; run it with Scan(ctx, &rows), and pass its error to Check.
func Select[T any](conn Conn, scope auth.Scope) *bun.SelectQuery {
	return Scoped(conn.Read().NewSelect().Model((*T)(nil)), scope)
}

// Get reads one row. It is a NotFound problem when there is none within scope.
func Get[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, id string) (*T, error) {
	return get[T](ctx, conn.Read(), scope, id, "")
}

func get[T any](ctx context.Context, idb bun.IDB, scope auth.Scope, id, lock string) (*T, error) {
	found := new(T)
	ctx = as(ctx, scope)
	q := Scoped(idb.NewSelect().Model(found), scope).Where("?TableAlias.id = ?", id)
	if lock != "" {
		q = q.For(lock)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, missing(err, id)
	}
	return found, nil
}

// Find reads the one row that a query modification selects, for look-ups by something other than the id. It is
// sql.ErrNoRows when there is none within scope.
func Find[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, mod func(*bun.SelectQuery) *bun.SelectQuery) (*T, error) {
	found := new(T)
	if err := mod(Scoped(conn.Read().NewSelect().Model(found), scope)).Limit(1).Scan(as(ctx, scope)); err != nil {
		return nil, Check(err)
	}
	return found, nil
}

// List reads the rows within scope that the modifications select, in their order. The result is never nil.
func List[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, mods ...func(*bun.SelectQuery) *bun.SelectQuery) ([]T, error) {
	found := []T{}
	if err := Scoped(conn.Read().NewSelect().Model(&found), scope).Apply(mods...).Scan(as(ctx, scope)); err != nil {
		return nil, Check(err)
	}
	return found, nil
}

// Count counts the rows within scope that the modifications select.
func Count[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, mods ...func(*bun.SelectQuery) *bun.SelectQuery) (int64, error) {
	n, err := Scoped(conn.Read().NewSelect().Model((*T)(nil)), scope).Apply(mods...).Count(as(ctx, scope))
	return n, Check(err)
}

// Insert writes a new row. A scope of one account decides the row's account; Everywhere leaves what the row
// says. A unique key in the way is a Conflict that names the field, an unknown reference is Refused, and so is an owner
// (Owned) whose rows the scope does not have (403).
func Insert[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, object *T) error {
	r := P(object).row()
	switch {
	case scope.IsEverywhere():
	case scope.AccountID() == "":
		return problem.Forbidden("to write in an account")
	default:
		r.AccountID = scope.AccountID()
	}
	if r.ID == "" {
		return errors.New("insert: the row has no id")
	}
	if err := MayHold(scope, object); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	r.CreatedAt = Now()
	r.UpdatedAt = r.CreatedAt
	r.Etag = "1"
	return recorded(ctx, conn, func(ctx context.Context, conn Conn) error {
		if _, err := conn.Write().NewInsert().Model(object).Exec(as(ctx, scope)); err != nil {
			return unknownReference(Check(err))
		}
		return Record(ctx, r.ID, nil, object)
	})
}

// settle makes Metadata an object and checks its size.
func (r *Row) settle() error {
	if r.Metadata == nil {
		r.Metadata = map[string]any{}
	}
	text, err := json.Marshal(r.Metadata)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if len(text) > MaxMetadata {
		return problem.RefusedField("/metadata", "size", "may have at most %d bytes as JSON, has %d", MaxMetadata, len(text))
	}
	return nil
}

func unknownReference(err error) error {
	if isForeignKey(err) {
		return problem.Refused("this refers to an object that does not exist in this account; check the ids in it")
	}
	return err
}

// Update writes a row that was read before and then changed, provided that nobody changed it in between: the
// Etag must still be the stored one, else it is a Precondition problem. ifMatch is the request's If-Match header;
// empty or "*" asks for nothing more. Id, account and creation time never change, and neither the stored nor the new
// owner may lie outside the scope. object is as stored when it returns nil. Prefer Change, which also reads the row and
// records the state before.
func Update[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, object *T, ifMatch string) error {
	return recorded(ctx, conn, func(ctx context.Context, conn Conn) error {
		if err := update[T, P](ctx, conn, scope, object, ifMatch); err != nil {
			return err
		}
		return Record(ctx, P(object).row().ID, nil, object)
	})
}

func update[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, object *T, ifMatch string) error {
	r := P(object).row()
	if !matches(ifMatch, r.Etag) {
		return problem.Precondition()
	}
	if err := MayHold(scope, object); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	old, updated := r.Etag, r.UpdatedAt
	n, err := strconv.ParseInt(old, 10, 64)
	if err != nil {
		return fmt.Errorf("update %s: etag %q is not a count", r.ID, old)
	}
	r.Etag, r.UpdatedAt = strconv.FormatInt(n+1, 10), Now()
	q := conn.Write().NewUpdate().Model(object).ExcludeColumn("id", "account_id", "created_at").
		Where("?TableAlias.id = ?", r.ID).Where("?TableAlias.etag = ?", old)
	for _, term := range within(scope, Owner(object) != nil) {
		q = q.Where(term.text, term.args...)
	}
	result, err := q.Exec(as(ctx, scope))
	if err == nil {
		var changed int64
		if changed, err = result.RowsAffected(); err == nil && changed == 1 {
			return nil
		}
	}
	r.Etag, r.UpdatedAt = old, updated
	if err != nil {
		return unknownReference(Check(err))
	}
	if _, err := get[T](ctx, conn.Write(), scope, r.ID, ""); err != nil {
		return err
	}
	return problem.Precondition()
}

// Change reads a row, has fn change it, and writes it, in one transaction. ifMatch is as in Update. What fn left as
// it was is not written. When fn fails nothing is.
func Change[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, id, ifMatch string, fn func(object *T) error) (*T, error) {
	return ChangeTx[T, P](ctx, conn, scope, id, ifMatch, func(_ context.Context, _ *Tx, object *T) error { return fn(object) })
}

// ChangeTx is Change for an fn that needs the transaction, to read or write other rows in it.
func ChangeTx[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, id, ifMatch string, fn func(ctx context.Context, tx *Tx, object *T) error) (*T, error) {
	var changed *T
	err := conn.InTx(ctx, func(ctx context.Context, tx *Tx) error {
		object, err := get[T](ctx, tx.tx, scope, id, tx.forUpdate())
		if err != nil {
			return err
		}
		if !matches(ifMatch, P(object).row().Etag) {
			return problem.Precondition()
		}
		journal := journalOf(ctx)
		at := journal.begin()
		before, err := journal.snapshot(id, object)
		if err != nil {
			return err
		}
		kept := *P(object).row()
		if err := fn(ctx, tx, object); err != nil {
			return err
		}
		r := P(object).row()
		r.ID, r.AccountID, r.CreatedAt, r.UpdatedAt, r.Etag = kept.ID, kept.AccountID, kept.CreatedAt, kept.UpdatedAt, kept.Etag
		changed = object
		if err := update[T, P](ctx, tx, scope, object, ""); err != nil || journal == nil {
			return err
		}
		return journal.record(at, id, before, object)
	})
	if err != nil {
		return nil, err
	}
	return changed, nil
}

// Upsert makes the row with an external id what the caller wants it to be, in one transaction: create writes it (with
// Insert) when there is none, change changes the one there is (with Change and the same ifMatch). An ifMatch where there
// is no row is a Precondition problem. Of two at once that both find no row, one creates it and the other changes what
// that wrote; so create may run, and be rolled back, more than once.
func Upsert[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, externalID, ifMatch string,
	create func(ctx context.Context, tx *Tx) (*T, error), change func(ctx context.Context, tx *Tx, id string) (*T, error),
) (object *T, created bool, err error) {
	once := func(ctx context.Context, tx *Tx) error {
		id, err := externalTo[T](ctx, tx.tx, scope, externalID, tx.forUpdate())
		switch {
		case err != nil:
			return err
		case id != "":
			created = false
			object, err = change(ctx, tx, id)
		case ifMatch != "":
			return problem.Precondition()
		default:
			created = true
			object, err = create(ctx, tx)
		}
		return err
	}
	// A row that came between look-up and insert stops the insert at some unique key, and with it, on PostgreSQL, the
	// transaction. Rows that come and go faster than this are nobody's.
	const attempts = 3
	for range attempts {
		if err = conn.InTx(ctx, once); err == nil {
			return object, created, nil
		}
		if problem.From(err).Code != problem.CodeConflict || !created {
			return nil, false, err
		}
		if _, inside := conn.(*Tx); inside {
			return nil, false, err
		}
		if id, e := externalTo[T](ctx, conn.Write(), scope, externalID, ""); e != nil || id == "" {
			return nil, false, err
		}
	}
	return nil, false, err
}

// externalTo gives the id of the row with an external id, "" for none.
func externalTo[T any](ctx context.Context, idb bun.IDB, scope auth.Scope, externalID, lock string) (string, error) {
	var id string
	q := Scoped(idb.NewSelect().Model((*T)(nil)), scope).Column("id").Where("?TableAlias.external_id = ?", externalID)
	if lock != "" {
		q = q.For(lock)
	}
	if err := q.Scan(as(ctx, scope), &id); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", Check(err)
	}
	return id, nil
}

// Use is a column that refers to rows of another table, by which Delete names what is in the way.
type Use struct {
	Table  string // "numbers"
	Column string // "application_id"
	Name   string // what a person calls such a row: "number"
}

// Delete removes a row. ifMatch is as in Update. Rows of uses that refer to it make it a Conflict that names up to
// ten of them; so does any other foreign key, without names.
func Delete[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, id, ifMatch string, uses ...Use) error {
	return conn.InTx(ctx, func(ctx context.Context, tx *Tx) error {
		object, err := get[T](ctx, tx.tx, scope, id, tx.forUpdate())
		if err != nil {
			return err
		}
		if !matches(ifMatch, P(object).row().Etag) {
			return problem.Precondition()
		}
		if err := tx.unused(ctx, id, uses); err != nil {
			return err
		}
		_, err = tx.tx.NewDelete().Model(object).WherePK().Exec(as(ctx, scope))
		if err := Check(err); err != nil {
			if isForeignKey(err) {
				return problem.Conflict("this is still used by another object; change or delete that first")
			}
			return err
		}
		return Record(ctx, id, object, nil)
	})
}

// unused is a Conflict that names the rows which refer to id.
func (t *Tx) unused(ctx context.Context, id string, uses []Use) error {
	const most = 10
	var errs []problem.FieldError
	var names []string
	for _, u := range uses {
		var ids []string
		err := t.tx.NewSelect().Table(u.Table).Column("id").Where("? = ?", bun.Ident(u.Column), id).
			OrderBy("id", bun.OrderAsc).Limit(int64(most-len(errs))).Scan(ctx, &ids)
		if err != nil {
			return Check(err)
		}
		for _, used := range ids {
			names = append(names, u.Name+" "+used)
			errs = append(errs, problem.Field("", "in_use", "%s %s refers to it in %s", u.Name, used, u.Column))
		}
		if len(errs) >= most {
			break
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return problem.Conflict("this is still used by "+strings.Join(names, ", ")+"; change or delete these first", errs...)
}

// forUpdate is the lock a read in a transaction needs before a write. SQLite's transaction has the only writer.
func (t *Tx) forUpdate() string {
	if t.pg {
		return "UPDATE"
	}
	return ""
}

// matches compares an If-Match header with an etag (RFC 9110 §13.1.1): nothing and "*" match, quotes and weakness
// are ignored, a list matches by any of its members.
func matches(ifMatch, etag string) bool {
	if ifMatch == "" {
		return true
	}
	for _, tag := range strings.Split(ifMatch, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.Trim(strings.TrimPrefix(tag, "W/"), `"`) == etag {
			return true
		}
	}
	return false
}

// Column gives the value of one column of a row, as Go has it, and the row's id.
func Column[T any, P Entity[T]](conn Conn, object *T, column string) (value any, id string, err error) {
	v := reflect.ValueOf(object).Elem()
	field, err := conn.Read().Dialect().Tables().Get(v.Type()).Field(column)
	if err != nil {
		return nil, "", err
	}
	return field.Value(v).Interface(), P(object).row().ID, nil
}
