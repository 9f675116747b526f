package user

import (
	"bytes"
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/uptrace/bun"
	"golang.org/x/oauth2"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Sign-in by an identity provider (OpenID Connect Core 1.0, authorization code flow with PKCE, RFC 7636). The provider
// says who somebody is; the user must be there already. What proofs it asks for is its matter: the one-time codes of here
// are not asked for.

// Provider is an identity provider.
type Provider struct {
	bun.BaseModel `bun:"table:identity_providers" json:"-"`

	AccountID    string `bun:"account_id,pk" json:"-"`
	Issuer       string `bun:"issuer" json:"issuer"` // its discovery document is at <issuer>/.well-known/openid-configuration
	ClientID     string `bun:"client_id" json:"client_id"`
	ClientSecret string `bun:"client_secret" json:"-"`
	// Domains are those of the e-mail addresses that are taken, with match email; none: of any.
	Domains []string `bun:"domains,type:jsonb" json:"domains"`
	// Match is how a user is found: MatchEmail by an address the provider has verified, MatchSubject by User.OIDCSubject.
	Match string `bun:"match" json:"match"`
}

// The ways to find the user.
const (
	MatchEmail   = "email"
	MatchSubject = "sub"
)

var emailDomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// Check refuses what no provider can be, and puts the domains into lower case.
func (p *Provider) Check() error {
	u, err := url.Parse(p.Issuer)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return problem.InvalidField("/issuer", "url", "must be a URL without query, such as https://login.example.com")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return problem.InvalidField("/issuer", "url.scheme", "must begin with https://")
	case p.ClientID == "":
		return problem.InvalidField("/client_id", "required", "must not be empty")
	case p.Match != MatchEmail && p.Match != MatchSubject:
		return problem.InvalidField("/match", "enum", "must be email or sub, is %q", p.Match)
	}
	if p.Domains == nil {
		p.Domains = []string{}
	}
	for i, d := range p.Domains {
		p.Domains[i] = strings.ToLower(strings.TrimSpace(d))
		if !emailDomain.MatchString(p.Domains[i]) {
			return problem.InvalidField("/domains/"+strconv.Itoa(i), "format", "must be a domain such as example.com")
		}
	}
	return nil
}

// isLoopback lets a provider on this machine be without TLS, once the operator has allowed its network.
func isLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// takes reports whether an e-mail address is of one of the provider's domains.
func (p *Provider) takes(email string) bool {
	_, domain, _ := strings.Cut(email, "@")
	return len(p.Domains) == 0 || slices.Contains(p.Domains, domain)
}

// providerOf gives an account's own provider, else the installation's; nil for none.
func (s *Service) providerOf(ctx context.Context, accountID string) (*Provider, error) {
	var p Provider
	err := s.DB.Read().NewSelect().Model(&p).Where("account_id = ?", accountID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return s.OIDC, nil
	}
	return &p, db.Check(err)
}

func (s *Service) getProvider(ctx context.Context, who auth.Caller, _ struct{}) (*Provider, error) {
	var p Provider
	err := s.DB.Read().NewSelect().Model(&p).Where("account_id = ?", who.AccountID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, problem.NotFound("this account has no identity provider of its own; set one with PUT")
	}
	return &p, db.Check(err)
}

type setProviderIn struct {
	Body struct {
		Provider
		ClientSecret string `json:"client_secret,omitempty"` // kept as it is when left out
	} `body:"json"`
}

func (s *Service) setProvider(ctx context.Context, who auth.Caller, in setProviderIn) (*Provider, error) {
	p := in.Body.Provider
	p.AccountID, p.ClientSecret = who.AccountID, in.Body.ClientSecret
	if err := p.Check(); err != nil {
		return nil, err
	}
	q := s.DB.Write().NewInsert().Model(&p).On("CONFLICT (account_id) DO UPDATE").
		Set("issuer = EXCLUDED.issuer").Set("client_id = EXCLUDED.client_id").Set("domains = EXCLUDED.domains").Set("match = EXCLUDED.match")
	if p.ClientSecret == "" {
		// A secret is not carried to another issuer, who would learn it.
		q = q.Set("client_secret = CASE WHEN ?TableAlias.issuer = EXCLUDED.issuer THEN ?TableAlias.client_secret ELSE '' END")
	} else {
		q = q.Set("client_secret = EXCLUDED.client_secret")
	}
	_, err := q.Exec(ctx)
	return &p, db.Check(err)
}

func (s *Service) removeProvider(ctx context.Context, who auth.Caller, _ struct{}) (rest.None, error) {
	_, err := s.DB.Write().NewRaw("DELETE FROM identity_providers WHERE account_id = ?", who.AccountID).Exec(ctx)
	return rest.None{}, db.Check(err)
}

// providers keeps what was discovered of the issuers: endpoints, and keys, which go-oidc fetches again when a token is
// signed with one it does not know.
type providers struct {
	mu    sync.Mutex // guards known
	known map[string]discovered
}

type discovered struct {
	provider *oidc.Provider
	until    time.Time
}

const (
	discoveredFor = time.Hour
	mostIssuers   = 1000
	// providerWithin bounds one request to a provider; maxProviderBody what it may answer.
	providerWithin  = 10 * time.Second
	maxProviderBody = 1 << 20
)

// discover reads an issuer's configuration.
func (s *Service) discover(ctx context.Context, issuer string) (*oidc.Provider, error) {
	s.providers.mu.Lock()
	had, ok := s.providers.known[issuer]
	s.providers.mu.Unlock()
	if ok && time.Now().Before(had.until) {
		return had.provider, nil
	}
	// What go-oidc takes from the context is the client alone; it uses it for the keys later.
	p, err := oidc.NewProvider(s.outbound(ctx), issuer)
	if err != nil {
		return nil, err
	}
	s.providers.mu.Lock()
	defer s.providers.mu.Unlock()
	if s.providers.known == nil || len(s.providers.known) >= mostIssuers {
		s.providers.known = map[string]discovered{}
	}
	s.providers.known[issuer] = discovered{p, time.Now().Add(discoveredFor)}
	return p, nil
}

// outbound gives a context whose requests to a provider leave by the guard: accounts name the issuers.
func (s *Service) outbound(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, &http.Client{
		Transport: guarded{s.HTTP}, Timeout: providerWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

// guarded is the guard's client as libraries want it. It follows no redirect: a token endpoint must not send the code
// elsewhere.
type guarded struct{ client *guard.Client }

// RoundTrip makes one request.
func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, maxProviderBody))
		if err := errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
	}
	got, err := g.client.Fetch(r.Context(), guard.Request{
		Method: r.Method, URL: r.URL.String(), Header: r.Header, Body: body, MaxBody: maxProviderBody, NoRedirects: true,
	})
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: http.StatusText(got.Status), StatusCode: got.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: got.Header,
		Body: io.NopCloser(bytes.NewReader(got.Body)), ContentLength: int64(len(got.Body)), Request: r,
	}, nil
}

func (s *Service) config(p *Provider, discovered *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: discovered.Endpoint(),
		RedirectURL: s.PublicURL + oidcPath + "/callback", Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
	}
}

const (
	oidcPath = "/v1/sessions/oidc"
	// oidcCookie remembers, in the browser that went to the provider, what it went with. Lax, because it comes back from
	// another site.
	oidcCookie = "hookswitch_oidc"
	// oidcFor is how long somebody may take at the provider.
	oidcFor = 10 * time.Minute
)

// journey is what oidcCookie holds, signed.
type journey struct {
	State     string `json:"s"`
	Nonce     string `json:"n"`
	Verifier  string `json:"v"`
	AccountID string `json:"a"`
	ReturnTo  string `json:"r"`
	Expires   int64  `json:"e"`
}

type startOIDCIn struct {
	Account  string `query:"account"`
	ReturnTo string `query:"return_to"`
}

// startOIDC sends the browser to the identity provider.
func (s *Service) startOIDC(ctx context.Context, _ auth.Caller, in startOIDCIn) (rest.Answer, error) {
	name := in.Account
	if name == "" {
		name = s.DefaultAccount
	}
	a, found, err := s.Accounts.Called(ctx, name)
	if err != nil {
		return rest.Answer{}, err
	}
	var p *Provider
	if found {
		if p, err = s.providerOf(ctx, a.ID); err != nil {
			return rest.Answer{}, err
		}
	}
	if p == nil {
		return s.back("oidc.none", errors.New("no identity provider for this account")), nil
	}
	d, err := s.discover(ctx, p.Issuer)
	if err != nil {
		return s.back("oidc.unavailable", err), nil
	}
	j := journey{
		State: secretText(), Nonce: secretText(), Verifier: oauth2.GenerateVerifier(), AccountID: a.ID, ReturnTo: localPath(in.ReturnTo),
		Expires: s.now().Add(oidcFor).Unix(),
	}
	sealed, err := s.seal("oidc", j)
	if err != nil {
		return rest.Answer{}, err
	}
	answer := rest.Redirect(s.config(p, d).AuthCodeURL(j.State, oidc.Nonce(j.Nonce), oauth2.S256ChallengeOption(j.Verifier)))
	answer.Header.Set("Set-Cookie", s.journeyCookie(sealed, int(oidcFor/time.Second)).String())
	return answer, nil
}

func (s *Service) journeyCookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: oidcCookie, Value: value, Path: oidcPath, MaxAge: maxAge, HttpOnly: true, Secure: s.secure(), SameSite: http.SameSiteLaxMode}
}

// localPath is a path on this server, or the start: an address elsewhere would make of the sign-in a way to send people
// anywhere.
func localPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") {
		return "/"
	}
	return text
}

// back sends the browser to the sign-in page, which says what went wrong. The log says why.
func (s *Service) back(code string, why error) rest.Answer {
	s.Log.Warn("session.oidc_refused", "code", code, "error", why.Error())
	answer := rest.Redirect("/sign-in?error=" + url.QueryEscape(code))
	answer.Header.Set("Set-Cookie", s.journeyCookie("", -1).String())
	return answer
}

// finishOIDCIn reads what providers add to the way back; what else they add than the code and the state is not used.
type finishOIDCIn struct {
	Code      string     `query:"code"`
	State     string     `query:"state"`
	Error     string     `query:"error"`
	Issuer    string     `query:"iss"` // RFC 9207
	Rest      url.Values `query:"*"`
	Cookies   string     `header:"Cookie"`
	UserAgent string     `header:"User-Agent"`
}

// finishOIDC takes the browser back from the provider, and opens a session for the user it says it is.
func (s *Service) finishOIDC(ctx context.Context, who auth.Caller, in finishOIDCIn) (rest.Answer, error) {
	j, err := s.journey(in)
	if err != nil {
		return s.back("oidc.state", err), nil
	}
	if in.Error != "" {
		return s.back("oidc.refused", fmt.Errorf("the provider answered %q", in.Error)), nil
	}
	p, err := s.providerOf(ctx, j.AccountID)
	if err != nil {
		return rest.Answer{}, err
	}
	if p == nil || (in.Issuer != "" && in.Issuer != p.Issuer) {
		return s.back("oidc.state", errors.New("the provider has changed meanwhile")), nil
	}
	claims, err := s.claims(ctx, p, j, in.Code)
	if err != nil {
		return s.back("oidc.token", err), nil
	}
	u, err := s.match(ctx, p, j.AccountID, claims)
	if err != nil {
		return rest.Answer{}, err
	}
	if u == nil || u.Status != Active {
		return s.back("oidc.no_user", fmt.Errorf("sub %q matches no active user by %s", claims.Subject, p.Match)), nil
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(j.AccountID))
	if err != nil {
		return rest.Answer{}, err
	}
	if err := s.served(ctx, a, u); err != nil {
		return s.back("account.suspended", err), nil
	}
	e, text, err := s.begin(ctx, who, u, byOIDC, in.UserAgent)
	if err != nil {
		return rest.Answer{}, err
	}
	answer := rest.Redirect(j.ReturnTo)
	answer.Header["Set-Cookie"] = []string{s.cookie(text, e.EndsAt).String(), s.journeyCookie("", -1).String()}
	return answer, nil
}

// journey finds what the browser went with, and that it is this browser that comes back.
func (s *Service) journey(in finishOIDCIn) (journey, error) {
	cookies, err := http.ParseCookie(in.Cookies)
	if err != nil {
		return journey{}, err
	}
	at := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return c.Name == oidcCookie })
	if at < 0 {
		return journey{}, errors.New("the browser has no cookie of a sign-in; it took too long, or began in another")
	}
	var j journey
	if err := s.unseal("oidc", cookies[at].Value, &j); err != nil {
		return journey{}, err
	}
	if s.now().Unix() >= j.Expires {
		return journey{}, errors.New("the sign-in took too long")
	}
	if subtle.ConstantTimeCompare([]byte(j.State), []byte(in.State)) != 1 {
		return journey{}, errors.New("the state is another's")
	}
	return j, nil
}

// claims are what is used of what a provider says of somebody.
type claims struct {
	Subject  string   `json:"sub"`
	Nonce    string   `json:"nonce"`
	Email    string   `json:"email"`
	Verified verified `json:"email_verified"`
}

// verified is email_verified, which some providers write as a string.
type verified bool

// UnmarshalJSON reads true and "true".
func (v *verified) UnmarshalJSON(text []byte) error {
	*v = string(text) == "true" || string(text) == `"true"`
	return nil
}

// claims exchanges the code for a token, checks it, and where it has no address asks for one.
func (s *Service) claims(ctx context.Context, p *Provider, j journey, code string) (claims, error) {
	ctx = s.outbound(ctx)
	d, err := s.discover(ctx, p.Issuer)
	if err != nil {
		return claims{}, err
	}
	got, err := s.config(p, d).Exchange(ctx, code, oauth2.VerifierOption(j.Verifier))
	if err != nil {
		// The library's error holds the provider's answer, which may repeat what was sent.
		if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			return claims{}, fmt.Errorf("exchange: the provider answered %q", refused.ErrorCode)
		}
		return claims{}, fmt.Errorf("exchange: %w", err)
	}
	raw, ok := got.Extra("id_token").(string)
	if !ok {
		return claims{}, errors.New("exchange: no id_token")
	}
	id, err := d.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, Now: s.now}).Verify(ctx, raw)
	if err != nil {
		return claims{}, fmt.Errorf("id_token: %w", err)
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return claims{}, fmt.Errorf("id_token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(j.Nonce)) != 1 {
		return claims{}, errors.New("id_token: the nonce is another's")
	}
	if p.Match == MatchSubject || c.Email != "" {
		return c, nil
	}
	info, err := d.UserInfo(ctx, oauth2.StaticTokenSource(got))
	if err != nil {
		return claims{}, fmt.Errorf("userinfo: %w", err)
	}
	// OpenID Connect Core §5.3.2.
	if info.Subject != c.Subject {
		return claims{}, errors.New("userinfo: of somebody else")
	}
	return c, info.Claims(&c)
}

// match finds the user; nil for none.
func (s *Service) match(ctx context.Context, p *Provider, accountID string, c claims) (*User, error) {
	if p.Match == MatchSubject {
		return find(ctx, s.DB, accountID, "oidc_subject", c.Subject)
	}
	email := strings.ToLower(c.Email)
	if email == "" || !bool(c.Verified) || !p.takes(email) {
		return nil, nil
	}
	found, err := db.List[User](ctx, s.DB, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.email = ?", email).Limit(2)
	})
	// Two users of one address: nobody knows which it is.
	if err != nil || len(found) != 1 {
		return nil, err
	}
	return &found[0], nil
}
