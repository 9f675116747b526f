package calltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/sip"
	"github.com/hookswitch/hookswitch/webhooks"
)

// What belongs to everyone on a bench.
const (
	Account = webhooks.AccountID("acc_00000000000000000000000001")
	EdgeID  = webhooks.EdgeID("edge_00000000000000000000000001")
	Realm   = "example.test"
)

// ErrAway is what every question to the control plane fails with while it is away.
var ErrAway = errors.New("the control plane is away")

// Plane stands for the control plane: it implements control.Control in memory. A function that is set answers
// instead of the plane; everything else may be used from any goroutine.
type Plane struct {
	OnCredential func(control.CredentialQuery) (control.Credential, error)
	OnRoute      func(control.Incoming) (control.Route, error)
	OnRegister   func(control.Registration) (control.Registered, error)
	OnResolve    func(control.ResolveQuery) (control.Resolved, error)
	OnUpload     func(control.Upload) (control.UploadGrant, error)
	OnFinish     func(control.Finish) (control.Finished, error)
	OnPublish    func(control.Batch) (control.Published, error)

	// KeepFor goes into every route.
	KeepFor webhooks.Seconds
	// Customer goes into every route, as the one who calls.
	Customer webhooks.CustomerID
	// TimeLimit goes into every route.
	TimeLimit webhooks.Seconds
	// Language goes into every route; "en" when empty.
	Language string

	t     testing.TB
	phone func(name string) *Phone
	agent func(id string) *Phone

	mu         sync.Mutex // guards what follows
	away       bool
	numbers    map[string]control.Application
	calls      map[webhooks.CallID][]webhooks.Event
	order      []webhooks.CallID
	late       []webhooks.Event // numbered 0: after call.ended
	segments   map[string][]byte
	finished   map[webhooks.RecordingID]control.Finish
	registered []control.Registration
	beats      int
	verbs      verbsOfPlane
	queues     scriptedQueues
	links      scriptedLinks
	addresses  map[webhooks.EdgeID]netip.AddrPort // of edges, for each other
	carried    map[webhooks.CallID]webhooks.EdgeID
}

func newPlane(t testing.TB) *Plane {
	return &Plane{
		t: t, numbers: map[string]control.Application{}, calls: map[webhooks.CallID][]webhooks.Event{},
		segments: map[string][]byte{}, finished: map[webhooks.RecordingID]control.Finish{},
	}
}

// Away makes the control plane unreachable, or brings it back.
func (p *Plane) Away(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

// Number binds a number to an application.
func (p *Plane) Number(number string, app control.Application) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.numbers[number] = app
}

func (p *Plane) reachable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return ErrAway
	}
	return nil
}

// Credential implements control.Control: every phone's name is its user name.
func (p *Plane) Credential(_ context.Context, q control.CredentialQuery) (control.Credential, error) {
	if err := p.reachable(); err != nil {
		return control.Credential{}, err
	}
	if p.OnCredential != nil {
		return p.OnCredential(q)
	}
	phone := p.phone(q.Username)
	if phone == nil {
		return control.Credential{Realm: Realm}, nil
	}
	return control.Credential{
		Found: true, Realm: Realm, AccountID: Account, CredentialID: webhooks.CredentialID("cred_" + phone.Name),
		HA1MD5:    sip.HA1(sip.MD5, phone.Name, Realm, phone.Password),
		HA1SHA256: sip.HA1(sip.SHA256, phone.Name, Realm, phone.Password),
	}, nil
}

// Route implements control.Control by the table of numbers.
func (p *Plane) Route(_ context.Context, in control.Incoming) (control.Route, error) {
	if err := p.reachable(); err != nil {
		return control.Route{}, err
	}
	if p.OnRoute != nil {
		return p.OnRoute(in)
	}
	p.mu.Lock()
	app, ok := p.numbers[in.ToUser]
	p.mu.Unlock()
	if !ok {
		return control.Route{}, &control.Error{Code: control.CodeNotFound, Message: in.ToUser + " is not bound to an application"}
	}
	language := p.Language
	if language == "" {
		language = "en"
	}
	var agent webhooks.AgentID
	if phone := p.phone(in.FromUser); phone != nil {
		agent = phone.Agent
	}
	return control.Route{
		AgentID: agent, AccountID: Account, Application: app, From: in.FromUser, To: in.ToUser, Dialed: in.ToUser,
		CredentialID: in.CredentialID, Language: language, KeepFor: p.KeepFor, TimeLimit: p.TimeLimit, CustomerID: p.Customer,
	}, nil
}

// Register implements control.Control: what is asked for stands.
func (p *Plane) Register(_ context.Context, r control.Registration) (control.Registered, error) {
	if err := p.reachable(); err != nil {
		return control.Registered{}, err
	}
	if p.OnRegister != nil {
		return p.OnRegister(r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.registered = append(p.registered, r)
	return control.Registered{Contacts: r.Contacts}, nil
}

// Registrations returns what phones have registered.
func (p *Plane) Registrations() []control.Registration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.registered)
}

// Resolve implements control.Control: an extension is the phone of that name, an agent that agent's phone, a number the phone of that name behind
// a trunk, a SIP URI itself.
func (p *Plane) Resolve(_ context.Context, q control.ResolveQuery) (control.Resolved, error) {
	if err := p.reachable(); err != nil {
		return control.Resolved{}, err
	}
	if p.OnResolve != nil {
		return p.OnResolve(q)
	}
	caller := q.CallerID
	if caller == "" {
		caller = q.From
	}
	if q.Target.SIP != "" {
		return control.Resolved{Hops: []control.Hop{{Kind: control.KindSIP, URI: q.Target.SIP, To: q.Target.SIP, CallerID: caller}}}, nil
	}
	phone := p.phone(q.Target.Name())
	if q.Target.Agent != "" {
		phone = p.agent(q.Target.Agent)
	}
	if phone == nil {
		return control.Resolved{}, &control.Error{Code: control.CodeUnreachable, Message: "nobody is registered", Cause: webhooks.CauseUnreachable}
	}
	return control.Resolved{Hops: []control.Hop{phone.Hop(caller)}}, nil
}

// Media implements control.Control: there are no uploaded files.
func (p *Plane) Media(_ context.Context, q control.MediaQuery) (control.MediaGrant, error) {
	return control.MediaGrant{}, &control.Error{Code: control.CodeNotFound, Message: "there is no media file " + q.ID}
}

// storeURL is where recordings are shipped to.
const storeURL = "http://store.test/"

// Upload implements control.Control.
func (p *Plane) Upload(_ context.Context, u control.Upload) (control.UploadGrant, error) {
	if err := p.reachable(); err != nil {
		return control.UploadGrant{}, err
	}
	if p.OnUpload != nil {
		return p.OnUpload(u)
	}
	return control.UploadGrant{URL: storeURL + segmentName(u.RecordingID, u.Segment)}, nil
}

func segmentName(id webhooks.RecordingID, n int) string { return string(id) + "/" + strconv.Itoa(n) }

// RoundTrip implements http.RoundTripper: it is the store that presigned PUTs lead to.
func (p *Plane) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := p.reachable(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("read the segment: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.segments[strings.TrimPrefix(req.URL.Path, "/")] = body
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: http.NoBody, Request: req, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// Finish implements control.Control.
func (p *Plane) Finish(_ context.Context, f control.Finish) (control.Finished, error) {
	if err := p.reachable(); err != nil {
		return control.Finished{}, err
	}
	if p.OnFinish != nil {
		return p.OnFinish(f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished[f.RecordingID] = f
	return control.Finished{Size: 44 + 2*f.Samples*int64(f.Channels), Duration: webhooks.Seconds(float64(f.Samples) / 8000)}, nil
}

// Recording returns the octets of a finished recording, cut to its length, and what was said of it.
func (p *Plane) Recording(id webhooks.RecordingID) (octets []byte, f control.Finish, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok = p.finished[id]
	if !ok {
		return nil, f, false
	}
	for n := 1; n <= f.Segments; n++ {
		octets = append(octets, p.segments[segmentName(id, n)]...)
	}
	most := f.Samples * int64(f.Channels)
	if int64(len(octets)) < most {
		p.t.Errorf("recording %s: %d octets were shipped of %d", id, len(octets), most)
		return octets, f, true
	}
	return octets[:most], f, true
}

// Publish implements control.Control as strictly as the contract: what is stored already is passed over, and a gap is
// answered with what is expected, and fails the test.
func (p *Plane) Publish(_ context.Context, b control.Batch) (control.Published, error) {
	if err := p.reachable(); err != nil {
		return control.Published{}, err
	}
	if p.OnPublish != nil {
		return p.OnPublish(b)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.carried == nil {
		p.carried = map[webhooks.CallID]webhooks.EdgeID{}
	}
	p.carried[b.CallID] = b.EdgeID
	for _, e := range b.Events {
		p.store(b, e)
	}
	return control.Published{Expect: int64(len(p.calls[b.CallID])) + 1}, nil
}

func (p *Plane) store(b control.Batch, e webhooks.Event) {
	switch stored := p.calls[e.CallID]; {
	case e.CallID != b.CallID || e.AccountID != b.AccountID:
		p.t.Errorf("%s of %s was published for %s", e.Type, e.CallID, b.CallID)
	case e.Sequence == 0:
		p.late = append(p.late, e)
	case e.Sequence <= int64(len(stored)): // told again
	case e.Sequence > int64(len(stored))+1:
		p.t.Errorf("event %d (%s) of %s came after %d", e.Sequence, e.Type, e.CallID, len(stored))
	default:
		if len(stored) == 0 {
			p.order = append(p.order, e.CallID)
		}
		p.calls[e.CallID] = append(stored, e)
	}
}

// Published returns the stored events of all calls, call by call.
func (p *Plane) Published() []webhooks.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []webhooks.Event
	for _, id := range p.order {
		all = append(all, p.calls[id]...)
	}
	return append(all, p.late...)
}

// Beat implements control.Control.
func (p *Plane) Beat(_ context.Context, b control.Beat) error {
	if err := p.reachable(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beats++
	if p.addresses == nil {
		p.addresses = map[webhooks.EdgeID]netip.AddrPort{}
	}
	p.addresses[b.EdgeID] = b.SIP
	return nil
}

// check holds what must be true of every call when its edge has ended: one end, and nothing after it. Of an edge that
// ended while the control plane was away nothing can be said yet.
func (p *Plane) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return
	}
	p.checkQueues()
	for _, id := range slices.Sorted(maps.Keys(p.calls)) {
		ends := 0
		events := p.calls[id]
		for _, e := range events {
			if e.Type == webhooks.EventCallEnded {
				ends++
			}
		}
		if ends != 1 || events[len(events)-1].Type != webhooks.EventCallEnded {
			p.t.Errorf("call %s ended %d times: %s", id, ends, kinds(events))
		}
	}
}

func kinds(events []webhooks.Event) string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = string(e.Type)
	}
	return strings.Join(names, " ")
}

// Program reads a program as an application would answer it.
func Program(t testing.TB, text string) *webhooks.Program {
	t.Helper()
	var p webhooks.Program
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("program: %v", err)
	}
	return &p
}
