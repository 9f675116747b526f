package blob

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// incoming holds what is being written. No key begins with a dot.
const incoming = ".incoming"

// staleAfter is when an unfinished file was left by a process that died.
const staleAfter = 24 * time.Hour

// files keeps blobs as plain files. os.Root sees to it that no name leaves the folder, also through a link.
type files struct {
	root    *os.Root
	base    string
	secret  []byte
	serving http.Handler
}

func openFiles(folder string, o Options) (*files, error) {
	if folder == "" {
		return nil, errors.New("blob store file: needs a folder, as in file:data/blobs")
	}
	if len(o.Secret) < sha256.Size {
		return nil, fmt.Errorf("blob store file: the secret for signed URLs must have at least %d bytes, has %d", sha256.Size, len(o.Secret))
	}
	if _, err := url.ParseRequestURI(o.BaseURL); err != nil {
		return nil, fmt.Errorf("blob store file: base URL: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	f := &files{root: root, base: strings.TrimSuffix(o.BaseURL, "/"), secret: o.Secret}
	f.serving = f.routes()
	if err := f.tidy(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob store: %w", err), root.Close())
	}
	return f, nil
}

// tidy removes what processes that died have left unfinished.
func (f *files) tidy() error {
	if err := f.root.MkdirAll(incoming, 0o700); err != nil {
		return err
	}
	entries, err := fs.ReadDir(f.root.FS(), incoming)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if err := f.root.Remove(path.Join(incoming, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (f *files) close() error { return f.root.Close() }

func (f *files) put(ctx context.Context, key string, body io.Reader, size int64) (err error) {
	temporary := path.Join(incoming, rand.Text())
	out, err := f.root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("blob: put %s: %w", key, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("blob: put %s: %w", key, errors.Join(err, f.root.Remove(temporary)))
		}
	}()
	n, err := io.Copy(out, whileAlive{ctx, body})
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("got %d bytes of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = out.Sync()
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	folder := path.Dir(key)
	if err := f.root.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := f.root.Rename(temporary, key); err != nil {
		return err
	}
	return f.syncUp(folder)
}

// syncUp writes a folder's entries to the disk, and those of the folders above, which may be new.
func (f *files) syncUp(folder string) error {
	for {
		d, err := f.root.Open(folder)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
		if folder == "." {
			return nil
		}
		folder = path.Dir(folder)
	}
}

// whileAlive reads until its context ends.
type whileAlive struct {
	ctx context.Context
	io.Reader
}

func (r whileAlive) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// open gives a plain file.
func (f *files) open(key string) (*os.File, fs.FileInfo, error) {
	in, err := f.root.Open(key)
	if err != nil {
		return nil, nil, absent(err)
	}
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, errors.Join(ErrNotFound, err, in.Close())
	}
	return in, info, nil
}

func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}

func (f *files) get(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	in, _, err := f.open(key)
	if err != nil {
		return nil, fmt.Errorf("blob: get %s: %w", key, err)
	}
	if _, err := in.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("blob: get %s: %w", key, err), in.Close())
	}
	if length < 0 {
		return in, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(in, length), in}, nil
}

func (f *files) stat(_ context.Context, key string) (Info, error) {
	in, info, err := f.open(key)
	if err != nil {
		return Info{}, fmt.Errorf("blob: stat %s: %w", key, err)
	}
	return Info{Size: info.Size(), Modified: info.ModTime().UTC()}, in.Close()
}

func (f *files) remove(_ context.Context, key string) error {
	err := f.root.Remove(key)
	if err == nil {
		return f.syncUp(path.Dir(key))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("blob: delete %s: %w", key, err)
}

func (f *files) signedGet(_ context.Context, key string, ttl time.Duration, d Download) (string, error) {
	q := url.Values{"type": {d.ContentType}}
	if d.FileName != "" {
		q.Set("name", d.FileName)
	}
	return f.signed(http.MethodGet, key, ttl, q), nil
}

func (f *files) signedPut(_ context.Context, key string, ttl time.Duration, size int64) (Grant, error) {
	q := url.Values{"size": {strconv.FormatInt(size, 10)}}
	return Grant{URL: f.signed(http.MethodPut, key, ttl, q), Headers: map[string]string{}}, nil
}

func (f *files) signed(method, key string, ttl time.Duration, q url.Values) string {
	// A second begun is granted.
	q.Set("expires", strconv.FormatInt(time.Now().Add(ttl+time.Second-1).Unix(), 10))
	q.Set("signature", f.signature(method, key, q))
	return f.base + "/blobs/" + key + "?" + q.Encode()
}

// signature covers the method, the key and every parameter but itself.
func (f *files) signature(method, key string, q url.Values) string {
	signed := url.Values{}
	for name, values := range q {
		if name != "signature" {
			signed[name] = values
		}
	}
	mac := hmac.New(sha256.New, f.secret)
	// A hash takes all it is given.
	_, _ = io.WriteString(mac, method+"\n"+key+"\n"+signed.Encode())
	return hex.EncodeToString(mac.Sum(nil))
}

func (f *files) handler() http.Handler { return f.serving }

func (f *files) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /blobs/{key...}", func(w http.ResponseWriter, r *http.Request) {
		if key, ok := f.granted(w, r, http.MethodGet); ok {
			f.serve(w, r, key)
		}
	})
	m.HandleFunc("PUT /blobs/{key...}", func(w http.ResponseWriter, r *http.Request) {
		if key, ok := f.granted(w, r, http.MethodPut); ok {
			f.receive(w, r, key)
		}
	})
	return m
}

// granted checks a signed URL, and answers when it is not good.
func (f *files) granted(w http.ResponseWriter, r *http.Request, method string) (key string, ok bool) {
	key = r.PathValue("key")
	q, err := url.ParseQuery(r.URL.RawQuery)
	given, _ := hex.DecodeString(q.Get("signature"))
	want, _ := hex.DecodeString(f.signature(method, key, q))
	if err != nil || CheckKey(key) != nil || !hmac.Equal(given, want) {
		problem.Write(w, "", problem.New(problem.CodeForbidden, "this URL is not signed by us; ask for a new one"))
		return "", false
	}
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	if err != nil || time.Now().Unix() > expires {
		problem.Write(w, "", problem.New(problem.CodeForbidden, "this URL is over; ask for a new one"))
		return "", false
	}
	return key, true
}

func (f *files) serve(w http.ResponseWriter, r *http.Request, key string) {
	in, info, err := f.open(key)
	if errors.Is(err, ErrNotFound) {
		notFound(w)
		return
	}
	if err != nil {
		problem.Write(w, "", err)
		return
	}
	// Read only; nothing is lost when closing fails.
	defer func() { _ = in.Close() }()
	h := w.Header()
	h.Set("Content-Type", r.URL.Query().Get("type"))
	h.Set("Content-Disposition", disposition(r.URL.Query().Get("name")))
	h.Set("Cache-Control", "private, no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// Whatever was uploaded, it runs no script in our origin.
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	http.ServeContent(w, r, "", info.ModTime(), in)
}

func (f *files) receive(w http.ResponseWriter, r *http.Request, key string) {
	size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	if err != nil || r.ContentLength != size {
		problem.Write(w, "", problem.Invalid(fmt.Sprintf("this URL is for exactly %d bytes, announced in Content-Length", size)))
		return
	}
	if err := f.put(r.Context(), key, http.MaxBytesReader(w, r.Body, size), size); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = problem.Invalid("the body ended early; send it again")
		}
		problem.Write(w, "", err)
		return
	}
	w.WriteHeader(http.StatusOK)
}
