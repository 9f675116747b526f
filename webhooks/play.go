package webhooks

// Answer answers the call.
type Answer struct {
	Step
	Headers map[string]string `json:"headers,omitempty" check:"headers"`
}

// Play plays audio: exactly one of URL, MediaID, RecordingID and Tone.
type Play struct {
	Step
	URL         string      `json:"url,omitempty" check:"url"`
	MediaID     MediaID     `json:"media_id,omitempty" check:"min=1,max=64"`
	RecordingID RecordingID `json:"recording_id,omitempty" check:"min=1,max=64"` // of this call
	Tone        string      `json:"tone,omitempty" check:"tone"`
	Loop        int         `json:"loop" default:"1" check:"min=0,max=1000"` // 0 for ever
	Start       Seconds     `json:"start,omitempty" check:"min=0,max=86400"`
	VolumeDB    float64     `json:"volume_db,omitempty" check:"min=-40,max=20"`
	Early       bool        `json:"early,omitempty"` // as early media (183), without answering
}

// Say speaks text: exactly one of Text and SSML.
type Say struct {
	Step
	Text     string  `json:"text,omitempty" check:"min=1,max=4096"`
	SSML     string  `json:"ssml,omitempty" check:"min=1,max=8192"`
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

// SendDigits sends DTMF to the other side: 0-9 A-D * #, w waits 0.5 s, W 1 s.
type SendDigits struct {
	Step
	Digits     string `json:"digits" check:"required,dtmf,max=128"`
	DurationMS int    `json:"duration_ms" default:"100" check:"min=40,max=6000"`
	GapMS      int    `json:"gap_ms" default:"100" check:"min=40,max=6000"`
}

// Verb returns the instruction's name in a program.
func (*Answer) Verb() string     { return "answer" }
func (*Play) Verb() string       { return "play" }
func (*Say) Verb() string        { return "say" }
func (*Pause) Verb() string      { return "pause" }
func (*SendDigits) Verb() string { return "send_digits" }

// MarshalJSON writes the instruction with its verb. The plain types drop the method, or it would call itself.
func (i *Answer) MarshalJSON() ([]byte, error) {
	type plain Answer
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Play) MarshalJSON() ([]byte, error) { type plain Play; return withVerb(i.Verb(), (*plain)(i)) }
func (i *Say) MarshalJSON() ([]byte, error)  { type plain Say; return withVerb(i.Verb(), (*plain)(i)) }
func (i *Pause) MarshalJSON() ([]byte, error) {
	type plain Pause
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *SendDigits) MarshalJSON() ([]byte, error) {
	type plain SendDigits
	return withVerb(i.Verb(), (*plain)(i))
}
