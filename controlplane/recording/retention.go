package recording

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// purgeMost bounds the recordings that are read at once.
const purgeMost = 100

// Purge deletes the audio of recordings that are older than their account keeps them: Keep, or the account's
// Limits.RetentionDays where that is shorter. Their rows stay, with the status deleted, as when somebody deletes one. What
// is still being recorded, or on its way, is left. It goes on with the other accounts when one fails, and repeats the rest
// the next time. Call it every hour or so, in any process: one does it at a time.
func (s *Service) Purge(ctx context.Context) error {
	return s.DB.Lock(ctx, "recordings.purge", func(ctx context.Context) error {
		accounts, err := db.List[account.Account](ctx, s.DB, auth.Everywhere())
		if err != nil {
			return err
		}
		var errs []error
		for i := range accounts {
			if err := s.purgeAccount(ctx, &accounts[i]); err != nil {
				errs = append(errs, fmt.Errorf("purge recordings of %s: %w", accounts[i].ID, err))
			}
		}
		return errors.Join(errs...)
	})
}

func (s *Service) purgeAccount(ctx context.Context, a *account.Account) error {
	keep := a.Limits.Retention()
	if s.Keep != nil {
		own, err := s.Keep(ctx, webhooks.AccountID(a.ID))
		if err != nil {
			return err
		}
		if keep == 0 || (own > 0 && own < keep) {
			keep = own
		}
	}
	if keep == 0 {
		return nil
	}
	before, from := db.Now().Add(-keep), Recording{}
	for {
		old, err := s.olderThan(ctx, a.ID, before, &from)
		if err != nil {
			return err
		}
		var errs []error
		for i := range old {
			errs = append(errs, s.expire(ctx, &old[i]))
		}
		// With a store that is away there is no point in trying all the others.
		if err := errors.Join(errs...); err != nil || len(old) < purgeMost {
			return err
		}
		from = old[len(old)-1]
	}
}

// olderThan reads an account's next recordings with bytes, after one, the oldest first. What was deleted is not read again
// for each batch.
func (s *Service) olderThan(ctx context.Context, accountID string, before time.Time, from *Recording) ([]Recording, error) {
	return db.List[Recording](ctx, s.DB, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("status IN (?, ?)", StatusCompleted, StatusFailed).Where("created_at < ?", before).
			Where("(created_at, id) > (?, ?)", from.CreatedAt, from.ID).OrderExpr("created_at, id").Limit(purgeMost)
	})
}

// expire deletes a recording's audio unless somebody else does. The bytes go first, for what is marked as deleted nobody
// looks at again; a process that dies in between leaves a row whose audio is not found, until the next purge.
func (s *Service) expire(ctx context.Context, old *Recording) error {
	return s.DB.Lock(ctx, "recording."+old.ID, func(ctx context.Context) error {
		r, err := db.Get[Recording](ctx, s.DB, auth.Account(old.AccountID), old.ID)
		switch {
		case problem.From(err).Code == problem.CodeNotFound:
			return nil
		case err != nil:
			return err
		case r.Status != StatusCompleted && r.Status != StatusFailed:
			return nil
		}
		if err := s.erase(ctx, r); err != nil {
			return err
		}
		_, err = db.Change(ctx, s.DB, auth.Account(r.AccountID), r.ID, "", func(r *Recording) error {
			r.erased()
			return nil
		})
		return err
	})
}

// erased marks a recording as one whose audio is gone.
func (r *Recording) erased() { r.Status, r.Size = StatusDeleted, 0 }

// Release removes the rows of the recordings of calls whose records go, in the transaction in which they do, and gives the
// calls that must stay: a recording of theirs still has audio, which nobody would find again. It is call.Service.Release.
func (s *Service) Release(ctx context.Context, tx *db.Tx, accountID webhooks.AccountID, calls []webhooks.CallID) (stay []webhooks.CallID, err error) {
	err = tx.Read().NewSelect().Model((*Recording)(nil)).ColumnExpr("DISTINCT call_id").Where("account_id = ?", accountID).
		Where("call_id IN (?)", bun.List(calls)).Where("status <> ?", StatusDeleted).Scan(ctx, &stay)
	if err != nil {
		return nil, db.Check(err)
	}
	q := tx.Write().NewDelete().Model((*Recording)(nil)).Where("account_id = ?", accountID).Where("call_id IN (?)", bun.List(calls))
	if len(stay) > 0 {
		q = q.Where("call_id NOT IN (?)", bun.List(stay))
	}
	_, err = q.Exec(ctx)
	return stay, db.Check(err)
}

// unknown is what an edge is told that ships a recording of a call of which there is no record. Its events may still be on
// their way, and the edge is to try again; but not for ever, when the call is so old that its record is kept no longer.
func (s *Service) unknown(ctx context.Context, o call.Owner, id webhooks.RecordingID) error {
	a, err := db.Get[account.Account](ctx, s.DB, auth.Account(string(o.AccountID)), string(o.AccountID))
	if err != nil {
		return err
	}
	_, text, _ := strings.Cut(string(o.CallID), "_")
	made, err := ulid.ParseStrict(text)
	if keep := a.Limits.Retention(); err == nil && keep > 0 && time.Since(made.Timestamp()) > keep {
		return fmt.Errorf("%w: the record of call %s is no longer kept", call.ErrRefused, o.CallID)
	}
	return fmt.Errorf("recording %s: nothing is known of call %s yet", id, o.CallID)
}
