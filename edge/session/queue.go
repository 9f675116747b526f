package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A call that waits in a queue is held twice: as an entry of the control plane, which says who is next and gives a caller
// to one leg at a time, and as a waiter of the edge that carries it, which has the last word: of the legs that come for one
// caller it connects one, and none with a lower claim than the highest that it knows of.

// waiter is a call's stay in a queue.
type waiter struct {
	s     *Session
	i     *webhooks.Enqueue
	join  control.QueueJoin
	base  string    // of the document that the instruction stands in
	since time.Time // it waits since

	mu        sync.Mutex // guards what follows; that of a session may be taken under it
	entry     control.QueueEntry
	claim     int64         // the highest that is known
	offered   time.Time     // until then, the control plane's word counts that it is offered to a leg
	taker     *taker        // the leg that has come; nil when there is none
	talking   bool          // they speak, or have spoken
	deadline  time.Time     // when it has waited as long as it may; zero for never
	announced time.Time     // when its position was last said
	called    chan struct{} // closed when the waiting is to stop for one of the following
	wanted    bool          // the taker asks to be connected
	expired   bool
	refused   error
	rejoins   bool // its entry is gone: it has to join anew
	gone      bool

	changing <-chan struct{} // closed when the newest live change to it is made; the session's own; nil when there was none
}

// enqueue has the call wait in a queue until it is taken out of it, and then speak with whoever took it.
func (s *Session) enqueue(i *webhooks.Enqueue) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	s.dropTyped()
	w := &waiter{s: s, i: i, base: s.base, since: time.Now(), called: make(chan struct{})}
	defer func() { s.counts(time.Since(w.since)) }()
	w.join = control.QueueJoin{
		Owner: control.Owner{EdgeID: s.calls.cfg.EdgeID, BootID: s.calls.cfg.BootID, Epoch: 1, AccountID: s.account, CallID: s.id},
		Queue: s.vars().Text(i.Queue), Create: i.Create, Priority: i.Priority, MaxWait: i.MaxWait, MaxSize: i.MaxSize,
		From: s.call.From, To: s.call.To, FromName: s.call.FromName, Data: i.Data,
	}
	if t := s.joinQueue(w); t != nil {
		return t
	}
	t := &webhooks.Trigger{Outcome: webhooks.Failed} // should this goroutine panic
	s.queued = w
	defer func() {
		s.queued = nil
		s.leaveQueue(w, t)
	}()
	t = s.stayQueued(w)
	return t
}

// joinWait is the time between two attempts to join while the control plane is away.
const joinWait = time.Second

// joinQueue puts the call into its queue; the trigger is set when it is not in there. A control plane that is away is asked
// again for as long as a verb waits for an answer. Then the instruction fails, for nobody could be found who takes the call:
// the program decides what it does instead.
func (s *Session) joinQueue(w *waiter) *webhooks.Trigger {
	queued := &s.calls.queued
	before := queued.said(s.id)
	ask := func(ctx context.Context) (control.QueueEntry, error) {
		await(ctx, before)
		for {
			entry, err := s.calls.queues().JoinQueue(ctx, w.join)
			if err == nil || control.CodeOf(err) != "" || !sleep(ctx, joinWait) {
				return entry, err
			}
		}
	}
	late := func(e control.QueueEntry, err error) {
		if err != nil {
			if control.CodeOf(err) == "" {
				queued.doubt()
			}
			return
		}
		reason := webhooks.Redirected
		if s.ctx.Err() != nil {
			reason = webhooks.Hangup
		}
		queued.say(s.id, s.calls.leaving(s.account, e, reason))
	}
	entry, t, err := inquire(s, ask, late)
	switch {
	case t != nil:
		return t
	case err == nil:
		s.joined(w, entry)
		return nil
	case control.CodeOf(err) == "": // nobody knows whether the call has a place
		queued.doubt()
	}
	return s.notJoined(err, 0)
}

// notJoined is the outcome of a call that has no place in its queue.
func (s *Session) notJoined(err error, waited time.Duration) *webhooks.Trigger {
	known, _ := errors.AsType[*control.Error](err)
	t := &webhooks.Trigger{}
	if control.CodeOf(err) == control.CodeFull && known.QueueID != "" {
		t.Outcome = webhooks.Full
	} else {
		t = s.failed(refusal(err))
	}
	if known != nil {
		t.QueueID = known.QueueID
	}
	span := webhooks.SecondsOf(waited)
	t.Waited = &span
	return t
}

// joined begins the stay.
func (s *Session) joined(w *waiter, entry control.QueueEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enter(entry)
	s.calls.queued.hold(w)
	s.inQueue(entry)
}

// inQueue tells that the call is in a queue.
func (s *Session) inQueue(e control.QueueEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call.QueueID = e.QueueID
	if !s.over {
		s.emitLocked(webhooks.EventQueueJoined, webhooks.EventData{QueueID: e.QueueID, Name: e.Name, Priority: e.Priority, Position: e.Position})
	}
}

// enter takes over a place in a queue; the caller holds mu.
func (w *waiter) enter(e control.QueueEntry) {
	w.entry, w.announced = e, time.Time{}
	w.deadline = time.Time{}
	switch {
	case e.Remaining != nil:
		w.deadline = time.Now().Add(e.Remaining.Duration())
	case w.i.MaxWait > 0:
		w.deadline = w.since.Add(w.i.MaxWait.Duration())
	}
}

// stop has the waiting stop for what the caller has just noted in w; it holds mu.
func (w *waiter) stop() {
	if !closed(w.called) {
		close(w.called)
	}
}

// stayQueued waits until the call is out of the queue, or has spoken with whoever took it.
func (s *Session) stayQueued(w *waiter) *webhooks.Trigger {
	for {
		left := s.waitInQueue(w)
		switch {
		case s.ctx.Err() != nil, s.pending != nil:
			return s.interrupted()
		case left:
			return &webhooks.Trigger{Outcome: webhooks.Left}
		}
		by, t := w.next()
		if t != nil {
			return t
		}
		if by == nil {
			continue
		}
		if t := s.meetTaker(w, by); t != nil {
			return t
		}
		// Whoever came has gone before the two spoke: the call waits on, in its place.
	}
}

// next says what the waiting has stopped for: a leg that wants the caller, an end, or neither of the two.
func (w *waiter) next() (*taker, *webhooks.Trigger) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if closed(w.called) {
		w.called = make(chan struct{})
	}
	switch {
	case w.wanted && w.taker != nil:
		return w.taker, nil
	case w.refused != nil:
		return nil, w.s.notJoined(w.refused, time.Since(w.since))
	case w.expired:
		return nil, &webhooks.Trigger{Outcome: webhooks.Timeout}
	}
	return nil, nil
}

const (
	// offerGrace is how long an end of the patience is put off while somebody is about to take the call.
	offerGrace = time.Second
	// offerTrust is how long the control plane is believed that somebody is, when no more is heard of it.
	offerTrust = 5 * time.Second
)

// watch ends the waiting when the call has waited as long as it may, until stop is called. While a leg has been offered
// the call it may wait longer.
func (w *waiter) watch() (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deadline.IsZero() {
		return func() {}
	}
	var timer *time.Timer
	stopped := false
	timer = time.AfterFunc(max(0, time.Until(w.deadline)), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if stopped { // while this waited for the lock
			return
		}
		if left := time.Until(w.deadline); left > 0 { // it has joined again
			timer.Reset(left)
			return
		}
		if w.taker != nil || time.Now().Before(w.offered) {
			timer.Reset(offerGrace)
			return
		}
		w.expired = true
		w.stop()
	})
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// standing is where the call stands, for its wait program.
func (w *waiter) standing() *webhooks.Waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	average := w.entry.AverageWait
	return &webhooks.Waiting{
		QueueID: w.entry.QueueID, Name: w.entry.Name, Position: w.entry.Position, Waited: webhooks.SecondsOf(time.Since(w.since)),
		AverageWait: &average, Size: w.entry.Size, MaxSize: w.entry.MaxSize,
	}
}

// leaveQueue ends the stay with the instruction's outcome, which it completes: the entry, and the one queue.left.
func (s *Session) leaveQueue(w *waiter, t *webhooks.Trigger) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	if w.taker != nil {
		w.let(w.taker)
	}
	s.calls.queued.drop(w)
	if s.fenced() { // the call goes on elsewhere
		return
	}
	if s.ctx.Err() != nil {
		t.Outcome = webhooks.Hangup
	}
	s.calls.queued.say(s.id, s.calls.leaving(s.account, w.entry, t.Outcome))
	t.QueueID = w.entry.QueueID
	if t.Waited == nil {
		waited := webhooks.SecondsOf(time.Since(w.since))
		t.Waited = &waited
	}
	if t.Duration == nil && t.Outcome != webhooks.Full {
		t.Position = w.entry.Position
	}
	s.emit(webhooks.EventQueueLeft, webhooks.EventData{
		QueueID: t.QueueID, Name: w.entry.Name, AgentID: t.AgentID, Outcome: t.Outcome, Waited: t.Waited, Position: t.Position, Duration: t.Duration,
	})
	s.mu.Lock()
	s.cdr.QueueTime += *t.Waited
	s.mu.Unlock()
}

// meetTaker is what becomes of the caller when a leg wants it; nil when that has gone before the two spoke.
func (s *Session) meetTaker(w *waiter, by *taker) *webhooks.Trigger {
	if by.dialog != nil {
		return s.meetRemote(w, by)
	}
	if by.screen != nil {
		passed := s.gate(*by.screen, by.left, func() *webhooks.Waiting {
			st := w.standing()
			st.PeerCallID = by.leg
			return st
		})
		if !passed && s.ctx.Err() == nil && s.pending == nil {
			w.decline(by, !closed(by.left))
			return nil
		}
	}
	s.peerGone, s.news = by.left, by.connected
	defer func() { s.peerGone, s.news = nil, nil }()
	close(by.ready)
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return s.talkQueued(by)
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokePeer, wokeAction, wokeEnd:
			w.release(by)
			if closed(by.connected) { // in the same moment
				return s.talkQueued(by)
			}
			if woke == wokePeer {
				return nil
			}
			return s.interrupted()
		}
	}
}

// talkQueued is the caller's talk with the leg that has taken it.
func (s *Session) talkQueued(by *taker) *webhooks.Trigger {
	s.news = nil
	t := s.talkInBond(webhooks.EndedByCallee)
	duration := webhooks.SecondsOf(time.Since(by.began))
	t.CallID, t.AgentID, t.Waited, t.Duration = by.leg, by.agent, &by.waited, &duration
	return t
}

// talkInBond is the talk of two legs that each have a program of their own. They may be given other partners meanwhile; it
// is over when the leg's partner of that time leaves. by is who ended it where the partner hung up.
func (s *Session) talkInBond(by webhooks.EndedBy) *webhooks.Trigger {
	s.inTalk = true
	defer func() { s.inTalk, s.peerGone = false, nil }()
	for {
		b := s.bonded()
		s.peerGone = b.over
		woke, e := s.wait(nil)
		switch {
		case woke == wokePeer && s.bonded() != b: // somebody else is there
		case woke == wokeOrder && s.order.bond != s.bonded():
			s.order.refuse()
		case woke == wokePeer:
			partner := b.other(s)
			s.leg.Unbridge()
			s.part(b, b.why)
			return partedFrom(partner, b.why, by)
		case woke == wokeOrder && s.order.handover != nil:
			s.handOver(s.order.handover, s.order.bond)
		case woke == wokeOrder && s.order.consult != nil:
			s.consultBeside(s.order.consult, s.order.bond, nil)
		case woke == wokeOrder:
			s.order.refuse()
		case woke == wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case woke == wokeAction && keepsPartner(*s.pending):
			s.keeping = true
			return s.interrupted()
		case woke == wokeAction:
			s.leg.Unbridge()
			s.replaced(b)
			return s.interrupted()
		case woke == wokeEnd:
			s.leg.Unbridge()
			s.part(b, s.leaving())
			return s.interrupted()
		}
	}
}

// partedFrom says how a talk ended that the partner has left, or that lasted too long: why says that. by is who ended it
// where the partner hung up.
func partedFrom(partner *Session, why ended, by webhooks.EndedBy) *webhooks.Trigger {
	switch {
	case why.cause == webhooks.CauseTimeLimit:
		return &webhooks.Trigger{Outcome: webhooks.Bridged, EndedBy: webhooks.EndedBySystem}
	case partner.ctx.Err() == nil: // it goes on with something else
		return &webhooks.Trigger{Outcome: webhooks.Bridged, EndedBy: webhooks.EndedByAPI}
	}
	end := endOf(partner.ctx)
	switch end.cause {
	case webhooks.CauseMediaTimeout, webhooks.CauseEdgeLost:
		return &webhooks.Trigger{Outcome: webhooks.Lost, EndedBy: webhooks.EndedBySystem}
	case webhooks.CauseCallerHangup, webhooks.CauseCalleeHangup:
		return &webhooks.Trigger{Outcome: webhooks.Bridged, EndedBy: by}
	}
	if end.by == "" {
		end.by = end.cause.Info().EndedBy
	}
	return &webhooks.Trigger{Outcome: webhooks.Bridged, EndedBy: end.by}
}
