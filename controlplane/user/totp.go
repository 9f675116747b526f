package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// One-time codes (RFC 6238): SHA-1, 6 digits, 30 seconds, which is what every authenticator can do.
const (
	codePeriod = 30 * time.Second
	codeDigits = otp.DigitsSix
	// codeSkew is how many periods a telephone's clock may be wrong by (RFC 6238 §5.2 has one).
	codeSkew = 1

	recoveryCodes = 10
)

func errTOTPMissing() error {
	p := problem.Unauthenticated("send totp as well: the code that the user's authenticator shows, or a recovery code")
	p.Errors = []problem.FieldError{problem.Field("/totp", "totp.required", "is required for this user")}
	return p
}

func errTOTPWrong() error {
	p := problem.Unauthenticated("the code is wrong, or was used already; wait for the next, or use a recovery code")
	p.Errors = []problem.FieldError{problem.Field("/totp", "totp.wrong", "is wrong, or was used already")}
	return p
}

// matchingStep finds the time step whose code this is, among those after last. found is false when there is none.
func matchingStep(key, code string, now time.Time, last int64) (step int64, found bool, err error) {
	at := now.Unix() / int64(codePeriod/time.Second)
	for step := at - codeSkew; step <= at+codeSkew; step++ {
		if step <= last || step < 0 {
			continue
		}
		want, err := hotp.GenerateCodeCustom(key, uint64(step), hotp.ValidateOpts{Digits: codeDigits, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			return step, true, nil
		}
	}
	return 0, false, nil
}

// plainCode is a code without what people type between its parts.
func plainCode(text string) string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(text))
}

// takeCode uses up a one-time code or a recovery code of a user. It is true once for each, however many try at once.
func (s *Service) takeCode(ctx context.Context, held secret, text string) (bool, error) {
	code := plainCode(text)
	if len(code) != codeDigits.Length() {
		return s.changedOne(ctx, s.DB.Write().NewRaw("DELETE FROM recovery_codes WHERE user_id = ? AND hash = ?", held.UserID, hashOf(code)))
	}
	step, found, err := matchingStep(held.TOTP, code, s.now(), held.TOTPStep)
	if err != nil || !found {
		return false, err
	}
	return s.changedOne(ctx, s.DB.Write().NewRaw("UPDATE user_secrets SET totp_step = ? WHERE user_id = ? AND totp = ? AND totp_step < ?",
		step, held.UserID, held.TOTP, step))
}

func (s *Service) changedOne(ctx context.Context, q *bun.RawQuery) (bool, error) {
	result, err := q.Exec(ctx)
	if err != nil {
		return false, db.Check(err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// Enrolment is a key that waits to be confirmed.
type Enrolment struct {
	Secret     string `json:"secret"`      // in base 32, to be typed
	OTPAuthURL string `json:"otpauth_url"` // to be shown as a QR code
}

// enrolTOTP makes a key for the user's authenticator. It is in use once a code of it was confirmed.
func (s *Service) enrolTOTP(ctx context.Context, who auth.Caller, _ struct{}) (*Enrolment, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return nil, err
	}
	held, err := secretOf(ctx, s.DB, u.ID)
	if err != nil {
		return nil, err
	}
	if held.TOTP != "" {
		return nil, errEnrolled()
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(u.AccountID))
	if err != nil {
		return nil, err
	}
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: strings.ReplaceAll(a.Name, ":", " "), AccountName: u.Login, Period: uint(codePeriod / time.Second), Digits: codeDigits, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return nil, err
	}
	_, err = s.DB.Write().NewInsert().Model(&secret{UserID: u.ID, AccountID: u.AccountID, TOTPPending: key.Secret()}).
		On("CONFLICT (user_id) DO UPDATE").Set("totp_pending = EXCLUDED.totp_pending").Exec(ctx)
	if err != nil {
		return nil, db.Check(err)
	}
	return &Enrolment{Secret: key.Secret(), OTPAuthURL: key.URL()}, nil
}

func errEnrolled() error {
	return problem.Conflict("one-time codes are in use already; disable them first")
}

type confirmTOTPIn struct {
	Body struct {
		Code string `json:"code"`
	} `body:"json"`
}

// Confirmed are the recovery codes, each of which signs in once without the authenticator. They are shown once.
type Confirmed struct {
	RecoveryCodes []string `json:"recovery_codes"`
}

func (s *Service) confirmTOTP(ctx context.Context, who auth.Caller, in confirmTOTPIn) (*Confirmed, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return nil, err
	}
	confirmed := &Confirmed{}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		held, err := secretOf(ctx, tx, u.ID)
		switch {
		case err != nil:
			return err
		case held.TOTP != "":
			return errEnrolled()
		case held.TOTPPending == "":
			return problem.Conflict("there is no key to confirm; enrol first")
		}
		step, found, err := matchingStep(held.TOTPPending, plainCode(in.Body.Code), s.now(), 0)
		if err != nil {
			return err
		}
		if !found {
			return problem.RefusedField("/code", "totp.wrong", "is not the code that goes with the key; check the time of the telephone")
		}
		_, err = tx.Write().NewRaw("UPDATE user_secrets SET totp = totp_pending, totp_pending = NULL, totp_step = ? WHERE user_id = ?", step, u.ID).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		confirmed.RecoveryCodes, err = newRecoveryCodes(ctx, tx, u)
		return err
	})
	if err != nil {
		return nil, err
	}
	return confirmed, nil
}

// recoveryCode is a row of the table of them.
type recoveryCode struct {
	bun.BaseModel `bun:"table:recovery_codes"`

	UserID    string `bun:"user_id,pk"`
	AccountID string `bun:"account_id"`
	Hash      string `bun:"hash,pk"`
}

// newRecoveryCodes makes a user's recovery codes anew: 80 random bits each, as ABCD-EFGH-IJKL-MNOP.
func newRecoveryCodes(ctx context.Context, tx *db.Tx, u *User) ([]string, error) {
	if _, err := tx.Write().NewRaw("DELETE FROM recovery_codes WHERE user_id = ?", u.ID).Exec(ctx); err != nil {
		return nil, db.Check(err)
	}
	codes, rows := make([]string, recoveryCodes), make([]recoveryCode, recoveryCodes)
	for i := range codes {
		random := make([]byte, 10)
		// rand.Read never fails (crypto/rand, since Go 1.24 it ends the process instead).
		_, _ = rand.Read(random)
		text := base32.StdEncoding.EncodeToString(random)
		codes[i] = text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:]
		rows[i] = recoveryCode{UserID: u.ID, AccountID: u.AccountID, Hash: hashOf(text)}
	}
	_, err := tx.Write().NewInsert().Model(&rows).Exec(ctx)
	return codes, db.Check(err)
}

type disableTOTPIn struct {
	Body struct {
		Password string `json:"password"`
	} `body:"json"`
}

func (s *Service) disableTOTP(ctx context.Context, who auth.Caller, in disableTOTPIn) (rest.None, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return rest.None{}, err
	}
	if err := s.verify(ctx, u, in.Body.Password, who.Address, "/password"); err != nil {
		return rest.None{}, err
	}
	return rest.None{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return forgetTOTP(ctx, tx, u.ID) })
}

type removeTOTPIn struct {
	ID      string `path:"user_id"`
	IfMatch string `header:"If-Match"`
}

// removeTOTP is for a user who has lost the authenticator and the recovery codes. One's own needs the password.
func (s *Service) removeTOTP(ctx context.Context, who auth.Caller, in removeTOTPIn) (rest.None, error) {
	_, err := db.ChangeTx(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(ctx context.Context, tx *db.Tx, u *User) error {
		if u.ID == who.UserID {
			return problem.Conflict("disable your own one-time codes with your password (POST /v1/me/totp/disable)")
		}
		if err := s.mayManage(ctx, tx, who, u); err != nil {
			return err
		}
		return forgetTOTP(ctx, tx, u.ID)
	})
	return rest.None{}, err
}

func forgetTOTP(ctx context.Context, tx *db.Tx, userID string) error {
	if _, err := tx.Write().NewRaw("UPDATE user_secrets SET totp = NULL, totp_pending = NULL WHERE user_id = ?", userID).Exec(ctx); err != nil {
		return db.Check(err)
	}
	_, err := tx.Write().NewRaw("DELETE FROM recovery_codes WHERE user_id = ?", userID).Exec(ctx)
	return db.Check(err)
}
