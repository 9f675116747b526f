package calltest

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// box is the mailbox that most of these leave messages in.
func box(t *testing.T) control.Mailbox {
	t.Helper()
	return control.Mailbox{
		ID: "mbx_1", MinLength: 1, MaxLength: 60, Silence: 2, FinishOnKey: "#",
		Greeting: Program(t, `[{"verb":"play","media_id":"sys_goodbye"}]`),
	}
}

// takingMessage answers a call with one voicemail, whose outcome the application is told at /done.
func takingMessage(b *Bench, attributes string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"voicemail","mailbox":"sales","on":{"default":"/done"}`+attributes+`}]`)
	b.App.Answer("/done", `[]`)
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

// leftFor checks that exactly one recording is a message for a mailbox, and gives its events' data and its audio.
func leftFor(t *testing.T, b *Bench, mailbox string) (started, completed webhooks.EventData, octets []byte) {
	t.Helper()
	octets, _ = shipped(t, b)
	completed = b.Events(webhooks.EventRecordingCompleted)[0].Data
	for _, e := range b.Events(webhooks.EventRecordingStarted) {
		if e.Data.Mailbox == "" {
			continue
		}
		if started.RecordingID != "" {
			t.Error("there are two messages")
		}
		started = e.Data
	}
	if started.Mailbox != mailbox || started.Verb != "voicemail" || completed.RecordingID != started.RecordingID {
		t.Errorf("began %+v, completed %+v", started, completed)
	}
	return started, completed, octets
}

func TestVoicemailEndsInEveryWay(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		end        func(*Call)
		outcome    string
	}{
		"by silence":    {``, func(*Call) {}, "left"},
		"by a key":      {``, func(c *Call) { c.Press("#") }, "left"},
		"by its length": {`,"max_length":2`, func(*Call) {}, "left"},
		"by a hang-up":  {``, func(c *Call) { c.HangUp() }, "hangup"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.SetMailbox("sales", box(t))
				call := takingMessage(b, c.attributes)
				call.Hears(SystemPrompt(t, "sys_goodbye"))
				call.Hears(Tone(t, "beep"))
				voice := Voice(3, 1800*time.Millisecond)
				call.Say(voice)
				b.Pass(jitterTime)
				c.end(call)
				r := b.App.Expect("/done", "verb", "voicemail", "outcome", c.outcome)
				started, _, octets := leftFor(t, b, "mbx_1")
				if r.Value("recording_id") != string(started.RecordingID) || r.Value("voicemail_id") != string(started.RecordingID.Voicemail()) || r.Value("duration") == "" {
					t.Errorf("told %s", r.Body)
				}
				if !bytes.Contains(octets, voice[:len(voice)/2]) {
					t.Error("the message is not what was said")
				}
				contractKept(t, b)
			})
		})
	}
}

func TestGreetingOfAVoicemail(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		mailbox    string // greeting
		hears      string
	}{
		"the mailbox's":         {``, `[{"verb":"play","media_id":"sys_goodbye"}]`, "sys_goodbye"},
		"the instruction's":     {`,"greeting":[{"verb":"play","media_id":"sys_busy"}]`, `[{"verb":"play","media_id":"sys_goodbye"}]`, "sys_busy"},
		"the system's":          {``, ``, "sys_leave_message"},
		"one that is not there": {`,"greeting":[{"verb":"play","url":"/none.wav"}]`, ``, "sys_leave_message"},
		"none":                  {`,"greeting":[]`, `[{"verb":"play","media_id":"sys_goodbye"}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				m := box(t)
				m.Greeting = nil
				if c.mailbox != "" {
					m.Greeting = Program(t, c.mailbox)
				}
				b.Plane.SetMailbox("sales", m)
				call := takingMessage(b, c.attributes)
				if c.hears != "" {
					call.Hears(SystemPrompt(t, c.hears))
				}
				call.Hears(Tone(t, "beep"))
				call.HangUp()
				contractKept(t, b)
			})
		})
	}
}

func TestHashSkipsTheGreeting(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.SetMailbox("sales", box(t))
		call := takingMessage(b, `,"greeting":[{"verb":"play","tone":"500","loop":20}]`)
		call.HearsTone(500)
		skipped := b.Now()
		call.Press("#")
		b.Event(webhooks.EventRecordingStarted)
		if took := b.Now() - skipped; took > time.Second {
			t.Errorf("the greeting went on for %s", took)
		}
		call.Say(Voice(3, 2*time.Second))
		b.App.Expect("/done", "outcome", "left")
		contractKept(t, b)
	})
}

func TestTooShortIsNoVoicemail(t *testing.T) {
	for name, speech := range map[string]time.Duration{"nothing": 0, "a word": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.SetMailbox("sales", box(t))
				call := takingMessage(b, `,"greeting":[]`)
				call.Hears(Tone(t, "beep"))
				if speech > 0 {
					call.Say(Voice(3, speech))
				}
				b.App.Expect("/done", "outcome", "empty", "recording_id", "", "voicemail_id", "")
				if e := b.Event(webhooks.EventRecordingFailed); e.Data.Code != "empty" {
					t.Errorf("%+v", e.Data)
				}
				contractKept(t, b)
				if n := len(b.Events(webhooks.EventRecordingCompleted)); n != 0 {
					t.Errorf("%d recordings were completed", n)
				}
			})
		})
	}
}

// greeted hears all that comes before the message.
func greeted(t *testing.T, c *Call) {
	t.Helper()
	c.Hears(SystemPrompt(t, "sys_goodbye"))
	c.Hears(Tone(t, "beep"))
}

func TestVoicemailHungUpAtEveryMoment(t *testing.T) {
	for name, c := range map[string]struct {
		until  func(*Call)
		leaves bool
	}{
		"in the greeting":     {func(*Call) {}, false},
		"at the beep":         {func(c *Call) { c.Hears(SystemPrompt(t, "sys_goodbye")) }, false},
		"before the message":  {func(c *Call) { greeted(t, c) }, false},
		"too early in it":     {func(c *Call) { greeted(t, c); c.Say(Voice(1, 500*time.Millisecond)) }, false},
		"in the message":      {func(c *Call) { greeted(t, c); c.Say(Voice(1, 3*time.Second)) }, true},
		"in the silence then": {func(c *Call) { greeted(t, c); c.Say(Voice(1, 3*time.Second)); c.b().Pass(time.Second) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.SetMailbox("sales", box(t))
				call := takingMessage(b, "")
				c.until(call)
				call.HangUp()
				r := b.App.Expect("/done", "outcome", "hangup")
				if left := r.Value("voicemail_id") != ""; left != c.leaves {
					t.Errorf("told %s", r.Body)
				}
				contractKept(t, b)
				b.Pass(3 * time.Second)
				if n := len(b.Events(webhooks.EventRecordingCompleted)); (n == 1) != c.leaves {
					t.Errorf("%d recordings were completed", n)
				}
			})
		})
	}
}

func TestLiveChangeLeavesTheMessageSoFar(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.SetMailbox("sales", box(t))
		call := takingMessage(b, `,"greeting":[]`)
		call.Hears(Tone(t, "beep"))
		call.Say(Voice(3, 2*time.Second))
		replace(t, b, b.Event(webhooks.EventCallInitiated).CallID, `[{"verb":"play","media_id":"sys_goodbye"}]`)
		b.App.Expect("/done", "outcome", "redirected")
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		leftFor(t, b, "mbx_1")
		contractKept(t, b)
	})
}

func TestVoicemailForAnUnknownMailboxFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		takingMessage(b, "")
		b.App.Expect("/done", "outcome", "failed", "error", "there is no mailbox sales")
		contractKept(t, b)
		if n := len(b.Events(webhooks.EventRecordingStarted)); n != 0 {
			t.Errorf("%d recordings were started", n)
		}
	})
}

func TestVoicemailWhileTheControlPlaneIsAway(t *testing.T) {
	for name, known := range map[string]bool{"a mailbox that was asked for before": true, "one that nobody knows": false} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				greeting, mailbox := "sys_leave_message", "sales"
				if known {
					greeting, mailbox = "sys_goodbye", "mbx_1"
					b.Plane.SetMailbox("sales", box(t))
					first := takingMessage(b, "")
					first.Hears(SystemPrompt(t, "sys_goodbye"))
					first.HangUp()
					b.App.Expect("/done", "outcome", "hangup")
					b.Idle()
				}
				b.Plane.KeepFor = 3600
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"pause","length":1},{"verb":"voicemail","mailbox":"sales","on":{"default":"/done"}}]`)
				b.App.Answer("/done", `[]`)
				call := b.Phone("1002").Dial("1000").Expect(180)
				b.App.Expect("incoming")
				b.Plane.Away(true)
				call.Answered()
				call.Hears(SystemPrompt(t, greeting))
				call.Hears(Tone(t, "beep"))
				voice := Voice(3, 2*time.Second)
				call.Say(voice)
				r := b.App.Expect("/done", "outcome", "left")
				if r.Value("voicemail_id") == "" {
					t.Errorf("told %s", r.Body)
				}
				call.ExpectBye()
				b.Idle()
				b.Pass(2 * time.Minute)
				b.Plane.Away(false)
				b.Pass(5 * time.Second)
				_, _, octets := leftFor(t, b, mailbox)
				if !bytes.Contains(octets, voice) {
					t.Error("the message is not what was said")
				}
				told := 0
				for _, e := range b.Plane.Published() {
					if e.Type == webhooks.EventRecordingStarted && e.Data.Mailbox == mailbox {
						told++
					}
				}
				if told != 1 {
					t.Errorf("the control plane was told %d times", told)
				}
			})
		})
	}
}

func TestVoicemailHungUpWhileTheMailboxIsAskedFor(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.SetMailbox("sales", box(t))
		release := b.Plane.Hold()
		call := takingMessage(b, "")
		b.Pass(500 * time.Millisecond)
		call.HangUp()
		b.App.Expect("/done", "outcome", "hangup", "voicemail_id", "")
		release()
		contractKept(t, b)
	})
}
