package twiml

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
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

// attributesOf is the table of Twilio's attributes (TwiML Voice pages; twilio-node src/twiml/VoiceResponse.ts). The
// conformance page has a row for each.
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
		used: []string{
			"action", "method", "timeout", "finishOnKey", "maxLength", "playBeep", "trim", "recordingStatusCallback", "recordingStatusCallbackEvent",
			"recordingStatusCallbackMethod",
		},
		unused: map[string]string{
			"transcribe": "", "transcribeCallback": "", "recordingConfigurationId": "",
		},
	},
	"Dial": {
		used: []string{
			"action", "method", "timeout", "timeLimit", "callerId", "hangupOnStar", "answerOnBridge", "record", "ringTone", "sequential",
			"recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "referUrl", "referMethod",
		},
		unused: map[string]string{
			"recordingTrack": "both", "trim": "do-not-trim", "callReason": "", "events": "", "recordingConfigurationId": "",
		},
	},
	"Number": {used: append([]string{"url", "method", "byoc", "sendDigits"}, legAttributes...)},
	"Sip":    {used: append([]string{"url", "method", "username", "password"}, legAttributes...)},
	"Client": {used: append([]string{"url", "method"}, legAttributes...)},
	"Queue":  {used: []string{"url", "method"}, unused: map[string]string{"reservationSid": "", "postWorkActivitySid": ""}},
	"Conference": {
		used: []string{
			"muted", "beep", "startConferenceOnEnter", "endConferenceOnExit", "participantLabel", "waitUrl", "waitMethod", "maxParticipants",
			"record", "coach", "statusCallback", "statusCallbackEvent", "statusCallbackMethod",
			"recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod",
		},
		unused: map[string]string{
			"jitterBufferSize": "large", "region": "", "trim": "do-not-trim", "eventCallbackUrl": "",
		},
	},
	"Parameter": {used: []string{"name", "value"}},
	"Header":    {used: []string{"name", "value"}},
	"Identity":  {},
	"Uri":       {unused: map[string]string{"priority": "", "weight": ""}},
	"Headers":   {},
	"Enqueue": {
		used:   []string{"action", "method", "waitUrl", "waitUrlMethod", "maxQueueSize"},
		unused: map[string]string{"workflowSid": ""},
	},
	"Leave": {},
	"Refer": {used: []string{"action", "method"}},
	"Start": {unused: map[string]string{"action": "", "method": "POST"}},
	"Stop":  {},
	"Recording": {
		used:   []string{"recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "channels"},
		silent: []string{"name"},
		unused: map[string]string{"track": "both", "trim": "do-not-trim"},
	},
	"Connect":  {},
	"Sms":      {used: []string{"to", "from", "action", "method", "statusCallback"}},
	"Message":  {used: []string{"to", "from", "action", "method", "statusCallback"}},
	"Body":     {},
	"Redirect": {used: []string{"method"}},
	"Hangup":   {},
	"Reject":   {used: []string{"reason"}},
}

// legAttributes are those of every noun that is called.
var legAttributes = []string{
	"statusCallback", "statusCallbackEvent", "statusCallbackMethod", "machineDetection", "machineDetectionTimeout",
	"machineDetectionSpeechThreshold", "machineDetectionSpeechEndThreshold", "machineDetectionSilenceTimeout",
	"amdStatusCallback", "amdStatusCallbackMethod",
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

// word reads one of Twilio's words as the contract's; usual is what a missing or empty attribute means.
func (r *reader) word(name, usual string, words map[string]string, out *string) {
	value := usual
	if given, ok := r.e.attribute(name); ok && strings.TrimSpace(given) != "" {
		value = strings.TrimSpace(given)
	}
	ours, ok := words[value]
	if !ok {
		known := slices.DeleteFunc(slices.Sorted(maps.Keys(words)), func(w string) bool { return w == "" })
		r.refuse("%s must be one of %s, is %q", name, strings.Join(known, ", "), clip(value))
		return
	}
	*out = ours
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
func (r *reader) method(name string) string {
	value, ok := r.e.attribute(name)
	if !ok || value == "" {
		return "POST"
	}
	upper := strings.ToUpper(strings.TrimSpace(value))
	if upper != "GET" && upper != "POST" {
		r.refuse("%s must be GET or POST, is %q", name, clip(value))
	}
	return upper
}

// callback reads a URL that is told something, and its method. The URL is "" where the attribute is missing or empty. What
// is no method is warned about and read as POST: a callback harms no call, whatever it is asked by.
func (r *reader) callback(name, methodName string) (link, method string) {
	method = http.MethodPost
	given, _ := r.e.attribute(methodName)
	switch strings.ToUpper(strings.TrimSpace(given)) {
	case http.MethodGet:
		method = http.MethodGet
	case http.MethodPost, "":
	default:
		r.c.warn(r.e, "%s must be GET or POST, is %q; the callback is made by POST", methodName, clip(given))
	}
	return r.link(name), method
}

// target reads a URL to ask, with its method. It is nil where the attribute is missing or empty.
func (r *reader) target(name, methodName string) *webhooks.Target {
	method := r.method(methodName)
	link := r.link(name)
	if link == "" {
		return nil
	}
	return &webhooks.Target{URL: link, Method: method}
}

// link reads a URL; "" where the attribute is missing or empty.
func (r *reader) link(name string) string {
	value, _ := r.e.attribute(name)
	if strings.TrimSpace(value) == "" {
		return ""
	}
	link, err := r.c.link(r.e, value)
	if err != nil {
		r.refuse("%s must be a URL, is %q", name, clip(value))
	}
	return link
}

// targetOrCurrent is target with Twilio's default for Gather and Record: the document itself.
func (r *reader) targetOrCurrent(name string) *webhooks.Target {
	if t := r.target(name, "method"); t != nil {
		return t
	}
	link, err := r.c.current(r.e, name)
	if err != nil && r.err == nil {
		r.err = err
	}
	return &webhooks.Target{URL: link, Method: r.method("method")}
}

// wait reads what is heard while waiting: nil for the usual music, an empty program for silence.
func (r *reader) wait(name, methodName string) *webhooks.Sub {
	if t := r.target(name, methodName); t != nil {
		return &webhooks.Sub{Target: t}
	}
	if _, given := r.e.attribute(name); given {
		return &webhooks.Sub{Instructions: []webhooks.Instruction{}}
	}
	return nil
}

// events reads a list of events, separated by spaces, as the contract's. usual are those of a missing list. What is
// not known is warned about and left out, as a callback that nobody sends harms no call.
func (r *reader) events(name string, usual []string, known map[string][]string) []string {
	value, ok := r.e.attribute(name)
	if !ok {
		return usual
	}
	out := []string{}
	for word := range strings.FieldsSeq(value) {
		ours, ok := known[word]
		if !ok {
			r.c.warn(r.e, "%s names %s, which is no event here", name, clip(word))
		}
		for _, event := range ours {
			if !slices.Contains(out, event) {
				out = append(out, event)
			}
		}
	}
	return out
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
	if name := attributeAt(i.Verb(), refused.Pointer); name != "" {
		return e.refuse("%s %s", name, refused.Message)
	}
	return e.refuse("%s", refused.Message)
}

// contractNames are the contract's attributes whose TwiML name is not the same in camel case; a verb's own come first.
var contractNames = map[string]string{
	"text": "its text", "ssml": "its text", "url": "its URL", "number": "its number", "extension": "its number",
	"sip": "its URI", "client": "its identity", "silence": "timeout", "recording_status_url": "recordingStatusCallback",
	"ringback": "ringTone", "trunk": "byoc", "screen": "url", "queue": "its name", "wait": "waitUrl", "body": "its text",

	"record/status_url": "recordingStatusCallback", "recording/status_url": "recordingStatusCallback",
	"dial/to": "what it dials", "dial/status_url": "statusCallback", "dial/refer": "referUrl", "dial/mode": "machineDetection",
	"dial/machine_detection/timeout": "machineDetectionTimeout", "dial/machine_detection/status_url": "amdStatusCallback",
	"dial/machine_detection/tuning/speech_threshold_ms":     "machineDetectionSpeechThreshold",
	"dial/machine_detection/tuning/speech_end_threshold_ms": "machineDetectionSpeechEndThreshold",
	"dial/machine_detection/tuning/silence_timeout_ms":      "machineDetectionSilenceTimeout",
	"enqueue/max_size": "maxQueueSize", "refer/to": "its URI", "message/status_url": "statusCallback",
	"conference/name": "its name", "conference/label": "participantLabel", "conference/status_url": "statusCallback",
	"conference/whisper_to": "coach", "conference/time_limit": "timeLimit",
}

// attributeAt turns the pointer of a refused instruction into the name of the attribute that it came from:
// "/0/num_digits" is numDigits, "/0/to/0/sip" is "its URI".
func attributeAt(verb, pointer string) string {
	parts := strings.Split(pointer, "/")
	if len(parts) > 4 && parts[2] == "to" {
		parts = parts[2:]
	}
	if len(parts) < 3 {
		return ""
	}
	parts = parts[2:]
	name := parts[0]
	for _, key := range []string{verb + "/" + strings.Join(parts, "/"), verb + "/" + name, name} {
		if ours, ok := contractNames[key]; ok {
			return ours
		}
	}
	if name == "headers" && len(parts) > 1 {
		return "the header " + clip(parts[1])
	}
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}
