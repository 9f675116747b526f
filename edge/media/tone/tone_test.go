package tone

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func named(t *testing.T, name string) Spec {
	t.Helper()
	spec, ok := Named(name)
	if !ok {
		t.Fatalf("no tone %q", name)
	}
	return spec
}

func TestParseReadsCadences(t *testing.T) {
	for notation, want := range map[string]Spec{
		"440+480/2000,0/4000": {Segments: []Segment{{Hz: []int{440, 480}, Duration: 2 * time.Second}, {Duration: 4 * time.Second}}},
		"1000 / 300":          {Segments: []Segment{{Hz: []int{1000}, Duration: 300 * time.Millisecond}}},
		"425":                 {Segments: []Segment{{Hz: []int{425}, Duration: time.Second}}, Continuous: true},
		"350+440":             {Segments: []Segment{{Hz: []int{350, 440}, Duration: time.Second}}, Continuous: true},
	} {
		got, err := Parse(notation)
		if err != nil || got.String() != want.String() || got.Continuous != want.Continuous || got.Duration() != want.Duration() {
			t.Errorf("%q: %v %v", notation, got, err)
		}
	}
}

func TestParseSaysWhichStepIsWrong(t *testing.T) {
	for notation, saying := range map[string]string{
		"":                                    "20–3900 Hz",
		"440/1000,":                           "step 2",
		"440/1000,480":                        "has no length",
		"440/0":                               "1–60000 ms",
		"440/60001":                           "1–60000 ms",
		"440/-5":                              "1–60000 ms",
		"440/x":                               "1–60000 ms",
		"4000/100":                            "20–3900 Hz",
		"19/100":                              "20–3900 Hz",
		"440+0/100":                           "20–3900 Hz",
		"1+2+3+4+5/100":                       "5 frequencies",
		"440/40000,0/40000":                   "1m20s",
		strings.Repeat("440/10,", 32) + "0/1": "33 steps",
	} {
		if _, err := Parse(notation); err == nil || !strings.Contains(err.Error(), saying) {
			t.Errorf("%q: %v, want it to say %q", notation, err, saying)
		}
	}
}

func TestNamedTones(t *testing.T) {
	for name, want := range map[string]string{
		"ringback":      "450/1000,0/4000",
		"busy":          "450/350,0/350",
		"ringback-us":   "440+480/2000,0/4000",
		"Ringback-US":   "440+480/2000,0/4000",
		"reorder-us":    "480+620/250,0/250",
		"congestion-de": "425/240,0/240",
		"busy-gb":       "400/375,0/375",
		"dial-eu":       "425",
		"dial-jp":       "400",
		"beep":          "1000/300",
		"silence":       "0",
	} {
		if got := named(t, name).String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"", "ringback-", "ringback-xx", "ring", "beep-us", "silence-cn", "-us", "440/100", "ringback-us-old"} {
		if spec, ok := Named(name); ok {
			t.Errorf("%q is %s", name, spec)
		}
	}
}

func TestEveryNetworkHasEveryTone(t *testing.T) {
	for country := range networks {
		for _, kind := range []string{"dial", "ringback", "busy", "reorder"} {
			spec := named(t, kind+"-"+country)
			if again, err := Parse(spec.String()); err != nil || again.String() != spec.String() {
				t.Errorf("%s-%s does not read back: %v", kind, country, err)
			}
			if spec.Continuous != (kind == "dial") {
				t.Errorf("%s-%s: continuous is %v", kind, country, spec.Continuous)
			}
		}
	}
}

func TestTonesHaveTheirFrequenciesAndLevel(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to int // milliseconds of the period
		hz       []float64
	}{
		{"ringback", 0, 1000, []float64{450}},
		{"ringback-us", 0, 2000, []float64{440, 480}},
		{"dial-uk", 0, 1000, []float64{350, 440}},
		{"busy-us", 0, 500, []float64{480, 620}},
		{"beep", 0, 300, []float64{1000}},
	} {
		pcm := named(t, c.name).PCM()[c.from*samplesPerMs : c.to*samplesPerMs]
		if got := Power(pcm); math.Abs(got+16.17) > 0.3 {
			t.Errorf("%s: %.2f dBFS, want −13 dBm0", c.name, got)
		}
		each := -16.17 - 10*math.Log10(float64(len(c.hz)))
		for _, hz := range c.hz {
			if got := Level(pcm, hz); math.Abs(got-each) > 0.5 {
				t.Errorf("%s: %g Hz at %.2f dBFS, want %.2f", c.name, hz, got, each)
			}
		}
		if got := Level(pcm, 2000); got > -50 {
			t.Errorf("%s: 2000 Hz at %.2f dBFS", c.name, got)
		}
	}
}

func TestSilentStepsAreSilent(t *testing.T) {
	pcm := named(t, "ringback-us").PCM()
	if len(pcm) != 6*Rate {
		t.Fatalf("%d samples", len(pcm))
	}
	if Power(pcm[2*Rate:]) != FloorDBFS {
		t.Error("the pause is not silent")
	}
	if pcm := named(t, "silence").PCM(); len(pcm) != Rate || Power(pcm) != FloorDBFS {
		t.Error("silence is not a second of zeros")
	}
}

// A step between neighbouring samples above what the highest frequency itself makes would be heard as a click.
func TestTonesDoNotClick(t *testing.T) {
	names := []string{"beep"}
	for country := range networks {
		names = append(names, "dial-"+country, "ringback-"+country, "busy-"+country, "reorder-"+country)
	}
	for _, name := range names {
		spec := named(t, name)
		steepest := 0.0
		for _, segment := range spec.Segments {
			sum := 0.0
			for _, hz := range segment.Hz {
				sum += float64(hz)
			}
			if len(segment.Hz) > 0 {
				steepest = max(steepest, 5100*2*math.Pi*sum/math.Sqrt(float64(len(segment.Hz)))/Rate)
			}
		}
		period := spec.PCM()
		if !spec.Continuous && (abs(period[0]) > 20 || abs(period[len(period)-1]) > 20) {
			t.Errorf("%s starts at %d and ends at %d", name, period[0], period[len(period)-1])
		}
		last := period[len(period)-1]
		for i, s := range period {
			if step := math.Abs(float64(s) - float64(last)); step > steepest+2 {
				t.Errorf("%s: step of %.0f at sample %d, at most %.0f expected", name, step, i, steepest)
				break
			}
			last = s
		}
	}
}

func abs(s int16) int16 { return max(s, -s) }

func TestContinuousTonesRepeatWithoutASeam(t *testing.T) {
	for _, name := range []string{"dial-us", "dial-in", "dial-cn"} {
		spec := named(t, name)
		twice := Spec{Segments: []Segment{{Hz: spec.Segments[0].Hz, Duration: 2 * time.Second}}, Continuous: true}
		if period := spec.PCM(); !slices.Equal(twice.PCM(), append(slices.Clone(period), period...)) {
			t.Errorf("%s: two periods differ from two seconds", name)
		}
	}
}

func TestVeryShortStepsStayInRange(t *testing.T) {
	spec, err := Parse("1000/1,2000/2,0/1")
	if err != nil {
		t.Fatal(err)
	}
	if pcm := spec.PCM(); len(pcm) != 32 {
		t.Errorf("%d samples", len(pcm))
	}
}

func TestLevelOfKnownSignals(t *testing.T) {
	full := make([]int16, 1600)
	for i := range full {
		full[i] = int16(math.Round(32767 * math.Sin(2*math.Pi*700*float64(i)/Rate)))
	}
	if got := Level(full, 700); math.Abs(got) > 0.01 {
		t.Errorf("full scale is %.3f dBFS", got)
	}
	if got := Level(full, 770); got > -35 {
		t.Errorf("70 Hz beside the tone: %.1f dBFS", got)
	}
	if got := Power(full); math.Abs(got) > 0.01 {
		t.Errorf("power of full scale is %.3f dBFS", got)
	}
	if Level(nil, 700) != FloorDBFS || Power(nil) != FloorDBFS || Level(make([]int16, 160), 700) != FloorDBFS {
		t.Error("silence is not at the floor")
	}
}

func TestLevelDoesNotAllocate(t *testing.T) {
	frame := make([]int16, 160)
	if allocs := testing.AllocsPerRun(100, func() { Level(frame, 697); Power(frame) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzParse checks that what is accepted can be played and written down again.
func FuzzParse(f *testing.F) {
	for _, n := range networks {
		f.Add(n.ringback)
		f.Add(n.dial)
	}
	f.Add("1+2+3+4+5/1,/,0")
	f.Fuzz(func(t *testing.T, notation string) {
		spec, err := Parse(notation)
		if err != nil {
			return
		}
		if again, err := Parse(spec.String()); err != nil || again.String() != spec.String() {
			t.Fatalf("%q is written %q: %v", notation, spec, err)
		}
		if d := spec.Duration(); d <= 0 || d > MaxDuration {
			t.Fatalf("lasts %s", d)
		}
		if spec.Duration() <= time.Second {
			spec.PCM()
		}
	})
}

func BenchmarkLevel(b *testing.B) {
	frame := make([]int16, 160)
	for i := range frame {
		frame[i] = int16(i * 100)
	}
	for b.Loop() {
		Level(frame, 697)
	}
}

func BenchmarkPCMRingback(b *testing.B) {
	spec, _ := Named("ringback-us")
	for b.Loop() {
		spec.PCM()
	}
}
