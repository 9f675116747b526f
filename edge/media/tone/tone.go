// Package tone owns call-progress tones: the cadences and frequencies of national networks, a small notation for others,
// their samples at 8 kHz, and a meter that says how strong one frequency is. It leaves looping, mixing and when to play
// what to edge/media and edge/session.
package tone

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is the sample rate of every tone in Hz.
const Rate = 8000

const samplesPerMs = Rate / 1000

// Limits of a tone.
const (
	MinHz       = 20
	MaxHz       = 3900
	MaxSegments = 32
	MaxDuration = time.Minute
	maxSum      = 4
)

// Segment is one step of a cadence: the frequencies in Hz that sound together, none for silence, and for how long.
type Segment struct {
	Hz       []int
	Duration time.Duration
}

// Spec is one period of a cadence. The zero value is no tone.
type Spec struct {
	Segments []Segment
	// Continuous: the single segment has neither start nor end; its period repeats without a seam.
	Continuous bool
}

// Duration is the length of one period.
func (s Spec) Duration() (d time.Duration) {
	for _, segment := range s.Segments {
		d += segment.Duration
	}
	return d
}

// String is the tone in the notation Parse reads.
func (s Spec) String() string {
	var b strings.Builder
	for i, segment := range s.Segments {
		if i > 0 {
			b.WriteByte(',')
		}
		if len(segment.Hz) == 0 {
			b.WriteByte('0')
		}
		for j, hz := range segment.Hz {
			if j > 0 {
				b.WriteByte('+')
			}
			b.WriteString(strconv.Itoa(hz))
		}
		if !s.Continuous {
			fmt.Fprintf(&b, "/%d", segment.Duration.Milliseconds())
		}
	}
	return b.String()
}

// Parse reads a cadence: steps separated by commas, each "Hz+Hz/ms" with up to four frequencies of MinHz..MaxHz, 0 for
// silence. "440+480/2000,0/4000" is the ringback of North America. A single step without "/ms" is continuous, with a
// period of one second. A period holds at most MaxSegments steps and MaxDuration. The error names the step at fault.
func Parse(notation string) (Spec, error) {
	steps := strings.Split(notation, ",")
	if len(steps) > MaxSegments {
		return Spec{}, fmt.Errorf("tone has %d steps, at most %d are allowed", len(steps), MaxSegments)
	}
	if len(steps) == 1 && !strings.Contains(notation, "/") {
		hz, err := parseHz(notation)
		if err != nil {
			return Spec{}, fmt.Errorf("tone %.32q: %w", notation, err)
		}
		// All frequencies are whole, so one second holds whole cycles of each.
		return Spec{Segments: []Segment{{Hz: hz, Duration: time.Second}}, Continuous: true}, nil
	}
	spec := Spec{Segments: make([]Segment, 0, len(steps))}
	for i, step := range steps {
		segment, err := parseStep(step)
		if err != nil {
			return Spec{}, fmt.Errorf("tone step %d, %.32q: %w", i+1, step, err)
		}
		spec.Segments = append(spec.Segments, segment)
	}
	if d := spec.Duration(); d > MaxDuration {
		return Spec{}, fmt.Errorf("tone lasts %s, at most %s is allowed", d, MaxDuration)
	}
	return spec, nil
}

func parseStep(step string) (Segment, error) {
	frequencies, length, ok := strings.Cut(step, "/")
	if !ok {
		return Segment{}, fmt.Errorf(`has no length; write it as "Hz/ms"`)
	}
	hz, err := parseHz(frequencies)
	if err != nil {
		return Segment{}, err
	}
	ms, err := strconv.ParseUint(strings.TrimSpace(length), 10, 31)
	if err != nil || ms == 0 || ms > uint64(MaxDuration.Milliseconds()) {
		return Segment{}, fmt.Errorf("length must be 1–%d ms", MaxDuration.Milliseconds())
	}
	return Segment{Hz: hz, Duration: time.Duration(ms) * time.Millisecond}, nil
}

func parseHz(frequencies string) ([]int, error) {
	parts := strings.Split(frequencies, "+")
	if len(parts) == 1 && strings.TrimSpace(parts[0]) == "0" {
		return nil, nil
	}
	if len(parts) > maxSum {
		return nil, fmt.Errorf("%d frequencies at once, at most %d are allowed", len(parts), maxSum)
	}
	hz := make([]int, 0, len(parts))
	for _, part := range parts {
		f, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || f < MinHz || f > MaxHz {
			return nil, fmt.Errorf("frequency must be %d–%d Hz, or 0 alone for silence", MinHz, MaxHz)
		}
		hz = append(hz, f)
	}
	return hz, nil
}

const (
	// overloadDBm0 is the level of a full-scale sine in G.711 µ-law (3.17 dBm0; A-law 3.14).
	overloadDBm0 = 3.17
	// levelDBm0 is the power of all frequencies of a step together: what tone plans ask of a dial tone, and inside
	// the −10 ±5 dBm0 of ITU-T E.180.
	levelDBm0 = -13
	// edge is how long a step rises and falls, so that it starts and ends without a click.
	edge = 5 * samplesPerMs
)

// PCM makes one period at Rate: 16-bit mono, all frequencies of a step together at −13 dBm0, each step rising and falling
// over 5 ms unless the tone is continuous. It is for making a prompt once, off the 20 ms path.
func (s Spec) PCM() []int16 {
	pcm := make([]int16, int(s.Duration().Milliseconds())*samplesPerMs)
	at := 0
	for _, segment := range s.Segments {
		n := int(segment.Duration.Milliseconds()) * samplesPerMs
		segment.render(pcm[at:at+n], at, s.Continuous)
		at += n
	}
	return pcm
}

// render fills dst, the samples of the segment, which starts at sample start of the period: phases follow the period's
// clock so that equal neighbouring steps join.
func (s Segment) render(dst []int16, start int, seamless bool) {
	if len(s.Hz) == 0 {
		return
	}
	amplitude := math.MaxInt16 * math.Pow(10, (levelDBm0-overloadDBm0)/20) / math.Sqrt(float64(len(s.Hz)))
	for i := range dst {
		sum := 0.0
		for _, hz := range s.Hz {
			// Reduced to one second first: the phase of the sixtieth second is as exact as the first's.
			sum += math.Sin(2 * math.Pi * float64((start+i)*hz%Rate) / Rate)
		}
		sum *= amplitude
		if !seamless {
			sum *= fade(i, len(dst))
		}
		dst[i] = int16(math.Round(sum))
	}
}

// fade is the raised-cosine gain of sample i of n.
func fade(i, n int) float64 {
	length := min(edge, n/2)
	distance := min(i, n-1-i)
	if distance >= length {
		return 1
	}
	return (1 - math.Cos(math.Pi*(float64(distance)+0.5)/float64(length))) / 2
}
