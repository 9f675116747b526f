package bus_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryDriverFulfilsTheSuite(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		bustest.Suite(t, func(t *testing.T) *bus.Bus { return bustest.Open(t, "memory:") })
	})
	t.Run("redis", func(t *testing.T) {
		bustest.Suite(t, func(t *testing.T) *bus.Bus { return bustest.Open(t, bustest.RedisURL(t)) })
	})
}

func TestManyBusesAreOneOnRedis(t *testing.T) {
	location := bustest.RedisURL(t)
	a, b := bustest.Open(t, location), bustest.Open(t, location)
	s, err := b.Subscribe(t.Context(), "topic")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Publish(t.Context(), "topic", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if m := <-s.C; string(m.Payload) != "x" {
		t.Errorf("got %q", m.Payload)
	}
	if _, ok, err := a.Acquire(t.Context(), "l", "a", time.Hour); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := b.Acquire(t.Context(), "l", "b", time.Hour); ok || err != nil {
		t.Errorf("both hold it: %v", err)
	}
}

func TestTheFenceGrowsAcrossARedisThatForgot(t *testing.T) {
	first, _, err := bustest.Open(t, bustest.RedisURL(t)).Acquire(t.Context(), "l", "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	second, ok, err := bustest.Open(t, bustest.RedisURL(t)).Acquire(t.Context(), "l", "b", time.Hour)
	if !ok || err != nil || second.Fence <= first.Fence {
		t.Errorf("%+v, then %+v %t %v", first, second, ok, err)
	}
}

func TestMemoryForgetsWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bus.Open(t.Context(), "memory:")
		if err != nil {
			t.Fatal(err)
		}
		l, _, _ := b.Acquire(t.Context(), "l", "a", 3*time.Second)
		for range 5 {
			<-time.After(2 * time.Second)
			if ok, _ := b.Renew(t.Context(), l, 3*time.Second); !ok {
				t.Fatal("lost while renewed")
			}
		}
		<-time.After(3 * time.Second)
		if ok, _ := b.Renew(t.Context(), l, time.Second); ok {
			t.Error("renewed at its end")
		}
		for want := range 4 {
			taken, _ := b.Take(t.Context(), "k", 1, 3)
			if taken.OK != (want < 3) || (want == 3 && taken.Wait != time.Second) {
				t.Errorf("%d: %+v", want, taken)
			}
		}
		<-time.After(time.Second)
		if taken, _ := b.Take(t.Context(), "k", 1, 3); !taken.OK || taken.Remaining != 0 || taken.Full != 3*time.Second {
			t.Errorf("after the wait it was told: %+v", taken)
		}
	})
}

func TestOpenSaysWhatIsWrongWithoutThePassword(t *testing.T) {
	for _, location := range []string{"", "memcached://x", "redis://:hunter2@127.0.0.1:1/0", "redis://:hunter2@%zz", "redis://:hunter2@h/x/y", "amqp://u:hunter2@h"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := bus.Open(ctx, location)
		cancel()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", location, err)
		}
	}
}
