package bus

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// ErrClosed is a call on a bus that was closed.
var ErrClosed = errors.New("bus: closed")

// memory keeps the bus of one process. What has expired is removed when its name is next used, and by sweep.
type memory struct {
	mu      sync.Mutex // guards all below
	closed  bool
	subs    map[*listener]struct{}
	leases  map[string]held
	fence   int64
	sets    map[string]map[string]present
	buckets map[string]bucket
	swept   time.Time
}

type listener struct {
	topics map[string]bool
	out    chan Message
}

type held struct {
	lease Lease
	until time.Time
}

type present struct {
	value []byte
	until time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
	full   time.Time // from then on it is as good as new
}

func newMemory() *memory {
	return &memory{
		subs: map[*listener]struct{}{}, leases: map[string]held{},
		sets: map[string]map[string]present{}, buckets: map[string]bucket{},
		swept: time.Now(),
	}
}

// lock is what every call begins with; without an error the caller unlocks. It sweeps once a minute.
func (m *memory) lock() (now time.Time, err error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return time.Time{}, ErrClosed
	}
	now = time.Now()
	if now.Sub(m.swept) >= time.Minute {
		m.swept = now
		m.sweep(now)
	}
	return now, nil
}

func (m *memory) sweep(now time.Time) {
	for name, h := range m.leases {
		if !now.Before(h.until) {
			delete(m.leases, name)
		}
	}
	for name := range m.sets {
		m.expire(name, now)
	}
	for key, b := range m.buckets {
		if !now.Before(b.full) {
			delete(m.buckets, key)
		}
	}
}

// expire removes the members of a set that are gone, and the set with the last.
func (m *memory) expire(set string, now time.Time) map[string]present {
	members := m.sets[set]
	for name, p := range members {
		if !now.Before(p.until) {
			delete(members, name)
		}
	}
	if len(members) == 0 {
		delete(m.sets, set)
		return nil
	}
	return members
}

func (m *memory) ping(context.Context) error {
	_, err := m.lock()
	if err != nil {
		return err
	}
	m.mu.Unlock()
	return nil
}

func (m *memory) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for l := range m.subs {
		close(l.out)
	}
	clear(m.subs)
	return nil
}

func (m *memory) publish(_ context.Context, topic string, payload []byte) (heard int, err error) {
	if _, err := m.lock(); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	for l := range m.subs {
		if !l.topics[topic] {
			continue
		}
		heard++
		select {
		case l.out <- Message{Topic: topic, Payload: bytes.Clone(payload)}:
		default:
		}
	}
	return heard, nil
}

func (m *memory) subscribe(_ context.Context, topics []string) (*Subscription, error) {
	if _, err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	l := &listener{topics: map[string]bool{}, out: make(chan Message, pending)}
	for _, t := range topics {
		l.topics[t] = true
	}
	m.subs[l] = struct{}{}
	return &Subscription{C: l.out, close: func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, open := m.subs[l]; open {
			delete(m.subs, l)
			close(l.out)
		}
		return nil
	}}, nil
}

func (m *memory) acquire(_ context.Context, name, owner string, ttl time.Duration) (Lease, bool, error) {
	now, err := m.lock()
	if err != nil {
		return Lease{}, false, err
	}
	defer m.mu.Unlock()
	h, taken := m.leases[name]
	taken = taken && now.Before(h.until)
	if taken && h.lease.Owner != owner {
		return Lease{}, false, nil
	}
	if !taken {
		m.fence = max(m.fence+1, now.UnixMicro())
		h.lease = Lease{Name: name, Owner: owner, Fence: m.fence}
	}
	h.until = now.Add(ttl)
	m.leases[name] = h
	return h.lease, true, nil
}

func (m *memory) renew(_ context.Context, l Lease, ttl time.Duration) (bool, error) {
	now, err := m.lock()
	if err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	h, ok := m.leases[l.Name]
	if !ok || h.lease != l || !now.Before(h.until) {
		return false, nil
	}
	h.until = now.Add(ttl)
	m.leases[l.Name] = h
	return true, nil
}

func (m *memory) release(_ context.Context, l Lease) error {
	if _, err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.leases[l.Name].lease == l {
		delete(m.leases, l.Name)
	}
	return nil
}

func (m *memory) holder(_ context.Context, name string) (Lease, bool, error) {
	now, err := m.lock()
	if err != nil {
		return Lease{}, false, err
	}
	defer m.mu.Unlock()
	h, ok := m.leases[name]
	if !ok || !now.Before(h.until) {
		return Lease{}, false, nil
	}
	return h.lease, true, nil
}

func (m *memory) enter(_ context.Context, set, member string, value []byte, ttl time.Duration, most int) (bool, error) {
	now, err := m.lock()
	if err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	members := m.expire(set, now)
	_, inside := members[member]
	if !inside && most > 0 && len(members) >= most {
		return false, nil
	}
	if members == nil {
		members = map[string]present{}
		m.sets[set] = members
	}
	members[member] = present{value: bytes.Clone(value), until: now.Add(ttl)}
	return true, nil
}

func (m *memory) leave(_ context.Context, set, member string) error {
	now, err := m.lock()
	if err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.sets[set], member)
	m.expire(set, now)
	return nil
}

func (m *memory) members(_ context.Context, set string) (map[string][]byte, error) {
	now, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	found := map[string][]byte{}
	for name, p := range m.expire(set, now) {
		found[name] = bytes.Clone(p.value)
	}
	return found, nil
}

func (m *memory) take(_ context.Context, key string, perSecond float64, burst int) (Taken, error) {
	now, err := m.lock()
	if err != nil {
		return Taken{}, err
	}
	defer m.mu.Unlock()
	b, used := m.buckets[key]
	if !used {
		b = bucket{tokens: float64(burst), at: now}
	}
	b.tokens = math.Min(float64(burst), b.tokens+now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	t := taken(ok, b.tokens, perSecond, burst)
	b.full = now.Add(t.Full)
	m.buckets[key] = b
	return t, nil
}

// taken tells what a bucket with so many tokens left means for its user.
func taken(ok bool, tokens, perSecond float64, burst int) Taken {
	t := Taken{OK: ok, Remaining: int(tokens), Full: seconds((float64(burst) - tokens) / perSecond)}
	if !ok {
		t.Wait = seconds((1 - tokens) / perSecond)
	}
	return t
}

// seconds rounds up to microseconds, so that waiting exactly so long is enough.
func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(s*1e6)) * time.Microsecond
}
