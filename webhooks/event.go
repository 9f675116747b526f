package webhooks

import "time"

// EventType names what happened.
type EventType string

// The events of a call.
const (
	EventCallInitiated      EventType = "call.initiated"
	EventCallRinging        EventType = "call.ringing"
	EventCallAnswered       EventType = "call.answered"
	EventCallBridged        EventType = "call.bridged"
	EventCallHeld           EventType = "call.held"
	EventCallEnded          EventType = "call.ended"
	EventActionCompleted    EventType = "call.action.completed"
	EventActionFailed       EventType = "call.action.failed"
	EventGatherCompleted    EventType = "gather.completed"
	EventRecordingStarted   EventType = "recording.started"
	EventRecordingCompleted EventType = "recording.completed"
	EventRecordingFailed    EventType = "recording.failed"
	EventDTMF               EventType = "dtmf"
	EventWebhookRejected    EventType = "webhook.rejected"
	EventWebhookFailed      EventType = "webhook.failed"
)

// Event is one thing that happened, in the envelope every subscriber gets. Sequence is gap-free per call from 1:
// given by the call's edge until call.ended, by the control plane after it.
type Event struct {
	ID             EventID        `json:"id"`
	Type           EventType      `json:"type"`
	AccountID      AccountID      `json:"account_id"`
	CallID         CallID         `json:"call_id,omitempty"`
	ConversationID ConversationID `json:"conversation_id,omitempty"`
	Sequence       int64          `json:"sequence,omitempty"`
	OccurredAt     time.Time      `json:"occurred_at"`
	Data           EventData      `json:"data"`
}

// EventData is what an event carries; which fields are set follows from its type. It is one struct rather than
// one per type because it crosses three boundaries (edge, store, subscriber) that all treat it as a JSON object.
type EventData struct {
	// call.initiated
	From          string        `json:"from,omitempty"`
	To            string        `json:"to,omitempty"`
	Dialed        string        `json:"dialed,omitempty"`
	Direction     Direction     `json:"direction,omitempty"`
	ParentCallID  CallID        `json:"parent_call_id,omitempty"`
	ApplicationID ApplicationID `json:"application_id,omitempty"`
	NumberID      NumberID      `json:"number_id,omitempty"`
	TrunkID       TrunkID       `json:"trunk_id,omitempty"`
	CredentialID  CredentialID  `json:"credential_id,omitempty"`
	ExternalID    string        `json:"external_id,omitempty"`
	SIPCallID     string        `json:"sip_call_id,omitempty"`
	Source        string        `json:"source,omitempty"`
	EarlyMedia    bool          `json:"early_media,omitempty"` // call.ringing

	// call.bridged, call.held
	PeerCallID CallID `json:"peer_call_id,omitempty"`
	Held       *bool  `json:"held,omitempty"`

	// call.action.*
	ActionID ActionID `json:"action_id,omitempty"`

	// gather.completed, dtmf, recording.*
	Verb        string      `json:"verb,omitempty"`
	Instruction string      `json:"instruction_id,omitempty"`
	Outcome     Outcome     `json:"outcome,omitempty"`
	Digits      string      `json:"digits,omitempty"`
	Digit       string      `json:"digit,omitempty"`
	RecordingID RecordingID `json:"recording_id,omitempty"`
	Channels    int         `json:"channels,omitempty"`
	Format      string      `json:"format,omitempty"`
	Codec       string      `json:"codec,omitempty"` // recording.started: of the shipped segments
	Duration    *Seconds    `json:"duration,omitempty"`
	Size        int64       `json:"size,omitempty"` // bytes

	// webhook.*
	URL       string    `json:"url,omitempty"`
	Status    int       `json:"status,omitempty"`
	RequestID RequestID `json:"request_id,omitempty"`
	Pointer   string    `json:"pointer,omitempty"` // where in the program, as a JSON pointer or XML element and line
	Code      string    `json:"code,omitempty"`
	Message   string    `json:"message,omitempty"` // one sentence saying what to change

	// call.ended
	CDR *CDR `json:"cdr,omitempty"`
}

// CDR is what is left of a leg when it has ended: exact times, the cause, who ended it, the quality of its media
// and one sentence saying why. It is the data of the one call.ended event of each leg.
type CDR struct {
	Status     Status     `json:"status"`
	Cause      Cause      `json:"cause"`
	SIPCode    int        `json:"sip_code,omitempty"` // the final response, 200 for an answered call
	EndedBy    EndedBy    `json:"ended_by"`
	Reason     string     `json:"reason"`    // one English sentence
	ReasonZH   string     `json:"reason_zh"` // the same in Chinese
	StartedAt  time.Time  `json:"started_at"`
	RingingAt  *time.Time `json:"ringing_at,omitempty"`
	AnsweredAt *time.Time `json:"answered_at,omitempty"`
	EndedAt    time.Time  `json:"ended_at"`
	Duration   Seconds    `json:"duration"`        // from start to end
	RingTime   Seconds    `json:"ring_duration"`   // from start to answer or end
	TalkTime   Seconds    `json:"talk_duration"`   // from answer to end
	Media      *Quality   `json:"media,omitempty"` // absent where no media was set up
}

// Quality is what was measured of a leg's audio.
type Quality struct {
	Codec           string  `json:"codec"`
	PacketsSent     uint64  `json:"packets_sent"`
	PacketsReceived uint64  `json:"packets_received"`
	PacketsLost     uint64  `json:"packets_lost"`
	PacketsLate     uint64  `json:"packets_late"`
	LossRatio       float64 `json:"loss_ratio"`
	JitterMS        float64 `json:"jitter_ms"` // interarrival jitter, RFC 3550 §6.4.1
	RTTMS           float64 `json:"rtt_ms,omitempty"`
	MOS             float64 `json:"mos,omitempty"` // estimated, ITU-T G.107; absent without received audio
}
