package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// topic is the bus's topic: an empty message says that there is something to claim, any other is the id of a job that
// shall be canceled.
const topic = "jobs"

// purgeEvery is how often ended jobs are looked for that are kept no longer.
const purgeEvery = time.Hour

// worker is one Run of a Service.
type worker struct {
	s       *Service
	running map[string]context.CancelCauseFunc
	done    chan string // ids
	all     sync.WaitGroup
}

// Run claims jobs and runs them, until ctx ends; the jobs in progress are then stopped and given back, to go on from
// their checkpoints elsewhere or later. It waits for them.
func (s *Service) Run(ctx context.Context) error {
	w := &worker{s: s, running: map[string]context.CancelCauseFunc{}, done: make(chan string)}
	poll, purge := time.NewTicker(or(s.Poll, time.Second)), time.NewTicker(purgeEvery)
	defer poll.Stop()
	defer purge.Stop()
	var sub *bus.Subscription
	var messages <-chan bus.Message
	defer func() {
		if sub != nil {
			_ = sub.Close() // a bus that is gone has nothing to say
		}
	}()
	for {
		if messages == nil {
			if fresh, err := s.Bus.Subscribe(ctx, topic); err == nil {
				sub, messages = fresh, fresh.C
			}
		}
		w.fill(ctx)
		select {
		case <-ctx.Done():
			w.drain()
			return nil
		case id := <-w.done:
			delete(w.running, id)
		case m, ok := <-messages:
			if !ok {
				messages = nil
				// Not at once again: the bus is closed.
				select {
				case <-ctx.Done():
				case <-poll.C:
				}
				continue
			}
			if stop, found := w.running[string(m.Payload)]; found {
				stop(ErrCanceled)
			}
		case <-poll.C:
		case <-purge.C:
			if err := s.Purge(ctx); err != nil && ctx.Err() == nil {
				s.Log.Error("job.purge", "error", err.Error())
			}
		}
	}
}

// drain waits for the jobs in progress, whose contexts have ended.
func (w *worker) drain() {
	gone := make(chan struct{})
	go func() {
		w.all.Wait()
		close(gone)
	}()
	for {
		select {
		case <-w.done:
		case <-gone:
			return
		}
	}
}

// fill claims jobs while there is room.
func (w *worker) fill(ctx context.Context) {
	for len(w.running) < or(w.s.Parallel, 4) && ctx.Err() == nil {
		var mine []string
		for id := range w.running {
			mine = append(mine, id)
		}
		j, err := w.s.claim(ctx, mine)
		if err != nil && ctx.Err() == nil {
			w.s.Log.Warn("job.claim", "error", err.Error())
		}
		if err != nil || j == nil {
			return
		}
		run, stop := context.WithCancelCause(ctx)
		w.running[j.ID] = stop
		w.all.Go(func() {
			w.s.execute(run, stop, *j)
			stop(nil)
			w.done <- j.ID
		})
	}
}

// maxAttempts is how often a job is claimed without a checkpoint between: one that takes the process down with it must
// not do so for ever. Above it, it has failed.
const maxAttempts = 100

// execute runs a claimed job and writes how that ended.
func (s *Service) execute(ctx context.Context, stop context.CancelCauseFunc, j Job) {
	started := time.Now()
	ctx = db.AsAccount(ctx, j.AccountID)
	r := &Run{s: s, job: j, cancel: stop, progress: j.Progress, told: j.Progress}
	err := r.work(ctx)
	outcome, settleErr := r.settle(ctx, err)
	attributes := []any{
		"job_id", j.ID, "account_id", j.AccountID, "kind", j.Kind, "outcome", outcome, "attempt", j.Attempts,
		"duration_ms", time.Since(started).Milliseconds(),
	}
	if err != nil {
		attributes = append(attributes, "error", err.Error())
	}
	if settleErr != nil {
		// The lease will end, and the job be claimed again.
		attributes = append(attributes, "settle_error", settleErr.Error())
	}
	s.Log.Info("job.ran", attributes...)
}

// work calls the handler while beats keep the lease.
func (r *Run) work(ctx context.Context) error {
	if r.job.CancelAsked {
		return ErrCanceled
	}
	if r.job.Attempts > maxAttempts {
		return problem.Refused(gaveUp)
	}
	who, err := r.job.caller()
	if err != nil {
		return fmt.Errorf("caller of %s: %w", r.job.ID, err)
	}
	if r.s.Callers != nil {
		if who, err = r.s.Callers(ctx, who); err != nil {
			return err
		}
	}
	r.who = who
	beating, end := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { r.beats(beating) })
	err = r.handle(ctx)
	end()
	beats.Wait()
	return err
}

func (r *Run) handle(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.s.Log.Error("job.panic", "job_id", r.job.ID, "kind", r.job.Kind, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return r.s.handlers[r.job.Kind].run(ctx, r)
}

// settleWithin bounds the writing of a run's end, which is done also while the process stops.
const settleWithin = 10 * time.Second

// What a job that failed says of causes which concern nobody but us.
const gaveUp = "this could not be completed, after several tries; start it again, and report its id if it fails again"

// settle writes how a run ended, and names it for the log. A run that lost its claim writes nothing.
func (r *Run) settle(ctx context.Context, failed error) (outcome string, err error) {
	stopped := ctx.Err() != nil
	if errors.Is(context.Cause(ctx), ErrLost) {
		return "lost", nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	err = r.s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		j, err := r.held(ctx, tx)
		if err != nil {
			return err
		}
		r.mu.Lock()
		j.Progress, j.Result, j.ErrorsKey = r.progress, r.result, r.errorsKey
		r.mu.Unlock()
		r.decide(j, failed, stopped)
		outcome = string(j.Status)
		if j.Status.Ended() {
			return r.s.end(ctx, tx, j)
		}
		return r.s.write(ctx, tx, j)
	})
	if errors.Is(err, ErrLost) {
		return "lost", nil
	}
	return outcome, err
}

// decide gives a job the status that follows from the end of its run.
func (r *Run) decide(j *Job, failed error, stopped bool) {
	now := db.Now()
	p, expected := errors.AsType[*problem.Problem](failed)
	switch {
	case failed == nil:
		j.Status = Succeeded
	case j.CancelAsked:
		j.Status = Canceled
	case stopped:
		// Given back, as if it had not been claimed.
		j.Status, j.AvailableAt, j.Attempts = Queued, now, max(0, j.Attempts-1)
	case expected && final(p.Code):
		j.Status, j.Failure = Failed, p.Detail
	case j.Failures+1 >= or(r.s.MaxFailures, 8):
		j.Status, j.Failure = Failed, gaveUp
	default:
		j.Failures++
		j.Status, j.AvailableAt = Queued, now.Add(wait(or(r.s.Backoff, 5*time.Second), j.Failures))
	}
}

// final reports whether trying again cannot help.
func final(code problem.Code) bool {
	return !slices.Contains([]problem.Code{problem.CodeUnavailable, problem.CodeTooMany, problem.CodeInternal}, code)
}

// wait is the back-off after so many failures in a row: doubling from first, to 10 minutes at most, and a fifth more or
// less, so that what failed together is not tried together.
func wait(first time.Duration, failures int64) time.Duration {
	pause := min(first<<min(failures-1, 16), 10*time.Minute)
	return pause + time.Duration((rand.Float64()-0.5)*0.4*float64(pause))
}
