package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Supervision of a talk of two. The leg that is acted on is the one supervised: listen lets the supervisor hear it and its
// partner, whisper lets it alone hear the supervisor as well, barge both. The talk itself stays what it is, a bond of two
// whose audio goes from one to the other; what the supervisor hears and says is a watch beside it (media.Leg.Watch). So it
// begins, changes and ends without a gap, and whoever of the two leaves ends it as ever.
//
// Intercept puts the supervisor's leg into the bond in the place of the leg that is acted on.
//
// The supervisor is a party that is called for it and hung up when it is over, or a live leg, which does this instead of its
// program; one of another edge is borrowed. A talk has several supervisors, each with a role of its own, who hear each other
// when they barge. The bond knows them: whatever ends the bond ends the supervision. Three goroutines take part, that of the
// supervised leg, that of the supervisor's, and one that belongs to the supervised leg and tells it what came of the op.

var (
	errNoTalk   = errors.New("the call is in no talk with another leg: " + errNobody.Error())
	errTalkOver = errors.New("the talk was over before the supervisor was there")
	errOffDuty  = errors.New("the supervisor's leg left before it could be done")
)

// maxSupervisors bounds those of one talk.
const maxSupervisors = 8

// superviseOver is the end of a leg that was called, or borrowed, to supervise.
var superviseOver = ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedBySystem, text: "the supervision is over"}

// supervision is one supervisor at one talk, from the op that asks for it on.
type supervision struct {
	bond      *bond
	intercept bool
	op        *acting         // that asked for it; its leg's own but for made
	leg       webhooks.CallID // that is wanted for it; "" for one that is called

	began chan struct{} // closed when the supervisor hears the talk, or is in it
	over  chan struct{} // closed when it is over, after why was set

	mu   sync.Mutex // guards what follows
	of   *Session   // who is supervised, or whose place is taken
	role media.Role
	by   *Session // nil while it is called
	why  error    // it did not begin, or is over
}

// duty is what a live leg does that supervises, as the one instruction of its program.
type duty struct {
	*webhooks.Pause // its attributes, which all have their defaults
	v               *supervision
}

// Verb returns the name that traces and journals show.
func (*duty) Verb() string { return "supervise" }

// dutyTime is how long a live leg has to begin what it is asked for.
const dutyTime = 5 * time.Second

// superviseTalk makes an op that needs a talk of two.
func (s *Session) superviseTalk(o *acting, op webhooks.Op) error {
	switch op := op.(type) {
	case *webhooks.OpListen:
		return s.supervise(o, media.Listen, false, op.By, op.CallID)
	case *webhooks.OpWhisper:
		return s.supervise(o, media.Whisper, false, op.By, op.CallID)
	case *webhooks.OpBarge:
		return s.supervise(o, media.Talk, false, op.By, op.CallID)
	case *webhooks.OpIntercept:
		return s.supervise(o, media.Talk, true, op.By, op.CallID)
	}
	if op.Op() == "pick_up" {
		return errNotRinging
	}
	return fmt.Errorf("%s: %w", op.Op(), errNobody)
}

// supervise begins a supervision, or changes the one there is.
func (s *Session) supervise(o *acting, role media.Role, intercept bool, by *webhooks.DialTarget, id webhooks.CallID) error {
	id = webhooks.CallID(s.vars().Text(string(id)))
	b := s.bonded()
	if b == nil || b.isOver() {
		return errNoTalk
	}
	if by == nil && (id == s.id || id == b.other(s).who()) {
		return errors.New("call_id: a leg of the talk itself cannot supervise it")
	}
	v := &supervision{bond: b, intercept: intercept, began: make(chan struct{}), over: make(chan struct{}), of: s, role: role, op: o}
	if by == nil {
		v.leg = id
	}
	before, err := b.superviseBy(v)
	switch {
	case err != nil:
		return err
	case before != nil:
		return before.change(o, v)
	}
	if by != nil {
		s.callSupervisor(v, *by)
	} else {
		err = s.giveDuty(v, id)
	}
	if err != nil {
		v.end(err)
		return err
	}
	s.followSupervision(v)
	return errLater
}

// superviseBy makes v a supervision of a talk; else it returns the one that its leg has already, or an error where there
// are too many.
func (b *bond) superviseBy(v *supervision) (*supervision, error) {
	b.supervising.Lock()
	defer b.supervising.Unlock()
	b.supervised = slices.DeleteFunc(b.supervised, func(o *supervision) bool { return closed(o.over) })
	for _, o := range b.supervised {
		if v.leg != "" && o.is(v.leg) {
			return o, nil
		}
	}
	if len(b.supervised) >= maxSupervisors {
		return nil, fmt.Errorf("the talk has %d supervisors already; hang one of them up first", maxSupervisors)
	}
	b.supervised = append(b.supervised, v)
	return nil, nil
}

// is reports whether it is a leg's.
func (v *supervision) is(leg webhooks.CallID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.leg == leg || v.by != nil && v.by.who() == leg
}

// change has a supervisor who is there do what is wanted now instead.
func (v *supervision) change(o *acting, now *supervision) error {
	v.mu.Lock()
	by, over := v.by, v.why != nil || v.intercept && v.by != nil
	v.mu.Unlock()
	switch {
	case over:
		return errTalkOver
	case by == nil:
		return errors.New("the supervisor is on the way to this talk already; repeat this when that has been told of")
	case now.intercept:
		return v.promote(by, now)
	}
	if err := by.leg.Watch(now.of.leg, now.role); err != nil {
		return errOffDuty
	}
	v.mu.Lock()
	v.of, v.role = now.of, now.role
	v.mu.Unlock()
	o.data.PeerCallID = by.who()
	by.touch()
	return nil
}

// promote asks the supervisor who hears the talk to take the place of a leg instead.
func (v *supervision) promote(by *Session, now *supervision) error {
	b := v.bond
	b.supervising.Lock()
	b.supervised = append(b.supervised, now)
	b.supervising.Unlock()
	if !by.sendOnDuty(now) {
		now.end(errOffDuty)
		return errOffDuty
	}
	now.of.followSupervision(now)
	return errLater
}

// sendOnDuty has a live leg do it instead of what it runs.
func (s *Session) sendOnDuty(v *supervision) bool {
	if s.deputy != nil {
		select {
		case s.deputy.duties <- v:
		default:
			return false
		}
	} else if !s.give(dutyProgram(v)) {
		return false
	}
	v.expect(s)
	return true
}

// followSupervision tells what comes of it, and ends it with the talk.
func (s *Session) followSupervision(v *supervision) {
	s.spawn(func() {
		select {
		case <-v.began:
		case <-v.over:
		case <-v.bond.over:
			v.giveUp(errTalkOver)
		}
		select {
		case s.besides <- func() { s.toldOf(v) }:
		case <-s.ctx.Done():
		}
		if v.intercept {
			return
		}
		select {
		case <-v.bond.over:
			v.end(errTalkOver)
		case <-v.over:
		}
	})
}

// toldOf tells what came of the op that asked for a supervision, and ends the leg whose place was taken.
func (s *Session) toldOf(v *supervision) {
	v.mu.Lock()
	by, why := v.by, v.why
	v.mu.Unlock()
	if !closed(v.began) {
		v.op.done(why)
		return
	}
	v.op.data.PeerCallID = by.who()
	v.op.done(nil)
	if v.intercept {
		s.cancel(ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByAPI, text: "intercepted"})
	}
}

// end ends the supervision, for the first reason that is given.
func (v *supervision) end(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why == nil {
		v.why = why
		close(v.over)
	}
}

// callSupervisor calls a target for it, for as long as there is a talk.
func (s *Session) callSupervisor(v *supervision, to webhooks.DialTarget) {
	dial := newDial(s.filledIn(to))
	d := &dialing{Dial: &dial, s: s, parties: make(chan party, 2)}
	d.ctx, d.cancel = context.WithCancelCause(s.ctx)
	d.attend = func(leg *Session) {
		if leg.detach() { // from here on it ends with the supervision, or on its own
			leg.attendTo(v)
		}
	}
	call := d.callee(d.To[0])
	s.spawn(func() { s.callTarget(call) })
	s.spawn(func() {
		defer d.cancel(partnerLeft)
		for {
			select {
			case p := <-d.parties:
				if p.state == partyGone {
					v.giveUp(notSupervised(p))
					return
				}
			case <-v.began:
				return
			case <-v.over:
				return
			}
		}
	})
}

// notSupervised says why a supervisor who was called did not come.
func notSupervised(p party) error {
	switch p.end.cause {
	case webhooks.CauseBusy:
		return errors.New("by: the supervisor is busy")
	case webhooks.CauseDeclined:
		return errors.New("by: the supervisor declined")
	case webhooks.CauseNoAnswer:
		return errors.New("by: the supervisor did not answer")
	}
	return fmt.Errorf("by: the supervisor could not be reached: %w", p.end)
}

// giveDuty has a live leg do it instead of what it runs.
func (s *Session) giveDuty(v *supervision, id webhooks.CallID) error {
	other := s.calls.find(id)
	if other == nil {
		s.borrowForDuty(v, id)
		return nil
	}
	code := other.spare(s.account)
	if code == 0 && !other.sendOnDuty(v) {
		code = lendBusy
	}
	if code != 0 {
		return notLent(id, code)
	}
	return nil
}

// borrowForDuty is that for a leg of another edge.
func (s *Session) borrowForDuty(v *supervision, id webhooks.CallID) {
	ctx, stop := context.WithCancel(s.ctx)
	s.spawn(func() {
		defer stop()
		select {
		case <-v.over:
		case <-v.began:
		case <-ctx.Done():
		}
	})
	s.spawn(func() {
		defer stop()
		leg, err := s.borrow(ctx, id)
		if err != nil {
			v.giveUp(err)
			return
		}
		leg.sendOnDuty(v) // which is its first
		s.station(leg)
	})
}

func dutyProgram(v *supervision) webhooks.Program {
	i := &duty{Pause: new(webhooks.Pause), v: v}
	webhooks.Defaults(i.Pause)
	return webhooks.Program{Instructions: []webhooks.Instruction{i}}
}

// expect gives up a live leg that ends, or does something else, before it has begun.
func (v *supervision) expect(by *Session) {
	time.AfterFunc(dutyTime, func() { v.giveUp(errors.New("the supervisor's call does something else")) })
	context.AfterFunc(by.ctx, func() { v.giveUp(errOffDuty) })
}

// giveUp is end unless it has begun.
func (v *supervision) giveUp(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why == nil && !closed(v.began) {
		v.why = why
		close(v.over)
	}
}

// onDuty is a live leg's supervision, until it is over, or the leg is to do something else.
func (s *Session) onDuty(v *supervision) {
	if v.intercept {
		if v.takeOver(s) {
			s.talkInBond(webhooks.EndedByCallee)
		}
		return
	}
	s.watchTalk(v)
}

// attendTo is the life of a leg that was called to supervise.
func (s *Session) attendTo(v *supervision) {
	if v.intercept {
		if v.takeOver(s) {
			s.attend()
		}
		s.cancel(partnerLeft)
		return
	}
	s.watchTalk(v)
	if s.ctx.Err() == nil && s.pending != nil {
		s.onItsOwn()
		s.takeAction()
		s.execute()
		return
	}
	s.cancel(superviseOver)
}

// watchTalk is what a supervisor does who has not taken anybody's place.
func (s *Session) watchTalk(v *supervision) {
	if !v.begin(s) {
		return
	}
	began := time.Now()
	defer func() {
		v.end(errOffDuty)
		s.leg.Unwatch()
		s.news = nil
		s.counts(time.Since(began))
	}()
	s.news = v.over
	for {
		switch woke, e := s.wait(nil); woke {
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokeNews, wokeAction, wokeEnd:
			return
		}
	}
}

// begin lets the supervisor hear the talk. False: there is none any more.
func (v *supervision) begin(by *Session) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why != nil || v.bond.isOver() {
		return false
	}
	if err := by.leg.Watch(v.of.leg, v.role); err != nil {
		return false
	}
	v.by = by
	v.op.made.Store(true)
	by.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: v.of.who()})
	close(v.began)
	return true
}

// takeOver puts the supervisor's leg in the place of the one that the op was made on, which ends when it has told of
// that. False: that one does not speak with its partner any more.
func (v *supervision) takeOver(by *Session) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why != nil || v.bond.isOver() {
		return false
	}
	was := v.bond
	partner := was.other(v.of)
	now := newBond(nil, partner, by, was.refer)
	if was.owner == partner {
		now.owner = partner
	}
	by.mayBond()
	by.enter(now)
	if !partner.trade(was, now) {
		by.leaveBond(now)
		v.why = errTalkOver
		close(v.over)
		return false
	}
	v.by = by
	v.op.made.Store(true)
	now.connect()
	close(v.began)
	return true
}

// leaveBond takes the leg out of a bond that came to nothing.
func (s *Session) leaveBond(b *bond) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bond == b {
		s.bond = nil
	}
}
