package user

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Purpose is the one thing that a token opens.
type Purpose string

// The purposes: a phone in a browser, and the stream of events.
const (
	ForPhone  Purpose = "phone"
	ForEvents Purpose = "events"
)

const (
	tokenPrefix  = "tok_"
	maxToken     = 1024 // bytes of its text
	defaultToken = 10 * time.Minute
	maxTokenLife = time.Hour

	// streamEvents is the only operation that a token for events may call.
	streamEvents = "streamEvents"
)

// token is what the text of a token says: "tok_<JSON in base 64>.<HMAC-SHA256 in base 64>". Nothing of it is stored.
//
// Why no row: it names the session, or the key and the user, that it was made with, which are looked up when it is used;
// so it ends with them, and there is nothing to list or to clean up.
type token struct {
	Purpose   Purpose `json:"f"`
	AccountID string  `json:"a"`
	SessionID string  `json:"s,omitempty"` // of the person who made it
	KeyID     string  `json:"k,omitempty"` // of the program that made it
	UserID    string  `json:"u,omitempty"` // for whom a program made it
	Expires   int64   `json:"e"`           // Unix seconds
	Nonce     string  `json:"n"`           // so that no two are the same
}

// errBadToken is the one answer to every token that is not taken.
func errBadToken() error {
	return problem.Unauthenticated("this token is not accepted; it may be over, or for something else: ask for a new one (POST /v1/tokens)")
}

// seal writes a value as a text that nobody else can make. what keeps texts of one use from passing for another.
func (s *Service) seal(what string, value any) (string, error) {
	payload, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	return b64.EncodeToString(payload) + "." + b64.EncodeToString(s.sign(what, payload)), nil
}

func (s *Service) sign(what string, payload []byte) []byte {
	h := hmac.New(sha256.New, s.Secret)
	// A hash takes all it is given.
	_, _ = h.Write([]byte(what + "\x00"))
	_, _ = h.Write(payload)
	return h.Sum(nil)
}

// errBadSeal is a text that seal has not made, or not for this.
var errBadSeal = errors.New("not a text of ours")

// unseal reads a text of seal.
func (s *Service) unseal(what, text string, value any) error {
	if len(text) > maxToken {
		return errBadSeal
	}
	first, second, _ := strings.Cut(text, ".")
	b64 := base64.RawURLEncoding.Strict()
	payload, err := b64.DecodeString(first)
	if err != nil {
		return errBadSeal
	}
	mac, err := b64.DecodeString(second)
	if err != nil || !hmac.Equal(mac, s.sign(what, payload)) {
		return errBadSeal
	}
	return json.Unmarshal(payload, value)
}

func (s *Service) parseToken(text string) (token, error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return token{}, errBadSeal
	}
	var t token
	return t, s.unseal("token", rest, &t)
}

type createTokenIn struct {
	Body struct {
		For    Purpose `json:"for"`
		TTL    int64   `json:"ttl,omitempty"` // seconds
		UserID string  `json:"user_id,omitempty"`
	} `body:"json"`
}

// Token is a token as it is shown, once.
type Token struct {
	Text      string    `json:"token"`
	For       Purpose   `json:"for"`
	ExpiresAt time.Time `json:"expires_at"`
}

// createToken makes a token for oneself, or with a key for a user: so another program's page can have a phone for its
// agent without the agent's password.
func (s *Service) createToken(ctx context.Context, who auth.Caller, in createTokenIn) (*Token, error) {
	life := time.Duration(in.Body.TTL) * time.Second
	if life == 0 {
		life = defaultToken
	}
	if life < 0 || life > maxTokenLife {
		return nil, problem.InvalidField("/ttl", "range", "must be 1–%d seconds", int64(maxTokenLife/time.Second))
	}
	expires := s.now().Add(life).Truncate(time.Second)
	t := token{Purpose: in.Body.For, AccountID: who.AccountID, SessionID: who.SessionID, KeyID: who.KeyID, UserID: in.Body.UserID, Expires: expires.Unix(), Nonce: db.NewID("n")}
	switch {
	case who.KeyID == "" && in.Body.UserID != "" && in.Body.UserID != who.UserID:
		return nil, problem.New(problem.CodeForbidden, "you can make tokens for yourself alone")
	case who.KeyID == "":
		t.UserID = who.UserID
	case in.Body.UserID != "":
		if _, err := s.loadUser(ctx, who.AccountID, in.Body.UserID); err != nil {
			return nil, unknownUser(err)
		}
	case in.Body.For == ForPhone:
		return nil, problem.RefusedField("/user_id", "required", "is required for a key: a phone is a user's")
	}
	text, err := s.seal("token", t)
	if err != nil {
		return nil, err
	}
	return &Token{Text: tokenPrefix + text, For: t.Purpose, ExpiresAt: expires}, nil
}

func unknownUser(err error) error {
	if problem.From(err).Code == problem.CodeUnauthenticated {
		return problem.RefusedField("/user_id", "unknown", "must be an active user of this account")
	}
	return err
}

// ofToken is Authenticate for a token: it calls the stream of events and nothing else.
func (s *Service) ofToken(ctx context.Context, c rest.Credential) (auth.Caller, error) {
	if c.Operation != streamEvents {
		return auth.Caller{}, errBadToken()
	}
	return s.Redeem(ctx, c.Bearer, ForEvents)
}

// Redeem gives who uses a token for its purpose: a person with what the person may do now; for a program also no more
// than its key may. It is an Unauthenticated problem once the token, or what it was made with, is over.
func (s *Service) Redeem(ctx context.Context, text string, purpose Purpose) (auth.Caller, error) {
	t, err := s.parseToken(text)
	if err != nil || t.Purpose != purpose || s.now().Unix() >= t.Expires {
		return auth.Caller{}, errBadToken()
	}
	who, err := s.Check(ctx, auth.Caller{AccountID: t.AccountID, SessionID: t.SessionID, KeyID: t.KeyID, UserID: t.UserID})
	if problem.From(err).Code == problem.CodeUnauthenticated {
		return auth.Caller{}, errBadToken()
	}
	return who, err
}

// Check gives a caller who was established before, with what the caller may do now; so what lasts, as a stream or a job,
// learns that its session, key or user is gone (an Unauthenticated problem), or its account suspended (Forbidden). What
// outlasts the session that it was begun in is asked about without SessionID.
func (s *Service) Check(ctx context.Context, who auth.Caller) (auth.Caller, error) {
	if who.SessionID != "" {
		return s.checkSession(ctx, who.SessionID)
	}
	var key auth.Caller
	if who.KeyID != "" || who.UserID == "" {
		var err error
		if key, err = s.Accounts.Caller(ctx, who.KeyID); err != nil || who.UserID == "" {
			return key, err
		}
	}
	o, err := s.byID.Get(who.UserID, func() (*opened, error) { return s.loadUser(ctx, who.AccountID, who.UserID) })
	if err != nil {
		return auth.Caller{}, err
	}
	user, err := s.caller(ctx, o)
	if err != nil || key.KeyID == "" {
		return user, err
	}
	// A user for whom a program has made a token.
	user.KeyID, user.Permissions = key.KeyID, both(user, key)
	return user, nil
}

func (s *Service) checkSession(ctx context.Context, id string) (auth.Caller, error) {
	o, err := s.byID.Get(id, func() (*opened, error) {
		return s.load(ctx, func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("id = ?", id) })
	})
	if err != nil {
		return auth.Caller{}, err
	}
	if !s.now().Before(o.session.expires()) {
		return auth.Caller{}, errSignedOut()
	}
	return s.caller(ctx, o)
}

// both are the permissions that both callers have.
func both(a, b auth.Caller) []string {
	var all []string
	for _, p := range append(slices.Clone(a.Permissions), b.Permissions...) {
		if a.Can(p) && b.Can(p) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
