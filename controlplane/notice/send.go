package notice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// topic is that of the outbox's messages about notifications that are due.
const topic = "notice"

// due is the payload of such a message.
type due struct {
	NotificationID string `json:"notification_id"`
}

func enqueue(ctx context.Context, tx *db.Tx, n *Notification) error {
	return db.Enqueue(ctx, tx, n.AccountID, topic, due{n.ID}, n.DueAt)
}

// keptEvents is how many events of a digest are kept; further ones are counted. shownEvents of them are in its text.
const (
	keptEvents  = 500
	shownEvents = 50
)

// Placed adds events to the digests of the rules that tell of them. It belongs into event.Feed.Also: it runs in the
// transaction that places the events, once for each.
func (s *Service) Placed(ctx context.Context, tx *db.Tx, placed []event.Event) error {
	accounts := map[string]bool{}
	var ids []string
	for _, e := range placed {
		if !accounts[e.AccountID] {
			accounts[e.AccountID] = true
			ids = append(ids, e.AccountID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rules, err := db.List[Rule](ctx, tx, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.account_id IN (?)", bun.List(ids)).Where("?TableAlias.enabled").OrderBy("id", bun.OrderAsc)
	})
	if err != nil || len(rules) == 0 {
		return err
	}
	for i := range rules {
		r := &rules[i]
		sees := r.sees()
		var tells []event.Event
		for _, e := range placed {
			if e.AccountID == r.AccountID && event.Match(r.EventTypes, e.Type) && sees.Sees(&e) {
				tells = append(tells, s.Masks.For(e, sees.Mask()))
			}
		}
		if len(tells) == 0 {
			continue
		}
		if err := s.add(ctx, tx, r, tells); err != nil {
			return fmt.Errorf("notification rule %s: %w", r.ID, err)
		}
	}
	return nil
}

// add puts events into the digest of a rule that is still open, or opens one.
func (s *Service) add(ctx context.Context, tx *db.Tx, r *Rule, events []event.Event) error {
	var open []Notification
	err := tx.Write().NewUpdate().Model((*Notification)(nil)).Set("events = events + ?", len(events)).
		Where("rule_id = ?", r.ID).Where("status = ?", Pending).Returning("id, events").Scan(ctx, &open)
	if err != nil {
		return db.Check(err)
	}
	if len(open) == 0 {
		n, err := s.open(ctx, tx, r, int64(len(events)))
		if err != nil {
			return err
		}
		open = append(open, *n)
	}
	before := open[0].Events - int64(len(events))
	if before >= keptEvents {
		return nil
	}
	rows := make([]told, 0, len(events))
	for _, e := range events[:min(int64(len(events)), keptEvents-before)] {
		var data map[string]any
		if err := json.Unmarshal(e.Data, &data); err != nil || data == nil {
			data = map[string]any{}
		}
		rows = append(rows, told{
			RuleID: r.ID, EventID: e.ID, NotificationID: open[0].ID, AccountID: r.AccountID, Type: e.Type, ObjectID: e.ObjectID,
			OccurredAt: e.OccurredAt, Data: data,
		})
	}
	_, err = tx.Write().NewInsert().Model(&rows).On("CONFLICT (rule_id, event_id) DO NOTHING").Exec(ctx)
	return db.Check(err)
}

// open makes a digest with some events. It is due at once, unless the last one was sent less than the interval ago.
func (s *Service) open(ctx context.Context, tx *db.Tx, r *Rule, events int64) (*Notification, error) {
	c, err := db.Get[Channel](ctx, tx, auth.Account(r.AccountID), r.ChannelID)
	if err != nil {
		return nil, err
	}
	n := &Notification{
		Row: db.Row{ID: db.NewID("ntf"), AccountID: r.AccountID}, RuleID: r.ID, ChannelID: r.ChannelID, ChannelKind: c.Kind,
		Status: Pending, Events: events, Recipients: []Recipient{}, DueAt: r.dueAt(s.now()),
	}
	if err := db.Insert(ctx, tx, auth.Account(r.AccountID), n); err != nil {
		return nil, err
	}
	return n, enqueue(ctx, tx, n)
}

// dueAt is when a digest that has something to tell may be sent.
func (r *Rule) dueAt(now time.Time) time.Time {
	if r.LastSentAt == nil {
		return now
	}
	if next := r.LastSentAt.Add(time.Duration(r.DigestInterval) * time.Second); next.After(now) {
		return next
	}
	return now
}

const (
	lookEvery = time.Second
	atOnce    = 8 // notifications that one process sends at the same time
	ofAccount = 2 // of one account: its slow server must not hold up the others'
	lease     = 3 * time.Minute
	// busyFor is how long a notification waits whose account has its share of those being sent.
	busyFor = 5 * time.Second
	// What an account may send; the rest waits. It is above what its rules can want, unless there are many.
	perSecond = 1.0 / 15
	burst     = 30
)

// Run sends what is due until ctx ends, and waits for what is being sent.
func (s *Service) Run(ctx context.Context) error {
	w := &sender{Service: s, free: make(chan struct{}, atOnce), of: map[string]int{}}
	defer w.working.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("notice.look", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sender is what Run keeps.
type sender struct {
	*Service
	working sync.WaitGroup
	free    chan struct{} // holds one for each that is being sent

	mu sync.Mutex     // guards of
	of map[string]int // being sent, by account
}

// look begins what is due, as far as there is room.
func (w *sender) look(ctx context.Context) error {
	room := atOnce - len(w.free)
	if room == 0 {
		return nil
	}
	claimed, err := w.DB.Claim(ctx, topic, room, lease)
	if err != nil {
		return err
	}
	for _, m := range claimed {
		if !w.enter(m.AccountID) {
			if err := w.DB.Retry(ctx, m, w.now().Add(busyFor)); err != nil {
				return err
			}
			continue
		}
		w.free <- struct{}{}
		w.working.Go(func() {
			ctx, done := outlasting(ctx)
			defer func() {
				done()
				w.leave(m.AccountID)
				<-w.free
			}()
			if err := w.handle(ctx, m); err != nil && ctx.Err() == nil {
				w.Log.Error("notice.handle", "account_id", m.AccountID, "error", err.Error())
			}
		})
	}
	return nil
}

// endWithin is how long what is being sent may go on when Run is to end.
const endWithin = 5 * time.Second

// outlasting is a context that ends a little later than another one, so that what is nearly sent is not sent twice.
func outlasting(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(endWithin, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

func (w *sender) enter(account string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[account] >= ofAccount {
		return false
	}
	w.of[account]++
	return true
}

func (w *sender) leave(account string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[account]--; w.of[account] == 0 {
		delete(w.of, account)
	}
}

// handle does what a message of the outbox asks for. With an error the message comes again when its lease is over.
func (s *Service) handle(ctx context.Context, m db.Message) error {
	var what due
	if err := json.Unmarshal(m.Payload, &what); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	next, err := s.send(db.AsAccount(ctx, m.AccountID), m.AccountID, what.NotificationID)
	if err != nil {
		return fmt.Errorf("%s: %w", what.NotificationID, err)
	}
	if next.IsZero() {
		return s.DB.Done(ctx, m)
	}
	return s.DB.Retry(ctx, m, next)
}

// send brings a notification on: next is when it is to be looked at again, zero for never.
//
// A notification may come twice to a recipient: when a server has taken it and the process ended before that was
// written. Mails then have the same Message-ID, and requests the same Webhook-Id.
func (s *Service) send(ctx context.Context, accountID, id string) (next time.Time, err error) {
	n, err := db.Get[Notification](ctx, s.DB, auth.Account(accountID), id)
	if problem.From(err).Code == problem.CodeNotFound {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	if n.Status == Pending {
		if next, err = s.begin(ctx, n); err != nil || !next.IsZero() {
			return next, err
		}
	}
	if n.Status != Sending && n.Status != Retrying {
		return time.Time{}, nil
	}
	c, err := db.Get[Channel](ctx, s.DB, auth.Account(n.AccountID), n.ChannelID)
	switch {
	case problem.From(err).Code == problem.CodeNotFound:
		n.give("the channel was deleted")
	case err != nil:
		return time.Time{}, err
	case !c.Enabled:
		n.give("the channel is switched off")
	default:
		events, err := s.eventsOf(ctx, n)
		if err != nil {
			return time.Time{}, err
		}
		s.attempt(ctx, n, c, events)
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err() // it was interrupted by us: no attempt of theirs
		}
	}
	return n.settle(s.now(), maxAttempts), s.keep(ctx, n)
}

// keep writes what became of an attempt.
func (s *Service) keep(ctx context.Context, n *Notification) error {
	s.Log.Info("notice.attempted", "account_id", n.AccountID, "notification_id", n.ID, "rule_id", n.RuleID, "channel_id", n.ChannelID, "kind", n.ChannelKind,
		"status", n.Status, "attempts", n.Attempts, "events", n.Events, "recipients", len(n.Recipients), "error", n.Error)
	return db.Update(ctx, s.DB, auth.Account(n.AccountID), n, "")
}

// begin closes a digest and writes its text. next is set when it is not yet its time, or the account's share is used up;
// then n is still Pending. A digest whose rule is no more, or was switched off, is given up.
func (s *Service) begin(ctx context.Context, n *Notification) (next time.Time, err error) {
	account := auth.Account(n.AccountID)
	r, err := db.Get[Rule](ctx, s.DB, account, n.RuleID)
	if problem.From(err).Code == problem.CodeNotFound || (err == nil && !r.Enabled) {
		return time.Time{}, s.abandon(ctx, n)
	}
	if err != nil {
		return time.Time{}, err
	}
	now := s.now()
	if at := r.dueAt(now); at.After(now) {
		return at, nil
	}
	if t, err := s.Bus.Take(ctx, "notice:"+n.AccountID, perSecond, burst); err == nil && !t.OK {
		return now.Add(max(t.Wait, time.Second)), nil
	}
	c, err := db.Get[Channel](ctx, s.DB, account, r.ChannelID)
	if err != nil {
		return time.Time{}, err
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(n.AccountID))
	if err != nil {
		return time.Time{}, err
	}
	language, err := s.language(ctx, a, r.Language)
	if err != nil {
		return time.Time{}, err
	}
	zone, err := time.LoadLocation(a.TimeZone)
	if err != nil {
		zone = time.UTC
	}
	return time.Time{}, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		// From here on events open another digest: those that are adding to this one are waited for.
		closed, err := tx.Write().NewUpdate().Model((*Notification)(nil)).Set("status = ?", Sending).
			Where("id = ?", n.ID).Where("status = ?", Pending).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if rows, err := closed.RowsAffected(); err != nil || rows == 0 {
			return errors.Join(err, problem.Conflict("the notification is being sent by another"))
		}
		if _, err := tx.Write().NewUpdate().Model((*Rule)(nil)).Set("last_sent_at = ?", now).Where("id = ?", r.ID).Exec(ctx); err != nil {
			return db.Check(err)
		}
		whole, err := db.Get[Notification](ctx, tx, account, n.ID)
		if err != nil {
			return err
		}
		events, err := readEvents(ctx, tx, n.ID, shownEvents)
		if err != nil {
			return err
		}
		*n = *whole
		n.ChannelID, n.ChannelKind, n.DueAt = c.ID, c.Kind, now
		n.Recipients = recipients(c, r)
		text := scope{rule: r.Name, account: a.Name, count: n.Events, zone: zone}
		n.Subject, n.Body = digest(text, r.Templates.in(language), language, events)
		return db.Update(ctx, tx, account, n, "")
	})
}

// abandon gives a digest up whose rule tells no more.
func (s *Service) abandon(ctx context.Context, n *Notification) error {
	n.Status, n.Error = Failed, "the rule was deleted or switched off"
	return db.Update(ctx, s.DB, auth.Account(n.AccountID), n, "")
}

func recipients(c *Channel, r *Rule) []Recipient {
	if c.Kind == Webhook {
		return []Recipient{{Address: c.URL}}
	}
	all := make([]Recipient, 0, len(r.Recipients))
	for _, a := range r.Recipients {
		all = append(all, Recipient{Address: a})
	}
	return all
}

// eventsOf are the events that a webhook is told with the text.
func (s *Service) eventsOf(ctx context.Context, n *Notification) ([]told, error) {
	if n.ChannelKind != Webhook {
		return nil, nil
	}
	return readEvents(ctx, s.DB, n.ID, shownEvents)
}

func readEvents(ctx context.Context, conn db.Conn, notificationID string, most int64) ([]told, error) {
	events := []told{}
	err := conn.Read().NewSelect().Model(&events).Where("notification_id = ?", notificationID).
		OrderBy("occurred_at", bun.OrderAsc).OrderBy("event_id", bun.OrderAsc).Limit(most).Scan(ctx)
	return events, db.Check(err)
}

// attempt sends a notification to those of its recipients that are open, and writes into them what became of it.
func (s *Service) attempt(ctx context.Context, n *Notification, c *Channel, events []told) {
	n.Attempts++
	n.Error = ""
	var open []int
	var letters []letter
	for i, r := range n.Recipients {
		if r.open() {
			open = append(open, i)
			letters = append(letters, letter{id: fmt.Sprintf("%s.%d", n.ID, i), to: r.Address, subject: n.Subject, body: n.Body, at: n.DueAt})
		}
	}
	var results []error
	switch by, ours := s.Mail, true; {
	case c.Kind == Webhook:
		results = []error{s.tell(ctx, n, c, events)}
	case c.SMTP == nil && by == nil:
		results = make([]error, len(open))
		for i := range results {
			results[i] = &failure{text: "this installation has no mail server of its own", final: true}
		}
	default:
		if c.SMTP != nil {
			by, ours = &Mail{Server: *c.SMTP, Password: c.Password}, false
		}
		results = s.post(ctx, *by, ours, letters)
	}
	now := s.now()
	for i, at := range open {
		n.Recipients[at].result(now, results[i])
		if results[i] != nil {
			n.Error = n.Recipients[at].Error
			if f, ok := errors.AsType[*failure](results[i]); ok && f.err != nil {
				s.Log.Debug("notice.failed", "notification_id", n.ID, "error", f.err.Error())
			}
		}
	}
}

// result writes down what became of an attempt.
func (r *Recipient) result(now time.Time, err error) {
	if err == nil {
		r.SentAt, r.Error = &now, ""
		return
	}
	r.Error = "it could not be sent"
	if f, ok := errors.AsType[*failure](err); ok {
		r.Error, r.Refused = f.text, f.final
	}
}

// give refuses every recipient that is open.
func (n *Notification) give(why string) {
	n.Error = why
	for i := range n.Recipients {
		if n.Recipients[i].open() {
			n.Recipients[i].Error, n.Recipients[i].Refused = why, true
		}
	}
}

// maxAttempts is how often a notification is tried, over about seven hours (see pause).
const maxAttempts = 8

// pause is how long after an attempt the next one follows: half a minute, and each time three times as long, up to four
// hours.
func pause(attempts int64) time.Duration {
	wait := 30 * time.Second
	for range attempts - 1 {
		wait *= 3
	}
	return min(wait, 4*time.Hour)
}

// settle says where a notification stands after an attempt: next is when it is tried again, zero for never.
func (n *Notification) settle(now time.Time, most int64) (next time.Time) {
	open, refused := false, false
	for _, r := range n.Recipients {
		open, refused = open || r.open(), refused || r.Refused
	}
	switch {
	case open && n.Attempts < most:
		n.Status, n.DueAt = Retrying, now.Add(pause(n.Attempts))
		return n.DueAt
	case open, refused:
		n.Status = Failed
	default:
		n.Status, n.SentAt = Sent, &now
	}
	return time.Time{}
}

// body is what a webhook is sent.
type body struct {
	ID       string `json:"id"`
	Type     string `json:"type"` // always "notification"
	RuleID   string `json:"rule_id,omitempty"`
	Subject  string `json:"subject"`
	Text     string `json:"text"`
	Total    int64  `json:"total"`
	Events   []told `json:"events"`
	Attempts int64  `json:"attempt"`
}

// webhookWithin bounds one request.
const webhookWithin = 15 * time.Second

// tell sends a notification to the channel's URL, signed as all webhooks are.
func (s *Service) tell(ctx context.Context, n *Notification, c *Channel, events []told) error {
	if events == nil {
		events = []told{}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(body{ID: n.ID, Type: "notification", RuleID: n.RuleID, Subject: n.Subject, Text: n.Body, Total: n.Events, Events: events, Attempts: n.Attempts})
	if err != nil {
		return &failure{text: "the notification could not be written", final: true, err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, webhookWithin)
	defer cancel()
	var unsigned error
	answer, err := s.Guard.Fetch(ctx, guard.Request{
		Method: http.MethodPost, URL: c.URL, Header: http.Header{"Content-Type": {"application/json"}}, Body: text.Bytes(), MaxBody: 64 << 10, NoRedirects: true,
		Sign: func(_ string, _ *url.URL, sent []byte, h http.Header) {
			unsigned = webhooks.Sign(h, n.ID, time.Now(), sent, c.Secret)
		},
	})
	switch {
	case unsigned != nil:
		return &failure{text: "the notification could not be signed", final: true, err: unsigned}
	case err != nil && answer.Status == 0:
		return &failure{text: host(c.URL) + ": " + err.Error(), err: err}
	case answer.Status >= 200 && answer.Status < 300:
		return nil // whatever it says
	}
	// RFC 9110 §15.5.11: gone for good.
	return &failure{text: fmt.Sprintf("%s answered %d", host(c.URL), answer.Status), final: answer.Status == http.StatusGone}
}
