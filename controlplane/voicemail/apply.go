package voicemail

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Taking is how a message is taken for a mailbox.
type Taking struct {
	Mailbox
	Program *webhooks.Program // the greeting; nil for the system's own
}

// ErrDisabled is what Take of a mailbox that takes nothing fails with.
var ErrDisabled = errors.New("the mailbox is disabled")

// Take says how a message is taken for the mailbox of this id, extension or name. One that is not there is a NotFound
// problem.
func (s *Service) Take(ctx context.Context, account webhooks.AccountID, name string) (Taking, error) {
	m, err := find(ctx, s.DB, string(account), name)
	switch {
	case err != nil:
		return Taking{}, err
	case m == nil:
		return Taking{}, problem.NotFound("there is no mailbox " + name + " in this account")
	case !m.Enabled:
		return Taking{}, ErrDisabled
	}
	p, err := m.greeting()
	return Taking{Mailbox: *m, Program: p}, err
}

// find is the mailbox of an id, an extension or a name, in this order; nil when there is none.
func find(ctx context.Context, conn db.Conn, account, name string) (*Mailbox, error) {
	by := []func(*bun.SelectQuery) *bun.SelectQuery{
		func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("?TableAlias.credential_id IN (SELECT id FROM credentials WHERE account_id = ? AND extension = ?)", account, name)
		},
		func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("?TableAlias.name = ?", name) },
	}
	if strings.HasPrefix(name, idPrefix) {
		by = []func(*bun.SelectQuery) *bun.SelectQuery{func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("?TableAlias.id = ?", name) }}
	}
	for _, where := range by {
		m, err := db.Find[Mailbox](ctx, conn, auth.Account(account), where)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
	}
	return nil, nil
}

// codeEmpty is that of a recording.failed in which there was too little.
const codeEmpty = "empty"

// Apply makes messages of what the events of calls tell, in the transaction that stores these: it is one of
// call.Service.Also, after that of the recordings.
func (s *Service) Apply(ctx context.Context, tx *db.Tx, events []webhooks.Event) error {
	for _, e := range events {
		var err error
		switch {
		case e.Type == webhooks.EventRecordingStarted && e.Data.Mailbox != "":
			err = await(ctx, tx, e)
		case e.Type == webhooks.EventRecordingFailed && e.Data.Code == codeEmpty:
			_, err = drop(ctx, tx, e)
		case e.Type == webhooks.EventRecordingCompleted:
			err = arrived(ctx, tx, e)
		}
		if err != nil {
			return db.Check(err)
		}
	}
	return nil
}

// await notes that a message is being recorded.
func await(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	p := &pending{
		RecordingID: e.Data.RecordingID, AccountID: string(e.AccountID), CallID: e.CallID, Mailbox: e.Data.Mailbox, StartedAt: e.OccurredAt,
	}
	_, err := tx.Write().NewInsert().Model(p).On("CONFLICT (recording_id) DO NOTHING").Exec(ctx)
	return err
}

// drop forgets that, and tells whether it was known.
func drop(ctx context.Context, tx *db.Tx, e webhooks.Event) (bool, error) {
	done, err := tx.Write().NewDelete().Model((*pending)(nil)).Where("recording_id = ?", e.Data.RecordingID).Where("call_id = ?", e.CallID).Exec(ctx)
	if err != nil {
		return false, err
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// arrived makes the message whose recording is complete. One that is completed again, because more of it was found, is
// amended.
func arrived(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	p := new(pending)
	err := tx.Read().NewSelect().Model(p).Where("recording_id = ?", e.Data.RecordingID).Where("call_id = ?", e.CallID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return amend(ctx, tx, e)
	}
	if err != nil {
		return err
	}
	if _, err := drop(ctx, tx, e); err != nil {
		return err
	}
	v, err := made(ctx, tx, p, e)
	if err != nil || v == nil {
		return err
	}
	done, err := tx.Write().NewInsert().Model(v).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return tell(ctx, tx, "voicemail.left", v)
}

func durationOf(e webhooks.Event) webhooks.Seconds {
	if e.Data.Duration == nil {
		return 0
	}
	return *e.Data.Duration
}

// made is the message of a recording; nil when the recording is too short to be one, which the edge would have found out
// had it lived.
func made(ctx context.Context, tx *db.Tx, p *pending, e webhooks.Event) (*Voicemail, error) {
	m, err := find(ctx, tx, p.AccountID, p.Mailbox)
	if err != nil {
		return nil, err
	}
	if m != nil && durationOf(e) < m.MinLength {
		return nil, nil
	}
	now := db.Now()
	v := &Voicemail{
		Row:    db.Row{ID: string(p.RecordingID.Voicemail()), AccountID: p.AccountID, Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1"},
		CallID: p.CallID, RecordingID: p.RecordingID, Duration: durationOf(e), Size: e.Data.Size, LeftAt: p.StartedAt,
	}
	of, err := callOf(ctx, tx, p)
	if err != nil {
		return nil, err
	}
	v.ConversationID, v.From, v.To, v.Owned = of.ConversationID, of.From, of.To, of.Owned
	if of.Direction != webhooks.Inbound {
		v.From, v.To = of.To, of.From // whoever we have called has left it
	}
	if m == nil {
		v.MailboxName = p.Mailbox
		return v, nil
	}
	v.MailboxID, v.Owned = m.ID, m.Owned
	return v, nil
}

// callOf is the call that a message was left in; an empty one where it is not known.
func callOf(ctx context.Context, tx *db.Tx, p *pending) (call.Call, error) {
	var of call.Call
	err := tx.Read().NewSelect().Model(&of).Where("id = ?", p.CallID).Where("account_id = ?", p.AccountID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return call.Call{Direction: webhooks.Inbound}, nil
	}
	return of, err
}

func amend(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	_, err := tx.Write().NewUpdate().Model((*Voicemail)(nil)).
		Set("duration = ?", durationOf(e)).Set("size = ?", e.Data.Size).Set("updated_at = ?", db.Now()).
		Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
		Where("id = ?", e.Data.RecordingID.Voicemail()).Where("call_id = ?", e.CallID).Exec(ctx)
	return err
}
