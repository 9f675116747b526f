package calltest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media/wav"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// queueStory is a story about queues: sales is there, 1000 enqueues, and 2000 dequeues. Every event must be what the contract
// says, and each stay in a queue have one end.
func queueStory(t *testing.T, tell func(t *testing.T, b *Bench)) {
	t.Helper()
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.Queue("sales", nil)
		enqueues(b, ``)
		dequeues(b, `"timeout":60`)
		tell(t, b)
		b.Close()
		checkQueueEvents(t, b)
	})
}

// enqueues has whoever calls 1000 wait in sales, with these further attributes, and tells the application how that ended.
func enqueues(b *Bench, attributes string) {
	b.Plane.Number("1000", application(b, `[{"verb":"enqueue","id":"q","queue":"sales"`+also(attributes)+`,"action":"/queued"}]`))
	b.App.Answer("/queued", `[]`)
}

// dequeues has whoever calls 2000 take a caller from sales.
func dequeues(b *Bench, attributes string) {
	b.Plane.Number("2000", application(b, `[{"verb":"dequeue","id":"d","queue":"sales"`+also(attributes)+`,"on":{"default":"/dequeued"}}]`))
	b.App.Answer("/dequeued", `[]`)
}

func also(attributes string) string {
	if attributes == "" {
		return ""
	}
	return "," + attributes
}

// application runs a program, and asks the bench's application what it names.
func application(b *Bench, program string) control.Application {
	return control.Application{
		ID: "app_stored", Format: control.FormatNative, VoiceURL: b.App.URL + "/voice", Program: Program(b.t, program),
	}
}

func checkQueueEvents(t *testing.T, b *Bench) {
	t.Helper()
	stays := map[webhooks.CallID]string{}
	for _, e := range b.Events() {
		if err := e.Check(); err != nil {
			t.Error(err)
		}
		was := stays[e.CallID]
		switch e.Type {
		case webhooks.EventQueueJoined:
			if was != "" {
				t.Errorf("%s has joined while it was %s", e.CallID, was)
			}
			stays[e.CallID] = "joined"
		case webhooks.EventQueueConnected:
			if was != "joined" {
				t.Errorf("%s was connected while it was %q", e.CallID, was)
			}
			stays[e.CallID] = "connected"
		case webhooks.EventQueueLeft:
			if was == "" {
				t.Errorf("%s has left twice", e.CallID)
			}
			delete(stays, e.CallID)
		case webhooks.EventCallEnded:
			if was != "" {
				t.Errorf("%s ended while it was %s", e.CallID, was)
			}
		}
	}
}

// talking checks that two phones hear each other.
func talking(a, b *Call) {
	a.b().t.Helper()
	a.b().Pass(200 * time.Millisecond)
	a.Forget()
	b.Forget()
	hello, hi := Voice(1, time.Second), Voice(2, time.Second)
	a.Talk(hello)
	b.Talk(hi)
	b.Hears(hello)
	a.Hears(hi)
}

// soon waits until a phone has heard the beginning of something, whatever it hears before.
func soon(c *Call, octets []byte) {
	c.b().t.Helper()
	a := c.audio
	want := bytes.TrimLeft(octets, string(a.codec.Silence()))
	want = want[:min(len(want), 1600)]
	c.b().until(patience, "phone "+c.phone.Name+" did not hear what it was to hear", func() bool {
		at := bytes.Index(a.heard[a.taken:], want)
		if at >= 0 {
			a.taken += at + len(want)
		}
		return at >= 0
	})
}

// outcome waits for the n-th request to a path, from 1, and checks what its trigger says.
func outcome(b *Bench, path string, n int, outcome webhooks.Outcome) webhooks.CallRequest {
	b.t.Helper()
	var found *webhooks.CallRequest
	b.until(patience, fmt.Sprintf("%s was not asked %d times", path, n), func() bool {
		seen := 0
		for _, r := range b.App.Requests() {
			if r.Path == path {
				if seen++; seen == n && found == nil {
					found = &r.Call
				}
			}
		}
		return found != nil
	})
	if t := found.Trigger; outcome != "" {
		switch {
		case t == nil:
			b.t.Errorf("%s has no trigger", path)
		case t.Outcome != outcome:
			b.t.Errorf("%s was told of %s (%s), expected %s", path, t.Outcome, t.Error, outcome)
		}
		if err := t.Check(); err != nil {
			b.t.Error(err)
		}
	}
	return *found
}

func TestQueueCallerIsTakenAndSpeaks(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		caller.Hears(SystemPrompt(t, "sys_hold"))
		agent := b.Phone("1002").Dial("2000").Answered()
		e := b.Event(webhooks.EventQueueConnected)
		if e.Data.PeerCallID == "" || e.Data.Waited == nil || *e.Data.Waited < 1 {
			t.Errorf("connected: %+v", e.Data)
		}
		talking(caller, agent)
		agent.HangUp()
		if r := outcome(b, "/queued", 1, webhooks.Bridged); r.Trigger.EndedBy != webhooks.EndedByCallee || r.Trigger.CallID != callOf(b, "1002") || r.Call.QueueID == "" {
			t.Errorf("told of %+v, %+v", r.Trigger, r.Call)
		}
		outcome(b, "/dequeued", 1, webhooks.Hangup)
		left := b.Event(webhooks.EventQueueLeft)
		if left.Data.Outcome != webhooks.Bridged || left.Data.Duration == nil {
			t.Errorf("left: %+v", left.Data)
		}
		caller.ExpectBye()
		b.Idle()
	})
}

// callOf is the id of the call of a phone, by its number.
func callOf(b *Bench, number string) webhooks.CallID {
	b.t.Helper()
	for _, e := range b.Events(webhooks.EventCallInitiated) {
		if e.Data.From == number {
			return e.CallID
		}
	}
	b.t.Fatalf("%s has no call", number)
	return ""
}

// changes replaces what runs on the call of a phone.
func changes(b *Bench, number, program string) {
	b.t.Helper()
	err := b.Calls.Act(b.t.Context(), control.Action{
		ActionID: webhooks.NewActionID(), AccountID: Account, CallID: callOf(b, number), Change: webhooks.Action{Program: Program(b.t, program)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// nobodyWaits checks that a queue is empty, and why the last call left it.
func nobodyWaits(b *Bench, reason webhooks.Outcome) {
	b.t.Helper()
	b.Pass(50 * time.Millisecond)
	if ids := b.Plane.InQueue("sales"); len(ids) > 0 {
		b.t.Errorf("%d calls still wait", len(ids))
	}
	if all := b.Plane.Reasons("sales"); len(all) == 0 || all[len(all)-1] != reason {
		b.t.Errorf("they left with %v, expected %s", all, reason)
	}
}

func TestQueueCallerWhoHangsUpLeavesAtOnce(t *testing.T) {
	for name, wait := range map[string]string{
		"with music": ``, "in silence": `"wait":[]`, "in a prompt": `"wait":[{"verb":"play","media_id":"sys_welcome"}]`,
		"in a gather": `"wait":[{"verb":"gather","timeout":60}]`, "in a pause": `"wait":[{"verb":"pause","length":60}]`,
		"while the wait is asked for": `"wait":"/never"`, "in an announcement": `"announce_position":true`,
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/never", webhooktest.Hang())
				enqueues(b, wait)
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				b.Pass(1500 * time.Millisecond)
				caller.HangUp()
				if e := b.Event(webhooks.EventQueueLeft); e.Data.Outcome != webhooks.Hangup || e.Data.Position != 1 {
					t.Errorf("left: %+v", e.Data)
				}
				b.Ended(webhooks.CauseCallerHangup)
				nobodyWaits(b, webhooks.Hangup)
				b.Idle()
				for _, r := range b.App.Requests() {
					if strings.HasSuffix(r.URL, "/queued") && r.Call.Trigger.Outcome != webhooks.Hangup {
						t.Errorf("told of %s", r.Call.Trigger.Outcome)
					}
				}
			})
		})
	}
}

func TestQueueJoinThatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		queue   func(*Queue)
		enqueue string
		outcome webhooks.Outcome
		error   string
	}{
		"full":                      {func(q *Queue) { q.MaxSize = 1 }, ``, webhooks.Full, ""},
		"full by the instruction":   {nil, `"max_size":1`, webhooks.Full, ""},
		"it takes no calls":         {func(q *Queue) { q.Disabled = true }, ``, webhooks.Failed, "no more calls"},
		"there is none":             {func(q *Queue) { q.Name = "other" }, ``, webhooks.Failed, "no queue sales"},
		"there is none, it is made": {func(q *Queue) { q.Name = "other" }, `"create":true,"max_wait":1`, webhooks.Timeout, ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				sales := b.Plane.Queue("sales", nil)
				enqueues(b, ``)
				first := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				if c.queue != nil {
					c.queue(sales)
				}
				enqueues(b, c.enqueue)
				b.Phone("1003").Dial("1000").Answered()
				r := outcome(b, "/queued", 1, c.outcome)
				if !strings.Contains(r.Trigger.Error, c.error) || (c.error == "") != (r.Trigger.QueueID != "") {
					t.Errorf("told of %+v", r.Trigger)
				}
				first.HangUp()
				b.Idle()
				b.Close()
				checkQueueEvents(t, b)
			})
		})
	}
}

func TestQueueMaxWaitEndsTheWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		queue   webhooks.Seconds
		enqueue string
	}{
		"of the instruction": {0, `"max_wait":5`}, "of the queue": {5, ``}, "the instruction's before the queue's": {60, `"max_wait":5`},
		"in a wait program": {5, `"wait":[{"verb":"play","tone":"500","loop":0}]`}, "in a gather": {5, `"wait":[{"verb":"gather","timeout":100}]`},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.Queue("sales", func(q *Queue) { q.MaxWait = c.queue })
				enqueues(b, c.enqueue)
				b.Phone("1001").Dial("1000").Answered()
				r := outcome(b, "/queued", 1, webhooks.Timeout)
				if w := r.Trigger.Waited; w == nil || *w < 5 || *w > 5.1 || r.Trigger.Position != 1 {
					t.Errorf("told of %+v", r.Trigger)
				}
				nobodyWaits(b, webhooks.Timeout)
				b.Idle()
				b.Close()
				checkQueueEvents(t, b)
			})
		})
	}
}

// A caller who is offered to a leg of another edge waits longer than its time, but not for ever when no more is heard of that.
func TestQueueMaxWaitEndsTheWaitingOfOneWhoIsOffered(t *testing.T) {
	for name, c := range map[string]struct {
		away        bool
		least, most webhooks.Seconds
	}{
		"to a leg that gives it back":                        {false, 8, 11},
		"while the control plane cannot be reached any more": {true, 5, 13},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				enqueues(b, `"max_wait":5`)
				call := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				other := control.QueueTake{AccountID: Account, Queue: "sales", Leg: "call_00000000000000000000000009", EdgeID: "edge_2", BootID: "boot_2"}
				taken, err := b.Plane.TakeCaller(t.Context(), other)
				if err != nil || taken.Caller == nil {
					t.Fatal(taken, err)
				}
				for range 4 {
					b.Pass(2 * time.Second) // its edge renews what it has
					if _, err := b.Plane.RenewQueues(t.Context(), control.QueueRenewal{EdgeID: "edge_2", BootID: "boot_2"}); err != nil {
						t.Fatal(err)
					}
					if c.away {
						break
					}
				}
				if b.Plane.Away(c.away); !c.away {
					back := control.QueueReturn{QueueClaim: control.QueueClaim{AccountID: Account, ID: taken.Caller.ID, Claim: taken.Caller.Claim}, Why: control.QueueCanceled}
					if err := b.Plane.ReturnCaller(t.Context(), back); err != nil {
						t.Fatal(err)
					}
				}
				r := outcome(b, "/queued", 1, webhooks.Timeout)
				if w := *r.Trigger.Waited; w < c.least || w > c.most {
					t.Errorf("it has waited %v s", w)
				}
				b.Plane.Away(false)
				call.ExpectBye()
				b.Idle()
				b.Pass(2 * time.Second) // what was not heard is said again
				nobodyWaits(b, webhooks.Timeout)
			})
		})
	}
}

func TestQueueWaitURLIsToldOfTheStandingAgainAndAgain(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		first := b.Phone("1003").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		enqueues(b, `"wait":"/wait"`)
		b.App.Answer("/wait", `[{"verb":"play","media_id":"sys_welcome"}]`)
		caller := b.Phone("1001").Dial("1000").Answered()
		w := outcome(b, "/wait", 1, "").Waiting
		if w == nil || w.Position != 2 || w.Size != 2 || w.Name != "sales" || w.QueueID == "" {
			t.Errorf("the first time: %+v", w)
		}
		soon(caller, SystemPrompt(t, "sys_welcome"))
		first.HangUp()
		soon(caller, SystemPrompt(t, "sys_welcome"))
		w = outcome(b, "/wait", 3, "").Waiting
		if w.Position != 1 || w.Size != 1 || w.Waited < 2 || w.AverageWait == nil {
			t.Errorf("the third time: %+v", w)
		}
		caller.HangUp()
		b.Idle()
	})
}

func TestQueueWaitProgram(t *testing.T) {
	for name, c := range map[string]struct {
		wait    string
		press   string
		outcome webhooks.Outcome
	}{
		"leave":                    {`[{"verb":"pause"},{"verb":"leave"}]`, "", webhooks.Left},
		"leave under a gather":     {`[{"verb":"gather","num_digits":1,"timeout":9,"on":{"digits":[{"verb":"leave"}]}}]`, "1", webhooks.Left},
		"a gather asks its action": {`[{"verb":"gather","num_digits":1,"timeout":9,"action":"/key"}]`, "1", webhooks.Left},
		"redirect":                 {`[{"verb":"pause"},{"verb":"redirect","url":"/other"}]`, "", webhooks.Left},
		"hang up":                  {`[{"verb":"pause"},{"verb":"hangup"}]`, "", webhooks.Hangup},
		"tag and leave":            {`[{"verb":"tag","data":{"a":1}},{"verb":"leave"}]`, "", webhooks.Left},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/key", `[{"verb":"play","media_id":"sys_digits_1"},{"verb":"leave"}]`)
				b.App.Answer("/other", `[{"verb":"pause"},{"verb":"leave"}]`)
				enqueues(b, `"wait":`+c.wait)
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				b.Pass(500 * time.Millisecond)
				if c.press != "" {
					caller.Press(c.press)
				}
				caller.ExpectBye()
				nobodyWaits(b, c.outcome)
				b.Idle()
				told := false
				for _, r := range b.App.Requests() {
					if strings.HasSuffix(r.URL, "/queued") {
						told = r.Call.Trigger.Outcome == c.outcome
					}
					if strings.HasSuffix(r.URL, "/other") && (r.Call.Reason != webhooks.ReasonWait || r.Call.Waiting == nil) {
						t.Errorf("the other wait was asked for because of %s", r.Call.Reason)
					}
				}
				if !told {
					t.Errorf("the application was not told of %s", c.outcome)
				}
			})
		})
	}
}

func TestQueueWaitThatCannotBeHadIsMusicAndAskedForAgain(t *testing.T) {
	for name, answer := range map[string]any{
		"no answer": webhooktest.Status(500), "not JSON": webhooktest.Garbage(), "what cannot stand in a wait": `[{"verb":"record"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				enqueues(b, `"wait":"/wait"`)
				b.App.Answer("/wait", answer, answer, `[{"verb":"play","media_id":"sys_goodbye"}]`)
				caller := b.Phone("1001").Dial("1000").Answered()
				caller.Hears(SystemPrompt(t, "sys_hold"))
				soon(caller, SystemPrompt(t, "sys_goodbye"))
				caller.HangUp()
				b.Idle()
			})
		})
	}
}

func TestQueuePositionIsSaidInTheCallsLanguage(t *testing.T) {
	for _, language := range []string{"en", "zh-CN"} {
		t.Run(language, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.Language = language
				b.Plane.Queue("sales", func(q *Queue) { q.AnnounceInterval = 20 })
				enqueues(b, `"announce_position":true`)
				dequeues(b, ``)
				first := b.Phone("1003").Dial("1000").Answered()
				b.Pass(time.Second)
				caller := b.Phone("1001").Dial("1000").Answered()
				soon(caller, promptIn(t, "sys_position", language))
				soon(caller, promptIn(t, "sys_digits_2", language))
				soon(caller, promptIn(t, "sys_hold", language))
				first.HangUp()
				soon(caller, promptIn(t, "sys_digits_1", language))
				caller.HangUp()
				b.Idle()
				b.Close()
				checkQueueEvents(t, b)
			})
		})
	}
}

func TestDequeueOfNobody(t *testing.T) {
	for name, c := range map[string]struct {
		dequeue string
		outcome webhooks.Outcome
		after   time.Duration
	}{
		"at once":            {`"queue":"sales"`, webhooks.Empty, 0},
		"after a while":      {`"queue":"sales","timeout":70`, webhooks.Empty, 70 * time.Second},
		"there is no queue":  {`"queue":"others","timeout":70`, webhooks.Failed, 0},
		"there is no caller": {`"call_id":"call_nobody"`, webhooks.Empty, 0},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				b.Plane.Number("2000", application(b, `[{"verb":"dequeue",`+c.dequeue+`,"on":{"default":"/dequeued"}}]`))
				b.Phone("1002").Dial("2000").Answered()
				began := b.Now()
				b.within(2*time.Minute, func() bool { return len(b.App.Requests()) > 0 })
				outcome(b, "/dequeued", 1, c.outcome)
				if took := b.Now() - began; took < c.after || took > c.after+2*time.Second {
					t.Errorf("after %s", took)
				}
				b.Idle()
			})
		})
	}
}

// The control plane may believe in a caller that the edge knows nothing of.
func TestDequeueOfSomebodyWhoIsNotThereHasAnEnd(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		dequeues(b, `"timeout":3`)
		gone := control.QueueJoin{
			Owner: control.Owner{EdgeID: EdgeID, BootID: "boot", Epoch: 1, AccountID: Account, CallID: "call_00000000000000000000000009"}, Queue: "sales",
		}
		if _, err := b.Plane.JoinQueue(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		agent := b.Phone("1002").Dial("2000").Answered()
		began := b.Now()
		outcome(b, "/dequeued", 1, webhooks.Empty)
		if took := b.Now() - began; took < 3*time.Second || took > 6*time.Second {
			t.Errorf("after %s", took)
		}
		agent.ExpectBye()
		b.Idle()
		b.Plane.Lose(gone.CallID)
	})
}

func TestDequeueTakesWhoIsNext(t *testing.T) {
	for name, c := range map[string]struct {
		dequeue string
		next    string
	}{
		"who has waited longest": {`"queue":"sales"`, "1001"},
		"a certain one":          {`"call_id":"{{data.call}}"`, "1003"},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				callers := map[string]*Call{}
				for _, number := range []string{"1001", "1003"} {
					callers[number] = b.Phone(number).Dial("1000").Answered()
					b.Event(webhooks.EventQueueJoined)
				}
				b.Plane.Number("2000", application(b, `[{"verb":"tag","data":{"call":"`+string(callOf(b, "1003"))+`"}},{"verb":"dequeue",`+c.dequeue+`}]`))
				agent := b.Phone("1002").Dial("2000").Answered()
				if e := b.Event(webhooks.EventQueueConnected); e.CallID != callOf(b, c.next) {
					t.Error("another was taken")
				}
				talking(callers[c.next], agent)
				for _, call := range callers {
					call.HangUp()
				}
				agent.ExpectBye()
				b.Idle()
			})
		})
	}
}

func TestQueuePriorityIsWorthAMinuteAStep(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		first := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		enqueues(b, `"priority":1`)
		second := b.Phone("1003").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		agent := b.Phone("1002").Dial("2000").Answered()
		b.Event(webhooks.EventQueueConnected)
		talking(second, agent)
		agent.HangUp()
		first.HangUp()
		b.Idle()
	})
}

// pressOne is a screen that lets the call through with 1 and refuses it with any other key.
const pressOne = `[{"verb":"play","media_id":"sys_welcome"},{"verb":"gather","num_digits":1,"timeout":20,"valid":"1","on":{"invalid":[{"verb":"hangup"}],"timeout":[{"verb":"reject"}]}}]`

func TestQueueScreenOnTheLegThatTakes(t *testing.T) {
	for name, c := range map[string]struct {
		enqueue, queue string
	}{
		"of the instruction": {`"screen":` + pressOne, ``}, "of the queue": {``, pressOne},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.Queue("sales", func(q *Queue) {
					if c.queue != "" {
						q.Screen = Program(t, c.queue)
					}
				})
				enqueues(b, c.enqueue)
				dequeues(b, ``)
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				refuses := b.Phone("1002").Dial("2000").Answered()
				soon(refuses, SystemPrompt(t, "sys_welcome"))
				caller.Forget()
				soon(caller, SystemPrompt(t, "sys_hold")) // and waits on
				refuses.Press("2")
				outcome(b, "/dequeued", 1, webhooks.Empty)
				refuses.ExpectBye()
				if n := len(b.Plane.InQueue("sales")); n != 1 {
					t.Fatalf("%d wait", n)
				}
				accepts := b.Phone("1003").Dial("2000").Answered()
				soon(accepts, SystemPrompt(t, "sys_welcome"))
				accepts.Press("1")
				b.Event(webhooks.EventQueueConnected)
				talking(caller, accepts)
				caller.HangUp()
				outcome(b, "/queued", 1, webhooks.Hangup)
				if r := outcome(b, "/dequeued", 2, webhooks.Bridged); r.Trigger.EndedBy != webhooks.EndedByCaller || r.Trigger.CallID != callOf(b, "1001") {
					t.Errorf("told of %+v", r.Trigger)
				}
				nobodyWaits(b, webhooks.Hangup)
				b.Idle()
				b.Close()
				checkQueueEvents(t, b)
			})
		})
	}
}

func TestQueueScreenOnTheCaller(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		dequeues(b, `"screen":"/screen"`)
		b.App.Answer("/screen", `[{"verb":"play","media_id":"sys_welcome"}]`, `[{"verb":"play","media_id":"sys_welcome"},{"verb":"reject"}]`)
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		agent := b.Phone("1002").Dial("2000").Answered()
		if r := outcome(b, "/screen", 1, ""); r.CallID != callOf(b, "1001") || r.Reason != webhooks.ReasonScreen || r.Waiting.PeerCallID != callOf(b, "1002") {
			t.Errorf("asked of %s, for %+v", r.CallID, r.Waiting)
		}
		soon(caller, SystemPrompt(t, "sys_welcome"))
		b.Event(webhooks.EventQueueConnected)
		talking(caller, agent)
		agent.HangUp()
		caller.ExpectBye()
		outcome(b, "/dequeued", 1, webhooks.Hangup)
		outcome(b, "/queued", 1, webhooks.Bridged)

		caller = b.Phone("1001").Dial("1000").Answered()
		agent = b.Phone("1002").Dial("2000").Answered()
		outcome(b, "/dequeued", 2, webhooks.Empty)
		agent.ExpectBye()
		caller.Forget()
		soon(caller, SystemPrompt(t, "sys_hold"))
		if n := len(b.Plane.InQueue("sales")); n != 1 {
			t.Errorf("%d wait", n)
		}
		caller.HangUp()
		b.Idle()
	})
}

// promptIn is SystemPrompt in a language.
func promptIn(t *testing.T, id, language string) []byte {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "prompt", "sounds", strings.ToLower(language), id+".wav"))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := wav.Decode(file, wav.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return Encoded(decoded.Samples)
}

func TestQueueTakerWhoGoesBeforeTheTwoSpeak(t *testing.T) {
	for name, c := range map[string]struct {
		enqueue, dequeue string
		goes             func(b *Bench, agent *Call)
		outcome          webhooks.Outcome
	}{
		"hangs up in the screen": {`"screen":` + pressOne, ``, func(_ *Bench, agent *Call) { agent.HangUp() }, webhooks.Hangup},
		"is changed in the screen": {`"screen":` + pressOne, ``, func(b *Bench, _ *Call) {
			changes(b, "1002", `[{"verb":"pause","length":20}]`)
		}, webhooks.Redirected},
		"hangs up while the caller is screened": {``, `"screen":[{"verb":"pause","length":30}]`, func(_ *Bench, agent *Call) { agent.HangUp() }, webhooks.Hangup},
		"is too slow":                           {`"screen":` + strings.Replace(pressOne, `"timeout":20`, `"timeout":90`, 1), ``, func(b *Bench, _ *Call) { b.Pass(31 * time.Second) }, webhooks.Empty},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				enqueues(b, c.enqueue)
				dequeues(b, c.dequeue)
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				agent := b.Phone("1002").Dial("2000").Answered()
				b.Pass(2 * time.Second)
				c.goes(b, agent)
				if c.outcome != webhooks.Redirected { // on.redirected is not told of
					outcome(b, "/dequeued", 1, c.outcome)
				}
				caller.Forget()
				soon(caller, SystemPrompt(t, "sys_hold"))
				if n := len(b.Plane.InQueue("sales")); n != 1 {
					t.Fatalf("%d wait", n)
				}
				enqueues(b, ``)
				b.Plane.Number("2000", application(b, `[{"verb":"dequeue","queue":"sales","timeout":5}]`))
				if c.enqueue == "" {
					other := b.Phone("1003").Dial("2000").Answered()
					b.Event(webhooks.EventQueueConnected)
					talking(caller, other)
				}
				caller.HangUp()
				b.Idle()
			})
		})
	}
}

func TestQueueLiveChange(t *testing.T) {
	const goodbye = `[{"verb":"play","media_id":"sys_goodbye"}]`
	t.Run("of the caller who waits", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Event(webhooks.EventQueueJoined)
			b.Pass(time.Second)
			changes(b, "1001", goodbye)
			soon(caller, SystemPrompt(t, "sys_goodbye"))
			caller.ExpectBye()
			outcome(b, "/queued", 1, webhooks.Redirected)
			nobodyWaits(b, webhooks.Redirected)
			b.Idle()
		})
	})
	t.Run("of the caller who speaks", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Event(webhooks.EventQueueJoined)
			agent := b.Phone("1002").Dial("2000").Answered()
			b.Event(webhooks.EventQueueConnected)
			changes(b, "1001", goodbye)
			soon(caller, SystemPrompt(t, "sys_goodbye"))
			if r := outcome(b, "/dequeued", 1, webhooks.Bridged); r.Trigger.EndedBy != webhooks.EndedByAPI {
				t.Errorf("told of %+v", r.Trigger)
			}
			outcome(b, "/queued", 1, webhooks.Redirected)
			agent.ExpectBye()
			caller.ExpectBye()
			nobodyWaits(b, webhooks.Redirected)
			b.Idle()
		})
	})
	t.Run("of the leg that has taken the caller", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Event(webhooks.EventQueueJoined)
			agent := b.Phone("1002").Dial("2000").Answered()
			b.Event(webhooks.EventQueueConnected)
			changes(b, "1002", goodbye)
			soon(agent, SystemPrompt(t, "sys_goodbye"))
			if r := outcome(b, "/queued", 1, webhooks.Bridged); r.Trigger.EndedBy != webhooks.EndedByAPI {
				t.Errorf("told of %+v", r.Trigger)
			}
			caller.ExpectBye()
			agent.ExpectBye()
			b.Idle()
		})
	})
	t.Run("of the leg that waits for a caller", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			agent := b.Phone("1002").Dial("2000").Answered()
			b.Pass(time.Second)
			changes(b, "1002", goodbye)
			soon(agent, SystemPrompt(t, "sys_goodbye"))
			agent.ExpectBye()
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Pass(2 * time.Second)
			if n := b.Plane.Claims(); n != 0 {
				t.Errorf("%d callers were given to a leg that has gone on", n)
			}
			caller.HangUp()
			b.Idle()
		})
	})
}

func TestQueueTransferByTheLegThatHasTakenTheCaller(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		third := b.Phone("1003")
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		agent := b.Phone("1002").Dial("2000").Answered()
		b.Event(webhooks.EventQueueConnected)
		b.Pass(time.Second)
		changes(b, "1002", `[{"verb":"transfer","to":{"extension":"1003"}}]`)
		second := third.Rings().Answer()
		agent.ExpectBye()
		talking(caller, second)
		if n := len(b.Events(webhooks.EventQueueLeft)); n != 0 {
			t.Error("the stay is over before the talk is")
		}
		second.HangUp()
		outcome(b, "/queued", 1, webhooks.Bridged)
		caller.ExpectBye()
		nobodyWaits(b, webhooks.Bridged)
		b.Idle()
	})
}

func TestQueuePartnerThatVanishesIsLost(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		agent := b.Phone("1002").Dial("2000").Answered()
		b.Event(webhooks.EventQueueConnected)
		agent.Mute(true)
		b.Pass(40 * time.Second)
		outcome(b, "/queued", 1, webhooks.Lost)
		caller.ExpectBye()
		nobodyWaits(b, webhooks.Lost)
		b.Idle()
	})
}

func TestQueueWhileTheControlPlaneIsAway(t *testing.T) {
	t.Run("callers wait on, and keep their places", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Event(webhooks.EventQueueJoined)
			b.Plane.Away(true)
			b.Pass(time.Minute)
			caller.Forget()
			soon(caller, SystemPrompt(t, "sys_hold"))
			b.Plane.Away(false)
			b.Pass(3 * time.Second)
			agent := b.Phone("1002").Dial("2000").Answered()
			if e := b.Event(webhooks.EventQueueConnected); *e.Data.Waited < 60 {
				t.Errorf("waited %v", *e.Data.Waited)
			}
			talking(caller, agent)
			caller.HangUp()
			b.Idle()
		})
	})
	t.Run("nobody joins, and the program says what then", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			b.Plane.KeepFor = 60
			b.Phone("1001").Dial("1000").Answered().HangUp()
			outcome(b, "/queued", 1, webhooks.Hangup)
			b.Plane.Away(true)
			caller := b.Phone("1001").Dial("1000").Answered()
			if r := outcome(b, "/queued", 2, webhooks.Failed); !strings.Contains(r.Trigger.Error, "away") {
				t.Errorf("told of %+v", r.Trigger)
			}
			caller.ExpectBye()
			b.Plane.Away(false)
			b.Pass(3 * time.Second)
			b.Idle()
		})
	})
	t.Run("a short absence is waited for", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			b.Plane.Number("1000", application(b, `[{"verb":"answer"},{"verb":"pause"},{"verb":"enqueue","queue":"sales"}]`))
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Plane.Away(true)
			b.Pass(3 * time.Second)
			b.Plane.Away(false)
			b.Event(webhooks.EventQueueJoined)
			caller.HangUp()
			b.Idle()
		})
	})
	t.Run("who hangs up leaves when it is back", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Event(webhooks.EventQueueJoined)
			b.Plane.Away(true)
			caller.HangUp()
			b.Idle()
			b.Pass(10 * time.Second)
			b.Plane.Away(false)
			b.Pass(2 * time.Second)
			nobodyWaits(b, webhooks.Hangup)
		})
	})
	t.Run("two who are both here are connected", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			enqueues(b, `"screen":`+pressOne)
			caller := b.Phone("1001").Dial("1000").Answered()
			b.Event(webhooks.EventQueueJoined)
			agent := b.Phone("1002").Dial("2000").Answered()
			soon(agent, SystemPrompt(t, "sys_welcome"))
			b.Plane.Away(true)
			agent.Press("1")
			b.Event(webhooks.EventQueueConnected)
			talking(caller, agent)
			b.Plane.Away(false)
			b.Pass(2 * time.Second)
			agent.HangUp()
			outcome(b, "/queued", 1, webhooks.Bridged)
			nobodyWaits(b, webhooks.Bridged)
			b.Idle()
		})
	})
	t.Run("a leg waits for it as long as for a caller", func(t *testing.T) {
		queueStory(t, func(t *testing.T, b *Bench) {
			b.Plane.Number("2000", application(b, `[{"verb":"pause"},{"verb":"dequeue","queue":"sales","timeout":5,"on":{"default":"/dequeued"}}]`))
			b.Phone("1002").Dial("2000").Answered()
			b.Plane.Away(true)
			if r := outcome(b, "/dequeued", 1, webhooks.Failed); !strings.Contains(r.Trigger.Error, "away") {
				t.Errorf("told of %+v", r.Trigger)
			}
			b.Plane.Away(false)
			b.Pass(2 * time.Second)
			b.Idle()
		})
	})
}

func TestQueueCallerWhoWasGivenUpJoinsAgain(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		b.Plane.Lose(callOf(b, "1001"))
		b.Pass(2 * time.Second)
		if n := len(b.Plane.InQueue("sales")); n != 1 {
			t.Fatalf("%d wait", n)
		}
		agent := b.Phone("1002").Dial("2000").Answered()
		b.Event(webhooks.EventQueueConnected)
		talking(caller, agent)
		caller.HangUp()
		b.Idle()
	})
}

func TestQueueCallerWhoWasGivenUpAndIsRefusedGoesOn(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		sales := b.Plane.Queue("closing", nil)
		b.Plane.Number("1000", application(b, `[{"verb":"enqueue","queue":"closing","action":"/queued"}]`))
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		sales.Disabled = true
		b.Plane.Lose(callOf(b, "1001"))
		b.Plane.Forget(callOf(b, "1001"))
		outcome(b, "/queued", 1, webhooks.Failed)
		caller.ExpectBye()
		b.Idle()
	})
}

func TestQueueCallerWhoIsMovedHearsTheOtherQueue(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		b.Plane.Queue("service", func(q *Queue) { q.Wait = Program(t, `[{"verb":"play","media_id":"sys_welcome"}]`) })
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		b.Pass(2 * time.Second)
		b.Plane.MoveCaller(callOf(b, "1001"), "service")
		if e := b.Event(webhooks.EventQueueLeft); e.Data.Name != "sales" || e.Data.Outcome != webhooks.Redirected {
			t.Errorf("left: %+v", e.Data)
		}
		if e := b.Event(webhooks.EventQueueJoined); e.Data.Name != "service" {
			t.Errorf("joined: %+v", e.Data)
		}
		soon(caller, SystemPrompt(t, "sys_welcome"))
		caller.HangUp()
		if r := outcome(b, "/queued", 1, webhooks.Hangup); r.Trigger.QueueID != b.Events(webhooks.EventQueueJoined)[1].Data.QueueID {
			t.Errorf("told of %+v", r.Trigger)
		}
		b.Idle()
	})
}

func TestQueueConnectsTheLegWithTheHighestClaim(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		enqueues(b, `"screen":`+pressOne)
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		slow := b.Phone("1002").Dial("2000").Answered()
		soon(slow, SystemPrompt(t, "sys_welcome"))
		b.Plane.Reclaim(callOf(b, "1001"))
		quick := b.Phone("1003").Dial("2000").Answered()
		soon(quick, SystemPrompt(t, "sys_welcome"))
		slow.Press("1")
		b.Pass(500 * time.Millisecond)
		if n := len(b.Events(webhooks.EventQueueConnected)); n != 0 {
			t.Fatal("the slow one was connected")
		}
		quick.Press("1")
		b.Event(webhooks.EventQueueConnected)
		talking(caller, quick)
		quick.HangUp()
		slow.HangUp()
		b.Idle()
	})
}

func TestQueueOneCallerIsNeverGivenToTwoLegs(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		other := b.AnotherEdge()
		b.Pass(1500 * time.Millisecond)
		agents := []*Call{b.Phone("1002").Dial("2000"), b.Phone("1003").At(other).Dial("2000"), b.Phone("1004").Dial("2000"), b.Phone("1005").At(other).Dial("2000")}
		for _, a := range agents {
			a.Answered()
		}
		b.Pass(2 * time.Second)
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueConnected)
		b.Pass(3 * time.Second)
		if n := len(b.Events(webhooks.EventQueueConnected)); n != 1 {
			t.Errorf("the caller was connected %d times", n)
		}
		caller.HangUp()
		for _, a := range agents {
			if a.bye == nil {
				a.Bye()
			}
		}
		b.Idle()
		b.until(patience, "calls are left", func() bool { return other.Calls.Live() == 0 })
	})
}

func TestQueueCallersOfAnEdgeThatDrains(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		limit, done := context.WithTimeout(t.Context(), 10*time.Second)
		defer done()
		if err := b.Calls.Drain(limit); err == nil {
			t.Error("the edge drained with a call that waits")
		}
		if n := len(b.Plane.InQueue("sales")); n != 1 {
			t.Errorf("%d wait while the edge drains", n)
		}
		b.stop[0]()
		b.stop = b.stop[1:]
		caller.ExpectBye()
		b.Ended(webhooks.CauseEdgeDrain)
		nobodyWaits(b, webhooks.Hangup)
	})
}

func TestQueueByTwiML(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		twiml := func(a *control.Application) { a.Format = control.FormatTwiML }
		b.Webhook("1000", func(a *control.Application) { twiml(a); a.VoiceURL = b.App.URL + "/enqueue" })
		b.Webhook("2000", func(a *control.Application) { twiml(a); a.VoiceURL = b.App.URL + "/take" })
		b.App.Answer("/enqueue", `<Response><Enqueue action="/queued" waitUrl="/wait">support</Enqueue><Say>never</Say></Response>`)
		b.App.Answer("/wait", `<Response><Play>http://app.test/music.wav</Play></Response>`,
			`<Response><Gather numDigits="1" timeout="30" action="/pressed"/></Response>`)
		b.App.Answer("/pressed", `<Response><Leave/></Response>`)
		b.App.Answer("/take", `<Response><Dial action="/dialed"><Queue url="/whisper">support</Queue></Dial></Response>`)
		b.App.Answer("/whisper", `<Response><Pause length="1"/></Response>`)
		b.App.Answer("/queued", `<Response><Hangup/></Response>`)
		b.App.Answer("/dialed", `<Response><Hangup/></Response>`)

		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		form := func(path string) url.Values {
			t.Helper()
			var found url.Values
			b.until(patience, path+" was not asked", func() bool {
				for _, r := range b.App.Requests() {
					if r.Path == path {
						found = r.Form
					}
				}
				return found != nil
			})
			return found
		}
		wait := form("/wait")
		for name, value := range map[string]string{"QueuePosition": "1", "CurrentQueueSize": "1", "QueueTime": "0", "AvgQueueTime": "7"} {
			if got := wait.Get(name); got != value {
				t.Errorf("%s is %q, expected %q", name, got, value)
			}
		}
		if !strings.HasPrefix(wait.Get("QueueSid"), "QU") {
			t.Errorf("QueueSid is %q", wait.Get("QueueSid"))
		}
		agent := b.Phone("1002").Dial("2000").Answered()
		if got := form("/whisper"); got.Get("DequeueingCallSid") == "" || got.Get("CallSid") == got.Get("DequeueingCallSid") {
			t.Errorf("the whisper was asked with %v", got)
		}
		b.Event(webhooks.EventQueueConnected)
		talking(caller, agent)
		agent.HangUp()
		if got := form("/queued"); got.Get("QueueResult") != "bridged" || got.Get("QueueTime") == "" {
			t.Errorf("told of %v", got)
		}
		caller.ExpectBye()
		if got := form("/dialed"); got.Get("DialCallStatus") != "completed" || got.Get("DequeueResult") != "bridged" {
			t.Errorf("told of %v", got)
		}

		b.App.Answer("/queued", `<Response><Hangup/></Response>`)
		caller = b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		b.Pass(3 * time.Second)
		caller.Press("1")
		caller.ExpectBye()
		if got := form("/queued"); got.Get("QueueResult") != "leave" {
			t.Errorf("told of %v", got)
		}
		b.Idle()
	})
}

func TestLadderQueueTaken(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		enqueues(b, `"wait":"/wait","screen":[{"verb":"play","media_id":"sys_welcome"}]`)
		b.App.Answer("/wait", `[{"verb":"pause","length":3}]`)
		caller := b.Phone("1001").Dial("1000").Expect(180).Answered()
		b.Pass(4 * time.Second)
		agent := b.Phone("1002").Dial("2000").Expect(180).Answered()
		b.Event(webhooks.EventQueueConnected)
		talking(caller, agent)
		agent.HangUp()
		caller.ExpectBye()
		b.Golden("queue-taken")
	})
}

func TestLadderQueueTimeout(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		enqueues(b, `"max_wait":10,"announce_position":true,"wait":[{"verb":"gather","num_digits":1,"timeout":4,"on":{"digits":[{"verb":"leave"}]}}]`)
		b.Phone("1001").Dial("1000").Expect(180).Answered().ExpectBye()
		b.Golden("queue-timeout")
	})
}

func TestQueueCallerOfAnotherEdge(t *testing.T) {
	for name, c := range map[string]struct {
		ends   func(caller, agent *Call)
		caller webhooks.Outcome
		agent  webhooks.Outcome
	}{
		"the agent hangs up":    {func(_, agent *Call) { agent.HangUp() }, webhooks.Bridged, webhooks.Hangup},
		"the caller hangs up":   {func(caller, _ *Call) { caller.HangUp() }, webhooks.Hangup, webhooks.Bridged},
		"the caller is changed": {func(caller, _ *Call) { changes(caller.b(), "1001", `[{"verb":"pause"}]`) }, webhooks.Redirected, webhooks.Bridged},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				other := b.AnotherEdge()
				b.Pass(1500 * time.Millisecond)
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				agent := b.Phone("1002").At(other).Dial("2000").Answered()
				if e := b.Event(webhooks.EventQueueConnected); e.Data.PeerCallID != callOf(b, "1002") {
					t.Errorf("connected: %+v", e.Data)
				}
				talking(caller, agent)
				c.ends(caller, agent)
				if r := outcome(b, "/queued", 1, c.caller); r.Trigger.CallID != callOf(b, "1002") || r.Trigger.Duration == nil {
					t.Errorf("told of %+v", r.Trigger)
				}
				if r := outcome(b, "/dequeued", 1, c.agent); r.Trigger.CallID != callOf(b, "1001") || r.Trigger.Waited == nil {
					t.Errorf("told of %+v", r.Trigger)
				}
				nobodyWaits(b, c.caller)
				b.Idle()
				b.until(patience, "calls are left", func() bool { return other.Calls.Live() == 0 })
			})
		})
	}
}

func TestQueueCallerOfAnotherEdgeThatCannotBeConnected(t *testing.T) {
	for name, c := range map[string]struct{ enqueue, dequeue string }{
		"the caller brings a screen for the leg": {`"screen":` + pressOne, ``},
		"the leg brings a screen for the caller": {``, `"screen":` + pressOne},
	} {
		t.Run(name, func(t *testing.T) {
			queueStory(t, func(t *testing.T, b *Bench) {
				other := b.AnotherEdge()
				b.Pass(1500 * time.Millisecond)
				enqueues(b, c.enqueue)
				dequeues(b, c.dequeue)
				caller := b.Phone("1001").Dial("1000").Answered()
				b.Event(webhooks.EventQueueJoined)
				b.Phone("1002").At(other).Dial("2000").Answered().ExpectBye()
				if r := outcome(b, "/dequeued", 1, webhooks.Failed); !strings.Contains(r.Trigger.Error, "another edge") {
					t.Errorf("told of %+v", r.Trigger)
				}
				caller.Forget()
				soon(caller, SystemPrompt(t, "sys_hold"))
				if n := len(b.Plane.InQueue("sales")); n != 1 {
					t.Errorf("%d wait", n)
				}
				caller.HangUp()
				b.Idle()
			})
		})
	}
}

func TestQueueClaimThatNobodyVouchesForIsRefused(t *testing.T) {
	queueStory(t, func(t *testing.T, b *Bench) {
		caller := b.Phone("1001").Dial("1000").Answered()
		b.Event(webhooks.EventQueueJoined)
		stranger := b.Phone("1009")
		for _, value := range []string{
			"wait_00000000000000000000000001;claim=99;leg=call_x", "wait_00000000000000000000000009;claim=1;leg=call_x", "nonsense",
		} {
			stranger.DialWith("queue", Invite{Headers: []string{"X-Hookswitch-Link: queue " + value}}).Expect(480)
		}
		caller.Forget()
		soon(caller, SystemPrompt(t, "sys_hold"))
		agent := b.Phone("1002").Dial("2000").Answered()
		b.Event(webhooks.EventQueueConnected)
		talking(caller, agent)
		caller.HangUp()
		b.Idle()
	})
}
