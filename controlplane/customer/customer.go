// Package customer owns the customers of an account, the people on the other end of its calls: how they are called, at
// which numbers they are reached, and whose they are. Calling them is left to package call, and what else is known of
// them to the modules that build on this one.
package customer

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Customer is a person or a company that calls and is called. It is its owner's, or its department's, or, with neither,
// visible to those alone who see the whole account.
type Customer struct {
	bun.BaseModel `bun:"table:customers" json:"-"`
	db.Row
	db.Owned
	Draft
}

// Draft is what a caller may write of a customer, beside its owner.
type Draft struct {
	Name string `bun:"name" json:"name"` // 1–200 characters
	// Phones are 1–10 numbers, each once; the first is the usual one. A number may be several customers'.
	Phones  []Phone `bun:"phones,type:jsonb" json:"phones"`
	Email   string  `bun:"email,nullzero" json:"email,omitempty"`
	Company string  `bun:"company,nullzero" json:"company,omitempty"`
	Note    string  `bun:"note,nullzero" json:"note,omitempty"`
}

// Phone is one number of a customer.
type Phone struct {
	Number string `json:"number"` // as number.Normal gives it
	Label  string `json:"label,omitempty"`
}

// MaxPhones is the most numbers of a customer.
const MaxPhones = 10

const (
	maxName  = 200
	maxLabel = 40
	maxEmail = 254
	maxNote  = 4000
)

// Check refuses what no customer can be. That the numbers are some is not known here.
func (d Draft) Check() error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len(d.Phones) == 0 || len(d.Phones) > MaxPhones:
		return problem.InvalidField("/phones", "maxItems", "must be 1–%d numbers, are %d", MaxPhones, len(d.Phones))
	case d.Email != "" && !isEmail(d.Email):
		return problem.InvalidField("/email", "email", "must be an e-mail address")
	}
	for _, text := range []struct {
		at, text string
		most     int
	}{{"/name", d.Name, maxName}, {"/company", d.Company, maxName}, {"/note", d.Note, maxNote}} {
		if utf8.RuneCountInString(text.text) > text.most {
			return problem.InvalidField(text.at, "maxLength", "may have at most %d characters", text.most)
		}
	}
	for i, p := range d.Phones {
		if utf8.RuneCountInString(p.Label) > maxLabel {
			return problem.InvalidField(phoneAt(i)+"/label", "maxLength", "may have at most %d characters", maxLabel)
		}
	}
	return nil
}

// isEmail reports whether a text may be an e-mail address; whether anybody reads what is sent there, nobody knows here.
func isEmail(text string) bool {
	local, domain, found := strings.Cut(text, "@")
	return found && local != "" && domain != "" && len(text) <= maxEmail && !strings.ContainsAny(text, " \t\r\n<>,;") && !strings.Contains(domain, "@")
}

// phoneAt is where a number stands in a body.
func phoneAt(i int) string { return "/phones/" + strconv.Itoa(i) }
