// Package openapi owns the specification of the REST API: openapi.yaml and one file per module, joined into one
// OpenAPI 3.1 document, the view of it that requests are validated against, the rules that keep it whole (Lint), and
// its reference page. Routing and validating requests by it is left to rest.
package openapi

import (
	"embed"
	"io/fs"
	"net/http"
	"strings"
	"sync"
)

//go:embed *.yaml
var files embed.FS

//go:embed docs
var docs embed.FS

// Load joins the embedded specification. It is the same on every call, and made on the first.
func Load() (*Spec, error) { return load() }

var load = sync.OnceValues(func() (*Spec, error) { return Parse(files) })

// Base is the embedded openapi.yaml alone, for tests that Parse it together with a module of their own.
func Base() fs.FS { return only{files, "openapi.yaml"} }

// only shows one file of a file system.
type only struct {
	fs.FS
	name string
}

func (o only) ReadDir(string) ([]fs.DirEntry, error) {
	entry, err := fs.Stat(o.FS, o.name)
	if err != nil {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(entry)}, nil
}

// policy lets the reference page load nothing from outside. Swagger UI draws with style attributes and with images
// in its style sheet.
const policy = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; " +
	"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the joined document at /openapi.yaml, the reference page at /docs and the list of problems at
// /docs/problems.
func (s *Spec) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		// The client may be gone; there is nobody left to tell.
		_, _ = w.Write(s.YAML)
	})
	page := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Security-Policy", policy)
			w.Header().Set("X-Content-Type-Options", "nosniff")
			http.ServeFileFS(w, r, docs, "docs/"+name)
		}
	}
	m.HandleFunc("GET /docs", page("reference.html"))
	m.HandleFunc("GET /docs/problems", page("problems.html"))
	m.HandleFunc("GET /docs/assets/{file}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		if strings.HasSuffix(name, ".html") {
			http.NotFound(w, r)
			return
		}
		page(name)(w, r)
	})
	return m
}
