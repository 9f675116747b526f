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
	"do-not-record": "none", "false": "none", "none": "none",
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

// legEvents are Twilio's words for what a statusCallback is told of a leg.
var legEvents = map[string][]string{
	"initiated": {string(webhooks.EventCallInitiated)},
	"ringing":   {string(webhooks.EventCallRinging)},
	"answered":  {string(webhooks.EventCallAnswered)},
	"completed": {string(webhooks.EventCallEnded)},
}

// dial compiles <Dial>. Without an action every outcome goes on with the next verb; with one it is asked always,
// after a hang-up too, but not after a live change.
func (c *compiler) dial(e *element) ([]webhooks.Instruction, error) {
	for _, child := range e.children {
		if noun := child.element; noun != nil && (noun.name == "Conference" || noun.name == "Queue") {
			if err := alone(e, noun); err != nil {
				return nil, err
			}
			if noun.name == "Queue" {
				return c.queue(e, noun)
			}
			return c.conference(e, noun)
		}
	}
	dial := new(webhooks.Dial)
	webhooks.Defaults(dial)
	r := c.attributes(e)
	if dial.Action = r.target("action", "method"); dial.Action != nil {
		dial.On = goOn(webhooks.Redirected)
	}
	r.dial(dial)
	if r.err != nil {
		return nil, r.err
	}
	if err := c.dialTargets(e, dial); err != nil {
		return nil, err
	}
	return []webhooks.Instruction{dial}, nil
}

// dial reads the attributes of <Dial> that calls somebody.
func (r *reader) dial(out *webhooks.Dial) {
	r.seconds("timeout", &out.Timeout)
	r.seconds("timeLimit", &out.TimeLimit)
	r.yes("answerOnBridge", &out.AnswerOnBridge)
	sequential, star := false, false
	r.yes("sequential", &sequential)
	r.yes("hangupOnStar", &star)
	if sequential {
		out.Strategy = "sequential"
	}
	if star {
		out.HangUpOn = "*"
	}
	r.text("callerId", &out.CallerID)
	out.CallerID = plainNumber(out.CallerID)
	r.word("record", "do-not-record", dialRecord, &out.Record)
	r.ringTone(&out.Ringback)
	out.Refer = r.target("referUrl", "referMethod")
	out.RecordingStatusURL, out.RecordingStatusMethod, out.RecordingStatusEvents = r.recordingCallback()
}

// alone refuses anything else in a <Dial> that has a room or a queue in it.
func alone(e, noun *element) error {
	for _, child := range e.children {
		if child.element != noun && (child.element != nil || oneLine(child.text) != "") {
			return noun.refuse("must stand alone in <%s>", e.name)
		}
	}
	return nil
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

// dialTargets reads the parties: text, <Number>, <Sip> and <Client>, in the document's order.
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
		case at.name == "Client":
			target, headers, err = c.client(at)
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
		return e.refuse("names nobody to dial; give a number as its text, or <Number>, <Sip> or <Client>")
	case len(dial.To) > maxTargets:
		return e.refuse("dials %d parties; at most %d are allowed", len(dial.To), maxTargets)
	case len(dial.To) > 1 && len(dial.Headers) > 0:
		c.warn(e, "the headers given with one party are sent to all that are dialled")
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
	if strings.HasPrefix(text, "(") { // as people write it: (023) 6892-5278
		text = plainNumber(text)
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
	target, trunk := numberTarget(text), ""
	if r.text("byoc", &trunk) && trunk != "" {
		target = webhooks.DialTarget{Number: text, Trunk: trunk}
	}
	r.text("sendDigits", &target.SendDigits)
	r.leg(&target)
	return target, r.err
}

// leg reads the attributes of every noun that is called.
func (r *reader) leg(target *webhooks.DialTarget) {
	target.Screen = r.screen()
	target.StatusURL, target.StatusMethod = r.callback("statusCallback", "statusCallbackMethod")
	if target.StatusURL != "" {
		target.StatusEvents = r.events("statusCallbackEvent", legEvents["completed"], legEvents)
	}
	target.MachineDetection = r.machineDetection()
}

// machineDetection reads answering machine detection, which on Twilio never holds up a dialled party: it is connected
// at once, and amdStatusCallback is told.
func (r *reader) machineDetection() *webhooks.MachineDetection {
	mode := ""
	r.word("machineDetection", "", map[string]string{"": "", "Enable": "machine", "DetectMessageEnd": "message_end"}, &mode)
	link, method := r.callback("amdStatusCallback", "amdStatusCallbackMethod")
	if mode == "" {
		return nil
	}
	detection := &webhooks.MachineDetection{Mode: mode, Timeout: 30, Async: true, StatusURL: link, StatusMethod: method}
	r.seconds("machineDetectionTimeout", &detection.Timeout)
	tuning := webhooks.Tuning{SpeechThresholdMS: 2400, SpeechEndThresholdMS: 1200, SilenceTimeoutMS: 5000}
	given := r.integer("machineDetectionSpeechThreshold", &tuning.SpeechThresholdMS)
	given = r.integer("machineDetectionSpeechEndThreshold", &tuning.SpeechEndThresholdMS) || given
	given = r.integer("machineDetectionSilenceTimeout", &tuning.SilenceTimeoutMS) || given
	if given {
		detection.Tuning = &tuning
	}
	return detection
}

// screen reads the document that is run on the called party before it is connected.
func (r *reader) screen() *webhooks.Sub {
	if t := r.target("url", "method"); t != nil {
		return &webhooks.Sub{Target: t}
	}
	return nil
}

// sip compiles <Sip>: a URI as its text, or <Uri> and <Headers>; the headers are also those behind the URI's question
// mark.
func (c *compiler) sip(e *element) (webhooks.DialTarget, map[string]string, error) {
	var target webhooks.DialTarget
	r := c.attributes(e)
	r.text("username", &target.Username)
	r.text("password", &target.Password)
	r.leg(&target)
	text, named, err := c.sipNouns(e)
	if err != nil {
		return target, nil, err
	}
	uri, query, _ := strings.Cut(text, "?")
	target.SIP = uri
	if uri == "" {
		r.refuse("is empty; give a SIP URI as its text, such as sip:bob@example.com")
	}
	headers := c.sipHeaders(r, query)
	for _, header := range named {
		headers = c.addHeader(r, headers, header.name, header.value)
	}
	return target, headers, r.err
}

// sipNouns reads what stands in <Sip>: a URI as text, or as the SDKs' <Uri> with <Headers>.
func (c *compiler) sipNouns(e *element) (uri string, headers []attribute, err error) {
	for _, child := range e.children {
		switch noun := child.element; {
		case noun == nil:
			uri += oneLine(child.text)
		case noun.name == "Uri":
			if err := onlyText(noun); err != nil {
				return "", nil, err
			}
			c.attributes(noun)
			uri += noun.text()
		case noun.name == "Headers":
			c.attributes(noun)
			named, err := c.pairs(noun, "Header")
			if err != nil {
				return "", nil, err
			}
			headers = append(headers, named...)
		default:
			return "", nil, notAllowed(noun, e, []string{"Uri", "Headers"})
		}
	}
	return uri, headers, nil
}

// pairs reads elements that have a name and a value.
func (c *compiler) pairs(e *element, element string) ([]attribute, error) {
	var out []attribute
	for _, child := range e.children {
		noun := child.element
		switch {
		case noun == nil:
		case noun.name != element:
			return nil, notAllowed(noun, e, []string{element})
		default:
			var one attribute
			r := c.attributes(noun)
			if !r.text("name", &one.name) || one.name == "" {
				return nil, noun.refuse("needs a name")
			}
			r.text("value", &one.value)
			out = append(out, one)
		}
	}
	return out, nil
}

// client compiles <Client>: an identity as its text, or <Identity>. Its parameters travel as X- headers.
func (c *compiler) client(e *element) (webhooks.DialTarget, map[string]string, error) {
	var target webhooks.DialTarget
	var headers map[string]string
	r := c.attributes(e)
	r.leg(&target)
	for _, child := range e.children {
		switch noun := child.element; {
		case noun == nil:
			target.Client += oneLine(child.text)
		case noun.name == "Identity":
			if err := onlyText(noun); err != nil {
				return target, nil, err
			}
			c.attributes(noun)
			target.Client += noun.text()
		case noun.name == "Parameter":
			var name, value string
			p := c.attributes(noun)
			if !p.text("name", &name) || name == "" {
				return target, nil, noun.refuse("needs a name")
			}
			p.text("value", &value)
			headers = c.addHeader(p, headers, "X-"+strings.ReplaceAll(name, "_", "-"), value)
		default:
			return target, nil, notAllowed(noun, e, []string{"Identity", "Parameter"})
		}
	}
	if target.Client == "" {
		r.refuse("is empty; give an identity as its text")
	}
	return target, headers, r.err
}

// sipHeaders reads x-foo=bar&x-baz=1 (RFC 3261 §19.1.1). The headers that route or identify are ours to set.
func (c *compiler) sipHeaders(r *reader, query string) map[string]string {
	if query == "" {
		return nil
	}
	var headers map[string]string
	for _, pair := range strings.Split(query, "&") {
		escapedName, escapedValue, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(strings.TrimSpace(escapedName))
		value, err2 := url.PathUnescape(escapedValue)
		if err != nil || err2 != nil || !utf8.ValidString(name+value) {
			r.refuse("the header %q is not escaped as a URI wants it (%%20 for a space, UTF-8)", clip(pair))
			return nil
		}
		headers = c.addHeader(r, headers, name, value)
	}
	return headers
}

// addHeader adds one header, unless it is ours to set.
func (c *compiler) addHeader(r *reader, headers map[string]string, name, value string) map[string]string {
	switch name = textproto.CanonicalMIMEHeaderKey(name); {
	case name == "":
	case strings.HasPrefix(name, "X-"), name == "User-To-User":
		if headers == nil {
			headers = map[string]string{}
		}
		headers[name] = value
	default:
		c.warn(r.e, "the header %s was left out; only X- headers and User-to-User can be set", clip(name))
	}
	return headers
}

// addHeaders joins a target's headers to the instruction's, which has one set for all.
func addHeaders(e *element, dial *webhooks.Dial, headers map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		if had, ok := dial.Headers[name]; ok && had != value {
			return e.refuse("gives the header %s another value than a party before it; one <Dial> sends the same to all", clip(name))
		}
		if dial.Headers == nil {
			dial.Headers = map[string]string{}
		}
		dial.Headers[name] = value
	}
	return nil
}

var formatted = regexp.MustCompile(`^\+?[0-9(][0-9().\s-]*$`)

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

// refer compiles <Refer>. Without an action the next verb follows. The headers behind the URI's question mark are for
// whoever follows the REFER, and stay in the URI.
func (c *compiler) refer(e *element) ([]webhooks.Instruction, error) {
	refer := new(webhooks.Refer)
	webhooks.Defaults(refer)
	r := c.attributes(e)
	if refer.Action = r.target("action", "method"); refer.Action != nil {
		refer.On = goOn(webhooks.Redirected)
	}
	if r.err != nil {
		return nil, r.err
	}
	for _, child := range e.children {
		switch noun := child.element; {
		case noun == nil:
			if text := oneLine(child.text); text != "" {
				return nil, e.refuse("takes no text, has %q; the URI belongs into <Sip>", clip(text))
			}
		case noun.name != "Sip":
			return nil, notAllowed(noun, e, []string{"Sip"})
		case refer.To != "":
			return nil, noun.refuse("is the second one; a call can be referred to one place only")
		default:
			if err := onlyText(noun); err != nil {
				return nil, err
			}
			if refer.To = noun.text(); refer.To == "" {
				return nil, noun.refuse("is empty; give a SIP URI as its text, such as sip:bob@example.com")
			}
		}
	}
	if refer.To == "" {
		return nil, e.refuse("names nobody; give <Sip> with a SIP URI as its text")
	}
	return []webhooks.Instruction{refer}, nil
}
