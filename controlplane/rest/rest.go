// Package rest binds the operations of the OpenAPI specification to Go functions. It owns what is the same for all of
// them: authenticate, permission, rate, idempotency, validate, decode, call, mask, encode, audit. What an operation
// does is left to the noun that has the function; looking up a credential to the function in Config.
package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gorilla/mux"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/openapi"
)

// Config is what the operations share.
type Config struct {
	DB  *db.DB
	Bus *bus.Bus
	Log *slog.Logger
	// Authenticate finds who sent a request. Any Problem it returns is answered; so a key that is unknown, expired or
	// not allowed from the address is an Unauthenticated. Address and RequestID of the Caller are set afterwards.
	Authenticate func(ctx context.Context, c Credential) (auth.Caller, error)
	// RatePerSecond and Burst are the token bucket of a caller that has no rate of its own. Zero means 50 and twice
	// the rate.
	RatePerSecond float64
	Burst         int
	// Timeout is the most one request may take, uploads ten times that. Zero means 30 s.
	Timeout time.Duration
	// MaxBody is the most bytes of a JSON body, and MaxUpload of one that is streamed. Zero means 1 MiB and 100 MiB.
	MaxBody   int64
	MaxUpload int64
	// Observe, when set, is told each request that was answered: its context, the operation's id, the status and how long
	// it took. It must not block.
	Observe func(ctx context.Context, operation string, status int, took time.Duration)
}

// Credential is what a request was sent with. One of Bearer and Session is set.
type Credential struct {
	Bearer  string // of the header Authorization: Bearer
	Session string // of the cookie SessionCookie, when there is no such header
	CSRF    string // of the header X-CSRF-Token
	Method  string // a session may only read (GET, HEAD) without its CSRF token
	From    netip.Addr
	// Operation is the operationId of what is asked for: some credentials are for one thing alone.
	Operation string
}

// SessionCookie holds a person's session. It is HttpOnly, and SameSite=Strict.
const SessionCookie = "hookswitch_session"

func (c Config) withDefaults() (Config, error) {
	if c.DB == nil || c.Bus == nil || c.Log == nil || c.Authenticate == nil {
		return c, errors.New("rest: DB, Bus, Log and Authenticate are needed")
	}
	if c.RatePerSecond == 0 {
		c.RatePerSecond = 50
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.MaxUpload == 0 {
		c.MaxUpload = 100 << 20
	}
	return c, nil
}

// Mount makes the handler of every operation in the specification. It fails when an operation has no function, a
// function no operation, or a function's In does not fit: so a server that starts has all its routes.
func Mount(cfg Config, spec *openapi.Spec, operations map[string]Operation) (http.Handler, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	router := mux.NewRouter().UseEncodedPath().SkipClean(true)
	bound := map[string]*endpoint{}
	var errs []error
	// In order, so that /v1/calls/batch is matched before /v1/calls/{call_id}: "{" sorts after every letter.
	for _, path := range slices.Sorted(maps.Keys(spec.View.Paths.Map())) {
		item := spec.View.Paths.Value(path)
		methods := methods{}
		for method, operation := range item.Operations() {
			// Authenticating is ours; the validator would read a whole upload into memory before it.
			open := *operation
			open.Security = openapi3.NewSecurityRequirements()
			open.Parameters = slices.DeleteFunc(slices.Clone(operation.Parameters), func(p *openapi3.ParameterRef) bool { return isExpand(p.Value) })
			e := &endpoint{cfg: cfg, id: operation.OperationID, method: method, path: path, spec: operation,
				route: &routers.Route{Spec: spec.View, Path: path, PathItem: item, Method: method, Operation: &open}}
			fn, ok := operations[e.id]
			if !ok {
				errs = append(errs, fmt.Errorf("rest: %s %s: no function for the operation %q", method, path, e.id))
				continue
			}
			if err := e.bind(fn); err != nil {
				errs = append(errs, fmt.Errorf("rest: %s: %w", e.id, err))
				continue
			}
			bound[e.id] = e
			methods[method] = e
		}
		router.Path(path).Handler(methods)
	}
	for _, id := range slices.Sorted(maps.Keys(operations)) {
		if bound[id] == nil && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("rest: the function %q has no operation in the specification", id))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	schemas := objectSchemas(bound)
	for _, e := range bound {
		e.schemas, e.expansions = schemas, expansions(e, bound)
	}
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := headers(w)
		problem.Write(w, id, problem.NotFound("there is no "+r.URL.Path+"; the paths are listed at /docs"))
	})
	return router, nil
}

// methods are the operations of one path.
type methods map[string]*endpoint

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, ok := m[r.Method]
	if !ok && r.Method == http.MethodHead {
		e, ok = m[http.MethodGet]
	}
	if !ok {
		id := headers(w)
		allowed := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
		w.Header().Set("Allow", allowed)
		problem.Write(w, id, problem.New(problem.CodeMethodNotAllowed, "this path takes "+allowed))
		return
	}
	e.ServeHTTP(w, r)
}

// headers sets what every answer has, and gives the new id of the request.
func headers(w http.ResponseWriter) (requestID string) {
	requestID = db.NewID("req")
	h := w.Header()
	h.Set("Request-Id", requestID)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return requestID
}

// endpoint is one operation, prepared.
type endpoint struct {
	cfg    Config
	id     string
	method string
	path   string
	spec   *openapi3.Operation
	route  *routers.Route

	fn         Operation
	permission string // "" for none
	audited    bool
	stream     string // "", "multipart" or "stream"
	options    *openapi3filter.Options
	query      map[string]bool // the declared query parameters
	fields     []field
	status     int // of a plain answer
	expansions map[string]expansion
	schemas    map[reflect.Type]*openapi3.Schema // of what the operations answer with, for the audit
}

// bind prepares an endpoint for a function.
func (e *endpoint) bind(fn Operation) error {
	e.fn = fn
	permission, _ := e.spec.Extensions["x-permission"].(string)
	switch permission {
	case "":
		return errors.New("x-permission is missing; it may be none")
	case "none":
	default:
		e.permission = permission
	}
	e.audited = e.method != http.MethodGet && e.permission != "" && !isSearch(e.method, e.path)
	if audit, says := e.spec.Extensions["x-audit"].(bool); says {
		e.audited = audit
	}
	e.query = map[string]bool{}
	for _, p := range e.parameters() {
		if p.In == openapi3.ParameterInQuery {
			e.query[p.Name] = true
		}
	}
	var err error
	if e.fields, e.stream, err = fields(fn.in, e.path, e.parameters(), e.spec.RequestBody); err != nil {
		return err
	}
	if e.status, err = e.success(); err != nil {
		return err
	}
	e.options = &openapi3filter.Options{
		MultiError:                        true,
		ExcludeRequestBody:                e.stream != "",
		RejectWhenRequestBodyNotSpecified: true,
		SchemaValidationOptions:           append(formats(), openapi3.EnableFormatValidation(), openapi3.DisableSchemaErrorDetails()),
	}
	return nil
}

func (e *endpoint) parameters() []*openapi3.Parameter {
	var all []*openapi3.Parameter
	for _, ref := range e.route.PathItem.Parameters {
		if e.spec.Parameters.GetByInAndName(ref.Value.In, ref.Value.Name) == nil {
			all = append(all, ref.Value)
		}
	}
	for _, ref := range e.spec.Parameters {
		all = append(all, ref.Value)
	}
	return all
}

// isSearch reports whether an operation is a list whose parameters are a body: it reads.
func isSearch(method, path string) bool {
	return method == http.MethodPost && strings.HasSuffix(path, "/search")
}

// success is the status of a plain answer: the one below 400 that the spec has. An operation with several must
// have an Answer.
func (e *endpoint) success() (int, error) {
	var found []int
	for status := http.StatusOK; status < http.StatusBadRequest; status++ {
		if e.spec.Responses.Status(status) != nil {
			found = append(found, status)
		}
	}
	switch {
	case e.fn.out == reflect.TypeFor[Answer]():
		return 0, nil
	case len(found) != 1:
		return 0, fmt.Errorf("has %d answers below 400; with other than one the function must return rest.Answer", len(found))
	case (found[0] == http.StatusNoContent) != (e.fn.out == reflect.TypeFor[None]()):
		return 0, fmt.Errorf("answers %d, but the function returns %s", found[0], e.fn.out)
	}
	return found[0], nil
}
