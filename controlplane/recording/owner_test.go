package recording_test

import (
	"context"
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/recording"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestARecordingIsWhoseTheCallIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.start(t, "rec_1", "PCMA", 1)
		if r := f.read(t, "rec_1"); r.Owned != (db.Owned{}) {
			t.Errorf("of nobody's call: %+v", r.Owned)
		}
		if _, err := d.Write().NewRaw("UPDATE calls SET owner_id = 'usr_1', department_id = 'dep_1'").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.start(t, "rec_2", "PCMA", 1)
		// This one comes before the news of it.
		f.ship(t, "rec_3", 1, octets(8000))
		f.finish(t, recording.Finish{RecordingID: "rec_3", Codec: "PCMA", Channels: 1, Segments: 1, Samples: 8000})
		f.start(t, "rec_3", "PCMA", 1)
		for _, id := range []webhooks.RecordingID{"rec_2", "rec_3"} {
			if r := f.read(t, id); r.Owned != (db.Owned{OwnerID: "usr_1", DepartmentID: "dep_1"}) {
				t.Errorf("%s: %+v", id, r.Owned)
			}
		}
	})
}

func TestARecordingThatBeginsWithItsCallIsWhoseTheCallIs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, d)
		f.calls.OwnerOf = func(context.Context, *db.Tx, string, string) (string, string, bool, error) {
			return "usr_1", "dep_1", true, nil
		}
		o := owner()
		o.CallID = "call_2"
		events := []webhooks.Event{
			{ID: webhooks.NewEventID(), Type: webhooks.EventCallInitiated, Sequence: 1, OccurredAt: db.Now(), Data: webhooks.EventData{CredentialID: "cred_1"}},
			{ID: webhooks.NewEventID(), Type: webhooks.EventRecordingStarted, Sequence: 2, OccurredAt: db.Now(),
				Data: webhooks.EventData{RecordingID: "rec_2", Channels: 1, Format: "wav", Codec: "PCMA"}},
		}
		if _, err := f.calls.Publish(t.Context(), call.Batch{Owner: o, Events: events}); err != nil {
			t.Fatal(err)
		}
		if r := f.read(t, "rec_2"); r.OwnerID != "usr_1" || r.DepartmentID != "dep_1" {
			t.Errorf("%+v", r.Owned)
		}
	})
}
