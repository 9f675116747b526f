package detect

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// hear lets a detector hear sound that is answered at once and returns every verdict.
func hear(d *Detector, sound []int16) []Verdict {
	d.Answered()
	var all []Verdict
	for ; len(sound) >= frameLength; sound = sound[frameLength:] {
		for v, ok := d.Frame(sound[:frameLength]); ok; v, ok = d.Frame(nil) {
			all = append(all, v)
		}
	}
	return all
}

func seconds(s float64) int { return int(s * rate) }

// voiced is a person's word or a machine's sentence, of so many seconds.
func voiced(s float64) []int16 { return newLine().speech(int(s*50), -20, -70) }

func idle(s float64) []int16 { return newLine().noise(int(s*50), -70) }

func TestGreetingsAreToldByTheirTiming(t *testing.T) {
	for _, c := range []struct {
		name    string
		tuning  Tuning
		sound   []int16
		outcome Outcome
		reason  Reason
		at      time.Duration
	}{
		{"a word, a pause", Tuning{}, join(idle(.4), voiced(.4), idle(2)), Human, ReasonShortGreeting, 1700 * time.Millisecond},
		{"a word at once", Tuning{}, join(voiced(.4), idle(2)), Human, ReasonShortGreeting, 1300 * time.Millisecond},
		{"a sentence, a longer pause", Tuning{}, join(idle(.4), voiced(2), idle(2)), Human, ReasonGreeting, 3700 * time.Millisecond},
		{"a long sentence", Tuning{}, join(idle(.4), voiced(8)), Machine, ReasonLongGreeting, 5 * time.Second},
		{"as Twilio would", Tuning{SpeechThreshold: 2400 * time.Millisecond}, join(idle(.4), voiced(3), idle(2)), Machine, ReasonLongGreeting, 2900 * time.Millisecond},
		{"a word and a beep", Tuning{}, join(idle(.4), voiced(.6), idle(.4), beepTone(1000, seconds(.3), 6000), idle(1)), Machine, ReasonBeep, 1900 * time.Millisecond},
		{"nobody speaks", Tuning{}, idle(6), Unknown, ReasonSilence, 5 * time.Second},
		{"nobody speaks, impatient", Tuning{SilenceTimeout: 2 * time.Second}, idle(6), Unknown, ReasonSilence, 2 * time.Second},
		{"a click is no word", Tuning{}, join(idle(1), voiced(.04), idle(6)), Unknown, ReasonSilence, 5 * time.Second},
		{"pauses hold no time-out", Tuning{Timeout: 3 * time.Second, SilenceTimeout: 10 * time.Second}, idle(4), Unknown, ReasonTimeout, 3 * time.Second},
	} {
		verdicts := hear(New(c.tuning, WantMachine, nil), c.sound)
		if len(verdicts) != 1 {
			t.Errorf("%s: %d verdicts", c.name, len(verdicts))
			continue
		}
		v := verdicts[0]
		if v.Outcome != c.outcome || v.Reason != c.reason || v.Closes != WantMachine || v.Announcement != -1 {
			t.Errorf("%s: %+v", c.name, v)
		}
		if late := v.At - c.at; late > 200*time.Millisecond || late < -200*time.Millisecond {
			t.Errorf("%s: after %v, expected about %v", c.name, v.At, c.at)
		}
	}
}

func TestNobodyIsAPersonBeforeTheAnswer(t *testing.T) {
	d := New(Tuning{}, WantMachine, nil)
	for sound := join(voiced(1), idle(3), voiced(9), idle(40)); len(sound) >= frameLength; sound = sound[frameLength:] {
		if v, ok := d.Frame(sound[:frameLength]); ok {
			t.Fatalf("before the answer: %+v", v)
		}
	}
	if verdicts := hear(d, join(voiced(.4), idle(2))); len(verdicts) != 1 || verdicts[0].Outcome != Human {
		t.Errorf("after it: %+v", verdicts)
	}
}

func TestRingbackBehindTheAnswerIsNoSpeech(t *testing.T) {
	for _, country := range []string{"cn", "us", "uk", "de", "fr", "jp"} {
		sound := join(tones(t, "ringback-"+country, 11, 4000), idle(1), voiced(.4), idle(2))
		if verdicts := hear(New(Tuning{}, WantMachine, nil), sound); len(verdicts) != 1 || verdicts[0].Outcome != Human {
			t.Errorf("%s: %+v", country, verdicts)
		}
	}
}

func TestMessageEndIsSaidAfterMachine(t *testing.T) {
	greeting := join(idle(.4), voiced(6))
	for _, c := range []struct {
		name   string
		sound  []int16
		end    End
		reason Reason
	}{
		{"beep", join(greeting, idle(.7), beepTone(850, seconds(.5), 5000), idle(1)), EndBeep, ReasonBeep},
		{"beep at an exchange's frequency", join(greeting, idle(.7), beepTone(450, seconds(.5), 5000), idle(2)), EndBeep, ReasonBeep},
		{"silence", join(greeting, idle(3)), EndSilence, ReasonGreetingSilence},
		{"it never ends", join(greeting, voiced(30)), EndOther, ReasonTimeout},
	} {
		d := New(Tuning{}, WantMessageEnd, nil)
		verdicts := hear(d, c.sound)
		if len(verdicts) != 2 {
			t.Errorf("%s: %+v", c.name, verdicts)
			continue
		}
		if v := verdicts[0]; v.Outcome != Machine || v.Closes != WantMachine || v.End != NoEnd {
			t.Errorf("%s: first %+v", c.name, v)
		}
		if v := verdicts[1]; v.Outcome != Machine || v.Closes != WantMessageEnd || v.End != c.end || v.Reason != c.reason {
			t.Errorf("%s: then %+v", c.name, v)
		}
		if d.Open() != 0 {
			t.Errorf("%s: still open: %v", c.name, d.Open())
		}
	}
	if verdicts := hear(New(Tuning{}, WantMessageEnd, nil), join(voiced(.4), idle(2))); len(verdicts) != 1 ||
		verdicts[0].Outcome != Human || verdicts[0].Closes != WantMachine|WantMessageEnd {
		t.Errorf("a person: %+v", verdicts)
	}
}

func TestBeepNeedsSpeechBeforeItAndQuietAfterIt(t *testing.T) {
	said, beep := join(idle(.3), voiced(5), idle(.5)), beepTone(1400, seconds(.2), 5000)
	busy := tones(t, "busy-cn", 5, 4000)
	for _, c := range []struct {
		name  string
		sound []int16
		found bool
	}{
		{"after speech", join(said, beep, idle(1)), true},
		{"the shortest", join(said, beepTone(1400, seconds(.12), 5000), idle(1)), true},
		{"too short", join(said, beepTone(1400, seconds(.05), 5000), idle(1)), false},
		{"too long", join(said, beepTone(1400, seconds(2), 5000), idle(1)), false},
		{"too high", join(said, beepTone(3000, seconds(.3), 5000), idle(1)), false},
		{"no speech", join(idle(2), beep, idle(1)), false},
		{"notes of a melody", join(said, beepTone(700, seconds(.3), 5000), beepTone(800, seconds(.3), 5000), beepTone(650, seconds(2), 5000)), false},
		{"a busy tone", join(said, busy), false},
	} {
		found := false
		for _, v := range hear(New(Tuning{}, WantBeep, nil), c.sound) {
			found = found || v.Outcome == Beep
		}
		if found != c.found {
			t.Errorf("%s: found %v", c.name, found)
		}
	}
}

func TestFaxIsHeardBeforeAndAfterTheAnswer(t *testing.T) {
	for _, c := range []struct {
		notation string
		reason   Reason
	}{{"1100/500,0/3000", ReasonCNG}, {"2100/3000", ReasonCED}} {
		sound := join(idle(1), tones(t, c.notation, 9, 4000), idle(1))
		early := New(Tuning{}, WantFax, nil)
		var heard []Verdict
		for rest := sound; len(rest) >= frameLength; rest = rest[frameLength:] {
			if v, ok := early.Frame(rest[:frameLength]); ok {
				heard = append(heard, v)
			}
		}
		answered := hear(New(Tuning{}, WantFax|WantMachine, nil), sound)
		for _, verdicts := range [][]Verdict{heard, answered} {
			if len(verdicts) != 1 || verdicts[0].Outcome != Fax || verdicts[0].Reason != c.reason {
				t.Errorf("%s: %+v", c.notation, verdicts)
			}
		}
	}
}

func TestExpireAnswersTheRestOnce(t *testing.T) {
	d := New(Tuning{}, WantAll|WantMessageEnd, nil)
	v, ok := d.Expire()
	if !ok || v.Outcome != Unknown || v.Closes != WantAll|WantMessageEnd || v.Reason != ReasonTimeout {
		t.Errorf("%+v %v", v, ok)
	}
	if v, ok := d.Expire(); ok {
		t.Errorf("again: %+v", v)
	}
	if verdicts := hear(d, join(voiced(.4), idle(2))); len(verdicts) != 0 {
		t.Errorf("after it: %+v", verdicts)
	}
}

func TestFramesOfAnySizeHearTheSame(t *testing.T) {
	sound := join(idle(.4), voiced(.5), idle(2))
	for _, size := range []int{1, 80, 240, 1000, len(sound)} {
		d := New(Tuning{}, WantMachine, nil)
		d.Answered()
		var got []Verdict
		for rest := sound; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if v, ok := d.Frame(rest[:min(size, len(rest))]); ok {
				got = append(got, v)
			}
		}
		if len(got) != 1 || got[0] != hear(New(Tuning{}, WantMachine, nil), sound)[0] {
			t.Errorf("frames of %d: %+v", size, got)
		}
	}
}

func TestZeroDetectorAsksNothing(t *testing.T) {
	var d Detector
	if verdicts := hear(&d, join(voiced(1), idle(3))); len(verdicts) != 0 {
		t.Errorf("%+v", verdicts)
	}
}

func TestTuningSaysEveryFieldAtFault(t *testing.T) {
	if err := (Tuning{}).Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := DefaultTuning().Check(); err != nil {
		t.Errorf("the defaults written out: %v", err)
	}
	// Twilio's least and most of all four.
	for _, ms := range [][4]time.Duration{{3000, 1000, 500, 2000}, {59000, 6000, 5000, 10000}} {
		tuning := Tuning{Timeout: ms[0] * time.Millisecond, SpeechThreshold: ms[1] * time.Millisecond,
			SpeechEndThreshold: ms[2] * time.Millisecond, SilenceTimeout: ms[3] * time.Millisecond}
		if err := tuning.Check(); err != nil {
			t.Errorf("Twilio's %v: %v", ms, err)
		}
	}
	err := Tuning{Timeout: time.Second, MinWord: time.Second, BeepLow: 2600, SpeechThreshold: -1, ShortGreetingEnd: 2 * time.Second}.Check()
	for _, name := range []string{"timeout must", "min_word must", "beep_low (2600 Hz) must", "speech_threshold must", "short_greeting_end (2s) must"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not in %v", name, err)
		}
	}
}

func TestNamesAreThoseOfTheContract(t *testing.T) {
	for _, name := range questionNames {
		if q, ok := Question(name); !ok || q.String() != name {
			t.Errorf("question %q: %v", name, q)
		}
	}
	if _, ok := Question("person"); ok {
		t.Error("a question that is none")
	}
	for k := Invalid; k < kinds; k++ {
		if named, ok := KindNamed(k.String()); !ok || named != k {
			t.Errorf("kind %v", k)
		}
	}
	if _, ok := KindNamed(""); ok {
		t.Error("a kind without a name")
	}
	if got := (WantMachine | WantFax).String(); got != "machine,fax" {
		t.Error(got)
	}
	if Announced.String() != "announcement" || EndSilence.String() != "silence" || ReasonCED.String() != "ced" {
		t.Error("outcome, end or reason")
	}
}

func TestDetectorDoesNotAllocate(t *testing.T) {
	d := New(Tuning{Timeout: time.Minute}, WantAll|WantMessageEnd, noiseAnnouncements(t, 4))
	d.Answered()
	frame := newLine().noise(1, -40)
	if allocs := testing.AllocsPerRun(500, func() { d.Frame(frame) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// noiseAnnouncements are fingerprints of 5 s of modulated noise each.
func noiseAnnouncements(t testing.TB, n int) []Announcement {
	var all []Announcement
	for i := range n {
		l := line{rand.New(rand.NewPCG(9, uint64(i)))}
		f, err := NewFingerprint(l.noise(250, -20))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Announcement{Kind(1 + i%int(kinds-1)), f})
	}
	return all
}

func FuzzDetector(f *testing.F) {
	f.Add([]byte{}, uint8(255), uint8(0))
	f.Add([]byte("any samples at all, loud and quiet, and the answer somewhere among them"), uint8(31), uint8(1))
	f.Add([]byte{0, 128, 255, 127, 0, 0, 1, 0}, uint8(16), uint8(3))
	known := noiseAnnouncements(f, 3)
	f.Fuzz(func(t *testing.T, raw []byte, wants, answer uint8) {
		d := New(Tuning{Timeout: 3 * time.Second, SilenceTimeout: 2 * time.Second}, Set(wants), known)
		asked, closed := d.Open(), Set(0)
		take := func(v Verdict, ok bool) {
			for ; ok; v, ok = d.Frame(nil) {
				if v.Closes == 0 || v.Closes&closed != 0 || !asked.Has(v.Closes) {
					t.Fatalf("%+v after %v of %v", v, closed, asked)
				}
				closed |= v.Closes
			}
		}
		// Each byte pair is one sample held for 5 ms, so that few bytes make seconds of sound.
		for i := 0; i+1 < len(raw); i += 2 {
			sample := int16(uint16(raw[i]) | uint16(raw[i+1])<<8)
			frame := make([]int16, 40+i%3)
			for j := range frame {
				frame[j] = sample
				if raw[i]&1 != 0 && j&1 != 0 {
					frame[j] = -sample / 2
				}
			}
			if i/2 == int(answer) {
				d.Answered()
			}
			take(d.Frame(frame))
		}
		take(d.Expire())
		if d.Open() != 0 || closed != asked {
			t.Fatalf("%v of %v were answered", closed, asked)
		}
	})
}

func BenchmarkDetector(b *testing.B) {
	sound := voiced(20)
	for _, c := range []struct {
		name  string
		known int
	}{{"alone", 0}, {"a minute of announcements", 12}} {
		b.Run(c.name, func(b *testing.B) {
			known := noiseAnnouncements(b, c.known)
			d := New(Tuning{}, WantAll, known)
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				if at += frameLength; at+frameLength > len(sound) {
					at = 0
				}
				d.Frame(sound[at : at+frameLength])
			}
			if d.Open() == 0 {
				b.Fatal("nothing is asked any more")
			}
		})
	}
}
