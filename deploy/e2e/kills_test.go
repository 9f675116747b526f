package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/blob/blobtest"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	killings   = 50
	rowsEach   = 2500 // of the import that begins before each killing: three batches
	eventsEach = 20   // emitted before each killing
	subjects   = 5
	// killWithin is the most that a killing waits after the import and the export have begun.
	killWithin = 400 * time.Millisecond
)

// subscriber is an application's endpoint for events, which notes what it gets.
type subscriber struct {
	mu    sync.Mutex
	times map[string]int      // webhook-id → how often it came
	order map[string][]string // subject → ids, in the order in which they first came
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		ObjectID string `json:"object_id"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&e); err != nil || e.ID != r.Header.Get("Webhook-Id") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times[e.ID]++; s.times[e.ID] == 1 {
		s.order[e.ObjectID] = append(s.order[e.ObjectID], e.ID)
	}
}

// pair is two control planes on the same stores.
type pair struct {
	*deployment // whose control is either of the two, for what the deployment's methods ask
	t           *testing.T
	urls        [2]string
	serve       [2]func() *process
	now         [2]*process
}

func newPair(t *testing.T, database string) *pair {
	t.Helper()
	bus := ownRedis(t)
	bus.start(t)
	p := &pair{t: t, deployment: &deployment{t: t, kind: apart, data: filepath.Join(t.TempDir(), "data")}}
	blobs, binary := blobtest.S3URL(t), swift(t)
	for i := range p.urls {
		p.urls[i] = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
		arguments := []string{
			binary, "controlplane", "--http", strings.TrimPrefix(p.urls[i], "http://"), "--data", p.data, "--database", database,
			"--bus", bus.url, "--blobs", blobs, "--edges", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--ops", "off",
			"--allow-network", "127.0.0.0/8",
		}
		p.serve[i] = func() *process { return p.run(fmt.Sprintf("controlplane %d", i+1), arguments) }
	}
	for i := range p.urls {
		p.now[i] = p.serve[i]()
		p.url, p.control, p.edge = p.urls[i], p.now[i], p.now[i]
		if i == 0 {
			p.readCredentials()
		}
		p.answers("/readyz")
	}
	return p
}

// kill ends one of the two as a power cut would, and starts it again. The other works on meanwhile.
func (p *pair) kill(i int) {
	p.t.Helper()
	p.now[i].kill()
	p.now[i] = p.serve[i]()
	p.url, p.control, p.edge = p.urls[i], p.now[i], p.now[i]
	p.answers("/readyz")
}

// upload uploads the nth table of numbers.
func (p *pair) upload(n, rows int) (id string) {
	p.t.Helper()
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	file, err := parts.CreateFormFile("file", "numbers.csv")
	if err != nil {
		p.t.Fatal(err)
	}
	fmt.Fprintln(file, "number,external_id")
	for i := n * rows; i < (n+1)*rows; i++ {
		fmt.Fprintf(file, "+86231%07d,imported-%d\n", i, i)
	}
	if err := parts.WriteField("resource", "numbers"); err != nil {
		p.t.Fatal(err)
	}
	if err := parts.Close(); err != nil {
		p.t.Fatal(err)
	}
	a := p.ask(p.t, http.MethodPost, "/v1/imports", form.Bytes(), http.Header{"Content-Type": {parts.FormDataContentType()}})
	if a.status != http.StatusCreated {
		p.t.Fatalf("the upload was answered %d: %s", a.status, a.body)
	}
	var made struct{ ID string }
	if err := json.Unmarshal(a.body, &made); err != nil {
		p.t.Fatal(err)
	}
	return made.ID
}

// reaches waits until an object has a status.
func (p *pair) reaches(path, status string) (object map[string]any) {
	p.t.Helper()
	eventually(p.t, 3*time.Minute, func() string {
		a := p.ask(p.t, http.MethodGet, path, nil, nil)
		object = nil
		if err := json.Unmarshal(a.body, &object); err != nil || a.status != http.StatusOK {
			return string(a.body)
		}
		if object["status"] != status {
			return fmt.Sprintf("%s is %v: %s", path, object["status"], a.body)
		}
		return ""
	})
	return object
}

// all pages through a list of numbers.
func (p *pair) numbers() (found []string) {
	p.t.Helper()
	for cursor := ""; ; {
		a := p.ask(p.t, http.MethodGet, "/v1/numbers?limit=1000&sort=number&cursor="+url.QueryEscape(cursor), nil, nil)
		if cursor == "" {
			a = p.ask(p.t, http.MethodGet, "/v1/numbers?limit=1000&sort=number", nil, nil)
		}
		var page struct {
			Data       []struct{ Number string }
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
			p.t.Fatalf("%d: %s", a.status, a.body)
		}
		for _, n := range page.Data {
			if strings.HasPrefix(n.Number, "+86231") {
				found = append(found, n.Number)
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return found
		}
	}
}

// Whatever moment a process is killed at, an import, an export and deliveries go on elsewhere: nothing is lost, and no row
// is written twice.
func TestControlPlanesThatAreKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	database := dbtest.PostgresURL(t)
	p := newPair(t, database)
	t.Cleanup(func() {
		for i := range p.now {
			p.now[i].kill()
		}
	})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := &subscriber{times: map[string]int{}, order: map[string][]string{}}
	server := &http.Server{Handler: got, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Close
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	p.expect(t, http.StatusCreated, http.MethodPost, "/v1/event_endpoints", object{"url": "http://" + listener.Addr().String() + "/", "types": []string{"killing.*"}})
	var me struct {
		AccountID string `json:"account_id"`
	}
	if err := json.Unmarshal(p.ask(t, http.MethodGet, "/v1/me", nil, nil).body, &me); err != nil || me.AccountID == "" {
		t.Fatal("who am I?", err)
	}
	d := dbtest.Open(t, database)
	emitted := make([][]string, subjects) // ids of each, in order
	var imports, exports []string
	for n := range killings {
		p.url = p.urls[rand.IntN(len(p.urls))]
		imports = append(imports, "/v1/imports/"+p.upload(n, rowsEach))
		p.expect(t, http.StatusAccepted, http.MethodPost, imports[n]+"/commit", nil)
		exports = append(exports, p.export())
		emit(t, d, me.AccountID, emitted)
		pause := time.NewTimer(rand.N(killWithin))
		select {
		case <-pause.C:
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
		p.kill(n % 2)
	}
	for _, imported := range imports {
		done := p.reaches(imported, "committed")
		counts, _ := done["counts"].(map[string]any)
		if counts["created"] != float64(rowsEach) || counts["errors"] != float64(0) || counts["skipped"] != float64(0) {
			t.Errorf("%s says %v", imported, counts)
		}
	}
	const rows = killings * rowsEach
	if n := len(p.numbers()); n != rows {
		t.Errorf("%d of %d rows are there", n, rows)
	}
	got.complete(t, emitted)
	for _, exported := range exports {
		p.exported(exported)
	}
	if n := p.exported(p.export()); n != rows {
		t.Errorf("the export after all has %d of %d rows", n, rows)
	}
}

// emit writes events of each subject, as a change would.
func emit(t *testing.T, d *db.DB, account string, emitted [][]string) {
	t.Helper()
	var all []event.Event
	for i := range eventsEach {
		subject := i % subjects
		id := string(webhooks.NewEventID())
		emitted[subject] = append(emitted[subject], id)
		all = append(all, event.Event{
			ID: id, AccountID: account, Type: "killing.survived", Resource: "calls", ObjectID: fmt.Sprintf("subject-%d", subject),
		})
	}
	for _, e := range all { // each its own transaction: they commit in this order
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error { return event.Emit(ctx, tx, e) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// complete waits until every event has come, and checks the order of each subject.
func (s *subscriber) complete(t *testing.T, emitted [][]string) {
	t.Helper()
	missing := func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		for _, ids := range emitted {
			for _, id := range ids {
				if s.times[id] == 0 {
					n++
				}
			}
		}
		if n > 0 {
			return fmt.Sprintf("%d events have not come", n)
		}
		return ""
	}
	eventually(t, 3*time.Minute, missing)
	s.mu.Lock()
	defer s.mu.Unlock()
	again, total := 0, 0
	for subject, ids := range emitted {
		came := s.order[fmt.Sprintf("subject-%d", subject)]
		for i, id := range ids {
			total++
			if s.times[id] > 1 {
				again++
			}
			if i < len(came) && came[i] != id {
				t.Fatalf("subject %d: event %d came out of order", subject, i)
			}
		}
		if len(came) != len(ids) {
			t.Errorf("subject %d: %d events came, %d were emitted", subject, len(came), len(ids))
		}
	}
	t.Logf("%d events, of which %d came more than once", total, again)
}

// export begins an export of all numbers.
func (p *pair) export() (id string) {
	p.t.Helper()
	var made struct{ ID string }
	a := p.ask(p.t, http.MethodPost, "/v1/exports", object{
		"resource": "numbers", "format": "csv", "columns": []string{"number", "external_id"}, "filter": object{},
	}, nil)
	if err := json.Unmarshal(a.body, &made); err != nil || made.ID == "" {
		p.t.Fatalf("%d: %s", a.status, a.body)
	}
	return made.ID
}

// exported waits for an export, and counts the rows of its file, none of which may be there twice.
func (p *pair) exported(id string) int {
	p.t.Helper()
	says := p.reaches("/v1/exports/"+id, "completed")
	var file struct{ URL string }
	a := p.ask(p.t, http.MethodGet, "/v1/exports/"+id+"/file?as=json", nil, nil)
	if err := json.Unmarshal(a.body, &file); err != nil || file.URL == "" {
		p.t.Fatalf("%d: %s", a.status, a.body)
	}
	res, err := rest.Get(file.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	seen := map[string]int{}
	all, twice := -1, 0 // without the heading
	for line := range strings.Lines(string(text)) {
		all++
		if at := strings.Index(line, "imported-"); at >= 0 {
			if name := strings.TrimSpace(strings.TrimRight(line[at:], "\"\r\n")); seen[name] > 0 {
				twice++
			} else {
				seen[name]++
			}
		}
	}
	if twice > 0 || says["rows"] != float64(all) {
		p.t.Errorf("the export says %v rows and has %d, %d of them a second time", says["rows"], all, twice)
	}
	return len(seen)
}
