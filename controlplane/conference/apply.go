package conference

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Apply makes rows of what the events of calls tell, in the transaction that stores these: it is one of
// call.Service.Also. The events of one conference are those of many calls, which are stored in any order between each
// other: what is told of a conference that is not known makes it, and what ends one ends it for good.
func (s *Service) Apply(ctx context.Context, tx *db.Tx, events []webhooks.Event) error {
	for _, e := range events {
		if err := apply(ctx, tx, e); err != nil {
			return db.Check(err)
		}
	}
	return nil
}

func apply(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	switch e.Type {
	case webhooks.EventCallEnded:
		return hungUp(ctx, tx, e)
	case webhooks.EventRecordingStarted:
		if e.Data.ConferenceID == "" {
			return nil
		}
		return amend(ctx, tx, e, func(q *bun.UpdateQuery) *bun.UpdateQuery { return q.Set("recording_id = ?", e.Data.RecordingID) })
	case webhooks.EventConferenceJoined:
		return joined(ctx, tx, e)
	case webhooks.EventConferenceLeft:
		return left(ctx, tx, e)
	case webhooks.EventConferenceMuted, webhooks.EventConferenceUnmuted, webhooks.EventConferenceHeld, webhooks.EventConferenceUnheld,
		webhooks.EventConferenceModified:
		_, err := stay(tx, e).Exec(ctx)
		return err
	case webhooks.EventConferenceStarted:
		if err := known(ctx, tx, e); err != nil {
			return err
		}
		return amend(ctx, tx, e, func(q *bun.UpdateQuery) *bun.UpdateQuery {
			return q.Set("started_at = ?", e.OccurredAt).
				Set("status = CASE status WHEN ? THEN ? ELSE status END", StatusWaiting, StatusInProgress)
		})
	case webhooks.EventConferenceEnded:
		if err := known(ctx, tx, e); err != nil {
			return err
		}
		return amend(ctx, tx, e, func(q *bun.UpdateQuery) *bun.UpdateQuery {
			return q.Set("status = ?", StatusCompleted).Set("ended_at = ?", e.OccurredAt).Set("duration = ?", e.Data.Duration).
				Set("reason = ?", e.Data.Reason).Set("ended_by_call_id = ?", bun.NullZero(e.Data.EndedByCall))
		})
	}
	return nil
}

// known makes the conference of an event, unless there is one.
func known(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	owned, err := ownerOf(ctx, tx, e)
	if err != nil {
		return err
	}
	c := &Conference{
		Row: rowOf(string(e.Data.ConferenceID), e), Owned: owned, Name: e.Data.Name, Status: StatusWaiting,
	}
	_, err = tx.Write().NewInsert().Model(c).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	return err
}

func rowOf(id string, e webhooks.Event) db.Row {
	now := db.Now()
	return db.Row{ID: id, AccountID: string(e.AccountID), Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1"}
}

// ownerOf is whose the call of an event is; nobody's where it is not known.
func ownerOf(ctx context.Context, tx *db.Tx, e webhooks.Event) (db.Owned, error) {
	var of call.Call
	err := tx.Read().NewSelect().Model(&of).Column("owner_id", "department_id").
		Where("id = ?", e.CallID).Where("account_id = ?", e.AccountID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return db.Owned{}, nil
	}
	return of.Owned, err
}

// amend changes the conference of an event.
func amend(ctx context.Context, tx *db.Tx, e webhooks.Event, set func(*bun.UpdateQuery) *bun.UpdateQuery) error {
	q := tx.Write().NewUpdate().Model((*Conference)(nil)).
		Set("updated_at = ?", db.Now()).Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
		Where("id = ?", e.Data.ConferenceID).Where("account_id = ?", e.AccountID)
	_, err := set(q).Exec(ctx)
	return err
}

func joined(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	if err := known(ctx, tx, e); err != nil {
		return err
	}
	owned, err := ownerOf(ctx, tx, e)
	if err != nil {
		return err
	}
	p := &Participant{
		Row:   rowOf("cpt"+strings.TrimPrefix(string(e.ID), "evt"), e),
		Owned: owned, ConferenceID: e.Data.ConferenceID, CallID: e.CallID, Label: e.Data.Label, Mode: e.Data.Mode,
		Muted: yes(e.Data.Muted), Held: yes(e.Data.Held), StartOnEnter: yes(e.Data.StartOnEnter), EndOnExit: yes(e.Data.EndOnExit),
		JoinedAt: e.OccurredAt,
	}
	if _, err := tx.Write().NewInsert().Model(p).On("CONFLICT (id) DO NOTHING").Exec(ctx); err != nil {
		return err
	}
	return count(ctx, tx, e)
}

func yes(v *bool) bool { return v != nil && *v }

// stay is a change of what is known of the participant of an event, as the event tells it.
func stay(tx *db.Tx, e webhooks.Event) *bun.UpdateQuery {
	return tx.Write().NewUpdate().Model((*Participant)(nil)).
		Set("mode = ?", e.Data.Mode).Set("muted = ?", yes(e.Data.Muted)).Set("held = ?", yes(e.Data.Held)).
		Set("end_on_exit = ?", yes(e.Data.EndOnExit)).
		Set("updated_at = ?", db.Now()).Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
		Where("conference_id = ?", e.Data.ConferenceID).Where("call_id = ?", e.CallID).Where("left_at IS NULL")
}

func left(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	q := stay(tx, e).Set("left_at = ?", e.OccurredAt).Set("duration = ?", e.Data.Duration).Set("reason = ?", e.Data.Reason)
	if _, err := q.Exec(ctx); err != nil {
		return err
	}
	return count(ctx, tx, e)
}

// count brings the number of those who are in a conference up to date.
func count(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	return amend(ctx, tx, e, func(q *bun.UpdateQuery) *bun.UpdateQuery {
		return q.Set("participants = (SELECT COUNT(*) FROM conference_participants AS p WHERE p.conference_id = ? AND p.left_at IS NULL)", e.Data.ConferenceID)
	})
}

// hungUp ends the stay of a call whose edge could not tell that it left, and with the last of them the conference: an
// edge that is lost takes its rooms with it.
func hungUp(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	var open []webhooks.ConferenceID
	err := tx.Read().NewSelect().Model((*Participant)(nil)).Column("conference_id").
		Where("call_id = ?", e.CallID).Where("left_at IS NULL").Scan(ctx, &open)
	if err != nil {
		return err
	}
	for _, id := range open {
		_, err := tx.Write().NewUpdate().Model((*Participant)(nil)).
			Set("left_at = ?", e.OccurredAt).Set("reason = ?", webhooks.ParticipantHungUp).
			Set("updated_at = ?", db.Now()).Set("etag = CAST(CAST(etag AS bigint) + 1 AS text)").
			Where("conference_id = ?", id).Where("call_id = ?", e.CallID).Where("left_at IS NULL").Exec(ctx)
		if err != nil {
			return err
		}
		of := e
		of.Data = webhooks.EventData{ConferenceID: id}
		if err := count(ctx, tx, of); err != nil {
			return err
		}
		_, err = tx.Write().NewUpdate().Model((*Conference)(nil)).
			Set("status = ?", StatusCompleted).Set("ended_at = ?", e.OccurredAt).Set("reason = ?", webhooks.ConferenceLastLeft).
			Where("id = ?", id).Where("participants = 0").Where("status <> ?", StatusCompleted).Exec(ctx)
		if err != nil {
			return err
		}
	}
	return nil
}
