package db

import (
	"context"
	"slices"
	"sync"
)

// Group lets those who write at the same time do it in one transaction, because each commit waits for the disk. Whoever
// comes first stores what has gathered behind it, and hands the lead on. The zero value is ready; it is safe for
// concurrent use.
type Group[T any] struct {
	mu      sync.Mutex // guards what follows
	waiting []*member[T]
	busy    bool
}

// member is one in the line.
type member[T any] struct {
	item T
	turn chan bool // false: stored by another; true: lead
}

// groupMost bounds the items of one transaction.
const groupMost = 64

// Do has an item stored: by store, in this goroutine or in that of another who came before, with up to 63 others. What
// became of it store notes in the item, which must not be touched until Do returns. store runs with a context that
// outlives its own asker, since others wait for it too. The error is that of ctx, which ended before the item was taken;
// nothing of it was stored then.
func (g *Group[T]) Do(ctx context.Context, item T, store func(context.Context, []T)) error {
	m := &member[T]{item: item, turn: make(chan bool, 1)}
	if !g.join(m) {
		select {
		case lead := <-m.turn:
			if !lead {
				return nil
			}
		case <-ctx.Done():
			if g.leave(m) {
				return context.Cause(ctx)
			}
			if lead := <-m.turn; !lead {
				return nil
			}
		}
	}
	taken := g.take()
	items := make([]T, len(taken))
	for i, other := range taken {
		items[i] = other.item
	}
	store(context.WithoutCancel(ctx), items)
	g.pass()
	for _, other := range taken {
		if other != m {
			other.turn <- false
		}
	}
	return nil
}

// join waits in line; true: there is nobody before, lead.
func (g *Group[T]) join(m *member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, m)
	if g.busy {
		return false
	}
	g.busy = true
	return true
}

// leave gives the place in the line up; false: it is too late for that.
func (g *Group[T]) leave(m *member[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.waiting, m)
	if at < 0 || len(m.turn) > 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, at, at+1)
	return true
}

// take is what the leader stores.
func (g *Group[T]) take() []*member[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), groupMost)
	taken := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return taken
}

// pass hands the lead to the next in line.
func (g *Group[T]) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = len(g.waiting) > 0
	if g.busy {
		g.waiting[0].turn <- true
	}
}
