// Package control is the seam between the two halves: what an edge asks of the control plane, what is asked of an
// edge, the messages and the error codes of both, and an HTTP/2 client and handler that carry them when the
// halves are apart. Whether the other side is in this process or across a network, the caller does not know.
package control

import (
	"context"
	"net/netip"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Control is what an edge asks. Every method may be called from any goroutine, ends with its context, and fails
// with a *Error for what a caller can act on; any other error means that the control plane is away.
type Control interface {
	// Credential returns what is needed to check a digest answer, and the realm to challenge with. A user that
	// does not exist is no error: Found is false and Realm is given, so that a guess looks like a wrong password.
	// ErrSilence: the domain is none of ours.
	Credential(ctx context.Context, q CredentialQuery) (Credential, error)

	// Route says which account and application an incoming call belongs to. It is asked for every call; limits are
	// counted there. Codes: challenge, not_found, not_allowed, busy, silence.
	Route(ctx context.Context, in Incoming) (Route, error)

	// Register replaces or adds bindings of an address of record (RFC 3261 §10.3) and returns those that stand.
	Register(ctx context.Context, r Registration) (Registered, error)

	// Resolve turns a dial target into hops to be tried in order. A target that may not or cannot be dialled is a
	// *Error whose Cause says why: not_allowed, not_found, unreachable.
	Resolve(ctx context.Context, q ResolveQuery) (Resolved, error)

	// Media says where the bytes of an uploaded media file or a finished recording are to be had.
	Media(ctx context.Context, q MediaQuery) (MediaGrant, error)

	// Upload grants one PUT of a recording's next segment. Code fenced: another process has taken the call over.
	Upload(ctx context.Context, u Upload) (UploadGrant, error)

	// Finish has a recording's shipped segments made into one file. Doing it again with more segments makes the
	// file anew.
	Finish(ctx context.Context, f Finish) (Finished, error)

	// Publish stores a call's events. It is idempotent by (call, epoch, sequence): what is stored already is
	// passed over, and after a gap the answer says which sequence is expected. Code fenced as in Upload.
	Publish(ctx context.Context, b Batch) (Published, error)

	// Beat says that the edge lives; sent every second. After 3 s without one the edge's lease is over.
	Beat(ctx context.Context, b Beat) error

	Verbs
	Conferences
	Legs
	Queues
}

// Edge is what is asked of an edge.
type Edge interface {
	// Originate starts a call and returns when the edge has taken it, not when it is answered.
	Originate(ctx context.Context, o Originate) error
	// Act changes a live call and returns when the edge has taken the change; what became of it is exactly one event,
	// call.action.completed or .failed. Codes: not_found (no such live call), precondition (its etag has moved on), busy
	// (too many changes wait), unsupported (this edge does not know the op). After a code there is no event.
	Act(ctx context.Context, a Action) error
}

// CredentialQuery asks for the digest secrets of a user in a domain.
type CredentialQuery struct {
	Domain   string     `json:"domain"` // host of the request's To (REGISTER) or From, or the realm of an Authorization
	Username string     `json:"username"`
	Source   netip.Addr `json:"source"`
}

// Credential is an extension's digest secrets: HA1 per algorithm (RFC 7616 §3.4.2), never a password.
type Credential struct {
	Found        bool                  `json:"found"`
	Realm        string                `json:"realm"`
	AccountID    webhooks.AccountID    `json:"account_id,omitempty"`
	CredentialID webhooks.CredentialID `json:"credential_id,omitempty"`
	HA1MD5       string                `json:"ha1_md5,omitempty"`
	HA1SHA256    string                `json:"ha1_sha256,omitempty"`
}

// Incoming is an INVITE as the control plane needs it to find its owner.
type Incoming struct {
	CallID       webhooks.CallID       `json:"call_id"`
	EdgeID       webhooks.EdgeID       `json:"edge_id"`
	SIPCallID    string                `json:"sip_call_id"`
	Source       netip.AddrPort        `json:"source"`
	Transport    string                `json:"transport"` // udp, tcp
	FromUser     string                `json:"from_user"`
	FromHost     string                `json:"from_host"`
	FromName     string                `json:"from_name,omitempty"`
	PAI          string                `json:"pai,omitempty"` // user part of P-Asserted-Identity (RFC 3325)
	Diversion    string                `json:"diversion,omitempty"`
	ToUser       string                `json:"to_user"` // of the Request-URI
	ToHost       string                `json:"to_host"`
	CredentialID webhooks.CredentialID `json:"credential_id,omitempty"` // whose digest the edge has checked
}

// Route is where an incoming call goes.
type Route struct {
	AccountID    webhooks.AccountID    `json:"account_id"`
	Application  Application           `json:"application"`
	From         string                `json:"from"` // E.164 or extension
	To           string                `json:"to"`
	Dialed       string                `json:"dialed"`
	NumberID     webhooks.NumberID     `json:"number_id,omitempty"`
	TrunkID      webhooks.TrunkID      `json:"trunk_id,omitempty"`
	CredentialID webhooks.CredentialID `json:"credential_id,omitempty"`
	AgentID      webhooks.AgentID      `json:"agent_id,omitempty"`    // whose extension CredentialID is
	CustomerID   webhooks.CustomerID   `json:"customer_id,omitempty"` // who has From
	Language     string                `json:"language,omitempty"`    // of system prompts; zh-CN or en
	TimeLimit    webhooks.Seconds      `json:"time_limit,omitempty"`  // 0: the edge's own, 4 h
	KeepFor      webhooks.Seconds      `json:"keep_for,omitempty"`    // how long the edge may use it while the control plane is away
}

// Formats of an application.
const (
	FormatNative = "native"
	FormatTwiML  = "twiml"
)

// Application is what an edge must know to ask one. Exactly one of VoiceURL and Program is set. Zero times mean
// the defaults of the contract.
type Application struct {
	ID                   webhooks.ApplicationID `json:"id,omitempty"`
	Format               string                 `json:"format"`
	VoiceURL             string                 `json:"voice_url,omitempty"`
	Method               string                 `json:"method,omitempty"`
	Program              *webhooks.Program      `json:"program,omitempty"`
	FallbackURL          string                 `json:"fallback_url,omitempty"`
	FallbackInstructions *webhooks.Program      `json:"fallback_instructions,omitempty"`
	StatusURL            string                 `json:"status_url,omitempty"`
	Secrets              []string               `json:"secrets,omitempty"` // whsec_…, the newest first
	ConnectTimeoutMS     int                    `json:"connect_timeout_ms,omitempty"`
	BudgetMS             int                    `json:"budget_ms,omitempty"`
	Retries              *int                   `json:"retries,omitempty"`
	FallbackTimeoutMS    int                    `json:"fallback_timeout_ms,omitempty"`
}

// Registration is a REGISTER whose sender has proved who it is.
type Registration struct {
	EdgeID       webhooks.EdgeID       `json:"edge_id"`
	AccountID    webhooks.AccountID    `json:"account_id"`
	CredentialID webhooks.CredentialID `json:"credential_id"`
	SIPCallID    string                `json:"sip_call_id"`
	CSeq         uint32                `json:"cseq"`
	Source       netip.AddrPort        `json:"source"`
	Transport    string                `json:"transport"`
	UserAgent    string                `json:"user_agent,omitempty"`
	Star         bool                  `json:"star,omitempty"` // Contact: * removes all
	Contacts     []Contact             `json:"contacts,omitempty"`
}

// Contact is one binding. Expires 0 removes it.
type Contact struct {
	URI     string           `json:"uri"`
	Expires webhooks.Seconds `json:"expires"`
	Q       float64          `json:"q,omitempty"`
}

// Registered is what stands after a REGISTER.
type Registered struct {
	Contacts []Contact `json:"contacts"`
}

// ResolveQuery asks where a target of a dial or an originated call is.
type ResolveQuery struct {
	AccountID webhooks.AccountID  `json:"account_id"`
	CallID    webhooks.CallID     `json:"call_id"` // the leg that dials, or the one being originated
	EdgeID    webhooks.EdgeID     `json:"edge_id"`
	Target    webhooks.DialTarget `json:"target"`
	CallerID  string              `json:"caller_id,omitempty"` // as the program asked; "" for the account's
	From      string              `json:"from,omitempty"`      // of the leg that dials
}

// Resolved is a target's hops. Hops with the same Rank are tried at once (the phones of one extension), ranks in
// order.
type Resolved struct {
	Hops []Hop `json:"hops"`
}

// Kinds of hop.
const (
	KindPhone = "phone" // a registered contact
	KindTrunk = "trunk"
	KindSIP   = "sip" // a SIP URI named by the account
)

// Hop is one place to send an INVITE to.
type Hop struct {
	Rank         int                   `json:"rank"`
	Kind         string                `json:"kind"`
	URI          string                `json:"uri"`                   // Request-URI
	Destination  string                `json:"destination,omitempty"` // host:port to send to; "" follows the URI
	Transport    string                `json:"transport,omitempty"`   // udp, tcp; "" follows the URI
	Username     string                `json:"username,omitempty"`    // for a challenge by this hop
	Password     string                `json:"password,omitempty"`
	Realm        string                `json:"realm,omitempty"` // the only realm these are given to; "" any of this hop's
	CallerID     string                `json:"caller_id"`
	Shown        string                `json:"shown,omitempty"`       // in From instead of CallerID, to a phone whose person may not see that
	CallerHost   string                `json:"caller_host,omitempty"` // host of From; "" the edge's address
	PAI          string                `json:"pai,omitempty"`
	To           string                `json:"to"` // the called party as the record shows it
	TrunkID      webhooks.TrunkID      `json:"trunk_id,omitempty"`
	CredentialID webhooks.CredentialID `json:"credential_id,omitempty"`
	AgentID      webhooks.AgentID      `json:"agent_id,omitempty"` // whose extension CredentialID is
	NumberID     webhooks.NumberID     `json:"number_id,omitempty"`
}

// MediaQuery names an account's media file or recording.
type MediaQuery struct {
	AccountID webhooks.AccountID `json:"account_id"`
	ID        string             `json:"id"` // med_… or rec_…
}

// MediaGrant is where the bytes are. The same ETag means the same bytes.
type MediaGrant struct {
	URL  string `json:"url"`
	ETag string `json:"etag"`
}

// Owner is what fences a write: the edge that carries a call and the epoch it holds it with. Only a take-over
// raises the epoch.
type Owner struct {
	EdgeID    webhooks.EdgeID    `json:"edge_id"`
	BootID    string             `json:"boot_id"`
	Epoch     int64              `json:"epoch"`
	AccountID webhooks.AccountID `json:"account_id"`
	CallID    webhooks.CallID    `json:"call_id"`
}

// Upload asks to ship a segment of a recording. Segments are numbered from 1; the same number again overwrites.
type Upload struct {
	Owner
	RecordingID webhooks.RecordingID `json:"recording_id"`
	Segment     int                  `json:"segment"`
	Size        int64                `json:"size"` // bytes, at most MaxSegment
}

// MaxSegment bounds one segment: 30 s of two-channel G.711 is 480,000 bytes.
const MaxSegment = 1 << 20

// UploadGrant is a presigned PUT.
type UploadGrant struct {
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Finish says what a recording consists of: raw G.711, Channels bytes per sampling instant, 8,000 a second.
type Finish struct {
	Owner
	RecordingID webhooks.RecordingID `json:"recording_id"`
	Codec       string               `json:"codec"` // PCMU or PCMA
	Channels    int                  `json:"channels"`
	Segments    int                  `json:"segments"`
	Samples     int64                `json:"samples"`           // per channel, after trimming; what segments hold beyond is cut
	Failure     string               `json:"failure,omitempty"` // why the recording is not whole
}

// Finished is the file that was made.
type Finished struct {
	Size     int64            `json:"size"` // bytes
	Duration webhooks.Seconds `json:"duration"`
}

// Batch is a run of one call's events, in order. An event with sequence 0 comes after call.ended and is numbered
// by the control plane.
type Batch struct {
	Owner
	Events  []webhooks.Event `json:"events"`
	Journal []JournalChunk   `json:"journal,omitempty"` // may come without events
}

// Published says how far the call's events are stored. Expect is the next sequence wanted.
type Published struct {
	Expect int64 `json:"expect"`
}

// Beat is an edge's sign of life.
type Beat struct {
	EdgeID   webhooks.EdgeID `json:"edge_id"`
	BootID   string          `json:"boot_id"`
	Calls    int             `json:"calls"`
	Draining bool            `json:"draining"`
	SIP      netip.AddrPort  `json:"sip"` // where other edges reach it
	At       time.Time       `json:"at"`
}

// Originate asks an edge to start a call.
type Originate struct {
	CallID      webhooks.CallID     `json:"call_id"`
	AccountID   webhooks.AccountID  `json:"account_id"`
	Application Application         `json:"application"` // asked, or run, when the call is answered
	Target      webhooks.DialTarget `json:"target"`
	From        string              `json:"from,omitempty"`
	CallerName  string              `json:"caller_name,omitempty"`
	Timeout     webhooks.Seconds    `json:"timeout,omitempty"`
	TimeLimit   webhooks.Seconds    `json:"time_limit,omitempty"`
	Headers     map[string]string   `json:"headers,omitempty"`
	SendDigits  string              `json:"send_digits,omitempty"`
	Record      bool                `json:"record,omitempty"`
	Data        map[string]any      `json:"data,omitempty"`
	ExternalID  string              `json:"external_id,omitempty"`
	CustomerID  webhooks.CustomerID `json:"customer_id,omitempty"` // who is called
	Language    string              `json:"language,omitempty"`

	MachineDetection *webhooks.MachineDetection `json:"machine_detection,omitempty"`

	// StatusURL is told every event of the leg or, where the application's format is TwiML, those of Twilio's StatusCallback;
	// "" for none.
	StatusURL string `json:"status_url,omitempty"`
	// ShowsCalled: who is dialled by the program of this leg sees as its caller the party that was called, not From.
	ShowsCalled bool `json:"shows_called,omitempty"`

	StartedAt time.Time `json:"started_at"`
}

// Action asks an edge to change a live call. The same ActionID again changes nothing and is answered as before: see Once.
type Action struct {
	ActionID  webhooks.ActionID  `json:"action_id"`
	AccountID webhooks.AccountID `json:"account_id"`
	CallID    webhooks.CallID    `json:"call_id"`
	IfMatch   string             `json:"if_match,omitempty"` // the call's etag
	Change    webhooks.Action    `json:"change,omitzero"`
}
