package controlplane

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/controlplane/db"
)

// Gauge is something to be counted in the stores when an operator asks, as for metrics.
type Gauge struct {
	Name  string // snake_case, without a prefix
	Help  string
	Label string // "" for one value, which Read gives under ""
	// Read counts, by the label's value, of which there are few and whose set does not grow with use. It may take as long
	// as its context.
	Read func(ctx context.Context) (map[string]float64, error)
}

// Gauges are what can be counted. They may be read until Close.
func (p *ControlPlane) Gauges() []Gauge {
	own := []Gauge{
		{"outbox_messages", "Messages that wait in the outbox or are being worked on, by topic.", "topic", p.outbox(func(r outboxRow) float64 { return float64(r.Count) })},
		{"outbox_lag_seconds", "How long the message of a topic that should be next has been due.", "topic", p.outbox(func(r outboxRow) float64 {
			return max(0, time.Since(r.Oldest).Seconds())
		})},
		{"registrations_active", "Contacts of phones that are registered, by transport.", "transport", func(ctx context.Context) (map[string]float64, error) {
			return p.countBy(ctx, p.db.Read().NewSelect().TableExpr("registrations").ColumnExpr("transport AS label").Where("expires_at > ?", db.Now()), "udp", "tcp")
		}},
		{"jobs", "Jobs that wait or run, by status.", "status", func(ctx context.Context) (map[string]float64, error) {
			return p.countBy(ctx, p.db.Read().NewSelect().TableExpr("jobs").ColumnExpr("status AS label").Where("status IN ('queued', 'running')"), "queued", "running")
		}},
		{"jobs_lag_seconds", "How long the queued job that should run next has been due.", "", func(ctx context.Context) (map[string]float64, error) {
			return p.lag(ctx, p.db.Read().NewSelect().TableExpr("jobs").ColumnExpr("available_at").Where("status = 'queued'").OrderExpr("available_at"))
		}},
		{"webhook_deliveries_pending", "Deliveries of events that are still to be made, those that failed and will be tried again included.", "", func(ctx context.Context) (map[string]float64, error) {
			return p.countBy(ctx, p.db.Read().NewSelect().TableExpr("deliveries").ColumnExpr("'' AS label").Where("status = 'pending'"), "")
		}},
		{"webhook_deliveries_lag_seconds", "How long the delivery that should be tried next has been due.", "", func(ctx context.Context) (map[string]float64, error) {
			return p.lag(ctx, p.db.Read().NewSelect().TableExpr("deliveries").ColumnExpr("next_attempt_at").Where("status = 'pending'").OrderExpr("next_attempt_at"))
		}},
	}
	return append(own, p.gauges...)
}

// Pools are the states of the database's connection pools, by what they are for.
func (p *ControlPlane) Pools() map[string]sql.DBStats { return p.db.Pools() }

type outboxRow struct {
	Topic  string    `bun:"topic"`
	Count  int64     `bun:"count"`
	Oldest time.Time `bun:"oldest"`
}

// outbox reads one number of each topic.
func (p *ControlPlane) outbox(of func(outboxRow) float64) func(context.Context) (map[string]float64, error) {
	return func(ctx context.Context) (map[string]float64, error) {
		var rows []outboxRow
		err := p.db.Read().NewSelect().TableExpr("outbox").ColumnExpr("topic, count(*) AS count, min(available_at) AS oldest").
			GroupExpr("topic").Scan(ctx, &rows)
		if err != nil {
			return nil, db.Check(fmt.Errorf("count outbox: %w", err))
		}
		out := map[string]float64{}
		for _, r := range rows {
			out[r.Topic] = of(r)
		}
		return out, nil
	}
}

// countBy counts the rows of a query by its column label. The labels given are there although there are no such rows.
func (p *ControlPlane) countBy(ctx context.Context, q *bun.SelectQuery, labels ...string) (map[string]float64, error) {
	var rows []struct {
		Label string `bun:"label"`
		Count int64  `bun:"count"`
	}
	if err := q.ColumnExpr("count(*) AS count").GroupExpr("label").Scan(ctx, &rows); err != nil {
		return nil, db.Check(fmt.Errorf("count: %w", err))
	}
	out := map[string]float64{}
	for _, label := range labels {
		out[label] = 0
	}
	for _, r := range rows {
		out[r.Label] += float64(r.Count)
	}
	return out, nil
}

// lag is how long ago the first time of a query was, in seconds; 0 for none, or one to come.
func (p *ControlPlane) lag(ctx context.Context, q *bun.SelectQuery) (map[string]float64, error) {
	var first time.Time
	err := q.Limit(1).Scan(ctx, &first)
	if errors.Is(err, sql.ErrNoRows) {
		return map[string]float64{"": 0}, nil
	}
	if err != nil {
		return nil, db.Check(fmt.Errorf("count: %w", err))
	}
	return map[string]float64{"": max(0, time.Since(first).Seconds())}, nil
}

// queries adds up the SQL of one request.
type queries struct {
	count  atomic.Int64
	failed atomic.Int64
	took   atomic.Int64 // nanoseconds
}

// queriesKey is where the context of a request that is traced holds its *queries.
type queriesKey struct{}

func noteQuery(ctx context.Context, took time.Duration, err error) {
	q, ok := ctx.Value(queriesKey{}).(*queries)
	if !ok {
		return
	}
	q.count.Add(1)
	q.took.Add(int64(took))
	if err != nil {
		q.failed.Add(1)
	}
}

// traced makes a span of each request. It holds neither path nor query: numbers and secrets may be in there.
func (p *ControlPlane) traced(next http.Handler) http.Handler {
	if p.cfg.Tracer == nil {
		return next
	}
	incoming := propagation.TraceContext{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := incoming.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := p.cfg.Tracer.Start(ctx, "HTTP "+methodName(r.Method), trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		sum := &queries{}
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, queriesKey{}, sum)))
		span.SetAttributes(
			attribute.String("http.request.method", methodName(r.Method)), attribute.String("request.id", w.Header().Get("Request-Id")),
			attribute.Int64("db.queries", sum.count.Load()), attribute.Int64("db.queries_failed", sum.failed.Load()),
			attribute.Float64("db.duration_ms", float64(sum.took.Load())/float64(time.Millisecond)),
		)
	})
}

// methodName keeps what strangers may call a method out of names.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "_OTHER"
}

// observe is told each request that rest has answered.
func (p *ControlPlane) observe(ctx context.Context, operation string, status int, took time.Duration) {
	if p.cfg.ObserveAPI != nil {
		p.cfg.ObserveAPI(operation, status, took)
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(operation)
	span.SetAttributes(attribute.String("operation", operation), attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}
