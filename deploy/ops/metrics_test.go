package ops_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/hookswitch/hookswitch/deploy/ops"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/webhooks"
)

// scrape asks for the metrics and reads them as Prometheus does.
func scrape(t testing.TB, m *ops.Metrics) (families map[string]*dto.MetricFamily, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	text = w.Body.String()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families, text
}

func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%q is missing", line)
		}
	}
}

// leg is one that was answered after 2 s and talked for a minute.
func leg(trunk string) session.LegEnd {
	return session.LegEnd{
		TrunkID: webhooks.TrunkID(trunk), Dir: session.In, Status: webhooks.StatusCompleted, Cause: webhooks.CauseCallerHangup, SIPCode: 200,
		Rang: 50 * time.Millisecond, Answered: 2 * time.Second, Lasted: 62 * time.Second, Codec: "PCMA", Network: "pstn",
		Media: media.Stats{PacketsReceived: 3000, PacketsSent: 2990, Lost: 30, Late: 6, RemoteLost: 3, Jitter: 4 * time.Millisecond, MOS: 4.05},
	}
}

func TestACallIsCounted(t *testing.T) {
	m := ops.NewMetrics(ops.BuildOf("dev", "edge"))
	o := m.Calls([]string{"caller_hangup", "busy"})
	o.Ended(leg("trk_1"))
	refused := session.LegEnd{Dir: session.Out, Status: webhooks.StatusBusy, Cause: webhooks.CauseBusy, SIPCode: 486, Lasted: time.Second, Network: "phone"}
	o.Ended(refused)
	o.Invited(session.In, 200)
	o.Invited(session.Out, 486)
	o.Invited(session.In, 0)
	o.Asked("ok", 30*time.Millisecond)
	o.Attempted("5xx")
	o.Performed("dial", "busy", time.Second)
	o.Performed("answer", "", time.Second)
	o.PromptStarted("play", 3*time.Millisecond)
	o.AuthFailed("REGISTER")
	_, text := scrape(t, m)
	has(t, text,
		`hookswitch_call_ends_total{cause="caller_hangup",dir="in"} 1`,
		`hookswitch_call_ends_total{cause="busy",dir="out"} 1`,
		`hookswitch_call_ends_total{cause="busy",dir="in"} 0`,
		`hookswitch_call_setup_seconds_sum{dir="in"} 2`,
		`hookswitch_post_dial_delay_seconds_sum{dir="in"} 0.05`,
		`hookswitch_call_duration_seconds_sum{dir="in",outcome="completed"} 62`,
		`hookswitch_call_duration_seconds_count{dir="out",outcome="busy"} 1`,
		`hookswitch_trunk_calls_total{class="2xx",dir="in",trunk="trk_1"} 1`,
		`hookswitch_sip_invites_total{class="2xx",dir="in"} 1`,
		`hookswitch_sip_invites_total{class="4xx",dir="out"} 1`,
		`hookswitch_sip_invites_total{class="none",dir="in"} 1`,
		`hookswitch_sip_auth_failures_total{method="REGISTER"} 1`,
		`hookswitch_hook_duration_seconds_count{outcome="ok"} 1`,
		`hookswitch_hook_attempts_total{outcome="5xx"} 1`,
		`hookswitch_verbs_total{outcome="busy",verb="dial"} 1`,
		`hookswitch_verbs_total{outcome="",verb="answer"} 1`,
		`hookswitch_dial_attempts_total{outcome="busy"} 1`,
		`hookswitch_prompt_start_seconds_count{verb="play"} 1`,
		`hookswitch_rtp_packets_total{codec="PCMA",dir="in"} 3000`,
		`hookswitch_rtp_packets_total{codec="PCMA",dir="out"} 2990`,
		`hookswitch_rtp_lost_total{codec="PCMA",dir="in"} 30`,
		`hookswitch_rtp_lost_total{codec="PCMA",dir="out"} 3`,
		`hookswitch_rtp_late_total{codec="PCMA"} 6`,
		`hookswitch_rtp_jitter_seconds_sum{codec="PCMA",network="pstn"} 0.004`,
		`hookswitch_call_mos_sum{codec="PCMA",network="pstn"} 4.05`,
	)
}

func TestTrunksBeyondTheBoundAreOther(t *testing.T) {
	m := ops.NewMetrics(ops.BuildOf("dev", "edge"))
	o := m.Calls(nil)
	const trunks, told = 1000, 200
	for i := range trunks {
		o.Ended(leg(fmt.Sprintf("trk_%d", i)))
		o.Ended(leg("trk_0")) // one of the first stays told apart
	}
	families, text := scrape(t, m)
	if got := len(families["hookswitch_trunk_calls_total"].GetMetric()); got != told+1 {
		t.Errorf("%d series of trunks, want %d and the other", got, told)
	}
	has(t, text, `hookswitch_trunk_calls_total{class="2xx",dir="in",trunk="other"} 800`, `hookswitch_trunk_calls_total{class="2xx",dir="in",trunk="trk_0"} 1001`)
}

// The trace of a call stands beside what it measured, where OpenMetrics is asked for.
func TestAMeasureLeadsToItsTrace(t *testing.T) {
	m := ops.NewMetrics(ops.BuildOf("dev", "edge"))
	e := leg("")
	e.TraceID = "0123456789abcdef0123456789abcdef"
	m.Calls(nil).Ended(e)
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	if !strings.Contains(w.Body.String(), `hookswitch_call_mos_bucket{codec="PCMA",network="pstn",le="4.1"} 1 # {trace_id="0123456789abcdef0123456789abcdef"} 4.05`) {
		t.Errorf("no exemplar in\n%s", w.Body)
	}
}

func TestWhatTheStoresCountIsCountedSeldom(t *testing.T) {
	m := ops.NewMetrics(ops.BuildOf("dev", "controlplane"))
	counts, log := 0, slog.New(slog.DiscardHandler)
	m.Gauge(ops.Gauge{Name: "jobs", Help: "Jobs.", Label: "status", Read: func(ctx context.Context) (map[string]float64, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a count without an end")
		}
		counts++
		return map[string]float64{"queued": 3}, nil
	}}, log)
	m.Gauge(ops.Gauge{Name: "lost", Help: "Lost.", Read: func(context.Context) (map[string]float64, error) {
		return nil, errors.New("the database is away")
	}}, log)
	m.Pools(func() map[string]sql.DBStats {
		return map[string]sql.DBStats{"all": {MaxOpenConnections: 20, InUse: 3, Idle: 2, WaitCount: 7, WaitDuration: 1500 * time.Millisecond}}
	})
	for range 5 {
		families, text := scrape(t, m)
		has(t, text, `hookswitch_jobs{status="queued"} 3`, `hookswitch_gauge_errors_total{gauge="lost"} 1`,
			`hookswitch_db_connections{pool="all",state="used"} 3`, `hookswitch_db_connections_max{pool="all"} 20`, `hookswitch_db_waits_total{pool="all"} 7`, `hookswitch_db_wait_seconds_total{pool="all"} 1.5`)
		if families["hookswitch_lost"] != nil {
			t.Error("what could not be counted is shown")
		}
	}
	if counts != 1 {
		t.Errorf("five scrapes at once counted %d times", counts)
	}
}

// The rules of Prometheus for names, types and help texts.
func TestNamesFollowTheRules(t *testing.T) {
	m := ops.NewMetrics(ops.BuildOf("dev", "up"))
	m.Calls(causes()).Ended(leg("trk_1"))
	m.API()("listCalls", 200, time.Millisecond)
	m.Deliveries()("delivered", time.Millisecond)
	_, text := scrape(t, m)
	problems, err := promlint.New(bytes.NewBufferString(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "hookswitch_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func causes() []string {
	var all []string
	for _, c := range webhooks.Causes() {
		all = append(all, string(c))
	}
	return all
}

// BenchmarkScrape is the cost of one scrape of a large installation: every operation, cause and 200 trunks in use.
func BenchmarkScrape(b *testing.B) {
	m := ops.NewMetrics(ops.BuildOf("dev", "up"))
	o, api := m.Calls(causes()), m.API()
	for i := range 200 {
		o.Ended(leg(fmt.Sprintf("trk_%d", i)))
		for _, status := range []int{200, 404, 500} {
			api(fmt.Sprintf("operation%d", i), status, time.Millisecond)
		}
	}
	handler := m.Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := &sink{header: http.Header{}}
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		b.ReportMetric(float64(w.bytes), "bytes")
	}
}

type sink struct {
	header http.Header
	bytes  int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(p []byte) (int, error) {
	s.bytes += len(p)
	return io.Discard.Write(p)
}
