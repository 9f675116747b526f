package twiml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

// page is made from the rows below, each of which is shown to be true first; -update writes it anew.
const page = "../../deploy/docs/twiml.md"

// row is what becomes of one attribute of an element, or of the element itself when attribute is "". Without differs and
// refuses it is the same as on Twilio.
type row struct {
	element, attribute, value string
	with                      string // other attributes, which it needs to mean anything
	has                       string // in the program, as JSON
	calls                     string // a callback of the program: method and URL. The method is none of the contract's JSON
	differs                   string // how, in words
	warns                     string // in a warning; there must be none otherwise
	refuses                   string // in the refusal
}

// around are the documents that the rows put an attribute into, in place of %s.
var around = map[string]string{
	"Response":   `<Response %s/>`,
	"Say":        `<Response><Say %s>Hello</Say></Response>`,
	"Play":       `<Response><Play %s>/a.wav</Play></Response>`,
	"Pause":      `<Response><Pause %s/></Response>`,
	"Gather":     `<Response><Gather %s><Say>1?</Say></Gather></Response>`,
	"Record":     `<Response><Record %s/></Response>`,
	"Dial":       `<Response><Dial %s>+8613800138000</Dial></Response>`,
	"Number":     `<Response><Dial><Number %s>+8613800138000</Number></Dial></Response>`,
	"Sip":        `<Response><Dial><Sip %s>sip:bob@example.com</Sip></Dial></Response>`,
	"Uri":        `<Response><Dial><Sip><Uri %s>sip:bob@example.com</Uri></Sip></Dial></Response>`,
	"Headers":    `<Response><Dial><Sip><Uri>sip:bob@example.com</Uri><Headers %s/></Sip></Dial></Response>`,
	"Header":     `<Response><Dial><Sip><Uri>sip:bob@example.com</Uri><Headers><Header name="X-A" %s/></Headers></Sip></Dial></Response>`,
	"Client":     `<Response><Dial><Client %s>amy</Client></Dial></Response>`,
	"Identity":   `<Response><Dial><Client><Identity %s>amy</Identity></Client></Dial></Response>`,
	"Parameter":  `<Response><Dial><Client>amy<Parameter name="order_id" %s/></Client></Dial></Response>`,
	"Conference": `<Response><Dial><Conference %s>Room</Conference></Dial></Response>`,
	"Queue":      `<Response><Dial><Queue %s>support</Queue></Dial></Response>`,
	"Enqueue":    `<Response><Enqueue %s>support</Enqueue></Response>`,
	"Leave":      `<Response><Leave %s/></Response>`,
	"Refer":      `<Response><Refer %s><Sip>sip:bob@example.com</Sip></Refer></Response>`,
	"Start":      `<Response><Start %s><Recording/></Start></Response>`,
	"Stop":       `<Response><Stop %s><Recording/></Stop></Response>`,
	"Recording":  `<Response><Start><Recording %s/></Start></Response>`,
	"Connect":    `<Response><Connect %s><Stream url="wss://example.com"/></Connect></Response>`,
	"Redirect":   `<Response><Redirect %s>/next</Redirect></Response>`,
	"Hangup":     `<Response><Hangup %s/></Response>`,
	"Reject":     `<Response><Reject %s/></Response>`,
	"Sms":        `<Response><Sms %s>Hello</Sms></Response>`,
	"Message":    `<Response><Message %s>Hello</Message></Response>`,
	"Body":       `<Response><Message><Body %s>Hello</Body></Message></Response>`,

	"Stream": `<Response><Start><Stream %s/></Start></Response>`, "Transcription": `<Response><Start><Transcription %s/></Start></Response>`,
	"Siprec": `<Response><Start><Siprec %s/></Start></Response>`, "Task": `<Response><Enqueue><Task %s>{}</Task></Enqueue></Response>`,
	"Media": `<Response><Message><Media %s/></Message></Response>`,
}

// sections are the page's headings, in order, with the elements below each.
var sections = []struct {
	title    string
	elements []string
}{
	{"Speaking, playing, waiting", []string{"Response", "Say", "Play", "Pause"}},
	{"Keys and recordings", []string{"Gather", "Record", "Start", "Stop", "Recording"}},
	{"Calling others", []string{"Dial", "Number", "Sip", "Uri", "Headers", "Header", "Client", "Identity", "Parameter", "Refer"}},
	{"Queues and conferences", []string{"Enqueue", "Leave", "Queue", "Conference"}},
	{"Where a document goes on", []string{"Redirect", "Hangup", "Reject"}},
	{"Messages", []string{"Sms", "Message", "Body"}},
	{"Refused by name", nil}, // all that is left
}

const noEffect = "has no effect; the call's journal has a warning"

// rows is the conformance matrix.
var rows = slices.Concat([]row{
	{element: "Response", has: `"instructions":[]`},
	{element: "Say", has: `"verb":"say","text":"Hello","loop":1`},
	{element: "Say", attribute: "voice", value: "alice", has: `"voice":"alice"`, differs: "names a voice of the account's speech provider; one that it does not have is spoken with its usual voice"},
	{element: "Say", attribute: "language", value: "zh-CN", has: `"language":"zh-CN"`},
	{element: "Say", attribute: "loop", value: "2000", has: `"loop":1000`, warns: "loop is at most 1000", differs: "more than 1,000 times are 1,000; 0 is for ever"},
	{element: "Play", has: `"verb":"play","url":"https://app.example.com/a.wav"`},
	{element: "Play", attribute: "loop", value: "0", has: `"loop":0`},
	{element: "Play", attribute: "digits", value: "ww1", has: `{"verb":"answer"},{"verb":"send_digits","digits":"ww1"`},
	{element: "Pause", has: `"verb":"pause","length":1`},
	{element: "Pause", attribute: "length", value: "3", has: `"length":3`},

	{element: "Gather", has: `"prompt":[{"verb":"say"`},
	{element: "Gather", attribute: "input", value: "dtmf speech", has: `"verb":"gather"`, warns: "only keys are", differs: "`dtmf`; of `dtmf speech` only the keys are heard, and `speech` is refused"},
	{element: "Gather", attribute: "action", value: "/d", has: `"url":"https://app.example.com/d"`},
	{element: "Gather", attribute: "method", value: "GET", with: `action="/d"`, has: `"action":{"method":"GET","url":"https://app.example.com/d"}`},
	{element: "Gather", attribute: "timeout", value: "9", has: `"timeout":9`},
	{element: "Gather", attribute: "finishOnKey", value: "*", has: `"finish_on_key":"*"`},
	{element: "Gather", attribute: "numDigits", value: "4", has: `"num_digits":4`, differs: "1 to 64"},
	{element: "Gather", attribute: "actionOnEmptyResult", value: "true", has: `"on":{"hangup":[],"redirected":[]}`},
	{element: "Gather", attribute: "bargeIn", value: "false", has: `"barge_in":false`},

	{element: "Record", has: `"verb":"record","on":{"empty":[],"failed":[],"redirected":[]},"max_length":3600,"silence":5,"finish_on_key":"1234567890*#"`},
	{element: "Record", attribute: "action", value: "/d", has: `"url":"https://app.example.com/d"`},
	{element: "Record", attribute: "method", value: "GET", with: `action="/d"`, has: `"action":{"method":"GET","url":"https://app.example.com/d"}`},
	{element: "Record", attribute: "timeout", value: "0", has: `"silence":0`},
	{element: "Record", attribute: "finishOnKey", value: "12", has: `"finish_on_key":"12"`},
	{element: "Record", attribute: "maxLength", value: "60", has: `"max_length":60`},
	{element: "Record", attribute: "playBeep", value: "false", has: `"beep":false`},
	{element: "Record", attribute: "trim", value: "do-not-trim", has: `"trim":false`},
	{element: "Record", attribute: "recordingStatusCallback", value: "/s", has: `"status_url":"https://app.example.com/s"`},
	{element: "Record", attribute: "recordingStatusCallbackEvent", value: "in-progress", with: `recordingStatusCallback="/s"`, has: `"status_events":["recording.started"]`, differs: "without it, a recording that failed is told as well as a completed one"},
	{element: "Record", attribute: "recordingStatusCallbackMethod", value: "GET", with: `recordingStatusCallback="/s"`, calls: "GET https://app.example.com/s"},
	{element: "Start", has: `"verb":"recording","op":"start"`, differs: "takes `<Recording>`"},
	{element: "Stop", has: `"verb":"recording","op":"stop"`, differs: "takes `<Recording>`"},
	{element: "Recording", has: `"op":"start","channels":2`, differs: "a call has one recording at a time"},
	{element: "Recording", attribute: "name", value: "a", has: `"op":"start"`, differs: "is read over: there is one at a time"},
	{element: "Recording", attribute: "channels", value: "mono", has: `"channels":1`},
	{element: "Recording", attribute: "recordingStatusCallback", value: "/s", has: `"status_url":"https://app.example.com/s"`},
	{element: "Recording", attribute: "recordingStatusCallbackEvent", value: "in-progress", with: `recordingStatusCallback="/s"`, has: `"status_events":["recording.started"]`, differs: "without it, a recording that failed is told as well as a completed one"},
	{element: "Recording", attribute: "recordingStatusCallbackMethod", value: "GET", with: `recordingStatusCallback="/s"`, calls: "GET https://app.example.com/s"},

	{element: "Dial", has: `"to":[{"number":"+8613800138000"}],"strategy":"simultaneous","timeout":30,"time_limit":14400`, differs: "2 to 8 bare digits are an extension of the account; `callerId` and rules on who may be called are the account's"},
	{element: "Dial", attribute: "action", value: "/d", has: `"url":"https://app.example.com/d"`},
	{element: "Dial", attribute: "method", value: "GET", with: `action="/d"`, has: `"action":{"method":"GET","url":"https://app.example.com/d"}`},
	{element: "Dial", attribute: "timeout", value: "20", has: `"timeout":20`, differs: "1 to 600 seconds, without Twilio's five more"},
	{element: "Dial", attribute: "timeLimit", value: "60", has: `"time_limit":60`},
	{element: "Dial", attribute: "callerId", value: "+862368925278", has: `"caller_id":"+862368925278"`},
	{element: "Dial", attribute: "hangupOnStar", value: "true", has: `"hang_up_on":"*"`},
	{element: "Dial", attribute: "answerOnBridge", value: "true", has: `"answer_on_bridge":true`},
	{element: "Dial", attribute: "record", value: "record-from-answer", has: `"record":"answer"`, differs: "always with a channel for each side"},
	{element: "Dial", attribute: "ringTone", value: "us-old", warns: "there is no ringTone us-old", differs: "au br cn de fr in jp sg tw uk us; other countries' give a warning and the usual tone"},
	{element: "Dial", attribute: "sequential", value: "true", has: `"strategy":"sequential"`},
	{element: "Dial", attribute: "referUrl", value: "/r", has: `"refer":{"method":"POST","url":"https://app.example.com/r"}`},
	{element: "Dial", attribute: "referMethod", value: "GET", with: `referUrl="/r"`, has: `"refer":{"method":"GET"`},
	{element: "Dial", attribute: "recordingStatusCallback", value: "/s", has: `"recording_status_url":"https://app.example.com/s"`},
	{element: "Dial", attribute: "recordingStatusCallbackEvent", value: "in-progress", with: `recordingStatusCallback="/s"`, has: `"recording_status_events":["recording.started"]`, differs: "without it, a recording that failed is told as well as a completed one"},
	{element: "Dial", attribute: "recordingStatusCallbackMethod", value: "GET", with: `recordingStatusCallback="/s"`, calls: "GET https://app.example.com/s"},
	{element: "Number", has: `"number":"+8613800138000"`, differs: "2 to 8 bare digits are an extension of the account"},
	{element: "Number", attribute: "url", value: "/s", has: `"screen":{"method":"POST","url":"https://app.example.com/s"}`},
	{element: "Number", attribute: "method", value: "GET", with: `url="/s"`, has: `"screen":{"method":"GET"`},
	{element: "Number", attribute: "sendDigits", value: "ww1", has: `"send_digits":"ww1"`},
	{element: "Number", attribute: "byoc", value: "main", has: `"trunk":"main"`, differs: "names a trunk of the account, by id or name"},
	{element: "Sip", has: `"sip":"sip:bob@example.com"`, differs: "of the headers in the URI X- headers and User-to-User are sent, the same to all that a `<Dial>` calls"},
	{element: "Sip", attribute: "url", value: "/s", has: `"screen":{"method":"POST","url":"https://app.example.com/s"}`},
	{element: "Sip", attribute: "method", value: "GET", with: `url="/s"`, has: `"screen":{"method":"GET"`},
	{element: "Sip", attribute: "username", value: "u", has: `"username":"u"`},
	{element: "Sip", attribute: "password", value: "p", has: `"password":"p"`},
	{element: "Uri", has: `"sip":"sip:bob@example.com"`},
	{element: "Headers", has: `"sip":"sip:bob@example.com"`},
	{element: "Header", has: `"headers":{"X-A":""}`},
	{element: "Header", attribute: "name", has: `"headers":{"X-A":""}`, differs: "X- headers and User-to-User"},
	{element: "Header", attribute: "value", value: "1", has: `"headers":{"X-A":"1"}`},
	{element: "Client", has: `"client":"amy"`, differs: "an identity of the account's browser phones"},
	{element: "Client", attribute: "url", value: "/s", has: `"screen":{"method":"POST","url":"https://app.example.com/s"}`},
	{element: "Client", attribute: "method", value: "GET", with: `url="/s"`, has: `"screen":{"method":"GET"`},
	{element: "Identity", has: `"client":"amy"`},
	{element: "Parameter", has: `"headers":{"X-Order-Id":""}`, differs: "travels as the header X-name, the same to all that a `<Dial>` calls"},
	{element: "Parameter", attribute: "name", has: `"headers":{"X-Order-Id":""}`, differs: "an underscore becomes a hyphen"},
	{element: "Parameter", attribute: "value", value: "1", has: `"headers":{"X-Order-Id":"1"}`},
	{element: "Refer", has: `"verb":"refer","to":"sip:bob@example.com"`},
	{element: "Refer", attribute: "action", value: "/r", has: `"url":"https://app.example.com/r"`},
	{element: "Refer", attribute: "method", value: "GET", with: `action="/d"`, has: `"action":{"method":"GET","url":"https://app.example.com/d"}`},

	{element: "Enqueue", has: `"verb":"enqueue","queue":"support","create":true`},
	{element: "Enqueue", attribute: "action", value: "/q", has: `"url":"https://app.example.com/q"`},
	{element: "Enqueue", attribute: "method", value: "GET", with: `action="/d"`, has: `"action":{"method":"GET","url":"https://app.example.com/d"}`},
	{element: "Enqueue", attribute: "waitUrl", value: "/w", has: `"wait":{"method":"POST","url":"https://app.example.com/w"}`},
	{element: "Enqueue", attribute: "waitUrlMethod", value: "GET", with: `waitUrl="/w"`, has: `"wait":{"method":"GET"`},
	{element: "Enqueue", attribute: "maxQueueSize", value: "7", has: `"max_size":7`},
	{element: "Leave", has: `{"verb":"leave"}`},
	{element: "Queue", has: `"verb":"dequeue","queue":"support","timeout":30`, differs: "of `<Dial>`'s attributes only `action`, `method` and `timeout` have an effect"},
	{element: "Queue", attribute: "url", value: "/s", has: `"screen":{"method":"POST","url":"https://app.example.com/s"}`},
	{element: "Queue", attribute: "method", value: "GET", with: `url="/s"`, has: `"screen":{"method":"GET"`},
	{element: "Conference", has: `"verb":"conference","name":"Room","mode":"talk","start_on_enter":true,"beep":"both","max_participants":250`, differs: "of `<Dial>`'s attributes only `action`, `method`, `timeLimit` and `hangupOnStar` have an effect"},
	{element: "Conference", attribute: "muted", value: "true", has: `"muted":true`},
	{element: "Conference", attribute: "beep", value: "onExit", has: `"beep":"exit"`},
	{element: "Conference", attribute: "startConferenceOnEnter", value: "false", has: `"start_on_enter":false`},
	{element: "Conference", attribute: "endConferenceOnExit", value: "true", has: `"end_on_exit":true`},
	{element: "Conference", attribute: "participantLabel", value: "amy", has: `"label":"amy"`},
	{element: "Conference", attribute: "waitUrl", value: "/w", has: `"wait":{"method":"POST","url":"https://app.example.com/w"}`},
	{element: "Conference", attribute: "waitMethod", value: "GET", with: `waitUrl="/w"`, has: `"wait":{"method":"GET"`},
	{element: "Conference", attribute: "maxParticipants", value: "9", has: `"max_participants":9`},
	{element: "Conference", attribute: "record", value: "record-from-start", has: `"record":true`},
	{element: "Conference", attribute: "coach", value: "CA0123456789abcdef0123456789abcdef", has: `"mode":"whisper","whisper_to":"call_014D2PF2DBSQQG28T5CY4TQKFF"`},
	{element: "Conference", attribute: "statusCallback", value: "/s", has: `"status_url":"https://app.example.com/s","status_events":["conference.started","conference.ended"]`},
	{element: "Conference", attribute: "statusCallbackEvent", value: "join", with: `statusCallback="/s"`, has: `"status_events":["conference.joined"]`},
	{element: "Conference", attribute: "statusCallbackMethod", value: "GET", with: `statusCallback="/s"`, calls: "GET https://app.example.com/s"},
	{element: "Conference", attribute: "recordingStatusCallback", value: "/s", has: `"recording_status_url":"https://app.example.com/s"`},
	{element: "Conference", attribute: "recordingStatusCallbackEvent", value: "completed", with: `recordingStatusCallback="/s"`, has: `"recording_status_events":["recording.completed"]`, differs: "without it, a recording that failed is told as well as a completed one"},
	{element: "Conference", attribute: "recordingStatusCallbackMethod", value: "GET", with: `recordingStatusCallback="/s"`, calls: "GET https://app.example.com/s"},

	{element: "Redirect", has: `"verb":"redirect","url":"https://app.example.com/next","method":"POST"`},
	{element: "Redirect", attribute: "method", value: "GET", has: `"method":"GET"`},
	{element: "Hangup", has: `{"verb":"hangup"}`},
	{element: "Reject", has: `"verb":"reject","reason":"rejected"`},
	{element: "Reject", attribute: "reason", value: "busy", has: `"reason":"busy"`},

	{element: "Connect", refuses: "is not run by this version"},
}, messageRows("Sms"), messageRows("Message"), []row{
	{element: "Body", has: `"body":"Hello"`, differs: "as the messaging dialect writes it; during a call it sends a text message"},
},
	legRows("Number"), legRows("Sip"), legRows("Client"),
	silentRows("Gather", "belongs to speech and means nothing for keys"), unusedRows(), refusedRows())

// legRows are those of every noun that is called.
func legRows(element string) []row {
	const detection = `machineDetection="Enable"`
	return []row{
		{element: element, attribute: "statusCallback", value: "/s", has: `"status_url":"https://app.example.com/s","status_events":["call.ended"]`},
		{element: element, attribute: "statusCallbackEvent", value: "answered", with: `statusCallback="/s"`, has: `"status_events":["call.answered"]`},
		{element: element, attribute: "statusCallbackMethod", value: "GET", with: `statusCallback="/s"`, calls: "GET https://app.example.com/s"},
		{element: element, attribute: "machineDetection", value: "DetectMessageEnd", has: `"machine_detection":{"mode":"message_end","timeout":30,"async":true}`},
		{element: element, attribute: "machineDetectionTimeout", value: "9", with: detection, has: `"mode":"machine","timeout":9`},
		{element: element, attribute: "machineDetectionSpeechThreshold", value: "2000", with: detection, has: `"speech_threshold_ms":2000`},
		{element: element, attribute: "machineDetectionSpeechEndThreshold", value: "2000", with: detection, has: `"speech_end_threshold_ms":2000`},
		{element: element, attribute: "machineDetectionSilenceTimeout", value: "2000", with: detection, has: `"silence_timeout_ms":2000`},
		{element: element, attribute: "amdStatusCallback", value: "/s", with: detection, has: `"async":true,"status_url":"https://app.example.com/s"`},
		{element: element, attribute: "amdStatusCallbackMethod", value: "GET", with: detection + ` amdStatusCallback="/s"`, calls: "GET https://app.example.com/s"},
	}
}

// messageRows are those of a text message, which both dialects of Twilio's have a verb for.
func messageRows(element string) []row {
	how := ""
	if element == "Message" {
		how = "as the messaging dialect writes it; during a call it sends a text message"
	}
	return []row{
		{element: element, has: `"verb":"message","to":"{{call.from}}","body":"Hello"`, differs: how},
		{element: element, attribute: "to", value: "+8613800138000", has: `"to":"+8613800138000"`},
		{element: element, attribute: "from", value: "+862368925278", has: `"from":"+862368925278"`},
		{element: element, attribute: "action", value: "/a", has: `"sent":{"method":"POST","url":"https://app.example.com/a"}`},
		{element: element, attribute: "method", value: "GET", with: `action="/a"`, has: `"sent":{"method":"GET"`},
		{element: element, attribute: "statusCallback", value: "/s", has: `"status_url":"https://app.example.com/s"`},
	}
}

// silentRows are those of the attributes that are read over in silence.
func silentRows(element, how string) []row {
	var out []row
	for _, name := range attributesOf[element].silent {
		out = append(out, row{element: element, attribute: name, value: "1", differs: how})
	}
	return out
}

// unusedRows are those of the attributes that are read over with a warning.
func unusedRows() []row {
	var out []row
	for _, element := range slices.Sorted(maps.Keys(attributesOf)) {
		for _, name := range slices.Sorted(maps.Keys(attributesOf[element].unused)) {
			usual := attributesOf[element].unused[name]
			r := row{element: element, attribute: name, value: "other", warns: name + " has no effect in this version", differs: noEffect}
			if usual == "POST" {
				r.value, r.differs = "GET", "is always POST"
			}
			out = append(out, r)
		}
	}
	return out
}

// refusedRows are those of the elements that are refused by their name, wherever they stand.
func refusedRows() []row {
	var out []row
	for _, name := range later {
		out = append(out, row{element: name, refuses: "is not run by this version of Hookswitch"})
	}
	for _, name := range never {
		out = append(out, row{element: name, refuses: "is not supported by Hookswitch"})
	}
	return out
}

// document is the TwiML that shows a row to be true.
func (r row) document() string {
	text, ok := around[r.element]
	if !ok {
		text = "<Response><" + r.element + " %s/></Response>"
	}
	attribute := ""
	if r.attribute != "" && r.value != "" {
		attribute = r.attribute + `="` + r.value + `"`
	}
	return strings.Replace(text, "%s", attribute+" "+r.with, 1)
}

func TestEveryRowOfTheConformancePageIsTrue(t *testing.T) {
	for _, r := range rows {
		program, warnings, err := Parse([]byte(r.document()), document)
		at := r.element + " " + r.attribute
		if r.refuses != "" {
			if err == nil || !strings.Contains(err.Error(), r.refuses) || !strings.Contains(err.Error(), "<"+r.element+">") && r.element != "Connect" {
				t.Errorf("%s: %v, want a refusal that says %q", at, err, r.refuses)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		written, err := json.Marshal(program)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(written, []byte(r.has)) {
			t.Errorf("%s: %s\nis without %s", at, written, r.has)
		}
		if made := callbacks(program.Instructions); r.calls != "" && !slices.Contains(made, r.calls) {
			t.Errorf("%s: %q are called back, not %s", at, made, r.calls)
		}
		switch {
		case r.warns == "" && len(warnings) > 0:
			t.Errorf("%s: warns %v", at, warnings)
		case r.warns != "" && (len(warnings) != 1 || !strings.Contains(warnings[0].Message, r.warns)):
			t.Errorf("%s: warns %v, want %s", at, warnings, r.warns)
		}
	}
}

// callbacks are the callbacks that a program names, each as its method and URL.
func callbacks(program []webhooks.Instruction) []string {
	var out []string
	add := func(link, method string) {
		if link != "" {
			out = append(out, method+" "+link)
		}
	}
	for _, i := range program {
		switch i := i.(type) {
		case *webhooks.Record:
			add(i.StatusURL, i.StatusMethod)
		case *webhooks.Recording:
			add(i.StatusURL, i.StatusMethod)
		case *webhooks.Conference:
			add(i.StatusURL, i.StatusMethod)
			add(i.RecordingStatusURL, i.RecordingStatusMethod)
		case *webhooks.Dial:
			add(i.RecordingStatusURL, i.RecordingStatusMethod)
			for _, to := range i.To {
				add(to.StatusURL, to.StatusMethod)
				if to.MachineDetection != nil {
					add(to.MachineDetection.StatusURL, to.MachineDetection.StatusMethod)
				}
			}
		}
	}
	return out
}

// methods are the attributes that say how a callback is made.
var methods = []row{
	{element: "Record", attribute: "recordingStatusCallbackMethod", with: `recordingStatusCallback="/s"`},
	{element: "Recording", attribute: "recordingStatusCallbackMethod", with: `recordingStatusCallback="/s"`},
	{element: "Dial", attribute: "recordingStatusCallbackMethod", with: `recordingStatusCallback="/s"`},
	{element: "Conference", attribute: "recordingStatusCallbackMethod", with: `recordingStatusCallback="/s"`},
	{element: "Conference", attribute: "statusCallbackMethod", with: `statusCallback="/s"`},
	{element: "Number", attribute: "statusCallbackMethod", with: `statusCallback="/s"`},
	{element: "Sip", attribute: "statusCallbackMethod", with: `statusCallback="/s"`},
	{element: "Client", attribute: "statusCallbackMethod", with: `statusCallback="/s"`},
	{element: "Number", attribute: "amdStatusCallbackMethod", with: `machineDetection="Enable" amdStatusCallback="/s"`},
	{element: "Sip", attribute: "amdStatusCallbackMethod", with: `machineDetection="Enable" amdStatusCallback="/s"`},
	{element: "Client", attribute: "amdStatusCallbackMethod", with: `machineDetection="Enable" amdStatusCallback="/s"`},
}

func TestACallbackIsMadeByGETOrPOST(t *testing.T) {
	for _, c := range []struct {
		value, method string
		warns         bool
	}{
		{"", "POST", false}, {"POST", "POST", false}, {"post", "POST", false}, {"GET", "GET", false}, {" get ", "GET", false},
		{"PUT", "POST", true}, {"true", "POST", true},
	} {
		for _, r := range methods {
			r.value = c.value
			at := r.element + " " + r.attribute + " " + c.value
			program, warnings, err := Parse([]byte(r.document()), document)
			if err != nil {
				t.Errorf("%s: %v", at, err)
				continue
			}
			if made := callbacks(program.Instructions); !slices.Equal(made, []string{c.method + " https://app.example.com/s"}) {
				t.Errorf("%s: %q are called back", at, made)
			}
			warned := len(warnings) == 1 && strings.Contains(warnings[0].Message, r.attribute+" must be GET or POST, is ")
			if warned != c.warns || len(warnings) > 1 || len(warnings) == 1 && !c.warns {
				t.Errorf("%s: warns %v", at, warnings)
			}
		}
	}
}

func TestTheConformancePageHasARowForEveryAttribute(t *testing.T) {
	seen := map[string]int{}
	for _, r := range rows {
		seen[r.element+" "+r.attribute]++
	}
	for key, n := range seen {
		if n > 1 {
			t.Errorf("%s: %d rows", key, n)
		}
	}
	want := map[string]bool{}
	for element, k := range attributesOf {
		want[element+" "] = true
		for _, name := range slices.Concat(k.used, k.silent, slices.Collect(maps.Keys(k.unused))) {
			want[element+" "+name] = true
		}
	}
	for _, name := range slices.Concat(later, never) {
		want[name+" "] = true
	}
	for key := range want {
		if seen[key] == 0 {
			t.Errorf("%s: no row", key)
		}
	}
	for key := range seen {
		if !want[key] {
			t.Errorf("%s: a row for what the compiler does not know", key)
		}
	}
}

func TestTheConformancePageSaysWhatTheTestsShow(t *testing.T) {
	got := conformancePage()
	if *update {
		if err := os.WriteFile(page, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, read(t, page)) {
		t.Errorf("%s is not what the rows say; write it anew with go test ./webhooks/twiml -run Conformance -update", page)
	}
}

func conformancePage() []byte {
	var out bytes.Buffer
	out.WriteString(pageHead)
	left := map[string]bool{}
	for _, r := range rows {
		left[r.element] = true
	}
	for _, s := range sections {
		elements := s.elements
		if elements == nil {
			elements = slices.Sorted(maps.Keys(left))
		}
		fmt.Fprintf(&out, "\n## %s\n\n| element | attribute | conformance | how it differs |\n|---|---|---|---|\n", s.title)
		for _, element := range elements {
			delete(left, element)
			for _, r := range rows {
				if r.element == element && r.attribute == "" {
					r.write(&out)
				}
			}
			for _, r := range rows {
				if r.element == element && r.attribute != "" {
					r.write(&out)
				}
			}
		}
	}
	out.WriteString(pageFoot)
	return out.Bytes()
}

func (r row) write(out *bytes.Buffer) {
	attribute, verdict, how := "", "same", r.differs
	if r.attribute != "" {
		attribute = "`" + r.attribute + "`"
	}
	switch {
	case r.refuses != "":
		verdict, how = "refused", "not available yet"
		if slices.Contains(never, r.element) {
			how = "not supported"
		}
	case r.differs != "":
		verdict = "differs"
	}
	fmt.Fprintf(out, "| `<%s>` | %s | %s | %s |\n", r.element, attribute, verdict, how)
}

const pageHead = `# TwiML

Hookswitch reads TwiML wherever an application may answer, and asks an application of format ` + "`twiml`" + ` with
Twilio's parameter names and signature. This page says, element by element and attribute by attribute, what is the same
as on Twilio, what differs and how, and what is refused. It is made from the tests of ` + "`webhooks/twiml`" + `: a row that
is not true fails them.

Names are case-sensitive. An attribute that is not listed is read over, with a warning in the call's journal; a wrong
value of one that is listed refuses the document, and nothing of it runs; a wrong event or method of a callback gives a
warning only, and the method is then POST. Numbers and texts must keep to the bounds of the instruction that an element
becomes; they are in the API reference.
`

const pageFoot = `
## What follows what

- Without ` + "`action`" + `, Gather and Record ask the document's own URL, and Dial, Enqueue, Refer and Sms go on with the next
  verb.
- A Gather without input, which a lone ` + "`finishOnKey`" + ` is as well, goes on with the next verb, unless
  ` + "`actionOnEmptyResult`" + `. Nobody is told of a hang-up during it.
- A Record asks its action whenever something was recorded, after a hang-up too. An empty recording goes on.
- Dial and Enqueue ask their action after a hang-up. Enqueue tells it of a live change as well
  (` + "`QueueResult=redirected`" + `), and ignores what is answered then.
- What the ` + "`waitUrl`" + ` of Enqueue answers begins again when it is over; that of Conference does not. An empty one is
  silence, a missing one music.
- ` + "`DialCallStatus`" + ` is ` + "`answered`" + ` after a conference only, and there is neither ` + "`DialCallSid`" + ` nor
  ` + "`DialCallDuration`" + ` then.
- A relative URL is read against the URL that answered, after redirects.
- Machine detection of Number, Sip and Client never holds up the call: ` + "`amdStatusCallback`" + ` is told.
- A callback by GET has its parameters behind those of its URL, and no body; it is signed and repeated as one by POST is.
- SIDs are our ids in another form, and are taken wherever an id is.
`
