package calltest

import (
	"errors"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// texting answers a call with one message, whose outcome the application is told at /done.
func texting(b *Bench, attributes string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"tag","data":{"name":"王芳"}},{"verb":"message",`+attributes+`,"on":{"default":"/done"}}]`)
	b.App.Answer("/done", `[]`)
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

// onlyMessage is the one message that was sent.
func onlyMessage(t *testing.T, b *Bench) control.TextMessage {
	t.Helper()
	contractKept(t, b)
	sent, _ := b.Plane.Messages()
	if len(sent) != 1 {
		t.Fatalf("%d messages were sent", len(sent))
	}
	return sent[0]
}

func TestMessageIsSent(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		want       control.TextMessage
	}{
		"a text": {
			`"to":"{{call.from}}","from":"10690","body":"您好 {{data.name}}"`,
			control.TextMessage{To: "1001", From: "10690", Body: "您好 王芳"},
		},
		"a template": {
			`"to":"+8613800138000","template_id":"mtp_1","status_url":"/status"`,
			control.TextMessage{To: "+8613800138000", TemplateID: "mtp_1", StatusURL: "http://app.test/status"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := texting(b, c.attributes)
				r := b.App.Expect("/done", "verb", "message", "outcome", "sent")
				call.ExpectBye()
				got := onlyMessage(t, b)
				if r.Value("message_id") != "msg_"+got.Key || got.AccountID != Account || got.CallID == "" {
					t.Errorf("told %s of %+v", r.Body, got)
				}
				if c.want.TemplateID != "" && got.Data["name"] != "王芳" {
					t.Errorf("the template is filled in with %v", got.Data)
				}
				if (got.StatusURL == "") != (got.ApplicationID == "") {
					t.Errorf("%s is told in the name of %q", got.StatusURL, got.ApplicationID)
				}
				got.AccountID, got.CallID, got.Key, got.Data = "", "", "", nil
				if got.To != c.want.To || got.From != c.want.From || got.Body != c.want.Body || got.TemplateID != c.want.TemplateID || got.StatusURL != c.want.StatusURL {
					t.Errorf("sent %+v", got)
				}
			})
		})
	}
}

func TestTwiMLSendsMessages(t *testing.T) {
	for _, noun := range []string{"Sms", "Message"} {
		t.Run(noun, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
				b.App.Answer("/voice", `<Response><`+noun+` to="+8613800138000" from="10690">hello</`+noun+`><Pause length="1"/></Response>`)
				b.Phone("1001").Dial("1000").Expect(603) // it does not answer the call
				if got := onlyMessage(t, b); got.To != "+8613800138000" || got.Body != "hello" || got.From != "10690" {
					t.Errorf("sent %+v", got)
				}
			})
		})
	}
}

func TestMessageThatIsRefusedFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.OnMessage(func(control.TextMessage) error {
			return &control.Error{Code: control.CodeInvalid, Message: "/to: must be a number"}
		})
		texting(b, `"to":"+8613800138000","body":"x"`)
		b.App.Expect("/done", "outcome", "failed", "error", "/to: must be a number")
		contractKept(t, b)
		if sent, times := b.Plane.Messages(); len(sent) != 0 || times != 1 {
			t.Errorf("%d messages, asked %d times", len(sent), times)
		}
	})
}

func TestMessageWhoseAnswerIsLostIsSentOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		lost := true
		b.Plane.OnMessage(func(control.TextMessage) error {
			if lost {
				lost = false
				return errors.New("connection reset")
			}
			return nil
		})
		texting(b, `"to":"+8613800138000","body":"x"`)
		b.App.Expect("/done", "outcome", "sent")
		onlyMessage(t, b)
		if _, times := b.Plane.Messages(); times != 2 {
			t.Errorf("asked %d times", times)
		}
	})
}

func TestMessageWhileTheControlPlaneIsAwayFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"pause","length":1},{"verb":"message","to":"+8613800138000","body":"x","on":{"default":"/done"}}]`)
		b.App.Answer("/done", `[]`)
		call := b.Phone("1001").Dial("1000").Expect(180)
		b.App.Expect("incoming")
		b.Plane.Away(true)
		b.App.Expect("/done", "outcome", "failed", "error", "the control plane is away; try again later")
		b.Plane.Away(false)
		call.Expect(603)
		contractKept(t, b)
	})
}

func TestMessageIsSentThoughTheCallerHangsUp(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		release := b.Plane.Hold()
		call := texting(b, `"to":"+8613800138000","body":"x"`)
		b.Pass(500 * time.Millisecond)
		call.HangUp()
		b.App.Expect("/done", "outcome", "hangup", "message_id", "")
		release()
		b.Pass(100 * time.Millisecond)
		onlyMessage(t, b)
	})
}

func TestLiveChangeDoesNotTakeAMessageBack(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		release := b.Plane.Hold()
		call := texting(b, `"to":"+8613800138000","body":"x"`)
		b.Pass(500 * time.Millisecond)
		replace(t, b, b.Event(webhooks.EventCallInitiated).CallID, `[{"verb":"play","media_id":"sys_goodbye"}]`)
		b.App.Expect("/done", "outcome", "redirected")
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		release()
		b.Pass(100 * time.Millisecond)
		onlyMessage(t, b)
	})
}
