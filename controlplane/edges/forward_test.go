package edges_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/bus/bustest"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/edges"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// process is a control plane beside that of the house, on its database and bus, with a listener for edges.
type process struct {
	*edges.Service
	*httptest.Server
	bus *bus.Bus

	attached chan webhooks.EdgeID
	detached chan webhooks.EdgeID
	stop     func() // of Run; waits for it
}

const edgeToken = "edge_secret"

// start runs a service until the test ends.
func start(t testing.TB, s *edges.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// beside makes another process on a bus, and runs it.
func (h *house) beside(t testing.TB, b *bus.Bus) *process {
	t.Helper()
	p := &process{bus: b, attached: make(chan webhooks.EdgeID, 10), detached: make(chan webhooks.EdgeID, 10)}
	p.Service = &edges.Service{
		DB: h.Service.DB, Bus: b, Accounts: h.Accounts, Apps: h.Apps, Numbers: h.Numbers, Trunks: h.Trunks, Credentials: h.Credentials,
		Recordings: h.Recordings, Files: h.Files, Log: slog.New(slog.DiscardHandler), Now: h.Now,
	}
	p.Calls = &call.Service{DB: h.Service.DB, Edges: p.Service}
	p.stop = start(t, p.Service)
	handler := &control.Handler{
		Control: p.Service, Log: slog.New(slog.DiscardHandler),
		Authorize: func(_ context.Context, token string) error {
			if token != edgeToken {
				return &control.Error{Code: control.CodeUnauthorized, Message: "no"}
			}
			return nil
		},
		Attach: func(id webhooks.EdgeID, e control.Edge) func() {
			detach := p.Attach(id, e)
			p.attached <- id
			return func() {
				detach()
				p.detached <- id
			}
		},
	}
	p.Server = httptest.NewUnstartedServer(handler)
	p.Config.Protocols = control.Protocols()
	p.Start()
	t.Cleanup(p.Close)
	return p
}

// connect has an edge dial a process, and waits until the house reaches it there.
func (p *process) connect(t testing.TB, h *house, id webhooks.EdgeID, e control.Edge) (disconnect func()) {
	t.Helper()
	client, err := control.NewClient(control.ClientConfig{URL: p.URL, Token: edgeToken, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := client.Serve(ctx, id, e); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	disconnect = sync.OnceFunc(func() {
		cancel()
		serving.Wait()
		<-p.detached
		client.Close()
	})
	t.Cleanup(disconnect)
	<-p.attached
	until(t, "the edge's presence", func() bool {
		members, err := h.Bus.Members(t.Context(), "edge:"+string(id))
		return err == nil && len(members) > 0
	})
	return disconnect
}

// until waits for a condition of other goroutines.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s did not happen", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// eachBus runs fn on every pair of a database and a bus, with a way to open that bus as another process does.
func eachBus(t *testing.T, fn func(t *testing.T, h *house, open func() *bus.Bus)) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		shared := bustest.Open(t, "memory:")
		redis := bustest.RedisURL(t)
		for name, open := range map[string]func(t *testing.T) *bus.Bus{
			"memory": func(*testing.T) *bus.Bus { return shared },
			"redis":  func(t *testing.T) *bus.Bus { return bustest.Open(t, redis) },
		} {
			// One database for both: the accounts are there once.
			t.Run(name, func(t *testing.T) {
				h := houseOn(t, d, open(t))
				fn(t, h, func() *bus.Bus { return open(t) })
			})
		}
	})
}

// houseOn is a house whose process runs on a bus.
func houseOn(t *testing.T, d *db.DB, b *bus.Bus) *house {
	t.Helper()
	for _, table := range []string{"domains", "events", "calls", "outbox", "edges"} {
		if _, err := d.Write().NewDelete().Table(table).Where("1 = 1").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h := newHouse(t, d)
	h.Bus = b
	start(t, h.Service)
	// What it announces is there once it hears the others too.
	detach := h.Attach("edge_probe", &controltest.Edge{})
	until(t, "the house's presence", func() bool {
		members, err := b.Members(t.Context(), "edge:edge_probe")
		return err == nil && len(members) > 0
	})
	detach()
	return h
}

// versioned is an edge with calls that have versions, as a session's.
type versioned struct {
	mu      sync.Mutex // guards what follows
	version map[webhooks.CallID]int
	acted   []control.Action
	started []control.Originate
}

func (v *versioned) Act(_ context.Context, a control.Action) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a.IfMatch != "" && a.IfMatch != strconv.Itoa(v.version[a.CallID]) {
		return &control.Error{Code: control.CodePrecondition, Message: "changed"}
	}
	v.version[a.CallID]++
	v.acted = append(v.acted, a)
	return nil
}

func (v *versioned) Originate(_ context.Context, o control.Originate) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.started = append(v.started, o)
	return nil
}

func (h *house) act(t *testing.T, id webhooks.CallID, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return h.Do(t, resttest.Token, http.MethodPost, "/v1/calls/"+string(id)+"/actions", body, headers...)
}

func TestCommandsReachTheEdgeFromEveryProcess(t *testing.T) {
	eachBus(t, func(t *testing.T, h *house, open func() *bus.Bus) {
		p := h.beside(t, open())
		e := &versioned{version: map[webhooks.CallID]int{}}
		p.connect(t, h, "edge_1", e)
		h.beat(t, "edge_1", "boot_1", 0)
		id := webhooks.NewCallID()
		h.initiate(t, id, "boot_1", db.Now(), webhooks.EventData{})
		var taken call.ActionTaken
		resttest.Want(t, h.act(t, id, `{"instructions":[{"verb":"pause"}],"peer":"hangup"}`, "If-Match", `"0"`), http.StatusAccepted, &taken)
		if len(e.acted) != 1 || e.acted[0].ActionID != taken.ActionID || e.acted[0].CallID != id || e.acted[0].AccountID != resttest.Account ||
			e.acted[0].Change.Program == nil || !e.acted[0].Change.Peer.HangUp || e.acted[0].IfMatch != "0" {
			t.Errorf("the edge got %+v", e.acted)
		}
		resttest.Want(t, h.act(t, id, `{"op":"hangup"}`, "If-Match", `"0"`), http.StatusPreconditionFailed, nil)
		body := map[string]any{"to": map[string]any{"extension": "1001"}, "url": "https://example.com/x", "data": map[string]any{"a": "b"}}
		var c call.Call
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", body), http.StatusCreated, &c)
		if len(e.started) != 1 || string(e.started[0].CallID) != c.ID || e.started[0].Application.VoiceURL != "https://example.com/x" || e.started[0].Data["a"] != "b" {
			t.Errorf("the edge got %+v", e.started)
		}
	})
}

func TestRefusalsOfAnEdgeAtAnotherProcess(t *testing.T) {
	eachBus(t, func(t *testing.T, h *house, open func() *bus.Bus) {
		p := h.beside(t, open())
		var answer atomic.Pointer[control.Error]
		p.connect(t, h, "edge_1", &controltest.Edge{OnAct: func(context.Context, control.Action) error { return answer.Load() }})
		id := webhooks.NewCallID()
		h.initiate(t, id, "boot_1", db.Now(), webhooks.EventData{})
		for code, want := range map[control.Code]int{
			control.CodeNotFound: 409, control.CodePrecondition: 412, control.CodeBusy: 503, control.CodeUnsupported: 422, control.CodeInvalid: 422,
		} {
			answer.Store(&control.Error{Code: code, Message: "because of " + string(code)})
			if w := h.act(t, id, `{"op":"mute"}`); w.Code != want || (want == 503) != (w.Header().Get("Retry-After") != "") || want == 422 && !strings.Contains(w.Body.String(), `"/op"`) {
				t.Errorf("%s: %d %s", code, w.Code, w.Body)
			}
		}
	})
}

func TestACommandWhoseAnswerIsLateIsCarriedOutOnce(t *testing.T) {
	eachBus(t, func(t *testing.T, h *house, open func() *bus.Bus) {
		p := h.beside(t, open())
		release, asked := make(chan struct{}), atomic.Int32{}
		p.connect(t, h, "edge_1", &controltest.Edge{OnAct: func(context.Context, control.Action) error {
			asked.Add(1)
			<-release
			return nil
		}})
		id := webhooks.NewCallID()
		h.initiate(t, id, "boot_1", db.Now(), webhooks.EventData{})
		timer := time.AfterFunc(1200*time.Millisecond, func() { close(release) }) // after the first try was given up
		defer timer.Stop()
		if w := h.act(t, id, `{"op":"hangup"}`); w.Code != http.StatusAccepted || asked.Load() != 1 {
			t.Errorf("%d %s, carried out %d times", w.Code, w.Body, asked.Load())
		}
	})
}

func TestAnEdgeIsReachedByItsNewestConnection(t *testing.T) {
	eachBus(t, func(t *testing.T, h *house, open func() *bus.Bus) {
		// The older process has not noticed that its connection is over: what it sends goes nowhere.
		old, newer := h.beside(t, open()), h.beside(t, open())
		defer old.Attach("edge_1", &controltest.Edge{OnAct: func(ctx context.Context, _ control.Action) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}})()
		e := &versioned{version: map[webhooks.CallID]int{}}
		newer.connect(t, h, "edge_1", e)
		id := webhooks.NewCallID()
		h.initiate(t, id, "boot_1", db.Now(), webhooks.EventData{})
		for range 3 {
			resttest.Want(t, h.act(t, id, `{"op":"hangup"}`), http.StatusAccepted, nil)
		}
		// So it is when the older connection is to the process that is asked.
		defer h.Attach("edge_2", &controltest.Edge{OnAct: func(context.Context, control.Action) error { return errors.New("the connection is gone") }})()
		newer.connect(t, h, "edge_2", e)
		if err := h.Act(t.Context(), "edge_2", call.Action{ID: "act_1", CallID: id}); err != nil {
			t.Error(err)
		}
		if len(e.acted) != 4 {
			t.Errorf("%d changes were made", len(e.acted))
		}
	})
}

func TestAProcessThatIsAwayIsSaidSo(t *testing.T) {
	eachBus(t, func(t *testing.T, h *house, open func() *bus.Bus) {
		id := webhooks.NewCallID()
		h.initiate(t, id, "boot_1", db.Now(), webhooks.EventData{})
		h.beat(t, "edge_1", "boot_1", 0)
		away := func(what string) {
			t.Helper()
			if w := h.act(t, id, `{"op":"hangup"}`); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", what, w.Code, w.Body)
			}
			w := h.Do(t, resttest.Token, http.MethodPost, "/v1/calls", map[string]any{"to": map[string]any{"extension": "1001"}, "url": "https://example.com/"})
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: a call: %d %s", what, w.Code, w.Body)
			}
		}
		away("before the edge has connected")
		p := h.beside(t, open())
		disconnect := p.connect(t, h, "edge_1", &versioned{version: map[webhooks.CallID]int{}})
		resttest.Want(t, h.act(t, id, `{"op":"hangup"}`), http.StatusAccepted, nil)
		p.stop()
		away("after the process has stopped")
		// A process that died left its presence behind.
		if _, err := h.Bus.Enter(t.Context(), "edge:edge_1", "process_dead", []byte("1"), time.Hour, 0); err != nil {
			t.Fatal(err)
		}
		away("after the process has died")
		disconnect()
		if n := countOpen(t, h); n != 1 { // of the change that was made
			t.Errorf("%d changes are open", n)
		}
	})
}

func countOpen(t *testing.T, h *house) int64 {
	t.Helper()
	n, err := h.Service.DB.Read().NewSelect().Model((*db.Message)(nil)).Where("topic = ?", "call.action").Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestABusThatIsAwayIsSaidSo(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"memory": func(*testing.T) string { return "memory:" }, "redis": func(t *testing.T) string { return bustest.RedisURL(t) }} {
		t.Run(name, func(t *testing.T) {
			b := bustest.Open(t, location(t))
			h := houseOn(t, dbtest.Open(t, dbtest.SQLiteURL(t)), b)
			p := h.beside(t, b)
			defer p.connect(t, h, "edge_1", &versioned{version: map[webhooks.CallID]int{}})()
			h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
			resttest.Want(t, h.act(t, "call_1", `{"op":"hangup"}`), http.StatusAccepted, nil)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if w := h.act(t, "call_1", `{"op":"hangup"}`); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			// Its own edges a process reaches without the bus.
			defer h.Attach("edge_1", &versioned{version: map[webhooks.CallID]int{}})()
			resttest.Want(t, h.act(t, "call_1", `{"op":"hangup"}`), http.StatusAccepted, nil)
		})
	}
}

func TestOfManyWhoChangeTheSameVersionOneDoes(t *testing.T) {
	eachBus(t, func(t *testing.T, h *house, open func() *bus.Bus) {
		p := h.beside(t, open())
		e := &versioned{version: map[webhooks.CallID]int{}}
		p.connect(t, h, "edge_1", e)
		id := webhooks.NewCallID()
		h.initiate(t, id, "boot_1", db.Now(), webhooks.EventData{})
		for version := range 3 {
			const writers = 12
			codes := make(chan int, writers)
			var all sync.WaitGroup
			for n := range writers {
				all.Go(func() {
					if n%2 == 0 { // by the process that the edge is connected to
						err := p.Act(t.Context(), "edge_1", call.Action{ID: webhooks.NewActionID(), AccountID: resttest.Account, CallID: id, IfMatch: strconv.Itoa(version)})
						switch {
						case err == nil:
							codes <- http.StatusAccepted
						case errors.Is(err, call.ErrChanged):
							codes <- http.StatusPreconditionFailed
						default:
							t.Error(err)
						}
						return
					}
					codes <- h.act(t, id, `{"op":"hangup"}`, "If-Match", fmt.Sprintf("%q", strconv.Itoa(version))).Code
				})
			}
			all.Wait()
			close(codes)
			got := map[int]int{}
			for code := range codes {
				got[code]++
			}
			if got[http.StatusAccepted] != 1 || got[http.StatusPreconditionFailed] != writers-1 {
				t.Errorf("version %d: %v", version, got)
			}
		}
	})
}

func TestAnEdgeThatDiesWithAChangeHasItToldAsFailed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := newHouse(t, d)
		defer h.Attach("edge_1", &versioned{version: map[webhooks.CallID]int{}})()
		h.beat(t, "edge_1", "boot_1", 1)
		h.initiate(t, "call_1", "boot_1", db.Now(), webhooks.EventData{})
		var taken call.ActionTaken
		resttest.Want(t, h.act(t, "call_1", `{"op":"hangup"}`), http.StatusAccepted, &taken)
		h.pass(21 * time.Second)
		for range 2 {
			if _, err := d.Write().NewUpdate().Model((*db.Message)(nil)).Set("available_at = ?", db.Now().Add(-time.Second)).Where("1 = 1").Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.sweep(t)
		}
		var page struct{ Data []webhooks.Event }
		resttest.Want(t, h.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1/events", nil), http.StatusOK, &page)
		var got []string
		for _, e := range page.Data {
			got = append(got, fmt.Sprint(e.Sequence, " ", e.Type, " ", e.Data.ActionID))
		}
		if want := "1 call.initiated , 2 call.ended , 3 call.action.failed " + string(taken.ActionID); strings.Join(got, ", ") != want {
			t.Errorf("stored %v, want %s", got, want)
		}
		if n := countOpen(t, h); n != 0 {
			t.Errorf("%d changes are open", n)
		}
	})
}
