package webhooks

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// EventType names what happened.
type EventType string

// The events of a call.
const (
	EventCallInitiated EventType = "call.initiated"
	EventCallRinging   EventType = "call.ringing"
	EventCallAnswered  EventType = "call.answered"
	EventCallDetected  EventType = "call.detected" // what machine detection found
	EventCallBridged   EventType = "call.bridged"
	EventCallHeld      EventType = "call.held" // held or taken back, by its phone or by a live change
	EventCallParked    EventType = "call.parked"
	EventCallUnparked  EventType = "call.unparked" // picked up, where there is a peer; else it waits there no more
	EventCallEnded     EventType = "call.ended"

	EventActionCompleted EventType = "call.action.completed"
	EventActionFailed    EventType = "call.action.failed"

	EventGatherCompleted EventType = "gather.completed"
	EventDTMF            EventType = "dtmf"

	EventRecordingStarted   EventType = "recording.started"
	EventRecordingCompleted EventType = "recording.completed"
	EventRecordingFailed    EventType = "recording.failed"

	EventQueueJoined    EventType = "queue.joined"
	EventQueueOffered   EventType = "queue.offered"   // an agent is rung
	EventQueueConnected EventType = "queue.connected" // the agent and the caller speak
	EventQueueLeft      EventType = "queue.left"      // the caller waits no more; outcome says why

	EventSurveyCompleted EventType = "survey.completed" // also by a hang-up; outcome says how

	EventConferenceStarted            EventType = "conference.started"
	EventConferenceEnded              EventType = "conference.ended"
	EventConferenceJoined             EventType = "conference.joined"
	EventConferenceLeft               EventType = "conference.left"
	EventConferenceMuted              EventType = "conference.muted"
	EventConferenceUnmuted            EventType = "conference.unmuted"
	EventConferenceHeld               EventType = "conference.held"
	EventConferenceUnheld             EventType = "conference.unheld"
	EventConferenceModified           EventType = "conference.modified" // mode, whisper_to, end_on_exit or beep of a participant
	EventConferenceSpeechStarted      EventType = "conference.speech_started"
	EventConferenceSpeechStopped      EventType = "conference.speech_stopped"
	EventConferenceAnnouncementEnded  EventType = "conference.announcement_ended"
	EventConferenceAnnouncementFailed EventType = "conference.announcement_failed"

	EventWebhookRejected EventType = "webhook.rejected"
	EventWebhookFailed   EventType = "webhook.failed"
)

// Event is one thing that happened, in the envelope every subscriber gets.
//
// Sequence is gap-free per call from 1: given by the call's edge until call.ended, by the control plane after it. What
// an order promises:
//
//   - call.initiated is the first of a leg. call.ended comes exactly once; after it come only recording.completed and
//     recording.failed, call.action.failed for changes that came too late, and what became of changes that go on without
//     the leg: a transfer whose target still rings.
//   - call.ringing comes at most twice, the second time with early_media; call.answered at most once, and after them.
//     call.detected comes after call.answered.
//   - call.held alternates: true, false, true … A leg that ends on hold has no last false.
//   - For each action_id there is exactly one of call.action.completed and call.action.failed.
//   - For each recording_id there is one recording.started and then exactly one of completed and failed; an amended
//     recording.completed may follow when the tail of a recording is found on an edge that comes back.
//   - For each stay in a queue: queue.joined, then any number of queue.offered, then at most one queue.connected, then
//     exactly one queue.left. A caller whom an agent did not take has one queue.offered for each agent who was rung.
//   - call.parked is followed by one call.unparked, unless the edge is lost meanwhile.
//   - A leg in a conference: conference.joined, what becomes of it, conference.left. conference.started and
//     conference.ended are events of the leg that began and ended the room, or where another edge carries that leg, of one
//     on the room's edge; those of one conference, over its legs, are put in order by occurred_at, for sequence counts
//     within a leg.
//   - gather.completed follows the last digit it tells; keys nobody waited for are dtmf, those of a masked gather none.
//   - webhook.rejected or webhook.failed precedes what the failure path does.
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

// EventData is what an event carries; which fields are set follows from its type: see eventMembers. It is one struct
// rather than one per type because it crosses three boundaries (edge, store, subscriber) that all treat it as a JSON
// object.
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
	CustomerID    CustomerID    `json:"customer_id,omitempty"`
	ExternalID    string        `json:"external_id,omitempty"`
	SIPCallID     string        `json:"sip_call_id,omitempty"`
	Source        string        `json:"source,omitempty"`
	EarlyMedia    bool          `json:"early_media,omitempty"` // call.ringing

	// call.detected
	AnsweredBy        AnsweredBy       `json:"answered_by,omitempty"`
	DetectionDuration *Seconds         `json:"detection_duration,omitempty"`
	Kind              AnnouncementKind `json:"kind,omitempty"` // of an announcement

	// call.bridged, call.held
	PeerCallID CallID `json:"peer_call_id,omitempty"` // queue.offered and queue.connected as well: the agent's leg
	Held       *bool  `json:"held,omitempty"`

	// call.action.*
	ActionID ActionID `json:"action_id,omitempty"`
	Op       string   `json:"op,omitempty"` // absent where a program replaced what ran

	// gather.completed, dtmf, recording.*
	Verb        string      `json:"verb,omitempty"`
	Instruction string      `json:"instruction_id,omitempty"`
	Outcome     Outcome     `json:"outcome,omitempty"` // queue.left as well
	Digits      string      `json:"digits,omitempty"`
	Digit       string      `json:"digit,omitempty"`
	RecordingID RecordingID `json:"recording_id,omitempty"`
	Channels    int         `json:"channels,omitempty"`
	Format      string      `json:"format,omitempty"`
	Codec       string      `json:"codec,omitempty"` // recording.started: of the shipped segments
	Duration    *Seconds    `json:"duration,omitempty"`
	Size        int64       `json:"size,omitempty"` // bytes
	// Mailbox is whose voicemail is recorded: its id, or what the program calls it where the edge could not ask.
	Mailbox string `json:"mailbox,omitempty"`

	// call.parked, call.unparked, call.action.completed of park
	Slot string `json:"slot,omitempty"`

	// survey.completed
	SurveyID      string         `json:"survey_id,omitempty"`
	SurveyVersion int            `json:"survey_version,omitempty"` // of the questions
	Answers       map[string]any `json:"answers,omitempty"`        // question's name to the key pressed

	// queue.*
	QueueID  QueueID  `json:"queue_id,omitempty"`
	AgentID  AgentID  `json:"agent_id,omitempty"`
	Priority int      `json:"priority,omitempty"`
	Position int      `json:"position,omitempty"` // from 1
	Waited   *Seconds `json:"waited,omitempty"`   // call.unparked as well

	// conference.*; name also of a queue
	ConferenceID ConferenceID `json:"conference_id,omitempty"`
	Name         string       `json:"name,omitempty"`
	Label        string       `json:"label,omitempty"`
	Mode         string       `json:"mode,omitempty"` // talk, listen, whisper
	Muted        *bool        `json:"muted,omitempty"`
	StartOnEnter *bool        `json:"start_on_enter,omitempty"`
	EndOnExit    *bool        `json:"end_on_exit,omitempty"`
	Participants *int         `json:"participants,omitempty"` // in the room, after the event
	Reason       string       `json:"reason,omitempty"`       // of conference.ended and conference.left: see ConferenceEnd
	EndedByCall  CallID       `json:"ended_by_call_id,omitempty"`

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

// Why a conference ended, or a leg left it: the reason of conference.ended and conference.left.
const (
	ConferenceLastLeft     = "last_left"
	ConferenceLastKicked   = "last_kicked"
	ConferenceEnderLeft    = "ender_left" // one with end_on_exit
	ConferenceEnderKicked  = "ender_kicked"
	ConferenceEndedByAPI   = "api"
	ParticipantHungUp      = "hangup"
	ParticipantLeft        = "left" // by a key, or its time limit
	ParticipantKicked      = "kicked"
	ParticipantRedirected  = "redirected"
	ParticipantRoomsEnding = "ended"
	ParticipantLost        = "lost" // of a leg in a conference that another edge carries: the connection between the two broke
)

const (
	participantMembers = "conference_id name label? mode? muted? held? start_on_enter? end_on_exit? participants?"
	failureMembers     = "url? status? request_id? pointer? code message"
)

// eventMembers is the shape of an event's data by its type: those with ? only where they are known.
var eventMembers = map[EventType]string{
	EventCallInitiated: "from? to? dialed? direction parent_call_id? application_id? number_id? trunk_id? credential_id? customer_id? external_id? sip_call_id? source? agent_id? queue_id?",
	EventCallRinging:   "early_media?",
	EventCallAnswered:  "",
	EventCallDetected:  "answered_by detection_duration kind?",
	EventCallBridged:   "peer_call_id",
	EventCallHeld:      "held peer_call_id?",
	EventCallParked:    "slot",
	EventCallUnparked:  "slot waited peer_call_id?",
	EventCallEnded:     "cdr",

	EventActionCompleted: "action_id op? peer_call_id? recording_id? slot? message?",
	EventActionFailed:    "action_id op? code? message",

	EventGatherCompleted: "verb instruction_id? outcome digits?",
	EventDTMF:            "digit",

	EventRecordingStarted:   "recording_id verb? channels format? codec? conference_id? mailbox?",
	EventRecordingCompleted: "recording_id verb? channels? format? codec? duration size? conference_id? message?",
	EventRecordingFailed:    "recording_id verb? channels? format? codec? duration? size? conference_id? code? message",

	EventQueueJoined:    "queue_id name? priority? position?",
	EventQueueOffered:   "queue_id name? agent_id peer_call_id? waited",
	EventQueueConnected: "queue_id name? agent_id? peer_call_id waited",
	EventQueueLeft:      "queue_id name? agent_id? outcome waited position? duration?",

	EventSurveyCompleted: "survey_id survey_version instruction_id? outcome answers? agent_id? queue_id?",

	EventConferenceStarted:            "conference_id name participants?",
	EventConferenceEnded:              "conference_id name duration? reason ended_by_call_id? label?",
	EventConferenceJoined:             participantMembers,
	EventConferenceLeft:               participantMembers + " duration? reason",
	EventConferenceMuted:              participantMembers,
	EventConferenceUnmuted:            participantMembers,
	EventConferenceHeld:               participantMembers,
	EventConferenceUnheld:             participantMembers,
	EventConferenceModified:           participantMembers,
	EventConferenceSpeechStarted:      participantMembers,
	EventConferenceSpeechStopped:      participantMembers,
	EventConferenceAnnouncementEnded:  "conference_id name url?",
	EventConferenceAnnouncementFailed: "conference_id name url? message",

	EventWebhookRejected: failureMembers,
	EventWebhookFailed:   failureMembers,
}

// EventTypes returns every event of a call, sorted.
func EventTypes() []EventType { return slices.Sorted(maps.Keys(eventMembers)) }

// Check says what an event's data has too much or too little for its type; nil for a right one. The executor's tests
// check every event.
func (e Event) Check() error {
	text, ok := eventMembers[e.Type]
	if !ok {
		return fmt.Errorf("%q is no event of a call", e.Type)
	}
	always, known := splitMembers(text)
	return checkMembers(string(e.Type), e.Data, always, known)
}

// Matches reports whether the type is of a pattern that a subscriber gives: the type itself, queue.* for all that
// begin so, or *.
func (t EventType) Matches(pattern string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	return string(t) == pattern || wild && strings.HasPrefix(string(t), prefix)
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
	Duration   Seconds    `json:"duration"`                 // from start to end
	RingTime   Seconds    `json:"ring_duration"`            // from start to answer or end
	QueueTime  Seconds    `json:"queue_duration,omitempty"` // waiting in queues
	HoldTime   Seconds    `json:"hold_duration,omitempty"`
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
