package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hookswitch/hookswitch/deploy/phone"
)

// recording is a program whose recording the edge ships to the control plane's storage, by the API's public URL.
const recording = `{"instructions":[{"verb":"record","max_length":1,"beep":false,"silence":0,"trim":false},{"verb":"hangup"}]}`

// records makes a call that is recorded and waits for the recording.
func (p *process) records() {
	p.t.Helper()
	p.application(map[string]any{"program": json.RawMessage(recording)}, "2000")
	if r := p.place(phone.Call{To: "2000"}); r.Err != nil || !r.Answered {
		p.t.Errorf("the call: %v, answered %t", r.Err, r.Answered)
	}
	p.recorded()
}

// plain is a client that follows no redirect.
func plain(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestHTTPSOfAnAuthorityOfOurOwn(t *testing.T) {
	data := t.TempDir()
	redirect := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := up(t, data, nil, "--https", "self", "--http-redirect", redirect)
	if !strings.HasPrefix(p.known.URL, "https://127.0.0.1:") || p.known.CA != filepath.Join(data, "tls", "ca.crt") {
		t.Fatalf("credentials: %+v", p.known)
	}
	_, header, text := p.do(p.api, http.MethodGet, p.known.URL+"/ca.crt", "", "")
	kept, err := os.ReadFile(p.known.CA)
	if err != nil || text != string(kept) || header.Get("Strict-Transport-Security") != "" {
		t.Errorf("/ca.crt: %v %s, %v", header, text, err)
	}
	if !strings.Contains(p.output(), "SHA-256") || !strings.Contains(p.output(), "trusted root authorities") {
		t.Errorf("the banner does not say how to trust the authority")
	}
	if status, text := p.get(plain(t), p.known.URL+"/healthz", ""); status != 0 || !strings.Contains(text, "certificate") {
		t.Errorf("a client that does not trust it: %d %s", status, text)
	}
	status, header, _ := p.do(plain(t), http.MethodGet, "http://"+redirect+"/docs", "", "")
	if status != http.StatusMovedPermanently || header.Get("Location") != p.known.URL+"/docs" {
		t.Errorf("clear text: %d %s", status, header.Get("Location"))
	}
	if status, _, _ := p.do(plain(t), http.MethodPost, "http://"+redirect+"/v1/calls", p.known.APIKey, "{}"); status != http.StatusForbidden {
		t.Errorf("a request with a key in clear text: %d", status)
	}
	p.records()
	// The telephone reads the events of its call over TLS.
	code, out, errs := invoke(t, nil, "call", "2000", "--data", data)
	if code != 0 || !strings.Contains(out, "events of call_") {
		t.Errorf("hookswitch call: exit %d\n%s%s", code, out, errs)
	}
	if status, text := p.get(p.http, p.ops+"/metrics", ""); status != 200 || !strings.Contains(text, "hookswitch_tls_certificate_expiry_timestamp_seconds") {
		t.Errorf("/metrics: %d", status)
	}
	if status, _ := p.get(p.api, p.known.URL+"/metrics", p.known.APIKey); status != http.StatusNotFound {
		t.Errorf("/metrics without a token set: %d", status)
	}
	p.stop()
	again := up(t, data, nil, "--https", "self")
	if later, err := os.ReadFile(again.known.CA); err != nil || string(later) != string(kept) {
		t.Errorf("the second start has another authority, %v", err)
	}
	if status, _ := again.get(again.api, again.known.URL+"/healthz", ""); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
}

// keyPair writes a certificate of its own authority for a name.
func keyPair(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// shows is the name in the certificate that a server shows.
func shows(address, name string, roots *x509.CertPool) (string, error) {
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12})
	if err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, conn.Close()
}

// at is a client to whom every name is this machine, as a DNS of the outside would have it.
func at(t *testing.T, address string, roots *x509.CertPool) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTPSWithTheOperatorsCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key, trusted := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "trusted.pem")
	keyPair(t, "one.example", cert, key)
	first, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trusted, first, 0o600); err != nil {
		t.Fatal(err)
	}
	p := up(t, filepath.Join(dir, "data"), nil, "--https", "files", "--https-cert", cert, "--https-key", key, "--trust-ca", trusted)
	address := strings.TrimPrefix(p.known.URL, "https://one.example")
	if address == p.known.URL {
		t.Fatalf("the API is at %s", p.known.URL)
	}
	address = "127.0.0.1" + address
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first)
	p.api = at(t, address, roots)
	if _, header, _ := p.do(p.api, http.MethodGet, p.known.URL+"/healthz", "", ""); !strings.HasPrefix(header.Get("Strict-Transport-Security"), "max-age=") {
		t.Errorf("a browser is told %v", header)
	}
	p.records() // nothing resolves one.example: the edge knows that it is here

	// The certificate is renewed while the process runs.
	keyPair(t, "two.example", cert, key)
	second, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(second)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.eventually(func() string {
		if name, err := shows(address, "two.example", roots); err != nil || name != "two.example" {
			return fmt.Sprintf("the server shows %q, %v", name, err)
		}
		return ""
	})
	// A broken one is not taken, which the log says, and calls and requests go on.
	if err := os.WriteFile(cert, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.eventually(func() string {
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return err.Error()
		}
		if !strings.Contains(p.output(), "https.certificate_refused") {
			return "the log does not say that the certificate is broken"
		}
		return ""
	})
	if name, err := shows(address, "two.example", roots); err != nil || name != "two.example" {
		t.Errorf("with a broken file the server shows %q, %v", name, err)
	}
}

// zone answers every A question with 127.0.0.1, until the test ends: the world's DNS for a test's domains. It is asked over
// TCP (RFC 1035 §4.2.2).
func zone(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				for answer(conn) == nil { // until the asker goes
				}
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return l.Addr().String()
}

func answer(conn net.Conn) error {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return err
	}
	question := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return err
	}
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return err
	}
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	for _, q := range m.Questions {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			})
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...))
	return err
}

// pebble is the ACME server that Let's Encrypt tests clients with. It asks the DNS of the test where domains are, and
// validates at tlsPort and httpPort.
func pebble(t *testing.T, tlsPort, httpPort int) (directory, trusted string, roots *x509.CertPool, stop func()) {
	t.Helper()
	program := os.Getenv("HOOKSWITCH_TEST_PEBBLE")
	if program == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(cache, "hookswitch", "tools", "pebble-v2.10.1")
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the ACME server is missing: make tools builds it (%v)", err)
	}
	dir := t.TempDir()
	trusted = filepath.Join(dir, "cert.pem")
	keyPair(t, "localhost", trusted, filepath.Join(dir, "key.pem"))
	port, management := freePort(t), freePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", port), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management),
		"certificate": trusted, "privateKey": filepath.Join(dir, "key.pem"), "tlsPort": tlsPort, "httpPort": httpPort,
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "usual", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", zone(t), "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
		if text, err := os.ReadFile(out.Name()); t.Failed() && err == nil {
			t.Logf("pebble said:\n%s", text)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	text, err := os.ReadFile(trusted)
	if err != nil {
		t.Fatal(err)
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(text)
	return fmt.Sprintf("https://127.0.0.1:%d/dir", port), trusted, issuer(t, management, own), stop
}

// issuer asks pebble for the root that its certificates are of, once it answers.
func issuer(t *testing.T, management int, trusted *x509.CertPool) *x509.CertPool {
	t.Helper()
	client := at(t, fmt.Sprintf("127.0.0.1:%d", management), trusted)
	p := &process{t: t, gone: make(chan struct{})}
	roots := x509.NewCertPool()
	p.eventually(func() string {
		status, text := p.get(client, "https://localhost/roots/0", "")
		if status != http.StatusOK || !roots.AppendCertsFromPEM([]byte(text)) {
			return "pebble does not answer: " + text
		}
		return ""
	})
	return roots
}

func TestHTTPSOfAPublicAuthority(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			https, clear := freePort(t), freePort(t)
			tlsPort := https
			if challenge == "http-01" {
				tlsPort = freePort(t) // where nobody answers: as behind something that ends TLS
			}
			directory, trusted, roots, stop := pebble(t, tlsPort, clear)
			const domain = "calls.hookswitch.example"
			data := t.TempDir()
			args := []string{
				"--https", "acme", "--acme-domain", domain, "--acme-email", "operator@hookswitch.example", "--acme-directory", directory, "--trust-ca", trusted,
				"--http", fmt.Sprintf("127.0.0.1:%d", https), "--http-redirect", fmt.Sprintf("127.0.0.1:%d", clear),
			}
			p := up(t, data, nil, args...)
			address := fmt.Sprintf("127.0.0.1:%d", https)
			p.eventually(func() string {
				if !strings.Contains(p.output(), "https.certificate_loaded") {
					return "no certificate was obtained"
				}
				return ""
			})
			p.obtained(address, domain, roots)
			if want := fmt.Sprintf("https://%s:%d", domain, https); p.known.URL != want {
				t.Errorf("the API is at %s, want %s", p.known.URL, want)
			}
			client := at(t, fmt.Sprintf("127.0.0.1:%d", clear), nil)
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if status, header, _ := p.do(client, http.MethodGet, "http://"+domain+"/docs", "", ""); header.Get("Location") != p.known.URL+"/docs" {
				t.Errorf("clear text leads to %d %s", status, header.Get("Location"))
			}
			info, err := os.Stat(filepath.Join(data, "tls", "acme", domain))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("kept: %v, %v", info, err)
			}
			p.stop()
			stop() // the authority: what was obtained is kept
			p = up(t, data, nil, args...)
			p.obtained(address, domain, roots)
		})
	}
}

// obtained expects the authority's certificate, and nothing for other names.
func (p *process) obtained(address, domain string, roots *x509.CertPool) {
	p.t.Helper()
	client := at(p.t, address, roots)
	status, header, text := p.do(client, http.MethodGet, "https://"+domain+"/healthz", "", "")
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Strict-Transport-Security"), "max-age=") {
		p.t.Errorf("/healthz: %d %v %s", status, header, text)
	}
	if _, err := shows(address, "other.hookswitch.example", roots); err == nil {
		p.t.Error("a certificate for a name that is not ours")
	}
	p.eventually(func() string {
		if _, text := p.get(p.http, p.ops+"/metrics", ""); !strings.Contains(text, "\nhookswitch_tls_certificate_expiry_timestamp_seconds ") {
			return "the end of the certificate is not among the metrics"
		}
		return ""
	})
}
