package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// segment is a part of a message that a provider has taken.
type segment struct {
	bun.BaseModel `bun:"table:message_segments"`

	MessageID         string `bun:"message_id,pk"`
	Position          int    `bun:"position,pk"` // from 1
	AccountID         string `bun:"account_id"`
	ProviderID        string `bun:"provider_id"`
	ProviderMessageID string `bun:"provider_message_id"` // empty for a provider that gives none
	Status            Status `bun:"status"`              // sent, delivered or undelivered
	ErrorCode         string `bun:"error_code,nullzero"`
}

// receipt is what a provider reports of something it has taken.
type receipt struct {
	bun.BaseModel `bun:"table:message_receipts"`

	ProviderID        string    `bun:"provider_id,pk"`
	ProviderMessageID string    `bun:"provider_message_id,pk"`
	AccountID         string    `bun:"account_id"`
	Status            Status    `bun:"status"` // delivered or undelivered
	ErrorCode         string    `bun:"error_code,nullzero"`
	CreatedAt         time.Time `bun:"created_at"`
}

// locking is the clause that a read needs before a write in a transaction. SQLite's has the only writer.
func locking(idb bun.IDB, clause string) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		if idb.Dialect().Name() == dialect.PG {
			return q.For(clause)
		}
		return q
	}
}

// lock reads a message that is going to be changed; nil when there is none.
func lock(ctx context.Context, tx *db.Tx, accountID, id string) (*Message, error) {
	m, err := db.Find[Message](ctx, tx, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.id = ?", id).Apply(locking(tx.Write(), "UPDATE"))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return m, err
}

// store writes a message that was locked in this transaction.
func store(ctx context.Context, tx *db.Tx, m *Message) error {
	n, err := strconv.ParseInt(m.Etag, 10, 64)
	if err != nil {
		return fmt.Errorf("message %s: etag %q is not a count", m.ID, m.Etag)
	}
	m.Etag, m.UpdatedAt = strconv.FormatInt(n+1, 10), db.Now()
	_, err = tx.Write().NewUpdate().Model(m).ExcludeColumn("id", "account_id", "created_at").WherePK().Exec(ctx)
	return db.Check(err)
}

// due lists the providers that have something to send.
func (s *Service) due(ctx context.Context) ([]string, error) {
	var ids []string
	err := s.DB.Read().NewSelect().Model((*Message)(nil)).ColumnExpr("DISTINCT provider_id").
		Where("status IN (?)", bun.List([]Status{Queued, Sending})).Where("available_at <= ?", s.now()).Scan(ctx, &ids)
	return ids, db.Check(err)
}

// claim takes up to n messages of a provider that are due, for the length of the lease, oldest first. One whose lease is
// over was being sent by a process that has ended: nobody knows what became of that attempt. Two claims never hold the
// same message: PostgreSQL skips rows that another claim has locked, SQLite has one writer.
func (s *Service) claim(ctx context.Context, providerID string, n int) ([]Message, error) {
	now := s.now()
	due := s.DB.Write().NewSelect().Model((*Message)(nil)).Column("id").Where("provider_id = ?", providerID).
		Where("status IN (?)", bun.List([]Status{Queued, Sending})).Where("available_at <= ?", now).
		OrderBy("available_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(int64(n)).Apply(locking(s.DB.Write(), "UPDATE SKIP LOCKED"))
	claimed := []Message{}
	// Why a WITH: PostgreSQL may run a subquery of IN more than once, and each time it would skip what it has locked and take
	// others beyond the limit.
	err := s.DB.Write().NewUpdate().With("due", due).Model(&claimed).
		Set("uncertain = uncertain + CASE WHEN status = ? THEN 1 ELSE 0 END", Sending).
		Set("status = ?", Sending).Set("token = token + 1").Set("attempts = attempts + 1").
		Set("available_at = ?", now.Add(or(s.Lease, 5*time.Minute))).Set("updated_at = ?", db.Now()).
		Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
		Where("id IN (SELECT id FROM due)").Returning("*").Scan(ctx)
	if err != nil {
		return nil, db.Check(fmt.Errorf("claim of %s: %w", providerID, err))
	}
	slices.SortFunc(claimed, func(a, b Message) int { return strings.Compare(a.ID, b.ID) }) // RETURNING has no order
	return claimed, nil
}

// held changes a message that was claimed, and tells of its status where that is not Queued. It does nothing, and lost is
// set, when the claim is not the latest any more, or a report has settled the message.
func (s *Service) held(ctx context.Context, claimed *Message, fn func(ctx context.Context, tx *db.Tx, m *Message) error) (lost bool, err error) {
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := lock(ctx, tx, claimed.AccountID, claimed.ID)
		if err != nil {
			return err
		}
		if lost = m == nil || m.Token != claimed.Token || m.Status != Sending; lost {
			return nil
		}
		if err := fn(ctx, tx, m); err != nil {
			return err
		}
		if err := store(ctx, tx, m); err != nil || m.Status == Queued {
			return err
		}
		return s.tell(ctx, tx, m)
	})
	return lost, err
}

// took writes that a provider has taken parts of a message. Reports that came before are put into them.
func took(ctx context.Context, tx *db.Tx, parts ...segment) error {
	for i := range parts {
		p := &parts[i]
		p.Status = Sent
		if p.ProviderMessageID == "" {
			continue
		}
		var early receipt
		_, err := tx.Write().NewDelete().Model(&early).Where("provider_id = ?", p.ProviderID).Where("provider_message_id = ?", p.ProviderMessageID).
			Returning("*").Exec(ctx)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return db.Check(err)
		}
		if early.Status != "" {
			p.Status, p.ErrorCode = early.Status, early.ErrorCode
		}
	}
	if len(parts) == 0 {
		return nil
	}
	_, err := tx.Write().NewInsert().Model(&parts).On("CONFLICT (message_id, position) DO NOTHING").Exec(ctx)
	return db.Check(err)
}

// taken lists the parts of a message that a provider has.
func taken(ctx context.Context, conn db.Conn, messageID string) ([]segment, error) {
	var parts []segment
	err := conn.Read().NewSelect().Model(&parts).Where("message_id = ?", messageID).OrderBy("position", bun.OrderAsc).Scan(ctx)
	return parts, db.Check(err)
}

// follow gives a message the status that follows from its parts: delivered with the last of them, undelivered with the
// first that is, and sent while some are neither. changed is whether it has another one now.
func (m *Message) follow(parts []segment, now time.Time) (changed bool) {
	before := m.Status
	delivered := 0
	for _, p := range parts {
		switch p.Status {
		case Undelivered:
			m.Status, m.ErrorCode, m.ErrorMessage = Undelivered, p.ErrorCode, "it did not reach the phone"
			return before != Undelivered
		case Delivered:
			delivered++
		}
	}
	if len(parts) > 0 {
		m.ProviderMessageID = parts[0].ProviderMessageID
	}
	if delivered == 0 || delivered < m.Segments && !m.inOnePiece(parts) {
		return false
	}
	m.Status, m.DeliveredAt, m.ErrorCode, m.ErrorMessage = Delivered, &now, "", ""
	if m.SentAt == nil {
		m.SentAt = &now
	}
	return before != Delivered
}

// inOnePiece reports whether a provider has taken the whole text at once, as gateways do.
func (m *Message) inOnePiece(parts []segment) bool {
	return len(parts) == 1 && parts[0].Position == whole
}

// whole is the position of a text that is taken at once.
const whole = 0

// reported writes what a provider reports of something it has taken. Of what is not known yet it is kept: the report may
// have been faster than the answer, or the answer lost.
func (s *Service) reported(ctx context.Context, p *Provider, r receipt) error {
	r.ProviderID, r.AccountID, r.CreatedAt = p.ID, p.AccountID, db.Now()
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var parts []segment
		err := tx.Read().NewSelect().Model(&parts).Where("provider_id = ?", p.ID).Where("provider_message_id = ?", r.ProviderMessageID).Limit(1).Scan(ctx)
		if err != nil {
			return db.Check(err)
		}
		if len(parts) == 0 {
			_, err := tx.Write().NewInsert().Model(&r).On("CONFLICT (provider_id, provider_message_id) DO UPDATE").
				Set("status = EXCLUDED.status").Set("error_code = EXCLUDED.error_code").Exec(ctx)
			return db.Check(err)
		}
		return s.apply(ctx, tx, parts[0], r)
	})
}

// apply puts a report into the part it is about, and that into its message. The first of several counts.
func (s *Service) apply(ctx context.Context, tx *db.Tx, part segment, r receipt) error {
	m, err := lock(ctx, tx, part.AccountID, part.MessageID)
	if err != nil || m == nil {
		return err
	}
	_, err = tx.Write().NewUpdate().Model((*segment)(nil)).Set("status = ?", r.Status).Set("error_code = ?", bun.NullZero(r.ErrorCode)).
		Where("message_id = ?", part.MessageID).Where("position = ?", part.Position).Where("status = ?", Sent).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	// While others of its parts are still to be sent, whoever sends them looks at the reports.
	if m.Status != Sent {
		return nil
	}
	parts, err := taken(ctx, tx, m.ID)
	if err != nil {
		return err
	}
	if !m.follow(parts, s.now()) {
		return nil
	}
	if err := store(ctx, tx, m); err != nil {
		return err
	}
	return s.tell(ctx, tx, m)
}

// reportedByID writes what a provider reports by our id, which it was sent with the message. So it also settles a message
// of which nobody knew whether it was taken: it is not sent again.
func (s *Service) reportedByID(ctx context.Context, p *Provider, messageID string, r receipt) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := lock(ctx, tx, p.AccountID, messageID)
		if err != nil || m == nil || m.ProviderID != p.ID || m.Direction != Outbound || m.Attempts == 0 {
			return err
		}
		open := m.Status == Sent || m.Status == Sending || m.Status == Queued || (m.Status == Failed && m.ErrorCode == codeUnknown)
		if !open {
			return nil
		}
		part := segment{MessageID: m.ID, Position: whole, AccountID: m.AccountID, ProviderID: p.ID, ProviderMessageID: r.ProviderMessageID}
		if err := took(ctx, tx, part); err != nil {
			return err
		}
		_, err = tx.Write().NewUpdate().Model((*segment)(nil)).Set("status = ?", r.Status).Set("error_code = ?", bun.NullZero(r.ErrorCode)).
			Where("message_id = ?", m.ID).Where("status = ?", Sent).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		parts, err := taken(ctx, tx, m.ID)
		if err != nil {
			return err
		}
		if !m.follow(parts, s.now()) {
			return nil
		}
		m.Token++ // whoever is sending it has lost it
		if err := store(ctx, tx, m); err != nil {
			return err
		}
		return s.tell(ctx, tx, m)
	})
}
