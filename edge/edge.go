// Package edge puts the parts of one edge together: listeners, media engine, prompts, webhook client and calls. It
// has no behaviour of its own beyond their order at start and end.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Config is an edge. Every field without a remark is needed.
type Config struct {
	EdgeID  webhooks.EdgeID
	Control control.Control
	Logger  *slog.Logger

	SIP           netip.AddrPort // UDP and TCP are both served here; port 0 takes a free one
	RTPMin        int            // RTP ports, both included
	RTPMax        int
	PublicIP      netip.Addr     // for peers outside private ranges; the zero value: the address of the route to the peer
	AllowNetworks []netip.Prefix // that accounts' URLs and addresses may lead to although they are not public
	DataDir       string         // spooled recordings and events
	PublicURL     string         // of the REST API, for links in requests; may be empty
	SpeechURL     string         // an HTTP endpoint that speaks; "" uses espeak-ng where it is installed
	Version       string
	Observe       func(webhooks.Event) // may be nil; see session.Config
	Observer      session.Observer     // for metrics; the zero value tells nobody
	Tracer        trace.Tracer         // may be nil; see session.Config
	Blobs         *http.Client         // for the control plane's storage; nil: one that trusts what the system trusts
	RTPTimeout    time.Duration        // 0: 30 s
	MaxCalls      int                  // 0: 10,000
	Digest        []string             // algorithms phones are challenged for; nil: SHA-256 before MD5
	MaxLateness   time.Duration        // of the media clock before new calls are refused; 0: see media.Config
}

// Edge is a running edge.
type Edge struct {
	calls   *session.Calls
	sip     *sip.Server
	media   *media.Engine
	guard   *guard.Client
	prompts *prompt.Store
	addr    netip.AddrPort
	log     *slog.Logger
}

// New opens the listeners and returns an edge that Run serves.
func New(cfg Config) (*Edge, error) {
	e := &Edge{log: cfg.Logger}
	var err error
	e.media, err = media.New(media.Config{PortMin: cfg.RTPMin, PortMax: cfg.RTPMax, RealTime: true, MaxLateness: cfg.MaxLateness, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	if cfg.Blobs == nil {
		cfg.Blobs = &http.Client{Timeout: time.Minute}
	}
	e.guard = guard.New(guard.Config{AllowNetworks: cfg.AllowNetworks})
	e.prompts = prompt.New(prompt.Config{
		Guard: e.guard, Media: cfg.Control.Media, Blobs: cfg.Blobs,
		Speech: providers(cfg.SpeechURL, cfg.Logger), Logger: cfg.Logger,
	})
	source := addresses{public: cfg.PublicIP, bound: cfg.SIP.Addr()}
	e.calls, err = session.New(session.Config{
		EdgeID: cfg.EdgeID, BootID: webhooks.NewID("boot"), Control: cfg.Control, Media: e.media, Prompts: e.prompts,
		Webhook: webhooks.NewClient(webhooks.ClientConfig{Guard: e.guard}), Guard: e.guard, Logger: cfg.Logger,
		Invite:    func(ctx context.Context, c sip.InviteConfig) (*sip.Dialog, error) { return e.sip.Invite(ctx, c) },
		MediaAddr: source.toward, SpoolDir: filepath.Join(cfg.DataDir, "spool"), PublicURL: cfg.PublicURL,
		Observe: cfg.Observe, MaxCalls: cfg.MaxCalls, Digest: cfg.Digest, RTPTimeout: cfg.RTPTimeout, SIP: e.Addr,
		Observer: cfg.Observer, Tracer: cfg.Tracer, Blobs: cfg.Blobs,
	})
	if err != nil {
		return nil, err
	}
	listeners, err := listen(cfg.SIP)
	if err != nil {
		return nil, err
	}
	e.addr = listeners[0].PacketConn.LocalAddr().(*net.UDPAddr).AddrPort()
	e.sip, err = sip.New(sip.Config{
		Listen: listeners, UserAgent: "Hookswitch/" + cfg.Version, Logger: cfg.Logger, Handler: e.calls.Handler(), Trace: e.calls.Trace,
		Contact: func(peer netip.Addr) netip.AddrPort { return netip.AddrPortFrom(source.toward(peer), e.addr.Port()) },
	})
	return e, err
}

// Addr is where SIP is served.
func (e *Edge) Addr() netip.AddrPort { return e.addr }

// Calls is what the control plane sends commands to.
func (e *Edge) Calls() *session.Calls { return e.calls }

// SIP is the server below the calls, for metrics.
func (e *Edge) SIP() *sip.Server { return e.sip }

// Media is the engine below the calls, for metrics.
func (e *Edge) Media() *media.Engine { return e.media }

// Run serves until ctx ends; call Drain before for an end that cuts nobody off.
func (e *Edge) Run(ctx context.Context) error {
	defer e.guard.Close()
	defer e.prompts.Close()
	below, stop := context.WithCancel(context.WithoutCancel(ctx)) // SIP and media outlive the calls that end over them
	defer stop()
	var parts sync.WaitGroup
	errs := make(chan error, 2)
	parts.Go(func() { errs <- e.media.Run(below) })
	parts.Go(func() { errs <- e.sip.Run(below) })
	err := e.calls.Run(ctx)
	stop()
	parts.Wait()
	return errors.Join(err, <-errs, <-errs)
}

// Drain refuses new calls and returns when the last has ended, or with ctx.
func (e *Edge) Drain(ctx context.Context) error { return e.calls.Drain(ctx) }

// receiveBuffer is what a SIP socket may queue: a burst of a few thousand messages.
const receiveBuffer = 4 << 20

// listen opens UDP and TCP on one address; for port 0 both get the same free port.
func listen(addr netip.AddrPort) ([]sip.Listener, error) {
	const tries = 20
	var last error
	for range tries {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return nil, fmt.Errorf("SIP on %s: %w", addr, err)
		}
		if err := udp.SetReadBuffer(receiveBuffer); err != nil {
			return nil, errors.Join(err, udp.Close())
		}
		at := udp.LocalAddr().(*net.UDPAddr).AddrPort()
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr.Addr(), at.Port())))
		if err == nil {
			return []sip.Listener{{Network: "udp", PacketConn: udp}, {Network: "tcp", Listener: tcp}}, nil
		}
		last = errors.Join(err, udp.Close())
		if addr.Port() != 0 {
			break
		}
	}
	return nil, fmt.Errorf("SIP on %s: %w", addr, last)
}

// addresses picks what to put into SDP, Contact and Via for a peer.
type addresses struct {
	public netip.Addr
	bound  netip.Addr
}

func (a addresses) toward(peer netip.Addr) netip.Addr {
	peer = peer.Unmap()
	if a.public.IsValid() && !peer.IsPrivate() && !peer.IsLoopback() && !peer.IsLinkLocalUnicast() {
		return a.public
	}
	if a.bound.IsValid() && !a.bound.IsUnspecified() {
		return a.bound
	}
	// Connecting a UDP socket sends nothing; the kernel only looks up the route.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, 9)))
	if err != nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// providers are the speech engines: the operator's endpoint, else espeak-ng where it is installed.
func providers(url string, log *slog.Logger) speech.Providers {
	if url != "" {
		return speech.Providers{Default: "http", ByName: map[string]speech.Provider{"http": speech.HTTP{URL: url, Client: &http.Client{Timeout: 20 * time.Second}}}}
	}
	if espeak, ok := speech.FindEspeak(); ok {
		return speech.Providers{Default: "espeak-ng", ByName: map[string]speech.Provider{"espeak-ng": espeak}}
	}
	log.Warn("speech.none", "hint", "install espeak-ng, or set --speech-url")
	return speech.Providers{}
}
