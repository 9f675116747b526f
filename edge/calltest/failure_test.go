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

// The longest a caller waits for the failure path, from when the request began.
const (
	failureWithin         = 6 * time.Second
	failureFallbackWithin = 10 * time.Second
)

// hears waits for a prompt and fails the test when its first sample comes later than it may.
func hears(t *testing.T, b *Bench, call *Call, id string, since, most time.Duration) {
	t.Helper()
	octets := SystemPrompt(t, id)
	call.Hears(octets)
	began := b.Now() - time.Duration(len(octets))*time.Second/perSecond
	if waited := began - since; waited > most {
		t.Errorf("%s was heard after %s, which may take %s", id, waited, most)
	}
}

func TestCallerHearsTheFailurePathWhateverTheApplicationDoes(t *testing.T) {
	for name, answer := range map[string]any{
		"hangs":          webhooktest.Hang(),
		"answers 500":    webhooktest.Status(500),
		"answers 503":    webhooktest.Status(503),
		"answers 404":    webhooktest.Status(404),
		"resets":         webhooktest.Reset(),
		"sends garbage":  webhooktest.Garbage(),
		"sends too much": webhooktest.Oversized(),
		"drips":          webhooktest.Drip(500*time.Millisecond, `{"instructions":[{"verb":"answer"}]}`),
		"redirects":      webhooktest.Redirect(302, "/voice"),
		"is too slow":    webhooktest.Slow(6*time.Second, `[]`),
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", answer)
				call := b.Phone("1001").Dial("1000").Answered()
				hears(t, b, call, "sys_apology", 0, failureWithin)
				call.ExpectBye()
				if cdr := b.Ended(webhooks.CauseWebhookFailed); cdr.Status != webhooks.StatusCompleted || cdr.EndedBy != webhooks.EndedBySystem {
					t.Errorf("%+v", cdr)
				}
			})
		})
	}
}

func TestNobodyListensAtTheApplication(t *testing.T) {
	for name, away := range map[string]func(*webhooktest.App){
		"refused":   func(a *webhooktest.App) { a.Refuse(100) },
		"no answer": func(a *webhooktest.App) { a.Ignore(100) },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				away(b.App)
				call := b.Phone("1001").Dial("1000").Answered()
				hears(t, b, call, "sys_apology", 0, failureWithin)
				call.ExpectBye()
				b.Ended(webhooks.CauseWebhookFailed)
			})
		})
	}
}

func TestHangingFallbackURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
		b.App.Answer("/voice", webhooktest.Hang())
		b.App.Answer("/fallback", webhooktest.Hang())
		call := b.Phone("1001").Dial("1000").Answered()
		hears(t, b, call, "sys_apology", 0, failureFallbackWithin)
		b.App.Expect("incoming")
		b.App.Expect("fallback", "code", "timeout", "url", b.App.URL+"/voice")
		call.ExpectBye()
		b.Ended(webhooks.CauseWebhookFailed)
	})
}

func TestFallbackURLIsToldTheError(t *testing.T) {
	for name, c := range map[string]struct {
		answer       any
		code, status string
	}{
		"a status":  {webhooktest.Status(500), "status", "500"},
		"a refusal": {`[{"verb":"sing"}]`, "rejected", "200"},
		"a time":    {webhooktest.Hang(), "timeout", ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
				b.App.Answer("/voice", c.answer)
				b.App.Answer("/fallback", `[{"verb":"reject"}]`)
				call := b.Phone("1001").Dial("1000")
				b.App.Expect("incoming")
				b.App.Expect("fallback", "error.code", c.code, "error.status", c.status, "error.url", b.App.URL+"/voice")
				call.Expect(603)
			})
		})
	}
}

func TestStoredFallbackInstructions(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) {
			a.FallbackURL = b.App.URL + "/fallback"
			a.FallbackInstructions = Program(t, `[{"verb":"play","media_id":"sys_hold"},{"verb":"play","media_id":"sys_goodbye"}]`)
		})
		b.App.Answer("/voice", webhooktest.Status(500))
		b.App.Answer("/fallback", webhooktest.Status(500))
		call := b.Phone("1001").Dial("1000").Answered()
		call.Hears(SystemPrompt(t, "sys_hold"))
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
		b.Ended(webhooks.CauseProgramEnd)
	})
}

func TestGuardGoesBeforeTheApplicationsFallback(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],
			"guard":{"on_failure":[{"verb":"play","media_id":"sys_hold"},{"verb":"redirect","url":"/again"}]}}`)
		b.App.Answer("/next", webhooktest.Status(500))
		b.App.Answer("/again", webhooktest.Status(500))
		b.App.Answer("/fallback", `[{"verb":"play","media_id":"sys_goodbye"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Hears(SystemPrompt(t, "sys_hold"))
		call.Hears(SystemPrompt(t, "sys_goodbye")) // the guard's own request failed in turn
		b.App.Expect("incoming")
		b.App.Expect("/next")
		b.App.Expect("/again")
		b.App.Expect("fallback")
		call.ExpectBye()
	})
}

func TestGuardBudget(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],
			"guard":{"budget_ms":1000,"on_failure":[{"verb":"play","media_id":"sys_hold"}]}}`)
		b.App.Answer("/next", webhooktest.Hang())
		call := b.Phone("1001").Dial("1000").Answered()
		hears(t, b, call, "sys_hold", 0, 1200*time.Millisecond)
		call.ExpectBye()
	})
}

func TestCallerHearsWhileWaiting(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],"guard":{"while_waiting":[{"verb":"play","tone":"500"}]}}`)
		b.App.Answer("/next", webhooktest.Slow(3*time.Second, `[{"verb":"play","media_id":"sys_goodbye"}]`))
		call := b.Phone("1001").Dial("1000").Answered()
		call.HearsTone(500)
		b.Pass(2 * time.Second)
		call.HearsTone(500)
		b.until(patience, "the tone goes on", func() bool {
			heard := call.audio.heard
			return len(heard) > 0 && heard[len(heard)-1] == call.audio.codec.Silence()
		})
		call.ExpectBye()
	})
}

// guardedBy has the application answer a program whose guard is heard while /next thinks for three seconds.
func guardedBy(b *Bench, whileWaiting string, thinks time.Duration) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"gather","timeout":0.5,"action":"/first"}],"guard":{"while_waiting":`+whileWaiting+`}}`)
	b.App.Answer("/first", webhooktest.Slow(thinks, `[{"verb":"play","media_id":"sys_goodbye"}]`))
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

func TestCallerHearsWhatTheURLOfAGuardAnswers(t *testing.T) {
	for name, whileWaiting := range map[string]string{"a URL": `"/music"`, "a target": `{"url":"/music","method":"GET"}`} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/music", webhooktest.Slow(time.Second, `[{"verb":"play","tone":"500"}]`))
				call := guardedBy(b, whileWaiting, 4*time.Second)
				call.HearsTone(500)
				call.ExpectBye()
				if n := len(told(b, "/music")); n != 1 {
					t.Errorf("it was asked %d times", n)
				}
			})
		})
	}
}

func TestTheURLOfAGuardIsAskedOnceForAllRequestsOfItsProgram(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"gather","prompt":"/prompt","timeout":0.5},
			{"verb":"gather","prompt":"/prompt","timeout":0.5}],"guard":{"while_waiting":"/music"}}`)
		b.App.Answer("/prompt", webhooktest.Slow(2*time.Second, `[]`))
		b.App.Answer("/music", `[{"verb":"play","tone":"500"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.HearsTone(500)
		b.until(patience, "/prompt was not asked again", func() bool { return len(told(b, "/prompt")) == 2 })
		call.Forget()
		call.HearsTone(500)
		call.ExpectBye()
		if n := len(told(b, "/music")); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
	})
}

func TestAGuardThatCannotBeHadIsSilenceAndHoldsNothingUp(t *testing.T) {
	for name, c := range map[string]struct {
		answer any
		event  webhooks.EventType // that says so; "" for none, because the call ended before
	}{
		"it hangs":     {webhooktest.Hang(), ""},
		"it fails":     {webhooktest.Status(500), webhooks.EventWebhookFailed},
		"no prompt":    {`[{"verb":"gather"}]`, ""},
		"no program":   {`[{"verb":"sing"}]`, webhooks.EventWebhookRejected},
		"no such file": {`[{"verb":"play","media_id":"med_none"}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.App.Answer("/music", c.answer)
				call := guardedBy(b, `"/music"`, 2*time.Second)
				began := b.Now()
				call.ExpectBye()
				goodbye := time.Duration(len(SystemPrompt(t, "sys_goodbye"))) * time.Second / 8000
				if took := b.Now() - began; took > goodbye+3200*time.Millisecond {
					t.Errorf("it took %s", took)
				}
				var said []webhooks.EventType
				for _, e := range b.Events(webhooks.EventWebhookFailed, webhooks.EventWebhookRejected) {
					said = append(said, e.Type)
				}
				if len(said) > 1 || len(said) == 1 && said[0] != c.event || len(said) == 0 && c.event != "" {
					t.Errorf("events %v", said)
				}
				b.Ended(webhooks.CauseProgramEnd)
			})
		})
	}
}

func TestAGuardsAudioHoldsUpNoAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/slow.wav", webhooktest.Hang())
		call := guardedBy(b, `[{"verb":"play","url":"`+b.App.URL+`/slow.wav"}]`, 100*time.Millisecond)
		hears(t, b, call, "sys_goodbye", 500*time.Millisecond, 900*time.Millisecond)
		call.ExpectBye()
	})
}

func TestHangUpWhileAGuardsURLIsAskedEndsTheCallAtOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.App.Answer("/music", webhooktest.Hang())
		call := guardedBy(b, `"/music"`, 4*time.Second)
		b.Pass(2 * time.Second)
		call.HangUp()
		b.Ended(webhooks.CauseCallerHangup)
		began := b.Now()
		b.Idle()
		if took := b.Now() - began; took > time.Second {
			t.Errorf("the call lived on for %s", took)
		}
	})
}

func TestHangUpCancelsTheRequestInFlight(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"redirect","url":"/slow"}]`)
		b.App.Answer("/slow", webhooktest.Hang())
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.App.Expect("/slow")
		call.HangUp()
		b.Ended(webhooks.CauseCallerHangup)
		b.Idle()
		if now := b.Now(); now > time.Second {
			t.Errorf("the call lived on until %s", now)
		}
		if n := len(b.Events(webhooks.EventWebhookFailed)); n != 0 {
			t.Error("the application was blamed")
		}
	})
}

func TestKeysPressedWhileTheApplicationThinksAreKept(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"redirect","url":"/slow"}]`)
		b.App.Answer("/slow", webhooktest.Slow(2*time.Second, `[{"verb":"gather","num_digits":2,"action":"/done"}]`))
		b.App.Answer("/done", `[]`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		b.App.Expect("/slow")
		call.Press("42")
		b.App.Expect("/done", "digits", "42")
		call.ExpectBye()
	})
}

func TestCircuitOpensAndTheFailurePathComesAtOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackInstructions = Program(t, `[{"verb":"reject"}]`) })
		b.App.Answer("/voice", webhooktest.Hang())
		phone := b.Phone("1001")
		for range 20 {
			phone.Dial("1000").Expect(603)
			if last := b.Events(webhooks.EventWebhookFailed); last[len(last)-1].Data.Code == "circuit_open" {
				return
			}
		}
		t.Error("20 hanging requests did not open the circuit")
	})
}

func TestGuardThatIsAURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],"guard":{"budget_ms":2000,"on_failure":"/guard"}}`)
		b.App.Answer("/next", webhooktest.Hang())
		b.App.Answer("/guard", `[{"verb":"play","media_id":"sys_hold"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		hears(t, b, call, "sys_hold", 0, 2200*time.Millisecond)
		call.ExpectBye()
		b.App.Expect("incoming", "deadline_ms", "5000")
		b.App.Expect("/next", "deadline_ms", "2000")
		b.App.Expect("/guard", "reason", "fallback", "error.code", "timeout", "error.url", b.App.URL+"/next")
		b.App.ExpectNothing()
		b.Ended(webhooks.CauseProgramEnd)
	})
}

func TestGuardURLThatFailsLeadsToTheFallback(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],"guard":{"on_failure":{"url":"/guard","method":"POST"}}}`)
		b.App.Answer("/next", webhooktest.Status(500))
		b.App.Answer("/guard", `[{"verb":"sing"}]`)
		b.App.Answer("/fallback", `[{"verb":"play","media_id":"sys_goodbye"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		call.ExpectBye()
		b.App.Expect("incoming")
		b.App.Expect("/next")
		b.App.Expect("/guard", "error.status", "500")
		b.App.Expect("/fallback", "error.url", b.App.URL+"/next")
		b.Event(webhooks.EventWebhookFailed)
		b.Event(webhooks.EventWebhookRejected)
	})
}

// Two that hang after a first that did are no reason to leave the caller longer in silence than one would.
func TestGuardURLAndFallbackURLThatHangShareTheTime(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", func(a *control.Application) { a.FallbackURL = b.App.URL + "/fallback" })
		b.App.Answer("/voice", `{"instructions":[{"verb":"answer"},{"verb":"redirect","url":"/next"}],"guard":{"on_failure":"/rescue"}}`)
		for _, path := range []string{"/next", "/rescue", "/fallback"} {
			b.App.Answer(path, webhooktest.Hang())
		}
		call := b.Phone("1001").Dial("1000").Answered()
		hears(t, b, call, "sys_apology", 0, failureFallbackWithin)
		b.App.Expect("incoming")
		b.App.Expect("/next")
		b.App.Expect("fallback", "error.url", b.App.URL+"/next")
		b.App.Expect("fallback", "error.url", b.App.URL+"/next")
		call.ExpectBye()
		b.Ended(webhooks.CauseWebhookFailed)
	})
}

func TestGuardGoesWithTheCallToTheScreenOfACallee(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `{"instructions":[{"verb":"dial","to":[{"extension":"1002"}],"screen":"/screen","action":"/done"}],"guard":{"budget_ms":1000}}`)
		b.App.Answer("/screen", webhooktest.Hang())
		b.App.Answer("/done", `[]`)
		call := b.Phone("1001").Dial("1000").Answered()
		callee.Rings().Answer().ExpectByeWithin(1200 * time.Millisecond) // a gate that cannot be asked stays shut
		b.App.Expect("incoming")
		b.App.Expect("screen", "deadline_ms", "1000")
		b.App.Expect("/done", "outcome", "declined")
		call.ExpectBye()
	})
}

// What was typed into a masked gather and goes into a URL is told by no event, whichever way the request fails.
func TestEventsTellAURLAsItWasWritten(t *testing.T) {
	for name, answer := range map[string]any{"status": webhooktest.Status(500), "garbage": webhooktest.Garbage()} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Webhook("1000", nil)
				b.App.Answer("/voice", `[{"verb":"gather","num_digits":4,"mask":true,"timeout":5,"on":{"digits":{"url":"/pin/{{trigger.digits}}?pin={{trigger.digits}}"}}}]`)
				b.App.Answer("/pin/7391", answer)
				call := b.Phone("1001").Dial("1000").Answered()
				call.Press("7391")
				call.Hears(SystemPrompt(t, "sys_apology"))
				call.ExpectBye()
				failures := b.Events(webhooks.EventWebhookFailed, webhooks.EventWebhookRejected)
				if len(failures) != 1 || !strings.Contains(failures[0].Data.URL, "trigger.digits") {
					t.Errorf("the failure tells %+v", failures)
				}
				for _, e := range b.Events() {
					text, err := json.Marshal(e.Data)
					if err != nil || strings.Contains(string(text), "7391") {
						t.Errorf("%s tells the digits: %s %v", e.Type, text, err)
					}
				}
			})
		})
	}
}
