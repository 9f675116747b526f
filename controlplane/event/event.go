// Package event owns the events of accounts: writing them in the transaction of the change they tell of, the position
// by which readers follow them, their retention, and reading them in the REST API. Bringing them to endpoints is left
// to package delivery, to browsers to package live.
package event

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Event is one thing that happened in an account, as it is stored and, in the same shape, listed, streamed and
// delivered. It never changes.
type Event struct {
	bun.BaseModel `bun:"table:events" json:"-"`

	ID        string `bun:"id,pk" json:"id"` // evt_…
	Type      string `bun:"type" json:"type"`
	AccountID string `bun:"account_id" json:"account_id"`
	// Resource is the permission resource that a reader needs with ".read" ("calls", "jobs").
	Resource string `bun:"resource" json:"resource"`
	// ObjectID is what it is about; the call, where it is empty and there is one. Events of one object keep their order.
	ObjectID       string `bun:"object_id,nullzero" json:"object_id,omitempty"`
	CallID         string `bun:"call_id,nullzero" json:"call_id,omitempty"`
	ConversationID string `bun:"conversation_id,nullzero" json:"conversation_id,omitempty"`
	// Sequence counts the events of a call from 1, without gap. It is 0 for an event that is no part of that count.
	Sequence int64 `bun:"sequence" json:"sequence,omitempty"`
	// Position is the event's place in the feed of the installation, from 1, without gap; the positions of one account
	// rise. It is 0 for the few milliseconds until the event has one.
	Position   int64     `bun:"position,nullzero" json:"position,omitempty"`
	OccurredAt time.Time `bun:"occurred_at" json:"occurred_at"`
	CreatedAt  time.Time `bun:"created_at" json:"-"`
	// OwnerID and DepartmentID are the object's, for readers whose data scope is narrower than the account.
	OwnerID      string          `bun:"owner_id,nullzero" json:"-"`
	DepartmentID string          `bun:"department_id,nullzero" json:"-"`
	Data         json.RawMessage `bun:"data,type:jsonb" json:"data"` // a JSON object
}

// insertMost bounds the rows of one INSERT.
const insertMost = 500

// Emit writes events in the transaction of the change that they tell of. It fills ID and OccurredAt where they are
// empty, and CreatedAt; nothing happens to them before the transaction is committed. Data must be a JSON object; nil is
// an empty one. Feed.Wake after the commit makes their readers see them sooner.
func Emit(ctx context.Context, tx *db.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	now := db.Now()
	rows := make([]Event, len(events))
	for i, e := range events {
		if err := e.settle(now); err != nil {
			return err
		}
		rows[i] = e
	}
	for len(rows) > 0 {
		n := min(len(rows), insertMost)
		part := rows[:n]
		if _, err := tx.Write().NewInsert().Model(&part).Exec(ctx); err != nil {
			return db.Check(fmt.Errorf("emit %s: %w", part[0].Type, err))
		}
		rows = rows[n:]
	}
	return nil
}

// kind is what a type looks like: it is one line in a stream, and matched by patterns.
var kind = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)

// settle completes an event that is about to be written.
func (e *Event) settle(now time.Time) error {
	if e.AccountID == "" || e.Type == "" || e.Resource == "" {
		return fmt.Errorf("emit: the event %q needs an account, a type and a resource", e.Type)
	}
	if !kind.MatchString(e.Type) {
		return fmt.Errorf("emit: %q is no type of an event; it must be like call.ended", e.Type)
	}
	if e.Sequence != 0 && e.CallID == "" {
		return fmt.Errorf("emit %s: a sequence counts the events of a call, and it has none", e.Type)
	}
	if e.ID == "" {
		e.ID = db.NewID("evt")
	}
	if e.ObjectID == "" {
		e.ObjectID = e.CallID
	}
	if e.OccurredAt.IsZero() {
		e.OccurredAt = now
	}
	e.OccurredAt, e.CreatedAt, e.Position = e.OccurredAt.UTC().Truncate(time.Microsecond), now, 0
	data, err := storable(e.Data)
	if err != nil {
		return fmt.Errorf("emit %s: %w", e.Type, err)
	}
	e.Data = data
	return nil
}

// storable is an event's data as both databases can hold it: texts from the network may have NUL or half a surrogate
// pair, which PostgreSQL's jsonb refuses, so that the change itself could never be committed.
func storable(data json.RawMessage) (json.RawMessage, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return json.RawMessage("{}"), nil
	}
	if data[0] != '{' || !json.Valid(data) {
		return nil, fmt.Errorf("the data must be a JSON object")
	}
	if !bytes.Contains(data, []byte(`\u`)) && bytes.Equal(bytes.ToValidUTF8(data, nil), data) {
		return data, nil
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	// Decoding makes U+FFFD of half a pair and of bytes that are no UTF-8.
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	text, err := json.Marshal(withoutNUL(value))
	// A backslash followed by u0000 is a text like any other. bun takes it for a NUL and breaks it, so it is spelt otherwise.
	return bytes.ReplaceAll(text, []byte(`\\u0000`), []byte(`\u005cu0000`)), err
}

// Subject is what the order of events is kept by: the call, else the object, else the event alone.
func (e Event) Subject() string {
	switch {
	case e.CallID != "":
		return e.CallID
	case e.ObjectID != "":
		return e.ObjectID
	}
	return e.ID
}

// Encode writes an event as it is sent: the body of a delivery, the data of a streamed event. The same event gives the
// same bytes.
func Encode(e Event) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
