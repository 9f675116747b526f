package calltest

import (
	"bytes"
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// What a called side sounds like.
func person() []byte {
	return slices.Concat(Silence(500*time.Millisecond), Voice(5, 600*time.Millisecond))
}
func machine() []byte { return slices.Concat(Silence(500*time.Millisecond), Voice(6, 8*time.Second)) }

// sine is d of a tone, as µ-law.
func sine(hz float64, d time.Duration) []byte {
	pcm := make([]int16, d*perSecond/time.Second)
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/perSecond))
	}
	return Encoded(pcm)
}

// beep is a machine with a short greeting and a beep behind it.
func beep() []byte {
	return slices.Concat(Silence(500*time.Millisecond), Voice(6, 2*time.Second), Silence(300*time.Millisecond), sine(1000, 400*time.Millisecond))
}

// fax is the calling tone (ITU-T T.30).
func fax() []byte {
	one := slices.Concat(sine(1100, 500*time.Millisecond), Silence(3*time.Second))
	return slices.Concat(one, one, one)
}

// busy is what an exchange plays to somebody whose party is talking.
func busy() []byte {
	one := slices.Concat(sine(450, 350*time.Millisecond), Silence(350*time.Millisecond))
	return slices.Repeat(one, 12)
}

func TestDetectOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		says       []byte
		want       []string
	}{
		"a person":                 {``, person(), []string{"outcome", "human", "answered_by", "human"}},
		"a machine":                {``, machine(), []string{"outcome", "machine", "answered_by", "machine"}},
		"nobody":                   {``, nil, []string{"outcome", "unknown", "answered_by", "unknown"}},
		"a fax":                    {``, fax(), []string{"outcome", "fax", "answered_by", "fax"}},
		"a beep, of which alone":   {`,"for":["beep"]`, beep(), []string{"outcome", "beep", "answered_by", "machine_end_beep"}},
		"a person, and no beep":    {`,"for":["beep"]`, person(), []string{"outcome", "human"}},
		"a machine, and no beep":   {`,"for":["beep"],"timeout":9`, machine(), []string{"outcome", "unknown", "detection_duration", "9"}},
		"an announcement":          {`,"for":["announcement"]`, busy(), []string{"outcome", "announcement", "kind", "busy"}},
		"a time that is over soon": {`,"timeout":1`, nil, []string{"outcome", "unknown", "detection_duration", "0.98"}},
		"a tuning":                 {`,"tuning":{"silence_timeout_ms":2000}`, nil, []string{"outcome", "unknown", "detection_duration", "1.98"}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"detect","id":"d","action":"/done"`+c.attributes+`}]`)
				b.App.Answer("/done", `[]`)
				call := b.Phone("1001").Dial("1000").Answered()
				call.Talk(c.says)
				b.App.Expect("incoming")
				b.App.Expect("/done", append(c.want, "verb", "detect")...)
				call.ExpectBye()
				contractKept(t, b)
				if n := len(b.Events(webhooks.EventCallDetected)); n != 1 {
					t.Errorf("%d events of it", n)
				}
			})
		})
	}
}

func TestDetectEndsWithALiveChangeAndAHangUp(t *testing.T) {
	begun := func(b *Bench) (*Call, webhooks.CallID) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"detect","action":"/done"}]`)
		b.App.Answer("/done", `[]`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.Pass(time.Second)
		return call, b.Event(webhooks.EventCallInitiated).CallID
	}
	t.Run("live change", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call, id := begun(b)
			change(t, b, id, `[{"verb":"play","media_id":"sys_goodbye"}]`)
			b.App.Expect("/done", "outcome", "redirected")
			call.ExpectBye()
			contractKept(t, b)
		})
	})
	t.Run("hang-up", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call, _ := begun(b)
			call.HangUp()
			b.App.Expect("/done", "outcome", "hangup")
			contractKept(t, b)
		})
	})
}

// change replaces what a leg runs.
func change(t *testing.T, b *Bench, id webhooks.CallID, program string) {
	t.Helper()
	a := control.Action{ActionID: webhooks.NewActionID(), AccountID: Account, CallID: id}
	a.Change.Program = Program(t, program)
	if err := b.Calls.Act(context.Background(), a); err != nil {
		t.Fatal(err)
	}
}

func TestDialWithMachineDetectionConnectsPeopleOnly(t *testing.T) {
	for name, c := range map[string]struct {
		detection string
		says      []byte
		connected bool
		want      []string
	}{
		"a person":               {`{}`, person(), true, []string{"outcome", "completed", "answered_by", "human"}},
		"nobody speaks":          {`{}`, nil, true, []string{"outcome", "completed", "answered_by", "unknown"}},
		"a machine":              {`{}`, machine(), false, []string{"outcome", "machine", "answered_by", "machine", "sip_code", "200"}},
		"a fax":                  {`{}`, fax(), false, []string{"outcome", "machine", "answered_by", "fax"}},
		"a machine and its beep": {`{"mode":"message_end"}`, beep(), false, []string{"outcome", "machine", "answered_by", "machine_end_beep"}},
		"a machine to its end":   {`{"mode":"message_end"}`, machine(), false, []string{"outcome", "machine", "answered_by", "machine_end_silence"}},
		"a machine to the end of time": {`{"mode":"message_end","timeout":6}`, machine(), false,
			[]string{"outcome", "machine", "answered_by", "machine_end_other"}},
		"a person who is asked for a message's end": {`{"mode":"message_end"}`, person(), true, []string{"outcome", "completed", "answered_by", "human"}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := dialing(b, to1002, `,"machine_detection":`+c.detection).Answered()
				answered := callee.Rings().Answer()
				answered.Talk(c.says)
				b.Event(webhooks.EventCallDetected)
				if c.connected {
					b.Event(webhooks.EventCallBridged)
					answered.HangUp()
				} else {
					answered.ExpectBye()
				}
				b.App.Expect("/done", c.want...)
				call.ExpectBye()
				if n := len(b.Events(webhooks.EventCallBridged)); (n > 0) != c.connected {
					t.Errorf("%d events of a bridge", n)
				}
				contractKept(t, b)
			})
		})
	}
}

func TestAsyncMachineDetectionConnectsAtOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.App.Answer("/amd", "")
		call := dialing(b, `{"extension":"1002","machine_detection":{"async":true,"status_url":"/amd"}}`, ``).Answered()
		answered := callee.Rings().Answer()
		b.Event(webhooks.EventCallBridged)
		if n := len(b.Events(webhooks.EventCallDetected)); n != 0 {
			t.Error("it was waited for")
		}
		greeting := machine()
		answered.Talk(greeting)
		b.App.Expect("/amd", "type", "call.detected", "data.answered_by", "machine")
		b.Pass(4 * time.Second)
		if !bytes.Contains(call.Heard(), greeting[8000:40000]) {
			t.Error("the caller did not hear the machine")
		}
		call.Talking()
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "answered_by", "machine")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestTwilioAsyncDetectionCallback(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Dial><Number machineDetection="DetectMessageEnd" amdStatusCallback="/amd">1002</Number></Dial></Response>`)
		b.App.Answer("/amd", "")
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("/voice")
		answered := callee.Rings().Answer()
		answered.Talk(beep())
		b.App.Expect("/amd", "AnsweredBy", "machine_end_beep")
		answered.HangUp()
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestAnnouncementBeforeTheAnswerEndsTheDial(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"machine_detection":{}`).Answered()
		announcing := callee.Called().Early()
		announcing.Talk(busy())
		announcing.ExpectCancel()
		b.App.Expect("/done", "outcome", "machine", "announcement", "busy", "cause", "busy")
		call.ExpectBye()
		contractKept(t, b)
		expectLegs(t, b, map[string]webhooks.Cause{"1000": webhooks.CauseProgramEnd, "1002": webhooks.CauseBusy})
	})
}

func TestAnnouncementIsToldBesideTheNetworksOwnEnd(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"machine_detection":{"async":true}`).Answered()
		announcing := callee.Called().Early()
		announcing.Talk(busy())
		b.Pass(8 * time.Second)
		announcing.Refuse(480)
		b.App.Expect("/done", "outcome", "no_answer", "announcement", "busy", "sip_code", "480")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestWhoAnswersBehindEarlyMediaIsStillDetected(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, `,"machine_detection":{}`).Answered()
		ringing := callee.Called().Early()
		ringing.Talk(slices.Repeat(slices.Concat(sine(450, time.Second), Silence(4*time.Second)), 2))
		b.Pass(9 * time.Second)
		answered := ringing.Answer()
		answered.Talk(person())
		b.Event(webhooks.EventCallBridged)
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "answered_by", "human")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestMachineAmongSeveralLeavesTheOthersRinging(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		first, second := b.Phone("1002"), b.Phone("1003")
		call := dialing(b, both, `,"machine_detection":{}`).Answered()
		voicemail, ringing := first.Rings(), second.Rings()
		voicemail.Answer().Talk(machine())
		voicemail.ExpectBye()
		answered := ringing.Answer()
		answered.Talk(person())
		b.Event(webhooks.EventCallBridged)
		answered.HangUp()
		b.App.Expect("/done", "outcome", "completed", "target", "1003")
		call.ExpectBye()
		contractKept(t, b)
	})
}

func TestEndsWhileAMachineIsListenedFor(t *testing.T) {
	for name, c := range map[string]struct {
		end     func(t *testing.T, b *Bench, call, answered *Call)
		outcome string
	}{
		"the caller hangs up": {func(_ *testing.T, _ *Bench, call, answered *Call) { call.HangUp(); answered.ExpectBye() }, "hangup"},
		"the callee hangs up": {func(_ *testing.T, _ *Bench, call, answered *Call) { answered.HangUp(); call.ExpectBye() }, "declined"},
		"a live change": {func(t *testing.T, b *Bench, call, answered *Call) {
			change(t, b, b.Event(webhooks.EventCallInitiated).CallID, `[{"verb":"hangup"}]`)
			answered.ExpectBye()
			call.ExpectBye()
		}, "redirected"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := dialing(b, to1002, `,"machine_detection":{}`).Answered()
				answered := callee.Rings().Answer()
				b.Pass(time.Second)
				c.end(t, b, call, answered)
				b.App.Expect("/done", "outcome", c.outcome)
				contractKept(t, b)
			})
		})
	}
}

func TestOriginatedCallTellsWhoAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		says []byte
		by   string
	}{"a person": {person(), "human"}, "a machine": {machine(), "machine"}} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				b.App.Answer("/voice", `[]`)
				err := b.Calls.Originate(context.Background(), control.Originate{
					CallID: webhooks.NewCallID(), AccountID: Account, From: "1000", Target: webhooks.DialTarget{Extension: "1002"}, StartedAt: time.Now(),
					Application:      control.Application{ID: "app_hook", Format: control.FormatNative, VoiceURL: b.App.URL + "/voice"},
					MachineDetection: &webhooks.MachineDetection{Mode: "machine", Timeout: 30},
				})
				if err != nil {
					t.Fatal(err)
				}
				answered := callee.Rings().Answer()
				answered.Talk(c.says)
				b.App.Expect("answered", "call.answered_by", c.by)
				answered.ExpectBye()
				contractKept(t, b)
			})
		})
	}
}

func TestOriginatedCallThatIsAnnouncedToBeBusyEndsSo(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		err := b.Calls.Originate(context.Background(), control.Originate{
			CallID: webhooks.NewCallID(), AccountID: Account, From: "1000", Target: webhooks.DialTarget{Extension: "1002"}, StartedAt: time.Now(),
			Application:      control.Application{ID: "app_x", Program: Program(t, `[{"verb":"play","media_id":"sys_goodbye"}]`)},
			MachineDetection: &webhooks.MachineDetection{Mode: "machine", Timeout: 30},
		})
		if err != nil {
			t.Fatal(err)
		}
		announcing := callee.Called().Early()
		announcing.Talk(busy())
		announcing.ExpectCancel()
		b.Ended(webhooks.CauseBusy)
		contractKept(t, b)
	})
}
