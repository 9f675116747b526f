// Package message owns text messages: those an account sends through its providers, with their templates, how each stands
// and what became of it, and those that phones send back. Speaking to a message centre is left to smpp, the addresses that
// may be reached to webhooks/guard, and what a message says to whoever makes it.
//
// A message is sent at least once, and never twice knowingly. Before it is sent its row is claimed, under a lease and with
// a token, so that only one process can be sending it. What a provider has taken is written with the provider's own id,
// each part of a long text by itself, and is not sent again. Between a provider's taking and that being written a process
// may end, or an answer be lost; then nobody knows, and it is sent again, at most maxUncertain times in all. Providers that
// are given our id (a template's {id}) can recognise it, and their report by that id settles what was unknown.
package message

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/message/smpp"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Message is one text message. Its owner is the user who sent it, or whose call did.
type Message struct {
	bun.BaseModel `bun:"table:messages" json:"-"`
	db.Row
	db.Owned

	Direction Direction `bun:"direction" json:"direction"`
	Status    Status    `bun:"status" json:"status"`
	To        string    `bun:"to" json:"to"`                        // E.164, or a short code
	From      string    `bun:"from,nullzero" json:"from,omitempty"` // a number, or a name; empty for the provider's own
	// Body is the text, with its placeholders filled in. It is withheld from readers who may not see numbers.
	Body string `bun:"body" json:"body,omitempty"`
	// Encoding and Segments are what the text takes on a telephone network; a provider may count otherwise.
	Encoding Encoding `bun:"encoding" json:"encoding"`
	Segments int      `bun:"segments" json:"segments"`

	TemplateID   string         `bun:"template_id,nullzero" json:"template_id,omitempty"`
	TemplateCode string         `bun:"template_code,nullzero" json:"-"`
	Signature    string         `bun:"signature,nullzero" json:"-"`
	Data         map[string]any `bun:"data,type:jsonb,nullzero" json:"data,omitempty"` // withheld as Body

	ProviderID string `bun:"provider_id" json:"provider_id"`
	// ProviderMessageID is the provider's id, of the first part of several.
	ProviderMessageID string `bun:"provider_message_id,nullzero" json:"provider_message_id,omitempty"`
	CallID            string `bun:"call_id,nullzero" json:"call_id,omitempty"` // whose program has sent it
	// StatusURL is told what becomes of it, in the name of the application whose program has sent it; empty for nobody.
	StatusURL      string `bun:"status_url,nullzero" json:"-"`
	ApplicationID  string `bun:"application_id,nullzero" json:"-"`
	IdempotencyKey string `bun:"idempotency_key,nullzero" json:"-"`

	// ErrorCode is the provider's where it is its verdict, else one of the codes below.
	ErrorCode    string `bun:"error_code,nullzero" json:"error_code,omitempty"`
	ErrorMessage string `bun:"error_message,nullzero" json:"error_message,omitempty"`

	SendAt      *time.Time `bun:"send_at" json:"send_at,omitempty"`
	SentAt      *time.Time `bun:"sent_at" json:"sent_at,omitempty"`
	DeliveredAt *time.Time `bun:"delivered_at" json:"delivered_at,omitempty"`

	Attempts    int64     `bun:"attempts" json:"attempts"`
	Uncertain   int64     `bun:"uncertain" json:"-"` // attempts of which nobody knows
	Token       int64     `bun:"token" json:"-"`     // counts the claims
	AvailableAt time.Time `bun:"available_at" json:"-"`
	ExpiresAt   time.Time `bun:"expires_at" json:"-"`
}

// Direction is who has sent a message.
type Direction string

// The directions.
const (
	Outbound Direction = "outbound"
	Inbound  Direction = "inbound" // a phone has
)

// Status is where a message stands.
type Status string

// The statuses. Sent may stay the last: not every provider reports on.
const (
	Queued      Status = "queued"
	Sending     Status = "sending"
	Sent        Status = "sent"        // the provider has taken all of it
	Delivered   Status = "delivered"   // it is on the phone
	Undelivered Status = "undelivered" // it was taken, and will not get there
	Failed      Status = "failed"      // it was not taken, or nobody knows
	Canceled    Status = "canceled"
	Received    Status = "received" // of inbound messages
)

// Encoding is the alphabet of a message.
type Encoding string

// The encodings.
const (
	GSM  Encoding = "gsm"  // GSM 03.38: 160 characters in one part, 153 in each of several
	UCS2 Encoding = "ucs2" // 70, and 67
)

// Codes of failures that no provider has named.
const (
	codeUnknown    = "outcome_unknown"     // sent several times, and nobody knows whether it was taken
	codeExpired    = "expired"             // it could not be sent in time
	codeUnreached  = "provider_unreached"  // the provider could not be reached, or would not take it
	codeURL        = "provider_url"        // the provider's address cannot be used
	codeUnexpected = "provider_unexpected" // it answered something that its settings do not foresee
	codeGone       = "provider_gone"       // it was deleted
)

// Draft is a message to be sent.
type Draft struct {
	// To is a number in international form, or in the national one of the account's country.
	To   string `json:"to"`
	From string `json:"from,omitempty"` // the provider's own when empty
	// Body is the text; or a template is filled in with Data.
	Body       string         `json:"body,omitempty"`
	TemplateID string         `json:"template_id,omitempty"`
	Data       map[string]any `json:"data,omitempty"`
	ProviderID string         `json:"provider_id,omitempty"` // the account's default when empty
	SendAt     *time.Time     `json:"send_at,omitempty"`     // at once when nil; at most MaxAhead away
	// Key makes doing it twice the same as once: of one account, the message with the same key is the one that there is.
	Key string `json:"-"`
	// StatusURL is told what becomes of the message, signed by the application, or without one by the account's oldest.
	StatusURL     string                 `json:"-"`
	ApplicationID webhooks.ApplicationID `json:"-"`
}

// written is what a caller writes of a message.
type written struct {
	rest.Keys
	Draft
}

const (
	// MaxAhead is how long before it is sent a message may be made.
	MaxAhead = 30 * 24 * time.Hour
	// sendWithin is how long after its time a message is still sent: what comes days late confuses more than it helps.
	sendWithin = 24 * time.Hour
	maxName    = 100
	maxBody    = 2000 // characters
	maxData    = 50
	maxValue   = 500
)

// A sender is a number, or a name of at most 11 characters (GSM 03.40 §9.1.2.5).
var sender = regexp.MustCompile(`^(\+?[0-9]{3,20}|[A-Za-z0-9 ._-]{1,11})$`)

func checkSender(pointer, from string) error {
	if from != "" && (!sender.MatchString(from) || strings.TrimSpace(from) != from) {
		return problem.InvalidField(pointer, "sender", "must be a number such as +8613800138000, or a name of at most 11 letters and digits")
	}
	return nil
}

// measure writes the encoding and the number of segments of the body.
func (m *Message) measure() error {
	text := smpp.Encode(m.Body)
	m.Encoding, m.Segments = GSM, len(text.Parts)
	if text.Coding == smpp.UCS2 {
		m.Encoding = UCS2
	}
	if m.Direction == Outbound && m.Segments > smpp.MaxParts {
		return problem.RefusedField("/body", "length", "takes %d segments, and may take %d", m.Segments, smpp.MaxParts)
	}
	return nil
}

// shownTo withholds what may hold numbers from whoever may not see them: texts cannot be masked by their schema, and a
// number within one is written in too many ways to be found.
func (m Message) shownTo(who auth.Caller) Message {
	if who.Mask.Numbers {
		m.Body, m.Data = "", nil
	}
	return m
}

// told is the data of a message's events. It leaves the text out: who may read it reads the message.
type told struct {
	ID                string    `json:"id"`
	ExternalID        *string   `json:"external_id,omitempty"`
	Direction         Direction `json:"direction"`
	Status            Status    `json:"status"`
	To                string    `json:"to"`
	From              string    `json:"from,omitempty"`
	Segments          int       `json:"segments"`
	TemplateID        string    `json:"template_id,omitempty"`
	ProviderID        string    `json:"provider_id"`
	ProviderMessageID string    `json:"provider_message_id,omitempty"`
	CallID            string    `json:"call_id,omitempty"`
	ErrorCode         string    `json:"error_code,omitempty"`
	ErrorMessage      string    `json:"error_message,omitempty"`
	Attempts          int64     `json:"attempts"`
}

func (m *Message) told() (json.RawMessage, error) {
	return json.Marshal(told{
		ID: m.ID, ExternalID: m.ExternalID, Direction: m.Direction, Status: m.Status, To: m.To, From: m.From, Segments: m.Segments, TemplateID: m.TemplateID,
		ProviderID: m.ProviderID, ProviderMessageID: m.ProviderMessageID, CallID: m.CallID, ErrorCode: m.ErrorCode, ErrorMessage: m.ErrorMessage, Attempts: m.Attempts,
	})
}

// Template is a text with placeholders.
type Template struct {
	bun.BaseModel `bun:"table:message_templates" json:"-"`
	db.Row
	TemplateDraft
}

// TemplateDraft is what a caller decides of a template.
type TemplateDraft struct {
	Name     string `bun:"name" json:"name"` // unique in the account
	Body     string `bun:"body" json:"body"` // with {{name}} for each value
	Language string `bun:"language,nullzero" json:"language,omitempty"`
	// Code and Signature are the provider's code of the same template, and the name that it signs with: gateways in China
	// send nothing else than what they have approved under such a code.
	Code      string `bun:"code,nullzero" json:"code,omitempty"`
	Signature string `bun:"signature,nullzero" json:"signature,omitempty"`
}

// writtenTemplate is what a caller writes of a template.
type writtenTemplate struct {
	rest.Keys
	TemplateDraft
}

var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_]{1,40})\s*\}\}`)

func (d TemplateDraft) check() error {
	if err := oneLine("/name", d.Name, maxName); err != nil {
		return err
	}
	if strings.TrimSpace(d.Body) == "" {
		return problem.InvalidField("/body", "required", "must not be empty")
	}
	if rest := placeholder.ReplaceAllString(d.Body, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		return problem.InvalidField("/body", "placeholder", "has {{ or }} that are no placeholder; write one as {{name}}, of letters, digits and _")
	}
	return nil
}

// fill puts data into the placeholders. All that are missing are named at once.
func (d TemplateDraft) fill(data map[string]any) (string, error) {
	var missing []problem.FieldError
	filled := placeholder.ReplaceAllStringFunc(d.Body, func(found string) string {
		name := placeholder.FindStringSubmatch(found)[1]
		value, ok := scalar(data[name])
		if !ok {
			missing = append(missing, problem.Field("/data/"+name, "required", "is needed by the template, as a text, a number or a boolean"))
		}
		return value
	})
	if len(missing) > 0 {
		return "", problem.Refused(missing[0].Pointer+": "+missing[0].Message, missing...)
	}
	return filled, nil
}

// scalar is the text of a JSON value that is neither an object nor a list; ok is false for these and for null.
func scalar(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case json.Number:
		return v.String(), true
	case int, int64:
		return fmt.Sprint(v), true
	}
	return "", false
}

func checkData(data map[string]any) error {
	if len(data) > maxData {
		return problem.InvalidField("/data", "maxProperties", "may have at most %d members", maxData)
	}
	for name, value := range data {
		text, ok := scalar(value)
		switch {
		case !ok:
			return problem.InvalidField("/data/"+name, "type", "must be a text, a number or a boolean")
		case len([]rune(text)) > maxValue:
			return problem.InvalidField("/data/"+name, "maxLength", "may have at most %d characters", maxValue)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || (r >= 0x7f && r <= 0x9f) }

func oneLine(pointer, text string, most int) error {
	switch {
	case strings.TrimSpace(text) == "":
		return problem.InvalidField(pointer, "required", "must not be empty")
	case len([]rune(text)) > most:
		return problem.InvalidField(pointer, "maxLength", "may have at most %d characters", most)
	case strings.ContainsFunc(text, isControl):
		return problem.InvalidField(pointer, "control", "must be one line without control characters")
	}
	return nil
}
