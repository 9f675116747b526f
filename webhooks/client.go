package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// The limits of one question and the bounds within which an application may set them.
const (
	DefaultConnectTimeout  = time.Second
	MinConnectTimeout      = 100 * time.Millisecond
	MaxConnectTimeout      = 5 * time.Second
	DefaultBudget          = 5 * time.Second
	MinBudget              = time.Second
	MaxBudget              = 15 * time.Second
	DefaultFallbackTimeout = 4 * time.Second
	DefaultRetries         = 1
	MaxRetries             = 3

	defaultInFlight = 100
	firstPause      = 100 * time.Millisecond // before the first retry; doubled for each further one
)

// Limits are an application's settings. Zero values mean the default; others are moved into the bounds.
type Limits struct {
	ConnectTimeout  time.Duration // until a connection is ready: DNS, TCP, TLS
	Budget          time.Duration // for all attempts and redirects together
	Retries         *int          // nil: 1
	FallbackTimeout time.Duration // the budget of the fallback URL
}

// Fallback returns the limits with which the fallback URL is asked.
func (l Limits) Fallback() Limits {
	l.Budget = within(l.FallbackTimeout, DefaultFallbackTimeout, MinBudget, MaxBudget)
	return l
}

func within(d, standard, low, high time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return min(max(d, low), high)
}

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Guard    *guard.Client
	InFlight int // requests at the same time per account; 100 when 0
}

// Client asks applications what to do. It holds what is shared between calls: how many requests each account has on
// their way, and the circuit breaker of each account and origin. It is safe for concurrent use.
type Client struct {
	guard    *guard.Client
	inFlight inFlight
	breakers breakers
}

// NewClient returns a client. The guard stays its caller's, to be closed after the last question.
func NewClient(cfg ClientConfig) *Client {
	if cfg.InFlight == 0 {
		cfg.InFlight = defaultInFlight
	}
	return &Client{guard: cfg.Guard, inFlight: inFlight{most: cfg.InFlight}}
}

// Ask is one question: a request, and who is asked in which dialect.
type Ask struct {
	URL    string // absolute; see Resolve
	Method string // POST when empty; only a form can be sent by GET, JSON is always posted
	// Request is the question. RequestID is the webhook-id of every attempt; when it is empty one is made.
	// DeadlineMS is filled in at each attempt.
	Request CallRequest
	Secrets []string // whsec_…, the newest first: all sign; the newest is the key of Twilio's signature
	Limits  Limits

	// Form makes Twilio's parameters of the request. With it the question is asked in Twilio's dialect: a form,
	// appended to the URL's own query for GET; X-Twilio-Signature beside the other headers; connection overrides
	// in the URL's fragment. Without it the question is JSON.
	Form func(CallRequest) url.Values
	Jar  http.CookieJar // one per call for Twilio's dialect; none when nil

	// Body, when set, is posted as JSON instead of Request: a status callback, whose envelope is an Event. Request then
	// only says whose it is: RequestID is the webhook-id.
	Body any

	// Traceparent, when set, gives that header of an attempt, from 1, before it is sent, on the goroutine that asks: of
	// a span of its own (W3C Trace Context). Otherwise it is made of the call's id.
	Traceparent func(attempt int) string
	// Trace, when set, is told each attempt when it is over, on the goroutine that asks.
	Trace func(Attempt)
}

// Attempt is one request and its redirects as it went, for journal and log. It holds no secret and no body.
type Attempt struct {
	RequestID RequestID
	Number    int // from 1
	Method    string
	URL       string // as it was asked, without the call's parameters
	FinalURL  string // that answered, where another one did
	Status    int    // 0 without an answer
	Code      string // what failed, as in RequestError; "" when the status was 2xx
	Duration  time.Duration
	BytesOut  int // of the body
	BytesIn   int // of the body, decompressed
}

// RequestError is a question that got no usable answer from the network.
type RequestError struct {
	// Code is a guard.Class (dns, connect, denied, tls, timeout, reset, protocol, redirect, body, url, canceled),
	// or status, circuit_open, busy (too many of the account's requests on their way), secret.
	Code     string
	Message  string // one sentence without a full stop
	URL      string
	Status   int // the last HTTP status, 0 without one
	Attempts int
	err      error
}

// Error returns the sentence.
func (e *RequestError) Error() string { return e.Message }

// Unwrap returns what the network or the context said.
func (e *RequestError) Unwrap() error { return e.err }

// RejectedError is an answer that arrived and is refused: nothing of it runs.
type RejectedError struct {
	Pointer string // JSON pointer, or XML element and line; "" for the whole body
	Message string // one sentence that says what to change
	URL     string // that answered
	Status  int
}

// Error returns the pointer and the sentence.
func (e *RejectedError) Error() string {
	return (&ProgramError{e.Pointer, e.Message}).Error()
}

// FailureOf says of a failed question what its fallback URL is told, in the words of the contract; nil when err is
// nil.
func FailureOf(err error) *RequestFailure {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*RequestError](err); ok {
		return &RequestFailure{Code: e.Code, Message: e.Message, URL: e.URL, Status: e.Status}
	}
	if e, ok := errors.AsType[*RejectedError](err); ok {
		return &RequestFailure{Code: "rejected", Message: e.Error(), URL: e.URL, Status: e.Status}
	}
	return &RequestFailure{Code: "error", Message: err.Error()}
}

// Resolve reads a URL of a program relative to the one that answered it (RFC 3986 §5), after redirects. An empty
// reference is the base itself.
func Resolve(base, ref string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("resolve against %q: %w", base, err)
	}
	r, err := url.Parse(strings.TrimSpace(ref))
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", ref, err)
	}
	return b.ResolveReference(r).String(), nil
}

// Ask sends the question and reads the answer. One budget holds for waiting, all attempts and all redirects; an
// attempt is repeated with the same webhook-id when no connection was made, the connection was reset, or the status
// was 429, 502, 503 or 504. When ctx ends, the question is dropped at once.
//
// The error is a *RequestError when there is no answer, and a *RejectedError when there is one that cannot be used.
// An answer in XML is returned as it is: see Reply.
func (c *Client) Ask(ctx context.Context, a Ask) (Reply, error) {
	q, err := newQuestion(a)
	if err != nil {
		return Reply{}, err
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, q.budget)
	defer cancel()
	if c.breakers.isOpen(q.origin) {
		return Reply{}, q.circuitOpen()
	}
	if !c.inFlight.enter(ctx, q.origin.account) {
		return Reply{}, q.neverSent(ctx)
	}
	defer c.inFlight.leave(q.origin.account)
	probe, ok := c.breakers.allow(q.origin)
	if !ok {
		return Reply{}, q.circuitOpen()
	}
	health := resultNone
	defer func() { c.breakers.record(q.origin, probe, health) }()
	resp, failed := c.attempts(ctx, q)
	if failed == nil || caller.Err() == nil { // that our side gave up says nothing about theirs
		health = healthOf(failed)
	}
	if failed != nil {
		return Reply{}, failed
	}
	return classify(resp)
}

// healthOf says what an outcome tells of the application. A 4xx is an answer: it is up, and means no.
func healthOf(failed *RequestError) result {
	if failed == nil {
		return resultGood
	}
	switch failed.Code {
	case "status":
		if failed.Status < 500 && failed.Status != http.StatusTooManyRequests {
			return resultGood
		}
		return resultBad
	case string(guard.ClassCanceled), string(guard.ClassDenied), string(guard.ClassURL), "secret":
		return resultNone
	}
	return resultBad
}

// question is an Ask made ready: checked, with its limits decided.
type question struct {
	Ask
	target   *url.URL // without fragment
	origin   origin
	connect  time.Duration
	read     time.Duration // 0: the budget only
	budget   time.Duration
	retries  int
	policy   []string // Twilio's; nil: ours
	deadline time.Time
}

func newQuestion(a Ask) (*question, error) {
	q := &question{Ask: a}
	base, o := cutOverrides(strings.TrimSpace(a.URL))
	if a.Form == nil {
		o = overrides{}
	}
	q.URL = base
	target, err := guard.ParseURL(base)
	if err != nil {
		return nil, q.failed(string(guard.ClassURL), 0, 0, err)
	}
	for _, secret := range a.Secrets {
		if err := CheckSecret(secret); err != nil {
			return nil, q.failed("secret", 0, 0, err)
		}
	}
	q.target = target
	q.origin = origin{a.Request.AccountID, target.Scheme + "://" + strings.ToLower(target.Host)}
	q.limit(o)
	q.fill()
	return q, nil
}

// limit decides the limits: what the URL itself asks for, else the application's, else the defaults.
func (q *question) limit(o overrides) {
	q.connect = within(q.Limits.ConnectTimeout, DefaultConnectTimeout, MinConnectTimeout, MaxConnectTimeout)
	q.budget = within(q.Limits.Budget, DefaultBudget, MinBudget, MaxBudget)
	q.retries = DefaultRetries
	if q.Limits.Retries != nil {
		q.retries = min(max(*q.Limits.Retries, 0), MaxRetries)
	}
	if o.connect > 0 {
		q.connect = o.connect
	}
	if o.total > 0 {
		q.budget = o.total
	}
	if o.retries != nil {
		q.retries = *o.retries
	}
	q.read, q.policy = o.read, o.policy
	q.deadline = time.Now().Add(q.budget)
}

func (q *question) fill() {
	r := &q.Request
	r.Type, r.Contract = "program.request", 1
	if r.RequestID == "" {
		r.RequestID = NewRequestID()
	}
	if q.Method == "" || q.Form == nil {
		q.Method = http.MethodPost
	}
}

func (q *question) circuitOpen() *RequestError {
	return q.failed("circuit_open", 0, 0, errors.New("the latest requests to this host failed, so it is not asked for 30 seconds"))
}

// neverSent says why no place among the account's requests was found.
func (q *question) neverSent(ctx context.Context) *RequestError {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return q.failed("busy", 0, 0, errors.New("too many requests of the account are on their way"))
	}
	return q.failed(string(guard.ClassCanceled), 0, 0, context.Cause(ctx))
}

func (q *question) failed(code string, status, attempts int, why error) *RequestError {
	e := &RequestError{Code: code, URL: q.URL, Status: status, Attempts: attempts, err: why}
	e.Message = "no program from " + clipURL(q.URL) + ": " + why.Error()
	if attempts > 1 {
		e.Message += fmt.Sprintf(" (after %d attempts)", attempts)
	}
	return e
}

// clipURL keeps a sentence readable.
func clipURL(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// attempts sends the question until it is answered or nothing more may be tried.
func (c *Client) attempts(ctx context.Context, q *question) (guard.Response, *RequestError) {
	pause := firstPause
	for n := 1; ; n++ {
		resp, failed := c.attempt(ctx, q, n)
		if failed == nil {
			return resp, nil
		}
		if n > q.retries || !q.retryable(failed) || time.Until(q.deadline) <= pause || !wait(ctx, pause) {
			return guard.Response{}, failed
		}
		pause *= 2
	}
}

// wait reports whether the pause passed before ctx ended.
func wait(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryable reports whether a failure is worth another attempt: only what an application in good health can recover
// from, and what it has most likely not acted on. Twilio's policy words widen that.
func (q *question) retryable(e *RequestError) bool {
	connect := e.Code == string(guard.ClassConnect) || e.Code == string(guard.ClassDNS)
	if q.policy == nil {
		return connect || e.Code == string(guard.ClassReset) || slices.Contains([]int{429, 502, 503, 504}, e.Status)
	}
	has := func(word string) bool { return slices.Contains(q.policy, word) || slices.Contains(q.policy, "all") }
	switch {
	case connect || e.Code == string(guard.ClassTLS):
		return has("ct")
	case e.Code == string(guard.ClassTimeout) || e.Code == string(guard.ClassReset):
		return has("rt")
	}
	return has("4xx") && e.Status/100 == 4 || has("5xx") && e.Status/100 == 5
}

// attempt sends the question once and follows its redirects.
func (c *Client) attempt(ctx context.Context, q *question, number int) (guard.Response, *RequestError) {
	began := time.Now()
	req, err := q.message(began)
	if err != nil {
		return guard.Response{}, q.failed("error", 0, number, err)
	}
	if q.Traceparent != nil {
		req.Header.Set("Traceparent", q.Traceparent(number))
	}
	resp, err := c.guard.Fetch(ctx, req)
	if !resp.Redirected && resp.Status != 0 {
		// The call's parameters are no part of the URL that a missing action means.
		resp.URL = q.target.String()
	}
	failed := q.outcome(resp, err, number)
	if q.Trace != nil {
		at := Attempt{
			RequestID: q.Request.RequestID, Number: number, Method: req.Method, URL: q.URL, Status: resp.Status,
			Duration: time.Since(began), BytesOut: len(req.Body), BytesIn: len(resp.Body),
		}
		if resp.Redirected {
			at.FinalURL = resp.URL
		}
		if failed != nil {
			at.Code = failed.Code
		}
		q.Trace(at)
	}
	return resp, failed
}

func (q *question) outcome(resp guard.Response, err error, number int) *RequestError {
	switch {
	case resp.Status != 0 && resp.Status/100 != 2:
		// What is wrong with the body of an error page does not matter.
		return q.failed("status", resp.Status, number, fmt.Errorf("it answered %s; only a 2xx status carries a program", statusText(resp.Status)))
	case err == nil, isLargeAudio(resp, err):
		return nil
	}
	if e, ok := errors.AsType[*guard.Error](err); ok {
		return q.failed(string(e.Class), resp.Status, number, e)
	}
	return q.failed("error", resp.Status, number, err)
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// message encodes the question as it leaves at the given time.
func (q *question) message(now time.Time) (guard.Request, error) {
	request := q.Request
	request.DeadlineMS = max(q.deadline.Sub(now).Milliseconds(), 1)
	out := guard.Request{
		Method: q.Method, URL: q.target.String(), Header: http.Header{}, MaxBody: MaxProgramBytes,
		ConnectTimeout: q.connect, ReadTimeout: q.read, Jar: q.Jar,
	}
	out.Header.Set("Accept", "application/json, application/xml, text/xml, audio/*, text/plain")
	out.Header.Set("Traceparent", traceparent(request.CallID))
	var form url.Values
	switch {
	case q.Form == nil:
		var content any = request
		if q.Body != nil {
			content = q.Body
		}
		body, err := json.Marshal(content)
		if err != nil {
			return out, fmt.Errorf("encode the request: %w", err)
		}
		out.Body = body
		out.Header.Set("Content-Type", "application/json")
	case q.Method == http.MethodGet:
		out.URL = appendQuery(q.target, q.Form(request))
	default:
		form = q.Form(request)
		out.Body = []byte(form.Encode())
		out.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	out.Sign = func(method string, u *url.URL, body []byte, h http.Header) {
		q.sign(h, time.Now(), u, body, form)
	}
	return out, nil
}

// sign signs one hop: after a redirect the URL is another, and the body may be gone.
func (q *question) sign(h http.Header, now time.Time, u *url.URL, body []byte, form url.Values) {
	// The secrets were checked before the first attempt.
	_ = Sign(h, string(q.Request.RequestID), now, body, q.Secrets...)
	if q.Form == nil || len(q.Secrets) == 0 {
		return
	}
	if len(body) == 0 {
		form = nil
	}
	requested := *u
	if requested.Path == "" {
		requested.Path = "/" // as the request line has it, which is all that the receiver sees
	}
	h.Set(HeaderTwilioSignature, TwilioSignature(q.Secrets[0], requested.String(), form))
}

// appendQuery adds parameters behind the URL's own query, which stays as it was written.
func appendQuery(u *url.URL, params url.Values) string {
	out := *u
	if out.RawQuery != "" && len(params) > 0 {
		out.RawQuery += "&"
	}
	out.RawQuery += params.Encode()
	return out.String()
}
