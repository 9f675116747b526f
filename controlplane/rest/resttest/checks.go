package resttest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// upserts reports whether the operation is PUT /v1/things/by/external_id/{external_id}.
func (o *operation) upserts() bool {
	return o.method == http.MethodPut && strings.HasSuffix(o.path, "/by/external_id/{external_id}")
}

// searches reports whether the operation is a list whose parameters are a body.
func (o *operation) searches() bool {
	return o.method == http.MethodPost && strings.HasSuffix(o.path, "/search")
}

// reads reports whether the operation changes nothing.
func (o *operation) reads() bool { return o.method == http.MethodGet || o.searches() }

// kept reports whether every use of the operation is audited.
func (o *operation) kept() bool {
	if audit, says := o.spec.Extensions["x-audit"].(bool); says {
		return audit
	}
	return !o.reads() && o.spec.Extensions["x-permission"] != "none"
}

// replays reports whether the operation takes an Idempotency-Key.
func (o *operation) replays() bool {
	return o.method == http.MethodPost && o.takes(openapi3.ParameterInHeader, "Idempotency-Key") && o.spec.Extensions["x-permission"] != "none"
}

func (o *operation) takes(in, name string) bool {
	return o.spec.Parameters.GetByInAndName(in, name) != nil || o.Spec.View.Paths.Value(o.path).Parameters.GetByInAndName(in, name) != nil
}

// stale checks that a change based on another state is refused.
func (o *operation) stale(t *testing.T, ids map[string]string, r *Request) {
	t.Helper()
	if o.takes(openapi3.ParameterInHeader, "If-Match") && strings.Contains(o.path, "{") && !o.upserts() {
		o.refused(t, "a stale If-Match", Token, ids, r, http.StatusPreconditionFailed, "If-Match", `"another"`)
	}
}

// narrowed checks that who sees only their own rows sees none of nobody's, where rows have an owner.
func (o *operation) narrowed(t *testing.T, ids map[string]string, r *Request) {
	t.Helper()
	switch {
	case strings.Contains(o.path, "{") && !o.upserts():
		item := o.Spec.View.Paths.Value(o.path[:strings.LastIndex(o.path, "}")+1])
		if item != nil && item.Get != nil && owned(o.Operations[item.Get.OperationID].Out()) {
			o.refused(t, "an object of nobody", "own", ids, r, http.StatusNotFound)
		}
	case o.reads() && owned(rowOf(o.Operations[o.spec.OperationID].Out())):
		o.hidden(t, "who sees only their own", "own", ids, r)
	}
}

// rowOf is the type of the rows of a page; other types stay.
func rowOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Struct {
		if data, ok := t.FieldByName("Data"); ok && data.Type.Kind() == reflect.Slice {
			return data.Type.Elem()
		}
	}
	return t
}

// owned reports whether a type of rows embeds db.Owned.
func owned(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return db.Owner(reflect.New(t).Interface()) != nil
}

// answered is the schema of the object that the operation answers with, or of the rows of its list; nil for none.
func (o *operation) answered() *openapi3.Schema {
	for _, status := range []int{http.StatusOK, http.StatusCreated, http.StatusAccepted} {
		if r := o.spec.Responses.Status(status); r != nil {
			if s := content(r.Value.Content); s != nil {
				if data := s.Properties["data"]; data != nil && data.Value.Items != nil {
					return data.Value.Items.Value
				}
				return s
			}
		}
	}
	return nil
}

// marked collects the texts of a JSON value that stand where the schema has an extension.
func marked(value any, s *openapi3.Schema, is func(*openapi3.Schema) bool) []string {
	var found []string
	if s == nil {
		return nil
	}
	if text, ok := value.(string); ok && is(s) && text != "" {
		found = append(found, text)
	}
	for _, list := range []openapi3.SchemaRefs{s.AllOf, s.AnyOf, s.OneOf} {
		for _, part := range list {
			found = append(found, marked(value, part.Value, is)...)
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for name, each := range v {
			if p := s.Properties[name]; p != nil {
				found = append(found, marked(each, p.Value, is)...)
			}
		}
	case []any:
		for _, each := range v {
			if s.Items != nil {
				found = append(found, marked(each, s.Items.Value, is)...)
			}
		}
	}
	return found
}

// in collects what is marked in the JSON of an answer.
func (o *operation) in(w *httptest.ResponseRecorder, is func(*openapi3.Schema) bool) []string {
	var value any
	r := o.spec.Responses.Status(w.Code)
	if r == nil || json.Unmarshal(w.Body.Bytes(), &value) != nil {
		return nil
	}
	return marked(value, content(r.Value.Content), is)
}

func isNumber(s *openapi3.Schema) bool { return s.Extensions["x-mask"] == "number" }

func isSecret(s *openapi3.Schema) bool { return s.Extensions["x-secret"] == true || s.WriteOnly }

// secrets are the texts that were sent or answered where a secret is.
func (o *operation) secrets(t *testing.T, r *Request, w *httptest.ResponseRecorder) []string {
	t.Helper()
	found := o.in(w, isSecret)
	if o.spec.RequestBody != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return found
		}
		var body any
		if err := json.Unmarshal(text, &body); err != nil {
			t.Fatal(err)
		}
		found = append(found, marked(body, content(o.spec.RequestBody.Value.Content), isSecret)...)
	}
	return found
}

// shortest is the length from which a number is looked for in all of an answer, and not only as a value of its own.
const shortest = 7

// masked checks that a masked reader sees no number, and gets no answer to a question about one.
func (o *operation) masked(t *testing.T, ids map[string]string, r *Request) {
	t.Helper()
	if !o.reads() || o.kept() {
		return
	}
	open := o.do(t, Token, ids, r)
	numbers := o.in(open, isNumber)
	hidden := o.do(t, "masked", ids, r)
	if hidden.Code != open.Code {
		t.Errorf("a masked reader: got %d, want %d: %s", hidden.Code, open.Code, hidden.Body)
	}
	for _, number := range numbers {
		if sees(hidden, number) {
			t.Errorf("a masked reader sees %s: %s", number, hidden.Body)
		}
	}
	s := o.answered()
	list := o.searches() || o.takes(openapi3.ParameterInQuery, "cursor")
	if s == nil || !list {
		return
	}
	for name, p := range s.Properties {
		if isNumber(p.Value) {
			o.asked(t, ids, name)
		}
	}
	for _, number := range numbers {
		o.sought(t, ids, number)
	}
}

func sees(w *httptest.ResponseRecorder, number string) bool {
	if len(number) < shortest {
		number = `"` + number + `"`
	}
	return strings.Contains(w.Body.String(), number)
}

// asked checks that a masked reader cannot filter or sort by a field.
func (o *operation) asked(t *testing.T, ids map[string]string, name string) {
	t.Helper()
	requests := []*Request{{Query: url.Values{"sort": {name}}}, {Query: url.Values{name: {"+8613800138000"}}}}
	if o.searches() {
		requests = []*Request{
			{Body: map[string]any{"sort": name}}, {Body: map[string]any{"filter": map[string]any{name: "+8613800138000"}}},
			{Body: map[string]any{"filter": map[string]any{"or": []any{map[string]any{name: map[string]any{"in": []any{"+8613800138000"}}}}}}},
		}
	}
	for _, r := range requests {
		// 400 where nobody can.
		if w := o.do(t, "masked", ids, r); w.Code != http.StatusForbidden && w.Code != http.StatusBadRequest {
			t.Errorf("a masked reader asks by %s with %v: got %d: %s", name, r, w.Code, w.Body)
		}
	}
}

// sought checks that a masked reader does not find an object by its number.
func (o *operation) sought(t *testing.T, ids map[string]string, number string) {
	t.Helper()
	r := &Request{Query: url.Values{"q": {number}}}
	if o.searches() {
		r = &Request{Body: map[string]any{"q": number}}
	}
	var page struct{ Data []any }
	if w := o.do(t, "masked", ids, r); w.Code == http.StatusOK {
		if Want(t, w, http.StatusOK, &page); len(page.Data) > 0 {
			t.Errorf("a masked reader finds by %s: %s", number, w.Body)
		}
	}
}

// expands checks that what can be expanded can be asked for, and nothing else.
func (o *operation) expands(t *testing.T, ids map[string]string, r *Request) {
	t.Helper()
	if !o.takes(openapi3.ParameterInQuery, "expand") {
		return
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(o.answered().Properties)), func(name string) bool {
		p := o.answered().Properties[name].Value
		by, _ := p.Extensions["x-expanded"].(string)
		if by == "" {
			return true
		}
		target, _ := o.answered().Properties[by].Value.Extensions["x-expand"].(string)
		_, mounted := o.Operations[target]
		return !mounted
	})
	with := func(expand ...string) *Request {
		query := maps.Clone(r.Query)
		if query == nil {
			query = url.Values{}
		}
		query["expand"] = expand
		return &Request{Body: r.Body, ContentType: r.ContentType, Query: query}
	}
	o.refused(t, "expand of nothing", Token, ids, with("nothing"), http.StatusBadRequest)
	if len(names) == 0 {
		return
	}
	for _, r := range []*Request{with(names...), with(strings.Join(names, ","))} {
		w := o.do(t, Token, ids, r)
		if err := o.fits(t, w); err != nil || w.Code != http.StatusOK {
			t.Errorf("expand %s: got %d, %v: %s", names, w.Code, err, w.Body)
		}
	}
}

// listed is a page of a list with the ids of its rows.
type listed struct {
	Data []struct {
		ID string `json:"id"`
	} `json:"data"`
	NextCursor string `json:"next_cursor"`
}

// paged checks that the pages of a list, one row each, are the list.
func (o *operation) paged(t *testing.T, ids map[string]string, r *Request) {
	t.Helper()
	list := o.method == http.MethodGet && o.takes(openapi3.ParameterInQuery, "cursor") && o.takes(openapi3.ParameterInQuery, "limit")
	if !list && !o.searches() {
		return
	}
	if o.suite.More != nil {
		o.suite.More(t, o.Server)
	}
	fetch := func(limit int, cursor string) listed {
		query, asked := maps.Clone(r.Query), r.Body
		if list {
			if query == nil {
				query = url.Values{}
			}
			query.Set("limit", strconv.Itoa(limit))
			if cursor != "" {
				query.Set("cursor", cursor)
			}
		} else {
			body := map[string]any{"limit": limit}
			if cursor != "" {
				body["cursor"] = cursor
			}
			asked = body
		}
		var page listed
		Want(t, o.do(t, Token, ids, &Request{Body: asked, ContentType: r.ContentType, Query: query}), http.StatusOK, &page)
		return page
	}
	whole := fetch(1000, "")
	got, cursor := listed{}, ""
	for range len(whole.Data) {
		page := fetch(1, cursor)
		if len(page.Data) != 1 {
			t.Fatalf("a page of %d rows, want 1", len(page.Data))
		}
		got.Data, cursor = append(got.Data, page.Data...), page.NextCursor
	}
	if !slices.Equal(got.Data, whole.Data) || cursor != "" {
		t.Errorf("the pages are %v and end with the cursor %q; the list is %v", got.Data, cursor, whole.Data)
	}
}

// replayed checks that the same request with the same key is answered as the first time, and not done again.
func (o *operation) replayed(t *testing.T, ids map[string]string, r *Request, first *httptest.ResponseRecorder) {
	t.Helper()
	before := o.entries(t)
	again := o.do(t, Token, ids, r, "Idempotency-Key", "resttest")
	if again.Code != first.Code || again.Header().Get("Idempotency-Replayed") != "true" || again.Header().Get("Location") != first.Header().Get("Location") {
		t.Errorf("the second time with one Idempotency-Key: got %d %v, want %d %v: %s", again.Code, again.Header(), first.Code, first.Header(), again.Body)
	}
	if after := o.entries(t); after != before {
		t.Errorf("the second time with one Idempotency-Key left %d audit entries", after-before)
	}
	for _, secret := range o.in(first, func(s *openapi3.Schema) bool { return s.Extensions["x-secret"] == true }) {
		if strings.Contains(again.Body.String(), secret) {
			t.Errorf("the second answer repeats the secret %q", secret)
		}
	}
}

// upserted checks that an upsert has created, and replaces what it has created.
func (o *operation) upserted(t *testing.T, ids map[string]string, r *Request, first *httptest.ResponseRecorder) {
	t.Helper()
	type object struct {
		ID         string `json:"id"`
		ExternalID string `json:"external_id"`
		Etag       string `json:"etag"`
	}
	var made, replaced object
	Want(t, first, http.StatusCreated, &made)
	base, _, _ := strings.Cut(o.path, "/by/")
	if made.ExternalID != ids["external_id"] || first.Header().Get("Location") != base+"/"+made.ID {
		t.Errorf("created %+v at %s", made, first.Header().Get("Location"))
	}
	o.refused(t, "a stale If-Match", Token, ids, r, http.StatusPreconditionFailed, "If-Match", `"another"`)
	before := o.entries(t)
	Want(t, o.do(t, Token, ids, r, "If-Match", `"`+made.Etag+`"`), http.StatusOK, &replaced)
	if replaced.ID != made.ID || replaced.Etag == made.Etag || replaced.ExternalID != made.ExternalID {
		t.Errorf("replaced %+v by %+v", made, replaced)
	}
	if got := o.entries(t) - before; got != 1 {
		t.Errorf("a replacement left %d audit entries", got)
	}
	none := maps.Clone(ids)
	none["external_id"] = "resttest/none"
	o.refused(t, "If-Match where there is nothing", Token, none, r, http.StatusPreconditionFailed, "If-Match", `"1"`)
}

// recorded checks that an entry tells the object before and after, where the operation is about one.
func (o *operation) recorded(t *testing.T, entry rest.AuditEntry, ids map[string]string, w *httptest.ResponseRecorder) {
	t.Helper()
	var object struct {
		ID string `json:"id"`
	}
	if w.Body.Len() > 0 && json.Unmarshal(w.Body.Bytes(), &object) != nil {
		return
	}
	single := strings.HasSuffix(o.path, "}") && !o.upserts()
	item := o.Spec.View.Paths.Value(o.path)
	tells := func(text json.RawMessage, id string) bool {
		var side struct {
			ID string `json:"id"`
		}
		return json.Unmarshal(text, &side) == nil && side.ID == id
	}
	id := ids[strings.Trim(o.path[strings.LastIndex(o.path, "/")+1:], "{}")]
	switch {
	case w.Code == http.StatusCreated && object.ID != "":
		if entry.ObjectID != object.ID || len(entry.Before) > 0 || !tells(entry.After, object.ID) {
			t.Errorf("a creation of %s is told as one of %s: %s, %s", object.ID, entry.ObjectID, entry.Before, entry.After)
		}
	case o.method == http.MethodPatch && single && object.ID == id:
		if entry.ObjectID != id || !tells(entry.Before, id) || !tells(entry.After, id) || bytes.Equal(entry.Before, entry.After) {
			t.Errorf("a change of %s is told as one of %s: %s, %s", id, entry.ObjectID, entry.Before, entry.After)
		}
	case o.method == http.MethodDelete && single && item.Get != nil:
		if entry.ObjectID != id || !tells(entry.Before, id) {
			t.Errorf("a deletion of %s is told as one of %s: %s", id, entry.ObjectID, entry.Before)
		}
	}
}
