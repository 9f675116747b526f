package calltest

import (
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// handing is what a row says where legs are handed on, and need the caller no more.
type handing struct {
	// within is the program that a live change, made in the first phase, replaces by the instruction.
	within string
	// changes are the live changes that the row makes itself.
	changes int
	// left is what is told when the one other leg leaves; "" is completed, or lost.
	left webhooks.Outcome
	// alone: a party has a program of its own, which is not taken over with the caller's call.
	alone bool
	// brief: what comes before the verb and after it is as in another row.
	brief bool
	// fate corrects what a cell comes to, where those who are handed on do not depend on the caller.
	fate func(st standing, end endings, e *expectation)
}

// leaving is the outcome when the one other leg leaves.
func (h handing) leaving(usual webhooks.Outcome) string {
	if h.left != "" {
		return string(h.left)
	}
	return string(usual)
}

func (h handing) handed(st standing, end endings, e *expectation) {
	if h.fate != nil {
		h.fate(st, end, e)
	}
}

// changed is the end, for those who depend on it, of a leg that goes on with a live change.
var changed = endings{"program_end", webhooks.EndedByAPI, 480}

// The ends of those who speak with each other behind a transfer: 1003 leaves.
var (
	thirdLeft  = legEnd{"callee_hangup", webhooks.EndedByCallee, 200}
	secondLeft = legEnd{"caller_hangup", webhooks.EndedByCaller, 200}
	ownProgram = legEnd{"program_end", webhooks.EndedByApplication, 200}
	// calleeReferred is the end of a party whose REFER was accepted.
	calleeReferred = legEnd{"callee_hangup", webhooks.EndedByCallee, 200}
	wasBusy        = legEnd{"busy", webhooks.EndedByCallee, 486}

	handedOver = parties{"1002": {state: gone, end: secondLeft}, "1003": {state: gone, end: thirdLeft}}
)

// together is how long the two speak with each other behind a transfer.
const together = 6 * time.Second

// pickUpAndLeave has a phone take the call, and leave it after a while.
func pickUpAndLeave(number string) func(*cell) {
	return func(c *cell) {
		pickUp(number)(c)
		call := c.leg(number)
		time.AfterFunc(together, func() {
			c.b.mu.Lock()
			over := call.final || !call.confirmed
			c.b.mu.Unlock()
			if !over {
				call.Bye()
			}
		})
	}
}

// handsOver has 1002 take the call, and then the leg to a number make the transfer, so that 1003 is called.
func handsOver(by string, instruction string) func(*cell) {
	return func(c *cell) {
		pickUp("1002")(c)
		c.b.Pass(100 * time.Millisecond)
		c.act(by, programmed(c, "["+instruction+"]"))
		c.called("1003")
	}
}

// goOnWithoutTheCaller is the fate of two who are handed over: only the end of the edge is theirs as well.
func goOnWithoutTheCaller(st standing, end endings, e *expectation) {
	switch {
	case st.over && end == edgeStopped:
		e.legs["1002"], e.legs["1003"] = edgeStopped.leg(true), edgeStopped.leg(true)
	case st.over:
		e.late = []string{"1002", "1003"}
	}
}

// transferRows are those of transfer, refer and recording, and of dials whose parties are handed on.
func transferRows() []row {
	const (
		talk     = `{"verb":"dial","to":[{"extension":"1002"}]}`
		blind    = `{"verb":"transfer","id":"v","timeout":2,"to":{"extension":"1003"},"action":"/done"}`
		attended = `{"verb":"transfer","id":"v","mode":"attended","timeout":2,"to":{"extension":"1003"},"action":"/done"}`
	)
	return []row{
		{
			name: "transfer", verb: "transfer", told: true, natural: "completed", unhurried: true, phones: []string{"1002", "1003"}, finished: handedOver,
			instruction: blind,
			handing: handing{within: talk, changes: 1, fate: func(st standing, end endings, e *expectation) {
				goOnWithoutTheCaller(st, end, e)
				if st.running && end != edgeStopped { // it rings on, in vain, and then nobody is left for 1002
					e.legs["1003"], e.late = missed1002, []string{"1002", "1003"}
				}
			}},
			phases: []phase{{
				name: "ringing", joined: true, parties: parties{"1002": {state: talks}, "1003": {state: rings}},
				reach: func(c *cell) { handsOver(callerNumber, blind)(c); ring("1003")(c) },
			}},
			finish: pickUpAndLeave("1003"),
		},
		{
			name: "transfer_returned", verb: "transfer", told: true, natural: "returned", phones: []string{"1002", "1003"},
			finished:    parties{"1002": left1002["1002"], "1003": {state: gone, end: wasBusy}},
			instruction: blind,
			handing:     handing{brief: true, within: talk, changes: 1, left: webhooks.Returned},
			phases: []phase{{
				name: "together_again", parties: parties{"1002": {state: talks}, "1003": {state: gone, end: wasBusy}},
				reach: func(c *cell) { handsOver(callerNumber, blind)(c); c.leg("1003").Refuse(486) },
			}},
			finish: leaves("1002"),
		},
		{
			name: "transfer_attended", verb: "transfer", told: true, natural: "completed", phones: []string{"1002", "1003"}, finished: handedOver,
			instruction: attended,
			handing: handing{brief: true, within: talk, changes: 1, fate: func(st standing, end endings, e *expectation) {
				goOnWithoutTheCaller(st, end, e)
				if st.running && end == hungUp && st.parties["1003"].state == talks { // which completes it
					e.legs["1002"], e.legs["1003"], e.late = secondLeft, thirdLeft, []string{"1002", "1003"}
				}
			}},
			phases: []phase{
				{
					name: "ringing", joined: true, parties: parties{"1002": {state: talks}, "1003": {state: rings}},
					reach: func(c *cell) { handsOver(callerNumber, attended)(c); ring("1003")(c) },
				},
				{
					name: "consulting", joined: true, parties: parties{"1002": {state: talks}, "1003": {state: talks}},
					reach: pickUpAndLeave("1003"),
				},
			},
			finish: func(c *cell) { c.caller.Tap("#") },
		},
		{
			name: "dial_handed_on", verb: "dial", told: true, natural: "completed", phones: []string{"1002", "1003"},
			finished:    parties{"1002": {state: gone, end: ownProgram}, "1003": {state: gone, end: thirdLeft}},
			instruction: `{"verb":"dial","id":"v","to":[{"extension":"1002"}],"action":"/done"}`,
			handing: handing{brief: true, changes: 1, alone: true, fate: func(st standing, end endings, e *expectation) {
				if st.running && st.parties["1002"].state == talks && end != edgeStopped { // it has made the transfer, and has a program
					e.legs["1002"] = ownProgram
				}
			}},
			phases: []phase{
				{
					name: "ringing", joined: true, parties: parties{"1002": {state: talks}, "1003": {state: rings}},
					reach: func(c *cell) {
						handsOver("1002", `{"verb":"transfer","timeout":2,"to":{"extension":"1003"}}`)(c)
						ring("1003")(c)
					},
				},
				{
					name: "talking", parties: parties{"1002": {state: gone, end: ownProgram}, "1003": {state: talks}},
					reach: pickUp("1003"),
				},
			},
			finish: leaves("1003"),
		},
		{
			name: "dial_caller_refers", verb: "dial", told: true, natural: "referred", unhurried: true, phones: []string{"1002", "1003"}, finished: handedOver,
			instruction: `{"verb":"dial","id":"v","to":[{"extension":"1002"}],"refer":"/decide","action":"/done"}`,
			handing: handing{brief: true, fate: func(st standing, end endings, e *expectation) {
				goOnWithoutTheCaller(st, end, e)
				if st.running && end != edgeStopped { // it rings on, in vain, and then nobody is left for 1002
					e.legs["1003"], e.late = missed1002, []string{"1002", "1003"}
				}
			}},
			phases: []phase{{
				name: "ringing", joined: true, parties: parties{"1002": {state: talks}, "1003": {state: rings}},
				reach: func(c *cell) {
					pickUp("1002")(c)
					c.b.Pass(100 * time.Millisecond)
					c.caller.sendRefer("sip:1003@" + edgeAddr.Addr().String())
					ring("1003")(c)
				},
			}},
			finish: pickUpAndLeave("1003"),
		},
		{
			name: "dial_callee_refers", verb: "dial", natural: "next", unhurried: true, phones: []string{"1002"},
			finished:    parties{"1002": {state: gone, end: calleeReferred}},
			instruction: `{"verb":"dial","id":"v","to":[{"extension":"1002"}],"refer":"/decide"}`,
			app: func(c *cell) {
				c.b.App.Answer("/decide", webhooktest.Slow(slowly, `[{"verb":"pause","length":0.1},{"verb":"redirect","url":"/done"}]`))
			},
			handing: handing{brief: true},
			phases: []phase{{
				name: "application_decides", parties: parties{"1002": {state: talks}},
				reach: func(c *cell) {
					pickUp("1002")(c)
					c.b.Pass(100 * time.Millisecond)
					c.leg("1002").sendRefer("sip:1003@example.test")
				},
			}},
		},
		{
			name: "refer", verb: "refer", told: true, natural: "accepted", lasting: true,
			instruction: `{"verb":"answer"},{"verb":"refer","id":"v","to":"sip:1003@example.test","action":"/done"}`,
			phases: []phase{
				{name: "accepted"},
				{name: "ringing", reach: func(c *cell) { c.caller.sendNotify(180, false) }},
			},
			finish: func(c *cell) { c.caller.sendNotify(200, true) },
		},
		{
			name: "refer_refused", verb: "refer", told: true, natural: "refused", handing: handing{brief: true},
			instruction: `{"verb":"answer"},{"verb":"refer","id":"v","to":"sip:1003@example.test","action":"/done"}`,
			phases:      []phase{{name: "asking", reach: func(c *cell) { c.caller.AnswerRefer(-1) }}},
			finish:      func(c *cell) { c.caller.answerReferNow(603) },
		},
		{
			name: "recording", verb: "recording", natural: "next",
			instruction: `{"verb":"answer"},{"verb":"recording","op":"start"},{"verb":"pause","length":1},{"verb":"recording","op":"pause"},
				{"verb":"pause","length":1},{"verb":"recording","op":"resume"},{"verb":"recording","op":"stop"}`,
			phases: []phase{{name: "recording"}, {name: "paused", reach: func(c *cell) { c.b.Pass(time.Second) }}},
		},
		{
			name: "recording_unanswered", verb: "recording", natural: "next", unanswered: true, handing: handing{brief: true},
			instruction: `{"verb":"recording","op":"start"},{"verb":"pause","length":2}`,
			phases:      []phase{{name: "recording", unanswered: true}},
		},
	}
}
