package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Taking is a leg that is to be connected with a caller: exactly one of Queue and CallID.
type Taking struct {
	AccountID webhooks.AccountID
	Queue     string          // id, SID or name
	CallID    webhooks.CallID // a certain caller
	Leg       webhooks.CallID // that takes; it holds one caller at a time
	EdgeID    webhooks.EdgeID // of the leg
	BootID    string
	AgentID   webhooks.AgentID // who speaks on the leg, if it is an agent: has the callers that were assigned to it first
	// Timeout is how long to wait for somebody to come, at most MaxTimeout; 0 is not at all.
	Timeout webhooks.Seconds
}

// MaxTimeout bounds the wait of one Take: a leg that waits longer asks again.
const MaxTimeout webhooks.Seconds = 25

// Taken is a caller that is offered to a leg.
type Taken struct {
	ID       string // of the entry
	Claim    int64  // for Confirm and Return
	CallID   webhooks.CallID
	EdgeID   webhooks.EdgeID // that carries the caller
	QueueID  webhooks.QueueID
	Name     string // of the queue
	Priority int
	Waited   webhooks.Seconds
	From, To string
	FromName string
	Data     map[string]any
	Screen   *webhooks.Program // the queue's own, for the leg; nil: nothing
	Within   webhooks.Seconds  // until Confirm; then others get the chance
}

// Take claims, for a leg, the caller who is to be served next, or a certain one; it waits for one to come as long as the
// leg wants to, and gives nil when nobody did. Asking again while the leg holds an unconnected caller of that queue gives
// that one, so that an answer that was lost costs nobody their place. Callers whose edge does not renew, and those who
// have waited as long as they may, are passed over. Errors: ErrNotFound, when there is no such queue; ErrInvalid.
func (s *Service) Take(ctx context.Context, t Taking) (*Taken, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	q, err := s.queueOf(ctx, t)
	switch {
	case err != nil:
		return nil, err
	case q == nil && t.CallID != "":
		return nil, nil
	case q == nil:
		return nil, ErrNotFound
	}
	key := q.ID
	if t.CallID != "" {
		key = string(t.CallID)
	}
	woken, stop := s.hub.listen(key)
	defer stop()
	// Time passes by the clock of time, not by that of the rows.
	deadline := time.Now().Add(span(min(t.Timeout, MaxTimeout)))
	for {
		taken, err := s.take(ctx, t, q)
		if err != nil || taken != nil {
			return taken, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		again := time.NewTimer(min(left, cmp.Or(s.poll, pollEvery)))
		select {
		case <-ctx.Done():
			again.Stop()
			return nil, context.Cause(ctx)
		case <-woken:
			again.Stop()
		case <-again.C:
		}
	}
}

func (t *Taking) check() error {
	switch {
	case t.AccountID == "" || t.Leg == "" || t.EdgeID == "" || t.BootID == "":
		return fmt.Errorf("%w: it names an account, a leg, an edge and its boot", ErrInvalid)
	case (t.Queue == "") == (t.CallID == ""):
		return fmt.Errorf("%w: it names either a queue or a call", ErrInvalid)
	case t.CallID == t.Leg:
		return fmt.Errorf("%w: a leg cannot take itself", ErrInvalid)
	case !(t.Timeout >= 0):
		return fmt.Errorf("%w: the timeout must not be negative", ErrInvalid)
	}
	return nil
}

// queueOf is the queue to take from, or that a certain caller is in; nil when there is none.
func (s *Service) queueOf(ctx context.Context, t Taking) (*Queue, error) {
	column, value := named(t.Queue)
	if t.CallID != "" {
		column = "id"
		err := s.DB.Read().NewSelect().Model((*waiting)(nil)).Column("queue_id").
			Where("account_id = ?", t.AccountID).Where("call_id = ?", t.CallID).Where(inQueue).Scan(ctx, &value)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, db.Check(err)
		}
	}
	q, err := db.Find[Queue](ctx, s.DB, auth.Account(string(t.AccountID)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.? = ?", bun.Ident(column), value)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return q, err
}

// take looks once. It is repeated when another take of the same leg came in between.
func (s *Service) take(ctx context.Context, t Taking, q *Queue) (*Taken, error) {
	if err := s.renew(ctx, string(t.EdgeID), t.BootID); err != nil {
		return nil, err
	}
	for range joinTries {
		w, err := s.offer(ctx, t, q)
		if p, conflict := errors.AsType[*problem.Problem](err); conflict && p.Code == problem.CodeConflict {
			continue
		}
		if err != nil || w == nil {
			return nil, err
		}
		taken, err := s.taken(ctx, w, q)
		if err == nil && ctx.Err() == nil {
			return taken, nil
		}
		// Nobody hears of the claim: whoever asked is gone.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackWithin)
		defer cancel()
		return nil, errors.Join(err, context.Cause(ctx), s.Return(back, Return{
			AccountID: t.AccountID, ID: w.ID, Claim: w.Claim, Why: Canceled,
		}))
	}
	return nil, db.Check(problem.Unavailable("the leg takes several callers at once", time.Second))
}

// giveBackWithin bounds giving back a claim that nobody will hear of.
const giveBackWithin = 5 * time.Second

// offer finds the caller that a leg holds already, or claims one; nil when there is none.
func (s *Service) offer(ctx context.Context, t Taking, from *Queue) (*waiting, error) {
	now := s.now()
	var held []waiting
	err := s.DB.Read().NewSelect().Model(&held).Where("account_id = ?", t.AccountID).Where("taken_by_call_id = ?", t.Leg).
		Where("status = 'offered'").Scan(ctx)
	if err != nil {
		return nil, db.Check(err)
	}
	for _, w := range held {
		if w.TakenBootID == t.BootID && (w.CallID == t.CallID || (t.CallID == "" && string(w.QueueID) == from.ID)) {
			return &w, nil
		}
		// The leg has given up on this one, and its Return was lost.
		if err := s.Return(ctx, Return{AccountID: t.AccountID, ID: w.ID, Claim: w.Claim, Why: Canceled}); err != nil && !errors.Is(err, ErrFenced) {
			return nil, err
		}
	}
	var found *waiting
	if t.AgentID != "" {
		found, err = s.claim(ctx, t, from, now, func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("assigned_agent_id = ?", t.AgentID).Where("assigned_until > ?", now)
		})
	}
	if err != nil || found != nil {
		return found, err
	}
	return s.claim(ctx, t, from, now, func(q *bun.SelectQuery) *bun.SelectQuery {
		if t.CallID != "" {
			return q
		}
		return q.Where("(assigned_until IS NULL OR assigned_until <= ?)", now)
	})
}

// claim takes the first of those who may be taken.
//
// Two claims never take the same caller: PostgreSQL skips rows that another has locked, SQLite has one writer. A row that
// is skipped may be one whose holder leaves it where it was, such as a change of priority; so where nobody was found by
// skipping, it is tried again waiting for the locks, which are held for milliseconds.
func (s *Service) claim(ctx context.Context, t Taking, from *Queue, now time.Time, which func(*bun.SelectQuery) *bun.SelectQuery) (*waiting, error) {
	clauses := []string{"UPDATE SKIP LOCKED", "UPDATE"}
	if s.DB.Write().Dialect().Name() != dialect.PG {
		clauses = clauses[:1]
	}
	for _, clause := range clauses {
		next := s.DB.Write().NewSelect().Model((*waiting)(nil)).Column("id").Where("account_id = ?", t.AccountID)
		if t.CallID != "" {
			next = next.Where("call_id = ?", t.CallID)
		} else {
			next = next.Where("queue_id = ?", from.ID)
		}
		next = next.Where(inQueue).Where("status = 'waiting'").Where("(expires_at IS NULL OR expires_at > ?)", now).
			Where("boot_id IN (?)", leased(s.DB.Write(), now)).Apply(which).
			OrderBy("rank", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(1).Apply(locking(s.DB.Write(), clause))
		var got []waiting
		err := changed(s.DB.Write().NewUpdate().Model(&got)).
			Set("status = 'offered'").Set("claim = claim + 1").
			Set("taken_by_call_id = ?", t.Leg).Set("taken_edge_id = ?", t.EdgeID).Set("taken_boot_id = ?", t.BootID).
			Set("agent_id = ?", bun.NullZero(t.AgentID)).Set("taken_at = ?", now).
			Set("offer_until = ?", now.Add(span(from.OfferTimeout))).
			Where("id = (?)", next).Returning("*").Scan(ctx)
		if err != nil {
			return nil, db.Check(fmt.Errorf("take: %w", err))
		}
		if len(got) > 0 {
			return &got[0], nil
		}
	}
	return nil, nil
}

// changed is an update that counts as a change of the row.
func changed(q *bun.UpdateQuery) *bun.UpdateQuery {
	return q.Set("updated_at = ?", db.Now()).Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)")
}

// taken is what a leg is told of the caller that it was offered.
func (s *Service) taken(ctx context.Context, w *waiting, q *Queue) (*Taken, error) {
	if string(w.QueueID) != q.ID { // a certain caller, who was moved at this moment
		var err error
		if q, err = db.Get[Queue](ctx, s.DB, auth.Account(w.AccountID), string(w.QueueID)); err != nil {
			return nil, err
		}
	}
	_, screen, err := q.programs()
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", q.ID, err)
	}
	now := s.now()
	return &Taken{
		ID: w.ID, Claim: w.Claim, CallID: w.CallID, EdgeID: w.EdgeID, QueueID: w.QueueID, Name: q.Name, Priority: w.Priority,
		Waited: w.waited(now), From: w.From, To: w.To, FromName: w.FromName, Data: w.Data, Screen: screen,
		Within: seconds(w.OfferUntil.Sub(now)),
	}, nil
}

// Confirm says that the leg and the caller speak. Repeating it changes nothing. Errors: ErrFenced, when the caller is
// gone, or was given to another because it took too long: do not connect them.
func (s *Service) Confirm(ctx context.Context, account webhooks.AccountID, id string, claim int64) error {
	now := s.now()
	result, err := changed(s.DB.Write().NewUpdate().Model((*waiting)(nil))).Set("status = 'connected'").Set("connected_at = ?", now).
		Where("account_id = ?", account).Where("id = ?", id).Where("claim = ?", claim).Where("status = 'offered'").Exec(ctx)
	if err != nil {
		return db.Check(fmt.Errorf("confirm %s: %w", id, err))
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return s.fenced(ctx, account, id, claim, Connected)
}

// fenced is nil when the claim is the latest and has brought the call to a status already.
func (s *Service) fenced(ctx context.Context, account webhooks.AccountID, id string, claim int64, reached Status) error {
	n, err := s.DB.Read().NewSelect().Model((*waiting)(nil)).Where("account_id = ?", account).Where("id = ?", id).
		Where("claim = ?", claim).Where("status = ?", reached).Count(ctx)
	if err == nil && n == 0 {
		return ErrFenced
	}
	return db.Check(err)
}

// Why is the reason that a caller is given back.
type Why string

// The reasons.
const (
	// Unanswered is that whoever was offered the caller did not answer, declined, or could not be reached: the caller goes
	// ahead of everyone.
	Unanswered Why = "unanswered"
	// Canceled is that the leg does not want the caller after all, or is gone: the caller goes back to its place.
	Canceled Why = "canceled"
	// Failed is that the two could not be connected: as Canceled.
	Failed Why = "failed"
)

// Return is a claim that is given back.
type Return struct {
	AccountID webhooks.AccountID
	ID        string
	Claim     int64
	Why       Why
}

// Return has a caller who was offered wait again: at its old place, or ahead of everyone when nobody answered the offer.
// Repeating it changes nothing. Errors: ErrFenced, when the claim is over already, or the caller connected or gone;
// ErrInvalid.
func (s *Service) Return(ctx context.Context, r Return) error {
	if r.Why != Unanswered && r.Why != Canceled && r.Why != Failed {
		return fmt.Errorf("%w: %q is no reason to give a caller back", ErrInvalid, r.Why)
	}
	var back []waiting
	q := given(s.DB.Write().NewUpdate().Model(&back))
	if r.Why == Unanswered {
		q = q.Set("rank = CASE WHEN ahead THEN rank ELSE rank - ? END", headStart).Set("ahead = ?", true).
			Set("assigned_agent_id = NULL").Set("assigned_until = NULL")
	}
	err := q.Where("account_id = ?", r.AccountID).Where("id = ?", r.ID).Where("claim = ?", r.Claim).Where("status = 'offered'").Returning("*").Scan(ctx)
	if err != nil {
		return db.Check(fmt.Errorf("return %s: %w", r.ID, err))
	}
	if len(back) == 0 {
		return s.fenced(ctx, r.AccountID, r.ID, r.Claim, Waiting)
	}
	s.hub.wake(string(back[0].QueueID), string(back[0].CallID))
	return nil
}

// given is an update that ends claims: the callers wait again at their places.
func given(q *bun.UpdateQuery) *bun.UpdateQuery {
	return changed(q).Set("status = 'waiting'").Set("taken_by_call_id = NULL").Set("taken_edge_id = NULL").Set("taken_boot_id = NULL").
		Set("agent_id = NULL").Set("taken_at = NULL").Set("offer_until = NULL")
}

// untake is given for a row that is stored as a whole.
func (w *waiting) untake() {
	w.TakenBy, w.TakenEdgeID, w.TakenBootID, w.AgentID, w.TakenAt, w.OfferUntil, w.ConnectedAt = "", "", "", "", nil, nil, nil
}
