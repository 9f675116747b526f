package db

import (
	"bytes"
	"context"
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

// Identity gives what an answer's Location and ETag headers need.
func (r Row) Identity() (id, etag string) { return r.ID, r.Etag }

// Entity is a pointer to a struct that embeds Row. It is inferred: callers write db.Get[Application](…).
type Entity[T any] interface {
	*T
	row() *Row
}

// Scoped narrows a query to the rows of a scope. The zero scope matches nothing. The query's table must have
// account_id.
func Scoped(q *bun.SelectQuery, scope auth.Scope) *bun.SelectQuery {
	switch {
	case scope.IsEverywhere():
		return q
	case scope.AccountID() == "":
		return q.Where("1 = 0")
	}
	return q.Where("?TableAlias.account_id = ?", scope.AccountID())
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
	if err := mod(Scoped(conn.Read().NewSelect().Model(found), scope)).Limit(1).Scan(ctx); err != nil {
		return nil, Check(err)
	}
	return found, nil
}

// List reads the rows within scope that the modifications select, in their order. The result is never nil.
func List[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, mods ...func(*bun.SelectQuery) *bun.SelectQuery) ([]T, error) {
	found := []T{}
	if err := Scoped(conn.Read().NewSelect().Model(&found), scope).Apply(mods...).Scan(ctx); err != nil {
		return nil, Check(err)
	}
	return found, nil
}

// Count counts the rows within scope that the modifications select.
func Count[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, mods ...func(*bun.SelectQuery) *bun.SelectQuery) (int64, error) {
	n, err := Scoped(conn.Read().NewSelect().Model((*T)(nil)), scope).Apply(mods...).Count(ctx)
	return n, Check(err)
}

// Insert writes a new row. A scope of one account decides the row's account; Everywhere leaves what the row
// says. A unique key in the way is a Conflict that names the field, an unknown reference is Refused.
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
	if err := r.settle(); err != nil {
		return err
	}
	r.CreatedAt = Now()
	r.UpdatedAt = r.CreatedAt
	r.Etag = "1"
	if _, err := conn.Write().NewInsert().Model(object).Exec(ctx); err != nil {
		return unknownReference(Check(err))
	}
	return nil
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
// empty or "*" asks for nothing more. Id, account and creation time never change. object is as stored when it
// returns nil. Prefer Change, which also reads and records the state before.
func Update[T any, P Entity[T]](ctx context.Context, conn Conn, scope auth.Scope, object *T, ifMatch string) error {
	r := P(object).row()
	if !matches(ifMatch, r.Etag) {
		return problem.Precondition()
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
		Where("id = ?", r.ID).Where("etag = ?", old)
	if !scope.IsEverywhere() {
		q = q.Where("account_id = ?", scope.AccountID())
	}
	result, err := q.Exec(ctx)
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
	var changed *T
	err := conn.InTx(ctx, func(ctx context.Context, tx *Tx) error {
		object, err := get[T](ctx, tx.tx, scope, id, tx.forUpdate())
		if err != nil {
			return err
		}
		if !matches(ifMatch, P(object).row().Etag) {
			return problem.Precondition()
		}
		before, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("change %s: %w", id, err)
		}
		kept := *P(object).row()
		if err := fn(object); err != nil {
			return err
		}
		r := P(object).row()
		r.ID, r.AccountID, r.CreatedAt, r.UpdatedAt, r.Etag = kept.ID, kept.AccountID, kept.CreatedAt, kept.UpdatedAt, kept.Etag
		changed = object
		if err := Update[T, P](ctx, tx, scope, object, ""); err != nil {
			return err
		}
		record(ctx, id, before)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return changed, nil
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
		before, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
		_, err = tx.tx.NewDelete().Model(object).WherePK().Exec(ctx)
		if err := Check(err); err != nil {
			if isForeignKey(err) {
				return problem.Conflict("this is still used by another object; change or delete that first")
			}
			return err
		}
		record(ctx, id, before)
		return nil
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

// Before is an object as it was before a change, as its JSON.
type Before struct {
	ID     string
	Object json.RawMessage
}

// Journal collects the states before the changes made in one request, for the audit. It is for one goroutine.
type Journal struct {
	Changes []Before
}

type journalKey struct{}

// WithJournal gives a context in which Change and Delete record the state before into j. It travels in the
// context because it observes: no query behaves differently for it.
func WithJournal(ctx context.Context, j *Journal) context.Context {
	return context.WithValue(ctx, journalKey{}, j)
}

func record(ctx context.Context, id string, before []byte) {
	if j, ok := ctx.Value(journalKey{}).(*Journal); ok {
		j.Changes = append(j.Changes, Before{ID: id, Object: bytes.Clone(before)})
	}
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
