package user

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

// enrol turns one-time codes on for the browser's user.
func (b *browser) enrol(t *testing.T) (secret string, recovery []string) {
	t.Helper()
	e := decode[Enrolment](t, b.do(t, http.MethodPost, "/v1/me/totp", nil), http.StatusCreated)
	w := b.do(t, http.MethodPost, "/v1/me/totp/confirm", map[string]string{"code": codeAt(t, e.Secret, b.users.now())})
	return e.Secret, decode[Confirmed](t, w, http.StatusOK).RecoveryCodes
}

func TestOneTimeCodes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		boss := f.signIn(t, "boss")
		e := decode[Enrolment](t, boss.do(t, http.MethodPost, "/v1/me/totp", nil), http.StatusCreated)
		u, err := url.Parse(e.OTPAuthURL)
		if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Query().Get("secret") != e.Secret || u.Query().Get("issuer") != resttest.Account {
			t.Errorf("the URL is %s", e.OTPAuthURL)
		}
		// What is not confirmed is not asked for.
		resttest.Want(t, f.try(t, "boss", password, ""), http.StatusCreated, nil)
		resttest.Want(t, boss.do(t, http.MethodPost, "/v1/me/totp/confirm", map[string]string{"code": "000000"}), http.StatusUnprocessableEntity, nil)
		secret, recovery := boss.enrol(t)
		if len(recovery) != recoveryCodes {
			t.Fatalf("%d recovery codes", len(recovery))
		}
		resttest.Want(t, boss.do(t, http.MethodPost, "/v1/me/totp", nil), http.StatusConflict, nil)

		if w := f.try(t, "boss", password, ""); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "totp.required") {
			t.Errorf("without a code: %d %s", w.Code, w.Body)
		}
		// Nobody learns that codes are asked for who does not know the password.
		if w := f.try(t, "boss", "wrong", "123456"); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "totp") {
			t.Errorf("with a wrong password: %d %s", w.Code, w.Body)
		}
		confirmedWith := codeAt(t, secret, c.now())
		if w := f.try(t, "boss", password, confirmedWith); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "totp.wrong") {
			t.Errorf("the code that confirmed, once more: %d %s", w.Code, w.Body)
		}
		c.add(codePeriod)
		next := codeAt(t, secret, c.now())
		resttest.Want(t, f.try(t, "boss", password, next[:3]+" "+next[3:]), http.StatusCreated, nil)
		resttest.Want(t, f.try(t, "boss", password, next), http.StatusUnauthorized, nil)
		c.add(codePeriod)
		// A telephone whose clock goes half a minute wrong.
		resttest.Want(t, f.try(t, "boss", password, codeAt(t, secret, c.now().Add(codePeriod))), http.StatusCreated, nil)
		// And now what it shows for the time that is behind.
		resttest.Want(t, f.try(t, "boss", password, codeAt(t, secret, c.now())), http.StatusUnauthorized, nil)
		resttest.Want(t, f.try(t, "boss", password, codeAt(t, secret, c.now().Add(10*codePeriod))), http.StatusUnauthorized, nil)

		resttest.Want(t, f.try(t, "boss", password, strings.ToLower(recovery[0])), http.StatusCreated, nil)
		resttest.Want(t, f.try(t, "boss", password, recovery[0]), http.StatusUnauthorized, nil)
		me := decode[Me](t, boss.do(t, http.MethodGet, "/v1/me", nil), http.StatusOK)
		if !me.TOTP.Enabled || me.TOTP.RecoveryCodesLeft != recoveryCodes-1 {
			t.Errorf("left are %+v", me.TOTP)
		}

		resttest.Want(t, boss.do(t, http.MethodPost, "/v1/me/totp/disable", `{"password":"wrong"}`), http.StatusUnprocessableEntity, nil)
		resttest.Want(t, boss.do(t, http.MethodDelete, "/v1/users/"+f.owner+"/totp", nil), http.StatusConflict, nil)
		resttest.Want(t, boss.do(t, http.MethodPost, "/v1/me/totp/disable", map[string]string{"password": password}), http.StatusNoContent, nil)
		resttest.Want(t, f.try(t, "boss", password, ""), http.StatusCreated, nil)
	})
}

func TestALinkDoesNotReplaceOneTimeCodes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		f.add(t, "agent")
		f.signIn(t, "agent").enrol(t)
		boss := f.signIn(t, "boss")
		path := "/v1/users/" + f.user(t, "agent")
		link := decode[Link](t, boss.do(t, http.MethodPost, path+"/links", nil), http.StatusCreated)
		resttest.Want(t, f.Do(t, "", http.MethodPost, "/v1/sessions/link", map[string]string{"token": link.Token, "password": another}), http.StatusOK, nil)
		resttest.Want(t, f.try(t, "agent", another, ""), http.StatusUnauthorized, nil)
		// Somebody who has lost the telephone asks an administrator.
		resttest.Want(t, boss.do(t, http.MethodDelete, path+"/totp", nil), http.StatusNoContent, nil)
		resttest.Want(t, f.try(t, "agent", another, ""), http.StatusCreated, nil)
	})
}

func TestOfManyWithTheSameCodeOneSignsIn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d, nil)
		c := f.clock()
		secretKey, recovery := f.signIn(t, "boss").enrol(t)
		c.add(time.Minute)
		held, err := secretOf(t.Context(), d, f.owner)
		if err != nil {
			t.Fatal(err)
		}
		for name, code := range map[string]string{"a code": codeAt(t, secretKey, c.now()), "a recovery code": recovery[3]} {
			var mu sync.Mutex // guards taken
			taken := 0
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(func() {
					ok, err := f.users.takeCode(t.Context(), held, code)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if ok {
						taken++
					}
				})
			}
			wait.Wait()
			if taken != 1 {
				t.Errorf("%s was taken %d times", name, taken)
			}
		}
	})
}
