package queue

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// StoodOf tells how things stand with a call, as Renew does, to an edge that knows it in the queue of the id. Errors:
// ErrFenced, when it is in no queue.
func (s *Service) StoodOf(ctx context.Context, account webhooks.AccountID, call webhooks.CallID, knows webhooks.QueueID) (Stood, error) {
	w, err := db.Find[waiting](ctx, s.DB, auth.Account(string(account)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.call_id = ?", call).Where(live)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Stood{}, ErrFenced
	}
	if err != nil {
		return Stood{}, err
	}
	all, err := s.stood(ctx, []waiting{*w}, []Held{{ID: w.ID, Token: w.Token, QueueID: knows}}, s.now())
	switch {
	case err != nil:
		return Stood{}, err
	case len(all) == 0:
		return Stood{}, ErrFenced
	}
	return all[0], nil
}
