package edges_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/edges"
	"github.com/hookswitch/hookswitch/controlplane/media"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// house is a whole control plane but for its listeners, with resttest's two accounts: test.example and other.example.
type house struct {
	*resttest.Server
	*edges.Service
	calls *call.Service
	web   *http.Client
	// isSuspended is what Suspended says of every account.
	isSuspended bool

	mu  sync.Mutex // guards now
	now time.Time
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func newHouse(t *testing.T, d *db.DB) *house {
	t.Helper()
	spec, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(web.Close)
	blobs, err := blob.Open(t.Context(), "file:"+t.TempDir(), blob.Options{BaseURL: web.URL, Secret: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	handler = blobs.Handler()
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	h := &house{web: web.Client(), now: db.Now()}
	clock := func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	}
	accounts := &account.Service{DB: d}
	numbers := &number.Service{DB: d, Accounts: accounts}
	customers := &customer.Service{DB: d}
	h.calls = &call.Service{DB: d, Customers: customers}
	h.Service = &edges.Service{
		DB: d, Bus: b, Accounts: accounts, Apps: &app.Service{DB: d}, Numbers: numbers, Trunks: &trunk.Service{DB: d, Numbers: numbers},
		Credentials: &credential.Service{DB: d, Numbers: numbers}, Calls: h.calls, Recordings: &recording.Service{DB: d, Blobs: blobs, Calls: h.calls},
		Files: &media.Service{DB: d, Blobs: blobs}, Customers: customers, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: clock,
	}
	h.Agents = &agent.Service{DB: d}
	h.Blocklist = &blocklist.Service{DB: d, Accounts: accounts, Log: h.Log}
	h.Settings = &setting.Service{DB: d, Now: clock}
	h.Suspended = func(context.Context, webhooks.AccountID) (bool, error) { return h.isSuspended, nil }
	h.calls.Also = append(h.calls.Also, h.Recordings.Apply)
	h.calls.Edges = h.Service
	operations := map[string]rest.Operation{}
	for _, noun := range []interface {
		Operations() map[string]rest.Operation
	}{h.Apps, numbers, h.Credentials, h.Trunks, customers, h.calls, h.Recordings, h.Blocklist, h.Settings} {
		maps.Copy(operations, noun.Operations())
	}
	h.Server = resttest.Mount(t, d, spec, operations)
	for host, id := range map[string]string{"test.example": resttest.Account, "other.example": resttest.OtherAccount} {
		if _, err := d.Write().NewRaw("INSERT INTO domains (domain, account_id, position) VALUES (?, ?, 0)", host, id).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// add makes an object by the REST API and gives its id.
func (h *house) add(t *testing.T, token, things string, body map[string]any) string {
	t.Helper()
	var made struct{ ID string }
	resttest.Want(t, h.Do(t, token, http.MethodPost, "/v1/"+things, body), http.StatusCreated, &made)
	return made.ID
}

func (h *house) application(t *testing.T, token, name string) string {
	t.Helper()
	return h.add(t, token, "applications", map[string]any{"name": name, "voice_url": "https://example.com/" + name})
}

func (h *house) extension(t *testing.T, token, digits string, more map[string]any) string {
	t.Helper()
	body := map[string]any{"extension": digits, "password": "correct horse"}
	maps.Copy(body, more)
	return h.add(t, token, "credentials", body)
}

// agent makes a user the agent at an extension, "" for none, and gives the agent's id. The external_id is the user's name.
func (h *house) agent(t *testing.T, account, name, credential string) string {
	t.Helper()
	_, err := h.Service.DB.Write().NewRaw(`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, login, name, role_ids, status)
		VALUES (?, ?, '{}', ?, ?, '1', ?, ?, ?, '[]', 'active')`, "usr_"+name, account, db.Now(), db.Now(), "usr_"+name, name, name).Exec(t.Context())
	a := agent.Agent{
		Row: db.Row{ID: "agt_" + name, AccountID: account, ExternalID: &name}, Owned: db.Owned{OwnerID: "usr_" + name}, UserID: "usr_" + name,
		Draft: agent.Draft{CredentialID: credential}, Presence: agent.Offline, Work: agent.Idle,
	}
	if err = errors.Join(err, db.Insert(t.Context(), h.Service.DB, auth.Account(account), &a)); err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// register signs a phone in for an extension.
func (h *house) register(t *testing.T, id, contact, source string) {
	t.Helper()
	_, err := h.Register(t.Context(), control.Registration{
		EdgeID: "edge_1", AccountID: resttest.Account, CredentialID: webhooks.CredentialID(id), SIPCallID: contact, CSeq: 1,
		Source: netip.MustParseAddrPort(source), Transport: "udp", Contacts: []control.Contact{{URI: contact, Expires: 600}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) beat(t *testing.T, edge webhooks.EdgeID, boot string, calls int) {
	t.Helper()
	err := h.Beat(t.Context(), control.Beat{EdgeID: edge, BootID: boot, Calls: calls, SIP: netip.MustParseAddrPort("192.0.2.1:5060"), At: db.Now()})
	if err != nil {
		t.Fatal(err)
	}
}

func ownerOf(id webhooks.CallID, boot string) control.Owner {
	return control.Owner{EdgeID: "edge_1", BootID: boot, Epoch: 1, AccountID: resttest.Account, CallID: id}
}

// initiate publishes the first event of a call.
func (h *house) initiate(t *testing.T, id webhooks.CallID, boot string, at time.Time, data webhooks.EventData) {
	t.Helper()
	e := webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: at, Data: data}
	if _, err := h.Publish(t.Context(), control.Batch{Owner: ownerOf(id, boot), Events: []webhooks.Event{e}}); err != nil {
		t.Fatal(err)
	}
}

// said is a refusal's code and cause.
func said(err error) string {
	var refusal *control.Error
	if errors.As(err, &refusal) {
		return strings.TrimSpace(string(refusal.Code) + " " + refusal.Realm)
	}
	return fmt.Sprint(err)
}

func TestWhoseSecretsAnEdgeMayCheck(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		mine := h.extension(t, resttest.Token, "1001", nil)
		other := h.extension(t, resttest.Other, "1001", nil)
		for _, c := range []struct {
			domain, user string
			fallback     webhooks.AccountID
			want, realm  string
		}{
			{"test.example", "1001", "", mine, "test.example"},
			{"TEST.example", "1001", "", mine, "test.example"},
			{"other.example", "1001", "", other, "other.example"},
			{"test.example", "1002", "", "", "test.example"}, // looks like a wrong password
			{"test.example", "alice", "", "", "test.example"},
			{"192.0.2.1", "1001", resttest.Account, mine, "test.example"},
			{"[2001:db8::1]", "1001", resttest.OtherAccount, other, "other.example"},
			{"192.0.2.1", "1001", "", "silence", ""},
			{"stranger.example", "1001", resttest.Account, "silence", ""},
		} {
			h.DefaultAccount = c.fallback
			got, err := h.Credential(t.Context(), control.CredentialQuery{Domain: c.domain, Username: c.user})
			if c.want == "silence" {
				if said(err) != "silence" {
					t.Errorf("%s@%s: %+v, %v", c.user, c.domain, got, err)
				}
				continue
			}
			if err != nil || got.Realm != c.realm || string(got.CredentialID) != c.want || got.Found != (c.want != "") || (got.HA1MD5 == "") == got.Found || (got.HA1SHA256 == "") == got.Found {
				t.Errorf("%s@%s: %+v, %v", c.user, c.domain, got, err)
			}
		}
	})
}

func TestRoutesOfEveryRule(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		h.DefaultAccount = resttest.Account
		voice, own := h.application(t, resttest.Token, "voice"), h.application(t, resttest.Token, "own")
		c1001 := h.extension(t, resttest.Token, "1001", nil)
		c1002 := h.extension(t, resttest.Token, "1002", map[string]any{"application_id": own})
		wang := h.agent(t, resttest.Account, "wang", c1002)
		n1 := h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278", "application_id": voice})
		n2 := h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925279", "credential_id": c1001})
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925270"})
		n4 := h.add(t, resttest.Token, "numbers", map[string]any{"number": "1000", "application_id": voice})
		h.add(t, resttest.Other, "numbers", map[string]any{"number": "+862368925000", "application_id": h.application(t, resttest.Other, "theirs")})
		t1 := h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7", "networks": []string{"198.51.100.0/24"}})
		t2 := h.add(t, resttest.Token, "trunks", map[string]any{
			"name": "ims", "address": "203.0.113.7", "networks": []string{"203.0.113.7/32"}, "caller_id_header": "p_asserted_identity",
		})
		for name, c := range map[string]struct {
			in   control.Incoming
			want string // "from to dialed, what runs, ids", or the refusal
		}{
			"a phone dials the account's number":        {control.Incoming{CredentialID: webhooks.CredentialID(c1001), ToUser: "02368925278"}, "1001 +862368925278 02368925278 " + voice + " " + n1 + " " + c1001},
			"a phone dials a short code":                {control.Incoming{CredentialID: webhooks.CredentialID(c1001), ToUser: "1000"}, "1001 1000 1000 " + voice + " " + n4 + " " + c1001},
			"a phone dials a number of an extension":    {control.Incoming{CredentialID: webhooks.CredentialID(c1002), ToUser: "+862368925279"}, "1002 +862368925279 +862368925279 dial:1001 " + n2 + " " + c1002 + " " + wang},
			"a phone dials an extension":                {control.Incoming{CredentialID: webhooks.CredentialID(c1001), ToUser: "1002"}, "1001 1002 1002 dial:1002 " + c1001},
			"a phone dials outside, by its application": {control.Incoming{CredentialID: webhooks.CredentialID(c1002), ToUser: "013800138000"}, "1002 +8613800138000 013800138000 " + own + " " + c1002 + " " + wang},
			"a phone dials outside, with none":          {control.Incoming{CredentialID: webhooks.CredentialID(c1001), ToUser: "013800138000"}, "not_found"},
			"a phone dials a number bound to nothing":   {control.Incoming{CredentialID: webhooks.CredentialID(c1001), ToUser: "+862368925270"}, "not_found"},
			"a phone that was deleted":                  {control.Incoming{CredentialID: "cred_gone", ToUser: "1002"}, "not_found"},
			"an extension without credentials":          {control.Incoming{FromUser: "1001", FromHost: "test.example", ToUser: "1002"}, "challenge test.example"},
			"an extension by the edge's address":        {control.Incoming{FromUser: "1001", FromHost: "192.0.2.1", ToUser: "1002"}, "challenge test.example"},
			"an extension from a trunk's network":       {control.Incoming{FromUser: "1001", FromHost: "test.example", ToUser: "+862368925278", Source: netip.MustParseAddrPort("198.51.100.7:5060")}, "challenge test.example"},
			"a trunk": {
				control.Incoming{FromUser: "13800138000", FromHost: "198.51.100.7", PAI: "999", ToUser: "02368925278", Source: netip.MustParseAddrPort("198.51.100.7:5060")},
				"+8613800138000 +862368925278 02368925278 " + voice + " " + n1 + " " + t1,
			},
			"a trunk, without +": {
				control.Incoming{FromUser: "+8613800138000", FromHost: "carrier.example", ToUser: "862368925279", Source: netip.MustParseAddrPort("198.51.100.9:7000")},
				"+8613800138000 +862368925279 862368925279 dial:1001 " + n2 + " " + t1,
			},
			"a trunk that asserts identities": {
				control.Incoming{FromUser: "anonymous", FromHost: "ims.example", PAI: "+8613800138000", ToUser: "+862368925278", Source: netip.MustParseAddrPort("203.0.113.7:5060")},
				"+8613800138000 +862368925278 +862368925278 " + voice + " " + n1 + " " + t2,
			},
			"a trunk, anonymous": {
				control.Incoming{FromUser: "anonymous", FromHost: "anonymous.invalid", ToUser: "+862368925278", Source: netip.MustParseAddrPort("198.51.100.7:5060")},
				"anonymous +862368925278 +862368925278 " + voice + " " + n1 + " " + t1,
			},
			"a trunk dials no number":                {control.Incoming{FromUser: "13800138000", FromHost: "x", ToUser: "+862300000000", Source: netip.MustParseAddrPort("198.51.100.7:5060")}, "not_found"},
			"a trunk dials an extension":             {control.Incoming{FromUser: "13800138000", FromHost: "x", ToUser: "1001", Source: netip.MustParseAddrPort("198.51.100.7:5060")}, "not_found"},
			"a trunk dials another account's number": {control.Incoming{FromUser: "13800138000", FromHost: "x", ToUser: "+862368925000", Source: netip.MustParseAddrPort("198.51.100.7:5060")}, "not_found"},
			"any other user of our domain":           {control.Incoming{FromUser: "alice", FromHost: "other.example", ToUser: "1001"}, "challenge other.example"},
			"a stranger":                             {control.Incoming{FromUser: "100", FromHost: "stranger.example", ToUser: "1001", Source: netip.MustParseAddrPort("192.0.2.66:5060")}, "silence"},
		} {
			c.in.CallID = webhooks.NewCallID()
			if !c.in.Source.IsValid() {
				c.in.Source = netip.MustParseAddrPort("192.0.2.66:5060")
			}
			r, err := h.Route(t.Context(), c.in)
			got := said(err)
			if err == nil {
				runs := string(r.Application.ID)
				if p := r.Application.Program; p != nil {
					runs = "dial:" + p.Instructions[0].(*webhooks.Dial).To[0].Extension
				}
				got = strings.Join(strings.Fields(fmt.Sprint(r.From, " ", r.To, " ", r.Dialed, " ", runs, " ", r.NumberID, " ", r.TrunkID, " ", r.CredentialID, " ", r.AgentID)), " ")
				if r.AccountID != resttest.Account || r.Language != "zh-CN" || r.KeepFor != 3600 {
					t.Errorf("%s: %+v", name, r)
				}
				if r.Application.ID != "" && (r.Application.VoiceURL == "" || len(r.Application.Secrets) != 1 || r.Application.BudgetMS == 0) {
					t.Errorf("%s: %+v", name, r.Application)
				}
			}
			if got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		}
	})
}

func TestACallFromACustomersNumberIsThatCustomers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		n := h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278", "application_id": h.application(t, resttest.Token, "voice")})
		h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7", "networks": []string{"198.51.100.0/24"}})
		phones := func(numbers ...string) map[string]any {
			all := []any{}
			for _, number := range numbers {
				all = append(all, map[string]any{"number": number})
			}
			return map[string]any{"name": "a", "phones": all}
		}
		first := h.add(t, resttest.Token, "customers", phones("+8613800138000", "+8613800138001"))
		second := h.add(t, resttest.Token, "customers", phones("+8613800138001"))
		h.add(t, resttest.Other, "customers", phones("+8613800138002"))
		for from, want := range map[string]string{"013800138000": first, "+8613800138001": second, "+8613800138002": "", "anonymous": ""} {
			r, err := h.Route(t.Context(), control.Incoming{
				CallID: webhooks.NewCallID(), FromUser: from, FromHost: "x", ToUser: "+862368925278", Source: netip.MustParseAddrPort("198.51.100.7:5060"),
			})
			if err != nil || string(r.CustomerID) != want || string(r.NumberID) != n {
				t.Errorf("from %s: %+v, %v; want %q", from, r, err, want)
			}
		}
		h.initiate(t, "call_1", "boot_1", h.now, webhooks.EventData{
			From: "+8613800138000", To: "+862368925278", Direction: webhooks.Inbound, CustomerID: webhooks.CustomerID(first),
		})
		var page struct {
			Data []struct {
				ID         string
				CustomerID string `json:"customer_id"`
				Customer   struct{ Name string }
			}
		}
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/calls?expand=customer&customer_id="+first, nil), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].ID != "call_1" || page.Data[0].CustomerID != first || page.Data[0].Customer.Name != "a" {
			t.Errorf("the customer's calls: %+v", page)
		}
	})
}

func TestATrunkCarriesItsMaxCalls(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278", "application_id": h.application(t, resttest.Token, "voice")})
		id := h.add(t, resttest.Token, "trunks", map[string]any{"name": "carrier", "address": "198.51.100.7", "networks": []string{"198.51.100.7/32"}, "max_calls": 2})
		route := func(call webhooks.CallID) string {
			_, err := h.Route(t.Context(), control.Incoming{
				CallID: call, FromUser: "13800138000", FromHost: "x", ToUser: "+862368925278", Source: netip.MustParseAddrPort("198.51.100.7:5060"),
			})
			return said(err)
		}
		data := webhooks.EventData{Direction: webhooks.Inbound, TrunkID: webhooks.TrunkID(id)}
		if got := route("call_1"); got != "<nil>" {
			t.Fatal(got)
		}
		h.initiate(t, "call_1", "boot_1", db.Now(), data)
		if got := route("call_2"); got != "<nil>" {
			t.Errorf("the second: %s", got)
		}
		if got := route("call_3"); got != "busy" {
			t.Errorf("the third, while the second has no record yet: %s", got)
		}
		h.pass(11 * time.Second) // the second never came to be
		if got := route("call_3"); got != "<nil>" {
			t.Errorf("the third: %s", got)
		}
		h.initiate(t, "call_3", "boot_1", db.Now(), data)
		if got := route("call_4"); got != "busy" {
			t.Errorf("the fourth: %s", got)
		}
		if _, err := h.calls.Lose(t.Context(), "call_1", db.Now()); err != nil {
			t.Fatal(err)
		}
		if got := route("call_4"); got != "<nil>" {
			t.Errorf("the fourth, after one ended: %s", got)
		}
	})
}

func TestAnAccountHasItsLimitOfCalls(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	h.add(t, resttest.Token, "numbers", map[string]any{"number": "1000", "application_id": h.application(t, resttest.Token, "voice")})
	c := h.extension(t, resttest.Token, "1001", nil)
	if _, err := h.Service.DB.Write().NewRaw(`UPDATE accounts SET limits = '{"calls": 1}'`).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := control.Incoming{CallID: "call_2", CredentialID: webhooks.CredentialID(c), ToUser: "1000"}
	if _, err := h.Route(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
	if _, err := h.Route(t.Context(), in); said(err) != "busy" {
		t.Errorf("Route: %v", err)
	}
	w := h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{"to": map[string]any{"extension": "1001"}, "url": "https://example.com/"})
	resttest.Want(t, w, http.StatusTooManyRequests, nil)
}

func TestTargetsBecomeHops(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		voice := h.application(t, resttest.Token, "voice")
		first := "+862368925278"
		h.add(t, resttest.Token, "numbers", map[string]any{"number": first, "application_id": voice})
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925280"})
		c1001 := h.extension(t, resttest.Token, "1001", map[string]any{"caller_id": "+862368925280"})
		c1002 := h.extension(t, resttest.Token, "1002", nil)
		c1003 := h.extension(t, resttest.Token, "1003", nil)
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925279", "credential_id": c1002})
		c2001 := h.extension(t, resttest.Other, "2001", nil)
		h.add(t, resttest.Other, "numbers", map[string]any{"number": "+862368925000"})
		h.register(t, c1001, "sip:1001@10.0.0.7:5062", "198.51.100.7:40000")
		h.register(t, c1002, "sip:1002@10.0.0.8", "198.51.100.8:5060")
		h.register(t, c1002, "sip:1002@10.0.0.9", "198.51.100.9:5060")
		full := h.add(t, resttest.Token, "trunks", map[string]any{"name": "full", "address": "203.0.113.1", "max_calls": 1})
		h.add(t, resttest.Token, "trunks", map[string]any{"name": "a", "address": "203.0.113.2", "port": 5070, "username": "u", "password": "p", "realm": "r"})
		h.add(t, resttest.Token, "trunks", map[string]any{
			"name": "b", "address": "gw.example", "transport": "tcp", "caller_id": "+862368925280", "caller_id_header": "p_asserted_identity",
		})
		h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{TrunkID: webhooks.TrunkID(full)})
		agent1, agent3 := h.agent(t, resttest.Account, "wang", c1001), h.agent(t, resttest.Account, "li", c1003)
		agent4, other1 := h.agent(t, resttest.Account, "zhao", ""), h.agent(t, resttest.OtherAccount, "wang2", c2001)

		phone1001 := "phone 0 sip:1001@10.0.0.7:5062 198.51.100.7:40000 udp"
		to := func(t webhooks.DialTarget, from, callerID string) control.ResolveQuery {
			return control.ResolveQuery{AccountID: resttest.Account, Target: t, From: from, CallerID: callerID}
		}
		mobile := webhooks.DialTarget{Number: "013900139000"}
		for name, c := range map[string]struct {
			q    control.ResolveQuery
			want []string // kind, rank, URI, destination, transport, caller ID, to; or the refusal
		}{
			"an extension":                        {to(webhooks.DialTarget{Extension: "1001"}, "1002", ""), []string{phone1001 + " 1002 1001"}},
			"an extension as a number":            {to(webhooks.DialTarget{Number: "1001"}, "1002", ""), []string{phone1001 + " 1002 1001"}},
			"an extension, for a caller outside":  {to(webhooks.DialTarget{Extension: "1001"}, "+8613800138000", ""), []string{phone1001 + " +8613800138000 1001"}},
			"an extension, for nobody":            {to(webhooks.DialTarget{Extension: "1001"}, "", ""), []string{phone1001 + " " + first + " 1001"}},
			"an extension, as the account":        {to(webhooks.DialTarget{Extension: "1001"}, "1002", "02368925278"), []string{phone1001 + " " + first + " 1001"}},
			"an extension, as another":            {to(webhooks.DialTarget{Extension: "1001"}, "1002", "1003"), []string{phone1001 + " 1003 1001"}},
			"an extension, as somebody else":      {to(webhooks.DialTarget{Extension: "1001"}, "1002", "+8613700137000"), []string{"not_allowed"}},
			"an extension with several phones":    {to(webhooks.DialTarget{Extension: "1002"}, "1001", ""), []string{"phone 0 sip:1002@10.0.0.8 198.51.100.8:5060 udp 1001 1002", "phone 0 sip:1002@10.0.0.9 198.51.100.9:5060 udp 1001 1002"}},
			"an extension with no phone":          {to(webhooks.DialTarget{Extension: "1003"}, "1001", ""), []string{"unreachable"}},
			"an extension of another account":     {to(webhooks.DialTarget{Extension: "2001"}, "1001", ""), []string{"not_found"}},
			"an own number of an extension":       {to(webhooks.DialTarget{Number: "02368925279"}, "1001", ""), []string{"phone 0 sip:1002@10.0.0.8 198.51.100.8:5060 udp 1001 +862368925279", "phone 0 sip:1002@10.0.0.9 198.51.100.9:5060 udp 1001 +862368925279"}},
			"an own number of an application":     {to(webhooks.DialTarget{Number: first}, "1001", ""), []string{"not_allowed"}},
			"an own number of nothing":            {to(webhooks.DialTarget{Number: "+862368925280"}, "1001", ""), []string{"not_found"}},
			"what is no number":                   {to(webhooks.DialTarget{Number: "*#06#"}, "1001", ""), []string{"not_found"}},
			"outside, by the trunks with room":    {to(mobile, "1002", ""), []string{"trunk 0 sip:+8613900139000@203.0.113.2:5070 203.0.113.2:5070 udp " + first + " +8613900139000", "trunk 1 sip:+8613900139000@gw.example:5060;transport=tcp gw.example:5060 tcp +862368925280 +8613900139000"}},
			"outside, from an extension with one": {to(webhooks.DialTarget{Number: "+8613900139000", Trunk: "a"}, "1001", ""), []string{"trunk 0 sip:+8613900139000@203.0.113.2:5070 203.0.113.2:5070 udp +862368925280 +8613900139000"}},
			"outside, as a number of the account": {to(webhooks.DialTarget{Number: "10086", Trunk: "a"}, "1002", "+862368925280"), []string{"trunk 0 sip:10086@203.0.113.2:5070 203.0.113.2:5070 udp +862368925280 10086"}},
			"outside, as an extension":            {to(webhooks.DialTarget{Number: "10086", Trunk: "a"}, "", "1001"), []string{"trunk 0 sip:10086@203.0.113.2:5070 203.0.113.2:5070 udp +862368925280 10086"}},
			"outside, as somebody else":           {to(mobile, "1002", "+8613700137000"), []string{"not_allowed"}},
			"outside, as another account":         {to(mobile, "1002", "+862368925000"), []string{"not_allowed"}},
			"outside, as the target says":         {to(webhooks.DialTarget{Number: "10086", Trunk: "a", CallerID: "+862368925280"}, "1002", ""), []string{"trunk 0 sip:10086@203.0.113.2:5070 203.0.113.2:5070 udp +862368925280 10086"}},
			"outside, by a trunk that is full":    {to(webhooks.DialTarget{Number: "10086", Trunk: full}, "1002", ""), []string{"unreachable"}},
			"outside, by no trunk":                {to(webhooks.DialTarget{Number: "10086", Trunk: "c"}, "1002", ""), []string{"not_allowed"}},
			"an agent":                            {to(webhooks.DialTarget{Agent: agent1}, "1002", ""), []string{phone1001 + " 1002 1001"}},
			"an agent by its external_id":         {to(webhooks.DialTarget{Agent: "wang"}, "1002", ""), []string{phone1001 + " 1002 1001"}},
			"an agent whose phone is signed out":  {to(webhooks.DialTarget{Agent: agent3}, "1002", ""), []string{"unreachable"}},
			"an agent without a phone":            {to(webhooks.DialTarget{Agent: agent4}, "1002", ""), []string{"unreachable"}},
			"an agent of another account":         {to(webhooks.DialTarget{Agent: other1}, "1002", ""), []string{"not_found"}},
			"a browser phone":                     {to(webhooks.DialTarget{Client: "wang"}, "1002", ""), []string{"not_allowed"}},
			"a SIP URI":                           {to(webhooks.DialTarget{SIP: "sip:bob@pbx.example;transport=tcp", Username: "u", Password: "p"}, "1001", ""), []string{"sip 0 sip:bob@pbx.example;transport=tcp 1001 bob"}},
			"a SIP URI over TLS":                  {to(webhooks.DialTarget{SIP: "sips:bob@pbx.example"}, "1001", ""), []string{"not_allowed"}},
			"nothing":                             {to(webhooks.DialTarget{}, "1001", ""), []string{"invalid"}},
		} {
			got, err := h.Resolve(t.Context(), c.q)
			lines := []string{}
			for _, hop := range got.Hops {
				lines = append(lines, strings.Join(strings.Fields(fmt.Sprint(hop.Kind, " ", hop.Rank, " ", hop.URI, " ", hop.Destination, " ", hop.Transport, " ", hop.CallerID, " ", hop.To)), " "))
			}
			if err != nil {
				lines = append(lines, said(err))
				var refusal *control.Error
				if !errors.As(err, &refusal) || refusal.Cause == "" || refusal.Message == "" {
					t.Errorf("%s: no cause or no sentence in %v", name, err)
				}
			}
			slices.Sort(lines)
			if !slices.Equal(lines, c.want) {
				t.Errorf("%s: %q, want %q", name, lines, c.want)
			}
		}
		got, err := h.Resolve(t.Context(), to(mobile, "1002", ""))
		if err != nil || got.Hops[0].Username != "u" || got.Hops[0].Password != "p" || got.Hops[0].Realm != "r" || got.Hops[0].PAI != "" || got.Hops[1].PAI != "+862368925280" {
			t.Errorf("%+v, %v", got, err)
		}
		// A person who may not see customers' numbers does not see them on the phone, but extensions and own numbers.
		h.MaskOf = func(_ context.Context, _ webhooks.AccountID, id webhooks.CredentialID) (auth.Mask, error) {
			return auth.Mask{Numbers: string(id) == c1001}, nil
		}
		for name, c := range map[string]struct {
			q             control.ResolveQuery
			caller, shown string
		}{
			"a customer to a masked phone":   {to(webhooks.DialTarget{Extension: "1001"}, "+8613800138000", ""), "+8613800138000", "************00"},
			"a customer to another phone":    {to(webhooks.DialTarget{Extension: "1002"}, "+8613800138000", ""), "+8613800138000", ""},
			"an extension to a masked phone": {to(webhooks.DialTarget{Extension: "1001"}, "1002", ""), "1002", ""},
			"the account to a masked phone":  {to(webhooks.DialTarget{Extension: "1001"}, "1002", "02368925278"), first, ""},
		} {
			got, err := h.Resolve(t.Context(), c.q)
			if err != nil || len(got.Hops) == 0 || got.Hops[0].CallerID != c.caller || got.Hops[0].Shown != c.shown {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		for _, c := range []struct {
			target webhooks.DialTarget
			want   string
		}{
			{webhooks.DialTarget{Agent: "wang"}, agent1}, {webhooks.DialTarget{Extension: "1001"}, agent1}, {webhooks.DialTarget{Extension: "1002"}, ""},
			{webhooks.DialTarget{Number: "10086", Trunk: "a"}, ""},
		} {
			got, err := h.Resolve(t.Context(), to(c.target, "1002", ""))
			if err != nil || string(got.Hops[0].AgentID) != c.want {
				t.Errorf("%+v is %+v, %v", c.target, got, err)
			}
		}
		other, err := h.Resolve(t.Context(), control.ResolveQuery{AccountID: resttest.OtherAccount, Target: mobile, From: "2001"})
		if said(err) != "not_allowed" {
			t.Errorf("an account without a trunk: %+v, %v", other, err)
		}
	})
}

func TestPhonesSignInAndOut(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		id := webhooks.CredentialID(h.extension(t, resttest.Token, "1001", nil))
		send := func(cseq uint32, star bool, contacts ...control.Contact) (control.Registered, error) {
			return h.Register(t.Context(), control.Registration{
				EdgeID: "edge_1", AccountID: resttest.Account, CredentialID: id, SIPCallID: "a", CSeq: cseq,
				Source: netip.MustParseAddrPort("198.51.100.7:5060"), Transport: "udp", Star: star, Contacts: contacts,
			})
		}
		got, err := send(1, false, control.Contact{URI: "sip:1001@10.0.0.7", Expires: 600, Q: 0.5})
		if err != nil || len(got.Contacts) != 1 || got.Contacts[0].URI != "sip:1001@10.0.0.7" || got.Contacts[0].Expires < 590 || got.Contacts[0].Expires > 610 || got.Contacts[0].Q != 0.5 {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := send(1, false, control.Contact{URI: "sip:1001@10.0.0.7", Expires: 600}); said(err) != "invalid" {
			t.Errorf("out of order: %v", err)
		}
		if got, err := send(2, false); err != nil || len(got.Contacts) != 1 {
			t.Errorf("a question: %+v, %v", got, err)
		}
		if got, err := send(3, true); err != nil || got.Contacts == nil || len(got.Contacts) != 0 {
			t.Errorf("all gone: %+v, %v", got, err)
		}
		id = "cred_gone"
		if _, err := send(4, true); said(err) != "not_found" {
			t.Errorf("a deleted extension: %v", err)
		}
	})
}

func TestEdgesFetchOnlyWhatIsTheAccounts(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for _, id := range []string{"med_1", "rec_1", "../x"} {
		if _, err := h.Media(t.Context(), control.MediaQuery{AccountID: resttest.Account, ID: id}); said(err) != "not_found" {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestRefusalsOfTheStoreCrossTheSeam(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
	o := ownerOf("call_1", "boot_1")
	o.Epoch = 0
	ringing := []webhooks.Event{{ID: "evt_1", Type: webhooks.EventCallRinging, Sequence: 2, OccurredAt: db.Now()}}
	if _, err := h.Publish(t.Context(), control.Batch{Owner: o, Events: ringing}); said(err) != "fenced" {
		t.Errorf("Publish: %v", err)
	}
	if _, err := h.Upload(t.Context(), control.Upload{Owner: o, RecordingID: "rec_1", Segment: 1, Size: 1}); said(err) != "fenced" {
		t.Errorf("Upload: %v", err)
	}
	if _, err := h.Finish(t.Context(), control.Finish{Owner: o, RecordingID: "rec_1", Codec: "PCMA", Channels: 1}); said(err) != "fenced" {
		t.Errorf("Finish: %v", err)
	}
	o.Epoch = 1
	if _, err := h.Upload(t.Context(), control.Upload{Owner: o, RecordingID: "rec_1", Segment: 1, Size: control.MaxSegment + 1}); said(err) != "invalid" {
		t.Errorf("a segment too large: %v", err)
	}
	if g, err := h.Upload(t.Context(), control.Upload{Owner: o, RecordingID: "rec_1", Segment: 1, Size: control.MaxSegment}); err != nil || g.URL == "" {
		t.Errorf("Upload: %+v, %v", g, err)
	}
	if got, err := h.Publish(t.Context(), control.Batch{Owner: o, Events: ringing}); err != nil || got.Expect != 3 {
		t.Errorf("Publish: %+v, %v", got, err)
	}
}

// edge is a scripted edge that keeps what it was asked.
func (h *house) attach(t *testing.T, id webhooks.EdgeID, answer error) (asked *[]control.Originate, detach func()) {
	t.Helper()
	asked = &[]control.Originate{}
	return asked, h.Attach(id, &controltest.Edge{
		OnOriginate: func(_ context.Context, o control.Originate) error {
			*asked = append(*asked, o)
			return answer
		},
		OnAct: func(context.Context, control.Action) error { return answer },
	})
}

func TestCallsGoToTheLiveEdgeWithTheFewest(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	application := h.application(t, resttest.Token, "voice")
	start := func() int {
		return h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{"to": map[string]any{"extension": "1001"}, "application_id": application}).Code
	}
	if got := start(); got != http.StatusServiceUnavailable {
		t.Errorf("without an edge: %d", got)
	}
	first, _ := h.attach(t, "edge_1", nil)
	second, detach := h.attach(t, "edge_2", nil)
	h.beat(t, "edge_1", "boot_1", 5)
	h.beat(t, "edge_2", "boot_2", 3)
	h.beat(t, "edge_3", "boot_3", 0) // connected to another process
	for range 4 {
		if got := start(); got != http.StatusCreated {
			t.Fatal(got)
		}
	}
	if len(*first) != 1 || len(*second) != 3 {
		t.Errorf("the first got %d, the second %d", len(*first), len(*second))
	}
	o := (*second)[0]
	if o.AccountID != resttest.Account || o.Application.ID != webhooks.ApplicationID(application) || o.Target.Extension != "1001" || o.Language != "zh-CN" || o.StartedAt.IsZero() || o.Timeout != 30 {
		t.Errorf("%+v", o)
	}
	detach()
	h.pass(4 * time.Second)
	if got := start(); got != http.StatusServiceUnavailable {
		t.Errorf("with edges that are silent: %d", got)
	}
	if err := h.Beat(t.Context(), control.Beat{EdgeID: "edge_1", BootID: "boot_1", Draining: true}); err != nil {
		t.Fatal(err)
	}
	if got := start(); got != http.StatusServiceUnavailable {
		t.Errorf("with an edge that drains: %d", got)
	}
	h.beat(t, "edge_1", "boot_1", 0)
	newer, _ := h.attach(t, "edge_1", &control.Error{Code: control.CodeBusy, Message: "full"})
	if got := start(); got != http.StatusServiceUnavailable || len(*newer) != 1 {
		t.Errorf("with an edge that is full: %d, asked %d times", got, len(*newer))
	}
	w := h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{"to": map[string]any{"extension": "1001"}, "application_id": "app_unknown"})
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/application_id") {
		t.Errorf("an unknown application: %d %s", w.Code, w.Body)
	}
}

func TestClickToCallRingsOneSideAndDialsTheOther(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		h.add(t, resttest.Token, "numbers", map[string]any{"number": "+862368925278"})
		c1001 := h.extension(t, resttest.Token, "1001", nil)
		wang := h.agent(t, resttest.Account, "wang", c1001)
		h.agent(t, resttest.Account, "zhao", "")
		h.beat(t, "edge_1", "boot_1", 0)
		asked, _ := h.attach(t, "edge_1", nil)
		call := func(connect map[string]any, more map[string]any) *httptest.ResponseRecorder {
			body := map[string]any{"to": map[string]any{"number": "013800138000"}, "connect": connect, "send_digits": "12", "headers": map[string]any{"X-Order": "7"}, "machine_detection": map[string]any{"async": true}}
			maps.Copy(body, more)
			return h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body)
		}
		var made struct{ From, To string }
		resttest.Want(t, call(map[string]any{"agent_id": "wang"}, map[string]any{"timeout": 20}), http.StatusCreated, &made)
		o := (*asked)[0]
		dial := o.Application.Program.Instructions[0].(*webhooks.Dial)
		if o.Target.Agent != wang || o.From != "+8613800138000" || o.ShowsCalled || o.SendDigits != "" || o.MachineDetection != nil || o.Headers != nil || o.Timeout != 20 || made.From != "+8613800138000" {
			t.Errorf("agent first: %+v, answered %+v", o, made)
		}
		if to := dial.To[0]; to.Number != "013800138000" || to.SendDigits != "12" || dial.CallerID != "1001" || dial.Timeout != 20 || dial.Headers["X-Order"] != "7" || dial.MachineDetection == nil {
			t.Errorf("agent first dials %+v", dial)
		}
		resttest.Want(t, call(map[string]any{"extension": "1001", "first": "customer"}, map[string]any{"from": "+862368925278"}), http.StatusCreated, &made)
		o = (*asked)[1]
		dial = o.Application.Program.Instructions[0].(*webhooks.Dial)
		if o.Target.Number != "013800138000" || o.From != "+862368925278" || !o.ShowsCalled || o.SendDigits != "12" || o.MachineDetection == nil || o.Headers["X-Order"] != "7" {
			t.Errorf("customer first: %+v", o)
		}
		if to := dial.To[0]; to.Extension != "1001" || dial.CallerID != "" || dial.On[string(webhooks.Busy)].Instructions == nil {
			t.Errorf("customer first dials %+v", dial)
		}
		for want, connect := range map[string]map[string]any{
			"/connect/extension": {"extension": "1009"}, "/connect/agent_id": {"agent_id": "nobody"}, "has no phone": {"agent_id": "zhao"},
		} {
			if w := call(connect, nil); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%v: %d %s", connect, w.Code, w.Body)
			}
		}
	})
}

func TestAURLAndAProgramAreSignedForByTheOldestApplication(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	asked, _ := h.attach(t, "edge_1", nil)
	h.beat(t, "edge_1", "boot_1", 0)
	body := map[string]any{"to": map[string]any{"number": "10086"}, "url": "https://example.com/x", "fallback_instructions": []any{map[string]any{"verb": "hangup"}}}
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body), http.StatusCreated, nil)
	h.application(t, resttest.Token, "first")
	h.application(t, resttest.Token, "second")
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{
		"to": map[string]any{"number": "10086"}, "program": []any{map[string]any{"verb": "hangup"}},
	}), http.StatusCreated, nil)
	a, b := (*asked)[0].Application, (*asked)[1].Application
	if a.VoiceURL != "https://example.com/x" || a.FallbackInstructions == nil || len(a.Secrets) != 0 || a.ID != "" {
		t.Errorf("a URL: %+v", a)
	}
	if b.Program == nil || len(b.Program.Instructions) != 1 || len(b.Secrets) != 1 {
		t.Errorf("a program: %+v", b)
	}
}

func TestALiveChangeThatTheEdgeRefuses(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
	hangUp := func() int {
		return h.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", `{"op":"hangup"}`).Code
	}
	if got := hangUp(); got != http.StatusServiceUnavailable {
		t.Errorf("no edge: %d", got)
	}
	for _, c := range []struct {
		answer error
		want   int
	}{
		{nil, 202}, {&control.Error{Code: control.CodeNotFound}, 409}, {&control.Error{Code: control.CodePrecondition}, 412}, {&control.Error{Code: control.CodeBusy}, 503},
		{&control.Error{Code: control.CodeUnsupported}, 422}, {errors.New("the connection is gone"), 503},
	} {
		_, detach := h.attach(t, "edge_1", c.answer)
		if got := hangUp(); got != c.want {
			t.Errorf("%v: %d, want %d", c.answer, got, c.want)
		}
		detach()
	}
}

// ends lists the calls whose end is stored, as "call_1 edge_lost".
func (h *house) ends(t *testing.T) string {
	t.Helper()
	var page struct{ Data []call.Call }
	resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/calls?limit=1000", nil), http.StatusOK, &page)
	var all []string
	for _, c := range page.Data {
		if c.EndedAt != nil {
			all = append(all, fmt.Sprint(c.ID, " ", c.Cause))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (h *house) sweep(t *testing.T) {
	t.Helper()
	if err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestADeadEdgesCallsEndOnceAndItsRecordingsAreFinished(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		h.beat(t, "edge_1", "boot_1", 1)
		h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
		_, err := h.Publish(t.Context(), control.Batch{Owner: ownerOf("call_1", "boot_1"), Events: []webhooks.Event{
			{ID: "evt_2", Type: webhooks.EventCallAnswered, Sequence: 2, OccurredAt: db.Now()},
			{ID: "evt_3", Type: webhooks.EventRecordingStarted, Sequence: 3, OccurredAt: db.Now(), Data: webhooks.EventData{RecordingID: "rec_1", Channels: 1, Codec: "PCMA"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		grant, err := h.Upload(t.Context(), control.Upload{Owner: ownerOf("call_1", "boot_1"), RecordingID: "rec_1", Segment: 1, Size: 8000})
		if err != nil {
			t.Fatal(err)
		}
		h.put(t, grant, make([]byte, 8000))
		h.pass(20 * time.Second)
		h.sweep(t)
		if got := h.ends(t); got != "" {
			t.Errorf("after 20 s: %s", got)
		}
		h.pass(time.Second)
		h.sweep(t)
		h.sweep(t)
		if got := h.ends(t); got != "call_1 edge_lost" {
			t.Errorf("after 21 s: %s", got)
		}
		var page struct{ Data []webhooks.Event }
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/events", nil), http.StatusOK, &page)
		var got []string
		for _, e := range page.Data {
			got = append(got, fmt.Sprint(e.Sequence, " ", e.Type))
		}
		if want := "1 call.initiated, 2 call.answered, 3 recording.started, 4 call.ended, 5 recording.completed"; strings.Join(got, ", ") != want {
			t.Errorf("stored %v, want %s", got, want)
		}
		cdr := page.Data[3].Data.CDR
		info := webhooks.CauseEdgeLost.Info()
		if cdr == nil || cdr.Cause != webhooks.CauseEdgeLost || cdr.Status != webhooks.StatusCompleted || cdr.EndedBy != webhooks.EndedBySystem || cdr.Reason != info.English+"." || cdr.ReasonZH != info.Chinese+"。" {
			t.Errorf("%+v", cdr)
		}
		var r recording.Recording
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/recordings/rec_1", nil), http.StatusOK, &r)
		if r.Status != recording.StatusCompleted || r.Duration != 1 || r.Failure == "" {
			t.Errorf("%+v", r)
		}
	})
}

func (h *house) put(t *testing.T, g control.UploadGrant, body []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, g.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range g.Headers {
		r.Header.Set(name, value)
	}
	w, err := h.web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Body.Close(); err != nil || w.StatusCode/100 != 2 {
		t.Fatal(w.Status, err)
	}
}

func TestAnEdgeThatStartsAnewEndsTheCallsOfItsFormerLife(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		h.beat(t, "edge_1", "boot_1", 2)
		h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
		h.pass(3 * time.Second)
		h.beat(t, "edge_1", "boot_2", 1)
		h.initiate(t, "call_2", "boot_2", db.Now(), webhooks.EventData{})
		// From the spool of the former life, published by this one.
		h.initiate(t, "call_3", "boot_2", db.Now().Add(-time.Hour), webhooks.EventData{})
		h.sweep(t)
		if got := h.ends(t); got != "" {
			t.Errorf("at once: %s", got)
		}
		h.pass(6 * time.Second)
		h.beat(t, "edge_1", "boot_2", 1)
		h.sweep(t)
		if got := h.ends(t); got != "call_1 edge_lost, call_3 edge_lost" {
			t.Errorf("after 6 s: %s", got)
		}
	})
}

func TestCallsThatNobodyHasAreEnded(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{}) // its edge never beat
	h.pass(19 * time.Second)
	h.sweep(t)
	if got := h.ends(t); got != "" {
		t.Errorf("after 19 s: %s", got)
	}
	h.pass(2 * time.Second)
	h.sweep(t)
	if got := h.ends(t); got != "call_1 edge_lost" {
		t.Errorf("after 21 s: %s", got)
	}
	h.beat(t, "edge_1", "boot_1", 1)
	h.initiate(t, "call_2", "boot_1", db.Now(), webhooks.EventData{}) // its end was lost on the way
	h.pass(2 * time.Minute)
	h.beat(t, "edge_1", "boot_1", 1)
	h.sweep(t)
	if got := h.ends(t); strings.Contains(got, "call_2") {
		t.Errorf("while the edge has a call: %s", got)
	}
	h.beat(t, "edge_1", "boot_1", 0)
	h.sweep(t)
	if got := h.ends(t); !strings.Contains(got, "call_2 edge_lost") {
		t.Errorf("when it has none: %s", got)
	}
}

func TestAControlPlaneThatWasAwayListensBeforeItEndsCalls(t *testing.T) {
	h := newHouse(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	h.beat(t, "edge_1", "boot_1", 1)
	h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
	h.pass(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	listening := make(chan struct{})
	clock, begun := h.Now, sync.OnceFunc(func() { close(listening) })
	h.Now = func() time.Time {
		begun()
		return clock()
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-listening // Run has asked for the time, which it holds against the edges' beats
	h.sweep(t)
	if got := h.ends(t); got != "" {
		t.Errorf("at once: %s", got)
	}
	h.pass(21 * time.Second)
	h.sweep(t)
	if got := h.ends(t); got != "call_1 edge_lost" {
		t.Errorf("after 21 s: %s", got)
	}
	cancel()
	running.Wait()
}
