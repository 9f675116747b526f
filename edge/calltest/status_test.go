package calltest

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// told are the requests to a path so far.
func told(b *Bench, path string) []webhooktest.Request {
	var out []webhooktest.Request
	for _, r := range b.App.Requests() {
		if r.Path == path {
			out = append(out, r)
		}
	}
	return out
}

// followed has an application of this format, with a secret that it checks, follow its calls at /status.
func followed(b *Bench, format string) {
	b.App.Secrets(secret)
	b.Webhook("1000", func(a *control.Application) {
		a.Format, a.Secrets, a.StatusURL = format, []string{secret}, b.App.URL+"/status"
	})
}

func TestStatusURLIsToldEveryEventInOrderOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		followed(b, control.FormatNative)
		b.App.Answer("/voice", `[{"verb":"gather","num_digits":2,"timeout":5},{"verb":"record","beep":false,"silence":0,"trim":false}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Press("12")
		call.Say(Voice(1, time.Second))
		call.HangUp()
		b.Event(webhooks.EventRecordingCompleted)
		b.Pass(time.Second)

		emitted, requests := b.Events(), told(b, "/status")
		if len(requests) != len(emitted) {
			t.Fatalf("%d events were told, of %d: %s", len(requests), len(emitted), kinds(emitted))
		}
		for i, r := range requests {
			var e webhooks.Event
			if err := json.Unmarshal(r.Body, &e); err != nil {
				t.Fatal(err)
			}
			want := emitted[i]
			if e.ID != want.ID || e.Type != want.Type || e.Sequence != want.Sequence || e.CallID != want.CallID || e.AccountID != Account {
				t.Errorf("told %s %d, expected %s %d", e.Type, e.Sequence, want.Type, want.Sequence)
			}
			if id := r.Header.Get(webhooks.HeaderID); id != string(want.ID) {
				t.Errorf("the webhook-id of %s is %q", want.ID, id)
			}
		}
	})
}

func TestStatusIsToldAgainUnderTheSameIDWhenTheReceiverIsBusy(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		followed(b, control.FormatNative)
		b.App.Answer("/voice", `[{"verb":"reject"}]`)
		b.App.Answer("/status", webhooktest.Status(503), webhooktest.Reset(), nil)
		b.Phone("1001").Dial("1000").Expect(603)
		b.Idle()
		b.Pass(2 * time.Second)
		var ids []string
		for _, r := range told(b, "/status") {
			ids = append(ids, r.Header.Get(webhooks.HeaderID))
		}
		emitted := b.Events()
		if len(ids) != len(emitted)+2 || ids[0] != ids[1] || ids[1] != ids[2] || ids[3] != string(emitted[1].ID) {
			t.Errorf("%d events were told as %v", len(emitted), ids)
		}
	})
}

// The receiver of notices is the host that answers the calls: what it does to the one must not reach the other.
func TestStatusReceiverInTroubleTouchesNoCall(t *testing.T) {
	for name, answer := range map[string]any{
		"hangs": webhooktest.Hang(), "is slow": webhooktest.Slow(4*time.Second, nil), "fails": webhooktest.Status(500), "resets": webhooktest.Reset(),
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				followed(b, control.FormatNative)
				b.App.Answer("/status", answer)
				b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"pause"}]`)
				phone := b.Phone("1001")
				for range 15 {
					began := b.Now()
					phone.Dial("1000").Answered().ExpectBye()
					if took := b.Now() - began; took > 1100*time.Millisecond {
						t.Fatalf("a call took %s", took)
					}
					b.Ended(webhooks.CauseProgramEnd)
				}
			})
		})
	}
}

func TestStatusReceiverThatHangsHoldsUpTheEndOfAnEdgeForAFewSecondsOnly(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		followed(b, control.FormatNative)
		b.App.Answer("/status", webhooktest.Hang())
		b.App.Answer("/voice", wait60)
		call := b.Phone("1001").Dial("1000").Answered()
		for range 20 {
			call.Press("1")
		}
		began := b.Now()
		b.Close()
		if took := b.Now() - began; took > 7*time.Second {
			t.Errorf("the edge took %s to stop", took)
		}
	})
}

func TestRecordingStatusIsToldAfterShipping(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*Call)
		late bool // the call is over by then
	}{
		"while the call goes on": {func(c *Call) { c.Press("#") }, false},
		"after a hang-up":        {func(c *Call) { c.HangUp() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Secrets(secret)
				b.Webhook("1000", func(a *control.Application) { a.Secrets = []string{secret} })
				b.App.Answer("/voice", webhooktest.Redirect(307, "/v2/start"))
				b.App.Answer("/v2/start", `[{"verb":"record","beep":false,"finish_on_key":"#","status_url":"recorded?n={{call.to}}"},{"verb":"redirect","url":"/elsewhere"}]`)
				b.App.Answer("/elsewhere", `[{"verb":"pause","length":5}]`)
				call := b.Phone("1001").Dial("1000").Answered()
				call.Say(Voice(1, 2*time.Second))
				b.Plane.Away(c.late)
				c.end(call)
				if c.late {
					b.Pass(2 * time.Second)
					if n := len(told(b, "/v2/recorded")); n != 0 {
						t.Errorf("told %d times before it was shipped", n)
					}
					b.Plane.Away(false)
				}
				e := b.Event(webhooks.EventRecordingCompleted)
				if (e.Sequence == 0) != c.late || e.Data.Verb != "record" {
					t.Errorf("event %d of verb %q", e.Sequence, e.Data.Verb)
				}
				b.Pass(time.Second)
				requests := told(b, "/v2/recorded")
				if len(requests) != 1 {
					t.Fatalf("told %d times", len(requests))
				}
				r := requests[0]
				if r.Value("type") != "recording.completed" || r.Value("data.recording_id") != string(e.Data.RecordingID) ||
					r.Header.Get(webhooks.HeaderID) != string(e.ID) || r.URL != b.App.URL+"/v2/recorded?n=1000" {
					t.Errorf("%s was told %s", r.URL, r.Body)
				}
				if !c.late {
					call.ExpectBye()
				}
			})
		})
	}
}

func TestRecordingStatusOfAnEmptyRecordingIsFailed(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := recording(b, b.Phone("1001"), `,"silence":2,"status_url":"/recorded"`)
		b.App.Answer("/recorded", nil)
		call.ExpectBye()
		b.Pass(time.Second)
		requests := told(b, "/recorded")
		if len(requests) != 1 || requests[0].Value("type") != "recording.failed" || requests[0].Value("data.code") != "empty" {
			t.Errorf("told %d times", len(requests))
		}
	})
}

func TestTwiMLApplicationIsToldOfTheEndOnly(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		followed(b, control.FormatTwiML)
		b.App.Answer("/voice", `<Response><Pause length="3"/><Record playBeep="false" finishOnKey="#" action="/bye" recordingStatusCallback="/recorded"/></Response>`)
		b.App.Answer("/bye", `<Response><Hangup/></Response>`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Say(Voice(1, 2*time.Second))
		call.Press("#")
		call.ExpectBye()
		cdr := b.Ended(webhooks.CauseProgramEnd)
		b.Pass(time.Second)
		requests := told(b, "/status")
		if len(requests) != 1 {
			t.Fatalf("told %d times", len(requests))
		}
		form := requests[0].Form
		for name, want := range map[string]string{
			"CallStatus": "completed", "From": "1001", "To": "1000", "Direction": "inbound", "SequenceNumber": "0",
			"CallDuration": strconv.Itoa(int(cdr.TalkTime + 0.5)), "SipResponseCode": "200",
		} {
			if got := form.Get(name); got != want {
				t.Errorf("%s is %q, expected %q", name, got, want)
			}
		}
		if requests[0].Header.Get(webhooks.HeaderTwilioSignature) == "" {
			t.Error("without X-Twilio-Signature")
		}
		recorded := told(b, "/recorded")
		if len(recorded) != 1 || recorded[0].Form.Get("RecordingStatus") != "completed" || recorded[0].Form.Get("RecordingSource") != "RecordVerb" {
			t.Errorf("the recording was told %d times", len(recorded))
		}
	})
}
