package calltest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Queue is a queue of the scripted control plane.
type Queue struct {
	ID       webhooks.QueueID
	Name     string
	Disabled bool
	MaxSize  int              // 0 without limit
	MaxWait  webhooks.Seconds // 0 without limit
	// Offer is how long a leg may have a caller before it speaks with it; 30 s.
	Offer            webhooks.Seconds
	Wait, Screen     *webhooks.Program
	MusicID          webhooks.MediaID
	AnnouncePosition bool
	AnnounceInterval webhooks.Seconds
}

// queuedCall is a call in a queue, and after that what became of it.
type queuedCall struct {
	id, token int64
	q         *Queue
	join      control.QueueJoin
	owner     control.Owner
	at        time.Time // since when it waits
	ahead     bool
	status    string
	claim     int64
	leg       webhooks.CallID // that has taken it
	boot      string          // of that
	until     time.Time       // of the claim
	reason    webhooks.Outcome
	assigned  webhooks.AgentID // for whom alone it is kept
}

// hasLeft is the status of an entry that is out of its queue.
const hasLeft = "left"

func (e *queuedCall) name() string { return fmt.Sprintf("wait_%026d", e.id) }

func (e *queuedCall) inQueue() bool {
	return e.status == control.QueueWaiting || e.status == control.QueueOffered
}

// scriptedQueues is the control plane's side of queues, as the contract has it: who is next, one leg at a time, fenced by
// claims and tokens. The plane's mu guards it.
type scriptedQueues struct {
	queues  []*Queue
	entries []*queuedCall
	heard   map[string]time.Time // by boot id: the last renewal
	changed chan struct{}        // closed, and made anew, with every change
}

// edgeLease is how long an edge may be silent before its callers are passed over.
const edgeLease = 5 * time.Second

func (q *scriptedQueues) change() {
	if q.changed != nil {
		close(q.changed)
	}
	q.changed = make(chan struct{})
}

func (q *scriptedQueues) hear(boot string) {
	if q.heard == nil {
		q.heard = map[string]time.Time{}
	}
	q.heard[boot] = time.Now()
}

func (q *scriptedQueues) leased(boot string) bool { return time.Since(q.heard[boot]) < edgeLease }

// expire gives back what was taken too long ago, or by an edge that is silent.
func (q *scriptedQueues) expire() {
	for _, e := range q.entries {
		if e.status == control.QueueOffered && (time.Now().After(e.until) || !q.leased(e.boot)) {
			e.status, e.leg = control.QueueWaiting, ""
		}
	}
}

// Queue makes a queue. change may be nil.
func (p *Plane) Queue(name string, change func(*Queue)) *Queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues.add(name)
	if change != nil {
		change(q)
	}
	return q
}

func (q *scriptedQueues) add(name string) *Queue {
	made := &Queue{ID: webhooks.QueueID(fmt.Sprintf("que_%026d", len(q.queues)+1)), Name: name, Offer: 30}
	q.queues = append(q.queues, made)
	return made
}

func (q *scriptedQueues) find(ref string) *Queue {
	for _, one := range q.queues {
		if one.Name == ref || string(one.ID) == ref {
			return one
		}
	}
	return nil
}

// order is those in a queue, who is next first.
func (q *scriptedQueues) order(of *Queue) []*queuedCall {
	var all []*queuedCall
	for _, e := range q.entries {
		if e.q == of && e.inQueue() {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b *queuedCall) int {
		switch {
		case a.ahead && !b.ahead:
			return -1
		case b.ahead && !a.ahead:
			return 1
		}
		return cmp.Compare(a.at.Add(-time.Duration(a.join.Priority)*time.Minute).UnixNano(), b.at.Add(-time.Duration(b.join.Priority)*time.Minute).UnixNano())
	})
	return all
}

func (q *scriptedQueues) standing(e *queuedCall) control.QueueStanding {
	all := q.order(e.q)
	st := control.QueueStanding{
		Position: slices.Index(all, e) + 1, Size: len(all), MaxSize: e.q.MaxSize, Waited: webhooks.SecondsOf(time.Since(e.at)), AverageWait: 7,
	}
	most := e.q.MaxWait
	if e.join.MaxWait > 0 {
		most = e.join.MaxWait
	}
	if most > 0 {
		remaining := most - st.Waited
		st.Remaining = &remaining
	}
	return st
}

func (q *scriptedQueues) told(e *queuedCall) control.QueueEntry {
	return control.QueueEntry{
		ID: e.name(), Token: e.token, QueueID: e.q.ID, Name: e.q.Name, Priority: e.join.Priority, QueueStanding: q.standing(e),
		Wait: e.q.Wait, Screen: e.q.Screen, MusicID: e.q.MusicID, AnnouncePosition: e.q.AnnouncePosition, AnnounceInterval: e.q.AnnounceInterval,
	}
}

// InQueue returns the calls in a queue, who is next first.
func (p *Plane) InQueue(name string) []webhooks.CallID {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []webhooks.CallID
	for _, e := range p.queues.order(p.queues.find(name)) {
		ids = append(ids, e.join.CallID)
	}
	return ids
}

// Reasons returns why calls have left a queue, in the order they came.
func (p *Plane) Reasons(name string) []webhooks.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []webhooks.Outcome
	for _, e := range p.queues.entries {
		if e.q.Name == name && e.status == hasLeft {
			all = append(all, e.reason)
		}
	}
	return all
}

// Claims returns how often callers were given to legs.
func (p *Plane) Claims() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, e := range p.queues.entries {
		n += e.claim
	}
	return n
}

// Lose gives up a waiting call as lost.
func (p *Plane) Lose(call webhooks.CallID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.queues.of(call); e != nil {
		e.status, e.reason = hasLeft, webhooks.Lost
		p.queues.change()
	}
}

// Reclaim takes a caller from the leg that has it, as when that took too long.
func (p *Plane) Reclaim(call webhooks.CallID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.queues.of(call); e != nil && e.status == control.QueueOffered {
		e.status, e.leg = control.QueueWaiting, ""
		p.queues.change()
	}
}

// MoveCaller puts a waiting call into another queue.
func (p *Plane) MoveCaller(call webhooks.CallID, queue string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.queues.of(call); e != nil {
		e.q = p.queues.find(queue)
		p.queues.change()
	}
}

func (q *scriptedQueues) of(call webhooks.CallID) *queuedCall {
	for _, e := range slices.Backward(q.entries) {
		if e.join.CallID == call && e.status != hasLeft {
			return e
		}
	}
	return nil
}

func (q *scriptedQueues) byID(id string) *queuedCall {
	for _, e := range q.entries {
		if e.name() == id {
			return e
		}
	}
	return nil
}

// JoinQueue implements control.Control.
func (p *Plane) JoinQueue(_ context.Context, j control.QueueJoin) (control.QueueEntry, error) {
	if err := p.reachable(); err != nil {
		return control.QueueEntry{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues
	q.hear(j.BootID)
	of := q.find(j.Queue)
	switch {
	case of == nil && j.Create:
		of = q.add(j.Queue)
	case of == nil:
		return control.QueueEntry{}, &control.Error{Code: control.CodeNotFound, Message: "there is no queue " + j.Queue}
	}
	for _, e := range slices.Backward(q.entries) {
		if e.join.CallID != j.CallID {
			continue
		}
		if e.q == of && (e.inQueue() || e.status == hasLeft && e.reason == webhooks.Lost) {
			if e.status == hasLeft || e.owner != j.Owner {
				e.token++
			}
			if e.status == hasLeft {
				e.status, e.reason = control.QueueWaiting, ""
			}
			q.change()
			return q.told(e), nil
		}
		if e.status != hasLeft {
			e.status, e.reason = hasLeft, webhooks.Redirected
		}
		break
	}
	size := of.MaxSize
	if j.MaxSize > 0 {
		size = j.MaxSize
	}
	switch {
	case of.Disabled:
		return control.QueueEntry{}, &control.Error{Code: control.CodeClosed, Message: "the queue takes no more calls"}
	case size > 0 && len(q.order(of)) >= size:
		return control.QueueEntry{}, &control.Error{Code: control.CodeFull, Message: "as many wait as may", QueueID: of.ID}
	}
	e := &queuedCall{id: int64(len(q.entries)) + 1, token: 1, q: of, join: j, owner: j.Owner, at: time.Now(), status: control.QueueWaiting}
	q.entries = append(q.entries, e)
	q.change()
	return q.told(e), nil
}

// RenewQueues implements control.Control.
func (p *Plane) RenewQueues(_ context.Context, r control.QueueRenewal) (control.QueuesRenewed, error) {
	if err := p.reachable(); err != nil {
		return control.QueuesRenewed{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues
	q.hear(r.BootID)
	q.expire()
	var out control.QueuesRenewed
	if !slices.IsSortedFunc(r.Held, func(a, b control.QueueHeld) int { return cmp.Compare(a.ID, b.ID) }) {
		p.t.Errorf("the entries of a renewal are not sorted: %v", r.Held)
	}
	for _, h := range r.Held {
		e := q.byID(h.ID)
		if e == nil || e.status == hasLeft || e.token != h.Token || e.owner.BootID != r.BootID {
			out.Lost = append(out.Lost, h.ID)
			continue
		}
		st := control.QueueStood{ID: h.ID, Status: e.status, Claim: e.claim, QueueStanding: q.standing(e)}
		if e.q.ID != h.QueueID {
			moved := q.told(e)
			st.Moved = &moved
		}
		out.Entries = append(out.Entries, st)
	}
	return out, nil
}

// LeaveQueue implements control.Control.
func (p *Plane) LeaveQueue(_ context.Context, l control.QueueLeave) error {
	if err := p.reachable(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.queues.byID(l.ID)
	switch {
	case !webhooks.HasOutcome("enqueue", l.Reason):
		return &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("%q is no outcome of enqueue", l.Reason)}
	case e == nil, e.status == hasLeft:
		return nil
	case l.Token < e.token:
		return &control.Error{Code: control.CodeFenced, Message: "another edge has the call"}
	}
	e.status, e.reason = hasLeft, l.Reason
	p.queues.change()
	return nil
}

// TakeCaller implements control.Control.
func (p *Plane) TakeCaller(ctx context.Context, t control.QueueTake) (control.QueueTaken, error) {
	deadline := time.Now().Add(min(t.Timeout, control.MaxQueueTimeout).Duration())
	for {
		taken, changed, err := p.takeOnce(t)
		left := time.Until(deadline)
		if err != nil || taken.Caller != nil || left <= 0 {
			return taken, err
		}
		timer := time.NewTimer(min(left, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return control.QueueTaken{}, context.Cause(ctx)
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (p *Plane) takeOnce(t control.QueueTake) (control.QueueTaken, <-chan struct{}, error) {
	if err := p.reachable(); err != nil {
		return control.QueueTaken{}, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues
	q.hear(t.BootID)
	q.expire()
	if q.changed == nil {
		q.change()
	}
	of := q.find(t.Queue)
	if of == nil && t.CallID == "" {
		return control.QueueTaken{}, nil, &control.Error{Code: control.CodeNotFound, Message: "there is no queue " + t.Queue}
	}
	fits := func(e *queuedCall) bool {
		return e.q == of && (e.assigned == "" || e.assigned == t.AgentID) || t.CallID != "" && e.join.CallID == t.CallID
	}
	var next *queuedCall
	for _, e := range q.entries {
		if e.status == control.QueueOffered && e.leg == t.Leg && fits(e) {
			next = e
		}
	}
	if next == nil {
		for _, one := range q.queues {
			for _, e := range q.order(one) {
				expired := q.standing(e).Remaining != nil && *q.standing(e).Remaining <= 0
				if next == nil && fits(e) && e.status == control.QueueWaiting && !expired && q.leased(e.owner.BootID) && e.join.CallID != t.Leg {
					next = e
				}
			}
		}
		if next == nil {
			return control.QueueTaken{}, q.changed, nil
		}
		next.claim++
		next.status, next.leg, next.boot = control.QueueOffered, t.Leg, t.BootID
		next.until = time.Now().Add(next.q.Offer.Duration())
		q.change()
	}
	return control.QueueTaken{Caller: &control.QueueCaller{
		ID: next.name(), Claim: next.claim, CallID: next.join.CallID, EdgeID: next.owner.EdgeID, SIP: p.addresses[next.owner.EdgeID],
		QueueID: next.q.ID, Name: next.q.Name, Priority: next.join.Priority, Waited: webhooks.SecondsOf(time.Since(next.at)),
		From: next.join.From, To: next.join.To, FromName: next.join.FromName, Data: next.join.Data, Screen: next.q.Screen,
		Within: webhooks.SecondsOf(time.Until(next.until)),
	}}, nil, nil
}

// ConfirmCaller implements control.Control.
func (p *Plane) ConfirmCaller(_ context.Context, c control.QueueClaim) error {
	if err := p.reachable(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues.expire()
	e := p.queues.byID(c.ID)
	if e == nil || e.claim != c.Claim || e.status != control.QueueOffered && e.status != control.QueueConnected {
		return &control.Error{Code: control.CodeFenced, Message: "the caller is gone, or another's"}
	}
	e.status = control.QueueConnected
	p.queues.change()
	return nil
}

// ReturnCaller implements control.Control.
func (p *Plane) ReturnCaller(_ context.Context, r control.QueueReturn) error {
	if err := p.reachable(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.queues.byID(r.ID)
	if e == nil || e.claim != r.Claim || e.status != control.QueueOffered && e.status != control.QueueWaiting {
		return &control.Error{Code: control.CodeFenced, Message: "there is nothing to give back"}
	}
	if e.status == control.QueueOffered {
		e.status, e.leg = control.QueueWaiting, ""
		e.ahead = e.ahead || r.Why == control.QueueUnanswered
		p.queues.change()
	}
	return nil
}

// checkQueues: nobody is left in a queue whose edge has ended. The caller holds mu.
func (p *Plane) checkQueues() {
	for _, e := range p.queues.entries {
		if e.status != hasLeft {
			p.t.Errorf("call %s is still %s in queue %s", e.join.CallID, e.status, e.q.Name)
		}
	}
}

// Forget removes what is left of a call that was given up as lost: it finds no place again.
func (p *Plane) Forget(call webhooks.CallID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.queues.entries {
		if e.join.CallID == call && e.status == hasLeft {
			e.reason = webhooks.Hangup
		}
	}
}
