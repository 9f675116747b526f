package calltest

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/webhooks"
)

// recording answers a call with one record, whose outcome the application is told at /done.
func recording(b *Bench, phone *Phone, attributes string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"record","beep":false,"action":"/done"`+attributes+`}]`)
	b.App.Answer("/done", `[]`)
	call := phone.Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

// jitterTime is what the edge may hold back of what it has heard. A key is not held back, and ends a recording before
// what was said just ahead of it.
const jitterTime = 100 * time.Millisecond

// shipped waits until the recording of the next recording.completed is with the control plane.
func shipped(t *testing.T, b *Bench) ([]byte, control.Finish) {
	t.Helper()
	e := b.Event(webhooks.EventRecordingCompleted)
	octets, f, ok := b.Plane.Recording(e.Data.RecordingID)
	if !ok {
		t.Fatalf("recording %s was not finished", e.Data.RecordingID)
	}
	return octets, f
}

func TestRecordEndsInEveryWay(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		end        func(*Call)
		outcome    string
		key        string
		seconds    float64 // of the recording, ± 0.3
	}{
		"by silence":    {`,"silence":2`, func(*Call) {}, "silence", "", 2},
		"by a key":      {``, func(c *Call) { c.Press("5") }, "key", "5", 2},
		"by the key #":  {`,"finish_on_key":"#"`, func(c *Call) { c.Press("5"); c.Press("#") }, "key", "#", 2},
		"by its length": {`,"max_length":1,"trim":false`, func(*Call) {}, "completed", "", 1},
		"by a hang-up":  {``, func(c *Call) { c.HangUp() }, "hangup", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := recording(b, b.Phone("1001"), c.attributes)
				call.Say(Voice(3, 2*time.Second))
				b.Pass(50 * time.Millisecond)
				c.end(call)
				r := b.App.Expect("/done", "outcome", c.outcome, "key", c.key, "verb", "record")
				octets, f := shipped(t, b)
				if got := r.Value("recording_id"); got != string(f.RecordingID) {
					t.Errorf("the action was told of %q, not %s", got, f.RecordingID)
				}
				seconds := float64(len(octets)) / perSecond
				if seconds < c.seconds-0.3 || seconds > c.seconds+0.3 {
					t.Errorf("%v s were recorded, expected %v s", seconds, c.seconds)
				}
				b.Idle()
			})
		})
	}
}

func TestNothingSaidIsEmpty(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := recording(b, b.Phone("1001"), `,"silence":2`)
		b.App.Expect("/done", "outcome", "empty", "recording_id", "")
		if e := b.Event(webhooks.EventRecordingFailed); e.Data.Code != "empty" {
			t.Errorf("%+v", e.Data)
		}
		call.ExpectBye()
		b.Idle()
		if n := len(b.Events(webhooks.EventRecordingCompleted)); n != 0 {
			t.Errorf("%d recordings were completed", n)
		}
	})
}

func TestRecordingIsWhatThePhoneSaidToTheSample(t *testing.T) {
	for name, c := range map[string]struct {
		aLaw   bool
		codec  codec.ID
		length time.Duration
	}{
		"PCMU":                {false, codec.PCMU, 3 * time.Second},
		"PCMA":                {true, codec.PCMA, 3 * time.Second},
		"over three segments": {false, codec.PCMU, 65 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				phone := b.Phone("1001")
				phone.ALaw = c.aLaw
				voice := VoiceIn(c.codec, 9, c.length)
				call := recording(b, phone, `,"finish_on_key":"#","silence":0,"trim":false`)
				call.Say(voice)
				b.Pass(jitterTime)
				call.Press("#")
				b.App.Expect("/done", "outcome", "key")
				octets, f := shipped(t, b)
				if at := bytes.Index(octets, voice); at < 0 {
					t.Errorf("%d samples were said, and are not among the %d recorded", len(voice), len(octets))
				}
				if f.Codec != c.codec.Name() || f.Channels != 1 || f.Failure != "" || f.Segments != int(c.length/(30*time.Second))+1 {
					t.Errorf("%+v", f)
				}
				call.ExpectBye()
			})
		})
	}
}

func TestTrimLeavesTheWordsAndALittleSilence(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(4, 2*time.Second)
		call := recording(b, b.Phone("1001"), `,"silence":3`)
		b.Pass(1500 * time.Millisecond)
		call.Say(voice)
		b.App.Expect("/done", "outcome", "silence")
		octets, _ := shipped(t, b)
		at := bytes.Index(octets, voice)
		if at < 0 || at > perSecond/4 || len(octets) > at+len(voice)+perSecond/2 {
			t.Errorf("%d samples with the words at %d", len(octets), at)
		}
		call.ExpectBye()
	})
}

func TestCallerHearsItsOwnRecording(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(8, 2*time.Second)
		call := recording(b, b.Phone("1001"), `,"finish_on_key":"#","trim":false`)
		b.App.Answer("/done", `[{"verb":"play","recording_id":"{{trigger.recording_id}}"}]`)
		call.Say(voice)
		b.Pass(jitterTime)
		call.Press("#")
		call.Hears(voice)
		call.ExpectBye()
	})
}

func TestRecordingOfAnotherCallIsNotPlayed(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"play","recording_id":"rec_00VHNCZB04YSJMFP0KF53S83E4","on":{"failed":[{"verb":"play","media_id":"sys_goodbye"}]}}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
	})
}

func TestBeepIsHeardBeforeARecordingAndIsNotInIt(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(8, time.Second)
		call := recording(b, b.Phone("1001"), `,"beep":true,"finish_on_key":"#","channels":2,"trim":false`)
		call.Hears(Tone(t, "beep"))
		call.Say(voice)
		b.Pass(jitterTime)
		call.Press("#")
		b.App.Expect("/done", "outcome", "key")
		octets, f := shipped(t, b)
		heard, said := channels(octets)
		if f.Channels != 2 || !bytes.Contains(heard, voice) {
			t.Errorf("the caller is not on the first of %d channels", f.Channels)
		}
		if !onlySilence(said) {
			t.Error("something was heard by the caller while it was recorded")
		}
		call.ExpectBye()
	})
}

// channels takes a two-channel recording apart.
func channels(octets []byte) (first, second []byte) {
	for i := 0; i+1 < len(octets); i += 2 {
		first, second = append(first, octets[i]), append(second, octets[i+1])
	}
	return first, second
}

func onlySilence(octets []byte) bool {
	for _, octet := range octets {
		if octet != codec.PCMU.Silence() {
			return false
		}
	}
	return true
}

func TestRecordingOutlastsTheAbsenceOfTheControlPlane(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(8, 40*time.Second)
		call := recording(b, b.Phone("1001"), `,"finish_on_key":"#","silence":0,"trim":false`)
		b.Plane.Away(true)
		call.Say(voice)
		b.Pass(jitterTime)
		call.Press("#")
		call.ExpectBye()
		b.Idle()
		b.Pass(3 * time.Minute)
		b.Plane.Away(false)
		b.Pass(5 * time.Second)
		if n := len(b.Events(webhooks.EventRecordingCompleted)); n != 1 {
			t.Fatal("it was not shipped soon after the control plane's return")
		}
		octets, _ := shipped(t, b)
		if !bytes.Contains(octets, voice) {
			t.Errorf("the %d samples shipped are not what was said", len(octets))
		}
	})
}
