package calltest

import "github.com/hookswitch/hookswitch/webhooks"

// conferenceRows are those of conference. The guest is whom the caller speaks with there; the caller's leaving ends the
// conference, so that no row leaves anybody behind.
func conferenceRows() []row {
	const joins, moderates = `[{"verb":"conference","name":"team"}]`, `[{"verb":"conference","name":"team","end_on_exit":true}]`
	phases := []phase{
		{name: "waiting"},
		{name: "talking", reach: visit, parties: present},
	}
	keys := func(c *cell) { c.caller.Tap("*") }
	return []row{
		{
			name: "conference", verb: "conference", told: true, natural: "left", lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"conference","id":"v","name":"team","end_on_exit":true,"hang_up_on":"*","action":"/done"}`,
			guest:       guest{comes: joins}, app: expectGuest, phases: phases,
			finish: keys, finished: dismissed,
		},
		{
			name: "conference_moderated", verb: "conference", told: true, natural: "ended", lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"conference","id":"v","name":"team","start_on_enter":false,"end_on_exit":true,"beep":"both","wait":"/wait","action":"/done"}`,
			guest:       guest{comes: moderates, forsaken: webhooks.Ended, bereft: webhooks.Ended},
			app: func(c *cell) {
				expectGuest(c)
				c.b.App.Answer("/wait", `[{"verb":"gather","timeout":60}]`)
			},
			phases: phases,
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "conference_recorded", verb: "conference", told: true, natural: "left", lasting: true, unhurried: true, phones: []string{guestPhone},
			instruction: `{"verb":"conference","id":"v","name":"team","record":true,"end_on_exit":true,"hang_up_on":"*","action":"/done"}`,
			guest:       guest{comes: joins}, app: expectGuest, phases: phases[1:],
			finish: keys, finished: dismissed,
		},
		{
			name: "conference_left", verb: "conference", told: true, natural: "left",
			instruction: `{"verb":"conference","id":"v","name":"team","wait":[{"verb":"pause","length":2},{"verb":"leave"}],"action":"/done"}`,
			phases:      []phase{{name: "waiting"}},
		},
	}
}
