package webhooks

// Conference puts the leg into a room of that name in the account, made when the first comes and gone when the last
// has left. It begins when a second party is in it and one with StartOnEnter has come; until then Wait is heard,
// once: unlike a queue's it does not begin again.
type Conference struct {
	Step
	Name            string   `json:"name" check:"required,line,min=1,max=128"`
	Mode            string   `json:"mode" default:"talk" enum:"talk|listen|whisper"`
	WhisperTo       CallID   `json:"whisper_to,omitempty" check:"max=64"`  // with mode whisper: the only one who hears this leg
	Label           string   `json:"label,omitempty" check:"line,max=128"` // of this participant, unique in the room
	Muted           bool     `json:"muted,omitempty"`
	StartOnEnter    bool     `json:"start_on_enter" default:"true"`
	EndOnExit       bool     `json:"end_on_exit,omitempty"`
	Beep            string   `json:"beep" default:"none" enum:"none|enter|exit|both"` // heard by the others
	Wait            *Sub     `json:"wait,omitempty" sub:"wait"`                       // nil: music; an empty list: silence
	MaxParticipants int      `json:"max_participants" default:"250" check:"min=2,max=250"`
	Record          bool     `json:"record,omitempty"`                                                                                                                                                                                                                                                                                               // the room, mixed, from its beginning
	TimeLimit       Seconds  `json:"time_limit,omitempty" check:"min=1,max=86400"`                                                                                                                                                                                                                                                                   // of this leg in the room; 0: the call's own
	HangUpOn        string   `json:"hang_up_on,omitempty" check:"key"`                                                                                                                                                                                                                                                                               // the key by which this leg leaves
	StatusURL       string   `json:"status_url,omitempty" check:"url"`                                                                                                                                                                                                                                                                               // told the room's events; the first participant's counts
	StatusMethod    string   `json:"-"`                                                                                                                                                                                                                                                                                                              // as in Record
	StatusEvents    []string `json:"status_events,omitzero" enum:"conference.started|conference.ended|conference.joined|conference.left|conference.muted|conference.unmuted|conference.held|conference.unheld|conference.modified|conference.speech_started|conference.speech_stopped|conference.announcement_ended|conference.announcement_failed"` // nil: all

	RecordingStatusURL    string   `json:"recording_status_url,omitempty" check:"url"`
	RecordingStatusMethod string   `json:"-"`                                                                                              // as in Record
	RecordingStatusEvents []string `json:"recording_status_events,omitzero" enum:"recording.started|recording.completed|recording.failed"` // nil: the last two

	Action *Target `json:"action,omitempty"`
}

// Verb returns the instruction's name in a program.
func (*Conference) Verb() string { return "conference" }

// MarshalJSON writes the instruction with its verb.
func (i *Conference) MarshalJSON() ([]byte, error) {
	type plain Conference
	return withVerb(i.Verb(), (*plain)(i))
}
