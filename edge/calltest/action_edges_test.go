package calltest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// farTalk is a customer (1001) of the bench's edge who speaks with an agent (1002) of another.
type farTalk struct {
	*handed
	other *Edge
}

// ways are how two legs of two edges come to speak: for each the programs of 1000 and 2000.
var ways = map[string][2]string{
	"out of a queue": {`[{"verb":"enqueue","queue":"sales","on":{"default":"/customer"}}]`, `[{"verb":"dequeue","queue":"sales","timeout":60,"on":{"default":"/agent"}}]`},
	"out of a slot":  {`[{"verb":"park","slot":"701","on":{"default":"/customer"}}]`, `[{"verb":"unpark","slot":"701","on":{"default":"/agent"}}]`},
}

// talkApart tells a story of such a talk, once for each way in which the two have come to speak.
func talkApart(t *testing.T, tell func(t *testing.T, b *Bench, h *farTalk)) {
	t.Helper()
	for name := range ways {
		t.Run(name, func(t *testing.T) { talkApartBy(t, name, tell) })
	}
}

func talkApartBy(t *testing.T, way string, tell func(t *testing.T, b *Bench, h *farTalk)) {
	t.Helper()
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		b.Plane.Queue("sales", nil)
		b.Plane.Number("1000", application(b, ways[way][0]))
		b.Plane.Number("2000", application(b, ways[way][1]))
		b.App.Answer("/customer", `[]`)
		b.App.Answer("/agent", `[]`)
		h := &farTalk{other: other, handed: &handed{t: t, b: b, ids: map[string]webhooks.CallID{}}}
		h.customer = b.Phone("1001").Dial("1000").Answered()
		b.Pass(500 * time.Millisecond)
		h.agent = b.Phone("1002").At(other).Dial("2000").Answered()
		for range 2 {
			b.Event(webhooks.EventCallBridged)
		}
		h.ids["customer"], h.ids["agent"] = callOf(b, "1001"), callOf(b, "1002")
		for _, n := range []string{"1003", "1004"} {
			b.Phone(n)
		}
		b.Pass(500 * time.Millisecond)
		tell(t, b, h)
		bothIdle(b, other)
		h.end()
	})
}

// op makes a live change to one of them, on its edge.
func (h *farTalk) op(by string, n int, change string) {
	h.t.Helper()
	if by == "customer" {
		changing(h.b, h.ids[by], n, change)
		return
	}
	changingAt(h.b, h.other, h.ids[by], n, change)
}

// sides are who makes a change, the other of the two, and a phone that the edge of one of the two calls.
func (h *farTalk) sides(by string) (one, other *Call) {
	if by == "customer" {
		return h.customer, h.agent
	}
	return h.agent, h.customer
}

func partnerOf(by string) string {
	if by == "customer" {
		return "agent"
	}
	return "customer"
}

// phoneOf is a phone that the edge of a leg calls.
func (h *farTalk) phoneOf(leg, name string) *Phone {
	if leg == "agent" {
		return h.b.Phone(name).At(h.other)
	}
	return h.b.Phone(name)
}

// bridgedTo waits until a leg was told with whom it speaks.
func (h *farTalk) bridgedTo(leg, with webhooks.CallID) {
	h.t.Helper()
	h.b.until(patience, fmt.Sprintf("%s was not told that it speaks with %s", leg, with), func() bool {
		last := webhooks.CallID("")
		for _, e := range h.b.events {
			if e.CallID == leg && e.Type == webhooks.EventCallBridged {
				last = e.Data.PeerCallID
			}
		}
		return last == with
	})
}

var bothSides = []string{"agent", "customer"}

func eachSide(t *testing.T, tell func(t *testing.T, b *Bench, h *farTalk, by string)) {
	t.Helper()
	for _, by := range bothSides {
		t.Run(by, func(t *testing.T) {
			talkApart(t, func(t *testing.T, b *Bench, h *farTalk) { tell(t, b, h, by) })
		})
	}
}

func TestOpTransferOverTwoEdges(t *testing.T) {
	eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
		one, other := h.sides(by)
		phone := h.phoneOf(partnerOf(by), "1003") // it is the other who calls
		h.op(by, 1, `{"op":"transfer",`+to1003+`}`)
		ringing := phone.Rings()
		other.Forget()
		other.HearsTone(450)
		third := ringing.Answer()
		id := settledAs(t, b, 1, "").PeerCallID
		h.bridgedTo(h.ids[partnerOf(by)], id)
		h.bridgedTo(id, h.ids[partnerOf(by)])
		b.App.ExpectAt("/"+by, "outcome", "bridged")
		one.ExpectBye()
		h.hear(other, third)
		for _, e := range b.Events(webhooks.EventCallInitiated) {
			if e.CallID == id && e.Data.ParentCallID != h.ids[partnerOf(by)] {
				t.Errorf("%+v", e.Data)
			}
		}
		third.HangUp()
		b.App.ExpectAt("/"+partnerOf(by), "outcome", "bridged", "trigger.call_id", string(h.ids[by]))
		other.ExpectBye()
	})
}

func TestOpTransferThatIsNotTakenOverTwoEdges(t *testing.T) {
	eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
		one, other := h.sides(by)
		phone := h.phoneOf(partnerOf(by), "1003")
		h.op(by, 1, `{"op":"transfer",`+to1003+`}`)
		phone.Called().Busy()
		if got := settledAs(t, b, 1, "the target is busy (SIP 486)"); got.Code != "busy" {
			t.Errorf("code %q", got.Code)
		}
		h.hear(one, other)
		phone = h.phoneOf(by, "1004")
		h.op(partnerOf(by), 2, `{"op":"transfer","to":{"extension":"1004"}}`) // the other may as well
		third := phone.Rings().Answer()
		settledAs(t, b, 2, "")
		other.ExpectBye()
		h.hear(one, third)
		one.HangUp()
		third.ExpectBye()
	})
}

func TestOpTransferOverTwoEdgesWhileSomebodyHangsUp(t *testing.T) {
	for name, tell := range map[string]func(t *testing.T, b *Bench, h *farTalk, by string, ringing *Call){
		"the one who transfers, and it is answered": func(t *testing.T, b *Bench, h *farTalk, by string, ringing *Call) {
			one, other := h.sides(by)
			one.HangUp()
			b.Pass(time.Second)
			third := ringing.Answer()
			settledAs(t, b, 1, "")
			h.hear(other, third)
			other.HangUp()
			third.ExpectBye()
		},
		"the one who transfers, and it is busy": func(t *testing.T, b *Bench, h *farTalk, by string, ringing *Call) {
			one, other := h.sides(by)
			one.HangUp()
			ringing.Busy()
			settledAs(t, b, 1, "the target is busy (SIP 486)")
			other.ExpectBye()
		},
		"the other": func(t *testing.T, b *Bench, h *farTalk, by string, ringing *Call) {
			one, other := h.sides(by)
			other.HangUp()
			ringing.ExpectCancel()
			settledAs(t, b, 1, nobodyThere)
			one.ExpectBye()
		},
		"another change": func(t *testing.T, b *Bench, h *farTalk, by string, ringing *Call) {
			one, other := h.sides(by)
			h.op(partnerOf(by), 2, `{"op":"transfer",`+to1003+`}`)
			h.op(partnerOf(by), 3, `{"op":"park"}`)
			h.op(by, 4, `{"op":"park"}`)
			for n := 2; n <= 4; n++ {
				settledAs(t, b, n, engaged)
			}
			third := ringing.Answer()
			settledAs(t, b, 1, "")
			one.ExpectBye()
			h.hear(other, third)
			third.HangUp()
			other.ExpectBye()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
				phone := h.phoneOf(partnerOf(by), "1003")
				h.op(by, 1, `{"op":"transfer",`+to1003+`}`)
				tell(t, b, h, by, phone.Rings())
			})
		})
	}
}

func TestOpConsultOverTwoEdges(t *testing.T) {
	for name, tell := range map[string]func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, id webhooks.CallID){
		"complete": func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, id webhooks.CallID) {
			one, other := h.sides(by)
			h.op(by, 2, `{"op":"complete"}`)
			settledAs(t, b, 2, "")
			one.ExpectBye()
			h.bridgedTo(h.ids[partnerOf(by)], id)
			h.hear(other, third)
			h.op(partnerOf(by), 3, `{"op":"hold"}`) // who is there now is told of
			if got := settledAs(t, b, 3, "").PeerCallID; got != id {
				t.Errorf("held %s, expected %s", got, id)
			}
			other.HangUp()
			third.ExpectBye()
		},
		"a hang-up completes it": func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, id webhooks.CallID) {
			one, other := h.sides(by)
			one.HangUp()
			h.bridgedTo(h.ids[partnerOf(by)], id)
			h.hear(other, third)
			third.HangUp()
			b.App.ExpectAt("/"+partnerOf(by), "outcome", "bridged")
			other.ExpectBye()
		},
		"cancel": func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, _ webhooks.CallID) {
			one, other := h.sides(by)
			h.op(by, 2, `{"op":"cancel"}`)
			settledAs(t, b, 2, "")
			third.ExpectBye()
			h.hear(one, other)
			one.HangUp()
			other.ExpectBye()
		},
		"the held hangs up": func(_ *testing.T, _ *Bench, h *farTalk, by string, third *Call, _ webhooks.CallID) {
			one, other := h.sides(by)
			other.HangUp()
			third.ExpectBye()
			one.ExpectBye()
		},
		"disconnect by the held": func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, _ webhooks.CallID) {
			one, other := h.sides(by)
			h.op(partnerOf(by), 2, `{"op":"disconnect"}`)
			settledAs(t, b, 2, "")
			other.ExpectBye()
			one.ExpectBye()
			third.ExpectBye()
		},
		"merge, and the one who consulted leaves": func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, id webhooks.CallID) {
			one, other := h.sides(by)
			h.op(by, 2, `{"op":"merge"}`)
			settledAs(t, b, 2, "")
			h.hearAll(one, other, third)
			h.op(partnerOf(by), 3, `{"op":"hold"}`)
			settledAs(t, b, 3, "three speak with each other, whom one of them cannot put on hold; use mute, or drop")
			h.op(partnerOf(by), 4, `{"op":"transfer",`+to1003+`}`)
			settledAs(t, b, 4, engaged)
			one.HangUp()
			b.Pass(200 * time.Millisecond)
			h.hear(other, third)
			third.HangUp()
			other.ExpectBye()
		},
		"merge, and the far one drops": func(t *testing.T, b *Bench, h *farTalk, by string, third *Call, id webhooks.CallID) {
			one, other := h.sides(by)
			h.op(by, 2, `{"op":"merge"}`)
			settledAs(t, b, 2, "")
			h.hearAll(one, other, third)
			h.op(partnerOf(by), 3, `{"op":"drop","call_id":"call_x"}`)
			settledAs(t, b, 3, "call_id: the call call_x is not in the talk that this call is in")
			h.op(partnerOf(by), 4, `{"op":"drop","call_id":"`+string(id)+`"}`)
			settledAs(t, b, 4, "")
			third.ExpectBye()
			b.Pass(200 * time.Millisecond)
			h.hear(one, other)
			h.op(by, 5, `{"op":"drop","call_id":"`+string(h.ids[partnerOf(by)])+`"}`)
			settledAs(t, b, 5, "")
			other.ExpectBye()
			one.ExpectBye()
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
				_, other := h.sides(by)
				phone := h.phoneOf(by, "1003")
				h.op(by, 1, `{"op":"consult",`+to1003+`}`)
				third := phone.Rings().Answer()
				id := settledAs(t, b, 1, "").PeerCallID
				other.Forget()
				soon(other, SystemPrompt(t, "sys_hold"))
				tell(t, b, h, by, third, id)
			})
		})
	}
}

func TestOpParkOverTwoEdges(t *testing.T) {
	eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
		one, other := h.sides(by)
		b.Plane.Number("3000", application(b, `[{"verb":"unpark","slot":"702"}]`))
		h.op(by, 1, `{"op":"park","slot":"702"}`)
		if got := settledAs(t, b, 1, ""); got.Slot != "702" || got.PeerCallID != h.ids[partnerOf(by)] {
			t.Errorf("told %+v", got)
		}
		b.App.ExpectAt("/"+partnerOf(by), "outcome", "redirected")
		b.App.ExpectAt("/"+by, "outcome", "bridged")
		one.ExpectBye()
		other.Forget()
		soon(other, SystemPrompt(t, "sys_hold"))
		third := b.Phone("1003").Dial("3000").Answered()
		b.Pass(500 * time.Millisecond)
		h.hear(other, third)
		third.HangUp()
		other.ExpectBye()
		if left := b.Plane.Parked(); len(left) > 0 {
			t.Errorf("still given: %v", left)
		}
	})
}

// TestOpsSayWhatTheLegDoesThatLosesItsPartner: it is the one that the change is made to.
func TestOpsSayWhatTheLegDoesThatLosesItsPartner(t *testing.T) {
	for _, op := range []string{`{"op":"park"`, `{"op":"transfer",` + to1003} {
		for peer, cause := range map[string]webhooks.Cause{
			`"continue"`: webhooks.CauseProgramEnd, `"hangup"`: webhooks.CauseAPIHangup, `[{"verb":"play","media_id":"sys_welcome"}]`: webhooks.CauseProgramEnd,
		} {
			t.Run(op+peer, func(t *testing.T) {
				eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
					one, other := h.sides(by)
					phone := h.phoneOf(partnerOf(by), "1003")
					one.Forget()
					h.op(by, 1, op+`,"peer":`+peer+`}`)
					if strings.Contains(op, "transfer") {
						phone.Rings().Answer()
					}
					settledAs(t, b, 1, "")
					if strings.HasPrefix(peer, "[") {
						soon(one, SystemPrompt(t, "sys_welcome"))
					}
					one.ExpectBye()
					other.HangUp()
					for _, e := range b.Events(webhooks.EventCallEnded) {
						if e.CallID == h.ids[by] && e.Data.CDR.Cause != cause {
							t.Errorf("it ended with %s", e.Data.CDR.Cause)
						}
					}
				})
			})
		}
	}
}

func TestOpSurveyOverTwoEdges(t *testing.T) {
	for name, leave := range map[string]func(h *farTalk){
		"when the agent leaves":      func(h *farTalk) { h.agent.HangUp() },
		"when the agent is hung up":  func(h *farTalk) { h.op("agent", 2, `{"op":"hangup"}`); h.agent.ExpectBye() },
		"when the customer leaves":   func(h *farTalk) { h.customer.HangUp() },
		"when the agent's edge ends": func(h *farTalk) { h.other.StopCalls(); h.agent.ExpectBye() },
	} {
		t.Run(name, func(t *testing.T) {
			talkApart(t, func(t *testing.T, b *Bench, h *farTalk) {
				b.Plane.SetSurvey("after", twoQuestions(t))
				h.op("agent", 1, `{"op":"survey","survey_id":"after"}`)
				h.hear(h.customer, h.agent)
				h.customer.Forget()
				leave(h)
				if name == "when the customer leaves" {
					settledAs(t, b, 1, nobodyThere)
					h.agent.ExpectBye()
					return
				}
				settledAs(t, b, 1, "")
				invited(t, h.customer)
				h.customer.Press("5")
				h.customer.Hears(SystemPrompt(t, "sys_digits_2"))
				h.customer.Press("2")
				h.customer.ExpectBye()
				if all := b.Events(webhooks.EventSurveyCompleted); len(all) != 1 || all[0].CallID != h.ids["customer"] {
					t.Errorf("told %+v", all)
				}
			})
		})
	}
}

func TestSupervisionOverTwoEdges(t *testing.T) {
	for _, where := range []string{"called", "of the edge of the leg", "of the other edge"} {
		t.Run(where, func(t *testing.T) {
			eachSide(t, func(t *testing.T, b *Bench, h *farTalk, by string) {
				one, other := h.sides(by)
				who, supervisor := h.supervisor(where, by)
				h.op(by, 1, `{"op":"listen",`+who+`}`)
				if supervisor == nil {
					supervisor = h.phoneOf(by, "1003").Rings().Answer()
				}
				id := settledAs(t, b, 1, "").PeerCallID
				h.bridgedTo(id, h.ids[by])
				speaking(b, 1, one, other, supervisor)
				speaking(b, 2, other, one, supervisor)
				unheard(b, 3, supervisor, one, other)
				h.op(by, 2, `{"op":"whisper","call_id":"`+string(id)+`"}`)
				settledAs(t, b, 2, "")
				speaking(b, 4, supervisor, one)
				unheard(b, 5, supervisor, other)
				h.op(by, 3, `{"op":"barge","call_id":"`+string(id)+`"}`)
				settledAs(t, b, 3, "")
				speaking(b, 6, supervisor, one, other)
				h.op(by, 4, `{"op":"intercept","call_id":"`+string(id)+`"}`)
				settledAs(t, b, 4, "")
				one.ExpectBye()
				h.bridgedTo(h.ids[partnerOf(by)], id)
				h.hear(other, supervisor)
				other.HangUp()
				supervisor.ExpectBye()
			})
		})
	}
}

// supervisor is who supervises, and its call where it is up already.
func (h *farTalk) supervisor(where, by string) (who string, supervisor *Call) {
	h.t.Helper()
	if where == "called" {
		return by1003, nil
	}
	h.b.Plane.Number("3000", application(h.b, `[{"verb":"play","tone":"500","loop":0}]`))
	at := by
	if where == "of the other edge" {
		at = partnerOf(by)
	}
	supervisor = h.phoneOf(at, "1003").Dial("3000").Answered()
	supervisor.HearsTone(500)
	return `"call_id":"` + string(callOf(h.b, "1003")) + `"`, supervisor
}

func TestSupervisorOfAnotherEdgeLeaves(t *testing.T) {
	for name, leave := range map[string]func(h *farTalk, supervisor *Call){
		"by a hang-up": func(_ *farTalk, supervisor *Call) { supervisor.HangUp() },
		"by a change": func(h *farTalk, supervisor *Call) {
			changing(h.b, callOf(h.b, "1003"), 2, `{"instructions":[{"verb":"pause","length":1}]}`)
			supervisor.ExpectBye()
		},
	} {
		t.Run(name, func(t *testing.T) {
			talkApartBy(t, "out of a queue", func(t *testing.T, b *Bench, h *farTalk) {
				who, supervisor := h.supervisor("of the other edge", "agent")
				h.op("agent", 1, `{"op":"barge",`+who+`}`)
				settledAs(t, b, 1, "")
				speaking(b, 1, supervisor, h.agent, h.customer)
				leave(h, supervisor)
				h.hear(h.agent, h.customer)
				h.agent.HangUp()
				h.customer.ExpectBye()
			})
		})
	}
}

func TestLegOfAnotherEdgeThatCannotBeHad(t *testing.T) {
	talkApartBy(t, "out of a queue", func(t *testing.T, b *Bench, h *farTalk) {
		h.op("agent", 1, `{"op":"listen","call_id":"call_x"}`)
		settledAs(t, b, 1, "call_id: no call call_x is live")
		second := b.Phone("1003").Dial("1000").Answered() // waits in the queue
		b.Pass(300 * time.Millisecond)
		taken := b.Phone("1004").Dial("2000").Answered()
		b.Pass(500 * time.Millisecond)
		id := string(callOf(b, "1003"))
		h.op("agent", 2, `{"op":"intercept","call_id":"`+id+`"}`)
		settledAs(t, b, 2, "call_id: the call "+id+" speaks with somebody else")
		b.Plane.Away(true)
		h.op("agent", 3, `{"op":"listen","call_id":"`+id+`"}`)
		settledAs(t, b, 3, "the control plane is away; try again later")
		b.Plane.Away(false)
		h.hear(h.agent, h.customer)
		for _, c := range []*Call{second, taken, h.agent, h.customer} {
			if b.within(0, func() bool { return !c.final && c.bye == nil }) {
				c.HangUp()
			}
		}
	})
}

// TestPickUpByALegThatIsUp: a leg that does something else takes what rings.
func TestPickUpByALegThatIsUp(t *testing.T) {
	for _, far := range []bool{false, true} {
		for name, tell := range map[string]func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID){
			"and the picker hangs up": func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID) {
				if reason := ringing.ExpectCancel(); reason == "" {
					t.Error("the phone that rang is not told that the call was answered elsewhere")
				}
				settledAs(t, b, 1, "")
				talking(caller, picker)
				picker.HangUp()
				if r := b.App.Expect("/done", "outcome", "completed"); r.Value("trigger.call_id") != string(id) || r.Value("trigger.target") != "1003" {
					t.Errorf("the dial ended with %s", r.Body)
				}
				caller.ExpectBye()
			},
			"and the caller hangs up": func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID) {
				ringing.ExpectCancel()
				settledAs(t, b, 1, "")
				talking(caller, picker)
				caller.HangUp()
				picker.ExpectBye()
			},
			"and is handed on": func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID) {
				ringing.ExpectCancel()
				settledAs(t, b, 1, "")
				changing(b, callOf(b, "1001"), 2, `{"op":"hold"}`)
				if got := settledAs(t, b, 2, "").PeerCallID; got != id {
					t.Errorf("held %s", got)
				}
				changing(b, callOf(b, "1001"), 3, `{"op":"unhold"}`)
				changing(b, callOf(b, "1001"), 4, `{"op":"disconnect"}`)
				settledAs(t, b, 4, "")
				picker.ExpectBye()
				caller.ExpectBye()
			},
		} {
			t.Run(fmt.Sprintf("far=%v %s", far, name), func(t *testing.T) {
				ringsForALegThatIsUp(t, far, func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID) {
					changing(b, calledAt(b, "1002"), 1, `{"op":"pick_up","call_id":"`+string(id)+`"}`)
					tell(t, b, caller, ringing, picker, id)
				})
			})
		}
	}
}

// ringsForALegThatIsUp has 1001 dial 1002, which rings, while 1003 listens to a tone, on the same edge or on another.
func ringsForALegThatIsUp(t *testing.T, far bool, tell func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID)) {
	t.Helper()
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		b.Plane.Number("3000", application(b, `[{"verb":"play","tone":"500","loop":0}]`))
		if far {
			b.Phone("1003").At(other)
		}
		picker := b.Phone("1003").Dial("3000").Answered()
		picker.HearsTone(500)
		callee := b.Phone("1002")
		caller := dialing(b, to1002, ``).Answered()
		ringing := callee.Rings()
		b.Pass(300 * time.Millisecond)
		tell(t, b, caller, ringing, picker, callOf(b, "1003"))
		for _, c := range []*Call{caller, ringing, picker} {
			if b.within(0, func() bool { return !c.final && c.bye == nil }) {
				c.Bye()
			}
		}
		bothIdle(b, other)
		contractKept(t, b)
		toldOnce(b)
	})
}

// toldOnce checks that what became of each live change was told once.
func toldOnce(b *Bench) {
	b.t.Helper()
	seen := map[webhooks.ActionID]int{}
	for _, e := range b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed) {
		if seen[e.Data.ActionID]++; seen[e.Data.ActionID] > 1 {
			b.t.Errorf("%s was told of again: %+v", e.Data.ActionID, e.Data)
		}
	}
}

func TestPickUpByALegThatComesToNothing(t *testing.T) {
	for _, far := range []bool{false, true} {
		for name, c := range map[string]struct {
			do  func(b *Bench, caller, ringing *Call, id webhooks.CallID)
			why string
		}{
			"a leg that is not there": {func(b *Bench, _, _ *Call, _ webhooks.CallID) {
				changing(b, calledAt(b, "1002"), 1, `{"op":"pick_up","call_id":"call_x"}`)
			}, "no call call_x is live"},
			"the caller itself": {func(b *Bench, _, _ *Call, _ webhooks.CallID) {
				changing(b, calledAt(b, "1002"), 1, `{"op":"pick_up","call_id":"`+string(callOf(b, "1001"))+`"}`)
			}, "a leg of the call itself"},
			"the phone that rings answers first": {func(b *Bench, _, ringing *Call, id webhooks.CallID) {
				ringing.PickUp()
				b.Pass(10 * time.Millisecond)
				changing(b, calledAt(b, "1002"), 1, `{"op":"pick_up","call_id":"`+string(id)+`"}`)
			}, "does not ring"},
		} {
			t.Run(fmt.Sprintf("far=%v %s", far, name), func(t *testing.T) {
				ringsForALegThatIsUp(t, far, func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID) {
					c.do(b, caller, ringing, id)
					outcomeOf(b, webhooks.EventActionFailed, c.why)
					caller.HangUp()
				})
			})
		}
	}
}

func TestPickUpByALegThatRacesWithAHangUp(t *testing.T) {
	for _, far := range []bool{false, true} {
		for who := range 3 {
			for after := time.Duration(0); after <= 40*time.Millisecond; after += 8 * time.Millisecond {
				t.Run(fmt.Sprintf("far=%v %d after %s", far, who, after), func(t *testing.T) {
					ringsForALegThatIsUp(t, far, func(t *testing.T, b *Bench, caller, ringing, picker *Call, id webhooks.CallID) {
						changing(b, calledAt(b, "1002"), 1, `{"op":"pick_up","call_id":"`+string(id)+`"}`)
						b.Pass(after)
						switch who {
						case 0:
							caller.Bye()
						case 1:
							picker.Bye()
						case 2:
							if b.within(0, func() bool { return !ringing.final }) {
								ringing.PickUp()
							}
						}
						b.Pass(2 * time.Second)
						if n := len(b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)); n != 1 {
							t.Errorf("told %d times", n)
						}
					})
				})
			}
		}
	}
}

// TestOpsOverTwoEdgesRaceWithAHangUp: whoever goes, and whenever, each change is told of once and nothing is left.
func TestOpsOverTwoEdgesRaceWithAHangUp(t *testing.T) {
	for _, op := range []string{`{"op":"transfer",` + to1003 + `}`, `{"op":"park"}`, `{"op":"survey","survey_id":"after"}`, `{"op":"intercept","call_id":"…"}`} {
		for _, who := range bothSides {
			for after := time.Duration(0); after <= 24*time.Millisecond; after += 8 * time.Millisecond {
				t.Run(fmt.Sprintf("%s %s after %s", op, who, after), func(t *testing.T) {
					talkApartBy(t, "out of a queue", func(t *testing.T, b *Bench, h *farTalk) {
						b.Plane.SetSurvey("after", twoQuestions(t))
						change := op
						var supervisor *Call
						if strings.Contains(op, "…") {
							id := ""
							id, supervisor = h.supervisor("of the other edge", "agent")
							change = strings.Replace(op, `"call_id":"…"`, id, 1)
						}
						b.Phone("1003")
						h.op("agent", 1, change)
						b.Pass(after)
						one, _ := h.sides(who)
						one.Bye()
						b.Pass(2 * time.Second)
						for _, c := range []*Call{h.customer, h.agent, supervisor} {
							if c != nil && b.within(0, func() bool { return !c.final && c.bye == nil }) {
								c.Bye()
							}
						}
						b.Pass(40 * time.Second) // for a target that nobody answers
						if n := len(b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)); n != 1 {
							t.Errorf("told %d times", n)
						}
					})
				})
			}
		}
	}
}

// TestOpsOverTwoEdgesThatLoseEachOther: in the middle of a change the two edges do not hear each other any more.
func TestOpsOverTwoEdgesThatLoseEachOther(t *testing.T) {
	for name, begin := range map[string]func(b *Bench, h *farTalk){
		"transfer": func(b *Bench, h *farTalk) {
			phone := h.phoneOf("customer", "1003")
			h.op("agent", 1, `{"op":"transfer","timeout":20,`+to1003+`}`)
			phone.Rings()
		},
		"consult": func(b *Bench, h *farTalk) {
			phone := h.phoneOf("agent", "1003")
			h.op("agent", 1, `{"op":"consult",`+to1003+`}`)
			phone.Rings().Answer()
			b.Pass(time.Second)
		},
		"park":   func(b *Bench, h *farTalk) { h.op("agent", 1, `{"op":"park"}`) },
		"survey": func(_ *Bench, h *farTalk) { h.op("agent", 1, `{"op":"survey","survey_id":"after"}`) },
		"barge": func(b *Bench, h *farTalk) {
			who, _ := h.supervisor("of the other edge", "agent")
			h.op("agent", 1, `{"op":"barge",`+who+`}`)
		},
		"nothing": func(*Bench, *farTalk) {},
	} {
		t.Run(name, func(t *testing.T) {
			talkApartBy(t, "out of a queue", func(t *testing.T, b *Bench, h *farTalk) {
				b.Plane.SetSurvey("after", twoQuestions(t))
				begin(b, h)
				b.Impair(func(d Datagram) []time.Duration {
					if one, two := edgeAddr.Addr(), h.other.Addr.Addr(); d.From.Addr() == one && d.To.Addr() == two || d.From.Addr() == two && d.To.Addr() == one {
						return nil
					}
					return onTime
				})
				b.Pass(40 * time.Second)
				for _, c := range h.stillUp() {
					c.Bye()
				}
				b.Pass(time.Second)
				b.until(time.Minute, "calls are left", func() bool { return b.Calls.Live() == 0 && h.other.Calls.Live() == 0 })
				b.Impair(nil)
				if name != "nothing" {
					if n := len(b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)); n != 1 {
						t.Errorf("told %d times", n)
					}
				}
			})
		})
	}
}

// stillUp is the calls that nobody has hung up.
func (h *farTalk) stillUp() (all []*Call) {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	for _, p := range h.b.phones {
		for _, c := range p.calls {
			if (c.up || c.confirmed) && !c.final && c.bye == nil {
				all = append(all, c)
			}
		}
	}
	return all
}
