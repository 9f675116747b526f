package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A conference of a name is on one edge, that of the leg which began it: the control plane gives the name out. Legs of other
// edges take part in it over links (see farRoom and farLeg). While the control plane cannot be asked a conference is begun
// where its leg is, and the name taken as soon as that can be.

// maxEntries is how often a leg tries to enter a conference that always has just ended when it comes.
const maxEntries = 5

// enterConference puts the leg into the conference of a name, wherever that is. The trigger is set when it is not in it.
func (s *Session) enterConference(name string, i *webhooks.Conference) (*participant, *webhooks.Trigger) {
	var not webhooks.ConferenceID
	for entry := 1; ; entry++ {
		place, known, t := s.placeConference(name, not)
		if t != nil {
			return nil, t
		}
		if place.EdgeID == s.calls.cfg.EdgeID {
			return s.enterHere(name, place.ConferenceID, known, i)
		}
		p, t := s.enterElsewhere(name, place, i)
		switch {
		case p != nil, t != nil:
			return p, t
		case entry == maxEntries:
			return nil, s.failed(errors.New("the conference " + name + " is carried by another edge and has just ended there, again and again; try again later"))
		case entry > 1: // the first time it may be about to begin
			not = place.ConferenceID
		}
		if t := s.takeBreath(); t != nil {
			return nil, t
		}
	}
}

// placeConference asks where a conference is; known is false where nobody could say. Its name is this edge's where nobody has
// it, and where nobody can be asked.
func (s *Session) placeConference(name string, not webhooks.ConferenceID) (at control.ConferencePlace, known bool, t *webhooks.Trigger) {
	own := s.calls.ownPlace(roomKey{s.account, name}, s.id)
	here := control.ConferencePlace{ConferenceID: own.ID, EdgeID: own.EdgeID}
	if s.calls.rooms.has(roomKey{s.account, name}) {
		return here, true, nil
	}
	own.Not = not
	plane := s.calls.cfg.Control
	at, t, err := inquire(s, func(ctx context.Context) (control.ConferencePlace, error) { return plane.PlaceConference(ctx, own) }, nil)
	switch {
	case t != nil:
		return here, false, t
	case err != nil:
		s.log.Warn("control.unasked", "error", err.Error())
		return here, control.CodeOf(err) != "", nil
	}
	return at, true, nil
}

// ownPlace asks for the name of a conference for this edge.
func (c *Calls) ownPlace(key roomKey, leg webhooks.CallID) control.ConferenceQuery {
	return control.ConferenceQuery{
		Owner: control.Owner{EdgeID: c.cfg.EdgeID, BootID: c.cfg.BootID, Epoch: 1, AccountID: key.account, CallID: leg},
		Name:  key.name, ID: webhooks.NewConferenceID(),
	}
}

// enterHere puts the leg into a conference of this edge.
func (s *Session) enterHere(name string, id webhooks.ConferenceID, known bool, i *webhooks.Conference) (*participant, *webhooks.Trigger) {
	p, r, err := s.calls.enterRoom(s, name, id, i)
	switch {
	case r == nil:
		return nil, s.notAdmitted("", err)
	case err != nil:
		return nil, s.notAdmitted(r.id, err)
	case !known && r.id == id:
		s.calls.work.Go(r.takeName) // the session is counted in it
	}
	return p, nil
}

// takeNameEvery is the time between two attempts.
const takeNameEvery = 2 * time.Second

// takeName takes the name of a room that was begun while nobody could be asked for it.
func (r *room) takeName() {
	q := r.calls.ownPlace(r.roomKey, r.first.id)
	q.ID = r.id
	tick := time.NewTicker(takeNameEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.ended:
			return
		case <-tick.C:
		}
		ctx, done := context.WithTimeout(r.calls.ctx, inquiryTime)
		at, err := r.calls.cfg.Control.PlaceConference(ctx, q)
		done()
		switch {
		case err == nil && at.EdgeID != q.EdgeID:
			r.calls.cfg.Logger.Warn("conference.twice", "account_id", r.account, "conference_id", r.id, "edge_id", at.EdgeID)
			return
		case err == nil, control.CodeOf(err) != "":
			return
		}
	}
}

// has reports whether there is a room of this name.
func (rs *rooms) has(key roomKey) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.live[key] != nil
}
