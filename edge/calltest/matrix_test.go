package calltest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The matrix is every verb in every way and at every moment a call can end. Each cell is a call script in a bubble of its
// own, named VERB/MOMENT/END: go test -run 'TestEveryEnd/dial/ringing/caller_bye' runs one.
//
//	matrix_verbs_test.go   the rows: verbs, their phases and their natural ends
//	matrix_ends_test.go    the columns: ways to end
//	matrix_model_test.go   the oracle: what the contract promises of a cell
//	matrix_check_test.go   what must be true of every cell
//
// The moments of a row follow from its phases and from a rehearsal, which finds out when things happen by themselves.

// A moment is when an end strikes.
type moment struct {
	name   string
	kind   momentKind
	phase  int           // that the verb is in
	offset time.Duration // of near, from the natural end
}

type momentKind uint8

const (
	before   momentKind = iota // the application has been asked and has not answered
	begun                      // the verb has just begun: what it said first is still under way
	inPhase                    // in the middle of a phase
	near                       // around the instant of the verb's natural end
	deciding                   // the application thinks about the outcome
	later                      // the program goes on behind the verb
)

// moments are those of a row.
func (r *row) moments() []moment {
	var all []moment
	if !r.brief {
		all = append(all, moment{name: "before", kind: before})
	}
	if len(r.phases) > 0 && r.phases[0].reach == nil {
		all = append(all, moment{name: "begun", kind: begun})
	}
	for i, p := range r.phases {
		all = append(all, moment{name: p.name, kind: inPhase, phase: i})
	}
	if r.natural == "" {
		return all
	}
	last := len(r.phases) - 1
	const slot = 2 * time.Millisecond
	all = append(all, moment{"just_before", near, last, -slot}, moment{"at_its_end", near, last, 0})
	if r.terminal {
		return all
	}
	all = append(all, moment{"just_after", near, last, slot})
	if r.brief {
		return all
	}
	return append(all, moment{"deciding", deciding, last, 0}, moment{"after", later, last, 0})
}

// A spot is a row at a moment, with where the call may stand then: in two ways at the very instant of an end.
type spot struct {
	row    *row
	moment moment
	stands []standing
}

func (r *row) at(m moment) spot {
	s := spot{row: r, moment: m}
	running := standing{} // of a verb without phases: it has not begun
	if r.waits {
		running.parties = r.finished
	}
	if len(r.phases) > 0 {
		running = r.phases[max(m.phase, 0)].standing()
	}
	switch {
	case m.kind == before:
		s.stands = []standing{{}}
	case m.kind == near && (m.offset == 0 || m.offset < 0 && r.unhurried):
		s.stands = []standing{running, r.afterwards()}
	case m.kind == begun, m.kind == inPhase, m.kind == near && m.offset < 0:
		s.stands = []standing{running}
	default:
		s.stands = []standing{r.afterwards()}
	}
	return s
}

// knows reports whether the caller's phone has seen the answer.
func (s spot) knows() bool {
	switch s.moment.kind {
	case before, begun:
		return false
	case near:
		if len(s.row.phases) == 0 {
			return false
		}
	}
	return !slices.ContainsFunc(s.stands, func(st standing) bool { return !st.answered })
}

// A cell is one script while it runs.
type cell struct {
	spot
	end    *end
	b      *Bench
	caller *Call
	*rehearsal
	at     time.Duration // of the moment, from the beginning of the bench
	legs   map[string]*Call
	acts   int               // live changes asked for
	taken  int               // and taken by the edge
	tested webhooks.ActionID // of the op that the row is about
	fenced atomic.Bool
	pulled time.Duration

	drained <-chan error
}

// effect is when the end strikes the call.
func (c *cell) effect() time.Duration { return c.at + c.end.later }

// rehearsal is when things happen in a row when nothing disturbs it, from the beginning of the bench.
type rehearsal struct {
	begun   time.Duration   // the verb begins
	reached []time.Duration // the moment in each phase
	finish  time.Duration   // the natural end is brought about, where it does not come by itself
	natural time.Duration   // the natural end

	before map[string]int // goroutines of the edge before the call
}

// setup makes a bench for the row, with everything but the end.
func (c *cell) setup(t testing.TB) {
	s := Setup{
		Session: func(cfg *session.Config) { cfg.RTPTimeout = rtpTimeout },
		Spool:   spoolDir(t),
	}
	if c.row.setup != nil {
		c.row.setup(&s)
	}
	c.b = NewWith(t, s)
	c.legs = map[string]*Call{}
	for _, name := range append([]string{"1001", "1009"}, c.row.phones...) {
		c.b.Phone(name).Patient = true // what crosses an answer is none of our business here
	}
	c.b.Phone("1001").Acks = true
	c.b.Webhook(callerNumber, func(a *control.Application) {
		a.BudgetMS, a.FallbackTimeoutMS = int(budget.Milliseconds()), int(budget.Milliseconds())
	})
	c.b.App.Answer("/done", fmt.Sprintf(`[{"verb":"pause","length":%v}]`, tail.Seconds()))
	c.b.App.Answer("/voice", c.program())
	if c.row.app != nil {
		c.row.app(c)
	}
}

// program is the verb, and what follows it where it has no outcome to tell.
func (c *cell) program() string {
	if c.row.within != "" {
		return "[" + c.row.within + "]"
	}
	if c.row.told || c.row.terminal {
		return "[" + c.row.instruction + "]"
	}
	return "[" + c.row.instruction + `,{"verb":"redirect","url":"/done"}]`
}

// rehearse lets a row run undisturbed.
func (r *row) rehearse(t testing.TB) *rehearsal {
	c := &cell{spot: spot{row: r}, rehearsal: &rehearsal{}}
	c.setup(t)
	c.b.Pass(0)
	c.before = goroutines()
	c.dial()
	c.begun = c.await("/voice", patience) + thinking
	for i := range r.phases {
		c.enter(i)
		c.reached = append(c.reached, c.b.Now())
	}
	c.finish = c.b.Now()
	if r.finish != nil {
		r.finish(c)
	}
	switch {
	case r.terminal:
		c.natural = c.b.Event(webhooks.EventCallEnded).OccurredAt.Sub(c.b.started)
	case r.natural != "":
		c.natural = c.await("/done", time.Minute)
	case r.op != "":
		c.wind()
	default:
		c.caller.HangUp()
	}
	c.b.Close()
	return c.rehearsal
}

// requests are those to a path, one for each webhook-id.
func (c *cell) requests(path string) []ask {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	var out []ask
	seen := map[string]bool{}
	for _, r := range c.b.asks {
		if r.path == path && !seen[r.id] {
			seen[r.id] = true
			out = append(out, r)
		}
	}
	return out
}

// await waits until a path is asked and says when.
func (c *cell) await(path string, limit time.Duration) time.Duration {
	c.b.until(limit, path+" is not asked", func() bool {
		return slices.ContainsFunc(c.b.asks, func(r ask) bool { return r.path == path })
	})
	return c.requests(path)[0].at.Sub(c.b.started)
}

func (c *cell) dial() { c.caller = c.b.Phone("1001").Dial(callerNumber) }

// enter brings the verb into a phase, and to the moment in it.
func (c *cell) enter(phase int) {
	p := c.row.phases[phase]
	if phase == 0 {
		c.until(c.begun)
	}
	if p.reach != nil {
		p.reach(c)
	}
	hold := p.hold
	if hold == 0 {
		hold = 200 * time.Millisecond
	}
	c.b.Pass(hold)
}

// until lets time go by until a moment.
func (c *cell) until(at time.Duration) {
	if d := at - c.b.Now(); d > 0 {
		c.b.Pass(d)
	}
}

// called takes the call at the phone of a number, once.
func (c *cell) called(number string) {
	if c.legs[number] == nil {
		c.legs[number] = c.b.Phone(number).Called()
	}
}

// leg is the call at the phone of a number.
func (c *cell) leg(number string) *Call {
	c.called(number)
	return c.legs[number]
}

// legID is the id of the leg to a number.
func (c *cell) legID(number string) webhooks.CallID {
	for _, e := range c.b.Events(webhooks.EventCallInitiated) {
		if e.Data.To == number {
			return e.CallID
		}
	}
	c.b.t.Fatalf("there is no leg to %s", number)
	return ""
}

// one is the number of the one party in a state at the cell's moment.
func (c *cell) one(states ...partyState) string { return c.spot.one(states...) }

// goOn lets the verb go on to its natural end: of one that has none, the caller hangs up.
func (c *cell) goOn() {
	for i := c.moment.phase + 1; i < len(c.row.phases); i++ {
		c.enter(i)
	}
	switch {
	case c.row.op != "": // see wind
	case c.row.natural == "":
		c.caller.Bye()
	case c.row.finish != nil:
		c.row.finish(c)
	}
}

// when is the moment, from the beginning of the bench.
func (c *cell) when() time.Duration {
	switch c.moment.kind {
	case before:
		return latency + slowly/2
	case begun:
		return c.begun + latency/2
	case inPhase:
		return c.reached[c.moment.phase] + 2*latency
	case near:
		return c.natural + c.moment.offset
	case deciding:
		return c.natural + 300*time.Millisecond
	}
	return c.natural + thinking + 500*time.Millisecond
}

// play tells the story of the cell.
func (c *cell) play() {
	c.at = c.when()
	switch c.moment.kind {
	case before:
		c.b.App.Answer("/voice", webhooktest.Slow(slowly, c.program()))
	case deciding:
		c.b.App.Answer("/done", webhooktest.Slow(slowly, fmt.Sprintf(`[{"verb":"pause","length":%v}]`, tail.Seconds())))
	}
	c.caller = &Call{phone: c.b.Phone("1001")} // for prepare, which may change the phone
	if c.end.prepare != nil {
		c.end.prepare(c)
	}
	c.b.Pass(0)
	c.dial()
	c.approach()
	if c.end.pull != nil {
		c.end.pull(c)
	}
}

// approach brings the cell to the instant at which the end is to be pulled. Where the natural end has to be brought about,
// that is done at the time it was done in the rehearsal.
func (c *cell) approach() {
	pull := c.at - c.end.lead
	if c.moment.kind != before && c.moment.kind != begun {
		for i := range c.row.phases[:c.moment.phase+1] {
			c.enter(i)
		}
	}
	over := c.moment.kind == near || c.moment.kind == deciding || c.moment.kind == later
	if !over || c.row.finish == nil {
		c.until(pull)
		c.pulled = c.b.Now()
		return
	}
	if pull < c.finish { // the end comes first, and what would have brought about the natural one comes all the same
		c.until(pull)
		c.pulled = c.b.Now()
		late := c.finish - c.b.Now()
		time.AfterFunc(late, func() { c.row.finish(c) })
		return
	}
	c.until(c.finish)
	c.row.finish(c)
	c.until(pull)
	c.pulled = c.b.Now()
}

// expectations are what may come of the cell.
func (c *cell) expectations() []expectation {
	var all []expectation
	for _, st := range c.stands {
		if st.over && c.row.terminal { // nothing is left to be ended
			all = append(all, c.row.undisturbed())
			continue
		}
		all = append(all, c.end.expect(c, st)...)
	}
	if len(c.stands) > 1 {
		return mixed(all)
	}
	return all
}

// settle lets the cell come to its end, and everything that belongs to it.
func (c *cell) settle() {
	limit := time.Minute
	c.b.Pass(300 * time.Millisecond)
	for _, name := range append([]string{"1009"}, c.row.phones...) { // a phone that had not said anything rings at last, to be told
		for _, call := range c.b.Phone(name).calls {
			if call.inbound && call.last == "" {
				call.respond(180, "")
			}
		}
	}
	if c.row.op != "" {
		c.wind()
	}
	if !c.b.within(limit, func() bool { return c.b.Calls.Live() == 0 }) {
		c.b.t.Errorf("%d legs live on", c.b.Calls.Live())
	}
	c.b.Pass(100 * time.Millisecond)
	if c.end.silent {
		c.b.Plane.Lose(c.legID(callerNumber)) // by the process that has the call
	}
	if c.drained != nil {
		select {
		case err := <-c.drained:
			if err != nil {
				c.b.t.Errorf("drain: %v", err)
			}
		default:
			c.b.t.Errorf("the edge is not drained though no call is left")
		}
	}
	// Longer than any transaction lasts (RFC 3261 §17: 64·T1 is 32 s), and than a port rests.
	c.b.Rest(70 * time.Second)
}

// run is the whole cell. What is wrong with it is what it returns.
func (c *cell) run(t *testing.T, golden string) *verdict {
	v := &verdict{TB: t}
	c.setup(v)
	ladder := ""
	v.protect(func() {
		c.play()
		c.settle()
		c.check()
		if golden != "" {
			c.b.matchLadder(golden)
		}
	})
	v.protect(func() { c.b.Close() })
	if v.Failed() {
		ladder = c.b.Ladder()
		v.say("expected %s", oneOf(c.expectations()))
		v.say("ladder:\n%s", ladder)
		v.say("log:\n%s", c.b.Log())
	}
	return v
}

func oneOf(all []expectation) string {
	words := make([]string, len(all))
	for i, e := range all {
		words[i] = e.String()
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), "\n      or ")
}

// verdict collects what is wrong with a cell, to tell it together with what the cell was.
type verdict struct {
	testing.TB
	mu     sync.Mutex // guards what follows
	wrong  []string
	detail []string
}

type abandoned struct{}

// protect runs a part of the cell that may give up half-way.
func (v *verdict) protect(part func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(abandoned); !ok {
				panic(r)
			}
		}
	}()
	part()
}

func (v *verdict) say(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.detail = append(v.detail, fmt.Sprintf(format, args...))
}

// Errorf implements testing.TB.
func (v *verdict) Errorf(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// Error implements testing.TB.
func (v *verdict) Error(args ...any) { v.Errorf("%s", fmt.Sprint(args...)) }

// Fatalf implements testing.TB.
func (v *verdict) Fatalf(format string, args ...any) {
	v.Errorf(format, args...)
	panic(abandoned{})
}

// Fatal implements testing.TB.
func (v *verdict) Fatal(args ...any) { v.Fatalf("%s", fmt.Sprint(args...)) }

// Logf implements testing.TB: what the bench says of a failure is said with the verdict.
func (v *verdict) Logf(string, ...any) {}

// Failed implements testing.TB.
func (v *verdict) Failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.wrong) > 0
}

// goldens are the cells whose ladders are kept in testdata and reviewed like code.
func goldens() []string {
	return []string{
		"gather/waiting/caller_bye",
		"gather/just_after/api_hangup",
		"gather/deciding/change_url_dead",
		"record/speaking/caller_bye",
		"record/silence/edge_stop",
		"play/playing/change_program",
		"play_early/playing/caller_cancel",
		"dial/talking/callee_media_stops",
		"dial/talking/time_limit",
		"dial/calling/api_hangup",
		"dial_bridge/ringing/caller_cancel",
		"dial_screen/screening/callee_bye",
		"dial_sequential/second/caller_bye",
		"play/playing/fenced",
		"enqueue/talking/guest_bye",
		"enqueue_screened/screening/caller_bye",
		"dequeue_screened/screening/api_hangup",
		"conference_moderated/talking/guest_disconnected",
	}
}

// sampled reports whether a cell runs under the race detector, which takes ten times as long: one in sixteen, always the
// same ones, and those with a ladder.
func sampled(name string) bool {
	if !raceDetector || slices.Contains(goldens(), name) {
		return true
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum32()%16 == 0
}

// tally counts cells by verb and end.
type tally struct {
	mu    sync.Mutex // guards what follows
	cells map[string]map[string]int
	total int
	// planned is how many there are when nobody chooses from them; told the outcomes come to, as verb/outcome.
	planned int
	told    map[string]bool
}

func (n *tally) add(verb, end string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cells[end] == nil {
		n.cells[end] = map[string]int{}
	}
	n.cells[end][verb]++
	n.total++
}

// String is the table of them.
func (n *tally) String() string {
	verbs := map[string]bool{}
	for _, row := range n.cells {
		for verb := range row {
			verbs[verb] = true
		}
	}
	columns := slices.Sorted(maps.Keys(verbs))
	var out strings.Builder
	fmt.Fprintf(&out, "%d cells\n%-26s", n.total, "")
	for _, verb := range columns {
		fmt.Fprintf(&out, " %11s", verb)
	}
	for _, name := range slices.Sorted(maps.Keys(n.cells)) {
		fmt.Fprintf(&out, "\n%-26s", name)
		for _, verb := range columns {
			fmt.Fprintf(&out, " %11d", n.cells[name][verb])
		}
	}
	return out.String()
}

// TestEveryEnd runs the matrix.
func TestEveryEnd(t *testing.T) {
	ends := allEnds()
	counts := &tally{cells: map[string]map[string]int{}, told: map[string]bool{}}
	t.Cleanup(func() {
		t.Log(counts)
		counts.checkOutcomes(t)
	})
	for _, r := range allRows() {
		for _, m := range r.moments() {
			for i := range ends {
				if ends[i].fits(r.at(m)) {
					counts.planned++
				}
			}
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var times *rehearsal
			synctest.Test(t, func(t *testing.T) { times = r.rehearse(t) })
			for _, m := range r.moments() {
				t.Run(m.name, func(t *testing.T) {
					for i := range ends {
						runCell(t, &cell{spot: r.at(m), end: &ends[i], rehearsal: times}, counts)
					}
				})
			}
		})
	}
}

func runCell(t *testing.T, c *cell, counts *tally) {
	t.Helper()
	name := strings.Join([]string{c.row.name, c.moment.name, c.end.name}, "/")
	if !c.end.fits(c.spot) || !sampled(name) {
		return
	}
	t.Run(c.end.name, func(t *testing.T) {
		golden := ""
		if slices.Contains(goldens(), name) {
			golden = "ends-" + strings.ReplaceAll(name, "/", "-")
		}
		var v *verdict
		synctest.Test(t, func(t *testing.T) { v = c.run(t, golden) })
		counts.add(c.row.verb, c.end.name)
		counts.tell(c)
		if v.Failed() {
			t.Errorf("%s\n%s\n%s", name, strings.Join(v.wrong, "\n"), strings.Join(v.detail, "\n"))
		}
	})
}

// goroutines are those of the edge in this bubble, by who started them.
func goroutines() map[string]int {
	buf, _ := stacks.Get().(*[]byte)
	defer stacks.Put(buf)
	all := strings.Split(string((*buf)[:runtime.Stack(*buf, true)]), "\n\n")
	bubble := bubbleOf(all[0])
	found := map[string]int{}
	for _, g := range all {
		_, creator, ok := strings.Cut(g, "created by ")
		if !ok || bubbleOf(g) != bubble || !strings.Contains(creator, "hookswitch/edge/") || strings.Contains(creator, "calltest") {
			continue
		}
		name, _, _ := strings.Cut(creator, " in goroutine")
		found[name]++
	}
	return found
}

// stacks are buffers for the stacks of all goroutines, which are costly to make.
var stacks = sync.Pool{New: func() any { return new(make([]byte, 4<<20)) }}

// bubbleOf is the synctest bubble of a goroutine, as its stack tells it.
func bubbleOf(stack string) string {
	head, _, _ := strings.Cut(stack, "\n")
	_, after, _ := strings.Cut(head, "synctest bubble ")
	number, _, _ := strings.Cut(after, "]")
	number, _, _ = strings.Cut(number, ",")
	return number
}

// spoolDir is a directory for the spool of a cell, in memory where the machine has such a place: an edge has its files
// written down every two seconds, and thousands of calls pass in a minute here.
func spoolDir(t testing.TB) string {
	t.Helper()
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(base, "calltest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is left of it goes with the machine's memory
	return dir
}
