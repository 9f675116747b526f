package control

import (
	"context"
	"net/netip"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Queues is the part of Control that the verbs enqueue and dequeue need. Errors are as in Control.
type Queues interface {
	// JoinQueue puts a call into a queue. Asking again gives the place that it has; a call that was given up as lost finds
	// its place again. Codes: not_found, full, closed, fenced, invalid.
	JoinQueue(ctx context.Context, j QueueJoin) (QueueEntry, error)

	// RenewQueues says which entries this edge holds. Sent with every beat while it holds any, or has taken a caller that
	// is not connected yet: after 5 s without, its callers are passed over and what it took goes back. Code invalid.
	RenewQueues(ctx context.Context, r QueueRenewal) (QueuesRenewed, error)

	// LeaveQueue takes a call out of its queue. It is repeated until it is answered. Code fenced: another edge has the
	// call; invalid.
	LeaveQueue(ctx context.Context, l QueueLeave) error

	// TakeCaller claims the caller who is next, or a certain one, for a leg, and waits for one to come as long as asked,
	// at most MaxQueueTimeout. Repeating it gives the caller that the leg holds. Codes: not_found (no such queue), invalid.
	TakeCaller(ctx context.Context, t QueueTake) (QueueTaken, error)

	// ConfirmCaller says that the two legs speak. Code fenced: the caller is gone or another's; do not connect them.
	ConfirmCaller(ctx context.Context, c QueueClaim) error

	// ReturnCaller has a caller who was taken wait again. Code fenced: there is nothing to return; invalid.
	ReturnCaller(ctx context.Context, r QueueReturn) error

	// ChangeCaller makes a live change to a call that waits, and tells how things stand with it then. It says what is to be,
	// not by how much it changes: so it may be repeated. Codes: not_found (no such queue or agent), full, closed,
	// not_allowed (the call does not wait, or is being connected), invalid.
	ChangeCaller(ctx context.Context, c QueueChange) (QueueStood, error)
}

// The codes of queues.
const (
	CodeFull   Code = "full"   // as many wait as may
	CodeClosed Code = "closed" // the queue takes no calls
)

// MaxQueueTimeout bounds the wait of one TakeCaller; a leg that waits longer asks again.
const MaxQueueTimeout webhooks.Seconds = 25

// MaxQueueRenewal is the most entries of one QueueRenewal.
const MaxQueueRenewal = 1000

// QueueJoin is a call that wants to wait.
type QueueJoin struct {
	Owner
	Queue    string           `json:"queue"` // id, SID or name
	Create   bool             `json:"create,omitempty"`
	Priority int              `json:"priority,omitempty"`
	MaxWait  webhooks.Seconds `json:"max_wait,omitempty"` // 0: as the queue says
	MaxSize  int              `json:"max_size,omitempty"` // 0: as the queue says
	From     string           `json:"from,omitempty"`
	To       string           `json:"to,omitempty"`
	FromName string           `json:"from_name,omitempty"`
	Data     map[string]any   `json:"data,omitempty"` // for whoever takes the call
}

// QueueEntry is a call's place in a queue, and what the queue says of waiting where the instruction says nothing.
type QueueEntry struct {
	ID       string           `json:"id"` // wait_…
	Token    int64            `json:"token"`
	QueueID  webhooks.QueueID `json:"queue_id"`
	Name     string           `json:"name"`
	Priority int              `json:"priority,omitempty"`
	QueueStanding
	Wait             *webhooks.Program `json:"wait,omitempty"`     // nil: music
	Screen           *webhooks.Program `json:"screen,omitempty"`   // run on the leg that takes the call
	MusicID          webhooks.MediaID  `json:"music_id,omitempty"` // "": the system's own
	AnnouncePosition bool              `json:"announce_position,omitempty"`
	AnnounceInterval webhooks.Seconds  `json:"announce_interval,omitempty"`
}

// QueueStanding is how things stand with a call in a queue.
type QueueStanding struct {
	Position    int               `json:"position,omitempty"` // from 1; 0 when it is in the queue no more
	Size        int               `json:"size"`
	MaxSize     int               `json:"max_size,omitempty"` // 0 without limit
	Waited      webhooks.Seconds  `json:"waited"`             // in this queue and those that it was moved from
	AverageWait webhooks.Seconds  `json:"average_wait"`       // of those in the queue
	Remaining   *webhooks.Seconds `json:"remaining,omitempty"`
}

// QueueRenewal names entries that an edge holds, sorted by their ids. Those of this edge with ids above After and up to
// Upto (empty: no bound) that it does not name are forgotten, and end: an edge with more than MaxQueueRenewal sends
// several, each beginning where the one before ended.
type QueueRenewal struct {
	EdgeID webhooks.EdgeID `json:"edge_id"`
	BootID string          `json:"boot_id"`
	After  string          `json:"after,omitempty"`
	Upto   string          `json:"upto,omitempty"`
	Held   []QueueHeld     `json:"held,omitempty"`
}

// QueueHeld is one entry as an edge knows it.
type QueueHeld struct {
	ID      string           `json:"id"`
	Token   int64            `json:"token"`
	QueueID webhooks.QueueID `json:"queue_id"`
}

// QueuesRenewed tells of the entries that are still the edge's, and of those that are not: they have ended, or are
// another's. An edge that still has such a caller, waiting, joins it again.
type QueuesRenewed struct {
	Entries []QueueStood `json:"entries"`
	Lost    []string     `json:"lost,omitempty"`
}

// Statuses of an entry.
const (
	QueueWaiting   = "waiting"
	QueueOffered   = "offered" // a leg has claimed it, and is not connected yet
	QueueConnected = "connected"
)

// QueueStood is how things stand with one entry.
type QueueStood struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Claim  int64  `json:"claim,omitempty"` // the latest; no leg with a lower one is connected
	QueueStanding
	Moved *QueueEntry `json:"moved,omitempty"` // the new queue, when the edge knows another
}

// QueueLeave is a call that waits no more.
type QueueLeave struct {
	AccountID webhooks.AccountID `json:"account_id"`
	ID        string             `json:"id"`
	Token     int64              `json:"token"`
	Reason    webhooks.Outcome   `json:"reason"` // that of the enqueue
}

// QueueTake is a leg that is to be connected with a caller: exactly one of Queue and CallID.
type QueueTake struct {
	AccountID webhooks.AccountID `json:"account_id"`
	Queue     string             `json:"queue,omitempty"` // id, SID or name
	CallID    webhooks.CallID    `json:"call_id,omitempty"`
	Leg       webhooks.CallID    `json:"leg"` // holds one caller at a time
	EdgeID    webhooks.EdgeID    `json:"edge_id"`
	BootID    string             `json:"boot_id"`
	AgentID   webhooks.AgentID   `json:"agent_id,omitempty"` // who speaks on the leg
	Timeout   webhooks.Seconds   `json:"timeout,omitempty"`
}

// QueueTaken is the caller that a leg was offered; nil when nobody came.
type QueueTaken struct {
	Caller *QueueCaller `json:"caller,omitempty"`
}

// QueueCaller is a caller who is offered to a leg.
type QueueCaller struct {
	ID       string            `json:"id"`    // of the entry
	Claim    int64             `json:"claim"` // goes with the internal call to the caller's edge, which keeps the highest
	CallID   webhooks.CallID   `json:"call_id"`
	EdgeID   webhooks.EdgeID   `json:"edge_id"` // that carries the caller
	SIP      netip.AddrPort    `json:"sip"`     // where that edge is reached
	QueueID  webhooks.QueueID  `json:"queue_id"`
	Name     string            `json:"name"`
	Priority int               `json:"priority,omitempty"`
	Waited   webhooks.Seconds  `json:"waited"`
	From     string            `json:"from,omitempty"`
	To       string            `json:"to,omitempty"`
	FromName string            `json:"from_name,omitempty"`
	Data     map[string]any    `json:"data,omitempty"`
	Screen   *webhooks.Program `json:"screen,omitempty"` // for the leg; nil: nothing
	Within   webhooks.Seconds  `json:"within"`           // until it is confirmed; then others get the chance
}

// QueueClaim names a claim.
type QueueClaim struct {
	AccountID webhooks.AccountID `json:"account_id"`
	ID        string             `json:"id"`
	Claim     int64              `json:"claim"`
}

// Why a caller is given back.
const (
	QueueUnanswered = "unanswered" // nobody answered the offer: the caller goes ahead of everyone
	QueueCanceled   = "canceled"   // the leg is gone, or does not want the caller: back to its place
	QueueFailed     = "failed"     // the two could not be connected: back to its place
)

// QueueReturn gives a caller back.
type QueueReturn struct {
	QueueClaim
	Why string `json:"why"`
}

// What a QueueChange does: the ops of the same name.
const (
	QueuePriority = "priority"
	QueueMove     = "move"
	QueueAssign   = "assign"
)

// QueueChange is a live change to a call that waits.
type QueueChange struct {
	AccountID webhooks.AccountID `json:"account_id"`
	CallID    webhooks.CallID    `json:"call_id"`
	QueueID   webhooks.QueueID   `json:"queue_id"` // as the edge knows it: another is told as moved
	Do        string             `json:"do"`
	Priority  *int               `json:"priority,omitempty"` // 0–1000; of a move: nil leaves it as it was
	Queue     string             `json:"queue,omitempty"`    // of a move: id, SID or name
	Agent     string             `json:"agent,omitempty"`    // of an assignment: id or external_id
}

const (
	pathJoinQueue     = pathPrefix + "queues/join"
	pathRenewQueues   = pathPrefix + "queues/renew"
	pathLeaveQueue    = pathPrefix + "queues/leave"
	pathTakeCaller    = pathPrefix + "queues/take"
	pathConfirmCaller = pathPrefix + "queues/confirm"
	pathReturnCaller  = pathPrefix + "queues/return"
	pathChangeCaller  = pathPrefix + "queues/change"

	// takeWithin is how long TakeCaller may take in all.
	takeWithin = answerWithin + 25*time.Second
)

var _ Queues = (*Client)(nil)

// JoinQueue asks the control plane.
func (c *Client) JoinQueue(ctx context.Context, j QueueJoin) (QueueEntry, error) {
	return ask[QueueEntry](ctx, c, pathJoinQueue, j, answerWithin)
}

// RenewQueues asks the control plane.
func (c *Client) RenewQueues(ctx context.Context, r QueueRenewal) (QueuesRenewed, error) {
	return ask[QueuesRenewed](ctx, c, pathRenewQueues, r, answerWithin)
}

// LeaveQueue tells the control plane.
func (c *Client) LeaveQueue(ctx context.Context, l QueueLeave) error {
	_, err := ask[struct{}](ctx, c, pathLeaveQueue, l, answerWithin)
	return err
}

// TakeCaller asks the control plane.
func (c *Client) TakeCaller(ctx context.Context, t QueueTake) (QueueTaken, error) {
	return ask[QueueTaken](ctx, c, pathTakeCaller, t, takeWithin)
}

// ConfirmCaller tells the control plane.
func (c *Client) ConfirmCaller(ctx context.Context, q QueueClaim) error {
	_, err := ask[struct{}](ctx, c, pathConfirmCaller, q, answerWithin)
	return err
}

// ReturnCaller tells the control plane.
func (c *Client) ReturnCaller(ctx context.Context, r QueueReturn) error {
	_, err := ask[struct{}](ctx, c, pathReturnCaller, r, answerWithin)
	return err
}

// ChangeCaller asks the control plane.
func (c *Client) ChangeCaller(ctx context.Context, q QueueChange) (QueueStood, error) {
	return ask[QueueStood](ctx, c, pathChangeCaller, q, answerWithin)
}
