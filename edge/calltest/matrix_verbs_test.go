package calltest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The verbs: the rows of the matrix. Whoever adds a verb adds its rows here, and nothing else: the moments follow from its
// phases and its natural end.

// A row is a verb, or one way of using it.
type row struct {
	name string // of its cells
	verb string
	// instruction is the verb under test. An outcome is told at /done, by action or by on.default.
	instruction string
	// told: the instruction names /done. Of a verb without outcomes the program goes on to /done by a redirect.
	told bool
	// phones are those that the verb may call; they come into being before the call.
	phones []string
	// phases are what it goes through, in order.
	phases []phase
	// finish brings about the natural end once all phases have been reached; nil where it comes by itself.
	finish func(c *cell)
	// natural is the outcome it then has: "next" of a verb without outcomes, "" when it never ends.
	natural string
	// finished are the other legs when it is over.
	finished parties
	// unanswered: the caller is not answered when it is over.
	unanswered bool
	// terminal: the call is over with it, and ends like last.
	terminal bool
	last     *legEnd
	// lasting: it goes on for more than a minute once its phases are reached.
	lasting bool
	// listens: what the caller says decides when it ends.
	listens bool
	// moves: its phases follow each other by themselves.
	moves bool
	// unhurried: between what brings about its natural end and the telling lies some time.
	unhurried bool
	// others: it turns to somebody else when a party refuses.
	others bool
	setup  func(*Setup)
	handing
	guest
	operating
	// app says what the application answers beside /voice and /done.
	app func(*cell)
}

// A phase is a part of an instruction's life in which the ends of a call mean something of their own.
type phase struct {
	name  string
	reach func(c *cell) // from the phase before; nil where it comes by itself
	// hold is how long after that the moment is: 200 ms when 0.
	hold       time.Duration
	unanswered bool
	parties    parties
	// joined: its parties speak, or are to speak, with each other; what they do is another row's business.
	joined bool
}

func (p phase) standing() standing {
	return standing{answered: !p.unanswered, running: true, parties: p.parties}
}

// afterwards is where the call stands when the verb has ended by itself.
func (r *row) afterwards() standing {
	return standing{answered: !r.unanswered, over: true, parties: r.finished}
}

var (
	ringing1002  = parties{"1002": {state: rings}}
	talking1002  = parties{"1002": {state: talks}}
	left1002     = parties{"1002": {state: gone, end: legEnd{"callee_hangup", webhooks.EndedByCallee, 200}}}
	missed1002   = legEnd{"no_answer", webhooks.EndedBySystem, 0}
	elsewhere002 = legEnd{"canceled", webhooks.EndedByCaller, 0}
)

// ring and pickUp are what a called phone does.
func ring(number string) func(*cell) {
	return func(c *cell) {
		c.called(number)
		c.leg(number).respond(180, "")
	}
}

func pickUp(number string) func(*cell) {
	return func(c *cell) {
		c.called(number)
		c.leg(number).PickUp()
	}
}

func leaves(number string) func(*cell) { return func(c *cell) { c.leg(number).Bye() } }

const reportTo = `"on":{"default":"/done"}`

func allRows() []row {
	return slices.Concat(callRows(), serviceRows(), detectRows(), queueRows(), conferenceRows(), transferRows(), outcomeRows(), opRows())
}

// callRows are those of the verbs that an edge needs nobody for.
func callRows() []row {
	return []row{
		{name: "answer", verb: "answer", instruction: `{"verb":"answer"}`, natural: "next"},
		{name: "tag", verb: "tag", instruction: `{"verb":"tag","data":{"a":1}}`, natural: "next", unanswered: true},
		{
			name: "hangup", verb: "hangup", instruction: `{"verb":"hangup"}`, natural: "next", terminal: true, unanswered: true,
			last: &legEnd{"program_end", webhooks.EndedByApplication, 603},
		},
		{
			name: "reject", verb: "reject", instruction: `{"verb":"reject"}`, natural: "next", terminal: true, unanswered: true,
			last: &legEnd{"rejected", webhooks.EndedByApplication, 603},
		},
		{
			name: "reject_busy", verb: "reject", instruction: `{"verb":"reject","reason":"busy"}`, natural: "next", terminal: true, unanswered: true,
			last: &legEnd{"busy", webhooks.EndedByApplication, 486},
		},
		{
			name: "redirect", verb: "redirect", instruction: `{"verb":"redirect","url":"/slow"}`, natural: "next", unanswered: true,
			app: func(c *cell) {
				c.b.App.Answer("/slow", webhooktest.Slow(slowly, `[{"verb":"redirect","url":"/done"}]`))
			},
			phases: []phase{{name: "asking", unanswered: true}},
		},
		{
			name: "pause", verb: "pause", instruction: `{"verb":"answer"},{"verb":"pause","length":2}`, natural: "next",
			phases: []phase{{name: "pausing"}},
		},
		{
			name: "pause_unanswered", verb: "pause", instruction: `{"verb":"pause","length":2}`, natural: "next", unanswered: true,
			phases: []phase{{name: "pausing", unanswered: true}},
		},
		{
			name: "play", verb: "play", told: true, natural: "completed",
			instruction: `{"verb":"play","media_id":"sys_goodbye",` + reportTo + `}`,
			phases:      []phase{{name: "playing"}},
		},
		{
			name: "play_for_ever", verb: "play", told: true, lasting: true,
			instruction: `{"verb":"play","tone":"440","loop":0,` + reportTo + `}`,
			phases:      []phase{{name: "playing"}},
		},
		{
			name: "play_early", verb: "play", told: true, natural: "completed", unanswered: true,
			instruction: `{"verb":"play","media_id":"sys_goodbye","early":true,` + reportTo + `}`,
			phases:      []phase{{name: "playing", unanswered: true}},
		},
		{
			name: "play_url", verb: "play", told: true, natural: "completed",
			instruction: `{"verb":"play","url":"/hello.wav",` + reportTo + `}`,
			app: func(c *cell) {
				file := webhooktest.Response{ContentType: "audio/wav", Body: WAV(Voice(1, 900*time.Millisecond))}
				c.b.App.Answer("/hello.wav", webhooktest.Slow(slowly, file))
			},
			phases: []phase{{name: "fetching"}, {name: "playing", reach: func(c *cell) { c.b.Pass(slowly) }}},
		},
		{
			name: "say", verb: "say", told: true, natural: "completed",
			instruction: `{"verb":"say","text":"Good morning and welcome",` + reportTo + `}`,
			setup:       func(s *Setup) { s.Speech = spoken.Speech },
			phases:      []phase{{name: "speaking"}},
		},
		{
			name: "say_without_a_voice", verb: "say", told: true, natural: "failed",
			instruction: `{"verb":"say","text":"Good morning",` + reportTo + `}`,
			phases:      []phase{{name: "apologising"}},
		},
		{
			name: "send_digits", verb: "send_digits", natural: "next",
			instruction: `{"verb":"answer"},{"verb":"send_digits","digits":"12W34"}`,
			phases:      []phase{{name: "pressing"}, {name: "waiting", reach: func(c *cell) { c.b.Pass(400 * time.Millisecond) }}},
		},
		{
			name: "send_digits_info", verb: "send_digits", natural: "next",
			instruction: `{"verb":"answer"},{"verb":"pause","length":0.1},{"verb":"send_digits","digits":"12W34"}`,
			app:         func(c *cell) { c.b.Phone("1001").NoDTMF = true },
			phases:      []phase{{name: "pressing", hold: 300 * time.Millisecond}, {name: "waiting", reach: func(c *cell) { c.b.Pass(400 * time.Millisecond) }}},
		},
		{
			name: "gather", verb: "gather", told: true, natural: "timeout",
			instruction: `{"verb":"gather","id":"v","timeout":2,"prompt":[{"verb":"play","media_id":"sys_hold"}],"action":"/done"}`,
			phases:      []phase{{name: "prompt"}, {name: "waiting", reach: func(c *cell) { c.b.Pass(promptLength(c, "sys_hold")) }}},
		},
		{
			name: "gather_digits", verb: "gather", told: true, natural: "digits", lasting: true,
			instruction: `{"verb":"gather","id":"v","timeout":120,"num_digits":2,"action":"/done"}`,
			phases: []phase{
				{name: "waiting"},
				{name: "one_digit", reach: func(c *cell) { c.caller.Tap("1") }},
			},
			finish: func(c *cell) { c.caller.Tap("2") },
		},
		{
			name: "gather_invalid_again", verb: "gather", told: true, natural: "invalid", lasting: true,
			instruction: `{"verb":"gather","id":"v","timeout":120,"num_digits":1,"valid":"9","attempts":2,
				"invalid_prompt":[{"verb":"play","tone":"440"}],"action":"/done"}`,
			phases: []phase{
				{name: "first_attempt"},
				{name: "second_attempt", reach: func(c *cell) { c.caller.Tap("1") }},
			},
			finish: func(c *cell) { c.caller.Tap("2") },
		},
		{
			name: "gather_prompt_url", verb: "gather", told: true, natural: "timeout",
			instruction: `{"verb":"gather","id":"v","timeout":1,"prompt":"/prompt","action":"/done"}`,
			app: func(c *cell) {
				c.b.App.Answer("/prompt", webhooktest.Slow(slowly, `[{"verb":"play","media_id":"sys_hold"}]`))
			},
			phases: []phase{{name: "asking"}, {name: "prompt", reach: func(c *cell) { c.b.Pass(slowly) }}},
		},
		{
			name: "record", verb: "record", told: true, natural: "silence", listens: true,
			instruction: `{"verb":"record","id":"v","silence":2,"action":"/done"}`,
			phases: []phase{
				{name: "beep", hold: 50 * time.Millisecond},
				{name: "speaking", reach: func(c *cell) { c.b.Pass(500 * time.Millisecond); c.caller.Talk(Voice(3, 700*time.Millisecond)) }},
				{name: "silence", reach: func(c *cell) { c.b.Pass(700 * time.Millisecond) }},
			},
		},
		{
			name: "record_key", verb: "record", told: true, natural: "key", lasting: true,
			instruction: `{"verb":"record","id":"v","silence":0,"beep":false,"action":"/done"}`,
			phases:      []phase{{name: "speaking", reach: func(c *cell) { c.caller.Talk(Voice(3, 30*time.Second)) }}},
			finish:      func(c *cell) { c.caller.Hush(); c.caller.Tap("#") },
		},
		{
			name: "record_to_its_length", verb: "record", told: true, natural: "completed",
			instruction: `{"verb":"record","id":"v","silence":0,"beep":false,"max_length":2,"trim":false,"action":"/done"}`,
			phases:      []phase{{name: "recording"}},
		},
		{
			name: "record_nothing", verb: "record", told: true, natural: "empty", listens: true,
			instruction: `{"verb":"record","id":"v","silence":1,"beep":false,"action":"/done"}`,
			phases:      []phase{{name: "listening"}},
		},

		{
			name: "dial", verb: "dial", told: true, natural: "completed", phones: []string{"1002"}, finished: left1002,
			instruction: `{"verb":"dial","id":"v","timeout":3,"to":[{"extension":"1002"}],"action":"/done"}`,
			phases: []phase{
				{name: "calling", parties: ringing1002},
				{name: "ringing", reach: ring("1002"), parties: ringing1002},
				{name: "talking", reach: pickUp("1002"), parties: talking1002},
			},
			finish: leaves("1002"),
		},
		{
			name: "dial_without_action", verb: "dial", natural: "next", phones: []string{"1002"}, finished: left1002,
			instruction: `{"verb":"dial","id":"v","timeout":3,"to":[{"extension":"1002"}]}`,
			phases: []phase{
				{name: "ringing", reach: ring("1002"), parties: ringing1002},
				{name: "talking", reach: pickUp("1002"), parties: talking1002},
			},
			finish: leaves("1002"),
		},
		{
			name: "dial_nobody", verb: "dial", told: true, natural: "unreachable",
			instruction: `{"verb":"dial","id":"v","to":[{"extension":"1999"}],"action":"/done"}`,
		},
		{
			name: "dial_in_vain", verb: "dial", told: true, natural: "no_answer", phones: []string{"1002"},
			finished:    parties{"1002": {state: gone, end: missed1002}},
			instruction: `{"verb":"dial","id":"v","timeout":2,"to":[{"extension":"1002"}],"action":"/done"}`,
			phases:      []phase{{name: "ringing", reach: ring("1002"), parties: ringing1002}},
		},
		{
			name: "dial_bridge", verb: "dial", told: true, natural: "completed", phones: []string{"1002"}, finished: left1002,
			instruction: `{"verb":"dial","id":"v","timeout":3,"answer_on_bridge":true,"to":[{"extension":"1002"}],"action":"/done"}`,
			phases: []phase{
				{name: "calling", unanswered: true, parties: ringing1002},
				{name: "ringing", reach: ring("1002"), unanswered: true, parties: ringing1002},
				{name: "talking", reach: pickUp("1002"), parties: talking1002},
			},
			finish: leaves("1002"),
		},
		{
			name: "dial_bridge_in_vain", verb: "dial", told: true, natural: "no_answer", phones: []string{"1002"}, unanswered: true,
			finished:    parties{"1002": {state: gone, end: missed1002}},
			instruction: `{"verb":"dial","id":"v","timeout":2,"answer_on_bridge":true,"to":[{"extension":"1002"}],"action":"/done"}`,
			phases:      []phase{{name: "ringing", reach: ring("1002"), unanswered: true, parties: ringing1002}},
		},
		{
			name: "dial_early_media", verb: "dial", told: true, natural: "no_answer", phones: []string{"1002"}, unanswered: true,
			finished:    parties{"1002": {state: gone, end: missed1002}},
			instruction: `{"verb":"dial","id":"v","timeout":2,"answer_on_bridge":true,"to":[{"extension":"1002"}],"action":"/done"}`,
			phases: []phase{{name: "announcement", unanswered: true, parties: ringing1002, reach: func(c *cell) {
				c.called("1002")
				c.leg("1002").Early()
			}}},
		},
		{
			name: "dial_screen", verb: "dial", told: true, natural: "completed", phones: []string{"1002"}, finished: left1002,
			instruction: `{"verb":"dial","id":"v","timeout":3,"to":[{"extension":"1002"}],"screen":[{"verb":"gather","num_digits":1,"timeout":120}],"action":"/done"}`,
			phases: []phase{
				{name: "screening", reach: pickUp("1002"), parties: parties{"1002": {state: screened}}},
				{name: "talking", reach: func(c *cell) { c.leg("1002").Tap("1") }, parties: talking1002},
			},
			finish: leaves("1002"),
		},
		{
			name: "dial_sequential", verb: "dial", told: true, natural: "completed", phones: []string{"1002", "1003"}, others: true, moves: true,
			finished: parties{
				"1002": {state: gone, end: missed1002},
				"1003": {state: gone, end: legEnd{"callee_hangup", webhooks.EndedByCallee, 200}},
			},
			instruction: `{"verb":"dial","id":"v","timeout":1,"strategy":"sequential","to":[{"extension":"1002"},{"extension":"1003"}],"action":"/done"}`,
			phases: []phase{
				{name: "first", reach: ring("1002"), parties: ringing1002},
				{name: "second", reach: ring("1003"), parties: parties{"1002": {state: gone, end: missed1002}, "1003": {state: rings}}},
				{name: "talking", reach: pickUp("1003"), parties: parties{"1002": {state: gone, end: missed1002}, "1003": {state: talks}}},
			},
			finish: leaves("1003"),
		},
		{
			name: "dial_simultaneous", verb: "dial", told: true, natural: "completed", phones: []string{"1002", "1003"}, others: true,
			finished: parties{
				"1002": {state: gone, end: elsewhere002},
				"1003": {state: gone, end: legEnd{"callee_hangup", webhooks.EndedByCallee, 200}},
			},
			instruction: `{"verb":"dial","id":"v","timeout":5,"to":[{"extension":"1002"},{"extension":"1003"}],"action":"/done"}`,
			phases: []phase{
				{name: "ringing", parties: parties{"1002": {state: rings}, "1003": {state: rings}}, reach: func(c *cell) {
					ring("1002")(c)
					ring("1003")(c)
				}},
				{name: "talking", reach: pickUp("1003"), parties: parties{"1002": {state: gone, end: elsewhere002}, "1003": {state: talks}}},
			},
			finish: leaves("1003"),
		},
		{
			name: "dial_time_limit", verb: "dial", told: true, natural: "time_limit", phones: []string{"1002"},
			finished:    parties{"1002": {state: gone, end: legEnd{"time_limit", webhooks.EndedBySystem, 200}}},
			instruction: `{"verb":"dial","id":"v","time_limit":2,"to":[{"extension":"1002"}],"action":"/done"}`,
			phases:      []phase{{name: "talking", reach: pickUp("1002"), parties: talking1002}},
		},
		{
			name: "dial_recorded", verb: "dial", told: true, unhurried: true, natural: "completed", phones: []string{"1002"}, finished: left1002,
			instruction: `{"verb":"dial","id":"v","timeout":3,"record":"ringing","to":[{"extension":"1002"}],"action":"/done"}`,
			phases: []phase{
				{name: "ringing", reach: ring("1002"), parties: ringing1002},
				{name: "talking", reach: pickUp("1002"), parties: talking1002},
			},
			finish: leaves("1002"),
		},
		{
			name: "dial_until_a_key", verb: "dial", told: true, natural: "canceled", phones: []string{"1002"},
			finished:    parties{"1002": {state: gone, end: elsewhere002}},
			instruction: `{"verb":"dial","id":"v","timeout":3,"hang_up_on":"*","to":[{"extension":"1002"}],"action":"/done"}`,
			phases:      []phase{{name: "ringing", reach: ring("1002"), parties: ringing1002}},
			finish:      func(c *cell) { c.caller.Tap("*") },
		},
		{
			name: "dial_later", verb: "dial", told: true, moves: true, natural: "no_answer", phones: []string{"1002"},
			finished:    parties{"1002": {state: gone, end: missed1002}},
			instruction: `{"verb":"dial","id":"v","timeout":2,"to":[{"extension":"1002","delay":1}],"action":"/done"}`,
			phases: []phase{
				{name: "delayed"},
				{name: "ringing", reach: ring("1002"), parties: ringing1002},
			},
		},
	}
}

// promptLength is how long a system prompt is.
func promptLength(c *cell, id string) time.Duration {
	return time.Duration(len(SystemPrompt(c.b.t, id))) * time.Second / perSecond
}

// withoutRows are the verbs of the contract that the executor does not know yet. Whoever makes it know one takes the verb
// from here and adds its rows above.
func withoutRows() []string {
	return nil
}

// executed are the verbs that the executor knows, as its own text says: the cases of the switch in Session.perform.
func executed(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "session", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "perform" {
				ast.Inspect(f, func(n ast.Node) bool {
					if c, ok := n.(*ast.CaseClause); ok {
						for _, one := range c.List {
							found[caseName(one)] = true
						}
					}
					return true
				})
			}
		}
	}
	if len(found) == 0 {
		t.Fatal("there is no switch over instructions in Session.perform: say here how the executor's verbs can be found")
	}
	return found
}

// caseName is the type of a case, *webhooks.SendDigits, as a verb without its underscores.
func caseName(e ast.Expr) string {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return ""
	}
	name, ok := star.X.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	return strings.ToLower(name.Sel.Name)
}

func TestEveryVerbOfTheExecutorHasItsRows(t *testing.T) {
	rows := map[string]bool{}
	for _, r := range allRows() {
		rows[r.verb] = true
		if webhooks.ActionOf(firstOf(t, r, r.verb)) == nil && firstOf(t, r, r.verb).Common().On == nil && r.told {
			t.Errorf("%s: its instruction tells nobody of its outcome", r.name)
		}
	}
	known := executed(t)
	for _, verb := range webhooks.Verbs() {
		performed := known[strings.ReplaceAll(verb, "_", "")]
		excused := slices.Contains(withoutRows(), verb)
		switch {
		case performed && !rows[verb]:
			t.Errorf("the executor knows %s: give it rows in the matrix", verb)
		case performed && excused:
			t.Errorf("the executor knows %s: take it out of withoutRows", verb)
		case !performed && !excused:
			t.Errorf("%s is of the contract: give it rows, or say in withoutRows that it is not executed yet", verb)
		case !performed && rows[verb]:
			t.Errorf("%s has rows, and the executor does not know it", verb)
		}
	}
}

// firstOf is the first instruction of a verb in a row.
func firstOf(t *testing.T, r row, verb string) webhooks.Instruction {
	t.Helper()
	for _, i := range Program(t, "["+r.instruction+"]").Instructions {
		if i.Verb() == verb {
			return i
		}
	}
	t.Fatalf("%s has no %s", r.name, verb)
	return nil
}

func TestEveryGoldenLadderIsOfACell(t *testing.T) {
	cells := map[string]bool{}
	for _, r := range allRows() {
		for _, m := range r.moments() {
			for _, e := range allEnds() {
				if e.fits(r.at(m)) {
					cells[strings.Join([]string{r.name, m.name, e.name}, "/")] = true
				}
			}
		}
	}
	for _, name := range goldens() {
		if !cells[name] {
			t.Errorf("there is no cell %s", name)
		}
	}
	if len(cells) < 1000 {
		t.Errorf("the matrix has %d cells, and is to have 1,000 at least", len(cells))
	}
}
