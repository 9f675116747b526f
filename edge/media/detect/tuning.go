package detect

import (
	"errors"
	"fmt"
	"time"
)

// Tuning holds the thresholds of a Detector. The zero value, and every field that is zero, means the default. The first
// four are Twilio's parameters of answering-machine detection under the same names, with their ranges; of their
// defaults SpeechThreshold's differs (see deploy/docs/detection.md, where they are measured).
//
// Raising SpeechThreshold or lowering the two ends connects more people and takes more machines for people.
type Tuning struct {
	// Timeout after the answer, MachineDetectionTimeout: questions still open are answered Unknown. 3–60 s, default 30 s.
	Timeout time.Duration
	// SpeechThreshold, MachineDetectionSpeechThreshold: a greeting that lasts this long is a machine's. From its first
	// sound, pauses included. 1–6 s, default 4.5 s (Twilio: 2.4 s).
	SpeechThreshold time.Duration
	// SpeechEndThreshold, MachineDetectionSpeechEndThreshold: a greeting under SpeechThreshold that is followed by a pause
	// of this length is a person's. 0.5–5 s, default 1.2 s.
	SpeechEndThreshold time.Duration
	// SilenceTimeout, MachineDetectionSilenceTimeout: when nobody speaks for this long after the answer, or after ringback
	// heard behind it, the machine question is answered Unknown. 2–10 s, default 5 s.
	SilenceTimeout time.Duration

	// ShortGreeting is how long "喂" or "hello?" lasts at most: a person who says no more is recognised after the shorter
	// pause ShortGreetingEnd. 0.2–2 s, default 900 ms.
	ShortGreeting time.Duration
	// ShortGreetingEnd is that pause. 0.3–5 s and at most SpeechEndThreshold, default 800 ms (or SpeechEndThreshold where
	// that is shorter).
	ShortGreetingEnd time.Duration
	// MinWord is the shortest sound that counts as speech; clicks and breath are under it. 40–500 ms, default 100 ms.
	MinWord time.Duration
	// MessageEndSilence is the pause after which a machine's greeting is over although no beep came. 0.5–10 s, default 2 s.
	MessageEndSilence time.Duration

	// BeepMin and BeepMax bound the length of a beep. 80 ms–1 s, default 120 ms; 0.2–5 s, default 1.5 s.
	BeepMin, BeepMax time.Duration
	// BeepLow and BeepHigh bound its frequency in Hz, 300–3400; defaults 400 and 2500.
	BeepLow, BeepHigh int
}

// DefaultTuning is the defaults written out.
func DefaultTuning() Tuning { return Tuning{}.whole() }

// bound is what Check knows of one duration.
type bound struct {
	name          string
	field         func(*Tuning) *time.Duration
	least, most   time.Duration
	defaultLength time.Duration
}

var bounds = [...]bound{
	{"timeout", func(t *Tuning) *time.Duration { return &t.Timeout }, 3 * time.Second, time.Minute, 30 * time.Second},
	{"speech_threshold", func(t *Tuning) *time.Duration { return &t.SpeechThreshold }, time.Second, 6 * time.Second, 4500 * time.Millisecond},
	{"speech_end_threshold", func(t *Tuning) *time.Duration { return &t.SpeechEndThreshold }, 500 * time.Millisecond, 5 * time.Second, 1200 * time.Millisecond},
	{"silence_timeout", func(t *Tuning) *time.Duration { return &t.SilenceTimeout }, 2 * time.Second, 10 * time.Second, 5 * time.Second},
	{"short_greeting", func(t *Tuning) *time.Duration { return &t.ShortGreeting }, 200 * time.Millisecond, 2 * time.Second, 900 * time.Millisecond},
	{"short_greeting_end", func(t *Tuning) *time.Duration { return &t.ShortGreetingEnd }, 300 * time.Millisecond, 5 * time.Second, 800 * time.Millisecond},
	{"min_word", func(t *Tuning) *time.Duration { return &t.MinWord }, 40 * time.Millisecond, 500 * time.Millisecond, 100 * time.Millisecond},
	{"message_end_silence", func(t *Tuning) *time.Duration { return &t.MessageEndSilence }, 500 * time.Millisecond, 10 * time.Second, 2 * time.Second},
	{"beep_min", func(t *Tuning) *time.Duration { return &t.BeepMin }, 80 * time.Millisecond, time.Second, 120 * time.Millisecond},
	{"beep_max", func(t *Tuning) *time.Duration { return &t.BeepMax }, 200 * time.Millisecond, 5 * time.Second, 1500 * time.Millisecond},
}

const (
	defaultBeepLow, defaultBeepHigh = 400, 2500
	leastBeepHz, mostBeepHz         = 300, 3400
)

// Check says what is out of range, every field at fault, by the names of the instruction's `tuning`. Zero is in range.
func (t Tuning) Check() error {
	var faults []error
	for _, b := range bounds {
		if d := *b.field(&t); d != 0 && (d < b.least || d > b.most) {
			faults = append(faults, fmt.Errorf("%s must be %v–%v, is %v", b.name, b.least, b.most, d))
		}
	}
	whole := t.whole()
	for _, f := range []struct {
		name string
		hz   int
	}{{"beep_low", whole.BeepLow}, {"beep_high", whole.BeepHigh}} {
		if f.hz < leastBeepHz || f.hz > mostBeepHz {
			faults = append(faults, fmt.Errorf("%s must be %d–%d Hz, is %d", f.name, leastBeepHz, mostBeepHz, f.hz))
		}
	}
	if whole.BeepLow >= whole.BeepHigh {
		faults = append(faults, fmt.Errorf("beep_low (%d Hz) must be under beep_high (%d Hz)", whole.BeepLow, whole.BeepHigh))
	}
	if whole.BeepMin >= whole.BeepMax {
		faults = append(faults, fmt.Errorf("beep_min (%v) must be under beep_max (%v)", whole.BeepMin, whole.BeepMax))
	}
	if whole.ShortGreetingEnd > whole.SpeechEndThreshold {
		faults = append(faults, fmt.Errorf("short_greeting_end (%v) must be at most speech_end_threshold (%v)",
			whole.ShortGreetingEnd, whole.SpeechEndThreshold))
	}
	return errors.Join(faults...)
}

// whole is t with the defaults filled in.
func (t Tuning) whole() Tuning {
	toldShort := t.ShortGreetingEnd != 0
	for _, b := range bounds {
		if d := b.field(&t); *d == 0 {
			*d = b.defaultLength
		}
	}
	if !toldShort {
		t.ShortGreetingEnd = min(t.ShortGreetingEnd, t.SpeechEndThreshold)
	}
	if t.BeepLow == 0 {
		t.BeepLow = defaultBeepLow
	}
	if t.BeepHigh == 0 {
		t.BeepHigh = defaultBeepHigh
	}
	return t
}
