package ops

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// files is the operator's certificate.
type files struct {
	cert, key string

	looked  bool
	seen    [sha256.Size]byte // of what was read last
	loaded  *tls.Certificate  // from it, nil when it could not be used
	failure error             // why not, until it was told
}

// certificate reads the files. Why it reads them instead of looking at their times: renewing tools replace links, and
// copies keep times. What cannot be used is an error when it is found twice, but for the first time of all: the two files
// are not replaced in one moment. Then it is nil without an error, until the files change.
func (f *files) certificate() (*tls.Certificate, error) {
	cert, certErr := os.ReadFile(f.cert)
	key, keyErr := os.ReadFile(f.key)
	err := errors.Join(certErr, keyErr)
	seen := sha256.Sum256(fmt.Appendf(nil, "%q %q %v", cert, key, err))
	if f.looked && seen == f.seen {
		told := f.failure
		f.failure = nil
		return f.loaded, told
	}
	first := !f.looked
	f.looked, f.seen, f.loaded, f.failure = true, seen, nil, nil
	if err == nil {
		f.loaded, err = parsePair(cert, key)
	}
	if err == nil {
		return f.loaded, nil
	}
	err = fmt.Errorf("%s and %s: %w", f.cert, f.key, err)
	if first {
		return nil, err
	}
	f.failure = err
	return nil, nil
}

// parsePair checks what a server would be embarrassed by: a key of another certificate, one that is over, or that is for
// no host.
func parsePair(cert, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, err
		}
	}
	switch {
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("the certificate ended at %s", pair.Leaf.NotAfter.Format(time.RFC3339))
	case len(names509(pair.Leaf)) == 0:
		return nil, errors.New("the certificate names no host (subjectAltName)")
	}
	return &pair, nil
}
