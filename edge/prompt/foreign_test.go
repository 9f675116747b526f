package prompt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks/guard"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// What an address that an account gives may hold.

// raw answers each request to a path with these octets, whatever they are, and leaves the connection open unless the answer
// is to be all of it.
func raw(t *testing.T, config Config, answers map[string]string) (*Store, string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { speak(conn, answers) })
		}
	})
	config.Guard = guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s := New(config)
	t.Cleanup(func() {
		s.Close()
		config.Guard.Close()
		_ = l.Close()
		conns.Wait()
	})
	return s, "http://" + l.Addr().String()
}

func speak(conn net.Conn, answers map[string]string) {
	defer conn.Close()
	from := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		answer := answers[r.URL.Path]
		if _, err := io.WriteString(conn, answer); err != nil || strings.Contains(answer, "Connection: close") {
			return
		}
	}
}

// ok is a 200 with these lines of header before the body.
func ok(body []byte, lines ...string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n" + string(body)
}

func TestURLThatLiesAboutItsLength(t *testing.T) {
	whole := file(440)
	honest := fmt.Sprintf("Content-Length: %d", len(whole))
	s, base := raw(t, Config{}, map[string]string{
		"/honest":    ok(whole, honest),
		"/less":      ok(whole, fmt.Sprintf("Content-Length: %d", len(whole)-6)), // and goes on behind its end
		"/nothing":   ok(whole[:8], "Content-Length: 0"),
		"/more":      ok(whole[:1000], honest, "Connection: close"),
		"/twice":     ok(whole, honest, "Content-Length: 7"),
		"/negative":  ok(whole, "Content-Length: -1"),
		"/2GB":       ok(whole, "Content-Length: 2147483648"),
		"/unclosed":  ok([]byte(fmt.Sprintf("%x\r\n%s\r\n", len(whole), whole)), "Transfer-Encoding: chunked", "Connection: close"),
		"/chunk":     ok([]byte("FFFFFFFFFFFFFFFFFF\r\n"+string(whole)), "Transfer-Encoding: chunked"),
		"/to-an-end": ok(whole, "Connection: close"),
	})
	for _, tc := range []struct {
		path string
		code Code // "" is played
		says string
	}{
		{"/less", CodeInvalid, "it was cut short"},
		{"/nothing", CodeInvalid, "it is empty"},
		{"/more", CodeUnreachable, "closed before the answer was complete"},
		{"/twice", CodeUnreachable, ""},
		{"/negative", CodeUnreachable, ""},
		{"/2GB", CodeInvalid, "larger than"},
		{"/unclosed", CodeUnreachable, "closed before the answer was complete"},
		{"/chunk", CodeUnreachable, ""},
		{"/to-an-end", "", ""},
	} {
		p, err := s.URL(t.Context(), base+tc.path)
		switch {
		case tc.code != "":
			wantCode(t, tc.path, err, tc.code, tc.says)
		case err != nil || !same(p, want(440)):
			t.Errorf("%s: %v", tc.path, err)
		}
		// What stood behind one answer is not taken for the next one's.
		if p, err := s.URL(t.Context(), base+"/honest"); err != nil || !same(p, want(440)) {
			t.Fatalf("after %s: %v", tc.path, err)
		}
	}
}

func TestURLThatLiesAboutItsType(t *testing.T) {
	long := make([]byte, 300)
	for i := range long {
		long[i] = byte(i*7 + 1)
	}
	s, server := loopback(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, claims, _ := strings.Cut(r.URL.Query().Get("x"), "|")
		w.Header().Set("Content-Type", claims)
		switch body {
		case "wav":
			_, _ = w.Write(file(440))
		case "garbage":
			_, _ = w.Write(long)
		case "picture":
			_, _ = io.WriteString(w, "\x89PNG\r\n\x1a\n")
		default:
			_, _ = io.WriteString(w, body)
		}
	})
	for _, tc := range []struct {
		body, claims string
		code         Code // "" is played
		says         string
	}{
		{"wav", "text/html", "", ""}, // its octets say what it is
		{"wav", "audio/mpeg", "", ""},
		{"wav", "nonsense/;;;", "", ""},
		{"<html>Sign in", "audio/wav", CodeInvalid, "a web page"},
		{`{"error":1}`, "audio/wav", CodeInvalid, "JSON"},
		{"ID3\x04", "audio/wav", CodeInvalid, "MP3"},
		{"picture", "audio/wav", CodeInvalid, "RIFF"},
		{"garbage", "audio/wav", CodeInvalid, "RIFF"},
		{"RIFF\x10\x00\x00\x00WAVE", "audio/wav", CodeInvalid, "no fmt chunk"},
		{"", "audio/wav", CodeInvalid, "empty"},
	} {
		p, err := s.URL(t.Context(), server.URL+"/?"+"x="+escape(tc.body+"|"+tc.claims))
		switch {
		case tc.code != "":
			wantCode(t, tc.body+" as "+tc.claims, err, tc.code, tc.says)
		case err != nil || !same(p, want(440)):
			t.Errorf("%s as %s: %v", tc.body, tc.claims, err)
		}
	}
}

func escape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// A file whose header promises more than there is, or the most that a header can.
func TestWAVThatLiesAboutItsLength(t *testing.T) {
	s := open(t, Config{})
	claiming := func(size uint32) []byte {
		f := file(440)
		binary.LittleEndian.PutUint32(f[40:], size)
		return f
	}
	for size, says := range map[uint32]string{1 << 30: "cut short", 16_001: "cut short"} {
		_, err := s.Bytes(claiming(size))
		wantCode(t, fmt.Sprint(size), err, CodeInvalid, says)
	}
	for _, size := range []uint32{1<<31 - 1, 1 << 31, 1<<32 - 1} { // as streams say
		if p, err := s.Bytes(claiming(size)); err != nil || !same(p, want(440)) {
			t.Errorf("%d: %v", size, err)
		}
	}
	if p, err := s.Bytes(claiming(8000)); err != nil || p.Duration() != time.Second/2 {
		t.Errorf("half of it: %v", err)
	}
}

// Nobody reads the two gigabytes: not when they are announced, and not when they just come.
func TestURLWithoutEndIsReadToTheLimit(t *testing.T) {
	const limit = 1 << 20
	for name, announced := range map[string]string{"announced": "2147483648", "not announced": ""} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			gone := make(chan struct{})
			s, server := loopback(t, Config{MaxFile: limit}, func(w http.ResponseWriter, _ *http.Request) {
				defer close(gone)
				if announced != "" {
					w.Header().Set("Content-Length", announced)
				}
				_, err := w.Write(file(440)[:44])
				for second := make([]byte, 16_000); err == nil; sent.Add(16_000) {
					_, err = w.Write(second)
				}
			})
			_, err := s.URL(t.Context(), server.URL)
			wantCode(t, name, err, CodeInvalid, "larger than")
			<-gone
			if n := sent.Load(); n > 64*limit { // what the two sockets hold is beside the limit
				t.Errorf("%d bytes were sent", n)
			}
			if held := s.cache.bytes; held != 0 {
				t.Errorf("%d bytes are kept of it", held)
			}
		})
	}
}

func TestURLThatHangs(t *testing.T) {
	for name, tc := range map[string]struct {
		behaviour webhooktest.Behaviour
		after     time.Duration
	}{
		"before the answer": {webhooktest.Hang(), readTimeout},
		"in the answer":     {webhooktest.Drip(time.Second, string(file(440))), loadTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := webhooktest.New(t)
				app.Answer("/a.wav", tc.behaviour)
				g := guard.New(guard.Config{Transport: app.Transport()})
				s := New(Config{Guard: g})
				began := time.Now()
				_, err := s.URL(t.Context(), app.URL+"/a.wav")
				failed, ours := errors.AsType[*Error](err)
				if took := time.Since(began); !ours || failed.Code != CodeUnreachable || took != tc.after {
					t.Errorf("after %s: %v", took, err)
				}
				s.Close()
				g.Close()
			})
		})
	}
}

// Another file at the same address, however its server tells of it.
func TestURLThatChangesUnderUs(t *testing.T) {
	var etag, cache string
	var status int
	var now, served []byte
	var asked []string
	s, server := loopback(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("If-None-Match"))
		if r.Header.Get("Range") != "" {
			t.Error("a part is asked for")
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Cache-Control", cache)
		if status != 0 && (status != http.StatusNotModified || r.Header.Get("If-None-Match") != "") {
			w.WriteHeader(status)
			if status == http.StatusPartialContent {
				_, _ = w.Write(now[:len(now)/2])
			}
			return
		}
		served = now
		_, _ = w.Write(now)
	})
	play := func(what string, hz float64) *media.Prompt {
		t.Helper()
		p, err := s.URL(t.Context(), server.URL)
		if err != nil || !same(p, want(hz)) {
			t.Errorf("%s: %v", what, err)
		}
		return p
	}
	etag, cache, now = `"1"`, "no-cache", file(440)
	first := play("first", 440)
	longer := append(bytes.Clone(file(450)), 0, 0) // whose length is another, too
	etag, now = `"2"`, longer
	play("another file", 450)
	if !same(first, want(440)) {
		t.Error("what a call plays has changed under it")
	}
	etag, now = `"2"`, file(460) // and does not say so
	play("another file under the same ETag", 460)
	etag, now, status = `"3"`, file(470), http.StatusNotModified // says that nothing changed, and names a version that we have not
	play("not modified, of another version", 470)
	if last := asked[len(asked)-1]; last != "" {
		t.Errorf("the version that we have not was asked for with %q", last)
	}
	etag, status = `W/"3"`, http.StatusNotModified // the same version, weakly
	play("not modified, weakly", 470)
	if !bytes.Equal(served, file(470)) {
		t.Error("it was served something else")
	}
	cache, status = "max-age=0", 0
	play("a file that may be played when its server fails", 470)
	status = http.StatusPartialContent
	play("a part that nobody asked for", 470)
	_, err := s.URL(t.Context(), server.URL+"/other")
	wantCode(t, "a part of what is not there", err, CodeUnreachable, "206")
}

// answering gives what http.Transport would make of these octets.
type answering func(*http.Request) []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(a(r))), r)
}

// FuzzURL plays an address twice, whose server answers these octets, and then others.
func FuzzURL(f *testing.F) {
	const secret = "s3cr3t"
	short := file(440)[:200]
	binary.LittleEndian.PutUint32(short[40:], 200-44)
	f.Add([]byte(ok(short, "Content-Length: 200", `ETag: "1"`, "Cache-Control: no-cache")), []byte("HTTP/1.1 304 Not Modified\r\nETag: \"2\"\r\n\r\n"))
	f.Add([]byte(ok(short, "Transfer-Encoding: chunked")), []byte(ok(short)))
	f.Add([]byte(ok(nil, "Content-Length: 2147483648")), []byte("HTTP/1.1 206 Partial Content\r\n\r\nRIFF"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: //[::1]:0/\r\n\r\n"), []byte("HTTP/1.1 304 Not Modified\r\n\r\n"))
	f.Add([]byte(ok(short, "Content-Encoding: gzip", "Age: 99999999999999999999")), []byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		now := first
		g := guard.New(guard.Config{Transport: answering(func(*http.Request) []byte { return now })})
		s := New(Config{Guard: g, MaxFile: 1 << 16, MaxBytes: 1 << 16})
		defer g.Close()
		defer s.Close()
		for _, now = range [][]byte{first, second} {
			p, err := s.URL(t.Context(), "https://example.com/a.wav?token="+secret)
			if (p == nil) == (err == nil) || p != nil && p.Size() == 0 {
				t.Fatalf("%v, %v", p, err)
			}
			if err != nil && (asError(err) == nil || strings.Contains(err.Error(), secret)) {
				t.Fatalf("%T: %v", err, err)
			}
			if s.cache.bytes > 1<<16 {
				t.Fatalf("%d bytes are kept", s.cache.bytes)
			}
		}
	})
}
