package calendar_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/calendar"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func mount(t *testing.T, d *db.DB, s *calendar.Service) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s.DB = d
	return resttest.Mount(t, d, spec, s.Operations())
}

func make1(t *testing.T, s *resttest.Server, token, things, body string) (id string) {
	t.Helper()
	var made struct{ ID string }
	resttest.Want(t, s.Do(t, token, http.MethodPost, "/v1/"+things, body), http.StatusCreated, &made)
	return made.ID
}

const (
	weekdays = `"shifts":[{"days":["monday","tuesday","wednesday","thursday","friday"],"start":"09:00","end":"18:00"}]`
	national = `{"name":"国庆","days_off":[{"name":"国庆节","from":"2026-10-01","to":"2026-10-07"}],"make_up_days":[{"date":"2026-10-10","work_as":"wednesday"}]}`
)

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var set string
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				return mount(t, dbtest.Open(t, location(t)), &calendar.Service{})
			}, resttest.Suite{
				Objects: func(t *testing.T, s *resttest.Server) map[string]string {
					set = make1(t, s, resttest.Token, "holiday_sets", `{"name":"2025"}`)
					return map[string]string{
						"calendar_id":    make1(t, s, resttest.Token, "calendars", `{"name":"a","time_zone":"UTC"}`),
						"holiday_set_id": set,
					}
				},
				Request: func(_ *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					if operation == "createCalendar" {
						return &resttest.Request{Body: map[string]any{"name": "b", "time_zone": "Asia/Shanghai", "holiday_set_ids": []any{set}}}
					}
					return nil
				},
			})
		})
	}
}

func TestWhatACalendarMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &calendar.Service{})
		other := make1(t, s, resttest.Other, "holiday_sets", `{"name":"theirs"}`)
		for _, c := range []struct {
			things, body string
			status       int
			says         string
		}{
			{"calendars", `{"name":"a","time_zone":"Asia/Shanghai",` + weekdays + `}`, 201, `"exceptions":[]`},
			{"calendars", `{"name":"a","time_zone":"UTC"}`, 409, "/name"},
			{"calendars", `{"name":"b","time_zone":"Mars/Olympus"}`, 400, "/time_zone"},
			{"calendars", `{"name":"b","time_zone":"Local"}`, 400, "/time_zone"},
			{"calendars", `{"name":"b","time_zone":"../../etc/passwd"}`, 400, "/time_zone"},
			{"calendars", `{"name":"b"}`, 400, "/time_zone"},
			{"calendars", `{"name":"b","time_zone":"UTC","shifts":[{"days":["monday"],"start":"24:00","end":"01:00"}]}`, 400, "/shifts/0/start"},
			{"calendars", `{"name":"b","time_zone":"UTC","shifts":[{"days":["monday"],"start":"9:00","end":"18:00"}]}`, 400, "/shifts/0/start"},
			{"calendars", `{"name":"b","time_zone":"UTC","shifts":[{"days":["funday"],"start":"09:00","end":"18:00"}]}`, 400, "/shifts/0/days/0"},
			{"calendars", `{"name":"b","time_zone":"UTC","shifts":[{"days":[],"start":"09:00","end":"18:00"}]}`, 400, "/shifts/0/days"},
			{"calendars", `{"name":"b","time_zone":"UTC","exceptions":[{"date":"2026-02-30","hours":[]}]}`, 400, "/exceptions/0/date"},
			{"calendars", `{"name":"b","time_zone":"UTC","exceptions":[{"date":"2026-02-01","hours":[]},{"date":"2026-02-01","hours":[]}]}`, 400, "/exceptions/1/date"},
			{"calendars", `{"name":"b","time_zone":"UTC","holiday_set_ids":["` + other + `"]}`, 422, "/holiday_set_ids/0"},
			{"calendars", `{"name":"b","time_zone":"UTC","holiday_set_ids":["hol_none"]}`, 422, "/holiday_set_ids/0"},
			{"calendars", `{"name":"b","time_zone":"UTC"}`, 201, `"shifts":[]`}, // nothing refused above has taken the name
			{"holiday_sets", national, 201, `"work_as":"wednesday"`},
			{"holiday_sets", `{"name":"x","days_off":[{"name":"a","from":"2026-10-02","to":"2026-10-01"}]}`, 400, "/days_off/0/to"},
			{"holiday_sets", `{"name":"x","days_off":[{"name":"a","from":"2026-10-02","to":"2028-10-01"}]}`, 400, "/days_off/0/to"},
			{"holiday_sets", `{"name":"x","make_up_days":[{"date":"2026-10-10","work_as":"monday"},{"date":"2026-10-10","work_as":"friday"}]}`, 400, "/make_up_days/1/date"},
		} {
			w := s.Do(t, resttest.Token, http.MethodPost, "/v1/"+c.things, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

// answer is what open and preview answer.
type answer struct {
	Open      bool
	Reason    struct{ Rule, Date, Name string }
	ChangesAt string `json:"changes_at"`
	Intervals []struct{ Start, End string }
}

func TestACalendarIsAskedAndPreviewed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := time.Date(2026, 10, 1, 2, 0, 0, 0, time.UTC) // 10:00 in Shanghai, on National Day
		s := mount(t, d, &calendar.Service{Now: func() time.Time { return now }})
		set := make1(t, s, resttest.Token, "holiday_sets", national)
		id := make1(t, s, resttest.Token, "calendars", `{"name":"a","time_zone":"Asia/Shanghai",`+weekdays+`,"holiday_set_ids":["`+set+`"]}`)
		ask := func(query string) answer {
			t.Helper()
			var a answer
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/calendars/"+id+"/open"+query, nil), http.StatusOK, &a)
			return a
		}
		if a := ask(""); a.Open || a.Reason.Rule != "holiday" || a.Reason.Name != "国庆节" || a.ChangesAt != "2026-10-08T01:00:00Z" {
			t.Errorf("now: %+v", a)
		}
		if a := ask("?at=2026-10-10T10:00:00%2B08:00"); !a.Open || a.Reason.Rule != "make_up_day" || a.ChangesAt != "2026-10-10T10:00:00Z" {
			t.Errorf("on the make-up day: %+v", a)
		}
		preview := func(body string) answer {
			t.Helper()
			var a answer
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/calendars/"+id+"/preview", body), http.StatusOK, &a)
			return a
		}
		a := preview(`{"days":7,"change":{"exceptions":[{"date":"2026-10-01","name":"hotline","hours":[{"start":"08:00","end":"20:00"}]}]}}`)
		if !a.Open || a.Reason.Name != "hotline" || a.ChangesAt != "2026-10-01T12:00:00Z" || len(a.Intervals) != 2 ||
			a.Intervals[0].Start != "2026-10-01T02:00:00Z" || a.Intervals[1].Start != "2026-10-08T01:00:00Z" {
			t.Errorf("preview: %+v", a)
		}
		if a := ask(""); a.Open {
			t.Error("a preview has changed the calendar")
		}
		w := s.Do(t, resttest.Token, http.MethodPost, "/v1/calendars/"+id+"/preview", `{"change":{"time_zone":"x"}}`)
		if w.Code != http.StatusBadRequest {
			t.Errorf("a preview of what cannot be: %d %s", w.Code, w.Body)
		}
		schedule, err := (&calendar.Service{DB: d}).Schedule(t.Context(), resttest.Account, id)
		if err != nil {
			t.Fatal(err)
		}
		if open, reason, _ := schedule.Open(now); open || reason.Rule != calendar.RuleHoliday {
			t.Errorf("Schedule: %t %+v", open, reason)
		}
		if _, err := (&calendar.Service{DB: d}).Schedule(t.Context(), resttest.OtherAccount, id); err == nil {
			t.Error("another account's calendar")
		}
	})
}

func TestAHolidaySetThatIsObservedStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &calendar.Service{})
		set := make1(t, s, resttest.Token, "holiday_sets", national)
		id := make1(t, s, resttest.Token, "calendars", `{"name":"a","time_zone":"UTC","holiday_set_ids":["`+set+`"]}`)
		w := s.Do(t, resttest.Token, http.MethodDelete, "/v1/holiday_sets/"+set, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), id) {
			t.Errorf("got %d: %s", w.Code, w.Body)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/calendars/"+id, `{"holiday_set_ids":[]}`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/holiday_sets/"+set, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/calendars/"+id, nil), http.StatusNoContent, nil)
	})
}

func TestTemplatesCanBeTakenOverAsTheyAre(t *testing.T) {
	s := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), &calendar.Service{})
	var all struct{ Data []map[string]any }
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/holiday_templates", nil), http.StatusOK, &all)
	for _, template := range all.Data {
		delete(template, "key")
		delete(template, "source")
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/holiday_sets", template), http.StatusCreated, nil)
	}
	if len(all.Data) == 0 {
		t.Error("there are none")
	}
}
