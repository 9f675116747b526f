package prompt

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Code is the kind of a failure.
type Code string

// The codes.
const (
	CodeNotFound    Code = "not_found"    // no such file, or the origin has none there
	CodeNotAllowed  Code = "not_allowed"  // the address or the account's rules forbid it
	CodeUnreachable Code = "unreachable"  // whoever has the bytes did not give them
	CodeInvalid     Code = "invalid"      // what was named, or the bytes themselves
	CodeTooLarge    Code = "too_large"    // more bytes or a longer time than is played
	CodeNoSpeech    Code = "no_speech"    // there is no speech engine: play NoSpeech
	CodeSpeech      Code = "speech_error" // the speech engine failed
	CodeClosed      Code = "closed"       // the edge is stopping
)

// Error is audio that cannot be played. Message is one sentence without a full stop that says what to change, fit for the
// application as a trigger's error. What lies beneath is behind Unwrap, for the operator.
type Error struct {
	Code    Code
	Message string
	err     error
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.err }

func failure(code Code, err error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), err: err}
}

// about puts what the sentence is about before it.
func (e *Error) about(what string) *Error {
	return &Error{Code: e.Code, Message: what + ": " + e.Message, err: e.err}
}

// place is a URL as a sentence shows it: without the query, which may hold a token.
func place(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return fmt.Sprintf("%.200s", shown.String())
}

// fetchFailure says what a failed Fetch means for the audio.
func fetchFailure(err error) *Error {
	refused, ok := errors.AsType[*guard.Error](err)
	if !ok {
		return failure(CodeUnreachable, err, "the file could not be fetched")
	}
	code := CodeUnreachable
	switch refused.Class {
	case guard.ClassURL, guard.ClassRedirect, guard.ClassBody:
		code = CodeInvalid
	case guard.ClassDenied:
		code = CodeNotAllowed
	}
	return failure(code, err, "%s", refused.Text)
}

// statusFailure is an answer that is neither 2xx nor 304.
func statusFailure(status int) *Error {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return failure(CodeNotFound, nil, "the server answered %d: there is no file at this address", status)
	case http.StatusUnauthorized, http.StatusForbidden:
		return failure(CodeNotAllowed, nil, "the server answered %d: it wants credentials that a player does not have", status)
	}
	return failure(CodeUnreachable, nil, "the server answered %d instead of the file", status)
}

// speechFailure is why nothing can be said.
func speechFailure(err error) *Error {
	code := CodeSpeech
	switch {
	case errors.Is(err, speech.ErrNone):
		code = CodeNoSpeech
	case errors.Is(err, speech.ErrInvalid):
		code = CodeInvalid
	}
	return failure(code, err, "%s", err.Error())
}
