package webhooks

// Record records the caller.
type Record struct {
	Step
	MaxLength    Seconds  `json:"max_length" default:"3600" check:"min=1,max=86400"`
	Silence      Seconds  `json:"silence" default:"5" check:"min=0,max=600"`         // 0: never ends for silence
	FinishOnKey  string   `json:"finish_on_key" default:"1234567890*#" check:"keys"` // any of these
	Beep         bool     `json:"beep" default:"true"`
	Channels     int      `json:"channels" default:"1" check:"min=1,max=2"`
	Format       string   `json:"format" default:"wav" enum:"wav"`
	Trim         bool     `json:"trim" default:"true"`
	StatusURL    string   `json:"status_url,omitempty" check:"url"`
	StatusMethod string   `json:"-"`                                                                                    // GET or POST; "": POST. TwiML alone has it, here and wherever a status URL has a method
	StatusEvents []string `json:"status_events,omitzero" enum:"recording.started|recording.completed|recording.failed"` // nil: the last two
	Action       *Target  `json:"action,omitempty"`
}

// Recording starts, pauses, resumes or stops a recording of the call that goes on beside its program. A call has one
// at a time; what is started twice, or stopped when nothing runs, is as if it had not been said.
type Recording struct {
	Step
	Op           string   `json:"op" check:"required" enum:"start|pause|resume|stop"`
	Channels     int      `json:"channels" default:"2" check:"min=1,max=2"`
	Format       string   `json:"format" default:"wav" enum:"wav"`
	StatusURL    string   `json:"status_url,omitempty" check:"url"`
	StatusMethod string   `json:"-"` // as in Record
	StatusEvents []string `json:"status_events,omitzero" enum:"recording.started|recording.completed|recording.failed"`
}

// Voicemail takes a message for a mailbox.
type Voicemail struct {
	Step
	Mailbox   string  `json:"mailbox" check:"required,min=1,max=64"` // id, extension or name
	Greeting  *Sub    `json:"greeting,omitempty" sub:"prompt"`       // nil: the mailbox's own
	MaxLength Seconds `json:"max_length" default:"120" check:"min=1,max=3600"`
}

// Verb returns the instruction's name in a program.
func (*Record) Verb() string    { return "record" }
func (*Recording) Verb() string { return "recording" }
func (*Voicemail) Verb() string { return "voicemail" }

// MarshalJSON writes the instruction with its verb.
func (i *Record) MarshalJSON() ([]byte, error) {
	type plain Record
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Recording) MarshalJSON() ([]byte, error) {
	type plain Recording
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Voicemail) MarshalJSON() ([]byte, error) {
	type plain Voicemail
	return withVerb(i.Verb(), (*plain)(i))
}
