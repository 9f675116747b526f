// Package number owns the numbers of accounts, of the telephone network and short codes, and what each is bound to;
// and how a dialled or written number is read. What happens with a call to one is left to package edges.
package number

import (
	"regexp"
	"strings"

	"github.com/nyaruka/phonenumbers"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Number is a number of the telephone network in E.164 with "+", which is one account's in the installation; or a short
// code of 2 to 8 digits, which is one space with the extensions of its account.
type Number struct {
	bun.BaseModel `bun:"table:numbers" json:"-"`
	db.Row

	Number string `bun:"number" json:"number"`
	Binding
}

// Binding is what answers a number: one of these, or nothing.
type Binding struct {
	ApplicationID string `bun:"application_id,nullzero" json:"application_id,omitempty"`
	CredentialID  string `bun:"credential_id,nullzero" json:"credential_id,omitempty"`
}

// Check refuses two things at once.
func (b Binding) Check() error {
	if b.ApplicationID != "" && b.CredentialID != "" {
		return problem.InvalidField("/credential_id", "conflict", "cannot stand together with application_id; give one of them, and null for the other")
	}
	return nil
}

// IsE164 reports whether a number is one of the telephone network.
func IsE164(number string) bool { return strings.HasPrefix(number, "+") }

// Normal reads a number as a person or a phone writes it. Up to 8 digits and nothing else are a short code or an
// extension; everything else is a number of the telephone network, in international form or in the national form of the
// country (ISO 3166-1 alpha-2), and becomes E.164. ok is false for what is neither.
//
// Why length decides: "1000" is a number in no country, and a national number of 8 digits or less can be dialled only
// within its own area, which nobody knows here; it has to be written with its area code or with "+".
func Normal(text, country string) (number string, ok bool) {
	text = strings.TrimSpace(text)
	if credential.IsExtension(text) || isChinaMobile(text) {
		return text, true
	}
	if !written.MatchString(text) {
		return "", false // phonenumbers would read letters as a telephone's keys, and digits of every script
	}
	if number, ok = e164(text, country); !ok {
		return "", false
	}
	if number == text {
		return number, true
	}
	// A prefix of the country's own may stand in the number still: 0 after +86. What is stored must be read as itself.
	again, ok := e164(number, country)
	if !ok || again != number {
		return "", false
	}
	return number, true
}

// isChinaMobile reports whether a text is a mobile number of China in E.164. Most numbers of a call centre there are, and
// they need none of what follows, which takes 10 µs: an import of them is a fifth faster. 179 is left out, which began
// prefixes of carriers.
func isChinaMobile(text string) bool {
	const length = len("+8613800138000")
	if len(text) != length || text[:4] != "+861" || text[4] < '3' || text[4:6] == "79" {
		return false
	}
	for _, digit := range []byte(text[4:]) {
		if digit < '0' || digit > '9' {
			return false
		}
	}
	return true
}

// written is a number as people write it, with what they set it apart with.
var written = regexp.MustCompile(`^\+?[0-9 ().\-/]{3,40}$`)

func e164(text, country string) (string, bool) {
	parsed, err := phonenumbers.Parse(text, country)
	if err != nil || parsed.GetExtension() != "" || !phonenumbers.IsPossibleNumber(parsed) {
		return "", false
	}
	return phonenumbers.Format(parsed, phonenumbers.E164), true
}

// Candidates are the ways in which dialled digits may name a number of an account, the likeliest first: as they are,
// as Normal reads them, and as E.164 whose "+" a carrier left out.
func Candidates(dialed, country string) []string {
	all := []string{dialed}
	add := func(number string) {
		for _, had := range all {
			if had == number {
				return
			}
		}
		all = append(all, number)
	}
	if number, ok := Normal(dialed, country); ok {
		add(number)
	}
	if !IsE164(dialed) {
		if number, ok := Normal("+"+dialed, country); ok {
			add(number)
		}
	}
	return all
}
