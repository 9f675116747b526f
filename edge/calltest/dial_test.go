package calltest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/webhooks"
)

// dialing has the caller dialled on to phones; the application is told of the outcome at /done, and goes on with a
// goodbye. The phones must have been named before.
func dialing(b *Bench, to, attributes string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"dial","id":"d","to":[`+to+`],"action":"/done"`+attributes+`}]`)
	b.App.Answer("/done", `[{"verb":"play","media_id":"sys_goodbye"}]`)
	call := b.Phone("1001").Dial("1000")
	b.App.Expect("incoming")
	return call
}

const (
	to1002 = `{"extension":"1002"}`
	both   = `{"extension":"1002"},{"extension":"1003"}`
)

// legs are the ends of the calls, by the number called.
func legs(b *Bench) map[string]webhooks.CDR {
	out, ids := map[string]webhooks.CDR{}, map[webhooks.CallID]string{}
	for _, e := range b.Events() {
		switch e.Type {
		case webhooks.EventCallInitiated:
			ids[e.CallID] = e.Data.To
		case webhooks.EventCallEnded:
			out[ids[e.CallID]] = *e.Data.CDR
		}
	}
	return out
}

func expectLegs(t *testing.T, b *Bench, want map[string]webhooks.Cause) {
	t.Helper()
	b.Idle()
	got := legs(b)
	for to, cause := range want {
		if got[to].Cause != cause {
			t.Errorf("the leg to %s ended with %q, expected %q", to, got[to].Cause, cause)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d legs, expected %d", len(got), len(want))
	}
}

func TestDialAnAgentRingsTheAgentsPhoneAndSaysWhoItIs(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"tag","data":{"agent":"agt_7"}},{"verb":"dial","to":[{"agent":"{{data.agent}}","screen":{"url":"/screen"}}]}]`)
		b.App.Answer("/screen", `[]`)
		b.Phone("1002").Agent = "agt_7"
		caller := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		callee := b.Phone("1002").Rings().Answer()
		b.App.Expect("screen", "agent_id", "agt_7", "direction", "outbound_dial")
		b.Event(webhooks.EventCallBridged)
		for _, e := range b.Events(webhooks.EventCallInitiated) {
			if want := map[webhooks.Direction]webhooks.AgentID{webhooks.OutboundDial: "agt_7"}[e.Data.Direction]; e.Data.AgentID != want {
				t.Errorf("the %s leg is %q's", e.Data.Direction, e.Data.AgentID)
			}
		}
		callee.HangUp()
		caller.ExpectBye()
	})
}

func TestDialAnAgentWithoutAPhoneIsUnreachable(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"dial","to":[{"agent":"agt_7"}],"action":"/dialed"}]`)
		b.App.Answer("/dialed", `[]`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.App.Expect("/dialed", "outcome", "unreachable", "target", "agt_7", "error", "nobody is registered")
		call.ExpectBye()
	})
}

func TestDialOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		callee  func(*Phone)
		outcome string
		code    string
		cause   webhooks.Cause
	}{
		"busy":        {func(p *Phone) { p.Called().Busy() }, "busy", "486", webhooks.CauseBusy},
		"declined":    {func(p *Phone) { p.Rings().Decline() }, "declined", "603", webhooks.CauseDeclined},
		"not found":   {func(p *Phone) { p.Called().Refuse(404) }, "unreachable", "404", webhooks.CauseNotFound},
		"unavailable": {func(p *Phone) { p.Called().Refuse(480) }, "no_answer", "480", webhooks.CauseNoAnswer},
		"an error":    {func(p *Phone) { p.Called().Refuse(500) }, "unreachable", "500", webhooks.CauseUnreachable},
		"no codec":    {func(p *Phone) { p.Called().Refuse(488) }, "unreachable", "488", webhooks.CauseNoCodec},
		"no answer":   {func(p *Phone) { p.Rings().ExpectCancel() }, "no_answer", "", webhooks.CauseNoAnswer},
		"switched off": {func(p *Phone) {
			p.b.mu.Lock()
			p.Silent = true
			p.b.mu.Unlock()
		}, "no_answer", "", webhooks.CauseNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := dialing(b, to1002, `,"timeout":10`).Answered()
				c.callee(callee)
				b.App.Expect("/done", "outcome", c.outcome, "sip_code", c.code, "target", "1002", "id", "d")
				call.ExpectBye()
				expectLegs(t, b, map[string]webhooks.Cause{"1000": webhooks.CauseProgramEnd, "1002": c.cause})
			})
		})
	}
}

func TestDialNobodyRegistered(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := dialing(b, `{"extension":"1999"}`, ``).Answered()
		b.App.Expect("/done", "outcome", "unreachable", "error", "nobody is registered")
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
		b.Idle()
	})
}

func TestDialNotAllowed(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.OnResolve = func(control.ResolveQuery) (control.Resolved, error) {
			return control.Resolved{}, &control.Error{Code: control.CodeNotAllowed, Message: "international calls are off", Cause: webhooks.CauseNotAllowed}
		}
		call := dialing(b, `{"number":"+4420"}`, ``).Answered()
		b.App.Expect("/done", "outcome", "not_allowed", "error", "international calls are off")
		call.ExpectBye()
	})
}

func TestDialAddressThatAccountsMayNotReach(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := dialing(b, `{"sip":"sip:x@127.0.0.1"}`, ``).Answered()
		b.App.Expect("/done", "outcome", "not_allowed")
		call.ExpectBye()
	})
}

func TestSimultaneousDialHasOneWinner(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, both, ``).Answered()
		loser, winner := first.Rings(), second.Rings()
		b.Pass(time.Second)
		winner.Answer()
		loser.ExpectCancel()
		b.Event(webhooks.EventCallBridged)
		call.Forget()
		voice := Voice(1, time.Second)
		call.Talk(voice)
		winner.Hears(voice)
		call.HangUp()
		winner.ExpectBye()
		b.App.Expect("/done", "outcome", "hangup", "target", "1003")
		expectLegs(t, b, map[string]webhooks.Cause{
			"1000": webhooks.CauseCallerHangup, "1002": webhooks.CauseCanceled, "1003": webhooks.CauseCallerHangup,
		})
	})
}

func TestBothAnswerInTheSameMoment(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, both, ``).Answered()
		one, other := first.Rings(), second.Rings()
		b.Pass(time.Second)
		one.PickUp()
		other.PickUp()
		b.Event(webhooks.EventCallBridged)
		other.ExpectBye() // its 200 came too late for a CANCEL
		b.Pass(time.Second)
		one.Talking()
		call.Talking()
		one.HangUp()
		b.App.Expect("/done", "outcome", "completed", "target", "1002", "ended_by", "callee")
		call.ExpectBye()
		expectLegs(t, b, map[string]webhooks.Cause{
			"1000": webhooks.CauseProgramEnd, "1002": webhooks.CauseCalleeHangup, "1003": webhooks.CauseCanceled,
		})
	})
}

func TestAnswerInTheMomentOfTheTimeout(t *testing.T) {
	for name, early := range map[string]time.Duration{"just before": 2 * latency, "at once": latency, "crossing": 0} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := dialing(b, to1002, `,"timeout":2`).Answered()
				began := b.Now()
				ringing := callee.Rings()
				b.Pass(2*time.Second - (b.Now() - began) - early)
				ringing.PickUp()
				b.Pass(time.Second)
				// Whoever won, both sides know of it: bridged, or ended by CANCEL or BYE.
				if len(b.Events(webhooks.EventCallBridged)) == 0 {
					b.until(patience, "the callee was left alone", func() bool { return ringing.canceled != nil || ringing.bye != nil })
				} else {
					ringing.Talking()
					ringing.HangUp()
				}
				b.App.Expect("/done")
				call.ExpectBye()
				b.Idle()
				if n := len(legs(b)); n != 2 {
					t.Errorf("%d legs", n)
				}
			})
		})
	}
}

func TestSequentialDialTriesOneAfterTheOther(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, both, `,"strategy":"sequential","timeout":5`).Answered()
		ringing := first.Rings()
		b.Pass(4 * time.Second)
		second.NotCalled()
		ringing.ExpectCancel()
		answered := second.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "target", "1003")
		call.ExpectBye()
		expectLegs(t, b, map[string]webhooks.Cause{
			"1000": webhooks.CauseProgramEnd, "1002": webhooks.CauseNoAnswer, "1003": webhooks.CauseCalleeHangup,
		})
	})
}

func TestSequentialDialStopsAtTheFirstAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, both, `,"strategy":"sequential"`).Answered()
		answered := first.Rings().Answer()
		b.Pass(time.Second)
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "target", "1002")
		call.ExpectBye()
		second.NotCalled()
	})
}

func TestDelayedTargetRingsLater(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		dialing(b, to1002+`,{"extension":"1003","delay":5}`, ``).Answered()
		ringing := first.Rings()
		b.Pass(4 * time.Second)
		second.NotCalled()
		late := second.Rings()
		late.Answer()
		ringing.ExpectCancel()
		late.HangUp()
	})
}

func TestTheBestReasonIsTold(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, both, ``).Answered()
		first.Called().Refuse(500)
		second.Called().Busy()
		b.App.Expect("/done", "outcome", "busy", "sip_code", "486")
		call.ExpectBye()
	})
}

func TestScreenAccepts(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"ringback":"440","screen":[{"verb":"gather","num_digits":1,"timeout":3,
			"prompt":[{"verb":"play","media_id":"sys_welcome"}],"valid":"1",
			"on":{"invalid":[{"verb":"reject"}],"timeout":[{"verb":"reject"}]}}]`).Answered()
		screened := callee.Rings().Answer()
		screened.Hears(SystemPrompt(t, "sys_welcome"))
		if n := len(b.Events(webhooks.EventCallBridged)); n != 0 {
			t.Error("bridged before the screen was over")
		}
		call.HearsTone(440) // the caller goes on waiting
		screened.Press("1")
		b.Event(webhooks.EventCallBridged)
		voice := Voice(2, time.Second)
		call.Forget()
		screened.Talk(voice)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(call.Heard(), voice) {
			t.Error("the caller does not hear who was screened")
		}
		screened.HangUp()
		b.App.Expect("/done", "outcome", "completed")
		call.ExpectBye()
	})
}

func TestScreenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		screen string
		press  string
	}{
		"with a wrong key":   {`{"verb":"gather","num_digits":1,"timeout":3,"valid":"1","on":{"invalid":[{"verb":"reject"}]}}`, "2"},
		"without any key":    {`{"verb":"gather","num_digits":1,"timeout":1,"on":{"timeout":[{"verb":"hangup"}]}}`, ""},
		"in any case":        {`{"verb":"reject"}`, ""},
		"after a few words":  {`{"verb":"play","media_id":"sys_hold"},{"verb":"hangup"}`, ""},
		"when it is a voice": {`{"verb":"gather","num_digits":1,"timeout":1,"on":{"default":[{"verb":"reject"}]}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := dialing(b, to1002, `,"screen":[`+c.screen+`]`).Answered()
				screened := callee.Rings().Answer()
				screened.Press(c.press)
				screened.ExpectBye()
				b.App.Expect("/done", "outcome", "declined")
				call.ExpectBye()
				expectLegs(t, b, map[string]webhooks.Cause{"1000": webhooks.CauseProgramEnd, "1002": webhooks.CauseDeclined})
			})
		})
	}
}

func TestScreenThatIsNoneIsRefused(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/screen", `[{"verb":"dial","to":[{"extension":"1003"}]}]`)
		callee, other := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, to1002, `,"screen":"/screen"`).Answered()
		screened := callee.Rings().Answer()
		b.App.Expect("/screen")
		screened.ExpectBye()
		b.App.Expect("/done", "outcome", "declined")
		if e := b.Event(webhooks.EventWebhookRejected); e.Data.Pointer != "/instructions/0/verb" || !strings.Contains(e.Data.Message, "screen") {
			t.Errorf("told of %+v", e.Data)
		}
		call.ExpectBye()
		other.NotCalled()
	})
}

func TestCalleeWhoHangsUpInTheScreenLeavesTheCallerWaitingNoLonger(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"screen":[{"verb":"gather","timeout":30}]`).Answered()
		screened := callee.Rings().Answer()
		b.Pass(time.Second)
		screened.HangUp()
		b.App.Expect("/done", "outcome", "declined")
		call.ExpectBye()
		b.Idle()
	})
}

func TestAnswerOnBridge(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"answer_on_bridge":true`).Expect(180)
		ringing := callee.Rings()
		call.ExpectNothing(3 * time.Second)
		ringing.PickUp()
		call.Answered()
		voice := Voice(1, time.Second)
		ringing.Talk(voice)
		call.Hears(voice)
		ringing.HangUp()
		call.ExpectBye()
	})
}

func TestEarlyMediaOfTheCalleeIsPassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		first      func(*Call) *Call
	}{
		"to an answered caller": {``, (*Call).Answered},
		"as early media":        {`,"answer_on_bridge":true`, func(c *Call) *Call { return c.Expect(180) }},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := c.first(dialing(b, to1002, c.attributes))
				announcing := callee.Called().Early()
				voice := Voice(3, 2*time.Second)
				announcing.Talk(voice)
				b.Pass(3 * time.Second)
				if !bytes.Contains(call.Heard(), voice) {
					t.Error("the caller did not hear the announcement")
				}
				announcing.Busy()
				b.App.Expect("/done", "outcome", "busy")
				b.Idle()
			})
		})
	}
}

func TestCallerHearsRingback(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		ringing := callee.Rings()
		call.HearsTone(450) // the ringback of China
		answered := ringing.Answer()
		b.Pass(100 * time.Millisecond)
		call.Forget()
		call.HearsSilence(2 * time.Second)
		answered.HangUp()
		call.ExpectBye()
	})
}

func TestHangUpOnAKey(t *testing.T) {
	t.Run("while it rings", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			callee := b.Phone("1002")
			call := dialing(b, to1002, `,"hang_up_on":"*"`).Answered()
			ringing := callee.Rings()
			call.Press("1*")
			ringing.ExpectCancel()
			b.App.Expect("/done", "outcome", "canceled")
			call.ExpectBye()
		})
	})
	t.Run("while they talk", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			callee := b.Phone("1002")
			call := dialing(b, to1002, `,"hang_up_on":"*"`).Answered()
			answered := callee.Rings().Answer()
			call.Press("1")
			answered.Talking()
			call.Press("*")
			answered.ExpectBye()
			b.App.Expect("/done", "outcome", "completed", "ended_by", "caller")
			call.ExpectBye()
		})
	})
}

func TestTimeLimitOfADial(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"time_limit":5`).Answered()
		answered := callee.Rings().Answer()
		began := b.Now()
		b.Pass(time.Second)
		call.Forget()
		answered.ExpectBye()
		if talked := b.Now() - began; talked < 4900*time.Millisecond || talked > 5100*time.Millisecond {
			t.Errorf("they talked for %s", talked)
		}
		b.App.Expect("/done", "outcome", "time_limit", "duration", "5")
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
	})
}

func TestCallerHangsUpWhileItRings(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		hangUp     func(*Call)
		cause      webhooks.Cause
	}{
		"answered":         {``, func(c *Call) { c.Answered().HangUp() }, webhooks.CauseCallerHangup},
		"answer_on_bridge": {`,"answer_on_bridge":true`, func(c *Call) { c.Expect(180).Cancel() }, webhooks.CauseCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				first, second := b.Phone("1002"), b.Phone("1003")
				call := dialing(b, both, c.attributes)
				one, other := first.Rings(), second.Called() // of whom the one has not even said that it rings
				c.hangUp(call)
				one.ExpectCancel()
				other.respond(180, "")
				other.ExpectCancel()
				b.App.Expect("/done", "outcome", "hangup")
				b.Idle()
				got := legs(b)
				if len(got) != 3 || got["1000"].Cause != c.cause {
					t.Errorf("%d legs, the caller's ended with %s", len(got), got["1000"].Cause)
				}
				for _, to := range []string{"1002", "1003"} {
					if leg := got[to]; leg.Status != webhooks.StatusCanceled || leg.AnsweredAt != nil {
						t.Errorf("the leg to %s ended with %s, %s", to, leg.Cause, leg.Status)
					}
				}
			})
		})
	}
}

func TestCalleeHangsUpAndTheProgramGoesOn(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Pass(2 * time.Second)
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "ended_by", "callee", "cause", "callee_hangup", "sip_code", "200")
		call.Forget()
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
	})
}

func TestDialWithoutActionGoesOnWithTheNextVerb(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Program("1000", `[{"verb":"dial","to":[`+to1002+`]},{"verb":"play","media_id":"sys_goodbye"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		callee.Rings().Answer().HangUp()
		b.Pass(100 * time.Millisecond)
		call.Forget()
		b.Pass(2 * time.Second)
		call.ExpectBye()
	})
}

func TestDialRecordsBothSides(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"record":"answer"`).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventRecordingStarted)
		hello, hi := Voice(1, 2*time.Second), Voice(2, 2*time.Second)
		call.Talk(hello)
		answered.Say(hi)
		b.Pass(jitterTime)
		answered.HangUp()
		r := b.App.Expect("/done", "outcome", "completed")
		octets, f := shipped(t, b)
		heard, said := channels(octets)
		if f.Channels != 2 || !bytes.Contains(heard, hello) || !bytes.Contains(said, hi) {
			t.Errorf("the %d channels of %d samples are not what was said", f.Channels, f.Samples)
		}
		if r.Value("recording_id") != string(f.RecordingID) {
			t.Errorf("the action was told of %q", r.Value("recording_id"))
		}
		call.ExpectBye()
	})
}

func TestCodecsThatDifferAreTranscoded(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		callee.ALaw = true
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		b.Pass(100 * time.Millisecond)
		call.Forget()
		answered.Forget()
		voice := Voice(1, time.Second)
		call.Talk(voice)
		want := make([]byte, len(voice))
		codec.Transcode(want, voice, codec.PCMU, codec.PCMA)
		answered.Hears(want)
		back := VoiceIn(codec.PCMA, 2, time.Second)
		answered.Talk(back)
		want = make([]byte, len(back))
		codec.Transcode(want, back, codec.PCMA, codec.PCMU)
		b.Pass(1500 * time.Millisecond)
		if !bytes.Contains(call.Heard(), want) { // among silence that is not exactly that of the other codec
			t.Error("the caller does not hear the callee to the sample")
		}
		answered.HangUp()
		call.ExpectBye()
	})
}

func TestKeysArePassedOverABridge(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		call.Press("58")
		answered.Pressed("58")
		answered.Press("0#")
		call.Pressed("0#")
		if n := len(b.Events(webhooks.EventDTMF)); n != 4 {
			t.Errorf("%d keys were told of", n)
		}
		answered.HangUp()
		call.ExpectBye()
	})
}

func TestCalleeWhoVanishesIsLost(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		answered.Mute(true)
		b.Pass(25 * time.Second)
		b.App.Expect("/done", "outcome", "lost", "ended_by", "system")
		call.ExpectBye()
		expectLegs(t, b, map[string]webhooks.Cause{"1000": webhooks.CauseProgramEnd, "1002": webhooks.CauseMediaTimeout})
	})
}

func TestRingingLongerThanTheMediaTimeout(t *testing.T) {
	for name, attributes := range map[string]string{"answered": ``, "answer_on_bridge": `,"answer_on_bridge":true`} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := dialing(b, to1002, attributes+`,"timeout":60`)
				if attributes == "" {
					call.Answered()
				}
				ringing := callee.Called().Early()
				ringing.Mute(true)
				b.Pass(45 * time.Second)
				ringing.Answer()
				ringing.Mute(false)
				b.Event(webhooks.EventCallBridged)
				if attributes != "" {
					call.Answered()
				}
				b.Pass(5 * time.Second)
				call.Talking()
				ringing.HangUp()
				call.ExpectBye()
			})
		})
	}
}

func TestHeadersAndCallerIDOfADial(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		dialing(b, to1002, `,"caller_id":"+862368925278","caller_name":"Front desk","headers":{"X-Order":"17"}`)
		m := callee.Rings().request
		if got := m.header("X-Order"); got != "17" {
			t.Errorf("X-Order: %s", got)
		}
		if from := m.header("From"); user(uri(from)) != "+862368925278" || !bytes.Contains([]byte(from), []byte("Front desk")) {
			t.Errorf("From: %s", from)
		}
	})
}

// A phone whose person may not see the caller's number gets it nowhere in the INVITE; the record has it.
func TestAPhoneIsNotShownANumberThatItsPersonMayNotSee(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Plane.OnResolve = func(control.ResolveQuery) (control.Resolved, error) {
			hop := callee.Hop("+8613800138000")
			hop.Shown = "************00"
			return control.Resolved{Hops: []control.Hop{hop}}, nil
		}
		dialing(b, to1002, `,"caller_name":"13800138000 8613800138000"`)
		ringing := callee.Rings()
		if from := user(uri(ringing.request.header("From"))); from != "************00" {
			t.Errorf("From: %s", from)
		}
		if text := fmt.Sprint(ringing.request.headers, ringing.request.body); strings.Contains(text, "13800138000") {
			t.Errorf("the number is in the INVITE: %s", text)
		}
		initiated := b.Events(webhooks.EventCallInitiated)
		if got := initiated[len(initiated)-1].Data.From; got != "+8613800138000" {
			t.Errorf("the record says that %s called", got)
		}
	})
}

func TestLostMessagesAreRepeated(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Phone("1001").Patient = true
		lost := map[string]int{"INVITE": 2, "BYE": 1, "SIP/2.0 200": 1}
		b.Impair(func(d Datagram) []time.Duration {
			for start := range lost {
				if d.From == edgeAddr && lost[start] > 0 && bytes.HasPrefix(d.Data, []byte(start)) {
					lost[start]--
					return nil
				}
			}
			return onTime
		})
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		b.Pass(time.Second)
		call.HangUp()
		answered.ExpectBye()
		b.Idle()
	})
}

func TestDialedLegFollowsALiveChange(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		answered := callee.Rings().Answer()
		bridged := b.Event(webhooks.EventCallBridged)
		err := b.Calls.Act(context.Background(), control.Action{
			ActionID: "act_1", AccountID: Account, CallID: bridged.Data.PeerCallID,
			Change: webhooks.Action{Program: Program(t, `[{"verb":"play","media_id":"sys_hold"}]`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		answered.Hears(SystemPrompt(t, "sys_hold"))
		answered.ExpectBye()
		b.App.Expect("/done", "outcome", "completed", "ended_by", "api")
		call.ExpectBye()
	})
}

const answeredElsewhere = `SIP;cause=200;text="Call completed elsewhere"`

func TestLosersAreToldThatTheCallWasAnsweredElsewhere(t *testing.T) {
	t.Run("other targets", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			first, second, third := b.Phone("1002"), b.Phone("1003"), b.Phone("1004")
			dialing(b, both+`,{"extension":"1004"}`, ``).Answered()
			loser, winner, silent := first.Rings(), second.Rings(), third.Called()
			winner.Answer()
			b.Pass(time.Second)
			silent.respond(180, "") // only now may it be told
			for _, c := range []*Call{loser, silent} {
				if reason := c.ExpectCancel(); reason != answeredElsewhere {
					t.Errorf("phone %s was told %q", c.phone.Name, reason)
				}
			}
			winner.HangUp()
		})
	})
	t.Run("other phones of an extension", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			desk, mobile := b.Phone("1002"), b.Phone("1003")
			b.Plane.OnResolve = func(q control.ResolveQuery) (control.Resolved, error) {
				return control.Resolved{Hops: []control.Hop{desk.Hop(q.From), mobile.Hop(q.From)}}, nil
			}
			dialing(b, to1002, ``).Answered()
			loser, winner := desk.Rings(), mobile.Rings()
			winner.Answer()
			if reason := loser.ExpectCancel(); reason != answeredElsewhere {
				t.Errorf("it was told %q", reason)
			}
			winner.HangUp()
		})
	})
	t.Run("but not who missed the call", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			first, second := b.Phone("1002"), b.Phone("1003")
			call := dialing(b, `{"extension":"1002","timeout":3},{"extension":"1003"}`, ``).Answered()
			late, ringing := first.Rings(), second.Rings()
			reasons := []string{late.ExpectCancel()}
			call.HangUp()
			for _, reason := range append(reasons, ringing.ExpectCancel()) {
				if reason != "" {
					t.Errorf("it was told %q", reason)
				}
			}
		})
	})
}

func TestTimeoutOfATarget(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, `{"extension":"1002","timeout":3},{"extension":"1003"}`, `,"strategy":"sequential","timeout":8`).Answered()
		for _, c := range []struct {
			phone *Phone
			rings time.Duration
		}{{first, 3 * time.Second}, {second, 8 * time.Second}} {
			ringing := c.phone.Rings()
			began := b.Now()
			ringing.ExpectCancel()
			if rang := b.Now() - began; rang < c.rings-100*time.Millisecond || rang > c.rings+100*time.Millisecond {
				t.Errorf("phone %s rang for %s, expected %s", c.phone.Name, rang, c.rings)
			}
		}
		b.App.Expect("/done", "outcome", "no_answer")
		call.ExpectBye()
	})
}

func TestScreenOfATarget(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		dialing(b, `{"extension":"1002","screen":[{"verb":"play","media_id":"sys_hold"},{"verb":"reject"}]},{"extension":"1003"}`,
			`,"screen":[{"verb":"play","media_id":"sys_welcome"}]`).Answered()
		one, other := first.Rings(), second.Rings()
		one.Answer().Hears(SystemPrompt(t, "sys_hold"))
		one.ExpectBye()
		other.Answer().Hears(SystemPrompt(t, "sys_welcome"))
		b.Event(webhooks.EventCallBridged)
		other.HangUp()
		b.App.Expect("/done", "outcome", "completed", "target", "1003")
	})
}

func TestTemplatesInATargetAndItsScreen(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("+862368925278")
		b.Program("1000", `[{"verb":"tag","data":{"owner":"+862368925278","floor":7}},
			{"verb":"dial","to":[{"number":"{{data.owner}}","screen":[{"verb":"play","media_id":"sys_digits_{{data.floor}}"}]}],"caller_id":"{{call.to}}"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		ringing := callee.Rings()
		if from := user(uri(ringing.request.header("From"))); from != "1000" {
			t.Errorf("the caller is shown as %s", from)
		}
		ringing.Answer().Hears(SystemPrompt(t, "sys_digits_7"))
		b.Event(webhooks.EventCallBridged)
		call.HangUp()
		ringing.ExpectBye()
	})
}

func TestSIPTargetThatAsksForAPassword(t *testing.T) {
	for name, c := range map[string]struct {
		target  string
		outcome string
	}{
		"and gets it": {`{"sip":"sip:sales@192.0.2.101","username":"shop","password":"s3cret-word"}`, "completed"},
		"in vain":     {`{"sip":"sip:sales@192.0.2.101"}`, "not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("pbx") // the first phone has the first address
				call := dialing(b, c.target, ``).Answered()
				asking := callee.Called()
				if c.outcome == "completed" {
					asking.Challenge("shop", "s3cret-word").Answer()
					b.Event(webhooks.EventCallBridged)
					asking.HangUp()
				} else {
					asking.Refuse(407)
				}
				b.App.Expect("/done", "outcome", c.outcome)
				call.ExpectBye()
				b.LogsNothingOf("s3cret-word")
			})
		})
	}
}

func TestCallerWithOnlyPCMAAndCalleeWithOnlyPCMU(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		caller, callee := b.Phone("1001"), b.Phone("1002")
		caller.ALaw, callee.MuLaw = true, true
		call := dialing(b, to1002, `,"record":"answer"`).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		b.Pass(100 * time.Millisecond)
		answered.Forget()
		hello, hi := VoiceIn(codec.PCMA, 1, 2*time.Second), Voice(2, 2*time.Second)
		call.Talk(hello)
		answered.Talk(hi)
		inMuLaw, inALaw := make([]byte, len(hello)), make([]byte, len(hi))
		codec.Transcode(inMuLaw, hello, codec.PCMA, codec.PCMU)
		codec.Transcode(inALaw, hi, codec.PCMU, codec.PCMA)
		b.Pass(3 * time.Second)
		if !bytes.Contains(answered.Heard(), inMuLaw) || !bytes.Contains(call.Heard(), inALaw) { // among silence in the other codec
			t.Error("they do not hear each other to the sample")
		}
		answered.HangUp()
		octets, f := shipped(t, b)
		first, second := channels(octets)
		if f.Codec != "PCMA" || !bytes.Contains(first, hello) || !bytes.Contains(second, inALaw) {
			t.Errorf("the %d channels in %s are not what was said", f.Channels, f.Codec)
		}
		call.ExpectBye()
	})
}
