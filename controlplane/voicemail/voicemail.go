// Package voicemail owns mailboxes and the messages that callers leave in them: whose they are, who has heard them, and
// that each is there once, however often its edge tells of it. Taking a message is left to the edges, its audio to
// recordings.
//
// A message is made from the events of its call. recording.started names the mailbox; when recording.completed says that
// the audio is there, the message is. Both outlive an absence of the control plane in the edge's spool, and where the edge
// is lost the control plane ends the recording in its place: the message then has what was shipped. Its id is the
// recording's with another prefix, so that nothing can make it twice.
package voicemail

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Mailbox is where callers leave messages. Its owner and its department are those of the messages in it.
type Mailbox struct {
	bun.BaseModel `bun:"table:mailboxes" json:"-"`
	db.Row
	db.Owned
	Draft
}

// Draft is what a caller may write and change of a mailbox, beside its owner.
type Draft struct {
	Name    string `bun:"name" json:"name"` // 1–64 characters, unique in the account
	Enabled bool   `bun:"enabled" json:"enabled"`
	// CredentialID is the extension that the mailbox is named by as well, which is no other mailbox's.
	CredentialID string `bun:"credential_id,nullzero" json:"credential_id,omitempty"`
	// Greeting is a program of say, play and pause, kept as it was given; without one the system's own is heard.
	Greeting json.RawMessage `bun:"greeting,type:jsonb,nullzero" json:"greeting,omitempty"`
	// MinLength is how long it must be to be a message, MaxLength the longest that it can be, and Silence how long nothing
	// is said until it ends; 0 is for ever.
	MinLength webhooks.Seconds `bun:"min_length" json:"min_length"`
	MaxLength webhooks.Seconds `bun:"max_length" json:"max_length"`
	Silence   webhooks.Seconds `bun:"silence" json:"silence"`
	// FinishOnKey are the keys that end it; empty for none.
	FinishOnKey string `bun:"finish_on_key" json:"finish_on_key"`
}

// Defaults are the values that the specification gives absent fields, for mailboxes made in Go.
func Defaults() Draft {
	return Draft{Enabled: true, MinLength: 1, MaxLength: 120, Silence: 5, FinishOnKey: "#"}
}

// Bounds of a mailbox. Durations are seconds.
const (
	maxName      = 64
	maxMinLength = 10 // less than a segment of a recording: what is too short has not been shipped
	maxMaxLength = 3600
	maxSilence   = 600
	maxNote      = 2000
)

// idPrefix begins an id, and so no name: either is given where a mailbox is wanted.
const idPrefix = "mbx_"

// Check refuses what no mailbox can be. That its extension exists is not known here.
func (d *Draft) Check() error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case strings.HasPrefix(d.Name, idPrefix):
		return problem.InvalidField("/name", "pattern", "must not begin with %s, as ids do", idPrefix)
	case strings.Trim(d.FinishOnKey, "0123456789*#ABCD") != "":
		return problem.InvalidField("/finish_on_key", "pattern", "must be keys, such as #")
	}
	for _, n := range []struct {
		pointer   string
		value     webhooks.Seconds
		low, high webhooks.Seconds
	}{
		{"/min_length", d.MinLength, 0, maxMinLength},
		{"/max_length", d.MaxLength, 1, maxMaxLength},
		{"/silence", d.Silence, 0, maxSilence},
	} {
		if !(n.value >= n.low && n.value <= n.high) { // so that NaN is none
			return problem.InvalidField(n.pointer, "range", "must be %g–%g seconds, is %g", float64(n.low), float64(n.high), float64(n.value))
		}
	}
	_, err := d.greeting()
	return err
}

// greeting reads the stored greeting, nil where there is none.
func (d *Draft) greeting() (*webhooks.Program, error) {
	p, err := app.ParseProgram("/greeting", d.Greeting)
	if err != nil {
		return nil, err
	}
	if p == nil {
		d.Greeting = nil
		return nil, nil
	}
	err = p.Fits(webhooks.SubPrompt)
	if refused, ok := errors.AsType[*webhooks.ProgramError](err); ok {
		return nil, problem.InvalidField("/greeting"+refused.Pointer, "program", "%s", refused.Message)
	}
	return p, err
}

// Voicemail is a message that somebody has left.
type Voicemail struct {
	bun.BaseModel `bun:"table:voicemails" json:"-"`
	db.Row
	db.Owned

	MailboxID string `bun:"mailbox_id,nullzero" json:"mailbox_id,omitempty"`
	// MailboxName is what the program called it, where there was no mailbox of that name.
	MailboxName    string                  `bun:"mailbox_name,nullzero" json:"mailbox_name,omitempty"`
	CallID         webhooks.CallID         `bun:"call_id" json:"call_id"`
	ConversationID webhooks.ConversationID `bun:"conversation_id,nullzero" json:"conversation_id,omitempty"`
	RecordingID    webhooks.RecordingID    `bun:"recording_id" json:"recording_id"`
	From           string                  `bun:"from,nullzero" json:"from,omitempty"` // who has left it
	To             string                  `bun:"to,nullzero" json:"to,omitempty"`     // the number that was called
	Duration       webhooks.Seconds        `bun:"duration" json:"duration"`
	Size           int64                   `bun:"size" json:"size"` // bytes
	LeftAt         time.Time               `bun:"left_at" json:"left_at"`
	Remarks
	ReadAt *time.Time `bun:"read_at" json:"read_at,omitempty"`
	ReadBy string     `bun:"read_by,nullzero" json:"read_by,omitempty"` // a user
}

// Remarks is what those who hear a message write on it.
type Remarks struct {
	Read bool   `bun:"read" json:"read"`
	Note string `bun:"note,nullzero" json:"note,omitempty"` // at most 2,000 characters
}

// pending is a message that is being recorded, or on its way.
type pending struct {
	bun.BaseModel `bun:"table:pending_voicemails"`

	RecordingID webhooks.RecordingID `bun:"recording_id,pk"`
	AccountID   string               `bun:"account_id"`
	CallID      webhooks.CallID      `bun:"call_id"`
	Mailbox     string               `bun:"mailbox"` // id, extension or name
	StartedAt   time.Time            `bun:"started_at"`
}
