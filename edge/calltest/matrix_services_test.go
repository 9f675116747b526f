package calltest

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
)

// serviceRows are those of the verbs that ask the control plane for what they need: voicemail, survey, message, park,
// unpark.
func serviceRows() []row {
	return []row{
		{
			name: "voicemail", verb: "voicemail", told: true, natural: "left", listens: true,
			instruction: `{"verb":"voicemail","mailbox":"sales","greeting":[],` + reportTo + `}`,
			app: func(c *cell) {
				c.b.Plane.SetMailbox("sales", control.Mailbox{ID: "mbx_1", MinLength: 0.1, Silence: 2, FinishOnKey: "#"})
			},
			phases: []phase{
				{name: "beep", hold: 50 * time.Millisecond},
				{name: "speaking", reach: func(c *cell) { c.b.Pass(500 * time.Millisecond); c.caller.Talk(Voice(3, 700*time.Millisecond)) }},
				{name: "silence", reach: func(c *cell) { c.b.Pass(700 * time.Millisecond) }},
			},
		},
		{
			name: "voicemail_for_nobody", verb: "voicemail", told: true, natural: "failed",
			instruction: `{"verb":"voicemail","mailbox":"nobody",` + reportTo + `}`,
		},
		{
			name: "survey", verb: "survey", told: true, natural: "answered", lasting: true,
			instruction: `{"verb":"survey","survey_id":"after",` + reportTo + `}`,
			app: func(c *cell) {
				question := control.SurveyQuestion{Keys: "12", Attempts: 1, Timeout: 120, Prompt: Program(c.b.t, `[{"verb":"play","tone":"440"}]`)}
				first, second := question, question
				first.Name, second.Name = "first", "second"
				c.b.Plane.SetSurvey("after", control.Survey{ID: "sur_1", Version: 1, Questions: []control.SurveyQuestion{first, second}})
			},
			phases: []phase{
				{name: "first_question"},
				{name: "second_question", reach: func(c *cell) { c.caller.Tap("1") }},
			},
			finish: func(c *cell) { c.caller.Tap("2") },
		},
		{
			name: "message", verb: "message", told: true, natural: "sent", unanswered: true,
			instruction: `{"verb":"message","to":"+8613800138000","body":"x",` + reportTo + `}`,
		},
		{
			name: "park", verb: "park", told: true, lasting: true,
			instruction: `{"verb":"park",` + reportTo + `}`,
			phases:      []phase{{name: "parked"}},
		},
		{
			name: "unpark_nobody", verb: "unpark", told: true, natural: "empty",
			instruction: `{"verb":"unpark","slot":"701",` + reportTo + `}`,
		},
	}
}
