package calltest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The live changes that act beside what runs, or on whom a leg speaks with: the rows of the ops. Whoever adds an op adds
// its row here.
//
// What becomes of everybody else when an end strikes one leg in the middle of an op depends on how far three goroutines
// have come. So the oracle says of these cells how the leg that is struck ends and what becomes of the end's own change, and
// what holds for every cell holds for these; above all that each change is told of once, and that what is told is true.

// operating is what a row says of the op that it is about; nothing where it is about a verb alone.
type operating struct {
	op string
	// made reports whether what the op asks for has come about; nil where nobody outside could tell.
	made func(c *cell) bool
}

// operate makes a live change to the leg to a number, which is taken. The first one of the row's op is the one whose truth
// is looked at.
func (c *cell) operate(number, change string) {
	c.act(number, changeOf(c, change))
	if c.tested == "" && c.row.op != "" && strings.Contains(change, `"op":"`+c.row.op+`"`) {
		c.tested = actionID(c.acts)
	}
}

func changeOf(c *cell, change string) func(*control.Action) {
	parsed, err := webhooks.ParseAction([]byte(change))
	if err != nil {
		c.b.t.Fatalf("%s: %v", change, err)
	}
	return func(a *control.Action) { a.Change = parsed }
}

// hasLeg reports whether a number was called, or has called.
func (c *cell) hasLeg(number string) bool {
	return slices.ContainsFunc(c.b.Events(webhooks.EventCallInitiated), func(e webhooks.Event) bool { return e.Data.To == number })
}

// tells reports whether the leg to a number has told of such an event.
func (c *cell) tells(number string, fits func(webhooks.Event) bool, kinds ...webhooks.EventType) bool {
	if !c.hasLeg(number) {
		return false
	}
	id := c.legID(number)
	return slices.ContainsFunc(c.b.Events(kinds...), func(e webhooks.Event) bool { return e.CallID == id && fits(e) })
}

func anyEvent(webhooks.Event) bool { return true }

// never: what is asked for cannot be.
func never(*cell) bool { return false }

// What may have come about.

// bridging: the one was connected with the other.
func bridging(one, other string) func(*cell) bool {
	return func(c *cell) bool {
		return c.hasLeg(other) && c.tells(one, func(e webhooks.Event) bool { return e.Data.PeerCallID == c.legID(other) }, webhooks.EventCallBridged)
	}
}

// byAPI: a live change has ended the leg.
func byAPI(number string) func(*cell) bool {
	return func(c *cell) bool { return c.ends()[number].EndedBy == webhooks.EndedByAPI }
}

func telling(number string, kind webhooks.EventType) func(*cell) bool {
	return func(c *cell) bool { return c.tells(number, anyEvent, kind) }
}

func holding(held bool) func(*cell) bool {
	return func(c *cell) bool {
		return c.tells(callerNumber, func(e webhooks.Event) bool { return *e.Data.Held == held }, webhooks.EventCallHeld)
	}
}

// surveying: the caller was asked.
func surveying(c *cell) bool {
	return c.tells(callerNumber, anyEvent, webhooks.EventSurveyCompleted)
}

// moving: the call has joined another queue than its first.
func moving(c *cell) bool {
	return c.tells(callerNumber, func(e webhooks.Event) bool { return e.Data.Name == "service" }, webhooks.EventQueueJoined)
}

// The phases of ops in a talk of the caller and 1002.
const dialTalk = `{"verb":"dial","id":"v","timeout":3,"to":[{"extension":"1002"}],"action":"/done"}`

var (
	withThird = parties{"1002": {state: talks}, "1003": {state: rings}}
	ofThree   = parties{"1002": {state: talks}, "1003": {state: talks}}
)

// steps are several things done one after the other, a moment apart.
func steps(all ...func(*cell)) func(*cell) {
	return func(c *cell) {
		for i, step := range all {
			if i > 0 {
				c.b.Pass(100 * time.Millisecond)
			}
			step(c)
		}
	}
}

func operates(number, change string) func(*cell) {
	return func(c *cell) { c.operate(number, change) }
}

// dropping names the leg to drop when that exists.
func dropping(on, number string) func(*cell) {
	return func(c *cell) { c.operate(on, `{"op":"drop","call_id":"`+string(c.legID(number))+`"}`) }
}

// isAsked is the phase in which a change has just been taken.
func isAsked(with parties, reach ...func(*cell)) phase {
	return phase{name: "asked", hold: time.Millisecond, reach: steps(reach...), parties: with}
}

// inTalkOf is a row of an op that is made while the caller speaks with 1002.
func inTalkOf(name, op string, made func(*cell) bool, phases ...phase) row {
	return row{
		name: "op_" + name, verb: "dial", told: true, lasting: true, phones: []string{"1002", "1003"}, instruction: dialTalk,
		operating: operating{op: op, made: made}, handing: handing{brief: true, alone: true}, phases: phases,
	}
}

// withOpTarget are the phases of an op that calls 1003.
func withOpTarget(on, change string) []phase {
	return []phase{
		isAsked(withThird, pickUp("1002"), operates(on, change)),
		{name: "ringing", reach: ring("1003"), parties: withThird},
		{name: "taken", reach: pickUp("1003"), parties: ofThree},
	}
}

// consulting brings the caller to speak with 1003 while 1002 waits.
func consulting(then ...func(*cell)) []func(*cell) {
	return append([]func(*cell){
		pickUp("1002"), operates(callerNumber, `{"op":"consult","to":{"extension":"1003"},"timeout":2}`), ring("1003"), pickUp("1003"),
	}, then...)
}

// isMade is the phase in which a change was made.
func isMade(with parties) phase { return phase{name: "made", parties: with} }

func opRows() []row {
	return slices.Concat(talkOpRows(), targetOpRows(), asideOpRows(), besideOpRows(), queueOpRows(), conferenceOpRows())
}

// talkOpRows are those of ops that end a talk, or whom it is with.
func talkOpRows() []row {
	withCaller := parties{"1002": {state: gone}}
	survey := func(c *cell) {
		question := control.SurveyQuestion{Name: "first", Keys: "12", Attempts: 1, Timeout: 120, Prompt: Program(c.b.t, `[{"verb":"play","tone":"440"}]`)}
		c.b.Plane.SetSurvey("after", control.Survey{ID: "sur_1", Version: 1, Questions: []control.SurveyQuestion{question}})
	}
	rows := []row{
		inTalkOf("hangup", "hangup", byAPI("1002"), isAsked(talking1002, pickUp("1002"), operates("1002", `{"op":"hangup"}`))),
		inTalkOf("disconnect", "disconnect", byAPI(callerNumber), isAsked(talking1002, pickUp("1002"), operates(callerNumber, `{"op":"disconnect"}`))),
		inTalkOf("disconnect_by_callee", "disconnect", byAPI(callerNumber), isAsked(talking1002, pickUp("1002"), operates("1002", `{"op":"disconnect"}`))),
		inTalkOf("drop", "drop", byAPI("1002"), isAsked(talking1002, pickUp("1002"), dropping(callerNumber, "1002"))),
		inTalkOf("drop_itself", "drop", byAPI(callerNumber), isAsked(talking1002, pickUp("1002"), dropping(callerNumber, callerNumber))),
		inTalkOf("park", "park", telling("1002", webhooks.EventCallParked),
			isAsked(talking1002, pickUp("1002"), operates(callerNumber, `{"op":"park"}`)), isMade(withCaller)),
		inTalkOf("park_by_callee", "park", telling(callerNumber, webhooks.EventCallParked),
			isAsked(talking1002, pickUp("1002"), operates("1002", `{"op":"park"}`)), isMade(withCaller)),
		inTalkOf("survey", "survey", surveying,
			isAsked(talking1002, pickUp("1002"), operates(callerNumber, `{"op":"survey","survey_id":"after"}`)), isMade(withCaller)),
		inTalkOf("survey_later", "survey", surveying,
			isAsked(talking1002, pickUp("1002"), operates("1002", `{"op":"survey","survey_id":"after"}`)), isMade(talking1002)),
		inTalkOf("survey_unknown", "survey", never,
			isAsked(talking1002, pickUp("1002"), operates(callerNumber, `{"op":"survey","survey_id":"nothing"}`)), isMade(talking1002)),
		inTalkOf("survey_unknown_later", "survey", never,
			isAsked(talking1002, pickUp("1002"), operates("1002", `{"op":"survey","survey_id":"nothing"}`)), isMade(talking1002)),
	}
	for i := range rows {
		if rows[i].op == "survey" {
			rows[i].app = survey
		}
	}
	return rows
}

// targetOpRows are those of ops that call somebody.
func targetOpRows() []row {
	const to1003 = `,"to":{"extension":"1003"},"timeout":2}`
	const to1003Screened = `,"to":{"extension":"1003","screen":"/screen"},"timeout":2}`
	screened := func(name string, answer any) row {
		r := inTalkOf("transfer_screen_"+name, "transfer", bridging("1002", "1003"), withOpTarget(callerNumber, `{"op":"transfer"`+to1003Screened)...)
		r.app = func(c *cell) { c.b.App.Answer("/screen", answer) }
		return r
	}
	rows := []row{
		inTalkOf("transfer", "transfer", bridging("1002", "1003"), withOpTarget(callerNumber, `{"op":"transfer"`+to1003)...),
		inTalkOf("transfer_by_callee", "transfer", bridging(callerNumber, "1003"), withOpTarget("1002", `{"op":"transfer"`+to1003)...),
		inTalkOf("transfer_to_nobody", "transfer", never, isAsked(talking1002, pickUp("1002"), operates(callerNumber, `{"op":"transfer","to":{"extension":"1999"}}`))),
		screened("slow", webhooktest.Slow(slowly, `[]`)),
		screened("dead", webhooktest.Status(500)),
		screened("hangs", webhooktest.Hang()),
		screened("invalid", `[{"verb":"sing"}]`),
		inTalkOf("consult", "consult", bridging(callerNumber, "1003"), withOpTarget(callerNumber, `{"op":"consult"`+to1003)...),
		inTalkOf("consult_by_callee", "consult", bridging("1002", "1003"), withOpTarget("1002", `{"op":"consult"`+to1003)...),
		{
			name: "op_retarget", verb: "dial", told: true, lasting: true, phones: []string{"1002", "1003"}, instruction: dialTalk,
			operating: operating{op: "retarget", made: func(c *cell) bool { return c.hasLeg("1003") }}, handing: handing{brief: true, alone: true},
			phases: []phase{
				{
					name: "asked", hold: time.Millisecond, parties: parties{"1003": {state: rings}},
					reach: steps(ring("1002"), operates(callerNumber, `{"op":"retarget"`+to1003)),
				},
				{name: "ringing", reach: ring("1003"), parties: parties{"1003": {state: rings}}},
				{name: "talking", reach: pickUp("1003"), parties: parties{"1003": {state: talks}}},
			},
		},
		{
			name: "op_pick_up", verb: "dial", told: true, lasting: true, phones: []string{"1002", "1003"}, instruction: dialTalk,
			operating: operating{op: "pick_up", made: bridging(callerNumber, "1003")}, handing: handing{brief: true, alone: true},
			phases: []phase{
				{
					name: "asked", hold: time.Millisecond, parties: ringing1002,
					reach: steps(ring("1002"), operates("1002", `{"op":"pick_up",`+by1003+`}`)),
				},
				{name: "ringing", reach: ring("1003"), parties: parties{"1002": {state: rings}, "1003": {state: rings}}},
				{name: "taken", reach: pickUp("1003"), parties: parties{"1003": {state: talks}}},
			},
		},
	}
	for _, op := range []string{"listen", "whisper", "barge"} {
		rows = append(rows,
			inTalkOf(op, op, bridging("1003", callerNumber), withOpTarget(callerNumber, `{"op":"`+op+`",`+by1003+`}`)...),
			supervisedByALeg(op),
		)
	}
	return append(rows,
		inTalkOf("intercept", "intercept", bridging("1003", callerNumber), withOpTarget("1002", `{"op":"intercept",`+by1003+`}`)...),
		inTalkOf("intercept_the_caller", "intercept", bridging("1003", "1002"), withOpTarget(callerNumber, `{"op":"intercept",`+by1003+`}`)...),
		supervisedByALeg("intercept"),
	)
}

// supervisedByALeg is a supervision of the caller's talk by a leg that is up: the guest's.
func supervisedByALeg(op string) row {
	made := bridging(guestNumber, callerNumber)
	if op == "intercept" {
		made = bridging(guestNumber, "1002")
	}
	r := inTalkOf(op+"_by_a_leg", op, made, isAsked(talking1002, visit, pickUp("1002"), func(c *cell) {
		c.operate(callerNumber, `{"op":"`+op+`","call_id":"`+string(c.legID(guestNumber))+`"}`)
	}), isMade(talking1002))
	r.phones = []string{"1002", guestPhone}
	r.guest = guest{comes: `[{"verb":"play","tone":"500","loop":0}]`}
	r.app = expectGuest
	return r
}

// asideOpRows are those of ops in a consultation.
func asideOpRows() []row {
	return []row{
		inTalkOf("complete", "complete", bridging("1002", "1003"), isAsked(ofThree, consulting(operates(callerNumber, `{"op":"complete"}`))...)),
		inTalkOf("cancel_ringing", "cancel", byAPI("1003"), isAsked(talking1002, pickUp("1002"),
			operates(callerNumber, `{"op":"consult","to":{"extension":"1003"},"timeout":2}`), ring("1003"), operates(callerNumber, `{"op":"cancel"}`))),
		inTalkOf("cancel", "cancel", byAPI("1003"), isAsked(ofThree, consulting(operates(callerNumber, `{"op":"cancel"}`))...), isMade(talking1002)),
		inTalkOf("merge", "merge", bridging("1002", "1003"), isAsked(ofThree, consulting(operates(callerNumber, `{"op":"merge"}`))...), isMade(ofThree)),
		inTalkOf("merged_drop", "drop", byAPI("1003"),
			isAsked(ofThree, consulting(operates(callerNumber, `{"op":"merge"}`), dropping(callerNumber, "1003"))...), isMade(talking1002)),
		inTalkOf("merged_disconnect", "disconnect", byAPI(callerNumber),
			isAsked(ofThree, consulting(operates(callerNumber, `{"op":"merge"}`), operates("1002", `{"op":"disconnect"}`))...)),
	}
}

// besideOpRows are those of ops that act beside the talk.
func besideOpRows() []row {
	const held = `{"op":"hold","prompt":"/prompt"}`
	prompted := func(name string, answer any) row {
		r := inTalkOf("hold_prompt_"+name, "hold", nil, isAsked(talking1002, pickUp("1002"), operates(callerNumber, held)), isMade(talking1002))
		r.app = func(c *cell) { c.b.App.Answer("/prompt", answer) }
		return r
	}
	both := func(op, attributes string) row {
		r := inTalkOf(op, op, nil, isAsked(talking1002, pickUp("1002"), operates(callerNumber, `{"op":"`+op+`","to":"both",`+attributes+`}`)), isMade(talking1002))
		r.setup = func(s *Setup) { s.Speech = spoken.Speech }
		r.app = func(c *cell) {
			file := webhooktest.Response{ContentType: "audio/wav", Body: WAV(Voice(1, 900*time.Millisecond))}
			c.b.App.Answer("/hello.wav", webhooktest.Slow(slowly, file))
		}
		return r
	}
	simply := func(op string, so func(*cell) bool, changes ...string) row {
		reach := []func(*cell){pickUp("1002")}
		for _, change := range changes {
			reach = append(reach, operates(callerNumber, change))
		}
		return inTalkOf(op, op, so, isAsked(talking1002, reach...), isMade(talking1002))
	}
	return []row{
		simply("hold", holding(true), `{"op":"hold"}`),
		simply("unhold", holding(false), `{"op":"hold"}`, `{"op":"unhold"}`),
		prompted("slow", webhooktest.Slow(slowly, `[{"verb":"play","media_id":"sys_hold"}]`)),
		prompted("dead", webhooktest.Status(500)),
		prompted("hangs", webhooktest.Hang()),
		prompted("invalid", `[{"verb":"sing"}]`),
		simply("mute", nil, `{"op":"mute"}`),
		simply("unmute", nil, `{"op":"mute"}`, `{"op":"unmute"}`),
		simply("digits", nil, `{"op":"digits","digits":"12W3"}`),
		both("play", `"url":"/hello.wav"`),
		both("say", `"text":"Good morning"`),
		simply("recording", telling(callerNumber, webhooks.EventRecordingStarted), `{"op":"recording","do":"start"}`),
	}
}

// queueOpRows are those of ops on a call that waits in a queue, and in the talk that comes of it.
func queueOpRows() []row {
	waitingWith := func(op string, made func(*cell) bool, change string) row {
		return row{
			name: "op_" + op, verb: "enqueue", told: true, lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","action":"/done"}`,
			guest:       guest{comes: `[{"verb":"dequeue","queue":"sales","timeout":3}]`, forsaken: webhooks.Bridged, bereft: webhooks.Lost},
			operating:   operating{op: op, made: made}, handing: handing{brief: true, alone: true},
			app: func(c *cell) {
				sales(c)
				c.b.Plane.Queue("service", nil)
			},
			phases: []phase{
				isAsked(nil, func(c *cell) { c.b.Pass(200 * time.Millisecond) }, operates(callerNumber, change)),
				isMade(nil),
				{name: "talking", reach: visit, parties: present},
			},
		}
	}
	rows := []row{
		waitingWith("priority", nil, `{"op":"priority","priority":7}`),
		waitingWith("assign", nil, `{"op":"assign","agent":"agt_1"}`),
		waitingWith("move", moving, `{"op":"move","queue":"service"}`),
	}
	rows[1].phases, rows[2].phases = rows[1].phases[:2], rows[2].phases[:2]
	return rows
}

// conferenceOpRows are those of ops in a conference of the caller and the guest.
func conferenceOpRows() []row {
	inRoom := func(op string, made func(*cell) bool, operate func(*cell)) row {
		return row{
			name: "op_" + op + "_in_conference", verb: "conference", told: true, lasting: true, phones: []string{guestPhone},
			instruction: `{"verb":"conference","id":"v","name":"team","end_on_exit":true,"action":"/done"}`,
			guest:       guest{comes: `[{"verb":"conference","name":"team","end_on_exit":true}]`, forsaken: webhooks.Ended, bereft: webhooks.Ended},
			operating:   operating{op: op, made: made}, handing: handing{brief: true, alone: true}, app: expectGuest,
			phases: []phase{
				isAsked(present, func(c *cell) { c.b.Pass(100 * time.Millisecond) }, visit, operate),
				isMade(present),
			},
		}
	}
	kicked := func(number string) func(*cell) bool {
		return func(c *cell) bool {
			return c.tells(number, func(e webhooks.Event) bool { return e.Data.Reason == webhooks.ParticipantKicked }, webhooks.EventConferenceLeft)
		}
	}
	ended := func(c *cell) bool {
		return slices.ContainsFunc(c.b.Events(webhooks.EventConferenceEnded), func(e webhooks.Event) bool { return e.Data.Reason == webhooks.ConferenceEndedByAPI })
	}
	guestTakesPart := func(op string) func(*cell) {
		return func(c *cell) { c.operate(callerNumber, `{"op":"`+op+`","call_id":"`+string(c.legID(guestNumber))+`"}`) }
	}
	modified := telling(guestNumber, webhooks.EventConferenceModified)
	return []row{
		inRoom("disconnect", ended, operates(callerNumber, `{"op":"disconnect"}`)),
		inRoom("drop", kicked(guestNumber), dropping(callerNumber, guestNumber)),
		inRoom("mute", telling(callerNumber, webhooks.EventConferenceMuted), operates(callerNumber, `{"op":"mute"}`)),
		inRoom("hold", telling(callerNumber, webhooks.EventConferenceHeld), operates(callerNumber, `{"op":"hold"}`)),
		inRoom("listen", modified, guestTakesPart("listen")),
		inRoom("whisper", modified, guestTakesPart("whisper")),
		inRoom("barge", nil, guestTakesPart("barge")),
		inRoom("play", nil, operates(callerNumber, `{"op":"play","tone":"440","to":"both"}`)),
		inRoom("transfer", never, operates(callerNumber, `{"op":"transfer","to":{"extension":"1001"}}`)),
	}
}

// opEnds are what only the rows of ops know: the third party, and other live changes at the same time.
func opEnds() []end {
	third := func(state partyState) func(spot) bool {
		return func(s spot) bool {
			p, ok := s.stands[0].parties["1003"]
			return inside(s) && s.row.op != "" && ok && p.state == state && len(s.stands[0].parties) > 1
		}
	}
	operated := func(s spot) bool { return inside(s) && s.row.op != "" }
	another := func(name, change string) end {
		return end{
			name: "another_" + name, fits: operated, strikes: nobody, limit: -1,
			pull:   func(c *cell) { c.operate(callerNumber, change) },
			expect: undisturbed,
		}
	}
	onThird := func(name string, state partyState, pull func(*cell), e legEnd) end {
		return end{
			name: name, fits: third(state), strikes: func(*cell) string { return "1003" }, limit: -1, pull: pull, lead: latency,
			expect: func(_ *cell, st standing) []expectation {
				return []expectation{{legs: map[string]legEnd{"1003": e}}}
			},
		}
	}
	return []end{
		onThird("third_bye", talks, func(c *cell) { c.leg("1003").Bye() }, thirdLeft),
		onThird("third_busy", rings, func(c *cell) { c.leg("1003").Refuse(486) }, wasBusy),
		{
			name: "third_vanishes", fits: third(rings), strikes: nobody, limit: -1,
			pull:   func(c *cell) { c.silence("1003") },
			expect: undisturbed,
		},
		another("hold", `{"op":"hold"}`),
		another("transfer", `{"op":"transfer","to":{"extension":"1009"},"timeout":1}`),
		another("disconnect", `{"op":"disconnect"}`),
		another("park", `{"op":"park"}`),
		{
			name: "everybody_bye", fits: operated, lead: latency, limit: -1, strikes: nobody,
			pull: everybodyLeaves, expect: undisturbed,
		},
		{
			name: "change_peer_hangup", limit: time.Second, fits: func(s spot) bool { return having(talks)(s) && s.row.told },
			pull: func(c *cell) {
				c.act(callerNumber, changeOf(c, `{"instructions":[{"verb":"pause","length":0.2},{"verb":"hangup"}],"peer":"hangup"}`))
			},
			expect: peering(legEnd{"api_hangup", webhooks.EndedByAPI, 200}),
		},
		{
			name: "change_peer_instructions", limit: time.Second, fits: func(s spot) bool { return having(talks)(s) && s.row.told },
			pull: func(c *cell) {
				c.act(callerNumber, changeOf(c, `{"instructions":[{"verb":"pause","length":0.2},{"verb":"hangup"}],"peer":[{"verb":"pause","length":0.1}]}`))
			},
			expect: peering(ownProgram),
		},
		{
			name: "change_peer_continue", limit: time.Second, fits: func(s spot) bool { return having(talks)(s) && s.row.told },
			pull: func(c *cell) {
				c.act(callerNumber, changeOf(c, `{"instructions":[{"verb":"pause","length":0.2},{"verb":"hangup"}],"peer":"continue"}`))
			},
			expect: replacing(programOver, webhooks.EventActionCompleted),
		},
	}
}

// peering is replacing, with what the change says of the partner.
func peering(partner legEnd) func(*cell, standing) []expectation {
	return func(c *cell, st standing) []expectation {
		all := replacing(programOver, webhooks.EventActionCompleted)(c, st)
		all[0].legs[c.one(talks)] = partner
		return all
	}
}

// nobody is whom a disturbance strikes.
func nobody(*cell) string { return "" }

// theOne is whom an end strikes that is another party's.
func theOne(states ...partyState) func(*cell) string {
	return func(c *cell) string { return c.one(states...) }
}

// everybodyLeaves has every phone hang up that is in a call.
func everybodyLeaves(c *cell) {
	c.b.mu.Lock()
	var up []*Call
	for _, phone := range c.b.phones {
		for _, call := range phone.calls {
			if !call.final && (call.up || call.confirmed) {
				up = append(up, call)
			}
		}
	}
	c.b.mu.Unlock()
	for _, call := range up {
		call.Bye()
	}
}

// wind brings a cell of an op to its end: whoever still speaks leaves.
func (c *cell) wind() {
	if c.end != nil {
		c.b.Pass(c.end.rests)
	}
	for range 3 {
		c.b.Pass(500 * time.Millisecond)
		everybodyLeaves(c)
	}
}

// differsInPart says in what a cell of an op is not as expected: how the leg that was struck ended, and what became of the
// end's own live change.
func (c *cell) differsInPart(e expectation) []string {
	number := callerNumber
	if c.end.strikes != nil {
		number = c.end.strikes(c)
	}
	got, ended := c.ends()[number]
	struck := c.b.started.Add(c.effect())
	if c.row.op == "intercept" && got.EndedBy == webhooks.EndedByAPI { // it is the op that ends it, in the same moment
		struck = struck.Add(2 * latency)
	}
	if number == "" || ended && !got.EndedAt.After(struck) { // the op has ended it before
		return nil
	}
	var wrong []string
	want, known := e.legs[number]
	switch {
	case !known:
	case !ended:
		wrong = append(wrong, fmt.Sprintf("the leg to %s has no end, expected %s", number, want))
	case !want.fits(got):
		wrong = append(wrong, fmt.Sprintf("the leg to %s: %s by %s, %d; expected %s", number, got.Cause, got.EndedBy, got.SIPCode, want))
	}
	limit := c.end.limit
	if limit == 0 {
		limit = 500 * time.Millisecond
	}
	if lived := got.EndedAt.Sub(c.b.started) - c.effect(); ended && limit > 0 && lived > limit {
		wrong = append(wrong, fmt.Sprintf("the leg to %s lived on for %s", number, lived))
	}
	return wrong
}

// checkOp: what is told of the op is told once, and is so.
func (c *cell) checkOp() {
	settled := c.b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)
	if len(settled) != c.taken {
		c.b.t.Errorf("%d live changes were taken, and %d told of", c.taken, len(settled))
	}
	parked, unparked := c.b.Events(webhooks.EventCallParked), c.b.Events(webhooks.EventCallUnparked)
	if len(parked) != len(unparked) {
		c.b.t.Errorf("parked %d times, taken out %d times", len(parked), len(unparked))
	}
	for _, e := range settled {
		if e.Data.ActionID != c.tested {
			continue
		}
		if e.Data.Op != c.row.op {
			c.b.t.Errorf("%s is told of as %q", e.Data.ActionID, e.Data.Op)
		}
		if e.Type == webhooks.EventActionFailed && e.Data.Message == "" {
			c.b.t.Errorf("%s failed, and nobody knows why", e.Data.ActionID)
		}
		if c.row.made == nil {
			continue
		}
		if so := c.row.made(c); so != (e.Type == webhooks.EventActionCompleted) {
			c.b.t.Errorf("%s is told of as %s %q, and what it asks for has come about: %v", c.row.op, e.Type, e.Data.Message, so)
		}
	}
}

func TestEveryOpHasItsRows(t *testing.T) {
	rows := map[string]bool{}
	for _, r := range opRows() {
		rows[r.op] = true
		if !slices.Contains(webhooks.Ops(), r.op) {
			t.Errorf("%s is about %s, which is no op", r.name, r.op)
		}
	}
	for _, op := range webhooks.Ops() {
		if !rows[op] {
			t.Errorf("the contract has the op %s: give it rows in the matrix", op)
		}
	}
}
