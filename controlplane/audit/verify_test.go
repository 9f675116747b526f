package audit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/audit"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/blob/blobtest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const account = "acc_chain"

// archive is an account's audit in the making.
type archive struct {
	t      *testing.T
	db     *db.DB
	blobs  *blob.Store
	sealer *audit.Sealer
	random *rand.Rand
	now    time.Time // of the next entry
	// sealed are the entries by batch, from 1, as they were sealed.
	sealed [][]audit.Entry
}

func newArchive(t *testing.T, d *db.DB, blobs *blob.Store, seed uint64) *archive {
	t.Helper()
	return &archive{
		t: t, db: d, blobs: blobs, sealer: newSealer(t, d, blobs), random: rand.New(rand.NewPCG(seed, 0)),
		now: db.Now().Add(-1000 * time.Hour), sealed: [][]audit.Entry{nil},
	}
}

func newSealer(t *testing.T, d *db.DB, blobs *blob.Store) *audit.Sealer {
	t.Helper()
	return &audit.Sealer{DB: d, Blobs: blobs, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Secret: bytes.Repeat([]byte{7}, 32), Within: time.Nanosecond}
}

// entry is one that could have been written now. Later ones are hours later.
func (a *archive) entry() audit.Entry {
	a.now = a.now.Add(2*time.Hour + time.Duration(a.random.IntN(1e9))*time.Microsecond)
	e := audit.Entry{
		ID: db.NewID("aud"), AccountID: account, CreatedAt: a.now, ActorID: db.NewID("usr"), Operation: "updateNumber", ObjectID: db.NewID("num"),
		Status: 200, Address: "192.0.2.1", RequestID: db.NewID("req"),
	}
	if a.random.IntN(3) > 0 {
		e.Before = json.RawMessage(`{"number": "+862368925278", "metadata": {"b": 1.50, "a": [1e2, -0.0, 12345678901234567890.5, "\u4f60<\n", null, true]}}`)
	}
	if a.random.IntN(3) > 0 {
		e.After = json.RawMessage(`{"number":"+8613800138000","n":` + strconv.Itoa(a.random.IntN(1000)) + `}`)
	}
	return e
}

func (a *archive) write(ctx context.Context, conn db.Conn, entries ...audit.Entry) {
	a.t.Helper()
	for i := range entries {
		if _, err := conn.Write().NewInsert().Model(&entries[i]).Exec(ctx); err != nil {
			a.t.Fatal(err)
		}
	}
}

// seal writes n entries and seals them in one batch.
func (a *archive) seal(n int) {
	a.t.Helper()
	var batch []audit.Entry
	for range n {
		batch = append(batch, a.entry())
	}
	a.write(a.t.Context(), a.db, batch...)
	if err := a.sealer.Seal(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.sealed = append(a.sealed, batch)
}

// chain seals batches of these sizes, and leaves some entries unsealed.
func (a *archive) chain(sizes ...int) {
	a.t.Helper()
	for _, n := range sizes {
		a.seal(n)
	}
	a.write(a.t.Context(), a.db, a.entry(), a.entry())
}

func (a *archive) verify(ctx context.Context, conn db.Conn) audit.Report {
	a.t.Helper()
	report, err := audit.Verify(ctx, conn, a.blobs, account)
	if err != nil {
		a.t.Fatal(err)
	}
	return report
}

// untouched fails when something is found.
func (a *archive) untouched() {
	a.t.Helper()
	report := a.verify(a.t.Context(), a.db)
	for _, f := range report.Findings {
		a.t.Error("a false alarm:", f)
	}
	n := 0
	for _, batch := range a.sealed {
		n += len(batch)
	}
	if report.Batches != len(a.sealed)-1 || report.Entries != n || report.Unsealed != 2 {
		a.t.Errorf("saw %d batches, %d entries, %d unsealed; there are %d, %d, 2", report.Batches, report.Entries, report.Unsealed, len(a.sealed)-1, n)
	}
}

var errUndo = errors.New("undo")

// tampered changes the database, wants to have that found, and takes it back.
func (a *archive) tampered(name string, change func(ctx context.Context, tx *db.Tx) error, wanted ...audit.Finding) {
	a.t.Helper()
	err := a.db.InTx(a.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := change(ctx, tx); err != nil {
			return err
		}
		a.found(name, a.verify(ctx, tx), wanted...)
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		a.t.Errorf("%s: %v", name, err)
	}
}

// found checks that a report names each of the findings, at its place.
func (a *archive) found(name string, report audit.Report, wanted ...audit.Finding) {
	a.t.Helper()
	for _, w := range wanted {
		there := slices.ContainsFunc(report.Findings, func(f audit.Finding) bool {
			return f.Kind == w.Kind && f.AccountID == account && f.Batch == w.Batch && f.Position == w.Position && f.EntryID == w.EntryID && f.Detail != ""
		})
		if !there {
			a.t.Errorf("%s: %s of batch %d position %d entry %q was not found; found %v", name, w.Kind, w.Batch, w.Position, w.EntryID, report.Findings)
		}
	}
}

// statement is a change by one statement.
func statement(query string, args ...any) func(context.Context, *db.Tx) error {
	return statements([]any{query, args})
}

func statements(all ...[]any) func(context.Context, *db.Tx) error {
	return func(ctx context.Context, tx *db.Tx) error {
		for _, s := range all {
			result, err := tx.Write().NewRaw(s[0].(string), s[1].([]any)...).Exec(ctx)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if schema := strings.Contains(s[0].(string), " TABLE "); err != nil || (n == 0 && !schema) {
				return fmt.Errorf("%s changed nothing: %w", s[0], err)
			}
		}
		return nil
	}
}

func do(query string, args ...any) []any { return []any{query, args} }

// each runs fn for every sealed entry with its batch and position.
func (a *archive) each(fn func(n int64, position int, e audit.Entry)) {
	for n, batch := range a.sealed {
		for i, e := range batch {
			fn(int64(n), i+1, e)
		}
	}
}

func at(kind audit.Kind, batch int64, position int, id string) audit.Finding {
	return audit.Finding{Kind: kind, Batch: batch, Position: position, EntryID: id}
}

// chains runs fn on chains of several shapes, on both databases.
func chains(t *testing.T, fn func(a *archive)) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				if _, err := d.Write().NewRaw("DELETE FROM audit_entries").Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := d.Write().NewRaw("DELETE FROM audit_batches").Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
				a := newArchive(t, d, blobtest.Files(t), seed)
				sizes := []int{1}
				for range 2 + a.random.IntN(3) {
					sizes = append(sizes, 1+a.random.IntN(5))
				}
				a.chain(sizes...)
				a.untouched()
				fn(a)
				a.untouched()
			})
		}
	})
}

func TestEveryEditIsFoundAtItsPlace(t *testing.T) {
	chains(t, func(a *archive) {
		a.each(func(n int64, position int, e audit.Entry) {
			edits := map[string]any{
				"actor_id": e.ActorID + "x", "operation": "updateNumbe", "object_id": "", "status": 201, "address": "192.0.2.2",
				"request_id": strings.ToLower(e.RequestID), "created_at": e.CreatedAt.Add(time.Microsecond),
				"before": `{"number": "+862368925278", "metadata": {"b": 1.5, "a": [1e2, -0.0, 12345678901234567890.4, "\u4f60<\n", null, true]}}`,
				"after":  `{"number":"+8613800138001"}`,
			}
			for column, value := range edits {
				a.tampered("edit "+column, statement("UPDATE audit_entries SET "+column+" = ? WHERE id = ?", value, e.ID), at(audit.Edited, n, position, e.ID))
			}
			for column, had := range map[string]json.RawMessage{"before": e.Before, "after": e.After} {
				if had != nil {
					a.tampered("clear "+column, statement("UPDATE audit_entries SET "+column+" = NULL WHERE id = ?", e.ID), at(audit.Edited, n, position, e.ID))
				}
			}
			a.tampered("change the id", statement("UPDATE audit_entries SET id = ? WHERE id = ?", "aud_new", e.ID), at(audit.Edited, n, position, e.ID))
			a.tampered("exchange before and after", statement("UPDATE audit_entries SET before = ?, after = ? WHERE id = ?", text(e.After), `{"was":1}`, e.ID),
				at(audit.Edited, n, position, e.ID))
		})
	})
}

func text(j json.RawMessage) any {
	if j == nil {
		return nil
	}
	return string(j)
}

// What a database makes of JSON, and what means the same, is no edit.
func TestTheSameInOtherWordsIsNoEdit(t *testing.T) {
	chains(t, func(a *archive) {
		a.each(func(_ int64, _ int, e audit.Entry) {
			if e.Before == nil {
				return
			}
			same := `{ "metadata" :{"a":[100,0,12345678901234567890.50,"你\u003c\n",null,true],"b":15e-1},"number":"+862368925278"}`
			err := a.db.InTx(a.t.Context(), func(ctx context.Context, tx *db.Tx) error {
				if err := statement("UPDATE audit_entries SET before = ? WHERE id = ?", same, e.ID)(ctx, tx); err != nil {
					return err
				}
				for _, f := range a.verify(ctx, tx).Findings {
					a.t.Error("a false alarm:", f)
				}
				return errUndo
			})
			if !errors.Is(err, errUndo) {
				a.t.Error(err)
			}
		})
	})
}

func TestEveryDeletionIsFoundAtItsPlace(t *testing.T) {
	chains(t, func(a *archive) {
		a.each(func(n int64, position int, e audit.Entry) {
			a.tampered("delete", statement("DELETE FROM audit_entries WHERE id = ?", e.ID), at(audit.Deleted, n, position, e.ID))
			// The tail of a batch, and of the whole.
			var cut []audit.Finding
			for i, e := range a.sealed[n][position-1:] {
				cut = append(cut, at(audit.Deleted, n, position+i, e.ID))
			}
			for later := n + 1; later < int64(len(a.sealed)); later++ {
				for i, e := range a.sealed[later] {
					cut = append(cut, at(audit.Deleted, later, 1+i, e.ID))
				}
			}
			a.tampered("cut off", statement("DELETE FROM audit_entries WHERE created_at >= ?", e.CreatedAt), cut...)
		})
	})
}

func TestEveryInsertionIsFound(t *testing.T) {
	chains(t, func(a *archive) {
		last := a.now.Add(-4 * time.Hour) // two entries are unsealed
		a.each(func(n int64, _ int, e audit.Entry) {
			for _, created := range []time.Time{e.CreatedAt.Add(-time.Microsecond), e.CreatedAt, e.CreatedAt.Add(time.Microsecond)} {
				late := e
				late.ID, late.CreatedAt, late.Batch = db.NewID("aud"), created, n
				a.tampered("insert", func(ctx context.Context, tx *db.Tx) error { a.write(ctx, tx, late); return nil }, at(audit.Inserted, n, 0, late.ID))
				late.Batch = int64(len(a.sealed) + 5)
				a.tampered("insert into no batch", func(ctx context.Context, tx *db.Tx) error { a.write(ctx, tx, late); return nil },
					at(audit.Inserted, late.Batch, 0, late.ID))
				late.Batch = 0
				if created.Before(last.Add(-time.Hour)) {
					a.tampered("insert, to be sealed", func(ctx context.Context, tx *db.Tx) error { a.write(ctx, tx, late); return nil }, at(audit.Inserted, 0, 0, late.ID))
				}
			}
		})
	})
}

func TestEveryExchangeIsFoundAtItsPlace(t *testing.T) {
	chains(t, func(a *archive) {
		a.each(func(n int64, position int, e audit.Entry) {
			a.tampered("take out of the batch", statement("UPDATE audit_entries SET sealed_in = NULL WHERE id = ?", e.ID), at(audit.Reordered, n, position, e.ID))
			a.tampered("give to another account", statement("UPDATE audit_entries SET account_id = 'acc_z' WHERE id = ?", e.ID), at(audit.Reordered, n, position, e.ID))
			a.each(func(m int64, other int, o audit.Entry) {
				if o.ID <= e.ID {
					return
				}
				ids := statements(do("UPDATE audit_entries SET id = 'aud_x' WHERE id = ?", e.ID), do("UPDATE audit_entries SET id = ? WHERE id = ?", e.ID, o.ID),
					do("UPDATE audit_entries SET id = ? WHERE id = 'aud_x'", o.ID))
				if m == n {
					a.tampered("exchange ids", ids, at(audit.Reordered, n, position, e.ID), at(audit.Reordered, m, other, o.ID))
					times := statements(do("UPDATE audit_entries SET created_at = ? WHERE id = ?", o.CreatedAt, e.ID), do("UPDATE audit_entries SET created_at = ? WHERE id = ?", e.CreatedAt, o.ID))
					a.tampered("exchange times", times, at(audit.Edited, n, position, e.ID), at(audit.Edited, m, other, o.ID))
					return
				}
				// Each row has gone with the other's id into the other's batch.
				a.tampered("exchange ids", ids, at(audit.Edited, n, position, e.ID), at(audit.Edited, m, other, o.ID))
				batches := statements(do("UPDATE audit_entries SET sealed_in = ? WHERE id = ?", m, e.ID), do("UPDATE audit_entries SET sealed_in = ? WHERE id = ?", n, o.ID))
				a.tampered("exchange batches", batches, at(audit.Reordered, n, position, e.ID), at(audit.Reordered, m, other, o.ID),
					at(audit.Inserted, m, 0, e.ID), at(audit.Inserted, n, 0, o.ID))
			})
		})
	})
}

func TestEveryChangeOfABatchIsFound(t *testing.T) {
	chains(t, func(a *archive) {
		for n := int64(1); n < int64(len(a.sealed)); n++ {
			batch := func(set string, args ...any) func(context.Context, *db.Tx) error {
				return statement("UPDATE audit_batches SET "+set+" WHERE number = ?", append(args, n)...)
			}
			for set, value := range map[string]any{
				"previous = ?": strings.Repeat("0", 64), "sealed_at = ?": a.now, "latest_at = ?": a.now, "count = ?": 99, "first_id = ?": "aud_x", "last_id = ?": "aud_x",
				"root = ?": strings.Repeat("0", 64), "entries = ?": "[]", "public_key = ?": base64.StdEncoding.EncodeToString(make([]byte, 32)), "signature = ?": "AAAA",
			} {
				a.tampered(set, batch(set, value), at(audit.BatchEdited, n, 0, ""))
			}
			a.tampered("delete a batch", statement("DELETE FROM audit_batches WHERE number = ?", n), at(audit.BatchMissing, n, 0, ""))
			a.tampered("renumber a batch", statement("UPDATE audit_batches SET number = 1000000000000 WHERE number = ?", n),
				at(audit.BatchMissing, n, 0, ""), at(audit.BatchEdited, 1e12, 0, ""))
			a.tampered("a batch with another account", batch("account_id = 'acc_z'"), at(audit.BatchMissing, n, 0, ""))
			for m := n + 1; m < int64(len(a.sealed)); m++ {
				exchange := statements(do("UPDATE audit_batches SET number = -1 WHERE number = ?", n), do("UPDATE audit_batches SET number = ? WHERE number = ?", n, m),
					do("UPDATE audit_batches SET number = ? WHERE number = -1", m))
				a.tampered("exchange batches", exchange, at(audit.BatchEdited, n, 0, ""), at(audit.BatchEdited, m, 0, ""))
			}
			// The end of everything, so that what is left is whole in itself.
			var cut []audit.Finding
			for later := n; later < int64(len(a.sealed)); later++ {
				cut = append(cut, at(audit.BatchMissing, later, 0, ""), at(audit.Deleted, later, 1, a.sealed[later][0].ID))
			}
			a.tampered("cut off the end", statements(do("DELETE FROM audit_batches WHERE number >= ?", n), do("DELETE FROM audit_entries WHERE sealed_in >= ? OR sealed_in IS NULL", n)), cut...)
		}
	})
}

// Somebody with the database has the signing key, but not the storage.
func TestAChainForgedWithTheKeyDiffersFromItsRoots(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		a := newArchive(t, d, blobtest.Files(t), 1)
		a.chain(2, 3, 2)
		e := a.sealed[2][1]
		for _, query := range []string{
			"UPDATE audit_entries SET actor_id = 'usr_innocent' WHERE id = '" + e.ID + "'", "DELETE FROM audit_batches WHERE number >= 2", "UPDATE audit_entries SET sealed_in = NULL WHERE sealed_in >= 2",
		} {
			if _, err := d.Write().NewRaw(query).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// The forger's own storage, where nothing is in the way.
		forger := newSealer(t, d, blobtest.Files(t))
		if err := forger.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.found("forged", a.verify(t.Context(), d), at(audit.BatchEdited, 2, 0, ""), at(audit.Edited, 2, 2, e.ID), at(audit.BatchMissing, 3, 0, ""))
	})
}

// Somebody with the database and the storage, who has forged one batch in both.
func TestABatchThatDoesNotFollowTheOneBeforeIsFound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		a := newArchive(t, d, blobtest.Files(t), 1)
		for _, n := range []int{2, 3, 2} {
			a.seal(n)
		}
		forger := newSealer(t, d, blobtest.Files(t))
		for _, step := range []func() error{
			func() error {
				return d.InTx(t.Context(), statements(
					do("CREATE TABLE kept AS SELECT * FROM audit_batches WHERE number = 3"), do("DELETE FROM audit_batches WHERE number >= 2"),
					do("UPDATE audit_entries SET actor_id = 'usr_innocent', sealed_in = NULL WHERE sealed_in = 2")))
			},
			func() error { return forger.Seal(t.Context()) },
			func() error {
				return d.InTx(t.Context(), statements(do("INSERT INTO audit_batches SELECT * FROM kept"), do("DROP TABLE kept")))
			},
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		name := "audit/" + account + "/2.json"
		forged := &archive{t: t, blobs: forger.Blobs}
		a.put(name, forged.read(name))
		report := a.verify(t.Context(), d)
		if len(report.Findings) != 1 {
			t.Errorf("found %v", report.Findings)
		}
		a.found("forged", report, at(audit.BatchEdited, 3, 0, ""))
	})
}

func TestEveryChangeInTheStorageIsFound(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	blobtest.Each(t, func(t *testing.T, blobs *blob.Store) {
		if _, err := d.Write().NewRaw("DELETE FROM audit_entries").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write().NewRaw("DELETE FROM audit_batches").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		a := newArchive(t, d, blobs, 2)
		a.chain(2, 1, 3)
		a.untouched()
		// Until now nothing was missing for long.
		if _, err := d.Write().NewRaw("UPDATE audit_batches SET rooted = true").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := int64(1); n < int64(len(a.sealed)); n++ {
			name := fmt.Sprintf("audit/%s/%d.json", account, n)
			whole := a.read(name)
			for range 20 {
				flipped := []byte(whole)
				flipped[a.random.IntN(len(flipped))] ^= 1 << a.random.IntN(7)
				a.put(name, string(flipped))
				a.found("flip", a.verify(t.Context(), d), at(audit.RootEdited, n, 0, ""))
			}
			for _, text := range []string{"", "{}", whole[:len(whole)/2], a.read(fmt.Sprintf("audit/%s/%d.json", account, n%3+1))} {
				a.put(name, text)
				a.found("replace", a.verify(t.Context(), d), at(audit.RootEdited, n, 0, ""))
			}
			if err := blobs.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			a.found("delete", a.verify(t.Context(), d), at(audit.RootMissing, n, 0, ""))
			// Of what is nowhere, the chain still shows that it was there.
			missing := at(audit.BatchMissing, n, 0, "")
			if n == int64(len(a.sealed)-1) {
				missing = at(audit.Inserted, n, 0, a.sealed[n][0].ID)
			}
			a.tampered("delete everywhere", statement("DELETE FROM audit_batches WHERE number = ?", n), missing)
			a.put(name, whole)
			a.untouched()
		}
		pinned := a.read("audit/key.json")
		a.put("audit/key.json", strings.Replace(pinned, `"public_key":"`, `"public_key":"A`, 1))
		if report := a.verify(t.Context(), d); len(report.Findings) != 1 || report.Findings[0].Kind != audit.KeyMissing {
			t.Errorf("found %v", report.Findings)
		}
		a.put("audit/key.json", `{"public_key":"`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`","created_at":"2026-01-31T08:00:00Z"}`)
		a.found("another key", a.verify(t.Context(), d), at(audit.BatchEdited, 1, 0, ""), at(audit.RootEdited, 1, 0, ""))
		a.put("audit/key.json", pinned)
		// The end of the chain, in SQL alone.
		a.tampered("cut off", statements(do("DELETE FROM audit_batches WHERE number > 1"), do("DELETE FROM audit_entries WHERE sealed_in > 1 OR sealed_in IS NULL")),
			at(audit.BatchMissing, 2, 0, ""), at(audit.BatchMissing, 3, 0, ""), at(audit.Deleted, 3, 3, a.sealed[3][2].ID))
		a.tampered("everything", statements(do("DELETE FROM audit_batches"), do("DELETE FROM audit_entries")), at(audit.BatchMissing, 1, 0, ""), at(audit.Deleted, 1, 1, a.sealed[1][0].ID))
		a.untouched()
	})
}

func (a *archive) read(name string) string {
	a.t.Helper()
	body, err := a.blobs.Get(a.t.Context(), name, 0, -1)
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

func (a *archive) put(name, text string) {
	a.t.Helper()
	if err := a.blobs.Put(a.t.Context(), name, strings.NewReader(text), int64(len(text))); err != nil {
		a.t.Fatal(err)
	}
}

func TestAnEntryThatAppearsLateIsSealed(t *testing.T) {
	d := dbtest.Open(t, dbtest.PostgresURL(t))
	a := newArchive(t, d, blobtest.Files(t), 3)
	a.seal(3)
	early := a.entry()
	early.CreatedAt = a.sealed[1][2].CreatedAt.Add(time.Minute)
	late := a.entry()
	late.CreatedAt = early.CreatedAt.Add(time.Minute)
	err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		a.write(ctx, tx, early)
		// Others are written and sealed while this transaction is open.
		a.write(t.Context(), d, late)
		return a.sealer.Seal(t.Context())
	})
	if err != nil {
		t.Fatal(err)
	}
	a.sealed = append(a.sealed, []audit.Entry{late})
	if err := a.sealer.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.sealed = append(a.sealed, []audit.Entry{early})
	a.write(t.Context(), d, a.entry(), a.entry())
	a.untouched()
}

func TestTwoProcessesSealEachEntryOnce(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			where, blobs := location(t), blobtest.Files(t)
			a := newArchive(t, dbtest.Open(t, where), blobs, 4)
			done := make(chan struct{})
			var sealing sync.WaitGroup
			for range 2 {
				s := newSealer(t, dbtest.Open(t, where), blobs)
				sealing.Go(func() {
					for {
						if err := s.Seal(t.Context()); err != nil {
							t.Error(err)
						}
						select {
						case <-done:
							return
						default:
						}
					}
				})
			}
			sealing.Go(func() {
				for {
					report, err := audit.Verify(t.Context(), a.db, blobs, "")
					if err != nil || len(report.Findings) > 0 {
						t.Errorf("while it is sealed: %v %v", report.Findings, err)
					}
					select {
					case <-done:
						return
					default:
					}
				}
			})
			const entries = 60
			for range entries {
				a.write(t.Context(), a.db, a.entry())
			}
			close(done)
			sealing.Wait()
			if err := a.sealer.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			report := a.verify(t.Context(), a.db)
			if len(report.Findings) > 0 || report.Entries != entries || report.Unsealed != 0 {
				t.Errorf("%d entries, %d unsealed, found %v", report.Entries, report.Unsealed, report.Findings)
			}
		})
	}
}

func TestABacklogIsSealedInOneRound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		a := newArchive(t, d, blobtest.Files(t), 5)
		a.sealer.Within = 0
		entries := make([]audit.Entry, 2*audit.MaxBatch+7)
		for i := range entries {
			entries[i] = a.entry()
		}
		if _, err := d.Write().NewInsert().Model(&entries).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.sealer.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if report := a.verify(t.Context(), d); report.Batches != 3 || report.Entries != len(entries) || len(report.Findings) > 0 {
			t.Errorf("%+v", report)
		}
		young := a.entry()
		young.CreatedAt = db.Now()
		a.write(t.Context(), d, young)
		if err := a.sealer.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if report := a.verify(t.Context(), d); report.Batches != 3 || report.Unsealed != 1 || len(report.Findings) > 0 {
			t.Errorf("a young entry was sealed: %+v", report)
		}
	})
}

// A process that died between its commit and the storage leaves a batch to put there.
func TestABatchThatDidNotReachTheStorageIsPutThere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		a := newArchive(t, d, blobtest.Files(t), 6)
		a.chain(2, 2)
		name := "audit/" + account + "/2.json"
		stored := a.read(name)
		if err := a.blobs.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write().NewRaw("UPDATE audit_batches SET rooted = false WHERE number = 2").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.untouched()
		a.sealer.Within = 1e6 * time.Hour
		if err := a.sealer.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.read(name) != stored {
			t.Error("another batch was stored")
		}
		a.untouched()
	})
}

func TestAnEditedBatchDoesNotReplaceItsRoot(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		a := newArchive(t, d, blobtest.Files(t), 7)
		a.chain(2, 2)
		stored := a.read("audit/" + account + "/2.json")
		for _, set := range []string{"last_id = 'aud_x', rooted = false WHERE number = 2", "number = 3 WHERE number = 2"} {
			if _, err := d.Write().NewRaw("UPDATE audit_batches SET " + set).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.sealer.Within = 1e6 * time.Hour
			if err := a.sealer.Seal(t.Context()); err == nil || !strings.Contains(err.Error(), "edited") {
				t.Errorf("%s: %v", set, err)
			}
		}
		if a.read("audit/"+account+"/2.json") != stored {
			t.Error("the root was replaced")
		}
		if _, err := a.blobs.Stat(t.Context(), "audit/"+account+"/3.json"); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("what was not signed was stored: %v", err)
		}
	})
}

// As after an older copy of the database was restored.
func TestSealingGoesOnBehindWhatTheDatabaseHasLost(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		a := newArchive(t, d, blobtest.Files(t), 8)
		for _, n := range []int{2, 2, 2} {
			a.seal(n)
		}
		roots := []string{a.read("audit/" + account + "/2.json"), a.read("audit/" + account + "/3.json")}
		for _, query := range []string{"DELETE FROM audit_batches WHERE number > 1", "DELETE FROM audit_entries WHERE sealed_in > 1"} {
			if _, err := d.Write().NewRaw(query).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		a.seal(2)
		for i, root := range roots {
			if a.read(fmt.Sprintf("audit/%s/%d.json", account, i+2)) != root {
				t.Errorf("root %d was replaced", i+2)
			}
		}
		report := a.verify(t.Context(), d)
		a.found("restored", report, at(audit.BatchMissing, 2, 0, ""), at(audit.BatchMissing, 3, 0, ""), at(audit.Deleted, 2, 1, a.sealed[2][0].ID), at(audit.Deleted, 3, 2, a.sealed[3][1].ID))
		if report.Batches != 4 || report.Entries != 4 || len(report.Findings) != 6 {
			t.Errorf("%+v", report)
		}
	})
}

// What reading a line of the report tells a person.
func TestAFindingSaysWhereItIs(t *testing.T) {
	f := audit.Finding{Kind: audit.Edited, AccountID: "acc_1", Batch: 3, Position: 2, EntryID: "aud_1", Detail: "its content is not what was sealed"}
	if got, want := f.String(), "edited: account acc_1, batch 3, position 2, entry aud_1: its content is not what was sealed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f = audit.Finding{Kind: audit.KeyMissing, Detail: "x"}
	if got, want := f.String(), "key_missing: installation: x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
