package controlplane_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
)

func TestWhatWaitsIsCounted(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { countWaiting(t, "") })
	t.Run("postgres", func(t *testing.T) { countWaiting(t, dbtest.PostgresURL(t)) })
}

func countWaiting(t *testing.T, database string) {
	cfg := config(t, t.TempDir())
	if database != "" {
		cfg.Database = database
	}
	p := start(t, cfg)
	other, err := db.Open(t.Context(), cfg.Database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	err = other.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		for _, due := range []time.Duration{-time.Minute, -time.Second, time.Hour} {
			if err := db.Enqueue(ctx, tx, "", "test.topic", struct{}{}, time.Now().Add(due)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]float64{}
	for _, g := range p.Gauges() {
		if got[g.Name], err = g.Read(t.Context()); err != nil {
			t.Errorf("%s: %v", g.Name, err)
		}
		if g.Help == "" || got[g.Name] == nil {
			t.Errorf("gauge %+v", g)
		}
	}
	if n := got["outbox_messages"]["test.topic"]; n != 3 {
		t.Errorf("%v messages wait", n)
	}
	if lag := got["outbox_lag_seconds"]["test.topic"]; lag < 60 || lag > 600 {
		t.Errorf("the oldest has been due for %v s", lag)
	}
	for _, name := range []string{"jobs_lag_seconds", "webhook_deliveries_pending", "webhook_deliveries_lag_seconds"} {
		if n, ok := got[name][""]; !ok || n != 0 {
			t.Errorf("%s: %v", name, got[name])
		}
	}
	if queued, ok := got["jobs"]["queued"]; !ok || queued != 0 {
		t.Errorf("jobs: %v", got["jobs"])
	}
	if udp, ok := got["registrations_active"]["udp"]; !ok || udp != 0 {
		t.Errorf("registrations: %v", got["registrations_active"])
	}
}

func TestWhatIsServedBesideTheAPI(t *testing.T) {
	cfg := config(t, t.TempDir())
	cfg.HSTS = time.Hour
	cfg.Outside = map[string]http.Handler{"GET /metrics": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("numbers"))
	})}
	p := start(t, cfg)
	status, header, text := p.do(t, http.MethodGet, "/metrics", "", "")
	if status != http.StatusOK || text != "numbers" || header.Get("Strict-Transport-Security") != "max-age=3600" {
		t.Errorf("/metrics: %d %v %s", status, header, text)
	}
	if status, _, _ := p.do(t, http.MethodPost, "/metrics", "", ""); status == http.StatusOK {
		t.Errorf("POST /metrics: %d", status)
	}
	if err := p.Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("ready after its end: %v", err)
	}
}
