package audit_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/audit"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func mount(t *testing.T, d *db.DB) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.New(d, spec.View)
	if err != nil {
		t.Fatal(err)
	}
	return resttest.Mount(t, d, spec, s.Operations())
}

// written puts an entry into an account's audit.
func written(t *testing.T, d *db.DB, change func(e *audit.Entry)) audit.Entry {
	t.Helper()
	e := audit.Entry{
		ID: db.NewID("aud"), AccountID: resttest.Account, CreatedAt: db.Now(), ActorID: "usr_1", Operation: "updateNumber", ObjectID: "num_1",
		Status: 200, Address: "192.0.2.1", RequestID: db.NewID("req"),
	}
	change(&e)
	if _, err := d.Write().NewInsert().Model(&e).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server { return mount(t, dbtest.Open(t, location(t))) }, resttest.Suite{
				Objects: func(t *testing.T, s *resttest.Server) map[string]string {
					e := written(t, s.DB, func(e *audit.Entry) { e.After = json.RawMessage(`{"id":"num_1"}`) })
					return map[string]string{"audit_entry_id": e.ID}
				},
			})
		})
	}
}

func ids(page list.Page[audit.Entry]) []string {
	found := []string{}
	for _, e := range page.Data {
		found = append(found, e.ID)
	}
	return found
}

func TestEntriesAreFoundByWhatIsKnownOfThem(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		first := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
		one := written(t, d, func(e *audit.Entry) { e.CreatedAt = first })
		two := written(t, d, func(e *audit.Entry) {
			e.CreatedAt, e.ActorID, e.ObjectID, e.Batch = first.Add(time.Hour), "key_2", "num_2", 3
		})
		three := written(t, d, func(e *audit.Entry) {
			e.CreatedAt, e.Operation, e.Status, e.Address = first.Add(2*time.Hour), "deleteNumber", 204, "2001:db8::1"
		})
		written(t, d, func(e *audit.Entry) { e.AccountID = resttest.OtherAccount })
		for _, c := range []struct {
			query, filter string
			want          []string
		}{
			{"", `{}`, []string{three.ID, two.ID, one.ID}},
			{"sort=created_at", `{}`, []string{one.ID, two.ID, three.ID}},
			{"actor_id=key_2", `{"actor_id":"key_2"}`, []string{two.ID}},
			{"operation=updateNumber&operation=createNumber", `{"operation":{"in":["updateNumber","createNumber"]}}`, []string{two.ID, one.ID}},
			{"object_id=num_2", `{"object_id":"num_2"}`, []string{two.ID}},
			{"created_at%5Bgte%5D=2026-01-31T09:00:00Z&created_at%5Blt%5D=2026-01-31T10:00:00Z", `{"created_at":{"gte":"2026-01-31T09:00:00Z","lt":"2026-01-31T10:00:00Z"}}`, []string{two.ID}},
			{"request_id=" + one.RequestID, `{"request_id":"` + one.RequestID + `"}`, []string{one.ID}},
			{"address=2001:db8::1", `{"address":"2001:db8::1"}`, []string{three.ID}},
			{"status=204", `{"status":204}`, []string{three.ID}},
			{"batch=3", `{"batch":3}`, []string{two.ID}},
			{"id%5Bin%5D=" + one.ID + "," + three.ID, `{"or":[{"id":"` + one.ID + `"},{"status":204}]}`, []string{three.ID, one.ID}},
			{"object_id=num_3", `{"object_id":null}`, []string{}},
		} {
			var listed, found list.Page[audit.Entry]
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/audit_entries?"+c.query, nil), http.StatusOK, &listed)
			if got := ids(listed); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v, want %v", c.query, got, c.want)
			}
			body := `{"filter":` + c.filter + `}`
			if strings.HasPrefix(c.query, "sort=") {
				body = `{"sort":"created_at"}`
			}
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/audit_entries/search", body), http.StatusOK, &found)
			if got := ids(found); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v, want %v", c.filter, got, c.want)
			}
		}
	})
}

func TestAnEntryIsShownAsItWasWritten(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		e := written(t, d, func(e *audit.Entry) {
			e.Before, e.After = json.RawMessage(`{"number":"+8613800138000"}`), json.RawMessage(`{"number":"+8613800138000","etag":"2"}`)
		})
		var got audit.Entry
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/audit_entries/"+e.ID, nil), http.StatusOK, &got)
		var was, is struct{ Number, Etag string }
		if err := json.Unmarshal(got.Before, &was); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got.After, &is); err != nil {
			t.Fatal(err)
		}
		if !got.CreatedAt.Equal(e.CreatedAt) || got.ActorID != e.ActorID || was.Number != "+8613800138000" || is.Etag != "2" || got.Batch != 0 {
			t.Errorf("got %+v", got)
		}
		w := s.Do(t, resttest.Token, http.MethodGet, "/v1/audit_entries/"+written(t, d, func(*audit.Entry) {}).ID, nil)
		if strings.Contains(w.Body.String(), "before") || strings.Contains(w.Body.String(), "batch") {
			t.Errorf("what is not there is shown: %s", w.Body)
		}
	})
}

// canaries are telephone numbers as they get into objects, and what of each a masked reader must not see.
var canaries = map[string]string{
	"+8613912345678": "13912345678", "13912345678": "13912345678", "139-1234-5678": "139-1234", "+86 139 1234 5678": "1234", "0086 (139) 12345678": "12345678",
	"sip:+8613912345678@pbx.example.com": "13912345678", "tel:13912345678;phone-context=+86": "13912345678", "Mr Li, 139.1234.5678 (mobile)": "1234",
}

func TestAMaskedReaderSeesNoNumber(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		for number, secret := range canaries {
			quoted, err := json.Marshal(number)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ operation, object string }{
				{"updateNumber", `{"id":"num_1","number":%,"metadata":{}}`},
				{"updateNumber", `{"metadata":{"phone":%,"deep":[{"list":[%]}],%:"vip"}}`},
				{"updateCredential", `{"caller_name":%,"caller_id":%}`},
				{"createCall", `{"from":%,"to":%,"error":%}`},
				{"noSuchOperation", `{"anything":%,"list":[%,[%]]}`},
				{"noSuchOperation", `[%]`},
				{"noSuchOperation", `%`},
			} {
				object := strings.ReplaceAll(c.object, "%", string(quoted))
				e := written(t, d, func(e *audit.Entry) {
					e.Operation, e.ObjectID = c.operation, number
					// SQLite's jsonb holds objects and arrays.
					e.Before, e.After = json.RawMessage(`{"in":`+object+`}`), json.RawMessage(`[`+object+`]`)
					if object[0] == '{' {
						e.After = json.RawMessage(object)
					}
				})
				for _, w := range []string{
					s.Do(t, "masked", http.MethodGet, "/v1/audit_entries/"+e.ID, nil).Body.String(),
					s.Do(t, "masked", http.MethodGet, "/v1/audit_entries?id%5Bin%5D="+e.ID, nil).Body.String(),
					s.Do(t, "masked", http.MethodPost, "/v1/audit_entries/search", `{"filter":{"id":"`+e.ID+`"}}`).Body.String(),
				} {
					if !strings.Contains(w, e.ID) || strings.Contains(w, secret) || strings.Contains(w, "345678") {
						t.Errorf("%s: %s shows %q as %s", c.operation, object, number, w)
					}
				}
				if w := s.Do(t, resttest.Token, http.MethodGet, "/v1/audit_entries/"+e.ID, nil).Body.String(); !strings.Contains(w, strings.Trim(string(quoted), `"`)) {
					t.Errorf("who may see numbers does not: %s", w)
				}
			}
		}
	})
}

// A masked reader still sees what an entry is about.
func TestHidingNumbersLeavesTheRest(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	s := mount(t, d)
	rest := `{"address":"203.0.113.77","application_id":"app_01J00000000000000000000001","bytes":12345,"created_at":"2026-01-31T08:00:00.123456Z",` +
		`"day":"2026-01-31","etag":"2","text":"since 2026-01-31T08:00:00.123456Z app_01J00000000000000000000001 is at 203.0.113.77","yes":true}`
	e := written(t, d, func(e *audit.Entry) { e.Before = json.RawMessage(rest) })
	var got audit.Entry
	resttest.Want(t, s.Do(t, "masked", http.MethodGet, "/v1/audit_entries/"+e.ID, nil), http.StatusOK, &got)
	if string(got.Before) != rest || got.ObjectID != "num_1" || got.Address != "192.0.2.1" {
		t.Errorf("got %s", got.Before)
	}
	// Short codes are numbers too where the specification says so, and a number in digits alone is one.
	e = written(t, d, func(e *audit.Entry) {
		e.Before, e.Operation = json.RawMessage(`{"id":"num_1","number":"95588"}`), "updateNumber"
		e.After = json.RawMessage(`{"phone":13912345678,"number":"95588"}`)
	})
	resttest.Want(t, s.Do(t, "masked", http.MethodGet, "/v1/audit_entries/"+e.ID, nil), http.StatusOK, &got)
	if string(got.Before) != `{"id":"num_1","number":"***88"}` || string(got.After) != `{"number":"***88","phone":"*********78"}` {
		t.Errorf("got %s %s", got.Before, got.After)
	}
	e = written(t, d, func(e *audit.Entry) { e.Before, e.Operation = json.RawMessage(`{"number":"95588"}`), "noSuchOperation" })
	resttest.Want(t, s.Do(t, "masked", http.MethodGet, "/v1/audit_entries/"+e.ID, nil), http.StatusOK, &got)
	if string(got.Before) != `{"number":"***88"}` {
		t.Errorf("got %s", got.Before)
	}
}
