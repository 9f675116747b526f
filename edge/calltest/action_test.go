package calltest

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// waiting has the caller hear a hold tone until somebody changes that, and returns its call's id.
func waiting(b *Bench) (*Call, webhooks.CallID) {
	b.Program("1000", `[{"verb":"play","tone":"500","loop":0}]`)
	call := b.Phone("1001").Dial("1000").Answered()
	call.HearsTone(500)
	return call, b.Event(webhooks.EventCallInitiated).CallID
}

func act(b *Bench, id webhooks.CallID, n int, change func(*control.Action)) error {
	a := control.Action{ActionID: actionID(n), AccountID: Account, CallID: id}
	change(&a)
	return b.Calls.Act(context.Background(), a)
}

func actionID(n int) webhooks.ActionID { return webhooks.ActionID("act_" + strconv.Itoa(n)) }

func hangUp() webhooks.Action { return webhooks.Action{Op: &webhooks.OpHangUp{}} }

// settled checks that every action taken was completed or failed, once.
func settled(t *testing.T, b *Bench, want map[string]webhooks.EventType) {
	t.Helper()
	b.Idle()
	got := map[string]webhooks.EventType{}
	for _, e := range b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed) {
		id := string(e.Data.ActionID)
		if got[id] != "" {
			t.Errorf("%s was told of twice", id)
		}
		got[id] = e.Type
	}
	for id, kind := range want {
		if got[id] != kind {
			t.Errorf("%s: %q, expected %s", id, got[id], kind)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d actions were told of, expected %d", len(got), len(want))
	}
}

func TestActionHangup(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		if err := act(b, id, 1, func(a *control.Action) { a.Change = hangUp() }); err != nil {
			t.Fatal(err)
		}
		call.ExpectBye()
		if cdr := b.Ended(webhooks.CauseAPIHangup); cdr.EndedBy != webhooks.EndedByAPI {
			t.Errorf("%+v", cdr)
		}
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted})
	})
}

func TestActionReplacesWhatRuns(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		change := func(a *control.Action) { a.Change.Program = Program(t, `[{"verb":"play","media_id":"sys_goodbye"}]`) }
		if err := act(b, id, 1, change); err != nil {
			t.Fatal(err)
		}
		b.Event(webhooks.EventActionCompleted)
		b.Pass(20 * time.Millisecond)
		b.until(patience, "the tone goes on", func() bool { return call.bye != nil })
		b.Ended(webhooks.CauseProgramEnd)
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted})
	})
}

func TestActionByURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/changed", `[{"verb":"hangup"}]`)
		call, id := waiting(b)
		if err := act(b, id, 1, func(a *control.Action) { a.Change.Target = &webhooks.Target{URL: b.App.URL + "/changed"} }); err != nil {
			t.Fatal(err)
		}
		b.App.Expect("modified", "call_id", string(id))
		call.ExpectBye()
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted})
	})
}

func TestActionByAURLThatFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/changed", webhooktest.Status(500))
		call, id := waiting(b)
		if err := act(b, id, 1, func(a *control.Action) { a.Change.Target = &webhooks.Target{URL: b.App.URL + "/changed"} }); err != nil {
			t.Fatal(err)
		}
		call.ExpectBye()
		b.Ended(webhooks.CauseWebhookFailed)
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionFailed})
	})
}

func TestActionWhileTheApplicationThinks(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"redirect","url":"/slow"}]`)
		b.App.Answer("/slow", webhooktest.Hang())
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.App.Expect("/slow")
		id := b.Event(webhooks.EventCallInitiated).CallID
		if err := act(b, id, 1, func(a *control.Action) { a.Change.Program = Program(t, `[{"verb":"play","media_id":"sys_goodbye"}]`) }); err != nil {
			t.Fatal(err)
		}
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted})
	})
}

func TestActionTellsTheVerbItCutShort(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"gather","timeout":60,"on":{"redirected":[{"verb":"play","media_id":"sys_busy"}]}}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		id := b.Event(webhooks.EventCallInitiated).CallID
		if err := act(b, id, 1, func(a *control.Action) { a.Change.Program = Program(t, `[{"verb":"play","media_id":"sys_goodbye"}]`) }); err != nil {
			t.Fatal(err)
		}
		call.Hears(SystemPrompt(t, "sys_goodbye")) // and nothing else: the change took over
		call.ExpectBye()
	})
}

func TestActionIfMatch(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		stale := act(b, id, 1, func(a *control.Action) { a.Change, a.IfMatch = hangUp(), "0" })
		if control.CodeOf(stale) != control.CodePrecondition {
			t.Fatalf("with the etag of before the answer: %v", stale)
		}
		if err := act(b, id, 2, func(a *control.Action) { a.Change, a.IfMatch = hangUp(), "1" }); err != nil {
			t.Fatalf("with the present etag: %v", err)
		}
		call.ExpectBye()
		settled(t, b, map[string]webhooks.EventType{"act_2": webhooks.EventActionCompleted})
	})
}

func TestActionsOnTheSameVersionOneIsTaken(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		const writers = 8
		codes := make(chan control.Code, writers)
		var all sync.WaitGroup
		for n := range writers {
			all.Go(func() {
				codes <- control.CodeOf(act(b, id, n, func(a *control.Action) { a.Change, a.IfMatch = hangUp(), "1" }))
			})
		}
		all.Wait()
		close(codes)
		got := map[control.Code]int{}
		for code := range codes {
			got[code]++
		}
		// Who came after the winner's hang-up took effect is too late.
		if got[""] != 1 || got[control.CodePrecondition]+got[control.CodeNotFound] != writers-1 {
			t.Errorf("%v", got)
		}
		call.ExpectBye()
	})
}

func TestActionTooLate(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		call.HangUp()
		b.Idle()
		if err := act(b, id, 1, func(a *control.Action) { a.Change = hangUp() }); control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("after the end: %v", err)
		}
		settled(t, b, nil)
	})
}

func TestActionOfAnotherAccount(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		err := act(b, id, 1, func(a *control.Action) { a.Change, a.AccountID = hangUp(), "acc_00000000000000000000000002" })
		if control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("%v", err)
		}
		b.Pass(time.Second)
		call.Talking()
		call.HangUp()
	})
}

func TestEveryActionTakenIsToldOfOnceThoughTheCallEnds(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := waiting(b)
		want := map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted}
		if err := act(b, id, 1, func(a *control.Action) { a.Change = hangUp() }); err != nil {
			t.Fatal(err)
		}
		for n := 2; n < 6; n++ { // in the same moment
			if act(b, id, n, func(a *control.Action) { a.Change = hangUp() }) == nil {
				want["act_"+strconv.Itoa(n)] = webhooks.EventActionFailed
			}
		}
		call.ExpectBye()
		settled(t, b, want)
	})
}

func TestChangeToADialingCallerEndsTheRinging(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, ``).Answered()
		id := b.Event(webhooks.EventCallInitiated).CallID
		ringing := callee.Rings()
		if err := act(b, id, 1, func(a *control.Action) { a.Change.Program = Program(t, `[{"verb":"hangup"}]`) }); err != nil {
			t.Fatal(err)
		}
		ringing.ExpectCancel()
		call.ExpectBye()
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted})
	})
}

// originate has the edge call a phone on behalf of the API.
func originate(t *testing.T, b *Bench, change func(*control.Originate)) webhooks.CallID {
	t.Helper()
	o := control.Originate{
		CallID: webhooks.NewCallID(), AccountID: Account, Target: webhooks.DialTarget{Extension: "1001"}, From: "+862368925278", Language: "en",
		Application: control.Application{ID: "app_stored", Format: control.FormatNative, VoiceURL: b.App.URL + "/voice"},
	}
	if change != nil {
		change(&o)
	}
	if err := b.Calls.Originate(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	return o.CallID
}

func TestOriginatedCallIsAnswered(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		b.App.Answer("/voice", `[{"verb":"play","media_id":"sys_welcome"}]`)
		id := originate(t, b, func(o *control.Originate) {
			o.Data, o.ExternalID, o.CustomerID = map[string]any{"order": "17"}, "ext-1", "cus_1"
		})
		call := phone.Rings()
		b.Pass(2 * time.Second)
		b.App.ExpectNothing()
		call.Answer()
		b.App.Expect("answered", "call_id", string(id), "direction", "outbound_api", "from", "+862368925278", "to", "1001",
			"data.order", "17", "status", "in_progress", "external_id", "ext-1", "customer_id", "cus_1")
		if e := b.Event(webhooks.EventCallInitiated); e.Data.CustomerID != "cus_1" {
			t.Errorf("begins as %+v", e.Data)
		}
		call.Hears(SystemPrompt(t, "sys_welcome"))
		call.ExpectBye()
		if cdr := b.Ended(webhooks.CauseProgramEnd); cdr.Status != webhooks.StatusCompleted || cdr.RingTime < 2 || cdr.SIPCode != 200 {
			t.Errorf("%+v", cdr)
		}
	})
}

func TestAnOriginatedCallsStatusURLIsToldItsEvents(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Secrets(secret)
		b.App.Answer("/voice", `[{"verb":"gather","num_digits":1}]`)
		originate(t, b, func(o *control.Originate) {
			o.StatusURL, o.Application.Secrets = b.App.URL+"/status", []string{secret}
		})
		call := b.Phone("1001").Rings().Answer()
		call.Press("1")
		call.ExpectBye()
		b.Idle()
		b.Pass(time.Second)
		emitted, requests := b.Events(), told(b, "/status")
		if len(requests) != len(emitted) {
			t.Fatalf("%d events were told, of %d: %s", len(requests), len(emitted), kinds(emitted))
		}
		for i, r := range requests {
			if id := r.Header.Get(webhooks.HeaderID); id != string(emitted[i].ID) {
				t.Errorf("%s is told as %s", emitted[i].Type, id)
			}
		}
	})
}

func TestAnOriginatedCallOfTwiMLIsToldByStatusCallbacksThatAreCounted(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Secrets(secret)
		b.App.Answer("/voice", `<Response><Record timeout="1" playBeep="false"/></Response>`)
		originate(t, b, func(o *control.Originate) {
			o.StatusURL, o.Application.Format, o.Application.Secrets = b.App.URL+"/status", control.FormatTwiML, []string{secret}
		})
		b.Phone("1001").Rings().Answer().HangUp()
		b.Idle()
		b.Pass(time.Second)
		var got []string
		for _, r := range told(b, "/status") {
			form, err := url.ParseQuery(string(r.Body))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, form.Get("SequenceNumber")+" "+form.Get("CallStatus"))
		}
		if want := []string{"0 initiated", "1 ringing", "2 in-progress", "3 completed"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

func TestClickToCallShowsTheAgentTheCustomer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Phone("1002").Agent = "agt_7"
		id := originate(t, b, func(o *control.Originate) {
			o.Target, o.ShowsCalled = webhooks.DialTarget{Number: "1001"}, true
			o.Application = application(b, `[{"verb":"dial","to":[{"agent":"agt_7"}]}]`)
		})
		customer := b.Phone("1001").Rings().Answer()
		agent := b.Phone("1002").Rings()
		if from := user(uri(agent.request.header("From"))); from != "1001" {
			t.Errorf("the agent is called by %s", from)
		}
		agent.Answer()
		talking(customer, agent)
		agent.HangUp()
		customer.ExpectBye()
		legs := b.Events(webhooks.EventCallInitiated)
		if len(legs) != 2 || legs[0].CallID != id || legs[0].Data.From != "+862368925278" || legs[1].Data.ParentCallID != id || legs[1].Data.AgentID != "agt_7" {
			t.Errorf("legs %+v", legs)
		}
	})
}

func TestOriginatedCallIsNotAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		callee func(*Phone)
		cause  webhooks.Cause
		status webhooks.Status
		code   int
	}{
		"busy":      {func(p *Phone) { p.Called().Busy() }, webhooks.CauseBusy, webhooks.StatusBusy, 486},
		"declined":  {func(p *Phone) { p.Called().Decline() }, webhooks.CauseDeclined, webhooks.StatusRejected, 603},
		"no answer": {func(p *Phone) { p.Rings().ExpectCancel() }, webhooks.CauseNoAnswer, webhooks.StatusNoAnswer, 480},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				phone := b.Phone("1001")
				originate(t, b, func(o *control.Originate) { o.Timeout = 10 })
				c.callee(phone)
				if cdr := b.Ended(c.cause); cdr.Status != c.status || cdr.SIPCode != c.code || cdr.AnsweredAt != nil {
					t.Errorf("%+v", cdr)
				}
				b.App.ExpectNothing()
			})
		})
	}
}

func TestOriginatedCallToNobody(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		originate(t, b, func(o *control.Originate) { o.Target.Extension = "1999" })
		b.Ended(webhooks.CauseUnreachable)
	})
}

func TestOriginatedCallIsHungUpWhileItRings(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		id := originate(t, b, nil)
		ringing := phone.Rings()
		if err := act(b, id, 1, func(a *control.Action) { a.Change = hangUp() }); err != nil {
			t.Fatal(err)
		}
		ringing.ExpectCancel()
		b.Ended(webhooks.CauseAPIHangup)
		settled(t, b, map[string]webhooks.EventType{"act_1": webhooks.EventActionCompleted})
	})
}

func TestChangeWhileItRingsIsWhatRunsOnceAnswered(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		id := originate(t, b, nil)
		ringing := phone.Rings()
		for n, prompt := range []string{"sys_hold", "sys_goodbye"} {
			if err := act(b, id, n, func(a *control.Action) { a.Change.Program = Program(t, `[{"verb":"play","media_id":"`+prompt+`"}]`) }); err != nil {
				t.Fatal(err)
			}
		}
		b.Pass(time.Second)
		ringing.Answer()
		ringing.Hears(SystemPrompt(t, "sys_goodbye"))
		ringing.ExpectBye()
		settled(t, b, map[string]webhooks.EventType{"act_0": webhooks.EventActionFailed, "act_1": webhooks.EventActionCompleted})
	})
}

func TestOriginatedCallIsRecordedAndPressesKeys(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		b.App.Answer("/voice", `[{"verb":"pause","length":2}]`)
		originate(t, b, func(o *control.Originate) { o.Record, o.SendDigits = true, "W12" })
		call := phone.Rings().Answer()
		call.Pressed("12")
		call.ExpectBye()
		if _, f := shipped(t, b); f.Channels != 2 || f.Samples < 2*perSecond {
			t.Errorf("%+v", f)
		}
	})
}

func TestOriginatedCallReachesItsTimeLimit(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		phone := b.Phone("1001")
		b.App.Answer("/voice", `[{"verb":"pause","length":60}]`)
		originate(t, b, func(o *control.Originate) { o.TimeLimit = 5 })
		phone.Rings().Answer().ExpectByeWithin(6 * time.Second)
		b.Ended(webhooks.CauseTimeLimit)
	})
}
