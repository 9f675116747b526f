package call_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// edges is a fake of function fields.
type edges struct {
	prepare func(call.Origination) (call.Prepared, error)
	act     func(webhooks.EdgeID, call.Action) error
}

func (e *edges) Prepare(_ context.Context, o call.Origination) (call.Prepared, error) {
	if e.prepare == nil {
		return call.Prepared{EdgeID: "edge_1", BootID: "boot_1", ApplicationID: o.ApplicationID, Send: func(context.Context) error { return nil }}, nil
	}
	return e.prepare(o)
}

func (e *edges) Act(_ context.Context, id webhooks.EdgeID, a call.Action) error {
	if e.act == nil {
		return nil
	}
	return e.act(id, a)
}

// mount is a service behind the REST API, with the two accounts of resttest.
func mount(t *testing.T, d *db.DB) (*resttest.Server, *call.Service, *edges) {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	e := &edges{}
	s := &call.Service{DB: d, Edges: e}
	return resttest.Mount(t, d, spec, s.Operations()), s, e
}

var start = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

func owner(id webhooks.CallID) call.Owner {
	return call.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: 1, AccountID: resttest.Account, CallID: id}
}

// story makes the events of a call as its edge numbers them: "initiated", "ringing", "answered", "ended", or any type;
// what follows the end has no sequence.
func story(kinds ...webhooks.EventType) []webhooks.Event {
	var events []webhooks.Event
	over := false
	for i, kind := range kinds {
		at := start.Add(time.Duration(i) * time.Second)
		e := webhooks.Event{ID: webhooks.NewEventID(), Type: kind, ConversationID: "conv_1", Sequence: int64(i + 1), OccurredAt: at}
		if over {
			e.Sequence = 0
		}
		switch kind {
		case webhooks.EventCallInitiated:
			e.Data = webhooks.EventData{From: "+8613800138000", To: "+862368925278", Dialed: "02368925278", Direction: webhooks.Inbound,
				NumberID: "num_1", TrunkID: "trk_1", ApplicationID: "app_1", SIPCallID: "abc@198.51.100.7", Source: "198.51.100.7"}
		case webhooks.EventCallEnded:
			over = true
			e.Data = webhooks.EventData{CDR: cdr(at)}
		}
		events = append(events, e)
	}
	return events
}

func cdr(at time.Time) *webhooks.CDR {
	answered := start.Add(2 * time.Second)
	return &webhooks.CDR{
		Status: webhooks.StatusCompleted, Cause: webhooks.CauseCallerHangup, SIPCode: 200, EndedBy: webhooks.EndedByCaller,
		Reason: "The caller hung up.", ReasonZH: "主叫挂机。", StartedAt: start, AnsweredAt: &answered, EndedAt: at,
		Duration: webhooks.SecondsOf(at.Sub(start)), RingTime: 2, TalkTime: webhooks.SecondsOf(at.Sub(answered)),
		Media: &webhooks.Quality{Codec: "PCMA", PacketsSent: 100, PacketsReceived: 98, PacketsLost: 2, LossRatio: 0.02, JitterMS: 1.5, MOS: 4.2},
	}
}

func whole() []webhooks.Event {
	return story(webhooks.EventCallInitiated, webhooks.EventCallRinging, webhooks.EventCallAnswered, webhooks.EventDTMF, webhooks.EventCallEnded, webhooks.EventRecordingCompleted)
}

func publish(t *testing.T, s *call.Service, id webhooks.CallID, events ...webhooks.Event) int64 {
	t.Helper()
	expect, err := s.Publish(t.Context(), call.Batch{Owner: owner(id), Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return expect
}

func get(t *testing.T, s *call.Service, id webhooks.CallID) *call.Call {
	t.Helper()
	c, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stored lists a call's events as "1 call.initiated".
func stored(t *testing.T, s *resttest.Server, id webhooks.CallID) []string {
	t.Helper()
	var page struct{ Data []webhooks.Event }
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/calls/"+string(id)+"/events?limit=1000", nil), http.StatusOK, &page)
	lines := []string{}
	for _, e := range page.Data {
		lines = append(lines, fmt.Sprintf("%d %s", e.Sequence, e.Type))
	}
	return lines
}

func TestEveryOperationKeepsThePromisesOfTheAPI(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			open := func(t *testing.T) *resttest.Server {
				server, _, e := mount(t, dbtest.Open(t, location(t)))
				e.act = func(_ webhooks.EdgeID, a call.Action) error {
					if a.IfMatch != "" {
						return call.ErrChanged
					}
					return nil
				}
				return server
			}
			resttest.Run(t, open, resttest.Suite{
				Objects: func(t *testing.T, server *resttest.Server) map[string]string {
					s := &call.Service{DB: server.DB}
					publish(t, s, "call_1", story(webhooks.EventCallInitiated, webhooks.EventCallRinging)...)
					return map[string]string{"call_id": "call_1"}
				},
				More: func(t *testing.T, server *resttest.Server) {
					publish(t, &call.Service{DB: server.DB}, "call_2", story(webhooks.EventCallInitiated)...)
				},
			})
		})
	}
}
