package role_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/role"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// permissions are those of the specification.
func permissions(t *testing.T) role.Permissions {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			name, _ := o.Extensions["x-permission"].(string)
			names = append(names, name)
		}
	}
	return role.NewPermissions(names...)
}

// fixture is a server with the built-in roles in both accounts, and in Account the departments dep_1, dep_2 below it,
// and dep_3.
type fixture struct {
	*resttest.Server
	roles *role.Service
	now   time.Time
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{now: time.Now()}
	f.roles = &role.Service{DB: d, Permissions: permissions(t), Now: func() time.Time { return f.now }}
	f.Server = resttest.Mount(t, d, spec, f.roles.Operations())
	if err := f.roles.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, each := range []struct{ id, parent string }{{"dep_1", ""}, {"dep_2", "dep_1"}, {"dep_3", ""}} {
		_, err := d.Write().NewRaw(`INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name, parent_id)
			VALUES (?, ?, '{}', ?, ?, '1', ?, NULLIF(?, ''))`, each.id, resttest.Account, db.Now(), db.Now(), each.id, each.parent).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fixture) create(t *testing.T, body string) role.Role {
	t.Helper()
	var r role.Role
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/roles", body), http.StatusCreated, &r)
	return r
}

func (f *fixture) patch(t *testing.T, id, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.Do(t, resttest.Token, http.MethodPatch, "/v1/roles/"+id, body)
}

// builtIn finds a built-in role of Account.
func (f *fixture) builtIn(t *testing.T, code string) role.Role {
	t.Helper()
	var page struct{ Data []role.Role }
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/roles?built_in=true&code="+code, nil), http.StatusOK, &page)
	if len(page.Data) != 1 {
		t.Fatalf("%d roles have the code %s", len(page.Data), code)
	}
	return page.Data[0]
}

// compile gives what usr_1 of dep_1 may do with roles.
func (f *fixture) compile(t *testing.T, roleIDs ...string) role.Grant {
	t.Helper()
	g, err := f.roles.Compile(t.Context(), resttest.Account, roleIDs, "usr_1", "dep_1")
	if err != nil {
		t.Fatal(err)
	}
	return g
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
					return map[string]string{"role_id": last.create(t, `{"name":"x","external_id":"hr-1"}`).ID, "external_id": "hr-1"}
				},
			})
		})
	}
}

func TestARoleNamesOnlyWhatThereIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"name":"a","permissions":["calls.read","calls.read","recordings.*","*"]}`, 201, `"permissions":["*","calls.read","recordings.*"]`},
			{`{"name":"a","code":"200"}`, 201, `"permissions":[],"data_scopes":{},"masks":{"numbers":false},"built_in":false`},
			{`{"name":"a","code":"200"}`, 409, "/code"},
			{`{"name":"a","code":"owner"}`, 409, "/code"},
			{`{"name":"a","permissions":["calls.read","calls.fly"]}`, 422, "calls.fly"},
			{`{"name":"a","permissions":["call*"]}`, 422, "/permissions/0"},
			{`{"name":"a","permissions":["nothing.*"]}`, 422, "nothing.*"},
			{`{"name":"a","permissions":["none"]}`, 422, "none"},
			{`{"name":"a","permissions":["platform.read"]}`, 422, "platform.read"},
			{`{"name":"a","permissions":["platform.*"]}`, 422, "platform.*"},
			{`{"name":"a","data_scopes":{"call":{"rows":"own"}}}`, 422, "/data_scopes/call"},
			{`{"name":"a","data_scopes":{"calls":{"rows":"mine"}}}`, 400, "/data_scopes/calls/rows"},
			{`{"name":"a","data_scopes":{"calls":{"rows":"departments"}}}`, 400, "department_ids"},
			{`{"name":"a","data_scopes":{"calls":{"rows":"own","department_ids":["dep_1"]}}}`, 400, "department_ids"},
			{`{"name":"a","data_scopes":{"calls":{"rows":"departments","department_ids":["dep_1","dep_3"]}}}`, 201, `"dep_3"`},
			{`{"name":"a","data_scopes":{"calls":{"rows":"departments","department_ids":["dep_1","dep_9"]}}}`, 422, "/data_scopes/calls/department_ids/1"},
			{`{"name":" "}`, 400, "/name"},
			{`{"name":"a","built_in":true}`, 400, "built_in"},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/roles", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
		w := f.Do(t, resttest.Other, http.MethodPost, "/v1/roles", `{"name":"a","data_scopes":{"*":{"rows":"departments","department_ids":["dep_1"]}}}`)
		if w.Code != http.StatusUnprocessableEntity {
			t.Errorf("another account's department: %d %s", w.Code, w.Body)
		}
	})
}

func TestAPatchOfDataScopesMerges(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		r := f.create(t, `{"name":"a","permissions":["calls.read"],"data_scopes":{"*":{"rows":"own"},"calls":{"rows":"departments","department_ids":["dep_3"]}}}`)
		used := func() int {
			n, err := d.Read().NewSelect().Table("role_departments").Where("id = ?", r.ID).Count(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		if used() != 1 {
			t.Errorf("%d departments are named", used())
		}
		resttest.Want(t, f.patch(t, r.ID, `{"data_scopes":{"calls":{"rows":"all","department_ids":null},"recordings":{"rows":"department"}},"masks":{"numbers":true}}`), http.StatusOK, &r)
		if fmt.Sprint(r.DataScopes) != "map[*:{own []} calls:{all []} recordings:{department []}]" || !r.Masks.Numbers || used() != 0 {
			t.Errorf("became %v %+v, %d departments are named", r.DataScopes, r.Masks, used())
		}
		var after role.Role
		resttest.Want(t, f.patch(t, r.ID, `{"data_scopes":{"calls":null}}`), http.StatusOK, &after)
		if _, ok := after.DataScopes["calls"]; ok {
			t.Errorf("became %v", after.DataScopes)
		}
	})
}

func TestEveryAccountHasTheBuiltInRoles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		codes := []string{role.Admin, role.Agent, role.Developer, role.Owner, role.Quality, role.ReadOnly, role.Supervisor}
		for _, token := range []string{resttest.Token, resttest.Other} {
			var page struct{ Data []role.Role }
			resttest.Want(t, f.Do(t, token, http.MethodGet, "/v1/roles?built_in=true", nil), http.StatusOK, &page)
			var got []string
			for _, r := range page.Data {
				got = append(got, r.Code)
			}
			if slices.Sort(got); !slices.Equal(got, codes) {
				t.Errorf("%s has %v", token, got)
			}
		}
		for _, code := range codes {
			r := f.builtIn(t, code)
			for _, p := range r.Permissions {
				if !f.roles.Permissions.Knows(p) {
					t.Errorf("%s has %s, which there is not", code, p)
				}
			}
			w := f.patch(t, r.ID, `{"name":"mine"}`)
			if w.Code != http.StatusConflict {
				t.Errorf("%s was changed: %d %s", code, w.Code, w.Body)
			}
			w = f.Do(t, resttest.Token, http.MethodDelete, "/v1/roles/"+r.ID, nil)
			if w.Code != http.StatusConflict {
				t.Errorf("%s was deleted: %d %s", code, w.Code, w.Body)
			}
			w = f.Do(t, resttest.Token, http.MethodPost, "/v1/roles/"+r.ID+"/copies", `{"name":"mine"}`)
			var copied role.Role
			resttest.Want(t, w, http.StatusCreated, &copied)
			if copied.BuiltIn || copied.Name != "mine" || copied.Code != "" || !slices.Equal(copied.Permissions, r.Permissions) ||
				w.Header().Get("Location") != "/v1/roles/"+copied.ID {
				t.Errorf("the copy of %s at %s is %+v", code, w.Header().Get("Location"), copied)
			}
			resttest.Want(t, f.patch(t, copied.ID, `{"permissions":["calls.read"]}`), http.StatusOK, nil)
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/roles/"+copied.ID, nil), http.StatusNoContent, nil)
		}
	})
}

func TestBuiltInRolesFollowTheRelease(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		before := f.builtIn(t, role.Agent)
		_, err := d.Write().NewRaw(`UPDATE roles SET permissions = '["calls.read"]' WHERE code = 'agent' AND account_id = ?`, resttest.Account).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write().NewRaw("DELETE FROM roles WHERE code = 'quality'").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := f.roles.Install(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if after := f.builtIn(t, role.Agent); !slices.Equal(after.Permissions, before.Permissions) || after.ID != before.ID {
			t.Errorf("became %+v", after)
		}
		if r := f.builtIn(t, role.Quality); !r.BuiltIn {
			t.Errorf("%+v", r)
		}
		etag := f.builtIn(t, role.Agent).Etag
		if err := f.roles.Install(t.Context()); err != nil || f.builtIn(t, role.Agent).Etag != etag {
			t.Errorf("installing again changed something: %v", err)
		}
	})
}

func TestARoleThatSomebodyHasStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		r := f.create(t, `{"name":"a"}`)
		_, err := d.Write().NewRaw(`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, login, name, role_ids, status)
			VALUES ('usr_1', ?, '{}', ?, ?, '1', 'usr_1', 'a', 'a', '[]', 'active')`, resttest.Account, db.Now(), db.Now()).Exec(t.Context())
		if err == nil {
			_, err = d.Write().NewRaw("INSERT INTO user_roles (id, account_id, role_id) VALUES ('usr_1', ?, ?)", resttest.Account, r.ID).Exec(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/roles/"+r.ID, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "user usr_1") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// text is a data scope as a test writes it: users | departments, or "all".
func text(r auth.Rows) string {
	if r.All {
		return "all"
	}
	return strings.Join(r.Users, " ") + " | " + strings.Join(r.Departments, " ")
}

func TestDataScopesBecomeRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.roles.Reports = func(_ context.Context, account, userID string) ([]string, error) {
			return []string{account + "'s usr_8", "under " + userID}, nil
		}
		for _, c := range []struct{ scopes, want, nowhere string }{
			{`{}`, "usr_1 | ", "usr_1 | "},
			{`{"*":{"rows":"own"}}`, "usr_1 | ", "usr_1 | "},
			{`{"recordings":{"rows":"all"}}`, "usr_1 | ", "usr_1 | "},
			{`{"*":{"rows":"own_and_reports"}}`, "acc_test's usr_8 under usr_1 usr_1 | ", "acc_test's usr_8 under usr_1 usr_1 | "},
			{`{"*":{"rows":"department"}}`, "usr_1 | dep_1", "usr_1 | "},
			{`{"*":{"rows":"department_tree"}}`, "usr_1 | dep_1 dep_2", "usr_1 | "},
			{`{"*":{"rows":"departments","department_ids":["dep_3","dep_1"]}}`, "usr_1 | dep_1 dep_3", "usr_1 | dep_1 dep_3"},
			{`{"*":{"rows":"all"}}`, "all", "all"},
			{`{"*":{"rows":"all"},"calls":{"rows":"own"}}`, "usr_1 | ", "usr_1 | "},
			{`{"*":{"rows":"own"},"calls":{"rows":"all"}}`, "all", "all"},
		} {
			r := f.create(t, `{"name":"a","permissions":["calls.read"],"data_scopes":`+c.scopes+`}`)
			if got := text(f.compile(t, r.ID).Reach["calls"]); got != c.want {
				t.Errorf("%s: got %s, want %s", c.scopes, got, c.want)
			}
			g, err := f.roles.Compile(t.Context(), resttest.Account, []string{r.ID}, "usr_1", "")
			if got := text(g.Reach["calls"]); err != nil || got != c.nowhere {
				t.Errorf("%s, in no department: got %s, want %s; %v", c.scopes, got, c.nowhere, err)
			}
		}
	})
}

func TestSeveralRolesAreUnited(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		own := f.create(t, `{"name":"own calls","permissions":["calls.*"],"data_scopes":{"*":{"rows":"own"}}}`).ID
		department := f.create(t, `{"name":"calls of a department","permissions":["calls.read"],"data_scopes":{"calls":{"rows":"departments","department_ids":["dep_3"]}}}`).ID
		tree := f.create(t, `{"name":"calls of a tree","permissions":["calls.read","recordings.read"],"data_scopes":{"*":{"rows":"department_tree"}}}`).ID
		recordings := f.create(t, `{"name":"all recordings","permissions":["recordings.read"],"data_scopes":{"*":{"rows":"all"}}}`).ID
		everything := f.create(t, `{"name":"everything","permissions":["*"],"data_scopes":{"*":{"rows":"all"}}}`).ID
		for _, c := range []struct {
			roles                                     []string
			permissions, calls, recordings, elsewhere string
		}{
			{nil, "", " | ", " | ", " | "},
			{[]string{"role_none"}, "", " | ", " | ", " | "},
			{[]string{own}, "calls.*", "usr_1 | ", " | ", " | "},
			{[]string{own, own}, "calls.*", "usr_1 | ", " | ", " | "},
			{[]string{own, department}, "calls.* calls.read", "usr_1 | dep_3", " | ", " | "},
			{[]string{own, department, tree}, "calls.* calls.read recordings.read", "usr_1 | dep_1 dep_2 dep_3", "usr_1 | dep_1 dep_2", " | "},
			// A role that grants nothing on calls does not widen them.
			{[]string{own, recordings}, "calls.* recordings.read", "usr_1 | ", "all", " | "},
			{[]string{own, everything}, "* calls.*", "all", "all", "all"},
		} {
			for range 2 {
				g := f.compile(t, c.roles...)
				got := strings.Join(g.Permissions, " ")
				if got != c.permissions || text(g.Reach["calls"]) != c.calls || text(g.Reach["recordings"]) != c.recordings || text(g.Reach["*"]) != c.elsewhere {
					t.Errorf("%v: got %s; calls %s; recordings %s; others %s", c, got, text(g.Reach["calls"]), text(g.Reach["recordings"]), text(g.Reach["*"]))
				}
				slices.Reverse(c.roles)
			}
		}
	})
}

// What nobody grants, nobody reaches: also not by a resource that is named nowhere.
func TestWhoHasNoRoleSeesNothing(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	g := f.compile(t)
	who := auth.Caller{AccountID: resttest.Account, Scope: auth.Account(resttest.Account), Permissions: g.Permissions, Reach: g.Reach, Mask: g.Mask}
	for _, resource := range append(f.roles.Permissions.Resources(), "things of a later release") {
		rows, narrowed := who.Over(resource).Rows()
		if !narrowed || rows.All || len(rows.Users)+len(rows.Departments) > 0 || who.Can(resource+".read") {
			t.Errorf("%s: %+v", resource, rows)
		}
	}
}

func TestAMaskNeverVanishesByAnotherRole(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		masked := f.create(t, `{"name":"calls, masked","permissions":["calls.read"],"masks":{"numbers":true}}`).ID
		mask := f.create(t, `{"name":"the mask alone","masks":{"numbers":true}}`).ID
		unrelated := f.create(t, `{"name":"departments","permissions":["departments.read"]}`).ID
		related := f.create(t, `{"name":"calls, unmasked","permissions":["calls.read"]}`).ID
		owner := f.builtIn(t, role.Owner).ID
		for _, c := range []struct {
			roles []string
			want  bool
		}{
			{nil, false}, {[]string{related}, false}, {[]string{related, unrelated, owner}, false},
			{[]string{masked}, true}, {[]string{masked, unrelated}, true}, {[]string{unrelated, masked, related}, true},
			{[]string{masked, owner}, true}, {[]string{mask}, true}, {[]string{related, mask}, true}, {[]string{owner, mask}, true},
		} {
			if got := f.compile(t, c.roles...).Mask.Numbers; got != c.want {
				t.Errorf("%v: hidden %t, want %t", c.roles, got, c.want)
			}
		}
	})
}

func TestAChangeHoldsWithinASecondEverywhere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		// Another process: it hears nothing of the changes.
		now := time.Now()
		other := &role.Service{DB: d, Permissions: f.roles.Permissions, Now: func() time.Time { return now }}
		r := f.create(t, `{"name":"a","permissions":["calls.read"],"data_scopes":{"*":{"rows":"department_tree"}}}`)
		seen := func(s *role.Service) string {
			g, err := s.Compile(t.Context(), resttest.Account, []string{r.ID}, "usr_1", "dep_1")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(g.Permissions, " ") + " | " + strings.Join(g.Reach["calls"].Departments, " ")
		}
		const before, after = "calls.read | dep_1 dep_2", "calls.* | dep_1 dep_2"
		if seen(f.roles) != before || seen(other) != before {
			t.Errorf("at first: %s; elsewhere %s", seen(f.roles), seen(other))
		}
		resttest.Want(t, f.patch(t, r.ID, `{"permissions":["calls.*"]}`), http.StatusOK, nil)
		if seen(f.roles) != after {
			t.Errorf("where it was changed: %s", seen(f.roles))
		}
		now = now.Add(role.Fresh)
		if seen(other) != after {
			t.Errorf("elsewhere, a second later: %s", seen(other))
		}
		if _, err := d.Write().NewRaw("UPDATE departments SET parent_id = NULL").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(role.Fresh)
		if got := seen(f.roles); got != "calls.* | dep_1" {
			t.Errorf("after the departments changed: %s", got)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/roles/"+r.ID, nil), http.StatusNoContent, nil)
		if got := seen(f.roles); got != " | " {
			t.Errorf("after it was deleted: %s", got)
		}
	})
}

func TestManyAskAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		agent := f.builtIn(t, role.Agent).ID
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				user := fmt.Sprint("usr_", i)
				g, err := f.roles.Compile(t.Context(), resttest.Account, []string{agent}, user, "dep_1")
				if err != nil || text(g.Reach["calls"]) != user+" | " {
					t.Errorf("%s: %+v, %v", user, g.Reach["calls"], err)
				}
			})
		}
		all.Wait()
	})
}

func TestAskingWhileTheDatabaseIsAwayFailsAndHealsByItself(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	f := mount(t, d)
	agent := f.builtIn(t, role.Agent).ID
	gone, err := db.Open(t.Context(), dbtest.SQLiteURL(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	s := &role.Service{DB: gone, Permissions: f.roles.Permissions}
	if _, err := s.Compile(t.Context(), resttest.Account, []string{agent}, "usr_1", ""); err == nil {
		t.Error("rights came from nowhere")
	}
	s.DB = d
	if g, err := s.Compile(t.Context(), resttest.Account, []string{agent}, "usr_1", ""); err != nil || len(g.Permissions) == 0 {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestNobodyGrantsMoreThanHeHas(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		plain := f.create(t, `{"name":"own calls","permissions":["calls.read"]}`)
		masked := f.create(t, `{"name":"masked","permissions":["calls.read"],"masks":{"numbers":true}}`)
		mask := f.create(t, `{"name":"mask","masks":{"numbers":true}}`)
		wide := f.create(t, `{"name":"all calls","permissions":["calls.read"],"data_scopes":{"calls":{"rows":"all"}}}`)
		owner := f.builtIn(t, role.Owner)
		caller := func(mask bool, reach map[string]auth.Rows, permissions ...string) auth.Caller {
			return auth.Caller{AccountID: resttest.Account, UserID: "usr_1", Scope: auth.Account(resttest.Account),
				Permissions: permissions, Reach: reach, Mask: auth.Mask{Numbers: mask}}
		}
		everywhere := map[string]auth.Rows{"*": {All: true}}
		for name, c := range map[string]struct {
			who   auth.Caller
			roles []string
			want  bool
		}{
			"a program with all":             {caller(false, nil, "*"), []string{owner.ID, wide.ID, plain.ID}, true},
			"nothing":                        {caller(true, nil), nil, true},
			"the same":                       {caller(false, everywhere, "calls.read"), []string{plain.ID, wide.ID}, true},
			"more by a wildcard":             {caller(false, everywhere, "calls.*"), []string{plain.ID}, true},
			"an administrator and the owner": {caller(false, everywhere, "calls.*", "roles.*"), []string{owner.ID}, false},
			"a permission short":             {caller(false, everywhere, "recordings.read"), []string{plain.ID}, false},
			"one of two":                     {caller(false, everywhere, "calls.read"), []string{plain.ID, owner.ID}, false},
			"narrowed, and own":              {caller(false, map[string]auth.Rows{"*": {Users: []string{"usr_1"}}}, "calls.read"), []string{plain.ID}, true},
			"narrowed, and all":              {caller(false, map[string]auth.Rows{"*": {Users: []string{"usr_1"}}}, "calls.read"), []string{wide.ID}, false},
			"masked, and masked":             {caller(true, everywhere, "calls.read"), []string{masked.ID}, true},
			"masked, and unmasked":           {caller(true, everywhere, "calls.read"), []string{plain.ID}, false},
			"masked, and the mask beside":    {caller(true, everywhere, "calls.read"), []string{plain.ID, mask.ID}, true},
			"an unknown role":                {caller(false, nil, "*"), []string{"role_none"}, false},
		} {
			err := f.roles.MayGrant(t.Context(), d, c.who, c.roles)
			if (err == nil) != c.want || (err != nil && problem.From(err).Code != problem.CodeRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// The same holds for who writes roles.
		const limited = "only:roles.read,roles.write,calls.read"
		for _, c := range []struct {
			method, path, body string
			status             int
		}{
			{http.MethodPost, "/v1/roles", `{"name":"x","permissions":["calls.read"]}`, 201},
			{http.MethodPost, "/v1/roles", `{"name":"x","permissions":["calls.*"]}`, 422},
			{http.MethodPost, "/v1/roles/" + owner.ID + "/copies", `{"name":"x"}`, 422},
			{http.MethodPatch, "/v1/roles/" + plain.ID, `{"permissions":["calls.read","users.write"]}`, 422},
			{http.MethodPatch, "/v1/roles/" + plain.ID, `{"name":"y"}`, 200},
		} {
			if w := f.Do(t, limited, c.method, c.path, c.body); w.Code != c.status {
				t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, w.Code, w.Body)
			}
		}
		beyond := f.create(t, `{"name":"users","permissions":["users.read"]}`)
		for _, method := range []string{http.MethodPatch, http.MethodDelete} {
			body := map[string]any{http.MethodPatch: `{"permissions":[]}`}[method]
			if w := f.Do(t, limited, method, "/v1/roles/"+beyond.ID, body); w.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s of a role that grants more: %d %s", method, w.Code, w.Body)
			}
		}
		if w := f.Do(t, "masked", http.MethodPatch, "/v1/roles/"+masked.ID, `{"masks":{"numbers":false}}`); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("numbers were unmasked by whom they are hidden from: %d %s", w.Code, w.Body)
		}
	})
}
