package call

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
)

// purgeMost bounds the calls of one transaction of Purge. Each has a dozen events or so.
const purgeMost = 200

// Purge removes the records of calls that ended longer ago than the Limits.RetentionDays of their account, with their
// events and what Release removes. A call that has not ended stays, and so does one that Release has stay. What else names
// a call goes on doing so: one that it led to (parent_call_id), a conversation, a delivery, a notification, the audit. A
// reader of events who comes back to a position before those that are gone is not told so, unless all accounts' are. It
// goes on with the other accounts when one fails, and repeats the rest the next time. Call it every hour or so, in any
// process: one does it at a time.
func (s *Service) Purge(ctx context.Context) error {
	return s.DB.Lock(ctx, "calls.purge", func(ctx context.Context) error {
		accounts, err := db.List[account.Account](ctx, s.DB, auth.Everywhere())
		if err != nil {
			return err
		}
		now, errs := db.Now(), []error(nil)
		for _, a := range accounts {
			keep := a.Limits.Retention()
			if keep == 0 {
				continue
			}
			if err := s.purge(ctx, a.ID, now.Add(-keep)); err != nil {
				errs = append(errs, fmt.Errorf("purge calls of %s: %w", a.ID, err))
			}
		}
		return errors.Join(errs...)
	})
}

func (s *Service) purge(ctx context.Context, accountID string, before time.Time) error {
	from := Call{}
	for {
		old, err := s.endedBefore(ctx, accountID, before, &from)
		if err != nil || len(old) == 0 {
			return err
		}
		ids := make([]webhooks.CallID, len(old))
		for i, c := range old {
			ids[i] = webhooks.CallID(c.ID)
		}
		err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return s.remove(ctx, tx, accountID, ids) })
		if err != nil || len(old) < purgeMost {
			return err
		}
		from = old[len(old)-1]
	}
}

// endedBefore reads an account's next calls that go, after one. It goes by created_at, which has the index: a record is
// made when its call begins, or later, when the news of it was late. So a call that we came to know of long after it had
// ended is kept for its time too.
func (s *Service) endedBefore(ctx context.Context, accountID string, before time.Time, from *Call) ([]Call, error) {
	return db.List[Call](ctx, s.DB, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Column("id", "created_at").Where("created_at < ?", before).Where("ended_at < ?", before).
			Where("(created_at, id) > (?, ?)", from.CreatedAt, from.ID).OrderExpr("created_at, id").Limit(purgeMost)
	})
}

// remove deletes calls and what hangs on them. The calls go before their events: whoever adds an event changes the row, so
// that either the event is there when the events go, or the row is not there when the event comes.
func (s *Service) remove(ctx context.Context, tx *db.Tx, accountID string, ids []webhooks.CallID) error {
	if s.Release != nil {
		stay, err := s.Release(ctx, tx, webhooks.AccountID(accountID), ids)
		if err != nil {
			return err
		}
		ids = slices.DeleteFunc(ids, func(id webhooks.CallID) bool { return slices.Contains(stay, id) })
	}
	if len(ids) == 0 {
		return nil
	}
	if _, err := tx.Write().NewDelete().Model((*Call)(nil)).Where("account_id = ?", accountID).Where("id IN (?)", bun.List(ids)).Exec(ctx); err != nil {
		return db.Check(err)
	}
	_, err := tx.Write().NewDelete().Model((*event.Event)(nil)).Where("account_id = ?", accountID).Where("object_id IN (?)", bun.List(ids)).Exec(ctx)
	return db.Check(err)
}
