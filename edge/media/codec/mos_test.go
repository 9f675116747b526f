package codec

import (
	"math"
	"testing"
)

func TestMOSFollowsTheEModel(t *testing.T) {
	for _, c := range []struct {
		name              string
		loss, jitter, rtt float64
		low, high         float64
	}{
		{"clean line", 0, 0, 20, 4.35, 4.45},
		{"1 % loss", 0.01, 5, 40, 4.25, 4.40},
		{"5 % loss", 0.05, 10, 100, 3.7, 4.0},
		{"satellite", 0, 5, 560, 3.3, 4.0},
		{"20 % loss", 0.2, 30, 200, 2.0, 2.9},
		{"nothing arrives", 1, 500, 5000, 1, 1},
	} {
		if got := MOS(c.loss, c.jitter, c.rtt); got < c.low || got > c.high {
			t.Errorf("%s: %.2f, want %.2f–%.2f", c.name, got, c.low, c.high)
		}
	}
}

func TestMOSFallsWithEveryImpairment(t *testing.T) {
	for name, at := range map[string]func(float64) float64{
		"loss":   func(x float64) float64 { return MOS(x/100, 0, 0) },
		"jitter": func(x float64) float64 { return MOS(0, 10*x, 0) },
		"delay":  func(x float64) float64 { return MOS(0, 0, 20*x) },
	} {
		for x := 1.0; x <= 100; x++ {
			if at(x) > at(x-1) {
				t.Errorf("%s: %.3f after %.3f", name, at(x), at(x-1))
			}
		}
	}
}

func TestMOSStaysOnItsScale(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1e9} {
		for _, got := range []float64{MOS(x, 0, 0), MOS(0, x, 0), MOS(0, 0, x)} {
			if !(got >= 1 && got <= 4.5) {
				t.Errorf("MOS of %g is %g", x, got)
			}
		}
	}
}
