package twiml

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// known is what an element's attributes are to us.
type known struct {
	used   []string          // read
	silent []string          // of no effect without speech input, on Twilio as here
	unused map[string]string // without effect here; warned about unless empty, false or the value given
}

// attributesOf is the table of Twilio's attributes (TwiML Voice pages; twilio-node src/twiml/VoiceResponse.ts).
var attributesOf = map[string]known{
	"Response": {},
	"Say":      {used: []string{"voice", "language", "loop"}},
	"Play":     {used: []string{"loop", "digits"}},
	"Pause":    {used: []string{"length"}},
	"Gather": {
		used: []string{"input", "action", "method", "timeout", "finishOnKey", "numDigits", "actionOnEmptyResult", "bargeIn"},
		silent: []string{
			"speechTimeout", "maxSpeechTime", "language", "speechModel", "enhanced", "hints", "profanityFilter", "debug",
			"partialResultCallback", "partialResultCallbackMethod",
		},
	},
	"Record": {
		used: []string{"action", "method", "timeout", "finishOnKey", "maxLength", "playBeep", "trim", "recordingStatusCallback"},
		unused: map[string]string{
			"recordingStatusCallbackMethod": "POST", "recordingStatusCallbackEvent": "completed",
			"transcribe": "", "transcribeCallback": "", "recordingConfigurationId": "",
		},
	},
	"Dial": {
		used: []string{"action", "method", "timeout", "timeLimit", "callerId", "hangupOnStar", "answerOnBridge", "record", "ringTone", "sequential"},
		unused: map[string]string{
			"recordingTrack": "both", "trim": "do-not-trim", "recordingStatusCallback": "",
			"recordingStatusCallbackMethod": "POST", "recordingStatusCallbackEvent": "completed",
			"referUrl": "", "referMethod": "POST", "callReason": "", "events": "", "recordingConfigurationId": "",
		},
	},
	"Number":   {used: []string{"url", "method", "byoc", "sendDigits"}, unused: legCallbacks},
	"Sip":      {used: []string{"url", "method", "username", "password"}, unused: legCallbacks},
	"Redirect": {used: []string{"method"}},
	"Hangup":   {},
	"Reject":   {used: []string{"reason"}},
}

var legCallbacks = map[string]string{
	"statusCallback": "", "statusCallbackMethod": "POST", "statusCallbackEvent": "completed",
	"machineDetection": "", "machineDetectionTimeout": "30", "machineDetectionSpeechThreshold": "2400",
	"machineDetectionSpeechEndThreshold": "1200", "machineDetectionSilenceTimeout": "5000",
	"amdStatusCallback": "", "amdStatusCallbackMethod": "POST",
}

// reader reads one element's attributes. It keeps the first error, so that a verb reads all it has and looks once.
type reader struct {
	c   *compiler
	e   *element
	err error
}

// attributes warns about the attributes of e that have no effect and returns a reader for the others.
func (c *compiler) attributes(e *element) *reader {
	table := attributesOf[e.name]
	for _, a := range e.attrs {
		usual, unused := table.unused[a.name]
		switch {
		case slices.Contains(table.used, a.name), slices.Contains(table.silent, a.name):
		case unused && (a.value == "" || a.value == "false" || a.value == usual):
		case unused:
			c.warn(e, "%s has no effect in this version", a.name)
		default:
			c.warn(e, "%s is not an attribute of <%s> and was ignored", clip(a.name), e.name)
		}
	}
	return &reader{c: c, e: e}
}

func (e *element) attribute(name string) (string, bool) {
	for _, a := range e.attrs {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}

// refuse keeps the first thing that is wrong.
func (r *reader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = r.e.refuse(format, args...)
	}
}

// text reads an attribute verbatim into out and says whether it was there.
func (r *reader) text(name string, out *string) bool {
	value, ok := r.e.attribute(name)
	if ok {
		*out = value
	}
	return ok
}

func (r *reader) integer(name string, out *int) bool {
	value, ok := r.e.attribute(name)
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
	if err != nil {
		r.refuse("%s must be a whole number, is %q", name, clip(value))
		return false
	}
	*out = int(n)
	return true
}

func (r *reader) seconds(name string, out *webhooks.Seconds) {
	n := 0
	if r.integer(name, &n) {
		*out = webhooks.Seconds(n)
	}
}

func (r *reader) yes(name string, out *bool) {
	value, ok := r.e.attribute(name)
	if !ok {
		return
	}
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "true":
		*out = true
	case "false":
		*out = false
	default:
		r.refuse("%s must be true or false, is %q", name, clip(value))
	}
}

// loop reads how often something is played: 0 is for ever, and more than a thousand times is as good as a thousand.
func (r *reader) loop(out *int) {
	const most = 1000
	if r.integer("loop", out) && *out > most {
		r.c.warn(r.e, "loop is at most %d", most)
		*out = most
	}
}

// method reads an HTTP method; Twilio's default is POST wherever a document names a URL to ask, whatever method the
// application was configured with.
func (r *reader) method() string {
	value, ok := r.e.attribute("method")
	if !ok || value == "" {
		return "POST"
	}
	upper := strings.ToUpper(strings.TrimSpace(value))
	if upper != "GET" && upper != "POST" {
		r.refuse("method must be GET or POST, is %q", clip(value))
	}
	return upper
}

// target reads a URL to ask, with its method. It is nil where the attribute is missing or empty.
func (r *reader) target(name string) *webhooks.Target {
	method := r.method()
	value, _ := r.e.attribute(name)
	if strings.TrimSpace(value) == "" {
		return nil
	}
	link, err := r.c.link(r.e, value)
	if err != nil {
		r.refuse("%s must be a URL, is %q", name, clip(value))
	}
	return &webhooks.Target{URL: link, Method: method}
}

// targetOrCurrent is target with Twilio's default for Gather and Record: the document itself.
func (r *reader) targetOrCurrent(name string) *webhooks.Target {
	if t := r.target(name); t != nil {
		return t
	}
	link, err := r.c.current(r.e, name)
	if err != nil && r.err == nil {
		r.err = err
	}
	return &webhooks.Target{URL: link, Method: r.method()}
}

// check applies the contract's own rules to an instruction, so that bounds and formats stand in one place only, and
// says what is wrong in TwiML's words.
//
// Why through JSON: the rules are the tags of webhooks' decoder. A round trip costs tens of microseconds, next to a
// request that took milliseconds.
func (c *compiler) check(e *element, i webhooks.Instruction) error {
	written, err := json.Marshal([]webhooks.Instruction{i})
	if err != nil {
		return e.refuse("cannot be run: %v", err)
	}
	if _, err = webhooks.ParseProgram(written); err == nil {
		return nil
	}
	refused, ok := errors.AsType[*webhooks.ProgramError](err)
	if !ok {
		return e.refuse("cannot be run: %v", err)
	}
	if name := attributeAt(refused.Pointer); name != "" {
		return e.refuse("%s %s", name, refused.Message)
	}
	return e.refuse("%s", refused.Message)
}

// contractNames are the contract's attributes whose TwiML name is not the same in camel case.
var contractNames = map[string]string{
	"text": "its text", "ssml": "its text", "url": "its URL", "number": "its number", "extension": "its number",
	"sip": "its URI", "to": "what it dials", "silence": "timeout", "status_url": "recordingStatusCallback",
	"ringback": "ringTone", "trunk": "byoc", "screen": "url",
}

// attributeAt turns the pointer of a refused instruction into the name of the attribute that it came from:
// "/0/num_digits" is numDigits, "/0/to/0/sip" is "its URI".
func attributeAt(pointer string) string {
	parts := strings.Split(pointer, "/")
	if len(parts) > 4 && parts[2] == "to" {
		parts = parts[2:]
	}
	if len(parts) < 3 {
		return ""
	}
	name := parts[2]
	if ours, ok := contractNames[name]; ok {
		return ours
	}
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	camel := strings.Join(words, "")
	if name == "headers" && len(parts) > 3 {
		return "the header " + clip(parts[3])
	}
	return camel
}
