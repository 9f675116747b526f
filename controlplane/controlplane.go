// Package controlplane puts the control plane together: the database, the bus and the blobs, the resources on top of
// them, the REST API, the listener for edges, and the workers. It has no behaviour of its own beyond their order at
// start and end, and what the first start makes (Seed).
package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/edges"
	"github.com/hookswitch/hookswitch/controlplane/notice"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/user"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Config is a control plane. Every field without a remark is needed.
type Config struct {
	Database string // as of db.Open
	Bus      string // as of bus.Open
	Blobs    string // as of blob.Open
	HTTP     string // address of the REST API; port 0 takes a free one

	PublicURL string      // how the outside reaches HTTP; "" for http:// or https:// and that address
	Host      string      // the name that leads to HTTP's address, for a URL of that; "" for the address itself
	TLS       *tls.Config // of HTTP; nil for clear text
	// HSTS is how long browsers are told to insist on TLS (RFC 6797); 0 tells them nothing.
	HSTS time.Duration
	// Outside are handlers of paths beside those of the REST API, such as /metrics. May be nil.
	Outside  map[string]http.Handler
	Edges    string      // address that edges dial; "" for none, when the only edge is in this process
	EdgesTLS *tls.Config // of that listener; nil for clear text
	// DefaultAccount is the name of the account whose domain an edge's own address stands for; "" for none.
	DefaultAccount string
	// CheckAudio says in a sentence why an edge could not play an uploaded file.
	CheckAudio func(file []byte) error
	// AllowNetworks may be reached by URLs that accounts give although they are not public, RootCAs are trusted there
	// (nil: the system's), and OIDC and Mail are the identity provider and the mail server of accounts that have none of
	// their own; nil for none.
	AllowNetworks []netip.Prefix
	RootCAs       *x509.CertPool
	OIDC          *user.Provider
	Mail          *notice.Mail
	// RatePerSecond is what a key may ask of the REST API when it has no rate of its own; 0 for 50.
	RatePerSecond float64
	Logger        *slog.Logger
	// ObserveAPI, when set, is told each request of the REST API that was answered. It must not block.
	ObserveAPI func(operation string, status int, took time.Duration)
	// ObserveDelivery, when set, is told each attempt to deliver an event to an endpoint: delivered, or what failed in one
	// word of a small set. It must not block.
	ObserveDelivery func(outcome string, took time.Duration)
	// Tracer, when set, makes a span of each request of the REST API, below that of its header Traceparent.
	Tracer trace.Tracer
}

// ControlPlane is a control plane that is open: it listens, and serves once it Runs.
type ControlPlane struct {
	cfg     Config
	db      *db.DB
	bus     *bus.Bus
	blobs   *blob.Store
	close   func() error
	http    net.Listener
	forEdge net.Listener // nil for none

	handler     http.Handler
	accounts    *account.Service
	users       *user.Service
	apps        *app.Service
	numbers     *number.Service
	credentials *credential.Service
	edges       *edges.Service

	// What wire adds to; none of it changes once Run is called.
	workers []worker
	gauges  []Gauge
	onStop  []func() // end what lasts as long as its client likes, such as streams, before the servers wait for it

	stopping atomic.Bool
}

// worker runs beside the servers until its context ends, which is after the last request. An error that it returns
// before stops the control plane.
type worker struct {
	name string
	run  func(ctx context.Context) error
}

// New opens the stores, brings the database's schema up to date, and listens. Run serves; Close gives everything back
// when Run is not called.
func New(ctx context.Context, cfg Config) (*ControlPlane, error) {
	if cfg.Logger == nil || cfg.CheckAudio == nil {
		return nil, errors.New("controlplane: Logger and CheckAudio are needed")
	}
	p := &ControlPlane{cfg: cfg}
	p.close = sync.OnceValue(p.closeAll)
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *ControlPlane) open(ctx context.Context) error {
	var listen net.ListenConfig
	var err error
	if p.http, err = listen.Listen(ctx, "tcp", p.cfg.HTTP); err != nil {
		return fmt.Errorf("HTTP on %s: %w", p.cfg.HTTP, err)
	}
	if p.cfg.Edges != "" {
		if p.forEdge, err = listen.Listen(ctx, "tcp", p.cfg.Edges); err != nil {
			return fmt.Errorf("edges on %s: %w", p.cfg.Edges, err)
		}
	}
	if p.db, err = db.Open(ctx, p.cfg.Database); err != nil {
		return err
	}
	if strings.HasPrefix(p.cfg.Database, "postgres") {
		// Off for a superuser and for whoever may bypass it: the scope of each query holds alone then.
		p.cfg.Logger.Info("db.row_security", "on", p.db.RowSecurity())
	}
	if p.cfg.Tracer != nil {
		p.db.Observe(noteQuery)
	}
	if p.bus, err = bus.Open(ctx, p.cfg.Bus); err != nil {
		return err
	}
	secret, err := secretNamed(ctx, p.db, "blobs")
	if err != nil {
		return err
	}
	if p.blobs, err = blob.Open(ctx, p.cfg.Blobs, blob.Options{BaseURL: p.URL(), Secret: secret}); err != nil {
		return err
	}
	return p.wire(ctx)
}

// routes puts the REST API beside what lies outside it.
func (p *ControlPlane) routes(api http.Handler, spec *openapi.Spec) http.Handler {
	m := http.NewServeMux()
	m.Handle("/", p.traced(api))
	m.Handle("/blobs/", p.blobs.Handler())
	for _, path := range []string{"/openapi.yaml", "/docs", "/docs/"} {
		m.Handle(path, spec.Handler())
	}
	m.Handle("GET /{$}", http.RedirectHandler("/docs", http.StatusFound))
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // a prober that is gone asks again
	})
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := p.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // a prober that is gone asks again
	})
	for path, handler := range p.cfg.Outside {
		m.Handle(path, handler)
	}
	if p.cfg.HSTS > 0 {
		return strict(m, p.cfg.HSTS)
	}
	return m
}

// strict tells browsers never to come back without TLS.
func strict(next http.Handler, insist time.Duration) http.Handler {
	value := fmt.Sprintf("max-age=%d", int(insist.Seconds()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", value)
		next.ServeHTTP(w, r)
	})
}

// readyWithin bounds the checks of Ready.
const readyWithin = 2 * time.Second

// Ready says, in words for anyone, why requests cannot be served: the database or the bus is away, or the control plane
// is stopping.
func (p *ControlPlane) Ready(ctx context.Context) error {
	if p.stopping.Load() {
		return errors.New("stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := errors.Join(p.db.Ping(ctx), p.bus.Ping(ctx)); err != nil {
		p.cfg.Logger.Warn("controlplane.not_ready", "error", err.Error())
		return errors.New("the database or the bus does not answer")
	}
	return nil
}

// URL is how the outside reaches the REST API; where that listens on every address, how this machine does.
func (p *ControlPlane) URL() string {
	if p.cfg.PublicURL != "" {
		return p.cfg.PublicURL
	}
	scheme, usual := "http", uint16(80)
	if p.cfg.TLS != nil {
		scheme, usual = "https", 443
	}
	at := p.Addr()
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	switch {
	case p.cfg.Host == "":
		return scheme + "://" + at.String()
	case at.Port() == usual:
		return scheme + "://" + p.cfg.Host
	}
	return scheme + "://" + net.JoinHostPort(p.cfg.Host, strconv.Itoa(int(at.Port())))
}

// PublicURL is how the outside reaches the REST API, where Config says so; else "".
func (p *ControlPlane) PublicURL() string { return p.cfg.PublicURL }

// Addr is where the REST API listens.
func (p *ControlPlane) Addr() netip.AddrPort {
	at := p.http.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// EdgesAddr is where edges dial, nil for nowhere.
func (p *ControlPlane) EdgesAddr() net.Addr {
	if p.forEdge == nil {
		return nil
	}
	return p.forEdge.Addr()
}

// Control is the seam for an edge in this process. It answers before Run and until the end of Close.
func (p *ControlPlane) Control() control.Control { return p.edges }

// AttachEdge makes an edge of this process reachable for commands until detach is called.
func (p *ControlPlane) AttachEdge(id webhooks.EdgeID, e control.Edge) (detach func()) {
	return p.edges.Attach(id, control.NewOnce(e))
}

// CreateKey makes an API key with every permission in the account of this name. Its text is stored nowhere.
func (p *ControlPlane) CreateKey(ctx context.Context, accountName, keyName string) (text string, err error) {
	return createKey(ctx, p.accounts, accountName, keyName)
}

// CreateEdgeToken makes a token that edges present. Its text is stored nowhere.
func (p *ControlPlane) CreateEdgeToken(ctx context.Context, name string) (text string, err error) {
	return p.accounts.CreateEdgeToken(ctx, name)
}

// NewKey is CreateKey, or with edge CreateEdgeToken, on a database alone: a control plane may be serving on it.
func NewKey(ctx context.Context, database, accountName, name string, edge bool) (text string, err error) {
	return onDatabase(ctx, database, func(accounts *account.Service) (string, error) {
		if edge {
			return accounts.CreateEdgeToken(ctx, name)
		}
		return createKey(ctx, accounts, accountName, name)
	})
}

// NewPlatformKey makes an operator's key, which makes accounts and sets their limits, on a database alone. Its text is
// stored nowhere.
func NewPlatformKey(ctx context.Context, database, name string) (text string, err error) {
	return onDatabase(ctx, database, func(accounts *account.Service) (string, error) { return accounts.CreatePlatformKey(ctx, name) })
}

func onDatabase(ctx context.Context, database string, fn func(*account.Service) (string, error)) (string, error) {
	d, err := db.Open(ctx, database)
	if err != nil {
		return "", err
	}
	text, err := fn(&account.Service{DB: d})
	return text, errors.Join(err, d.Close())
}

func createKey(ctx context.Context, accounts *account.Service, accountName, keyName string) (string, error) {
	a, found, err := accounts.Named(ctx, accountName)
	if err != nil {
		return "", err
	}
	if !found {
		return "", fmt.Errorf("there is no account %q; start the control plane once to make it", accountName)
	}
	return accounts.CreateKey(ctx, webhooks.AccountID(a.ID), keyName, "*")
}

// How long requests in progress may go on when the control plane stops.
const (
	stopWithin      = 10 * time.Second
	stopEdgesWithin = 3 * time.Second
)

// Run serves until ctx ends, lets the requests in progress end, and closes everything. It is called once.
func (p *ControlPlane) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	fail := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("%s: %w", what, err))
		}
	}
	// Streams of commands last for ever; they end with this context, before their server waits for them.
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	api, forEdge := p.apiServer(), p.edgeServer(streams)
	parts.Go(func() { fail("HTTP", serve(api, p.http)) })
	if p.forEdge != nil {
		parts.Go(func() { fail("edges' HTTP", serve(forEdge, p.forEdge)) })
	}
	workers, endWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer endWorkers()
	parts.Go(func() { fail("edges", p.edges.Run(workers)) })
	for _, w := range p.workers {
		parts.Go(func() { fail(w.name, w.run(workers)) })
	}
	parts.Go(func() { p.every(workers, time.Minute, "registrations.expire", p.credentials.Expire) })
	parts.Go(func() {
		p.every(workers, time.Hour, "idempotency.purge", func(ctx context.Context) error { return rest.Purge(ctx, p.db) })
	})
	p.cfg.Logger.Info("controlplane.started", "http", p.http.Addr().String(), "url", p.URL())

	<-ctx.Done()
	p.stopping.Store(true)
	for _, end := range p.onStop {
		end()
	}
	err := shutdown(api, stopWithin)
	endStreams()
	err = errors.Join(err, shutdown(forEdge, stopEdgesWithin))
	endWorkers()
	parts.Wait()
	err = errors.Join(err, p.close())
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		err = errors.Join(cause, err)
	}
	return err
}

// every runs a task once and then at an interval, until ctx ends. A task that fails is logged, and tried again then.
func (p *ControlPlane) every(ctx context.Context, interval time.Duration, name string, task func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := task(ctx); err != nil && ctx.Err() == nil {
			p.cfg.Logger.Error(name, "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Time-outs of the servers. Bodies are bounded by rest, in size and time.
const (
	headerWithin = 10 * time.Second
	idleFor      = 2 * time.Minute
	maxHeader    = 64 << 10
)

func (p *ControlPlane) apiServer() *http.Server {
	return &http.Server{
		Handler: p.handler, TLSConfig: p.cfg.TLS, ReadHeaderTimeout: headerWithin, IdleTimeout: idleFor, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

func (p *ControlPlane) edgeServer(streams context.Context) *http.Server {
	return &http.Server{
		Handler: &control.Handler{
			Control: p.edges, Authorize: p.authorizeEdge, Attach: p.edges.Attach, Log: p.cfg.Logger,
		},
		Protocols: control.Protocols(), TLSConfig: p.cfg.EdgesTLS,
		ReadHeaderTimeout: headerWithin, IdleTimeout: idleFor, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return streams },
		ErrorLog:    slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// serve runs a server until it is shut down.
func serve(s *http.Server, on net.Listener) error {
	var err error
	if s.TLSConfig != nil {
		err = s.ServeTLS(on, "", "")
	} else {
		err = s.Serve(on)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdown lets requests in progress end, and cuts off those that take longer than the limit.
func shutdown(s *http.Server, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests still in progress: %w", err), s.Close())
	}
	return nil
}

// Close gives everything back. It can be called twice, and need not be after Run.
func (p *ControlPlane) Close() error { return p.close() }

func (p *ControlPlane) closeAll() error {
	var err error
	for _, l := range []net.Listener{p.http, p.forEdge} {
		if l == nil {
			continue
		}
		if e := l.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	if p.blobs != nil {
		err = errors.Join(err, p.blobs.Close())
	}
	if p.bus != nil {
		err = errors.Join(err, p.bus.Close())
	}
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	return err
}
