package media_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/media"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is a server whose audio is what begins with RIFF.
type fixture struct {
	*resttest.Server
	service *media.Service
	folder  string
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{folder: t.TempDir()}
	store, err := blob.Open(t.Context(), "file:"+f.folder, blob.Options{BaseURL: "http://pbx.example", Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	f.service = &media.Service{DB: d, Blobs: store, CheckAudio: func(file []byte) error {
		if !bytes.HasPrefix(file, []byte("RIFF")) {
			return errors.New("this is no WAV file: it begins with something else than RIFF")
		}
		return nil
	}}
	f.Server = resttest.Mount(t, d, spec, f.service.Operations())
	return f
}

// files counts the stored files.
func (f *fixture) files(t *testing.T) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(f.folder, "media"), func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (f *fixture) raw(t *testing.T, token, query, body, kind string) *httptest.ResponseRecorder {
	t.Helper()
	return f.Do(t, token, http.MethodPost, "/v1/media"+query, body, "Content-Type", kind)
}

// parts makes a multipart body of names and texts.
func parts(t *testing.T, pairs ...string) (body, contentType string) {
	t.Helper()
	var buffer bytes.Buffer
	w := multipart.NewWriter(&buffer)
	for i := 0; i+1 < len(pairs); i += 2 {
		var part io.Writer
		var err error
		if pairs[i] == "file" {
			part, err = w.CreateFormFile("file", "hello.wav")
		} else {
			part, err = w.CreateFormField(pairs[i])
		}
		if err == nil {
			_, err = io.WriteString(part, pairs[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.String(), w.FormDataContentType()
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)))
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					var f media.File
					resttest.Want(t, last.raw(t, resttest.Token, "?name=a", "RIFFa", "audio/wav"), http.StatusCreated, &f)
					return map[string]string{"media_id": f.ID}
				},
				Request: func(_ *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					if operation == "uploadMedia" || operation == "upsertMedia" {
						return &resttest.Request{Body: "RIFFb", ContentType: "audio/wav", Query: url.Values{"name": {"b"}}}
					}
					if operation == "updateMedia" {
						return &resttest.Request{Body: map[string]any{"name": "c"}}
					}
					return nil
				},
				More: func(t *testing.T, _ *resttest.Server) {
					resttest.Want(t, last.raw(t, resttest.Token, "?name=more", "RIFFm", "audio/wav"), http.StatusCreated, nil)
				},
			})
		})
	}
}

func TestAReplacedFileKeepsItsOldBytesWhileTheyMayBeFetched(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		put := func(query, body string, status int, headers ...string) media.File {
			var file media.File
			headers = append([]string{"Content-Type", "audio/wav"}, headers...)
			w := f.Do(t, resttest.Token, http.MethodPut, "/v1/media/by/external_id/welcome?"+query, body, headers...)
			if resttest.Want(t, w, status, nil); status < http.StatusBadRequest {
				resttest.Want(t, w, status, &file)
			}
			return file
		}
		url := func(id string) (link, etag string) {
			link, etag, err := f.service.URL(t.Context(), resttest.Account, webhooks.MediaID(id))
			if err != nil {
				t.Fatal(err)
			}
			return link, etag
		}
		first := put("name=a", "RIFF old", http.StatusCreated)
		link, etag := url(first.ID)
		second := put("name=b", "RIFF newer", http.StatusOK, "If-Match", `"1"`)
		if second.ID != first.ID || second.Name != "b" || second.Size != 10 || second.SHA256 == first.SHA256 {
			t.Errorf("from %+v to %+v", first, second)
		}
		newLink, newEtag := url(first.ID)
		if newEtag == etag || strings.Split(newLink, "?")[0] == strings.Split(link, "?")[0] {
			t.Errorf("%s %s became %s %s", link, etag, newLink, newEtag)
		}
		// What was refused has left nothing, and the old bytes stay for now.
		put("name=c", "no audio", http.StatusUnprocessableEntity)
		put("name=c", "RIFF stale", http.StatusPreconditionFailed, "If-Match", `"1"`)
		if err := f.service.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := f.files(t); n != 2 {
			t.Errorf("%d files, want the new and the old", n)
		}
		if _, err := d.Write().NewRaw("UPDATE outbox SET available_at = ?", db.Now().Add(-time.Minute)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.service.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.files(t); n != 1 {
			t.Errorf("%d files, want the new alone", n)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/media/"+first.ID, nil), http.StatusNoContent, nil)
		if n := f.files(t); n != 0 {
			t.Errorf("%d files are left", n)
		}
	})
}

func TestUploads(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		form := func(pairs ...string) [2]string {
			body, kind := parts(t, pairs...)
			return [2]string{body, kind}
		}
		stored := 0
		for _, c := range []struct {
			name   string
			query  string
			sent   [2]string // body, type
			status int
			says   string
		}{
			{"bytes", "?name=hello&external_id=x1", [2]string{"RIFFhello", "audio/wav"}, 201, `"external_id":"x1"`},
			{"bytes, an older name of the type", "?name=hello", [2]string{"RIFFhello", "audio/x-wav"}, 201, `"size":9`},
			{"parts", "", form("name", "你好", "external_id", "x2", "file", "RIFFparts"), 201, `"name":"你好"`},
			{"parts, name in the query", "?name=q", form("file", "RIFFparts"), 201, `"name":"q"`},
			{"external id again", "?name=hello&external_id=x1", [2]string{"RIFFhello", "audio/wav"}, 409, "/external_id"},
			{"no name", "", [2]string{"RIFFhello", "audio/wav"}, 400, "name"},
			{"no file", "", form("name", "a"), 400, "file"},
			{"empty file", "?name=a", [2]string{"", "audio/wav"}, 400, "file"},
			{"no audio", "?name=a", [2]string{"ID3 hello", "audio/wav"}, 422, "begins with something else than RIFF"},
			{"no audio in parts", "", form("name", "a", "file", "MZ"), 422, "begins with something else than RIFF"},
			{"unknown part", "", form("name", "a", "title", "b", "file", "RIFF"), 400, "title"},
			{"long name", "", form("name", strings.Repeat("x", 101), "file", "RIFF"), 400, "100 characters"},
			{"very long name", "", form("name", strings.Repeat("x", 100_000), "file", "RIFF"), 400, "200 characters"},
			{"name with NUL", "", form("name", "a\x00b", "file", "RIFF"), 400, "NUL"},
			{"another type", "?name=a", [2]string{"RIFF", "audio/mpeg"}, 415, "audio/wav"},
			{"broken parts", "", [2]string{"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nRIFF", "multipart/form-data; boundary=x"}, 400, "ended early"},
			{"too large", "?name=a", [2]string{"RIFF" + strings.Repeat("x", media.MaxBytes), "audio/wav"}, 413, "at most"},
		} {
			w := f.raw(t, resttest.Token, c.query, c.sent[0], c.sent[1])
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.name, w.Code, w.Body, c.status, c.says)
			}
			if c.status == http.StatusCreated {
				stored++
			}
		}
		if n := f.files(t); n != stored {
			t.Errorf("%d files are stored, want %d: a refused upload must leave none", n, stored)
		}
	})
}

func TestAnAccountStoresNoMoreThanItMay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		limits := func(text string) {
			t.Helper()
			if _, err := d.Write().NewRaw("UPDATE accounts SET limits = ? WHERE id = ?", text, resttest.Account).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		put := func(body string, status int) {
			t.Helper()
			w := f.Do(t, resttest.Token, http.MethodPut, "/v1/media/by/external_id/welcome?name=a", body, "Content-Type", "audio/wav")
			resttest.Want(t, w, status, nil)
		}
		limits(`{"storage_bytes": 30}`)
		resttest.Want(t, f.raw(t, resttest.Token, "?name=a", "RIFFhello!", "audio/wav"), http.StatusCreated, nil) // 10 bytes
		put("RIFFhello!", http.StatusCreated)
		w := f.raw(t, resttest.Token, "?name=b", "RIFFhello!!", "audio/wav")
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "may store 30 bytes and has 20") || !strings.Contains(w.Body.String(), "ask the operator") {
			t.Errorf("a file that does not fit: %d %s", w.Code, w.Body)
		}
		put("RIFFhello!!", http.StatusUnprocessableEntity)
		if n := f.files(t); n != 2 {
			t.Errorf("%d files are stored, want 2: a refused upload must leave none", n)
		}
		put("RIFFhello?", http.StatusOK)
		// Recordings count as well, and another account's limit is its own.
		_, err := d.Write().NewRaw(`INSERT INTO recordings (id, account_id, metadata, created_at, updated_at, etag, call_id, status, started_at, duration, channels, format, size, codec, segments)
			VALUES ('rec_1', ?, '{}', ?, ?, '1', 'call_1', 'completed', ?, 1, 1, 'wav', 5, 'pcmu', 1)`, resttest.Account, db.Now(), db.Now(), db.Now()).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		put("RIFFhello!", http.StatusUnprocessableEntity)
		resttest.Want(t, f.raw(t, resttest.Other, "?name=a", "RIFF"+strings.Repeat("x", 100), "audio/wav"), http.StatusCreated, nil)
		limits(`{}`)
		put("RIFFhello!", http.StatusOK)
	})
}

func TestAnEdgeFetchesTheBytes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		var file media.File
		resttest.Want(t, f.raw(t, resttest.Token, "?name=a", "RIFFhello", "audio/wav"), http.StatusCreated, &file)
		link, etag, err := f.service.URL(t.Context(), resttest.Account, webhooks.MediaID(file.ID))
		if err != nil || etag != file.SHA256 {
			t.Fatalf("URL: %s, %v", etag, err)
		}
		w := httptest.NewRecorder()
		f.service.Blobs.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, strings.TrimPrefix(link, "http://pbx.example"), nil))
		if w.Code != http.StatusOK || w.Body.String() != "RIFFhello" || w.Header().Get("Content-Type") != "audio/wav" {
			t.Errorf("%s: %d %s %q", link, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if _, _, err := f.service.URL(t.Context(), resttest.OtherAccount, webhooks.MediaID(file.ID)); problem.From(err).Code != problem.CodeNotFound {
			t.Errorf("another account's file: %v", err)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/media/"+file.ID, nil), http.StatusNoContent, nil)
		if n := f.files(t); n != 0 {
			t.Errorf("%d files are left of a deleted one", n)
		}
	})
}
