package calltest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// asking has the application answer a call with a program.
func asking(b *Bench, program string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", program)
	call := b.Phone("1001").Dial("1000")
	b.App.Expect("incoming")
	return call
}

func TestOutcomeGoesOnByTheFirstThatFits(t *testing.T) {
	play := func(id string) string { return `[{"verb":"play","media_id":"` + id + `"}]` }
	for name, c := range map[string]struct {
		gather string
		hears  []string
		asked  string
	}{
		"on.outcome before all": {`"on":{"timeout":` + play("sys_digits_1") + `,"default":` + play("sys_digits_2") + `},"action":"/action"`,
			[]string{"sys_digits_1", "sys_goodbye"}, ""},
		"on.default before action": {`"on":{"digits":` + play("sys_digits_1") + `,"default":` + play("sys_digits_2") + `},"action":"/action"`,
			[]string{"sys_digits_2", "sys_goodbye"}, ""},
		"action before the next":        {`"on":{"digits":[]},"action":"/action"`, []string{"sys_digits_9"}, "/action"},
		"the next instruction at last":  {`"on":{"digits":[]}`, []string{"sys_goodbye"}, ""},
		"an empty list goes on":         {`"on":{"timeout":[]},"action":"/action"`, []string{"sys_goodbye"}, ""},
		"a URL under on replaces":       {`"on":{"timeout":"/action"}`, []string{"sys_digits_9"}, "/action"},
		"a URL with its method as well": {`"on":{"timeout":{"url":"/action","method":"POST"}}`, []string{"sys_digits_9"}, "/action"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/action", play("sys_digits_9"))
				call := asking(b, `[{"verb":"gather","timeout":0,`+c.gather+`},{"verb":"play","media_id":"sys_goodbye"}]`).Answered()
				for _, id := range c.hears {
					call.Hears(SystemPrompt(t, id))
				}
				call.ExpectBye()
				if c.asked != "" {
					b.App.Expect(c.asked, "outcome", "timeout")
				}
				b.App.ExpectNothing()
			})
		})
	}
}

func TestStateComesBackUntilItIsCleared(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/1", `{"instructions":[{"verb":"redirect","url":"/2"}],"state":{"lang":"zh","step":1}}`)
		b.App.Answer("/2", `{"instructions":[{"verb":"redirect","url":"/3"}]}`)
		b.App.Answer("/3", `{"instructions":[{"verb":"redirect","url":"/4"}],"state":null}`)
		b.App.Answer("/4", `[{"verb":"reject"}]`)
		call := asking(b, `[{"verb":"redirect","url":"/1"}]`)
		b.App.Expect("/1", "request_sequence", "2", "state", "")
		b.App.Expect("/2", "request_sequence", "3", "state.lang", "zh", "state.step", "1")
		b.App.Expect("/3", "request_sequence", "4", "state.lang", "zh")
		b.App.Expect("/4", "request_sequence", "5", "state", "")
		call.Expect(603)
	})
}

func TestTagMergesDataAndTemplatesSeeIt(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/next", `[{"verb":"reject"}]`)
		call := asking(b, `{"state":{"shop":"a b/c"},"instructions":[
			{"verb":"tag","data":{"name":"Li","vip":true}},{"verb":"tag","data":{"name":"Han","n":3}},
			{"verb":"redirect","url":"/next?name={{data.name}}&vip={{data.vip}}&n={{data.n}}&shop={{state.shop}}&from={{call.from}}&none={{data.none}}"}]}`)
		r := b.App.Expect("/next", "data.name", "Han", "data.vip", "true", "data.n", "3")
		if want := "/next?name=Han&vip=true&n=3&shop=a+b%2Fc&from=1001&none="; !strings.HasSuffix(r.URL, want) {
			t.Errorf("asked %s, expected %s", r.URL, want)
		}
		call.Expect(603)
	})
}

func TestTemplatesSpeakToThePersonWithoutAServer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"gather","num_digits":1},{"verb":"play","media_id":"sys_digits_{{trigger.digits}}"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Press("7")
		call.Hears(SystemPrompt(t, "sys_digits_7"))
		call.ExpectBye()
	})
}

func TestHundredIdleInstructionsAreALoop(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		cause   webhooks.Cause
	}{
		"a program that asks for itself": {`[{"verb":"redirect","url":"/voice"}]`, webhooks.CauseLoop},
		"101 tags":                       {`[` + strings.Repeat(`{"verb":"tag","data":{"a":1}},`, 100) + `{"verb":"tag","data":{"a":1}}]`, webhooks.CauseLoop},
		"100 tags":                       {`[` + strings.Repeat(`{"verb":"tag","data":{"a":1}},`, 99) + `{"verb":"tag","data":{"a":1}}]`, webhooks.CauseProgramEnd},
		"a second of waiting among them": {`[` + strings.Repeat(`{"verb":"tag","data":{"a":1}},`, 60) + `{"verb":"pause"},` + strings.Repeat(`{"verb":"tag","data":{"a":1}},`, 60) + `{"verb":"tag","data":{"a":1}}]`, webhooks.CauseProgramEnd},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				asking(b, c.program)
				b.Ended(c.cause)
			})
		})
	}
}

func TestRelativeURLsFollowTheFinalURLAfterRedirects(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/voice", webhooktest.Redirect(307, "/v2/start/"))
		b.App.Answer("/v2/start/", `[{"verb":"gather","timeout":0,"action":"menu"}]`)
		b.App.Answer("/v2/start/menu", `[{"verb":"gather","timeout":0,"action":"end"}]`)
		b.App.Answer("/v2/start/end", `[]`)
		b.Webhook("1000", nil)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("/voice")
		b.App.Expect("/v2/start/")
		b.App.Expect("/v2/start/menu")
		b.App.Expect("/v2/start/end")
		call.ExpectBye()
	})
}

func TestPauseDoesNotAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"pause","length":3},{"verb":"reject"}]`)
		call := b.Phone("1001").Dial("1000").Expect(180)
		call.ExpectNothing(2900 * time.Millisecond)
		call.Expect(603)
		if cdr := b.Ended(webhooks.CauseRejected); cdr.AnsweredAt != nil || cdr.Status != webhooks.StatusRejected {
			t.Errorf("%+v", cdr)
		}
	})
}

func TestRejectBeforeAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		reject string
		code   int
		cause  webhooks.Cause
		status webhooks.Status
	}{
		"as it is":       {`{"verb":"reject"}`, 603, webhooks.CauseRejected, webhooks.StatusRejected},
		"busy":           {`{"verb":"reject","reason":"busy"}`, 486, webhooks.CauseBusy, webhooks.StatusBusy},
		"by a SIP code":  {`{"verb":"reject","sip_code":404}`, 404, webhooks.CauseRejected, webhooks.StatusRejected},
		"by hanging up":  {`{"verb":"hangup"}`, 603, webhooks.CauseProgramEnd, webhooks.StatusRejected},
		"an empty list":  {``, 603, webhooks.CauseProgramEnd, webhooks.StatusRejected},
		"hangup a cause": {`{"verb":"hangup","cause":"busy"}`, 486, webhooks.CauseBusy, webhooks.StatusBusy},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Program("1000", `[`+c.reject+`]`)
				b.Phone("1001").Dial("1000").Expect(180).Expect(c.code)
				if cdr := b.Ended(c.cause); cdr.Status != c.status || cdr.SIPCode != c.code || cdr.AnsweredAt != nil {
					t.Errorf("%+v", cdr)
				}
			})
		})
	}
}

func TestRejectAfterAnAnswerHangsUp(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"pause"},{"verb":"reject","reason":"busy"}]`)
		b.Phone("1001").Dial("1000").Answered().ExpectBye()
		if cdr := b.Ended(webhooks.CauseProgramEnd); cdr.Status != webhooks.StatusCompleted {
			t.Errorf("%+v", cdr)
		}
	})
}

func TestRejectedAnswersNameThePlace(t *testing.T) {
	for name, c := range map[string]struct {
		answer  any
		pointer string
		message string
	}{
		"an unknown verb":    {`[{"verb":"answer"},{"verb":"sing"}]`, "/1/verb", "sing"},
		"a wrong attribute":  {`{"instructions":[{"verb":"gather","timeout":601}]}`, "/instructions/0/timeout", "0–600"},
		"not JSON":           {webhooktest.Garbage(), "", "JSON"},
		"more than may come": {webhooktest.Oversized(), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", c.answer)
				call := b.Phone("1001").Dial("1000").Answered()
				if name == "more than may come" {
					b.Event(webhooks.EventWebhookFailed)
				} else if e := b.Event(webhooks.EventWebhookRejected); e.Data.Pointer != c.pointer || !strings.Contains(e.Data.Message, c.message) {
					t.Errorf("%q: %s", e.Data.Pointer, e.Data.Message)
				}
				call.Hears(SystemPrompt(t, "sys_apology"))
				call.ExpectBye()
				b.Ended(webhooks.CauseWebhookFailed)
			})
		})
	}
}

func TestTwiMLIsAnsweredByTheSameExecutor(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.Format = control.FormatTwiML })
		b.App.Answer("/voice", `<Response><Gather numDigits="1" timeout="3" action="/menu?a=1&amp;b=2"></Gather><Reject/></Response>`)
		b.App.Answer("/menu", `<Response><Hangup/></Response>`)
		call := b.Phone("1001").Dial("1000").Answered()
		if r := b.App.Expect("/voice"); r.Form.Get("From") != "1001" || r.Form.Get("CallStatus") != "ringing" || !strings.HasPrefix(r.Form.Get("CallSid"), "CA") {
			t.Errorf("asked with %v", r.Form)
		}
		call.Press("5")
		if r := b.App.Expect("/menu"); r.Form.Get("Digits") != "5" {
			t.Errorf("asked with %v", r.Form)
		}
		call.ExpectBye()
	})
}

func TestAudioAndTextAsAnAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(5, 700*time.Millisecond)
		b.Webhook("1000", nil)
		b.App.Answer("/voice", webhooktest.Response{ContentType: "audio/wav", Body: WAV(voice)})
		call := b.Phone("1001").Dial("1000").Answered()
		call.Hears(voice)
		call.ExpectBye()
	})
}

func TestAudioFromAURLIsPlayedToTheSample(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		voice := Voice(6, 900*time.Millisecond)
		b.App.Answer("/welcome.wav", webhooktest.Response{ContentType: "audio/wav", Body: WAV(voice)})
		call := asking(b, `[{"verb":"play","url":"welcome.wav","loop":2}]`).Answered()
		call.Hears(voice)
		call.Hears(voice)
		call.ExpectBye()
	})
}

func TestSayWithoutASpeechEngineSaysSo(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/said", `[]`)
		call := asking(b, `[{"verb":"say","text":"hello","on":{"failed":"/said"}}]`).Answered()
		call.Hears(SystemPrompt(t, "sys_no_speech"))
		b.App.Expect("/said", "outcome", "failed")
		call.ExpectBye()
	})
}

func TestEarlyMediaDoesNotAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"play","media_id":"sys_busy","early":true},{"verb":"reject","reason":"busy"}]`)
		call := b.Phone("1001").Dial("1000").Expect(183)
		call.Hears(SystemPrompt(t, "sys_busy"))
		call.Expect(486)
		if cdr := b.Ended(webhooks.CauseBusy); cdr.AnsweredAt != nil {
			t.Error("answered")
		}
	})
}

func TestNothingIsSentBeforeAnAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"pause","length":40},{"verb":"answer"},{"verb":"pause","length":2}]`)
		call := b.Phone("1001").Dial("1000").Expect(180)
		b.Pass(39 * time.Second)
		if n := len(call.Heard()); n != 0 {
			t.Errorf("the phone heard %d samples while it rang", n)
		}
		call.Answered()
		call.HearsSilence(time.Second)
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
	})
}

func TestSendDigitsByRFC4733(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"send_digits","digits":"1w2#*A"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Pressed("12#*A")
		call.ExpectBye()
	})
}

func TestSendDigitsDoesNotAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"send_digits","digits":"1"},{"verb":"reject"}]`)
		b.Phone("1001").Dial("1000").Expect(603)
	})
}

func TestSendDigitsByINFOWhereNothingElseIsKnown(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"answer"},{"verb":"send_digits","digits":"1w#"},{"verb":"pause"}]`)
		phone := b.Phone("1001")
		phone.NoDTMF = true
		call := phone.Dial("1000").Answered()
		call.ExpectBye()
		infos := call.Infos()
		if len(infos) != 2 || !strings.Contains(infos[0], "Signal=1") || !strings.Contains(infos[1], "Signal=#") {
			t.Errorf("got %q", infos)
		}
	})
}

func TestRequestTellsTheCall(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"reject"}]`)
		call := b.Phone("1001").DialWith("1000", Invite{Headers: []string{"X-Ticket: 42", "Diversion: <sip:1005@example.test>;reason=no-answer"}})
		r := b.App.Expect("incoming", "type", "program.request", "contract", "1", "request_sequence", "1", "deadline_ms", "5000",
			"from", "1001", "to", "1000", "dialed", "1000", "direction", "inbound", "status", "ringing", "diversion", "1005",
			"call.sip.headers.X-Ticket", "42", "account_id", string(Account))
		var raw map[string]any
		if err := json.Unmarshal(r.Body, &raw); err != nil {
			t.Fatal(err)
		}
		if r.Header.Get("webhook-id") != string(r.Call.RequestID) {
			t.Errorf("webhook-id %q of %s", r.Header.Get("webhook-id"), r.Call.RequestID)
		}
		call.Expect(603)
	})
}

func TestEarlyMediaLeavesTheCallUnanswered(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/next", `[{"verb":"send_digits","digits":"12"},{"verb":"pause"},{"verb":"reject","reason":"busy"}]`)
		call := asking(b, `[{"verb":"play","media_id":"sys_hold","early":true},{"verb":"redirect","url":"/next"}]`).Expect(183)
		call.Hears(SystemPrompt(t, "sys_hold"))
		b.App.Expect("/next", "status", "ringing", "answered_at", "")
		call.Pressed("12") // where audio can be heard, keys can
		call.Expect(486)
		if cdr := b.Ended(webhooks.CauseBusy); cdr.AnsweredAt != nil || cdr.Status != webhooks.StatusBusy {
			t.Errorf("%+v", cdr)
		}
	})
}

func TestEarlyMediaThenAnAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Program("1000", `[{"verb":"play","media_id":"sys_hold","early":true},{"verb":"play","media_id":"sys_goodbye"}]`)
		call := b.Phone("1001").Dial("1000").Expect(183)
		call.Hears(SystemPrompt(t, "sys_hold"))
		call.Answered().Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
	})
}

func TestEarlyMediaNeedsAnOffer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/failed", `[{"verb":"reject"}]`)
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"play","media_id":"sys_hold","early":true,"on":{"failed":"/failed"}}]`)
		call := b.Phone("1001").DialWith("1000", Invite{LateOffer: true})
		b.App.Expect("incoming")
		r := b.App.Expect("/failed", "outcome", "failed")
		if !strings.Contains(r.Value("error"), "offer") {
			t.Errorf("the error is %q", r.Value("error"))
		}
		call.Expect(603)
		if n := len(call.Heard()); n != 0 {
			t.Errorf("%d samples were heard", n)
		}
	})
}
