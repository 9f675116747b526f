package control

import (
	"context"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Verbs is the part of Control that the verbs voicemail, survey, message, park and unpark need. Errors are as in Control.
//
// Why what comes of a voicemail and a survey is not told here: it is in the call's events (recording.started names the
// mailbox, survey.completed has the answers), which outlive an absence of the control plane and the death of the edge, in
// order and once.
type Verbs interface {
	// Mailbox returns a mailbox as whoever takes a message for it needs it. Codes: not_found, not_allowed (it is disabled).
	Mailbox(ctx context.Context, q MailboxQuery) (Mailbox, error)

	// Survey returns a survey as it is now. Codes: not_found, not_allowed (it is disabled).
	Survey(ctx context.Context, q SurveyQuery) (Survey, error)

	// SendMessage takes a text message for sending. The same Key again is the same message. Codes: invalid (it cannot be
	// sent; the message says why), not_found.
	SendMessage(ctx context.Context, m TextMessage) (MessageTaken, error)

	// Park gives a call a slot until LeavePark, or the call's end. The same ID again gives the same slot. Codes: busy (the
	// slot is taken, or none is free), invalid.
	Park(ctx context.Context, p Park) (Parked, error)

	// LeavePark gives the slot of a Park back. It is repeated until it is answered; when there is nothing to give back that is
	// no error.
	LeavePark(ctx context.Context, l ParkLeave) error

	// FindParked says which call is in a slot and which edge carries it. That edge decides who gets it: of two who ask at
	// once both may find it. Code not_found: the slot is empty.
	FindParked(ctx context.Context, q ParkedQuery) (ParkedCall, error)
}

// MailboxQuery names a mailbox.
type MailboxQuery struct {
	AccountID webhooks.AccountID `json:"account_id"`
	Mailbox   string             `json:"mailbox"` // id, extension or name
}

// Mailbox says how a message is taken.
type Mailbox struct {
	ID          string            `json:"id"`
	Greeting    *webhooks.Program `json:"greeting,omitempty"` // say, play, pause; nil: the system's own
	MinLength   webhooks.Seconds  `json:"min_length"`         // what is shorter is no message
	MaxLength   webhooks.Seconds  `json:"max_length,omitempty"`
	Silence     webhooks.Seconds  `json:"silence"`                 // that ends it; 0 does not
	FinishOnKey string            `json:"finish_on_key,omitempty"` // any of these
}

// SurveyQuery names a survey.
type SurveyQuery struct {
	AccountID webhooks.AccountID `json:"account_id"`
	Survey    string             `json:"survey"` // id or name
}

// Survey is one version of the questions that callers are asked.
type Survey struct {
	ID        string            `json:"id"`
	Version   int               `json:"version"`
	Invite    *webhooks.Program `json:"invite,omitempty"` // say, play, pause, as the other programs here
	Thanks    *webhooks.Program `json:"thanks,omitempty"`
	Questions []SurveyQuestion  `json:"questions"`
}

// SurveyQuestion is answered by one key.
type SurveyQuestion struct {
	Name          string            `json:"name"`
	Prompt        *webhooks.Program `json:"prompt"`
	InvalidPrompt *webhooks.Program `json:"invalid_prompt,omitempty"`
	Keys          string            `json:"keys"`     // that answer it
	Attempts      int               `json:"attempts"` // in which it is asked, from 1
	Timeout       webhooks.Seconds  `json:"timeout"`
}

// TextMessage is a message that a call's program sends.
type TextMessage struct {
	AccountID  webhooks.AccountID `json:"account_id"`
	CallID     webhooks.CallID    `json:"call_id"`
	Key        string             `json:"key"` // of the instruction's one run
	To         string             `json:"to"`
	From       string             `json:"from,omitempty"`
	Body       string             `json:"body,omitempty"`
	TemplateID string             `json:"template_id,omitempty"`
	Data       map[string]any     `json:"data,omitempty"` // the call's, for the template
	// StatusURL is told what becomes of it, signed and in the format of the application whose program sends it; "" for none.
	StatusURL     string                 `json:"status_url,omitempty"`
	ApplicationID webhooks.ApplicationID `json:"application_id,omitempty"`
}

// MessageTaken names the message.
type MessageTaken struct {
	MessageID webhooks.MessageID `json:"message_id"`
}

// Park asks for a slot.
type Park struct {
	Owner
	ID   string `json:"id"`             // park_…, of this one stay
	Slot string `json:"slot,omitempty"` // "": the first that is free
}

// Parked is the slot that was given.
type Parked struct {
	Slot string `json:"slot"`
}

// ParkLeave ends a stay.
type ParkLeave struct {
	AccountID webhooks.AccountID `json:"account_id"`
	ID        string             `json:"id"`
}

// ParkedQuery is a leg that is to be connected with whoever is in a slot.
type ParkedQuery struct {
	EdgeID    webhooks.EdgeID    `json:"edge_id"`
	AccountID webhooks.AccountID `json:"account_id"`
	CallID    webhooks.CallID    `json:"call_id"`
	Slot      string             `json:"slot"`
}

// ParkedCall is a call in a slot, with the way there from another edge.
type ParkedCall struct {
	CallID webhooks.CallID  `json:"call_id"`
	EdgeID webhooks.EdgeID  `json:"edge_id"`
	Waited webhooks.Seconds `json:"waited"`
	Way
}

const (
	pathMailbox     = pathPrefix + "mailbox"
	pathSurvey      = pathPrefix + "survey"
	pathSendMessage = pathPrefix + "message"
	pathPark        = pathPrefix + "park"
	pathLeavePark   = pathPrefix + "park/leave"
	pathFindParked  = pathPrefix + "park/find"
)

var _ Verbs = (*Client)(nil)

// Mailbox asks the control plane.
func (c *Client) Mailbox(ctx context.Context, q MailboxQuery) (Mailbox, error) {
	return ask[Mailbox](ctx, c, pathMailbox, q, answerWithin)
}

// Survey asks the control plane.
func (c *Client) Survey(ctx context.Context, q SurveyQuery) (Survey, error) {
	return ask[Survey](ctx, c, pathSurvey, q, answerWithin)
}

// SendMessage asks the control plane.
func (c *Client) SendMessage(ctx context.Context, m TextMessage) (MessageTaken, error) {
	return ask[MessageTaken](ctx, c, pathSendMessage, m, answerWithin)
}

// Park asks the control plane.
func (c *Client) Park(ctx context.Context, p Park) (Parked, error) {
	return ask[Parked](ctx, c, pathPark, p, answerWithin)
}

// LeavePark tells the control plane.
func (c *Client) LeavePark(ctx context.Context, l ParkLeave) error {
	_, err := ask[struct{}](ctx, c, pathLeavePark, l, answerWithin)
	return err
}

// FindParked asks the control plane.
func (c *Client) FindParked(ctx context.Context, q ParkedQuery) (ParkedCall, error) {
	return ask[ParkedCall](ctx, c, pathFindParked, q, answerWithin)
}
