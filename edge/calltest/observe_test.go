package calltest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/webhooks"
)

// heard is what an Observer was told, as lines.
type heard struct {
	mu    sync.Mutex // guards what follows
	lines []string
	ends  []session.LegEnd
}

func (o *heard) add(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}

func (o *heard) observer() session.Observer {
	return session.Observer{
		Invited: func(dir session.Dir, code int) { o.add("invited %s %d", dir, code) },
		Ended: func(e session.LegEnd) {
			o.add("ended %s %s", e.Dir, e.Cause)
			o.mu.Lock()
			o.ends = append(o.ends, e)
			o.mu.Unlock()
		},
		Asked:         func(outcome string, _ time.Duration) { o.add("asked %s", outcome) },
		Attempted:     func(outcome string) { o.add("attempted %s", outcome) },
		Performed:     func(verb, outcome string, _ time.Duration) { o.add("performed %s %s", verb, outcome) },
		PromptStarted: func(verb string, _ time.Duration) { o.add("prompt %s", verb) },
		AuthFailed:    func(method string) { o.add("auth failed %s", method) },
	}
}

// expect takes lines off what was told; each must be there so often.
func (o *heard) expect(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range want {
		i := slices.Index(o.lines, line)
		if i < 0 {
			t.Fatalf("%q was not told; told were\n%s", line, strings.Join(o.lines, "\n"))
		}
		o.lines = slices.Delete(o.lines, i, i+1)
	}
}

// traceIDs gives traces the ids of their calls.
type traceIDs struct{}

func (traceIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := session.TraceID(ctx)
	return id, traceIDs{}.NewSpanID(ctx, id)
}

func (traceIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	binary.NativeEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// traced has the bench observe its calls and record their spans.
func traced(o *heard, recorder *tracetest.SpanRecorder) func(*session.Config) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithIDGenerator(traceIDs{}))
	return func(c *session.Config) {
		c.Observer, c.Tracer = o.observer(), provider.Tracer("test")
	}
}

// one is the only span of a name below another (nil: at the root).
func one(t *testing.T, r *tracetest.SpanRecorder, name string, below sdktrace.ReadOnlySpan) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, span := range r.Ended() {
		atRoot := below == nil && !span.Parent().IsValid()
		if span.Name() == name && (atRoot || below != nil && span.Parent().SpanID() == below.SpanContext().SpanID()) {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q", len(found), name)
	}
	return found[0]
}

func TestABridgedCallIsOneTrace(t *testing.T) {
	o, recorder := &heard{}, tracetest.NewSpanRecorder()
	storyWith(t, Setup{Session: traced(o, recorder)}, func(t *testing.T, b *Bench) {
		callee := b.Phone("1002")
		call := dialing(b, to1002, "")
		callee.Rings().Answer()
		b.Pass(2 * time.Second)
		if legs := b.Calls.Legs(); legs[session.In] != 1 || legs[session.Out] != 1 {
			t.Errorf("live legs: %v", legs)
		}
		call.HangUp()
		b.Idle()
		if legs := b.Calls.Legs(); legs[session.In] != 0 || legs[session.Out] != 0 {
			t.Errorf("legs when all is over: %v", legs)
		}
		o.expect(t, "invited in 200", "invited out 200", "asked ok", "attempted ok", "ended in caller_hangup", "ended out caller_hangup", "performed dial hangup")
		for _, e := range o.ends {
			if e.Answered <= 0 || e.Lasted < 2*time.Second || e.Codec == "" || e.SIPCode != 200 || e.Network != "phone" || e.TraceID == "" {
				t.Errorf("the %s leg ended as %+v", e.Dir, e)
			}
		}
		first := b.Events()[0].CallID
		root := one(t, recorder, "call", nil)
		if got := root.SpanContext().TraceID(); got != trace.TraceID(webhooks.TraceID(first)) {
			t.Errorf("the trace of %s is %s", first, got)
		}
	})
	root := one(t, recorder, "call", nil)
	dial := one(t, recorder, "dial", root)
	leg := one(t, recorder, "call", dial)
	one(t, recorder, "sip INVITE", leg)
	one(t, recorder, "hook incoming", root)
	one(t, recorder, "hook action", root) // told of the end, which the call does not wait for
	if started, ended := len(recorder.Started()), len(recorder.Ended()); started != ended {
		t.Errorf("%d spans were begun and %d ended", started, ended)
	}
}

func TestWhatNoCallComesOfIsCounted(t *testing.T) {
	o, recorder := &heard{}, tracetest.NewSpanRecorder()
	setup := traced(o, recorder)
	storyWith(t, Setup{Session: func(c *session.Config) { setup(c); c.MaxCalls = 1 }}, func(t *testing.T, b *Bench) {
		b.Pass(time.Second) // the first beat
		if err := b.Calls.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		b.Program("1000", wait60)
		b.Phone("1003").Dial("7777").Expect(404)
		call := b.Phone("1001").Dial("1000").Answered()
		b.Phone("1002").Dial("1000").Expect(503)
		call.HangUp()
		b.Idle()
		o.expect(t, "invited in 404", "invited in 200", "invited in 503", "ended in caller_hangup", "performed pause ")
	})
	if started, ended := len(recorder.Started()), len(recorder.Ended()); started != ended {
		t.Errorf("%d spans were begun and %d ended", started, ended)
	}
}

func TestAnApplicationThatFailsIsCountedByWhatFailed(t *testing.T) {
	o, recorder := &heard{}, tracetest.NewSpanRecorder()
	storyWith(t, Setup{Session: traced(o, recorder)}, func(t *testing.T, b *Bench) {
		b.Webhook("1000", nil)
		b.App.Answer("/voice", `{"instructions":[{"verb":"dance"}]}`)
		call := b.Phone("1001").Dial("1000")
		b.Pass(30 * time.Second)
		b.Idle()
		_ = call
		o.expect(t, "asked rejected", "attempted ok", "ended in webhook_failed")
	})
	root := one(t, recorder, "call", nil)
	if root.Status().Description != "webhook_failed" {
		t.Errorf("the span of the call says %+v", root.Status())
	}
}
