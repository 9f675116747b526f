package session

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/webhooks"
)

func (s *Session) record(i *webhooks.Record) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	s.dropTyped()
	if i.Beep {
		if beep, ok := s.calls.cfg.Prompts.System("sys_beep", s.lang); ok {
			if t := s.playout(beep, 1, 0); t.Outcome != webhooks.Completed {
				t.Played = 0 // nothing was recorded yet
				return t
			}
		}
	}
	p, err := s.startRecording(media.RecordConfig{
		Channels: i.Channels, MaxLength: i.MaxLength.Duration(), Silence: i.Silence.Duration(), Trim: i.Trim,
	}, "record", s.statusTarget(webhooks.Target{URL: i.StatusURL, Method: i.StatusMethod}, i.StatusEvents))
	if err != nil {
		return s.failed(err)
	}
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	t := s.recorded(i, p)
	note := p.note()
	duration := webhooks.SecondsOf(time.Duration(note.Samples) * time.Second / media.SampleRate)
	if note.Failure != "" && t.Outcome != webhooks.Hangup && t.Outcome != webhooks.Redirected {
		return s.failed(errors.New(note.Failure))
	}
	if note.Empty {
		if t.Outcome == webhooks.Hangup || t.Outcome == webhooks.Redirected {
			return t
		}
		return &webhooks.Trigger{Outcome: webhooks.Empty, Key: t.Key}
	}
	t.RecordingID, t.Duration = p.RecordingID, &duration
	return t
}

// recorded waits for the end of a record instruction's recording.
func (s *Session) recorded(i *webhooks.Record, p *spool) *webhooks.Trigger {
	id, key := p.media, ""
	for {
		woke, e := s.wait(nil)
		switch {
		case woke == wokeDigit && key == "" && strings.IndexByte(i.FinishOnKey, e.Digit) >= 0:
			key = string(e.Digit)
			s.leg.StopRecord(id)
		case woke == wokeMedia && e.Kind == media.RecordDone && e.Record == id:
			switch {
			case key != "":
				return &webhooks.Trigger{Outcome: webhooks.Key, Key: key}
			case e.Reason == media.Silence:
				return &webhooks.Trigger{Outcome: webhooks.Silence}
			}
			return &webhooks.Trigger{Outcome: webhooks.Completed}
		case woke == wokeAction, woke == wokeEnd:
			s.leg.StopRecord(id)
			s.awaitRecord(id)
			return s.interrupted()
		}
	}
}

// awaitRecord waits for the end of a recording that was told to stop when nothing else is waited for any more.
func (s *Session) awaitRecord(id media.RecordID) {
	timeout := time.NewTimer(3 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case e, open := <-s.leg.Events():
			if !open {
				return
			}
			switch e.Kind {
			case media.DigitsSent:
				s.keysSent(e.Err)
			case media.RecordDone:
				s.recordDone(e)
				if e.Record == id {
					return
				}
			}
		case <-timeout.C:
			return
		}
	}
}

// startRecording opens a spool and has the leg record into it, for a verb ("" for none). status is told of it.
func (s *Session) startRecording(cfg media.RecordConfig, verb string, status statusTarget) (*spool, error) {
	return s.startRecordingFor(cfg, verb, status, "", 0)
}

// startRecordingFor is startRecording of a voicemail for a mailbox ("" for none), which is empty when it is shorter than
// least.
func (s *Session) startRecordingFor(cfg media.RecordConfig, verb string, status statusTarget, mailbox string, least time.Duration) (*spool, error) {
	id := webhooks.NewRecordingID()
	s.mu.Lock()
	codec := s.sdp.active.Codec.Name()
	if !s.sdp.set {
		codec = unagreed.Name()
	}
	if status.to.URL != "" {
		if s.statusOf == nil {
			s.statusOf = map[webhooks.RecordingID]statusTarget{}
		}
		status.usual = recordingEvents
		s.statusOf[id] = status
	}
	s.mu.Unlock()
	p, err := openSpool(s.calls.cfg.SpoolDir, spoolNote{
		Owner:       control.Owner{EdgeID: s.calls.cfg.EdgeID, BootID: s.calls.cfg.BootID, Epoch: 1, AccountID: s.account, CallID: s.id},
		RecordingID: id, Verb: verb, Codec: codec, Channels: cfg.Channels,
	})
	if err == nil {
		err = p.save()
	}
	data := webhooks.EventData{Verb: verb, RecordingID: id, Channels: cfg.Channels, Format: "wav", Codec: codec}
	started := data
	started.Mailbox = mailbox
	s.emit(webhooks.EventRecordingStarted, started)
	if err != nil {
		data.Code, data.Message = "spool", "the recording could not be written: the disk may be full"
		s.emit(webhooks.EventRecordingFailed, data)
		s.log.Error("recording.spool", "error", err.Error())
		return nil, errors.New(data.Message)
	}
	p.tell = s.emit
	cfg.Writer, p.trim, p.least = p, cfg.Trim, int64(least.Seconds()*media.SampleRate)
	p.media = s.leg.Record(cfg)
	s.recordings[id] = p
	s.calls.ship.add(p)
	return p, nil
}

// unagreed is what the leg records in before a codec is agreed on: see media.RecordConfig.
const unagreed = codec.PCMU

// recordDone takes note of the end of a recording.
func (s *Session) recordDone(e media.Event) {
	for _, p := range s.recordings {
		if p.media != e.Record || p.note().Ended {
			continue
		}
		failure := ""
		if e.Err != nil {
			failure = fmt.Sprintf("the recording stopped: %v", e.Err)
		}
		samples := p.size.Load() / int64(p.Channels)
		if p.trim {
			samples -= int64(e.Trailing.Seconds() * media.SampleRate)
		}
		empty := samples <= 0 || samples < p.least
		if err := p.end(max(0, samples), failure, empty); err != nil {
			s.log.Error("recording.spool", "recording_id", p.RecordingID, "error", err.Error())
		}
		switch {
		case failure != "":
			s.emit(webhooks.EventRecordingFailed, webhooks.EventData{Verb: p.Verb, RecordingID: p.RecordingID, Code: "write", Message: failure})
		case empty:
			s.emit(webhooks.EventRecordingFailed, webhooks.EventData{Verb: p.Verb, RecordingID: p.RecordingID, Code: "empty", Message: "nothing was said"})
		}
		s.calls.ship.nudge()
	}
}

// stopRecordings ends what still records when the call is over, and lets the files go once they are shipped. The
// leg's channel closes when the last octet of everything has been written.
func (s *Session) stopRecordings() {
	if s.leg != nil {
		s.leg.Close()
		for e := range s.leg.Events() {
			if e.Kind == media.RecordDone {
				s.recordDone(e)
			}
		}
	}
	for _, p := range s.recordings {
		p.release.Store(true)
	}
	s.calls.ship.nudge()
}

// ownRecording is a recording of this call, to be played back to it.
func (s *Session) ownRecording(id webhooks.RecordingID) (*media.Prompt, error) {
	p, ok := s.recordings[id]
	if !ok {
		return nil, fmt.Errorf("recording %s is not of this call", id)
	}
	return p.prompt(s.calls.cfg.Prompts.G711)
}
