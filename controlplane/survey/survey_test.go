package survey_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/agent"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/survey"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is surveys behind the REST API, two agents, and calls that are asked.
type fixture struct {
	*resttest.Server
	surveys  *survey.Service
	calls    *call.Service
	sequence map[webhooks.CallID]int64
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{surveys: &survey.Service{DB: d}, sequence: map[webhooks.CallID]int64{}}
	agents := &agent.Service{DB: d}
	f.calls = &call.Service{DB: d, OwnerOf: agents.OwnerOf, Also: []func(context.Context, *db.Tx, []webhooks.Event) error{f.surveys.Apply}}
	f.Server = resttest.Mount(t, d, spec, f.surveys.Operations())
	f.run(t, "INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name) VALUES ('dep_1', ?, '{}', ?, ?, '1', 'x')",
		resttest.Account, db.Now(), db.Now())
	for i := range 2 {
		user, extension, id := fmt.Sprint("usr_", i+1), fmt.Sprint("cred_", i+1), fmt.Sprint("agt_", i+1)
		f.run(t, `INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status)
			VALUES (?, ?, '{}', ?, ?, '1', ?, 'dep_1', ?, ?, '[]', 'active')`, user, resttest.Account, db.Now(), db.Now(), user, user, user)
		f.run(t, `INSERT INTO credentials (id, account_id, metadata, created_at, updated_at, etag, extension, domain, ha1_md5, ha1_sha256, max_contacts)
			VALUES (?, ?, '{}', ?, ?, '1', ?, 'x', 'x', 'x', 1)`, extension, resttest.Account, db.Now(), db.Now(), extension)
		f.run(t, `INSERT INTO agents (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, user_id, credential_id, auto_answer_delay, presence, work)
			VALUES (?, ?, '{}', ?, ?, '1', ?, 'dep_1', ?, ?, 0, 'offline', 'idle')`, id, resttest.Account, db.Now(), db.Now(), user, user, extension)
	}
	return f
}

func (f *fixture) run(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := f.DB.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// questions are two, each with the keys 1 and 2.
const questions = `[
	{"name":"service","label":"服务","prompt":[{"verb":"say","text":"a"}],"options":[{"key":"1","label":"满意","score":5},{"key":"2","label":"不满意","score":1}]},
	{"name":"solved","prompt":[{"verb":"say","text":"b"}],"options":[{"key":"1","label":"是","score":2},{"key":"2"}],"attempts":1,"timeout":3}]`

func (f *fixture) create(t *testing.T, name string) survey.Survey {
	t.Helper()
	var v survey.Survey
	body := `{"name":"` + name + `","questions":` + questions + `}`
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/surveys", body), http.StatusCreated, &v)
	return v
}

func (f *fixture) patch(t *testing.T, id, body string) survey.Survey {
	t.Helper()
	var v survey.Survey
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPatch, "/v1/surveys/"+id, body), http.StatusOK, &v)
	return v
}

// happen stores an event of a call, as its edge publishes it.
func (f *fixture) happen(t *testing.T, id webhooks.CallID, kind webhooks.EventType, data webhooks.EventData) webhooks.Event {
	t.Helper()
	f.sequence[id]++
	e := webhooks.Event{ID: webhooks.NewEventID(), Type: kind, Sequence: f.sequence[id], OccurredAt: db.Now(), Data: data}
	f.publish(t, id, e)
	return e
}

func (f *fixture) publish(t *testing.T, id webhooks.CallID, e webhooks.Event) {
	t.Helper()
	owner := call.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: 1, AccountID: resttest.Account, CallID: id}
	if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: owner, Events: []webhooks.Event{e}}); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) inbound(t *testing.T, id webhooks.CallID) {
	t.Helper()
	f.happen(t, id, webhooks.EventCallInitiated, webhooks.EventData{From: "+8613800138000", To: "1000", Direction: webhooks.Inbound})
}

// answered has a call complete a survey, and gives the response.
func (f *fixture) answered(t *testing.T, id webhooks.CallID, data webhooks.EventData) survey.Response {
	t.Helper()
	if f.sequence[id] == 0 {
		f.inbound(t, id)
	}
	e := f.happen(t, id, webhooks.EventSurveyCompleted, data)
	return f.get(t, e)
}

func (f *fixture) get(t *testing.T, e webhooks.Event) survey.Response {
	t.Helper()
	var r survey.Response
	path := "/v1/survey_responses/srr" + strings.TrimPrefix(string(e.ID), "evt")
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, path, nil), http.StatusOK, &r)
	return r
}

func answers(service, solved string) map[string]any {
	given := map[string]any{"service": service}
	if solved != "" {
		given["solved"] = solved
	}
	return given
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
					var v survey.Survey
					body := `{"name":"x","external_id":"crm-1","questions":` + questions + `}`
					resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/surveys", body), http.StatusCreated, &v)
					r := f.answered(t, "call_1", webhooks.EventData{SurveyID: v.ID, SurveyVersion: 1, Outcome: webhooks.Answered, Answers: answers("1", "2")})
					return map[string]string{"survey_id": v.ID, "survey_response_id": r.ID, "external_id": "crm-1"}
				},
				More: func(t *testing.T, _ *resttest.Server) {
					v := f.create(t, "y")
					for i := range 3 {
						f.patch(t, v.ID, fmt.Sprintf(`{"invite":[{"verb":"say","text":"%d"}]}`, i))
						f.answered(t, "call_2", webhooks.EventData{SurveyID: v.ID, SurveyVersion: i + 1, Outcome: webhooks.Skipped})
					}
				},
				Request: func(t *testing.T, _ *resttest.Server, operation string, ids map[string]string) *resttest.Request {
					if operation == "deleteSurvey" {
						f.run(t, "DELETE FROM survey_responses")
					}
					return nil
				},
			})
		})
	}
}

func TestWhatASurveyCanBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		question := func(text string) string { return `{"name":"a","questions":[` + text + `]}` }
		const prompt, options = `"prompt":[{"verb":"say","text":"x"}]`, `"options":[{"key":"1"}]`
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{question(`{"name":"q",` + prompt + `,` + options + `}`), 201, `"version":1,"name":"a","enabled":true`},
			{question(`{"name":"q",` + prompt + `,` + options + `}`), 409, "/name"},
			{`{"name":"b","questions":[]}`, 400, "/questions"},
			{`{"name":"sur_1","questions":[{"name":"q",` + prompt + `,` + options + `}]}`, 400, "/name"},
			{question(`{"name":"Q",` + prompt + `,` + options + `}`), 400, "/questions/0/name"},
			{question(`{"name":"q",` + prompt + `,` + options + `},{"name":"q",` + prompt + `,` + options + `}`), 400, "/questions/1/name"},
			{question(`{"name":"q","prompt":[],` + options + `}`), 400, "/questions/0/prompt"},
			{question(`{"name":"q","prompt":[{"verb":"hangup"}],` + options + `}`), 400, "hangup is not allowed in a prompt"},
			{question(`{"name":"q",` + prompt + `,"options":[]}`), 400, "/questions/0/options"},
			{question(`{"name":"q",` + prompt + `,"options":[{"key":"10"}]}`), 400, "/questions/0/options/0/key"},
			{question(`{"name":"q",` + prompt + `,"options":[{"key":"1"},{"key":"1"}]}`), 400, "/questions/0/options/1/key"},
			{question(`{"name":"q",` + prompt + `,` + options + `,"attempts":6}`), 400, "/questions/0/attempts"},
			{question(`{"name":"q",` + prompt + `,` + options + `,"timeout":0}`), 400, "/questions/0/timeout"},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/surveys", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

func TestOtherQuestionsAreANewVersion(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.create(t, "a")
		same, err := json.Marshal(v.Questions)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			patch   string
			version int
		}{
			{`{"name":"b"}`, 1},
			{`{"enabled":false}`, 1},
			{`{"questions":` + string(same) + `}`, 1},
			{`{"invite":[{"verb":"say","text":"x"}]}`, 2},
			{`{"invite":null}`, 3},
			{`{"questions":[{"name":"only","prompt":[{"verb":"say","text":"c"}],"options":[{"key":"1"}]}]}`, 4},
		} {
			if got := f.patch(t, v.ID, c.patch); got.Version != c.version {
				t.Errorf("%s: version %d, want %d", c.patch, got.Version, c.version)
			}
		}
		var page struct{ Data []survey.Version }
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/surveys/"+v.ID+"/versions", nil), http.StatusOK, &page)
		if len(page.Data) != 4 || page.Data[0].Version != 4 || page.Data[3].Questions[0].Label != "服务" || page.Data[0].Questions[0].Name != "only" {
			t.Errorf("%+v", page.Data)
		}
	})
}

func TestAnEdgeIsGivenTheSurveyAsItIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.create(t, "满意度")
		f.patch(t, v.ID, `{"invite":[{"verb":"say","text":"x"}]}`)
		for _, name := range []string{v.ID, "满意度"} {
			a, err := f.surveys.Ask(t.Context(), resttest.Account, name)
			if err != nil || a.ID != v.ID || a.Version != 2 || a.Invite == nil || a.Thanks != nil ||
				len(a.Questions) != 2 || a.Questions[1].Prompt == nil || strings.Join(a.Keys, " ") != "12 12" {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
		}
		f.patch(t, v.ID, `{"enabled":false}`)
		for account, name := range map[webhooks.AccountID]string{resttest.Account: v.ID, resttest.OtherAccount: v.ID} {
			if _, err := f.surveys.Ask(t.Context(), account, name); err == nil {
				t.Errorf("%s was given it", account)
			}
		}
		if _, err := f.surveys.Ask(t.Context(), resttest.Account, "sur_none"); err == nil {
			t.Error("one that is not there was given")
		}
	})
}

func TestAResponseIsWhatWasAnsweredOfTheVersionAsked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.create(t, "a")
		f.patch(t, v.ID, `{"questions":[{"name":"other","prompt":[{"verb":"say","text":"c"}],"options":[{"key":"1","score":100}]}]}`)
		r := f.answered(t, "call_1", webhooks.EventData{
			SurveyID: v.ID, SurveyVersion: 1, Outcome: webhooks.Answered, Answers: answers("1", "1"), AgentID: "agt_1", QueueID: "que_1",
		})
		got, err := json.Marshal(r.Answers)
		if err != nil {
			t.Fatal(err)
		}
		if want := `[{"question":"service","key":"1","label":"满意","score":5},{"question":"solved","key":"1","label":"是","score":2}]`; string(got) != want {
			t.Errorf("got %s", got)
		}
		if r.Score == nil || *r.Score != 3.5 || r.AgentID != "agt_1" || r.QueueID != "que_1" || r.OwnerID != "usr_1" || r.DepartmentID != "dep_1" || r.From != "+8613800138000" {
			t.Errorf("%+v", r)
		}
		for filter, want := range map[string]int{"score[gte]=3.5": 1, "score[gte]=4": 0, "agent_id=agt_1": 1, "queue_id=que_2": 0} {
			var page struct{ Data []survey.Response }
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/survey_responses?"+filter, nil), http.StatusOK, &page)
			if len(page.Data) != want {
				t.Errorf("%s: %d, want %d", filter, len(page.Data), want)
			}
		}
		var events []event.Event
		if err := d.Read().NewSelect().Model(&events).Where("type = 'survey_response.created'").Scan(t.Context()); err != nil || len(events) != 1 || events[0].OwnerID != "usr_1" {
			t.Errorf("told %+v, %v", events, err)
		}
	})
}

func TestWhomAResponseIsAbout(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.create(t, "a")
		leg := func(id, parent webhooks.CallID, credential webhooks.CredentialID, answer bool) {
			f.happen(t, id, webhooks.EventCallInitiated, webhooks.EventData{
				From: "1000", To: "+8613900139000", Direction: webhooks.OutboundDial, ParentCallID: parent, CredentialID: credential,
			})
			if answer {
				f.happen(t, id, webhooks.EventCallAnswered, webhooks.EventData{})
			}
		}
		for name, c := range map[string]struct {
			prepare func(id webhooks.CallID)
			agent   webhooks.AgentID // that the edge tells
			want    webhooks.AgentID
			from    string
		}{
			"whom the edge knows": {func(id webhooks.CallID) { f.inbound(t, id); leg(id+"_b", id, "cred_2", true) }, "agt_1", "agt_1", "+8613800138000"},
			"nobody":              {func(id webhooks.CallID) { f.inbound(t, id) }, "", "", "+8613800138000"},
			"the last who answered": {func(id webhooks.CallID) {
				f.inbound(t, id)
				leg(id+"_b", id, "cred_1", true)
				leg(id+"_c", id, "cred_2", true)
			}, "", "agt_2", "+8613800138000"},
			"not one who did not answer": {func(id webhooks.CallID) {
				f.inbound(t, id)
				leg(id+"_b", id, "cred_1", true)
				leg(id+"_c", id, "cred_2", false)
			}, "", "agt_1", "+8613800138000"},
			"the parent leg's": {func(id webhooks.CallID) {
				f.happen(t, id+"_a", webhooks.EventCallInitiated, webhooks.EventData{From: "1001", To: "1000", Direction: webhooks.Inbound, CredentialID: "cred_2"})
				leg(id, id+"_a", "", true)
			}, "", "agt_2", "+8613900139000"},
			"one who is not there": {func(id webhooks.CallID) { f.inbound(t, id) }, "agt_none", "agt_none", "+8613800138000"},
		} {
			id := webhooks.CallID("call_" + strings.ReplaceAll(name, " ", "_"))
			c.prepare(id)
			r := f.answered(t, id, webhooks.EventData{SurveyID: v.ID, SurveyVersion: 1, Outcome: webhooks.Answered, Answers: answers("1", "1"), AgentID: c.agent})
			if r.AgentID != c.want || r.From != c.from {
				t.Errorf("%s: %q of %s, want %q of %s", name, r.AgentID, r.From, c.want, c.from)
			}
		}
	})
}

func TestAResponseToldAgainIsOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.create(t, "a")
		f.inbound(t, "call_1")
		e := f.happen(t, "call_1", webhooks.EventSurveyCompleted, webhooks.EventData{SurveyID: v.ID, SurveyVersion: 1, Outcome: webhooks.Hangup, Answers: answers("2", "")})
		f.publish(t, "call_1", e)
		if r := f.get(t, e); len(r.Answers) != 1 || r.Answers[0].Label != "不满意" || *r.Score != 1 || r.Outcome != webhooks.Hangup {
			t.Errorf("%+v", r)
		}
		// Of a survey, or a version, that is not there is nothing kept, and the call's events are.
		f.happen(t, "call_1", webhooks.EventSurveyCompleted, webhooks.EventData{SurveyID: "sur_none", SurveyVersion: 1, Outcome: webhooks.Answered})
		f.happen(t, "call_1", webhooks.EventSurveyCompleted, webhooks.EventData{SurveyID: v.ID, SurveyVersion: 9, Outcome: webhooks.Answered})
		if n, err := db.Count[survey.Response](t.Context(), d, resttest.Caller().Scope); err != nil || n != 1 {
			t.Errorf("%d responses, %v", n, err)
		}
		w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/surveys/"+v.ID, nil)
		if w.Code != http.StatusConflict {
			t.Errorf("one that was answered was removed: %d", w.Code)
		}
	})
}

func TestPurgeKeepsToTheRetention(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.run(t, `UPDATE accounts SET limits = '{"retention_days":30}' WHERE id = ?`, resttest.Account)
		v := f.create(t, "a")
		data := webhooks.EventData{SurveyID: v.ID, SurveyVersion: 1, Outcome: webhooks.Skipped}
		old, young := f.answered(t, "call_1", data), f.answered(t, "call_1", data)
		f.run(t, "UPDATE survey_responses SET created_at = ? WHERE id = ?", db.Now().AddDate(0, 0, -31), old.ID)
		if err := f.surveys.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		read := func(id string) *httptest.ResponseRecorder {
			return f.Do(t, resttest.Token, http.MethodGet, "/v1/survey_responses/"+id, nil)
		}
		if w := read(old.ID); w.Code != http.StatusNotFound {
			t.Errorf("the old one is there: %d", w.Code)
		}
		if w := read(young.ID); w.Code != http.StatusOK {
			t.Errorf("the young one is gone: %d", w.Code)
		}
	})
}
