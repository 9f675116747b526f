package dictionary_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/dictionary"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/openapi"
)

// specification is read once: it takes longer than any test.
var specification = sync.OnceValues(openapi.Load)

func mount(t *testing.T, d *db.DB, but ...string) *resttest.Server {
	t.Helper()
	spec, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	operations := (&dictionary.Service{DB: d}).Operations()
	for _, id := range but {
		delete(operations, id)
	}
	return resttest.Mount(t, d, spec, operations)
}

func add(t *testing.T, s *resttest.Server, token, path, body string) (id string) {
	t.Helper()
	var made struct{ ID string }
	resttest.Want(t, s.Do(t, token, http.MethodPost, "/v1/dictionaries"+path, body), http.StatusCreated, &made)
	return made.ID
}

func TestEveryOperation(t *testing.T) {
	for name, location := range map[string]func(*testing.T) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			resttest.Run(t, func(t *testing.T) *resttest.Server {
				// The upsert of what stands below something else is in a test of its own.
				return mount(t, dbtest.Open(t, location(t)), "upsertDictionaryValue")
			}, resttest.Suite{Objects: func(t *testing.T, s *resttest.Server) map[string]string {
				id := add(t, s, resttest.Token, "", `{"key":"colours","label":{"en":"Colours"}}`)
				return map[string]string{"dictionary_id": id, "value_id": add(t, s, resttest.Token, "/"+id+"/values", `{"key":"red","label":{"en":"Red"}}`)}
			}})
		})
	}
}

func TestAValueIsUpsertedInItsDictionary(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		resttest.Structs(t, s.Spec, s.Operations)
		id := add(t, s, resttest.Token, "", `{"key":"city","label":{"en":"City"}}`)
		other := add(t, s, resttest.Token, "", `{"key":"town","label":{"en":"Town"}}`)
		put := func(token, dictionary, body string, headers ...string) *httptest.ResponseRecorder {
			return s.Do(t, token, http.MethodPut, "/v1/dictionaries/"+dictionary+"/values/by/external_id/crm%2F1", body, headers...)
		}
		const body = `{"key":"chengdu","label":{"en":"Chengdu"},"position":3}`
		for _, c := range []struct {
			token, dictionary string
			status            int
		}{{"", id, 401}, {"but:dictionaries.write", id, 403}, {resttest.Other, id, 404}, {resttest.Token, "dict_none", 404}} {
			if w := put(c.token, c.dictionary, body); w.Code != c.status {
				t.Errorf("%q in %s: %d %s", c.token, c.dictionary, w.Code, w.Body)
			}
		}
		resttest.Want(t, put(resttest.Token, id, body, "If-Match", `"1"`), http.StatusPreconditionFailed, nil)
		var made, changed dictionary.Value
		w := put(resttest.Token, id, body)
		resttest.Want(t, w, http.StatusCreated, &made)
		if *made.ExternalID != "crm/1" || made.DictionaryID != id || w.Header().Get("Location") != "/v1/dictionaries/"+id+"/values/"+made.ID {
			t.Errorf("%+v at %s", made, w.Header().Get("Location"))
		}
		resttest.Want(t, put(resttest.Token, id, `{"key":"chengdu","label":{"zh":"成都"}}`, "If-Match", `"1"`), http.StatusOK, &changed)
		if changed.ID != made.ID || changed.Position != 0 || changed.Label != (dictionary.Label{Chinese: "成都"}) || changed.Etag != "2" {
			t.Errorf("%+v", changed)
		}
		resttest.Want(t, put(resttest.Token, other, body), http.StatusConflict, nil)
	})
}

func TestWhatAValueMayBe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		provinces := add(t, s, resttest.Token, "", `{"key":"province","label":{"zh":"省份"}}`)
		cities := add(t, s, resttest.Token, "", `{"key":"city","label":{"zh":"城市"}}`)
		sichuan := add(t, s, resttest.Token, "/"+provinces+"/values", `{"key":"四川","label":{"zh":"四川"}}`)
		theirs := add(t, s, resttest.Other, "", `{"key":"city","label":{"en":"City"}}`)
		theirValue := add(t, s, resttest.Other, "/"+theirs+"/values", `{"key":"x","label":{"en":"X"}}`)
		for _, c := range []struct {
			path, body string
			status     int
			says       string
		}{
			{"", `{"key":"city","label":{"en":"City"}}`, 409, "/key"},
			{"", `{"key":"City","label":{"en":"City"}}`, 400, "/key"},
			{"", `{"key":"town","label":{}}`, 400, "/label"},
			{"/" + cities + "/values", `{"key":"成都","label":{"zh":"成都"},"parent_id":"` + sichuan + `"}`, 201, `"enabled":true`},
			{"/" + cities + "/values", `{"key":"成都","label":{"zh":"成都"}}`, 409, "/key"},
			{"/" + provinces + "/values", `{"key":"成都","label":{"zh":"成都"}}`, 201, `"position":0`}, // another dictionary
			{"/" + cities + "/values", `{"key":" a","label":{"zh":"a"}}`, 400, "/key"},
			{"/" + cities + "/values", `{"key":"a","label":{"zh":"a"},"colour":"red"}`, 400, "/colour"},
			{"/" + cities + "/values", `{"key":"a","label":{"zh":"a"},"parent_id":"` + theirValue + `"}`, 422, "/parent_id"},
			{"/" + cities + "/values", `{"key":"a","label":{"zh":"a"},"used":true}`, 400, "/used"},
			{"/" + theirs + "/values", `{"key":"a","label":{"zh":"a"}}`, 404, theirs},
		} {
			w := s.Do(t, resttest.Token, http.MethodPost, "/v1/dictionaries"+c.path, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%s: got %d %s; want %d with %s", c.body, w.Code, w.Body, c.status, c.says)
			}
		}
		// A value belongs to the dictionary in the path.
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/dictionaries/"+cities+"/values/"+sichuan, nil), http.StatusNotFound, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/dictionaries/"+cities+"/values/"+sichuan, nil), http.StatusNotFound, nil)
	})
}

func TestValuesStandBelowOthersWithoutALoop(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		id := add(t, s, resttest.Token, "", `{"key":"area","label":{"en":"Area"}}`)
		top := add(t, s, resttest.Token, "/"+id+"/values", `{"key":"a","label":{"en":"a"}}`)
		below := add(t, s, resttest.Token, "/"+id+"/values", `{"key":"b","label":{"en":"b"},"parent_id":"`+top+`"}`)
		w := s.Do(t, resttest.Token, http.MethodPatch, "/v1/dictionaries/"+id+"/values/"+top, `{"parent_id":"`+below+`"}`)
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/parent_id") {
			t.Errorf("a loop: %d %s", w.Code, w.Body)
		}
		w = s.Do(t, resttest.Token, http.MethodDelete, "/v1/dictionaries/"+id+"/values/"+top, nil)
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), below) {
			t.Errorf("a value with one below it: %d %s", w.Code, w.Body)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/dictionaries/"+id, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/dictionaries/"+id+"/values/"+top, nil), http.StatusNotFound, nil)
	})
}

func use(t *testing.T, d *db.DB, dict, key, parent string) error {
	t.Helper()
	return d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return dictionary.Use(ctx, tx, auth.Account(resttest.Account), dict, key, parent, "/city")
	})
}

func TestAUsedValueIsArchivedAndRestored(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		id := add(t, s, resttest.Token, "", `{"key":"city","label":{"en":"City"}}`)
		values := "/v1/dictionaries/" + id + "/values"
		used := add(t, s, resttest.Token, "/"+id+"/values", `{"key":"a","label":{"en":"a"}}`)
		other := add(t, s, resttest.Token, "/"+id+"/values", `{"key":"b","label":{"en":"b"}}`)
		if err := use(t, d, "city", "a", ""); err != nil {
			t.Fatal(err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, values+"/"+other, nil), http.StatusNoContent, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, values+"/"+other, nil), http.StatusNotFound, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, values+"/"+used, `{"key":"c"}`), http.StatusUnprocessableEntity, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, "/v1/dictionaries/"+id, `{"key":"town"}`), http.StatusUnprocessableEntity, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, values+"/"+used, nil), http.StatusNoContent, nil)
		w := s.Do(t, resttest.Token, http.MethodGet, values+"/"+used, nil)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "archived_at") {
			t.Errorf("a used value that was removed: %d %s", w.Code, w.Body)
		}
		if err := use(t, d, "city", "a", ""); problem.From(err).Code != problem.CodeRefused {
			t.Errorf("an archived value is chosen: %v", err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, values+"/"+used+"/restore", nil), http.StatusOK, nil)
		if err := use(t, d, "city", "a", ""); err != nil {
			t.Errorf("a restored value: %v", err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, values+"/"+used, `{"enabled":false}`), http.StatusOK, nil)
		if err := use(t, d, "city", "a", ""); problem.From(err).Code != problem.CodeRefused {
			t.Errorf("a value that is not enabled is chosen: %v", err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPatch, values+"/"+used, `{"enabled":true}`), http.StatusOK, nil)
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/dictionaries/"+id, nil), http.StatusNoContent, nil)
		if err := use(t, d, "city", "a", ""); problem.From(err).Code != problem.CodeRefused {
			t.Errorf("a value of an archived dictionary is chosen: %v", err)
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/dictionaries/"+id+"/restore", nil), http.StatusOK, nil)
		if err := use(t, d, "city", "a", ""); err != nil {
			t.Errorf("a value of a restored dictionary: %v", err)
		}
	})
}

func TestACascadeIsChosenFromTheTop(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		provinces := add(t, s, resttest.Token, "", `{"key":"province","label":{"en":"Province"}}`)
		cities := add(t, s, resttest.Token, "", `{"key":"city","label":{"en":"City"}}`)
		sichuan := add(t, s, resttest.Token, "/"+provinces+"/values", `{"key":"sichuan","label":{"en":"Sichuan"}}`)
		add(t, s, resttest.Token, "/"+cities+"/values", `{"key":"chengdu","label":{"en":"Chengdu"},"parent_id":"`+sichuan+`"}`)
		for _, c := range []struct{ dict, key, parent, code string }{
			{"city", "chengdu", "sichuan", ""}, {"city", "chengdu", "yunnan", "parent"}, {"city", "chengdu", "", "parent"},
			{"city", "kunming", "yunnan", "unknown"}, {"town", "chengdu", "", "unknown"}, {"province", "sichuan", "", ""},
		} {
			err := use(t, d, c.dict, c.key, c.parent)
			if got := problem.From(err); (c.code == "") != (err == nil) || (err != nil && (got.Code != problem.CodeRefused || got.Errors[0].Code != c.code || got.Errors[0].Pointer != "/city")) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		// Removing the dictionary above one with values would leave these without their parents.
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodDelete, "/v1/dictionaries/"+provinces, nil), http.StatusNoContent, nil)
		w := s.Do(t, resttest.Token, http.MethodGet, "/v1/dictionaries/"+provinces, nil)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "archived_at") {
			t.Errorf("got %d: %s", w.Code, w.Body)
		}
	})
}

func TestAnImportMakesAndChangesValues(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := mount(t, d)
		add(t, s, resttest.Token, "", `{"key":"province","label":{"en":"Province"}}`)
		id := add(t, s, resttest.Token, "", `{"key":"city","label":{"en":"City"}}`)
		put := func(row dictionary.Row) (created bool, err error) {
			row.Enabled = true
			err = d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				created, err = dictionary.Put(ctx, tx, auth.Account(resttest.Account), row)
				return err
			})
			return created, err
		}
		value := func(key, zh string) dictionary.ValueDraft {
			return dictionary.ValueDraft{Key: key, Label: dictionary.Label{Chinese: zh}}
		}
		for _, c := range []struct {
			row     dictionary.Row
			created bool
			says    string
		}{
			{dictionary.Row{Dictionary: "province", ValueDraft: value("sichuan", "四川")}, true, ""},
			{dictionary.Row{Dictionary: "city", ParentDictionary: "province", Parent: "sichuan", ValueDraft: value("chengdu", "成都")}, true, ""},
			{dictionary.Row{Dictionary: "city", ParentDictionary: "province", Parent: "sichuan", ValueDraft: value("chengdu", "成都市")}, false, ""},
			{dictionary.Row{Dictionary: "city", Parent: "sichuan", ValueDraft: value("leshan", "乐山")}, false, "/parent"},
			{dictionary.Row{Dictionary: "town", ValueDraft: value("x", "x")}, false, "/dictionary"},
			{dictionary.Row{Dictionary: "city", ValueDraft: value("", "x")}, false, "/key"},
		} {
			created, err := put(c.row)
			if created != c.created || (c.says == "") != (err == nil) || (err != nil && problem.From(err).Errors[0].Pointer != c.says) {
				t.Errorf("%+v: %t, %v", c.row, created, err)
			}
		}
		var page struct{ Data []dictionary.Value }
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/dictionaries/"+id+"/values", nil), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].Label.Chinese != "成都市" || page.Data[0].ParentID == "" {
			t.Errorf("%+v", page.Data)
		}
	})
}

func TestALabelStandsInForTheOther(t *testing.T) {
	both := dictionary.Label{Chinese: "红", English: "red"}
	for _, c := range []struct {
		label          dictionary.Label
		language, want string
	}{
		{both, "zh-CN", "红"}, {both, "en", "red"}, {both, "", "red"}, {dictionary.Label{Chinese: "红"}, "en", "红"}, {dictionary.Label{English: "red"}, "zh", "red"},
	} {
		if got := c.label.In(c.language); got != c.want {
			t.Errorf("%+v in %q: %q", c.label, c.language, got)
		}
	}
}
