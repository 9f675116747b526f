// Package controltest owns the suite that every way of joining the two halves must pass, and the scripted halves it
// joins. What the control plane decides is tested where it decides it.
package controltest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Control is a control plane of function fields; a nil one refuses as not_found.
type Control struct {
	OnCredential      func(context.Context, control.CredentialQuery) (control.Credential, error)
	OnRoute           func(context.Context, control.Incoming) (control.Route, error)
	OnRegister        func(context.Context, control.Registration) (control.Registered, error)
	OnResolve         func(context.Context, control.ResolveQuery) (control.Resolved, error)
	OnMedia           func(context.Context, control.MediaQuery) (control.MediaGrant, error)
	OnUpload          func(context.Context, control.Upload) (control.UploadGrant, error)
	OnFinish          func(context.Context, control.Finish) (control.Finished, error)
	OnPublish         func(context.Context, control.Batch) (control.Published, error)
	OnBeat            func(context.Context, control.Beat) error
	OnPlaceConference func(context.Context, control.ConferenceQuery) (control.ConferencePlace, error)
	OnRedeemLink      func(context.Context, control.Ticket) (control.Link, error)
	OnFindLeg         func(context.Context, control.LegQuery) (control.LegPlace, error)
	Verbs
	Queues
}

// Edge is an edge of function fields; a nil one refuses as not_found.
type Edge struct {
	OnOriginate func(context.Context, control.Originate) error
	OnAct       func(context.Context, control.Action) error
}

var (
	_ control.Control = (*Control)(nil)
	_ control.Edge    = (*Edge)(nil)
)

func call[Q, A any](ctx context.Context, fn func(context.Context, Q) (A, error), q Q) (A, error) {
	if fn == nil {
		var none A
		return none, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("nothing is scripted for %T", q)}
	}
	return fn(ctx, q)
}

func told[Q any](ctx context.Context, fn func(context.Context, Q) error, q Q) error {
	if fn == nil {
		return &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("nothing is scripted for %T", q)}
	}
	return fn(ctx, q)
}

// Credential and the others run the function scripted for them.
func (c *Control) Credential(ctx context.Context, q control.CredentialQuery) (control.Credential, error) {
	return call(ctx, c.OnCredential, q)
}
func (c *Control) Route(ctx context.Context, q control.Incoming) (control.Route, error) {
	return call(ctx, c.OnRoute, q)
}
func (c *Control) Register(ctx context.Context, q control.Registration) (control.Registered, error) {
	return call(ctx, c.OnRegister, q)
}
func (c *Control) Resolve(ctx context.Context, q control.ResolveQuery) (control.Resolved, error) {
	return call(ctx, c.OnResolve, q)
}
func (c *Control) Media(ctx context.Context, q control.MediaQuery) (control.MediaGrant, error) {
	return call(ctx, c.OnMedia, q)
}
func (c *Control) Upload(ctx context.Context, q control.Upload) (control.UploadGrant, error) {
	return call(ctx, c.OnUpload, q)
}
func (c *Control) Finish(ctx context.Context, q control.Finish) (control.Finished, error) {
	return call(ctx, c.OnFinish, q)
}
func (c *Control) Publish(ctx context.Context, q control.Batch) (control.Published, error) {
	return call(ctx, c.OnPublish, q)
}

// PlaceConference runs OnPlaceConference.
func (c *Control) PlaceConference(ctx context.Context, q control.ConferenceQuery) (control.ConferencePlace, error) {
	return call(ctx, c.OnPlaceConference, q)
}

// RedeemLink runs OnRedeemLink.
func (c *Control) RedeemLink(ctx context.Context, t control.Ticket) (control.Link, error) {
	return call(ctx, c.OnRedeemLink, t)
}

// FindLeg runs OnFindLeg.
func (c *Control) FindLeg(ctx context.Context, q control.LegQuery) (control.LegPlace, error) {
	return call(ctx, c.OnFindLeg, q)
}

func (c *Control) Beat(ctx context.Context, q control.Beat) error { return told(ctx, c.OnBeat, q) }

// Originate and Act run the function scripted for them.
func (e *Edge) Originate(ctx context.Context, o control.Originate) error {
	return told(ctx, e.OnOriginate, o)
}
func (e *Edge) Act(ctx context.Context, a control.Action) error { return told(ctx, e.OnAct, a) }

// Join puts a way of talking between two halves: it returns the control plane as the edge sees it, and the edge as
// the control plane sees it, ready for use until the test ends.
type Join func(t *testing.T, c control.Control, e control.Edge) (control.Control, control.Edge)

// Suite runs the tests of the seam over one way of joining its halves.
func Suite(t *testing.T, join Join) {
	t.Run("every message arrives whole and is answered", func(t *testing.T) { everyMessage(t, join) })
	t.Run("so does every message of the verbs", func(t *testing.T) { everyVerb(t, join) })
	t.Run("refusals keep their code, realm and cause", func(t *testing.T) { refusals(t, join) })
	t.Run("other errors are no refusals", func(t *testing.T) { otherErrors(t, join) })
	t.Run("a question ends with its context", func(t *testing.T) { questionEnds(t, join) })
	t.Run("a command ends with its context", func(t *testing.T) { commandEnds(t, join) })
	t.Run("many ask at once", func(t *testing.T) { manyAtOnce(t, join) })
	t.Run("every message of queues arrives whole and is answered", func(t *testing.T) { everyQueueMessage(t, join) })
	t.Run("a refusal as full names the queue", func(t *testing.T) { queueRefusals(t, join) })
	t.Run("a leg waits long for a caller, and no longer than it wants to", func(t *testing.T) { longTakes(t, join) })
}

// exchange asks one question over the joint and compares what arrived with what was sent, both ways.
func exchange[Q, A any](t *testing.T, name string, q Q, a A, script func(func(context.Context, Q) (A, error)), ask func(context.Context, Q) (A, error)) {
	t.Helper()
	script(func(_ context.Context, got Q) (A, error) {
		if !reflect.DeepEqual(got, q) {
			t.Errorf("%s: the other half got\n%+v\nwant\n%+v", name, got, q)
		}
		return a, nil
	})
	got, err := ask(t.Context(), q)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if !reflect.DeepEqual(got, a) {
		t.Errorf("%s: answered\n%+v\nwant\n%+v", name, got, a)
	}
}

func program(t *testing.T, text string) *webhooks.Program {
	t.Helper()
	p, err := webhooks.ParseProgram([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func everyMessage(t *testing.T, join Join) {
	var half Control
	var otherHalf Edge
	c, e := join(t, &half, &otherHalf)
	at := time.Date(2026, 1, 31, 8, 0, 0, 123456000, time.UTC)
	retries := 0
	app := control.Application{
		ID: "app_1", Format: control.FormatNative, Program: program(t, `[{"verb":"say","text":"你好","loop":0},{"verb":"gather","on":{"timeout":[]}}]`),
		FallbackInstructions: program(t, `{"instructions":[],"state":null,"guard":{"budget_ms":2000}}`),
		Secrets:              []string{"whsec_b", "whsec_a"}, BudgetMS: 5000, Retries: &retries,
	}
	owner := control.Owner{EdgeID: "edge_1", BootID: "b1", Epoch: 2, AccountID: "acc_1", CallID: "call_1"}

	exchange(t, "Credential",
		control.CredentialQuery{Domain: "demo.example", Username: "1001", Source: netip.MustParseAddr("2001:db8::7")},
		control.Credential{Found: true, Realm: "demo.example", AccountID: "acc_1", CredentialID: "cred_1", HA1MD5: "aa", HA1SHA256: "bb"},
		func(fn func(context.Context, control.CredentialQuery) (control.Credential, error)) {
			half.OnCredential = fn
		}, c.Credential)
	exchange(t, "Route",
		control.Incoming{CallID: "call_1", EdgeID: "edge_1", SIPCallID: "x@y", Source: netip.MustParseAddrPort("203.0.113.7:5060"), Transport: "udp", FromUser: "1001", ToUser: "1000", ToHost: "demo.example"},
		control.Route{AccountID: "acc_1", Application: app, From: "1001", To: "1000", Dialed: "1000", NumberID: "num_1", CustomerID: "cus_1", TimeLimit: 14400, KeepFor: 60},
		func(fn func(context.Context, control.Incoming) (control.Route, error)) { half.OnRoute = fn }, c.Route)
	exchange(t, "Register",
		control.Registration{EdgeID: "edge_1", AccountID: "acc_1", CredentialID: "cred_1", CSeq: 4, Source: netip.MustParseAddrPort("[2001:db8::7]:5060"), Contacts: []control.Contact{{URI: "sip:1001@203.0.113.7:5062", Expires: 3600, Q: 0.5}}},
		control.Registered{Contacts: []control.Contact{{URI: "sip:1001@203.0.113.7:5062", Expires: 3600, Q: 0.5}}},
		func(fn func(context.Context, control.Registration) (control.Registered, error)) { half.OnRegister = fn }, c.Register)
	exchange(t, "Resolve",
		control.ResolveQuery{AccountID: "acc_1", CallID: "call_1", EdgeID: "edge_1", Target: webhooks.DialTarget{Number: "+862368925278", Trunk: "main", Timeout: 2.5}},
		control.Resolved{Hops: []control.Hop{{Rank: 1, Kind: control.KindTrunk, URI: "sip:x@y", Destination: "198.51.100.1:5060", CallerID: "+8613800138000", To: "+862368925278", TrunkID: "trk_1"}}},
		func(fn func(context.Context, control.ResolveQuery) (control.Resolved, error)) { half.OnResolve = fn }, c.Resolve)
	exchange(t, "Media",
		control.MediaQuery{AccountID: "acc_1", ID: "med_1"}, control.MediaGrant{URL: "https://x/y?sig=1", ETag: "e"},
		func(fn func(context.Context, control.MediaQuery) (control.MediaGrant, error)) { half.OnMedia = fn }, c.Media)
	exchange(t, "Upload",
		control.Upload{Owner: owner, RecordingID: "rec_1", Segment: 3, Size: control.MaxSegment},
		control.UploadGrant{URL: "https://x/y", Headers: map[string]string{"X-A": "b"}},
		func(fn func(context.Context, control.Upload) (control.UploadGrant, error)) { half.OnUpload = fn }, c.Upload)
	exchange(t, "Finish",
		control.Finish{Owner: owner, RecordingID: "rec_1", Codec: "PCMA", Channels: 2, Segments: 3, Samples: 1 << 40},
		control.Finished{Size: 44, Duration: 1.25},
		func(fn func(context.Context, control.Finish) (control.Finished, error)) { half.OnFinish = fn }, c.Finish)
	held := false
	exchange(t, "Publish",
		control.Batch{Owner: owner, Events: []webhooks.Event{
			{ID: "evt_1", Type: webhooks.EventCallHeld, AccountID: "acc_1", CallID: "call_1", Sequence: 7, OccurredAt: at, Data: webhooks.EventData{Held: &held}},
			{ID: "evt_2", Type: webhooks.EventCallEnded, AccountID: "acc_1", CallID: "call_1", Sequence: 8, OccurredAt: at, Data: webhooks.EventData{CDR: &webhooks.CDR{Status: "completed", StartedAt: at, AnsweredAt: &at, EndedAt: at, Media: &webhooks.Quality{Codec: "PCMA", MOS: 4.3}}}},
		}},
		control.Published{Expect: 9},
		func(fn func(context.Context, control.Batch) (control.Published, error)) { half.OnPublish = fn }, c.Publish)

	none := func(ask func(context.Context, control.Beat) error) func(context.Context, control.Beat) (struct{}, error) {
		return func(ctx context.Context, b control.Beat) (struct{}, error) { return struct{}{}, ask(ctx, b) }
	}
	exchange(t, "Beat",
		control.Beat{EdgeID: "edge_1", BootID: "b1", Calls: 3, Draining: true, SIP: netip.MustParseAddrPort("192.0.2.1:5060"), At: at}, struct{}{},
		func(fn func(context.Context, control.Beat) (struct{}, error)) {
			half.OnBeat = func(ctx context.Context, b control.Beat) error { _, err := fn(ctx, b); return err }
		}, none(c.Beat))
	exchange(t, "Originate",
		control.Originate{CallID: "call_1", AccountID: "acc_1", Application: app, Target: webhooks.DialTarget{Extension: "1001"}, CustomerID: "cus_1", Data: map[string]any{"a": "b"}, Record: true, StartedAt: at}, struct{}{},
		func(fn func(context.Context, control.Originate) (struct{}, error)) {
			otherHalf.OnOriginate = func(ctx context.Context, o control.Originate) error { _, err := fn(ctx, o); return err }
		},
		func(ctx context.Context, o control.Originate) (struct{}, error) {
			return struct{}{}, e.Originate(ctx, o)
		})
	for n, text := range []string{
		`{"instructions":[{"verb":"hangup"}],"state":{"a":1},"peer":"hangup"}`, `{"instructions":[]}`, `{"url":"https://example.com/x","method":"GET"}`,
		`{"url":"/x","peer":[{"verb":"pause"}]}`, `{"op":"hangup"}`, `{"op":"transfer","to":{"extension":"1002"}}`, `{"op":"play","tone":"500","loop":0}`,
		`{"op":"hold","prompt":[]}`, `{"op":"listen","by":{"agent":"agt_1"}}`,
	} {
		exchange(t, "Act "+text,
			control.Action{ActionID: webhooks.ActionID(fmt.Sprint("act_", n)), AccountID: "acc_1", CallID: "call_1", IfMatch: "7", Change: change(t, text)}, struct{}{},
			func(fn func(context.Context, control.Action) (struct{}, error)) {
				otherHalf.OnAct = func(ctx context.Context, a control.Action) error { _, err := fn(ctx, a); return err }
			},
			func(ctx context.Context, a control.Action) (struct{}, error) { return struct{}{}, e.Act(ctx, a) })
	}
}

func change(t *testing.T, text string) webhooks.Action {
	t.Helper()
	a, err := webhooks.ParseAction([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func refusals(t *testing.T, join Join) {
	challenge := control.Error{Code: control.CodeChallenge, Message: "who are you", Realm: "demo.example", Cause: webhooks.CauseNotAllowed}
	changed := control.Error{Code: control.CodePrecondition, Message: "the call has moved on"}
	c, e := join(t,
		&Control{OnRoute: func(context.Context, control.Incoming) (control.Route, error) {
			return control.Route{}, fmt.Errorf("route: %w", &challenge)
		}},
		&Edge{OnAct: func(context.Context, control.Action) error { return fmt.Errorf("act: %w", &changed) }})
	_, err := c.Route(t.Context(), control.Incoming{})
	if got, ok := errors.AsType[*control.Error](err); !ok || *got != challenge {
		t.Errorf("Route: %v, want %+v", err, challenge)
	}
	err = e.Act(t.Context(), control.Action{})
	if got, ok := errors.AsType[*control.Error](err); !ok || *got != changed {
		t.Errorf("Act: %v, want %+v", err, changed)
	}
}

func otherErrors(t *testing.T, join Join) {
	broken := errors.New("the disk is gone")
	c, e := join(t,
		&Control{OnBeat: func(context.Context, control.Beat) error { return broken }},
		&Edge{OnOriginate: func(context.Context, control.Originate) error { return broken }})
	if err := c.Beat(t.Context(), control.Beat{}); err == nil || control.CodeOf(err) != "" {
		t.Errorf("Beat: %v, want an error without code", err)
	}
	if err := e.Originate(t.Context(), control.Originate{}); err == nil || control.CodeOf(err) != "" {
		t.Errorf("Originate: %v, want an error without code", err)
	}
}

func questionEnds(t *testing.T, join Join) {
	asked := make(chan struct{})
	c, _ := join(t, &Control{OnRoute: func(ctx context.Context, _ control.Incoming) (control.Route, error) {
		close(asked)
		<-ctx.Done() // the other half is told as well, or this test would never end
		return control.Route{}, context.Cause(ctx)
	}}, &Edge{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := c.Route(ctx, control.Incoming{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Route: %v, want context.Canceled", err)
	}
}

func commandEnds(t *testing.T, join Join) {
	asked, stop := make(chan struct{}), make(chan struct{})
	_, e := join(t, &Control{}, &Edge{OnAct: func(ctx context.Context, _ control.Action) error {
		close(asked)
		select {
		case <-ctx.Done():
		case <-stop:
		}
		return context.Cause(ctx)
	}})
	defer close(stop)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if err := e.Act(ctx, control.Action{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Act: %v, want context.Canceled", err)
	}
}

func manyAtOnce(t *testing.T, join Join) {
	c, e := join(t,
		&Control{OnMedia: func(_ context.Context, q control.MediaQuery) (control.MediaGrant, error) {
			return control.MediaGrant{URL: q.ID}, nil
		}},
		&Edge{OnAct: func(_ context.Context, a control.Action) error {
			return &control.Error{Code: control.CodeNotFound, Message: string(a.CallID)}
		}})
	var all sync.WaitGroup
	for n := range 100 {
		all.Go(func() {
			id := fmt.Sprint("call_", n)
			if got, err := c.Media(t.Context(), control.MediaQuery{ID: id}); err != nil || got.URL != id {
				t.Errorf("Media %s: %+v, %v", id, got, err)
			}
			err := e.Act(t.Context(), control.Action{CallID: webhooks.CallID(id)})
			if got, ok := errors.AsType[*control.Error](err); !ok || got.Message != id {
				t.Errorf("Act %s: %v", id, err)
			}
		})
	}
	all.Wait()
}
