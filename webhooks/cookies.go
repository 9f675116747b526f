package webhooks

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
)

// Limits of a call's cookies.
const (
	maxCookies     = 50
	maxCookieBytes = 4096 // name, value and attributes (RFC 6265 §6.1)
)

// Jar keeps the cookies that an application sets during one call (RFC 6265), as Twilio does. It holds 50 cookies of
// at most 4,096 bytes; what is more is dropped. It is safe for concurrent use.
type Jar struct {
	jar *cookiejar.Jar

	mu   sync.Mutex // guards seen
	seen map[cookieKey]bool
}

// cookieKey is what makes two cookies the same one (RFC 6265 §5.3, step 11); host is where a cookie without domain
// came from.
type cookieKey struct{ host, domain, path, name string }

// NewJar returns an empty jar for one call.
func NewJar() *Jar {
	// Why no public suffix list: a jar lives for one call of one account, so a cookie set for co.uk reaches no one
	// but this account's own hosts.
	jar, _ := cookiejar.New(nil) // never fails (cookiejar.New)
	return &Jar{jar: jar, seen: map[cookieKey]bool{}}
}

// SetCookies keeps what there is room for.
func (j *Jar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	kept := make([]*http.Cookie, 0, len(cookies))
	for _, c := range cookies {
		if len(c.Raw) <= maxCookieBytes && len(c.Name)+len(c.Value) <= maxCookieBytes && j.room(u, c) {
			kept = append(kept, c)
		}
	}
	j.jar.SetCookies(u, kept)
}

func (j *Jar) room(u *url.URL, c *http.Cookie) bool {
	key := cookieKey{u.Hostname(), c.Domain, c.Path, c.Name}
	j.mu.Lock()
	defer j.mu.Unlock()
	if c.MaxAge < 0 {
		delete(j.seen, key)
		return true
	}
	if !j.seen[key] && len(j.seen) >= maxCookies {
		return false
	}
	j.seen[key] = true
	return true
}

// Cookies returns the cookies to send to the URL.
func (j *Jar) Cookies(u *url.URL) []*http.Cookie { return j.jar.Cookies(u) }
