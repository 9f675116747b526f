package notice_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/notice"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// house is a server with its service, which may reach this machine.
type house struct {
	*resttest.Server
	*notice.Service

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
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	h := &house{now: db.Now()}
	clock := func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	}
	g := guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(g.Close)
	h.Service = &notice.Service{
		DB: d, Bus: b, Accounts: &account.Service{DB: d}, Settings: &setting.Service{DB: d, Now: clock}, Masks: event.NewMasks(spec.View.Components.Schemas),
		Guard: g, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: clock,
	}
	h.Server = resttest.Mount(t, d, spec, h.Service.Operations())
	return h
}

// add makes an object by the REST API and gives its id.
func (h *house) add(t *testing.T, token, things string, body map[string]any) string {
	t.Helper()
	var made struct{ ID string }
	resttest.Want(t, h.Do(t, token, http.MethodPost, "/v1/notification_"+things, body), http.StatusCreated, &made)
	return made.ID
}

// byMail is a channel by a mail server.
func (h *house) byMail(t *testing.T, s *mailServer, more map[string]any) string {
	t.Helper()
	h.RootCAs = s.roots
	server := map[string]any{"host": "127.0.0.1", "port": s.port, "security": "none", "from_address": "alerts@example.com", "from_name": "呼叫中心"}
	for name, value := range more {
		server[name] = value
	}
	return h.add(t, resttest.Token, "channels", map[string]any{"name": db.NewID("mail"), "kind": "email", "smtp": server})
}

func (h *house) rule(t *testing.T, token, channel string, more map[string]any) string {
	t.Helper()
	body := map[string]any{"name": db.NewID("rule"), "channel_id": channel, "event_types": []string{"job.*"}, "recipients": []string{"ops@example.com"}}
	for name, value := range more {
		body[name] = value
	}
	return h.add(t, token, "rules", body)
}

// place tells the service of events, as the feed does.
func (h *house) place(t *testing.T, events ...event.Event) {
	t.Helper()
	for i := range events {
		e := &events[i]
		if e.ID == "" {
			e.ID = db.NewID("evt")
		}
		if e.AccountID == "" {
			e.AccountID = resttest.Account
		}
		if e.Resource == "" {
			e.Resource = "jobs"
		}
		if e.Data == nil {
			e.Data = json.RawMessage("{}")
		}
		if e.OccurredAt.IsZero() {
			e.OccurredAt = time.Date(2026, 11, 21, 4, 0, i%60, 0, time.UTC)
		}
	}
	err := h.Service.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return h.Placed(ctx, tx, events) })
	if err != nil {
		t.Fatal(err)
	}
}

func failed(object string) event.Event { return event.Event{Type: "job.failed", ObjectID: object} }

// log gives the notifications there are, the oldest first.
func (h *house) log(t *testing.T) []notice.Notification {
	t.Helper()
	var page struct{ Data []notice.Notification }
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/notifications?sort=created_at", nil), http.StatusOK, &page)
	return page.Data
}

// last is the newest notification.
func (h *house) last(t *testing.T) notice.Notification {
	t.Helper()
	all := h.log(t)
	if len(all) == 0 {
		t.Fatal("there is no notification")
	}
	return all[len(all)-1]
}

// send brings the newest notification on.
func (h *house) send(t *testing.T) (notice.Notification, time.Time) {
	t.Helper()
	next, err := h.Send(t.Context(), resttest.Account, h.last(t).ID)
	if err != nil {
		t.Fatal(err)
	}
	return h.last(t), next
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var last *house
			channel := ""
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)))
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					channel = last.add(t, resttest.Token, "channels", map[string]any{
						"name": "nowhere", "kind": "email", "smtp": map[string]any{"host": "127.0.0.1", "port": 1, "security": "none", "from_address": "a@example.com"},
					})
					used := last.add(t, resttest.Token, "channels", map[string]any{
						"name": "used", "kind": "webhook", "url": "https://example.com/",
					})
					rule := last.rule(t, resttest.Token, used, map[string]any{"recipients": []string{}})
					last.place(t, failed("job_1"))
					n := last.last(t).ID
					if _, err := last.Service.DB.Write().NewRaw("UPDATE notifications SET status = 'failed' WHERE id = ?", n).Exec(t.Context()); err != nil {
						t.Fatal(err)
					}
					return map[string]string{"notification_channel_id": channel, "notification_rule_id": rule, "notification_id": n}
				},
				Request: func(_ *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					switch operation {
					case "createNotificationRule", "upsertNotificationRule":
						return &resttest.Request{Body: map[string]any{
							"name": "x", "channel_id": channel, "event_types": []any{"call.ended"}, "recipients": []any{"ops@example.com"}, "templates": map[string]any{},
						}}
					}
					return nil
				},
			})
		})
	}
}

func TestWhatAChannelMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		smtp := func(more string) string {
			return `{"name":"a","kind":"email","smtp":{"host":"smtp.example.com","from_address":"a@example.com"` + more + `}}`
		}
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{smtp(`,"username":"u","password":"hunter2hunter2"`), 201, `"security":"starttls"`},
			{smtp(``), 409, "/name"},
			{`{"name":"b","kind":"email","smtp":{"host":"smtp.example.com","from_address":"a@example.com\r\nBcc: x@example.com"}}`, 400, "/smtp"},
			{smtp(`,"from_name":"x\r\nBcc: y@example.com"`), 400, "/smtp/from_name"},
			{smtp(`,"from_name":"x\u2028y"`), 400, "/smtp/from_name"},
			{smtp(`,"username":"u"`), 400, "/smtp/password"},
			{smtp(`,"password":"hunter2"`), 400, "/smtp/username"},
			{smtp(`,"security":"none","username":"u","password":"hunter2"`), 400, "/smtp/username"},
			{smtp(`,"port":0`), 400, "/smtp"},
			{`{"name":"b","kind":"email","smtp":{"host":"smtp example","from_address":"a@example.com"}}`, 400, "/smtp/host"},
			{`{"name":"b","kind":"email","smtp":{"host":"a.example","from_address":"Ann <a@example.com>"}}`, 400, "/smtp"},
			{`{"name":"b","kind":"email"}`, 422, "/smtp"}, // this installation has no mail server
			{`{"name":"b","kind":"email","url":"https://example.com/"}`, 400, "/url"},
			{`{"name":"b","kind":"webhook","url":"https://example.com/alerts"}`, 201, `"secret":"whsec_`},
			{`{"name":"c","kind":"webhook"}`, 400, "/url"},
			{`{"name":"c","kind":"webhook","url":"ftp://example.com/"}`, 400, "/url"},
			{`{"name":"c","kind":"webhook","url":"https://u:p@example.com/"}`, 400, "/url"},
			{`{"name":"c\nd","kind":"webhook","url":"https://example.com/"}`, 400, "/name"},
			{`{"name":"c","kind":"pigeon"}`, 400, "/kind"},
		} {
			w := h.Do(t, resttest.Token, http.MethodPost, "/v1/notification_channels", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
			if strings.Contains(w.Body.String(), "hunter2hunter2") {
				t.Errorf("%s: the password is shown: %s", c.body, w.Body)
			}
		}
		h.Mail = &notice.Mail{}
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/notification_channels", `{"name":"ours","kind":"email"}`), http.StatusCreated, nil)
	})
}

func TestWhatARuleMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		h.Mail = &notice.Mail{}
		byMail := h.add(t, resttest.Token, "channels", map[string]any{"name": "mail", "kind": "email"})
		byWeb := h.add(t, resttest.Token, "channels", map[string]any{"name": "web", "kind": "webhook", "url": "https://example.com/"})
		theirs := h.add(t, resttest.Other, "channels", map[string]any{"name": "mail", "kind": "email"})
		rule := func(channel, more string) string {
			return `{"name":"a","channel_id":"` + channel + `","event_types":["job.failed"]` + more + `}`
		}
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{rule(byMail, `,"recipients":["a@example.com","b@example.com"],"templates":{"zh":{"subject":"{{count}} {{ data.a.b }}"}}`), 201, `"digest_interval":300`},
			{rule(byMail, `,"recipients":["a@example.com"]`), 409, "/name"},
			{rule(byMail, ``), 400, "/recipients"},
			{rule(byMail, `,"recipients":["a@example.com","a@example.com"]`), 400, "/recipients/1"},
			{rule(byMail, `,"recipients":["a@example.com\r\nDATA"]`), 400, "/recipients/0"},
			{rule(byMail, `,"recipients":["a@example.com, b@example.com"]`), 400, "/recipients/0"},
			{rule(byWeb, `,"recipients":["a@example.com"]`), 400, "/recipients"},
			{rule(theirs, `,"recipients":["a@example.com"]`), 422, "/channel_id"},
			{rule(byMail, `,"recipients":["a@example.com"],"digest_interval":1`), 400, "/digest_interval"},
			{rule(byMail, `,"recipients":["a@example.com"],"language":"fr"`), 400, "/language"},
			{rule(byMail, `,"recipients":["a@example.com"],"templates":{"zh":{"subject":"a\r\nBcc: x@example.com"}}`), 400, "/templates/zh/subject"},
			{rule(byMail, `,"recipients":["a@example.com"],"templates":{"en":{"line":"{{secret}}"}}`), 400, "/templates/en/line"},
			{rule(byMail, `,"recipients":["a@example.com"],"templates":{"en":{"line":"{{count"}}`), 400, "/templates/en/line"},
			{`{"name":"b","channel_id":"` + byWeb + `","event_types":["Job failed"]}`, 400, "/event_types/0"},
			{`{"name":"b","channel_id":"` + byWeb + `","event_types":[]}`, 400, "/event_types"},
			{`{"name":"b","channel_id":"` + byWeb + `","event_types":["*"]}`, 201, `"recipients":[]`},
		} {
			w := h.Do(t, resttest.Token, http.MethodPost, "/v1/notification_rules", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
		w := h.Do(t, resttest.Token, http.MethodDelete, "/v1/notification_channels/"+byMail, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "notification rule nrl_") {
			t.Errorf("a channel that is used: %d %s", w.Code, w.Body)
		}
	})
}

func TestAPasswordGoesToTheServerItWasGivenForAlone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		id := h.add(t, resttest.Token, "channels", map[string]any{
			"name": "a", "kind": "email", "smtp": map[string]any{"host": "smtp.example.com", "username": "u", "password": "correct horse", "from_address": "a@example.com"},
		})
		stored := func() (password string) {
			t.Helper()
			if err := d.Read().NewRaw("SELECT COALESCE(smtp_password, '') FROM notification_channels").Scan(t.Context(), &password); err != nil {
				t.Fatal(err)
			}
			return password
		}
		for _, c := range []struct {
			patch    string
			status   int
			password string
		}{
			{`{"name":"b"}`, 200, "correct horse"},
			{`{"smtp":{"from_name":"Ops"}}`, 200, "correct horse"},
			{`{"smtp":{"host":"evil.example.com"}}`, 400, "correct horse"},
			{`{"smtp":{"port":25}}`, 400, "correct horse"},
			{`{"smtp":{"username":"v"}}`, 400, "correct horse"},
			{`{"smtp":{"host":"mail.example.com","password":"battery staple"}}`, 200, "battery staple"},
			{`{"smtp":{"username":null}}`, 200, ""},
			{`{"kind":"webhook","smtp":null,"url":"https://example.com/"}`, 422, ""},
		} {
			w := h.Do(t, resttest.Token, http.MethodPatch, "/v1/notification_channels/"+id, c.patch)
			if w.Code != c.status || stored() != c.password || strings.Contains(w.Body.String(), "battery") {
				t.Errorf("%s: %d %s, stored %q", c.patch, w.Code, w.Body, stored())
			}
		}
		var kept []string
		if err := d.Read().NewRaw("SELECT COALESCE(before, '{}') FROM audit_entries UNION ALL SELECT COALESCE(after, '{}') FROM audit_entries").Scan(t.Context(), &kept); err != nil {
			t.Fatal(err)
		}
		for _, text := range kept {
			if strings.Contains(text, "correct horse") || strings.Contains(text, "battery staple") {
				t.Errorf("the audit holds %s", text)
			}
		}
	})
}

// tried is what a test of a channel says.
func (h *house) tried(t *testing.T, channel string) notice.Notification {
	t.Helper()
	var n notice.Notification
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/notification_channels/"+channel+"/test", `{"to":"ops@example.com"}`), http.StatusOK, &n)
	return n
}

func TestMailsReachARealServer(t *testing.T) {
	h := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	signIn := map[string]any{"username": "alerts", "password": "correct horse"}
	for name, c := range map[string]struct {
		options []string
		channel map[string]any
	}{
		"in the clear":                  {nil, nil},
		"STARTTLS, signing in":          {[]string{"--security", "starttls", "--password", "correct horse"}, map[string]any{"security": "starttls"}},
		"TLS, signing in":               {[]string{"--security", "tls", "--password", "correct horse"}, map[string]any{"security": "tls"}},
		"STARTTLS, signing in by LOGIN": {[]string{"--security", "starttls", "--password", "correct horse", "--login"}, map[string]any{"security": "starttls"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := serveMail(t, c.options...)
			for key, value := range signIn {
				if len(c.options) > 2 {
					c.channel[key] = value
				}
			}
			h.pass(time.Minute)
			n := h.tried(t, h.byMail(t, server, c.channel))
			if n.Status != notice.Sent || n.SentAt == nil || n.Recipients[0].SentAt == nil || n.Attempts != 1 {
				t.Fatalf("%+v", n)
			}
			m := server.next(t)
			header, subject, text := m.read(t)
			if m.From != "alerts@example.com" || len(m.To) != 1 || m.To[0] != "ops@example.com" || m.Secure != (len(c.options) > 0) || (m.User == "alerts") != (len(c.options) > 2) {
				t.Errorf("%+v", m)
			}
			from, err := header.AddressList("From")
			if err != nil || from[0].Name != "呼叫中心" || header.Get("Auto-Submitted") != "auto-generated" || !strings.HasPrefix(header.Get("Message-Id"), "<"+n.ID) {
				t.Errorf("%v %v", header, err)
			}
			if subject != "测试通知" || !strings.Contains(text, "工作正常") || subject != n.Subject {
				t.Errorf("%s: %s", subject, text)
			}
		})
	}
}

func TestWhyAMailCouldNotBeSent(t *testing.T) {
	h := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	secure := serveMail(t, "--security", "starttls", "--password", "correct horse")
	plain := serveMail(t)
	stranger := serveMail(t, "--security", "starttls")
	closed := listener(t, func(net.Conn) {})
	flood := listener(t, func(c net.Conn) {
		text := []byte(strings.Repeat("220-"+strings.Repeat("x", 500)+"\r\n", 100))
		for {
			if _, err := c.Write(text); err != nil {
				return
			}
		}
	})
	web := listener(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	for name, c := range map[string]struct {
		server *mailServer
		more   map[string]any
		says   string
	}{
		"wrong password":        {secure, map[string]any{"security": "starttls", "username": "alerts", "password": "wrong"}, "535"},
		"no sign-in":            {secure, map[string]any{"security": "starttls"}, "530"},
		"no STARTTLS":           {plain, map[string]any{"security": "starttls"}, "no STARTTLS"},
		"no TLS":                {plain, map[string]any{"security": "tls"}, "does not speak TLS"},
		"a strange certificate": {stranger, map[string]any{"security": "starttls"}, "no valid certificate"},
		"nobody there":          {plain, map[string]any{"port": 1}, "did not accept the connection"},
		"no such name":          {plain, map[string]any{"host": "mail.invalid"}, "not resolved"},
		"a closed door":         {plain, map[string]any{"port": closed}, "closed the connection"},
		"a flood":               {plain, map[string]any{"port": flood}, "answers with too much"},
		"another protocol":      {plain, map[string]any{"port": web}, "the mail server"},
	} {
		h.pass(time.Minute)
		channel := h.byMail(t, c.server, c.more)
		h.RootCAs = secure.roots
		n := h.tried(t, channel)
		if n.Status != notice.Failed || !strings.Contains(n.Error, c.says) || n.Recipients[0].Error != n.Error || strings.ContainsAny(n.Error, "\r\n") || len(n.Error) > 400 {
			t.Errorf("%s: %s %q", name, n.Status, n.Error)
		}
		h.refill(t)
	}
	for _, s := range []*mailServer{secure, plain, stranger} {
		s.none(t)
	}
}

// refill gives the account its tests of channels back.
func (h *house) refill(t *testing.T) {
	t.Helper()
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	h.Bus = b
}

// listener serves connections of this machine, and gives its port.
func listener(t *testing.T, serve func(net.Conn)) (port int) {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func TestAnAccountsServersAreNotOnOurNetworks(t *testing.T) {
	h := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	server := serveMail(t)
	h.Guard = guard.New(guard.Config{}) // the public internet alone
	defer h.Guard.Close()
	var asked int
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer web.Close()
	n := h.tried(t, h.byMail(t, server, nil))
	if n.Status != notice.Failed || !strings.Contains(n.Error, "not allowed") {
		t.Errorf("a mail server: %s %q", n.Status, n.Error)
	}
	named := h.tried(t, h.byMail(t, server, map[string]any{"host": "localhost"}))
	if named.Status != notice.Failed || named.Error != n.Error {
		t.Errorf("by its name: %s %q", named.Status, named.Error)
	}
	hook := h.add(t, resttest.Token, "channels", map[string]any{"name": "hook", "kind": "webhook", "url": web.URL})
	var w notice.Notification
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/notification_channels/"+hook+"/test", `{}`), http.StatusOK, &w)
	if w.Status != notice.Failed || asked != 0 {
		t.Errorf("a webhook: %s %q, asked %d times", w.Status, w.Error, asked)
	}
	server.none(t)
	// The operator's own server may be anywhere.
	h.Mail = &notice.Mail{Server: notice.Server{Host: "127.0.0.1", Port: server.port, Security: notice.Clear, FromAddress: "noreply@example.com"}}
	ours := h.add(t, resttest.Token, "channels", map[string]any{"name": "ours", "kind": "email"})
	if n := h.tried(t, ours); n.Status != notice.Sent {
		t.Errorf("ours: %s %q", n.Status, n.Error)
	}
	if m := server.next(t); m.From != "noreply@example.com" {
		t.Errorf("%+v", m)
	}
}

func TestWhatCallersSayStaysInTheText(t *testing.T) {
	h := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	server := serveMail(t)
	h.rule(t, resttest.Token, h.byMail(t, server, nil), map[string]any{
		"templates": map[string]any{"zh": map[string]any{"subject": "{{data.name}}", "line": "{{data.name}} {{data.deep.n}}"}},
	})
	data, err := json.Marshal(map[string]any{"name": "a\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<x>\u2028", "deep": map[string]any{"n": 7}})
	if err != nil {
		t.Fatal(err)
	}
	h.place(t, event.Event{Type: "job.failed", Data: data})
	if n, _ := h.send(t); n.Status != notice.Sent {
		t.Fatalf("%+v", n)
	}
	m := server.next(t)
	header, subject, text := m.read(t)
	if len(m.To) != 1 || header.Get("Bcc") != "" || len(header["Subject"]) != 1 {
		t.Errorf("%v %v", m.To, header)
	}
	if want := "a  Bcc: evil@example.com    .  MAIL FROM:<x> "; strings.TrimSpace(subject) != strings.TrimSpace(want) || !strings.Contains(text, want+" 7\n") {
		t.Errorf("subject %q, text %q", subject, text)
	}
	server.none(t)
}

func TestEventsComeTogetherInDigests(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		server := serveMail(t)
		rule := h.rule(t, resttest.Token, h.byMail(t, server, nil), map[string]any{"digest_interval": 600, "recipients": []string{"a@example.com", "b@example.com"}})
		h.place(t, failed("job_1"), event.Event{Type: "call.ended"}, event.Event{Type: "job.failed", AccountID: resttest.OtherAccount})
		first, next := h.send(t)
		if first.Status != notice.Sent || first.Events != 1 || first.RuleID != rule || !next.IsZero() {
			t.Fatalf("the first is sent at once: %+v, %s", first, next)
		}
		for range 2 { // each recipient has a mail of its own
			if m := server.next(t); len(m.To) != 1 {
				t.Errorf("%+v", m)
			}
		}
		var storm []event.Event
		for i := range 700 {
			storm = append(storm, failed(fmt.Sprintf("job_%03d", i)))
		}
		h.place(t, storm[:300]...)
		h.place(t, storm[300:]...)
		waiting, next := h.send(t)
		if waiting.Status != notice.Pending || waiting.Events != 700 || !next.Equal(h.now.Add(10*time.Minute)) {
			t.Fatalf("within the interval: %+v, next %s", waiting, next)
		}
		server.none(t)
		h.pass(10 * time.Minute)
		second, _ := h.send(t)
		if second.ID != waiting.ID || second.Status != notice.Sent {
			t.Fatalf("after the interval: %+v", second)
		}
		_, subject, text := server.next(t).read(t)
		if !strings.HasSuffix(subject, "700 条通知") || strings.Count(text, "job.failed") != 50 || !strings.Contains(text, "另有 650 条") {
			t.Errorf("%s\n%s", subject, text)
		}
		server.next(t)
		if len(h.log(t)) != 2 {
			t.Errorf("%d notifications, want 2", len(h.log(t)))
		}
		server.none(t)
	})
}

func TestAnEventIsToldOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		h.Mail = &notice.Mail{}
		h.rule(t, resttest.Token, h.add(t, resttest.Token, "channels", map[string]any{"name": "m", "kind": "email"}), nil)
		e := failed("job_1")
		e.ID = "evt_1"
		h.place(t, e, e)
		var rows int
		if err := d.Read().NewRaw("SELECT COUNT(*) FROM notification_events").Scan(t.Context(), &rows); err != nil || rows != 1 {
			t.Errorf("%d rows, %v", rows, err)
		}
	})
}

func TestAMailIsTriedAgainForThoseItHasNotReached(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		server := serveMail(t)
		h.rule(t, resttest.Token, h.byMail(t, server, nil), map[string]any{"recipients": []string{"unknown@example.com", "later@example.com", "ops@example.com"}})
		h.place(t, failed("job_1"))
		n, next := h.send(t)
		if n.Status != notice.Retrying || !next.Equal(h.now.Add(30*time.Second)) || !n.DueAt.Equal(next) {
			t.Fatalf("%+v, next %s", n, next)
		}
		r := n.Recipients
		if !r[0].Refused || !strings.Contains(r[0].Error, "there is nobody") || r[1].Refused || !strings.Contains(r[1].Error, "451") || r[2].SentAt == nil || r[2].Error != "" {
			t.Errorf("%+v", r)
		}
		if m := server.next(t); m.To[0] != "ops@example.com" {
			t.Errorf("%+v", m)
		}
		for i := int64(2); i < 8; i++ {
			h.pass(4 * time.Hour)
			if n, next = h.send(t); n.Status != notice.Retrying || n.Attempts != i || next.After(h.now.Add(4*time.Hour)) {
				t.Fatalf("attempt %d: %+v, next %s", i, n, next)
			}
		}
		if n, next = h.send(t); n.Status != notice.Failed || n.Attempts != 8 || !next.IsZero() {
			t.Fatalf("given up: %+v, next %s", n, next)
		}
		server.none(t) // ops has it already
		path := "/v1/notifications/" + n.ID + "/retry"
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, path, nil), http.StatusOK, nil)
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, path, nil), http.StatusConflict, nil)
		if n, _ = h.send(t); n.Status != notice.Retrying || n.Attempts != 1 || n.Recipients[2].SentAt == nil {
			t.Errorf("again: %+v", n)
		}
		server.none(t)
	})
}

func TestAWebhookIsSignedAndTriedAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		status := http.StatusInternalServerError
		type request struct {
			header http.Header
			body   []byte
		}
		var got []request
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got = append(got, request{r.Header.Clone(), text})
			w.WriteHeader(status)
		}))
		defer web.Close()
		var channel struct{ ID, Secret string }
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/notification_channels", map[string]any{"name": "w", "kind": "webhook", "url": web.URL + "/alerts"}), http.StatusCreated, &channel)
		h.rule(t, resttest.Token, channel.ID, map[string]any{"recipients": []string{}, "language": "en"})
		h.place(t, event.Event{Type: "job.failed", ObjectID: "job_1", Data: json.RawMessage(`{"error":"disk full"}`)})
		n, next := h.send(t)
		if n.Status != notice.Retrying || !strings.Contains(n.Error, "answered 500") || next.IsZero() {
			t.Fatalf("%+v, next %s", n, next)
		}
		status = http.StatusNoContent
		if n, _ = h.send(t); n.Status != notice.Sent || n.Attempts != 2 {
			t.Fatalf("%+v", n)
		}
		for _, r := range got {
			if err := webhooks.Verify(r.header, r.body, time.Now(), channel.Secret); err != nil || r.header.Get(webhooks.HeaderID) != n.ID {
				t.Errorf("%v: %v", err, r.header)
			}
			var said struct {
				Type, Subject, Text string
				Total               int
				Events              []struct {
					Type     string
					ObjectID string `json:"object_id"`
					Data     map[string]any
				}
			}
			if err := json.Unmarshal(r.body, &said); err != nil {
				t.Fatal(err)
			}
			if said.Type != "notification" || said.Total != 1 || len(said.Events) != 1 || said.Events[0].Data["error"] != "disk full" || said.Events[0].ObjectID != "job_1" || !strings.Contains(said.Text, "job.failed") {
				t.Errorf("%s", r.body)
			}
		}
		status = http.StatusGone
		h.pass(time.Hour)
		h.place(t, failed("job_2"))
		if n, next = h.send(t); n.Status != notice.Failed || !next.IsZero() {
			t.Errorf("gone: %+v, next %s", n, next)
		}
	})
}

func TestARuleTellsWhatItsWriterMaySee(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		h.Mail = &notice.Mail{}
		channel := h.add(t, resttest.Token, "channels", map[string]any{"name": "m", "kind": "email"})
		events := func() []event.Event {
			return []event.Event{
				{Type: "call.ended", Resource: "calls", Data: json.RawMessage(`{"from":"+8613800138000"}`)},
				{Type: "job.failed", Resource: "jobs", OwnerID: resttest.OwnUser},
			}
		}
		for token, want := range map[string]string{
			resttest.Token:             "call.ended job.failed",
			"only:notifications.write": "",
			"only:notifications.write,notifications.read,jobs.read": "job.failed",
			"own":    "job.failed",
			"masked": "call.ended job.failed",
		} {
			id := h.rule(t, token, channel, map[string]any{"event_types": []string{"*"}})
			h.place(t, events()...)
			var types, data []string
			err := d.Read().NewRaw("SELECT type FROM notification_events WHERE rule_id = ? ORDER BY type", id).Scan(t.Context(), &types)
			if err == nil {
				err = d.Read().NewRaw("SELECT data FROM notification_events WHERE rule_id = ?", id).Scan(t.Context(), &data)
			}
			if err != nil || strings.Join(types, " ") != want {
				t.Errorf("%s: %q, %v; want %q", token, types, err, want)
			}
			if hidden := !strings.Contains(strings.Join(data, ""), "+8613800138000"); hidden != (token != resttest.Token) {
				t.Errorf("%s: the data is %s", token, data)
			}
			resttest.Want(t, h.Do(t, resttest.Token, http.MethodDelete, "/v1/notification_rules/"+id, nil), http.StatusNoContent, nil)
		}
	})
}

func TestTheTextIsNotShownToWhomAnythingIsHidden(t *testing.T) {
	h := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	server := serveMail(t)
	h.rule(t, resttest.Token, h.byMail(t, server, nil), map[string]any{
		"event_types": []string{"call.*"}, "templates": map[string]any{"zh": map[string]any{"line": "{{data.from}}", "subject": "{{data.from}}"}},
	})
	h.place(t, event.Event{Type: "call.ended", Resource: "calls", Data: json.RawMessage(`{"from":"+8613800138000"}`)})
	n, _ := h.send(t)
	if !strings.Contains(n.Body, "+8613800138000") || !strings.Contains(n.Subject, "+8613800138000") {
		t.Fatalf("%+v", n)
	}
	server.next(t)
	for _, token := range []string{"masked", "own"} {
		for _, path := range []string{"/v1/notifications", "/v1/notifications/" + n.ID} {
			if w := h.Do(t, token, http.MethodGet, path, nil); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "138001380") {
				t.Errorf("%s %s: %d %s", token, path, w.Code, w.Body)
			}
		}
	}
}

func TestWhatIsSwitchedOffIsNotSent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		server := serveMail(t)
		channel := h.byMail(t, server, nil)
		rule := h.rule(t, resttest.Token, channel, nil)
		h.place(t, failed("job_1"))
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPatch, "/v1/notification_channels/"+channel, `{"enabled":false}`), http.StatusOK, nil)
		if n, next := h.send(t); n.Status != notice.Failed || !strings.Contains(n.Error, "switched off") || !next.IsZero() {
			t.Errorf("channel: %+v, next %s", n, next)
		}
		h.pass(time.Hour)
		h.place(t, failed("job_2"))
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPatch, "/v1/notification_rules/"+rule, `{"enabled":false}`), http.StatusOK, nil)
		if n, next := h.send(t); n.Status != notice.Failed || !strings.Contains(n.Error, "rule") || !next.IsZero() {
			t.Errorf("rule: %+v, next %s", n, next)
		}
		before := len(h.log(t))
		h.place(t, failed("job_3"))
		if got := len(h.log(t)); got != before {
			t.Error("a rule that is switched off has gathered an event")
		}
		server.none(t)
	})
}

func TestAnEmittedEventBecomesAMail(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		server := serveMail(t)
		h.rule(t, resttest.Token, h.byMail(t, server, nil), nil)
		feed := event.NewFeed(d, h.Bus, h.Log)
		feed.Also = append(feed.Also, h.Placed)
		ctx, cancel := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		for _, run := range []func(context.Context) error{feed.Run, h.Run} {
			parts.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return event.Emit(ctx, tx, event.Event{AccountID: resttest.Account, Type: "job.failed", Resource: "jobs", ObjectID: "job_1"})
		})
		if err != nil {
			t.Fatal(err)
		}
		feed.Wake()
		if _, _, text := server.next(t).read(t); !strings.Contains(text, "job_1") {
			t.Errorf("%s", text)
		}
		cancel()
		parts.Wait()
	})
}

// Two processes send from one database: each notification goes out once.
func TestTwoProcessesSendEachNotificationOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		server := serveMail(t)
		channel := h.byMail(t, server, nil)
		const rules = 12
		for range rules {
			h.rule(t, resttest.Token, channel, nil)
		}
		h.place(t, failed("job_1"))
		ctx, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := h.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		ids := map[string]bool{}
		for range rules {
			header, _, _ := server.next(t).read(t)
			ids[header.Get("Message-Id")] = true
		}
		cancel()
		both.Wait()
		if len(ids) != rules {
			t.Errorf("%d different mails of %d", len(ids), rules)
		}
		for _, n := range h.log(t) {
			if n.Status != notice.Sent || n.Attempts != 1 {
				t.Errorf("%+v", n)
			}
		}
		var left int
		if err := d.Read().NewRaw("SELECT COUNT(*) FROM outbox WHERE topic = 'notice'").Scan(context.Background(), &left); err != nil || left != 0 {
			t.Errorf("%d messages are left, %v", left, err)
		}
		server.none(t)
	})
}

func TestTheLogIsKeptForItsRetention(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := mount(t, d)
		h.Mail = &notice.Mail{}
		channel := h.add(t, resttest.Token, "channels", map[string]any{"name": "m", "kind": "email"})
		h.rule(t, resttest.Token, channel, nil)
		h.place(t, failed("job_1"))
		if _, err := d.Write().NewRaw("UPDATE notifications SET status = 'failed'").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.pass(time.Hour)
		h.place(t, failed("job_2")) // is still pending
		h.pass(89 * 24 * time.Hour)
		for _, want := range []int{2, 1} {
			if err := h.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := len(h.log(t)); got != want {
				t.Errorf("%d are left, want %d", got, want)
			}
			h.pass(24 * time.Hour)
		}
		var events int
		if err := d.Read().NewRaw("SELECT COUNT(*) FROM notification_events").Scan(t.Context(), &events); err != nil || events != 1 {
			t.Errorf("%d events are left, %v", events, err)
		}
	})
}
