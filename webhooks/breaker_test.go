package webhooks

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestBreakerCountsAWindow(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  string // g good, b bad, n neither; . is six seconds
		opens bool
	}{
		{"nine in a row", "bbbbbbbbb", false},
		{"ten in a row", "bbbbbbbbbb", true},
		{"seven of ten", "bbbgbbgbgb", true},
		{"six of ten", "bbbgbbgbgg", false},
		{"seven of nine", "bbbgbbgbb", false},
		{"rows are broken by a success", "bbgbgbbgbgbbgbgbbgbg", false},
		{"hang-ups do not count", "bbbbbbbbbnnnnn", false},
		{"seven of ten, but long ago", "bbbb......bbgbgg", false},
		{"ten in a row over a long time", "b.b.b.b.b.b.b.b.b.b", true},
		{"failures lost among successes", "ggggggggggggggggggggbbbbbbbb", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b breakers
				o := origin{"acc_1", "https://app.test"}
				results := map[rune]result{'g': resultGood, 'b': resultBad, 'n': resultNone}
				for _, r := range c.play {
					if r == '.' {
						<-time.After(6 * time.Second)
						continue
					}
					b.record(o, false, results[r])
				}
				if b.isOpen(o) != c.opens {
					t.Errorf("open is %v", !c.opens)
				}
			})
		})
	}
}

func TestBreakerProbeThatSaysNothingLeavesItHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breakers
		o := origin{"acc_1", "https://app.test"}
		for range breakerInARow {
			b.record(o, false, resultBad)
		}
		<-time.After(breakerOpenFor)
		probe, ok := b.allow(o)
		if !probe || !ok {
			t.Fatal("no probe after 30 seconds")
		}
		b.record(o, false, resultGood) // an older request comes back late: it decides nothing
		if _, ok := b.allow(o); ok {
			t.Error("a second request beside the probe")
		}
		b.record(o, true, resultNone)
		if probe, ok := b.allow(o); !probe || !ok {
			t.Error("the next request must be the probe")
		}
		b.record(o, true, resultGood)
		if probe, ok := b.allow(o); probe || !ok {
			t.Error("a good probe closes the breaker")
		}
	})
}

func TestBreakersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breakers
		for i := range maxBreakers + 100 {
			b.record(origin{"acc_1", fmt.Sprint("https://", i, ".test")}, false, resultBad)
		}
		if len(b.all) > maxBreakers {
			t.Errorf("%d breakers", len(b.all))
		}
		<-time.After(2 * time.Minute)
		b.record(origin{"acc_1", "https://new.test"}, false, resultBad)
		if len(b.all) != 1 {
			t.Errorf("%d breakers are left of those nobody used", len(b.all))
		}
	})
}

func TestInFlightForgetsAccounts(t *testing.T) {
	f := inFlight{most: 1}
	if !f.enter(t.Context(), "acc_1") {
		t.Fatal("no place")
	}
	f.leave("acc_1")
	if len(f.accounts) != 0 {
		t.Errorf("%d accounts are remembered", len(f.accounts))
	}
}
