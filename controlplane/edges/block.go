package edges

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/blocklist"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

func (s *Service) suspended(ctx context.Context, id webhooks.AccountID) (bool, error) {
	if s.Suspended == nil {
		return false, nil
	}
	return s.Suspended(ctx, id)
}

// served refuses the calls of an account that is suspended.
func (s *Service) served(ctx context.Context, id webhooks.AccountID) error {
	suspended, err := s.suspended(ctx, id)
	if err == nil && suspended {
		return notAllowed("the account is suspended; ask the operator of the installation")
	}
	return err
}

// blocked is the entry that blocks a call from or to a number, nil for none. A hit is counted.
func (s *Service) blocked(ctx context.Context, a *account.Account, direction blocklist.Direction, text string) (*blocklist.Entry, error) {
	if s.Blocklist == nil {
		return nil, nil
	}
	return s.Blocklist.Blocked(ctx, a, direction, text)
}

// mayCall refuses a call to a number on the block list. The sentence names the entry by its id and reason, not the
// number: it goes into records that some may read who may not see numbers.
func (s *Service) mayCall(ctx context.Context, a *account.Account, to string) error {
	e, err := s.blocked(ctx, a, blocklist.Out, to)
	if err != nil || e == nil {
		return err
	}
	reason := ""
	if e.Reason != "" {
		reason = " (" + e.Reason + ")"
	}
	return notAllowed("the number is on the account's block list: entry %s%s", e.ID, reason)
}

// toRefusal completes the route of a caller on the block list: a program that rejects the call as the account's setting
// says, so that it has a record, which names the entry. An edge keeps no such route, which is this caller's alone.
func (s *Service) toRefusal(ctx context.Context, r control.Route, n *number.Number, e *blocklist.Entry) (control.Route, error) {
	var values setting.Values
	if s.Settings != nil {
		var err error
		if values, err = s.Settings.Values(ctx, r.AccountID); err != nil {
			return control.Route{}, err
		}
	}
	r.To, r.NumberID, r.KeepFor = n.Number, webhooks.NumberID(n.ID), 0
	var err error
	r.Application, err = refusing(values.BlocklistAnswer(), e.ID)
	return r, err
}

// refusing is the built-in program for a caller on the block list.
func refusing(answer, entryID string) (control.Application, error) {
	reject := map[string]any{"verb": "reject"}
	switch answer {
	case "busy":
		reject["reason"] = "busy"
	case "not_found":
		reject["sip_code"] = 404
	case "unavailable":
		reject["sip_code"] = 480
	default:
		reject["sip_code"] = 603
	}
	text, err := json.Marshal([]any{map[string]any{"verb": "tag", "data": map[string]any{"blocklist_entry_id": entryID}}, reject})
	if err != nil {
		return control.Application{}, err
	}
	p, err := webhooks.ParseProgram(text)
	if err != nil {
		return control.Application{}, fmt.Errorf("refusal: %w", err)
	}
	return control.Application{Format: control.FormatNative, Program: &p}, nil
}
