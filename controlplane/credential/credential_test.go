package credential_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// owned are the numbers that an account has, to the normal form.
type owned map[string]string

func (o owned) Owns(_ context.Context, _ db.Conn, id webhooks.AccountID, text string) (string, bool, error) {
	normal, found := o[string(id)+" "+text]
	return normal, found, nil
}

func mount(t *testing.T, d *db.DB, s *credential.Service) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s.DB, s.Numbers = d, owned{resttest.Account + " 02368925278": "+862368925278"}
	server := resttest.Mount(t, d, spec, s.Operations())
	for domain, account := range map[string]string{"test.example": resttest.Account, "other.example": resttest.OtherAccount} {
		if _, err := d.Write().NewRaw("INSERT INTO domains (domain, account_id, position) VALUES (?, ?, 0)", domain, account).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return server
}

func create(t *testing.T, s *resttest.Server, token, body string) credential.Credential {
	t.Helper()
	var c credential.Credential
	resttest.Want(t, s.Do(t, token, http.MethodPost, "/v1/credentials", body), http.StatusCreated, &c)
	return c
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			s := &credential.Service{}
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				return mount(t, dbtest.Open(t, location(t)), s)
			}, resttest.Suite{Objects: func(t *testing.T, server *resttest.Server) map[string]string {
				made := create(t, server, resttest.Token, `{"extension":"2001","password":"long enough"}`)
				c, err := s.ByID(t.Context(), webhooks.CredentialID(made.ID))
				if err != nil {
					t.Fatal(err)
				}
				register(t, s, c, "call-1", 1, contact("sip:2001@192.0.2.7", 3600))
				return map[string]string{"credential_id": made.ID}
			}})
		})
	}
}

func TestWhatAnExtensionMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &credential.Service{})
		for _, c := range []struct {
			token, body string
			status      int
			says        string
		}{
			{resttest.Token, `{"extension":"1001","password":"long enough"}`, 201, `"domain":"test.example"`},
			{resttest.Token, `{"extension":"1001","password":"long enough"}`, 409, "/extension"},
			{resttest.Other, `{"extension":"1001","password":"long enough"}`, 201, `"domain":"other.example"`},
			{resttest.Token, `{"extension":"12345678","password":"long enough","caller_id":"02368925278"}`, 201, `"caller_id":"+862368925278"`},
			{resttest.Other, `{"extension":"1002","password":"long enough","caller_id":"02368925278"}`, 422, "/caller_id"},
			{resttest.Token, `{"extension":"1","password":"long enough"}`, 400, "/extension"},
			{resttest.Token, `{"extension":"123456789","password":"long enough"}`, 400, "/extension"},
			{resttest.Token, `{"extension":"10a1","password":"long enough"}`, 400, "/extension"},
			{resttest.Token, `{"extension":"1002","password":"short"}`, 400, "/password"},
			{resttest.Token, `{"extension":"1002"}`, 400, "/password"},
			{resttest.Token, `{"extension":"1002","password":"long enough","application_id":"app_none"}`, 422, "does not exist in this account"},
			{resttest.Token, `{"extension":"1002","password":"long enough","max_contacts":0}`, 400, "/max_contacts"},
			{resttest.Token, `{"extension":"1002","password":"long enough","domain":"evil.example"}`, 400, "/domain"},
			{resttest.Token, `{"extension":"1002","password":"long enough"}`, 201, `"max_contacts":3`},
		} {
			w := s.Do(t, c.token, http.MethodPost, "/v1/credentials", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
			if strings.Contains(w.Body.String(), "long enough") || strings.Contains(w.Body.String(), "ha1") {
				t.Errorf("%s: a secret is shown: %s", c.body, w.Body)
			}
		}
	})
}

func TestOnlyDigestsOfAPasswordAreKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		service := &credential.Service{}
		s := mount(t, d, service)
		made := create(t, s, resttest.Token, `{"extension":"1001","password":"first password"}`)
		check := func(password string) {
			t.Helper()
			c, found, err := service.Extension(t.Context(), resttest.Account, "1001")
			if err != nil || !found {
				t.Fatal(found, err)
			}
			sum := md5.Sum([]byte("1001:test.example:" + password))
			if c.HA1MD5 != hex.EncodeToString(sum[:]) || len(c.HA1SHA256) != 64 {
				t.Errorf("after %q: %s %s", password, c.HA1MD5, c.HA1SHA256)
			}
		}
		check("first password")
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/credentials/"+made.ID, `{"caller_name":"Bob"}`), http.StatusOK, nil)
		check("first password")
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/credentials/"+made.ID, `{"password":"second password"}`), http.StatusOK, nil)
		check("second password")
		if err := service.SetPassword(t.Context(), auth.Account(resttest.Account), made.ID, "third password"); err != nil {
			t.Fatal(err)
		}
		check("third password")
		var kept []string
		if err := d.Read().NewRaw("SELECT COALESCE(before, '{}') FROM audit_entries UNION ALL SELECT COALESCE(after, '{}') FROM audit_entries").Scan(t.Context(), &kept); err != nil {
			t.Fatal(err)
		}
		for _, text := range kept {
			if strings.Contains(text, "password") {
				t.Errorf("the audit holds %s", text)
			}
		}
	})
}

func TestAnAccountWithoutADomainHasNoExtensions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d, &credential.Service{})
		if _, err := d.Write().NewRaw("DELETE FROM domains").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := s.Do(t, resttest.Token, http.MethodPost, "/v1/credentials", `{"extension":"1001","password":"long enough"}`)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "SIP domain") {
			t.Errorf("got %d: %s", w.Code, w.Body)
		}
	})
}

func TestAnExtensionThatANumberRingsStays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		service := &credential.Service{}
		s := mount(t, d, service)
		made := create(t, s, resttest.Token, `{"extension":"1001","password":"long enough"}`)
		_, err := d.Write().NewRaw(`INSERT INTO numbers (id, account_id, metadata, created_at, updated_at, etag, number, credential_id)
			VALUES ('num_1', ?, '{}', ?, ?, '1', '1000', ?)`, resttest.Account, db.Now(), db.Now(), made.ID).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/credentials/"+made.ID, nil), http.StatusConflict, nil)
		create2 := s.Do(t, resttest.Token, http.MethodPost, "/v1/credentials", `{"extension":"1001","password":"long enough"}`)
		resttest.Want(t, create2, http.StatusConflict, nil)
		if _, err := d.Write().NewRaw("DELETE FROM numbers").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		c, err := service.ByID(t.Context(), webhooks.CredentialID(made.ID))
		if err != nil {
			t.Fatal(err)
		}
		register(t, service, c, "x", 1, contact("sip:1001@192.0.2.7", 60))
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/credentials/"+made.ID, nil), http.StatusNoContent, nil)
		if _, err := service.ByID(t.Context(), webhooks.CredentialID(made.ID)); problem.From(err).Code != problem.CodeNotFound {
			t.Errorf("a deleted extension: %v", err)
		}
		if left, err := service.Contacts(t.Context(), c); err != nil || len(left) != 0 {
			t.Errorf("contacts of a deleted extension: %+v, %v", left, err)
		}
		create(t, s, resttest.Token, `{"extension":"1001","password":"long enough"}`)
	})
}

var _ credential.Numbers = owned{}
