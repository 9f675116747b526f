package calltest

import (
	"context"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// replace changes what a call runs.
func replace(t *testing.T, b *Bench, id webhooks.CallID, program string) {
	t.Helper()
	change, err := webhooks.ParseAction([]byte(`{"instructions":` + program + `}`))
	if err != nil {
		t.Fatal(err)
	}
	a := control.Action{ActionID: webhooks.NewActionID(), AccountID: Account, CallID: id, Change: change}
	if err := b.Calls.Act(context.Background(), a); err != nil {
		t.Fatal(err)
	}
}

// parking binds 1000 to a program that parks, and 2000 to one that picks up slot 701; the outcomes are told at /parked
// and /picked.
func parking(b *Bench, park string) {
	b.Webhook("1000", func(a *control.Application) { a.VoiceURL = b.App.URL + "/park" })
	b.Webhook("2000", func(a *control.Application) { a.VoiceURL = b.App.URL + "/pick" })
	b.App.Answer("/park", `[{"verb":"park","on":{"default":"/parked"}`+park+`}]`)
	b.App.Answer("/pick", `[{"verb":"unpark","slot":"701","on":{"default":"/picked"}}]`)
	b.App.Answer("/parked", `[{"verb":"play","media_id":"sys_goodbye"}]`)
	b.App.Answer("/picked", `[{"verb":"play","media_id":"sys_busy"}]`)
}

// toldAt waits until the application was told something at a path, and checks the outcome. The order in which two legs
// tell is nobody's business.
func toldAt(t *testing.T, b *Bench, path string, outcome webhooks.Outcome) webhooks.Trigger {
	t.Helper()
	var got webhooks.Trigger
	b.until(patience, path+" was not asked", func() bool {
		for _, r := range b.App.Requests() {
			if r.Path == path && r.Call.Trigger != nil {
				got = *r.Call.Trigger
				return true
			}
		}
		return false
	})
	if got.Outcome != outcome || got.Slot != "701" {
		t.Errorf("%s was told %+v, expected %s", path, got, outcome)
	}
	return got
}

// inSlot parks a call, and returns when it is.
func inSlot(b *Bench) (*Call, webhooks.CallID) {
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("/park")
	return call, b.Event(webhooks.EventCallParked).CallID
}

// pickedUp has somebody pick the call up, and waits until the two speak.
func pickedUp(b *Bench, parked *Call) *Call {
	picker := b.Phone("1002").Dial("2000").Answered()
	b.App.Expect("/pick")
	b.Event(webhooks.EventCallUnparked)
	first, second := Voice(1, time.Second), Voice(2, time.Second)
	parked.Talk(first)
	picker.Talk(second)
	picker.Hears(first)
	parked.Hears(second)
	return picker
}

// settledPark checks that every stay has ended, and nobody is in a slot.
func settledPark(t *testing.T, b *Bench) {
	t.Helper()
	contractKept(t, b)
	if in, out := len(b.Events(webhooks.EventCallParked)), len(b.Events(webhooks.EventCallUnparked)); in != out {
		t.Errorf("%d calls were parked, %d unparked", in, out)
	}
	if left := b.Plane.Parked(); len(left) != 0 {
		t.Errorf("in slots: %v", left)
	}
}

func TestParkedCallHearsMusicAndIsPickedUp(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, "")
		parked, id := inSlot(b)
		parked.Hears(SystemPrompt(t, "sys_hold"))
		parked.Hears(SystemPrompt(t, "sys_hold"))
		if got := b.Plane.Parked(); got["701"] != id {
			t.Errorf("in slots: %v", got)
		}
		picker := pickedUp(b, parked)
		if got := b.Events(webhooks.EventCallUnparked)[0].Data; got.Slot != "701" || *got.Waited < 1 || got.PeerCallID == "" {
			t.Errorf("%+v", got)
		}
		if n := len(b.Events(webhooks.EventCallBridged)); n != 2 {
			t.Errorf("%d legs were told that they are bridged", n)
		}
		picker.HangUp()
		picked, left := toldAt(t, b, "/picked", webhooks.Hangup), toldAt(t, b, "/parked", webhooks.Bridged)
		if picked.CallID != id || left.CallID == "" || *picked.Waited != *left.Waited || *picked.Duration < 1 || *left.Duration < 1 {
			t.Errorf("told %+v and %+v", picked, left)
		}
		parked.Hears(SystemPrompt(t, "sys_goodbye")) // it goes on by itself
		parked.ExpectBye()
		settledPark(t, b)
	})
}

func TestWhoPicksUpGoesOnWhenTheParkedCallEnds(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *Bench, parked *Call, id webhooks.CallID){
		"by a hang-up": func(t *testing.T, b *Bench, parked *Call, _ webhooks.CallID) {
			parked.HangUp()
			toldAt(t, b, "/parked", webhooks.Hangup)
		},
		"by a live change": func(t *testing.T, b *Bench, parked *Call, id webhooks.CallID) {
			replace(t, b, id, `[{"verb":"play","media_id":"sys_hold"}]`)
			toldAt(t, b, "/parked", webhooks.Redirected)
			parked.Hears(SystemPrompt(t, "sys_hold"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				parking(b, "")
				parked, id := inSlot(b)
				picker := pickedUp(b, parked)
				end(t, b, parked, id)
				if got := toldAt(t, b, "/picked", webhooks.Bridged); got.CallID != id {
					t.Errorf("told %+v", got)
				}
				picker.Hears(SystemPrompt(t, "sys_busy"))
				picker.ExpectBye()
				settledPark(t, b)
			})
		})
	}
}

func TestLiveChangeTakesWhoHasPickedUpAway(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, "")
		parked, _ := inSlot(b)
		picker := pickedUp(b, parked)
		replace(t, b, b.Events(webhooks.EventCallUnparked)[0].Data.PeerCallID, `[{"verb":"play","media_id":"sys_hold"}]`)
		toldAt(t, b, "/picked", webhooks.Redirected)
		toldAt(t, b, "/parked", webhooks.Bridged)
		picker.Hears(SystemPrompt(t, "sys_hold"))
		parked.Hears(SystemPrompt(t, "sys_goodbye"))
		settledPark(t, b)
	})
}

func TestParkedCallThatEndsLeavesItsSlot(t *testing.T) {
	for name, c := range map[string]struct {
		end     func(t *testing.T, b *Bench, parked *Call, id webhooks.CallID)
		outcome string
	}{
		"by a hang-up": {func(_ *testing.T, _ *Bench, parked *Call, _ webhooks.CallID) { parked.HangUp() }, "hangup"},
		"by a live change": {func(t *testing.T, b *Bench, _ *Call, id webhooks.CallID) {
			replace(t, b, id, `[{"verb":"pause","length":1}]`)
		}, "redirected"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				parking(b, `,"slot":"701"`)
				parked, id := inSlot(b)
				b.Pass(time.Second)
				c.end(t, b, parked, id)
				b.App.Expect("/parked", "outcome", c.outcome, "slot", "701")
				late := b.Phone("1002").Dial("2000").Answered()
				b.App.Expect("/pick")
				b.App.Expect("/picked", "outcome", "empty", "slot", "701")
				late.ExpectBye()
				settledPark(t, b)
			})
		})
	}
}

func TestSlotIsGivenOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, `,"slot":"701"`)
		inSlot(b)
		b.Phone("1002").Dial("1000").Answered()
		b.App.Expect("/park")
		b.App.Expect("/parked", "outcome", "failed", "error", "slot 701 is taken")
		b.App.Answer("/park", `[{"verb":"park","on":{"default":"/parked"}}]`)
		b.Phone("1003").Dial("1000").Answered()
		b.App.Expect("/park")
		if e := b.Event(webhooks.EventCallParked); e.Data.Slot != "702" {
			t.Errorf("the first free slot is %s", e.Data.Slot)
		}
	})
}

func TestOfTwoWhoPickUpOneDoes(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, "")
		_, id := inSlot(b)
		b.Phone("1002").Dial("2000")
		b.Phone("1003").Dial("2000")
		b.App.Expect("/pick")
		b.App.Expect("/pick")
		b.App.Expect("/picked", "outcome", "empty")
		e := b.Event(webhooks.EventCallUnparked)
		if e.CallID != id || e.Data.PeerCallID == "" {
			t.Errorf("%+v", e)
		}
	})
}

func TestParkedCallOnAnEdgeThatNobodyKnowsIsNotPickedUp(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, "")
		b.Plane.ParkElsewhere("701")
		call := b.Phone("1002").Dial("2000").Answered()
		b.App.Expect("/pick")
		b.App.Expect("/picked", "outcome", "failed", "slot", "701",
			"error", "the call in slot 701 is carried by another edge, and nobody knows where that is reached")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestSlotIsNotGivenWhileTheControlPlaneIsAway(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, "")
		b.App.Answer("/park", `[{"verb":"answer"},{"verb":"pause","length":1},{"verb":"park","on":{"default":"/parked"}}]`)
		b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("/park")
		b.Plane.Away(true)
		b.App.Expect("/parked", "outcome", "failed", "error", "the control plane is away; try again later")
		b.Plane.Away(false)
		settledPark(t, b)
	})
}

func TestParkedCallIsPickedUpWhileTheControlPlaneIsAway(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, "")
		b.App.Answer("/pick", `[{"verb":"answer"},{"verb":"pause","length":1},{"verb":"unpark","slot":"701","on":{"default":"/picked"}}]`)
		b.App.Answer("/parked", `[{"verb":"pause","length":30}]`)
		parked, id := inSlot(b)
		picker := b.Phone("1002").Dial("2000").Answered()
		b.App.Expect("/pick")
		b.Plane.Away(true)
		if e := b.Event(webhooks.EventCallUnparked); e.CallID != id {
			t.Errorf("%+v", e)
		}
		picker.HangUp()
		toldAt(t, b, "/picked", webhooks.Hangup)
		toldAt(t, b, "/parked", webhooks.Bridged)
		b.Pass(5 * time.Second)
		if got := b.Plane.Parked(); got["701"] != id {
			t.Errorf("in slots: %v", got)
		}
		b.Plane.Away(false)
		b.Pass(5 * time.Second)
		if got := b.Plane.Parked(); len(got) != 0 {
			t.Errorf("it is not given back while the call goes on: %v", got)
		}
		parked.HangUp()
		settledPark(t, b)
	})
}

func TestHangUpWhileASlotIsAskedForGivesItBack(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *Bench, call *Call){
		"a hang-up": func(_ *testing.T, b *Bench, call *Call) {
			call.HangUp()
			b.App.Expect("/parked", "outcome", "hangup")
		},
		"a live change": func(t *testing.T, b *Bench, _ *Call) {
			replace(t, b, b.Event(webhooks.EventCallInitiated).CallID, `[{"verb":"pause","length":3}]`)
			b.App.Expect("/parked", "outcome", "redirected")
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				parking(b, "")
				release := b.Plane.Hold()
				call := b.Phone("1001").Dial("1000").Answered()
				b.App.Expect("/park")
				b.Pass(500 * time.Millisecond)
				end(t, b, call)
				release()
				b.Pass(2 * time.Second)
				settledPark(t, b)
			})
		})
	}
}

func TestParkedCallSurvivesThoseWhoGiveUp(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		parking(b, `,"slot":"701"`)
		b.App.Answer("/parked", `[{"verb":"park","slot":"701","on":{"default":"/parked"}}]`) // it goes back
		parked, _ := inSlot(b)
		quick := b.Phone("1003")
		for moment := range 8 {
			call := quick.Dial("2000")
			b.Pass(time.Duration(moment) * 8 * time.Millisecond)
			call.Cancel()
			b.Pass(500 * time.Millisecond)
			if !call.final { // it was answered in the meantime
				call.ACK()
				call.HangUp()
			}
			b.Pass(500 * time.Millisecond)
		}
		b.Phone("1002").Dial("2000").Answered()
		b.Pass(500 * time.Millisecond)
		bridged := b.Events(webhooks.EventCallBridged)
		if len(bridged) == 0 || time.Since(bridged[len(bridged)-1].OccurredAt) > 600*time.Millisecond {
			t.Error("it could not be picked up at the end")
		}
		parked.HangUp()
		settledPark(t, b)
	})
}

// parkedHere parks a call on the bench's edge, and has 2000 of either edge pick it up.
func parkedHere(t *testing.T, tell func(t *testing.T, b *Bench, other *Edge, parked *Call, id webhooks.CallID)) {
	t.Helper()
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		parking(b, "")
		parked, id := inSlot(b)
		tell(t, b, other, parked, id)
	})
}

// pickedUpAt has somebody pick the call up on another edge, and waits until the two speak.
func pickedUpAt(b *Bench, other *Edge, parked *Call) *Call {
	b.t.Helper()
	b.Phone("1002").At(other)
	return pickedUp(b, parked)
}

func TestParkedCallIsPickedUpOnAnotherEdge(t *testing.T) {
	parkedHere(t, func(t *testing.T, b *Bench, other *Edge, parked *Call, id webhooks.CallID) {
		parked.Hears(SystemPrompt(t, "sys_hold"))
		picker := pickedUpAt(b, other, parked)
		by := callOf(b, "1002")
		if e := b.Events(webhooks.EventCallUnparked)[0]; e.CallID != id || e.Data.PeerCallID != by || *e.Data.Waited < 1 {
			t.Errorf("%+v", e)
		}
		bridged := map[webhooks.CallID]webhooks.CallID{}
		for _, e := range b.Events(webhooks.EventCallBridged) {
			bridged[e.CallID] = e.Data.PeerCallID
		}
		if len(bridged) != 2 || bridged[id] != by || bridged[by] != id {
			t.Errorf("bridged: %v", bridged)
		}
		picker.HangUp()
		picked, left := toldAt(t, b, "/picked", webhooks.Hangup), toldAt(t, b, "/parked", webhooks.Bridged)
		if picked.CallID != id || left.CallID != by || *picked.Waited < 1 || *left.Waited < 1 || *picked.Duration < 1 || *left.Duration < 1 {
			t.Errorf("told %+v and %+v", picked, left)
		}
		parked.Hears(SystemPrompt(t, "sys_goodbye")) // it goes on by itself
		parked.ExpectBye()
		bothIdle(b, other)
		settledPark(t, b)
		if n := len(b.Events(webhooks.EventCallInitiated)); n != 2 {
			t.Errorf("there were %d calls", n)
		}
	})
}

func TestTalkWithAParkedCallOfAnotherEdgeEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end            func(t *testing.T, b *Bench, other *Edge, parked *Call, id webhooks.CallID)
		picked, parked webhooks.Outcome
	}{
		"the parked one hangs up": {func(_ *testing.T, _ *Bench, _ *Edge, parked *Call, _ webhooks.CallID) { parked.HangUp() }, webhooks.Bridged, webhooks.Hangup},
		"the parked one is changed": {func(t *testing.T, b *Bench, _ *Edge, _ *Call, id webhooks.CallID) {
			replace(t, b, id, `[{"verb":"pause","length":1}]`)
		}, webhooks.Bridged, webhooks.Redirected},
		"the other is changed": {func(_ *testing.T, b *Bench, other *Edge, _ *Call, _ webhooks.CallID) {
			changingAt(b, other, callOf(b, "1002"), 1, `{"instructions":[{"verb":"pause","length":1}]}`)
		}, webhooks.Redirected, webhooks.Bridged},
		"the parked one's edge ends": {func(_ *testing.T, b *Bench, _ *Edge, _ *Call, _ webhooks.CallID) { b.StopCalls() }, webhooks.Bridged, webhooks.Hangup},
		"the other's edge ends":      {func(_ *testing.T, _ *Bench, other *Edge, _ *Call, _ webhooks.CallID) { other.StopCalls() }, webhooks.Hangup, webhooks.Bridged},
		"the two edges lose each other": {func(_ *testing.T, b *Bench, other *Edge, _ *Call, _ webhooks.CallID) {
			b.Impair(func(d Datagram) []time.Duration {
				if d.From.Addr() == edgeAddr.Addr() && d.To.Addr() == other.Addr.Addr() || d.To.Addr() == edgeAddr.Addr() && d.From.Addr() == other.Addr.Addr() {
					return nil
				}
				return onTime
			})
		}, webhooks.Bridged, webhooks.Bridged},
	} {
		t.Run(name, func(t *testing.T) {
			parkedHere(t, func(t *testing.T, b *Bench, other *Edge, parked *Call, id webhooks.CallID) {
				pickedUpAt(b, other, parked)
				c.end(t, b, other, parked, id)
				toldAt(t, b, "/picked", c.picked)
				toldAt(t, b, "/parked", c.parked)
				bothIdle(b, other)
				b.Impair(nil)
				settledPark(t, b)
			})
		})
	}
}

func TestOfTwoOnTwoEdgesWhoPickUpOneDoes(t *testing.T) {
	parkedHere(t, func(t *testing.T, b *Bench, other *Edge, _ *Call, id webhooks.CallID) {
		b.Phone("1002").At(other).Dial("2000").Answered()
		b.Phone("1003").Dial("2000").Answered()
		b.Phone("1004").At(other).Dial("2000").Answered()
		outcome(b, "/picked", 2, webhooks.Empty)
		if e := b.Event(webhooks.EventCallUnparked); e.CallID != id || e.Data.PeerCallID == "" {
			t.Errorf("%+v", e)
		}
		b.Pass(2 * time.Second)
		if n := len(b.Events(webhooks.EventCallUnparked)); n != 1 {
			t.Errorf("it was picked up %d times", n)
		}
	})
}

func TestParkedCallSurvivesThoseOfAnotherEdgeWhoGiveUp(t *testing.T) {
	parkedHere(t, func(t *testing.T, b *Bench, other *Edge, parked *Call, _ webhooks.CallID) {
		b.App.Answer("/parked", `[{"verb":"park","slot":"701","on":{"default":"/parked"}}]`) // it goes back
		quick := b.Phone("1003").At(other)
		for moment := range 8 {
			call := quick.Dial("2000")
			b.Pass(time.Duration(moment) * 8 * time.Millisecond)
			call.Cancel()
			b.Pass(500 * time.Millisecond)
			if !call.final { // it was answered in the meantime
				call.ACK()
				call.HangUp()
			}
			b.Pass(time.Second)
		}
		b.Phone("1002").At(other).Dial("2000").Answered()
		b.Pass(time.Second)
		bridged := b.Events(webhooks.EventCallBridged)
		if len(bridged) == 0 || time.Since(bridged[len(bridged)-1].OccurredAt) > 1100*time.Millisecond {
			t.Error("it could not be picked up at the end")
		}
		parked.HangUp()
		bothIdle(b, other)
		settledPark(t, b)
	})
}
