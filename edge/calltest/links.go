package calltest

import (
	"context"
	"fmt"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// scriptedLinks is the control plane's side of conferences and of what leads from one edge to another, as the contract has it:
// one edge has a name, and a ticket is good once, for one edge. The plane's mu guards it.
type scriptedLinks struct {
	places  map[string]control.ConferencePlace // by name
	gone    webhooks.EdgeID
	tickets map[string]ticket
	given   int
}

// ticket is one that was given and not redeemed yet.
type ticket struct {
	to webhooks.EdgeID
	of control.Link
}

// way gives a ticket for a link to an edge. The caller holds mu.
func (p *Plane) way(to webhooks.EdgeID, of control.Link) control.Way {
	l := &p.links
	l.given++
	id := fmt.Sprintf("link_%026d", l.given)
	if l.tickets == nil {
		l.tickets = map[string]ticket{}
	}
	l.tickets[id] = ticket{to, of}
	return control.Way{SIP: p.addresses[to], Ticket: id}
}

// PlaceConference implements control.Control.
func (p *Plane) PlaceConference(ctx context.Context, q control.ConferenceQuery) (control.ConferencePlace, error) {
	if err := p.asked(ctx); err != nil {
		return control.ConferencePlace{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &p.links
	if l.places == nil {
		l.places = map[string]control.ConferencePlace{}
	}
	at, taken := l.places[q.Name]
	if !taken || at.EdgeID == q.EdgeID || at.ConferenceID == q.Not || at.EdgeID == l.gone || p.hasEnded(at.ConferenceID) {
		at = control.ConferencePlace{ConferenceID: q.ID, EdgeID: q.EdgeID}
		l.places[q.Name] = at
		return at, nil
	}
	at.Way = p.way(at.EdgeID, control.Link{
		Kind: control.LinkConference, AccountID: q.AccountID, CallID: q.CallID, EdgeID: q.EdgeID, Name: q.Name,
	})
	return at, nil
}

// FindLeg implements control.Control.
func (p *Plane) FindLeg(ctx context.Context, q control.LegQuery) (control.LegPlace, error) {
	if err := p.asked(ctx); err != nil {
		return control.LegPlace{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, known := p.carried[q.Leg]
	for _, e := range p.calls[q.Leg] {
		known = known && e.Type != webhooks.EventCallEnded
	}
	if !known {
		return control.LegPlace{}, notFound("live call " + string(q.Leg))
	}
	place := control.LegPlace{EdgeID: at}
	if at != q.EdgeID {
		place.Way = p.way(at, control.Link{Kind: control.LinkLeg, AccountID: q.AccountID, CallID: q.CallID, EdgeID: q.EdgeID, Name: string(q.Leg)})
	}
	return place, nil
}

// hasEnded reports whether the end of a conference was published. The caller holds mu.
func (p *Plane) hasEnded(id webhooks.ConferenceID) bool {
	for _, e := range p.late {
		if e.Type == webhooks.EventConferenceEnded && e.Data.ConferenceID == id {
			return true
		}
	}
	for _, events := range p.calls {
		for _, e := range events {
			if e.Type == webhooks.EventConferenceEnded && e.Data.ConferenceID == id {
				return true
			}
		}
	}
	return false
}

// Gone says that an edge is not heard of any more.
func (p *Plane) Gone(id webhooks.EdgeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links.gone = id
}

// PlaceAt says that an edge has the conference of a name.
func (p *Plane) PlaceAt(name string, at control.ConferencePlace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links.places == nil {
		p.links.places = map[string]control.ConferencePlace{}
	}
	p.links.places[name] = at
}

// PlaceOf returns which edge has the conference of a name.
func (p *Plane) PlaceOf(name string) control.ConferencePlace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links.places[name]
}

// RedeemLink implements control.Control.
func (p *Plane) RedeemLink(ctx context.Context, t control.Ticket) (control.Link, error) {
	if err := p.asked(ctx); err != nil {
		return control.Link{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	has, ok := p.links.tickets[t.ID]
	if !ok || has.to != t.EdgeID {
		return control.Link{}, notFound("ticket " + t.ID)
	}
	delete(p.links.tickets, t.ID)
	return has.of, nil
}

// Tickets returns how many tickets were given, and how many of them nobody has redeemed.
func (p *Plane) Tickets() (given, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links.given, len(p.links.tickets)
}
