package number_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is a server with an application and an extension in each account.
type fixture struct {
	*resttest.Server
	numbers     *number.Service
	app, other  string // application ids of Account and OtherAccount
	extension   string // credential id of 1001 in Account
	credentials *credential.Service
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{numbers: &number.Service{DB: d, Accounts: &account.Service{DB: d}}}
	f.credentials = &credential.Service{DB: d, Numbers: f.numbers}
	f.Server = resttest.Mount(t, d, spec, f.numbers.Operations())
	if _, err := d.Write().NewRaw("INSERT INTO domains (domain, account_id, position) VALUES ('test.example', ?, 0)", resttest.Account).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	apps := &app.Service{DB: d}
	for _, at := range []struct {
		account string
		id      *string
	}{{resttest.Account, &f.app}, {resttest.OtherAccount, &f.other}} {
		a := &app.Application{Draft: app.Defaults()}
		a.Name, a.VoiceURL = "a", "https://example.com/"
		if err := apps.Insert(t.Context(), auth.Account(at.account), a); err != nil {
			t.Fatal(err)
		}
		*at.id = a.ID
	}
	c := &credential.Credential{Extension: "1001", Draft: credential.Draft{MaxContacts: 1}}
	if err := f.credentials.Insert(t.Context(), auth.Account(resttest.Account), c, "long enough"); err != nil {
		t.Fatal(err)
	}
	f.extension = c.ID
	return f
}

func (f *fixture) create(t *testing.T, token, body string) number.Number {
	t.Helper()
	var n number.Number
	resttest.Want(t, f.Do(t, token, http.MethodPost, "/v1/numbers", body), http.StatusCreated, &n)
	return n
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
					return map[string]string{"number_id": last.create(t, resttest.Token, `{"number":"1000"}`).ID}
				},
				Request: func(_ *testing.T, _ *resttest.Server, operation string, _ map[string]string) *resttest.Request {
					switch operation {
					case "createNumber", "upsertNumber":
						return &resttest.Request{Body: map[string]any{"number": "023-6892 5278", "application_id": last.app}}
					case "updateNumber":
						return &resttest.Request{Body: map[string]any{"credential_id": last.extension}}
					}
					return nil
				},
				More: func(t *testing.T, _ *resttest.Server) {
					for _, n := range []string{"1002", "1003"} {
						last.create(t, resttest.Token, `{"number":"`+n+`"}`)
					}
				},
			})
		})
	}
}

func TestAnUpsertBindsANumberAnewAndLeavesItTheSame(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		put := func(body string, status int) number.Number {
			var n number.Number
			w := f.Do(t, resttest.Token, http.MethodPut, "/v1/numbers/by/external_id/crm-7", body)
			if resttest.Want(t, w, status, nil); status < http.StatusBadRequest {
				resttest.Want(t, w, status, &n)
			}
			return n
		}
		first := put(`{"number":"1000","application_id":"`+f.app+`"}`, http.StatusCreated)
		second := put(`{"number":"1000","credential_id":"`+f.extension+`"}`, http.StatusOK)
		if second.ID != first.ID || second.ApplicationID != "" || second.CredentialID != f.extension {
			t.Errorf("from %+v to %+v", first, second)
		}
		put(`{"number":"1009"}`, http.StatusUnprocessableEntity)
		put(`{"number":"1000","application_id":"`+f.other+`"}`, http.StatusUnprocessableEntity)
		var expanded struct {
			Credential struct{ Extension string }
		}
		path := "/v1/numbers/" + first.ID + "?expand=credential"
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path, nil), http.StatusBadRequest, nil) // extensions are not mounted
		all := f.credentials.Operations()
		maps.Copy(all, f.numbers.Operations())
		spec, err := specification()
		if err != nil {
			t.Fatal(err)
		}
		resttest.Want(t, resttest.Mount(t, d, spec, all).Do(t, resttest.Token, http.MethodGet, path, nil), http.StatusOK, &expanded)
		if expanded.Credential.Extension != "1001" {
			t.Errorf("expanded to %+v", expanded)
		}
	})
}

func TestUpsertsOfOneShortCodeAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		var wait sync.WaitGroup
		for range 6 {
			wait.Go(func() {
				w := f.Do(t, resttest.Token, http.MethodPut, "/v1/numbers/by/external_id/x", `{"number":"1000"}`)
				if w.Code != http.StatusCreated && w.Code != http.StatusOK {
					t.Errorf("got %d: %s", w.Code, w.Body)
				}
			})
		}
		wait.Wait()
	})
}

func TestNumbersAreReadAsPeopleWriteThem(t *testing.T) {
	for _, c := range []struct{ text, country, want string }{
		{"+862368925278", "CN", "+862368925278"},
		{"023-6892 5278", "CN", "+862368925278"},
		{"0086 23 6892 5278", "CN", "+862368925278"},
		{"13800138000", "CN", "+8613800138000"},
		{"+86 138 0013 8000", "DE", "+8613800138000"},
		{"030 12345678", "DE", "+493012345678"},
		{"1000", "CN", "1000"},
		{"95588", "CN", "95588"},
		{"12345678", "CN", "12345678"},
		{" 1001 ", "CN", "1001"},
		{"7", "CN", ""},
		{"+7", "CN", ""},
		{"bob", "CN", ""},
		{"", "CN", ""},
		{"+862368925278;ext=5", "CN", ""},
		{"１００１", "CN", ""},
		{"000A0000000", "CN", ""},
		{"1-800-FLOWERS", "US", ""},
	} {
		got, ok := number.Normal(c.text, c.country)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("Normal(%q, %s) = %q, %t; want %q", c.text, c.country, got, ok, c.want)
		}
	}
}

func TestDialedDigitsNameANumberInEveryForm(t *testing.T) {
	for _, c := range []struct {
		dialed string
		want   []string
	}{
		{"1000", []string{"1000"}},
		{"02368925278", []string{"02368925278", "+862368925278"}},
		{"862368925278", []string{"862368925278", "+862368925278"}},
		{"+862368925278", []string{"+862368925278"}},
		{"*99", []string{"*99"}},
	} {
		if got := number.Candidates(c.dialed, "CN"); !slices.Equal(got, c.want) {
			t.Errorf("Candidates(%s) = %q, want %q", c.dialed, got, c.want)
		}
	}
}

func FuzzNormal(f *testing.F) {
	for _, text := range []string{"+862368925278", "023-6892 5278", "1000", "00", "+", "tel:+1-201-555-0123;ext=1", "\x00", "٠١٢"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, ok := number.Normal(text, "CN")
		if !ok {
			return
		}
		if again, ok := number.Normal(normal, "DE"); !ok || again != normal {
			t.Errorf("Normal(%q) = %q, which is read again as %q, %t", text, normal, again, ok)
		}
	})
}

func TestWhoMayHaveANumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for _, c := range []struct {
			token, body string
			status      int
			says        string
		}{
			{resttest.Token, `{"number":"023-6892 5278","application_id":"` + f.app + `"}`, 201, `"number":"+862368925278"`},
			{resttest.Other, `{"number":"+862368925278"}`, 409, "/number"}, // one account's in the installation
			{resttest.Token, `{"number":"0086 2368925278"}`, 409, "/number"},
			{resttest.Token, `{"number":"1000","credential_id":"` + f.extension + `"}`, 201, `"number":"1000"`},
			{resttest.Other, `{"number":"1000"}`, 201, `"number":"1000"`}, // a short code is the account's own
			{resttest.Token, `{"number":"1000"}`, 409, "/number"},
			{resttest.Token, `{"number":"1001"}`, 409, "/number"}, // an extension
			{resttest.Token, `{"number":"1002","application_id":"` + f.other + `"}`, 422, "does not exist in this account"},
			{resttest.Token, `{"number":"1002","application_id":"app_none"}`, 422, "does not exist in this account"},
			{resttest.Token, `{"number":"1002","application_id":"` + f.app + `","credential_id":"` + f.extension + `"}`, 400, "/credential_id"},
			{resttest.Token, `{"number":"1002","flow_id":"flow_1"}`, 400, "/flow_id"},
			{resttest.Token, `{"number":"bob"}`, 400, "/number"},
			{resttest.Token, `{"number":"1002"}`, 201, `"number":"1002"`}, // nothing refused above has taken it
		} {
			w := f.Do(t, c.token, http.MethodPost, "/v1/numbers", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

func TestANumberIsBoundToOneThing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		n := f.create(t, resttest.Token, `{"number":"1000","application_id":"`+f.app+`"}`)
		path := "/v1/numbers/" + n.ID
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, path, `{"credential_id":"`+f.extension+`"}`), http.StatusBadRequest, nil)
		var after number.Number
		w := f.Do(t, resttest.Token, http.MethodPatch, path, `{"credential_id":"`+f.extension+`","application_id":null}`)
		resttest.Want(t, w, http.StatusOK, &after)
		if after.ApplicationID != "" || after.CredentialID != f.extension || after.Number != "1000" {
			t.Errorf("became %s", w.Body)
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, path, `{"number":"1003"}`), http.StatusBadRequest, nil)
	})
}

func TestADeletedShortCodeIsFree(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		n := f.create(t, resttest.Token, `{"number":"1000"}`)
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/numbers/"+n.ID, nil), http.StatusNoContent, nil)
		c := &credential.Credential{Extension: "1000", Draft: credential.Draft{MaxContacts: 1}}
		if err := f.credentials.Insert(t.Context(), auth.Account(resttest.Account), c, "long enough"); err != nil {
			t.Errorf("the code of a deleted number: %v", err)
		}
	})
}

func TestANumberShownAsACallerIDStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		n := f.create(t, resttest.Token, `{"number":"+862368925278"}`)
		c := &credential.Credential{Extension: "1005", Draft: credential.Draft{MaxContacts: 1, CallerID: "02368925278"}}
		if err := f.credentials.Insert(t.Context(), auth.Account(resttest.Account), c, "long enough"); err != nil {
			t.Fatal(err)
		}
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/numbers/"+n.ID, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), c.ID) {
			t.Errorf("got %d: %s", w.Code, w.Body)
		}
	})
}

func TestDialedFindsTheAccountsOwnNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.create(t, resttest.Token, `{"number":"+862368925278"}`)
		f.create(t, resttest.Token, `{"number":"1000"}`)
		for _, c := range []struct{ account, dialed, want string }{
			{resttest.Account, "02368925278", "+862368925278"}, {resttest.Account, "862368925278", "+862368925278"},
			{resttest.Account, "1000", "1000"}, {resttest.Account, "1009", ""}, {resttest.OtherAccount, "+862368925278", ""}, {resttest.OtherAccount, "1000", ""},
		} {
			a, err := f.numbers.Accounts.Get(t.Context(), webhooks.AccountID(c.account))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			n, found, err := f.numbers.Dialed(t.Context(), a, c.dialed)
			if found {
				got = n.Number
			}
			if err != nil || got != c.want {
				t.Errorf("Dialed(%s, %s) = %q, %v; want %q", c.account, c.dialed, got, err, c.want)
			}
		}
		if n, found, err := f.numbers.First(t.Context(), resttest.Account); err != nil || !found || n.Number != "+862368925278" {
			t.Errorf("First = %+v, %t, %v", n, found, err)
		}
		if _, found, err := f.numbers.First(t.Context(), resttest.OtherAccount); err != nil || found {
			t.Errorf("First of an account without: %t, %v", found, err)
		}
	})
}

// Mobile numbers of China are taken as they are; the library must say the same of each of them, from wherever it is read.
func TestMobileNumbersOfChinaAreReadAsTheLibraryReadsThem(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		text := fmt.Sprintf("+861%d%09d", 3+random.IntN(7), random.IntN(1_000_000_000))
		for _, country := range []string{"CN", "US", "IT"} {
			parsed, err := phonenumbers.Parse(text, country)
			if err != nil || !phonenumbers.IsPossibleNumber(parsed) {
				t.Fatalf("%s: the library cannot read it: %v", text, err)
			}
			want := phonenumbers.Format(parsed, phonenumbers.E164)
			if got, ok := number.Normal(text, country); !ok || got != want {
				t.Fatalf("%s in %s: got %q, want %q", text, country, got, want)
			}
		}
	}
}
