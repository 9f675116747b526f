// Package call owns the records of calls: one row per leg, folded from the events that its edge publishes, and the
// events themselves; and it starts and changes calls for the REST API. Which edge carries a call and how it is
// reached is left to package edges behind the interface Edges, the audio to package recording.
package call

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Call is the record of one leg. Its etag is the version that the edge counts while the call lives, so that what an
// application was told in call.etag and what the record shows can be compared with the same If-Match.
type Call struct {
	bun.BaseModel `bun:"table:calls" json:"-"`
	db.Row
	db.Owned

	From           string                  `bun:"from" json:"from"`
	To             string                  `bun:"to" json:"to"`
	Dialed         string                  `bun:"dialed,nullzero" json:"dialed,omitempty"` // as it was dialled
	Direction      webhooks.Direction      `bun:"direction" json:"direction"`
	Status         webhooks.Status         `bun:"status" json:"status"`
	ParentCallID   webhooks.CallID         `bun:"parent_call_id,nullzero" json:"parent_call_id,omitempty"`
	ConversationID webhooks.ConversationID `bun:"conversation_id,nullzero" json:"conversation_id,omitempty"`
	ApplicationID  webhooks.ApplicationID  `bun:"application_id,nullzero" json:"application_id,omitempty"`
	NumberID       webhooks.NumberID       `bun:"number_id,nullzero" json:"number_id,omitempty"`
	TrunkID        webhooks.TrunkID        `bun:"trunk_id,nullzero" json:"trunk_id,omitempty"`
	CredentialID   webhooks.CredentialID   `bun:"credential_id,nullzero" json:"credential_id,omitempty"`
	AgentID        webhooks.AgentID        `bun:"agent_id,nullzero" json:"agent_id,omitempty"` // whose extension CredentialID was
	CustomerID     webhooks.CustomerID     `bun:"customer_id,nullzero" json:"customer_id,omitempty"`
	SIPCallID      string                  `bun:"sip_call_id,nullzero" json:"sip_call_id,omitempty"`
	Source         string                  `bun:"source,nullzero" json:"source,omitempty"` // IP address of the far side

	StartedAt  time.Time  `bun:"started_at" json:"started_at"`
	RingingAt  *time.Time `bun:"ringing_at" json:"ringing_at,omitempty"`
	AnsweredAt *time.Time `bun:"answered_at" json:"answered_at,omitempty"`
	EndedAt    *time.Time `bun:"ended_at" json:"ended_at,omitempty"`

	// What machine detection found, and after how many seconds from the answer; empty where there was none.
	AnsweredBy        webhooks.AnsweredBy `bun:"answered_by,nullzero" json:"answered_by,omitempty"`
	DetectionDuration *webhooks.Seconds   `bun:"detection_duration" json:"detection_duration,omitempty"`

	// Seconds, once the call has ended: in all, until the answer or the end, and from the answer to the end.
	Duration     *webhooks.Seconds `bun:"duration" json:"duration,omitempty"`
	RingDuration *webhooks.Seconds `bun:"ring_duration" json:"ring_duration,omitempty"`
	TalkDuration *webhooks.Seconds `bun:"talk_duration" json:"talk_duration,omitempty"`

	Cause    webhooks.Cause    `bun:"cause,nullzero" json:"cause,omitempty"`
	SIPCode  int               `bun:"sip_code,nullzero" json:"sip_code,omitempty"`
	EndedBy  webhooks.EndedBy  `bun:"ended_by,nullzero" json:"ended_by,omitempty"`
	Reason   string            `bun:"reason,nullzero" json:"reason,omitempty"`
	ReasonZH string            `bun:"reason_zh,nullzero" json:"reason_zh,omitempty"`
	Media    *webhooks.Quality `bun:"media,type:jsonb" json:"media,omitempty"`
	Data     map[string]any    `bun:"data,type:jsonb,nullzero" json:"data,omitempty"` // as given when the API started the call

	// Who carries the call. Epoch fences: only who takes a call over raises it.
	EdgeID webhooks.EdgeID `bun:"edge_id" json:"-"`
	BootID string          `bun:"boot_id" json:"-"`
	Epoch  int64           `bun:"epoch" json:"-"`
	// EdgeExpects is the sequence wanted next of the edge, NextSequence that given to the event stored next. They
	// differ once an edge that was taken for dead has come back: what it publishes is renumbered.
	EdgeExpects  int64 `bun:"edge_expects" json:"-"`
	NextSequence int64 `bun:"next_sequence" json:"-"`
}

// What Publish and the methods of Edges fail with, so that each side can put it into its own terms.
var (
	ErrFenced  = errors.New("another process has taken the call over")
	ErrRefused = errors.New("refused")                                    // wrapped with why; repeating it would be refused again
	ErrRate    = errors.New("the account starts too many calls a second") // of Edges.Prepare: nothing has happened; with a TooMany problem
	ErrBusy    = errors.New("the edge takes no more")                     // of Edges: nothing has happened
	ErrGone    = errors.New("the call is not live on its edge")           // of Edges.Act: nothing has happened
	ErrChanged = errors.New("the call is not that version now")           // of Edges.Act: nothing has happened
	ErrUnknown = errors.New("the edge does not know how")                 // of Edges.Act: nothing has happened; wrapped with what
	ErrAway    = errors.New("the edge that holds it is not here")         // of Edges: nothing has happened
)

// Edges is what calls need of the edges.
type Edges interface {
	// Prepare finds the application of a call and an edge to carry it; nothing has happened yet. An unknown
	// application is a Refused problem, and no edge that takes calls an Unavailable one. With ErrRate, where the account may
	// not start the call yet, what is known of it is given all the same.
	Prepare(ctx context.Context, o Origination) (Prepared, error)
	// Act hands a change to the edge that carries the call, whichever process that is connected to, and returns when it has
	// taken it. With an error that is none of those above nobody knows whether it has.
	Act(ctx context.Context, edge webhooks.EdgeID, a Action) error
}

// Origination is a call to be started. Exactly one of ApplicationID, URL, Program and Connect is set.
type Origination struct {
	CallID        webhooks.CallID
	AccountID     webhooks.AccountID
	ApplicationID webhooks.ApplicationID
	URL           string
	Program       *webhooks.Program
	Fallback      *webhooks.Program
	Target        webhooks.DialTarget
	From          string
	CallerName    string
	Timeout       webhooks.Seconds
	TimeLimit     webhooks.Seconds
	Headers       map[string]string
	SendDigits    string
	Record        bool
	Data          map[string]any
	ExternalID    string
	CustomerID    webhooks.CustomerID // whose number Target has; "" for nobody's
	Connect       *Connect            // whom the called party is connected with
	StatusURL     string              // told the events of the call; "" for none
	Behind        bool                // others of the account wait to be started, and this one comes after them
	StartedAt     time.Time

	MachineDetection *webhooks.MachineDetection // of Target; nil for none
}

// Connect is click-to-call: the called party, the customer, is connected with an agent or an extension of the account.
// Exactly one of AgentID, an id or an external_id, and Extension is set.
type Connect struct {
	AgentID   string `json:"agent_id,omitempty"`
	Extension string `json:"extension,omitempty"`
	First     string `json:"first,omitempty"` // who is rung first: FirstAgent, also when empty, or FirstCustomer
}

// Who is rung first.
const (
	FirstAgent    = "agent"
	FirstCustomer = "customer"
)

// Prepared is an edge that was found for a call. Send starts the call there and returns when the edge has taken it;
// ErrBusy and ErrAway mean that it has not, any other error that nobody
// knows.
type Prepared struct {
	EdgeID        webhooks.EdgeID
	BootID        string
	ApplicationID webhooks.ApplicationID // whose secret signs; may be empty
	From, To      string                 // of the leg that is rung first, as far as they are known
	Send          func(context.Context) error
}
