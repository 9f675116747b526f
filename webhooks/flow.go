package webhooks

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

// Tag merges values into the call's data.
type Tag struct {
	Step
	Data map[string]any `json:"data" check:"required"`
}

// Verb returns the instruction's name in a program.
func (*Redirect) Verb() string { return "redirect" }
func (*HangUp) Verb() string   { return "hangup" }
func (*Reject) Verb() string   { return "reject" }
func (*Tag) Verb() string      { return "tag" }

// MarshalJSON writes the instruction with its verb.
func (i *Redirect) MarshalJSON() ([]byte, error) {
	type plain Redirect
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *HangUp) MarshalJSON() ([]byte, error) {
	type plain HangUp
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Reject) MarshalJSON() ([]byte, error) {
	type plain Reject
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Tag) MarshalJSON() ([]byte, error) { type plain Tag; return withVerb(i.Verb(), (*plain)(i)) }
