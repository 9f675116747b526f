package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// taker is a leg that has come for a caller who waits.
type taker struct {
	s      *Session    // of a leg of another edge its deputy, once it is there
	dialog *sip.Dialog // of the call from that edge
	leg    webhooks.CallID
	claim  int64
	agent  webhooks.AgentID
	screen *webhooks.Sub // to be run on the caller before the two are connected; its URL is absolute

	over      chan struct{} // closed when the caller is not this leg's any more; under the lock of the waiter
	declined  bool          // the caller's screen refused; set before over closes
	ready     chan struct{} // closed by the caller when it can be connected
	connected chan struct{} // closed by the leg when the two speak, after what follows was set
	began     time.Time
	waited    webhooks.Seconds
	left      chan struct{} // closed by the leg when it has no more to do with the caller
	served    chan struct{} // of a leg of another edge: closed when its INVITE is answered, or the call over
}

// errTaken: the caller is another's, or nobody's any more.
var errTaken = errors.New("the caller is not to be had any more")

// offer has a leg be the one that may be connected with the caller: unless it has left, or a higher claim is known. One with
// a lower claim has to go: the time that it had has passed, and the control plane has given the caller to another. That is
// believed of legs of this edge; one of another comes in when nobody is there.
func (w *waiter) offer(by *taker) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.talking || w.expired || by.claim < w.claim {
		return errTaken
	}
	if w.taker != nil {
		if w.taker.claim >= by.claim || by.dialog != nil {
			return errTaken
		}
		w.let(w.taker)
	}
	w.taker = by
	if by.dialog == nil {
		w.claim = by.claim // another edge's word counts once the control plane has confirmed it
	}
	return nil
}

// want asks the caller to be connected with the leg.
func (w *waiter) want(by *taker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taker == by {
		w.wanted = true
		w.stop()
	}
}

// connect lets the two speak, from now on. False: they are not to.
func (w *waiter) connect(by *taker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taker != by || w.gone {
		return false
	}
	w.tellConnected(by)
	introduce(w.s, by.s)
	close(by.connected)
	return true
}

// tellConnected tells that the caller and a leg speak from now on. The caller holds mu.
func (w *waiter) tellConnected(by *taker) {
	w.talking = true
	by.began = time.Now()
	by.waited = webhooks.SecondsOf(by.began.Sub(w.since))
	w.s.emitLive(webhooks.EventQueueConnected, webhooks.EventData{
		QueueID: w.entry.QueueID, Name: w.entry.Name, AgentID: by.agent, PeerCallID: by.leg, Waited: &by.waited,
	})
}

// mayBond lets the leg have a partner again: it may have left one to go on by itself.
func (s *Session) mayBond() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.parted = false
	}
}

// release ends the caller's business with a leg.
func (w *waiter) release(by *taker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.let(by)
}

// decline is release; refused says that the caller's screen refused the leg.
func (w *waiter) decline(by *taker, refused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taker == by {
		by.declined = refused
	}
	w.let(by)
}

// let is release for a caller that holds mu.
func (w *waiter) let(by *taker) {
	if w.taker != by {
		return
	}
	w.taker, w.wanted = nil, false
	close(by.over)
}

// dequeue connects the leg with the caller who is next in a queue, or with a certain one.
func (s *Session) dequeue(i *webhooks.Dequeue) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	s.dropTyped()
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	v := s.vars()
	q := control.QueueTake{
		AccountID: s.account, Queue: v.Text(i.Queue), CallID: webhooks.CallID(v.Text(string(i.CallID))), Leg: s.id,
		EdgeID: s.calls.cfg.EdgeID, BootID: s.calls.cfg.BootID, AgentID: s.call.AgentID,
	}
	screen := i.Screen
	if screen != nil && screen.Target != nil { // it is the caller who asks
		screen = &webhooks.Sub{Target: &webhooks.Target{URL: s.resolve(v.URL(screen.Target.URL)), Method: screen.Target.Method}}
	}
	deadline := began.Add(i.Timeout.Duration())
	for {
		caller, t := s.nextCaller(q, deadline)
		if t != nil {
			return t
		}
		if t := s.serve(caller, screen); t != nil {
			t.QueueID = caller.QueueID
			return t
		}
		if time.Since(deadline) > lastTries { // nobody whom it is given is there
			return &webhooks.Trigger{Outcome: webhooks.Empty, QueueID: caller.QueueID}
		}
		if t := s.takeBreath(); t != nil {
			return t
		}
	}
}

// lastTries is how long after its time-out a leg still tries to get another caller than one who has just gone.
const lastTries = 2 * time.Second

// breath is the pause before another caller is asked for, when one was not to be had after all: its end may be on its way
// to the control plane.
const breath = 100 * time.Millisecond

func (s *Session) takeBreath() *webhooks.Trigger {
	s.pause(&webhooks.Pause{Length: webhooks.SecondsOf(breath)})
	if s.ctx.Err() != nil || s.pending != nil {
		return s.interrupted()
	}
	return nil
}

// takeAgain is the pause between two questions while the control plane is away.
const takeAgain = time.Second

// nextCaller claims a caller, and waits for one until the deadline; the trigger is set when there is none. A control plane
// that is away is asked again until then.
func (s *Session) nextCaller(q control.QueueTake, deadline time.Time) (*control.QueueCaller, *webhooks.Trigger) {
	before := s.calls.queued.said(s.id)
	for {
		q.Timeout = min(control.MaxQueueTimeout, webhooks.SecondsOf(max(0, time.Until(deadline))))
		taken, t, err := s.askCaller(q, before)
		switch {
		case t != nil:
			return nil, t
		case err == nil && taken.Caller != nil:
			return taken.Caller, nil
		case control.CodeOf(err) != "":
			return nil, s.failed(refusal(err))
		case !time.Now().Before(deadline):
			if err != nil {
				return nil, s.failed(refusal(err))
			}
			return nil, &webhooks.Trigger{Outcome: webhooks.Empty}
		case err != nil:
			s.log.Warn("queue.unasked", "error", err.Error())
			s.pause(&webhooks.Pause{Length: min(webhooks.SecondsOf(takeAgain), webhooks.SecondsOf(time.Until(deadline)))})
			if s.ctx.Err() != nil || s.pending != nil {
				return nil, s.interrupted()
			}
		}
	}
}

// askCaller is one question for a caller, which ends with the leg's patience for it: a caller who is given to it all the same
// is given back.
func (s *Session) askCaller(q control.QueueTake, before <-chan struct{}) (control.QueueTaken, *webhooks.Trigger, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), q.Timeout.Duration()+inquiryTime)
	var taken control.QueueTaken
	var err error
	answered, gone := make(chan struct{}), make(chan struct{})
	s.spawn(func() {
		defer cancel()
		await(ctx, before)
		taken, err = s.calls.queues().TakeCaller(ctx, q)
		select {
		case answered <- struct{}{}:
		case <-gone:
			if err == nil && taken.Caller != nil {
				s.giveBack(taken.Caller, control.QueueCanceled)
			}
		}
	})
	s.news = answered
	defer func() { s.news = nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return taken, nil, err
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			cancel()
			close(gone)
			return control.QueueTaken{}, s.interrupted(), nil
		}
	}
}

// giveBack has a caller wait again.
func (s *Session) giveBack(c *control.QueueCaller, why string) {
	r := control.QueueReturn{QueueClaim: control.QueueClaim{AccountID: s.account, ID: c.ID, Claim: c.Claim}, Why: why}
	s.calls.queued.say(s.id, func(ctx context.Context) error { return s.calls.queues().ReturnCaller(ctx, r) })
}

// serve connects the leg with a caller whom it was given, and is their talk; nil when the caller was not to be had after all.
func (s *Session) serve(c *control.QueueCaller, screen *webhooks.Sub) *webhooks.Trigger {
	s.calls.queued.claimed(1)
	defer s.calls.queued.claimed(-1)
	if c.EdgeID != s.calls.cfg.EdgeID {
		return s.serveElsewhere(c, screen)
	}
	w := s.calls.queued.find(c.ID)
	if w == nil || w.s == s {
		s.giveBack(c, control.QueueCanceled)
		return nil
	}
	by := &taker{
		s: s, leg: s.id, claim: c.Claim, agent: s.call.AgentID, screen: screen,
		over: make(chan struct{}), ready: make(chan struct{}), connected: make(chan struct{}), left: make(chan struct{}),
	}
	if w.offer(by) != nil {
		s.giveBack(c, control.QueueCanceled)
		return nil
	}
	defer close(by.left)
	w.tellOffer(by)
	s.setData(c.Data)
	if t, ok := s.screenedFor(w, by, c); !ok {
		w.release(by)
		return t
	}
	t := s.connectCaller(w, by, c)
	if t == nil || t.Duration == nil {
		w.release(by)
	}
	return t
}

// tellOffer tells that an agent is rung.
func (w *waiter) tellOffer(by *taker) {
	if by.agent == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	waited := webhooks.SecondsOf(time.Since(w.since))
	w.s.emitLive(webhooks.EventQueueOffered, webhooks.EventData{
		QueueID: w.entry.QueueID, Name: w.entry.Name, AgentID: by.agent, PeerCallID: by.leg, Waited: &waited,
	})
}

// screenedFor runs what the leg is to hear of the caller before it is connected: what the enqueue brings, else what the queue
// has. Not ok: it is not connected, and the trigger is nil when the caller has gone meanwhile. Meanwhile the caller waits on.
func (s *Session) screenedFor(w *waiter, by *taker, c *control.QueueCaller) (t *webhooks.Trigger, ok bool) {
	screen, base := w.i.Screen, w.base
	if screen == nil {
		screen, base = subOf(c.Screen), s.base
	}
	if screen == nil {
		return nil, true
	}
	program := s.base
	s.base = base
	defer func() { s.base = program }()
	return s.screenAlone(*screen, c, by.over)
}

// screenAlone runs a screen on this leg while the caller waits on, for as long as the leg may have the caller: until over
// closes. Not ok: as in screenedFor; the caller was given back.
func (s *Session) screenAlone(screen webhooks.Sub, c *control.QueueCaller, over <-chan struct{}) (t *webhooks.Trigger, ok bool) {
	within, stop := context.WithTimeout(context.Background(), c.Within.Duration())
	defer stop()
	s.spawn(func() {
		select {
		case <-over:
			stop()
		case <-within.Done():
		}
	})
	passed := s.gate(screen, within.Done(), nil)
	switch {
	case s.ctx.Err() != nil, s.pending != nil:
		s.giveBack(c, control.QueueCanceled)
		return s.interrupted(), false
	case closed(over):
		s.giveBack(c, control.QueueCanceled)
		return nil, false
	case !passed: // refused, or not heard to its end in time
		s.giveBack(c, control.QueueUnanswered)
		return &webhooks.Trigger{Outcome: webhooks.Empty}, false
	}
	return nil, true
}

// connectCaller connects the two when the caller is ready, and is their talk; nil when the caller was not to be had.
func (s *Session) connectCaller(w *waiter, by *taker, c *control.QueueCaller) *webhooks.Trigger {
	w.want(by)
	if t, ok := s.awaitCaller(by); !ok {
		s.giveBack(c, control.QueueCanceled)
		return t
	}
	claim := control.QueueClaim{AccountID: s.account, ID: c.ID, Claim: c.Claim}
	confirm := func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.calls.queues().ConfirmCaller(ctx, claim)
	}
	// A claim that is confirmed for a leg that has gone meanwhile is noticed by the next renewal: see waiter.stood.
	none := func(struct{}, error) {}
	_, t, err := inquire(s, confirm, none)
	switch {
	case t != nil:
		s.giveBack(c, control.QueueCanceled)
		return t
	case control.CodeOf(err) != "":
		return nil
	}
	if !w.connect(by) {
		return nil
	}
	if err != nil { // the two are both here: they need not wait until the control plane is back
		s.calls.queued.say(s.id, func(ctx context.Context) error { return s.calls.queues().ConfirmCaller(ctx, claim) })
	}
	return s.talkTaken(w.s.id, by.waited, by.began)
}

// talkTaken is the talk with a caller out of a queue.
func (s *Session) talkTaken(caller webhooks.CallID, waited webhooks.Seconds, began time.Time) *webhooks.Trigger {
	t := s.talkInBond(webhooks.EndedByCaller)
	if t.Outcome == webhooks.Lost { // dequeue does not tell how the caller went
		t.Outcome = webhooks.Bridged
	}
	duration := webhooks.SecondsOf(time.Since(began))
	t.CallID, t.Waited, t.Duration = caller, &waited, &duration
	return t
}

// awaitCaller waits until the caller is ready to be connected. Not ok: it is not to be, and the trigger is nil when the next
// may be asked for.
func (s *Session) awaitCaller(by *taker) (t *webhooks.Trigger, ok bool) {
	s.peerGone, s.news = by.over, by.ready
	defer func() { s.peerGone, s.news = nil, nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return nil, true
		case wokePeer:
			if by.declined {
				return &webhooks.Trigger{Outcome: webhooks.Empty}, false
			}
			return nil, false
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			return s.interrupted(), false
		}
	}
}
