package detect

import "time"

// sound is what one spectrum says about tones: nothing, one frequency, or the two of a busy tone.
type sound struct {
	tonal bool
	dual  bool    // two frequencies; hz is their mean
	hz    float32 // the centre of the tone's power
	power float32 // its mean square
}

const (
	// quietestTone (−47 dBFS of mean square) is the least power of a tone; ITU-T E.180's are far over it.
	quietestTone = 21_000
	// single and double are the parts of the power that one tone, and two together, must hold. White noise 10 dB under
	// a tone leaves it 0.91; of the frames of speech some reach 0.8, but not five in a row at one frequency.
	single, double = 0.78, 0.88
	// weakerOfTwo is the least part of the stronger tone's power that the other has.
	weakerOfTwo = 0.2
	// Where the second frequency counts: 480+620 Hz of North American busy tones, 350+440 Hz of their dial tone.
	lowestDual, highestDual = 330, 660
)

// tone looks for tones in what was heard last. Two frequencies less than 100 Hz apart, as 440+480 Hz of ringback, are one
// in a window of 32 ms, at their mean.
func (s *spectrum) tone() sound {
	if s.total < quietestTone {
		return sound{}
	}
	first, power, hz := s.peak(-10)
	if power > single*s.total {
		return sound{tonal: true, hz: hz, power: power}
	}
	_, other, otherHz := s.peak(first)
	both := power + other
	if both > double*s.total && other > weakerOfTwo*power &&
		min(hz, otherHz) > lowestDual && max(hz, otherHz) < highestDual {
		return sound{tonal: true, dual: true, hz: (hz + otherHz) / 2, power: both}
	}
	return sound{}
}

// peak is the strongest bin that is not part of the peak at another, with the power and the centre of its main lobe.
func (s *spectrum) peak(other int) (bin int, power, hz float32) {
	bin = lowestBin
	var highest float32
	for k := lowestBin; k <= highestBin; k++ {
		if s.power[k] > highest && (k < other-3 || k > other+3) {
			bin, highest = k, s.power[k]
		}
	}
	var weighted float32
	for k := bin - 2; k <= bin+2; k++ {
		power += s.power[k]
		weighted += s.power[k] * float32(k)
	}
	if power > 0 {
		hz = weighted / power * binHz
	}
	return bin, power, hz
}

// burst is a tone that has ended, or that still sounds.
type burst struct {
	dual          bool
	hz            float32 // the mean
	frames        int     // how long, in frames of 20 ms
	before        int     // frames since the burst before it, or since the beginning
	loudest, weak float32 // mean squares of the loudest and the weakest frame, the first and last apart
	last          float32 // mean square of its last frame
	sum           float32 // of hz
}

const (
	// surelyTone is how many frames make a tone: 60 ms.
	surelyTone = 3
	// driftHz is how far a frame may be from the mean of its burst: wider in the band of progress tones, where pairs
	// that are one peak beat against each other.
	driftHz, progressDriftHz = 16, 40
	// lowestProgress and highestProgress bound the single frequencies of ringback, busy and dial tones.
	lowestProgress, highestProgress = 375, 520
)

// progress says whether it may be a tone of an exchange: ringback, busy, congestion, dial tone.
func (b *burst) progress() bool {
	return b.dual || b.hz > lowestProgress && b.hz < highestProgress
}

func (b *burst) duration() time.Duration { return time.Duration(b.frames) * frameTime }

// tracker cuts what is heard into bursts. The zero value is ready.
type tracker struct {
	now     burst
	silence int // frames since the last burst ended
}

// hear takes what one frame says. ended is a burst of at least surelyTone frames that is over with this frame.
func (t *tracker) hear(s sound) (ended burst, ok bool) {
	if s.tonal && t.now.frames > 0 && t.now.takes(s) {
		t.now.add(s)
		return burst{}, false
	}
	ended, ok = t.now, t.now.frames >= surelyTone
	if ok {
		t.silence = 0
	} else {
		t.silence += t.now.frames
	}
	t.now = burst{}
	if s.tonal {
		t.now = burst{dual: s.dual, before: t.silence}
		t.now.add(s)
		return ended, ok
	}
	t.silence++
	return ended, ok
}

// sounding says whether a tone is on for sure.
func (t *tracker) sounding() bool { return t.now.frames >= surelyTone }

func (b *burst) takes(s sound) bool {
	drift := float32(driftHz)
	if b.progress() {
		drift = progressDriftHz
	}
	away := s.hz - b.hz
	return b.dual == s.dual && away < drift && away > -drift
}

func (b *burst) add(s sound) {
	if b.frames >= 2 { // b.last is neither the first nor, with s coming, the last
		b.loudest = max(b.loudest, b.last)
		if b.weak == 0 || b.last < b.weak {
			b.weak = b.last
		}
	}
	b.last = s.power
	b.frames++
	b.sum += s.hz
	b.hz = b.sum / float32(b.frames)
}

// steady says whether its level stayed within 6 dB: an instrument's note fades, a machine's beep does not.
func (b *burst) steady() bool { return b.weak > 0 && b.loudest < 4*b.weak }

// beepWatch finds beeps: a steady single tone that quiet follows.
type beepWatch struct {
	tone   burst
	age    int // frames since it ended
	active bool
}

const (
	// fallsWithin is in how many frames the line is quiet after a beep; a melody's note is followed by the next.
	fallsWithin = 4
	// cadenceWithin is how many frames (900 ms) tell a beep at an exchange's frequency from a busy tone, which comes back.
	cadenceWithin = 45
)

// hear takes the burst that ended with this frame if any, and the frame's mean square. It says when a beep is sure.
func (w *beepWatch) hear(t *Tuning, ended burst, over bool, sounding bool, power float32) bool {
	if over {
		w.active = isBeep(t, &ended)
		w.tone, w.age = ended, 0
	}
	if !w.active {
		return false
	}
	w.age++
	quiet := power < w.tone.last/4
	switch {
	case w.tone.progress() && sounding:
		w.active = false
	case w.tone.progress() && w.age < cadenceWithin:
		return false
	case quiet || w.tone.progress():
		w.active = false
		return true
	case w.age >= fallsWithin:
		w.active = false
	}
	return false
}

// isBeep: one frame of grace at each side, where the window is half full.
func isBeep(t *Tuning, b *burst) bool {
	length := b.duration()
	return !b.dual && b.steady() && length >= t.BeepMin-frameTime && length <= t.BeepMax+frameTime &&
		b.hz >= float32(t.BeepLow)-driftHz && b.hz <= float32(t.BeepHigh)+driftHz
}

// faxWatch finds the tones of ITU-T T.30 §4: CNG, 1100 ± 38 Hz for 0.5 s every 3.5 s, of the calling machine; CED, 2100 ±
// 15 Hz for 2.6–4 s, and ANSam, the same with its phase turned every 450 ms, of the answering one.
type faxWatch struct {
	answering int  // frames of CED, less twice those that are not
	sinceCNG  int  // frames since the last CNG began
	calling   bool // one was heard
}

const (
	cedHz, cedDrift = 2100, 22
	cedFrames       = 50 // 1 s
	cngHz, cngDrift = 1100, 40
	cngShortest     = 22 // frames of the 0.5 s ± 15 %
	cngLongest      = 30
	cngPeriodLeast  = 149 // frames of the 3.5 s ± 15 %
	cngPeriodMost   = 202
)

// hear says which tone made it sure. alone: nothing else was heard yet, and the first CNG is enough.
func (w *faxWatch) hear(s sound, ended burst, over, alone bool) Reason {
	if s.tonal && !s.dual && s.hz > cedHz-cedDrift && s.hz < cedHz+cedDrift {
		w.answering++
	} else {
		w.answering = max(0, w.answering-2)
	}
	if w.answering >= cedFrames {
		return ReasonCED
	}
	w.sinceCNG++
	if !over || !isCNG(&ended) {
		return ReasonNone
	}
	period := w.sinceCNG - ended.frames
	repeated := w.calling && period >= cngPeriodLeast && period <= cngPeriodMost
	w.calling, w.sinceCNG = true, ended.frames
	if alone || repeated {
		return ReasonCNG
	}
	return ReasonNone
}

func isCNG(b *burst) bool {
	return !b.dual && b.steady() && b.hz > cngHz-cngDrift && b.hz < cngHz+cngDrift &&
		b.frames >= cngShortest && b.frames <= cngLongest
}

// sitWatch finds special information tones: three rising tones, 950, 1400 and 1800 Hz ± 50 Hz, 330 ± 70 ms each, without
// a gap over 30 ms (ITU-T E.180 §8). North America says the reason with exact frequencies and lengths (ANSI T1.401,
// Telcordia GR-674).
type sitWatch struct{ first, second burst }

const (
	sitShortest, sitLongest = 11, 21 // frames
	sitGap                  = 4      // frames between two tones; the window itself bridges two
	sitLong                 = 17     // frames of a long tone (380 ms); a short one is 276 ms
)

// sitCode is how the first two tones of a North American SIT sound; the third is always 1776.7 Hz and long.
type sitCode struct{ firstHigh, secondHigh, firstLong, secondLong bool }

// sitKinds: intercept and vacant code, then reorder and no circuit of both kinds.
var sitKinds = map[sitCode]Kind{
	{false, false, false, false}: Invalid,
	{true, false, true, false}:   Invalid,
	{true, false, false, true}:   Unreachable,
	{false, true, false, true}:   Unreachable,
	{true, true, true, true}:     Unreachable,
	{false, false, true, true}:   Unreachable,
}

// hear takes a burst that has ended and says whether it was the last of a SIT, and what that means.
func (w *sitWatch) hear(b burst) (Kind, bool) {
	switch {
	case sitTone(&b, 1800) && sitTone(&w.second, 1400) && sitTone(&w.first, 950) && b.before <= sitGap && w.second.before <= sitGap:
		return sitKind(w.first, w.second), true
	default:
		w.first, w.second = w.second, b
	}
	return KindUnknown, false
}

func sitTone(b *burst, hz float32) bool {
	const off = 62
	return !b.dual && b.hz > hz-off && b.hz < hz+off && b.frames >= sitShortest && b.frames <= sitLongest
}

// sitKind is KindUnknown for the tone of ITU-T E.180, whose frequencies are between the two of North America.
func sitKind(first, second burst) Kind {
	firstHigh, ok1 := nearer(first.hz, 913.8, 985.2)
	secondHigh, ok2 := nearer(second.hz, 1370.6, 1428.5)
	if !ok1 || !ok2 {
		return KindUnknown
	}
	return sitKinds[sitCode{firstHigh, secondHigh, first.frames >= sitLong, second.frames >= sitLong}]
}

// nearer says whether hz is the higher of two frequencies; ok is false when it is neither.
func nearer(hz, low, high float32) (higher, ok bool) {
	const off = 14
	switch {
	case hz > low-off && hz < low+off:
		return false, true
	case hz > high-off && hz < high+off:
		return true, true
	}
	return false, false
}

// cadence finds busy and congestion tones by their rhythm: three bursts of one length with pauses about as long. The
// frequencies are those of every network in ITU-T E.180 supplement 2, the lengths tell which it is.
type cadence struct{ last, previous burst }

const (
	cadenceSlack              = 3 // frames by which bursts, or pauses, may differ
	shortestBusy, longestBusy = 10, 42
)

// hear takes a burst that has ended. KindUnknown: no such rhythm yet.
func (c *cadence) hear(b burst) (Kind, Reason) {
	first, second := c.previous, c.last
	c.previous, c.last = c.last, b
	if !b.progress() || !second.progress() || first.frames == 0 {
		return KindUnknown, ReasonNone
	}
	alike := near(first.frames, second.frames) && near(second.frames, b.frames) && near(second.before, b.before)
	if !alike || !first.progress() || b.frames < shortestBusy || b.frames > longestBusy {
		return KindUnknown, ReasonNone
	}
	if 10*b.before < 6*b.frames || 10*b.before > 17*b.frames {
		return KindUnknown, ReasonNone
	}
	return cadenceKind(time.Duration(first.frames+second.frames+b.frames) * frameTime / 3)
}

func near(a, b int) bool { return a-b <= cadenceSlack && b-a <= cadenceSlack }

// cadenceKind tells by the length of a burst, ITU-T E.180 supplement 2: congestion is 240–280 ms nearly everywhere and
// 700 ms in China; busy is 330–530 ms and, in India and Singapore, 750 ms. Brazil's busy tone of 250 ms is taken for
// congestion.
func cadenceKind(length time.Duration) (Kind, Reason) {
	switch ms := length.Milliseconds(); {
	case ms < 315:
		return Unreachable, ReasonCongestionTone
	case ms < 600:
		return Busy, ReasonBusyTone
	case ms < 740:
		return Unreachable, ReasonCongestionTone
	}
	return Busy, ReasonBusyTone
}
