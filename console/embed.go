// Package console owns what browsers are served: now the page of a one-time link, on which a user chooses a password.
// What it shows comes through the REST API.
package console

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"regexp"
)

//go:embed link.html
var linkPage []byte

// Handlers are the handlers by their pattern (http.ServeMux).
func Handlers() map[string]http.Handler {
	policy := linkPolicy()
	return map[string]http.Handler{"GET /link": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(linkPage) // a browser that is gone loads it again
	})}
}

var (
	script = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
	style  = regexp.MustCompile(`(?s)<style>(.*?)</style>`)
)

// linkPolicy lets the page run its own script, talk to where it came from, and nothing else (CSP level 3 hashes).
func linkPolicy() string {
	hash := func(of *regexp.Regexp) string {
		sum := sha256.Sum256(of.FindSubmatch(linkPage)[1])
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(style) +
		"; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
