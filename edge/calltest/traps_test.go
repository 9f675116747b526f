package calltest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// What implementations of TwiML most often get wrong, and only a live call shows. What a document alone shows is in
// webhooks/twiml, what a single request shows in webhooks.

// enqueuedByTwiML has a TwiML application let whoever calls 1000 wait in support, with a goodbye behind the queue.
func enqueuedByTwiML(b *Bench, wait string) (*Call, webhooks.CallID) {
	b.t.Helper()
	b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
	b.App.Answer("/voice", `<Response><Enqueue action="/queued" waitUrl="/wait">support</Enqueue><Redirect>/next</Redirect></Response>`)
	b.App.Answer("/wait", wait)
	b.App.Answer("/queued", `<Response><Redirect>/never</Redirect></Response>`)
	call := b.Phone("1001").Dial("1000").Answered()
	return call, b.Event(webhooks.EventQueueJoined).CallID
}

func TestEnqueuesWaitURLLoopsAndConferencesDoesNot(t *testing.T) {
	const wait = `<Response><Play>/music.wav</Play></Response>`
	t.Run("Enqueue", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			music := Voice(3, time.Second)
			b.App.Answer("/music.wav", webhooktest.Response{ContentType: "audio/wav", Body: WAV(music)})
			call, _ := enqueuedByTwiML(b, wait)
			for range 4 {
				soon(call, music)
			}
			if n := len(told(b, "/wait")); n < 4 {
				t.Errorf("its document was asked for %d times and was heard 4 times", n)
			}
			call.HangUp()
			b.Idle()
		})
	})
	t.Run("Conference", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			music := Voice(3, time.Second)
			b.App.Answer("/music.wav", webhooktest.Response{ContentType: "audio/wav", Body: WAV(music)})
			b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
			b.App.Answer("/voice", `<Response><Dial><Conference beep="false" waitUrl="/wait">team</Conference></Dial></Response>`)
			b.App.Answer("/wait", wait)
			call, _ := enters(b, "1001", "1000")
			soon(call, music)
			b.Pass(time.Second + jitterTime)
			call.Forget()
			call.HearsSilence(10 * time.Second)
			if n := len(told(b, "/wait")); n != 1 {
				t.Errorf("its document was asked for %d times", n)
			}
			call.HangUp()
			b.Idle()
		})
	})
}

func TestHangUpInTheGatherOfAWaitURLTellsEnqueuesActionOnly(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := enqueuedByTwiML(b, `<Response><Gather numDigits="2" timeout="30" action="/pressed"/></Response>`)
		b.Pass(2 * time.Second)
		call.Press("1")
		call.HangUp()
		b.App.Expect("/voice")
		b.App.Expect("/wait", "QueuePosition", "1")
		r := b.App.Expect("/queued", "QueueResult", "hangup", "CallSid", webhooks.SID(string(id)), "CallStatus", "completed")
		if waited := r.Form.Get("QueueTime"); waited == "" || waited == "0" {
			t.Errorf("QueueTime is %q", waited)
		}
		b.Ended(webhooks.CauseCallerHangup)
		b.Pass(5 * time.Second)
		b.App.ExpectNothing() // neither the Gather's action, nor what the Enqueue's answered
	})
}

func TestQueuedCallThatIsRedirectedTellsEnqueuesActionWhoseAnswerIsIgnored(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call, id := enqueuedByTwiML(b, `<Response><Pause length="60"/></Response>`)
		b.App.Answer("/taken", `<Response><Gather numDigits="1" action="/pressed"/></Response>`)
		b.App.Answer("/pressed", `<Response><Hangup/></Response>`)
		b.Pass(3 * time.Second)
		changing(b, id, 1, `{"url":"`+b.App.URL+`/taken"}`)
		b.App.ExpectAt("/queued", "QueueResult", "redirected")
		b.App.ExpectAt("/taken", "CallStatus", "in-progress")
		b.Pass(time.Second)
		call.Press("4") // which the new document takes
		b.App.ExpectAt("/pressed", "Digits", "4")
		call.ExpectBye()
		b.Idle()
		for _, path := range []string{"/never", "/next"} {
			if n := len(told(b, path)); n != 0 {
				t.Errorf("%s was asked %d times", path, n)
			}
		}
		if n := len(told(b, "/queued")); n != 1 {
			t.Errorf("the action was told %d times", n)
		}
		if n := len(b.Events(webhooks.EventQueueLeft)); n != 1 {
			t.Errorf("the call left the queue %d times", n)
		}
	})
}

func TestRecordEndsWithAnyKeyOfItsSetAndGatherWithItsOne(t *testing.T) {
	for _, key := range []string{"1", "*"} {
		t.Run("Record and "+key, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := document(b, `<Record action="/done" playBeep="false" finishOnKey="1*"/>`).Answered()
				call.Say(Voice(1, 2*time.Second))
				call.Press("5") // no key of the set
				b.Pass(500 * time.Millisecond)
				call.Press(key)
				b.App.Expect("/done", "Digits", key)
				call.ExpectBye()
			})
		})
	}
	t.Run("Gather", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := document(b, `<Gather action="/done" finishOnKey="*"/>`).Answered()
			call.Press("1#2*")
			b.App.Expect("/done", "Digits", "1#2", "FinishedOnKey", "*")
			call.ExpectBye()
		})
	})
}

func TestARelativeActionFollowsTheURLThatARedirectLedTo(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", webhooktest.Redirect(307, "/v2/start/menu?shop=7"))
		b.App.Answer("/v2/start/menu", `<Response><Gather numDigits="1" action="next"/></Response>`)
		b.App.Answer("/v2/start/next", `<Response><Gather numDigits="1"/></Response>`, `<Response><Hangup/></Response>`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("/voice")
		b.App.Expect("/v2/start/menu")
		call.Press("1")
		b.App.Expect("/v2/start/next", "Digits", "1")
		call.Press("2") // an action that is missing is the document's own URL
		b.App.Expect("/v2/start/next", "Digits", "2")
		call.ExpectBye()
	})
}

func TestCallerWhoHangsUpWhileTheChildRingsEndsEachLegOnce(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		hangUp     func(*Call)
		status     string // of the parent
	}{
		"answered":     {``, func(c *Call) { c.Answered().HangUp() }, "completed"},
		"not answered": {` answerOnBridge="true"`, func(c *Call) { c.Expect(180).Cancel() }, "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				b.Webhook("1000", func(a *control.Application) {
					a.Format, a.StatusURL = control.FormatTwiML, b.App.URL+"/parent"
				})
				b.App.Answer("/voice", `<Response><Dial action="/dialed"`+c.attributes+`><Number statusCallback="/child" statusCallbackEvent="initiated ringing answered completed">1002</Number></Dial></Response>`)
				call := b.Phone("1001").Dial("1000")
				ringing := callee.Rings()
				b.Pass(time.Second)
				c.hangUp(call)
				ringing.ExpectCancel()
				b.Idle()
				b.Pass(5 * time.Second)
				finals := func(path string) (out []string) {
					for _, r := range told(b, path) {
						if status := r.Form.Get("CallStatus"); slices.Contains([]string{"completed", "busy", "failed", "no-answer", "canceled"}, status) {
							out = append(out, status)
						}
					}
					return out
				}
				if got := finals("/child"); !slices.Equal(got, []string{"canceled"}) {
					t.Errorf("the child's callback was told of %q", got)
				}
				if got := finals("/parent"); !slices.Equal(got, []string{c.status}) {
					t.Errorf("the parent's callback was told of %q", got)
				}
				if n := len(told(b, "/dialed")); n != 1 {
					t.Errorf("the action was told %d times", n)
				}
				perLeg := map[webhooks.CallID]int{}
				for _, e := range b.Events(webhooks.EventCallEnded) {
					perLeg[e.CallID]++
				}
				for id, n := range perLeg {
					if n != 1 {
						t.Errorf("%s ended %d times", id, n)
					}
				}
				if len(perLeg) != 2 {
					t.Errorf("%d legs ended", len(perLeg))
				}
			})
		})
	}
}

func TestHoldByReInviteDuringAGatherOnALateOffer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Gather numDigits="2" timeout="20" action="/done"/></Response>`)
		b.App.Answer("/done", `<Response><Hangup/></Response>`)
		call := b.Phone("1001").DialWith("1000", Invite{LateOffer: true}).Answered()
		b.App.Expect("/voice", "CallStatus", "ringing")
		b.Pass(time.Second)
		call.Press("1")
		call.Hold()
		b.Event(webhooks.EventCallHeld)
		b.Pass(5 * time.Second)
		call.Resume()
		b.Event(webhooks.EventCallHeld)
		call.Press("2")
		b.App.Expect("/done", "Digits", "12")
		call.ExpectBye()
		b.App.ExpectNothing()
	})
}

func TestADigitByRFC4733AndByINFOPressedLongAndRepeatedIsOne(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := document(b, `<Gather action="/done" timeout="3"/>`).Answered()
		b.Impair(func(d Datagram) []time.Duration {
			if d.From == call.rtpAddr() {
				return []time.Duration{0, 0, 40 * time.Millisecond}
			}
			return onTime
		})
		call.PressFor("1", 2*time.Second)
		call.PressINFO("1")
		call.Press("1") // which is another
		call.PressINFO("1")
		call.Press("#")
		b.App.Expect("/done", "Digits", "11", "FinishedOnKey", "#")
		call.ExpectBye()
	})
}

func TestTheFirstParticipantsStatusCallbackIsTheConferences(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		for number, room := range map[string]string{
			"1000": `statusCallback="/first" statusCallbackEvent="join"`,
			"2000": `statusCallback="/second" statusCallbackEvent="start end join leave"`,
		} {
			b.Webhook(number, func(a *control.Application) { a.Format, a.VoiceURL = control.FormatTwiML, b.App.URL+"/voice"+number })
			b.App.Answer("/voice"+number, `<Response><Dial><Conference beep="false" `+room+`>team</Conference></Dial></Response>`)
		}
		first, one := enters(b, "1001", "1000")
		second, other := enters(b, "1002", "2000")
		first.HangUp() // which leaves its callback behind
		third, _ := enters(b, "1003", "2000")
		second.HangUp()
		third.HangUp()
		b.Idle()
		b.Pass(time.Second)
		var joined []string
		for _, r := range told(b, "/first") {
			if e := r.Form.Get("StatusCallbackEvent"); e != "participant-join" {
				t.Errorf("told of %s, which it did not ask for", e)
			}
			joined = append(joined, r.Form.Get("CallSid"))
		}
		if len(joined) != 3 || joined[0] != webhooks.SID(string(one)) || joined[1] != webhooks.SID(string(other)) {
			t.Errorf("told of the participants %s", strings.Join(joined, " "))
		}
		if n := len(told(b, "/second")); n != 0 {
			t.Errorf("the second participant's callback was told %d times", n)
		}
	})
}
