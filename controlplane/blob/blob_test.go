package blob_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/blob/blobtest"
)

func TestEveryDriverFulfilsTheSuite(t *testing.T) {
	blobtest.Each(t, func(t *testing.T, s *blob.Store) { blobtest.Suite(t, s) })
}

func options() blob.Options {
	return blob.Options{BaseURL: "http://pbx.test/", Secret: []byte(strings.Repeat("s", 32))}
}

func TestALinkDoesNotLeaveTheFolder(t *testing.T) {
	outside, folder := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	s := blobtest.Open(t, "file:"+folder, options())
	if _, err := s.Get(t.Context(), "link/secret", 0, -1); err == nil {
		t.Error("read through a link")
	}
	if err := s.Put(t.Context(), "link/new", strings.NewReader("x"), 1); err == nil {
		t.Error("wrote through a link")
	}
	if err := s.Delete(t.Context(), "link/secret"); err == nil {
		t.Error("deleted through a link")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside there is %v %v", entries, err)
	}
}

// incoming lists what unfinished puts have left.
func incoming(t *testing.T, folder string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(folder, ".incoming"))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestNothingUnfinishedStays(t *testing.T) {
	folder := t.TempDir()
	s := blobtest.Open(t, "file:"+folder, options())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "key", strings.NewReader("x"), 1); err == nil {
		t.Error("stored for a caller that is gone")
	}
	if err := s.Put(t.Context(), "key", strings.NewReader("x"), 2); err == nil {
		t.Error("stored less than announced")
	}
	if left := incoming(t, folder); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	// Of a process that died long ago, and of one that is at work.
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": time.Hour} {
		file := filepath.Join(folder, ".incoming", name)
		at := time.Now().Add(-age)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	blobtest.Open(t, "file:"+folder, options())
	if left := incoming(t, folder); len(left) != 1 || left[0].Name() != "young" {
		t.Errorf("left %v", left)
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	s := blobtest.Open(t, "file:"+folder, options())
	if err := s.Put(t.Context(), "a/b", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "a": 0o700, "a/b": 0o600} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %s %v", name, info.Mode(), err)
		}
	}
}

func TestASignedURLIsOverInTime(t *testing.T) {
	s := blobtest.Open(t, "file:"+t.TempDir(), options())
	if err := s.Put(t.Context(), "a/b", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		address, err := s.SignedGet(t.Context(), "a/b", time.Minute, blob.Download{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(address, "http://pbx.test/blobs/a/b?") {
			t.Errorf("got %s", address)
		}
		get := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, address, nil))
			return w
		}
		<-time.After(time.Minute)
		if w := get(); w.Code != http.StatusOK || w.Body.String() != "x" {
			t.Errorf("at its end: %d", w.Code)
		}
		<-time.After(2 * time.Second)
		if w := get(); w.Code != http.StatusForbidden {
			t.Errorf("after its end: %d", w.Code)
		}
	})
}

func TestAServedFileRunsNoScript(t *testing.T) {
	s := blobtest.Open(t, "file:"+t.TempDir(), options())
	if err := s.Put(t.Context(), "x", strings.NewReader("<script>"), 8); err != nil {
		t.Fatal(err)
	}
	address, err := s.SignedGet(t.Context(), "x", time.Minute, blob.Download{ContentType: "text/html"})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, address, nil))
	h := w.Header()
	if !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Disposition") != "inline" {
		t.Errorf("got %v", h)
	}
}

func TestStrangersGetNothing(t *testing.T) {
	s := blobtest.Open(t, "file:"+t.TempDir(), options())
	if err := s.Put(t.Context(), "x", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/blobs/x", "/blobs/", "/blobs/x?signature=", "/blobs/x?signature=zz&expires=1", "/blobs/..%2f..%2fetc%2fpasswd", "/blobs/.incoming/x", "/blobs/x?%zz"} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code < 400 || strings.Contains(w.Body.String(), "root:") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	remote := blobtest.Open(t, blobtest.S3URL(t), blob.Options{})
	remote.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/blobs/x", nil))
	if body, _ := io.ReadAll(w.Body); w.Code != http.StatusNotFound {
		t.Errorf("got %d %s", w.Code, body)
	}
}

func TestOpenSaysWhatIsWrongWithoutTheSecret(t *testing.T) {
	nowhere := strings.Replace(blobtest.S3URL(t), "/b", "/nowhere", 1)
	for _, location := range []string{
		"", "ftp://x", "file:", "s3://", "s3://key:hunter2@", "s3://key:hunter2@host", "s3://key@host/bucket", "s3://key:hunter2@%zz/b",
		"s3://key:hunter2@host/bucket/../x", "s3://key:hunter2@host/bucket?tls=maybe", nowhere,
	} {
		s, err := blob.Open(t.Context(), location, options())
		if err == nil {
			t.Errorf("%q was opened", location)
			_ = s.Close()
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", location, err)
		}
	}
	for _, o := range []blob.Options{{}, {BaseURL: "http://x", Secret: []byte("short")}, {BaseURL: "x", Secret: options().Secret}} {
		if _, err := blob.Open(t.Context(), "file:"+t.TempDir(), o); err == nil {
			t.Errorf("opened with %+v", o)
		}
	}
}
