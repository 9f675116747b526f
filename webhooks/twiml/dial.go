package twiml

import (
	"maps"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/webhooks"
)

// maxTargets is how many parties one <Dial> may ring, on Twilio as in the contract.
const maxTargets = 10

// dialRecord maps Twilio's words to the contract's; true and false are those of older documents. A bridge is always
// recorded with two channels, so that the dual forms mean the same as the others.
var dialRecord = map[string]string{
	"do-not-record": "none", "false": "none", "none": "none", "": "none",
	"record-from-answer": "answer", "record-from-answer-dual": "answer", "true": "answer",
	"record-from-ringing": "ringing", "record-from-ringing-dual": "ringing",
}

// ringTones are the countries whose ringback tone the edge knows by name; silentRingTones are the rest of Twilio's
// list.
var (
	ringTones       = []string{"au", "br", "cn", "de", "fr", "in", "jp", "sg", "tw", "uk", "us"}
	silentRingTones = []string{
		"at", "be", "bg", "ch", "cl", "cz", "dk", "ee", "es", "fi", "gr", "hu", "il", "it", "lt", "mx", "my", "nl", "no",
		"nz", "ph", "pl", "pt", "ru", "se", "th", "us-old", "ve", "za",
	}
)

// dial compiles <Dial>. Without an action every outcome goes on with the next verb; with one it is asked always,
// after a hang-up too, but not after a live change.
func (c *compiler) dial(e *element) ([]webhooks.Instruction, error) {
	dial := new(webhooks.Dial)
	webhooks.Defaults(dial)
	r := c.attributes(e)
	if dial.Action = r.target("action"); dial.Action != nil {
		dial.On = goOn(webhooks.Redirected)
	}
	r.seconds("timeout", &dial.Timeout)
	r.seconds("timeLimit", &dial.TimeLimit)
	r.yes("answerOnBridge", &dial.AnswerOnBridge)
	sequential, star := false, false
	r.yes("sequential", &sequential)
	r.yes("hangupOnStar", &star)
	if sequential {
		dial.Strategy = "sequential"
	}
	if star {
		dial.HangUpOn = "*"
	}
	r.text("callerId", &dial.CallerID)
	dial.CallerID = plainNumber(dial.CallerID)
	r.dialRecord(&dial.Record)
	r.ringTone(&dial.Ringback)
	if r.err != nil {
		return nil, r.err
	}
	if err := c.dialTargets(e, dial); err != nil {
		return nil, err
	}
	return []webhooks.Instruction{dial}, nil
}

func (r *reader) dialRecord(out *string) {
	value := ""
	r.text("record", &value)
	word, ok := dialRecord[value]
	if !ok {
		r.refuse("record must be do-not-record, record-from-answer or record-from-ringing, is %q", clip(value))
	}
	*out = word
}

func (r *reader) ringTone(out *string) {
	value := ""
	if !r.text("ringTone", &value) || value == "" {
		return
	}
	switch {
	case slices.Contains(ringTones, value):
		*out = "ringback-" + value
	case slices.Contains(silentRingTones, value):
		r.c.warn(r.e, "there is no ringTone %s in this version; the usual one is played", value)
	default:
		r.refuse("ringTone must be a country such as us, uk or cn, is %q", clip(value))
	}
}

// dialTargets reads the parties: text, <Number> and <Sip>, in the document's order.
func (c *compiler) dialTargets(e *element, dial *webhooks.Dial) error {
	for _, child := range e.children {
		var target webhooks.DialTarget
		var headers map[string]string
		var err error
		at := child.element
		switch {
		case at == nil:
			at = e
			text := oneLine(child.text)
			if text == "" {
				continue
			}
			target = numberTarget(text)
		case at.name == "Number":
			target, err = c.number(at)
		case at.name == "Sip":
			target, headers, err = c.sip(at)
		default:
			return notAllowed(at, e, dialNouns)
		}
		if err != nil {
			return err
		}
		if err := c.checkTarget(at, target, headers); err != nil {
			return err
		}
		if err := addHeaders(at, dial, headers); err != nil {
			return err
		}
		dial.To = append(dial.To, target)
	}
	switch {
	case len(dial.To) == 0:
		return e.refuse("names nobody to dial; give a number as its text, or <Number> or <Sip>")
	case len(dial.To) > maxTargets:
		return e.refuse("dials %d parties; at most %d are allowed", len(dial.To), maxTargets)
	case len(dial.To) > 1 && len(dial.Headers) > 0:
		c.warn(e, "the headers given with one <Sip> are sent to all that are dialled")
	}
	return nil
}

// checkTarget applies the contract's rules to one party, so that a refusal names its noun.
func (c *compiler) checkTarget(e *element, target webhooks.DialTarget, headers map[string]string) error {
	alone := new(webhooks.Dial)
	webhooks.Defaults(alone)
	alone.To, alone.Headers = []webhooks.DialTarget{target}, headers
	return c.check(e, alone)
}

var extension = regexp.MustCompile(`^[0-9]{2,8}$`)

// numberTarget decides what digits mean.
//
// Why 2–8 bare digits are an extension: extensions and short codes are one space of an account, written as bare
// digits, and Twilio, which has neither, gives such digits no other meaning. A number of the telephone network is
// written with + or in full.
func numberTarget(text string) webhooks.DialTarget {
	if extension.MatchString(text) {
		return webhooks.DialTarget{Extension: text}
	}
	return webhooks.DialTarget{Number: text}
}

// number compiles <Number>. byoc names the trunk to leave by (id or name); what is dialled through a trunk is always
// a number, however short.
func (c *compiler) number(e *element) (webhooks.DialTarget, error) {
	if err := onlyText(e); err != nil {
		return webhooks.DialTarget{}, err
	}
	r := c.attributes(e)
	text := e.text()
	if text == "" {
		r.refuse("is empty; give a number as its text")
	}
	target, trunk, digits := numberTarget(text), "", ""
	if r.text("byoc", &trunk) && trunk != "" {
		target = webhooks.DialTarget{Number: text, Trunk: trunk}
	}
	if r.text("sendDigits", &digits) && digits != "" {
		r.refuse("sendDigits is not done by this version of Hookswitch; dial the extension's own number instead")
	}
	target.Screen = r.screen()
	return target, r.err
}

// screen reads the document that is run on the called party before it is connected.
func (r *reader) screen() *webhooks.Sub {
	if t := r.target("url"); t != nil {
		return &webhooks.Sub{Target: t}
	}
	return nil
}

// sip compiles <Sip>; the headers are those behind the URI's question mark.
func (c *compiler) sip(e *element) (webhooks.DialTarget, map[string]string, error) {
	if err := onlyText(e); err != nil {
		return webhooks.DialTarget{}, nil, err
	}
	var target webhooks.DialTarget
	r := c.attributes(e)
	r.text("username", &target.Username)
	r.text("password", &target.Password)
	target.Screen = r.screen()
	uri, query, _ := strings.Cut(e.text(), "?")
	target.SIP = uri
	if uri == "" {
		r.refuse("is empty; give a SIP URI as its text, such as sip:bob@example.com")
	}
	return target, c.sipHeaders(r, query), r.err
}

// sipHeaders reads x-foo=bar&x-baz=1 (RFC 3261 §19.1.1). The headers that route or identify are ours to set.
func (c *compiler) sipHeaders(r *reader, query string) map[string]string {
	if query == "" {
		return nil
	}
	headers := map[string]string{}
	for _, pair := range strings.Split(query, "&") {
		escapedName, escapedValue, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(strings.TrimSpace(escapedName))
		value, err2 := url.PathUnescape(escapedValue)
		if err != nil || err2 != nil || !utf8.ValidString(name+value) {
			r.refuse("the header %q is not escaped as a URI wants it (%%20 for a space, UTF-8)", clip(pair))
			return nil
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); {
		case name == "":
		case strings.HasPrefix(name, "X-"), name == "User-To-User":
			headers[name] = value
		default:
			c.warn(r.e, "the header %s was left out; only X- headers and User-to-User can be set", clip(name))
		}
	}
	return headers
}

// addHeaders joins a target's headers to the instruction's, which has one set for all.
func addHeaders(e *element, dial *webhooks.Dial, headers map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		if had, ok := dial.Headers[name]; ok && had != value {
			return e.refuse("gives the header %s another value than a <Sip> before it; one <Dial> sends the same to all", clip(name))
		}
		if dial.Headers == nil {
			dial.Headers = map[string]string{}
		}
		dial.Headers[name] = value
	}
	return nil
}

var formatted = regexp.MustCompile(`^\+?[0-9][0-9().\s-]*$`)

// plainNumber takes the punctuation out of a number; what is none comes back trimmed.
func plainNumber(text string) string {
	text = strings.TrimSpace(text)
	if !formatted.MatchString(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r == '+' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, text)
}
