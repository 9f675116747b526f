// Package recording owns recordings: their rows, the segments that edges ship, and the file that is made of these. What
// is recorded and when is left to the programs that edges run, where bytes lie to package blob.
package recording

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Status is where a recording stands.
type Status string

// The statuses of a recording. One in which nothing was said (recording.failed with code "empty") is no recording: its
// row is removed.
const (
	StatusRecording Status = "recording" // being recorded, or still on its way to us
	StatusCompleted Status = "completed" // the file is there
	StatusFailed    Status = "failed"    // there is no file
	StatusDeleted   Status = "deleted"   // there was one
)

// Recording is what is known of one recording.
type Recording struct {
	bun.BaseModel `bun:"table:recordings" json:"-"`
	db.Row
	db.Owned

	CallID    webhooks.CallID  `bun:"call_id" json:"call_id"`
	Status    Status           `bun:"status" json:"status"`
	StartedAt time.Time        `bun:"started_at" json:"started_at"`
	Duration  webhooks.Seconds `bun:"duration" json:"duration"` // 0 until it is completed
	Channels  int              `bun:"channels" json:"channels"`
	Format    string           `bun:"format" json:"format"`                      // wav: 16-bit PCM, 8 kHz
	Size      int64            `bun:"size" json:"size"`                          // bytes of the file
	Failure   string           `bun:"failure,nullzero" json:"failure,omitempty"` // why it is not whole

	Codec    string `bun:"codec" json:"-"`    // of the segments
	Segments int    `bun:"segments" json:"-"` // that the file was made of
}

const formatWAV = "wav"

// Service is the recordings of an installation.
type Service struct {
	DB    *db.DB
	Blobs *blob.Store
	Calls *call.Service
	// Keep is how long an account wants its recordings kept, 0 for ever; nil is for ever. Its limit may be shorter: see Purge.
	Keep func(ctx context.Context, account webhooks.AccountID) (time.Duration, error)
}

// ids are what our own ids look like: their letters are safe in the key of a blob.
var ids = regexp.MustCompile(`^[a-z]+_[0-9A-Za-z]+$`)

func fileKey(account string, id webhooks.RecordingID) string {
	return fmt.Sprintf("recordings/%s/%s.wav", account, id)
}

func segmentKey(account string, id webhooks.RecordingID, n int) string {
	return fmt.Sprintf("recordings/%s/%s/%d.g711", account, id, n)
}

// Apply keeps the rows in step with the events of calls, in the transaction that stores these: it is one of
// call.Service.Also.
func (s *Service) Apply(ctx context.Context, tx *db.Tx, events []webhooks.Event) error {
	for _, e := range events {
		var err error
		switch {
		case e.Type == webhooks.EventRecordingStarted:
			err = started(ctx, tx, e)
		case e.Type == webhooks.EventRecordingFailed && e.Data.Code == codeEmpty:
			_, err = tx.Write().NewDelete().Model((*Recording)(nil)).
				Where("id = ?", e.Data.RecordingID).Where("call_id = ?", e.CallID).Where("status = ?", StatusRecording).Exec(ctx)
		case e.Type == webhooks.EventRecordingFailed:
			// One that is completed already is merely not whole.
			_, err = tx.Write().NewUpdate().Model((*Recording)(nil)).
				Set("status = ?", StatusFailed).Set("failure = ?", e.Data.Message).Set("updated_at = ?", db.Now()).Set(raisedEtag).
				Where("id = ?", e.Data.RecordingID).Where("call_id = ?", e.CallID).Where("status = ?", StatusRecording).Exec(ctx)
		}
		if err != nil {
			return db.Check(err)
		}
	}
	return nil
}

const codeEmpty = "empty"

const raisedEtag = "etag = CAST(CAST(etag AS bigint) + 1 AS text)"

// started makes the row, unless the recording came before the news of it.
func started(ctx context.Context, tx *db.Tx, e webhooks.Event) error {
	if !ids.MatchString(string(e.Data.RecordingID)) {
		return nil
	}
	r := newRow(e.AccountID, e.CallID, e.Data.RecordingID, e.OccurredAt, e.Data.Channels, e.Data.Codec)
	if err := own(ctx, tx, r); err != nil {
		return err
	}
	_, err := tx.Write().NewInsert().Model(r).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	return err
}

func newRow(account webhooks.AccountID, call webhooks.CallID, id webhooks.RecordingID, at time.Time, channels int, codec string) *Recording {
	now := db.Now()
	return &Recording{
		Row:    db.Row{ID: string(id), AccountID: string(account), Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1"},
		CallID: call, Status: StatusRecording, StartedAt: at, Channels: max(1, channels), Format: formatWAV, Codec: codec,
	}
}

// own makes a recording the one's whose call it is of. A call that is not known, or is nobody's, leaves it nobody's.
func own(ctx context.Context, conn db.Conn, r *Recording) error {
	var of call.Call
	err := conn.Read().NewSelect().Model(&of).Column("owner_id", "department_id").
		Where("id = ?", r.CallID).Where("account_id = ?", r.AccountID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	r.Owned = of.Owned
	return db.Check(err)
}
