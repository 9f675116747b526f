// Package bustest says what every bus driver must do, and starts the Redis to test against. The drivers are in bus.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hookswitch/hookswitch/controlplane/bus"
)

// Each runs fn as two subtests, "memory" and "redis", each on an empty bus. A Redis that is not installed fails the
// test.
func Each(t *testing.T, fn func(t *testing.T, b *bus.Bus)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { fn(t, Open(t, "memory:")) })
	t.Run("redis", func(t *testing.T) { fn(t, Open(t, RedisURL(t))) })
}

// Open opens a bus and closes it when the test ends.
func Open(t testing.TB, location string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// RedisURL is the URL of a Redis that is started as a child process once per test binary, emptied for each call; so
// tests that use it are not parallel.
func RedisURL(t testing.TB) string {
	t.Helper()
	running, err := server()
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: running.address, Password: password})
	if err := errors.Join(c.FlushAll(t.Context()).Err(), c.Close()); err != nil {
		t.Fatal(err)
	}
	return "redis://:" + url.QueryEscape(password) + "@" + running.address + "/0"
}

const password = "only/for+tests"

// server starts the Redis of this test binary.
var server = sync.OnceValues(start)

// child is a server that lives as long as its standard input is open: it goes away whichever way the test binary
// ends.
type child struct {
	address string
	alive   io.Closer // kept, because the garbage collector closes files
}

const serve = `"$1" --port "$2" --bind 127.0.0.1 --dir "$3" --requirepass "$4" --save "" --appendonly no >"$3/log" 2>&1 & pid=$!
read -r never
kill $pid
wait $pid
rm -rf "$3"`

func start() (running child, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return running, errors.New("redis-server is missing: install the Debian package of this name (apt-get install redis-server)")
	}
	folder, err := os.MkdirTemp("", "redis")
	if err != nil {
		return running, err
	}
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return running, err
	}
	running.address = l.Addr().String()
	_, port, err := net.SplitHostPort(running.address)
	if err := errors.Join(err, l.Close()); err != nil {
		return running, err
	}
	shell := exec.CommandContext(context.Background(), "/bin/sh", "-c", serve, "sh", program, port, folder, password)
	if running.alive, err = shell.StdinPipe(); err != nil {
		return running, err
	}
	if err := shell.Start(); err != nil {
		return running, err
	}
	return running, ready(running.address)
}

func ready(address string) error {
	c := redis.NewClient(&redis.Options{Addr: address, Password: password, MaxRetries: -1})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("redis did not start: %w", err), c.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Suite is what every driver must do.
func Suite(t *testing.T, open func(t *testing.T) *bus.Bus) {
	for name, check := range map[string]func(t *testing.T, b *bus.Bus){
		"wake-ups reach the topic's subscribers": wakeUps,
		"a slow subscriber holds up nobody":      slowSubscriber,
		"closing ends subscriptions":             closing,
		"a lease has one holder":                 lease,
		"a lease ends":                           leaseEnds,
		"presence":                               presence,
		"presence ends":                          presenceEnds,
		"presence up to a limit":                 presenceLimit,
		"one of many gets the last place":        lastPlace,
		"a bucket empties and refills":           bucket,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

// receive waits for one message.
func receive(t *testing.T, s *bus.Subscription) bus.Message {
	t.Helper()
	select {
	case m, ok := <-s.C:
		if !ok {
			t.Fatal("the subscription ended")
		}
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("no message came")
		return bus.Message{}
	}
}

func subscribe(t *testing.T, b *bus.Bus, topics ...string) *bus.Subscription {
	t.Helper()
	s, err := b.Subscribe(t.Context(), topics...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func publish(t *testing.T, b *bus.Bus, topic, payload string) {
	t.Helper()
	if err := b.Publish(t.Context(), topic, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func wakeUps(t *testing.T, b *bus.Bus) {
	one, both := subscribe(t, b, "a"), subscribe(t, b, "a", "b")
	publish(t, b, "c", "not for us")
	publish(t, b, "b", "1")
	publish(t, b, "a", "2")
	for _, want := range []bus.Message{{Topic: "b", Payload: []byte("1")}, {Topic: "a", Payload: []byte("2")}} {
		if got := receive(t, both); got.Topic != want.Topic || string(got.Payload) != string(want.Payload) {
			t.Errorf("got %s %s, want %s %s", got.Topic, got.Payload, want.Topic, want.Payload)
		}
	}
	if got := receive(t, one); got.Topic != "a" || string(got.Payload) != "2" {
		t.Errorf("got %s %s", got.Topic, got.Payload)
	}
	if _, err := b.Subscribe(t.Context()); err == nil {
		t.Error("a subscription to nothing")
	}
}

func slowSubscriber(t *testing.T, b *bus.Bus) {
	subscribe(t, b, "a")
	quick := subscribe(t, b, "b")
	for range 1000 {
		publish(t, b, "a", "nobody reads this")
	}
	publish(t, b, "b", "x")
	receive(t, quick)
}

func closing(t *testing.T, b *bus.Bus) {
	s, other := subscribe(t, b, "a"), subscribe(t, b, "a")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, open := <-s.C; open {
		t.Error("a message after Close")
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, open := <-other.C; open {
		t.Error("a message after the bus was closed")
	}
	if err := b.Publish(t.Context(), "a", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish on a closed bus: %v", err)
	}
	if err := b.Ping(t.Context()); err == nil {
		t.Error("a closed bus answers")
	}
}

const long = time.Hour

func acquire(t *testing.T, b *bus.Bus, name, owner string, ttl time.Duration) (bus.Lease, bool) {
	t.Helper()
	l, ok, err := b.Acquire(t.Context(), name, owner, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l, ok
}

func renew(t *testing.T, b *bus.Bus, l bus.Lease) bool {
	t.Helper()
	ok, err := b.Renew(t.Context(), l, long)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func lease(t *testing.T, b *bus.Bus) {
	if _, held, err := b.Holder(t.Context(), "edge"); held || err != nil {
		t.Errorf("held by nobody: %t %v", held, err)
	}
	first, ok := acquire(t, b, "edge", "one", long)
	if !ok || first.Name != "edge" || first.Owner != "one" || first.Fence <= 0 {
		t.Fatalf("got %+v %t", first, ok)
	}
	if _, ok := acquire(t, b, "edge", "two", long); ok {
		t.Error("two holders")
	}
	if again, ok := acquire(t, b, "edge", "one", long); !ok || again != first {
		t.Errorf("its holder again: %+v %t", again, ok)
	}
	if got, held, err := b.Holder(t.Context(), "edge"); got != first || !held || err != nil {
		t.Errorf("holder %+v %t %v", got, held, err)
	}
	if !renew(t, b, first) {
		t.Error("not renewed")
	}
	other := first
	other.Owner = "two"
	if renew(t, b, other) {
		t.Error("renewed by another")
	}
	if err := errors.Join(b.Release(t.Context(), other), b.Release(t.Context(), first), b.Release(t.Context(), first)); err != nil {
		t.Fatal(err)
	}
	second, ok := acquire(t, b, "edge", "two", long)
	if !ok || second.Fence <= first.Fence {
		t.Errorf("after release: %+v %t, before %+v", second, ok, first)
	}
	if renew(t, b, first) {
		t.Error("a lost lease was renewed")
	}
	if err := b.Release(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := b.Holder(t.Context(), "edge"); got != second {
		t.Errorf("a late release took it from %+v: %+v", second, got)
	}
}

// until waits for a condition of a real clock.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s did not happen", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func leaseEnds(t *testing.T, b *bus.Bus) {
	first, _ := acquire(t, b, "short", "one", 20*time.Millisecond)
	var second bus.Lease
	until(t, "the end of a lease", func() bool {
		l, ok := acquire(t, b, "short", "two", long)
		second = l
		return ok
	})
	if second.Fence <= first.Fence {
		t.Errorf("the fence fell from %d to %d", first.Fence, second.Fence)
	}
	if renew(t, b, first) {
		t.Error("renewed after its end")
	}
}

func enter(t *testing.T, b *bus.Bus, set, member, value string, ttl time.Duration, most int) bool {
	t.Helper()
	ok, err := b.Enter(t.Context(), set, member, []byte(value), ttl, most)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func members(t *testing.T, b *bus.Bus, set string) map[string][]byte {
	t.Helper()
	m, err := b.Members(t.Context(), set)
	if err != nil || m == nil {
		t.Fatal(m, err)
	}
	return m
}

func presence(t *testing.T, b *bus.Bus) {
	if got := members(t, b, "s"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	enter(t, b, "s", "a", "1", long, 0)
	enter(t, b, "s", "b", "\x00\xff", long, 0)
	enter(t, b, "s", "a", "2", long, 0)
	enter(t, b, "other", "c", "", long, 0)
	if got := members(t, b, "s"); len(got) != 2 || string(got["a"]) != "2" || string(got["b"]) != "\x00\xff" {
		t.Errorf("got %q", got)
	}
	for range 2 {
		if err := b.Leave(t.Context(), "s", "a"); err != nil {
			t.Fatal(err)
		}
	}
	if got := members(t, b, "s"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func presenceEnds(t *testing.T, b *bus.Bus) {
	enter(t, b, "s", "short", "", 20*time.Millisecond, 0)
	enter(t, b, "s", "long", "", long, 0)
	until(t, "the end of a presence", func() bool { return len(members(t, b, "s")) == 1 })
	// The set outlives its short members also when one came last.
	enter(t, b, "s", "short", "", 20*time.Millisecond, 0)
	until(t, "the end of the last presence", func() bool { return len(members(t, b, "s")) == 1 })
	if _, there := members(t, b, "s")["long"]; !there {
		t.Error("the long one is gone")
	}
}

func presenceLimit(t *testing.T, b *bus.Bus) {
	for member, want := range map[string]bool{"a": true, "b": true} {
		if got := enter(t, b, "calls", member, "", long, 2); got != want {
			t.Errorf("%s: %t", member, got)
		}
	}
	if enter(t, b, "calls", "c", "", long, 2) {
		t.Error("three of two")
	}
	if !enter(t, b, "calls", "a", "again", long, 2) {
		t.Error("one that is inside was refused")
	}
	if err := b.Leave(t.Context(), "calls", "b"); err != nil {
		t.Fatal(err)
	}
	if !enter(t, b, "calls", "c", "", 20*time.Millisecond, 2) {
		t.Error("no room after one left")
	}
	until(t, "room after one ended", func() bool { return enter(t, b, "calls", "d", "", long, 2) })
}

func lastPlace(t *testing.T, b *bus.Bus) {
	var mu sync.Mutex // guards inside
	var inside []int
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			ok, err := b.Enter(t.Context(), "race", fmt.Sprint(i), nil, long, 5)
			if err != nil {
				t.Error(err)
			}
			if ok {
				mu.Lock()
				inside = append(inside, i)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(inside)
	if len(inside) != 5 || len(members(t, b, "race")) != 5 {
		t.Errorf("%v got in", inside)
	}
}

func bucket(t *testing.T, b *bus.Bus) {
	take := func(key string, perSecond float64, burst int) bus.Taken {
		taken, err := b.Take(t.Context(), key, perSecond, burst)
		if err != nil {
			t.Fatal(err)
		}
		return taken
	}
	for want := 2; want >= 0; want-- {
		if got := take("k", 0.001, 3); !got.OK || got.Remaining != want || got.Wait != 0 || got.Full <= 0 {
			t.Errorf("got %+v, want %d left", got, want)
		}
	}
	if got := take("k", 0.001, 3); got.OK || got.Remaining != 0 || got.Wait <= 900*time.Second || got.Wait > 1000*time.Second {
		t.Errorf("an empty bucket: %+v", got)
	}
	if got := take("other", 0.001, 3); !got.OK {
		t.Errorf("another key: %+v", got)
	}
	take("quick", 50, 1)
	until(t, "a refill", func() bool { return take("quick", 50, 1).OK })
	for _, wrong := range []float64{0, -1} {
		if _, err := b.Take(t.Context(), "k", wrong, 1); err == nil {
			t.Errorf("a rate of %g", wrong)
		}
	}
	if _, err := b.Take(t.Context(), "k", 1, 0); err == nil {
		t.Error("a burst of 0")
	}
}
