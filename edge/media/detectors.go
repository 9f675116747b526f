package media

import (
	"time"

	"github.com/hookswitch/hookswitch/edge/media/detect"
)

// DetectID names one Detect of a leg; 0 is none.
type DetectID uint64

// detector is one Detect.
type detector struct {
	id       DetectID
	detector *detect.Detector
}

// Detect lets a detector hear what the leg receives, whatever is made of it: before the answer, beside a bridge and in a
// room, muted or not. Its verdicts come as Detected events, and it ends with the last of them. From here on the detector
// belongs to the leg; more than one may run. Where nothing is received it hears silence; before the first Set nothing.
// Detect returns 0 when the leg is closed.
func (l *Leg) Detect(d *detect.Detector) DetectID {
	id := DetectID(l.engine.ids.Add(1))
	if !l.send(command{op: opDetect, detector: detector{id: id, detector: d}}) {
		return 0
	}
	return id
}

// Answered tells the leg's detectors, those that run and those to come, that the call was answered: from the next frame on
// they judge who speaks.
func (l *Leg) Answered() {
	l.send(command{op: opAnswered})
}

// ExpireDetect answers what a detector has left open, as its own time-out would.
func (l *Leg) ExpireDetect(id DetectID) {
	l.send(command{op: opExpireDetect, id: uint64(id)})
}

// StopDetect ends a detector without a verdict; one may be in the events already.
func (l *Leg) StopDetect(id DetectID) {
	l.send(command{op: opStopDetect, id: uint64(id)})
}

func (l *leg) addDetector(d detector) {
	if l.answered {
		d.detector.Answered()
	}
	l.detectors = append(l.detectors, d)
}

func (l *leg) answer() {
	l.answered = true
	for _, d := range l.detectors {
		d.detector.Answered()
	}
}

// expireDetector tells the first verdict; a second one comes with the next frame.
func (l *leg) expireDetector(id DetectID, now time.Time) {
	for _, d := range l.detectors {
		if d.id == id {
			verdict, ok := d.detector.Expire()
			l.tellVerdict(id, verdict, ok, now)
		}
	}
}

func (l *leg) stopDetector(id DetectID) {
	left := l.detectors[:0]
	for _, d := range l.detectors {
		if d.id != id {
			left = append(left, d)
		}
	}
	clear(l.detectors[len(left):])
	l.detectors = left
}

// detect lets the detectors hear this frame. A second verdict at once comes with the next frame.
func (l *leg) detect(now time.Time) {
	if len(l.detectors) == 0 {
		return
	}
	var pcm pcmFrame
	l.params.Codec.Decode(pcm[:], l.heard[:])
	left := l.detectors[:0]
	for _, d := range l.detectors {
		verdict, ok := d.detector.Frame(pcm[:])
		l.tellVerdict(d.id, verdict, ok, now)
		if ok || d.detector.Open() != 0 {
			left = append(left, d)
		}
	}
	clear(l.detectors[len(left):])
	l.detectors = left
}

func (l *leg) tellVerdict(id DetectID, v detect.Verdict, ok bool, now time.Time) {
	if ok {
		l.told.emit(Event{Kind: Detected, At: now, Detect: id, Verdict: v})
	}
}
