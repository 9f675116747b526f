package edges

import (
	"context"
	"net/url"
	"strings"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// connect makes the command of click-to-call: one of the two is rung, and the program that runs when it has answered dials
// the other. The customer is shown from, or without one the caller ID of the extension; the extension's phone is shown the
// customer, whichever is rung first.
func (s *Service) connect(ctx context.Context, a *account.Account, o call.Origination, command *control.Originate) error {
	side, extension, err := s.connected(ctx, a, o.Connect)
	if err != nil {
		return err
	}
	caller := o.From
	if caller == "" {
		caller = extension
	}
	dial := &webhooks.Dial{}
	webhooks.Defaults(dial)
	if o.Timeout > 0 {
		dial.Timeout = o.Timeout
	}
	if o.TimeLimit > 0 {
		dial.TimeLimit = o.TimeLimit
	}
	if o.Connect.First == call.FirstCustomer {
		dial.To = []webhooks.DialTarget{side}
		command.From, command.ShowsCalled = caller, true
	} else {
		customer := o.Target
		customer.SendDigits = o.SendDigits
		dial.To = []webhooks.DialTarget{customer}
		dial.CallerID, dial.CallerName, dial.Headers, dial.MachineDetection = caller, o.CallerName, o.Headers, o.MachineDetection
		command.Target, command.From = side, shownAs(o.Target, a)
		command.SendDigits, command.CallerName, command.Headers, command.MachineDetection = "", "", nil, nil
	}
	dial.On = map[string]webhooks.Sub{}
	for outcome, id := range map[webhooks.Outcome]webhooks.MediaID{
		webhooks.Busy: "sys_busy", webhooks.NotAllowed: "sys_not_allowed", webhooks.NoAnswer: "sys_unavailable", webhooks.Declined: "sys_unavailable",
		webhooks.Unreachable: "sys_unavailable", webhooks.Failed: "sys_unavailable",
	} {
		sorry := &webhooks.Play{}
		webhooks.Defaults(sorry)
		sorry.MediaID = id
		dial.On[string(outcome)] = webhooks.Sub{Instructions: []webhooks.Instruction{sorry}}
	}
	command.Application.Program = &webhooks.Program{Instructions: []webhooks.Instruction{dial}}
	return nil
}

// connected is the side of a click-to-call that is the account's own, and its extension.
func (s *Service) connected(ctx context.Context, a *account.Account, c *call.Connect) (side webhooks.DialTarget, extension string, err error) {
	if c.AgentID == "" {
		found, ok, err := s.Credentials.Extension(ctx, webhooks.AccountID(a.ID), c.Extension)
		if err != nil {
			return side, "", err
		}
		if !ok {
			return side, "", problem.RefusedField("/connect/extension", "unknown", "there is no extension %q in this account", c.Extension)
		}
		return webhooks.DialTarget{Extension: found.Extension}, found.Extension, nil
	}
	who, ok, err := agent.Named(ctx, s.DB, a.ID, c.AgentID)
	switch {
	case err != nil:
		return side, "", err
	case !ok:
		return side, "", problem.RefusedField("/connect/agent_id", "unknown", "there is no agent %q in this account", c.AgentID)
	case who.CredentialID == "":
		return side, "", problem.RefusedField("/connect/agent_id", "phone", "agent %s has no phone: set its credential_id to the extension that is to ring", who.ID)
	}
	found, err := s.Credentials.Get(ctx, webhooks.AccountID(a.ID), webhooks.CredentialID(who.CredentialID))
	if err != nil {
		return side, "", err
	}
	return webhooks.DialTarget{Agent: who.ID}, found.Extension, nil
}

// shownAs is a party as a phone of the account shows it.
func shownAs(t webhooks.DialTarget, a *account.Account) string {
	switch {
	case t.Number != "":
		if n, ok := number.Normal(t.Number, a.DefaultCountry); ok {
			return n
		}
	case t.SIP != "":
		if user, err := url.PathUnescape(userOf(t.SIP)); err == nil && !strings.ContainsAny(user, " <>\"@;\r\n") {
			return user
		}
	}
	return t.Name()
}
