package db

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"
)

// Message is something to be done after a commit, at least once: written in the transaction of the change that
// caused it, claimed by a worker, and removed when done. Messages of a topic are claimed oldest first; one that is
// retried does not hold back later ones.
type Message struct {
	bun.BaseModel `bun:"table:outbox"`

	ID          string          `bun:"id,pk"`
	AccountID   string          `bun:"account_id,nullzero"`
	Topic       string          `bun:"topic"`
	Payload     json.RawMessage `bun:"payload,type:jsonb"` // an object or an array
	Attempts    int64           `bun:"attempts"`           // claims so far, this one included
	AvailableAt time.Time       `bun:"available_at"`
	ClaimID     string          `bun:"claim_id,nullzero"`
	CreatedAt   time.Time       `bun:"created_at"`
}

// Enqueue puts a message into the outbox, to be claimed from at on (zero: at once). Call it with the Tx of the
// change. payload must marshal to a JSON object or array.
func Enqueue(ctx context.Context, tx *Tx, accountID, topic string, payload any, at time.Time) error {
	text, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("enqueue %s: %w", topic, err)
	}
	if text[0] != '{' && text[0] != '[' {
		return fmt.Errorf("enqueue %s: the payload must be an object or an array", topic)
	}
	m := Message{ID: NewID("out"), AccountID: accountID, Topic: topic, Payload: text, AvailableAt: at.UTC().Truncate(time.Microsecond), CreatedAt: Now()}
	if at.IsZero() {
		m.AvailableAt = m.CreatedAt
	}
	_, err = tx.Write().NewInsert().Model(&m).Exec(ctx)
	return Check(err)
}

// Claim takes up to n messages of a topic for the length of the lease. A message neither Done nor Retried when
// the lease ends can be claimed again, by anyone. Two claims never hold the same message: PostgreSQL skips rows
// that another claim has locked, SQLite has one writer.
func (d *DB) Claim(ctx context.Context, topic string, n int, lease time.Duration) ([]Message, error) {
	now := Now()
	claim := NewID("claim")
	due := d.write.NewSelect().Model((*Message)(nil)).Column("id").
		Where("topic = ?", topic).Where("available_at <= ?", now).
		OrderBy("available_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(int64(n))
	if d.postgres() {
		due = due.For("UPDATE SKIP LOCKED")
	}
	claimed := []Message{}
	// The rows are chosen in a table of its own: PostgreSQL may run a subquery in WHERE more than once, and each time locks
	// others than those it has locked already, so that more than n came.
	err := d.write.NewUpdate().Model(&claimed).With("due", due).
		Set("claim_id = ?", claim).
		Set("attempts = attempts + 1").
		Set("available_at = ?", now.Add(lease)).
		Where("id IN (SELECT id FROM due)").Returning("*").Scan(ctx)
	if err != nil {
		return nil, Check(fmt.Errorf("claim %s: %w", topic, err))
	}
	// RETURNING has no order.
	slices.SortFunc(claimed, func(a, b Message) int { return strings.Compare(a.ID, b.ID) })
	return claimed, nil
}

// Done removes claimed messages. Those claimed anew by another since are left to it.
func (d *DB) Done(ctx context.Context, claimed ...Message) error {
	if len(claimed) == 0 {
		return nil
	}
	ids := make([]string, 0, len(claimed))
	claims := make([]string, 0, len(claimed))
	for _, m := range claimed {
		ids = append(ids, m.ID)
		claims = append(claims, m.ClaimID)
	}
	_, err := d.write.NewDelete().Model((*Message)(nil)).
		Where("id IN (?)", bun.List(ids)).Where("claim_id IN (?)", bun.List(claims)).Exec(ctx)
	return Check(err)
}

// Retry gives a claimed message back, to be claimed again from at on, unless another has claimed it since.
func (d *DB) Retry(ctx context.Context, m Message, at time.Time) error {
	_, err := d.write.NewUpdate().Model((*Message)(nil)).
		Set("claim_id = NULL").Set("available_at = ?", at.UTC().Truncate(time.Microsecond)).
		Where("id = ?", m.ID).Where("claim_id = ?", m.ClaimID).Exec(ctx)
	return Check(err)
}
