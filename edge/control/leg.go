package control

import (
	"context"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Legs is the part of Control that live changes need which name a leg of another edge. Errors are as in Control.
type Legs interface {
	// FindLeg says which edge carries a live call, with the way there. Code not_found: the account has no such live call.
	FindLeg(ctx context.Context, q LegQuery) (LegPlace, error)
}

// LegQuery is a call that is to do something for one of another edge: to supervise its talk, or to pick up what rings.
type LegQuery struct {
	EdgeID    webhooks.EdgeID    `json:"edge_id"` // that asks
	AccountID webhooks.AccountID `json:"account_id"`
	CallID    webhooks.CallID    `json:"call_id"` // for which it asks
	Leg       webhooks.CallID    `json:"leg"`     // that is wanted
}

// LegPlace is where it is: on the edge that has asked, or on another, with the way there.
type LegPlace struct {
	EdgeID webhooks.EdgeID `json:"edge_id"`
	Way
}

const pathFindLeg = pathPrefix + "legs/find"

var _ Legs = (*Client)(nil)

// FindLeg asks the control plane.
func (c *Client) FindLeg(ctx context.Context, q LegQuery) (LegPlace, error) {
	return ask[LegPlace](ctx, c, pathFindLeg, q, answerWithin)
}
