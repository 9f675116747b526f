package call_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestEventsFoldIntoTheRecord(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, _ := mount(t, d)
		events := whole()
		publish(t, s, "call_1", events[:2]...)
		c := get(t, s, "call_1")
		if c.Status != webhooks.StatusRinging || c.From != "+8613800138000" || c.Dialed != "02368925278" || c.TrunkID != "trk_1" ||
			c.ConversationID != "conv_1" || c.Etag != "0" || c.RingingAt == nil || c.EndedAt != nil || c.EdgeID != "edge_1" || c.BootID != "boot_1" {
			t.Errorf("ringing: %+v", c)
		}
		publish(t, s, "call_1", events[2:4]...)
		if c = get(t, s, "call_1"); c.Status != webhooks.StatusInProgress || c.Etag != "1" || !c.AnsweredAt.Equal(start.Add(2*time.Second)) {
			t.Errorf("answered: %+v", c)
		}
		if expect := publish(t, s, "call_1", events[4:]...); expect != 6 {
			t.Errorf("expects %d, want 6", expect)
		}
		c = get(t, s, "call_1")
		if c.Status != webhooks.StatusCompleted || c.Cause != webhooks.CauseCallerHangup || c.SIPCode != 200 || c.EndedBy != webhooks.EndedByCaller ||
			*c.Duration != 4 || *c.RingDuration != 2 || *c.TalkDuration != 2 || c.ReasonZH != "主叫挂机。" || c.Media == nil || c.Media.MOS != 4.2 || c.Etag != "2" {
			t.Errorf("ended: %+v", c)
		}
	})
}

func TestTheRecordSaysWhoseLegItWasAndWhatAnswered(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		events := story(webhooks.EventCallInitiated, webhooks.EventCallAnswered, webhooks.EventCallDetected)
		took := webhooks.Seconds(1.5)
		events[0].Data.AgentID = "agt_1"
		events[2].Data = webhooks.EventData{AnsweredBy: webhooks.ByMachineEndBeep, DetectionDuration: &took}
		publish(t, s, "call_1", events...)
		publish(t, s, "call_2", story(webhooks.EventCallInitiated)...)
		c := get(t, s, "call_1")
		if c.AgentID != "agt_1" || c.AnsweredBy != webhooks.ByMachineEndBeep || c.DetectionDuration == nil || *c.DetectionDuration != took {
			t.Errorf("%+v", c)
		}
		if got := ids(t, server, resttest.Token, "?agent_id=agt_1"); got != "call_1" {
			t.Errorf("the agent's are %s", got)
		}
	})
}

func TestEventsAreStoredOnceAndInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		events := whole()
		want := []string{"1 call.initiated", "2 call.ringing", "3 call.answered", "4 dtmf", "5 call.ended", "6 recording.completed"}
		for _, step := range []struct {
			name   string
			events []webhooks.Event
			expect int64
			stored int
		}{
			{"a call that begins with a gap", events[1:3], 1, 0},
			{"the beginning", events[:2], 3, 2},
			{"the beginning again", events[:2], 3, 2},
			{"a gap", events[3:4], 3, 2},
			{"what overlaps, and then has a gap", []webhooks.Event{events[1], events[2], events[4]}, 4, 3},
			{"the rest", events[2:], 6, 6},
			{"the rest again, also what has no sequence", events[2:], 6, 6},
		} {
			if expect := publish(t, s, "call_1", step.events...); expect != step.expect {
				t.Errorf("%s: expects %d, want %d", step.name, expect, step.expect)
			}
			if step.stored == 0 {
				continue
			}
			if got := stored(t, server, "call_1"); !slices.Equal(got, want[:step.stored]) {
				t.Errorf("%s: stored %v, want %v", step.name, got, want[:step.stored])
			}
		}
	})
}

func TestWhoDoesNotOwnTheCallIsRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		events := whole()
		if _, err := s.Publish(t.Context(), call.Batch{Owner: func() call.Owner { o := owner("call_1"); o.Epoch = 2; return o }(), Events: events[:1]}); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*call.Batch){
			"a lower epoch":      func(b *call.Batch) { b.Epoch = 1 },
			"an epoch of nobody": func(b *call.Batch) { b.Epoch = 3 },
			"another account":    func(b *call.Batch) { b.Epoch, b.AccountID = 2, "acc_other" },
			"an unknown account": func(b *call.Batch) { b.CallID, b.AccountID = "call_2", "acc_unknown" },
			"no beginning": func(b *call.Batch) {
				b.CallID = "call_2"
				b.Events = []webhooks.Event{{ID: "evt_1", Type: webhooks.EventCallRinging, Sequence: 1, OccurredAt: start}}
			},
			"no events": func(b *call.Batch) { b.Events = nil },
		} {
			b := call.Batch{Owner: owner("call_1"), Events: story(webhooks.EventCallInitiated, webhooks.EventCallRinging)}
			change(&b)
			_, err := s.Publish(t.Context(), b)
			want := call.ErrRefused
			if name == "a lower epoch" {
				want = call.ErrFenced
			}
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		if got := stored(t, server, "call_1"); len(got) != 1 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestALostCallEndsOnceAndALateEndAmendsIt(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		events := whole()
		publish(t, s, "call_1", events[:2]...)
		heard := start.Add(90 * time.Second)
		for _, want := range []bool{true, false} {
			if lost, err := s.Lose(t.Context(), "call_1", heard); err != nil || lost != want {
				t.Fatalf("Lose: %t, %v; want %t", lost, err, want)
			}
		}
		c := get(t, s, "call_1")
		if c.Cause != webhooks.CauseEdgeLost || c.Status != webhooks.StatusFailed || c.SIPCode != 503 || c.EndedBy != webhooks.EndedBySystem || *c.Duration != 90 ||
			!c.EndedAt.Equal(heard) || c.Reason == "" || c.ReasonZH == "" {
			t.Errorf("lost: %+v", c)
		}
		// The edge was only cut off: it goes on where it was.
		if expect := publish(t, s, "call_1", events[2]); expect != 4 {
			t.Errorf("expects %d, want 4", expect)
		}
		if c = get(t, s, "call_1"); c.Status != webhooks.StatusCompleted || *c.TalkDuration != 88 || c.Cause != webhooks.CauseEdgeLost {
			t.Errorf("answered before it was lost: %+v", c)
		}
		publish(t, s, "call_1", events[3:]...)
		c = get(t, s, "call_1")
		if c.Cause != webhooks.CauseCallerHangup || *c.Duration != 4 || c.Media == nil || !c.EndedAt.Equal(start.Add(4*time.Second)) {
			t.Errorf("amended: %+v", c)
		}
		want := []string{"1 call.initiated", "2 call.ringing", "3 call.ended", "4 call.answered", "5 dtmf", "6 recording.completed"}
		if got := stored(t, server, "call_1"); !slices.Equal(got, want) {
			t.Errorf("stored %v, want %v", got, want)
		}
		publish(t, s, "call_1", events...) // all of it once more
		if got := stored(t, server, "call_1"); !slices.Equal(got, want) {
			t.Errorf("after a repetition: stored %v, want %v", got, want)
		}
	})
}

func TestWhatFollowsAnEndThatNeverCameEndsTheCallBefore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		publish(t, s, "call_1", whole()[:3]...)
		publish(t, s, "call_1", webhooks.Event{ID: "evt_1", Type: webhooks.EventRecordingCompleted, OccurredAt: start.Add(time.Hour)})
		want := []string{"1 call.initiated", "2 call.ringing", "3 call.answered", "4 call.ended", "5 recording.completed"}
		if got := stored(t, server, "call_1"); !slices.Equal(got, want) {
			t.Errorf("stored %v, want %v", got, want)
		}
		if c := get(t, s, "call_1"); c.Cause != webhooks.CauseEdgeLost || c.Status != webhooks.StatusCompleted {
			t.Errorf("%+v", c)
		}
	})
}

func TestTextsFromTheNetworkCannotStopTheEvents(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, _ := mount(t, d)
		e := story(webhooks.EventCallInitiated)
		e[0].Data.From, e[0].Data.SIPCallID = "a\x00b", "\xff@x"
		publish(t, s, "call_1", e...)
		if c := get(t, s, "call_1"); c.From != "a\ufffdb" || c.SIPCallID != "\ufffd@x" {
			t.Errorf("from %q, SIP Call-ID %q", c.From, c.SIPCallID)
		}
	})
}

func TestManyPublishAtOnceAndOneThatIsRefusedHarmsNobody(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		server, s, _ := mount(t, d)
		var all sync.WaitGroup
		const calls = 40
		for i := range calls {
			all.Go(func() {
				id := webhooks.CallID(fmt.Sprintf("call_%d", i))
				o := owner(id)
				if i%10 == 0 {
					o.AccountID = "acc_unknown"
				}
				events := whole()
				for _, batch := range [][]webhooks.Event{events[:2], events[2:4], events[4:]} {
					_, err := s.Publish(t.Context(), call.Batch{Owner: o, Events: batch})
					if refused := errors.Is(err, call.ErrRefused); i%10 == 0 && batch[0].Sequence == 1 && !refused || i%10 != 0 && err != nil {
						t.Errorf("%s: %v", id, err)
					}
				}
			})
		}
		all.Wait()
		for i := range calls {
			if i%10 == 0 {
				continue
			}
			if got := stored(t, server, webhooks.CallID(fmt.Sprintf("call_%d", i))); len(got) != 6 {
				t.Errorf("call_%d: %v", i, got)
			}
		}
	})
}

func TestOneWhoGivesUpWaitingStopsNobody(t *testing.T) {
	_, s, _ := mount(t, dbtest.Open(t, dbtest.SQLiteURL(t)))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = gone
			}
			id := webhooks.CallID(fmt.Sprintf("call_%d", i))
			_, err := s.Publish(ctx, call.Batch{Owner: owner(id), Events: whole()})
			if err != nil && (i%2 != 0 || !errors.Is(err, context.Canceled)) {
				t.Errorf("%s: %v", id, err)
			}
		})
	}
	all.Wait()
	publish(t, s, "call_after", whole()...)
}

func TestEventsAreToldWithTheirRowsAndWakeTheirReadersAfter(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, _ := mount(t, d)
		var told []webhooks.EventType
		fail := true
		woken := 0
		s.Wake = func() { woken++ }
		s.Also = append(s.Also, func(_ context.Context, _ *db.Tx, events []webhooks.Event) error {
			if fail {
				return errors.New("not now")
			}
			for _, e := range events {
				told = append(told, e.Type)
			}
			return nil
		})
		events := whole()
		if _, err := s.Publish(t.Context(), call.Batch{Owner: owner("call_1"), Events: events}); err == nil || errors.Is(err, call.ErrRefused) {
			t.Fatalf("Publish: %v", err)
		}
		if _, err := s.Get(t.Context(), "call_1"); err == nil {
			t.Fatal("the row is there although its transaction failed")
		}
		fail = false
		publish(t, s, "call_1", events[:3]...)
		publish(t, s, "call_1", events...)
		if len(told) != 6 {
			t.Errorf("told %v", told)
		}
		if woken != 2 {
			t.Errorf("woke %d times, want once after each of two commits", woken)
		}
		var stored []event.Event
		if err := d.Read().NewSelect().Model(&stored).Where("call_id = 'call_1'").OrderBy("sequence", bun.OrderAsc).Scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, e := range stored {
			if e.Resource != "calls" || e.ObjectID != "call_1" || e.ConversationID != "conv_1" || e.Sequence != int64(i+1) || e.Position != 0 {
				t.Errorf("stored %+v", e)
			}
		}
		if len(stored) != 6 {
			t.Errorf("stored %d events, want 6", len(stored))
		}
	})
}

func TestLiveCallsAreCountedAndAbandonedOnesFound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		_, s, _ := mount(t, d)
		publish(t, s, "call_1", whole()[:2]...)
		publish(t, s, "call_2", whole()...)
		o := owner("call_3")
		o.BootID = "boot_0"
		if _, err := s.Publish(t.Context(), call.Batch{Owner: o, Events: whole()[:1]}); err != nil {
			t.Fatal(err)
		}
		if n, err := s.LiveOnTrunk(t.Context(), "trk_1"); err != nil || n != 2 {
			t.Errorf("on the trunk: %d, %v", n, err)
		}
		if n, err := s.LiveOf(t.Context(), "acc_test"); err != nil || n != 2 {
			t.Errorf("of the account: %d, %v", n, err)
		}
		later := db.Now().Add(time.Hour)
		for name, c := range map[string]struct {
			a    call.Abandoned
			want string
		}{
			"nothing said":            {call.Abandoned{}, ""},
			"an edge":                 {call.Abandoned{Edge: "edge_1"}, "call_1 call_3"},
			"its other lives":         {call.Abandoned{Edge: "edge_1", ExceptBoot: "boot_1"}, "call_3"},
			"another edge":            {call.Abandoned{Edge: "edge_2"}, ""},
			"edges nobody knows":      {call.Abandoned{NotOn: []webhooks.EdgeID{"edge_2"}, QuietSince: later}, "call_1 call_3"},
			"all edges, but long ago": {call.Abandoned{QuietSince: start}, ""},
			"unheard of":              {call.Abandoned{Edge: "edge_1", Unheard: true}, ""},
		} {
			ids, err := s.Find(t.Context(), c.a, 10)
			var got []string
			for _, id := range ids {
				got = append(got, string(id))
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%s: %v, %v; want %s", name, got, err, c.want)
			}
		}
	})
}

// BenchmarkPublish is calls of three batches each, 8 at a time, as an edge publishes them.
func BenchmarkPublish(b *testing.B) {
	d, err := db.Open(b.Context(), "sqlite:"+b.TempDir()+"/bench.db")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	_, err = d.Write().NewRaw(`INSERT INTO accounts (id, account_id, metadata, created_at, updated_at, etag, name, default_country, limits)
		VALUES ('acc_test', 'acc_test', '{}', ?, ?, '1', 'test', 'CN', '{}')`, db.Now(), db.Now()).Exec(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s := &call.Service{DB: d}
	limit := make(chan struct{}, 8)
	var all sync.WaitGroup
	for b.Loop() {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			o, events := owner(webhooks.NewCallID()), whole()
			for _, batch := range [][]webhooks.Event{events[:2], events[2:4], events[4:]} {
				if _, err := s.Publish(b.Context(), call.Batch{Owner: o, Events: batch}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
