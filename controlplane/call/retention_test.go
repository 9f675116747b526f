package call_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

// keepFor gives accounts their limit.
func keepFor(t *testing.T, d *db.DB, days int, accounts ...string) {
	t.Helper()
	for _, id := range accounts {
		if _, err := d.Write().NewRaw("UPDATE accounts SET limits = ? WHERE id = ?", fmt.Sprintf(`{"retention_days": %d}`, days), id).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// aged moves a call's times into the past: when we came to know of it, and when it ended.
func aged(t *testing.T, d *db.DB, id webhooks.CallID, created, ended time.Duration) {
	t.Helper()
	now := db.Now()
	if _, err := d.Write().NewRaw("UPDATE calls SET created_at = ?, ended_at = ? WHERE id = ?", now.Add(-created), now.Add(-ended), id).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// left are the calls there are, and how many events each has.
func left(t *testing.T, d *db.DB) string {
	t.Helper()
	var rows []struct {
		ID     string
		Events int
	}
	err := d.Read().NewRaw(`SELECT id, (SELECT count(*) FROM events WHERE call_id = c.id) AS events FROM calls AS c
		UNION SELECT call_id AS id, -1 AS events FROM events WHERE call_id IS NOT NULL AND call_id NOT IN (SELECT id FROM calls) ORDER BY id`).Scan(t.Context(), &rows)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range rows {
		all = append(all, fmt.Sprintf("%s:%d", r.ID, r.Events))
	}
	return strings.Join(all, " ")
}

const day = 24 * time.Hour

func TestOldRecordsOfCallsGoWithTheirEvents(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		keepFor(t, d, 7, resttest.Account)
		for _, c := range []struct {
			id             webhooks.CallID
			created, ended time.Duration
		}{
			{"call_1", 8 * day, 8 * day}, {"call_2", 6 * day, 6 * day}, {"call_3", 9 * day, 6 * day}, // three days long
			{"call_4", 6 * day, 8 * day}, // the news came two days later
		} {
			publish(t, s, c.id, whole()...)
			aged(t, d, c.id, c.created, c.ended)
		}
		// One that goes on, and one of an account that keeps everything.
		publish(t, s, "call_5", story(webhooks.EventCallInitiated, webhooks.EventCallRinging)...)
		if _, err := d.Write().NewRaw("UPDATE calls SET created_at = ? WHERE id = 'call_5'", db.Now().Add(-30*day)).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		o := owner("call_6")
		o.AccountID = resttest.OtherAccount
		if _, err := s.Publish(t.Context(), call.Batch{Owner: o, Events: whole()}); err != nil {
			t.Fatal(err)
		}
		aged(t, d, "call_6", 900*day, 900*day)
		// What is about something else stays.
		err := d.InTx(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return event.Emit(ctx, tx, event.Event{AccountID: resttest.Account, Type: "thing.changed", Resource: "things", ObjectID: "thing_1"})
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := left(t, d), "call_2:6 call_3:6 call_4:6 call_5:2 call_6:6"; got != want {
				t.Errorf("left %s, want %s", got, want)
			}
		}
		if n, err := d.Read().NewSelect().Table("events").Where("object_id = 'thing_1'").Count(t.Context()); n != 1 || err != nil {
			t.Errorf("%d events of something else: %v", n, err)
		}
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_1", nil), http.StatusNotFound, nil)
		// What its edge may still send makes no record of it again, and does not go round in circles.
		for _, e := range [][]webhooks.Event{whole()[3:5], whole()[5:]} {
			if expect := publish(t, s, "call_1", e...); expect != 1 {
				t.Errorf("expects %d", expect)
			}
		}
		if got := left(t, d); strings.Contains(got, "call_1") {
			t.Errorf("left %s", got)
		}
	})
}

func TestACallWhoseLegOutlivesItsParentIsShown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		keepFor(t, d, 7, resttest.Account)
		publish(t, s, "call_1", whole()...)
		publish(t, s, "call_2", whole()...)
		if _, err := d.Write().NewRaw("UPDATE calls SET parent_call_id = 'call_1' WHERE id = 'call_2'").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		aged(t, d, "call_1", 8*day, 8*day)
		aged(t, d, "call_2", 8*day, 6*day)
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		var c call.Call
		resttest.Want(t, server.Do(t, resttest.Token, http.MethodGet, "/v1/calls/call_2?expand=parent_call", nil), http.StatusOK, &c)
		if c.ParentCallID != "call_1" || left(t, d) != "call_2:6" {
			t.Errorf("%+v, left %s", c, left(t, d))
		}
	})
}

func TestMoreCallsThanOneTransactionTakesAreRemoved(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, _ := mount(t, d)
		keepFor(t, d, 7, resttest.Account, resttest.OtherAccount)
		publish(t, s, "call_0", whole()...)
		aged(t, d, "call_0", 8*day, 8*day)
		// Rows like it, several with the same time.
		for _, q := range []string{
			`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
			INSERT INTO calls (id, account_id, metadata, created_at, updated_at, etag, "from", "to", direction, status, started_at, ended_at, edge_id, boot_id, epoch, edge_expects, next_sequence)
			SELECT 'call_n' || n.i, c.account_id, c.metadata, c.created_at, c.updated_at, c.etag, c."from", c."to", c.direction, c.status, c.started_at, c.ended_at, c.edge_id, c.boot_id, c.epoch, c.edge_expects, c.next_sequence
			FROM calls AS c CROSS JOIN n WHERE c.id = 'call_0'`,
			`INSERT INTO events (id, account_id, type, resource, object_id, call_id, sequence, occurred_at, created_at, data)
			SELECT 'evt_' || id, account_id, 'call.ended', 'calls', id, id, 1, ended_at, ended_at, '{}' FROM calls WHERE id <> 'call_0'`,
		} {
			if _, err := d.Write().NewRaw(q).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var kept []webhooks.CallID
		s.Release = func(_ context.Context, _ *db.Tx, account webhooks.AccountID, calls []webhooks.CallID) ([]webhooks.CallID, error) {
			if account != resttest.Account || len(calls) > 250 {
				t.Errorf("%d calls of %s at once", len(calls), account)
			}
			i := slices.Index(calls, "call_n250")
			if i < 0 {
				return nil, nil
			}
			kept = append(kept, calls[i])
			return calls[i : i+1], nil
		}
		// Two processes at the same time.
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := s.Purge(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if got := left(t, d); got != "call_n250:1" || len(kept) != 2 {
			t.Errorf("left %s, kept %v", got, kept)
		}
		// What cannot be released is there the next time, with all that hangs on it.
		s.Release = func(context.Context, *db.Tx, webhooks.AccountID, []webhooks.CallID) ([]webhooks.CallID, error) {
			return nil, errors.New("not now")
		}
		if err := s.Purge(t.Context()); err == nil || !strings.Contains(err.Error(), "not now") {
			t.Errorf("Purge: %v", err)
		}
		s.Release = nil
		if err := s.Purge(t.Context()); err != nil || left(t, d) != "" {
			t.Errorf("left %s, %v", left(t, d), err)
		}
	})
}
