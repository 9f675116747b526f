package blocklist

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

// fill puts n entries into an account: whole numbers, and among every hundred of them a pattern.
func fill(t testing.TB, d *db.DB, n int) *account.Account {
	t.Helper()
	ctx := t.Context()
	if _, err := d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
		VALUES ('acc_1', 'acc_1', '{}', ?, ?, '1', 'a', 'CN', '{}')`, db.Now(), db.Now()).Exec(ctx); err != nil {
		t.Fatal(err)
	}
	rows := make([]Entry, n)
	for i := range rows {
		e := &rows[i]
		e.Row = db.Row{ID: fmt.Sprintf("blk_%06d", i), AccountID: "acc_1", Metadata: map[string]any{}, CreatedAt: db.Now(), UpdatedAt: db.Now(), Etag: "1"}
		e.Draft = Draft{Direction: In, Kind: KindNumber, Number: fmt.Sprintf("+86138%08d", i), Action: Block}
		if i%100 == 0 {
			e.Kind, e.Number = KindPattern, fmt.Sprintf("139%05d*", i)
		}
		e.Prefix = e.prefixOf()
	}
	for part := range slices.Chunk(rows, 500) {
		if _, err := d.Write().NewInsert().Model(&part).Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return &account.Account{Row: db.Row{ID: "acc_1"}, Draft: account.Draft{DefaultCountry: "CN"}}
}

// A number is looked up by its prefixes: whatever else is in the list is not read. PostgreSQL needs statistics for that,
// which autovacuum gathers within a minute after an import; until then a look-up may read the account's whole list.
func TestALookUpReadsNoMoreThanItsPrefixes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		fill(t, d, 20_000)
		if _, err := d.Write().NewRaw("ANALYZE blocklist_entries").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if plan := explain(t, d); !strings.Contains(plan, "blocklist_entries_prefix") {
			t.Errorf("the look-up is a scan:\n%s", plan)
		}
	})
}

// explain is how the database would run a look-up.
func explain(t *testing.T, d *db.DB) string {
	t.Helper()
	word := "EXPLAIN "
	if !strings.Contains(fmt.Sprintf("%T", d.Read().Dialect()), "pgdialect") {
		word = "EXPLAIN QUERY PLAN "
	}
	rows, err := d.Read().QueryContext(t.Context(), word+`SELECT * FROM blocklist_entries WHERE account_id = 'acc_1' AND direction IN ('in', 'both')
		AND (expires_at IS NULL OR expires_at > '2026-01-01') AND prefix IN ('`+strings.Join(prefixes(forms("+8613812345678", "CN")), "', '")+`')`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	plan := ""
	for rows.Next() {
		line := make([]any, len(columns))
		for i := range line {
			line[i] = new(string)
		}
		if err := rows.Scan(line...); err != nil {
			t.Fatal(err)
		}
		plan += *line[len(line)-1].(*string) + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// BenchmarkMatch is one look-up among 100,000 entries.
func BenchmarkMatch(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmark(b, "sqlite:"+filepath.Join(b.TempDir(), "bench.db")) })
	b.Run("postgres", func(b *testing.B) { benchmark(b, dbtest.Postgres(b)) })
}

func benchmark(b *testing.B, location string) {
	d, err := db.Open(b.Context(), location)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	a := fill(b, d, 100_000)
	if _, err := d.Write().NewRaw("ANALYZE blocklist_entries").Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
	s := &Service{DB: d}
	for name, c := range map[string]struct {
		number string
		found  bool
	}{
		"number": {"+8613800050001", true}, "pattern": {"+8613905000123", true}, "none": {"+8613700137000", false}, "foreign": {"+12015550123", false},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				e, err := s.Match(b.Context(), a, In, c.number)
				if err != nil || (e != nil) != c.found {
					b.Fatal(e, err)
				}
			}
		})
	}
}

func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{{"1705*", "17051234567"}, {"+86170????????", "+8617051234567"}, {"*", ""}, {"??", "95"}, {"+*", "+\xff"}, {"023*", "0236892"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		d := Draft{Direction: In, Kind: KindPattern, Number: pattern, Action: Block}
		if d.settle("CN") != nil {
			return
		}
		e := Entry{Draft: d, Prefix: d.prefixOf()}
		of := forms(text, "CN")
		if decide([]Entry{e}, of) == nil {
			return
		}
		// What fits must be found by the prefixes that are asked for.
		if !slices.Contains(prefixes(of), e.Prefix) {
			t.Errorf("%q fits %q, and is not looked up: it begins with %q", pattern, text, e.Prefix)
		}
	})
}
