package control

import (
	"context"
	"sync"
	"time"
)

// Once is an Edge in front of another that carries each command out at most once: an action by its ActionID, a call by its
// CallID. The same again, while it runs or for ten minutes after, gets the first answer. So whoever got no answer, because
// a connection or a process went away, may ask again by another way. A refusal as busy is not kept: nothing has happened,
// and later there may be room. It is safe for concurrent use.
type Once struct {
	edge Edge

	mu    sync.Mutex // guards what follows
	known map[string]*once
	old   []string // keys of known whose command has ended, the oldest first
}

// once is one command.
type once struct {
	done chan struct{} // closed when err is there
	err  error
	at   time.Time // when it ended
}

// Bounds of what a Once keeps. Above, the oldest is forgotten first.
const (
	keepFor  = 10 * time.Minute
	keepMost = 1 << 16
)

var _ Edge = (*Once)(nil)

// NewOnce puts a Once in front of an edge; one that is there already stays alone.
func NewOnce(e Edge) *Once {
	if o, ok := e.(*Once); ok {
		return o
	}
	return &Once{edge: e, known: map[string]*once{}}
}

// Originate starts a call unless it was started before.
func (o *Once) Originate(ctx context.Context, q Originate) error {
	return o.do(ctx, string(q.CallID), func() error { return o.edge.Originate(ctx, q) })
}

// Act changes a call unless this change was made before.
func (o *Once) Act(ctx context.Context, a Action) error {
	return o.do(ctx, string(a.ActionID), func() error { return o.edge.Act(ctx, a) })
}

func (o *Once) do(ctx context.Context, key string, fn func() error) error {
	if key == "" {
		return fn()
	}
	c, mine := o.begin(key)
	if mine {
		defer o.end(key, c) // also when fn panics: whoever waits must not wait for ever
		c.err = errPanicked
		c.err = fn()
		return c.err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errPanicked is the answer of a command that panicked.
var errPanicked = &Error{Code: CodeInvalid, Message: "the edge failed to carry the command out"}

func (o *Once) begin(key string) (c *once, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(time.Now())
	if c := o.known[key]; c != nil {
		return c, false
	}
	c = &once{done: make(chan struct{})}
	o.known[key] = c
	return c, true
}

func (o *Once) end(key string, c *once) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.at = time.Now()
	if CodeOf(c.err) == CodeBusy {
		delete(o.known, key)
	} else {
		o.old = append(o.old, key)
	}
	close(c.done)
}

// forget drops what is old; the caller holds mu.
func (o *Once) forget(now time.Time) {
	n := 0
	for n < len(o.old) && (len(o.old)-n > keepMost || now.Sub(o.known[o.old[n]].at) > keepFor) {
		delete(o.known, o.old[n])
		n++
	}
	o.old = o.old[n:]
}
