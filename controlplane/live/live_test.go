package live_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/live"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(readersOf); address != "" {
		if err := readAlong(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is a server whose streams follow a database.
type fixture struct {
	*live.Service
	d    *db.DB
	feed *event.Feed
	http *httptest.Server
	// check is what the streams' readers are found to be; nil for what they were.
	check atomic.Pointer[func(auth.Caller) (auth.Caller, error)]
}

func start(t *testing.T, d *db.DB, change ...func(*live.Service)) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{d: d, feed: event.NewFeed(d, bustest.Open(t, "memory:"), logger(t))}
	f.Service, err = live.New(live.Config{
		Feed: f.feed, Masks: event.NewMasks(spec.View.Components.Schemas), Log: logger(t),
		Check: func(_ context.Context, who auth.Caller) (auth.Caller, error) {
			if fn := f.check.Load(); fn != nil {
				return (*fn)(who)
			}
			return who, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range change {
		fn(f.Service)
	}
	f.http = httptest.NewServer(resttest.Mount(t, d, spec, f.Operations()).Handler)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.feed.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait(); f.http.Close() })
	return f
}

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func (f *fixture) emit(t *testing.T, events ...event.Event) {
	t.Helper()
	if err := f.d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, events...) }); err != nil {
		t.Fatal(err)
	}
	f.feed.Wake()
}

func numbered(accountID string, n int) event.Event {
	return event.Event{AccountID: accountID, Type: "call.initiated", Resource: "calls", ObjectID: "a", Data: json.RawMessage(fmt.Sprintf(`{"from":"+8613800138000","n":%d}`, n))}
}

// block is one part of a stream between empty lines.
type block struct {
	id, event, data, retry string
	comment                bool
}

// stream is an open stream.
type stream struct {
	t      *testing.T
	answer *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
	lastID string
}

// open opens a stream and waits until it has begun.
func (f *fixture) open(t *testing.T, token, query string, headers ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.http.URL+"/v1/events/stream?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, answer: answer, lines: bufio.NewReader(answer.Body), cancel: cancel}
	t.Cleanup(s.close)
	if answer.StatusCode == http.StatusOK {
		if first := s.block(); first.retry == "" {
			t.Errorf("the stream begins with %+v", first)
		}
	}
	return s
}

func (s *stream) close() {
	s.cancel()
	_ = s.answer.Body.Close()
}

// block reads the next one; the zero block is the end.
func (s *stream) block() block {
	s.t.Helper()
	var b block
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return block{}
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n":
			return b
		case name == "":
			b.comment = true
		case name == "id":
			b.id, s.lastID = value, value
		case name == "event":
			b.event = value
		case name == "data":
			b.data = value
		case name == "retry":
			b.retry = value
		}
	}
}

// next reads up to the next event; ok is false at the end.
func (s *stream) next() (e event.Event, ok bool) {
	s.t.Helper()
	for {
		b := s.block()
		if b == (block{}) {
			return e, false
		}
		if b.data == "" {
			continue
		}
		if err := json.Unmarshal([]byte(b.data), &e); err != nil {
			s.t.Fatalf("%q: %v", b.data, err)
		}
		if b.id != strconv.FormatInt(e.Position, 10) || b.event != e.Type {
			s.t.Errorf("%+v is told as %s %s", e, b.id, b.event)
		}
		return e, true
	}
}

func (s *stream) want(positions ...int64) {
	s.t.Helper()
	for _, p := range positions {
		e, ok := s.next()
		if !ok || e.Position != p {
			s.t.Fatalf("got position %d, %t; want %d", e.Position, ok, p)
		}
	}
}

// joined waits until so many streams are live.
func (f *fixture) joined(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for f.Readers() != n {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the streams did not join")
		}
	}
}

func TestAStreamShowsWhatHappensFromNowOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := start(t, d)
		f.emit(t, numbered(resttest.Account, 1))
		f.placed(t, 1)
		s := f.open(t, resttest.Token, "")
		if got := s.answer.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
			t.Errorf("Content-Type %q", got)
		}
		f.joined(t, 1)
		f.emit(t, numbered(resttest.Account, 2), numbered(resttest.OtherAccount, 3), numbered(resttest.Account, 4))
		s.want(2, 4)
		s.close()
		f.joined(t, 0)
	})
}

// placed waits until everything has its position.
func (f *fixture) placed(t *testing.T, last int64) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := f.feed.Last(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got >= last {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("events were not placed")
		}
	}
}

func TestAStreamResumesWithoutGapOrRepetition(t *testing.T) {
	const events, breaks = 1500, 12
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := start(t, d)
		var writing sync.WaitGroup
		writing.Go(func() {
			for i := 0; i < events; i += 5 {
				f.emit(t, numbered(resttest.Account, i), numbered(resttest.Account, i+1), numbered(resttest.Account, i+2), numbered(resttest.OtherAccount, 0),
					numbered(resttest.Account, i+3), numbered(resttest.Account, i+4))
			}
		})
		var got []int
		last := "0"
		for i := 0; len(got) < events; i++ {
			query, headers := "last_event_id="+last, []string(nil)
			if i%2 == 0 {
				query, headers = "", []string{"Last-Event-ID", last}
			}
			s := f.open(t, resttest.Token, query, headers...)
			for range events/breaks + i {
				if len(got) == events {
					break
				}
				e, ok := s.next()
				if !ok {
					break // it was too slow for the stream, and resumes
				}
				var data struct{ N int }
				if err := json.Unmarshal(e.Data, &data); err != nil {
					t.Fatal(err)
				}
				got = append(got, data.N)
				last = s.lastID
			}
			s.close()
		}
		writing.Wait()
		for i, n := range got {
			if n != i {
				t.Fatalf("event %d is number %d", i, n)
			}
		}
	})
}

func TestEachReaderSeesWhatItMay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := start(t, d)
		f.emit(t, numbered(resttest.Account, 0))
		f.placed(t, 1)
		for name, c := range map[string]struct {
			token, query string
			want         []string // types, with the number's first digits
			not          string
		}{
			"everything":    {resttest.Token, "", []string{"call.initiated", "job.updated", "job.updated"}, "************00"},
			"one type":      {resttest.Token, "type=job.*", []string{"job.updated", "job.updated"}, "call.initiated"},
			"its resources": {"only:events.read,calls.read", "", []string{"call.initiated"}, "job.updated"},
			"masked":        {"masked", "type=call.*", []string{"call.initiated"}, "13800138"},
		} {
			t.Run(name, func(t *testing.T) {
				// The past and the present are two ways to the same.
				last, err := f.feed.Last(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				now := f.open(t, c.token, c.query)
				f.joined(t, 1)
				f.emit(t, numbered(resttest.Account, 1), event.Event{AccountID: resttest.Account, Type: "job.updated", Resource: "jobs", ObjectID: "j"},
					event.Event{AccountID: resttest.Account, Type: "job.updated", Resource: "jobs", ObjectID: "j"})
				f.placed(t, last+3)
				later := f.open(t, c.token, c.query+"&last_event_id="+strconv.FormatInt(last, 10))
				for _, s := range []*stream{now, later} {
					for _, want := range c.want {
						e, ok := s.next()
						if !ok || e.Type != want || strings.Contains(string(e.Data)+e.Type, c.not) {
							t.Errorf("got %s %s, want %s", e.Type, e.Data, want)
						}
					}
					s.close()
				}
				f.joined(t, 0)
			})
		}
	})
}

func TestAStreamEndsWithItsCredential(t *testing.T) {
	for name, gone := range map[string]error{
		"revoked": problem.Unauthenticated("this key was revoked"), "forbidden": problem.Forbidden("events.read"), "deleted": problem.NoSuch("key_1"),
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)), func(s *live.Service) { s.Hurry(time.Second, 20*time.Millisecond, time.Hour) })
			s := f.open(t, resttest.Token, "")
			f.joined(t, 1)
			away := func(auth.Caller) (auth.Caller, error) { return auth.Caller{}, errors.New("the database is away") }
			f.check.Store(&away)
			f.emit(t, numbered(resttest.Account, 1))
			s.want(1)
			shut := func(auth.Caller) (auth.Caller, error) { return auth.Caller{}, gone }
			f.check.Store(&shut)
			if end := s.block(); end.retry == "" {
				t.Errorf("ends with %+v, want a hint when to come back", end)
			}
			if b := s.block(); b != (block{}) {
				t.Errorf("goes on with %+v", b)
			}
			f.joined(t, 0)
		})
	}
}

func TestWhatAReaderMayNoLongerSeeStops(t *testing.T) {
	f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)), func(s *live.Service) { s.Hurry(time.Second, 20*time.Millisecond, time.Hour) })
	s := f.open(t, resttest.Token, "")
	f.joined(t, 1)
	asked := make(chan struct{}, 100)
	fewer := func(who auth.Caller) (auth.Caller, error) {
		who.Permissions, who.Mask = []string{"events.read", "calls.read"}, auth.Mask{Numbers: true}
		asked <- struct{}{}
		return who, nil
	}
	f.check.Store(&fewer)
	<-asked
	<-asked // the answer before was taken over
	f.emit(t, event.Event{AccountID: resttest.Account, Type: "job.updated", Resource: "jobs"}, numbered(resttest.Account, 1))
	e, ok := s.next()
	if !ok || e.Type != "call.initiated" || strings.Contains(string(e.Data), "13800138") {
		t.Errorf("got %+v %s", e, e.Data)
	}
	none := func(who auth.Caller) (auth.Caller, error) { who.Permissions = []string{"calls.read"}; return who, nil }
	f.check.Store(&none)
	if _, ok := s.next(); ok {
		t.Error("goes on without events.read")
	}
}

func TestASilentStreamShowsThatItLivesAndHowFarItIs(t *testing.T) {
	f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)), func(s *live.Service) { s.Hurry(20*time.Millisecond, 20*time.Millisecond, 40*time.Millisecond) })
	s := f.open(t, resttest.Token, "type=never.happens")
	f.joined(t, 1)
	f.emit(t, numbered(resttest.Account, 1), numbered(resttest.Account, 2))
	for b := s.block(); b.id != "2"; b = s.block() {
		if !b.comment || b.data != "" {
			t.Fatalf("got %+v", b)
		}
	}
}

func TestTheServersEndEndsEveryStream(t *testing.T) {
	f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	var all []*stream
	for range 10 {
		all = append(all, f.open(t, resttest.Token, ""))
	}
	f.joined(t, 10)
	f.End()
	f.End()
	for _, s := range all {
		if b := s.block(); b.retry == "" {
			t.Errorf("ends with %+v", b)
		}
		if b := s.block(); b != (block{}) {
			t.Errorf("goes on with %+v", b)
		}
	}
	f.joined(t, 0)
}

// TestAReaderThatDoesNotReadIsCutOff has a reader whose client reads nothing, and others that do not wait for it.
func TestAReaderThatDoesNotReadIsCutOff(t *testing.T) {
	f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	slow := f.open(t, resttest.Token, "")
	f.joined(t, 1)
	big := numbered(resttest.Account, 0)
	big.Data = json.RawMessage(`{"text":"` + strings.Repeat("x", 100_000) + `"}`)
	// More than the buffers of the kernel and of the server hold.
	emitted := 0
	for range 20 {
		events := slices.Repeat([]event.Event{big}, 20)
		f.emit(t, events...)
		emitted += len(events)
		f.placed(t, int64(emitted))
	}
	f.joined(t, 0)
	quick := f.open(t, resttest.Token, "last_event_id="+strconv.Itoa(emitted-3))
	quick.want(int64(emitted-2), int64(emitted-1), int64(emitted))
	// What it did get is without gap, and it resumes from there.
	got := int64(0)
	for {
		e, ok := slow.next()
		if !ok {
			break
		}
		if e.Position != got+1 {
			t.Fatalf("after %d comes %d", got, e.Position)
		}
		got = e.Position
	}
	if got == int64(emitted) {
		t.Error("nothing was cut off")
	}
	slow = f.open(t, resttest.Token, "last_event_id="+strconv.FormatInt(got, 10))
	slow.want(got + 1)
}

func TestWhatIsNoLongerKeptIsSaid(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := start(t, d)
		f.emit(t, numbered(resttest.Account, 1), numbered(resttest.Account, 2), numbered(resttest.Account, 3))
		f.placed(t, 3)
		if _, err := d.Write().NewRaw("UPDATE events SET created_at = ? WHERE position <= 2", db.Now().Add(-31*24*time.Hour)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.feed.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := f.open(t, resttest.Token, "last_event_id=1")
		body, err := io.ReadAll(s.answer.Body)
		if err != nil || s.answer.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(body), "position 3") {
			t.Errorf("%d %s %v", s.answer.StatusCode, body, err)
		}
		f.open(t, resttest.Token, "last_event_id=2").want(3)
	})
}

func TestAStreamIsRefusedAsAnyOperation(t *testing.T) {
	f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	for token, want := range map[string]int{"": 401, "unknown": 401, "only:calls.read": 403, resttest.Token: 400} {
		query := ""
		if token == resttest.Token {
			query = "last_event_id=x"
		}
		if s := f.open(t, token, query); s.answer.StatusCode != want {
			t.Errorf("%q: %d, want %d", token, s.answer.StatusCode, want)
		}
	}
}

func TestAManyTimesOpenedStreamIsCheckedOnce(t *testing.T) {
	f := start(t, dbtest.Open(t, dbtest.SQLiteURL(t)), func(s *live.Service) { s.Hurry(time.Second, 400*time.Millisecond, time.Hour) })
	var asked atomic.Int64
	count := func(who auth.Caller) (auth.Caller, error) { asked.Add(1); return who, nil }
	f.check.Store(&count)
	for range 50 {
		f.open(t, resttest.Token, "")
	}
	f.joined(t, 50)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for asked.Load() < 3 {
		<-tick.C
	}
	if n := asked.Load(); n > 10 {
		t.Errorf("asked %d times", n)
	}
}
