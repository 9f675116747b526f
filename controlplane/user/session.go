package user

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Session is one sign-in of a user on one browser.
type Session struct {
	bun.BaseModel `bun:"table:sessions" json:"-"`
	db.Row

	UserID    string    `bun:"user_id" json:"user_id"`
	Hash      string    `bun:"hash" json:"-"`
	CSRF      string    `bun:"csrf" json:"-"`
	Method    string    `bun:"method" json:"method"` // password or oidc
	Address   string    `bun:"address" json:"address"`
	UserAgent string    `bun:"user_agent" json:"user_agent"`
	SeenAt    time.Time `bun:"seen_at" json:"seen_at"` // exact to a minute
	IdleUntil time.Time `bun:"idle_until" json:"-"`
	EndsAt    time.Time `bun:"ends_at" json:"-"`
	// ExpiresAt is when it ends without another request.
	ExpiresAt time.Time `bun:"-" json:"expires_at"`
	Current   bool      `bun:"-" json:"current"` // the one that asks
}

// The life of a session, where nobody says otherwise (Service.Lifetimes).
const (
	idleFor = 12 * time.Hour // a shift, and the way home
	lastFor = 7 * 24 * time.Hour
	// seenEvery is how exact seen_at is: a write per request would cost more than the request.
	seenEvery = time.Minute
)

const (
	byPassword = "password"
	byOIDC     = "oidc"

	maxUserAgent = 300
)

func (e *Session) expires() time.Time {
	if e.EndsAt.Before(e.IdleUntil) {
		return e.EndsAt
	}
	return e.IdleUntil
}

// hold applies an idle time that may have become shorter since the session was last used.
func (e *Session) hold(idle time.Duration) {
	if until := e.SeenAt.Add(idle); until.Before(e.IdleUntil) {
		e.IdleUntil = until
	}
}

// lifetimes are those of an account's sessions at this moment. What holds from when: whole is written into a session when
// it is opened, and a change holds for those opened after it. idle holds for open sessions too, within two seconds: a
// shorter one ends those that have been without a request for longer, for as long as it is shorter; a longer one holds for
// a session from its next request on, and brings none back whose own time is over.
func (s *Service) lifetimes(ctx context.Context, account string) (idle, whole time.Duration, err error) {
	if s.Lifetimes == nil {
		return idleFor, lastFor, nil
	}
	return s.Lifetimes(ctx, account)
}

// secretText makes a text of 256 random bits that nobody can guess.
func secretText() string {
	random := make([]byte, 32)
	// rand.Read never fails (crypto/rand, since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random)
	return base64.RawURLEncoding.EncodeToString(random)
}

// hashOf is what is stored of such a text: SHA-256 in hex. Why no slow hash: nobody guesses 256 bits.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

type signInIn struct {
	UserAgent string `header:"User-Agent"`
	Body      struct {
		Account  string `json:"account,omitempty"` // its name or one of its domains
		Login    string `json:"login"`
		Password string `json:"password"`
		TOTP     string `json:"totp,omitempty"` // a code, or a recovery code
	} `body:"json"`
}

// SignedIn is the answer to a sign-in.
type SignedIn struct {
	SessionID   string    `json:"session_id"`
	CSRFToken   string    `json:"csrf_token"`
	ExpiresAt   time.Time `json:"expires_at"`
	User        User      `json:"user"`
	Permissions []string  `json:"permissions"`
}

// errNotSignedIn is the one answer to every combination of names and password that does not fit.
func errNotSignedIn() error {
	return problem.Unauthenticated("account, login and password do not fit together; check them, or ask an administrator for a one-time link")
}

// signIn opens a session. Whoever guesses learns nothing: an account or a login that is not there costs the same work and
// gets the same answer as a wrong password.
func (s *Service) signIn(ctx context.Context, who auth.Caller, in signInIn) (rest.Answer, error) {
	a, u, err := s.named(ctx, in.Body.Account, in.Body.Login)
	if err != nil {
		return rest.Answer{}, err
	}
	at := strings.ToLower(in.Body.Account)
	if a != nil {
		at = a.ID // by whatever name it was called
	}
	try, err := s.lockout().enter(ctx, guessedAt(at, in.Body.Login), who.Address)
	if err != nil {
		return rest.Answer{}, err
	}
	held := secret{}
	if u != nil {
		if held, err = secretOf(ctx, s.DB, u.ID); err != nil {
			return rest.Answer{}, err
		}
	}
	ok, outdated, err := s.hasher().Check(ctx, in.Body.Password, held.Password)
	if err != nil {
		return rest.Answer{}, errors.Join(err, try.pardon(ctx))
	}
	if !ok || u == nil {
		s.refused(who, in.Body.Account, in.Body.Login, "password")
		return rest.Answer{}, errNotSignedIn()
	}
	if err := s.served(ctx, a, u); err != nil {
		return rest.Answer{}, errors.Join(err, try.pardon(ctx))
	}
	if held.TOTP != "" {
		if in.Body.TOTP == "" {
			return rest.Answer{}, errors.Join(errTOTPMissing(), try.pardon(ctx))
		}
		ok, err := s.takeCode(ctx, held, in.Body.TOTP)
		if err != nil {
			return rest.Answer{}, err
		}
		if !ok {
			s.refused(who, in.Body.Account, in.Body.Login, "totp")
			return rest.Answer{}, errTOTPWrong()
		}
	}
	if err := try.succeed(ctx); err != nil {
		s.Log.Warn("session.failures_kept", "user_id", u.ID, "error", err.Error())
	}
	if outdated {
		if err := s.rehash(ctx, u, in.Body.Password); err != nil {
			s.Log.Warn("user.not_rehashed", "user_id", u.ID, "error", err.Error())
		}
	}
	return s.open(ctx, who, u, byPassword, in.UserAgent)
}

// guessedAt names a user for the lockout, whether or not there is one.
func guessedAt(account, login string) string { return account + "\x00" + NormalLogin(login) }

// guessed is guessedAt for a user.
func guessed(u *User) string { return guessedAt(u.AccountID, u.Login) }

func (s *Service) refused(who auth.Caller, accountName, login, why string) {
	s.Log.Info("session.refused", "why", why, "user_hash", digest(accountName+"\x00"+login), "address", who.Address.String(), "request_id", who.RequestID)
}

// named finds the account and the user that a sign-in names; both are nil when there are none.
func (s *Service) named(ctx context.Context, accountName, login string) (*account.Account, *User, error) {
	if accountName == "" {
		accountName = s.DefaultAccount
	}
	a, found, err := s.Accounts.Called(ctx, accountName)
	if err != nil || !found {
		return nil, nil, err
	}
	u, err := find(ctx, s.DB, a.ID, "login", NormalLogin(login))
	return a, u, err
}

// find gives the user of an account by a unique column, nil for none.
func find(ctx context.Context, conn db.Conn, accountID, column, value string) (*User, error) {
	u, err := db.Find[User](ctx, conn, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.? = ?", bun.Ident(column), value)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return u, err
}

// served refuses a user who has shown to be himself, but may not sign in.
func (s *Service) served(ctx context.Context, a *account.Account, u *User) error {
	served, err := s.Accounts.IsActive(ctx, webhooks.AccountID(a.ID))
	switch {
	case err != nil:
		return err
	case !served:
		return account.ErrSuspended()
	case u.Status != Active:
		return problem.New(problem.CodeForbidden, "this user is disabled; ask an administrator of the account")
	}
	return nil
}

func (s *Service) rehash(ctx context.Context, u *User, password string) error {
	hash, err := s.hasher().Hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = s.DB.Write().NewRaw("UPDATE user_secrets SET password = ? WHERE user_id = ?", hash, u.ID).Exec(ctx)
	return db.Check(err)
}

// open makes a session for a user who has shown to be himself, and the answer that carries its cookie.
func (s *Service) open(ctx context.Context, who auth.Caller, u *User, method, userAgent string) (rest.Answer, error) {
	e, text, err := s.begin(ctx, who, u, method, userAgent)
	if err != nil {
		return rest.Answer{}, err
	}
	permissions, _, _, err := s.rights(ctx, u)
	if err != nil {
		return rest.Answer{}, err
	}
	header := http.Header{"Set-Cookie": {s.cookie(text, e.EndsAt).String()}, "Location": {"/v1/sessions/" + e.ID}}
	return rest.Answer{Status: http.StatusCreated, Header: header, Body: SignedIn{
		SessionID: e.ID, CSRFToken: e.CSRF, ExpiresAt: e.expires(), User: *u, Permissions: permissions,
	}}, nil
}

// begin stores a new session; text is what its cookie holds.
func (s *Service) begin(ctx context.Context, who auth.Caller, u *User, method, userAgent string) (e *Session, text string, err error) {
	idle, whole, err := s.lifetimes(ctx, u.AccountID)
	if err != nil {
		return nil, "", err
	}
	now := s.now()
	text = secretText()
	e = &Session{
		Row: db.Row{ID: db.NewID("ses"), AccountID: u.AccountID}, UserID: u.ID, Hash: hashOf(text), CSRF: secretText(), Method: method,
		Address: who.Address.String(), UserAgent: clean(userAgent), SeenAt: now, IdleUntil: now.Add(idle), EndsAt: now.Add(whole),
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.Insert(ctx, tx, auth.Account(u.AccountID), e); err != nil {
			return err
		}
		u.LastSignedInAt = &now
		_, err := tx.Write().NewRaw("UPDATE users SET last_signed_in_at = ? WHERE id = ?", now, u.ID).Exec(ctx)
		return db.Check(err)
	})
	if err != nil {
		return nil, "", err
	}
	s.Log.Info("session.opened", "session_id", e.ID, "user_id", u.ID, "account_id", u.AccountID, "method", method, "address", e.Address)
	return e, text, nil
}

// clean makes of what a browser says of itself a text that the database holds.
func clean(userAgent string) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(userAgent, "\x00", ""), "")
	if runes := []rune(text); len(runes) > maxUserAgent {
		text = string(runes[:maxUserAgent])
	}
	return text
}

// cookie is the session's, or with an empty text the one that removes it.
func (s *Service) cookie(text string, until time.Time) *http.Cookie {
	c := &http.Cookie{
		Name: rest.SessionCookie, Value: text, Path: "/", Expires: until, HttpOnly: true, Secure: s.secure(), SameSite: http.SameSiteStrictMode,
	}
	if text == "" {
		c.MaxAge, c.Expires = -1, time.Time{}
	}
	return c
}

// opened is a session and its user, as they were at most a second ago. It is shared: nobody changes it.
type opened struct {
	session Session       // zero for a token that was made with a key
	idle    time.Duration // how long the session lasts without a request
	user    User
}

// own are the permissions that everyone has who is signed in: over himself.
func own() []string { return []string{"me.read", "me.write"} }

// rights gives what a user may do.
func (s *Service) rights(ctx context.Context, u *User) (permissions []string, reach map[string]auth.Rows, mask auth.Mask, err error) {
	permissions, reach, mask, err = s.Compile(ctx, u.AccountID, u.RoleIDs, u.ID, u.DepartmentID)
	if err != nil {
		return nil, nil, auth.Mask{}, err
	}
	permissions = append(slices.Clone(permissions), own()...)
	slices.Sort(permissions)
	return slices.Compact(permissions), reach, mask, nil
}

// errSignedOut is the answer to a session that is over, and to what was none.
func errSignedOut() error { return problem.Unauthenticated("you are signed out; sign in again") }

// Authenticate is rest's: it finds who sends a request with a session's cookie, a short-lived token, or a key.
func (s *Service) Authenticate(ctx context.Context, c rest.Credential) (auth.Caller, error) {
	switch {
	case c.Session != "":
		return s.ofSession(ctx, c)
	case strings.HasPrefix(c.Bearer, tokenPrefix):
		return s.ofToken(ctx, c)
	}
	return s.Accounts.Authenticate(ctx, c.Bearer, c.From)
}

func (s *Service) ofSession(ctx context.Context, c rest.Credential) (auth.Caller, error) {
	hash := hashOf(c.Session)
	o, err := s.sessions.Get(hash, func() (*opened, error) {
		return s.load(ctx, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("hash = ?", hash) })
	})
	if err != nil {
		return auth.Caller{}, err
	}
	now := s.now()
	if !now.Before(o.session.expires()) {
		return auth.Caller{}, errSignedOut()
	}
	if c.Method != http.MethodGet && c.Method != http.MethodHead && subtle.ConstantTimeCompare([]byte(c.CSRF), []byte(o.session.CSRF)) != 1 {
		return auth.Caller{}, problem.New(problem.CodeForbidden, "a change by a session needs the header X-CSRF-Token with the csrf_token of that session")
	}
	who, err := s.caller(ctx, o)
	if err != nil {
		return auth.Caller{}, err
	}
	return who, s.seen(ctx, o, hash, now)
}

// load reads a session, as long as it lasts now, and its user.
func (s *Service) load(ctx context.Context, which func(q *bun.SelectQuery) *bun.SelectQuery) (*opened, error) {
	e, err := db.Find[Session](ctx, s.DB, auth.Everywhere(), which)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errSignedOut()
	}
	if err != nil {
		return nil, err
	}
	o, err := s.loadUser(ctx, e.AccountID, e.UserID)
	if err != nil {
		return nil, err
	}
	if o.idle, _, err = s.lifetimes(ctx, e.AccountID); err != nil {
		return nil, err
	}
	o.session = *e
	o.session.hold(o.idle)
	return o, nil
}

// loadUser reads a user. One who is not there, or disabled, is signed out.
func (s *Service) loadUser(ctx context.Context, accountID, id string) (*opened, error) {
	u, err := db.Get[User](ctx, s.DB, auth.Account(accountID), id)
	if problem.From(err).Code == problem.CodeNotFound {
		return nil, errSignedOut()
	}
	if err != nil {
		return nil, err
	}
	if u.Status != Active {
		return nil, errSignedOut()
	}
	return &opened{user: *u}, nil
}

// caller is what a user may do at this moment. Account and roles keep what they know themselves, for a second.
func (s *Service) caller(ctx context.Context, o *opened) (auth.Caller, error) {
	u := &o.user
	served, err := s.Accounts.IsActive(ctx, webhooks.AccountID(u.AccountID))
	if err != nil {
		return auth.Caller{}, err
	}
	if !served {
		return auth.Caller{}, account.ErrSuspended()
	}
	permissions, reach, mask, err := s.rights(ctx, u)
	if err != nil {
		return auth.Caller{}, err
	}
	return auth.Caller{
		AccountID: u.AccountID, UserID: u.ID, SessionID: o.session.ID, Permissions: permissions, Scope: auth.Account(u.AccountID), Reach: reach, Mask: mask,
	}, nil
}

// seen lengthens a session that is used: once a minute, and at once when it may be idle for longer than before.
func (s *Service) seen(ctx context.Context, o *opened, hash string, now time.Time) error {
	until := now.Add(o.idle)
	longer := o.session.IdleUntil.Before(o.session.SeenAt.Add(o.idle - seenEvery))
	if now.Sub(o.session.SeenAt) < seenEvery && !longer {
		return nil
	}
	_, err := s.DB.Write().NewRaw("UPDATE sessions SET seen_at = ?, idle_until = ? WHERE id = ? AND (seen_at < ? OR idle_until < ?)",
		now, until, o.session.ID, now.Add(-seenEvery/2), until.Add(-seenEvery)).Exec(ctx)
	s.sessions.Forget(hash)
	return db.Check(err)
}

func sessionTable() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{"user_id": {}, "method": {}, "address": {}, "seen_at": {Type: list.Time, Sort: true}})}
}

type listSessionsIn struct {
	Query url.Values `query:"*"`
}

// listSessions shows a person his own sessions, a program those of the account.
func (s *Service) listSessions(ctx context.Context, who auth.Caller, in listSessionsIn) (list.Page[Session], error) {
	q, err := sessionTable().Parse(in.Query)
	if err != nil {
		return list.Page[Session]{}, err
	}
	idle, _, err := s.lifetimes(ctx, who.AccountID)
	if err != nil {
		return list.Page[Session]{}, err
	}
	now := s.now()
	page, err := list.Run[Session](ctx, s.DB, auth.Account(who.AccountID), q, func(q *bun.SelectQuery) *bun.SelectQuery {
		q = q.Where("idle_until > ?", now).Where("ends_at > ?", now).Where("seen_at > ?", now.Add(-idle))
		if who.UserID != "" {
			q = q.Where("user_id = ?", who.UserID)
		}
		return q
	})
	for i := range page.Data {
		page.Data[i].hold(idle)
		page.Data[i].ExpiresAt, page.Data[i].Current = page.Data[i].expires(), page.Data[i].ID == who.SessionID
	}
	return page, err
}

type endSessionIn struct {
	ID      string `path:"session_id"`
	IfMatch string `header:"If-Match"`
}

// current stands for the id of the session that asks.
const current = "current"

// endSession ends a session of one's own, which for one that asks is to sign out; for a program, any of the account.
func (s *Service) endSession(ctx context.Context, who auth.Caller, in endSessionIn) (rest.Answer, error) {
	if in.ID == current && who.SessionID != "" {
		in.ID = who.SessionID
	}
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		e, err := db.Get[Session](ctx, tx, auth.Account(who.AccountID), in.ID)
		if err != nil {
			return err
		}
		if who.UserID != "" && e.UserID != who.UserID {
			return problem.NoSuch(in.ID)
		}
		defer s.sessions.Forget(e.Hash)
		return db.Delete[Session](ctx, tx, auth.Account(who.AccountID), in.ID, in.IfMatch)
	})
	if err != nil {
		return rest.Answer{}, err
	}
	answer := rest.Answer{Status: http.StatusNoContent, Header: http.Header{}}
	if in.ID == who.SessionID {
		answer.Header.Set("Set-Cookie", s.cookie("", time.Time{}).String())
	}
	return answer, nil
}

type endOthersIn struct {
	UserID string `query:"user_id"`
}

// endOthers ends all sessions of a person but the one that asks; for a program, all of the user it names.
func (s *Service) endOthers(ctx context.Context, who auth.Caller, in endOthersIn) (rest.None, error) {
	if who.UserID != "" {
		if in.UserID != "" && in.UserID != who.UserID {
			return rest.None{}, problem.New(problem.CodeForbidden, "you can end only your own sessions; disable the user, or give a new one-time link")
		}
		in.UserID = who.UserID
	}
	if in.UserID == "" {
		return rest.None{}, problem.InvalidField("user_id", "required", "is required for a key: it has no sessions of its own")
	}
	return rest.None{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return endSessions(ctx, tx, who.AccountID, in.UserID, who.SessionID)
	})
}

// endSessions ends all sessions of a user but one, which is empty for none.
func endSessions(ctx context.Context, tx *db.Tx, accountID, userID, except string) error {
	_, err := tx.Write().NewRaw("DELETE FROM sessions WHERE account_id = ? AND user_id = ? AND id <> ?", accountID, userID, except).Exec(ctx)
	return db.Check(err)
}

// verify checks that the one who is signed in knows the user's password, as often as a sign-in may be tried. pointer is
// the field that holds it.
func (s *Service) verify(ctx context.Context, u *User, password string, from netip.Addr, pointer string) error {
	try, err := s.lockout().enter(ctx, guessed(u), from)
	if err != nil {
		return err
	}
	held, err := secretOf(ctx, s.DB, u.ID)
	if err != nil {
		return err
	}
	ok, _, err := s.hasher().Check(ctx, password, held.Password)
	if err != nil {
		return errors.Join(err, try.pardon(ctx))
	}
	if !ok {
		return errWrongPassword(pointer)
	}
	return try.succeed(ctx)
}
