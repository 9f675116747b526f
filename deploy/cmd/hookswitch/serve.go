package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// giveMediaItsOwnP raises GOMAXPROCS by the number of media threads, whose Ps nobody else gets, and by a few more: a
// media thread whose P was taken while it slept finds an idle one even when disk and database hold the others in system
// calls (see package media). With 1,000 recorded calls on two cores five more, instead of one, took the 99th percentile
// of jitter from 1.9 to 1.2 ms.
func giveMediaItsOwnP() {
	const idle = 5
	cores := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(cores + max(1, cores-1) + idle)
}

// edgeConfig makes an edge's configuration of its settings.
func edgeConfig(c common, s edgeSettings, id webhooks.EdgeID, ctl control.Control, log *slog.Logger) (edge.Config, error) {
	sip, err := netip.ParseAddrPort(s.SIP)
	if err != nil {
		return edge.Config{}, fmt.Errorf("--sip must be ADDRESS:PORT, is %q", s.SIP)
	}
	low, high, err := portRange(s.RTP)
	if err != nil {
		return edge.Config{}, err
	}
	networks, err := prefixes(c.AllowNetwork)
	if err != nil {
		return edge.Config{}, err
	}
	algorithms, err := digestAlgorithms(s.Digest)
	if err != nil {
		return edge.Config{}, err
	}
	var public netip.Addr
	if s.PublicIP != "" {
		if public, err = netip.ParseAddr(s.PublicIP); err != nil {
			return edge.Config{}, fmt.Errorf("--public-ip must be an IP address, is %q", s.PublicIP)
		}
	}
	return edge.Config{
		EdgeID: id, Control: ctl, Logger: log, SIP: sip, RTPMin: low, RTPMax: high, PublicIP: public,
		AllowNetworks: networks, DataDir: c.Data, SpeechURL: s.SpeechURL, Version: version, MaxCalls: s.MaxCalls, MaxLateness: s.MaxLateness, Digest: algorithms,
	}, nil
}

// serveEdge runs an edge until ctx ends, lets its calls end within drain (0: for as long as they take), and returns
// when the last of them is gone.
func serveEdge(ctx context.Context, e *edge.Edge, drain time.Duration, log *slog.Logger) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- e.Run(running) }()
	select {
	case err := <-done:
		return errors.Join(errors.New("the edge has stopped"), err)
	case <-ctx.Done():
	}
	limit := context.WithoutCancel(ctx)
	if drain > 0 {
		var cut context.CancelFunc
		limit, cut = context.WithTimeout(limit, drain)
		defer cut()
	}
	log.Info("edge.draining", "calls", e.Calls().Live(), "limit", drain.String())
	if err := e.Drain(limit); err != nil {
		log.Warn("edge.drained", "calls_cut", e.Calls().Live())
	}
	stop()
	return <-done
}

// edgeID is this edge's name, kept in its data folder: the control plane knows by it which calls were carried here
// before a restart.
func edgeID(dir string) (webhooks.EdgeID, error) {
	path := filepath.Join(dir, "edge-id")
	if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
		return webhooks.EdgeID(text), nil
	}
	id := webhooks.NewID("edge")
	return webhooks.EdgeID(id), os.WriteFile(path, []byte(id), 0o600)
}

// runEdge is an edge apart from its control plane.
func runEdge(ctx context.Context, c cli) error {
	var s edgeProcess
	if err := load(&s, c); err != nil {
		return err
	}
	if s.Control == "" || s.Token == "" {
		return errors.New("--control and --token are needed; hookswitch key create --edge makes a token")
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return err
	}
	id, err := edgeID(s.Data)
	if err != nil {
		return err
	}
	o, err := operate(ctx, c, "edge", string(id), s.common, s.operatorSettings)
	if err != nil {
		return err
	}
	defer o.close()
	log := o.log
	giveMediaItsOwnP()
	raisePriority(log)
	client, err := control.NewClient(control.ClientConfig{URL: s.Control, Token: s.Token, TLS: o.clientTLS(), Log: log})
	if err != nil {
		return err
	}
	defer client.Close()
	cfg, err := edgeConfig(s.common, s.edgeSettings, id, client, log)
	if err != nil {
		return err
	}
	cfg.Observer, cfg.Tracer, cfg.Blobs = o.metrics.Calls(causes()), o.tracing.Tracer(), o.storage(nil)
	e, err := edge.New(cfg)
	if err != nil {
		return err
	}
	o.watchEdge(e, s.MaxCalls)
	o.serve(func(context.Context) error { return e.Calls().Ready() }, nil)
	commands, stop := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := client.Serve(commands, id, e.Calls()); err != nil && commands.Err() == nil {
			log.Error("edge.commands", "error", err.Error())
		}
	})
	log.Info("edge.started", "edge_id", id, "sip", e.Addr().String(), "control", s.Control)
	err = serveEdge(ctx, e, s.Drain, log)
	stop()
	parts.Wait()
	return err
}

// isLoopback reports whether an address only this machine reaches.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}
