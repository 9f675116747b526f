package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The ops of a call that waits in a queue. The control plane, which knows the queue and its agents, makes them; this edge
// asks for it, takes over at once how things stand then, and tells the outcome as that of every other op. So there is one who
// tells, and a change to a call that is not there any more is refused by the one who knows.

const (
	// changeTime bounds how long a change is asked for while the control plane does not answer.
	changeTime = 15 * time.Second
	// changeAgain is the pause between two questions.
	changeAgain = time.Second
)

var (
	errNotQueued = errors.New("the call does not wait in a queue")
	errServed    = errors.New("the call waits no more: it speaks with whoever took it")
	errUntold    = errors.New("the control plane has not said whether the change was made; try again later")
)

// changeQueued has the control plane change the call's place. Several changes are made in the order they came in.
func (s *Session) changeQueued(o *acting, op webhooks.Op) error {
	w := s.queued
	if w == nil {
		return errNotQueued
	}
	w.mu.Lock()
	talking, queue := w.talking, w.entry.QueueID
	w.mu.Unlock()
	if talking {
		return errServed
	}
	change := control.QueueChange{AccountID: s.account, CallID: s.id, QueueID: queue, Do: op.Op()}
	v := s.vars()
	switch op := op.(type) {
	case *webhooks.OpPriority:
		change.Priority = &op.Priority
	case *webhooks.OpMove:
		change.Queue, change.Priority = v.Text(op.Queue), op.Priority
	case *webhooks.OpAssign:
		change.Agent = v.Text(op.Agent)
	}
	before, made := w.changing, make(chan struct{})
	w.changing = made
	var failure error
	s.apart(func(ctx context.Context) {
		defer close(made)
		await(ctx, before)
		failure = w.change(ctx, change)
	}, func() { o.done(failure) })
	return errLater
}

// change asks for a change until it is answered, and takes over what has come of it.
func (w *waiter) change(ctx context.Context, change control.QueueChange) error {
	ctx, done := context.WithTimeout(ctx, changeTime)
	defer done()
	for {
		w.mu.Lock()
		change.QueueID = w.entry.QueueID // an earlier one may have moved it
		w.mu.Unlock()
		asked, stop := context.WithTimeout(ctx, inquiryTime)
		stood, err := w.s.calls.queues().ChangeCaller(asked, change)
		stop()
		switch {
		case err == nil:
			w.stood(stood, change.QueueID, false)
			return nil
		case control.CodeOf(err) != "":
			return refusal(err)
		case !sleep(ctx, changeAgain):
			return errUntold
		}
	}
}
