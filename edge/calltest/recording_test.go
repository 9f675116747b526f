package calltest

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// contractKept checks that every event and every trigger is what the contract promises of it.
func contractKept(t *testing.T, b *Bench) {
	t.Helper()
	b.Idle()
	for _, e := range b.Events() {
		if err := e.Check(); err != nil {
			t.Errorf("event %d of %s: %v", e.Sequence, e.CallID, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.asks {
		if a.call.Trigger == nil {
			continue
		}
		if err := a.call.Trigger.Check(); err != nil {
			t.Errorf("asked %s: %v", a.path, err)
		}
	}
}

func TestRecordingBesideTheProgram(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"recording","op":"start","channels":1,"status_url":"/rec",
			"status_events":["recording.started","recording.completed"]},{"verb":"pause","length":2},
			{"verb":"recording","op":"pause"},{"verb":"pause","length":2},{"verb":"recording","op":"resume"},{"verb":"pause","length":2},
			{"verb":"recording","op":"stop"},{"verb":"pause","length":1}]`)
		b.App.Answer("/rec", "", "")
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		started := b.Event(webhooks.EventRecordingStarted)
		kept, hidden, again := Voice(1, 1500*time.Millisecond), Voice(2, time.Second), Voice(3, time.Second)
		call.Say(kept)
		b.Pass(time.Second)
		call.Say(hidden)
		b.Pass(1200 * time.Millisecond)
		call.Say(again)
		b.App.Expect("/rec", "type", "recording.started")
		call.ExpectBye()
		octets, f := shipped(t, b)
		for what, voice := range map[string]bool{
			"before it": bytes.Contains(octets, kept), "after it": bytes.Contains(octets, again), "nothing in it": !bytes.Contains(octets, hidden[800:1600]),
		} {
			if !voice {
				t.Errorf("of what was said around the pause, %d octets have not kept what was %s", len(octets), what)
			}
		}
		if f.Channels != 1 {
			t.Errorf("%d channels", f.Channels)
		}
		if f.RecordingID != started.Data.RecordingID {
			t.Errorf("%s was begun, %s shipped", started.Data.RecordingID, f.RecordingID)
		}
		b.App.Expect("/rec", "type", "recording.completed", "data.recording_id", string(f.RecordingID))
		contractKept(t, b)
	})
}

func TestRecordingGoesOnThroughADialAndEndsWithTheCall(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Program("1000", `[{"verb":"recording","op":"start"},{"verb":"recording","op":"start"},{"verb":"dial","to":[`+to1002+`]},{"verb":"pause","length":5}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		hello, hi := Voice(1, time.Second), Voice(2, time.Second)
		call.Talk(hello)
		answered.Say(hi)
		b.Pass(jitterTime)
		answered.HangUp()
		b.Pass(time.Second)
		call.HangUp()
		octets, f := shipped(t, b)
		heard, said := channels(octets)
		if f.Channels != 2 || !bytes.Contains(heard, hello) || !bytes.Contains(said, hi) {
			t.Error("the recording is not of both sides")
		}
		if n := len(b.Events(webhooks.EventRecordingStarted)); n != 1 {
			t.Errorf("%d recordings were begun", n)
		}
		contractKept(t, b)
	})
}

func TestRecordingsOfSeveralKindsAtOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Program("1000", `[{"verb":"answer"},{"verb":"recording","op":"start"},{"verb":"dial","to":[`+to1002+`],"record":"answer"},
			{"verb":"record","beep":false,"silence":0,"max_length":2},{"verb":"recording","op":"stop"},{"verb":"recording","op":"start"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		answered := callee.Rings().Answer()
		b.Pass(time.Second)
		answered.HangUp()
		call.Say(Voice(1, time.Second))
		call.ExpectBye()
		b.Idle()
		b.until(patience, "a recording is not finished", func() bool {
			n := 0
			for _, e := range b.events {
				if e.Type == webhooks.EventRecordingCompleted || e.Type == webhooks.EventRecordingFailed {
					n++
				}
			}
			return n == 4
		})
		verbs := map[string]int{}
		for _, e := range b.Events(webhooks.EventRecordingStarted) {
			verbs[e.Data.Verb]++
		}
		if verbs["recording"] != 2 || verbs["dial"] != 1 || verbs["record"] != 1 {
			t.Errorf("recordings were begun by %v", verbs)
		}
		contractKept(t, b)
	})
}

func TestRecordingOpsWithoutARecordingSayNothing(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"recording","op":"pause"},{"verb":"recording","op":"stop"},{"verb":"recording","op":"resume"},{"verb":"answer"},{"verb":"pause","length":1}]`)
		b.Phone("1001").Dial("1000").Answered().ExpectBye()
		if n := len(b.Events(webhooks.EventRecordingStarted, webhooks.EventRecordingFailed)); n != 0 {
			t.Errorf("%d events of recordings", n)
		}
		contractKept(t, b)
	})
}

func TestRecordingOfACallWhoseOfferIsLate(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"recording","op":"start"},{"verb":"answer"},{"verb":"pause","length":2}]`)
		call := b.Phone("1001").DialWith("1000", Invite{LateOffer: true}).Answered()
		voice := Voice(1, time.Second)
		call.Say(voice)
		call.ExpectBye()
		octets, f := shipped(t, b)
		if heard, _ := channels(octets); f.Codec != "PCMU" || !bytes.Contains(heard, voice) {
			t.Errorf("%d octets of %s are not what was said", len(octets), f.Codec)
		}
		contractKept(t, b)
	})
}

func TestTwilioStartAndStopRecording(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Start><Recording channels="mono" recordingStatusCallback="/rec"/></Start><Say>x</Say>
			<Pause length="2"/><Stop><Recording/></Stop><Pause length="1"/></Response>`)
		b.App.Answer("/rec", "")
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("/voice")
		call.Say(Voice(1, time.Second))
		b.App.Expect("/rec", "RecordingStatus", "completed", "RecordingSource", "StartCallRecordingAPI", "RecordingChannels", "1")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestDialTellsItsRecordingsStatusURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"record":"answer","recording_status_url":"/rec","recording_status_events":["recording.completed"]`).Answered()
		b.App.Answer("/rec", "")
		answered := callee.Rings().Answer()
		b.Pass(2 * time.Second)
		answered.HangUp()
		b.App.ExpectAt("/rec", "type", "recording.completed")
		b.App.ExpectAt("/done", "outcome", "completed")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestTargetsStatusURLAndDigits(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.App.Answer("/leg", "", "")
		call := dialing(b, `{"extension":"1002","send_digits":"w12","status_url":"/leg","status_events":["call.answered","call.ended"]}`, ``).Answered()
		answered := callee.Rings().Answer()
		answered.Pressed("12")
		b.Event(webhooks.EventCallBridged)
		b.App.ExpectAt("/leg", "type", "call.answered")
		answered.HangUp()
		b.App.ExpectAt("/done", "outcome", "completed")
		b.App.ExpectAt("/leg", "type", "call.ended")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestTwilioStatusCallbackOfANumber(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Dial><Number statusCallback="/leg" statusCallbackEvent="initiated ringing answered completed">1002</Number></Dial></Response>`)
		b.App.Answer("/leg", "", "", "", "")
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("/voice")
		answered := callee.Rings().Answer()
		for i, status := range []string{"initiated", "ringing", "in-progress"} {
			b.App.Expect("/leg", "CallStatus", status, "SequenceNumber", string(rune('0'+i)))
		}
		answered.HangUp()
		b.App.Expect("/leg", "CallStatus", "completed", "SequenceNumber", "3")
		call.ExpectBye()
		contractKept(t, b)
	})
}
