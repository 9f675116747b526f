// Package user owns the people who sign in: users and their secrets, sign-in by password, by one-time code and by an
// identity provider, sessions, one-time links, and the short-lived tokens that browsers carry. What a user may do is left
// to the roles, whose compilation is given to it, the departments' tree to departments, and keys of programs to accounts.
//
// # What ends a session
//
// Signing out, another session of the same user ending it, a new password, a disabled or removed user, a suspended
// account, 12 hours without a request, and 7 days in any case. Every process asks the database once a second at most, so
// each takes effect everywhere within that second; so does a change of a role or of what a token was made with.
package user

import (
	"net/mail"
	"regexp"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// User is someone who signs in. He owns himself (db.Owned.OwnerID is his id), so that a data scope of users shows whom it
// says.
type User struct {
	bun.BaseModel `bun:"table:users" json:"-"`
	db.Row
	db.Owned
	Draft
	LastSignedInAt *time.Time `bun:"last_signed_in_at" json:"last_signed_in_at,omitempty"`
}

// Draft is what a caller may write, beside the department.
type Draft struct {
	Login  string `bun:"login" json:"login"` // in lower case; unique in the account
	Name   string `bun:"name" json:"name"`
	Email  string `bun:"email,nullzero" json:"email,omitempty"`
	Mobile string `bun:"mobile,nullzero" json:"mobile,omitempty"`
	// RoleIDs are the roles whose permissions the user has together; none for one who may do nothing yet.
	RoleIDs []string `bun:"role_ids,type:jsonb" json:"role_ids"`
	Status  Status   `bun:"status" json:"status"`
	// OIDCSubject is who the user is at the identity provider (the claim sub), where that is how they are matched.
	OIDCSubject string `bun:"oidc_subject,nullzero" json:"oidc_subject,omitempty"`
}

// Status says whether a user may sign in.
type Status string

// The statuses. A disabled user has no session and no token, and keeps everything else.
const (
	Active   Status = "active"
	Disabled Status = "disabled"
)

const (
	maxName  = 100
	maxEmail = 254 // RFC 5321 §4.5.3.1.3, without the angle brackets
	maxRoles = 50
)

var (
	loginForm  = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}._@+-]{0,63}$`)
	mobileForm = regexp.MustCompile(`^\+?[0-9 ().\-/]{3,40}$`)
)

// NormalLogin is a login as it is stored and looked up.
func NormalLogin(text string) string { return strings.ToLower(strings.TrimSpace(text)) }

// check refuses a draft that no user can be made of, and puts it into its normal form. That roles and department exist,
// and may be given, is not known here.
func (d *Draft) check() error {
	d.Login, d.Email = NormalLogin(d.Login), strings.ToLower(strings.TrimSpace(d.Email))
	if d.RoleIDs == nil {
		d.RoleIDs = []string{}
	}
	if d.Status == "" {
		d.Status = Active
	}
	switch {
	case !loginForm.MatchString(d.Login):
		return problem.InvalidField("/login", "pattern", "must be 1–64 letters, digits, ., _, @, + or -, beginning with a letter or digit")
	case strings.TrimSpace(d.Name) == "":
		return problem.InvalidField("/name", "required", "must not be empty")
	case len([]rune(d.Name)) > maxName:
		return problem.InvalidField("/name", "maxLength", "may have at most %d characters", maxName)
	case d.Email != "" && !isEmail(d.Email):
		return problem.InvalidField("/email", "email", "must be an e-mail address")
	case d.Mobile != "" && !mobileForm.MatchString(d.Mobile):
		return problem.InvalidField("/mobile", "pattern", "must be a telephone number")
	case len(d.RoleIDs) > maxRoles:
		return problem.InvalidField("/role_ids", "count", "may be at most %d roles", maxRoles)
	case d.Status != Active && d.Status != Disabled:
		return problem.InvalidField("/status", "enum", "must be active or disabled, is %q", d.Status)
	}
	return nil
}

func isEmail(text string) bool {
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text && len(text) <= maxEmail
}
