package list

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Search is the body of POST /v1/things/search: what a list takes as parameters, and filters that a query string cannot
// say. Filter is an object whose members must all match:
//
//	{"status": "open",                                   this value; null where there is none
//	 "created_at": {"gte": "2026-01-01T00:00:00Z"},      eq, in, gt, gte, lt, lte; several must all match
//	 "id": {"in": ["a", "b"]},                           one of these
//	 "or": [{"owner_id": "usr_1"}, {"owner_id": null}],  one of these objects matches
//	 "and": [{…}, {…}]}                                  all of these objects match
type Search struct {
	Filter json.RawMessage `json:"filter,omitempty"`
	Sort   string          `json:"sort,omitempty"`
	Limit  int             `json:"limit,omitempty"`  // 0 for DefaultLimit
	Cursor string          `json:"cursor,omitempty"` // belongs to a filter and a sort
	Count  bool            `json:"count,omitempty"`
	Q      string          `json:"q,omitempty"`
}

// Bounds of a filter.
const (
	maxDepth       = 5    // of and, or
	maxComparisons = 100  // in all
	maxInAll       = 2000 // values of all comparisons
)

// ParseSearch checks a search. Every failure is an Invalid problem with a JSON pointer into the body.
func (t Table) ParseSearch(s Search) (Query, error) {
	q := t.query()
	if s.Limit != 0 {
		if s.Limit < 1 || s.Limit > MaxLimit {
			return Query{}, problem.InvalidField("/limit", "range", "must be 1–%d, is %d", MaxLimit, s.Limit)
		}
		q.Limit = s.Limit
	}
	q.Count = s.Count
	if err := t.sort(&q, "/sort", s.Sort); err != nil {
		return Query{}, err
	}
	if s.Cursor != "" {
		var err error
		if q.after, err = q.order.cursor("/cursor", s.Cursor); err != nil {
			return Query{}, err
		}
	}
	if s.Q != "" {
		text, err := Text.parse(s.Q)
		if err != nil {
			return Query{}, problem.InvalidField("/q", "type", "%s", err.Error())
		}
		if err := t.search(&q, "/q", text.(string)); err != nil {
			return Query{}, err
		}
	}
	if len(s.Filter) == 0 {
		return q, nil
	}
	reading := filterReader{table: t, query: &q}
	filters, err := reading.object("/filter", s.Filter, 0)
	q.filters = filters
	if err != nil {
		return Query{}, err
	}
	return q, nil
}

// filterReader reads one filter and counts what it holds.
type filterReader struct {
	table       Table
	query       *Query
	comparisons int
	values      int
}

// object reads an object of fields, "and" and "or".
func (r *filterReader) object(at string, text json.RawMessage, depth int) ([]filter, error) {
	members, err := object(at, text)
	if err != nil {
		return nil, err
	}
	var found []filter
	for _, name := range slices.Sorted(maps.Keys(members)) {
		here := at + "/" + escape(name)
		if name == "and" || name == "or" {
			joined, err := r.joined(here, strings.ToUpper(name), members[name], depth+1)
			if err != nil {
				return nil, err
			}
			found = append(found, joined)
			continue
		}
		comparisons, err := r.field(here, name, members[name])
		if err != nil {
			return nil, err
		}
		found = append(found, comparisons...)
	}
	return found, nil
}

func (r *filterReader) joined(at, join string, text json.RawMessage, depth int) (filter, error) {
	if depth > maxDepth {
		return filter{}, problem.InvalidField(at, "depth", "and, or may stand at most %d deep within each other", maxDepth)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) == 0 {
		return filter{}, problem.InvalidField(at, "type", "must be an array of at least one object")
	}
	f := filter{join: join}
	for i, part := range parts {
		here := at + "/" + strconv.Itoa(i)
		comparisons, err := r.object(here, part, depth)
		if err != nil {
			return filter{}, err
		}
		if len(comparisons) == 0 {
			return filter{}, problem.InvalidField(here, "empty", "must compare something")
		}
		f.parts = append(f.parts, filter{join: "AND", parts: comparisons})
	}
	return f, nil
}

// field reads what a field is compared with: a value, or an object of operators.
func (r *filterReader) field(at, name string, text json.RawMessage) ([]filter, error) {
	f, ok := r.table.Fields[name]
	if !ok || f.SortOnly {
		return nil, problem.InvalidField(at, "unknown", "is no field of this list; there are %s, and, or",
			strings.Join(r.table.names(func(f Field) bool { return !f.SortOnly }), ", "))
	}
	if f.Mask {
		r.query.masked = append(r.query.masked, at)
	}
	if text[0] != '{' {
		c, err := r.comparison(at, name, f, "eq", text)
		return []filter{c}, err
	}
	members, err := object(at, text)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, problem.InvalidField(at, "empty", "must compare with something: eq, in, gt, gte, lt, lte")
	}
	var found []filter
	for _, op := range slices.Sorted(maps.Keys(members)) {
		c, err := r.comparison(at+"/"+escape(op), name, f, op, members[op])
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, nil
}

func (r *filterReader) comparison(at, name string, f Field, op string, text json.RawMessage) (filter, error) {
	sign, known := operators()[op]
	if !known || op == "" {
		return filter{}, problem.InvalidField(at, "operator", "must be one of eq, in, gt, gte, lt, lte")
	}
	if sign != "=" && !f.Type.ordered() {
		return filter{}, problem.InvalidField(at, "operator", "is for numbers and times")
	}
	if r.comparisons++; r.comparisons > maxComparisons {
		return filter{}, problem.InvalidField(at, "count", "a filter may have at most %d comparisons", maxComparisons)
	}
	out := filter{column: f.column(name), op: sign}
	if op == "eq" && string(text) == "null" && f.Match == nil {
		return out, nil
	}
	given := []json.RawMessage{text}
	if op == "in" {
		given = nil
		if err := json.Unmarshal(text, &given); err != nil || len(given) == 0 {
			return filter{}, problem.InvalidField(at, "type", "must be an array of at least one value")
		}
	}
	if r.values += len(given); len(given) > maxIn || r.values > maxInAll {
		return filter{}, problem.InvalidField(at, "count", "may have at most %d values, and the filter %d", maxIn, maxInAll)
	}
	for i, each := range given {
		here := at
		if op == "in" {
			here += "/" + strconv.Itoa(i)
		}
		v, err := f.Type.parseJSON(each)
		if err != nil {
			return filter{}, problem.InvalidField(here, "type", "%s", err.Error())
		}
		out.values = append(out.values, v)
	}
	return f.matching(out)
}

// object reads a JSON object. Every member is at least one byte long.
func object(at string, text json.RawMessage) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, problem.InvalidField(at, "type", "must be an object")
	}
	return members, nil
}

// parseJSON reads one value of a search.
func (k Type) parseJSON(text json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch v := value.(type) {
	case string:
		if k == Text || k == Time {
			return k.parse(v)
		}
	case json.Number:
		if k == Int || k == Float {
			return k.parse(v.String())
		}
	case bool:
		if k == Bool {
			return v, nil
		}
	}
	return nil, fmt.Errorf("must be %s", map[Type]string{Text: "a text", Time: "a time such as 2026-01-31T08:00:00Z", Int: "a whole number",
		Float: "a number", Bool: "true or false"}[k])
}

// escape writes a name as part of a JSON pointer (RFC 6901 §3).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
