// Package problem owns the failures a caller of the REST API can act on: their codes, their HTTP status and
// their writing as application/problem+json (RFC 9457). When to fail, and with which sentence, is left to the
// package that knows; anything that is not a Problem is written as a bare 500.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Code is the stable slug of one kind of problem: it ends the "type" URL and never changes its meaning.
type Code string

// The codes. Each is a row of kinds and a section of the page /docs/problems.
const (
	CodeInvalid          Code = "invalid"            // 400: unparsable, unknown field or parameter, fails the schema
	CodeUnauthenticated  Code = "unauthenticated"    // 401: no credential, or none that is valid
	CodeForbidden        Code = "forbidden"          // 403: the credential lacks the permission
	CodeNotFound         Code = "not_found"          // 404: nothing here by that name for this account
	CodeMethodNotAllowed Code = "method_not_allowed" // 405
	CodeConflict         Code = "conflict"           // 409: duplicate, in use, or wrong state
	CodePrecondition     Code = "changed"            // 412: another change came first
	CodeTooLarge         Code = "too_large"          // 413
	CodeUnsupportedMedia Code = "unsupported_media"  // 415: the Content-Type is not one the operation takes
	CodeRefused          Code = "refused"            // 422: well-formed, but not possible
	CodeTooMany          Code = "too_many_requests"  // 429: wait Retry-After
	CodeInternal         Code = "internal"           // 500: a fault of ours
	CodeUnavailable      Code = "unavailable"        // 503: wait Retry-After
)

type kind struct {
	code   Code
	status int
	title  string
}

func kinds() []kind {
	return []kind{
		{CodeInvalid, http.StatusBadRequest, "The request is not valid"},
		{CodeUnauthenticated, http.StatusUnauthorized, "No valid credential"},
		{CodeForbidden, http.StatusForbidden, "Permission missing"},
		{CodeNotFound, http.StatusNotFound, "Not found"},
		{CodeMethodNotAllowed, http.StatusMethodNotAllowed, "Method not allowed"},
		{CodeConflict, http.StatusConflict, "In conflict with what exists"},
		{CodePrecondition, http.StatusPreconditionFailed, "Changed by someone else"},
		{CodeTooLarge, http.StatusRequestEntityTooLarge, "Too large"},
		{CodeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type"},
		{CodeRefused, http.StatusUnprocessableEntity, "Refused"},
		{CodeTooMany, http.StatusTooManyRequests, "Too many requests"},
		{CodeInternal, http.StatusInternalServerError, "A fault of ours"},
		{CodeUnavailable, http.StatusServiceUnavailable, "Unavailable for the moment"},
	}
}

// Codes lists every code there is, in order of HTTP status.
func Codes() []Code {
	var all []Code
	for _, k := range kinds() {
		all = append(all, k.code)
	}
	return all
}

// FieldError says what is wrong with one value of a request. Pointer is an RFC 6901 JSON pointer into the body
// ("/voice_url"), or the name of a parameter ("limit"). Code is a dotted slug for programs ("url.scheme"),
// Message a sentence that names the bound and the value.
type FieldError struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Problem is an expected failure, returned as an error by every layer that answers a request. Detail is a
// sentence that says what to do; it and Errors are shown to the caller as they are, so they hold no SQL, stack or
// address of ours.
type Problem struct {
	Code       Code
	Status     int
	Title      string
	Detail     string
	Errors     []FieldError
	RetryAfter time.Duration // sent as Retry-After in whole seconds, rounded up, when above zero
}

// Error gives the code and the detail, for logs.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(string(p.Code) + ": " + p.Detail)
	for _, e := range p.Errors {
		b.WriteString("; " + e.Pointer + ": " + e.Message)
	}
	return b.String()
}

// New makes a problem of a kind. An unknown code is a fault of ours and becomes CodeInternal.
func New(code Code, detail string, errs ...FieldError) *Problem {
	for _, k := range kinds() {
		if k.code == code {
			return &Problem{Code: k.code, Status: k.status, Title: k.title, Detail: detail, Errors: errs}
		}
	}
	return New(CodeInternal, "")
}

// Field makes one field error; the message is formatted as by fmt.Sprintf.
func Field(pointer, code, format string, args ...any) FieldError {
	return FieldError{Pointer: pointer, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid (400) is a request that cannot be understood or fails its schema.
func Invalid(detail string, errs ...FieldError) *Problem { return New(CodeInvalid, detail, errs...) }

// InvalidField (400) is Invalid for one field.
func InvalidField(pointer, code, format string, args ...any) *Problem {
	e := Field(pointer, code, format, args...)
	return Invalid(pointer+": "+e.Message, e)
}

// Unauthenticated (401) is a request with no valid credential.
func Unauthenticated(detail string) *Problem { return New(CodeUnauthenticated, detail) }

// Forbidden (403) is a caller whose credential lacks a permission.
func Forbidden(permission string) *Problem {
	return New(CodeForbidden, "this needs the permission "+permission+"; ask an administrator of the account to grant it")
}

// NotFound (404) is an object that does not exist for this account, or belongs to another.
func NotFound(detail string) *Problem { return New(CodeNotFound, detail) }

// NoSuch (404) is NotFound for an id.
func NoSuch(id string) *Problem {
	return NotFound(fmt.Sprintf("there is no %q in this account; check the id", id))
}

// Conflict (409) is a duplicate, an object still in use, or one in the wrong state.
func Conflict(detail string, errs ...FieldError) *Problem { return New(CodeConflict, detail, errs...) }

// Precondition (412) is a change based on a state that is no longer the latest.
func Precondition() *Problem {
	return New(CodePrecondition, "another change came first; read the object again and repeat the change with its new etag in If-Match")
}

// TooLarge (413) is a body over the limit, in bytes.
func TooLarge(limit int64) *Problem {
	return New(CodeTooLarge, fmt.Sprintf("the body may have at most %d bytes", limit))
}

// Refused (422) is a request that is well-formed but cannot be done: an unknown reference, a feature not there.
func Refused(detail string, errs ...FieldError) *Problem { return New(CodeRefused, detail, errs...) }

// RefusedField (422) is Refused for one field.
func RefusedField(pointer, code, format string, args ...any) *Problem {
	e := Field(pointer, code, format, args...)
	return Refused(pointer+": "+e.Message, e)
}

// TooMany (429) asks the caller to wait.
func TooMany(detail string, retryAfter time.Duration) *Problem {
	p := New(CodeTooMany, detail)
	p.RetryAfter = retryAfter
	return p
}

// Unavailable (503) asks the caller to try again later.
func Unavailable(detail string, retryAfter time.Duration) *Problem {
	p := New(CodeUnavailable, detail)
	p.RetryAfter = retryAfter
	return p
}

// From finds the Problem in err's chain. Anything else becomes a 500 that says nothing about the cause.
func From(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return New(CodeInternal, "the request could not be completed; repeat it, and report the request_id if it fails again")
}

// document is the wire form of RFC 9457 §3 with our two extension members.
type document struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Errors    []FieldError `json:"errors,omitempty"`
	RequestID string       `json:"request_id,omitempty"`
}

// Write answers w with err as application/problem+json and returns the status written. Headers already set on w
// stay.
func Write(w http.ResponseWriter, requestID string, err error) int {
	p := From(err)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hookswitch"`)
	}
	body, err := json.Marshal(document{
		Type: "/docs/problems#" + string(p.Code), Title: p.Title, Status: p.Status, Detail: p.Detail,
		Errors: p.Errors, RequestID: requestID,
	})
	if err != nil {
		panic(fmt.Sprintf("problem: a struct of strings cannot be marshalled: %v", err))
	}
	w.WriteHeader(p.Status)
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(append(body, '\n'))
	return p.Status
}
