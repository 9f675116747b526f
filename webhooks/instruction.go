package webhooks

import "slices"

// Instruction is one step of a program. The set is closed: the table verbs below names every implementation, says
// which outcomes each has, and where it may stand. The types themselves are in a file per family: play.go, gather.go,
// record.go, dial.go, queue.go, conference.go, flow.go, message.go.
//
// The struct tags are the contract's rules, read by the decoder in decode.go:
//
//	json     the attribute's name
//	default  the value when the attribute is absent
//	check    comma-separated rules: required; min=N; max=N; one of the named formats (url, digits, regex …)
//	enum     the allowed values, separated by |
//	later    values that the contract has a name for and this version refuses by it, separated by |
//	sub      which verbs a sub-program may hold (see SubKind)
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
// absent sub-program: on.timeout: [] means "go on", wait: [] is silence where an absent wait is music.
type Sub struct {
	Instructions []Instruction
	Target       *Target
}

// Target is a URL that is asked for a program. Method is "" for the application's own.
type Target struct {
	URL    string
	Method string
}

// SubKind says what a sub-program is for, and with it which verbs it may hold. What stands under the on of an
// instruction in it belongs to it and may hold no more.
type SubKind string

// The kinds of sub-program.
const (
	SubAny    SubKind = ""       // on.x, on_failure, and a program itself
	SubPrompt SubKind = "prompt" // prompts, invite, greeting, while_waiting: say, play, pause
	SubScreen SubKind = "screen" // run on the other party before it is connected
	SubWait   SubKind = "wait"   // heard in a queue or before a conference begins
)

// subVerbs says which verbs a sub-program may hold where not all are allowed.
var subVerbs = map[SubKind][]string{
	SubPrompt: {"say", "play", "pause"},
	SubScreen: {"say", "play", "pause", "gather", "tag", "reject", "hangup"},
	SubWait:   {"say", "play", "pause", "gather", "tag", "redirect", "leave", "hangup"},
}

// Allows reports whether an instruction of this verb may stand in a sub-program of the kind.
func (k SubKind) Allows(verb string) bool {
	allowed, limited := subVerbs[k]
	return !limited || slices.Contains(allowed, verb)
}

// verb is a row of the table of verbs.
type verb struct {
	make     func() Instruction
	outcomes []Outcome // its own; hangup, redirected and failed are added where there are any
	oneOf    []string  // attributes of which exactly one must be given
}

// audioSources are the attributes that say what is played.
var audioSources = []string{"url", "media_id", "recording_id", "tone"}

var verbs = map[string]verb{
	"answer":      {make: func() Instruction { return new(Answer) }},
	"play":        {make: func() Instruction { return new(Play) }, outcomes: []Outcome{Completed}, oneOf: audioSources},
	"say":         {make: func() Instruction { return new(Say) }, outcomes: []Outcome{Completed}, oneOf: []string{"text", "ssml"}},
	"pause":       {make: func() Instruction { return new(Pause) }},
	"send_digits": {make: func() Instruction { return new(SendDigits) }},

	"gather": {make: func() Instruction { return new(Gather) }, outcomes: []Outcome{Digits, Invalid, Timeout}},
	"detect": {make: func() Instruction { return new(Detect) }, outcomes: []Outcome{Human, Machine, Announcement, Beep, Fax, Unknown}},

	"record":    {make: func() Instruction { return new(Record) }, outcomes: []Outcome{Completed, Silence, Key, Empty}},
	"recording": {make: func() Instruction { return new(Recording) }},
	"voicemail": {make: func() Instruction { return new(Voicemail) }, outcomes: []Outcome{Left, Empty}},

	"dial": {make: func() Instruction { return new(Dial) }, outcomes: []Outcome{
		Completed, TimeLimit, Busy, NoAnswer, Declined, Unreachable, NotAllowed, Canceled, Lost, Machine, Referred,
	}},
	"transfer": {make: func() Instruction { return new(Transfer) }, outcomes: []Outcome{Completed, NoAnswer, Busy, Returned}},
	"refer":    {make: func() Instruction { return new(Refer) }, outcomes: []Outcome{Accepted, Refused}},
	"park":     {make: func() Instruction { return new(Park) }, outcomes: []Outcome{Bridged}},
	"unpark":   {make: func() Instruction { return new(Unpark) }, outcomes: []Outcome{Bridged, Empty}},

	"enqueue": {make: func() Instruction { return new(Enqueue) }, outcomes: []Outcome{Bridged, Left, Timeout, Full, NoAgents, Callback, Lost}},
	"dequeue": {make: func() Instruction { return new(Dequeue) }, outcomes: []Outcome{Bridged, Empty}, oneOf: []string{"queue", "call_id"}},
	"leave":   {make: func() Instruction { return new(Leave) }},

	"conference": {make: func() Instruction { return new(Conference) }, outcomes: []Outcome{Left, Ended, Kicked, Full}},

	"redirect": {make: func() Instruction { return new(Redirect) }},
	"hangup":   {make: func() Instruction { return new(HangUp) }},
	"reject":   {make: func() Instruction { return new(Reject) }},
	"tag":      {make: func() Instruction { return new(Tag) }},

	"message": {make: func() Instruction { return new(Message) }, outcomes: []Outcome{Sent}, oneOf: []string{"body", "template_id"}},
	"survey":  {make: func() Instruction { return new(Survey) }, outcomes: []Outcome{Answered, Skipped}},
}

// What the contract has a name for and this version does not do. It is refused by that name rather than as unknown:
// whoever wrote it has read the manual right.
var (
	laterVerbs      = []string{"stream", "transcribe"}
	laterAttributes = map[string][]string{
		"gather":  {"speech"},
		"record":  {"transcribe"},
		"enqueue": {"skills", "preferred_agent", "preferred_for", "callback_key"},
	}
)

// sharedOutcomes exist for every verb that has outcomes.
var sharedOutcomes = []Outcome{Hangup, Redirected, Failed}

// Outcomes returns how an instruction of this verb can end; nil for a verb that has no outcomes.
func Outcomes(verb string) []Outcome {
	own := verbs[verb].outcomes
	if len(own) == 0 {
		return nil
	}
	return slices.Concat(own, sharedOutcomes)
}

// HasOutcome reports whether an instruction of this verb can end with o.
func HasOutcome(verb string, o Outcome) bool { return slices.Contains(Outcomes(verb), o) }

// Verbs returns the names of the verbs there are.
func Verbs() []string {
	names := make([]string, 0, len(verbs))
	for name := range verbs {
		names = append(names, name)
	}
	return names
}

// ActionOf returns the action of an instruction: what is asked when no on fits its outcome. It is nil where there is
// none, or the verb has none.
func ActionOf(i Instruction) *Target {
	switch i := i.(type) {
	case *Gather:
		return i.Action
	case *Detect:
		return i.Action
	case *Record:
		return i.Action
	case *Dial:
		return i.Action
	case *Transfer:
		return i.Action
	case *Refer:
		return i.Action
	case *Enqueue:
		return i.Action
	case *Conference:
		return i.Action
	}
	return nil
}
