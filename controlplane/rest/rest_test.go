package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

func TestTheSuitePassesOnAWholeNoun(t *testing.T) {
	mount := func(open func(t *testing.T) *db.DB) func(t *testing.T) *resttest.Server {
		return func(t *testing.T) *resttest.Server {
			s, _ := start(t, open(t))
			return s
		}
	}
	suite := resttest.Suite{
		Objects: func(t *testing.T, s *resttest.Server) map[string]string {
			var made thing
			body := map[string]any{"name": "made", "number": "+8613900139000", "box_id": makeBox(t, s.DB, "+8613700137000", "")}
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/things", body), http.StatusCreated, &made)
			return map[string]string{"thing_id": made.ID}
		},
		More: func(t *testing.T, s *resttest.Server) {
			for _, name := range []string{"more", "still more"} {
				create(t, s, map[string]any{"name": name})
				makeBox(t, s.DB, "1", "")
			}
		},
		Request: func(_ *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
			if operation == "replaceThingFile" {
				return &resttest.Request{Body: "abc", ContentType: "application/octet-stream"}
			}
			return nil
		},
	}
	t.Run("sqlite", func(t *testing.T) {
		resttest.Run(t, mount(func(t *testing.T) *db.DB { return dbtest.Open(t, dbtest.SQLiteURL(t)) }), suite)
	})
	t.Run("postgres", func(t *testing.T) {
		resttest.Run(t, mount(func(t *testing.T) *db.DB { return dbtest.Open(t, dbtest.PostgresURL(t)) }), suite)
	})
}

// makeBox stores a box of Account and gives its id.
func makeBox(t *testing.T, d *db.DB, number, owner string) string {
	t.Helper()
	b := &box{Row: db.Row{ID: db.NewID("box")}, Owned: db.Owned{OwnerID: owner}, Number: number}
	if err := db.Insert(t.Context(), d, auth.Account(resttest.Account), b); err != nil {
		t.Fatal(err)
	}
	return b.ID
}

// fault is a problem as a client sees it.
type fault struct {
	Type      string               `json:"type"`
	Status    int                  `json:"status"`
	Detail    string               `json:"detail"`
	Errors    []problem.FieldError `json:"errors"`
	RequestID string               `json:"request_id"`
}

func create(t *testing.T, s *resttest.Server, body any, headers ...string) thing {
	t.Helper()
	var made thing
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/things", body, headers...), http.StatusCreated, &made)
	return made
}

func TestAnObjectsLife(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		w := s.Do(t, resttest.Token, http.MethodPost, "/v1/things", `{"name":"A","metadata":{"n":{"deep":1}},"until":"2026-01-31T16:00:00+08:00"}`)
		var made thing
		resttest.Want(t, w, http.StatusCreated, &made)
		if made.Size != 60 {
			t.Errorf("size is %d: the default of the specification was not filled in", made.Size)
		}
		if w.Header().Get("Location") != "/v1/things/"+made.ID || w.Header().Get("ETag") != `"1"` {
			t.Errorf("headers %v", w.Header())
		}
		var raw map[string]any
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/things/"+made.ID, nil), http.StatusOK, &raw)
		if raw["until"] != "2026-01-31T08:00:00Z" || !strings.HasSuffix(raw["created_at"].(string), "Z") {
			t.Errorf("times are not UTC: %v", raw)
		}
		var patched thing
		w = s.Do(t, resttest.Token, http.MethodPatch, "/v1/things/"+made.ID, `{"name":"B","number":null,"metadata":{"n":{"deep":null,"new":true}}}`, "If-Match", `"1"`)
		resttest.Want(t, w, http.StatusOK, &patched)
		if text, _ := json.Marshal(patched.Metadata); patched.Name != "B" || patched.Etag != "2" || string(text) != `{"n":{"new":true}}` {
			t.Errorf("patched to %+v %s", patched, text)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/things/"+made.ID, `{"name":"C"}`, "If-Match", `"1"`), http.StatusPreconditionFailed, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/things/"+made.ID, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/things/"+made.ID, nil), http.StatusNotFound, nil)
	})
}

func TestAPatchKeepsWhatJSONDoesNotShow(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	s, _ := start(t, d)
	made := create(t, s, `{"name":"A","pin":"1234"}`)
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/things/"+made.ID, `{"name":"B"}`), http.StatusOK, nil)
	kept, err := db.Get[thing](t.Context(), d, auth.Account(resttest.Account), made.ID)
	if err != nil || kept.PIN != "1234" {
		t.Errorf("got %+v %v", kept, err)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	s, service := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	made := create(t, s, `{"name":"taken"}`)
	for _, c := range []struct {
		name, method, target, body, contentType string
		status                                  int
		pointer                                 string
	}{
		{"not JSON", "POST", "/v1/things", `{"name":`, "", 400, ""},
		{"two values", "POST", "/v1/things", `{"name":"A"} {}`, "", 400, ""},
		{"no body", "POST", "/v1/things", ``, "", 400, ""},
		{"missing field", "POST", "/v1/things", `{}`, "", 400, "/name"},
		{"unknown field", "POST", "/v1/things", `{"name":"A","nom":"B"}`, "", 400, "/nom"},
		{"wrong type", "POST", "/v1/things", `{"name":1}`, "", 400, "/name"},
		{"null", "POST", "/v1/things", `{"name":null}`, "", 400, "/name"},
		{"out of range", "POST", "/v1/things", `{"name":"A","size":0}`, "", 400, "/size"},
		{"not a time", "POST", "/v1/things", `{"name":"A","until":"tomorrow"}`, "", 400, "/until"},
		{"too large a number", "POST", "/v1/things", `{"name":"A","size":1e40}`, "", 400, "/size"},
		{"NUL", "POST", "/v1/things", `{"name":"A\u0000"}`, "", 400, ""},
		{"NUL in metadata", "POST", "/v1/things", `{"name":"A","metadata":{"a":["\u0000"]}}`, "", 400, ""},
		{"duplicate", "POST", "/v1/things", `{"name":"taken"}`, "", 409, "/name"},
		{"large metadata", "POST", "/v1/things", `{"name":"A","metadata":{"a":"` + strings.Repeat("x", db.MaxMetadata) + `"}}`, "", 422, "/metadata"},
		{"wrong media", "POST", "/v1/things", `name=A`, "application/x-www-form-urlencoded", 415, ""},
		{"too large", "POST", "/v1/things", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, "", 413, ""},
		{"body not wanted", "DELETE", "/v1/things/" + made.ID, `{"a":1}`, "", 400, ""},
		{"unknown parameter", "GET", "/v1/things?nom=A", "", "", 400, "nom"},
		{"limit", "GET", "/v1/things?limit=0", "", "", 400, "limit"},
		{"limit no number", "GET", "/v1/things?limit=ten", "", "", 400, "limit"},
		{"bad escape", "GET", "/v1/things?limit=%zz", "", "", 400, ""},
		{"NUL in parameter", "GET", "/v1/things?cursor=%00", "", "", 400, "cursor"},
		{"NUL in path", "GET", "/v1/things/%00", "", "", 400, "thing_id"},
		{"UTF-8 in path", "GET", "/v1/things/%ff", "", "", 400, "thing_id"},
		{"enum", "GET", "/v1/things/" + made.ID + "/file?as=xml", "", "", 400, "as"},
		{"no such object", "GET", "/v1/things/thing_none", "", "", 404, ""},
		{"a slash in an id", "GET", "/v1/things/a%2Fb", "", "", 404, ""},
		{"no such path", "GET", "/v1/nothing", "", "", 404, ""},
		{"trailing slash", "GET", "/v1/things/", "", "", 404, ""},
		{"dots", "GET", "/v1/things/../things", "", "", 404, ""},
		{"method", "PUT", "/v1/things", "", "", 405, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var body any
			var headers []string
			if c.body != "" {
				body = c.body
			}
			if c.contentType != "" {
				headers = []string{"Content-Type", c.contentType}
			}
			var got fault
			w := s.Do(t, resttest.Token, c.method, c.target, body, headers...)
			resttest.Want(t, w, c.status, &got)
			if got.Status != c.status || got.Type == "" || got.Detail == "" || got.RequestID == "" || got.RequestID != w.Header().Get("Request-Id") {
				t.Errorf("got %s", w.Body)
			}
			if c.pointer != "" && !slices.ContainsFunc(got.Errors, func(e problem.FieldError) bool { return e.Pointer == c.pointer && e.Message != "" && e.Code != "" }) {
				t.Errorf("no error for %s: %s", c.pointer, w.Body)
			}
		})
	}
	if n := service.created.Load(); n != 3 {
		t.Errorf("the function ran %d times; only the first, the duplicate and the large metadata reach it", n)
	}
	w := s.Do(t, resttest.Token, http.MethodPut, "/v1/things", nil)
	if got := w.Header().Get("Allow"); got != "GET, POST" {
		t.Errorf("Allow is %q", got)
	}
}

func TestAFaultOfOursShowsNothing(t *testing.T) {
	s, service := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for name, before := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errBroken },
		"panic": func(context.Context) error { panic(errBroken) },
	} {
		service.before = before
		w := s.Do(t, resttest.Token, http.MethodPost, "/v1/things", `{"name":"A"}`)
		resttest.Want(t, w, http.StatusInternalServerError, nil)
		if strings.Contains(w.Body.String(), "fire") || strings.Contains(w.Body.String(), "SELECT") {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

func TestEveryAnswerHasTheSafeHeaders(t *testing.T) {
	s, _ := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for _, target := range []string{"/v1/things", "/v1/nothing", "/v1/ping"} {
		h := s.Do(t, resttest.Token, http.MethodGet, target, nil).Header()
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Request-Id"), "req_") {
			t.Errorf("%s: %v", target, h)
		}
	}
	if h := s.Do(t, "", http.MethodGet, "/v1/things", nil).Header(); !strings.HasPrefix(h.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("no WWW-Authenticate: %v", h)
	}
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	s, _ := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodHead, "/v1/things", nil), http.StatusOK, nil)
}

func TestRedirectOrJSON(t *testing.T) {
	s, _ := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	made := create(t, s, `{"name":"A"}`)
	w := s.Do(t, resttest.Token, http.MethodGet, "/v1/things/"+made.ID+"/file", nil)
	if w.Code != http.StatusFound || w.Header().Get("Location") != "https://example.com/file" || w.Body.Len() != 0 {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/things/"+made.ID+"/file?as=json", nil), http.StatusOK, nil)
}

func TestAnUploadIsStreamedUpToItsLimit(t *testing.T) {
	s, _ := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	made := create(t, s, `{"name":"A"}`)
	put := func(n int) *httptest.ResponseRecorder {
		return s.Do(t, resttest.Token, http.MethodPut, "/v1/things/"+made.ID+"/file", bytes.NewReader(make([]byte, n)), "Content-Type", "application/octet-stream")
	}
	// Above the limit of JSON bodies, and above that of uploads.
	resttest.Want(t, put(2<<20), http.StatusOK, nil)
	resttest.Want(t, put(100<<20+1), http.StatusRequestEntityTooLarge, nil)
}

func TestAnUploadReachesItsFunctionWhileItIsSent(t *testing.T) {
	s, service := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	made := create(t, s, `{"name":"A"}`)
	running := make(chan struct{})
	service.storing = func() { close(running) }
	in, out := io.Pipe()
	var sender sync.WaitGroup
	sender.Go(func() {
		// A server that collects the body first never gets here.
		<-running
		_, err := out.Write([]byte("abc"))
		if err := errors.Join(err, out.Close()); err != nil {
			t.Error(err)
		}
	})
	var got size
	w := s.Do(t, resttest.Token, http.MethodPut, "/v1/things/"+made.ID+"/file", in, "Content-Type", "application/octet-stream")
	resttest.Want(t, w, http.StatusOK, &got)
	sender.Wait()
	if got.Size != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestTheRateOfAKey(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	makeTables(t, d)
	handler, err := rest.Mount(rest.Config{
		DB: d, Bus: memoryBus(t), Log: discard(), RatePerSecond: 0.001, Burst: 2,
		Authenticate: callers(map[string]auth.Caller{
			"a": {KeyID: "key_a", AccountID: "acc_a", Permissions: []string{"*"}, Scope: auth.Account("acc_a")},
			"b": {KeyID: "key_b", AccountID: "acc_b", Permissions: []string{"*"}, Scope: auth.Account("acc_b")},
			"c": {KeyID: "key_c", AccountID: "acc_c", Permissions: []string{"*"}, Scope: auth.Account("acc_c"), RatePerSecond: 100},
		}),
	}, specification(t), (&things{db: d}).operations())
	if err != nil {
		t.Fatal(err)
	}
	s := &resttest.Server{Handler: handler}
	for i, want := range []int{200, 200, 429} {
		w := s.Do(t, "a", http.MethodGet, "/v1/things", nil)
		if w.Code != want || w.Header().Get("RateLimit-Limit") != "2" || w.Header().Get("RateLimit-Remaining") != strconv.Itoa(max(0, 1-i)) || w.Header().Get("RateLimit-Reset") == "" {
			t.Errorf("%d: got %d %v", i, w.Code, w.Header())
		}
		if (w.Code == 429) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%d: Retry-After %q", i, w.Header().Get("Retry-After"))
		}
	}
	if w := s.Do(t, "b", http.MethodGet, "/v1/things", nil); w.Code != 200 {
		t.Errorf("another key: %d", w.Code)
	}
	for range 50 {
		if w := s.Do(t, "c", http.MethodGet, "/v1/things", nil); w.Code != 200 {
			t.Fatalf("a key of its own rate: %d", w.Code)
		}
	}
}

func TestIdempotency(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, service := start(t, d)
		post := func(key, body string) (int, string, http.Header) {
			w := s.Do(t, resttest.Token, http.MethodPost, "/v1/things", body, "Idempotency-Key", key)
			return w.Code, w.Body.String(), w.Header()
		}
		code, first, header := post("k1", `{"name":"A"}`)
		if code != http.StatusCreated || !strings.Contains(first, "secret-token") {
			t.Fatalf("got %d %s", code, first)
		}
		code, again, replayed := post("k1", `{"name":"A"}`)
		if code != http.StatusCreated || replayed.Get("Idempotency-Replayed") != "true" || replayed.Get("Location") != header.Get("Location") || replayed.Get("ETag") != `"1"` {
			t.Errorf("got %d %v", code, replayed)
		}
		if want := strings.Replace(first, "secret-token", "[redacted]", 1); !sameJSON(t, again, want) {
			t.Errorf("got %s, want %s", again, want)
		}
		if code, body, _ := post("k1", `{"name":"B"}`); code != http.StatusUnprocessableEntity {
			t.Errorf("another body: %d %s", code, body)
		}
		if service.created.Load() != 1 {
			t.Errorf("ran %d times", service.created.Load())
		}
		w := s.Do(t, resttest.Other, http.MethodPost, "/v1/things", `{"name":"A"}`, "Idempotency-Key", "k1")
		if w.Code != http.StatusCreated || w.Header().Get("Idempotency-Replayed") != "" {
			t.Errorf("another account's key: %d %v", w.Code, w.Header())
		}
		if code, body, _ := post(strings.Repeat("k", 256), `{"name":"Z"}`); code != http.StatusBadRequest {
			t.Errorf("a long key: %d %s", code, body)
		}
		// The second answer hides what the first did.
		for range 2 {
			w := s.Do(t, "masked", http.MethodPost, "/v1/things", `{"name":"M","number":"+8613800138000"}`, "Idempotency-Key", "k3")
			if w.Code != http.StatusCreated || !strings.Contains(w.Body.String(), `"************00"`) {
				t.Errorf("a masked caller: %d %v %s", w.Code, w.Header(), w.Body)
			}
		}
		// What failed has done nothing: the key is free again.
		service.before = func(context.Context) error { return errRefused }
		if code, _, _ := post("k2", `{"name":"C"}`); code != http.StatusUnprocessableEntity {
			t.Errorf("got %d", code)
		}
		service.before = nil
		if code, body, _ := post("k2", `{"name":"C2"}`); code != http.StatusCreated {
			t.Errorf("got %d %s", code, body)
		}
	})
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var texts [2]string
	for i, text := range []string{a, b} {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(out)
	}
	return texts[0] == texts[1]
}

func TestOneOfManyWithTheSameKeyRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, service := start(t, d)
		entered, leave := make(chan struct{}), make(chan struct{})
		service.before = func(context.Context) error {
			close(entered)
			<-leave
			return nil
		}
		var first sync.WaitGroup
		first.Go(func() {
			if w := s.Do(t, resttest.Token, http.MethodPost, "/v1/things", `{"name":"A"}`, "Idempotency-Key", "k"); w.Code != http.StatusCreated {
				t.Errorf("the first: %d %s", w.Code, w.Body)
			}
		})
		<-entered
		for range 3 {
			if w := s.Do(t, resttest.Token, http.MethodPost, "/v1/things", `{"name":"A"}`, "Idempotency-Key", "k"); w.Code != http.StatusConflict {
				t.Errorf("meanwhile: %d %s", w.Code, w.Body)
			}
		}
		close(leave)
		first.Wait()
	})
}

func TestAnIdempotencyKeyEnds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, service := start(t, d)
		post := func(body string) int {
			return s.Do(t, resttest.Token, http.MethodPost, "/v1/things", body, "Idempotency-Key", "k").Code
		}
		set := func(column string) {
			if _, err := d.Write().NewRaw("UPDATE idempotency_keys SET "+column, db.Now().Add(-time.Second)).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := post(`{"name":"A"}`); got != http.StatusCreated {
			t.Fatal(got)
		}
		set("expires_at = ?")
		if got := post(`{"name":"B"}`); got != http.StatusCreated {
			t.Errorf("after its life: %d", got)
		}
		// A process that died while the request ran.
		set("status = 0, locked_until = ?")
		if got := post(`{"name":"C"}`); got != http.StatusCreated {
			t.Errorf("after the lock: %d", got)
		}
		if service.created.Load() != 3 {
			t.Errorf("ran %d times", service.created.Load())
		}
		// A process that died when the change was committed, but no answer was stored.
		set("status = 1, body = 'thing_1', locked_until = ?")
		if w := s.Do(t, resttest.Token, http.MethodPost, "/v1/things", `{"name":"C"}`, "Idempotency-Key", "k"); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "thing_1") {
			t.Errorf("after the commit: %d %s", w.Code, w.Body)
		}
		if service.created.Load() != 3 {
			t.Errorf("ran %d times", service.created.Load())
		}
		set("expires_at = ?")
		if err := rest.Purge(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if n, err := d.Read().NewSelect().Table("idempotency_keys").Count(t.Context()); n != 0 || err != nil {
			t.Errorf("%d left: %v", n, err)
		}
	})
}

// The key of a request says that it was carried out from the moment of the commit; one whose key another has, because it
// took too long, changes nothing.
func TestAnIdempotencyKeyIsUsedUpInTheTransactionOfTheChange(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, service := start(t, d)
		post := func(path, body, key string) *httptest.ResponseRecorder {
			return s.Do(t, resttest.Token, http.MethodPost, path, body, "Idempotency-Key", key)
		}
		status := func(key string) (status int) {
			t.Helper()
			if err := d.Read().NewRaw("SELECT status FROM idempotency_keys WHERE key = ?", key).Scan(t.Context(), &status); err != nil {
				t.Fatal(err)
			}
			return status
		}
		w := post("/v1/things", `{"name":"A"}`, "first")
		var made struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || w.Code != http.StatusCreated {
			t.Fatal(w.Code, w.Body, err)
		}
		service.copied = func() error {
			if got := status("copy"); got != 1 {
				t.Errorf("between commit and answer the key has %d", got)
			}
			return errors.New("gone")
		}
		for range 2 { // the second time it is refused
			if w := post("/v1/things/"+made.ID+"/copies", "", "copy"); w.Code < 400 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		}
		if n, err := d.Read().NewSelect().Table("things").Count(t.Context()); n != 2 || err != nil {
			t.Errorf("%d things, %v; want the first and one copy", n, err)
		}
		service.before = func(ctx context.Context) error {
			_, err := d.Write().NewRaw("UPDATE idempotency_keys SET locked_until = ? WHERE key = 'late'", db.Now().Add(time.Hour)).Exec(ctx)
			return err
		}
		if w := post("/v1/things", `{"name":"B"}`, "late"); w.Code != http.StatusConflict {
			t.Errorf("without its key: got %d %s", w.Code, w.Body)
		}
		if n, err := d.Read().NewSelect().Table("things").Count(t.Context()); n != 2 || err != nil {
			t.Errorf("%d things, %v after a request that had lost its key", n, err)
		}
	})
}

func TestTheAuditTellsBeforeAndAfterWithoutSecrets(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		made := create(t, s, `{"name":"A","pin":"1234"}`)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/things/"+made.ID, `{"name":"B"}`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/things/"+made.ID, nil), http.StatusNoContent, nil)
		var entries []rest.AuditEntry
		if err := d.Read().NewSelect().Model(&entries).Where("object_id = ?", made.ID).OrderBy("id", "ASC").Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(entries) != 3 {
			t.Fatalf("%d entries", len(entries))
		}
		names := func(text json.RawMessage) string {
			if len(text) == 0 {
				return "-"
			}
			var object struct{ Name string }
			if err := json.Unmarshal(text, &object); err != nil {
				t.Fatal(err)
			}
			return object.Name
		}
		for i, want := range [][3]string{{"createThing", "-", "A"}, {"updateThing", "A", "B"}, {"deleteThing", "B", "-"}} {
			e := entries[i]
			if got := [3]string{e.Operation, names(e.Before), names(e.After)}; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if e.Address == "" || e.RequestID == "" || e.CreatedAt.IsZero() {
				t.Errorf("incomplete: %+v", e)
			}
			for _, secret := range []string{"secret-token", "1234"} {
				if strings.Contains(string(e.Before)+string(e.After), secret) {
					t.Errorf("%s holds the secret %s", e.Operation, secret)
				}
			}
		}
	})
}

func TestMaskedNumbers(t *testing.T) {
	s, _ := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	made := create(t, s, `{"name":"A","number":"+8613800138000"}`)
	for token, want := range map[string]string{resttest.Token: "+8613800138000", "masked": "************00"} {
		var got thing
		resttest.Want(t, s.Do(t, token, http.MethodGet, "/v1/things/"+made.ID, nil), http.StatusOK, &got)
		if got.Number != want {
			t.Errorf("%s sees %q", token, got.Number)
		}
		var page struct{ Data []thing }
		resttest.Want(t, s.Do(t, token, http.MethodGet, "/v1/things", nil), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].Number != want {
			t.Errorf("%s lists %+v", token, page)
		}
	}
}

func TestARequestThatTakesTooLongIsEnded(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	makeTables(t, d)
	service := &things{db: d, before: func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	handler, err := rest.Mount(rest.Config{
		DB: d, Bus: memoryBus(t), Log: discard(), Timeout: 10 * time.Millisecond,
		Authenticate: callers(map[string]auth.Caller{"a": {KeyID: "key_a", AccountID: "acc_a", Permissions: []string{"*"}, Scope: auth.Account("acc_a")}}),
	}, specification(t), service.operations())
	if err != nil {
		t.Fatal(err)
	}
	s := &resttest.Server{Handler: handler}
	w := s.Do(t, "a", http.MethodPost, "/v1/things", `{"name":"A"}`)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
