package list_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// find runs a search whose filter is this JSON.
func find(t *testing.T, d *db.DB, filter string) list.Page[call] {
	t.Helper()
	q, err := table().ParseSearch(list.Search{Filter: json.RawMessage(filter), Limit: list.MaxLimit, Count: true})
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	page, err := list.Run[call](t.Context(), d, mine, q)
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return page
}

func TestSearchFilters(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		later := begin.Add(10500 * time.Millisecond).In(time.FixedZone("", -5*3600)).Format(time.RFC3339Nano)
		for filter, want := range map[string]int{
			`{}`:                               23,
			`{"status":"busy"}`:                8,
			`{"status":{"eq":"busy"}}`:         8,
			`{"status":{"in":["busy"]}}`:       8,
			`{"status":"busy","live":true}`:    4,
			`{"tries":{"gte":1,"lt":3}}`:       10,
			`{"tries":{"in":[0,1,9]}}`:         10,
			`{"tries":{"in":[0,1],"gt":0}}`:    5,
			`{"score":{"gt":0.45}}`:            3,
			`{"score":0}`:                      4,
			`{"live":false}`:                   11,
			`{"from":"+8600 Ünal"}`:            1,
			`{"id":"call_theirs"}`:             0,
			`{"external_id":null}`:             23,
			`{"external_id":{"eq":null}}`:      23,
			`{"status":"it's"}`:                0,
			`{"status":"?"}`:                   0,
			`{"started_at":"` + later + `"}`:   2,
			`{"or":[{"tries":0},{"tries":1}]}`: 10,
			`{"or":[{"tries":0,"live":true},{"status":"busy","tries":{"gt":3}}]}`:                                        5,
			`{"and":[{"tries":{"gte":1}},{"tries":{"lt":3}}]}`:                                                           10,
			`{"status":"busy","or":[{"tries":0},{"tries":1}]}`:                                                           3,
			`{"and":[{"or":[{"status":"busy"},{"status":"ringing"}]},{"or":[{"live":true},{"tries":0}]}]}`:               9,
			`{"or":[{"and":[{"or":[{"and":[{"status":"busy"}]}]}]}]}`:                                                    8,
			`{"id":{"in":["call_00","call_01","call_theirs"]},"or":[{"external_id":null},{"external_id":{"in":["x"]}}]}`: 2,
		} {
			page := find(t, d, filter)
			if len(page.Data) != want || *page.Total != int64(want) {
				t.Errorf("%s: got %d, want %d: %v", filter, len(page.Data), want, ids(page))
			}
			for _, c := range page.Data {
				if c.AccountID != "acc_mine" {
					t.Errorf("%s found another account's %s", filter, c.ID)
				}
			}
		}
	})
}

// OR in a filter must not reach beyond the filter.
func TestAnAlternativeStaysWithinTheScope(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		for _, filter := range []string{`{"or":[{"status":"busy"},{"id":"call_theirs"}]}`, `{"or":[{"id":{"in":["call_theirs"]}}]}`} {
			if page := find(t, d, filter); slices.Contains(ids(page), "call_theirs") {
				t.Errorf("%s: %v", filter, ids(page))
			}
		}
	})
}

func TestASearchHasPagesAsAListHas(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		s := list.Search{Filter: json.RawMessage(`{"status":{"in":["busy","ringing"]}}`), Sort: "score", Limit: 5, Q: "b"}
		var got []string
		for {
			q, err := table().ParseSearch(s)
			if err != nil {
				t.Fatal(err)
			}
			page, err := list.Run[call](t.Context(), d, mine, q)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ids(page)...)
			if s.Cursor = page.NextCursor; s.Cursor == "" {
				break
			}
		}
		if want := ids(run(t, d, "status=busy&sort=score&limit=1000")); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestAListOfValuesInTheQuery(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		for query, want := range map[string]int{
			"id[in]=call_01,call_02,call_theirs": 2, "id[in]=call_01": 1, "tries[in]=0,1": 10, "tries[in]=0,1&tries=1": 5, "status[in]=busy,": 8,
			"started_at[in]=2026-01-31T23:00:00Z": 3, "id[eq]=call_01": 1,
		} {
			if page := run(t, d, query+"&limit=1000"); len(page.Data) != want {
				t.Errorf("%s: got %d, want %d", query, len(page.Data), want)
			}
		}
	})
}

func TestParseSearchNamesThePlace(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"or":[`, n) + `{"tries":1}` + strings.Repeat(`]}`, n) }
	many := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]"
	}
	parts := func(n int) string {
		return `{"or":[` + strings.TrimSuffix(strings.Repeat(`{"tries":1},`, n), ",") + "]}"
	}
	for filter, want := range map[string]string{
		`[]`: "/filter", `null`: "/filter", `"x"`: "/filter",
		`{"nothing":1}`: "/filter/nothing", `{"a/b~":1}`: "/filter/a~1b~0", `{"order":1}`: "/filter/order",
		`{"tries":"1"}`: "/filter/tries", `{"tries":1.5}`: "/filter/tries", `{"tries":null,"status":1}`: "/filter/status", `{"live":"true"}`: "/filter/live",
		`{"score":1e999}`: "/filter/score", `{"status":["busy"]}`: "/filter/status", `{"status":{}}`: "/filter/status",
		`{"started_at":{"gte":"yesterday"}}`: "/filter/started_at/gte", `{"tries":{"gte":null}}`: "/filter/tries/gte", `{"tries":{"ne":1}}`: "/filter/tries/ne",
		`{"tries":{"":1}}`: "/filter/tries/", `{"status":{"gt":"a"}}`: "/filter/status/gt", `{"live":{"lt":true}}`: "/filter/live/lt",
		`{"tries":{"in":[]}}`: "/filter/tries/in", `{"tries":{"in":1}}`: "/filter/tries/in", `{"tries":{"in":[1,"2"]}}`: "/filter/tries/in/1",
		`{"tries":{"in":[1,null]}}`: "/filter/tries/in/1", `{"status":"\u0000"}`: "/filter/status",
		`{"or":[]}`: "/filter/or", `{"or":{}}`: "/filter/or", `{"and":[{}]}`: "/filter/and/0", `{"and":[{"tries":1},3]}`: "/filter/and/1",
		`{"or":[{"tries":1},{"or":[{"nothing":1}]}]}`: "/filter/or/1/or/0/nothing",
		deep(6):                               "/filter/or/0/or/0/or/0/or/0/or/0/or",
		parts(101):                            "/filter/or/100/tries",
		`{"tries":{"in":` + many(1001) + `}}`: "/filter/tries/in",
		`{"or":[{"tries":{"in":` + many(999) + `}},{"tries":{"in":` + many(999) + `}},{"tries":{"in":[1,2,3]}}]}`: "/filter/or/2/tries/in",
	} {
		_, err := table().ParseSearch(list.Search{Filter: json.RawMessage(filter)})
		if p := problem.From(err); p.Status != 400 || len(p.Errors) != 1 || p.Errors[0].Pointer != want {
			t.Errorf("%.80s: %v, want %s", filter, err, want)
		}
	}
	for _, fits := range []string{deep(5), parts(100), `{"tries":{"in":` + many(1000) + `}}`} {
		if _, err := table().ParseSearch(list.Search{Filter: json.RawMessage(fits)}); err != nil {
			t.Errorf("%.80s: %v", fits, err)
		}
	}
	for want, s := range map[string]list.Search{
		"/limit": {Limit: 1001}, "/sort": {Sort: "status"}, "/cursor": {Cursor: "x"}, "/q": {Q: strings.Repeat("x", 201)},
	} {
		if _, err := table().ParseSearch(s); problem.From(err).Status != 400 || problem.From(err).Errors[0].Pointer != want {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// masked is the table of calls whose callers some readers must not learn.
func masked() list.Table {
	t := table()
	t.Fields["from"] = list.Field{Type: list.Text, Column: "caller", Sort: true, Mask: true}
	return t
}

func TestAMaskedFieldIsNotLookedInForAMaskedReader(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		hidden := auth.Caller{Scope: mine, Mask: auth.Mask{Numbers: true}}.Over("calls")
		count := func(scope auth.Scope, s list.Search) (int64, error) {
			q, err := masked().ParseSearch(s)
			if err != nil {
				t.Fatal(err)
			}
			return db.Count[call](t.Context(), d, scope, q.Where(scope))
		}
		// The other column is searched on.
		for scope, want := range map[auth.Scope]int64{mine: 23, hidden: 0} {
			if n, err := count(scope, list.Search{Q: "nal"}); n != want || err != nil {
				t.Errorf("found %d, %v; want %d", n, err, want)
			}
		}
		if n, err := count(hidden, list.Search{Q: "busy"}); n != 8 || err != nil {
			t.Errorf("found %d, %v", n, err)
		}
		for _, s := range []list.Search{{Sort: "from"}, {Filter: json.RawMessage(`{"from":"x"}`)}, {Filter: json.RawMessage(`{"or":[{"from":null}]}`)}} {
			if _, err := count(hidden, s); problem.From(err).Status != 403 {
				t.Errorf("%+v: %v", s, err)
			}
			if _, err := count(mine, s); err != nil {
				t.Errorf("%+v: %v", s, err)
			}
		}
		only := masked()
		only.Search = []string{"caller"}
		q, err := only.ParseSearch(list.Search{Q: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := list.Run[call](t.Context(), d, hidden, q); problem.From(err).Status != 403 {
			t.Errorf("searched in a hidden column alone: %v", err)
		}
	})
}

func FuzzParseSearch(f *testing.F) {
	for _, seed := range []string{`{"filter":{"status":"busy"}}`, `{"filter":{"or":[{"tries":{"in":[1,2]}},{"and":[{"live":true}]}]}}`, `{"sort":"-score","q":"%","cursor":"e30"}`, `{"filter":{"":{"":""}}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var s list.Search
		if json.Unmarshal([]byte(body), &s) != nil {
			return
		}
		q, err := table().ParseSearch(s)
		switch {
		case err != nil && problem.From(err).Status != 400:
			t.Errorf("%q: %v", body, err)
		case err == nil && (q.Limit < 1 || q.Limit > list.MaxLimit):
			t.Errorf("%q: a limit of %d", body, q.Limit)
		}
	})
}

func BenchmarkParseSearch(b *testing.B) {
	filter := json.RawMessage(`{"status":{"in":["busy","ringing"]},"created_at":{"gte":"2026-01-01T00:00:00Z"},"or":[{"tries":1},{"live":true}]}`)
	for b.Loop() {
		if _, err := table().ParseSearch(list.Search{Filter: filter}); err != nil {
			b.Fatal(err)
		}
	}
}
