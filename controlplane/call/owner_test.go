package call_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// of makes a story that of an extension.
func of(credential webhooks.CredentialID, events []webhooks.Event) []webhooks.Event {
	events[0].Data.CredentialID = credential
	return events
}

func TestALegIsWhoseExtensionItIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, _ := mount(t, d)
		department := "dep_1"
		s.OwnerOf = func(_ context.Context, _ *db.Tx, account, credential string) (string, string, bool, error) {
			return "usr_1", department, account == resttest.Account && credential == "cred_1", nil
		}
		publish(t, s, "call_1", of("cred_1", whole())[:2]...)
		// What changes later does not move what was begun.
		department = "dep_2"
		publish(t, s, "call_1", whole()[2:]...)
		publish(t, s, "call_2", of("cred_2", whole())...)
		publish(t, s, "call_3", whole()...)
		if _, err := s.Lose(t.Context(), "call_1", start); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[webhooks.CallID]db.Owned{"call_1": {OwnerID: "usr_1", DepartmentID: "dep_1"}, "call_2": {}, "call_3": {}} {
			if c := get(t, s, id); c.Owned != want {
				t.Errorf("%s is %+v's, want %+v's", id, c.Owned, want)
			}
			var events []event.Event
			if err := d.Read().NewSelect().Model(&events).Where("call_id = ?", id).Scan(t.Context()); err != nil || len(events) != 6 {
				t.Fatal(len(events), err)
			}
			for _, e := range events {
				if (db.Owned{OwnerID: e.OwnerID, DepartmentID: e.DepartmentID}) != want {
					t.Errorf("%s of %s is %s's in %s", e.Type, id, e.OwnerID, e.DepartmentID)
				}
			}
		}
		for _, c := range []struct {
			rows auth.Rows
			want string
		}{
			{auth.Rows{Users: []string{"usr_1"}}, "call_1"}, {auth.Rows{Users: []string{"usr_2"}}, ""}, {auth.Rows{}, ""},
			{auth.Rows{Departments: []string{"dep_1"}}, "call_1"}, {auth.Rows{Departments: []string{"dep_2"}}, ""},
		} {
			who := auth.Caller{Scope: auth.Account(resttest.Account), Reach: map[string]auth.Rows{"calls": c.rows}}
			seen, err := db.List[call.Call](t.Context(), d, who.Over("calls"))
			var got []string
			for _, each := range seen {
				got = append(got, each.ID)
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%+v see %v, %v; want %s", c.rows, got, err, c.want)
			}
		}
	})
}

func TestAnOwnerThatCannotBeFoundStoresNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		away := errors.New("away")
		s.OwnerOf = func(context.Context, *db.Tx, string, string) (string, string, bool, error) {
			return "", "", false, away
		}
		if _, err := s.Publish(t.Context(), call.Batch{Owner: owner("call_1"), Events: of("cred_1", whole())}); !errors.Is(err, away) {
			t.Errorf("Publish: %v", err)
		}
		s.OwnerOf = nil
		if publish(t, s, "call_1", of("cred_1", whole())...); len(stored(t, server, "call_1")) != 6 {
			t.Error("it was not stored the second time")
		}
	})
}

func TestWhatAProgramStartsIsNobodys(t *testing.T) {
	server, s, _ := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	s.DepartmentOf = func(context.Context, db.Conn, string, string) (string, error) { return "dep_1", nil }
	var c call.Call
	w := server.Do(t, resttest.Token, http.MethodPost, "/v1/calls", `{"to":{"extension":"1001"},"url":"https://example.com/"}`)
	resttest.Want(t, w, http.StatusCreated, &c)
	if c.Owned != (db.Owned{}) {
		t.Errorf("%+v", c.Owned)
	}
}
