package recording

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	maxSegments = 1 << 16 // 22 days of 30 s each
	grantFor    = 5 * time.Minute
)

// Grant lets an edge put one segment of a recording, of so many bytes. Errors: call.ErrFenced, call.ErrRefused; any
// other may pass.
func (s *Service) Grant(ctx context.Context, o call.Owner, id webhooks.RecordingID, segment int, size int64) (blob.Grant, error) {
	if segment < 1 || segment > maxSegments || size < 1 {
		return blob.Grant{}, fmt.Errorf("%w: segment %d of %d bytes", call.ErrRefused, segment, size)
	}
	if err := s.owned(ctx, o, id); err != nil {
		return blob.Grant{}, err
	}
	if r, err := s.find(ctx, o, id); err != nil {
		return blob.Grant{}, err
	} else if r != nil && r.Status == StatusDeleted {
		return blob.Grant{}, fmt.Errorf("%w: the recording was deleted", call.ErrRefused)
	}
	return s.Blobs.SignedPut(ctx, segmentKey(string(o.AccountID), id, segment), grantFor, size)
}

// owned checks that the call is the account's and that nobody has taken it over.
func (s *Service) owned(ctx context.Context, o call.Owner, id webhooks.RecordingID) error {
	if !ids.MatchString(string(id)) || !ids.MatchString(string(o.AccountID)) {
		return fmt.Errorf("%w: %.64q is no id of a recording", call.ErrRefused, id)
	}
	c, err := s.Calls.Get(ctx, o.CallID)
	switch {
	case err != nil && problem.From(err).Code == problem.CodeNotFound:
		return s.unknown(ctx, o, id)
	case err != nil:
		return err
	case c.AccountID != string(o.AccountID):
		return fmt.Errorf("%w: the call is not of account %s", call.ErrRefused, o.AccountID)
	case o.Epoch < c.Epoch:
		return call.ErrFenced
	}
	return nil
}

// find reads a recording's row, nil where there is none.
func (s *Service) find(ctx context.Context, o call.Owner, id webhooks.RecordingID) (*Recording, error) {
	r, err := db.Find[Recording](ctx, s.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("id = ?", id) })
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	case r.AccountID != string(o.AccountID) || r.CallID != o.CallID:
		return nil, fmt.Errorf("%w: the recording is not of call %s", call.ErrRefused, o.CallID)
	}
	return r, nil
}

// Finish says what a recording consists of: raw G.711, Channels octets per sampling instant.
type Finish struct {
	call.Owner
	RecordingID webhooks.RecordingID
	Codec       string // PCMU or PCMA
	Channels    int
	Segments    int
	Samples     int64  // per channel; what the segments hold beyond is cut
	Failure     string // why the recording is not whole
}

// Finished is the file that was made.
type Finished struct {
	Size     int64
	Duration webhooks.Seconds
}

// Finish makes the file of a recording's segments and removes these. Repeating it gives the same answer; with segments
// that were shipped anew it makes the file anew. What of the segments is missing is left out, and the row says so.
// Errors: call.ErrFenced, call.ErrRefused; any other may pass.
func (s *Service) Finish(ctx context.Context, f Finish) (done Finished, err error) {
	if _, ok := tableOf(f.Codec); !ok || f.Channels < 1 || f.Channels > 2 || f.Segments < 0 || f.Segments > maxSegments || f.Samples < 0 {
		return done, fmt.Errorf("%w: %d segments of %d channels in %q with %d samples", call.ErrRefused, f.Segments, f.Channels, f.Codec, f.Samples)
	}
	if err := s.owned(ctx, f.Owner, f.RecordingID); err != nil {
		return done, err
	}
	err = s.DB.Lock(ctx, "recording."+string(f.RecordingID), func(ctx context.Context) error {
		r, err := s.find(ctx, f.Owner, f.RecordingID)
		if err != nil {
			return err
		}
		if r == nil {
			if r, err = s.insert(ctx, f); err != nil {
				return err
			}
		}
		done, err = s.finish(ctx, r, f)
		return err
	})
	return done, err
}

// insert makes the row of a recording whose recording.started has not come yet.
func (s *Service) insert(ctx context.Context, f Finish) (*Recording, error) {
	at := db.Now().Add(-duration(f.Samples).Duration())
	r := newRow(f.AccountID, f.CallID, f.RecordingID, at, f.Channels, f.Codec)
	if err := own(ctx, s.DB, r); err != nil {
		return nil, err
	}
	_, err := s.DB.Write().NewInsert().Model(r).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	return r, db.Check(err)
}

func duration(samples int64) webhooks.Seconds {
	return webhooks.SecondsOf(time.Duration(samples) * time.Second / sampleRate)
}

const lostOnTheWay = "part of the audio was lost on its way to the store"

func (s *Service) finish(ctx context.Context, r *Recording, f Finish) (Finished, error) {
	id := webhooks.RecordingID(r.ID)
	if r.Status == StatusDeleted {
		return Finished{}, errors.Join(fmt.Errorf("%w: the recording was deleted", call.ErrRefused), s.removeSegments(ctx, r.AccountID, id, f.Segments))
	}
	_, octets, err := s.measure(ctx, r.AccountID, id, f.Segments)
	if err != nil {
		return Finished{}, err
	}
	if octets == 0 && r.Status == StatusCompleted { // as before
		return Finished{Size: r.Size, Duration: r.Duration}, s.removeSegments(ctx, r.AccountID, id, f.Segments)
	}
	r.Channels, r.Codec, r.Segments, r.Failure = f.Channels, f.Codec, f.Segments, f.Failure
	samples := min(f.Samples, octets/int64(f.Channels), maxData/int64(2*f.Channels))
	if samples < f.Samples && r.Failure == "" {
		r.Failure = lostOnTheWay
	}
	if err := s.complete(ctx, r, samples); err != nil {
		return Finished{}, err
	}
	return Finished{Size: r.Size, Duration: r.Duration}, s.removeSegments(ctx, r.AccountID, id, f.Segments)
}

// measure counts the segments there are, up to the first that is missing, and their octets. most bounds how many are
// looked for.
func (s *Service) measure(ctx context.Context, account string, id webhooks.RecordingID, most int) (segments int, octets int64, err error) {
	for segments < most {
		info, err := s.Blobs.Stat(ctx, segmentKey(account, id, segments+1))
		if errors.Is(err, blob.ErrNotFound) {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		segments++
		octets += info.Size
	}
	return segments, octets, nil
}

// complete makes the file of so many samples, and writes the row.
func (s *Service) complete(ctx context.Context, r *Recording, samples int64) error {
	id := webhooks.RecordingID(r.ID)
	r.Status, r.Duration, r.Size = StatusCompleted, duration(samples), headerSize+samples*int64(2*r.Channels)
	if samples == 0 {
		r.Status, r.Size = StatusFailed, 0
	} else if err := s.assemble(ctx, r, samples); err != nil {
		return fmt.Errorf("recording %s: %w", id, err)
	}
	result, err := s.DB.Write().NewUpdate().Model(r).Column("status", "duration", "channels", "size", "failure", "codec", "segments").
		Set("updated_at = ?", db.Now()).Set(raisedEtag).
		Where("id = ?", r.ID).Where("status <> ?", StatusDeleted).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	// Deleted while the file was made.
	return errors.Join(fmt.Errorf("%w: the recording was deleted", call.ErrRefused), s.Blobs.Delete(ctx, fileKey(r.AccountID, id)))
}

func (s *Service) assemble(ctx context.Context, r *Recording, samples int64) error {
	id := webhooks.RecordingID(r.ID)
	table, ok := tableOf(r.Codec)
	if !ok {
		return fmt.Errorf("%w: the codec %q is none of ours", call.ErrRefused, r.Codec)
	}
	octets := samples * int64(r.Channels)
	audio := &file{
		ctx: ctx, blobs: s.Blobs, table: table, left: octets,
		key: func(n int) string { return segmentKey(r.AccountID, id, n) },
	}
	body := io.MultiReader(bytes.NewReader(header(r.Channels, 2*octets)), audio)
	err := s.Blobs.Put(ctx, fileKey(r.AccountID, id), body, r.Size)
	return errors.Join(err, audio.Close())
}

// removeSegments goes from the first on, so that what is left after a failure counts as none.
func (s *Service) removeSegments(ctx context.Context, account string, id webhooks.RecordingID, segments int) error {
	for n := 1; n <= segments; n++ {
		if err := s.Blobs.Delete(ctx, segmentKey(account, id, n)); err != nil {
			return err
		}
	}
	return nil
}

// Abandoned lists up to most recordings that nobody will finish: still recording although their call has ended, on
// edges as in call.Abandoned (whose QuietSince is that of the recording's call).
func (s *Service) Abandoned(ctx context.Context, a call.Abandoned, most int) ([]webhooks.RecordingID, error) {
	q := s.DB.Read().NewSelect().Model((*Recording)(nil)).ColumnExpr("?TableAlias.id").
		Join("JOIN calls AS c ON c.id = ?TableAlias.call_id").
		Where("?TableAlias.status = ?", StatusRecording).Where("c.ended_at IS NOT NULL")
	var found []webhooks.RecordingID
	err := a.Where(q, "c").OrderExpr("?TableAlias.id").Limit(int64(most)).Scan(ctx, &found)
	return found, db.Check(err)
}

// What the row and the event say of a recording whose edge was lost.
const (
	lostInPart = "the edge was lost while recording; this is what it had sent before"
	lostWhole  = "the edge was lost before it had sent any of the audio"
)

// Rescue finishes a recording whose edge was lost, from what it had shipped, and tells which event says so; told is
// false when there was nothing to be done. The segments stay, for an edge that comes back after all.
func (s *Service) Rescue(ctx context.Context, id webhooks.RecordingID) (of webhooks.CallID, kind webhooks.EventType, data webhooks.EventData, told bool, err error) {
	err = s.DB.Lock(ctx, "recording."+string(id), func(ctx context.Context) error {
		r, err := db.Get[Recording](ctx, s.DB, auth.Everywhere(), string(id))
		if err != nil || r.Status != StatusRecording {
			return err
		}
		segments, octets, err := s.measure(ctx, r.AccountID, id, maxSegments)
		if err != nil {
			return err
		}
		if _, ok := tableOf(r.Codec); !ok {
			octets = 0 // nobody could read it
		}
		r.Segments, r.Failure = segments, lostInPart
		if octets == 0 {
			r.Failure = lostWhole
		}
		if err := s.complete(ctx, r, octets/int64(r.Channels)); err != nil {
			return err
		}
		of, told = r.CallID, true
		kind, data = webhooks.EventRecordingCompleted, webhooks.EventData{
			RecordingID: id, Channels: r.Channels, Format: r.Format, Duration: &r.Duration, Size: r.Size, Message: r.Failure,
		}
		if r.Status == StatusFailed {
			kind, data = webhooks.EventRecordingFailed, webhooks.EventData{RecordingID: id, Code: string(webhooks.CauseEdgeLost), Message: r.Failure}
		}
		return nil
	})
	return of, kind, data, told, err
}
