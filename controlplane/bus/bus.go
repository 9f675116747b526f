// Package bus owns what the processes of an installation tell each other about the moment: wake-ups, leases,
// presence and rate limits; and how one asks another (Peer). In one process it is memory, among many Redis. All of it may be lost at any time (a Redis
// that restarts empty); what must last is left to db.
package bus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Bus is an open bus. It is safe for concurrent use.
type Bus struct {
	d driver
}

// driver is one way to keep the bus; bustest.Suite says what each must do.
type driver interface {
	ping(ctx context.Context) error
	close() error
	publish(ctx context.Context, topic string, payload []byte) (heard int, err error)
	subscribe(ctx context.Context, topics []string) (*Subscription, error)
	acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, bool, error)
	renew(ctx context.Context, l Lease, ttl time.Duration) (bool, error)
	release(ctx context.Context, l Lease) error
	holder(ctx context.Context, name string) (Lease, bool, error)
	enter(ctx context.Context, set, member string, value []byte, ttl time.Duration, most int) (bool, error)
	leave(ctx context.Context, set, member string) error
	members(ctx context.Context, set string) (map[string][]byte, error)
	take(ctx context.Context, key string, perSecond float64, burst int) (Taken, error)
}

// Open opens the bus of a URL:
//
//	memory:                              this process alone
//	redis://user:password@host:port/db   Redis 7.0 or later; rediss:// with TLS
//
// A Redis that is away makes Open fail, but not the use of an open bus: each call fails until it is back. Close it.
func Open(ctx context.Context, location string) (*Bus, error) {
	scheme, _, _ := strings.Cut(location, ":")
	switch scheme {
	case "memory":
		return &Bus{d: newMemory()}, nil
	case "redis", "rediss":
		d, err := openRedis(location)
		if err != nil {
			return nil, err
		}
		if err := d.ping(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open bus: %w", err), d.close())
		}
		return &Bus{d: d}, nil
	}
	if u, err := url.Parse(location); err == nil {
		location = u.Redacted()
	}
	return nil, fmt.Errorf("bus %q: must be memory: or redis://host:port/0", location)
}

// Close ends every subscription. It can be called twice.
func (b *Bus) Close() error { return b.d.close() }

// Ping reports whether the bus answers.
func (b *Bus) Ping(ctx context.Context) error { return b.d.ping(ctx) }

// Message is one wake-up.
type Message struct {
	Topic   string
	Payload []byte
}

// pending is how many messages wait for a slow subscriber; what comes above is dropped.
const pending = 1024

// Subscription delivers the messages of its topics, in the order of each publisher, at most once: those published
// while the subscriber is slow (1,024 wait) or Redis is away are lost. A subscriber therefore also looks by itself from
// time to time; the bus only makes it look sooner.
type Subscription struct {
	// C is closed by Close, and when the bus is closed.
	C     <-chan Message
	close func() error
}

// Close ends the subscription. It can be called twice.
func (s *Subscription) Close() error { return s.close() }

// Publish wakes the subscribers of a topic. It does not wait for them.
func (b *Bus) Publish(ctx context.Context, topic string, payload []byte) error {
	_, err := b.d.publish(ctx, topic, payload)
	return err
}

// Subscribe starts listening: what is published after it returned is delivered.
func (b *Bus) Subscribe(ctx context.Context, topics ...string) (*Subscription, error) {
	if len(topics) == 0 {
		return nil, errors.New("subscribe: no topic")
	}
	return b.d.subscribe(ctx, topics)
}

// Lease is the right to something for a time. Fence grows with every new holder of the same name, also across a bus
// that lost its memory: what the lease protects keeps the highest it saw and refuses a lower one.
type Lease struct {
	Name  string
	Owner string
	Fence int64
}

// Acquire takes the lease of a name for ttl, unless another owner holds it. An owner that holds it already keeps its
// fence and extends it.
func (b *Bus) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, bool, error) {
	return b.d.acquire(ctx, name, owner, ttl)
}

// Renew extends a lease to ttl from now. It is false when the lease was lost: stop what it allowed.
func (b *Bus) Renew(ctx context.Context, l Lease, ttl time.Duration) (bool, error) {
	return b.d.renew(ctx, l, ttl)
}

// Release gives a lease back. One that was lost stays with its new holder.
func (b *Bus) Release(ctx context.Context, l Lease) error { return b.d.release(ctx, l) }

// Holder tells who holds the lease of a name.
func (b *Bus) Holder(ctx context.Context, name string) (Lease, bool, error) {
	return b.d.holder(ctx, name)
}

// Enter makes a member present in a set for ttl, with a value; repeating it extends and replaces. With most above
// zero it is false, and nothing changes, when most others are present already: so a set counts calls in progress
// against a limit.
func (b *Bus) Enter(ctx context.Context, set, member string, value []byte, ttl time.Duration, most int) (bool, error) {
	return b.d.enter(ctx, set, member, value, ttl, most)
}

// Leave ends a member's presence.
func (b *Bus) Leave(ctx context.Context, set, member string) error {
	return b.d.leave(ctx, set, member)
}

// Members gives those present in a set with their values. The result is never nil.
func (b *Bus) Members(ctx context.Context, set string) (map[string][]byte, error) {
	return b.d.members(ctx, set)
}

// Taken is what a token bucket answered.
type Taken struct {
	OK        bool
	Remaining int           // whole tokens left
	Wait      time.Duration // until there is a token, when not OK
	Full      time.Duration // until the bucket is full again
}

// Take takes one token from the bucket of a key, which holds up to burst tokens, starts full and gains perSecond
// each second.
func (b *Bus) Take(ctx context.Context, key string, perSecond float64, burst int) (Taken, error) {
	if perSecond <= 0 || burst < 1 {
		return Taken{}, fmt.Errorf("take %s: the rate must be above 0 and the burst at least 1, are %g and %d", key, perSecond, burst)
	}
	return b.d.take(ctx, key, perSecond, burst)
}
