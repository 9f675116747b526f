package ops

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// The ways to a certificate.
const (
	HTTPSOff   = "off"
	HTTPSSelf  = "self"  // of an authority of our own, made at the first start
	HTTPSFiles = "files" // the operator's
	HTTPSACME  = "acme"  // of a public authority, by RFC 8555
)

// HTTPSConfig says where the certificate comes from.
type HTTPSConfig struct {
	Mode   string // one of the above
	Folder string // for what self and acme keep, made when missing
	Logger *slog.Logger

	Names []string // self: host names and addresses beside those of this machine

	Cert, Key string // files: PEM; the certificate is followed by those between it and the authority

	Domains   []string       // acme: host names that lead here
	Email     string         // acme: where the authority writes to; may be empty
	Directory string         // acme: the authority's directory URL; "" is Let's Encrypt
	Roots     *x509.CertPool // acme: that the directory's own certificate may be of; nil: the system's

	// Poll is how often files and addresses are looked at; 0 is 10 s.
	Poll time.Duration
}

// HTTPS holds the certificate that a server shows, and renews it while Run runs.
type HTTPS struct {
	cfg       HTTPSConfig
	source    source
	manager   *autocert.Manager // of acme
	authority *authority        // of self
	current   atomic.Pointer[tls.Certificate]
}

// source gives the certificate as it should be now. It is asked often, and gives the same pointer until something changed.
// An error leaves the last one in use.
type source interface {
	certificate() (*tls.Certificate, error)
}

const (
	defaultPoll = 10 * time.Second
	// strictFor is long enough for browsers to remember, and short enough to leave again.
	strictFor = 180 * 24 * time.Hour
)

// OpenHTTPS reads or makes the certificate. With acme it does not wait for one: Run asks for it. The error for settings
// that do not fit together finishes a sentence that begins with "--https MODE".
func OpenHTTPS(cfg HTTPSConfig) (*HTTPS, error) {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	h := &HTTPS{cfg: cfg}
	switch cfg.Mode {
	case HTTPSSelf:
		a, err := openAuthority(cfg.Folder, cfg.Names, cfg.Logger)
		if err != nil {
			return nil, err
		}
		h.source, h.authority = a, a
	case HTTPSFiles:
		if cfg.Cert == "" || cfg.Key == "" {
			return nil, errors.New("needs --https-cert and --https-key")
		}
		h.source = &files{cert: cfg.Cert, key: cfg.Key}
	case HTTPSACME:
		if len(cfg.Domains) == 0 {
			return nil, errors.New("needs --acme-domain")
		}
		h.manager = newManager(cfg)
		return h, nil
	default:
		return nil, fmt.Errorf("must be off, self, files or acme, is %q", cfg.Mode)
	}
	first, err := h.source.certificate()
	if err != nil {
		return nil, err
	}
	h.current.Store(first)
	return h, nil
}

// TLS is the configuration of a server: TLS 1.2 or later, with the certificate as it is at each handshake.
func (h *HTTPS) TLS() *tls.Config {
	if h.manager != nil {
		cfg := h.manager.TLSConfig() // answers the challenge TLS-ALPN-01 as well
		cfg.MinVersion = tls.VersionTLS12
		return cfg
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.current.Load(), nil },
	}
}

// Run keeps the certificate fresh until ctx ends.
func (h *HTTPS) Run(ctx context.Context) {
	if h.manager != nil {
		h.obtain(ctx)
		return
	}
	tick := time.NewTicker(h.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.Reload()
		}
	}
}

// Reload looks for a new certificate at once. One that cannot be used is logged, and the last stays in use.
func (h *HTTPS) Reload() {
	if h.manager != nil {
		return // renews by itself
	}
	next, err := h.source.certificate()
	if err != nil {
		h.cfg.Logger.Error("https.certificate_refused", "error", err.Error(), "in_use_until", h.NotAfter().Format(time.RFC3339))
		return
	}
	if next == nil || h.current.Load() == next {
		return
	}
	h.current.Store(next)
	h.cfg.Logger.Info("https.certificate_loaded", "names", names509(next.Leaf), "not_after", next.Leaf.NotAfter.Format(time.RFC3339))
}

// NotAfter is when the certificate in use ends; the zero time while there is none.
func (h *HTTPS) NotAfter() time.Time {
	if c := h.current.Load(); c != nil {
		return c.Leaf.NotAfter
	}
	return time.Time{}
}

// Strict is how long browsers may be told to insist on TLS. Nothing for a certificate of our own: a browser that insists
// lets nobody past its warning.
func (h *HTTPS) Strict() time.Duration {
	if h.authority != nil {
		return 0
	}
	return strictFor
}

// Host is the name to ask for, where the certificate says which: the first domain of acme, or of the operator's files.
func (h *HTTPS) Host() string {
	switch {
	case h.manager != nil:
		return h.cfg.Domains[0]
	case h.authority == nil:
		for _, name := range h.current.Load().Leaf.DNSNames {
			if !strings.HasPrefix(name, "*") {
				return name
			}
		}
	}
	return ""
}

// Authority is the certificate of our own authority as PEM, and its SHA-256 fingerprint; nil where there is none.
func (h *HTTPS) Authority() (pem []byte, fingerprint string) {
	if h.authority == nil {
		return nil, ""
	}
	return h.authority.pem, fingerprintOf(h.authority.cert.Raw)
}

// AuthorityHandler lets people fetch the certificate of our own authority.
func (h *HTTPS) AuthorityHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		w.Header().Set("Content-Disposition", `attachment; filename="hookswitch-ca.crt"`)
		_, _ = w.Write(h.authority.pem) // a reader that is gone asks again
	})
}

// Roots are what a client of ours trusts that comes to this server: the given ones (nil: the system's), and our own
// authority.
func (h *HTTPS) Roots(given *x509.CertPool) *x509.CertPool {
	if h.authority == nil {
		return given
	}
	return withAuthority(given, h.authority.cert)
}

func withAuthority(given *x509.CertPool, own *x509.Certificate) *x509.CertPool {
	var roots *x509.CertPool
	if given != nil {
		roots = given.Clone()
	} else if system, err := x509.SystemCertPool(); err == nil {
		roots = system
	} else {
		roots = x509.NewCertPool() // a machine without any
	}
	roots.AddCert(own)
	return roots
}

// Redirect is what a listener in clear text serves beside: it leads to the same path at the base URL, or where that is ""
// at the host that was asked for, at port. Where acme is used it answers the challenge HTTP-01 too.
func (h *HTTPS) Redirect(base string, port uint16) http.Handler {
	var next http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			// Following would hide that the key was sent in clear text.
			http.Error(w, "this listener only leads to https://; ask there", http.StatusForbidden)
			return
		}
		to, ok := target(base, r, port)
		if !ok {
			http.Error(w, "say which host is asked for", http.StatusBadRequest)
			return
		}
		http.Redirect(w, r, to, http.StatusMovedPermanently)
	})
	if h.manager == nil {
		return next
	}
	challenged := h.manager.HTTPHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The port is no part of the domain, wherever the authority comes by.
		r.Host = hostOnly(r.Host)
		challenged.ServeHTTP(w, r)
	})
}

func target(base string, r *http.Request, port uint16) (string, bool) {
	if base != "" {
		return strings.TrimRight(base, "/") + r.URL.RequestURI(), true
	}
	host := hostOnly(r.Host)
	if addr, err := netip.ParseAddr(host); (err != nil || addr.Zone() != "") && !isHostName(host) {
		return "", false
	}
	const usual = 443
	if port != usual {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "https://" + host + r.URL.RequestURI(), true
}

// hostOnly is the Host of a request without its port and without the brackets of IPv6.
func hostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.Trim(host, "[]")
}

// fingerprintOf is the SHA-256 of a certificate as browsers show it.
func fingerprintOf(der []byte) string {
	sum := sha256.Sum256(der)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// names509 are the hosts that a certificate is for.
func names509(leaf *x509.Certificate) []string {
	all := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}
