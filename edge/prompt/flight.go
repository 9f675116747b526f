package prompt

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/hookswitch/hookswitch/edge/media"
)

var (
	errClosed  = &Error{Code: CodeClosed, Message: "the edge is stopping"}
	errTimeout = &Error{Code: CodeUnreachable, Message: "the audio was not ready in time", err: context.DeadlineExceeded}
)

// flights lets callers that want the same thing at the same time share one load.
//
// Why a goroutine for each load rather than the first caller's own: when that one hangs up, the others must not start
// again from nothing. A load ends when nobody waits for it any more.
type flights struct {
	logger  *slog.Logger
	running sync.WaitGroup

	mu     sync.Mutex // guards all below
	byKey  map[string]*flight
	closed bool
}

type flight struct {
	cancel  context.CancelCauseFunc
	waiting int // guarded by flights.mu
	done    chan struct{}

	// Written before done is closed.
	prompt *media.Prompt
	err    error
}

func newFlights(logger *slog.Logger) *flights {
	return &flights{logger: logger, byKey: make(map[string]*flight)}
}

// do returns what load returns, called once for all who ask for the key meanwhile. The load's context ends with the last
// of them, or after loadTimeout.
func (f *flights) do(ctx context.Context, key string, load func(context.Context) (*media.Prompt, error)) (*media.Prompt, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	shared := f.join(ctx, key, load)
	if shared == nil {
		return nil, errClosed
	}
	select {
	case <-shared.done:
		return shared.prompt, shared.err
	case <-ctx.Done():
		f.leave(key, shared)
		return nil, ended(ctx)
	}
}

// ended is why a caller no longer waits: a sentence where its time was up, else what ended its context.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return errTimeout
	}
	return cause
}

// join adds the caller to the key's flight, starting one where there is none; nil after close.
func (f *flights) join(ctx context.Context, key string, load func(context.Context) (*media.Prompt, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	if shared := f.byKey[key]; shared != nil {
		shared.waiting++
		return shared
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	shared := &flight{cancel: cancel, waiting: 1, done: make(chan struct{})}
	f.byKey[key] = shared
	f.running.Go(func() { f.run(ctx, key, shared, load) })
	return shared
}

func (f *flights) run(ctx context.Context, key string, shared *flight, load func(context.Context) (*media.Prompt, error)) {
	ctx, stop := context.WithTimeoutCause(ctx, loadTimeout, errTimeout)
	defer stop()
	shared.prompt, shared.err = f.recovered(ctx, load)
	if shared.err != nil && ctx.Err() != nil {
		shared.err = context.Cause(ctx)
	}
	shared.cancel(nil)
	f.forget(key, shared)
	close(shared.done)
}

// recovered keeps a panic over one file from ending every call of the edge.
func (f *flights) recovered(ctx context.Context, load func(context.Context) (*media.Prompt, error)) (p *media.Prompt, err error) {
	defer func() {
		if r := recover(); r != nil {
			f.logger.Error("prompt.panicked", "panic", r, "stack", string(debug.Stack()))
			err = failure(CodeInvalid, nil, "the audio could not be read")
		}
	}()
	return load(ctx)
}

// leave takes one caller off; the last one ends the flight, and whoever comes next starts another.
func (f *flights) leave(key string, shared *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	shared.waiting--
	if shared.waiting > 0 {
		return
	}
	shared.cancel(context.Canceled)
	if f.byKey[key] == shared {
		delete(f.byKey, key)
	}
}

func (f *flights) forget(key string, shared *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey[key] == shared {
		delete(f.byKey, key)
	}
}

func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	for _, shared := range f.byKey {
		shared.cancel(errClosed)
	}
	f.mu.Unlock()
	f.running.Wait()
}

// semaphore bounds how many do something at once.
type semaphore chan struct{}

// acquire waits for a turn, or returns the context's cause.
func (s semaphore) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s semaphore) release() { <-s }
