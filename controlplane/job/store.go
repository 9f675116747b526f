package job

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// locking is the clause that a read needs before a write in a transaction. SQLite's has the only writer.
func locking(idb bun.IDB, clause string) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		if idb.Dialect().Name() == dialect.PG {
			return q.For(clause)
		}
		return q
	}
}

// lock reads a job that is going to be changed.
func lock(ctx context.Context, tx *db.Tx, scope auth.Scope, id string) (*Job, error) {
	j, err := db.Find[Job](ctx, tx, scope, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.id = ?", id).Apply(locking(tx.Write(), "UPDATE"))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.NoSuch(id)
	}
	return j, err
}

// write stores a job that was locked in this transaction, and tells of it.
func (s *Service) write(ctx context.Context, tx *db.Tx, j *Job) error {
	if err := store(ctx, tx, j); err != nil {
		return err
	}
	return s.tell(ctx, tx, *j)
}

// store writes a job that was locked in this transaction.
func store(ctx context.Context, tx *db.Tx, j *Job) error {
	n, err := strconv.ParseInt(j.Etag, 10, 64)
	if err != nil {
		return fmt.Errorf("job %s: etag %q is not a count", j.ID, j.Etag)
	}
	j.Etag, j.UpdatedAt = strconv.FormatInt(n+1, 10), db.Now()
	_, err = tx.Write().NewUpdate().Model(j).ExcludeColumn("id", "account_id", "created_at", "input", "caller").WherePK().Exec(ctx)
	return db.Check(err)
}

// end stores a job whose status became an end, and calls the kind's Ended.
func (s *Service) end(ctx context.Context, tx *db.Tx, j *Job) error {
	now := db.Now()
	j.FinishedAt = &now
	if fn := s.handlers[j.Kind].ended; fn != nil {
		if err := fn(ctx, tx, j); err != nil {
			return fmt.Errorf("after %s of kind %s: %w", j.ID, j.Kind, err)
		}
	}
	return s.write(ctx, tx, j)
}

// running counts the jobs of each account that a worker holds now.
func running(ctx context.Context, tx *db.Tx, now time.Time) (map[string]int, error) {
	var rows []struct {
		AccountID string `bun:"account_id"`
		Jobs      int    `bun:"jobs"`
	}
	err := tx.Read().NewSelect().Model((*Job)(nil)).Column("account_id").ColumnExpr("count(*) AS jobs").
		Where("status = ?", Running).Where("available_at > ?", now).GroupExpr("account_id").Scan(ctx, &rows)
	if err != nil {
		return nil, db.Check(err)
	}
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.AccountID] = r.Jobs
	}
	return counts, nil
}

// claim takes the job that is due longest, of an account with nothing running before one with, but none of those in
// mine, which this process runs already; it is nil when there is none. Two claims never take the same job: PostgreSQL
// skips rows that another claim has locked, SQLite has one writer.
func (s *Service) claim(ctx context.Context, mine []string) (*Job, error) {
	// Looking takes no transaction: on SQLite that would wait for the one writer, each time.
	due, err := s.DB.Read().NewSelect().Model((*Job)(nil)).Where("status IN (?)", bun.List([]Status{Queued, Running})).
		Where("available_at <= ?", db.Now()).Exists(ctx)
	if err != nil || !due {
		return nil, db.Check(err)
	}
	var claimed *Job
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		now := db.Now()
		counts, err := running(ctx, tx, now)
		if err != nil {
			return err
		}
		var active, full []string
		for account, n := range counts {
			active = append(active, account)
			if n >= or(s.PerAccount, 2) {
				full = append(full, account)
			}
		}
		var kinds []string
		for kind := range s.handlers {
			kinds = append(kinds, kind)
		}
		j, err := db.Find[Job](ctx, tx, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
			q = q.Where("status IN (?)", bun.List([]Status{Queued, Running})).Where("available_at <= ?", now).Where("kind IN (?)", bun.List(kinds))
			if len(mine) > 0 {
				q = q.Where("id NOT IN (?)", bun.List(mine))
			}
			if len(full) > 0 {
				q = q.Where("account_id NOT IN (?)", bun.List(full))
			}
			if len(active) > 0 {
				q = q.OrderExpr("CASE WHEN account_id IN (?) THEN 1 ELSE 0 END", bun.List(active))
			}
			return q.OrderBy("available_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Apply(locking(tx.Write(), "UPDATE SKIP LOCKED"))
		})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		j.Token++
		j.Attempts++
		j.Status, j.AvailableAt = Running, now.Add(s.lease())
		if j.StartedAt == nil {
			j.StartedAt = &now
		}
		claimed = j
		return s.write(ctx, tx, j)
	})
	return claimed, err
}

// held reads, and locks until the end of the transaction, the job of a run. It is ErrLost when the run's claim is not the
// latest any more, or the job ended.
func (r *Run) held(ctx context.Context, tx *db.Tx) (*Job, error) {
	j, err := lock(ctx, tx, auth.Account(r.job.AccountID), r.job.ID)
	if p, ok := errors.AsType[*problem.Problem](err); ok && p.Code == problem.CodeNotFound {
		return nil, ErrLost
	}
	if err != nil {
		return nil, err
	}
	if j.Token != r.job.Token || j.Status != Running {
		return nil, ErrLost
	}
	return j, nil
}

// Purge removes jobs that ended longer ago than Keep, and their errors files.
func (s *Service) Purge(ctx context.Context) error {
	const most = 500
	for {
		old, err := db.List[Job](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Column("id", "errors_key").Where("finished_at < ?", db.Now().Add(-or(s.Keep, 30*24*time.Hour))).Limit(most)
		})
		if err != nil || len(old) == 0 {
			return err
		}
		ids := make([]string, 0, len(old))
		for _, j := range old {
			ids = append(ids, j.ID)
			if j.ErrorsKey == "" {
				continue
			}
			if err := s.Blobs.Delete(ctx, j.ErrorsKey); err != nil {
				return err
			}
		}
		if _, err := s.DB.Write().NewDelete().Model((*Job)(nil)).Where("id IN (?)", bun.List(ids)).Exec(ctx); err != nil {
			return db.Check(err)
		}
		if len(old) < most {
			return nil
		}
	}
}
