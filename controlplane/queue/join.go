package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// What edges are refused with.
var (
	ErrNotFound = errors.New("there is no such queue")
	ErrFull     = errors.New("as many calls wait in the queue as may")
	ErrClosed   = errors.New("the queue takes no more calls")
	// ErrFenced says that what the asker held is another's, or nobody's, by now: stop silently.
	ErrFenced  = errors.New("another holds it by now")
	ErrInvalid = errors.New("the message is wrong") // wrapped with why
)

// Joining is a call that wants to wait.
type Joining struct {
	AccountID webhooks.AccountID
	CallID    webhooks.CallID
	Owner     Owner
	Queue     string // id, SID or name
	Create    bool   // makes the queue where there is none of this name
	Priority  int    // 0–1000
	// MaxWait and MaxSize hold in place of the queue's own; 0 leaves those.
	MaxWait  webhooks.Seconds
	MaxSize  int
	From, To string
	FromName string
	Data     map[string]any // for whoever takes the call; 16 KiB as JSON
}

// Entry is a call's place in a queue, and what the queue says of waiting.
type Entry struct {
	ID       string // wait_…
	Token    int64
	QueueID  webhooks.QueueID
	Name     string
	Priority int
	Standing
	Wait             *webhooks.Program // nil: music
	Screen           *webhooks.Program // run on the leg that takes the call; nil: nothing
	MusicID          webhooks.MediaID  // "": the system's own
	AnnouncePosition bool
	AnnounceInterval webhooks.Seconds
}

// Standing is how things stand with a call in a queue, at the moment of the answer.
type Standing struct {
	Position    int               // from 1; 0 when it is in the queue no more
	Size        int               // who are in the queue
	MaxSize     int               // 0 without limit
	Waited      webhooks.Seconds  // in this queue and those that it was moved from
	AverageWait webhooks.Seconds  // of those in the queue
	Remaining   *webhooks.Seconds // that it may still wait; nil for ever
}

// joinTries are against others that join the same call, or make the same queue, at once.
const joinTries = 4

// onDemandMost bounds the queues of an account that programs can make.
const onDemandMost = 1000

// resumeWithin is how long a call that was lost finds its place again: its edge was only cut off from us.
const resumeWithin = time.Hour

// Join puts a call into a queue. Asking again gives the place that it has; so does asking for a call that has just been
// taken over from another edge (then with a new token), and for one that was given up as lost. A call that stands in
// another queue leaves that. Errors: ErrNotFound, ErrFull, ErrClosed, ErrFenced, ErrInvalid.
func (s *Service) Join(ctx context.Context, j Joining) (*Entry, error) {
	if err := j.check(); err != nil {
		return nil, err
	}
	if err := s.renew(ctx, string(j.Owner.EdgeID), j.Owner.BootID); err != nil {
		return nil, err
	}
	var w *waiting
	var q *Queue
	var err error
	for range joinTries {
		err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			w, q, err = s.join(ctx, tx, j)
			return err
		})
		if p, conflict := errors.AsType[*problem.Problem](err); !conflict || p.Code != problem.CodeConflict {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	s.hub.wake(q.ID, string(j.CallID))
	// Counting those who wait holds up nobody who joins after.
	return s.entry(ctx, w, q, s.now())
}

func (j *Joining) check() error {
	switch {
	case j.AccountID == "" || j.CallID == "" || j.Owner.EdgeID == "" || j.Owner.BootID == "":
		return fmt.Errorf("%w: it names an account, a call, an edge and its boot", ErrInvalid)
	case j.Queue == "":
		return fmt.Errorf("%w: it names no queue", ErrInvalid)
	case j.Priority < 0 || j.Priority > maxPriority:
		return fmt.Errorf("%w: the priority must be 0–%d, is %d", ErrInvalid, maxPriority, j.Priority)
	case !(j.MaxWait >= 0 && j.MaxWait <= maxMaxWait) || j.MaxSize < 0:
		return fmt.Errorf("%w: max_wait must be 0–%d seconds, and max_size not negative", ErrInvalid, maxMaxWait)
	}
	return nil
}

func (s *Service) join(ctx context.Context, tx *db.Tx, j Joining) (*waiting, *Queue, error) {
	now := s.now()
	q, err := s.find(ctx, tx, j)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.before(ctx, tx, j, now)
	if err != nil {
		return nil, nil, err
	}
	if w != nil && w.QueueID == webhooks.QueueID(q.ID) && w.Status != Connected {
		return w, q, resume(ctx, tx, w, j.Owner)
	}
	if w != nil && w.Status != Left {
		w.leave(now, string(webhooks.Redirected))
		if err := store(ctx, tx, w); err != nil {
			return nil, nil, err
		}
	}
	if !q.Enabled {
		return nil, nil, ErrClosed
	}
	limit := q.MaxWaiting
	if j.MaxSize > 0 {
		limit = j.MaxSize
	}
	if limit > 0 {
		n, err := tx.Read().NewSelect().Model((*waiting)(nil)).Where("queue_id = ?", q.ID).Where(inQueue).Count(ctx)
		if err != nil {
			return nil, nil, db.Check(err)
		}
		if n >= int64(limit) {
			return nil, nil, ErrFull
		}
	}
	w = &waiting{
		QueueID: webhooks.QueueID(q.ID), CallID: j.CallID, Status: Waiting, Owner: j.Owner, Token: 1, Priority: j.Priority,
		QueuedAt: now, JoinedAt: now, From: text(j.From), To: text(j.To), FromName: text(j.FromName), Data: j.Data,
	}
	w.ID, w.Metadata = db.NewID("wait"), map[string]any{}
	w.expire(q, j.MaxWait)
	w.sort()
	return w, q, db.Insert[waiting](ctx, tx, auth.Account(string(j.AccountID)), w)
}

// text is what a caller's phone sent, as both databases can hold it.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// expire sets until when a call waits that has just joined a queue.
func (w *waiting) expire(q *Queue, asked webhooks.Seconds) {
	most := q.MaxWait
	if asked > 0 {
		most = asked
	}
	w.ExpiresAt = nil
	if most > 0 {
		at := w.JoinedAt.Add(span(most)).Truncate(time.Microsecond)
		w.ExpiresAt = &at
	}
}

// leave ends a call's waiting, and whatever claim there is on it.
func (w *waiting) leave(now time.Time, reason string) {
	w.Status, w.LeftAt, w.Reason = Left, &now, reason
}

// store writes a waiting call that was read and locked in this transaction.
func store(ctx context.Context, tx *db.Tx, w *waiting) error {
	return db.Update[waiting](ctx, tx, auth.Account(w.AccountID), w, "")
}

// find gives the queue that a call is to join, locked; it makes one on demand.
func (s *Service) find(ctx context.Context, tx *db.Tx, j Joining) (*Queue, error) {
	column, value := named(j.Queue)
	q, err := locked(ctx, tx, string(j.AccountID), column, value)
	switch {
	case err != nil || q != nil:
		return q, err
	case !j.Create || column == "id":
		return nil, ErrNotFound
	}
	made := &Queue{Draft: Defaults()}
	made.ID, made.Name, made.Metadata = db.NewID("que"), j.Queue, map[string]any{}
	if err := made.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	n, err := db.Count[Queue](ctx, tx, auth.Account(string(j.AccountID)))
	if err == nil && n >= onDemandMost {
		err = fmt.Errorf("%w: the account has %d queues, and programs make no more", ErrNotFound, n)
	}
	if err != nil {
		return nil, err
	}
	return made, db.Insert[Queue](ctx, tx, auth.Account(string(j.AccountID)), made)
}

// named says by which column a queue is meant: its id, in either form, or its name.
func named(ref string) (column, value string) {
	if id, err := webhooks.FromSID(ref); err == nil && strings.HasPrefix(id, idPrefix) {
		return "id", id
	}
	return "name", ref
}

// before is what is left of the last time that a call waited, if it still is somewhere, or was lost a short while ago.
func (s *Service) before(ctx context.Context, tx *db.Tx, j Joining, now time.Time) (*waiting, error) {
	var last []waiting
	err := tx.Read().NewSelect().Model(&last).Where("account_id = ?", j.AccountID).Where("call_id = ?", j.CallID).
		OrderBy("id", bun.OrderDesc).Limit(1).Apply(locking(tx.Write(), "UPDATE")).Scan(ctx)
	if err != nil || len(last) == 0 {
		return nil, db.Check(err)
	}
	w := &last[0]
	same := w.EdgeID == j.Owner.EdgeID && w.BootID == j.Owner.BootID
	switch {
	case w.Epoch > j.Owner.Epoch, w.Status != Left && !same && w.Epoch == j.Owner.Epoch:
		return nil, ErrFenced
	case w.Status == Left && (w.Reason != string(webhooks.Lost) || now.Sub(*w.LeftAt) > resumeWithin):
		return nil, nil
	}
	return w, nil
}

// resume gives a call the place that it has, or had until it was lost.
func resume(ctx context.Context, tx *db.Tx, w *waiting, owner Owner) error {
	if w.Owner == owner && w.Status != Left {
		return nil
	}
	if w.Status == Left {
		w.Status, w.LeftAt, w.Reason = Waiting, nil, ""
		w.untake()
	}
	w.Owner = owner
	w.Token++
	return store(ctx, tx, w)
}

// entry is what an edge is told of a call's place.
func (s *Service) entry(ctx context.Context, w *waiting, q *Queue, now time.Time) (*Entry, error) {
	wait, screen, err := q.programs()
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", q.ID, err)
	}
	sizes, err := counted(ctx, s.DB, q.ID)
	if err != nil {
		return nil, err
	}
	position, err := place(ctx, s.DB, w)
	if err != nil {
		return nil, err
	}
	return &Entry{
		ID: w.ID, Token: w.Token, QueueID: w.QueueID, Name: q.Name, Priority: w.Priority,
		Standing: w.standing(position, sizes[w.QueueID], q.MaxWaiting, now), Wait: wait, Screen: screen, MusicID: q.MusicID,
		AnnouncePosition: q.AnnouncePosition, AnnounceInterval: q.AnnounceInterval,
	}, nil
}

// place is the position of one call in its queue.
func place(ctx context.Context, conn db.Conn, w *waiting) (int, error) {
	n, err := conn.Read().NewSelect().Model((*waiting)(nil)).Where("queue_id = ?", w.QueueID).Where(inQueue).
		Where("(rank, id) <= (?, ?)", w.Rank, w.ID).Count(ctx)
	return int(n), db.Check(err)
}

func (w *waiting) standing(position int, c count, most int, now time.Time) Standing {
	st := Standing{Position: position, Size: c.inQueue(), MaxSize: most, Waited: w.waited(now), AverageWait: c.average(now)}
	if w.Status != Waiting && w.Status != Offered {
		st.Position = 0
	}
	if w.ExpiresAt != nil {
		left := seconds(w.ExpiresAt.Sub(now))
		st.Remaining = &left
	}
	return st
}

// Leaving is a call that waits no more.
type Leaving struct {
	AccountID webhooks.AccountID
	ID        string // of the entry
	Token     int64
	// Reason is the outcome of its enqueue: left, timeout, hangup, redirected, failed, bridged, lost …
	Reason webhooks.Outcome
}

// Leave takes a call out of its queue. Whoever was about to be connected with it finds its claim fenced. Repeating it
// changes nothing. Errors: ErrFenced, when another edge has taken the call over; ErrInvalid.
func (s *Service) Leave(ctx context.Context, l Leaving) error {
	if !webhooks.HasOutcome("enqueue", l.Reason) {
		return fmt.Errorf("%w: %q is no outcome of enqueue", ErrInvalid, l.Reason)
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		w, err := entryOf(ctx, tx, l.AccountID, l.ID)
		switch {
		case err != nil || w == nil:
			return err
		case l.Token < w.Token:
			return ErrFenced
		case w.Status == Left:
			return nil
		}
		w.leave(s.now(), string(l.Reason))
		return store(ctx, tx, w)
	})
}

// entryOf reads and locks a waiting call by its entry; nil when there is none any more.
func entryOf(ctx context.Context, tx *db.Tx, account webhooks.AccountID, id string) (*waiting, error) {
	var found []waiting
	err := tx.Read().NewSelect().Model(&found).Where("account_id = ?", account).Where("id = ?", id).
		Apply(locking(tx.Write(), "UPDATE")).Scan(ctx)
	if err != nil || len(found) == 0 {
		return nil, db.Check(err)
	}
	return &found[0], nil
}

// MaxRenewal is the most entries of one Renewal.
const MaxRenewal = 1000

// Renewal is an edge's word that it still holds its waiting calls, and what it has taken.
type Renewal struct {
	EdgeID webhooks.EdgeID
	BootID string
	// After and Upto bound the entries that it speaks of, by their ids: more than After, at most Upto; empty is no bound.
	// Entries of this edge within them that are not in Held have been forgotten by it, and end. An edge with more than
	// MaxRenewal sorts them, and sends several.
	After, Upto string
	Held        []Held
}

// Held is one entry as an edge knows it.
type Held struct {
	ID      string
	Token   int64
	QueueID webhooks.QueueID // the one whose Entry the edge has
}

// Renewed tells of the entries that are still the edge's, and of those that are not.
type Renewed struct {
	Entries []Stood
	// Lost are ended or another's. An edge that still has the caller, waiting, joins it again.
	Lost []string
}

// Stood is how things stand with one entry.
type Stood struct {
	ID     string
	Status Status // waiting, offered or connected
	Claim  int64  // the latest; an edge connects no leg with a lower one
	Standing
	Moved *Entry // the new queue, when it is not the one that the edge knows
}

// forgottenAfter is how long an edge may not know of an entry that was made for it.
const forgottenAfter = 30 * time.Second

// Renew has what an edge holds remain its own for another lease; sent with every beat while it holds anything, also
// without entries when it only has taken calls. Errors: ErrInvalid.
func (s *Service) Renew(ctx context.Context, r Renewal) (Renewed, error) {
	out := Renewed{Entries: []Stood{}, Lost: []string{}}
	if r.EdgeID == "" || r.BootID == "" || len(r.Held) > MaxRenewal {
		return out, fmt.Errorf("%w: it names an edge, its boot, and at most %d entries", ErrInvalid, MaxRenewal)
	}
	if err := s.renew(ctx, string(r.EdgeID), r.BootID); err != nil {
		return out, err
	}
	var rows []waiting
	q := s.DB.Read().NewSelect().Model(&rows).Where("edge_id = ?", r.EdgeID).Where("boot_id = ?", r.BootID).Where(live)
	if r.After != "" {
		q = q.Where("id > ?", r.After)
	}
	if r.Upto != "" {
		q = q.Where("id <= ?", r.Upto)
	}
	if err := q.OrderBy("id", bun.OrderAsc).Scan(ctx); err != nil {
		return out, db.Check(err)
	}
	now := s.now()
	held := make(map[string]Held, len(r.Held))
	for _, h := range r.Held {
		held[h.ID] = h
	}
	var stand []waiting
	var forgotten []gone
	for _, w := range rows {
		h, known := held[w.ID]
		switch {
		case known && h.Token == w.Token:
			stand = append(stand, w)
			delete(held, w.ID)
		case !known && (w.Claim > 0 || now.Sub(w.UpdatedAt) > forgottenAfter) && now.Sub(w.JoinedAt) > forgottenAfter:
			// One that is claimed and given back again and again, for it is not to be had, changes all the time.
			forgotten = append(forgotten, gone{ID: w.ID, Token: w.Token})
		}
	}
	for _, h := range r.Held {
		if _, lost := held[h.ID]; lost {
			out.Lost = append(out.Lost, h.ID)
		}
	}
	if err := s.forget(ctx, forgotten); err != nil {
		return out, err
	}
	var err error
	out.Entries, err = s.stood(ctx, stand, r.Held, now)
	return out, err
}

// stood tells how things stand with entries of possibly many queues.
func (s *Service) stood(ctx context.Context, rows []waiting, held []Held, now time.Time) ([]Stood, error) {
	out := make([]Stood, 0, len(rows))
	if len(rows) == 0 {
		return out, nil
	}
	knows := make(map[string]webhooks.QueueID, len(held))
	for _, h := range held {
		knows[h.ID] = h.QueueID
	}
	var ids []string
	for _, w := range rows {
		if !slices.Contains(ids, string(w.QueueID)) {
			ids = append(ids, string(w.QueueID))
		}
	}
	queues, err := db.List[Queue](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.id IN (?)", bun.List(ids))
	})
	if err != nil {
		return nil, err
	}
	byID := make(map[webhooks.QueueID]*Queue, len(queues))
	for i := range queues {
		byID[webhooks.QueueID(queues[i].ID)] = &queues[i]
	}
	places, err := positions(ctx, s.DB, ids)
	if err != nil {
		return nil, err
	}
	sizes, err := counted(ctx, s.DB, ids...)
	if err != nil {
		return nil, err
	}
	for _, w := range rows {
		q := byID[w.QueueID]
		if q == nil {
			continue // removed since
		}
		st := Stood{ID: w.ID, Status: w.Status, Claim: w.Claim, Standing: w.standing(places[w.ID], sizes[w.QueueID], q.MaxWaiting, now)}
		if knows[w.ID] != w.QueueID {
			if st.Moved, err = s.entry(ctx, &w, q, now); err != nil {
				return nil, err
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// positions gives every entry of some queues its position.
func positions(ctx context.Context, conn db.Conn, queues []string) (map[string]int, error) {
	var rows []struct {
		ID       string `bun:"id"`
		Position int    `bun:"position"`
	}
	err := conn.Read().NewSelect().Model((*waiting)(nil)).Column("id").
		ColumnExpr("ROW_NUMBER() OVER (PARTITION BY queue_id ORDER BY rank, id) AS position").
		Where("queue_id IN (?)", bun.List(queues)).Where(inQueue).Scan(ctx, &rows)
	places := make(map[string]int, len(rows))
	for _, r := range rows {
		places[r.ID] = r.Position
	}
	return places, db.Check(err)
}
