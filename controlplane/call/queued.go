package call

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A call that its account may not start yet, for it starts too many a second, waits where its draft says for how long
// (queue_for). It has its record, with status queued and no edge, and what it takes to start it is in the outbox until it is
// started or given up: whoever removes that message decides which. Those of an account are started in the order in which
// they came. A process that ends between the two leaves a record that has an edge and no events, which edges.Sweep ends.

// queuedTopic is the outbox's topic of calls that wait. A message has the id of its call, and becomes available when the
// call has waited for too long.
const queuedTopic = "call.queued"

// waiting is the message's payload.
type waiting struct {
	Origination Origination      `json:"origination"`
	QueueFor    webhooks.Seconds `json:"queue_for"`
}

const (
	// maxWaiting bounds the calls of an account that wait.
	maxWaiting = 1000
	// dispatchAtOnce bounds the calls of an account that one Dispatch starts, so that no account keeps the others waiting.
	dispatchAtOnce = 50
)

// waitingOf counts the calls of an account that wait.
func (s *Service) waitingOf(ctx context.Context, account webhooks.AccountID) (int64, error) {
	n, err := s.DB.Read().NewSelect().Model((*db.Message)(nil)).Where("topic = ?", queuedTopic).Where("account_id = ?", account).Count(ctx)
	return n, db.Check(err)
}

// enqueue records a call that waits.
func (s *Service) enqueue(ctx context.Context, c *Call, o Origination, queueFor webhooks.Seconds) error {
	message, err := queuedMessage(waiting{Origination: o, QueueFor: queueFor})
	if err != nil {
		return err
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, row := range []any{c, message} {
			if _, err := tx.Write().NewInsert().Model(row).Exec(ctx); err != nil {
				return db.Check(err)
			}
		}
		return db.Record(ctx, c.ID, nil, c)
	})
}

func queuedMessage(w waiting) (*db.Message, error) {
	payload, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", w.Origination.CallID, err)
	}
	began := w.Origination.StartedAt
	return &db.Message{
		ID: string(w.Origination.CallID), AccountID: string(w.Origination.AccountID), Topic: queuedTopic, Payload: payload,
		AvailableAt: began.Add(w.QueueFor.Duration()).Truncate(time.Microsecond), CreatedAt: began,
	}, nil
}

// Dispatch starts the calls that wait and may be started now, and ends those that have waited for too long. It is called
// several times a second, and may be in several processes.
func (s *Service) Dispatch(ctx context.Context) error {
	var accounts []string
	err := s.DB.Read().NewSelect().Model((*db.Message)(nil)).ColumnExpr("DISTINCT account_id").Where("topic = ?", queuedTopic).Scan(ctx, &accounts)
	if err != nil || len(accounts) == 0 {
		return db.Check(err)
	}
	return s.DB.Lock(ctx, "calls.queue", func(ctx context.Context) error {
		errs := []error{s.expire(ctx)}
		for _, account := range accounts {
			errs = append(errs, s.dispatch(ctx, account))
		}
		return errors.Join(errs...)
	})
}

// expire ends what has waited for too long.
func (s *Service) expire(ctx context.Context) error {
	var late []db.Message
	err := s.DB.Read().NewSelect().Model(&late).Where("topic = ?", queuedTopic).Where("available_at <= ?", db.Now()).
		OrderBy("available_at", bun.OrderAsc).Limit(settleMost).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	var errs []error
	for _, m := range late {
		var w waiting
		if err := json.Unmarshal(m.Payload, &w); err != nil {
			errs = append(errs, fmt.Errorf("call %s: %w", m.ID, err))
			continue
		}
		_, err := s.endWaiting(ctx, webhooks.CallID(m.ID), webhooks.CDR{
			Cause:    webhooks.CauseOverload,
			Reason:   fmt.Sprintf("The call waited %g seconds, as long as queue_for said, and the account's limit of calls a second did not let it start.", float64(w.QueueFor)),
			ReasonZH: fmt.Sprintf("呼叫按 queue_for 等待了 %g 秒，仍未轮到：账户每秒发起的呼叫数已达上限。", float64(w.QueueFor)),
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dispatch starts the calls of an account, the first that came first, until it may start no more.
func (s *Service) dispatch(ctx context.Context, account string) error {
	var next []db.Message
	err := s.DB.Read().NewSelect().Model(&next).Where("topic = ?", queuedTopic).Where("account_id = ?", account).Where("available_at > ?", db.Now()).
		OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(dispatchAtOnce).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	for _, m := range next {
		var w waiting
		if err := json.Unmarshal(m.Payload, &w); err != nil {
			return fmt.Errorf("call %s: %w", m.ID, err)
		}
		if more, err := s.start(ctx, w); err != nil || !more {
			return err
		}
	}
	return nil
}

// start hands a call that waits to an edge. more is false where the account may start none now, or no edge takes any.
func (s *Service) start(ctx context.Context, w waiting) (more bool, err error) {
	o := w.Origination
	o.StartedAt = db.Now()
	prepared, err := s.Edges.Prepare(ctx, o)
	if err != nil {
		p, refused := errors.AsType[*problem.Problem](err)
		switch {
		case !refused:
			return false, err
		case p.Status == http.StatusTooManyRequests, p.Status == http.StatusServiceUnavailable:
			return false, nil
		}
		// It could have been started when it came; since then the account has been suspended, or what it names removed.
		_, err := s.endWaiting(ctx, o.CallID, webhooks.CDR{
			Cause:  webhooks.CauseNotAllowed,
			Reason: "When it was the call's turn it could not be started: " + p.Detail + ".", ReasonZH: "轮到该呼叫时已无法发起：" + p.Detail + "。",
		})
		return true, err
	}
	taken, err := s.assign(ctx, o, prepared)
	if err != nil || !taken {
		return err == nil, err
	}
	err = prepared.Send(ctx)
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrAway) {
		return false, s.putBack(ctx, w)
	}
	return err == nil, err
}

// assign gives a call that waits to an edge; taken is false where it waits no more.
func (s *Service) assign(ctx context.Context, o Origination, p Prepared) (taken bool, err error) {
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if taken, err = unqueue(ctx, tx, o.CallID); err != nil || !taken {
			return err
		}
		_, err := tx.Write().NewUpdate().Model((*Call)(nil)).Set("edge_id = ?", p.EdgeID).Set("boot_id = ?", p.BootID).
			Set("started_at = ?", o.StartedAt).Set("updated_at = ?", o.StartedAt).Where("id = ?", o.CallID).Where("ended_at IS NULL").Exec(ctx)
		return db.Check(err)
	})
	return taken, err
}

// unqueue removes the message of a call that waits; false: there is none.
func unqueue(ctx context.Context, tx *db.Tx, id webhooks.CallID) (bool, error) {
	result, err := tx.Write().NewDelete().Model((*db.Message)(nil)).Where("id = ?", id).Where("topic = ?", queuedTopic).Exec(ctx)
	if err != nil {
		return false, db.Check(err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// putBack has a call wait on, at the place where it was: the edge has not taken it.
func (s *Service) putBack(ctx context.Context, w waiting) error {
	message, err := queuedMessage(w)
	if err != nil {
		return err
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		result, err := tx.Write().NewUpdate().Model((*Call)(nil)).Set("edge_id = ''").Set("boot_id = ''").Set("started_at = ?", w.Origination.StartedAt).
			Where("id = ?", message.ID).Where("ended_at IS NULL").Where("next_sequence = 1").Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		_, err = tx.Write().NewInsert().Model(message).Exec(ctx)
		return db.Check(err)
	})
}

// endWaiting ends a call that waits with the cause and the sentences of a record, after an event of its own where one is
// given; ended is false where it waits no more.
func (s *Service) endWaiting(ctx context.Context, id webhooks.CallID, r webhooks.CDR, before ...webhooks.Event) (ended bool, err error) {
	err = s.changing(ctx, func(ctx context.Context, w *writing) error {
		if ended, err = unqueue(ctx, w.tx, id); err != nil || !ended {
			return err
		}
		if err := w.load(ctx, []webhooks.CallID{id}); err != nil {
			return err
		}
		c := w.rows[id]
		if c == nil || c.ended {
			ended = false
			return nil
		}
		data := webhooks.EventData{
			From: c.From, To: c.To, Dialed: c.Dialed, Direction: c.Direction, ApplicationID: c.ApplicationID, CustomerID: c.CustomerID,
		}
		if c.ExternalID != nil {
			data.ExternalID = *c.ExternalID
		}
		w.add(c, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, ConversationID: webhooks.NewConversationID(), OccurredAt: c.StartedAt, Data: data})
		for _, e := range before {
			e.ID, e.OccurredAt = webhooks.NewEventID(), w.now
			w.add(c, e)
		}
		info := r.Cause.Info()
		r.Status, r.SIPCode, r.EndedBy, r.StartedAt, r.EndedAt = info.Status, info.SIP, info.EndedBy, c.StartedAt, w.now
		r.Duration = webhooks.SecondsOf(w.now.Sub(c.StartedAt))
		r.RingTime = r.Duration
		w.add(c, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallEnded, OccurredAt: w.now, Data: ending(r)})
		return nil
	})
	return ended, err
}

// handWaiting makes a live change to a call that waits: it can be hung up, and nothing else.
func (s *Service) handWaiting(ctx context.Context, c *Call, a Action) error {
	_, hangUp := a.Change.Op.(*webhooks.OpHangUp)
	var refused error
	switch {
	case a.IfMatch != "" && a.IfMatch != c.Etag:
		refused = problem.Precondition()
	case !hangUp:
		refused = problem.Conflict("the call waits to be started, and can only be hung up",
			problem.Field("/status", string(c.Status), "the account's limit of calls a second does not let it start yet"))
	}
	if refused != nil {
		return errors.Join(refused, s.withdraw(ctx, a))
	}
	info := webhooks.CauseAPIHangup.Info()
	ended, err := s.endWaiting(ctx, webhooks.CallID(c.ID), webhooks.CDR{Cause: webhooks.CauseAPIHangup, Reason: info.English + ".", ReasonZH: info.Chinese + "。"},
		webhooks.Event{Type: webhooks.EventActionCompleted, Data: webhooks.EventData{ActionID: a.ID, Op: a.Change.Op.Op()}})
	if err != nil || ended {
		return err
	}
	now, err := db.Get[Call](ctx, s.DB, auth.Account(c.AccountID), c.ID)
	if err != nil {
		return err
	}
	if now.Status.Final() || now.EdgeID == "" {
		return errors.Join(tooLate(now), s.withdraw(ctx, a))
	}
	return s.hand(ctx, now, a)
}
