// Package account owns the tenants: their SIP domains and limits, and the keys that programs and edges present. What
// an account may do beyond its limits is left to permissions, and everything it holds to the other nouns.
package account

import (
	"regexp"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Account is a tenant.
type Account struct {
	bun.BaseModel `bun:"table:accounts" json:"-"`
	db.Row
	Draft
}

// Draft is what an operator decides of an account.
type Draft struct {
	Name string `bun:"name" json:"name"`
	// DefaultCountry reads national forms of numbers (ISO 3166-1 alpha-2, such as CN).
	DefaultCountry string `bun:"default_country" json:"default_country"`
	Limits         Limits `bun:"limits,type:jsonb" json:"limits"`
}

// Limits bound what an account uses at once. Zero is no limit.
type Limits struct {
	Calls          int     `json:"calls,omitempty"`            // legs in progress
	CallsPerSecond float64 `json:"calls_per_second,omitempty"` // started through the API
}

var (
	country = regexp.MustCompile(`^[A-Z]{2}$`)
	// A host name (RFC 1123 §2.1) of at least one label.
	hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// Check refuses a draft that no account can be made of.
func (d Draft) Check() error {
	switch {
	case d.Name == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case !country.MatchString(d.DefaultCountry):
		return problem.InvalidField("/default_country", "format", "must be two capital letters such as CN, is %q", d.DefaultCountry)
	case d.Limits.Calls < 0:
		return problem.InvalidField("/limits/calls", "range", "must not be negative")
	case d.Limits.CallsPerSecond < 0:
		return problem.InvalidField("/limits/calls_per_second", "range", "must not be negative")
	}
	return nil
}

// Language is that of the system prompts an account's callers hear.
func (a Account) Language() string {
	switch a.DefaultCountry {
	case "CN", "TW", "HK", "MO":
		return "zh-CN"
	}
	return "en"
}

// NormalDomain is a SIP domain as it is stored and looked up: in lower case, without a final dot.
func NormalDomain(domain string) string {
	return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(domain)), ".")
}

// domain is a row of the table of SIP domains.
type domain struct {
	bun.BaseModel `bun:"table:domains"`

	Domain    string `bun:"domain,pk"`
	AccountID string `bun:"account_id"`
	Position  int64  `bun:"position"` // 0 is the digest realm
}
