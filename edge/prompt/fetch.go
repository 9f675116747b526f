package prompt

import (
	"context"
	"hash/fnv"
	"net/http"
	"net/url"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// retryAfter is how long a stale copy serves unasked after its origin failed, so that calls do not each wait for a host
// that does not answer.
const retryAfter = 10 * time.Second

// URL returns the WAV file at an address that an account gave. It is an HTTP cache shared by all accounts (RFC 9111): a
// copy is played while it is fresh, validated by ETag or Last-Modified after, and played stale when its origin fails,
// unless the origin forbade that.
func (s *Store) URL(ctx context.Context, address string) (*media.Prompt, error) {
	u, err := guard.ParseURL(address)
	if err != nil {
		return nil, fetchFailure(err)
	}
	u.Fragment, u.RawFragment = "", ""
	if s.config.Guard == nil {
		return nil, failure(CodeNotAllowed, nil, "this edge fetches no files")
	}
	key := "url " + u.String()
	if known, ok := s.cache.lookup(key); ok && time.Now().Before(known.fresh) {
		return known.prompt, nil
	}
	p, err := s.flights.do(ctx, key, func(ctx context.Context) (*media.Prompt, error) {
		return s.current(ctx, key, u)
	})
	if failed := asError(err); failed != nil {
		return nil, failed.about(place(u))
	}
	return p, err
}

// current is the prompt of a URL after asking its origin, if need be.
func (s *Store) current(ctx context.Context, key string, u *url.URL) (*media.Prompt, error) {
	known, have := s.cache.lookup(key)
	if have && time.Now().Before(known.fresh) {
		return known.prompt, nil
	}
	answer, err := s.ask(ctx, u, known)
	unchanged := err == nil && answer.Status == http.StatusNotModified
	if unchanged && otherVersion(known.header, answer.Header) {
		unchanged = false
		answer, err = s.ask(ctx, u, entry{})
	}
	switch {
	case unchanged && have:
		s.keep(key, known.prompt, updated(known.header, answer.Header))
		return known.prompt, nil
	case err == nil && isFile(answer.Status):
		return s.replace(ctx, key, answer)
	case err == nil:
		err = statusFailure(answer.Status)
	}
	failed := asError(err)
	if failed == nil {
		return nil, err
	}
	if failed.Code != CodeUnreachable {
		s.cache.remove(key)
		return nil, failed
	}
	if !have || known.mustValidate {
		return nil, failed
	}
	s.config.Logger.Warn("prompt.stale", "url", place(u), "status", answer.Status, "error", failed.Message, "reason", reason(failed))
	known.fresh = time.Now().Add(retryAfter)
	s.cache.put(key, known)
	return known.prompt, nil
}

// isFile reports that an answer holds the file. A part of it (206) was not asked for, and is not played for the whole.
func isFile(status int) bool {
	return status >= 200 && status <= 299 && status != http.StatusPartialContent
}

// replace converts a new file and keeps it as its origin allows.
func (s *Store) replace(ctx context.Context, key string, answer guard.Response) (*media.Prompt, error) {
	p, err := s.convert(ctx, answer.Body, s.config.MaxFile)
	if err != nil {
		if asError(err) != nil {
			s.cache.remove(key)
		}
		return nil, err
	}
	s.keep(key, p, updated(nil, answer.Header))
	return p, nil
}

// keep stores a prompt as long as the header of its answer allows.
func (s *Store) keep(key string, p *media.Prompt, header http.Header) {
	now := time.Now()
	policy := readPolicy(header, now)
	if policy.noStore {
		s.cache.remove(key)
		return
	}
	s.cache.put(key, entry{prompt: p, header: header, fresh: now.Add(policy.fresh), mustValidate: policy.mustValidate})
}

// ask fetches the file, conditionally where a version is known. The error is an *Error or the context's.
func (s *Store) ask(ctx context.Context, u *url.URL, known entry) (guard.Response, error) {
	host := s.hosts[slot(u.Host)]
	if err := host.acquire(ctx); err != nil {
		return guard.Response{}, err
	}
	defer host.release()
	if err := s.downloads.acquire(ctx); err != nil {
		return guard.Response{}, err
	}
	defer s.downloads.release()

	start := time.Now()
	header := http.Header{"Accept": {"audio/wav, audio/x-wav, */*;q=0.1"}}
	if etag := known.header.Get("ETag"); etag != "" {
		header.Set("If-None-Match", etag)
	}
	if modified := known.header.Get("Last-Modified"); modified != "" {
		header.Set("If-Modified-Since", modified)
	}
	answer, err := s.config.Guard.Fetch(ctx, guard.Request{
		URL: u.String(), Header: header, MaxBody: s.config.MaxFile, ReadTimeout: readTimeout,
	})
	s.config.Logger.Debug("prompt.fetched", "source", "url", "url", place(u), "status", answer.Status, "size", len(answer.Body),
		"duration_ms", time.Since(start).Milliseconds(), "error", err)
	if err == nil {
		return answer, nil
	}
	if ctx.Err() != nil {
		return answer, context.Cause(ctx)
	}
	return answer, fetchFailure(err)
}

// slot is where a host waits; two that share a slot share its limit.
func slot(host string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host))
	return int(h.Sum32() % maxDownloads)
}
