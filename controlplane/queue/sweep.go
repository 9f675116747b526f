package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	sweepEvery = time.Second
	// keepLeft is how long calls that have left are kept, so that they can be resumed and late messages understood.
	keepLeft = resumeWithin
	// keepLease is how long the lease of an edge that is gone is kept.
	keepLease = time.Hour
	// purgeMost bounds what one sweep removes.
	purgeMost = 1000
)

// Run gives back what was claimed and not connected in time, and has takes woken across processes, until ctx ends. It may
// run in several processes.
func (s *Service) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.publish(ctx) })
	all.Go(func() { s.hear(ctx) })
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("queues.sweep", "error", err.Error())
		}
	}
}

// Sweep is one round of what Run does regularly. Leases that ended while nobody could renew them, because this process or
// the database was away, are not held against anyone: they count from one lease after the first round that succeeded.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.now()
	s.mu.Lock()
	if s.heard.IsZero() {
		s.heard = now
	}
	listening := now.Sub(s.heard) >= s.lease()
	s.mu.Unlock()
	err := s.sweep(ctx, now, listening)
	if err != nil {
		s.mu.Lock()
		s.heard = time.Time{}
		s.mu.Unlock()
	}
	return err
}

func (s *Service) sweep(ctx context.Context, now time.Time, listening bool) error {
	due, err := s.DB.Read().NewSelect().Model((*waiting)(nil)).Where("status = 'offered'").Apply(s.overdue(now, listening)).Count(ctx)
	if err != nil {
		return db.Check(err)
	}
	if due > 0 {
		err = s.giveBack(ctx, func(q *bun.UpdateQuery) *bun.UpdateQuery {
			if !listening {
				return q.Where("offer_until <= ?", now)
			}
			return q.Where("(offer_until <= ? OR taken_boot_id NOT IN (?))", now, leased(s.DB.Write(), now))
		})
		if err != nil {
			return err
		}
	}
	old := s.DB.Read().NewSelect().Model((*waiting)(nil)).Column("id").Where("status = 'left'").Where("left_at < ?", now.Add(-keepLeft)).Limit(purgeMost)
	var ids []string
	if err := old.Scan(ctx, &ids); err != nil {
		return db.Check(err)
	}
	if len(ids) > 0 {
		_, err := s.DB.Write().NewDelete().Model((*waiting)(nil)).Where("id IN (?)", bun.List(ids)).Where("status = 'left'").Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
	}
	ended, err := s.DB.Read().NewSelect().Model((*lease)(nil)).Where("lease_until < ?", now.Add(-keepLease)).Count(ctx)
	if err != nil || ended == 0 {
		return db.Check(err)
	}
	_, err = s.DB.Write().NewDelete().Model((*lease)(nil)).Where("lease_until < ?", now.Add(-keepLease)).Exec(ctx)
	return db.Check(err)
}

// overdue are claims that have lasted too long, or whose leg is on an edge that does not renew.
func (s *Service) overdue(now time.Time, listening bool) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		if !listening {
			return q.Where("offer_until <= ?", now)
		}
		return q.Where("(offer_until <= ? OR taken_boot_id NOT IN (?))", now, leased(s.DB.Read(), now))
	}
}

// giveBack ends claims: the callers wait again at their old places.
func (s *Service) giveBack(ctx context.Context, which func(*bun.UpdateQuery) *bun.UpdateQuery) error {
	var back []waiting
	err := which(given(s.DB.Write().NewUpdate().Model(&back))).Where("status = 'offered'").Returning("*").Scan(ctx)
	if err != nil {
		return db.Check(fmt.Errorf("give back: %w", err))
	}
	for _, w := range back {
		s.Log.Warn("queue.offer_lapsed", "queue_id", w.QueueID, "call_id", w.CallID, "claim", w.Claim)
		s.hub.wake(string(w.QueueID), string(w.CallID))
	}
	return nil
}

// EdgeLost ends what an edge held in one of its lives, because that is over: its callers are gone, and those that it had
// taken wait again at their old places. An empty boot is every life of the edge. Asking again changes nothing, and costs
// little.
func (s *Service) EdgeLost(ctx context.Context, edge webhooks.EdgeID, boot string) error {
	return s.lost(ctx, edge, "(boot_id = ? OR ? = '')", "(taken_boot_id = ? OR ? = '')", boot)
}

// EdgeReborn is EdgeLost for every life of an edge but the one it is in.
func (s *Service) EdgeReborn(ctx context.Context, edge webhooks.EdgeID, boot string) error {
	return s.lost(ctx, edge, "boot_id <> ? AND ? <> ''", "taken_boot_id <> ? AND ? <> ''", boot)
}

// lost ends what an edge held. own and taken say in which lives; both name the boot twice.
func (s *Service) lost(ctx context.Context, edge webhooks.EdgeID, own, taken, boot string) error {
	_, err := s.DB.Write().NewDelete().Model((*lease)(nil)).Where("edge_id = ?", edge).Where(own, boot, boot).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	s.mu.Lock()
	for l := range s.renewed {
		if l.edge == string(edge) {
			delete(s.renewed, l)
		}
	}
	s.mu.Unlock()
	var held []gone
	err = s.DB.Read().NewSelect().Model((*waiting)(nil)).Column("id", "token").Where("edge_id = ?", edge).Where(own, boot, boot).Where(live).Scan(ctx, &held)
	if err != nil {
		return db.Check(err)
	}
	if err := s.forget(ctx, held); err != nil {
		return err
	}
	claims, err := s.DB.Read().NewSelect().Model((*waiting)(nil)).Where("taken_edge_id = ?", edge).Where(taken, boot, boot).
		Where("status = 'offered'").Count(ctx)
	if err != nil || claims == 0 {
		return db.Check(err)
	}
	return s.giveBack(ctx, func(q *bun.UpdateQuery) *bun.UpdateQuery {
		return q.Where("taken_edge_id = ?", edge).Where(taken, boot, boot)
	})
}

// gone is an entry that nobody holds any more, unless its token has been raised since.
type gone struct {
	ID    string `bun:"id"`
	Token int64  `bun:"token"`
}

// forget ends entries whose callers are gone without anybody having said so, one after the other, and tells of it where
// the caller was still in the queue.
//
// Why the event is not one of the call's numbered ones: those are its edge's, or of whoever ends the call's record once
// the edge is dead; this one is of the account, in the transaction of the change, and with the call's id keeps the order
// of the call's events.
func (s *Service) forget(ctx context.Context, all []gone) error {
	told := false
	for _, g := range all {
		err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			var found []waiting
			err := tx.Read().NewSelect().Model(&found).Where("id = ?", g.ID).Where("token = ?", g.Token).Where(live).Apply(locking(tx.Write(), "UPDATE")).Scan(ctx)
			if err != nil || len(found) == 0 {
				return db.Check(err)
			}
			w := &found[0]
			was := w.Status
			w.leave(s.now(), string(webhooks.Lost))
			if err := store(ctx, tx, w); err != nil || was == Connected {
				return err
			}
			told = true
			return tell(ctx, tx, w)
		})
		if err != nil {
			return fmt.Errorf("waiting call %s: %w", g.ID, err)
		}
	}
	if told && s.Wake != nil {
		s.Wake()
	}
	return nil
}

// tell emits queue.left for a call that was lost.
func tell(ctx context.Context, tx *db.Tx, w *waiting) error {
	waited := w.waited(*w.LeftAt)
	data, err := json.Marshal(webhooks.EventData{QueueID: w.QueueID, Outcome: webhooks.Lost, Waited: &waited})
	if err != nil {
		return err
	}
	return event.Emit(ctx, tx, event.Event{
		AccountID: w.AccountID, Type: string(webhooks.EventQueueLeft), Resource: "calls", ObjectID: string(w.QueueID),
		CallID: string(w.CallID), OccurredAt: *w.LeftAt, Data: data,
	})
}
