package event_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

func mount(t *testing.T, d *db.DB) (*resttest.Server, *event.Feed) {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s := &event.Service{DB: d, Masks: masks(t)}
	return resttest.Mount(t, d, spec, s.Operations()), newFeed(t, d, "memory:")
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var feed *event.Feed
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				var server *resttest.Server
				server, feed = mount(t, dbtest.Open(t, location(t)))
				return server
			}, resttest.Suite{
				Objects: func(t *testing.T, s *resttest.Server) map[string]string {
					e := inCall(resttest.Account, "call_1", 1)
					e.ID, e.Data = db.NewID("evt"), json.RawMessage(`{"from":"+8613800138000"}`)
					emit(t, s.DB, e)
					place(t, feed)
					return map[string]string{"event_id": e.ID}
				},
			})
		})
	}
}

func TestTheFeedIsReadByPosition(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, f := mount(t, d)
		for i := range 5 {
			emit(t, d, inCall(resttest.Account, "call_1", int64(i+1)), thing(resttest.Account, "a"), thing(resttest.OtherAccount, "b"))
		}
		place(t, f)
		emit(t, d, thing(resttest.Account, "c")) // has no position yet
		var got []int64
		for query := "after=0&limit=3&type=call.*"; query != ""; {
			var page list.Page[event.Event]
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/events?"+query, nil), http.StatusOK, &page)
			for _, e := range page.Data {
				got = append(got, e.Sequence)
			}
			if query = ""; page.NextCursor != "" {
				query = "after=0&limit=3&type=call.*&cursor=" + page.NextCursor
			}
		}
		if len(got) != 5 || got[0] != 1 || got[4] != 5 {
			t.Errorf("the call's events forwards: %v", got)
		}
		for query, want := range map[string][]int64{
			"limit=2":                              {14, 13},
			"limit=2&sort=position":                {1, 2},
			"limit=2&cursor=13":                    {11, 10},
			"after=12":                             {13, 14},
			"after=12&sort=-position":              {14, 13},
			"object_id=a&limit=1":                  {14},
			"call_id=call_1&limit=1":               {13},
			"type=thing.changed&limit=2":           {14, 11},
			"resource=calls&type=x.*":              {},
			"resource=calls&limit=1":               {13},
			"occurred_at[lt]=2020-01-01T00:00:00Z": {},
		} {
			values, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			var page list.Page[event.Event]
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/events?"+values.Encode(), nil), http.StatusOK, &page)
			positions := []int64{}
			for _, e := range page.Data {
				positions = append(positions, e.Position)
			}
			if !equal(positions, want) {
				t.Errorf("%s: %v, want %v", query, positions, want)
			}
		}
		var counted list.Page[event.Event]
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/events?count=true&limit=1", nil), http.StatusOK, &counted)
		if counted.Total == nil || *counted.Total != 10 {
			t.Errorf("total %v, want 10", counted.Total)
		}
		for _, query := range []string{"cursor=x", "cursor=-1", "sort=id", "after=-1", "q=x"} {
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/events?"+query, nil), http.StatusBadRequest, nil)
		}
	})
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestWhoReadsEventsSeesWhatItMayReadOtherwise(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, f := mount(t, d)
		call := inCall(resttest.Account, "call_1", 1)
		call.ID, call.Data = db.NewID("evt"), json.RawMessage(`{"from":"+8613800138000"}`)
		other := thing(resttest.Account, "a")
		other.ID, other.Data = db.NewID("evt"), json.RawMessage(`{"number":"+8613800138000"}`)
		emit(t, d, call, other)
		place(t, f)
		const secret = "13800138"
		for _, c := range []struct {
			token, path string
			status      int
			says, not   string
		}{
			{"only:events.read", "/v1/events", 200, `"data":[]`, "evt_"},
			{"only:events.read,calls.read", "/v1/events", 200, call.ID, other.ID},
			{"only:events.read,calls.read", "/v1/events/" + call.ID, 200, secret, ""},
			{"only:events.read,calls.read", "/v1/events/" + other.ID, 404, "", ""},
			{"masked", "/v1/events", 200, other.ID, secret},
			{"masked", "/v1/events/" + call.ID, 200, "************00", secret},
			{"masked", "/v1/events/" + other.ID, 200, `"data":{}`, secret},
			{resttest.Token, "/v1/events/" + other.ID, 200, secret, ""},
		} {
			w := s.Do(t, c.token, http.MethodGet, c.path, nil)
			body := w.Body.String()
			if w.Code != c.status || !strings.Contains(body, c.says) || (c.not != "" && strings.Contains(body, c.not)) {
				t.Errorf("%s %s: %d %s", c.token, c.path, w.Code, body)
			}
		}
	})
}
