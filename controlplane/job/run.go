package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Run is one run of a job by this process: what a handler is given. It is safe for concurrent use, until the handler
// returns.
type Run struct {
	s      *Service
	job    Job // as it was claimed
	who    auth.Caller
	cancel context.CancelCauseFunc

	mu        sync.Mutex // guards what follows
	progress  Progress
	told      Progress // in the last event
	result    map[string]any
	errorsKey string
}

// ID is the job's id.
func (r *Run) ID() string { return r.job.ID }

// AccountID is the job's account.
func (r *Run) AccountID() string { return r.job.AccountID }

// Caller is who started the job, with the rights that it has now (Service.Callers). Its Scope is the account: narrow it
// with Over for the resource that is worked on.
func (r *Run) Caller() auth.Caller { return r.who }

// Input reads what Start was given.
func (r *Run) Input(into any) error {
	if err := json.Unmarshal(r.job.Input, into); err != nil {
		return fmt.Errorf("input of %s: %w", r.job.ID, err)
	}
	return nil
}

// Checkpoint reads what an earlier run has saved last; found is false when there is nothing.
func (r *Run) Checkpoint(into any) (found bool, err error) {
	if len(r.job.Checkpoint) == 0 {
		return false, nil
	}
	if err := json.Unmarshal(r.job.Checkpoint, into); err != nil {
		return false, fmt.Errorf("checkpoint of %s: %w", r.job.ID, err)
	}
	return true, nil
}

// Progress tells how far the job is. It writes nothing itself: the row and its event follow within a second.
func (r *Run) Progress(done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = Progress{Done: done, Total: total}
}

// Result sets what the job will show as its result once it ends. The map is copied.
func (r *Run) Result(result map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result = maps.Clone(result)
}

// Errors names the blob, a csv, that lists what went wrong. It is deleted with the job.
func (r *Run) Errors(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errorsKey = key
}

// InTx runs fn in a transaction that can be committed only while this run holds the claim: it is ErrLost, with nothing
// written, when another worker has it, and ErrCanceled when somebody asked to cancel. No other worker can claim the job
// until the transaction is over, and the lease begins anew with it.
func (r *Run) InTx(ctx context.Context, fn func(ctx context.Context, tx *db.Tx) error) error {
	err := r.s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		j, err := r.held(ctx, tx)
		if err != nil {
			return err
		}
		if j.CancelAsked {
			return ErrCanceled
		}
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return r.renew(ctx, tx)
	})
	r.stopFor(err)
	return err
}

// stopFor ends the handler's context for the two errors that nothing can be done about.
func (r *Run) stopFor(err error) {
	for _, end := range []error{ErrLost, ErrCanceled} {
		if errors.Is(err, end) {
			r.cancel(end)
		}
	}
}

// renew extends the lease of the job, which is locked in this transaction, and writes its progress.
func (r *Run) renew(ctx context.Context, tx *db.Tx) error {
	r.mu.Lock()
	progress := r.progress
	r.mu.Unlock()
	now := db.Now()
	_, err := tx.Write().NewUpdate().Model((*Job)(nil)).Set("available_at = ?", now.Add(r.s.lease())).
		Set("progress_done = ?", progress.Done).Set("progress_total = ?", progress.Total).Where("id = ?", r.job.ID).Exec(ctx)
	return db.Check(err)
}

// Save keeps, in the transaction of an InTx, how far the work has come with it: the next run finds it in Checkpoint. It
// must marshal to a JSON object.
func (r *Run) Save(ctx context.Context, tx *db.Tx, checkpoint any) error {
	text, err := json.Marshal(checkpoint)
	if err != nil {
		return fmt.Errorf("checkpoint of %s: %w", r.job.ID, err)
	}
	_, err = tx.Write().NewUpdate().Model(&Job{Checkpoint: text}).Column("checkpoint", "attempts", "failures").
		Where("id = ?", r.job.ID).Exec(ctx)
	return db.Check(err)
}

// beats keeps the lease and writes the progress until ctx ends.
func (r *Run) beats(ctx context.Context) {
	every := min(r.s.lease()/3, time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.moved() && time.Since(renewed) < r.s.lease()/3 {
			continue
		}
		if err := r.beat(ctx); err != nil && ctx.Err() == nil {
			// Also while this job's own long transaction is SQLite's one writer. Nobody else can claim it then.
			r.s.Log.Debug("job.beat_failed", "job_id", r.job.ID, "error", err.Error())
			continue
		}
		renewed = time.Now()
	}
}

// moved reports whether there is progress that no event told of.
func (r *Run) moved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress != r.told
}

// beat renews the lease, tells of the progress, and hears whether the job shall be canceled.
func (r *Run) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.s.lease())
	defer cancel()
	var told Progress
	err := r.s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		j, err := r.held(ctx, tx)
		if err != nil {
			return err
		}
		if j.CancelAsked {
			return ErrCanceled
		}
		r.mu.Lock()
		j.Progress, told = r.progress, r.progress
		moved := r.progress != r.told
		r.mu.Unlock()
		j.AvailableAt = db.Now().Add(r.s.lease())
		if !moved {
			return store(ctx, tx, j)
		}
		return r.s.write(ctx, tx, j)
	})
	r.stopFor(err)
	if err == nil {
		r.mu.Lock()
		r.told = told
		r.mu.Unlock()
	}
	return err
}
