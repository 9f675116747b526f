package user

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/role"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// providerFolder installs the pinned provider into the user's cache, once for each version of testdata/oidc, and gives its
// folder. Several test binaries may do so at once.
func providerFolder(t *testing.T) string {
	t.Helper()
	names := []string{"package.json", "package-lock.json", "provider.mjs"}
	sum := sha256.New()
	files := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", "oidc", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
		_, _ = sum.Write(text) // a hash takes all it is given
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	parent := filepath.Join(cache, "hookswitch", "oidc")
	folder := filepath.Join(parent, hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(folder); err == nil {
		return folder
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(parent, "new-")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(fresh, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = fresh
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci, of the provider that this test signs in with: %v\n%s", err, out)
	}
	// Another may have been faster; what it installed is the same.
	if err := os.Rename(fresh, folder); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		t.Fatal(err)
	}
	if err := os.RemoveAll(fresh); err != nil {
		t.Fatal(err)
	}
	return folder
}

// startProvider runs the provider until the test ends.
func startProvider(t *testing.T, redirectURI string, arguments ...string) (issuer string) {
	t.Helper()
	node := exec.Command("node", append([]string{"provider.mjs", redirectURI}, arguments...)...)
	node.Dir = providerFolder(t)
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	node.Stderr = &errs
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), node.Wait()); err != nil {
			t.Errorf("the provider ended with %v\n%s", err, errs.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider said nothing: %v\n%s", err, errs.String())
	}
	return strings.TrimSpace(line)
}

// journeyTest is a server that browsers reach, and its provider.
type journeyTest struct {
	*fixture
	server   *httptest.Server
	provider *Provider
}

func startJourney(t *testing.T, d *db.DB, arguments ...string) *journeyTest {
	t.Helper()
	j := &journeyTest{fixture: mount(t, d, nil)}
	j.server = httptest.NewServer(j.Handler)
	t.Cleanup(j.server.Close)
	j.users.PublicURL = j.server.URL
	j.users.HTTP = guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ConnectTimeout: 5 * time.Second})
	t.Cleanup(j.users.HTTP.Close)
	j.provider = &Provider{
		Issuer: startProvider(t, j.server.URL+oidcPath+"/callback", arguments...), ClientID: "hookswitch", ClientSecret: "the secret of the client",
		Domains: []string{"example.com"}, Match: MatchEmail,
	}
	j.users.OIDC = j.provider
	return j
}

// visitor is a browser that keeps cookies, and stops before the address it was told to.
type visitor struct {
	client *http.Client
	stop   func(u *url.URL) bool
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{stop: func(*url.URL) bool { return false }}
	v.client = &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if v.stop(r.URL) || len(via) > 20 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return v
}

// visit gets a page, or posts a form to it.
func (v *visitor) visit(t *testing.T, address string, form url.Values) (final *url.URL, page string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if form != nil {
		r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	}
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w, err := v.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	text, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	final = w.Request.URL
	if location, err := w.Location(); err == nil {
		final = location
	}
	return final, string(text), w.StatusCode
}

var (
	formAction = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)
	prompt     = regexp.MustCompile(`name="prompt" value="([a-z]+)"`)
)

// travel signs in at the provider and agrees to everything, until the journey ends on a page of ours.
func (v *visitor) travel(t *testing.T, start, login string, ours func(u *url.URL) bool) *url.URL {
	t.Helper()
	v.stop = ours
	at, page, status := v.visit(t, start, nil)
	for range 5 {
		if ours(at) {
			return at
		}
		action, step := formAction.FindStringSubmatch(page), prompt.FindStringSubmatch(page)
		if action == nil || step == nil {
			t.Fatalf("no form at %s: %d %s", at, status, page)
		}
		form := url.Values{"prompt": {step[1]}}
		if step[1] == "login" {
			form.Set("login", login)
			form.Set("password", "whatever")
		}
		target, err := at.Parse(action[1])
		if err != nil {
			t.Fatal(err)
		}
		at, page, status = v.visit(t, target.String(), form)
	}
	t.Fatalf("the journey did not end: %s", at)
	return nil
}

// home reports whether an address is a page of ours, at the end of the journey.
func (j *journeyTest) home(u *url.URL) bool {
	return strings.HasPrefix(u.String(), j.server.URL) && !strings.HasPrefix(u.Path, oidcPath)
}

func (j *journeyTest) start(account, returnTo string) string {
	return j.server.URL + oidcPath + "/start?" + url.Values{"account": {account}, "return_to": {returnTo}}.Encode()
}

// session is the cookie that a visitor has of us.
func (j *journeyTest) session(t *testing.T, v *visitor) string {
	t.Helper()
	u, err := url.Parse(j.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.client.Jar.Cookies(u) {
		if c.Name == rest.SessionCookie {
			return c.Value
		}
	}
	return ""
}

func TestSigningInWithAnIdentityProvider(t *testing.T) {
	for name, location := range locations() {
		t.Run(name, func(t *testing.T) {
			j := startJourney(t, dbtest.Open(t, location(t)))
			for _, email := range []string{"li@example.com", "unverified@example.com", "li@elsewhere.example", "twice@example.com", "off@example.com"} {
				j.addWith(t, &User{Row: db.Row{ID: db.NewID("usr")}, Draft: Draft{Login: email, Name: email, Email: email}}, role.Agent)
			}
			j.addWith(t, &User{Row: db.Row{ID: "usr_twin"}, Draft: Draft{Login: "twin", Name: "twin", Email: "twice@example.com"}})
			if _, err := j.DB.Write().NewRaw("UPDATE users SET status = 'disabled' WHERE login = 'off@example.com'").Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			for login, want := range map[string]string{
				"li@example.com":         "/calls?status=open",
				"unverified@example.com": "/sign-in?error=oidc.no_user", // the provider has not checked the address
				"li@elsewhere.example":   "/sign-in?error=oidc.no_user", // not one of the domains
				"twice@example.com":      "/sign-in?error=oidc.no_user", // two users
				"off@example.com":        "/sign-in?error=oidc.no_user", // disabled
				"stranger@example.com":   "/sign-in?error=oidc.no_user",
			} {
				v := newVisitor(t)
				at := v.travel(t, j.start(resttest.Account, "/calls?status=open"), login, j.home)
				if at.RequestURI() != want {
					t.Errorf("%s came to %s, want %s", login, at.RequestURI(), want)
				}
				cookie := j.session(t, v)
				if (cookie != "") != (login == "li@example.com") {
					t.Errorf("%s: the session is %q", login, cookie)
				}
				if cookie == "" {
					continue
				}
				me := decode[Me](t, (&browser{fixture: j.fixture, cookie: cookie}).do(t, http.MethodGet, "/v1/me", nil), http.StatusOK)
				if me.User.Email != login || me.Session.CSRFToken == "" {
					t.Errorf("signed in as %+v", me.User)
				}
			}
		})
	}
}

func TestAnAccountsOwnProviderMatchesBySubject(t *testing.T) {
	j := startJourney(t, dbtest.Open(t, dbtest.SQLiteURL(t)), "claims-in-token")
	boss := j.signIn(t, "boss")
	put := func(change string) {
		t.Helper()
		body := `{"issuer":"` + j.provider.Issuer + `","client_id":"hookswitch","match":"sub"` + change + `}`
		resttest.Want(t, boss.do(t, http.MethodPut, "/v1/account/identity_provider", body), http.StatusOK, nil)
	}
	put(`,"client_secret":"the secret of the client"`)
	put("") // the secret stays
	if w := boss.do(t, http.MethodGet, "/v1/account/identity_provider", nil); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("it shows %s", w.Body)
	}
	j.users.OIDC = nil
	resttest.Want(t, boss.do(t, http.MethodPost, "/v1/users", `{"login":"a","name":"a","oidc_subject":"subject-1"}`), http.StatusCreated, nil)
	for login, want := range map[string]string{"subject-1": "/", "boss": "/sign-in?error=oidc.no_user"} {
		if at := newVisitor(t).travel(t, j.start(resttest.Account, ""), login, j.home); at.RequestURI() != want {
			t.Errorf("%s came to %s", login, at.RequestURI())
		}
	}
	// Another account has no provider.
	if at := newVisitor(t).travel(t, j.start(resttest.OtherAccount, ""), "subject-1", j.home); at.RequestURI() != "/sign-in?error=oidc.none" {
		t.Errorf("another account: %s", at.RequestURI())
	}
	// Whoever redirects the account to another issuer does not get the secret.
	resttest.Want(t, boss.do(t, http.MethodPut, "/v1/account/identity_provider", `{"issuer":"https://thief.example","client_id":"hookswitch","match":"sub"}`), http.StatusOK, nil)
	if p, err := j.users.providerOf(t.Context(), resttest.Account); err != nil || p.ClientSecret != "" || p.Issuer != "https://thief.example" {
		t.Errorf("kept %+v, %v", p, err)
	}
	resttest.Want(t, boss.do(t, http.MethodDelete, "/v1/account/identity_provider", nil), http.StatusNoContent, nil)
	resttest.Want(t, boss.do(t, http.MethodGet, "/v1/account/identity_provider", nil), http.StatusNotFound, nil)
}

func TestTheWayBackIsForTheBrowserThatLeft(t *testing.T) {
	j := startJourney(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	j.addWith(t, &User{Row: db.Row{ID: "usr_li"}, Draft: Draft{Login: "li", Name: "li", Email: "li@example.com"}})
	// A victim is lured to the way back of the attacker's journey.
	attacker := newVisitor(t)
	callback := attacker.travel(t, j.start(resttest.Account, ""), "li@example.com", func(u *url.URL) bool { return u.Path == oidcPath+"/callback" })
	ends := func(v *visitor, address string) string {
		t.Helper()
		v.stop = j.home
		at, _, _ := v.visit(t, address, nil)
		return at.RequestURI()
	}
	if got := ends(newVisitor(t), callback.String()); got != "/sign-in?error=oidc.state" {
		t.Errorf("without the cookie: %s", got)
	}
	forged := *callback
	q := forged.Query()
	q.Set("state", "another")
	forged.RawQuery = q.Encode()
	if got := ends(attacker, forged.String()); got != "/sign-in?error=oidc.state" {
		t.Errorf("with another state: %s", got)
	}
	// The refusal took the cookie away: the journey must begin again.
	if got := ends(attacker, callback.String()); got != "/sign-in?error=oidc.state" {
		t.Errorf("after a refusal: %s", got)
	}
	again := newVisitor(t)
	callback = again.travel(t, j.start(resttest.Account, ""), "li@example.com", func(u *url.URL) bool { return u.Path == oidcPath+"/callback" })
	if got := ends(again, callback.String()); got != "/" {
		t.Errorf("the browser that left: %s", got)
	}
	if got := ends(again, j.server.URL+oidcPath+"/callback?error=access_denied"); got != "/sign-in?error=oidc.state" {
		t.Errorf("a refusal that nobody asked for: %s", got)
	}
}

func TestProvidersAreReachedOnlyThroughTheGuard(t *testing.T) {
	j := startJourney(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	j.users.HTTP = guard.New(guard.Config{})
	t.Cleanup(j.users.HTTP.Close)
	if at := newVisitor(t).travel(t, j.start(resttest.Account, ""), "li@example.com", j.home); at.RequestURI() != "/sign-in?error=oidc.unavailable" {
		t.Errorf("came to %s", at.RequestURI())
	}
}

func TestWhatAProviderMayBe(t *testing.T) {
	f := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)), person)
	for body, want := range map[string]int{
		`{"issuer":"https://login.example.com/realms/a","client_id":"a","match":"email","domains":["Example.COM"]}`: 200,
		`{"issuer":"http://127.0.0.1:8080","client_id":"a","match":"sub"}`:                                          200,
		`{"issuer":"http://login.example.com","client_id":"a","match":"sub"}`:                                       400,
		`{"issuer":"https://login.example.com?x=1","client_id":"a","match":"sub"}`:                                  400,
		`{"issuer":"https://u:p@login.example.com","client_id":"a","match":"sub"}`:                                  400,
		`{"issuer":"ftp://login.example.com","client_id":"a","match":"sub"}`:                                        400,
		`{"issuer":"https://login.example.com","client_id":"a","match":"name"}`:                                     400,
		`{"issuer":"https://login.example.com","client_id":"a","match":"email","domains":["@example.com"]}`:         400,
		`{"issuer":"https://login.example.com","client_id":"","match":"email"}`:                                     400,
	} {
		if w := f.Do(t, resttest.Token, http.MethodPut, "/v1/account/identity_provider", body); w.Code != want {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

func TestNobodyIsSentElsewhereAfterSigningIn(t *testing.T) {
	for text, want := range map[string]string{
		"/calls?a=b#c": "/calls?a=b#c", "": "/", "calls": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example/": "/",
		"javascript:alert(1)": "/", "/a\r\nSet-Cookie: x": "/", "/\t/evil.example": "/", "/%2f/evil.example": "/%2f/evil.example",
	} {
		if got := localPath(text); got != want {
			t.Errorf("%q leads to %q, want %q", text, got, want)
		}
	}
}

func FuzzJourney(f *testing.F) {
	s := &Service{Secret: []byte("0123456789abcdef0123456789abcdef")}
	sealed, err := s.seal("oidc", journey{State: "s", Expires: 1})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{oidcCookie + "=" + sealed, "a=b; " + oidcCookie + "=" + sealed, oidcCookie + "=", "", "=;=;", oidcCookie + "=\x00.\xff"} {
		f.Add(text, "s")
	}
	f.Fuzz(func(t *testing.T, cookies, state string) {
		// What was sealed above is over for long.
		if j, err := s.journey(finishOIDCIn{Cookies: cookies, State: state}); err == nil {
			t.Errorf("%q was taken for %+v", cookies, j)
		}
	})
}
