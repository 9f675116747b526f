package call_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// limited is edges whose account may start so many calls more. What they were sent is in sent, by the order that the call's
// data names.
type limited struct {
	left   int
	sent   []string
	fails  error // of the next to be sent
	wrong  error // of the next to be prepared
	behind int
}

func (l *limited) prepare(o call.Origination) (call.Prepared, error) {
	if l.wrong != nil {
		return call.Prepared{}, l.wrong
	}
	if o.Behind || l.left == 0 {
		if o.Behind {
			l.behind++
		}
		return call.Prepared{ApplicationID: o.ApplicationID}, fmt.Errorf("%w: %w", call.ErrRate, problem.TooMany("too many", time.Second))
	}
	l.left--
	return call.Prepared{EdgeID: "edge_1", BootID: "boot_1", ApplicationID: o.ApplicationID, Send: func(context.Context) error {
		if err := l.fails; err != nil {
			l.fails = nil
			return err
		}
		l.sent = append(l.sent, fmt.Sprint(o.Data["n"]))
		return nil
	}}, nil
}

// calling starts a call that waits for so many seconds, and gives its answer.
func calling(t *testing.T, server *resttest.Server, n string, queueFor float64, status int) call.Call {
	t.Helper()
	var c call.Call
	var into any = &c
	if status != http.StatusCreated {
		into = nil
	}
	w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{
		"to": map[string]any{"extension": "1001"}, "application_id": "app_1", "data": map[string]any{"n": n}, "queue_for": queueFor,
	})
	resttest.Want(t, w, status, into)
	if status == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	return c
}

func TestCallsOverTheLimitWaitForTheirTurn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		l := &limited{left: 1}
		e.prepare = l.prepare
		calling(t, server, "a", 0, http.StatusCreated)
		calling(t, server, "none", 0, http.StatusTooManyRequests)
		waits := calling(t, server, "b", 60, http.StatusCreated)
		if waits.Status != webhooks.StatusQueued {
			t.Errorf("it is %s", waits.Status)
		}
		l.left = 1
		calling(t, server, "none", 0, http.StatusTooManyRequests) // others wait
		calling(t, server, "c", 60, http.StatusCreated)
		if l.behind != 2 || !slices.Equal(l.sent, []string{"a"}) {
			t.Errorf("%d came behind others; sent %v", l.behind, l.sent)
		}
		for _, more := range []struct {
			left int
			want []string
		}{{1, []string{"a", "b"}}, {0, []string{"a", "b"}}, {5, []string{"a", "b", "c"}}, {5, []string{"a", "b", "c"}}} {
			l.left = more.left
			if err := s.Dispatch(t.Context()); err != nil || !slices.Equal(l.sent, more.want) {
				t.Errorf("sent %v, want %v, %v", l.sent, more.want, err)
			}
		}
		c := get(t, s, webhooks.CallID(waits.ID))
		if c.EdgeID != "edge_1" || c.BootID != "boot_1" || c.Status != webhooks.StatusQueued || c.StartedAt.Before(waits.StartedAt) {
			t.Errorf("started as %+v", c)
		}
		publish(t, s, webhooks.CallID(waits.ID), story(webhooks.EventCallInitiated)...)
	})
}

func TestACallThatWaitsCountsAsNoneAndIsNotTakenForLost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		e.prepare = (&limited{}).prepare
		calling(t, server, "a", 60, http.StatusCreated)
		if n, err := s.LiveOf(t.Context(), resttest.Account); err != nil || n != 0 {
			t.Errorf("%d live, %v", n, err)
		}
		lost, err := s.Find(t.Context(), call.Abandoned{NotOn: []webhooks.EdgeID{"edge_1"}, QuietSince: db.Now().Add(time.Hour)}, 10)
		if err != nil || len(lost) != 0 {
			t.Errorf("lost %v, %v", lost, err)
		}
	})
}

func TestACallThatWaitedTooLongEndsAndSaysSo(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		l := &limited{}
		e.prepare = l.prepare
		c := calling(t, server, "a", 30, http.StatusCreated)
		if _, err := d.Write().NewRaw("UPDATE outbox SET available_at = ?", db.Now()).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.left = 5
		for range 2 {
			if err := s.Dispatch(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := get(t, s, webhooks.CallID(c.ID))
		if got.Cause != webhooks.CauseOverload || got.Status != webhooks.StatusFailed || got.EndedAt == nil || !strings.Contains(got.Reason, "30 seconds") || !strings.Contains(got.ReasonZH, "30") {
			t.Errorf("ended as %+v", got)
		}
		if got := stored(t, server, webhooks.CallID(c.ID)); !slices.Equal(got, []string{"1 call.initiated", "2 call.ended"}) || l.sent != nil {
			t.Errorf("events %v, sent %v", got, l.sent)
		}
	})
}

func TestACallThatWaitsIsHungUp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		l := &limited{}
		e.prepare = l.prepare
		e.act = func(webhooks.EdgeID, call.Action) error {
			t.Error("an edge was told")
			return nil
		}
		c := calling(t, server, "a", 30, http.StatusCreated)
		path := "/v1/calls/" + c.ID + "/actions"
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, path, map[string]any{"op": "mute"}), http.StatusConflict, nil)
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, path, map[string]any{"op": "hangup"}), http.StatusAccepted, nil)
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, path, map[string]any{"op": "hangup"}), http.StatusConflict, nil)
		l.left = 5
		if err := s.Dispatch(t.Context()); err != nil || l.sent != nil {
			t.Errorf("sent %v, %v", l.sent, err)
		}
		if got := get(t, s, webhooks.CallID(c.ID)); got.Cause != webhooks.CauseAPIHangup || got.Status != webhooks.StatusCanceled {
			t.Errorf("ended as %+v", got)
		}
		if got := stored(t, server, webhooks.CallID(c.ID)); !slices.Equal(got, []string{"1 call.initiated", "2 call.action.completed", "3 call.ended"}) {
			t.Errorf("events %v", got)
		}
		n, err := d.Read().NewSelect().Model((*db.Message)(nil)).Count(t.Context())
		if err != nil || n != 0 {
			t.Errorf("%d messages are left, %v", n, err)
		}
	})
}

func TestACallThatNoEdgeTakesWaitsOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		l := &limited{}
		e.prepare = l.prepare
		calling(t, server, "a", 60, http.StatusCreated)
		calling(t, server, "b", 60, http.StatusCreated)
		for _, failure := range []error{call.ErrBusy, call.ErrAway} {
			l.left, l.fails = 5, failure
			if err := s.Dispatch(t.Context()); err != nil || l.sent != nil {
				t.Errorf("sent %v, %v", l.sent, err)
			}
		}
		l.wrong = problem.Unavailable("no edge takes new calls", time.Second)
		if err := s.Dispatch(t.Context()); err != nil {
			t.Error(err)
		}
		l.left, l.wrong = 5, nil
		if err := s.Dispatch(t.Context()); err != nil || !slices.Equal(l.sent, []string{"a", "b"}) {
			t.Errorf("sent %v, %v", l.sent, err)
		}
	})
}

func TestACallThatCannotBeStartedAnyMoreEnds(t *testing.T) {
	server, s, e := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	l := &limited{}
	e.prepare = l.prepare
	c := calling(t, server, "a", 60, http.StatusCreated)
	l.wrong = errors.New("the database is away")
	if err := s.Dispatch(t.Context()); err == nil {
		t.Error("nothing was said")
	}
	l.wrong = problem.Refused("there is no application app_1")
	if err := s.Dispatch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, webhooks.CallID(c.ID)); got.Cause != webhooks.CauseNotAllowed || !strings.Contains(got.Reason, "no application app_1") {
		t.Errorf("ended as %+v", got)
	}
}
