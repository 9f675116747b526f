package webhooks

import (
	"encoding/json"
	"time"
)

// Status is where a call stands.
type Status string

// The statuses of a call. Those from completed on are final.
const (
	StatusQueued     Status = "queued"
	StatusRinging    Status = "ringing"
	StatusInProgress Status = "in_progress"
	StatusCompleted  Status = "completed"
	StatusBusy       Status = "busy"
	StatusNoAnswer   Status = "no_answer"
	StatusFailed     Status = "failed"
	StatusCanceled   Status = "canceled"
	StatusRejected   Status = "rejected"
)

// Final reports whether a call with this status is over.
func (s Status) Final() bool {
	switch s {
	case StatusQueued, StatusRinging, StatusInProgress, "":
		return false
	}
	return true
}

// Direction says which way a leg was set up, seen from Hookswitch.
type Direction string

// The directions of a leg: from outside to us, started by the API, or dialled by a program.
const (
	Inbound      Direction = "inbound"
	OutboundAPI  Direction = "outbound_api"
	OutboundDial Direction = "outbound_dial"
)

// Call is a live leg as an application sees it: the "call" object of every request.
type Call struct {
	From           string         `json:"from"`
	To             string         `json:"to"`
	Dialed         string         `json:"dialed"` // the called number as it was dialled
	Direction      Direction      `json:"direction"`
	Status         Status         `json:"status"`
	Etag           string         `json:"etag"` // changes with the call; If-Match on an action compares it
	ParentCallID   CallID         `json:"parent_call_id,omitempty"`
	ConversationID ConversationID `json:"conversation_id"`
	StartedAt      time.Time      `json:"started_at"`
	AnsweredAt     *time.Time     `json:"answered_at,omitempty"`
	FromName       string         `json:"from_name,omitempty"`
	Diversion      string         `json:"diversion,omitempty"`
	NumberID       NumberID       `json:"number_id,omitempty"`
	TrunkID        TrunkID        `json:"trunk_id,omitempty"`
	CredentialID   CredentialID   `json:"credential_id,omitempty"`
	ExternalID     string         `json:"external_id,omitempty"`
	SIP            SIP            `json:"sip"`
}

// SIP is what an application may know of the signalling below a call.
type SIP struct {
	CallID  string            `json:"call_id"`
	Source  string            `json:"source"`            // IP address the INVITE came from, or went to
	Headers map[string]string `json:"headers,omitempty"` // the INVITE's X- headers
}

// Reason says why an application is asked.
type Reason string

// The reasons of a request.
const (
	ReasonIncoming Reason = "incoming" // a call came in
	ReasonAnswered Reason = "answered" // a call started by the API was answered
	ReasonAction   Reason = "action"   // an instruction ended and named this URL
	ReasonOn       Reason = "on"       // an outcome named this URL
	ReasonRedirect Reason = "redirect" // a redirect instruction
	ReasonPrompt   Reason = "prompt"   // a prompt was given as a URL
	ReasonScreen   Reason = "screen"   // run on a dialled party before it is connected
	ReasonModified Reason = "modified" // a live change named this URL
	ReasonFallback Reason = "fallback" // the usual URL failed
)

// CallRequest is the signed body of every request to a native application (and what the Twilio form is made
// from).
type CallRequest struct {
	Type            string          `json:"type"` // always program.request
	Reason          Reason          `json:"reason"`
	Contract        int             `json:"contract"` // 1
	RequestID       RequestID       `json:"request_id"`
	RequestSequence int             `json:"request_sequence"` // from 1, per leg
	DeadlineMS      int64           `json:"deadline_ms"`      // what is left of the budget when the request leaves
	AccountID       AccountID       `json:"account_id"`
	ApplicationID   ApplicationID   `json:"application_id,omitempty"`
	CallID          CallID          `json:"call_id"`
	Call            Call            `json:"call"`
	Trigger         *Trigger        `json:"trigger,omitempty"`
	Error           *RequestFailure `json:"error,omitempty"` // only to a fallback URL
	State           json.RawMessage `json:"state,omitempty"`
	Data            map[string]any  `json:"data,omitempty"`
}

// RequestFailure tells a fallback URL what became of the usual one.
type RequestFailure struct {
	Code    string `json:"code"` // dns, connect, tls, timeout, denied, status, rejected, circuit_open …
	Message string `json:"message"`
	URL     string `json:"url"`
	Status  int    `json:"status,omitempty"` // the HTTP status, where there was one
}

// Trigger is the outcome that made a request necessary: which instruction ended, and how.
type Trigger struct {
	Verb    string  `json:"verb"`
	ID      string  `json:"id,omitempty"`
	Outcome Outcome `json:"outcome"`

	Digits      string      `json:"digits,omitempty"`       // gather
	FinishedBy  string      `json:"finished_by,omitempty"`  // gather: num_digits, key, timeout
	Played      Seconds     `json:"played,omitempty"`       // play, say
	RecordingID RecordingID `json:"recording_id,omitempty"` // record, dial
	Duration    *Seconds    `json:"duration,omitempty"`     // record, dial
	Key         string      `json:"key,omitempty"`          // gather, record: the key that ended it
	CallID      CallID      `json:"call_id,omitempty"`      // dial: the leg that answered, or the last tried
	Target      string      `json:"target,omitempty"`       // dial
	AnsweredAt  *time.Time  `json:"answered_at,omitempty"`  // dial
	EndedBy     EndedBy     `json:"ended_by,omitempty"`     // dial
	SIPCode     int         `json:"sip_code,omitempty"`     // dial
	Cause       Cause       `json:"cause,omitempty"`        // dial
	Error       string      `json:"error,omitempty"`        // failed: one sentence that says what to change
}

// Outcome is how an instruction ended. Each verb has its own set; hangup, redirected and failed exist for all.
type Outcome string

// The outcomes of the verbs.
const (
	Completed   Outcome = "completed"
	Hangup      Outcome = "hangup"
	Redirected  Outcome = "redirected"
	Failed      Outcome = "failed"
	Digits      Outcome = "digits"
	Invalid     Outcome = "invalid"
	Timeout     Outcome = "timeout"
	Silence     Outcome = "silence"
	Key         Outcome = "key"
	Empty       Outcome = "empty"
	TimeLimit   Outcome = "time_limit"
	Busy        Outcome = "busy"
	NoAnswer    Outcome = "no_answer"
	Declined    Outcome = "declined"
	Unreachable Outcome = "unreachable"
	NotAllowed  Outcome = "not_allowed"
	Canceled    Outcome = "canceled"
	Lost        Outcome = "lost"
)

// Seconds is a span of time in the contract: a JSON number of seconds, fractions allowed.
type Seconds float64

// Duration returns s as a Go duration.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// SecondsOf returns d rounded to milliseconds, which is as exact as the contract is.
func SecondsOf(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond).Milliseconds()) / 1000)
}
