package session

import (
	"errors"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// conference puts the leg into the room of a name until it leaves, is taken out, or the room ends. The duration that is
// told is the time in the room, of which some may have been spent waiting for it to begin.
func (s *Session) conference(i *webhooks.Conference) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	name := strings.TrimSpace(s.vars().Text(i.Name))
	if name == "" {
		return s.failed(errors.New("name is empty when it is filled in; a conference needs one"))
	}
	s.dropTyped()
	p, t := s.enterConference(name, i)
	if t != nil {
		return t
	}
	s.participant = p
	defer func() {
		p.leave(webhooks.Hangup, webhooks.ParticipantHungUp) // nothing, unless this goroutine panics
		if p.far != nil {
			p.far.link.close()
		}
		s.participant = nil
	}()
	t = s.takePart(p, name, i)
	s.hearChange() // what was meant for the leg in the room comes too late for it, and is not for what it does next
	duration := webhooks.SecondsOf(p.left.Sub(p.joined))
	t.ConferenceID, t.Duration, t.RecordingID = p.conferenceID(), &duration, p.recordingID
	return t
}

// notAdmitted is the outcome of a leg that could not enter the conference of an id, "" where there is none at all.
func (s *Session) notAdmitted(id webhooks.ConferenceID, err error) *webhooks.Trigger {
	if !errors.Is(err, errRoomFull) {
		t := s.failed(err)
		t.ConferenceID = id
		return t
	}
	none := webhooks.Seconds(0)
	return &webhooks.Trigger{Outcome: webhooks.Full, ConferenceID: id, Duration: &none}
}

// What a leg does with its room, wherever that is.

func (p *participant) conferenceID() webhooks.ConferenceID {
	if p.far != nil {
		return p.far.id
	}
	return p.room.id
}

func (p *participant) size() int {
	if p.far != nil {
		return p.far.size()
	}
	return p.room.size()
}

// leave takes the leg out of its room: see room.remove.
func (p *participant) leave(outcome webhooks.Outcome, reason string) {
	if p.far != nil {
		p.far.leave(outcome, reason)
		return
	}
	p.room.remove(p, outcome, reason)
}

// begin has the room begin, or the leg speak in it. A room of another edge does that by itself.
func (p *participant) begin() {
	if p.far == nil {
		p.room.begin(p)
	}
}

// conferred is the outcome of the instruction when the leg is out.
func (s *Session) conferred(p *participant) *webhooks.Trigger {
	if p.failure != nil {
		return s.failed(p.failure)
	}
	return &webhooks.Trigger{Outcome: p.outcome}
}

// takePart is a leg's stay in a room. When it returns the leg is out of it.
func (s *Session) takePart(p *participant, name string, i *webhooks.Conference) *webhooks.Trigger {
	defer func() { s.counts(time.Since(p.joined)) }()
	if i.TimeLimit > 0 {
		limit := time.AfterFunc(i.TimeLimit.Duration(), func() {
			s.noteTimer("time_limit")
			p.leave(webhooks.Left, webhooks.ParticipantLeft)
		})
		defer limit.Stop()
	}
	p.begin()
	if left := s.awaitBeginning(p, name, i.Wait); left {
		p.leave(webhooks.Left, webhooks.ParticipantLeft)
	}
	s.dropTyped()
	return s.confer(p)
}

// awaitBeginning runs the wait program until the room begins or the leg is taken out of it. True: the program leaves.
func (s *Session) awaitBeginning(p *participant, name string, sub *webhooks.Sub) (left bool) {
	if closed(p.called) {
		return false
	}
	return s.whileWaiting(waiting{sub: sub, called: p.called, standing: func() *webhooks.Waiting {
		return &webhooks.Waiting{
			ConferenceID: p.conferenceID(), Name: name,
			Waited: webhooks.SecondsOf(time.Since(p.joined)), Size: p.size(),
		}
	}})
}

// confer is the talk in the room.
func (s *Session) confer(p *participant) *webhooks.Trigger {
	s.news = p.gone
	defer func() { s.news = nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return s.conferred(p)
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokeAction:
			if closed(p.gone) && s.pending == nil { // by its key, or taken out while it waited
				return s.conferred(p)
			}
			p.leave(webhooks.Redirected, webhooks.ParticipantRedirected)
			return s.interrupted()
		case wokeEnd:
			p.leave(webhooks.Hangup, webhooks.ParticipantHungUp)
			return s.interrupted()
		}
	}
}

// pressed is what wait returns for a key: the one by which a leg leaves its conference is no one else's, and ends what
// runs.
func (s *Session) pressed(e media.Event) (wake, media.Event) {
	p := s.participant
	if p == nil || p.hangUpOn == 0 || p.hangUpOn != e.Digit {
		return wokeDigit, e
	}
	p.leave(webhooks.Left, webhooks.ParticipantLeft)
	return wokeAction, media.Event{}
}
