package calltest

import (
	"context"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// ChangeCaller implements control.Control. Every agent there may be is known.
func (p *Plane) ChangeCaller(_ context.Context, c control.QueueChange) (control.QueueStood, error) {
	if err := p.reachable(); err != nil {
		return control.QueueStood{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues
	e := q.of(c.CallID)
	if e == nil || !e.inQueue() {
		return control.QueueStood{}, &control.Error{Code: control.CodeNotAllowed, Message: "the call waits no more"}
	}
	if err := q.alter(e, c); err != nil {
		return control.QueueStood{}, err
	}
	q.change()
	st := control.QueueStood{ID: e.name(), Status: e.status, Claim: e.claim, QueueStanding: q.standing(e)}
	if e.q.ID != c.QueueID {
		moved := q.told(e)
		st.Moved = &moved
	}
	return st, nil
}

// alter makes the change; the caller holds the plane's mu.
func (q *scriptedQueues) alter(e *queuedCall, c control.QueueChange) error {
	if e.status == control.QueueOffered && c.Do != control.QueuePriority {
		return &control.Error{Code: control.CodeNotAllowed, Message: "the call is being connected; repeat this when it waits again"}
	}
	switch c.Do {
	case control.QueueMove:
		to := q.find(c.Queue)
		switch {
		case to == nil:
			return &control.Error{Code: control.CodeNotFound, Message: "/queue: there is no queue " + c.Queue + " in this account"}
		case to.MaxSize > 0 && len(q.order(to)) >= to.MaxSize:
			return &control.Error{Code: control.CodeFull, Message: "the queue " + to.Name + " is full"}
		}
		e.q, e.ahead, e.assigned = to, false, ""
	case control.QueueAssign:
		e.assigned = webhooks.AgentID(c.Agent)
	}
	if c.Priority != nil {
		e.join.Priority = *c.Priority
	}
	return nil
}
