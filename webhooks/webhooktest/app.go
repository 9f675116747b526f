// Package webhooktest owns a scripted application for tests: it answers call requests as it was told, behaves badly
// on demand, verifies every signature and the shape of every trigger and event, and remembers what it was asked. It works over real sockets and, for tests in
// virtual time, over connections in memory. What a right answer is, is left to package webhooks.
package webhooktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// patience is how long Expect waits for a request; virtual time inside a synctest bubble.
const patience = 20 * time.Second

// remembered is how many requests may wait for an Expect.
const remembered = 4096

// App is a scripted application. It is an http.Handler; Start serves it on loopback, Transport in memory. All methods
// may be called from any goroutine.
type App struct {
	// URL is the application's base, without a final slash: http://app.test until Start is called.
	URL string

	t       testing.TB
	closing chan struct{} // closed before the servers are, so that no behaviour holds them up
	arrived chan *Request

	mu      sync.Mutex // guards what follows
	secrets []string
	scripts map[string]*script
	all     []Request
	passed  []Request // that have arrived, and that ExpectAt has left for later
	refuse  int       // connections to refuse, in memory
	ignore  int       // connections to leave unanswered, in memory
	stopped bool
}

// script is what is answered under one key, in turn; the last answer repeats.
type script struct {
	answers []any
	asked   int
}

// Request is what the application was asked.
type Request struct {
	At     time.Time
	Method string
	Path   string // without query
	URL    string // as requested
	Header http.Header
	Body   []byte
	Call   webhooks.CallRequest // of a JSON request
	Form   url.Values           // of a form or a GET: Twilio's parameters
}

// New returns an application that answers every request with an empty program. It ends with the test.
func New(t testing.TB) *App {
	return &App{URL: "http://app.test", t: t, closing: make(chan struct{}), arrived: make(chan *Request, remembered), scripts: map[string]*script{}}
}

// stop ends what still waits in a handler.
func (a *App) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped {
		a.stopped = true
		close(a.closing)
	}
}

// Secrets makes the application verify the signature of every request with these; a request that does not fit fails
// the test and is answered 401.
func (a *App) Secrets(secrets ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = secrets
}

// Answer says what to answer under a key: a path (/menu) or, where no path fits, the reason of a JSON request
// (incoming, action …), or * for everything else. Several answers are given in turn, and the last one repeats. An
// answer is
//
//	a string that begins with { or [         a program in JSON
//	a string that begins with <              TwiML
//	a webhooks.Program or []Instruction      a program
//	a Response                               exactly this
//	a Behaviour                              Hang, Reset, Slow …
//	func(Request) any                        one of these, made when it is asked
//	nil                                      204
//
// Any other string is plain text.
func (a *App) Answer(key string, answers ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scripts[key] = &script{answers: answers}
}

// Requests returns all that was asked so far.
func (a *App) Requests() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

// Expect takes the next request, waiting for it, and fails the test unless its reason or path is what is given and
// each named value is there: app.Expect("action", "digits", "1"). A name is looked for in the request, its trigger,
// its call and its error, or among the form's parameters; a dotted path (state.lang) begins at the request.
func (a *App) Expect(what string, pairs ...string) Request {
	a.t.Helper()
	r, ok := a.take(func(Request) bool { return true })
	if !ok {
		a.t.Fatalf("the application was not asked; expected %s", what)
	}
	if what != string(r.Call.Reason) && what != r.Path {
		a.t.Fatalf("the application was asked %s %s (%s), expected %s", r.Method, r.Path, r.Call.Reason, what)
	}
	a.compare(what, r, pairs)
	return r
}

// ExpectAt takes the next request to a path, waiting for it, and fails the test unless each named value is there. Those to
// other paths are left for later. It is for the requests of several calls: each call's are in order, and between two
// calls there is none.
func (a *App) ExpectAt(path string, pairs ...string) Request {
	a.t.Helper()
	r, ok := a.take(func(r Request) bool { return r.Path == path })
	if !ok {
		a.t.Fatalf("the application was not asked at %s", path)
	}
	a.compare(path, r, pairs)
	return r
}

// take takes the first request that fits, waiting for it; false when none comes in time.
func (a *App) take(fits func(Request) bool) (Request, bool) {
	a.mu.Lock()
	if i := slices.IndexFunc(a.passed, fits); i >= 0 {
		r := a.passed[i]
		a.passed = slices.Delete(a.passed, i, i+1)
		a.mu.Unlock()
		return r, true
	}
	a.mu.Unlock()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case r := <-a.arrived:
			if fits(*r) {
				return *r, true
			}
			a.mu.Lock()
			a.passed = append(a.passed, *r)
			a.mu.Unlock()
		case <-timeout.C:
			return Request{}, false
		}
	}
}

// compare fails the test unless a request has the named values.
func (a *App) compare(what string, r Request, pairs []string) {
	a.t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		if got := r.Value(pairs[i]); got != pairs[i+1] {
			a.t.Errorf("request %s: %s is %q, expected %q", what, pairs[i], got, pairs[i+1])
		}
	}
}

// ExpectNothing fails the test when there are requests that no Expect has taken.
func (a *App) ExpectNothing() {
	a.t.Helper()
	a.mu.Lock()
	left := a.passed
	a.passed = nil
	a.mu.Unlock()
	select {
	case r := <-a.arrived:
		left = append(left, *r)
	default:
	}
	for _, r := range left {
		a.t.Errorf("the application was asked %s %s (%s), expected nothing", r.Method, r.Path, r.Call.Reason)
	}
}

// Value returns a value of the request as text; see Expect.
func (r Request) Value(name string) string {
	if r.Form != nil {
		return r.Form.Get(name)
	}
	var root any
	dec := json.NewDecoder(bytes.NewReader(r.Body))
	dec.UseNumber()
	if dec.Decode(&root) != nil {
		return ""
	}
	for _, prefix := range []string{"", "trigger.", "call.", "error."} {
		if v, ok := walk(root, prefix+name); ok {
			return v
		}
	}
	return ""
}

func walk(v any, path string) (string, bool) {
	for key := range strings.SplitSeq(path, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		if v, ok = object[key]; !ok {
			return "", false
		}
	}
	return fmt.Sprint(v), true
}

// ServeHTTP answers as scripted.
func (a *App) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller gave up
	}
	r := read(req, body)
	if !a.genuine(w, r) {
		return
	}
	if err := misshapen(r); err != nil {
		a.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	a.mu.Lock()
	a.all = append(a.all, r)
	a.mu.Unlock()
	select {
	case a.arrived <- &r:
	default: // a load test, which looks at Requests
	}
	a.write(w, req, a.next(r), r)
}

func read(req *http.Request, body []byte) Request {
	r := Request{
		At: time.Now(), Method: req.Method, Path: req.URL.Path, URL: scheme(req) + req.Host + req.RequestURI, Header: req.Header.Clone(), Body: body,
	}
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type")) // an unknown one is neither
	switch {
	case kind == "application/json":
		_ = json.Unmarshal(body, &r.Call) // what does not parse has no reason, and Expect says so
	case kind == "application/x-www-form-urlencoded":
		r.Form, _ = url.ParseQuery(string(body))
	case req.Method == http.MethodGet:
		r.Form = req.URL.Query()
	}
	return r
}

// misshapen says what a request has too much or too little by the contract: the trigger of a request, the data of an
// event. nil for a right one, and for what is neither.
func misshapen(r Request) error {
	if r.Call.Trigger != nil {
		return r.Call.Trigger.Check()
	}
	var e webhooks.Event
	if !slices.Contains(webhooks.EventTypes(), webhooks.EventType(r.Call.Type)) {
		return nil
	}
	if err := json.Unmarshal(r.Body, &e); err != nil {
		return err
	}
	return e.Check()
}

func scheme(req *http.Request) string {
	if req.TLS != nil {
		return "https://"
	}
	return "http://"
}

// genuine verifies the signatures a request carries.
func (a *App) genuine(w http.ResponseWriter, r Request) bool {
	a.mu.Lock()
	secrets := a.secrets
	a.mu.Unlock()
	if len(secrets) == 0 {
		return true
	}
	err := webhooks.Verify(r.Header, r.Body, time.Now(), secrets...)
	if given := r.Header.Get(webhooks.HeaderTwilioSignature); err == nil && given != "" {
		posted := r.Form
		if r.Method == http.MethodGet {
			posted = nil
		}
		if !slices.ContainsFunc(secrets, func(s string) bool { return webhooks.VerifyTwilio(s, r.URL, posted, given) }) {
			err = webhooks.ErrBadSignature
		}
	}
	if err != nil {
		a.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		w.WriteHeader(http.StatusUnauthorized)
	}
	return err == nil
}

func (a *App) next(r Request) any {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range []string{r.Path, string(r.Call.Reason), "*"} {
		s := a.scripts[key]
		if s == nil || len(s.answers) == 0 {
			continue
		}
		answer := s.answers[min(s.asked, len(s.answers)-1)]
		s.asked++
		return answer
	}
	return nil
}
