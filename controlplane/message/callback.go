package message

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/twiml"
)

// A message that a program has sent may name a URL that is told what becomes of it: its status callbacks. Each is written
// to the outbox in the transaction that changes the status, and so is told although this process ends: a report may come
// hours after the call. Of one message they are told in order, the next when the one before was taken or given up.

// callbackTopic is the outbox's topic of status callbacks.
const callbackTopic = "message.status"

// callback is what the outbox has of one.
type callback struct {
	URL           string                 `json:"url"`
	ApplicationID webhooks.ApplicationID `json:"application_id,omitempty"` // which signs, and in whose dialect it is
	Event         event.Event            `json:"event"`
}

// callbackOrder is where a status stands among those that are told of one message; each comes at most once. That it is
// queued its sender knows. What has failed because nobody knew may be reported to have arrived after all.
var callbackOrder = map[Status]int{Sent: 1, Failed: 2, Canceled: 2, Undelivered: 3, Delivered: 3}

// callbackID is the outbox's id of a message's callback.
func callbackID(messageID string, order int) string { return fmt.Sprintf("%s.%d", messageID, order) }

// callbackIDs are the ids that callbacks of the same message can have, in their order.
func callbackIDs(id string) []string {
	messageID, _, _ := strings.Cut(id, ".")
	last := 0
	for _, order := range callbackOrder {
		last = max(last, order)
	}
	ids := make([]string, last)
	for i := range ids {
		ids[i] = callbackID(messageID, i+1)
	}
	return ids
}

// putCallback writes the callback of an event, where the message has a URL that is to be told.
func (m *Message) putCallback(ctx context.Context, tx *db.Tx, e event.Event) error {
	order, told := callbackOrder[m.Status]
	if m.StatusURL == "" || !told {
		return nil
	}
	payload, err := json.Marshal(callback{URL: m.StatusURL, ApplicationID: webhooks.ApplicationID(m.ApplicationID), Event: e})
	if err != nil {
		return fmt.Errorf("callback of %s: %w", m.ID, err)
	}
	now := db.Now()
	_, err = tx.Write().NewInsert().Model(&db.Message{
		ID: callbackID(m.ID, order), AccountID: m.AccountID, Topic: callbackTopic, Payload: payload, AvailableAt: now, CreatedAt: now,
	}).On("CONFLICT (id) DO NOTHING").Exec(ctx)
	return db.Check(err)
}

const (
	// callbacksAtOnce bounds the callbacks on their way in this process.
	callbacksAtOnce = 32
	// callbackLease is longer than one takes.
	callbackLease = time.Minute
	// callbackWithin bounds one request, connecting and redirects included.
	callbackWithin = 10 * time.Second
	// callbackUntil is how long after its status a callback is tried.
	callbackUntil = 24 * time.Hour
)

// caller tells status URLs. It is a part of Run.
type caller struct {
	*Service
	working sync.WaitGroup
	free    chan struct{} // holds one for each that is on its way
}

// tellCallbacks tells what is due until ctx ends, and waits for what is on its way.
func (s *Service) tellCallbacks(ctx context.Context) {
	c := &caller{Service: s, free: make(chan struct{}, callbacksAtOnce)}
	defer c.working.Wait()
	tick := time.NewTicker(or(s.Poll, time.Second))
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("message.callbacks", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look begins what is due, as far as there is room.
func (c *caller) look(ctx context.Context) error {
	room := callbacksAtOnce - len(c.free)
	if room == 0 {
		return nil
	}
	claimed, err := c.DB.Claim(ctx, callbackTopic, room, callbackLease)
	if err != nil {
		return err
	}
	for _, m := range claimed {
		c.free <- struct{}{}
		c.working.Go(func() {
			defer func() { <-c.free }()
			ctx, done := outlasting(ctx)
			defer done()
			if err := c.handle(ctx, m); err != nil {
				c.Log.Error("message.callback", "account_id", m.AccountID, "error", err.Error()) // it comes again after its lease
			}
		})
	}
	return nil
}

// handle tells one callback, unless an earlier one of its message is still to be told.
func (c *caller) handle(ctx context.Context, m db.Message) error {
	var what callback
	if err := json.Unmarshal(m.Payload, &what); err != nil {
		return fmt.Errorf("payload of %s: %w", m.ID, err)
	}
	of := what.Event.ObjectID
	switch until, held, err := c.before(ctx, m.ID); {
	case err != nil:
		return err
	case held:
		return c.hold(ctx, m, until)
	}
	began := time.Now()
	failed := c.tellStatus(ctx, m.AccountID, what)
	if failed != nil && ctx.Err() != nil {
		return nil // we are stopping: another process tells it when the lease is over
	}
	now, again := c.now(), time.Time{}
	if failed != nil {
		again = now.Add(wait(or(c.Backoff, 5*time.Second), m.Attempts))
	}
	over := failed == nil || again.After(m.CreatedAt.Add(callbackUntil))
	attributes := []any{
		"account_id", m.AccountID, "message_id", of, "event", what.Event.Type, "attempt", m.Attempts, "told", failed == nil, "over", over,
		"duration_ms", time.Since(began).Milliseconds(),
	}
	if e, ok := errors.AsType[*webhooks.RequestError](failed); ok {
		attributes = append(attributes, "code", e.Code, "status", e.Status)
	} else if failed != nil {
		attributes = append(attributes, "error", failed.Error())
	}
	c.Log.Info("message.callback_attempted", attributes...)
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	if !over {
		return c.DB.Retry(settling, m, again)
	}
	return errors.Join(c.DB.Done(settling, m), c.release(settling, m.ID))
}

// before reports whether a callback of the same message comes before one, and until when that one waits.
func (c *caller) before(ctx context.Context, id string) (until time.Time, held bool, err error) {
	earlier := callbackIDs(id)
	earlier = earlier[:slices.Index(earlier, id)]
	if len(earlier) == 0 {
		return until, false, nil
	}
	err = c.DB.Write().NewSelect().Model((*db.Message)(nil)).Column("available_at").Where("id IN (?)", bun.List(earlier)).
		OrderBy("available_at", bun.OrderAsc).Limit(1).Scan(ctx, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return until, false, nil
	}
	return until, err == nil, db.Check(err)
}

// hold puts a callback back until the one before it is looked at again. Where that one has gone meanwhile it does not wait.
func (c *caller) hold(ctx context.Context, m db.Message, until time.Time) error {
	if err := c.DB.Retry(ctx, m, until); err != nil {
		return err
	}
	if _, held, err := c.before(ctx, m.ID); err != nil || held {
		return err
	}
	return c.release(ctx, m.ID)
}

// release lets the callbacks of the same message that wait be told now.
func (c *caller) release(ctx context.Context, id string) error {
	_, err := c.DB.Write().NewUpdate().Model((*db.Message)(nil)).Set("available_at = ?", db.Now()).
		Where("id IN (?)", bun.List(callbackIDs(id))).Where("claim_id IS NULL").Exec(ctx)
	return db.Check(err)
}

// tellStatus makes one request: an event's envelope, or for an application of TwiML the parameters of Twilio.
func (c *caller) tellStatus(ctx context.Context, accountID string, what callback) error {
	signer, err := c.signer(ctx, webhooks.AccountID(accountID), what.ApplicationID)
	if err != nil {
		return err
	}
	none := 0
	ask := webhooks.Ask{
		URL: what.URL, Body: what.Event, Limits: webhooks.Limits{Retries: &none, Budget: callbackWithin},
		Request: webhooks.CallRequest{
			RequestID: webhooks.RequestID(what.Event.ID), AccountID: webhooks.AccountID(accountID), CallID: webhooks.CallID(what.Event.CallID),
		},
	}
	if signer != nil {
		ask.Secrets = signer.Secrets(c.now())
	}
	if signer != nil && signer.Format == app.FormatTwiML {
		var of told
		if err := json.Unmarshal(what.Event.Data, &of); err != nil {
			return fmt.Errorf("event %s: %w", what.Event.ID, err)
		}
		form := twiml.MessageParams(twiml.MessageStatus{
			AccountID: webhooks.AccountID(accountID), ID: webhooks.MessageID(of.ID), Status: string(of.Status), From: of.From, To: of.To, ErrorCode: of.ErrorCode,
		})
		ask.Body, ask.Form = nil, func(webhooks.CallRequest) url.Values { return form }
	}
	_, err = c.Status.Ask(ctx, ask)
	if _, answered := errors.AsType[*webhooks.RejectedError](err); answered {
		return nil // it has answered, and what is nobody's concern
	}
	return err
}

// signer is the application that has sent a message, or the account's oldest where it was none's or is no more; nil where
// there is none.
func (c *caller) signer(ctx context.Context, account webhooks.AccountID, id webhooks.ApplicationID) (*app.Application, error) {
	if id != "" {
		a, err := c.Apps.Get(ctx, account, id)
		if err == nil || problem.From(err).Code != problem.CodeNotFound {
			return a, err
		}
	}
	a, found, err := c.Apps.Default(ctx, account)
	if err != nil || !found {
		return nil, err
	}
	native := *a
	native.Format = app.FormatNative
	return &native, nil
}
