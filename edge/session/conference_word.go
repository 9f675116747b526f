package session

import (
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// The words of the two edges of a leg in a conference that another edge carries. The leg's edge begins by joining; from then
// on the room's edge says what happens to the leg. The leg leaves by the end of the link.

// legWord is one of the leg's edge: exactly one of these.
type legWord struct {
	Join *joining `json:"join,omitempty"`
	Here bool     `json:"here,omitempty"` // it has told that it is in: what that leads to follows
	Told *told    `json:"told,omitempty"`
	Ask  *asking  `json:"ask,omitempty"`
}

// joining is how a leg wants to take part: what its instruction says, with templates filled in.
type joining struct {
	Label                 string          `json:"label,omitempty"`
	StartOnEnter          bool            `json:"start_on_enter"`
	EndOnExit             bool            `json:"end_on_exit"`
	Beep                  string          `json:"beep,omitempty"`
	Mode                  string          `json:"mode"`
	WhisperTo             webhooks.CallID `json:"whisper_to,omitempty"`
	Muted                 bool            `json:"muted,omitempty"`
	Record                bool            `json:"record,omitempty"`
	RecordingStatusURL    string          `json:"recording_status_url,omitempty"`
	RecordingStatusMethod string          `json:"recording_status_method,omitempty"` // "": POST
	RecordingStatusEvents []string        `json:"recording_status_events,omitzero"`
	MaxParticipants       int             `json:"max_participants"`
	Language              string          `json:"language,omitempty"` // of system prompts
}

// told is an event of the leg as its edge has numbered it, for the room's status URL.
type told struct {
	Event webhooks.Event `json:"event"`
	Call  webhooks.Call  `json:"call"`
}

// asking is an op of a live change to the leg that the room makes.
type asking struct {
	Number int             `json:"number"`
	Change webhooks.Action `json:"change"`
}

// roomWord is one of the room's edge: exactly one of these.
type roomWord struct {
	Refused     *refused             `json:"refused,omitempty"` // the leg does not come in
	Event       *roomEvent           `json:"event,omitempty"`
	Begun       bool                 `json:"begun,omitempty"` // the leg is to hear the room from now on
	Size        int                  `json:"size,omitempty"`  // of the room
	RecordingID webhooks.RecordingID `json:"recording_id,omitempty"`
	Out         *leaving             `json:"out,omitempty"` // the leg is out
	Done        *made                `json:"done,omitempty"`
}

// refused says why a leg does not come in.
type refused struct {
	ConferenceID webhooks.ConferenceID `json:"conference_id"`
	Full         bool                  `json:"full,omitempty"`
	Over         bool                  `json:"over,omitempty"` // try again: the next of its name is another
	Message      string                `json:"message"`
}

// roomEvent is one that the leg's edge is to emit.
type roomEvent struct {
	Type   webhooks.EventType `json:"type"`
	Data   webhooks.EventData `json:"data"`
	At     time.Time          `json:"at"`               // by the clock of the room's edge, so that the events of a room have an order
	Report bool               `json:"report,omitempty"` // as told
}

// leaving is how a leg has been taken out.
type leaving struct {
	Outcome     webhooks.Outcome     `json:"outcome"`
	RecordingID webhooks.RecordingID `json:"recording_id,omitempty"`
}

// made is what became of an asking.
type made struct {
	Number  int    `json:"number"`
	Message string `json:"message,omitempty"` // of a failure
	Absent  bool   `json:"absent,omitempty"`  // whom it names is neither in the room nor on its edge
}
