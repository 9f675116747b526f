package edges_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// queues adds queues to a house, and one of them.
func queues(t *testing.T, d *db.DB, change func(*queue.Draft)) *house {
	t.Helper()
	h := newHouse(t, d)
	h.Queues = &queue.Service{DB: d, Log: h.Log, Now: h.Now}
	sales := &queue.Queue{Draft: queue.Defaults()}
	sales.ID, sales.Name, sales.Metadata = db.NewID("que"), "sales", map[string]any{}
	if change != nil {
		change(&sales.Draft)
	}
	if err := db.Insert[queue.Queue](t.Context(), d, auth.Account(resttest.Account), sales); err != nil {
		t.Fatal(err)
	}
	return h
}

func joining(id webhooks.CallID, to string) control.QueueJoin {
	return control.QueueJoin{Owner: ownerOf(id, "boot_1"), Queue: to, Priority: 2, MaxWait: 60, From: "1001", To: "1000", Data: map[string]any{"order": "7"}}
}

func TestAnEdgeJoinsAndTakesCallers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := queues(t, d, func(q *queue.Draft) { q.AnnouncePosition = true })
		h.beat(t, "edge_1", "boot_1", 1)
		e, err := h.JoinQueue(t.Context(), joining("call_1", "sales"))
		if err != nil || e.ID == "" || e.Name != "sales" || e.Position != 1 || e.Size != 1 || e.Priority != 2 || !e.AnnouncePosition || e.Remaining == nil || *e.Remaining != 60 {
			t.Fatalf("%+v, %v", e, err)
		}
		renewed, err := h.RenewQueues(t.Context(), control.QueueRenewal{
			EdgeID: "edge_1", BootID: "boot_1", Held: []control.QueueHeld{{ID: e.ID, Token: e.Token, QueueID: e.QueueID}, {ID: "wait_other", Token: 1}},
		})
		if err != nil || len(renewed.Entries) != 1 || renewed.Entries[0].Status != control.QueueWaiting || len(renewed.Lost) != 1 {
			t.Errorf("%+v, %v", renewed, err)
		}
		take := control.QueueTake{AccountID: resttest.Account, Queue: "sales", Leg: "call_2", EdgeID: "edge_2", BootID: "boot_2"}
		taken, err := h.TakeCaller(t.Context(), take)
		if err != nil || taken.Caller == nil {
			t.Fatalf("%+v, %v", taken, err)
		}
		c := *taken.Caller
		if c.CallID != "call_1" || c.EdgeID != "edge_1" || c.SIP != netip.MustParseAddrPort("192.0.2.1:5060") || c.Data["order"] != "7" || c.Within != 30 {
			t.Errorf("%+v", c)
		}
		claim := control.QueueClaim{AccountID: resttest.Account, ID: c.ID, Claim: c.Claim}
		if err := h.ReturnCaller(t.Context(), control.QueueReturn{QueueClaim: claim, Why: control.QueueUnanswered}); err != nil {
			t.Error(err)
		}
		if err := h.ConfirmCaller(t.Context(), claim); control.CodeOf(err) != control.CodeFenced {
			t.Errorf("a claim that was given back is confirmed: %v", err)
		}
		taken, err = h.TakeCaller(t.Context(), take)
		if err != nil || taken.Caller == nil || taken.Caller.Claim <= c.Claim {
			t.Fatalf("%+v, %v", taken, err)
		}
		claim.Claim = taken.Caller.Claim
		if err := h.ConfirmCaller(t.Context(), claim); err != nil {
			t.Error(err)
		}
		leave := control.QueueLeave{AccountID: resttest.Account, ID: e.ID, Token: e.Token, Reason: webhooks.Bridged}
		if err := h.LeaveQueue(t.Context(), leave); err != nil {
			t.Error(err)
		}
		if taken, err := h.TakeCaller(t.Context(), control.QueueTake{AccountID: resttest.Account, CallID: "call_1", Leg: "call_3", EdgeID: "edge_1", BootID: "boot_1"}); err != nil || taken.Caller != nil {
			t.Errorf("%+v, %v", taken, err)
		}
	})
}

func TestAnEdgeIsRefusedInQueues(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := queues(t, d, func(q *queue.Draft) { q.MaxWaiting = 1 })
		first, err := h.JoinQueue(t.Context(), joining("call_1", "sales"))
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{"sales", string(first.QueueID), webhooks.SID(string(first.QueueID))} {
			_, err = h.JoinQueue(t.Context(), joining("call_2", ref))
			if refused, ok := errors.AsType[*control.Error](err); !ok || refused.Code != control.CodeFull || refused.QueueID != first.QueueID {
				t.Errorf("a full queue, named %s: %+v", ref, err)
			}
		}
		_, err = h.JoinQueue(t.Context(), joining("call_2", "others"))
		if control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("a queue that there is none of: %v", err)
		}
		_, err = h.JoinQueue(t.Context(), control.QueueJoin{Queue: "sales"})
		if control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("a call without a name: %v", err)
		}
		_, err = h.TakeCaller(t.Context(), control.QueueTake{AccountID: resttest.Account, Queue: "others", Leg: "call_3", EdgeID: "edge_1", BootID: "boot_1"})
		if control.CodeOf(err) != control.CodeNotFound {
			t.Errorf("from a queue that there is none of: %v", err)
		}
		if _, err := d.Write().NewRaw("UPDATE queues SET enabled = ?", false).Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = h.JoinQueue(t.Context(), joining("call_2", "sales"))
		if control.CodeOf(err) != control.CodeClosed {
			t.Errorf("a closed queue: %v", err)
		}
		err = h.LeaveQueue(t.Context(), control.QueueLeave{AccountID: resttest.Account, ID: first.ID, Token: first.Token, Reason: "bored"})
		if control.CodeOf(err) != control.CodeInvalid {
			t.Errorf("a reason that there is none of: %v", err)
		}
	})
}

func TestCallersOfAnEdgeThatIsGoneLeaveTheirQueues(t *testing.T) {
	for name, then := range map[string]func(t *testing.T, h *house){
		"for good":      func(t *testing.T, h *house) { h.pass(21 * time.Second) },
		"started again": func(t *testing.T, h *house) { h.beat(t, "edge_1", "boot_9", 0); h.pass(6 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, d *db.DB) {
				h := queues(t, d, nil)
				h.beat(t, "edge_1", "boot_1", 1)
				e, err := h.JoinQueue(t.Context(), joining("call_1", "sales"))
				if err != nil {
					t.Fatal(err)
				}
				then(t, h)
				h.sweep(t)
				renewed, err := h.RenewQueues(t.Context(), control.QueueRenewal{
					EdgeID: "edge_1", BootID: "boot_1", Held: []control.QueueHeld{{ID: e.ID, Token: e.Token, QueueID: e.QueueID}},
				})
				if err != nil || len(renewed.Lost) != 1 {
					t.Errorf("%+v, %v", renewed, err)
				}
			})
		})
	}
}
