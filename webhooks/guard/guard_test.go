package guard

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCheckAddr covers every special registry that has been used to reach inside a network.
func TestCheckAddr(t *testing.T) {
	c := New(Config{
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16"), netip.MustParsePrefix("9.9.9.9/32")},
		DenyNetworks:  []netip.Prefix{netip.MustParsePrefix("8.8.8.0/24"), netip.MustParsePrefix("9.9.9.0/24")},
	})
	defer c.Close()
	for addr, allowed := range map[string]bool{
		"1.1.1.1": true, "203.0.114.1": true, "172.32.0.1": true, "2606:4700::1111": true, "::ffff:1.1.1.1": true,
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd12::1": true, "9.9.9.9": true, // allowed by the operator
		"8.8.8.8": false, "9.9.9.8": false, // denied by the operator
		"127.0.0.1": false, "127.255.255.254": false, "0.0.0.0": false, "0.1.2.3": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.100.100.200": false, "100.64.0.1": false, // cloud metadata; shared space
		"192.0.0.1": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false,
		"224.0.0.1": false, "239.255.255.250": false, "240.0.0.1": false, "255.255.255.255": false, "192.88.99.1": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::808:808": false, "64:ff9b:1::1": false, // NAT64
		"2002:7f00:1::": false, "2002:a9fe:a9fe::1": false, // 6to4
		"2001::1": false, "2001:db8::1": false, "3fff::1": false, "100::1": false, // Teredo, documentation, discard
		"fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "5f00::1": false,
	} {
		err := c.CheckAddr(netip.MustParseAddr(addr))
		if (err == nil) != allowed {
			t.Errorf("%s: allowed is %v, want %v", addr, err == nil, allowed)
		}
	}
	if c.CheckAddr(netip.Addr{}) == nil {
		t.Error("the zero address is allowed")
	}
}

// canary counts the requests that reach an address nobody may reach.
func canary(t *testing.T) (port string, hits *atomic.Int32) {
	t.Helper()
	hits = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port, hits
}

// TestFetchReachesNothingPrivate tries the spellings of loopback, private and metadata hosts that filters on URLs
// have missed.
func TestFetchReachesNothingPrivate(t *testing.T) {
	port, hits := canary(t)
	dns := serveDNS(t, map[string][]string{
		"loopback.test": {"127.0.0.1"}, "zero.test": {"0.0.0.0"}, "metadata.test": {"169.254.169.254"},
		"private.test": {"10.0.0.1"}, "several.test": {"10.0.0.1", "127.0.0.1"}, "six.test": {"::1"}, "mapped.test": {"::ffff:127.0.0.1"},
		"127.0.0.1.nip.test": {"127.0.0.1"}, "wide.test": {"127.0.0.1"}, "localhost": {"127.0.0.1"},
	})
	c := New(Config{Resolver: dns, ConnectTimeout: 5 * time.Second})
	defer c.Close()
	for _, row := range []struct {
		url   string
		class Class
	}{
		{"http://127.0.0.1:PORT/", ClassDenied},
		{"http://127.0.0.2:PORT/", ClassDenied},
		{"http://127.1.2.3:PORT/", ClassDenied},
		{"http://127.0.0.1:PORT", ClassDenied},
		{"HTTP://127.0.0.1:PORT/", ClassDenied},
		{" http://127.0.0.1:PORT/\n", ClassDenied},
		{"https://127.0.0.1:PORT/", ClassDenied},
		{"http://0.0.0.0:PORT/", ClassDenied},
		{"http://[::1]:PORT/", ClassDenied},
		{"http://[::]:PORT/", ClassDenied},
		{"http://[0:0:0:0:0:0:0:1]:PORT/", ClassDenied},
		{"http://[::ffff:127.0.0.1]:PORT/", ClassDenied},
		{"http://[::ffff:7f00:1]:PORT/", ClassDenied},
		{"http://[::127.0.0.1]:PORT/", ClassDenied},
		{"http://[64:ff9b::7f00:1]:PORT/", ClassDenied},
		{"http://[64:ff9b::127.0.0.1]:PORT/", ClassDenied},
		{"http://[2002:7f00:1::]:PORT/", ClassDenied},
		{"http://[fe80::1%25lo]:PORT/", ClassDenied},
		{"http://[fd00:ec2::254]/latest/meta-data/", ClassDenied},
		{"http://169.254.169.254/latest/meta-data/", ClassDenied},
		{"http://169.254.170.2/v2/credentials", ClassDenied},
		{"http://100.100.100.200/latest/meta-data/", ClassDenied},
		{"http://192.0.0.192/opc/v1/instance/", ClassDenied},
		{"http://10.0.0.1/", ClassDenied},
		{"http://172.16.0.1/", ClassDenied},
		{"http://192.168.0.1/", ClassDenied},
		{"http://255.255.255.255/", ClassDenied},
		{"http://224.0.0.1/", ClassDenied},
		{"http://localhost:PORT/", ClassDenied},
		{"http://LOCALHOST:PORT/", ClassDenied},
		{"http://localhost.:PORT/", ClassDenied},
		{"http://loopback.test:PORT/", ClassDenied},
		{"http://loopback.test.:PORT/", ClassDenied},
		{"http://LoopBack.TEST:PORT/", ClassDenied},
		{"http://zero.test:PORT/", ClassDenied},
		{"http://metadata.test/", ClassDenied},
		{"http://private.test/", ClassDenied},
		{"http://several.test:PORT/", ClassDenied},
		{"http://six.test:PORT/", ClassDenied},
		{"http://mapped.test:PORT/", ClassDenied},
		{"http://127.0.0.1.nip.test:PORT/", ClassDenied},
		{"http://ｗｉｄｅ.test:PORT/", ClassDenied},
		{"http://127.0.0.1:PORT/#@example.com/", ClassDenied},
		{"http://127.0.0.1:PORT?@example.com/", ClassDenied},
		{"http://2130706433:PORT/", ClassURL},
		{"http://0x7f000001:PORT/", ClassURL},
		{"http://0x7F.1:PORT/", ClassURL},
		{"http://0177.0.0.1:PORT/", ClassURL},
		{"http://017700000001:PORT/", ClassURL},
		{"http://127.1:PORT/", ClassURL},
		{"http://127.0.1:PORT/", ClassURL},
		{"http://127.0.0.1.:PORT/", ClassURL},
		{"http://127.0.0.256:PORT/", ClassURL},
		{"http://00000127.0.0.1:PORT/", ClassURL},
		{"http://0:PORT/", ClassURL},
		{"http://0x:PORT/", ClassURL},
		{"http://user@127.0.0.1:PORT/", ClassURL},
		{"http://example.com:80@127.0.0.1:PORT/", ClassURL},
		{"http://127.0.0.1:PORT@example.com/", ClassURL},
		{"http://example.com\\@127.0.0.1:PORT/", ClassURL},
		{"http://127.0.0.1%00.example.com:PORT/", ClassURL},
		{"http://127.0.0.1\t:PORT/", ClassURL},
		{"http:///127.0.0.1:PORT/", ClassURL},
		{"http:127.0.0.1:PORT/", ClassURL},
		{"http://:PORT/", ClassURL},
		{"//127.0.0.1:PORT/", ClassURL},
		{"127.0.0.1:PORT/", ClassURL},
		{"http://[::1:PORT/", ClassURL},
		{"http://.:PORT/", ClassURL},
		{"file:///etc/passwd", ClassURL},
		{"ftp://127.0.0.1/", ClassURL},
		{"gopher://127.0.0.1:PORT/_GET%20/", ClassURL},
		{"unix:///var/run/docker.sock", ClassURL},
		{"javascript:alert(1)", ClassURL},
		{"data:text/plain,x", ClassURL},
		{"lambda:function", ClassURL},
		{"", ClassURL},
		{"http://x/" + strings.Repeat("a", maxURLBytes), ClassURL},
		{"http://１２７.０.０.１:PORT/", ClassDenied},
		{"http://nowhere.test:PORT/", ClassDNS},
	} {
		_, err := c.Fetch(t.Context(), Request{URL: strings.ReplaceAll(row.url, "PORT", port)})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Class != row.class {
			t.Errorf("%.60q: %v, want class %s", row.url, err, row.class)
		}
		if ok && row.class == ClassDenied && e.Text != deniedText {
			t.Errorf("%.60q: the text tells denied addresses apart: %s", row.url, e.Text)
		}
	}
	if n := hits.Load(); n > 0 {
		t.Errorf("the canary was hit %d times", n)
	}
}

// TestFetchChecksTheAddressItDials has a name that is allowed when first resolved and forbidden afterwards.
func TestFetchChecksTheAddressItDials(t *testing.T) {
	app := serveOn(t, "127.0.0.2", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "first")
	})
	var asked atomic.Int32
	hits := new(atomic.Int32)
	serveAt(t, "127.0.0.1:"+app.port, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	dns := serveDNSFunc(t, func(_ string, kind dnsmessage.Type) []string {
		switch {
		case kind != dnsmessage.TypeA:
			return nil
		case asked.Add(1) == 1:
			return []string{"127.0.0.2"}
		}
		return []string{"127.0.0.1"}
	})
	c := New(Config{Resolver: dns, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, ConnectTimeout: 5 * time.Second})
	defer c.Close()
	target := "http://rebind.test:" + app.port + "/"
	resp, err := c.Fetch(t.Context(), Request{URL: target})
	if err != nil || string(resp.Body) != "first" {
		t.Fatalf("the allowed address: %v %q", err, resp.Body)
	}
	_, err = c.Fetch(t.Context(), Request{URL: target})
	wantClass(t, err, ClassDenied)
	if hits.Load() != 0 {
		t.Error("the name was followed to an address that is not allowed")
	}
}

func TestFetchRefusesRedirectsInside(t *testing.T) {
	port, hits := canary(t)
	app := serveOn(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hop":
			http.Redirect(w, r, "/inside", http.StatusTemporaryRedirect)
		case "/inside":
			http.Redirect(w, r, "http://127.0.0.1:"+port+"/secret", http.StatusFound)
		case "/name":
			http.Redirect(w, r, "http://localhost:"+port+"/secret", http.StatusFound)
		case "/user":
			w.Header().Set("Location", "http://a:b@127.0.0.2/")
			w.WriteHeader(http.StatusFound)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		default:
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}
	})
	c := New(Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, ConnectTimeout: 5 * time.Second})
	defer c.Close()
	for path, class := range map[string]Class{
		"/hop": ClassDenied, "/inside": ClassDenied, "/name": ClassDenied,
		"/user": ClassRedirect, "/file": ClassRedirect, "/endless": ClassRedirect,
	} {
		_, err := c.Fetch(t.Context(), Request{Method: "POST", URL: app.url + path, Body: []byte("x")})
		if e, ok := errors.AsType[*Error](err); !ok || e.Class != class {
			t.Errorf("%s: %v, want class %s", path, err, class)
		}
	}
	if n := hits.Load(); n > 0 {
		t.Errorf("the canary was hit %d times", n)
	}
}

func TestFetchIgnoresProxySettings(t *testing.T) {
	proxy := serveOn(t, "127.0.0.2", func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") })
	t.Setenv("HTTP_PROXY", proxy.url)
	t.Setenv("http_proxy", proxy.url)
	c := New(Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	defer c.Close()
	_, err := c.Fetch(t.Context(), Request{URL: "http://169.254.169.254/"})
	wantClass(t, err, ClassDenied)
}

func TestFetchFollowsRedirectsAsHTTPSays(t *testing.T) {
	type seen struct{ method, body, signed, referer string }
	var mu sync.Mutex
	got := map[string]seen{}
	app := serveOn(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got[r.URL.Path] = seen{r.Method, string(body), r.Header.Get("X-Signed"), r.Referer()}
		mu.Unlock()
		switch r.URL.Path {
		case "/303":
			http.Redirect(w, r, "/after303", http.StatusSeeOther)
		case "/302":
			http.Redirect(w, r, "/after302", http.StatusFound)
		case "/308":
			http.Redirect(w, r, "/after308?q=1", http.StatusPermanentRedirect)
		}
	})
	c := New(loopback())
	defer c.Close()
	for path, want := range map[string]seen{
		"/303": {method: "GET", signed: "GET /after303|"},
		"/302": {method: "GET", signed: "GET /after302|"},
		"/308": {method: "POST", body: "hello", signed: "POST /after308?q=1|hello"},
	} {
		resp, err := c.Fetch(t.Context(), Request{
			Method: "POST", URL: app.url + path + "?secret=1#fragment", Body: []byte("hello"),
			Sign: func(method string, u *url.URL, body []byte, h http.Header) {
				h.Set("X-Signed", method+" "+u.RequestURI()+"|"+string(body))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		after := strings.Replace(path, "/", "/after", 1)
		mu.Lock()
		if got[after] != want {
			t.Errorf("%s: %+v, want %+v", path, got[after], want)
		}
		mu.Unlock()
		if !strings.HasPrefix(resp.URL, app.url+after) {
			t.Errorf("%s: the final URL is %s", path, resp.URL)
		}
	}
	resp, err := c.Fetch(t.Context(), Request{URL: app.url + "/302", NoRedirects: true})
	if err != nil || resp.Status != http.StatusFound {
		t.Errorf("without redirects: %v %d", err, resp.Status)
	}
}

func TestFetchBoundsTheAnswer(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 4<<20))
	_ = z.Close()
	app := serveOn(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		case "/announced":
			w.Header().Set("Content-Length", "300000")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		case "/broken-gzip":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "this is not gzip at all")
		case "/brotli":
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "x")
		case "/header":
			w.Header().Set("X-Huge", strings.Repeat("x", MaxHeaderBytes))
		case "/headers":
			for range 2000 {
				w.Header().Add("Set-Cookie", "abcdefgh=ijklmnop")
			}
		case "/exact":
			_, _ = w.Write(make([]byte, DefaultMaxBody))
		case "/over":
			_, _ = w.Write(make([]byte, DefaultMaxBody+1))
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "short")
			panic(http.ErrAbortHandler)
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	})
	c := New(loopback())
	defer c.Close()
	for path, class := range map[string]Class{
		"/endless": ClassBody, "/announced": ClassBody, "/bomb": ClassBody, "/broken-gzip": ClassBody, "/brotli": ClassBody,
		"/header": ClassProtocol, "/headers": ClassProtocol, "/exact": "", "/over": ClassBody, "/cut": ClassReset, "/abort": ClassReset,
	} {
		resp, err := c.Fetch(t.Context(), Request{URL: app.url + path})
		if class == "" {
			if err != nil || len(resp.Body) != DefaultMaxBody {
				t.Errorf("%s: %v, %d bytes", path, err, len(resp.Body))
			}
			continue
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Class != class {
			t.Errorf("%s: %v, want class %s", path, err, class)
		}
		if path == "/announced" && resp.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: the status is lost", path)
		}
	}
}

// TestFetchClassesWhatIsNotHTTP speaks raw bytes.
func TestFetchClassesWhatIsNotHTTP(t *testing.T) {
	c := New(loopback())
	defer c.Close()
	for answer, class := range map[string]Class{
		"":                                   ClassReset,
		"SSH-2.0-OpenSSH_9.2\r\n":            ClassProtocol,
		"HTTP/1.1 abc\r\n\r\n":               ClassProtocol,
		"HTTP/1.1 200 OK\r\nbroken\r\n\r\n":  ClassProtocol,
		"HTTP/1.1 200 OK\r\n":                ClassReset,
		"HTTP/1.1 101 Switching\r\n\r\nxxxx": ClassProtocol,
	} {
		at := serveBytes(t, answer)
		_, err := c.Fetch(t.Context(), Request{Method: "POST", URL: "http://" + at + "/", Body: []byte("x")})
		if e, ok := errors.AsType[*Error](err); !ok || e.Class != class {
			t.Errorf("%q: %v, want class %s", answer, err, class)
		}
	}
	_, err := c.Fetch(t.Context(), Request{URL: "https://" + serveBytes(t, "HTTP/1.1 400 Bad Request\r\n\r\n") + "/"})
	wantClass(t, err, ClassTLS)
	gone := serveOn(t, "127.0.0.1", nil)
	gone.Close()
	_, err = c.Fetch(t.Context(), Request{URL: gone.url})
	wantClass(t, err, ClassConnect)
}

func TestFetchChecksCertificates(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // a refused certificate is what the test is about
	s.StartTLS()
	defer s.Close()
	c := New(loopback())
	defer c.Close()
	_, err := c.Fetch(t.Context(), Request{URL: s.URL})
	wantClass(t, err, ClassTLS)

	cfg := loopback()
	cfg.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	trusting := New(cfg)
	defer trusting.Close()
	if resp, err := trusting.Fetch(t.Context(), Request{URL: s.URL}); err != nil || resp.Status != 200 {
		t.Errorf("a certificate that is trusted: %v", err)
	}
}

func TestFetchKeepsCookiesInTheJar(t *testing.T) {
	app := serveOn(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "yes"})
		_, _ = io.WriteString(w, r.Header.Get("Cookie"))
	})
	jar, _ := cookiejar.New(nil)
	c := New(loopback())
	defer c.Close()
	for _, want := range []string{"", "seen=yes"} {
		resp, err := c.Fetch(t.Context(), Request{URL: app.url, Jar: jar})
		if err != nil || string(resp.Body) != want {
			t.Errorf("%v, cookies %q, want %q", err, resp.Body, want)
		}
	}
}

// TestFetchEndsInTime runs real HTTP over pipes in virtual time.
func TestFetchEndsInTime(t *testing.T) {
	for _, row := range []struct {
		name    string
		path    string
		request Request
		after   time.Duration
		class   Class
	}{
		{"connect", "http://deaf.test/", Request{}, time.Second, ClassConnect},
		{"own connect limit", "http://deaf.test/", Request{ConnectTimeout: 200 * time.Millisecond}, 200 * time.Millisecond, ClassConnect},
		{"no answer", "http://app.test/hang", Request{}, 5 * time.Second, ClassTimeout},
		{"read limit", "http://app.test/hang", Request{ReadTimeout: 2 * time.Second}, 2 * time.Second, ClassTimeout},
		{"dripping body", "http://app.test/drip", Request{ReadTimeout: 2 * time.Second}, 5 * time.Second, ClassTimeout},
		{"dripping header", "http://app.test/drip-header", Request{}, 5 * time.Second, ClassTimeout},
		{"slow redirects", "http://app.test/slow", Request{}, 5 * time.Second, ClassTimeout},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(Config{Transport: servePipes(t, drip)})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				began := time.Now()
				row.request.URL = row.path
				_, err := c.Fetch(ctx, row.request)
				wantClass(t, err, row.class)
				if took := time.Since(began); took != row.after {
					t.Errorf("ended after %v, want %v", took, row.after)
				}
				c.Close()
			})
		})
	}
}

func TestFetchStopsWhenCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Transport: servePipes(t, drip)})
		defer c.Close()
		why := errors.New("the caller hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		_, err := c.Fetch(ctx, Request{URL: "http://app.test/hang"})
		wantClass(t, err, ClassCanceled)
		if !errors.Is(err, why) {
			t.Errorf("the cause is lost: %v", err)
		}
	})
}

func drip(w http.ResponseWriter, r *http.Request) {
	wait := func() bool {
		select {
		case <-r.Context().Done():
			return false
		case <-time.After(time.Second):
			return true
		}
	}
	switch r.URL.Path {
	case "/hang":
		<-r.Context().Done()
	case "/drip":
		for wait() {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
	case "/drip-header":
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		head := "HTTP/1.1 200 OK\r\nX-Drip: "
		for {
			if _, err := io.WriteString(conn, head); err != nil {
				return
			}
			<-time.After(time.Second)
			head = "x"
		}
	case "/slow":
		<-time.After(2 * time.Second)
		http.Redirect(w, r, "/slow", http.StatusTemporaryRedirect)
	}
}

// servePipes serves the handler over in-memory connections, so that it works inside a synctest bubble. The host
// deaf.test never accepts.
func servePipes(t *testing.T, h http.HandlerFunc) *http.Transport {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	var serving sync.WaitGroup
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		h(w, r)
	})}
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { _ = s.Close(); serving.Wait() })
	return &http.Transport{
		MaxResponseHeaderBytes: MaxHeaderBytes,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "deaf.") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ours, theirs := net.Pipe()
			select {
			case l.conns <- theirs:
				return ours, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func loopback() Config {
	return Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ConnectTimeout: 5 * time.Second}
}

func wantClass(t *testing.T, err error, class Class) {
	t.Helper()
	if e, ok := errors.AsType[*Error](err); !ok || e.Class != class {
		t.Errorf("%v, want class %s", err, class)
	}
}

type server struct {
	*httptest.Server
	url, port string
}

func serveOn(t *testing.T, ip string, h http.HandlerFunc) server {
	t.Helper()
	return serveAt(t, ip+":0", h)
}

func serveAt(t *testing.T, addr string, h http.HandlerFunc) server {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close() // the one on 127.0.0.1
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return server{s, "http://" + l.Addr().String(), port}
}

// serveBytes answers each connection's first bytes with the given ones and closes it.
func serveBytes(t *testing.T, answer string) string {
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
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return l.Addr().String()
}

func serveDNS(t *testing.T, names map[string][]string) *net.Resolver {
	t.Helper()
	return serveDNSFunc(t, func(name string, _ dnsmessage.Type) []string { return names[name] })
}

// serveDNSFunc runs a name server on loopback and returns a resolver that asks it. The function is given each
// question's name, in lower case and without the final dot; of its answer, addresses of the other family are left
// out.
func serveDNSFunc(t *testing.T, answer func(name string, kind dnsmessage.Type) []string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			addrs := answer(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")), q.Type)
			if out, err := reply(m, q, addrs).Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func reply(m dnsmessage.Message, q dnsmessage.Question, addrs []string) *dnsmessage.Message {
	out := &dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true},
		Questions: m.Questions,
	}
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
	for _, text := range addrs {
		addr := netip.MustParseAddr(text)
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	return out
}

// FuzzParseURL checks that what is accepted is what it says, also after it was written and read again.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/a?b=c#d", "http://[::1]:80/", "http://127.1/", "http://a@b/", "http:///x", "http://0x7f.1/", "http://a..b/",
		"http://\u2460.com/", "http://x:y/", "http://[fe80::1%25eth0]/", "http://a\\@b/", "http://%31/", "HTTP://EXAMPLE.COM",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := ParseURL(raw)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Class != ClassURL {
				t.Fatalf("%v is not of class url", err)
			}
			return
		}
		again, err := ParseURL(u.String())
		if err != nil && len(u.String()) <= maxURLBytes {
			t.Fatalf("%q was accepted, %q is not: %v", raw, u, err)
		}
		if err == nil && (again.Hostname() != u.Hostname() || again.Scheme != u.Scheme || u.User != nil) {
			t.Fatalf("%q is read as %q and then as %q", raw, u, again)
		}
	})
}
