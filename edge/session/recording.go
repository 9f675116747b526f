package session

import (
	"errors"
	"slices"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The recording of a call that goes on beside its program: what the recording instruction, Twilio's Start and Stop, and the
// op of a live change do. There is one at a time; those of record and dial are others, and do not mind it.

// recordingOp starts, pauses, resumes or stops it. What is started twice, or stopped when nothing runs, is as if it had not
// been said. It returns the recording that is meant, "" for none. It does not answer the call: before an answer silence is
// recorded.
func (s *Session) recordingOp(i *webhooks.Recording) (webhooks.RecordingID, error) {
	p := s.beside
	if p != nil && p.note().Ended { // by itself: the disk was full
		p, s.beside = nil, nil
	}
	switch {
	case i.Op == "start" && p == nil:
		return s.startBeside(i)
	case p == nil:
		return "", nil
	case i.Op == "pause", i.Op == "resume":
		s.leg.PauseRecord(p.media, i.Op == "pause")
	case i.Op == "stop":
		s.beside = nil
		s.leg.StopRecord(p.media) // its end is told when its last octet is written
	}
	return p.RecordingID, nil
}

func (s *Session) startBeside(i *webhooks.Recording) (webhooks.RecordingID, error) {
	if s.leg == nil {
		return "", errors.New("there is nothing to record yet")
	}
	p, err := s.startRecording(media.RecordConfig{Channels: i.Channels}, "recording", s.statusTarget(webhooks.Target{URL: i.StatusURL, Method: i.StatusMethod}, i.StatusEvents))
	if err != nil {
		return "", err
	}
	s.beside = p
	return p.RecordingID, nil
}

// recording performs the instruction. It has no outcomes: what cannot be recorded is told by recording.failed.
func (s *Session) recording(i *webhooks.Recording) {
	if _, err := s.recordingOp(i); err != nil {
		s.log.Info("instruction.failed", "error", err.Error())
	}
}

// statusTarget is a URL that is told events, and which; the zero value is nobody.
type statusTarget struct {
	to     webhooks.Target // where it is, and how it is asked
	events []string        // nil: what is usual for the kind of URL
	usual  []webhooks.EventType
	told   int // events so far
}

// statusTarget reads a status_url, its method and its status_events. It is read now: when it is needed, the document that named it may
// have been replaced.
func (s *Session) statusTarget(to webhooks.Target, events []string) statusTarget {
	if to.URL == "" {
		return statusTarget{}
	}
	to.URL = s.resolve(s.vars().URL(to.URL))
	return statusTarget{to: to, events: events}
}

func (t statusTarget) wants(kind webhooks.EventType) bool {
	if t.to.URL == "" {
		return false
	}
	if t.events == nil {
		return slices.Contains(t.usual, kind)
	}
	return slices.Contains(t.events, string(kind))
}

// What is told where no status_events are named.
var (
	recordingEvents = []webhooks.EventType{webhooks.EventRecordingCompleted, webhooks.EventRecordingFailed}
	legEvents       = []webhooks.EventType{
		webhooks.EventCallInitiated, webhooks.EventCallRinging, webhooks.EventCallAnswered, webhooks.EventCallEnded,
	}
	detectionEvents = []webhooks.EventType{webhooks.EventCallDetected}
)

// watch has a URL told events of this leg. An empty one is nobody.
func (s *Session) watch(t statusTarget, usual []webhooks.EventType) {
	if t.to.URL == "" {
		return
	}
	t.usual = usual
	s.mu.Lock()
	s.watchers = append(s.watchers, t)
	s.mu.Unlock()
}
