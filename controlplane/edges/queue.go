package edges

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/queue"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

var _ control.Queues = (*Service)(nil)

// queueCodes are the refusals of queues in the seam's terms.
var queueCodes = []struct {
	err  error
	code control.Code
}{
	{queue.ErrNotFound, control.CodeNotFound},
	{queue.ErrFull, control.CodeFull},
	{queue.ErrClosed, control.CodeClosed},
	{queue.ErrFenced, control.CodeFenced},
	{queue.ErrInvalid, control.CodeInvalid},
}

// queueRefusal puts an error of queues into the seam's terms; what is no refusal stays as it is, and the edge tries again.
func queueRefusal(err error) error {
	for _, c := range queueCodes {
		if errors.Is(err, c.err) {
			return &control.Error{Code: c.code, Message: err.Error()}
		}
	}
	return err
}

// JoinQueue implements control.Control.
func (s *Service) JoinQueue(ctx context.Context, j control.QueueJoin) (control.QueueEntry, error) {
	e, err := s.Queues.Join(ctx, queue.Joining{
		AccountID: j.AccountID, CallID: j.CallID, Owner: queue.Owner{EdgeID: j.EdgeID, BootID: j.BootID, Epoch: j.Epoch},
		Queue: j.Queue, Create: j.Create, Priority: j.Priority, MaxWait: j.MaxWait, MaxSize: j.MaxSize,
		From: j.From, To: j.To, FromName: j.FromName, Data: j.Data,
	})
	if err == nil {
		return queueEntry(e), nil
	}
	err = queueRefusal(err)
	if refused, ok := errors.AsType[*control.Error](err); ok && refused.Code == control.CodeFull {
		refused.QueueID = s.queueNamed(ctx, j.AccountID, j.Queue)
	}
	return control.QueueEntry{}, err
}

// queueNamed is the id of a queue that is named by id, SID or name; "" when it cannot be told.
func (s *Service) queueNamed(ctx context.Context, account webhooks.AccountID, ref string) webhooks.QueueID {
	column := "name"
	if id, err := webhooks.FromSID(ref); err == nil && strings.HasPrefix(id, "que_") {
		column, ref = "id", id
	}
	found, err := db.Find[queue.Queue](ctx, s.DB, auth.Account(string(account)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.? = ?", bun.Ident(column), ref)
	})
	if err != nil {
		s.Log.Warn("queues.unnamed", "account_id", account, "error", err.Error())
		return ""
	}
	return webhooks.QueueID(found.ID)
}

func queueEntry(e *queue.Entry) control.QueueEntry {
	return control.QueueEntry{
		ID: e.ID, Token: e.Token, QueueID: e.QueueID, Name: e.Name, Priority: e.Priority, QueueStanding: queueStanding(e.Standing),
		Wait: e.Wait, Screen: e.Screen, MusicID: e.MusicID, AnnouncePosition: e.AnnouncePosition, AnnounceInterval: e.AnnounceInterval,
	}
}

func queueStanding(st queue.Standing) control.QueueStanding { return control.QueueStanding(st) }

// RenewQueues implements control.Control.
func (s *Service) RenewQueues(ctx context.Context, r control.QueueRenewal) (control.QueuesRenewed, error) {
	renewal := queue.Renewal{EdgeID: r.EdgeID, BootID: r.BootID, After: r.After, Upto: r.Upto, Held: make([]queue.Held, len(r.Held))}
	for i, h := range r.Held {
		renewal.Held[i] = queue.Held(h)
	}
	renewed, err := s.Queues.Renew(ctx, renewal)
	if err != nil {
		return control.QueuesRenewed{}, queueRefusal(err)
	}
	out := control.QueuesRenewed{Entries: make([]control.QueueStood, len(renewed.Entries)), Lost: renewed.Lost}
	for i, e := range renewed.Entries {
		out.Entries[i] = queueStood(e)
	}
	return out, nil
}

func queueStood(e queue.Stood) control.QueueStood {
	out := control.QueueStood{ID: e.ID, Status: string(e.Status), Claim: e.Claim, QueueStanding: queueStanding(e.Standing)}
	if e.Moved != nil {
		moved := queueEntry(e.Moved)
		out.Moved = &moved
	}
	return out
}

// LeaveQueue implements control.Control.
func (s *Service) LeaveQueue(ctx context.Context, l control.QueueLeave) error {
	return queueRefusal(s.Queues.Leave(ctx, queue.Leaving(l)))
}

// TakeCaller implements control.Control.
func (s *Service) TakeCaller(ctx context.Context, t control.QueueTake) (control.QueueTaken, error) {
	taken, err := s.Queues.Take(ctx, queue.Taking(t))
	if err != nil || taken == nil {
		return control.QueueTaken{}, queueRefusal(err)
	}
	at, err := s.sipOf(ctx, taken.EdgeID)
	if err != nil {
		// The leg may be on the caller's own edge, which needs no address.
		s.Log.Warn("queues.edge_unknown", "edge_id", taken.EdgeID, "error", err.Error())
	}
	return control.QueueTaken{Caller: &control.QueueCaller{
		ID: taken.ID, Claim: taken.Claim, CallID: taken.CallID, EdgeID: taken.EdgeID, SIP: at, QueueID: taken.QueueID, Name: taken.Name,
		Priority: taken.Priority, Waited: taken.Waited, From: taken.From, To: taken.To, FromName: taken.FromName, Data: taken.Data,
		Screen: taken.Screen, Within: taken.Within,
	}}, nil
}

// sipOf is where other edges reach an edge, as its last beat said.
func (s *Service) sipOf(ctx context.Context, id webhooks.EdgeID) (netip.AddrPort, error) {
	var r row
	err := s.DB.Read().NewSelect().Model(&r).Where("id = ?", id).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return netip.AddrPort{}, fmt.Errorf("edge %s has never beaten", id)
	case err != nil:
		return netip.AddrPort{}, db.Check(err)
	}
	return netip.ParseAddrPort(r.SIP)
}

// ConfirmCaller implements control.Control.
func (s *Service) ConfirmCaller(ctx context.Context, c control.QueueClaim) error {
	return queueRefusal(s.Queues.Confirm(ctx, c.AccountID, c.ID, c.Claim))
}

// ReturnCaller implements control.Control.
func (s *Service) ReturnCaller(ctx context.Context, r control.QueueReturn) error {
	return queueRefusal(s.Queues.Return(ctx, queue.Return{AccountID: r.AccountID, ID: r.ID, Claim: r.Claim, Why: queue.Why(r.Why)}))
}

// queuesLost ends what an edge holds in queues, in every one of its lives: its callers are gone, and whom its legs have taken
// waits again.
func (s *Service) queuesLost(ctx context.Context, id webhooks.EdgeID) error {
	if s.Queues == nil {
		return nil
	}
	return s.Queues.EdgeLost(ctx, id, "")
}

// queuesReborn is queuesLost for all lives of an edge but the one that it is in.
func (s *Service) queuesReborn(ctx context.Context, id webhooks.EdgeID, boot string) error {
	if s.Queues == nil {
		return nil
	}
	return s.Queues.EdgeReborn(ctx, id, boot)
}
