package media

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// skewed plays a sender whose clock is off by ppm into a jitter buffer for some time and returns what came out. Each
// second is 700 ms of speech, then a pause that is silent if quiet says so.
func skewed(t *testing.T, j *jitterBuffer, ppm int64, length time.Duration, quiet bool) (said, heard []byte) {
	t.Helper()
	sent, stamp := time.Duration(0), uint32(0xFFFFF000)
	interval := Frame + Frame*time.Duration(ppm)/1_000_000
	var frame [samplesPerFrame]byte
	for now := time.Duration(0); now < length; now += Frame {
		for ; sent <= now; sent += interval {
			octets := voice(160 + int(stamp/160%50))[:160]
			if quiet && stamp/160%50 >= 35 {
				octets = silence(codec.PCMU, 160)
			} else {
				said = append(said, octets...)
			}
			if got := j.put(stamp, octets, true, false); got != stored {
				t.Fatalf("at %v: a packet was not stored but %d", now, got)
			}
			stamp += 160
		}
		n := j.take(&frame, codec.PCMU)
		if n != 0 && !bytes.Equal(frame[:], silence(codec.PCMU, 160)) {
			heard = append(heard, frame[:]...)
		}
		if level := j.level(); level < -targetLevel || level > highestLevel {
			t.Fatalf("at %v the level is %d", now, level)
		}
	}
	return said, heard
}

func TestSkewedClocksCostOnlySilence(t *testing.T) {
	for name, ppm := range map[string]int64{"slower": 200, "faster": -200, "equal": 0} {
		t.Run(name, func(t *testing.T) {
			var j jitterBuffer
			said, heard := skewed(t, &j, ppm, 20*time.Minute, true)
			if !bytes.Equal(said[:len(heard)], heard) || len(said)-len(heard) > 20*160 {
				t.Errorf("of %d octets said %d were heard, or others", len(said), len(heard))
			}
			if (ppm > 0) != (j.inserted > 0) || (ppm < 0) != (j.skipped > 0) {
				t.Errorf("%d frames inserted, %d skipped", j.inserted, j.skipped)
			}
		})
	}
}

func TestSkewedClocksWithoutAPauseStayInBounds(t *testing.T) {
	for name, ppm := range map[string]int64{"slower": 200, "faster": -200} {
		t.Run(name, func(t *testing.T) {
			var j jitterBuffer
			skewed(t, &j, ppm, 20*time.Minute, false)
			// 20 minutes at 200 ppm are 240 ms: 12 frames.
			if n := j.inserted + j.skipped; n < 9 || n > 15 {
				t.Errorf("%d frames inserted, %d skipped", j.inserted, j.skipped)
			}
		})
	}
}

func TestLateNetworkIsWaitedForAndThenCaughtUp(t *testing.T) {
	var j jitterBuffer
	var frame [samplesPerFrame]byte
	stamp := uint32(7)
	put := func() arrival {
		octets := voice(160)
		if stamp/160%50 >= 45 { // a breath each second
			octets = silence(codec.PCMU, 160)
		}
		stamp += 160
		return j.put(stamp, octets, true, false)
	}
	for range 100 {
		put()
		j.take(&frame, codec.PCMU)
	}
	// 300 ms of nothing, then all at once.
	for range 15 {
		j.take(&frame, codec.PCMU)
	}
	dropped := 0
	for range 15 {
		if got := put(); got == late {
			dropped++
		}
	}
	if dropped != straysBehind-1 {
		t.Errorf("%d packets were dropped", dropped)
	}
	if j.level() < targetLevel {
		t.Errorf("the level after the burst is %d", j.level())
	}
	for range 60 * 50 {
		put()
		j.take(&frame, codec.PCMU)
	}
	if level := j.level(); level > targetLevel+int32(samplesPerFrame) || j.skipped == 0 {
		t.Errorf("a minute later the level is %d, %d frames skipped", level, j.skipped)
	}
}

func TestTimestampsThatJumpAreFollowed(t *testing.T) {
	for _, test := range []struct {
		name   string
		jump   uint32
		marker bool
		lost   int
	}{
		{name: "ahead", jump: 1 << 20, lost: straysAhead - 1},
		{name: "far back", jump: ^uint32(1<<20) + 1, lost: straysBehind - 1},
		{name: "with a marker", jump: 1 << 30, marker: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var j jitterBuffer
			var frame [samplesPerFrame]byte
			stamp := uint32(500)
			for range 20 {
				j.put(stamp, voice(160), true, false)
				j.take(&frame, codec.PCMU)
				stamp += 160
			}
			stamp += test.jump
			lost, jumps := 0, 0
			for i := range 20 {
				switch j.put(stamp, voice(160), true, test.marker && i == 0) {
				case late, outside:
					lost++
				case jumped:
					jumps++
				}
				if n := j.take(&frame, codec.PCMU); i > 10 && n != 160 {
					t.Errorf("packet %d after the jump is not heard", i)
				}
				stamp += 160
			}
			if lost != test.lost || jumps != 1 {
				t.Errorf("%d packets lost, %d jumps", lost, jumps)
			}
		})
	}
}

func TestOldPacketsMoveNothing(t *testing.T) {
	var j jitterBuffer
	var frame [samplesPerFrame]byte
	for i := range uint32(50) {
		j.put(i*160, voice(160), true, false)
		j.take(&frame, codec.PCMU)
	}
	before := j.next
	for range 10 {
		if got := j.put(160, voice(160), false, true); got != late {
			t.Fatalf("an old packet was not late but %d", got)
		}
	}
	if got := j.put(1<<30, nil, true, true); got != outside {
		t.Errorf("an empty packet was not refused but %d", got)
	}
	if j.next != before || j.insert != 0 {
		t.Error("old packets moved the buffer")
	}
}

func BenchmarkJitterBuffer(b *testing.B) {
	var j jitterBuffer
	var frame [samplesPerFrame]byte
	octets := voice(160)
	stamp := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		j.put(stamp, octets, true, false)
		j.take(&frame, codec.PCMU)
		stamp += 160
	}
}
