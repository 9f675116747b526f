package transfer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
)

func sqliteURL(t *testing.T) string { return dbtest.SQLite(t) }

// export makes an export and waits for its job.
func (f *fixture) export(t *testing.T, token, body string) transfer.Export {
	t.Helper()
	var e transfer.Export
	resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/exports", body), http.StatusCreated, &e)
	if j := f.ended(t, e.JobID); j.Status != job.Succeeded {
		t.Fatalf("%s %s", j.Status, j.Failure)
	}
	resttest.Want(t, f.Do(t, token, http.MethodGet, "/v1/exports/"+e.ID, nil), http.StatusOK, &e)
	return e
}

func (f *fixture) seed(t *testing.T, numbers ...string) {
	t.Helper()
	for _, number := range numbers {
		text, err := json.Marshal(map[string]any{"number": number, "note": "=1+" + number, "metadata": map[string]any{"region": "重庆"}})
		if err != nil {
			t.Fatal(err)
		}
		f.ask(t, http.MethodPost, "/v1/plains", string(text), http.StatusCreated, nil)
	}
}

func TestAnExportHoldsWhatTheListShows(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		f.seed(t, "+8613800138000", "1000", "2000")
		for format, want := range map[string][]string{
			"csv":   {"number~metadata.region~note~level~external_id", "+8613800138000~重庆~=1++8613800138000~5~", "1000~重庆~=1+1000~5~"},
			"xlsx":  {"number~metadata.region~note~level~external_id", "+8613800138000~重庆~=1++8613800138000~5~", "1000~重庆~=1+1000~5~"},
			"jsonl": {`{"number":"+8613800138000","metadata.region":"重庆","note":"=1++8613800138000","level":5}`, `{"number":"1000","metadata.region":"重庆","note":"=1+1000","level":5}`},
		} {
			e := f.export(t, resttest.Token, `{"resource":"plains","format":"`+format+`","sort":"created_at",
				"filter":{"number":{"in":["+8613800138000","1000"]}},"columns":["number","metadata.region","note","level","external_id"]}`)
			file := f.fetch(t, "/v1/exports/"+e.ID+"/file?as=json")
			if e.Status != transfer.Exported || e.Rows != 2 || e.Size != int64(len(file)) {
				t.Errorf("%+v of %d bytes", e, len(file))
			}
			got := strings.Split(strings.TrimSpace(file), "\n")
			if format != "jsonl" {
				got = table(t, file)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q", format, got)
			}
			if format == "csv" && !strings.Contains(file, "\r\n+8613800138000,重庆,'=1++") {
				t.Errorf("as written: %q", file)
			}
		}
		// All columns, but for what is written only.
		e := f.export(t, resttest.Token, `{"resource":"plains","format":"csv"}`)
		if want := []string{"id", "external_id", "level", "note", "number", "metadata", "created_at", "updated_at", "etag"}; !slices.Equal(e.Columns, want) {
			t.Errorf("columns %q", e.Columns)
		}
		f.ask(t, http.MethodDelete, "/v1/exports/"+e.ID, nil, http.StatusNoContent, nil)
		f.ask(t, http.MethodGet, "/v1/exports/"+e.ID, nil, http.StatusNotFound, nil)
	})
}

func TestWhoSeesNoNumbersExportsNone(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		f.work(t)
		f.seed(t, "+8613800138000")
		open := f.export(t, resttest.Token, `{"resource":"plains","format":"csv","columns":["number"]}`)
		masked := f.export(t, "masked", `{"resource":"plains","format":"csv","columns":["number"]}`)
		if file := f.fetch(t, "/v1/exports/"+masked.ID+"/file?as=json"); strings.Contains(file, "138000") {
			t.Errorf("exported %q", file)
		}
		imported := f.upload(t, "plains", "number\n+8613900139000\n")
		for _, target := range []string{"/v1/exports/" + open.ID, "/v1/exports/" + open.ID + "/file", "/v1/imports/" + imported.ID, "/v1/imports/" + imported.ID + "/report"} {
			if w := f.Do(t, "masked", http.MethodGet, target, nil); w.Code != http.StatusNotFound {
				t.Errorf("%s: a masked reader got %d %s", target, w.Code, w.Body)
			}
		}
		for _, target := range []string{"/v1/exports", "/v1/imports"} {
			if w := f.Do(t, "masked", http.MethodGet, target, nil); strings.Contains(w.Body.String(), open.ID) || strings.Contains(w.Body.String(), imported.ID) {
				t.Errorf("%s: a masked reader sees %s", target, w.Body)
			}
		}
		w := f.Do(t, "masked", http.MethodPost, "/v1/exports", `{"resource":"plains","format":"csv","filter":{"number":"+8613800138000"}}`)
		if w.Code != http.StatusForbidden && w.Code != http.StatusBadRequest {
			t.Errorf("a masked reader may ask for a number: %d %s", w.Code, w.Body)
		}
		if w := f.Do(t, "but:plains.read", http.MethodGet, "/v1/exports/"+open.ID+"/file", nil); w.Code != http.StatusForbidden {
			t.Errorf("without the permission to read: %d", w.Code)
		}
	})
}

func TestWhatAnExportRefuses(t *testing.T) {
	f := newFixture(t, sqliteURL(t), options{})
	for name, c := range map[string]struct {
		token, body string
		status      int
		says        string
	}{
		"resource":   {resttest.Token, `{"resource":"trees","format":"csv"}`, 400, "/resource"},
		"permission": {"but:plains.read", `{"resource":"plains","format":"csv"}`, 403, "plains.read"},
		"column":     {resttest.Token, `{"resource":"plains","format":"csv","columns":["tree"]}`, 400, "/columns/0"},
		"twice":      {resttest.Token, `{"resource":"plains","format":"csv","columns":["note","note"]}`, 400, "/columns/1"},
		"filter":     {resttest.Token, `{"resource":"plains","format":"csv","filter":{"tree":1}}`, 400, "/filter/tree"},
		"sort":       {resttest.Token, `{"resource":"plains","format":"csv","sort":"tree"}`, 400, "/sort"},
		"format":     {resttest.Token, `{"resource":"plains","format":"pdf"}`, 400, "/format"},
	} {
		if w := f.Do(t, c.token, http.MethodPost, "/v1/exports", c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	var e transfer.Export
	f.ask(t, http.MethodPost, "/v1/exports", `{"resource":"plains","format":"csv"}`, http.StatusCreated, &e)
	f.ask(t, http.MethodGet, "/v1/exports/"+e.ID+"/file", nil, http.StatusConflict, nil)
	f.ask(t, http.MethodDelete, "/v1/exports/"+e.ID, nil, http.StatusConflict, nil)
}

// fill writes n plains at once.
func (f *fixture) fill(t *testing.T, n int) {
	t.Helper()
	for from := 0; from < n; from += 1000 {
		var rows []plain
		for i := from; i < min(n, from+1000); i++ {
			now := db.Now()
			rows = append(rows, plain{
				Row:        db.Row{ID: db.NewID("plain"), AccountID: resttest.Account, Metadata: map[string]any{}, CreatedAt: now, UpdatedAt: now, Etag: "1"},
				plainDraft: plainDraft{Number: fmt.Sprintf("%08d", i)},
			})
		}
		if _, err := f.db.Write().NewInsert().Model(&rows).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledExportsHoldEveryRowOnce(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		const n = 15_000
		f.fill(t, n)
		var e transfer.Export
		f.killed(t, 12, func() {
			f.ask(t, http.MethodPost, "/v1/exports", `{"resource":"plains","format":"csv","columns":["number"]}`, http.StatusCreated, &e)
			f.ended(t, e.JobID)
		})
		f.ask(t, http.MethodGet, "/v1/exports/"+e.ID, nil, http.StatusOK, &e)
		file := f.fetch(t, "/v1/exports/"+e.ID+"/file?as=json")
		r, err := sheet.Open(bytes.NewReader([]byte(file)), int64(len(file)), sheet.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		seen := map[string]bool{}
		for {
			row, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || seen[row.Cells[0]] {
				t.Fatal(row, err)
			}
			seen[row.Cells[0]] = true
		}
		if len(seen) != n || e.Rows != n || e.Status != transfer.Exported {
			t.Errorf("%d rows of %+v", len(seen), e)
		}
		if _, err := f.blobs.Stat(t.Context(), "exports/"+resttest.Account+"/"+e.ID+"/part-000000.jsonl"); err == nil {
			t.Error("parts are left")
		}
	})
}

func TestAnOldExportsFileIsRemoved(t *testing.T) {
	f := newFixture(t, sqliteURL(t), options{})
	f.work(t)
	e := f.export(t, resttest.Token, `{"resource":"plains","format":"csv"}`)
	if _, err := f.db.Write().NewRaw("UPDATE exports SET expires_at = ?", db.Now().Add(-time.Hour)).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.service.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.ask(t, http.MethodGet, "/v1/exports/"+e.ID+"/file", nil, http.StatusNotFound, nil)
	f.ask(t, http.MethodGet, "/v1/exports/"+e.ID, nil, http.StatusOK, &e)
	if e.Status != transfer.ExportExpired {
		t.Errorf("%+v", e)
	}
}
