package calltest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// conferring binds a number to a conference with these attributes, followed by a goodbye.
func conferring(b *Bench, number, attributes string) {
	b.Program(number, `[{"verb":"conference","name":"team"`+attributes+`},{"verb":"play","media_id":"sys_goodbye"}]`)
}

// enters has a phone dial a number and waits until it is in the room.
func enters(b *Bench, phone, number string) (*Call, webhooks.CallID) {
	b.t.Helper()
	call := b.Phone(phone).Dial(number).Answered()
	return call, b.Event(webhooks.EventConferenceJoined).CallID
}

// changing makes a live change, as the API gives it.
func changing(b *Bench, id webhooks.CallID, n int, change string) {
	b.t.Helper()
	parsed, err := webhooks.ParseAction([]byte(change))
	if err != nil {
		b.t.Fatal(err)
	}
	a := control.Action{ActionID: webhooks.ActionID(fmt.Sprintf("act_%026d", n)), AccountID: Account, CallID: id, Change: parsed}
	if err := b.Calls.Act(context.Background(), a); err != nil {
		b.t.Fatalf("%s: %v", change, err)
	}
}

// roomStory is every event of the conferences so far, as "type reason". It checks that each is as the contract says, and
// so is every outcome that the application was told.
func roomStory(t *testing.T, b *Bench) []string {
	t.Helper()
	for _, r := range b.App.Requests() {
		var body struct{ Trigger *webhooks.Trigger }
		if json.Unmarshal(r.Body, &body) == nil && body.Trigger != nil && body.Trigger.Check() != nil {
			t.Errorf("%s was told %s: %v", r.Path, r.Body, body.Trigger.Check())
		}
	}
	var out []string
	for _, e := range b.Events() {
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", e.Type, err)
		}
		if name, ok := strings.CutPrefix(string(e.Type), "conference."); ok {
			out = append(out, strings.TrimSpace(name+" "+e.Data.Reason))
		}
	}
	return out
}

func expectRoom(t *testing.T, b *Bench, want ...string) {
	t.Helper()
	if got := roomStory(t, b); !slices.Equal(got, want) {
		t.Errorf("the conference was told as\n%q, expected\n%q", got, want)
	}
}

// speaking has one say something that the others hear.
func speaking(b *Bench, seed uint32, who *Call, others ...*Call) {
	b.t.Helper()
	b.Pass(100 * time.Millisecond)
	for _, o := range others {
		o.Forget()
	}
	voice := Voice(seed, 500*time.Millisecond)
	who.Talk(voice)
	for _, o := range others {
		o.Hears(voice)
	}
}

// unheard has one say something that the others do not hear.
func unheard(b *Bench, seed uint32, who *Call, others ...*Call) {
	b.t.Helper()
	b.Pass(200 * time.Millisecond)
	for _, o := range others {
		o.Forget()
	}
	who.Talk(Voice(seed, 500*time.Millisecond))
	for _, o := range others {
		o.HearsSilence(800 * time.Millisecond)
	}
}

func TestLadderConference(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","id":"c","name":"team {{call.to}}","label":"{{call.from}}","action":"/left"}]`)
		b.App.Answer("/left", `[{"verb":"hangup"}]`)
		first, _ := enters(b, "1001", "1000")
		b.Pass(2 * time.Second)
		second, _ := enters(b, "1002", "1000")
		speaking(b, 1, first, second)
		speaking(b, 2, second, first)
		second.HangUp()
		b.Pass(time.Second)
		first.HangUp()
		b.Golden("conference")
	})
}

func TestLadderConferenceModerated(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.Webhook("2000", func(a *control.Application) { a.VoiceURL = b.App.URL + "/host" })
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","start_on_enter":false,"wait":"/wait","action":"/guest"}]`)
		b.App.Answer("/host", `[{"verb":"conference","name":"team","end_on_exit":true,"hang_up_on":"*","record":true,"action":"/left"}]`)
		b.App.Answer("/wait", `[{"verb":"play","media_id":"sys_welcome"}]`)
		b.App.Answer("/guest", `[{"verb":"hangup"}]`)
		b.App.Answer("/left", `[{"verb":"pause"}]`)
		guest, _ := enters(b, "1001", "1000")
		guest.Hears(SystemPrompt(t, "sys_welcome"))
		guest.HearsSilence(3 * time.Second) // it is not repeated
		host, _ := enters(b, "1002", "2000")
		speaking(b, 1, host, guest)
		speaking(b, 2, guest, host)
		host.Press("*")
		guest.ExpectBye()
		host.ExpectBye()
		b.Event(webhooks.EventRecordingCompleted)
		b.Golden("conference-moderated")
	})
}

func TestConferenceBeginsWithTheSecondParty(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		first, _ := enters(b, "1001", "1000")
		first.Hears(SystemPrompt(t, "sys_hold"))
		first.Hears(SystemPrompt(t, "sys_hold")) // music is for ever
		second, _ := enters(b, "1002", "1000")
		speaking(b, 1, first, second)
		third, _ := enters(b, "1003", "1000")
		speaking(b, 2, third, first, second)
		first.HangUp()
		speaking(b, 3, second, third)
		second.HangUp()
		third.HangUp()
		b.Idle()
		expectRoom(t, b, "joined", "joined", "started", "joined", "left hangup", "left hangup", "left hangup", "ended last_left")
	})
}

func TestConferenceThatNeverBegins(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", `,"start_on_enter":false,"wait":[]`)
		first, _ := enters(b, "1001", "1000")
		second, _ := enters(b, "1002", "1000")
		first.HearsSilence(time.Second)
		unheard(b, 1, first, second)
		first.HangUp()
		second.HangUp()
		b.Idle()
		expectRoom(t, b, "joined", "joined", "left hangup", "left hangup", "ended last_left")
		if e := b.Event(webhooks.EventConferenceEnded); e.Data.Duration != nil {
			t.Errorf("it lasted %v though it had not begun", *e.Data.Duration)
		}
	})
}

func TestConferenceOfANameBeginsAnewWhenTheLastHasLeft(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		ids := map[webhooks.ConferenceID]bool{}
		for range 2 {
			first, _ := enters(b, "1001", "1000")
			second, _ := enters(b, "1002", "1000")
			ids[b.Event(webhooks.EventConferenceStarted).Data.ConferenceID] = true
			first.HangUp()
			second.HangUp()
			b.Idle()
		}
		if len(ids) != 2 {
			t.Errorf("the conferences were %v", ids)
		}
	})
}

func TestConferenceOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		do         func(b *Bench, call *Call, id webhooks.CallID)
		outcome    string
		reason     string
	}{
		"by its key":        {`,"hang_up_on":"#"`, func(_ *Bench, call *Call, _ webhooks.CallID) { call.Press("#") }, "left", "left"},
		"by its time limit": {`,"time_limit":5`, func(*Bench, *Call, webhooks.CallID) {}, "left", "left"},
		"dropped": {``, func(b *Bench, _ *Call, id webhooks.CallID) {
			changing(b, id, 1, `{"op":"drop","call_id":"`+string(id)+`"}`)
		}, "kicked", "kicked"},
		"ended by the API": {``, func(b *Bench, _ *Call, id webhooks.CallID) { changing(b, id, 1, `{"op":"disconnect"}`) }, "ended", "ended"},
		"changed": {``, func(b *Bench, _ *Call, id webhooks.CallID) {
			changing(b, id, 1, `{"instructions":[{"verb":"play","media_id":"sys_busy"}]}`)
		}, "redirected", "redirected"},
		"hung up by its phone": {``, func(_ *Bench, call *Call, _ webhooks.CallID) { call.HangUp() }, "hangup", "hangup"},
		"hung up by the API":   {``, func(b *Bench, _ *Call, id webhooks.CallID) { changing(b, id, 1, `{"op":"hangup"}`) }, "hangup", "hangup"},
	} {
		for _, begun := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s begun=%v", name, begun), func(t *testing.T) {
				story(t, func(t *testing.T, b *Bench) {
					b.Webhook("1000", nil)
					b.App.Answer("/voice", `[{"verb":"conference","id":"c","name":"team"`+c.attributes+`,"action":"/done"}]`)
					b.App.Answer("/done", `[{"verb":"pause","length":1}]`)
					conferring(b, "2000", ``)
					call, id := enters(b, "1001", "1000")
					b.App.Expect("incoming")
					var other *Call
					if begun {
						other, _ = enters(b, "1002", "2000")
						b.Event(webhooks.EventConferenceStarted)
					}
					b.Pass(time.Second)
					c.do(b, call, id)
					b.App.Expect("/done", "outcome", c.outcome, "id", "c")
					if e := b.Event(webhooks.EventConferenceLeft); e.CallID != id || e.Data.Reason != c.reason {
						t.Errorf("told %q of %s", e.Data.Reason, e.CallID)
					}
					b.until(patience, "the call goes on", func() bool { return call.final })
					if other != nil && c.outcome != "ended" {
						b.Pass(2 * time.Second)
						other.Talking()
						other.HangUp()
					}
					b.Idle()
					roomStory(t, b)
				})
			})
		}
	}
}

func TestConferenceFull(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","max_participants":2,"action":"/done"}]`)
		b.App.Answer("/done", `[{"verb":"hangup"}]`)
		first, _ := enters(b, "1001", "1000")
		second, _ := enters(b, "1002", "1000")
		third := b.Phone("1003").Dial("1000").Answered()
		for range 3 {
			b.App.Expect("incoming")
		}
		r := b.App.Expect("/done", "outcome", "full")
		if r.Value("trigger.conference_id") == "" || r.Value("trigger.duration") != "0" {
			t.Errorf("told %s", r.Body)
		}
		third.ExpectBye()
		speaking(b, 1, first, second)
		first.HangUp()
		second.HangUp()
		b.Idle()
	})
}

func TestConferenceLabelIsUnique(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", `,"label":"host"`)
		first, _ := enters(b, "1001", "1000")
		second := b.Phone("1002").Dial("1000").Answered()
		second.Hears(SystemPrompt(t, "sys_goodbye"))
		second.ExpectBye()
		first.HangUp()
		b.Idle()
	})
}

func TestConferenceModes(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		conferring(b, "2000", `,"mode":"listen"`)
		agent, id := enters(b, "1001", "1000")
		customer, _ := enters(b, "1002", "1000")
		conferring(b, "3000", `,"mode":"whisper","whisper_to":"`+string(id)+`"`)
		listener, _ := enters(b, "1003", "2000")
		coach, _ := enters(b, "1004", "3000")
		speaking(b, 1, customer, agent, listener, coach)
		unheard(b, 2, listener, agent, customer, coach)
		speaking(b, 3, coach, agent)
		unheard(b, 4, coach, customer, listener)
		for _, c := range []*Call{agent, customer, listener, coach} {
			c.HangUp()
		}
		b.Idle()
	})
}

func TestConferenceCoachWaitsForWhomItCoaches(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"pause","length":5},{"verb":"conference","name":"team"}]`)
		conferring(b, "2000", ``)
		agent := b.Phone("1001").Dial("1000").Answered()
		id := b.Event(webhooks.EventCallInitiated).CallID
		conferring(b, "3000", `,"mode":"whisper","whisper_to":"`+string(id)+`"`)
		customer, _ := enters(b, "1002", "2000")
		coach, _ := enters(b, "1003", "3000")
		unheard(b, 1, coach, customer)
		b.Event(webhooks.EventConferenceJoined)
		speaking(b, 2, coach, agent)
		unheard(b, 3, coach, customer)
		for _, c := range []*Call{agent, customer, coach} {
			c.HangUp()
		}
		b.Idle()
	})
}

func TestConferenceMuteAndHold(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", `,"muted":true`)
		conferring(b, "2000", ``)
		first, id := enters(b, "1001", "1000")
		second, _ := enters(b, "1002", "2000")
		unheard(b, 1, first, second)
		changing(b, id, 1, `{"op":"unmute"}`)
		changing(b, id, 2, `{"op":"unmute"}`)
		speaking(b, 2, first, second)
		changing(b, id, 3, `{"op":"mute"}`)
		unheard(b, 3, first, second)
		speaking(b, 4, second, first)
		changing(b, id, 4, `{"op":"unmute"}`)
		changing(b, id, 5, `{"op":"hold"}`)
		b.Event(webhooks.EventConferenceHeld)
		first.Forget()
		second.Talk(Voice(5, time.Second))
		first.Hears(SystemPrompt(t, "sys_hold"))
		unheard(b, 6, first, second)
		changing(b, id, 6, `{"op":"unhold"}`)
		speaking(b, 7, first, second)
		speaking(b, 8, second, first)
		changing(b, id, 7, `{"op":"hold","prompt":[]}`)
		unheard(b, 9, second, first)
		first.HangUp()
		second.HangUp()
		b.Idle()
		expectRoom(t, b, "joined", "joined", "started", "unmuted", "muted", "unmuted", "held", "unheld", "held",
			"left hangup", "left hangup", "ended last_left")
		if n := len(b.Events(webhooks.EventActionCompleted)); n != 7 {
			t.Errorf("%d actions were completed of 7", n)
		}
	})
}

func TestConferenceHoldBeforeItBegins(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", `,"wait":[{"verb":"play","tone":"500","loop":0}]`)
		first, id := enters(b, "1001", "1000")
		changing(b, id, 1, `{"op":"hold"}`)
		b.Pass(time.Second)
		first.HearsTone(500)
		second, _ := enters(b, "1002", "1000")
		b.Pass(100 * time.Millisecond)
		first.Forget()
		b.Pass(2 * time.Second)
		if heard := first.Heard(); len(heard) == 0 || bytes.Equal(heard, bytes.Repeat(heard[:1], len(heard))) {
			t.Error("who is held hears no music")
		}
		unheard(b, 1, first, second)
		changing(b, id, 2, `{"op":"unhold"}`)
		speaking(b, 2, first, second)
		speaking(b, 3, second, first)
		first.HangUp()
		second.HangUp()
		b.Idle()
	})
}

func TestConferenceSupervision(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		b.Program("2000", `[{"verb":"play","tone":"500","loop":0}]`)
		agent, id := enters(b, "1001", "1000")
		customer, _ := enters(b, "1002", "1000")
		supervisor := b.Phone("1003").Dial("2000").Answered()
		supervisor.HearsTone(500)
		var by webhooks.CallID
		for _, e := range b.Events(webhooks.EventCallInitiated) {
			if e.Data.From == "1003" {
				by = e.CallID
			}
		}
		op := func(n int, name string) { changing(b, id, n, `{"op":"`+name+`","call_id":"`+string(by)+`"}`) }
		op(1, "listen")
		b.Event(webhooks.EventConferenceJoined)
		b.Pass(200 * time.Millisecond)
		speaking(b, 1, customer, agent, supervisor)
		unheard(b, 2, supervisor, agent, customer)
		op(2, "whisper")
		speaking(b, 3, supervisor, agent)
		unheard(b, 4, supervisor, customer)
		op(3, "barge")
		speaking(b, 5, supervisor, agent, customer)
		supervisor.HangUp()
		agent.HangUp()
		customer.HangUp()
		b.Idle()
		expectRoom(t, b, "joined", "joined", "started", "joined", "modified", "modified",
			"left hangup", "left hangup", "left hangup", "ended last_left")
	})
}

func TestConferenceAnnouncement(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		first, id := enters(b, "1001", "1000")
		second, _ := enters(b, "1002", "1000")
		b.Pass(time.Second)
		first.Forget()
		second.Forget()
		changing(b, id, 1, `{"op":"play","media_id":"sys_goodbye","to":"both"}`)
		first.Hears(SystemPrompt(t, "sys_goodbye"))
		second.Hears(SystemPrompt(t, "sys_goodbye"))
		b.Event(webhooks.EventConferenceAnnouncementEnded)
		b.App.Answer("/none.wav", webhooktest.Status(404))
		changing(b, id, 2, `{"op":"play","url":"`+b.App.URL+`/none.wav","to":"both"}`)
		if e := b.Event(webhooks.EventConferenceAnnouncementFailed); e.Data.URL != b.App.URL+"/none.wav" || e.Data.Message == "" {
			t.Errorf("told %+v", e.Data)
		}
		b.Event(webhooks.EventActionFailed)
		changing(b, id, 3, `{"op":"play","media_id":"sys_busy"}`)
		first.Hears(SystemPrompt(t, "sys_busy"))
		second.HearsSilence(time.Second)
		changing(b, id, 4, `{"op":"play","tone":"500","loop":0,"to":"both"}`)
		second.HearsTone(500)
		first.HangUp()
		second.HangUp()
		b.Idle()
		expectRoom(t, b, "joined", "joined", "started", "announcement_ended", "announcement_failed", "left hangup", "left hangup", "ended last_left")
	})
}

func TestConferenceBeeps(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		conferring(b, "2000", `,"beep":"both"`)
		first, _ := enters(b, "1001", "1000")
		second, _ := enters(b, "1002", "1000")
		b.Pass(time.Second)
		first.Forget()
		third, _ := enters(b, "1003", "2000")
		first.HearsTone(1000)
		third.HearsSilence(time.Second) // only the others do
		first.Forget()
		third.HangUp()
		first.HearsTone(1000)
		first.HangUp()
		second.HangUp()
		b.Idle()
	})
}

func TestConferenceIsRecordedOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", `,"record":true,"recording_status_url":"`+b.App.URL+`/recorded"`)
		first, id := enters(b, "1001", "1000")
		b.Pass(3 * time.Second) // of waiting are not recorded
		second, _ := enters(b, "1002", "1000")
		started := b.Event(webhooks.EventRecordingStarted)
		speaking(b, 1, first, second)
		first.HangUp() // whose recording it is
		b.Event(webhooks.EventCallEnded)
		third, _ := enters(b, "1003", "1000")
		speaking(b, 2, third, second)
		second.HangUp()
		third.HangUp()
		b.Idle()
		done := b.Event(webhooks.EventRecordingCompleted)
		room := b.Event(webhooks.EventConferenceEnded)
		if started.CallID != id || done.CallID != id || done.Sequence != 0 || started.Data.ConferenceID != room.Data.ConferenceID || done.Data.ConferenceID != room.Data.ConferenceID {
			t.Errorf("started %+v, completed %+v", started, done)
		}
		if n := len(b.Events(webhooks.EventRecordingStarted)); n != 1 {
			t.Errorf("%d recordings", n)
		}
		octets, f, ok := b.Plane.Recording(done.Data.RecordingID)
		talked := room.Data.Duration.Duration().Seconds()
		if got := float64(f.Samples) / 8000; !ok || got < talked-0.1 || got > talked+0.1 {
			t.Errorf("%.2f s were recorded of %.2f", got, talked)
		}
		said := Voice(2, 500*time.Millisecond)
		if !strings.Contains(string(octets), string(said)) {
			t.Error("what was said is not in it")
		}
		b.Pass(time.Second)
		paths := 0
		for _, r := range b.App.Requests() {
			if r.Path == "/recorded" && r.Value("data.conference_id") == string(room.Data.ConferenceID) {
				paths++
			}
		}
		if paths != 1 {
			t.Errorf("its status URL was told %d times", paths)
		}
		roomStory(t, b)
	})
}

func TestConferenceStatusIsToldInOrderToTheFirstURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Dial><Conference statusCallback="/room" statusCallbackEvent="start end join leave mute">team</Conference></Dial></Response>`)
		b.Webhook("2000", func(a *control.Application) { a.Format, a.VoiceURL = control.FormatTwiML, b.App.URL+"/second" })
		b.App.Answer("/second", `<Response><Dial><Conference statusCallback="/other" beep="false">team</Conference></Dial></Response>`)
		first, _ := enters(b, "1001", "1000")
		second, id := enters(b, "1002", "2000")
		b.Pass(time.Second)
		changing(b, id, 1, `{"op":"mute"}`)
		b.Pass(time.Second)
		first.HangUp()
		second.HangUp()
		b.Idle()
		b.Pass(time.Second)
		var got []string
		for _, r := range b.App.Requests() {
			switch r.Path {
			case "/room":
				got = append(got, r.Form.Get("SequenceNumber")+" "+r.Form.Get("StatusCallbackEvent")+" "+r.Form.Get("ParticipantCallStatus"))
			case "/other":
				t.Error("the second participant's URL was told")
			}
		}
		want := []string{"0 participant-join ", "1 participant-join ", "2 conference-start ", "3 participant-mute ",
			"4 participant-leave completed", "5 participant-leave completed", "6 conference-end "}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, expected %q", got, want)
		}
	})
}

func TestConferenceWaitProgram(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","wait":"/wait","action":"/done"}]`)
		b.App.Answer("/wait", `[{"verb":"gather","num_digits":1,"timeout":30,"prompt":[{"verb":"play","media_id":"sys_welcome"}],"action":"/pressed"}]`)
		b.App.Answer("/pressed", `[{"verb":"redirect","url":"/more"}]`)
		b.App.Answer("/more", `[{"verb":"play","media_id":"sys_busy"},{"verb":"leave"}]`)
		b.App.Answer("/done", `[{"verb":"hangup"}]`)
		call, _ := enters(b, "1001", "1000")
		b.App.Expect("incoming")
		r := b.App.Expect("wait")
		if r.Value("waiting.name") != "team" || r.Value("waiting.size") != "1" || r.Value("waiting.conference_id") == "" {
			t.Errorf("asked %s", r.Body)
		}
		b.Pass(time.Second)
		call.Press("5")
		b.App.Expect("/pressed", "digits", "5")
		b.App.Expect("/more")
		b.App.Expect("/done", "outcome", "left")
		call.ExpectBye()
		b.Idle()
		expectRoom(t, b, "joined", "left left", "ended last_left")
	})
}

func TestConferenceBeginsWhateverIsWaitedWith(t *testing.T) {
	for name, wait := range map[string]string{
		"a prompt": `[{"verb":"play","tone":"500","loop":0}]`, "a pause": `[{"verb":"pause","length":60}]`,
		"a gather": `[{"verb":"gather","timeout":60,"action":"/pressed"}]`, "silence": `[]`, "a URL that hangs": `"/hangs"`,
		"a URL that fails": `"/fails"`, "an answer that is no wait program": `"/wrong"`,
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"conference","name":"team","wait":`+wait+`,"action":"/done"}]`)
				b.App.Answer("/hangs", webhooktest.Hang())
				b.App.Answer("/fails", webhooktest.Status(500))
				b.App.Answer("/wrong", `[{"verb":"dial","to":[{"extension":"1002"}]}]`)
				b.App.Answer("/done", `[{"verb":"hangup"}]`)
				conferring(b, "2000", ``)
				first, _ := enters(b, "1001", "1000")
				b.Pass(time.Second)
				second, _ := enters(b, "1002", "2000")
				speaking(b, 1, first, second)
				speaking(b, 2, second, first)
				b.App.Expect("incoming")
				for _, r := range b.App.Requests() {
					if r.Path == "/pressed" {
						t.Error("the gather was told of a change that there was not")
					}
				}
				first.HangUp()
				second.HangUp()
				b.Idle()
				roomStory(t, b)
			})
		})
	}
}

func TestConferenceWhoseWaitCannotBeHadPlaysMusic(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", `,"wait":"`+b.App.URL+`/wait"`)
		b.App.Answer("/wait", webhooktest.Status(404))
		call, _ := enters(b, "1001", "1000")
		call.Hears(SystemPrompt(t, "sys_hold"))
		b.Event(webhooks.EventWebhookFailed)
		call.HangUp()
		b.Idle()
	})
}

func TestConferenceEndOnExit(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		conferring(b, "2000", `,"end_on_exit":true,"label":"host"`)
		first, _ := enters(b, "1001", "1000")
		host, id := enters(b, "1002", "2000")
		third, _ := enters(b, "1003", "1000")
		b.Pass(time.Second)
		first.Forget()
		third.Forget()
		host.HangUp()
		first.Hears(SystemPrompt(t, "sys_goodbye"))
		third.Hears(SystemPrompt(t, "sys_goodbye"))
		first.ExpectBye()
		third.ExpectBye()
		b.Idle()
		expectRoom(t, b, "joined", "joined", "started", "joined", "left hangup", "left ended", "left ended", "ended ender_left")
		if e := b.Event(webhooks.EventConferenceEnded); e.CallID != id || e.Data.EndedByCall != id || e.Data.Label != "host" {
			t.Errorf("%+v", e)
		}
	})
}

// Whatever coincides, each leg leaves once and ends once, and nothing is left.
func TestConferenceCoincidences(t *testing.T) {
	for name, do := range map[string]func(b *Bench, calls []*Call, ids []webhooks.CallID){
		"two leave at once": func(b *Bench, calls []*Call, _ []webhooks.CallID) {
			byes(b, calls...)
		},
		"one leaves as another ends the room": func(b *Bench, calls []*Call, ids []webhooks.CallID) {
			byes(b, calls[0])
			changing(b, ids[1], 1, `{"op":"disconnect"}`)
		},
		"one is dropped as it hangs up": func(b *Bench, calls []*Call, ids []webhooks.CallID) {
			byes(b, calls[0])
			changing(b, ids[1], 1, `{"op":"drop","call_id":"`+string(ids[0])+`"}`)
		},
		"the room ends as one comes": func(b *Bench, calls []*Call, ids []webhooks.CallID) {
			late := b.Phone("1003").Dial("1000")
			late.AnsweredWithoutACK()
			changing(b, ids[0], 1, `{"op":"disconnect"}`)
			late.ACK()
			b.Pass(2 * time.Second)
			late.HangUp()
		},
		"both are changed": func(b *Bench, _ []*Call, ids []webhooks.CallID) {
			for n, id := range ids {
				changing(b, id, n+1, `{"instructions":[{"verb":"hangup"}]}`)
			}
		},
		"changed again and again": func(b *Bench, _ []*Call, ids []webhooks.CallID) {
			for n := range 4 {
				changing(b, ids[0], n+1, `{"instructions":[{"verb":"conference","name":"team"}]}`)
				b.Pass(20 * time.Millisecond)
			}
			changing(b, ids[0], 9, `{"op":"disconnect"}`)
		},
		"the edge drains": func(b *Bench, _ []*Call, _ []webhooks.CallID) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				conferring(b, "1000", `,"record":true`)
				conferring(b, "2000", `,"end_on_exit":true,"beep":"both"`)
				first, one := enters(b, "1001", "1000")
				second, two := enters(b, "1002", "2000")
				b.Pass(time.Second)
				do(b, []*Call{first, second}, []webhooks.CallID{one, two})
				b.Pass(3 * time.Second)
				for _, c := range []*Call{first, second} {
					if !over(b, c) {
						c.HangUp()
					}
				}
				b.until(time.Minute, "calls are left", func() bool { return b.Calls.Live() == 0 })
				b.Close()
				joined, left := map[webhooks.CallID]int{}, map[webhooks.CallID]int{}
				rooms := map[webhooks.ConferenceID]int{}
				for _, e := range b.Events() {
					if err := e.Check(); err != nil {
						t.Error(err)
					}
					switch e.Type {
					case webhooks.EventConferenceJoined:
						joined[e.CallID]++
						rooms[e.Data.ConferenceID] += 0
					case webhooks.EventConferenceLeft:
						left[e.CallID]++
					case webhooks.EventConferenceEnded:
						rooms[e.Data.ConferenceID]++
					}
				}
				for id, n := range joined {
					if left[id] != n {
						t.Errorf("%s joined %d times and left %d", id, n, left[id])
					}
				}
				for id, n := range rooms {
					if n != 1 {
						t.Errorf("%s ended %d times", id, n)
					}
				}
			})
		})
	}
}

func over(b *Bench, c *Call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return c.final
}

// byes hang up in the same instant.
func byes(b *Bench, calls ...*Call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		c.seq++
		c.final, c.audio.running = true, false
		c.phone.send(c.make("BYE", ""))
	}
}

func TestConferenceOfLegsOfEveryOrigin(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		conferring(b, "1000", ``)
		callee, outside := b.Phone("1002"), b.Phone("1003")
		inbound, _ := enters(b, "1001", "1000")

		// One that the API starts.
		program := Program(t, `[{"verb":"conference","name":"team"}]`)
		err := b.Calls.Originate(context.Background(), control.Originate{
			CallID: webhooks.NewCallID(), AccountID: Account, Target: webhooks.DialTarget{Extension: "1002"}, From: "1000",
			Application: control.Application{Format: control.FormatNative, Program: program},
		})
		if err != nil {
			t.Fatal(err)
		}
		api := callee.Rings().Answer()
		b.Event(webhooks.EventConferenceJoined)
		speaking(b, 1, api, inbound)

		// One that was dialled, and is given a program of its own.
		b.Program("2000", `[{"verb":"dial","to":[{"extension":"1003"}]}]`)
		caller := b.Phone("1004").Dial("2000").Answered()
		dialed := outside.Rings().Answer()
		id := b.Event(webhooks.EventCallBridged).Data.PeerCallID
		changing(b, id, 1, `{"instructions":[{"verb":"conference","name":"team"}]}`)
		b.Event(webhooks.EventConferenceJoined)
		b.Pass(time.Second)
		speaking(b, 2, dialed, inbound, api)
		speaking(b, 3, inbound, api, dialed)
		for _, c := range []*Call{inbound, api, dialed} {
			c.HangUp()
		}
		b.until(patience, "the caller's program is not over", func() bool { return caller.final })
		b.Idle()
		roomStory(t, b)
	})
}

func TestConferenceOpsElsewhereFail(t *testing.T) {
	for name, op := range map[string]string{
		"drop":    `{"op":"drop","call_id":"call_00000000000000000000000009"}`,
		"listen":  `{"op":"listen","call_id":"call_00000000000000000000000009"}`,
		"whisper": `{"op":"whisper","call_id":"call_00000000000000000000000009"}`,
		"barge":   `{"op":"barge","call_id":"call_00000000000000000000000009"}`,
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Program("1000", `[{"verb":"play","media_id":"sys_goodbye"}]`)
				call := b.Phone("1001").Dial("1000").Answered()
				id := b.Event(webhooks.EventCallInitiated).CallID
				changing(b, id, 1, op)
				if e := b.Event(webhooks.EventActionFailed); e.Data.Op != name || e.Data.Message == "" {
					t.Errorf("told of %+v", e.Data)
				}
				call.Hears(SystemPrompt(t, "sys_goodbye")) // and is not disturbed
				call.ExpectBye()
				b.Idle()
			})
		})
	}
}

// TestDisconnectOfEveryLegEndsTheConferenceAndNoCall: those whom the first has taken out of it go on with their programs.
func TestDisconnectOfEveryLegEndsTheConferenceAndNoCall(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","action":"/left"}]`)
		b.App.Answer("/left", `[{"verb":"pause","length":2}]`)
		var calls []*Call
		var ids []webhooks.CallID
		for _, number := range []string{"1001", "1002", "1003"} {
			call, id := enters(b, number, "1000")
			calls, ids = append(calls, call), append(ids, id)
		}
		for n, id := range ids {
			changing(b, id, n, `{"op":"disconnect"}`)
		}
		for _, call := range calls {
			b.App.ExpectAt("/left", "outcome", "ended")
			call.Talking()
		}
		outcomeOf(b, webhooks.EventActionCompleted, "") // of whichever was made first
		for range ids[1:] {
			outcomeOf(b, webhooks.EventActionFailed, "the call has just left the conference")
		}
		for range calls {
			b.Ended(webhooks.CauseProgramEnd)
		}
	})
}

// TestDisconnectByOneWhoHasLeftLeavesTheConferenceToTheOthers.
func TestDisconnectByOneWhoHasLeftLeavesTheConferenceToTheOthers(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"conference","name":"team","action":"/left"}]`)
		b.App.Answer("/left", `[{"verb":"pause","length":1}]`)
		first, _ := enters(b, "1001", "1000")
		second, _ := enters(b, "1002", "1000")
		kicked, id := enters(b, "1003", "1000")
		changing(b, id, 1, `{"op":"drop","call_id":"`+string(id)+`"}`)
		changing(b, id, 2, `{"op":"disconnect"}`)
		settledAs(t, b, 1, "")
		settledAs(t, b, 2, "the call has just left the conference")
		b.App.ExpectAt("/left", "outcome", "kicked")
		kicked.ExpectBye()
		speaking(b, 1, first, second)
		first.HangUp()
		second.HangUp()
	})
}
