package account_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// operations are those of the operator, or those of the accounts.
func operations(t *testing.T, s *account.Service, operators bool) map[string]rest.Operation {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	all, chosen := s.Operations(), map[string]rest.Operation{}
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			permission, _ := o.Extensions["x-permission"].(string)
			if op, ok := all[o.OperationID]; ok && (auth.Resource(permission) == "platform") == operators {
				chosen[o.OperationID] = op
			}
		}
	}
	return chosen
}

func mount(t *testing.T, d *db.DB, s *account.Service) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	return resttest.Mount(t, d, spec, operations(t, s, false))
}

// mountWith is mount for all operations, with an Authenticate of the test's.
func mountWith(t *testing.T, d *db.DB, s *account.Service, chosen map[string]rest.Operation, authenticate func(context.Context, rest.Credential) (auth.Caller, error)) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	server := resttest.Mount(t, d, spec, chosen)
	server.Handler, err = rest.Mount(rest.Config{
		DB: d, Bus: b, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Authenticate: authenticate, Observe: called(t),
	}, server.Spec, chosen)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// called writes down for resttest.Uncalled which operations a server of our own has answered.
func called(t *testing.T) func(context.Context, string, int, time.Duration) {
	t.Helper()
	folder := os.Getenv(resttest.CalledEnv)
	if folder == "" {
		return nil
	}
	return func(_ context.Context, operation string, status int, _ time.Duration) {
		if status >= http.StatusBadRequest {
			return
		}
		if err := os.WriteFile(filepath.Join(folder, "account."+operation), []byte(operation+"\n"), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// operator stands in for a platform key under the names that resttest knows, in its account so that it finds the audit.
func operator(_ context.Context, c rest.Credential) (auth.Caller, error) {
	who := resttest.Caller()
	who.Scope = auth.Everywhere()
	switch {
	case c.Bearer == resttest.Token:
	case c.Bearer == resttest.Other:
		who.AccountID, who.KeyID, who.Scope = resttest.OtherAccount, "key_other", auth.Account(resttest.OtherAccount)
	case c.Bearer == "masked":
		who.Mask.Numbers = true
	case c.Bearer == "own":
		who.UserID, who.Reach = resttest.OwnUser, map[string]auth.Rows{"*": {Users: []string{resttest.OwnUser}}}
	case strings.HasPrefix(c.Bearer, "but:"):
		who.Permissions = []string{"calls.read"}
	default:
		return auth.Caller{}, problem.Unauthenticated("this key is not known")
	}
	return who, nil
}

func locations() map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL}
}

func createKey(t *testing.T, s *resttest.Server, token, body string) account.ShownKey {
	t.Helper()
	var k account.ShownKey
	resttest.Want(t, s.Do(t, token, http.MethodPost, "/v1/api_keys", body), http.StatusCreated, &k)
	return k
}

func TestEveryOperation(t *testing.T) {
	for name, location := range locations() {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				d := dbtest.Open(t, location(t))
				return mount(t, d, &account.Service{DB: d})
			}, resttest.Suite{
				Objects: func(t *testing.T, s *resttest.Server) map[string]string {
					return map[string]string{"api_key_id": createKey(t, s, resttest.Token, `{"name":"CRM","permissions":["calls.read"]}`).ID}
				},
			})
		})
	}
}

func TestEveryOperationOfTheOperator(t *testing.T) {
	for name, location := range locations() {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				d := dbtest.Open(t, location(t))
				s := &account.Service{DB: d}
				return mountWith(t, d, s, operations(t, s, true), operator)
			}, resttest.Suite{
				Objects: func(t *testing.T, s *resttest.Server) map[string]string {
					a, err := (&account.Service{DB: s.DB}).Create(t.Context(), account.Draft{Name: "made", DefaultCountry: "CN"}, "made.example")
					if err != nil {
						t.Fatal(err)
					}
					return map[string]string{"account_id": a.ID}
				},
			})
		})
	}
}

// real is a server with the real keys, and one of each kind in it.
func real(t *testing.T, d *db.DB, s *account.Service) (server *resttest.Server, platform, all string) {
	t.Helper()
	server = mountWith(t, d, s, s.Operations(), func(ctx context.Context, c rest.Credential) (auth.Caller, error) {
		return s.Authenticate(ctx, c.Bearer, c.From)
	})
	platform, err := s.CreatePlatformKey(t.Context(), "operator")
	if err != nil {
		t.Fatal(err)
	}
	all, err = s.CreateKey(t.Context(), resttest.Account, "all", "*")
	if err != nil {
		t.Fatal(err)
	}
	return server, platform, all
}

func TestAPlatformKeyAndAnAccountsKeyDoNothingOfEachOther(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, platform, all := real(t, d, &account.Service{DB: d})
		for _, c := range []struct {
			token, method, path, body string
			status                    int
		}{
			{platform, "GET", "/v1/accounts", "", 200},
			{platform, "GET", "/v1/accounts/" + resttest.Account, "", 200},
			{platform, "GET", "/v1/account", "", 403},
			{platform, "GET", "/v1/usage", "", 403},
			{platform, "GET", "/v1/api_keys", "", 403},
			{platform, "POST", "/v1/api_keys", `{"name":"a","permissions":["calls.read"]}`, 403},
			{all, "GET", "/v1/accounts", "", 403},
			{all, "POST", "/v1/accounts/search", `{}`, 403},
			{all, "POST", "/v1/accounts", `{"name":"mine","default_country":"CN","domains":["mine.example"]}`, 403},
			{all, "GET", "/v1/accounts/" + resttest.Account, "", 404},
			{all, "PATCH", "/v1/accounts/" + resttest.Account, `{"limits":{}}`, 404},
			{all, "PUT", "/v1/accounts/" + resttest.Account + "/limits", `{}`, 404},
			{all, "DELETE", "/v1/accounts/" + resttest.OtherAccount, "", 404},
			{all, "POST", "/v1/accounts/" + resttest.OtherAccount + "/api_keys", `{"name":"a","permissions":["*"]}`, 404},
			{all, "GET", "/v1/account", "", 200},
			{all, "POST", "/v1/api_keys", `{"name":"a","permissions":["platform.write"]}`, 422},
			{all, "POST", "/v1/api_keys", `{"name":"a","permissions":["platform.*"]}`, 422},
			{platform, "POST", "/v1/accounts/" + resttest.Account + "/api_keys", `{"name":"a","permissions":["platform.read"]}`, 422},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			if w := server.Do(t, c.token, c.method, c.path, body); w.Code != c.status {
				t.Errorf("%.3s… %s %s: got %d, want %d: %s", c.token, c.method, c.path, w.Code, c.status, w.Body)
			}
		}
	})
}

func TestTheOperatorMakesAnAccountAndItsKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		var made []string
		s := &account.Service{DB: d, OnCreate: []func(context.Context, *db.Tx, string) error{func(_ context.Context, _ *db.Tx, id string) error {
			made = append(made, id)
			return nil
		}}}
		server, platform, _ := real(t, d, s)
		var a account.Shown
		w := server.Do(t, platform, http.MethodPost, "/v1/accounts", `{"name":"acme","default_country":"CN","domains":["ACME.example.","b.example"],"limits":{"agents":5}}`)
		resttest.Want(t, w, http.StatusCreated, &a)
		if a.TimeZone != "Asia/Shanghai" || a.Status != account.Active || strings.Join(a.Domains, " ") != "acme.example b.example" || a.Limits.Agents != 5 || len(made) != 1 || made[0] != a.ID {
			t.Errorf("made %s, roles in %v", w.Body, made)
		}
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"name":"acme","default_country":"CN","domains":["c.example"]}`, 409, "/name"},
			{`{"name":"acme2","default_country":"CN","domains":["c.example","b.example"]}`, 409, "/domains/1"},
			{`{"name":"acme2","default_country":"CN","domains":["not a host"]}`, 400, "/domains/0"},
			{`{"name":"acme2","default_country":"CN","domains":["c.example"],"time_zone":"Mars/Olympus"}`, 400, "/time_zone"},
			{`{"name":"acme2","default_country":"CN","domains":["c.example"],"time_zone":"Local"}`, 400, "/time_zone"},
			{`{"name":"acme2","default_country":"CN","domains":["c.example"],"status":"active"}`, 400, "/status"},
		} {
			if w := server.Do(t, platform, http.MethodPost, "/v1/accounts", c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s", c.body, w.Code, w.Body)
			}
		}
		var k account.ShownKey
		w = server.Do(t, platform, http.MethodPost, "/v1/accounts/"+a.ID+"/api_keys", `{"name":"first","permissions":["*"]}`)
		resttest.Want(t, w, http.StatusCreated, &k)
		var own account.Shown
		resttest.Want(t, server.Do(t, k.Text, http.MethodGet, "/v1/account", nil), http.StatusOK, &own)
		if own.ID != a.ID {
			t.Errorf("the key opens %s, not %s", own.ID, a.ID)
		}
		resttest.Want(t, server.Do(t, k.Text, http.MethodPatch, "/v1/account", `{"limits":{"agents":500}}`), http.StatusBadRequest, nil)
		resttest.Want(t, server.Do(t, platform, http.MethodPost, "/v1/accounts/acc_none/api_keys", `{"name":"first","permissions":["*"]}`), http.StatusNotFound, nil)
	})
}

func TestASuspendedAccountIsNotServed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := &account.Service{DB: d}
		server, platform, all := real(t, d, s)
		active := func() bool {
			ok, err := s.IsActive(t.Context(), resttest.Account)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		resttest.Want(t, server.Do(t, all, http.MethodGet, "/v1/account", nil), http.StatusOK, nil)
		if !active() {
			t.Error("an account is suspended from the start")
		}
		resttest.Want(t, server.Do(t, platform, http.MethodDelete, "/v1/accounts/"+resttest.Account, nil), http.StatusNoContent, nil)
		if w := server.Do(t, all, http.MethodGet, "/v1/account", nil); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "suspended") {
			t.Errorf("its key: %d %s", w.Code, w.Body)
		}
		if active() {
			t.Error("calls are taken of a suspended account")
		}
		resttest.Want(t, server.Do(t, platform, http.MethodPatch, "/v1/accounts/"+resttest.Account, `{"status":"active"}`), http.StatusOK, nil)
		resttest.Want(t, server.Do(t, all, http.MethodGet, "/v1/account", nil), http.StatusOK, nil)
		if ok, err := s.IsActive(t.Context(), "acc_none"); ok || err != nil {
			t.Errorf("an account that is not there: %t, %v", ok, err)
		}
	})
}

func TestAKeyDoesNoMoreThanItsMaker(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server := mount(t, d, &account.Service{DB: d})
		strong := createKey(t, server, resttest.Token, `{"name":"strong","permissions":["*"]}`)
		limited := "only:api_keys.read,api_keys.write,calls.read"
		for _, c := range []struct {
			method, path, body string
			status             int
		}{
			{"POST", "/v1/api_keys", `{"name":"a","permissions":["calls.read"]}`, 201},
			{"POST", "/v1/api_keys", `{"name":"a","permissions":["calls.write"]}`, 422},
			{"POST", "/v1/api_keys", `{"name":"a","permissions":["calls.*"]}`, 422},
			{"POST", "/v1/api_keys", `{"name":"a","permissions":["*"]}`, 422},
			{"PATCH", "/v1/api_keys/" + strong.ID, `{"networks":["192.0.2.0/24"]}`, 422},
			{"POST", "/v1/api_keys/" + strong.ID + "/rotate", `{}`, 422},
			{"DELETE", "/v1/api_keys/" + strong.ID, ``, 204},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			if w := server.Do(t, limited, c.method, c.path, body); w.Code != c.status {
				t.Errorf("%s %s %s: got %d, want %d: %s", c.method, c.path, c.body, w.Code, c.status, w.Body)
			}
		}
	})
}

// A key sees its whole account, so nobody who sees less makes one.
func TestWhoSeesOnlySomeMakesNoKey(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	s := &account.Service{DB: d}
	people := map[string]auth.Caller{}
	for name, change := range map[string]func(*auth.Caller){
		"all": func(c *auth.Caller) { c.Reach = map[string]auth.Rows{"*": {All: true}} },
		"narrowed": func(c *auth.Caller) {
			c.Reach = map[string]auth.Rows{"calls": {Users: []string{"usr_1"}}, "*": {All: true}}
		},
		"masked": func(c *auth.Caller) { c.Mask.Numbers = true },
	} {
		who := resttest.Caller()
		who.KeyID, who.UserID = "", "usr_1"
		change(&who)
		people[name] = who
	}
	server := mountWith(t, d, s, operations(t, s, false), func(_ context.Context, c rest.Credential) (auth.Caller, error) { return people[c.Bearer], nil })
	for name, want := range map[string]int{"all": 201, "narrowed": 403, "masked": 403} {
		if w := server.Do(t, name, http.MethodPost, "/v1/api_keys", `{"name":"a","permissions":["calls.read"]}`); w.Code != want {
			t.Errorf("%s: got %d, want %d: %s", name, w.Code, want, w.Body)
		}
	}
}

func TestWhatAKeyMayBe(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	known := map[string]bool{"calls.read": true, "calls.*": true, "*": true}
	server := mount(t, d, &account.Service{DB: d, Knows: func(p string) bool { return known[p] }})
	for body, want := range map[string]int{
		`{"name":"a","permissions":["calls.read"]}`:                                                201,
		`{"name":"a","permissions":["calls.*","*"]}`:                                               201,
		`{"name":"a","permissions":["calls.raed"]}`:                                                422,
		`{"name":"a","permissions":["calls"]}`:                                                     422,
		`{"name":"a","permissions":[]}`:                                                            400,
		`{"name":" ","permissions":["*"]}`:                                                         400,
		`{"name":"a","permissions":["*"],"networks":["192.0.2.1","2001:db8::/32","10.1.2.3/8"]}`:   201,
		`{"name":"a","permissions":["*"],"networks":["192.0.2.0/33"]}`:                             400,
		`{"name":"a","permissions":["*"],"networks":["fe80::1%eth0"]}`:                             400,
		`{"name":"a","permissions":["*"],"expires_at":"2020-01-01T00:00:00Z"}`:                     400,
		`{"name":"a","permissions":["*"],"expires_at":"2099-01-01T00:00:00Z","rate_per_second":5}`: 201,
		`{"name":"a","permissions":["*"],"rate_per_second":-1}`:                                    400,
		`{"name":"a","permissions":["*"],"hash":"x"}`:                                              400,
	} {
		w := server.Do(t, resttest.Token, http.MethodPost, "/v1/api_keys", body)
		if w.Code != want {
			t.Errorf("%s: got %d, want %d: %s", body, w.Code, want, w.Body)
		}
		if strings.Contains(body, "10.1.2.3/8") && !strings.Contains(w.Body.String(), `["192.0.2.1/32","2001:db8::/32","10.0.0.0/8"]`) {
			t.Errorf("the networks became %s", w.Body)
		}
	}
}

func TestARotatedKeyHasTwoTextsForAWhile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := db.Now()
		s := &account.Service{DB: d, Now: func() time.Time { return now }}
		server := mount(t, d, s)
		opens := func(texts ...string) string {
			got := ""
			for _, text := range texts {
				// Another process, which has seen nothing of it.
				_, err := (&account.Service{DB: d, Now: s.Now}).Authenticate(t.Context(), text, netip.Addr{})
				_, here := s.Authenticate(t.Context(), text, netip.Addr{})
				if (err == nil) != (here == nil) {
					t.Errorf("here %v, elsewhere %v", here, err)
				}
				if err == nil {
					got += "1"
				} else {
					got += "0"
				}
			}
			return got
		}
		k := createKey(t, server, resttest.Token, `{"name":"CRM","permissions":["calls.read"]}`)
		if got := opens(k.Text); got != "1" {
			t.Fatalf("a new key: %s", got)
		}
		rotate := func(body string) string {
			var again account.ShownKey
			w := server.Do(t, resttest.Token, http.MethodPost, "/v1/api_keys/"+k.ID+"/rotate", body)
			resttest.Want(t, w, http.StatusOK, &again)
			if again.ID != k.ID || again.Text == k.Text || again.OldUntil == nil {
				t.Errorf("rotated to %s", w.Body)
			}
			return again.Text
		}
		second := rotate(`{}`)
		if got := opens(k.Text, second); got != "11" {
			t.Errorf("at once: %s", got)
		}
		now = now.Add(24*time.Hour - time.Microsecond)
		if got := opens(k.Text, second); got != "11" {
			t.Errorf("at the end of the day: %s", got)
		}
		now = now.Add(time.Microsecond)
		if got := opens(k.Text, second); got != "01" {
			t.Errorf("after the day: %s", got)
		}
		third := rotate(`{"overlap":60}`)
		fourth := rotate(`{"overlap":0}`)
		if got := opens(k.Text, second, third, fourth); got != "0001" {
			t.Errorf("after two more, the last without overlap: %s", got)
		}
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodDelete, "/v1/api_keys/"+k.ID, nil), http.StatusNoContent, nil)
		if got := opens(fourth); got != "0" {
			t.Errorf("revoked: %s", got)
		}
	})
}

func TestAKeysTextIsStoredAndRepeatedNowhere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server := mount(t, d, &account.Service{DB: d})
		post := func() *httptest.ResponseRecorder {
			return server.Do(t, resttest.Token, http.MethodPost, "/v1/api_keys", `{"name":"CRM","permissions":["calls.read"]}`, "Idempotency-Key", "k")
		}
		var k account.ShownKey
		resttest.Want(t, post(), http.StatusCreated, &k)
		secret := k.Text[strings.LastIndex(k.Text, "_")+1:]
		if w := post(); w.Code != http.StatusCreated || strings.Contains(w.Body.String(), secret) {
			t.Errorf("repeated: %d %s", w.Code, w.Body)
		}
		for _, path := range []string{"/v1/api_keys", "/v1/api_keys/" + k.ID} {
			if w := server.Do(t, resttest.Token, http.MethodGet, path, nil); strings.Contains(w.Body.String(), secret) || !strings.Contains(w.Body.String(), k.ID) {
				t.Errorf("%s: %s", path, w.Body)
			}
		}
		var entries []rest.AuditEntry
		if err := d.Read().NewSelect().Model(&entries).Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), secret) || strings.Contains(string(text), `"hash"`) {
				t.Errorf("the audit holds %s", text)
			}
		}
	})
}

func TestEdgesAndOperatorsKeysAreNobodysAPIKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := &account.Service{DB: d}
		server, platform, all := real(t, d, s)
		edge, err := s.CreateEdgeToken(t.Context(), "edges")
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{platform, edge} {
			id := "key_" + strings.Split(text, "_")[1]
			resttest.Want(t, server.Do(t, all, http.MethodGet, "/v1/api_keys/"+id, nil), http.StatusNotFound, nil)
			resttest.Want(t, server.Do(t, all, http.MethodDelete, "/v1/api_keys/"+id, nil), http.StatusNotFound, nil)
		}
		if err := s.AuthorizeEdge(t.Context(), platform); problem.From(err).Code != problem.CodeUnauthenticated {
			t.Errorf("a platform key at the edges' door: %v", err)
		}
		if _, err := s.Authenticate(t.Context(), edge, netip.Addr{}); problem.From(err).Code != problem.CodeUnauthenticated {
			t.Errorf("an edge's token at the API's: %v", err)
		}
	})
}

func TestUsageCountsWhatIsThere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := &account.Service{DB: d, Agents: func(_ context.Context, id string) (int64, error) { return int64(len(id)), nil }}
		server := mount(t, d, s)
		now := db.Now()
		insert := func(query string, args ...any) {
			t.Helper()
			if _, err := d.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i, at := range []string{resttest.Account, resttest.Account, resttest.OtherAccount} {
			insert(`INSERT INTO media (id, account_id, metadata, created_at, updated_at, etag, name, content_type, size, sha256)
				VALUES (?, ?, '{}', ?, ?, '1', 'a', 'audio/wav', ?, '')`, db.NewID("med"), at, now, now, int64(100*(i+1)))
			insert(`INSERT INTO recordings (id, account_id, metadata, created_at, updated_at, etag, call_id, status, started_at, duration, channels, format, size, codec, segments)
				VALUES (?, ?, '{}', ?, ?, '1', 'call_1', 'completed', ?, 1, 1, 'wav', 5000000000, 'pcmu', 1)`, db.NewID("rec"), at, now, now, now)
		}
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodGet, "/v1/usage", nil), http.StatusOK, nil)
		got, err := s.Usage(t.Context(), webhooks.AccountID(resttest.Account))
		if err != nil {
			t.Fatal(err)
		}
		want := account.Usage{Agents: int64(len(resttest.Account)), RecordingBytes: 10_000_000_000, MediaBytes: 300, StorageBytes: 10_000_000_300}
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
	})
}
