package ops

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/session"
	"github.com/hookswitch/hookswitch/edge/sip"
)

// scraped is a collector whose numbers are made at the scrape.
type scraped struct {
	descs   []*prometheus.Desc
	collect func(ch chan<- prometheus.Metric)
}

// Describe names what Collect makes.
func (s scraped) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Collect makes it.
func (s scraped) Collect(ch chan<- prometheus.Metric) { s.collect(ch) }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+"_"+name, help, labels, nil)
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func total(d *prometheus.Desc, value uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Edge is what is asked of an edge at each scrape. Every field is needed.
type Edge struct {
	Calls    *session.Calls
	SIP      *sip.Server
	Media    *media.Engine
	MaxCalls int
}

// Edge adds an edge to what is scraped. It is called at most once.
func (m *Metrics) Edge(e Edge) {
	m.registry.MustRegister(e.calls(), e.messages(), e.engine())
}

func (e Edge) calls() prometheus.Collector {
	active := desc("calls_active", "Live legs.", "dir")
	most := desc("calls_max", "Live legs at most.")
	draining := desc("draining", "1 while no new calls are taken because the edge is to end.")
	return scraped{[]*prometheus.Desc{active, most, draining}, func(ch chan<- prometheus.Metric) {
		legs := e.Calls.Legs()
		ch <- gauge(active, float64(legs[session.In]), string(session.In))
		ch <- gauge(active, float64(legs[session.Out]), string(session.Out))
		ch <- gauge(most, float64(e.MaxCalls))
		ch <- gauge(draining, yes(e.Calls.Draining()))
	}}
}

func (e Edge) messages() prometheus.Collector {
	requests := desc("sip_requests_total", "SIP requests that passed, those sent again included.", "method", "dir", "transport")
	responses := desc("sip_responses_total", "SIP responses that passed.", "method", "dir", "transport", "class")
	repeated := desc("sip_retransmissions_total", "SIP requests that came, or were sent, again.", "dir", "transport")
	malformed := desc("sip_malformed_total", "SIP messages that could not be read.", "transport")
	open := desc("sip_connections_active", "Open connections of SIP over streams.", "transport")
	dropped := desc("sip_dropped_total", "SIP messages dropped: guarded before they were read, refused by a check, or overflow of a queue.", "reason")
	panics := desc("sip_panics_total", "Handlers that were recovered from a panic.")
	unsent := desc("sip_write_errors_total", "SIP messages that the system did not take.")
	return scraped{[]*prometheus.Desc{requests, responses, repeated, malformed, open, dropped, panics, unsent}, func(ch chan<- prometheus.Metric) {
		for _, c := range e.SIP.Messages() {
			dir := "in"
			if c.Out {
				dir = "out"
			}
			if c.Class == 0 {
				ch <- total(requests, c.Count, c.Method, dir, c.Transport)
				continue
			}
			ch <- total(responses, c.Count, c.Method, dir, c.Transport, class(100*c.Class))
		}
		for _, t := range e.SIP.Transports() {
			ch <- total(repeated, t.RepeatedIn, "in", t.Transport)
			ch <- total(repeated, t.RepeatedOut, "out", t.Transport)
			ch <- total(malformed, t.Malformed, t.Transport)
			if t.Transport != "udp" {
				ch <- gauge(open, float64(t.Connections), t.Transport)
			}
		}
		c := e.SIP.Counters()
		ch <- total(dropped, c.Guarded, "guarded")
		ch <- total(dropped, c.Refused, "refused")
		ch <- total(dropped, c.Overflow, "overflow")
		ch <- total(panics, c.Panics)
		ch <- total(unsent, c.WriteErrors)
	}}
}

func (e Edge) engine() prometheus.Collector {
	lag := desc("media_loop_lag_seconds", "How late the media clock's slots of 2 ms were that any leg needed.")
	used := desc("media_ports_used", "RTP port pairs in use, or resting after their call.")
	free := desc("media_ports_free", "RTP port pairs that could be taken.")
	legs := desc("media_legs", "Legs that the media engine carries.")
	late := desc("media_late_ticks_total", "Slots that came more than their own length late.")
	overloaded := desc("media_overloaded", "1 while new calls are refused because the media clock is late.")
	realTime := desc("media_real_time", "1 when the media threads have real-time priority.")
	shards := desc("media_shards", "Media threads.")
	return scraped{[]*prometheus.Desc{lag, used, free, legs, late, overloaded, realTime, shards}, func(ch chan<- prometheus.Metric) {
		l := e.Media.Lag()
		buckets, below := make(map[float64]uint64, len(l.Bounds)), uint64(0)
		for i, bound := range l.Bounds {
			below += l.Counts[i]
			buckets[bound.Seconds()] = below
		}
		ch <- prometheus.MustNewConstHistogram(lag, below+l.Counts[len(l.Bounds)], l.Sum.Seconds(), buckets)
		s := e.Media.Stats()
		ch <- gauge(used, float64(s.PortsTaken))
		ch <- gauge(free, float64(s.PortsFree))
		ch <- gauge(legs, float64(s.Legs))
		ch <- total(late, s.LateTicks)
		ch <- gauge(overloaded, yes(s.Overloaded))
		ch <- gauge(realTime, yes(s.RealTime))
		ch <- gauge(shards, float64(s.Shards))
	}}
}

// Pools adds the connection pools of a database, as pools gives them by name.
func (m *Metrics) Pools(pools func() map[string]sql.DBStats) {
	connections := desc("db_connections", "Connections to the database.", "pool", "state")
	most := desc("db_connections_max", "Connections to the database at most; 0 is no limit.", "pool")
	waits := desc("db_waits_total", "Queries that had to wait for a connection.", "pool")
	waited := desc("db_wait_seconds_total", "How long queries waited for a connection.", "pool")
	m.registry.MustRegister(scraped{[]*prometheus.Desc{connections, most, waits, waited}, func(ch chan<- prometheus.Metric) {
		for pool, s := range pools() {
			ch <- gauge(connections, float64(s.InUse), pool, "used")
			ch <- gauge(connections, float64(s.Idle), pool, "idle")
			ch <- gauge(most, float64(s.MaxOpenConnections), pool)
			ch <- total(waits, uint64(s.WaitCount), pool)
			ch <- prometheus.MustNewConstMetric(waited, prometheus.CounterValue, s.WaitDuration.Seconds(), pool)
		}
	}})
}

// Expiry adds when a certificate ends; the zero time is none.
func (m *Metrics) Expiry(notAfter func() time.Time) {
	ends := desc("tls_certificate_expiry_timestamp_seconds", "When the certificate of HTTPS ends, as a Unix time.")
	m.registry.MustRegister(scraped{[]*prometheus.Desc{ends}, func(ch chan<- prometheus.Metric) {
		if at := notAfter(); !at.IsZero() {
			ch <- gauge(ends, float64(at.Unix()))
		}
	}})
}

// Gauge is something that is counted in the stores.
type Gauge struct {
	Name  string // without prefix
	Help  string
	Label string // "" for one value, under ""
	Read  func(ctx context.Context) (map[string]float64, error)
}

const (
	// gaugeFor is how long a count is shown again without counting anew: any number of scrapers cost the same.
	gaugeFor = 5 * time.Second
	// gaugeWithin bounds one count, so that a slow database does not cost the whole scrape.
	gaugeWithin = 2 * time.Second
)

// Gauge adds a number that is counted in the stores. One that cannot be counted in time is missing from the scrape.
func (m *Metrics) Gauge(g Gauge, log *slog.Logger) {
	var labels []string
	if g.Label != "" {
		labels = []string{g.Label}
	}
	c := &counted{gauge: g, desc: desc(g.Name, g.Help, labels...), failed: m.gaugeErrors.WithLabelValues(g.Name), log: log}
	m.registry.MustRegister(scraped{[]*prometheus.Desc{c.desc}, c.collect})
}

// counted remembers the last count.
type counted struct {
	gauge  Gauge
	desc   *prometheus.Desc
	failed prometheus.Counter
	log    *slog.Logger

	mu     sync.Mutex // guards what follows; held while counting, so that scrapes at once count once
	values map[string]float64
	at     time.Time
}

func (c *counted) collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > gaugeFor {
		c.count()
	}
	for label, value := range c.values {
		if c.gauge.Label == "" {
			ch <- gauge(c.desc, value)
			continue
		}
		ch <- gauge(c.desc, value, label)
	}
}

// count is called with mu held.
func (c *counted) count() {
	ctx, cancel := context.WithTimeout(context.Background(), gaugeWithin)
	defer cancel()
	values, err := c.gauge.Read(ctx)
	if err != nil {
		c.failed.Inc()
		c.log.Debug("metrics.gauge", "gauge", c.gauge.Name, "error", err.Error())
	}
	c.values, c.at = values, time.Now()
}
