package calltest

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Edge is another edge on the network of a bench, with the same control plane and the same application. Its events and
// messages are in the ladder of the bench.
type Edge struct {
	ID    webhooks.EdgeID
	Addr  netip.AddrPort // where it listens for SIP
	Calls *session.Calls

	b      *Bench
	engine *media.Engine
	server *sip.Server
	stop   func() // ends Calls
}

// AnotherEdge starts a second edge. It ends with the bench.
func (b *Bench) AnotherEdge() *Edge {
	b.t.Helper()
	e := &Edge{b: b, ID: "edge_00000000000000000000000002", Addr: netip.MustParseAddrPort("192.0.2.2:5060")}
	logger := slog.New(slog.NewTextHandler(logWriter{b}, &slog.HandlerOptions{Level: slog.LevelDebug})).With("edge_id", e.ID)
	network := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	web := guard.New(guard.Config{AllowNetworks: network, Transport: &asked{b: b, next: b.App.Transport()}})
	prompts := prompt.New(prompt.Config{Guard: web, Media: b.Plane.Media, Logger: logger})
	e.engine = must(media.New(media.Config{
		Shards: 1, PortMin: 20000, PortMax: 20999, Logger: logger,
		Open: func(port int) (media.PacketPort, error) {
			return b.wire.openMedia(netip.AddrPortFrom(e.Addr.Addr(), uint16(port)))
		},
	}))(b.t)
	e.Calls = must(session.New(session.Config{
		EdgeID: e.ID, BootID: "boot-2", Control: b.Plane, Media: e.engine, Prompts: prompts,
		Webhook: webhooks.NewClient(webhooks.ClientConfig{Guard: web}), Guard: web, Logger: logger,
		Invite:    func(ctx context.Context, c sip.InviteConfig) (*sip.Dialog, error) { return e.server.Invite(ctx, c) },
		MediaAddr: func(netip.Addr) netip.Addr { return e.Addr.Addr() },
		SpoolDir:  b.t.TempDir(),
		SIP:       func() netip.AddrPort { return e.Addr },
		Blobs:     &http.Client{Transport: b.Plane},
		Observe:   b.observe,
	}))(b.t)
	e.server = must(sip.New(sip.Config{
		Listen:  []sip.Listener{{Network: "udp", PacketConn: b.wire.listen(e.Addr)}},
		Logger:  logger,
		Handler: e.Calls.Handler(),
		Trace:   func(t sip.TraceEvent) { b.traced(t); e.Calls.Trace(t) },
	}))(b.t)
	b.mu.Lock()
	b.others = append(b.others, e)
	b.mu.Unlock()
	e.stop = b.running(func(ctx context.Context) { b.noError(e.Calls.Run(ctx)) })
	b.stop = append([]func(){
		e.stop,
		b.running(func(ctx context.Context) { b.noError(e.server.Run(ctx)) }),
		prompts.Close,
	}, b.stop...)
	return e
}

// StopCalls ends the edge's calls as the end of its process does, and returns when they are over.
func (e *Edge) StopCalls() { e.stop() }

// CutOff loses all that is sent to an edge, or by it: as when its machine is gone.
func (b *Bench) CutOff(at netip.Addr) {
	b.Impair(func(d Datagram) []time.Duration {
		if d.From.Addr() == at || d.To.Addr() == at {
			return nil
		}
		return onTime
	})
}

// edges is the other edges of the bench.
func (b *Bench) edges() []*Edge {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.others
}

// isEdge reports whether an edge listens at an address.
func (b *Bench) isEdge(at netip.AddrPort) bool {
	for _, e := range b.edges() {
		if e.Addr == at {
			return true
		}
	}
	return at == edgeAddr
}

// At has the phone speak with another edge from now on.
func (p *Phone) At(e *Edge) *Phone {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.edge = e.Addr
	return p
}
