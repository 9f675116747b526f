package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

const idempotencyHeader = "Idempotency-Key"

// idempotencyLife is how long a key answers as the first time.
const idempotencyLife = 24 * time.Hour

// idempotency is what is kept of one request with an Idempotency-Key.
type idempotency struct {
	bun.BaseModel `bun:"table:idempotency_keys"`

	AccountID   string      `bun:"account_id,pk"`
	ActorID     string      `bun:"actor_id,pk"`
	Key         string      `bun:"key,pk"`
	RequestHash string      `bun:"request_hash"`
	Status      int         `bun:"status"` // of the answer; or running, or carriedOut
	Headers     http.Header `bun:"headers,type:jsonb"`
	Body        string      `bun:"body"`
	LockedUntil time.Time   `bun:"locked_until"`
	ExpiresAt   time.Time   `bun:"expires_at"`
}

// What Status is before there is an answer.
const (
	running    = 0
	carriedOut = 1 // what the request changes is committed; Body is the id of the object it is about
)

// carriedOut writes, in the transaction of the change, that the request with this key has been carried out. So the key
// of a process that dies before it has stored the answer cannot be taken for one of a request that did nothing. A
// request that has lost its key, because its time was over, changes nothing.
func (q *request) carriedOut(ctx context.Context, tx *db.Tx, objectID string) error {
	if q.key == nil {
		return nil
	}
	result, err := tx.Write().NewUpdate().Model(q.key).Set("status = ?", carriedOut).Set("body = ?", objectID).WherePK().
		Where("locked_until = ?", q.key.LockedUntil).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = problem.Conflict("this request took so long that another with its Idempotency-Key was let in")
	}
	return err
}

// idempotent takes the key of a POST for this request, or answers with what the first request of that key was
// answered. A process that dies while the request runs leaves the key locked until the request's time is over.
func (q *request) idempotent(body []byte) (replayed bool, err error) {
	key := q.r.Header.Get(idempotencyHeader)
	if key == "" || q.method != http.MethodPost || q.permission == "" {
		return false, nil
	}
	if err := plain(idempotencyHeader, key); err != nil {
		return false, err
	}
	if len(key) > 255 {
		return false, problem.InvalidField(idempotencyHeader, "maxLength", "may have at most 255 bytes, has %d", len(key))
	}
	now := db.Now()
	mine := &idempotency{
		AccountID: q.who.AccountID, ActorID: q.who.ActorID(), Key: key, RequestHash: requestHash(q.r, body), Headers: http.Header{},
		LockedUntil: now.Add(q.cfg.Timeout*uploadFactor + time.Second), ExpiresAt: now.Add(idempotencyLife),
	}
	if q.stream == "" {
		mine.LockedUntil = now.Add(q.cfg.Timeout + time.Second)
	}
	ctx := q.r.Context()
	// The row is ours when there was none, or only one that is over.
	result, err := q.cfg.DB.Write().NewInsert().Model(mine).
		On("CONFLICT (account_id, actor_id, key) DO UPDATE").
		Set("request_hash = EXCLUDED.request_hash").Set("status = ?", running).Set("headers = EXCLUDED.headers").Set("body = ''").
		Set("locked_until = EXCLUDED.locked_until").Set("expires_at = EXCLUDED.expires_at").
		Where("?TableAlias.expires_at <= ?", now).
		WhereOr("?TableAlias.status = ? AND ?TableAlias.locked_until <= ?", running, now).
		Exec(ctx)
	if err != nil {
		return false, db.Check(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		q.key = mine
		return false, err
	}
	var first idempotency
	err = q.cfg.DB.Write().NewSelect().Model(&first).
		Where("account_id = ?", mine.AccountID).Where("actor_id = ?", mine.ActorID).Where("key = ?", key).Scan(ctx)
	if err != nil {
		return false, problem.Conflict("the first request with this Idempotency-Key has just failed; repeat it")
	}
	switch {
	case first.RequestHash != mine.RequestHash:
		return false, problem.Refused("this Idempotency-Key was used for another request; use a new key for a new request")
	case first.Status == carriedOut && first.LockedUntil.Before(now):
		return false, problem.Conflict("the first request with this Idempotency-Key was carried out, but its answer was lost; read " + first.Body + " instead of repeating it")
	case first.Status == running || first.Status == carriedOut:
		return false, problem.Conflict("the first request with this Idempotency-Key is still running; repeat it shortly")
	}
	// What is kept hides nothing: the caller may have a mask, or have got one since.
	text := []byte(first.Body)
	if q.who.Mask != (auth.Mask{}) && len(text) > 0 {
		if text, err = rewrite(text, q.answerSchema(first.Status), masking(q.who.Mask)); err != nil {
			return false, err
		}
	}
	first.Headers.Set("Idempotency-Replayed", "true")
	q.write(first.Status, first.Headers, text)
	return true, nil
}

// requestHash tells requests apart. The body of a stream is not part of it.
func requestHash(r *http.Request, body []byte) string {
	h := sha256.New()
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery} {
		// A hash takes all it is given.
		_, _ = h.Write([]byte(part + "\n"))
	}
	_, _ = h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// afterwards is a context for what must still be written when the caller has gone.
func (q *request) afterwards() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(q.r.Context()), 5*time.Second)
}

// keep stores the answer for repetitions.
func (q *request) keep(status int, header http.Header, body []byte) error {
	if q.key == nil {
		return nil
	}
	q.key.Status, q.key.Headers, q.key.Body = status, header, string(body)
	ctx, cancel := q.afterwards()
	defer cancel()
	_, err := q.cfg.DB.Write().NewUpdate().Model(q.key).Column("status", "headers", "body").WherePK().
		Where("locked_until = ?", q.key.LockedUntil).Exec(ctx)
	q.key = nil
	return db.Check(err)
}

// forget frees the key of a request that did nothing.
func (q *request) forget() {
	if q.key == nil {
		return
	}
	ctx, cancel := q.afterwards()
	defer cancel()
	_, err := q.cfg.DB.Write().NewDelete().Model(q.key).WherePK().
		Where("status = ?", running).Where("locked_until = ?", q.key.LockedUntil).Exec(ctx)
	if err != nil {
		q.cfg.Log.Error("rest.idempotency_lost", "request_id", q.id, "error", err.Error())
	}
	q.key = nil
}

// Purge removes the idempotency keys that are over; call it every hour or so.
func Purge(ctx context.Context, d *db.DB) error {
	_, err := d.Write().NewDelete().Model((*idempotency)(nil)).Where("expires_at <= ?", db.Now()).Exec(ctx)
	return db.Check(err)
}
