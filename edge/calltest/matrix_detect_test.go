package calltest

// detectRows are those of detect.
func detectRows() []row {
	return []row{
		{
			name: "detect", verb: "detect", told: true, natural: "unknown",
			instruction: `{"verb":"answer"},{"verb":"detect","id":"v","timeout":2,"action":"/done"}`,
			phases:      []phase{{name: "listening"}},
		},
		{
			name: "detect_person", verb: "detect", told: true, natural: "human", listens: true, unhurried: true,
			instruction: `{"verb":"answer"},{"verb":"detect","id":"v","action":"/done"}`,
			phases: []phase{
				{name: "silence"},
				{name: "speaking", reach: func(c *cell) { c.caller.Talk(person()) }},
			},
		},
		{
			name: "detect_unanswered", verb: "detect", told: true, natural: "unknown", unanswered: true,
			instruction: `{"verb":"detect","id":"v","timeout":2,"action":"/done"}`,
			phases:      []phase{{name: "listening", unanswered: true}},
		},
	}
}
