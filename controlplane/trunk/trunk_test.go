package trunk_test

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func mount(t *testing.T, d *db.DB) (*resttest.Server, *trunk.Service) {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	numbers := &number.Service{DB: d, Accounts: &account.Service{DB: d}}
	s := &trunk.Service{DB: d, Numbers: numbers}
	server := resttest.Mount(t, d, spec, s.Operations())
	for _, n := range []struct{ account, number string }{{resttest.Account, "+862368925278"}, {resttest.OtherAccount, "+493012345678"}} {
		if err := numbers.Insert(t.Context(), auth.Account(n.account), &number.Number{Number: n.number}); err != nil {
			t.Fatal(err)
		}
	}
	return server, s
}

func create(t *testing.T, s *resttest.Server, token, body string) trunk.Trunk {
	t.Helper()
	var made trunk.Trunk
	resttest.Want(t, s.Do(t, token, http.MethodPost, "/v1/trunks", body), http.StatusCreated, &made)
	return made
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				s, _ := mount(t, dbtest.Open(t, location(t)))
				return s
			}, resttest.Suite{Objects: func(t *testing.T, s *resttest.Server) map[string]string {
				return map[string]string{"trunk_id": create(t, s, resttest.Token, `{"name":"x","address":"192.0.2.1"}`).ID}
			}})
		})
	}
}

func TestWhatATrunkMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"name":"a","address":"sip.carrier.example","networks":["198.51.100.7/24","198.51.100.0/24"],"caller_id":"023-6892 5278"}`, 201, `"networks":["198.51.100.0/24"]`},
			{`{"name":"b","address":"2001:db8::1","port":5080,"transport":"tcp","username":"u","password":"hunter2hunter2","realm":"r"}`, 201, `"port":5080`},
			{`{"name":"c","address":"x","mode":"register"}`, 422, "/mode"},
			{`{"name":"c","address":"x","mode":"pigeon"}`, 400, "/mode"},
			{`{"name":"c","address":"not a host"}`, 400, "/address"},
			{`{"name":"c","address":"x","networks":["198.51.100.0"]}`, 400, "/networks"},
			{`{"name":"c","address":"x","port":0}`, 400, "/port"},
			{`{"name":"c","address":"x","transport":"sctp"}`, 400, "/transport"},
			{`{"name":"c","address":"x","caller_id":"+493012345678"}`, 422, "/caller_id"},
			{`{"name":"a","address":"x"}`, 409, "name"},
		} {
			w := s.Do(t, resttest.Token, http.MethodPost, "/v1/trunks", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
			if strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("%s: the password is shown: %s", c.body, w.Body)
			}
		}
	})
}

func TestNetworksOfTwoAccountsDoNotOverlap(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, trunks := mount(t, d)
		mine := create(t, s, resttest.Token, `{"name":"wide","address":"x","networks":["198.51.100.0/24"]}`)
		create(t, s, resttest.Token, `{"name":"narrow","address":"x","networks":["198.51.100.128/25"]}`)
		for _, network := range []string{"198.51.100.7/32", "198.51.0.0/16", "198.51.100.0/24", "::ffff:198.51.100.0/120"} {
			w := s.Do(t, resttest.Other, http.MethodPost, "/v1/trunks", `{"name":"thief","address":"x","networks":["`+network+`"]}`)
			if w.Code != http.StatusConflict || strings.Contains(w.Body.String(), mine.ID) {
				t.Errorf("%s: got %d: %s", network, w.Code, w.Body)
			}
		}
		if all, err := trunks.All(t.Context(), resttest.OtherAccount); err != nil || len(all) != 0 {
			t.Errorf("a refused trunk stayed: %+v, %v", all, err)
		}
		theirs := create(t, s, resttest.Other, `{"name":"theirs","address":"x","networks":["203.0.113.0/24"]}`)
		w := s.Do(t, resttest.Other, http.MethodPatch, "/v1/trunks/"+theirs.ID, `{"networks":["203.0.113.0/24","198.51.100.9/32"]}`)
		resttest.Want(t, w, http.StatusConflict, nil)
		// What a trunk no longer has is free for others, and so is what went with it.
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/trunks/"+mine.ID, `{"networks":["192.0.2.0/24"]}`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Other, http.MethodPatch, "/v1/trunks/"+theirs.ID, `{"networks":["198.51.100.9/32"]}`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/trunks/"+mine.ID, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Other, http.MethodPatch, "/v1/trunks/"+theirs.ID, `{"networks":["192.0.2.0/25"]}`), http.StatusOK, nil)
	})
}

func TestTheNarrowestNetworkFindsTheTrunk(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, trunks := mount(t, d)
		create(t, s, resttest.Token, `{"name":"wide","address":"x","networks":["198.51.100.0/24","2001:db8::/32"]}`)
		create(t, s, resttest.Token, `{"name":"narrow","address":"x","networks":["198.51.100.128/25"]}`)
		create(t, s, resttest.Other, `{"name":"theirs","address":"x","networks":["203.0.113.7/32"]}`)
		for source, want := range map[string]string{
			"198.51.100.1": "wide", "198.51.100.200": "narrow", "::ffff:198.51.100.200": "narrow", "2001:db8::77": "wide",
			"203.0.113.7": "theirs", "203.0.113.8": "", "127.0.0.1": "",
		} {
			found, ok, err := trunks.OfSource(t.Context(), netip.MustParseAddr(source))
			got := ""
			if ok {
				got = found.Name
			}
			if err != nil || got != want {
				t.Errorf("OfSource(%s) = %q, %v; want %q", source, got, err, want)
			}
		}
		if _, ok, err := trunks.OfSource(t.Context(), netip.Addr{}); ok || err != nil {
			t.Errorf("OfSource of no address: %t, %v", ok, err)
		}
	})
}

func TestAPatchKeepsThePasswordUnlessItGivesOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, trunks := mount(t, d)
		made := create(t, s, resttest.Token, `{"name":"a","address":"x","username":"u","password":"first secret"}`)
		for _, c := range []struct{ patch, want string }{
			{`{"max_calls":3}`, "first secret"}, {`{"password":"second secret"}`, "second secret"}, {`{"password":null}`, ""},
		} {
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/trunks/"+made.ID, c.patch), http.StatusOK, nil)
			found, ok, err := trunks.Named(t.Context(), resttest.Account, "a")
			if err != nil || !ok || found.Password != c.want || found.MaxCalls != 3 {
				t.Errorf("after %s: %+v, %t, %v", c.patch, found, ok, err)
			}
		}
		if _, ok, _ := trunks.Named(t.Context(), resttest.OtherAccount, made.ID); ok {
			t.Error("another account finds the trunk by its id")
		}
	})
}
