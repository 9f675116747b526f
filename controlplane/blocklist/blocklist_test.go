package blocklist_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// house is a server with its service, whose clock stands still.
type house struct {
	*resttest.Server
	*blocklist.Service
	account *account.Account

	mu  sync.Mutex // guards now
	now time.Time
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func mount(t *testing.T, d *db.DB) *house {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{now: db.Now()}
	h.Service = &blocklist.Service{DB: d, Accounts: &account.Service{DB: d}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	}}
	h.Server = resttest.Mount(t, d, spec, h.Service.Operations())
	if h.account, err = h.Accounts.Get(t.Context(), resttest.Account); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) add(t *testing.T, body string) (id string) {
	t.Helper()
	var made struct{ ID string }
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/blocklist_entries", body), http.StatusCreated, &made)
	return made.ID
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var last *house
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)))
				return last.Server
			}, resttest.Suite{Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
				return map[string]string{"blocklist_entry_id": last.add(t, `{"kind":"number","number":"+8613800138000"}`)}
			}})
		})
	}
}

func TestWhatAnEntryMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"kind":"number","number":"023-6892 5278"}`, 201, `"number":"+862368925278"`},
			{`{"kind":"number","number":"+86 23 6892 5278"}`, 409, "/number"},
			{`{"kind":"number","number":"+862368925278","direction":"out"}`, 201, `"action":"block"`},
			{`{"kind":"number","number":"95588"}`, 201, `"direction":"in"`},
			{`{"kind":"number","number":"1705*"}`, 400, "/number"},
			{`{"kind":"number"}`, 400, "/number"},
			{`{"kind":"pattern","number":"1705*"}`, 201, `"number":"1705*"`},
			{`{"kind":"pattern","number":"+86 170 5??? ????"}`, 201, `"number":"+861705???????"`},
			{`{"kind":"pattern","number":"*"}`, 201, `"number":"*"`},
			{`{"kind":"pattern","number":"17*05"}`, 400, "/number"},
			{`{"kind":"pattern","number":"17051234567"}`, 400, "/number"},
			{`{"kind":"pattern","number":"17a*"}`, 400, "/number"},
			{`{"kind":"pattern","number":"+"}`, 400, "/number"},
			{`{"kind":"pattern","number":"１７*"}`, 400, "/number"},
			{`{"kind":"anonymous"}`, 201, `"kind":"anonymous"`},
			{`{"kind":"anonymous"}`, 409, "/number"},
			{`{"kind":"anonymous","direction":"both"}`, 400, "/direction"},
			{`{"kind":"anonymous","number":"1*"}`, 400, "/number"},
			{`{"kind":"number","number":"95599","hits":5}`, 400, "/hits"},
			{`{"kind":"number","number":"95599","expires_at":"tomorrow"}`, 400, "/expires_at"},
		} {
			w := h.Do(t, resttest.Token, http.MethodPost, "/v1/blocklist_entries", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

// decided says which entry decides, by its number, and how; "" for none.
func (h *house) decided(t *testing.T, direction blocklist.Direction, number string) string {
	t.Helper()
	e, err := h.Match(t.Context(), h.account, direction, number)
	if err != nil {
		t.Fatal(err)
	}
	if e == nil {
		return ""
	}
	return string(e.Action) + " " + string(e.Kind) + " " + e.Number
}

func TestTheMostSpecificEntryDecides(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		for _, body := range []string{
			`{"kind":"pattern","number":"17*"}`,
			`{"kind":"pattern","number":"+861705*","action":"allow"}`,
			`{"kind":"pattern","number":"17051*","direction":"both"}`,
			`{"kind":"pattern","number":"+8617051*","direction":"in","action":"allow"}`, // as close as the one before: allow
			`{"kind":"number","number":"17051234567"}`,
			`{"kind":"pattern","number":"023????????"}`,
			`{"kind":"pattern","number":"023*","action":"allow"}`,
			`{"kind":"pattern","number":"?????","direction":"both"}`,
			`{"kind":"number","number":"95588","direction":"both","action":"allow"}`,
			`{"kind":"pattern","number":"1??","direction":"out"}`,
			`{"kind":"pattern","number":"+1*","direction":"out"}`,
			`{"kind":"pattern","number":"+44*"}`,
		} {
			h.add(t, body)
		}
		for _, c := range []struct {
			direction blocklist.Direction
			number    string
			want      string
		}{
			{blocklist.In, "+8617051234567", "block number +8617051234567"},
			{blocklist.In, "17051234567", "block number +8617051234567"},
			{blocklist.In, "+8617051234568", "allow pattern +8617051*"},
			{blocklist.Out, "+8617051234568", "block pattern 17051*"},
			{blocklist.In, "+8617055234568", "allow pattern +861705*"},
			{blocklist.In, "+8617155234568", "block pattern 17*"},
			{blocklist.Out, "+8617155234568", ""},
			{blocklist.In, "+862368925278", "block pattern 023????????"}, // it says how long the number is
			{blocklist.In, "02368925278", "block pattern 023????????"},
			{blocklist.In, "95588", "allow number 95588"},
			{blocklist.In, "95599", "block pattern ?????"},
			{blocklist.In, "955991", ""},
			{blocklist.In, "+12015550123", ""}, // the number of another country is not one that begins with 1 here
			{blocklist.Out, "+12015550123", "block pattern +1*"},
			{blocklist.In, "+441704960123", "block pattern +44*"}, // and 17* is of this country alone
			{blocklist.Out, "120", ""},                            // an emergency number
			{blocklist.Out, "114", "block pattern 1??"},
			{blocklist.In, "anonymous", ""},
			{blocklist.In, "alice", ""},
			{blocklist.In, "abcde", ""},
		} {
			if got := h.decided(t, c.direction, c.number); got != c.want {
				t.Errorf("%s %s: %q, want %q", c.direction, c.number, got, c.want)
			}
		}
	})
}

func TestHiddenCallersAndEveryNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		h.add(t, `{"kind":"pattern","number":"*"}`)
		h.add(t, `{"kind":"number","number":"+8613800138000","action":"allow"}`)
		for number, want := range map[string]string{
			"+8613800138000": "allow number +8613800138000", "+8613800138001": "block pattern *", "+12015550123": "block pattern *", "alice": "block pattern *", "Anonymous": "", "": "",
		} {
			if got := h.decided(t, blocklist.In, number); got != want {
				t.Errorf("%q: %q, want %q", number, got, want)
			}
		}
		h.add(t, `{"kind":"anonymous"}`)
		for _, from := range []string{"anonymous", "Anonymous", "", "unavailable", "Restricted"} {
			if got := h.decided(t, blocklist.In, from); got != "block anonymous " {
				t.Errorf("%q: %q", from, got)
			}
		}
		e, err := h.Match(t.Context(), &account.Account{Row: db.Row{ID: resttest.OtherAccount}, Draft: account.Draft{DefaultCountry: "CN"}}, blocklist.In, "+8613800138001")
		if err != nil || e != nil {
			t.Errorf("another account: %+v, %v", e, err)
		}
	})
}

func TestAnEntryExpires(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		id := h.add(t, `{"kind":"number","number":"13800138000","expires_at":"`+h.now.Add(time.Hour).Format(time.RFC3339)+`"}`)
		if got := h.decided(t, blocklist.In, "+8613800138000"); got == "" {
			t.Error("it has not expired yet")
		}
		h.pass(time.Hour)
		if got := h.decided(t, blocklist.In, "+8613800138000"); got != "" {
			t.Errorf("it has expired: %s", got)
		}
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPatch, "/v1/blocklist_entries/"+id, `{"expires_at":null}`), http.StatusOK, nil)
		if got := h.decided(t, blocklist.In, "+8613800138000"); got == "" {
			t.Error("it never expires")
		}
	})
}

func TestHitsAreWrittenLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		id := h.add(t, `{"kind":"number","number":"13800138000"}`)
		allowed := h.add(t, `{"kind":"number","number":"13800138001","action":"allow"}`)
		shown := func(id string) (e blocklist.Entry) {
			t.Helper()
			resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/blocklist_entries/"+id, nil), http.StatusOK, &e)
			return e
		}
		for range 3 {
			if e, err := h.Blocked(t.Context(), h.account, blocklist.In, "+8613800138000"); err != nil || e == nil || e.ID != id {
				t.Fatalf("%+v, %v", e, err)
			}
		}
		if e, err := h.Blocked(t.Context(), h.account, blocklist.In, "+8613800138001"); err != nil || e != nil {
			t.Fatalf("an exception: %+v, %v", e, err)
		}
		if e := shown(id); e.Hits != 0 {
			t.Errorf("before: %+v", e)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Flush(canceled); err == nil {
			t.Error("written without a database")
		}
		if _, err := h.Blocked(t.Context(), h.account, blocklist.In, "+8613800138000"); err != nil {
			t.Fatal(err)
		}
		if err := h.Run(canceled); err != nil { // which writes them at its end
			t.Fatal(err)
		}
		if e := shown(id); e.Hits != 4 || e.LastHitAt == nil || !e.LastHitAt.Equal(h.now) || e.Etag != "1" {
			t.Errorf("after: %+v", e)
		}
		if e := shown(allowed); e.Hits != 1 {
			t.Errorf("the exception: %+v", e)
		}
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPatch, "/v1/blocklist_entries/"+id, `{"reason":"x"}`), http.StatusOK, nil)
		if e := shown(id); e.Hits != 4 {
			t.Errorf("a change has lost the hits: %+v", e)
		}
	})
}

func TestAMaskedReaderLearnsNoNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		h.add(t, `{"kind":"number","number":"13800138000","reason":"rude"}`)
		for _, c := range []struct {
			method, path string
			body         any
			status       int
		}{
			{http.MethodGet, "/v1/blocklist_entries", nil, 200},
			{http.MethodGet, "/v1/blocklist_entries?q=rude", nil, 200},
			{http.MethodGet, "/v1/blocklist_entries?number=%2B8613800138000", nil, 403},
			{http.MethodGet, "/v1/blocklist_entries?sort=number", nil, 403},
			{http.MethodPost, "/v1/blocklist_entries/search", `{"filter":{"number":"+8613800138000"}}`, 403},
			{http.MethodPost, "/v1/blocklist_entries/match", `{"number":"+8613800138000","direction":"in"}`, 403},
		} {
			w := h.Do(t, "masked", c.method, c.path, c.body)
			if w.Code != c.status || strings.Contains(w.Body.String(), "138001380") {
				t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
			}
		}
		w := h.Do(t, "masked", http.MethodGet, "/v1/blocklist_entries?q=1380", nil)
		if strings.Contains(w.Body.String(), "blk_") {
			t.Errorf("found by a part of the number: %s", w.Body)
		}
	})
}

func TestAnImportMakesAndChangesEntries(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		block := func(kind blocklist.Kind, number, reason string) blocklist.Draft {
			return blocklist.Draft{Direction: blocklist.In, Kind: kind, Number: number, Action: blocklist.Block, Reason: reason}
		}
		for _, c := range []struct {
			draft   blocklist.Draft
			created bool
			pointer string
		}{
			{block(blocklist.KindNumber, "138 0013 8000", "a"), true, ""}, {block(blocklist.KindNumber, "+8613800138000", "b"), false, ""},
			{block(blocklist.KindPattern, "1705*", "a"), true, ""}, {block(blocklist.KindPattern, "1705*", "a"), false, ""},
			{block(blocklist.KindNumber, "bob", ""), false, "/number"}, {block("area", "1", ""), false, "/kind"},
			{blocklist.Draft{Kind: blocklist.KindNumber, Number: "95588", Action: blocklist.Block}, false, "/direction"},
			{blocklist.Draft{Kind: blocklist.KindNumber, Number: "95588", Direction: blocklist.In}, false, "/action"},
		} {
			var created bool
			err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
				created, err = blocklist.Put(ctx, tx, auth.Account(resttest.Account), "CN", c.draft)
				return err
			})
			if created != c.created || (c.pointer == "") != (err == nil) || (err != nil && problem.From(err).Errors[0].Pointer != c.pointer) {
				t.Errorf("%+v: %t, %v", c.draft, created, err)
			}
		}
		var page struct{ Data []blocklist.Entry }
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/blocklist_entries?sort=number", nil), http.StatusOK, &page)
		if len(page.Data) != 2 || page.Data[0].Reason+page.Data[1].Reason != "ba" {
			t.Errorf("%+v", page.Data)
		}
	})
}

func TestPatternsWithTheSameBeginningAreBounded(t *testing.T) {
	h := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	err := h.Service.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for i := range 200 {
			d := blocklist.Draft{Direction: blocklist.In, Kind: blocklist.KindPattern, Number: fmt.Sprintf("?%03d*", i), Action: blocklist.Block}
			if _, err := blocklist.Put(ctx, tx, auth.Account(resttest.Account), "CN", d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w := h.Do(t, resttest.Token, http.MethodPost, "/v1/blocklist_entries", `{"kind":"pattern","number":"?999*"}`)
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/number") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.add(t, `{"kind":"pattern","number":"1?999*"}`)
}
