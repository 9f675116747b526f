package notice_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mailServer is a real mail server in a process of its own.
type mailServer struct {
	port  int
	roots *x509.CertPool // that its certificate is good by
	mails chan received
}

// received is a mail that the server has taken.
type received struct {
	From   string   `json:"from"`
	To     []string `json:"to"`
	Secure bool     `json:"secure"`
	User   string   `json:"user"`
	Text   string   `json:"text"` // base64
}

// certificate makes one for 127.0.0.1, and writes it and its key to files.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return cert, key, roots
}

// serveMail starts a mail server; see testdata/smtpd.py for its options.
func serveMail(t *testing.T, options ...string) *mailServer {
	t.Helper()
	cert, key, roots := certificate(t)
	// Debian's own interpreter, which has Debian's packages.
	c := exec.CommandContext(t.Context(), "/usr/bin/python3", append([]string{"testdata/smtpd.py", "--cert", cert, "--key", key}, options...)...)
	c.Stderr = t.Output()
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatalf("python3 with aiosmtpd is missing: install the Debian package python3-aiosmtpd: %v", err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the mail server did not start: install the Debian package python3-aiosmtpd: %v", err)
	}
	s := &mailServer{roots: roots, mails: make(chan received, 100)}
	if s.port, err = strconv.Atoi(strings.TrimSpace(first)); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var m received
			if err := json.Unmarshal(line, &m); err != nil {
				t.Errorf("%v: %s", err, line)
				return
			}
			s.mails <- m
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-read
		_ = c.Wait() // it was told to end, or was killed with the test
	})
	return s
}

// next waits for a mail.
func (s *mailServer) next(t *testing.T) received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case m := <-s.mails:
		return m
	case <-ctx.Done():
		t.Fatal("no mail came")
		return received{}
	}
}

// none fails the test when a mail has come that was not read.
func (s *mailServer) none(t *testing.T) {
	t.Helper()
	select {
	case m := <-s.mails:
		t.Errorf("another mail came: %+v", m)
	default:
	}
}

// read gives a mail's headers, its subject decoded, and its text.
func (m received) read(t *testing.T) (header mail.Header, subject, text string) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(m.Text)
	if err != nil {
		t.Fatal(err)
	}
	message, err := mail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(message.Body))
	if err != nil {
		t.Fatal(err)
	}
	return message.Header, subject, strings.ReplaceAll(string(body), "\r\n", "\n")
}
