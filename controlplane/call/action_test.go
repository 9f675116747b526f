package call_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// due brings Settle to look after every open change now, and gives how many are open.
func due(t *testing.T, d *db.DB) int {
	t.Helper()
	result, err := d.Write().NewUpdate().Model((*db.Message)(nil)).Set("available_at = ?", db.Now().Add(-time.Second)).Where("topic = ?", "call.action").Exec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func settle(t *testing.T, d *db.DB, s *call.Service) (open int) {
	t.Helper()
	due(t, d)
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return due(t, d)
}

// outcomes lists what is stored of live changes: "act_1 completed".
func outcomes(t *testing.T, s *resttest.Server, id webhooks.CallID) []string {
	t.Helper()
	var page struct{ Data []webhooks.Event }
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/calls/"+string(id)+"/events?limit=1000&type=call.action.completed&type=call.action.failed", nil), http.StatusOK, &page)
	lines := []string{}
	for _, e := range page.Data {
		lines = append(lines, fmt.Sprint(e.Data.ActionID, " ", strings.TrimPrefix(string(e.Type), "call.action.")))
	}
	slices.Sort(lines)
	return lines
}

func change(t *testing.T, text string) webhooks.Action {
	t.Helper()
	a, err := webhooks.ParseAction([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestALiveChangeGoesToTheEdgeThatHoldsTheCall(t *testing.T) {
	server, s, e := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	publish(t, s, "call_1", whole()[:3]...)
	var got call.Action
	e.act = func(id webhooks.EdgeID, a call.Action) error {
		if id != "edge_1" {
			t.Errorf("asked %s", id)
		}
		got = a
		return nil
	}
	for _, c := range []struct{ body, match, want string }{
		{`{"op":"hangup"}`, `"1"`, "1"}, {`{"op":"hangup"}`, "*", ""}, {`{"op":"hangup"}`, "", ""}, {`{"op":"hangup"}`, `"0", "1"`, "1"},
		{`{"instructions":[{"verb":"pause"}],"state":{"a":1},"guard":{"budget_ms":2000}}`, "", ""},
		{`{"instructions":[],"peer":"hangup"}`, "", ""},
		{`{"url":"https://example.com/x","method":"GET","peer":[{"verb":"pause"}]}`, "", ""},
		{`{"url":"/next"}`, "", ""}, {`{"op":"mute"}`, "", ""}, {`{"op":"hold","prompt":[{"verb":"play","media_id":"sys_hold"}]}`, "", ""}, {`{"op":"digits","digits":"1w2#"}`, "", ""},
		{`{"op":"transfer","to":{"number":"+8613800138000"},"x_why":"because"}`, "", ""}, {`{"op":"whisper","by":{"agent":"agt_1"}}`, "", ""},
		{`{"op":"barge","call_id":"call_2"}`, "", ""}, {`{"op":"priority","priority":5}`, "", ""}, {`{"op":"move","queue":"sales"}`, "", ""},
	} {
		var headers []string
		if c.match != "" {
			headers = []string{"If-Match", c.match}
		}
		got = call.Action{}
		var taken call.ActionTaken
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", c.body, headers...), http.StatusAccepted, &taken)
		sent, err := json.Marshal(got.Change)
		wanted, err2 := json.Marshal(change(t, c.body))
		if err != nil || err2 != nil || string(sent) != string(wanted) || got.IfMatch != c.want || got.AccountID != resttest.Account || got.CallID != "call_1" ||
			taken.ActionID == "" || taken.ActionID != got.ID || taken.CallID != "call_1" {
			t.Errorf("%s: sent %s %+v, answered %+v", c.body, sent, got, taken)
		}
	}
}

func TestEveryOpOfTheContractIsTaken(t *testing.T) {
	server, s, _ := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	publish(t, s, "call_1", whole()[:3]...)
	more := map[string]string{
		"digits": `"digits":"1"`, "play": `"tone":"500"`, "say": `"text":"x"`, "recording": `"do":"start"`, "listen": `"call_id":"call_2"`, "whisper": `"call_id":"call_2"`,
		"barge": `"call_id":"call_2"`, "intercept": `"call_id":"call_2"`, "pick_up": `"by":{"extension":"1001"}`, "transfer": `"to":{"extension":"1001"}`,
		"consult": `"to":{"extension":"1001"}`, "drop": `"call_id":"call_2"`, "retarget": `"to":{"extension":"1001"}`, "survey": `"survey_id":"sur_1"`,
		"priority": `"priority":1`, "move": `"queue":"x"`, "assign": `"agent":"agt_1"`,
	}
	for _, op := range webhooks.Ops() {
		body := `{"op":"` + op + `"}`
		if more[op] != "" {
			body = `{"op":"` + op + `",` + more[op] + `}`
		}
		if w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", body); w.Code != http.StatusAccepted {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

func TestChangesThatAreNotMade(t *testing.T) {
	server, s, e := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	publish(t, s, "call_1", whole()[:3]...)
	asked := 0
	e.act = func(webhooks.EdgeID, call.Action) error { asked++; return nil }
	for body, pointer := range map[string]string{
		`{}`: "", `[]`: "", `{"op":"sing"}`: "/op", `{"op":"hangup","url":"https://example.com/"}`: "/url", `{"instructions":[{"verb":"sing"}]}`: "/instructions/0/verb",
		`{"url":"ftp://x/"}`: "/url", `{"op":"hangup","method":"GET"}`: "/method", `{"op":"hangup","state":{}}`: "/state",
		`{"url":"https://example.com/","guard":{}}`: "/guard", `{"op":"transfer"}`: "/to", `{"op":"transfer","to":{}}`: "/to", `{"op":"digits","digits":"x"}`: "/digits",
		`{"op":"listen"}`: "", `{"op":"mute","peer":"hangup"}`: "/peer", `{"instructions":[],"peer":"sleep"}`: "/peer", `{"op":"play","tone":"500","url":"https://example.com/"}`: "/tone",
	} {
		w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", body)
		var p struct{ Errors []struct{ Pointer string } }
		resttest.Want(t, w, http.StatusBadRequest, &p)
		if pointer != "" && (len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Pointer, pointer)) {
			t.Errorf("%s: %s, want a pointer to %s", body, w.Body, pointer)
		}
	}
	resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_2/actions", `{"op":"hangup"}`), http.StatusNotFound, nil)
	resttest.Want(t, server.Do(t, resttest.Other, http.MethodPost, "/v1/calls/call_1/actions", `{"op":"hangup"}`), http.StatusNotFound, nil)
	if asked != 0 {
		t.Errorf("the edge was asked %d times", asked)
	}
	if n := due(t, server.DB); n != 0 {
		t.Errorf("%d changes are open", n)
	}
}

func TestWhatTheEdgeSaysIsWhatTheAnswerSays(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, e := mount(t, d)
		publish(t, s, "call_1", whole()[:3]...)
		for _, c := range []struct {
			err    error
			status int
			want   string
			open   int // changes of which an event will tell
		}{
			{call.ErrChanged, 412, "", 0}, {call.ErrGone, 409, "in_progress", 0}, {call.ErrAway, 503, "nothing was changed", 0}, {call.ErrBusy, 503, "", 0},
			{fmt.Errorf("%w: the op mute", call.ErrUnknown), 422, `"/op"`, 0}, {errors.New("broken"), 503, "act_", 1},
		} {
			e.act = func(webhooks.EdgeID, call.Action) error { return c.err }
			w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", `{"op":"hangup"}`)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || (c.status == 503) != (w.Header().Get("Retry-After") != "") {
				t.Errorf("%v: %d %s, want %d %s", c.err, w.Code, w.Body, c.status, c.want)
			}
			if n := due(t, d); n != c.open {
				t.Errorf("%v: %d changes are open, want %d", c.err, n, c.open)
			}
		}
		// The call ends while the edge is asked.
		for _, answer := range []error{call.ErrGone, call.ErrAway} {
			e.act = func(webhooks.EdgeID, call.Action) error {
				publish(t, s, "call_1", whole()...)
				return answer
			}
			w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", `{"op":"hangup"}`)
			if w.Code != 409 || !strings.Contains(w.Body.String(), "completed") {
				t.Errorf("too late: %d %s", w.Code, w.Body)
			}
		}
	})
}

func TestARequestThatIsRepeatedIsTheSameChange(t *testing.T) {
	server, s, e := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	publish(t, s, "call_1", whole()[:3]...)
	var asked []webhooks.ActionID
	answer := errors.New("the connection is gone")
	e.act = func(_ webhooks.EdgeID, a call.Action) error {
		asked = append(asked, a.ID)
		return answer
	}
	act := func(key, body string) int {
		return server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/call_1/actions", body, "Idempotency-Key", key).Code
	}
	if got := act("a", `{"op":"hangup"}`); got != http.StatusServiceUnavailable {
		t.Fatal(got)
	}
	answer = nil
	for range 2 { // the second is answered from what was kept
		if got := act("a", `{"op":"hangup"}`); got != http.StatusAccepted {
			t.Fatal(got)
		}
	}
	if len(asked) != 2 || asked[0] != asked[1] {
		t.Errorf("asked for %v", asked)
	}
	if got := act("b", `{"op":"hangup"}`); got != http.StatusAccepted || asked[2] == asked[0] {
		t.Errorf("another key: %d %v", got, asked)
	}
}

// told is what an edge tells of a change.
func told(sequence int64, kind webhooks.EventType, id webhooks.ActionID) webhooks.Event {
	return webhooks.Event{ID: webhooks.NewEventID(), Type: kind, Sequence: sequence, OccurredAt: start.Add(3 * time.Second), Data: webhooks.EventData{ActionID: id, Op: "hangup", Message: "x"}}
}

func TestOfEveryChangeThatIsTakenExactlyOneEventTells(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		for name, c := range map[string]struct {
			first []func(t *testing.T, s *call.Service, id webhooks.CallID, a webhooks.ActionID) // before Settle
			then  []func(t *testing.T, s *call.Service, id webhooks.CallID, a webhooks.ActionID) // after it
			open  int                                                                            // after Settle
			want  string
			etag  string
		}{
			"the edge tells":                                  {open: 0, first: steps{completed}, want: "completed", etag: "2"},
			"the call goes on":                                {open: 1, want: ""},
			"the edge tells after the end":                    {first: steps{ended, failedLate}, want: "failed"},
			"the call ends and nobody tells":                  {first: steps{ended}, want: "failed"},
			"the edge dies":                                   {first: steps{lost}, want: "failed"},
			"the edge dies and comes back with the outcome":   {first: steps{lost}, then: steps{completed}, want: "failed"},
			"the edge is cut off, tells, and Settle is late":  {first: steps{lost, completed}, want: "completed"},
			"the edge comes back with the end and its spool":  {first: steps{lost}, then: steps{completed, endedAfter, failedLate}, want: "failed"},
			"the edge tells twice":                            {first: steps{completed, completed}, want: "completed", etag: "2"},
			"the edge tells, and of the end, and Settle runs": {first: steps{completed, endedAfter}, then: steps{failedLate}, want: "completed"},
		} {
			t.Run(name, func(t *testing.T) {
				server, s, _ := mount(t, d)
				id := webhooks.NewCallID()
				publish(t, s, id, story(webhooks.EventCallInitiated, webhooks.EventCallRinging, webhooks.EventCallAnswered)...)
				var a call.ActionTaken
				resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/"+string(id)+"/actions", `{"op":"hangup"}`), http.StatusAccepted, &a)
				for _, step := range c.first {
					step(t, s, id, a.ActionID)
				}
				if open := settle(t, d, s); open != c.open {
					t.Errorf("%d are open, want %d", open, c.open)
				}
				for _, step := range c.then {
					step(t, s, id, a.ActionID)
				}
				settle(t, d, s)
				want := []string{}
				if c.want != "" {
					want = []string{fmt.Sprint(a.ActionID, " ", c.want)}
				}
				if got := outcomes(t, server, id); !slices.Equal(got, want) {
					t.Errorf("told %v, want %v", got, want)
				}
				if got := get(t, s, id); c.etag != "" && got.Etag != c.etag {
					t.Errorf("the etag is %s, want %s", got.Etag, c.etag)
				}
				if _, err := d.Write().NewDelete().Model((*db.Message)(nil)).Where("topic = ?", "call.action").Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

type steps = []func(*testing.T, *call.Service, webhooks.CallID, webhooks.ActionID)

func completed(t *testing.T, s *call.Service, id webhooks.CallID, a webhooks.ActionID) {
	publish(t, s, id, told(4, webhooks.EventActionCompleted, a))
}

func failedLate(t *testing.T, s *call.Service, id webhooks.CallID, a webhooks.ActionID) {
	publish(t, s, id, told(0, webhooks.EventActionFailed, a))
}

func ended(t *testing.T, s *call.Service, id webhooks.CallID, _ webhooks.ActionID) {
	publish(t, s, id, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallEnded, Sequence: 4, OccurredAt: start.Add(4 * time.Second), Data: webhooks.EventData{CDR: cdr(start.Add(4 * time.Second))}})
}

func endedAfter(t *testing.T, s *call.Service, id webhooks.CallID, _ webhooks.ActionID) {
	publish(t, s, id, webhooks.Event{ID: webhooks.NewEventID(), Type: webhooks.EventCallEnded, Sequence: 5, OccurredAt: start.Add(4 * time.Second), Data: webhooks.EventData{CDR: cdr(start.Add(4 * time.Second))}})
}

func lost(t *testing.T, s *call.Service, id webhooks.CallID, _ webhooks.ActionID) {
	if _, err := s.Lose(t.Context(), id, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func TestSettleAndALateOutcomeAtTheSameTimeAreOneEvent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		for range 10 {
			id := webhooks.NewCallID()
			publish(t, s, id, story(webhooks.EventCallInitiated, webhooks.EventCallRinging, webhooks.EventCallAnswered)...)
			var a call.ActionTaken
			resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/"+string(id)+"/actions", `{"op":"hangup"}`), http.StatusAccepted, &a)
			ended(t, s, id, a.ActionID)
			due(t, d)
			other := &call.Service{DB: d} // of another process
			var all sync.WaitGroup
			for _, step := range []func() error{
				func() error { return s.Settle(t.Context()) },
				func() error { return other.Settle(t.Context()) },
				func() error {
					_, err := other.Publish(t.Context(), call.Batch{Owner: owner(id), Events: []webhooks.Event{told(0, webhooks.EventActionFailed, a.ActionID)}})
					return err
				},
			} {
				all.Go(func() {
					if err := step(); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if got := outcomes(t, server, id); len(got) != 1 {
				t.Errorf("told %v", got)
			}
		}
	})
}

func callerOf(account string) auth.Caller {
	return auth.Caller{AccountID: account, Scope: auth.Account(account)}
}

func drafted(t *testing.T, text string) call.ActionDraft {
	t.Helper()
	return call.ActionDraft{Action: change(t, text)}
}

func TestAChangeOfManyCallsHoldsUpNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, e := mount(t, d)
		publish(t, s, "call_1", whole()[:3]...)
		publish(t, s, "call_2", whole()[:3]...)
		publish(t, s, "call_3", whole()...)
		publish(t, s, "call_4", whole()[:3]...)
		var mu sync.Mutex // guards asked
		asked := map[webhooks.CallID]webhooks.Action{}
		e.act = func(_ webhooks.EdgeID, a call.Action) error {
			mu.Lock()
			defer mu.Unlock()
			asked[a.CallID] = a.Change
			if a.CallID == "call_4" {
				return call.ErrAway
			}
			return nil
		}
		all, err := s.ActAll(t.Context(), callerOf(resttest.Account), "", []webhooks.CallID{"call_1", "call_gone", "call_2", "call_3", "call_4"}, drafted(t, `{"op":"mute"}`))
		got := all.Data
		if err != nil || len(got) != 5 || len(asked) != 3 || asked["call_1"].Op.Op() != "mute" {
			t.Fatalf("%+v, %v; asked %v", got, err, asked)
		}
		for i, want := range []problem.Code{"", problem.CodeNotFound, "", problem.CodeConflict, problem.CodeUnavailable} {
			if want == "" && (got[i].Error != nil || got[i].ActionID == "") || want != "" && (got[i].Error == nil || got[i].Error.Code != want || got[i].ActionID != "") {
				t.Errorf("%d: %+v, want %q", i, got[i], want)
			}
		}
		if n := due(t, d); n != 2 {
			t.Errorf("%d changes are open, want 2", n)
		}
		other, err := s.ActAll(t.Context(), callerOf(resttest.OtherAccount), "", []webhooks.CallID{"call_1"}, drafted(t, `{"op":"mute"}`))
		if err != nil || other.Data[0].Error.Code != problem.CodeNotFound {
			t.Errorf("another account's: %+v, %v", other, err)
		}
		if none, err := s.ActAll(t.Context(), callerOf(resttest.Account), "", nil, drafted(t, `{"op":"mute"}`)); err != nil || len(none.Data) != 0 {
			t.Errorf("no calls: %+v, %v", none, err)
		}
	})
}

// The target of a transfer rings on when the leg that asked for it is gone: until it can ring no more nobody but the edge
// says what became of it.
func TestATransferIsNotGivenUpWhileItsTargetMayRing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, _, _ := mount(t, d)
		later := map[string]time.Duration{}
		for body, name := range map[string]string{
			`{"op":"hangup"}`: "call_1", `{"op":"transfer","to":{"number":"+8613800138000"},"timeout":120}`: "call_2",
		} {
			publish(t, &call.Service{DB: d}, webhooks.CallID(name), story(webhooks.EventCallInitiated, webhooks.EventCallRinging, webhooks.EventCallAnswered)...)
			var a call.ActionTaken
			resttest.Want(t, server.Do(t, resttest.Token, http.MethodPost, "/v1/calls/"+name+"/actions", body), http.StatusAccepted, &a)
			var m db.Message
			if err := d.Read().NewSelect().Model(&m).Where("id = ?", a.ActionID).Scan(t.Context()); err != nil {
				t.Fatal(err)
			}
			later[name] = m.AvailableAt.Sub(m.CreatedAt)
		}
		if later["call_2"]-later["call_1"] != 2*time.Minute {
			t.Errorf("a hang-up is looked after in %s, a transfer that rings for two minutes in %s", later["call_1"], later["call_2"])
		}
	})
}
