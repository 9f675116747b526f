package prompt

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxFresh is about what RFC 9111 §1.2.2 has caches count to.
	maxFresh = 10 * 365 * 24 * time.Hour
	// maxHeuristic bounds a guess: a file that somebody replaces is heard after five minutes at most.
	maxHeuristic = 5 * time.Minute
)

// policy is what an answer's header says about keeping it.
type policy struct {
	noStore      bool
	mustValidate bool          // never stale, whatever happens to the origin
	fresh        time.Duration // from now; 0: validate before the next use
}

// readPolicy reads Cache-Control, Expires, Age, Date and Vary as a shared cache does (RFC 9111 §3 and §4.2). What cannot be
// read counts as stale. Vary matters only when it is "*": our requests for a URL are all alike.
func readPolicy(header http.Header, now time.Time) policy {
	directives := parseDirectives(header.Values("Cache-Control"))
	has := func(name string) bool { _, ok := directives[name]; return ok }
	return policy{
		noStore:      has("no-store") || has("private") || strings.Contains(strings.Join(header.Values("Vary"), ","), "*"),
		mustValidate: has("no-cache") || has("must-revalidate") || has("proxy-revalidate") || has("s-maxage"),
		fresh:        max(0, min(lifetime(header, directives, now)-age(header, now), maxFresh)),
	}
}

// lifetime is the freshness lifetime of RFC 9111 §4.2.1, or a tenth of the file's age (§4.2.2) where none is told.
func lifetime(header http.Header, directives map[string]string, now time.Time) time.Duration {
	if _, ok := directives["no-cache"]; ok {
		return 0
	}
	for _, name := range []string{"s-maxage", "max-age"} {
		if value, ok := directives[name]; ok {
			return seconds(value)
		}
	}
	made := date(header, now)
	if expires := header.Get("Expires"); expires != "" {
		until, err := http.ParseTime(expires)
		if err != nil {
			return 0 // "0" and the like: it has expired (§5.3)
		}
		return until.Sub(made)
	}
	modified, err := http.ParseTime(header.Get("Last-Modified"))
	if err != nil || modified.After(made) {
		return 0
	}
	return min(made.Sub(modified)/10, maxHeuristic)
}

// age is how old the answer was when it came: what a cache on the way says.
func age(header http.Header, now time.Time) time.Duration {
	return max(seconds(header.Get("Age")), now.Sub(date(header, now)), 0)
}

// date is when the origin made the answer; now when it does not say, or has a clock that is ahead.
func date(header http.Header, now time.Time) time.Time {
	made, err := http.ParseTime(header.Get("Date"))
	if err != nil || made.After(now) {
		return now
	}
	return made
}

// seconds reads a delta-seconds (RFC 9111 §1.2.2); what is none counts as 0, what is too large as maxFresh.
func seconds(value string) time.Duration {
	n, err := strconv.ParseUint(value, 10, 64)
	switch {
	case err != nil && strings.Trim(value, "0123456789") == "" && value != "":
		return maxFresh
	case err != nil:
		return 0
	}
	return time.Duration(min(n, uint64(maxFresh/time.Second))) * time.Second
}

// keptHeaders are the lines of an answer that outlive it.
var keptHeaders = []string{"ETag", "Last-Modified", "Cache-Control", "Expires", "Vary"}

// updated is the part of an answer's header that says how long it may be kept. Of a 304, stored is what was known: what the
// 304 leaves out stays as it was (RFC 9111 §3.2 and §4.3.4), but for its age.
func updated(stored, answer http.Header) http.Header {
	header := http.Header{"Date": answer.Values("Date"), "Age": answer.Values("Age")}
	for _, name := range keptHeaders {
		values := answer.Values(name)
		if len(values) == 0 {
			values = stored.Values(name)
		}
		if len(values) > 0 {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	return header
}

// otherVersion reports that a 304 speaks of another version than the stored one: it must not be made to last by it (RFC
// 9111 §4.3.4). Tags are compared weakly, as the request's were (RFC 9110 §8.8.3.2).
func otherVersion(stored, answer http.Header) bool {
	ours, theirs := strings.TrimPrefix(stored.Get("ETag"), "W/"), strings.TrimPrefix(answer.Get("ETag"), "W/")
	return ours != "" && theirs != "" && ours != theirs
}

// parseDirectives reads Cache-Control lines into lower-case names and unquoted values. A directive given twice counts as
// the first.
func parseDirectives(lines []string) map[string]string {
	directives := make(map[string]string)
	for directive := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		name, value, _ := strings.Cut(directive, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := directives[name]; name == "" || twice {
			continue
		}
		directives[name] = strings.Trim(strings.TrimSpace(value), `"`)
	}
	return directives
}
