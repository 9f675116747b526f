package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// users are those that every fixture has in Account: usr_1 … usr_8, of which the first two are in the department dep_1.
const users = 8

// fixture is a server, whose accounts have users, extensions and departments.
type fixture struct {
	*resttest.Server
	agents *agent.Service
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{agents: &agent.Service{DB: d}}
	f.Server = resttest.Mount(t, d, spec, f.agents.Operations())
	for _, id := range []string{"dep_1", "dep_2"} {
		f.run(t, "INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name) VALUES (?, ?, '{}', ?, ?, '1', ?)",
			id, resttest.Account, db.Now(), db.Now(), id)
	}
	for i := range users {
		department := any(nil)
		if i < 2 {
			department = "dep_1"
		}
		f.user(t, resttest.Account, fmt.Sprint("usr_", i+1), department)
		f.extension(t, resttest.Account, fmt.Sprint("cred_", i+1))
	}
	f.user(t, resttest.OtherAccount, "usr_other", nil)
	f.extension(t, resttest.OtherAccount, "cred_other")
	return f
}

func (f *fixture) run(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := f.DB.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) user(t *testing.T, account, id string, department any) {
	t.Helper()
	f.run(t, `INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status)
		VALUES (?, ?, '{}', ?, ?, '1', ?, ?, ?, ?, '[]', 'active')`, id, account, db.Now(), db.Now(), id, department, id, id)
}

func (f *fixture) extension(t *testing.T, account, id string) {
	t.Helper()
	f.run(t, `INSERT INTO credentials (id, account_id, metadata, created_at, updated_at, etag, extension, domain, ha1_md5, ha1_sha256, max_contacts)
		VALUES (?, ?, '{}', ?, ?, '1', ?, 'x', 'x', 'x', 1)`, id, account, db.Now(), db.Now(), id)
}

func (f *fixture) create(t *testing.T, body string) agent.Agent {
	t.Helper()
	var a agent.Agent
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/agents", body), http.StatusCreated, &a)
	return a
}

// under makes a user an agent who reports to another.
func (f *fixture) under(t *testing.T, user int, superior string) agent.Agent {
	t.Helper()
	if superior == "" {
		return f.create(t, fmt.Sprintf(`{"user_id":"usr_%d"}`, user))
	}
	return f.create(t, fmt.Sprintf(`{"user_id":"usr_%d","superior_id":%q}`, user, superior))
}

func (f *fixture) group(t *testing.T, body string) agent.Group {
	t.Helper()
	var g agent.Group
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/agent_groups", body), http.StatusCreated, &g)
	return g
}

func (f *fixture) patch(t *testing.T, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.Do(t, resttest.Token, http.MethodPatch, path, body)
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)))
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					a := last.create(t, `{"user_id":"usr_1","external_id":"hr-1"}`)
					g := last.group(t, `{"name":"x","external_id":"hr-1","agent_ids":["`+a.ID+`"]}`)
					return map[string]string{"agent_id": a.ID, "agent_group_id": g.ID, "external_id": "hr-1"}
				},
				Request: func(t *testing.T, _ *resttest.Server, operation string, ids map[string]string) *resttest.Request {
					switch operation {
					case "createAgent":
						return &resttest.Request{Body: map[string]any{"user_id": "usr_2", "credential_id": "cred_2", "superior_id": ids["agent_id"]}}
					case "upsertAgent":
						return &resttest.Request{Body: map[string]any{"user_id": "usr_2", "credential_id": "cred_2"}}
					case "deleteAgent":
						resttest.Want(t, last.patch(t, "/v1/agent_groups/"+ids["agent_group_id"], `{"agent_ids":[]}`), http.StatusOK, nil)
					}
					return nil
				},
			})
		})
	}
}

func TestWhoBecomesAnAgent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"user_id":"usr_1","credential_id":"cred_1"}`, 201, `"owner_id":"usr_1","department_id":"dep_1","user_id":"usr_1","credential_id":"cred_1","auto_answer_delay":0,"presence":"offline","work":"idle"`},
			{`{"user_id":"usr_1"}`, 409, "/user_id"},
			{`{"user_id":"usr_2","credential_id":"cred_1"}`, 409, "/credential_id"},
			{`{"user_id":"usr_none"}`, 422, "/user_id"},
			{`{"user_id":"usr_other"}`, 422, "/user_id"},
			{`{"user_id":"usr_2","credential_id":"cred_other"}`, 422, "/credential_id"},
			{`{"user_id":"usr_2","superior_id":"agt_none"}`, 422, "/superior_id"},
			{`{"user_id":"usr_2","auto_answer_delay":61}`, 400, "/auto_answer_delay"},
			{`{"user_id":"usr_2","presence":"available"}`, 400, "/presence"},
			{`{"user_id":"usr_3","auto_answer_delay":2.5}`, 201, `"auto_answer_delay":2.5`},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/agents", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

func TestTheUserOfAnAgentStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.create(t, `{"user_id":"usr_1","external_id":"x","credential_id":"cred_1"}`)
		put := func(body string) *httptest.ResponseRecorder {
			return f.Do(t, resttest.Token, http.MethodPut, "/v1/agents/by/external_id/x", body)
		}
		if w := put(`{"user_id":"usr_2"}`); w.Code != http.StatusConflict {
			t.Errorf("became another's: %d %s", w.Code, w.Body)
		}
		var after agent.Agent
		resttest.Want(t, put(`{"user_id":"usr_1"}`), http.StatusOK, &after)
		if after.ID != a.ID || after.CredentialID != "" || after.OwnerID != "usr_1" {
			t.Errorf("became %+v", after)
		}
		if w := f.patch(t, "/v1/agents/"+a.ID, `{"user_id":"usr_2"}`); w.Code != http.StatusBadRequest {
			t.Errorf("became another's: %d %s", w.Code, w.Body)
		}
	})
}

func TestAnAccountHasAsManyAgentsAsItsLimit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.run(t, `UPDATE accounts SET limits = '{"agents":3}' WHERE id = ?`, resttest.Account)
		var all sync.WaitGroup
		for i := range users {
			all.Go(func() {
				w := f.Do(t, resttest.Token, http.MethodPost, "/v1/agents", fmt.Sprintf(`{"user_id":"usr_%d"}`, i+1))
				if w.Code != http.StatusCreated && !strings.Contains(w.Body.String(), "3 agents") {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
		if n, err := f.agents.Count(t.Context(), resttest.Account); err != nil || n != 3 {
			t.Errorf("%d agents, %v", n, err)
		}
	})
}

func TestNobodyReportsToHimself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.under(t, 1, "")
		b := f.under(t, 2, a.ID)
		c := f.under(t, 3, b.ID)
		for _, superior := range []string{a.ID, b.ID, c.ID, "agt_none"} {
			w := f.patch(t, "/v1/agents/"+a.ID, `{"superior_id":"`+superior+`"}`)
			if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/superior_id") {
				t.Errorf("%s: %d %s", superior, w.Code, w.Body)
			}
		}
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/agents/"+b.ID, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), c.ID) {
			t.Errorf("a superior was deleted: %d %s", w.Code, w.Body)
		}
		// Each of these is right by itself.
		x, y := f.under(t, 4, ""), f.under(t, 5, "")
		var all sync.WaitGroup
		for id, superior := range map[string]string{x.ID: y.ID, y.ID: x.ID} {
			all.Go(func() {
				switch w := f.patch(t, "/v1/agents/"+id, `{"superior_id":"`+superior+`"}`); w.Code {
				case http.StatusOK, http.StatusUnprocessableEntity, http.StatusServiceUnavailable:
				default:
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
		under := 0
		for _, user := range []string{"usr_4", "usr_5"} {
			reports, err := f.agents.Reports(t.Context(), resttest.Account, user)
			if err != nil {
				t.Fatal(err)
			}
			under += len(reports)
		}
		if under > 1 {
			t.Error("they report to each other")
		}
	})
}

func TestReportsAreThoseBelowHoweverDeep(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		top := f.under(t, 1, "")
		left, right := f.under(t, 2, top.ID), f.under(t, 3, top.ID)
		f.under(t, 4, left.ID)
		f.under(t, 5, right.ID)
		f.under(t, 6, "")
		for _, c := range []struct{ account, user, want string }{
			{resttest.Account, "usr_1", "usr_2 usr_3 usr_4 usr_5"}, {resttest.Account, "usr_2", "usr_4"}, {resttest.Account, "usr_4", ""},
			{resttest.Account, "usr_8", ""}, {resttest.Account, "usr_none", ""}, {resttest.OtherAccount, "usr_1", ""},
		} {
			got, err := f.agents.Reports(t.Context(), c.account, c.user)
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%s of %s: %v, %v; want %s", c.user, c.account, got, err, c.want)
			}
		}
		// By nobody's API, but by somebody's hand.
		f.run(t, "UPDATE agents SET superior_id = (SELECT id FROM agents WHERE user_id = 'usr_4') WHERE user_id = 'usr_1'")
		if got, err := f.agents.Reports(t.Context(), resttest.Account, "usr_2"); err != nil || len(got) != 5 {
			t.Errorf("in a circle: %v, %v", got, err)
		}
	})
}

func TestACallIsWhoseTheExtensionIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.create(t, `{"user_id":"usr_1","credential_id":"cred_1"}`)
		f.create(t, `{"user_id":"usr_3","credential_id":"cred_3"}`)
		for _, c := range []struct{ account, credential, user, department string }{
			{resttest.Account, "cred_1", "usr_1", "dep_1"}, {resttest.Account, "cred_3", "usr_3", ""}, {resttest.Account, "cred_2", "", ""},
			{resttest.Account, "", "", ""}, {resttest.OtherAccount, "cred_1", "", ""},
		} {
			err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				user, department, found, err := f.agents.OwnerOf(ctx, tx, c.account, c.credential)
				if user != c.user || department != c.department || found != (c.user != "") {
					t.Errorf("%+v: %s in %s, %t", c, user, department, found)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		for user, want := range map[string]string{"usr_2": "dep_1", "usr_3": "", "usr_none": ""} {
			if got, err := f.agents.DepartmentOf(t.Context(), d, resttest.Account, user); err != nil || got != want {
				t.Errorf("%s is in %s, %v", user, got, err)
			}
		}
	})
}

func TestAnAgentMovesWithTheUser(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.create(t, `{"user_id":"usr_1"}`)
		for _, c := range []struct{ department, etag string }{{"dep_2", "2"}, {"dep_2", "2"}, {"", "3"}, {"", "3"}, {"dep_1", "4"}} {
			err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return f.agents.Moved(ctx, tx, resttest.Account, "usr_1", c.department)
			})
			got, e := db.Get[agent.Agent](t.Context(), d, auth.Account(resttest.Account), a.ID)
			if err != nil || e != nil || got.DepartmentID != c.department || got.Etag != c.etag {
				t.Errorf("%+v: %+v, %v, %v", c, got, err, e)
			}
		}
	})
}

func TestAgentsAreSeenByWhoReachesThem(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for i := range 4 {
			f.under(t, i+1, "")
		}
		for _, c := range []struct {
			rows auth.Rows
			want string
		}{
			{auth.Rows{All: true}, "usr_1 usr_2 usr_3 usr_4"}, {auth.Rows{Users: []string{"usr_3"}}, "usr_3"},
			{auth.Rows{Users: []string{"usr_3"}, Departments: []string{"dep_1"}}, "usr_1 usr_2 usr_3"}, {auth.Rows{}, ""},
		} {
			who := auth.Caller{Scope: auth.Account(resttest.Account), Reach: map[string]auth.Rows{"agents": c.rows}}
			seen, err := db.List[agent.Agent](t.Context(), d, who.Over("agents"))
			var got []string
			for _, a := range seen {
				got = append(got, a.UserID)
			}
			if slices.Sort(got); err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%+v: %v, %v", c.rows, got, err)
			}
		}
	})
}

func TestTheMembersOfAGroupHaveAnOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		name := map[string]string{}
		var ids []string
		for i := range 4 {
			a := f.under(t, i+1, "")
			name[a.ID] = string(rune('a' + i))
			ids = append(ids, a.ID)
		}
		g := f.group(t, `{"name":"x","agent_ids":["`+ids[0]+`","`+ids[1]+`"]}`)
		if g.Order != agent.Sequential || !g.Enabled {
			t.Errorf("made as %+v", g)
		}
		path := "/v1/agent_groups/" + g.ID
		for _, c := range []struct {
			method, path, body string
			status             int
			want               string
		}{
			{http.MethodPut, path + "/members/" + ids[2], `{}`, 200, "abc"},
			{http.MethodPut, path + "/members/" + ids[3], `{"position":1}`, 200, "dabc"},
			{http.MethodPut, path + "/members/" + ids[3], `{}`, 200, "dabc"},
			{http.MethodPut, path + "/members/" + ids[3], `{"position":3}`, 200, "abdc"},
			{http.MethodPut, path + "/members/" + ids[0], `{"position":99}`, 200, "bdca"},
			{http.MethodPut, path + "/members/agt_none", `{}`, 422, "bdca"},
			{http.MethodDelete, path + "/members/" + ids[3], ``, 204, "bca"},
			{http.MethodDelete, path + "/members/" + ids[3], ``, 404, "bca"},
			{http.MethodPatch, path, `{"agent_ids":["` + ids[0] + `","` + ids[2] + `"]}`, 200, "ac"},
			{http.MethodPatch, path, `{"agent_ids":["` + ids[0] + `","` + ids[0] + `"]}`, 400, "ac"},
			{http.MethodPatch, path, `{"agent_ids":["agt_none"]}`, 422, "ac"},
			{http.MethodPatch, path, `{"order":"round_robin","enabled":false,"note":"n"}`, 200, "ac"},
			{http.MethodPatch, path, `{"order":"random","enabled":true,"note":null}`, 200, "ac"},
			{http.MethodPatch, path, `{"order":"best"}`, 400, "ac"},
		} {
			body := any(c.body)
			if c.body == "" {
				body = nil
			}
			w := f.Do(t, resttest.Token, c.method, c.path, body)
			if w.Code != c.status {
				t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, w.Code, w.Body)
			}
			g = agent.Group{}
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path, nil), http.StatusOK, &g)
			got := ""
			for _, id := range g.AgentIDs {
				got += name[id]
			}
			if got != c.want {
				t.Errorf("%s %s: the members are %s, want %s", c.method, c.body, got, c.want)
			}
		}
		if g.Order != agent.Random || !g.Enabled || g.Note != "" {
			t.Errorf("at the end %+v", g)
		}
		// An agent may be in several groups, and is found by each; one who is in one stays an agent.
		other := f.group(t, `{"name":"y","agent_ids":["`+ids[0]+`"]}`)
		var groups struct{ Data []agent.Group }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/agent_groups?sort=name&agent_id="+ids[0], nil), http.StatusOK, &groups)
		if len(groups.Data) != 2 || groups.Data[1].ID != other.ID {
			t.Errorf("in %+v", groups)
		}
		var members struct{ Data []agent.Agent }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/agents?agent_group_id="+g.ID, nil), http.StatusOK, &members)
		if len(members.Data) != 2 {
			t.Errorf("members %+v", members)
		}
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/agents/"+ids[0], nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "agent group "+g.ID) {
			t.Errorf("a member was deleted: %d %s", w.Code, w.Body)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, path, nil), http.StatusNoContent, nil)
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/agents/"+ids[2], nil), http.StatusNoContent, nil)
		if w := f.Do(t, resttest.Token, http.MethodPost, "/v1/agent_groups", `{"name":"y"}`); w.Code != http.StatusConflict {
			t.Errorf("the same name: %d %s", w.Code, w.Body)
		}
	})
}

func TestMembersAddedAtTheSameTimeAreAllIn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		g := f.group(t, `{"name":"x"}`)
		var all sync.WaitGroup
		for i := range users {
			a := f.under(t, i+1, "")
			all.Go(func() {
				w := f.Do(t, resttest.Token, http.MethodPut, "/v1/agent_groups/"+g.ID+"/members/"+a.ID, `{"position":1}`)
				if w.Code != http.StatusOK {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/agent_groups/"+g.ID, nil), http.StatusOK, &g)
		if len(g.AgentIDs) != users {
			t.Errorf("%d are in it", len(g.AgentIDs))
		}
	})
}
