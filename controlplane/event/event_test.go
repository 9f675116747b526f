package event_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func masks(t *testing.T) event.Masks {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	return event.NewMasks(spec.View.Components.Schemas)
}

// accounts makes rows that events can refer to.
func accounts(t *testing.T, d *db.DB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		_, err := d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
			VALUES (?, ?, '{}', ?, ?, '1', ?, 'CN', '{}')`, id, id, db.Now(), db.Now(), id).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newFeed(t *testing.T, d *db.DB, location string) *event.Feed {
	t.Helper()
	return event.NewFeed(d, bustest.Open(t, location), slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// run runs a feed until the test, or stop, ends it.
func run(t *testing.T, f *event.Feed) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

func emit(t *testing.T, d *db.DB, events ...event.Event) {
	t.Helper()
	if err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, events...) }); err != nil {
		t.Fatal(err)
	}
}

// place places everything there is.
func place(t *testing.T, f *event.Feed) (placed int) {
	t.Helper()
	for {
		n, err := f.Place(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return placed
		}
		placed += n
	}
}

func thing(account, object string) event.Event {
	return event.Event{AccountID: account, Type: "thing.changed", Resource: "things", ObjectID: object}
}

func inCall(account, call string, sequence int64) event.Event {
	return event.Event{AccountID: account, Type: "call.ringing", Resource: "calls", CallID: call, Sequence: sequence}
}

func TestWhatIsRolledBackDidNotHappen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1")
		f := newFeed(t, d, "memory:")
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := event.Emit(ctx, tx, thing("acc_1", "a")); err != nil {
				return err
			}
			return context.Canceled
		})
		if err == nil {
			t.Fatal("committed")
		}
		emit(t, d, thing("acc_1", "b"))
		if n := place(t, f); n != 1 {
			t.Errorf("placed %d events, want 1", n)
		}
		events, err := f.After(t.Context(), 0, 10)
		if err != nil || len(events) != 1 || events[0].ObjectID != "b" || events[0].Position != 1 || !strings.HasPrefix(events[0].ID, "evt_") || events[0].OccurredAt.IsZero() {
			t.Errorf("got %+v, %v", events, err)
		}
	})
}

func TestAnEventCommittedLateIsNotPassedOver(t *testing.T) {
	// SQLite has one transaction at a time, so that there is nothing late in it.
	d := dbtest.Open(t, dbtest.PostgresURL(t))
	accounts(t, d, "acc_1")
	f := newFeed(t, d, "memory:")
	begun, finish := make(chan struct{}), make(chan struct{})
	var slow sync.WaitGroup
	slow.Go(func() {
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := event.Emit(ctx, tx, thing("acc_1", "slow")); err != nil {
				return err
			}
			close(begun)
			<-finish
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	emit(t, d, thing("acc_1", "fast"))
	place(t, f)
	before, err := f.After(t.Context(), 0, 10)
	if err != nil || len(before) != 1 || before[0].ObjectID != "fast" {
		t.Fatalf("before: %+v, %v", before, err)
	}
	close(finish)
	slow.Wait()
	place(t, f)
	after, err := f.After(t.Context(), before[0].Position, 10)
	if err != nil || len(after) != 1 || after[0].ObjectID != "slow" {
		t.Errorf("after: %+v, %v", after, err)
	}
}

// TestAFollowerMissesNothing has many writers in many transactions, two processes that place, and one that reads along.
func TestAFollowerMissesNothing(t *testing.T) {
	const writers, transactions, each = 8, 25, 3
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			url := location(t)
			redis := bustest.RedisURL(t)
			d := dbtest.Open(t, url)
			second := d
			if name == "postgres" {
				second = dbtest.Open(t, url)
			}
			accounts(t, d, "acc_1")
			feeds := []*event.Feed{newFeed(t, d, redis), newFeed(t, second, redis)}
			for _, f := range feeds {
				run(t, f)
			}
			var writing sync.WaitGroup
			for w := range writers {
				writing.Go(func() {
					call := fmt.Sprintf("call_%d", w)
					for n := range transactions {
						err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
							var events []event.Event
							for i := range each {
								events = append(events, inCall("acc_1", call, int64(n*each+i+1)))
							}
							return event.Emit(ctx, tx, events...)
						})
						if err != nil {
							t.Error(err)
						}
						feeds[w%2].Wake()
					}
				})
			}
			woken, stop := feeds[1].Watch()
			defer stop()
			last, sequence := int64(0), map[string]int64{}
			for last < writers*transactions*each {
				events, err := feeds[1].After(t.Context(), last, 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					if e.Position != last+1 {
						t.Fatalf("after position %d comes %d", last, e.Position)
					}
					last = e.Position
					if e.Sequence != sequence[e.CallID]+1 {
						t.Fatalf("%s: after %d comes %d", e.CallID, sequence[e.CallID], e.Sequence)
					}
					sequence[e.CallID] = e.Sequence
				}
				if len(events) == 0 {
					select {
					case <-woken:
					case <-t.Context().Done():
						t.Fatal("timed out")
					}
				}
			}
			writing.Wait()
			if highest, err := feeds[0].Last(t.Context()); err != nil || highest != last {
				t.Errorf("the last position is %d, %v; want %d", highest, err, last)
			}
		})
	}
}

func TestEventsOfACallAreInOrderWhateverTheClocksSay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1")
		f := newFeed(t, d, "memory:")
		// More than one transaction takes, so that the first part alone would have the later events of the call and not the
		// earlier ones.
		var events []event.Event
		for i := range 600 {
			events = append(events, thing("acc_1", fmt.Sprint(i)))
		}
		emit(t, d, events...)
		emit(t, d, inCall("acc_1", "call_1", 1), inCall("acc_1", "call_1", 2), inCall("acc_1", "call_1", 3))
		for sequence, created := range map[int]time.Duration{1: time.Hour, 2: -time.Hour, 3: -2 * time.Hour} {
			_, err := d.Write().NewRaw("UPDATE events SET created_at = ? WHERE call_id = 'call_1' AND sequence = ?", db.Now().Add(created), sequence).Exec(t.Context())
			if err != nil {
				t.Fatal(err)
			}
		}
		place(t, f)
		all, err := f.After(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for i, e := range all {
			if e.Position != int64(i+1) {
				t.Fatalf("position %d is at %d", e.Position, i)
			}
			if e.CallID == "call_1" {
				got = append(got, e.Sequence)
			}
		}
		if want := []int64{1, 2, 3}; !slices.Equal(got, want) || len(all) != 603 {
			t.Errorf("%d events, and the call's in the order %v", len(all), got)
		}
	})
}

func TestALookAtWhatIsRecentKeepsTheOrderOfACall(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1")
		f := newFeed(t, d, "memory:")
		emit(t, d, inCall("acc_1", "call_1", 1), inCall("acc_1", "call_1", 2), inCall("acc_1", "call_2", 1), thing("acc_1", "a"))
		// The first was long on its way, and so was the thing.
		_, err := d.Write().NewRaw("UPDATE events SET created_at = ? WHERE (call_id = 'call_1' AND sequence = 1) OR object_id = 'a'", db.Now().Add(-time.Minute)).Exec(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.PlaceSince(t.Context(), db.Now().Add(-time.Second)); err != nil || n != 4 {
			t.Fatalf("placed %d events, %v", n, err)
		}
		emit(t, d, inCall("acc_1", "call_1", 3), inCall("acc_1", "call_1", 4), thing("acc_1", "a"))
		if _, err := d.Write().NewRaw("UPDATE events SET created_at = ? WHERE position IS NULL AND object_id = 'a'", db.Now().Add(-time.Minute)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := f.PlaceSince(t.Context(), db.Now().Add(-time.Second)); err != nil || n != 2 {
			t.Fatalf("placed %d events, %v", n, err)
		}
		all, err := f.After(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, e := range all {
			if e.CallID == "call_1" {
				got = append(got, e.Sequence)
			}
		}
		if want := []int64{1, 2, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("placed %v", got)
		}
	})
}

func TestWakeUpsReachEveryProcess(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{
		"memory": func(*testing.T) string { return "memory:" }, "redis": func(t *testing.T) string { return bustest.RedisURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			d := dbtest.Open(t, dbtest.PostgresURL(t))
			accounts(t, d, "acc_1")
			url := location(t)
			shared := bustest.Open(t, url)
			open := func() *bus.Bus {
				if name == "memory" {
					return shared
				}
				return bustest.Open(t, url)
			}
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			a, b := event.NewFeed(d, open(), log), event.NewFeed(d, open(), log)
			for _, f := range []*event.Feed{a, b} {
				f.LookEvery(time.Hour)
			}
			stopA := run(t, a)
			settle(t, d, a, a)
			run(t, b)
			// One of them places: whoever wakes the other's turn is heard there.
			settle(t, d, b, a)
			settle(t, d, a, b)
			stopA()
			settle(t, d, b, b)
		})
	}
}

// settle emits an event, wakes one feed, and waits until a watcher of another has seen it placed. Wakes are repeated:
// a process that has just begun may not be listening yet.
func settle(t *testing.T, d *db.DB, emitting, watching *event.Feed) {
	t.Helper()
	before, err := watching.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	woken, stop := watching.Watch()
	defer stop()
	emit(t, d, thing("acc_1", "a"))
	repeat := time.NewTicker(200 * time.Millisecond)
	defer repeat.Stop()
	for emitting.Wake(); ; {
		select {
		case <-woken:
			if last, err := watching.Last(t.Context()); err == nil && last > before {
				return
			}
		case <-repeat.C:
			emitting.Wake()
			emitting.Tell()
		case <-t.Context().Done():
			t.Fatal("nobody was woken")
		}
	}
}

func TestForeignTextsAreStorable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1")
		f := newFeed(t, d, "memory:")
		for _, c := range []struct{ data, want string }{
			{"", `{}`},
			{`{"a":"x\u0000y"}`, `{"a":"x` + "\ufffd" + `y"}`},
			{`{"a":"\\u0000"}`, `{"a":"\\u0000"}`},
			{`{"a":"\ud800"}`, `{"a":"` + "\ufffd" + `"}`},
			{`{"a":"\ud83d\ude00"}`, `{"a":"😀"}`},
			{"{\"a\":\"\xff\"}", `{"a":"` + "\ufffd" + `"}`},
			{`{"x\u0000":[{"y":"\u0000"}],"n":12345678901234567890}`, `{"x` + "\ufffd" + `":[{"y":"` + "\ufffd" + `"}],"n":12345678901234567890}`},
		} {
			e := thing("acc_1", "a")
			e.Data = json.RawMessage(c.data)
			emit(t, d, e)
			place(t, f)
			last, err := f.Last(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stored, err := f.After(t.Context(), last-1, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !sameJSON(t, string(stored[0].Data), c.want) {
				t.Errorf("%q is stored as %s, want %s", c.data, stored[0].Data, c.want)
			}
		}
		for _, data := range []string{"null", "[]", `"x"`, "{", "{}{}"} {
			e := thing("acc_1", "a")
			e.Data = json.RawMessage(data)
			if err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, e) }); err == nil {
				t.Errorf("%q was taken for an object", data)
			}
		}
	})
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	for _, one := range []struct {
		text string
		into *any
	}{{a, &x}, {b, &y}} {
		decoder := json.NewDecoder(strings.NewReader(one.text))
		decoder.UseNumber()
		if err := decoder.Decode(one.into); err != nil {
			t.Fatalf("%s: %v", one.text, err)
		}
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func FuzzEmittedDataIsAnObject(f *testing.F) {
	for _, seed := range []string{"{}", `{"a":"\u0000"}`, `{"a":"\ud800\u0000"}`, "{\"\xff\":1}", "null", "[1]", " {} ", `{"a":1e999}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := event.Storable(data)
		if err != nil {
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil || object == nil {
			t.Fatalf("%q became %q: %v", data, text, err)
		}
		if again, err := event.Storable(text); err != nil || string(again) != string(text) {
			t.Fatalf("%q became %q, and that %q, %v", data, text, again, err)
		}
	})
}

func TestEventsThatFitNothingAreRefused(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	accounts(t, d, "acc_1")
	for name, change := range map[string]func(*event.Event){
		"no account": func(e *event.Event) { e.AccountID = "" }, "no type": func(e *event.Event) { e.Type = "" },
		"no resource": func(e *event.Event) { e.Resource = "" }, "a sequence without call": func(e *event.Event) { e.Sequence = 1 },
		"a type of two lines": func(e *event.Event) { e.Type = "a\nb" },
	} {
		e := thing("acc_1", "a")
		change(&e)
		if err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, e) }); err == nil {
			t.Errorf("%s: emitted", name)
		}
	}
}

func TestOldEventsArePurgedAndMissed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1", "acc_2")
		f := newFeed(t, d, "memory:")
		var events []event.Event
		for i := range 1500 {
			events = append(events, thing("acc_1", fmt.Sprint(i)))
		}
		emit(t, d, events...)
		emit(t, d, thing("acc_2", "a"), thing("acc_1", "b"))
		place(t, f)
		if _, err := d.Write().NewRaw("UPDATE events SET created_at = ? WHERE position <= 1400", db.Now().Add(-31*24*time.Hour)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := f.After(t.Context(), 0, 1000)
		if err != nil || len(left) != 102 || left[0].Position != 1401 {
			t.Fatalf("left %d events, %v", len(left), err)
		}
		for _, c := range []struct {
			account string
			after   int64
			want    string
		}{{"acc_1", 1400, ""}, {"acc_1", 1450, ""}, {"acc_1", 1399, "position 1401, so read on after 1400"}, {"acc_2", 7, "position 1501"}, {"acc_3", 7, "read on after 1400"}} {
			err := f.Kept(t.Context(), c.account, c.after)
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s after %d: %v", c.account, c.after, err)
			}
		}
	})
}

// TestWhatAReaderSeesIsTheSameInSQLAndInGo compares the two for every kind of reader with every kind of event.
func TestWhatAReaderSeesIsTheSameInSQLAndInGo(t *testing.T) {
	own := auth.Rows{Users: []string{"usr_1"}}
	department := auth.Rows{Departments: []string{"dep_1"}}
	readers := map[string]auth.Caller{
		"everything":         {Permissions: []string{"*"}},
		"nothing":            {},
		"events alone":       {Permissions: []string{"events.read"}},
		"calls":              {Permissions: []string{"events.read", "calls.read"}},
		"calls, wild":        {Permissions: []string{"calls.*", "jobs.write"}},
		"own calls":          {Permissions: []string{"*"}, Reach: map[string]auth.Rows{"calls": own}},
		"all calls of own":   {Permissions: []string{"*"}, Reach: map[string]auth.Rows{"*": own, "calls": {All: true}}},
		"department":         {Permissions: []string{"*"}, Reach: map[string]auth.Rows{"*": department}},
		"own and department": {Permissions: []string{"*"}, Reach: map[string]auth.Rows{"*": {Users: own.Users, Departments: department.Departments}, "jobs": {}}},
		"no account":         {Permissions: []string{"*"}, Scope: auth.Scope{}},
	}
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1", "acc_2")
		f := newFeed(t, d, "memory:")
		for _, account := range []string{"acc_1", "acc_2"} {
			for _, resource := range []string{"calls", "jobs", "things"} {
				for _, owner := range []string{"", "usr_1", "usr_2"} {
					for _, dep := range []string{"", "dep_1", "dep_2"} {
						emit(t, d, event.Event{AccountID: account, Type: "x.changed", Resource: resource, OwnerID: owner, DepartmentID: dep})
					}
				}
			}
		}
		place(t, f)
		all, err := f.After(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for name, who := range readers {
			who.AccountID = "acc_1"
			if name != "no account" {
				who.Scope = auth.Account("acc_1")
			}
			reader := event.ReaderOf(who)
			var want, got []string
			for i := range all {
				if reader.Sees(&all[i]) {
					want = append(want, all[i].ID)
				}
			}
			err := d.Read().NewSelect().Model((*event.Event)(nil)).Column("id").Apply(reader.Where).OrderBy("position", bun.OrderAsc).Scan(t.Context(), &got)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: SQL has %d events, Go %d", name, len(got), len(want))
			}
			t.Logf("%s sees %d", name, len(want))
		}
	})
}

func TestPatternsMatchTypes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, "acc_1")
		kinds := []string{"call.ended", "call.action.completed", "call_x.ended", "dtmf", "recording.completed"}
		for _, kind := range kinds {
			emit(t, d, event.Event{AccountID: "acc_1", Type: kind, Resource: "calls"})
		}
		for _, c := range []struct{ patterns, want []string }{
			{[]string{"*"}, kinds},
			{[]string{"call.*"}, []string{"call.ended", "call.action.completed"}},
			{[]string{"call.action.*", "dtmf"}, []string{"call.action.completed", "dtmf"}},
			{[]string{"call.ended"}, []string{"call.ended"}},
			{[]string{"call*", "Call.*", "call"}, nil},
		} {
			var inGo, inSQL []string
			for _, kind := range kinds {
				if event.Match(c.patterns, kind) {
					inGo = append(inGo, kind)
				}
			}
			err := event.OfTypes(d.Read().NewSelect().Model((*event.Event)(nil)).Column("type"), c.patterns).OrderBy("id", bun.OrderAsc).Scan(t.Context(), &inSQL)
			if err != nil || !slices.Equal(inGo, c.want) || !slices.Equal(inSQL, c.want) {
				t.Errorf("%v: %v in Go, %v in SQL (%v), want %v", c.patterns, inGo, inSQL, err, c.want)
			}
		}
	})
}

func TestNumbersAreHiddenByTheSchemaOfTheType(t *testing.T) {
	m := masks(t)
	hidden := auth.Mask{Numbers: true}
	for _, c := range []struct {
		kind, data string
		mask       auth.Mask
		want       string
	}{
		{"call.initiated", `{"from":"+8613800138000","to":"1000","status":"x"}`, auth.Mask{}, `{"from":"+8613800138000","to":"1000","status":"x"}`},
		{"call.initiated", `{"from":"+8613800138000","to":"1000","direction":"inbound"}`, hidden, `{"direction":"inbound","from":"************00","to":"**00"}`},
		{"gather.completed", `{"digits":"13800138000"}`, hidden, `{"digits":"*********00"}`},
		{"endpoint.disabled", `{"url":"https://example.com/"}`, hidden, `{"url":"https://example.com/"}`},
		{"unheard.of", `{"number":"+8613800138000"}`, hidden, `{}`},
		{"unheard.of", `{"number":"+8613800138000"}`, auth.Mask{}, `{"number":"+8613800138000"}`},
	} {
		if got := m.Data(c.kind, json.RawMessage(c.data), c.mask); string(got) != c.want {
			t.Errorf("%s %s: %s, want %s", c.kind, c.data, got, c.want)
		}
	}
}
