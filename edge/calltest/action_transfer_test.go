package calltest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

const to1003 = `"to":{"extension":"1003"}`

// op makes a live change to one of them.
func (h *handed) op(by string, n int, change string) {
	h.t.Helper()
	changing(h.b, h.ids[by], n, change)
}

// settledAs waits until it is told what became of a live change, and checks that it is told once: as completed where message is
// "", else as failed with that sentence.
func settledAs(t *testing.T, b *Bench, n int, message string) webhooks.EventData {
	t.Helper()
	id := webhooks.ActionID(fmt.Sprintf("act_%026d", n))
	var found []webhooks.Event
	b.until(patience, string(id)+" is not told of", func() bool {
		found = nil
		for _, e := range b.events {
			if e.Data.ActionID == id {
				found = append(found, e)
			}
		}
		return len(found) > 0
	})
	e := found[0]
	switch {
	case len(found) > 1:
		t.Errorf("%s was told of %d times", id, len(found))
	case message == "" && e.Type != webhooks.EventActionCompleted, message != "" && (e.Type != webhooks.EventActionFailed || e.Data.Message != message):
		t.Errorf("%s: %s %q, expected %q", id, e.Type, e.Data.Message, message)
	}
	return e.Data
}

// end checks what is so of every story: each change is told of once, and every event is as the contract says.
func (h *handed) end() {
	h.t.Helper()
	h.over()
	seen := map[webhooks.ActionID]bool{}
	for _, e := range h.b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed) {
		if seen[e.Data.ActionID] {
			h.t.Errorf("%s was told of twice", e.Data.ActionID)
		}
		seen[e.Data.ActionID] = true
	}
}

const (
	nobodyThere = "the other party is not there any more"
	engaged     = "the call or the other party is in the middle of a transfer or a consultation; wait until that is over"
)

func TestOpTransferByEitherSide(t *testing.T) {
	for by, c := range map[string]struct{ other, done string }{"agent": {"customer", "completed"}, "customer": {"agent", "completed"}} {
		t.Run(by, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				one, other := h.agent, h.customer
				if by == "customer" {
					one, other = other, one
				}
				h.op(by, 1, `{"op":"transfer",`+to1003+`}`)
				ringing := b.Phone("1003").Rings()
				other.Forget()
				other.HearsTone(450)
				third := ringing.Answer()
				if settledAs(t, b, 1, "").PeerCallID == "" {
					t.Error("nobody is told of")
				}
				h.hear(other, third)
				if by == "customer" { // its dial is over, and its program goes on
					b.App.ExpectAt("/done", "outcome", c.done, "ended_by", "api")
				}
				one.ExpectBye()
				third.HangUp()
				other.ExpectBye()
				h.end()
			})
		})
	}
}

func TestOpTransferThatIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		third   func(*Phone)
		message string
		code    string
	}{
		"busy":      {func(p *Phone) { p.Called().Busy() }, "the target is busy (SIP 486)", "busy"},
		"declined":  {func(p *Phone) { p.Rings().Decline() }, "the target declined (SIP 603)", "declined"},
		"no answer": {func(p *Phone) { p.Rings().ExpectCancel() }, "the target does not answer", "no_answer"},
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.op("agent", 1, `{"op":"transfer","timeout":3,`+to1003+`}`)
				c.third(b.Phone("1003"))
				if got := settledAs(t, b, 1, c.message); got.Code != c.code {
					t.Errorf("code %q", got.Code)
				}
				h.hear(h.customer, h.agent)
				h.op("agent", 2, `{"op":"transfer",`+to1003+`}`) // the next may be
				third := b.Phone("1003").Rings().Answer()
				settledAs(t, b, 2, "")
				h.hear(h.customer, third)
				h.customer.HangUp()
				third.ExpectBye()
				h.end()
			})
		})
	}
}

func TestOpTransferWhileSomebodyHangsUp(t *testing.T) {
	t.Run("the one who transfers, and it is answered", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"transfer",`+to1003+`}`)
			ringing := b.Phone("1003").Rings()
			h.agent.HangUp()
			b.Pass(time.Second)
			third := ringing.Answer()
			settledAs(t, b, 1, "")
			h.hear(h.customer, third)
			h.customer.HangUp()
			third.ExpectBye()
			h.end()
		})
	})
	t.Run("the one who transfers, and it is busy", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"transfer",`+to1003+`}`)
			ringing := b.Phone("1003").Rings()
			h.agent.HangUp()
			ringing.Busy()
			settledAs(t, b, 1, "the target is busy (SIP 486)")
			h.customer.ExpectBye()
			h.end()
		})
	})
	t.Run("the other", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"transfer",`+to1003+`}`)
			ringing := b.Phone("1003").Rings()
			h.customer.HangUp()
			ringing.ExpectCancel()
			settledAs(t, b, 1, nobodyThere)
			h.agent.ExpectBye()
			h.end()
		})
	})
	t.Run("a second op", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"transfer",`+to1003+`}`)
			ringing := b.Phone("1003").Rings()
			for n, op := range []string{`{"op":"transfer",` + to1003 + `}`, `{"op":"consult",` + to1003 + `}`, `{"op":"park"}`, `{"op":"survey","survey_id":"after"}`} {
				h.op("agent", 2+2*n, op)
				h.op("customer", 3+2*n, op)
				settledAs(t, b, 2+2*n, engaged)
				settledAs(t, b, 3+2*n, engaged)
			}
			third := ringing.Answer()
			settledAs(t, b, 1, "")
			h.agent.ExpectBye()
			third.HangUp()
			h.customer.ExpectBye()
			h.end()
		})
	})
	t.Run("the edge stops", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"transfer",`+to1003+`}`)
			b.Phone("1003").Rings()
			b.StopCalls()
			h.customer.ExpectBye()
			h.agent.ExpectBye()
			settledAs(t, b, 1, nobodyThere)
			h.end()
		})
	})
}

// consulted is a talk of two whose agent consults 1003.
func consulted(t *testing.T, b *Bench, by string) (*handed, *Call) {
	t.Helper()
	h := talkOfTwo(t, b)
	h.op(by, 1, `{"op":"consult",`+to1003+`}`)
	third := b.Phone("1003").Rings().Answer()
	h.ids["third"] = settledAs(t, b, 1, "").PeerCallID
	b.Pass(300 * time.Millisecond)
	return h, third
}

func TestLadderOpConsultComplete(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.customer.Forget()
		h.op("agent", 1, `{"op":"consult",`+to1003+`}`)
		third := b.Phone("1003").Rings().Answer()
		settledAs(t, b, 1, "")
		soon(h.customer, SystemPrompt(t, "sys_hold"))
		h.hear(h.agent, third)
		h.op("agent", 2, `{"op":"complete"}`)
		settledAs(t, b, 2, "")
		h.agent.ExpectBye()
		b.Pass(200 * time.Millisecond)
		h.hear(h.customer, third)
		third.HangUp()
		b.App.ExpectAt("/done", "outcome", "completed", "target", "1003")
		h.customer.ExpectBye()
		h.end()
		b.Golden("op-consult-complete")
	})
}

func TestOpConsultEnds(t *testing.T) {
	for _, by := range []string{"agent", "customer"} {
		for name, tell := range map[string]func(t *testing.T, b *Bench, h *handed, one, other, third *Call){
			"complete": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				h.op(by, 2, `{"op":"complete"}`)
				settledAs(t, b, 2, "")
				one.ExpectBye()
				b.Pass(200 * time.Millisecond)
				h.hear(other, third)
				other.HangUp()
				third.ExpectBye()
			},
			"cancel": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				h.op(by, 2, `{"op":"cancel"}`)
				settledAs(t, b, 2, "")
				third.ExpectBye()
				h.hear(one, other)
				h.op(by, 3, `{"op":"cancel"}`)
				settledAs(t, b, 3, "the call consults nobody")
				one.HangUp()
				other.ExpectBye()
			},
			"the target hangs up": func(_ *testing.T, b *Bench, h *handed, one, other, third *Call) {
				third.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(one, other)
				other.HangUp()
				one.ExpectBye()
			},
			"the held hangs up": func(_ *testing.T, _ *Bench, _ *handed, one, other, third *Call) {
				other.HangUp()
				third.ExpectBye()
				one.ExpectBye()
			},
			"a hang-up completes it": func(_ *testing.T, b *Bench, h *handed, one, other, third *Call) {
				one.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(other, third)
				third.HangUp()
				other.ExpectBye()
			},
			"a program": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				change(t, b, h.ids[by], `[{"verb":"pause","length":1}]`)
				third.ExpectBye()
				other.ExpectBye()
				one.ExpectBye()
			},
			"disconnect": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				h.op(by, 2, `{"op":"disconnect"}`)
				settledAs(t, b, 2, "")
				one.ExpectBye()
				other.ExpectBye()
				third.ExpectBye()
			},
			"the edge stops": func(_ *testing.T, b *Bench, _ *handed, one, other, third *Call) {
				b.StopCalls()
				one.ExpectBye()
				other.ExpectBye()
				third.ExpectBye()
			},
			"keys are the target's": func(_ *testing.T, b *Bench, h *handed, one, other, third *Call) {
				one.Press("#*")
				b.Pass(500 * time.Millisecond)
				h.hear(one, third)
				one.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(other, third)
				third.HangUp()
				other.ExpectBye()
			},
			"complete as the target hangs up": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				third.Bye()
				b.Pass(2 * time.Millisecond)
				h.op(by, 2, `{"op":"complete"}`)
				b.Pass(time.Second)
				told := b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)
				if last := told[len(told)-1]; last.Type == webhooks.EventActionCompleted && last.Data.Op == "complete" {
					one.ExpectBye()
					other.ExpectBye()
					return
				}
				h.hear(one, other)
				one.HangUp()
				other.ExpectBye()
			},
		} {
			t.Run(by+"/"+name, func(t *testing.T) {
				story(t, func(t *testing.T, b *Bench) {
					h, third := consulted(t, b, by)
					one, other := h.agent, h.customer
					if by == "customer" {
						one, other = other, one
					}
					tell(t, b, h, one, other, third)
					h.end()
				})
			})
		}
	}
}

func TestOpConsultIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		third   func(*handed, *Phone)
		message string
	}{
		"busy":      {func(_ *handed, p *Phone) { p.Called().Busy() }, "the target is busy (SIP 486)"},
		"no answer": {func(_ *handed, p *Phone) { p.Rings().ExpectCancel() }, "the target does not answer"},
		"canceled": {func(h *handed, p *Phone) {
			ringing := p.Rings()
			h.op("agent", 2, `{"op":"complete"}`)
			settledAs(h.t, h.b, 2, "whom the call wants to consult has not answered yet")
			h.op("agent", 3, `{"op":"cancel"}`)
			settledAs(h.t, h.b, 3, "")
			ringing.ExpectCancel()
		}, "another change has canceled it"},
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.op("agent", 1, `{"op":"consult","timeout":3,`+to1003+`}`)
				c.third(h, b.Phone("1003"))
				settledAs(t, b, 1, c.message)
				h.hear(h.customer, h.agent)
				h.customer.HangUp()
				h.agent.ExpectBye()
				h.end()
			})
		})
	}
	for name, hangUp := range map[string]func(*handed){
		"the held hangs up":             func(h *handed) { h.customer.HangUp() }, // and the other is hung up with it
		"the one who consults hangs up": func(h *handed) { h.agent.HangUp() },
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				h.op("agent", 1, `{"op":"consult",`+to1003+`}`)
				ringing := b.Phone("1003").Rings()
				hangUp(h)
				ringing.ExpectCancel()
				settledAs(t, b, 1, "the call ended before the change could be made")
				h.end()
			})
		})
	}
}

func TestOpConsultPrompt(t *testing.T) {
	talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
		h.op("agent", 1, `{"op":"consult","prompt":[{"verb":"play","media_id":"sys_welcome"}],`+to1003+`}`)
		third := b.Phone("1003").Rings().Answer()
		settledAs(t, b, 1, "")
		h.customer.Forget()
		soon(h.customer, SystemPrompt(t, "sys_welcome"))
		h.agent.HangUp()
		b.Pass(200 * time.Millisecond)
		h.hear(h.customer, third)
		h.customer.HangUp()
		third.ExpectBye()
		h.end()
	})
}

func TestOpConsultEndsWithTheTimeLimit(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Phone("1003")
		customer := dialing(b, to1002, `,"time_limit":5`).Answered()
		agent := callee.Rings().Answer()
		id := b.Event(webhooks.EventCallBridged).CallID
		changing(b, id, 1, `{"op":"consult",`+to1003+`}`)
		third := b.Phone("1003").Rings().Answer()
		settledAs(t, b, 1, "")
		third.ExpectBye()
		agent.ExpectBye()
		b.App.ExpectAt("/done", "outcome", "time_limit")
		customer.ExpectBye()
		contractKept(t, b)
	})
}

// hearAll checks that three phones hear each other.
func (h *handed) hearAll(calls ...*Call) {
	h.t.Helper()
	h.b.Pass(300 * time.Millisecond)
	for n, one := range calls {
		speaking(h.b, uint32(n)+20, one, slices.DeleteFunc(slices.Clone(calls), func(o *Call) bool { return o == one })...)
		h.b.Pass(300 * time.Millisecond)
	}
}

func TestOpMerge(t *testing.T) {
	for _, by := range []string{"agent", "customer"} {
		for name, tell := range map[string]func(t *testing.T, b *Bench, h *handed, one, other, third *Call){
			"the one who merged leaves": func(_ *testing.T, b *Bench, h *handed, one, other, third *Call) {
				one.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(other, third)
				other.HangUp()
				third.ExpectBye()
			},
			"the partner leaves": func(_ *testing.T, b *Bench, h *handed, one, other, third *Call) {
				other.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(one, third)
				third.HangUp()
				one.ExpectBye()
			},
			"the target leaves": func(_ *testing.T, b *Bench, h *handed, one, other, third *Call) {
				third.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(one, other)
				one.HangUp()
				other.ExpectBye()
			},
			"the target is dropped by the partner": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				who := "customer"
				if by == "customer" {
					who = "agent"
				}
				h.op(who, 3, `{"op":"drop","call_id":"`+string(h.ids["third"])+`"}`)
				settledAs(t, b, 3, "")
				third.ExpectBye()
				b.Pass(200 * time.Millisecond)
				h.hear(one, other)
				one.HangUp()
				other.ExpectBye()
			},
			"the one who merged is dropped by himself": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				h.op(by, 3, `{"op":"drop","call_id":"`+string(h.ids[by])+`"}`)
				settledAs(t, b, 3, "")
				one.ExpectBye()
				b.Pass(200 * time.Millisecond)
				h.hear(other, third)
				third.HangUp()
				other.ExpectBye()
			},
			"what is refused": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				over := "the consultation is over: all three speak with each other; use drop, or hang up"
				h.op(by, 3, `{"op":"complete"}`)
				settledAs(t, b, 3, over)
				h.op(by, 4, `{"op":"merge"}`)
				settledAs(t, b, 4, over)
				h.op(by, 5, `{"op":"transfer",`+to1003+`}`)
				settledAs(t, b, 5, engaged)
				h.op("third", 6, `{"op":"transfer",`+to1003+`}`)
				settledAs(t, b, 6, engaged)
				h.op("third", 7, `{"op":"hold"}`)
				settledAs(t, b, 7, "three speak with each other, whom one of them cannot put on hold; use mute, or drop")
				h.op("third", 8, `{"op":"drop","call_id":"call_x"}`)
				settledAs(t, b, 8, "call_id: the call call_x is not in the talk that this call is in")
				h.op("third", 9, `{"op":"disconnect"}`)
				settledAs(t, b, 9, "")
				one.ExpectBye()
				other.ExpectBye()
				third.ExpectBye()
			},
			"a program for the one who merged": func(t *testing.T, b *Bench, h *handed, one, other, third *Call) {
				change(t, b, h.ids[by], `[{"verb":"pause","length":1}]`)
				one.ExpectBye()
				h.hear(other, third)
				third.HangUp()
				other.ExpectBye()
			},
			"the edge stops": func(_ *testing.T, b *Bench, _ *handed, one, other, third *Call) {
				b.StopCalls()
				one.ExpectBye()
				other.ExpectBye()
				third.ExpectBye()
			},
		} {
			t.Run(by+"/"+name, func(t *testing.T) {
				story(t, func(t *testing.T, b *Bench) {
					h, third := consulted(t, b, by)
					one, other := h.agent, h.customer
					if by == "customer" {
						one, other = other, one
					}
					h.op(by, 2, `{"op":"merge"}`)
					settledAs(t, b, 2, "")
					h.hearAll(one, other, third)
					tell(t, b, h, one, other, third)
					h.end()
				})
			})
		}
	}
}

func TestOpPark(t *testing.T) {
	for _, by := range []string{"agent", "customer"} {
		t.Run(by, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				one, other := h.agent, h.customer
				if by == "customer" {
					one, other = other, one
				}
				h.op(by, 1, `{"op":"park","slot":"701"}`)
				if got := settledAs(t, b, 1, ""); got.Slot != "701" || got.PeerCallID == "" {
					t.Errorf("told %+v", got)
				}
				one.ExpectBye() // the caller's program is over, and so is its party
				soon(other, SystemPrompt(t, "sys_hold"))
				b.Webhook("2000", func(a *control.Application) { a.VoiceURL = b.App.URL + "/pick" })
				b.App.Answer("/pick", `[{"verb":"unpark","slot":"701"}]`)
				third := b.Phone("1003").Dial("2000").Answered()
				b.Pass(300 * time.Millisecond)
				h.hear(other, third)
				h.ids["third"] = callOf(b, "1003")
				b.Phone("1004")
				h.op("third", 2, `{"op":"transfer","to":{"extension":"1004"}}`) // the two are a pair like any other
				fourth := b.Phone("1004").Rings().Answer()
				settledAs(t, b, 2, "")
				third.ExpectBye()
				h.hear(other, fourth)
				fourth.HangUp()
				other.ExpectBye()
				h.end()
			})
		})
	}
	t.Run("a slot that is not to be had", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			b.Plane.Away(true)
			h.op("agent", 1, `{"op":"park","slot":"701"}`)
			settledAs(t, b, 1, "the control plane is away; try again later")
			b.Plane.Away(false)
			h.hear(h.customer, h.agent)
			h.customer.HangUp()
			h.agent.ExpectBye()
			h.end()
		})
	})
	t.Run("who is to be parked hangs up", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			release := b.Plane.Hold()
			h.op("agent", 1, `{"op":"park","slot":"701"}`)
			b.Pass(100 * time.Millisecond)
			h.customer.HangUp()
			h.agent.ExpectBye()
			release()
			settledAs(t, b, 1, nobodyThere)
			h.end()
			if left := b.Plane.Parked(); len(left) > 0 {
				t.Errorf("still given: %v", left)
			}
		})
	})
}

func TestOpSurvey(t *testing.T) {
	t.Run("when the agent leaves", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			b.Plane.SetSurvey("after", twoQuestions(t))
			h := talkOfTwo(t, b)
			h.op("agent", 1, `{"op":"survey","survey_id":"after"}`)
			h.hear(h.customer, h.agent)
			h.customer.Forget()
			h.agent.HangUp()
			settledAs(t, b, 1, "")
			invited(t, h.customer)
			h.customer.Press("5")
			h.customer.Hears(SystemPrompt(t, "sys_digits_2"))
			h.customer.Press("2")
			h.customer.ExpectBye()
			h.end()
			all := b.Events(webhooks.EventSurveyCompleted)
			if len(all) != 1 || all[0].CallID != h.ids["customer"] || all[0].Data.Outcome != webhooks.Answered {
				t.Errorf("told %+v", all)
			}
		})
	})
	t.Run("when the agent leaves after a consultation", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			b.Plane.SetSurvey("after", twoQuestions(t))
			h := talkOfTwo(t, b)
			h.op("agent", 3, `{"op":"survey","survey_id":"after"}`)
			h.op("agent", 1, `{"op":"consult",`+to1003+`}`)
			third := b.Phone("1003").Rings().Answer()
			settledAs(t, b, 1, "")
			h.op("agent", 2, `{"op":"cancel"}`)
			third.ExpectBye()
			h.hear(h.customer, h.agent)
			h.customer.Forget()
			h.agent.HangUp()
			settledAs(t, b, 3, "")
			invited(t, h.customer)
			h.customer.HangUp()
			h.end()
		})
	})
	t.Run("the customer hangs up first", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"survey","survey_id":"after"}`)
			h.op("agent", 2, `{"op":"survey","survey_id":"after"}`)
			h.customer.HangUp()
			h.agent.ExpectBye()
			h.end()
			if n := len(b.Events(webhooks.EventActionFailed)); n != 2 {
				t.Errorf("%d have failed", n)
			}
		})
	})
	t.Run("at once, for the caller's leg", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			b.Plane.SetSurvey("after", twoQuestions(t))
			h := talkOfTwo(t, b)
			h.customer.Forget()
			h.op("customer", 1, `{"op":"survey","survey_id":"after"}`)
			settledAs(t, b, 1, "")
			h.agent.ExpectBye()
			invited(t, h.customer)
			h.customer.HangUp()
			h.end()
		})
	})
	t.Run("handed on first", func(t *testing.T) {
		talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
			h.op("agent", 1, `{"op":"survey","survey_id":"after"}`)
			h.op("agent", 2, `{"op":"transfer",`+to1003+`}`)
			third := b.Phone("1003").Rings().Answer()
			settledAs(t, b, 2, "")
			settledAs(t, b, 1, nobodyThere)
			h.agent.ExpectBye()
			third.HangUp()
			h.customer.ExpectBye()
			h.end()
		})
	})
}

func TestOpRetarget(t *testing.T) {
	for name, attributes := range map[string]string{"answered": ``, "not answered": `,"answer_on_bridge":true`} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				b.Phone("1003")
				call := dialing(b, to1002, attributes)
				if attributes == "" {
					call.Answered()
				}
				id := b.Event(webhooks.EventCallInitiated).CallID
				ringing := callee.Rings()
				changing(b, id, 1, `{"op":"retarget",`+to1003+`}`)
				settledAs(t, b, 1, "")
				ringing.ExpectCancel()
				third := b.Phone("1003").Rings().Answer()
				if attributes != "" {
					call.Answered()
				}
				talking(call, third)
				changing(b, id, 2, `{"op":"retarget",`+to1003+`}`)
				settledAs(t, b, 2, "the call speaks with somebody already; use transfer")
				third.HangUp()
				b.App.ExpectAt("/done", "outcome", "completed", "target", "1003")
				call.ExpectBye()
				contractKept(t, b)
			})
		})
	}
	t.Run("answered in the same moment", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			callee := b.Phone("1002")
			b.Phone("1003")
			call := dialing(b, to1002, ``).Answered()
			id := b.Event(webhooks.EventCallInitiated).CallID
			ringing := callee.Rings()
			ringing.PickUp()
			changing(b, id, 1, `{"op":"retarget",`+to1003+`}`)
			b.Pass(2 * time.Second)
			call.HangUp()
			b.Idle()
			if n := len(b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)); n != 1 {
				t.Errorf("told %d times", n)
			}
			contractKept(t, b)
		})
	})
	t.Run("busy", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			callee := b.Phone("1002")
			b.Phone("1003")
			call := dialing(b, to1002, ``).Answered()
			id := b.Event(webhooks.EventCallInitiated).CallID
			ringing := callee.Rings()
			changing(b, id, 1, `{"op":"retarget",`+to1003+`}`)
			ringing.ExpectCancel()
			b.Phone("1003").Called().Busy()
			b.App.ExpectAt("/done", "outcome", "busy", "target", "1003")
			call.ExpectBye()
			changed := b.Events(webhooks.EventActionCompleted)
			if len(changed) != 1 {
				t.Errorf("told %+v", changed)
			}
			contractKept(t, b)
		})
	})
}

// The ops are made alike to a caller out of a queue and to the leg that has taken it.
func TestOpsInAQueuesTalk(t *testing.T) {
	for _, by := range []string{"1001", "1002"} {
		t.Run(by, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				b.Phone("1003")
				calls := map[string]*Call{"1001": b.Phone("1001").Dial("1000").Answered()}
				b.Event(webhooks.EventQueueJoined)
				calls["1002"] = b.Phone("1002").Dial("2000").Answered()
				b.Event(webhooks.EventCallBridged)
				b.Pass(200 * time.Millisecond)
				h := &handed{t: t, b: b, ids: map[string]webhooks.CallID{by: callOf(b, by)}}
				one, other := calls[by], calls["1001"]
				if by == "1001" {
					other = calls["1002"]
				}
				h.op(by, 1, `{"op":"consult",`+to1003+`}`)
				third := b.Phone("1003").Rings().Answer()
				settledAs(t, b, 1, "")
				h.hear(one, third)
				h.op(by, 2, `{"op":"merge"}`)
				settledAs(t, b, 2, "")
				h.hearAll(one, other, third)
				one.HangUp()
				b.Pass(200 * time.Millisecond)
				h.hear(other, third)
				third.HangUp()
				other.ExpectBye()
				b.Idle()
			})
		})
	}
}

// TestChangeByAURLThatAnswersATransferHandsThePartnerOver: until the answer is known, whom the leg speaks with is kept for it.
func TestChangeByAURLThatAnswersATransferHandsThePartnerOver(t *testing.T) {
	for _, by := range []string{"customer", "agent"} {
		t.Run(by, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				one, other := h.agent, h.customer
				if by == "customer" {
					one, other = other, one
				}
				b.App.Answer("/changed", webhooktest.Slow(500*time.Millisecond, `[{"verb":"transfer","id":"t",`+to1003+`,"action":"/t"}]`))
				h.op(by, 1, `{"url":"`+b.App.URL+`/changed"}`)
				third := b.Phone("1003").Rings().Answer()
				settledAs(t, b, 1, "")
				b.App.ExpectAt("/t", "outcome", "completed")
				h.hear(other, third)
				one.ExpectBye()
				third.HangUp()
				other.ExpectBye()
				h.end()
			})
		})
	}
}

// TestChangeByAURLPartsFromThePartner where the answer is no transfer, where there is none, and where the change says what
// becomes of the partner.
func TestChangeByAURLPartsFromThePartner(t *testing.T) {
	const transfer = `[{"verb":"transfer",` + to1003 + `}]`
	for name, c := range map[string]struct {
		answer any
		peer   string
		failed string
	}{
		"another program":   {`[{"verb":"pause","length":1}]`, ``, ``},
		"nothing":           {`[]`, ``, ``},
		"no answer":         {webhooktest.Status(500), ``, "the URL gave no program; the failure path runs instead"},
		"a peer to hang up": {transfer, `,"peer":"hangup"`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				b.App.Answer("/changed", c.answer)
				h.op("customer", 1, `{"url":"`+b.App.URL+`/changed"`+c.peer+`}`)
				h.agent.ExpectBye()
				settledAs(t, b, 1, c.failed)
				h.customer.ExpectBye()
				b.Phone("1003").NotCalled()
				h.end()
			})
		})
	}
}

// TestAnotherChangeWhileAURLIsAskedDecidesOnThePartner: it stays for a transfer, and goes as the change says.
func TestAnotherChangeWhileAURLIsAskedDecidesOnThePartner(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		goesOn bool
	}{
		"a transfer":       {`{"instructions":[{"verb":"transfer",` + to1003 + `}]}`, true},
		"a program":        {`{"instructions":[{"verb":"pause","length":1}]}`, false},
		"and for the peer": {`{"instructions":[{"verb":"pause","length":3}],"peer":[{"verb":"hangup"}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			talkingTwo(t, func(t *testing.T, b *Bench, h *handed) {
				b.App.Answer("/changed", webhooktest.Hang())
				h.op("customer", 1, `{"url":"`+b.App.URL+`/changed"}`)
				b.Pass(200 * time.Millisecond)
				h.op("customer", 2, c.change)
				settledAs(t, b, 1, "another change came before the URL had answered")
				settledAs(t, b, 2, "")
				if c.goesOn {
					third := b.Phone("1003").Rings().Answer()
					h.hear(h.agent, third)
					third.HangUp()
				}
				h.agent.ExpectBye()
				h.customer.ExpectBye()
				h.end()
			})
		})
	}
}
