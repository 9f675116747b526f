package session

import (
	"errors"
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
		switch {
		case s.pending != nil: // another came before that one's URL had answered
			continue
		case len(s.rest) == 0, s.ctx.Err() != nil:
			return
		}
		next := s.rest[0]
		s.rest = s.rest[1:]
		s.letGo(next)
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
	case *webhooks.Detect:
		return s.detect(i)
	case *webhooks.Record:
		return s.record(i)
	case *webhooks.Recording:
		s.recording(i)
	case *webhooks.Dial:
		return s.dial(i)
	case *webhooks.Transfer:
		return s.transfer(i)
	case *webhooks.Refer:
		return s.refer(i)
	case *webhooks.Conference:
		return s.conference(i)
	case *webhooks.Enqueue:
		return s.enqueue(i)
	case *webhooks.Dequeue:
		return s.dequeue(i)
	case *webhooks.Leave:
		s.leaveWait()
	case *webhooks.Redirect:
		s.askNext(s.redirectReason(), webhooks.Target{URL: i.URL, Method: i.Method}, nil)
	case *webhooks.HangUp:
		s.hangup(i)
	case *webhooks.Reject:
		s.reject(i)
	case *webhooks.SendDigits:
		s.sendDigits(i)
	case *webhooks.Tag:
		s.setData(i.Data)
	case *webhooks.Voicemail:
		return s.voicemail(i)
	case *webhooks.Survey:
		return s.survey(i)
	case *webhooks.Message:
		return s.message(i)
	case *webhooks.Park:
		return s.park(i)
	case *webhooks.Unpark:
		return s.unpark(i)
	case parkIn:
		return s.parkedBy(i)
	case surveyNow:
		return s.surveyedBy(i)
	case *duty:
		s.onDuty(i.v)
	case *takeUp:
		s.pickUpRinging(i)
	case *lent:
		s.assist(i)
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
	defer s.settleReferral(487)
	s.hearChange()
	if s.ctx.Err() != nil {
		t.Outcome, t.Error = webhooks.Hangup, "" // also where it failed in the same moment
		s.tell(i, t)
		return
	}
	if t.Outcome == webhooks.Redirected || s.pending != nil { // the live change is what goes on, at the top of execute
		s.tell(i, t)
		return
	}
	if s.referral != nil {
		s.followReferral(i, t)
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
		s.tag++ // taken is changed: of two that name the same version only one is
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
	if s.actBeside(a) {
		return
	}
	if a.ActionID != "" {
		s.noteAction(a)
		s.showTag()
	}
	data := webhooks.EventData{ActionID: a.ActionID}
	if a.Change.Target != nil {
		s.changeByURL(*a.Change.Target, data)
		return
	}
	s.replace(*a.Change.Program, "")
	s.settleAction(webhooks.EventActionCompleted, data)
}

// changeByURL has what runs replaced by what a URL answers. A partner that was kept until then stays when that is a
// transfer, or when another change came that keeps it.
func (s *Session) changeByURL(target webhooks.Target, data webhooks.EventData) {
	got, err := s.ask(s.ctx, webhooks.ReasonModified, target, nil)
	if err == nil {
		s.replace(got.program, got.base)
		s.letGo(first(s.rest))
		s.settleAction(webhooks.EventActionCompleted, data)
		return
	}
	if s.pending == nil || !keepsPartner(*s.pending) {
		s.letGo(nil)
	}
	switch {
	case !errors.Is(err, errInterrupted):
		s.failurePath(err)
		data.Message = "the URL gave no program; the failure path runs instead"
	case s.ctx.Err() != nil:
		data.Message = errTooLate.Error()
	default:
		s.rest = nil
		data.Message = "another change came before the URL had answered"
	}
	s.settleAction(webhooks.EventActionFailed, data)
}

// first is the first of a list of instructions; nil where it is empty.
func first(list []webhooks.Instruction) webhooks.Instruction {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// opName is the op of a change as events tell it, "" where a program replaced what ran.
func opName(a control.Action) string {
	if a.Change.Op == nil {
		return ""
	}
	return a.Change.Op.Op()
}

// showTag brings the version that take counted to where programs and requests see it.
func (s *Session) showTag() {
	s.mu.Lock()
	s.call.Etag = strconv.Itoa(s.tag)
	s.mu.Unlock()
}

// tellMade tells of the ops that have come about, before the end of the call is told.
func (s *Session) tellMade() {
	for _, o := range s.acting {
		if !o.away && o.made.Load() {
			o.done(nil)
		}
	}
}

// drainActions tells those who asked for a change too late.
func (s *Session) drainActions() {
	s.tellMade()
	for _, o := range s.acting {
		if !o.away { // whoever waits for what becomes of it tells of it
			o.done(errTooLate)
		}
	}
	if s.pending != nil {
		s.tooLate(*s.pending)
		s.pending = nil
	}
	for {
		select {
		case a := <-s.actions:
			s.tooLate(a)
		default:
			return
		}
	}
}

// tooLate tells so of a change that has come when the call was over; false: it is not.
func (s *Session) tooLate(a control.Action) bool {
	if s.ctx.Err() == nil {
		return false
	}
	s.settleAction(webhooks.EventActionFailed, webhooks.EventData{ActionID: a.ActionID, Op: opName(a), Message: errTooLate.Error()})
	return true
}
