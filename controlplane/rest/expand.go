package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

const expandParameter = "expand"

func isExpand(p *openapi3.Parameter) bool {
	return p.In == openapi3.ParameterInQuery && p.Name == expandParameter
}

// expansion is one reference that a caller may have replaced by what it refers to.
type expansion struct {
	name string    // "application": where the object goes
	by   string    // "application_id": where its id is
	list *endpoint // what is asked for it, with id[in]
}

// expansions finds what the answer of an operation can expand: the properties that openapi.Parse marked with
// x-expanded, whose list operation is mounted.
func expansions(e *endpoint, bound map[string]*endpoint) map[string]expansion {
	s := jsonSchema(e.spec, http.StatusOK)
	if s != nil && s.Properties["data"] != nil && s.Properties["data"].Value.Items != nil {
		s = s.Properties["data"].Value.Items.Value
	}
	if s == nil || !e.query[expandParameter] {
		return nil
	}
	found := map[string]expansion{}
	for name, p := range s.Properties {
		by, _ := p.Value.Extensions["x-expanded"].(string)
		if by == "" || s.Properties[by] == nil {
			continue
		}
		id, _ := s.Properties[by].Value.Extensions["x-expand"].(string)
		if target := bound[id]; target != nil {
			found[name] = expansion{name: name, by: by, list: target}
		}
	}
	return found
}

// expansionsAsked takes the parameter expand, a list with commas or given several times, out of the request.
func (q *request) expansionsAsked() error {
	query := q.r.URL.Query()
	given := query[expandParameter]
	if len(given) == 0 || !q.query[expandParameter] {
		return nil
	}
	for _, name := range strings.Split(strings.Join(given, ","), ",") {
		asked, ok := q.expansions[name]
		if !ok {
			return problem.InvalidField(expandParameter, "enum", "must be of %s, is %q", strings.Join(slices.Sorted(maps.Keys(q.expansions)), ", "), name)
		}
		if !slices.ContainsFunc(q.expand, func(e expansion) bool { return e.name == name }) {
			q.expand = append(q.expand, asked)
		}
	}
	delete(query, expandParameter)
	u := *q.r.URL
	u.RawQuery = query.Encode()
	q.r.URL = &u
	return nil
}

// expanded puts the objects that were asked for into an answer, or into each row of a list.
func (q *request) expanded(text []byte) ([]byte, error) {
	if len(q.expand) == 0 {
		return text, nil
	}
	var answer map[string]any
	if err := decodeNumbers(text, &answer); err != nil {
		return nil, fmt.Errorf("expand: %w", err)
	}
	objects := []any{answer}
	if rows, ok := answer["data"].([]any); ok {
		objects = rows
	}
	for _, e := range q.expand {
		if err := e.into(q.r.Context(), q.who, objects); err != nil {
			return nil, fmt.Errorf("expand %s: %w", e.name, err)
		}
	}
	return json.Marshal(answer)
}

// into reads what the objects refer to as the caller may read it, and puts it in. What the caller may not see, or is no
// more, stays absent.
func (e expansion) into(ctx context.Context, who auth.Caller, objects []any) error {
	if e.list.permission != "" && !who.Can(e.list.permission) {
		return nil
	}
	who.Scope = who.Over(auth.Resource(e.list.permission))
	wanted := map[string][]map[string]any{}
	for _, each := range objects {
		object, _ := each.(map[string]any)
		if id, _ := object[e.by].(string); id != "" {
			wanted[id] = append(wanted[id], object)
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(wanted)), list.MaxLimit) {
		rows, err := e.list.rows(ctx, who, ids)
		if err != nil {
			return err
		}
		for _, row := range rows {
			id, _ := row["id"].(string)
			for _, object := range wanted[id] {
				object[e.name] = row
			}
		}
	}
	return nil
}

// rows asks a list operation for the rows with these ids.
func (e *endpoint) rows(ctx context.Context, who auth.Caller, ids []string) ([]map[string]any, error) {
	query := url.Values{"id[in]": {strings.Join(ids, ",")}, "limit": {strconv.Itoa(len(ids))}}
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: e.path, RawQuery: query.Encode()}}).WithContext(ctx)
	in, err := e.decode(r, nil, nil)
	if err != nil {
		return nil, err
	}
	page, err := e.fn.call(ctx, who, in)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(page)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data []map[string]any `json:"data"`
	}
	if err := decodeNumbers(text, &answer); err != nil {
		return nil, err
	}
	return answer.Data, nil
}
