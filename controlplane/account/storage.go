package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The events of an account whose Limits.StorageBytes were reached, and of one that has room again. Whoever may read the
// usage may read them.
const (
	EventStorageExceeded = "account.storage_exceeded"
	EventStorageFreed    = "account.storage_freed"
)

// storageEvent is the data of both.
type storageEvent struct {
	StorageBytes int64 `json:"storage_bytes"`
	LimitBytes   int64 `json:"limit_bytes"` // 0 for an account that has no limit any more
}

// Stored sums the bytes of an account's recordings and media. It reads each of their rows, which is fine for an upload and
// too much for the end of every call.
func Stored(ctx context.Context, conn db.Conn, id webhooks.AccountID) (recordings, media int64, err error) {
	for _, each := range []struct {
		into  *int64
		query string
	}{
		// PostgreSQL's sum of bigint is numeric.
		{&recordings, "SELECT CAST(coalesce(sum(size), 0) AS bigint) FROM recordings WHERE account_id = ?"},
		{&media, "SELECT CAST(coalesce(sum(size), 0) AS bigint) FROM media WHERE account_id = ?"},
	} {
		if err := conn.Read().NewRaw(each.query, id).Scan(ctx, each.into); err != nil {
			return 0, 0, db.Check(err)
		}
	}
	return recordings, media, nil
}

// Room refuses so many more bytes when an account would then store more than its Limits.StorageBytes.
//
// Why without a lock, unlike a limit of rows: the sum would be made while every other writer waits. Two uploads at the same
// time may together go beyond the limit by one of them.
func Room(ctx context.Context, conn db.Conn, id webhooks.AccountID, size int64) error {
	a, err := db.Get[Account](ctx, conn, auth.Account(string(id)), string(id))
	if err != nil || a.Limits.StorageBytes == 0 {
		return err
	}
	recordings, media, err := Stored(ctx, conn, id)
	if err != nil {
		return err
	}
	if used := recordings + media; used+size > a.Limits.StorageBytes {
		return problem.Refused(fmt.Sprintf("this account may store %d bytes and has %d, so that these %d do not fit; delete media or recordings, or ask the operator for more",
			a.Limits.StorageBytes, used, size), problem.Field("", "limit", "the limit storage_bytes of this account is %d", a.Limits.StorageBytes))
	}
	return nil
}

// WatchStorage emits EventStorageExceeded, once, when an account has come to store as much as its Limits.StorageBytes or
// more, and EventStorageFreed when it no longer does. Call it every few minutes, in any process.
//
// Why it looks from time to time, and not where bytes are stored: recordings are kept whatever the limit is, since nobody
// can make them again and somebody may have to show them, so that nothing waits for the answer; and a limit that is made
// smaller is noticed as well. What was told last is the account's latest event of the two. When that is no longer kept, and
// the account still has too much, it is told again.
func (s *Service) WatchStorage(ctx context.Context) error {
	return s.DB.Lock(ctx, "accounts.storage", func(ctx context.Context) error {
		accounts, err := db.List[Account](ctx, s.DB, auth.Everywhere())
		if err != nil {
			return err
		}
		var errs []error
		for i := range accounts {
			if err := s.watchStorage(ctx, &accounts[i]); err != nil {
				errs = append(errs, fmt.Errorf("storage of %s: %w", accounts[i].ID, err))
			}
		}
		return errors.Join(errs...)
	})
}

func (s *Service) watchStorage(ctx context.Context, a *Account) error {
	told, err := s.toldExceeded(ctx, a.ID)
	if err != nil {
		return err
	}
	limit := a.Limits.StorageBytes
	if limit == 0 && !told {
		return nil
	}
	recordings, media, err := Stored(ctx, s.DB, webhooks.AccountID(a.ID))
	if err != nil {
		return err
	}
	used := recordings + media
	kind := EventStorageFreed
	if limit > 0 && used >= limit {
		kind = EventStorageExceeded
	}
	if told == (kind == EventStorageExceeded) {
		return nil
	}
	data, err := json.Marshal(storageEvent{StorageBytes: used, LimitBytes: limit})
	if err != nil {
		return err
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		return event.Emit(ctx, tx, event.Event{AccountID: a.ID, Type: kind, Resource: "usage", ObjectID: a.ID, Data: data})
	})
}

// toldExceeded reports whether the last that was told of an account's storage is that it has too much.
func (s *Service) toldExceeded(ctx context.Context, id string) (bool, error) {
	var last string
	err := s.DB.Read().NewSelect().Model((*event.Event)(nil)).Column("type").Where("account_id = ?", id).Where("object_id = ?", id).
		Where("type IN (?, ?)", EventStorageExceeded, EventStorageFreed).OrderExpr("created_at DESC, id DESC").Limit(1).Scan(ctx, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return last == EventStorageExceeded, db.Check(err)
}
