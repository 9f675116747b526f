package user

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// secret is by what a user is known to be himself.
type secret struct {
	bun.BaseModel `bun:"table:user_secrets"`

	UserID      string `bun:"user_id,pk"`
	AccountID   string `bun:"account_id"`
	Password    string `bun:"password,nullzero"` // a hash of Hasher; empty for none yet
	TOTP        string `bun:"totp,nullzero"`     // the key in base 32; empty when not in use
	TOTPPending string `bun:"totp_pending,nullzero"`
	TOTPStep    int64  `bun:"totp_step"` // of the last code taken
}

// secretOf reads a user's secrets. One who has none has the zero value.
func secretOf(ctx context.Context, conn db.Conn, userID string) (secret, error) {
	s := secret{UserID: userID}
	err := conn.Read().NewSelect().Model(&s).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return secret{UserID: userID}, nil
	}
	return s, db.Check(err)
}

// setPassword stores a password's hash, and ends what was open by the one before: all sessions but one, and every link.
func setPassword(ctx context.Context, tx *db.Tx, u *User, hash, exceptSession string) error {
	_, err := tx.Write().NewInsert().Model(&secret{UserID: u.ID, AccountID: u.AccountID, Password: hash}).
		On("CONFLICT (user_id) DO UPDATE").Set("password = EXCLUDED.password").Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	if _, err := tx.Write().NewRaw("DELETE FROM one_time_links WHERE user_id = ?", u.ID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	return endSessions(ctx, tx, u.AccountID, u.ID, exceptSession)
}

// errWrongPassword is the answer to a person who does not prove to be the one signed in (422: the session is good).
func errWrongPassword(pointer string) error {
	return problem.RefusedField(pointer, "password.wrong", "is not your password")
}
