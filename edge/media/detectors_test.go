package media

import (
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/detect"
)

// cng is a fax machine's calling tone, of ITU-T T.30: 1100 Hz for 0.5 s, then 3 s of nothing.
func cng(p *phone) {
	for range 2 {
		for range 25 {
			p.say(sine(p.codec, 1100, 8000, samplesPerFrame))
			p.line.frames(1)
		}
		for range 150 {
			p.say(silence(p.codec, samplesPerFrame))
			p.line.frames(1)
		}
	}
}

func TestDetectorHearsALegWhateverBecomesOfIt(t *testing.T) {
	for name, prepare := range map[string]func(*line, *Leg){
		"alone":  func(*line, *Leg) {},
		"bridge": func(l *line, leg *Leg) { other, _ := l.call(codec.PCMU, leg); _ = Bridge(other, leg) },
		"room":   func(l *line, leg *Leg) { l.join(l.room(), leg, Seat{Role: Listen}) },
		"muted":  func(l *line, leg *Leg) { leg.SetMute(Both, true) },
		"moved":  func(l *line, leg *Leg) { other, _ := l.call(codec.PCMU, nil); _ = Bridge(other, leg) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, twoShards, func(l *line) {
				leg, p := l.call(codec.PCMA, nil)
				l.frames(1)
				id := leg.Detect(detect.New(detect.Tuning{}, detect.WantFax, nil))
				l.frames(1)
				prepare(l, leg)
				cng(p)
				told := only(events(leg), Detected)
				if len(told) != 1 || told[0].Detect != id || told[0].Verdict.Outcome != detect.Fax || told[0].Verdict.Closes != detect.WantFax {
					t.Fatalf("told: %+v", told)
				}
				if n := len(leg.own.detectors); n != 0 {
					t.Errorf("%d detectors go on", n)
				}
			})
		})
	}
}

func TestDetectorsJudgeFromTheAnswerOn(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, _ := l.call(codec.PCMU, nil)
		before := leg.Detect(detect.New(detect.Tuning{}, detect.WantMachine, nil))
		l.pass(8 * time.Second)
		if told := only(events(leg), Detected); len(told) != 0 {
			t.Errorf("before the answer: %+v", told)
		}
		leg.Answered()
		l.pass(time.Second)
		after := leg.Detect(detect.New(detect.Tuning{}, detect.WantMachine, nil))
		l.pass(30 * time.Second)
		told := only(events(leg), Detected)
		if len(told) != 2 || told[0].Detect != before || told[1].Detect != after {
			t.Fatalf("told: %+v", told)
		}
		for _, e := range told {
			// Nobody spoke, and silence took as long for both.
			if e.Verdict.Outcome != detect.Unknown || e.Verdict.Reason != detect.ReasonSilence || e.Verdict.At != told[0].Verdict.At {
				t.Errorf("told: %+v", e)
			}
		}
		if d := told[1].At.Sub(told[0].At); d < time.Second-Slot || d > time.Second+Frame {
			t.Errorf("the second verdict comes %v after the first", d)
		}
	})
}

func TestDetectorsAreExpiredAndStopped(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		expired := leg.Detect(detect.New(detect.Tuning{}, detect.WantAll, nil))
		stopped := leg.Detect(detect.New(detect.Tuning{}, detect.WantFax, nil))
		l.frames(5)
		leg.StopDetect(stopped)
		leg.ExpireDetect(expired)
		leg.ExpireDetect(expired)
		l.frames(2)
		told := only(events(leg), Detected)
		if len(told) != 1 || told[0].Detect != expired || told[0].Verdict.Closes != detect.WantAll || told[0].Verdict.Reason != detect.ReasonTimeout {
			t.Errorf("told: %+v", told)
		}
		cng(p)
		if told := only(events(leg), Detected); len(told) != 0 || len(leg.own.detectors) != 0 {
			t.Errorf("told: %+v, and %d detectors are left", told, len(leg.own.detectors))
		}
		leg.Detect(detect.New(detect.Tuning{}, detect.WantFax, nil))
		leg.Close()
		l.frames(1)
		if leg.Detect(detect.New(detect.Tuning{}, detect.WantFax, nil)) != 0 {
			t.Error("a closed leg has a detector")
		}
	})
}
