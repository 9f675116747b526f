package message

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/app"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/list"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// Service is the operations on messages, their templates and providers. Run sends, and Purge keeps the log to its
// retention. It is safe for concurrent use.
type Service struct {
	DB  *db.DB
	Bus *bus.Bus
	// Guard reaches gateways, and says to which addresses message centres may lead.
	Guard *guard.Client
	// RootCAs check message centres' certificates; nil for the system's.
	RootCAs *x509.CertPool
	Log     *slog.Logger
	// Status asks the status URLs of messages, and Apps are who signs for them.
	Status *webhooks.Client
	Apps   *app.Service

	// Poll is how often what is due is looked for without a wake-up; 1 s when zero. Sessions are looked after every fifth
	// time, and what was left over is swept up every sixtieth.
	Poll time.Duration
	// Lease is how long a process may be sending a message before another takes it over; 5 minutes when zero.
	Lease time.Duration
	// Backoff is the first wait after an attempt that failed, to send a message or to tell a status URL; 5 s when zero. It
	// doubles up to 10 minutes.
	Backoff time.Duration
	Now     func() time.Time // nil is db.Now
}

func (s *Service) now() time.Time {
	if s.Now == nil {
		return db.Now()
	}
	return s.Now()
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Operations are the functions of messages.yaml.
func (s *Service) Operations() map[string]rest.Operation {
	all := rest.Operations(s.Templates())
	maps.Copy(all, rest.Operations(s.Providers()))
	maps.Copy(all, map[string]rest.Operation{
		"listMessages":        rest.Op(s.list),
		"searchMessages":      rest.Op(s.search),
		"createMessage":       rest.Op(s.create),
		"getMessage":          rest.Op(s.get),
		"cancelMessage":       rest.Op(s.cancel),
		"createMessageReport": rest.Op(s.report),
	})
	return all
}

// Templates is how templates are made and changed, for whoever does so without a request.
func (s *Service) Templates() rest.Resource[Template, writtenTemplate] {
	return rest.Resource[Template, writtenTemplate]{
		DB: s.DB, One: "MessageTemplate", Many: "MessageTemplates", Prefix: "mtp",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "language": {}, "code": {}}),
			Search: []string{"name", "body"},
		},
		Draft: func(t *Template) writtenTemplate { return writtenTemplate{TemplateDraft: t.TemplateDraft} },
		Put: func(_ context.Context, _ *db.Tx, _ auth.Caller, t *Template, w writtenTemplate) error {
			t.TemplateDraft = w.TemplateDraft
			return t.check()
		},
	}
}

// Providers is how providers are made and changed, for whoever does so without a request.
func (s *Service) Providers() rest.Resource[Provider, writtenProvider] {
	return rest.Resource[Provider, writtenProvider]{
		DB: s.DB, One: "MessageProvider", Many: "MessageProviders", Prefix: "mpr",
		Table: list.Table{
			Fields: list.Common(map[string]list.Field{"name": {Sort: true}, "kind": {}, "enabled": {Type: list.Bool}, "is_default": {Type: list.Bool}}),
			Search: []string{"name"},
		},
		Draft: func(p *Provider) writtenProvider {
			w := writtenProvider{
				Name: p.Name, Kind: p.Kind, Enabled: p.Enabled, IsDefault: p.IsDefault, From: p.From, MessagesPerSecond: p.MessagesPerSecond,
			}
			if p.HTTP != nil {
				w.HTTP = &writtenHTTP{Request: p.HTTP.Request, Headers: p.Headers}
			}
			if p.SMPP != nil {
				w.SMPP = &writtenSMPP{SMPP: *p.SMPP}
			}
			return w
		},
		Put:      s.putProvider,
		Removing: unused,
	}
}

// unused refuses to remove a provider that has messages to send. Those that come in between fail when their time is over.
func unused(ctx context.Context, tx *db.Tx, _ auth.Caller, p *Provider) error {
	waiting, err := tx.Read().NewSelect().Model((*Message)(nil)).Where("provider_id = ?", p.ID).
		Where("status IN (?)", bun.List([]Status{Queued, Sending})).Exists(ctx)
	if err != nil {
		return db.Check(err)
	}
	if waiting {
		return problem.Conflict("this provider has messages to send; cancel them, or wait until they are sent")
	}
	return nil
}

func table() list.Table {
	return list.Table{
		Fields: list.Common(map[string]list.Field{
			"to": {Mask: true}, "from": {Mask: true}, "body": {SortOnly: true, Mask: true}, "direction": {}, "status": {}, "template_id": {},
			"provider_id": {}, "provider_message_id": {}, "call_id": {}, "owner_id": {}, "department_id": {}, "error_code": {},
			"sent_at": {Type: list.Time}, "delivered_at": {Type: list.Time},
		}),
		Search: []string{"to", "from", "body"},
	}
}

func (s *Service) list(ctx context.Context, who auth.Caller, in rest.ListIn) (list.Page[Message], error) {
	q, err := table().Parse(in.Query)
	if err != nil {
		return list.Page[Message]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) search(ctx context.Context, who auth.Caller, in rest.SearchIn) (list.Page[Message], error) {
	q, err := table().ParseSearch(in.Body)
	if err != nil {
		return list.Page[Message]{}, err
	}
	return s.page(ctx, who, q)
}

func (s *Service) page(ctx context.Context, who auth.Caller, q list.Query) (list.Page[Message], error) {
	page, err := list.Run[Message](ctx, s.DB, who.Scope, q)
	return list.Map(page, func(m Message) Message { return m.shownTo(who) }), err
}

func (s *Service) get(ctx context.Context, who auth.Caller, in rest.ByID) (Message, error) {
	m, err := db.Get[Message](ctx, s.DB, who.Scope, in.ID)
	if err != nil {
		return Message{}, err
	}
	return m.shownTo(who), nil
}

type createIn struct {
	Body written `body:"json"`
}

func (s *Service) create(ctx context.Context, who auth.Caller, in createIn) (Message, error) {
	var made *Message
	err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		m, err := s.draw(ctx, tx, who.AccountID, in.Body.Draft)
		if err != nil {
			return err
		}
		m.ExternalID, m.Metadata, m.OwnerID = in.Body.ExternalID, in.Body.Metadata, who.UserID
		if who.UserID != "" {
			if err := departmentOf(ctx, tx, m); err != nil {
				return err
			}
		}
		if err := db.Insert(ctx, tx, who.Scope, m); err != nil {
			return err
		}
		made = m
		return s.tell(ctx, tx, m)
	})
	if err != nil {
		return Message{}, err
	}
	s.Wake(ctx)
	return made.shownTo(who), nil
}

// Send queues a message in a transaction that is open: for a call, when callID is set, whose owner is then the message's.
// With Draft.Key it is made once: the message that has the key is given, whatever else the draft says. Drafts that cannot
// be sent are a Problem. Wake, after the commit, has it sent sooner.
func (s *Service) Send(ctx context.Context, tx *db.Tx, accountID webhooks.AccountID, callID webhooks.CallID, d Draft) (*Message, error) {
	if d.Key != "" {
		m, err := keyed(ctx, tx, accountID, d.Key)
		if err != nil || m != nil {
			return m, err
		}
	}
	m, err := s.draw(ctx, tx, string(accountID), d)
	if err != nil {
		return nil, err
	}
	if err := app.CheckURL("/status_url", d.StatusURL); err != nil {
		return nil, err
	}
	m.CallID, m.IdempotencyKey, m.StatusURL, m.ApplicationID = string(callID), d.Key, d.StatusURL, string(d.ApplicationID)
	if callID != "" {
		if err := ownerOf(ctx, tx, m); err != nil {
			return nil, err
		}
	}
	m.settleRow()
	// Another may be writing the same key: the insert waits for it, and does nothing.
	done, err := tx.Write().NewInsert().Model(m).On("CONFLICT (account_id, idempotency_key) DO NOTHING").Exec(ctx)
	if err != nil {
		return nil, db.Check(err)
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		if err != nil {
			return nil, err
		}
		return keyed(ctx, tx, accountID, d.Key)
	}
	return m, s.tell(ctx, tx, m)
}

// settleRow fills what db.Insert does, for rows that are written otherwise.
func (m *Message) settleRow() {
	m.CreatedAt, m.Etag, m.Metadata = db.Now(), "1", map[string]any{}
	m.UpdatedAt = m.CreatedAt
}

// keyed finds the message with an idempotency key; nil when there is none.
func keyed(ctx context.Context, tx *db.Tx, accountID webhooks.AccountID, key string) (*Message, error) {
	m, err := db.Find[Message](ctx, tx, auth.Account(string(accountID)), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("?TableAlias.idempotency_key = ?", key)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return m, err
}

// draw makes a message of a draft, and refuses what cannot be sent. It is not stored.
func (s *Service) draw(ctx context.Context, tx *db.Tx, accountID string, d Draft) (*Message, error) {
	a, err := db.Get[account.Account](ctx, tx, auth.Account(accountID), accountID)
	if err != nil {
		return nil, err
	}
	to, ok := number.Normal(d.To, a.DefaultCountry)
	if !ok {
		return nil, problem.InvalidField("/to", "number", "must be a number such as +8613800138000")
	}
	if err := checkSender("/from", d.From); err != nil {
		return nil, err
	}
	if err := checkData(d.Data); err != nil {
		return nil, err
	}
	p, err := provider(ctx, tx, accountID, d.ProviderID)
	if err != nil {
		return nil, err
	}
	m := &Message{
		Row: db.Row{ID: db.NewID("msg"), AccountID: accountID}, Direction: Outbound, Status: Queued, To: to, From: or(d.From, p.From), Body: d.Body,
		TemplateID: d.TemplateID, Data: d.Data, ProviderID: p.ID,
	}
	if err := m.write(ctx, tx, d); err != nil {
		return nil, err
	}
	return m, m.schedule(s.now(), d.SendAt)
}

// write fills the text in.
func (m *Message) write(ctx context.Context, tx *db.Tx, d Draft) error {
	switch {
	case d.TemplateID == "" && len(d.Data) > 0:
		return problem.InvalidField("/data", "conflict", "goes with template_id")
	case (d.TemplateID == "") == (d.Body == ""):
		return problem.InvalidField("/body", "required", "is needed, or template_id, and not both")
	case d.TemplateID != "":
		t, err := db.Get[Template](ctx, tx, auth.Account(m.AccountID), d.TemplateID)
		if err != nil && problem.From(err).Code == problem.CodeNotFound {
			return problem.RefusedField("/template_id", "unknown", "there is no message template %q in this account", d.TemplateID)
		}
		if err != nil {
			return err
		}
		if m.Body, err = t.fill(d.Data); err != nil {
			return err
		}
		m.TemplateCode, m.Signature = t.Code, t.Signature
	}
	return m.measure()
}

// schedule says when it is sent, and until when.
func (m *Message) schedule(now time.Time, at *time.Time) error {
	m.AvailableAt = now
	if at != nil {
		when := at.UTC().Truncate(time.Microsecond)
		if when.After(now.Add(MaxAhead)) {
			return problem.RefusedField("/send_at", "range", "may be at most %d days ahead", int(MaxAhead.Hours()/24))
		}
		m.SendAt = &when
		if when.After(now) {
			m.AvailableAt = when
		}
	}
	m.ExpiresAt = m.AvailableAt.Add(sendWithin)
	return nil
}

// departmentOf puts in the department that the message's owner is in.
func departmentOf(ctx context.Context, tx *db.Tx, m *Message) error {
	var department sql.NullString
	err := tx.Read().NewSelect().Table("users").Column("department_id").Where("account_id = ?", m.AccountID).Where("id = ?", m.OwnerID).Scan(ctx, &department)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	m.DepartmentID = department.String
	return db.Check(err)
}

// ownerOf puts in whose the message's call is. A call whose record is not there yet is nobody's.
func ownerOf(ctx context.Context, tx *db.Tx, m *Message) error {
	var owner, department sql.NullString
	err := tx.Read().NewSelect().Table("calls").Column("owner_id", "department_id").Where("account_id = ?", m.AccountID).Where("id = ?", m.CallID).
		Scan(ctx, &owner, &department)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	m.OwnerID, m.DepartmentID = owner.String, department.String
	return db.Check(err)
}

// cancel takes a message back that no provider has been sent.
func (s *Service) cancel(ctx context.Context, who auth.Caller, in rest.ChangeIn) (Message, error) {
	m, err := db.ChangeTx(ctx, s.DB, who.Scope, in.ID, in.IfMatch, func(ctx context.Context, tx *db.Tx, m *Message) error {
		if m.Status != Queued {
			return problem.Conflict("only a message that is queued can be canceled", problem.Field("/status", "state", "is %s", m.Status))
		}
		m.Status = Canceled
		return s.tell(ctx, tx, m)
	})
	if err != nil {
		return Message{}, err
	}
	return m.shownTo(who), nil
}

// tell emits the event of the status that a message has now, and has its status URL told.
func (s *Service) tell(ctx context.Context, tx *db.Tx, m *Message) error {
	data, err := m.told()
	if err != nil {
		return fmt.Errorf("event of %s: %w", m.ID, err)
	}
	e := event.Event{
		ID: db.NewID("evt"), AccountID: m.AccountID, Type: "message." + string(m.Status), Resource: "messages", ObjectID: m.ID, CallID: m.CallID,
		OccurredAt: db.Now(), OwnerID: m.OwnerID, DepartmentID: m.DepartmentID, Data: data,
	}
	if err := event.Emit(ctx, tx, e); err != nil {
		return err
	}
	return m.putCallback(ctx, tx, e)
}

// topic is the bus's topic: a message on it says that there is something to send.
const topic = "messages"

// Wake makes the workers look for what is to be sent now. A bus that is away only delays that.
func (s *Service) Wake(ctx context.Context) {
	if err := s.Bus.Publish(ctx, topic, nil); err != nil {
		s.Log.Debug("message.wake_lost", "error", err.Error())
	}
}

// purgeRows bounds the rows of one DELETE.
const purgeRows = 1000

// Purge removes messages that are older than their account's retention of records.
func (s *Service) Purge(ctx context.Context) error {
	accounts, err := db.List[account.Account](ctx, s.DB, auth.Everywhere())
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.Limits.RetentionDays == 0 {
			continue
		}
		if err := s.purge(ctx, a.ID, s.now().AddDate(0, 0, -a.Limits.RetentionDays)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) purge(ctx context.Context, accountID string, before time.Time) error {
	for {
		old := s.DB.Write().NewSelect().Model((*Message)(nil)).Column("id").Where("account_id = ?", accountID).Where("created_at < ?", before).
			Where("status NOT IN (?)", bun.List([]Status{Queued, Sending})).OrderBy("created_at", bun.OrderAsc).Limit(purgeRows)
		done, err := s.DB.Write().NewDelete().Model((*Message)(nil)).Where("id IN (?)", old).Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		if n, err := done.RowsAffected(); err != nil || n < purgeRows {
			return err
		}
	}
}
