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
	// sealMost bounds the journals of one round, and goneMost those removed in one.
	sealMost = 200
	goneMost = 500
	// sealTogether is how many are sealed in one transaction.
	sealTogether = 50
	// maxText bounds what is read of a blob: a journal has far less, even after several take-overs.
	maxText = 16 << 20
)

// Seal makes the blobs of journals that are whole, or of which nothing has come for ten minutes, and removes those of calls
// whose records are gone. Call it every few seconds, in any process: one does it at a time. It goes on with the other
// journals when one fails, and repeats that the next time.
func (s *Service) Seal(ctx context.Context) error {
	return s.DB.Lock(ctx, "journals.seal", func(ctx context.Context) error {
		return errors.Join(s.bury(ctx), s.sealAll(ctx))
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
		for part := range slices.Chunk(due, sealTogether) {
			errs = append(errs, s.seal(ctx, part)...)
		}
		// With a store that is away there is no point in trying all the others.
		if len(due) < sealMost || len(errs) > 0 {
			return errors.Join(errs...)
		}
		from = due[len(due)-1]
	}
}

// sealing is a journal whose next blob is written.
type sealing struct {
	*row
	chunks []chunk // what the blob has beyond the one before
}

// seal writes the next blob of journals, and then makes these theirs in one transaction.
func (s *Service) seal(ctx context.Context, due []row) (errs []error) {
	var written []sealing
	for i := range due {
		chunks, err := s.blob(ctx, &due[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("journal of %s: %w", due[i].CallID, err))
		} else if len(chunks) > 0 {
			written = append(written, sealing{&due[i], chunks})
		}
	}
	if len(written) == 0 {
		return errs
	}
	if err := s.settle(ctx, written); err != nil {
		return append(errs, err)
	}
	for _, w := range written {
		if w.Generation == 0 {
			continue
		}
		if err := s.Blobs.Delete(ctx, key(w.row, w.Generation)); err != nil {
			errs = append(errs, fmt.Errorf("journal of %s: %w", w.CallID, err))
		}
	}
	return errs
}

// blob writes a journal's next blob: what was in the one before, and the chunks, which it gives. Its key is new each time,
// so that one that dies halfway leaves the old one as it was, and who repeats it writes the same again.
func (s *Service) blob(ctx context.Context, r *row) ([]chunk, error) {
	chunks, err := s.chunks(ctx, r.AccountID, r.CallID)
	if err != nil || len(chunks) == 0 {
		return nil, err
	}
	members, err := s.sealed(ctx, r)
	if err != nil {
		return nil, err
	}
	if members, err = follow(members, r.SealedEpoch, r.SealedNumber, chunks); err != nil {
		return nil, err
	}
	return chunks, s.Blobs.Put(ctx, key(r, r.Generation+1), bytes.NewReader(members), int64(len(members)))
}

// settle makes the new blobs the journals', in place of their chunks.
func (s *Service) settle(ctx context.Context, all []sealing) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		var ids []string
		var keys []any
		// In the order of their keys, as in touch.
		slices.SortFunc(all, func(a, b sealing) int { return strings.Compare(a.CallID, b.CallID) })
		for _, w := range all {
			last := w.chunks[len(w.chunks)-1]
			_, err := tx.Write().NewUpdate().Model((*row)(nil)).
				Set("generation = ?", w.Generation+1).Set("sealed_epoch = ?", last.Epoch).Set("sealed_number = ?", last.Number).Set("pending = ?", false).
				Where("call_id = ?", w.CallID).Where("NOT gone").Exec(ctx)
			if err != nil {
				return db.Check(err)
			}
			ids = append(ids, w.CallID)
			for _, c := range w.chunks {
				keys = append(keys, c.CallID, c.Epoch, c.Number)
			}
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
	})
}

// bury removes the bytes of journals whose calls are gone, then their rows.
func (s *Service) bury(ctx context.Context) error {
	var gone []row
	if err := s.DB.Read().NewSelect().Model(&gone).Where("gone").OrderBy("call_id", bun.OrderAsc).Limit(goneMost).Scan(ctx); err != nil {
		return db.Check(err)
	}
	var errs []error
	for i := range gone {
		r := &gone[i]
		// The next one's too: a process may have died when it had written that, and not said so.
		err := errors.Join(s.Blobs.Delete(ctx, key(r, r.Generation)), s.Blobs.Delete(ctx, key(r, r.Generation+1)))
		if err == nil {
			_, err = s.DB.Write().NewDelete().Model(r).WherePK().Exec(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove the journal of %s: %w", r.CallID, err))
		}
	}
	return errors.Join(errs...)
}

func key(r *row, generation int64) string {
	return fmt.Sprintf("journals/%s/%s.%d.jsonl.gz", r.AccountID, r.CallID, generation)
}

// chunks are those that are not in the blob, in their order.
func (s *Service) chunks(ctx context.Context, accountID, callID string) ([]chunk, error) {
	var all []chunk
	err := s.DB.Read().NewSelect().Model(&all).Where("account_id = ?", accountID).Where("call_id = ?", callID).OrderExpr("epoch, number").Scan(ctx)
	return all, db.Check(err)
}

// sealed is the blob.
func (s *Service) sealed(ctx context.Context, r *row) ([]byte, error) {
	if r.Generation == 0 {
		return nil, nil
	}
	body, err := s.Blobs.Get(ctx, key(r, r.Generation), 0, -1)
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
		var chunks []chunk
		if chunks, err = s.chunks(ctx, accountID, callID); err != nil {
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
			members, err = follow(members, r.SealedEpoch, r.SealedNumber, after(r, chunks))
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
