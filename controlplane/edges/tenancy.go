package edges

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// domain finds the account a SIP host belongs to. An IP address, which is how phones and testers name an edge, stands
// for the domain of the default account.
func (s *Service) domain(ctx context.Context, host string) (webhooks.AccountID, bool, error) {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return s.DefaultAccount, s.DefaultAccount != "", nil
	}
	return s.Accounts.OfDomain(ctx, host)
}

var errSilence = &control.Error{Code: control.CodeSilence, Message: "the source is no trunk's, and the domain none of ours"}

// Credential implements control.Control.
func (s *Service) Credential(ctx context.Context, q control.CredentialQuery) (control.Credential, error) {
	id, found, err := s.domain(ctx, q.Domain)
	if err != nil {
		return control.Credential{}, err
	}
	if !found {
		return control.Credential{}, errSilence
	}
	realm, err := s.Accounts.Realm(ctx, id)
	if err != nil {
		return control.Credential{}, err
	}
	c, found, err := s.Credentials.Extension(ctx, id, q.Username)
	if err != nil || !found {
		return control.Credential{Realm: realm}, err
	}
	return control.Credential{
		Found: true, Realm: c.Domain, AccountID: id, CredentialID: webhooks.CredentialID(c.ID), HA1MD5: c.HA1MD5, HA1SHA256: c.HA1SHA256,
	}, nil
}

// keepRoute is how long an edge may use a route while we are away.
const keepRoute = 3600

func notFound(format string, args ...any) error {
	return &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf(format, args...), Cause: webhooks.CauseNotFound}
}

// Route implements control.Control. A request is matched by the first that fits: the digest user; From an extension in
// one of our domains, which is challenged; a trunk's network; From any other user in our domains, challenged as well;
// else silence.
func (s *Service) Route(ctx context.Context, in control.Incoming) (control.Route, error) {
	if in.CredentialID != "" {
		return s.fromPhone(ctx, in)
	}
	home, ours, err := s.domain(ctx, in.FromHost)
	if err != nil {
		return control.Route{}, err
	}
	if ours {
		_, extension, err := s.Credentials.Extension(ctx, home, in.FromUser)
		if err != nil {
			return control.Route{}, err
		}
		if extension {
			return control.Route{}, s.challenge(ctx, home)
		}
	}
	t, known, err := s.Trunks.OfSource(ctx, in.Source.Addr())
	switch {
	case err != nil:
		return control.Route{}, err
	case known:
		return s.fromTrunk(ctx, in, t)
	case ours:
		return control.Route{}, s.challenge(ctx, home)
	}
	return control.Route{}, errSilence
}

func (s *Service) challenge(ctx context.Context, id webhooks.AccountID) error {
	realm, err := s.Accounts.Realm(ctx, id)
	if err != nil {
		return err
	}
	return &control.Error{Code: control.CodeChallenge, Realm: realm, Message: "a call from one of our domains needs credentials"}
}

// fromPhone routes a call of an extension: the account's number or extension that was dialled, else the extension's own
// application.
func (s *Service) fromPhone(ctx context.Context, in control.Incoming) (control.Route, error) {
	c, err := s.Credentials.ByID(ctx, in.CredentialID)
	if err != nil {
		if problem.From(err).Code == problem.CodeNotFound {
			return control.Route{}, notFound("extension %s no longer exists", in.CredentialID)
		}
		return control.Route{}, err
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(c.AccountID))
	if err != nil {
		return control.Route{}, err
	}
	r, err := s.route(ctx, a)
	if err != nil {
		return control.Route{}, err
	}
	r.From, r.Dialed, r.CredentialID, r.AgentID = c.Extension, in.ToUser, webhooks.CredentialID(c.ID), s.agentAt(ctx, c)
	n, found, err := s.Numbers.Dialed(ctx, a, in.ToUser)
	if err != nil {
		return control.Route{}, err
	}
	if found {
		return s.toNumber(ctx, r, n)
	}
	called, found, err := s.Credentials.Extension(ctx, r.AccountID, in.ToUser)
	switch {
	case err != nil:
		return control.Route{}, err
	case found:
		r.To = called.Extension
		r.Application, err = ringing(called)
		return r, err
	case c.ApplicationID == "":
		return control.Route{}, notFound("%s is no number or extension of the account, and extension %s has no application", in.ToUser, c.Extension)
	}
	r.To = normal(in.ToUser, a)
	return s.toApplication(ctx, r, c.ApplicationID)
}

// fromTrunk routes a call that came in by a trunk: to the account's number that was dialled.
func (s *Service) fromTrunk(ctx context.Context, in control.Incoming, t *trunk.Trunk) (control.Route, error) {
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(t.AccountID))
	if err != nil {
		return control.Route{}, err
	}
	n, found, err := s.Numbers.Dialed(ctx, a, in.ToUser)
	if err != nil {
		return control.Route{}, err
	}
	if !found {
		return control.Route{}, notFound("%s is no number of the account that trunk %s belongs to", in.ToUser, t.Name)
	}
	r, err := s.route(ctx, a)
	if err != nil {
		return control.Route{}, err
	}
	from := in.FromUser
	if t.CallerIDHeader == trunk.HeaderPAI && in.PAI != "" {
		from = in.PAI
	}
	r.From, r.Dialed, r.TrunkID = normal(from, a), in.ToUser, webhooks.TrunkID(t.ID)
	r.CustomerID = s.calling(ctx, r)
	e, err := s.blocked(ctx, a, blocklist.In, r.From)
	if err != nil {
		return control.Route{}, err
	}
	if e != nil {
		return s.toRefusal(ctx, r, n, e)
	}
	if r, err = s.toNumber(ctx, r, n); err != nil {
		return control.Route{}, err
	}
	// Last, so that only a call that will be is counted.
	return r, s.reserve(ctx, in.CallID, t)
}

// calling is the customer whose number a call comes from, "" for nobody. A call that would be, is: what is not known of its
// caller is only logged.
func (s *Service) calling(ctx context.Context, r control.Route) webhooks.CustomerID {
	if s.Customers == nil {
		return ""
	}
	id, err := s.Customers.WithNumber(ctx, r.AccountID, r.From)
	if err != nil {
		s.Log.Warn("customer.unknown", "account_id", r.AccountID, "error", err.Error())
	}
	return id
}

// route begins a route into an account, unless the account is suspended or full.
func (s *Service) route(ctx context.Context, a *account.Account) (control.Route, error) {
	if err := s.served(ctx, webhooks.AccountID(a.ID)); err != nil {
		return control.Route{}, err
	}
	full, err := s.full(ctx, a)
	if err != nil {
		return control.Route{}, err
	}
	if full {
		return control.Route{}, &control.Error{
			Code: control.CodeBusy, Message: fmt.Sprintf("the account has %d calls at once, which is its limit", a.Limits.Calls), Cause: webhooks.CauseOverload,
		}
	}
	return control.Route{AccountID: webhooks.AccountID(a.ID), Language: a.Language(), KeepFor: keepRoute}, nil
}

// normal is a number in E.164, or as it was given where it is none.
func normal(text string, a *account.Account) string {
	if n, ok := number.Normal(text, a.DefaultCountry); ok {
		return n
	}
	return text
}

// toNumber completes a route with what a number is bound to.
func (s *Service) toNumber(ctx context.Context, r control.Route, n *number.Number) (control.Route, error) {
	r.To, r.NumberID = n.Number, webhooks.NumberID(n.ID)
	switch {
	case n.ApplicationID != "":
		return s.toApplication(ctx, r, n.ApplicationID)
	case n.CredentialID == "":
		return control.Route{}, notFound("%s is bound to no application and no extension", n.Number)
	}
	called, err := s.Credentials.Get(ctx, r.AccountID, webhooks.CredentialID(n.CredentialID))
	if err != nil {
		return control.Route{}, err
	}
	r.Application, err = ringing(called)
	return r, err
}

func (s *Service) toApplication(ctx context.Context, r control.Route, id string) (control.Route, error) {
	var err error
	r.Application, err = s.application(ctx, r.AccountID, webhooks.ApplicationID(id))
	if err != nil && problem.From(err).Code == problem.CodeNotFound {
		return control.Route{}, notFound("application %s no longer exists", id)
	}
	return r, err
}

// ringing is the built-in program for an extension: it rings, unanswered until its phone answers, and a caller who cannot
// be connected gets the SIP response that says why.
func ringing(c *credential.Credential) (control.Application, error) {
	const text = `[{"verb":"dial","to":[{"extension":"%s"}],"answer_on_bridge":true,"on":{
		"busy":[{"verb":"reject","reason":"busy"}],"declined":[{"verb":"reject"}],
		"no_answer":[{"verb":"reject","sip_code":480}],"unreachable":[{"verb":"reject","sip_code":480}]}}]`
	p, err := webhooks.ParseProgram([]byte(fmt.Sprintf(text, c.Extension)))
	return control.Application{Format: control.FormatNative, Program: &p}, err
}

// reservation is a call that was routed by a trunk and of which no event has come yet.
type reservation struct {
	trunk webhooks.TrunkID
	until time.Time
}

// reserveFor is how long a routed call counts without a record: the time its first event may take.
const reserveFor = 10 * time.Second

// reserve counts an incoming call against its trunk's max_calls. Two control planes may each let a call in at the same
// moment, so that the limit can be passed by one for each.
func (s *Service) reserve(ctx context.Context, id webhooks.CallID, t *trunk.Trunk) error {
	if t.MaxCalls == 0 {
		return nil
	}
	trunkID := webhooks.TrunkID(t.ID)
	live, err := s.Calls.LiveOnTrunk(ctx, trunkID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for other, r := range s.routed {
		switch {
		case now.After(r.until):
			delete(s.routed, other)
		case r.trunk == trunkID && other != id:
			live++
		}
	}
	if live >= t.MaxCalls {
		return &control.Error{
			Code: control.CodeBusy, Cause: webhooks.CauseOverload,
			Message: fmt.Sprintf("trunk %s carries %d calls, which is its max_calls", t.Name, t.MaxCalls),
		}
	}
	if s.routed == nil {
		s.routed = map[webhooks.CallID]reservation{}
	}
	s.routed[id] = reservation{trunkID, now.Add(reserveFor)}
	return nil
}

// settle ends a reservation: the call has a record now.
func (s *Service) settle(id webhooks.CallID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.routed, id)
}
