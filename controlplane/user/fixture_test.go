package user

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/role"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

const (
	password = "correct horse battery"
	another  = "staple correct horse"
)

// fixture is a server with real roles in both accounts, and an owner in Account.
type fixture struct {
	*resttest.Server
	users *Service
	roles *role.Service
	owner string // user id of the owner, whose login is boss
	ids   map[string]string
}

// cheap is a cost that no test waits for.
func cheap() Cost { return Cost{Time: 1, Memory: 64, Threads: 1} }

func newService(t *testing.T, d *db.DB, b *bus.Bus, roles *role.Service) *Service {
	t.Helper()
	return &Service{
		DB: d, Bus: b, Accounts: &account.Service{DB: d}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Secret: []byte("0123456789abcdef0123456789abcdef"), PublicURL: "https://pbx.example.com", Hasher: NewHasher(cheap()),
		MayGrant: roles.MayGrant,
		Compile: func(ctx context.Context, account string, roleIDs []string, userID, departmentID string) ([]string, map[string]auth.Rows, auth.Mask, error) {
			g, err := roles.Compile(ctx, account, roleIDs, userID, departmentID)
			return g.Permissions, g.Reach, g.Mask, err
		},
	}
}

func openBus(t *testing.T) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// mount serves the operations; authenticate is the service's where it is nil.
func mount(t *testing.T, d *db.DB, authenticate func(context.Context, rest.Credential) (auth.Caller, error)) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	known, err := permissions()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{roles: &role.Service{DB: d, Permissions: role.NewPermissions(known...)}, ids: map[string]string{}}
	b := openBus(t)
	f.users = newService(t, d, b, f.roles)
	if authenticate == nil {
		authenticate = f.users.Authenticate
	}
	f.Server = resttest.Mount(t, d, spec, f.users.Operations())
	f.Handler, err = rest.Mount(rest.Config{DB: d, Bus: b, Log: f.users.Log, Authenticate: authenticate, RatePerSecond: 1e6, Observe: resttest.Called(t)}, f.Spec, f.Operations)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{resttest.Account, resttest.OtherAccount} {
		if err := f.roles.InstallIn(t.Context(), d, id); err != nil {
			t.Fatal(err)
		}
	}
	f.owner = f.add(t, "boss", role.Owner)
	return f
}

// role is the id of a built-in role of Account.
func (f *fixture) role(t *testing.T, code string) string {
	t.Helper()
	var id string
	if err := f.DB.Read().NewRaw("SELECT id FROM roles WHERE account_id = ? AND code = ?", resttest.Account, code).Scan(t.Context(), &id); err != nil {
		t.Fatal(err)
	}
	return id
}

// add stores a user of Account with the password and these roles.
func (f *fixture) add(t *testing.T, login string, roles ...string) string {
	t.Helper()
	return f.addWith(t, &User{Row: db.Row{ID: db.NewID("usr")}, Draft: Draft{Login: login, Name: login}}, roles...)
}

func (f *fixture) addWith(t *testing.T, u *User, roles ...string) string {
	t.Helper()
	u.OwnerID = u.ID
	for _, code := range roles {
		u.RoleIDs = append(u.RoleIDs, f.role(t, code))
	}
	if err := u.check(); err != nil {
		t.Fatal(err)
	}
	hash, err := f.users.Hasher.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	err = f.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, auth.Account(resttest.Account), u); err != nil {
			return err
		}
		if err := f.users.stored(ctx, tx, auth.Caller{}, u); err != nil {
			return err
		}
		return setPassword(ctx, tx, u, hash, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// browser is one signed in, or not.
type browser struct {
	*fixture
	cookie, csrf, session string
}

// try signs in and gives the answer.
func (f *fixture) try(t *testing.T, login, password, totp string) *httptest.ResponseRecorder {
	t.Helper()
	body := map[string]string{"account": resttest.Account, "login": login, "password": password}
	if totp != "" {
		body["totp"] = totp
	}
	return f.Do(t, "", http.MethodPost, "/v1/sessions", body, "User-Agent", "Test/1")
}

// signIn signs in with the password.
func (f *fixture) signIn(t *testing.T, login string) *browser {
	t.Helper()
	w := f.try(t, login, password, "")
	var in SignedIn
	resttest.Want(t, w, http.StatusCreated, &in)
	return &browser{fixture: f, cookie: cookieOf(t, w), csrf: in.CSRFToken, session: in.SessionID}
}

func cookieOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	for _, c := range w.Result().Cookies() {
		if c.Name == rest.SessionCookie {
			return c.Value
		}
	}
	t.Fatalf("no cookie of a session in %v", w.Header())
	return ""
}

// do makes a request of the browser's page.
func (b *browser) do(t *testing.T, method, path string, body any) *httptest.ResponseRecorder {
	t.Helper()
	return b.Do(t, "", method, path, body, "Cookie", rest.SessionCookie+"="+b.cookie, "X-CSRF-Token", b.csrf)
}

// signedIn asks another process, which has looked nothing up yet, whether the session is good.
func (b *browser) signedIn(t *testing.T) bool {
	t.Helper()
	elsewhere := newService(t, b.DB, b.users.Bus, &role.Service{DB: b.DB, Permissions: b.roles.Permissions})
	elsewhere.Now = b.users.Now
	_, err := elsewhere.Authenticate(t.Context(), rest.Credential{Session: b.cookie, Method: http.MethodGet})
	if err != nil && problem.From(err).Code != problem.CodeUnauthenticated {
		t.Errorf("refused with %v", err)
	}
	return err == nil
}

// person is an Authenticate that knows resttest's tokens, where the callers of Account are people: the owner whose id is
// that of resttest's key, so that it finds him in the audit.
func person(_ context.Context, c rest.Credential) (auth.Caller, error) {
	who := resttest.Caller()
	who.KeyID, who.UserID = "", who.KeyID
	kind, list, _ := strings.Cut(c.Bearer, ":")
	switch kind {
	case resttest.Token:
	case resttest.Other:
		who.AccountID, who.UserID, who.KeyID, who.Scope = resttest.OtherAccount, "", "key_other", auth.Account(resttest.OtherAccount)
	case "masked":
		who.Mask.Numbers = true
	case "own":
		who.UserID, who.Reach = resttest.OwnUser, map[string]auth.Rows{"*": {Users: []string{resttest.OwnUser}}}
	case "but":
		all, err := permissions()
		who.Permissions = slices.DeleteFunc(all, func(p string) bool { return p == list })
		return who, err
	default:
		return auth.Caller{}, problem.Unauthenticated("this key is not known")
	}
	return who, nil
}

// permissions are all that there are.
func permissions() ([]string, error) {
	spec, err := specification()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, item := range spec.View.Paths.Map() {
		for _, o := range item.Operations() {
			p, _ := o.Extensions["x-permission"].(string)
			all = append(all, p)
		}
	}
	return all, nil
}

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (f *fixture) clock() *clock {
	c := &clock{at: db.Now()}
	f.users.Now, f.users.Accounts.Now = c.now, c.now
	return c
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder, status int) T {
	t.Helper()
	var value T
	if w.Code != status {
		t.Fatalf("got %d, want %d: %s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// remount serves the operations to these callers, by the text of their token.
func (f *fixture) remount(t *testing.T, people map[string]auth.Caller) {
	t.Helper()
	var err error
	f.Handler, err = rest.Mount(rest.Config{
		DB: f.DB, Bus: f.users.Bus, Log: f.users.Log, RatePerSecond: 1e6, Observe: resttest.Called(t),
		Authenticate: func(_ context.Context, c rest.Credential) (auth.Caller, error) { return people[c.Bearer], nil },
	}, f.Spec, f.Operations)
	if err != nil {
		t.Fatal(err)
	}
}

// linkFor makes a one-time link without asking who may.
func (f *fixture) linkFor(t *testing.T, userID string) (link Link, err error) {
	t.Helper()
	err = f.DB.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		link, err = f.users.newLink(ctx, tx, &User{Row: db.Row{ID: userID, AccountID: resttest.Account}})
		return err
	})
	return link, err
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// locations make fresh databases.
func locations() map[string]func(*testing.T) string {
	return map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL}
}
