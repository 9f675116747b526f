package delivery

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
)

// recordMost bounds the results of one transaction.
const recordMost = 200

// record brings the results of all lanes into the database until finished is closed: those that have gathered while the
// transaction before was under way share the next, since each commit waits for the disk.
func (s *Service) record(ctx context.Context) {
	for r := range s.finished {
		batch := []result{r}
		for more := true; more && len(batch) < recordMost; {
			select {
			case r, open := <-s.finished:
				if more = open; open {
					batch = append(batch, r)
				}
			default:
				more = false
			}
		}
		s.store(ctx, batch)
		for _, r := range batch {
			r.lane.tell(news{item: r.item, result: r, recorded: true})
		}
	}
}

// storeWithin bounds one transaction.
const storeWithin = 10 * time.Second

// store writes results, again and again while the database is away: until then the lanes, which hold a bounded number of
// deliveries each, come to a standstill. After ctx has ended it is tried once: what is lost is sent again by another.
func (s *Service) store(ctx context.Context, batch []result) {
	for {
		err := s.storeOnce(context.WithoutCancel(ctx), batch)
		if err == nil {
			return
		}
		s.Log.Error("delivery.not_recorded", "deliveries", len(batch), "error", err.Error())
		if !pause(ctx, retryAfter) {
			return
		}
	}
}

func (s *Service) storeOnce(ctx context.Context, batch []result) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		attempts := make([]endpoint.Attempt, len(batch))
		var good []bun.TupleValues
		for i, r := range batch {
			attempts[i] = r.attempt
			if r.outcome == delivered {
				good = append(good, bun.Tuple([]any{r.item.ID, r.attempt.ResponseStatus}))
			}
		}
		if _, err := tx.Write().NewInsert().Model(&attempts).Exec(ctx); err != nil {
			return db.Check(err)
		}
		if err := storeDelivered(ctx, tx, good); err != nil {
			return err
		}
		for _, r := range batch {
			if err := r.store(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// storeDelivered writes all that went well in one statement.
func storeDelivered(ctx context.Context, tx *db.Tx, good []bun.TupleValues) error {
	if len(good) == 0 {
		return nil
	}
	now := db.Now()
	_, err := tx.Write().NewRaw(`UPDATE deliveries SET status = 'delivered', attempts = attempts + 1, response_status = r.column2, error = NULL,
		first_attempt_at = COALESCE(first_attempt_at, ?), finished_at = ? FROM (VALUES ?) AS r WHERE deliveries.id = r.column1 AND status = 'pending'`,
		now, now, bun.List(good)).Exec(ctx)
	return db.Check(err)
}

// store writes what did not go well, and has what follows it wait or go on. A delivery that was retried by hand
// meanwhile stays as that has left it.
func (r result) store(ctx context.Context, tx *db.Tx) error {
	d := r.item
	switch r.outcome {
	case delivered:
		if d.Failures > 0 {
			return r.goOn(ctx, tx, db.Now())
		}
	case failed:
		changed, err := tx.Write().NewUpdate().Model((*endpoint.Delivery)(nil)).Set("attempts = attempts + 1").Set("failures = ?", d.Failures+1).
			Set("first_attempt_at = COALESCE(first_attempt_at, ?)", r.attempt.StartedAt).Set("next_attempt_at = ?", r.next).
			Set("response_status = ?", bun.NullZero(r.attempt.ResponseStatus)).Set("error = ?", r.attempt.Error).
			Where("id = ?", d.ID).Where("status = 'pending'").Where("failures = ?", d.Failures).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := changed.RowsAffected(); err != nil || n != 1 {
			return err
		}
		_, err = tx.Write().NewRaw(`UPDATE deliveries SET next_attempt_at = ?
			WHERE endpoint_id = ? AND subject = ? AND status = 'pending' AND position > ? AND next_attempt_at < ?`,
			r.next, d.EndpointID, d.Subject, d.Position, r.next).Exec(ctx)
		return db.Check(err)
	case dead:
		now := db.Now()
		_, err := tx.Write().NewUpdate().Model((*endpoint.Delivery)(nil)).Set("status = 'dead'").Set("attempts = attempts + 1").Set("failures = ?", d.Failures+1).
			Set("first_attempt_at = COALESCE(first_attempt_at, ?)", r.attempt.StartedAt).Set("finished_at = ?", now).
			Set("response_status = ?", bun.NullZero(r.attempt.ResponseStatus)).Set("error = ?", r.attempt.Error).
			Where("id = ?", d.ID).Where("status = 'pending'").Where("failures = ?", d.Failures).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		return r.goOn(ctx, tx, now)
	case returned:
	}
	return nil
}

// goOn has what waited for a delivery wait no longer.
func (r result) goOn(ctx context.Context, tx *db.Tx, now time.Time) error {
	_, err := tx.Write().NewRaw("UPDATE deliveries SET next_attempt_at = ? WHERE endpoint_id = ? AND subject = ? AND status = 'pending' AND next_attempt_at > ?",
		now, r.item.EndpointID, r.item.Subject, now).Exec(ctx)
	return db.Check(err)
}
