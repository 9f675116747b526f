package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
	"github.com/hookswitch/hookswitch/openapi"
)

// speed imports a table of n rows of a plain resource into a fresh database, and gives the rows per second of the commit
// with its report, and the most memory that was in use.
func speed(tb testing.TB, database string, n int) (perSecond, peakMiB float64) {
	tb.Helper()
	ctx := context.Background()
	i := &installation{database: database, folder: tb.TempDir(), web: httptest.NewServer(http.NotFoundHandler())}
	defer i.web.Close()
	i.prepare(tb, ctx, plainSQL, "INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits) "+
		"VALUES ('acc_test', 'acc_test', '{}', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', '1', 'test', 'CN', '{}')")
	p := i.process(tb, ctx, options{})
	defer p.close()
	spec, err := specification()
	if err != nil {
		tb.Fatal(err)
	}
	api, err := rest.Mount(rest.Config{
		DB: p.db, Bus: p.bus, Log: slog.New(slog.DiscardHandler), Authenticate: func(context.Context, rest.Credential) (auth.Caller, error) {
			return resttest.Caller(), nil
		},
	}, only(spec, p.all), p.all)
	if err != nil {
		tb.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("number,note,level\n")
	for i := range n {
		fmt.Fprintf(&text, "+86138%08d,note %d,%d\n", i, i, i%9+1)
	}
	body, contentType := multipartOf(tb, "a.csv", []byte(text.String()), map[string]string{"resource": "plains"})
	var imp transfer.Import
	call(tb, api, http.MethodPost, "/v1/imports", body, contentType, &imp)
	var j job.Job
	call(tb, api, http.MethodPost, "/v1/imports/"+imp.ID+"/commit", "", "", &j)
	text.Reset()
	runtime.GC()
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	started := time.Now()
	go func() { done <- p.jobs.Run(running) }()
	var memory runtime.MemStats
	for {
		now, err := db.Get[job.Job](ctx, p.db, auth.Everywhere(), j.ID)
		if err != nil {
			tb.Fatal(err)
		}
		if now.Status.Ended() {
			if now.Status != job.Succeeded || now.Result["created"] != float64(n) {
				tb.Fatal(now.Status, now.Failure, now.Result)
			}
			break
		}
		runtime.ReadMemStats(&memory)
		peakMiB = max(peakMiB, float64(memory.HeapInuse)/(1<<20))
		<-time.After(50 * time.Millisecond)
	}
	perSecond = float64(n) / time.Since(started).Seconds()
	stop()
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	return perSecond, peakMiB
}

// only leaves of a specification the operations that there are.
func only(spec *openapi.Spec, operations map[string]rest.Operation) *openapi.Spec {
	view := *spec.View
	view.Paths = openapi3.NewPaths()
	for path, item := range spec.View.Paths.Map() {
		kept := openapi3.PathItem{Parameters: item.Parameters}
		for method, o := range item.Operations() {
			if _, ok := operations[o.OperationID]; ok {
				kept.SetOperation(method, o)
			}
		}
		if len(kept.Operations()) > 0 {
			view.Paths.Set(path, &kept)
		}
	}
	return &openapi.Spec{YAML: spec.YAML, View: &view}
}

// call makes a request and reads its answer.
func call(tb testing.TB, api http.Handler, method, target, body, contentType string, into any) {
	tb.Helper()
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer x")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	if w.Code >= http.StatusBadRequest {
		tb.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkImport(b *testing.B) {
	const rows = 200_000
	var perSecond, peak float64
	for b.Loop() {
		perSecond, peak = speed(b, "sqlite:"+filepath.Join(b.TempDir(), "test.db"), rows)
	}
	b.ReportMetric(perSecond, "rows/s")
	b.ReportMetric(peak, "MiB-peak")
}
