package phone

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/tone"
)

// Sound is a stretch of what was heard.
type Sound struct {
	Kind     string // silence, tone, speech
	Hz       int    // of a tone
	Start    time.Duration
	Duration time.Duration
}

// String is the stretch as a person would say it.
func (s Sound) String() string {
	if s.Kind == "tone" {
		return fmt.Sprintf("tone %d Hz %.1fs", s.Hz, s.Duration.Seconds())
	}
	return fmt.Sprintf("%s %.1fs", s.Kind, s.Duration.Seconds())
}

const (
	window      = media.SampleRate / 10 // samples that are judged at once
	silentDBFS  = -50                   // below is silence
	tonePurity  = 3                     // dB that everything together may be above its strongest frequency
	lowestTone  = 300                   // Hz
	highestTone = 2000
)

// Sounds tells silence, tones and everything else (which is called speech) apart, 100 ms at a time.
func Sounds(samples []int16) []Sound {
	var out []Sound
	for from := 0; from+window <= len(samples); from += window {
		kind, hz := judge(samples[from : from+window])
		start := time.Duration(from) * time.Second / media.SampleRate
		if last := len(out) - 1; last >= 0 && out[last].Kind == kind && abs(out[last].Hz-hz) <= 10 {
			out[last].Duration += window * time.Second / media.SampleRate
			continue
		}
		out = append(out, Sound{Kind: kind, Hz: hz, Start: start, Duration: window * time.Second / media.SampleRate})
	}
	return out
}

func abs(n int) int { return int(math.Abs(float64(n))) }

func judge(samples []int16) (kind string, hz int) {
	all := tone.Power(samples)
	if all < silentDBFS {
		return "silence", 0
	}
	best, at := -math.MaxFloat64, 0
	for f := lowestTone; f <= highestTone; f += 5 {
		if level := tone.Level(samples, float64(f)); level > best {
			best, at = level, f
		}
	}
	if all-best <= tonePurity {
		return "tone", at
	}
	return "speech", 0
}

// Seconds adds up what was heard of one kind.
func Seconds(sounds []Sound, kind string) float64 {
	var total time.Duration
	for _, s := range sounds {
		if s.Kind == kind {
			total += s.Duration
		}
	}
	return total.Seconds()
}

// Describe is the whole in one line, silences under half a second left out.
func Describe(sounds []Sound) string {
	var parts []string
	for _, s := range sounds {
		if s.Kind == "silence" && s.Duration < 500*time.Millisecond {
			continue
		}
		parts = append(parts, s.String())
	}
	return strings.Join(parts, ", ")
}
