package webhooks

// Instruction is one step of a program. The set is closed: every implementation is in this file, and the table
// verbs below says which outcomes each has and what may stand in its sub-programs.
//
// The struct tags are the contract's rules, read by the decoder in decode.go:
//
//	json     the attribute's name
//	default  the value when the attribute is absent
//	check    comma-separated rules: required; min=N; max=N; one of the named formats (url, digits, regex …)
//	enum     the allowed values, separated by |
//	sub      which verbs a sub-program may hold (see subVerbs)
type Instruction interface {
	Verb() string
	Common() *Step
	isInstruction()
}

// Step is what every instruction may have.
type Step struct {
	ID string         `json:"id,omitempty" check:"id"`
	On map[string]Sub `json:"on,omitempty"`
}

// Common returns the part shared by all instructions.
func (s *Step) Common() *Step { return s }

func (s *Step) isInstruction() {}

// Sub is a sub-program: inline instructions or a URL to ask for them. An empty inline list is not the same as an
// absent sub-program: on.timeout: [] means "go on".
type Sub struct {
	Instructions []Instruction
	Target       *Target
}

// Target is a URL that is asked for a program. Method is "" for the application's own.
type Target struct {
	URL    string
	Method string
}

// Answer answers the call.
type Answer struct {
	Step
	Headers map[string]string `json:"headers,omitempty" check:"headers"`
}

// Play plays audio: exactly one of URL, MediaID, RecordingID and Tone.
type Play struct {
	Step
	URL         string      `json:"url,omitempty" check:"url"`
	MediaID     MediaID     `json:"media_id,omitempty"`
	RecordingID RecordingID `json:"recording_id,omitempty"` // of this call
	Tone        string      `json:"tone,omitempty" check:"tone"`
	Loop        int         `json:"loop" default:"1" check:"min=0,max=1000"` // 0 for ever
	Start       Seconds     `json:"start,omitempty" check:"min=0,max=86400"`
	VolumeDB    float64     `json:"volume_db,omitempty" check:"min=-40,max=20"`
	Early       bool        `json:"early,omitempty"` // as early media (183), without answering
}

// Say speaks text: exactly one of Text and SSML.
type Say struct {
	Step
	Text     string  `json:"text,omitempty" check:"max=4096"`
	SSML     string  `json:"ssml,omitempty" check:"max=8192"`
	Voice    string  `json:"voice,omitempty" check:"max=64"`
	Language string  `json:"language,omitempty" check:"language"`
	Loop     int     `json:"loop" default:"1" check:"min=0,max=1000"`
	VolumeDB float64 `json:"volume_db,omitempty" check:"min=-40,max=20"`
	Provider string  `json:"provider,omitempty" check:"max=64"`
}

// Pause waits. It does not answer the call.
type Pause struct {
	Step
	Length Seconds `json:"length" default:"1" check:"min=0,max=86400"`
}

// Gather collects digits while a prompt plays.
type Gather struct {
	Step
	Input         []string `json:"input,omitempty" enum:"dtmf"`
	Prompt        *Sub     `json:"prompt,omitempty" sub:"prompt"`
	NumDigits     int      `json:"num_digits,omitempty" check:"min=1,max=64"` // 0: as many as come
	MinDigits     int      `json:"min_digits" default:"1" check:"min=0,max=64"`
	FinishOnKey   string   `json:"finish_on_key" default:"#" check:"key"` // one key, or "" for none
	Timeout       Seconds  `json:"timeout" default:"5" check:"min=0,max=600"`
	DigitTimeout  *Seconds `json:"digit_timeout,omitempty" check:"min=0,max=600"` // nil: as Timeout
	BargeIn       bool     `json:"barge_in" default:"true"`
	Attempts      int      `json:"attempts" default:"1" check:"min=1,max=20"`
	Valid         string   `json:"valid,omitempty" check:"regex"`
	InvalidPrompt *Sub     `json:"invalid_prompt,omitempty" sub:"prompt"`
	NoInputPrompt *Sub     `json:"no_input_prompt,omitempty" sub:"prompt"`
	Mask          bool     `json:"mask,omitempty"` // the digits are never logged, stored or shown
	Action        *Target  `json:"action,omitempty"`
}

// Record records the caller.
type Record struct {
	Step
	MaxLength   Seconds `json:"max_length" default:"3600" check:"min=1,max=86400"`
	Silence     Seconds `json:"silence" default:"5" check:"min=0,max=600"`         // 0: never ends for silence
	FinishOnKey string  `json:"finish_on_key" default:"1234567890*#" check:"keys"` // any of these
	Beep        bool    `json:"beep" default:"true"`
	Channels    int     `json:"channels" default:"1" check:"min=1,max=2"`
	Format      string  `json:"format" default:"wav" enum:"wav"`
	Trim        bool    `json:"trim" default:"true"`
	StatusURL   string  `json:"status_url,omitempty" check:"url"`
	Action      *Target `json:"action,omitempty"`
}

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
	Action         *Target           `json:"action,omitempty"`
}

// DialTarget is one party to dial: exactly one of Number, SIP and Extension.
type DialTarget struct {
	Number    string  `json:"number,omitempty" check:"number"`
	SIP       string  `json:"sip,omitempty" check:"sip"`
	Username  string  `json:"username,omitempty" check:"line,max=128"` // with SIP
	Password  string  `json:"password,omitempty" check:"line,max=128"` // with SIP
	Extension string  `json:"extension,omitempty" check:"extension"`
	Timeout   Seconds `json:"timeout,omitempty" check:"min=1,max=600"` // 0: the instruction's
	Delay     Seconds `json:"delay,omitempty" check:"min=0,max=600"`
	Screen    *Sub    `json:"screen,omitempty" sub:"screen"`
	Trunk     string  `json:"trunk,omitempty" check:"max=64"` // id or name, with Number
	CallerID  string  `json:"caller_id,omitempty" check:"caller"`
}

// Name returns the target as a person would write it.
func (t DialTarget) Name() string {
	switch {
	case t.Number != "":
		return t.Number
	case t.Extension != "":
		return t.Extension
	}
	return t.SIP
}

// Redirect asks a URL for the rest of the program.
type Redirect struct {
	Step
	URL    string `json:"url" check:"required,url"`
	Method string `json:"method,omitempty" enum:"POST|GET"`
}

// HangUp ends the call.
type HangUp struct {
	Step
	Cause string `json:"cause,omitempty" check:"max=64"`
}

// Reject refuses a call that is not answered yet: by reason, or with a SIP response code of the application's
// choice.
type Reject struct {
	Step
	Reason  string `json:"reason" default:"rejected" enum:"rejected|busy"`
	SIPCode int    `json:"sip_code,omitempty" check:"min=400,max=699"`
}

// SendDigits sends DTMF to the other side: 0-9 A-D * #, w waits 0.5 s, W 1 s.
type SendDigits struct {
	Step
	Digits     string `json:"digits" check:"required,dtmf,max=128"`
	DurationMS int    `json:"duration_ms" default:"100" check:"min=40,max=6000"`
	GapMS      int    `json:"gap_ms" default:"100" check:"min=40,max=6000"`
}

// Tag merges values into the call's data.
type Tag struct {
	Step
	Data map[string]any `json:"data" check:"required"`
}

// Verb returns the instruction's name in a program.
func (*Answer) Verb() string     { return "answer" }
func (*Play) Verb() string       { return "play" }
func (*Say) Verb() string        { return "say" }
func (*Pause) Verb() string      { return "pause" }
func (*Gather) Verb() string     { return "gather" }
func (*Record) Verb() string     { return "record" }
func (*Dial) Verb() string       { return "dial" }
func (*Redirect) Verb() string   { return "redirect" }
func (*HangUp) Verb() string     { return "hangup" }
func (*Reject) Verb() string     { return "reject" }
func (*SendDigits) Verb() string { return "send_digits" }
func (*Tag) Verb() string        { return "tag" }

// verb is a row of the table of verbs.
type verb struct {
	make     func() Instruction
	outcomes []Outcome // its own; hangup, redirected and failed are added where there are any
	oneOf    []string  // attributes of which exactly one must be given
}

var verbs = map[string]verb{
	"answer":      {func() Instruction { return new(Answer) }, nil, nil},
	"play":        {func() Instruction { return new(Play) }, []Outcome{Completed}, []string{"url", "media_id", "recording_id", "tone"}},
	"say":         {func() Instruction { return new(Say) }, []Outcome{Completed}, []string{"text", "ssml"}},
	"pause":       {func() Instruction { return new(Pause) }, nil, nil},
	"gather":      {func() Instruction { return new(Gather) }, []Outcome{Digits, Invalid, Timeout}, nil},
	"record":      {func() Instruction { return new(Record) }, []Outcome{Completed, Silence, Key, Empty}, nil},
	"dial":        {func() Instruction { return new(Dial) }, []Outcome{Completed, TimeLimit, Busy, NoAnswer, Declined, Unreachable, NotAllowed, Canceled, Lost}, nil},
	"redirect":    {func() Instruction { return new(Redirect) }, nil, nil},
	"hangup":      {func() Instruction { return new(HangUp) }, nil, nil},
	"reject":      {func() Instruction { return new(Reject) }, nil, nil},
	"send_digits": {func() Instruction { return new(SendDigits) }, nil, nil},
	"tag":         {func() Instruction { return new(Tag) }, nil, nil},
}

// subVerbs says which verbs a sub-program may hold where not all are allowed.
var subVerbs = map[string][]string{
	"prompt": {"say", "play", "pause"},
	"screen": {"say", "play", "pause", "gather", "tag", "reject", "hangup"},
}

// HasOutcome reports whether an instruction of this verb can end with o.
func HasOutcome(name string, o Outcome) bool {
	v, ok := verbs[name]
	if !ok || len(v.outcomes) == 0 {
		return false
	}
	if o == Hangup || o == Redirected || o == Failed {
		return true
	}
	for _, own := range v.outcomes {
		if own == o {
			return true
		}
	}
	return false
}

// Verbs returns the names of the verbs there are.
func Verbs() []string {
	names := make([]string, 0, len(verbs))
	for name := range verbs {
		names = append(names, name)
	}
	return names
}
