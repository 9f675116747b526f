package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/uptrace/bun"
	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/delivery"
	"github.com/hookswitch/hookswitch/controlplane/endpoint"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

func verifyNoLeaks(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// process is what delivers in one process: a feed and a service, running.
type process struct {
	*delivery.Service
	feed *event.Feed
	stop func()
}

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// start runs a process until the test ends or it is stopped. change may alter the configuration.
func start(t *testing.T, d *db.DB, busURL string, pause time.Duration, change ...func(*delivery.Config)) *process {
	t.Helper()
	client := guard.New(guard.Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	feed := event.NewFeed(d, bustest.Open(t, busURL), logger(t))
	cfg := delivery.Config{DB: d, Feed: feed, Guard: client, Log: logger(t)}
	for _, fn := range change {
		fn(&cfg)
	}
	s, err := delivery.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Hurry(pause)
	feed.Also, feed.Placed = append(feed.Also, s.FanOut), append(feed.Placed, s.Placed)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := feed.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	p := &process{Service: s, feed: feed, stop: sync.OnceFunc(func() { cancel(); running.Wait(); client.Close() })}
	t.Cleanup(p.stop)
	return p
}

func account(t testing.TB, d *db.DB, id string) {
	t.Helper()
	_, err := d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
		VALUES (?, ?, '{}', ?, ?, '1', ?, 'CN', '{}')`, id, id, db.Now(), db.Now(), id).Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

// subscribe makes an endpoint.
func subscribe(t testing.TB, d *db.DB, accountID, url string, types ...string) *endpoint.Endpoint {
	t.Helper()
	e := &endpoint.Endpoint{Row: db.Row{ID: db.NewID("evp")}, URL: url, Types: types, Enabled: true, Secret: webhooks.NewSecret(), Headers: map[string]string{"X-Mine": "yes"}}
	if err := db.Insert(t.Context(), d, auth.Account(accountID), e); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write().NewRaw("INSERT INTO delivery_lanes (endpoint_id, account_id) VALUES (?, ?)", e.ID, accountID).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

func emit(t testing.TB, d *db.DB, events ...event.Event) {
	t.Helper()
	if err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, events...) }); err != nil {
		t.Fatal(err)
	}
}

func thing(accountID, object string) event.Event {
	return event.Event{ID: db.NewID("evt"), AccountID: accountID, Type: "thing.changed", Resource: "things", ObjectID: object, Data: json.RawMessage(`{"a":"<&>","b":1}`)}
}

func inCall(accountID, call string, sequence int64) event.Event {
	return event.Event{ID: db.NewID("evt"), AccountID: accountID, Type: "call.ringing", Resource: "calls", CallID: call, Sequence: sequence}
}

// received is one request to a receiver.
type received struct {
	header http.Header
	body   []byte
	event  event.Event
	status int
}

// receiver is an endpoint of an account.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex // guards all
	all  []received
	more chan struct{}
}

// receive serves an endpoint that answers what answer says: a status, and whatever else it writes before.
func receive(t testing.TB, answer func(w http.ResponseWriter, r received) int) *receiver {
	t.Helper()
	x := &receiver{more: make(chan struct{}, 1)}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r := received{header: q.Header, status: http.StatusNoContent}
		var err error
		if r.body, err = io.ReadAll(q.Body); err != nil {
			return
		}
		if err := json.Unmarshal(r.body, &r.event); err != nil {
			t.Errorf("the body is no event: %s", r.body)
		}
		if answer != nil {
			r.status = answer(w, r)
		}
		if r.status != 0 {
			w.WriteHeader(r.status)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.all = append(x.all, r)
		select {
		case x.more <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *receiver) seen() []received {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.all)
}

// taken are the events that were answered with 2xx.
func (x *receiver) taken() []received {
	return slices.DeleteFunc(x.seen(), func(r received) bool { return r.status >= 300 })
}

// await waits until a condition on what was received holds.
func (x *receiver) await(t testing.TB, what string, ok func([]received) bool) {
	t.Helper()
	until(t, what, x.more, func() bool { return ok(x.seen()) })
}

// until waits for a condition, which is looked at when something happened and now and then.
func until(t testing.TB, what string, more <-chan struct{}, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(90 * time.Second); !ok(); {
		select {
		case <-more:
		case <-tick.C:
		case <-end:
			t.Fatalf("%s did not happen", what)
		}
	}
}

func (x *receiver) awaitTaken(t testing.TB, n int) []received {
	t.Helper()
	until(t, fmt.Sprintf("taking %d events", n), x.more, func() bool { return len(x.taken()) >= n })
	return x.taken()
}

// stored reads the delivery of an event to an endpoint.
func stored(t testing.TB, d *db.DB, endpointID, eventID string) endpoint.Delivery {
	t.Helper()
	var found []endpoint.Delivery
	err := d.Read().NewSelect().Model(&found).Where("endpoint_id = ?", endpointID).Where("event_id = ?", eventID).Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		return endpoint.Delivery{}
	}
	return found[0]
}

// awaitStored waits until the stored delivery is as it should be.
func awaitStored(t testing.TB, d *db.DB, endpointID, eventID, what string, ok func(endpoint.Delivery) bool) endpoint.Delivery {
	t.Helper()
	until(t, what, nil, func() bool { return ok(stored(t, d, endpointID, eventID)) })
	return stored(t, d, endpointID, eventID)
}

func is(status endpoint.Status) func(endpoint.Delivery) bool {
	return func(d endpoint.Delivery) bool { return d.Status == status }
}

func attempts(t testing.TB, d *db.DB, deliveryID string) []endpoint.Attempt {
	t.Helper()
	var all []endpoint.Attempt
	err := d.Read().NewSelect().Model(&all).Where("delivery_id = ?", deliveryID).OrderBy("number", bun.OrderAsc).Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestADeliveryIsSignedAsStandardWebhooksSay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		x := receive(t, func(w http.ResponseWriter, _ received) int {
			_, _ = io.WriteString(w, "thanks") // the client reads it
			return 0
		})
		e := subscribe(t, d, "acc_1", x.URL, "*")
		old := e.Secret
		p := start(t, d, "memory:", time.Millisecond)
		first := thing("acc_1", "a")
		emit(t, d, first)
		p.feed.Wake()
		x.awaitTaken(t, 1)
		// After a rotation both secrets sign, at once.
		fresh := webhooks.NewSecret()
		_, err := db.Change(t.Context(), d, auth.Account("acc_1"), e.ID, "", func(e *endpoint.Endpoint) error {
			until := db.Now().Add(time.Hour)
			e.Secret, e.OldSecret, e.OldSecretUntil = fresh, old, &until
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		emit(t, d, thing("acc_1", "b"))
		p.feed.Wake()
		all := x.awaitTaken(t, 2)
		for i, secrets := range [][]string{{old}, {fresh, old}} {
			r := all[i]
			for _, secret := range secrets {
				verifier, err := standardwebhooks.NewWebhook(secret)
				if err != nil {
					t.Fatal(err)
				}
				if err := verifier.Verify(r.body, r.header); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
				if err := verifier.Verify(append(slices.Clone(r.body), ' '), r.header); err == nil {
					t.Errorf("request %d: a changed body is accepted", i)
				}
			}
			if got := strings.Fields(r.header.Get("Webhook-Signature")); len(got) != len(secrets) {
				t.Errorf("request %d has the signatures %v", i, got)
			}
			if r.header.Get("Webhook-Id") != r.event.ID || r.header.Get("X-Mine") != "yes" || r.header.Get("Content-Type") != "application/json" {
				t.Errorf("request %d has the headers %v", i, r.header)
			}
		}
		if got := all[0].event; got.ID != first.ID || got.Position != 1 || got.ObjectID != "a" || got.Resource != "things" || !sameData(got.Data, first.Data) {
			t.Errorf("the body is %s", all[0].body)
		}
		sent := awaitStored(t, d, e.ID, first.ID, "the record", is(endpoint.Delivered))
		history := attempts(t, d, sent.ID)
		if sent.Attempts != 1 || sent.ResponseStatus != 200 || sent.FinishedAt == nil || sent.FirstAttemptAt == nil || len(history) != 1 {
			t.Fatalf("recorded %+v, %+v", sent, history)
		}
		if a := history[0]; a.ResponseBody != "thanks" || a.ResponseStatus != 200 || a.RequestHeaders["X-Mine"] != "[hidden]" ||
			a.RequestHeaders["Webhook-Signature"] != all[0].header.Get("Webhook-Signature") || a.Error != "" {
			t.Errorf("recorded %+v", a)
		}
	})
}

func sameData(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func TestOnlyWhatAnEndpointWantsReachesIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		account(t, d, "acc_2")
		calls, all, off, other := receive(t, nil), receive(t, nil), receive(t, nil), receive(t, nil)
		subscribe(t, d, "acc_1", calls.URL, "call.*")
		subscribe(t, d, "acc_1", all.URL, "*")
		tested := subscribe(t, d, "acc_1", off.URL, "never.sent")
		subscribe(t, d, "acc_2", other.URL, "*")
		p := start(t, d, "memory:", time.Millisecond)
		test := event.Event{ID: db.NewID("evt"), AccountID: "acc_1", Type: endpoint.Test, Resource: "event_endpoints", ObjectID: tested.ID}
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := event.Emit(ctx, tx, test); err != nil {
				return err
			}
			return endpoint.Queue(ctx, tx, []endpoint.Delivery{endpoint.NewDelivery(test, tested.ID, db.Now())}, false)
		})
		if err != nil {
			t.Fatal(err)
		}
		emit(t, d, thing("acc_1", "a"), inCall("acc_1", "call_1", 1), thing("acc_2", "b"))
		p.feed.Wake()
		for name, c := range map[string]struct {
			x    *receiver
			want []string
		}{
			"calls": {calls, []string{"call.ringing"}}, "all": {all, []string{"call.ringing", "thing.changed"}}, "tested": {off, []string{endpoint.Test}},
			"another account": {other, []string{"thing.changed"}},
		} {
			var got []string
			for _, r := range c.x.awaitTaken(t, len(c.want)) {
				got = append(got, r.event.Type)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
		p.stop() // what is on its way has arrived
		if n := len(calls.seen()) + len(all.seen()) + len(off.seen()) + len(other.seen()); n != 5 {
			t.Errorf("%d requests, want 5", n)
		}
	})
}

// TestEventsOfACallArriveInTheirOrder has an endpoint that refuses every third request.
func TestEventsOfACallArriveInTheirOrder(t *testing.T) {
	const calls, each = 20, 10
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		var mu sync.Mutex
		n, open := 0, map[string]bool{}
		x := receive(t, func(_ http.ResponseWriter, r received) int {
			mu.Lock()
			if open[r.event.CallID] {
				t.Errorf("two events of %s at the same time", r.event.CallID)
			}
			open[r.event.CallID] = true
			n++
			refused := n%3 == 0
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			defer mu.Unlock()
			open[r.event.CallID] = false
			if refused {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		})
		e := subscribe(t, d, "acc_1", x.URL, "*")
		p := start(t, d, "memory:", 5*time.Millisecond)
		for sequence := range each {
			var events []event.Event
			for call := range calls {
				events = append(events, inCall("acc_1", fmt.Sprintf("call_%d", call), int64(sequence+1)))
			}
			emit(t, d, events...)
			p.feed.Wake()
		}
		taken := x.awaitTaken(t, calls*each)
		last := map[string]int64{}
		for _, r := range taken {
			if r.event.Sequence != last[r.event.CallID]+1 {
				t.Errorf("%s: %d follows %d", r.event.CallID, r.event.Sequence, last[r.event.CallID])
			}
			last[r.event.CallID] = r.event.Sequence
		}
		until(t, "recording all", nil, func() bool {
			left, err := d.Read().NewSelect().Model((*endpoint.Delivery)(nil)).Where("endpoint_id = ?", e.ID).Where("status <> 'delivered'").Count(t.Context())
			return err == nil && left == 0
		})
		if len(x.taken()) != calls*each {
			t.Errorf("%d deliveries, want %d", len(x.taken()), calls*each)
		}
	})
}

// TestAnEndpointThatHangsDelaysNobody has one account whose endpoint never answers with 10,000 events waiting for it, and
// another whose events all arrive before the first of those requests has timed out.
func TestAnEndpointThatHangsDelaysNobody(t *testing.T) {
	const waiting, swift = 10_000, 500
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		account(t, d, "acc_2")
		release, hanging := make(chan struct{}), make(chan struct{}, waiting)
		slow := receive(t, func(_ http.ResponseWriter, _ received) int {
			hanging <- struct{}{}
			<-release
			return http.StatusOK
		})
		unhang := sync.OnceFunc(func() { close(release) })
		t.Cleanup(unhang)
		fast := receive(t, nil)
		subscribe(t, d, "acc_1", slow.URL, "*")
		subscribe(t, d, "acc_2", fast.URL, "*")
		var backlog []event.Event
		for i := range waiting {
			backlog = append(backlog, thing("acc_1", fmt.Sprint(i)))
		}
		emit(t, d, backlog...)
		p := start(t, d, "memory:", time.Millisecond, func(cfg *delivery.Config) { cfg.Timeout = time.Hour })
		p.feed.Wake()
		<-hanging
		for i := range swift {
			emit(t, d, thing("acc_2", fmt.Sprint(i)))
			p.feed.Wake()
		}
		fast.awaitTaken(t, swift)
		if n := len(slow.seen()); n != 0 {
			t.Errorf("%d requests to the hanging endpoint have ended", n)
		}
		if n := 1 + len(hanging); n > 20 {
			t.Errorf("the hanging endpoint has %d requests, more than its share", n)
		}
		unhang()
		p.stop()
	})
}

func TestAnAccountHasItsShareOfRequestsWhateverItsEndpoints(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	account(t, d, "acc_1")
	release, entered := make(chan struct{}), make(chan struct{}, 1000)
	x := receive(t, func(_ http.ResponseWriter, _ received) int {
		entered <- struct{}{}
		<-release
		return http.StatusOK
	})
	unhang := sync.OnceFunc(func() { close(release) })
	t.Cleanup(unhang)
	for range 5 {
		subscribe(t, d, "acc_1", x.URL, "*")
	}
	var events []event.Event
	for i := range 20 {
		events = append(events, thing("acc_1", fmt.Sprint(i)))
	}
	emit(t, d, events...)
	p := start(t, d, "memory:", time.Millisecond, func(cfg *delivery.Config) { cfg.PerAccount, cfg.PerEndpoint = 7, 5 })
	p.feed.Wake()
	until(t, "using the share", nil, func() bool { return len(entered) == 7 })
	unhang()
	x.awaitTaken(t, 100)
	if len(x.seen()) != 100 {
		t.Errorf("%d requests, want 100", len(x.seen()))
	}
}

func TestAFailureIsTriedAgainWithTheSameID(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		var mu sync.Mutex
		answers := []int{http.StatusInternalServerError, http.StatusFound, http.StatusTooManyRequests}
		x := receive(t, func(w http.ResponseWriter, _ received) int {
			mu.Lock()
			defer mu.Unlock()
			if len(answers) == 0 {
				return http.StatusOK
			}
			status := answers[0]
			answers = answers[1:]
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			return status
		})
		e := subscribe(t, d, "acc_1", x.URL, "*")
		p := start(t, d, "memory:", time.Millisecond)
		one := thing("acc_1", "a")
		emit(t, d, one)
		p.feed.Wake()
		x.awaitTaken(t, 1)
		sent := awaitStored(t, d, e.ID, one.ID, "the record", is(endpoint.Delivered))
		if sent.Attempts != 4 || sent.Error != "" || sent.ResponseStatus != 200 {
			t.Errorf("recorded %+v", sent)
		}
		for i, r := range x.seen() {
			if r.header.Get("Webhook-Id") != one.ID || string(r.body) != string(x.seen()[0].body) {
				t.Errorf("attempt %d sent %v %s", i, r.header, r.body)
			}
		}
		for i, a := range attempts(t, d, sent.ID) {
			if a.Number != int64(i+1) || (i < 3) != (a.Error == "status") {
				t.Errorf("attempt %d: %+v", i, a)
			}
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		x := receive(t, func(w http.ResponseWriter, _ received) int {
			w.Header().Set("Retry-After", "3600")
			return http.StatusServiceUnavailable
		})
		e := subscribe(t, d, "acc_1", x.URL, "*")
		p := start(t, d, "memory:", time.Millisecond)
		first, second := inCall("acc_1", "call_1", 1), inCall("acc_1", "call_1", 2)
		emit(t, d, first, second)
		p.feed.Wake()
		failed := awaitStored(t, d, e.ID, first.ID, "the failure", func(d endpoint.Delivery) bool { return d.Attempts == 1 })
		if wait := time.Until(failed.NextAttemptAt); wait < 50*time.Minute || wait > time.Hour {
			t.Errorf("is tried again in %v", wait)
		}
		// What follows it waits as long, and costs nothing meanwhile.
		follows := awaitStored(t, d, e.ID, second.ID, "waiting", func(d endpoint.Delivery) bool { return d.NextAttemptAt.Equal(failed.NextAttemptAt) })
		if follows.Attempts != 0 || follows.Status != endpoint.Pending {
			t.Errorf("what follows: %+v", follows)
		}
		third := inCall("acc_1", "call_1", 3)
		emit(t, d, third)
		p.feed.Wake()
		awaitStored(t, d, e.ID, third.ID, "waiting", func(d endpoint.Delivery) bool { return d.NextAttemptAt.Equal(failed.NextAttemptAt) })
		if len(x.seen()) != 1 {
			t.Errorf("%d requests, want 1", len(x.seen()))
		}
	})
}

func TestAfterThreeDaysADeliveryIsDeadAndWhatFollowsGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		var mu sync.Mutex
		broken := true
		x := receive(t, func(_ http.ResponseWriter, r received) int {
			mu.Lock()
			defer mu.Unlock()
			if broken && r.event.Sequence == 1 {
				return http.StatusInternalServerError
			}
			return http.StatusOK
		})
		e := subscribe(t, d, "acc_1", x.URL, "*")
		p := start(t, d, "memory:", 20*time.Millisecond)
		first, second := inCall("acc_1", "call_1", 1), inCall("acc_1", "call_1", 2)
		emit(t, d, first, second)
		p.feed.Wake()
		awaitStored(t, d, e.ID, first.ID, "a failure", func(d endpoint.Delivery) bool { return d.Attempts > 0 })
		if got := stored(t, d, e.ID, second.ID); got.Attempts != 0 {
			t.Fatalf("what follows did not wait: %+v", got)
		}
		if _, err := d.Write().NewRaw("UPDATE deliveries SET first_attempt_at = ? WHERE event_id = ?", db.Now().Add(-72*time.Hour), first.ID).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		dead := awaitStored(t, d, e.ID, first.ID, "giving up", is(endpoint.Dead))
		if dead.FinishedAt == nil || dead.ResponseStatus != 500 || dead.Error != "status" {
			t.Errorf("dead: %+v", dead)
		}
		awaitStored(t, d, e.ID, second.ID, "what follows", is(endpoint.Delivered))
		// Replayed, it has the same id and its own three days again.
		mu.Lock()
		broken = false
		mu.Unlock()
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			events, err := event.ByID(ctx, tx, "acc_1", []string{first.ID})
			if err != nil {
				return err
			}
			return endpoint.Queue(ctx, tx, []endpoint.Delivery{endpoint.NewDelivery(events[0], e.ID, db.Now())}, true)
		})
		if err != nil {
			t.Fatal(err)
		}
		p.feed.Tell()
		again := awaitStored(t, d, e.ID, first.ID, "the replay", is(endpoint.Delivered))
		if again.ID != dead.ID || again.Attempts != dead.Attempts+1 {
			t.Errorf("replayed: %+v", again)
		}
	})
}

func TestGoneSwitchesAnEndpointOff(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		x := receive(t, func(http.ResponseWriter, received) int { return http.StatusGone })
		told := receive(t, nil)
		e := subscribe(t, d, "acc_1", x.URL, "thing.*")
		subscribe(t, d, "acc_1", told.URL, "endpoint.*")
		p := start(t, d, "memory:", time.Hour)
		one := thing("acc_1", "a")
		emit(t, d, one)
		p.feed.Wake()
		got := told.awaitTaken(t, 1)[0].event
		if got.Type != endpoint.Disabled || got.ObjectID != e.ID || !strings.Contains(string(got.Data), `"gone"`) {
			t.Errorf("told %+v", got)
		}
		after, err := db.Get[endpoint.Endpoint](t.Context(), d, auth.Account("acc_1"), e.ID)
		if err != nil || after.Enabled || after.DisabledReason != endpoint.Gone {
			t.Errorf("after: %+v, %v", after, err)
		}
		second := thing("acc_1", "b")
		emit(t, d, second)
		p.feed.Wake()
		until(t, "placing", nil, func() bool { last, err := p.feed.Last(t.Context()); return err == nil && last == 3 })
		if got := stored(t, d, e.ID, second.ID); got.ID != "" {
			t.Errorf("queued for an endpoint that is off: %+v", got)
		}
		if got := stored(t, d, e.ID, one.ID); got.Status != endpoint.Pending {
			t.Errorf("what it refused is %+v", got)
		}
	})
}

func TestFiveDaysOfFailuresSwitchAnEndpointOff(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		var mu sync.Mutex
		status := http.StatusOK
		x := receive(t, func(http.ResponseWriter, received) int {
			mu.Lock()
			defer mu.Unlock()
			return status
		})
		e := subscribe(t, d, "acc_1", x.URL, "thing.*")
		failing := func(since time.Duration) {
			t.Helper()
			if _, err := d.Write().NewRaw("UPDATE delivery_lanes SET failing_since = ? WHERE endpoint_id = ?", db.Now().Add(-since), e.ID).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		reason := func() endpoint.Reason {
			t.Helper()
			after, err := db.Get[endpoint.Endpoint](t.Context(), d, auth.Account("acc_1"), e.ID)
			if err != nil {
				t.Fatal(err)
			}
			return after.DisabledReason
		}
		for _, c := range []struct {
			since  time.Duration
			status int
			want   endpoint.Reason
		}{
			{6 * 24 * time.Hour, http.StatusOK, ""}, // a success begins anew
			{4 * 24 * time.Hour, http.StatusTeapot, ""},
			{5 * 24 * time.Hour, http.StatusTeapot, endpoint.Failing},
		} {
			failing(c.since)
			mu.Lock()
			status = c.status
			mu.Unlock()
			p := start(t, d, "memory:", time.Hour)
			one := thing("acc_1", db.NewID("obj"))
			emit(t, d, one)
			p.feed.Wake()
			awaitStored(t, d, e.ID, one.ID, "an attempt", func(d endpoint.Delivery) bool { return d.Attempts == 1 })
			p.stop()
			if got := reason(); got != c.want {
				t.Errorf("failing for %v, then %d: %q, want %q", c.since, c.status, got, c.want)
			}
		}
	})
}

func TestWhatCannotBeSentIsRecorded(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	account(t, d, "acc_1")
	flood := receive(t, func(w http.ResponseWriter, _ received) int {
		_, _ = w.Write(make([]byte, 1<<20)) // the client stops reading
		return 0
	})
	noise := receive(t, func(w http.ResponseWriter, _ received) int {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(append([]byte("\xff\x00"), make([]byte, 5000)...))
		return 0
	})
	p := start(t, d, "memory:", time.Hour)
	for name, c := range map[string]struct {
		url  string
		want string
		ok   bool
	}{
		"denied":                {"https://10.0.0.1/", "denied", false},
		"no host":               {"https://does-not-exist.invalid/", "dns", false},
		"nobody":                {"http://127.0.0.1:1/", "connect", false},
		"an answer without end": {flood.URL, "", true},
		"noise":                 {noise.URL, "status", false},
	} {
		t.Run(name, func(t *testing.T) {
			e := subscribe(t, d, "acc_1", c.url, "thing.changed")
			one := thing("acc_1", name)
			emit(t, d, one)
			p.feed.Wake()
			sent := awaitStored(t, d, e.ID, one.ID, "an attempt", func(d endpoint.Delivery) bool { return d.Attempts == 1 })
			a := attempts(t, d, sent.ID)[0]
			if (sent.Status == endpoint.Delivered) != c.ok || sent.Error != c.want || a.Error != c.want || (a.Message == "") != c.ok || len(a.ResponseBody) > 3*4096 {
				t.Errorf("recorded %+v, %q %q, %d bytes", sent, a.Error, a.Message, len(a.ResponseBody))
			}
			if _, err := d.Write().NewRaw("DELETE FROM event_endpoints WHERE id = ?", e.ID).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAnEventThatIsNoLongerKeptIsGivenUp(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		x := receive(t, nil)
		e := subscribe(t, d, "acc_1", x.URL, "*")
		one := thing("acc_1", "a")
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return endpoint.Queue(ctx, tx, []endpoint.Delivery{endpoint.NewDelivery(one, e.ID, db.Now())}, false)
		})
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, d, "memory:", time.Hour)
		p.feed.Tell()
		dead := awaitStored(t, d, e.ID, one.ID, "giving up", is(endpoint.Dead))
		if dead.Error != "expired" || len(x.seen()) != 0 {
			t.Errorf("dead %+v, %d requests", dead, len(x.seen()))
		}
	})
}

func TestAnEndpointThatIsDownIsNotStormed(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	account(t, d, "acc_1")
	x := receive(t, func(http.ResponseWriter, received) int { return http.StatusBadGateway })
	subscribe(t, d, "acc_1", x.URL, "*")
	var events []event.Event
	for i := range 1000 {
		events = append(events, thing("acc_1", fmt.Sprint(i)))
	}
	emit(t, d, events...)
	p := start(t, d, "memory:", time.Millisecond)
	p.feed.Wake()
	x.await(t, "ten failures", func(all []received) bool { return len(all) >= 10 })
	p.stop()
	if n := len(x.seen()); n > 10+20 {
		t.Errorf("%d requests to an endpoint that is down", n)
	}
}

func TestAProcessThatStopsLeavesNothingHeld(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		x := receive(t, nil)
		subscribe(t, d, "acc_1", x.URL, "*")
		p := start(t, d, "memory:", time.Millisecond)
		emit(t, d, thing("acc_1", "a"))
		p.feed.Wake()
		x.awaitTaken(t, 1)
		p.stop()
		for _, q := range []string{
			"SELECT COUNT(*) FROM delivery_workers", "SELECT COUNT(*) FROM delivery_lanes WHERE worker_id IS NOT NULL",
			"SELECT COUNT(*) FROM deliveries WHERE status <> 'delivered'",
		} {
			n := -1
			if err := d.Read().NewRaw(q).Scan(t.Context(), &n); err != nil || n != 0 {
				t.Errorf("%s: %d, %v", q, n, err)
			}
		}
	})
}

func TestOldDeliveriesArePurged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		account(t, d, "acc_1")
		x := receive(t, nil)
		e := subscribe(t, d, "acc_1", x.URL, "*")
		p := start(t, d, "memory:", time.Millisecond)
		old, young := thing("acc_1", "a"), thing("acc_1", "b")
		emit(t, d, old, young)
		p.feed.Wake()
		for _, one := range []event.Event{old, young} {
			awaitStored(t, d, e.ID, one.ID, "the record", is(endpoint.Delivered))
		}
		ago := db.Now().Add(-31 * 24 * time.Hour)
		gone := stored(t, d, e.ID, old.ID)
		for _, q := range []string{"UPDATE deliveries SET created_at = ? WHERE id = ?", "UPDATE delivery_attempts SET started_at = ? WHERE delivery_id = ?"} {
			if _, err := d.Write().NewRaw(q, ago, gone.ID).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := stored(t, d, e.ID, old.ID); got.ID != "" || len(attempts(t, d, gone.ID)) != 0 {
			t.Errorf("left %+v", got)
		}
		if kept := stored(t, d, e.ID, young.ID); kept.ID == "" || len(attempts(t, d, kept.ID)) != 1 {
			t.Errorf("the young one is %+v", kept)
		}
	})
}
