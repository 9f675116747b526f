package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	// A circuit breaker opens at the tenth failure in a row, and then nothing is asked any more. So each application that
	// fails gets fewer calls than that.
	callsOfBroken = 8
	// An account may have 100 requests on their way, and one that drips takes 5 s. With so many accounts none waits.
	failingTenants = 8
	// mostFailureRate is in calls a second: more would have requests wait for those before them.
	mostFailureRate = 100 * failingTenants / 5 * 3 / 4

	referenceNumber = "+862368925207" // its calls play the apology
)

// apologyProgram plays what the failure path ends with.
const apologyProgram = `{"instructions":[{"verb":"answer"},{"verb":"play","media_id":"sys_apology"},{"verb":"hangup"}]}`

// failurePhase measures when callers hear that an application fails, for each way in which it may. The edge is apart, and may
// reach 127.0.0.1 but not 127.0.0.2.
func failurePhase(ctx context.Context, s webhookSettings, out sheet) (err error) {
	fmt.Printf("\nFailing applications: %d calls for each way, %d a second, the halves apart\n", s.failures, s.failureRate)
	server, stop, err := startApart(ctx, s.binary)
	if err != nil {
		return err
	}
	defer stop()
	f, err := newField(ctx, server, s.binary, failingTenants)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	apology, err := f.apology(ctx)
	if err != nil {
		return err
	}
	outside, err := newForbidden(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, outside.close()) }()
	for i, how := range breakages() {
		p := &failing{field: f, how: how, nth: i, apology: apology, applications: map[*tenant][]string{}}
		// At the end: the port of one that is closed might become another's, with what its breaker has counted.
		defer func() { err = errors.Join(err, p.close()) }()
		if failed := p.run(ctx, s, outside.url, out); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", how.name, failed))
		}
	}
	if n := outside.reached.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("an address that is not allowed was reached %d times", n))
	}
	return err
}

// apology is how what callers are to hear begins.
func (f *field) apology(ctx context.Context) ([]byte, error) {
	t := f.tenants[0]
	if _, err := t.answers(ctx, referenceNumber, map[string]any{"program": json.RawMessage(apologyProgram)}); err != nil {
		return nil, err
	}
	all, err := f.place(ctx, 1, 1, func(int) (outgoing, error) { return t.dial(referenceNumber) })
	if err != nil {
		return nil, err
	}
	if _, err := times(all); err != nil {
		return nil, fmt.Errorf("the call that plays the apology: %w", err)
	}
	heard := f.hear.collect(all[0])
	if heard == nil {
		return nil, errors.New("the apology was not heard where a program plays it")
	}
	return heard.frames, heard.problem(heard.frames)
}

// failing is the calls to applications that fail in one way.
type failing struct {
	field   *field
	how     breakage
	nth     int
	apology []byte

	broken       []*broken
	numbers      []string             // one of each
	applications map[*tenant][]string // ids
}

func (p *failing) close() error {
	var err error
	for _, b := range p.broken {
		err = errors.Join(err, b.close())
	}
	return err
}

// tenantOf is whose application the i-th is.
func (p *failing) tenantOf(i int) *tenant { return p.field.tenants[i%len(p.field.tenants)] }

// prepare makes as many applications that fail as there must be.
func (p *failing) prepare(ctx context.Context, calls int, outside string) error {
	for i := range (calls + callsOfBroken - 1) / callsOfBroken {
		b, err := newBroken(ctx, p.how, outside)
		if err != nil {
			return err
		}
		p.broken = append(p.broken, b)
		number := numberOf("+8617", p.nth*1_000_000+i)
		id, err := p.tenantOf(i).answers(ctx, number, map[string]any{"voice_url": b.url})
		if err != nil {
			return err
		}
		p.numbers = append(p.numbers, number)
		p.applications[p.tenantOf(i)] = append(p.applications[p.tenantOf(i)], id)
	}
	return nil
}

func (p *failing) run(ctx context.Context, s webhookSettings, outside string, out sheet) error {
	if err := p.prepare(ctx, s.failures, outside); err != nil {
		return err
	}
	all, err := p.field.place(ctx, s.failures, s.failureRate, func(i int) (outgoing, error) {
		at := i % len(p.numbers)
		return p.tenantOf(at).dial(p.numbers[at])
	})
	if err != nil {
		return err
	}
	var h heard
	for _, c := range all {
		h.add(c.code, p.field.hear.collect(c), p.apology)
	}
	h.set(p.how.name, out)
	told, err := p.told(ctx, len(all))
	return errors.Join(h.err(), err, told.problem(p.how.code, len(all)))
}

// heard is what the callers of applications that fail have heard.
type heard struct {
	took  []time.Duration // from INVITE to the first sample of the apology
	wrong map[string]int  // calls that heard no apology, by what is wrong
}

// add counts one call: how its INVITE was answered, and what was heard, of which apology is to be the beginning.
func (h *heard) add(code int, s *sound, apology []byte) {
	problem := s.problem(apology)
	if code != http.StatusOK { // as in SIP
		problem = fmt.Errorf("it was not answered: %d", code)
	}
	if problem == nil {
		h.took = append(h.took, s.first)
		return
	}
	if h.wrong == nil {
		h.wrong = map[string]int{}
	}
	h.wrong[problem.Error()]++
}

// inTime counts the calls that heard it by when they must.
func (h *heard) inTime(most time.Duration) int {
	n := 0
	for _, d := range h.took {
		if d <= most {
			n++
		}
	}
	return n
}

// missing counts the calls that heard no apology.
func (h *heard) missing() int {
	n := 0
	for _, calls := range h.wrong {
		n += calls
	}
	return n
}

func (h *heard) err() error {
	if h.missing() == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d calls: %v", h.missing(), h.missing()+len(h.took), h.wrong)
}

func (h *heard) set(name string, out sheet) {
	const most = 6 * time.Second
	slices.Sort(h.took)
	calls, good := h.missing()+len(h.took), h.inTime(most)
	out.set(name+": apology heard, p50 / worst; in time", "≤ 6 s in all of "+thousands(calls),
		fmt.Sprintf("%.3f / %.3f s; %s", quantile(h.took, .5).Seconds(), quantile(h.took, 1).Seconds(), thousands(good)), good == calls)
}

// told is what the REST API says of calls.
type told struct {
	causes map[webhooks.Cause]int
	codes  map[string]int // of the events that tell of a failed webhook
}

// problem says what is not as it must be of calls whose webhooks fail with a code.
func (t told) problem(code string, calls int) error {
	if t.causes[webhooks.CauseWebhookFailed] == calls && t.codes[code] == calls && len(t.causes) == 1 && len(t.codes) == 1 {
		return nil
	}
	return fmt.Errorf("of %d calls the records say %v, which must be %s, and the events %v, which must be %s", calls, t.causes, webhooks.CauseWebhookFailed, t.codes, code)
}

// record is a call as the REST API gives it, as far as it is looked at.
type record struct {
	ID    string         `json:"id"`
	Cause webhooks.Cause `json:"cause"`
}

// told asks for the records of all calls to the applications, once they have ended, and for their events.
func (p *failing) told(ctx context.Context, calls int) (told, error) {
	t := told{map[webhooks.Cause]int{}, map[string]int{}}
	var found map[*tenant][]record
	var err error
	for range 30 {
		if found, err = p.records(ctx); err != nil {
			return t, err
		}
		if ended(found) >= calls {
			break
		}
		time.Sleep(time.Second)
	}
	for tenant, records := range found {
		for _, r := range records {
			t.causes[cmp.Or(r.Cause, "(not ended)")]++
		}
		codes, err := tenant.api.codes(ctx, records)
		if err != nil {
			return t, err
		}
		for _, code := range codes {
			t.codes[code]++
		}
	}
	return t, nil
}

// records are those of all calls to the applications.
func (p *failing) records(ctx context.Context) (map[*tenant][]record, error) {
	found := map[*tenant][]record{}
	for tenant, applications := range p.applications {
		for _, id := range applications {
			var page struct{ Data []record }
			if err := tenant.api.do(ctx, http.MethodGet, "/v1/calls?limit=1000&application_id="+url.QueryEscape(id), "", nil, &page); err != nil {
				return nil, err
			}
			found[tenant] = append(found[tenant], page.Data...)
		}
	}
	return found, nil
}

// ended counts the calls that are over.
func ended(found map[*tenant][]record) int {
	n := 0
	for _, records := range found {
		for _, r := range records {
			if r.Cause != "" {
				n++
			}
		}
	}
	return n
}

// codes gives, of each call's events, what is said of its webhook: the codes of those that tell of a failure, as one.
func (s *server) codes(ctx context.Context, records []record) ([]string, error) {
	codes := make([]string, len(records))
	limit := make(chan struct{}, 4)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i, r := range records {
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			code, err := s.code(ctx, r.ID)
			mu.Lock()
			defer mu.Unlock()
			codes[i], failed = code, errors.Join(failed, err)
		})
	}
	wait.Wait()
	return codes, failed
}

func (s *server) code(ctx context.Context, call string) (string, error) {
	var page struct{ Data []webhooks.Event }
	query := url.Values{"type": {string(webhooks.EventWebhookFailed), string(webhooks.EventWebhookRejected)}}
	if err := s.do(ctx, http.MethodGet, "/v1/calls/"+call+"/events?"+query.Encode(), "", nil, &page); err != nil {
		return "", err
	}
	code := ""
	for _, e := range page.Data {
		if code != "" {
			code += " "
		}
		code += e.Data.Code
	}
	return cmp.Or(code, "(none)"), nil
}
