package endpoint_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

type fixture struct {
	*resttest.Server
	endpoints *endpoint.Service
	feed      *event.Feed
	woken     int
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{endpoints: &endpoint.Service{
		DB: d, Masks: event.NewMasks(spec.View.Components.Schemas), Plain: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}}
	f.endpoints.Wake = func() { f.woken++ }
	f.Server = resttest.Mount(t, d, spec, f.endpoints.Operations())
	f.feed = event.NewFeed(d, bustest.Open(t, "memory:"), slog.New(slog.NewTextHandler(t.Output(), nil)))
	return f
}

const body = `{"url":"https://example.com/events","types":["call.*"],"headers":{"authorization":"Bearer canary-token"}}`

func (f *fixture) create(t *testing.T, body string) endpoint.Endpoint {
	t.Helper()
	var e endpoint.Endpoint
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/event_endpoints", body), http.StatusCreated, &e)
	return e
}

// happen stores and places so many events of call_1, and gives all there are.
func (f *fixture) happen(t *testing.T, count int) []event.Event {
	t.Helper()
	for i := range count {
		e := event.Event{AccountID: resttest.Account, Type: "call.ringing", Resource: "calls", CallID: "call_1", Sequence: int64(i + 1), Data: []byte(`{"from":"+8613800138000"}`)}
		if err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.feed.Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, err := f.feed.After(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// dead stores the delivery of an event as given up after one attempt.
func (f *fixture) dead(t *testing.T, e event.Event, endpointID string) endpoint.Delivery {
	t.Helper()
	d := endpoint.NewDelivery(e, endpointID, db.Now())
	a := endpoint.Attempt{
		ID: db.NewID("att"), AccountID: e.AccountID, DeliveryID: d.ID, Number: 1, StartedAt: db.Now(), DurationMS: 7, RequestHeaders: map[string]string{"Webhook-Id": e.ID},
		ResponseStatus: 500, ResponseBody: "you said +8613800138000", Error: "status", Message: "the answer was 500",
	}
	err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := endpoint.Queue(ctx, tx, []endpoint.Delivery{d}, false); err != nil {
			return err
		}
		if _, err := tx.Write().NewInsert().Model(&a).Exec(ctx); err != nil {
			return err
		}
		_, err := tx.Write().NewRaw("UPDATE deliveries SET status = 'dead', attempts = 1, failures = 1, response_status = 500, error = 'status' WHERE id = ?", d.ID).Exec(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)))
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					e := last.create(t, `{"external_id":"crm","url":"https://example.com/","types":["*"]}`)
					d := last.dead(t, last.happen(t, 1)[0], e.ID)
					return map[string]string{"endpoint_id": e.ID, "delivery_id": d.ID, "external_id": "crm"}
				},
				Request: func(t *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					if operation != "replayEvents" {
						return nil
					}
					return &resttest.Request{Body: map[string]any{"ids": []string{last.happen(t, 0)[0].ID}}}
				},
			})
		})
	}
}

func TestTheSecretIsShownOnceAndKeptNowhereElse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		made := f.create(t, body)
		if !strings.HasPrefix(made.Shown, "whsec_") || made.HeaderNames[0] != "Authorization" {
			t.Fatalf("made %+v", made)
		}
		path := "/v1/event_endpoints/" + made.ID
		var rotated endpoint.Endpoint
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, path+"/rotate_secret", `{}`), http.StatusOK, &rotated)
		if rotated.Shown == made.Shown || rotated.Shown == "" || rotated.OldSecretUntil == nil || time.Until(*rotated.OldSecretUntil) < 23*time.Hour {
			t.Errorf("rotated: %+v", rotated)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, path, `{"description":"x"}`), http.StatusOK, nil)
		for _, path := range []string{path, "/v1/event_endpoints", path + "/deliveries"} {
			w := f.Do(t, resttest.Token, http.MethodGet, path, nil)
			if strings.Contains(w.Body.String(), "whsec_") || strings.Contains(w.Body.String(), "canary-token") {
				t.Errorf("%s shows a secret: %s", path, w.Body)
			}
		}
		var entries []string
		if err := d.Read().NewRaw("SELECT CAST(after AS text) FROM audit_entries WHERE after IS NOT NULL").Scan(t.Context(), &entries); err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 || strings.Contains(fmt.Sprint(entries), "whsec_") || strings.Contains(fmt.Sprint(entries), "canary-token") {
			t.Errorf("the audit holds a secret: %v", entries)
		}
		e, err := db.Get[endpoint.Endpoint](t.Context(), d, auth.Account(resttest.Account), made.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Secrets(db.Now()); len(got) != 2 || got[0] != rotated.Shown || got[1] != made.Shown {
			t.Errorf("signs with %d secrets", len(got))
		}
		if got := e.Secrets(db.Now().Add(25 * time.Hour)); len(got) != 1 || got[0] != rotated.Shown {
			t.Errorf("after the overlap signs with %d secrets", len(got))
		}
		if e.Headers["Authorization"] != "Bearer canary-token" {
			t.Errorf("headers %v", e.Headers)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, path+"/rotate_secret", `{"overlap_seconds":0}`), http.StatusOK, &rotated)
		if e, err = db.Get[endpoint.Endpoint](t.Context(), d, auth.Account(resttest.Account), made.ID); err != nil || len(e.Secrets(db.Now())) != 1 {
			t.Errorf("after a rotation without overlap: %v, %v", e, err)
		}
	})
}

func TestWhichURLsAndHeadersAreTaken(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"url":"https://example.com/","types":["*"]}`, 201, ""},
		{`{"url":"http://127.0.0.1:8080/","types":["*"]}`, 201, ""},
		{`{"url":"http://localhost:8080/","types":["call.action.*"]}`, 201, ""},
		{`{"url":"http://93.184.215.14/","types":["*"]}`, 400, "/url"},
		{`{"url":"ftp://example.com/","types":["*"]}`, 400, "/url"},
		{`{"url":"https://u:p@example.com/","types":["*"]}`, 400, "/url"},
		{`{"url":"https://0x7f.1/","types":["*"]}`, 400, "/url"},
		{`{"url":"https://example.com/","types":[]}`, 400, "/types"},
		{`{"url":"https://example.com/","types":["call*"]}`, 400, "/types"},
		{`{"url":"https://example.com/","types":["Call.ended"]}`, 400, "/types"},
		{`{"url":"https://example.com/","types":["*"],"headers":{"Webhook-Id":"x"}}`, 400, "/headers"},
		{`{"url":"https://example.com/","types":["*"],"headers":{"Host":"x"}}`, 400, "/headers"},
		{`{"url":"https://example.com/","types":["*"],"headers":{"X Y":"x"}}`, 400, "/headers"},
		{`{"url":"https://example.com/","types":["*"],"headers":{"X":"a\r\nb"}}`, 400, "/headers"},
	} {
		w := f.Do(t, resttest.Token, http.MethodPost, "/v1/event_endpoints", c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
	w := f.Do(t, "masked", http.MethodPost, "/v1/event_endpoints", `{"url":"https://example.com/","types":["*"]}`)
	resttest.Want(t, w, http.StatusForbidden, nil)
}

func TestAPatchTouchesOnlyTheHeadersItNames(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		e := f.create(t, `{"url":"https://example.com/","types":["*"],"headers":{"A":"1","B":"2"}}`)
		var after endpoint.Endpoint
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/event_endpoints/"+e.ID, `{"headers":{"A":null,"C":"3"}}`), http.StatusOK, &after)
		stored, err := db.Get[endpoint.Endpoint](t.Context(), d, auth.Account(resttest.Account), e.ID)
		if err != nil || fmt.Sprint(stored.Headers) != "map[B:2 C:3]" || fmt.Sprint(after.HeaderNames) != "[B C]" {
			t.Errorf("%v, shown %v, %v", stored.Headers, after.HeaderNames, err)
		}
	})
}

func TestAnEndpointThatIsOffTakesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		e := f.create(t, body)
		dead := f.dead(t, f.happen(t, 1)[0], e.ID)
		path := "/v1/event_endpoints/" + e.ID
		var off, on endpoint.Endpoint
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, path, `{"enabled":false}`), http.StatusOK, &off)
		if off.DisabledReason != endpoint.Manual || off.DisabledAt == nil {
			t.Errorf("off: %+v", off)
		}
		for _, c := range []struct{ path, body string }{
			{"/test", ""}, {"/replay", `{"from":"2026-01-01T00:00:00Z"}`}, {"/deliveries/" + dead.ID + "/retry", ""},
		} {
			var sent any
			if c.body != "" {
				sent = c.body
			}
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, path+c.path, sent), http.StatusConflict, nil)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, path, `{"enabled":true}`), http.StatusOK, &on)
		if !on.Enabled || on.DisabledReason != "" || on.DisabledAt != nil {
			t.Errorf("on: %+v", on)
		}
	})
}

func TestAnEndpointIsDisabledOnceAndTold(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		e := f.create(t, body)
		for range 2 {
			err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return endpoint.Disable(ctx, tx, resttest.Account, e.ID, endpoint.Gone, db.Now())
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		events := f.happen(t, 0)
		if len(events) != 1 || events[0].Type != endpoint.Disabled || events[0].ObjectID != e.ID || !strings.Contains(string(events[0].Data), "gone") {
			t.Errorf("told %+v", events)
		}
		var after endpoint.Endpoint
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/event_endpoints/"+e.ID, nil), http.StatusOK, &after)
		if after.Enabled || after.DisabledReason != endpoint.Gone {
			t.Errorf("after: %+v", after)
		}
	})
}

func TestEventsAreReplayedByIDAndByTimeWithTheSameDelivery(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		e := f.create(t, body)
		events := f.happen(t, 4)
		dead := f.dead(t, events[1], e.ID)
		path := "/v1/event_endpoints/" + e.ID
		from, to := events[0].OccurredAt.Format(time.RFC3339Nano), events[3].OccurredAt.Format(time.RFC3339Nano)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"ids":["` + events[0].ID + `","` + events[1].ID + `"]}`, 202, `"count":2`},
			{`{"from":"` + from + `","to":"` + to + `"}`, 202, `"count":3`},
			{`{"from":"` + from + `"}`, 202, `"count":4`},
			{`{"from":"` + from + `","types":["dtmf"]}`, 202, `"count":0`},
			{`{"ids":["evt_none"]}`, 422, "/ids"},
			{`{"ids":["` + events[0].ID + `"],"from":"` + from + `"}`, 400, "/ids"},
			{`{}`, 400, "/from"},
			{`{"types":["*"]}`, 400, "/from"},
			{`{"from":"` + to + `","to":"` + from + `"}`, 400, "/to"},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, path+"/replay", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
			}
		}
		if f.woken == 0 {
			t.Error("nobody was woken")
		}
		var page list.Page[endpoint.Delivery]
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path+"/deliveries?count=true&status=pending", nil), http.StatusOK, &page)
		if *page.Total != 4 {
			t.Fatalf("%d deliveries wait, want 4", *page.Total)
		}
		for _, one := range page.Data {
			if one.EventID == dead.EventID && (one.ID != dead.ID || one.Attempts != 1 || one.Next == nil) {
				t.Errorf("the dead one became %+v", one)
			}
		}
		resttest.Want(t, f.Do(t, resttest.Other, http.MethodPost, path+"/replay", `{"ids":["`+events[0].ID+`"]}`), http.StatusNotFound, nil)
	})
}

func TestDeliveriesAreListedAndShownAsTheReaderMaySee(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		e := f.create(t, body)
		var ids []string
		for _, one := range f.happen(t, 3) {
			ids = append(ids, f.dead(t, one, e.ID).ID)
		}
		path := "/v1/event_endpoints/" + e.ID + "/deliveries"
		var got []string
		for query := "?limit=2"; query != ""; {
			var page list.Page[endpoint.Delivery]
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path+query, nil), http.StatusOK, &page)
			for _, one := range page.Data {
				got = append(got, one.ID)
			}
			if query = ""; page.NextCursor != "" {
				query = "?limit=2&cursor=" + page.NextCursor
			}
		}
		if len(got) != 3 || got[0] != ids[2] || got[2] != ids[0] {
			t.Errorf("listed %v, want %v backwards", got, ids)
		}
		var page list.Page[endpoint.Delivery]
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path+"?sort=created_at&limit=1&status=dead&type=call.ringing&response_status=500", nil), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].ID != ids[0] {
			t.Errorf("filtered: %+v", page.Data)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path+"?status=pending", nil), http.StatusOK, &page)
		if len(page.Data) != 0 {
			t.Errorf("pending: %+v", page.Data)
		}
		for token, numbers := range map[string]bool{resttest.Token: true, "masked": false} {
			w := f.Do(t, token, http.MethodGet, path+"/"+ids[0], nil)
			var detail endpoint.Detail
			resttest.Want(t, w, http.StatusOK, &detail)
			if strings.Contains(w.Body.String(), "13800138") != numbers || len(detail.History) != 1 || len(detail.Request) == 0 || detail.History[0].DurationMS != 7 {
				t.Errorf("%s reads %s", token, w.Body)
			}
		}
	})
}

func TestAnAccountHasABoundedNumberOfEndpoints(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for range 50 {
		f.create(t, body)
	}
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/event_endpoints", body), http.StatusConflict, nil)
}
