package call

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Owner says who publishes, and for which call.
type Owner struct {
	EdgeID    webhooks.EdgeID
	BootID    string
	Epoch     int64
	AccountID webhooks.AccountID
	CallID    webhooks.CallID
}

// Batch is a run of one call's events, in order. Those with sequence 0 come after call.ended and are numbered here.
type Batch struct {
	Owner
	Events []webhooks.Event
}

// Publish stores the events of a call and folds them into its record, in one transaction, and returns the sequence
// wanted next of the call's edge. It is idempotent by (call, epoch, sequence), and by id where the sequence is 0:
// what is stored already is passed over. After a gap nothing more is stored. Errors: ErrFenced, ErrRefused; with any
// other the events may be published again.
//
// Batches of several calls share a transaction: an edge publishes several calls at once.
func (s *Service) Publish(ctx context.Context, b Batch) (expect int64, err error) {
	p := &publication{batch: b}
	if err := s.group.Do(ctx, p, s.publish); err != nil {
		return 0, err
	}
	return p.expect, p.err
}

// publication is a batch on its way into the database.
type publication struct {
	batch  Batch
	expect int64
	err    error
}

// publishWithin bounds one transaction.
const publishWithin = 10 * time.Second

func (s *Service) publish(ctx context.Context, all []*publication) {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	err := s.store(ctx, all)
	if err == nil {
		return
	}
	// One that cannot be stored must not hold up the others; and what another process changed meanwhile is read again.
	for _, p := range all {
		for range publishTries {
			err := s.store(ctx, []*publication{p})
			if err == nil {
				break
			}
			if p.err = refusal(err); !passing(err) {
				break
			}
		}
	}
}

const publishTries = 3

// errMoved is a row that another process changed between our reading and writing it.
var errMoved = errors.New("the call's row was changed meanwhile")

// passing reports whether a failure may go away when the rows are read again.
func passing(err error) bool {
	return errors.Is(err, errMoved) || conflict(err)
}

func conflict(err error) bool {
	p, ok := errors.AsType[*problem.Problem](err)
	return ok && p.Code == problem.CodeConflict
}

// refusal turns what the database will never take into ErrRefused: an account that does not exist.
func refusal(err error) error {
	if conflict(err) {
		return fmt.Errorf("%w: the events do not fit what is stored: %w", ErrRefused, err)
	}
	return err
}

// store writes batches in one transaction. What is wrong with one batch alone is in its err.
func (s *Service) store(ctx context.Context, all []*publication) error {
	return s.told(s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		w := s.writing(tx)
		if err := w.read(ctx, all); err != nil {
			return err
		}
		for _, p := range all {
			p.expect, p.err = w.apply(p.batch)
		}
		return w.write(ctx, s.Also)
	}))
}

// told wakes the readers of events when the transaction that wrote some was committed.
func (s *Service) told(err error) error {
	if err == nil && s.Wake != nil {
		s.Wake()
	}
	return err
}

// record is a row in a transaction.
type record struct {
	Call
	fresh   bool // to be inserted
	changed bool
	// As it was read, for the check that nobody changed it meanwhile: both only grow, and one does with each change.
	expects, next int64
	ended         bool // a call.ended is stored
}

// writing is the state of one transaction.
type writing struct {
	tx      *db.Tx
	ownerOf OwnerOf
	rows    map[webhooks.CallID]*record
	known   map[webhooks.EventID]bool  // of the events without a sequence
	told    map[webhooks.ActionID]bool // live changes to calls that had ended of which an outcome is stored
	events  []event.Event
	also    []webhooks.Event // the same for those who are told with the transaction
	now     time.Time
}

func (s *Service) writing(tx *db.Tx) *writing {
	return &writing{tx: tx, ownerOf: s.OwnerOf, rows: map[webhooks.CallID]*record{}, now: db.Now()}
}

func (w *writing) read(ctx context.Context, all []*publication) error {
	var ids []webhooks.CallID
	var numberless []webhooks.EventID
	for _, p := range all {
		ids = append(ids, p.batch.CallID)
		for _, e := range p.batch.Events {
			if e.Sequence == 0 {
				numberless = append(numberless, e.ID)
			}
		}
	}
	if err := w.load(ctx, ids); err != nil {
		return err
	}
	w.known = map[webhooks.EventID]bool{}
	if err := w.readOutcomes(ctx, all); err != nil || len(numberless) == 0 {
		return err
	}
	var stored []webhooks.EventID
	err := w.tx.Read().NewSelect().Model((*event.Event)(nil)).Column("id").Where("id IN (?)", bun.List(numberless)).Scan(ctx, &stored)
	for _, id := range stored {
		w.known[id] = true
	}
	return db.Check(err)
}

func (w *writing) load(ctx context.Context, ids []webhooks.CallID) error {
	var found []Call
	if err := w.tx.Read().NewSelect().Model(&found).Where("id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return db.Check(err)
	}
	for _, c := range found {
		w.rows[webhooks.CallID(c.ID)] = &record{Call: c, expects: c.EdgeExpects, next: c.NextSequence, ended: c.EndedAt != nil}
	}
	return nil
}

// apply folds one batch; nothing of it is kept when it fails.
func (w *writing) apply(b Batch) (expect int64, err error) {
	r := w.rows[b.CallID]
	switch {
	case len(b.Events) == 0 || b.CallID == "":
		return 0, fmt.Errorf("%w: the batch names no call or has no events", ErrRefused)
	case r == nil:
		if b.Events[0].Sequence != 1 {
			return 1, nil
		}
		if b.Events[0].Type != webhooks.EventCallInitiated {
			return 0, fmt.Errorf("%w: the first event of a call must be call.initiated, is %s", ErrRefused, b.Events[0].Type)
		}
		r = w.open(b)
	case r.AccountID != string(b.AccountID):
		return 0, fmt.Errorf("%w: the call is not of account %s", ErrRefused, b.AccountID)
	case b.Epoch < r.Epoch:
		return 0, ErrFenced
	case b.Epoch > r.Epoch:
		return 0, fmt.Errorf("%w: nobody gave out the epoch %d of this call", ErrRefused, b.Epoch)
	}
	for _, e := range b.Events {
		if !w.take(r, e) {
			break
		}
	}
	return r.EdgeExpects, nil
}

// open makes the row of a call that began on an edge.
func (w *writing) open(b Batch) *record {
	r := &record{fresh: true, Call: Call{
		Row:    db.Row{ID: string(b.CallID), AccountID: string(b.AccountID), Metadata: map[string]any{}, CreatedAt: w.now, Etag: "0"},
		EdgeID: b.EdgeID, BootID: b.BootID, Epoch: b.Epoch, EdgeExpects: 1, NextSequence: 1,
	}}
	w.rows[b.CallID] = r
	return r
}

// take appends one event unless it is stored; false: there is a gap before it.
func (w *writing) take(r *record, e webhooks.Event) bool {
	if isOutcome(e) && w.told[e.Data.ActionID] {
		// Settle has told of it, for its edge was silent.
		if e.Sequence == r.EdgeExpects {
			r.EdgeExpects++
			r.changed = true
		}
		return e.Sequence < r.EdgeExpects
	}
	switch {
	case e.Sequence == 0:
		if w.known[e.ID] {
			return true
		}
		w.known[e.ID] = true
		if !r.ended {
			// It follows an end that the edge of an earlier life did not live to tell.
			w.add(r, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallEnded, OccurredAt: e.OccurredAt, Data: ending(r.lost(r.UpdatedAt))})
		}
	case e.Sequence < r.EdgeExpects:
		return true
	case e.Sequence > r.EdgeExpects:
		return false
	default:
		r.EdgeExpects++
		r.changed = true
		if e.Type == webhooks.EventCallEnded && r.ended {
			r.fold(e) // the record is amended; a second end there is not
			return true
		}
	}
	w.add(r, e)
	return true
}

func ending(r webhooks.CDR) webhooks.EventData { return webhooks.EventData{CDR: &r} }

// add appends an event to a call and folds it.
func (w *writing) add(r *record, e webhooks.Event) {
	e.AccountID, e.CallID, e.Sequence = webhooks.AccountID(r.AccountID), webhooks.CallID(r.ID), r.NextSequence
	e.OccurredAt = e.OccurredAt.UTC().Truncate(time.Microsecond)
	if e.ConversationID == "" {
		e.ConversationID = r.ConversationID
	}
	e, data := clean(e)
	r.NextSequence++
	r.changed = true
	r.ended = r.ended || e.Type == webhooks.EventCallEnded
	r.fold(e)
	w.events = append(w.events, event.Event{
		ID: string(e.ID), AccountID: r.AccountID, Type: string(e.Type), Resource: "calls", ObjectID: r.ID, CallID: r.ID,
		ConversationID: string(e.ConversationID), Sequence: e.Sequence, OccurredAt: e.OccurredAt, Data: data,
	})
	w.also = append(w.also, e)
}

// clean makes of an event what a database can hold, and its data as JSON: texts from the network may have NUL or be no
// UTF-8, which PostgreSQL refuses and the edge would then publish for ever.
func clean(e webhooks.Event) (webhooks.Event, json.RawMessage) {
	text, err := json.Marshal(e.Data)
	if err != nil {
		panic(fmt.Sprintf("call: an event's data cannot be marshalled: %v", err))
	}
	if !bytes.Contains(text, []byte(`\u0000`)) && !bytes.Contains(text, []byte(`\ufffd`)) {
		return e, text
	}
	text = bytes.ReplaceAll(text, []byte(`\u0000`), []byte(`\ufffd`))
	e.Data = webhooks.EventData{}
	if err := json.Unmarshal(text, &e.Data); err != nil {
		panic(fmt.Sprintf("call: an event's data cannot be read back: %v", err))
	}
	return e, text
}

// write brings the changes into the database: the rows and the events.
func (w *writing) write(ctx context.Context, also []func(context.Context, *db.Tx, []webhooks.Event) error) error {
	if err := w.own(ctx); err != nil {
		return err
	}
	var fresh []*Call
	for _, r := range w.rows {
		if !r.changed {
			continue
		}
		r.UpdatedAt = w.now
		if r.fresh {
			fresh = append(fresh, &r.Call)
			continue
		}
		if err := w.update(ctx, r); err != nil {
			return err
		}
	}
	if len(fresh) > 0 {
		if _, err := w.tx.Write().NewInsert().Model(&fresh).Exec(ctx); err != nil {
			return db.Check(err)
		}
	}
	if len(w.events) == 0 {
		return nil
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if err := event.Emit(ctx, w.tx, w.events...); err != nil {
		return err
	}
	for _, fn := range also {
		if err := fn(ctx, w.tx, w.also); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) update(ctx context.Context, r *record) error {
	result, err := w.tx.Write().NewUpdate().Model(&r.Call).
		ExcludeColumn("id", "account_id", "external_id", "metadata", "created_at", "data", "edge_id", "boot_id", "epoch").
		Where("id = ?", r.ID).Where("edge_expects = ?", r.expects).Where("next_sequence = ?", r.next).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errMoved, err)
	}
	return nil
}
