// Package blocklist owns the numbers that an account does not want to hear from or call, and the exceptions from them:
// entries, and which of them decides about a number. Refusing the call is left to package edges.
package blocklist

import (
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Direction is that of the calls an entry is about.
type Direction string

// The directions.
const (
	In   Direction = "in"  // calls that come in by a trunk: the caller's number
	Out  Direction = "out" // calls to the outside: the called number
	Both Direction = "both"
)

// Kind is how an entry names numbers.
type Kind string

// The kinds of entry.
const (
	KindNumber    Kind = "number"
	KindPattern   Kind = "pattern"
	KindAnonymous Kind = "anonymous" // callers that hide their number
)

// Action is what an entry does.
type Action string

// The actions.
const (
	Block Action = "block"
	Allow Action = "allow"
)

// Entry is a line of the list.
//
// Of all entries that fit a number the most specific one decides, whatever the order in which they were made: a whole
// number before any pattern; of patterns the one with more digits given; of those the one that says how long the number
// is; and where two are alike, allow before block. So "block 1705*, allow 17051234567" lets that one through, and "allow
// 1705*, block 17*" all that begin with 1705.
type Entry struct {
	bun.BaseModel `bun:"table:blocklist_entries" json:"-"`
	db.Row
	Draft

	// Hits counts the calls it decided about, and LastHitAt is when the last one was. They are written some seconds later.
	Hits      int64      `bun:"hits" json:"hits"`
	LastHitAt *time.Time `bun:"last_hit_at" json:"last_hit_at,omitempty"`

	// Prefix is what a number begins with that the entry may fit.
	Prefix string `bun:"prefix" json:"-"`
}

// Draft is what a caller decides of an entry.
type Draft struct {
	Direction Direction `bun:"direction" json:"direction"`
	Kind      Kind      `bun:"kind" json:"kind"`
	// Number is, of KindNumber, E.164 or a short code; of KindPattern, digits with "?" for any one digit and, as its last
	// character, "*" for any rest. A pattern that begins with "+" is compared with E.164; one that does not is compared
	// with the numbers of the account's country as they are dialled there, and with short codes. "*" alone is every number
	// that is not hidden. Empty for KindAnonymous.
	Number    string     `bun:"number" json:"number,omitempty"`
	Action    Action     `bun:"action" json:"action"`
	Reason    string     `bun:"reason" json:"reason,omitempty"`
	ExpiresAt *time.Time `bun:"expires_at" json:"expires_at,omitempty"` // nil for never
}

const (
	maxPattern = 20 // characters
	maxReason  = 500
	// samePrefix is how many patterns may have the same digits before their first "?" or "*": all of them are looked at
	// for each call to or from such a number.
	samePrefix = 200
)

// settle writes the draft in its normal form for a country (ISO 3166-1 alpha-2), and refuses what is no entry.
func (d *Draft) settle(country string) error {
	switch d.Direction {
	case In, Out, Both:
	default:
		return problem.InvalidField("/direction", "enum", "must be in, out or both, is %q", d.Direction)
	}
	switch d.Action {
	case Block, Allow:
	default:
		return problem.InvalidField("/action", "enum", "must be block or allow, is %q", d.Action)
	}
	if len([]rune(d.Reason)) > maxReason {
		return problem.InvalidField("/reason", "maxLength", "may have at most %d characters", maxReason)
	}
	if d.ExpiresAt != nil {
		at := d.ExpiresAt.UTC().Truncate(time.Microsecond)
		d.ExpiresAt = &at
	}
	switch d.Kind {
	case KindNumber:
		normal, ok := number.Normal(d.Number, country)
		if !ok {
			return problem.InvalidField("/number", "number",
				"must be E.164 with +, a number as it is dialled in %s with its area code, or a short code of 2 to 8 digits", country)
		}
		d.Number = normal
		return nil
	case KindPattern:
		d.Number = strings.NewReplacer(" ", "", "-", "").Replace(d.Number)
		return checkPattern(d.Number)
	case KindAnonymous:
		switch {
		case d.Number != "":
			return problem.InvalidField("/number", "conflict", "belongs to number and pattern; anonymous callers have none")
		case d.Direction != In:
			return problem.InvalidField("/direction", "conflict", "must be in: only callers can be anonymous")
		}
		return nil
	}
	return problem.InvalidField("/kind", "enum", "must be number, pattern or anonymous, is %q", d.Kind)
}

func checkPattern(text string) error {
	digits := strings.TrimSuffix(strings.TrimPrefix(text, "+"), "*")
	bad := strings.IndexFunc(digits, func(r rune) bool { return (r < '0' || r > '9') && r != '?' })
	switch {
	case text == "" || text == "+" || len(text) > maxPattern:
		return problem.InvalidField("/number", "pattern", "must have 1–%d characters", maxPattern)
	case bad >= 0:
		return problem.InvalidField("/number", "pattern", "must be digits with ? for any one digit and * at the end for any rest, as in 1705* or +86170????????, is %q", text)
	case !strings.ContainsAny(text, "?*"):
		return problem.InvalidField("/number", "pattern", "has no ? or *; such an entry is of kind number")
	}
	return nil
}

// prefixOf is what a number begins with that an entry may fit.
func (d Draft) prefixOf() string {
	if at := strings.IndexAny(d.Number, "?*"); at >= 0 {
		return d.Number[:at]
	}
	return d.Number
}

// form is one way to write a number, and by how many digits it is shorter than the international one.
type form struct {
	text    string
	missing int
}

// forms are the ways in which entries may name a number: E.164, and for one of the country also without its code, and as
// it is dialled there. What is no number of the telephone network has one form, itself.
func forms(text, country string) []form {
	normal, ok := number.Normal(text, country)
	if !ok {
		return []form{{text: text}}
	}
	if !number.IsE164(normal) {
		return []form{{text: normal}}
	}
	all := []form{{text: normal}}
	parsed, err := phonenumbers.Parse(normal, country)
	if err != nil || int(parsed.GetCountryCode()) != phonenumbers.GetCountryCodeForRegion(country) {
		return all
	}
	code := len(normal) - 1 - len(phonenumbers.GetNationalSignificantNumber(parsed))
	significant := normal[1+code:]
	all = append(all, form{significant, code})
	dialled := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, phonenumbers.Format(parsed, phonenumbers.NATIONAL))
	// A trunk prefix stands before the number; where the national form is another altogether it names nothing here.
	if trunk, found := strings.CutSuffix(dialled, significant); found && trunk != "" {
		all = append(all, form{dialled, code - len(trunk)})
	}
	return all
}

// prefixes are all that entries which may fit one of the forms can have as theirs.
func prefixes(of []form) []string {
	all := []string{""}
	for _, f := range of {
		for n := 1; n <= len(f.text) && n <= maxPattern; n++ {
			all = append(all, f.text[:n])
		}
	}
	return all
}

// fits reports whether an entry names a form of a number, and how closely: of two that do, the greater decides.
func (e *Entry) fits(f form) (closeness int, ok bool) {
	switch e.Kind {
	case KindNumber:
		return 1000, e.Number == f.text
	case KindPattern:
	default:
		return 0, false
	}
	pattern, open := strings.CutSuffix(e.Number, "*")
	if pattern == "" {
		return 0, true
	}
	if len(f.text) < len(pattern) || (!open && len(f.text) != len(pattern)) || strings.HasPrefix(pattern, "+") != strings.HasPrefix(f.text, "+") {
		return 0, false
	}
	given := 0
	for i := range len(pattern) {
		switch {
		case pattern[i] == f.text[i]:
			given++
		case pattern[i] != '?' || f.text[i] < '0' || f.text[i] > '9':
			return 0, false
		}
	}
	// In the digits of E.164, so that 1705* and +861705* are equally close.
	closeness = 2 * (given + f.missing)
	if strings.HasPrefix(pattern, "+") {
		closeness -= 2
	}
	if !open {
		closeness++
	}
	return closeness, true
}

// decide is the entry that decides about the forms of a number, nil for none.
func decide(entries []Entry, of []form) *Entry {
	var best *Entry
	most := 0
	for i := range entries {
		e := &entries[i]
		for _, f := range of {
			closeness, ok := e.fits(f)
			if !ok {
				continue
			}
			if best == nil || closeness > most || (closeness == most && e.before(best)) {
				best, most = e, closeness
			}
		}
	}
	return best
}

// before decides between two entries that are equally close.
func (e *Entry) before(other *Entry) bool {
	if e.Action != other.Action {
		return e.Action == Allow
	}
	return e.ID < other.ID
}

// IsAnonymous reports whether a caller hides its number: RFC 3323 §4.1 writes "anonymous", gateways others.
func IsAnonymous(from string) bool {
	switch strings.ToLower(strings.TrimSpace(from)) {
	case "", "anonymous", "unknown", "restricted", "private", "unavailable", "withheld", "asserted":
		return true
	}
	return false
}
