package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gorilla/mux"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// uploadFactor is how much longer than another request an upload may take.
const uploadFactor = 10

// ServeHTTP runs the pipeline for one request.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	id := headers(w)
	timeout := e.cfg.Timeout
	if e.stream != "" {
		timeout *= uploadFactor
	}
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if e.fn.out != reflect.TypeFor[Stream]() {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	q := &request{endpoint: e, w: w, r: r.WithContext(ctx), id: id}
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			e.cfg.Log.Error("rest.panic", "request_id", id, "operation", e.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			q.fail(errors.New("panic"))
		}
		e.cfg.Log.LogAttrs(context.WithoutCancel(ctx), q.level(), "rest.answered", slog.String("request_id", id), slog.String("operation", e.id),
			slog.Int("status", q.status), slog.Float64("duration_ms", float64(time.Since(started).Microseconds())/1000),
			slog.String("account_id", q.who.AccountID), slog.String("actor_id", q.who.ActorID()), slog.String("error", q.cause))
		if e.cfg.Observe != nil {
			e.cfg.Observe(ctx, e.id, q.status, time.Since(started))
		}
	}()
	if err := q.run(); err != nil {
		q.fail(err)
	}
}

// request is one request on its way through the pipeline.
type request struct {
	*endpoint
	w      http.ResponseWriter
	r      *http.Request
	id     string
	who    auth.Caller
	path   map[string]string // its parameters
	key    *idempotency      // held while the request runs
	expand []expansion
	status int    // once answered
	cause  string // why it failed, for the log
}

func (q *request) level() slog.Level {
	// A client that left makes everything fail, and is nobody's fault.
	left := errors.Is(q.r.Context().Err(), context.Canceled)
	if q.status >= http.StatusInternalServerError && !left {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// fail answers with an error, unless an answer was begun.
func (q *request) fail(err error) {
	q.cause = err.Error()
	q.forget()
	if q.status != 0 {
		return
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = problem.TooLarge(tooLarge.Limit)
	} else if _, known := errors.AsType[*problem.Problem](err); !known && errors.Is(q.r.Context().Err(), context.DeadlineExceeded) {
		err = problem.Unavailable("this took too long; repeat the request shortly", time.Second)
	}
	q.status = problem.Write(q.w, q.id, err)
}

func (q *request) run() error {
	if err := q.authenticate(); err != nil {
		return err
	}
	if q.permission != "" && !q.who.Can(q.permission) {
		return problem.Forbidden(q.permission)
	}
	q.who.Scope = q.who.Over(auth.Resource(q.permission))
	if err := q.rate(); err != nil {
		return err
	}
	var err error
	if q.path, err = pathParameters(q.r); err != nil {
		return err
	}
	body, err := q.body()
	if err != nil {
		return err
	}
	replayed, err := q.idempotent(body)
	if err != nil || replayed {
		return err
	}
	if err := q.expansionsAsked(); err != nil {
		return err
	}
	if err := q.validate(q.r, q.path, body); err != nil {
		return err
	}
	// The validator has written defaults into the body.
	if body != nil {
		if body, err = io.ReadAll(q.r.Body); err != nil {
			return err
		}
	}
	if isUpsert(q.method, q.endpoint.path) {
		if body, err = withExternalID(body, q.path[externalID]); err != nil {
			return err
		}
	}
	in, err := q.decode(q.r, q.path, body)
	if err != nil {
		return err
	}
	return q.do(in)
}

// do calls the operation's function and answers. What the function changes is audited in the transaction that changes
// it, anything else afterwards.
func (q *request) do(in reflect.Value) error {
	ctx := q.r.Context()
	if account := q.who.Scope.AccountID(); account != "" {
		ctx = db.AsAccount(ctx, account)
		q.r = q.r.WithContext(ctx)
	}
	journal := db.NewJournal(q.seal)
	if q.audited {
		ctx = db.WithJournal(ctx, journal)
	}
	out, err := q.fn.call(ctx, q.who, in)
	if err == nil {
		err = q.answer(out, journal)
	}
	if err != nil && q.status == 0 && journal.Sealed() {
		// The audit tells of a change that was made, though what should have followed it was not.
		q.auditFailure(journal, err)
	}
	return err
}

func (q *request) authenticate() error {
	from := address(q.r.RemoteAddr)
	if q.permission == "" {
		q.who = auth.Caller{Address: from, RequestID: q.id}
		return nil
	}
	c := Credential{Operation: q.endpoint.id, CSRF: q.r.Header.Get("X-CSRF-Token"), Method: q.r.Method, From: from}
	if scheme, token, _ := strings.Cut(q.r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		c.Bearer = strings.TrimSpace(token)
	} else if cookie, err := q.r.Cookie(SessionCookie); err == nil && scheme == "" {
		c.Session = cookie.Value
	} else if token := q.r.URL.Query().Get(tokenParameter); q.query[tokenParameter] && scheme == "" && strings.HasPrefix(token, tokenPrefix) {
		c.Bearer = token
	}
	if c.Bearer == "" && c.Session == "" {
		return problem.Unauthenticated("send the header Authorization: Bearer sk_… with an API key of your account, or sign in")
	}
	who, err := q.cfg.Authenticate(q.r.Context(), c)
	if err != nil {
		return err
	}
	who.Address, who.RequestID = from, q.id
	q.who = who
	return nil
}

// A browser's EventSource sends no header of ours: an operation that declares the query parameter "token" takes one
// there. Only short-lived ones, which open that operation alone: a key has no place in a URL.
const (
	tokenParameter = "token"
	tokenPrefix    = "tok_"
)

// address is the peer's address, without a zone.
func address(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// rate takes a token of the caller, or of the address where there is no caller.
func (q *request) rate() error {
	perSecond := q.cfg.RatePerSecond
	burst := q.cfg.Burst
	if q.who.RatePerSecond > 0 {
		perSecond, burst = q.who.RatePerSecond, 0
	}
	if burst == 0 {
		burst = max(1, int(math.Ceil(2*perSecond)))
	}
	key := "api:" + q.who.ActorID()
	if q.permission == "" {
		key = "api:" + q.who.Address.String()
	}
	t, err := q.cfg.Bus.Take(q.r.Context(), key, perSecond, burst)
	if err != nil {
		// A bus that is away must not close the API.
		q.cfg.Log.Warn("rest.rate_unknown", "request_id", q.id, "error", err.Error())
		return nil
	}
	h := q.w.Header()
	h.Set("RateLimit-Limit", strconv.Itoa(burst))
	h.Set("RateLimit-Remaining", strconv.Itoa(t.Remaining))
	h.Set("RateLimit-Reset", strconv.Itoa(int(math.Ceil(t.Full.Seconds()))))
	if !t.OK {
		return problem.TooMany("more requests than the rate of this key allows; wait as long as Retry-After says", max(t.Wait, time.Millisecond))
	}
	return nil
}

// pathParameters undoes the encoding that the router left in place, so that an id may hold a slash.
func pathParameters(r *http.Request) (map[string]string, error) {
	path := map[string]string{}
	for name, encoded := range mux.Vars(r) {
		text, err := url.PathUnescape(encoded)
		if err != nil {
			return nil, problem.InvalidField(name, "encoding", "is not well-formed; encode its special characters")
		}
		path[name] = text
	}
	return path, nil
}

// body reads the body of an operation that is not a stream, nil when it is one.
func (q *request) body() ([]byte, error) {
	if q.stream != "" {
		q.r.Body = http.MaxBytesReader(q.w, q.r.Body, q.cfg.MaxUpload)
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, q.cfg.MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, err
	}
	if err != nil {
		return nil, problem.Invalid("the body ended early; send it again")
	}
	if bytes.Contains(body, []byte(`\u0000`)) {
		var value any
		if json.Unmarshal(body, &value) == nil && holdsNUL(value) {
			return nil, problem.Invalid("a text in the body holds the character NUL; remove it")
		}
	}
	if body == nil {
		body = []byte{}
	}
	return body, nil
}

func holdsNUL(value any) bool {
	switch v := value.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		for _, each := range v {
			if holdsNUL(each) {
				return true
			}
		}
	case map[string]any:
		for name, each := range v {
			if strings.ContainsRune(name, 0) || holdsNUL(each) {
				return true
			}
		}
	}
	return false
}

// identified is what has an id and an etag: db.Row.
type identified interface {
	Identity() (id, etag string)
}

// answer expands, masks, audits, keeps for a repetition, and writes.
func (q *request) answer(out any, journal *db.Journal) error {
	if stream, ok := out.(Stream); ok {
		if q.audited && !journal.Sealed() {
			if err := q.audit(http.StatusOK, q.pathID(), nil); err != nil {
				return err
			}
		}
		q.status = http.StatusOK
		return stream(q.w, q.r)
	}
	status, header, body := q.endpoint.status, http.Header{}, out
	switch a := out.(type) {
	case None:
		body = nil
	case Answer:
		status, body = a.Status, a.Body
		if a.Header != nil {
			header = a.Header.Clone()
		}
		if q.spec.Responses.Status(status) == nil {
			return fmt.Errorf("operation %s answered %d, which its specification does not have", q.endpoint.id, status)
		}
	}
	objectID := q.pathID()
	if who, ok := body.(identified); ok {
		id, etag := who.Identity()
		objectID = id
		if etag != "" {
			header.Set("ETag", strconv.Quote(etag))
		}
		if status == http.StatusCreated && header.Get("Location") == "" {
			header.Set("Location", q.collection()+"/"+url.PathEscape(id))
		}
	}
	var text, kept []byte
	if body != nil {
		var err error
		if text, kept, err = q.encode(status, body); err != nil {
			return err
		}
		header.Set("Content-Type", "application/json")
	}
	if q.audited && !journal.Sealed() {
		if err := q.audit(status, objectID, kept); err != nil {
			return err
		}
	}
	if err := q.keep(status, header, kept); err != nil {
		q.cfg.Log.Error("rest.idempotency_lost", "request_id", q.id, "error", err.Error())
	}
	q.write(status, header, text)
	return nil
}

// collection is the path that objects made by this request lie below.
func (q *request) collection() string {
	path := q.r.URL.EscapedPath()
	if isUpsert(q.method, q.endpoint.path) {
		return path[:strings.LastIndex(path, byExternalID)]
	}
	return path
}

func (q *request) write(status int, header http.Header, text []byte) {
	q.status = status
	h := q.w.Header()
	for name, values := range header {
		h[name] = values
	}
	q.w.WriteHeader(status)
	if len(text) > 0 {
		// The client may be gone; there is nobody left to tell.
		_, _ = q.w.Write(text)
	}
}

// pathID is the id that the path ends on or is below: of /v1/calls/{call_id}/actions the call's.
func (q *request) pathID() string { return q.path[lastName(q.endpoint.path)] }

// lastName is the name of a path's last parameter.
func lastName(template string) string {
	at := strings.LastIndex(template, "{")
	if at < 0 {
		return ""
	}
	name, _, _ := strings.Cut(template[at+1:], "}")
	return name
}

// encode gives the answer as the caller may see it, and as it may be kept: unmasked, but without secrets.
func (q *request) encode(status int, body any) (text, kept []byte, err error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, nil, fmt.Errorf("encode: %w", err)
	}
	if text, err = q.expanded(buffer.Bytes()); err != nil {
		return nil, nil, err
	}
	schema := q.answerSchema(status)
	kept = text
	if q.audited || q.key != nil {
		if kept, err = rewrite(text, schema, redact); err != nil {
			return nil, nil, err
		}
	}
	if q.who.Mask != (auth.Mask{}) {
		if text, err = rewrite(text, schema, masking(q.who.Mask)); err != nil {
			return nil, nil, err
		}
	}
	return text, kept, nil
}

func (q *request) answerSchema(status int) *openapi3.Schema {
	return jsonSchema(q.spec, status)
}

func jsonSchema(operation *openapi3.Operation, status int) *openapi3.Schema {
	r := operation.Responses.Status(status)
	if r == nil {
		return nil
	}
	m := r.Value.Content.Get("application/json")
	if m == nil || m.Schema == nil {
		return nil
	}
	return m.Schema.Value
}

// redacted stands where a secret was.
const redacted = "[redacted]"

func redact(s *openapi3.Schema, value any) any {
	if secret, _ := s.Extensions["x-secret"].(bool); (secret || s.WriteOnly) && value != nil {
		return redacted
	}
	return value
}

// rewrite passes every value that the schema describes through fn.
func rewrite(text []byte, schema *openapi3.Schema, fn func(*openapi3.Schema, any) any) ([]byte, error) {
	if schema == nil {
		return text, nil
	}
	var value any
	if err := decodeNumbers(text, &value); err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	out, err := json.Marshal(walk(value, schema, fn))
	if err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	return out, nil
}

func walk(value any, s *openapi3.Schema, fn func(*openapi3.Schema, any) any) any {
	value = fn(s, value)
	for _, list := range []openapi3.SchemaRefs{s.AllOf, s.AnyOf, s.OneOf} {
		for _, part := range list {
			value = walk(value, part.Value, fn)
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for name, each := range v {
			if p := s.Properties[name]; p != nil {
				v[name] = walk(each, p.Value, fn)
			} else if more := s.AdditionalProperties.Schema; more != nil {
				v[name] = walk(each, more.Value, fn)
			}
		}
	case []any:
		if s.Items != nil {
			for i := range v {
				v[i] = walk(v[i], s.Items.Value, fn)
			}
		}
	}
	return value
}
