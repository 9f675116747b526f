package edges

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// row is an edge as it was last heard of.
type row struct {
	bun.BaseModel `bun:"table:edges"`

	ID        webhooks.EdgeID `bun:"id,pk"`
	BootID    string          `bun:"boot_id"`
	Calls     int             `bun:"calls"`
	Draining  bool            `bun:"draining"`
	SIP       string          `bun:"sip"`
	StartedAt time.Time       `bun:"started_at"` // first beat of this boot
	BootedAt  time.Time       `bun:"booted_at"`  // the same by the edge's clock
	BeatAt    time.Time       `bun:"beat_at"`
	LastHeard *time.Time      `bun:"last_heard_at"` // last beat of the boot before this one
}

// When an edge is taken for gone.
const (
	lease      = 3 * time.Second  // without a beat for so long it gets no new calls
	deadAfter  = 20 * time.Second // without a beat for so long its calls are ended
	bootGrace  = 5 * time.Second  // an edge that came back tells of its former life itself, if it can
	spoolGrace = 15 * time.Second // and sends what is left of that life's recordings
	quietAfter = time.Minute      // a call of which nobody has heard, on an edge that does not have it
	sweepEvery = 2 * time.Second
	forgetEdge = 24 * time.Hour
	sweepBatch = 200
)

// Beat implements control.Control.
func (s *Service) Beat(ctx context.Context, b control.Beat) error {
	if b.EdgeID == "" || b.BootID == "" {
		return &control.Error{Code: control.CodeInvalid, Message: "a beat names its edge and its boot"}
	}
	now := s.now()
	booted := b.At.UTC().Truncate(time.Microsecond)
	if b.At.IsZero() {
		booted = now
	}
	r := &row{ID: b.EdgeID, BootID: b.BootID, Calls: b.Calls, Draining: b.Draining, SIP: b.SIP.String(), StartedAt: now, BootedAt: booted, BeatAt: now}
	const reborn = "CASE WHEN ?TableAlias.boot_id = EXCLUDED.boot_id THEN "
	_, err := s.DB.Write().NewInsert().Model(r).On("CONFLICT (id) DO UPDATE").
		Set("started_at = " + reborn + "?TableAlias.started_at ELSE EXCLUDED.started_at END").
		Set("booted_at = " + reborn + "?TableAlias.booted_at ELSE EXCLUDED.booted_at END").
		Set("last_heard_at = " + reborn + "?TableAlias.last_heard_at ELSE ?TableAlias.beat_at END").
		Set("boot_id = EXCLUDED.boot_id").Set("calls = EXCLUDED.calls").Set("draining = EXCLUDED.draining").
		Set("sip = EXCLUDED.sip").Set("beat_at = EXCLUDED.beat_at").Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	s.mu.Lock()
	delete(s.handed, b.EdgeID)
	s.mu.Unlock()
	return nil
}

// pick finds the edge for a new call: of those that live, take calls and are connected to any process, the one with the
// fewest.
func (s *Service) pick(ctx context.Context) (row, error) {
	var alive []row
	err := s.DB.Read().NewSelect().Model(&alive).Where("beat_at >= ?", s.now().Add(-lease)).Where("NOT draining").
		OrderBy("id", bun.OrderAsc).Scan(ctx)
	if err != nil {
		return row{}, db.Check(err)
	}
	s.mu.Lock()
	for i := range alive {
		alive[i].Calls += s.handed[alive[i].ID]
	}
	s.mu.Unlock()
	slices.SortStableFunc(alive, func(a, b row) int { return cmp.Compare(a.Calls, b.Calls) })
	for _, r := range alive {
		if s.edge(r.ID) == nil {
			held, err := s.holders(ctx, r.ID)
			if err != nil {
				s.Log.Warn("edges.bus_away", "error", err.Error())
			}
			if len(held) == 0 {
				continue
			}
		}
		s.mu.Lock()
		if s.handed == nil {
			s.handed = map[webhooks.EdgeID]int{}
		}
		s.handed[r.ID]++
		s.mu.Unlock()
		return r, nil
	}
	return row{}, problem.Unavailable("no edge takes new calls at the moment; repeat the request shortly", 5*time.Second)
}

// Run joins the bus, so that each process reaches every edge, and sweeps, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running = s.now()
	s.mu.Unlock()
	var joined sync.WaitGroup
	defer joined.Wait()
	joined.Go(func() { s.join(ctx) })
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("edges.sweep", "error", err.Error())
		}
	}
}

// Sweep ends the records of calls that nobody else will end, with edge_lost, and finishes their recordings from what was
// shipped: those of an edge that has not beaten for 20 s (while we were there to hear it), and those of the life that an
// edge had before it started anew. Then it tells what became of the live changes that were asked of calls which have
// ended (call.Settle). It may run in several processes.
//
// Why 20 s and no question to other edges: with one edge nobody can be asked, and a call that ends in error because its
// edge was only cut off from us is worse than a record that is closed a little later.
func (s *Service) Sweep(ctx context.Context) error {
	return s.DB.Lock(ctx, "edges.sweep", func(ctx context.Context) error {
		now := s.now()
		_, err := s.DB.Write().NewDelete().Model((*row)(nil)).Where("beat_at < ?", now.Add(-forgetEdge)).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		var known []row
		if err := s.DB.Read().NewSelect().Model(&known).Scan(ctx); err != nil {
			return db.Check(err)
		}
		var errs []error
		var ids []webhooks.EdgeID
		for _, r := range known {
			ids = append(ids, r.ID)
			errs = append(errs, s.sweepEdge(ctx, r))
		}
		if s.silentFor(now, time.Time{}) > deadAfter { // calls of an edge that never beat
			errs = append(errs, s.close(ctx, call.Abandoned{NotOn: ids, QuietSince: now.Add(-deadAfter)}, now, true))
		}
		errs = append(errs, s.Calls.Settle(ctx), s.sweepPlaces(ctx, now), s.sweepLinks(ctx, now))
		return errors.Join(errs...)
	})
}

// silentFor is how long an edge that beat last at a time has been silent while this process listened.
func (s *Service) silentFor(now, beat time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running.After(beat) {
		beat = s.running
	}
	return now.Sub(beat)
}

func (s *Service) sweepEdge(ctx context.Context, r row) error {
	now := s.now()
	if s.silentFor(now, r.BeatAt) > deadAfter {
		return errors.Join(s.queuesLost(ctx, r.ID), s.close(ctx, call.Abandoned{Edge: r.ID}, r.BeatAt, true))
	}
	var errs []error
	if alive := now.Sub(r.StartedAt); alive > bootGrace {
		heard := r.StartedAt
		if r.LastHeard != nil {
			heard = *r.LastHeard
		}
		errs = append(errs, s.queuesReborn(ctx, r.ID, r.BootID), s.close(ctx, call.Abandoned{Edge: r.ID, ExceptBoot: r.BootID}, heard, alive > spoolGrace))
	}
	quiet := now.Add(-quietAfter)
	errs = append(errs, s.close(ctx, call.Abandoned{Edge: r.ID, QuietSince: quiet, Unheard: true}, now, false))
	if r.Calls == 0 { // its events were lost on the way: the edge drops them when it has too many
		errs = append(errs, s.close(ctx, call.Abandoned{Edge: r.ID, QuietSince: quiet}, now, false))
	}
	return errors.Join(errs...)
}

// close ends abandoned calls, last heard of at a time, and on demand the recordings of those that have ended.
func (s *Service) close(ctx context.Context, a call.Abandoned, heard time.Time, recordings bool) error {
	lost, err := s.Calls.Find(ctx, a, sweepBatch)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range lost {
		ended, err := s.Calls.Lose(ctx, id, heard)
		if ended {
			s.Log.Warn("call.lost", "call_id", id, "edge_id", a.Edge)
		}
		errs = append(errs, err)
	}
	if !recordings {
		return errors.Join(errs...)
	}
	open, err := s.Recordings.Abandoned(ctx, a, sweepBatch)
	errs = append(errs, err)
	for _, id := range open {
		errs = append(errs, s.rescue(ctx, id))
	}
	return errors.Join(errs...)
}

func (s *Service) rescue(ctx context.Context, id webhooks.RecordingID) error {
	of, kind, data, told, err := s.Recordings.Rescue(ctx, id)
	if err != nil || !told {
		return err
	}
	s.Log.Warn("recording.rescued", "recording_id", id, "call_id", of, "size", data.Size)
	return s.Calls.Append(ctx, of, kind, data)
}
