package journal

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

const (
	// quiet is how long nothing has come of a journal that is not whole before it is sealed as it is: its edge is dead, or
	// nothing happens in the call. What comes later is added.
	quiet = 10 * time.Minute
	// sealMost bounds the journals of one round, goneMost those removed in one, and shedMost the blobs that are cleared.
	sealMost = 200
	goneMost = 500
	shedMost = 100
	// sealTogether is how many journals share a blob at most, and blobRoom the octets after which it is full.
	sealTogether = 100
	blobRoom     = 4 << 20
	// maxText bounds what is read of a journal: it has far less, even after several take-overs.
	maxText = 16 << 20
)

// Seal moves journals that are whole, or of which nothing has come for ten minutes, into blobs, and removes the bytes of
// those whose calls are gone. Call it every few seconds, in any process: one does it at a time. It goes on with the other
// journals when one fails, and repeats that the next time.
//
// Why many share a blob: a file of its own for each cost more than all else that the journal does for a short call.
func (s *Service) Seal(ctx context.Context) error {
	return s.DB.Lock(ctx, "journals.seal", func(ctx context.Context) error {
		return errors.Join(s.bury(ctx), s.sealAll(ctx), s.shedAll(ctx))
	})
}

func (s *Service) sealAll(ctx context.Context) error {
	var errs []error
	from := row{}
	for {
		var due []row
		err := s.DB.Read().NewSelect().Model(&due).Where("pending").Where("NOT gone").
			Where("(whole OR updated_at < ?)", db.Now().Add(-quiet)).Where("(updated_at, call_id) > (?, ?)", from.UpdatedAt, from.CallID).
			OrderExpr("updated_at, call_id").Limit(sealMost).Scan(ctx)
		if err != nil {
			return errors.Join(append(errs, db.Check(err))...)
		}
		accounts := map[string][]*row{}
		for i := range due {
			accounts[due[i].AccountID] = append(accounts[due[i].AccountID], &due[i])
		}
		for account, rows := range accounts {
			for part := range slices.Chunk(rows, sealTogether) {
				errs = append(errs, s.seal(ctx, account, part)...)
			}
		}
		// With a store that is away there is no point in trying all the others.
		if len(due) < sealMost || len(errs) > 0 {
			return errors.Join(errs...)
		}
		from = due[len(due)-1]
	}
}

// seal moves journals of one account into blobs.
func (s *Service) seal(ctx context.Context, account string, due []*row) (errs []error) {
	ids := make([]string, len(due))
	for i, r := range due {
		ids[i] = r.CallID
	}
	chunks, err := s.chunks(ctx, account, ids...)
	if err != nil {
		return []error{err}
	}
	b := batch{account: account}
	for _, r := range due {
		members, err := s.sealed(ctx, r)
		if err == nil {
			members, err = follow(members, r.SealedEpoch, r.SealedNumber, chunks[r.CallID])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("journal of %s: %w", r.CallID, err))
			continue
		}
		if b.full(members) {
			errs = append(errs, s.write(ctx, &b))
			b = batch{account: account}
		}
		b.add(r, members, chunks[r.CallID])
	}
	return append(errs, s.write(ctx, &b))
}

// batch is journals of one account whose bytes go into one blob.
type batch struct {
	account string
	body    []byte
	parts   []part
}

// part is where a journal will lie.
type part struct {
	*row
	chunks       []chunk // what it has beyond its bytes so far
	offset, size int64
}

func (b *batch) full(next []byte) bool { return len(b.parts) > 0 && len(b.body)+len(next) > blobRoom }

func (b *batch) add(r *row, members []byte, chunks []chunk) {
	b.parts = append(b.parts, part{r, chunks, int64(len(b.body)), int64(len(members))})
	b.body = append(b.body, members...)
}

// blobRow says that there is, or may be, a blob.
type blobRow struct {
	bun.BaseModel `bun:"table:journal_blobs"`

	Blob      string    `bun:"blob,pk"`
	AccountID string    `bun:"account_id"`
	Shed      bool      `bun:"shed"`
	CreatedAt time.Time `bun:"created_at"`
}

// write writes a batch's blob and then makes it the journals'. When that fails they stay as they are, and the blob is one
// to be removed.
func (s *Service) write(ctx context.Context, b *batch) error {
	if len(b.parts) == 0 {
		return nil
	}
	written := blobRow{Blob: "journals/" + b.account + "/" + db.NewID("jnl") + ".gz", AccountID: b.account, Shed: true, CreatedAt: db.Now()}
	if _, err := s.DB.Write().NewInsert().Model(&written).Exec(ctx); err != nil {
		return db.Check(err)
	}
	if err := s.Blobs.Put(ctx, written.Blob, bytes.NewReader(b.body), int64(len(b.body))); err != nil {
		return err
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return settle(ctx, tx, written.Blob, b.parts) })
}

// settle makes a blob the journals', in place of their chunks and of where they lay before.
func settle(ctx context.Context, tx *db.Tx, key string, parts []part) error {
	// In the order of their keys, as in touch.
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.CallID, b.CallID) })
	var ids, before []string
	var keys []any
	shed := false
	for _, p := range parts {
		set := tx.Write().NewUpdate().Model((*row)(nil)).Set("blob = ?", key).Set("blob_offset = ?", p.offset).Set("blob_size = ?", p.size)
		if n := len(p.chunks); n > 0 || p.Pending {
			set = set.Set("pending = ?", false)
		}
		if n := len(p.chunks); n > 0 {
			set = set.Set("sealed_epoch = ?", p.chunks[n-1].Epoch).Set("sealed_number = ?", p.chunks[n-1].Number)
		}
		result, err := set.Where("call_id = ?", p.CallID).Where("NOT gone").Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			shed = true // its call has gone meanwhile
		}
		ids = append(ids, p.CallID)
		if p.Blob != "" {
			before = append(before, p.Blob)
		}
		for _, c := range p.chunks {
			keys = append(keys, c.CallID, c.Epoch, c.Number)
		}
	}
	if err := remove(ctx, tx, keys, ids); err != nil {
		return err
	}
	if _, err := tx.Write().NewUpdate().Model((*blobRow)(nil)).Set("shed = ?", shed).Where("blob = ?", key).Exec(ctx); err != nil {
		return db.Check(err)
	}
	return leave(ctx, tx, before)
}

// remove deletes chunks by their keys, call, epoch and number in turn, of these journals.
func remove(ctx context.Context, tx *db.Tx, keys []any, ids []string) error {
	if len(keys) == 0 {
		return nil
	}
	list := strings.TrimSuffix(strings.Repeat("(?, ?, ?), ", len(keys)/3), ", ")
	_, err := tx.Write().NewDelete().Model((*chunk)(nil)).Where("(call_id, epoch, number) IN (VALUES "+list+")", keys...).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	// One may have come meanwhile.
	_, err = tx.Write().NewUpdate().Model((*row)(nil)).Set("pending = ?", true).Where("call_id IN (?)", bun.List(ids)).Where("NOT gone").
		Where("EXISTS (SELECT 1 FROM journal_chunks AS c WHERE c.call_id = ?TableAlias.call_id)").Exec(ctx)
	return db.Check(err)
}

// leave notes that blobs have bytes that are no journal's any more.
func leave(ctx context.Context, tx *db.Tx, blobs []string) error {
	if len(blobs) == 0 {
		return nil
	}
	_, err := tx.Write().NewUpdate().Model((*blobRow)(nil)).Set("shed = ?", true).Where("blob IN (?)", bun.List(blobs)).Exec(ctx)
	return db.Check(err)
}

// bury removes the rows of journals whose calls are gone; their bytes follow.
func (s *Service) bury(ctx context.Context) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var gone []row
		if err := tx.Read().NewSelect().Model(&gone).Where("gone").OrderBy("call_id", bun.OrderAsc).Limit(goneMost).Scan(ctx); err != nil || len(gone) == 0 {
			return db.Check(err)
		}
		var ids, blobs []string
		for _, r := range gone {
			ids = append(ids, r.CallID)
			if r.Blob != "" {
				blobs = append(blobs, r.Blob)
			}
		}
		if err := leave(ctx, tx, blobs); err != nil {
			return err
		}
		_, err := tx.Write().NewDelete().Model((*row)(nil)).Where("call_id IN (?)", bun.List(ids)).Exec(ctx)
		return db.Check(err)
	})
}

// shedAll removes blobs with bytes that are no journal's, after it has moved what is still one's.
func (s *Service) shedAll(ctx context.Context) error {
	var found []blobRow
	if err := s.DB.Read().NewSelect().Model(&found).Where("shed").OrderBy("blob", bun.OrderAsc).Limit(shedMost).Scan(ctx); err != nil {
		return db.Check(err)
	}
	var errs []error
	for i := range found {
		if err := s.shed(ctx, &found[i]); err != nil {
			errs = append(errs, fmt.Errorf("journals in %s: %w", found[i].Blob, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Service) shed(ctx context.Context, old *blobRow) error {
	var left []row
	err := s.DB.Read().NewSelect().Model(&left).Where("blob = ?", old.Blob).Where("NOT gone").OrderBy("blob_offset", bun.OrderAsc).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	b := batch{account: old.AccountID}
	for i := range left {
		members, err := s.sealed(ctx, &left[i])
		if err != nil {
			return fmt.Errorf("journal of %s: %w", left[i].CallID, err)
		}
		left[i].Pending = false // as far as this concerns
		b.add(&left[i], members, nil)
	}
	if err := s.write(ctx, &b); err != nil {
		return err
	}
	if err := s.Blobs.Delete(ctx, old.Blob); err != nil {
		return err
	}
	_, err = s.DB.Write().NewDelete().Model(old).WherePK().Exec(ctx)
	return db.Check(err)
}

// chunks are those of journals that are not in blobs, in their order.
func (s *Service) chunks(ctx context.Context, accountID string, callIDs ...string) (map[string][]chunk, error) {
	var all []chunk
	err := s.DB.Read().NewSelect().Model(&all).Where("account_id = ?", accountID).Where("call_id IN (?)", bun.List(callIDs)).
		OrderExpr("call_id, epoch, number").Scan(ctx)
	if err != nil {
		return nil, db.Check(err)
	}
	journals := map[string][]chunk{}
	for _, c := range all {
		journals[c.CallID] = append(journals[c.CallID], c)
	}
	return journals, nil
}

// sealed is what lies in a blob of a journal.
func (s *Service) sealed(ctx context.Context, r *row) ([]byte, error) {
	if r.Blob == "" {
		return nil, nil
	}
	body, err := s.Blobs.Get(ctx, r.Blob, r.BlobOffset, r.BlobSize)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }() // it was read
	return io.ReadAll(io.LimitReader(body, maxText))
}

// unpack decompresses a blob, as far as it goes: what is damaged at its end does not hide what is before.
func unpack(body io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(body)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxText))
	if err != nil && len(text) == 0 {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return text, nil
}

// pack compresses what an edge has not.
func pack(text []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = z.Write(text)
	}
	if err == nil {
		err = z.Close()
	}
	return out.Bytes(), err
}

// text is all that there is of a call's journal, and whether that is all there will be.
func (s *Service) text(ctx context.Context, accountID, callID string) (text []byte, whole bool, err error) {
	// A blob that is replaced between looking and reading is looked for once more.
	for range 3 {
		// The chunks before the row: what is sealed in between is then in both, and not in neither.
		var journals map[string][]chunk
		if journals, err = s.chunks(ctx, accountID, callID); err != nil {
			return nil, false, err
		}
		var found []row
		err = s.DB.Read().NewSelect().Model(&found).Where("account_id = ?", accountID).Where("call_id = ?", callID).Where("NOT gone").Scan(ctx)
		if err != nil || len(found) == 0 {
			return nil, false, db.Check(err)
		}
		r := &found[0]
		var members []byte
		if members, err = s.sealed(ctx, r); errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err == nil {
			members, err = follow(members, r.SealedEpoch, r.SealedNumber, after(r, journals[callID]))
		}
		if err != nil || len(members) == 0 {
			return nil, r.Whole, err
		}
		text, err = unpack(bytes.NewReader(members))
		return text, r.Whole, err
	}
	return nil, false, err
}

// after are the chunks that come after what is in the blob: they may have been read before it was made.
func after(r *row, chunks []chunk) []chunk {
	for len(chunks) > 0 && (chunks[0].Epoch < r.SealedEpoch || chunks[0].Epoch == r.SealedEpoch && chunks[0].Number <= r.SealedNumber) {
		chunks = chunks[1:]
	}
	return chunks
}
