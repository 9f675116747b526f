package user

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/role"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Service is the operations on users, sessions and tokens, and rest's Authenticate. Every field without a remark is
// needed.
type Service struct {
	DB       *db.DB
	Bus      *bus.Bus
	Accounts *account.Service
	Log      *slog.Logger
	// Compile makes of a user's roles what he may do. It is asked for every request.
	Compile func(ctx context.Context, account string, roleIDs []string, userID, departmentID string) (permissions []string, reach map[string]auth.Rows, mask auth.Mask, err error)
	// Moved is told in which department a user is from now on, in the transaction that says so; nil for nobody to tell.
	Moved func(ctx context.Context, tx *db.Tx, account, userID, departmentID string) error
	// MayGrant refuses a caller who would give somebody roles that may do more than he, or that there are not.
	MayGrant func(ctx context.Context, conn db.Conn, who auth.Caller, roleIDs []string) error
	// Lifetimes is how long an account's people stay signed in without a request, and at most; nil is 12 hours and a week.
	Lifetimes func(ctx context.Context, account string) (idle, whole time.Duration, err error)
	// Secret is the installation's own, at least 32 random bytes, the same in every process: it signs tokens.
	Secret []byte
	// PublicURL is how browsers reach the API, without a slash at the end: of links, of the identity provider's way back,
	// and with https of cookies that are Secure.
	PublicURL string

	DefaultAccount string        // name of the account meant when a sign-in names none; "" for none
	OIDC           *Provider     // for accounts that have none of their own; nil for none
	HTTP           *guard.Client // to identity providers; needed where there is one
	Uses           []db.Use      // rows of others that keep a user from being deleted
	Hasher         *Hasher       // nil for one of DefaultCost
	Now            func() time.Time

	hasherOnce sync.Once
	sessions   account.Recent[*opened]
	byID       account.Recent[*opened] // by the session's or the user's id, for tokens
	providers  providers
}

// Operations are the functions of users.yaml, sessions.yaml and tokens.yaml, and of the account's identity provider.
func (s *Service) Operations() map[string]rest.Operation {
	operations := rest.Operations[User, body](s.resource())
	operations["listUsers"] = rest.Op(s.list)
	for id, op := range map[string]rest.Operation{
		"createUserLink":    rest.Op(s.createLink),
		"deleteUserTotp":    rest.Op(s.removeTOTP),
		"createSession":     rest.Op(s.signIn),
		"useLink":           rest.Op(s.useLink),
		"listSessions":      rest.Op(s.listSessions),
		"deleteSession":     rest.Op(s.endSession),
		"deleteSessions":    rest.Op(s.endOthers),
		"startOidcSession":  rest.Op(s.startOIDC),
		"finishOidcSession": rest.Op(s.finishOIDC),
		"getMe":             rest.Op(s.me),
		"changePassword":    rest.Op(s.changePassword),
		"enrolTotp":         rest.Op(s.enrolTOTP),
		"confirmTotp":       rest.Op(s.confirmTOTP),
		"disableTotp":       rest.Op(s.disableTOTP),
		"createToken":       rest.Op(s.createToken),

		"getIdentityProvider":    rest.Op(s.getProvider),
		"setIdentityProvider":    rest.Op(s.setProvider),
		"deleteIdentityProvider": rest.Op(s.removeProvider),
	} {
		operations[id] = op
	}
	return operations
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

func (s *Service) hasher() *Hasher {
	s.hasherOnce.Do(func() {
		if s.Hasher == nil {
			s.Hasher = NewHasher(DefaultCost())
		}
	})
	return s.Hasher
}

func (s *Service) lockout() *lockout { return &lockout{bus: s.Bus} }

// Purge removes sessions and links that are over. Call it every hour or so.
func (s *Service) Purge(ctx context.Context) error {
	now := s.now()
	if _, err := s.DB.Write().NewRaw("DELETE FROM sessions WHERE idle_until <= ? OR ends_at <= ?", now, now).Exec(ctx); err != nil {
		return db.Check(err)
	}
	_, err := s.DB.Write().NewRaw("DELETE FROM one_time_links WHERE expires_at <= ?", now).Exec(ctx)
	return db.Check(err)
}

// body is what callers write of a user.
type body struct {
	rest.Keys
	Draft
	DepartmentID string `json:"department_id,omitempty"`
}

func (s *Service) resource() rest.Resource[User, body] {
	return rest.Resource[User, body]{
		DB: s.DB, One: "User", Many: "Users", Prefix: "usr", Table: table(),
		Uses:  append([]db.Use{{Table: "departments", Column: "head_user_id", Name: "department"}}, s.Uses...),
		Draft: func(u *User) body { return body{Draft: u.Draft, DepartmentID: u.DepartmentID} },
		Put:   s.put, Stored: s.stored, Removing: s.removing,
	}
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"login": {Sort: true}, "name": {Sort: true}, "email": {}, "mobile": {}, "department_id": {}, "status": {}, "oidc_subject": {},
			"last_signed_in_at": {Type: list.Time},
		}),
		Search: []string{"login", "name", "email", "mobile"},
	}
}

type listIn struct {
	RoleID string     `query:"role_id"`
	Query  url.Values `query:"*"`
}

// list is the generic list with one filter more: a user's roles are no column.
func (s *Service) list(ctx context.Context, who auth.Caller, in listIn) (list.Page[User], error) {
	q, err := table().Parse(in.Query, "role_id")
	if err != nil {
		return list.Page[User]{}, err
	}
	return list.Run[User](ctx, s.DB, who.Scope, q, func(q *bun.SelectQuery) *bun.SelectQuery {
		if in.RoleID == "" {
			return q
		}
		return q.Where("?TableAlias.id IN (SELECT id FROM user_roles WHERE role_id = ?)", in.RoleID)
	})
}

// put makes a user what a draft says. Nobody changes somebody who may do more than he, and nobody is left without an
// owner.
func (s *Service) put(ctx context.Context, tx *db.Tx, who auth.Caller, u *User, d body) error {
	if err := d.check(); err != nil {
		return err
	}
	if u.Etag != "" {
		if err := s.mayManage(ctx, tx, who, u); err != nil {
			return err
		}
	}
	if d.DepartmentID != u.DepartmentID {
		if err := mayMove(who, u, d.DepartmentID); err != nil {
			return err
		}
	}
	// Roles that are taken away count too: one may be what hides numbers.
	if len(newRoles(u.RoleIDs, d.RoleIDs))+len(newRoles(d.RoleIDs, u.RoleIDs)) > 0 {
		if err := s.MayGrant(ctx, tx, who, d.RoleIDs); err != nil {
			return err
		}
	}
	if err := s.keepOwner(ctx, tx, u, d.Draft); err != nil {
		return err
	}
	u.Draft, u.DepartmentID, u.OwnerID = d.Draft, d.DepartmentID, u.ID
	return nil
}

// mayMove refuses a caller who would reach more by it: a narrowed one puts people only where he sees them, and one who is
// narrowed in anything stays where he is, because his own department may be what he is narrowed to.
func mayMove(who auth.Caller, u *User, departmentID string) error {
	if u.ID == who.UserID {
		for _, rows := range who.Reach {
			if !rows.All {
				return problem.New(problem.CodeForbidden, "/department_id: you cannot move yourself; ask somebody who sees the whole account",
					problem.Field("/department_id", "self", "cannot be changed by yourself"))
			}
		}
	}
	rows, narrowed := who.Scope.Rows()
	if narrowed && !slices.Contains(rows.Departments, departmentID) {
		return problem.New(problem.CodeForbidden, "/department_id: must be a department whose users you may see",
			problem.Field("/department_id", "scope", "must be a department whose users you may see"))
	}
	return nil
}

func newRoles(had, wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(id string) bool { return slices.Contains(had, id) })
}

// mayManage refuses a change of a user who may do more than the caller: with a new password, or a new e-mail address,
// the caller would become him.
func (s *Service) mayManage(ctx context.Context, conn db.Conn, who auth.Caller, u *User) error {
	if who.UserID == u.ID {
		return nil
	}
	err := s.MayGrant(ctx, conn, who, u.RoleIDs)
	if problem.From(err).Code == problem.CodeRefused {
		return problem.New(problem.CodeForbidden, "this user may do more than you; ask somebody who may do as much")
	}
	return err
}

// stored writes the user's roles once more, and ends the sessions of one who is disabled.
func (s *Service) stored(ctx context.Context, tx *db.Tx, _ auth.Caller, u *User) error {
	if _, err := tx.Write().NewRaw("DELETE FROM user_roles WHERE id = ?", u.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	rows := make([]userRole, 0, len(u.RoleIDs))
	for _, id := range slices.Compact(slices.Sorted(slices.Values(u.RoleIDs))) {
		rows = append(rows, userRole{ID: u.ID, AccountID: u.AccountID, RoleID: id})
	}
	if len(rows) > 0 {
		if _, err := tx.Write().NewInsert().Model(&rows).Exec(ctx); err != nil {
			return db.Check(err)
		}
	}
	if s.Moved != nil {
		if err := s.Moved(ctx, tx, u.AccountID, u.ID, u.DepartmentID); err != nil {
			return err
		}
	}
	if u.Status == Active {
		return nil
	}
	if _, err := tx.Write().NewRaw("DELETE FROM one_time_links WHERE user_id = ?", u.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	return endSessions(ctx, tx, u.AccountID, u.ID, "")
}

// userRole is a row of the table of the users' roles.
type userRole struct {
	bun.BaseModel `bun:"table:user_roles"`

	ID        string `bun:"id,pk"` // the user's
	AccountID string `bun:"account_id"`
	RoleID    string `bun:"role_id,pk"`
}

func (s *Service) removing(ctx context.Context, tx *db.Tx, who auth.Caller, u *User) error {
	if err := s.mayManage(ctx, tx, who, u); err != nil {
		return err
	}
	return s.keepOwner(ctx, tx, u, Draft{})
}

// keepOwner refuses (409) what would leave an account without an active owner. The owner's role is locked meanwhile: two
// owners that step down at once would each see the other.
func (s *Service) keepOwner(ctx context.Context, tx *db.Tx, u *User, after Draft) error {
	if u.Etag == "" || u.Status != Active || len(u.RoleIDs) == 0 {
		return nil
	}
	owner, found, err := ownerRole(ctx, tx, u.AccountID)
	if err != nil || !found || !slices.Contains(u.RoleIDs, owner) {
		return err
	}
	if after.Status == Active && slices.Contains(after.RoleIDs, owner) {
		return nil
	}
	// An update that changes nothing locks the row on both databases.
	if _, err := tx.Write().NewRaw("UPDATE roles SET etag = etag WHERE id = ?", owner).Exec(ctx); err != nil {
		return db.Check(err)
	}
	var others int64
	err = tx.Read().NewRaw(`SELECT count(*) FROM users AS u JOIN user_roles AS r ON r.id = u.id
		WHERE r.role_id = ? AND u.status = 'active' AND u.id <> ?`, owner, u.ID).Scan(ctx, &others)
	if err != nil {
		return db.Check(err)
	}
	if others == 0 {
		return problem.Conflict("this is the last owner of the account; make somebody else an owner first",
			problem.Field("/role_ids", "last_owner", "an account must have an active owner"))
	}
	return nil
}

// ownerRole gives the id of an account's role of owners.
func ownerRole(ctx context.Context, conn db.Conn, accountID string) (id string, found bool, err error) {
	err = conn.Read().NewRaw("SELECT id FROM roles WHERE account_id = ? AND code = ? AND built_in", accountID, role.Owner).Scan(ctx, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return id, err == nil, db.Check(err)
}

// First makes the first user of an account, an owner, with a one-time link to choose a password by. made is false, and
// nothing happens, when the account has a user already. The roles of the account must be there.
func (s *Service) First(ctx context.Context, accountID, login, name string) (link Link, made bool, err error) {
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.Count[User](ctx, tx, auth.Account(accountID))
		if err != nil || n > 0 {
			return err
		}
		owner, found, err := ownerRole(ctx, tx, accountID)
		if err != nil {
			return err
		}
		if !found {
			return errors.New("first user: the account has no role of owners")
		}
		u := &User{Row: db.Row{ID: db.NewID("usr")}, Draft: Draft{Login: login, Name: name, RoleIDs: []string{owner}}}
		u.OwnerID = u.ID
		if err := u.check(); err != nil {
			return err
		}
		if err := db.Insert(ctx, tx, auth.Account(accountID), u); err != nil {
			return err
		}
		if err := s.stored(ctx, tx, auth.Caller{}, u); err != nil {
			return err
		}
		link, err = s.newLink(ctx, tx, u)
		made = err == nil
		return err
	})
	return link, made, err
}

// HasUser reports whether an account has a user of this id.
func (s *Service) HasUser(ctx context.Context, conn db.Conn, accountID, userID string) (bool, error) {
	n, err := db.Count[User](ctx, conn, auth.Account(accountID), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.id = ?", userID)
	})
	return n > 0, err
}

// DepartmentOf gives the department that a user is in, "" for none.
func (s *Service) DepartmentOf(ctx context.Context, conn db.Conn, accountID, userID string) (string, error) {
	u, err := db.Get[User](ctx, conn, auth.Account(accountID), userID)
	if err != nil {
		return "", err
	}
	return u.DepartmentID, nil
}

// secure reports whether browsers reach this by https.
func (s *Service) secure() bool { return strings.HasPrefix(s.PublicURL, "https:") }
