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
		leg.inThree(true)
	}
	o.data.PeerCallID = c.partner.who()
	c.partner.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: c.target.who()})
	c.target.emitLive(webhooks.EventCallBridged, webhooks.EventData{PeerCallID: c.partner.who()})
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
		leg.inThree(false)
	}
	m.room.Close()
	return true
}

// inThree tells the edge of a leg that is far away how many it speaks with.
func (s *Session) inThree(now bool) {
	if s.deputy != nil {
		s.deputy.say(talkWord{Three: &now})
	}
}

// drop hangs up a party of the talk that the leg is in.
func (s *Session) drop(o *acting, op *webhooks.OpDrop) error {
	o.data.PeerCallID = op.CallID
	if op.CallID == s.id && s.partner() != nil {
		o.done(nil) // before the end of its own call
		s.cancel(dropped)
		return nil
	}
	err := s.dropOne(op.CallID)
	if err == nil {
		return nil
	}
	for _, leg := range s.speakers() {
		if leg != nil && leg.deputy != nil { // there may be more on the other edge than the one it stands for
			o.elsewhere(func() error { return leg.deputy.inquire(webhooks.Action{Op: op}).err() })
			return errLater
		}
	}
	o.data.PeerCallID = ""
	return err
}

// dropped is the end of who is taken out of a talk.
var dropped = ended{cause: webhooks.CauseAPIHangup, by: webhooks.EndedByAPI, text: "dropped"}

// dropOne hangs up a leg of this edge that is in the talk.
func (s *Session) dropOne(id webhooks.CallID) error {
	for _, leg := range s.speakers() {
		switch {
		case leg == nil || leg.id != id || leg.deputy != nil:
		case leg.ctx.Err() != nil:
			return fmt.Errorf("call_id: the call %s has just ended", id)
		default:
			leg.cancel(dropped)
			return nil
		}
	}
	return fmt.Errorf("call_id: the call %s is not in the talk that this call is in", id)
}

// speakers are the parties of the talk that the leg is in, itself included; one that is not there yet is nil.
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
