package ops

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// authority is a certificate authority of our own, for machines that no public one knows: in an office network, or on a
// desk. People trust its certificate once; the server's own, which it signs, is short-lived and made anew when the
// machine's names and addresses change.
type authority struct {
	folder string
	extra  []string // names beside the machine's
	log    *slog.Logger

	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte

	leaf *tls.Certificate
}

// The files of an authority.
const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
	serverCert    = "server.crt"
	serverKey     = "server.key"
)

const (
	authorityFor = 10 * 365 * 24 * time.Hour
	serverFor    = 90 * 24 * time.Hour
	// renewBefore is how long before its end a server's certificate is made anew.
	renewBefore = 30 * 24 * time.Hour
	// backdated is how wrong a clock of a client may be.
	backdated = time.Hour
)

// openAuthority reads the authority of a folder, or makes one. A folder that holds half of one is an error: making another
// would silently break what people trust.
func openAuthority(folder string, extra []string, log *slog.Logger) (*authority, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	a := &authority{folder: folder, extra: extra, log: log}
	err := a.read()
	if errors.Is(err, fs.ErrNotExist) {
		err = a.make()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", folder, err)
	}
	return a, nil
}

func (a *authority) path(name string) string { return filepath.Join(a.folder, name) }

// read is fs.ErrNotExist only when neither file is there.
func (a *authority) read() error {
	cert, certErr := os.ReadFile(a.path(authorityCert))
	key, keyErr := os.ReadFile(a.path(authorityKey))
	switch {
	case errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist):
		return fs.ErrNotExist
	case certErr != nil && keyErr == nil, certErr == nil && keyErr != nil:
		return fmt.Errorf("%s and %s belong together, and one of them cannot be read; put it back, or remove both for a new authority", authorityCert, authorityKey)
	case certErr != nil:
		return certErr
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	switch {
	case !ok || !a.cert.IsCA:
		return fmt.Errorf("%s is not the certificate of an authority", authorityCert)
	case time.Now().After(a.cert.NotAfter.Add(-serverFor)):
		return fmt.Errorf("%s ends at %s; remove it and %s for a new authority, which everybody must trust anew", authorityCert, a.cert.NotAfter.Format(time.RFC3339), authorityKey)
	}
	a.key, a.pem = signer, cert
	return nil
}

func (a *authority) make() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"Hookswitch"}, CommonName: fmt.Sprintf("Hookswitch on %s, %s", clip(host), now.Format(time.DateOnly))},
		NotBefore:    now.Add(-backdated), NotAfter: now.Add(authorityFor),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	// The key first: a start that is cut off in between is finished by the operator's decision, never by a second key.
	if err := writeKey(a.path(authorityKey), key); err != nil {
		return err
	}
	if err := writeFile(a.path(authorityCert), 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return err
	}
	return a.read()
}

// certificate gives the server's certificate, made anew when it nears its end or does not name this machine any more.
func (a *authority) certificate() (*tls.Certificate, error) {
	want := a.names()
	if a.leaf == nil {
		a.leaf = a.kept()
	}
	if a.leaf != nil && covers(a.leaf.Leaf, want) && time.Until(a.leaf.Leaf.NotAfter) > renewBefore {
		return a.leaf, nil
	}
	leaf, err := a.issue(want)
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	a.leaf = leaf
	return leaf, nil
}

// kept is the certificate of the process before this one, nil when it cannot be used.
func (a *authority) kept() *tls.Certificate {
	cert, err := os.ReadFile(a.path(serverCert))
	if err != nil {
		return nil
	}
	key, err := os.ReadFile(a.path(serverKey))
	if err != nil {
		return nil
	}
	pair, err := parsePair(cert, key)
	if err != nil || pair.Leaf.CheckSignatureFrom(a.cert) != nil {
		return nil
	}
	return pair
}

func (a *authority) issue(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"Hookswitch"}, CommonName: clip(names[0])},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(serverFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.pem...)
	if err := writeKey(a.path(serverKey), key); err != nil {
		return nil, err
	}
	if err := writeFile(a.path(serverCert), 0o644, chain); err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return parsePair(chain, text)
}

// names are what this machine is reached by: its host name, its addresses, and the extra ones.
func (a *authority) names() []string {
	all := []string{"localhost"}
	if host, err := os.Hostname(); err == nil && isHostName(host) {
		all = append([]string{strings.ToLower(host)}, all...)
	}
	for _, name := range a.extra {
		if _, err := netip.ParseAddr(name); err == nil || isHostName(name) {
			all = append(all, strings.ToLower(name))
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		a.log.Warn("https.addresses", "error", err.Error())
	}
	for _, each := range addresses {
		prefix, err := netip.ParsePrefix(each.String())
		if err != nil || prefix.Addr().IsLinkLocalUnicast() {
			continue // a browser cannot be pointed to a link-local address
		}
		all = append(all, prefix.Addr().Unmap().String())
	}
	all = append(all, "127.0.0.1", "::1")
	slices.Sort(all[1:])
	return slices.Compact(all)
}

// isHostName reports whether a certificate can name it: letters, digits, hyphens and dots (RFC 5280 §4.2.1.6).
func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// covers reports whether a certificate names all of them.
func covers(leaf *x509.Certificate, names []string) bool {
	for _, name := range names {
		if leaf.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// clip keeps a common name within its 64 characters (RFC 5280, ub-common-name), of which others need 34.
func clip(host string) string {
	const most = 30
	return host[:min(len(host), most)]
}

// serial is 127 random bits: positive, as RFC 5280 §4.1.2.2 wants.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	return writeFile(path, 0o600, text)
}

// writeFile puts a file in place as a whole or not at all.
func writeFile(path string, mode fs.FileMode, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
