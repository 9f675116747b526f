// Package calltest owns call scripts: a whole edge in virtual time, with phones, an application and a control plane
// that do what a test says, so that a test reads as the story of a call. The network is in memory; not one real
// socket is opened. What is protected belongs to the packages that run here: sip, media, session, prompt, webhooks.
//
// A test runs inside synctest.Test. One goroutine, Bench.run, is the world: every slot of the media clock it waits
// until the bubble is quiet, delivers the datagrams that are due one by one, and ticks the media engine. So a story
// runs the same way each time, to the millisecond, and its ladder can be compared with a file.
package calltest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
	"github.com/hookswitch/hookswitch/webhooks/webhooktest"
)

// edgeAddr is where the edge listens for SIP.
var edgeAddr = netip.MustParseAddrPort("192.0.2.1:5060")

// Bench is one edge and the world around it.
type Bench struct {
	App   *webhooktest.App
	Plane *Plane
	Calls *session.Calls

	t       testing.TB
	started time.Time
	wire    *wire
	engine  *media.Engine
	server  *sip.Server
	stop    []func() // in order
	calls   func()   // ends Calls

	mu     sync.Mutex // guards what follows, and everything of phones and calls
	phones map[string]*Phone
	events []webhooks.Event
	ladder []rung
	signal []signal
	asks   []ask
	log    bytes.Buffer
	others []*Edge
	step   chan struct{} // closed after the next step of the world; nil when nobody waits for it
	stride time.Duration // between two steps of the world
}

// Setup changes what a bench is made of.
type Setup struct {
	Media   func(*media.Config)
	Session func(*session.Config)
	// Speech are the engines behind say; none when it is not set.
	Speech speech.Providers
	// Spool and Plane are those of a bench before this one, as after a restart; new ones when they are not set.
	Spool string
	Plane *Plane
}

// New starts an edge. It ends with the test, or with Close.
func New(t testing.TB) *Bench { return NewWith(t, Setup{}) }

// NewWith starts an edge that is set up otherwise.
func NewWith(t testing.TB, setup Setup) *Bench {
	t.Helper()
	b := &Bench{
		App: webhooktest.New(t), Plane: newPlane(t),
		t: t, started: time.Now(), wire: newWire(), phones: map[string]*Phone{}, stride: media.Slot,
	}
	if setup.Plane != nil {
		b.Plane = setup.Plane
	}
	b.Plane.phone, b.Plane.agent = b.known, b.ofAgent
	b.build(setup)
	b.start()
	t.Cleanup(b.Close)
	return b
}

func (b *Bench) build(setup Setup) {
	logger := slog.New(slog.NewTextHandler(logWriter{b}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	network := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	web := guard.New(guard.Config{AllowNetworks: network, Transport: &asked{b: b, next: b.App.Transport()}})
	prompts := prompt.New(prompt.Config{Guard: web, Media: b.Plane.Media, Speech: setup.Speech, Logger: logger})

	mediaConfig := media.Config{
		Shards: 1, PortMin: 20000, PortMax: 20999, Logger: logger,
		Open: func(port int) (media.PacketPort, error) {
			return b.wire.openMedia(netip.AddrPortFrom(edgeAddr.Addr(), uint16(port)))
		},
	}
	if setup.Media != nil {
		setup.Media(&mediaConfig)
	}
	b.engine = must(media.New(mediaConfig))(b.t)

	sessionConfig := session.Config{
		EdgeID: EdgeID, BootID: "boot", Control: b.Plane, Media: b.engine, Prompts: prompts,
		Webhook: webhooks.NewClient(webhooks.ClientConfig{Guard: web}), Guard: web, Logger: logger,
		Invite: func(ctx context.Context, c sip.InviteConfig) (*sip.Dialog, error) {
			return b.server.Invite(ctx, c)
		},
		MediaAddr: func(netip.Addr) netip.Addr { return edgeAddr.Addr() },
		SpoolDir:  setup.Spool,
		SIP:       func() netip.AddrPort { return edgeAddr },
		Blobs:     &http.Client{Transport: b.Plane},
		Observe:   b.observe,
	}
	if sessionConfig.SpoolDir == "" {
		sessionConfig.SpoolDir = b.t.TempDir()
	}
	if setup.Session != nil {
		setup.Session(&sessionConfig)
	}
	b.Calls = must(session.New(sessionConfig))(b.t)
	b.server = must(sip.New(sip.Config{
		Listen:  []sip.Listener{{Network: "udp", PacketConn: b.wire.listen(edgeAddr)}},
		Logger:  logger,
		Handler: b.Calls.Handler(),
		Trace:   func(e sip.TraceEvent) { b.traced(e); b.Calls.Trace(e) },
	}))(b.t)
	b.stop = []func(){prompts.Close}
}

// must fails the test that cannot even begin.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// start sets the parts going, and says in which order they end: the calls, then SIP, then the world they live in.
func (b *Bench) start() {
	b.calls = b.running(func(ctx context.Context) { b.noError(b.Calls.Run(ctx)) })
	ends := []func(){
		b.calls,
		b.running(func(ctx context.Context) { b.noError(b.server.Run(ctx)) }),
		b.running(b.run),
	}
	b.stop = append(ends, b.stop...)
}

func (b *Bench) noError(err error) {
	if err != nil {
		b.t.Error(err)
	}
}

// running starts a part on a goroutine of its own and returns what ends it and waits for it.
func (b *Bench) running(part func(context.Context)) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		part(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// Close ends the edge and checks what must be true of every edge that has ended. It can be called twice.
func (b *Bench) Close() {
	stop := b.stop
	b.stop = nil
	if stop == nil {
		return
	}
	for _, end := range stop {
		end()
	}
	b.Plane.check()
	if n := b.Calls.Live(); n != 0 {
		b.t.Errorf("%d legs are left", n)
	}
	if n := b.engine.Stats().Legs; n != 0 {
		b.t.Errorf("%d legs of media are left", n)
	}
	for _, e := range b.edges() {
		if n, legs := e.Calls.Live(), e.engine.Stats().Legs; n != 0 || legs != 0 {
			b.t.Errorf("%d legs and %d of media are left at %s", n, legs, e.ID)
		}
	}
	if b.t.Failed() {
		b.t.Logf("ladder:\n%s\nlog:\n%s", b.Ladder(), b.Log())
	}
}

// run is the world. It is the only goroutine that may call synctest.Wait.
func (b *Bench) run(ctx context.Context) {
	stride := media.Slot
	slots := time.NewTicker(stride)
	defer slots.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-slots.C:
			b.slot(now)
		}
		b.mu.Lock()
		next := b.stride
		b.mu.Unlock()
		if next != stride {
			stride = next
			slots.Reset(stride)
		}
	}
}

// Rest lets a long time go by in steps so large that no audio could be heard: for what SIP and the control plane still
// have to settle when every call is over.
func (b *Bench) Rest(d time.Duration) {
	b.paced(time.Second)
	b.Pass(d)
	b.paced(media.Slot)
}

func (b *Bench) paced(stride time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stride = stride
}

// StopCalls ends the edge's calls as the end of its process does, and returns when they are over. SIP goes on until
// Close.
func (b *Bench) StopCalls() { b.calls() }

// slot is one step: first all that happens by itself at this instant, then what has arrived, then the media.
func (b *Bench) slot(now time.Time) {
	synctest.Wait()
	for {
		d, to, ok := b.wire.next(now)
		if !ok {
			break
		}
		if to == nil {
			continue // nobody there: UDP does not say
		}
		to(d)
		if b.isEdge(d.To) {
			synctest.Wait() // one message after the other, so that a race always ends the same way
		}
	}
	b.engine.Tick(now)
	for _, e := range b.edges() {
		e.engine.Tick(now)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.phones {
		for _, c := range p.calls {
			c.talk(now)
		}
	}
	if b.step != nil {
		close(b.step)
		b.step = nil
	}
}

// until waits for something to become true within a time, or fails the test. The condition is asked with mu held,
// after each step of the world.
func (b *Bench) until(limit time.Duration, what string, holds func() bool) {
	b.t.Helper()
	if !b.within(limit, holds) {
		b.t.Fatalf("%s at %s: %s", b.offset(time.Now()), limit, what)
	}
}

func (b *Bench) within(limit time.Duration, holds func() bool) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		b.mu.Lock()
		done := holds()
		if b.step == nil {
			b.step = make(chan struct{})
		}
		step := b.step
		b.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-step:
		case <-timeout.C:
			return false
		}
	}
}

// Pass lets time go by. It returns no earlier than all that happens before has happened.
func (b *Bench) Pass(d time.Duration) { <-time.After(d) }

// Now is how long the bench has been running.
func (b *Bench) Now() time.Duration { return time.Since(b.started) }

// Impair sets the rule of the network: with which further delays copies of a datagram arrive; none, and it is lost.
// nil is a network without faults. It must not block.
func (b *Bench) Impair(rule func(Datagram) []time.Duration) {
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	b.wire.impair = rule
}

// Program binds a number to a stored program.
func (b *Bench) Program(number, program string) {
	b.t.Helper()
	b.Plane.Number(number, control.Application{ID: "app_stored", Format: control.FormatNative, Program: Program(b.t, program)})
}

// Webhook binds a number to the scripted application, asked at /voice. change may be nil.
func (b *Bench) Webhook(number string, change func(*control.Application)) {
	app := control.Application{ID: "app_hook", Format: control.FormatNative, VoiceURL: b.App.URL + "/voice"}
	if change != nil {
		change(&app)
	}
	b.Plane.Number(number, app)
}

// Events returns what the edge has emitted so far, of these types or, without any, of all.
func (b *Bench) Events(types ...webhooks.EventType) []webhooks.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []webhooks.Event
	for _, e := range b.events {
		if len(types) == 0 || contains(types, e.Type) {
			out = append(out, e)
		}
	}
	return out
}

func contains(types []webhooks.EventType, t webhooks.EventType) bool {
	for _, one := range types {
		if one == t {
			return true
		}
	}
	return false
}

// Event waits for the next event of this type that no Event has taken yet.
func (b *Bench) Event(kind webhooks.EventType) webhooks.Event {
	b.t.Helper()
	var found webhooks.Event
	b.until(patience, "no event "+string(kind), func() bool {
		for i := range b.ladder {
			r := &b.ladder[i]
			if r.event != nil && r.event.Type == kind && !r.taken {
				r.taken, found = true, *r.event
				return true
			}
		}
		return false
	})
	return found
}

// Ended waits for the end of the next call and checks why it ended.
func (b *Bench) Ended(cause webhooks.Cause) webhooks.CDR {
	b.t.Helper()
	e := b.Event(webhooks.EventCallEnded)
	if e.Data.CDR == nil {
		b.t.Fatal("call.ended has no record")
	}
	if e.Data.CDR.Cause != cause {
		b.t.Errorf("the call ended with %s, expected %s", e.Data.CDR.Cause, cause)
	}
	return *e.Data.CDR
}

// Idle waits until no call is left.
func (b *Bench) Idle() {
	b.t.Helper()
	b.until(time.Minute, "calls are left", func() bool { return b.Calls.Live() == 0 })
}

func (b *Bench) observe(e webhooks.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	b.ladder = append(b.ladder, rung{at: e.OccurredAt, event: &e})
}

// Log returns all that the edge has logged.
func (b *Bench) Log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// LogsNothingOf fails the test when the edge has logged or told a word.
func (b *Bench) LogsNothingOf(word string) {
	b.t.Helper()
	if strings.Contains(b.Log(), word) {
		b.t.Errorf("%q was logged", word)
	}
}

type logWriter struct{ b *Bench }

// Write implements io.Writer.
func (w logWriter) Write(line []byte) (int, error) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	return w.b.log.Write(line)
}

// patience is how long a story waits for what it expects next.
const patience = 40 * time.Second
