package app_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func mount(t *testing.T, d *db.DB, s *app.Service) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s.DB = d
	return resttest.Mount(t, d, spec, s.Operations())
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				return mount(t, dbtest.Open(t, location(t)), &app.Service{})
			}, resttest.Suite{Objects: func(t *testing.T, s *resttest.Server) map[string]string {
				return map[string]string{"application_id": create(t, s, `{"name":"a","voice_url":"https://example.com/"}`).ID}
			}})
		})
	}
}

func create(t *testing.T, s *resttest.Server, body string) app.Application {
	t.Helper()
	var a app.Application
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/applications", body), http.StatusCreated, &a)
	return a
}

func TestWhatAnApplicationMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &app.Service{})
		for _, c := range []struct {
			body    string
			status  int
			pointer string
		}{
			{`{"name":"a","voice_url":"https://example.com/voice"}`, 201, ""},
			{`{"name":"a","voice_url":"http://[::1]:8080/voice","program":null}`, 201, ""},
			{`{"name":"a","program":[{"verb":"say","text":"hi","x_note":1}]}`, 201, ""},
			{`{"name":"a","program":{"instructions":[],"guard":{"on_failure":[{"verb":"hangup"}]}}}`, 201, ""},
			{`{"name":"a","voice_url":"https://e/","format":"twiml","method":"GET"}`, 201, ""},
			{`{"name":"a"}`, 400, "/voice_url"},
			{`{"name":"a","voice_url":"https://e/","program":[]}`, 400, "/program"},
			{`{"name":"a","voice_url":"ftp://e/"}`, 400, "/voice_url"},
			{`{"name":"a","voice_url":"/voice"}`, 400, "/voice_url"},
			{`{"name":"a","voice_url":"https://user:secret@e/"}`, 400, "/voice_url"},
			{`{"name":"a","voice_url":"https://e/","method":"GET"}`, 400, "/method"},
			{`{"name":"a","program":[],"format":"twiml"}`, 400, "/program"},
			{`{"name":"a","program":[{"verb":"say","text":"hi"},{"verb":"gather","timeout":1000}]}`, 400, "/program/1/timeout"},
			{`{"name":"a","program":{"instructions":[{"verb":"sing"}]}}`, 400, "/program/instructions/0/verb"},
			{`{"name":"a","program":"https://e/"}`, 400, "/program"},
			{`{"name":"a","voice_url":"https://e/","fallback_instructions":[{"verb":"pause","legth":1}]}`, 400, "/fallback_instructions/0/legth"},
			{`{"name":"a","voice_url":"https://e/","budget_ms":15001}`, 400, "/budget_ms"},
			{`{"name":"a","voice_url":"https://e/","connect_timeout_ms":99}`, 400, "/connect_timeout_ms"},
			{`{"name":"a","voice_url":"https://e/","retries":4}`, 400, "/retries"},
			{`{"name":"","voice_url":"https://e/"}`, 400, "/name"},
			{`{"name":"a","voice_url":"https://e/","secret":"whsec_mine"}`, 400, "/secret"},
		} {
			w := s.Do(t, resttest.Token, http.MethodPost, "/v1/applications", c.body)
			if w.Code != c.status {
				t.Errorf("%s: got %d, want %d: %s", c.body, w.Code, c.status, w.Body)
				continue
			}
			if c.pointer == "" {
				continue
			}
			var p struct{ Errors []problem.FieldError }
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.Errors) == 0 || p.Errors[0].Pointer != c.pointer {
				t.Errorf("%s: %s; want an error at %s", c.body, w.Body, c.pointer)
			}
		}
	})
}

func TestAProgramWithManyDefaultsIsRefusedBeforeAnEdgeWouldRefuseIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &app.Service{})
		program := "[" + strings.Repeat(`{"verb":"record","x_why":"`+strings.Repeat("y", 10)+`"},`, 900) + `{"verb":"tag","data":{"a":"` + strings.Repeat("z", 200_000) + `"}}]`
		w := s.Do(t, resttest.Token, http.MethodPost, "/v1/applications", `{"name":"a","program":`+program+`}`)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "defaults written out") {
			t.Errorf("got %d: %.300s", w.Code, w.Body)
		}
	})
}

func TestAPatchMovesFromURLToProgram(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &app.Service{})
		a := create(t, s, `{"name":"a","voice_url":"https://example.com/","external_id":"x-1","metadata":{"k":{"a":1,"b":2}}}`)
		path := "/v1/applications/" + a.ID
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, path, `{"program":[{"verb":"hangup"}]}`), http.StatusBadRequest, nil)
		var b app.Application
		w := s.Do(t, resttest.Token, http.MethodPatch, path, `{"voice_url":null,"program":[{"verb":"hangup"}],"metadata":{"k":{"b":null}}}`, "If-Match", `"1"`)
		resttest.Want(t, w, http.StatusOK, &b)
		if b.VoiceURL != "" || string(b.Program) == "" || b.Secret != a.Secret || b.Etag != "2" || *b.ExternalID != "x-1" || b.BudgetMS != 5000 {
			t.Errorf("became %s", w.Body)
		}
		if got, _ := json.Marshal(b.Metadata); string(got) != `{"k":{"a":1}}` {
			t.Errorf("metadata became %s", got)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, path, `{"name":"late"}`, "If-Match", `"1"`), http.StatusPreconditionFailed, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, path, `{"name":null}`), http.StatusBadRequest, nil)
	})
}

func TestAnOldSecretSignsForADay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := db.Now()
		s := mount(t, d, &app.Service{Now: func() time.Time { return now }})
		a := create(t, s, `{"name":"a","voice_url":"https://example.com/"}`)
		if !strings.HasPrefix(a.Secret, "whsec_") || len(a.Secret) < 30 {
			t.Fatalf("secret %q", a.Secret)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/applications/"+a.ID+"/rotate_secret", nil), http.StatusOK, nil)
		b, err := db.Get[app.Application](t.Context(), d, auth.Account(resttest.Account), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Secrets(now.Add(24*time.Hour - time.Second)); len(got) != 2 || got[0] == a.Secret || got[1] != a.Secret {
			t.Errorf("within the day: %v, was %s", got, a.Secret)
		}
		if got := b.Secrets(now.Add(24 * time.Hour)); len(got) != 1 || got[0] != b.Secret {
			t.Errorf("after the day: %v", got)
		}
		var entries []string
		if err := d.Read().NewRaw("SELECT after FROM audit_entries").Scan(t.Context(), &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e, "whsec_") {
				t.Errorf("a secret is in the audit: %s", e)
			}
		}
	})
}

func TestAnApplicationInUseStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &app.Service{})
		a := create(t, s, `{"name":"a","voice_url":"https://example.com/"}`)
		_, err := d.Write().NewRaw(`INSERT INTO numbers (id, account_id, metadata, created_at, updated_at, etag, number, application_id)
			VALUES ('num_1', ?, '{}', ?, ?, '1', '+862368925278', ?)`, resttest.Account, db.Now(), db.Now(), a.ID).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w := s.Do(t, resttest.Token, http.MethodDelete, "/v1/applications/"+a.ID, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "number num_1") {
			t.Errorf("got %d: %s", w.Code, w.Body)
		}
		if _, err := d.Write().NewRaw("DELETE FROM numbers").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/applications/"+a.ID, nil), http.StatusNoContent, nil)
	})
}

func TestTheOldestApplicationIsTheDefault(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		service := &app.Service{}
		s := mount(t, d, service)
		if _, found, err := service.Default(t.Context(), resttest.Account); found || err != nil {
			t.Errorf("Default of an account without any: %t, %v", found, err)
		}
		first := create(t, s, `{"name":"a","voice_url":"https://example.com/1"}`)
		create(t, s, `{"name":"b","voice_url":"https://example.com/2"}`)
		if a, found, err := service.Default(t.Context(), resttest.Account); err != nil || !found || a.ID != first.ID {
			t.Errorf("Default = %+v, %t, %v; want %s", a, found, err, first.ID)
		}
		if _, found, _ := service.Default(t.Context(), resttest.OtherAccount); found {
			t.Error("another account's application is the default")
		}
	})
}
