// Package journal owns the journals of calls: the chunks that edges publish, the one compressed blob that is made of them
// when a call has ended, and their reading, as JSON or as a ladder for people, with numbers hidden from those who may not
// see them. What is kept in a journal, and what never is, is decided by the edge that writes it; where bytes lie, by
// package blob.
package journal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Chunk is a piece of a journal as its edge sends it: lines, each an entry, plain or compressed by gzip. Numbers are from 1, without a gap, per call and
// epoch; Last says that nothing follows.
type Chunk struct {
	Number int
	Text   []byte
	Last   bool
}

// Service is the journals of an installation.
type Service struct {
	DB    *db.DB
	Blobs *blob.Store
	Calls *call.Service

	group db.Group[*piece]
}

// row is what is known of a journal. Its call's record may be gone already.
type row struct {
	bun.BaseModel `bun:"table:journals"`

	CallID       string    `bun:"call_id,pk"`
	AccountID    string    `bun:"account_id"`
	Whole        bool      `bun:"whole"`
	Pending      bool      `bun:"pending"`
	Gone         bool      `bun:"gone"`
	Blob         string    `bun:"blob,nullzero"` // "" for none
	BlobOffset   int64     `bun:"blob_offset"`
	BlobSize     int64     `bun:"blob_size"` // -1: to its end
	SealedEpoch  int64     `bun:"sealed_epoch"`
	SealedNumber int64     `bun:"sealed_number"`
	CreatedAt    time.Time `bun:"created_at"`
	UpdatedAt    time.Time `bun:"updated_at"`
}

// chunk is one that is not in the blob.
type chunk struct {
	bun.BaseModel `bun:"table:journal_chunks"`

	CallID    string `bun:"call_id,pk"`
	Epoch     int64  `bun:"epoch,pk"`
	Number    int64  `bun:"number,pk"`
	AccountID string `bun:"account_id"`
	Entries   string `bun:"entries"`
}

// Bounds of what an edge may send. Its own are lower: see edge/control.MaxJournal.
const (
	maxChunk  = 512 << 10 // octets of one chunk
	maxChunks = 4096      // of an epoch
)

// ids are what our own ids look like: their letters are safe in the key of a blob.
var ids = regexp.MustCompile(`^[a-z]+_[0-9A-Za-z]+$`)

// Append stores chunks of a call whose events are stored already. It is idempotent by (call, epoch, number). Errors:
// call.ErrFenced, call.ErrRefused; with any other the chunks may be sent again.
//
// Chunks of several journals share a transaction: an edge sends several at once.
func (s *Service) Append(ctx context.Context, o call.Owner, chunks []Chunk) error {
	if len(chunks) == 0 {
		return nil
	}
	if err := check(o, chunks); err != nil {
		return err
	}
	p := &piece{owner: o, chunks: chunks}
	if err := s.group.Do(ctx, p, s.append); err != nil {
		return err
	}
	return p.err
}

// piece is chunks of one journal on their way into the database.
type piece struct {
	owner  call.Owner
	chunks []Chunk
	err    error
}

// appendWithin bounds one transaction.
const appendWithin = 10 * time.Second

// append stores the pieces of several journals in one transaction. What the database does not take of one must not hold up
// the others: when it fails, each is stored alone.
func (s *Service) append(ctx context.Context, all []*piece) {
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	if s.store(ctx, all) == nil {
		return
	}
	for _, p := range all {
		if err := s.store(ctx, []*piece{p}); err != nil {
			p.err = err
		}
	}
}

// store writes pieces in one transaction. What is wrong with one alone is in its err.
func (s *Service) store(ctx context.Context, all []*piece) error {
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		taken, err := owned(ctx, tx, all)
		if err != nil || len(taken) == 0 {
			return err
		}
		rows, err := touch(ctx, tx, taken)
		if err != nil {
			return err
		}
		return add(ctx, tx, rows, taken)
	})
}

// owned gives the pieces whose calls are their accounts' and that nobody has taken over.
func owned(ctx context.Context, tx *db.Tx, all []*piece) (taken []*piece, err error) {
	ids := make([]webhooks.CallID, len(all))
	for i, p := range all {
		ids[i] = p.owner.CallID
	}
	var found []call.Call
	if err := tx.Read().NewSelect().Model(&found).Column("id", "account_id", "epoch").Where("id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, db.Check(err)
	}
	calls := make(map[string]*call.Call, len(found))
	for i := range found {
		calls[found[i].ID] = &found[i]
	}
	for _, p := range all {
		switch c := calls[string(p.owner.CallID)]; {
		case c == nil:
			p.err = fmt.Errorf("%w: there is no call %s", call.ErrRefused, p.owner.CallID)
		case c.AccountID != string(p.owner.AccountID):
			p.err = fmt.Errorf("%w: the call is not of account %s", call.ErrRefused, p.owner.AccountID)
		case p.owner.Epoch < c.Epoch:
			p.err = call.ErrFenced
		default:
			p.err = nil
			taken = append(taken, p)
		}
	}
	return taken, nil
}

// touch makes the rows that are not there, and reads them all. Writing first: of two that append to one journal the second
// waits, and reads what the first has left.
func touch(ctx context.Context, tx *db.Tx, all []*piece) (map[string]*row, error) {
	now, rows := db.Now(), map[string]*row{}
	for _, p := range all {
		id := string(p.owner.CallID)
		// As it will be when this is all there is, which add need not say then.
		last := p.chunks[len(p.chunks)-1].Last
		rows[id] = &row{CallID: id, AccountID: string(p.owner.AccountID), Pending: true, Whole: last, CreatedAt: now, UpdatedAt: now}
	}
	// In the order of their keys, so that two processes do not wait for each other.
	ids := slices.Sorted(maps.Keys(rows))
	list := make([]*row, len(ids))
	for i, id := range ids {
		list[i] = rows[id]
	}
	_, err := tx.Write().NewInsert().Model(&list).On("CONFLICT (call_id) DO UPDATE").Set("updated_at = EXCLUDED.updated_at").Exec(ctx)
	if err != nil {
		return nil, db.Check(err)
	}
	var found []row
	if err := tx.Read().NewSelect().Model(&found).Where("call_id IN (?)", bun.List(ids)).Scan(ctx); err != nil {
		return nil, db.Check(err)
	}
	for i := range found {
		rows[found[i].CallID] = &found[i]
	}
	return rows, nil
}

// add writes what the blobs do not have, and says so in the rows.
func add(ctx context.Context, tx *db.Tx, rows map[string]*row, all []*piece) error {
	var fresh []chunk
	whole := map[string]bool{} // of the journals that something is added to
	for _, p := range all {
		r, epoch := rows[string(p.owner.CallID)], p.owner.Epoch
		if r.Gone {
			p.err = fmt.Errorf("%w: the call's record is kept no longer", call.ErrRefused)
			continue
		}
		for _, c := range p.chunks {
			number := int64(c.Number)
			if epoch < r.SealedEpoch || epoch == r.SealedEpoch && number <= r.SealedNumber {
				continue
			}
			fresh = append(fresh, chunk{CallID: r.CallID, AccountID: r.AccountID, Epoch: epoch, Number: number, Entries: storable(c.Text)})
			whole[r.CallID] = c.Last
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if _, err := tx.Write().NewInsert().Model(&fresh).On("CONFLICT (call_id, epoch, number) DO NOTHING").Exec(ctx); err != nil {
		return db.Check(err)
	}
	for _, is := range []bool{true, false} {
		var ids []string
		for id, last := range whole {
			if last == is && (!rows[id].Pending || rows[id].Whole != is) {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			continue
		}
		_, err := tx.Write().NewUpdate().Model((*row)(nil)).Set("pending = ?", true).Set("whole = ?", is).Where("call_id IN (?)", bun.List(ids)).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
	}
	return nil
}

func check(o call.Owner, chunks []Chunk) error {
	if !ids.MatchString(string(o.CallID)) || !ids.MatchString(string(o.AccountID)) {
		return fmt.Errorf("%w: %.64q is no id of a call", call.ErrRefused, o.CallID)
	}
	for _, c := range chunks {
		if c.Number < 1 || c.Number > maxChunks || len(c.Text) > maxChunk {
			return fmt.Errorf("%w: chunk %d of a journal with %d bytes; there may be %d with %d each", call.ErrRefused, c.Number, len(c.Text), maxChunks, maxChunk)
		}
	}
	return nil
}

// storable is a piece as the database holds it: what is compressed in base64, as migrations know no type for octets, and
// plain lines as they are, but for what PostgreSQL does not take, which is NUL and what is no UTF-8.
func storable(text []byte) string {
	if isPacked(text) {
		return base64.StdEncoding.EncodeToString(text)
	}
	return string(bytes.ToValidUTF8(bytes.ReplaceAll(text, []byte{0}, []byte("\ufffd")), []byte("\ufffd")))
}

// isPacked reports whether a piece is compressed. Lines are JSON objects.
func isPacked(text []byte) bool { return bytes.HasPrefix(text, []byte{0x1f, 0x8b}) }

// packed is a chunk as it goes into the blob: a member of a gzip file (RFC 1952 2.2).
func (c chunk) packed() ([]byte, error) {
	if text, err := base64.StdEncoding.DecodeString(c.Entries); err == nil && isPacked(text) {
		return text, nil
	}
	return pack([]byte(c.Entries))
}

// Entry is one entry of a journal: a JSON object with t and kind.
type Entry struct{ text []byte }

// MarshalJSON gives the entry as it is stored.
func (e Entry) MarshalJSON() ([]byte, error) { return e.text, nil }

// split takes the lines of a journal apart. What is no JSON object is passed over: a line that was cut off, or damaged.
func split(text []byte) []Entry {
	entries := []Entry{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 1 && line[0] == '{' && json.Valid(line) {
			entries = append(entries, Entry{line})
		}
	}
	return entries
}

// follow appends chunks, in their order, to the members of a gzip file. What follows after a chunk that is missing is
// preceded by a warning that says so, with the time of the next entry. epoch and number are of what comes before, 0 for
// nothing.
func follow(members []byte, epoch, number int64, chunks []chunk) ([]byte, error) {
	for _, c := range chunks {
		if c.Epoch != epoch {
			epoch, number = c.Epoch, 0
		}
		next, err := c.packed()
		if err != nil {
			return nil, err
		}
		if missing := c.Number - number - 1; missing > 0 {
			warning, err := pack(fmt.Appendf(nil, `{"t":%d,"kind":"warning","code":"lost","message":"%d pieces of the journal are missing here"}`+"\n", firstTime(next), missing))
			if err != nil {
				return nil, err
			}
			members = append(members, warning...)
		}
		members, number = append(members, next...), c.Number
	}
	return members, nil
}

// firstTime is the time of a member's first entry.
func firstTime(member []byte) int64 {
	text, _ := unpack(bytes.NewReader(member)) // the reader of the journal meets the same damage
	for line := range bytes.Lines(text) {
		var e struct {
			T int64 `json:"t"`
		}
		if json.Unmarshal(line, &e) != nil {
			return 0
		}
		return e.T
	}
	return 0
}

// Release has the journals of calls go whose records go, in the transaction in which they do; the bytes follow with the
// next Seal. It is for call.Service.Release.
func (s *Service) Release(ctx context.Context, tx *db.Tx, accountID webhooks.AccountID, calls []webhooks.CallID) error {
	if len(calls) == 0 {
		return nil
	}
	_, err := tx.Write().NewDelete().Model((*chunk)(nil)).Where("account_id = ?", accountID).Where("call_id IN (?)", bun.List(calls)).Exec(ctx)
	if err != nil {
		return db.Check(err)
	}
	_, err = tx.Write().NewUpdate().Model((*row)(nil)).Set("gone = ?", true).Set("pending = ?", false).
		Where("account_id = ?", accountID).Where("call_id IN (?)", bun.List(calls)).Exec(ctx)
	return db.Check(err)
}
