package call

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A live change is open from before an edge is told of it until its call.action.completed or .failed is stored, and the
// message of its id waits in the outbox for so long. An edge tells what became of each change it took; Settle does for
// those of which nobody will: the edge died, or the process that was to tell it of the change.
const actionsTopic = "call.action"

// openAction is the message's payload.
type openAction struct {
	CallID webhooks.CallID `json:"call_id"`
	Op     string          `json:"op,omitempty"`
}

// When Settle looks after an open change.
const (
	settleFirst = 15 * time.Second // longer than a command to an edge takes
	settleAgain = 5 * time.Second
	settleLease = time.Minute
	settleMost  = 200
)

// atOnce bounds the rows of one statement.
const atOnce = 500

// open writes down changes that an edge is to be told of. One that is open already stays as it is.
func (s *Service) open(ctx context.Context, actions []Action) error {
	for some := range slices.Chunk(actions, atOnce) {
		messages := make([]*db.Message, len(some))
		for i, a := range some {
			var err error
			if messages[i], err = message(a, db.Now()); err != nil {
				return err
			}
		}
		_, err := s.DB.Write().NewInsert().Model(&messages).On("CONFLICT (id) DO NOTHING").Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
	}
	return nil
}

func message(a Action, now time.Time) (*db.Message, error) {
	open := openAction{CallID: a.CallID}
	if a.Change.Op != nil {
		open.Op = a.Change.Op.Op()
	}
	payload, err := json.Marshal(open)
	if err != nil {
		return nil, fmt.Errorf("action: %w", err)
	}
	return &db.Message{
		ID: string(a.ID), AccountID: string(a.AccountID), Topic: actionsTopic, Payload: payload,
		AvailableAt: now.Add(settleFirst + ringing(a)), CreatedAt: now,
	}, nil
}

// ringing is how long the edge may know no outcome of a change though the call has ended: the target of a transfer rings on
// when its leg is gone.
func ringing(a Action) time.Duration {
	if op, ok := a.Change.Op.(*webhooks.OpTransfer); ok {
		return op.Timeout.Duration()
	}
	return 0
}

// withdraw forgets a change that was not made, also when the asker has gone.
func (s *Service) withdraw(ctx context.Context, a Action) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := s.DB.Write().NewDelete().Model((*db.Message)(nil)).Where("id = ?", a.ID).Where("topic = ?", actionsTopic).Exec(ctx)
	return db.Check(err)
}

// Settle stores call.action.failed for the changes to calls that have ended of which nobody else has told an outcome. It
// is called every few seconds, and may be in several processes.
func (s *Service) Settle(ctx context.Context) error {
	due, err := s.DB.Claim(ctx, actionsTopic, settleMost, settleLease)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range due {
		over, err := s.settleOne(ctx, m)
		if err == nil && !over {
			err = s.DB.Retry(ctx, m, db.Now().Add(settleAgain))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// settleOne is false where the call goes on: its edge may still tell.
func (s *Service) settleOne(ctx context.Context, m db.Message) (over bool, err error) {
	var open openAction
	if err := json.Unmarshal(m.Payload, &open); err != nil {
		return false, fmt.Errorf("open action %s: %w", m.ID, err)
	}
	ids, id := []webhooks.CallID{open.CallID}, webhooks.ActionID(m.ID)
	err = s.changing(ctx, func(ctx context.Context, w *writing) error {
		if err := w.load(ctx, ids); err != nil {
			return err
		}
		r := w.rows[open.CallID]
		if over = r == nil || r.ended; !over {
			return nil
		}
		if r == nil { // its record was removed
			return w.forget(ctx, id)
		}
		if err := w.outcomes(ctx, ids); err != nil {
			return err
		}
		if w.told[id] {
			return w.forget(ctx, id)
		}
		w.add(r, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventActionFailed, OccurredAt: w.now, Data: webhooks.EventData{
			ActionID: id, Op: open.Op, Message: "the call ended and nobody told whether the change had been made",
		}})
		return nil
	})
	return over, err
}

// isOutcome reports whether an event says what became of a live change.
func isOutcome(e webhooks.Event) bool {
	return (e.Type == webhooks.EventActionCompleted || e.Type == webhooks.EventActionFailed) && e.Data.ActionID != ""
}

// readOutcomes looks up what Settle may have told before those who publish now.
func (w *writing) readOutcomes(ctx context.Context, all []*publication) error {
	var ids []webhooks.CallID
	for _, p := range all {
		r := w.rows[p.batch.CallID]
		if r == nil || !r.ended {
			continue
		}
		for _, e := range p.batch.Events {
			if isOutcome(e) {
				ids = append(ids, p.batch.CallID)
				break
			}
		}
	}
	return w.outcomes(ctx, ids)
}

func (w *writing) outcomes(ctx context.Context, ids []webhooks.CallID) error {
	if len(ids) == 0 {
		return nil
	}
	var stored []event.Event
	err := w.tx.Read().NewSelect().Model(&stored).Column("data").Where("call_id IN (?)", bun.List(ids)).
		Where("type IN (?)", bun.List([]webhooks.EventType{webhooks.EventActionCompleted, webhooks.EventActionFailed})).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	if w.told == nil {
		w.told = map[webhooks.ActionID]bool{}
	}
	for _, e := range stored {
		var data webhooks.EventData
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return fmt.Errorf("event: %w", err)
		}
		w.told[data.ActionID] = true
	}
	return nil
}

// settle closes the changes whose outcome is written now.
func (w *writing) settle(ctx context.Context) error {
	var ids []webhooks.ActionID
	for _, e := range w.also {
		if isOutcome(e) {
			ids = append(ids, e.Data.ActionID)
		}
	}
	return w.forget(ctx, ids...)
}

func (w *writing) forget(ctx context.Context, ids ...webhooks.ActionID) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := w.tx.Write().NewDelete().Model((*db.Message)(nil)).Where("id IN (?)", bun.List(ids)).Where("topic = ?", actionsTopic).Exec(ctx)
	return db.Check(err)
}
