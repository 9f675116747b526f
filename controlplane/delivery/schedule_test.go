package delivery_test

import (
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/delivery"
)

func TestTheScheduleEndsAfterThreeDays(t *testing.T) {
	first := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	want := []time.Duration{
		5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 10 * time.Hour, 10 * time.Hour, 10 * time.Hour, 10 * time.Hour, 10 * time.Hour,
	}
	now := first
	for failures := int64(1); ; failures++ {
		at, dead := delivery.Next(failures, first, now, 0, 0.5)
		if dead {
			if now.Sub(first) != 72*time.Hour || failures != 14 {
				t.Errorf("dead after %v and %d failures", now.Sub(first), failures)
			}
			return
		}
		i := int(failures) - 1
		if i < len(want) && at.Sub(now) != want[i] {
			t.Errorf("after %d failures waits %v, want %v", failures, at.Sub(now), want[i])
		}
		if at.Sub(first) > 72*time.Hour || !at.After(now) {
			t.Fatalf("after %d failures is tried at %v", failures, at.Sub(first))
		}
		now = at
	}
}

func TestPausesAreSpreadAndRetryAfterStretchesThem(t *testing.T) {
	first := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		jitter float64
		asked  time.Duration
		want   time.Duration
	}{{0, 0, 4 * time.Second}, {0.999999999999, 0, 6 * time.Second}, {0.5, time.Minute, time.Minute}, {0.5, time.Second, 5 * time.Second}, {0.5, 100 * time.Hour, 72 * time.Hour}} {
		at, dead := delivery.Next(1, first, first, c.asked, c.jitter)
		if got := at.Sub(first).Round(time.Millisecond); dead || got != c.want {
			t.Errorf("jitter %v, asked for %v: %v, %t; want %v", c.jitter, c.asked, got, dead, c.want)
		}
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "0": 0, "-5": 0, "x": 0, "1.5": 0, "99999999999": 72 * time.Hour, "999999999999999999999": 0,
		"Sat, 31 Jan 2026 09:00:00 GMT": time.Hour, "Fri, 30 Jan 2026 09:00:00 GMT": 0, "Sat, 31 Jan 2099 09:00:00 GMT": 72 * time.Hour,
	} {
		if got := delivery.Asked(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"120", "", "-1", "Sat, 31 Jan 2026 09:00:00 GMT", "9223372036854775807", "Saturday, 31-Jan-26 09:00:00 GMT"} {
		f.Add(seed)
	}
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if got := delivery.Asked(text, now); got < 0 || got > 72*time.Hour {
			t.Errorf("%q: %v", text, got)
		}
	})
}

func TestTheBreakerOpensTriesOneAndCloses(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	var b delivery.Breaker
	for range 9 {
		b.Answer(false, now)
	}
	if b.Room(20, now) != 20 {
		t.Fatal("open after nine failures")
	}
	b.Answer(false, now)
	for _, wait := range []time.Duration{0, 29 * time.Second} {
		if n := b.Room(20, now.Add(wait)); n != 0 {
			t.Errorf("after %v lets %d through", wait, n)
		}
	}
	now = now.Add(30 * time.Second)
	if n := b.Room(20, now); n != 1 {
		t.Fatalf("half open lets %d through", n)
	}
	b.Send()
	if n := b.Room(20, now); n != 0 {
		t.Errorf("beside the one lets %d through", n)
	}
	b.Answer(false, now)
	if n := b.Room(20, now.Add(29*time.Second)); n != 0 {
		t.Errorf("open again lets %d through", n)
	}
	now = now.Add(30 * time.Second)
	b.Send()
	b.Answer(true, now)
	if n := b.Room(20, now); n != 20 {
		t.Errorf("closed lets %d through", n)
	}
}

func TestTheBreakerOpensWhenMostFail(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	var b delivery.Breaker
	for i := range 10 {
		b.Answer(i == 2 || i == 5 || i == 8, now.Add(time.Duration(i)*time.Second)) // seven of ten fail
	}
	if n := b.Room(20, now.Add(10*time.Second)); n != 20 {
		// The tenth failed: 7 of 10.
		return
	}
	t.Error("stays closed with seven failures of ten")
}
