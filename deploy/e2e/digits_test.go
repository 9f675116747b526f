package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Keys, by every way they come.
var digitStories = []scenario{
	{"keys by RFC 4733", func(t *testing.T, d *deployment) { gathers(t, d, "rfc4733", true) }},
	{"keys by SIP INFO", func(t *testing.T, d *deployment) { gathers(t, d, "info", false) }},
	{"a telephone types into a menu", menu},
	{"a hash alone falls through", hashAlone},
	{"masked keys are seen by the application alone", masked},
	{"an application presses keys", pressesKeys},
}

// gathers has SIPp press 1, 2 and #.
func gathers(t *testing.T, d *deployment, scenario string, root bool) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `{"instructions":[{"verb":"gather","id":"pin","timeout":10,"action":{"url":"/pin"}}],"state":{"step":1}}`)
	app.Answer("/pin", `[{"verb":"hangup"}]`)
	r := d.calls(t, scenario, sipp{to: number, root: root})
	r.succeeds()
	app.Expect("incoming")
	app.Expect("/pin", "reason", "action", "verb", "gather", "id", "pin", "outcome", "digits", "digits", "12", "finished_by", "key", "state.step", "1")
	_, events := d.endedBySIP(t, r.sipCallID)
	if got := events.one(t, webhooks.EventGatherCompleted).Data; got.Digits != "12" || got.Outcome != webhooks.Digits {
		t.Errorf("the event says %+v", got)
	}
}

// The second attempt begins when the first was invalid, and a key stops the question.
func menu(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"gather","num_digits":1,"valid":"[12]","attempts":2,"timeout":10,
		"prompt":[{"verb":"play","tone":"440/20000"}],"invalid_prompt":[{"verb":"play","tone":"620/400"}],
		"on":{"digits":[{"verb":"redirect","url":"/chosen?digit={{trigger.digits}}"}]}}]`)
	app.Answer("redirect", `[{"verb":"play","tone":"880/700"},{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{To: number, Digits: []phone.Press{{Keys: "7", At: 600 * time.Millisecond}, {Keys: "2", At: 2 * time.Second}}})
	app.Expect("incoming")
	if asked := app.Expect("redirect"); !strings.HasSuffix(asked.URL, "/chosen?digit=2") {
		t.Errorf("asked %s", asked.URL)
	}
	hears(t, r.Heard, 440, 600*time.Millisecond)
	hears(t, r.Heard, 620, 300*time.Millisecond)
	hears(t, r.Heard, 880, 300*time.Millisecond)
	if length := time.Duration(len(r.Heard)) * time.Second / 8000; length > 15*time.Second {
		t.Errorf("the question went on for %s although keys were pressed", length)
	}
}

func hashAlone(t *testing.T, d *deployment) {
	number := d.program(t, `[{"verb":"gather","timeout":5,"on":{"timeout":[{"verb":"play","tone":"620/800"}],"default":[]}},{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{To: number, Digits: []phone.Press{{Keys: "#", At: 500 * time.Millisecond}}})
	hears(t, r.Heard, 620, 400*time.Millisecond)
}

func masked(t *testing.T, d *deployment) {
	const pin = "739152860"
	d.hide(pin)
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"gather","mask":true,"timeout":5,"action":{"url":"/pin"}}]`)
	app.Answer("/pin", `[{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{To: number, Digits: []phone.Press{{Keys: pin + "#", At: 300 * time.Millisecond}}})
	app.Expect("incoming")
	app.Expect("/pin", "digits", pin)
	c, _ := d.endedBySIP(t, r.SIPCallID)
	for _, path := range []string{"/v1/calls/" + c.ID, "/v1/calls/" + c.ID + "/events"} {
		if text := string(d.expect(t, 200, "GET", path, nil)); strings.Contains(text, pin) {
			t.Errorf("%s shows the masked keys: %s", path, text)
		}
	}
	if len(d.events(t, c.ID).of(webhooks.EventDTMF)) > 0 {
		t.Error("masked keys were told of one by one")
	}
}

// The keys that one call sends are heard by another: both are legs of Hookswitch's own.
func pressesKeys(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `[{"verb":"gather","num_digits":4,"timeout":10,"action":{"url":"/keys"}}]`)
	app.Answer("/keys", `[{"verb":"hangup"}]`)
	started := post[call](t, d, "/v1/calls", object{
		"to":      object{"sip": "sip:" + number + "@" + d.sip.String(), "username": "1001", "password": d.phones["1001"]},
		"from":    "1001",
		"program": []object{{"verb": "send_digits", "digits": "w4711"}, {"verb": "pause", "length": 10}},
	})
	app.Expect("incoming")
	app.Expect("/keys", "digits", "4711")
	if c, _ := d.ended(t, started.ID); c.Status != "completed" || c.Cause != "callee_hangup" {
		t.Errorf("the record is %+v", c)
	}
}
