package calltest

import (
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// ringsAt1002 has 1001 dial 1002, which rings, and asks for 1003 to pick that up.
func ringsAt1002(b *Bench) (caller, ringing, other *Call) {
	b.t.Helper()
	callee, third := b.Phone("1002"), b.Phone("1003")
	caller = dialing(b, to1002, ``).Answered()
	ringing = callee.Rings()
	b.Event(webhooks.EventCallRinging)
	changing(b, calledAt(b, "1002"), 1, `{"op":"pick_up",`+by1003+`}`)
	return caller, ringing, third.Rings()
}

func TestPickUpAnswersAtAnotherPhone(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		caller, ringing, other := ringsAt1002(b)
		other.Answer()
		if reason := ringing.ExpectCancel(); reason == "" {
			t.Error("the phone that rang is not told that the call was answered elsewhere")
		}
		if e := b.Event(webhooks.EventActionCompleted); e.CallID != calledAt(b, "1002") || e.Data.Op != "pick_up" {
			t.Errorf("told of %+v", e)
		}
		talking(caller, other)
		other.HangUp()
		if r := b.App.Expect("/done", "outcome", "completed"); r.Value("trigger.call_id") != string(calledAt(b, "1003")) {
			t.Errorf("the dial ended with %s", r.Body)
		}
		caller.ExpectBye()
		settled(t, b, map[string]webhooks.EventType{"act_00000000000000000000000001": webhooks.EventActionCompleted})
	})
}

func TestPickUpThatComesToNothing(t *testing.T) {
	for name, c := range map[string]struct {
		do  func(b *Bench, caller, ringing, other *Call)
		why string
	}{
		"the other is busy": {func(_ *Bench, caller, ringing, other *Call) {
			other.Busy()
			ringing.Answer()
			talking(caller, ringing)
			caller.HangUp()
		}, "is busy"},
		"the other declines": {func(_ *Bench, caller, ringing, other *Call) {
			other.Decline()
			ringing.Answer()
			caller.HangUp()
		}, "declined"},
		"the phone that rings answers first": {func(_ *Bench, caller, ringing, other *Call) {
			ringing.Answer()
			other.ExpectCancel()
			talking(caller, ringing)
			caller.HangUp()
		}, "elsewhere"},
		"the caller hangs up": {func(_ *Bench, caller, ringing, other *Call) {
			caller.HangUp()
			ringing.ExpectCancel()
			other.ExpectCancel()
		}, ""},
		"the phone that rings is busy": {func(_ *Bench, caller, ringing, other *Call) {
			ringing.Busy()
			other.ExpectCancel()
			caller.ExpectBye()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				caller, ringing, other := ringsAt1002(b)
				c.do(b, caller, ringing, other)
				outcomeOf(b, webhooks.EventActionFailed, c.why)
				settled(t, b, map[string]webhooks.EventType{"act_00000000000000000000000001": webhooks.EventActionFailed})
			})
		})
	}
}

func TestPickUpOfWhatDoesNotRing(t *testing.T) {
	supervised(t, func(_ *testing.T, b *Bench, k *talk) {
		b.Phone("1003")
		k.change(k.to, "pick_up", by1003)
		outcomeOf(b, webhooks.EventActionFailed, "does not ring")
		k.change(k.from, "pick_up", by1003)
		outcomeOf(b, webhooks.EventActionFailed, "does not ring")
		k.goesOn()
		b.Pass(time.Second)
		k.over(k.caller)
	})
}
