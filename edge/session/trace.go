package session

import (
	"context"
	"encoding/hex"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// One call is one trace, whose id is the call's own: the root span is the call, below it are its instructions, the
// requests to its application, the INVITEs it sends, and the legs that its dials make. What is told of a call to
// subscribers is an event of its span. A span holds no phone number beyond its last two digits, and of URLs, whose path
// and query may hold digits and secrets, the host alone.

// callTrace is where the context of a call without a parent holds its trace id.
type callTrace struct{}

// TraceID is the trace that a span without a parent begins: the call's.
func TraceID(ctx context.Context) (trace.TraceID, bool) {
	id, ok := ctx.Value(callTrace{}).(trace.TraceID)
	return id, ok
}

// start begins a span, or gives one that records nothing when nobody traces.
func (c *Calls) start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if c.cfg.Tracer == nil {
		return ctx, trace.SpanFromContext(ctx)
	}
	return c.cfg.Tracer.Start(ctx, name, trace.WithSpanKind(kind))
}

// startCall begins the span of a leg: below the dial that makes it where ctx has one, else the root of a trace.
func (c *Calls) startCall(ctx context.Context, id webhooks.CallID) (context.Context, trace.Span) {
	if c.cfg.Tracer != nil && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = context.WithValue(ctx, callTrace{}, trace.TraceID(webhooks.TraceID(id)))
	}
	return c.start(ctx, "call", trace.SpanKindServer)
}

// endCall ends the span of a leg.
func (s *Session) endCall(e LegEnd) {
	if !s.span.IsRecording() {
		return
	}
	s.span.SetAttributes(
		attribute.String("call.id", string(s.id)),
		attribute.String("account.id", string(s.account)),
		attribute.String("application.id", string(s.app.ID)),
		attribute.String("conversation.id", string(s.call.ConversationID)),
		attribute.String("call.direction", string(s.call.Direction)),
		attribute.String("call.status", string(e.Status)),
		attribute.String("call.cause", string(e.Cause)),
		attribute.String("call.from.last2", lastTwo(s.call.From)),
		attribute.String("call.to.last2", lastTwo(s.call.To)),
		attribute.String("sip.method", "INVITE"),
		attribute.String("sip.call_id", s.call.SIP.CallID),
		attribute.Int("sip.status_code", e.SIPCode),
		attribute.String("trunk.id", string(e.TrunkID)),
	)
	if e.Codec != "" {
		s.span.SetAttributes(
			attribute.String("rtp.codec", e.Codec), attribute.Float64("rtp.mos", e.Media.MOS),
			attribute.Float64("rtp.loss_ratio", e.Media.LossRatio()), attribute.Float64("rtp.jitter_ms", float64(e.Media.Jitter.Microseconds())/1000),
		)
	}
	switch e.Cause {
	case webhooks.CauseError, webhooks.CauseEdgeLost, webhooks.CauseWebhookFailed, webhooks.CauseMediaTimeout, webhooks.CauseLoop:
		s.span.SetStatus(codes.Error, string(e.Cause))
	}
	s.span.End()
}

// lastTwo is what a span may say of a number.
func lastTwo(number string) string {
	if len(number) <= 2 {
		return ""
	}
	return number[len(number)-2:]
}

// startVerb begins the span of an instruction, below which everything goes that the session does until end is called.
func (s *Session) startVerb(verb string) (end func(outcome string)) {
	if !s.span.IsRecording() {
		return func(string) {}
	}
	outer := s.doing
	_, span := s.calls.start(trace.ContextWithSpan(s.ctx, outer), verb, trace.SpanKindInternal)
	s.doing = span
	return func(outcome string) {
		if outcome != "" {
			span.SetAttributes(attribute.String("verb.outcome", outcome))
		}
		if outcome == string(webhooks.Failed) {
			span.SetStatus(codes.Error, outcome)
		}
		span.End()
		s.doing = outer
	}
}

// traceAsk logs each attempt of a question and, where somebody traces, makes it a span whose context the application
// gets in the header Traceparent. The URL is named to the log before its templates were filled in, and without its query:
// digits and secrets may be in there.
func (s *Session) traceAsk(a *webhooks.Ask, about string, parent trace.Span, named string) {
	named, _, _ = strings.Cut(named, "?")
	named, _, _ = strings.Cut(named, "#")
	a.Trace = func(at webhooks.Attempt) { s.traced(at, named) }
	if !parent.SpanContext().IsValid() {
		return
	}
	ctx := trace.ContextWithSpan(context.WithoutCancel(s.ctx), parent)
	var span trace.Span
	a.Traceparent = func(attempt int) string {
		_, span = s.calls.start(ctx, "hook "+about, trace.SpanKindClient)
		if attempt > 1 {
			span.SetAttributes(attribute.Int("http.request.resend_count", attempt-1))
		}
		return traceparent(span.SpanContext())
	}
	a.Trace = func(at webhooks.Attempt) {
		s.traced(at, named)
		span.SetAttributes(
			attribute.String("http.request.method", at.Method), attribute.String("server.address", hostOf(at.URL)),
			attribute.Int("http.response.status_code", at.Status), attribute.String("request.id", string(at.RequestID)),
			attribute.Int("http.request.body.size", at.BytesOut), attribute.Int("http.response.body.size", at.BytesIn),
		)
		if at.Code != "" {
			span.SetAttributes(attribute.String("error.type", at.Code))
			span.SetStatus(codes.Error, at.Code)
		}
		span.End()
	}
}

// hostOf is what a span or a log may say of a URL that an account gave.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// traceparent is the header of W3C Trace Context, level 1.
func traceparent(c trace.SpanContext) string {
	trace, span := c.TraceID(), c.SpanID()
	return "00-" + hex.EncodeToString(trace[:]) + "-" + hex.EncodeToString(span[:]) + "-" + c.TraceFlags().String()
}

// endInvite ends the span of an INVITE of ours.
func endInvite(span trace.Span, hop control.Hop, err error) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("sip.method", "INVITE"), attribute.Int("sip.status_code", inviteCode(err)),
		attribute.String("sip.transport", hop.Transport), attribute.String("hop.kind", hop.Kind), attribute.String("trunk.id", string(hop.TrunkID)))
	if err != nil {
		span.SetAttributes(attribute.String("error.type", codeClass(inviteCode(err))))
	}
	span.End()
}
