package calltest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// twoQuestions is a survey whose invitation is sys_welcome, and whose questions are the digits one and two.
func twoQuestions(t *testing.T) control.Survey {
	t.Helper()
	question := func(name, media, keys string) control.SurveyQuestion {
		return control.SurveyQuestion{
			Name: name, Keys: keys, Attempts: 2, Timeout: 3,
			Prompt:        Program(t, `[{"verb":"play","media_id":"`+media+`"}]`),
			InvalidPrompt: Program(t, `[{"verb":"play","media_id":"sys_busy"}]`),
		}
	}
	return control.Survey{
		ID: "sur_1", Version: 3, Invite: Program(t, `[{"verb":"play","media_id":"sys_welcome"}]`), Thanks: Program(t, `[{"verb":"play","media_id":"sys_goodbye"}]`),
		Questions: []control.SurveyQuestion{question("service", "sys_digits_1", "12345"), question("solved", "sys_digits_2", "12")},
	}
}

// surveyed answers a call with one survey, whose outcome the application is told at /done.
func surveyed(b *Bench, attributes string) *Call {
	b.Webhook("1000", nil)
	b.App.Answer("/voice", `[{"verb":"survey","id":"s","survey_id":"after","on":{"default":"/done"}`+attributes+`}]`)
	b.App.Answer("/done", `[]`)
	call := b.Phone("1001").Dial("1000").Answered()
	b.App.Expect("incoming")
	return call
}

// invited hears the invitation and the first question.
func invited(t *testing.T, c *Call) {
	t.Helper()
	c.Hears(SystemPrompt(t, "sys_welcome"))
	c.Hears(SystemPrompt(t, "sys_digits_1"))
}

// result checks the one survey.completed.
func result(t *testing.T, b *Bench, outcome webhooks.Outcome, answers string) {
	t.Helper()
	contractKept(t, b)
	all := b.Events(webhooks.EventSurveyCompleted)
	if len(all) != 1 {
		t.Fatalf("%d surveys were completed", len(all))
	}
	d := all[0].Data
	got, err := json.Marshal(d.Answers)
	if err != nil {
		t.Fatal(err)
	}
	if d.Outcome != outcome || string(got) != answers || d.SurveyID != "sur_1" || d.SurveyVersion != 3 || d.Instruction != "s" {
		t.Errorf("%+v", d)
	}
}

func TestSurveyIsAskedToItsEnd(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.SetSurvey("after", twoQuestions(t))
		call := surveyed(b, "")
		invited(t, call)
		call.Press("5")
		call.Hears(SystemPrompt(t, "sys_digits_2"))
		call.Press("2")
		call.Hears(SystemPrompt(t, "sys_goodbye"))
		r := b.App.Expect("/done", "verb", "survey", "outcome", "answered")
		if got := r.Call.Trigger.Answers; len(got) != 2 || got["service"] != "5" || got["solved"] != "2" {
			t.Errorf("told %+v", got)
		}
		result(t, b, webhooks.Answered, `{"service":"5","solved":"2"}`)
	})
}

func TestSurveyEndsInEveryWay(t *testing.T) {
	for name, c := range map[string]struct {
		attributes string
		answer     func(*Call)
		outcome    webhooks.Outcome
		answers    string
	}{
		"the instruction's invitation": {`,"invite":[{"verb":"play","media_id":"sys_hold"}]`, func(c *Call) { c.Hears(SystemPrompt(t, "sys_hold")); c.HangUp() }, "hangup", "null"},
		"nothing pressed":              {``, func(*Call) {}, "skipped", "null"},
		"invalid, then valid, then no more": {``, func(c *Call) {
			invited(t, c)
			c.Press("9")
			c.Hears(SystemPrompt(t, "sys_busy"))
			c.Hears(SystemPrompt(t, "sys_digits_1"))
			c.Press("4")
		}, "skipped", `{"service":"4"}`},
		"always invalid":              {``, func(c *Call) { invited(t, c); c.Press("9"); c.Press("8") }, "skipped", "null"},
		"through the invitation":      {``, func(c *Call) { c.b().Pass(300 * time.Millisecond); c.Press("3"); c.Press("1") }, "answered", `{"service":"3","solved":"1"}`},
		"a hang-up in the invitation": {``, func(c *Call) { c.HangUp() }, "hangup", "null"},
		"a hang-up in a question":     {``, func(c *Call) { invited(t, c); c.HangUp() }, "hangup", "null"},
		"a hang-up between": {``, func(c *Call) {
			invited(t, c)
			c.Press("2")
			c.Hears(SystemPrompt(t, "sys_digits_2"))
			c.HangUp()
		}, "hangup", `{"service":"2"}`},
		"a hang-up after the last word": {``, func(c *Call) {
			invited(t, c)
			c.Press("2")
			c.Press("2")
			c.b().Pass(200 * time.Millisecond)
			c.HangUp()
		}, "answered", `{"service":"2","solved":"2"}`},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, b *Bench) {
				b.Plane.SetSurvey("after", twoQuestions(t))
				c.answer(surveyed(b, c.attributes))
				told := c.outcome
				if name == "a hang-up after the last word" {
					told = webhooks.Hangup // the answers are whole, the instruction was not
				}
				b.App.Expect("/done", "outcome", string(told))
				result(t, b, c.outcome, c.answers)
			})
		})
	}
}

func TestLiveChangeEndsASurvey(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.SetSurvey("after", twoQuestions(t))
		call := surveyed(b, "")
		invited(t, call)
		call.Press("2")
		call.Hears(SystemPrompt(t, "sys_digits_2"))
		replace(t, b, b.Event(webhooks.EventCallInitiated).CallID, `[{"verb":"play","media_id":"sys_goodbye"}]`)
		b.App.Expect("/done", "outcome", "redirected")
		call.ExpectBye()
		result(t, b, webhooks.Redirected, `{"service":"2"}`)
	})
}

func TestUnknownSurveyFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		surveyed(b, "")
		b.App.Expect("/done", "outcome", "failed", "error", "there is no survey after")
		contractKept(t, b)
		if n := len(b.Events(webhooks.EventSurveyCompleted)); n != 0 {
			t.Errorf("%d were completed", n)
		}
	})
}

func TestQuestionThatCannotBeHeardFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		v := twoQuestions(t)
		v.Questions[1].Prompt = Program(t, `[{"verb":"play","url":"/none.wav"}]`)
		b.App.Answer("/none.wav", "")
		b.Plane.SetSurvey("after", v)
		call := surveyed(b, "")
		invited(t, call)
		call.Press("2")
		b.App.Expect("/none.wav")
		b.App.Expect("/done", "outcome", "failed")
		result(t, b, webhooks.Failed, `{"service":"2"}`)
	})
}

func TestSurveyOutlastsTheAbsenceOfTheControlPlane(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Plane.SetSurvey("after", twoQuestions(t))
		first := surveyed(b, "")
		first.HangUp()
		b.App.Expect("/done", "outcome", "hangup")
		b.App.Answer("/voice", `[{"verb":"pause","length":1},{"verb":"survey","id":"s","survey_id":"after","on":{"default":"/done"}}]`)
		call := b.Phone("1002").Dial("1000").Expect(180)
		b.App.Expect("incoming")
		b.Plane.Away(true)
		call.Answered()
		invited(t, call)
		call.Press("5")
		call.Hears(SystemPrompt(t, "sys_digits_2"))
		call.Press("1")
		b.App.Expect("/done", "outcome", "answered")
		call.ExpectBye()
		b.Idle()
		b.Pass(2 * time.Minute)
		b.Plane.Away(false)
		b.Pass(5 * time.Second)
		told := 0
		for _, e := range b.Plane.Published() {
			if e.Type == webhooks.EventSurveyCompleted && e.Data.Outcome == webhooks.Answered && e.Data.Answers["service"] == "5" {
				told++
			}
		}
		if told != 1 {
			t.Errorf("the control plane was told %d times", told)
		}
	})
}

func TestSurveyThatNobodyKnowsWhileTheControlPlaneIsAwayFails(t *testing.T) {
	story(t, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `[{"verb":"pause","length":1},{"verb":"survey","survey_id":"after","on":{"default":"/done"}}]`)
		b.App.Answer("/done", `[]`)
		call := b.Phone("1001").Dial("1000").Expect(180)
		b.App.Expect("incoming")
		b.Plane.Away(true)
		call.Answered()
		b.App.Expect("/done", "outcome", "failed", "error", "the control plane is away; try again later")
		b.Plane.Away(false)
		contractKept(t, b)
	})
}
