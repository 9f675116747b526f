package session

import (
	"fmt"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A room is recorded once, whole: from its beginning, or from when somebody comes whose instruction asks for it. The
// recording belongs to the leg that asked, whose events tell of it, also when that leg has long left: what was recorded
// is the room's. Where a leg of another edge has asked it belongs to one of this edge, which has its file: see room.voice.

// record starts the recording when somebody who is there wants it. The disk is waited for without the room's lock: who
// has asked may have left by then, and it is another's turn.
func (r *room) record() {
	for {
		p, s := r.wanting()
		if p == nil {
			return
		}
		note := spoolNote{
			Owner:       control.Owner{EdgeID: r.calls.cfg.EdgeID, BootID: r.calls.cfg.BootID, Epoch: 1, AccountID: s.account, CallID: s.id},
			RecordingID: webhooks.NewRecordingID(), Verb: "conference", Codec: codec.PCMU.Name(), Channels: 1, ConferenceID: r.id,
		}
		spool, err := openSpool(r.calls.cfg.SpoolDir, note)
		if err == nil {
			err = spool.save()
		}
		told := r.recordInto(p, s, note, spool, err)
		if spool != nil && (err != nil || !told) {
			err = spool.remove()
			s.log.Info("recording.dropped", "recording_id", note.RecordingID, "error", errorText(err))
		}
		if told {
			return
		}
	}
}

// wanting is who wants the room recorded and the leg that the recording is to belong to; nil when that is nobody, or it is
// done already.
func (r *room) wanting() (*participant, *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spool != nil || r.opening {
		return nil, nil
	}
	for _, p := range r.here {
		if p.record {
			p.record = false // whatever comes of it: it is not tried again for the same leg
			r.opening = true
			return p, r.voice(p)
		}
	}
	return nil, nil
}

// recordInto starts the recording into a spool, or tells that there is none because of failure. False: it is not to be,
// because who wanted it has left.
func (r *room) recordInto(p *participant, s *Session, note spoolNote, spool *spool, failure error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening = false
	switch {
	case p.out():
		return false
	case r.voice(p) != s:
		p.record = true
		return false
	}
	s.keepStatus(note.RecordingID, p.recordStatus)
	data := webhooks.EventData{
		Verb: note.Verb, RecordingID: note.RecordingID, Channels: note.Channels, Format: "wav", Codec: note.Codec, ConferenceID: r.id,
	}
	s.emit(webhooks.EventRecordingStarted, data)
	if failure != nil {
		data.Code, data.Message = "spool", "the recording could not be written: the disk may be full"
		s.emit(webhooks.EventRecordingFailed, data)
		s.log.Error("recording.spool", "error", failure.Error())
		return true
	}
	spool.tell = s.emit
	spool.media = r.audio.Record(media.RecordConfig{Writer: spool})
	r.spool, r.recorder = spool, s
	r.calls.ship.add(spool)
	for _, p := range r.here {
		p.line.recorded(note.RecordingID)
	}
	return true
}

// keepStatus has a URL told of a recording.
func (s *Session) keepStatus(id webhooks.RecordingID, status statusTarget) {
	if status.to.URL == "" {
		return
	}
	status.usual = recordingEvents
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.statusOf == nil {
		s.statusOf = map[webhooks.RecordingID]statusTarget{}
	}
	s.statusOf[id] = status
}

// recordDone takes note of the end of the room's recording, and lets its file go once it is shipped.
func (r *room) recordDone(e media.Event) {
	r.mu.Lock()
	spool, s := r.spool, r.recorder
	r.mu.Unlock()
	if spool == nil || spool.media != e.Record {
		return
	}
	failure := ""
	if e.Err != nil {
		failure = fmt.Sprintf("the recording stopped: %v", e.Err)
	}
	samples := spool.size.Load()
	if err := spool.end(samples, failure, samples == 0); err != nil {
		s.log.Error("recording.spool", "recording_id", spool.RecordingID, "error", err.Error())
	}
	data := webhooks.EventData{Verb: spool.Verb, RecordingID: spool.RecordingID, ConferenceID: r.id}
	switch {
	case failure != "":
		data.Code, data.Message = "write", failure
		s.emit(webhooks.EventRecordingFailed, data)
	case samples == 0:
		data.Code, data.Message = "empty", "nothing was said"
		s.emit(webhooks.EventRecordingFailed, data)
	}
	spool.release.Store(true)
	r.calls.ship.nudge()
}
