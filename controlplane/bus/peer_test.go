package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
)

// eachPair runs fn on two ends of each driver.
func eachPair(t *testing.T, fn func(t *testing.T, a, b *bus.Bus)) {
	t.Run("memory", func(t *testing.T) {
		b := bustest.Open(t, "memory:")
		fn(t, b, b)
	})
	t.Run("redis", func(t *testing.T) {
		location := bustest.RedisURL(t)
		fn(t, bustest.Open(t, location), bustest.Open(t, location))
	})
}

func join(t *testing.T, b *bus.Bus, name string, answer func(context.Context, []byte) []byte) *bus.Peer {
	t.Helper()
	p, err := b.Join(t.Context(), name, answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func silent(context.Context, []byte) []byte { return nil }

func TestPeersAskEachOther(t *testing.T) {
	eachPair(t, func(t *testing.T, a, b *bus.Bus) {
		one := join(t, a, "one", func(_ context.Context, q []byte) []byte { return append([]byte("one has "), q...) })
		two := join(t, b, "two", func(_ context.Context, q []byte) []byte { return append([]byte("two has "), q...) })
		var all sync.WaitGroup
		for n := range 50 {
			all.Go(func() {
				// Line feeds and bytes that are no UTF-8 cross as they are.
				q := fmt.Sprintf("%d\n\xff\x00", n)
				if got, err := one.Ask(t.Context(), "two", []byte(q)); err != nil || string(got) != "two has "+q {
					t.Errorf("%q, %v", got, err)
				}
				if got, err := two.Ask(t.Context(), "one", []byte(q)); err != nil || string(got) != "one has "+q {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		all.Wait()
	})
}

func TestNobodyThereIsKnownAtOnce(t *testing.T) {
	eachPair(t, func(t *testing.T, a, b *bus.Bus) {
		one := join(t, a, "one", silent)
		if _, err := one.Ask(t.Context(), "two", nil); !errors.Is(err, bus.ErrNobody) {
			t.Errorf("before it joined: %v", err)
		}
		two := join(t, b, "two", silent)
		if _, err := one.Ask(t.Context(), "two", nil); err != nil {
			t.Errorf("while it is there: %v", err)
		}
		for range 2 {
			if err := two.Close(); err != nil {
				t.Fatal(err)
			}
		}
		<-two.Gone()
		if _, err := one.Ask(t.Context(), "two", nil); !errors.Is(err, bus.ErrNobody) {
			t.Errorf("after it left: %v", err)
		}
	})
}

func TestAQuestionEndsWithItsAskerOnBothSides(t *testing.T) {
	eachPair(t, func(t *testing.T, a, b *bus.Bus) {
		ended := make(chan error, 1)
		join(t, b, "two", func(ctx context.Context, _ []byte) []byte {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil
		})
		one := join(t, a, "one", silent)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := one.Ask(ctx, "two", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ask: %v", err)
		}
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the answer's context: %v", err)
		}
	})
}

func TestAPeerAnswersABoundedNumberAtOnce(t *testing.T) {
	eachPair(t, func(t *testing.T, a, b *bus.Bus) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		release := make(chan struct{})
		join(t, b, "two", func(context.Context, []byte) []byte {
			<-release
			return []byte("x")
		})
		one := join(t, a, "one", silent)
		var answered, asked atomic.Int32
		var all sync.WaitGroup
		// In turn, so that none is lost on the way.
		for {
			busy := make(chan bool, 1)
			all.Go(func() {
				_, err := one.Ask(ctx, "two", nil)
				switch {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, bus.ErrBusy):
					busy <- true
				default:
					t.Error(err)
				}
			})
			asked.Add(1)
			select {
			case <-busy:
			case <-time.After(2 * time.Millisecond):
				continue
			}
			break
		}
		close(release)
		all.Wait()
		if n := asked.Load(); n <= 256 || answered.Load() == 0 {
			t.Errorf("refused after %d questions, %d answered", n, answered.Load())
		}
	})
}

func TestWhatIsNoFrameIsPassedOver(t *testing.T) {
	eachPair(t, func(t *testing.T, a, b *bus.Bus) {
		join(t, b, "two", silent)
		for _, text := range []string{"", "{", "{}\n", `{"id":7}` + "\n", `{"id":"x"}` + "\n", "\n\n"} {
			if err := a.Publish(t.Context(), "peer:two", []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := join(t, a, "one", silent).Ask(t.Context(), "two", nil); err != nil {
			t.Error(err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	for _, seed := range []string{"", "{", "{}\n", `{"id":"1","from":"one","timeout_ms":5000}` + "\nbody", `{"id":"1","busy":true}` + "\n", `{"id":"1","timeout_ms":-1,"from":"x"}` + "\n"} {
		f.Add([]byte(seed))
	}
	b, err := bus.Open(f.Context(), "memory:")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.Close() })
	p, err := b.Join(context.Background(), "two", func(_ context.Context, q []byte) []byte { return q })
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = p.Close() })
	// Of a name that no input guesses, so that none is an answer to it.
	asker, err := b.Join(context.Background(), time.Now().String(), func(_ context.Context, q []byte) []byte { return q })
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = asker.Close() })
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := b.Publish(t.Context(), "peer:two", text); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if got, err := asker.Ask(ctx, "two", text); err != nil || string(got) != string(text) {
			t.Errorf("after %q: %q, %v", text, got, err)
		}
	})
}
