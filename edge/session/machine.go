package session

import (
	"context"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/detect"
	"github.com/hookswitch/hookswitch/webhooks"
)

// detection is the machine detection of a leg that we call: with the first early media it listens for announcements, from
// the answer on for whom or what has answered. Up to the answer the goroutine hear owns it, then the leg's.
//
// Why a party of which nothing is known is taken for a person: who waits for the caller to speak first would otherwise be
// hung up on.
type detection struct {
	*webhooks.MachineDetection
	id    media.DetectID
	began time.Time // the answer
	spent bool      // something was found before the answer, which says nothing of who answers
	early webhooks.AnnouncementKind

	stop context.CancelFunc // of hear
	done chan struct{}      // closed when hear has ended; nil when it never began
}

// detectMachine prepares the machine detection of a leg that is to be called; nil asks for none. statusBase resolves its
// status URL.
func (s *Session) detectMachine(m *webhooks.MachineDetection, status statusTarget) {
	if m == nil {
		return
	}
	s.detection = &detection{MachineDetection: m}
	s.watch(status, detectionEvents)
}

// begin starts to listen, once.
func (d *detection) begin(s *Session) {
	if d.id != 0 {
		return
	}
	wants := detect.WantMachine | detect.WantAnnouncement | detect.WantFax
	if d.Mode == "message_end" {
		wants |= detect.WantMessageEnd
	}
	d.id = s.leg.Detect(detect.New(tuningOf(d.Tuning, d.Timeout), wants, s.calls.cfg.Announcements))
}

// hearEarly listens to what comes before the answer. An announcement ends the attempt, by cancel, unless the detection is
// told only beside the call: then the network's own end of it is waited for.
func (d *detection) hearEarly(s *Session, cancel context.CancelCauseFunc) {
	if d == nil || d.done != nil {
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	d.stop, d.done = stop, make(chan struct{})
	d.begin(s)
	events := s.leg.Events()
	s.spawn(func() {
		defer close(d.done)
		for {
			select {
			case e, open := <-events:
				if !open {
					return
				}
				if e.Kind != media.Detected || e.Detect != d.id {
					continue
				}
				d.spent = true
				if e.Verdict.Outcome == detect.Announced {
					d.early = foundBy(e.Verdict).kind
					s.log.Info("call.announced", "kind", d.early, "reason", e.Verdict.Reason.String())
					if !d.Async {
						cancel(announced(d.early))
					}
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

// announced is the end of a call whose network has said why it does not go through.
func announced(kind webhooks.AnnouncementKind) ended {
	e := ended{cause: webhooks.CauseUnreachable, text: "the network announces: " + string(kind)}
	switch kind {
	case webhooks.AnnouncesBusy:
		e.cause = webhooks.CauseBusy
	case webhooks.AnnouncesNoAnswer:
		e.cause = webhooks.CauseNoAnswer
	case webhooks.AnnouncesInvalid:
		e.cause = webhooks.CauseNotFound
	}
	return e
}

// endEarly returns when nobody listens before the answer any more.
func (d *detection) endEarly() {
	if d == nil || d.done == nil {
		return
	}
	d.stop()
	<-d.done
}

// judge is the detection from the answer on. One that is async goes on beside the call: see noticedDetection. Else it
// waits for the verdict. True: a person may have answered, or something is to be done that does not wait for it.
func (s *Session) judge() bool {
	d := s.detection
	if d == nil {
		return true
	}
	d.began = time.Now()
	if d.spent {
		s.leg.StopDetect(d.id)
		d.id = 0
	}
	d.begin(s)
	if d.Async {
		return true
	}
	timeout := time.NewTimer(d.Timeout.Duration() + judgeSlack)
	defer timeout.Stop()
	for {
		woke, e := s.wait(timeout.C)
		switch woke {
		case wokeMedia:
			if s.detection == nil { // it was told on the way here
				return s.persons()
			}
		case wokeTimer:
			s.foundOut(found{by: webhooks.ByUnknown})
			return true
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction:
			s.stopDetection()
			return true
		case wokeEnd:
			return false
		}
	}
}

// judgeSlack is how much longer than the detector itself its owner waits, for a leg that hears nothing at all.
const judgeSlack = time.Second

// persons reports whether what was found may be a person.
func (s *Session) persons() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call.AnsweredBy == webhooks.ByHuman || s.call.AnsweredBy == webhooks.ByUnknown
}

// noticedDetection takes a verdict of the leg's machine detection.
func (s *Session) noticedDetection(e media.Event) {
	d := s.detection
	if d == nil || e.Detect != d.id {
		return
	}
	v := e.Verdict
	if v.Outcome == detect.Machine && v.End == detect.NoEnd && d.Mode == "message_end" {
		return // the end of its greeting is still to come
	}
	f := foundBy(v)
	s.log.Info("call.detected", "outcome", v.Outcome.String(), "reason", v.Reason.String(), "answered_by", f.by)
	s.foundOut(f)
}

// foundOut ends the detection with its result.
func (s *Session) foundOut(f found) {
	f.took = webhooks.SecondsOf(time.Since(s.detection.began))
	s.stopDetection()
	s.tellFound(f)
}

// stopDetection ends the detection without a result.
func (s *Session) stopDetection() {
	if s.detection == nil {
		return
	}
	s.leg.StopDetect(s.detection.id)
	s.detection = nil
}

// answeredBy is what a detection has found of this leg; "" and nil where there was none.
func (s *Session) answeredBy() (webhooks.AnsweredBy, *webhooks.Seconds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call.AnsweredBy, s.call.DetectionDuration
}

// ended says what has become of a leg that could not be connected: whether it was a machine, and what was announced before
// an answer. The leg must be over.
func (d *detection) ended(s *Session) (machine bool, announcement webhooks.AnnouncementKind) {
	if d == nil {
		return false, ""
	}
	if d.early != "" && !s.answered() {
		return !d.Async, d.early
	}
	by, _ := s.answeredBy()
	return !d.Async && by != "" && !s.persons(), ""
}

// machineTrigger is the outcome of a dial whose party was a machine.
func (p *party) machineTrigger() *webhooks.Trigger {
	t := &webhooks.Trigger{
		Outcome: webhooks.Machine, CallID: p.leg.id, Target: p.target.Name(), AnsweredAt: p.leg.answeredAt(), Announcement: p.announcement,
	}
	t.AnsweredBy, t.DetectionDuration = p.leg.answeredBy()
	if t.AnsweredAt != nil {
		t.SIPCode = 200
	} else {
		t.Cause = p.end.cause
	}
	return t
}
