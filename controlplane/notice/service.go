package notice

import (
	"context"
	"crypto/x509"
	"log/slog"
	"maps"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/setting"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Service is the operations on notifications. Its Placed belongs into event.Feed.Also, Run sends, and Purge keeps the log
// to its retention. It is safe for concurrent use.
type Service struct {
	DB       *db.DB
	Bus      *bus.Bus
	Accounts *account.Service
	Settings *setting.Service
	Masks    event.Masks
	// Guard reaches the webhooks that accounts give, and says to which addresses their mail servers may lead.
	Guard *guard.Client
	// Mail is the installation's mail server, nil for none. No account sees its settings.
	Mail *Mail
	// Hostname is what mail servers are greeted with; the machine's name when empty.
	Hostname string
	// RootCAs check mail servers' certificates; nil for the system's.
	RootCAs *x509.CertPool
	Log     *slog.Logger
	Now     func() time.Time // nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

// Operations are the functions of the specification's operations.
func (s *Service) Operations() map[string]rest.Operation {
	all := map[string]rest.Operation{
		"testNotificationChannel": rest.Op(s.test),
		"listNotifications":       rest.Op(s.list),
		"searchNotifications":     rest.Op(s.search),
		"getNotification":         rest.Op(s.get),
		"retryNotification":       rest.Op(s.retry),
	}
	maps.Copy(all, rest.Operations(s.channels()))
	maps.Copy(all, rest.Operations(s.rules()))
	return all
}

// What an account may have.
const (
	maxChannels = 50
	maxRules    = 100
)

func (s *Service) channels() rest.Resource[Channel, written] {
	return rest.Resource[Channel, written]{
		DB: s.DB, One: "NotificationChannel", Many: "NotificationChannels", Prefix: "nch",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "kind": {}, "enabled": {Type: list.Bool}}),
			Search: []string{"name"},
		},
		Uses: []db.Use{{Table: "notification_rules", Column: "channel_id", Name: "notification rule"}},
		Draft: func(c *Channel) written {
			w := written{Name: c.Name, Kind: c.Kind, Enabled: c.Enabled, URL: c.URL}
			if c.SMTP != nil {
				w.SMTP = &writtenServer{Server: *c.SMTP}
			}
			return w
		},
		Put: func(ctx context.Context, tx *db.Tx, who auth.Caller, c *Channel, w written) error {
			if c.Etag == "" {
				if err := atMost[Channel](ctx, tx, who.Scope, maxChannels); err != nil {
					return err
				}
				if w.Kind == Webhook {
					c.Secret = webhooks.NewSecret()
				}
			}
			return c.become(w, s.Mail != nil)
		},
	}
}

// atMost refuses one more than an account may have.
func atMost[T any, P db.Entity[T]](ctx context.Context, tx *db.Tx, scope auth.Scope, most int64) error {
	n, err := db.Count[T, P](ctx, tx, scope)
	if err == nil && n >= most {
		err = problem.Refused("the account has as many of these as it may; delete one that is no longer used")
	}
	return err
}

// writtenRule is what a caller writes of a rule.
type writtenRule struct {
	rest.Keys
	RuleDraft
}

func (s *Service) rules() rest.Resource[Rule, writtenRule] {
	return rest.Resource[Rule, writtenRule]{
		DB: s.DB, One: "NotificationRule", Many: "NotificationRules", Prefix: "nrl",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "channel_id": {}, "enabled": {Type: list.Bool}}),
			Search: []string{"name"},
		},
		Draft: func(r *Rule) writtenRule { return writtenRule{RuleDraft: r.RuleDraft} },
		Put: func(ctx context.Context, tx *db.Tx, who auth.Caller, r *Rule, w writtenRule) error {
			if r.Etag == "" {
				if err := atMost[Rule](ctx, tx, who.Scope, maxRules); err != nil {
					return err
				}
			}
			c, err := db.Get[Channel](ctx, tx, who.Scope, w.ChannelID)
			if problem.From(err).Code == problem.CodeNotFound {
				return problem.RefusedField("/channel_id", "unknown", "there is no notification channel %q in this account", w.ChannelID)
			}
			if err != nil {
				return err
			}
			r.RuleDraft, r.Reader = w.RuleDraft, readerOf(who)
			return r.check(c)
		},
		Removed: func(ctx context.Context, tx *db.Tx, _ auth.Caller, r *Rule) error {
			_, err := tx.Write().NewDelete().Model((*Notification)(nil)).Where("rule_id = ?", r.ID).Where("status = ?", Pending).Exec(ctx)
			return db.Check(err)
		},
	}
}

func table() list.Table {
	return list.Table{Fields: list.Common(map[string]list.Field{
		"rule_id": {}, "channel_id": {}, "status": {}, "due_at": {Type: list.Time, Sort: true}, "sent_at": {Type: list.Time},
	})}
}

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Notification], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Notification]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) search(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Notification], error) {
	q, err := table().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Notification]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) page(ctx context.Context, who auth.Caller, q list.Query) (list.Page[Notification], error) {
	page, err := list.Run[Notification](ctx, s.DB, who.Scope, q)
	return list.Map(page, func(n Notification) Notification { return n.shownTo(who) }), err
}

// shownTo leaves the text out for whom anything of the account is hidden: it tells of events as the rule's writer sees
// them.
func (n Notification) shownTo(who auth.Caller) Notification {
	whole := who.Mask == auth.Mask{}
	for _, rows := range who.Reach {
		whole = whole && rows.All
	}
	if !whole {
		n.Subject, n.Body = "", ""
	}
	return n
}

func (s *Service) get(ctx context.Context, who auth.Caller, in rest.ByID) (Notification, error) {
	n, err := db.Get[Notification](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return Notification{}, err
	}
	return n.shownTo(who), nil
}

type retryIn struct {
	ID      string `path:"notification_id"`
	IfMatch string `header:"If-Match"`
}

// retry has a notification that was given up tried again, for those whom it has not reached.
func (s *Service) retry(ctx context.Context, who auth.Caller, in retryIn) (Notification, error) {
	n, err := db.ChangeTx(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(ctx context.Context, tx *db.Tx, n *Notification) error {
		if n.Status != Failed {
			return problem.Conflict("only a notification that failed can be sent again, this one is " + string(n.Status))
		}
		n.Status, n.Attempts, n.DueAt = Retrying, 0, s.now()
		for i := range n.Recipients {
			n.Recipients[i].Refused = false
		}
		return enqueue(ctx, tx, n)
	})
	if err != nil {
		return Notification{}, err
	}
	return n.shownTo(who), nil
}

type testDraft struct {
	To string `json:"to,omitempty"`
}

type testIn struct {
	ID   string    `path:"notification_channel_id"`
	Body testDraft `body:"json"`
}

// Tests of channels that an account may make: few, because each sends a mail wherever it is asked to.
const (
	testsPerSecond = 0.1
	testsAtOnce    = 5
	testWithin     = 20 * time.Second // less than a request may take
)

// test sends a message at once and says what became of it. It is not tried again.
func (s *Service) test(ctx context.Context, who auth.Caller, in testIn) (Notification, error) {
	c, err := db.Get[Channel](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return Notification{}, err
	}
	to := in.Body.To
	switch {
	case c.Kind == Webhook && to != "":
		return Notification{}, problem.InvalidField("/to", "conflict", "is for a channel of kind email; a webhook has its url")
	case c.Kind == Webhook:
		to = c.URL
	default:
		if err := checkAddress("/to", to); err != nil {
			return Notification{}, err
		}
	}
	if t, err := s.Bus.Take(ctx, "notice.test:"+c.AccountID, testsPerSecond, testsAtOnce); err == nil && !t.OK {
		return Notification{}, problem.TooMany("channels can be tested a few times a minute; wait as long as Retry-After says", max(t.Wait, time.Millisecond))
	}
	a, err := s.Accounts.Get(ctx, webhooks.AccountID(c.AccountID))
	if err != nil {
		return Notification{}, err
	}
	language, err := s.language(ctx, a, "")
	if err != nil {
		return Notification{}, err
	}
	words, text := wordsOf(language).test, scope{rule: c.Name, account: a.Name}
	n := &Notification{
		Row: db.Row{ID: db.NewID("ntf")}, ChannelID: c.ID, ChannelKind: c.Kind, Status: Sending, Recipients: []Recipient{{Address: to}},
		Subject: text.fill(words.Subject), Body: text.fill(words.Line) + "\n", DueAt: s.now(),
	}
	if err := db.Insert(ctx, s.DB, who.Scope, n); err != nil {
		return Notification{}, err
	}
	trying, cancel := context.WithTimeout(ctx, testWithin)
	s.attempt(trying, n, c, nil)
	cancel()
	n.settle(s.now(), 1)
	if err := db.Update(context.WithoutCancel(ctx), s.DB, who.Scope, n, ""); err != nil {
		return Notification{}, err
	}
	return n.shownTo(who), nil
}

// language is that of a notification: asked for, else the account's setting, else that of its country.
func (s *Service) language(ctx context.Context, a *account.Account, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	values, err := s.Settings.Values(ctx, webhooks.AccountID(a.ID))
	if err != nil {
		return "", err
	}
	if language := values.NotificationLanguage(); language != "" {
		return language, nil
	}
	return a.Language(), nil
}

// purgeRows bounds the rows of one DELETE.
const purgeRows = 1000

// Purge removes notifications that are older than their account's retention.
func (s *Service) Purge(ctx context.Context) error {
	var accounts []string
	if err := s.DB.Read().NewSelect().Model((*Notification)(nil)).ColumnExpr("DISTINCT account_id").Scan(ctx, &accounts); err != nil {
		return db.Check(err)
	}
	for _, id := range accounts {
		values, err := s.Settings.Values(ctx, webhooks.AccountID(id))
		if err != nil {
			return err
		}
		if err := s.purge(ctx, id, s.now().Add(-values.NotificationRetention())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) purge(ctx context.Context, accountID string, before time.Time) error {
	for {
		old := s.DB.Write().NewSelect().Model((*Notification)(nil)).Column("id").Where("account_id = ?", accountID).
			Where("created_at < ?", before).Where("status IN (?, ?)", Sent, Failed).OrderBy("created_at", bun.OrderAsc).Limit(purgeRows)
		done, err := s.DB.Write().NewDelete().Model((*Notification)(nil)).Where("id IN (?)", old).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := done.RowsAffected(); err != nil || n < purgeRows {
			return err
		}
	}
}

// host is the part of a URL that a person recognises it by.
func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "the webhook"
	}
	return u.Host
}
