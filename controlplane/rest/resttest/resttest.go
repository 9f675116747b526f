// Package resttest checks of every operation, unasked, what the REST API promises of all: no key is 401, a missing
// permission 403, another account's object and another owner's 404, an unknown field or parameter 400, a stale If-Match
// 412; an Idempotency-Key answers the second time as the first, an upsert replaces what it has created; a masked reader
// sees no number and cannot ask about any; the pages of a list are the list; the answer is what the specification says,
// a change leaves one audit entry that tells of it without secrets, and Go's structs are the specification's schemas.
// Which operations were called at all it writes down for Uncalled. What an operation does is left to its noun's own
// tests.
package resttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/openapi"
)

// The tokens that Mount's servers know.
const (
	Token = "all"   // every permission, in Account
	Other = "other" // every permission, in OtherAccount
	// A token "only:calls.read,calls.write" has these permissions in Account, "but:calls.read" all but this one,
	// "masked" all with numbers hidden, and "own" all, over rows of the user OwnUser alone.
)

// OwnUser is the user of the token "own".
const OwnUser = "usr_own"

// The accounts that Mount makes.
const (
	Account      = "acc_test"
	OtherAccount = "acc_other"
)

// Caller is who makes the requests of Token.
func Caller() auth.Caller {
	return auth.Caller{AccountID: Account, KeyID: "key_all", Permissions: []string{"*"}, Scope: auth.Account(Account), RatePerSecond: 1e6}
}

// Server is a mounted API for a test.
type Server struct {
	Handler    http.Handler
	Spec       *openapi.Spec
	Operations map[string]rest.Operation
	DB         *db.DB
}

// Mount makes the two accounts, unless they are there, and mounts the operations. Of the specification only what has a function is kept, so
// that one noun can be tested alone.
func Mount(t *testing.T, d *db.DB, spec *openapi.Spec, operations map[string]rest.Operation) *Server {
	t.Helper()
	for _, id := range []string{Account, OtherAccount} {
		_, err := d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
			VALUES (?, ?, '{}', ?, ?, '1', ?, 'CN', '{}') ON CONFLICT DO NOTHING`, id, id, db.Now(), db.Now(), id).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &Server{Spec: only(spec, operations), Operations: operations, DB: d}
	s.Handler, err = rest.Mount(rest.Config{
		DB: d, Bus: b, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Authenticate: authenticator(permissions(spec)), Observe: Called(t),
	}, s.Spec, operations)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// permissions are all that a specification asks for.
func permissions(spec *openapi.Spec) []string {
	var all []string
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			if p, _ := o.Extensions["x-permission"].(string); p != "none" {
				all = append(all, p)
			}
		}
	}
	return all
}

func authenticator(all []string) func(context.Context, rest.Credential) (auth.Caller, error) {
	return func(_ context.Context, c rest.Credential) (auth.Caller, error) {
		return authenticate(c.Bearer, all)
	}
}

func authenticate(token string, all []string) (auth.Caller, error) {
	who := Caller()
	kind, list, _ := strings.Cut(token, ":")
	switch kind {
	case Token:
	case Other:
		who.AccountID, who.KeyID, who.Scope = OtherAccount, "key_other", auth.Account(OtherAccount)
	case "only":
		who.KeyID, who.Permissions = "key_only", strings.Split(list, ",")
	case "but":
		who.KeyID = "key_but"
		who.Permissions = slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == list })
	case "masked":
		who.KeyID, who.Mask = "key_masked", auth.Mask{Numbers: true}
	case "own":
		who.KeyID, who.UserID, who.Reach = "", OwnUser, map[string]auth.Rows{"*": {Users: []string{OwnUser}}}
	default:
		return auth.Caller{}, problem.Unauthenticated("this key is not known")
	}
	return who, nil
}

// only leaves of a specification the operations that have a function.
func only(spec *openapi.Spec, operations map[string]rest.Operation) *openapi.Spec {
	view := *spec.View
	view.Paths = openapi3.NewPaths()
	for path, item := range spec.View.Paths.Map() {
		kept := openapi3.PathItem{Parameters: item.Parameters}
		for method, o := range item.Operations() {
			if _, ok := operations[o.OperationID]; ok {
				kept.SetOperation(method, o)
			}
		}
		if len(kept.Operations()) > 0 {
			view.Paths.Set(path, &kept)
		}
	}
	return &openapi.Spec{YAML: spec.YAML, View: &view}
}

// Do makes a request: body is marshalled unless it is nil, an io.Reader or a string; headers are name, value, name …
func (s *Server) Do(t *testing.T, token, method, target string, body any, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader = b
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, reader)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	return w
}

// Want fails the test unless an answer has the status, and reads its JSON into value where that is not nil.
func Want(t *testing.T, w *httptest.ResponseRecorder, status int, value any) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("got %d, want %d: %s", w.Code, status, w.Body)
	}
	if value == nil {
		return
	}
	if err := json.Unmarshal(w.Body.Bytes(), value); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
}

// Suite is what the checks of every operation need from a noun.
type Suite struct {
	// Objects makes, in Account, what the paths name, and gives its ids by path parameter: {"call_id": "call_01J…"}.
	// It is called anew for each operation.
	Objects func(t *testing.T, s *Server) map[string]string
	// Request gives the request of an operation where the example of the specification does not do: because it
	// refers to another object, or is not JSON. nil, and a nil answer, take the example.
	Request func(t *testing.T, s *Server, operation string, ids map[string]string) *Request
	// More makes further objects like those of Objects, for the paging of lists. It may be nil.
	More func(t *testing.T, s *Server)
	// Except names checks that an operation is left out of. Say why beside each.
	Except map[string][]Check
}

// Check is a check that an operation may be left out of.
type Check string

// The checks that may be left out.
const (
	Stale    Check = "stale"    // another If-Match is 412
	Narrowed Check = "narrowed" // an object of nobody is 404 for who sees only their own
	Masked   Check = "masked"   // no number is seen by, or can be asked about by, a masked reader
	Paged    Check = "paged"    // the pages of a list are the list
	Replayed Check = "replayed" // an Idempotency-Key answers as the first time
	Recorded Check = "recorded" // the audit tells the object before and after
)

// Request is a request's body and query.
type Request struct {
	Body        any // marshalled, unless it is a string
	ContentType string
	Query       url.Values
}

// operation is one operation on its way through the suite.
type operation struct {
	*Server
	suite  Suite
	method string
	path   string
	spec   *openapi3.Operation
}

// Run checks every operation of a server, on the server that mount makes for each check anew.
func Run(t *testing.T, mount func(t *testing.T) *Server, suite Suite) {
	t.Helper()
	first := mount(t)
	Structs(t, first.Spec, first.Operations)
	for _, path := range slices.Sorted(maps.Keys(first.Spec.View.Paths.Map())) {
		for method, spec := range first.Spec.View.Paths.Value(path).Operations() {
			t.Run(spec.OperationID, func(t *testing.T) {
				o := &operation{Server: mount(t), suite: suite, method: method, path: path, spec: spec}
				o.check(t)
			})
		}
	}
}

func (o *operation) check(t *testing.T) {
	ids := map[string]string{}
	if o.suite.Objects != nil {
		ids = maps.Clone(o.suite.Objects(t, o.Server))
	}
	if o.upserts() {
		ids["external_id"] = "resttest/1"
	}
	request := o.request(t, ids)
	o.credentials(t, ids, request)
	o.malformed(t, ids, request)
	o.unless(t, Stale, func() { o.stale(t, ids, request) })
	o.unless(t, Narrowed, func() { o.narrowed(t, ids, request) })
	o.unless(t, Masked, func() { o.masked(t, ids, request) })
	o.expands(t, ids, request)
	o.unless(t, Paged, func() { o.paged(t, ids, request) })

	before := o.entries(t)
	headers := []string{}
	if o.replays() {
		headers = []string{"Idempotency-Key", "resttest"}
	}
	w := o.do(t, Token, ids, request, headers...)
	if w.Code >= http.StatusBadRequest {
		t.Fatalf("got %d: %s", w.Code, w.Body)
	}
	if err := o.fits(t, w); err != nil {
		t.Errorf("the answer is not what the specification says: %v\n%s", err, w.Body)
	}
	o.audited(t, before, ids, request, w)
	if o.replays() {
		o.unless(t, Replayed, func() { o.replayed(t, ids, request, w) })
	}
	if o.upserts() {
		o.upserted(t, ids, request, w)
	}
}

func (o *operation) unless(t *testing.T, check Check, fn func()) {
	t.Helper()
	if !slices.Contains(o.suite.Except[o.spec.OperationID], check) {
		fn()
	}
}

// credentials checks who is let in, and that another account has nothing to do with ours.
func (o *operation) credentials(t *testing.T, ids map[string]string, request *Request) {
	t.Helper()
	permission, _ := o.spec.Extensions["x-permission"].(string)
	if permission == "none" {
		return
	}
	o.refused(t, "no key", "", ids, request, http.StatusUnauthorized)
	o.refused(t, "unknown key", "sk_unknown", ids, request, http.StatusUnauthorized)
	o.refused(t, "permission missing", "but:"+permission, ids, request, http.StatusForbidden)
	switch {
	case o.upserts(): // makes the other account's own
	case strings.Contains(o.path, "{"):
		o.refused(t, "another account", Other, ids, request, http.StatusNotFound)
	case o.reads():
		o.hidden(t, "another account", Other, ids, request)
	}
}

// malformed checks that what the specification does not know is refused.
func (o *operation) malformed(t *testing.T, ids map[string]string, request *Request) {
	t.Helper()
	unknown := *request
	unknown.Query = url.Values{"unknown_parameter": {"1"}}
	o.refused(t, "unknown parameter", Token, ids, &unknown, http.StatusBadRequest)
	if object, ok := request.Body.(map[string]any); ok {
		extra := *request
		body := maps.Clone(object)
		body["unknown_field"] = 1
		extra.Body = body
		o.refused(t, "unknown field", Token, ids, &extra, http.StatusBadRequest)
	}
}

// request is the noun's, or the example.
func (o *operation) request(t *testing.T, ids map[string]string) *Request {
	t.Helper()
	if o.suite.Request != nil {
		if r := o.suite.Request(t, o.Server, o.spec.OperationID, ids); r != nil {
			return r
		}
	}
	if o.spec.RequestBody == nil {
		return &Request{}
	}
	media := o.spec.RequestBody.Value.Content.Get("application/json")
	if media == nil {
		t.Fatalf("%s: the suite's Request must make the body", o.spec.OperationID)
	}
	example := media.Example
	for _, name := range slices.Sorted(maps.Keys(media.Examples)) {
		if example == nil {
			example = media.Examples[name].Value.Value
		}
	}
	// A copy with the types of JSON.
	text, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	var body any
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatal(err)
	}
	return &Request{Body: body}
}

func (o *operation) target(ids map[string]string, query url.Values) string {
	path := o.path
	for name, id := range ids {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(id))
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

func (o *operation) do(t *testing.T, token string, ids map[string]string, r *Request, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	if r.ContentType != "" {
		headers = append([]string{"Content-Type", r.ContentType}, headers...)
	}
	return o.Do(t, token, o.method, o.target(ids, r.Query), r.Body, headers...)
}

// refused checks that a request is answered with a problem of this status, and leaves no trace.
func (o *operation) refused(t *testing.T, why, token string, ids map[string]string, r *Request, status int, headers ...string) {
	t.Helper()
	before := o.entries(t)
	w := o.do(t, token, ids, r, headers...)
	if w.Code != status {
		t.Errorf("%s: got %d, want %d: %s", why, w.Code, status, w.Body)
		return
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: Content-Type %q", why, got)
	}
	if err := o.fits(t, w); err != nil {
		t.Errorf("%s: %v", why, err)
	}
	if after := o.entries(t); after != before {
		t.Errorf("%s: left %d audit entries", why, after-before)
	}
}

// hidden checks that somebody's list does not show our objects.
func (o *operation) hidden(t *testing.T, who, token string, ids map[string]string, r *Request) {
	t.Helper()
	w := o.do(t, token, ids, r)
	for name, id := range ids {
		if strings.Contains(w.Body.String(), id) {
			t.Errorf("%s sees %s %s: %s", who, name, id, w.Body)
		}
	}
}

// fits validates an answer against the specification.
func (o *operation) fits(t *testing.T, w *httptest.ResponseRecorder) error {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), o.method, o.path, nil)
	return openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r,
			Route:   &routers.Route{Spec: o.Spec.View, Path: o.path, PathItem: o.Spec.View.Paths.Value(o.path), Method: o.method, Operation: o.spec},
		},
		Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
}

func (o *operation) entries(t *testing.T) int64 {
	t.Helper()
	n, err := o.DB.Read().NewSelect().Model((*rest.AuditEntry)(nil)).Where("account_id IN (?, ?)", Account, OtherAccount).Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// audited checks that a change, and a read that is kept, left one entry that tells of it, and other reads none.
func (o *operation) audited(t *testing.T, before int64, ids map[string]string, r *Request, w *httptest.ResponseRecorder) {
	t.Helper()
	want := int64(0)
	if o.kept() {
		want = 1
	}
	if got := o.entries(t) - before; got != want {
		t.Errorf("left %d audit entries, want %d", got, want)
		return
	}
	if want == 0 {
		return
	}
	var entry rest.AuditEntry
	err := o.DB.Read().NewSelect().Model(&entry).Where("request_id = ?", w.Header().Get("Request-Id")).Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if entry.Operation != o.spec.OperationID || entry.AccountID != Account || entry.ActorID != Caller().KeyID || entry.Status != w.Code {
		t.Errorf("the audit entry tells of something else: %s", describe(entry))
	}
	o.unless(t, Recorded, func() { o.recorded(t, entry, ids, w) })
	for _, secret := range o.secrets(t, r, w) {
		if strings.Contains(string(entry.Before)+string(entry.After), secret) {
			t.Errorf("the audit entry holds the secret %q: %s %s", secret, entry.Before, entry.After)
		}
	}
}

func describe(e rest.AuditEntry) string {
	return fmt.Sprintf("%s by %s in %s on %q: %d", e.Operation, e.ActorID, e.AccountID, e.ObjectID, e.Status)
}
