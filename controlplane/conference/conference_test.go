package conference_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/conference"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is conferences behind the REST API, and calls whose events tell of them.
type fixture struct {
	*resttest.Server
	*conference.Service
	calls    *call.Service
	edge     taking
	sequence map[webhooks.CallID]int64
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{sequence: map[webhooks.CallID]int64{}, Service: &conference.Service{DB: d}}
	f.calls = &call.Service{DB: d, Also: []func(context.Context, *db.Tx, []webhooks.Event) error{f.Apply}}
	f.calls.Edges, f.Calls = &f.edge, f.calls
	f.Server = resttest.Mount(t, d, spec, f.Service.Operations())
	return f
}

// happen stores events of a call, as its edge publishes them.
func (f *fixture) happen(t *testing.T, id webhooks.CallID, events ...webhooks.Event) {
	t.Helper()
	if f.sequence[id] == 0 {
		events = append([]webhooks.Event{{Type: webhooks.EventCallInitiated, Data: webhooks.EventData{From: "1", To: "2", Direction: webhooks.Inbound}}}, events...)
	}
	for i := range events {
		f.sequence[id]++
		events[i].ID, events[i].Sequence, events[i].OccurredAt = webhooks.NewEventID(), f.sequence[id], db.Now()
		if err := events[i].Check(); err != nil {
			t.Fatal(err)
		}
	}
	owner := call.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: 1, AccountID: resttest.Account, CallID: id}
	if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: owner, Events: events}); err != nil {
		t.Fatal(err)
	}
}

const room = webhooks.ConferenceID("conf_01J00000000000000000000001")

func of(kind webhooks.EventType, change func(*webhooks.EventData)) webhooks.Event {
	e := webhooks.Event{Type: kind, Data: webhooks.EventData{ConferenceID: room, Name: "team"}}
	if kind != webhooks.EventConferenceStarted && kind != webhooks.EventConferenceEnded {
		e.Data.Mode = "talk"
	}
	if change != nil {
		change(&e.Data)
	}
	return e
}

func joined() webhooks.Event { return of(webhooks.EventConferenceJoined, nil) }

func left(reason string) webhooks.Event {
	return of(webhooks.EventConferenceLeft, func(d *webhooks.EventData) {
		stayed := webhooks.Seconds(3)
		d.Duration, d.Reason = &stayed, reason
	})
}

func over() webhooks.Event {
	return of(webhooks.EventConferenceEnded, func(d *webhooks.EventData) { d.Reason = webhooks.ConferenceLastLeft })
}

func hungUp() webhooks.Event {
	return webhooks.Event{Type: webhooks.EventCallEnded, Data: webhooks.EventData{CDR: &webhooks.CDR{
		Status: webhooks.StatusCompleted, Cause: webhooks.CauseCallerHangup, EndedBy: webhooks.EndedByCaller, StartedAt: db.Now(), EndedAt: db.Now(),
	}}}
}

func (f *fixture) get(t *testing.T) conference.Conference {
	t.Helper()
	var c conference.Conference
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/conferences/"+string(room), nil), http.StatusOK, &c)
	return c
}

func (f *fixture) participants(t *testing.T, query string) []conference.Participant {
	t.Helper()
	var page list.Page[conference.Participant]
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/conferences/"+string(room)+"/participants"+query, nil), http.StatusOK, &page)
	return page.Data
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				f = mount(t, dbtest.Open(t, location(t)))
				return f.Server
			}, resttest.Suite{
				Objects: func(t *testing.T, _ *resttest.Server) map[string]string {
					f.happen(t, "call_1", joined())
					f.happen(t, "call_2", joined())
					return map[string]string{"conference_id": string(room)}
				},
				More: func(t *testing.T, _ *resttest.Server) {
					for _, id := range []webhooks.ConferenceID{"conf_2", "conf_3", "conf_4"} {
						f.happen(t, "call_3", of(webhooks.EventConferenceJoined, func(d *webhooks.EventData) { d.ConferenceID = id }))
					}
				},
			})
		})
	}
}

func TestAConferenceFollowsItsEvents(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.happen(t, "call_1", of(webhooks.EventConferenceJoined, func(d *webhooks.EventData) { d.Label = "host" }))
		if c := f.get(t); c.Status != conference.StatusWaiting || c.Participants != 1 || c.Name != "team" {
			t.Errorf("%+v", c)
		}
		f.happen(t, "call_2", joined(), of(webhooks.EventConferenceStarted, nil), webhooks.Event{
			Type: webhooks.EventRecordingStarted,
			Data: webhooks.EventData{ConferenceID: room, RecordingID: "rec_1", Verb: "conference", Channels: 1, Format: "wav"},
		})
		if c := f.get(t); c.Status != conference.StatusInProgress || c.Participants != 2 || c.StartedAt == nil || c.RecordingID != "rec_1" {
			t.Errorf("%+v", c)
		}
		f.happen(t, "call_1", of(webhooks.EventConferenceMuted, func(d *webhooks.EventData) { muted := true; d.Muted = &muted }))
		if p := f.participants(t, "?muted=true"); len(p) != 1 || p[0].CallID != "call_1" || p[0].Label != "host" || p[0].LeftAt != nil {
			t.Errorf("%+v", p)
		}
		f.happen(t, "call_1", left(webhooks.ParticipantKicked))
		f.happen(t, "call_1", joined()) // again
		f.happen(t, "call_1", left(webhooks.ParticipantHungUp), hungUp())
		if p := f.participants(t, "?present=false&call_id=call_1"); len(p) != 2 {
			t.Errorf("%+v", p)
		}
		if p := f.participants(t, "?present=true"); len(p) != 1 || p[0].CallID != "call_2" {
			t.Errorf("%+v", p)
		}
		f.happen(t, "call_2", left(webhooks.ParticipantHungUp), over())
		f.happen(t, "call_2", hungUp())
		if c := f.get(t); c.Status != conference.StatusCompleted || c.Participants != 0 || c.Reason != webhooks.ConferenceLastLeft || c.EndedAt == nil {
			t.Errorf("%+v", c)
		}
	})
}

// The calls of a conference are told of apart from each other, so its end may be known before somebody has left it.
func TestTheEndOfAConferenceIsForGood(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.happen(t, "call_1", joined(), left(webhooks.ParticipantHungUp), over())
		f.happen(t, "call_2", joined(), of(webhooks.EventConferenceStarted, nil))
		f.happen(t, "call_2", left(webhooks.ParticipantRoomsEnding))
		if c := f.get(t); c.Status != conference.StatusCompleted || c.StartedAt == nil || c.Participants != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestAConferenceWhoseEdgeIsLostEndsWithItsCalls(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.happen(t, "call_1", joined())
		f.happen(t, "call_2", joined())
		f.happen(t, "call_1", hungUp())
		if c := f.get(t); c.Status != conference.StatusWaiting || c.Participants != 1 {
			t.Errorf("%+v", c)
		}
		f.happen(t, "call_2", hungUp())
		if c := f.get(t); c.Status != conference.StatusCompleted || c.Participants != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// taking is an edge that takes every change.
type taking struct {
	mu    sync.Mutex // guards taken
	taken []call.Action
}

func (e *taking) Prepare(context.Context, call.Origination) (call.Prepared, error) {
	return call.Prepared{}, errors.New("no calls")
}

func (e *taking) Act(_ context.Context, _ webhooks.EdgeID, a call.Action) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken = append(e.taken, a)
	return nil
}

func TestEveryCallInAConferenceIsChanged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.happen(t, "call_1", of(webhooks.EventConferenceStarted, nil), joined())
		f.happen(t, "call_2", joined())
		f.happen(t, "call_3", joined(), left("left"))
		path := "/v1/conferences/" + string(room) + "/actions"
		var got call.ActionsTaken
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, path, `{"op":"mute"}`), http.StatusAccepted, &got)
		if len(got.Data) != 2 || len(f.edge.taken) != 2 {
			t.Fatalf("answered %+v, taken %+v", got, f.edge.taken)
		}
		for i, id := range []webhooks.CallID{"call_1", "call_2"} {
			if a := got.Data[i]; a.CallID != id || a.ActionID == "" || a.Error != nil {
				t.Errorf("%s: %+v", id, a)
			}
		}
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, path, `{"op":"dance"}`), http.StatusBadRequest, nil)
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/conferences/conf_x/actions", `{"op":"mute"}`), http.StatusNotFound, nil)
	})
}
