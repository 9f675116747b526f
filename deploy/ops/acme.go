package ops

import (
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// newManager makes what asks a public authority for certificates and renews them, 30 days before their end. By starting a
// process with an --acme-domain the operator agrees to the authority's terms.
func newManager(cfg HTTPSConfig) *autocert.Manager {
	client := &acme.Client{DirectoryURL: cfg.Directory, UserAgent: "hookswitch"}
	if cfg.Directory == "" {
		client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	if cfg.Roots != nil {
		client.HTTPClient = &http.Client{
			Timeout:   time.Minute,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}},
		}
	}
	return &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(filepath.Join(cfg.Folder, "acme")),
		HostPolicy: autocert.HostWhitelist(cfg.Domains...), Email: cfg.Email, Client: client,
	}
}

// How often a certificate is looked after: an authority that said no is asked again, ever more seldom.
const (
	firstAgain = time.Minute
	lastAgain  = time.Hour
	lookAfter  = 12 * time.Hour
)

// obtain asks for the certificates of all domains at the start, so that the first visitor does not wait and what is wrong
// stands in the log, and looks at them twice a day. Handshakes ask by themselves as well.
func (h *HTTPS) obtain(ctx context.Context) {
	again := firstAgain
	for {
		wait := lookAfter
		if !h.obtained(ctx) {
			wait, again = again, min(2*again, lastAgain)
		} else {
			again = firstAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// obtained gets or renews every domain's certificate and reports whether all are there.
func (h *HTTPS) obtained(ctx context.Context) bool {
	all := true
	for i, domain := range h.cfg.Domains {
		done := make(chan struct{})
		var cert *tls.Certificate
		var err error
		go func() { // autocert knows no context; it gives up by itself after five minutes
			defer close(done)
			cert, err = h.manager.GetCertificate(modernHello(domain))
		}()
		select {
		case <-ctx.Done():
			return false
		case <-done:
		}
		if err != nil {
			all = false
			h.cfg.Logger.Error("https.not_obtained", "domain", domain, "error", err.Error(),
				"hint", "port 443 must lead to --http, or port 80 to --http-redirect")
			continue
		}
		if before := h.current.Load(); i == 0 && (before == nil || !before.Leaf.Equal(cert.Leaf)) {
			h.current.Store(cert)
			h.cfg.Logger.Info("https.certificate_loaded", "names", names509(cert.Leaf), "not_after", cert.Leaf.NotAfter.Format(time.RFC3339))
		}
	}
	return all
}

// modernHello is a handshake as today's browsers begin it: it gets the same certificate, an ECDSA one, as they do.
func modernHello(domain string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: domain, SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_AES_128_GCM_SHA256},
	}
}
