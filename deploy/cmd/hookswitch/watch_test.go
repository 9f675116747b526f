package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hookswitch/hookswitch/deploy/phone"
)

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// What no log may show, or no span.
const (
	pin         = "483726"           // typed into a masked gather
	urlToken    = "tok_canary_query" // in the query of an application's URL
	opsToken    = "tok_canary_metrics"
	dialled     = "+8613800138000"
	unknown     = "+8613911112222" // bound to nothing
	ownPassword = "canary-password-of-1003"
)

// application is what answers the calls: a masked question, then somebody who is busy.
type application struct {
	*httptest.Server
	mu     sync.Mutex        // guards traces
	traces map[string]string // traceparent by path
}

func newApplication(t *testing.T, busy string) *application {
	t.Helper()
	a := &application{traces: map[string]string{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.traces[r.URL.Path] = r.Header.Get("Traceparent")
		a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/voice":
			fmt.Fprintf(w, `{"instructions":[{"verb":"play","tone":"440/300"},
				{"verb":"gather","mask":true,"num_digits":6,"timeout":8,"action":"/pin/{{trigger.digits}}?token=%s"}]}`, urlToken)
		case "/pin/" + pin:
			fmt.Fprintf(w, `{"instructions":[{"verb":"dial","to":[{"sip":"sip:%s@%s"}],"timeout":5},{"verb":"hangup"}]}`, dialled, busy)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// busyPhone answers every INVITE with 486, until the test ends.
func busyPhone(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if answer := busy(string(buf[:n])); answer != "" {
				if _, err := conn.WriteToUDP([]byte(answer), from); err != nil {
					t.Error(err)
				}
			}
		}
	})
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return conn.LocalAddr().String()
}

func busy(request string) string {
	if !strings.HasPrefix(request, "INVITE ") {
		return ""
	}
	answer := "SIP/2.0 486 Busy Here\r\n"
	for line := range strings.SplitSeq(request, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "Via", "From", "Call-ID", "CSeq":
			answer += line + "\r\n"
		case "To":
			answer += line + ";tag=busy\r\n"
		case "":
			return answer + "Content-Length: 0\r\n\r\n"
		}
	}
	return ""
}

// spans is an OTLP receiver.
type spans struct {
	*httptest.Server
	mu  sync.Mutex // guards all
	all []*v1.Span
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := bytesOf(r)
		request := &collector.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(body, request)
		}
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				s.all = append(s.all, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// named are the spans of a name, with attributes (name, value …) as text.
func (s *spans) named(name string, attributes ...string) []*v1.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*v1.Span
	for _, span := range s.all {
		fits := span.GetName() == name
		for i := 0; i+1 < len(attributes); i += 2 {
			fits = fits && attribute(span, attributes[i]) == attributes[i+1]
		}
		if fits {
			found = append(found, span)
		}
	}
	return found
}

func attribute(span *v1.Span, name string) string {
	for _, a := range span.GetAttributes() {
		if a.GetKey() != name {
			continue
		}
		value := a.GetValue().GetStringValue()
		if value == "" {
			value = fmt.Sprint(a.GetValue().GetIntValue())
		}
		return value
	}
	return ""
}

// TestAnOperatorWatchesARealServer makes calls on a real server and looks at all that it tells: metrics, traces, log.
func TestAnOperatorWatchesARealServer(t *testing.T) {
	receiver := newSpans(t)
	app := newApplication(t, busyPhone(t))
	p := up(t, t.TempDir(), []string{"OTEL_BSP_SCHEDULE_DELAY=100"}, "--log-level", "debug", "--otlp-endpoint", receiver.URL, "--metrics-token", opsToken)
	_, secret := p.application(map[string]any{"voice_url": app.URL + "/voice"}, dialled)
	p.application(map[string]any{"voice_url": fmt.Sprintf("http://127.0.0.1:%d/", freePort(t)), "budget_ms": 1000, "retries": 0,
		"fallback_instructions": map[string]any{"instructions": []any{map[string]any{"verb": "hangup"}}}}, "2000")
	p.call(http.MethodPost, "/v1/credentials", fmt.Sprintf(`{"extension":"1003","password":%q}`, ownPassword), http.StatusCreated, nil)
	p.call(http.MethodGet, "/v1/calls/call_01J00000000000000000000000", "", http.StatusNotFound, nil)

	var calls sync.WaitGroup
	calls.Go(func() {
		r := p.place(phone.Call{To: dialled, Digits: []phone.Press{{Keys: pin, At: 1500 * time.Millisecond}}})
		if r.Err != nil || !r.Answered {
			t.Errorf("the call to the application: %v, answered %t", r.Err, r.Answered)
		}
	})
	calls.Go(func() { p.place(phone.Call{To: "2000", Username: "1002"}) })
	calls.Go(func() { p.place(phone.Call{To: unknown, Username: "1003", Password: ownPassword}) })
	calls.Go(func() { p.place(phone.Call{To: "1000", Username: "1002", Password: "canary-wrong-password"}) })
	calls.Wait()
	var list struct {
		Data []struct{ ID, To, Direction, Status string }
	}
	p.eventually(func() string {
		p.call(http.MethodGet, "/v1/calls", "", http.StatusOK, &list)
		if len(list.Data) < 3 || slices.ContainsFunc(list.Data, func(c struct{ ID, To, Direction, Status string }) bool {
			return c.Status == "in_progress" || c.Status == "ringing"
		}) {
			return fmt.Sprintf("calls: %+v", list.Data)
		}
		return ""
	})
	t.Run("metrics", func(t *testing.T) { p.showsMetrics(t) })
	t.Run("traces", func(t *testing.T) {
		i := slices.IndexFunc(list.Data, func(c struct{ ID, To, Direction, Status string }) bool {
			return c.To == dialled && c.Direction == "inbound"
		})
		if i < 0 {
			t.Fatalf("no inbound call to %s in %+v", dialled, list.Data)
		}
		p.showsTraces(t, receiver, app, list.Data[i].ID)
	})
	t.Run("log", func(t *testing.T) {
		p.levelChanges(t)
		p.stop()
		secrets := []string{pin, urlToken, opsToken, ownPassword, "canary-wrong-password", secret, p.known.APIKey}
		for _, password := range p.known.Extensions {
			secrets = append(secrets, password)
		}
		p.keepsSecrets(t, secrets)
	})
}

// exported is what a real server shows after calls, by type.
var exported = map[dto.MetricType][]string{
	dto.MetricType_COUNTER: {
		"sip_requests_total", "sip_responses_total", "sip_invites_total", "sip_retransmissions_total", "sip_malformed_total",
		"sip_auth_failures_total", "sip_dropped_total", "sip_panics_total", "sip_write_errors_total", "call_ends_total",
		"rtp_packets_total", "rtp_lost_total", "rtp_late_total", "hook_attempts_total", "verbs_total", "dial_attempts_total",
		"api_requests_total", "db_waits_total", "db_wait_seconds_total", "media_late_ticks_total", "gauge_errors_total",
	},
	dto.MetricType_GAUGE: {
		"build_info", "calls_active", "calls_max", "draining", "registrations_active", "sip_connections_active", "media_ports_used",
		"media_ports_free", "media_legs", "media_overloaded", "media_real_time", "media_shards", "db_connections", "db_connections_max",
	},
	dto.MetricType_HISTOGRAM: {
		"call_setup_seconds", "call_duration_seconds", "hook_duration_seconds", "prompt_start_seconds",
		"rtp_jitter_seconds", "rtp_loss_ratio", "call_mos", "media_loop_lag_seconds", "api_request_duration_seconds",
	},
}

// unbounded is what no label's value may look like: an id of anything but a trunk, a number, an address.
var unbounded = regexp.MustCompile(`(?:acc|call|app|num|cred|rec|req|key|evt|edge)_[0-9A-HJKMNP-TV-Z]{26}|[0-9]{5,}|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|@|/`)

func (p *process) showsMetrics(t *testing.T) {
	var families map[string]*dto.MetricFamily
	var text string
	took := time.Duration(0)
	const scrapes = 20
	for range scrapes {
		began := time.Now()
		var status int
		if status, text = p.get(p.http, p.ops+"/metrics", ""); status != http.StatusOK {
			t.Fatalf("/metrics: %d %s", status, text)
		}
		took += time.Since(began)
	}
	t.Logf("a scrape of %d bytes took %s on average, of %d", len(text), took/scrapes, scrapes)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for kind, names := range exported {
		for _, name := range names {
			if f := families["hookswitch_"+name]; f == nil || f.GetType() != kind {
				t.Errorf("hookswitch_%s is %v, want %s", name, f.GetType(), kind)
			}
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for name, f := range families {
		if len(f.GetMetric()) > 500 {
			t.Errorf("%s has %d series", name, len(f.GetMetric()))
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.HasPrefix(name, "hookswitch_") && l.GetName() != "goversion" && l.GetName() != "revision" && unbounded.MatchString(l.GetValue()) {
					t.Errorf("%s has the label %s=%q, of which there is no end", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	for _, line := range []string{
		`hookswitch_call_ends_total{cause="program_end",dir="in"}`, `hookswitch_call_ends_total{cause="busy",dir="out"} 1`,
		`hookswitch_sip_invites_total{class="2xx",dir="in"}`, `hookswitch_sip_invites_total{class="4xx",dir="out"} 1`,
		`hookswitch_sip_auth_failures_total{method="INVITE"}`, `hookswitch_sip_requests_total{dir="in",method="INVITE",transport="udp"}`,
		`hookswitch_sip_responses_total{class="4xx",dir="in",method="INVITE",transport="udp"} 1`,
		`hookswitch_hook_duration_seconds_count{outcome="ok"} 2`, `hookswitch_hook_duration_seconds_count{outcome="connect"} 1`,
		`hookswitch_verbs_total{outcome="digits",verb="gather"} 1`, `hookswitch_dial_attempts_total{outcome="busy"} 1`,
		`hookswitch_api_requests_total{class="4xx",operation="getCall"} 1`, `hookswitch_api_requests_total{class="2xx",operation="createNumber"} 2`,
		`hookswitch_calls_active{dir="in"} 0`, `hookswitch_calls_active{dir="out"} 0`, `hookswitch_rtp_packets_total{codec="PCM`,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("%s is missing", line)
		}
	}
	for bearer, want := range map[string]int{"": 401, p.known.APIKey: 401, opsToken: 200} {
		if status, body := p.get(p.api, p.known.URL+"/metrics", bearer); status != want || (status == 200) != strings.Contains(body, "hookswitch_calls_max") {
			t.Errorf("/metrics beside the API: %d, want %d", status, want)
		}
	}
	if status, body := p.get(p.http, p.ops+"/build", ""); status != 200 || !strings.Contains(body, `"role":"up"`) {
		t.Errorf("/build: %d %s", status, body)
	}
}

func (p *process) showsTraces(t *testing.T, receiver *spans, app *application, callID string) {
	var root *v1.Span
	p.eventually(func() string {
		if found := receiver.named("call", "call.id", callID); len(found) == 1 {
			root = found[0]
			return ""
		}
		return "the span of " + callID + " has not come"
	})
	id, err := ulid.Parse(strings.TrimPrefix(callID, "call_"))
	if err != nil {
		t.Fatal(err)
	}
	if string(root.GetTraceId()) != string(id[:]) || len(root.GetParentSpanId()) != 0 {
		t.Errorf("the trace of %s is %x, below %x", callID, root.GetTraceId(), root.GetParentSpanId())
	}
	one := func(name string, below *v1.Span, attributes ...string) *v1.Span {
		t.Helper()
		for _, span := range receiver.named(name, attributes...) {
			if string(span.GetParentSpanId()) == string(below.GetSpanId()) && string(span.GetTraceId()) == string(root.GetTraceId()) {
				return span
			}
		}
		t.Fatalf("no span %s %v below %s", name, attributes, below.GetName())
		return nil
	}
	one("play", root)
	one("gather", root, "verb.outcome", "digits")
	dial := one("dial", root, "verb.outcome", "busy")
	leg := one("call", dial, "call.cause", "busy", "call.direction", "outbound_dial", "sip.status_code", "486")
	one("sip INVITE", leg, "sip.status_code", "486")
	incoming := one("hook incoming", root, "http.response.status_code", "200")
	action := one("hook action", root)
	for path, span := range map[string]*v1.Span{"/voice": incoming, "/pin/" + pin: action} {
		want := fmt.Sprintf("00-%x-%x-01", span.GetTraceId(), span.GetSpanId())
		if got := app.traces[path]; got != want {
			t.Errorf("the application was sent the traceparent %s, want %s", got, want)
		}
	}
	var events []string
	for _, e := range root.GetEvents() {
		events = append(events, e.GetName())
	}
	if got := strings.Join(events, " "); !strings.HasPrefix(got, "call.initiated call.ringing call.answered") || !strings.HasSuffix(got, "call.ended") {
		t.Errorf("events of the call: %s", got)
	}

	// A request of the REST API goes on in the trace of who asked, and says what its SQL cost.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.known.URL+"/v1/numbers?limit=7", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.known.APIKey)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	response, err := p.api.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.Body.Close() != nil {
		t.Error(err)
	}
	p.eventually(func() string {
		found := receiver.named("listNumbers", "http.response.status_code", "200", "request.id", response.Header.Get("Request-Id"))
		if len(found) == 0 {
			return "the span of listNumbers has not come"
		}
		for _, span := range found {
			if fmt.Sprintf("%x %x", span.GetTraceId(), span.GetParentSpanId()) != "0af7651916cd43dd8448eb211c80319c b7ad6b7169203331" {
				t.Errorf("the request's span is of the trace %x, below %x", span.GetTraceId(), span.GetParentSpanId())
			}
			if attribute(span, "db.queries") == "0" || attribute(span, "db.queries") == "" {
				t.Errorf("the request's span says %v", span.GetAttributes())
			}
		}
		return ""
	})
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for _, span := range receiver.all {
		text := span.String()
		for _, secret := range []string{strings.TrimPrefix(dialled, "+86"), strings.TrimPrefix(unknown, "+86"), pin, urlToken, "1001", "1002"} {
			if strings.Contains(text, `"`+secret) || strings.Contains(text, secret+`"`) || len(secret) > 4 && strings.Contains(text, secret) {
				t.Errorf("a span holds %s: %s", secret, text)
			}
		}
	}
}

// levelChanges silences the log while the process runs, and lets it speak again.
func (p *process) levelChanges(t *testing.T) {
	set := func(level string) {
		t.Helper()
		if status, _, text := p.do(p.http, http.MethodPut, p.ops+"/log-level", "", level); status != http.StatusOK {
			t.Fatalf("log level %s: %d %s", level, status, text)
		}
	}
	answered := func() int { return strings.Count(p.output(), `"msg":"rest.answered"`) }
	set("error")
	before := answered()
	p.call(http.MethodGet, "/v1/calls", "", http.StatusOK, nil)
	set("debug")
	p.call(http.MethodGet, "/v1/calls", "", http.StatusOK, nil)
	p.eventually(func() string {
		if answered() == before {
			return "the log is still silent"
		}
		return ""
	})
	if got := answered() - before; got != 1 {
		t.Errorf("%d of two requests were logged, want the second", got)
	}
}

// keepsSecrets looks through all that the process printed, but for what the first start shows on the terminal.
func (p *process) keepsSecrets(t *testing.T, secrets []string) {
	debug := 0
	lines := bufio.NewScanner(strings.NewReader(p.output()))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "{") {
			continue // the terminal
		}
		if strings.Contains(line, `"level":"DEBUG"`) {
			debug++
		} else if strings.Contains(line, strings.TrimPrefix(dialled, "+86")) || strings.Contains(line, strings.TrimPrefix(unknown, "+86")) {
			t.Errorf("a number above debug: %s", line)
		}
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("the log holds %s: %s", secret, line)
			}
		}
	}
	if debug == 0 {
		t.Error("nothing was logged at debug: this looked at too little")
	}
}
