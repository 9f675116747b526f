package session

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// queueing is what an edge holds of queues. Its wake must be made.
type queueing struct {
	wake chan struct{} // there is something unsaid

	mu       sync.Mutex         // guards what follows
	waiting  map[string]*waiter // by entry
	claims   int                // callers whom legs of this edge have taken, and who do not speak yet
	doubtful time.Time          // until then, the control plane may have entries of ours that we know nothing of
	unsaid   []*saying
}

// saying is what the control plane has to be told until it has answered: that a caller has left, or goes back.
type saying struct {
	call webhooks.CallID
	tell func(context.Context) error
	said chan struct{} // closed when it has answered
}

const (
	renewTime    = 2 * time.Second // for one renewal: the next is due
	doubtTime    = time.Minute     // longer than the control plane keeps an entry that is not renewed
	queuesAtOnce = 32              // questions
)

func (c *Calls) queues() control.Queues { return c.cfg.Control.(control.Queues) }

// leaving tells that a call has left its queue.
func (c *Calls) leaving(account webhooks.AccountID, e control.QueueEntry, reason webhooks.Outcome) func(context.Context) error {
	l := control.QueueLeave{AccountID: account, ID: e.ID, Token: e.Token, Reason: reason}
	return func(ctx context.Context) error { return c.queues().LeaveQueue(ctx, l) }
}

// hold makes a waiter the one of its entry. The caller holds the waiter's mu.
func (q *queueing) hold(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = map[string]*waiter{}
	}
	q.waiting[w.entry.ID] = w
}

// drop ends that. The caller holds the waiter's mu.
func (q *queueing) drop(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting[w.entry.ID] == w {
		delete(q.waiting, w.entry.ID)
	}
}

func (q *queueing) find(entry string) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting[entry]
}

// claimed counts callers who were taken and do not speak yet.
func (q *queueing) claimed(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.claims += n
}

// doubt has renewals go on for a while, so that the control plane learns which entries we do not know.
func (q *queueing) doubt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.doubtful = time.Now().Add(doubtTime)
}

// say tells the control plane something about a call, until it answers.
func (q *queueing) say(call webhooks.CallID, tell func(context.Context) error) {
	q.mu.Lock()
	q.unsaid = append(q.unsaid, &saying{call: call, tell: tell, said: make(chan struct{})})
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// said is closed when the last thing was said that is to be of a call; nil when there is nothing.
func (q *queueing) said(call webhooks.CallID) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range slices.Backward(q.unsaid) {
		if u.call == call {
			return u.said
		}
	}
	return nil
}

// await waits for a channel to close, nil being closed, or for the end of ctx.
func await(ctx context.Context, c <-chan struct{}) {
	if c == nil {
		return
	}
	select {
	case <-c:
	case <-ctx.Done():
	}
}

// run says what is to be said until ctx ends: at once, and once a second what has not been answered.
func (q *queueing) run(ctx context.Context) {
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-again.C:
		}
		q.sayAll(ctx)
	}
}

// sayAll says what is to be said. Of one call it is said in order: that a call has left must not be heard after it has joined
// again.
func (q *queueing) sayAll(ctx context.Context) {
	for q.sayFirst(ctx) {
	}
}

// sayFirst says the first thing that is to be said of each call. True: there is more, and it may be said now.
func (q *queueing) sayFirst(ctx context.Context) (more bool) {
	q.mu.Lock()
	first := map[webhooks.CallID]*saying{}
	for _, u := range q.unsaid {
		if first[u.call] == nil {
			first[u.call] = u
		}
	}
	q.mu.Unlock()
	limit := make(chan struct{}, queuesAtOnce)
	var all sync.WaitGroup
	for _, u := range first {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			ctx, done := context.WithTimeout(ctx, inquiryTime)
			defer done()
			if err := u.tell(ctx); err == nil || control.CodeOf(err) != "" {
				close(u.said)
			}
		})
	}
	all.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unsaid = slices.DeleteFunc(q.unsaid, func(u *saying) bool { return closed(u.said) })
	for _, u := range q.unsaid {
		if said := first[u.call]; said == nil || closed(said.said) {
			more = true
		}
	}
	return more
}

// settle waits until everything is said, or ctx ends.
func (q *queueing) settle(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		q.mu.Lock()
		done := len(q.unsaid) == 0
		q.mu.Unlock()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renewQueues says every second what this edge holds, while it holds anything, and acts on what it is told of that.
func (c *Calls) renewQueues(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.renewAll(ctx)
		}
	}
}

func (c *Calls) renewAll(ctx context.Context) {
	held, needed := c.queued.held()
	if !needed {
		return
	}
	after := ""
	for here := true; here; {
		some := held[:min(len(held), control.MaxQueueRenewal)]
		r := control.QueueRenewal{EdgeID: c.cfg.EdgeID, BootID: c.cfg.BootID, After: after}
		if held = held[len(some):]; len(held) > 0 {
			r.Upto = some[len(some)-1].id
		}
		if !c.renew(ctx, r, some) {
			return
		}
		after, here = r.Upto, len(held) > 0
	}
	c.rejoin(ctx)
}

// renewing is a waiter as a renewal names it.
type renewing struct {
	*waiter
	id    string
	token int64
	queue webhooks.QueueID
	alone bool // no leg has come for it
}

// held is everyone who waits here, by their entries; needed is whether the control plane wants to hear of it.
func (q *queueing) held() (all []renewing, needed bool) {
	for _, w := range q.everyone() {
		w.mu.Lock()
		if !w.rejoins && !w.gone {
			all = append(all, renewing{w, w.entry.ID, w.entry.Token, w.entry.QueueID, w.taker == nil && !w.talking})
		}
		w.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b renewing) int { return strings.Compare(a.id, b.id) })
	q.mu.Lock()
	defer q.mu.Unlock()
	return all, len(q.waiting) > 0 || q.claims > 0 || time.Now().Before(q.doubtful)
}

// everyone is all who wait here, or speak with whoever took them.
func (q *queueing) everyone() []*waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Values(q.waiting))
}

// renew is one renewal. False: the control plane is away.
func (c *Calls) renew(ctx context.Context, r control.QueueRenewal, some []renewing) bool {
	named := make(map[string]renewing, len(some))
	for _, w := range some {
		r.Held = append(r.Held, control.QueueHeld{ID: w.id, Token: w.token, QueueID: w.queue})
		named[w.id] = w
	}
	asked, done := context.WithTimeout(ctx, renewTime)
	defer done()
	told, err := c.queues().RenewQueues(asked, r)
	if err != nil {
		if control.CodeOf(err) != "" {
			c.cfg.Logger.Error("queues.renew", "error", err.Error())
		}
		return false
	}
	for _, e := range told.Entries {
		if w, ok := named[e.ID]; ok {
			w.stood(e, w.queue, w.alone)
		}
	}
	for _, id := range told.Lost {
		if w, ok := named[id]; ok {
			w.lose(w.token)
		}
	}
	return true
}

// stood takes over how things stand. queue is what the edge had said it is in: news that a move has overtaken is nothing.
// alone is whether no leg had come when it was asked for: then an entry that is connected was confirmed for a leg that went
// away in the same moment, and the call has to join again.
func (w *waiter) stood(e control.QueueStood, queue webhooks.QueueID, alone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.talking || w.entry.ID != e.ID || w.entry.QueueID != queue {
		return
	}
	w.claim = max(w.claim, e.Claim)
	w.offered = time.Time{}
	if e.Status == control.QueueOffered {
		w.offered = time.Now().Add(offerTrust)
	}
	if e.Status == control.QueueConnected {
		w.rejoins = w.rejoins || alone && w.taker == nil
		return
	}
	if e.Moved != nil {
		w.move(*e.Moved)
		return
	}
	w.entry.QueueStanding = e.QueueStanding
}

// move takes the call into another queue: one stay ends and the next begins. The caller holds mu.
func (w *waiter) move(e control.QueueEntry) {
	waited := webhooks.SecondsOf(time.Since(w.since))
	w.s.emitLive(webhooks.EventQueueLeft, webhooks.EventData{
		QueueID: w.entry.QueueID, Name: w.entry.Name, Outcome: webhooks.Redirected, Waited: &waited, Position: w.entry.Position,
	})
	w.s.calls.queued.drop(w)
	w.enter(e)
	w.s.calls.queued.hold(w)
	w.s.inQueue(e)
	w.stop() // what is to be heard may be another
}

// lose notes that the entry is gone, or another's. Who speaks already needs none.
func (w *waiter) lose(token int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gone && !w.talking && w.entry.Token == token {
		w.rejoins = true
	}
}

// rejoin has those join again who have lost their places.
func (c *Calls) rejoin(ctx context.Context) {
	limit := make(chan struct{}, queuesAtOnce)
	var all sync.WaitGroup
	for _, w := range c.queued.everyone() {
		w.mu.Lock()
		rejoins := w.rejoins && !w.gone
		w.mu.Unlock()
		if !rejoins {
			continue
		}
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			w.rejoin(ctx)
		})
	}
	all.Wait()
}

// rejoin has the call join its queue again. Where it does not find its old place, what it has waited counts as priority, of
// which a step is worth a minute.
func (w *waiter) rejoin(ctx context.Context) {
	const most = 1000 // that a priority may be
	j := w.join
	w.mu.Lock()
	j.Queue = string(w.entry.QueueID)
	w.mu.Unlock()
	waited := time.Since(w.since)
	j.Priority = min(most, j.Priority+int(waited/time.Minute))
	if j.MaxWait > 0 {
		j.MaxWait = max(1, j.MaxWait-webhooks.SecondsOf(waited))
	}
	ctx, done := context.WithTimeout(ctx, inquiryTime)
	defer done()
	entry, err := w.s.calls.queues().JoinQueue(ctx, j)
	if err != nil && control.CodeOf(err) == "" {
		return // the next renewal sees to it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.gone:
		if err == nil {
			w.s.calls.queued.say(w.s.id, w.s.calls.leaving(w.s.account, entry, webhooks.Left))
		}
	case err != nil:
		w.refused = err
		w.stop()
	default:
		w.s.calls.queued.drop(w)
		announced := w.announced
		w.enter(entry)
		w.announced, w.claim, w.offered, w.rejoins = announced, 0, time.Time{}, false
		w.s.calls.queued.hold(w)
	}
}
