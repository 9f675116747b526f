package calltest

import (
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// queued has two callers wait in sales, and returns them in that order with their ids.
func queued(b *Bench) (calls [2]*Call, ids [2]webhooks.CallID) {
	b.t.Helper()
	for i, number := range []string{"1001", "1002"} {
		calls[i] = b.Phone(number).Dial("1000").Answered()
		ids[i] = b.Event(webhooks.EventQueueJoined).CallID
		b.Pass(time.Second)
	}
	return calls, ids
}

// outcomeOf waits for what became of a change, and checks that a failure says why.
func outcomeOf(b *Bench, kind webhooks.EventType, why string) {
	b.t.Helper()
	e := b.Event(kind)
	if !strings.Contains(e.Data.Message, why) {
		b.t.Errorf("the change came to %s: %q, expected %q", kind, e.Data.Message, why)
	}
}

func TestActionPriorityOfAWaitingCall(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		calls, ids := queued(b)
		changing(b, ids[1], 1, `{"op":"priority","priority":7}`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		if got := b.Plane.InQueue("sales"); got[0] != ids[1] {
			t.Errorf("the line is %v", got)
		}
		agent := b.Phone("1003").Dial("2000").Answered()
		if e := b.Event(webhooks.EventQueueConnected); e.CallID != ids[1] {
			t.Errorf("%s was taken", e.CallID)
		}
		talking(calls[1], agent)
		changing(b, ids[1], 2, `{"op":"priority","priority":1}`)
		outcomeOf(b, webhooks.EventActionFailed, "waits no more")
		agent.HangUp()
		calls[0].HangUp()
		b.Idle()
	})
}

func TestActionMovesAWaitingCall(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		b.Plane.Queue("service", func(q *Queue) { q.Wait = Program(t, `[{"verb":"play","media_id":"sys_welcome"}]`) })
		calls, ids := queued(b)
		changing(b, ids[0], 1, `{"op":"move","queue":"service","priority":3}`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		if e := b.Event(webhooks.EventQueueLeft); e.Data.Name != "sales" || e.Data.Outcome != webhooks.Redirected {
			t.Errorf("left: %+v", e.Data)
		}
		if e := b.Event(webhooks.EventQueueJoined); e.Data.Name != "service" || e.Data.Priority != 3 || e.Data.Position != 1 {
			t.Errorf("joined: %+v", e.Data)
		}
		soon(calls[0], SystemPrompt(t, "sys_welcome"))
		b.Pass(5 * time.Second) // renewals tell of the move as well
		if n := len(b.Events(webhooks.EventQueueJoined)); n != 3 {
			t.Errorf("queues were joined %d times", n)
		}
		calls[0].HangUp()
		calls[1].HangUp()
		b.Idle()
	})
}

func TestActionAssignKeepsAWaitingCallForAnAgent(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		calls, ids := queued(b)
		changing(b, ids[0], 1, `{"op":"assign","agent":"agt_7"}`)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		agent := b.Phone("1003").Dial("2000").Answered()
		if e := b.Event(webhooks.EventQueueConnected); e.CallID != ids[1] {
			t.Errorf("another agent was given %s", e.CallID)
		}
		agent.HangUp()
		calls[0].HangUp()
		b.Idle()
	})
}

func TestAnAgentsLegTakesTheCallerWhoIsAssignedToTheAgent(t *testing.T) {
	for name, come := range map[string]func(t *testing.T, b *Bench) *Call{
		"the agent calls": func(_ *testing.T, b *Bench) *Call { return b.Phone("1003").Dial("2000").Answered() },
		"the API calls the agent": func(t *testing.T, b *Bench) *Call {
			originate(t, b, func(o *control.Originate) {
				o.Target, o.Application = webhooks.DialTarget{Agent: "agt_7"}, application(b, `[{"verb":"dequeue","queue":"sales"}]`)
			})
			return b.Phone("1003").Rings().Answer()
		},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				b.Phone("1003").Agent = "agt_7"
				calls, ids := queued(b)
				changing(b, ids[1], 1, `{"op":"assign","agent":"agt_7"}`)
				outcomeOf(b, webhooks.EventActionCompleted, "")
				changing(b, ids[0], 2, `{"op":"assign","agent":"agt_8"}`)
				agent := come(t, b)
				if e := b.Event(webhooks.EventQueueConnected); e.CallID != ids[1] || e.Data.AgentID != "agt_7" {
					t.Errorf("was given %s as %q", e.CallID, e.Data.AgentID)
				}
				agent.HangUp()
				if r := outcome(b, "/queued", 1, webhooks.Bridged); r.Trigger.AgentID != "agt_7" {
					t.Errorf("the caller's application was told of %+v", r.Trigger)
				}
				calls[0].HangUp()
				b.Idle()
			})
		})
	}
}

func TestActionsOnAWaitingCallAreMadeInTheirOrder(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		b.Plane.Queue("service", nil)
		calls, ids := queued(b)
		b.Plane.Away(true)
		changing(b, ids[0], 1, `{"op":"move","queue":"service"}`)
		changing(b, ids[0], 2, `{"op":"move","queue":"sales"}`)
		b.Pass(3 * time.Second)
		b.Plane.Away(false)
		outcomeOf(b, webhooks.EventActionCompleted, "")
		outcomeOf(b, webhooks.EventActionCompleted, "")
		b.Pass(3 * time.Second)
		if got := b.Plane.InQueue("sales"); len(got) != 2 {
			t.Errorf("in sales are %v", got)
		}
		calls[0].HangUp()
		calls[1].HangUp()
		b.Idle()
	})
}

func TestActionOnAWaitingCallThatCannotBeMade(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		before func(b *Bench)
		why    string
	}{
		"an unknown queue":             {`{"op":"move","queue":"none"}`, nil, "there is no queue none"},
		"a full queue":                 {`{"op":"move","queue":"service"}`, nil, "is full"},
		"the control plane stays away": {`{"op":"priority","priority":4}`, func(b *Bench) { b.Plane.Away(true) }, "has not said whether"},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				b.Plane.Queue("service", func(q *Queue) { q.MaxSize = 1 })
				b.Plane.Number("3000", application(b, `[{"verb":"enqueue","queue":"service"}]`))
				full := b.Phone("1003").Dial("3000").Answered()
				b.Event(webhooks.EventQueueJoined)
				calls, ids := queued(b)
				if c.before != nil {
					c.before(b)
				}
				changing(b, ids[0], 1, c.change)
				b.Pass(20 * time.Second)
				b.Plane.Away(false)
				outcomeOf(b, webhooks.EventActionFailed, c.why)
				calls[0].Talking()
				full.HangUp()
				calls[0].HangUp()
				calls[1].HangUp()
				b.Idle()
			})
		})
	}
}

func TestActionOnACallThatDoesNotWaitInAQueue(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		for n, change := range []string{`{"op":"priority","priority":4}`, `{"op":"move","queue":"sales"}`, `{"op":"assign","agent":"agt_1"}`} {
			changing(b, id, n, change)
			outcomeOf(b, webhooks.EventActionFailed, "does not wait in a queue")
		}
		call.HangUp()
		b.Idle()
	})
}

func TestActionOnAWaitingCallThatHangsUp(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		calls, ids := queued(b)
		b.Plane.Away(true)
		changing(b, ids[0], 1, `{"op":"priority","priority":7}`)
		b.Pass(time.Second)
		calls[0].HangUp()
		b.Pass(time.Second)
		b.Plane.Away(false)
		calls[1].HangUp()
		b.Idle()
		if e := b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed); len(e) != 1 || e[0].Type != webhooks.EventActionFailed {
			t.Errorf("told of %+v", e)
		}
	})
}

func TestActionOnAWaitingCallHonoursIfMatch(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		calls, ids := queued(b)
		priority := webhooks.Action{Op: &webhooks.OpPriority{Priority: 7}}
		stale := act(b, ids[1], 1, func(a *control.Action) { a.Change, a.IfMatch = priority, "0" })
		if control.CodeOf(stale) != control.CodePrecondition {
			t.Errorf("with an etag of before the answer: %v", stale)
		}
		b.Pass(2 * time.Second)
		if got := b.Plane.InQueue("sales"); got[0] != ids[0] {
			t.Errorf("the line is %v", got)
		}
		calls[0].HangUp()
		calls[1].HangUp()
		settled(t, b, nil)
	})
}
