package user

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/role"
)

// elsewhere is the same service as another process has it.
func (f *fixture) elsewhere(t *testing.T) *Service {
	t.Helper()
	s := newService(t, f.DB, f.users.Bus, &role.Service{DB: f.DB, Permissions: f.roles.Permissions})
	s.Now, s.Accounts.Now = f.users.Now, f.users.Now
	return s
}

func (b *browser) token(t *testing.T, body string) Token {
	t.Helper()
	return decode[Token](t, b.do(t, http.MethodPost, "/v1/tokens", body), http.StatusCreated)
}

func TestATokenOpensOneThingForAWhile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		agent := f.add(t, "agent", role.Agent)
		b := f.signIn(t, "agent")
		events, phone := b.token(t, `{"for":"events","ttl":60}`), b.token(t, `{"for":"phone"}`)
		if !events.ExpiresAt.Equal(c.now().Add(time.Minute).Truncate(time.Second)) || !strings.HasPrefix(events.Text, "tok_") {
			t.Errorf("got %+v", events)
		}
		stream := rest.Credential{Bearer: events.Text, Method: http.MethodGet, Operation: "streamEvents"}
		who, err := f.elsewhere(t).Authenticate(t.Context(), stream)
		if err != nil || who.UserID != agent || !who.Can("calls.read") || who.Reach["calls"].All || who.Scope.AccountID() != resttest.Account {
			t.Errorf("on the stream: %+v, %v", who, err)
		}
		for name, c := range map[string]rest.Credential{
			"another operation":     {Bearer: events.Text, Method: http.MethodGet, Operation: "getMe"},
			"a phone on the stream": {Bearer: phone.Text, Method: http.MethodGet, Operation: "streamEvents"},
			"a forged one":          {Bearer: events.Text + "A", Method: http.MethodGet, Operation: "streamEvents"},
		} {
			if _, err := f.users.Authenticate(t.Context(), c); problem.From(err).Code != problem.CodeUnauthenticated {
				t.Errorf("%s: %v", name, err)
			}
		}
		resttest.Want(t, f.Do(t, events.Text, http.MethodGet, "/v1/me", nil), http.StatusUnauthorized, nil)
		resttest.Want(t, f.Do(t, phone.Text, http.MethodPost, "/v1/tokens", `{"for":"events"}`), http.StatusUnauthorized, nil)
		if who, err := f.elsewhere(t).Redeem(t.Context(), phone.Text, ForPhone); err != nil || who.UserID != agent {
			t.Errorf("the phone: %+v, %v", who, err)
		}
		c.add(time.Minute)
		if _, err := f.users.Authenticate(t.Context(), stream); problem.From(err).Code != problem.CodeUnauthenticated {
			t.Errorf("after a minute: %v", err)
		}
		for _, body := range []string{`{"for":"everything"}`, `{"for":"phone","ttl":3601}`, `{"for":"phone","ttl":0}`, `{}`} {
			resttest.Want(t, b.do(t, http.MethodPost, "/v1/tokens", body), http.StatusBadRequest, nil)
		}
		resttest.Want(t, b.do(t, http.MethodPost, "/v1/tokens", `{"for":"phone","user_id":"`+f.owner+`"}`), http.StatusForbidden, nil)
	})
}

func TestATokenEndsWithWhatItWasMadeWith(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		f.add(t, "agent", role.Agent)
		boss := f.signIn(t, "boss")
		works := func(text string) bool {
			_, err := f.elsewhere(t).Redeem(t.Context(), text, ForPhone)
			if err != nil && problem.From(err).Code != problem.CodeUnauthenticated {
				t.Errorf("refused with %v", err)
			}
			return err == nil
		}
		b := f.signIn(t, "agent")
		text := b.token(t, `{"for":"phone"}`).Text
		resttest.Want(t, b.do(t, http.MethodDelete, "/v1/sessions/current", nil), http.StatusNoContent, nil)
		if works(text) {
			t.Error("it outlives its session")
		}
		text = f.signIn(t, "agent").token(t, `{"for":"phone"}`).Text
		resttest.Want(t, boss.do(t, http.MethodPatch, "/v1/users/"+f.user(t, "agent"), `{"role_ids":[]}`), http.StatusOK, nil)
		if who, err := f.elsewhere(t).Redeem(t.Context(), text, ForPhone); err != nil || who.Can("calls.read") {
			t.Errorf("it keeps rights that its user has lost: %v, %v", who.Permissions, err)
		}
		resttest.Want(t, boss.do(t, http.MethodPatch, "/v1/users/"+f.user(t, "agent"), `{"status":"disabled"}`), http.StatusOK, nil)
		if works(text) {
			t.Error("it outlives its user")
		}
	})
}

// What lasts asks again whether its caller is still there.
func TestACallerIsCheckedAgain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		b := f.signIn(t, "boss")
		text, err := f.users.Accounts.CreateKey(t.Context(), resttest.Account, "all", "*")
		if err != nil {
			t.Fatal(err)
		}
		callers := map[string]auth.Caller{}
		for name, c := range map[string]rest.Credential{"session": {Session: b.cookie, Method: http.MethodGet}, "key": {Bearer: text, Method: http.MethodGet}} {
			if callers[name], err = f.users.Authenticate(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		check := func(want problem.Code) {
			t.Helper()
			for name, who := range callers {
				again, err := f.elsewhere(t).Check(t.Context(), who)
				if want == "" && (err != nil || again.ActorID() != who.ActorID() || again.Scope.AccountID() != resttest.Account || !again.Can("calls.read")) {
					t.Errorf("%s: %+v, %v", name, again, err)
				}
				if want != "" && problem.From(err).Code != want {
					t.Errorf("%s: %v, want %s", name, err, want)
				}
			}
		}
		check("")
		if _, err := d.Write().NewRaw("UPDATE accounts SET status = 'suspended'").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(problem.CodeForbidden)
		for _, statement := range []string{"UPDATE accounts SET status = 'active'", "DELETE FROM sessions", "DELETE FROM api_keys"} {
			if _, err := d.Write().NewRaw(statement).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		check(problem.CodeUnauthenticated)
	})
}

// A program of the account has a phone for an agent, without the agent's password.
func TestAKeyMakesATokenForAUser(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		agent := f.add(t, "agent", role.Agent)
		key, err := f.users.Accounts.CreateKey(t.Context(), resttest.Account, "CRM", "tokens.write", "calls.read", "users.read", "api_keys.write")
		if err != nil {
			t.Fatal(err)
		}
		made := decode[Token](t, f.Do(t, key, http.MethodPost, "/v1/tokens", `{"for":"phone","user_id":"`+agent+`"}`), http.StatusCreated)
		who, err := f.elsewhere(t).Redeem(t.Context(), made.Text, ForPhone)
		if err != nil || who.UserID != agent || strings.Join(who.Permissions, " ") != "calls.read tokens.write" || who.Reach["calls"].All {
			t.Errorf("it may do more than both: %+v, %v", who, err)
		}
		if again, err := f.elsewhere(t).Check(t.Context(), who); err != nil || again.UserID != agent || strings.Join(again.Permissions, " ") != "calls.read tokens.write" {
			t.Errorf("asked again, it may %+v, %v", again, err)
		}
		resttest.Want(t, f.Do(t, key, http.MethodPost, "/v1/tokens", `{"for":"phone"}`), http.StatusUnprocessableEntity, nil)
		resttest.Want(t, f.Do(t, key, http.MethodPost, "/v1/tokens", `{"for":"phone","user_id":"usr_none"}`), http.StatusUnprocessableEntity, nil)
		own := decode[Token](t, f.Do(t, key, http.MethodPost, "/v1/tokens", `{"for":"events"}`), http.StatusCreated)
		if who, err := f.elsewhere(t).Redeem(t.Context(), own.Text, ForEvents); err != nil || who.KeyID == "" || !who.Can("users.read") {
			t.Errorf("one for the key itself: %+v, %v", who, err)
		}
		if _, err := d.Write().NewRaw("DELETE FROM api_keys").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{made.Text, own.Text} {
			purpose := ForPhone
			if text == own.Text {
				purpose = ForEvents
			}
			if _, err := f.elsewhere(t).Redeem(t.Context(), text, purpose); problem.From(err).Code != problem.CodeUnauthenticated {
				t.Errorf("after its key was revoked: %v", err)
			}
		}
	})
}

func FuzzParseToken(f *testing.F) {
	s := &Service{Secret: []byte("0123456789abcdef0123456789abcdef")}
	sealed, err := s.seal("token", token{Purpose: ForEvents, AccountID: "acc_1", SessionID: "ses_1", Expires: 1, Nonce: "n"})
	if err != nil {
		f.Fatal(err)
	}
	other, err := s.seal("oidc", token{Purpose: ForEvents, AccountID: "acc_1"})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{tokenPrefix + sealed, tokenPrefix + other, sealed, tokenPrefix, tokenPrefix + ".", "tok_e30.e30", "tok_\x00.\xff", tokenPrefix + sealed + "="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := s.parseToken(text)
		if err == nil && text != tokenPrefix+sealed {
			t.Errorf("%q was taken for %+v", text, got)
		}
	})
}
