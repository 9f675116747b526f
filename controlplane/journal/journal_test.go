package journal_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/journal"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is journals with a call, behind the REST API and with blobs on disk.
type fixture struct {
	*resttest.Server
	journals *journal.Service
	calls    *call.Service
	folder   string
}

const callID webhooks.CallID = "call_1"

func newFixture(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{calls: &call.Service{DB: d}, folder: t.TempDir()}
	f.journals = &journal.Service{DB: d, Calls: f.calls, Blobs: f.store(t, f.folder)}
	f.Server = resttest.Mount(t, d, spec, f.journals.Operations())
	e := webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: db.Now(),
		Data: webhooks.EventData{From: "1001", To: "1000", Direction: webhooks.Inbound}}
	if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: owner(1), Events: []webhooks.Event{e}}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) store(t *testing.T, folder string) *blob.Store {
	t.Helper()
	store, err := blob.Open(t.Context(), "file:"+folder, blob.Options{BaseURL: "http://blobs.test", Secret: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func owner(epoch int64) call.Owner {
	return call.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: epoch, AccountID: resttest.Account, CallID: callID}
}

// piece is a chunk of entries with these times. Every other is compressed, as edges send them.
func piece(number int, last bool, times ...int) journal.Chunk {
	var text []byte
	for _, t := range times {
		text = fmt.Appendf(text, `{"t":%d,"kind":"media","fact":"%d"}`+"\n", t, t)
	}
	if number%2 == 0 {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(text) // into memory
		_ = z.Close()
		text = packed.Bytes()
	}
	return journal.Chunk{Number: number, Text: text, Last: last}
}

func (f *fixture) append(t *testing.T, epoch int64, chunks ...journal.Chunk) {
	t.Helper()
	if err := f.journals.Append(t.Context(), owner(epoch), chunks); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) seal(t *testing.T) {
	t.Helper()
	if err := f.journals.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// blobs counts what lies in the store.
func (f *fixture) blobs(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(f.folder, "journals", resttest.Account, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// size is the octets of what lies in the store.
func (f *fixture) size(t *testing.T) (size int64) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(f.folder, "journals", resttest.Account, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

type page struct {
	Data []struct {
		T    int
		Kind string
		Code string
	}
	NextCursor string `json:"next_cursor"`
	Whole      bool
}

// read gives the times of a page, "lost" for what is missing, and the page.
func (f *fixture) read(t *testing.T, token, query string) (string, page) {
	t.Helper()
	var p page
	resttest.Want(t, f.Do(t, token, http.MethodGet, "/v1/calls/call_1/journal?"+query, nil), http.StatusOK, &p)
	var all []string
	for _, e := range p.Data {
		if e.Code != "" {
			all = append(all, e.Code)
		}
		all = append(all, fmt.Sprint(e.T))
	}
	return strings.Join(all, " "), p
}

func (f *fixture) want(t *testing.T, times string, whole bool, blobs int) {
	t.Helper()
	if got, p := f.read(t, resttest.Token, "limit=1000"); got != times || p.Whole != whole || f.blobs(t) != blobs {
		t.Errorf("there is %s, whole: %t, in %d blobs; want %s, %t, in %d", got, p.Whole, f.blobs(t), times, whole, blobs)
	}
}

func TestAJournalIsThereWhileTheCallLivesAndOneBlobInTheEnd(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.want(t, "", false, 0)
		f.append(t, 1, piece(1, false, 1, 2))
		f.seal(t) // it is not due
		f.want(t, "1 2", false, 0)
		f.append(t, 1, piece(1, false, 1, 2), piece(2, false, 3)) // the first one again
		f.append(t, 1, piece(3, true, 4))
		f.want(t, "1 2 3 4", true, 0)
		f.seal(t)
		f.want(t, "1 2 3 4", true, 1)
		f.append(t, 1, piece(2, false, 3), piece(3, true, 4)) // its edge had no answer
		f.seal(t)
		f.want(t, "1 2 3 4", true, 1)
		if n, err := d.Read().NewSelect().Table("journal_chunks").Count(t.Context()); err != nil || n != 0 {
			t.Errorf("%d chunks are left: %v", n, err)
		}
	})
}

// What an edge that came back still had, and what another edge went on with, follows what is sealed.
func TestWhatComesLaterIsAdded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.append(t, 1, piece(1, false, 1))
		if _, err := d.Write().NewUpdate().Table("journals").Set("updated_at = ?", db.Now().Add(-time.Hour)).Where("1 = 1").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.seal(t) // nothing came for an hour
		f.want(t, "1", false, 1)
		f.append(t, 1, piece(2, false, 2), piece(5, true, 9))
		f.want(t, "1 2 lost 9 9", true, 1)
		f.seal(t)
		f.want(t, "1 2 lost 9 9", true, 1)
		f.append(t, 2, piece(1, false, 0))
		f.want(t, "1 2 lost 9 9 0", false, 1)
	})
}

func TestOnlyTheOwnerOfACallWritesItsJournal(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		if _, err := d.Write().NewUpdate().Table("calls").Set("epoch = 2").Where("id = ?", callID).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		other, unknown, odd := owner(2), owner(2), owner(2)
		other.AccountID, unknown.CallID, odd.CallID = resttest.OtherAccount, "call_2", "call_1/../x"
		for name, c := range map[string]struct {
			owner call.Owner
			chunk journal.Chunk
			want  error
		}{
			"fenced":             {owner(1), piece(1, false, 1), call.ErrFenced},
			"of another account": {other, piece(1, false, 1), call.ErrRefused},
			"of no call":         {unknown, piece(1, false, 1), call.ErrRefused},
			"no id":              {odd, piece(1, false, 1), call.ErrRefused},
			"no number":          {owner(2), piece(0, false, 1), call.ErrRefused},
			"too much":           {owner(2), journal.Chunk{Number: 1, Text: make([]byte, 1<<20)}, call.ErrRefused},
		} {
			if err := f.journals.Append(t.Context(), c.owner, []journal.Chunk{c.chunk}); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.append(t, 2, journal.Chunk{Number: 1, Text: []byte("{\"t\":1,\"kind\":\"x\",\"a\":\"\x00\xff\"}\n")}, piece(2, true, 2))
		f.want(t, "1 2", true, 0)
	})
}

func TestAJournalGoesWithItsCall(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		release := func() {
			t.Helper()
			err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return f.journals.Release(ctx, tx, resttest.Account, []webhooks.CallID{callID, "call_9"})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		f.append(t, 1, piece(1, true, 1))
		f.seal(t)
		f.append(t, 1, piece(2, true, 2))
		release()
		f.want(t, "", false, 1)
		if err := f.journals.Append(t.Context(), owner(1), []journal.Chunk{piece(3, true, 3)}); !errors.Is(err, call.ErrRefused) {
			t.Errorf("more of a journal that goes: %v", err)
		}
		f.seal(t)
		f.want(t, "", false, 0)
		if n, err := d.Read().NewSelect().Table("journals").Count(t.Context()); err != nil || n != 0 {
			t.Errorf("%d rows are left: %v", n, err)
		}
	})
}

// The bytes of a call that goes leave the blob that it shares with others, which stay readable.
func TestOfABlobThatIsSharedOnlyWhatGoesIsRemoved(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		for _, id := range []webhooks.CallID{"call_0", "call_2"} {
			o := owner(1)
			o.CallID = id
			e := webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: db.Now()}
			if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: o, Events: []webhooks.Event{e}}); err != nil {
				t.Fatal(err)
			}
			if err := f.journals.Append(t.Context(), o, []journal.Chunk{piece(1, true, 7), piece(2, true, 8)}); err != nil {
				t.Fatal(err)
			}
		}
		f.append(t, 1, piece(1, false, 1), piece(2, true, 2))
		f.seal(t)
		f.want(t, "1 2", true, 1)
		before := f.size(t)
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return f.journals.Release(ctx, tx, resttest.Account, []webhooks.CallID{"call_0"})
		})
		if err != nil {
			t.Fatal(err)
		}
		f.seal(t)
		f.want(t, "1 2", true, 1)
		if after := f.size(t); after >= before || after < before/2 {
			t.Errorf("of %d octets %d are left of two of three journals of about one size", before, after)
		}
		f.append(t, 2, piece(1, false, 3)) // another edge has taken the call over
		if _, err := d.Write().NewUpdate().Table("journals").Set("whole = ?", true).Where("1 = 1").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.seal(t)
		f.want(t, "1 2 3", true, 2) // its own, and that of call_2
	})
}

// A store that is away, or a process that dies after it has written the blob, leaves the journal as it was.
func TestNothingIsLostOrTwiceWhenSealingFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.append(t, 1, piece(1, true, 1, 2))
		stores := f.journals.Blobs
		gone := filepath.Join(t.TempDir(), "gone")
		f.journals.Blobs = f.store(t, gone)
		f.Operations["getCallJournal"] = f.journals.Operations()["getCallJournal"]
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.journals.Seal(ctx); err == nil {
			t.Error("it was sealed by nobody")
		}
		f.journals.Blobs = stores
		// The blob of a process that died before it was the journal's.
		torn := "journals/" + resttest.Account + "/jnl_torn.gz"
		if err := stores.Put(t.Context(), torn, strings.NewReader("torn"), 4); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write().ExecContext(t.Context(), "INSERT INTO journal_blobs (blob, account_id, shed, created_at) VALUES (?, ?, ?, ?)", torn, resttest.Account, true, db.Now()); err != nil {
			t.Fatal(err)
		}
		f.want(t, "1 2", true, 1)
		f.seal(t)
		f.want(t, "1 2", true, 1)
	})
}

func TestAJournalIsReadByPagesAndByKind(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.append(t, 1, piece(1, false, 1, 2, 3), journal.Chunk{Number: 2, Text: []byte(`{"t":4,"kind":"input","key":"5"}` + "\nnot JSON\n[1]\n{\"t\":5")}, piece(3, true, 6))
	var all []string
	cursor := ""
	for {
		got, p := f.read(t, resttest.Token, "limit=2&cursor="+cursor)
		all = append(all, got)
		if cursor = p.NextCursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(all, " | "); got != "1 2 | 3 4" {
		t.Errorf("the pages are %s", got)
	}
	if got, _ := f.read(t, resttest.Token, "kind=input"); got != "4" {
		t.Errorf("the keys are %s", got)
	}
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/journal?cursor=x", nil), http.StatusBadRequest, nil)
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/journal?format=xml", nil), http.StatusBadRequest, nil)
}

// story is a journal with numbers wherever they can be.
func story() string {
	body, _ := json.Marshal(map[string]any{
		"type": "program.request", "call": map[string]any{"from": "+8613800138000", "to": "42", "sip": map[string]any{"headers": map[string]string{"X-Customer": "138-0013-8000"}}},
		"trigger": map[string]any{"digits": "64", "outcome": "digits"}, "data": map[string]any{"+8613800138000": 13800138000, "amount": 12.5},
	})
	lines := []map[string]any{
		{"kind": "begin", "version": 1, "call_id": "call_01J00000000000000000000001", "began_at": "2026-01-31T08:00:00.123456Z"},
		{"kind": "sip_in", "peer": "203.0.113.7:5060", "message": "INVITE sip:42@192.0.2.1 SIP/2.0\r\nFrom: \"138 0013 8000\" <sip:+8613800138000@a.test>;tag=x\r\nTo: <tel:%2B86138%30%30138000>\r\n\r\n"},
		{"kind": "sip_out", "peer": "203.0.113.7:5060", "message": "SIP/2.0 180 Ringing\r\nCSeq: 7 INVITE\r\nP-Asserted-Identity: <sip:8613800138000@a.test>\r\n\r\n"},
		{"kind": "request", "id": "req_01J00000000000000000000001", "url": "https://app.test/13800138000?d=64", "method": "POST", "reason": "incoming", "sequence": 1, "body": string(body)},
		{"kind": "request", "id": "req_01J00000000000000000000002", "url": "https://app.test/x", "body": "Digits=64&From=%2B8613800138000"},
		{"kind": "answer", "id": "req_01J00000000000000000000001", "status": 200, "body": "<Response><Dial>42</Dial><Say>138.0013.8000</Say></Response>"},
		{"kind": "answer", "id": "req_01J00000000000000000000001", "status": 200, "body": `{"to":[{"number":"\u002b8613800138000"},{"extension":"42"}],"cut off`},
		{"kind": "instruction", "instruction": map[string]any{"verb": "dial", "to": []any{map[string]any{"number": "+8613800138000"}, map[string]any{"extension": "42"}}}},
		{"kind": "outcome", "verb": "dial", "trigger": map[string]any{"target": "42", "digits": "64", "error": "nobody at １３８００１３８０００"}},
		{"kind": "input", "key": "7", "source": "rtp"},
		{"kind": "event", "type": "call.initiated", "data": map[string]any{"from": "+8613800138000", "to": "42", "digit": "7"}},
		{"kind": "action", "action": map[string]any{"url": "https://app.test/?n=13800138000"}},
		{"kind": "end", "dropped": 0},
	}
	var text []byte
	for i, l := range lines {
		l["t"] = i * 250000
		line, _ := json.Marshal(l)
		text = append(append(text, line...), '\n')
	}
	return string(text)
}

func TestWhoMayNotSeeNumbersSeesNoneInAJournal(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.append(t, 1, journal.Chunk{Number: 1, Text: []byte(story()), Last: true})
	for _, query := range []string{"limit=1000", "format=text"} {
		open := f.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/journal?"+query, nil).Body.String()
		hidden := f.Do(t, "masked", http.MethodGet, "/v1/calls/call_1/journal?"+query, nil).Body.String()
		for _, number := range []string{"13800138000", "138 0013 8000", "138.0013", "0013", "%30", "13800", "38000", "42", "64", "１３８", "0138"} {
			if strings.Contains(hidden, number) {
				t.Errorf("%s: a masked reader sees %s:\n%s", query, number, hidden)
			}
		}
		if !strings.Contains(open, "13800138000") || !strings.Contains(open, "42") {
			t.Errorf("%s: who may see numbers sees\n%s", query, open)
		}
		for _, kept := range []string{"180 Ringing", "call_01J00000000000000000000001", "2026-01-31T08:00:00", "**00", "dial", "INVITE"} {
			if !strings.Contains(hidden, kept) {
				t.Errorf("%s: a masked reader does not see %q:\n%s", query, kept, hidden)
			}
		}
	}
}

func TestALadderIsForPeople(t *testing.T) {
	f := newFixture(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	f.append(t, 1, journal.Chunk{Number: 1, Text: []byte(story() + `{"t":9000000,"kind":"warning","message":"a\u001b[31mb"}` + "\n")})
	w := f.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/journal?format=text", nil)
	text := w.Body.String()
	if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type %s", got)
	}
	for _, line := range []string{
		"call_01J00000000000000000000001 on , 2026-01-31T08:00:00.123456Z\n",
		"   0.250000  <- 203.0.113.7:5060       INVITE sip:42@192.0.2.1\n",
		"   0.500000  -> 203.0.113.7:5060       180 Ringing (INVITE)\n",
		"   0.750000  => POST https://app.test/13800138000?d=64  incoming, request 1\n",
		"   2.250000     key          7 (rtp)\n",
		"there may be more",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("a control character is shown")
	}
}

func TestOperationsKeepTheRules(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		n := 0
		mount := func(t *testing.T) *resttest.Server {
			f := newFixture(t, d)
			n++
			f.append(t, 1, piece(n*2-1, false, 1), piece(n*2, false, 2))
			return f.Server
		}
		resttest.Run(t, mount, resttest.Suite{
			Objects: func(*testing.T, *resttest.Server) map[string]string {
				return map[string]string{"call_id": string(callID)}
			},
			Except: map[string][]resttest.Check{"getCallJournal": {resttest.Paged}}, // its rows have no ids; see TestAJournalIsReadByPagesAndByKind
		})
	})
}

func TestManyAppendAndSealAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		var all sync.WaitGroup
		errs := make(chan error, 64)
		all.Go(func() {
			for i := 1; i <= 12; i++ {
				errs <- f.journals.Append(t.Context(), owner(1), []journal.Chunk{piece(i, i == 12, i)})
			}
		})
		for range 2 {
			all.Go(func() {
				for range 6 {
					if _, err := d.Write().NewUpdate().Table("journals").Set("whole = ?", true).Where("1 = 1").Exec(t.Context()); err != nil {
						errs <- err
					}
					errs <- f.journals.Seal(t.Context())
				}
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		f.seal(t)
		if got, _ := f.read(t, resttest.Token, "limit=100"); got != "1 2 3 4 5 6 7 8 9 10 11 12" {
			t.Errorf("there is %s", got)
		}
		if n := f.blobs(t); n != 1 {
			t.Errorf("there are %d blobs", n)
		}
	})
}

// Chunks of several journals are stored in one transaction: what is refused of one must not touch another.
func TestWhatIsRefusedHoldsUpNobodyElse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		other := owner(1)
		other.CallID = "call_2"
		e := webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: db.Now()}
		if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: other, Events: []webhooks.Event{e}}); err != nil {
			t.Fatal(err)
		}
		unknown, foreign, fenced := owner(1), owner(1), owner(0)
		unknown.CallID, foreign.AccountID = "call_3", "acc_other"
		cases := []struct {
			owner call.Owner
			piece journal.Chunk
			want  error
		}{
			{owner(1), piece(1, false, 1), nil},
			{unknown, piece(1, true, 2), call.ErrRefused},
			{other, piece(1, true, 3), nil},
			{foreign, piece(2, true, 4), call.ErrRefused},
			{fenced, piece(2, true, 5), call.ErrFenced},
			{owner(1), piece(1, false, 6), nil}, // again
		}
		var all sync.WaitGroup
		for i, c := range cases {
			all.Go(func() {
				if err := f.journals.Append(t.Context(), c.owner, []journal.Chunk{c.piece}); !errors.Is(err, c.want) {
					t.Errorf("case %d: %v, want %v", i, err, c.want)
				}
			})
		}
		all.Wait()
		for id, want := range map[string]int64{"call_1": 1, "call_2": 1, "call_3": 0} {
			n, err := d.Read().NewSelect().Table("journal_chunks").Where("call_id = ?", id).Count(t.Context())
			if err != nil || n != want {
				t.Errorf("%d chunks of %s are stored (%v), want %d", n, id, err, want)
			}
		}
		for id, want := range map[string]bool{"call_1": false, "call_2": true} {
			var whole bool
			if err := d.Read().NewSelect().Table("journals").Column("whole").Where("call_id = ?", id).Scan(t.Context(), &whole); err != nil || whole != want {
				t.Errorf("the journal of %s is whole: %v (%v), want %v", id, whole, err, want)
			}
		}
	})
}
