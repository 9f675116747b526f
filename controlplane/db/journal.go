package db

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sync"
)

// Altered is a row before and after one change, as its JSON.
type Altered struct {
	ID     string
	Type   reflect.Type    // of the row's struct
	Before json.RawMessage // nil for a new row
	After  json.RawMessage // nil for one that is gone
}

// Journal collects the changes made in one request, and has them sealed (audited) in the transaction that makes them:
// the first one that records a change calls the function given to NewJournal before it commits, once. What is rolled
// back was never recorded. A nil Journal records nothing.
type Journal struct {
	seal func(ctx context.Context, tx *Tx, changes []Altered) error

	mu      sync.Mutex // guards what follows
	changes []Altered
	sealed  bool
}

// NewJournal makes a journal. An error of seal rolls its transaction back.
func NewJournal(seal func(ctx context.Context, tx *Tx, changes []Altered) error) *Journal {
	return &Journal{seal: seal}
}

type journalKey struct{}

// WithJournal gives a context in which Insert, Update, Change, Delete, Upsert and Record write into j. It travels in
// the context because it observes: no query behaves differently for it.
func WithJournal(ctx context.Context, j *Journal) context.Context {
	return context.WithValue(ctx, journalKey{}, j)
}

func journalOf(ctx context.Context) *Journal {
	j, _ := ctx.Value(journalKey{}).(*Journal)
	return j
}

// Sealed reports whether a transaction with a sealed change was committed.
func (j *Journal) Sealed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sealed
}

// Changes are those recorded so far.
func (j *Journal) Changes() []Altered {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.changes)
}

// Record tells the journal of ctx of a change that was made without the generic queries. Call it in the transaction of
// the change. before is nil for a new object, after for one that is gone.
func Record(ctx context.Context, id string, before, after any) error {
	j := journalOf(ctx)
	if j == nil {
		return nil
	}
	return j.record(j.begin(), id, before, after)
}

// record puts a change at a place in the journal: that of the change which it is part of comes before its own.
func (j *Journal) record(at int, id string, before, after any) error {
	a := Altered{ID: id}
	for _, side := range []struct {
		object any
		text   *json.RawMessage
	}{{before, &a.Before}, {after, &a.After}} {
		if side.object == nil {
			continue
		}
		text, err := json.Marshal(side.object)
		if err != nil {
			return fmt.Errorf("journal %s: %w", id, err)
		}
		*side.text, a.Type = text, reflect.Indirect(reflect.ValueOf(side.object)).Type()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changes = slices.Insert(j.changes, min(at, len(j.changes)), a)
	return nil
}

// snapshot is an object as it is now, for a change that is to be recorded; nil when nobody records.
func (j *Journal) snapshot(id string, object any) (json.RawMessage, error) {
	if j == nil {
		return nil, nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", id, err)
	}
	return text, nil
}

// begin is where the next change will stand.
func (j *Journal) begin() int {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.changes)
}

// commit seals the changes that a transaction has recorded, unless an earlier one has. sealing is whether it did.
func (j *Journal) commit(ctx context.Context, tx *Tx, from int) (sealing bool, err error) {
	if j == nil || j.seal == nil {
		return false, nil
	}
	j.mu.Lock()
	changes, sealed := slices.Clone(j.changes[min(from, len(j.changes)):]), j.sealed
	j.mu.Unlock()
	if sealed || len(changes) == 0 {
		return false, nil
	}
	if err := j.seal(ctx, tx, changes); err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	return true, nil
}

// end forgets the changes of a transaction that was rolled back.
func (j *Journal) end(from int, sealing, committed bool) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !committed {
		j.changes = j.changes[:min(from, len(j.changes))]
		return
	}
	j.sealed = j.sealed || sealing
}

// recorded runs a change in a transaction when somebody records it, so that it is sealed in there.
func recorded(ctx context.Context, conn Conn, fn func(ctx context.Context, conn Conn) error) error {
	if journalOf(ctx) == nil {
		return fn(ctx, conn)
	}
	return conn.InTx(ctx, func(ctx context.Context, tx *Tx) error { return fn(ctx, tx) })
}
