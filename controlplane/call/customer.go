package call

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// find puts a customer's number into a draft that names the customer. The caller must be able to read the customer, but
// need not see the number; so nothing that this refuses may tell it.
func (s *Service) find(ctx context.Context, who auth.Caller, d *Draft) (webhooks.CustomerID, error) {
	t := d.To
	switch {
	case t.CustomerID == "" && t.Phone != nil:
		return "", problem.InvalidField("/to/phone", "alone", "goes with customer_id")
	case t.CustomerID == "":
		return "", nil
	case t.Number != "" || t.Extension != "" || t.SIP != "" || t.Username != "" || t.Password != "":
		return "", problem.InvalidField("/to/customer_id", "conflict", "stands alone, or with phone; give one way to the called party")
	case s.Customers == nil:
		return "", unknown(t.CustomerID)
	}
	c, err := s.Customers.Get(ctx, who, t.CustomerID)
	if err != nil {
		if problem.From(err).Code == problem.CodeNotFound {
			err = unknown(t.CustomerID)
		}
		return "", err
	}
	at := 0
	if t.Phone != nil {
		at = *t.Phone
	}
	if at < 0 || at >= len(c.Phones) {
		return "", problem.RefusedField("/to/phone", "range", "the customer has %d numbers, counted from 0", len(c.Phones))
	}
	if err := d.tells(who); err != nil {
		return "", err
	}
	d.To = Target{Number: c.Phones[at].Number}
	return webhooks.CustomerID(c.ID), nil
}

func unknown(id string) error {
	return problem.RefusedField("/to/customer_id", "unknown", "there is no customer %q that you may see", id)
}

// What asks an address of the caller's, or speaks of the call in words of the caller's, can tell the other party's number:
// every request of a program has it. Whoever may not see numbers therefore says what happens in a call by an application of
// the account, or in instructions without either.

// tells refuses what would tell a caller from whom numbers are hidden the number that is called.
func (d *Draft) tells(who auth.Caller) error {
	return telling(who, part{"/url", d.URL != ""}, part{"/program", tells(d.Program)}, part{"/status_url", d.StatusURL != ""},
		part{"/machine_detection", tells(d.MachineDetection)})
}

// tells is that of a live change, whatever it does.
func (a *Action) tells(who auth.Caller) error {
	if !who.Mask.Numbers {
		return nil
	}
	text, err := json.Marshal(a.Change)
	if err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	var parts []part
	for _, name := range slices.Sorted(maps.Keys(members)) {
		parts = append(parts, part{"/" + name, tells(members[name])})
	}
	return telling(who, parts...)
}

// part is one member of a body, and whether it tells numbers.
type part struct {
	at    string
	tells bool
}

func telling(who auth.Caller, parts ...part) error {
	if !who.Mask.Numbers {
		return nil
	}
	for _, p := range parts {
		if p.tells {
			const why = "telephone numbers are hidden from you, and so you cannot have URLs, SIP URIs or templates ({{…}}) here: these could tell one; " +
				"use an application, media of the account, extensions and plain texts"
			return problem.New(problem.CodeForbidden, p.at+": "+why, problem.Field(p.at, "masked", why))
		}
	}
	return nil
}

// tells reports whether a text of JSON has a URL, a SIP URI or a template in it. What is no JSON is refused elsewhere.
func tells(text json.RawMessage) bool {
	if len(text) == 0 {
		return false
	}
	var value any
	if json.Unmarshal(text, &value) != nil {
		return true
	}
	return holds(value)
}

// leading are the beginnings of what leads out of the account.
var leading = []string{"lambda:", "sip:", "sips:", "tel:"}

func holds(value any) bool {
	switch v := value.(type) {
	case string:
		text := strings.ToLower(strings.TrimSpace(v))
		for _, scheme := range leading {
			if strings.HasPrefix(text, scheme) {
				return true
			}
		}
		return strings.Contains(text, "://") || strings.HasPrefix(text, "//") || strings.Contains(text, "{{")
	case []any:
		for _, each := range v {
			if holds(each) {
				return true
			}
		}
	case map[string]any:
		for name, each := range v {
			if holds(name) || holds(each) {
				return true
			}
		}
	}
	return false
}
