package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Kind is what was done to the audit, as far as can be seen.
type Kind string

// The kinds. "The database" is SQL, "the storage" the blobs.
const (
	// Edited: an entry is not what was sealed.
	Edited Kind = "edited"
	// Deleted: an entry that was sealed is gone.
	Deleted Kind = "deleted"
	// Inserted: an entry is in a batch it was not sealed in, or is dated before what was sealed long ago.
	Inserted Kind = "inserted"
	// Reordered: an entry is in another place, batch or account than the one it was sealed in.
	Reordered Kind = "reordered"
	// BatchEdited: a batch in the database is not what was signed, or does not follow the one before.
	BatchEdited Kind = "batch_edited"
	// BatchMissing: a batch is not in the database.
	BatchMissing Kind = "batch_missing"
	// RootEdited: a batch in the storage is not what was signed.
	RootEdited Kind = "root_edited"
	// RootMissing: a batch is not in the storage.
	RootMissing Kind = "root_missing"
	// KeyMissing: the storage does not have the public key, so that signatures prove nothing.
	KeyMissing Kind = "key_missing"
)

// Finding is one thing that is not as it was sealed.
type Finding struct {
	Kind      Kind
	AccountID string
	Batch     int64  // 0 where it concerns none
	Position  int    // of the entry in its batch, from 1; 0 where it has none there
	EntryID   string // "" where it concerns the batch itself
	Detail    string
}

// String is a line for a person.
func (f Finding) String() string {
	at := "account " + f.AccountID
	if f.AccountID == "" {
		at = noAccount
	}
	if f.Batch > 0 {
		at += fmt.Sprintf(", batch %d", f.Batch)
	}
	if f.Position > 0 {
		at += fmt.Sprintf(", position %d", f.Position)
	}
	if f.EntryID != "" {
		at += ", entry " + f.EntryID
	}
	return fmt.Sprintf("%s: %s: %s", f.Kind, at, f.Detail)
}

// Report is what Verify found.
type Report struct {
	Accounts int
	Batches  int
	Entries  int // that are as they were sealed
	Unsealed int // that no batch speaks for yet
	Findings []Finding
}

const (
	// late is how long before the latest entry of an earlier batch an entry may be dated: the longest transaction, and
	// the difference of the clocks of an installation's machines.
	late = time.Hour
	// storing is how long a new batch may take into the storage.
	storing = time.Hour
	// ahead is how many batches the end of the chain is looked for in the storage, beyond what is missing there.
	ahead = 100
	// page is how many batches are read at once.
	page = 20
)

// Verify compares every entry with what was sealed of it, and every batch with its signed copy in the storage, for one
// account, or with "" for all that the database knows. It may run beside processes that write and seal. The error tells
// that it could not look; what it saw is in the report.
//
// Of an account that was removed from the database altogether, only the storage still knows: name it to have it checked.
func Verify(ctx context.Context, conn db.Conn, blobs *blob.Store, account string) (Report, error) {
	v := &verifier{conn: conn, blobs: blobs}
	accounts := []string{account}
	if account == "" {
		var err error
		if accounts, err = allAccounts(ctx, conn); err != nil {
			return Report{}, err
		}
	}
	if err := v.readKey(ctx); err != nil {
		return Report{}, err
	}
	for _, a := range accounts {
		v.chain = chain{account: a}
		if err := v.verify(ctx); err != nil {
			return v.report, fmt.Errorf("audit of account %q: %w", a, err)
		}
		v.report.Accounts++
	}
	if v.key == nil && v.report.Batches > 0 {
		v.report.Findings = append([]Finding{{Kind: KeyMissing, Detail: keyBlob + " is missing, or is no key"}}, v.report.Findings...)
	}
	return v.report, nil
}

func allAccounts(ctx context.Context, conn db.Conn) ([]string, error) {
	all := map[string]bool{}
	for table, column := range map[string]string{"accounts": "id", "audit_batches": "account_id", "audit_entries": "account_id"} {
		var found []string
		err := conn.Read().NewSelect().Table(table).ColumnExpr("DISTINCT ?", bun.Ident(column)).Scan(ctx, &found)
		if err != nil {
			return nil, db.Check(err)
		}
		for _, id := range found {
			all[id] = true
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

type verifier struct {
	conn   db.Conn
	blobs  *blob.Store
	key    ed25519.PublicKey // nil when there is none
	report Report
	chain  chain
}

// chain is how far the chain of one account was followed.
type chain struct {
	account string
	rows    []row     // read ahead
	before  string    // the hash of the batch before; "" when it is not known
	latest  time.Time // the latest entry of the batches so far
	// lost are the batches that only the storage has; their entries were compared with that.
	lost map[int64]bool
}

func (v *verifier) readKey(ctx context.Context) error {
	pinned, err := readBlob[publicKey](ctx, v.blobs, keyBlob)
	if err != nil && !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, errUnreadable) {
		return err
	}
	if key, err := base64.StdEncoding.DecodeString(pinned.PublicKey); err == nil && len(key) == ed25519.PublicKeySize {
		v.key = key
	}
	return nil
}

func (v *verifier) say(kind Kind, batch int64, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{Kind: kind, AccountID: v.chain.account, Batch: batch, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) sayEntry(kind Kind, batch int64, position int, id, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{
		Kind: kind, AccountID: v.chain.account, Batch: batch, Position: position, EntryID: id, Detail: fmt.Sprintf(format, args...),
	})
}

// verify follows the chain of an account to its end, and looks at the entries that are in no batch.
func (v *verifier) verify(ctx context.Context) error {
	v.chain.lost = map[int64]bool{}
	for n := int64(1); ; n++ {
		r, err := v.row(ctx, n)
		if err != nil {
			return err
		}
		stored, err := v.stored(ctx, n)
		if err != nil {
			return err
		}
		if r == nil && stored != nil {
			// A batch is in the database before it is in the storage: it may be new.
			v.chain.rows = nil
			if r, err = v.row(ctx, n); err != nil {
				return err
			}
		}
		if r == nil && stored == nil {
			next, err := v.beyond(ctx, n)
			if err != nil {
				return err
			}
			if next == 0 {
				break
			}
			// Batches may have been made since.
			v.chain.rows = nil
			if r, err = v.row(ctx, n); err != nil {
				return err
			}
			if r != nil {
				n--
				continue
			}
			v.say(BatchMissing, n, "batches %d to %d are neither in the database nor in the storage", n, next-1)
			v.chain.before = ""
			n = next - 1
			continue
		}
		if err := v.batch(ctx, n, r, stored); err != nil {
			return err
		}
	}
	return errors.Join(v.strays(ctx), v.unsealed(ctx))
}

// row gives a batch from the database, nil when there is none of this number.
func (v *verifier) row(ctx context.Context, n int64) (*row, error) {
	c := &v.chain
	for len(c.rows) > 0 && c.rows[0].Number < n {
		c.rows = c.rows[1:]
	}
	if len(c.rows) == 0 {
		err := v.conn.Read().NewSelect().Model(&c.rows).Where("account_id = ?", c.account).Where("number >= ?", n).
			OrderBy("number", bun.OrderAsc).Limit(page).Scan(ctx)
		if err != nil {
			return nil, db.Check(err)
		}
	}
	if len(c.rows) == 0 || c.rows[0].Number != n {
		return nil, nil
	}
	return &c.rows[0], nil
}

// stored gives a batch from the storage, nil when there is none of this number. One that cannot be read is empty.
func (v *verifier) stored(ctx context.Context, n int64) (*sealed, error) {
	found, err := readBlob[sealed](ctx, v.blobs, batchBlob(v.chain.account, n))
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return nil, nil
	case errors.Is(err, errUnreadable):
		return &sealed{}, nil
	case err != nil:
		return nil, err
	}
	return &found, nil
}

// beyond gives the first batch after one that is missing, 0 when there is none.
func (v *verifier) beyond(ctx context.Context, n int64) (int64, error) {
	end := n + ahead
	inDatabase := len(v.chain.rows) > 0
	if inDatabase {
		end = min(end, v.chain.rows[0].Number)
	}
	for m := n + 1; m < end; m++ {
		_, err := v.blobs.Stat(ctx, batchBlob(v.chain.account, m))
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return 0, err
		}
	}
	if inDatabase {
		return v.chain.rows[0].Number, nil
	}
	return 0, nil
}

// batch checks one batch, of which the database or the storage may have none, and then its entries.
func (v *verifier) batch(ctx context.Context, n int64, r *row, stored *sealed) error {
	v.report.Batches++
	var inDatabase, inStorage *Batch // as signed
	var claimed *Batch               // when nothing is signed, what it says of itself
	var text []byte
	if r != nil {
		mine, err := r.sealed()
		if err != nil {
			return err
		}
		if claimed, err = mine.read(v.keyFor(r)); err != nil {
			v.say(BatchEdited, n, "in the database it %v", err)
		} else {
			inDatabase, text = claimed, mine.Batch
		}
	}
	if stored != nil {
		b, err := stored.read(v.keyFor(r))
		if err == nil && (b.Number != n || b.AccountID != v.chain.account) {
			err = errors.New("is a copy of another batch")
		}
		if err != nil {
			v.say(RootEdited, n, "in the storage it %v", err)
			if claimed == nil {
				claimed = b
			}
		} else {
			if inDatabase != nil && !bytes.Equal(text, stored.Batch) {
				v.say(BatchEdited, n, "the database and the storage have different batches, both signed")
			}
			inStorage, text = b, stored.Batch
		}
	}
	switch {
	case r == nil:
		v.chain.lost[n] = true
		v.say(BatchMissing, n, "it is in the storage, but not in the database")
	case stored == nil && (r.Rooted || r.SealedAt.Before(time.Now().Add(-storing))):
		v.say(RootMissing, n, "it is in the database, but not in the storage")
	}
	truth := inStorage
	if truth == nil {
		truth = inDatabase
	}
	if truth == nil {
		v.chain.before = ""
		if claimed == nil {
			claimed = &Batch{}
		}
		return v.entries(ctx, n, claimed)
	}
	if v.chain.before != "" && truth.Previous != v.chain.before || n == 1 && truth.Previous != "" {
		v.say(BatchEdited, n, "it does not follow the batch before")
	}
	v.chain.before = sum(text)
	if err := v.entries(ctx, n, truth); err != nil {
		return err
	}
	if truth.LatestAt.After(v.chain.latest) {
		v.chain.latest = truth.LatestAt
	}
	return nil
}

// keyFor is the pinned key, else the one that the database names: then KeyMissing says what signatures are worth.
func (v *verifier) keyFor(r *row) ed25519.PublicKey {
	if v.key != nil || r == nil {
		return v.key
	}
	if key, err := base64.StdEncoding.DecodeString(r.PublicKey); err == nil && len(key) == ed25519.PublicKeySize {
		return key
	}
	return nil
}

// place is an entry that should be in a batch, but is not there as it was sealed.
type place struct {
	position int
	leaf     Leaf
}

// entries compares the entries that the database has in a batch with those that were sealed in it.
func (v *verifier) entries(ctx context.Context, n int64, truth *Batch) error {
	var rows []Entry
	err := v.conn.Read().NewSelect().Model(&rows).Where("account_id = ?", v.chain.account).Where("sealed_in = ?", n).
		OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	others := map[string]*Entry{} // those that are not as they were sealed
	for i := range rows {
		others[rows[i].ID] = &rows[i]
	}
	var wrong []place
	for i, leaf := range truth.Entries {
		e := others[leaf.ID]
		if e == nil || hash(e) != leaf.SHA256 {
			wrong = append(wrong, place{i + 1, leaf})
			continue
		}
		delete(others, leaf.ID)
		v.report.Entries++
		v.dated(e, n, i+1)
	}
	if len(wrong) > 0 {
		if err := v.wrong(ctx, n, wrong, others); err != nil {
			return err
		}
	}
	for i := range rows {
		if others[rows[i].ID] != nil {
			v.sayEntry(Inserted, n, 0, rows[i].ID, "it was not sealed in this batch")
		}
	}
	return nil
}

// dated tells of an entry that is older than what was sealed before it.
func (v *verifier) dated(e *Entry, batch int64, position int) {
	if e.CreatedAt.Before(v.chain.latest.Add(-late)) {
		v.sayEntry(Inserted, batch, position, e.ID, "it is dated %s before what was sealed earlier", ago(e.CreatedAt, v.chain.latest))
	}
}

// wrong says of each place what became of its entry, and takes out of others the rows that this explains.
func (v *verifier) wrong(ctx context.Context, n int64, places []place, others map[string]*Entry) error {
	var gone []string
	for _, p := range places {
		if others[p.leaf.ID] == nil {
			gone = append(gone, p.leaf.ID)
		}
	}
	elsewhere, err := v.elsewhere(ctx, gone)
	if err != nil {
		return err
	}
	sealedHere := map[string]bool{}
	for _, p := range places {
		sealedHere[p.leaf.ID] = true
	}
	explained := map[string]bool{}
	for _, p := range places {
		now := renamed(p.leaf, others)
		here, moved := others[p.leaf.ID], elsewhere[p.leaf.ID]
		switch {
		case now != "" && sealedHere[now]:
			v.sayEntry(Reordered, n, p.position, p.leaf.ID, "its content is now under the id %s", now)
		case now != "":
			explained[now] = true
			v.sayEntry(Edited, n, p.position, p.leaf.ID, "its id was changed to %s", now)
		case here != nil:
			v.sayEntry(Edited, n, p.position, p.leaf.ID, "its content is not what was sealed")
		case moved != "":
			v.sayEntry(Reordered, n, p.position, p.leaf.ID, "%s", moved)
		default:
			v.sayEntry(Deleted, n, p.position, p.leaf.ID, "it is gone")
		}
		if here != nil {
			explained[p.leaf.ID] = true
		}
	}
	for id := range explained {
		delete(others, id)
	}
	return nil
}

// renamed gives the id of a row that is, but for its id, what was sealed as a leaf.
func renamed(leaf Leaf, rows map[string]*Entry) string {
	// More rows than a batch has are not what a batch was made into.
	if len(rows) > 2*MaxBatch {
		return ""
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		as := *rows[id]
		if as.ID == leaf.ID {
			continue
		}
		as.ID = leaf.ID
		if hash(&as) == leaf.SHA256 {
			return id
		}
	}
	return ""
}

// elsewhere says by id where entries are that their batch does not have.
func (v *verifier) elsewhere(ctx context.Context, ids []string) (map[string]string, error) {
	where := map[string]string{}
	for some := range slices.Chunk(ids, MaxBatch) {
		var found []Entry
		err := v.conn.Read().NewSelect().Model(&found).Column("id", "account_id", "sealed_in").Where("id IN (?)", bun.List(some)).Scan(ctx)
		if err != nil {
			return nil, db.Check(err)
		}
		for _, e := range found {
			switch {
			case e.AccountID != v.chain.account:
				where[e.ID] = fmt.Sprintf("it is now in the account %q", e.AccountID)
			case e.Batch == 0:
				where[e.ID] = "it is now in no batch"
			default:
				where[e.ID] = fmt.Sprintf("it is now in batch %d", e.Batch)
			}
		}
	}
	return where, nil
}

// strays are entries that claim a batch which is not there.
func (v *verifier) strays(ctx context.Context) error {
	var found []Entry
	err := v.conn.Read().NewSelect().Model(&found).Column("id", "sealed_in").Where("account_id = ?", v.chain.account).
		Where("sealed_in IS NOT NULL").
		Where("sealed_in NOT IN (?)", v.conn.Read().NewSelect().Table("audit_batches").Column("number").Where("account_id = ?", v.chain.account)).
		OrderBy("id", bun.OrderAsc).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	for _, e := range found {
		if !v.chain.lost[e.Batch] {
			v.sayEntry(Inserted, e.Batch, 0, e.ID, "it claims a batch that is not there")
		}
	}
	return nil
}

// unsealed counts the entries in no batch, and tells of those that are too old for that.
func (v *verifier) unsealed(ctx context.Context) error {
	open := v.conn.Read().NewSelect().Model((*Entry)(nil)).Where("account_id = ?", v.chain.account).Where("sealed_in IS NULL")
	n, err := open.Clone().Count(ctx)
	if err != nil {
		return db.Check(err)
	}
	v.report.Unsealed += int(n)
	if v.chain.latest.IsZero() {
		return nil
	}
	var old []Entry
	err = open.Clone().Column("id", "created_at").Where("created_at < ?", v.chain.latest.Add(-late)).
		OrderBy("created_at", bun.OrderAsc).OrderBy("id", bun.OrderAsc).Scan(ctx, &old)
	if err != nil {
		return db.Check(err)
	}
	for i := range old {
		v.dated(&old[i], 0, 0)
	}
	return nil
}
