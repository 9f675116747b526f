package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

const account = webhooks.AccountID(resttest.Account)

// clock is a time that passes when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fixture is a server with a service whose time stands still.
type fixture struct {
	*resttest.Server
	*queue.Service
	clock *clock
	edge  changing
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{clock: &clock{at: db.Now()}}
	f.Service = &queue.Service{DB: d, Log: logger(t), Now: f.clock.now, Calls: &call.Service{DB: d, Edges: &f.edge}}
	f.Server = resttest.Mount(t, d, spec, f.Service.Operations())
	return f
}

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func (f *fixture) queue(t *testing.T, body string) queue.Queue {
	t.Helper()
	var q queue.Queue
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/queues", body), http.StatusCreated, &q)
	return q
}

// edge is one life of an edge.
func edge(name string, life int) queue.Owner {
	return queue.Owner{EdgeID: webhooks.EdgeID("edge_" + name), BootID: fmt.Sprintf("boot_%s_%d", name, life), Epoch: 1}
}

func joining(in string, call webhooks.CallID, changes ...func(*queue.Joining)) queue.Joining {
	j := queue.Joining{
		AccountID: account, CallID: call, Owner: edge("a", 1), Queue: in, From: "+8613800138000", To: "+862368925278",
		Data: map[string]any{"order": "A-17"},
	}
	for _, change := range changes {
		change(&j)
	}
	return j
}

func priority(n int) func(*queue.Joining)          { return func(j *queue.Joining) { j.Priority = n } }
func at(o queue.Owner) func(*queue.Joining)        { return func(j *queue.Joining) { j.Owner = o } }
func epoch(n int64) func(*queue.Joining)           { return func(j *queue.Joining) { j.Owner.Epoch = n } }
func size(n int) func(*queue.Joining)              { return func(j *queue.Joining) { j.MaxSize = n } }
func wait(n webhooks.Seconds) func(*queue.Joining) { return func(j *queue.Joining) { j.MaxWait = n } }

func (f *fixture) join(t *testing.T, j queue.Joining) *queue.Entry {
	t.Helper()
	e, err := f.Join(t.Context(), j)
	if err != nil {
		t.Fatalf("%s: %v", j.CallID, err)
	}
	return e
}

func taking(from string, leg webhooks.CallID) queue.Taking {
	return queue.Taking{AccountID: account, Queue: from, Leg: leg, EdgeID: "edge_b", BootID: "boot_b_1"}
}

// take wants a certain call for a leg, "" for none.
func (f *fixture) take(t *testing.T, q queue.Taking, want webhooks.CallID) *queue.Taken {
	t.Helper()
	got, err := f.Take(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if (got == nil) != (want == "") || (got != nil && got.CallID != want) {
		t.Fatalf("%s was offered %+v, want %q", q.Leg, got, want)
	}
	return got
}

func (f *fixture) confirm(t *testing.T, c *queue.Taken) {
	t.Helper()
	if err := f.Confirm(t.Context(), account, c.ID, c.Claim); err != nil {
		t.Fatal(err)
	}
}

func returned(c *queue.Taken, why queue.Why) queue.Return {
	return queue.Return{AccountID: account, ID: c.ID, Claim: c.Claim, Why: why}
}

func leaving(e *queue.Entry, why webhooks.Outcome) queue.Leaving {
	return queue.Leaving{AccountID: account, ID: e.ID, Token: e.Token, Reason: why}
}

func held(e *queue.Entry) queue.Held { return queue.Held{ID: e.ID, Token: e.Token, QueueID: e.QueueID} }

// renew has edges say that they live, and nothing else.
func (f *fixture) renew(t *testing.T, edges ...queue.Owner) {
	t.Helper()
	for _, o := range edges {
		// It speaks of no entry.
		if _, err := f.Renew(t.Context(), queue.Renewal{EdgeID: o.EdgeID, BootID: o.BootID, After: "~"}); err != nil {
			t.Fatal(err)
		}
	}
}

// line is who is in a queue, in the order of the list, whose positions must be without gap.
func (f *fixture) line(t *testing.T, id string) []webhooks.CallID {
	t.Helper()
	var page list.Page[queue.WaitingCall]
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/queues/"+id+"/waiting_calls?limit=1000", nil), http.StatusOK, &page)
	calls := []webhooks.CallID{}
	for i, w := range page.Data {
		if w.Position != i+1 {
			t.Errorf("%s is number %d of the list at position %d", w.CallID, i+1, w.Position)
		}
		calls = append(calls, w.CallID)
	}
	return calls
}

func (f *fixture) waiting(t *testing.T, call webhooks.CallID) queue.WaitingCall {
	t.Helper()
	var w queue.WaitingCall
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/waiting_calls/"+string(call), nil), http.StatusOK, &w)
	return w
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				f = mount(t, dbtest.Open(t, location(t)))
				return f.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					q := f.queue(t, `{"name":"x","external_id":"crm-1"}`)
					f.join(t, joining(q.ID, "call_1"))
					return map[string]string{"queue_id": q.ID, "call_id": "call_1", "external_id": "crm-1"}
				},
				More: func(t *testing.T, _ *resttest.Server) {
					f.queue(t, `{"name":"y"}`)
					for i := range 3 {
						f.join(t, joining("x", webhooks.CallID(fmt.Sprint("call_more_", i))))
					}
				},
				Request: func(t *testing.T, _ *resttest.Server, operation string, ids map[string]string) *resttest.Request {
					if operation == "deleteQueue" {
						e := f.join(t, joining(ids["queue_id"], "call_1"))
						if err := f.Leave(t.Context(), leaving(e, webhooks.Hangup)); err != nil {
							t.Fatal(err)
						}
					}
					return nil
				},
			})
		})
	}
}

func TestWhatAQueueCanBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"name":"a"}`, 201, `"name":"a","enabled":true,"max_waiting":1000,"max_wait":0,"offer_timeout":30,"announce_position":false,"announce_interval":60`},
			{`{"name":"a"}`, 409, "/name"},
			{`{"name":" "}`, 400, "/name"},
			{`{"name":"que_1"}`, 400, "/name"},
			{`{"name":"b","max_waiting":-1}`, 400, "/max_waiting"},
			{`{"name":"b","max_wait":86401}`, 400, "/max_wait"},
			{`{"name":"b","offer_timeout":4}`, 400, "/offer_timeout"},
			{`{"name":"b","announce_interval":5}`, 400, "/announce_interval"},
			{`{"name":"b","music_id":"med_none"}`, 422, "/music_id"},
			{`{"name":"b","wait":[{"verb":"dial","to":[{"number":"95588"}]}]}`, 400, "dial is not allowed in a wait"},
			{`{"name":"b","screen":[{"verb":"leave"}]}`, 400, "leave is not allowed in a screen"},
			{`{"name":"b","wait":[{"verb":"sing"}]}`, 400, "/wait"},
			{`{"name":"b","wait":{"instructions":[{"verb":"leave"}]},"screen":[{"verb":"say","text":"x"}],"max_waiting":0}`, 201, `"verb": "leave"`},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/queues", c.body)
			if got := w.Body.String(); w.Code != c.status || !strings.Contains(strings.ReplaceAll(got, `": "`, `":"`), strings.ReplaceAll(c.says, `": "`, `":"`)) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

func TestAQueueInUseStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a"}`)
		e := f.join(t, joining("a", "call_1"))
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/queues/"+q.ID, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "1 calls wait") {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		c := f.take(t, taking("a", "call_leg"), "call_1")
		if w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/queues/"+q.ID, nil); w.Code != http.StatusConflict {
			t.Fatalf("with an offered call: got %d %s", w.Code, w.Body)
		}
		f.confirm(t, c)
		if w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/queues/"+q.ID, nil); w.Code != http.StatusNoContent {
			t.Fatalf("with a connected call: got %d %s", w.Code, w.Body)
		}
		// The talk ends later, and nobody minds.
		if err := f.Leave(t.Context(), leaving(e, webhooks.Bridged)); err != nil {
			t.Error(err)
		}
	})
}

func TestWhereACallMayJoin(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a","max_waiting":3,"max_wait":600,"music_id":null,"screen":[{"verb":"say","text":"x"}]}`)
		e := f.join(t, joining("a", "call_1"))
		if e.QueueID != webhooks.QueueID(q.ID) || e.Position != 1 || e.Size != 1 || e.MaxSize != 3 || *e.Remaining != 600 || e.Wait != nil || e.Screen == nil {
			t.Errorf("got %+v", e)
		}
		f.join(t, joining(webhooks.SID(q.ID), "call_2", wait(20)))
		if w := f.waiting(t, "call_2"); !w.ExpiresAt.Equal(f.clock.now().Add(20 * time.Second)) {
			t.Errorf("expires at %s", w.ExpiresAt)
		}
		f.join(t, joining(q.ID, "call_3"))
		f.queue(t, `{"name":"closed","enabled":false}`)
		for name, c := range map[string]struct {
			j    queue.Joining
			want error
		}{
			"unknown name":    {joining("b", "call_4"), queue.ErrNotFound},
			"unknown id":      {joining("que_none", "call_4", func(j *queue.Joining) { j.Create = true }), queue.ErrNotFound},
			"another account": {joining("a", "call_4", func(j *queue.Joining) { j.AccountID = resttest.OtherAccount }), queue.ErrNotFound},
			"full":            {joining("a", "call_4"), queue.ErrFull},
			"full by request": {joining("a", "call_4", size(2)), queue.ErrFull},
			"closed":          {joining("closed", "call_4"), queue.ErrClosed},
			"priority":        {joining("a", "call_4", priority(1001)), queue.ErrInvalid},
			"no call":         {joining("a", ""), queue.ErrInvalid},
		} {
			if _, err := f.Join(t.Context(), c.j); !errors.Is(err, c.want) {
				t.Errorf("%s: got %v, want %v", name, err, c.want)
			}
		}
		f.join(t, joining("a", "call_4", size(4)))
		made := f.join(t, joining("new", "call_5", func(j *queue.Joining) { j.Create = true }))
		if again := f.join(t, joining("new", "call_6", func(j *queue.Joining) { j.Create = true })); again.QueueID != made.QueueID || again.Position != 2 {
			t.Errorf("made %+v and %+v", made, again)
		}
	})
}

func TestJoiningTwiceIsOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a, b := f.queue(t, `{"name":"a","max_waiting":1}`), f.queue(t, `{"name":"b"}`)
		first := f.join(t, joining("a", "call_1"))
		f.clock.pass(time.Minute)
		if again := f.join(t, joining("a", "call_1")); again.ID != first.ID || again.Token != first.Token || again.Waited != 60 {
			t.Errorf("got %+v after %+v", again, first)
		}
		f.join(t, joining("b", "call_1"))
		if got := append(f.line(t, a.ID), f.line(t, b.ID)...); len(got) != 1 {
			t.Errorf("it waits %d times", len(got))
		}
		if err := f.Leave(t.Context(), leaving(first, webhooks.Left)); err != nil {
			t.Errorf("leaving what was left: %v", err)
		}
		var all sync.WaitGroup
		entries := make([]*queue.Entry, 8)
		for i := range entries {
			all.Go(func() { entries[i] = f.join(t, joining("a", "call_2")) })
		}
		all.Wait()
		for _, e := range entries {
			if e.ID != entries[0].ID {
				t.Errorf("joined as %s and as %s", e.ID, entries[0].ID)
			}
		}
	})
}

func TestWhoHasWaitedLongestIsServedFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a"}`)
		for _, j := range []queue.Joining{
			joining("a", "call_1"), joining("a", "call_2"), joining("a", "call_vip", priority(2)), joining("a", "call_3", priority(1)),
		} {
			f.join(t, j)
			f.clock.pass(50 * time.Second)
		}
		f.renew(t, edge("a", 1))
		// By now they score 200, 150, 100 + 120 and 50 + 60.
		if got := fmt.Sprint(f.line(t, q.ID)); got != "[call_vip call_1 call_2 call_3]" {
			t.Errorf("the line is %s", got)
		}
		first := f.take(t, taking("a", "call_leg_1"), "call_vip")
		second := f.take(t, taking("a", "call_leg_2"), "call_1")
		if err := f.Return(t.Context(), returned(second, queue.Unanswered)); err != nil {
			t.Fatal(err)
		}
		if err := f.Return(t.Context(), returned(first, queue.Canceled)); err != nil {
			t.Fatal(err)
		}
		// An unanswered offer goes before a VIP; one that was canceled goes back.
		f.join(t, joining("a", "call_top", priority(1000)))
		if got := fmt.Sprint(f.line(t, q.ID)); got != "[call_1 call_top call_vip call_2 call_3]" {
			t.Errorf("the line is %s", got)
		}
		if w := f.waiting(t, "call_1"); !w.Ahead || w.Waited != 200 {
			t.Errorf("got %+v", w)
		}
	})
}

func TestAClaimThatIsOverIsFenced(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a","offer_timeout":20}`)
		e := f.join(t, joining("a", "call_1"))
		old := f.take(t, taking("a", "call_leg_1"), "call_1")
		if old.Within != 20 || old.EdgeID != "edge_a" || old.From != "+8613800138000" || old.Data["order"] != "A-17" {
			t.Errorf("got %+v", old)
		}
		if again := f.take(t, taking("a", "call_leg_1"), "call_1"); again.Claim != old.Claim {
			t.Error("the leg claimed anew what it holds")
		}
		if err := f.Return(t.Context(), returned(old, queue.Failed)); err != nil {
			t.Fatal(err)
		}
		if err := f.Return(t.Context(), returned(old, queue.Failed)); err != nil {
			t.Errorf("the same again: %v", err)
		}
		now := f.take(t, taking("a", "call_leg_2"), "call_1")
		if now.Claim <= old.Claim {
			t.Errorf("claim %d after %d", now.Claim, old.Claim)
		}
		for what, err := range map[string]error{
			"confirm":        f.Confirm(t.Context(), account, old.ID, old.Claim),
			"return":         f.Return(t.Context(), returned(old, queue.Unanswered)),
			"of an account":  f.Confirm(t.Context(), resttest.OtherAccount, now.ID, now.Claim),
			"of no entry":    f.Confirm(t.Context(), account, "wait_none", 1),
			"of the future":  f.Confirm(t.Context(), account, now.ID, now.Claim+1),
			"of no certain":  f.Return(t.Context(), queue.Return{AccountID: account, ID: "wait_none", Claim: 1, Why: queue.Failed}),
			"an older token": f.Leave(t.Context(), queue.Leaving{AccountID: account, ID: e.ID, Token: e.Token - 1, Reason: webhooks.Left}),
		} {
			if !errors.Is(err, queue.ErrFenced) {
				t.Errorf("%s: %v", what, err)
			}
		}
		f.confirm(t, now)
		f.confirm(t, now)
		if err := f.Return(t.Context(), returned(now, queue.Failed)); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("what is connected was given back: %v", err)
		}
		f.take(t, taking("a", "call_leg_3"), "")

		// The caller hangs up while a leg is being connected.
		e = f.join(t, joining("a", "call_2"))
		c := f.take(t, taking("a", "call_leg_3"), "call_2")
		if err := f.Leave(t.Context(), leaving(e, webhooks.Hangup)); err != nil {
			t.Fatal(err)
		}
		if err := f.Confirm(t.Context(), account, c.ID, c.Claim); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("a caller who is gone was connected: %v", err)
		}
	})
}

func TestAClaimLapsesAndTheCallerKeepsItsPlace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a","offer_timeout":20}`)
		f.join(t, joining("a", "call_1"))
		f.clock.pass(time.Second)
		f.join(t, joining("a", "call_2"))
		sweep := func() {
			t.Helper()
			if err := f.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		sweep()
		c := f.take(t, taking("a", "call_leg_1"), "call_1")
		both := []queue.Owner{edge("a", 1), edge("b", 1)}
		for range 5 {
			f.clock.pass(4 * time.Second)
			f.renew(t, both...)
			if f.waiting(t, "call_1").Status != queue.Offered {
				t.Fatal("it lapsed too soon")
			}
			sweep()
		}
		if w := f.waiting(t, "call_1"); w.Status != queue.Waiting || w.Position != 1 || w.Ahead {
			t.Errorf("after the offer's time: %+v", w)
		}
		if err := f.Confirm(t.Context(), account, c.ID, c.Claim); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("confirmed too late: %v", err)
		}
		// The edge of the leg says nothing more.
		f.take(t, taking("a", "call_leg_1"), "call_1")
		f.clock.pass(6 * time.Second)
		f.renew(t, edge("a", 1))
		sweep()
		if got := fmt.Sprint(f.line(t, q.ID)); got != "[call_1 call_2]" || f.waiting(t, "call_1").Status != queue.Waiting {
			t.Errorf("the line is %s, %+v", got, f.waiting(t, "call_1"))
		}
	})
}

func TestALeaseThatNobodyCouldRenewCountsFromWhenTheyCan(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a","offer_timeout":300}`)
		f.join(t, joining("a", "call_1"))
		f.take(t, taking("a", "call_leg_1"), "call_1")
		// The control plane was away for a while; this is its first round.
		f.clock.pass(time.Minute)
		if err := f.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := f.waiting(t, "call_1"); w.Status != queue.Offered {
			t.Errorf("got %+v", w)
		}
		f.clock.pass(10 * time.Second)
		if err := f.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := f.waiting(t, "call_1"); w.Status != queue.Waiting {
			t.Errorf("got %+v", w)
		}
	})
}

func TestWhoMayNotBeTaken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a"}`)
		f.join(t, joining("a", "call_1", wait(60)))
		f.clock.pass(6 * time.Second)
		f.take(t, taking("a", "call_leg"), "") // its edge does not renew
		f.renew(t, edge("a", 1))
		c := f.take(t, taking("a", "call_leg"), "call_1")
		if err := f.Return(t.Context(), returned(c, queue.Canceled)); err != nil {
			t.Fatal(err)
		}
		f.clock.pass(54 * time.Second)
		f.renew(t, edge("a", 1))
		f.take(t, taking("a", "call_leg"), "") // it has waited as long as it may
		for name, q := range map[string]queue.Taking{
			"no such queue":      taking("b", "call_leg"),
			"of another account": func() queue.Taking { q := taking("a", "call_leg"); q.AccountID = resttest.OtherAccount; return q }(),
		} {
			if _, err := f.Take(t.Context(), q); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := f.Take(t.Context(), taking("a", "")); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("no leg: %v", err)
		}
	})
}

func TestACertainCallerIsTaken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a"}`)
		f.join(t, joining("a", "call_1"))
		f.join(t, joining("a", "call_2"))
		q := queue.Taking{AccountID: account, CallID: "call_2", Leg: "call_leg", EdgeID: "edge_b", BootID: "boot_b_1", Timeout: 25}
		first := f.take(t, q, "call_2")
		// The leg wants another: it holds one at a time.
		q.CallID = "call_1"
		f.take(t, q, "call_1")
		if err := f.Confirm(t.Context(), account, first.ID, first.Claim); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("the leg had two callers: %v", err)
		}
		q.CallID, q.Leg = "call_none", "call_leg_2"
		f.take(t, q, "")
	})
}

func TestWhatAnEdgeHoldsItRenews(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a","max_waiting":9}`)
		b := f.queue(t, `{"name":"b","max_wait":30}`)
		e1, e2, e3 := f.join(t, joining("a", "call_1")), f.join(t, joining("a", "call_2")), f.join(t, joining("a", "call_3"))
		f.clock.pass(10 * time.Second)
		if _, err := f.Move(t.Context(), auth.Account(resttest.Account), "call_2", "b", nil); err != nil {
			t.Fatal(err)
		}
		f.renew(t, edge("a", 1))
		c := f.take(t, taking("a", "call_leg"), "call_1")
		o := edge("a", 1)
		got, err := f.Renew(t.Context(), queue.Renewal{
			EdgeID: o.EdgeID, BootID: o.BootID, Held: []queue.Held{held(e1), held(e2), {ID: e3.ID, Token: e3.Token + 1, QueueID: e3.QueueID}, {ID: "wait_none", Token: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Entries) != 2 || fmt.Sprint(got.Lost) != fmt.Sprint([]string{e3.ID, "wait_none"}) {
			t.Fatalf("got %+v", got)
		}
		first, second := got.Entries[0], got.Entries[1]
		if first.Status != queue.Offered || first.Claim != c.Claim || first.Position != 1 || first.Size != 2 || first.Waited != 10 || first.AverageWait != 10 || first.MaxSize != 9 || first.Moved != nil {
			t.Errorf("the first stands at %+v", first)
		}
		if second.Moved == nil || second.Moved.QueueID != webhooks.QueueID(b.ID) || second.Position != 1 || *second.Remaining != 30 || second.Waited != 10 {
			t.Errorf("the second stands at %+v", second)
		}
		// One that the edge does not know of for half a minute is forgotten; one outside of what it speaks of is not.
		f.clock.pass(31 * time.Second)
		if _, err := f.Renew(t.Context(), queue.Renewal{EdgeID: o.EdgeID, BootID: o.BootID, Upto: e1.ID, Held: []queue.Held{held(e1)}}); err != nil {
			t.Fatal(err)
		}
		f.waiting(t, "call_3")
		if _, err := f.Renew(t.Context(), queue.Renewal{EdgeID: o.EdgeID, BootID: o.BootID, Held: []queue.Held{held(e1), held(e2)}}); err != nil {
			t.Fatal(err)
		}
		if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/waiting_calls/call_3", nil); w.Code != http.StatusNotFound {
			t.Errorf("what nobody holds waits on: %s", w.Body)
		}
		if _, err := f.Renew(t.Context(), queue.Renewal{EdgeID: "edge_a", BootID: "x", Held: make([]queue.Held, queue.MaxRenewal+1)}); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("too many: %v", err)
		}
	})
}

// A caller that its edge knows nothing of is given to legs that give it back, until it is forgotten.
func TestWhatIsTakenAgainAndAgainIsForgottenToo(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a"}`)
		f.join(t, joining("a", "call_1"))
		f.clock.pass(31 * time.Second)
		f.renew(t, edge("a", 1))
		c := f.take(t, taking("a", "call_leg"), "call_1")
		if err := f.Return(t.Context(), queue.Return{AccountID: account, ID: c.ID, Claim: c.Claim, Why: queue.Canceled}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write().NewRaw("UPDATE waiting_calls SET updated_at = ? WHERE id = ?", f.clock.now(), c.ID).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		o := edge("a", 1)
		if _, err := f.Renew(t.Context(), queue.Renewal{EdgeID: o.EdgeID, BootID: o.BootID}); err != nil {
			t.Fatal(err)
		}
		f.take(t, taking("a", "call_leg"), "")
	})
}

func TestALostEdge(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a"}`)
		f.join(t, joining("a", "call_1"))
		f.join(t, joining("a", "call_2", at(edge("c", 1))))
		f.join(t, joining("a", "call_3", at(edge("c", 2))))
		woken := 0
		f.Wake = func() { woken++ }
		c := f.take(t, queue.Taking{AccountID: account, Queue: "a", Leg: "call_leg", EdgeID: "edge_c", BootID: "boot_c_1"}, "call_1")
		for range 2 { // the second changes nothing
			if err := f.EdgeLost(t.Context(), "edge_c", "boot_c_1"); err != nil {
				t.Fatal(err)
			}
		}
		if got := fmt.Sprint(f.line(t, q.ID)); got != "[call_1 call_3]" || f.waiting(t, "call_1").Status != queue.Waiting {
			t.Errorf("the line is %s, and %+v", got, f.waiting(t, "call_1"))
		}
		if err := f.Confirm(t.Context(), account, c.ID, c.Claim); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("a leg of a dead edge was connected: %v", err)
		}
		told := events(t, d)
		if len(told) != 1 || told[0].CallID != "call_2" || told[0].ObjectID != q.ID || !strings.Contains(string(told[0].Data), `lost`) || woken != 1 {
			t.Errorf("told of %+v, woken %d", told, woken)
		}
		if err := f.EdgeReborn(t.Context(), "edge_c", "boot_c_3"); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.line(t, q.ID)); got != "[call_1]" {
			t.Errorf("the line is %s", got)
		}
		if err := f.EdgeReborn(t.Context(), "edge_a", "boot_a_1"); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.line(t, q.ID)); got != "[call_1]" {
			t.Errorf("the life that an edge is in was ended: %s", got)
		}
	})
}

func events(t *testing.T, d *db.DB) []event.Event {
	t.Helper()
	var all []event.Event
	if err := d.Read().NewSelect().Model(&all).Where("type = 'queue.left'").Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestACallThatWasGivenUpFindsItsPlaceAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a","max_waiting":2}`)
		first := f.join(t, joining("a", "call_1"))
		f.clock.pass(30 * time.Second)
		f.join(t, joining("a", "call_2", at(edge("b", 1))))
		if err := f.EdgeLost(t.Context(), "edge_a", ""); err != nil {
			t.Fatal(err)
		}
		f.join(t, joining("a", "call_3", at(edge("b", 1))))
		// The edge was only cut off from us, and still has the caller.
		got, err := f.Renew(t.Context(), queue.Renewal{EdgeID: "edge_a", BootID: "boot_a_1", Held: []queue.Held{held(first)}})
		if err != nil || len(got.Lost) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		again := f.join(t, joining("a", "call_1"))
		if again.Position != 1 || again.Waited != 30 || again.Token <= first.Token || fmt.Sprint(f.line(t, q.ID)) != "[call_1 call_2 call_3]" {
			t.Errorf("got %+v after %+v in %v", again, first, f.line(t, q.ID))
		}
		// Another edge takes it over.
		taken := f.join(t, joining("a", "call_1", at(edge("b", 1)), epoch(2)))
		if taken.ID != again.ID || taken.Token <= again.Token || taken.Position != 1 {
			t.Errorf("got %+v after %+v", taken, again)
		}
		if err := f.Leave(t.Context(), leaving(again, webhooks.Hangup)); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("the edge that it was taken from: %v", err)
		}
		for name, j := range map[string]queue.Joining{
			"a lower epoch":              joining("a", "call_1"),
			"the same epoch, other edge": joining("a", "call_1", at(edge("x", 1)), epoch(2)),
		} {
			if _, err := f.Join(t.Context(), j); !errors.Is(err, queue.ErrFenced) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Who left of its own will has no place any more.
		if err := f.Leave(t.Context(), leaving(taken, webhooks.Left)); err != nil {
			t.Fatal(err)
		}
		if err := f.Leave(t.Context(), leaving(taken, webhooks.Left)); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if e := f.join(t, joining("a", "call_1", at(edge("b", 1)), epoch(2), size(9))); e.Position != 3 || e.Waited != 0 {
			t.Errorf("got %+v", e)
		}
	})
}

func TestAWaitingCallIsChanged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a, b := f.queue(t, `{"name":"a"}`), f.queue(t, `{"name":"b","max_waiting":1}`)
		f.queue(t, `{"name":"closed","enabled":false}`)
		agent(t, d, "agt_1", "hr-7")
		ours, ctx := auth.Account(resttest.Account), t.Context()
		f.join(t, joining("a", "call_1"))
		f.clock.pass(time.Second)
		f.join(t, joining("a", "call_2"))
		code := func(err error) problem.Code {
			if err == nil {
				return ""
			}
			return problem.From(err).Code
		}
		w, err := f.Reprioritize(ctx, ours, "call_2", 1)
		if err != nil || w.Position != 1 || w.Priority != 1 || fmt.Sprint(f.line(t, a.ID)) != "[call_2 call_1]" {
			t.Errorf("%+v %v", w, err)
		}
		f.clock.pass(time.Second)
		w, err = f.Move(ctx, ours, "call_2", "b", nil)
		if err != nil || w.QueueID != webhooks.QueueID(b.ID) || w.Waited != 1 || w.Priority != 1 || fmt.Sprint(f.line(t, a.ID), f.line(t, b.ID)) != "[call_1] [call_2]" {
			t.Errorf("%+v %v", w, err)
		}
		_, unknown := f.Move(ctx, ours, "call_1", "none", nil)
		_, full := f.Move(ctx, ours, "call_1", b.ID, nil)
		_, closed := f.Move(ctx, ours, "call_1", "closed", nil)
		_, beyond := f.Reprioritize(ctx, ours, "call_1", -1)
		_, nobody := f.Reprioritize(ctx, ours, "call_none", 1)
		_, others := f.Reprioritize(ctx, auth.Account(resttest.OtherAccount), "call_1", 1)
		_, stranger := f.Assign(ctx, ours, "call_1", "agt_none")
		if got := fmt.Sprint([]problem.Code{code(unknown), code(full), code(closed), code(beyond), code(nobody), code(others), code(stranger)}); got != "[refused conflict conflict invalid conflict conflict refused]" {
			t.Errorf("got %s", got)
		}

		f.renew(t, edge("a", 1))
		if w, err = f.Assign(ctx, ours, "call_1", "hr-7"); err != nil || w.AssignedAgentID != "agt_1" {
			t.Errorf("%+v %v", w, err)
		}
		f.take(t, taking("a", "call_leg"), "")
		f.join(t, joining("a", "call_3", priority(9)))
		mine := taking("a", "call_leg")
		mine.AgentID = "agt_1"
		c := f.take(t, mine, "call_1") // before one that has a priority
		_, offered := f.Assign(ctx, ours, "call_1", "agt_1")
		_, moved := f.Move(ctx, ours, "call_1", "b", nil)
		if got := fmt.Sprint([]problem.Code{code(offered), code(moved)}); got != "[conflict conflict]" {
			t.Errorf("while it is offered: %s", got)
		}
		if err := f.Return(ctx, returned(c, queue.Unanswered)); err != nil {
			t.Fatal(err)
		}
		c = f.take(t, taking("a", "call_leg_2"), "call_1")
		if err := f.Return(ctx, returned(c, queue.Canceled)); err != nil {
			t.Fatal(err)
		}
		// An assignment that nobody takes up ends.
		if _, err = f.Assign(ctx, ours, "call_1", "agt_1"); err != nil {
			t.Fatal(err)
		}
		f.clock.pass(queue.AssignFor)
		f.renew(t, edge("a", 1))
		c = f.take(t, taking("a", "call_leg_2"), "call_1")
		f.confirm(t, c)
		if _, err := f.Reprioritize(ctx, ours, "call_1", 1); code(err) != problem.CodeConflict {
			t.Errorf("of a connected call: %v", err)
		}
	})
}

func agent(t *testing.T, d *db.DB, id, externalID string) {
	t.Helper()
	for _, query := range []string{
		`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, login, name, role_ids, status)
			VALUES ('usr_1', ?, '{}', ?, ?, '1', 'usr_1', 'x', 'x', '[]', 'active')`,
		`INSERT INTO agents (id, external_id, user_id, owner_id, account_id, metadata, created_at, updated_at, etag, auto_answer_delay, presence, work)
			VALUES ('` + id + `', '` + externalID + `', 'usr_1', 'usr_1', ?, '{}', ?, ?, '1', 0, 'offline', 'idle')`,
	} {
		if _, err := d.Write().NewRaw(query, resttest.Account, db.Now(), db.Now()).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheStatusOfAQueue(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		q := f.queue(t, `{"name":"a"}`)
		status := func() queue.QueueStatus {
			t.Helper()
			var st queue.QueueStatus
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/queues/"+q.ID+"/status", nil), http.StatusOK, &st)
			return st
		}
		if st := status(); st.Waiting != 0 || st.LongestWait != 0 || st.AverageWait != 0 {
			t.Errorf("of an empty queue: %+v", st)
		}
		f.join(t, joining("a", "call_1"))
		f.clock.pass(10 * time.Second)
		f.join(t, joining("a", "call_2", priority(7)))
		f.clock.pass(10 * time.Second)
		f.join(t, joining("a", "call_3"))
		c := f.take(t, taking("a", "call_leg"), "call_2")
		if err := f.Return(t.Context(), returned(c, queue.Unanswered)); err != nil {
			t.Fatal(err)
		}
		f.take(t, taking("a", "call_leg"), "call_2")
		if st := status(); st.Waiting != 2 || st.Offered != 1 || st.Connected != 0 || st.LongestWait != 20 || st.AverageWait != 10 {
			t.Errorf("got %+v", st)
		}
		f.confirm(t, f.take(t, taking("a", "call_leg"), "call_2"))
		f.confirm(t, f.take(t, taking("a", "call_leg"), "call_1"))
		if st := status(); st.Waiting != 1 || st.Offered != 0 || st.Connected != 2 || st.LongestWait != 0 {
			t.Errorf("got %+v", st)
		}
	})
}

func TestWhatHasLeftIsRemovedAfterAnHour(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a"}`)
		e := f.join(t, joining("a", "call_1"))
		f.join(t, joining("a", "call_2"))
		if err := f.Leave(t.Context(), leaving(e, webhooks.Timeout)); err != nil {
			t.Fatal(err)
		}
		rows := func() (n int64) {
			t.Helper()
			if err := d.Read().NewSelect().Table("waiting_calls").ColumnExpr("COUNT(*)").Scan(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for _, want := range []int64{2, 1} {
			f.clock.pass(40 * time.Minute)
			if err := f.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := rows(); got != want {
				t.Errorf("%d rows, want %d", got, want)
			}
		}
		if err := f.Leave(t.Context(), leaving(e, webhooks.Timeout)); err != nil {
			t.Errorf("leaving what is forgotten: %v", err)
		}
		if err := f.Leave(t.Context(), leaving(e, "tired")); !errors.Is(err, queue.ErrInvalid) {
			t.Errorf("for no reason: %v", err)
		}
	})
}

func TestTheJournalOfAChangeHasNoNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.queue(t, `{"name":"a"}`)
		f.join(t, joining("a", "call_1"))
		var seen []db.Altered
		journal := db.NewJournal(func(_ context.Context, _ *db.Tx, changes []db.Altered) error {
			seen = changes
			return nil
		})
		if _, err := f.Reprioritize(db.WithJournal(t.Context(), journal), auth.Account(resttest.Account), "call_1", 5); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 1 {
			t.Fatalf("recorded %d changes", len(seen))
		}
		var after struct{ Priority int }
		if err := json.Unmarshal(seen[0].After, &after); err != nil || after.Priority != 5 || strings.Contains(string(seen[0].Before)+string(seen[0].After), "138") {
			t.Errorf("recorded %s and %s, %v", seen[0].Before, seen[0].After, err)
		}
	})
}

// changing is an edge that takes every change.
type changing struct {
	mu    sync.Mutex // guards taken
	taken []call.Action
}

func (e *changing) Prepare(context.Context, call.Origination) (call.Prepared, error) {
	return call.Prepared{}, errors.New("no calls")
}

func (e *changing) Act(_ context.Context, _ webhooks.EdgeID, a call.Action) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken = append(e.taken, a)
	return nil
}

func TestEveryCallThatWaitsIsChanged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.queue(t, `{"name":"a"}`)
		f.queue(t, `{"name":"b"}`)
		f.join(t, joining("a", "call_1"))
		f.join(t, joining("a", "call_2", priority(9)))
		f.join(t, joining("a", "call_unknown"))
		f.join(t, joining("b", "call_3"))
		for _, id := range []webhooks.CallID{"call_1", "call_2", "call_3"} {
			begun := webhooks.Event{
				ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: db.Now(),
				Data: webhooks.EventData{From: "1", To: "2", Direction: webhooks.Inbound},
			}
			owner := call.Owner{EdgeID: "edge_a", BootID: "boot_a_1", Epoch: 1, AccountID: account, CallID: id}
			if _, err := f.Calls.Publish(t.Context(), call.Batch{Owner: owner, Events: []webhooks.Event{begun}}); err != nil {
				t.Fatal(err)
			}
		}
		var got call.ActionsTaken
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/queues/"+a.ID+"/actions", `{"op":"hangup"}`), http.StatusAccepted, &got)
		if len(got.Data) != 3 || len(f.edge.taken) != 2 {
			t.Fatalf("answered %+v, taken %+v", got, f.edge.taken)
		}
		for i, want := range []struct {
			id   webhooks.CallID
			code problem.Code
		}{{"call_2", ""}, {"call_1", ""}, {"call_unknown", problem.CodeNotFound}} {
			if g := got.Data[i]; g.CallID != want.id || (g.ActionID == "") != (want.code != "") || (g.Error == nil) != (want.code == "") || g.Error != nil && g.Error.Code != want.code {
				t.Errorf("%d: %+v, want %+v", i, g, want)
			}
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/queues/que_x/actions", `{"op":"hangup"}`), http.StatusNotFound, nil)
	})
}
