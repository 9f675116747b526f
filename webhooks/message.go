package webhooks

// Message sends a text message during the call, which goes on meanwhile: exactly one of Body and TemplateID. It has
// ended when the message has been taken for sending, not when it is delivered.
type Message struct {
	Step
	To         string `json:"to" check:"required,number"`
	Body       string `json:"body,omitempty" check:"min=1,max=1600"`
	TemplateID string `json:"template_id,omitempty" check:"min=1,max=64"`
	From       string `json:"from,omitempty" check:"caller"` // "": the account's
	StatusURL  string `json:"status_url,omitempty" check:"url"`
}

// Survey asks the caller how it was, and keeps the answers with the agent and the call.
type Survey struct {
	Step
	SurveyID string `json:"survey_id" check:"required,min=1,max=64"`
	Invite   *Sub   `json:"invite,omitempty" sub:"prompt"` // nil: the survey's own
}

// Verb returns the instruction's name in a program.
func (*Message) Verb() string { return "message" }
func (*Survey) Verb() string  { return "survey" }

// MarshalJSON writes the instruction with its verb.
func (i *Message) MarshalJSON() ([]byte, error) {
	type plain Message
	return withVerb(i.Verb(), (*plain)(i))
}
func (i *Survey) MarshalJSON() ([]byte, error) {
	type plain Survey
	return withVerb(i.Verb(), (*plain)(i))
}
