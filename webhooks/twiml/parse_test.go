package twiml

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

var update = flag.Bool("update", false, "rewrite testdata/*.json from what Parse says now")

// document is where the golden documents came from; inline.xml came with no URL.
var document = Context{URL: "https://app.example.com/voice/start.xml?tenant=7"}

func contextOf(file string) Context {
	if strings.HasPrefix(filepath.Base(file), "inline") {
		return Context{}
	}
	return document
}

type golden struct {
	Program  webhooks.Program `json:"program"`
	Warnings []Warning        `json:"warnings,omitempty"`
}

func TestDocumentsCompileToTheirPrograms(t *testing.T) {
	for _, file := range documents(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".xml"), func(t *testing.T) {
			program, warnings, err := Parse(read(t, file), contextOf(file))
			if err != nil {
				t.Fatal(err)
			}
			mustReparse(t, program)
			got := indented(t, golden{program, warnings})
			want := strings.TrimSuffix(file, ".xml") + ".json"
			if *update {
				if err := os.WriteFile(want, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, read(t, want)) {
				t.Errorf("%s: got\n%s", want, got)
			}
		})
	}
}

func documents(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// mustReparse holds Parse to its promise: what it accepts is a program of the contract, but for the methods of callbacks,
// which the contract does not have.
func mustReparse(t *testing.T, program webhooks.Program) {
	t.Helper()
	written, err := json.Marshal(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(written) > webhooks.MaxProgramBytes {
		return
	}
	again, err := webhooks.ParseProgram(written)
	if err != nil {
		t.Fatalf("was accepted, but written as %s: %v", written, err)
	}
	if rewritten, err := json.Marshal(again); err != nil || !bytes.Equal(rewritten, written) {
		t.Errorf("changed when it was stored: %s", written)
	}
}

// outcomes tells what the executor does after an instruction, by the contract's first-match rule.
func after(i webhooks.Instruction, action *webhooks.Target, o webhooks.Outcome) string {
	for _, key := range []string{string(o), "default"} {
		if sub, ok := i.Common().On[key]; ok {
			if sub.Target != nil {
				return "asks " + sub.Target.URL
			}
			return "goes on"
		}
	}
	if action != nil {
		return "asks " + action.URL
	}
	return "goes on"
}

func TestWhatFollowsAnOutcomeIsTwiliosRule(t *testing.T) {
	const own = "asks https://app.example.com/voice/start.xml?tenant=7"
	for _, c := range []struct {
		body    string
		outcome webhooks.Outcome
		want    string
	}{
		{`<Gather/>`, webhooks.Digits, own},
		{`<Gather/>`, webhooks.Timeout, "goes on"},
		{`<Gather/>`, webhooks.Invalid, "goes on"}, // a lone finishOnKey
		{`<Gather/>`, webhooks.Failed, "goes on"},
		{`<Gather/>`, webhooks.Hangup, "goes on"}, // that is: nobody is told
		{`<Gather action="/d"/>`, webhooks.Digits, "asks https://app.example.com/d"},
		{`<Gather action="/d"/>`, webhooks.Redirected, "goes on"},
		{`<Gather action="/d" actionOnEmptyResult="true"/>`, webhooks.Timeout, "asks https://app.example.com/d"},
		{`<Gather action="/d" actionOnEmptyResult="true"/>`, webhooks.Invalid, "asks https://app.example.com/d"},
		{`<Gather action="/d" actionOnEmptyResult="true"/>`, webhooks.Hangup, "goes on"},
		{`<Record/>`, webhooks.Completed, own},
		{`<Record/>`, webhooks.Silence, own},
		{`<Record/>`, webhooks.Key, own},
		{`<Record/>`, webhooks.Hangup, own},
		{`<Record/>`, webhooks.Empty, "goes on"},
		{`<Record/>`, webhooks.Failed, "goes on"},
		{`<Record/>`, webhooks.Redirected, "goes on"},
		{`<Dial>1001</Dial>`, webhooks.Completed, "goes on"},
		{`<Dial>1001</Dial>`, webhooks.Busy, "goes on"},
		{`<Dial action="/d">1001</Dial>`, webhooks.Completed, "asks https://app.example.com/d"},
		{`<Dial action="/d">1001</Dial>`, webhooks.Failed, "asks https://app.example.com/d"},
		{`<Dial action="/d">1001</Dial>`, webhooks.Hangup, "asks https://app.example.com/d"},
		{`<Dial action="/d">1001</Dial>`, webhooks.Redirected, "goes on"},
	} {
		program, _, err := Parse([]byte("<Response>"+c.body+"</Response>"), document)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		first := program.Instructions[0]
		var action *webhooks.Target
		switch i := first.(type) {
		case *webhooks.Gather:
			action = i.Action
		case *webhooks.Record:
			action = i.Action
		case *webhooks.Dial:
			action = i.Action
		}
		if got := after(first, action, c.outcome); got != c.want {
			t.Errorf("%s after %s: %s, want %s", c.body, c.outcome, got, c.want)
		}
	}
}

func TestDocumentsAreRefusedWithElementLineAndSentence(t *testing.T) {
	in := func(verbs string) string { return "<Response>\n" + verbs + "\n</Response>" }
	for _, c := range []struct{ body, pointer, says string }{
		{``, "line 1", "no XML element"},
		{`hello`, "line 1", "text outside"},
		{`{"instructions":[]}`, "line 1", "text outside"},
		{"<Response>\n<Say>\n</Response>", "line 3", "not XML"},
		{`<Response/><Response/>`, "<Response> line 1", "follows the end"},
		{`<Response/>x`, "line 1", "text outside"},
		{`<response/>`, "<response> line 1", "case-sensitive"},
		{"<html><body>502 Bad Gateway</body></html>", "<html> line 1", "a TwiML document is a <Response>"},
		{in(`<Say>&nbsp;</Say>`), "line 2", "invalid character entity &nbsp;"},
		{"<!DOCTYPE Response [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\n<Response><Say>&x;</Say></Response>", "line 2", "invalid character entity"},
		{"<?xml version='1.0' encoding='GB2312'?><Response/>", "line 1", "write the document in UTF-8"},
		{strings.Repeat("<Response>", maxDepth+1), "<Response> line 1", "nested more than 16"},
		{in(strings.Repeat("<Hangup/>", webhooks.MaxInstructions+1)), "<Hangup> line 2", "more than 1000 instructions"},
		{strings.Repeat(" ", webhooks.MaxProgramBytes+1), "", "larger than 262144 bytes"},

		{in(`<Sing/>`), "<Sing> line 2", "is not known; <Response> takes Say, Play"},
		{in(`<say>x</say>`), "<say> line 2", "write <Say> (names are case-sensitive)"},
		{in("hello"), "<Response> line 1", `takes no text, has "hello"`},
		{in(`<Pay/>`), "<Pay> line 2", "is not supported by Hookswitch"},
		{in(`<Enqueue/>`), "<Enqueue> line 2", "names no queue"},
		{in(`<Connect><Stream url="wss://x"/></Connect>`), "<Stream> line 2", "is not run by this version of Hookswitch; <Connect> has nothing"},
		{in("<Dial>\n<Say>joe</Say></Dial>"), "<Say> line 3", "is not allowed here; <Dial> takes Number, Sip"},
		{in("<Dial>1001\n<Conference>Room</Conference></Dial>"), "<Conference> line 3", "must stand alone in <Dial>"},
		{in(`<Dial><Queue>a</Queue><Queue>b</Queue></Dial>`), "<Queue> line 2", "must stand alone"},
		{in(`<Conference>Room</Conference>`), "<Conference> line 2", "is not allowed here; <Response> takes"},
		{in(`<Dial><Sim>DE1</Sim></Dial>`), "<Sim> line 2", "is not supported"},
		{in("<Gather>\n\n<Dial>1</Dial></Gather>"), "<Dial> line 4", "not allowed here; <Gather> takes Say, Play, Pause"},
		{in("<Gather>press 1</Gather>"), "<Gather> line 2", "takes no text"},

		{in(`<Say language="english please">x</Say>`), "<Say> line 2", "language must be a language tag"},
		{in(`<Say loop="-1">x</Say>`), "<Say> line 2", "loop must be 0–1000, is -1"},
		{in(`<Say loop="twice">x</Say>`), "<Say> line 2", `loop must be a whole number, is "twice"`},
		{in(`<Say>` + strings.Repeat("长", 4097) + `</Say>`), "<Say> line 2", "its text must be 1–4096 characters, is 4097"},
		{in(`<Say>a <Play>x</Play></Say>`), "<Play> line 2", "is not allowed in <Say>"},
		{in(`<Say loop="1" loop="2">x</Say>`), "<Say> line 2", "has loop twice"},
		{in(`<Play/>`), "<Play> line 2", "has nothing to play"},
		{in(`<Play>ftp://x/y.wav</Play>`), "<Play> line 2", "its URL must be http, https or relative"},
		{in(`<Play>http://[::1</Play>`), "<Play> line 2", "is not a URL"},
		{in(`<Play digits="12x"/>`), "<Play> line 2", "digits must be of 0-9"},
		{in(`<Pause length="long"/>`), "<Pause> line 2", "length must be a whole number"},
		{in(`<Pause>1</Pause>`), "<Pause> line 2", "takes no text"},

		{in(`<Gather input="speech"/>`), "<Gather> line 2", "not recognised by this version"},
		{in(`<Gather input="voice"/>`), "<Gather> line 2", "input must be"},
		{in(`<Gather input=""/>`), "<Gather> line 2", "not recognised"},
		{in(`<Gather timeout="601"/>`), "<Gather> line 2", "timeout must be 0–600 seconds, is 601"},
		{in(`<Gather timeout="auto"/>`), "<Gather> line 2", "timeout must be a whole number"},
		{in(`<Gather timeout="99999999999"/>`), "<Gather> line 2", "timeout must be a whole number"},
		{in(`<Gather numDigits="0"/>`), "<Gather> line 2", "numDigits must be at least 1"},
		{in(`<Gather numDigits="65"/>`), "<Gather> line 2", "numDigits must be 1–64"},
		{in(`<Gather finishOnKey="##"/>`), "<Gather> line 2", "finishOnKey must be one key"},
		{in(`<Gather actionOnEmptyResult="yes"/>`), "<Gather> line 2", "must be true or false"},
		{in(`<Gather method="PUT"/>`), "<Gather> line 2", "method must be GET or POST"},
		{in(`<Gather action="mailto:x@y"/>`), "<Gather> line 2", "action must be http, https or relative"},
		{in(`<Gather><Play digits="1"/></Gather>`), "<Play> line 2", "cannot send digits in <Gather>"},
		{in("<Gather>\n<Say language='!'>x</Say></Gather>"), "<Say> line 3", "language must be"},

		{in(`<Record maxLength="0"/>`), "<Record> line 2", "maxLength must be 1–86400 seconds"},
		{in(`<Record timeout="601"/>`), "<Record> line 2", "timeout must be 0–600 seconds"},
		{in(`<Record finishOnKey="a"/>`), "<Record> line 2", "finishOnKey must be keys"},
		{in(`<Record trim="yes"/>`), "<Record> line 2", "trim must be"},
		{in(`<Record recordingStatusCallback="ftp://x"/>`), "<Record> line 2", "recordingStatusCallback must be http"},
		{in(`<Record><Say>x</Say></Record>`), "<Say> line 2", "not allowed in <Record>"},

		{in(`<Dial/>`), "<Dial> line 2", "names nobody to dial"},
		{in(`<Dial>alice</Dial>`), "<Dial> line 2", "its number must be a telephone number"},
		{in(`<Dial>client:alice</Dial>`), "<Dial> line 2", "its number must be a telephone number"},
		{in("<Dial>\n<Number> </Number></Dial>"), "<Number> line 3", "is empty"},
		{in(`<Dial><Number sendDigits="ww!">+8613800138000</Number></Dial>`), "<Number> line 2", "sendDigits must be of 0-9"},
		{in(`<Dial><Number machineDetection="yes">95588</Number></Dial>`), "<Number> line 2", "machineDetection must be one of DetectMessageEnd, Enable"},
		{in(`<Dial><Number machineDetection="Enable" machineDetectionTimeout="0">95588</Number></Dial>`), "<Number> line 2", "machineDetectionTimeout must be 1–120 seconds"},
		{in(`<Dial><Number machineDetection="Enable" machineDetectionSpeechThreshold="1">95588</Number></Dial>`), "<Number> line 2", "machineDetectionSpeechThreshold must be 1000–6000"},
		{in(`<Dial><Number machineDetection="Enable" amdStatusCallback="ftp://x">95588</Number></Dial>`), "<Number> line 2", "amdStatusCallback must be http"},
		{in(`<Dial><Number statusCallback="ftp://x">95588</Number></Dial>`), "<Number> line 2", "statusCallback must be http"},
		{in(`<Dial referUrl="ftp://x">95588</Dial>`), "<Dial> line 2", "referUrl must be http"},
		{in(`<Dial><Client/></Dial>`), "<Client> line 2", "is empty"},
		{in(`<Dial><Client>amy<Say>x</Say></Client></Dial>`), "<Say> line 2", "<Client> takes Identity, Parameter"},
		{in(`<Dial><Sip><Headers><Header value="x"/></Headers></Sip></Dial>`), "<Header> line 2", "needs a name"},
		{in(`<Dial><Queue/></Dial>`), "<Queue> line 2", "names no queue"},
		{in(`<Dial><Conference/></Dial>`), "<Conference> line 2", "names no room"},
		{in(`<Dial><Conference beep="loud">r</Conference></Dial>`), "<Conference> line 2", "beep must be one of false, onEnter, onExit, true"},
		{in(`<Dial><Conference maxParticipants="251">r</Conference></Dial>`), "<Conference> line 2", "maxParticipants must be 2–250"},
		{in(`<Dial><Conference statusCallback="ftp://x">r</Conference></Dial>`), "<Conference> line 2", "statusCallback must be http"},
		{in(`<Dial><Conference waitUrl="ftp://x">r</Conference></Dial>`), "<Conference> line 2", "waitUrl must be http"},
		{in(`<Enqueue><Task>{}</Task></Enqueue>`), "<Task> line 2", "is not supported by Hookswitch"},
		{in(`<Enqueue>` + strings.Repeat("q", 65) + `</Enqueue>`), "<Enqueue> line 2", "its name must be 1–64 characters"},
		{in(`<Enqueue maxQueueSize="0">q</Enqueue>`), "<Enqueue> line 2", "maxQueueSize must be at least 1"},
		{in(`<Enqueue waitUrlMethod="PUT">q</Enqueue>`), "<Enqueue> line 2", "waitUrlMethod must be GET or POST"},
		{in(`<Leave>x</Leave>`), "<Leave> line 2", "takes no text"},
		{in(`<Refer/>`), "<Refer> line 2", "names nobody"},
		{in(`<Refer>sip:a@b</Refer>`), "<Refer> line 2", "belongs into <Sip>"},
		{in(`<Refer><Sip>bob</Sip></Refer>`), "<Refer> line 2", "its URI must be a SIP or tel URI"},
		{in(`<Refer><Sip>sip:a@b</Sip><Sip>sip:c@d</Sip></Refer>`), "<Sip> line 2", "is the second one"},
		{in(`<Start/>`), "<Start> line 2", "is empty"},
		{in(`<Start><Stream url="wss://x"/></Start>`), "<Stream> line 2", "is not run by this version"},
		{in(`<Start><Transcription/></Start>`), "<Transcription> line 2", "is not run by this version"},
		{in(`<Start><Siprec/></Start>`), "<Siprec> line 2", "is not supported"},
		{in(`<Stop><Stream name="x"/></Stop>`), "<Stream> line 2", "is not run by this version"},
		{in(`<Start><Recording channels="5.1"/></Start>`), "<Recording> line 2", "channels must be mono or dual"},
		{in(`<Connect/>`), "<Connect> line 2", "names nothing"},
		{in(`<Connect><ConversationRelay/></Connect>`), "<ConversationRelay> line 2", "is not supported"},
		{in(`<Sms/>`), "<Sms> line 2", "has nothing to send"},
		{in(`<Sms to="bob">x</Sms>`), "<Sms> line 2", "to must be a telephone number"},
		{in(`<Message><Media>https://x/y.png</Media></Message>`), "<Media> line 2", "is not supported"},
		{in(`<Dial><Sip>bob@example.com</Sip></Dial>`), "<Sip> line 2", "its URI must be a SIP URI"},
		{in(`<Dial><Sip><Uri>sip:bob@example.com<Say/></Uri></Sip></Dial>`), "<Say> line 2", "takes only text"},
		{in(`<Dial><Sip>sip:b@x?X-A=%0d%0aVia:%20x</Sip></Dial>`), "<Sip> line 2", "the header X-A must be one line"},
		{in(`<Dial><Sip>sip:b@x?X-A=%zz</Sip></Dial>`), "<Sip> line 2", "is not escaped"},
		{in(`<Dial><Sip>sip:b@x?X-A=%ff</Sip></Dial>`), "<Sip> line 2", "is not escaped"},
		{in("<Dial><Sip>sip:a@x?X-A=1</Sip>\n<Sip>sip:b@x?X-A=2</Sip></Dial>"), "<Sip> line 3", "another value"},
		{in(`<Dial>` + strings.Repeat("<Number>1001</Number>", 11) + `</Dial>`), "<Dial> line 2", "dials 11 parties"},
		{in(`<Dial timeout="0">1001</Dial>`), "<Dial> line 2", "timeout must be 1–600 seconds"},
		{in(`<Dial timeLimit="86401">1001</Dial>`), "<Dial> line 2", "timeLimit must be 1–86400"},
		{in(`<Dial callerId="not a number!">1001</Dial>`), "<Dial> line 2", "callerId must be a number"},
		{in(`<Dial record="always">1001</Dial>`), "<Dial> line 2", "record must be"},
		{in(`<Dial ringTone="atlantis">1001</Dial>`), "<Dial> line 2", "ringTone must be a country"},
		{in(`<Dial hangupOnStar="*">1001</Dial>`), "<Dial> line 2", "hangupOnStar must be true or false"},
		{in(`<Redirect><Say>x</Say></Redirect>`), "<Say> line 2", "takes only text"},
		{in(`<Redirect method="HEAD"/>`), "<Redirect> line 2", "method must be GET or POST"},
		{in(`<Reject reason="tired"/>`), "<Reject> line 2", "reason must be rejected or busy"},
	} {
		_, _, err := Parse([]byte(c.body), document)
		var refused *webhooks.ProgramError
		if !errors.As(err, &refused) {
			t.Errorf("%.90s: was accepted (%v)", c.body, err)
			continue
		}
		if refused.Pointer != c.pointer || !strings.Contains(refused.Message, c.says) {
			t.Errorf("%.90s:\n got %q %q\nwant %q %q", c.body, refused.Pointer, refused.Message, c.pointer, c.says)
		}
	}
}

func TestADocumentWithoutAURLCannotComeBackToItself(t *testing.T) {
	for _, c := range []struct{ body, says string }{
		{`<Response><Gather/></Response>`, "needs action"},
		{`<Response><Record/></Response>`, "needs action"},
		{`<Response><Redirect/></Response>`, "needs a URL as its text"},
	} {
		_, _, err := Parse([]byte(c.body), Context{})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.body, err)
		}
	}
}

func TestWarningsOfOneDocumentAreBounded(t *testing.T) {
	_, warnings, err := Parse([]byte("<Response>"+strings.Repeat(`<Hangup x="1"/>`, 900)+"</Response>"), document)
	if err != nil || len(warnings) != maxWarnings {
		t.Errorf("%d warnings, %v", len(warnings), err)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range documents(f) {
		f.Add(read(f, file), document.URL)
	}
	f.Add([]byte("<Response><Gather action='https://x/y'><Say>x</Say></Gather></Response>"), "")
	f.Add([]byte("<Response><Record recordingStatusCallback='/s' recordingStatusCallbackMethod='GET'/></Response>"), document.URL)
	f.Add([]byte("<Response><Gather/></Response>"), "https://\x80")
	f.Add([]byte("<Response><Redirect>?x#y</Redirect></Response>"), "lambda:menu")
	f.Fuzz(func(t *testing.T, body []byte, base string) {
		program, _, err := Parse(body, Context{URL: base})
		if err != nil {
			var refused *webhooks.ProgramError
			if !errors.As(err, &refused) || refused.Message == "" {
				t.Errorf("refused without a sentence: %v", err)
			}
			return
		}
		mustReparse(t, program)
	})
}
