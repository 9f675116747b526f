// Package ops owns what an operator sees and sets of a process: the operator's listener, metrics, traces, the level of
// the log, and the certificates of HTTPS. What is measured is told by the halves; which settings there are stands in
// deploy/cmd.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Build says which program runs.
type Build struct {
	Version   string    `json:"version"`
	Revision  string    `json:"revision,omitempty"` // of the repository
	Modified  bool      `json:"modified,omitempty"` // there were changes on top of it
	Go        string    `json:"go"`
	OS        string    `json:"os"`
	Arch      string    `json:"arch"`
	Role      string    `json:"role"` // up, edge or controlplane
	StartedAt time.Time `json:"started_at"`
}

// BuildOf reads what the compiler left in the binary.
func BuildOf(version, role string) Build {
	b := Build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Role: role, StartedAt: time.Now().UTC()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// HandlerConfig is what the operator's listener shows. Every field is needed.
type HandlerConfig struct {
	Build   Build
	Ready   func(ctx context.Context) error // why no work can be taken; nil when it can
	Metrics http.Handler
	Level   *slog.LevelVar // of the log, which may be changed
	Logger  *slog.Logger
}

// Handler serves
//
//	GET /healthz        the process runs
//	GET /readyz         it takes work; 503 with the reason otherwise
//	GET /metrics        Prometheus, or OpenMetrics where that is accepted
//	GET /build          what runs, as JSON
//	GET, PUT /log-level debug, info, warn or error; until the process ends
//	GET /debug/pprof/   profiles of the Go runtime (go tool pprof)
//
// There is no password: whoever reaches the listener may read all of it. Pages of other origins in a browser may not
// change anything.
func Handler(cfg HandlerConfig) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, "ok") })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := cfg.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		say(w, "ok")
	})
	m.Handle("GET /metrics", cfg.Metrics)
	m.HandleFunc("GET /build", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(cfg.Build) // a reader that is gone asks again
	})
	m.HandleFunc("GET /log-level", func(w http.ResponseWriter, _ *http.Request) { say(w, strings.ToLower(cfg.Level.Level().String())) })
	m.HandleFunc("PUT /log-level", cfg.setLevel)
	m.HandleFunc("GET /debug/pprof/", patiently(pprof.Index))
	m.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("GET /debug/pprof/profile", patiently(pprof.Profile))
	m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("GET /debug/pprof/trace", patiently(pprof.Trace))
	return sameMachine(http.NewCrossOriginProtection().Handler(m))
}

// patiently lets a request last for as long as it was asked to: the server's time-out for reading it would end it too.
func patiently(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		next(w, r)
	}
}

func say(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text+"\n") // a reader that is gone asks again
}

func (cfg HandlerConfig) setLevel(w http.ResponseWriter, r *http.Request) {
	const longest = 32
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longest))
	if err != nil {
		http.Error(w, "the body must be one word", http.StatusBadRequest)
		return
	}
	level, err := ParseLevel(strings.TrimSpace(string(body)))
	if err != nil {
		http.Error(w, "the level "+err.Error(), http.StatusBadRequest)
		return
	}
	before := cfg.Level.Level()
	cfg.Level.Set(level)
	// At a level that is always shown: who reads the log must know why lines begin or stop.
	cfg.Logger.Error("log.level_changed", "from", strings.ToLower(before.String()), "to", strings.ToLower(level.String()), "by", r.RemoteAddr)
	say(w, strings.ToLower(level.String()))
}

// Server is a small HTTP server beside those of the halves.
type Server struct {
	listener net.Listener
	log      *slog.Logger
}

// Listen opens a server's listener. Run serves; Close gives it back when Run is not called.
func Listen(ctx context.Context, address string, log *slog.Logger) (*Server, error) {
	var cfg net.ListenConfig
	l, err := cfg.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Server{listener: l, log: log}, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort {
	at := s.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Close gives the listener back. It can be called twice, and after Run.
func (s *Server) Close() error {
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Time-outs of the small servers.
const (
	headerWithin = 5 * time.Second
	bodyWithin   = 10 * time.Second
	idleFor      = time.Minute
	stopWithin   = 2 * time.Second
	maxHeader    = 16 << 10
)

// Run serves until ctx ends, and cuts off what is still being answered a moment later.
func (s *Server) Run(ctx context.Context, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerWithin, ReadTimeout: bodyWithin, IdleTimeout: idleFor, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(s.listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("listener %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // a profile of a minute is not worth waiting for
	}
	if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// sameMachine refuses requests over loopback whose Host is a name from outside: a page in a browser on this machine that
// has its own name resolve to 127.0.0.1 (DNS rebinding) would otherwise read what only this machine may.
func sameMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		host := hostOnly(r.Host)
		_, err := netip.ParseAddr(host)
		if ok && local.IP.IsLoopback() && err != nil && !strings.EqualFold(host, "localhost") {
			http.Error(w, "ask for localhost, or for the address", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
