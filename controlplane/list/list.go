// Package list owns the grammar of every list of the REST API: limit, cursor, sort, filters, q and count, checked
// against a table of what a resource allows, and turned into one keyset query. Which fields there are is the
// resource's table; which rows a caller may see is db's scope.
package list

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Limits of the page size, in rows.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

const (
	maxSearch = 200      // bytes of q
	maxValues = 100      // times that one filter may be given
	maxIn     = MaxLimit // values of one "in"
)

// Type is the type of a field's values.
type Type int

// The types. Text, Bool and numbers are compared as such, Time as RFC 3339.
const (
	Text Type = iota
	Time
	Int
	Float
	Bool
)

// Field is one field that a list may be filtered or sorted by. Text and Bool take equality alone; the other types
// also name[gt], name[gte], name[lt] and name[lte]. A filter given twice matches either value, and so does one with a
// list: name[in]=a,b.
type Field struct {
	Type Type
	// Column is the column, where it is not named as the field.
	Column string
	// Sort allows sorting by it. The column must be NOT NULL: a keyset cannot step over nulls.
	Sort bool
	// SortOnly forbids filtering.
	SortOnly bool
	// Match, where set, makes the condition that a row, whose table is ?TableAlias, has one of some texts, for a field that is
	// in no column of the table. Such a field is compared by eq and in alone, and is never null; an error is the request's.
	Match func(texts []string) (condition string, args []any, err error)
	// Mask says that the column holds telephone numbers that a masked reader must not learn (auth.Mask.Numbers). Such a
	// reader may neither filter nor sort by it, nor search in it: guessing prefixes would give the number away.
	Mask bool
}

// Table is what the lists of one resource allow.
type Table struct {
	Fields map[string]Field
	// Sort is the order when none is asked for: a field's name, with "-" for descending. Empty means
	// "-created_at".
	Sort string
	// Search names the text columns that q looks in, for any part, without regard to case (ASCII letters only
	// on SQLite). Without any, q is refused. A column that a field masks is not looked in for a masked reader, who is
	// refused where no other is left.
	Search []string
}

// Common gives the fields that every resource lists by (id, external_id, created_at, updated_at) together with
// its own.
func Common(own map[string]Field) map[string]Field {
	fields := map[string]Field{
		"id":          {Type: Text},
		"external_id": {Type: Text},
		"created_at":  {Type: Time, Sort: true},
		"updated_at":  {Type: Time, Sort: true},
	}
	for name, f := range own {
		fields[name] = f
	}
	return fields
}

// Query is a list request that was checked.
type Query struct {
	Limit int
	Count bool

	order   order
	filters []filter // all of them must match
	search  string
	columns []string // searched by who may see numbers
	open    []string // searched by everyone
	masked  []string // what asks about masked fields, as problems name it
	after   *cursor
}

type order struct {
	field  string
	column string
	kind   Type
	desc   bool
}

func (o order) String() string {
	if o.desc {
		return "-" + o.field
	}
	return o.field
}

// filter is one comparison, or several that are joined.
type filter struct {
	column string
	op     string // SQL, from the table operators; "=" compares with all values, with none it is IS NULL
	values []any

	match string // SQL of Field.Match with values, instead of a comparison

	join  string // "AND" or "OR" of parts, instead of a comparison
	parts []filter
}

// operators are the words in brackets after a field's name, and beside it in a search.
func operators() map[string]string {
	return map[string]string{"": "=", "eq": "=", "in": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
}

// Parse checks the query parameters of a request. Every failure is an Invalid problem that names the parameter.
// Parameters that are no part of the grammar and no field ("expand") belong in others.
func (t Table) Parse(values url.Values, others ...string) (Query, error) {
	q := t.query()
	var err error
	if err = t.sort(&q, "sort", values.Get("sort")); err != nil {
		return Query{}, err
	}
	for _, name := range sortedKeys(values) {
		given := values[name]
		switch name {
		case "sort":
		case "limit":
			q.Limit, err = limit(given[0])
		case "count":
			q.Count, err = strconv.ParseBool(given[0])
			if err != nil {
				err = problem.InvalidField("count", "type", "must be true or false, is %q", given[0])
			}
		case "cursor":
			q.after, err = q.order.cursor("cursor", given[0])
		case "q":
			err = t.search(&q, "q", given[0])
		default:
			if slices.Contains(others, name) {
				continue
			}
			var f filter
			f, err = t.filter(&q, name, given)
			q.filters = append(q.filters, f)
		}
		if err != nil {
			return Query{}, err
		}
	}
	return q, nil
}

// query is a request that asks for nothing yet.
func (t Table) query() Query {
	q := Query{Limit: DefaultLimit, columns: t.Search}
	for _, column := range t.Search {
		if !t.masks(column) {
			q.open = append(q.open, column)
		}
	}
	return q
}

func (t Table) masks(column string) bool {
	for name, f := range t.Fields {
		if f.Mask && f.column(name) == column {
			return true
		}
	}
	return false
}

func sortedKeys(values url.Values) []string {
	names := make([]string, 0, len(values))
	for name, given := range values {
		if len(given) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func limit(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxLimit {
		return 0, problem.InvalidField("limit", "range", "must be 1–%d, is %q", MaxLimit, text)
	}
	return n, nil
}

// sort sets the order; at is what a problem names.
func (t Table) sort(q *Query, at, text string) error {
	if text == "" {
		text = t.Sort
	}
	if text == "" {
		text = "-created_at"
	}
	name, desc := strings.CutPrefix(text, "-")
	f, ok := t.Fields[name]
	if !ok || !f.Sort {
		return problem.InvalidField(at, "field", "must be one of %s, with - in front for descending, is %q",
			strings.Join(t.names(func(f Field) bool { return f.Sort }), ", "), text)
	}
	if f.Mask {
		q.masked = append(q.masked, at)
	}
	q.order = order{field: name, column: f.column(name), kind: f.Type, desc: desc}
	return nil
}

func (t Table) search(q *Query, at, text string) error {
	if len(t.Search) == 0 {
		return problem.InvalidField(at, "unknown", "this list cannot be searched; use its filters")
	}
	if len(text) > maxSearch {
		return problem.InvalidField(at, "length", "may have at most %d bytes, has %d", maxSearch, len(text))
	}
	q.search = text
	if text != "" && len(q.open) == 0 {
		q.masked = append(q.masked, at)
	}
	return nil
}

// filter reads one filter of a query string.
func (t Table) filter(q *Query, name string, given []string) (filter, error) {
	field, op, _ := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	f, ok := t.Fields[field]
	sign, known := operators()[op]
	if !ok || !known || f.SortOnly || (strings.HasSuffix(name, "]") != (op != "")) {
		return filter{}, problem.InvalidField(name, "unknown", "is no filter of this list; there are %s",
			strings.Join(t.names(func(f Field) bool { return !f.SortOnly }), ", "))
	}
	if op == "in" {
		if len(given) > 1 {
			return filter{}, problem.InvalidField(name, "count", "takes one list of values with commas between them")
		}
		given = strings.Split(given[0], ",")
		if len(given) > maxIn {
			return filter{}, problem.InvalidField(name, "count", "may have at most %d values, has %d", maxIn, len(given))
		}
	} else if len(given) > maxValues {
		return filter{}, problem.InvalidField(name, "count", "may be given at most %d times, is %d times", maxValues, len(given))
	}
	if sign != "=" && (!f.Type.ordered() || len(given) > 1) {
		return filter{}, problem.InvalidField(name, "operator", "takes one value, and is for numbers and times")
	}
	if f.Mask {
		q.masked = append(q.masked, name)
	}
	out := filter{column: f.column(field), op: sign}
	for _, text := range given {
		v, err := f.Type.parse(text)
		if err != nil {
			return filter{}, problem.InvalidField(name, "type", "%s, is %q", err.Error(), text)
		}
		out.values = append(out.values, v)
	}
	return f.matching(out)
}

// matching gives a comparison, as Match makes it where that is set.
func (f Field) matching(c filter) (filter, error) {
	if f.Match == nil {
		return c, nil
	}
	texts := make([]string, len(c.values))
	for i, value := range c.values {
		texts[i] = value.(string)
	}
	var err error
	c.match, c.values, err = f.Match(texts)
	return c, err
}

// ordered reports whether values of the type are compared by gt, gte, lt and lte.
func (k Type) ordered() bool { return k != Text && k != Bool }

func (t Table) names(want func(Field) bool) []string {
	var names []string
	for name, f := range t.Fields {
		if want(f) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (f Field) column(name string) string {
	if f.Column != "" {
		return f.Column
	}
	return name
}

// parse reads one value as it stands in a filter or a cursor.
func (k Type) parse(text string) (any, error) {
	switch k {
	case Time:
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, fmt.Errorf("must be a time such as 2026-01-31T08:00:00Z")
		}
		return at.UTC(), nil
	case Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("must be a whole number")
		}
		return n, nil
	case Float:
		n, err := strconv.ParseFloat(text, 64)
		// NaN and infinities are no literals of SQL.
		if err != nil || n-n != 0 {
			return nil, fmt.Errorf("must be a number")
		}
		return n, nil
	case Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("must be true or false")
		}
		return b, nil
	}
	// PostgreSQL's text holds neither; bun would write them into the statement.
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		return nil, fmt.Errorf("must be UTF-8 without NUL")
	}
	return text, nil
}

// cursor is where a page ended: the sort it belongs to, the value of its last row's sorted column, and that row's
// id, which makes the order total.
type cursor struct {
	Sort  string `json:"s"`
	Value string `json:"v"`
	ID    string `json:"i"`

	value any
}

// cursor reads the cursor parameter. It must be one that this same order gave out.
func (o order) cursor(at, text string) (*cursor, error) {
	bad := problem.InvalidField(at, "cursor", "is not one that this list gave out; start again without it")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, bad
	}
	var c cursor
	if err := json.Unmarshal(raw, &c); err != nil || !utf8.ValidString(c.ID) || strings.ContainsRune(c.ID, 0) {
		return nil, bad
	}
	if c.Sort != o.String() {
		return nil, problem.InvalidField(at, "sort", "belongs to another sort (%s, now %s); start again without it", c.Sort, o)
	}
	if c.value, err = o.kind.parse(c.Value); err != nil {
		return nil, bad
	}
	return &c, nil
}

func (o order) next(value any, id string) (string, error) {
	c := cursor{Sort: o.String(), ID: id}
	switch v := value.(type) {
	case time.Time:
		c.Value = v.UTC().Format(time.RFC3339Nano)
	case float64:
		c.Value = strconv.FormatFloat(v, 'g', -1, 64)
	default:
		c.Value = fmt.Sprint(v)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// Allowed refuses (403) what asks about fields that are hidden from whoever has the scope.
func (q Query) Allowed(scope auth.Scope) error {
	if !scope.Mask().Numbers || len(q.masked) == 0 {
		return nil
	}
	const why = "telephone numbers are hidden from you, and so you cannot filter, sort or search by them"
	errs := make([]problem.FieldError, 0, len(q.masked))
	for _, at := range q.masked {
		errs = append(errs, problem.Field(at, "masked", why))
	}
	return problem.New(problem.CodeForbidden, strings.Join(q.masked, ", ")+": "+why, errs...)
}

// Where gives the filters and the search, without order and page, as for a count or an export by whoever has the scope.
// The scope itself is not part of it. A query that is not Allowed fails.
func (q Query) Where(scope auth.Scope) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(s *bun.SelectQuery) *bun.SelectQuery {
		if err := q.Allowed(scope); err != nil {
			return s.Err(err)
		}
		for _, f := range q.filters {
			s = f.where(s)
		}
		if q.search == "" {
			return s
		}
		columns := q.columns
		if scope.Mask().Numbers {
			columns = q.open
		}
		like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(q.search)) + "%"
		return s.WhereGroup(" AND ", func(s *bun.SelectQuery) *bun.SelectQuery {
			for _, c := range columns {
				s = s.WhereOr(`lower(?TableAlias.?) LIKE ? ESCAPE '\'`, bun.Ident(c), like)
			}
			return s
		})
	}
}

func (f filter) where(s *bun.SelectQuery) *bun.SelectQuery {
	switch {
	case f.join != "":
		return s.WhereGroup(" AND ", func(s *bun.SelectQuery) *bun.SelectQuery {
			for _, part := range f.parts {
				s = s.WhereGroup(" "+f.join+" ", part.where)
			}
			return s
		})
	case f.match != "":
		return s.Where(f.match, f.values...)
	case f.op == "=" && len(f.values) == 0:
		return s.Where("?TableAlias.? IS NULL", bun.Ident(f.column))
	case f.op == "=":
		return s.Where("?TableAlias.? IN (?)", bun.Ident(f.column), bun.List(f.values))
	}
	return s.Where("?TableAlias.? ? ?", bun.Ident(f.column), bun.Safe(f.op), f.values[0])
}

// Page adds order, cursor and limit; one row more than asked for tells whether there is a next page.
func (q Query) Page(s *bun.SelectQuery) *bun.SelectQuery {
	column, direction, after := bun.Ident(q.order.column), bun.Safe("ASC"), bun.Safe(">")
	if q.order.desc {
		direction, after = bun.Safe("DESC"), bun.Safe("<")
	}
	if c := q.after; c != nil {
		s = s.Where("(?TableAlias.?, ?TableAlias.id) ? (?, ?)", column, after, c.value, c.ID)
	}
	s = s.Limit(int64(q.Limit) + 1)
	if q.byID() {
		// SQLite would else read all rows of the account in the order of the index on the column, and look for the ids among
		// them, rather than look the ids up and sort what it finds. So would both databases for what Match selects.
		return s.OrderExpr("COALESCE(?TableAlias.?, ?TableAlias.?) ?, ?TableAlias.id ?", column, column, direction, direction)
	}
	return s.OrderExpr("?TableAlias.? ?, ?TableAlias.id ?", column, direction, direction)
}

// byID reports whether the query asks for rows by their ids, or by what leads to these.
func (q Query) byID() bool {
	return slices.ContainsFunc(q.filters, filter.byID)
}

// byID reports whether nothing but some ids can fit.
func (f filter) byID() bool {
	switch f.join {
	case "AND":
		return slices.ContainsFunc(f.parts, filter.byID)
	case "OR":
		return !slices.ContainsFunc(f.parts, func(part filter) bool { return !part.byID() })
	}
	return f.match != "" || f.column == "id" && f.op == "=" && len(f.values) > 0
}

// Page is one page of a list, as it is answered.
type Page[T any] struct {
	Data       []T    `json:"data"`
	NextCursor string `json:"next_cursor,omitempty"` // absent on the last page
	Total      *int64 `json:"total,omitempty"`       // with count=true: all rows that the filters match
}

// Run reads the page of T that q asks for within scope. The modifications narrow it further, with Where.
func Run[T any, P db.Entity[T]](ctx context.Context, conn db.Conn, scope auth.Scope, q Query, mods ...func(*bun.SelectQuery) *bun.SelectQuery) (Page[T], error) {
	if err := q.Allowed(scope); err != nil {
		return Page[T]{}, err
	}
	where := append(slices.Clone(mods), q.Where(scope))
	rows, err := db.List[T, P](ctx, conn, scope, append(slices.Clone(where), q.Page)...)
	if err != nil {
		return Page[T]{}, err
	}
	page := Page[T]{Data: rows}
	if len(rows) > q.Limit {
		page.Data = rows[:q.Limit]
		last := &page.Data[q.Limit-1]
		value, id, err := db.Column[T, P](conn, last, q.order.column)
		if err != nil {
			return Page[T]{}, err
		}
		if page.NextCursor, err = q.order.next(value, id); err != nil {
			return Page[T]{}, fmt.Errorf("cursor: %w", err)
		}
	}
	if q.Count {
		n, err := db.Count[T, P](ctx, conn, scope, where...)
		if err != nil {
			return Page[T]{}, err
		}
		page.Total = &n
	}
	return page, nil
}

// Map turns a page of rows into a page of what is answered for them.
func Map[T, U any](page Page[T], fn func(T) U) Page[U] {
	out := Page[U]{Data: make([]U, 0, len(page.Data)), NextCursor: page.NextCursor, Total: page.Total}
	for _, row := range page.Data {
		out.Data = append(out.Data, fn(row))
	}
	return out
}
