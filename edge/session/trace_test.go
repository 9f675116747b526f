package session

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/webhooks"
)

func TestTracingThatIsOffAllocatesNothing(t *testing.T) {
	c := &Calls{}
	ctx, id := t.Context(), webhooks.NewCallID()
	_, span := c.startCall(ctx, id)
	s := &Session{calls: c, ctx: ctx, span: span, doing: span}
	const runs = 100
	allocated := testing.AllocsPerRun(runs, func() {
		_, span := c.startCall(ctx, id)
		s.startVerb("play")("completed")
		_, invite := c.start(ctx, "sip INVITE", trace.SpanKindClient)
		span.End()
		invite.End()
	})
	if allocated != 0 {
		t.Errorf("%v allocations", allocated)
	}
	ask := webhooks.Ask{}
	s.traceAsk(&ask, "incoming", span, "https://app.example/voice")
	if ask.Traceparent != nil {
		t.Error("the header of a span that nobody records")
	}
}

// A call's trace is begun once: what is below it has a parent, and takes its trace from there.
func TestTheTraceOfACallIsItsID(t *testing.T) {
	if _, ok := TraceID(t.Context()); ok {
		t.Error("a trace outside of calls")
	}
	id := webhooks.NewCallID()
	ctx := context.WithValue(t.Context(), callTrace{}, trace.TraceID(webhooks.TraceID(id)))
	got, ok := TraceID(ctx)
	again := trace.TraceID(webhooks.TraceID(id))
	if !ok || got != again || !got.IsValid() {
		t.Errorf("%s, then %s", got, again)
	}
}
