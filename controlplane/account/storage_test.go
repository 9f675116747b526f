package account_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

// store gives an account a file of media and a recording of so many bytes each, in place of what it has.
func store(t *testing.T, d *db.DB, id string, media, recording int64) {
	t.Helper()
	now := db.Now()
	for _, q := range []struct {
		text string
		args []any
	}{
		{"DELETE FROM media WHERE account_id = ?", []any{id}},
		{"DELETE FROM recordings WHERE account_id = ?", []any{id}},
		{`INSERT INTO media (id, account_id, metadata, created_at, updated_at, etag, name, content_type, size, sha256)
			VALUES (?, ?, '{}', ?, ?, '1', 'a', 'audio/wav', ?, '')`, []any{db.NewID("med"), id, now, now, media}},
		{`INSERT INTO recordings (id, account_id, metadata, created_at, updated_at, etag, call_id, status, started_at, duration, channels, format, size, codec, segments)
			VALUES (?, ?, '{}', ?, ?, '1', 'call_1', 'completed', ?, 1, 1, 'wav', ?, 'pcmu', 1)`, []any{db.NewID("rec"), id, now, now, now, recording}},
	} {
		if _, err := d.Write().NewRaw(q.text, q.args...).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func limit(t *testing.T, d *db.DB, id, limits string) {
	t.Helper()
	if _, err := d.Write().NewRaw("UPDATE accounts SET limits = ? WHERE id = ?", limits, id).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		mount(t, d, &account.Service{DB: d})
		store(t, d, resttest.Account, 600, 300)
		store(t, d, resttest.OtherAccount, 5000, 5000)
		for _, c := range []struct {
			limits string
			size   int64
			fits   bool
		}{
			{`{}`, 1 << 40, true},
			{`{"storage_bytes": 1000}`, 100, true},
			{`{"storage_bytes": 1000}`, 101, false},
			{`{"storage_bytes": 900}`, 1, false},
			{`{"storage_bytes": 500}`, 1, false},
		} {
			limit(t, d, resttest.Account, c.limits)
			err := account.Room(t.Context(), d, resttest.Account, c.size)
			switch p := problem.From(err); {
			case c.fits && err != nil:
				t.Errorf("%s, %d more: %v", c.limits, c.size, err)
			case !c.fits && (err == nil || p.Code != problem.CodeRefused || !strings.Contains(p.Detail, "has 900") || !strings.Contains(p.Detail, "delete media or recordings")):
				t.Errorf("%s, %d more: %v", c.limits, c.size, err)
			}
		}
	})
}

func TestAnAccountIsToldOnceWhenItStoresTooMuch(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		mount(t, d, &account.Service{DB: d})
		limit(t, d, resttest.Account, `{"storage_bytes": 1000}`)
		limit(t, d, resttest.OtherAccount, `{}`)
		store(t, d, resttest.OtherAccount, 5000, 5000)
		steps := []struct {
			name             string
			limits           string
			media, recording int64
			told             string // what is told at this step
		}{
			{"below", `{"storage_bytes": 1000}`, 600, 300, ""},
			{"at the limit", `{"storage_bytes": 1000}`, 600, 400, `account.storage_exceeded 1000 of 1000`},
			{"above", `{"storage_bytes": 1000}`, 600, 4000, ""},
			{"below again", `{"storage_bytes": 1000}`, 600, 0, `account.storage_freed 600 of 1000`},
			{"still below", `{"storage_bytes": 1000}`, 700, 0, ""},
			{"a smaller limit", `{"storage_bytes": 500}`, 700, 0, `account.storage_exceeded 700 of 500`},
			{"no limit any more", `{}`, 700, 0, `account.storage_freed 700 of 0`},
			{"none", `{}`, 70_000, 0, ""},
		}
		var want []string
		for _, step := range steps {
			limit(t, d, resttest.Account, step.limits)
			store(t, d, resttest.Account, step.media, step.recording)
			for range 2 { // another process looks too
				if err := (&account.Service{DB: d}).WatchStorage(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if step.told != "" {
				want = append(want, step.told)
			}
			if got := storageTold(t, d); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%s: told %q, want %q", step.name, got, want)
			}
		}
	})
}

// storageTold lists the events there are, all of Account, in their order.
func storageTold(t *testing.T, d *db.DB) (told []string) {
	t.Helper()
	var events []struct {
		Type, AccountID, ObjectID, Resource string
		Data                                struct {
			StorageBytes int64 `json:"storage_bytes"`
			LimitBytes   int64 `json:"limit_bytes"`
		} `bun:"type:jsonb"`
	}
	err := d.Read().NewSelect().Table("events").Column("type", "account_id", "object_id", "resource", "data").OrderExpr("created_at, id").Scan(t.Context(), &events)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.AccountID != resttest.Account || e.ObjectID != resttest.Account || e.Resource != "usage" {
			t.Errorf("%+v", e)
		}
		told = append(told, e.Type+" "+strconv.FormatInt(e.Data.StorageBytes, 10)+" of "+strconv.FormatInt(e.Data.LimitBytes, 10))
	}
	return told
}
