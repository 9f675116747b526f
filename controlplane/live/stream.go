package live

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// buffered is how many events may wait for a reader.
const buffered = 256

// writeWithin bounds one write to a reader.
const writeWithin = 10 * time.Second

// reader is one stream.
type reader struct {
	who     auth.Caller // as it came
	account string
	types   []string // patterns; none for all
	in      chan *frame
	slow    chan struct{} // closed when it was cut off

	// Guarded by Service.mu.
	sees event.Reader
	from int64 // what it has, or does not want
}

func (r *reader) wants(e *event.Event) bool {
	return (len(r.types) == 0 || event.Match(r.types, e.Type)) && r.sees.Sees(e)
}

type streamIn struct {
	Type   []string `query:"type"`
	After  *int64   `query:"last_event_id"`
	Header *int64   `header:"Last-Event-ID"`
	Token  string   `query:"token"` // by which rest has found the caller
}

// stream answers with everything that follows a position, or the present, for as long as the client stays.
func (s *Service) stream(ctx context.Context, who auth.Caller, in streamIn) (rest.Stream, error) {
	after := in.After
	if in.Header != nil {
		after = in.Header
	}
	if after != nil {
		if err := s.Feed.Kept(ctx, who.Scope.AccountID(), *after); err != nil {
			return nil, err
		}
	}
	r := &reader{who: who, account: who.Scope.AccountID(), types: in.Type, in: make(chan *frame, buffered), slow: make(chan struct{}), sees: event.ReaderOf(who)}
	return func(w http.ResponseWriter, q *http.Request) error { return s.serve(w, q, r, after) }, nil
}

// The reasons for which a stream ends.
var (
	errSlow    = errors.New("the reader did not keep up")
	errStopped = errors.New("the server stops")
)

func (s *Service) serve(w http.ResponseWriter, q *http.Request, r *reader, after *int64) error {
	ctx := q.Context()
	control := http.NewResponseController(w)
	o := &output{w: w, control: control}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // of proxies like nginx
	err := o.write([]byte(retryHint()))
	if err == nil {
		err = s.resume(ctx, o, r, after)
	}
	if o.broken || ctx.Err() != nil {
		return context.Cause(ctx) // the client has left
	}
	_ = o.write([]byte(retryHint())) // it may have left by now
	// The connection may serve another request.
	_ = control.SetWriteDeadline(time.Time{})
	return err
}

// retryHint tells the client when to come back, each another time: after a restart all come at once.
func retryHint() string {
	return fmt.Sprintf(": hookswitch\nretry: %d\n\n", 1000+rand.IntN(4000))
}

// resume brings one reader from where it was to the present, and on from there.
func (s *Service) resume(ctx context.Context, o *output, r *reader, after *int64) error {
	if after != nil {
		last, err := s.Feed.Last(ctx)
		if err != nil {
			return err
		}
		if r.from, err = s.catchUp(ctx, o, r, *after, last); err != nil {
			return err
		}
	}
	have := r.from
	position, err := s.join(ctx, r)
	if err != nil {
		return err
	}
	defer s.leave(r)
	if after != nil {
		// What was placed between reading and joining, while what comes afterwards waits.
		if _, err := s.catchUp(ctx, o, r, have, position); err != nil {
			return err
		}
	}
	return s.live(ctx, o, r)
}

// catchUp sends what a reader may see from a position up to another, and returns how far it has everything.
func (s *Service) catchUp(ctx context.Context, o *output, r *reader, from, to int64) (int64, error) {
	for from < to {
		events, err := s.Feed.Of(ctx, r.sees, r.types, from, to, readMost)
		if err != nil {
			return from, err
		}
		for i := range events {
			text, err := encode(s.Masks.For(events[i], r.sees.Mask()))
			if err != nil {
				return from, err
			}
			if err := o.add(text); err != nil {
				return from, err
			}
			from = events[i].Position
		}
		if err := o.flush(); err != nil {
			return from, err
		}
		if len(events) < readMost {
			return to, nil
		}
	}
	return from, nil
}

// live sends what comes until the client leaves, its credential ends, it is too slow, or the server stops.
func (s *Service) live(ctx context.Context, o *output, r *reader) error {
	// Spread, so that readers which came together are not checked together.
	first := time.Duration(rand.Int64N(int64(s.check)) + 1)
	timer := time.NewTimer(first)
	defer timer.Stop()
	silent := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ending:
			return errStopped
		case <-r.slow:
			return errSlow
		case f := <-r.in:
			if err := s.drain(o, r, f); err != nil {
				return err
			}
			silent = time.Now()
		case <-timer.C:
			timer.Reset(s.check)
			if err := s.still(ctx, r); err != nil {
				return err
			}
			if time.Since(silent) < s.heartbeat-s.check {
				continue
			}
			if err := s.beat(o, r); err != nil {
				return err
			}
			silent = time.Now()
		}
	}
}

// drain sends an event and all that wait behind it, in one go.
func (s *Service) drain(o *output, r *reader, f *frame) error {
	for {
		if err := o.add(f.text); err != nil {
			return err
		}
		select {
		case f = <-r.in:
			continue
		default:
			return o.flush()
		}
	}
}

// beat shows that the connection lives. Where nothing waits it also says how far the reader is, as an event without data,
// which browsers keep the id of and show to nobody: so one that is told of little does not resume from long ago.
func (s *Service) beat(o *output, r *reader) error {
	position, ok := s.reached(r)
	if !ok {
		return o.write([]byte(":\n\n"))
	}
	return o.write(fmt.Appendf(nil, ":\nid: %d\n\n", position))
}

// still asks whether the reader may go on, and takes over what it may see now. When nobody knows, it goes on.
func (s *Service) still(ctx context.Context, r *reader) error {
	who, err := s.checks.of(ctx, r.who)
	switch {
	case err == nil && (!who.Can("events.read") || who.Scope.AccountID() != r.account):
		return fmt.Errorf("the reader was shut out: %w", problem.Forbidden("events.read"))
	case err == nil:
		s.allow(r, who)
	case final(err):
		return fmt.Errorf("the reader was shut out: %w", err)
	case ctx.Err() == nil:
		s.Log.Warn("live.not_checked", "account_id", r.account, "error", err.Error())
	}
	return nil
}

// final reports whether a credential does not hold any more, rather than that it could not be looked up.
func final(err error) bool {
	p, ok := errors.AsType[*problem.Problem](err)
	return ok && slices.Contains([]problem.Code{problem.CodeUnauthenticated, problem.CodeForbidden, problem.CodeNotFound}, p.Code)
}

// output writes to one client.
type output struct {
	w       http.ResponseWriter
	control *http.ResponseController
	broken  bool
}

// add writes without flushing.
func (o *output) add(text []byte) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		o.broken = true
		return err
	}
	if _, err := o.w.Write(text); err != nil {
		o.broken = true
		return err
	}
	return nil
}

func (o *output) flush() error {
	if err := o.control.Flush(); err != nil {
		o.broken = true
		return err
	}
	return nil
}

func (o *output) write(text []byte) error {
	if err := o.add(text); err != nil {
		return err
	}
	return o.flush()
}
