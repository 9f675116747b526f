package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
	"github.com/hookswitch/hookswitch/openapi"
)

// big is a table that is imported for its speed.
type big struct {
	resource string
	heading  string
	row      func(i int) string
	rows     int
	needs    []string // statements that bring what the rows refer to
}

func (b big) text() string {
	var text strings.Builder
	text.WriteString(b.heading + "\n")
	for i := range b.rows {
		text.WriteString(b.row(i) + "\n")
	}
	return text.String()
}

// plainTable is a table of plains.
func plainTable(rows int) big {
	return big{resource: "plains", rows: rows, heading: "number,note,level", row: func(i int) string {
		return fmt.Sprintf("+86138%08d,note %d,%d", i, i, i%9+1)
	}}
}

// customerTable is a table of customers, every third with a second number, which 100 users own.
func customerTable(rows int) big {
	const users = 100
	b := big{resource: "customers", rows: rows, heading: "name,phones,owner,company,external_id", row: func(i int) string {
		second := ""
		if i%3 == 0 {
			second = fmt.Sprintf(";023-6892 %04d", i%10_000)
		}
		return fmt.Sprintf("customer %d,138 %04d %04d%s,user%d,company %d,crm-%d", i, i/10_000, i%10_000, second, i%users, i%500, i)
	}}
	b.needs = append(b.needs, "INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name) "+
		"VALUES ('dep_1', 'acc_test', '{}', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', '1', 'sales')")
	for i := range users {
		b.needs = append(b.needs, fmt.Sprintf("INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status) "+
			"VALUES ('usr_%[1]d', 'acc_test', '{}', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', '1', 'usr_%[1]d', 'dep_1', 'user%[1]d', 'x', '[]', 'active')", i))
	}
	return b
}

// speed imports a table into a fresh database, and gives the rows per second of the commit with its report, and the most
// memory that was in use.
func speed(tb testing.TB, database string, b big) (perSecond, peakMiB float64) {
	tb.Helper()
	ctx := context.Background()
	i := &installation{database: database, folder: tb.TempDir(), web: httptest.NewServer(http.NotFoundHandler())}
	defer i.web.Close()
	i.prepare(tb, ctx, append([]string{plainSQL, "INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits) " +
		"VALUES ('acc_test', 'acc_test', '{}', '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', '1', 'test', 'CN', '{}')"}, b.needs...)...)
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
	body, contentType := multipartOf(tb, "a.csv", []byte(b.text()), map[string]string{"resource": b.resource})
	var imp transfer.Import
	call(tb, api, http.MethodPost, "/v1/imports", body, contentType, &imp)
	var j job.Job
	call(tb, api, http.MethodPost, "/v1/imports/"+imp.ID+"/commit", "", "", &j)
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
			if now.Status != job.Succeeded || now.Result["created"] != float64(b.rows) {
				tb.Fatal(now.Status, now.Failure, now.Result)
			}
			break
		}
		runtime.ReadMemStats(&memory)
		peakMiB = max(peakMiB, float64(memory.HeapInuse)/(1<<20))
		<-time.After(50 * time.Millisecond)
	}
	perSecond = float64(b.rows) / time.Since(started).Seconds()
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
	for name, database := range map[string]func(testing.TB) string{"sqlite": dbtest.SQLite, "postgres": dbtest.Postgres} {
		for _, table := range []big{plainTable(200_000), customerTable(50_000)} {
			b.Run(table.resource+"/"+name, func(b *testing.B) {
				var perSecond, peak float64
				for b.Loop() {
					perSecond, peak = speed(b, database(b), table)
				}
				b.ReportMetric(perSecond, "rows/s")
				b.ReportMetric(peak, "MiB-peak")
			})
		}
	}
}
