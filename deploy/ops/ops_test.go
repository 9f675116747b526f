package ops_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/deploy/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask makes one request on a connection of its own.
func ask(t *testing.T, method, url string, header http.Header, body string) (status int, got http.Header, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	r.Close = true
	response, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(read)
}

// operator is an operator's listener that serves until the test ends.
func operator(t *testing.T, cfg ops.HandlerConfig) (url string) {
	t.Helper()
	server, err := ops.Listen(t.Context(), "127.0.0.1:0", cfg.Logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, ops.Handler(cfg)) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, server.Close()); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + server.Addr().String()
}

func TestTheOperatorsListener(t *testing.T) {
	var lines bytes.Buffer
	log, level, err := ops.NewLogger(&lines, "json", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	var unready error
	build := ops.BuildOf("1.2.3", "edge")
	url := operator(t, ops.HandlerConfig{
		Build: build, Ready: func(context.Context) error { return unready }, Metrics: ops.NewMetrics(build).Handler(), Level: level, Logger: log,
	})
	expect := func(method, path string, header http.Header, body string, status int, says string) {
		t.Helper()
		got, _, text := ask(t, method, url+path, header, body)
		if got != status || !strings.Contains(text, says) {
			t.Errorf("%s %s: %d %.200s; want %d with %q", method, path, got, text, status, says)
		}
	}
	expect("GET", "/healthz", nil, "", 200, "ok")
	expect("GET", "/readyz", nil, "", 200, "ok")
	unready = errors.New("the edge is draining")
	expect("GET", "/readyz", nil, "", 503, "draining")
	expect("GET", "/healthz", nil, "", 200, "ok") // alive all the same
	expect("GET", "/metrics", nil, "", 200, `hookswitch_build_info{goversion=`)
	expect("GET", "/metrics", http.Header{"Accept": {"application/openmetrics-text"}}, "", 200, "# EOF")
	expect("GET", "/build", nil, "", 200, `"version":"1.2.3"`)
	expect("GET", "/debug/pprof/", nil, "", 200, "heap")
	expect("GET", "/debug/pprof/goroutine?debug=1", nil, "", 200, "goroutine profile")
	expect("GET", "/", nil, "", 404, "")
	expect("POST", "/metrics", nil, "", 405, "")

	log.Debug("before")
	expect("GET", "/log-level", nil, "", 200, "info")
	expect("PUT", "/log-level", nil, "debug\n", 200, "debug")
	log.Debug("between")
	expect("PUT", "/log-level", nil, "noise", 400, "must be debug, info, warn or error")
	expect("PUT", "/log-level", nil, strings.Repeat("x", 1000), 400, "one word")
	expect("PUT", "/log-level", nil, "error", 200, "error")
	log.Info("after")
	// A page of another origin, in the operator's browser.
	expect("PUT", "/log-level", http.Header{"Sec-Fetch-Site": {"cross-site"}}, "debug", 403, "")
	expect("GET", "/metrics", http.Header{"Host": {"rebound.example"}}, "", 403, "localhost")
	expect("GET", "/healthz", http.Header{"Host": {"localhost:9090"}}, "", 200, "ok")
	expect("GET", "/log-level", nil, "", 200, "error")
	logged := lines.String()
	if strings.Contains(logged, "before") || !strings.Contains(logged, "between") || strings.Contains(logged, "after") || strings.Count(logged, "log.level_changed") != 2 {
		t.Errorf("the log says\n%s", logged)
	}
}

func TestMistakesInTheLogsSettings(t *testing.T) {
	if _, _, err := ops.NewLogger(io.Discard, "verse", slog.LevelInfo); err == nil || !strings.Contains(err.Error(), "text or json") {
		t.Errorf("format verse: %v", err)
	}
	for name, want := range map[string]slog.Level{"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ops.ParseLevel(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ops.ParseLevel("info+2"); err == nil {
		t.Error("a level between levels was taken")
	}
}

func TestAListenerThatIsTakenIsAnError(t *testing.T) {
	server, err := ops.Listen(t.Context(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := ops.Listen(t.Context(), server.Addr().String(), slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("two on %s: %v", server.Addr(), second.Close())
	}
	if err := errors.Join(server.Close(), server.Close()); err != nil {
		t.Errorf("Close, twice: %v", err)
	}
}

func TestMetricsBesideTheAPIWantAToken(t *testing.T) {
	server := httptest.NewServer(ops.RequireToken("tok_right", ops.NewMetrics(ops.BuildOf("dev", "up")).Handler()))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		authorization string
		status        int
	}{
		{"", 401}, {"Bearer", 401}, {"Bearer tok_wrong", 401}, {"Basic tok_right", 401}, {"tok_right", 401}, {"Bearer tok_right", 200}, {"bearer  tok_right", 200},
	} {
		status, header, text := ask(t, http.MethodGet, server.URL, http.Header{"Authorization": {c.authorization}}, "")
		if status != c.status || (status == 200) != strings.Contains(text, "hookswitch_build_info") || (status == 401) != (header.Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%q: %d %.80s", c.authorization, status, text)
		}
	}
}
