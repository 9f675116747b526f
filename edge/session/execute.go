package session

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// begin gets the first program of a call and runs it to its end.
func (s *Session) begin(reason webhooks.Reason) {
	if s.app.Program != nil {
		s.replace(*s.app.Program, "")
	} else {
		s.askNext(reason, webhooks.Target{URL: s.app.VoiceURL, Method: s.app.Method}, nil)
	}
	s.execute()
	if s.ctx.Err() == nil {
		s.cancel(ended{cause: webhooks.CauseProgramEnd})
	}
}

// replace makes p what runs next, instead of whatever was left. base is the URL it came from ("" for none).
func (s *Session) replace(p webhooks.Program, base string) {
	s.rest = p.Instructions
	if base != "" {
		s.base = base
	}
	s.keepState(p)
	s.guard = p.Guard
}

// keepState takes the state of an answer: absent is kept, null cleared.
func (s *Session) keepState(p webhooks.Program) {
	if p.State == nil {
		return
	}
	s.state = p.State
	if string(p.State) == "null" {
		s.state = nil
	}
}

// execute runs what is left, until nothing is or the call is over.
func (s *Session) execute() {
	for s.ctx.Err() == nil && !s.refused {
		s.takeAction()
		if len(s.rest) == 0 {
			return
		}
		next := s.rest[0]
		s.rest = s.rest[1:]
		if s.silent++; s.silent > webhooks.MaxSilentStretch {
			s.cancel(ended{cause: webhooks.CauseLoop})
			return
		}
		s.outcome(next, s.observed(next))
	}
}

// counts notes that the program has done something a caller can notice: media, input or waiting. A second of it
// starts the count of idle instructions anew.
func (s *Session) counts(d time.Duration) {
	if s.worth += d; s.worth >= time.Second {
		s.worth, s.silent = 0, 0
	}
}

// perform runs one instruction. The trigger is nil where the verb has no outcomes.
func (s *Session) perform(i webhooks.Instruction) *webhooks.Trigger {
	switch i := i.(type) {
	case *webhooks.Answer:
		s.answer(i.Headers)
	case *webhooks.Play:
		return s.play(i)
	case *webhooks.Say:
		return s.say(i)
	case *webhooks.Pause:
		s.pause(i)
	case *webhooks.Gather:
		return s.gather(i)
	case *webhooks.Record:
		return s.record(i)
	case *webhooks.Dial:
		return s.dial(i)
	case *webhooks.Redirect:
		s.askNext(webhooks.ReasonRedirect, webhooks.Target{URL: i.URL, Method: i.Method}, nil)
	case *webhooks.HangUp:
		s.hangup(i)
	case *webhooks.Reject:
		s.reject(i)
	case *webhooks.SendDigits:
		s.sendDigits(i)
	case *webhooks.Tag:
		s.setData(i.Data)
	default:
		return s.failed(fmt.Errorf("%s is not available yet", i.Verb()))
	}
	return nil
}

// outcome goes on from an instruction that has ended: the first that fits of on.<outcome>, on.default, action, the
// next instruction.
func (s *Session) outcome(i webhooks.Instruction, t *webhooks.Trigger) {
	if t == nil {
		return
	}
	t.Verb, t.ID = i.Verb(), i.Common().ID
	s.trigger = t
	if s.ctx.Err() != nil {
		t.Outcome = webhooks.Hangup
		s.tell(i, t)
		return
	}
	if t.Outcome == webhooks.Redirected { // the live change is what goes on, at the top of execute
		s.tell(i, t)
		return
	}
	if sub, ok := subFor(i, t.Outcome); ok {
		if sub.Target != nil {
			s.askNext(webhooks.ReasonOn, *sub.Target, t)
			return
		}
		s.rest = slices.Concat(sub.Instructions, s.rest)
		return
	}
	if target := webhooks.ActionOf(i); target != nil {
		s.askNext(webhooks.ReasonAction, *target, t)
	}
}

// tell lets the application know of the instruction that a hang-up or a live change ended. Its answer is ignored,
// and an inline list does not run: there is nobody to hear it, or something else to be heard.
func (s *Session) tell(i webhooks.Instruction, t *webhooks.Trigger) {
	sub, ok := subFor(i, t.Outcome)
	switch {
	case s.fenced(): // the process that has the call now tells
	case ok && sub.Target != nil:
		s.notify(webhooks.ReasonOn, *sub.Target, t)
	case !ok && webhooks.ActionOf(i) != nil:
		s.notify(webhooks.ReasonAction, *webhooks.ActionOf(i), t)
	}
}

func subFor(i webhooks.Instruction, o webhooks.Outcome) (webhooks.Sub, bool) {
	on := i.Common().On
	if sub, ok := on[string(o)]; ok {
		return sub, true
	}
	sub, ok := on["default"]
	return sub, ok
}

// take puts a live change into the session's queue. Under the lock that call.ended is emitted under, so that every
// change that was taken is either made or told to have come too late.
func (s *Session) take(a control.Action) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over || s.ctx.Err() != nil:
		return &control.Error{Code: control.CodeNotFound, Message: "the call has just ended"}
	case a.IfMatch != "" && a.IfMatch != strconv.Itoa(s.tag):
		return &control.Error{Code: control.CodePrecondition, Message: "the call has changed: its etag is now " + strconv.Itoa(s.tag)}
	}
	select {
	case s.actions <- a:
		return nil
	default:
		return &control.Error{Code: control.CodeBusy, Message: "the call has too many changes waiting; try again when one has completed"}
	}
}

// takeAction applies a live change that is waiting: it replaces what runs.
func (s *Session) takeAction() {
	if s.pending == nil {
		select {
		case a := <-s.actions:
			s.pending = &a
		default:
			return
		}
	}
	a := *s.pending
	s.pending = nil
	data := webhooks.EventData{ActionID: a.ActionID}
	switch {
	case a.HangUp:
		s.emit(webhooks.EventActionCompleted, data)
		s.cancel(ended{cause: webhooks.CauseAPIHangup})
		return
	case a.Program != nil:
		s.replace(*a.Program, "")
	default:
		if !s.askNext(webhooks.ReasonModified, webhooks.Target{URL: a.URL, Method: a.Method}, nil) {
			data.Message = "the URL gave no program; the failure path runs instead"
			s.emit(webhooks.EventActionFailed, data)
			s.touch()
			return
		}
	}
	s.touch()
	s.emit(webhooks.EventActionCompleted, data)
}

// drainActions tells those who asked for a change too late.
func (s *Session) drainActions() {
	fail := func(a control.Action) {
		s.emit(webhooks.EventActionFailed, webhooks.EventData{ActionID: a.ActionID, Message: "the call ended before the change could be made"})
	}
	if s.pending != nil {
		fail(*s.pending)
		s.pending = nil
	}
	for {
		select {
		case a := <-s.actions:
			fail(a)
		default:
			return
		}
	}
}
