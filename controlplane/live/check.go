package live

import (
	"context"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// identity is a credential, of which many streams may be open.
type identity struct{ account, key, user, session string }

func identityOf(who auth.Caller) identity {
	return identity{who.AccountID, who.KeyID, who.UserID, who.SessionID}
}

// checks asks once for all streams of a credential.
type checks struct {
	ask   func(ctx context.Context, who auth.Caller) (auth.Caller, error)
	fresh time.Duration

	mu    sync.Mutex // guards known
	known map[identity]*answer
}

// answer is one that was given, or is being asked for.
type answer struct {
	done chan struct{}
	at   time.Time
	who  auth.Caller
	err  error
}

// of gives an answer that is at most fresh old.
func (c *checks) of(ctx context.Context, who auth.Caller) (auth.Caller, error) {
	id := identityOf(who)
	c.mu.Lock()
	a := c.known[id]
	if a == nil || (!a.at.IsZero() && time.Since(a.at) > c.fresh) {
		a = &answer{done: make(chan struct{})}
		c.known[id] = a
		c.mu.Unlock()
		a.who, a.err = c.ask(ctx, who)
		c.mu.Lock()
		a.at = time.Now()
		c.mu.Unlock()
		close(a.done)
		return a.who, a.err
	}
	c.mu.Unlock()
	select {
	case <-a.done:
		return a.who, a.err
	case <-ctx.Done():
		return auth.Caller{}, context.Cause(ctx)
	}
}

// sweep forgets what is no longer fresh.
func (c *checks) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, a := range c.known {
		if !a.at.IsZero() && time.Since(a.at) > c.fresh {
			delete(c.known, id)
		}
	}
}
