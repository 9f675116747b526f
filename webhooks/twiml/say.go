package twiml

import (
	"bytes"
	"encoding/xml"
	"slices"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// ssmlElements are the SSML elements that Twilio takes in <Say> (W3C SSML 1.1).
var ssmlElements = []string{"break", "emphasis", "lang", "p", "phoneme", "prosody", "s", "say-as", "sub", "w"}

func (c *compiler) say(e *element) ([]webhooks.Instruction, error) {
	say := new(webhooks.Say)
	webhooks.Defaults(say)
	r := c.attributes(e)
	r.text("voice", &say.Voice)
	r.text("language", &say.Language)
	r.loop(&say.Loop)
	if r.err != nil {
		return nil, r.err
	}
	if isPlain(e) {
		say.Text = e.text()
		if say.Text == "" {
			c.warn(e, "has nothing to say and was left out")
			return nil, nil
		}
		return []webhooks.Instruction{say}, nil
	}
	var out bytes.Buffer
	for _, child := range e.children {
		if err := writeSSML(&out, e, child); err != nil {
			return nil, err
		}
	}
	say.SSML = "<speak>" + strings.TrimSpace(out.String()) + "</speak>"
	return []webhooks.Instruction{say}, nil
}

func isPlain(e *element) bool {
	return !slices.ContainsFunc(e.children, func(c child) bool { return c.element != nil })
}

// writeSSML writes one child as it was read. The depth is bounded by the reader's.
func writeSSML(out *bytes.Buffer, say *element, c child) error {
	if c.element == nil {
		return xml.EscapeText(out, []byte(c.text))
	}
	e := c.element
	if !slices.Contains(ssmlElements, e.name) {
		return e.refuse("is not allowed in <%s>; it takes text and the SSML elements %s", say.name, strings.Join(ssmlElements, ", "))
	}
	out.WriteString("<" + e.name)
	for _, a := range e.attrs {
		out.WriteString(" " + a.name + `="`)
		if err := xml.EscapeText(out, []byte(a.value)); err != nil {
			return err
		}
		out.WriteByte('"')
	}
	if len(e.children) == 0 {
		out.WriteString("/>")
		return nil
	}
	out.WriteByte('>')
	for _, inner := range e.children {
		if err := writeSSML(out, say, inner); err != nil {
			return err
		}
	}
	out.WriteString("</" + e.name + ">")
	return nil
}
