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
	Verstat        string         `json:"verstat,omitempty"` // what the network says of the caller's number (3GPP TS 24.229 §7.2A.20)
	NumberID       NumberID       `json:"number_id,omitempty"`
	TrunkID        TrunkID        `json:"trunk_id,omitempty"`
	CredentialID   CredentialID   `json:"credential_id,omitempty"`
	AgentID        AgentID        `json:"agent_id,omitempty"`
	QueueID        QueueID        `json:"queue_id,omitempty"`
	CustomerID     CustomerID     `json:"customer_id,omitempty"`
	ExternalID     string         `json:"external_id,omitempty"`
	Region         *Region        `json:"region,omitempty"` // of the other party's number
	SIP            SIP            `json:"sip"`

	// What machine detection found, and how long it took; absent where there was none, or it goes on.
	AnsweredBy        AnsweredBy `json:"answered_by,omitempty"`
	DetectionDuration *Seconds   `json:"detection_duration,omitempty"`
}

// Region is where a telephone number belongs.
type Region struct {
	Country  string `json:"country"` // ISO 3166-1, two letters
	Province string `json:"province,omitempty"`
	City     string `json:"city,omitempty"`
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
	ReasonScreen   Reason = "screen"   // run on the other party before it is connected
	ReasonWait     Reason = "wait"     // to be heard in a queue, or until a conference begins
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
	Waiting         *Waiting        `json:"waiting,omitempty"` // with reason wait, and with screen for a caller who is dequeued
	Error           *RequestFailure `json:"error,omitempty"`   // only to a fallback URL
	State           json.RawMessage `json:"state,omitempty"`
	Data            map[string]any  `json:"data,omitempty"`
}

// Waiting is what a leg waits for, and where it stands: in a queue, or before a conference begins.
type Waiting struct {
	QueueID      QueueID      `json:"queue_id,omitempty"`
	ConferenceID ConferenceID `json:"conference_id,omitempty"`
	Name         string       `json:"name"`               // of the queue or conference
	Position     int          `json:"position,omitempty"` // in the queue, from 1
	Waited       Seconds      `json:"waited"`
	AverageWait  *Seconds     `json:"average_wait,omitempty"` // of those who wait in the queue now
	Size         int          `json:"size"`                   // who wait in the queue, or are in the conference
	MaxSize      int          `json:"max_size,omitempty"`     // 0 without limit
	PeerCallID   CallID       `json:"peer_call_id,omitempty"` // with screen: the leg that dequeued
}

// RequestFailure tells a fallback URL what became of the usual one.
type RequestFailure struct {
	Code    string `json:"code"` // dns, connect, tls, timeout, denied, status, rejected, circuit_open …
	Message string `json:"message"`
	URL     string `json:"url"`
	Status  int    `json:"status,omitempty"` // the HTTP status, where there was one
}

// Seconds is a span of time in the contract: a JSON number of seconds, fractions allowed.
type Seconds float64

// Duration returns s as a Go duration.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// SecondsOf returns d rounded to milliseconds, which is as exact as the contract is.
func SecondsOf(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond).Milliseconds()) / 1000)
}
