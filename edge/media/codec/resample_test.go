package codec

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func sine(rate int, hz float64, seconds float64) []int16 {
	samples := make([]int16, int(float64(rate)*seconds))
	for i := range samples {
		samples[i] = int16(math.Round(16000 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
	}
	return samples
}

// decibels is the power of the middle of got, away from where the tone starts and ends, relative to sine's.
func decibels(got []int16) float64 {
	got = got[len(got)/4 : 3*len(got)/4]
	sum := 0.0
	for _, s := range got {
		sum += float64(s) * float64(s)
	}
	return 10 * math.Log10((sum+1e-9)/float64(len(got))/(16000*16000/2))
}

func TestResampleKeepsSpeechAndStopsAliases(t *testing.T) {
	for _, rate := range []int{11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 44099} {
		for _, hz := range []float64{300, 1000, 3000, 3400} {
			got := decibels(Resample(sine(rate, hz, 0.5), rate, 8000))
			if math.Abs(got) > 0.5 {
				t.Errorf("%d Hz: %g Hz changed by %.2f dB", rate, hz, got)
			}
		}
		for _, hz := range []float64{4100, 5000, 6000, 7500, 12000, 20000} {
			if hz >= float64(rate)/2 {
				continue
			}
			if got := decibels(Resample(sine(rate, hz, 0.5), rate, 8000)); got > -60 {
				t.Errorf("%d Hz: %g Hz comes through at %.1f dB", rate, hz, got)
			}
		}
	}
}

func TestResampleIsInPhaseWithTheInput(t *testing.T) {
	for _, rate := range []int{16000, 44100, 48000} {
		got, want := Resample(sine(rate, 1000, 0.5), rate, 8000), sine(8000, 1000, 0.5)
		if len(got) != len(want) {
			t.Fatalf("%d samples, want %d", len(got), len(want))
		}
		for i := 400; i < len(got)-400; i++ {
			if d := int(got[i]) - int(want[i]); d < -40 || d > 40 {
				t.Fatalf("%d Hz: sample %d is %d, want %d", rate, i, got[i], want[i])
			}
		}
	}
}

func TestResampleUpwards(t *testing.T) {
	got := Resample(sine(8000, 1000, 0.5), 8000, 48000)
	if len(got) != 24000 || math.Abs(decibels(got)) > 0.5 {
		t.Errorf("%d samples at %.2f dB", len(got), decibels(got))
	}
}

func TestResampleLengthRoundsUp(t *testing.T) {
	for _, c := range []struct{ n, from, to, want int }{
		{0, 16000, 8000, 0}, {1, 48000, 8000, 1}, {7, 48000, 8000, 2}, {441, 44100, 8000, 80}, {3, 8000, 8000, 3}, {2, 8000, 16000, 4},
	} {
		if got := len(Resample(make([]int16, c.n), c.from, c.to)); got != c.want {
			t.Errorf("%d samples from %d to %d become %d, want %d", c.n, c.from, c.to, got, c.want)
		}
	}
}

func TestResampleClipsInsteadOfWrapping(t *testing.T) {
	square := make([]int16, 16000)
	for i := range square {
		square[i] = math.MaxInt16
		if i/20%2 == 0 {
			square[i] = math.MinInt16
		}
	}
	for i, s := range Resample(square, 16000, 8000) {
		// Ringing overshoots next to an edge; away from it, wrapping would show as the opposite sign.
		if inPulse := i % 10; inPulse > 2 && inPulse < 8 && (s < 0) != (i/10%2 == 0) {
			t.Fatalf("sample %d is %d", i, s)
		}
	}
}

func TestResampleAtTheSameRateIsACopy(t *testing.T) {
	src := []int16{1, 2, 3}
	got := Resample(src, 8000, 8000)
	if !slices.Equal(got, src) {
		t.Errorf("got %v", got)
	}
	if got[0] = 9; src[0] != 1 {
		t.Error("the result shares the input")
	}
}

func BenchmarkResampleSecond(b *testing.B) {
	for _, rate := range []int{16000, 44100, 48000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			src := sine(rate, 1000, 1)
			for b.Loop() {
				Resample(src, rate, 8000)
			}
		})
	}
}
