package session

import (
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The ops of a live change that concern a leg in a conference. They act beside whatever the leg hears, before the room
// begins as well as in it:
//
//   - mute: nobody in the room hears the leg. hold: it hears its prompt and nobody hears it.
//   - listen, whisper, barge: a supervisor's leg, already in the room or to be put into it, takes part in that way.
//     Said of the leg itself they change how it takes part.
//   - drop: the instruction of the leg that is named ends with kicked, and its program goes on.
//   - disconnect: the conference ends for everybody.
//   - play and say: to the leg, or with to both to the whole room.

var (
	errNoConference = errors.New("the call is in no conference")
	errLeftRoom     = errors.New("the call has just left the conference")
)

// conferenceOp makes such a change, and puts into data what its event tells beside the op. It never waits as verbs wait,
// for one of those may be waiting.
func (s *Session) conferenceOp(op webhooks.Op, data *webhooks.EventData) error {
	p := s.participant
	if p == nil {
		return errNoConference
	}
	if drop, ok := op.(*webhooks.OpDrop); ok {
		return p.room.kick(drop.CallID)
	}
	v, ok := companionOf(op, s.id)
	if !ok {
		return fmt.Errorf("%s cannot be done in a conference", op.Op())
	}
	data.PeerCallID = v.by
	if v.target != nil {
		return errNoTarget
	}
	if found, err := p.room.change(v.by, v.mode, v.to); found {
		return err
	}
	if found, err := s.calls.sendToConference(s.account, p.room.name, v); found {
		return err
	}
	return fmt.Errorf("call_id: no call %s is live on the edge that has the conference", v.by)
}

var errNoTarget = errors.New("by: nobody can be called into a conference in this way; start a call to them first and give its call_id")

// companion is how a supervisor's leg is to take part beside another.
type companion struct {
	target *webhooks.DialTarget
	by     webhooks.CallID
	mode   string
	to     webhooks.CallID // whom it whispers to
}

// companionOf reads the ops that let a supervisor take part with a leg.
func companionOf(op webhooks.Op, leg webhooks.CallID) (v companion, ok bool) {
	switch op := op.(type) {
	case *webhooks.OpListen:
		return companion{target: op.By, by: op.CallID, mode: "listen"}, true
	case *webhooks.OpWhisper:
		return companion{target: op.By, by: op.CallID, mode: "whisper", to: leg}, true
	case *webhooks.OpBarge:
		return companion{target: op.By, by: op.CallID, mode: "talk"}, true
	}
	return companion{}, false
}

// mute takes a leg's voice out of the room, or puts it back. Doing it twice is as once.
func (r *room) mute(p *participant, muted bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.out():
		return errLeftRoom
	case p.muted == muted:
		return nil
	}
	p.muted = muted
	r.reseat(p)
	kind := webhooks.EventConferenceUnmuted
	if muted {
		kind = webhooks.EventConferenceMuted
	}
	r.tell(p, kind, r.about(p))
	p.touch()
	return nil
}

// hold cuts a leg off from the room, before it is known what it hears meanwhile: that may have to be fetched.
func (r *room) hold(p *participant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.out():
		return errLeftRoom
	case p.held:
		return nil
	}
	p.held, p.seated = true, false
	r.audio.Leave(p.leg)
	r.tell(p, webhooks.EventConferenceHeld, r.about(p))
	p.touch()
	return nil
}

// holdMusic plays to a leg that is held, instead of what it has heard so far.
func (p *participant) holdMusic(audio []*media.Prompt) {
	if p.far != nil {
		p.far.mu.Lock()
		defer p.far.mu.Unlock()
	} else {
		p.room.mu.Lock()
		defer p.room.mu.Unlock()
	}
	if p.out() || !p.held {
		return
	}
	p.holdAudio = audio
	if closed(p.called) { // before the room begins the wait program is heard
		p.playHold()
	}
}

// playHold plays it; the caller holds the lock. A leg of another edge hears it from there.
func (p *participant) playHold() {
	if p.line != nil {
		return
	}
	p.leg.StopPlay(p.hold)
	p.hold = 0
	if len(p.holdAudio) > 0 {
		p.hold = p.leg.Play(media.PlayConfig{Prompts: p.holdAudio, Loop: 0})
	}
}

func (r *room) unhold(p *participant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.out():
		return errLeftRoom
	case !p.held:
		return nil
	}
	p.held = false
	p.leg.StopPlay(p.hold)
	p.hold, p.holdAudio = 0, nil
	if !r.begun.IsZero() {
		r.seat(p)
	}
	r.tell(p, webhooks.EventConferenceUnheld, r.about(p))
	p.touch()
	return nil
}

// sendToConference has a supervisor's leg of this edge leave what it does for a conference; found is false where it is not
// of this edge.
func (c *Calls) sendToConference(account webhooks.AccountID, name string, v companion) (found bool, err error) {
	other := c.find(v.by)
	if other == nil || other.account != account {
		return false, nil
	}
	i := new(webhooks.Conference)
	webhooks.Defaults(i)
	i.Name, i.Mode, i.WhisperTo, i.StartOnEnter = name, v.mode, v.to, false
	change := webhooks.Action{Program: &webhooks.Program{Instructions: []webhooks.Instruction{i}}}
	err = other.take(control.Action{ActionID: webhooks.NewActionID(), AccountID: account, CallID: v.by, Change: change})
	if refused, ok := errors.AsType[*control.Error](err); ok {
		return true, fmt.Errorf("call %s: %s", v.by, refused.Message)
	}
	return true, err
}

// change has a leg of the room take part otherwise; found is false where it is not in it.
func (r *room) change(id webhooks.CallID, mode string, to webhooks.CallID) (found bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.find(id)
	switch {
	case p == nil:
		return false, nil
	case to == id:
		return true, errors.New("call_id: a leg cannot whisper to itself")
	case p.mode == mode && p.whisperTo == to:
		return true, nil
	}
	p.mode, p.whisperTo = mode, to
	r.reseat(p)
	r.tell(p, webhooks.EventConferenceModified, r.about(p))
	p.touch()
	return true, nil
}

// kick takes a leg out.
func (r *room) kick(id webhooks.CallID) error {
	r.mu.Lock()
	p := r.find(id)
	r.mu.Unlock()
	if p == nil {
		return fmt.Errorf("call_id: the call %s is not in the conference", id)
	}
	r.remove(p, webhooks.Kicked, webhooks.ParticipantKicked)
	return nil
}

// announce plays to the whole room. failure is why there is nothing to play.
func (p *participant) announce(audio *media.Prompt, failure error, loop int, url string) error {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.out() {
		return errLeftRoom
	}
	if failure = plain(failure); failure != nil {
		r.tell(p, webhooks.EventConferenceAnnouncementFailed, webhooks.EventData{
			ConferenceID: r.id, Name: r.name, URL: url, Message: failure.Error(),
		})
		return failure
	}
	r.noticeOver() // by the one that takes its place
	id := r.audio.Play(media.PlayConfig{Prompts: []*media.Prompt{audio}, Loop: loop})
	r.notice = announcement{id: id, by: p, url: url}
	return nil
}

// announced takes note that something the room has played is over.
func (r *room) announced(e media.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notice.id == e.Play {
		r.noticeOver()
	}
}

// noticeOver tells that an announcement is over: as an event of who asked for it, or of another who is there.
func (r *room) noticeOver() {
	n := r.notice
	r.notice = announcement{}
	if n.id == 0 || len(r.here) == 0 {
		return
	}
	if n.by.out() {
		n.by = r.here[0]
	}
	r.tell(n.by, webhooks.EventConferenceAnnouncementEnded, webhooks.EventData{ConferenceID: r.id, Name: r.name, URL: n.url})
}
