package webhooks_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pause = `[{"verb":"pause"}]`

// inMemory runs a story in virtual time with an application in memory.
func inMemory(t *testing.T, story func(t *testing.T, app *webhooktest.App, client *webhooks.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		app := webhooktest.New(t)
		story(t, app, app.MemoryClient())
	})
}

func incoming(app *webhooktest.App) webhooks.Ask {
	return webhooks.Ask{URL: app.URL + "/voice", Request: webhooks.CallRequest{
		Reason: webhooks.ReasonIncoming, AccountID: "acc_1", CallID: "call_01ARZ3NDEKTSV4RRFFQ69G5FAV", RequestID: "req_1",
		Call: webhooks.Call{From: "+8613800138000", To: "1000"},
	}}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	requestError(t, err, code)
}

// requestError returns the error when it has the code.
func requestError(t *testing.T, err error, code string) webhooks.RequestError {
	t.Helper()
	e, ok := errors.AsType[*webhooks.RequestError](err)
	if !ok || e.Code != code {
		t.Fatalf("%v (%T), want code %s", err, err, code)
	}
	if strings.HasSuffix(e.Message, ".") || !strings.Contains(e.Message, e.URL) {
		t.Errorf("the sentence is %q", e.Message)
	}
	return *e
}

func TestAskSendsASignedRequest(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		newer, older := webhooks.NewSecret(), webhooks.NewSecret()
		app.Secrets(older)
		app.Answer("incoming", `{"instructions":[{"verb":"pause","length":2}],"state":{"a":1}}`)
		ask := incoming(app)
		ask.URL += "?q=1#fragment"
		ask.Method = "GET" // JSON is posted whatever the method
		ask.Secrets = []string{newer, older}
		reply, err := client.Ask(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Kind != webhooks.ReplyProgram || len(reply.Program.Instructions) != 1 || string(reply.Program.State) != `{"a":1}` {
			t.Errorf("the reply is %+v", reply)
		}
		if reply.URL != app.URL+"/voice?q=1" || reply.Status != 200 {
			t.Errorf("it came from %s with %d", reply.URL, reply.Status)
		}
		r := app.Expect("incoming", "from", "+8613800138000", "contract", "1", "type", "program.request", "request_id", "req_1", "deadline_ms", "5000")
		if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Webhook-Id") != "req_1" {
			t.Errorf("the request was %s %v", r.Method, r.Header)
		}
		if got := r.Header.Get("Traceparent"); !strings.HasPrefix(got, "00-01563e3ab5d3d6764c61efb99302bd5b-") || len(got) != 55 {
			t.Errorf("traceparent is %s", got)
		}
		if r.Header.Get("X-Twilio-Signature") != "" {
			t.Error("a native request carries Twilio's signature")
		}
		app.ExpectNothing()
	})
}

func TestAskPostsTwiliosForm(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		secret := webhooks.NewSecret()
		app.Secrets(secret)
		app.Answer("/voice", "<Response/>")
		ask := incoming(app)
		ask.Secrets = []string{secret}
		ask.Form = func(r webhooks.CallRequest) url.Values {
			return url.Values{"From": {r.Call.From}, "FromCity": {""}, "SpeechResult": {"你好 a+b&c=d"}}
		}
		for _, method := range []string{"POST", "GET"} {
			ask.Method, ask.URL = method, app.URL+"/voice?a=b%20c&From=x"
			reply, err := client.Ask(t.Context(), ask)
			if err != nil {
				t.Fatal(err)
			}
			if reply.Kind != webhooks.ReplyXML || string(reply.Body) != "<Response/>" {
				t.Errorf("%s: the reply is %+v", method, reply)
			}
			if reply.URL != ask.URL {
				t.Errorf("%s: the current URL is %s, want %s", method, reply.URL, ask.URL)
			}
			r := app.Expect("/voice", "SpeechResult", "你好 a+b&c=d")
			if r.Method != method || r.Header.Get("X-Twilio-Signature") == "" {
				t.Errorf("the request was %s %v", r.Method, r.Header)
			}
			if method == "GET" && (!strings.HasPrefix(r.URL, ask.URL+"&") || len(r.Body) > 0) {
				t.Errorf("a GET must append to the query: %s", r.URL)
			}
		}
	})
}

func TestAskKeepsCookiesOfACall(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		app.Answer("*", webhooktest.Response{Status: 204, Header: http.Header{"Set-Cookie": {"session=1; Path=/"}}})
		ask := incoming(app)
		ask.Jar = webhooks.NewJar()
		for _, want := range []string{"", "session=1"} {
			if _, err := client.Ask(t.Context(), ask); err != nil {
				t.Fatal(err)
			}
			if got := app.Expect("incoming").Header.Get("Cookie"); got != want {
				t.Errorf("cookies are %q, want %q", got, want)
			}
		}
	})
}

func TestJarIsBounded(t *testing.T) {
	jar := webhooks.NewJar()
	u := &url.URL{Scheme: "http", Host: "app.test", Path: "/"}
	set := func(name, value string, age int) {
		jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, MaxAge: age}})
	}
	set("large", strings.Repeat("x", 4096), 0)
	for i := range 60 {
		set(fmt.Sprint("c", i), "1", 0)
	}
	set("c0", "2", 0) // replaces one, needs no room
	if got := jar.Cookies(u); len(got) != 50 || got[0].Value != "2" {
		t.Errorf("%d cookies, the first is %v", len(got), got[0])
	}
	set("c1", "", -1)
	set("new", "1", 0)
	if got := jar.Cookies(u); len(got) != 50 || got[49].Name != "new" {
		t.Errorf("a deleted cookie made no room: %d", len(got))
	}
}

func TestAskResolvesAgainstTheFinalURL(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		secret := webhooks.NewSecret()
		app.Secrets(secret)
		app.Answer("/voice", webhooktest.Redirect(307, "http://other.test/ivr/start?x=1"))
		app.Answer("/ivr/start", webhooktest.Redirect(308, "main"))
		app.Answer("/ivr/main", pause)
		ask := incoming(app)
		ask.Secrets = []string{secret}
		reply, err := client.Ask(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		for ref, want := range map[string]string{
			"menu": "http://other.test/ivr/menu", "/menu": "http://other.test/menu", "?d=1": "http://other.test/ivr/main?d=1",
			"": "http://other.test/ivr/main", "https://third.test/": "https://third.test/", "../x": "http://other.test/x", "\n\tmenu\n": "http://other.test/ivr/menu",
		} {
			if got, err := webhooks.Resolve(reply.URL, ref); err != nil || got != want {
				t.Errorf("%q is %s, %v; want %s", ref, got, err, want)
			}
		}
		if n := len(app.Requests()); n != 3 {
			t.Errorf("%d requests", n)
		}
		for _, r := range app.Requests() {
			if r.Method != "POST" || r.Value("from") == "" {
				t.Errorf("307 and 308 keep method and body: %s %s", r.Method, r.Body)
			}
		}
		if _, err := webhooks.Resolve(reply.URL, "http://[::1"); err == nil {
			t.Error("a malformed reference resolves")
		}
	})
}

func TestAskFailsWithACode(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer any
		code   string
		asked  int
	}{
		{"404", webhooktest.Status(404), "status", 1},
		{"500", webhooktest.Status(500), "status", 1},
		{"503", webhooktest.Status(503), "status", 2},
		{"429", webhooktest.Status(429), "status", 2},
		{"304", webhooktest.Status(304), "status", 1},
		{"302 to nowhere", webhooktest.Status(302), "status", 1},
		{"endless redirects", webhooktest.Redirect(307, "/voice"), "redirect", 4},
		{"redirect to loopback", webhooktest.Redirect(307, "http://127.0.0.1/"), "denied", 1},
		{"redirect to a file", webhooktest.Redirect(307, "file:///etc/passwd"), "redirect", 1},
		{"reset", webhooktest.Reset(), "reset", 2},
		{"oversized", webhooktest.Oversized(), "body", 1},
		{"hang", webhooktest.Hang(), "timeout", 1},
		{"drip", webhooktest.Drip(time.Second, pause), "timeout", 1},
		{"large error page", webhooktest.Response{Status: 500, Body: strings.Repeat("x", 300_000)}, "status", 1},
		{"huge header", webhooktest.Response{Header: http.Header{"X-Huge": {strings.Repeat("x", guard.MaxHeaderBytes)}}}, "protocol", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
				app.Answer("*", c.answer)
				_, err := client.Ask(t.Context(), incoming(app))
				e := requestError(t, err, c.code)
				if status, ok := c.answer.(webhooktest.Response); ok && c.code == "status" && e.Status != status.Status {
					t.Errorf("the status is %d, want %d", e.Status, status.Status)
				}
				if n := len(app.Requests()); n != c.asked {
					t.Errorf("asked %d times, want %d", n, c.asked)
				}
				f := webhooks.FailureOf(err)
				if f.Code != c.code || f.URL != app.URL+"/voice" || f.Message != e.Message || f.Status != e.Status {
					t.Errorf("the fallback is told %+v", f)
				}
			})
		})
	}
}

func TestAskRefusesWhatCannotBeAsked(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		for target, code := range map[string]string{
			"": "url", "/relative": "url", "ftp://app.test/": "url", "http://user:pw@app.test/": "url", "http://10.0.0.1/": "denied", "http://[::1]/": "denied",
		} {
			ask := incoming(app)
			ask.URL = target
			_, err := client.Ask(t.Context(), ask)
			wantCode(t, err, code)
		}
		ask := incoming(app)
		ask.Secrets = []string{"short"}
		_, err := client.Ask(t.Context(), ask)
		wantCode(t, err, "secret")
		app.ExpectNothing()
	})
}

func TestAskRejectsAnAnswerWithPointerAndSentence(t *testing.T) {
	for _, c := range []struct {
		answer        any
		pointer, says string
	}{
		{webhooktest.Garbage(), "", "not JSON"},
		{`[{"verb":"sing"}]`, "/0/verb", "not a verb"},
		{`{"instructions":[{"verb":"gather","timeout":1000}]}`, "/instructions/0/timeout", "0–600 seconds"},
		{webhooktest.Response{ContentType: "text/html", Body: "<html><body>It works!</body></html>"}, "", "text/html"},
		{webhooktest.Response{ContentType: "text/html", Body: `{"instructions":[]}`}, "", "text/html"},
		{webhooktest.Response{ContentType: "application/octet-stream", Body: "x"}, "", "application/octet-stream"},
		{webhooktest.Response{ContentType: "text/plain", Body: "\xff\xfe"}, "", "UTF-8"},
		{webhooktest.Response{ContentType: "text/plain", Body: strings.Repeat("声", 4097)}, "", "4097 characters"},
	} {
		inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
			app.Answer("*", c.answer)
			_, err := client.Ask(t.Context(), incoming(app))
			e, ok := errors.AsType[*webhooks.RejectedError](err)
			if !ok || e.Pointer != c.pointer || !strings.Contains(e.Message, c.says) || e.URL != app.URL+"/voice" {
				t.Errorf("%v: %+v", c.answer, err)
			}
			if f := webhooks.FailureOf(err); f.Code != "rejected" || f.Message != err.Error() || f.Status != 200 {
				t.Errorf("the fallback is told %+v", f)
			}
			if n := len(app.Requests()); n != 1 {
				t.Errorf("a refused answer was asked for %d times", n)
			}
		})
	}
}

func TestFailureOf(t *testing.T) {
	if webhooks.FailureOf(nil) != nil {
		t.Error("no error is a failure")
	}
	if f := webhooks.FailureOf(io.EOF); f.Code != "error" {
		t.Errorf("an unknown error is %+v", f)
	}
}

func TestAskRetriesWithinOneBudget(t *testing.T) {
	three, none := 3, 0
	for _, c := range []struct {
		name    string
		limits  webhooks.Limits
		answers []any
		code    string // "" when it succeeds
		asked   int
		after   time.Duration
	}{
		{"once, and the second answer counts", webhooks.Limits{}, []any{webhooktest.Status(503), pause}, "", 2, 100 * time.Millisecond},
		{"as often as the application wants", webhooks.Limits{Retries: &three}, []any{webhooktest.Status(502), webhooktest.Reset(), webhooktest.Status(504), pause}, "", 4, 700 * time.Millisecond},
		{"not at all", webhooks.Limits{Retries: &none}, []any{webhooktest.Status(503), pause}, "status", 1, 0},
		{"with what is left", webhooks.Limits{}, []any{webhooktest.Slow(4*time.Second, webhooktest.Status(503)), webhooktest.Hang()}, "timeout", 2, 5 * time.Second},
		{"only while something is left", webhooks.Limits{}, []any{webhooktest.Slow(4950*time.Millisecond, webhooktest.Status(503)), pause}, "status", 1, 4950 * time.Millisecond},
		{"hang ends at the budget", webhooks.Limits{Budget: 3 * time.Second}, []any{webhooktest.Hang()}, "timeout", 1, 3 * time.Second},
		{"the budget has a least", webhooks.Limits{Budget: time.Millisecond}, []any{webhooktest.Hang()}, "timeout", 1, time.Second},
		{"and a most", webhooks.Limits{Budget: time.Hour}, []any{webhooktest.Hang()}, "timeout", 1, 15 * time.Second},
		{"fallback has 4 s", webhooks.Limits{}.Fallback(), []any{webhooktest.Hang()}, "timeout", 1, 4 * time.Second},
		{"or what is set", webhooks.Limits{FallbackTimeout: 2 * time.Second}.Fallback(), []any{webhooktest.Hang()}, "timeout", 1, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
				app.Answer("*", c.answers...)
				ask := incoming(app)
				ask.Limits = c.limits
				began := time.Now()
				_, err := client.Ask(t.Context(), ask)
				if took := time.Since(began); took != c.after {
					t.Errorf("it took %v, want %v", took, c.after)
				}
				if c.code == "" && err != nil {
					t.Error(err)
				}
				if c.code != "" {
					wantCode(t, err, c.code)
				}
				requests := app.Requests()
				if len(requests) != c.asked {
					t.Errorf("asked %d times, want %d", len(requests), c.asked)
				}
				for _, r := range requests {
					if r.Header.Get("Webhook-Id") != "req_1" {
						t.Errorf("a retry has webhook-id %s", r.Header.Get("Webhook-Id"))
					}
				}
			})
		})
	}
}

func TestAskGivesConnectionsTheirOwnTime(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		app.Answer("*", pause)
		app.Ignore(1)
		began := time.Now()
		if _, err := client.Ask(t.Context(), incoming(app)); err != nil {
			t.Errorf("the second connection: %v", err)
		}
		if took := time.Since(began); took != 1100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		app.Ignore(2)
		ask := incoming(app)
		ask.URL = strings.Replace(ask.URL, "app.test", "second.test", 1) // no idle connection there
		ask.Limits.ConnectTimeout = 200 * time.Millisecond
		began = time.Now()
		_, err := client.Ask(t.Context(), ask)
		e := requestError(t, err, "connect")
		if took := time.Since(began); took != 500*time.Millisecond || e.Attempts != 2 {
			t.Errorf("it took %v and %d attempts", took, e.Attempts)
		}
		app.Refuse(1)
		ask.URL = strings.Replace(ask.URL, "second.test", "third.test", 1)
		if _, err := client.Ask(t.Context(), ask); err != nil {
			t.Errorf("after a refused connection: %v", err)
		}
		last := app.Requests()
		if got := last[len(last)-1].Value("deadline_ms"); got != "4900" {
			t.Errorf("the retry says it has %s ms", got)
		}
	})
}

func TestAskTracesEveryAttempt(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		app.Answer("/voice", webhooktest.Slow(time.Second, webhooktest.Status(503)), webhooktest.Redirect(303, "/other"))
		app.Answer("/other", pause)
		ask := incoming(app)
		ask.Secrets = []string{webhooks.NewSecret()}
		var got []webhooks.Attempt
		ask.Trace = func(a webhooks.Attempt) { got = append(got, a) }
		if _, err := client.Ask(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 {
			t.Fatalf("%d attempts", len(got))
		}
		for i := range got {
			if got[i].BytesOut == 0 {
				t.Error("the size of the request is lost")
			}
			got[i].BytesOut = 0
		}
		want := []webhooks.Attempt{
			{RequestID: "req_1", Number: 1, Method: "POST", URL: app.URL + "/voice", Status: 503, Code: "status", Duration: time.Second},
			{RequestID: "req_1", Number: 2, Method: "POST", URL: app.URL + "/voice", FinalURL: app.URL + "/other", Status: 200, BytesIn: len(pause)},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v", got)
		}
		if strings.Contains(fmt.Sprint(got), ask.Secrets[0]) {
			t.Error("a secret is in the trace")
		}
	})
}

func TestAskStopsWhenTheCallerHangsUp(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		hangup := errors.New("hangup")
		for _, answer := range []any{webhooktest.Hang(), webhooktest.Slow(time.Second, webhooktest.Status(503))} {
			app.Answer("*", answer)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(1050*time.Millisecond, func() { cancel(hangup) })
			began := time.Now()
			_, err := client.Ask(ctx, incoming(app))
			if took := time.Since(began); took != 1050*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			if err == nil {
				t.Error("a question nobody waits for was answered")
			}
		}
		// A caller's hang-up says nothing about the application.
		app.Answer("*", webhooktest.Hang())
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := client.Ask(ctx, incoming(app))
			cancel()
			if e, ok := errors.AsType[*webhooks.RequestError](err); ok && e.Code == "circuit_open" {
				t.Fatal("hang-ups opened the breaker")
			}
		}
	})
}

func TestBreakerSkipsADeadOriginAndProbesIt(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		none := 0
		ask := incoming(app)
		ask.Limits.Retries = &none
		app.Answer("*", webhooktest.Status(500))
		for range 10 {
			_, err := client.Ask(t.Context(), ask)
			wantCode(t, err, "status")
		}
		_, err := client.Ask(t.Context(), ask)
		wantCode(t, err, "circuit_open")
		if n := len(app.Requests()); n != 10 {
			t.Errorf("asked %d times", n)
		}
		app.Answer("*", pause)
		other := ask
		other.Request.AccountID = "acc_2"
		if _, err := client.Ask(t.Context(), other); err != nil {
			t.Errorf("another account's breaker: %v", err)
		}
		other = ask
		other.URL = "http://elsewhere.test/voice"
		if _, err := client.Ask(t.Context(), other); err != nil {
			t.Errorf("another origin's breaker: %v", err)
		}

		// Half-open: one may try; the others are refused meanwhile. It fails, so it is open again.
		<-time.After(30 * time.Second)
		app.Answer("*", webhooktest.Slow(time.Second, webhooktest.Status(500)))
		var probes sync.WaitGroup
		probes.Go(func() { _, err := client.Ask(t.Context(), ask); wantCode(t, err, "status") })
		synctest.Wait()
		_, err = client.Ask(t.Context(), ask)
		wantCode(t, err, "circuit_open")
		probes.Wait()
		_, err = client.Ask(t.Context(), ask)
		wantCode(t, err, "circuit_open")

		<-time.After(30 * time.Second)
		app.Answer("*", pause)
		for range 3 {
			if _, err := client.Ask(t.Context(), ask); err != nil {
				t.Errorf("after a good probe: %v", err)
			}
		}
	})
}

func TestBreakerIgnoresRefusalsAndRejections(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		for _, answer := range []any{webhooktest.Status(404), webhooktest.Garbage()} {
			app.Answer("*", answer)
			for range 15 {
				_, err := client.Ask(t.Context(), incoming(app))
				if e, ok := errors.AsType[*webhooks.RequestError](err); ok && e.Code == "circuit_open" {
					t.Fatalf("%v opened the breaker", answer)
				}
			}
		}
	})
}

func TestAskBoundsAnAccountsRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := webhooktest.New(t)
		g := guard.New(guard.Config{Transport: app.Transport()})
		defer g.Close()
		client := webhooks.NewClient(webhooks.ClientConfig{Guard: g, InFlight: 2})
		app.Answer("/voice", webhooktest.Slow(2*time.Second, pause))
		app.Answer("/quick", pause)
		var asking sync.WaitGroup
		codes := make(chan string, 10)
		for range 10 {
			asking.Go(func() {
				_, err := client.Ask(t.Context(), incoming(app))
				if err == nil {
					codes <- ""
					return
				}
				codes <- webhooks.FailureOf(err).Code
			})
		}
		synctest.Wait()
		if n := len(app.Requests()); n != 2 {
			t.Errorf("%d requests of one account are on their way", n)
		}
		other := incoming(app)
		other.URL, other.Request.AccountID = app.URL+"/quick", "acc_2"
		began := time.Now()
		if _, err := client.Ask(t.Context(), other); err != nil || time.Since(began) > 0 {
			t.Errorf("another account waited %v: %v", time.Since(began), err)
		}
		asking.Wait()
		close(codes)
		got := map[string]int{}
		for c := range codes {
			got[c]++
		}
		// 2 are answered at 2 s and 2 at 4 s. The others end at their budget: waiting for an answer, or for a place.
		if got[""] != 4 || got["timeout"] < 2 || got["busy"]+got["timeout"] != 6 {
			t.Errorf("the outcomes are %v", got)
		}
	})
}

func TestAskTakesTwiliosConnectionOverrides(t *testing.T) {
	form := func(webhooks.CallRequest) url.Values { return url.Values{"CallSid": {"CA1"}} }
	for _, c := range []struct {
		name, fragment string
		answer         any
		asked          int
		after          time.Duration
	}{
		{"total", "#tt=2000", webhooktest.Hang(), 1, 2 * time.Second},
		{"read", "#rt=300", webhooktest.Hang(), 1, 300 * time.Millisecond},
		{"read and retry on it", "#rt=300&rc=2&rp=rt", webhooktest.Hang(), 3, 1200 * time.Millisecond},
		{"retry on 5xx", "#rc=1&rp=ct,5xx", webhooktest.Status(500), 2, 100 * time.Millisecond},
		{"retry on 4xx", "#rp=4xx", webhooktest.Status(404), 2, 100 * time.Millisecond},
		{"retry on all", "#rc=2&rp=all", webhooktest.Reset(), 3, 300 * time.Millisecond},
		{"not on 503 when only ct is named", "#rp=ct", webhooktest.Status(503), 1, 0},
		{"no retry", "#rc=0", webhooktest.Status(503), 1, 0},
		{"out of range", "#tt=99999&rc=-3", webhooktest.Hang(), 1, 15 * time.Second},
		{"any fragment", "#section;%zz", webhooktest.Hang(), 1, 5 * time.Second},
		{"unknown keys", "#e=frankfurt&sni=y&rt=soon", webhooktest.Hang(), 1, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
				app.Answer("*", c.answer)
				secret := webhooks.NewSecret()
				app.Secrets(secret) // the fragment is not signed, or this fails
				ask := incoming(app)
				ask.URL += c.fragment
				ask.Form, ask.Secrets = form, []string{secret}
				began := time.Now()
				_, err := client.Ask(t.Context(), ask)
				if err == nil {
					t.Error("no failure")
				}
				if took := time.Since(began); took != c.after {
					t.Errorf("it took %v, want %v", took, c.after)
				}
				if n := len(app.Requests()); n != c.asked {
					t.Errorf("asked %d times, want %d", n, c.asked)
				}
			})
		})
	}
	t.Run("native applications have settings instead", func(t *testing.T) {
		inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
			app.Answer("*", webhooktest.Hang())
			ask := incoming(app)
			ask.URL += "#tt=2000"
			began := time.Now()
			_, err := client.Ask(t.Context(), ask)
			wantCode(t, err, "timeout")
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	})
}

// TestAskOverRealSockets is what connections in memory cannot show: TCP resets, compression, a closed port.
func TestAskOverRealSockets(t *testing.T) {
	app := webhooktest.New(t)
	app.Start()
	client := app.Client()
	secret := webhooks.NewSecret()
	app.Secrets(secret)
	ask := incoming(app)
	ask.Secrets = []string{secret}
	zipped := func(n int) webhooktest.Response {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, `{"instructions":[],"x_fill":"`+strings.Repeat("x", n)+`"}`)
		_ = z.Close()
		return webhooktest.Response{ContentType: "application/json", Header: http.Header{"Content-Encoding": {"gzip"}}, Body: b.String()}
	}
	for _, c := range []struct {
		name   string
		answer any
		code   string
	}{
		{"program", pause, ""},
		{"gzip", zipped(10), ""},
		{"gzip bomb", zipped(8 << 20), "body"},
		{"reset", webhooktest.Reset(), "reset"},
		{"503", webhooktest.Status(503), "status"},
		{"oversized", webhooktest.Oversized(), "body"},
		{"redirect to metadata", webhooktest.Redirect(307, "http://169.254.169.254/latest/meta-data/"), "denied"},
	} {
		app.Answer("*", c.answer)
		_, err := client.Ask(t.Context(), ask)
		if c.code != "" {
			wantCode(t, err, c.code)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	ask.URL = "http://127.0.0.1:1/"
	_, err := client.Ask(t.Context(), ask)
	wantCode(t, err, "connect")
}

func TestManyCallsAskAtOnce(t *testing.T) {
	inMemory(t, func(t *testing.T, app *webhooktest.App, client *webhooks.Client) {
		app.Answer("*", pause, webhooktest.Status(503), pause, webhooktest.Reset(), pause)
		var asking sync.WaitGroup
		for i := range 50 {
			asking.Go(func() {
				ask := incoming(app)
				ask.Request.AccountID = webhooks.AccountID(fmt.Sprint("acc_", i%3))
				if _, err := client.Ask(t.Context(), ask); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
	})
}
