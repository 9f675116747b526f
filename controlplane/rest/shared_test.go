package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

func put(t *testing.T, s *resttest.Server, token, id, body string, status int, headers ...string) thing {
	t.Helper()
	var made thing
	w := s.Do(t, token, http.MethodPut, "/v1/things/by/external_id/"+url.PathEscape(id), body, headers...)
	if status < http.StatusBadRequest {
		resttest.Want(t, w, status, &made)
	} else {
		resttest.Want(t, w, status, nil)
	}
	return made
}

func TestAnUpsertReplacesTheWhole(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		first := put(t, s, resttest.Token, "a/b ü", `{"name":"A","number":"1","size":7,"pin":"1234","metadata":{"x":1}}`, http.StatusCreated)
		second := put(t, s, resttest.Token, "a/b ü", `{"name":"B"}`, http.StatusOK)
		if second.ID != first.ID || second.Name != "B" || second.Number != "" || second.Size != 60 || len(second.Metadata) != 0 || second.Etag != "2" || *second.ExternalID != "a/b ü" {
			t.Errorf("replaced to %+v", second)
		}
		put(t, s, resttest.Token, "x", `{"name":"C","external_id":"x"}`, http.StatusCreated)
		put(t, s, resttest.Token, "x", `{"name":"C","external_id":"y"}`, http.StatusBadRequest)
		put(t, s, resttest.Token, "z", `{"name":"C"}`, http.StatusConflict) // the name is x's
		put(t, s, resttest.Token, "x", `{"name":"C","colour":1}`, http.StatusBadRequest)
		put(t, s, resttest.Token, "x", `{"name":"D"}`, http.StatusPreconditionFailed, "If-Match", `"7"`)
		if other := put(t, s, resttest.Other, "x", `{"name":"theirs"}`, http.StatusCreated); other.ID == first.ID {
			t.Error("another account's external id is ours")
		}
	})
}

func TestUpsertsAtOnceMakeOneObject(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		const n = 8
		var wait sync.WaitGroup
		codes := make(chan int, n)
		for i := range n {
			wait.Go(func() {
				codes <- s.Do(t, resttest.Token, http.MethodPut, "/v1/things/by/external_id/x", fmt.Sprintf(`{"name":"A","size":%d}`, i+1)).Code
			})
		}
		wait.Wait()
		close(codes)
		counted := map[int]int{}
		for code := range codes {
			counted[code]++
		}
		var page struct{ Data []thing }
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/things", nil), http.StatusOK, &page)
		if counted[http.StatusCreated] != 1 || counted[http.StatusOK] != n-1 || len(page.Data) != 1 {
			t.Errorf("answered %v, and made %d", counted, len(page.Data))
		}
		if entries := audited(t, d); len(entries) != n {
			t.Errorf("%d audit entries for %d changes", len(entries), n)
		}
	})
}

// audited are the entries of Account, the oldest first.
func audited(t *testing.T, d *db.DB) []rest.AuditEntry {
	t.Helper()
	var entries []rest.AuditEntry
	if err := d.Read().NewSelect().Model(&entries).Where("account_id = ?", resttest.Account).OrderBy("id", "ASC").Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestWhoSeesOnlyTheirOwnOwnsWhatTheyMake(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		create(t, s, `{"name":"nobody's","external_id":"n"}`)
		var mine thing
		resttest.Want(t, s.Do(t, "own", http.MethodPost, "/v1/things", `{"name":"mine"}`), http.StatusCreated, &mine)
		if mine.OwnerID != resttest.OwnUser {
			t.Errorf("made %+v", mine)
		}
		resttest.Want(t, s.Do(t, "own", http.MethodPost, "/v1/things", `{"name":"A","owner_id":"usr_other"}`), http.StatusForbidden, nil)
		resttest.Want(t, s.Do(t, "own", http.MethodGet, "/v1/things/"+mine.ID, nil), http.StatusOK, nil)
		put(t, s, "own", "n", `{"name":"taken"}`, http.StatusConflict) // there, though not to be seen
		var page struct{ Data []thing }
		resttest.Want(t, s.Do(t, "own", http.MethodPost, "/v1/things/search", `{}`), http.StatusOK, &page)
		if len(page.Data) != 1 || page.Data[0].ID != mine.ID {
			t.Errorf("found %+v", page.Data)
		}
	})
}

func TestExpandShowsWhatTheCallerMaySee(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		open, mine := makeBox(t, d, "+8613700137000", ""), makeBox(t, d, "+8613700137001", resttest.OwnUser)
		for i, ref := range []string{open, mine, mine, "box_gone"} {
			create(t, s, fmt.Sprintf(`{"name":"%d","box_id":%q,"owner_id":%q}`, i, ref, resttest.OwnUser))
		}
		create(t, s, `{"name":"4"}`)
		for _, c := range []struct {
			token, method, target string
			want                  string
		}{
			{resttest.Token, "GET", "/v1/things?sort=name", "- - - - -"},
			{resttest.Token, "GET", "/v1/things?sort=name&expand=box", "+8613700137000 +8613700137001 +8613700137001 - -"},
			{resttest.Token, "GET", "/v1/things?sort=name&expand=box,box&expand=box", "+8613700137000 +8613700137001 +8613700137001 - -"},
			{resttest.Token, "POST", "/v1/things/search?expand=box", "+8613700137000 +8613700137001 +8613700137001 - -"},
			{"masked", "GET", "/v1/things?sort=name&expand=box", "************00 ************01 ************01 - -"},
			{"own", "GET", "/v1/things?sort=name&expand=box", "- +8613700137001 +8613700137001 -"},
			{"only:things.read", "GET", "/v1/things?sort=name&expand=box", "- - - - -"},
		} {
			var body any
			if c.method == http.MethodPost {
				body = `{"sort":"name"}`
			}
			var page struct {
				Data []struct {
					Box *box `json:"box"`
				}
			}
			resttest.Want(t, s.Do(t, c.token, c.method, c.target, body), http.StatusOK, &page)
			var got []string
			for _, row := range page.Data {
				if row.Box == nil {
					got = append(got, "-")
					continue
				}
				got = append(got, row.Box.Number)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%s %s: got %v, want %s", c.token, c.target, got, c.want)
			}
		}
		for _, target := range []string{"?expand=", "?expand=box,", "?expand=box_id", "?expand=things"} {
			var got fault
			resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/things"+target, nil), http.StatusBadRequest, &got)
			if len(got.Errors) != 1 || got.Errors[0].Pointer != "expand" {
				t.Errorf("%s: %+v", target, got)
			}
		}
		resttest.Want(t, s.Do(t, resttest.Token, http.MethodGet, "/v1/boxes?expand=box", nil), http.StatusBadRequest, nil)
	})
}

func TestAMaskedReaderGetsNoOracle(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		create(t, s, `{"name":"A","number":"+8613800138000"}`)
		for _, c := range []struct{ target, body, pointer string }{
			{"/v1/things?number=%2B8613800138000", "", "number"},
			{"/v1/things?sort=number", "", "sort"},
			{"/v1/things?sort=-number", "", "sort"},
			{"/v1/things?q=138", "", "q"},
			{"/v1/things/search", `{"filter":{"number":"+8613800138000"}}`, "/filter/number"},
			{"/v1/things/search", `{"filter":{"or":[{"name":"A"},{"and":[{"number":{"in":["1"]}}]}]}}`, "/filter/or/1/and/0/number"},
			{"/v1/things/search", `{"sort":"-number"}`, "/sort"},
			{"/v1/things/search", `{"q":"138"}`, "/q"},
		} {
			method, body := http.MethodGet, any(nil)
			if c.body != "" {
				method, body = http.MethodPost, c.body
			}
			var got fault
			resttest.Want(t, s.Do(t, "masked", method, c.target, body), http.StatusForbidden, &got)
			if len(got.Errors) != 1 || got.Errors[0].Pointer != c.pointer || !strings.Contains(got.Detail, "hidden") {
				t.Errorf("%s %s: %+v", c.target, c.body, got)
			}
			resttest.Want(t, s.Do(t, resttest.Token, method, c.target, body), http.StatusOK, nil)
		}
	})
}

func TestAChangeThatCannotBeAuditedIsNotMade(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s, _ := start(t, d)
		made := create(t, s, `{"name":"A","external_id":"x"}`)
		if _, err := d.Write().NewRaw("ALTER TABLE audit_entries RENAME TO lost").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ method, path, body string }{
			{"POST", "", `{"name":"B"}`}, {"PATCH", "/" + made.ID, `{"name":"C"}`}, {"DELETE", "/" + made.ID, ""}, {"PUT", "/by/external_id/x", `{"name":"D"}`},
			{"GET", "/" + made.ID + "/file", ""},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			resttest.Want(t, s.Do(t, resttest.Token, c.method, "/v1/things"+c.path, body), http.StatusInternalServerError, nil)
		}
		rows, err := db.List[thing](t.Context(), d, auth.Account(resttest.Account))
		if err != nil || len(rows) != 1 || rows[0].Name != "A" || rows[0].Etag != "1" {
			t.Errorf("there is %+v, %v", rows, err)
		}
	})
}

// What follows a change may fail when the change can no longer be undone: then the audit tells of both.
func TestTheAuditTellsWhenAChangeWasMadeAndTheRestFailed(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	s, service := start(t, d)
	made := create(t, s, `{"name":"A"}`)
	service.copied = func() error { return errors.New("nobody answers") }
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/things/"+made.ID+"/copies", nil), http.StatusInternalServerError, nil)
	var got []string
	for _, e := range audited(t, d)[1:] {
		var after thing
		if len(e.After) > 0 {
			if err := json.Unmarshal(e.After, &after); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, fmt.Sprintf("%s %d %s", e.Operation, e.Status, after.Name))
	}
	if want := []string{"copyThing 200 A'", "copyThing 500 "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestARefusedChangeLeavesNoEntry(t *testing.T) {
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	s, service := start(t, d)
	service.before = func(context.Context) error { return errRefused }
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/things", `{"name":"A"}`), http.StatusUnprocessableEntity, nil)
	resttest.Want(t, s.Do(t, resttest.Token, http.MethodPost, "/v1/things/search", `{}`), http.StatusOK, nil)
	if entries := audited(t, d); len(entries) != 0 {
		t.Errorf("left %+v", entries)
	}
}
