package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

func TestTheReceiverCountsWhatIsLostTwiceAndOutOfOrder(t *testing.T) {
	r := &receiver{occurred: map[webhooks.EventID]time.Time{}, arrived: map[webhooks.EventID]int{}, last: map[webhooks.CallID]int64{}}
	began := time.Now()
	for _, id := range []webhooks.EventID{"one", "two", "three", "lost", "other"} {
		r.expect(id, began)
	}
	for i, e := range []webhooks.Event{
		{ID: "one", CallID: "a", Sequence: 1},
		{ID: "three", CallID: "a", Sequence: 3},
		{ID: "two", CallID: "a", Sequence: 2},
		{ID: "one", CallID: "a", Sequence: 1},
		{ID: "other", CallID: "b", Sequence: 1},
		{ID: "unknown", CallID: "b", Sequence: 2},
	} {
		r.take(e, began.Add(time.Duration(i+1)*time.Millisecond))
	}
	f := r.figures()
	if r.lost() != 1 || f.sent != 5 || f.twice != 1 || f.disorder != 1 || f.strange != 1 {
		t.Errorf("lost %d, %+v", r.lost(), f)
	}
	if len(f.took) != 4 || f.took[0] != time.Millisecond || f.took[3] != 5*time.Millisecond {
		t.Errorf("took %v", f.took)
	}
}

func TestTheTableIsMarkdownAndNamesWhatMissedItsMark(t *testing.T) {
	table := table{columns: []string{"SQLite", "PostgreSQL"}}
	sheet{&table, "SQLite"}.set("reads", "≥ 3", "4", true)
	sheet{&table, "PostgreSQL"}.set("reads", "≥ 3", "2", false)
	sheet{&table, "PostgreSQL"}.tell("row security", "+1 µs")
	var text bytes.Buffer
	table.write(&text)
	want := `
| | mark | SQLite | PostgreSQL |
|---|---|---|---|
| reads | ≥ 3 | 4 | 2 |
| row security |  | – | +1 µs |

MISSED: PostgreSQL, reads: 2 (mark: ≥ 3)
`
	if text.String() != want {
		t.Errorf("wrote %s\nwant %s", text.String(), want)
	}
}

func TestATableThatIsImportedHasEveryRowOnce(t *testing.T) {
	seen := map[string]bool{}
	for i := range 2000 {
		seen[numberOf("+8614", i)] = true
		if n := numberOf("+8614", i); len(n) != len("+8613800138000") || !strings.HasPrefix(n, "+8614") {
			t.Fatalf("row %d is %s", i, n)
		}
	}
	if len(seen) != 2000 {
		t.Errorf("%d rows differ", len(seen))
	}
}

func TestThousandsAreSetApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}
