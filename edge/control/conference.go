package control

import (
	"context"
	"net/netip"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Conferences is the part of Control that the verb conference needs. Errors are as in Control.
//
// What becomes of a conference is not told here: it is in the events of its legs.
type Conferences interface {
	// PlaceConference says which edge has an account's conference of a name. When none has, it is the one that asks from now
	// on: of two who ask at once one is told of the other. Code invalid.
	PlaceConference(ctx context.Context, q ConferenceQuery) (ConferencePlace, error)

	// RedeemLink says what a ticket of PlaceConference, FindParked or FindLeg was given for. It is asked by the edge that the ticket
	// leads to, once: a ticket is good for one call. Code not_found: it is not good, or not any more.
	RedeemLink(ctx context.Context, t Ticket) (Link, error)
}

// ConferenceQuery is a leg that is to be in a conference.
type ConferenceQuery struct {
	Owner
	Name string `json:"name"`
	// ID is that of the conference if it is begun by this leg.
	ID webhooks.ConferenceID `json:"conference_id"`
	// Not is one that is not there any more, as the edge has said that had it; "" for none.
	Not webhooks.ConferenceID `json:"not,omitempty"`
}

// ConferencePlace is where a conference is: on the edge that has asked, or on another, with the way there.
type ConferencePlace struct {
	ConferenceID webhooks.ConferenceID `json:"conference_id"`
	EdgeID       webhooks.EdgeID       `json:"edge_id"`
	Way
}

// Way is how a leg of one edge is joined with what another carries: by a SIP call between the two. It is empty where there
// is no other edge.
type Way struct {
	SIP    netip.AddrPort `json:"sip,omitzero"` // where that edge is reached; invalid where nobody knows
	Ticket string         `json:"ticket,omitempty"`
}

// Ticket is one as an edge was shown it.
type Ticket struct {
	EdgeID webhooks.EdgeID `json:"edge_id"` // that asks
	ID     string          `json:"id"`
}

// What a link is for.
const (
	LinkConference = "conference"
	LinkPark       = "park"
	LinkLeg        = "leg"
)

// Link is what a ticket was given for.
type Link struct {
	Kind      string             `json:"kind"`
	AccountID webhooks.AccountID `json:"account_id"`
	CallID    webhooks.CallID    `json:"call_id"` // the leg, of the other edge
	EdgeID    webhooks.EdgeID    `json:"edge_id"` // that has it
	Name      string             `json:"name"`    // of the conference, the slot, or the id of the call that is wanted
}

const (
	pathPlaceConference = pathPrefix + "conferences/place"
	pathRedeemLink      = pathPrefix + "links/redeem"
)

var _ Conferences = (*Client)(nil)

// PlaceConference asks the control plane.
func (c *Client) PlaceConference(ctx context.Context, q ConferenceQuery) (ConferencePlace, error) {
	return ask[ConferencePlace](ctx, c, pathPlaceConference, q, answerWithin)
}

// RedeemLink asks the control plane.
func (c *Client) RedeemLink(ctx context.Context, t Ticket) (Link, error) {
	return ask[Link](ctx, c, pathRedeemLink, t, answerWithin)
}
