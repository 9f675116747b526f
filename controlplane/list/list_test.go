package list_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type call struct {
	bun.BaseModel `bun:"table:some_calls,alias:c"`
	db.Row
	Status string    `bun:"status"`
	From   string    `bun:"caller"`
	Score  float64   `bun:"score"`
	Tries  int64     `bun:"tries"`
	Live   bool      `bun:"live"`
	Start  time.Time `bun:"started_at"`
}

const schema = `CREATE TABLE some_calls (id text PRIMARY KEY, account_id text NOT NULL, external_id text, metadata jsonb NOT NULL,
	created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, etag text NOT NULL, status text NOT NULL, caller text NOT NULL,
	score double precision NOT NULL, tries bigint NOT NULL, live boolean NOT NULL, started_at timestamptz NOT NULL)`

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"status":     {Type: list.Text},
			"from":       {Type: list.Text, Column: "caller", Sort: true},
			"score":      {Type: list.Float, Sort: true},
			"tries":      {Type: list.Int, Sort: true},
			"live":       {Type: list.Bool},
			"started_at": {Type: list.Time, Sort: true},
			"order":      {Type: list.Int, Column: "tries", Sort: true, SortOnly: true},
		}),
		Sort:   "-started_at",
		Search: []string{"status", "caller"},
	}
}

var mine = auth.Account("acc_mine")

var begin = time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)

// fill makes 23 calls, several at the same time and with the same score: started_at 0, 0, 0, 1.5 s, 1.5 s …
func fill(t *testing.T, d *db.DB) {
	t.Helper()
	if _, err := d.Write().NewRaw(schema).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 23 {
		c := &call{Row: db.Row{ID: fmt.Sprintf("call_%02d", i)}, Status: []string{"ringing", "busy", "100%_done"}[i%3], From: fmt.Sprintf("+86%02d Ünal", (i*7)%23),
			Score: float64(i/4) * 0.1, Tries: int64(i % 5), Live: i%2 == 0, Start: begin.Add(time.Duration(i/3) * 1500 * time.Millisecond)}
		if err := db.Insert(t.Context(), d, mine, c); err != nil {
			t.Fatal(err)
		}
	}
	other := &call{Row: db.Row{ID: "call_theirs"}, Status: "busy", Start: begin}
	if err := db.Insert(t.Context(), d, auth.Account("acc_theirs"), other); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, d *db.DB, query string) list.Page[call] {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	q, err := table().Parse(values)
	if err != nil {
		t.Fatal(err)
	}
	page, err := list.Run[call](t.Context(), d, mine, q)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func ids(page list.Page[call]) []string {
	found := []string{}
	for _, c := range page.Data {
		found = append(found, c.ID)
	}
	return found
}

func TestPagesTogetherAreTheWholeListOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		for _, sort := range []string{"", "started_at", "-started_at", "score", "-score", "tries", "-from", "created_at", "order"} {
			whole := ids(run(t, d, "limit=1000&sort="+sort))
			if len(whole) != 23 {
				t.Fatalf("%s: %d rows", sort, len(whole))
			}
			for _, limit := range []int{1, 4, 22, 23, 24} {
				var got []string
				cursor := ""
				for pages := 0; ; pages++ {
					page := run(t, d, fmt.Sprintf("limit=%d&sort=%s", limit, sort)+cursor)
					got = append(got, ids(page)...)
					if page.NextCursor == "" || pages > 30 {
						break
					}
					if len(page.Data) != limit {
						t.Errorf("%s by %d: a page of %d that is not the last", sort, limit, len(page.Data))
					}
					cursor = "&cursor=" + url.QueryEscape(page.NextCursor)
				}
				if !slices.Equal(got, whole) {
					t.Errorf("%s by %d: got %v, want %v", sort, limit, got, whole)
				}
			}
		}
		if got := ids(run(t, d, "")); got[0] != "call_22" {
			t.Errorf("the default order begins with %s", got[0])
		}
	})
}

func TestARowThatComesInBetweenMovesNoOther(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		first := run(t, d, "limit=5")
		late := &call{Row: db.Row{ID: "call_new"}, Status: "busy", Start: begin.Add(time.Hour)}
		if err := db.Insert(t.Context(), d, mine, late); err != nil {
			t.Fatal(err)
		}
		second := run(t, d, "limit=5&cursor="+first.NextCursor)
		if got, want := append(ids(first), ids(second)...), []string{"call_22", "call_21", "call_20", "call_19", "call_18", "call_17", "call_16", "call_15", "call_14", "call_13"}; !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

func TestFilters(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		at := func(d time.Duration) string {
			return url.QueryEscape(begin.Add(d).In(time.FixedZone("", 8*3600)).Format(time.RFC3339Nano))
		}
		for query, want := range map[string]int{
			"status=busy":                          8,
			"status=busy&status=ringing":           16,
			"status=busy&live=true":                4,
			"live=false":                           11,
			"tries=0":                              5,
			"tries=0&tries=1":                      10,
			"tries[gte]=1&tries[lt]=3":             10,
			"tries[gt]=3":                          4,
			"tries[lte]=0":                         5,
			"score[gt]=0.45":                       3,
			"started_at=" + at(0):                  3,
			"started_at[gt]=" + at(0):              20,
			"started_at[lt]=" + at(1500e6):         3,
			"started_at[lte]=" + at(1500e6):        6,
			"started_at[gte]=" + at(10500e6):       2,
			"started_at[gte]=" + at(10501e6):       0,
			"id=call_07":                           1,
			"id=call_theirs":                       0,
			"external_id=nothing":                  0,
			"from=%2B8600+%C3%9Cnal":               1,
			"status=it's":                          0,
			"status=%3F":                           0,
			"q=BUS":                                8,
			"q=100%25_":                            7,
			"q=0%25_d":                             7,
			"q=1_0":                                0,
			"q=%5C":                                0,
			"q=busy&status=ringing":                0,
			"q=%2B8601":                            1,
			"created_at[gte]=2020-01-01T00:00:00Z": 23,
		} {
			page := run(t, d, query+"&limit=1000&count=true")
			if len(page.Data) != want || page.Total == nil || *page.Total != int64(want) || page.Data == nil {
				t.Errorf("%s: got %d, want %d", query, len(page.Data), want)
			}
		}
		if page := run(t, d, "limit=2&count=true"); *page.Total != 23 || len(page.Data) != 2 {
			t.Errorf("total %d of a page of %d", *page.Total, len(page.Data))
		}
		if page := run(t, d, ""); page.Total != nil {
			t.Error("a total that nobody asked for")
		}
	})
}

func TestModificationsNarrow(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d)
		q, err := table().Parse(url.Values{"count": {"true"}, "limit": {"3"}})
		if err != nil {
			t.Fatal(err)
		}
		page, err := list.Run[call](t.Context(), d, mine, q, func(s *bun.SelectQuery) *bun.SelectQuery { return s.Where("?TableAlias.live = ?", true) })
		if err != nil || *page.Total != 12 || len(page.Data) != 3 {
			t.Errorf("got %+v %v", page, err)
		}
		mapped := list.Map(page, func(c call) string { return c.ID })
		if len(mapped.Data) != 3 || mapped.NextCursor != page.NextCursor || mapped.Total != page.Total {
			t.Errorf("mapped to %+v", mapped)
		}
		if empty := list.Map(list.Page[call]{}, func(c call) string { return c.ID }); empty.Data == nil {
			t.Error("an empty page is null")
		}
	})
}

func TestParseNamesTheParameter(t *testing.T) {
	cursor := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for query, want := range map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=": "limit",
		"sort=nothing": "sort", "sort=status": "sort", "sort=--score": "sort", "sort=score%3B+DROP": "sort",
		"count=maybe": "count", "q=" + strings.Repeat("x", 201): "q",
		"nothing=1": "nothing", "status[gte]=a": "status[gte]", "live[gt]=true": "live[gt]", "tries[ne]=1": "tries[ne]", "tries[gte=1": "tries[gte",
		"tries]=1": "tries]", "tries[]=1": "tries[]", "order=1": "order", "tries=x": "tries", "tries=1.5": "tries", "tries=99999999999999999999": "tries",
		"score=NaN": "score", "score=Inf": "score", "live=perhaps": "live", "started_at=yesterday": "started_at", "tries[gt]=1&tries[gt]=2": "tries[gt]",
		"status=%00": "status", "status=%ff": "status",
		"cursor=x": "cursor", "cursor=***": "cursor", "cursor=" + cursor("{}"): "cursor", "cursor=" + cursor(`{"s":"-started_at","v":"x","i":"a"}`): "cursor",
		"cursor=" + cursor(`{"s":"-score","v":"1","i":"a"}`): "cursor", "cursor=" + cursor(`{"s":"-started_at","v":"2026-01-31T00:00:00Z","i":"\u0000"}`): "cursor",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = table().Parse(values)
		if p := problem.From(err); p.Status != 400 || len(p.Errors) != 1 || p.Errors[0].Pointer != want {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, err := (list.Table{Fields: list.Common(nil)}).Parse(url.Values{"q": {"x"}}); err == nil {
		t.Error("searched a list that has nothing to search")
	}
	if _, err := table().Parse(url.Values{"expand": {"customer"}}, "expand"); err != nil {
		t.Error(err)
	}
}

func TestACursorBelongsToItsSort(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	fill(t, d)
	page := run(t, d, "limit=2&sort=score")
	for _, sort := range []string{"", "-score", "tries"} {
		if _, err := table().Parse(url.Values{"cursor": {page.NextCursor}, "sort": {sort}}); problem.From(err).Status != 400 {
			t.Errorf("sort %q took a cursor of score: %v", sort, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"limit=5&sort=-score", "status=a&status=b", "started_at[gte]=2026-01-31T00:00:00Z", "cursor=e30", "q=x%25", "score=1e308", "tries[[=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := table().Parse(values)
		if err != nil {
			if problem.From(err).Status != 400 {
				t.Errorf("%q: %v", query, err)
			}
			return
		}
		if q.Limit < 1 || q.Limit > list.MaxLimit {
			t.Errorf("%q: a limit of %d", query, q.Limit)
		}
	})
}
