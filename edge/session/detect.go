package session

import (
	"slices"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/detect"
	"github.com/hookswitch/hookswitch/webhooks"
)

// found is what a detection came to.
type found struct {
	by   webhooks.AnsweredBy
	kind webhooks.AnnouncementKind // of an announcement; "" for anything else
	took webhooks.Seconds
}

// detect listens until something is found that the instruction names, a person above all, or its time is over. It does not
// answer the call.
func (s *Session) detect(i *webhooks.Detect) *webhooks.Trigger {
	id := s.leg.Detect(detect.New(tuningOf(i.Tuning, i.Timeout), questions(i.For)|detect.WantMachine, s.calls.cfg.Announcements))
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	defer s.leg.StopDetect(id)
	timeout := time.NewTimer(i.Timeout.Duration())
	defer timeout.Stop()
	for {
		woke, e := s.wait(timeout.C)
		switch {
		case woke == wokeMedia && e.Kind == media.Detected && e.Detect == id && answers(i, e.Verdict):
			return s.detected(e.Verdict, began)
		case woke == wokeTimer:
			return s.detected(detect.Verdict{Outcome: detect.Unknown, Reason: detect.ReasonTimeout}, began)
		case woke == wokeDigit:
			s.typeAhead(e.Digit)
		case woke == wokeAction, woke == wokeEnd:
			return s.interrupted()
		}
	}
}

// detected is the outcome of a detect instruction.
func (s *Session) detected(v detect.Verdict, began time.Time) *webhooks.Trigger {
	f := foundBy(v)
	f.took = webhooks.SecondsOf(time.Since(began))
	s.log.Info("call.detected", "outcome", v.Outcome.String(), "reason", v.Reason.String(), "kind", v.Kind.String(), "took_s", float64(f.took))
	if s.answered() {
		s.tellFound(f)
	}
	t := &webhooks.Trigger{Outcome: webhooks.Outcome(v.Outcome.String()), DetectionDuration: &f.took}
	if t.Outcome == webhooks.Announcement {
		t.Kind = f.kind
	} else {
		t.AnsweredBy = f.by
	}
	return t
}

// tellFound tells what a detection found, here and in every request from now on.
func (s *Session) tellFound(f found) {
	s.mu.Lock()
	s.call.AnsweredBy, s.call.DetectionDuration = f.by, &f.took
	s.mu.Unlock()
	s.touch()
	s.emit(webhooks.EventCallDetected, webhooks.EventData{AnsweredBy: f.by, DetectionDuration: &f.took, Kind: f.kind})
}

// questions are what an instruction listens for; nil is everything.
func questions(names []string) detect.Set {
	if names == nil {
		return detect.WantAll
	}
	var set detect.Set
	for _, name := range names {
		q, _ := detect.Question(name) // programs are checked for what may stand there
		set |= q
	}
	return set
}

// answers reports whether a verdict ends the instruction. Whether a machine answered is always asked, because a person ends
// every detection; that a machine did, or that nobody spoke, ends only one for machines.
func answers(i *webhooks.Detect, v detect.Verdict) bool {
	if v.Outcome == detect.Machine || v.Outcome == detect.Unknown {
		return i.For == nil || slices.Contains(i.For, "machine")
	}
	return true
}

// tuningOf is a detector's tuning. Its own time-out is never shorter than the time that it is given.
func tuningOf(t *webhooks.Tuning, timeout webhooks.Seconds) detect.Tuning {
	out := detect.Tuning{Timeout: timeout.Duration()}
	if t != nil {
		out.SpeechThreshold = time.Duration(t.SpeechThresholdMS) * time.Millisecond
		out.SpeechEndThreshold = time.Duration(t.SpeechEndThresholdMS) * time.Millisecond
		out.SilenceTimeout = time.Duration(t.SilenceTimeoutMS) * time.Millisecond
	}
	return out
}

// foundBy says who or what a verdict is. An announcement that does not say why is one of a call that cannot go through.
func foundBy(v detect.Verdict) found {
	switch v.Outcome {
	case detect.Human:
		return found{by: webhooks.ByHuman}
	case detect.Fax:
		return found{by: webhooks.ByFax}
	case detect.Beep:
		return found{by: webhooks.ByMachineEndBeep}
	case detect.Announced:
		f := found{by: webhooks.ByMachine, kind: webhooks.AnnouncementKind(v.Kind.String())}
		if f.kind == "" {
			f.kind = webhooks.AnnouncesUnreachable
		}
		return f
	case detect.Machine:
		return found{by: machineEnds[v.End]}
	case detect.Unknown:
	}
	return found{by: webhooks.ByUnknown}
}

var machineEnds = map[detect.End]webhooks.AnsweredBy{
	detect.NoEnd: webhooks.ByMachine, detect.EndBeep: webhooks.ByMachineEndBeep,
	detect.EndSilence: webhooks.ByMachineEndSilence, detect.EndOther: webhooks.ByMachineEndOther,
}
