// Package auth owns who asks and what they may see: the Caller of a request, the rows (Scope) and the fields
// (Mask) that are theirs, the check of a permission, and the form of API keys and edge tokens. Where keys and
// sessions are stored, and looking them up, is left to a noun that hands rest a function.
package auth

import (
	"net/netip"
	"strings"
)

// Caller is the one who makes a request, as established from its credential. The zero value may do and see
// nothing.
type Caller struct {
	AccountID   string
	KeyID       string // the API key's id, for programs
	UserID      string // the user's id, for people
	SessionID   string // the session's id, for people
	Permissions []string
	// Scope is which rows the operation in progress may touch. rest sets it to Over(the operation's resource) before it
	// calls the operation's function.
	Scope Scope
	// Reach is the data scope per resource ("calls"), with "*" for those not named. A resource that is found in
	// neither, as with a nil Reach, has every row of the account. It narrows only rows that have an owner (db.Owned).
	Reach map[string]Rows
	Mask  Mask
	// RatePerSecond is the refill of this caller's token bucket; zero takes the server's default.
	RatePerSecond float64
	Address       netip.Addr
	RequestID     string
}

// ActorID is what an audit entry names: the user where there is one, else the key.
func (c Caller) ActorID() string {
	if c.UserID != "" {
		return c.UserID
	}
	return c.KeyID
}

// Can reports whether the caller holds a permission such as "calls.read". "*" holds all, "calls.*" all of calls.
func (c Caller) Can(permission string) bool {
	for _, p := range c.Permissions {
		if p == "*" || p == permission {
			return true
		}
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasSuffix(prefix, ".") && strings.HasPrefix(permission, prefix) {
			return true
		}
	}
	return false
}

// Over is the scope of one resource: every row of the caller's account, narrowed by Reach, with the caller's mask.
func (c Caller) Over(resource string) Scope {
	scope := c.Scope
	if scope.account == "" || scope.everywhere {
		return scope
	}
	rows, found := c.Reach[resource]
	if !found {
		rows, found = c.Reach["*"]
	}
	scope.mask, scope.rows = c.Mask, nil
	if found && !rows.All {
		scope.rows = &rows
	}
	return scope
}

// Resource is the resource that a permission is about: "calls" of "calls.read".
func Resource(permission string) string {
	resource, _, _ := strings.Cut(permission, ".")
	return resource
}

// Rows is a data scope, compiled: All rows, or those owned by one of Users or in one of Departments. The zero value is
// no row.
type Rows struct {
	All         bool
	Users       []string // user ids
	Departments []string // department ids
}

// Scope is the set of rows a query may touch; db turns it into one SQL predicate. The zero value matches
// nothing, so that a forgotten scope shows an empty list and not another account's rows.
//
// Why a struct with hidden fields: narrower scopes (own rows, departments) are further terms of the same predicate,
// with no query changed.
type Scope struct {
	account    string
	everywhere bool
	rows       *Rows // nil for all of the account
	mask       Mask
}

// Account is the scope of all rows of one account. An empty id matches nothing.
func Account(id string) Scope { return Scope{account: id} }

// Everywhere is the scope of all rows of all accounts. It is for our own workers, and for the look-ups that find
// out which account something belongs to; never for a request's answer.
func Everywhere() Scope { return Scope{everywhere: true} }

// AccountID is the account of the scope, and empty for Everywhere and for the zero value.
func (s Scope) AccountID() string { return s.account }

// Rows narrows the scope to rows of some owners; ok is false when it has all rows of its account. It concerns only
// tables whose rows have an owner.
func (s Scope) Rows() (rows Rows, ok bool) {
	if s.rows == nil {
		return Rows{}, false
	}
	return *s.rows, true
}

// Mask is what is hidden from whoever has the scope: list refuses to filter, search and sort by it.
func (s Scope) Mask() Mask { return s.mask }

// IsEverywhere reports whether the scope is that of Everywhere.
func (s Scope) IsEverywhere() bool { return s.everywhere }

// Mask says which kinds of fields are hidden from a caller. The zero value hides nothing: hiding is a
// restriction put on a role, while what may be read at all is decided by permissions and Scope, which are closed by
// default.
type Mask struct {
	// Numbers hides all but the last two digits of telephone numbers (fields marked "x-mask: number").
	Numbers bool
}

// Number hides a telephone number as the mask asks: "+8613800138000" becomes "************00".
func (m Mask) Number(number string) string {
	if !m.Numbers {
		return number
	}
	if len(number) <= 2 {
		return strings.Repeat("*", len(number))
	}
	return strings.Repeat("*", len(number)-2) + number[len(number)-2:]
}
