package account

import (
	"sync"
	"time"
)

// Fresh is how long what was looked up for a credential is used: what revokes one takes effect within it on every
// process.
const Fresh = time.Second

// mostRecent bounds what a Recent holds.
const mostRecent = 10_000

// Recent keeps what was looked up in the last second, so that a caller who makes many requests costs the database one
// look-up a second. The zero value is ready. It is safe for concurrent use; its values are shared and must not be
// changed.
type Recent[T any] struct {
	mu   sync.Mutex // guards kept
	kept map[string]recent[T]
}

type recent[T any] struct {
	value T
	until time.Time
}

// Get gives what load has found for a key within the last second, or has it look now. A failure is not kept.
func (r *Recent[T]) Get(key string, load func() (T, error)) (T, error) {
	// From before it is looked up: what changes meanwhile is seen within Fresh of the change.
	now := time.Now()
	if value, ok := r.get(key, now); ok {
		return value, nil
	}
	value, err := load()
	if err != nil {
		return value, err
	}
	r.put(key, value, now)
	return value, nil
}

func (r *Recent[T]) get(key string, now time.Time) (T, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.kept[key]
	return found.value, ok && now.Before(found.until)
}

func (r *Recent[T]) put(key string, value T, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) >= mostRecent {
		r.sweep(now)
	}
	if r.kept == nil {
		r.kept = map[string]recent[T]{}
	}
	r.kept[key] = recent[T]{value, now.Add(Fresh)}
}

// sweep makes room: what is over goes, and everything when that was nothing.
func (r *Recent[T]) sweep(now time.Time) {
	for key, each := range r.kept {
		if !now.Before(each.until) {
			delete(r.kept, key)
		}
	}
	if len(r.kept) >= mostRecent {
		clear(r.kept)
	}
}

// Forget has a key looked up anew, as after a change made by this process.
func (r *Recent[T]) Forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.kept, key)
}
