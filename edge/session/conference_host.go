package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
)

// farLeg is a leg of another edge in a room of this one. It takes part as every other does; what is told of it is said to its
// edge, which emits the events. The methods for that do nothing for a leg of this edge, which has none; they are called under
// the lock of the room and never wait.
type farLeg struct {
	room *room
	of   control.Link
	link *link
	work *sync.WaitGroup
	p    *participant // nil until it has joined
	here bool         // its edge has told that it is in
}

// hostLeg serves the INVITE of another edge whose leg is to be in a room of this one, until it is out.
func (c *Calls) hostLeg(ctx context.Context, d *sip.Dialog, of control.Link) {
	r := c.rooms.open(roomKey{of.AccountID, of.Name})
	if r == nil {
		c.refuse(d, 480)
		return
	}
	defer c.work.Done()
	var work sync.WaitGroup
	defer work.Wait()
	log := c.cfg.Logger.With("call_id", of.CallID, "account_id", of.AccountID)
	l, err := c.openLink(nil, d.RemoteAddr().Addr(), nil, work.Go, log)
	if err != nil {
		log.Warn("conference.link", "error", err.Error())
		c.refuse(d, 503, retryAfter)
		return
	}
	defer l.close()
	answer, agreed, err := l.answerOffer(d.Body())
	if err == nil {
		err = l.agree(agreed)
	}
	if err != nil {
		log.Warn("conference.link", "error", err.Error())
		c.refuse(d, 488)
		return
	}
	h := &farLeg{room: r, of: of, link: l, work: &work}
	defer h.leave(webhooks.Hangup, webhooks.ParticipantHungUp)
	l.follow(d)
	if err := l.answer(ctx, answer); err != nil {
		log.Info("conference.link", "error", err.Error())
		return
	}
	l.listen(c.ctx.Done(), h.take)
	if c.ctx.Err() == nil {
		return
	}
	// The edge ends, and its rooms with it.
	h.leave(webhooks.Ended, webhooks.ParticipantRoomsEnding)
	limit, stop := context.WithTimeout(context.Background(), byeTime)
	defer stop()
	l.listen(limit.Done(), h.take)
}

// open finds a room that a leg of another edge is to enter, and counts that in work. The caller calls work.Done; nil when
// there is none.
func (rs *rooms) open(key roomKey) *room {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.live[key]
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	r.calls.work.Add(1) // the room itself is counted until it is over, so that nobody's wait for work has ended
	return r
}

// leave takes the leg out of the room, if it is in.
func (h *farLeg) leave(outcome webhooks.Outcome, reason string) {
	if h.p != nil {
		h.room.remove(h.p, outcome, reason)
	}
}

// take is a word of the leg's edge.
func (h *farLeg) take(body []byte) {
	var w legWord
	if err := json.Unmarshal(body, &w); err != nil {
		h.link.log.Error("conference.word", "error", err.Error())
		h.link.end(true)
		return
	}
	switch {
	case w.Join != nil && h.p == nil:
		h.join(w.Join)
	case h.p == nil:
	case w.Here && !h.here:
		h.here = true
		h.room.begin(h.p)
	case w.Told != nil && w.Told.Event.CallID == h.of.CallID:
		h.told(w.Told)
	case w.Ask != nil:
		h.ask(w.Ask)
	}
}

// join lets the leg in.
func (h *farLeg) join(j *joining) {
	r := h.room
	p := &participant{
		line: h, id: h.of.CallID, leg: h.link.leg, lang: j.Language, log: h.link.log, joined: time.Now(),
		label: j.Label, startOnEnter: j.StartOnEnter, endOnExit: j.EndOnExit, beep: j.Beep, mode: j.Mode, whisperTo: j.WhisperTo,
		muted: j.Muted, record: j.Record,
		recordStatus: statusTarget{to: webhooks.Target{URL: j.RecordingStatusURL, Method: j.RecordingStatusMethod}, events: j.RecordingStatusEvents},
		called:       make(chan struct{}), gone: make(chan struct{}),
	}
	r.mu.Lock()
	before := r.find(p.id)
	r.mu.Unlock()
	if before != nil { // the end of its link is still under way
		r.remove(before, webhooks.Redirected, webhooks.ParticipantRedirected)
	}
	if err := r.admit(p, j.MaxParticipants); err != nil {
		h.say(roomWord{Refused: &refused{
			ConferenceID: r.id, Message: err.Error(), Full: errors.Is(err, errRoomFull), Over: errors.Is(err, errRoomOver),
		}})
		return
	}
	h.p = p
	h.work.Go(func() { // its edge hangs up when it has heard that the leg is out
		select {
		case <-p.gone:
		case <-h.link.over:
			return
		}
		limit := time.NewTimer(byeTime)
		defer limit.Stop()
		select {
		case <-limit.C:
			h.link.end(false)
		case <-h.link.over:
		}
	})
}

func (h *farLeg) say(w roomWord) {
	if h != nil {
		h.link.say(w)
	}
}

// tell has the leg's edge emit an event.
func (h *farLeg) tell(kind webhooks.EventType, data webhooks.EventData) {
	h.say(roomWord{Event: &roomEvent{Type: kind, Data: data, At: time.Now(), Report: h.room.status.wants(kind)}})
	if kind == webhooks.EventConferenceJoined && h.room.spool != nil {
		h.recorded(h.room.spool.RecordingID)
	}
}

func (h *farLeg) begun()                           { h.say(roomWord{Begun: true}) }
func (h *farLeg) size(n int)                       { h.say(roomWord{Size: n}) }
func (h *farLeg) recorded(id webhooks.RecordingID) { h.say(roomWord{RecordingID: id}) }

func (h *farLeg) out(p *participant) {
	h.say(roomWord{Out: &leaving{Outcome: p.outcome, RecordingID: p.recordingID}})
}

// told has the room's status URL told of an event that the leg's edge has emitted.
func (h *farLeg) told(t *told) {
	h.room.mu.Lock()
	defer h.room.mu.Unlock()
	if h.room.status.wants(t.Event.Type) {
		h.room.tellStatus(t.Event, &t.Call)
	}
}

// errAbsent: whom an op names is neither in the room nor on its edge.
var errAbsent = errors.New("call_id: the call is not live on the edge that has the conference")

// ask makes an op of a live change to the leg, and says what became of it.
func (h *farLeg) ask(a *asking) {
	r, p := h.room, h.p
	if a.Change.Op == nil {
		h.answer(a.Number, errors.New("there is nothing to do"))
		return
	}
	var err error
	switch op := a.Change.Op.(type) {
	case *webhooks.OpMute:
		err = r.mute(p, true)
	case *webhooks.OpUnmute:
		err = r.mute(p, false)
	case *webhooks.OpHold:
		err = r.hold(p)
	case *webhooks.OpUnhold:
		err = r.unhold(p)
	case *webhooks.OpDisconnect: // said before it takes the leg out: then nobody listens any more
		if err = r.close(p, func() { h.answer(a.Number, nil) }); err == nil {
			return
		}
	case *webhooks.OpDrop:
		if op.CallID == p.id {
			h.answer(a.Number, nil)
			r.remove(p, webhooks.Kicked, webhooks.ParticipantKicked)
			return
		}
		err = r.kick(op.CallID)
	case *webhooks.OpPlay:
		played := &webhooks.Play{URL: op.URL, MediaID: op.MediaID, Tone: op.Tone}
		h.announce(a.Number, op.Loop, op.URL, func(ctx context.Context) (*media.Prompt, error) {
			audio, err := r.calls.audio(ctx, r.account, p.lang, played)
			if err != nil {
				return nil, err
			}
			return louder(audio, op.VolumeDB), nil
		})
		return
	case *webhooks.OpSay:
		h.announce(a.Number, op.Loop, "", func(ctx context.Context) (*media.Prompt, error) {
			audio, err := r.calls.cfg.Prompts.Say(ctx, speech.Request{
				Text: op.Text, SSML: op.SSML, Voice: op.Voice, Language: op.Language, Provider: op.Provider,
			})
			if err != nil {
				return nil, err
			}
			return louder(audio, op.VolumeDB), nil
		})
		return
	default:
		err = h.supervise(op)
	}
	h.answer(a.Number, err)
}

// supervise has a supervisor's leg take part with this one.
func (h *farLeg) supervise(op webhooks.Op) error {
	v, ok := companionOf(op, h.p.id)
	if !ok {
		return fmt.Errorf("%s cannot be done in a conference", op.Op())
	}
	if found, err := h.room.change(v.by, v.mode, v.to); found {
		return err
	}
	if found, err := h.room.calls.sendToConference(h.room.account, h.room.name, v); found {
		return err
	}
	return errAbsent
}

func (h *farLeg) answer(number int, err error) {
	d := &made{Number: number, Absent: errors.Is(err, errAbsent)}
	if err != nil {
		d.Message = err.Error()
	}
	h.say(roomWord{Done: d})
}

// announce plays to the whole room what has to be fetched first.
func (h *farLeg) announce(number, loop int, url string, get func(context.Context) (*media.Prompt, error)) {
	p := h.p
	h.work.Go(func() {
		ctx, stop := context.WithTimeout(h.link.dialog.Context(), loadTime)
		defer stop()
		audio, failure := get(ctx)
		h.answer(number, p.announce(audio, failure, loop, url))
	})
}
