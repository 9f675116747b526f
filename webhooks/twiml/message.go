package twiml

import (
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// message compiles <Sms>, and <Message> as the messaging dialect writes it. It goes to who is on the line unless it
// names another. Without an action the next verb follows; with one it is asked when the message was taken, or could
// not be.
func (c *compiler) message(e *element) ([]webhooks.Instruction, error) {
	message := &webhooks.Message{To: c.party}
	webhooks.Defaults(message)
	if message.To == "" {
		message.To = "{{call.from}}"
	}
	r := c.attributes(e)
	to, from := "", ""
	if r.text("to", &to) && to != "" {
		message.To = plainNumber(to)
	}
	if r.text("from", &from) {
		message.From = plainNumber(from)
	}
	message.StatusURL = r.link("statusCallback")
	if action := r.target("action", "method"); action != nil {
		message.On = map[string]webhooks.Sub{
			string(webhooks.Sent): {Target: action}, string(webhooks.Failed): {Target: action},
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	body, err := c.messageText(e)
	if err != nil {
		return nil, err
	}
	if message.Body = body; body == "" {
		return nil, e.refuse("has nothing to send; give the message as its text")
	}
	return []webhooks.Instruction{message}, nil
}

// messageText keeps the line breaks of a message; only what a document's indentation adds around it goes.
func (c *compiler) messageText(e *element) (string, error) {
	var text strings.Builder
	for _, child := range e.children {
		switch noun := child.element; {
		case noun == nil:
			text.WriteString(child.text)
		case noun.name == "Body" && e.name == "Message":
			if err := onlyText(noun); err != nil {
				return "", err
			}
			c.attributes(noun)
			for _, inner := range noun.children {
				text.WriteString(inner.text)
			}
		default:
			return "", notAllowed(noun, e, []string{"text"})
		}
	}
	return strings.TrimSpace(text.String()), nil
}
