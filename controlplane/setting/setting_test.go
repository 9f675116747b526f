package setting_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func mount(t *testing.T, d *db.DB, s *setting.Service, operations map[string]rest.Operation) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s.DB = d
	if operations == nil {
		operations = s.Operations()
	}
	return resttest.Mount(t, d, spec, operations)
}

// The other operations have the key of a setting in their path, which every account has alike; so that resttest's
// question for another account's object has no answer. What it checks is in the tests below.
func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				s := &setting.Service{}
				return mount(t, dbtest.Open(t, location(t)), s, map[string]rest.Operation{"getSettings": s.Operations()["getSettings"]})
			}, resttest.Suite{})
		})
	}
}

func TestOperationsOnOneSetting(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &setting.Service{}, nil)
		resttest.Structs(t, s.Spec, s.Operations)
		for _, c := range []struct{ method, path, permission, body string }{
			{http.MethodGet, "/v1/settings/blocklist_answer", "settings.read", ""},
			{http.MethodPut, "/v1/settings/blocklist_answer", "settings.write", `{"value":"busy"}`},
			{http.MethodDelete, "/v1/settings/blocklist_answer", "settings.write", ""},
			{http.MethodGet, "/v1/settings/blocklist_answer/history", "settings.read", ""},
		} {
			ask := func(token, path string) int {
				var body any
				if c.body != "" {
					body = c.body
				}
				return s.Do(t, token, c.method, path, body).Code
			}
			for _, want := range []struct {
				token, path string
				status      int
			}{
				{"", c.path, 401}, {"but:" + c.permission, c.path, 403}, {resttest.Token, c.path + "?unknown=1", 400},
				{resttest.Token, strings.Replace(c.path, "blocklist_answer", "nothing", 1), 404},
			} {
				if got := ask(want.token, want.path); got != want.status {
					t.Errorf("%s %s as %q: %d, want %d", c.method, want.path, want.token, got, want.status)
				}
			}
			before := audited(t, d)
			if got := ask(resttest.Token, c.path); got >= 300 {
				t.Errorf("%s %s: %d", c.method, c.path, got)
			}
			if wrote, want := audited(t, d)-before, c.permission == "settings.write"; (wrote == 1) != want || wrote > 1 {
				t.Errorf("%s %s left %d audit entries", c.method, c.path, wrote)
			}
		}
	})
}

func audited(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	if err := d.Read().NewRaw("SELECT COUNT(*) FROM audit_entries").Scan(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASettingIsSetAndResetWithItsHistory(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &setting.Service{}, nil)
		const path = "/v1/settings/session_lifetime"
		show := func(token string) (v setting.Shown) {
			t.Helper()
			resttest.Want(t, s.Do(t, token, http.MethodGet, path, nil), http.StatusOK, &v)
			return v
		}
		if v := show(resttest.Token); string(v.Value) != "604800" || !v.IsDefault || v.Etag != "0" || *v.Min != 900 || v.Description.Chinese == "" {
			t.Errorf("before: %+v", v)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPut, path, `{"value":3600}`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPut, path, `{"value":7.2e3}`, "If-Match", `"1"`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPut, path, `{"value":7200}`), http.StatusOK, nil) // no change
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPut, path, `{"value":3600}`, "If-Match", `"1"`), http.StatusPreconditionFailed, nil)
		if v := show(resttest.Token); string(v.Value) != "7200" || v.IsDefault || string(v.Default) != "604800" {
			t.Errorf("after: %+v", v)
		}
		if v := show(resttest.Other); string(v.Value) != "604800" {
			t.Errorf("another account: %+v", v)
		}
		resttest.Want(t, s.Do(t, resttest.Other, http.MethodDelete, path, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, path, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, path, nil), http.StatusNoContent, nil)
		if v := show(resttest.Token); string(v.Value) != "604800" || !v.IsDefault {
			t.Errorf("reset: %+v", v)
		}
		var page struct{ Data []setting.Change }
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, path+"/history?sort=created_at", nil), http.StatusOK, &page)
		var lines []string
		for _, c := range page.Data {
			lines = append(lines, string(c.Old)+"→"+string(c.New)+" by "+c.ActorID)
		}
		if got, want := strings.Join(lines, ", "), "→3600 by key_all, 3600→7200 by key_all, 7200→ by key_all"; got != want {
			t.Errorf("history: %s; want %s", got, want)
		}
		resttest.Want(t, s.Do(t, resttest.Other, http.MethodGet, path+"/history", nil), http.StatusOK, &page)
		if len(page.Data) != 0 {
			t.Errorf("another account's history: %+v", page.Data)
		}
	})
}

func TestAValueOutOfRangeIsRefused(t *testing.T) {
	s := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), &setting.Service{}, nil)
	for _, c := range []struct{ key, body string }{
		{"session_lifetime", `{"value":899}`}, {"session_lifetime", `{"value":2592001}`}, {"session_lifetime", `{"value":3600.5}`},
		{"session_lifetime", `{"value":"3600"}`}, {"session_lifetime", `{"value":null}`}, {"session_lifetime", `{"value":1e400}`}, {"session_lifetime", `{}`},
		{"blocklist_answer", `{"value":"answer"}`}, {"blocklist_answer", `{"value":1}`}, {"blocklist_answer", `{"value":["busy"]}`}, {"notification_retention_days", `{"value":0}`},
	} {
		w := s.Do(t, resttest.Token, http.MethodPut, "/v1/settings/"+c.key, c.body)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "value") {
			t.Errorf("%s %s: %d %s", c.key, c.body, w.Code, w.Body)
		}
	}
}

func TestASettingThatIsNoMoreIsShownNowhere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		service := &setting.Service{}
		s := mount(t, d, service, nil)
		// An account has set it when there was such a setting.
		_, err := d.Write().NewRaw(`INSERT INTO settings (id, account_id, metadata, created_at, updated_at, etag, key, value)
			VALUES ('set_1', ?, '{}', ?, ?, '1', 'number_mask', '{"value":"everyone"}')`, resttest.Account, db.Now(), db.Now()).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all struct{ Data []setting.Shown }
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/settings", nil), http.StatusOK, &all)
		var keys []string
		for _, each := range all.Data {
			keys = append(keys, string(each.Key))
		}
		const want = "session_lifetime session_idle recording_retention_days notification_retention_days notification_language blocklist_answer"
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("settings: %s; want %s", got, want)
		}
		if v, err := service.Values(t.Context(), resttest.Account); err != nil || v.BlocklistAnswer() != "decline" {
			t.Errorf("%s, %v", v.BlocklistAnswer(), err)
		}
		for _, key := range []string{"event_retention_days", "job_retention_days", "audit_retention_days", "number_mask"} {
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/settings/"+key, nil), http.StatusNotFound, nil)
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodPut, "/v1/settings/"+key, `{"value":30}`), http.StatusNotFound, nil)
		}
	})
}

func TestReadersSeeAChangeWithinASecond(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := time.Now()
		clock := func() time.Time { return now }
		here, there := &setting.Service{Now: clock}, &setting.Service{DB: d, Now: clock}
		s := mount(t, d, here, nil)
		answer := func(s *setting.Service, want string) {
			t.Helper()
			v, err := s.Values(t.Context(), resttest.Account)
			if err != nil || v.BlocklistAnswer() != want {
				t.Errorf("%s, %v; want %s", v.BlocklistAnswer(), err, want)
			}
		}
		answer(here, "decline")
		answer(there, "decline")
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPut, "/v1/settings/blocklist_answer", `{"value":"busy"}`), http.StatusOK, nil)
		answer(here, "busy") // at once where it was made
		answer(there, "decline")
		now = now.Add(time.Second)
		answer(there, "busy")
		if v, err := there.Values(t.Context(), resttest.OtherAccount); err != nil || v.BlocklistAnswer() != "decline" {
			t.Errorf("another account: %s, %v", v.BlocklistAnswer(), err)
		}
		// A process that has an older range or list of choices falls back on the default.
		if _, err := d.Write().NewRaw(`UPDATE settings SET value = '{"value":"sing"}'`).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
		answer(there, "decline")
	})
}

func TestTheRegistryIsWhole(t *testing.T) {
	var none setting.Values
	seen := map[setting.Key]bool{}
	for _, s := range setting.Registry() {
		text, err := json.Marshal(s.Default)
		if err != nil {
			t.Fatal(err)
		}
		if value, err := s.Parse(text); err != nil || value != s.Default || none.Get(s.Key) != s.Default {
			t.Errorf("%s: its default %s is not in its range: %v", s.Key, text, err)
		}
		if seen[s.Key] || s.Chinese == "" || s.English == "" || (s.Kind == setting.KindInteger && s.Unit == "") {
			t.Errorf("%s: %+v", s.Key, s)
		}
		seen[s.Key] = true
	}
	if none.SessionLifetime() != 7*24*time.Hour || none.SessionIdle() != 12*time.Hour || none.RecordingRetention() != 0 ||
		none.NotificationRetention() != 90*24*time.Hour || none.NotificationLanguage() != "" || none.BlocklistAnswer() != "decline" {
		t.Error("a default is not what it is called")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"1", "1e3", "-0", "true", `"busy"`, "null", "[]", "1e999999999", "9223372036854775808"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, s := range setting.Registry() {
			value, err := s.Parse(text)
			if err != nil {
				continue
			}
			again, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if second, err := s.Parse(again); err != nil || second != value {
				t.Errorf("%s: %s is %v, which is read again as %v, %v", s.Key, text, value, second, err)
			}
		}
	})
}
