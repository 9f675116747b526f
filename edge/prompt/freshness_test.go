package prompt

import (
	"net/http"
	"testing"
	"time"
)

func TestReadPolicy(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, tc := range []struct {
		name   string
		header http.Header
		want   policy
	}{
		{"nothing", http.Header{}, policy{}},
		{"quoted", http.Header{"Cache-Control": {`Max-Age="30"`}}, policy{fresh: 30 * time.Second}},
		{"two lines", http.Header{"Cache-Control": {"public", "max-age=30"}}, policy{fresh: 30 * time.Second}},
		{"twice", http.Header{"Cache-Control": {"max-age=30, max-age=60"}}, policy{fresh: 30 * time.Second}},
		{"negative", http.Header{"Cache-Control": {"max-age=-1"}}, policy{}},
		{"huge", http.Header{"Cache-Control": {"max-age=99999999999999999999"}}, policy{fresh: maxFresh}},
		{"older than it may be", http.Header{"Cache-Control": {"max-age=30"}, "Age": {"99999999999999999999"}}, policy{}},
		{"late", http.Header{"Cache-Control": {"max-age=30"}, "Date": {at(-20 * time.Second)}}, policy{fresh: 10 * time.Second}},
		{"clock ahead", http.Header{"Cache-Control": {"max-age=30"}, "Date": {at(time.Hour)}}, policy{fresh: 30 * time.Second}},
		{"expires", http.Header{"Expires": {at(time.Minute)}, "Date": {at(0)}}, policy{fresh: time.Minute}},
		{"expired", http.Header{"Expires": {at(-time.Minute)}}, policy{}},
		{"max-age over expires", http.Header{"Expires": {at(-time.Minute)}, "Cache-Control": {"max-age=30"}}, policy{fresh: 30 * time.Second}},
		{"modified a minute ago", http.Header{"Last-Modified": {at(-time.Minute)}}, policy{fresh: 6 * time.Second}},
		{"modified long ago", http.Header{"Last-Modified": {at(-1000 * time.Hour)}}, policy{fresh: maxHeuristic}},
		{"modified tomorrow", http.Header{"Last-Modified": {at(24 * time.Hour)}}, policy{}},
		{"no-cache", http.Header{"Cache-Control": {"no-cache, max-age=30"}}, policy{mustValidate: true}},
		{"proxy", http.Header{"Cache-Control": {"proxy-revalidate, max-age=30"}}, policy{mustValidate: true, fresh: 30 * time.Second}},
		{"no-store", http.Header{"Cache-Control": {"no-store"}}, policy{noStore: true}},
		{"vary", http.Header{"Vary": {"Accept-Encoding, *"}}, policy{noStore: true}},
		{"vary by what we do not change", http.Header{"Vary": {"Accept-Encoding"}, "Cache-Control": {"max-age=1"}}, policy{fresh: time.Second}},
	} {
		if got := readPolicy(tc.header, now); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func FuzzReadPolicy(f *testing.F) {
	f.Add("max-age=60, no-cache", "Thu, 01 Jan 2099 00:00:00 GMT", "12", "Thu, 01 Jan 1970 00:00:00 GMT", "*")
	f.Add(`private="x,y", s-maxage=9223372036854775807`, "0", "-1", "Mon", "")
	f.Fuzz(func(t *testing.T, control, expires, age, modified, vary string) {
		p := readPolicy(http.Header{
			"Cache-Control": {control}, "Expires": {expires}, "Age": {age}, "Last-Modified": {modified}, "Vary": {vary}, "Date": {modified},
		}, time.Unix(1_800_000_000, 0))
		if p.fresh < 0 || p.fresh > maxFresh {
			t.Errorf("%s", p.fresh)
		}
	})
}
