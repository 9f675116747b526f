package department_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/department"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is a server, and the user usr_1 of Account.
type fixture struct {
	*resttest.Server
	departments *department.Service
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{departments: &department.Service{DB: d, HasUser: func(ctx context.Context, conn db.Conn, account, userID string) (bool, error) {
		n, err := conn.Read().NewSelect().Table("users").Where("account_id = ?", account).Where("id = ?", userID).Count(ctx)
		return n == 1, err
	}}}
	f.Server = resttest.Mount(t, d, spec, f.departments.Operations())
	f.user(t, resttest.Account, "usr_1", nil)
	f.user(t, resttest.OtherAccount, "usr_2", nil)
	return f
}

func (f *fixture) user(t *testing.T, account, id string, departmentID any) {
	t.Helper()
	_, err := f.DB.Write().NewRaw(`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status)
		VALUES (?, ?, '{}', ?, ?, '1', ?, ?, ?, ?, '[]', 'active')`, id, account, db.Now(), db.Now(), id, departmentID, id, id).Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) create(t *testing.T, name, parent string) department.Department {
	t.Helper()
	body := map[string]any{"name": name}
	if parent != "" {
		body["parent_id"] = parent
	}
	var d department.Department
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/departments", body), http.StatusCreated, &d)
	return d
}

func (f *fixture) patch(t *testing.T, id, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.Do(t, resttest.Token, http.MethodPatch, "/v1/departments/"+id, body)
}

// names is the place of a department, as people read it.
func names(d department.Department) string {
	var all []string
	for _, step := range d.Path {
		all = append(all, step.Name)
	}
	return strings.Join(all, "/")
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
					d := last.create(t, "客服部", "")
					resttest.Want(t, last.patch(t, d.ID, `{"external_id":"hr-1"}`), http.StatusOK, nil)
					return map[string]string{"department_id": d.ID, "external_id": "hr-1"}
				},
			})
		})
	}
}

func TestADepartmentShowsItsPlace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		sales := f.create(t, "sales", "")
		south := f.create(t, "south", sales.ID)
		shenzhen := f.create(t, "shenzhen", south.ID)
		f.create(t, "support", "")
		if names(shenzhen) != "sales/south/shenzhen" || shenzhen.Depth != 2 || names(sales) != "sales" || sales.Depth != 0 {
			t.Errorf("made as %s at %d and %s at %d", names(shenzhen), shenzhen.Depth, names(sales), sales.Depth)
		}
		for query, want := range map[string]string{
			"":                             "sales sales/south sales/south/shenzhen support",
			"within=" + south.ID:           "sales/south sales/south/shenzhen",
			"within=dep_none":              "",
			"parent_id=" + sales.ID:        "sales/south",
			"q=SHEN":                       "sales/south/shenzhen",
			"id[in]=" + shenzhen.ID + ",x": "sales/south/shenzhen",
		} {
			var page struct{ Data []department.Department }
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/departments?sort=name&"+query, nil), http.StatusOK, &page)
			got := map[string]bool{}
			for _, each := range page.Data {
				got[names(each)] = true
			}
			for _, name := range strings.Fields(want) {
				if !got[name] {
					t.Errorf("%q: %s is missing of %v", query, name, got)
				}
			}
			if len(got) != len(strings.Fields(want)) {
				t.Errorf("%q: got %v, want %s", query, got, want)
			}
		}
		var page struct{ Data []department.Department }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/departments/search", `{"filter":{"parent_id":null},"sort":"name"}`), http.StatusOK, &page)
		if len(page.Data) != 2 || names(page.Data[0]) != "sales" || names(page.Data[1]) != "support" {
			t.Errorf("at the top: %+v", page.Data)
		}
		var read department.Department
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/departments/"+shenzhen.ID, nil), http.StatusOK, &read)
		if names(read) != "sales/south/shenzhen" {
			t.Errorf("read as %s", names(read))
		}
	})
}

func TestADepartmentMovesWithAllBelowIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		sales := f.create(t, "sales", "")
		south := f.create(t, "south", sales.ID)
		shenzhen := f.create(t, "shenzhen", south.ID)
		support := f.create(t, "support", "")
		var moved department.Department
		resttest.Want(t, f.patch(t, south.ID, `{"parent_id":"`+support.ID+`"}`), http.StatusOK, &moved)
		if names(moved) != "support/south" {
			t.Errorf("moved to %s", names(moved))
		}
		below, err := f.departments.Subtree(t.Context(), resttest.Account, support.ID)
		if err != nil || fmt.Sprint(below) != fmt.Sprint([]string{support.ID, south.ID, shenzhen.ID}) {
			t.Errorf("below support: %v, %v", below, err)
		}
		if below, err := f.departments.Subtree(t.Context(), resttest.OtherAccount, support.ID); err != nil || below != nil {
			t.Errorf("another account's view of it: %v, %v", below, err)
		}
		resttest.Want(t, f.patch(t, south.ID, `{"parent_id":null}`), http.StatusOK, &moved)
		if names(moved) != "south" || moved.Depth != 0 {
			t.Errorf("moved to %s", names(moved))
		}
	})
}

func TestNoDepartmentIsBelowItself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.create(t, "a", "")
		b := f.create(t, "b", a.ID)
		c := f.create(t, "c", b.ID)
		for name, parent := range map[string]string{"itself": a.ID, "its child": b.ID, "its grandchild": c.ID, "nothing": "dep_none"} {
			w := f.patch(t, a.ID, `{"parent_id":"`+parent+`"}`)
			if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/parent_id") {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		w := f.Do(t, resttest.Other, http.MethodPost, "/v1/departments", `{"name":"x","parent_id":"`+a.ID+`"}`)
		if w.Code != http.StatusUnprocessableEntity {
			t.Errorf("below another account's: %d %s", w.Code, w.Body)
		}
	})
}

// Each of these moves is right by itself; together they would leave both departments below each other.
func TestMovesAtTheSameTimeCloseNoCircle(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		const pairs = 8
		for range pairs {
			a, b := f.create(t, "a", ""), f.create(t, "b", "")
			below := f.create(t, "below b", b.ID)
			var all sync.WaitGroup
			for id, parent := range map[string]string{a.ID: below.ID, b.ID: a.ID} {
				all.Go(func() {
					switch w := f.patch(t, id, `{"parent_id":"`+parent+`"}`); w.Code {
					case http.StatusOK, http.StatusUnprocessableEntity, http.StatusServiceUnavailable:
					default:
						t.Errorf("%d %s", w.Code, w.Body)
					}
				})
			}
			all.Wait()
		}
		tree, err := department.Read(t.Context(), d, resttest.Account)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := db.List[department.Department](t.Context(), d, auth.Account(resttest.Account))
		if err != nil || len(rows) != 3*pairs {
			t.Fatal(len(rows), err)
		}
		top := map[string]bool{}
		for _, each := range rows {
			top[each.ID] = each.ParentID == ""
		}
		for _, each := range rows {
			if path := tree.Path(each.ID); !top[path[0].ID] {
				t.Errorf("%s does not reach the top: %v", each.ID, path)
			}
		}
	})
}

func TestTheTreeHasABottom(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	top := f.create(t, "0", "")
	last := top
	for depth := 1; depth <= department.MaxDepth; depth++ {
		last = f.create(t, fmt.Sprint(depth), last.ID)
	}
	w := f.Do(t, resttest.Token, http.MethodPost, "/v1/departments", `{"name":"too deep","parent_id":"`+last.ID+`"}`)
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "depth") {
		t.Errorf("below the bottom: %d %s", w.Code, w.Body)
	}
	w = f.patch(t, top.ID, `{"parent_id":"`+f.create(t, "above", "").ID+`"}`)
	if w.Code != http.StatusUnprocessableEntity {
		t.Errorf("the whole tree one deeper: %d %s", w.Code, w.Body)
	}
}

func TestADepartmentInUseStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.create(t, "a", "")
		b := f.create(t, "b", a.ID)
		f.user(t, resttest.Account, "usr_3", b.ID)
		for id, user := range map[string]string{a.ID: "department " + b.ID, b.ID: "user usr_3"} {
			w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/departments/"+id, nil)
			if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), user) {
				t.Errorf("%d %s; want 409 with %s", w.Code, w.Body, user)
			}
		}
		if _, err := d.Write().NewRaw("UPDATE users SET department_id = NULL").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{b.ID, a.ID} {
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/departments/"+id, nil), http.StatusNoContent, nil)
		}
	})
}

func TestTheHeadIsAUserOfTheAccount(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.create(t, "a", "")
		for _, c := range []struct {
			body   string
			status int
		}{
			{`{"head_user_id":"usr_1"}`, 200}, {`{"head_user_id":"usr_2"}`, 422}, {`{"head_user_id":"usr_none"}`, 422}, {`{"head_user_id":null}`, 200},
		} {
			if w := f.patch(t, a.ID, c.body); w.Code != c.status {
				t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
			}
		}
	})
}

func TestWhatADepartmentMayBeCalled(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for _, c := range []struct {
		body   string
		status int
	}{
		{`{"name":"销售","code":"200"}`, 201},
		{`{"name":"销售","code":"sales.south-1"}`, 201}, // names may be the same
		{`{"name":"x","code":"200"}`, 409},
		{`{"name":" "}`, 400}, {`{"name":""}`, 400}, {`{}`, 400},
		{`{"name":"x","code":"a b"}`, 400}, {`{"name":"x","code":"-"}`, 400}, {`{"name":"` + strings.Repeat("长", 101) + `"}`, 400},
		{`{"name":"` + strings.Repeat("长", 100) + `"}`, 201},
	} {
		if w := f.Do(t, resttest.Token, http.MethodPost, "/v1/departments", c.body); w.Code != c.status {
			t.Errorf("%s: %d %s", c.body, w.Code, w.Body)
		}
	}
}

// A circle can be in the database only by somebody else's hand; reading it must end nevertheless.
func TestReadingATreeEndsWhateverIsStored(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	a := f.create(t, "a", "")
	b := f.create(t, "b", a.ID)
	if _, err := f.DB.Write().NewRaw("UPDATE departments SET parent_id = ? WHERE id = ?", b.ID, a.ID).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree, err := department.Read(t.Context(), f.DB, resttest.Account)
	if err != nil || len(tree.Path(a.ID)) > 3 || len(tree.Subtree(a.ID)) > 4 {
		t.Errorf("%v %v %v", tree.Path(a.ID), tree.Subtree(a.ID), err)
	}
}
