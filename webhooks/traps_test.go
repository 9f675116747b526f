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

func TestSignaturesHoldForDefaultPortsRepeatedEmptyUTF8AndPlus(t *testing.T) {
	for name, target := range map[string]string{
		"default port":        "http://app.test:80/voice",
		"no port":             "http://app.test/voice",
		"no path":             "http://app.test",
		"repeated parameters": "http://app.test/voice?tag=b&tag=a&tag=a",
		"empty value":         "http://app.test/voice?empty=&bare",
		"UTF-8":               "http://app.test/语音?城市=重庆",
		"UTF-8, encoded":      "http://app.test/%E8%AF%AD%E9%9F%B3?city=%E9%87%8D%E5%BA%86",
		"plus sign":           "http://app.test/voice?plus=a+b&encoded=%2B86",
		"a fragment":          "http://app.test/voice?a=1#rc=2&ct=300",
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			t.Run(name+" by "+method, func(t *testing.T) {
				inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
					secret := webhooks.NewSecret()
					app.Secrets(secret) // and a signature that does not fit fails the test
					app.Answer("*", "<Response/>")
					ask := incoming(app)
					ask.URL, ask.Method, ask.Secrets = target, method, []string{secret}
					ask.Form = func(webhooks.CallRequest) url.Values {
						return url.Values{"From": {"+8613800138000"}, "FromCity": {""}, "SpeechResult": {"你好 a+b&c=d"}, "SipHeader_X-A": {"2", "1", "2"}}
					}
					if _, err := client.Ask(t.Context(), ask); err != nil {
						t.Fatal(err)
					}
					all := app.Requests()
					if len(all) != 1 || all[0].Method != method || all[0].Header.Get(webhooks.HeaderTwilioSignature) == "" {
						t.Errorf("%d requests, %+v", len(all), all)
					}
				})
			})
		}
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
