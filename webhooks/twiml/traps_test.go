package twiml

import (
	"net/url"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
)

// What applications written for Twilio rely on, and what implementations of TwiML most often get wrong. What can only
// be shown on a live call is in edge/calltest.

// compile is Parse for a document that must be accepted.
func compile(t *testing.T, verbs string) []webhooks.Instruction {
	t.Helper()
	program, _, err := Parse([]byte("<Response>"+verbs+"</Response>"), document)
	if err != nil {
		t.Fatalf("%s: %v", verbs, err)
	}
	return program.Instructions
}

func TestGatherWithOnlyTheFinishKeyFallsThrough(t *testing.T) {
	gather := compile(t, `<Gather action="/d"/><Say>next</Say>`)[0].(*webhooks.Gather)
	for _, o := range []webhooks.Outcome{webhooks.Timeout, webhooks.Invalid} {
		if got := after(gather, gather.Action, o); got != "goes on" {
			t.Errorf("%s: %s", o, got)
		}
	}
	if gather.MinDigits != 1 {
		t.Error("a key that only finishes would count as input")
	}
}

func TestAMissingActionIsTheDocumentForInputAndTheNextVerbForOthers(t *testing.T) {
	const own = "asks https://app.example.com/voice/start.xml?tenant=7"
	for body, want := range map[string]string{
		`<Gather/>`: own, `<Record/>`: own, `<Dial>1001</Dial>`: "goes on", `<Enqueue>q</Enqueue>`: "goes on", `<Dial><Queue>q</Queue></Dial>`: "goes on",
		`<Dial><Conference>r</Conference></Dial>`: "goes on", `<Refer><Sip>sip:a@b</Sip></Refer>`: "goes on", `<Sms>x</Sms>`: "goes on",
	} {
		first := compile(t, body)[0]
		usual := webhooks.Outcomes(first.Verb())[0]
		if got := after(first, webhooks.ActionOf(first), usual); got != want {
			t.Errorf("%s after %s: %s, want %s", body, usual, got, want)
		}
	}
}

func TestEnqueuesWaitURLIsAWaitAndConferencesAsWell(t *testing.T) {
	enqueue := compile(t, `<Enqueue waitUrl="/w">q</Enqueue>`)[0].(*webhooks.Enqueue)
	conference := compile(t, `<Dial><Conference waitUrl="/w">r</Conference></Dial>`)[0].(*webhooks.Conference)
	if enqueue.Wait == nil || conference.Wait == nil || enqueue.Wait.Target.URL != conference.Wait.Target.URL {
		t.Fatalf("%+v, %+v", enqueue.Wait, conference.Wait)
	}
	// That one begins again and the other does not is what wait means in the two verbs; a document for one is read the
	// same for the other, and may hold what a wait may hold.
	wait, _, err := Parse([]byte(`<Response><Say>1</Say><Play>/m.wav</Play><Pause/><Gather><Say>x</Say></Gather><Redirect>/w2</Redirect><Leave/><Hangup/></Response>`), document)
	if err != nil {
		t.Fatal(err)
	}
	if err := wait.Fits(webhooks.SubWait); err != nil {
		t.Error(err)
	}
	wait, _, err = Parse([]byte(`<Response><Dial>1001</Dial></Response>`), document)
	if err != nil || wait.Fits(webhooks.SubWait) == nil {
		t.Errorf("a Dial can stand in a wait: %v", err)
	}
	// Silence is asked for, music is not.
	if w := compile(t, `<Enqueue waitUrl="">q</Enqueue>`)[0].(*webhooks.Enqueue).Wait; w == nil || w.Target != nil || len(w.Instructions) != 0 {
		t.Errorf("an empty waitUrl is %+v", w)
	}
	if w := compile(t, `<Enqueue>q</Enqueue>`)[0].(*webhooks.Enqueue).Wait; w != nil {
		t.Errorf("a missing waitUrl is %+v", w)
	}
}

func TestOnlyAConferenceIsAnswered(t *testing.T) {
	for _, verb := range []string{"dial", "conference", "dequeue"} {
		for _, o := range webhooks.Outcomes(verb) {
			got := url.Values{}
			triggerParams(got, webhooks.Trigger{Verb: verb, Outcome: o, AnsweredAt: &answered, CallID: childID, Duration: seconds(1)}, options)
			if is := got.Get("DialCallStatus") == "answered"; is != (verb == "conference" && o != webhooks.Failed && o != webhooks.Full) {
				t.Errorf("%s %s: DialCallStatus is %q", verb, o, got.Get("DialCallStatus"))
			}
		}
	}
}

func TestRecordsFinishKeysAreASetAndGathersIsOne(t *testing.T) {
	if keys := compile(t, `<Record finishOnKey="12#"/>`)[0].(*webhooks.Record).FinishOnKey; keys != "12#" {
		t.Errorf("%q", keys)
	}
	if _, _, err := Parse([]byte(`<Response><Gather finishOnKey="12#"/></Response>`), document); err == nil {
		t.Error("Gather takes several keys")
	}
}

func TestOnlyAChildIsToldItsParent(t *testing.T) {
	parent := incoming()
	parent.Trigger = &webhooks.Trigger{Verb: "dial", Outcome: webhooks.Completed, CallID: childID, AnsweredAt: &answered}
	expect(t, Params(parent, options), map[string]string{"CallSid": webhooks.SID(string(callID)), "DialCallSid": webhooks.SID(string(childID)), "ParentCallSid": "-"})
	child := incoming()
	child.CallID, child.Reason, child.Call.ParentCallID = childID, webhooks.ReasonScreen, callID
	expect(t, Params(child, options), map[string]string{"CallSid": webhooks.SID(string(childID)), "ParentCallSid": webhooks.SID(string(callID))})
}

func TestARelativeActionIsReadAgainstTheFinalURL(t *testing.T) {
	gather := compile(t, `<Gather action="next?a=1"/>`)[0].(*webhooks.Gather)
	if gather.Action.URL != "https://app.example.com/voice/next?a=1" {
		t.Error(gather.Action.URL)
	}
}

func TestWhiteSpaceAroundTextIsNoPartOfIt(t *testing.T) {
	const space = "\n\t   "
	around := func(tag, text string) string { return "<" + tag + ">" + space + text + space + "</" + tag + ">" }
	if to := compile(t, around("Dial", "+8613800138000"))[0].(*webhooks.Dial).To[0].Number; to != "+8613800138000" {
		t.Errorf("%q", to)
	}
	if to := compile(t, around("Dial", around("Number", "+8613800138000")))[0].(*webhooks.Dial).To[0].Number; to != "+8613800138000" {
		t.Errorf("%q", to)
	}
	if to := compile(t, around("Dial", around("Client", "amy")))[0].(*webhooks.Dial).To[0].Client; to != "amy" {
		t.Errorf("%q", to)
	}
	if to := compile(t, around("Redirect", "/next"))[0].(*webhooks.Redirect).URL; to != "https://app.example.com/next" {
		t.Errorf("%q", to)
	}
	if to := compile(t, around("Enqueue", "support desk"))[0].(*webhooks.Enqueue).Queue; to != "support desk" {
		t.Errorf("%q", to)
	}
	if to := compile(t, around("Dial", around("Conference", "Room 1")))[0].(*webhooks.Conference).Name; to != "Room 1" {
		t.Errorf("%q", to)
	}
	if to := compile(t, around("Play", "/a.wav"))[0].(*webhooks.Play).URL; to != "https://app.example.com/a.wav" {
		t.Errorf("%q", to)
	}
}

func TestAmpersandsInASIPURIAreXMLs(t *testing.T) {
	dial := compile(t, `<Dial><Sip>sip:bob@example.com?x-a=1&amp;x-b=2%26c</Sip></Dial>`)[0].(*webhooks.Dial)
	if dial.Headers["X-A"] != "1" || dial.Headers["X-B"] != "2&c" || dial.To[0].SIP != "sip:bob@example.com" {
		t.Errorf("%v %+v", dial.Headers, dial.To)
	}
	if refer := compile(t, `<Refer><Sip>sip:bob@example.com?X-A=1&amp;X-B=2</Sip></Refer>`)[0].(*webhooks.Refer); refer.To != "sip:bob@example.com?X-A=1&X-B=2" {
		t.Error(refer.To)
	}
	if _, _, err := Parse([]byte(`<Response><Dial><Sip>sip:bob@example.com?x-a=1&x-b=2</Sip></Dial></Response>`), document); err == nil || !strings.Contains(err.Error(), "not XML") {
		t.Errorf("a bare ampersand: %v", err)
	}
}

func TestEnqueueTellsItsActionOfAHangUpAndOfALiveChange(t *testing.T) {
	enqueue := compile(t, `<Enqueue action="/q">q</Enqueue>`)[0].(*webhooks.Enqueue)
	for o, result := range map[webhooks.Outcome]string{webhooks.Hangup: "hangup", webhooks.Redirected: "redirected", webhooks.Left: "leave"} {
		if got := after(enqueue, enqueue.Action, o); got != "asks https://app.example.com/q" {
			t.Errorf("%s: %s", o, got)
		}
		req := incoming()
		req.Trigger = &webhooks.Trigger{Verb: "enqueue", Outcome: o, QueueID: line, Waited: seconds(3)}
		expect(t, Params(req, options), map[string]string{"QueueResult": result, "QueueTime": "3"})
	}
}

func TestStatusCallbacksAreCountedFromZero(t *testing.T) {
	for n, want := range []string{"0", "1", "2"} {
		got, ok := StatusParams(incoming().Call, webhooks.Event{Type: webhooks.EventCallRinging, AccountID: account, CallID: callID, Sequence: 17}, n, options)
		if !ok {
			t.Fatal("no callback")
		}
		expect(t, got, map[string]string{"SequenceNumber": want})
	}
}

func TestASmsGoesToWhoIsOnTheLine(t *testing.T) {
	for party, want := range map[string]string{"": "{{call.from}}", "+8613800138000": "+8613800138000"} {
		program, _, err := Parse([]byte(`<Response><Sms>x</Sms></Response>`), Context{URL: document.URL, Party: party})
		if err != nil {
			t.Fatal(err)
		}
		if to := program.Instructions[0].(*webhooks.Message).To; to != want {
			t.Errorf("party %q: to %q", party, to)
		}
	}
}
