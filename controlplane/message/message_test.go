package message_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

type fixture struct {
	*resttest.Server
	messages *message.Service
}

func mount(t *testing.T, d *db.DB, allow ...netip.Prefix) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	client, status := guard.New(guard.Config{AllowNetworks: allow}), guard.New(guard.Config{AllowNetworks: allow})
	t.Cleanup(func() {
		client.Close()
		status.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{messages: &message.Service{
		DB: d, Bus: b, Guard: client, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Poll: 20 * time.Millisecond, Backoff: 10 * time.Millisecond,
		Status: webhooks.NewClient(webhooks.ClientConfig{Guard: status}), Apps: &app.Service{DB: d},
	}}
	f.Server = resttest.Mount(t, d, spec, f.messages.Operations())
	return f
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// do makes a request that must succeed, and reads its answer.
func do[T any](t *testing.T, f *fixture, method, path string, body any, status int) T {
	t.Helper()
	var answer T
	var into any = &answer
	if status == http.StatusNoContent {
		into = nil
	}
	resttest.Want(t, f.Do(t, resttest.Token, method, path, body), status, into)
	return answer
}

func (f *fixture) provider(t *testing.T, body map[string]any) message.Provider {
	t.Helper()
	if body["name"] == nil {
		body["name"] = db.NewID("p")
	}
	return do[message.Provider](t, f, http.MethodPost, "/v1/message_providers", body, http.StatusCreated)
}

// byHTTP is a provider of kind http at a URL.
func (f *fixture) byHTTP(t *testing.T, url string, more map[string]any) message.Provider {
	t.Helper()
	h := map[string]any{"url": url, "body": `{"to":"{to}","text":"{body}","id":"{id}"}`, "id_pointer": "/id"}
	for name, value := range more {
		h[name] = value
	}
	return f.provider(t, map[string]any{"kind": "http", "is_default": true, "http": h})
}

func (f *fixture) send(t *testing.T, body string) message.Message {
	t.Helper()
	return do[message.Message](t, f, http.MethodPost, "/v1/messages", map[string]any{"to": "+8613800138000", "body": body}, http.StatusCreated)
}

func (f *fixture) read(t *testing.T, id string) message.Message {
	t.Helper()
	return do[message.Message](t, f, http.MethodGet, "/v1/messages/"+id, nil, http.StatusOK)
}

// run has the service send until stop is called, or the test ends.
func (f *fixture) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.messages.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// until waits for something to be so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !is(); {
		if time.Now().After(end) {
			t.Fatalf("it did not become so: %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// becomes waits for a message's status.
func (f *fixture) becomes(t *testing.T, id string, status message.Status) message.Message {
	t.Helper()
	var m message.Message
	until(t, string(status), func() bool {
		m = f.read(t, id)
		return m.Status == status
	})
	return m
}

// events are the types of a message's events in their order.
func (f *fixture) events(t *testing.T, id string) []string {
	t.Helper()
	var all []event.Event
	if err := f.DB.Read().NewSelect().Model(&all).Where("object_id = ?", id).OrderExpr("created_at, id").Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, e := range all {
		types = append(types, strings.TrimPrefix(e.Type, "message."))
		if strings.Contains(string(e.Data), `"body"`) {
			t.Errorf("the event tells the text: %s", e.Data)
		}
	}
	return types
}

func (f *fixture) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := f.DB.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// gateway is an SMS gateway that is told how to answer.
type gateway struct {
	*httptest.Server

	mu     sync.Mutex
	asked  []asked
	answer func(n int, a asked) (status int, body string)
}

type asked struct {
	method, query, body string
	header              http.Header
}

func serve(t *testing.T, answer func(n int, a asked) (int, string)) *gateway {
	t.Helper()
	g := &gateway{answer: answer}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		g.mu.Lock()
		a := asked{r.Method, r.URL.RawQuery, string(body), r.Header}
		g.asked = append(g.asked, a)
		n := len(g.asked)
		g.mu.Unlock()
		status, text := g.answer(n, a)
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gateway) requests() []asked {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

func taken(n int, _ asked) (int, string) { return http.StatusOK, fmt.Sprintf(`{"id":"p%d"}`, n) }

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			var token string
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)))
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					p := last.byHTTP(t, "https://sms.example.com/", map[string]any{
						"headers": map[string]string{"Authorization": "Bearer hidden"},
						"report":  map[string]any{"id_pointer": "/id", "message_id_pointer": "/out_id", "status_pointer": "/s", "delivered": []string{"ok"}},
					})
					token = strings.TrimPrefix(p.ReportURL, "/v1/message_reports/")
					tpl := do[message.Template](t, last, http.MethodPost, "/v1/message_templates", map[string]any{"name": "x", "body": "hi {{name}}"}, http.StatusCreated)
					m := do[message.Message](t, last, http.MethodPost, "/v1/messages", map[string]any{
						"to": "+8613800138000", "from": "+8613900139000", "template_id": tpl.ID, "data": map[string]any{"name": "+8613700137000"},
					}, http.StatusCreated)
					spare := last.provider(t, map[string]any{"kind": "smpp", "smpp": map[string]any{"host": "smsc.example.com", "system_id": "x", "password": "y"}})
					return map[string]string{"message_id": m.ID, "message_template_id": tpl.ID, "message_provider_id": spare.ID, "token": token}
				},
				More: func(t *testing.T, _ *resttest.Server) {
					last.send(t, "a")
					last.send(t, "b")
				},
			})
		})
	}
}

func TestWhatCanBeSent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		post := func(body string) *httptest.ResponseRecorder {
			return f.Do(t, resttest.Token, http.MethodPost, "/v1/messages", body)
		}
		if w := post(`{"to":"13800138000","body":"x"}`); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/provider_id") {
			t.Errorf("without a provider: %d %s", w.Code, w.Body)
		}
		p := f.provider(t, map[string]any{"kind": "http", "from": "10690", "http": map[string]any{"url": "https://sms.example.com/"}})
		tpl := do[message.Template](t, f, http.MethodPost, "/v1/message_templates", map[string]any{"name": "x", "body": "{{code}} in {{ minutes }}"}, http.StatusCreated)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"to":"13800138000","body":"x"}`, 201, `"to":"+8613800138000","from":"10690","body":"x","encoding":"gsm","segments":1`},
			{`{"to":"+8613800138000","body":"` + strings.Repeat("汉", 71) + `"}`, 201, `"encoding":"ucs2","segments":2`},
			{`{"to":"+8613800138000","from":"ACME","template_id":"` + tpl.ID + `","data":{"code":"1234","minutes":5}}`, 201, `"body":"1234 in 5"`},
			{`{"to":"+8613800138000","template_id":"` + tpl.ID + `","data":{"code":"1234"}}`, 422, "/data/minutes"},
			{`{"to":"+8613800138000","template_id":"` + tpl.ID + `","data":{"code":{},"minutes":1}}`, 400, "/data/code"},
			{`{"to":"+8613800138000","template_id":"mtp_none"}`, 422, "/template_id"},
			{`{"to":"+8613800138000","template_id":"` + tpl.ID + `","body":"x"}`, 400, "/body"},
			{`{"to":"+8613800138000","body":"x","data":{"a":1}}`, 400, "/data"},
			{`{"to":"+8613800138000"}`, 400, "/body"},
			{`{"to":"hello","body":"x"}`, 400, "/to"},
			{`{"to":"+8613800138000","body":"x","from":"a name too long"}`, 400, "/from"},
			{`{"to":"+8613800138000","body":"` + strings.Repeat("汉", 671) + `"}`, 422, "11 segments"},
			{`{"to":"+8613800138000","body":"x","provider_id":"mpr_none"}`, 422, "/provider_id"},
			{`{"to":"+8613800138000","body":"x","send_at":"2999-01-01T00:00:00Z"}`, 422, "/send_at"},
		} {
			if w := post(c.body); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%.120s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/message_providers/"+p.ID, `{"enabled":false}`), http.StatusOK, nil)
		if w := post(`{"to":"13800138000","body":"x","provider_id":"` + p.ID + `"}`); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("a provider that is off: %d %s", w.Code, w.Body)
		}
	})
}

func TestProvidersThatCannotBe(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	const url = `"url":"https://sms.example.com/x"`
	for body, says := range map[string]string{
		`{"name":"x","kind":"http"}`:                                                                         "/http",
		`{"name":"x","kind":"smpp","http":{` + url + `}}`:                                                    "/smpp",
		`{"name":"x","kind":"http","http":{"url":"ftp://x"}}`:                                                "/http/url",
		`{"name":"x","kind":"http","http":{"url":"https://{to}.x/"}}`:                                        "/http/url",
		`{"name":"x","kind":"http","http":{` + url + `,"body":"{"}}`:                                         "/http/body",
		`{"name":"x","kind":"http","http":{` + url + `,"method":"GET","body":"{}"}}`:                         "/http/body",
		`{"name":"x","kind":"http","http":{` + url + `,"success_pointer":"/a"}}`:                             "/http/success_value",
		`{"name":"x","kind":"http","http":{` + url + `,"id_pointer":"a"}}`:                                   "/http/id_pointer",
		`{"name":"x","kind":"http","http":{` + url + `,"headers":{"Host":"a"}}}`:                             "/http/headers/Host",
		`{"name":"x","kind":"http","http":{` + url + `,"headers":{"A":"a\nb"}}}`:                             "/http/headers/A",
		`{"name":"x","kind":"http","http":{` + url + `,"report":{"status_pointer":"/a","delivered":["x"]}}}`: "/http/report/id_pointer",
		`{"name":"x","kind":"smpp","smpp":{"host":"smsc.example.com","system_id":"x"}}`:                      "/smpp/password",
		`{"name":"x","kind":"smpp","smpp":{"host":"a b","system_id":"x","password":"y"}}`:                    "/smpp/host",
		`{"name":"x","kind":"smpp","smpp":{"host":"a","system_id":"x y","password":"y"}}`:                    "/smpp/system_id",
	} {
		w := f.Do(t, resttest.Token, http.MethodPost, "/v1/message_providers", body)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s; want %s", body, w.Code, w.Body, says)
		}
	}
}

func TestASecretGoesToNoOtherHost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		p := f.byHTTP(t, "https://sms.example.com/", map[string]any{"headers": map[string]string{"Authorization": "Bearer hidden"}, "secret": "also"})
		change := func(id, body string, status int) string {
			t.Helper()
			w := f.Do(t, resttest.Token, http.MethodPatch, "/v1/message_providers/"+id, body)
			if w.Code != status || strings.Contains(w.Body.String(), "hidden") {
				t.Errorf("%s: %d %s", body, w.Code, w.Body)
			}
			return w.Body.String()
		}
		change(p.ID, `{"http":{"url":"https://evil.example.com/"}}`, http.StatusUnprocessableEntity)
		change(p.ID, `{"http":{"url":"https://evil.example.com/","headers":{"Authorization":null}}}`, http.StatusUnprocessableEntity)
		if got := change(p.ID, `{"http":{"url":"https://sms.example.com/other"}}`, http.StatusOK); !strings.Contains(got, `"header_names":["Authorization"],"has_secret":true`) {
			t.Error(got)
		}
		change(p.ID, `{"http":{"url":"https://new.example.com/","headers":{"Authorization":"Bearer new"},"secret":"new"}}`, http.StatusOK)
		s := f.provider(t, map[string]any{"kind": "smpp", "smpp": map[string]any{"host": "smsc.example.com", "system_id": "x", "password": "hidden"}})
		change(s.ID, `{"smpp":{"window":2}}`, http.StatusOK)
		change(s.ID, `{"smpp":{"host":"evil.example.com"}}`, http.StatusBadRequest)
		change(s.ID, `{"kind":"http"}`, http.StatusUnprocessableEntity)
	})
}

func TestAnAccountHasOneDefault(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		first := f.byHTTP(t, "https://a.example.com/", nil)
		second := f.byHTTP(t, "https://b.example.com/", nil)
		if m := f.send(t, "x"); m.ProviderID != second.ID {
			t.Errorf("sent by %s", m.ProviderID)
		}
		if p := do[message.Provider](t, f, http.MethodGet, "/v1/message_providers/"+first.ID, nil, http.StatusOK); p.IsDefault {
			t.Error("there are two defaults")
		}
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/message_providers/"+second.ID, nil)
		if w.Code != http.StatusConflict {
			t.Errorf("a provider that has something to send is gone: %d %s", w.Code, w.Body)
		}
	})
}

func TestAGatewayIsAskedAndReports(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		g := serve(t, taken)
		p := f.byHTTP(t, g.URL+"/send?to={to}", map[string]any{
			"headers": map[string]string{"Authorization": "Bearer key"}, "secret": `s"ecret`,
			"body": `{"phone":"{to_national}","text":{body},"params":{params_json},"same":"{params_json}","code":"{template_code}/{signature}","out":"{id}","key":"{secret}"}`,
			"report": map[string]any{
				"list_pointer": "/reports", "id_pointer": "/biz_id", "status_pointer": "/success", "delivered": []string{"true"}, "ignored": []string{"wait"},
				"error_code_pointer": "/err", "answer": map[string]any{"code": 0},
			},
		})
		tpl := do[message.Template](t, f, http.MethodPost, "/v1/message_templates", map[string]any{
			"name": "x", "body": "\"{{code}}\"\n", "code": "SMS_1", "signature": "ACME",
		}, http.StatusCreated)
		m := do[message.Message](t, f, http.MethodPost, "/v1/messages", map[string]any{
			"to": "+8613800138000", "template_id": tpl.ID, "data": map[string]any{"code": 7},
		}, http.StatusCreated)
		if m.Status != message.Queued {
			t.Errorf("made %s", m.Status)
		}
		f.run(t)
		m = f.becomes(t, m.ID, message.Sent)
		if m.ProviderMessageID != "p1" || m.SentAt == nil || m.Attempts != 1 {
			t.Errorf("sent %+v", m)
		}
		got := g.requests()[0]
		want := `{"phone":"13800138000","text":"\"7\"\n","params":{"code":"7"},"same":"{\"code\":\"7\"}","code":"SMS_1/ACME","out":"` + m.ID + `","key":"s\"ecret"}`
		if got.body != want || got.query != "to=%2B8613800138000" || got.header.Get("Authorization") != "Bearer key" {
			t.Errorf("asked %+v; want %s", got, want)
		}
		report := func(body string) {
			t.Helper()
			w := f.Do(t, "", http.MethodPost, p.ReportURL, body)
			if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"code":0}` {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		other := f.send(t, "y")
		other = f.becomes(t, other.ID, message.Sent)
		report(`{"reports":[{"biz_id":"p1","success":"wait"},{"biz_id":"none","success":true},{"biz_id":"p1","success":true},{"biz_id":"p2","success":false,"err":27}]}`)
		if m = f.read(t, m.ID); m.Status != message.Delivered || m.DeliveredAt == nil {
			t.Errorf("is %s", m.Status)
		}
		if other = f.read(t, other.ID); other.Status != message.Undelivered || other.ErrorCode != "27" {
			t.Errorf("is %s %s", other.Status, other.ErrorCode)
		}
		report(`{"reports":[{"biz_id":"p1","success":false}]}`)
		if m = f.read(t, m.ID); m.Status != message.Delivered {
			t.Errorf("became %s after it was delivered", m.Status)
		}
		if got := f.events(t, m.ID); !slices.Equal(got, []string{"queued", "sent", "delivered"}) {
			t.Errorf("events %v", got)
		}
		if w := f.Do(t, "", http.MethodPost, "/v1/message_reports/guess", `{}`); w.Code != http.StatusNotFound {
			t.Errorf("a guess: %d %s", w.Code, w.Body)
		}
	})
}

func TestAReportThatIsFasterThanTheAnswerCounts(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		var url string
		g := serve(t, func(int, asked) (int, string) {
			if w := f.Do(t, "", http.MethodPost, url, `{"id":"early","s":"ok"}`); w.Code != http.StatusOK {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			return http.StatusOK, `{"id":"early"}`
		})
		url = f.byHTTP(t, g.URL, map[string]any{"report": map[string]any{"id_pointer": "/id", "status_pointer": "/s", "delivered": []string{"ok"}}}).ReportURL
		m := f.send(t, "x")
		f.run(t)
		f.becomes(t, m.ID, message.Delivered)
		if got := f.events(t, m.ID); !slices.Equal(got, []string{"queued", "sent", "delivered"}) {
			t.Errorf("events %v", got)
		}
	})
}

func TestWhatAGatewayAnswers(t *testing.T) {
	rule := map[string]any{"success_pointer": "/code", "success_value": "OK", "retry_values": []string{"BUSY"}, "error_code_pointer": "/code", "error_message_pointer": "/msg"}
	for name, c := range map[string]struct {
		answers []string // status and body; the last again and again
		status  message.Status
		code    string
		asked   int
	}{
		"taken":                  {[]string{`200 {"code":"OK"}`}, message.Sent, "", 1},
		"refused":                {[]string{`200 {"code":"NO_BALANCE","msg":"no money"}`}, message.Failed, "NO_BALANCE", 1},
		"forbidden":              {[]string{`403 {}`}, message.Failed, "http_403", 1},
		"busy, then taken":       {[]string{`200 {"code":"BUSY"}`, `429 `, `503 `, `200 {"code":"OK"}`}, message.Sent, "", 4},
		"lost, then taken":       {[]string{`0 `, `500 `, `200 {"code":"OK"}`}, message.Sent, "", 3},
		"lost each time":         {[]string{`0 `}, message.Failed, "outcome_unknown", 3},
		"nothing that is agreed": {[]string{`200 <html>`}, message.Failed, "provider_unexpected", 1},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				f := mount(t, d, loopback)
				g := serve(t, func(n int, _ asked) (int, string) {
					var status int
					said := c.answers[min(n, len(c.answers))-1]
					_, err := fmt.Sscan(said, &status)
					if err != nil {
						t.Error(err)
					}
					_, body, _ := strings.Cut(said, " ")
					return status, body
				})
				f.byHTTP(t, g.URL, rule)
				m := f.send(t, "x")
				stop := f.run(t)
				m = f.becomes(t, m.ID, c.status)
				stop()
				if m.ErrorCode != c.code || len(g.requests()) != c.asked {
					t.Errorf("%s %q after %d requests; want %q after %d", m.Status, m.ErrorCode, len(g.requests()), c.code, c.asked)
				}
			})
		})
	}
}

func TestAPrivateAddressIsNotAsked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		g := serve(t, taken)
		f.byHTTP(t, g.URL, nil)
		m := f.send(t, "x")
		f.run(t)
		if m = f.becomes(t, m.ID, message.Failed); m.ErrorCode != "provider_url" || len(g.requests()) > 0 {
			t.Errorf("%+v", m)
		}
	})
}

func TestWhatIsScheduledWaitsAndCanBeTakenBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		g := serve(t, taken)
		f.byHTTP(t, g.URL, nil)
		later := do[message.Message](t, f, http.MethodPost, "/v1/messages", map[string]any{
			"to": "+8613800138000", "body": "later", "send_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		}, http.StatusCreated)
		now := f.send(t, "now")
		f.run(t)
		f.becomes(t, now.ID, message.Sent)
		if m := do[message.Message](t, f, http.MethodPost, "/v1/messages/"+later.ID+"/cancel", nil, http.StatusOK); m.Status != message.Canceled {
			t.Errorf("is %s", m.Status)
		}
		if w := f.Do(t, resttest.Token, http.MethodPost, "/v1/messages/"+now.ID+"/cancel", nil); w.Code != http.StatusConflict {
			t.Errorf("what was sent was taken back: %d", w.Code)
		}
		if got := f.events(t, later.ID); !slices.Equal(got, []string{"queued", "canceled"}) {
			t.Errorf("events %v", got)
		}
		if len(g.requests()) != 1 {
			t.Errorf("%d were sent", len(g.requests()))
		}
	})
}

func TestSeveralProcessesSendEachMessageOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		g := serve(t, taken)
		p := f.byHTTP(t, g.URL, nil)
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/message_providers/"+p.ID, `{"messages_per_second":1000}`), http.StatusOK, nil)
		const count = 60
		var ids []string
		for i := range count {
			ids = append(ids, f.send(t, fmt.Sprint(i)).ID)
		}
		for range 3 {
			f.run(t)
		}
		for _, id := range ids {
			f.becomes(t, id, message.Sent)
		}
		seen := map[string]bool{}
		for _, a := range g.requests() {
			var body struct{ ID string }
			if err := json.Unmarshal([]byte(a.body), &body); err != nil || seen[body.ID] {
				t.Errorf("%s was sent twice: %v", body.ID, err)
			}
			seen[body.ID] = true
		}
		if len(seen) != count {
			t.Errorf("%d were sent", len(seen))
		}
	})
}

func TestAProcessThatEndsInTheMiddleLosesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		g := serve(t, taken)
		url := f.byHTTP(t, g.URL, map[string]any{
			"report": map[string]any{"message_id_pointer": "/out", "status_pointer": "/s", "delivered": []string{"ok"}},
		}).ReportURL
		abandon := func(uncertain int) message.Message {
			m := f.send(t, "x")
			f.exec(t, "UPDATE messages SET status = 'sending', attempts = 1, token = 1, uncertain = ?, available_at = ? WHERE id = ?", uncertain, db.Now(), m.ID)
			return m
		}
		again, given, settled := abandon(0), abandon(2), abandon(2)
		if w := f.Do(t, "", http.MethodPost, url, `{"out":"`+settled.ID+`","s":"ok"}`); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		f.run(t)
		if m := f.becomes(t, again.ID, message.Sent); m.Attempts != 2 {
			t.Errorf("%d attempts", m.Attempts)
		}
		if m := f.becomes(t, given.ID, message.Failed); m.ErrorCode != "outcome_unknown" {
			t.Errorf("failed by %s", m.ErrorCode)
		}
		f.becomes(t, settled.ID, message.Delivered)
		// What nobody knew is known when the gateway tells.
		if w := f.Do(t, "", http.MethodPost, url, `[{"out":"`+given.ID+`","s":"ok"}]`); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		f.becomes(t, given.ID, message.Delivered)
		if len(g.requests()) != 1 {
			t.Errorf("%d requests", len(g.requests()))
		}
	})
}

func TestTheRateOfAProviderIsKept(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), loopback)
	var mu sync.Mutex
	var times []time.Time
	g := serve(t, func(n int, a asked) (int, string) {
		mu.Lock()
		times = append(times, time.Now())
		mu.Unlock()
		return taken(n, a)
	})
	p := f.byHTTP(t, g.URL, nil)
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/message_providers/"+p.ID, `{"messages_per_second":10}`), http.StatusOK, nil)
	var last string
	for range 15 {
		last = f.send(t, "x").ID
	}
	f.run(t)
	f.becomes(t, last, message.Sent)
	mu.Lock()
	defer mu.Unlock()
	// Five at once, and ten more at ten a second: it cannot be faster, however slow the machine is.
	if took := times[len(times)-1].Sub(times[0]); took < 800*time.Millisecond {
		t.Errorf("%d took %s", len(times), took)
	}
}

func TestWhatCannotBeSentInTimeFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		p := f.byHTTP(t, "https://sms.example.com/", nil)
		m := f.send(t, "x")
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/message_providers/"+p.ID, `{"enabled":false}`), http.StatusOK, nil)
		if err := f.messages.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := f.read(t, m.ID); m.Status != message.Queued {
			t.Errorf("is %s before its time", m.Status)
		}
		f.messages.Now = func() time.Time { return db.Now().Add(25 * time.Hour) }
		if err := f.messages.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := f.read(t, m.ID); m.Status != message.Failed || m.ErrorCode != "expired" {
			t.Errorf("is %s %s", m.Status, m.ErrorCode)
		}
	})
}

func TestAProgramSendsOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.byHTTP(t, "https://sms.example.com/", nil)
		draft := message.Draft{To: "+8613800138000", Body: "x", Key: "call_1:7"}
		ids := make(chan string, 4)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				err := d.InTx(context.Background(), func(ctx context.Context, tx *db.Tx) error {
					m, err := f.messages.Send(ctx, tx, resttest.Account, "call_1", draft)
					if err == nil {
						ids <- m.ID
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		first := <-ids
		for range 3 {
			if id := <-ids; id != first {
				t.Errorf("made %s and %s", first, id)
			}
		}
		if m := f.read(t, first); m.CallID != "call_1" || m.Status != message.Queued {
			t.Errorf("made %+v", m)
		}
		if got := f.events(t, first); !slices.Equal(got, []string{"queued"}) {
			t.Errorf("events %v", got)
		}
		// Without a key each is one of its own.
		draft.Key = ""
		for range 2 {
			if err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := f.messages.Send(ctx, tx, resttest.Account, "", draft)
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTextsAreWithheldFromMaskedReaders(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.byHTTP(t, "https://sms.example.com/", nil)
		m := f.send(t, "call 13900139000")
		for _, path := range []string{"/v1/messages", "/v1/messages/" + m.ID} {
			w := f.Do(t, "masked", http.MethodGet, path, nil)
			if body := w.Body.String(); w.Code != http.StatusOK || strings.Contains(body, "1390013") || strings.Contains(body, "1380013") {
				t.Errorf("%s: %d %s", path, w.Code, body)
			}
		}
		for _, query := range []string{"q=call", "to=%2B8613800138000"} {
			if w := f.Do(t, "masked", http.MethodGet, "/v1/messages?"+query, nil); w.Code != http.StatusForbidden {
				t.Errorf("%s: %d %s", query, w.Code, w.Body)
			}
		}
		var page struct{ Data []message.Message }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/messages?q=CALL&status=queued&status=sent", nil), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].Body == "" {
			t.Errorf("found %+v", page.Data)
		}
	})
}

func TestOldMessagesGo(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.byHTTP(t, "https://sms.example.com/", nil)
		old, queued := f.send(t, "x"), f.send(t, "y")
		f.exec(t, "UPDATE messages SET status = 'delivered' WHERE id = ?", old.ID)
		purge := func() {
			t.Helper()
			if err := f.messages.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.messages.Now = func() time.Time { return db.Now().AddDate(0, 0, 31) }
		purge()
		f.read(t, old.ID)
		f.exec(t, `UPDATE accounts SET limits = '{"retention_days":30}' WHERE id = ?`, resttest.Account)
		purge()
		if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/messages/"+old.ID, nil); w.Code != http.StatusNotFound {
			t.Errorf("it is there: %d", w.Code)
		}
		f.read(t, queued.ID)
	})
}
