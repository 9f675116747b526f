package webhooks_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// What applications written for Twilio rely on when they are asked. What concerns their documents is in package twiml.

func TestAGetKeepsTheURLsOwnQuery(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		secret := webhooks.NewSecret()
		app.Secrets(secret) // and repeated keys, an empty value and a plus sign are signed as they are sent
		app.Answer("*", "<Response/>")
		ask := incoming(app)
		ask.Method, ask.Secrets = http.MethodGet, []string{secret}
		ask.URL = app.URL + "/voice?tenant=7&tag=a&tag=b&empty=&plus=a+b"
		ask.Form = func(webhooks.CallRequest) url.Values {
			return url.Values{"CallSid": {"CA1"}, "tag": {"c"}, "From": {"+8613800138000"}, "FromCity": {""}}
		}
		if _, err := client.Ask(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		r := app.Expect("/voice", "CallSid", "CA1", "tenant", "7", "From", "+8613800138000", "plus", "a b")
		if !strings.HasPrefix(r.URL, ask.URL+"&") || strings.Join(r.Form["tag"], "") != "abc" {
			t.Errorf("asked %s", r.URL)
		}
	})
}

func TestARepeatedRequestHasTheSameID(t *testing.T) {
	for name, body := range map[string]any{"a request": nil, "a status callback": webhooks.Event{ID: "evt_1", Type: webhooks.EventCallAnswered}} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
				app.Answer("*", webhooktest.Status(503), nil)
				ask := incoming(app)
				ask.Body = body
				ask.Request.RequestID = "req_1"
				if _, err := client.Ask(t.Context(), ask); err != nil {
					t.Fatal(err)
				}
				all := app.Requests()
				if len(all) != 2 || all[0].Header.Get("Webhook-Id") != "req_1" || all[1].Header.Get("Webhook-Id") != "req_1" {
					t.Errorf("%d requests, %q and then another", len(all), all[0].Header.Get("Webhook-Id"))
				}
			})
		})
	}
}

func TestFrameworksSendTwiMLAsHTML(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		app.Answer("*", webhooktest.Response{Status: 200, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: "\n<Response><Hangup/></Response>"})
		reply, err := client.Ask(t.Context(), incoming(app))
		if err != nil || reply.Kind != webhooks.ReplyXML {
			t.Errorf("%s, %v", reply.Kind, err)
		}
	})
}
