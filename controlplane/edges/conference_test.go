package edges_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/conference"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// conferences is a house that keeps conferences, with two edges that have beaten.
func conferences(t *testing.T, d *db.DB) *house {
	t.Helper()
	h := newHouse(t, d)
	h.calls.Also = append(h.calls.Also, (&conference.Service{DB: d}).Apply)
	h.beats(t, 1, "boot_1")
	h.beats(t, 2, "boot_1")
	return h
}

// beats has an edge beat.
func (h *house) beats(t *testing.T, edge int, boot string) {
	t.Helper()
	b := control.Beat{EdgeID: webhooks.EdgeID(fmt.Sprint("edge_", edge)), BootID: boot, Calls: 1, SIP: sipAt(edge)}
	if err := h.Beat(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func sipAt(edge int) netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:5060", edge))
}

// asking is a leg of an edge that is to be in the conference "team".
func asking(edge int, id webhooks.ConferenceID) control.ConferenceQuery {
	q := control.ConferenceQuery{Owner: ownerOf(webhooks.CallID("call_of_"+string(id)), "boot_1"), Name: "team", ID: id}
	q.EdgeID = webhooks.EdgeID(fmt.Sprint("edge_", edge))
	return q
}

func (h *house) place(t *testing.T, q control.ConferenceQuery) control.ConferencePlace {
	t.Helper()
	at, err := h.PlaceConference(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// wantPlace checks where a conference is, and that there is a way there where that is another edge.
func wantPlace(t *testing.T, what string, q control.ConferenceQuery, got control.ConferencePlace, edge int, id webhooks.ConferenceID) {
	t.Helper()
	far := q.EdgeID != got.EdgeID
	if got.EdgeID != webhooks.EdgeID(fmt.Sprint("edge_", edge)) || got.ConferenceID != id || far != got.SIP.IsValid() || far != (got.Ticket != "") {
		t.Errorf("%s: it is at %+v, want %s on edge %d", what, got, id, edge)
	}
	if far && got.SIP != sipAt(edge) {
		t.Errorf("%s: edge %d is reached at %s", what, edge, got.SIP)
	}
}

func TestAConferenceIsOnOneEdge(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		q := asking(1, "conf_1")
		wantPlace(t, "the first", q, h.place(t, q), 1, "conf_1")
		q = asking(2, "conf_2")
		wantPlace(t, "another edge's", q, h.place(t, q), 1, "conf_1")
		q = asking(1, "conf_3")
		wantPlace(t, "the same edge's: it knows whether it goes on", q, h.place(t, q), 1, "conf_3")
		q = asking(2, "conf_4")
		q.Name = "other"
		wantPlace(t, "another name", q, h.place(t, q), 2, "conf_4")
		q = asking(2, "conf_5")
		q.AccountID = resttest.OtherAccount
		wantPlace(t, "another account's", q, h.place(t, q), 2, "conf_5")
	})
}

func TestOfManyEdgesWhoBeginAConferenceOneDoes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		const edges = 8
		for n := 3; n <= edges; n++ {
			h.beats(t, n, "boot_1")
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		found := map[webhooks.ConferenceID]int{}
		for n := 1; n <= edges; n++ {
			all.Go(func() {
				at, err := h.PlaceConference(t.Context(), asking(n, webhooks.ConferenceID(fmt.Sprint("conf_", n))))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				found[at.ConferenceID]++
			})
		}
		all.Wait()
		if len(found) != 1 {
			t.Errorf("they are in %v", found)
		}
	})
}

func TestTheNameOfAConferenceThatIsOverIsFree(t *testing.T) {
	joined := webhooks.Event{Type: webhooks.EventConferenceJoined, Data: webhooks.EventData{ConferenceID: "conf_1", Name: "team", Mode: "talk"}}
	ended := webhooks.Event{Type: webhooks.EventConferenceEnded, Data: webhooks.EventData{ConferenceID: "conf_1", Name: "team", Reason: webhooks.ConferenceLastLeft}}
	for name, c := range map[string]struct {
		happens func(t *testing.T, h *house)
		not     webhooks.ConferenceID
		free    bool
	}{
		"it goes on":                       {func(t *testing.T, h *house) { h.conferenceEvents(t, joined) }, "", false},
		"it has ended":                     {func(t *testing.T, h *house) { h.conferenceEvents(t, joined, ended) }, "", true},
		"its edge says that it is over":    {func(*testing.T, *house) {}, "conf_1", true},
		"its edge says so of the last":     {func(*testing.T, *house) {}, "conf_0", false},
		"its edge has not beaten for 10 s": {func(t *testing.T, h *house) { h.pass(10 * time.Second) }, "", false},
		"its edge is gone":                 {func(t *testing.T, h *house) { h.pass(21 * time.Second) }, "", true},
		"its edge has started anew":        {func(t *testing.T, h *house) { h.beats(t, 1, "boot_2") }, "", true},
		"it is swept, and its edge lives":  {func(t *testing.T, h *house) { h.sweepAfter(t, time.Minute) }, "", false},
		"it was never heard of in an hour": {func(t *testing.T, h *house) { h.sweepAfter(t, 2*time.Hour) }, "", true},
		"it goes on for hours":             {func(t *testing.T, h *house) { h.conferenceEvents(t, joined); h.sweepAfter(t, 2*time.Hour) }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				h := conferences(t, d)
				h.place(t, asking(1, "conf_1"))
				c.happens(t, h)
				q := asking(2, "conf_2")
				q.Not = c.not
				if got := h.place(t, q); (got.ConferenceID == "conf_2") != c.free {
					t.Errorf("it is at %+v", got)
				}
			})
		})
	}
}

// conferenceEvents stores events of a call of edge 1.
func (h *house) conferenceEvents(t *testing.T, events ...webhooks.Event) {
	t.Helper()
	begun := webhooks.Event{Type: webhooks.EventCallInitiated, Data: webhooks.EventData{From: "1", To: "2", Direction: webhooks.Inbound}}
	all := append([]webhooks.Event{begun}, events...)
	for i := range all {
		all[i].ID, all[i].AccountID, all[i].CallID = webhooks.NewEventID(), resttest.Account, "call_1"
		all[i].Sequence, all[i].OccurredAt = int64(i+1), db.Now()
	}
	if _, err := h.Publish(t.Context(), control.Batch{Owner: ownerOf("call_1", "boot_1"), Events: all}); err != nil {
		t.Fatal(err)
	}
}

// sweepAfter lets time pass, in which both edges beat, and sweeps.
func (h *house) sweepAfter(t *testing.T, d time.Duration) {
	t.Helper()
	h.pass(d)
	h.beats(t, 1, "boot_1")
	h.beats(t, 2, "boot_1")
	if err := h.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAPlaceNamesItsCallAndConference(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		for what, change := range map[string]func(*control.ConferenceQuery){
			"no account":    func(q *control.ConferenceQuery) { q.AccountID = "" },
			"no call":       func(q *control.ConferenceQuery) { q.CallID = "" },
			"no edge":       func(q *control.ConferenceQuery) { q.EdgeID = "" },
			"no boot":       func(q *control.ConferenceQuery) { q.BootID = "" },
			"no conference": func(q *control.ConferenceQuery) { q.ID = "" },
			"no name":       func(q *control.ConferenceQuery) { q.Name = "" },
			"a long name":   func(q *control.ConferenceQuery) { q.Name = strings.Repeat("晨", 171) },
		} {
			q := asking(1, "conf_1")
			change(&q)
			_, err := h.PlaceConference(t.Context(), q)
			wantCode(t, what, err, control.CodeInvalid, "names")
		}
	})
}

func TestATicketIsGoodOnceForOneEdge(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		h.place(t, asking(1, "conf_1"))
		ticket := h.place(t, asking(2, "conf_2")).Ticket
		refused := func(what string, q control.Ticket) {
			t.Helper()
			_, err := h.RedeemLink(t.Context(), q)
			wantCode(t, what, err, control.CodeNotFound, "not good")
		}
		refused("by the edge that has it", control.Ticket{EdgeID: "edge_2", ID: ticket})
		refused("another", control.Ticket{EdgeID: "edge_1", ID: "link_1"})
		refused("none", control.Ticket{EdgeID: "edge_1"})
		var all sync.WaitGroup
		var mu sync.Mutex
		var good []control.Link
		for range 8 {
			all.Go(func() {
				of, err := h.RedeemLink(t.Context(), control.Ticket{EdgeID: "edge_1", ID: ticket})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					good = append(good, of)
				} else if control.CodeOf(err) != control.CodeNotFound {
					t.Error(err)
				}
			})
		}
		all.Wait()
		want := control.Link{Kind: control.LinkConference, AccountID: resttest.Account, CallID: "call_of_conf_2", EdgeID: "edge_2", Name: "team"}
		if len(good) != 1 || good[0] != want {
			t.Errorf("it was good for %+v", good)
		}
		late := h.place(t, asking(2, "conf_3")).Ticket
		h.pass(31 * time.Second)
		refused("a late one", control.Ticket{EdgeID: "edge_1", ID: late})
		h.sweepAfter(t, 0)
		left, err := d.Read().NewSelect().Table("edge_links").Count(t.Context())
		if err != nil || left != 0 {
			t.Errorf("%d tickets are left, %v", left, err)
		}
	})
}

func TestAParkedCallOfAnotherEdgeComesWithTheWayThere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		h.park(t, park("park_1", "call_1", "701"))
		h.pass(3 * time.Second)
		ask := control.ParkedQuery{EdgeID: "edge_1", AccountID: resttest.Account, CallID: "call_2", Slot: "701"}
		if got, err := h.FindParked(t.Context(), ask); err != nil || got.Ticket != "" || got.SIP.IsValid() || got.Waited != 3 {
			t.Errorf("on its own edge: %+v, %v", got, err)
		}
		ask.EdgeID = "edge_2"
		got, err := h.FindParked(t.Context(), ask)
		if err != nil || got.EdgeID != "edge_1" || got.SIP != sipAt(1) {
			t.Fatalf("%+v, %v", got, err)
		}
		of, err := h.RedeemLink(t.Context(), control.Ticket{EdgeID: "edge_1", ID: got.Ticket})
		if want := (control.Link{Kind: control.LinkPark, AccountID: resttest.Account, CallID: "call_2", EdgeID: "edge_2", Name: "701"}); err != nil || of != want {
			t.Errorf("%+v, %v", of, err)
		}
	})
}

func TestAnEdgeThatNobodyKnowsHasNoWay(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		lost := park("park_1", "call_1", "701")
		lost.EdgeID = "edge_9"
		h.park(t, lost)
		got, err := h.FindParked(t.Context(), control.ParkedQuery{EdgeID: "edge_2", AccountID: resttest.Account, CallID: "call_2", Slot: "701"})
		if err != nil || got.Ticket != "" || got.SIP.IsValid() || got.EdgeID != "edge_9" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestALegOfAnotherEdgeComesWithTheWayThere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := conferences(t, d)
		h.initiate(t, "call_1", "boot_1", h.now, webhooks.EventData{From: "1001", To: "1000", Direction: webhooks.Inbound})
		ask := control.LegQuery{EdgeID: "edge_1", AccountID: resttest.Account, CallID: "call_2", Leg: "call_1"}
		if got, err := h.FindLeg(t.Context(), ask); err != nil || got.EdgeID != "edge_1" || got.Ticket != "" {
			t.Errorf("on its own edge: %+v, %v", got, err)
		}
		ask.EdgeID = "edge_2"
		got, err := h.FindLeg(t.Context(), ask)
		if err != nil || got.EdgeID != "edge_1" || got.SIP != sipAt(1) {
			t.Fatalf("%+v, %v", got, err)
		}
		of, err := h.RedeemLink(t.Context(), control.Ticket{EdgeID: "edge_1", ID: got.Ticket})
		if want := (control.Link{Kind: control.LinkLeg, AccountID: resttest.Account, CallID: "call_2", EdgeID: "edge_2", Name: "call_1"}); err != nil || of != want {
			t.Errorf("%+v, %v", of, err)
		}
		ask.AccountID = "acc_other"
		_, err = h.FindLeg(t.Context(), ask)
		wantCode(t, "of another account", err, control.CodeNotFound, "is live")
		ask.AccountID, ask.Leg = resttest.Account, "call_of_nobody"
		_, err = h.FindLeg(t.Context(), ask)
		wantCode(t, "that is not there", err, control.CodeNotFound, "is live")
	})
}
