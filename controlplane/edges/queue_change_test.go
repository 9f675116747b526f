package edges_test

import (
	"testing"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestAnEdgeChangesACallThatWaits(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		h := queues(t, d, nil)
		for name, full := range map[string]int{"service": 0, "full": 1} {
			q := &queue.Queue{Draft: queue.Defaults()}
			q.ID, q.Name, q.MaxWaiting, q.Metadata = db.NewID("que"), name, full, map[string]any{}
			if err := db.Insert[queue.Queue](t.Context(), d, auth.Account(resttest.Account), q); err != nil {
				t.Fatal(err)
			}
		}
		h.beat(t, "edge_1", "boot_1", 1)
		first, err := h.JoinQueue(t.Context(), joining("call_1", "sales"))
		if err != nil {
			t.Fatal(err)
		}
		for call, to := range map[string]string{"call_2": "sales", "call_3": "full"} {
			if _, err := h.JoinQueue(t.Context(), joining(webhooks.CallID(call), to)); err != nil {
				t.Fatal(err)
			}
		}
		change := func(call, do string, set func(*control.QueueChange)) (control.QueueStood, error) {
			c := control.QueueChange{AccountID: resttest.Account, CallID: webhooks.CallID(call), QueueID: first.QueueID, Do: do}
			if set != nil {
				set(&c)
			}
			return h.ChangeCaller(t.Context(), c)
		}
		nine, beyond := 9, 1001
		stood, err := change("call_2", control.QueuePriority, func(c *control.QueueChange) { c.Priority = &nine })
		if err != nil || stood.Position != 1 || stood.Size != 2 || stood.Moved != nil || stood.Status != control.QueueWaiting {
			t.Errorf("priority: %+v, %v", stood, err)
		}
		for range 2 { // it may be repeated
			stood, err = change("call_2", control.QueueMove, func(c *control.QueueChange) { c.Queue = "service" })
			if err != nil || stood.Moved == nil || stood.Moved.Name != "service" || stood.Moved.Priority != 9 || stood.Position != 1 {
				t.Errorf("move: %+v, %v", stood, err)
			}
		}
		for name, c := range map[string]struct {
			call, do string
			set      func(*control.QueueChange)
			code     control.Code
		}{
			"no such queue":    {"call_1", control.QueueMove, func(c *control.QueueChange) { c.Queue = "none" }, control.CodeNotFound},
			"a full queue":     {"call_1", control.QueueMove, func(c *control.QueueChange) { c.Queue = "full" }, control.CodeFull},
			"no such agent":    {"call_1", control.QueueAssign, func(c *control.QueueChange) { c.Agent = "agt_none" }, control.CodeNotFound},
			"no such call":     {"call_9", control.QueuePriority, func(c *control.QueueChange) { c.Priority = &nine }, control.CodeNotAllowed},
			"another account":  {"call_1", control.QueuePriority, func(c *control.QueueChange) { c.Priority, c.AccountID = &nine, resttest.OtherAccount }, control.CodeNotAllowed},
			"beyond the range": {"call_1", control.QueuePriority, func(c *control.QueueChange) { c.Priority = &beyond }, control.CodeInvalid},
			"nothing":          {"call_1", control.QueuePriority, nil, control.CodeInvalid},
			"an unknown thing": {"call_1", "leave", nil, control.CodeInvalid},
		} {
			if _, err := change(c.call, c.do, c.set); control.CodeOf(err) != c.code {
				t.Errorf("%s: %v, expected %s", name, err, c.code)
			}
		}
	})
}
