package calltest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// gathering answers a call with one gather, whose outcome the application is told at /done.
func gathering(b *Bench, attributes string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"gather","id":"g","action":"/done"`+attributes+`}]`)
	b.App.Answer("/done", `[]`)
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

func TestGatherOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		press      string
		outcome    string
		digits     string
		finishedBy string
	}{
		"a key ends it":                         {``, "12#", "digits", "12", "key"},
		"hash alone falls through as a timeout": {``, "#", "timeout", "", ""},
		"num_digits ends it":                    {`,"num_digits":3`, "123", "digits", "123", "num_digits"},
		"silence after a digit ends it":         {`,"timeout":2`, "7", "digits", "7", "timeout"},
		"nothing pressed":                       {`,"timeout":2`, "", "timeout", "", ""},
		"another finishing key":                 {`,"finish_on_key":"*"`, "4#*", "digits", "4#", "key"},
		"no finishing key":                      {`,"finish_on_key":"","num_digits":2`, "#*", "digits", "#*", "num_digits"},
		"too few digits":                        {`,"min_digits":3`, "12#", "invalid", "12", ""},
		"valid fits the whole":                  {`,"valid":"[1-3]"`, "2#", "digits", "2", "key"},
		"valid does not fit a part":             {`,"valid":"[1-3]"`, "22#", "invalid", "22", ""},
		"alternatives in valid":                 {`,"valid":"1|22"`, "22#", "digits", "22", "key"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := gathering(b, c.attributes)
				call.Press(c.press)
				b.App.Expect("/done", "outcome", c.outcome, "digits", c.digits, "finished_by", c.finishedBy, "verb", "gather", "id", "g")
				call.ExpectBye()
			})
		})
	}
}

func TestGatherWaitsTheTimeItWasGiven(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		press      string
		wait       time.Duration // from the last key, or the end of the prompt
	}{
		"for the first digit":                        {`,"timeout":3`, "", 3 * time.Second},
		"for the next digit as for the first":        {`,"timeout":3`, "1", 3 * time.Second},
		"for the next digit by digit_timeout":        {`,"timeout":3,"digit_timeout":1`, "1", time.Second},
		"not at all":                                 {`,"timeout":3,"digit_timeout":0`, "1", 0},
		"from the end of the prompt, not its start":  {`,"timeout":3,"prompt":[{"verb":"play","media_id":"sys_welcome"}]`, "", 3*time.Second + promptTime(t, "sys_welcome")},
		"not longer for a key than for its duration": {`,"timeout":1`, "12", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				call := gathering(b, c.attributes)
				for key := range strings.SplitSeq(c.press, "") {
					if key != "" {
						call.Press(key)
					}
				}
				began := b.Now()
				b.App.Expect("/done")
				// A press ends 160 ms after it was reported, and media comes in frames.
				const slack = 300 * time.Millisecond
				if waited := b.Now() - began; waited < c.wait-slack || waited > c.wait+slack {
					t.Errorf("waited %s, expected %s", waited, c.wait)
				}
				call.ExpectBye()
			})
		})
	}
}

func promptTime(t *testing.T, id string) time.Duration {
	t.Helper()
	return time.Duration(len(SystemPrompt(t, id))) * time.Second / perSecond
}

func TestGatherAsksAgainWithTheRightPrompt(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"timeout":1,"attempts":3,"valid":"9","prompt":[{"verb":"play","media_id":"sys_welcome"}],
			"no_input_prompt":[{"verb":"play","media_id":"sys_unavailable"}],"invalid_prompt":[{"verb":"play","media_id":"sys_busy"}]`)
		question := SystemPrompt(t, "sys_welcome")
		call.Hears(question)
		call.Hears(SystemPrompt(t, "sys_unavailable"))
		call.Hears(question)
		call.Press("5#")
		call.Hears(SystemPrompt(t, "sys_busy"))
		call.Hears(question)
		call.Press("9#")
		b.App.Expect("/done", "outcome", "digits", "digits", "9")
		call.ExpectBye()
	})
}

func TestGatherGivesUpAfterTheLastAttempt(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"timeout":1,"attempts":2,"valid":"9"`)
		call.Press("5#")
		call.Press("6#")
		b.App.Expect("/done", "outcome", "invalid", "digits", "6")
		call.ExpectBye()
	})
}

func TestBargeInStopsThePromptAtOnce(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"num_digits":2,"prompt":[{"verb":"play","tone":"1000"}]`)
		call.HearsTone(1000)
		call.PressFor("1", 60*time.Millisecond)
		call.Forget()
		call.HearsSilence(500 * time.Millisecond)
		call.Press("2")
		b.App.Expect("/done", "digits", "12")
		call.ExpectBye()
	})
}

func TestWithoutBargeInThePromptIsHeardToItsEnd(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"num_digits":1,"barge_in":false,"prompt":[{"verb":"play","media_id":"sys_welcome"}]`)
		call.Press("1")
		call.Hears(SystemPrompt(t, "sys_welcome"))
		b.Pass(time.Second)
		call.Press("2")
		b.App.Expect("/done", "digits", "2")
		call.ExpectBye()
	})
}

func TestDigitsTypedAheadOfTheQuestionAnswerIt(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"answer"},{"verb":"pause","length":3},
			{"verb":"gather","num_digits":2,"prompt":[{"verb":"play","media_id":"sys_welcome"}]},
			{"verb":"gather","num_digits":1,"prompt":[{"verb":"play","media_id":"sys_welcome"}],"action":"/done"}]`)
		call := b.Phone("1001").Dial("1000").Answered()
		b.App.Expect("incoming")
		call.Press("123")
		b.App.Expect("/done", "digits", "3")
		if now := b.Now(); now > 4*time.Second {
			t.Errorf("the questions were asked though they were answered: %s", now)
		}
		call.ExpectBye()
	})
}

func TestMaskedDigitsReachTheApplicationOnly(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		const card = "4929128"
		call := gathering(b, `,"mask":true,"finish_on_key":"#"`)
		call.Press(card + "#")
		b.App.Expect("/done", "digits", card)
		call.ExpectBye()
		b.Idle()
		for _, e := range b.Events() {
			if strings.Contains(pairs(e.Data), card) || e.Type == webhooks.EventDTMF {
				t.Errorf("%s tells %s", e.Type, pairs(e.Data))
			}
		}
		b.LogsNothingOf(card)
	})
}

func TestMaskedDigitsOfAnInterruptedGatherStayHidden(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"mask":true,"finish_on_key":"#"`)
		call.Press("4929")
		call.HangUp()
		b.App.Expect("/done", "outcome", "hangup")
		b.Idle()
		for _, e := range b.Events() {
			if e.Data.Digits != "" || e.Data.Digit != "" {
				t.Errorf("%s tells %s%s", e.Type, e.Data.Digits, e.Data.Digit)
			}
		}
	})
}

func TestHangUpInGatherTellsTheActionAndIgnoresItsAnswer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, ``)
		b.App.Answer("/done", `[{"verb":"gather","action":"/never"}]`)
		call.Press("12")
		call.HangUp()
		b.App.Expect("/done", "outcome", "hangup", "digits", "12", "status", "completed")
		cdr := b.Ended(webhooks.CauseCallerHangup)
		if cdr.EndedBy != webhooks.EndedByCaller || cdr.Status != webhooks.StatusCompleted {
			t.Errorf("%+v", cdr)
		}
		b.Pass(10 * time.Second)
		b.App.ExpectNothing()
	})
}

func TestHangUpInGatherTellsOnHangup(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"on":{"hangup":"/gone"}`)
		call.HangUp()
		b.App.Expect("/gone", "outcome", "hangup", "reason", "on")
		b.Pass(time.Second)
		b.App.ExpectNothing()
	})
}

// The outcome was told before the call ended, so nothing else tells it.
func TestAnOutcomeReachesTheApplicationThoughTheCallEndsFirst(t *testing.T) {
	onItsWay := func(b *Bench) {
		b.until(patience, "/done is not asked", func() bool {
			return slices.ContainsFunc(b.asks, func(r ask) bool { return r.path == "/done" })
		})
	}
	t.Run("while its request is on its way", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := gathering(b, `,"timeout":1`)
			onItsWay(b)
			call.HangUp()
			b.App.Expect("/done", "outcome", "timeout")
			b.Ended(webhooks.CauseCallerHangup)
			b.Pass(10 * time.Second)
			b.App.ExpectNothing()
		})
	})
	t.Run("before it is tried again", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := gathering(b, `,"timeout":1`)
			b.App.Answer("/done", webhooktest.Status(503), `[]`)
			onItsWay(b)
			b.Pass(thinking + 10*time.Millisecond)
			call.HangUp()
			first, again := b.App.Expect("/done", "outcome", "timeout"), b.App.Expect("/done", "outcome", "timeout")
			if first.Header.Get(webhooks.HeaderID) != again.Header.Get(webhooks.HeaderID) {
				t.Error("it was told anew, not again")
			}
			b.Ended(webhooks.CauseCallerHangup)
			b.Pass(10 * time.Second)
			b.App.ExpectNothing()
		})
	})
}

func TestKeysComeOnceHoweverTheyAreReported(t *testing.T) {
	t.Run("RFC 4733 and INFO for each press", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := gathering(b, ``)
			call.Press("1")
			call.PressINFO("1")
			call.Press("2")
			call.PressINFO("2")
			call.Press("#")
			b.App.Expect("/done", "digits", "12")
			call.ExpectBye()
		})
	})
	t.Run("a long press", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := gathering(b, `,"num_digits":2`)
			call.PressFor("1", 3*time.Second)
			call.Press("2")
			b.App.Expect("/done", "digits", "12")
			call.ExpectBye()
		})
	})
	t.Run("every packet twice, and late", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := gathering(b, `,"num_digits":3`)
			b.Impair(func(d Datagram) []time.Duration {
				if d.From == call.rtpAddr() {
					return []time.Duration{0, 30 * time.Millisecond}
				}
				return onTime
			})
			call.Press("112")
			b.App.Expect("/done", "digits", "112")
			call.ExpectBye()
		})
	})
	t.Run("the first packets of each press lost", func(t *testing.T) {
		story(t, func(t *testing.T, b *Bench) {
			call := gathering(b, `,"num_digits":2`)
			b.Impair(func(d Datagram) []time.Duration {
				if d.From == call.rtpAddr() && d.Data[1]&0x7f == dtmfPT && d.Data[13]&0x80 == 0 {
					return nil
				}
				return onTime
			})
			call.Press("55")
			b.App.Expect("/done", "digits", "55")
			call.ExpectBye()
		})
	})
}

func TestGatherWithoutItsPromptFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"prompt":[{"verb":"play","media_id":"med_none"}]`)
		r := b.App.Expect("/done", "outcome", "failed")
		if !strings.Contains(r.Value("error"), "med_none") {
			t.Errorf("the failure says %q", r.Value("error"))
		}
		call.ExpectBye()
	})
}

func TestGatherPromptFromAURL(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"num_digits":1,"prompt":"/question"`)
		b.App.Answer("/question", `[{"verb":"play","media_id":"sys_welcome"}]`)
		call.Hears(SystemPrompt(t, "sys_welcome"))
		b.App.Expect("prompt")
		call.Press("1")
		b.App.Expect("/done", "digits", "1")
		call.ExpectBye()
	})
}

func TestHoldDuringGatherKeepsTheQuestion(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		call := gathering(b, `,"num_digits":1,"timeout":20`)
		call.Hold()
		if e := b.Event(webhooks.EventCallHeld); e.Data.Held == nil || !*e.Data.Held {
			t.Error("not held")
		}
		b.Pass(5 * time.Second)
		call.Resume()
		if e := b.Event(webhooks.EventCallHeld); e.Data.Held == nil || *e.Data.Held {
			t.Error("still held")
		}
		call.Press("8")
		b.App.Expect("/done", "digits", "8")
		call.ExpectBye()
	})
}

func TestGatherOnALateOffer(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"gather","num_digits":1,"prompt":[{"verb":"play","media_id":"sys_welcome"}],"action":"/done"}]`)
		call := b.Phone("1001").DialWith("1000", Invite{LateOffer: true}).Answered()
		b.App.Expect("incoming")
		call.Hears(SystemPrompt(t, "sys_welcome"))
		call.Press("3")
		b.App.Expect("/done", "digits", "3")
		call.ExpectBye()
	})
}
