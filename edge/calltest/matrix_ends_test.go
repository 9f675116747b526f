package calltest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// The ways a call can end: the columns of the matrix.

// An end is one of them.
type end struct {
	name string
	// fits says at which moments it can happen at all.
	fits func(s spot) bool
	// prepare sets it up before the call begins, pull brings it about at the moment. Either may be nil.
	prepare func(c *cell)
	pull    func(c *cell)
	// lead is how long what is pulled takes to reach the edge.
	lead time.Duration
	// expect says what must come of it, given where the call stands.
	expect func(c *cell, st standing) []expectation
	// strikes is the leg whose end it is; nil is the caller's, "" nobody's.
	strikes func(c *cell) string
	// later is how long after the moment it takes effect, where that is not at once.
	later time.Duration
	// limit is how long after its effect the call may live on, 500 ms when it is 0, and for as long as it likes when it is
	// negative.
	limit time.Duration
	// rests is how long a row of an op waits for what the end leads to before everybody leaves.
	rests time.Duration
	// silent: no one tells of the end any more, and nobody says BYE.
	silent bool
}

const (
	// rtpTimeout is how long a phone may be silent in the matrix.
	rtpTimeout = time.Second
	// budget is what an application has for an answer in the matrix.
	budget = time.Second
	// tail is how long the program pauses when the verb is over.
	tail = 3 * time.Second
	// slowly is how long an application takes where a moment lies within its thinking.
	slowly = 800 * time.Millisecond
)

// always is at once what a struck call comes to.
func always(e endings, outcome webhooks.Outcome) func(*cell, standing) []expectation {
	return func(c *cell, st standing) []expectation { return []expectation{c.row.struck(st, e, string(outcome))} }
}

// withAction is what becomes of the live change as well.
func withAction(kind webhooks.EventType, f func(*cell, standing) []expectation) func(*cell, standing) []expectation {
	return func(c *cell, st standing) []expectation {
		all := f(c, st)
		for i := range all {
			all[i].action = kind
		}
		return all
	}
}

// replacing is what a live change that ends the call so comes to.
func replacing(e endings, kind webhooks.EventType) func(*cell, standing) []expectation {
	return withAction(kind, func(c *cell, st standing) []expectation { return []expectation{c.row.replaced(st, e)} })
}

// answering is replacing by what a URL answers. Whom the leg speaks with stays until then, and may leave by itself.
func answering(e endings, kind webhooks.EventType) func(*cell, standing) []expectation {
	return func(c *cell, st standing) []expectation {
		all := replacing(e, kind)(c, st)
		if c.moment.kind != near {
			return all
		}
		left := replacing(e, kind)(c, st)
		for number, p := range c.row.finished {
			left[0].legs[number] = p.end
		}
		return append(all, left...)
	}
}

// quietly is what becomes of a call that another process has taken.
func quietly(c *cell, st standing) []expectation {
	e := expectation{legs: map[string]legEnd{}}
	for number, p := range st.parties {
		if p.state == rings || p.state == gone || p.state == apart { // nobody can take over an INVITE that has no answer
			e.legs[number] = p.after(legEnd{"edge_lost", webhooks.EndedBySystem, 0})
		}
	}
	if st.over {
		e.told = c.row.naturally()
	}
	return []expectation{e}
}

// undisturbed is what becomes of a call that goes on to its natural end: of one whose verb has none, the caller hangs up.
func undisturbed(c *cell, st standing) []expectation {
	if c.row.natural == "" {
		return []expectation{c.row.struck(c.row.phases[len(c.row.phases)-1].standing(), hungUp, string(webhooks.Hangup))}
	}
	return []expectation{c.row.undisturbed()}
}

// eventually is struck for an end that takes effect later: the verb may have ended by itself before.
func eventually(e endings) func(*cell, standing) []expectation {
	return func(c *cell, st standing) []expectation {
		first, then := c.row.struck(st, e, string(webhooks.Hangup)), c.row.overtaken(e)
		const near = 150 * time.Millisecond
		switch spare := c.natural - c.effect(); {
		case st.over:
			return []expectation{first}
		case c.row.natural == "" || c.row.finish != nil || spare > near && !c.row.listens:
			return []expectation{first}
		case spare < -near && !c.row.listens:
			return []expectation{then}
		}
		return []expectation{first, then}
	}
}

// overtaken is what the cell comes to when the verb ended by itself before the end struck.
func (r *row) overtaken(e endings) expectation { return r.struck(r.afterwards(), e, "") }

// The places where an end can strike.
func anywhere(s spot) bool { return !s.row.terminal || s.moment.kind != later }

func known(s spot) bool { return s.knows() && anywhere(s) }

func unknown(s spot) bool { return !s.knows() && anywhere(s) }

// inside are the moments at which the verb goes on undisturbed: what is no end but a nuisance can come then.
func inside(s spot) bool { return s.moment.kind == inPhase }

func insideKnown(s spot) bool { return inside(s) && s.knows() }

// changeable are the moments at which a live change has something to take over.
func changeable(s spot) bool { return anywhere(s) && (!s.row.terminal || s.moment.kind != near) }

// having reports whether exactly one other leg is in one of these states and nobody else may yet come into play.
func having(states ...partyState) func(s spot) bool {
	return func(s spot) bool {
		return s.moment.kind == inPhase && s.one(states...) != "" && !s.row.phases[s.moment.phase].joined && (!s.row.others || s.one(talks) != "")
	}
}

// one is the number of the one party in some states; "" when there is none, or there are several.
func (s spot) one(states ...partyState) string {
	found := ""
	for number, p := range s.stands[0].parties {
		if slices.Contains(states, p.state) {
			if found != "" {
				return ""
			}
			found = number
		}
	}
	return found
}

// refusal is a called party's final answer, and what must come of it.
func refusal(name string, code int, cause string, by webhooks.EndedBy, outcome webhooks.Outcome) end {
	return end{
		name: name, fits: having(rings), strikes: theOne(rings), lead: latency, limit: -1,
		pull: func(c *cell) { c.leg(c.one(rings)).Refuse(code) },
		expect: func(c *cell, st standing) []expectation {
			return []expectation{c.row.partyEnded(st, c.one(rings), legEnd{cause, by, code}, string(outcome))}
		},
	}
}

// misbehaving is an application that gives no usable answer where one is needed: to the first question or to the one
// after the verb.
func misbehaving(name string, answer any) end {
	return end{
		name: "app_" + name, limit: -1,
		fits: func(s spot) bool { return s.moment.kind == before || s.moment.kind == deciding },
		prepare: func(c *cell) {
			path := "/done"
			if c.moment.kind == before {
				path = "/voice"
			}
			c.b.App.Answer(path, answer)
			c.b.App.Answer("/again", webhooktest.Redirect(302, "/again"))
		},
		expect: always(unanswerable, ""),
	}
}

// deaf is a caller who hangs up while the application can hardly be told of it.
func deaf(name string, answer any) end {
	return end{
		name: "caller_bye_app_" + name, lead: latency,
		fits:    func(s spot) bool { return insideKnown(s) && s.row.told && !s.row.brief },
		prepare: func(c *cell) { c.b.App.Answer("/done", answer) },
		pull:    func(c *cell) { c.caller.Bye() },
		expect:  always(hungUp, webhooks.Hangup),
	}
}

func allEnds() []end {
	ends := []end{
		{
			name: "caller_bye", fits: known, lead: latency,
			pull:   func(c *cell) { c.caller.Bye() },
			expect: always(hungUp, webhooks.Hangup),
		},
		{
			name: "caller_cancel", fits: unknown, lead: latency,
			pull: func(c *cell) { c.cancel() },
			expect: func(c *cell, st standing) []expectation {
				if st.answered {
					return []expectation{c.row.struck(st, hungUp, string(webhooks.Hangup))}
				}
				return []expectation{c.row.struck(st, gaveUp, string(webhooks.Hangup))}
			},
		},
		{
			name: "api_hangup", fits: changeable,
			pull:   func(c *cell) { c.act(callerNumber, hangingUp) },
			expect: withAction(webhooks.EventActionCompleted, always(hungUpByAPI, webhooks.Hangup)),
		},
		{
			name: "change_program", fits: changeable, limit: time.Second,
			pull: func(c *cell) {
				c.act(callerNumber, programmed(c, `[{"verb":"tag","data":{"changed":true}},{"verb":"pause","length":0.2},{"verb":"hangup"}]`))
			},
			expect: replacing(programOver, webhooks.EventActionCompleted),
		},
		{
			name: "change_url", fits: changeable, limit: time.Second,
			prepare: func(c *cell) { c.b.App.Answer("/changed", `[{"verb":"hangup"}]`) },
			pull:    func(c *cell) { c.act(callerNumber, changedBy(c, "/changed")) },
			expect:  answering(programOver, webhooks.EventActionCompleted),
		},
		{
			name: "change_url_dead", fits: changeable, limit: -1, rests: 6 * time.Second,
			prepare: func(c *cell) { c.b.App.Answer("/changed", webhooktest.Status(500)) },
			pull:    func(c *cell) { c.act(callerNumber, changedBy(c, "/changed")) },
			expect:  answering(unanswerable, webhooks.EventActionFailed),
		},
		{
			name: "change_url_slow_then_bye", fits: func(s spot) bool { return insideKnown(s) && changeable(s) }, later: 200 * time.Millisecond,
			prepare: func(c *cell) { c.b.App.Answer("/changed", webhooktest.Hang()) },
			pull: func(c *cell) {
				c.act(callerNumber, changedBy(c, "/changed"))
				c.b.Pass(200*time.Millisecond - latency)
				c.caller.Bye()
			},
			expect: replacing(hungUp, webhooks.EventActionFailed),
		},
		{
			name: "time_limit", fits: anywhere,
			prepare: func(c *cell) { c.b.Plane.TimeLimit = webhooks.SecondsOf(c.at - c.b.Now() - latency) },
			expect:  always(outOfTime, webhooks.Hangup),
		},
		{
			name: "edge_stop", fits: anywhere,
			pull:   func(c *cell) { c.b.StopCalls() },
			expect: always(edgeStopped, webhooks.Hangup),
		},
		{
			name: "caller_media_stops", later: rtpTimeout,
			fits:   func(s spot) bool { return known(s) && s.moment.kind != near && !s.row.moves },
			pull:   func(c *cell) { c.caller.Mute(true) },
			expect: eventually(fellSilent),
		},
		{
			name: "no_ack", later: rtpTimeout,
			fits:    func(s spot) bool { return s.moment.kind == begun && s.stands[0].answered && !s.row.moves },
			prepare: func(c *cell) { c.caller.phone.Acks = false },
			expect:  eventually(fellSilent),
		},
		{
			name: "no_ack_talking", later: 64 * 500 * time.Millisecond,
			fits: func(s spot) bool {
				return s.moment.kind == begun && s.stands[0].answered && s.row.lasting && len(s.stands[0].parties) == 0
			},
			prepare: func(c *cell) { c.caller.phone.Acks = false },
			pull:    func(c *cell) { c.caller.Speak() },
			expect:  always(fellSilent, webhooks.Hangup),
		},
		{
			name: "fenced", silent: true, fits: func(s spot) bool { return insideKnown(s) && !s.row.alone }, later: 10 * time.Millisecond,
			prepare: func(c *cell) { c.fenceable() },
			pull: func(c *cell) {
				c.fenced.Store(true)
				c.caller.Hold() // of which the edge tells
			},
			expect: quietly,
		},
		{
			name: "bye_and_api_hangup", fits: insideKnown,
			pull: func(c *cell) {
				c.caller.Bye()
				c.b.Pass(latency)
				c.act(callerNumber, hangingUp)
			},
			expect: func(c *cell, st standing) []expectation {
				return mixed([]expectation{c.row.struck(st, hungUp, "hangup"), c.row.struck(st, hungUpByAPI, "hangup")})
			},
		},
		{
			name: "bye_and_edge_stop", fits: insideKnown,
			pull: func(c *cell) {
				c.caller.Bye()
				c.b.Pass(latency)
				c.b.StopCalls()
			},
			expect: func(c *cell, st standing) []expectation {
				return mixed([]expectation{c.row.struck(st, hungUp, "hangup"), c.row.struck(st, edgeStopped, "hangup")})
			},
		},
		{
			name: "api_hangup_twice", fits: inside,
			pull: func(c *cell) {
				c.act(callerNumber, hangingUp)
				c.act(callerNumber, hangingUp)
			},
			expect: always(hungUpByAPI, webhooks.Hangup),
		},
		{
			name: "plane_away_then_bye", fits: insideKnown, later: 300*time.Millisecond + latency,
			pull: func(c *cell) {
				c.b.Plane.Away(true)
				c.b.Pass(300 * time.Millisecond)
				c.caller.Bye()
				c.b.Pass(1500 * time.Millisecond)
				c.b.Plane.Away(false)
			},
			expect: eventually(hungUp),
		},
		{
			name: "hold_then_bye", fits: insideKnown, later: 300 * time.Millisecond,
			pull: func(c *cell) {
				if c.over() {
					return
				}
				c.caller.Hold()
				c.b.Pass(200 * time.Millisecond)
				c.caller.Bye()
			},
			expect: eventually(hungUp),
		},

		// Disturbances: none of them ends the call, which must come to its natural end.
		{
			name: "drain", strikes: nobody, fits: func(s spot) bool { return inside(s) && !s.awaitsGuest() }, limit: -1,
			pull: func(c *cell) {
				c.drain()
				c.goOn()
			},
			expect: undisturbed,
		},
		{
			name: "late_cancel", strikes: nobody, fits: insideKnown, limit: -1,
			pull: func(c *cell) {
				c.caller.Cancel() // without effect: the call is answered (RFC 3261 §9.2)
				c.goOn()
			},
			expect: undisturbed,
		},
		{
			name: "hold_and_resume", strikes: nobody, fits: func(s spot) bool { return insideKnown(s) && !s.row.listens }, limit: -1,
			pull: func(c *cell) {
				if c.over() {
					return
				}
				c.caller.Hold()
				c.b.Pass(100 * time.Millisecond)
				c.caller.Resume()
				c.goOn()
			},
			expect: undisturbed,
		},

		// What the other party does.
		refusal("callee_busy", 486, "busy", webhooks.EndedByCallee, webhooks.Busy),
		refusal("callee_declines", 603, "declined", webhooks.EndedByCallee, webhooks.Declined),
		refusal("callee_unavailable", 480, "no_answer", webhooks.EndedBySystem, webhooks.NoAnswer),
		refusal("callee_500", 500, "unreachable", webhooks.EndedBySystem, webhooks.Unreachable),
		refusal("callee_404", 404, "not_found", webhooks.EndedBySystem, webhooks.Unreachable),
		refusal("callee_488", 488, "no_codec", webhooks.EndedBySystem, webhooks.Unreachable),
		refusal("callee_403", 403, "not_allowed", webhooks.EndedBySystem, webhooks.NotAllowed),
		{
			name: "callee_vanishes_ringing", fits: having(rings), strikes: nobody, limit: -1,
			pull: func(c *cell) { c.silence(c.one(rings)) },
			expect: func(c *cell, st standing) []expectation {
				return []expectation{c.row.partyEnded(st, c.one(rings), legEnd{"no_answer", webhooks.EndedBySystem, 0}, string(webhooks.NoAnswer))}
			},
		},
		{
			name: "callee_bye", fits: having(screened, talks), strikes: theOne(screened, talks), lead: latency, limit: -1,
			pull: func(c *cell) { c.leg(c.one(screened, talks)).Bye() },
			expect: func(c *cell, st standing) []expectation {
				return []expectation{c.row.partyEnded(st, c.one(screened, talks), legEnd{"callee_hangup", webhooks.EndedByCallee, 200}, c.left())}
			},
		},
		{
			name: "callee_media_stops", fits: having(screened, talks), strikes: theOne(screened, talks), later: rtpTimeout, limit: -1,
			pull: func(c *cell) { c.leg(c.one(screened, talks)).Mute(true) },
			expect: func(c *cell, st standing) []expectation {
				outcome := c.row.leaving(webhooks.Lost)
				if c.one(screened) != "" { // nobody was connected yet
					outcome = string(webhooks.Unreachable)
				}
				lost := c.row.partyEnded(st, c.one(screened, talks), legEnd{"media_timeout", webhooks.EndedBySystem, 200}, outcome)
				if c.row.finish != nil || c.natural > c.effect()+150*time.Millisecond {
					return []expectation{lost}
				}
				return []expectation{c.row.undisturbed()}
			},
		},
		{
			name: "callee_api_hangup", fits: having(screened, talks), strikes: theOne(screened, talks), limit: -1,
			pull: func(c *cell) { c.act(c.one(screened, talks), hangingUp) },
			expect: withAction(webhooks.EventActionCompleted, func(c *cell, st standing) []expectation {
				return c.outcomes(st, c.one(screened, talks), legEnd{"api_hangup", webhooks.EndedByAPI, 200})
			}),
		},
		{
			name: "callee_api_hangup_ringing", fits: having(rings), strikes: theOne(rings), limit: -1,
			pull: func(c *cell) { c.act(c.one(rings), hangingUp) },
			expect: withAction(webhooks.EventActionCompleted, func(c *cell, st standing) []expectation {
				return c.outcomes(st, c.one(rings), legEnd{"api_hangup", webhooks.EndedByAPI, 0})
			}),
		},
		{
			name: "callee_changed", strikes: theOne(talks), limit: -1,
			fits: having(talks),
			pull: func(c *cell) {
				c.act(c.one(screened, talks), programmed(c, `[{"verb":"pause","length":0.2},{"verb":"hangup"}]`))
			},
			expect: withAction(webhooks.EventActionCompleted, func(c *cell, st standing) []expectation {
				return []expectation{c.row.partyEnded(st, c.one(screened, talks), legEnd{"program_end", webhooks.EndedByApplication, 200}, c.left())}
			}),
		},
		{
			name: "both_bye", fits: func(s spot) bool { return having(screened, talks)(s) && s.knows() },
			pull: func(c *cell) {
				c.caller.Bye()
				c.leg(c.one(screened, talks)).Bye()
			},
			lead: latency,
			expect: func(c *cell, st standing) []expectation {
				var all []expectation
				for _, outcome := range []string{"hangup", c.left()} {
					for _, other := range []legEnd{{"callee_hangup", webhooks.EndedByCallee, 200}, {"caller_hangup", webhooks.EndedByCaller, 200}} {
						e := c.row.struck(st, hungUp, outcome)
						e.legs[c.one(screened, talks)] = other
						all = append(all, e)
					}
				}
				return all
			},
		},
		{
			name: "answer_crosses_bye", fits: func(s spot) bool { return having(rings)(s) && s.knows() },
			pull: func(c *cell) {
				c.leg(c.one(rings)).PickUp()
				c.caller.Bye()
			},
			lead: latency,
			expect: func(c *cell, st standing) []expectation {
				e := c.row.struck(st, hungUp, "hangup")
				e.legs[c.one(rings)] = legEnd{"canceled|caller_hangup", webhooks.EndedByCaller, 0}
				return []expectation{e}
			},
		},
		{
			name: "answer_crosses_cancel", fits: func(s spot) bool { return having(rings)(s) && !s.knows() },
			pull: func(c *cell) {
				c.leg(c.one(rings)).PickUp()
				c.cancel()
			},
			lead: latency, limit: time.Second,
			expect: func(c *cell, st standing) []expectation {
				var all []expectation
				for _, end := range []endings{gaveUp, hungUp} { // the one when the CANCEL is first, the other when the 200 is
					e := c.row.struck(standing{answered: end == hungUp, running: true, parties: st.parties}, end, "hangup")
					e.legs[c.one(rings)] = legEnd{"canceled|caller_hangup", webhooks.EndedByCaller, 0}
					all = append(all, e)
				}
				return all
			},
		},

		misbehaving("500", webhooktest.Status(500)),
		misbehaving("503", webhooktest.Status(503)),
		misbehaving("reset", webhooktest.Reset()),
		misbehaving("garbage", webhooktest.Garbage()),
		misbehaving("invalid", `[{"verb":"sing"}]`),
		misbehaving("hangs", webhooktest.Hang()),
		misbehaving("drips", webhooktest.Drip(100*time.Millisecond, `{"instructions":[{"verb":"answer"}]}`)),
		misbehaving("redirects", webhooktest.Redirect(302, "/again")),
		deaf("500", webhooktest.Status(500)),
		deaf("reset", webhooktest.Reset()),
		deaf("garbage", webhooktest.Garbage()),
		deaf("hangs", webhooktest.Hang()),
		deaf("slow", webhooktest.Slow(slowly, `[{"verb":"play","media_id":"sys_goodbye"}]`)),
	}
	return slices.Concat(ends, guestEnds(), opEnds())
}

// left is the outcome when the one other leg leaves of its own.
func (c *cell) left() string {
	if c.one(screened) != "" {
		return string(webhooks.Declined)
	}
	return c.row.leaving(webhooks.Completed)
}

// outcomes are what the verb may come to when its other leg is hung up by a live change: completed when they spoke; the
// contract does not say which word is right before that, only that it is one of those of nobody connected.
func (c *cell) outcomes(st standing, number string, leg legEnd) []expectation {
	words := []webhooks.Outcome{webhooks.Declined, webhooks.NoAnswer, webhooks.Unreachable}
	if c.one(talks) != "" {
		words = []webhooks.Outcome{webhooks.Outcome(c.left())}
	}
	var all []expectation
	for _, word := range words {
		all = append(all, c.row.partyEnded(st, number, leg, string(word)))
	}
	return all
}

// over reports whether an op has ended the caller's call before anything else.
func (c *cell) over() bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return c.row.op != "" && c.caller.final
}

// silence switches off the phone of a number.
func (c *cell) silence(number string) {
	phone := c.b.Phone(number)
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	phone.Silent = true
}

// cancel gives the call up as a person does who has not heard an answer: when one crosses the CANCEL, BYE follows.
func (c *cell) cancel() {
	c.caller.Cancel()
	c.b.within(time.Second, func() bool { return c.caller.up || c.caller.final })
	c.b.mu.Lock()
	answered := c.caller.up && !c.caller.final
	c.b.mu.Unlock()
	if answered {
		c.caller.Bye()
	}
}

// act asks for a live change to the leg to a number.
func (c *cell) act(number string, change func(*control.Action)) {
	id := c.legID(number)
	c.acts++
	if err := act(c.b, id, c.acts, change); err == nil {
		c.taken++
	}
}

// fenceable makes the control plane say, once fenced is set, that another process has the call. The guest's is its own.
func (c *cell) fenceable() {
	c.b.Plane.OnPublish = func(batch control.Batch) (control.Published, error) {
		if c.fenced.Load() && !c.isGuest(batch.CallID) {
			return control.Published{}, &control.Error{Code: control.CodeFenced, Message: "the call is another edge's"}
		}
		var done control.Published
		for _, e := range batch.Events {
			done.Expect = e.Sequence + 1
		}
		return done, nil
	}
}

// drain lets the edge take no more calls, and tries one.
func (c *cell) drain() {
	drained := make(chan error, 1)
	go func() { drained <- c.b.Calls.Drain(context.Background()) }() // ends with the last call
	c.drained = drained
	c.b.Pass(10 * time.Millisecond)
	refused := c.b.Phone("1009").Dial(callerNumber)
	refused.ExpectHeader(503, "Retry-After", "5")
}

// isEnd reports whether an end's name begins so.
func (e *end) isEnd(prefix string) bool { return strings.HasPrefix(e.name, prefix) }
