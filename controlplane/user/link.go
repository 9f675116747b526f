package user

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// linkFor is how long a one-time link can be used.
const linkFor = 24 * time.Hour

// linkPrefix begins the text of a link, so that secret scanners know it.
const linkPrefix = "lnk_"

// Link is a one-time link, by which a user chooses a password. It is shown when it is made and never again.
type Link struct {
	Token     string    `json:"token"`
	URL       string    `json:"url"` // of the console's page, with the token behind #, which no server or log sees
	ExpiresAt time.Time `json:"expires_at"`
}

// storedLink is a row of the table of links.
type storedLink struct {
	bun.BaseModel `bun:"table:one_time_links"`

	Hash      string    `bun:"hash,pk"`
	AccountID string    `bun:"account_id"`
	UserID    string    `bun:"user_id"`
	CreatedAt time.Time `bun:"created_at"`
	ExpiresAt time.Time `bun:"expires_at"`
}

// newLink makes a link for a user; those from before no longer work.
func (s *Service) newLink(ctx context.Context, tx *db.Tx, u *User) (Link, error) {
	if _, err := tx.Write().NewRaw("DELETE FROM one_time_links WHERE user_id = ?", u.ID).Exec(ctx); err != nil {
		return Link{}, db.Check(err)
	}
	now := s.now()
	link := Link{Token: linkPrefix + secretText(), ExpiresAt: now.Add(linkFor)}
	link.URL = s.PublicURL + "/link#" + link.Token
	_, err := tx.Write().NewInsert().Model(&storedLink{
		Hash: hashOf(link.Token), AccountID: u.AccountID, UserID: u.ID, CreatedAt: now, ExpiresAt: link.ExpiresAt,
	}).Exec(ctx)
	return link, db.Check(err)
}

type createLinkIn struct {
	ID string `path:"user_id"`
}

// createLink makes a link for a first sign-in or a forgotten password. What is open by the password there is stays open
// until the link is used.
func (s *Service) createLink(ctx context.Context, who auth.Caller, in createLinkIn) (*Link, error) {
	var link Link
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		u, err := db.Get[User](ctx, tx, who.Scope, in.ID)
		if err != nil {
			return err
		}
		if err := s.mayManage(ctx, tx, who, u); err != nil {
			return err
		}
		if u.Status != Active {
			return problem.Conflict("this user is disabled; enable the user first")
		}
		link, err = s.newLink(ctx, tx, u)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &link, nil
}

type useLinkIn struct {
	Body struct {
		Token    string `json:"token"`
		Password string `json:"password"`
	} `body:"json"`
}

// LinkUsed says whose password a link has set: what to sign in with.
type LinkUsed struct {
	Account string `json:"account"`
	Login   string `json:"login"`
	Name    string `json:"name"`
}

// useLink sets a password by a link, which is then used up, and ends the user's sessions. Signing in is another request:
// a user with one-time codes needs one still.
func (s *Service) useLink(ctx context.Context, _ auth.Caller, in useLinkIn) (*LinkUsed, error) {
	u, err := s.ofLink(ctx, s.DB, in.Body.Token)
	if err != nil {
		return nil, err
	}
	if err := checkPassword("/password", in.Body.Password, u.Login); err != nil {
		return nil, err
	}
	// Outside of the transaction: it takes long.
	hash, err := s.hasher().Hash(ctx, in.Body.Password)
	if err != nil {
		return nil, err
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		result, err := tx.Write().NewRaw("DELETE FROM one_time_links WHERE hash = ?", hashOf(in.Body.Token)).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, errLinkUsed())
		}
		return setPassword(ctx, tx, u, hash, "")
	})
	if err != nil {
		return nil, err
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(u.AccountID))
	if err != nil {
		return nil, err
	}
	// Whoever was let down by too many wrong passwords goes on with the right one.
	if err := s.lockout().forget(ctx, guessed(u)); err != nil {
		s.Log.Warn("session.failures_kept", "user_id", u.ID, "error", err.Error())
	}
	s.Log.Info("user.password_set", "user_id", u.ID, "account_id", u.AccountID, "by", "link")
	return &LinkUsed{Account: a.Name, Login: u.Login, Name: u.Name}, nil
}

// errLinkUsed is the one answer to a link that does not work.
func errLinkUsed() error {
	return problem.RefusedField("/token", "link", "was used already, is older than a day, or was replaced by another; ask an administrator for a new one")
}

// ofLink gives the user of a link that works.
func (s *Service) ofLink(ctx context.Context, conn db.Conn, token string) (*User, error) {
	var l storedLink
	err := conn.Read().NewSelect().Model(&l).Where("hash = ?", hashOf(token)).Where("expires_at > ?", s.now()).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errLinkUsed()
	}
	if err != nil {
		return nil, db.Check(err)
	}
	o, err := s.loadUser(ctx, l.AccountID, l.UserID)
	if err != nil {
		return nil, err
	}
	return &o.user, nil
}
