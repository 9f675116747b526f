package call

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Action is a change to a live call. The same ID again changes nothing and is answered as before.
type Action struct {
	ID        webhooks.ActionID
	AccountID webhooks.AccountID
	CallID    webhooks.CallID
	IfMatch   string // the call's etag; "" for any
	Change    webhooks.Action
}

// ActionDraft is a change as a request's body has it.
type ActionDraft struct{ webhooks.Action }

// UnmarshalJSON reads and checks the change. What is wrong with it is an Invalid problem whose pointer leads to it.
func (d *ActionDraft) UnmarshalJSON(text []byte) error {
	a, err := webhooks.ParseAction(text)
	if refused, ok := errors.AsType[*webhooks.ProgramError](err); ok {
		return problem.InvalidField(refused.Pointer, "action", "%s", refused.Message)
	}
	if err != nil {
		return err
	}
	// It crosses to the edge with its defaults written out, where the same limit holds.
	written, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if len(written) > webhooks.MaxProgramBytes {
		return problem.InvalidField("", "size", "has %d bytes with its defaults written out; at most %d are taken", len(written), webhooks.MaxProgramBytes)
	}
	d.Action = a
	return nil
}

type actIn struct {
	ID      string      `path:"call_id"`
	IfMatch string      `header:"If-Match"`
	Key     string      `header:"Idempotency-Key"`
	Body    ActionDraft `body:"json"`
}

// ActionTaken is the answer to a live change: the edge has taken it; what became of it is the event that carries this
// id.
type ActionTaken struct {
	ActionID webhooks.ActionID `json:"action_id"`
	CallID   webhooks.CallID   `json:"call_id"`
}

func (s *Service) act(ctx context.Context, who auth.Caller, in actIn) (ActionTaken, error) {
	c, err := db.Get[Call](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return ActionTaken{}, err
	}
	if c.Status.Final() {
		return ActionTaken{}, tooLate(c)
	}
	a := Action{
		ID: webhooks.NewActionID(), AccountID: webhooks.AccountID(c.AccountID), CallID: webhooks.CallID(c.ID),
		IfMatch: etagOf(in.IfMatch, c.Etag), Change: in.Body.Action,
	}
	if err := a.tells(who); err != nil {
		return ActionTaken{}, err
	}
	if in.Key != "" {
		if a.ID, err = repeatable(who, c, in.Key, in.IfMatch, in.Body); err != nil {
			return ActionTaken{}, err
		}
	}
	if err := s.open(ctx, []Action{a}); err != nil {
		return ActionTaken{}, err
	}
	if err := s.hand(ctx, c, a); err != nil {
		return ActionTaken{}, err
	}
	return ActionTaken{ActionID: a.ID, CallID: a.CallID}, nil
}

// repeatable is the id of a change whose request has an Idempotency-Key: the same for the same request, so that one which
// is repeated, because nobody knew whether the edge had taken it, is taken once.
func repeatable(who auth.Caller, c *Call, key, ifMatch string, body ActionDraft) (webhooks.ActionID, error) {
	text, err := json.Marshal([]any{who.AccountID, who.ActorID(), key, c.ID, ifMatch, body})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	var id ulid.ULID
	if err := errors.Join(id.SetTime(ulid.Timestamp(c.CreatedAt)), id.SetEntropy(sum[:10])); err != nil {
		return "", fmt.Errorf("action id: %w", err)
	}
	return webhooks.ActionID("act_" + id.String()), nil
}

// ActionsTaken is the answer to a change to many calls, one for each, in the order in which they were named.
type ActionsTaken struct {
	Data []Acted `json:"data"`
}

// Acted is what became of a change to one of many calls.
type Acted struct {
	CallID   webhooks.CallID   `json:"call_id"`
	ActionID webhooks.ActionID `json:"action_id,omitempty"` // empty where Error is set
	// Error is what the same change of this call alone would be answered with; nil: the edge has taken it.
	Error *Refusal `json:"error,omitempty"`
}

// Refusal is a problem, as one of several answers has it.
type Refusal struct {
	Status int          `json:"status"` // of HTTP
	Code   problem.Code `json:"code"`
	Detail string       `json:"detail"`
}

func refusalOf(err error) *Refusal {
	p := problem.From(err)
	return &Refusal{Status: p.Status, Code: p.Code, Detail: p.Detail}
}

// MaxActAll is how many calls one ActAll changes.
const MaxActAll = 1000

// actAtOnce bounds how many calls of one ActAll are being changed at a time.
const actAtOnce = 16

// ActAll makes the same change to many live calls within the caller's scope, such as those of a conference or of a queue,
// at most MaxActAll, and gives what became of each, in the order of ids. A call that is not there, has ended, or cannot be
// changed holds up no other. key is an Idempotency-Key, "" for none. The error is of ActAll as a whole: nothing was changed.
func (s *Service) ActAll(ctx context.Context, who auth.Caller, key string, ids []webhooks.CallID, draft ActionDraft) (ActionsTaken, error) {
	if err := (&Action{Change: draft.Action}).tells(who); err != nil {
		return ActionsTaken{}, err
	}
	found, err := s.named(ctx, who.Scope, ids)
	if err != nil {
		return ActionsTaken{}, err
	}
	results, actions := make([]Acted, len(ids)), make([]Action, len(ids))
	var open []Action
	for i, id := range ids {
		results[i].CallID = id
		switch c := found[id]; {
		case c == nil:
			results[i].Error = refusalOf(problem.NoSuch(string(id)))
		case c.Status.Final():
			results[i].Error = refusalOf(tooLate(c))
		default:
			actions[i] = Action{ID: webhooks.NewActionID(), AccountID: webhooks.AccountID(c.AccountID), CallID: id, Change: draft.Action}
			if key != "" {
				if actions[i].ID, err = repeatable(who, c, key, "", draft); err != nil {
					return ActionsTaken{}, err
				}
			}
			open = append(open, actions[i])
		}
	}
	if err := s.open(ctx, open); err != nil {
		return ActionsTaken{}, err
	}
	places := make(chan struct{}, actAtOnce)
	var all sync.WaitGroup
	for i := range results {
		if results[i].Error != nil {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if err := s.hand(ctx, found[ids[i]], actions[i]); err != nil {
				results[i].Error = refusalOf(err)
				return
			}
			results[i].ActionID = actions[i].ID
		})
	}
	all.Wait()
	return ActionsTaken{Data: results}, nil
}

// named reads calls within a scope.
func (s *Service) named(ctx context.Context, scope auth.Scope, ids []webhooks.CallID) (map[webhooks.CallID]*Call, error) {
	found := map[webhooks.CallID]*Call{}
	for some := range slices.Chunk(ids, atOnce) {
		rows, err := db.List[Call](ctx, s.DB, scope, func(q *bun.SelectQuery) *bun.SelectQuery {
			return q.Where("id IN (?)", bun.List(some))
		})
		if err != nil {
			return nil, err
		}
		for i := range rows {
			found[webhooks.CallID(rows[i].ID)] = &rows[i]
		}
	}
	return found, nil
}

// hand gives an open change to the edge and puts what that says into a problem. Where nothing has happened the change is
// open no more; where nobody knows it stays so, and Settle tells of it at the latest when the call has ended.
func (s *Service) hand(ctx context.Context, c *Call, a Action) error {
	if c.EdgeID == "" {
		return s.handWaiting(ctx, c, a)
	}
	err := s.Edges.Act(ctx, c.EdgeID, a)
	if err == nil {
		return nil
	}
	refused := s.refused(ctx, c, a, err)
	if refused == nil {
		return fmt.Errorf("action on call %s: %w", c.ID, errors.Join(err, problem.Unavailable(
			"the edge that carries the call did not say whether it took the change "+string(a.ID)+"; the call's events will tell", time.Second)))
	}
	if err := s.withdraw(ctx, a); err != nil {
		return errors.Join(refused, err)
	}
	return refused
}

// refused is the problem of a change that was not made, nil where nobody knows that.
func (s *Service) refused(ctx context.Context, c *Call, a Action, err error) error {
	switch {
	case errors.Is(err, ErrChanged):
		return problem.Precondition()
	case errors.Is(err, ErrBusy):
		return problem.Unavailable("the call has too many changes waiting; repeat this when one of them has completed", time.Second)
	case errors.Is(err, ErrUnknown):
		pointer := "/op"
		if a.Change.Op == nil {
			pointer = ""
		}
		return problem.RefusedField(pointer, "unsupported", "%s", err.Error())
	case errors.Is(err, ErrGone):
		return tooLate(s.latest(ctx, c))
	case errors.Is(err, ErrAway):
		if latest := s.latest(ctx, c); latest.Status.Final() {
			return tooLate(latest)
		}
		return errors.Join(problem.Unavailable("the edge that carries the call cannot be reached at the moment; nothing was changed; repeat this shortly", 2*time.Second), err)
	}
	return nil
}

// latest reads a call again; as it was, where that fails.
func (s *Service) latest(ctx context.Context, c *Call) *Call {
	if now, err := db.Get[Call](ctx, s.DB, auth.Account(c.AccountID), c.ID); err == nil {
		return now
	}
	return c
}

// tooLate says what the call has come to meanwhile.
func tooLate(c *Call) error {
	if c.Status.Final() {
		return problem.Conflict(fmt.Sprintf("the call has ended: its status is %s", c.Status),
			problem.Field("/status", string(c.Status), "the call has ended with cause %s", c.Cause))
	}
	return problem.Conflict(fmt.Sprintf("the call is just ending; its last known status is %s", c.Status),
		problem.Field("/status", string(c.Status), "the edge no longer has the call"))
}

// etagOf is what If-Match asks of the call: "" for any version. Of several tags that of the record is meant, else the
// first: the edge knows best which version the call is.
func etagOf(ifMatch, stored string) string {
	first := ""
	for i, tag := range strings.Split(ifMatch, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		switch {
		case tag == "*":
			return ""
		case tag == stored:
			return tag
		case i == 0:
			first = tag
		}
	}
	return first
}
