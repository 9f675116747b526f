package user

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/role"
)

func TestEveryOperation(t *testing.T) {
	for name, location := range locations() {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = mount(t, dbtest.Open(t, location(t)), person)
				last.addWith(t, &User{Row: db.Row{ID: resttest.Caller().KeyID}, Draft: Draft{Login: "self", Name: "self"}}, role.Owner)
				return last.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string { return last.objects(t) },
				Request: func(t *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					return last.request(t, operation)
				},
			})
		})
	}
}

// objects are what the paths name.
func (f *fixture) objects(t *testing.T) map[string]string {
	t.Helper()
	made := f.Do(t, resttest.Token, http.MethodPost, "/v1/users", `{"login":"wang","name":"Wang"}`)
	w := f.try(t, "self", password, "")
	provider := `{"issuer":"https://login.example.com","client_id":"a","match":"email"}`
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPut, "/v1/account/identity_provider", provider), http.StatusOK, nil)
	return map[string]string{
		"user_id": decode[User](t, made, http.StatusCreated).ID, "session_id": decode[SignedIn](t, w, http.StatusCreated).SessionID,
		"external_id": "1001",
	}
}

// request is that of an operation whose example does not do.
func (f *fixture) request(t *testing.T, operation string) *resttest.Request {
	t.Helper()
	self := auth.Caller{AccountID: resttest.Account, UserID: resttest.Caller().KeyID}
	switch operation {
	case "createSession":
		return &resttest.Request{Body: map[string]any{"account": resttest.Account, "login": "self", "password": password}}
	case "changePassword":
		return &resttest.Request{Body: map[string]any{"current_password": password, "new_password": another}}
	case "disableTotp":
		return &resttest.Request{Body: map[string]any{"password": password}}
	case "useLink":
		link, err := f.linkFor(t, self.UserID)
		if err != nil {
			t.Fatal(err)
		}
		return &resttest.Request{Body: map[string]any{"token": link.Token, "password": another}}
	case "confirmTotp":
		e, err := f.users.enrolTOTP(t.Context(), self, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return &resttest.Request{Body: map[string]any{"code": codeAt(t, e.Secret, time.Now())}}
	}
	return nil
}

// codeAt is what an authenticator shows.
func codeAt(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestWhatAUserMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, person)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"login":"Li.Wei","name":"李伟","email":"Li@Example.com"}`, 201, `"login":"li.wei"`},
			{`{"login":"LI.WEI","name":"a"}`, 409, "/login"},
			{`{"login":"李伟","name":"a"}`, 201, `"login":"李伟"`},
			{`{"login":"a b","name":"a"}`, 400, "/login"},
			{`{"login":"a","name":" "}`, 400, "/name"},
			{`{"login":"a","name":"a","email":"nobody"}`, 400, "/email"},
			{`{"login":"a","name":"a","mobile":"call me"}`, 400, "/mobile"},
			{`{"login":"a","name":"a","department_id":"dep_none"}`, 422, "does not exist"},
			{`{"login":"a","name":"a","role_ids":["role_none"]}`, 422, "/role_ids/0"},
			{`{"login":"a","name":"a","password":"secret secret"}`, 400, "/password"},
			{`{"login":"a","name":"a","status":"gone"}`, 400, "/status"},
			{`{"login":"a","name":"a","role_ids":["` + f.role(t, role.Agent) + `"]}`, 201, `"status":"active"`},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/users", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
		agents := f.Do(t, resttest.Token, http.MethodGet, "/v1/users?role_id="+f.role(t, role.Agent), nil)
		if page := decode[struct{ Data []User }](t, agents, http.StatusOK); len(page.Data) != 1 || page.Data[0].Login != "a" {
			t.Errorf("the agents are %s", agents.Body)
		}
	})
}

func TestAnAccountKeepsAnOwner(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		boss := f.signIn(t, "boss")
		path := "/v1/users/" + f.owner
		tries := []struct {
			method string
			body   any
		}{
			{http.MethodPatch, `{"role_ids":[]}`}, {http.MethodPatch, `{"status":"disabled"}`}, {http.MethodDelete, nil},
			{http.MethodPatch, `{"role_ids":["` + f.role(t, role.Admin) + `"]}`},
		}
		for _, try := range tries {
			if w := boss.do(t, try.method, path, try.body); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "last_owner") {
				t.Errorf("%s %v: %d %s", try.method, try.body, w.Code, w.Body)
			}
		}
		resttest.Want(t, boss.do(t, http.MethodPatch, path, `{"name":"The boss"}`), http.StatusOK, nil)
		disabled := f.add(t, "gone", role.Owner)
		resttest.Want(t, boss.do(t, http.MethodPatch, "/v1/users/"+disabled, `{"status":"disabled"}`), http.StatusOK, nil)
		if w := boss.do(t, http.MethodPatch, path, tries[0].body); w.Code != http.StatusConflict {
			t.Errorf("a disabled owner counted: %d %s", w.Code, w.Body)
		}
		f.add(t, "second", role.Owner)
		resttest.Want(t, boss.do(t, http.MethodPatch, path, tries[0].body), http.StatusOK, nil)
	})
}

func TestTwoOwnersCannotBothStepDownAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		second := f.add(t, "second", role.Owner)
		var wait sync.WaitGroup
		for login, id := range map[string]string{"boss": f.owner, "second": second} {
			b := f.signIn(t, login)
			wait.Go(func() { b.do(t, http.MethodPatch, "/v1/users/"+id, `{"role_ids":[]}`) })
		}
		wait.Wait()
		var owners int
		err := d.Read().NewRaw("SELECT count(*) FROM user_roles WHERE role_id = ?", f.role(t, role.Owner)).Scan(t.Context(), &owners)
		if err != nil || owners != 1 {
			t.Errorf("%d owners are left, %v", owners, err)
		}
	})
}

// A new password or a new e-mail address of somebody is the way to become him.
func TestNobodyBecomesSomebodyWhoMayDoMore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		f.add(t, "admin", role.Admin)
		agent := f.add(t, "agent", role.Agent)
		admin := f.signIn(t, "admin")
		for _, c := range []struct {
			method, path string
			body         any
			status       int
		}{
			{http.MethodPost, "/v1/users/" + f.owner + "/links", nil, 403},
			{http.MethodPatch, "/v1/users/" + f.owner, `{"email":"me@example.com"}`, 403},
			{http.MethodPatch, "/v1/users/" + f.owner, `{"status":"disabled"}`, 403},
			{http.MethodDelete, "/v1/users/" + f.owner, nil, 403},
			{http.MethodDelete, "/v1/users/" + f.owner + "/totp", nil, 403},
			{http.MethodPatch, "/v1/users/" + agent, `{"role_ids":["` + f.role(t, role.Owner) + `"]}`, 422},
			{http.MethodPost, "/v1/users", `{"login":"x","name":"x","role_ids":["` + f.role(t, role.Owner) + `"]}`, 422},
			{http.MethodPatch, "/v1/users/" + agent, `{"role_ids":[]}`, 200},
			{http.MethodPatch, "/v1/users/" + agent, `{"role_ids":["` + f.role(t, role.Agent) + `"]}`, 200},
			{http.MethodPost, "/v1/users/" + agent + "/links", nil, 201},
			{http.MethodDelete, "/v1/users/" + agent, nil, 204},
		} {
			if w := admin.do(t, c.method, c.path, c.body); w.Code != c.status {
				t.Errorf("%s %s %v: got %d, want %d: %s", c.method, c.path, c.body, w.Code, c.status, w.Body)
			}
		}
	})
}

// One who sees a department neither puts people elsewhere nor moves there himself, where he would see more.
func TestNobodyReachesMoreByMoving(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		narrowed := resttest.Caller()
		narrowed.KeyID, narrowed.UserID = "", "usr_narrow"
		narrowed.Reach = map[string]auth.Rows{"*": {All: true}, "users": {Users: []string{"usr_narrow"}, Departments: []string{"dep_1"}}}
		elsewhere := narrowed
		elsewhere.Reach = map[string]auth.Rows{"*": {All: true}, "calls": {Departments: []string{"dep_1"}}}
		people := map[string]auth.Caller{"narrowed": narrowed, "elsewhere": elsewhere}
		f := mount(t, d, nil)
		f.remount(t, people)
		for _, id := range []string{"dep_1", "dep_2"} {
			_, err := d.Write().NewRaw(`INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name) VALUES (?, ?, '{}', ?, ?, '1', ?)`,
				id, resttest.Account, db.Now(), db.Now(), id).Exec(t.Context())
			if err != nil {
				t.Fatal(err)
			}
		}
		f.addWith(t, &User{Row: db.Row{ID: "usr_narrow"}, Owned: db.Owned{DepartmentID: "dep_1"}, Draft: Draft{Login: "narrow", Name: "n"}})
		f.addWith(t, &User{Row: db.Row{ID: "usr_mate"}, Owned: db.Owned{DepartmentID: "dep_1"}, Draft: Draft{Login: "mate", Name: "m"}})
		f.addWith(t, &User{Row: db.Row{ID: "usr_far"}, Owned: db.Owned{DepartmentID: "dep_2"}, Draft: Draft{Login: "far", Name: "f"}})
		for _, c := range []struct {
			who, method, path, body string
			status                  int
		}{
			{"narrowed", "PATCH", "/v1/users/usr_mate", `{"department_id":"dep_2"}`, 403},
			{"narrowed", "PATCH", "/v1/users/usr_mate", `{"name":"mm"}`, 200},
			{"narrowed", "PATCH", "/v1/users/usr_far", `{"name":"ff"}`, 404},
			{"narrowed", "PATCH", "/v1/users/usr_narrow", `{"department_id":"dep_2"}`, 403},
			{"narrowed", "PATCH", "/v1/users/usr_narrow", `{"name":"nn"}`, 200},
			{"narrowed", "POST", "/v1/users", `{"login":"a","name":"a"}`, 403},
			{"narrowed", "POST", "/v1/users", `{"login":"a","name":"a","department_id":"dep_2"}`, 403},
			{"narrowed", "POST", "/v1/users", `{"login":"a","name":"a","department_id":"dep_1"}`, 201},
			{"elsewhere", "PATCH", "/v1/users/usr_narrow", `{"department_id":"dep_2"}`, 403},
			{"elsewhere", "PATCH", "/v1/users/usr_mate", `{"department_id":"dep_2"}`, 200},
		} {
			if w := f.Do(t, c.who, c.method, c.path, c.body); w.Code != c.status {
				t.Errorf("%s %s %s %s: got %d, want %d: %s", c.who, c.method, c.path, c.body, w.Code, c.status, w.Body)
			}
		}
	})
}

func TestFirstMakesTheOwnerOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		if _, made, err := f.users.First(t.Context(), resttest.Account, "admin", "Administrator"); made || err != nil {
			t.Errorf("in an account with a user: %t, %v", made, err)
		}
		link, made, err := f.users.First(t.Context(), resttest.OtherAccount, "admin", "Administrator")
		if !made || err != nil || !strings.HasPrefix(link.URL, "https://pbx.example.com/link#lnk_") {
			t.Fatalf("got %+v, %t, %v", link, made, err)
		}
		resttest.Want(t, f.Do(t, "", http.MethodPost, "/v1/sessions/link", map[string]string{"token": link.Token, "password": password}), http.StatusOK, nil)
		in := f.Do(t, "", http.MethodPost, "/v1/sessions", map[string]string{"account": resttest.OtherAccount, "login": "admin", "password": password})
		if got := decode[SignedIn](t, in, http.StatusCreated); !strings.Contains(strings.Join(got.Permissions, " "), "*") {
			t.Errorf("the first user may %v", got.Permissions)
		}
		if _, made, err = f.users.First(t.Context(), resttest.OtherAccount, "admin2", "a"); made || err != nil {
			t.Errorf("again: %t, %v", made, err)
		}
	})
}

func TestAHeadOfADepartmentStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, person)
		id := f.add(t, "head")
		_, err := d.Write().NewRaw(`INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name, head_user_id) VALUES ('dep_1', ?, '{}', ?, ?, '1', 'a', ?)`,
			resttest.Account, db.Now(), db.Now(), id).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/users/"+id, nil); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "department dep_1") {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if found, err := f.users.HasUser(t.Context(), d, resttest.Account, id); !found || err != nil {
			t.Errorf("HasUser: %t, %v", found, err)
		}
		if found, err := f.users.HasUser(t.Context(), d, resttest.OtherAccount, id); found || err != nil {
			t.Errorf("HasUser in another account: %t, %v", found, err)
		}
	})
}

func TestAnUnknownUserHasNoRights(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), nil)
	if _, err := f.users.loadUser(t.Context(), resttest.OtherAccount, f.owner); problem.From(err).Code != problem.CodeUnauthenticated {
		t.Errorf("another account's user: %v", err)
	}
}
