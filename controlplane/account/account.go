// Package account owns the tenants: their SIP domains, limits and use of them, the operator's rights over them, and the
// keys that programs, edges and the operator present. People and their sessions are left to package user, what a key's
// permissions mean to rest, and everything an account holds to the other nouns.
package account

import (
	"regexp"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Account is a tenant.
type Account struct {
	bun.BaseModel `bun:"table:accounts" json:"-"`
	db.Row
	Draft
	Status Status `bun:"status" json:"status"`
}

// Status says whether an account is served.
type Status string

// The statuses. Of a Suspended account no key and no session is taken, and no call; nothing it has is touched.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
)

// Draft is what an operator decides of an account.
type Draft struct {
	Name string `bun:"name" json:"name"` // unique in the installation: people sign in with it
	// DefaultCountry reads national forms of numbers (ISO 3166-1 alpha-2, such as CN).
	DefaultCountry string `bun:"default_country" json:"default_country"`
	// TimeZone is that of days in lists, reports and calendars (IANA, such as Asia/Shanghai).
	TimeZone string `bun:"time_zone" json:"time_zone"`
	Limits   Limits `bun:"limits,type:jsonb" json:"limits"`
}

// Limits bound what an account uses. Zero is no limit.
type Limits struct {
	Calls          int     `json:"calls,omitempty"`            // legs in progress
	CallsPerSecond float64 `json:"calls_per_second,omitempty"` // started through the API
	Agents         int     `json:"agents,omitempty"`           // agents there may be
	// StorageBytes are those of recordings and media together. A media file that would go beyond it is refused (Room). A
	// recording never is, and goes on being kept; the account has EventStorageExceeded then.
	StorageBytes int64 `json:"storage_bytes,omitempty"`
	// RetentionDays are those for which recordings and records of calls are kept, counted from when we came to know of
	// them and, of a call, from its end at the earliest. Within an hour after, these go: a recording's audio, its row being
	// kept with the status deleted for as long as that of its call; a call's record, its events, and the rows of its
	// recordings. The setting recording_retention_days can only be shorter. These stay for as long as their own keeping
	// says: deliveries of a call's events, notifications about it, and the audit.
	RetentionDays int `json:"retention_days,omitempty"`
}

// Retention is RetentionDays as a time; 0 is for ever.
func (l Limits) Retention() time.Duration {
	const most = 100 * 365 // days: a time.Duration ends at 292 years
	return time.Duration(min(l.RetentionDays, most)) * 24 * time.Hour
}

// Check refuses limits that cannot be kept.
func (l Limits) Check() error {
	for _, each := range []struct {
		field string
		value float64
	}{
		{"calls", float64(l.Calls)}, {"calls_per_second", l.CallsPerSecond}, {"agents", float64(l.Agents)},
		{"storage_bytes", float64(l.StorageBytes)}, {"retention_days", float64(l.RetentionDays)},
	} {
		if each.value < 0 {
			return problem.InvalidField("/limits/"+each.field, "range", "must not be negative")
		}
	}
	return nil
}

var (
	country = regexp.MustCompile(`^[A-Z]{2}$`)
	// A host name (RFC 1123 §2.1) of at least one label.
	hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// maxName is the most characters of a name.
const maxName = 100

// Check refuses a draft that no account can be made of.
func (d Draft) Check() error {
	switch {
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case !country.MatchString(d.DefaultCountry):
		return problem.InvalidField("/default_country", "format", "must be two capital letters such as CN, is %q", d.DefaultCountry)
	case !isTimeZone(d.TimeZone):
		return problem.InvalidField("/time_zone", "time_zone", "must be a time zone such as Asia/Shanghai or UTC, is %q", d.TimeZone)
	}
	return d.Limits.Check()
}

// isTimeZone refuses also what Go takes for the time zone of this machine.
func isTimeZone(name string) bool {
	if name == "" || name == "Local" {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

// zoneOf is the time zone of a country that has one alone, and UTC where somebody must choose.
func zoneOf(country string) string {
	zones := map[string]string{
		"CN": "Asia/Shanghai", "HK": "Asia/Hong_Kong", "MO": "Asia/Macau", "TW": "Asia/Taipei", "SG": "Asia/Singapore",
		"JP": "Asia/Tokyo", "KR": "Asia/Seoul", "DE": "Europe/Berlin", "FR": "Europe/Paris", "GB": "Europe/London",
	}
	if zone, ok := zones[country]; ok {
		return zone
	}
	return "UTC"
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

// checkDomain refuses what is no SIP domain. name is in its normal form.
func checkDomain(pointer, name string) error {
	if !hostName.MatchString(name) || len(name) > 253 {
		return problem.InvalidField(pointer, "format", "must be a host name such as pbx.example.com, is %q", name)
	}
	return nil
}

// domain is a row of the table of SIP domains.
type domain struct {
	bun.BaseModel `bun:"table:domains"`

	Domain    string `bun:"domain,pk"`
	AccountID string `bun:"account_id"`
	Position  int64  `bun:"position"` // 0 is the digest realm
}
