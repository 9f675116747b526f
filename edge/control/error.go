package control

import (
	"errors"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Code says what a refusal means to the side that asked. Codes cross the wire unchanged.
type Code string

// The codes.
const (
	CodeChallenge    Code = "challenge"    // ask for digest credentials in Error.Realm
	CodeSilence      Code = "silence"      // answer nothing: a stranger
	CodeNotFound     Code = "not_found"    // no such number, call, media
	CodeNotAllowed   Code = "not_allowed"  // a rule of the account says no
	CodeBusy         Code = "busy"         // a limit is reached
	CodeUnreachable  Code = "unreachable"  // nobody registered, no trunk up
	CodeFenced       Code = "fenced"       // another process owns the call; stop silently
	CodePrecondition Code = "precondition" // the etag has moved on
	CodeInvalid      Code = "invalid"      // the message itself is wrong
	CodeUnsupported  Code = "unsupported"  // this edge does not know how; another version does
	CodeUnauthorized Code = "unauthorized" // the edge's token is not accepted
)

// Error is a refusal.
type Error struct {
	Code    Code           `json:"code"`
	Message string         `json:"message"`         // one sentence naming the rule that refused
	Realm   string         `json:"realm,omitempty"` // with challenge
	Cause   webhooks.Cause `json:"cause,omitempty"` // what the call ends with, where it ends

	QueueID webhooks.QueueID `json:"queue_id,omitempty"` // with full: of the queue that a call wanted to join
}

// Error returns the code and the sentence.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// CodeOf returns the code of a refusal, or "" for any other error, which means the other side is away.
func CodeOf(err error) Code {
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return ""
}
