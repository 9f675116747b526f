package detect

import (
	"math"
	"math/rand/v2"
	"testing"
)

const frameSamples = 160

// line makes the sound of a phone line, reproducibly.
type line struct{ random *rand.Rand }

func newLine() line { return line{rand.New(rand.NewPCG(3, 4))} }

// noise is white noise of n frames at a level in dBFS (of its mean square against full scale squared).
func (l line) noise(frames int, dBFS float64) []int16 {
	rms := 32768 * math.Pow(10, dBFS/20)
	samples := make([]int16, frames*frameSamples)
	for i := range samples {
		samples[i] = int16(max(-32768, min(32767, rms*l.random.NormFloat64())))
	}
	return samples
}

// speech is a 150 Hz voice whose syllables, five a second, fall by 30 dB between them, over noise.
func (l line) speech(frames int, dBFS, noiseDBFS float64) []int16 {
	samples := l.noise(frames, noiseDBFS)
	peak := 32768 * math.Pow(10, dBFS/20)
	for i := range samples {
		at := float64(i) / rate
		syllable := math.Pow(10, -1.5*(1-math.Abs(math.Sin(math.Pi*5*at))))
		voice := 0.0
		for harmonic := 1.0; harmonic <= 8; harmonic++ {
			voice += math.Sin(2*math.Pi*150*harmonic*at) / harmonic
		}
		samples[i] = int16(max(-32768, min(32767, float64(samples[i])+peak*syllable*voice)))
	}
	return samples
}

// active is the share of frames in which v hears speech.
func active(v *VAD, samples []int16) float64 {
	speech, frames := 0, 0
	for ; len(samples) >= frameSamples; samples = samples[frameSamples:] {
		frames++
		if v.Frame(samples[:frameSamples]) {
			speech++
		}
	}
	return float64(speech) / float64(frames)
}

func TestNoiseIsNotSpeechAtAnyLevel(t *testing.T) {
	for _, dBFS := range []float64{-90, -70, -60, -50, -45, -40} {
		l, v := newLine(), VAD{}
		active(&v, l.noise(25, dBFS)) // half a second to get used to the line
		if share := active(&v, l.noise(500, dBFS)); share > 0.01 {
			t.Errorf("noise at %g dBFS is speech in %.0f %% of frames", dBFS, 100*share)
		}
	}
}

func TestSpeechIsHeardOverNoise(t *testing.T) {
	for _, c := range []struct{ speech, noise float64 }{{-15, -90}, {-25, -60}, {-30, -50}, {-20, -40}, {-40, -70}} {
		l, v := newLine(), VAD{}
		active(&v, l.noise(25, c.noise))
		if share := active(&v, l.speech(500, c.speech, c.noise)); share < 0.95 {
			t.Errorf("speech at %g over noise at %g dBFS is heard in %.0f %% of frames", c.speech, c.noise, 100*share)
		}
		active(&v, l.noise(25, c.noise))
		if share := active(&v, l.noise(500, c.noise)); share > 0.01 {
			t.Errorf("noise at %g dBFS after speech is speech in %.0f %% of frames", c.noise, 100*share)
		}
	}
}

func TestSpeechFromTheFirstFrameIsHeard(t *testing.T) {
	var v VAD
	loud := newLine().speech(10, -20, -60)[4*frameSamples:]
	if !v.Frame(loud[:frameSamples]) {
		t.Error("the first frame is lost")
	}
}

func TestMusicAndTonesStayActive(t *testing.T) {
	tone := make([]int16, 500*frameSamples)
	for i := range tone {
		tone[i] = int16(5100 * math.Sin(2*math.Pi*450*float64(i)/rate))
	}
	var v VAD
	if share := active(&v, tone); share != 1 {
		t.Errorf("a tone at −16 dBFS is active in %.0f %% of frames", 100*share)
	}
}

func TestHangoverLasts200Milliseconds(t *testing.T) {
	for _, size := range []int{80, 160, 240, 480} {
		l, v := newLine(), VAD{}
		v.Frame(make([]int16, size))
		if !v.Frame(l.speech(10, -15, -90)[800 : 800+size]) {
			t.Fatal("speech is not heard")
		}
		held := 0
		for v.Frame(make([]int16, size)) {
			held += size
		}
		if held < hangoverSamples || held >= hangoverSamples+size {
			t.Errorf("frames of %d: held for %d samples", size, held)
		}
	}
}

func TestDigitalSilenceIsNotSpeech(t *testing.T) {
	var v VAD
	if active(&v, make([]int16, 100*frameSamples)) != 0 {
		t.Error("zeros are speech")
	}
	if v.Frame(nil) {
		t.Error("an empty frame is speech")
	}
}

func TestLoudestSamplesDoNotOverflow(t *testing.T) {
	frame := make([]int16, 960)
	for i := range frame {
		frame[i] = math.MinInt16
	}
	var v VAD
	for range 200 {
		if !v.Frame(frame) {
			t.Fatal("full scale is not active")
		}
	}
}

func TestFrameDoesNotAllocate(t *testing.T) {
	frame := newLine().noise(1, -40)
	var v VAD
	if allocs := testing.AllocsPerRun(100, func() { v.Frame(frame) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkVAD(b *testing.B) {
	frame := newLine().noise(1, -40)
	var v VAD
	for b.Loop() {
		v.Frame(frame)
	}
}
