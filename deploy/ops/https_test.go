package ops_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/deploy/ops"
)

// served is a TLS server with a certificate of ops, until the test ends.
func served(t *testing.T, h *ops.HTTPS) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), TLSConfig: h.TLS(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr()
}

// shown is the certificate that a server shows to a client that trusts roots and asks for a name.
func shown(addr net.Addr, roots *x509.CertPool, name string, version uint16) (*x509.Certificate, error) {
	conn, err := tls.Dial("tcp", addr.String(), &tls.Config{RootCAs: roots, ServerName: name, MaxVersion: version, MinVersion: min(version, tls.VersionTLS12)})
	if err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], conn.Close()
}

func self(t *testing.T, folder string, names ...string) *ops.HTTPS {
	t.Helper()
	h, err := ops.OpenHTTPS(ops.HTTPSConfig{Mode: ops.HTTPSSelf, Folder: folder, Names: names, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAnAuthorityOfOurOwn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data", "tls")
	h := self(t, folder, "calls.example.internal", "192.0.2.7")
	addr := served(t, h)
	text, fingerprint := h.Authority()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) || len(fingerprint) != 95 {
		t.Fatalf("authority %s, %s", text, fingerprint)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", host, "calls.example.internal", "192.0.2.7"} {
		if _, err := shown(addr, roots, name, tls.VersionTLS13); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := shown(addr, roots, "elsewhere.example", tls.VersionTLS13); err == nil {
		t.Error("the certificate is good for any name")
	}
	if _, err := shown(addr, roots, "localhost", tls.VersionTLS12); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	if _, err := shown(addr, roots, "localhost", tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	if _, err := shown(addr, h.Roots(nil), "localhost", tls.VersionTLS13); err != nil {
		t.Errorf("our own client: %v", err)
	}
	for name, mode := range map[string]fs.FileMode{"ca.key": 0o600, "server.key": 0o600, "ca.crt": 0o644, "server.crt": 0o644, ".": 0o700} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	w := httptest.NewRecorder()
	h.AuthorityHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ca.crt", nil))
	if !bytes.Equal(w.Body.Bytes(), text) || w.Header().Get("Content-Type") != "application/x-x509-ca-cert" {
		t.Errorf("/ca.crt: %v %s", w.Header(), w.Body)
	}
	if h.Strict() != 0 || h.Host() != "" || time.Until(h.NotAfter()) < 80*24*time.Hour {
		t.Errorf("strict %s, host %q, until %s", h.Strict(), h.Host(), h.NotAfter())
	}
}

func TestWhatPeopleTrustStays(t *testing.T) {
	folder := t.TempDir()
	_, first := self(t, folder).Authority()
	before, err := os.ReadFile(filepath.Join(folder, "server.crt"))
	if err != nil {
		t.Fatal(err)
	}
	_, second := self(t, folder).Authority()
	after, err := os.ReadFile(filepath.Join(folder, "server.crt"))
	if err != nil || first != second || !bytes.Equal(before, after) {
		t.Errorf("a second start: authority %t, certificate %t, %v", first == second, bytes.Equal(before, after), err)
	}
	renamed := self(t, folder, "new.example")
	text, third := renamed.Authority()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	if _, err := shown(served(t, renamed), roots, "new.example", tls.VersionTLS13); err != nil || third != first {
		t.Errorf("a start under another name: same authority %t, %v", third == first, err)
	}
	// Half of an authority: a new one would break what people trust without a word.
	if err := os.Remove(filepath.Join(folder, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := ops.OpenHTTPS(ops.HTTPSConfig{Mode: ops.HTTPSSelf, Folder: folder, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "belong together") {
		t.Errorf("half an authority: %v", err)
	}
}

func TestACertificateOfOurOwnIsRenewedBeforeItsEnd(t *testing.T) {
	folder := t.TempDir()
	self(t, folder)
	// One that ends next week, as after months of running.
	ca, err := tls.LoadX509KeyPair(filepath.Join(folder, "ca.crt"), filepath.Join(folder, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	old := issue(t, template("localhost", time.Now().Add(7*24*time.Hour)), &ca)
	old.write(t, filepath.Join(folder, "server.crt"), filepath.Join(folder, "server.key"))
	again := self(t, folder)
	if time.Until(again.NotAfter()) < 80*24*time.Hour {
		t.Errorf("in use until %s", again.NotAfter())
	}
}

// pair is a certificate and its key as PEM.
type pair struct{ cert, key []byte }

func (p pair) write(t *testing.T, cert, key string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(cert, p.cert, 0o600), os.WriteFile(key, p.key, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func template(name string, notAfter time.Time) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: notAfter.Add(-365 * 24 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if name != "" {
		c.DNSNames = []string{name}
	}
	return c
}

// issue signs a certificate, by itself when by is nil.
func issue(t *testing.T, c *x509.Certificate, by *tls.Certificate) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := c, any(key)
	if by != nil {
		if parent, err = x509.ParseCertificate(by.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		signer = by.PrivateKey
	} else {
		c.IsCA = true
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 100)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// await waits until the log has said something so often.
func (l *lines) await(t *testing.T, what string, times int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		got := strings.Count(l.text.String(), what)
		l.mu.Unlock()
		if got >= times {
			return
		}
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("%q was logged %d times, want %d", what, got, times)
		}
	}
}

func TestTheOperatorsCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	year := time.Now().Add(200 * 24 * time.Hour)
	first, second := issue(t, template("one.example", year), nil), issue(t, template("two.example", year), nil)
	first.write(t, cert, key)
	log := newLines()
	h, err := ops.OpenHTTPS(ops.HTTPSConfig{
		Mode: ops.HTTPSFiles, Cert: cert, Key: key, Poll: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	defer running.Wait()
	defer stop()
	addr := served(t, h)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first.cert)
	roots.AppendCertsFromPEM(second.cert)
	expect := func(name string) {
		t.Helper()
		if c, err := shown(addr, roots, name, tls.VersionTLS13); err != nil || !slices.Contains(c.DNSNames, name) {
			t.Errorf("the server does not show %s: %v", name, err)
		}
	}
	expect("one.example")
	if h.Host() != "one.example" || h.Strict() == 0 {
		t.Errorf("host %q, strict %s", h.Host(), h.Strict())
	}
	second.write(t, cert, key)
	log.await(t, "https.certificate_loaded", 1)
	expect("two.example")

	// What is broken leaves the last in use, and is told of once.
	for i, broken := range []pair{
		{cert: []byte("half a cert"), key: second.key},
		{cert: first.cert, key: second.key},
		issue(t, template("over.example", time.Now().Add(-time.Hour)), nil),
		issue(t, template("", year), nil),
	} {
		broken.write(t, cert, key)
		log.await(t, "https.certificate_refused", i+1)
		expect("two.example")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	log.await(t, "no such file", 1)
	expect("two.example")
	first.write(t, cert, key)
	log.await(t, "https.certificate_loaded", 2)
	expect("one.example")
}

// What is there between the two files being replaced is nobody's mistake.
func TestAHalfReplacedCertificateIsNotReported(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	year := time.Now().Add(200 * 24 * time.Hour)
	first, second := issue(t, template("one.example", year), nil), issue(t, template("two.example", year), nil)
	first.write(t, cert, key)
	log := newLines()
	h, err := ops.OpenHTTPS(ops.HTTPSConfig{Mode: ops.HTTPSFiles, Cert: cert, Key: key, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	look := func(p pair, loaded, refused int) {
		t.Helper()
		p.write(t, cert, key)
		h.Reload()
		text := log.text.String()
		if l, r := strings.Count(text, "certificate_loaded"), strings.Count(text, "certificate_refused"); l != loaded || r != refused {
			t.Errorf("loaded %d times, refused %d; want %d and %d", l, r, loaded, refused)
		}
	}
	half := pair{second.cert, first.key}
	look(first, 0, 0)
	look(half, 0, 0)
	look(second, 1, 0)
	look(half, 1, 0)
	look(half, 1, 1)
	look(half, 1, 1)
	look(first, 2, 1)
}

func TestMistakesInTheSettingsOfHTTPS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	issue(t, template("over.example", time.Now().Add(-time.Hour)), nil).write(t, cert, key)
	for _, c := range []struct {
		cfg  ops.HTTPSConfig
		says string
	}{
		{ops.HTTPSConfig{Mode: "yes"}, "off, self, files or acme"},
		{ops.HTTPSConfig{Mode: "files"}, "--https-cert"},
		{ops.HTTPSConfig{Mode: "files", Cert: "/nowhere.pem", Key: "/nowhere.pem"}, "no such file"},
		{ops.HTTPSConfig{Mode: "files", Cert: cert, Key: key}, "ended at"},
		{ops.HTTPSConfig{Mode: "acme"}, "--acme-domain"},
		{ops.HTTPSConfig{Mode: "self", Folder: "/dev/null/tls"}, "not a directory"},
	} {
		c.cfg.Logger = slog.New(slog.DiscardHandler)
		if _, err := ops.OpenHTTPS(c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.says)
		}
	}
}

func TestClearTextLeadsToHTTPS(t *testing.T) {
	h := self(t, t.TempDir())
	for _, c := range []struct {
		method, host, path, base string
		port                     uint16
		status                   int
		to                       string
	}{
		{"GET", "calls.example", "/docs?x=1", "", 443, 301, "https://calls.example/docs?x=1"},
		{"GET", "calls.example:80", "/", "", 8443, 301, "https://calls.example:8443/"},
		{"GET", "192.0.2.1:8080", "/a%2Fb", "", 8443, 301, "https://192.0.2.1:8443/a%2Fb"},
		{"GET", "[2001:db8::1]:80", "/", "", 443, 301, "https://[2001:db8::1]/"},
		{"GET", "[2001:db8::1]", "/", "", 8443, 301, "https://[2001:db8::1]:8443/"},
		{"HEAD", "anything", "/docs", "https://public.example", 8443, 301, "https://public.example/docs"},
		{"GET", "evil.example@good.example", "/", "", 443, 400, ""},
		{"GET", "evil example", "/", "", 443, 400, ""},
		{"GET", "", "/", "", 443, 400, ""},
		{"POST", "calls.example", "/v1/calls", "", 443, 403, ""},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		r.Host = c.host
		u, err := r.URL.Parse(c.path)
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		w := httptest.NewRecorder()
		h.Redirect(c.base, c.port).ServeHTTP(w, r)
		if w.Code != c.status || w.Header().Get("Location") != c.to {
			t.Errorf("%s %s %s: %d %s; want %d %s", c.method, c.host, c.path, w.Code, w.Header().Get("Location"), c.status, c.to)
		}
	}
}
