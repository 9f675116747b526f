package calltest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// The oracle of the matrix. It knows nothing of how calls are executed: from where a call stands and what ends it, it says
// what the contract promises of each leg, of the instruction and of a live change.

// legEnd is the end of a leg as its record must tell it. Several causes separated by | are all right; code 0 is not looked
// at.
type legEnd struct {
	cause string
	by    webhooks.EndedBy
	code  int
}

func (l legEnd) fits(r webhooks.CDR) bool {
	return slices.Contains(strings.Split(l.cause, "|"), string(r.Cause)) && l.by == r.EndedBy && (l.code == 0 || l.code == r.SIPCode)
}

func (l legEnd) String() string { return fmt.Sprintf("%s by %s, %d", l.cause, l.by, l.code) }

// partyState is how far another leg of the call has come.
type partyState uint8

const (
	rings    partyState = iota // its INVITE has no final answer yet
	screened                   // it is answered and not connected yet
	talks                      // it is connected
	gone                       // it has ended already, in a way of its own
	apart                      // it has a program of its own, with which it goes on when it is left: to the end that is given
)

// party is another leg of the call, known by the number called.
type party struct {
	state partyState
	end   legEnd // of one that is gone
}

type parties map[string]party

// standing is where a call stands at some moment.
type standing struct {
	answered bool
	running  bool // the verb under test is
	over     bool // it has ended by itself
	parties  parties
}

// expectation is all that the contract promises of a cell.
type expectation struct {
	legs   map[string]legEnd
	told   []string           // the outcomes the application is told, in order; "next": the program just goes on
	action webhooks.EventType // what becomes of the live change; "" where there is none, or where both are right
	late   []string           // the legs that go on for a while without the caller
}

func (e expectation) String() string {
	var words []string
	for _, to := range slices.Sorted(maps.Keys(e.legs)) {
		words = append(words, to+": "+e.legs[to].String())
	}
	words = append(words, "told "+fmt.Sprint(e.told))
	if e.action != "" {
		words = append(words, string(e.action))
	}
	return strings.Join(words, "; ")
}

// callerNumber is the number that the caller dials: the name of its leg.
const callerNumber = "1000"

// The ends of the caller's leg, once it is answered and before.
var (
	hungUp       = endings{"caller_hangup", webhooks.EndedByCaller, 0}
	gaveUp       = endings{"canceled", webhooks.EndedByCaller, 487}
	hungUpByAPI  = endings{"api_hangup", webhooks.EndedByAPI, 480}
	outOfTime    = endings{"time_limit", webhooks.EndedBySystem, 480}
	fellSilent   = endings{"media_timeout", webhooks.EndedBySystem, 0}
	edgeStopped  = endings{"edge_drain", webhooks.EndedBySystem, 503}
	programOver  = endings{"program_end", webhooks.EndedByApplication, 603}
	unanswerable = endings{"webhook_failed", webhooks.EndedBySystem, 0} // the apology answers the call
)

// endings is an end of the caller's leg; code is the final response where it was not answered.
type endings struct {
	cause string
	by    webhooks.EndedBy
	code  int
}

func (e endings) leg(answered bool) legEnd {
	if answered || e.code == 0 {
		return legEnd{e.cause, e.by, 200}
	}
	return legEnd(e)
}

// struck is what a cell comes to when the caller's leg is struck by an end: the verb is told of as outcome, and whoever
// depends on the caller ends for the same reason.
func (r *row) struck(st standing, end endings, outcome string) expectation {
	e := expectation{legs: map[string]legEnd{callerNumber: end.leg(st.answered)}}
	for number, p := range st.parties {
		e.legs[number] = p.after(legEnd{end.cause, end.by, 200})
	}
	e.told = r.toldOf(st, outcome)
	r.handed(st, end, &e)
	return e
}

// replaced is what a cell comes to when a live change takes the caller away from the verb and then ends the call.
func (r *row) replaced(st standing, end endings) expectation {
	e := r.struck(st, end, string(webhooks.Redirected))
	for number, p := range st.parties {
		e.legs[number] = p.after(legEnd{"program_end", webhooks.EndedByAPI, 200})
	}
	e.late = nil
	r.handed(st, changed, &e)
	return e
}

// after is a party's end when what it depends on ends so. A party that rings was given up before an answer, whatever the
// reason; it was never part of a completed call.
func (p party) after(end legEnd) legEnd {
	switch p.state {
	case rings:
		return legEnd{"canceled|" + end.cause, end.by, 0}
	case screened:
		return legEnd{"canceled|" + end.cause, end.by, 200}
	case talks:
		return end
	case apart:
		if end.cause == edgeStopped.cause { // which ends all calls
			return end
		}
	}
	return p.end
}

// toldOf is what the application is told of the verb when it ends now, with this outcome.
func (r *row) toldOf(st standing, outcome string) []string {
	switch {
	case st.over:
		return r.naturally()
	case st.running && r.told:
		return []string{outcome}
	}
	return nil
}

func (r *row) naturally() []string {
	if r.natural == "" || r.terminal {
		return nil
	}
	return []string{r.natural}
}

// undisturbed is what a cell comes to when nothing ends it before its time.
func (r *row) undisturbed() expectation {
	e := expectation{legs: map[string]legEnd{callerNumber: programOver.leg(!r.unanswered)}, told: r.naturally()}
	if r.last != nil {
		e.legs[callerNumber] = *r.last
	}
	for number, p := range r.finished {
		e.legs[number] = p.end
	}
	return e
}

// partyEnded is what a cell comes to when its one other leg ends so, and the application is told this outcome.
func (r *row) partyEnded(st standing, number string, end legEnd, outcome string) expectation {
	if !r.told {
		outcome = "next"
	}
	e := expectation{legs: map[string]legEnd{callerNumber: programOver.leg(st.answered)}, told: []string{outcome}}
	for other, p := range st.parties {
		e.legs[other] = p.end
	}
	e.legs[number] = end
	return e
}

// mixed are the expectations of an instant in which two things happen: the caller's end, what the application is told and
// the ends of the others may each follow from either of them.
func mixed(all []expectation) []expectation {
	var out []expectation
	for _, own := range all {
		for _, others := range all {
			for _, told := range all {
				e := expectation{legs: maps.Clone(others.legs), told: told.told, action: own.action, late: others.late}
				if end, ok := own.legs[callerNumber]; ok {
					e.legs[callerNumber] = end
				}
				out = append(out, e)
			}
		}
	}
	return out
}
