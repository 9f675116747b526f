package recording_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

const day = 24 * time.Hour

// aged makes a recording of some age.
func (f *fixture) aged(t *testing.T, id webhooks.RecordingID, age time.Duration) {
	t.Helper()
	f.start(t, id, "PCMA", 1)
	f.ship(t, id, 1, octets(8000))
	f.finish(t, recording.Finish{RecordingID: id, Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000})
	f.age(t, id, age)
}

func (f *fixture) age(t *testing.T, id webhooks.RecordingID, age time.Duration) {
	t.Helper()
	if _, err := f.DB.Write().NewRaw("UPDATE recordings SET created_at = ? WHERE id = ?", db.Now().Add(-age), id).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// limit sets the account's Limits.RetentionDays.
func (f *fixture) limit(t *testing.T, days int) {
	t.Helper()
	if _, err := f.DB.Write().NewRaw("UPDATE accounts SET limits = ? WHERE id = ?", fmt.Sprintf(`{"retention_days": %d}`, days), resttest.Account).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// keep is a Keep by which Account keeps recordings for some days, and every other account for ever.
func keep(days int) func(context.Context, webhooks.AccountID) (time.Duration, error) {
	return func(_ context.Context, id webhooks.AccountID) (time.Duration, error) {
		if id != resttest.Account {
			return 0, nil
		}
		return time.Duration(days) * day, nil
	}
}

func (f *fixture) purge(t *testing.T) {
	t.Helper()
	if err := f.recordings.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordingsAreKeptForTheShorterOfBothTimes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		for _, age := range []int{1, 5, 10, 20} {
			f.aged(t, webhooks.RecordingID(fmt.Sprintf("rec_%d", age)), time.Duration(age)*day)
		}
		for _, c := range []struct {
			keep, limit int // days; keep -1 for no Keep
			want        string
		}{
			{-1, 0, "rec_1.wav rec_10.wav rec_20.wav rec_5.wav"},
			{0, 0, "rec_1.wav rec_10.wav rec_20.wav rec_5.wav"},
			{-1, 15, "rec_1.wav rec_10.wav rec_5.wav"},
			{30, 15, "rec_1.wav rec_10.wav rec_5.wav"},
			{0, 15, "rec_1.wav rec_10.wav rec_5.wav"},
			{7, 15, "rec_1.wav rec_5.wav"},
			{3, 0, "rec_1.wav"},
		} {
			f.limit(t, c.limit)
			f.recordings.Keep = nil
			if c.keep >= 0 {
				f.recordings.Keep = keep(c.keep)
			}
			f.purge(t)
			if got := f.files(t); got != c.want {
				t.Errorf("keep %d, limit %d: stored %s, want %s", c.keep, c.limit, got, c.want)
			}
		}
		r := f.read(t, "rec_20")
		if r.Status != recording.StatusDeleted || r.Size != 0 || r.Duration != 1 || r.CallID != callID {
			t.Errorf("%+v", r)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_20/media", nil), http.StatusNotFound, nil)
	})
}

func TestWhatIsStillOnItsWayIsNotPurged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.recordings.Keep = keep(7)
		f.start(t, "rec_1", "PCMA", 1)
		f.ship(t, "rec_1", 1, octets(8000))
		f.age(t, "rec_1", 30*day)
		// One that failed has no file, but may have segments.
		f.start(t, "rec_2", "PCMA", 1)
		f.ship(t, "rec_2", 1, octets(8000))
		f.event(t, webhooks.EventRecordingFailed, webhooks.EventData{RecordingID: "rec_2", Code: "write", Message: "the disk is full"})
		f.age(t, "rec_2", 30*day)
		f.purge(t)
		if got := f.files(t); got != "rec_1/1.g711" {
			t.Errorf("stored %s", got)
		}
		if r := f.read(t, "rec_1"); r.Status != recording.StatusRecording {
			t.Errorf("%+v", r)
		}
		if r := f.read(t, "rec_2"); r.Status != recording.StatusDeleted || r.Failure != "the disk is full" {
			t.Errorf("%+v", r)
		}
		// An edge that has more of it after all is told.
		if _, err := f.recordings.Grant(t.Context(), owner(), "rec_2", 2, 100); !errors.Is(err, call.ErrRefused) {
			t.Errorf("Grant: %v", err)
		}
	})
}

func TestAPurgeThatFailedIsRepeated(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.recordings.Keep = keep(7)
		f.aged(t, "rec_1", 8*day)
		f.aged(t, "rec_2", 8*day)
		f.aged(t, "rec_3", 8*day)
		// A folder that is not empty cannot be deleted as a file.
		path := filepath.Join(f.folder, "recordings", resttest.Account, "rec_2.wav")
		if err := errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := f.recordings.Purge(t.Context()); err == nil {
			t.Error("no word of it")
		}
		for id, want := range map[webhooks.RecordingID]recording.Status{
			"rec_1": recording.StatusDeleted, "rec_2": recording.StatusCompleted, "rec_3": recording.StatusDeleted,
		} {
			if r := f.read(t, id); r.Status != want {
				t.Errorf("%s is %s, want %s", id, r.Status, want)
			}
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		f.purge(t)
		if r := f.read(t, "rec_2"); r.Status != recording.StatusDeleted {
			t.Errorf("%+v", r)
		}
		f.recordings.Keep = func(context.Context, webhooks.AccountID) (time.Duration, error) { return 0, errors.New("no settings") }
		if err := f.recordings.Purge(t.Context()); err == nil || !strings.Contains(err.Error(), "no settings") {
			t.Errorf("Purge: %v", err)
		}
	})
}

func TestTwoProcessesPurgeManyRecordings(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.recordings.Keep = keep(7)
		f.aged(t, "rec_0", 8*day)
		_, err := d.Write().NewRaw(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
			INSERT INTO recordings (id, account_id, metadata, created_at, updated_at, etag, call_id, status, started_at, duration, channels, format, size, codec, segments)
			SELECT 'rec_n' || n.i, r.account_id, r.metadata, r.created_at, r.updated_at, r.etag, r.call_id, r.status, r.started_at, r.duration, r.channels, r.format, r.size, r.codec, r.segments
			FROM recordings AS r CROSS JOIN n WHERE r.id = 'rec_0'`).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := f.recordings.Purge(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		n, err := d.Read().NewSelect().Table("recordings").Where("status = 'deleted'").Where("size = 0").Count(t.Context())
		if n != 251 || err != nil || f.files(t) != "" {
			t.Errorf("%d are deleted, %v, stored %s", n, err, f.files(t))
		}
		// Each was changed by one of them alone.
		var etags int
		err = d.Read().NewRaw("SELECT count(DISTINCT etag) FROM recordings WHERE id <> 'rec_0'").Scan(t.Context(), &etags)
		if etags != 1 || err != nil {
			t.Errorf("%d etags, %v", etags, err)
		}
	})
}

func TestACallGoesWithItsRecordingsWhenTheirAudioIsGone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.calls.Release = f.recordings.Release
		f.limit(t, 7)
		f.aged(t, "rec_1", 8*day)
		f.aged(t, "rec_2", 6*day)
		f.event(t, webhooks.EventCallEnded, webhooks.EventData{CDR: &webhooks.CDR{Status: webhooks.StatusCompleted, StartedAt: db.Now(), EndedAt: db.Now()}})
		if _, err := d.Write().NewRaw("UPDATE calls SET created_at = ?, ended_at = ?", db.Now().Add(-8*day), db.Now().Add(-8*day)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		step := func(what string, calls, recordings int64) {
			t.Helper()
			f.purge(t)
			if err := f.calls.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			c, err := db.Count[call.Call](t.Context(), d, resttest.Caller().Scope)
			r, err2 := db.Count[recording.Recording](t.Context(), d, resttest.Caller().Scope)
			if c != calls || r != recordings || err != nil || err2 != nil {
				t.Errorf("%s: %d calls and %d recordings, want %d and %d; %v %v", what, c, r, calls, recordings, err, err2)
			}
		}
		// rec_2 still has its audio.
		step("one recording is younger", 1, 2)
		if r := f.read(t, "rec_1"); r.Status != recording.StatusDeleted {
			t.Errorf("%+v", r)
		}
		f.age(t, "rec_2", 8*day)
		step("both are old", 0, 0)
		if got := f.files(t); got != "" {
			t.Errorf("stored %s", got)
		}
	})
}

func TestAnEdgeIsToldThatACallIsNoLongerKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		id := func(age time.Duration) webhooks.CallID {
			return webhooks.CallID("call_" + ulid.MustNew(ulid.Timestamp(time.Now().Add(-age)), ulid.DefaultEntropy()).String())
		}
		for name, c := range map[string]struct {
			limit   int
			call    webhooks.CallID
			refused bool
		}{
			"an old call":              {7, id(8 * day), true},
			"a young call":             {7, id(6 * day), false},
			"an old call that is kept": {0, id(900 * day), false},
			"an id of something else":  {7, "call_1x", false},
		} {
			f.limit(t, c.limit)
			o := owner()
			o.CallID = c.call
			_, err := f.recordings.Grant(t.Context(), o, "rec_1", 1, 100)
			if err == nil || errors.Is(err, call.ErrRefused) != c.refused {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
