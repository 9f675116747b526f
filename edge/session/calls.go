// Package session owns live calls: it asks applications, executes their programs, emits the events of each call
// and folds them into its record. One call is one goroutine of straight code; every way it can end is the cause of
// its context. Two legs that hear each other are in a bond, by which a transfer, a REFER or an INVITE with Replaces
// gives one of them another partner. SIP belongs to edge/sip, audio to edge/media, the contract to webhooks, and
// everything that outlives a call to the control plane behind edge/control.
package session

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/detect"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Config is what the calls of one edge share. Every field without a remark is needed.
type Config struct {
	EdgeID  webhooks.EdgeID
	BootID  string // new at every start of the process
	Control control.Control
	Media   *media.Engine
	Prompts *prompt.Store
	Webhook *webhooks.Client
	Guard   *guard.Client // for the addresses of SIP URIs and media that accounts name
	Logger  *slog.Logger

	// Invite places an outgoing INVITE (sip.Server.Invite).
	Invite func(context.Context, sip.InviteConfig) (*sip.Dialog, error)
	// MediaAddr is the address to put into SDP for a peer.
	MediaAddr func(peer netip.Addr) netip.Addr
	// SpoolDir holds recordings and events until the control plane has them.
	SpoolDir string
	// PublicURL is the REST API's base for links in requests (RecordingUrl); may be empty.
	PublicURL string
	// Blobs puts the segments of recordings to where the control plane points: the operator's own storage. Nil is a
	// client with a time-out.
	Blobs *http.Client
	// Observe, when set, sees every event as it is numbered. It must not block.
	Observe func(webhooks.Event)
	// Observer is told what operators measure.
	Observer Observer
	// Tracer makes the spans of calls; nil makes none. Its spans without a parent must take their trace id from TraceID.
	Tracer trace.Tracer
	// MaxCalls bounds the live legs; 0 is 10,000.
	MaxCalls int
	// Announcements are the carriers' announcements that detection knows; detect.MaxAnnouncements at most, none by default.
	Announcements []detect.Announcement
	// Digest is the algorithms phones are challenged for; see sip.NewDigestServer.
	Digest []string
	// SIP is where other edges reach this one, for the beat.
	SIP func() netip.AddrPort
	// RTPTimeout ends an answered call that sends no audio for so long; 0 is media.DefaultTimeout.
	RTPTimeout time.Duration
}

// Calls is all live calls of an edge. Its methods may be called from any goroutine.
type Calls struct {
	cfg    Config
	digest *sip.DigestServer
	bans   sip.Bans
	outbox *outbox
	ship   *shipper
	routes routeMemory
	trails trails
	asked  askedMemory
	parked parkings
	queued queueing
	rooms  rooms

	ctx      context.Context // ends when the edge stops for good
	stop     context.CancelCauseFunc
	draining atomic.Bool
	// greeted is whether the control plane has ever answered a beat of this process.
	greeted atomic.Bool
	// toldOverload is the second, since 1970, in which the log last heard that calls are refused.
	toldOverload atomic.Int64
	work         sync.WaitGroup // one for each session that admit let in
	telling      sync.WaitGroup // status callbacks on their way

	told context.Context // ends when status callbacks have had their time
	hush context.CancelFunc
	// status asks status URLs. Why it is not the client that asks for programs: a receiver of notices that is down or
	// slow would use up the account's requests in flight, or open the circuit of the host that answers its calls.
	status *webhooks.Client

	mu   sync.Mutex // guards live, legs, dialogs and known
	live map[webhooks.CallID]*Session
	legs map[Dir]int // of live, by direction
	// dialogs are the legs of live that have a dialog, by its ID.
	dialogs map[string]*Session
	// known is where phones have registered from through this edge, with when that ends: they are not strangers.
	known map[netip.Addr]time.Time
}

const (
	defaultMaxCalls = 10_000
	maxKnown        = 100_000
)

// New returns an edge's calls. Run must be called for anything to reach the control plane.
func New(cfg Config) (*Calls, error) {
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = defaultMaxCalls
	}
	if cfg.RTPTimeout == 0 {
		cfg.RTPTimeout = media.DefaultTimeout
	}
	if cfg.Blobs == nil {
		cfg.Blobs = &http.Client{Timeout: shipTime}
	}
	c := &Calls{
		cfg:    cfg,
		digest: sip.NewDigestServer(cfg.Digest...),
		live:   map[webhooks.CallID]*Session{},
		legs:   map[Dir]int{},

		dialogs: map[string]*Session{},
		known:   map[netip.Addr]time.Time{},
	}
	c.queued.wake = make(chan struct{}, 1)
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	c.told, c.hush = context.WithCancel(context.Background())
	c.status = webhooks.NewClient(webhooks.ClientConfig{Guard: cfg.Guard})
	var err error
	if c.outbox, err = newOutbox(cfg); err != nil {
		return nil, err
	}
	if c.ship, err = newShipper(cfg); err != nil {
		return nil, err
	}
	c.ship.outbox = c.outbox.add
	fenced := func(id webhooks.CallID) {
		if s := c.find(id); s != nil {
			s.fence()
		}
	}
	c.outbox.fenced, c.outbox.then.fenced = fenced, fenced
	return c, nil
}

// Run sends events and recordings to the control plane and beats, until ctx ends; then it ends the calls that are
// left with edge_drain, gives the control plane a few seconds for what they leave behind, spools the rest, and
// returns. Use Drain first to let calls end by themselves.
func (c *Calls) Run(ctx context.Context) error {
	var background sync.WaitGroup
	flush, stopFlush := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFlush()
	background.Go(func() { c.outbox.run(flush) })
	background.Go(func() { c.ship.run(flush) })
	background.Go(func() { c.beat(flush) })
	background.Go(func() { c.queued.run(flush) })
	background.Go(func() { c.renewQueues(flush) })
	background.Go(func() { c.cutJournals(flush) })

	<-ctx.Done()
	c.takeNoMore()
	c.stop(ended{cause: webhooks.CauseEdgeDrain})
	c.work.Wait()
	const grace = 5 * time.Second
	left, done := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer done()
	defer context.AfterFunc(left, c.hush)() // status URLs share the time
	c.queued.settle(left)
	c.ship.settle(left)
	c.outbox.settle(left)
	stopFlush()
	background.Wait()
	c.telling.Wait()
	return nil
}

// Drain refuses new calls (503 with Retry-After) and returns when the last live one has ended, or with ctx.
func (c *Calls) Drain(ctx context.Context) error {
	c.takeNoMore()
	gone := make(chan struct{})
	go func() { // ends with the last session, which Run waits for as well
		c.work.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready says why no new calls can be taken: the edge drains, or the control plane has never answered. One that is away for
// a while leaves the edge ready: routes are remembered.
func (c *Calls) Ready() error {
	switch {
	case c.draining.Load():
		return errors.New("the edge is draining")
	case !c.greeted.Load():
		return errors.New("the control plane has not answered yet")
	}
	return nil
}

// Draining reports whether no new calls are taken any more.
func (c *Calls) Draining() bool { return c.draining.Load() }

// Legs is how many legs there are in each direction.
func (c *Calls) Legs() map[Dir]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.legs)
}

// Live is how many legs there are.
func (c *Calls) Live() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.live)
}

// Handler is what the SIP server calls.
func (c *Calls) Handler() sip.Handler {
	return sip.Handler{
		Invite:   c.Accept,
		Register: c.Register,
		Known:    c.isKnown,
		Banned:   c.bans.Banned,
	}
}

// takeNoMore makes every admit from now on fail. What was admitted before is counted in work, so that whoever waits for it
// next misses nobody.
func (c *Calls) takeNoMore() {
	c.mu.Lock()
	c.draining.Store(true)
	c.mu.Unlock()
}

// admit registers the session of a new call and counts it in work, unless the edge is full or draining. The caller calls
// work.Done when the session is over.
func (c *Calls) admit(s *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining.Load() || !c.enter(s) {
		return false
	}
	c.work.Add(1)
	return true
}

// add registers a leg of a call that is live already, unless the edge is full or at its end.
func (c *Calls) add(s *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enter(s)
}

// enter is add for a caller that holds mu.
func (c *Calls) enter(s *Session) bool {
	if len(c.live) >= c.cfg.MaxCalls || c.ctx.Err() != nil {
		return false
	}
	c.live[s.id] = s
	c.legs[s.dir()]++
	return true
}

func (c *Calls) remove(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.live[s.id]; ok {
		delete(c.live, s.id)
		if s.dialog != nil {
			delete(c.dialogs, s.dialog.ID())
		}
		c.legs[s.dir()]--
	}
}

func (c *Calls) find(id webhooks.CallID) *Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live[id]
}

// Act implements control.Edge: it hands a live change to the call's goroutine.
func (c *Calls) Act(_ context.Context, a control.Action) error {
	s := c.find(a.CallID)
	if s == nil || s.account != a.AccountID {
		return &control.Error{Code: control.CodeNotFound, Message: "the call is not live on this edge"}
	}
	return s.take(a)
}

// isKnown reports whether packets from this address are worth an answer when they are wrong: a phone registered
// here. Trunks are known to the control plane only; their malformed requests stay unanswered.
func (c *Calls) isKnown(source netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.known[source]
	if ok && time.Now().After(until) {
		delete(c.known, source)
		return false
	}
	return ok
}

func (c *Calls) know(source netip.Addr, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[source]; !ok && len(c.known) >= maxKnown {
		return // a stranger's malformed requests are dropped without an answer; nothing else depends on it
	}
	c.known[source] = until
}

// beat tells the control plane every second that the edge lives.
func (c *Calls) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	away := false
	for {
		b := control.Beat{EdgeID: c.cfg.EdgeID, BootID: c.cfg.BootID, Calls: c.Live(), Draining: c.draining.Load(), SIP: c.cfg.SIP(), At: time.Now().UTC()}
		call, done := context.WithTimeout(ctx, 2*time.Second)
		err := c.cfg.Control.Beat(call, b)
		done()
		if err == nil {
			c.greeted.Store(true)
		}
		if now := err != nil && ctx.Err() == nil; now != away {
			away = now
			c.cfg.Logger.Warn("control.reachable", "reachable", !away, "error", errorText(err))
			if !away {
				c.ship.retry()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// ended is the cause of a session's context: why it is over.
type ended struct {
	cause webhooks.Cause
	by    webhooks.EndedBy // "" for the cause's usual
	code  int              // final SIP response, where one was received or is to be sent; 0 for the cause's
	text  string           // what only the log needs
	why   error            // what it means to the packages below, such as sip.ErrElsewhere; nil for nothing
}

func (e ended) Error() string {
	if e.text != "" {
		return string(e.cause) + ": " + e.text
	}
	return string(e.cause)
}

// Unwrap lets sip see what it has to tell.
func (e ended) Unwrap() error { return e.why }

// elsewhere ends those who still ring when somebody else has answered.
func elsewhere() ended {
	return ended{cause: webhooks.CauseCanceled, by: webhooks.EndedByCaller, text: "answered elsewhere", why: sip.ErrElsewhere}
}

// endOf returns why ctx ended.
func endOf(ctx context.Context) ended {
	var e ended
	if errors.As(context.Cause(ctx), &e) {
		return e
	}
	return ended{cause: webhooks.CauseError, text: errorText(context.Cause(ctx))}
}
