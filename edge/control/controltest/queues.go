package controltest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Queues is the part of Control that queues need; a nil field refuses as not_found.
type Queues struct {
	OnJoinQueue     func(context.Context, control.QueueJoin) (control.QueueEntry, error)
	OnRenewQueues   func(context.Context, control.QueueRenewal) (control.QueuesRenewed, error)
	OnLeaveQueue    func(context.Context, control.QueueLeave) error
	OnTakeCaller    func(context.Context, control.QueueTake) (control.QueueTaken, error)
	OnConfirmCaller func(context.Context, control.QueueClaim) error
	OnReturnCaller  func(context.Context, control.QueueReturn) error
	OnChangeCaller  func(context.Context, control.QueueChange) (control.QueueStood, error)
}

var _ control.Queues = (*Queues)(nil)

// JoinQueue and the others run the function scripted for them.
func (c *Queues) JoinQueue(ctx context.Context, q control.QueueJoin) (control.QueueEntry, error) {
	return call(ctx, c.OnJoinQueue, q)
}
func (c *Queues) RenewQueues(ctx context.Context, q control.QueueRenewal) (control.QueuesRenewed, error) {
	return call(ctx, c.OnRenewQueues, q)
}
func (c *Queues) LeaveQueue(ctx context.Context, q control.QueueLeave) error {
	return told(ctx, c.OnLeaveQueue, q)
}
func (c *Queues) TakeCaller(ctx context.Context, q control.QueueTake) (control.QueueTaken, error) {
	return call(ctx, c.OnTakeCaller, q)
}
func (c *Queues) ConfirmCaller(ctx context.Context, q control.QueueClaim) error {
	return told(ctx, c.OnConfirmCaller, q)
}
func (c *Queues) ReturnCaller(ctx context.Context, q control.QueueReturn) error {
	return told(ctx, c.OnReturnCaller, q)
}
func (c *Queues) ChangeCaller(ctx context.Context, q control.QueueChange) (control.QueueStood, error) {
	return call(ctx, c.OnChangeCaller, q)
}

// everyQueueMessage sends each message of Queues over the joint, with all its fields.
func everyQueueMessage(t *testing.T, join Join) {
	var half Control
	c, _ := join(t, &half, &Edge{})
	remaining := webhooks.Seconds(42.5)
	standing := control.QueueStanding{Position: 2, Size: 5, MaxSize: 9, Waited: 3.25, AverageWait: 7, Remaining: &remaining}
	entry := control.QueueEntry{
		ID: "wait_1", Token: 3, QueueID: "que_1", Name: "sales", Priority: 4, QueueStanding: standing,
		Wait:    program(t, `[{"verb":"play","tone":"500"}]`),
		Screen:  program(t, `[{"verb":"say","text":"a caller"}]`),
		MusicID: "med_1", AnnouncePosition: true, AnnounceInterval: 30,
	}
	exchange(t, "JoinQueue",
		control.QueueJoin{
			Owner: control.Owner{EdgeID: "edge_1", BootID: "b", Epoch: 2, AccountID: "acc_1", CallID: "call_1"},
			Queue: "sales", Create: true, Priority: 4, MaxWait: 60, MaxSize: 9, From: "1001", To: "1000", FromName: "Li",
			Data: map[string]any{"order": "7"},
		}, entry,
		func(fn func(context.Context, control.QueueJoin) (control.QueueEntry, error)) { half.OnJoinQueue = fn }, c.JoinQueue)
	exchange(t, "RenewQueues",
		control.QueueRenewal{
			EdgeID: "edge_1", BootID: "b", After: "wait_0", Upto: "wait_9",
			Held: []control.QueueHeld{{ID: "wait_1", Token: 3, QueueID: "que_1"}},
		},
		control.QueuesRenewed{
			Entries: []control.QueueStood{{ID: "wait_1", Status: control.QueueOffered, Claim: 8, QueueStanding: standing, Moved: &entry}},
			Lost:    []string{"wait_2"},
		},
		func(fn func(context.Context, control.QueueRenewal) (control.QueuesRenewed, error)) {
			half.OnRenewQueues = fn
		}, c.RenewQueues)
	exchange(t, "TakeCaller",
		control.QueueTake{AccountID: "acc_1", Queue: "sales", Leg: "call_2", EdgeID: "edge_2", BootID: "c", AgentID: "agt_1", Timeout: 25},
		control.QueueTaken{Caller: &control.QueueCaller{
			ID: "wait_1", Claim: 8, CallID: "call_1", EdgeID: "edge_1", SIP: netip.MustParseAddrPort("192.0.2.1:5060"), QueueID: "que_1",
			Name: "sales", Priority: 4, Waited: 9, From: "1001", To: "1000", FromName: "Li", Data: map[string]any{"order": "7"},
			Screen: program(t, `[{"verb":"say","text":"a caller"}]`), Within: 30,
		}},
		func(fn func(context.Context, control.QueueTake) (control.QueueTaken, error)) { half.OnTakeCaller = fn }, c.TakeCaller)
	exchange(t, "TakeCaller of a call", control.QueueTake{AccountID: "acc_1", CallID: "call_1", Leg: "call_2", EdgeID: "edge_2", BootID: "c"}, control.QueueTaken{},
		func(fn func(context.Context, control.QueueTake) (control.QueueTaken, error)) { half.OnTakeCaller = fn }, c.TakeCaller)

	priority := 0
	exchange(t, "ChangeCaller",
		control.QueueChange{
			AccountID: "acc_1", CallID: "call_1", QueueID: "que_1", Do: control.QueueMove, Priority: &priority, Queue: "service", Agent: "agt_1",
		},
		control.QueueStood{ID: "wait_1", Status: control.QueueWaiting, Claim: 8, QueueStanding: standing, Moved: &entry},
		func(fn func(context.Context, control.QueueChange) (control.QueueStood, error)) {
			half.OnChangeCaller = fn
		}, c.ChangeCaller)

	claim := control.QueueClaim{AccountID: "acc_1", ID: "wait_1", Claim: 8}
	tell(t, "LeaveQueue", control.QueueLeave{AccountID: "acc_1", ID: "wait_1", Token: 3, Reason: webhooks.Timeout},
		func(fn func(context.Context, control.QueueLeave) error) { half.OnLeaveQueue = fn }, c.LeaveQueue)
	tell(t, "ConfirmCaller", claim, func(fn func(context.Context, control.QueueClaim) error) { half.OnConfirmCaller = fn }, c.ConfirmCaller)
	tell(t, "ReturnCaller", control.QueueReturn{QueueClaim: claim, Why: control.QueueUnanswered},
		func(fn func(context.Context, control.QueueReturn) error) { half.OnReturnCaller = fn }, c.ReturnCaller)
}

// tell is exchange for a message without an answer.
func tell[Q any](t *testing.T, name string, q Q, script func(func(context.Context, Q) error), say func(context.Context, Q) error) {
	t.Helper()
	exchange(t, name, q, struct{}{},
		func(fn func(context.Context, Q) (struct{}, error)) {
			script(func(ctx context.Context, q Q) error { _, err := fn(ctx, q); return err })
		},
		func(ctx context.Context, q Q) (struct{}, error) { return struct{}{}, say(ctx, q) })
}

// queueRefusals: what an edge decides by crosses the joint.
func queueRefusals(t *testing.T, join Join) {
	full := control.Error{Code: control.CodeFull, Message: "as many wait as may", QueueID: "que_1"}
	c, _ := join(t, &Control{Queues: Queues{
		OnJoinQueue: func(context.Context, control.QueueJoin) (control.QueueEntry, error) {
			return control.QueueEntry{}, &full
		},
	}}, &Edge{})
	_, err := c.JoinQueue(t.Context(), control.QueueJoin{})
	if got, ok := errors.AsType[*control.Error](err); !ok || *got != full {
		t.Errorf("JoinQueue: %v, want %+v", err, full)
	}
}

// longTakes: a leg may wait for a caller longer than for any other answer, and no longer than it wants to.
func longTakes(t *testing.T, join Join) {
	asked := make(chan struct{})
	c, _ := join(t, &Control{Queues: Queues{
		OnTakeCaller: func(ctx context.Context, _ control.QueueTake) (control.QueueTaken, error) {
			deadline, limited := ctx.Deadline()
			if limited && time.Until(deadline) < control.MaxQueueTimeout.Duration() {
				t.Errorf("the other half ends the wait after %s", time.Until(deadline))
			}
			close(asked)
			<-ctx.Done()
			return control.QueueTaken{}, context.Cause(ctx)
		},
	}}, &Edge{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := c.TakeCaller(ctx, control.QueueTake{Timeout: control.MaxQueueTimeout}); err == nil {
		t.Error("a take that was given up has a result")
	}
}
