package session

import (
	"net/http"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// emit numbers an event, folds it into the record and hands it to the outbox. It is the only place that numbers
// while the call lives. It may be called from any of the session's goroutines.
func (s *Session) emit(kind webhooks.EventType, data webhooks.EventData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emitLocked(kind, data)
}

// emitLocked is emit for a caller that holds mu, and returns what was told, if anything was. The outbox and the observer are told under the lock, so that they
// see the events of a call in their order.
func (s *Session) emitLocked(kind webhooks.EventType, data webhooks.EventData) (e webhooks.Event, told bool) {
	return s.emitOf(time.Now(), kind, data)
}

// emitOf is emitLocked for what has happened at a time that another edge says.
func (s *Session) emitOf(at time.Time, kind webhooks.EventType, data webhooks.EventData) (e webhooks.Event, told bool) {
	if s.gone {
		return webhooks.Event{}, false
	}
	e = webhooks.Event{
		ID: webhooks.NewEventID(), Type: kind, AccountID: s.account, CallID: s.id,
		ConversationID: s.call.ConversationID, OccurredAt: at.UTC(), Data: data,
	}
	if !s.over {
		s.seq++
		e.Sequence = s.seq
	}
	s.fold(e)
	s.calls.outbox.add(e)
	s.noteEvent(e)
	s.tellStatus(e, s.recordingStatus(data.RecordingID, kind))
	s.span.AddEvent(string(kind))
	if kind == webhooks.EventCallAnswered && s.dir() == In {
		s.calls.cfg.Observer.invited(In, http.StatusOK)
	}
	if s.calls.cfg.Observe != nil {
		s.calls.cfg.Observe(e)
	}
	return e, true
}

// recordingStatus is the status_url of the record instruction that an event is about; the zero value is nobody.
func (s *Session) recordingStatus(id webhooks.RecordingID, kind webhooks.EventType) webhooks.Target {
	if id == "" || !s.statusOf[id].wants(kind) {
		return webhooks.Target{}
	}
	return s.statusOf[id].to
}

// fold keeps the times of the record; the caller holds mu.
func (s *Session) fold(e webhooks.Event) {
	at := e.OccurredAt
	switch e.Type {
	case webhooks.EventCallRinging:
		if s.cdr.RingingAt == nil {
			s.cdr.RingingAt = &at
		}
	case webhooks.EventCallAnswered:
		s.cdr.AnsweredAt = &at
		s.call.AnsweredAt = &at
		s.call.Status = webhooks.StatusInProgress
	case webhooks.EventCallHeld:
		if *e.Data.Held {
			s.heldSince = at
		} else {
			s.heldFor += at.Sub(s.heldSince)
			s.heldSince = time.Time{}
		}
	case webhooks.EventCallEnded:
		s.over = true
	}
}

// emitInitiated opens the record.
func (s *Session) emitInitiated() {
	c := s.call
	s.emit(webhooks.EventCallInitiated, webhooks.EventData{
		From: c.From, To: c.To, Dialed: c.Dialed, Direction: c.Direction, ParentCallID: c.ParentCallID,
		ApplicationID: s.app.ID, NumberID: c.NumberID, TrunkID: c.TrunkID, CredentialID: c.CredentialID,
		AgentID: c.AgentID, CustomerID: c.CustomerID, ExternalID: c.ExternalID, SIPCallID: c.SIP.CallID, Source: c.SIP.Source,
	})
}

// emitEnded closes the record. It is called once, by finish.
func (s *Session) emitEnded(end ended, quality *webhooks.Quality) {
	if s.fenced() {
		return
	}
	info := end.cause.Info()
	s.mu.Lock()
	cdr := s.cdr
	cdr.EndedAt = time.Now().UTC()
	cdr.Cause, cdr.EndedBy = end.cause, end.by
	cdr.Media = quality
	cdr.Reason, cdr.ReasonZH = info.English+".", info.Chinese+"。"
	if cdr.EndedBy == "" {
		cdr.EndedBy = info.EndedBy
	}
	cdr.Duration = webhooks.SecondsOf(cdr.EndedAt.Sub(cdr.StartedAt))
	if !s.heldSince.IsZero() {
		s.heldFor += cdr.EndedAt.Sub(s.heldSince)
	}
	cdr.HoldTime = webhooks.SecondsOf(s.heldFor)
	if cdr.AnsweredAt != nil {
		cdr.Status, cdr.SIPCode = webhooks.StatusCompleted, 200
		cdr.RingTime = webhooks.SecondsOf(cdr.AnsweredAt.Sub(cdr.StartedAt))
		cdr.TalkTime = webhooks.SecondsOf(cdr.EndedAt.Sub(*cdr.AnsweredAt))
	} else {
		cdr.Status, cdr.SIPCode = info.Status, info.SIP
		cdr.RingTime = cdr.Duration
		if end.code != 0 {
			cdr.SIPCode = end.code
		}
	}
	s.call.Status = cdr.Status
	s.mu.Unlock()
	s.emit(webhooks.EventCallEnded, webhooks.EventData{CDR: &cdr})
	s.log.Info("call.ended",
		"direction", s.call.Direction, "status", cdr.Status, "cause", cdr.Cause, "ended_by", cdr.EndedBy, "sip_code", cdr.SIPCode,
		"duration_s", float64(cdr.Duration), "talk_s", float64(cdr.TalkTime), "detail", end.text)
}
