package message

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/uptrace/bun"

	"github.com/hookswitch/hookswitch/controlplane/account"
	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/controlplane/message/smpp"
	"github.com/hookswitch/hookswitch/controlplane/number"
	"github.com/hookswitch/hookswitch/webhooks/guard"
)

// line is a message centre that this process keeps a session with.
//
// Why one process of several: message centres count the sessions of a system id, and most allow one or two. Who holds the
// bus's lease has the session. Should two have one after all, because the bus was away, messages are still claimed by one
// of them alone.
type line struct {
	provider *Provider
	etag     string
	client   *smpp.Client
	lease    bus.Lease
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// lineLease is how long after a process has ended another takes its sessions over.
const lineLease = 15 * time.Second

func (w *worker) line(id string) *line {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines[id]
}

// keepLines begins and ends sessions, so that each message centre which is enabled has one here or elsewhere.
func (w *worker) keepLines(ctx context.Context) error {
	all, err := db.List[Provider](ctx, w.DB, auth.Everywhere(), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("kind = ?", BySMPP).Where("enabled = ?", true)
	})
	if err != nil {
		return err
	}
	wanted := map[string]*Provider{}
	for i := range all {
		wanted[all[i].ID] = &all[i]
	}
	w.mu.Lock()
	var over []*line
	for id, l := range w.lines {
		if p := wanted[id]; p == nil || p.Etag != l.etag || !w.renewed(ctx, l) {
			over = append(over, l)
			delete(w.lines, id)
		}
	}
	w.mu.Unlock()
	w.end(over)
	for id, p := range wanted {
		if w.line(id) != nil {
			continue
		}
		lease, got, err := w.Bus.Acquire(ctx, leaseOf(id), w.owner, lineLease)
		if err != nil || !got {
			continue // another has it, or the bus is away: what there is stays as it is
		}
		l := w.begin(p, lease)
		w.mu.Lock()
		w.lines[id] = l
		w.mu.Unlock()
	}
	return nil
}

func leaseOf(providerID string) string { return "message.smpp:" + providerID }

// renewed reports whether a session is still this process's to keep. A bus that is away takes none.
func (w *worker) renewed(ctx context.Context, l *line) bool {
	held, err := w.Bus.Renew(ctx, l.lease, lineLease)
	return held || err != nil
}

// begin keeps a session until it is ended. It outlives Run's context, so that what is being sent is answered.
func (w *worker) begin(p *Provider, lease bus.Lease) *line {
	ctx, stop := context.WithCancel(context.Background())
	l := &line{provider: p, etag: p.Etag, lease: lease, stop: stop}
	l.client = smpp.New(smpp.Config{
		Dial:     func(ctx context.Context) (net.Conn, error) { return w.dial(ctx, p.SMPP) },
		SystemID: p.SMPP.SystemID, Password: p.Password, SystemType: p.SMPP.SystemType, ServiceType: p.SMPP.ServiceType,
		SAR: p.SMPP.Concatenation == bySAR, Window: p.SMPP.Window, EnquireLink: time.Duration(p.SMPP.EnquireLink) * time.Second,
		Deliver: func(ctx context.Context, d smpp.Delivery) error {
			err := w.arrived(db.AsAccount(ctx, p.AccountID), p, d)
			if err != nil && ctx.Err() == nil {
				w.Log.Error("message.arrived", "account_id", p.AccountID, "provider_id", p.ID, "error", err.Error())
			}
			return err
		},
		State: func(err error) { w.state(p, err) },
		Log:   w.Log,
	})
	l.running.Go(func() { _ = l.client.Run(ctx) }) // it ends with ctx alone
	return l
}

// end ends sessions and gives their leases back.
func (w *worker) end(lines []*line) {
	for _, l := range lines {
		l.stop()
	}
	for _, l := range lines {
		l.running.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
		_ = w.Bus.Release(ctx, l.lease) // it ends by itself
		w.note(ctx, l.provider, unbound, "")
		cancel()
	}
}

func (w *worker) closeLines() {
	w.mu.Lock()
	var all []*line
	for id, l := range w.lines {
		all = append(all, l)
		delete(w.lines, id)
	}
	w.mu.Unlock()
	w.end(all)
}

// state notes how a session stands.
func (w *worker) state(p *Provider, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
	defer cancel()
	if err == nil {
		w.Log.Info("message.bound", "account_id", p.AccountID, "provider_id", p.ID)
		w.note(ctx, p, bound, "")
		w.Wake(ctx)
		return
	}
	text := smpp.Explain(err)
	if e, denied := errors.AsType[*guard.Error](err); denied {
		text = e.Text
	}
	w.Log.Warn("message.unbound", "account_id", p.AccountID, "provider_id", p.ID, "error", err.Error())
	w.note(ctx, p, unbound, text)
}

// note writes how a session stands. It is no change of the provider, whose etag stays.
func (w *worker) note(ctx context.Context, p *Provider, state, text string) {
	q := w.DB.Write().NewUpdate().Model((*Provider)(nil)).Set("state = ?", state).Where("id = ?", p.ID)
	if text != "" {
		q = q.Set("last_error = ?", text).Set("last_error_at = ?", db.Now())
	}
	if _, err := q.Exec(db.AsAccount(ctx, p.AccountID)); err != nil {
		w.Log.Warn("message.state", "provider_id", p.ID, "error", err.Error())
	}
}

// dial connects to a message centre, at no address that accounts must not reach.
func (s *Service) dial(ctx context.Context, c *SMPP) (net.Conn, error) {
	dialer := &net.Dialer{
		// The very address that is connected to, after DNS: a name can resolve to another one each time.
		Control: func(_, address string, _ syscall.RawConn) error {
			peer, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return s.Guard.CheckAddr(peer.Addr())
		},
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	if err != nil || !c.TLS {
		return conn, err
	}
	secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: strings.TrimSuffix(c.Host, "."), RootCAs: s.RootCAs})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// submit sends a message by a session, part by part. Parts that the message centre has from an attempt before are not sent
// again; each that it takes is written before the next is sent, so that at most one is unsure.
func (s *Service) submit(ctx context.Context, l *line, m *Message) outcome {
	text := smpp.Encode(m.Body)
	had, err := taken(ctx, s.DB, m.ID)
	if err != nil {
		return outcome{verdict: notTaken, busy: true, cause: err}
	}
	done := map[int]bool{}
	for _, part := range had {
		done[part.Position] = true
	}
	var last []segment
	for i, octets := range text.Parts {
		position := i + 1
		if done[position] {
			continue
		}
		if len(last) > 0 {
			if err := s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error { return took(ctx, tx, last...) }); err != nil {
				return outcome{verdict: notTaken, parts: last, cause: err}
			}
			last = nil
			if !s.pace(ctx, l.provider) {
				return outcome{verdict: notTaken, busy: true, cause: context.Cause(ctx)}
			}
		}
		short := smpp.Message{From: l.provider.SMPP.source(m.From), To: l.provider.SMPP.destination(m.To), Coding: text.Coding, Text: octets}
		if len(text.Parts) > 1 {
			short.Part = smpp.Part{Reference: smpp.Reference(m.ID), Total: byte(len(text.Parts)), Number: byte(position)}
		}
		id, err := l.client.Submit(ctx, short)
		if err != nil {
			return unsubmitted(err)
		}
		last = []segment{{
			MessageID: m.ID, Position: position, AccountID: m.AccountID, ProviderID: m.ProviderID, ProviderMessageID: l.provider.SMPP.submittedID(id),
		}}
	}
	return outcome{verdict: accepted, parts: last}
}

// unsubmitted is the outcome of a part that was not taken, or of which nobody knows.
func unsubmitted(err error) outcome {
	status, refusal := errors.AsType[smpp.Status](err)
	switch {
	case refusal && status.Temporary():
		return outcome{verdict: notTaken, code: status.Name(), text: err.Error(), busy: status.Busy()}
	case refusal:
		return outcome{verdict: refused, code: status.Name(), text: err.Error()}
	case errors.Is(err, smpp.ErrUnanswered):
		return outcome{verdict: unsure, code: codeUnreached, text: "the message centre did not answer", cause: err}
	}
	return outcome{verdict: notTaken, code: codeUnreached, text: "there is no session with the message centre", busy: true, cause: err}
}

// Types of numbers, and plans (SMPP 3.4 §5.2.5, §5.2.6).
const (
	tonUnknown       = 0
	tonInternational = 1
	tonAlphanumeric  = 5
	npiUnknown       = 0
	npiISDN          = 1
)

// source is a sender as a message centre is told it.
func (c *SMPP) source(from string) smpp.Address {
	return address(from, c.SourceTON, c.SourceNPI)
}

// destination is a receiver as a message centre is told it.
func (c *SMPP) destination(to string) smpp.Address {
	return address(to, c.DestTON, c.DestNPI)
}

func address(text string, ton, npi *int) smpp.Address {
	a := smpp.Address{TON: tonUnknown, NPI: npiISDN, Number: text}
	switch digits, international := strings.CutPrefix(text, "+"); {
	case text == "":
		a.NPI = npiUnknown
	case international:
		a = smpp.Address{TON: tonInternational, NPI: npiISDN, Number: digits}
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsDigit(r) }):
		a = smpp.Address{TON: tonAlphanumeric, NPI: npiUnknown, Number: text}
	}
	if ton != nil {
		a.TON = byte(*ton)
	}
	if npi != nil {
		a.NPI = byte(*npi)
	}
	return a
}

// submittedID is the id of an answer as receipts have it.
func (c *SMPP) submittedID(id string) string {
	if c.IDFormat != hexDecimal {
		return id
	}
	if n, ok := new(big.Int).SetString(id, 16); ok {
		return n.String()
	}
	return id
}

// receiptID is the id of a receipt as it is stored.
func (c *SMPP) receiptID(id string) string {
	if c.IDFormat == hexDecimal {
		if n, ok := new(big.Int).SetString(id, 10); ok {
			return n.String() // without the zeros that some put in front
		}
	}
	return id
}

// arrived takes what a message centre delivers. With an error it comes again.
func (s *Service) arrived(ctx context.Context, p *Provider, d smpp.Delivery) error {
	switch {
	case d.Receipt != nil:
		if d.Receipt.ID == "" || !d.Receipt.State.Final() {
			return nil
		}
		r := receipt{ProviderMessageID: p.SMPP.receiptID(d.Receipt.ID), Status: Delivered}
		if d.Receipt.State != smpp.Delivered {
			r.Status, r.ErrorCode = Undelivered, or(d.Receipt.Error, d.Receipt.State.String())
		}
		return s.reported(ctx, p, r)
	case d.Binary:
		s.Log.Info("message.binary", "account_id", p.AccountID, "provider_id", p.ID)
		return nil
	}
	return s.received(ctx, p, d)
}

// piece is a part of a message from a phone.
type piece struct {
	bun.BaseModel `bun:"table:message_parts"`

	ProviderID string    `bun:"provider_id,pk"`
	From       string    `bun:"from,pk"`
	To         string    `bun:"to,pk"`
	Reference  int       `bun:"reference,pk"`
	Total      int       `bun:"total,pk"`
	Position   int       `bun:"position,pk"`
	AccountID  string    `bun:"account_id"`
	Body       string    `bun:"body"`
	CreatedAt  time.Time `bun:"created_at"`
}

// received stores a message from a phone, or a part of one until the others are there. Message centres deliver at least
// once: one that was not told in time that it was taken comes twice.
func (s *Service) received(ctx context.Context, p *Provider, d smpp.Delivery) error {
	a, err := db.Get[account.Account](ctx, s.DB, auth.Account(p.AccountID), p.AccountID)
	if err != nil {
		return err
	}
	from, to := heard(d.From, a.DefaultCountry), heard(d.To, a.DefaultCountry)
	return s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
		if d.Part.Total == 0 {
			return s.keep(ctx, tx, p.AccountID, p.ID, from, to, d.Text)
		}
		one := piece{
			ProviderID: p.ID, From: from, To: to, Reference: int(d.Part.Reference), Total: int(d.Part.Total), Position: int(d.Part.Number),
			AccountID: p.AccountID, Body: d.Text, CreatedAt: db.Now(),
		}
		_, err := tx.Write().NewInsert().Model(&one).On("CONFLICT (provider_id, \"from\", \"to\", reference, total, position) DO UPDATE").
			Set("body = EXCLUDED.body").Exec(ctx)
		if err != nil {
			return db.Check(err)
		}
		all, err := one.siblings(ctx, tx)
		if err != nil || len(all) < one.Total {
			return err
		}
		return s.join(ctx, tx, all)
	})
}

// heard is a number of a message centre in the form of all others; as it is where it is none.
func heard(a smpp.Address, country string) string {
	text := a.Number
	if a.TON == tonInternational && !strings.HasPrefix(text, "+") {
		text = "+" + text
	}
	if normal, ok := number.Normal(text, country); ok {
		return normal
	}
	return text
}

// siblings reads, and locks, the parts that are there of the message that one belongs to, in their order.
func (p *piece) siblings(ctx context.Context, tx *db.Tx) ([]piece, error) {
	var all []piece
	err := tx.Write().NewSelect().Model(&all).Where("provider_id = ?", p.ProviderID).Where("?TableAlias.? = ?", bun.Ident("from"), p.From).
		Where("?TableAlias.? = ?", bun.Ident("to"), p.To).Where("reference = ?", p.Reference).Where("total = ?", p.Total).
		OrderBy("position", bun.OrderAsc).Apply(locking(tx.Write(), "UPDATE")).Scan(ctx)
	return all, db.Check(err)
}

// missing stands where parts of a message did not come.
const missing = "[…]"

// join makes one message of parts, which are in order, and removes them.
func (s *Service) join(ctx context.Context, tx *db.Tx, parts []piece) error {
	var text strings.Builder
	expected := 1
	for _, p := range parts {
		if p.Position != expected {
			text.WriteString(missing)
		}
		text.WriteString(p.Body)
		expected = p.Position + 1
		if _, err := tx.Write().NewDelete().Model(&p).WherePK().Exec(ctx); err != nil {
			return db.Check(err)
		}
	}
	first := parts[0]
	if expected <= first.Total {
		text.WriteString(missing)
	}
	return s.keep(ctx, tx, first.AccountID, first.ProviderID, first.From, first.To, text.String())
}

// keep stores a message from a phone.
func (s *Service) keep(ctx context.Context, tx *db.Tx, accountID, providerID, from, to, text string) error {
	now := s.now()
	m := &Message{
		Row: db.Row{ID: db.NewID("msg"), AccountID: accountID}, Direction: Inbound, Status: Received, To: to, From: from, Body: text, ProviderID: providerID,
		AvailableAt: now, ExpiresAt: now,
	}
	if err := m.measure(); err != nil {
		return err
	}
	if err := db.Insert(ctx, tx, auth.Account(accountID), m); err != nil {
		return err
	}
	return s.tell(ctx, tx, m)
}

// joinLate makes messages of parts whose others have not come in time.
func (s *Service) joinLate(ctx context.Context) error {
	var late []piece
	err := s.DB.Read().NewSelect().Model(&late).Where("created_at < ?", s.now().Add(-keepParts)).Limit(sweepRows).Scan(ctx)
	if err != nil {
		return db.Check(err)
	}
	for _, p := range late {
		err = errors.Join(err, s.DB.InTx(ctx, func(ctx context.Context, tx *db.Tx) error {
			all, err := p.siblings(ctx, tx)
			if err != nil || len(all) == 0 {
				return err
			}
			return s.join(ctx, tx, all)
		}))
	}
	return err
}
