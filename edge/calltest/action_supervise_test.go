package calltest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// by1003 has the supervisor called at a phone.
const by1003 = `"by":{"extension":"1003"}`

// talk is a call from 1001 that speaks with 1002, which it has dialled.
type talk struct {
	b              *Bench
	caller, callee *Call
	from, to       webhooks.CallID // of the two
	changes        int
}

func inTalk(b *Bench) *talk {
	b.t.Helper()
	callee := b.Phone("1002")
	caller := dialing(b, to1002, ``).Answered()
	t := &talk{b: b, caller: caller, callee: callee.Rings().Answer()}
	for range 2 {
		b.Event(webhooks.EventCallBridged)
	}
	t.from, t.to = callOf(b, "1001"), calledAt(b, "1002")
	return t
}

// calledAt is the newest call that was made to a phone.
func calledAt(b *Bench, number string) webhooks.CallID {
	b.t.Helper()
	id := webhooks.CallID("")
	for _, e := range b.Events(webhooks.EventCallInitiated) {
		if e.Data.To == number {
			id = e.CallID
		}
	}
	if id == "" {
		b.t.Fatalf("%s was not called", number)
	}
	return id
}

// change makes a live change of the talk.
func (t *talk) change(id webhooks.CallID, op, attributes string) {
	t.b.t.Helper()
	t.changes++
	changing(t.b, id, t.changes, `{"op":"`+op+`",`+attributes+`}`)
}

// joined has a supervisor, who is called for it, take part.
func (t *talk) joined(id webhooks.CallID, op string) *Call {
	t.b.t.Helper()
	t.change(id, op, by1003)
	supervisor := t.b.Phone("1003").Rings().Answer()
	e := t.b.Event(webhooks.EventActionCompleted)
	if e.CallID != id || e.Data.Op != op || e.Data.PeerCallID != calledAt(t.b, "1003") {
		t.b.t.Errorf("told of %s as %+v", e.CallID, e.Data)
	}
	return supervisor
}

// goesOn checks that the two hear each other and nobody else.
func (t *talk) goesOn() {
	t.b.t.Helper()
	talking(t.caller, t.callee)
}

// over hangs up what is left, and checks that every change was told of once and every event is of the contract.
func (t *talk) over(calls ...*Call) {
	t.b.t.Helper()
	for _, c := range calls {
		c.HangUp()
	}
	t.b.Idle()
	told := map[webhooks.ActionID]int{}
	for _, e := range t.b.Events() {
		if err := e.Check(); err != nil {
			t.b.t.Error(err)
		}
		if e.Type == webhooks.EventActionCompleted || e.Type == webhooks.EventActionFailed {
			told[e.Data.ActionID]++
		}
	}
	for n := 1; n <= t.changes; n++ {
		if id := webhooks.ActionID(fmt.Sprintf("act_%026d", n)); told[id] != 1 {
			t.b.t.Errorf("change %d was told of %d times", n, told[id])
		}
	}
	if len(told) != t.changes {
		t.b.t.Errorf("%d changes were told of, there were %d", len(told), t.changes)
	}
}

func supervised(t *testing.T, tell func(t *testing.T, b *Bench, k *talk)) {
	t.Helper()
	story(t, func(t *testing.T, b *Bench) { tell(t, b, inTalk(b)) })
}

func TestListenToATalk(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "listen")
		speaking(b, 1, k.caller, k.callee, supervisor)
		speaking(b, 2, k.callee, k.caller, supervisor)
		unheard(b, 3, supervisor, k.caller, k.callee)
		supervisor.HangUp()
		k.goesOn()
		k.over(k.caller)
		k.callee.ExpectBye()
	})
}

func TestWhisperInATalkIsHeardByTheOneSupervised(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "whisper")
		speaking(b, 1, supervisor, k.callee)
		unheard(b, 2, supervisor, k.caller)
		speaking(b, 3, k.caller, k.callee, supervisor)
		speaking(b, 4, k.callee, k.caller, supervisor)
		supervisor.HangUp()
		k.goesOn()
		k.over(k.caller)
	})
}

func TestBargeIntoATalkIsHeardByBoth(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.from, "barge")
		speaking(b, 1, supervisor, k.caller, k.callee)
		speaking(b, 2, k.caller, k.callee, supervisor)
		speaking(b, 3, k.callee, k.caller, supervisor)
		k.over(k.callee)
		supervisor.ExpectBye()
	})
}

func TestSupervisionChangesWhileItRuns(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "listen")
		id := `"call_id":"` + string(calledAt(b, "1003")) + `"`
		k.change(k.to, "whisper", id)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 1, supervisor, k.callee)
		unheard(b, 2, supervisor, k.caller)
		k.change(k.from, "whisper", id) // to the other one
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 3, supervisor, k.caller)
		unheard(b, 4, supervisor, k.callee)
		k.change(k.from, "barge", id)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 5, supervisor, k.caller, k.callee)
		k.change(k.to, "listen", id)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		unheard(b, 6, supervisor, k.caller, k.callee)
		speaking(b, 7, k.caller, k.callee, supervisor)
		k.over(k.caller)
		supervisor.ExpectBye()
	})
}

// TestSupervisionLeavesTheTalkAsItIs: of what the two say while a supervisor comes, changes and goes, nothing is left out.
func TestSupervisionLeavesTheTalkAsItIs(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		b.Pass(time.Second)
		k.caller.Forget()
		k.callee.Forget()
		hello, hi := Voice(1, 8*time.Second), Voice(2, 8*time.Second)
		k.caller.Talk(hello)
		k.callee.Talk(hi)
		b.Pass(500 * time.Millisecond)
		supervisor := k.joined(k.to, "listen")
		b.Pass(time.Second)
		id := `"call_id":"` + string(calledAt(b, "1003")) + `"`
		for _, op := range []string{"whisper", "barge", "listen"} {
			k.change(k.to, op, id)
			outcomeOf(b, webhooks.EventActionCompleted, "")
			b.Pass(500 * time.Millisecond)
		}
		supervisor.HangUp()
		k.callee.Hears(hello)
		k.caller.Hears(hi)
		k.over(k.caller)
	})
}

func TestSupervisorWhoseLegIsUp(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		b.Program("3000", `[{"verb":"play","tone":"500","loop":0}]`)
		supervisor := b.Phone("1004").Dial("3000").Answered()
		supervisor.HearsTone(500)
		id := `"call_id":"` + string(callOf(b, "1004")) + `"`
		k.change(k.from, "listen", id)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 1, k.caller, k.callee, supervisor)
		k.change(k.from, "barge", id)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 2, supervisor, k.caller, k.callee)
		k.over(k.caller)
		supervisor.ExpectBye()
	})
}

func TestSupervisorGoesOnWithAnotherProgram(t *testing.T) {
	for _, dialled := range []bool{true, false} {
		t.Run(fmt.Sprintf("called for it=%v", dialled), func(t *testing.T) {
			supervised(t, func(t *testing.T, b *Bench, k *talk) {
				var supervisor *Call
				var id webhooks.CallID
				if dialled {
					supervisor = k.joined(k.to, "barge")
					id = calledAt(b, "1003")
				} else {
					b.Program("3000", `[{"verb":"play","tone":"500","loop":0}]`)
					supervisor = b.Phone("1004").Dial("3000").Answered()
					supervisor.HearsTone(500)
					id = callOf(b, "1004")
					k.change(k.from, "barge", `"call_id":"`+string(id)+`"`)
					outcomeOf(b, webhooks.EventActionCompleted, "")
				}
				k.changes++
				changing(b, id, k.changes, `{"instructions":[{"verb":"play","media_id":"sys_goodbye"}]}`)
				supervisor.Hears(SystemPrompt(t, "sys_goodbye"))
				supervisor.ExpectBye()
				k.goesOn()
				k.over(k.caller)
			})
		})
	}
}

func TestSupervisorWhoDoesNotCome(t *testing.T) {
	for name, c := range map[string]struct {
		do  func(b *Bench, k *talk)
		why string
	}{
		"busy":     {func(b *Bench, _ *talk) { b.Phone("1003").Rings().Busy() }, "is busy"},
		"declines": {func(b *Bench, _ *talk) { b.Phone("1003").Rings().Decline() }, "declined"},
		"does not answer": {func(b *Bench, _ *talk) {
			ringing := b.Phone("1003").Rings()
			b.Pass(61 * time.Second)
			ringing.ExpectCancel()
		}, "did not answer"},
		"the caller hangs up": {func(b *Bench, k *talk) {
			ringing := b.Phone("1003").Rings()
			k.caller.HangUp()
			ringing.ExpectCancel()
		}, ""},
		"the one supervised hangs up": {func(b *Bench, k *talk) {
			ringing := b.Phone("1003").Rings()
			k.callee.HangUp()
			ringing.ExpectCancel()
		}, ""},
	} {
		for _, op := range []string{"listen", "intercept"} {
			t.Run(op+" "+name, func(t *testing.T) {
				supervised(t, func(_ *testing.T, b *Bench, k *talk) {
					b.Phone("1003")
					k.change(k.to, op, by1003)
					c.do(b, k)
					outcomeOf(b, webhooks.EventActionFailed, c.why)
					if c.why == "" {
						k.over()
						return
					}
					k.goesOn()
					k.over(k.caller)
				})
			})
		}
	}
}

func TestSupervisionThatCannotBe(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		for _, c := range []struct{ id, why string }{
			{string(webhooks.NewCallID()), "is live"},
			{string(k.from), "itself"},
			{string(k.to), "itself"},
		} {
			k.change(k.to, "listen", `"call_id":"`+c.id+`"`)
			outcomeOf(b, webhooks.EventActionFailed, c.why)
		}
		k.goesOn()
		k.over(k.caller)
	})
}

func TestSupervisionOfACallThatSpeaksWithNobody(t *testing.T) {
	story(t, func(_ *testing.T, b *Bench) {
		call, id := waiting(b)
		for n, op := range []string{"listen", "whisper", "barge", "intercept"} {
			changing(b, id, n, `{"op":"`+op+`",`+by1003+`}`)
			outcomeOf(b, webhooks.EventActionFailed, "speaks with nobody")
		}
		call.HangUp()
		b.Idle()
	})
}

func TestSeveralSupervisors(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		first, other := b.Phone("1003"), b.Phone("1004")
		k.change(k.to, "listen", by1003) // both are called at once
		k.change(k.from, "whisper", `"by":{"extension":"1004"}`)
		listener, whisperer := first.Rings().Answer(), other.Rings().Answer()
		outcomeOf(b, webhooks.EventActionCompleted, "")
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 1, k.caller, k.callee, listener, whisperer)
		speaking(b, 2, k.callee, k.caller, listener, whisperer)
		speaking(b, 3, whisperer, k.caller)
		unheard(b, 4, whisperer, k.callee, listener)
		unheard(b, 5, listener, k.caller, k.callee, whisperer)
		k.change(k.to, "barge", `"call_id":"`+string(calledAt(b, "1003"))+`"`) // the other stays what it is
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 6, listener, k.caller, k.callee, whisperer)
		speaking(b, 7, whisperer, k.caller)
		unheard(b, 8, whisperer, k.callee)
		listener.HangUp()
		speaking(b, 9, k.caller, k.callee, whisperer)
		whisperer.HangUp()
		k.goesOn()
		k.over(k.caller)
	})
}

func TestTalkHasSoManySupervisors(t *testing.T) {
	supervised(t, func(t *testing.T, b *Bench, k *talk) {
		var all []*Call
		for n := range 8 {
			name := fmt.Sprint(1003 + n)
			b.Phone(name)
			k.change(k.to, "listen", `"by":{"extension":"`+name+`"}`)
			all = append(all, b.Phone(name).Rings().Answer())
			outcomeOf(b, webhooks.EventActionCompleted, "")
		}
		b.Phone("1020")
		k.change(k.from, "listen", `"by":{"extension":"1020"}`)
		outcomeOf(b, webhooks.EventActionFailed, "has 8 supervisors already")
		all[3].HangUp()
		b.Pass(time.Second)
		k.change(k.from, "barge", `"by":{"extension":"1020"}`) // there is room again
		last := b.Phone("1020").Rings().Answer()
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 1, last, k.caller, k.callee, all[0], all[7])
		k.over(k.caller)
	})
}

func TestInterceptPutsTheSupervisorInTheAgentsPlace(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "intercept")
		k.callee.ExpectBye()
		talking(k.caller, supervisor)
		k.over(supervisor)
		k.caller.ExpectBye()
		if r := b.App.Expect("/done"); r.Value("trigger.call_id") != string(calledAt(b, "1003")) {
			b.t.Errorf("the dial ended with %s", r.Body)
		}
	})
}

func TestInterceptByWhoListens(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "listen")
		k.change(k.to, "intercept", `"call_id":"`+string(calledAt(b, "1003"))+`"`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		k.callee.ExpectBye()
		talking(k.caller, supervisor)
		k.over(k.caller)
		supervisor.ExpectBye()
	})
}

func TestInterceptByALegThatIsUp(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		b.Program("3000", `[{"verb":"play","tone":"500","loop":0}]`)
		supervisor := b.Phone("1004").Dial("3000").Answered()
		supervisor.HearsTone(500)
		k.change(k.to, "intercept", `"call_id":"`+string(callOf(b, "1004"))+`"`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		k.callee.ExpectBye()
		talking(k.caller, supervisor)
		k.over(k.caller)
		supervisor.ExpectBye()
	})
}

func TestInterceptOfTheCaller(t *testing.T) {
	supervised(t, func(_ *testing.T, _ *Bench, k *talk) {
		supervisor := k.joined(k.from, "intercept")
		k.caller.ExpectBye()
		talking(k.callee, supervisor)
		k.over(k.callee)
		supervisor.ExpectBye()
	})
}

func TestSupervisionOfAQueuesTalk(t *testing.T) {
	for _, op := range []string{"whisper", "intercept"} {
		t.Run(op, func(t *testing.T) {
			queueStory(t, func(_ *testing.T, b *Bench) {
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				agent := b.Phone("1002").Dial("2000").Answered()
				b.Event(webhooks.EventQueueConnected)
				talking(caller, agent)
				k := &talk{b: b, caller: caller, callee: agent, from: callOf(b, "1001"), to: callOf(b, "1002")}
				supervisor := k.joined(k.to, op)
				if op == "intercept" {
					agent.ExpectBye()
					talking(caller, supervisor)
					k.over(caller)
					return
				}
				speaking(b, 1, supervisor, agent)
				unheard(b, 2, supervisor, caller)
				k.over(caller)
				supervisor.ExpectBye()
			})
		})
	}
}

func TestSupervisionWhileTheCustomerIsOnHold(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "whisper")
		k.change(k.to, "hold", `"prompt":[]`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 1, supervisor, k.callee)
		unheard(b, 2, k.caller, k.callee, supervisor)
		k.changes++
		changing(b, k.to, k.changes, `{"op":"unhold"}`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		speaking(b, 3, k.caller, k.callee, supervisor)
		k.over(k.caller)
	})
}

// TestSupervisionThatRacesWithAHangUp: whoever of the three goes, and whenever, the change is told of once, and as it is.
func TestSupervisionThatRacesWithAHangUp(t *testing.T) {
	for _, op := range []string{"listen", "barge", "intercept"} {
		for name, who := range map[string]func(k *talk, supervisor *Call) *Call{
			"the caller":         func(k *talk, _ *Call) *Call { return k.caller },
			"the one supervised": func(k *talk, _ *Call) *Call { return k.callee },
			"the supervisor":     func(_ *talk, supervisor *Call) *Call { return supervisor },
		} {
			for after := time.Duration(0); after <= 24*time.Millisecond; after += 2 * time.Millisecond {
				t.Run(fmt.Sprintf("%s %s after %s", op, name, after), func(t *testing.T) {
					supervised(t, func(t *testing.T, b *Bench, k *talk) { racesWithAHangUp(t, b, k, op, after, who) })
				})
			}
		}
	}
}

func racesWithAHangUp(t *testing.T, b *Bench, k *talk, op string, after time.Duration, who func(*talk, *Call) *Call) {
	t.Helper()
	b.Phone("1003")
	k.change(k.to, op, by1003)
	supervisor := b.Phone("1003").Rings()
	supervisor.PickUp()
	b.Pass(after)
	who(k, supervisor).Bye()
	b.Pass(time.Second)
	for _, c := range []*Call{k.caller, k.callee, supervisor} {
		if b.within(0, func() bool { return !c.final }) {
			c.Bye()
		}
	}
	k.over()
	there := false
	for _, e := range b.Events(webhooks.EventCallBridged) {
		there = there || e.CallID == calledAt(b, "1003")
	}
	if done := len(b.Events(webhooks.EventActionCompleted)) == 1; done != there {
		t.Errorf("told as completed: %v; the supervisor was there: %v", done, there)
	}
}

func TestSupervisionWhileTheEdgeDrains(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		supervisor := k.joined(k.to, "listen")
		b.Phone("1003")
		b.StopCalls()
		supervisor.ExpectBye()
		k.caller.ExpectBye()
		k.callee.ExpectBye()
		k.over()
	})
}

func TestSupervisorIsCalledWhileTheEdgeStops(t *testing.T) {
	for _, op := range []string{"whisper", "intercept"} {
		t.Run(op, func(t *testing.T) {
			supervised(t, func(_ *testing.T, b *Bench, k *talk) {
				b.Phone("1003")
				k.change(k.to, op, by1003)
				ringing := b.Phone("1003").Rings()
				b.StopCalls()
				ringing.ExpectCancel()
				outcomeOf(b, webhooks.EventActionFailed, "")
				k.over()
			})
		})
	}
}
