package phone

import (
	"math"
	"testing"
	"time"
)

func sine(hz float64, seconds float64) []int16 {
	out := make([]int16, int(seconds*8000))
	for i := range out {
		out[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/8000))
	}
	return out
}

func TestSoundsTellsTonesFromSilenceAndSpeech(t *testing.T) {
	heard := append(make([]int16, 8000), sine(425, 1)...)
	mixed := sine(500, 1)
	for i, s := range sine(1130, 1) {
		mixed[i] += s
	}
	heard = append(heard, mixed...)
	got := Sounds(heard)
	want := []Sound{
		{"silence", 0, 0, time.Second},
		{"tone", 425, time.Second, time.Second},
		{"speech", 0, 2 * time.Second, time.Second},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("stretch %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if s := Describe(got); s != "silence 1.0s, tone 425 Hz 1.0s, speech 1.0s" {
		t.Error(s)
	}
}

func TestParsePresses(t *testing.T) {
	got, err := ParsePresses("1@2s, 5#@6.5s")
	if err != nil || len(got) != 2 || got[1] != (Press{"5#", 6500 * time.Millisecond}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, wrong := range []string{"1", "1@", "@2s", "1@soon"} {
		if _, err := ParsePresses(wrong); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}
