package detect

// greeting measures who speaks after the answer and how long: the timing by which people and machines differ. All its
// times are frames of 20 ms. The zero value has heard nothing.
//
// Why it is measured at a level relative to the loudest and not where the VAD hears anything: behind a person are a
// street, an office, a television, which do not stop when he does. Who greets is the loudest; his greeting reaches from
// the first to the last moment at which the line was within 8 dB of that.
type greeting struct {
	vad     VAD
	now     int
	quiet   int     // when the silence began that SilenceTimeout bounds
	word    int     // active frames of late, less those that were not
	began   bool    // a word was heard
	level   float32 // mean square, through a pole of 130 ms
	loudest float32 // the highest level, sinking slowly
	highest float32 // the same, not sinking
	first   [steps]int32
	last    [steps]int32 // when the level was at least so high, of active frames; in steps of 1.5 dB
}

const (
	steps = 40
	// lowestStep is the step of −58 dBFS.
	lowestStep = 21
	// withinSteps is how far under the loudest a greeting reaches, 6 to 7.5 dB. With 10 dB, voices that are 12 dB
	// under the speaker were taken for his; the gaps between his own syllables are bridged by the level's pole.
	withinSteps = 4
	// standsOut is how many times (8 dB) the quietest noise a greeting has.
	standsOut = 6
	levelPole = 0.15
	// sinking is 0.3 dB in a second: a cough before the greeting is forgotten, and the voices behind it do not become it.
	sinking = 0.9986
	// doubt is the pause after which a greeting is compared with the noise: until 200 ms are heard, the VAD takes a noisy
	// line for a voice.
	doubt = 12
	// longestWord bounds the memory of word, continues is how much of one is needed for a greeting to go on.
	longestWord, continues = 25, 3
)

// hear takes one frame's power in the telephone band and how many frames make a word.
func (g *greeting) hear(power float32, minWord int) {
	g.now++
	g.level += levelPole * (power - g.level)
	g.loudest *= sinking
	if !g.vad.active(int64(power), frameLength) {
		g.word = max(0, g.word-1)
		g.dismissNoise()
		return
	}
	if g.word = min(g.word+1, longestWord); g.word >= minWord {
		g.began = true
	}
	if g.word < continues {
		return
	}
	g.loudest = max(g.loudest, g.level)
	g.highest = max(g.highest, g.level)
	reached := step(g.level)
	for i := range reached + 1 {
		if g.first[i] == 0 {
			g.first[i] = int32(g.now)
		}
		g.last[i] = int32(g.now)
	}
}

// dismissNoise forgets a greeting that did not stand out of the noise which is heard since.
func (g *greeting) dismissNoise() {
	if g.began && g.pause() >= doubt && !g.over(&g.vad) {
		*g = greeting{vad: g.vad, now: g.now, quiet: g.quiet, level: g.level}
	}
}

// over says whether the greeting stands out of the noise that a VAD has learnt.
func (g *greeting) over(v *VAD) bool { return g.highest >= standsOut*float32(v.floor()) }

// forget takes the last frames back: they were a tone. before is the greeting as it was when the tone began.
func (g *greeting) forget(before *greeting) {
	vad, now := g.vad, g.now
	*g = *before
	g.vad, g.now, g.quiet, g.word = vad, now, now, 0
	g.dismissNoise()
}

// step is the place of a level in first and last.
func step(level float32) int {
	return min(max(int(2*log2(level+1))-lowestStep, 0), steps-1)
}

// reference is the step that counts as greeting.
func (g *greeting) reference() int { return max(0, step(g.loudest)-withinSteps) }

func (g *greeting) length() int {
	r := g.reference()
	return int(g.last[r] - g.first[r])
}

func (g *greeting) pause() int { return g.now - int(g.last[g.reference()]) }

func (g *greeting) silence() int { return g.now - g.quiet }
