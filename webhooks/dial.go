package webhooks

// Dial calls other parties and connects the first that answers.
type Dial struct {
	Step
	To             []DialTarget      `json:"to" check:"required,min=1,max=10"`
	Strategy       string            `json:"strategy" default:"simultaneous" enum:"simultaneous|sequential"`
	Timeout        Seconds           `json:"timeout" default:"30" check:"min=1,max=600"`
	TimeLimit      Seconds           `json:"time_limit" default:"14400" check:"min=1,max=86400"`
	CallerID       string            `json:"caller_id,omitempty" check:"caller"`
	CallerName     string            `json:"caller_name,omitempty" check:"line,max=70"`
	AnswerOnBridge bool              `json:"answer_on_bridge,omitempty"`
	Ringback       string            `json:"ringback,omitempty" check:"tone"`
	Screen         *Sub              `json:"screen,omitempty" sub:"screen"`
	Record         string            `json:"record" default:"none" enum:"none|answer|ringing"`
	HangUpOn       string            `json:"hang_up_on,omitempty" check:"key"`
	Headers        map[string]string `json:"headers,omitempty" check:"headers"`

	MachineDetection *MachineDetection `json:"machine_detection,omitempty"`
	// Refer is asked when the connected party sends a REFER, with the outcome referred; the REFER is accepted and the
	// answer is what the caller goes on with. nil ("deny"): it is declined and the talk goes on.
	Refer *Target `json:"refer,omitempty" check:"deny"`

	RecordingStatusURL    string   `json:"recording_status_url,omitempty" check:"url"`
	RecordingStatusMethod string   `json:"-"`                                                                                              // as in Record
	RecordingStatusEvents []string `json:"recording_status_events,omitzero" enum:"recording.started|recording.completed|recording.failed"` // nil: the last two

	Action *Target `json:"action,omitempty"`
}

// DialTarget is one party to dial: exactly one of Number, SIP, Extension, Agent and Client.
type DialTarget struct {
	Number    string  `json:"number,omitempty" check:"number"`
	SIP       string  `json:"sip,omitempty" check:"sip"`
	Username  string  `json:"username,omitempty" check:"line,max=128"` // with SIP
	Password  string  `json:"password,omitempty" check:"line,max=128"` // with SIP
	Extension string  `json:"extension,omitempty" check:"extension"`
	Agent     string  `json:"agent,omitempty" check:"min=1,max=64"`        // id or external_id: where the agent is reached now
	Client    string  `json:"client,omitempty" check:"line,min=1,max=256"` // identity of a browser phone
	Timeout   Seconds `json:"timeout,omitempty" check:"min=1,max=600"`     // 0: the instruction's
	Delay     Seconds `json:"delay,omitempty" check:"min=0,max=600"`
	Screen    *Sub    `json:"screen,omitempty" sub:"screen"`
	Trunk     string  `json:"trunk,omitempty" check:"max=64"` // id or name, with Number
	CallerID  string  `json:"caller_id,omitempty" check:"caller"`

	SendDigits       string            `json:"send_digits,omitempty" check:"dtmf,max=128"`                                         // to the party, when it answers, before its screen
	MachineDetection *MachineDetection `json:"machine_detection,omitempty"`                                                        // nil: the instruction's
	StatusURL        string            `json:"status_url,omitempty" check:"url"`                                                   // told the events of this party's leg
	StatusMethod     string            `json:"-"`                                                                                  // as in Record
	StatusEvents     []string          `json:"status_events,omitzero" enum:"call.initiated|call.ringing|call.answered|call.ended"` // nil: all
}

// targetKinds are the attributes of which a target has exactly one.
var targetKinds = []string{"number", "sip", "extension", "agent", "client"}

// Name returns the target as a person would write it.
func (t DialTarget) Name() string {
	for _, name := range []string{t.Number, t.Extension, t.Agent, t.Client} {
		if name != "" {
			return name
		}
	}
	return t.SIP
}

// Transfer hands the other party of this leg to a target: at once (blind), or after the two have spoken (attended).
// A target that does not take the call gives it back: returned.
type Transfer struct {
	Step
	To       DialTarget `json:"to" check:"required"`
	Mode     string     `json:"mode" default:"blind" enum:"blind|attended"`
	Timeout  Seconds    `json:"timeout" default:"30" check:"min=1,max=600"` // of ringing
	Screen   *Sub       `json:"screen,omitempty" sub:"screen"`
	CallerID string     `json:"caller_id,omitempty" check:"caller"`
	Action   *Target    `json:"action,omitempty"`
}

// Refer asks the phone or network of this leg to call somebody else by itself (RFC 3515). It ends when the new call
// has been answered or refused, as far as NOTIFY tells.
type Refer struct {
	Step
	To      string            `json:"to" check:"required,refer"` // SIP or tel URI, or a number
	Headers map[string]string `json:"headers,omitempty" check:"headers"`
	Action  *Target           `json:"action,omitempty"`
}

// Park keeps the call in a numbered place, with music, until somebody picks it up there.
type Park struct {
	Step
	Slot string `json:"slot,omitempty" check:"slot"` // "": the first that is free; the trigger and the events name it
}

// Unpark connects this leg with the call that is parked in a place.
type Unpark struct {
	Step
	Slot string `json:"slot" check:"required,slot"`
}

// Verb returns the instruction's name in a program.
func (*Dial) Verb() string     { return "dial" }
func (*Transfer) Verb() string { return "transfer" }
func (*Refer) Verb() string    { return "refer" }
func (*Park) Verb() string     { return "park" }
func (*Unpark) Verb() string   { return "unpark" }

// MarshalJSON writes the instruction with its verb.
func (i *Dial) MarshalJSON() ([]byte, error) { type plain Dial; return withVerb(i.Verb(), (*plain)(i)) }
func (i *Transfer) MarshalJSON() ([]byte, error) {
	type plain Transfer
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Refer) MarshalJSON() ([]byte, error) {
	type plain Refer
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Park) MarshalJSON() ([]byte, error) { type plain Park; return withVerb(i.Verb(), (*plain)(i)) }
func (i *Unpark) MarshalJSON() ([]byte, error) {
	type plain Unpark
	return withVerb(i.Verb(), (*plain)(i))
}
