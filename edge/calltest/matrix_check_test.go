package calltest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// What must be true of every cell, whatever ended it.

// check compares what has happened with the oracle, and with what holds for every call.
func (c *cell) check() {
	c.checkOutcome()
	if c.row.op != "" {
		c.checkOp()
	}
	byLeg := map[webhooks.CallID][]webhooks.Event{}
	for _, e := range c.b.Events() {
		byLeg[e.CallID] = append(byLeg[e.CallID], e)
	}
	for _, events := range byLeg {
		c.checkLeg(events)
	}
	c.checkPublished()
	c.checkTold()
	c.checkSignals()
	c.checkLeftovers()
}

// ends are the records of the legs by the number called; a second one is an error.
func (c *cell) ends() map[string]webhooks.CDR {
	found, numbers := map[string]webhooks.CDR{}, map[webhooks.CallID]string{}
	for _, e := range c.b.Events(webhooks.EventCallInitiated, webhooks.EventCallEnded) {
		if e.Type == webhooks.EventCallInitiated {
			numbers[e.CallID] = e.Data.To
			continue
		}
		number := numbers[e.CallID]
		if _, twice := found[number]; twice {
			c.b.t.Errorf("the leg to %s ended twice", number)
		}
		found[number] = *e.Data.CDR
	}
	return found
}

// outcomes told at /done, in order; next where the program just went on.
func (c *cell) told() []string {
	var out []string
	for _, r := range c.requests("/done") {
		if r.call.Trigger == nil {
			out = append(out, "next")
			continue
		}
		out = append(out, string(r.call.Trigger.Outcome))
	}
	return out
}

func (c *cell) checkOutcome() {
	var least []string
	for i, e := range c.expectations() {
		wrong := c.differs(e)
		if i == 0 || len(wrong) < len(least) {
			least = wrong
		}
	}
	for _, w := range least {
		c.b.t.Errorf("%s", w)
	}
}

// differs says in what the cell is not as expected.
func (c *cell) differs(e expectation) []string {
	if c.row.op != "" {
		return c.differsInPart(e)
	}
	var wrong []string
	ends := c.ends()
	for number, want := range e.legs {
		got, ok := ends[number]
		switch {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("the leg to %s has no end, expected %s", number, want))
		case !want.fits(got):
			wrong = append(wrong, fmt.Sprintf("the leg to %s: %s by %s, %d; expected %s", number, got.Cause, got.EndedBy, got.SIPCode, want))
		}
	}
	if len(ends) != len(e.legs) {
		wrong = append(wrong, fmt.Sprintf("%d legs ended, expected %d", len(ends), len(e.legs)))
	}
	if told := c.told(); !slices.Equal(told, e.told) {
		wrong = append(wrong, fmt.Sprintf("the application was told %v, expected %v", told, e.told))
	}
	settled := c.b.Events(webhooks.EventActionCompleted, webhooks.EventActionFailed)
	if !c.end.silent && len(settled) != c.taken {
		wrong = append(wrong, fmt.Sprintf("%d live changes were taken, and %d told of", c.taken, len(settled)))
	}
	if n := c.row.changes; e.action != "" && len(settled) == n+1 && settled[n].Type != e.action {
		wrong = append(wrong, fmt.Sprintf("the live change: %s, expected %s", settled[n].Type, e.action))
	}
	limit := c.end.limit
	if limit == 0 {
		limit = 500 * time.Millisecond
	}
	for number, r := range ends {
		if lived := r.EndedAt.Sub(c.b.started) - c.effect(); limit > 0 && lived > limit && number != guestNumber && !slices.Contains(e.late, number) {
			wrong = append(wrong, fmt.Sprintf("the leg to %s lived on for %s", number, lived))
		}
	}
	return wrong
}

// afterTheEnd are the events that may come after call.ended.
var afterTheEnd = []webhooks.EventType{
	webhooks.EventRecordingCompleted, webhooks.EventRecordingFailed, webhooks.EventActionCompleted, webhooks.EventActionFailed,
}

// checkLeg holds what webhooks.Event promises of the events of a leg.
func (c *cell) checkLeg(events []webhooks.Event) {
	t := c.b.t
	counts := map[webhooks.EventType]int{}
	recordings, actions := map[webhooks.RecordingID][]webhooks.EventType{}, map[webhooks.ActionID]int{}
	held := false
	next := int64(1)
	for _, e := range events {
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", e.Type, err)
		}
		over := counts[webhooks.EventCallEnded] > 0
		counts[e.Type]++
		switch {
		case over && e.Sequence != 0:
			t.Errorf("%s is numbered %d, after call.ended", e.Type, e.Sequence)
		case over && !slices.Contains(afterTheEnd, e.Type):
			t.Errorf("%s comes after call.ended", e.Type)
		case !over && e.Sequence != next:
			t.Errorf("%s is numbered %d, expected %d", e.Type, e.Sequence, next)
		}
		next++
		switch e.Type {
		case webhooks.EventCallHeld:
			if *e.Data.Held == held {
				t.Errorf("held is %v twice", held)
			}
			held = *e.Data.Held
		case webhooks.EventActionCompleted, webhooks.EventActionFailed:
			actions[e.Data.ActionID]++
		case webhooks.EventRecordingStarted, webhooks.EventRecordingCompleted, webhooks.EventRecordingFailed:
			recordings[e.Data.RecordingID] = append(recordings[e.Data.RecordingID], e.Type)
		case webhooks.EventCallEnded:
			c.checkRecord(e, counts)
		}
	}
	if events[0].Type != webhooks.EventCallInitiated || counts[webhooks.EventCallInitiated] != 1 {
		t.Errorf("the leg does not begin with call.initiated: %s", kinds(events))
	}
	if n := counts[webhooks.EventCallEnded]; n != 1 && !c.end.silent {
		t.Errorf("%d call.ended: %s", n, kinds(events))
	}
	if counts[webhooks.EventCallAnswered] > 1 || counts[webhooks.EventCallRinging] > 2 {
		t.Errorf("answered or ringing too often: %s", kinds(events))
	}
	for id, n := range actions {
		if n != 1 {
			t.Errorf("%s was told of %d times", id, n)
		}
	}
	for id, told := range recordings {
		if len(told) != 2 && !c.end.silent || told[0] != webhooks.EventRecordingStarted {
			t.Errorf("of %s was told: %v", id, told)
		}
	}
}

// checkRecord holds what is true of every record.
func (c *cell) checkRecord(e webhooks.Event, counts map[webhooks.EventType]int) {
	t, r := c.b.t, *e.Data.CDR
	answered := counts[webhooks.EventCallAnswered] > 0
	switch {
	case answered != (r.AnsweredAt != nil):
		t.Errorf("answered %v, and the record says %v", answered, r.AnsweredAt)
	case answered && (r.Status != webhooks.StatusCompleted || r.SIPCode != 200):
		t.Errorf("an answered leg has status %s, %d", r.Status, r.SIPCode)
	case !answered && (r.Status == webhooks.StatusCompleted || r.SIPCode < 300 || r.TalkTime != 0):
		t.Errorf("a leg that was not answered has status %s, %d, %v s of talk (%s)", r.Status, r.SIPCode, r.TalkTime, r.Cause)
	}
	if !r.Cause.Known() || r.EndedBy == "" || r.Reason == "" || r.ReasonZH == "" {
		t.Errorf("the record has cause %q by %q, %q, %q", r.Cause, r.EndedBy, r.Reason, r.ReasonZH)
	}
	if r.EndedAt.Before(r.StartedAt) || r.AnsweredAt != nil && (r.AnsweredAt.Before(r.StartedAt) || r.EndedAt.Before(*r.AnsweredAt)) {
		t.Errorf("the record's times run backwards: %v, %v, %v", r.StartedAt, r.AnsweredAt, r.EndedAt)
	}
}

// checkPublished: the control plane has what was emitted, in order.
func (c *cell) checkPublished() {
	if c.end.silent {
		return
	}
	published := map[webhooks.EventID]bool{}
	for _, e := range c.b.Plane.Published() {
		published[e.ID] = true
	}
	for _, e := range c.b.Events() {
		if !published[e.ID] {
			c.b.t.Errorf("%s %d was not published", e.Type, e.Sequence)
		}
	}
}

// checkTold compares what the application was told with what the records say.
func (c *cell) checkTold() {
	t := c.b.t
	records := map[webhooks.CallID]webhooks.CDR{}
	for _, e := range c.b.Events(webhooks.EventCallEnded) {
		records[e.CallID] = *e.Data.CDR
	}
	arrived := map[string]bool{}
	for _, r := range c.b.App.Requests() {
		arrived[r.Header.Get(webhooks.HeaderID)] = true
	}
	for _, r := range c.requests("/done") {
		trigger := r.call.Trigger
		if trigger == nil {
			continue
		}
		if !arrived[r.id] {
			t.Errorf("the request that tells %s never reached the application", trigger.Outcome)
		}
		if err := trigger.Check(); err != nil {
			t.Errorf("the trigger: %v", err)
		}
		if own, ok := records[r.call.CallID]; ok && trigger.Outcome == webhooks.Hangup && r.call.Call.Status != own.Status {
			t.Errorf("the application was told of status %s, the record says %s", r.call.Call.Status, own.Status)
		}
		other, ok := records[trigger.CallID]
		if !ok || other.EndedAt.After(r.at) || len(c.stands) > 1 || c.end.name == "callee_changed" || c.row.comes != "" || trigger.Outcome == webhooks.Referred {
			// Two things in one instant, it lived on, or its record is of a call of its own.
			continue
		}
		text, err := json.Marshal(trigger)
		if err != nil {
			t.Error(err)
		}
		talked := trigger.EndedBy != ""
		if talked && (trigger.EndedBy != other.EndedBy || trigger.Cause != other.Cause) || trigger.SIPCode != 0 && trigger.SIPCode != other.SIPCode {
			t.Errorf("the application was told %s, the record of that leg says %s by %s, %d", text, other.Cause, other.EndedBy, other.SIPCode)
		}
	}
}

// checkSignals holds what SIP demands of every dialog.
func (c *cell) checkSignals() {
	byDialog := map[string][]signal{}
	var order []string
	c.b.mu.Lock()
	for _, s := range c.b.signal {
		id := s.header("Call-ID")
		if byDialog[id] == nil {
			order = append(order, id)
		}
		byDialog[id] = append(byDialog[id], s)
	}
	c.b.mu.Unlock()
	for _, id := range order {
		c.checkDialog(byDialog[id])
	}
}

func (c *cell) checkDialog(signals []signal) {
	t := c.b.t
	peer := signals[0].peer
	silent := c.b.Phone(peer).Silent
	finals, acked := map[string]int{}, map[string]bool{}
	answered, byes, ended := false, map[string]bool{}, time.Time{}
	canceled := false
	for _, s := range signals {
		method, seq := s.method(), s.header("CSeq")
		key := fmt.Sprint(s.out, seq)
		switch {
		case s.code != 0 && method == "INVITE" && s.code >= 200:
			asked := fmt.Sprint(!s.out, seq)
			if before := finals[asked]; before != 0 && before != s.code {
				t.Errorf("%s: INVITE %s was answered %d and then %d", peer, seq, before, s.code)
			}
			if finals[asked] == 0 && s.code < 300 {
				answered = true
			}
			finals[asked] = s.code
			if s.code >= 300 && ended.IsZero() && !answered {
				ended = s.at
			}
		case s.code != 0:
		case method == "INVITE":
			if _, ok := finals[key]; !ok {
				finals[key] = 0
			}
		case method == "ACK":
			acked[fmt.Sprint(s.out, strings.Fields(seq)[0])] = true
		case method == "CANCEL" && s.out:
			canceled = true
		case method == "BYE":
			byes[key] = true
			if ended.IsZero() {
				ended = s.at
			}
		}
		if s.code == 0 && s.out && !ended.IsZero() && s.at.After(ended) && method != "ACK" && method != "BYE" && method != "CANCEL" {
			t.Errorf("%s: %s was sent %s after the end", peer, s.start, s.at.Sub(ended))
		}
	}
	for key, code := range finals {
		out := strings.HasPrefix(key, "true")
		number := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(key, "true"), "false"))[0]
		switch {
		case code == 0 && !silent && !c.end.silent:
			t.Errorf("%s: INVITE %s has no final answer", peer, key)
		case code != 0 && out && !acked[fmt.Sprint(true, number)]:
			t.Errorf("%s: the %d to our INVITE was not acknowledged", peer, code)
		}
	}
	ours := 0
	for key := range byes {
		if strings.HasPrefix(key, "true") {
			ours++
		}
	}
	switch {
	case ours > 1:
		t.Errorf("%s: the edge sent %d BYEs", peer, ours)
	case answered && len(byes) == 0 && !c.end.silent:
		t.Errorf("%s: an answered call ended without BYE", peer)
	case !answered && len(byes) > 0:
		t.Errorf("%s: BYE in a call that was not answered", peer)
	case c.end.silent && ours > 0 && peer != guestPhone:
		t.Errorf("%s: BYE of a call that another process has", peer)
	}
	if canceled && answered && ours+len(byes) == 0 {
		t.Errorf("%s: answered in spite of CANCEL, and never ended", peer)
	}
}

// checkLeftovers: nothing of the call is left in the edge.
func (c *cell) checkLeftovers() {
	t := c.b.t
	stats := c.b.engine.Stats()
	if stats.Legs != 0 || stats.PortsTaken != 0 {
		t.Errorf("%d legs of media and %d pairs of ports are left", stats.Legs, stats.PortsTaken)
	}
	c.b.wire.mu.Lock()
	for at := range c.b.wire.ports {
		if at.Addr() == edgeAddr.Addr() && at != edgeAddr {
			t.Errorf("port %d is still open", at.Port())
		}
	}
	c.b.wire.mu.Unlock()
	if c.end.isEnd("edge_stop") || c.end.isEnd("bye_and_edge_stop") {
		return // and with it went goroutines that were there before the call
	}
	for name, n := range goroutines() {
		if n > c.before[name] {
			t.Errorf("%d goroutines of %s are left, where there were %d", n, name, c.before[name])
		}
	}
}
