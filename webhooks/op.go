package webhooks

// op is a row of the table of ops.
type op struct {
	make  func() Op
	oneOf []string // attributes of which exactly one must be given
}

// supervisor names who does it: a target that is called first, or a live leg of its own.
var supervisor = []string{"by", "call_id"}

var ops = map[string]op{
	"hangup":     {make: func() Op { return new(OpHangUp) }},
	"mute":       {make: func() Op { return new(OpMute) }},
	"unmute":     {make: func() Op { return new(OpUnmute) }},
	"hold":       {make: func() Op { return new(OpHold) }},
	"unhold":     {make: func() Op { return new(OpUnhold) }},
	"digits":     {make: func() Op { return new(OpDigits) }},
	"play":       {make: func() Op { return new(OpPlay) }, oneOf: audioSources},
	"say":        {make: func() Op { return new(OpSay) }, oneOf: []string{"text", "ssml"}},
	"recording":  {make: func() Op { return new(OpRecording) }},
	"listen":     {make: func() Op { return new(OpListen) }, oneOf: supervisor},
	"whisper":    {make: func() Op { return new(OpWhisper) }, oneOf: supervisor},
	"barge":      {make: func() Op { return new(OpBarge) }, oneOf: supervisor},
	"intercept":  {make: func() Op { return new(OpIntercept) }, oneOf: supervisor},
	"disconnect": {make: func() Op { return new(OpDisconnect) }},
	"pick_up":    {make: func() Op { return new(OpPickUp) }, oneOf: supervisor},
	"transfer":   {make: func() Op { return new(OpTransfer) }},
	"consult":    {make: func() Op { return new(OpConsult) }},
	"complete":   {make: func() Op { return new(OpComplete) }},
	"cancel":     {make: func() Op { return new(OpCancel) }},
	"merge":      {make: func() Op { return new(OpMerge) }},
	"drop":       {make: func() Op { return new(OpDrop) }},
	"retarget":   {make: func() Op { return new(OpRetarget) }},
	"park":       {make: func() Op { return new(OpPark) }},
	"survey":     {make: func() Op { return new(OpSurvey) }},
	"priority":   {make: func() Op { return new(OpPriority) }},
	"move":       {make: func() Op { return new(OpMove) }},
	"assign":     {make: func() Op { return new(OpAssign) }},
}

// OpHangUp ends the call.
type OpHangUp struct {
	Cause string `json:"cause,omitempty" check:"max=64"`
}

// OpMute silences this leg: nobody hears it any more, in a bridge or a conference. Its own recording does.
type OpMute struct{}

// OpUnmute undoes OpMute.
type OpUnmute struct{}

// OpHold cuts this leg off from whom it speaks with, who hears Prompt, repeated.
type OpHold struct {
	Prompt *Sub `json:"prompt,omitempty" sub:"prompt"` // nil: music; an empty list: silence
}

// OpUnhold undoes OpHold.
type OpUnhold struct{}

// OpDigits sends DTMF to this leg, beside whatever runs.
type OpDigits struct {
	Digits     string `json:"digits" check:"required,dtmf,max=128"`
	DurationMS int    `json:"duration_ms" default:"100" check:"min=40,max=6000"`
	GapMS      int    `json:"gap_ms" default:"100" check:"min=40,max=6000"`
}

// OpPlay plays to this leg, beside whatever runs: exactly one of URL, MediaID, RecordingID and Tone.
type OpPlay struct {
	URL         string      `json:"url,omitempty" check:"url"`
	MediaID     MediaID     `json:"media_id,omitempty" check:"min=1,max=64"`
	RecordingID RecordingID `json:"recording_id,omitempty" check:"min=1,max=64"` // of this call
	Tone        string      `json:"tone,omitempty" check:"tone"`
	Loop        int         `json:"loop" default:"1" check:"min=0,max=1000"` // 0: until another play or say
	VolumeDB    float64     `json:"volume_db,omitempty" check:"min=-40,max=20"`
	To          string      `json:"to" default:"self" enum:"self|both"` // both: the party it is bridged with, or the conference, as well
}

// OpSay speaks to this leg, beside whatever runs: exactly one of Text and SSML.
type OpSay struct {
	Text     string  `json:"text,omitempty" check:"min=1,max=4096"`
	SSML     string  `json:"ssml,omitempty" check:"min=1,max=8192"`
	Voice    string  `json:"voice,omitempty" check:"max=64"`
	Language string  `json:"language,omitempty" check:"language"`
	Loop     int     `json:"loop" default:"1" check:"min=0,max=1000"`
	VolumeDB float64 `json:"volume_db,omitempty" check:"min=-40,max=20"`
	Provider string  `json:"provider,omitempty" check:"max=64"`
	To       string  `json:"to" default:"self" enum:"self|both"`
}

// OpRecording starts, pauses, resumes or stops the call's recording, as the verb does.
type OpRecording struct {
	Do           string   `json:"do" check:"required" enum:"start|pause|resume|stop"`
	Channels     int      `json:"channels" default:"2" check:"min=1,max=2"`
	Format       string   `json:"format" default:"wav" enum:"wav"`
	StatusURL    string   `json:"status_url,omitempty" check:"url"`
	StatusEvents []string `json:"status_events,omitzero" enum:"recording.started|recording.completed|recording.failed"`
}

// OpListen lets a supervisor hear both sides.
type OpListen struct {
	By     *DialTarget `json:"by,omitempty"`                           // called first
	CallID CallID      `json:"call_id,omitempty" check:"min=1,max=64"` // a leg of theirs that is up
}

// OpWhisper lets a supervisor hear both sides and speak to this leg alone.
type OpWhisper struct {
	By     *DialTarget `json:"by,omitempty"`                           // called first
	CallID CallID      `json:"call_id,omitempty" check:"min=1,max=64"` // a leg of theirs that is up
}

// OpBarge makes a supervisor the third who speaks.
type OpBarge struct {
	By     *DialTarget `json:"by,omitempty"`                           // called first
	CallID CallID      `json:"call_id,omitempty" check:"min=1,max=64"` // a leg of theirs that is up
}

// OpIntercept puts a supervisor in the place of this leg, which is hung up: the other party speaks with the
// supervisor.
type OpIntercept struct {
	By     *DialTarget `json:"by,omitempty"`                           // called first
	CallID CallID      `json:"call_id,omitempty" check:"min=1,max=64"` // a leg of theirs that is up
}

// OpDisconnect ends the conversation: this leg and all that are bridged with it.
type OpDisconnect struct{}

// OpPickUp answers, at another's phone, the call that rings here.
type OpPickUp struct {
	By     *DialTarget `json:"by,omitempty"`                           // called first
	CallID CallID      `json:"call_id,omitempty" check:"min=1,max=64"` // a leg of theirs that is up
}

// OpTransfer hands the party that this leg speaks with to a target, at once.
type OpTransfer struct {
	To       DialTarget `json:"to" check:"required"`
	Timeout  Seconds    `json:"timeout" default:"30" check:"min=1,max=600"` // of ringing
	CallerID string     `json:"caller_id,omitempty" check:"caller"`
	Peer     Peer       `json:"peer,omitzero"` // what this leg does then
}

// OpConsult holds the other party and calls a target for this leg to speak with. It ends with complete, cancel or
// merge.
type OpConsult struct {
	To       DialTarget `json:"to" check:"required"`
	Timeout  Seconds    `json:"timeout" default:"30" check:"min=1,max=600"` // of ringing
	CallerID string     `json:"caller_id,omitempty" check:"caller"`
	Prompt   *Sub       `json:"prompt,omitempty" sub:"prompt"` // heard by who is held; nil: music
}

// OpComplete ends a consultation by connecting the two others; this leg is hung up.
type OpComplete struct{}

// OpCancel ends a consultation by hanging up who was consulted; this leg speaks with the other party again.
type OpCancel struct{}

// OpMerge ends a consultation with all three in one talk.
type OpMerge struct{}

// OpDrop takes a party out of the talk that this leg is in, by hanging it up.
type OpDrop struct {
	CallID CallID `json:"call_id" check:"required,min=1,max=64"`
}

// OpRetarget ends what rings for this leg's dial, and rings another instead.
type OpRetarget struct {
	To      DialTarget `json:"to" check:"required"`
	Timeout Seconds    `json:"timeout" default:"30" check:"min=1,max=600"` // of ringing
}

// OpPark parks the party that this leg speaks with; this leg goes on as Peer says.
type OpPark struct {
	Slot string `json:"slot,omitempty" check:"slot"` // "": the first that is free
	Peer Peer   `json:"peer,omitzero"`               // what this leg does then
}

// OpSurvey hands the other party to a survey when this leg leaves, or at once when this leg is the caller's.
type OpSurvey struct {
	SurveyID string `json:"survey_id" check:"required,min=1,max=64"`
	Invite   *Sub   `json:"invite,omitempty" sub:"prompt"` // nil: the survey's own
}

// OpPriority changes how urgent a waiting call is.
type OpPriority struct {
	Priority int `json:"priority" check:"required,min=0,max=1000"`
}

// OpMove puts a waiting call into another queue, with the time it has waited.
type OpMove struct {
	Queue    string `json:"queue" check:"required,min=1,max=64"`       // id or name
	Priority *int   `json:"priority,omitempty" check:"min=0,max=1000"` // nil: as it was
}

// OpAssign offers a waiting call to a certain agent next.
type OpAssign struct {
	Agent string `json:"agent" check:"required,min=1,max=64"` // id or external_id
}

// Op returns the op's name in a live change.
func (*OpHangUp) Op() string     { return "hangup" }
func (*OpMute) Op() string       { return "mute" }
func (*OpUnmute) Op() string     { return "unmute" }
func (*OpHold) Op() string       { return "hold" }
func (*OpUnhold) Op() string     { return "unhold" }
func (*OpDigits) Op() string     { return "digits" }
func (*OpPlay) Op() string       { return "play" }
func (*OpSay) Op() string        { return "say" }
func (*OpRecording) Op() string  { return "recording" }
func (*OpListen) Op() string     { return "listen" }
func (*OpWhisper) Op() string    { return "whisper" }
func (*OpBarge) Op() string      { return "barge" }
func (*OpIntercept) Op() string  { return "intercept" }
func (*OpDisconnect) Op() string { return "disconnect" }
func (*OpPickUp) Op() string     { return "pick_up" }
func (*OpTransfer) Op() string   { return "transfer" }
func (*OpConsult) Op() string    { return "consult" }
func (*OpComplete) Op() string   { return "complete" }
func (*OpCancel) Op() string     { return "cancel" }
func (*OpMerge) Op() string      { return "merge" }
func (*OpDrop) Op() string       { return "drop" }
func (*OpRetarget) Op() string   { return "retarget" }
func (*OpPark) Op() string       { return "park" }
func (*OpSurvey) Op() string     { return "survey" }
func (*OpPriority) Op() string   { return "priority" }
func (*OpMove) Op() string       { return "move" }
func (*OpAssign) Op() string     { return "assign" }

func (*OpHangUp) isOp()     {}
func (*OpMute) isOp()       {}
func (*OpUnmute) isOp()     {}
func (*OpHold) isOp()       {}
func (*OpUnhold) isOp()     {}
func (*OpDigits) isOp()     {}
func (*OpPlay) isOp()       {}
func (*OpSay) isOp()        {}
func (*OpRecording) isOp()  {}
func (*OpListen) isOp()     {}
func (*OpWhisper) isOp()    {}
func (*OpBarge) isOp()      {}
func (*OpIntercept) isOp()  {}
func (*OpDisconnect) isOp() {}
func (*OpPickUp) isOp()     {}
func (*OpTransfer) isOp()   {}
func (*OpConsult) isOp()    {}
func (*OpComplete) isOp()   {}
func (*OpCancel) isOp()     {}
func (*OpMerge) isOp()      {}
func (*OpDrop) isOp()       {}
func (*OpRetarget) isOp()   {}
func (*OpPark) isOp()       {}
func (*OpSurvey) isOp()     {}
func (*OpPriority) isOp()   {}
func (*OpMove) isOp()       {}
func (*OpAssign) isOp()     {}

// MarshalJSON writes the op with its name. The plain types drop the method, or it would call itself.
func (o *OpHangUp) MarshalJSON() ([]byte, error) {
	type plain OpHangUp
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpMute) MarshalJSON() ([]byte, error) {
	type plain OpMute
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpUnmute) MarshalJSON() ([]byte, error) {
	type plain OpUnmute
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpHold) MarshalJSON() ([]byte, error) {
	type plain OpHold
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpUnhold) MarshalJSON() ([]byte, error) {
	type plain OpUnhold
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpDigits) MarshalJSON() ([]byte, error) {
	type plain OpDigits
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpPlay) MarshalJSON() ([]byte, error) {
	type plain OpPlay
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpSay) MarshalJSON() ([]byte, error) {
	type plain OpSay
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpRecording) MarshalJSON() ([]byte, error) {
	type plain OpRecording
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpListen) MarshalJSON() ([]byte, error) {
	type plain OpListen
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpWhisper) MarshalJSON() ([]byte, error) {
	type plain OpWhisper
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpBarge) MarshalJSON() ([]byte, error) {
	type plain OpBarge
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpIntercept) MarshalJSON() ([]byte, error) {
	type plain OpIntercept
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpDisconnect) MarshalJSON() ([]byte, error) {
	type plain OpDisconnect
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpPickUp) MarshalJSON() ([]byte, error) {
	type plain OpPickUp
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpTransfer) MarshalJSON() ([]byte, error) {
	type plain OpTransfer
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpConsult) MarshalJSON() ([]byte, error) {
	type plain OpConsult
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpComplete) MarshalJSON() ([]byte, error) {
	type plain OpComplete
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpCancel) MarshalJSON() ([]byte, error) {
	type plain OpCancel
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpMerge) MarshalJSON() ([]byte, error) {
	type plain OpMerge
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpDrop) MarshalJSON() ([]byte, error) {
	type plain OpDrop
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpRetarget) MarshalJSON() ([]byte, error) {
	type plain OpRetarget
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpPark) MarshalJSON() ([]byte, error) {
	type plain OpPark
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpSurvey) MarshalJSON() ([]byte, error) {
	type plain OpSurvey
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpPriority) MarshalJSON() ([]byte, error) {
	type plain OpPriority
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpMove) MarshalJSON() ([]byte, error) {
	type plain OpMove
	return withOp(o.Op(), (*plain)(o))
}
func (o *OpAssign) MarshalJSON() ([]byte, error) {
	type plain OpAssign
	return withOp(o.Op(), (*plain)(o))
}
