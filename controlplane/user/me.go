package user

import (
	"context"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Me is who asks, and what they may do.
type Me struct {
	AccountID   string               `json:"account_id"`
	AccountName string               `json:"account_name"`
	TimeZone    string               `json:"time_zone"`
	User        *User                `json:"user,omitempty"`       // for people
	APIKeyID    string               `json:"api_key_id,omitempty"` // for programs
	Permissions []string             `json:"permissions"`
	DataScopes  map[string]DataScope `json:"data_scopes"` // by resource, with "*" for those not named
	Masks       Masks                `json:"masks"`
	Session     *MySession           `json:"session,omitempty"`
	TOTP        *MyTOTP              `json:"totp,omitempty"`
}

// DataScope is which rows of a resource are seen: all, or those owned by these users or departments.
type DataScope struct {
	All           bool     `json:"all"`
	UserIDs       []string `json:"user_ids,omitempty"`
	DepartmentIDs []string `json:"department_ids,omitempty"`
}

// Masks are what is hidden.
type Masks struct {
	Numbers bool `json:"numbers"`
}

// MySession is the session that asks. A page that was loaded anew finds its token here: no other site can read it.
type MySession struct {
	ID        string    `json:"id"`
	CSRFToken string    `json:"csrf_token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// MyTOTP is the state of the user's one-time codes.
type MyTOTP struct {
	Enabled           bool  `json:"enabled"`
	RecoveryCodesLeft int64 `json:"recovery_codes_left"`
}

func (s *Service) me(ctx context.Context, who auth.Caller, _ struct{}) (*Me, error) {
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(who.AccountID))
	if err != nil {
		return nil, err
	}
	m := &Me{
		AccountID: a.ID, AccountName: a.Name, TimeZone: a.TimeZone, APIKeyID: who.KeyID, Permissions: who.Permissions,
		DataScopes: map[string]DataScope{}, Masks: Masks(who.Mask),
	}
	for resource, rows := range who.Reach {
		m.DataScopes[resource] = DataScope{All: rows.All, UserIDs: rows.Users, DepartmentIDs: rows.Departments}
	}
	if who.Reach == nil {
		m.DataScopes["*"] = DataScope{All: true}
	}
	if who.UserID == "" {
		return m, nil
	}
	if m.User, err = s.self(ctx, who); err != nil {
		return nil, err
	}
	held, err := secretOf(ctx, s.DB, who.UserID)
	if err != nil {
		return nil, err
	}
	m.TOTP = &MyTOTP{Enabled: held.TOTP != ""}
	err = s.DB.Read().NewRaw("SELECT count(*) FROM recovery_codes WHERE user_id = ?", who.UserID).Scan(ctx, &m.TOTP.RecoveryCodesLeft)
	if err != nil {
		return nil, db.Check(err)
	}
	if who.SessionID != "" {
		e, err := db.Get[Session](ctx, s.DB, auth.Account(who.AccountID), who.SessionID)
		if err != nil {
			return nil, err
		}
		m.Session = &MySession{ID: e.ID, CSRFToken: e.CSRF, ExpiresAt: e.expires()}
	}
	return m, nil
}

// self is the user who asks. The data scope of users does not matter: everyone may see himself.
func (s *Service) self(ctx context.Context, who auth.Caller) (*User, error) {
	if who.UserID == "" {
		return nil, problem.Refused("this is for people who are signed in; an API key has no password and no one-time codes")
	}
	return db.Get[User](ctx, s.DB, auth.Account(who.AccountID), who.UserID)
}

type changePasswordIn struct {
	Body struct {
		Current string `json:"current_password"`
		New     string `json:"new_password"`
	} `body:"json"`
}

// changePassword sets a new password and ends all other sessions of the user.
func (s *Service) changePassword(ctx context.Context, who auth.Caller, in changePasswordIn) (rest.None, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return rest.None{}, err
	}
	if err := checkPassword("/new_password", in.Body.New, u.Login); err != nil {
		return rest.None{}, err
	}
	if err := s.verify(ctx, u, in.Body.Current, who.Address, "/current_password"); err != nil {
		return rest.None{}, err
	}
	hash, err := s.hasher().Hash(ctx, in.Body.New)
	if err != nil {
		return rest.None{}, err
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return setPassword(ctx, tx, u, hash, who.SessionID) })
	if err == nil {
		s.Log.Info("user.password_set", "user_id", u.ID, "account_id", u.AccountID, "by", "user")
	}
	return rest.None{}, err
}
