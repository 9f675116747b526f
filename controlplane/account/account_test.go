package account_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

func make2(t *testing.T, s *account.Service) (first, second webhooks.AccountID) {
	t.Helper()
	a, err := s.Create(t.Context(), account.Draft{Name: "demo", DefaultCountry: "CN"}, "Demo.Example.", "old.example")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Create(t.Context(), account.Draft{Name: "other", DefaultCountry: "DE"}, "other.example")
	if err != nil {
		t.Fatal(err)
	}
	return webhooks.AccountID(a.ID), webhooks.AccountID(b.ID)
}

func TestDomainsBelongToOneAccountAndTheFirstIsTheRealm(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := &account.Service{DB: d}
		first, second := make2(t, s)
		for domain, want := range map[string]webhooks.AccountID{
			"demo.example": first, "DEMO.example.": first, "old.example": first, "other.example": second, "stranger.example": "",
		} {
			got, found, err := s.OfDomain(t.Context(), domain)
			if err != nil || got != want || found != (want != "") {
				t.Errorf("OfDomain(%s) = %s, %t, %v; want %s", domain, got, found, err, want)
			}
		}
		if realm, err := s.Realm(t.Context(), first); err != nil || realm != "demo.example" {
			t.Errorf("Realm = %q, %v", realm, err)
		}
		_, err := s.Create(t.Context(), account.Draft{Name: "thief", DefaultCountry: "CN"}, "demo.example")
		if problem.From(err).Code != problem.CodeConflict {
			t.Errorf("a domain that is taken: %v", err)
		}
		if _, found, err := s.Named(t.Context(), "thief"); found || err != nil {
			t.Errorf("an account whose domain was refused stayed: %t, %v", found, err)
		}
		if a, found, err := s.Named(t.Context(), "other"); err != nil || !found || a.ID != string(second) {
			t.Errorf("Named(other) = %+v, %t, %v", a, found, err)
		}
	})
}

func TestKeysOpenTheirAccountAndNothingElse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		now := db.Now()
		s := &account.Service{DB: d, Now: func() time.Time { return now }}
		first, _ := make2(t, s)
		from := netip.MustParseAddr("192.0.2.1")
		key, err := s.CreateKey(t.Context(), first, "test", "calls.read")
		if err != nil {
			t.Fatal(err)
		}
		token, err := s.CreateEdgeToken(t.Context(), "edges")
		if err != nil {
			t.Fatal(err)
		}
		who, err := s.Authenticate(t.Context(), key, from)
		if err != nil || who.AccountID != string(first) || !who.Can("calls.read") || who.Can("calls.write") || who.Scope != auth.Account(string(first)) {
			t.Errorf("Authenticate: %+v, %v", who, err)
		}
		if err := s.AuthorizeEdge(t.Context(), token); err != nil {
			t.Errorf("AuthorizeEdge: %v", err)
		}
		stranger, _ := auth.NewKey(auth.APIKey, "01J00000000000000000000000")
		for _, text := range []string{"", "sk_", key[:len(key)-1], stranger, token} {
			if _, err := s.Authenticate(t.Context(), text, from); problem.From(err).Code != problem.CodeUnauthenticated {
				t.Errorf("Authenticate(%.12s…): %v", text, err)
			}
		}
		if err := s.AuthorizeEdge(t.Context(), key); problem.From(err).Code != problem.CodeUnauthenticated {
			t.Errorf("an API key at the edges' door: %v", err)
		}
		if _, err := d.Write().NewRaw("UPDATE api_keys SET expires_at = ? WHERE kind = 'sk'", now.Add(time.Second)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		s = &account.Service{DB: d, Now: s.Now} // another process
		if _, err := s.Authenticate(t.Context(), key, from); err != nil {
			t.Errorf("a key a second before it expires: %v", err)
		}
		now = now.Add(time.Second)
		if _, err := s.Authenticate(t.Context(), key, from); problem.From(err).Code != problem.CodeUnauthenticated {
			t.Errorf("a key that has expired: %v", err)
		}
	})
}

func TestAKeyIsForItsNetworks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := &account.Service{DB: d}
		first, _ := make2(t, s)
		key, err := s.CreateKey(t.Context(), first, "test", "*")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write().NewRaw(`UPDATE api_keys SET networks = '["192.0.2.0/24"]'`).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Authenticate(t.Context(), key, netip.MustParseAddr("192.0.2.77")); err != nil {
			t.Errorf("from its network: %v", err)
		}
		if _, err := s.Authenticate(t.Context(), key, netip.MustParseAddr("198.51.100.1")); problem.From(err).Code != problem.CodeUnauthenticated {
			t.Errorf("from elsewhere: %v", err)
		}
	})
}

func TestAGivenKeyIsAdoptedOnlyWhenItIsOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := &account.Service{DB: d}
		first, _ := make2(t, s)
		if err := s.AdoptKey(t.Context(), first, "given", "password"); !errors.Is(err, auth.ErrBadKey) {
			t.Errorf("AdoptKey(password): %v", err)
		}
		edge, _ := auth.NewKey(auth.EdgeToken, "01J00000000000000000000000")
		if err := s.AdoptKey(t.Context(), first, "given", edge); err == nil {
			t.Error("an edge's token was taken for an API key")
		}
		text, _ := auth.NewKey(auth.APIKey, "01J00000000000000000000001")
		if err := s.AdoptKey(t.Context(), first, "given", text, "*"); err != nil {
			t.Fatal(err)
		}
		if who, err := s.Authenticate(t.Context(), text, netip.Addr{}); err != nil || who.AccountID != string(first) {
			t.Errorf("Authenticate: %+v, %v", who, err)
		}
	})
}
