package queue

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// WaitingCall is a call in a queue, as it is answered.
type WaitingCall struct {
	ID       string           `json:"id"` // wait_…
	CallID   webhooks.CallID  `json:"call_id"`
	QueueID  webhooks.QueueID `json:"queue_id"`
	Status   Status           `json:"status"`
	Position int              `json:"position,omitempty"` // from 1, while it is in the queue
	Priority int              `json:"priority"`
	Ahead    bool             `json:"ahead"` // of everyone, after an offer that nobody answered
	Waited   webhooks.Seconds `json:"waited"`
	QueuedAt time.Time        `json:"queued_at"`
	JoinedAt time.Time        `json:"joined_at"`
	// ExpiresAt is when it has waited as long as it may.
	ExpiresAt *time.Time     `json:"expires_at,omitempty"`
	From      string         `json:"from,omitempty"`
	To        string         `json:"to,omitempty"`
	FromName  string         `json:"from_name,omitempty"`
	Data      map[string]any `json:"data,omitempty"`
	// AssignedAgentID is for whom alone it is kept, until AssignedUntil.
	AssignedAgentID webhooks.AgentID `json:"assigned_agent_id,omitempty"`
	AssignedUntil   *time.Time       `json:"assigned_until,omitempty"`
	// TakenByCallID is the leg that it is offered to, or connected with, and AgentID who speaks there.
	TakenByCallID webhooks.CallID  `json:"taken_by_call_id,omitempty"`
	AgentID       webhooks.AgentID `json:"agent_id,omitempty"`
	TakenAt       *time.Time       `json:"taken_at,omitempty"`
	ConnectedAt   *time.Time       `json:"connected_at,omitempty"`
}

func (w *waiting) shown(position int, now time.Time) WaitingCall {
	out := WaitingCall{
		ID: w.ID, CallID: w.CallID, QueueID: w.QueueID, Status: w.Status, Position: position, Priority: w.Priority, Ahead: w.Ahead,
		Waited: w.waited(now), QueuedAt: w.QueuedAt, JoinedAt: w.JoinedAt, ExpiresAt: w.ExpiresAt, From: w.From, To: w.To,
		FromName: w.FromName, Data: w.Data, TakenByCallID: w.TakenBy, AgentID: w.AgentID, TakenAt: w.TakenAt, ConnectedAt: w.ConnectedAt,
	}
	if w.AssignedUntil != nil && w.AssignedUntil.After(now) {
		out.AssignedAgentID, out.AssignedUntil = w.AssignedAgentID, w.AssignedUntil
	}
	return out
}

// waitingTable is the list of those in a queue, in the order in which they are served.
func waitingTable() list.Table {
	return list.Table{
		Fields: map[string]list.Field{
			"position":  {Type: list.Int, Column: "rank", Sort: true, SortOnly: true},
			"joined_at": {Type: list.Time, Sort: true},
			"status":    {}, "agent_id": {}, "assigned_agent_id": {}, "priority": {Type: list.Int},
		},
		Sort: "position",
	}
}

type inQueueIn struct {
	rest.ListIn
	QueueID string `path:"queue_id"`
}

func (s *Service) listWaiting(ctx context.Context, who auth.Caller, in inQueueIn) (list.Page[WaitingCall], error) {
	none := list.Page[WaitingCall]{}
	q, err := waitingTable().Parse(in.Query)
	if err != nil {
		return none, err
	}
	if _, err := db.Get[Queue](ctx, s.DB, auth.Account(who.Scope.AccountID()), in.QueueID); err != nil {
		return none, err
	}
	page, err := list.Run[waiting](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.queue_id = ?", in.QueueID).Where(inQueue)
	})
	if err != nil {
		return none, err
	}
	places, err := positions(ctx, s.DB, []string{in.QueueID})
	now := s.now()
	return list.Map(page, func(w waiting) WaitingCall { return w.shown(places[w.ID], now) }), err
}

type actIn struct {
	QueueID string           `path:"queue_id"`
	Key     string           `header:"Idempotency-Key"`
	Body    call.ActionDraft `body:"json"`
}

// act changes every call that waits in a queue, those who are next first.
func (s *Service) act(ctx context.Context, who auth.Caller, in actIn) (call.ActionsTaken, error) {
	none := call.ActionsTaken{}
	const permission = "waiting_calls.read"
	if !who.Can(permission) {
		return none, problem.Forbidden(permission)
	}
	if _, err := db.Get[Queue](ctx, s.DB, auth.Account(who.Scope.AccountID()), in.QueueID); err != nil {
		return none, err
	}
	found, err := db.List[waiting](ctx, s.DB, who.Over(auth.Resource(permission)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.queue_id = ?", in.QueueID).Where(inQueue).OrderBy("rank", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(call.MaxActAll)
	})
	if err != nil {
		return none, err
	}
	ids := make([]webhooks.CallID, len(found))
	for i := range found {
		ids[i] = found[i].CallID
	}
	return s.Calls.ActAll(ctx, who, in.Key, ids, in.Body)
}

func (s *Service) getWaiting(ctx context.Context, who auth.Caller, in rest.ByID) (*WaitingCall, error) {
	w, err := db.Find[waiting](ctx, s.DB, who.Scope, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.call_id = ?", in.ID).Where(live)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.NotFound("this call does not wait in a queue; GET /v1/calls says what became of it")
	}
	if err != nil {
		return nil, err
	}
	return s.show(ctx, s.DB, w)
}

func (s *Service) show(ctx context.Context, conn db.Conn, w *waiting) (*WaitingCall, error) {
	position := 0
	if w.Status == Waiting || w.Status == Offered {
		var err error
		if position, err = place(ctx, conn, w); err != nil {
			return nil, err
		}
	}
	shown := w.shown(position, s.now())
	return &shown, nil
}

// QueueStatus is how a queue stands at a moment.
type QueueStatus struct {
	QueueID   webhooks.QueueID `json:"queue_id"`
	At        time.Time        `json:"at"`
	Waiting   int              `json:"waiting"`   // for somebody to take them
	Offered   int              `json:"offered"`   // taken, not connected yet
	Connected int              `json:"connected"` // speaking with whoever took them
	// LongestWait and AverageWait are of those waiting and offered; 0 when there are none.
	LongestWait webhooks.Seconds `json:"longest_wait"`
	AverageWait webhooks.Seconds `json:"average_wait"`
}

func (s *Service) status(ctx context.Context, who auth.Caller, in rest.ByID) (*QueueStatus, error) {
	return s.Status(ctx, who.Scope, webhooks.QueueID(in.ID))
}

// Status tells how a queue within scope stands.
func (s *Service) Status(ctx context.Context, scope auth.Scope, id webhooks.QueueID) (*QueueStatus, error) {
	if _, err := db.Get[Queue](ctx, s.DB, scope, string(id)); err != nil {
		return nil, err
	}
	all, err := counted(ctx, s.DB, string(id))
	if err != nil {
		return nil, err
	}
	c, now := all[id], s.now()
	st := &QueueStatus{QueueID: id, At: now, Waiting: c.Waiting, Offered: c.Offered, Connected: c.Connected, AverageWait: c.average(now)}
	if c.First > 0 {
		st.LongestWait = seconds(now.Sub(time.UnixMicro(c.First)))
	}
	return st, nil
}

// count is how many calls there are in a queue by status, and since when those in it wait, in microseconds.
type count struct {
	QueueID   webhooks.QueueID `bun:"queue_id"`
	Waiting   int              `bun:"waiting"`
	Offered   int              `bun:"offered"`
	Connected int              `bun:"connected"`
	First     int64            `bun:"first"`
	Mean      float64          `bun:"mean"`
}

func (c count) inQueue() int { return c.Waiting + c.Offered }

func (c count) average(now time.Time) webhooks.Seconds {
	if c.inQueue() == 0 {
		return 0
	}
	return seconds(now.Sub(time.UnixMicro(int64(c.Mean))))
}

// counted counts the calls of queues; those without any are not in it.
func counted(ctx context.Context, conn db.Conn, queues ...string) (map[webhooks.QueueID]count, error) {
	// What a rank was made of, less its head starts, is when the call began to wait.
	const since = "CASE WHEN status = 'connected' THEN NULL ELSE rank + priority * ? + CASE WHEN ahead THEN ? ELSE 0 END END"
	q := conn.Read().NewSelect().Model((*waiting)(nil)).Column("queue_id")
	for _, status := range []Status{Waiting, Offered, Connected} {
		q = q.ColumnExpr("SUM(CASE WHEN status = ? THEN 1 ELSE 0 END) AS ?", status, bun.Ident(string(status)))
	}
	var rows []count
	err := q.ColumnExpr("COALESCE(MIN("+since+"), 0) AS first", perPriority, headStart).
		ColumnExpr("CAST(COALESCE(AVG("+since+"), 0) AS double precision) AS mean", perPriority, headStart).
		Where("queue_id IN (?)", bun.List(queues)).Where(live).Group("queue_id").Scan(ctx, &rows)
	all := make(map[webhooks.QueueID]count, len(rows))
	for _, c := range rows {
		all[c.QueueID] = c
	}
	return all, db.Check(err)
}

// change changes a call that waits, in the journal of whoever asked for it, and wakes who waits for one.
func (s *Service) change(ctx context.Context, scope auth.Scope, call webhooks.CallID, lock func(ctx context.Context, tx *db.Tx) error,
	fn func(ctx context.Context, tx *db.Tx, w *waiting) error,
) (*WaitingCall, error) {
	var shown *WaitingCall
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		// A queue before the calls in it: as in Join.
		if err := lock(ctx, tx); err != nil {
			return err
		}
		w, err := db.Find[waiting](ctx, tx, scope, func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("?TableAlias.call_id = ?", call).Where(live)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return problem.Conflict("the call does not wait in a queue", problem.Field("", "status", "it is in no queue"))
		}
		if err != nil {
			return err
		}
		w, err = db.ChangeTx[waiting](ctx, tx, scope, w.ID, "", func(ctx context.Context, tx *db.Tx, w *waiting) error {
			if w.Status != Waiting && w.Status != Offered {
				return problem.Conflict("the call waits no more, it is "+string(w.Status), problem.Field("", "status", "it is %s", w.Status))
			}
			if err := fn(ctx, tx, w); err != nil {
				return err
			}
			w.sort()
			return nil
		})
		if err == nil {
			shown, err = s.show(ctx, tx, w)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.hub.wake(string(shown.QueueID), string(shown.CallID))
	return shown, nil
}

func unlocked(context.Context, *db.Tx) error { return nil }

// notOffered refuses what cannot be done to a call while a leg is being connected with it.
func (w *waiting) notOffered() error {
	if w.Status == Offered {
		return problem.Conflict("the call is being connected; repeat this when it waits again", problem.Field("", "status", "it is offered"))
	}
	return nil
}

// Reprioritize changes how urgent a waiting call is: 0–1000, each step a minute of waiting. A call that does not wait is a
// Conflict problem.
func (s *Service) Reprioritize(ctx context.Context, scope auth.Scope, call webhooks.CallID, priority int) (*WaitingCall, error) {
	if priority < 0 || priority > maxPriority {
		return nil, problem.InvalidField("/priority", "range", "must be 0–%d, is %d", maxPriority, priority)
	}
	return s.change(ctx, scope, call, unlocked, func(_ context.Context, _ *db.Tx, w *waiting) error {
		w.Priority = priority
		return nil
	})
}

// Move puts a waiting call into another queue, an id or a name, with the time that it has waited, and with a priority where
// one is given. How long it may wait is what the other queue says, from now on. A call that does not wait, or is being
// connected, and a queue that is full or takes no calls, are Conflict problems; an unknown queue is Refused.
func (s *Service) Move(ctx context.Context, scope auth.Scope, call webhooks.CallID, queue string, priority *int) (*WaitingCall, error) {
	if priority != nil && (*priority < 0 || *priority > maxPriority) {
		return nil, problem.InvalidField("/priority", "range", "must be 0–%d, is %d", maxPriority, *priority)
	}
	var to *Queue
	lock := func(ctx context.Context, tx *db.Tx) error {
		var err error
		column, value := named(queue)
		if to, err = locked(ctx, tx, scope.AccountID(), column, value); err == nil && to == nil {
			err = problem.RefusedField("/queue", "unknown", "there is no queue %q in this account", queue)
		}
		return err
	}
	return s.change(ctx, scope, call, lock, func(ctx context.Context, tx *db.Tx, w *waiting) error {
		if priority != nil {
			w.Priority = *priority
		}
		if string(w.QueueID) == to.ID {
			return nil
		}
		if err := w.notOffered(); err != nil {
			return err
		}
		if err := roomIn(ctx, tx, to); err != nil {
			return err
		}
		w.QueueID, w.Ahead, w.JoinedAt = webhooks.QueueID(to.ID), false, s.now()
		w.AssignedAgentID, w.AssignedUntil = "", nil
		w.expire(to, 0)
		return nil
	})
}

// roomIn refuses a queue that takes no call more. The queue is locked.
func roomIn(ctx context.Context, tx *db.Tx, q *Queue) error {
	if !q.Enabled {
		return problem.Conflict("the queue "+q.Name+" is disabled", problem.Field("/queue", "closed", "it takes no calls"))
	}
	if q.MaxWaiting == 0 {
		return nil
	}
	n, err := tx.Read().NewSelect().Model((*waiting)(nil)).Where("queue_id = ?", q.ID).Where(inQueue).Count(ctx)
	if err == nil && n >= int64(q.MaxWaiting) {
		return problem.Conflict("the queue "+q.Name+" is full", problem.Field("/queue", "full", "%d calls wait in it, as many as may", n))
	}
	return db.Check(err)
}

// AssignFor is how long a call that was assigned to an agent is kept for that agent alone.
const AssignFor = time.Minute

// Assign offers a waiting call to an agent, an id or an external_id, next: for AssignFor nobody else takes it, unless by
// its call id; then, or when the agent does not answer, it is anyone's again. An empty agent takes an assignment back. A
// call that does not wait, or is being connected, is a Conflict problem; an unknown agent is Refused.
func (s *Service) Assign(ctx context.Context, scope auth.Scope, call webhooks.CallID, to string) (*WaitingCall, error) {
	return s.change(ctx, scope, call, unlocked, func(ctx context.Context, tx *db.Tx, w *waiting) error {
		if err := w.notOffered(); err != nil {
			return err
		}
		if to == "" {
			w.AssignedAgentID, w.AssignedUntil = "", nil
			return nil
		}
		a, found, err := agent.Named(ctx, tx, scope.AccountID(), to)
		if err != nil {
			return err
		}
		if !found {
			return problem.RefusedField("/agent", "unknown", "there is no agent %q in this account", to)
		}
		until := s.now().Add(AssignFor)
		w.AssignedAgentID, w.AssignedUntil = webhooks.AgentID(a.ID), &until
		return nil
	})
}
