package call_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// ids lists the ids of a list's answer.
func ids(t *testing.T, s *resttest.Server, token, query string) string {
	t.Helper()
	var page struct{ Data []struct{ ID string } }
	resttest.Want(t, s.Do(t, token, http.MethodGet, "/v1/calls"+query, nil), http.StatusOK, &page)
	var all []string
	for _, c := range page.Data {
		all = append(all, c.ID)
	}
	return strings.Join(all, " ")
}

func TestCallsAreListedByTheirFields(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		publish(t, s, "call_1", whole()...)
		publish(t, s, "call_2", whole()[:1]...)
		child := whole()[:3]
		child[0].Data.ParentCallID, child[0].Data.From, child[0].Data.Direction = "call_2", "1001", webhooks.OutboundDial
		publish(t, s, "call_3", child...)
		for query, want := range map[string]string{
			"?sort=created_at":  "call_1 call_2 call_3",
			"?status=completed": "call_1",
			"?status=ringing&status=completed&sort=created_at": "call_1 call_2",
			"?from=1001": "call_3",
			"?from=" + url.QueryEscape("+8613800138000") + "&sort=created_at": "call_1 call_2",
			"?direction=outbound_dial":                                        "call_3",
			"?parent_call_id=call_2":                                          "call_3",
			"?conversation_id=conv_1&sort=-created_at":                        "call_3 call_2 call_1",
			"?cause=caller_hangup":                                            "call_1",
			"?application_id=app_2":                                           "",
			"?started_at[gte]=2026-01-31T08:00:01Z":                           "",
			"?started_at[lt]=2026-01-31T08:00:01Z&sort=-started_at":           "call_3 call_2 call_1",
			"?sort=created_at&limit=2":                                        "call_1 call_2",
		} {
			if got := ids(t, server, resttest.Token, query); got != want {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		if got := ids(t, server, resttest.Other, ""); got != "" {
			t.Errorf("another account sees %q", got)
		}
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodGet, "/v1/calls?sort=cause", nil), http.StatusBadRequest, nil)
	})
}

func TestCallsThatAreNamedAreFoundByTheirIDs(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	_, s, _ := mount(t, d)
	publish(t, s, "call_1", whole()...)
	publish(t, s, "call_2", whole()...)
	q, err := list.Table{Fields: list.Common(nil)}.Parse(url.Values{"id": {"call_2", "call_3"}})
	if err != nil {
		t.Fatal(err)
	}
	var asked *bun.SelectQuery
	page, err := list.Run[call.Call](t.Context(), d, auth.Account(resttest.Account), q, func(s *bun.SelectQuery) *bun.SelectQuery {
		asked = s
		return s
	})
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != "call_2" {
		t.Fatalf("%+v, %v", page, err)
	}
	rows, err := d.Read().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+asked.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	plan := ""
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan += detail + "\n"
	}
	if rows.Err() != nil || !strings.Contains(plan, "(id=?)") {
		t.Errorf("of %s the plan is\n%s", asked, plan)
	}
}

func TestACallsEventsArePagedBySequence(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		publish(t, s, "call_1", whole()...)
		type page struct {
			Data       []webhooks.Event
			NextCursor string `json:"next_cursor"`
			Total      int
		}
		read := func(query string) (got string, p page) {
			resttest.Want(t, server.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/events?"+query, nil), http.StatusOK, &p)
			for _, e := range p.Data {
				got += fmt.Sprint(e.Sequence)
			}
			return got, p
		}
		for query, want := range map[string]string{
			"": "123456", "after=4": "56", "sort=-sequence&limit=2": "65", "type=dtmf&type=call.ended": "45", "after=2&limit=2": "34", "sort=-sequence&after=5": "6",
		} {
			if got, _ := read(query); got != want {
				t.Errorf("%q: %s, want %s", query, got, want)
			}
		}
		all, cursor := "", ""
		for {
			got, p := read("limit=4&count=true&cursor=" + cursor)
			if p.Total != 6 {
				t.Errorf("total %d", p.Total)
			}
			all += got
			if cursor = p.NextCursor; cursor == "" {
				break
			}
		}
		if all != "123456" {
			t.Errorf("by pages: %s", all)
		}
		_, p := read("type=call.ended")
		if p.Data[0].Data.CDR == nil || p.Data[0].Data.CDR.TalkTime != 2 || p.Data[0].CallID != "call_1" || p.Data[0].AccountID != resttest.Account {
			t.Errorf("%+v", p.Data[0])
		}
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/events?cursor=x", nil), http.StatusBadRequest, nil)
		resttest.Want(t, server.Do(t, resttest.Other, http.MethodGet, "/v1/calls/call_1/events", nil), http.StatusNotFound, nil)
	})
}

func TestACallIsRecordedBeforeAnEdgeStartsIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		var asked call.Origination
		e.prepare = func(o call.Origination) (call.Prepared, error) {
			asked = o
			return call.Prepared{EdgeID: "edge_1", BootID: "boot_1", ApplicationID: o.ApplicationID, Send: func(ctx context.Context) error {
				c, err := s.Get(ctx, o.CallID)
				if err != nil || c.Status != webhooks.StatusQueued {
					t.Errorf("when the edge is told: %+v, %v", c, err)
				}
				// The edge's first event comes before its answer.
				events := story(webhooks.EventCallInitiated)
				events[0].Data.To, events[0].Data.ApplicationID = "+8613900139000", ""
				publish(t, s, o.CallID, events...)
				return nil
			}}, nil
		}
		body := map[string]any{
			"to": map[string]any{"number": "+8613900139000"}, "from": "+862368925278", "application_id": "app_1", "timeout": 20, "time_limit": 600,
			"caller_name": "Acme", "headers": map[string]any{"X-Order": "7"}, "send_digits": "1w2", "record": true, "trunk_id": "carrier",
			"data": map[string]any{"order": "7"}, "external_id": "order-7", "metadata": map[string]any{"a": 1.0},
			"status_url": "https://example.com/status", "machine_detection": map[string]any{"mode": "message_end", "async": true},
		}
		var c call.Call
		w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body)
		resttest.Want(t, w, http.StatusCreated, &c)
		if c.Status != webhooks.StatusQueued || c.Direction != webhooks.OutboundAPI || c.To != "+8613900139000" || *c.ExternalID != "order-7" || w.Header().Get("Location") != "/v1/calls/"+c.ID {
			t.Errorf("answered %+v", c)
		}
		if asked.AccountID != resttest.Account || asked.Target.Trunk != "carrier" || asked.Timeout != 20 || asked.TimeLimit != 600 || asked.CallerName != "Acme" ||
			asked.Headers["X-Order"] != "7" || asked.SendDigits != "1w2" || !asked.Record || asked.Data["order"] != "7" || asked.ExternalID != "order-7" || asked.From != "+862368925278" {
			t.Errorf("asked %+v", asked)
		}
		if m := asked.MachineDetection; asked.StatusURL != "https://example.com/status" || m == nil || m.Mode != "message_end" || !m.Async || m.Timeout != 30 {
			t.Errorf("asked to tell %s, and to detect %+v", asked.StatusURL, m)
		}
		got := get(t, s, webhooks.CallID(c.ID))
		if got.Status != webhooks.StatusRinging || got.ApplicationID != "app_1" || got.Metadata["a"] != 1.0 || got.Data["order"] != "7" || got.ExternalID == nil {
			t.Errorf("after its first event: %+v", got)
		}
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body), http.StatusConflict, nil)
	})
}

func TestDraftsThatNoCallCanBeMadeOf(t *testing.T) {
	server, _, e := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	e.prepare = func(call.Origination) (call.Prepared, error) {
		t.Error("an edge was looked for")
		return call.Prepared{}, errors.New("no")
	}
	to := map[string]any{"extension": "1001"}
	for name, c := range map[string]struct {
		body   map[string]any
		status int
		want   string
	}{
		"nothing to run":           {map[string]any{"to": to}, 400, "exactly one"},
		"two things to run":        {map[string]any{"to": to, "application_id": "app_1", "url": "https://example.com/"}, 400, "exactly one"},
		"nobody to call":           {map[string]any{"to": map[string]any{}, "application_id": "app_1"}, 400, "/to"},
		"two to call":              {map[string]any{"to": map[string]any{"extension": "1001", "number": "10086"}, "application_id": "app_1"}, 400, "/to"},
		"a relative URL":           {map[string]any{"to": to, "url": "/voice"}, 400, "/url"},
		"a Lambda":                 {map[string]any{"to": to, "url": "lambda:hello"}, 400, "/url"},
		"an unknown verb":          {map[string]any{"to": to, "program": []any{map[string]any{"verb": "sing"}}}, 400, "/program/0"},
		"a header of SIP's":        {map[string]any{"to": to, "application_id": "app_1", "headers": map[string]any{"Via": "x"}}, 400, "/headers"},
		"a caller ID of text":      {map[string]any{"to": to, "application_id": "app_1", "from": "Acme <sip:a>"}, 400, "/from"},
		"wrong digits":             {map[string]any{"to": to, "application_id": "app_1", "send_digits": "1x"}, 400, "/send_digits"},
		"a trunk inside":           {map[string]any{"to": to, "application_id": "app_1", "trunk_id": "carrier"}, 400, "/trunk_id"},
		"too much data":            {map[string]any{"to": to, "application_id": "app_1", "data": map[string]any{"x": strings.Repeat("x", 17000)}}, 422, "/data"},
		"a flow":                   {map[string]any{"to": to, "flow_id": "flow_1"}, 400, "flow_id"},
		"wrong detection":          {map[string]any{"to": to, "application_id": "app_1", "machine_detection": map[string]any{"timeout": 500}}, 400, "/machine_detection/timeout"},
		"detection told to a path": {map[string]any{"to": to, "application_id": "app_1", "machine_detection": map[string]any{"status_url": "/amd"}}, 400, "/machine_detection/status_url"},
		"status to a path":         {map[string]any{"to": to, "application_id": "app_1", "status_url": "/status"}, 400, "/status_url"},
		"connected and asked":      {map[string]any{"to": to, "application_id": "app_1", "connect": map[string]any{"extension": "1002"}}, 400, "exactly one"},
		"connected to nobody":      {map[string]any{"to": to, "connect": map[string]any{"first": "agent"}}, 400, "/connect"},
		"connected to two":         {map[string]any{"to": to, "connect": map[string]any{"extension": "1002", "agent_id": "agt_1"}}, 400, "/connect"},
	} {
		w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestACallThatNoEdgeTookLeavesNoRecord(t *testing.T) {
	server, _, e := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	body := map[string]any{"to": map[string]any{"extension": "1001"}, "application_id": "app_1"}
	failure := call.ErrBusy
	e.prepare = func(call.Origination) (call.Prepared, error) {
		return call.Prepared{EdgeID: "edge_1", Send: func(context.Context) error { return failure }}, nil
	}
	w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body)
	resttest.Want(t, w, http.StatusServiceUnavailable, nil)
	if w.Header().Get("Retry-After") == "" || ids(t, server, resttest.Token, "") != "" {
		t.Errorf("refused: %s, calls %q", w.Header(), ids(t, server, resttest.Token, ""))
	}
	failure = call.ErrAway
	resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body), http.StatusServiceUnavailable, nil)
	if got := ids(t, server, resttest.Token, ""); got != "" {
		t.Errorf("with an edge that is away: calls %q", got)
	}
	// Nobody knows whether the edge took this one; its record stays until that is known.
	failure = errors.New("the connection is gone")
	resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body), http.StatusServiceUnavailable, nil)
	if ids(t, server, resttest.Token, "") == "" {
		t.Error("the record is gone")
	}
}
