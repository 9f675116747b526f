package calltest

import (
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The ladders are the protocol of the product in a few pages: what goes over the wire, to the application and to
// subscribers in the commonest stories, in order and to the millisecond.

func TestLadderAnswerPlayHangup(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"play","media_id":"sys_goodbye"},{"verb":"hangup"}]`)
		call := b.Phone("1001").Dial("1000").Expect(180).Answered()
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
		b.Golden("answer-play-hangup")
	})
}

// menu asks for one digit and tells the application which.
const menu = `{"instructions":[{"verb":"gather","id":"menu","num_digits":1,"prompt":[{"verb":"play","media_id":"sys_welcome"}],"action":"/menu"}],
	"state":{"step":1}}`

func TestLadderGatherByRFC4733(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", menu)
		b.App.Answer("/menu", `[{"verb":"play","media_id":"sys_digits_{{trigger.digits}}"}]`)
		call := b.Phone("1001").Dial("1000").Expect(180).Answered()
		b.Pass(time.Second)
		call.Press("4")
		call.Forget()
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
		b.Golden("gather-rfc4733")
	})
}

func TestLadderGatherByINFO(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", menu)
		b.App.Answer("/menu", `[]`)
		call := b.Phone("1001").Dial("1000").Expect(180).Answered()
		b.Pass(time.Second)
		call.PressINFO("4")
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
		b.Golden("gather-info")
	})
}

func TestLadderWebhook503ThenFallback(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
		b.App.Answer("/voice", webhooktest.Status(503))
		b.App.Answer("/fallback", `[{"verb":"play","media_id":"sys_busy"},{"verb":"hangup"}]`)
		call := b.Phone("1001").Dial("1000").Expect(180).Answered()
		call.Hears(SystemPrompt(t, "sys_busy"))
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
		b.Golden("webhook-503-fallback")
	})
}

func TestLadderDialAnsweredAndBridged(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"dial","to":[{"extension":"1002"}],"action":"/dialed"}]`)
		b.App.Answer("/dialed", `[]`)
		callee := b.Phone("1002")
		call := b.Phone("1001").Dial("1000").Answered()
		ringing := callee.Rings()
		b.Pass(2 * time.Second)
		call.Forget()
		ringing.Answer()
		b.Event(webhooks.EventCallBridged)
		b.Pass(100 * time.Millisecond)
		call.Forget()
		hello, hi := Voice(1, time.Second), Voice(2, time.Second)
		call.Talk(hello)
		ringing.Talk(hi)
		ringing.Hears(hello)
		call.Hears(hi)
		ringing.HangUp()
		call.ExpectBye()
		b.Idle()
		b.Golden("dial-bridged")
	})
}

func TestLadderDialBusy(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"dial","to":[{"extension":"1002"}],"answer_on_bridge":true,"on":{"busy":[{"verb":"reject","reason":"busy"}]}}]`)
		callee := b.Phone("1002")
		call := b.Phone("1001").Dial("1000").Expect(180)
		callee.Called().Busy()
		call.Expect(486)
		b.Idle()
		b.Golden("dial-busy")
	})
}

func TestLadderCancelDuringRing(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"dial","to":[{"extension":"1002"}],"answer_on_bridge":true,"action":"/dialed"}]`)
		callee := b.Phone("1002")
		call := b.Phone("1001").Dial("1000").Expect(180)
		ringing := callee.Rings()
		b.Pass(3 * time.Second)
		call.Cancel()
		call.Expect(487)
		ringing.ExpectCancel()
		b.App.Expect("incoming")
		b.App.Expect("action", "outcome", "hangup", "status", "canceled")
		b.Idle()
		b.Golden("cancel-during-ring")
	})
}

func TestLadderRecord(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"record","id":"message","finish_on_key":"#","action":"/recorded"}]`)
		b.App.Answer("/recorded", `[{"verb":"play","media_id":"sys_goodbye"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Hears(Tone(t, "beep"))
		b.Pass(500 * time.Millisecond)
		call.Say(Voice(7, 3*time.Second))
		call.Press("#")
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
		b.Event(webhooks.EventRecordingCompleted)
		b.Golden("record")
	})
}
