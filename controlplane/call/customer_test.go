package call_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// people is a server that knows customers: hers, with two numbers, is that of the user of the token "own", theirs nobody's.
type people struct {
	*resttest.Server
	calls        *call.Service
	hers, theirs string
	asked        []call.Origination
}

const herNumber = "+8613912345678"

func populate(t *testing.T, d *db.DB) *people {
	t.Helper()
	_, s, e := mount(t, d)
	s.Customers = &customer.Service{DB: d}
	p := &people{calls: s}
	e.prepare = func(o call.Origination) (call.Prepared, error) {
		p.asked = append(p.asked, o)
		return (&edges{}).Prepare(t.Context(), o)
	}
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	all := s.Operations()
	maps.Copy(all, s.Customers.Operations())
	p.Server = resttest.Mount(t, d, spec, all)
	if _, err := d.Write().NewRaw(`INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, login, name, role_ids, status)
		VALUES (?, ?, '{}', ?, ?, '1', ?, 'x', 'x', '[]', 'active')`, resttest.OwnUser, resttest.Account, db.Now(), db.Now(), resttest.OwnUser).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, each := range []struct {
		id   *string
		body string
	}{
		{&p.hers, `{"name":"a","phones":[{"number":"` + herNumber + `"},{"number":"95588"}],"owner_id":"` + resttest.OwnUser + `"}`},
		{&p.theirs, `{"name":"b","phones":[{"number":"` + herNumber + `"}]}`},
	} {
		var made struct{ ID string }
		resttest.Want(t, p.Do(t, resttest.Token, http.MethodPost, "/v1/customers", each.body), http.StatusCreated, &made)
		*each.id = made.ID
	}
	return p
}

// call starts a call to whom a JSON object says, with more members of the body.
func (p *people) call(t *testing.T, token, to, more string) *httptest.ResponseRecorder {
	t.Helper()
	p.asked = nil
	return p.Do(t, token, http.MethodPost, "/v1/calls", `{"to":`+to+`,`+more+`}`)
}

func TestACustomerIsCalledByID(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		p := populate(t, d)
		const app = `"application_id":"app_1"`
		to := func(id, more string) string { return `{"customer_id":"` + id + `"` + more + `}` }
		for _, c := range []struct {
			token, to, number string
		}{
			{resttest.Token, to(p.hers, ""), herNumber},
			{resttest.Token, to(p.hers, `,"phone":0`), herNumber},
			{resttest.Token, to(p.hers, `,"phone":1`), "95588"},
			{resttest.Token, to(p.theirs, ""), herNumber},
			{"own", to(p.hers, ""), herNumber},
			{"masked", to(p.hers, ""), herNumber},
			{"only:calls.write,customers.read", to(p.hers, ""), herNumber},
		} {
			w := p.call(t, c.token, c.to, app+`,"trunk_id":"carrier"`)
			var made call.Call
			resttest.Want(t, w, http.StatusCreated, &made)
			if len(p.asked) != 1 || p.asked[0].Target.Number != c.number || p.asked[0].Target.Trunk != "carrier" || p.asked[0].CustomerID != made.CustomerID {
				t.Errorf("%s as %s asks %+v", c.to, c.token, p.asked)
			}
			if !strings.Contains(c.to, string(made.CustomerID)) || made.CustomerID == "" || (c.token != "masked" && made.To != c.number) {
				t.Errorf("%s as %s: %s", c.to, c.token, w.Body)
			}
			if c.token == "masked" && strings.Contains(w.Body.String(), herNumber[3:9]) {
				t.Errorf("a masked caller is answered %s", w.Body)
			}
			if got := get(t, p.calls, webhooks.CallID(made.ID)); got.To != c.number || got.CustomerID != made.CustomerID {
				t.Errorf("stored %+v", got)
			}
			// The edge says who it is, or does not know yet.
			events := story(webhooks.EventCallInitiated)
			events[0].Data.CustomerID = ""
			publish(t, p.calls, webhooks.CallID(made.ID), events...)
			if got := get(t, p.calls, webhooks.CallID(made.ID)); got.CustomerID != made.CustomerID {
				t.Errorf("after its first event: %+v", got)
			}
		}
		for _, c := range []struct {
			token, to string
			status    int
			says      string
		}{
			{"own", to(p.theirs, ""), 422, "/to/customer_id"},
			{resttest.Token, to("cus_none", ""), 422, "/to/customer_id"},
			{resttest.Other, to(p.hers, ""), 422, "/to/customer_id"},
			{"only:calls.write,calls.read", to(p.hers, ""), 403, "customers.read"},
			{resttest.Token, to(p.hers, `,"phone":2`), 422, "/to/phone"},
			{resttest.Token, to(p.hers, `,"phone":-1`), 400, "/to/phone"},
			{resttest.Token, to(p.hers, `,"number":"95588"`), 400, "/to/customer_id"},
			{resttest.Token, to(p.hers, `,"password":"x"`), 400, "/to/customer_id"},
			{resttest.Token, `{"number":"95588","phone":0}`, 400, "/to/phone"},
		} {
			w := p.call(t, c.token, c.to, app)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || len(p.asked) > 0 {
				t.Errorf("%s as %s: %d %s, asked %+v", c.to, c.token, w.Code, w.Body, p.asked)
			}
			if strings.Contains(w.Body.String(), herNumber[3:9]) {
				t.Errorf("%s as %s tells the number: %s", c.to, c.token, w.Body)
			}
		}
	})
}

// A program has the number of the other party in every request and in its templates: whoever may not see it gives no program
// that speaks to anybody outside the account.
func TestAMaskedCallersProgramCannotTellTheNumber(t *testing.T) {
	p := populate(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	publish(t, p.calls, "call_1", whole()[:3]...)
	to := `{"customer_id":"` + p.hers + `"}`
	refused := []string{
		`[{"verb":"redirect","url":"https://example.com/"}]`,
		`[{"verb":"gather","action":{"url":"HTTPS://example.com/"}}]`,
		`[{"verb":"gather","action":"lambda:hello"}]`,
		`[{"verb":"say","text":"{{call.to}}"}]`,
		`[{"verb":"tag","data":{"{{call.to}}":1}}]`,
		`[{"verb":"dial","to":[{"sip":"sip:me@example.com"}]}]`,
		`[{"verb":"dial","to":[{"sip":" SIP:me@example.com"}]}]`,
		`[{"verb":"dial","to":[{"extension":"1001"}],"screen":"https://example.com/"}]`,
		`[{"verb":"play","media_id":"sys_goodbye","on":{"completed":[{"verb":"message","to":"+8613800138000","body":"{{call.from}}"}]}}]`,
	}
	for _, program := range refused {
		if w := p.call(t, "masked", to, `"program":`+program); w.Code != http.StatusForbidden || len(p.asked) > 0 {
			t.Errorf("%s: %d %s", program, w.Code, w.Body)
		}
		w := p.Do(t, "masked", http.MethodPost, "/v1/calls/call_1/actions", `{"instructions":`+program+`}`)
		if w.Code == http.StatusAccepted {
			t.Errorf("as a live change %s: %s", program, w.Body)
		}
	}
	if w := p.call(t, "masked", to, `"url":"https://example.com/"`); w.Code != http.StatusForbidden {
		t.Errorf("a URL: %d %s", w.Code, w.Body)
	}
	for _, body := range []string{`{"url":"https://example.com/"}`, `{"instructions":[{"verb":"pause"}],"guard":{"on_failure":[{"verb":"redirect","url":"https://example.com/"}]}}`} {
		if w := p.Do(t, "masked", http.MethodPost, "/v1/calls/call_1/actions", body); w.Code != http.StatusForbidden {
			t.Errorf("a live change %s: %d %s", body, w.Code, w.Body)
		}
	}
	const agent = `[{"verb":"say","text":"请稍候","language":"zh-CN"},{"verb":"dial","to":[{"extension":"1001"}]}]`
	resttest.Want(t, p.call(t, "masked", to, `"program":`+agent), http.StatusCreated, nil)
	for _, body := range []string{`{"instructions":` + agent + `}`, `{"op":"hangup"}`} {
		resttest.Want(t, p.Do(t, "masked", http.MethodPost, "/v1/calls/call_1/actions", body), http.StatusAccepted, nil)
	}
	// Others may all of it, and who gives the number knows it.
	resttest.Want(t, p.call(t, resttest.Token, to, `"url":"https://example.com/"`), http.StatusCreated, nil)
	resttest.Want(t, p.call(t, "masked", `{"number":"95588"}`, `"url":"https://example.com/"`), http.StatusCreated, nil)
	var text json.RawMessage
	resttest.Want(t, p.Do(t, "masked", http.MethodGet, "/v1/calls?expand=customer&count=true", nil), http.StatusOK, &text)
	if strings.Contains(string(text), herNumber[3:9]) || !strings.Contains(string(text), `"customer":`) {
		t.Errorf("expanded: %s", text)
	}
}
