// Package conference owns what is known of conferences and of who was in them. Both are read from the events of calls:
// rooms are made, and ended, by the edge that carries them; who is in one is changed by an action on that call.
package conference

import (
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Status is where a conference stands.
type Status string

// The statuses of a conference.
const (
	StatusWaiting    Status = "waiting"     // somebody is there, and it has not begun
	StatusInProgress Status = "in_progress" // it has begun
	StatusCompleted  Status = "completed"   // it is over; the next of its name is another one
)

// Conference is one room from the first who came to the last who left. Its owner is that of the call which made it.
type Conference struct {
	bun.BaseModel `bun:"table:conferences" json:"-"`
	db.Row
	db.Owned

	Name         string `bun:"name" json:"name"` // several have had it; of those that are not completed one at most
	Status       Status `bun:"status" json:"status"`
	Participants int    `bun:"participants" json:"participants"` // in it now

	StartedAt   *time.Time           `bun:"started_at" json:"started_at,omitempty"`
	EndedAt     *time.Time           `bun:"ended_at" json:"ended_at,omitempty"`
	Duration    *webhooks.Seconds    `bun:"duration" json:"duration,omitempty"` // since it began
	Reason      string               `bun:"reason,nullzero" json:"reason,omitempty"`
	EndedByCall webhooks.CallID      `bun:"ended_by_call_id,nullzero" json:"ended_by_call_id,omitempty"`
	RecordingID webhooks.RecordingID `bun:"recording_id,nullzero" json:"recording_id,omitempty"`
}

// Participant is one stay of a call in a conference.
type Participant struct {
	bun.BaseModel `bun:"table:conference_participants" json:"-"`
	db.Row
	db.Owned

	ConferenceID webhooks.ConferenceID `bun:"conference_id" json:"conference_id"`
	CallID       webhooks.CallID       `bun:"call_id" json:"call_id"`
	Label        string                `bun:"label,nullzero" json:"label,omitempty"`
	Mode         string                `bun:"mode" json:"mode"` // talk, listen, whisper
	Muted        bool                  `bun:"muted" json:"muted"`
	Held         bool                  `bun:"held" json:"held"`
	StartOnEnter bool                  `bun:"start_on_enter" json:"start_on_enter"`
	EndOnExit    bool                  `bun:"end_on_exit" json:"end_on_exit"`

	JoinedAt time.Time         `bun:"joined_at" json:"joined_at"`
	LeftAt   *time.Time        `bun:"left_at" json:"left_at,omitempty"`
	Duration *webhooks.Seconds `bun:"duration" json:"duration,omitempty"` // in the room, once it has left
	Reason   string            `bun:"reason,nullzero" json:"reason,omitempty"`
}
