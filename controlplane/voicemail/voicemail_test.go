package voicemail_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/controlplane/voicemail"
	"github.com/hookswitch/hookswitch/openapi"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

// fixture is mailboxes behind the REST API, and a call that messages are left in.
type fixture struct {
	*resttest.Server
	*voicemail.Service
	calls    *call.Service
	erased   []webhooks.RecordingID
	sequence map[webhooks.CallID]int64
}

func mount(t *testing.T, d *db.DB) *fixture {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{sequence: map[webhooks.CallID]int64{}}
	f.Service = &voicemail.Service{
		DB: d,
		URL: func(_ context.Context, _ webhooks.AccountID, id webhooks.RecordingID) (string, string, error) {
			return "https://blobs.example.com/" + string(id), "1", nil
		},
		Erase: func(_ context.Context, _ webhooks.AccountID, id webhooks.RecordingID) error {
			f.erased = append(f.erased, id)
			return nil
		},
	}
	f.calls = &call.Service{DB: d, Also: []func(context.Context, *db.Tx, []webhooks.Event) error{f.Apply}}
	f.Server = resttest.Mount(t, d, spec, f.Service.Operations())
	f.run(t, "INSERT INTO departments (id, account_id, metadata, created_at, updated_at, etag, name) VALUES ('dep_1', ?, '{}', ?, ?, '1', 'x')",
		resttest.Account, db.Now(), db.Now())
	for id, department := range map[string]any{"usr_1": "dep_1", "usr_2": nil} {
		f.run(t, `INSERT INTO users (id, account_id, metadata, created_at, updated_at, etag, owner_id, department_id, login, name, role_ids, status)
			VALUES (?, ?, '{}', ?, ?, '1', ?, ?, ?, ?, '[]', 'active')`, id, resttest.Account, db.Now(), db.Now(), id, department, id, id)
	}
	for id, extension := range map[string]string{"cred_1": "1001", "cred_2": "1002"} {
		f.run(t, `INSERT INTO credentials (id, account_id, metadata, created_at, updated_at, etag, extension, domain, ha1_md5, ha1_sha256, max_contacts)
			VALUES (?, ?, '{}', ?, ?, '1', ?, 'x', 'x', 'x', 1)`, id, resttest.Account, db.Now(), db.Now(), extension)
	}
	return f
}

func (f *fixture) run(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := f.Server.DB.Write().NewRaw(query, args...).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) mailbox(t *testing.T, body string) voicemail.Mailbox {
	t.Helper()
	var m voicemail.Mailbox
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodPost, "/v1/mailboxes", body), http.StatusCreated, &m)
	return m
}

// happen stores events of a call, as its edge publishes them.
func (f *fixture) happen(t *testing.T, id webhooks.CallID, events ...webhooks.Event) {
	t.Helper()
	for i := range events {
		f.sequence[id]++
		events[i].ID, events[i].Sequence = webhooks.NewEventID(), f.sequence[id]
		if events[i].OccurredAt.IsZero() {
			events[i].OccurredAt = db.Now()
		}
	}
	f.publish(t, id, events)
}

func (f *fixture) publish(t *testing.T, id webhooks.CallID, events []webhooks.Event) {
	t.Helper()
	owner := call.Owner{EdgeID: "edge_1", BootID: "boot_1", Epoch: 1, AccountID: resttest.Account, CallID: id}
	if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: owner, Events: events}); err != nil {
		t.Fatal(err)
	}
}

func initiated(direction webhooks.Direction) webhooks.Event {
	return webhooks.Event{Type: webhooks.EventCallInitiated, Data: webhooks.EventData{From: "+8613800138000", To: "+862368925278", Direction: direction}}
}

func started(id webhooks.RecordingID, mailbox string) webhooks.Event {
	return webhooks.Event{Type: webhooks.EventRecordingStarted, Data: webhooks.EventData{
		RecordingID: id, Verb: "voicemail", Channels: 1, Format: "wav", Codec: "PCMU", Mailbox: mailbox,
	}}
}

func completed(id webhooks.RecordingID, duration webhooks.Seconds) webhooks.Event {
	return webhooks.Event{Type: webhooks.EventRecordingCompleted, Data: webhooks.EventData{RecordingID: id, Channels: 1, Duration: &duration, Size: 44}}
}

// leave has a caller leave a message.
func (f *fixture) leave(t *testing.T, id webhooks.CallID, mailbox string) webhooks.VoicemailID {
	t.Helper()
	recording := webhooks.NewRecordingID()
	if f.sequence[id] == 0 {
		f.happen(t, id, initiated(webhooks.Inbound))
	}
	f.happen(t, id, started(recording, mailbox), completed(recording, 3))
	return recording.Voicemail()
}

func (f *fixture) get(t *testing.T, id webhooks.VoicemailID) voicemail.Voicemail {
	t.Helper()
	var v voicemail.Voicemail
	resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails/"+string(id), nil), http.StatusOK, &v)
	return v
}

func (f *fixture) patch(t *testing.T, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.Do(t, resttest.Token, http.MethodPatch, path, body)
}

// told are the types of the account's events about messages, in order.
func (f *fixture) told(t *testing.T) string {
	t.Helper()
	var events []event.Event
	err := f.Server.DB.Read().NewSelect().Model(&events).Where("resource = 'voicemails'").OrderExpr("created_at, id").Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, e := range events {
		types = append(types, e.Type+" "+e.OwnerID)
	}
	return strings.Join(types, ", ")
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
					m := f.mailbox(t, `{"name":"x","external_id":"crm-1"}`)
					v := f.leave(t, "call_1", m.ID)
					return map[string]string{"mailbox_id": m.ID, "voicemail_id": string(v), "external_id": "crm-1"}
				},
				More: func(t *testing.T, _ *resttest.Server) {
					f.mailbox(t, `{"name":"y"}`)
					for range 3 {
						f.leave(t, "call_2", "y")
					}
				},
				Request: func(t *testing.T, _ *resttest.Server, operation string, ids map[string]string) *resttest.Request {
					switch operation {
					case "deleteMailbox":
						f.run(t, "DELETE FROM voicemails")
					case "createMailbox", "upsertMailbox":
						return &resttest.Request{Body: map[string]any{"name": "z", "owner_id": "usr_1", "credential_id": "cred_1"}}
					}
					return nil
				},
			})
		})
	}
}

func TestWhatAMailboxCanBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		for _, c := range []struct {
			body   string
			status int
			says   string
		}{
			{`{"name":"a"}`, 201, `"name":"a","enabled":true,"min_length":1,"max_length":120,"silence":5,"finish_on_key":"#"`},
			{`{"name":"a"}`, 409, "/name"},
			{`{"name":" "}`, 400, "/name"},
			{`{"name":"mbx_1"}`, 400, "/name"},
			{`{"name":"b","min_length":11}`, 400, "/min_length"},
			{`{"name":"b","max_length":0}`, 400, "/max_length"},
			{`{"name":"b","silence":601}`, 400, "/silence"},
			{`{"name":"b","finish_on_key":"x"}`, 400, "/finish_on_key"},
			{`{"name":"b","greeting":[{"verb":"dial","to":[{"number":"95588"}]}]}`, 400, "dial is not allowed in a prompt"},
			{`{"name":"b","owner_id":"usr_none"}`, 422, "/owner_id"},
			{`{"name":"b","department_id":"dep_none"}`, 422, "/department_id"},
			{`{"name":"b","credential_id":"cred_none"}`, 422, "/credential_id"},
			{`{"name":"b","owner_id":"usr_1","credential_id":"cred_1"}`, 201, `"owner_id":"usr_1","department_id":"dep_1"`},
			{`{"name":"c","credential_id":"cred_1"}`, 409, "/credential_id"},
		} {
			w := f.Do(t, resttest.Token, http.MethodPost, "/v1/mailboxes", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
	})
}

func TestAMailboxIsFoundByIDExtensionAndName(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		m := f.mailbox(t, `{"name":"王芳","credential_id":"cred_1","greeting":[{"verb":"say","text":"x"}]}`)
		// Its name is another's extension.
		f.mailbox(t, `{"name":"1001"}`)
		f.mailbox(t, `{"name":"closed","enabled":false}`)
		for _, name := range []string{m.ID, "1001", "王芳"} {
			got, err := f.Take(t.Context(), resttest.Account, name)
			if err != nil || got.ID != m.ID || got.Program == nil || len(got.Program.Instructions) != 1 {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		for _, name := range []string{"closed", "1002", "mbx_none", ""} {
			if _, err := f.Take(t.Context(), resttest.Account, name); err == nil {
				t.Errorf("%q was found", name)
			}
		}
		if _, err := f.Take(t.Context(), resttest.OtherAccount, m.ID); err == nil {
			t.Error("another account's was found")
		}
	})
}

func TestAMessageIsTheRecordingOfAMailbox(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		m := f.mailbox(t, `{"name":"a","owner_id":"usr_1"}`)
		f.happen(t, "call_1", initiated(webhooks.Inbound))
		recording := webhooks.NewRecordingID()
		begin := started(recording, m.ID)
		begin.OccurredAt = db.Now().Add(-time.Minute)
		f.happen(t, "call_1", begin)
		if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails/"+string(recording.Voicemail()), nil); w.Code != http.StatusNotFound {
			t.Errorf("it is there before its audio is: %d", w.Code)
		}
		f.happen(t, "call_1", completed(recording, 3))
		v := f.get(t, recording.Voicemail())
		if v.MailboxID != m.ID || v.OwnerID != "usr_1" || v.DepartmentID != "dep_1" || v.From != "+8613800138000" || v.To != "+862368925278" ||
			v.Duration != 3 || v.Size != 44 || v.RecordingID != recording || v.CallID != "call_1" || v.Read || !v.LeftAt.Equal(begin.OccurredAt) {
			t.Errorf("%+v", v)
		}
		if told := f.told(t); told != "voicemail.left usr_1" {
			t.Errorf("told %s", told)
		}
	})
}

func TestAMessageToldAgainIsOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.mailbox(t, `{"name":"a"}`)
		f.happen(t, "call_1", initiated(webhooks.Inbound))
		recording := webhooks.NewRecordingID()
		events := []webhooks.Event{started(recording, "a"), completed(recording, 3)}
		f.happen(t, "call_1", events...)
		f.publish(t, "call_1", events)
		// The tail of it was found when its edge came back.
		f.happen(t, "call_1", completed(recording, 5))
		v := f.get(t, recording.Voicemail())
		if v.Duration != 5 || v.Etag != "2" {
			t.Errorf("%+v", v)
		}
		if told := f.told(t); told != "voicemail.left " {
			t.Errorf("told %s", told)
		}
	})
}

func TestWhatIsNoMessage(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.mailbox(t, `{"name":"a","min_length":2}`)
		f.happen(t, "call_1", initiated(webhooks.Inbound))
		short, empty, lost, other := webhooks.NewRecordingID(), webhooks.NewRecordingID(), webhooks.NewRecordingID(), webhooks.NewRecordingID()
		f.happen(t, "call_1",
			started(short, "a"), completed(short, 1.5),
			started(empty, "a"), webhooks.Event{Type: webhooks.EventRecordingFailed, Data: webhooks.EventData{RecordingID: empty, Code: "empty", Message: "x"}},
			started(lost, "a"), webhooks.Event{Type: webhooks.EventRecordingFailed, Data: webhooks.EventData{RecordingID: lost, Code: "write", Message: "x"}},
			started(other, ""), completed(other, 9),
		)
		for _, id := range []webhooks.RecordingID{short, empty, lost, other} {
			if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails/"+string(id.Voicemail()), nil); w.Code != http.StatusNotFound {
				t.Errorf("%s: %d %s", id, w.Code, w.Body)
			}
		}
		// What could not be written at first is a message once it is there.
		f.happen(t, "call_1", completed(lost, 4))
		f.get(t, lost.Voicemail())
		// The rest is not waited for any longer.
		n, err := d.Read().NewSelect().Table("pending_voicemails").Count(t.Context())
		if err != nil || n != 0 {
			t.Errorf("%d are waited for, %v", n, err)
		}
	})
}

func TestAMessageForAMailboxThatIsGoneIsKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.get(t, f.leave(t, "call_1", "nobody's"))
		if v.MailboxID != "" || v.MailboxName != "nobody's" || v.From != "+8613800138000" {
			t.Errorf("%+v", v)
		}
		f.happen(t, "call_2", initiated(webhooks.OutboundAPI))
		if v := f.get(t, f.leave(t, "call_2", "x")); v.From != "+862368925278" || v.To != "+8613800138000" {
			t.Errorf("of one whom we have called: %+v", v)
		}
	})
}

func TestMessagesGoWithTheirMailbox(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		m := f.mailbox(t, `{"name":"a","owner_id":"usr_1"}`)
		id := f.leave(t, "call_1", m.ID)
		resttest.Want(t, f.patch(t, "/v1/mailboxes/"+m.ID, `{"owner_id":"`+resttest.OwnUser+`"}`), http.StatusUnprocessableEntity, nil)
		resttest.Want(t, f.patch(t, "/v1/mailboxes/"+m.ID, `{"owner_id":"usr_2","department_id":null}`), http.StatusOK, nil)
		if v := f.get(t, id); v.OwnerID != "usr_2" || v.DepartmentID != "" {
			t.Errorf("%+v", v)
		}
		if w := f.Do(t, resttest.Token, http.MethodDelete, "/v1/mailboxes/"+m.ID, nil); w.Code != http.StatusConflict {
			t.Errorf("one with messages was removed: %d", w.Code)
		}
	})
}

func TestReadAndUnread(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		m := f.mailbox(t, `{"name":"a"}`)
		first, second := f.leave(t, "call_1", m.ID), f.leave(t, "call_2", m.ID)
		path := "/v1/voicemails/" + string(first)
		var v voicemail.Voicemail
		resttest.Want(t, f.patch(t, path, `{"read":true,"note":"已回电"}`), http.StatusOK, &v)
		if !v.Read || v.ReadAt == nil || v.Note != "已回电" {
			t.Errorf("%+v", v)
		}
		for filter, want := range map[string]webhooks.VoicemailID{"read=true": first, "read=false": second, "q=回电": first} {
			var page struct{ Data []voicemail.Voicemail }
			resttest.Want(t, f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails?"+filter, nil), http.StatusOK, &page)
			if len(page.Data) != 1 || page.Data[0].ID != string(want) {
				t.Errorf("%s: %+v", filter, page.Data)
			}
		}
		v = voicemail.Voicemail{}
		resttest.Want(t, f.patch(t, path, `{"read":false}`), http.StatusOK, &v)
		if v.Read || v.ReadAt != nil || v.Note != "已回电" {
			t.Errorf("%+v", v)
		}
		if w := f.patch(t, path, `{"note":"`+strings.Repeat("x", 2001)+`"}`); w.Code != http.StatusBadRequest {
			t.Errorf("a long note: %d", w.Code)
		}
		if told, want := f.told(t), "voicemail.left , voicemail.left , voicemail.updated , voicemail.updated "; told != want {
			t.Errorf("told %s", told)
		}
	})
}

func TestDeletingAMessageErasesItsAudio(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		v := f.get(t, f.leave(t, "call_1", "a"))
		resttest.Want(t, f.Do(t, resttest.Token, http.MethodDelete, "/v1/voicemails/"+v.ID, nil), http.StatusNoContent, nil)
		if fmt.Sprint(f.erased) != fmt.Sprint([]webhooks.RecordingID{v.RecordingID}) {
			t.Errorf("erased %v", f.erased)
		}
		// An amended recording does not bring it back.
		f.happen(t, "call_1", completed(v.RecordingID, 9))
		if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails/"+v.ID, nil); w.Code != http.StatusNotFound {
			t.Errorf("it is back: %d", w.Code)
		}
	})
}

func TestPurgeKeepsToTheRetention(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := mount(t, d)
		f.run(t, `UPDATE accounts SET limits = '{"retention_days":30}' WHERE id = ?`, resttest.Account)
		old, young := f.leave(t, "call_1", "a"), f.leave(t, "call_1", "a")
		f.run(t, "UPDATE voicemails SET created_at = ? WHERE id = ?", db.Now().AddDate(0, 0, -31), old)
		f.happen(t, "call_1", started("rec_never", "a"))
		f.run(t, "UPDATE pending_voicemails SET started_at = ?", db.Now().AddDate(0, 0, -31))
		if err := f.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails/"+string(old), nil); w.Code != http.StatusNotFound {
			t.Errorf("the old one is there: %d", w.Code)
		}
		f.get(t, young)
		f.happen(t, "call_1", completed("rec_never", 4))
		if w := f.Do(t, resttest.Token, http.MethodGet, "/v1/voicemails/vm_never", nil); w.Code != http.StatusNotFound {
			t.Errorf("what was given up came: %d", w.Code)
		}
	})
}
