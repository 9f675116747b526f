package transfer

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
)

// task is an import that a job works for.
type task struct {
	s    *Service
	run  *job.Run
	imp  *Import
	file *os.File // nil for a revert
	eng  *engine
}

// open reads what a job works for; call close at the end.
func (s *Service) open(ctx context.Context, run *job.Run, withFile bool) (*task, func(), error) {
	var in work
	if err := run.Input(&in); err != nil {
		return nil, nil, err
	}
	i, err := db.Get[Import](ctx, s.DB, auth.Account(run.AccountID()), in.ImportID)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.resource(i.Resource)
	if err != nil {
		return nil, nil, err
	}
	if !run.Caller().Can(r.Permission) {
		return nil, nil, problem.Forbidden(r.Permission)
	}
	t := &task{s: s, run: run, imp: i, eng: newEngine(r, run.Caller(), i)}
	if !withFile {
		return t, func() {}, nil
	}
	file, _, remove, err := s.spool(ctx, i.FileKey)
	if err != nil {
		return nil, nil, err
	}
	t.file = file
	if err := t.countRows(ctx); err != nil {
		remove()
		return nil, nil, err
	}
	return t, remove, nil
}

// table opens the file, as it was read when it was uploaded.
func (t *task) table() (*sheet.Reader, error) {
	r, err := sheet.Open(t.file, t.imp.Size, sheet.Options{
		Encoding: t.imp.Encoding, Separator: t.imp.Separator, Sheet: t.imp.Sheet, Limits: t.s.Limits,
	})
	return r, refusal(err)
}

// countRows reads the file once, so that a file with too many rows is refused before any is written, and the progress
// has a total.
func (t *task) countRows(ctx context.Context) error {
	if t.imp.Rows != nil {
		return nil
	}
	r, err := t.table()
	if err != nil {
		return err
	}
	defer r.Close()
	n := int64(0)
	for {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			t.imp.Rows = &n
			return nil
		} else if err != nil {
			return refusal(err)
		}
		if n++; n%batchRows == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// around runs a transaction as its resource wants it.
func (t *task) around(ctx context.Context, transaction func(ctx context.Context) error) error {
	if t.eng.resource.Around == nil {
		return transaction(ctx)
	}
	return t.eng.resource.Around(ctx, transaction)
}

// rows reads up to batchRows rows; there are none at the end.
func rows(r *sheet.Reader) ([]sheet.Row, error) {
	var all []sheet.Row
	for len(all) < batchRows {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, refusal(err)
		}
		all = append(all, row)
	}
	return all, nil
}

// errTrial ends the transaction of a dry run.
var errTrial = errors.New("transfer: only a dry run")

// check is the job of a dry run: all rows go through one transaction that is rolled back, so that each has the verdict
// that a commit would give it after those before it. On SQLite nothing else is written meanwhile.
func (s *Service) check(ctx context.Context, run *job.Run) error {
	t, done, err := s.open(ctx, run, true)
	if err != nil {
		return err
	}
	defer done()
	file, err := os.CreateTemp("", "hookswitch-report-")
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	defer func() {
		file.Close()
		_ = os.Remove(file.Name()) // a temporary file that stays is the system's to remove
	}()
	counts, err := t.trial(ctx, file)
	if err != nil {
		return err
	}
	key := s.key(t.imp.AccountID, t.imp.ID, "dry_run.csv")
	if _, err := s.upload(ctx, key, file); err != nil {
		return err
	}
	run.Errors(key)
	run.Result(counts.result())
	return run.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return t.write(ctx, tx, &Import{Rows: t.imp.Rows, Checked: &counts, CheckKey: key}, "rows", "checked", "check_key")
	})
}

func (c Counts) result() map[string]any {
	return map[string]any{"created": c.Created, "updated": c.Updated, "skipped": c.Skipped, "errors": c.Errors}
}

// write stores some columns of the import, besides its etag.
func (t *task) write(ctx context.Context, tx *db.Tx, i *Import, columns ...string) error {
	i.UpdatedAt = db.Now()
	_, err := tx.Write().NewUpdate().Model(i).Column(append(columns, "updated_at")...).Where("id = ?", t.imp.ID).Exec(ctx)
	return db.Check(err)
}

// trial runs every row, writes the report of it, and undoes everything.
func (t *task) trial(ctx context.Context, report io.Writer) (counts Counts, err error) {
	err = t.around(ctx, func(ctx context.Context) error {
		counts = Counts{}
		return t.s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			source, err := t.table()
			if err != nil {
				return err
			}
			defer source.Close()
			w, err := newReport(report, t.imp, t.eng.resource)
			if err != nil {
				return err
			}
			for done := int64(0); ; {
				given, err := rows(source)
				if err != nil {
					return err
				}
				if len(given) == 0 {
					return errors.Join(errTrial, w.Close())
				}
				outcomes, err := t.eng.batch(ctx, tx, t.eng.ready(given))
				if err != nil {
					return err
				}
				for n, o := range outcomes {
					if err := w.add(o, given[n].Cells, false); err != nil {
						return err
					}
				}
				counts.add(outcomes)
				done += int64(len(given))
				t.run.Progress(done, *t.imp.Rows)
			}
		})
	})
	if errors.Is(err, errTrial) {
		return counts, nil
	}
	return counts, err
}

// commit is the job that writes the rows: batch after batch, each in one transaction with what is known of it, so that a
// run which takes over goes on at the first row that is not written.
func (s *Service) commit(ctx context.Context, run *job.Run) error {
	t, done, err := s.open(ctx, run, true)
	if err != nil {
		return err
	}
	defer done()
	key := s.key(t.imp.AccountID, t.imp.ID, "commit.csv")
	run.Errors(key)
	err = t.commitAll(ctx)
	if errors.Is(err, job.ErrCanceled) || errors.Is(context.Cause(ctx), job.ErrCanceled) {
		// What was done has a report too.
		kept, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return errors.Join(job.ErrCanceled, t.reportCommit(kept, key))
	}
	if err != nil {
		return err
	}
	return t.reportCommit(ctx, key)
}

func (t *task) commitAll(ctx context.Context) error {
	source, err := t.table()
	if err != nil {
		return err
	}
	defer source.Close()
	for range t.imp.Position {
		if _, err := source.Next(); err != nil {
			return refusal(err)
		}
	}
	reading, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop()
	coming := make(chan coming)
	reader.Go(func() {
		defer close(coming)
		t.readAhead(reading, source, coming)
	})
	for {
		if t.imp.Counts != nil {
			t.run.Result(t.imp.Counts.result())
		}
		t.run.Progress(t.imp.Position, *t.imp.Rows)
		next, more := <-coming
		if !more || next.err != nil {
			return cmp.Or(next.err, context.Cause(ctx))
		}
		if err := t.around(ctx, func(ctx context.Context) error { return t.commitBatch(ctx, next.batch) }); err != nil {
			return err
		}
	}
}

// coming is the next batch of a file, or why there is none.
type coming struct {
	batch ready
	err   error
}

// readAhead makes the batches of a file ready, each while the one before it is written, until there are no more or ctx ends.
// With PostgreSQL, which works in a process of its own, an import of numbers is half as fast again.
func (t *task) readAhead(ctx context.Context, source *sheet.Reader, to chan<- coming) {
	for {
		given, err := rows(source)
		if err == nil && len(given) == 0 {
			return
		}
		select {
		case to <- coming{t.eng.ready(given), err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// commitBatch writes the next rows.
func (t *task) commitBatch(ctx context.Context, given ready) error {
	next := *t.imp
	err := t.run.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		// A batch that is lost is read again: where it stands in the file is lost with it.
		if err := tx.CommitAsync(ctx); err != nil {
			return err
		}
		if next.BeganAt == nil {
			// Before the first row: an object that was changed later, was changed by this import, or by somebody else.
			now := db.Now()
			next.BeganAt = &now
		}
		outcomes, err := t.eng.batch(ctx, tx, given)
		if err != nil {
			return err
		}
		counts := Counts{}
		if t.imp.Counts != nil {
			counts = *t.imp.Counts
		}
		counts.add(outcomes)
		next.Counts, next.Position = &counts, t.imp.Position+int64(len(given.outcomes))
		b := &batch{ImportID: t.imp.ID, Number: t.imp.Position / batchRows, AccountID: t.imp.AccountID, Outcomes: outcomes}
		if _, err := tx.Write().NewInsert().Model(b).Exec(ctx); err != nil {
			return db.Check(err)
		}
		if err := t.write(ctx, tx, &next, "rows", "counts", "position", "began_at"); err != nil {
			return err
		}
		return t.run.Save(ctx, tx, map[string]int64{"rows": next.Position})
	})
	if err == nil {
		t.imp = &next
	}
	return err
}

// revert is the job that undoes a commit, the last batch first.
func (s *Service) revert(ctx context.Context, run *job.Run) error {
	t, done, err := s.open(ctx, run, false)
	if err != nil {
		return err
	}
	defer done()
	total := (t.imp.Position + batchRows - 1) / batchRows
	left := total
	if t.imp.RevertLeft != nil {
		left = *t.imp.RevertLeft
	}
	u := undo{task: t, etags: map[string]string{}}
	if err := u.recall(ctx, left); err != nil {
		return err
	}
	for ; left > 0; left-- {
		run.Progress(total-left, total)
		if err := t.around(ctx, func(ctx context.Context) error { return u.batch(ctx, left-1) }); err != nil {
			return err
		}
	}
	run.Progress(total, total)
	if t.imp.Reverted != nil {
		run.Result(map[string]any{"removed": t.imp.Reverted.Removed, "restored": t.imp.Reverted.Restored, "kept": t.imp.Reverted.Kept})
	}
	key := s.key(t.imp.AccountID, t.imp.ID, "revert.csv")
	run.Errors(key)
	return t.reportRevert(ctx, key)
}

// undo is a revert in progress.
type undo struct {
	*task
	// etags are those of objects that were restored, where an earlier row of the import may have touched them too.
	etags map[string]string
}

// recall reads the etags of what earlier runs have restored.
func (u *undo) recall(ctx context.Context, from int64) error {
	for {
		some, err := batches(ctx, u.s.DB, u.imp.ID, from, 20)
		if err != nil || len(some) == 0 {
			return err
		}
		for _, b := range some {
			for _, r := range b.Reverted {
				// A later batch's is the older one.
				if _, had := u.etags[r.ObjectID]; r.ObjectID != "" && !had {
					u.etags[r.ObjectID] = r.Etag
				}
			}
			from = b.Number + 1
		}
	}
}

func (u *undo) batch(ctx context.Context, number int64) error {
	fresh := map[string]string{}
	next := *u.imp
	err := u.run.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		clear(fresh)
		some, err := batches(ctx, tx, u.imp.ID, number, 1)
		if err != nil {
			return err
		}
		if len(some) == 0 || some[0].Number != number {
			return problem.Refused("what this import did is kept no longer; it cannot be reverted")
		}
		b := some[0]
		b.Reverted = make([]undoing, len(b.Outcomes))
		sums := Undone{}
		if u.imp.Reverted != nil {
			sums = *u.imp.Reverted
		}
		for n := len(b.Outcomes) - 1; n >= 0; n-- {
			if b.Reverted[n], err = u.row(ctx, tx, b.Outcomes[n], fresh); err != nil {
				return err
			}
			sums.add(b.Reverted[n])
		}
		next.Reverted, next.RevertLeft = &sums, &number
		if _, err := tx.Write().NewUpdate().Model(&b).Column("reverted").WherePK().Exec(ctx); err != nil {
			return db.Check(err)
		}
		if err := u.write(ctx, tx, &next, "reverted", "revert_left"); err != nil {
			return err
		}
		return u.run.Save(ctx, tx, map[string]int64{"left": number})
	})
	if err == nil {
		u.imp = &next
		for id, etag := range fresh {
			u.etags[id] = etag
		}
	}
	return err
}

// The verdicts of a revert.
const (
	removed  = "removed"
	restored = "restored"
	kept     = "kept"
)

func (u *Undone) add(r undoing) {
	switch r.Verdict {
	case removed:
		u.Removed++
	case restored:
		u.Restored++
	case kept:
		u.Kept++
	}
}

// row undoes what one row has done, unless somebody else has changed the object since.
func (u *undo) row(ctx context.Context, tx *db.Tx, o Outcome, fresh map[string]string) (undoing, error) {
	etag := o.Etag
	for _, known := range []map[string]string{u.etags, fresh} {
		if e, ok := known[o.ObjectID]; ok {
			etag = e
		}
	}
	done := undoing{}
	err := savepoint(ctx, tx, func() error {
		switch o.Verdict {
		case Created:
			done.Verdict = removed
			return u.eng.resource.Remove(ctx, tx, u.eng.who, o.ObjectID, etag)
		case Updated:
			done.Verdict = restored
			newEtag, err := u.eng.resource.Restore(ctx, tx, u.eng.who, o.ObjectID, etag, o.Before)
			if err == nil && o.BeforeAt != nil && u.imp.BeganAt != nil && !o.BeforeAt.Before(*u.imp.BeganAt) {
				done.ObjectID, done.Etag = o.ObjectID, newEtag
				fresh[o.ObjectID] = newEtag
			}
			return err
		}
		return nil
	})
	p, ok := rowError(err)
	if !ok {
		return done, err
	}
	done = undoing{Verdict: kept, Reason: p.Detail}
	switch p.Code {
	case problem.CodePrecondition:
		done.Reason = "was changed since"
	case problem.CodeNotFound:
		done.Reason = "was removed since"
	}
	return done, nil
}

// importEnded lets an import follow the end of its job.
func (s *Service) importEnded(ctx context.Context, tx *db.Tx, j *job.Job) error {
	i, err := db.Find[Import](ctx, tx, auth.Account(j.AccountID), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("job_id = ?", j.ID) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it is another's by now
	}
	if err != nil {
		return err
	}
	now := db.Now()
	until := now.Add(revertFor)
	good := j.Status == job.Succeeded
	switch j.Kind {
	case kindCheck:
		i.Status = Uploaded
		if good {
			i.Status = Checked
		}
	case kindCommit:
		i.Status = Stopped
		if good {
			i.Status, i.CompletedAt = Committed, &now
		}
		if i.Position > 0 {
			i.RevertUntil = &until
		}
		i.CommitKey = j.ErrorsKey
	case kindRevert:
		switch {
		case good:
			i.Status, i.RevertKey = Reverted, j.ErrorsKey
		case i.CompletedAt != nil:
			i.Status = Committed
		default:
			i.Status = Stopped
		}
	}
	i.Failure = j.Failure
	return db.Update(ctx, tx, auth.Account(j.AccountID), i, "")
}
