package controlplane_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The customer whose number must not be seen, and one who does not exist. A national number is a part of the whole one.
const (
	canary   = "+8613912345678"
	national = "13912345678"
	stranger = "+8613787654321"
)

// shows reports whether a text has the canary's number in it, however it is set apart.
func shows(text string) bool {
	bare := strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", "%2B", "", "%20", "").Replace(text)
	return strings.Contains(text, national[1:]) || strings.Contains(bare, national[1:])
}

// Everything that a person can read through the API is read by one from whom numbers are hidden, and who may otherwise
// do everything. Out of reach here, because they come with resources of their own, are what a program does with a number
// that it was given (its webhooks) and what was written into free texts, metadata and data.
func TestHiddenNumbersAppearNowhere(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { hidden(t, found(t, "")) })
	t.Run("postgres", func(t *testing.T) { hidden(t, found(t, dbtest.PostgresURL(t))) })
}

func hidden(t *testing.T, c *company) {
	w := &walk{company: c, spec: load(t)}
	w.masked = c.hire(t, "masked", "", c.role(t, "everything but numbers", []string{"*"}, over("all"), true)).asker
	w.plant(t)
	w.gather(t)

	t.Run("the canary sings to whom numbers are shown", func(t *testing.T) {
		sung := map[string]bool{}
		w.each(t, c.admin, func(o operation, text string) { sung[o.id] = sung[o.id] || shows(text) })
		for _, id := range []string{
			"listCalls", "searchCalls", "getCall", "listCallEvents", "listEvents", "getEvent", "listAuditEntries", "searchAuditEntries", "getAuditEntry",
			"listBlocklistEntries", "searchBlocklistEntries", "getBlocklistEntry", "listNumbers", "getNumber", "listCredentials", "getCredential",
			"listTrunks", "getTrunk", "listImports", "getImport", "getDelivery", "listCustomers", "searchCustomers", "getCustomer",
		} {
			if !sung[id] {
				t.Errorf("%s does not show the number at all: what was planted does not reach it", id)
			}
		}
	})
	t.Run("who may not see it calls the customer by id", w.sold)
	t.Run("no answer shows it", func(t *testing.T) {
		asked := 0
		w.each(t, w.masked, func(o operation, text string) {
			asked++
			if shows(text) {
				t.Errorf("%s shows the number: %.600s", o.id, around(text))
			}
		})
		var unasked []string
		for _, o := range w.operations() {
			if len(w.paths(o.path)) == 0 {
				unasked = append(unasked, o.id)
			}
		}
		t.Logf("%d answers of %d operations; of these there is no object: %v", asked, len(w.operations()), unasked)
	})
	t.Run("no filter tells whether it is there", w.guess)
	t.Run("no export has it", w.export)
	t.Run("no stream has it", w.stream)
	t.Run("no phone is shown it", w.phone)
	t.Run("who wears the mask cannot take it off", w.unmask)
}

// around is a text where it shows the number.
func around(text string) string {
	at := strings.Index(text, national[1:])
	return text[max(0, at-300):min(len(text), max(0, at)+100)]
}

func load(t *testing.T) *openapi.Spec {
	t.Helper()
	spec, err := openapi.Load()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// walk goes through the operations that read.
type walk struct {
	*company
	spec   *openapi.Spec
	masked asker
	seller asker               // a masked agent
	hers   string              // the customer with the number, who is the seller's
	sale   string              // the seller's call to her
	found  map[string][]string // ids by the path that they fill in: /v1/calls/{call_id}
}

// operation is one that reads.
type operation struct {
	id, method, path string
	spec             *openapi3.Operation
}

// operations are those that read, but for streams.
func (w *walk) operations() []operation {
	var all []operation
	for path, item := range w.spec.View.Paths.Map() {
		for method, o := range item.Operations() {
			permission, _ := o.Extensions["x-permission"].(string)
			reads := method == http.MethodGet || strings.HasPrefix(o.OperationID, "search")
			streams := o.Responses.Status(http.StatusOK) != nil && o.Responses.Status(http.StatusOK).Value.Content.Get("text/event-stream") != nil
			if reads && !streams && permission != "none" && !strings.HasPrefix(permission, "platform.") {
				all = append(all, operation{o.OperationID, method, path, o})
			}
		}
	}
	// What is above comes before what is below it, as gather needs it.
	slices.SortFunc(all, func(a, b operation) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.method, b.method))
	})
	return all
}

// plant brings the number wherever a customer's number goes.
func (w *walk) plant(t *testing.T) {
	digits := []webhooks.Event{
		{Type: webhooks.EventGatherCompleted, Data: webhooks.EventData{Verb: "gather", Outcome: "digits", Digits: national}},
	}
	for _, digit := range national {
		digits = append(digits, webhooks.Event{Type: webhooks.EventDTMF, Data: webhooks.EventData{Digit: string(digit)}})
	}
	w.happen(t, "call_in", "rec_in", webhooks.EventData{From: canary, To: "1000", Dialed: "1000", Direction: webhooks.Inbound}, digits...)
	w.happen(t, "call_out", "rec_out", webhooks.EventData{From: "1000", To: canary, Dialed: national, Direction: webhooks.OutboundDial})
	number := w.make(t, "/v1/numbers", map[string]any{"number": canary})
	w.make(t, "/v1/credentials", map[string]any{"extension": "3001", "password": password, "caller_id": canary})
	w.make(t, "/v1/trunks", map[string]any{"name": "carrier", "address": "sip.carrier.example", "networks": []string{"198.51.100.0/24"}, "caller_id": canary})
	entry := w.make(t, "/v1/blocklist_entries", map[string]any{"direction": "in", "kind": "number", "number": national, "action": "block"})
	// Changed, so that the audit has them before and after.
	w.want(t, w.admin, http.StatusOK, nil, http.MethodPatch, "/v1/blocklist_entries/"+entry, map[string]any{"action": "allow"})
	w.want(t, w.admin, http.StatusOK, nil, http.MethodPatch, "/v1/numbers/"+number, map[string]any{"metadata": map[string]any{"a": 1}})
	w.hers = w.make(t, "/v1/customers", map[string]any{
		"name": "欧阳春", "phones": []any{map[string]any{"number": stranger}, map[string]any{"number": national, "label": "手机"}},
	})
	seller := w.hire(t, "seller", "sales", w.role(t, "seller", []string{
		"calls.*", "customers.*", "events.read", "exports.*", "recordings.read", "credentials.read", "audit_entries.read",
	}, over("own"), true))
	w.seller = seller.asker
	w.want(t, w.admin, http.StatusOK, nil, http.MethodPatch, "/v1/customers/"+w.hers, map[string]any{"owner_id": seller.id})
	w.make(t, "/v1/customers", map[string]any{"name": "nobody's", "phones": []any{map[string]any{"number": canary}}})
	w.originate(t)
	endpoint := w.make(t, "/v1/event_endpoints", map[string]any{"url": "https://127.0.0.1:1/", "types": []string{"*"}})
	w.happen(t, "call_told", "rec_told", webhooks.EventData{From: canary, To: "1000", Direction: webhooks.Inbound})
	w.upload(t, "numbers", "number,external_id\n"+canary+",a\n"+national+",b\n")
	w.upload(t, "customers", "name,phones,external_id\na,"+canary+",a\nb,"+national+",b\n")
	eventually(t, "the dry runs", func() bool {
		_, _, text := w.ask(t, w.admin, http.MethodGet, "/v1/imports", nil)
		return strings.Count(text, `"status":"checked"`) == 2
	})
	for _, resource := range []string{"calls", "blocklist_entries"} {
		field := map[string]string{"calls": "from", "blocklist_entries": "number"}[resource]
		id := w.make(t, "/v1/exports", map[string]any{"resource": resource, "format": "csv", "filter": map[string]any{field: canary}})
		w.exported(t, w.admin, id)
	}
	eventually(t, "the events have their places", func() bool {
		_, _, text := w.ask(t, w.admin, http.MethodGet, "/v1/events?limit=1000", nil)
		return strings.Contains(text, "call_out") && strings.Contains(text, "call_told")
	})
	eventually(t, "events are on their way", func() bool {
		_, _, text := w.ask(t, w.admin, http.MethodGet, "/v1/event_endpoints/"+endpoint+"/deliveries", nil)
		return strings.Contains(text, "call_told")
	})
}

// upload imports a table as the administrator, as a trial.
func (w *walk) upload(t *testing.T, resource, table string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range map[string]string{"resource": resource, "dry_run": "true"} {
		if err := form.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	file, err := form.CreateFormFile("file", "customers.csv")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(file, table); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL()+"/v1/imports", &body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.admin.key)
	r.Header.Set("Content-Type", form.FormDataContentType())
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusCreated {
		t.Fatalf("the import: %s %s, %v", answer.Status, text, err)
	}
}

// originate starts calls to the number through the API, with an edge that takes them: the administrator's to the number,
// the seller's to the customer.
func (w *walk) originate(t *testing.T) {
	t.Helper()
	token, err := w.CreateEdgeToken(t.Context(), "far")
	if err != nil {
		t.Fatal(err)
	}
	far := dial(t, w.plane, token)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	orders := make(chan control.Originate, 10)
	serving.Go(func() {
		_ = far.Serve(ctx, "edge_far", &controltest.Edge{OnOriginate: func(_ context.Context, o control.Originate) error {
			orders <- o
			return nil
		}})
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	eventually(t, "an edge takes the call", func() bool {
		if err := far.Beat(t.Context(), control.Beat{EdgeID: "edge_far", BootID: "boot", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		status, _, text := w.ask(t, w.admin, http.MethodPost, "/v1/calls", map[string]any{
			"to": map[string]any{"number": canary}, "from": canary, "program": []any{map[string]any{"verb": "hangup"}},
		})
		if status != http.StatusCreated && status != http.StatusServiceUnavailable {
			t.Fatalf("%d %s", status, text)
		}
		return status == http.StatusCreated
	})
	<-orders
	body := map[string]any{
		"to": map[string]any{"customer_id": w.hers, "phone": 1}, "program": []any{map[string]any{"verb": "dial", "to": []any{map[string]any{"extension": "3001"}}}},
	}
	for range 2 { // the second time the first answer is repeated
		status, header, text := w.ask(t, w.seller, http.MethodPost, "/v1/calls", body, "Idempotency-Key", "sale")
		var made struct {
			ID         string
			CustomerID string `json:"customer_id"`
		}
		if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusCreated || made.CustomerID != w.hers || shows(fmt.Sprint(header)+text) {
			t.Fatalf("the seller's call: %d %v %s", status, header, text)
		}
		w.sale = made.ID
	}
	order := <-orders
	if order.Target.Number != canary || string(order.CustomerID) != w.hers || string(order.CallID) != w.sale || len(orders) > 0 {
		t.Fatalf("the edge is asked for %+v, and %d more", order, len(orders))
	}
	owner := control.Owner{EdgeID: "edge_far", BootID: "boot", Epoch: 1, AccountID: w.seeded.AccountID, CallID: order.CallID}
	w.told(t, owner, "rec_sale", webhooks.EventData{
		From: order.From, To: order.Target.Name(), Dialed: order.Target.Name(), Direction: webhooks.OutboundAPI, CustomerID: order.CustomerID,
	}, webhooks.Event{Type: webhooks.EventGatherCompleted, Data: webhooks.EventData{Verb: "gather", Outcome: "digits", Digits: national}})
}

// sold reads, as the seller, all that there is of the customer and of the call.
func (w *walk) sold(t *testing.T) {
	for _, each := range []struct {
		method, path string
		body         any
		has          string
	}{
		{http.MethodGet, "/v1/customers", nil, w.hers},
		{http.MethodGet, "/v1/customers/" + w.hers, nil, "*********78"},
		{http.MethodPost, "/v1/customers/search", map[string]any{"q": "欧阳"}, w.hers},
		{http.MethodGet, "/v1/calls?expand=customer&customer_id=" + w.hers, nil, w.sale},
		{http.MethodPost, "/v1/calls/search?expand=customer", map[string]any{"filter": map[string]any{"customer_id": w.hers}}, w.sale},
		{http.MethodGet, "/v1/calls/" + w.sale + "?expand=customer", nil, `"customer":{`},
		{http.MethodGet, "/v1/calls/" + w.sale + "/events", nil, `"customer_id":"` + w.hers + `"`},
		{http.MethodGet, "/v1/events?limit=1000", nil, w.sale},
		{http.MethodGet, "/v1/recordings", nil, "rec_sale"},
		{http.MethodGet, "/v1/audit_entries?limit=1000", nil, w.sale},
	} {
		status, header, text := w.ask(t, w.seller, each.method, each.path, each.body)
		if status != http.StatusOK || !strings.Contains(text, each.has) {
			t.Errorf("%s %s: %d, without %s: %s", each.method, each.path, status, each.has, text)
		}
		if shows(fmt.Sprint(header) + text) {
			t.Errorf("%s %s shows the number: %s", each.method, each.path, around(text))
		}
	}
	for _, resource := range []string{"calls", "customers"} {
		var made struct{ ID string }
		w.want(t, w.seller, http.StatusCreated, &made, http.MethodPost, "/v1/exports", map[string]any{"resource": resource, "format": "csv"})
		if text := w.exported(t, w.seller, made.ID); shows(text) || !strings.Contains(text, w.hers) {
			t.Errorf("the seller's export of %s: %s", resource, text)
		}
	}
	// Only those customers that she sees, and nothing that would tell her the number.
	var others struct{ Data []struct{ ID string } }
	w.want(t, w.admin, http.StatusOK, &others, http.MethodGet, "/v1/customers?name=nobody%27s", nil)
	hangUp := []any{map[string]any{"verb": "hangup"}}
	for _, each := range []struct {
		status int
		body   map[string]any
	}{
		{http.StatusUnprocessableEntity, map[string]any{"to": map[string]any{"customer_id": others.Data[0].ID}, "program": hangUp}},
		{http.StatusForbidden, map[string]any{"to": map[string]any{"customer_id": w.hers}, "url": "https://example.com/"}},
		{http.StatusForbidden, map[string]any{"to": map[string]any{"customer_id": w.hers}, "program": []any{map[string]any{"verb": "say", "text": "{{call.to}}"}}}},
		{http.StatusUnprocessableEntity, map[string]any{"to": map[string]any{"customer_id": w.hers, "phone": 2}, "program": hangUp}},
	} {
		if status, _, text := w.ask(t, w.seller, http.MethodPost, "/v1/calls", each.body); status != each.status || shows(text) {
			t.Errorf("%v: %d %s", each.body, status, text)
		}
	}
}

// gather finds, as the administrator, what the parameters of paths can be: the ids of the rows of the list above.
func (w *walk) gather(t *testing.T) {
	w.found = map[string][]string{}
	for _, o := range w.operations() {
		if o.method != http.MethodGet {
			continue
		}
		for _, path := range w.paths(o.path) {
			status, _, text := w.ask(t, w.admin, http.MethodGet, path, nil)
			var page struct{ Data []map[string]any }
			if status != http.StatusOK || json.Unmarshal([]byte(text), &page) != nil {
				continue
			}
			for below := range w.spec.View.Paths.Map() {
				name, ok := strings.CutPrefix(below, o.path+"/{")
				if name = strings.TrimSuffix(name, "}"); !ok || strings.Contains(name, "/") {
					continue
				}
				for _, row := range page.Data {
					for _, key := range []string{"id", name} {
						if id, ok := row[key].(string); ok && len(w.found[path+"/{"+name+"}"]) < 40 {
							w.found[path+"/{"+name+"}"] = append(w.found[path+"/{"+name+"}"], id)
						}
					}
				}
			}
		}
	}
}

// paths fills in the parameters of a path, in all ways that are known.
func (w *walk) paths(template string) []string {
	filled := []string{""}
	for _, part := range strings.Split(strings.TrimPrefix(template, "/"), "/") {
		var next []string
		for _, path := range filled {
			if !strings.HasPrefix(part, "{") {
				next = append(next, path+"/"+part)
				continue
			}
			for _, id := range w.found[path+"/"+part] {
				next = append(next, path+"/"+url.PathEscape(id))
			}
		}
		filled = next
	}
	return filled
}

// each asks every operation that reads, for every object there is, and gives the answers with their headers. Of required
// parameters it knows those of numbers.
func (w *walk) each(t *testing.T, as asker, fn func(o operation, text string)) {
	t.Helper()
	for _, o := range w.operations() {
		for _, path := range w.paths(o.path) {
			query := url.Values{}
			for _, p := range o.spec.Parameters {
				switch {
				case p.Value.In != openapi3.ParameterInQuery:
				case p.Value.Name == "limit":
					query.Set("limit", "100")
				case p.Value.Required && p.Value.Name == "number":
					query.Set("number", stranger)
				case p.Value.Required && len(p.Value.Schema.Value.Enum) > 0:
					query.Set(p.Value.Name, fmt.Sprint(p.Value.Schema.Value.Enum[0]))
				}
			}
			var body any
			if o.method == http.MethodPost {
				body = map[string]any{"limit": 100}
			}
			status, header, text := w.ask(t, as, o.method, path+"?"+query.Encode(), body)
			if status >= http.StatusInternalServerError {
				t.Errorf("%s %s: %d %s", o.method, path, status, text)
			}
			fn(o, fmt.Sprint(header)+text)
		}
	}
}

// guess asks every list for the number and for one that is nowhere, by every filter that takes a text, by the search and
// by the sort: the answers must be alike, or the number could be found out digit by digit.
func (w *walk) guess(t *testing.T) {
	outcome := func(method, path string, body any) string {
		status, _, text := w.ask(t, w.masked, method, path, body)
		var page struct{ Data []any }
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Errorf("%s %s: %v", method, path, err)
		}
		if status >= http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
		return fmt.Sprintf("%d with %d rows", status, len(page.Data))
	}
	asked := 0
	for _, o := range w.operations() {
		fields := map[string]bool{}
		for _, p := range o.spec.Parameters {
			if p.Value.In == openapi3.ParameterInQuery && p.Value.Schema.Value.Type.Is("string") && !p.Value.Required {
				fields[p.Value.Name] = true
			}
		}
		if !strings.HasPrefix(o.id, "list") && !strings.HasPrefix(o.id, "search") {
			continue
		}
		if o.method == http.MethodPost {
			fields = w.properties(o)
		}
		for _, path := range w.paths(o.path) {
			for _, field := range slices.Sorted(maps.Keys(fields)) {
				for _, part := range []string{canary, national, national[:7], canary[len(canary)-4:]} {
					other := strings.Map(func(r rune) rune {
						if r >= '0' && r <= '9' {
							return '0' + (r-'0'+3)%10
						}
						return r
					}, part)
					ask := func(value string) string {
						if o.method == http.MethodGet {
							return outcome(o.method, path+"?"+url.Values{field: {value}}.Encode(), nil)
						}
						if field == "q" {
							return outcome(o.method, path, map[string]any{"q": value})
						}
						return outcome(o.method, path, map[string]any{"filter": map[string]any{field: value}})
					}
					asked++
					if a, b := ask(part), ask(other); a != b {
						t.Errorf("%s %s by %s: %s for %s, %s for %s", o.method, path, field, a, part, b, other)
					}
				}
			}
		}
	}
	t.Logf("%d questions", asked)
}

// properties are the fields of the rows of a search, by which it might be filtered, and q.
func (w *walk) properties(o operation) map[string]bool {
	fields := map[string]bool{"q": true}
	rows := o.spec.Responses.Status(http.StatusOK).Value.Content.Get("application/json").Schema.Value.Properties["data"]
	for name := range rows.Value.Items.Value.Properties {
		fields[name] = true
	}
	return fields
}

// exported waits until an export is made, and gives its file.
func (w *walk) exported(t *testing.T, as asker, id string) string {
	t.Helper()
	eventually(t, "the export "+id, func() bool {
		var e struct{ Status string }
		w.want(t, as, http.StatusOK, &e, http.MethodGet, "/v1/exports/"+id, nil)
		if e.Status == "failed" {
			t.Fatalf("export %s has failed", id)
		}
		return e.Status == "completed"
	})
	_, header, text := w.ask(t, as, http.MethodGet, "/v1/exports/"+id+"/file", nil)
	link := header.Get("Location")
	if link == "" {
		t.Fatalf("the file of export %s: %s", id, text)
	}
	if shows(link) && as != w.admin {
		t.Errorf("the name of the file shows the number: %s", link)
	}
	_, header, text = w.ask(t, asker{}, http.MethodGet, strings.TrimPrefix(link, w.URL()), nil)
	if shows(fmt.Sprint(header)) && as != w.admin {
		t.Errorf("the headers of the file show the number: %s", header)
	}
	return text
}

// export exports whatever can be exported, and calls in every format.
func (w *walk) export(t *testing.T) {
	var all struct {
		Data []struct{ Resource, Name string }
	}
	w.want(t, w.masked, http.StatusOK, &all, http.MethodGet, "/v1/exports/resources", nil)
	if len(all.Data) == 0 {
		t.Fatal("there is nothing to export")
	}
	exported := 0
	for _, each := range all.Data {
		resource := each.Resource + each.Name
		formats := []string{"jsonl"}
		if resource == "calls" {
			formats = []string{"csv", "xlsx", "jsonl"}
		}
		for _, format := range formats {
			status, _, text := w.ask(t, w.masked, http.MethodPost, "/v1/exports", map[string]any{"resource": resource, "format": format})
			if status == http.StatusForbidden { // the operator's
				continue
			}
			var made struct{ ID string }
			if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusCreated {
				t.Fatalf("%s as %s: %d %s", resource, format, status, text)
			}
			exported++
			text = w.exported(t, w.masked, made.ID)
			if format == "xlsx" {
				text = unzip(t, text)
			}
			if shows(text) {
				t.Errorf("%s as %s shows the number: %s", resource, format, around(text))
			}
		}
	}
	t.Logf("%d exports", exported)
}

// unzip gives all that is in an archive.
func unzip(t *testing.T, text string) string {
	t.Helper()
	archive, err := zip.NewReader(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range archive.File {
		part, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, part); err != nil {
			t.Fatal(err)
		}
		_ = part.Close()
	}
	return all.String()
}

// stream follows the events from the first to the last one there is.
func (w *walk) stream(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL()+"/v1/events/stream?last_event_id=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", w.masked.cookie)
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s", answer.Status)
	}
	last := "call_told"
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if shows(lines.Text()) {
			t.Errorf("the stream shows the number: %s", lines.Text())
		}
		if strings.Contains(lines.Text(), last) && strings.Contains(lines.Text(), "call.ended") {
			return
		}
	}
	t.Error("the stream ended before the last event")
}

// unmask tries all that would give its wearer, or somebody he makes, the numbers.
// phone asks as an edge does that calls two phones for a customer: one of somebody from whom numbers are hidden, one not.
func (w *walk) phone(t *testing.T) {
	w.hire(t, "open", "", w.role(t, "numbers shown", []string{"calls.read"}, over("own"), false))
	w.people["masked"] = &person{asker: w.masked, id: w.idOf(t, w.masked)}
	for i, login := range []string{"masked", "open"} {
		extension := fmt.Sprint(7001 + i)
		credential := w.make(t, "/v1/credentials", map[string]any{"extension": extension, "password": password})
		w.make(t, "/v1/agents", map[string]any{"user_id": w.people[login].id, "credential_id": credential})
		_, err := w.edge.Register(t.Context(), control.Registration{
			EdgeID: "edge_1", AccountID: w.seeded.AccountID, CredentialID: webhooks.CredentialID(credential), SIPCallID: extension, CSeq: 1,
			Source: netip.MustParseAddrPort("198.51.100.7:5060"), Transport: "udp", Contacts: []control.Contact{{URI: "sip:" + extension + "@198.51.100.7", Expires: 600}},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.edge.Resolve(t.Context(), control.ResolveQuery{
			AccountID: w.seeded.AccountID, EdgeID: "edge_1", Target: webhooks.DialTarget{Extension: extension}, From: stranger, // the canary is planted as a number of the account
		})
		if err != nil || len(got.Hops) != 1 {
			t.Fatalf("%s: %+v, %v", login, got, err)
		}
		if shown := got.Hops[0].Shown; (shown == "") != (login == "open") || strings.Contains(shown, stranger[5:len(stranger)-2]) {
			t.Errorf("the phone of %q is shown %q", login, shown)
		}
	}
}

// idOf is the id of the user who is signed in.
func (w *walk) idOf(t *testing.T, as asker) string {
	t.Helper()
	var me struct {
		User struct{ ID string }
	}
	w.want(t, as, http.StatusOK, &me, http.MethodGet, "/v1/me", nil)
	return me.User.ID
}

func (w *walk) unmask(t *testing.T) {
	open := w.role(t, "everything", []string{"*"}, over("all"), false)
	mask := w.role(t, "the mask", []string{}, over("own"), true)
	p := w.hire(t, "both", "", open, mask)
	for _, try := range []struct {
		method, path string
		body         map[string]any
	}{
		{http.MethodPost, "/v1/roles", map[string]any{"name": "x", "permissions": []string{"calls.read"}}},
		{http.MethodPost, "/v1/roles/" + open + "/copies", map[string]any{"name": "x"}},
		{http.MethodPatch, "/v1/roles/" + mask, map[string]any{"masks": map[string]any{"numbers": false}}},
		{http.MethodPatch, "/v1/users/" + p.id, map[string]any{"role_ids": []string{open}}},
		{http.MethodPost, "/v1/users", map[string]any{"login": "friend", "name": "friend", "role_ids": []string{open}}},
		{http.MethodPost, "/v1/api_keys", map[string]any{"name": "x", "permissions": []string{"calls.read"}}},
		{http.MethodPost, "/v1/event_endpoints", map[string]any{"url": "https://example.com/", "types": []string{"*"}}},
	} {
		status, _, text := w.ask(t, p.asker, try.method, try.path, try.body)
		if status != http.StatusForbidden && status != http.StatusUnprocessableEntity {
			t.Errorf("%s %s %v: %d %s", try.method, try.path, try.body, status, text)
		}
	}
	var me struct{ Masks struct{ Numbers bool } }
	w.want(t, p.asker, http.StatusOK, &me, http.MethodGet, "/v1/me", nil)
	if !me.Masks.Numbers {
		t.Error("the mask is off")
	}
	// One who wears it may dress others so.
	w.want(t, p.asker, http.StatusCreated, nil, http.MethodPost, "/v1/users", map[string]any{"login": "other", "name": "other", "role_ids": []string{open, mask}})
}
