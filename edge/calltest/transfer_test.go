package calltest

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// handed is a customer (1001) who speaks with an agent (1002), and what becomes of the two when one hands the other over to
// a third (1003). The one is told of it at /t, the dial of the customer at /done.
type handed struct {
	t               *testing.T
	b               *Bench
	customer, agent *Call
	ids             map[string]webhooks.CallID
}

func talkOfTwo(t *testing.T, b *Bench) *handed {
	t.Helper()
	callee := b.Phone("1002")
	b.Phone("1003")
	b.App.Answer("/t", `[{"verb":"pause","length":1}]`)
	h := &handed{t: t, b: b, ids: map[string]webhooks.CallID{}}
	h.customer = dialing(b, to1002, ``).Answered()
	h.agent = callee.Rings().Answer()
	bridged := b.Event(webhooks.EventCallBridged)
	h.ids["customer"], h.ids["agent"] = bridged.CallID, bridged.Data.PeerCallID
	b.Pass(500 * time.Millisecond)
	return h
}

// talkingTwo runs a story of the two, from where they speak with each other.
func talkingTwo(t *testing.T, tell func(t *testing.T, b *Bench, h *handed)) {
	t.Helper()
	story(t, func(t *testing.T, b *Bench) { tell(t, b, talkOfTwo(t, b)) })
}

// transfer has one of them hand the other over.
func (h *handed) transfer(by, attributes string) {
	h.t.Helper()
	change(h.t, h.b, h.ids[by], `[{"verb":"transfer","id":"t","to":{"extension":"1003"},"action":"`+h.b.App.URL+`/t"`+attributes+`}]`)
}

// hear checks that two phones hear each other.
func (h *handed) hear(one, other *Call) {
	h.t.Helper()
	for seed, pair := range [][2]*Call{{one, other}, {other, one}} {
		pair[1].Forget()
		voice := Voice(uint32(seed)+7, 500*time.Millisecond)
		pair[0].Talk(voice)
		h.b.Pass(900 * time.Millisecond)
		if !bytes.Contains(pair[1].Heard(), voice) {
			h.t.Errorf("%s does not hear %s", pair[1].phone.Name, pair[0].phone.Name)
		}
	}
}

func (h *handed) over() { h.t.Helper(); h.b.Idle(); contractKept(h.t, h.b) }

func TestBlindTransferByTheCallee(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.transfer("agent", ``)
		ringing := b.Phone("1003").Rings()
		h.customer.Forget()
		h.customer.HearsTone(450)
		third := ringing.Answer()
		b.App.ExpectAt("/t", "outcome", "completed", "id", "t")
		h.hear(h.customer, third)
		h.agent.ExpectBye() // its program is over
		third.HangUp()
		b.App.ExpectAt("/done", "outcome", "completed", "target", "1003", "ended_by", "callee")
		h.customer.ExpectBye()
		h.over()
		b.Golden("transfer-blind")
	})
}

func TestBlindTransferThatIsNotTakenComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		third      func(*Phone)
		want       []string
	}{
		"busy":       {``, func(p *Phone) { p.Called().Busy() }, []string{"outcome", "returned", "sip_code", "486", "cause", "busy"}},
		"declined":   {``, func(p *Phone) { p.Rings().Decline() }, []string{"outcome", "returned", "sip_code", "603"}},
		"no answer":  {`,"timeout":3`, func(p *Phone) { p.Rings().ExpectCancel() }, []string{"outcome", "returned", "cause", "no_answer"}},
		"not wanted": {`,"screen":[{"verb":"reject"}]`, func(p *Phone) { p.Rings().Answer().ExpectBye() }, []string{"outcome", "returned", "cause", "declined"}},
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.transfer("agent", c.attributes)
				c.third(b.Phone("1003"))
				b.Pass(time.Second)
				h.hear(h.customer, h.agent)
				h.customer.HangUp()
				b.App.ExpectAt("/done", "outcome", "hangup")
				b.App.ExpectAt("/t", c.want...)
				h.agent.ExpectBye()
				h.over()
			})
		})
	}
}

func TestReturnedTransferEndsWithEitherSide(t *testing.T) {
	t.Run("the one who transferred hangs up", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			b.Phone("1003").Called().Busy()
			b.Pass(time.Second)
			h.agent.HangUp()
			b.App.ExpectAt("/t", "outcome", "hangup")
			b.App.ExpectAt("/done", "outcome", "completed", "target", "1002")
			h.customer.ExpectBye()
			h.over()
		})
	})
	t.Run("a live change", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			b.Phone("1003").Called().Busy()
			b.Pass(time.Second)
			change(t, b, h.ids["agent"], `[{"verb":"pause","length":1}]`)
			b.App.ExpectAt("/t", "outcome", "redirected")
			b.App.ExpectAt("/done", "outcome", "completed")
			h.agent.ExpectBye()
			h.customer.ExpectBye()
			h.over()
		})
	})
}

func TestHangUpsWhileTheTargetOfABlindTransferRings(t *testing.T) {
	t.Run("by the one who transfers, and it is answered", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			ringing := b.Phone("1003").Rings()
			h.agent.HangUp()
			b.App.ExpectAt("/t", "outcome", "hangup")
			third := ringing.Answer()
			b.Pass(100 * time.Millisecond)
			h.hear(h.customer, third)
			h.customer.HangUp()
			third.ExpectBye()
			b.App.ExpectAt("/done", "outcome", "hangup", "target", "1003")
			h.over()
		})
	})
	t.Run("by the one who transfers, and it is busy", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			ringing := b.Phone("1003").Rings()
			h.agent.HangUp()
			b.App.ExpectAt("/t", "outcome", "hangup")
			ringing.Busy()
			b.App.ExpectAt("/done", "outcome", "completed", "target", "1002")
			h.customer.ExpectBye()
			h.over()
		})
	})
	t.Run("by the one who is transferred", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			ringing := b.Phone("1003").Rings()
			h.customer.HangUp()
			ringing.ExpectCancel()
			b.App.ExpectAt("/done", "outcome", "hangup")
			b.App.ExpectAt("/t", "outcome", "failed")
			h.agent.ExpectBye()
			h.over()
		})
	})
	t.Run("a live change to the one who transfers", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			ringing := b.Phone("1003").Rings()
			change(t, b, h.ids["agent"], `[{"verb":"pause","length":3}]`)
			b.App.ExpectAt("/t", "outcome", "redirected")
			third := ringing.Answer()
			h.hear(h.customer, third)
			third.HangUp()
			b.App.ExpectAt("/done", "outcome", "completed", "target", "1003")
			h.customer.ExpectBye()
			h.agent.ExpectBye()
			h.over()
		})
	})
	t.Run("a live change to the one who is transferred", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", ``)
			ringing := b.Phone("1003").Rings()
			change(t, b, h.ids["customer"], `[{"verb":"pause","length":1}]`)
			ringing.ExpectCancel()
			h.customer.ExpectBye()
			h.agent.ExpectBye()
			h.over()
		})
	})
}

func TestBlindTransferByTheCaller(t *testing.T) {
	t.Run("completed", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("customer", ``)
			b.App.ExpectAt("/done", "outcome", "redirected")
			third := b.Phone("1003").Rings().Answer()
			b.App.ExpectAt("/t", "outcome", "completed")
			h.hear(h.agent, third)
			h.customer.ExpectBye()
			third.HangUp()
			h.agent.ExpectBye()
			h.over()
		})
	})
	t.Run("returned", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("customer", ``)
			b.App.ExpectAt("/done", "outcome", "redirected")
			b.Phone("1003").Called().Busy()
			b.Pass(time.Second)
			h.hear(h.customer, h.agent)
			h.agent.HangUp()
			b.App.ExpectAt("/t", "outcome", "returned", "sip_code", "486")
			h.customer.ExpectBye()
			h.over()
		})
	})
	t.Run("returned, and the caller hangs up", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("customer", ``)
			b.App.ExpectAt("/done", "outcome", "redirected")
			b.Phone("1003").Called().Busy()
			b.Pass(time.Second)
			h.customer.HangUp()
			h.agent.ExpectBye()
			b.App.ExpectAt("/t", "outcome", "hangup")
			h.over()
		})
	})
}

func TestAttendedTransferIsCompleted(t *testing.T) {
	for name, byKey := range map[string]bool{"by a key": true, "by hanging up": false} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.customer.Forget()
				h.transfer("agent", `,"mode":"attended"`)
				third := b.Phone("1003").Rings().Answer()
				h.hear(h.agent, third)
				if heard := h.customer.Heard(); !bytes.Contains(heard, SystemPrompt(t, "sys_hold")[4000:8000]) {
					t.Error("who is held hears no music")
				}
				if byKey {
					h.agent.Press("#")
					b.App.ExpectAt("/t", "outcome", "completed")
					h.agent.ExpectBye()
				} else {
					h.agent.HangUp()
					b.App.ExpectAt("/t", "outcome", "hangup")
				}
				b.Pass(500 * time.Millisecond)
				h.hear(h.customer, third)
				third.HangUp()
				b.App.ExpectAt("/done", "outcome", "completed", "target", "1003")
				h.customer.ExpectBye()
				h.over()
				if byKey {
					b.Golden("transfer-attended")
				}
			})
		})
	}
}

func TestAttendedTransferByTheCaller(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.transfer("customer", `,"mode":"attended"`)
		b.App.ExpectAt("/done", "outcome", "redirected")
		third := b.Phone("1003").Rings().Answer()
		h.hear(h.customer, third)
		h.customer.HangUp()
		b.App.ExpectAt("/t", "outcome", "hangup")
		h.hear(h.agent, third)
		third.HangUp()
		h.agent.ExpectBye()
		h.over()
	})
}

func TestAttendedTransferThatComesToNothing(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		third      func(h *handed, p *Phone)
		outcome    string
	}{
		"busy":      {``, func(_ *handed, p *Phone) { p.Called().Busy() }, "busy"},
		"no answer": {`,"timeout":3`, func(_ *handed, p *Phone) { p.Rings().ExpectCancel() }, "no_answer"},
		"declined":  {``, func(_ *handed, p *Phone) { p.Rings().Decline() }, "no_answer"},
		"the target hangs up": {``, func(h *handed, p *Phone) {
			third := p.Rings().Answer()
			h.b.Pass(time.Second)
			third.HangUp()
		}, "returned"},
		"called off": {``, func(h *handed, p *Phone) {
			third := p.Rings().Answer()
			h.b.Pass(time.Second)
			h.agent.Press("*")
			third.ExpectBye()
		}, "returned"},
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.transfer("agent", `,"mode":"attended"`+c.attributes)
				c.third(h, b.Phone("1003"))
				b.Pass(time.Second)
				h.hear(h.customer, h.agent)
				h.customer.HangUp()
				b.App.ExpectAt("/done", "outcome", "hangup")
				b.App.ExpectAt("/t", "outcome", c.outcome)
				h.agent.ExpectBye()
				h.over()
			})
		})
	}
}

func TestEndsOfAnAttendedTransfer(t *testing.T) {
	t.Run("who is held hangs up", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", `,"mode":"attended"`)
			third := b.Phone("1003").Rings().Answer()
			b.Pass(time.Second)
			h.customer.HangUp()
			third.ExpectBye()
			b.App.ExpectAt("/done", "outcome", "hangup")
			b.App.ExpectAt("/t", "outcome", "failed")
			h.agent.ExpectBye()
			h.over()
		})
	})
	t.Run("who transfers hangs up while it rings", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", `,"mode":"attended"`)
			ringing := b.Phone("1003").Rings()
			h.agent.HangUp()
			ringing.ExpectCancel()
			b.App.ExpectAt("/t", "outcome", "hangup")
			b.App.ExpectAt("/done", "outcome", "completed")
			h.customer.ExpectBye()
			h.over()
		})
	})
	t.Run("a live change", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.transfer("agent", `,"mode":"attended"`)
			third := b.Phone("1003").Rings().Answer()
			b.Pass(time.Second)
			change(t, b, h.ids["agent"], `[{"verb":"pause","length":1}]`)
			third.ExpectBye()
			b.App.ExpectAt("/t", "outcome", "redirected")
			b.App.ExpectAt("/done", "outcome", "completed")
			h.agent.ExpectBye()
			h.customer.ExpectBye()
			h.over()
		})
	})
}

func TestEdgeThatStopsEndsEveryLegOfATransfer(t *testing.T) {
	for name, mode := range map[string]string{"blind": ``, "attended": `,"mode":"attended"`} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.transfer("agent", mode)
				third := b.Phone("1003").Rings()
				if mode != "" {
					third.Answer()
					b.Pass(time.Second)
				}
				b.StopCalls()
				h.customer.ExpectBye()
				h.agent.ExpectBye()
				contractKept(t, b)
			})
		})
	}
}

func TestTransferWithNobodyThereFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"transfer","to":{"extension":"1003"},"action":"/t"}]`)
		b.App.Answer("/t", `[]`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.App.ExpectAt("/t", "outcome", "failed")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestDialsRecordingGoesOnThroughATransfer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Phone("1003")
		call := dialing(b, to1002, `,"record":"answer"`).Answered()
		agent := callee.Rings().Answer()
		id := b.Event(webhooks.EventCallBridged).Data.PeerCallID
		before, after := Voice(1, time.Second), Voice(2, time.Second)
		agent.Say(before)
		b.Pass(jitterTime) // what was said is heard before the transfer
		change(t, b, id, `[{"verb":"transfer","to":{"extension":"1003"}}]`)
		third := b.Phone("1003").Rings().Answer()
		b.Pass(500 * time.Millisecond)
		third.Say(after)
		b.Pass(jitterTime)
		third.HangUp()
		b.App.ExpectAt("/done", "outcome", "completed")
		call.ExpectBye()
		octets, _ := shipped(t, b)
		if _, said := channels(octets); !bytes.Contains(said, before) || !bytes.Contains(said, after) {
			t.Error("the recording is not of both partners")
		}
		contractKept(t, b)
	})
}

// operate makes a live change by an op.
func (h *handed) operate(leg string, op webhooks.Op) {
	h.t.Helper()
	err := act(h.b, h.ids[leg], len(h.b.Events(webhooks.EventActionCompleted))+100, func(a *control.Action) { a.Change.Op = op })
	if err != nil {
		h.t.Fatal(err)
	}
	h.b.Pass(100 * time.Millisecond)
}

func TestHoldEndsWithATransfer(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.operate("agent", &webhooks.OpHold{})
		h.transfer("agent", `,"mode":"attended"`)
		third := b.Phone("1003").Rings().Answer()
		b.Pass(500 * time.Millisecond)
		h.hear(h.agent, third)
		h.agent.Press("*")
		third.ExpectBye()
		b.Pass(500 * time.Millisecond)
		h.hear(h.customer, h.agent)
		h.agent.HangUp()
		h.customer.ExpectBye()
		h.over()
	})
}

func TestTargetOfAnAttendedTransferRingsForNobodyWhenTheOtherHangsUp(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.transfer("agent", `,"mode":"attended"`)
		ringing := b.Phone("1003").Rings()
		h.customer.HangUp()
		b.Pass(100 * time.Millisecond)
		if ringing.canceled == nil {
			t.Error("the target is still rung")
		}
		b.App.ExpectAt("/done", "outcome", "hangup")
		b.App.ExpectAt("/t", "outcome", "failed")
		h.agent.ExpectBye()
		h.over()
	})
}

func TestPartyThatWasGivenBackMayTransferInItsTurn(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		fourth := b.Phone("1004")
		h.transfer("agent", ``)
		b.Phone("1003").Called().Busy()
		b.Pass(time.Second)
		b.App.Answer("/u", `[]`)
		change(t, b, h.ids["customer"], `[{"verb":"transfer","to":{"extension":"1004"},"action":"`+b.App.URL+`/u"}]`)
		last := fourth.Rings().Answer()
		b.App.ExpectAt("/u", "outcome", "completed")
		h.customer.ExpectBye()
		h.hear(h.agent, last)
		last.HangUp()
		b.App.ExpectAt("/t", "outcome", "returned", "sip_code", "486")
		h.agent.ExpectBye()
		h.over()
	})
}

func TestOneWhoTransfersTwiceInARowAfterItWasGivenBack(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		fourth := b.Phone("1004")
		h.transfer("agent", ``)
		b.Phone("1003").Called().Busy()
		b.Pass(time.Second)
		b.App.Answer("/u", `[]`)
		change(t, b, h.ids["agent"], `[{"verb":"transfer","to":{"extension":"1004"},"action":"`+b.App.URL+`/u"}]`)
		last := fourth.Rings().Answer()
		b.App.ExpectAt("/t", "outcome", "redirected")
		b.App.ExpectAt("/u", "outcome", "completed")
		h.agent.ExpectBye()
		h.hear(h.customer, last)
		last.HangUp()
		b.App.ExpectAt("/done", "outcome", "completed", "target", "1004")
		h.customer.ExpectBye()
		h.over()
	})
}

func TestWhoIsLeftByAFailedTransferEndsForTheReasonOfTheOneWhoMadeIt(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.transfer("customer", ``)
		ringing := b.Phone("1003").Rings()
		h.operate("customer", &webhooks.OpHangUp{})
		h.customer.ExpectBye()
		ringing.Busy()
		h.agent.ExpectBye()
		b.Idle()
		if end := legs(b)["1002"]; end.Cause != webhooks.CauseAPIHangup || end.EndedBy != webhooks.EndedByAPI {
			t.Errorf("%s by %s", end.Cause, end.EndedBy)
		}
		h.over()
	})
}
