package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/blob"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/credential"
	"github.com/hookswitch/hookswitch/controlplane/customer"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/job"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/sheet"
	"github.com/hookswitch/hookswitch/controlplane/transfer"
	"github.com/hookswitch/hookswitch/openapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is the real one with the plain resource.
var specification = sync.OnceValues(func() (*openapi.Spec, error) {
	return openapi.Parse(os.DirFS("../../openapi"), fstest.MapFS{"plains.yaml": {Data: []byte(plainYAML)}})
})

// installation is what several processes share: a database and blobs.
type installation struct {
	database string
	folder   string
	web      *httptest.Server
	handler  http.Handler
}

func install(t *testing.T, database string) *installation {
	t.Helper()
	i := &installation{database: database, folder: t.TempDir()}
	i.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.handler.ServeHTTP(w, r) }))
	t.Cleanup(i.web.Close)
	return i
}

// prepare runs statements before any process opens the database, which gives new tables their row security.
func (i *installation) prepare(t testing.TB, ctx context.Context, statements ...string) {
	t.Helper()
	d, err := db.Open(ctx, i.database)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		if _, err := d.Write().NewRaw(statement).Exec(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// process is one process of it, without its REST API.
type process struct {
	db      *db.DB
	blobs   *blob.Store
	bus     *bus.Bus
	jobs    *job.Service
	service *transfer.Service
	all     map[string]rest.Operation
}

// options change how a process works.
type options struct {
	lease    time.Duration
	oneByOne bool // plains and customers are not written together
	only     bool // mount no other operations than the service's
}

func (i *installation) process(t testing.TB, ctx context.Context, o options) *process {
	t.Helper()
	p := &process{}
	var err error
	if p.db, err = db.Open(ctx, i.database); err != nil {
		t.Fatal(err)
	}
	if p.blobs, err = blob.Open(ctx, "file:"+i.folder, blob.Options{BaseURL: i.web.URL, Secret: bytes.Repeat([]byte{7}, 32)}); err != nil {
		t.Fatal(err)
	}
	if p.bus, err = bus.Open(ctx, "memory:"); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	p.jobs = &job.Service{
		DB: p.db, Bus: p.bus, Blobs: p.blobs, Log: log, Poll: 20 * time.Millisecond, Lease: 5 * time.Second, Backoff: 10 * time.Millisecond,
	}
	if o.lease > 0 {
		p.jobs.Lease, p.jobs.MaxFailures = o.lease, 1000
	}
	p.service = transfer.New(p.db, p.blobs, p.jobs)
	numbers := &number.Service{DB: p.db, Accounts: &account.Service{DB: p.db}}
	credentials := &credential.Service{DB: p.db, Numbers: numbers}
	customers := &customer.Service{DB: p.db}
	direct := func() *rest.Direct { return p.service.Direct }
	customerImport := transfer.Customers(direct, customers.Resource())
	if o.oneByOne {
		customerImport.Prepare, customerImport.Bulk = nil, nil
	}
	p.service.Register(plainImport(p.db, direct, !o.oneByOne), transfer.Numbers(direct, numbers.Resource()), transfer.Credentials(direct, credentials.Resource()),
		customerImport)
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	p.all = map[string]rest.Operation{}
	for _, some := range []map[string]rest.Operation{
		rest.Operations(plains(p.db)), numbers.Operations(), credentials.Operations(), customers.Operations(), p.jobs.Operations(), p.service.Operations(),
	} {
		maps.Copy(p.all, some)
	}
	if p.service.Direct, err = rest.NewDirect(spec, p.all); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) close() {
	// What fails here has been closed by force.
	_ = errors.Join(p.bus.Close(), p.blobs.Close(), p.db.Close())
}

// fixture is an installation with one process and its API.
type fixture struct {
	*installation
	*process
	*resttest.Server
}

func newFixture(t *testing.T, database string, o options) *fixture {
	t.Helper()
	f := &fixture{installation: install(t, database)}
	f.prepare(t, t.Context(), plainSQL)
	f.process = f.installation.process(t, t.Context(), o)
	t.Cleanup(f.close)
	f.handler = f.blobs.Handler()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	operations := f.all
	if o.only {
		operations = f.service.Operations()
	}
	f.Server = resttest.Mount(t, f.db, spec, operations)
	_, err = f.db.Write().NewRaw("INSERT INTO domains (domain, account_id, position) VALUES ('test.example', ?, 0)", resttest.Account).Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// each runs a test on both databases.
func each(t *testing.T, o options, fn func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, newFixture(t, dbtest.SQLiteURL(t), o)) })
	t.Run("postgres", func(t *testing.T) { fn(t, newFixture(t, dbtest.PostgresURL(t), o)) })
}

// work runs a process's jobs until the returned function is called.
func (p *process) work(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.jobs.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// multipartOf makes the body of an upload.
func multipartOf(t testing.TB, name string, file []byte, fields map[string]string) (body, contentType string) {
	t.Helper()
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	for key, value := range fields {
		if err := w.WriteField(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if file != nil {
		part, err := w.CreateFormFile("file", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String(), w.FormDataContentType()
}

func (f *fixture) post(t *testing.T, token string, file []byte, fields map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	body, contentType := multipartOf(t, "号码.csv", file, fields)
	return f.Do(t, token, http.MethodPost, "/v1/imports", body, "Content-Type", contentType)
}

// upload uploads a table of a resource.
func (f *fixture) upload(t *testing.T, resource, text string, more ...string) transfer.Import {
	t.Helper()
	fields := map[string]string{"resource": resource}
	for i := 0; i+1 < len(more); i += 2 {
		fields[more[i]] = more[i+1]
	}
	var i transfer.Import
	resttest.Want(t, f.post(t, resttest.Token, []byte(text), fields), http.StatusCreated, &i)
	return i
}

func (f *fixture) ask(t *testing.T, method, target string, body any, status int, into any) {
	t.Helper()
	resttest.Want(t, f.Do(t, resttest.Token, method, target, body), status, into)
}

// do starts a job for an import and waits for its end.
func (f *fixture) do(t *testing.T, id, what string) transfer.Import {
	t.Helper()
	var j job.Job
	f.ask(t, http.MethodPost, "/v1/imports/"+id+"/"+what, nil, http.StatusAccepted, &j)
	if j = f.ended(t, j.ID); j.Status != job.Succeeded {
		t.Fatalf("%s: %s %s", what, j.Status, j.Failure)
	}
	return f.get(t, id)
}

func (f *fixture) get(t *testing.T, id string) (i transfer.Import) {
	t.Helper()
	f.ask(t, http.MethodGet, "/v1/imports/"+id, nil, http.StatusOK, &i)
	return i
}

func (f *fixture) ended(t *testing.T, id string) job.Job {
	t.Helper()
	deadline := time.NewTimer(5 * time.Minute)
	defer deadline.Stop()
	for {
		j, err := db.Get[job.Job](t.Context(), f.db, auth.Everywhere(), id)
		if err != nil {
			t.Fatal(err)
		}
		if j.Status.Ended() {
			return *j
		}
		select {
		case <-deadline.C:
			t.Fatalf("job %s is still %s at %+v", id, j.Status, j.Progress)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// fetch follows a link that the API gives with ?as=json.
func (f *fixture) fetch(t *testing.T, target string) string {
	t.Helper()
	var link transfer.SignedURL
	f.ask(t, http.MethodGet, target, nil, http.StatusOK, &link)
	if life := time.Until(link.ExpiresAt); life > 5*time.Minute {
		t.Errorf("the link lives %s", life)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err)
	}
	return string(text)
}

// table reads a csv into lines of cells with "~" between.
func table(t *testing.T, text string) []string {
	t.Helper()
	r, err := sheet.Open(strings.NewReader(text), int64(len(text)), sheet.Options{Separator: ",", Encoding: sheet.UTF8})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := []string{strings.Join(r.Header, "~")}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil || row.Err != nil {
			t.Fatal(err, row.Err)
		}
		lines = append(lines, strings.Join(row.Cells, "~"))
	}
}

// report gives the lines of a report, without the object ids.
func (f *fixture) report(t *testing.T, id, of string) []string {
	t.Helper()
	lines := table(t, f.fetch(t, "/v1/imports/"+id+"/report?as=json&of="+of))
	for n, line := range lines {
		cells := strings.Split(line, "~")
		if n > 0 {
			cells[2] = ""
		}
		lines[n] = strings.Join(cells, "~")
	}
	return lines
}

// dump gives the rows of a table, columns as they are, ordered.
func (f *fixture) dump(t *testing.T, query string) []string {
	t.Helper()
	rows, err := f.db.Read().QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }() // Err says what matters
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var cells []string
		for _, v := range values {
			switch value := (*v.(*any)).(type) {
			case []byte:
				cells = append(cells, string(value))
			case nil:
				cells = append(cells, "-")
			default:
				cells = append(cells, fmt.Sprint(value))
			}
		}
		found = append(found, strings.Join(cells, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

const allPlains = "SELECT number, note, level, external_id FROM plains"

// databases give the URL of a fresh database, by its kind.
func databases() map[string]func(t *testing.T) string {
	return map[string]func(t *testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL}
}

func TestEveryOperation(t *testing.T) {
	for name, location := range databases() {
		t.Run(name, func(t *testing.T) {
			var last *fixture
			set := func(t *testing.T, query string, args ...any) {
				if _, err := last.db.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				last = newFixture(t, location(t), options{only: true})
				return last.Server
			}, resttest.Suite{
				// A masked reader knows only of its own: see TestWhoSeesNoNumbersExportsNone.
				Except: map[string][]resttest.Check{"getImport": {resttest.Masked}, "getExport": {resttest.Masked}},
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					imp := last.upload(t, "plains", "number\n1000\n").ID
					var exp transfer.Export
					last.ask(t, http.MethodPost, "/v1/exports", `{"resource":"plains","format":"csv"}`, http.StatusCreated, &exp)
					if err := last.blobs.Put(t.Context(), "report.csv", strings.NewReader("x"), 1); err != nil {
						t.Fatal(err)
					}
					set(t, "UPDATE imports SET commit_key = 'report.csv' WHERE id = ?", imp)
					set(t, "UPDATE exports SET file_key = 'report.csv', status = 'completed' WHERE id = ?", exp.ID)
					return map[string]string{"import_id": imp, "export_id": exp.ID}
				},
				Request: func(t *testing.T, _ *resttest.Server, operation string, ids map[string]string) *resttest.Request {
					switch operation {
					case "createImport":
						body, contentType := multipartOf(t, "a.csv", []byte("number\n1000\n"), map[string]string{"resource": "plains"})
						return &resttest.Request{Body: body, ContentType: contentType}
					case "createExport":
						return &resttest.Request{Body: map[string]any{"resource": "plains", "format": "csv"}}
					case "updateImport":
						return &resttest.Request{Body: map[string]any{"mapping": map[string]any{"number": "number"}, "on_duplicate": "fail"}}
					case "revertImport":
						set(t, "UPDATE imports SET status = 'committed', position = 1 WHERE id = ?", ids["import_id"])
					case "getImportTemplate":
						return &resttest.Request{Query: url.Values{"resource": {"plains"}, "format": {"csv"}}}
					}
					return nil
				},
			})
		})
	}
}

func TestAnUploadIsRecognizedAndMapped(t *testing.T) {
	each(t, options{}, func(t *testing.T, f *fixture) {
		text := "\u624b\u673a\u53f7;\u5206\u673a\u53f7;\u5907\u6ce8;\u5907\u6ce8\r\n023-6892 5278;1001;\u6b27\u9633;x\r\n"
		file, err := simplifiedchinese.GB18030.NewEncoder().Bytes([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		i := f.upload(t, "numbers", string(file))
		if i.Encoding != sheet.GB18030 || i.Separator != ";" || !slices.Equal(i.Header, []string{"手机号", "分机号", "备注", "备注 (2)"}) ||
			len(i.Missing) != 0 || len(i.Sample) != 1 || i.Sample[0][2] != "欧阳" || i.FileName != "号码.csv" || i.Size != int64(len(file)) {
			t.Errorf("%+v", i)
		}
		if want := map[string]string{"number": "手机号", "extension": "分机号"}; !maps.Equal(i.Mapping, want) {
			t.Errorf("mapping %v", i.Mapping)
		}
		// What was committed last for such a heading is proposed the next time, whatever the order of the columns.
		f.ask(t, http.MethodPatch, "/v1/imports/"+i.ID, `{"mapping":{"extension":null,"external_id":"备注"}}`, http.StatusOK, &i)
		f.work(t)
		f.do(t, i.ID, "commit")
		next := f.upload(t, "numbers", "备注,备注,手机号,分机号\nx,y,1002,\n")
		if want := map[string]string{"number": "手机号", "external_id": "备注"}; !maps.Equal(next.Mapping, want) {
			t.Errorf("remembered %v", next.Mapping)
		}
		// Read with another separator it has another heading.
		f.ask(t, http.MethodPatch, "/v1/imports/"+next.ID, `{"separator":";"}`, http.StatusOK, &next)
		if !slices.Equal(next.Header, []string{"备注,备注,手机号,分机号"}) || !slices.Equal(next.Missing, []string{"number"}) && next.Mapping["number"] == "" {
			t.Errorf("%+v", next)
		}
	})
}
