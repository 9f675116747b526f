package calltest

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The rows of outcomes that no other row comes to, and what says which there are.

// withoutCells are the outcomes of the contract that no cell comes to, and why.
func withoutCells() map[string]string {
	return map[string]string{
		"enqueue/no_agents": "the control plane has no such refusal yet",
		"enqueue/callback":  "callback_key is of a later version",
		"detect/failed":     "nothing in it can fail",
		"dial/failed":       "only where the media engine has ended",
		"record/failed":     "only where the disk is full: see record_test.go",
	}
}

// guestFirst has the guest be there before the caller comes.
func guestFirst(also ...func(*cell)) func(*cell) {
	return func(c *cell) {
		for _, step := range also {
			step(c)
		}
		expectGuest(c)
		visit(c)
		c.b.Pass(200 * time.Millisecond)
	}
}

// otherGuest comes before the guest, where there are to be two.
const otherGuest = "2001"

var withOther = parties{guestNumber: present[guestNumber], otherGuest: {state: apart, end: guestDone}}

// outcomeRows are brief: what comes before and after is as in the other rows of the verb.
func outcomeRows() []row {
	const (
		talk     = `{"verb":"dial","to":[{"extension":"1002"}]}`
		attended = `{"verb":"transfer","id":"v","mode":"attended","timeout":2,"to":{"extension":"1003"},"action":"/done"}`
	)
	brief := handing{brief: true}
	missing := func(c *cell) { c.b.App.Answer("/missing.wav", webhooktest.Slow(slowly, webhooktest.Status(404))) }
	rows := []row{
		{
			name: "play_missing", verb: "play", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"answer"},{"verb":"play","url":"/missing.wav",` + reportTo + `}`,
			app:         missing, phases: []phase{{name: "fetching"}},
		},
		{
			name: "gather_prompt_missing", verb: "gather", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"answer"},{"verb":"gather","prompt":[{"verb":"play","url":"/missing.wav"}],"action":"/done"}`,
			app:         missing, phases: []phase{{name: "fetching"}},
		},
		{
			name: "voicemail_empty", verb: "voicemail", told: true, natural: "empty", listens: true, handing: brief,
			instruction: `{"verb":"voicemail","mailbox":"sales","greeting":[],` + reportTo + `}`,
			app: func(c *cell) {
				c.b.Plane.SetMailbox("sales", control.Mailbox{ID: "mbx_1", MinLength: 0.1, Silence: 2, FinishOnKey: "#"})
			},
			phases: []phase{{name: "silence", hold: 700 * time.Millisecond}},
		},
		{
			name: "survey_skipped", verb: "survey", told: true, natural: "skipped", handing: brief,
			instruction: `{"verb":"survey","survey_id":"after",` + reportTo + `}`,
			app: func(c *cell) {
				question := control.SurveyQuestion{Name: "first", Keys: "12", Attempts: 1, Timeout: 1, Prompt: Program(c.b.t, `[{"verb":"play","tone":"440"}]`)}
				c.b.Plane.SetSurvey("after", control.Survey{ID: "sur_1", Version: 1, Questions: []control.SurveyQuestion{question}})
			},
			phases: []phase{{name: "question"}},
		},
		{
			name: "survey_for_nobody", verb: "survey", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"survey","survey_id":"nothing",` + reportTo + `}`,
		},
		{
			name: "message_slow", verb: "message", told: true, natural: "sent", unanswered: true, handing: brief,
			instruction: `{"verb":"message","to":"+8613800138000","body":"x",` + reportTo + `}`,
			app: func(c *cell) {
				release := c.b.Plane.Hold()
				time.AfterFunc(time.Second, release)
			},
			phases: []phase{{name: "sending", unanswered: true}},
		},
		{
			name: "message_refused", verb: "message", told: true, natural: "failed", unanswered: true, handing: brief,
			instruction: `{"verb":"message","to":"+8613800138000","body":"x",` + reportTo + `}`,
			app: func(c *cell) {
				c.b.Plane.OnMessage(func(control.TextMessage) error {
					return &control.Error{Code: control.CodeNotAllowed, Message: "no such sender"}
				})
			},
		},
		{
			name: "park_taken", verb: "park", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"park","slot":"701",` + reportTo + `}`,
			app:         func(c *cell) { c.b.Plane.ParkElsewhere("701") },
		},
		{
			name: "park_picked_up", verb: "park", told: true, natural: "bridged", lasting: true, phones: []string{guestPhone}, handing: brief,
			instruction: `{"verb":"park","slot":"701",` + reportTo + `}`,
			guest:       guest{comes: `[{"verb":"unpark","slot":"701"}]`, forsaken: webhooks.Bridged, bereft: webhooks.Bridged}, app: expectGuest,
			phases: []phase{{name: "parked"}, {name: "talking", reach: visit, parties: present}},
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "unpark", verb: "unpark", told: true, natural: "bridged", lasting: true, phones: []string{guestPhone}, handing: handing{brief: true, alone: true},
			instruction: `{"verb":"unpark","slot":"701",` + reportTo + `}`,
			guest:       guest{comes: `[{"verb":"park","slot":"701"}]`, forsaken: webhooks.Bridged, bereft: webhooks.Bridged}, app: guestFirst(),
			phases: []phase{{name: "talking", parties: present}},
			finish: leaves(guestNumber), finished: visited,
		},
		{
			name: "unpark_elsewhere", verb: "unpark", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"unpark","slot":"701",` + reportTo + `}`,
			app:         func(c *cell) { c.b.Plane.ParkElsewhere("701") },
		},
		{
			name: "enqueue_full", verb: "enqueue", told: true, natural: "full", phones: []string{guestPhone}, handing: brief,
			instruction: `{"verb":"enqueue","id":"v","queue":"sales","action":"/done"}`,
			guest:       guest{comes: `[{"verb":"enqueue","queue":"sales","max_wait":3}]`, waits: true}, finished: present,
			app: guestFirst(func(c *cell) { c.b.Plane.Queue("sales", func(q *Queue) { q.MaxSize = 1 }) }),
		},
		{
			name: "dequeue_nowhere", verb: "dequeue", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"dequeue","id":"v","queue":"nowhere",` + reportTo + `}`,
		},
		{
			name: "conference_full", verb: "conference", told: true, natural: "full", phones: []string{guestPhone, "1004"},
			handing:     handing{brief: true, fate: func(_ standing, _ endings, e *expectation) { e.late = []string{otherGuest} }},
			instruction: `{"verb":"conference","id":"v","name":"team","max_participants":2,"action":"/done"}`,
			guest:       guest{comes: `[{"verb":"conference","name":"team","end_on_exit":true,"time_limit":3}]`, waits: true},
			app: guestFirst(func(c *cell) {
				c.b.Program(otherGuest, c.row.comes)
				c.b.Phone("1004").Dial(otherGuest).Answered()
			}),
			finished: withOther,
		},
		{
			name: "conference_label_taken", verb: "conference", told: true, natural: "failed", phones: []string{guestPhone}, handing: brief,
			instruction: `{"verb":"conference","id":"v","name":"team","label":"a","action":"/done"}`,
			guest:       guest{comes: `[{"verb":"conference","name":"team","label":"a","wait":[{"verb":"pause","length":3},{"verb":"leave"}]}]`, waits: true},
			app:         guestFirst(), finished: present,
		},
		{
			name: "refer_unanswered", verb: "refer", told: true, natural: "failed", unanswered: true, handing: brief,
			instruction: `{"verb":"refer","id":"v","to":"sip:1003@example.test","action":"/done"}`,
		},
		{
			name: "transfer_of_nobody", verb: "transfer", told: true, natural: "failed", handing: brief,
			instruction: `{"verb":"answer"},` + attended,
		},
		{
			name: "dial_machine", verb: "dial", told: true, natural: "machine", listens: true, unhurried: true, others: true, phones: []string{"1002"},
			finished:    parties{"1002": {state: gone, end: legEnd{"program_end", webhooks.EndedBySystem, 200}}},
			instruction: `{"verb":"dial","id":"v","timeout":9,"to":[{"extension":"1002"}],"machine_detection":{},"action":"/done"}`,
			handing:     brief,
			phases: []phase{{
				name: "detecting", parties: parties{"1002": {state: screened}},
				reach: steps(pickUp("1002"), func(c *cell) { c.leg("1002").Talk(machine()) }),
			}},
		},
	}
	for outcome, refusal := range map[webhooks.Outcome]legEnd{
		webhooks.Busy:     wasBusy,
		webhooks.NoAnswer: {"no_answer", webhooks.EndedBySystem, 480},
	} {
		refused := party{state: gone, end: refusal}
		rows = append(rows, row{
			name: "transfer_attended_" + string(outcome), verb: "transfer", told: true, natural: string(outcome), phones: []string{"1002", "1003"},
			finished:    parties{"1002": left1002["1002"], "1003": refused},
			instruction: attended,
			handing:     handing{brief: true, within: talk, changes: 1, left: outcome},
			phases: []phase{{
				name: "together_again", parties: parties{"1002": {state: talks}, "1003": refused},
				reach: func(c *cell) { handsOver(callerNumber, attended)(c); c.leg("1003").Refuse(refusal.code) },
			}},
			finish: leaves("1002"),
		})
	}
	for outcome, d := range map[webhooks.Outcome]struct {
		wants string
		says  []byte
	}{
		webhooks.Machine:      {"machine", machine()},
		webhooks.Announcement: {"announcement", busy()},
		webhooks.Beep:         {"beep", beep()},
		webhooks.Fax:          {"fax", fax()},
	} {
		rows = append(rows, row{
			name: "detect_" + string(outcome), verb: "detect", told: true, natural: string(outcome), listens: true, unhurried: true, handing: brief,
			instruction: `{"verb":"answer"},{"verb":"detect","id":"v","for":["` + d.wants + `"],"action":"/done"}`,
			phases:      []phase{{name: "hearing", reach: func(c *cell) { c.caller.Talk(d.says) }}},
		})
	}
	return rows
}

// tell notes the outcomes that a cell has come to.
func (n *tally) tell(c *cell) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range c.requests("/done") {
		if t := r.call.Trigger; t != nil {
			n.told[t.Verb+"/"+string(t.Outcome)] = true
		}
	}
}

// checkOutcomes fails a test that has run the whole matrix when an outcome of the contract was not come to.
func (n *tally) checkOutcomes(t *testing.T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.total != n.planned || raceDetector {
		return
	}
	for _, verb := range slices.Sorted(slices.Values(webhooks.Verbs())) {
		for _, outcome := range webhooks.Outcomes(verb) {
			name := verb + "/" + string(outcome)
			switch why := withoutCells()[name]; {
			case !n.told[name] && why == "":
				t.Errorf("no cell of the matrix comes to %s: give it a row, or say in withoutCells why there is none", name)
			case n.told[name] && why != "":
				t.Errorf("%s is come to: take it out of withoutCells", name)
			}
		}
	}
}

func TestEveryOutcomeWithoutCellsIsOfTheContract(t *testing.T) {
	for name := range maps.Keys(withoutCells()) {
		if err := ofTheContract(name); err != nil {
			t.Error(err)
		}
	}
}

func ofTheContract(name string) error {
	for _, verb := range webhooks.Verbs() {
		for _, outcome := range webhooks.Outcomes(verb) {
			if verb+"/"+string(outcome) == name {
				return nil
			}
		}
	}
	return errors.New(name + " is no outcome of the contract")
}
