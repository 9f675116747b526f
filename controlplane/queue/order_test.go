package queue_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// caller is one who waits, as the decision about the order sees it.
type caller struct {
	call     webhooks.CallID
	queuedAt time.Time
	priority int
	ahead    bool
	joined   int // the how-manieth
}

// before is the decision: an unanswered offer first, then seconds waited + 60 × priority, then who came first.
func (c caller) before(other caller, now time.Time) bool {
	if c.ahead != other.ahead {
		return c.ahead
	}
	score := func(c caller) time.Duration { return now.Sub(c.queuedAt) + time.Duration(c.priority)*time.Minute }
	if a, b := score(c), score(other); a != b {
		return a > b
	}
	return c.joined < other.joined
}

func FuzzTheOrderIsThatOfTheScores(f *testing.F) {
	f.Add(int64(0), uint16(0), false, int64(60_000_000), uint16(1), false, int64(90))
	f.Add(int64(0), uint16(1000), false, int64(5), uint16(0), true, int64(1))
	f.Add(int64(1), uint16(3), true, int64(1), uint16(3), true, int64(86_400))
	start := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, at1 int64, priority1 uint16, ahead1 bool, at2 int64, priority2 uint16, ahead2 bool, later int64) {
		const year = int64(365 * 24 * time.Hour / time.Microsecond)
		one := caller{"1", start.Add(time.Duration(at1%year) * time.Microsecond), int(priority1 % 1001), ahead1, 0}
		two := caller{"2", start.Add(time.Duration(at2%year) * time.Microsecond), int(priority2 % 1001), ahead2, 1}
		now := start.Add(time.Duration(later%year) * time.Microsecond)
		rank1, rank2 := queue.RankOf(one.queuedAt, one.priority, one.ahead), queue.RankOf(two.queuedAt, two.priority, two.ahead)
		if first := rank1 <= rank2; first != one.before(two, now) {
			t.Errorf("%+v ranks %d, %+v ranks %d", one, rank1, two, rank2)
		}
	})
}

// TestTheOrderStaysRightWhateverHappens compares a queue with the decision after random steps.
func TestTheOrderStaysRightWhateverHappens(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		id := f.queue(t, `{"name":"a","max_waiting":0}`).ID
		random := rand.New(rand.NewPCG(1, 2))
		var model []caller
		sorted := func() []webhooks.CallID {
			now := f.clock.now()
			slices.SortFunc(model, func(a, b caller) int {
				if a.before(b, now) {
					return -1
				}
				return 1
			})
			calls := []webhooks.CallID{}
			for _, c := range model {
				calls = append(calls, c.call)
			}
			return calls
		}
		joined := 0
		for step := range 150 {
			f.clock.pass(time.Duration(random.IntN(40)) * time.Second)
			f.renew(t, edge("a", 1))
			switch what := random.IntN(10); {
			case what < 4 || len(model) == 0:
				c := caller{webhooks.CallID(fmt.Sprint("call_", joined)), f.clock.now(), random.IntN(4), false, joined}
				f.join(t, joining("a", c.call, priority(c.priority)))
				model = append(model, c)
				joined++
			case what < 6:
				c := f.take(t, taking("a", webhooks.CallID(fmt.Sprint("call_leg_", step))), sorted()[0])
				f.confirm(t, c)
				model = model[1:]
			case what < 8:
				c := f.take(t, taking("a", webhooks.CallID(fmt.Sprint("call_leg_", step))), sorted()[0])
				why := []queue.Why{queue.Unanswered, queue.Canceled, queue.Failed}[random.IntN(3)]
				if err := f.Return(t.Context(), returned(c, why)); err != nil {
					t.Fatal(err)
				}
				model[0].ahead = model[0].ahead || why == queue.Unanswered
			default:
				c := &model[random.IntN(len(model))]
				c.priority = random.IntN(20)
				if _, err := f.Reprioritize(t.Context(), auth.Account(resttest.Account), c.call, c.priority); err != nil {
					t.Fatal(err)
				}
			}
			if step%10 > 0 {
				continue
			}
			if got, want := fmt.Sprint(f.line(t, id)), fmt.Sprint(sorted()); got != want {
				t.Fatalf("step %d: the line is %s, want %s", step, got, want)
			}
		}
	})
}
