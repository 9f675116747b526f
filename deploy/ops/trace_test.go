package ops_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hookswitch/hookswitch/deploy/ops"
)

// receiver is an OTLP receiver that keeps what it got.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex // guards what follows
	got  []*collector.ExportTraceServiceRequest
	path []string
	head []http.Header
}

func newReceiver(t *testing.T, status int) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body := io.Reader(q.Body)
		if q.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(q.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		text, err := io.ReadAll(body)
		request := &collector.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(text, request)
		}
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.got, r.path, r.head = append(r.got, request), append(r.path, q.URL.Path), append(r.head, q.Header)
		r.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func tracing(endpoint string, environ ...string) ops.TracingConfig {
	return ops.TracingConfig{
		Endpoint: endpoint, Environ: environ, Build: ops.BuildOf("1.2.3", "edge"), Instance: "edge_1", Logger: slog.New(slog.DiscardHandler),
	}
}

func TestSpansReachTheReceiver(t *testing.T) {
	r := newReceiver(t, http.StatusOK)
	for _, endpoint := range []string{r.URL, r.URL + "/", r.URL + "/elsewhere/v1/traces"} {
		tr, err := ops.OpenTracing(t.Context(), tracing(endpoint))
		if err != nil {
			t.Fatal(err)
		}
		_, span := tr.Tracer().Start(t.Context(), "call", trace.WithAttributes(attribute.String("call.id", "call_1")))
		span.End()
		if err := tr.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Join(r.path, " "); got != "/v1/traces /v1/traces /elsewhere/v1/traces" {
		t.Fatalf("posted to %s", got)
	}
	text := r.got[0].String()
	for _, part := range []string{"service.name", "hookswitch-edge", "service.version", "1.2.3", "service.instance.id", "edge_1", "call.id", "call_1"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in %s", part, text)
		}
	}
}

func TestWhenThereAreNoTraces(t *testing.T) {
	for name, cfg := range map[string]ops.TracingConfig{
		"nothing set":  tracing(""),
		"SDK disabled": tracing("http://127.0.0.1:1", "OTEL_SDK_DISABLED=TRUE"),
		"no exporter":  tracing("", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_TRACES_EXPORTER=none"),
	} {
		tr, err := ops.OpenTracing(t.Context(), cfg)
		if err != nil || tr != nil || tr.Tracer() != nil || tr.Close(t.Context()) != nil {
			t.Errorf("%s: %v, %v", name, tr, err)
		}
	}
	for _, endpoint := range []string{"127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "::"} {
		if _, err := ops.OpenTracing(t.Context(), tracing(endpoint)); err == nil || !strings.Contains(err.Error(), "must be a URL") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// OpenTelemetry's own variables hold: endpoint, headers, resource, sampler.
func TestTheVariablesOfOpenTelemetryHold(t *testing.T) {
	r := newReceiver(t, http.StatusOK)
	environ := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + r.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-tenant=acme", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
		"OTEL_SERVICE_NAME=telephony", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test",
	}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	tr, err := ops.OpenTracing(t.Context(), tracing("", environ...))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tr.Tracer().Start(t.Context(), "call")
	span.End()
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != 1 || r.head[0].Get("X-Tenant") != "acme" {
		t.Fatalf("%d requests, headers %v", len(r.got), r.head)
	}
	if text := r.got[0].String(); !strings.Contains(text, "telephony") || !strings.Contains(text, "deployment.environment") || strings.Contains(text, "hookswitch-edge") {
		t.Errorf("resource: %s", text)
	}
}

// A receiver that refuses is told of once, not with every batch, and holds nothing up.
func TestAReceiverThatRefusesIsLoggedOnce(t *testing.T) {
	r := newReceiver(t, http.StatusBadRequest)
	var lines bytes.Buffer
	cfg := tracing(r.URL)
	cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	tr, err := ops.OpenTracing(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 { // several batches
		_, span := tr.Tracer().Start(context.Background(), "call")
		span.End()
	}
	_ = tr.Close(t.Context()) // says so too
	if got := strings.Count(lines.String(), "traces.not_sent"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, lines.String())
	}
}
