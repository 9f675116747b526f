package call

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Get reads a call of any account, for our own workers. NotFound problem when there is none.
func (s *Service) Get(ctx context.Context, id webhooks.CallID) (*Call, error) {
	return db.Get[Call](ctx, s.DB, auth.Everywhere(), string(id))
}

// LiveOnTrunk counts the legs that a trunk carries at the moment, in and out.
func (s *Service) LiveOnTrunk(ctx context.Context, trunk webhooks.TrunkID) (int, error) {
	n, err := s.DB.Read().NewSelect().Model((*Call)(nil)).Where("trunk_id = ?", trunk).Where("ended_at IS NULL").Count(ctx)
	return int(n), db.Check(err)
}

// LiveOf counts the legs of an account that are in progress; a call that waits to be started is none.
func (s *Service) LiveOf(ctx context.Context, account webhooks.AccountID) (int, error) {
	n, err := s.DB.Read().NewSelect().Model((*Call)(nil)).Where("account_id = ?", account).Where("ended_at IS NULL").Where("edge_id <> ''").Count(ctx)
	return int(n), db.Check(err)
}

// Abandoned are conditions under which live calls have nobody who will end them. A zero condition selects nothing.
type Abandoned struct {
	Edge       webhooks.EdgeID
	ExceptBoot string            // only calls of the edge's other lives; "" for those of all
	NotOn      []webhooks.EdgeID // with Edge "": calls on none of these edges
	QuietSince time.Time         // only calls whose record has not changed since; zero for any
	Unheard    bool              // only calls of which no event has come
}

// Where adds the conditions to a query in which the calls go by an alias.
func (a Abandoned) Where(q *bun.SelectQuery, alias string) *bun.SelectQuery {
	column := func(name string) bun.Ident { return bun.Ident(alias + "." + name) }
	switch {
	case a.Edge != "":
		q = q.Where("? = ?", column("edge_id"), a.Edge)
	case len(a.NotOn) > 0:
		q = q.Where("? NOT IN (?)", column("edge_id"), bun.List(a.NotOn)).Where("? <> ''", column("edge_id")) // none is that of a call that waits
	case a.QuietSince.IsZero():
		return q.Where("1 = 0")
	}
	if a.ExceptBoot != "" {
		q = q.Where("? <> ?", column("boot_id"), a.ExceptBoot)
	}
	if !a.QuietSince.IsZero() {
		q = q.Where("? < ?", column("updated_at"), a.QuietSince)
	}
	if a.Unheard {
		q = q.Where("? = 1", column("next_sequence"))
	}
	return q
}

// Find lists up to most such calls, the oldest first.
func (s *Service) Find(ctx context.Context, a Abandoned, most int) ([]webhooks.CallID, error) {
	q := s.DB.Read().NewSelect().TableExpr("calls AS c").Column("c.id").Where("c.ended_at IS NULL")
	var ids []webhooks.CallID
	err := a.Where(q, "c").OrderExpr("c.id").Limit(int64(most)).Scan(ctx, &ids)
	return ids, db.Check(err)
}

// Lose ends the record of a call whose edge was last heard of at a time, with edge_lost, unless it has ended. Its
// call.ended is numbered here.
func (s *Service) Lose(ctx context.Context, id webhooks.CallID, heard time.Time) (lost bool, err error) {
	err = s.append(ctx, id, func(w *writing, r *record) {
		if lost = !r.ended; lost {
			w.add(r, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallEnded, OccurredAt: w.now, Data: ending(r.lost(heard))})
		}
	})
	return lost, err
}

// Append adds an event of ours to a call that has ended: what became of it after its edge was gone.
func (s *Service) Append(ctx context.Context, id webhooks.CallID, kind webhooks.EventType, data webhooks.EventData) error {
	return s.append(ctx, id, func(w *writing, r *record) {
		w.add(r, webhooks.Event{ID: webhooks.NewEventID(), Type: kind, OccurredAt: w.now, Data: data})
	})
}

// append changes one call, if it is there.
func (s *Service) append(ctx context.Context, id webhooks.CallID, fn func(*writing, *record)) error {
	return s.changing(ctx, func(ctx context.Context, w *writing) error {
		if err := w.load(ctx, []webhooks.CallID{id}); err != nil {
			return err
		}
		if r := w.rows[id]; r != nil {
			fn(w, r)
		}
		return nil
	})
}

// changing writes what fn changes in one transaction, again when another process came in between.
func (s *Service) changing(ctx context.Context, fn func(context.Context, *writing) error) error {
	var err error
	for range publishTries {
		err = s.told(s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			w := s.writing(tx)
			if err := fn(ctx, w); err != nil {
				return err
			}
			return w.write(ctx, s.Also)
		}))
		if err == nil || !passing(err) {
			return err
		}
	}
	return err
}
