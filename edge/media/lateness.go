package media

import (
	"slices"
	"sync/atomic"
	"time"
)

// lateness counts how late the slots of one shard came, second by second. The shard writes, anyone reads.
type lateness struct {
	seconds [latenessSeconds + 1]latenessSecond
	ever    [len(latenessBounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

type latenessSecond struct {
	second atomic.Int64 // Unix time; the buckets are of this second alone
	counts [len(latenessBounds) + 1]atomic.Uint32
}

const latenessSeconds = 5

// latenessBounds are the upper ends of the buckets. An array of constants, so that reading it costs nothing.
var latenessBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 150 * time.Microsecond, 200 * time.Microsecond, 300 * time.Microsecond,
	500 * time.Microsecond, 750 * time.Microsecond,
	time.Millisecond, 1500 * time.Microsecond, 2 * time.Millisecond, 3 * time.Millisecond, 5 * time.Millisecond,
	7500 * time.Microsecond,
	10 * time.Millisecond, 15 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond, 50 * time.Millisecond,
	75 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second,
}

// add counts one slot and reports whether a new second began with it.
func (l *lateness) add(second int64, late time.Duration) (newSecond bool) {
	s := &l.seconds[second%int64(len(l.seconds))]
	if s.second.Load() != second {
		for i := range s.counts {
			s.counts[i].Store(0)
		}
		s.second.Store(second)
		newSecond = true
	}
	i := 0
	for i < len(latenessBounds) && late > latenessBounds[i] {
		i++
	}
	s.counts[i].Add(1)
	l.ever[i].Add(1)
	l.sum.Add(int64(late))
	return newSecond
}

// p99 is the lateness that 99 of 100 slots of the last five seconds kept below, rounded up to a bucket's end. Slots that
// no leg needed count as being in time: the first calls after a pause are not refused for one hiccup.
func (l *lateness) p99(second int64) time.Duration {
	var sums [len(latenessBounds) + 1]uint64
	var total uint64
	for i := range l.seconds {
		s := &l.seconds[i]
		if at := s.second.Load(); at <= second-latenessSeconds || at > second {
			continue
		}
		for k := range s.counts {
			n := uint64(s.counts[k].Load())
			sums[k] += n
			total += n
		}
	}
	if total == 0 {
		return 0
	}
	const whole = uint64(latenessSeconds * time.Second / Slot)
	above := max(total, whole) / 100
	for k := len(sums) - 1; k >= 0; k-- {
		if sums[k] > above {
			return latenessBounds[min(k, len(latenessBounds)-1)]
		}
		above -= sums[k]
	}
	return 0
}

// Lag is how late the slots were that any leg needed, since the engine was made.
type Lag struct {
	Bounds []time.Duration // upper ends of the buckets, rising
	Counts []uint64        // of each bucket alone; the last, one more than Bounds, is what came later than all of them
	Sum    time.Duration
}

// Lag adds up all shards.
func (e *Engine) Lag() Lag {
	all := Lag{Bounds: slices.Clone(latenessBounds[:]), Counts: make([]uint64, len(latenessBounds)+1)}
	for _, s := range e.shards {
		for i := range s.lateness.ever {
			all.Counts[i] += s.lateness.ever[i].Load()
		}
		all.Sum += time.Duration(s.lateness.sum.Load())
	}
	return all
}
