package webhooks

// Gather collects digits while a prompt plays. Valid is matched against all of the digits (RE2); what it does not
// match, or has fewer than MinDigits, is tried again up to Attempts times, InvalidPrompt or NoInputPrompt before Prompt.
type Gather struct {
	Step
	Input         []string `json:"input,omitempty" enum:"dtmf" later:"speech"`
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

// Detect listens for what answered: a person, an answering machine, a carrier's announcement, a beep, a fax. It ends
// with the first thing found that For names, with human as soon as a person is heard, and with unknown when the time
// is over. It does not answer the call, so that announcements are heard in early media.
type Detect struct {
	Step
	For     []string `json:"for,omitzero" enum:"machine|announcement|beep|fax"` // nil: all of these
	Timeout Seconds  `json:"timeout" default:"30" check:"min=1,max=120"`
	Tuning  *Tuning  `json:"tuning,omitempty"`
	Action  *Target  `json:"action,omitempty"`
}

// Tuning is when speech counts as a machine's. Bounds and defaults are those of Twilio's answering machine detection.
type Tuning struct {
	SpeechThresholdMS    int `json:"speech_threshold_ms" default:"2400" check:"min=1000,max=6000"`    // a greeting longer than this is a machine's
	SpeechEndThresholdMS int `json:"speech_end_threshold_ms" default:"1200" check:"min=500,max=5000"` // silence that ends a greeting
	SilenceTimeoutMS     int `json:"silence_timeout_ms" default:"5000" check:"min=2000,max=10000"`    // silence at the beginning, then unknown
}

// MachineDetection is detection on a party that a dial or POST /v1/calls calls, from its answer on. Unless Async, the
// party is connected only when it is a person; a machine ends the dial with the outcome machine.
type MachineDetection struct {
	Mode         string  `json:"mode" default:"machine" enum:"machine|message_end"` // as soon as it is known, or when a greeting has ended
	Timeout      Seconds `json:"timeout" default:"30" check:"min=1,max=120"`
	Async        bool    `json:"async,omitempty"` // connected at once; the result is told by call.detected alone
	Tuning       *Tuning `json:"tuning,omitempty"`
	StatusURL    string  `json:"status_url,omitempty" check:"url"` // told call.detected
	StatusMethod string  `json:"-"`                                // as in Record
}

// AnsweredBy says who or what answered a call.
type AnsweredBy string

// What a detection can find. The last three are machines whose greeting has ended, and how.
const (
	ByHuman             AnsweredBy = "human"
	ByFax               AnsweredBy = "fax"
	ByUnknown           AnsweredBy = "unknown"
	ByMachine           AnsweredBy = "machine"
	ByMachineEndBeep    AnsweredBy = "machine_end_beep"
	ByMachineEndSilence AnsweredBy = "machine_end_silence"
	ByMachineEndOther   AnsweredBy = "machine_end_other"
)

// AnnouncementKind is what a carrier's announcement says of the number that was called.
type AnnouncementKind string

// The announcements that are told apart.
const (
	AnnouncesInvalid     AnnouncementKind = "invalid" // no such number
	AnnouncesSuspended   AnnouncementKind = "suspended"
	AnnouncesPowerOff    AnnouncementKind = "power_off"
	AnnouncesBusy        AnnouncementKind = "busy"
	AnnouncesNoAnswer    AnnouncementKind = "no_answer"
	AnnouncesUnreachable AnnouncementKind = "unreachable"
)

// Verb returns the instruction's name in a program.
func (*Gather) Verb() string { return "gather" }
func (*Detect) Verb() string { return "detect" }

// MarshalJSON writes the instruction with its verb.
func (i *Gather) MarshalJSON() ([]byte, error) {
	type plain Gather
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Detect) MarshalJSON() ([]byte, error) {
	type plain Detect
	return withVerb(i.Verb(), (*plain)(i))
}
