package message_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/message"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// reporting is a provider that reports by our id, at the gateway's own URL.
func (f *fixture) reporting(t *testing.T, g *gateway) message.Provider {
	t.Helper()
	return f.byHTTP(t, g.URL+"/send", map[string]any{
		"report": map[string]any{"id_pointer": "/id", "status_pointer": "/s", "delivered": []string{"ok"}, "error_code_pointer": "/err"},
	})
}

// application is one of a format, with a secret.
func (f *fixture) application(t *testing.T, format string) app.Application {
	t.Helper()
	a := app.Application{Row: db.Row{ID: db.NewID("app")}, Draft: app.Defaults(), Secret: webhooks.NewSecret()}
	a.Name, a.Format, a.VoiceURL = a.ID, format, "https://example.com/voice"
	if err := db.Insert(t.Context(), f.DB, auth.Account(resttest.Account), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// sends queues a message as a call's program does.
func (f *fixture) sends(t *testing.T, application, statusURL string) *message.Message {
	t.Helper()
	var m *message.Message
	err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		var err error
		m, err = f.messages.Send(ctx, tx, resttest.Account, "call_1", message.Draft{
			To: "+8613800138000", From: "10690", Body: "x", StatusURL: statusURL, ApplicationID: webhooks.ApplicationID(application),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// pending is how many status callbacks are still to be told.
func (f *fixture) pending(t *testing.T) int {
	t.Helper()
	n, err := f.DB.Read().NewSelect().Model((*db.Message)(nil)).Where("topic = ?", "message.status").Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func (f *fixture) reported(t *testing.T, p message.Provider, body string) {
	t.Helper()
	if w := f.Do(t, "", http.MethodPost, p.ReportURL, body); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAStatusURLIsToldWhatBecomesOfAMessage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		p := f.reporting(t, serve(t, taken))
		a := f.application(t, app.FormatNative)
		// It is away at first, and each status is told in its turn all the same.
		to := serve(t, func(n int, _ asked) (int, string) {
			if n <= 3 {
				return http.StatusServiceUnavailable, ""
			}
			return http.StatusOK, "not a program"
		})
		m := f.sends(t, a.ID, to.URL+"/status?x=1")
		stop := f.run(t)
		f.becomes(t, m.ID, message.Sent)
		f.reported(t, p, `{"id":"p1","s":"lost","err":"27"}`)
		until(t, "all is told", func() bool { return f.pending(t) == 0 })
		stop()

		type envelope struct {
			ID        string `json:"id"`
			Type      string `json:"type"`
			AccountID string `json:"account_id"`
			CallID    string `json:"call_id"`
			Data      struct {
				ID        string `json:"id"`
				Status    string `json:"status"`
				To        string `json:"to"`
				ErrorCode string `json:"error_code"`
			} `json:"data"`
		}
		var types []string
		for _, r := range to.requests() {
			var e envelope
			if err := json.Unmarshal([]byte(r.body), &e); err != nil {
				t.Fatal(err)
			}
			if len(types) == 0 || types[len(types)-1] != e.Type {
				types = append(types, e.Type)
			}
			if err := webhooks.Verify(r.header, []byte(r.body), time.Now(), a.Secret); err != nil || r.query != "x=1" || r.header.Get(webhooks.HeaderID) != e.ID {
				t.Errorf("%s: %v, query %q, id %s of %s", e.Type, err, r.query, r.header.Get(webhooks.HeaderID), e.ID)
			}
			if e.AccountID != resttest.Account || e.CallID != "call_1" || e.Data.ID != m.ID || "message."+e.Data.Status != e.Type || e.Data.To != m.To || strings.Contains(r.body, `"body"`) {
				t.Errorf("told %s", r.body)
			}
		}
		if !slices.Equal(types, []string{"message.sent", "message.undelivered"}) || len(to.requests()) != 5 {
			t.Errorf("told %v in %d requests", types, len(to.requests()))
		}
	})
}

func TestAnApplicationOfTwiMLIsToldInItsDialect(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), loopback)
	g := serve(t, func(n int, _ asked) (int, string) {
		if n == 2 {
			return http.StatusBadRequest, `{}`
		}
		return taken(n, asked{})
	})
	p := f.reporting(t, g)
	a := f.application(t, app.FormatTwiML)
	to := serve(t, func(int, asked) (int, string) { return http.StatusNoContent, "" })
	m := f.sends(t, a.ID, to.URL+"/status")
	f.run(t)
	f.becomes(t, m.ID, message.Sent)
	f.reported(t, p, `{"id":"p1","s":"ok"}`)
	until(t, "all is told", func() bool { return f.pending(t) == 0 && len(to.requests()) == 2 })
	for i, want := range []string{"sent", "delivered"} {
		r := to.requests()[i]
		form, err := url.ParseQuery(r.body)
		if err != nil {
			t.Fatal(err)
		}
		if !webhooks.VerifyTwilio(a.Secret, to.URL+"/status", form, r.header.Get("X-Twilio-Signature")) {
			t.Errorf("%s: the signature does not fit", want)
		}
		for name, value := range map[string]string{
			"MessageStatus": want, "SmsStatus": want, "MessageSid": webhooks.SID(m.ID), "SmsSid": webhooks.SID(m.ID), "To": m.To, "From": "10690",
			"ApiVersion": "2010-04-01", "ErrorCode": "",
		} {
			if form.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, form.Get(name), value)
			}
		}
	}
	other := f.sends(t, a.ID, to.URL+"/status")
	f.becomes(t, other.ID, message.Failed)
	until(t, "the failure is told", func() bool { return len(to.requests()) == 3 })
	if form, err := url.ParseQuery(to.requests()[2].body); err != nil || form.Get("MessageStatus") != "failed" || form.Get("ErrorCode") == "" {
		t.Errorf("told %v, %v", form, err)
	}
}

func TestAStatusURLIsToldByTheProcessThatIsThere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, loopback)
		p := f.reporting(t, serve(t, taken))
		up := make(chan struct{})
		to := serve(t, func(int, asked) (int, string) {
			select {
			case <-up:
				return http.StatusOK, ""
			default:
				return 0, "" // it resets the connection
			}
		})
		m := f.sends(t, "", to.URL)
		stop := f.run(t)
		f.becomes(t, m.ID, message.Sent)
		until(t, "it was tried", func() bool { return len(to.requests()) > 0 })
		stop()
		f.reported(t, p, `{"id":"p1","s":"ok"}`)
		if n := f.pending(t); n != 2 {
			t.Errorf("%d are to be told", n)
		}
		f.exec(t, "UPDATE outbox SET available_at = ? WHERE topic = 'message.status'", db.Now())
		close(up)
		f.run(t)
		until(t, "all is told", func() bool { return f.pending(t) == 0 })
		var last []string
		for _, r := range to.requests()[len(to.requests())-2:] {
			var e struct{ Type string }
			if err := json.Unmarshal([]byte(r.body), &e); err != nil {
				t.Fatal(err)
			}
			last = append(last, e.Type)
		}
		if !slices.Equal(last, []string{"message.sent", "message.delivered"}) {
			t.Errorf("told %v", last)
		}
	})
}

func TestAStatusURLThatIsGivenUpHoldsUpNothing(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), loopback)
	p := f.reporting(t, serve(t, taken))
	to := serve(t, func(int, asked) (int, string) { return http.StatusNotFound, "" })
	m := f.sends(t, "", to.URL)
	stop := f.run(t)
	f.becomes(t, m.ID, message.Sent)
	f.reported(t, p, `{"id":"p1","s":"ok"}`)
	until(t, "it was tried", func() bool { return len(to.requests()) > 0 })
	stop()
	f.exec(t, "UPDATE outbox SET available_at = ?, created_at = ? WHERE topic = 'message.status'", db.Now(), db.Now().Add(-25*time.Hour))
	f.run(t)
	until(t, "it is given up", func() bool { return f.pending(t) == 0 })
}

func TestAStatusURLThatMayNotBeReachedIsNotAsked(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), loopback)
	f.byHTTP(t, serve(t, taken).URL, nil)
	m := f.sends(t, "", "http://10.0.0.1/status")
	f.run(t)
	f.becomes(t, m.ID, message.Sent)
	for _, wrong := range []string{"/status", "lambda:hello", "https://user:password@example.com/"} {
		err := f.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := f.messages.Send(ctx, tx, resttest.Account, "", message.Draft{To: "+8613800138000", Body: "x", StatusURL: wrong})
			return err
		})
		if err == nil || !strings.Contains(fmt.Sprint(err), "/status_url") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
