package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/openapi"
)

// Direct gives our own workers what the pipeline gives requests: lists as a caller may see them, and bodies checked
// against the specification. It neither authenticates nor counts, keeps or audits. It is safe for concurrent use.
type Direct struct {
	operations map[string]*endpoint
}

// NewDirect prepares those of the operations that the specification has.
func NewDirect(spec *openapi.Spec, operations map[string]Operation) (*Direct, error) {
	d := &Direct{operations: map[string]*endpoint{}}
	for path, item := range spec.View.Paths.Map() {
		for method, operation := range item.Operations() {
			fn, ok := operations[operation.OperationID]
			if !ok {
				continue
			}
			e := &endpoint{id: operation.OperationID, method: method, path: path, spec: operation,
				route: &routers.Route{Spec: spec.View, Path: path, PathItem: item, Method: method, Operation: operation}}
			if err := e.bind(fn); err != nil {
				return nil, fmt.Errorf("rest: %s: %w", e.id, err)
			}
			d.operations[e.id] = e
		}
	}
	return d, nil
}

// KeysOf gives what every draft has, to read or to write.
func KeysOf[D any, Q Drafted[D]](draft *D) *Keys { return Q(draft).keys() }

// Lists gives the lists that are about a whole resource, by its name ("numbers"): the operationId of its search, or of
// its list where it has no search.
func (d *Direct) Lists() map[string]string {
	found := map[string]string{}
	for id, e := range d.operations {
		name, rest, _ := strings.Cut(strings.TrimPrefix(e.path, "/v1/"), "/")
		if rowSchema(e) == nil || (rest != "" && rest != "search") {
			continue
		}
		if found[name] == "" || e.method == http.MethodPost {
			found[name] = id
		}
	}
	return found
}

// Property is one member of what a list shows.
type Property struct {
	Name string
	Type string // string, integer, number, boolean, object, array; "" where the specification leaves it open
}

// Listed gives the members of a list's rows, the id first, the times and etag last; ok is false for what is no list.
func (d *Direct) Listed(operationID string) (members []Property, permission string, ok bool) {
	e := d.operations[operationID]
	if e == nil {
		return nil, "", false
	}
	row := rowSchema(e)
	if row == nil {
		return nil, "", false
	}
	for _, name := range slices.Sorted(maps.Keys(row.Properties)) {
		p := row.Properties[name].Value
		if secret, _ := p.Extensions["x-secret"].(bool); secret || p.WriteOnly || p.Extensions["x-expanded"] != nil {
			continue
		}
		kind := ""
		if !p.Type.IsEmpty() {
			kind = (*p.Type)[0]
		}
		members = append(members, Property{Name: name, Type: kind})
	}
	place := map[string]int{"id": -2, "external_id": -1, "metadata": 1, "created_at": 2, "updated_at": 3, "etag": 4}
	slices.SortStableFunc(members, func(a, b Property) int { return place[a.Name] - place[b.Name] })
	return members, e.permission, true
}

// rowSchema is the schema of a list's rows.
func rowSchema(e *endpoint) *openapi3.Schema {
	s := jsonSchema(e.spec, http.StatusOK)
	if s == nil || s.Properties["data"] == nil || s.Properties["data"].Value.Items == nil {
		return nil
	}
	return s.Properties["data"].Value.Items.Value
}

// List runs a list operation, the search of a resource or its GET, as a caller: with the caller's permission, rows and
// mask, whose account is in the Scope. Numbers in the rows are json.Number. A list that has no search takes no filter.
func (d *Direct) List(ctx context.Context, who auth.Caller, operationID string, s list.Search) (rows []map[string]any, nextCursor string, err error) {
	e := d.operations[operationID]
	if e == nil || rowSchema(e) == nil {
		return nil, "", fmt.Errorf("rest: %q is no list", operationID)
	}
	if e.permission != "" && !who.Can(e.permission) {
		return nil, "", problem.Forbidden(e.permission)
	}
	who.Scope = who.Over(auth.Resource(e.permission))
	in, err := e.listing(ctx, s)
	if err != nil {
		return nil, "", err
	}
	page, err := e.fn.call(ctx, who, in)
	if err != nil {
		return nil, "", err
	}
	text, err := json.Marshal(page)
	if err != nil {
		return nil, "", fmt.Errorf("list %s: %w", operationID, err)
	}
	var answer struct {
		Data       []map[string]any `json:"data"`
		NextCursor string           `json:"next_cursor"`
	}
	if err := decodeNumbers(text, &answer); err != nil {
		return nil, "", fmt.Errorf("list %s: %w", operationID, err)
	}
	if who.Mask != (auth.Mask{}) {
		schema := rowSchema(e)
		for _, row := range answer.Data {
			walk(row, schema, masking(who.Mask))
		}
	}
	return answer.Data, answer.NextCursor, nil
}

// masking hides what a mask hides, for rewrite and walk.
func masking(m auth.Mask) func(*openapi3.Schema, any) any {
	return func(s *openapi3.Schema, value any) any {
		if number, ok := value.(string); ok && s.Extensions["x-mask"] == "number" {
			return m.Number(number)
		}
		return value
	}
}

// Body checks the body of an operation as the pipeline does, writes the specification's defaults into it, and gives it as
// JSON. What does not fit is an Invalid problem that names every member. With partly, members that the body's schema
// does not have are left out of the check and stay.
func (d *Direct) Body(operationID string, body map[string]any, partly bool) ([]byte, error) {
	e := d.operations[operationID]
	if e == nil || e.spec.RequestBody == nil {
		return nil, fmt.Errorf("rest: %q is no operation with a body", operationID)
	}
	media := e.spec.RequestBody.Value.Content.Get("application/json")
	if media == nil || media.Schema == nil {
		return nil, fmt.Errorf("rest: %s: its body is no JSON", operationID)
	}
	schema, checked := media.Schema.Value, body
	if partly {
		checked = map[string]any{}
		for name, value := range body {
			if schema.Properties[name] != nil {
				checked[name] = value
			}
		}
	}
	err := schema.VisitJSON(checked, append(slices.Clone(e.options.SchemaValidationOptions),
		openapi3.VisitAsRequest(), openapi3.MultiErrors(), openapi3.DefaultsSet(func() {}))...)
	if err != nil {
		errs := explain(nil, "", err)
		return nil, problem.Invalid(errs[0].Pointer+": "+errs[0].Message, errs...)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("body of %s: %w", operationID, err)
	}
	return text, nil
}

// Takes reports whether the body of an operation has a member.
func (d *Direct) Takes(operationID, member string) bool {
	e := d.operations[operationID]
	if e == nil || e.spec.RequestBody == nil {
		return false
	}
	media := e.spec.RequestBody.Value.Content.Get("application/json")
	return media != nil && media.Schema != nil && media.Schema.Value.Properties[member] != nil
}

// listing makes the In of a list operation.
func (e *endpoint) listing(ctx context.Context, s list.Search) (reflect.Value, error) {
	r := (&http.Request{Method: e.method, URL: &url.URL{Path: e.path}, Header: http.Header{}}).WithContext(ctx)
	if e.spec.RequestBody != nil {
		body, err := json.Marshal(s)
		if err != nil {
			return reflect.Value{}, err
		}
		return e.decode(r, nil, body)
	}
	if filter := bytes.TrimSpace(s.Filter); len(filter) > 0 && string(filter) != "{}" {
		return reflect.Value{}, problem.RefusedField("/filter", "unsupported", "is not to be had here: this list cannot be searched")
	}
	query := url.Values{}
	for name, value := range map[string]string{"sort": s.Sort, "cursor": s.Cursor, "q": s.Q} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if s.Limit > 0 {
		query.Set("limit", strconv.Itoa(s.Limit))
	}
	r.URL.RawQuery = query.Encode()
	return e.decode(r, nil, nil)
}
