package user

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/role"
)

func TestSignInByNameOrDomain(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		if _, err := d.Write().NewRaw("INSERT INTO domains (domain, account_id, position) VALUES ('test.example', ?, 0)", resttest.Account).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.users.DefaultAccount = resttest.OtherAccount
		for _, c := range []struct {
			account, login, password string
			status                   int
		}{
			{resttest.Account, "boss", password, 201},
			{"Test.Example.", " BOSS ", password, 201},
			{resttest.Account, "boss", password + "x", 401},
			{resttest.Account, "boss", "", 401},
			{resttest.Account, "nobody", password, 401},
			{resttest.OtherAccount, "boss", password, 401},
			{"nowhere", "boss", password, 401},
			{"", "boss", password, 401}, // the default account, which has no such user
		} {
			body := map[string]string{"login": c.login, "password": c.password}
			if c.account != "" {
				body["account"] = c.account
			}
			if w := f.Do(t, "", http.MethodPost, "/v1/sessions", body); w.Code != c.status {
				t.Errorf("%s, %s, %s: got %d, want %d: %s", c.account, c.login, c.password, w.Code, c.status, w.Body)
			}
		}
	})
}

func TestTheCookieIsNobodyElses(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), nil)
	for url, secure := range map[string]bool{"https://pbx.example.com": true, "http://127.0.0.1:8080": false} {
		f.users.PublicURL = url
		w := f.try(t, "boss", password, "")
		text := w.Header().Get("Set-Cookie")
		for _, want := range []string{rest.SessionCookie + "=", "Path=/", "HttpOnly", "SameSite=Strict"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s is missing in %s", want, text)
			}
		}
		if strings.Contains(text, "Secure") != secure || strings.Contains(text, "Domain") {
			t.Errorf("by %s: %s", url, text)
		}
		if strings.Contains(w.Body.String(), cookieOf(t, w)) || strings.Contains(w.Header().Get("Location"), cookieOf(t, w)) {
			t.Errorf("the page can read the session: %s", w.Body)
		}
	}
}

// One who guesses must not learn by the time it takes whether there is such a user: the same work is done.
func TestAnUnknownUserCostsTheSameWorkAsAWrongPassword(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		f.addWith(t, &User{Row: db.Row{ID: "usr_disabled"}, Draft: Draft{Login: "disabled", Name: "a", Status: Disabled}})
		f.add(t, "new")
		if _, err := d.Write().NewRaw("DELETE FROM user_secrets WHERE user_id <> ?", f.owner).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		answers := map[string]bool{}
		for _, c := range []struct{ account, login string }{
			{resttest.Account, "boss"}, {resttest.Account, "nobody"}, {resttest.Account, "new"}, {resttest.Account, "disabled"}, {"nowhere", "boss"},
		} {
			before := f.users.Hasher.done.Load()
			w := f.Do(t, "", http.MethodPost, "/v1/sessions", map[string]string{"account": c.account, "login": c.login, "password": "wrong"})
			if done := f.users.Hasher.done.Load() - before; done != 1 || w.Code != http.StatusUnauthorized {
				t.Errorf("%s at %s: %d hashes, %d", c.login, c.account, done, w.Code)
			}
			answer, _, _ := strings.Cut(w.Body.String(), `"request_id"`)
			answers[answer] = true
		}
		if len(answers) != 1 {
			t.Errorf("the answers differ: %v", answers)
		}
	})
}

func TestASessionChangesNothingWithoutItsCSRFToken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		a, b := f.signIn(t, "boss"), f.signIn(t, "boss")
		resttest.Want(t, a.do(t, http.MethodPost, "/v1/users", `{"login":"a","name":"a"}`), http.StatusCreated, nil)
		for name, token := range map[string]string{"none": "", "another session's": b.csrf, "the session": a.cookie, "half": a.csrf[:20]} {
			thief := *a
			thief.csrf = token
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
				path := map[string]string{
					http.MethodPost: "/v1/users", http.MethodPut: "/v1/account/identity_provider", http.MethodPatch: "/v1/users/" + f.owner, http.MethodDelete: "/v1/sessions",
				}[method]
				if w := thief.do(t, method, path, `{}`); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "X-CSRF-Token") {
					t.Errorf("%s with %s: %d %s", method, name, w.Code, w.Body)
				}
			}
			resttest.Want(t, thief.do(t, http.MethodGet, "/v1/me", nil), http.StatusOK, nil)
		}
		// A page that was loaded anew.
		fresh := decode[Me](t, (&browser{fixture: f, cookie: a.cookie}).do(t, http.MethodGet, "/v1/me", nil), http.StatusOK)
		if fresh.Session == nil || fresh.Session.CSRFToken != a.csrf || fresh.User.ID != f.owner || fresh.Session.ID != a.session {
			t.Errorf("it learns %+v", fresh)
		}
	})
}

func TestWhatEndsASession(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for _, c := range []struct {
			name string
			do   func(t *testing.T, f *fixture, agent *browser)
		}{
			{"signing out", func(t *testing.T, _ *fixture, agent *browser) {
				w := agent.do(t, http.MethodDelete, "/v1/sessions/current", nil)
				resttest.Want(t, w, http.StatusNoContent, nil)
				if text := w.Header().Get("Set-Cookie"); !strings.Contains(text, rest.SessionCookie+"=;") || !strings.Contains(text, "Max-Age=0") {
					t.Errorf("the cookie stays: %s", text)
				}
			}},
			{"another session of the user", func(t *testing.T, f *fixture, agent *browser) {
				other := f.signIn(t, "agent")
				resttest.Want(t, other.do(t, http.MethodDelete, "/v1/sessions/"+agent.session, nil), http.StatusNoContent, nil)
				if !other.signedIn(t) {
					t.Error("the other session ended as well")
				}
			}},
			{"all others", func(t *testing.T, f *fixture, _ *browser) {
				other := f.signIn(t, "agent")
				resttest.Want(t, other.do(t, http.MethodDelete, "/v1/sessions", nil), http.StatusNoContent, nil)
				if !other.signedIn(t) {
					t.Error("the one that asked ended as well")
				}
			}},
			{"a new password", func(t *testing.T, f *fixture, _ *browser) {
				other := f.signIn(t, "agent")
				resttest.Want(t, other.do(t, http.MethodPost, "/v1/me/password", map[string]string{"current_password": password, "new_password": another}), http.StatusNoContent, nil)
				if !other.signedIn(t) {
					t.Error("the session that changed it ended as well")
				}
				resttest.Want(t, f.try(t, "agent", password, ""), http.StatusUnauthorized, nil)
				resttest.Want(t, f.try(t, "agent", another, ""), http.StatusCreated, nil)
			}},
			{"a one-time link", func(t *testing.T, f *fixture, agent *browser) {
				link := decode[Link](t, f.signIn(t, "boss").do(t, http.MethodPost, "/v1/users/"+f.user(t, "agent")+"/links", nil), http.StatusCreated)
				if !agent.signedIn(t) {
					t.Error("the link alone ended it")
				}
				resttest.Want(t, f.Do(t, "", http.MethodPost, "/v1/sessions/link", map[string]string{"token": link.Token, "password": another}), http.StatusOK, nil)
			}},
			{"disabling", func(t *testing.T, f *fixture, _ *browser) {
				resttest.Want(t, f.signIn(t, "boss").do(t, http.MethodPatch, "/v1/users/"+f.user(t, "agent"), `{"status":"disabled"}`), http.StatusOK, nil)
				if w := f.try(t, "agent", password, ""); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "disabled") {
					t.Errorf("signing in again: %d %s", w.Code, w.Body)
				}
				resttest.Want(t, f.signIn(t, "boss").do(t, http.MethodPatch, "/v1/users/"+f.user(t, "agent"), `{"status":"active"}`), http.StatusOK, nil)
			}},
			{"removing", func(t *testing.T, f *fixture, _ *browser) {
				resttest.Want(t, f.signIn(t, "boss").do(t, http.MethodDelete, "/v1/users/"+f.user(t, "agent"), nil), http.StatusNoContent, nil)
			}},
			{"12 hours without a request", func(_ *testing.T, f *fixture, _ *browser) { f.users.Now = later(12 * time.Hour) }},
		} {
			t.Run(c.name, func(t *testing.T) {
				f := mount(t, emptied(t, d), nil)
				f.add(t, "agent", role.Agent)
				agent := f.signIn(t, "agent")
				if !agent.signedIn(t) {
					t.Fatal("not signed in at first")
				}
				c.do(t, f, agent)
				if agent.signedIn(t) {
					t.Error("it goes on")
				}
			})
		}
	})
}

// emptied is a database without the rows that mount and the tests have made.
func emptied(t *testing.T, d *db.DB) *db.DB {
	t.Helper()
	for _, table := range []string{"audit_entries", "sessions", "users", "role_departments", "roles", "accounts"} {
		if _, err := d.Write().NewRaw("DELETE FROM " + table).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func later(by time.Duration) func() time.Time { return func() time.Time { return db.Now().Add(by) } }

func (f *fixture) user(t *testing.T, login string) string {
	t.Helper()
	u, err := find(t.Context(), f.DB, resttest.Account, "login", login)
	if err != nil || u == nil {
		t.Fatal(u, err)
	}
	return u.ID
}

func TestASuspendedAccountHasNoSessions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		b := f.signIn(t, "boss")
		if _, err := d.Write().NewRaw("UPDATE accounts SET status = 'suspended' WHERE id = ?", resttest.Account).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		elsewhere := newService(t, d, f.users.Bus, f.roles)
		if _, err := elsewhere.Authenticate(t.Context(), rest.Credential{Session: b.cookie, Method: http.MethodGet}); problem.From(err).Code != problem.CodeForbidden {
			t.Errorf("its session: %v", err)
		}
		f.users.Accounts = elsewhere.Accounts
		resttest.Want(t, f.try(t, "boss", password, ""), http.StatusForbidden, nil)
		// Nobody learns of it who is nobody there.
		resttest.Want(t, f.try(t, "boss", "wrong", ""), http.StatusUnauthorized, nil)
	})
}

// accepted makes a request of the browser to a process that has looked nothing up yet.
func (b *browser) accepted(t *testing.T) bool {
	t.Helper()
	b.users.sessions.Forget(hashOf(b.cookie))
	switch w := b.do(t, http.MethodGet, "/v1/me", nil); w.Code {
	case http.StatusOK:
		return true
	case http.StatusUnauthorized:
	default:
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	return false
}

func TestASessionLastsAsLongAsTheAccountSays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		idle, whole := time.Hour, 3*time.Hour
		f.users.Lifetimes = func(_ context.Context, account string) (time.Duration, time.Duration, error) {
			if account != resttest.Account {
				t.Errorf("asked about %q", account)
			}
			return idle, whole, nil
		}
		b := f.signIn(t, "boss")
		for range 3 {
			c.add(59 * time.Minute)
			resttest.Want(t, b.do(t, http.MethodGet, "/v1/me", nil), http.StatusOK, nil)
		}
		c.add(3 * time.Minute) // three hours, although it was used all the time
		if b.accepted(t) {
			t.Error("it lasts longer than the account has it")
		}
		b = f.signIn(t, "boss")
		c.add(time.Hour)
		if b.accepted(t) {
			t.Error("it lasts longer without a request than the account has it")
		}
		if sessions := decode[struct{ Data []Session }](t, f.signIn(t, "boss").do(t, http.MethodGet, "/v1/sessions", nil), http.StatusOK); len(sessions.Data) != 1 {
			t.Errorf("listed: %+v", sessions.Data)
		}
	})
}

func TestAChangeOfTheIdleTimeHoldsForOpenSessions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		idle, whole := time.Hour, 24*time.Hour
		f.users.Lifetimes = func(context.Context, string) (time.Duration, time.Duration, error) { return idle, whole, nil }
		expires := func(b *browser) time.Duration {
			t.Helper()
			sessions := decode[struct{ Data []Session }](t, b.do(t, http.MethodGet, "/v1/sessions", nil), http.StatusOK)
			if len(sessions.Data) != 1 {
				t.Fatalf("%+v", sessions.Data)
			}
			return sessions.Data[0].ExpiresAt.Sub(c.now())
		}
		b := f.signIn(t, "boss")
		// A longer one holds from the next request on, also where that follows in the same minute.
		idle = 5 * time.Hour
		c.add(time.Second)
		f.users.sessions.Forget(hashOf(b.cookie))
		if got := expires(b); got != 5*time.Hour {
			t.Errorf("with a longer time it ends in %s", got)
		}
		c.add(4 * time.Hour)
		if !b.accepted(t) {
			t.Error("the longer time does not hold")
		}
		c.add(30 * time.Minute)
		// A shorter one ends what has been idle for longer, and is shown of the others.
		idle = 15 * time.Minute
		if b.accepted(t) {
			t.Error("the shorter time does not hold")
		}
		other := f.signIn(t, "boss")
		idle = 10 * time.Minute
		if got := expires(other); got != 10*time.Minute {
			t.Errorf("with a shorter time it ends in %s", got)
		}
		// The time at most is that of the sign-in.
		whole = time.Minute
		c.add(5 * time.Minute)
		if !other.accepted(t) {
			t.Error("the life of an open session was changed")
		}
		// A longer one brings back nothing whose own time is over.
		c.add(time.Hour)
		idle = 24 * time.Hour
		if other.accepted(t) {
			t.Error("a session that was over came back")
		}
	})
}

func TestASessionIsNotTakenWhenNobodyKnowsHowLongItLasts(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), nil)
	b := f.signIn(t, "boss")
	f.users.Lifetimes = func(context.Context, string) (time.Duration, time.Duration, error) {
		return 0, 0, context.DeadlineExceeded
	}
	f.users.sessions.Forget(hashOf(b.cookie))
	for _, w := range []int{b.do(t, http.MethodGet, "/v1/me", nil).Code, f.try(t, "boss", password, "").Code} {
		if w < http.StatusInternalServerError {
			t.Errorf("answered %d", w)
		}
	}
}

func TestUseLengthensASessionButNotForEver(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		b := f.signIn(t, "boss")
		for range 14 {
			c.add(11 * time.Hour)
			resttest.Want(t, b.do(t, http.MethodGet, "/v1/me", nil), http.StatusOK, nil)
		}
		sessions := decode[struct{ Data []Session }](t, b.do(t, http.MethodGet, "/v1/sessions", nil), http.StatusOK)
		if len(sessions.Data) != 1 || !sessions.Data[0].Current || !sessions.Data[0].SeenAt.Equal(c.now()) || sessions.Data[0].UserAgent != "Test/1" || sessions.Data[0].Method != "password" {
			t.Errorf("got %+v", sessions)
		}
		if at := sessions.Data[0].ExpiresAt; !at.Equal(c.now().Add(idleFor)) {
			t.Errorf("it ends at %s", at)
		}
		c.add(11 * time.Hour) // 165 of 168 hours
		resttest.Want(t, b.do(t, http.MethodGet, "/v1/me", nil), http.StatusOK, nil)
		c.add(3 * time.Hour)
		resttest.Want(t, b.do(t, http.MethodGet, "/v1/me", nil), http.StatusUnauthorized, nil)
		if err := f.users.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := db.Count[Session](t.Context(), d, auth.Everywhere()); n != 0 || err != nil {
			t.Errorf("%d sessions are left: %v", n, err)
		}
	})
}

func TestAPersonSeesAndEndsOnlyTheirOwnSessions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		f.add(t, "agent", role.Agent)
		boss, agent := f.signIn(t, "boss"), f.signIn(t, "agent")
		sessions := decode[struct{ Data []Session }](t, boss.do(t, http.MethodGet, "/v1/sessions", nil), http.StatusOK)
		if len(sessions.Data) != 1 || sessions.Data[0].ID != boss.session {
			t.Errorf("the owner sees %+v", sessions.Data)
		}
		resttest.Want(t, boss.do(t, http.MethodDelete, "/v1/sessions/"+agent.session, nil), http.StatusNotFound, nil)
		resttest.Want(t, boss.do(t, http.MethodDelete, "/v1/sessions?user_id="+f.user(t, "agent"), nil), http.StatusForbidden, nil)
		key, err := f.users.Accounts.CreateKey(t.Context(), resttest.Account, "all", "*")
		if err != nil {
			t.Fatal(err)
		}
		if all := decode[struct{ Data []Session }](t, f.Do(t, key, http.MethodGet, "/v1/sessions", nil), http.StatusOK); len(all.Data) != 2 {
			t.Errorf("a program sees %+v", all.Data)
		}
		resttest.Want(t, f.Do(t, key, http.MethodDelete, "/v1/sessions", nil), http.StatusBadRequest, nil)
		resttest.Want(t, f.Do(t, key, http.MethodDelete, "/v1/sessions?user_id="+f.user(t, "agent"), nil), http.StatusNoContent, nil)
		if agent.signedIn(t) || !boss.signedIn(t) {
			t.Error("the wrong sessions have ended")
		}
		other, err := f.users.Accounts.CreateKey(t.Context(), resttest.OtherAccount, "all", "*")
		if err != nil {
			t.Fatal(err)
		}
		resttest.Want(t, f.Do(t, other, http.MethodDelete, "/v1/sessions?user_id="+f.owner, nil), http.StatusNoContent, nil)
		if !boss.signedIn(t) {
			t.Error("another account ended it")
		}
		resttest.Want(t, f.Do(t, key, http.MethodPost, "/v1/me/totp", nil), http.StatusUnprocessableEntity, nil)
		if me := decode[Me](t, f.Do(t, key, http.MethodGet, "/v1/me", nil), http.StatusOK); me.User != nil || me.APIKeyID == "" || !me.DataScopes["*"].All {
			t.Errorf("a key is told %+v", me)
		}
	})
}

func TestRightsAreThoseOfTheRoles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		agent, nobody := f.add(t, "agent", role.Agent), f.add(t, "nobody")
		me := decode[Me](t, f.signIn(t, "agent").do(t, http.MethodGet, "/v1/me", nil), http.StatusOK)
		if rows := me.DataScopes["calls"]; rows.All || len(rows.UserIDs) != 1 || rows.UserIDs[0] != agent {
			t.Errorf("an agent sees the calls of %+v", rows)
		}
		resttest.Want(t, f.signIn(t, "agent").do(t, http.MethodGet, "/v1/users", nil), http.StatusForbidden, nil)
		// One without a role may do nothing but look after himself.
		me = decode[Me](t, f.signIn(t, "nobody").do(t, http.MethodGet, "/v1/me", nil), http.StatusOK)
		if strings.Join(me.Permissions, " ") != "me.read me.write" || me.User.ID != nobody {
			t.Errorf("one without a role may %v", me.Permissions)
		}
		resttest.Want(t, f.signIn(t, "nobody").do(t, http.MethodPost, "/v1/tokens", `{"for":"events"}`), http.StatusForbidden, nil)
	})
}

func TestALinkWorksOnceForADay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		agent := f.add(t, "agent")
		boss := f.signIn(t, "boss")
		link := func() string {
			return decode[Link](t, boss.do(t, http.MethodPost, "/v1/users/"+agent+"/links", nil), http.StatusCreated).Token
		}
		use := func(token, password string) int {
			return f.Do(t, "", http.MethodPost, "/v1/sessions/link", map[string]string{"token": token, "password": password}).Code
		}
		first := link()
		second := link()
		if got := use(first, another); got != http.StatusUnprocessableEntity {
			t.Errorf("one that was replaced: %d", got)
		}
		for _, weak := range []string{"short", "1234567890", "agent12345", "agentagent", "PASSWORD123", "aaaaaaaaaaaa", "zyxwvutsrqponm"} {
			if got := use(second, weak); got != http.StatusBadRequest {
				t.Errorf("with the password %s: %d", weak, got)
			}
		}
		if got := use(second, another); got != http.StatusOK {
			t.Errorf("with a good one, after weak ones: %d", got)
		}
		if got := use(second, password); got != http.StatusUnprocessableEntity {
			t.Errorf("a second time: %d", got)
		}
		third := link()
		c.add(24 * time.Hour)
		if got := use(third, password); got != http.StatusUnprocessableEntity {
			t.Errorf("after a day: %d", got)
		}
		if got := use("lnk_", password); got != http.StatusUnprocessableEntity {
			t.Errorf("no link: %d", got)
		}
		resttest.Want(t, f.try(t, "agent", another, ""), http.StatusCreated, nil)
	})
}

func TestALinkIsStoredNowhere(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), nil)
	boss := f.signIn(t, "boss")
	link := decode[Link](t, boss.do(t, http.MethodPost, "/v1/users/"+f.owner+"/links", nil), http.StatusCreated)
	for _, table := range []string{"one_time_links", "audit_entries", "users", "user_secrets", "sessions", "idempotency_keys"} {
		rows := []map[string]any{}
		if err := f.DB.Read().NewRaw("SELECT * FROM "+table).Scan(t.Context(), &rows); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			for column, value := range row {
				text, _ := value.(string)
				for _, secret := range []string{link.Token[len(linkPrefix):], boss.cookie, password} {
					if strings.Contains(text, secret) {
						t.Errorf("%s.%s holds a secret: %s", table, column, text)
					}
				}
			}
		}
	}
}

func TestAPasswordIsHashedAnewWhenTheCostHasChanged(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), nil)
	f.users.Hasher = NewHasher(Cost{Time: 2, Memory: 128, Threads: 2})
	for range 2 {
		resttest.Want(t, f.try(t, "boss", password, ""), http.StatusCreated, nil)
		held, err := secretOf(t.Context(), f.DB, f.owner)
		if err != nil || !strings.Contains(held.Password, "m=128,t=2,p=2") {
			t.Errorf("stored %s, %v", held.Password, err)
		}
	}
}

// The waits double, are bounded, and end: nobody is locked out for good.
func TestGuessingMustWaitLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bus.Open(t.Context(), "memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}()
		l := &lockout{bus: b}
		from := netip.MustParseAddr("192.0.2.1")
		guess := func(user string, from netip.Addr) time.Duration {
			t.Helper()
			_, err := l.enter(t.Context(), user, from)
			if err == nil {
				return 0
			}
			p := problem.From(err)
			if p.Code != problem.CodeTooMany || p.RetryAfter <= 0 {
				t.Fatalf("refused with %v", err)
			}
			return p.RetryAfter
		}
		var waits []time.Duration
		for range 20 {
			wait := guess("a\x00boss", from)
			waits = append(waits, wait)
			if wait == 0 {
				continue
			}
			<-time.After(wait - time.Microsecond)
			if guess("a\x00boss", from) == 0 {
				t.Fatal("let in before the wait was over")
			}
			<-time.After(time.Microsecond)
			if left := guess("a\x00boss", from); left != 0 {
				t.Fatalf("%s are left after the wait", left)
			}
		}
		want := []time.Duration{0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900, 900, 900}
		for i := range want {
			if waits[i] != want[i]*time.Second {
				t.Errorf("failure %d must wait %s, want %d s", i, waits[i], want[i])
			}
		}
		if guess("a\x00other", netip.MustParseAddr("198.51.100.1")) != 0 {
			t.Error("another user from elsewhere waits too")
		}
		<-time.After(forgetAfter)
		if wait := guess("a\x00boss", from); wait != 0 {
			t.Errorf("after %s: %s", forgetAfter, wait)
		}
	})
}

func TestAnAddressThatGuessesAtManyUsersMustWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bus.Open(t.Context(), "memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}()
		l := &lockout{bus: b}
		enter := func(i int, from string) (*attempt, error) {
			return l.enter(t.Context(), "a\x00user"+string(rune('a'+i)), netip.MustParseAddr(from))
		}
		for i := range perAddress().free {
			// Somebody of the same office signs in between; that does not pardon the guesses.
			good, err := l.enter(t.Context(), "a\x00good", netip.MustParseAddr("2001:db8:0:1::9"))
			if err != nil {
				t.Fatal(err)
			}
			if err := good.succeed(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := enter(i, "2001:db8:0:1::1"); err != nil {
				t.Fatalf("guess %d: %v", i, err)
			}
		}
		if _, err := enter(50, "2001:db8:0:1:ffff::2"); problem.From(err).Code != problem.CodeTooMany {
			t.Errorf("the same /64: %v", err)
		}
		if _, err := enter(50, "2001:db8:0:2::2"); err != nil {
			t.Errorf("another /64: %v", err)
		}
		<-time.After(firstWait)
		if _, err := enter(51, "2001:db8:0:1::1"); err != nil {
			t.Errorf("after the wait: %v", err)
		}
	})
}

func TestManyGuessesAtOnceCountAsMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := bus.Open(t.Context(), "memory:")
		if err != nil {
			t.Fatal(err)
		}
		l := &lockout{bus: b}
		in := make(chan bool)
		const guesses = 50
		for i := range guesses {
			go func() {
				_, err := l.enter(context.WithoutCancel(t.Context()), "a\x00boss", netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
				in <- err == nil
			}()
		}
		let := 0
		for range guesses {
			if <-in {
				let++
			}
		}
		if let == 0 || let > perUser().free {
			t.Errorf("%d of %d guesses at one moment were let in", let, guesses)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSigningInWellForgetsTheFailures(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		for range 3 {
			for range perUser().free - 1 {
				resttest.Want(t, f.try(t, "boss", "wrong", ""), http.StatusUnauthorized, nil)
			}
			resttest.Want(t, f.try(t, "boss", password, ""), http.StatusCreated, nil)
		}
		for range perUser().free {
			resttest.Want(t, f.try(t, "boss", "wrong", ""), http.StatusUnauthorized, nil)
		}
		w := f.try(t, "boss", password, "")
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("the right password after too many wrong ones: %d %v", w.Code, w.Header())
		}
		link, err := f.linkFor(t, f.owner)
		if err != nil {
			t.Fatal(err)
		}
		resttest.Want(t, f.Do(t, "", http.MethodPost, "/v1/sessions/link", map[string]string{"token": link.Token, "password": another}), http.StatusOK, nil)
		resttest.Want(t, f.try(t, "boss", another, ""), http.StatusCreated, nil)
	})
}

func TestWithoutTheBusNobodySignsInButSessionsGoOn(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), nil)
	b := f.signIn(t, "boss")
	away := openBus(t)
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	f.users.Bus = away
	if w := f.try(t, "boss", password, ""); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	resttest.Want(t, b.do(t, http.MethodGet, "/v1/me", nil), http.StatusOK, nil)
}
