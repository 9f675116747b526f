// Package blobtest says what every blob driver must do, and starts the S3 server to test against. The drivers are in
// blob.
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/hookswitch/hookswitch/controlplane/blob"
)

// Each runs fn as two subtests, "file" and "s3", each on an empty store. An S3 server that was not built fails the
// test.
func Each(t *testing.T, fn func(t *testing.T, s *blob.Store)) {
	t.Helper()
	t.Run("file", func(t *testing.T) { fn(t, Files(t)) })
	t.Run("s3", func(t *testing.T) { fn(t, Open(t, S3URL(t), blob.Options{})) })
}

// Files opens an empty store in a temporary folder and serves its signed URLs, until the test ends.
func Files(t *testing.T) *blob.Store {
	t.Helper()
	var s *blob.Store
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	s = Open(t, "file:"+t.TempDir(), blob.Options{BaseURL: server.URL, Secret: []byte(strings.Repeat("s", 32))})
	return s
}

// Open opens a store and closes it when the test ends.
func Open(t *testing.T, location string, o blob.Options) *blob.Store {
	t.Helper()
	s, err := blob.Open(t.Context(), location, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const (
	accessKey = "hookswitch-test"
	secretKey = "not/a+secret"
)

// S3URL is the URL of a fresh bucket on a versitygw that is started as a child process once per test binary.
func S3URL(t *testing.T) string {
	t.Helper()
	running, err := server()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client(running.address)
	if err != nil {
		t.Fatal(err)
	}
	bucket := strings.ToLower("b" + rand.Text())
	if err := c.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "s3", User: url.UserPassword(accessKey, secretKey), Host: running.address, Path: "/" + bucket + "/pre/fix", RawQuery: "tls=false"}).String()
}

func client(address string) (*minio.Client, error) {
	return minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1"})
}

// server starts the S3 server of this test binary.
var server = sync.OnceValues(start)

// child is a server that lives as long as its standard input is open: it goes away whichever way the test binary
// ends.
type child struct {
	address string
	alive   io.Closer // kept, because the garbage collector closes files
}

const serve = `"$1" --quiet --port "$2" posix "$3/data" & pid=$!
read -r never
kill $pid
wait $pid
rm -rf "$3"`

// gatewayPath is where make tools has put the S3 server: make says so in the environment, and go test alone looks where
// make puts it by default.
func gatewayPath() (string, error) {
	program := os.Getenv("HOOKSWITCH_TEST_VERSITYGW")
	if program == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		found, err := filepath.Glob(filepath.Join(cache, "hookswitch", "tools", "versitygw-*"))
		if err != nil || len(found) == 0 {
			return "", errors.New("the S3 server to test against is missing: run make tools")
		}
		program = slices.Max(found)
	}
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("the S3 server to test against is missing: run make tools: %w", err)
	}
	return program, nil
}

func start() (running child, err error) {
	program, err := gatewayPath()
	if err != nil {
		return running, err
	}
	folder, err := os.MkdirTemp("", "s3")
	if err != nil {
		return running, err
	}
	if err := os.Mkdir(filepath.Join(folder, "data"), 0o700); err != nil {
		return running, err
	}
	if running.address, err = free(); err != nil {
		return running, err
	}
	gateway := exec.CommandContext(context.Background(), "/bin/sh", "-c", serve, "sh", program, running.address, folder)
	gateway.Dir = folder
	gateway.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	if running.alive, err = gateway.StdinPipe(); err != nil {
		return running, err
	}
	if err := gateway.Start(); err != nil {
		return running, err
	}
	return running, ready(running.address)
}

// free finds a port that nobody listens on.
func free() (string, error) {
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func ready(address string) error {
	c, err := client(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := c.ListBuckets(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("versitygw did not start: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Suite is what every driver must do.
func Suite(t *testing.T, s *blob.Store) {
	t.Run("what is put is got", func(t *testing.T) { roundTrip(t, s) })
	t.Run("ranges", func(t *testing.T) { ranges(t, s) })
	t.Run("missing", func(t *testing.T) { missing(t, s) })
	t.Run("a failed put changes nothing", func(t *testing.T) { failedPut(t, s) })
	t.Run("bad keys", func(t *testing.T) { badKeys(t, s) })
	t.Run("signed get", func(t *testing.T) { signedGet(t, s) })
	t.Run("signed put", func(t *testing.T) { signedPut(t, s) })
	t.Run("a changed URL is refused", func(t *testing.T) { changedURL(t, s) })
	t.Run("concurrent puts leave one whole", func(t *testing.T) { concurrentPuts(t, s) })
}

func put(t *testing.T, s *blob.Store, key, text string) {
	t.Helper()
	if err := s.Put(t.Context(), key, strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s *blob.Store, key string, offset, length int64) string {
	t.Helper()
	r, err := s.Get(t.Context(), key, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func roundTrip(t *testing.T, s *blob.Store) {
	// Larger than one part of an upload of unknown size.
	large := make([]byte, 17<<20)
	_, _ = rand.Read(large)
	bodies := map[string]string{"empty": "", "small": "hello", "large": string(large)}
	for name, body := range bodies {
		for _, size := range []int64{int64(len(body)), -1} {
			key := fmt.Sprintf("acc_1/round/%s_%d.raw", name, size)
			// A reader without a length, as a request's body.
			if err := s.Put(t.Context(), key, io.MultiReader(strings.NewReader(body)), size); err != nil {
				t.Fatal(err)
			}
			if got := get(t, s, key, 0, -1); got != body {
				t.Errorf("%s: got %d bytes, want %d, or other bytes", key, len(got), len(body))
			}
			info, err := s.Stat(t.Context(), key)
			if err != nil || info.Size != int64(len(body)) || info.Modified.IsZero() || info.Modified.Location() != time.UTC {
				t.Errorf("%s: stat %+v %v", key, info, err)
			}
		}
	}
	put(t, s, "acc_1/round/small_5.raw", "replaced")
	if got := get(t, s, "acc_1/round/small_5.raw", 0, -1); got != "replaced" {
		t.Errorf("got %q after replacing", got)
	}
}

func ranges(t *testing.T, s *blob.Store) {
	put(t, s, "range", "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"}, {0, 1, "0"}, {3, 4, "3456"}, {3, -1, "3456789"}, {9, 1, "9"}, {8, 100, "89"}, {10, -1, ""}, {100, 5, ""}, {4, 0, ""},
	} {
		if got := get(t, s, "range", c.offset, c.length); got != c.want {
			t.Errorf("%d+%d: got %q, want %q", c.offset, c.length, got, c.want)
		}
	}
	for _, c := range [][2]int64{{-1, 1}, {0, -2}} {
		if _, err := s.Get(t.Context(), "range", c[0], c[1]); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
}

func missing(t *testing.T, s *blob.Store) {
	put(t, s, "folder/file", "x")
	for _, key := range []string{"nothing", "folder", "folder/nothing", "no/folder/either"} {
		if _, err := s.Get(t.Context(), key, 0, -1); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("get %s: %v", key, err)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("stat %s: %v", key, err)
		}
	}
	for range 2 {
		if err := s.Delete(t.Context(), "folder/file"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Stat(t.Context(), "folder/file"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("deleted, but %v", err)
	}
}

func failedPut(t *testing.T, s *blob.Store) {
	put(t, s, "kept", "before")
	broken := io.MultiReader(strings.NewReader("aft"), iotest.ErrReader(errors.New("the line broke")))
	for name, err := range map[string]error{
		"broken":    s.Put(t.Context(), "kept", broken, -1),
		"too short": s.Put(t.Context(), "kept", strings.NewReader("aft"), 5),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if got := get(t, s, "kept", 0, -1); got != "before" {
		t.Errorf("got %q", got)
	}
}

func badKeys(t *testing.T, s *blob.Store) {
	for _, key := range []string{"", "/", "/etc/passwd", "../x", "a/../b", "a/..", "a//b", "a/", ".incoming/x", "a/.b", `a\b`, "a b", "a\x00b", "ä", strings.Repeat("k", blob.MaxKey+1)} {
		_, errGet := s.Get(t.Context(), key, 0, -1)
		_, errStat := s.Stat(t.Context(), key)
		_, errSign := s.SignedGet(t.Context(), key, time.Minute, blob.Download{})
		_, errGrant := s.SignedPut(t.Context(), key, time.Minute, 1)
		for what, err := range map[string]error{
			"put": s.Put(t.Context(), key, strings.NewReader("x"), 1), "get": errGet, "stat": errStat,
			"delete": s.Delete(t.Context(), key), "signed get": errSign, "signed put": errGrant,
		} {
			if err == nil {
				t.Errorf("%s %q: no error", what, key)
			}
		}
	}
}

// answered is the head of an answer.
type answered struct {
	StatusCode int
	Header     http.Header
}

// do makes a request and gives its answer.
func do(t *testing.T, method, address string, headers map[string]string, body string) (answered, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answered{answer.StatusCode, answer.Header}, string(text)
}

func signedGet(t *testing.T, s *blob.Store) {
	put(t, s, "rec/a.wav", "0123456789")
	address, err := s.SignedGet(t.Context(), "rec/a.wav", time.Minute, blob.Download{ContentType: "audio/wav", FileName: "通话 1.wav"})
	if err != nil {
		t.Fatal(err)
	}
	answer, body := do(t, http.MethodGet, address, nil, "")
	if answer.StatusCode != http.StatusOK || body != "0123456789" || answer.Header.Get("Content-Type") != "audio/wav" {
		t.Fatalf("got %d %q %q", answer.StatusCode, body, answer.Header)
	}
	if got, want := answer.Header.Get("Content-Disposition"), "attachment; filename*=UTF-8''%E9%80%9A%E8%AF%9D%201.wav"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	answer, body = do(t, http.MethodGet, address, map[string]string{"Range": "bytes=2-4"}, "")
	if answer.StatusCode != http.StatusPartialContent || body != "234" || answer.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("got %d %q %q", answer.StatusCode, body, answer.Header)
	}
	gone, err := s.SignedGet(t.Context(), "rec/none.wav", time.Minute, blob.Download{})
	if err != nil {
		t.Fatal(err)
	}
	if answer, _ := do(t, http.MethodGet, gone, nil, ""); answer.StatusCode != http.StatusNotFound {
		t.Errorf("got %d for nothing", answer.StatusCode)
	}
	for _, ttl := range []time.Duration{0, -time.Second, blob.MaxTTL + time.Second} {
		if _, err := s.SignedGet(t.Context(), "rec/a.wav", ttl, blob.Download{}); err == nil {
			t.Errorf("a URL for %s", ttl)
		}
	}
}

func signedPut(t *testing.T, s *blob.Store) {
	grant, err := s.SignedPut(t.Context(), "rec/seg.1", time.Minute, 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"1234", "123456"} {
		if answer, _ := do(t, http.MethodPut, grant.URL, grant.Headers, body); answer.StatusCode < 400 {
			t.Errorf("%d bytes through a grant of 5: %d", len(body), answer.StatusCode)
		}
	}
	if _, err := s.Stat(t.Context(), "rec/seg.1"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a refused PUT left something: %v", err)
	}
	// The same segment again overwrites.
	for _, body := range []string{"first", "again"} {
		if answer, text := do(t, http.MethodPut, grant.URL, grant.Headers, body); answer.StatusCode != http.StatusOK {
			t.Fatalf("got %d %s", answer.StatusCode, text)
		}
		if got := get(t, s, "rec/seg.1", 0, -1); got != body {
			t.Errorf("got %q, want %q", got, body)
		}
	}
	if _, err := s.SignedPut(t.Context(), "rec/seg.1", time.Minute, 0); err == nil {
		t.Error("a grant of nothing")
	}
}

func changedURL(t *testing.T, s *blob.Store) {
	put(t, s, "acc_a/secret", "mine")
	put(t, s, "acc_b/secret", "theirs")
	address, err := s.SignedGet(t.Context(), "acc_b/secret", time.Minute, blob.Download{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	unsigned := *u
	unsigned.RawQuery = ""
	another := *u
	another.Path = strings.Replace(u.Path, "acc_b", "acc_a", 1)
	retyped := *u
	retyped.RawQuery = strings.Replace(u.RawQuery, "octet-stream", "javascript", 1)
	more := *u
	more.RawQuery += "&x=y"
	for name, c := range map[string]struct {
		method string
		url    url.URL
	}{
		"unsigned": {http.MethodGet, unsigned}, "another key": {http.MethodGet, another}, "another type": {http.MethodGet, retyped},
		"another parameter": {http.MethodGet, more}, "another method": {http.MethodPut, *u},
	} {
		if answer, body := do(t, c.method, c.url.String(), nil, ""); answer.StatusCode < 400 {
			t.Errorf("%s: %d %q", name, answer.StatusCode, body)
		}
	}
}

func concurrentPuts(t *testing.T, s *blob.Store) {
	bodies := []string{strings.Repeat("a", 100_000), strings.Repeat("b", 200_000), strings.Repeat("c", 300_000)}
	var writers sync.WaitGroup
	for _, body := range bodies {
		writers.Go(func() {
			if err := s.Put(context.WithoutCancel(t.Context()), "contested", bytes.NewReader([]byte(body)), int64(len(body))); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	got := get(t, s, "contested", 0, -1)
	for _, body := range bodies {
		if got == body {
			return
		}
	}
	t.Errorf("got a mixture of %d bytes", len(got))
}
