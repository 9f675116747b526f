package webhooktest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// complaints is a testing.TB that notes failures instead of failing.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}
func (c *complaints) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	panic(c)
}

// complain runs a step and returns what the application complained about.
func (c *complaints) complain(step func()) string {
	c.said = nil
	defer func() {
		if r := recover(); r != nil && r != any(c) {
			panic(r)
		}
	}()
	step()
	return strings.Join(c.said, "\n")
}

func (c *complaints) about(t *testing.T, what string, step func()) {
	t.Helper()
	c.complain(step)
	if got := strings.Join(c.said, "\n"); what == "" && got != "" || !strings.Contains(got, what) {
		t.Errorf("it says %q, want %q", got, what)
	}
}

func TestAppAnswersInTurnByPathThenReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := New(t)
		client := app.MemoryClient()
		app.Answer("incoming", `[{"verb":"pause"}]`, func(r Request) any {
			return []webhooks.Instruction{&webhooks.HangUp{Cause: r.Call.Call.From}}
		})
		app.Answer("/menu", "<Response/>")
		app.Answer("*", nil)
		ask := func(path string, reason webhooks.Reason) webhooks.Reply {
			reply, err := client.Ask(t.Context(), webhooks.Ask{URL: app.URL + path, Request: webhooks.CallRequest{Reason: reason, Call: webhooks.Call{From: "1001"}}})
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		if r := ask("/", "incoming"); r.Program.Instructions[0].Verb() != "pause" {
			t.Errorf("the first answer is %s", r.Body)
		}
		for range 2 {
			r := ask("/", "incoming")
			if got := r.Program.Instructions[0].(*webhooks.HangUp); got.Cause != "1001" {
				t.Errorf("the last answer is %s", r.Body)
			}
		}
		if r := ask("/menu", "incoming"); r.Kind != webhooks.ReplyXML {
			t.Errorf("a path comes before a reason: %+v", r)
		}
		if r := ask("/", "action"); r.Status != http.StatusNoContent {
			t.Errorf("everything else: %+v", r)
		}
	})
}

func TestExpectNamesWhatDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := &complaints{TB: t}
		app := New(notes)
		client := app.MemoryClient()
		send := func(ask webhooks.Ask) {
			t.Helper()
			if _, err := client.Ask(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
		}
		native := webhooks.Ask{URL: app.URL + "/menu", Request: webhooks.CallRequest{
			Reason: "action", State: []byte(`{"lang":"zh"}`), Trigger: &webhooks.Trigger{Verb: "gather", Outcome: webhooks.Digits, Digits: "1"}, Call: webhooks.Call{From: "1001"},
		}}
		send(native)
		notes.about(t, "", func() {
			app.Expect("action", "digits", "1", "from", "1001", "state.lang", "zh", "trigger.verb", "gather")
		})
		notes.about(t, "", app.ExpectNothing)
		send(native)
		notes.about(t, `digits is "1", expected "2"`, func() { app.Expect("/menu", "digits", "2") })
		send(native)
		notes.about(t, "expected incoming", func() { app.Expect("incoming") })
		send(native)
		notes.about(t, "expected nothing", app.ExpectNothing)
		notes.about(t, "was not asked", func() { app.Expect("action") })

		send(native)
		other := native
		other.URL = app.URL + "/other"
		send(other)
		notes.about(t, "", func() {
			app.ExpectAt("/other", "digits", "1")
			app.Expect("/menu", "digits", "1")
		})
		send(native)
		notes.about(t, "was not asked at /other", func() { app.ExpectAt("/other") })
		notes.about(t, "expected nothing", app.ExpectNothing)

		native.Form = func(webhooks.CallRequest) url.Values { return url.Values{"Digits": {"5"}} }
		for _, native.Method = range []string{"GET", "POST"} {
			send(native)
			notes.about(t, "", func() { app.Expect("/menu", "Digits", "5") })
		}
	})
}

func TestAppVerifiesSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := &complaints{TB: t}
		app := New(notes)
		client := app.MemoryClient()
		ours, theirs := webhooks.NewSecret(), webhooks.NewSecret()
		app.Secrets(ours)
		ask := webhooks.Ask{URL: app.URL}
		for _, c := range []struct {
			secrets []string
			form    bool
			says    string
		}{
			{[]string{ours}, false, ""}, {[]string{ours}, true, ""},
			{[]string{theirs}, false, webhooks.ErrBadSignature.Error()}, {nil, false, webhooks.ErrUnsigned.Error()},
			// The right secret signs, but not for Twilio's header, which is made with the newest.
			{[]string{theirs, ours}, true, webhooks.ErrBadSignature.Error()},
		} {
			ask.Secrets, ask.Form = c.secrets, nil
			if c.form {
				ask.Form = func(webhooks.CallRequest) url.Values { return url.Values{"a": {"b"}} }
			}
			notes.about(t, c.says, func() {
				if _, err := client.Ask(t.Context(), ask); (err == nil) != (c.says == "") {
					t.Errorf("the answer is %v", err)
				}
			})
		}
	})
}

func TestAppComplainsOfWhatTheContractDoesNotHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := &complaints{TB: t}
		app := New(notes)
		client := app.MemoryClient()
		tell := func(ask webhooks.Ask) {
			ask.URL = app.URL
			if _, err := client.Ask(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
		}
		notes.about(t, "gather timeout: has sip_code as well", func() {
			tell(webhooks.Ask{Request: webhooks.CallRequest{Trigger: &webhooks.Trigger{Verb: "gather", Outcome: webhooks.Timeout, SIPCode: 486}}})
		})
		notes.about(t, "dtmf: digit is missing", func() { tell(webhooks.Ask{Body: webhooks.Event{Type: webhooks.EventDTMF}}) })
		notes.about(t, "", func() { tell(webhooks.Ask{Body: map[string]string{"type": "job.updated"}}) })
	})
}

func TestHangingHandlersEndWithTheTest(t *testing.T) {
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			app := New(t)
			app.Answer("*", Hang())
			_, err := app.MemoryClient().Ask(t.Context(), webhooks.Ask{URL: app.URL})
			if err == nil {
				t.Error("it answered")
			}
		})
	})
	t.Run("over sockets", func(t *testing.T) {
		app := New(t)
		app.Start()
		app.Answer("*", Slow(time.Microsecond, "hello"), Drip(time.Microsecond, "[]"))
		client := app.Client()
		for range 2 {
			if _, err := client.Ask(t.Context(), webhooks.Ask{URL: app.URL}); err != nil {
				t.Error(err)
			}
		}
	})
}
