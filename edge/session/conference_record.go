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

// record starts the recording when somebody who is there wants it. The caller holds the room's lock.
func (r *room) record() {
	if r.spool != nil {
		return
	}
	for _, p := range r.here {
		if p.record {
			r.startRecording(p)
			return
		}
	}
}

func (r *room) startRecording(p *participant) {
	s, id := r.voice(p), webhooks.NewRecordingID()
	p.record = false // whatever comes of it: it is not tried again for the same leg
	s.keepStatus(id, p.recordStatus)
	data := webhooks.EventData{Verb: "conference", RecordingID: id, Channels: 1, Format: "wav", Codec: codec.PCMU.Name(), ConferenceID: r.id}
	spool, err := openSpool(r.calls.cfg.SpoolDir, spoolNote{
		Owner:       control.Owner{EdgeID: r.calls.cfg.EdgeID, BootID: r.calls.cfg.BootID, Epoch: 1, AccountID: s.account, CallID: s.id},
		RecordingID: id, Verb: data.Verb, Codec: data.Codec, Channels: data.Channels, ConferenceID: r.id,
	})
	if err == nil {
		err = spool.save()
	}
	s.emit(webhooks.EventRecordingStarted, data)
	if err != nil {
		data.Code, data.Message = "spool", "the recording could not be written: the disk may be full"
		s.emit(webhooks.EventRecordingFailed, data)
		s.log.Error("recording.spool", "error", err.Error())
		return
	}
	spool.tell = s.emit
	spool.media = r.audio.Record(media.RecordConfig{Writer: spool})
	r.spool, r.recorder = spool, s
	r.calls.ship.add(spool)
	for _, p := range r.here {
		p.line.recorded(id)
	}
}

// keepStatus has a URL told of a recording.
func (s *Session) keepStatus(id webhooks.RecordingID, status statusTarget) {
	if status.url == "" {
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
