package edges_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// deployments are the ways in which an edge reaches a control plane: in its process, and over the network.
func deployments(t *testing.T, h *house) map[string]control.Control {
	t.Helper()
	server := httptest.NewUnstartedServer(&control.Handler{
		Control: h.Service, Authorize: func(context.Context, string) error { return nil },
		Attach: func(webhooks.EdgeID, control.Edge) func() { return func() {} }, Log: slog.New(slog.DiscardHandler),
	})
	server.Config.Protocols = control.Protocols()
	server.Start()
	t.Cleanup(server.Close)
	client, err := control.NewClient(control.ClientConfig{URL: server.URL, Token: "edge", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return map[string]control.Control{"one process": h.Service, "two processes": client}
}

// fromOutside is a call that comes in by a trunk.
func fromOutside(from string) control.Incoming {
	return control.Incoming{
		CallID: webhooks.NewCallID(), FromUser: from, FromHost: "carrier.example", ToUser: "+862368925278", Source: netip.MustParseAddrPort("198.51.100.7:5060"),
	}
}

// program is what a route runs, as JSON; "" for what is asked of an application.
func program(t *testing.T, r control.Route) string {
	t.Helper()
	if r.Application.Program == nil {
		return ""
	}
	text, err := json.Marshal(r.Application.Program)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestACallerOnTheBlockListIsRejected(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		n := h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278", "application_id": h.application(t, resttest.Token, "voice")})
		h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7", "networks": []string{"198.51.100.0/24"}, "max_calls": 1})
		pattern := h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "pattern", "number": "1705*"})
		h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "number", "number": "17051234567", "action": "allow"})
		hidden := h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "anonymous"})
		h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "number", "number": "13800138000", "direction": "out"})
		h.add(t, resttest.Other, "blocklist_entries", map[string]any{"kind": "pattern", "number": "*"})
		for name, c := range deployments(t, h) {
			for _, want := range []struct{ from, entry string }{
				{"17055555555", pattern}, {"+8617055555555", pattern}, {"anonymous", hidden}, {"17051234567", ""}, {"13800138000", ""},
			} {
				in := fromOutside(want.from)
				r, err := c.Route(t.Context(), in)
				if err != nil {
					t.Fatalf("%s: %s: %v", name, want.from, err)
				}
				runs := program(t, r)
				if (want.entry == "") != (runs == "") || !strings.Contains(runs, want.entry) {
					t.Errorf("%s: %s: runs %q, want entry %q", name, want.from, runs, want.entry)
				}
				if want.entry != "" && (r.KeepFor != 0 || r.To != "+862368925278" || string(r.NumberID) != n || !strings.Contains(runs, `"sip_code":603`)) {
					t.Errorf("%s: %s: %+v runs %s", name, want.from, r, runs)
				}
				if want.entry == "" && r.KeepFor == 0 {
					t.Errorf("%s: %s: the route is not kept", name, want.from)
				}
				h.pass(11e9) // no reservation of the trunk's one call is left over
			}
		}
		if err := h.Blocklist.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		var e struct{ Hits int }
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/blocklist_entries/"+pattern, nil), http.StatusOK, &e)
		if e.Hits != 4 {
			t.Errorf("%d hits, want 4", e.Hits)
		}
	})
}

func TestABlockedCallerIsAnsweredAsTheAccountSays(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278", "application_id": h.application(t, resttest.Token, "voice")})
	h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7", "networks": []string{"198.51.100.0/24"}})
	h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "pattern", "number": "1705*"})
	for answer, want := range map[string]string{
		"decline": `"sip_code":603`, "busy": `"reason":"busy"`, "not_found": `"sip_code":404`, "unavailable": `"sip_code":480`,
	} {
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPut, "/v1/settings/blocklist_answer", map[string]any{"value": answer}), http.StatusOK, nil)
		r, err := h.Route(t.Context(), fromOutside("17055555555"))
		if err != nil {
			t.Fatal(err)
		}
		if runs := program(t, r); !strings.Contains(runs, want) {
			t.Errorf("%s: runs %s", answer, runs)
		}
	}
}

func TestANumberOnTheBlockListIsNotCalled(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278"})
		h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7"})
		phone := h.extension(t, resttest.Token, "1001", nil)
		h.register(t, phone, "sip:1001@10.0.0.7", "198.51.100.7:40000")
		abroad := h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "pattern", "number": "+1900*", "direction": "out", "reason": "premium rate"})
		all := h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "pattern", "number": "1*", "direction": "both"})
		h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "number", "number": "13800138000", "direction": "out", "action": "allow"})
		h.add(t, resttest.Token, "blocklist_entries", map[string]any{"kind": "number", "number": "13800138001", "direction": "in", "action": "allow"})
		for name, c := range deployments(t, h) {
			for _, want := range []struct {
				target webhooks.DialTarget
				entry  string
			}{
				{webhooks.DialTarget{Number: "+19005550123"}, abroad},
				{webhooks.DialTarget{SIP: "sip:+19005550123@gw.example"}, abroad},
				{webhooks.DialTarget{Number: "13800138001"}, all},
				{webhooks.DialTarget{Number: "+8613800138001", Trunk: "carrier"}, all},
				{webhooks.DialTarget{Number: "13800138000"}, ""},
				{webhooks.DialTarget{Number: "02368920000"}, ""},
				{webhooks.DialTarget{Number: "110"}, ""},  // an emergency number
				{webhooks.DialTarget{Number: "1001"}, ""}, // an extension is not outside
				{webhooks.DialTarget{Extension: "1001"}, ""},
			} {
				_, err := c.Resolve(t.Context(), control.ResolveQuery{AccountID: resttest.Account, Target: want.target})
				if want.entry == "" {
					if err != nil {
						t.Errorf("%s: %+v: %v", name, want.target, err)
					}
					continue
				}
				var refusal *control.Error
				if !errors.As(err, &refusal) || refusal.Code != control.CodeNotAllowed || refusal.Cause != webhooks.CauseNotAllowed || !strings.Contains(refusal.Message, want.entry) {
					t.Errorf("%s: %+v: %v, want entry %s", name, want.target, err, want.entry)
				}
				if strings.Contains(err.Error(), "900555") || strings.Contains(err.Error(), "1380013") {
					t.Errorf("%s: the refusal shows the number: %v", name, err)
				}
			}
		}
	})
}

func TestASuspendedAccountHasNoCalls(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		voice := h.application(t, resttest.Token, "voice")
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278", "application_id": voice})
		h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7", "networks": []string{"198.51.100.0/24"}})
		phone := webhooks.CredentialID(h.extension(t, resttest.Token, "1001", nil))
		h.register(t, string(phone), "sip:1001@10.0.0.7", "198.51.100.7:40000")
		h.beat(t, "edge_1", "boot_1", 0)
		_, detach := h.attach(t, "edge_1", nil)
		defer detach()
		ask := func(c control.Control) []error {
			_, byTrunk := c.Route(t.Context(), fromOutside("13800138000"))
			_, byPhone := c.Route(t.Context(), control.Incoming{CallID: webhooks.NewCallID(), CredentialID: phone, ToUser: "1001"})
			_, out := c.Resolve(t.Context(), control.ResolveQuery{AccountID: resttest.Account, Target: webhooks.DialTarget{Extension: "1001"}})
			return []error{byTrunk, byPhone, out}
		}
		start := func() int {
			return h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{"to": map[string]any{"extension": "1001"}, "application_id": voice}).Code
		}
		for name, c := range deployments(t, h) {
			for i, err := range ask(c) {
				if err != nil {
					t.Errorf("%s: %d: %v", name, i, err)
				}
			}
		}
		if got := start(); got != http.StatusCreated {
			t.Errorf("a call by the API: %d", got)
		}
		h.isSuspended = true
		for name, c := range deployments(t, h) {
			for i, err := range ask(c) {
				if said(err) != "not_allowed" {
					t.Errorf("%s: suspended: %d: %v", name, i, err)
				}
			}
		}
		if got := start(); got != http.StatusForbidden {
			t.Errorf("suspended: a call by the API: %d", got)
		}
	})
}
