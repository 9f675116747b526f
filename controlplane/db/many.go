package db

import (
	"context"
	"fmt"
	"reflect"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// InsertMany writes new rows with one statement, which need not be those of a resource. Unlike Insert it takes them as they
// are: their account, times and etag are set, nothing is recorded in the journal, and no owner is looked at (see MayHold).
// Nothing is written for no rows.
func InsertMany[T any](ctx context.Context, conn Conn, scope auth.Scope, objects []T) error {
	if len(objects) == 0 {
		return nil
	}
	ctx, insert := as(ctx, scope), conn.Write().NewInsert().Model(&objects)
	if !conn.postgres() {
		_, err := insert.Exec(ctx)
		return unknownReference(Check(err))
	}
	table := conn.Write().Dialect().Tables().Get(reflect.TypeFor[*T]())
	_, err := conn.Write().ExecContext(ctx, "INSERT INTO ? (?) SELECT * FROM unnest(?)",
		table.SQLName, columnNames(table.Fields), columns{table.Fields, reflect.ValueOf(objects)})
	return unknownReference(Check(err))
}

// AnyOf is a condition that a column, which no other table of the query has, has one of many values.
func AnyOf(conn Conn, column string, values []string) (condition string, args []any) {
	if conn.postgres() {
		// One constant instead of one for each value, which is half of what such a query costs.
		return "? = ANY (?)", []any{bun.Ident(column), pgdialect.Array(values)}
	}
	return "? IN (?)", []any{bun.Ident(column), bun.List(values)}
}

// columnNames is the names of columns, between commas.
type columnNames []*schema.Field

// AppendQuery is schema.QueryAppender.
func (c columnNames) AppendQuery(_ schema.QueryGen, b []byte) ([]byte, error) {
	for i, field := range c {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, field.SQLName...)
	}
	return b, nil
}

// columns is rows as PostgreSQL's arrays, one for each column: '{"a","b",NULL}'::text[]. PostgreSQL reads 1,000 rows of ten
// columns so in a quarter less time than as VALUES, of which it makes an expression each.
type columns struct {
	fields  []*schema.Field
	objects reflect.Value // a slice of structs
}

// AppendQuery is schema.QueryAppender.
func (c columns) AppendQuery(gen schema.QueryGen, b []byte) ([]byte, error) {
	var literal []byte
	for i, field := range c.fields {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, "'{"...)
		for n := range c.objects.Len() {
			if n > 0 {
				b = append(b, ',')
			}
			object := c.objects.Index(n)
			literal = field.AppendValue(gen, literal[:0], object)
			var err error
			if b, err = appendElement(b, literal); err != nil {
				return nil, fmt.Errorf("column %s: %w", field.Name, err)
			}
		}
		b = append(append(append(b, "}'::"...), field.CreateTableSQLType...), "[]"...)
	}
	return b, nil
}

// appendElement writes an SQL literal as an element of an array that is between apostrophes itself: those of the literal
// are doubled already. NULL, numbers and TRUE are the same in both.
func appendElement(b, literal []byte) ([]byte, error) {
	if len(literal) == 0 {
		return nil, fmt.Errorf("an empty literal")
	}
	if literal[0] != '\'' {
		return append(b, literal...), nil
	}
	if len(literal) < 2 || literal[len(literal)-1] != '\'' {
		return nil, fmt.Errorf("a literal that is no text: %.20q", literal)
	}
	b = append(b, '"')
	for _, c := range literal[1 : len(literal)-1] {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"'), nil
}
