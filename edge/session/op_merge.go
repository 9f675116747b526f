package session

import (
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// merged is the talk of three that a consultation was made into: the one who consulted, its partner and the target, in one
// room. Their bonds stay as they are, so that everybody goes on with his program when it is over: when one of the three
// leaves, the two others are bridged again, whoever they are.
type merged struct {
	legs [3]*Session
	room *media.Room
}

// mergeAside lets all three speak.
func (s *Session) mergeAside(o *acting) error {
	c, err := s.asideSpoken()
	if err != nil {
		return err
	}
	if c.with.isOver() || c.held.isOver() {
		return errors.New("one of the two others has just hung up")
	}
	s.endHold()
	m := &merged{legs: [3]*Session{s, c.partner, c.target}}
	if m.room, err = s.calls.cfg.Media.NewRoom(media.RoomConfig{Near: s.leg}); err != nil {
		return fmt.Errorf("no audio for three can be set up: %w", err)
	}
	s.calls.work.Go(func() {
		for range m.room.Events() { // until it is closed; nothing is played in it or recorded
		}
	})
	c.hush()
	for _, leg := range m.legs {
		if err := m.room.Join(leg.leg, media.Seat{}); err != nil { // it is at its end, which the talk notices
			s.log.Debug("op.merge", "error", err.Error())
		}
		leg.merged.Store(m)
	}
	o.data.PeerCallID = c.partner.id
	c.partner.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: c.target.id})
	c.target.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: c.partner.id})
	return nil
}

// apart ends the talk of three, when there is one.
func (c *aside) apart() bool {
	m := c.s.merged.Load()
	if m == nil {
		return false
	}
	for _, leg := range m.legs {
		leg.merged.CompareAndSwap(m, nil)
	}
	m.room.Close()
	return true
}

// cancel ends the calls of all three.
func (m *merged) cancel(why ended) {
	for _, leg := range m.legs {
		leg.cancel(why)
	}
}

// drop hangs up a party of the talk that the leg is in.
func (s *Session) drop(o *acting, op *webhooks.OpDrop) error {
	var who *Session
	for _, leg := range s.speakers() {
		if leg != nil && leg.id == op.CallID {
			who = leg
		}
	}
	switch {
	case who == nil:
		return fmt.Errorf("call_id: the call %s is not in the talk that this call is in", op.CallID)
	case who.ctx.Err() != nil:
		return fmt.Errorf("call_id: the call %s has just ended", op.CallID)
	}
	o.data.PeerCallID = who.id
	if who == s {
		o.done(nil) // before the end of its own call
	}
	who.cancel(ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI, text: "dropped"})
	return nil
}

// speakers are the parties of the talk that the leg is in, itself included.
func (s *Session) speakers() []*Session {
	if m := s.merged.Load(); m != nil {
		return m.legs[:]
	}
	if c := s.aside; c != nil {
		return []*Session{s, c.partner, c.target}
	}
	if other := s.partner(); other != nil {
		return []*Session{s, other}
	}
	return nil
}
