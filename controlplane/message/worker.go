package message

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

const (
	// lanesMost bounds the providers that one process sends by at a time, and parallel the messages of each.
	lanesMost = 32
	parallel  = 8
	// maxAttempts is how often a message is sent that was not taken, over about a quarter of an hour and at most until it
	// expires. A provider that is only too busy does not count.
	maxAttempts = 8
	// maxUncertain is how often a message is sent of which nobody knows whether it was taken.
	maxUncertain = 3
	// attemptWithin bounds one attempt. It is less than the lease.
	attemptWithin = 4 * time.Minute
	// linesEvery and sweepEvery are how often sessions are looked after, and what Sweep does, in times that something to send
	// is looked for.
	linesEvery = 5
	sweepEvery = 60
)

// worker is one Run of a Service.
type worker struct {
	*Service
	owner string // of leases
	all   sync.WaitGroup
	// ended gives the id of each lane that has ended.
	ended chan string

	lanes map[string]bool // of Run's goroutine

	mu    sync.Mutex // guards lines
	lines map[string]*line
}

// Run sends what is due and tells status URLs until ctx ends, keeps sessions with message centres, and waits for what is on
// its way.
func (s *Service) Run(ctx context.Context) error {
	w := &worker{Service: s, owner: db.NewID("message"), ended: make(chan string), lanes: map[string]bool{}, lines: map[string]*line{}}
	var callbacks sync.WaitGroup
	callbacks.Go(func() { s.tellCallbacks(ctx) })
	defer callbacks.Wait()
	every := or(s.Poll, time.Second)
	poll, lines, sweep := time.NewTicker(every), time.NewTicker(linesEvery*every), time.NewTicker(sweepEvery*every)
	defer poll.Stop()
	defer lines.Stop()
	defer sweep.Stop()
	var sub *bus.Subscription
	var messages <-chan bus.Message
	defer func() {
		if sub != nil {
			_ = sub.Close() // a bus that is gone has nothing to say
		}
	}()
	w.try(ctx, "message.lines", w.keepLines)
	for {
		if messages == nil {
			if fresh, err := s.Bus.Subscribe(ctx, topic); err == nil {
				sub, messages = fresh, fresh.C
			}
		}
		w.try(ctx, "message.look", w.look)
		select {
		case <-ctx.Done():
			w.drain()
			return nil
		case id := <-w.ended:
			delete(w.lanes, id)
			continue
		case _, ok := <-messages:
			if !ok {
				messages = nil
				// Not at once again: the bus is closed.
				select {
				case <-ctx.Done():
				case <-poll.C:
				}
			}
		case <-poll.C:
		case <-lines.C:
			w.try(ctx, "message.lines", w.keepLines)
		case <-sweep.C:
			w.try(ctx, "message.sweep", s.Sweep)
		}
	}
}

// try does a part of Run's work whose failure is repeated with it.
func (w *worker) try(ctx context.Context, name string, fn func(context.Context) error) {
	if err := fn(ctx); err != nil && ctx.Err() == nil {
		w.Log.Error(name, "error", err.Error())
	}
}

// drain waits for what is being sent, and then ends the sessions it is sent by.
func (w *worker) drain() {
	gone := make(chan struct{})
	go func() {
		w.all.Wait()
		close(gone)
	}()
	for {
		select {
		case <-w.ended:
		case <-gone:
			w.closeLines()
			return
		}
	}
}

// look begins a lane for each provider that has something to send and none.
func (w *worker) look(ctx context.Context) error {
	ids, err := w.due(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if w.lanes[id] || len(w.lanes) >= lanesMost || ctx.Err() != nil {
			continue
		}
		w.lanes[id] = true
		w.all.Go(func() {
			w.try(ctx, "message.lane", func(ctx context.Context) error { return w.lane(ctx, id) })
			w.ended <- id
		})
	}
	return nil
}

// carrier sends one message by a provider.
type carrier func(ctx context.Context, m *Message) outcome

// carrierOf gives what sends by a provider, how many messages at a time, and whether it can do so from here now.
func (w *worker) carrierOf(p *Provider) (send carrier, most int, ready func() bool) {
	if p.Kind == ByHTTP {
		return func(ctx context.Context, m *Message) outcome { return w.ask(ctx, p, m) }, parallel, func() bool { return true }
	}
	l := w.line(p.ID)
	if l == nil || l.etag != p.Etag {
		return nil, 0, func() bool { return false }
	}
	return func(ctx context.Context, m *Message) outcome { return w.submit(ctx, l, m) }, p.SMPP.Window, l.client.Bound
}

// busyMost is the longest wait for a provider that says it is sent too much. The first is a second.
const busyMost = 30 * time.Second

// laneFor is how long a lane goes on with what a provider was when it began.
const laneFor = 10 * time.Second

// lane sends what a provider has to send, at its rate, until nothing is due. It begins anew from time to time.
func (w *worker) lane(ctx context.Context, id string) error {
	p, err := db.Get[Provider](ctx, w.DB, auth.Everywhere(), id)
	if err != nil && problem.From(err).Code == problem.CodeNotFound {
		return w.orphans(ctx, id)
	}
	if err != nil || !p.Enabled {
		return err
	}
	send, most, ready := w.carrierOf(p)
	if !ready() {
		return nil
	}
	ctx = db.AsAccount(ctx, p.AccountID)
	slots := make(chan struct{}, most)
	busy := make(chan struct{}, 1) // holds one when the provider has said so
	var sending sync.WaitGroup
	defer sending.Wait()
	pause, until := time.Duration(0), time.Now().Add(laneFor)
	for ctx.Err() == nil && ready() && (pause > 0 || time.Now().Before(until)) {
		select {
		case <-busy:
			pause = min(max(2*pause, time.Second), busyMost)
			if !linger(ctx, pause) {
				return nil
			}
		default:
			if pause /= 2; pause < time.Second {
				pause = 0
			}
		}
		n := w.room(ctx, p, slots)
		if n == 0 {
			return nil
		}
		claimed, err := w.claim(ctx, id, n)
		for range n - len(claimed) {
			<-slots
		}
		if err != nil || len(claimed) == 0 {
			return err
		}
		for i := range claimed {
			sending.Go(func() {
				if w.carry(ctx, p, &claimed[i], send) {
					select {
					case busy <- struct{}{}:
					default:
					}
				}
				<-slots
			})
		}
	}
	return nil
}

// room waits until a message may be sent, and takes as many slots as there are messages that may be now.
func (w *worker) room(ctx context.Context, p *Provider, slots chan struct{}) (n int) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	if !w.pace(ctx, p) {
		<-slots
		return 0
	}
	for n = 1; n < cap(slots); n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
		if t, err := w.take(ctx, p); err != nil || !t.OK {
			<-slots
			return n
		}
	}
	return n
}

// take asks whether the provider's rate lets one more message through now.
func (s *Service) take(ctx context.Context, p *Provider) (bus.Taken, error) {
	return s.Bus.Take(ctx, "message:"+p.ID, p.MessagesPerSecond, max(1, int(math.Ceil(p.MessagesPerSecond/2))))
}

// pace waits until the provider's rate lets one more through; it is false when ctx ends before. A bus that is away lets
// everything through: the provider says itself when it is too much.
func (s *Service) pace(ctx context.Context, p *Provider) bool {
	for {
		t, err := s.take(ctx, p)
		if err != nil || t.OK {
			return ctx.Err() == nil
		}
		if !linger(ctx, max(t.Wait, time.Millisecond)) {
			return false
		}
	}
}

// linger waits; it is false when ctx ends before.
func linger(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// endWithin is how long what is being sent may go on when Run is to end.
const endWithin = 5 * time.Second

// outlasting is a context that ends a little later than another one, so that what is nearly sent is not sent twice.
func outlasting(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptWithin)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(endWithin, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// verdict is what became of an attempt.
type verdict int

// The verdicts.
const (
	accepted verdict = iota
	refused          // for good
	notTaken         // it may be later
	unsure           // nobody knows
)

// outcome is what an attempt came to.
type outcome struct {
	verdict verdict
	parts   []segment // that were taken, and are not yet written
	code    string
	text    string        // a sentence
	after   time.Duration // at least that long before the next attempt
	busy    bool          // the provider is sent too much, or cannot be reached at all: the attempt does not count
	cause   error         // for the operator
}

// carry sends a claimed message and writes what became of it. busy is whether the provider asks to be left alone for a
// while.
func (w *worker) carry(ctx context.Context, p *Provider, m *Message, send carrier) (busy bool) {
	ctx, done := outlasting(ctx)
	defer done()
	began := time.Now()
	var o outcome
	switch {
	case !m.ExpiresAt.After(w.now()):
		o = outcome{verdict: refused, code: codeExpired, text: "it could not be sent in time"}
	case m.Uncertain >= maxUncertain:
		o = outcome{verdict: unsure}
	default:
		o = send(ctx, m)
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	lost, err := w.settle(writing, m, o)
	attributes := []any{
		"account_id", m.AccountID, "message_id", m.ID, "provider_id", p.ID, "kind", p.Kind, "status", m.Status, "attempts", m.Attempts, "segments", m.Segments,
		"error_code", o.code, "lost", lost, "duration_ms", time.Since(began).Milliseconds(),
	}
	if err := errors.Join(o.cause, err); err != nil {
		// Without having been written it is claimed anew when the lease is over.
		attributes = append(attributes, "error", err.Error())
	}
	w.Log.Info("message.attempted", attributes...)
	return o.busy
}

// settleWithin bounds the writing of what became of an attempt, which is done also while the process stops.
const settleWithin = 10 * time.Second

// settle writes what an attempt came to. m is as it was written.
func (s *Service) settle(ctx context.Context, m *Message, o outcome) (lost bool, err error) {
	return s.held(ctx, m, func(ctx context.Context, tx *db.Tx, row *Message) error {
		if err := took(ctx, tx, o.parts...); err != nil {
			return err
		}
		now := s.now()
		row.decide(o, now, or(s.Backoff, 5*time.Second))
		if row.Status == Sent {
			parts, err := taken(ctx, tx, row.ID)
			if err != nil {
				return err
			}
			sent := *row
			sent.ProviderMessageID = parts[0].ProviderMessageID
			row.ProviderMessageID = sent.ProviderMessageID
			if row.follow(parts, now) {
				if err := s.tell(ctx, tx, &sent); err != nil {
					return err
				}
			}
		}
		*m = *row
		return nil
	})
}

const unknownText = "it was sent, and the provider did not say whether it took it; it may have arrived"

// decide gives a message the status that follows from an attempt.
func (m *Message) decide(o outcome, now time.Time, backoff time.Duration) {
	m.ErrorCode, m.ErrorMessage = o.code, clip(o.text)
	switch o.verdict {
	case accepted:
		m.Status, m.SentAt = Sent, &now
		return
	case refused:
		m.Status = Failed
		return
	case unsure:
		if m.Uncertain++; m.Uncertain >= maxUncertain {
			m.Status, m.ErrorCode, m.ErrorMessage = Failed, codeUnknown, unknownText
			return
		}
	case notTaken:
		if o.busy {
			m.Attempts--
		}
	}
	again := now.Add(max(wait(backoff, m.Attempts), o.after))
	if (m.Attempts >= maxAttempts && !o.busy) || !again.Before(m.ExpiresAt) {
		m.Status = Failed
		return
	}
	m.Status, m.AvailableAt = Queued, again
}

const backoffMost = 10 * time.Minute

// wait is the pause after so many attempts: doubling from first, and a fifth more or less, so that what failed together
// is not tried together.
func wait(first time.Duration, attempts int64) time.Duration {
	pause := min(first<<min(max(attempts-1, 0), 16), backoffMost)
	return pause + time.Duration((rand.Float64()-0.5)*0.4*float64(pause))
}

// clip bounds what a provider may say.
func clip(text string) string {
	const most = 500
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most])
	}
	return text
}

// orphans gives up what a provider that is no more had to send.
func (w *worker) orphans(ctx context.Context, providerID string) error {
	claimed, err := w.claim(ctx, providerID, 100)
	for i := range claimed {
		o := outcome{verdict: refused, code: codeGone, text: "its provider was deleted"}
		if _, e := w.settle(ctx, &claimed[i], o); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

const (
	sweepRows = 500
	// keepReports is how long what is reported of nothing we know is kept, and keepParts how long the other parts of a
	// message from a phone are waited for.
	keepReports = 3 * 24 * time.Hour
	keepParts   = time.Hour
)

// Sweep fails what could not be sent in time, brings reports together with what they are about where both came at the same
// moment, and ends the waiting for parts of messages. Run does it every minute, with the default Poll.
func (s *Service) Sweep(ctx context.Context) error {
	return errors.Join(s.expire(ctx), s.match(ctx), s.joinLate(ctx))
}

// expire fails messages whose time is over, as when their provider is switched off or cannot be reached. What is being
// sent is left to whoever sends it, while the lease lasts.
func (s *Service) expire(ctx context.Context) error {
	late, err := db.List[Message](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("status = ? OR (status = ? AND available_at <= ?)", Queued, Sending, s.now()).Where("expires_at <= ?", s.now()).Limit(sweepRows)
	})
	for i := range late {
		if e := s.expireOne(ctx, &late[i]); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (s *Service) expireOne(ctx context.Context, late *Message) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := lock(ctx, tx, late.AccountID, late.ID)
		if err != nil || m == nil || m.Token != late.Token || m.Status != late.Status {
			return err
		}
		switch {
		case m.Status == Sending:
			m.ErrorCode, m.ErrorMessage = codeUnknown, unknownText
		case m.ErrorCode == "":
			m.ErrorCode, m.ErrorMessage = codeExpired, "it could not be sent in time"
		}
		m.Status = Failed
		if err := store(ctx, tx, m); err != nil {
			return err
		}
		return s.tell(ctx, tx, m)
	})
}

// match applies reports that were kept although their parts are known: both were written at the same moment.
func (s *Service) match(ctx context.Context) error {
	if _, err := s.DB.Write().NewDelete().Model((*receipt)(nil)).Where("created_at < ?", db.Now().Add(-keepReports)).Exec(ctx); err != nil {
		return db.Check(err)
	}
	var early []receipt
	err := s.DB.Read().NewSelect().Model(&early).
		Where("EXISTS (SELECT 1 FROM message_segments s WHERE s.provider_id = ?TableAlias.provider_id AND s.provider_message_id = ?TableAlias.provider_message_id)").
		Limit(sweepRows).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	for _, r := range early {
		err = errors.Join(err, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := tx.Write().NewDelete().Model(&r).WherePK().Exec(ctx); err != nil {
				return db.Check(err)
			}
			var part segment
			err := tx.Read().NewSelect().Model(&part).Where("provider_id = ?", r.ProviderID).Where("provider_message_id = ?", r.ProviderMessageID).Limit(1).Scan(ctx)
			if err != nil {
				return db.Check(err)
			}
			return s.apply(ctx, tx, part, r)
		}))
	}
	return err
}
