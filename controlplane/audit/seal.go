package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// MaxBatch is the most entries of one batch.
const MaxBatch = 500

// Sealer seals what was written. Any number of processes may do so at once.
type Sealer struct {
	DB    *db.DB
	Blobs *blob.Store
	Log   *slog.Logger
	// Secret is the installation's: its 32 bytes are the seed of the Ed25519 key that signs.
	Secret []byte
	// Within is how long an entry may stay unsealed while there are fewer than MaxBatch; 0 for 5 minutes. What is removed
	// from the database in that time is not missed. A batch is one blob, so a shorter time makes more blobs.
	Within time.Duration
}

// due is an account with entries to seal.
type due struct {
	AccountID string    `bun:"account_id"`
	Count     int64     `bun:"count"`
	Oldest    time.Time `bun:"oldest"`
}

// Seal is one round: it puts into blob storage what an earlier round could not, and seals the entries of every account
// that are due. Call it every minute or so. An account that fails holds back no other.
func (s *Sealer) Seal(ctx context.Context) error {
	return s.DB.Lock(ctx, "audit.seal", func(ctx context.Context) error {
		if err := s.pinKey(ctx); err != nil {
			return err
		}
		errs := []error{s.finish(ctx)}
		accounts, err := s.due(ctx)
		errs = append(errs, err)
		for _, account := range accounts {
			if err := s.account(ctx, account); err != nil {
				errs = append(errs, fmt.Errorf("seal the audit of %q: %w", account, err))
			}
		}
		return errors.Join(errs...)
	})
}

// due lists the accounts that have an entry which was not sealed in time, or enough for a batch.
func (s *Sealer) due(ctx context.Context) ([]string, error) {
	var found []due
	err := s.DB.Read().NewSelect().Table("audit_entries").Column("account_id").
		ColumnExpr("count(*) AS count").ColumnExpr("min(created_at) AS oldest").
		Where("sealed_in IS NULL").Group("account_id").OrderBy("account_id", bun.OrderAsc).Scan(ctx, &found)
	if err != nil {
		return nil, db.Check(err)
	}
	before := db.Now().Add(-cmp.Or(s.Within, 5*time.Minute))
	var accounts []string
	for _, d := range found {
		if d.Count >= MaxBatch || !d.Oldest.After(before) {
			accounts = append(accounts, d.AccountID)
		}
	}
	return accounts, nil
}

// account seals all entries of one account.
func (s *Sealer) account(ctx context.Context, account string) error {
	for {
		n, err := s.batch(ctx, account)
		if err != nil || n < MaxBatch {
			return err
		}
	}
}

// batch seals the oldest entries of an account, and says how many.
func (s *Sealer) batch(ctx context.Context, account string) (n int, err error) {
	last, err := newest(ctx, s.DB, account)
	if err != nil {
		return 0, err
	}
	next, found, err := s.after(ctx, account, last)
	if err != nil || !found {
		return 0, err
	}
	var made *row
	err = s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		made, err = s.write(ctx, tx, last, next)
		return err
	})
	if err != nil || made == nil {
		return 0, err
	}
	// From here on the batch stands; finish puts it there when this fails.
	return len(made.Entries), s.store(ctx, made)
}

// newest is the last batch of an account, or nil.
func newest(ctx context.Context, conn db.Conn, account string) (*row, error) {
	last := new(row)
	err := conn.Read().NewSelect().Model(last).Where("account_id = ?", account).OrderBy("number", bun.OrderDesc).Limit(1).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return last, db.Check(err)
}

// link is where a chain goes on.
type link struct {
	account  string
	number   int64
	previous string
}

// after is the link behind the last batch. Where blob storage has batches that SQL has lost, because its end was cut off
// or an older copy of it was restored, the chain goes on behind those: so Verify keeps naming what is missing, and no
// signed root is overwritten. found is false when another process has made a batch meanwhile.
func (s *Sealer) after(ctx context.Context, account string, last *row) (next link, found bool, err error) {
	next = link{account: account, number: 1}
	if last != nil {
		text, err := last.sealed()
		if err != nil {
			return link{}, false, err
		}
		next.number, next.previous = last.Number+1, sum(text.Batch)
	}
	for {
		stored, err := readBlob[sealed](ctx, s.Blobs, batchBlob(account, next.number))
		switch {
		case errors.Is(err, blob.ErrNotFound):
			return next, true, nil
		case err != nil && !errors.Is(err, errUnreadable):
			return link{}, false, err
		}
		if now, err := newest(ctx, s.DB, account); err != nil || !same(now, last) {
			return link{}, false, err
		}
		s.Log.Error("audit.batch_lost", "account_id", account, "batch", next.number)
		next.number, next.previous = next.number+1, sum(stored.Batch)
	}
}

// same reports whether two batches of an account, or their absence, are one.
func same(a, b *row) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Number == b.Number
}

// write makes the next batch of what is not sealed, unless there is nothing, or another process was faster.
func (s *Sealer) write(ctx context.Context, tx *db.Tx, last *row, next link) (*row, error) {
	now, err := newest(ctx, tx, next.account)
	if err != nil {
		return nil, err
	}
	if !same(now, last) {
		return nil, nil
	}
	var entries []Entry
	err = tx.Read().NewSelect().Model(&entries).Where("account_id = ?", next.account).Where("sealed_in IS NULL").
		OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Limit(MaxBatch).Scan(ctx)
	if err != nil || len(entries) == 0 {
		return nil, db.Check(err)
	}
	made, err := s.sign(next, entries)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Write().NewInsert().Model(made).Exec(ctx); err != nil {
		return nil, db.Check(err)
	}
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	result, err := tx.Write().NewUpdate().Table("audit_entries").Set("sealed_in = ?", next.number).
		Where("account_id = ?", next.account).Where("sealed_in IS NULL").Where("id IN (?)", bun.List(ids)).Exec(ctx)
	if err != nil {
		return nil, db.Check(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(len(ids)) {
		return nil, errors.Join(fmt.Errorf("%d of %d entries were sealed", n, len(ids)), err)
	}
	return made, nil
}

// sign makes the batch of entries, which are in their order.
func (s *Sealer) sign(at link, entries []Entry) (*row, error) {
	key := s.key()
	b := Batch{
		Version: version, AccountID: at.account, Number: at.number, Previous: at.previous, SealedAt: db.Now(), Count: int64(len(entries)),
		FirstID: entries[0].ID, LastID: entries[len(entries)-1].ID, LatestAt: entries[len(entries)-1].CreatedAt.UTC(), PublicKey: encodeKey(key),
	}
	if b.LatestAt.After(b.SealedAt) {
		b.LatestAt = b.SealedAt
	}
	for i := range entries {
		b.Entries = append(b.Entries, Leaf{ID: entries[i].ID, SHA256: hash(&entries[i])})
	}
	var err error
	if b.Root, err = root(b.Entries); err != nil {
		return nil, err
	}
	text, err := b.signed()
	if err != nil {
		return nil, err
	}
	return newRow(b, ed25519.Sign(key, text)), nil
}

func (s *Sealer) key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(s.Secret) }

func encodeKey(key ed25519.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
}

// finish puts into blob storage the batches that were sealed, but did not get there.
func (s *Sealer) finish(ctx context.Context) error {
	var rows []row
	err := s.DB.Write().NewSelect().Model(&rows).Where("rooted = ?", false).
		OrderBy("account_id", bun.OrderAsc).OrderBy("number", bun.OrderAsc).Limit(MaxBatch).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	var errs []error
	for i := range rows {
		if err := s.store(ctx, &rows[i]); err != nil {
			errs = append(errs, fmt.Errorf("store batch %d of the audit of %q: %w", rows[i].Number, rows[i].AccountID, err))
		}
	}
	return errors.Join(errs...)
}

// store puts a batch into blob storage. It never overwrites one, nor stores what we have not signed: a row that was
// edited, and marked as not stored, would take the true one away.
func (s *Sealer) store(ctx context.Context, r *row) error {
	text, err := r.sealed()
	if err != nil {
		return err
	}
	if _, err := text.read(s.key().Public().(ed25519.PublicKey)); err != nil {
		return fmt.Errorf("it was edited: it %w", err)
	}
	name := batchBlob(r.AccountID, r.Number)
	had, err := readBlob[sealed](ctx, s.Blobs, name)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		if err := writeBlob(ctx, s.Blobs, name, text); err != nil {
			return err
		}
	case err != nil:
		return err
	case !bytes.Equal(had.Batch, text.Batch):
		return fmt.Errorf("blob storage has another %s", name)
	}
	_, err = s.DB.Write().NewUpdate().Table("audit_batches").Set("rooted = ?", true).
		Where("account_id = ?", r.AccountID).Where("number = ?", r.Number).Exec(ctx)
	return db.Check(err)
}

// pinKey puts the public key into blob storage when there is none, so that a key exchanged in the database is noticed.
func (s *Sealer) pinKey(ctx context.Context) error {
	if len(s.Secret) != ed25519.SeedSize {
		return fmt.Errorf("the secret of the audit must have %d bytes, has %d", ed25519.SeedSize, len(s.Secret))
	}
	mine := publicKey{PublicKey: encodeKey(s.key()), CreatedAt: db.Now()}
	pinned, err := readBlob[publicKey](ctx, s.Blobs, keyBlob)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return writeBlob(ctx, s.Blobs, keyBlob, mine)
	case err != nil && !errors.Is(err, errUnreadable):
		return err
	case err != nil || pinned.PublicKey != mine.PublicKey:
		// Sealing goes on: Verify tells what was signed by another key.
		s.Log.Error("audit.key_differs", "pinned", pinned.PublicKey, "in_use", mine.PublicKey)
	}
	return nil
}

// errUnreadable is a blob that is not what we wrote.
var errUnreadable = errors.New("is not what was written")

// maxBlob is more bytes than a batch has.
const maxBlob = 1 << 20

// readBlob reads a blob of JSON. It is blob.ErrNotFound, errUnreadable, or what kept it from being read.
func readBlob[T any](ctx context.Context, blobs *blob.Store, name string) (value T, err error) {
	body, err := blobs.Get(ctx, name, 0, maxBlob)
	if err != nil {
		return value, fmt.Errorf("%s: %w", name, err)
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return value, fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(text, &value); err != nil {
		return value, fmt.Errorf("%s %w: %w", name, errUnreadable, err)
	}
	// Byte for byte: encoding/json overlooks the case of a member, and members that it does not know.
	if again, err := json.Marshal(value); err != nil || !bytes.Equal(again, text) {
		return value, errors.Join(fmt.Errorf("%s %w", name, errUnreadable), err)
	}
	return value, nil
}

func writeBlob(ctx context.Context, blobs *blob.Store, name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := blobs.Put(ctx, name, bytes.NewReader(text), int64(len(text))); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
