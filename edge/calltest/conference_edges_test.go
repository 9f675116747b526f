package calltest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// twoEdges is a story of two edges that know of each other. Phones named 11xx and up are to be told where they dial.
func twoEdges(t *testing.T, tell func(t *testing.T, b *Bench, other *Edge)) {
	t.Helper()
	story(t, func(t *testing.T, b *Bench) {
		other := b.AnotherEdge()
		b.Pass(1500 * time.Millisecond) // both have beaten
		tell(t, b, other)
		b.Close()
		checkStays(t, b)
	})
}

// checkStays: each leg has joined and left as often, each room has begun and ended once, and nothing was told after the end
// of a call but by a room.
func checkStays(t *testing.T, b *Bench) {
	t.Helper()
	in := map[webhooks.CallID]int{}
	begun, ended := map[webhooks.ConferenceID]int{}, map[webhooks.ConferenceID]int{}
	for _, e := range b.Events() {
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", e.Type, err)
		}
		switch e.Type {
		case webhooks.EventConferenceJoined:
			in[e.CallID]++
			ended[e.Data.ConferenceID] += 0
		case webhooks.EventConferenceLeft:
			in[e.CallID]--
		case webhooks.EventConferenceStarted:
			begun[e.Data.ConferenceID]++
		case webhooks.EventConferenceEnded:
			ended[e.Data.ConferenceID]++
		case webhooks.EventCallEnded:
			if in[e.CallID] != 0 {
				t.Errorf("%s ended while it was in a conference", e.CallID)
			}
		}
		if n := in[e.CallID]; n < 0 || n > 1 {
			t.Errorf("%s is %d times in a conference", e.CallID, n)
		}
	}
	for id, n := range ended {
		if n != 1 || begun[id] > 1 {
			t.Errorf("%s has begun %d times and ended %d times", id, begun[id], n)
		}
	}
}

// entersAt is enters for a phone that dials another edge.
func entersAt(b *Bench, e *Edge, phone, number string) (*Call, webhooks.CallID) {
	b.t.Helper()
	call := b.Phone(phone).At(e).Dial(number).Answered()
	return call, b.Event(webhooks.EventConferenceJoined).CallID
}

// changingAt is changing for a leg of another edge.
func changingAt(b *Bench, e *Edge, id webhooks.CallID, n int, change string) {
	b.t.Helper()
	parsed, err := webhooks.ParseAction([]byte(change))
	if err != nil {
		b.t.Fatal(err)
	}
	a := control.Action{ActionID: webhooks.ActionID(fmt.Sprintf("act_%026d", n)), AccountID: Account, CallID: id, Change: parsed}
	if err := e.Calls.Act(context.Background(), a); err != nil {
		b.t.Fatalf("%s: %v", change, err)
	}
}

func bothIdle(b *Bench, other *Edge) {
	b.t.Helper()
	b.Idle()
	b.until(time.Minute, "calls are left on the other edge", func() bool { return other.Calls.Live() == 0 })
	b.Pass(time.Second) // for the links
}

// expectRooms is expectRoom by the time that the events give: of one instant, the end of the room is the last.
func expectRooms(t *testing.T, b *Bench, want ...string) {
	t.Helper()
	roomStory(t, b)
	events := slices.DeleteFunc(b.Events(), func(e webhooks.Event) bool { return !e.Type.Matches("conference.*") })
	slices.SortStableFunc(events, func(x, y webhooks.Event) int {
		if d := x.OccurredAt.Compare(y.OccurredAt); d != 0 || x.Type == y.Type {
			return d
		}
		switch webhooks.EventConferenceEnded {
		case x.Type:
			return 1
		case y.Type:
			return -1
		}
		return 0
	})
	var got []string
	for _, e := range events {
		got = append(got, strings.TrimSpace(strings.TrimPrefix(string(e.Type), "conference.")+" "+e.Data.Reason))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the conference was told as\n%q, expected\n%q", got, want)
	}
}

func TestConferenceOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		first, one := enters(b, "1001", "1000")
		first.Hears(SystemPrompt(t, "sys_hold"))
		second, two := entersAt(b, other, "1002", "1000")
		third, three := entersAt(b, other, "1003", "1000")
		if e := b.Event(webhooks.EventConferenceStarted); e.CallID != one || *e.Data.Participants != 2 {
			t.Errorf("started: %+v", e)
		}
		speaking(b, 1, first, second, third)
		speaking(b, 2, second, first, third)
		speaking(b, 3, third, first, second)
		second.HangUp()
		speaking(b, 4, third, first)
		first.HangUp() // whose edge it is
		fourth, _ := entersAt(b, other, "1004", "1000")
		speaking(b, 5, third, fourth)
		fourth.HangUp()
		third.HangUp()
		bothIdle(b, other)
		expectRooms(t, b, "joined", "joined", "started", "joined", "left hangup", "left hangup", "joined", "left hangup", "left hangup", "ended last_left")
		ids := map[webhooks.ConferenceID]bool{}
		for _, e := range b.Events(webhooks.EventConferenceJoined) {
			ids[e.Data.ConferenceID] = true
		}
		if len(ids) != 1 || two == three {
			t.Errorf("the conferences were %v", ids)
		}
		// No call but those of the phones.
		if n := len(b.Events(webhooks.EventCallInitiated)); n != 4 {
			t.Errorf("there were %d calls", n)
		}
		if given, left := b.Plane.Tickets(); given != 3 || left != 0 {
			t.Errorf("%d tickets were given, %d are left", given, left)
		}
	})
}

func TestConferenceModesOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		conferring(b, "2000", `,"mode":"listen"`)
		customer, _ := enters(b, "1001", "1000")
		agent, id := entersAt(b, other, "1002", "1000")
		conferring(b, "3000", `,"mode":"whisper","whisper_to":"`+string(id)+`"`)
		near, _ := enters(b, "1003", "3000")
		far, _ := entersAt(b, other, "1004", "3000")
		listener, _ := entersAt(b, other, "1005", "2000")
		speaking(b, 1, customer, agent, near, far, listener)
		speaking(b, 2, near, agent)
		unheard(b, 3, near, customer, far, listener)
		speaking(b, 4, far, agent)
		unheard(b, 5, far, customer, near, listener)
		unheard(b, 6, listener, customer, agent)
		for _, c := range []*Call{customer, agent, near, far, listener} {
			c.HangUp()
		}
		bothIdle(b, other)
	})
}

func TestConferenceSupervisionOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		b.Program("2000", `[{"verb":"play","tone":"500","loop":0}]`)
		customer, _ := enters(b, "1001", "1000")
		agent, id := entersAt(b, other, "1002", "1000")
		supervisor := b.Phone("1003").At(other).Dial("2000").Answered()
		supervisor.HearsTone(500)
		by := callOf(b, "1003")
		op := func(n int, name string) { changingAt(b, other, id, n, `{"op":"`+name+`","call_id":"`+string(by)+`"}`) }
		op(1, "listen") // the room's edge does not know it
		b.Event(webhooks.EventConferenceJoined)
		speaking(b, 1, customer, agent, supervisor)
		unheard(b, 2, supervisor, agent, customer)
		op(2, "whisper")
		speaking(b, 3, supervisor, agent)
		unheard(b, 4, supervisor, customer)
		op(3, "barge")
		speaking(b, 5, supervisor, agent, customer)
		changingAt(b, other, id, 4, `{"op":"listen","call_id":"call_nobody"}`)
		if e := b.Event(webhooks.EventActionFailed); !strings.Contains(e.Data.Message, "call_nobody") {
			t.Errorf("told %+v", e.Data)
		}
		b.Event(webhooks.EventActionCompleted)
		for _, c := range []*Call{customer, agent, supervisor} {
			c.HangUp()
		}
		bothIdle(b, other)
		expectRooms(t, b, "joined", "joined", "started", "joined", "modified", "modified",
			"left hangup", "left hangup", "left hangup", "ended last_left")
	})
}

func TestConferenceMuteAndHoldOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", `,"muted":true`)
		conferring(b, "2000", ``)
		near, _ := enters(b, "1002", "2000")
		far, id := entersAt(b, other, "1001", "1000")
		unheard(b, 1, far, near)
		changingAt(b, other, id, 1, `{"op":"unmute"}`)
		changingAt(b, other, id, 2, `{"op":"unmute"}`)
		speaking(b, 2, far, near)
		changingAt(b, other, id, 3, `{"op":"mute"}`)
		unheard(b, 3, far, near)
		speaking(b, 4, near, far)
		changingAt(b, other, id, 4, `{"op":"unmute"}`)
		b.Pass(time.Second)
		changingAt(b, other, id, 5, `{"op":"hold"}`)
		b.Event(webhooks.EventConferenceHeld)
		far.Forget()
		near.Talk(Voice(5, time.Second))
		soon(far, SystemPrompt(t, "sys_hold"))
		unheard(b, 6, far, near)
		changingAt(b, other, id, 6, `{"op":"unhold"}`)
		speaking(b, 7, far, near)
		speaking(b, 8, near, far)
		changingAt(b, other, id, 7, `{"op":"hold","prompt":[]}`)
		unheard(b, 9, near, far)
		changingAt(b, other, id, 8, `{"op":"unhold"}`)
		speaking(b, 10, near, far)
		far.HangUp()
		near.HangUp()
		bothIdle(b, other)
		expectRooms(t, b, "joined", "joined", "started", "unmuted", "muted", "unmuted", "held", "unheld", "held", "unheld",
			"left hangup", "left hangup", "ended last_left")
		if n := len(b.Events(webhooks.EventActionCompleted)); n != 8 {
			t.Errorf("%d actions were completed of 8", n)
		}
	})
}

// A moderator of another edge begins the conference, and ends it when he goes; those who wait hear the wait program of their
// own edge.
func TestConferenceModeratedOverTwoEdges(t *testing.T) {
	for name, far := range map[string]bool{"the moderator is of another edge": true, "the guests are of another edge": false} {
		t.Run(name, func(t *testing.T) {
			twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"conference","name":"team","start_on_enter":false,"wait":"/wait","action":"/guest"}]`)
				b.App.Answer("/wait", `[{"verb":"play","media_id":"sys_welcome"},{"verb":"gather","num_digits":1,"timeout":60,"action":"/key"}]`)
				b.App.Answer("/key", `[]`)
				b.App.Answer("/guest", `[{"verb":"hangup"}]`)
				b.Webhook("2000", func(a *control.Application) { a.VoiceURL = b.App.URL + "/host" })
				b.App.Answer("/host", `[{"verb":"conference","name":"team","end_on_exit":true,"hang_up_on":"*","label":"host","action":"/left"}]`)
				b.App.Answer("/left", `[{"verb":"hangup"}]`)
				conferring(b, "3000", `,"start_on_enter":false`)
				anchor, _ := enters(b, "1009", "3000") // makes it
				in := func(phone, number string, elsewhere bool) (*Call, webhooks.CallID) {
					if elsewhere {
						return entersAt(b, other, phone, number)
					}
					return enters(b, phone, number)
				}
				guest, _ := in("1001", "1000", !far)
				soon(guest, SystemPrompt(t, "sys_welcome"))
				guest.Press("5")
				b.App.Expect("incoming")
				r := b.App.Expect("wait")
				if r.Value("waiting.name") != "team" || r.Value("waiting.size") != "2" || r.Value("waiting.conference_id") == "" {
					t.Errorf("asked %s", r.Body)
				}
				b.App.Expect("/key", "digits", "5")
				b.Pass(time.Minute) // it waits as long as it takes
				host, id := in("1002", "2000", far)
				b.App.Expect("incoming")
				speaking(b, 1, host, guest, anchor)
				speaking(b, 2, guest, host, anchor)
				host.Press("*")
				b.App.Expect("/left", "outcome", "left")
				b.App.Expect("/guest", "outcome", "ended")
				guest.ExpectBye()
				host.ExpectBye()
				bothIdle(b, other)
				expectRooms(t, b, "joined", "joined", "joined", "started", "left left", "left ended", "left ended", "ended ender_left")
				if e := b.Event(webhooks.EventConferenceEnded); e.Data.EndedByCall != id || e.Data.Label != "host" {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

func TestConferenceOutcomesOfALegOfAnotherEdge(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		do         func(b *Bench, other *Edge, call *Call, id, near webhooks.CallID)
		outcome    string
		reason     string
	}{
		"by its key":        {`,"hang_up_on":"#"`, func(_ *Bench, _ *Edge, call *Call, _, _ webhooks.CallID) { call.Press("#") }, "left", "left"},
		"by its time limit": {`,"time_limit":5`, func(*Bench, *Edge, *Call, webhooks.CallID, webhooks.CallID) {}, "left", "left"},
		"dropped by itself": {``, func(b *Bench, other *Edge, _ *Call, id, _ webhooks.CallID) {
			changingAt(b, other, id, 1, `{"op":"drop","call_id":"`+string(id)+`"}`)
		}, "kicked", "kicked"},
		"dropped by a leg of the room's edge": {``, func(b *Bench, _ *Edge, _ *Call, id, near webhooks.CallID) {
			changing(b, near, 1, `{"op":"drop","call_id":"`+string(id)+`"}`)
		}, "kicked", "kicked"},
		"ended by the API": {``, func(b *Bench, other *Edge, _ *Call, id, _ webhooks.CallID) {
			changingAt(b, other, id, 1, `{"op":"disconnect"}`)
		}, "ended", "ended"},
		"ended by the API at the room's edge": {``, func(b *Bench, _ *Edge, _ *Call, _, near webhooks.CallID) {
			changing(b, near, 1, `{"op":"disconnect"}`)
		}, "ended", "ended"},
		"changed": {``, func(b *Bench, other *Edge, _ *Call, id, _ webhooks.CallID) {
			changingAt(b, other, id, 1, `{"instructions":[{"verb":"play","media_id":"sys_busy"}]}`)
		}, "redirected", "redirected"},
		"hung up by its phone": {``, func(_ *Bench, _ *Edge, call *Call, _, _ webhooks.CallID) { call.HangUp() }, "hangup", "hangup"},
		"hung up by the API": {``, func(b *Bench, other *Edge, _ *Call, id, _ webhooks.CallID) {
			changingAt(b, other, id, 1, `{"op":"hangup"}`)
		}, "hangup", "hangup"},
		"its edge ends":        {``, func(_ *Bench, other *Edge, _ *Call, _, _ webhooks.CallID) { other.StopCalls() }, "hangup", "hangup"},
		"the room's edge ends": {``, func(b *Bench, _ *Edge, _ *Call, _, _ webhooks.CallID) { b.StopCalls() }, "ended", "ended"},
	} {
		for _, begun := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s begun=%v", name, begun), func(t *testing.T) {
				twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
					starts := fmt.Sprintf(`,"start_on_enter":%v`, begun)
					b.Webhook("1000", nil)
					b.App.Answer("/voice", `[{"verb":"conference","id":"c","name":"team"`+starts+c.attributes+`,"action":"/done"}]`)
					b.App.Answer("/done", `[{"verb":"pause","length":1}]`)
					conferring(b, "2000", starts)
					first, near := enters(b, "1002", "2000")
					call, id := entersAt(b, other, "1001", "1000")
					b.App.Expect("incoming")
					b.Pass(time.Second)
					c.do(b, other, call, id, near)
					r := b.App.Expect("/done", "outcome", c.outcome, "id", "c")
					if err := r.Call.Trigger.Check(); err != nil || r.Call.Trigger.ConferenceID == "" {
						t.Errorf("told %s: %v", r.Body, err)
					}
					var told []string
					for _, e := range b.Events(webhooks.EventConferenceLeft) {
						if e.CallID == id {
							told = append(told, e.Data.Reason)
						}
					}
					if !slices.Equal(told, []string{c.reason}) {
						t.Errorf("told %q", told)
					}
					b.until(patience, "the call goes on", func() bool { return call.final })
					if c.outcome != "ended" && name != "the room's edge ends" {
						b.Pass(2 * time.Second)
						first.HangUp()
					}
					bothIdle(b, other)
					if name == "ended by the API" || name == "dropped by itself" {
						b.Event(webhooks.EventActionCompleted)
					}
				})
			})
		}
	}
}

func TestConferenceFullOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","max_participants":2,"action":"/done"}]`)
		b.App.Answer("/done", `[{"verb":"hangup"}]`)
		first, _ := enters(b, "1001", "1000")
		second, _ := entersAt(b, other, "1002", "1000")
		third := b.Phone("1003").At(other).Dial("1000").Answered()
		for range 3 {
			b.App.Expect("incoming")
		}
		r := b.App.Expect("/done", "outcome", "full")
		if r.Value("trigger.conference_id") == "" || r.Value("trigger.duration") != "0" {
			t.Errorf("told %s", r.Body)
		}
		third.ExpectBye()
		fourth := b.Phone("1004").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.App.Expect("/done", "outcome", "full")
		fourth.ExpectBye()
		speaking(b, 1, first, second)
		first.HangUp()
		second.HangUp()
		bothIdle(b, other)
	})
}

func TestConferenceLabelIsUniqueOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", `,"label":"host"`)
		first, _ := enters(b, "1001", "1000")
		second := b.Phone("1002").At(other).Dial("1000").Answered()
		second.Hears(SystemPrompt(t, "sys_goodbye"))
		second.ExpectBye()
		first.HangUp()
		bothIdle(b, other)
	})
}

func TestConferenceAnnouncementOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		near, _ := enters(b, "1001", "1000")
		far, id := entersAt(b, other, "1002", "1000")
		b.Pass(time.Second)
		near.Forget()
		far.Forget()
		changingAt(b, other, id, 1, `{"op":"play","media_id":"sys_goodbye","to":"both"}`)
		near.Hears(SystemPrompt(t, "sys_goodbye"))
		far.Hears(SystemPrompt(t, "sys_goodbye"))
		if e := b.Event(webhooks.EventConferenceAnnouncementEnded); e.CallID != id {
			t.Errorf("told of %s", e.CallID)
		}
		changingAt(b, other, id, 2, `{"op":"play","url":"`+b.App.URL+`/none.wav","to":"both"}`)
		if e := b.Event(webhooks.EventConferenceAnnouncementFailed); e.CallID != id || e.Data.URL != b.App.URL+"/none.wav" || e.Data.Message == "" {
			t.Errorf("told %+v", e)
		}
		b.Event(webhooks.EventActionFailed)
		changingAt(b, other, id, 3, `{"op":"play","recording_id":"rec_1","to":"both"}`)
		b.Event(webhooks.EventActionFailed)
		changingAt(b, other, id, 4, `{"op":"play","media_id":"sys_busy"}`)
		far.Hears(SystemPrompt(t, "sys_busy"))
		near.HearsSilence(time.Second)
		near.HangUp()
		far.HangUp()
		bothIdle(b, other)
	})
}

func TestConferenceBeepsOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		conferring(b, "2000", `,"beep":"both"`)
		near, _ := enters(b, "1001", "1000")
		far, _ := entersAt(b, other, "1002", "1000")
		b.Pass(time.Second)
		near.Forget()
		far.Forget()
		third, _ := entersAt(b, other, "1003", "2000")
		near.HearsTone(1000)
		far.HearsTone(1000)
		third.HearsSilence(time.Second) // only the others do
		near.Forget()
		third.HangUp()
		near.HearsTone(1000)
		near.HangUp()
		far.HangUp()
		bothIdle(b, other)
	})
}

func TestConferenceIsRecordedWhereItIs(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		b.Webhook("2000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","record":true,"recording_status_url":"/recorded","action":"/done"}]`)
		b.App.Answer("/done", `[{"verb":"hangup"}]`)
		near, id := enters(b, "1001", "1000")
		far, _ := entersAt(b, other, "1002", "2000")
		started := b.Event(webhooks.EventRecordingStarted)
		speaking(b, 1, far, near)
		changing(b, id, 1, `{"op":"disconnect"}`)
		if r := outcome(b, "/done", 1, webhooks.Ended); r.Trigger.RecordingID != started.Data.RecordingID {
			t.Errorf("told %+v", r.Trigger)
		}
		bothIdle(b, other)
		done := b.Event(webhooks.EventRecordingCompleted)
		if started.CallID != id || done.CallID != id {
			t.Errorf("started %+v, completed %+v", started, done)
		}
		octets, _, ok := b.Plane.Recording(done.Data.RecordingID)
		if !ok || !strings.Contains(string(octets), string(Voice(1, 500*time.Millisecond))) {
			t.Error("what was said is not in it")
		}
		b.Pass(time.Second)
		told := 0
		for _, r := range b.App.Requests() {
			if r.Path == "/recorded" {
				told++
			}
		}
		if told != 1 {
			t.Errorf("its status URL was told %d times", told)
		}
	})
}

func TestConferenceStatusIsToldOfLegsOfAnotherEdge(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", `,"status_url":"`+b.App.URL+`/room"`)
		conferring(b, "2000", `,"status_url":"`+b.App.URL+`/other"`)
		near, _ := enters(b, "1001", "1000")
		far, id := entersAt(b, other, "1002", "2000")
		b.Pass(time.Second)
		changingAt(b, other, id, 1, `{"op":"mute"}`)
		b.Pass(time.Second)
		far.HangUp()
		b.Pass(time.Second)
		near.HangUp()
		bothIdle(b, other)
		b.Pass(time.Second)
		var got []string
		of := map[string]int{}
		for _, r := range b.App.Requests() {
			switch r.Path {
			case "/room":
				got = append(got, strings.TrimPrefix(r.Value("type"), "conference."))
				if r.Value("call_id") == string(id) {
					of[r.Value("sequence")]++
				}
			case "/other":
				t.Error("the second participant's URL was told")
			}
		}
		slices.Sort(got)
		if want := []string{"ended", "joined", "joined", "left", "left", "muted", "started"}; !slices.Equal(got, want) {
			t.Errorf("told %q, expected %q", got, want)
		}
		if len(of) != 3 || of["0"] != 0 {
			t.Errorf("the leg's events were numbered %v", of)
		}
	})
}

// When one edge is gone, or the two cannot reach each other, the leg is told so and goes on, and so does the room.
func TestConferenceWhoseEdgesLoseEachOther(t *testing.T) {
	for name, cut := range map[string]func(b *Bench, other *Edge){
		"the room's edge is gone": func(b *Bench, _ *Edge) { b.CutOff(edgeAddr.Addr()) },
		"the leg's edge is gone":  func(b *Bench, other *Edge) { b.CutOff(other.Addr.Addr()) },
		"they lose each other": func(b *Bench, other *Edge) {
			b.Impair(func(d Datagram) []time.Duration {
				if d.From.Addr() == edgeAddr.Addr() && d.To.Addr() == other.Addr.Addr() || d.To.Addr() == edgeAddr.Addr() && d.From.Addr() == other.Addr.Addr() {
					return nil
				}
				return onTime
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"conference","id":"c","name":"team","action":"/done"}]`)
				b.App.Answer("/done", `[{"verb":"play","media_id":"sys_goodbye"}]`)
				conferring(b, "2000", ``)
				first, _ := enters(b, "1001", "2000")
				second, _ := enters(b, "1002", "2000")
				far, id := entersAt(b, other, "1003", "1000")
				b.App.Expect("incoming")
				speaking(b, 1, far, first, second)
				cut(b, other)
				r := b.App.Expect("/done", "outcome", "failed", "id", "c")
				if tr := r.Call.Trigger; tr.Check() != nil || !strings.Contains(tr.Error, "was lost") || tr.ConferenceID == "" || *tr.Duration < 1 {
					t.Errorf("told %s: %v", r.Body, tr.Check())
				}
				for _, e := range b.Events(webhooks.EventConferenceLeft) {
					if e.CallID == id && e.Data.Reason != webhooks.ParticipantLost {
						t.Errorf("told %q", e.Data.Reason)
					}
				}
				if name != "the leg's edge is gone" {
					soon(far, SystemPrompt(t, "sys_goodbye"))
				}
				if name != "the room's edge is gone" {
					b.Pass(time.Second)
					speaking(b, 2, first, second) // nothing has happened to them
					first.HangUp()
					second.HangUp()
				}
				b.Impair(nil)
				b.Pass(time.Minute)
				for _, c := range []*Call{first, second, far} {
					if !over(b, c) {
						c.HangUp()
					}
				}
				bothIdle(b, other)
			})
		})
	}
}

func TestConferenceOnAnEdgeThatCannotBeReached(t *testing.T) {
	for name, c := range map[string]struct {
		at   control.ConferencePlace
		says string
	}{
		"nobody knows where it is": {control.ConferencePlace{ConferenceID: "conf_1", EdgeID: "edge_none"}, "nobody knows"},
		"it does not answer":       {control.ConferencePlace{ConferenceID: "conf_1", EdgeID: EdgeID}, "could not be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"conference","name":"team","action":"/done"}]`)
				b.App.Answer("/done", `[{"verb":"hangup"}]`)
				b.Plane.PlaceAt("team", c.at)
				b.CutOff(edgeAddr.Addr())
				call := b.Phone("1001").At(other).Dial("1000").Answered()
				b.App.Expect("incoming")
				r := b.App.Expect("/done", "outcome", "failed")
				if tr := r.Call.Trigger; tr.Check() != nil || !strings.Contains(tr.Error, "another edge") || !strings.Contains(tr.Error, c.says) {
					t.Errorf("told %s", r.Body)
				}
				call.ExpectBye()
				bothIdle(b, other)
			})
		})
	}
}

// A conference whose edge is gone begins anew on another, once that is known.
func TestConferenceOfAnEdgeThatIsGoneBeginsAnew(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		enters(b, "1001", "1000")
		far, _ := entersAt(b, other, "1002", "1000")
		b.CutOff(edgeAddr.Addr())
		b.Plane.Gone(EdgeID)
		far.HangUp()
		b.Pass(time.Second)
		third, _ := entersAt(b, other, "1003", "1000")
		fourth, _ := entersAt(b, other, "1004", "1000")
		speaking(b, 1, third, fourth)
		third.HangUp()
		fourth.HangUp()
		bothIdle(b, other) // the phone that was cut off is given up
		if ends := b.Events(webhooks.EventConferenceEnded); len(ends) != 2 || ends[0].Data.ConferenceID == ends[1].Data.ConferenceID {
			t.Errorf("ended: %+v", ends)
		}
	})
}

// What the edges tell each other is told in order and once, however much of it is lost on the way.
func TestConferenceOverALossyNetwork(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		near, _ := enters(b, "1001", "1000")
		sent := 0
		b.Impair(func(d Datagram) []time.Duration {
			if d.From.Port() != 5060 || d.From.Addr() != edgeAddr.Addr() && d.To.Addr() != edgeAddr.Addr() || d.From.Addr() != other.Addr.Addr() && d.To.Addr() != other.Addr.Addr() {
				return onTime
			}
			switch sent++; sent % 4 {
			case 0, 1:
				return nil
			case 2:
				return []time.Duration{0, 30 * time.Millisecond}
			}
			return onTime
		})
		far, id := entersAt(b, other, "1002", "1000")
		b.Event(webhooks.EventConferenceStarted)
		b.Pass(4 * time.Second)
		for n, op := range []string{"mute", "unmute", "mute", "unmute", "hold", "unhold"} {
			changingAt(b, other, id, n, `{"op":"`+op+`"}`)
		}
		for range 6 {
			b.Event(webhooks.EventActionCompleted)
		}
		speaking(b, 1, near, far)
		speaking(b, 2, far, near)
		near.HangUp()
		far.HangUp()
		bothIdle(b, other)
		b.Pass(time.Minute)
		expectRooms(t, b, "joined", "joined", "started", "muted", "unmuted", "muted", "unmuted", "held", "unheld",
			"left hangup", "left hangup", "ended last_left")
	})
}

// A name that an edge has been given and does not have any more is the next one's.
func TestConferenceThatIsNotThereAnyMoreBeginsAnew(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		b.Plane.PlaceAt("team", control.ConferencePlace{ConferenceID: "conf_1", EdgeID: EdgeID})
		far, _ := entersAt(b, other, "1001", "1000")
		if at := b.Plane.PlaceOf("team"); at.EdgeID != other.ID || at.ConferenceID == "conf_1" {
			t.Errorf("it is at %+v", at)
		}
		near, _ := enters(b, "1002", "1000") // and comes to the other's
		speaking(b, 1, near, far)
		speaking(b, 2, far, near)
		near.HangUp()
		far.HangUp()
		bothIdle(b, other)
	})
}

// Two who begin a conference at once on two edges are in one.
func TestConferenceBegunOnTwoEdgesAtOnceIsOne(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		a, c := b.Phone("1001").Dial("1000"), b.Phone("1002").At(other).Dial("1000")
		a.Answered()
		c.Answered()
		b.Event(webhooks.EventConferenceStarted)
		speaking(b, 1, a, c)
		speaking(b, 2, c, a)
		a.HangUp()
		c.HangUp()
		bothIdle(b, other)
		if ends := b.Events(webhooks.EventConferenceEnded); len(ends) != 1 {
			t.Errorf("there were %d conferences", len(ends))
		}
	})
}

func TestConferenceBegunWhileTheControlPlaneIsAwayIsFoundLater(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"pause","length":1},{"verb":"conference","name":"team"}]`)
		near := b.Phone("1001").Dial("1000").Answered()
		b.Plane.Away(true)
		b.Event(webhooks.EventConferenceJoined)
		b.Pass(3 * time.Second)
		b.Plane.Away(false)
		b.Pass(3 * time.Second)
		far, _ := entersAt(b, other, "1002", "1000")
		speaking(b, 1, near, far)
		near.HangUp()
		far.HangUp()
		bothIdle(b, other)
	})
}

func TestConferenceOfAnEdgeThatDrainsTakesLegsOfOthers(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		conferring(b, "1000", ``)
		near, _ := enters(b, "1001", "1000")
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			b.noError(b.Calls.Drain(context.Background()))
		}()
		b.Pass(time.Second)
		far, _ := entersAt(b, other, "1002", "1000")
		third, _ := entersAt(b, other, "1003", "1000")
		near.HangUp()
		b.Idle()
		speaking(b, 1, far, third) // the edge is kept by those it carries for the other
		select {
		case <-drained:
			t.Error("the edge has drained")
		default:
		}
		far.HangUp()
		third.HangUp()
		bothIdle(b, other)
		b.Pass(time.Second)
		<-drained
	})
}

// Nobody comes in who sends the header of a link and was not given a ticket for it.
func TestLinkThatNobodyVouchesForIsRefused(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, _ *Edge) {
		conferring(b, "1000", ``)
		first, _ := enters(b, "1001", "1000")
		stranger := b.Phone("1009")
		for _, value := range []string{"conference link_00000000000000000000000001", "park x", "conference", "nonsense nonsense"} {
			stranger.DialWith("conference", Invite{Headers: []string{"X-Hookswitch-Link: " + value}}).Expect(403)
		}
		if n := len(b.Events(webhooks.EventConferenceJoined)); n != 1 {
			t.Errorf("%d are in", n)
		}
		first.HangUp()
		b.Idle()
	})
}

// Whatever coincides, each leg leaves once and ends once, and nothing is left.
func TestConferenceCoincidencesOverTwoEdges(t *testing.T) {
	for name, do := range map[string]func(b *Bench, other *Edge, near, far *Call, ids [2]webhooks.CallID){
		"both hang up": func(b *Bench, _ *Edge, near, far *Call, _ [2]webhooks.CallID) { byes(b, near, far) },
		"one is dropped as it hangs up": func(b *Bench, _ *Edge, _, far *Call, ids [2]webhooks.CallID) {
			byes(b, far)
			changing(b, ids[0], 1, `{"op":"drop","call_id":"`+string(ids[1])+`"}`)
		},
		"it ends as one hangs up": func(b *Bench, _ *Edge, _, far *Call, ids [2]webhooks.CallID) {
			byes(b, far)
			changing(b, ids[0], 1, `{"op":"disconnect"}`)
		},
		"it is ended from both sides": func(b *Bench, other *Edge, _, _ *Call, ids [2]webhooks.CallID) {
			changing(b, ids[0], 1, `{"op":"disconnect"}`)
			changingAt(b, other, ids[1], 2, `{"op":"disconnect"}`)
		},
		"changed again and again": func(b *Bench, other *Edge, _, _ *Call, ids [2]webhooks.CallID) {
			for n := range 5 {
				changingAt(b, other, ids[1], n+1, `{"instructions":[{"verb":"conference","name":"team","label":"again"}]}`)
				b.Pass(time.Duration(n*12) * time.Millisecond)
			}
			b.Pass(2 * time.Second)
		},
		"both edges end": func(b *Bench, _ *Edge, _, _ *Call, _ [2]webhooks.CallID) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
				conferring(b, "1000", `,"record":true`)
				conferring(b, "2000", `,"beep":"both"`)
				near, one := enters(b, "1001", "1000")
				far, two := entersAt(b, other, "1002", "2000")
				b.Pass(time.Second)
				do(b, other, near, far, [2]webhooks.CallID{one, two})
				b.Pass(3 * time.Second)
				for _, c := range []*Call{near, far} {
					if !over(b, c) {
						c.HangUp()
					}
				}
				b.until(time.Minute, "calls are left", func() bool { return b.Calls.Live()+other.Calls.Live() == 0 })
			})
		})
	}
}

func TestLadderConferenceOverTwoEdges(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","id":"c","name":"team","label":"{{call.from}}","action":"/left"}]`)
		b.App.Answer("/left", `[{"verb":"hangup"}]`)
		first, _ := enters(b, "1001", "1000")
		b.Pass(time.Second)
		second, id := entersAt(b, other, "1002", "1000")
		speaking(b, 1, first, second)
		speaking(b, 2, second, first)
		changingAt(b, other, id, 1, `{"op":"mute"}`)
		b.Pass(time.Second)
		second.HangUp()
		b.Pass(time.Second)
		first.HangUp()
		bothIdle(b, other)
		b.Golden("conference-two-edges")
	})
}
