package ops

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hookswitch/hookswitch/edge/session"
)

// prefix is that of every metric of ours.
const prefix = "hookswitch"

// maxTrunks bounds the trunks that metrics tell apart; calls of any others count as "other". The first ones to carry calls
// are told apart, until the process ends.
const maxTrunks = 200

// Metrics is the registry of a process. What the halves tell is counted as it happens; what they know already is asked
// for at each scrape. No label holds a call, a number or an account, and every label's values are of a closed set, but
// for trunks, of which there are at most maxTrunks.
type Metrics struct {
	registry *prometheus.Registry

	apiRequests  *prometheus.CounterVec
	apiDurations *prometheus.HistogramVec

	invites      *prometheus.CounterVec
	authFailures *prometheus.CounterVec
	setups       *prometheus.HistogramVec
	dialDelays   *prometheus.HistogramVec
	durations    *prometheus.HistogramVec
	ends         *prometheus.CounterVec
	trunkCalls   *prometheus.CounterVec
	trunks       names
	asks         *prometheus.HistogramVec
	attempts     *prometheus.CounterVec
	verbs        *prometheus.CounterVec
	dials        *prometheus.CounterVec
	prompts      *prometheus.HistogramVec
	packets      *prometheus.CounterVec
	lost         *prometheus.CounterVec
	late         *prometheus.CounterVec
	jitter       *prometheus.HistogramVec
	loss         *prometheus.HistogramVec
	mos          *prometheus.HistogramVec
	gaugeErrors  *prometheus.CounterVec
}

// NewMetrics makes the registry, with what every process has: the Go runtime, the process, and the build.
func NewMetrics(b Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), trunks: names{most: maxTrunks}}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "_build_info", Help: "What runs; always 1.",
			ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go, "role": b.Role},
		}, func() float64 { return 1 }),
	)
	m.gaugeErrors = m.counter("gauge_errors_total", "Numbers that the stores did not give at a scrape, and that are missing in it.", "gauge")
	return m
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	const atOnce = 4 // a scraper that hangs must not pile up
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: atOnce})
}

// RequireToken lets only those in who show the token as Authorization: Bearer.
func RequireToken(token string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(shown)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "send the operator's token as Authorization: Bearer", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: prefix, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: prefix, Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

// API begins to count the REST API and returns what is to be told of each request. It is called at most once.
func (m *Metrics) API() (observe func(operation string, status int, took time.Duration)) {
	m.apiRequests = m.counter("api_requests_total", "Requests of the REST API, by operation and class of the status.", "operation", "class")
	m.apiDurations = m.histogram("api_request_duration_seconds", "How long the REST API took to answer.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30}, "operation")
	return func(operation string, status int, took time.Duration) {
		m.apiRequests.WithLabelValues(operation, class(status)).Inc()
		m.apiDurations.WithLabelValues(operation).Observe(took.Seconds())
	}
}

// Deliveries begins to count deliveries of events to endpoints and returns what is to be told of each attempt. It is called
// at most once.
func (m *Metrics) Deliveries() (observe func(outcome string, took time.Duration)) {
	attempts := m.counter("webhook_deliveries_total", "Attempts to deliver an event to an endpoint, by what came of them.", "outcome")
	durations := m.histogram("webhook_delivery_duration_seconds", "How long an attempt to deliver an event took.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15}, "outcome")
	return func(outcome string, took time.Duration) {
		attempts.WithLabelValues(outcome).Inc()
		durations.WithLabelValues(outcome).Observe(took.Seconds())
	}
}

// Calls begins to count calls and returns what an edge tells them to. The causes are those that a call can end for: each
// is there from the start, so that its first increase is seen. It is called at most once.
func (m *Metrics) Calls(causes []string) session.Observer {
	ring := []float64{.05, .1, .25, .5, 1, 2, 3, 5, 8, 13, 20, 30, 60}
	m.invites = m.counter("sip_invites_total", "INVITEs that begin a call, by the class of their final response; none is no response.", "dir", "class")
	m.authFailures = m.counter("sip_auth_failures_total", "Wrong passwords and unknown users.", "method")
	m.setups = m.histogram("call_setup_seconds", "From INVITE to 2xx.", ring, "dir")
	m.dialDelays = m.histogram("post_dial_delay_seconds", "From INVITE to the first 18x.", ring, "dir")
	m.durations = m.histogram("call_duration_seconds", "From start to end of a leg.",
		[]float64{1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400}, "dir", "outcome")
	m.ends = m.counter("call_ends_total", "Legs that are over, by cause.", "dir", "cause")
	m.trunkCalls = m.counter("trunk_calls_total", "Legs over trunks that are over, by the class of their final response. Of more than 200 trunks the rest is other.", "trunk", "dir", "class")
	m.asks = m.histogram("hook_duration_seconds", "Questions to applications, retries included, by what came of them.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}, "outcome")
	m.attempts = m.counter("hook_attempts_total", "Single requests to applications, by what came of them.", "outcome")
	m.verbs = m.counter("verbs_total", "Instructions that ran, by verb and outcome.", "verb", "outcome")
	m.dials = m.counter("dial_attempts_total", "Dial instructions, by outcome.", "outcome")
	m.prompts = m.histogram("prompt_start_seconds", "From an instruction to its first audio, but for the media clock's 20 ms.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15}, "verb")
	m.packets = m.counter("rtp_packets_total", "RTP packets of legs that are over.", "dir", "codec")
	m.lost = m.counter("rtp_lost_total", "RTP packets lost, of legs that are over: in by their numbers, out as the far side reports.", "dir", "codec")
	m.late = m.counter("rtp_late_total", "RTP packets that came too late to be played, of legs that are over.", "codec")
	m.jitter = m.histogram("rtp_jitter_seconds", "Interarrival jitter of a leg (RFC 3550 section 6.4.1).",
		[]float64{.001, .002, .005, .01, .02, .03, .05, .1, .2}, "codec", "network")
	m.loss = m.histogram("rtp_loss_ratio", "How much of what a leg's far side sent was not played.",
		[]float64{0, .001, .005, .01, .02, .05, .1, .2, .5}, "codec", "network")
	m.mos = m.histogram("call_mos", "Estimated listening quality of a leg (ITU-T G.107).",
		[]float64{1, 1.5, 2, 2.5, 3, 3.3, 3.6, 3.8, 4, 4.1, 4.2, 4.3, 4.4, 4.5}, "codec", "network")
	for _, dir := range []session.Dir{session.In, session.Out} {
		for _, cause := range causes {
			m.ends.WithLabelValues(string(dir), cause)
		}
		for _, class := range []string{"2xx", "3xx", "4xx", "5xx", "6xx", "none"} {
			m.invites.WithLabelValues(string(dir), class)
		}
	}
	return session.Observer{
		Invited: func(dir session.Dir, code int) { m.invites.WithLabelValues(string(dir), class(code)).Inc() },
		Ended:   m.ended,
		Asked: func(outcome string, took time.Duration) {
			m.asks.WithLabelValues(outcome).Observe(took.Seconds())
		},
		Attempted:     func(outcome string) { m.attempts.WithLabelValues(outcome).Inc() },
		Performed:     m.performed,
		PromptStarted: func(verb string, after time.Duration) { m.prompts.WithLabelValues(verb).Observe(after.Seconds()) },
		AuthFailed:    func(method string) { m.authFailures.WithLabelValues(method).Inc() },
	}
}

func (m *Metrics) performed(verb, outcome string, _ time.Duration) {
	m.verbs.WithLabelValues(verb, outcome).Inc()
	if verb == "dial" {
		m.dials.WithLabelValues(outcome).Inc()
	}
}

func (m *Metrics) ended(e session.LegEnd) {
	dir := string(e.Dir)
	m.ends.WithLabelValues(dir, string(e.Cause)).Inc()
	observe(m.durations.WithLabelValues(dir, string(e.Status)), e.Lasted.Seconds(), e.TraceID)
	if e.Rang > 0 {
		observe(m.dialDelays.WithLabelValues(dir), e.Rang.Seconds(), e.TraceID)
	}
	if e.Answered > 0 {
		observe(m.setups.WithLabelValues(dir), e.Answered.Seconds(), e.TraceID)
	}
	if e.TrunkID != "" {
		m.trunkCalls.WithLabelValues(m.trunks.name(string(e.TrunkID)), dir, class(e.SIPCode)).Inc()
	}
	if e.Codec == "" {
		return
	}
	s := e.Media
	m.packets.WithLabelValues("in", e.Codec).Add(float64(s.PacketsReceived))
	m.packets.WithLabelValues("out", e.Codec).Add(float64(s.PacketsSent))
	m.lost.WithLabelValues("in", e.Codec).Add(float64(s.Lost))
	m.lost.WithLabelValues("out", e.Codec).Add(float64(s.RemoteLost))
	m.late.WithLabelValues(e.Codec).Add(float64(s.Late))
	if s.PacketsReceived == 0 {
		return // nothing was heard that could be judged
	}
	observe(m.jitter.WithLabelValues(e.Codec, e.Network), s.Jitter.Seconds(), e.TraceID)
	observe(m.loss.WithLabelValues(e.Codec, e.Network), s.LossRatio(), e.TraceID)
	observe(m.mos.WithLabelValues(e.Codec, e.Network), s.MOS, e.TraceID)
}

// observe adds a value, with the trace that shows how it came about where there is one.
func observe(o prometheus.Observer, value float64, traceID string) {
	if e, ok := o.(prometheus.ExemplarObserver); ok && traceID != "" {
		e.ObserveWithExemplar(value, prometheus.Labels{"trace_id": traceID})
		return
	}
	o.Observe(value)
}

// class is that of a status of HTTP or SIP: 1xx to 6xx, or none.
func class(status int) string {
	if status < 100 || status > 699 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}

// names keeps the number of a label's values bounded.
type names struct {
	most int

	mu    sync.Mutex // guards known
	known map[string]bool
}

// name is the name itself while there is room, else other.
func (n *names) name(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.known[name]:
		return name
	case len(n.known) >= n.most:
		return "other"
	case n.known == nil:
		n.known = map[string]bool{}
	}
	n.known[name] = true
	return name
}
