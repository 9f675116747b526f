package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hookswitch/hookswitch/console"
	"github.com/hookswitch/hookswitch/controlplane"
	"github.com/hookswitch/hookswitch/deploy/ops"
	"github.com/hookswitch/hookswitch/edge"
	"github.com/hookswitch/hookswitch/webhooks"
)

// defaultOps is where the operator's listener is when nobody says otherwise.
const defaultOps = "127.0.0.1:9090"

// operation is what lies around the halves of a process: its log, metrics, traces, certificates and the operator's
// listener.
type operation struct {
	log     *slog.Logger
	level   *slog.LevelVar
	build   ops.Build
	metrics *ops.Metrics
	tracing *ops.Tracing
	roots   *x509.CertPool // to trust; nil: the system's
	server  *ops.Server    // the operator's; nil for none

	https    *ops.HTTPS  // nil for none
	redirect *ops.Server // nil for none
	named    bool        // the name in the API's URL is that of our own certificate

	parts sync.WaitGroup
	stop  context.CancelFunc // of parts; nil before serve
}

// operate opens the log, the traces and the operator's listener of a process. Close it; serve starts the listener.
func operate(ctx context.Context, c cli, role, instance string, s common, set operatorSettings) (*operation, error) {
	o := &operation{build: ops.BuildOf(version, role)}
	level, err := ops.ParseLevel(s.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("--log-level %w", err)
	}
	if o.log, o.level, err = ops.NewLogger(c.err, s.LogFormat, level); err != nil {
		return nil, fmt.Errorf("--log-format %w", err)
	}
	if set.TrustCA != "" {
		if o.roots, err = readRoots(set.TrustCA); err != nil {
			return nil, fmt.Errorf("--trust-ca: %w", err)
		}
	}
	o.tracing, err = ops.OpenTracing(ctx, ops.TracingConfig{
		Endpoint: set.OTLPEndpoint, Environ: c.environ, Roots: o.roots, Build: o.build, Instance: instance, Logger: o.log,
	})
	if err != nil {
		return nil, fmt.Errorf("--otlp-endpoint %w", err)
	}
	o.metrics = ops.NewMetrics(o.build)
	if err := o.listen(ctx, set.Ops); err != nil {
		o.close()
		return nil, fmt.Errorf("--ops %w", err)
	}
	return o, nil
}

// listen opens the operator's listener. Why the usual address may be another's: two processes on one machine are how people
// try the halves apart, and a call platform that does not start because of its metrics would be a poor one. Who sets an
// address gets that one or an error.
func (o *operation) listen(ctx context.Context, address string) error {
	if address == "off" || address == "" {
		return nil
	}
	var err error
	o.server, err = ops.Listen(ctx, address, o.log)
	if errors.Is(err, syscall.EADDRINUSE) && address == defaultOps {
		o.server, err = ops.Listen(ctx, "127.0.0.1:0", o.log)
		if err == nil {
			o.log.Warn("ops.elsewhere", "wanted", address, "address", o.server.Addr().String())
		}
	}
	if err != nil {
		return err
	}
	if !o.server.Addr().Addr().IsLoopback() {
		o.log.Warn("ops.open", "address", o.server.Addr().String(), "hint", "whoever reaches it reads metrics and memory profiles: keep it in a private network")
	}
	return nil
}

// secure gives a control plane what it serves beside the REST API, its certificate, and the listener that leads to it.
func (o *operation) secure(ctx context.Context, cfg *controlplane.Config, data string, s httpsSettings) error {
	cfg.Outside = console.Handlers()
	if s.MetricsToken != "" {
		cfg.Outside["GET /metrics"] = ops.RequireToken(s.MetricsToken, o.metrics.Handler())
	}
	cfg.ObserveAPI, cfg.ObserveDelivery, cfg.Tracer = o.metrics.API(), o.metrics.Deliveries(), o.tracing.Tracer()
	if s.HTTPS == ops.HTTPSOff || s.HTTPS == "" {
		if s.HTTPRedirect != "" {
			return errors.New("--http-redirect leads to https: set --https too")
		}
		return nil
	}
	folder, err := filepath.Abs(filepath.Join(data, "tls"))
	if err != nil {
		return err
	}
	o.https, err = ops.OpenHTTPS(ops.HTTPSConfig{
		Mode: s.HTTPS, Folder: folder, Logger: o.log, Names: publicNames(cfg.PublicURL), Cert: s.HTTPSCert, Key: s.HTTPSKey,
		Domains: s.ACMEDomain, Email: s.ACMEEmail, Directory: s.ACMEDirectory, Roots: o.roots,
	})
	if err != nil {
		return fmt.Errorf("--https %s: %w", s.HTTPS, err)
	}
	cfg.TLS, cfg.HSTS, cfg.Host = o.https.TLS(), o.https.Strict(), o.https.Host()
	o.named = cfg.PublicURL == "" && cfg.Host != ""
	if authority, _ := o.https.Authority(); authority != nil {
		cfg.Outside["GET /ca.crt"] = o.https.AuthorityHandler()
	}
	o.metrics.Expiry(o.https.NotAfter)
	if s.HTTPRedirect != "" {
		if o.redirect, err = ops.Listen(ctx, s.HTTPRedirect, o.log); err != nil {
			return fmt.Errorf("--http-redirect %w", err)
		}
	}
	return nil
}

// publicNames is the host of the public URL, which a certificate of our own must name.
func publicNames(public string) []string {
	u, err := url.Parse(public)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return []string{u.Hostname()}
}

// watchPlane adds a control plane to the metrics.
func (o *operation) watchPlane(plane *controlplane.ControlPlane) {
	o.metrics.Pools(plane.Pools)
	for _, g := range plane.Gauges() {
		o.metrics.Gauge(ops.Gauge(g), o.log)
	}
}

// watchEdge adds an edge to the metrics.
func (o *operation) watchEdge(e *edge.Edge, maxCalls int) {
	o.metrics.Edge(ops.Edge{Calls: e.Calls(), SIP: e.SIP(), Media: e.Media(), MaxCalls: maxCalls})
}

// causes are the words that a call can end with.
func causes() []string {
	var all []string
	for _, cause := range webhooks.Causes() {
		all = append(all, string(cause))
	}
	return all
}

// serve starts what runs beside the halves. Ready says why the process takes no work; plane is nil for an edge.
func (o *operation) serve(ready func(context.Context) error, plane *controlplane.ControlPlane) {
	ctx, stop := context.WithCancel(context.Background()) // until close: an operator watches to the end
	o.stop = stop
	run := func(name string, s *ops.Server, h http.Handler) {
		o.parts.Go(func() {
			if err := s.Run(ctx, h); err != nil {
				o.log.Error(name, "error", err.Error())
			}
		})
	}
	if o.server != nil {
		run("ops.failed", o.server, ops.Handler(ops.HandlerConfig{
			Build: o.build, Ready: ready, Metrics: o.metrics.Handler(), Level: o.level, Logger: o.log,
		}))
		o.log.Info("ops.started", "address", o.server.Addr().String())
	}
	if o.https == nil {
		return
	}
	if o.redirect != nil { // before the certificate is asked for: the authority may come by here
		base := plane.PublicURL()
		if o.named {
			base = plane.URL()
		}
		run("redirect.failed", o.redirect, o.https.Redirect(base, plane.Addr().Port()))
	}
	o.parts.Go(func() { o.https.Run(ctx) })
	o.parts.Go(func() { o.reloadOnHangup(ctx) })
}

// reloadOnHangup reads the certificate again on SIGHUP, as daemons do.
func (o *operation) reloadOnHangup(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			o.https.Reload()
		}
	}
}

// flushWithin is how long the last traces may take.
const flushWithin = 5 * time.Second

// close ends all of it and sends the last traces.
func (o *operation) close() {
	if o.stop != nil {
		o.stop()
	}
	o.parts.Wait()
	var err error
	for _, s := range []*ops.Server{o.server, o.redirect} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	if err = errors.Join(err, o.tracing.Close(ctx)); err != nil {
		o.log.Warn("ops.closed", "error", err.Error())
	}
}

// clientTLS is what clients of ours trust; nil takes the system's authorities.
func (o *operation) clientTLS() *tls.Config {
	if o.roots == nil {
		return nil
	}
	return &tls.Config{RootCAs: o.roots, MinVersion: tls.VersionTLS12}
}

// storage is the client with which an edge reads and writes the control plane's storage. With a control plane in the same
// process that is often the process itself, whose certificate may be of our own authority, and whose public name may lead
// to it from outside alone: so it is trusted, and dialled where it listens.
func (o *operation) storage(plane *controlplane.ControlPlane) *http.Client {
	const most = time.Minute
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = o.clientTLS()
	if o.https == nil || plane == nil {
		return &http.Client{Timeout: most, Transport: transport}
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: o.https.Roots(o.roots), MinVersion: tls.VersionTLS12}
	if u, err := url.Parse(plane.URL()); err == nil && o.named {
		own, usual := u.Host, transport.DialContext
		if u.Port() == "" {
			own = net.JoinHostPort(u.Hostname(), "443")
		}
		here := reachable(plane.Addr())
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == own {
				address = here
			}
			return usual(ctx, network, address)
		}
	}
	return &http.Client{Timeout: most, Transport: transport}
}

// authorityFile is where the certificate of our own authority is kept, "" where there is none.
func (o *operation) authorityFile(data string) string {
	if o.https == nil {
		return ""
	}
	if authority, _ := o.https.Authority(); authority == nil {
		return ""
	}
	path, err := filepath.Abs(filepath.Join(data, "tls", "ca.crt"))
	if err != nil {
		return ""
	}
	return path
}

// banner prints what an operator wants to know of it.
func (o *operation) banner(out io.Writer, apiURL string) {
	if o.server != nil {
		fmt.Fprintf(out, "  ops    http://%s/metrics   /healthz /readyz /log-level /debug/pprof/\n", o.server.Addr())
	}
	if o.https == nil {
		return
	}
	if o.redirect != nil {
		fmt.Fprintf(out, "  note   http://%s leads to https\n", o.redirect.Addr())
	}
	if authority, fingerprint := o.https.Authority(); authority != nil {
		fmt.Fprintf(out, "\n  The certificate is of an authority of this machine's own. Fetch %s/ca.crt, compare its SHA-256\n", apiURL)
		fmt.Fprintf(out, "  fingerprint, and add it to the trusted root authorities of the system or the browser, once:\n  %s\n", fingerprint)
	}
}
