package calltest

import (
	"slices"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The rows of the verbs by which two legs meet that each have a program of their own, and the ends that only they know. The
// other leg is the guest: it calls guestNumber in the course of a row.

const (
	guestNumber = "2000"
	guestPhone  = "1003"
)

// guest is what a row says of its guest; nothing where it has none.
type guest struct {
	// comes is the program of guestNumber.
	comes string
	// forsaken is the verb's outcome when the guest leaves while the two speak, and bereft when it falls silent; "" where the
	// verb goes on.
	forsaken, bereft webhooks.Outcome
	// waits: it is there before the verb begins.
	waits bool
}

// present is the guest of whoever is under test, and visited where that stands when the guest has hung up.
var (
	present = parties{guestNumber: {state: apart, end: guestDone}}
	visited = parties{guestNumber: {state: gone, end: guestHungUp}}
	// dismissed is where its program is at its end.
	dismissed = parties{guestNumber: {state: gone, end: guestDone}}

	guestHungUp = legEnd{"caller_hangup", webhooks.EndedByCaller, 200}
	guestDone   = legEnd{"program_end", webhooks.EndedByApplication, 200}
)

// awaitsGuest reports whether the guest is still to come.
func (s spot) awaitsGuest() bool { return s.row.comes != "" && s.one(apart) == "" }

// visit has the guest call. A time limit is the caller's.
func visit(c *cell) {
	c.b.Plane.TimeLimit = 0
	c.legs[guestNumber] = c.b.Phone(guestPhone).Dial(guestNumber).Answered()
}

// isGuest reports whether a call is the guest's.
func (c *cell) isGuest(id webhooks.CallID) bool {
	return slices.ContainsFunc(c.b.Events(webhooks.EventCallInitiated), func(e webhooks.Event) bool {
		return e.CallID == id && e.Data.To == guestNumber
	})
}

// sales makes the queue of the rows, and says what the guest's program is.
func sales(c *cell) {
	c.b.Plane.Queue("sales", nil)
	expectGuest(c)
}

func expectGuest(c *cell) {
	if c.row.comes != "" {
		c.b.Plane.Number(guestNumber, control.Application{ID: "app_guest", Format: control.FormatNative, Program: Program(c.b.t, c.row.comes)})
	}
}

func queueRows() []row {
	const takes = `[{"verb":"dequeue","queue":"sales","timeout":3}]`
	const waits = `[{"verb":"enqueue","queue":"sales","max_wait":3}]`
	const screen = `[{"verb":"gather","num_digits":1,"timeout":20}]`
	taps := func(c *cell) { c.leg(guestNumber).Tap("1") }
	return []row{
		{name: "leave", verb: "leave", instruction: `{"verb":"leave"}`, natural: "next", unanswered: true},
		{
			name: "enqueue", verb: "enqueue", told: true, natural: "bridged", lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","action":"/done"}`,
			guest:       guest{comes: takes, forsaken: webhooks.Bridged, bereft: webhooks.Lost},
			app:         sales,
			phases: []phase{
				{name: "waiting"},
				{name: "talking", reach: visit, parties: present},
			},
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "enqueue_screened", verb: "enqueue", told: true, natural: "bridged", lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","wait":[{"verb":"gather","timeout":60}],"screen":` + screen + `,"action":"/done"}`,
			guest:       guest{comes: takes, forsaken: webhooks.Bridged, bereft: webhooks.Lost},
			app:         sales,
			phases: []phase{
				{name: "waiting"},
				{name: "screening", reach: visit, parties: present},
				{name: "talking", reach: taps, parties: present},
			},
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "enqueue_timeout", verb: "enqueue", told: true, natural: "timeout", app: sales,
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","max_wait":2,"announce_position":true,"action":"/done"}`,
			phases:      []phase{{name: "waiting"}},
		},
		{
			name: "enqueue_left", verb: "enqueue", told: true, natural: "left", app: sales,
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","wait":[{"verb":"pause","length":2},{"verb":"leave"}],"action":"/done"}`,
			phases:      []phase{{name: "waiting"}},
		},
		{
			name: "enqueue_wait_url", verb: "enqueue", told: true, lasting: true, moves: true,
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","wait":"/wait","action":"/done"}`,
			app: func(c *cell) {
				sales(c)
				c.b.App.Answer("/wait", webhooktest.Slow(slowly, `[{"verb":"play","media_id":"sys_hold"}]`))
			},
			phases: []phase{{name: "asking"}, {name: "hearing", reach: func(c *cell) { c.b.Pass(slowly) }}},
		},
		{
			name: "enqueue_nowhere", verb: "enqueue", told: true, natural: "failed",
			instruction: `{"verb":"enqueue","id":"v","queue":"nowhere","action":"/done"}`,
		},
		{
			name: "dequeue", verb: "dequeue", told: true, natural: "bridged", lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"dequeue","id":"v","queue":"sales","timeout":120,` + reportTo + `}`,
			guest:       guest{comes: waits, forsaken: webhooks.Bridged, bereft: webhooks.Bridged},
			app:         sales,
			phases: []phase{
				{name: "waiting"},
				{name: "talking", reach: visit, parties: present},
			},
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "dequeue_screened", verb: "dequeue", told: true, natural: "bridged", lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"dequeue","id":"v","queue":"sales","timeout":120,"screen":` + screen + `,` + reportTo + `}`,
			guest:       guest{comes: waits, forsaken: webhooks.Bridged, bereft: webhooks.Bridged},
			app:         sales,
			phases: []phase{
				{name: "screening", reach: visit, parties: present},
				{name: "talking", reach: taps, parties: present},
			},
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "dequeue_nobody", verb: "dequeue", told: true, natural: "empty", app: sales,
			instruction: `{"verb":"dequeue","id":"v","queue":"sales","timeout":2,` + reportTo + `}`,
			phases:      []phase{{name: "waiting"}},
		},
	}
}

// meeting are the moments at which the two speak, and the guest's leaving ends the verb.
func meeting(s spot) bool {
	return s.moment.kind == inPhase && s.row.forsaken != "" && s.moment.phase == len(s.row.phases)-1 && s.one(apart) != ""
}

// forsake is what a cell comes to when the guest ends so, and the verb with this outcome.
func forsake(guest legEnd, outcome func(*row) webhooks.Outcome) func(*cell, standing) []expectation {
	return func(c *cell, st standing) []expectation {
		return []expectation{c.row.partyEnded(st, guestNumber, guest, string(outcome(c.row)))}
	}
}

func left(r *row) webhooks.Outcome { return r.forsaken }

func lost(r *row) webhooks.Outcome { return r.bereft }

// guestEnds are what a guest does, and what is done to it.
func guestEnds() []end {
	theGuest := func(*cell) string { return guestNumber }
	byAPI := legEnd{"api_hangup", webhooks.EndedByAPI, 200}
	return []end{
		{
			name: "guest_bye", fits: meeting, strikes: theGuest, lead: latency, limit: -1,
			pull:   func(c *cell) { c.leg(guestNumber).Bye() },
			expect: forsake(guestHungUp, left),
		},
		{
			name: "guest_media_stops", fits: meeting, strikes: theGuest, later: rtpTimeout, limit: -1,
			pull:   func(c *cell) { c.leg(guestNumber).Mute(true) },
			expect: forsake(legEnd{"media_timeout", webhooks.EndedBySystem, 200}, lost),
		},
		{
			name: "guest_api_hangup", fits: meeting, strikes: theGuest, limit: -1,
			pull:   func(c *cell) { c.act(guestNumber, hangingUp) },
			expect: withAction(webhooks.EventActionCompleted, forsake(byAPI, left)),
		},
		{
			name: "guest_changed", fits: meeting, strikes: theGuest, limit: -1,
			pull: func(c *cell) {
				c.act(guestNumber, programmed(c, `[{"verb":"pause","length":0.2},{"verb":"hangup"}]`))
			},
			expect: withAction(webhooks.EventActionCompleted, forsake(guestDone, left)),
		},
		{
			name: "guest_disconnected", fits: meeting, strikes: theGuest, limit: -1,
			pull: func(c *cell) {
				c.act(guestNumber, func(a *control.Action) { a.Change.Op = new(webhooks.OpDisconnect) })
			},
			expect: withAction(webhooks.EventActionCompleted, func(c *cell, st standing) []expectation {
				if c.row.verb == "conference" { // it ends, and both go on
					return []expectation{c.row.partyEnded(st, guestNumber, guestDone, string(webhooks.Ended))}
				}
				e := c.row.struck(st, hungUpByAPI, string(webhooks.Hangup))
				e.legs[guestNumber] = byAPI
				return []expectation{e}
			}),
		},
		{
			name: "kicked", fits: func(s spot) bool { return meeting(s) && s.row.verb == "conference" && s.row.op == "" }, limit: -1,
			pull: func(c *cell) {
				c.act(guestNumber, func(a *control.Action) { a.Change.Op = &webhooks.OpDrop{CallID: c.legID(callerNumber)} })
			},
			expect: withAction(webhooks.EventActionCompleted, func(c *cell, st standing) []expectation { // with it the conference ends
				return []expectation{c.row.partyEnded(st, guestNumber, guestDone, string(webhooks.Kicked))}
			}),
		},
		{
			name: "guest_and_caller_bye", fits: meeting, lead: latency,
			pull: func(c *cell) {
				c.caller.Bye()
				c.leg(guestNumber).Bye()
			},
			expect: func(c *cell, st standing) []expectation {
				var all []expectation
				for _, outcome := range []webhooks.Outcome{webhooks.Hangup, c.row.forsaken} {
					for _, other := range []legEnd{guestHungUp, guestDone} {
						e := c.row.struck(st, hungUp, string(outcome))
						e.legs[guestNumber] = other
						all = append(all, e)
					}
				}
				return all
			},
		},
	}
}
