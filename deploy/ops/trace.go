package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/session"
)

// TracingConfig says where traces go.
type TracingConfig struct {
	// Endpoint is the base URL of an OTLP receiver (http://host:4318), below which /v1/traces is posted to; one with a path
	// is posted to as it is. "" leaves it to OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.
	Endpoint string
	Environ  []string       // as of os.Environ, to see whether there is such a variable; the values are OpenTelemetry's to read
	Roots    *x509.CertPool // that a receiver's certificate may be of; nil: those of the system, or OpenTelemetry's variables
	Build    Build
	Instance string // this process among its like; "" for none
	Logger   *slog.Logger
}

// Tracing sends spans to an OTLP receiver in batches. Nil sends nothing: that is what no receiver gives.
type Tracing struct {
	provider *sdktrace.TracerProvider
}

// errNoTraceURL explains Endpoint.
var errNoTraceURL = errors.New("must be a URL such as http://127.0.0.1:4318")

// OpenTracing makes what sends spans, or nil where nothing says where to. The variables that OpenTelemetry defines for its
// SDK and its exporter hold too (headers, sampler, batches, resource); OTEL_SDK_DISABLED=true and
// OTEL_TRACES_EXPORTER=none switch it off. It does not connect yet. Close it.
func OpenTracing(ctx context.Context, cfg TracingConfig) (*Tracing, error) {
	if cfg.off() {
		return nil, nil
	}
	options := []otlptracehttp.Option{}
	if cfg.Roots != nil {
		options = append(options, otlptracehttp.WithTLSClientConfig(&tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}))
	}
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, errNoTraceURL
		}
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1/traces"
		}
		options = append(options, otlptracehttp.WithEndpointURL(u.String()))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("trace exporter: %w", err)
	}
	attributes := []attribute.KeyValue{attribute.String("service.name", "hookswitch-"+cfg.Build.Role), attribute.String("service.version", cfg.Build.Version)}
	if cfg.Instance != "" {
		attributes = append(attributes, attribute.String("service.instance.id", cfg.Instance))
	}
	// The environment comes last, and so wins.
	about, err := resource.New(ctx, resource.WithAttributes(attributes...), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("trace resource: %w", err), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(&traceErrors{log: cfg.Logger})
	return &Tracing{sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithIDGenerator(ids{}))}, nil
}

func (cfg TracingConfig) off() bool {
	variables := map[string]string{}
	for _, line := range cfg.Environ {
		name, value, _ := strings.Cut(line, "=")
		variables[name] = strings.TrimSpace(value)
	}
	switch {
	case strings.EqualFold(variables["OTEL_SDK_DISABLED"], "true"), strings.EqualFold(variables["OTEL_TRACES_EXPORTER"], "none"):
		return true
	}
	return cfg.Endpoint == "" && variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "" && variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == ""
}

// Tracer makes spans; nil, which all who take one understand, where none are wanted.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("github.com/hookswitch/hookswitch")
}

// Close sends what is left, as long as ctx allows.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// ids makes the ids of traces and spans at random, but for the trace of a call, which has the call's.
type ids struct{}

// NewIDs begins a trace.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := session.TraceID(ctx)
	for !ok || !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
		ok = true
	}
	return id, newSpanID()
}

// NewSpanID makes a further span of a trace.
func (ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// traceErrors logs what the exporter cannot do: once a minute, a receiver that is away would otherwise fill the log.
type traceErrors struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	told    time.Time
	skipped int
}

// Handle takes an error of OpenTelemetry.
func (t *traceErrors) Handle(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.told.IsZero() && time.Since(t.told) < time.Minute {
		t.skipped++
		return
	}
	t.log.Warn("traces.not_sent", "error", err.Error(), "skipped", t.skipped)
	t.told, t.skipped = time.Now(), 0
}
