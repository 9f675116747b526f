// Package blob owns named bytes: recordings, media, exports. They lie in a folder or in S3-compatible storage, and
// are fetched and stored by others through signed URLs. What a name means, its content type and how long it is kept
// are left to the nouns and their rows.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// ErrNotFound is a key with nothing under it.
var ErrNotFound = errors.New("blob: not found")

// MaxKey is the most bytes of a key.
const MaxKey = 512

// keys are segments of letters, digits, "_", "-" and ".", none of which begins with a dot.
var keys = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// CheckKey refuses what is no key. Every method does; so a key never leaves its store's folder or prefix.
func CheckKey(key string) error {
	if len(key) > MaxKey || !keys.MatchString(key) {
		return fmt.Errorf("blob: %.100q is no key: it must be letters, digits, _, -, . and /, at most %d bytes, no part beginning with a dot", key, MaxKey)
	}
	return nil
}

// Options are what signed URLs need where we serve them ourselves (file:).
type Options struct {
	// BaseURL is where Handler is reached from outside: "https://pbx.example.com".
	BaseURL string
	// Secret signs the URLs. At least 32 bytes, the same in every process.
	Secret []byte
}

// driver is one place for blobs; blobtest.Suite says what each must do. Keys were checked.
type driver interface {
	put(ctx context.Context, key string, body io.Reader, size int64) error
	get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	stat(ctx context.Context, key string) (Info, error)
	remove(ctx context.Context, key string) error
	signedGet(ctx context.Context, key string, ttl time.Duration, d Download) (string, error)
	signedPut(ctx context.Context, key string, ttl time.Duration, size int64) (Grant, error)
	handler() http.Handler
	close() error
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	d driver
}

// Open opens the store of a URL:
//
//	file:DIR                                          a folder, made with mode 0700 when missing
//	s3://KEY:SECRET@host:port/bucket[/prefix]         the bucket must exist; parameters region (us-east-1) and
//	                                                  tls=false
//
// Close it.
func Open(ctx context.Context, location string, o Options) (*Store, error) {
	scheme, rest, _ := strings.Cut(location, ":")
	var d driver
	var err error
	switch scheme {
	case "file":
		d, err = openFiles(rest, o)
	case "s3":
		d, err = openS3(ctx, location)
	default:
		err = fmt.Errorf("blob store %q: must be file:DIR or s3://KEY:SECRET@host:port/bucket", scheme+":…")
	}
	if err != nil {
		return nil, err
	}
	return &Store{d: d}, nil
}

// Close frees the store; streams in progress go on.
func (s *Store) Close() error { return s.d.close() }

// Info is what is known of a blob.
type Info struct {
	Size     int64
	Modified time.Time
}

// Put stores all of body under key, replacing what was there. Size is its number of bytes, or -1 when unknown. Until
// Put returns nil readers see what was there before, and after a failure they still do; after nil it is on the disk.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, size int64) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return s.d.put(ctx, key, body, size)
}

// Get reads length bytes from offset on, or all from there with length -1; what lies past the end is left out. Close
// the result.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if offset < 0 || length < -1 {
		return nil, fmt.Errorf("blob: get %s: offset %d and length %d must not be negative", key, offset, length)
	}
	return s.d.get(ctx, key, offset, length)
}

// Stat tells size and time, or ErrNotFound.
func (s *Store) Stat(ctx context.Context, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	return s.d.stat(ctx, key)
}

// Delete removes a blob. One that is not there is removed already.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return s.d.remove(ctx, key)
}

// Download is how a signed URL answers.
type Download struct {
	ContentType string // empty for application/octet-stream
	FileName    string // what a browser saves it as; empty to show it in place
}

// MaxTTL bounds the life of a signed URL, as S3 does.
const MaxTTL = 7 * 24 * time.Hour

// SignedGet makes a URL that anyone may GET, also in ranges, until ttl is over.
func (s *Store) SignedGet(ctx context.Context, key string, ttl time.Duration, d Download) (string, error) {
	if err := checkGrant(key, ttl); err != nil {
		return "", err
	}
	if d.ContentType == "" {
		d.ContentType = "application/octet-stream"
	}
	return s.d.signedGet(ctx, key, ttl, d)
}

// Grant is one PUT that anyone may make: to the URL, with exactly these headers.
type Grant struct {
	URL     string
	Headers map[string]string
}

// SignedPut makes a grant to store exactly size bytes under key until ttl is over. Using it again overwrites.
func (s *Store) SignedPut(ctx context.Context, key string, ttl time.Duration, size int64) (Grant, error) {
	if err := checkGrant(key, ttl); err != nil {
		return Grant{}, err
	}
	if size < 1 {
		return Grant{}, fmt.Errorf("blob: signed put %s: size must be at least 1, is %d", key, size)
	}
	return s.d.signedPut(ctx, key, ttl, size)
}

func checkGrant(key string, ttl time.Duration) error {
	if ttl < time.Second || ttl > MaxTTL {
		return fmt.Errorf("blob: a signed URL lives from 1 s to %s, not %s", MaxTTL, ttl)
	}
	return CheckKey(key)
}

// Handler serves the signed URLs of file: under /blobs/. Those of s3: lead to the storage itself; its handler knows
// no path.
func (s *Store) Handler() http.Handler { return s.d.handler() }

// disposition is the Content-Disposition of a download (RFC 6266, with RFC 8187 for other than ASCII).
func disposition(fileName string) string {
	if fileName == "" {
		return "inline"
	}
	return "attachment; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(fileName), "+", "%20")
}

func notFound(w http.ResponseWriter) {
	problem.Write(w, "", problem.NotFound("there is nothing under this URL; ask for a new one"))
}
