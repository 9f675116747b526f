package edges

import (
	"context"

	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/edge/control"
)

var _ control.Legs = (*Service)(nil)

// FindLeg implements control.Control.
func (s *Service) FindLeg(ctx context.Context, q control.LegQuery) (control.LegPlace, error) {
	none := &control.Error{Code: control.CodeNotFound, Message: "no call " + string(q.Leg) + " is live"}
	found, err := s.Calls.Get(ctx, q.Leg)
	switch {
	case err != nil && problem.From(err).Code == problem.CodeNotFound:
		return control.LegPlace{}, none
	case err != nil:
		return control.LegPlace{}, err
	case found.AccountID != string(q.AccountID) || found.EndedAt != nil:
		return control.LegPlace{}, none
	}
	place := control.LegPlace{EdgeID: found.EdgeID}
	if found.EdgeID != q.EdgeID {
		place.Way, err = s.way(ctx, found.EdgeID, control.Link{
			Kind: control.LinkLeg, AccountID: q.AccountID, CallID: q.CallID, EdgeID: q.EdgeID, Name: string(q.Leg),
		})
	}
	return place, err
}
