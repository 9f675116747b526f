// Package credential owns extensions and what their phones sign in with, and the contacts that phones registered
// (RFC 3261 §10). Checking a digest is left to the edge, which gets HA1 and never a password; who may ring whom to
// package edges.
package credential

import (
	"context"
	"crypto/md5" // RFC 7616 §3.4.2: phones in the field know no better
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Credential is an extension.
type Credential struct {
	bun.BaseModel `bun:"table:credentials" json:"-"`
	db.Row

	Extension string `bun:"extension" json:"extension"` // 2 to 8 digits, also the digest user
	Domain    string `bun:"domain" json:"domain"`       // the digest realm; fixed, HA1 holds it
	HA1MD5    string `bun:"ha1_md5" json:"-"`
	HA1SHA256 string `bun:"ha1_sha256" json:"-"`
	Draft
}

// Draft is what a caller may change of an extension beside its password.
type Draft struct {
	CallerID      string `bun:"caller_id,nullzero" json:"caller_id,omitempty"` // shown when it calls out by a trunk
	CallerName    string `bun:"caller_name,nullzero" json:"caller_name,omitempty"`
	ApplicationID string `bun:"application_id,nullzero" json:"application_id,omitempty"`
	MaxContacts   int    `bun:"max_contacts" json:"max_contacts"`
}

// DefaultMaxContacts is the specification's default of max_contacts.
const DefaultMaxContacts = 3

var extension = regexp.MustCompile(`^[0-9]{2,8}$`)

// IsExtension reports whether a text has the form of an extension or short code: 2 to 8 digits.
func IsExtension(text string) bool { return extension.MatchString(text) }

// digest sets the secrets for a password: HA1 of user, realm and password (RFC 7616 §3.4.2).
func (c *Credential) digest(password string) {
	text := c.Extension + ":" + c.Domain + ":" + password
	weak := md5.Sum([]byte(text))
	strong := sha256.Sum256([]byte(text))
	c.HA1MD5, c.HA1SHA256 = hex.EncodeToString(weak[:]), hex.EncodeToString(strong[:])
}

// shortCode is a row of the one space that extensions and short codes share in an account.
type shortCode struct {
	bun.BaseModel `bun:"table:short_codes"`

	AccountID string `bun:"account_id,pk"`
	Code      string `bun:"code,pk"`
	OwnerID   string `bun:"owner_id"`
}

// TakeCode reserves an extension or short code of an account for the object that owns it, in the transaction that makes
// the object. field is the pointer to name when another has it: that is a Conflict.
func TakeCode(ctx context.Context, tx *db.Tx, scope auth.Scope, code, owner, field string) error {
	_, err := tx.Write().NewInsert().Model(&shortCode{AccountID: scope.AccountID(), Code: code, OwnerID: owner}).Exec(ctx)
	err = db.Check(err)
	if problem.From(err).Code == problem.CodeConflict {
		return problem.Conflict(fmt.Sprintf("%s is an extension or a short code of this account already; choose another", code),
			problem.Field(field, "duplicate", "is already taken"))
	}
	return err
}

// FreeCode gives back what an object reserved, in the transaction that deletes it.
func FreeCode(ctx context.Context, tx *db.Tx, owner string) error {
	_, err := tx.Write().NewDelete().Model((*shortCode)(nil)).Where("owner_id = ?", owner).Exec(ctx)
	return db.Check(err)
}
