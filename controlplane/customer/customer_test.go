package customer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is a server with two departments and, in the first, the user of the token "own"; usr_2 is in the second, usr_3 in
// none, and usr_other in another account.
type fixture struct {
	*resttest.Server
	customers *customer.Service
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{customers: &customer.Service{DB: d}}
	f.Server = resttest.Mount(t, d, spec, f.customers.Operations())
	for _, id := range []string{"dep_1", "dep_2"} {
		f.exec(t, `INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name) VALUES (?, ?, '{}', ?, ?, '1', ?)`,
			id, resttest.Account, db.Now(), db.Now(), id)
	}
	for _, u := range []struct {
		account, id string
		department  any
	}{
		{resttest.Account, resttest.OwnUser, "dep_1"}, {resttest.Account, "usr_2", "dep_2"}, {resttest.Account, "usr_3", nil},
		{resttest.OtherAccount, "usr_other", nil},
	} {
		f.exec(t, `INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status)
			VALUES (?, ?, '{}', ?, ?, '1', ?, ?, ?, ?, '[]', 'active')`, u.id, u.account, db.Now(), db.Now(), u.id, u.department, u.id, u.id)
	}
	return f
}

func (f *fixture) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := f.DB.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) create(t *testing.T, token, body string) customer.Customer {
	t.Helper()
	var c customer.Customer
	resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/customers", body), http.StatusCreated, &c)
	return c
}

func (f *fixture) patch(t *testing.T, token, id, body string, status int) customer.Customer {
	t.Helper()
	var c customer.Customer
	resttest.Want(t, f.Do(t, token, http.MethodPatch, "/v1/customers/"+id, body), status, &c)
	return c
}

// named lists the names of customers, in their order.
func (f *fixture) named(t *testing.T, token, query string) string {
	t.Helper()
	var page struct{ Data []customer.Customer }
	resttest.Want(t, f.Do(t, token, http.MethodGet, "/v1/customers?sort=name&"+query, nil), http.StatusOK, &page)
	var names []string
	for _, c := range page.Data {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
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
					return map[string]string{"customer_id": last.create(t, resttest.Token, `{"name":"a","phones":[{"number":"+8613800138000"}]}`).ID}
				},
				Request: func(_ *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					switch operation {
					case "createCustomer", "upsertCustomer":
						return &resttest.Request{Body: map[string]any{
							"name": "b", "phones": []any{map[string]any{"number": "023-6892 5278", "label": "office"}}, "email": "b@example.com",
							"company": "c", "note": "d", "metadata": map[string]any{"e": 1},
						}}
					case "updateCustomer":
						return &resttest.Request{Body: map[string]any{"name": "f", "phones": []any{map[string]any{"number": "95588"}}}}
					}
					return nil
				},
				More: func(t *testing.T, _ *resttest.Server) {
					for i := range 2 {
						last.create(t, resttest.Token, fmt.Sprintf(`{"name":"more %d","phones":[{"number":"+8613800138000"}]}`, i))
					}
				},
			})
		})
	}
}

func TestWhatIsACustomer(t *testing.T) {
	eleven := strings.TrimSuffix(strings.Repeat(`{"number":"+8613800138000"},`, customer.MaxPhones+1), ",")
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"name":"a","phones":[{"number":"138 0013 8000","label":"手机"},{"number":"023-6892 5278"},{"number":"95588"}]}`, 201,
				`"phones":[{"number":"+8613800138000","label":"手机"},{"number":"+862368925278"},{"number":"95588"}]`},
			{`{"name":"b","phones":[{"number":"+8613800138000"}]}`, 201, `"number":"+8613800138000"`}, // two may have one number
			{`{"name":"a","phones":[{"number":"+49 30 12345678"}],"email":"a@example.com"}`, 201, `"number":"+493012345678"`},
			{`{"name":"a","phones":[{"number":"+8613800138000"},{"number":"138 0013 8000"}]}`, 400, `/phones/1/number`},
			{`{"name":"a","phones":[{"number":"+8613800138000"},{"number":"bob"}]}`, 400, `/phones/1/number`},
			{`{"name":"a","phones":[]}`, 400, `/phones`},
			{`{"name":"a","phones":[` + eleven + `]}`, 400, `/phones`},
			{`{"name":"a"}`, 400, `/phones`},
			{`{"name":" ","phones":[{"number":"+8613800138000"}]}`, 400, `/name`},
			{`{"phones":[{"number":"+8613800138000"}]}`, 400, `/name`},
			{`{"name":"a","phones":[{"number":"+8613800138000"}],"email":"a.example.com"}`, 400, `/email`},
			{`{"name":"a","phones":[{"number":"+8613800138000"}],"email":"a@b@example.com"}`, 400, `/email`},
			{`{"name":"a","phones":[{"number":"+8613800138000","fax":true}]}`, 400, `/phones/0`},
			{`{"name":"a","phones":[{"number":"+8613800138000"}],"owner_id":"usr_other"}`, 422, `/owner_id`},
			{`{"name":"a","phones":[{"number":"+8613800138000"}],"department_id":"dep_none"}`, 422, `/department_id`},
			{`{"name":"a","phones":[{"number":"+8613800138000"}],"external_id":"1"}`, 201, `"external_id":"1"`},
			{`{"name":"a","phones":[{"number":"+8613800138000"}],"external_id":"1"}`, 409, `/external_id`},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/customers", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

func TestACustomerIsFoundByAWholeNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		a := f.create(t, resttest.Token, `{"name":"a","phones":[{"number":"+8613800138000"},{"number":"+862368925278"}]}`)
		b := f.create(t, resttest.Token, `{"name":"b","phones":[{"number":"+862368925278"}]}`)
		f.create(t, resttest.Token, `{"name":"c","phones":[{"number":"95588"}],"company":"bank","email":"c@example.com"}`)
		f.create(t, resttest.Other, `{"name":"d","phones":[{"number":"+8613800138000"}]}`)
		found := func(want map[string]string) {
			t.Helper()
			for phone, names := range want {
				if got := f.named(t, resttest.Token, "phone="+url.QueryEscape(phone)); got != names {
					t.Errorf("by %q: %q, want %q", phone, got, names)
				}
			}
		}
		found(map[string]string{
			"+8613800138000": "a", "138 0013 8000": "a", "8613800138000": "a", "02368925278": "a b", "95588": "c",
			"+861380013800": "", "13800": "", "bob": "", "+8613800138001": "",
		})
		if got := f.named(t, resttest.Token, "phone=02368925278&company=nobody"); got != "" {
			t.Errorf("with another filter: %q", got)
		}
		if got := f.named(t, resttest.Token, "q=BAN"); got != "c" {
			t.Errorf("by a part of the company: %q", got)
		}
		if got := f.named(t, resttest.Token, "q=13800138000"); got != "" {
			t.Errorf("by a part of a number: %q", got)
		}

		with := func(number string, want webhooks.CustomerID) {
			t.Helper()
			if got, err := f.customers.WithNumber(t.Context(), resttest.Account, number); err != nil || got != want {
				t.Errorf("%s is %q, %v; want %q", number, got, err, want)
			}
		}
		with("+862368925278", webhooks.CustomerID(b.ID)) // the newest
		with("+8613800138000", webhooks.CustomerID(a.ID))
		with("+8613800138001", "")

		f.patch(t, resttest.Token, a.ID, `{"phones":[{"number":"+8613800138001"}]}`, http.StatusOK)
		f.patch(t, resttest.Token, b.ID, `{"name":"bb"}`, http.StatusOK)
		found(map[string]string{"+8613800138000": "", "+8613800138001": "a", "+862368925278": "bb"})
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/customers/"+b.ID, nil), http.StatusNoContent, nil)
		with("+862368925278", "")
		with("+8613800138001", webhooks.CustomerID(a.ID))
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPut, "/v1/customers/by/external_id/x", `{"name":"x","phones":[{"number":"1000"}]}`), http.StatusCreated, nil)
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPut, "/v1/customers/by/external_id/x", `{"name":"x","phones":[{"number":"1001"}]}`), http.StatusOK, nil)
		found(map[string]string{"1000": "", "1001": "x"})
	})
}

func TestASearchFindsCustomersByWholeNumbers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.create(t, resttest.Token, `{"name":"a","phones":[{"number":"+8613800138000"},{"number":"+862368925278"}],"company":"x"}`)
		f.create(t, resttest.Token, `{"name":"b","phones":[{"number":"+862368925278"}],"owner_id":"`+resttest.OwnUser+`"}`)
		f.create(t, resttest.Token, `{"name":"c","phones":[{"number":"95588"}]}`)
		f.create(t, resttest.Other, `{"name":"d","phones":[{"number":"+8613800138000"}]}`)
		search := func(token, filter string, status int) string {
			var page struct {
				Data  []customer.Customer
				Total int64
			}
			body := `{"sort":"name","count":true,"filter":` + filter + `}`
			if status != http.StatusOK {
				resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/customers/search", body), status, nil)
				return ""
			}
			resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/customers/search", body), status, &page)
			names := ""
			for _, c := range page.Data {
				names += c.Name
			}
			if page.Total != int64(len(names)) {
				t.Errorf("%s: %q and a total of %d", filter, names, page.Total)
			}
			return names
		}
		for filter, want := range map[string]string{
			`{"phone":"+8613800138000"}`: "a", `{"phone":"138 0013 8000"}`: "a", `{"phone":"8613800138000"}`: "a", `{"phone":"0086-138-0013-8000"}`: "a",
			`{"phone":{"eq":"023-6892 5278"}}`: "ab", `{"phone":{"in":["95588","bob","(023) 68925278"]}}`: "abc", `{"phone":"bob"}`: "", `{"phone":"+861380013800"}`: "",
			`{"phone":"02368925278","company":"x"}`: "a", `{"or":[{"phone":"95588"},{"company":"x"}]}`: "ac", `{"or":[{"phone":"95588"},{"phone":"bob"}]}`: "c",
			`{"and":[{"phone":"+862368925278"},{"phone":"+8613800138000"}]}`: "a",
		} {
			if got := search(resttest.Token, filter, http.StatusOK); got != want {
				t.Errorf("%s: %q, want %q", filter, got, want)
			}
		}
		if got := search("own", `{"phone":"02368925278"}`, http.StatusOK); got != "b" {
			t.Errorf("who sees only their own finds %q", got)
		}
		for _, filter := range []string{`{"phone":null}`, `{"phone":{"eq":null}}`, `{"phone":1}`, `{"phone":{"gte":"+86"}}`, `{"phone":{"in":[]}}`} {
			search(resttest.Token, filter, http.StatusBadRequest)
		}
	})
}

func TestWhoMayNotSeeNumbersCannotGuessThem(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		c := f.create(t, resttest.Token, `{"name":"a","phones":[{"number":"+8613800138000","label":"手机"}]}`)
		for _, phone := range []string{"+8613800138000", "+8613800138001", "bob"} {
			resttest.Want(t, f.Do(t, "masked", http.MethodGet, "/v1/customers?phone="+url.QueryEscape(phone), nil), http.StatusForbidden, nil)
		}
		for _, body := range []string{
			`{"filter":{"phone":"+8613800138000"}}`, `{"filter":{"phone":"+8613800138001"}}`, `{"filter":{"phone":{"in":["138 0013 8000","bob"]}}}`,
			`{"filter":{"or":[{"phone":"13800138000"},{"name":"a"}]}}`, `{"filter":{"phone":"bob"}}`,
		} {
			resttest.Want(t, f.Do(t, "masked", http.MethodPost, "/v1/customers/search", body), http.StatusForbidden, nil)
		}
		for _, body := range []string{
			`{"filter":{"phones":"+8613800138000"}}`, `{"sort":"phone"}`, `{"sort":"phones"}`, `{"filter":{"phones":null}}`, `{"filter":{"phone":{"gt":"+86138"}}}`,
		} {
			resttest.Want(t, f.Do(t, "masked", http.MethodPost, "/v1/customers/search", body), http.StatusBadRequest, nil)
		}
		w := f.Do(t, "masked", http.MethodPost, "/v1/customers/search", `{"q":"138"}`)
		if !strings.Contains(w.Body.String(), `"data":[]`) {
			t.Errorf("by a part: %s", w.Body)
		}
		// A change leaves the numbers as they are, and a right guess looks as a wrong one.
		if got := f.patch(t, "masked", c.ID, `{"note":"b"}`, http.StatusOK); got.Phones[0].Number != "************00" || got.Phones[0].Label != "手机" {
			t.Errorf("changed to %+v", got.Phones)
		}
		resttest.Want(t, f.Do(t, "masked", http.MethodPatch, "/v1/customers/"+c.ID, `{"phones":[{"number":"************00"}]}`), http.StatusBadRequest, nil)
		right := f.patch(t, "masked", c.ID, `{"phones":[{"number":"+8613800138000"}]}`, http.StatusOK)
		wrong := f.patch(t, "masked", c.ID, `{"phones":[{"number":"+8613800138100"}]}`, http.StatusOK)
		if right.Etag != "3" || wrong.Etag != "4" {
			t.Errorf("etags %s, %s", right.Etag, wrong.Etag)
		}
	})
}

func TestWhoseACustomerIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		is := func(c customer.Customer, owner, department string) {
			t.Helper()
			if c.Owned != (db.Owned{OwnerID: owner, DepartmentID: department}) {
				t.Errorf("%s is %+v, want of %q in %q", c.Name, c.Owned, owner, department)
			}
		}
		body := func(name, more string) string {
			return `{"name":"` + name + `","phones":[{"number":"1000"}]` + more + `}`
		}
		is(f.create(t, resttest.Token, body("nobody's", "")), "", "")
		is(f.create(t, resttest.Token, body("south's", `,"department_id":"dep_2"`)), "", "dep_2")
		is(f.create(t, resttest.Token, body("loner's", `,"owner_id":"usr_3"`)), "usr_3", "")
		is(f.create(t, resttest.Token, body("lent", `,"owner_id":"usr_2","department_id":"dep_1"`)), "usr_2", "dep_1")
		theirs := f.create(t, resttest.Token, body("theirs", `,"owner_id":"usr_2"`))
		is(theirs, "usr_2", "dep_2")
		// Who sees only their own owns what they make, and makes none for others.
		own := f.create(t, "own", body("own", ""))
		is(own, resttest.OwnUser, "dep_1")
		resttest.Want(t, f.Do(t, "own", http.MethodPost, "/v1/customers", body("x", `,"owner_id":"usr_2"`)), http.StatusForbidden, nil)
		resttest.Want(t, f.Do(t, "own", http.MethodPut, "/v1/customers/by/external_id/y", body("y", "")), http.StatusCreated, nil)
		w := f.Do(t, "own", http.MethodPut, "/v1/customers/by/external_id/y", body("z", ""))
		resttest.Want(t, w, http.StatusOK, nil)
		if got := f.named(t, "own", ""); got != "own z" {
			t.Errorf("sees %q", got)
		}
		if got := f.named(t, "own", "phone=1000"); got != "own z" {
			t.Errorf("finds %q", got)
		}
		resttest.Want(t, f.Do(t, "own", http.MethodGet, "/v1/customers/"+theirs.ID, nil), http.StatusNotFound, nil)
		resttest.Want(t, f.Do(t, "own", http.MethodPatch, "/v1/customers/"+own.ID, `{"owner_id":"usr_2"}`), http.StatusForbidden, nil)
		// A new owner takes a customer along, unless it is said where it belongs.
		is(f.patch(t, resttest.Token, own.ID, `{"owner_id":"usr_2"}`, http.StatusOK), "usr_2", "dep_2")
		is(f.patch(t, resttest.Token, own.ID, `{"owner_id":"`+resttest.OwnUser+`","department_id":"dep_1"}`, http.StatusOK), resttest.OwnUser, "dep_1")
		is(f.patch(t, resttest.Token, own.ID, `{"department_id":"dep_2"}`, http.StatusOK), resttest.OwnUser, "dep_2")
		is(f.patch(t, resttest.Token, own.ID, `{"department_id":null}`, http.StatusOK), resttest.OwnUser, "dep_1")
		is(f.patch(t, resttest.Token, own.ID, `{"owner_id":null}`, http.StatusOK), "", "dep_1")
		// It outlives the owner.
		f.exec(t, "DELETE FROM users WHERE id = 'usr_3'")
		loner := f.named(t, resttest.Token, "owner_id=usr_3")
		var page struct{ Data []customer.Customer }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/customers?owner_id=usr_3", nil), http.StatusOK, &page)
		if loner != "loner's" || len(page.Data) != 1 {
			t.Fatalf("of the one who is gone: %q", loner)
		}
		is(f.patch(t, resttest.Token, page.Data[0].ID, `{"name":"orphan"}`, http.StatusOK), "usr_3", "")
	})
}

// The look-up by number is as fast with many customers as with few: it goes by the index of numbers.
func TestTheLookUpByNumberGoesByItsIndex(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		const many = 3000
		for from := 0; from < many; from += 500 {
			var rows, phones []string
			for i := from; i < from+500; i++ {
				rows = append(rows, fmt.Sprintf("('cus_%05d', '%s', '{}', '2026-01-01T00:00:%02d+00:00', '2026-01-01T00:00:00+00:00', '1', 'x', '[]')", i, resttest.Account, i%60))
				phones = append(phones, fmt.Sprintf("('cus_%05d', '%s', '+861380013%04d')", i, resttest.Account, i))
			}
			f.exec(t, "INSERT INTO customers (id, account_id, metadata, created_at, updated_at, etag, name, phones) VALUES "+strings.Join(rows, ","))
			f.exec(t, "INSERT INTO customer_phones (id, account_id, number) VALUES "+strings.Join(phones, ","))
		}
		listed := func(filter string) string {
			query, err := f.customers.SearchQuery(t.Context(), auth.Account(resttest.Account), filter)
			if err != nil {
				t.Fatal(err)
			}
			return query
		}
		for _, query := range []string{
			"SELECT id FROM customer_phones WHERE account_id = '" + resttest.Account + "' AND number = '+8613800130007' ORDER BY id DESC LIMIT 1",
			listed(`{"phone":"13800130007"}`),
			listed(`{"phone":{"in":["+8613800130007","138 0013 0008"]},"name":"x"}`),
			listed(`{"or":[{"phone":"+8613800130007"},{"phone":"+8613800130008"}]}`),
			listed(`{"and":[{"phone":"+8613800130007"},{"company":null}]}`),
		} {
			plan := f.plan(t, query)
			if !slices.ContainsFunc(plan, func(step string) bool { return strings.Contains(step, "customer_phones_number") }) ||
				slices.ContainsFunc(plan, func(step string) bool {
					return strings.Contains(step, "customers_created") || strings.Contains(step, "Seq Scan") || strings.HasPrefix(step, "SCAN customer")
				}) {
				t.Errorf("%s:\n%s", query, strings.Join(plan, "\n"))
			}
		}
	})
}

// plan is how the database runs a query.
func (f *fixture) plan(t *testing.T, query string) []string {
	t.Helper()
	rows, err := f.DB.Write().QueryContext(t.Context(), "EXPLAIN "+query)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	if len(columns) > 1 { // SQLite: that was the code of its machine
		_ = rows.Close()
		if rows, err = f.DB.Write().QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query); err != nil {
			t.Fatal(err)
		}
		columns, _ = rows.Columns()
	}
	defer func() { _ = rows.Close() }()
	var steps []string
	for rows.Next() {
		into := make([]any, len(columns))
		for i := range into {
			into[i] = new(any)
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, strings.TrimSpace(fmt.Sprint(*into[len(into)-1].(*any))))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
