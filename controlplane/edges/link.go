package edges

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// edgeLink is a ticket with which one edge may call another. Who redeems it takes it out, so that it is good once: what was
// overheard on the wire opens nothing.
type edgeLink struct {
	bun.BaseModel `bun:"table:edge_links"`

	ID        string             `bun:"id,pk"`
	AccountID webhooks.AccountID `bun:"account_id"`
	Kind      string             `bun:"kind"`
	Name      string             `bun:"name"`
	CallID    webhooks.CallID    `bun:"call_id"`
	EdgeID    webhooks.EdgeID    `bun:"edge_id"`
	ToEdgeID  webhooks.EdgeID    `bun:"to_edge_id"`
	ExpiresAt time.Time          `bun:"expires_at"`
}

// ticketFor is how long a ticket is good: the edge that has it calls at once.
const ticketFor = 30 * time.Second

// way is how an edge reaches another for a link, with a ticket for it. An address that nobody knows is left empty.
func (s *Service) way(ctx context.Context, to webhooks.EdgeID, of control.Link) (control.Way, error) {
	at, err := s.sipOf(ctx, to)
	if err != nil {
		s.Log.Warn("links.edge_unknown", "edge_id", to, "error", err.Error())
		return control.Way{}, nil
	}
	ticket := edgeLink{
		ID: webhooks.NewID("link"), AccountID: of.AccountID, Kind: of.Kind, Name: of.Name, CallID: of.CallID, EdgeID: of.EdgeID,
		ToEdgeID: to, ExpiresAt: s.now().Add(ticketFor),
	}
	if _, err := s.DB.Write().NewInsert().Model(&ticket).Exec(ctx); err != nil {
		return control.Way{}, db.Check(err)
	}
	return control.Way{SIP: at, Ticket: ticket.ID}, nil
}

// RedeemLink implements control.Control.
func (s *Service) RedeemLink(ctx context.Context, t control.Ticket) (control.Link, error) {
	var of edgeLink
	err := s.DB.Write().NewDelete().Model(&of).Where("id = ?", t.ID).Where("to_edge_id = ?", t.EdgeID).
		Where("expires_at > ?", s.now()).Returning("*").Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return control.Link{}, &control.Error{Code: control.CodeNotFound, Message: "the ticket is not good, or not any more"}
	case err != nil:
		return control.Link{}, db.Check(err)
	}
	return control.Link{Kind: of.Kind, AccountID: of.AccountID, CallID: of.CallID, EdgeID: of.EdgeID, Name: of.Name}, nil
}

// sweepLinks forgets the tickets that nobody has redeemed.
func (s *Service) sweepLinks(ctx context.Context, now time.Time) error {
	_, err := s.DB.Write().NewDelete().Model((*edgeLink)(nil)).Where("expires_at <= ?", now).Exec(ctx)
	return db.Check(err)
}
