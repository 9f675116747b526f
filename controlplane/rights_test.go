package controlplane_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// asker is who makes a request: a program with a key, or a person with a session.
type asker struct {
	key, cookie, csrf string
}

// company is an account with departments, people in them, and a call with a recording for each of them.
type company struct {
	*plane
	admin  asker
	edge   *control.Client
	people map[string]*person // by login
	ids    map[string]string  // of departments and roles, by name
	number int                // of the next extension
}

// person is a user who is signed in, and an agent.
type person struct {
	asker
	id, agent string
	call, rec string // the leg of his extension, and its recording
}

// found starts a company on a database, with the departments sales, south and north below it, and support.
func found(t *testing.T, database string) *company {
	t.Helper()
	cfg := config(t, t.TempDir())
	if database != "" {
		cfg.Database = database
	}
	cfg.RatePerSecond = 1e6
	p := start(t, cfg)
	token, err := p.CreateEdgeToken(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	c := &company{plane: p, admin: asker{key: p.seeded.APIKey}, edge: dial(t, p, token), people: map[string]*person{}, ids: map[string]string{}, number: 2001}
	for _, each := range []struct{ name, parent string }{{"sales", ""}, {"south", "sales"}, {"north", "sales"}, {"support", ""}} {
		body := map[string]any{"name": each.name}
		if each.parent != "" {
			body["parent_id"] = c.ids[each.parent]
		}
		c.ids[each.name] = c.make(t, "/v1/departments", body)
	}
	return c
}

// ask makes a request on a connection of its own, and gives the answer's status, header and body.
func (c *company) ask(t *testing.T, as asker, method, path string, body any, headers ...string) (int, http.Header, string) {
	t.Helper()
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, c.URL()+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if as.key != "" {
		r.Header.Set("Authorization", "Bearer "+as.key)
	}
	if as.cookie != "" {
		r.Header.Set("Cookie", as.cookie)
		r.Header.Set("X-CSRF-Token", as.csrf)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	w, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, w.Header, string(text)
}

// want asks, and fails the test unless the answer has the status. Its JSON is read into value where that is not nil.
func (c *company) want(t *testing.T, as asker, status int, value any, method, path string, body any) {
	t.Helper()
	got, _, text := c.ask(t, as, method, path, body)
	if got != status {
		t.Fatalf("%s %s: %d %s; want %d", method, path, got, text, status)
	}
	if value == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

// make creates an object as the administrator, and gives its id.
func (c *company) make(t *testing.T, path string, body any) string {
	t.Helper()
	var made struct{ ID string }
	c.want(t, c.admin, http.StatusCreated, &made, http.MethodPost, path, body)
	return made.ID
}

// role makes a role.
func (c *company) role(t *testing.T, name string, permissions []string, scopes map[string]any, masked bool) string {
	t.Helper()
	c.ids[name] = c.make(t, "/v1/roles", map[string]any{
		"name": name, "permissions": permissions, "data_scopes": scopes, "masks": map[string]any{"numbers": masked},
	})
	return c.ids[name]
}

// over is the data scope of every resource.
func over(rows string, departments ...string) map[string]any {
	scope := map[string]any{"rows": rows}
	if len(departments) > 0 {
		scope["department_ids"] = departments
	}
	return map[string]any{"*": scope}
}

const password = "a password of the company"

// hire makes a user with roles, in a department or, with "", in none, and signs him in.
func (c *company) hire(t *testing.T, login, department string, roles ...string) *person {
	t.Helper()
	body := map[string]any{"login": login, "name": login, "role_ids": append([]string{}, roles...)}
	if department != "" {
		body["department_id"] = c.ids[department]
	}
	p := &person{id: c.make(t, "/v1/users", body)}
	var link struct{ Token string }
	c.want(t, c.admin, http.StatusCreated, &link, http.MethodPost, "/v1/users/"+p.id+"/links", nil)
	c.want(t, asker{}, http.StatusOK, nil, http.MethodPost, "/v1/sessions/link", map[string]any{"token": link.Token, "password": password})
	p.asker = c.signIn(t, login, password)
	c.people[login] = p
	return p
}

func (c *company) signIn(t *testing.T, login, password string) asker {
	t.Helper()
	status, header, text := c.ask(t, asker{}, http.MethodPost, "/v1/sessions", map[string]any{"account": "demo", "login": login, "password": password})
	var session struct {
		CSRF string `json:"csrf_token"`
	}
	if err := json.Unmarshal([]byte(text), &session); err != nil || status != http.StatusCreated {
		t.Fatalf("signing in: %d %s, %v", status, text, err)
	}
	cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	return asker{cookie: cookie, csrf: session.CSRF}
}

// seat gives a person an extension, a superior unless that is "", and a call that is recorded.
func (c *company) seat(t *testing.T, login, superior string) {
	t.Helper()
	p := c.people[login]
	extension := fmt.Sprint(c.number)
	c.number++
	credential := c.make(t, "/v1/credentials", map[string]any{"extension": extension, "password": password})
	body := map[string]any{"user_id": p.id, "credential_id": credential}
	if superior != "" {
		body["superior_id"] = c.people[superior].agent
	}
	p.agent = c.make(t, "/v1/agents", body)
	p.call, p.rec = "call_of"+login, "rec_of"+login
	c.happen(t, p.call, p.rec, webhooks.EventData{From: "+8613800138000", To: extension, Direction: webhooks.OutboundDial, CredentialID: webhooks.CredentialID(credential)})
}

// happen publishes a call that was recorded, as an edge does.
func (c *company) happen(t *testing.T, call, recording string, initiated webhooks.EventData, between ...webhooks.Event) {
	t.Helper()
	owner := control.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: 1, AccountID: c.seeded.AccountID, CallID: webhooks.CallID(call)}
	c.told(t, owner, recording, initiated, between...)
}

// told publishes a call that was recorded as the edge that owns it.
func (c *company) told(t *testing.T, owner control.Owner, recording string, initiated webhooks.EventData, between ...webhooks.Event) {
	t.Helper()
	at := time.Now()
	events := append([]webhooks.Event{
		{Type: webhooks.EventCallInitiated, Data: initiated},
		{Type: webhooks.EventRecordingStarted, Data: webhooks.EventData{RecordingID: webhooks.RecordingID(recording), Channels: 1, Format: "wav", Codec: "PCMA"}},
	}, between...)
	events = append(events, webhooks.Event{Type: webhooks.EventCallEnded, Data: webhooks.EventData{CDR: &webhooks.CDR{
		Status: webhooks.StatusCompleted, Cause: webhooks.CauseCallerHangup, SIPCode: 200, EndedBy: webhooks.EndedByCaller,
		Reason: "The caller hung up.", ReasonZH: "主叫挂机。", StartedAt: at, EndedAt: at,
	}}})
	for i := range events {
		events[i].ID, events[i].Sequence, events[i].OccurredAt = webhooks.NewEventID(), int64(i+1), at
	}
	if done, err := c.edge.Publish(t.Context(), control.Batch{Owner: owner, Events: events}); err != nil || done.Expect != int64(len(events)+1) {
		t.Fatalf("publish %s: %+v, %v", owner.CallID, done, err)
	}
}

// sees checks which of the company's rows somebody reaches, in every way there is to read them.
func (c *company) sees(t *testing.T, login string, want ...string) {
	t.Helper()
	who := c.people[login]
	for _, resource := range []string{"calls", "recordings"} {
		id := func(p *person) string { return map[string]string{"calls": p.call, "recordings": p.rec}[resource] }
		wanted := []string{}
		for _, name := range want {
			wanted = append(wanted, id(c.people[name]))
		}
		slices.Sort(wanted)
		var page struct {
			Data  []struct{ ID string }
			Total int
		}
		for _, way := range []struct {
			method, path string
			body         any
		}{
			{http.MethodGet, "/v1/" + resource + "?count=true", nil},
			{http.MethodPost, "/v1/" + resource + "/search", map[string]any{"count": true}},
		} {
			c.want(t, who.asker, http.StatusOK, &page, way.method, way.path, way.body)
			got := []string{}
			for _, row := range page.Data {
				got = append(got, row.ID)
			}
			if slices.Sort(got); !slices.Equal(got, wanted) || page.Total != len(wanted) {
				t.Errorf("%s %s as %s: %v of %d, want %v", way.method, way.path, login, got, page.Total, wanted)
			}
		}
		for name, other := range c.people {
			if other.call == "" {
				continue
			}
			status := map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[slices.Contains(want, name)]
			paths := []string{"/v1/" + resource + "/" + id(other)}
			if resource == "calls" {
				paths = append(paths, paths[0]+"/events")
			}
			for _, path := range paths {
				if got, _, text := c.ask(t, who.asker, http.MethodGet, path, nil); got != status {
					t.Errorf("GET %s as %s: %d %.200s; want %d", path, login, got, text, status)
				}
			}
			if status == http.StatusNotFound {
				c.want(t, who.asker, http.StatusNotFound, nil, http.MethodGet, "/v1/recordings/"+other.rec+"/media", nil)
			}
		}
	}
	if slices.Contains(c.permissions(t, who.asker), "events.read") {
		var page struct {
			Data []struct {
				CallID string `json:"call_id"`
			}
		}
		c.want(t, who.asker, http.StatusOK, &page, http.MethodGet, "/v1/events?limit=1000", nil)
		got := map[string]bool{}
		for _, e := range page.Data {
			got[e.CallID] = e.CallID != ""
		}
		for name, other := range c.people {
			if other.call != "" && got[other.call] != slices.Contains(want, name) {
				t.Errorf("%s sees the events of %s: %t", login, name, got[other.call])
			}
		}
	}
}

// permissions are what the console's menu is made of.
func (c *company) permissions(t *testing.T, as asker) []string {
	t.Helper()
	var me struct{ Permissions []string }
	c.want(t, as, http.StatusOK, &me, http.MethodGet, "/v1/me", nil)
	return me.Permissions
}

// eventually waits out the second that a change of rights may take.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not so within 20 s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestEveryKindOfRightsCanBeExpressed(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { rights(t, found(t, "")) })
	t.Run("postgres", func(t *testing.T) { rights(t, found(t, dbtest.PostgresURL(t))) })
}

// rights goes through what call centres ask of rights: what it is, by which setting it is expressed, and the proof.
func rights(t *testing.T, c *company) {
	reading := []string{"calls.read", "recordings.read", "events.read", "agents.read"}
	clerk := c.role(t, "clerk", append(reading, "calls.write"), over("own"), false)
	c.hire(t, "chief", "south", c.role(t, "department supervisor", reading, over("department"), false))
	c.hire(t, "director", "sales", c.role(t, "department director", reading, over("department_tree"), false))
	c.hire(t, "boss", "", c.role(t, "manager", reading, over("all"), false))
	c.hire(t, "leader", "support", c.role(t, "group leader", reading, over("own_and_reports"), false))
	c.hire(t, "auditor", "", c.role(t, "auditor", reading, over("departments", c.ids["north"], c.ids["support"]), false))
	for login, department := range map[string]string{"alice": "south", "bob": "south", "carol": "north", "dave": "support"} {
		c.hire(t, login, department, clerk)
	}
	for _, each := range []struct{ login, superior string }{
		{"director", ""}, {"chief", "director"}, {"leader", ""}, {"boss", ""}, {"auditor", ""},
		{"alice", "chief"}, {"bob", "alice"}, {"carol", "leader"}, {"dave", "carol"},
	} {
		c.seat(t, each.login, each.superior)
	}
	everyone := slices.Collect(maps.Keys(c.people))
	c.people["a call of nobody"] = &person{call: "call_ofnobody", rec: "rec_ofnobody"}
	c.happen(t, "call_ofnobody", "rec_ofnobody", webhooks.EventData{From: "+8613800138000", To: "1000", Direction: webhooks.Inbound})

	for _, right := range []struct {
		what, setting string
		prove         func(t *testing.T)
	}{
		{"a role with a name, a code, permissions and a data scope: all, department, own", "roles: name, code, permissions, data_scopes", func(t *testing.T) {
			c.sees(t, "boss", append(everyone, "a call of nobody")...)
			c.sees(t, "chief", "chief", "alice", "bob")
			c.sees(t, "alice", "alice")
			c.sees(t, "auditor", "auditor", "carol", "dave", "leader")
		}},
		{"permission flags: customer numbers hidden, recordings heard or not, call records seen or not, automatic answer",
			"roles: masks.numbers, and permissions such as recordings.read; agents: auto_answer_delay", func(t *testing.T) { c.flags(t) }},
		{"a data scope for each thing apart", "roles: data_scopes by resource", func(t *testing.T) {
			c.hire(t, "reviewer", "south", c.role(t, "reviewer", reading, map[string]any{
				"calls": map[string]any{"rows": "department"}, "recordings": map[string]any{"rows": "own"},
			}, false))
			var page struct{ Data []struct{ ID string } }
			c.want(t, c.people["reviewer"].asker, http.StatusOK, &page, http.MethodGet, "/v1/calls", nil)
			if len(page.Data) != 3 {
				t.Errorf("calls: %+v", page.Data)
			}
			c.want(t, c.people["reviewer"].asker, http.StatusOK, &page, http.MethodGet, "/v1/recordings", nil)
			if len(page.Data) != 0 {
				t.Errorf("recordings: %+v", page.Data)
			}
		}},
		{"a user with login, name, e-mail, mobile; administrators and agents; a new one sees no menu", "users: login … role_ids; the role admin; a row of agents", func(t *testing.T) {
			c.hire(t, "new", "south")
			if got := c.permissions(t, c.people["new"].asker); !slices.Equal(got, []string{"me.read", "me.write"}) {
				t.Errorf("a new user may %v", got)
			}
			for _, path := range []string{"/v1/calls", "/v1/recordings", "/v1/users", "/v1/settings", "/v1/roles"} {
				c.want(t, c.people["new"].asker, http.StatusForbidden, nil, http.MethodGet, path, nil)
			}
			admin := c.builtIn(t, "admin")
			c.want(t, c.admin, http.StatusOK, nil, http.MethodPatch, "/v1/users/"+c.people["new"].id, map[string]any{
				"email": "new@example.com", "mobile": "13800138001", "role_ids": []string{admin},
			})
			eventually(t, "the new administrator opens the settings", func() bool {
				status, _, _ := c.ask(t, c.people["new"].asker, http.MethodGet, "/v1/settings", nil)
				return status == http.StatusOK
			})
		}},
		{"menus granted per role, users put into it", "roles: permissions; users: role_ids", func(t *testing.T) {
			var page struct{ Data []struct{ ID string } }
			c.want(t, c.admin, http.StatusOK, &page, http.MethodGet, "/v1/users?role_id="+clerk, nil)
			if len(page.Data) != 4 {
				t.Errorf("clerks: %+v", page.Data)
			}
		}},
		{"menus granted per department, seen together with those of the role", "several roles of a user: one for the department, one for the person", func(t *testing.T) {
			whole := c.role(t, "everyone in support", []string{"calendars.read"}, over("own"), false)
			c.want(t, c.admin, http.StatusOK, nil, http.MethodPatch, "/v1/users/"+c.people["dave"].id, map[string]any{"role_ids": []string{clerk, whole}})
			eventually(t, "dave reads calendars beside his calls", func() bool {
				got := c.permissions(t, c.people["dave"].asker)
				return slices.Contains(got, "calendars.read") && slices.Contains(got, "calls.read")
			})
			c.sees(t, "dave", "dave")
		}},
		{"a department with name, code and head, in a tree that grows, changes and shrinks", "departments", func(t *testing.T) {
			var d struct {
				ID, Etag string
				Path     []struct{ Name string }
			}
			c.want(t, c.admin, http.StatusCreated, &d, http.MethodPost, "/v1/departments",
				map[string]any{"name": "深圳", "code": "755", "parent_id": c.ids["south"], "head_user_id": c.people["alice"].id})
			if len(d.Path) != 3 || d.Path[2].Name != "深圳" {
				t.Errorf("%+v", d)
			}
			c.want(t, c.admin, http.StatusOK, nil, http.MethodPatch, "/v1/departments/"+d.ID, map[string]any{"name": "广州", "parent_id": c.ids["north"]})
			c.want(t, c.admin, http.StatusConflict, nil, http.MethodDelete, "/v1/departments/"+c.ids["north"], nil)
			c.want(t, c.admin, http.StatusNoContent, nil, http.MethodDelete, "/v1/departments/"+d.ID, nil)
		}},
		{"the range of a title: ordinary user, supervisor of a department, director of all below", "roles with own, department, department_tree", func(t *testing.T) {
			c.sees(t, "carol", "carol")
			c.sees(t, "chief", "chief", "alice", "bob")
			c.sees(t, "director", "director", "chief", "alice", "bob", "carol")
			// Who moves takes along what he will do, not what he did.
			move := func(department string) string {
				var a struct {
					DepartmentID string `json:"department_id"`
				}
				c.want(t, c.admin, http.StatusOK, nil, http.MethodPatch, "/v1/users/"+c.people["carol"].id, map[string]any{"department_id": c.ids[department]})
				c.want(t, c.admin, http.StatusOK, &a, http.MethodGet, "/v1/agents/"+c.people["carol"].agent, nil)
				return a.DepartmentID
			}
			if got := move("south"); got != c.ids["south"] {
				t.Errorf("carol is an agent of %s", got)
			}
			c.sees(t, "chief", "chief", "alice", "bob")
			move("north")
		}},
		{"a menu that follows the rights of who is signed in", "GET /v1/me: permissions", func(t *testing.T) {
			boss, alice := c.permissions(t, c.people["boss"].asker), c.permissions(t, c.people["alice"].asker)
			if slices.Contains(boss, "calls.write") || !slices.Contains(alice, "calls.write") {
				t.Errorf("the boss may %v, alice %v", boss, alice)
			}
		}},
		{"passwords set and changed; rights by business; areas of administration apart", "users' links, POST /v1/me/password; a role per area", func(t *testing.T) { c.areas(t) }},
		{"agent groups with an order, a note, members up and down, on and off", "agent_groups", func(t *testing.T) { c.groups(t) }},
		{"agents in exactly one group, split by function", "agent_groups: each agent in the agent_ids of one", func(t *testing.T) {
			inbound := c.make(t, "/v1/agent_groups", map[string]any{"name": "inbound", "agent_ids": []string{c.people["alice"].agent}})
			c.make(t, "/v1/agent_groups", map[string]any{"name": "outbound", "agent_ids": []string{c.people["bob"].agent}})
			if got := c.groupsOf(t, "alice"); !slices.Equal(got, []string{inbound}) {
				t.Errorf("alice is in %v", got)
			}
		}},
		{"agents in several workgroups", "agent_groups: an agent in the agent_ids of several", func(t *testing.T) {
			before := len(c.groupsOf(t, "bob"))
			c.make(t, "/v1/agent_groups", map[string]any{"name": "vip", "agent_ids": []string{c.people["bob"].agent}})
			if got := c.groupsOf(t, "bob"); len(got) != before+1 {
				t.Errorf("bob is in %v", got)
			}
		}},
		{"a superior for each agent, who sees what they do", "agents: superior_id; roles with own_and_reports", func(t *testing.T) {
			c.sees(t, "leader", "leader", "carol", "dave")
			w := map[string]any{"superior_id": c.people["dave"].agent}
			c.want(t, c.admin, http.StatusUnprocessableEntity, nil, http.MethodPatch, "/v1/agents/"+c.people["leader"].agent, w)
		}},
		{"tenants apart, each with an administrator of its own", "accounts, and the role owner in each", func(t *testing.T) { c.tenants(t) }},
	} {
		t.Run(right.what, func(t *testing.T) {
			t.Log("expressed by " + right.setting)
			right.prove(t)
		})
	}
}

// builtIn gives the id of a built-in role.
func (c *company) builtIn(t *testing.T, code string) string {
	t.Helper()
	var page struct{ Data []struct{ ID string } }
	c.want(t, c.admin, http.StatusOK, &page, http.MethodGet, "/v1/roles?code="+code, nil)
	if len(page.Data) != 1 {
		t.Fatalf("%d roles %s", len(page.Data), code)
	}
	return page.Data[0].ID
}

func (c *company) flags(t *testing.T) {
	all := []string{"calls.read", "recordings.read"}
	c.hire(t, "blind", "", c.role(t, "numbers hidden", all, over("all"), true))
	c.hire(t, "deaf", "", c.role(t, "no recordings", []string{"calls.read"}, over("all"), false))
	c.hire(t, "listener", "", c.role(t, "no call records", []string{"recordings.read"}, over("all"), false))
	path := "/v1/calls/" + c.people["alice"].call
	var shown struct{ From, To string }
	c.want(t, c.people["blind"].asker, http.StatusOK, &shown, http.MethodGet, path, nil)
	if shown.From != "************00" || strings.Contains(shown.To, "200") {
		t.Errorf("hidden numbers are shown: %+v", shown)
	}
	c.want(t, c.people["deaf"].asker, http.StatusOK, &shown, http.MethodGet, path, nil)
	if shown.From != "+8613800138000" {
		t.Errorf("numbers are hidden: %+v", shown)
	}
	c.want(t, c.people["deaf"].asker, http.StatusForbidden, nil, http.MethodGet, "/v1/recordings", nil)
	c.want(t, c.people["deaf"].asker, http.StatusForbidden, nil, http.MethodGet, "/v1/recordings/"+c.people["alice"].rec+"/media", nil)
	c.want(t, c.people["listener"].asker, http.StatusOK, nil, http.MethodGet, "/v1/recordings", nil)
	c.want(t, c.people["listener"].asker, http.StatusForbidden, nil, http.MethodGet, path, nil)
	var a struct {
		Delay float64 `json:"auto_answer_delay"`
	}
	c.want(t, c.admin, http.StatusOK, &a, http.MethodPatch, "/v1/agents/"+c.people["alice"].agent, map[string]any{"auto_answer_delay": 3})
	if a.Delay != 3 {
		t.Errorf("%+v", a)
	}
	// Reading is one permission and changing another.
	c.want(t, c.people["boss"].asker, http.StatusForbidden, nil, http.MethodPost, path+"/actions", map[string]any{"op": "hangup"})
	c.want(t, c.people["alice"].asker, http.StatusConflict, nil, http.MethodPost, path+"/actions", map[string]any{"op": "hangup"}) // it has ended
	c.want(t, c.people["carol"].asker, http.StatusNotFound, nil, http.MethodPost, path+"/actions", map[string]any{"op": "hangup"})
}

func (c *company) areas(t *testing.T) {
	p := c.hire(t, "mover", "")
	c.want(t, p.asker, http.StatusNoContent, nil, http.MethodPost, "/v1/me/password", map[string]any{"current_password": password, "new_password": "another password of the company"})
	c.signIn(t, "mover", "another password of the company")
	status, _, _ := c.ask(t, asker{}, http.MethodPost, "/v1/sessions", map[string]any{"account": "demo", "login": "mover", "password": password})
	if status != http.StatusUnauthorized {
		t.Errorf("the old password: %d", status)
	}
	areas := map[string]string{
		"agents": "/v1/agents", "agent_groups": "/v1/agent_groups", "calendars": "/v1/calendars", "trunks": "/v1/trunks", "applications": "/v1/applications",
		"settings": "/v1/settings",
	}
	for area := range areas {
		c.role(t, area, []string{area + ".*"}, over("all"), false)
	}
	roles := func(ids ...string) {
		c.want(t, c.admin, http.StatusOK, nil, http.MethodPatch, "/v1/users/"+p.id, map[string]any{"role_ids": ids})
	}
	as := c.signIn(t, "mover", "another password of the company")
	for area := range areas {
		roles(c.ids[area])
		eventually(t, "the administrator of "+area, func() bool { return slices.Contains(c.permissions(t, as), area+".*") })
		for other, path := range areas {
			want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[area == other]
			if got, _, _ := c.ask(t, as, http.MethodGet, path, nil); got != want {
				t.Errorf("the administrator of %s, of %s: %d, want %d", area, other, got, want)
			}
		}
	}
}

func (c *company) groups(t *testing.T) {
	alice, bob, carol := c.people["alice"].agent, c.people["bob"].agent, c.people["carol"].agent
	var g struct {
		ID, Name, Order, Note string
		Enabled               bool
		AgentIDs              []string `json:"agent_ids"`
	}
	c.want(t, c.admin, http.StatusCreated, &g, http.MethodPost, "/v1/agent_groups",
		map[string]any{"name": "callbacks", "order": "round_robin", "note": "weekdays", "agent_ids": []string{alice, bob}})
	path := "/v1/agent_groups/" + g.ID
	c.want(t, c.admin, http.StatusOK, &g, http.MethodPut, path+"/members/"+carol, map[string]any{"position": 1})
	if !slices.Equal(g.AgentIDs, []string{carol, alice, bob}) || g.Order != "round_robin" || !g.Enabled {
		t.Errorf("%+v", g)
	}
	for _, order := range []string{"sequential", "random"} {
		c.want(t, c.admin, http.StatusOK, &g, http.MethodPatch, path, map[string]any{"order": order, "enabled": order == "random"})
		if g.Order != order || g.Enabled != (order == "random") {
			t.Errorf("%+v", g)
		}
	}
	c.want(t, c.admin, http.StatusNoContent, nil, http.MethodDelete, path, nil)
}

func (c *company) groupsOf(t *testing.T, login string) []string {
	t.Helper()
	var page struct{ Data []struct{ ID string } }
	c.want(t, c.admin, http.StatusOK, &page, http.MethodGet, "/v1/agent_groups?agent_id="+c.people[login].agent, nil)
	var ids []string
	for _, g := range page.Data {
		ids = append(ids, g.ID)
	}
	return ids
}

func (c *company) tenants(t *testing.T) {
	made, err := c.Seed(t.Context(), controlplane.Seed{Account: "800000", Domain: "800000.example", Country: "CN"})
	if err != nil {
		t.Fatal(err)
	}
	stranger := asker{key: made.APIKey}
	var page struct {
		Data []struct{ ID, Code string }
	}
	c.want(t, stranger, http.StatusOK, &page, http.MethodGet, "/v1/roles?code=owner", nil)
	if len(page.Data) != 1 || page.Data[0].ID == c.builtIn(t, "owner") {
		t.Errorf("the owner of the other tenant: %+v", page.Data)
	}
	owner := page.Data[0].ID
	c.want(t, stranger, http.StatusCreated, nil, http.MethodPost, "/v1/users", map[string]any{"login": "800", "name": "admin", "role_ids": []string{owner}})
	for _, path := range []string{"/v1/calls", "/v1/recordings", "/v1/departments", "/v1/agents", "/v1/agent_groups"} {
		c.want(t, stranger, http.StatusOK, &page, http.MethodGet, path, nil)
		if len(page.Data) != 0 {
			t.Errorf("the other tenant's %s: %+v", path, page.Data)
		}
	}
	c.want(t, stranger, http.StatusNotFound, nil, http.MethodGet, "/v1/calls/"+c.people["alice"].call, nil)
	c.want(t, stranger, http.StatusUnprocessableEntity, nil, http.MethodPost, "/v1/users",
		map[string]any{"login": "801", "name": "x", "role_ids": []string{c.builtIn(t, "owner")}})
}
