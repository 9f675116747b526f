package edges

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/trunk"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

func notAllowed(format string, args ...any) error {
	return &control.Error{Code: control.CodeNotAllowed, Message: fmt.Sprintf(format, args...), Cause: webhooks.CauseNotAllowed}
}

func unreachable(format string, args ...any) error {
	return &control.Error{Code: control.CodeUnreachable, Message: fmt.Sprintf(format, args...), Cause: webhooks.CauseUnreachable}
}

// Resolve implements control.Control.
func (s *Service) Resolve(ctx context.Context, q control.ResolveQuery) (control.Resolved, error) {
	a, err := s.Accounts.Get(ctx, q.AccountID)
	if err != nil {
		return control.Resolved{}, err
	}
	if err := s.served(ctx, q.AccountID); err != nil {
		return control.Resolved{}, err
	}
	if q.CallerID == "" {
		q.CallerID = q.Target.CallerID
	}
	switch t := q.Target; {
	case t.Extension != "":
		c, found, err := s.Credentials.Extension(ctx, q.AccountID, t.Extension)
		if err != nil {
			return control.Resolved{}, err
		}
		if !found {
			return control.Resolved{}, notFound("there is no extension %s in the account", t.Extension)
		}
		return s.phones(ctx, a, c, q, control.Hop{To: c.Extension})
	case t.Agent != "":
		return s.agent(ctx, a, q)
	case t.Number != "":
		return s.number(ctx, a, q)
	case t.SIP != "":
		return s.uri(ctx, a, q)
	case t.Client != "":
		return control.Resolved{}, notAllowed("browser phones are not built yet, and so client %q cannot be called; dial an extension, an agent, a number or a SIP URI", t.Client)
	}
	return control.Resolved{}, &control.Error{Code: control.CodeInvalid, Message: "the target names no number, extension, agent or SIP URI", Cause: webhooks.CauseError}
}

// agent finds the phones of an agent's extension.
func (s *Service) agent(ctx context.Context, a *account.Account, q control.ResolveQuery) (control.Resolved, error) {
	called, found, err := agent.Named(ctx, s.DB, a.ID, q.Target.Agent)
	switch {
	case err != nil:
		return control.Resolved{}, err
	case !found:
		return control.Resolved{}, notFound("there is no agent %q in the account", q.Target.Agent)
	case called.CredentialID == "":
		return control.Resolved{}, unreachable("agent %s has no phone: set its credential_id to the extension that is to ring", called.ID)
	}
	c, err := s.Credentials.Get(ctx, q.AccountID, webhooks.CredentialID(called.CredentialID))
	if err != nil {
		return control.Resolved{}, err
	}
	return s.phones(ctx, a, c, q, control.Hop{To: c.Extension})
}

// agentAt is the agent whose extension a credential is, "" for nobody's. Who calls or is called is worth less than the call:
// what is not known is only logged.
func (s *Service) agentAt(ctx context.Context, c *credential.Credential) webhooks.AgentID {
	if s.Agents == nil {
		return ""
	}
	found, ok, err := s.Agents.OfExtension(ctx, c.AccountID, c.ID)
	if err != nil {
		s.Log.Warn("agent.unknown", "account_id", c.AccountID, "credential_id", c.ID, "error", err.Error())
	}
	if !ok {
		return ""
	}
	return webhooks.AgentID(found.ID)
}

// number finds the way to a number: within the account where it is the account's own, else by a trunk.
func (s *Service) number(ctx context.Context, a *account.Account, q control.ResolveQuery) (control.Resolved, error) {
	own, found, err := s.Numbers.Dialed(ctx, a, q.Target.Number)
	if err != nil {
		return control.Resolved{}, err
	}
	if found {
		return s.ownNumber(ctx, a, own, q)
	}
	c, found, err := s.Credentials.Extension(ctx, q.AccountID, q.Target.Number)
	if err != nil {
		return control.Resolved{}, err
	}
	if found {
		return s.phones(ctx, a, c, q, control.Hop{To: c.Extension})
	}
	return s.byTrunk(ctx, a, q)
}

func (s *Service) ownNumber(ctx context.Context, a *account.Account, n *number.Number, q control.ResolveQuery) (control.Resolved, error) {
	switch {
	case n.ApplicationID != "":
		return control.Resolved{}, notAllowed("%s is the account's own and answered by application %s; redirect to it instead of dialling it", n.Number, n.ApplicationID)
	case n.CredentialID == "":
		return control.Resolved{}, notFound("%s is the account's own, but bound to no extension", n.Number)
	}
	c, err := s.Credentials.Get(ctx, q.AccountID, webhooks.CredentialID(n.CredentialID))
	if err != nil {
		return control.Resolved{}, err
	}
	return s.phones(ctx, a, c, q, control.Hop{To: n.Number, NumberID: webhooks.NumberID(n.ID)})
}

// phones is a hop for each phone that is registered for an extension. All are tried at once: which of a person's phones
// is at hand, nobody knows. A phone is called where it registered from, by whichever edge asks; with several edges, one
// behind NAT is reached by the edge it registered at alone.
func (s *Service) phones(ctx context.Context, a *account.Account, c *credential.Credential, q control.ResolveQuery, like control.Hop) (control.Resolved, error) {
	shown, err := s.shownInside(ctx, a, c, q)
	if err != nil {
		return control.Resolved{}, err
	}
	contacts, err := s.Credentials.Contacts(ctx, c)
	if err != nil {
		return control.Resolved{}, err
	}
	if len(contacts) == 0 {
		return control.Resolved{}, unreachable("extension %s is not registered: no phone has signed in for it", c.Extension)
	}
	if like.Shown, err = s.hidden(ctx, a, c, shown); err != nil {
		return control.Resolved{}, err
	}
	like.Kind, like.CallerID, like.CallerHost, like.CredentialID = control.KindPhone, shown, c.Domain, webhooks.CredentialID(c.ID)
	like.AgentID = s.agentAt(ctx, c)
	var out control.Resolved
	for _, contact := range contacts {
		hop := like
		hop.URI, hop.Destination, hop.Transport = contact.Contact, contact.Source, contact.Transport
		out.Hops = append(out.Hops, hop)
	}
	return out, nil
}

// hidden is what a phone is shown instead of a caller's number that its person may not see, "" for nothing. Extensions and the
// account's own numbers are no customers'.
func (s *Service) hidden(ctx context.Context, a *account.Account, called *credential.Credential, shown string) (string, error) {
	if s.MaskOf == nil || credential.IsExtension(shown) {
		return "", nil
	}
	mask, err := s.MaskOf(ctx, webhooks.AccountID(a.ID), webhooks.CredentialID(called.ID))
	if err != nil || !mask.Numbers {
		return "", err
	}
	if _, own, err := s.Numbers.Dialed(ctx, a, shown); err != nil || own {
		return "", err
	}
	return mask.Number(shown), nil
}

// shownInside is the caller ID on a phone of the account: who calls, an extension or a number from outside, unless the
// program asked for one of the account's own.
func (s *Service) shownInside(ctx context.Context, a *account.Account, called *credential.Credential, q control.ResolveQuery) (string, error) {
	if q.CallerID == "" || q.CallerID == q.From {
		if q.From != "" {
			return q.From, nil
		}
		n, found, err := s.Numbers.First(ctx, q.AccountID)
		if err != nil || !found {
			return called.Extension, err
		}
		return n.Number, nil
	}
	if c, found, err := s.Credentials.Extension(ctx, q.AccountID, q.CallerID); err != nil || found {
		if err != nil {
			return "", err
		}
		return c.Extension, nil
	}
	return s.ownCallerID(ctx, a, q.CallerID)
}

// ownCallerID is one of the account's numbers.
func (s *Service) ownCallerID(ctx context.Context, a *account.Account, asked string) (string, error) {
	n, found, err := s.Numbers.Dialed(ctx, a, asked)
	if err != nil {
		return "", err
	}
	if !found {
		return "", notAllowed("the caller ID %s is none of the account's numbers; show one of those, or leave it out", asked)
	}
	return n.Number, nil
}

// shownOutside is the caller ID on the telephone network: a number of the account that was asked for, else that of the
// extension that calls, else that of the trunk, else the account's first.
func (s *Service) shownOutside(ctx context.Context, a *account.Account, q control.ResolveQuery, ofTrunk string) (string, error) {
	asking := q.CallerID
	if asking == "" {
		asking = q.From
	}
	c, found, err := s.Credentials.Extension(ctx, q.AccountID, asking)
	switch {
	case err != nil:
		return "", err
	case found && c.CallerID != "":
		return c.CallerID, nil
	case !found && q.CallerID != "":
		return s.ownCallerID(ctx, a, q.CallerID)
	case ofTrunk != "":
		return ofTrunk, nil
	}
	n, found, err := s.Numbers.First(ctx, q.AccountID)
	if err != nil {
		return "", err
	}
	if !found {
		return "", notAllowed("the account has no number to show to the called party; add one to /v1/numbers")
	}
	return n.Number, nil
}

// byTrunk is a hop for each trunk with room, in the order in which they are tried.
func (s *Service) byTrunk(ctx context.Context, a *account.Account, q control.ResolveQuery) (control.Resolved, error) {
	to, ok := number.Normal(q.Target.Number, a.DefaultCountry)
	if !ok {
		return control.Resolved{}, notFound("%s is no number that can be dialled from %s", q.Target.Number, a.DefaultCountry)
	}
	if err := s.mayCall(ctx, a, to); err != nil {
		return control.Resolved{}, err
	}
	trunks, err := s.trunks(ctx, q)
	if err != nil {
		return control.Resolved{}, err
	}
	var out control.Resolved
	for _, t := range trunks {
		if t.MaxCalls > 0 {
			live, err := s.Calls.LiveOnTrunk(ctx, webhooks.TrunkID(t.ID))
			if err != nil {
				return control.Resolved{}, err
			}
			if live >= t.MaxCalls {
				continue
			}
		}
		shown, err := s.shownOutside(ctx, a, q, t.CallerID)
		if err != nil {
			return control.Resolved{}, err
		}
		out.Hops = append(out.Hops, trunkHop(t, len(out.Hops), to, shown))
	}
	if len(out.Hops) == 0 {
		return control.Resolved{}, unreachable("every trunk that could carry the call has its max_calls already")
	}
	return out, nil
}

func (s *Service) trunks(ctx context.Context, q control.ResolveQuery) ([]trunk.Trunk, error) {
	if q.Target.Trunk != "" {
		t, found, err := s.Trunks.Named(ctx, q.AccountID, q.Target.Trunk)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, notAllowed("the account has no trunk %q", q.Target.Trunk)
		}
		return []trunk.Trunk{*t}, nil
	}
	all, err := s.Trunks.All(ctx, q.AccountID)
	if err == nil && len(all) == 0 {
		return nil, notAllowed("%s is outside the account, and the account has no trunk to call out by", q.Target.Number)
	}
	return all, err
}

func trunkHop(t trunk.Trunk, rank int, to, shown string) control.Hop {
	at := net.JoinHostPort(t.Address, strconv.Itoa(t.Port))
	uri := "sip:" + to + "@" + at
	if t.Transport == "tcp" {
		uri += ";transport=tcp"
	}
	hop := control.Hop{
		Rank: rank, Kind: control.KindTrunk, URI: uri, Destination: at, Transport: t.Transport,
		Username: t.Username, Password: t.Password, Realm: t.Realm, CallerID: shown, To: to, TrunkID: webhooks.TrunkID(t.ID),
	}
	if t.CallerIDHeader == trunk.HeaderPAI {
		hop.PAI = shown
	}
	return hop
}

// uri is a hop to a SIP URI that the account names. Whether its address may be reached is decided where it is dialled.
func (s *Service) uri(ctx context.Context, a *account.Account, q control.ResolveQuery) (control.Resolved, error) {
	if strings.HasPrefix(q.Target.SIP, "sips:") {
		return control.Resolved{}, notAllowed("SIP over TLS is not built yet; use a sip: URI")
	}
	if err := s.mayCall(ctx, a, userOf(q.Target.SIP)); err != nil {
		return control.Resolved{}, err
	}
	realm, err := s.Accounts.Realm(ctx, q.AccountID)
	if err != nil {
		return control.Resolved{}, err
	}
	shown, err := s.shownToURI(ctx, a, q)
	if err != nil {
		return control.Resolved{}, err
	}
	return control.Resolved{Hops: []control.Hop{{
		Kind: control.KindSIP, URI: q.Target.SIP, Username: q.Target.Username, Password: q.Target.Password,
		CallerID: shown, CallerHost: realm, To: userOf(q.Target.SIP),
	}}}, nil
}

// userOf is the user part of a SIP URI, or its host where it has none.
func userOf(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	rest, _, _ = strings.Cut(rest, ";")
	user, _, ok := strings.Cut(rest, "@")
	if !ok || user == "" {
		return strings.TrimPrefix(rest, "@")
	}
	user, _, _ = strings.Cut(user, ":")
	return user
}

// shownToURI is the caller ID towards a SIP URI: an extension may be shown there, and who calls where nothing is asked.
func (s *Service) shownToURI(ctx context.Context, a *account.Account, q control.ResolveQuery) (string, error) {
	if q.CallerID == "" && q.From != "" {
		return q.From, nil
	}
	if q.CallerID != "" {
		c, found, err := s.Credentials.Extension(ctx, q.AccountID, q.CallerID)
		if err != nil {
			return "", err
		}
		if found {
			return c.Extension, nil
		}
	}
	shown, err := s.shownOutside(ctx, a, q, "")
	var refused *control.Error
	if errors.As(err, &refused) && q.CallerID == "" {
		return "anonymous", nil
	}
	return shown, err
}
