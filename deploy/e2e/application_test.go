package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/phone"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// Applications that answer, and those that do not: the caller is never left in silence.
var applicationStories = []scenario{
	{"an application that hangs", apologises(webhooktest.Hang(), webhooks.EventWebhookFailed, "timeout")},
	{"an application that drips", apologises(webhooktest.Drip(200*time.Millisecond, `{"instructions":[]}`), webhooks.EventWebhookFailed, "timeout")},
	{"an application that is unavailable", apologises(webhooktest.Status(http.StatusServiceUnavailable), webhooks.EventWebhookFailed, "status")},
	{"an application that resets the connection", apologises(webhooktest.Reset(), webhooks.EventWebhookFailed, "reset")},
	{"an application that talks garbage", apologises(webhooktest.Garbage(), webhooks.EventWebhookRejected, "rejected")},
	{"an application that says too much", apologises(webhooktest.Oversized(), webhooks.EventWebhookFailed, "body")},
	{"an application that redirects for ever", apologises(webhooktest.Redirect(http.StatusFound, "/voice"), webhooks.EventWebhookFailed, "redirect")},
	{"an application with an unknown attribute", wrongAttribute},
	{"an application that is slow, within its time", slow},
	{"a fallback URL is asked and told why", fallbackURL},
	{"fallback instructions run", fallbackInstructions},
	{"a program's own guard runs", guarded},
	{"an application that is away for one attempt", retried},
	{"a program that goes round in circles", loops},
	{"TwiML", twiml},
	{"status callbacks are signed and in order", statusCallbacks},
}

// apologises is the story of an application with no fallback: the caller hears an apology, at most six seconds after the
// call, and the record says why.
func apologises(behaviour any, event webhooks.EventType, code string) func(t *testing.T, d *deployment) {
	return func(t *testing.T, d *deployment) {
		app, number := d.application(t, object{"budget_ms": 1500, "retries": 0})
		app.Answer("*", behaviour)
		r := d.place(t, phone.Call{To: number})
		if spoken := phone.Seconds(phone.Sounds(r.Heard), "speech"); spoken < 1 {
			t.Errorf("the caller heard %s", phone.Describe(phone.Sounds(r.Heard)))
		}
		if r.RingTime > 6*time.Second {
			t.Errorf("the caller waited %s", r.RingTime)
		}
		c, events := d.endedBySIP(t, r.SIPCallID)
		if c.Cause != "webhook_failed" || c.Status != "completed" || c.EndedBy != "system" {
			t.Errorf("the record is %+v", c)
		}
		data := events.one(t, event).Data
		if data.Code != code || data.Message == "" || !strings.HasPrefix(data.URL, app.URL) || data.RequestID == "" {
			t.Errorf("%s says %+v, want code %s", event, data, code)
		}
	}
}

func wrongAttribute(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", `{"instructions":[{"verb":"answer"},{"verb":"pause","length":1},{"verb":"gather","x_note":1,"tiemout":5}]}`)
	r := d.place(t, phone.Call{To: number})
	c, events := d.endedBySIP(t, r.SIPCallID)
	if got := events.one(t, webhooks.EventWebhookRejected).Data; got.Pointer != "/instructions/2/tiemout" || got.Message == "" {
		t.Errorf("webhook.rejected says %+v", got)
	}
	if c.Cause != "webhook_failed" || c.TalkDuration > 10 {
		t.Errorf("the record is %+v", c)
	}
}

func slow(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", webhooktest.Slow(1500*time.Millisecond, `[{"verb":"play","tone":"620/800"},{"verb":"hangup"}]`))
	r := d.place(t, phone.Call{To: number})
	hears(t, r.Heard, 620, 400*time.Millisecond)
	if c, events := d.endedBySIP(t, r.SIPCallID); c.Cause != "program_end" || len(events.of(webhooks.EventWebhookFailed)) > 0 {
		t.Errorf("the record is %+v, the events are%s", c, events)
	}
}

func fallbackURL(t *testing.T, d *deployment) {
	spare := webhooktest.New(t)
	spare.Start()
	spare.Answer("/spare", `[{"verb":"play","tone":"880/800"},{"verb":"hangup"}]`)
	app, number := d.application(t, object{"fallback_url": spare.URL + "/spare", "retries": 0})
	app.Answer("*", webhooktest.Status(http.StatusInternalServerError))
	r := d.place(t, phone.Call{To: number})
	hears(t, r.Heard, 880, 400*time.Millisecond)
	spare.Expect("/spare", "reason", "fallback", "error.code", "status", "error.status", "500")
	if c, events := d.endedBySIP(t, r.SIPCallID); c.Cause != "program_end" || len(events.of(webhooks.EventWebhookFailed)) != 1 {
		t.Errorf("the record is %+v, the events are%s", c, events)
	}
}

func fallbackInstructions(t *testing.T, d *deployment) {
	app, number := d.application(t, object{
		"retries": 0, "fallback_instructions": json.RawMessage(`{"instructions":[{"verb":"play","tone":"880/800"},{"verb":"hangup"}]}`),
	})
	app.Answer("*", webhooktest.Garbage())
	hears(t, d.place(t, phone.Call{To: number}).Heard, 880, 400*time.Millisecond)
}

func guarded(t *testing.T, d *deployment) {
	app, number := d.application(t, object{"retries": 0})
	app.Answer("incoming", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],
		"guard":{"budget_ms":1000,"while_waiting":[{"verb":"play","tone":"440"}],"on_failure":[{"verb":"play","tone":"880/800"},{"verb":"hangup"}]}}`)
	app.Answer("/next", webhooktest.Hang())
	r := d.place(t, phone.Call{To: number})
	hears(t, r.Heard, 440, 600*time.Millisecond)
	hears(t, r.Heard, 880, 400*time.Millisecond)
}

func retried(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("incoming", webhooktest.Status(http.StatusServiceUnavailable), `[{"verb":"play","tone":"620/800"},{"verb":"hangup"}]`)
	r := d.place(t, phone.Call{To: number})
	hears(t, r.Heard, 620, 400*time.Millisecond)
	first, second := app.Expect("incoming"), app.Expect("incoming")
	if a, b := first.Header.Get("Webhook-Id"), second.Header.Get("Webhook-Id"); a == "" || a != b {
		t.Errorf("the attempts are %q and %q", a, b)
	}
}

func loops(t *testing.T, d *deployment) {
	app, number := d.application(t, nil)
	app.Answer("*", `[{"verb":"answer"},{"verb":"redirect","url":"/again"}]`)
	r := d.place(t, phone.Call{To: number})
	if c, _ := d.endedBySIP(t, r.SIPCallID); c.Cause != "loop" {
		t.Errorf("the record is %+v", c)
	}
}

func twiml(t *testing.T, d *deployment) {
	app, number := d.application(t, object{"format": "twiml"})
	app.Answer("/voice", `<?xml version="1.0"?><Response><Gather numDigits="2" timeout="5" action="/keys"><Say>Please enter two digits.</Say></Gather></Response>`)
	app.Answer("/keys", `<Response><Say>Thank you.</Say><Hangup/></Response>`)
	r := d.place(t, phone.Call{To: number, Digits: []phone.Press{{Keys: "42", At: 800 * time.Millisecond}}})
	app.Expect("/voice", "To", number, "From", "1001", "Direction", "inbound", "CallStatus", "ringing")
	app.Expect("/keys", "Digits", "42")
	if spoken := phone.Seconds(phone.Sounds(r.Heard), "speech"); spoken < 1 {
		t.Errorf("the caller heard %s", phone.Describe(phone.Sounds(r.Heard)))
	}
}

func statusCallbacks(t *testing.T, d *deployment) {
	status := webhooktest.New(t)
	status.Start()
	number, secret := d.number(t, object{
		"status_url": status.URL + "/status", "program": json.RawMessage(`{"instructions":[{"verb":"play","tone":"440/300"},{"verb":"hangup"}]}`),
	})
	status.Secrets(secret)
	r := d.place(t, phone.Call{To: number})
	_, events := d.endedBySIP(t, r.SIPCallID)
	for _, e := range events {
		got := status.Expect("/status", "type", string(e.Type), "id", string(e.ID))
		if want, seen := float64(e.Sequence), into[object](t, got.Body)["sequence"]; seen != want {
			t.Errorf("the callback of %s has sequence %v, want %v", e.Type, seen, want)
		}
	}
}
