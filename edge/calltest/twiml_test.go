package calltest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// document has a TwiML application, whose signatures are checked, answer a call with the verbs of a document. /done
// hangs up.
func document(b *Bench, verbs string) *Call {
	b.App.Secrets(secret)
	b.Webhook("1000", func(a *control.Application) { a.Format, a.Secrets = control.FormatTwiML, []string{secret} })
	b.App.Answer("/voice", `<Response>`+verbs+`</Response>`)
	b.App.Answer("/done", `<Response><Hangup/></Response>`)
	call := b.Phone("1001").Dial("1000")
	b.App.Expect("/voice", "CallStatus", "ringing", "From", "1001", "To", "1000", "Direction", "inbound")
	return call
}

func TestTwiMLGatherWithoutActionAsksTheCurrentURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Secrets(secret)
		b.Webhook("1000", func(a *control.Application) { a.Format, a.Secrets = control.FormatTwiML, []string{secret} })
		b.App.Answer("/voice", `<Response><Redirect>menu/start?a=1&amp;b=2</Redirect></Response>`)
		b.App.Answer("/menu/start", `<Response><Gather numDigits="1"/></Response>`, `<Response><Redirect/></Response>`, `<Response><Hangup/></Response>`)
		call := b.Phone("1001").Dial("1000")
		b.App.Expect("/voice")
		b.App.Expect("/menu/start")
		call.Answered().Press("7")
		for range 2 { // the Gather, and then the empty Redirect
			if r := b.App.Expect("/menu/start"); !strings.HasSuffix(r.URL, "/menu/start?a=1&b=2") || r.Form.Get("CallStatus") != "in-progress" {
				t.Errorf("asked %s with %v", r.URL, r.Form)
			}
		}
		call.ExpectBye()
		b.App.ExpectNothing()
	})
}

func TestTwiMLGather(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		press      string
		asked      string // the Digits /done is asked with; "-" when it is not asked
		key        string
	}{
		"digits":                         {`numDigits="2"`, "12", "12", ""},
		"digits and the key":             {``, "12#", "12", "#"},
		"no input falls through":         {`timeout="1"`, "", "-", ""},
		"the key alone falls through":    {``, "#", "-", ""},
		"no input, but wants to be told": {`timeout="1" actionOnEmptyResult="true"`, "", "", ""},
		"another key":                    {`finishOnKey="*"`, "4#*", "4#", "*"},
		"no key":                         {`finishOnKey="" numDigits="2"`, "#*", "#*", ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := document(b, `<Gather action="/done" `+c.attributes+`/><Redirect>/next</Redirect>`).Answered()
				b.App.Answer("/next", `<Response><Hangup/></Response>`)
				call.Press(c.press)
				if c.asked == "-" {
					b.App.Expect("/next")
				} else {
					b.App.Expect("/done", "Digits", c.asked, "FinishedOnKey", c.key)
				}
				call.ExpectBye()
				b.App.ExpectNothing()
			})
		})
	}
}

func TestTwiMLHangUpInGatherAsksNobody(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := document(b, `<Gather action="/done" actionOnEmptyResult="true"><Pause length="5"/></Gather><Redirect>/next</Redirect>`).Answered()
		b.Pass(time.Second)
		call.Press("1")
		call.HangUp()
		b.Ended(webhooks.CauseCallerHangup)
		b.Pass(5 * time.Second)
		b.App.ExpectNothing()
	})
}

func TestTwiMLDialTellsItsAction(t *testing.T) {
	for name, c := range map[string]struct {
		callee func(*Phone)
		tells  []string
	}{
		"busy":      {func(p *Phone) { p.Rings().Busy() }, []string{"DialCallStatus", "busy", "DialCallDuration", "", "DialSipResponseCode", "486", "DialBridged", "false"}},
		"no answer": {func(p *Phone) { p.Rings().ExpectCancel() }, []string{"DialCallStatus", "no-answer", "DialCallDuration", ""}},
		"failed":    {func(p *Phone) { p.Rings().Refuse(500) }, []string{"DialCallStatus", "failed", "DialSipResponseCode", "500"}},
		"completed": {func(p *Phone) {
			call := p.Rings().Answer()
			p.b.Pass(7 * time.Second)
			call.HangUp()
		}, []string{"DialCallStatus", "completed", "DialCallDuration", "7", "DialBridged", "true", "CallStatus", "in-progress"}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := document(b, `<Dial action="/done" timeout="10" callerId="+86 (23) 6892-5278">1002</Dial><Redirect>/next</Redirect>`).Answered()
				c.callee(callee)
				r := b.App.Expect("/done", c.tells...)
				if sid := r.Form.Get("DialCallSid"); !strings.HasPrefix(sid, "CA") || sid == r.Form.Get("CallSid") {
					t.Errorf("DialCallSid is %q", sid)
				}
				call.ExpectBye()
				b.App.ExpectNothing()
			})
		})
	}
}

func TestTwiMLDialWithoutActionGoesOn(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := document(b, `<Dial>1002</Dial><Redirect method="GET">/next?x=1</Redirect>`).Answered()
		callee.Rings().Decline()
		if r := b.App.Expect("/next", "CallStatus", "in-progress"); r.Method != http.MethodGet || r.Form.Get("x") != "1" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		call.ExpectBye()
	})
}

func TestTwiMLScreenRunsOnTheCallee(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := document(b, `<Dial action="/done"><Number url="/screen">1002</Number></Dial>`).Answered()
		b.App.Answer("/screen", `<Response><Gather numDigits="1" action="/pressed"/><Hangup/></Response>`)
		b.App.Answer("/pressed", `<Response/>`)
		screened := callee.Rings().Answer()
		r := b.App.Expect("/screen", "Direction", "outbound-dial", "To", "1002")
		if r.Form.Get("ParentCallSid") == "" {
			t.Error("without ParentCallSid")
		}
		screened.Press("1")
		b.App.Expect("/pressed", "Digits", "1")
		b.Event(webhooks.EventCallBridged)
		call.HangUp()
		screened.ExpectBye()
		b.App.Expect("/done", "DialCallStatus", "completed")
	})
}

func TestTwiMLRecordTellsWhereTheRecordingIs(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(*Call)
		digits string
	}{
		"a key":     {func(c *Call) { c.Press("#") }, "#"},
		"a hang-up": {func(c *Call) { c.HangUp() }, "hangup"},
	} {
		t.Run(name, func(t *testing.T) {
			public := func(c *session.Config) { c.PublicURL = "https://api.example.com" }
			storyWith(t, Setup{Session: public}, func(t *testing.T, b *Bench) {
				call := document(b, `<Record action="/done" playBeep="false" trim="do-not-trim"/>`).Answered()
				call.Say(Voice(1, 3*time.Second))
				b.Pass(jitterTime)
				c.end(call)
				r := b.App.Expect("/done", "Digits", c.digits, "RecordingDuration", "3")
				e := b.Event(webhooks.EventRecordingCompleted)
				if got := r.Form.Get("RecordingUrl"); got != "https://api.example.com/v1/recordings/"+string(e.Data.RecordingID)+"/media" {
					t.Errorf("RecordingUrl is %q", got)
				}
				if got := r.Form.Get("RecordingSid"); got != webhooks.SID(string(e.Data.RecordingID)) {
					t.Errorf("RecordingSid is %q", got)
				}
				b.Idle()
			})
		})
	}
}

func TestTwiMLEmptyRecordingGoesOn(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := document(b, `<Record action="/done" playBeep="false" timeout="2"/><Redirect>/next</Redirect>`).Answered()
		b.App.Expect("/next")
		call.ExpectBye()
	})
}

func TestTwiMLReject(t *testing.T) {
	for verb, code := range map[string]int{`<Reject reason="busy"/>`: 486, `<Reject/>`: 603} {
		t.Run(verb, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) { document(b, verb).Expect(code) })
		})
	}
}

func TestTwiMLCookiesComeBackWithinTheCall(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/next", webhooktest.Response{
			ContentType: "text/xml", Header: http.Header{"Set-Cookie": {"step=2; Path=/"}}, Body: `<Response><Redirect>/last</Redirect></Response>`,
		})
		b.App.Answer("/last", `<Response><Reject/></Response>`)
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", webhooktest.Response{
			ContentType: "text/xml", Header: http.Header{"Set-Cookie": {"session=42; Path=/; HttpOnly"}}, Body: `<Response><Redirect>/next</Redirect></Response>`,
		})
		for range 2 { // the second call knows nothing of the first
			b.Phone("1001").Dial("1000").Expect(603)
			for _, c := range []struct{ path, cookie string }{{"/voice", ""}, {"/next", "session=42"}, {"/last", "session=42; step=2"}} {
				if got := b.App.Expect(c.path).Header.Get("Cookie"); got != c.cookie {
					t.Errorf("%s was asked with the cookies %q, expected %q", c.path, got, c.cookie)
				}
			}
		}
	})
}

func TestTwiMLByGETIsSigned(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Secrets(secret)
		b.Webhook("1000", func(a *control.Application) {
			a.Format, a.Secrets, a.Method, a.VoiceURL = control.FormatTwiML, []string{secret}, "GET", b.App.URL+"/voice?shop=7"
		})
		b.App.Answer("/voice", `<Response><Reject/></Response>`)
		b.Phone("1001").Dial("1000").Expect(603)
		r := b.App.Expect("/voice", "From", "1001", "shop", "7")
		if r.Method != http.MethodGet || r.Header.Get(webhooks.HeaderTwilioSignature) == "" {
			t.Errorf("%s with signature %q", r.Method, r.Header.Get(webhooks.HeaderTwilioSignature))
		}
	})
}

// calledBack are the requests to a callback, each of which must have been made by this method: GET with the parameters
// behind those that the URL has, which are n=1, and no body; POST with a form. Their signatures the application checks.
func calledBack(t *testing.T, b *Bench, path, method string) []webhooktest.Request {
	t.Helper()
	requests := told(b, path)
	if len(requests) == 0 {
		t.Errorf("%s was not told", path)
	}
	for _, r := range requests {
		query := strings.Contains(r.URL, path+"?n=1&") && strings.Contains(r.URL, "AccountSid=AC")
		if r.Method != method || query != (method == http.MethodGet) || (len(r.Body) == 0) != query || r.Form.Get("AccountSid") == "" {
			t.Errorf("%s was told by %s %s with a body of %d bytes, expected %s", path, r.Method, r.URL, len(r.Body), method)
		}
	}
	return requests
}

// callbackMethods are what a document may say and what is meant.
var callbackMethods = map[string]string{
	`GET`: http.MethodGet, `get`: http.MethodGet, `POST`: http.MethodPost, ``: http.MethodPost, `PUT`: http.MethodPost,
}

func TestTwiMLCallbacksOfALegAreMadeByTheirMethod(t *testing.T) {
	for given, method := range callbackMethods {
		t.Run(given, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				callee := b.Phone("1002")
				call := document(b, strings.ReplaceAll(`<Start><Recording recordingStatusCallback="/beside?n=1" recordingStatusCallbackMethod=M/></Start>
					<Dial record="record-from-answer" recordingStatusCallback="/bridge?n=1" recordingStatusCallbackMethod=M>
						<Number statusCallback="/leg?n=1" statusCallbackEvent="answered completed" statusCallbackMethod=M
							machineDetection="DetectMessageEnd" amdStatusCallback="/amd?n=1" amdStatusCallbackMethod=M>1002</Number>
					</Dial>`, "=M", `="`+given+`"`)).Answered()
				answered := callee.Rings().Answer()
				answered.Talk(beep())
				b.Event(webhooks.EventCallDetected)
				b.Pass(time.Second)
				answered.HangUp()
				call.ExpectBye()
				b.Idle()
				b.Pass(5 * time.Second)
				for _, path := range []string{"/beside", "/bridge", "/leg", "/amd"} {
					calledBack(t, b, path, method)
				}
			})
		})
	}
}

func TestTwiMLCallbackOfARecordIsMadeByItsMethod(t *testing.T) {
	for given, method := range callbackMethods {
		t.Run(given, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := document(b, `<Record playBeep="false" finishOnKey="#" action="/done" recordingStatusCallback="/recorded?n=1" recordingStatusCallbackMethod="`+given+`"/>`).Answered()
				call.Say(Voice(1, time.Second))
				call.Press("#")
				call.ExpectBye()
				b.Idle()
				b.Pass(5 * time.Second)
				for _, r := range calledBack(t, b, "/recorded", method) {
					if r.Form.Get("RecordingStatus") != "completed" || r.Form.Get("n") != "1" && method == http.MethodGet {
						t.Errorf("told %v", r.Form)
					}
				}
			})
		})
	}
}

func TestTwiMLCallbacksOfAConferenceAreMadeByTheirMethod(t *testing.T) {
	for given, method := range callbackMethods {
		t.Run(given, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				first := document(b, strings.ReplaceAll(`<Dial><Conference record="record-from-start" statusCallback="/room?n=1" statusCallbackEvent="join leave end"
					statusCallbackMethod=M recordingStatusCallback="/recorded?n=1" recordingStatusCallbackMethod=M>team</Conference></Dial>`, "=M", `="`+given+`"`)).Answered()
				second := b.Phone("1002").Dial("1000").Answered()
				b.Event(webhooks.EventRecordingStarted)
				first.Say(Voice(1, time.Second))
				first.HangUp()
				second.HangUp()
				b.Idle()
				b.Pass(5 * time.Second)
				calledBack(t, b, "/room", method)
				calledBack(t, b, "/recorded", method)
			})
		})
	}
}

// The recording of a room belongs to the edge that has it; who asked for it, and how its callback is made, to another.
func TestTwiMLCallbackMethodGoesToTheEdgeOfTheRoom(t *testing.T) {
	twoEdges(t, func(t *testing.T, b *Bench, other *Edge) {
		b.App.Secrets(secret)
		for number, path := range map[string]string{"1000": "/near", "2000": "/far"} {
			b.Webhook(number, func(a *control.Application) {
				a.Format, a.Secrets, a.VoiceURL = control.FormatTwiML, []string{secret}, b.App.URL+path
			})
		}
		b.App.Answer("/near", `<Response><Dial><Conference beep="false">team</Conference></Dial></Response>`)
		b.App.Answer("/far", `<Response><Dial><Conference beep="false" record="record-from-start" recordingStatusCallback="/recorded?n=1" recordingStatusCallbackMethod="GET">team</Conference></Dial></Response>`)
		near, _ := enters(b, "1001", "1000")
		far, _ := entersAt(b, other, "1002", "2000")
		b.Event(webhooks.EventRecordingStarted)
		speaking(b, 1, far, near)
		far.HangUp()
		near.HangUp()
		bothIdle(b, other)
		b.Pass(5 * time.Second)
		calledBack(t, b, "/recorded", http.MethodGet)
	})
}

func TestTwiMLCallbackByGETIsRepeatedAsItWas(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.App.Answer("/leg", webhooktest.Status(503), webhooktest.Reset(), nil)
		call := document(b, `<Dial><Number statusCallback="/leg?n=1" statusCallbackMethod="GET">1002</Number></Dial>`)
		callee.Rings().Decline()
		call.Answered().ExpectBye()
		b.Idle()
		b.Pass(5 * time.Second)
		requests := calledBack(t, b, "/leg", http.MethodGet)
		if len(requests) != 3 {
			t.Fatalf("told %d times", len(requests))
		}
		for _, r := range requests[1:] {
			if id := requests[0].Header.Get(webhooks.HeaderID); id == "" || r.Header.Get(webhooks.HeaderID) != id || r.URL != requests[0].URL {
				t.Errorf("repeated as %s %s, was %s %s", r.Header.Get(webhooks.HeaderID), r.URL, id, requests[0].URL)
			}
		}
	})
}

func TestEitherDialectInAnyStep(t *testing.T) {
	for format, asked := range map[string]string{control.FormatNative: "digits", control.FormatTwiML: "Digits"} {
		t.Run(format, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", func(a *control.Application) { a.Format = format })
				b.App.Answer("/voice", `<Response><Gather numDigits="1" action="json"/></Response>`)
				b.App.Answer("/json", `{"instructions":[{"verb":"gather","num_digits":1,"action":"xml"}]}`)
				b.App.Answer("/xml", webhooktest.Response{ContentType: "text/html; charset=utf-8", Body: "\n<Response><Gather numDigits=\"1\" action=\"list\"/></Response>"})
				b.App.Answer("/list", `[{"verb":"hangup"}]`)
				call := b.Phone("1001").Dial("1000").Answered()
				b.App.Expect("/voice")
				for i, path := range []string{"/json", "/xml", "/list"} {
					key := string('1' + byte(i))
					call.Press(key)
					b.App.Expect(path, asked, key)
				}
				call.ExpectBye()
			})
		})
	}
}

func TestTwiMLFallbackIsToldTheError(t *testing.T) {
	for name, c := range map[string]struct {
		answer any
		code   string
	}{
		"a status":       {webhooktest.Status(500), "11200"},
		"a time":         {webhooktest.Hang(), "11200"},
		"a wrong answer": {`<Response><Sing/></Response>`, "12100"},
		"not even XML":   {`<Response><Say>`, "12100"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Secrets(secret)
				b.Webhook("1000", func(a *control.Application) {
					a.Format, a.Secrets, a.FallbackURL = control.FormatTwiML, []string{secret}, b.App.URL+"/fallback"
				})
				b.App.Answer("/voice", c.answer)
				b.App.Answer("/fallback", `<Response><Reject reason="busy"/></Response>`)
				call := b.Phone("1001").Dial("1000")
				b.App.Expect("/voice")
				b.App.Expect("/fallback", "ErrorCode", c.code, "ErrorUrl", b.App.URL+"/voice", "CallStatus", "ringing")
				call.Expect(486)
			})
		})
	}
}
