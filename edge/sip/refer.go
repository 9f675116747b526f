package sip

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Replaces names a dialog that a new call is to take the place of (RFC 3891 §3), as whoever receives it sees the dialog:
// the To tag is its own, the From tag that of its peer.
type Replaces struct {
	SIPCallID string
	ToTag     string
	FromTag   string
	EarlyOnly bool // only while the dialog is not answered
}

// maxReplaces bounds the text of a Replaces: a Call-ID and two tags.
const maxReplaces = 512

// ParseReplaces reads the value of a Replaces header.
func ParseReplaces(value string) (Replaces, error) {
	callID, rest, ok := strings.Cut(value, ";")
	r := Replaces{SIPCallID: strings.TrimSpace(callID)}
	if !ok || r.SIPCallID == "" || len(value) > maxReplaces || hasControl(value) {
		return Replaces{}, fmt.Errorf("replaces %.64q: %w", value, errAddress)
	}
	p, err := parseParams(";" + rest)
	if err != nil {
		return Replaces{}, fmt.Errorf("replaces %.64q: %w", value, err)
	}
	r.ToTag, r.FromTag = p.get("to-tag"), p.get("from-tag")
	_, r.EarlyOnly = p.lookup("early-only")
	if r.ToTag == "" || r.FromTag == "" {
		return Replaces{}, fmt.Errorf("replaces %.64q: no tags", value)
	}
	return r, nil
}

// DialogID is the Dialog.ID of the dialog that is named, if it is one of ours.
func (r Replaces) DialogID() string { return r.SIPCallID + ";" + r.ToTag }

// Names reports whether it is this dialog, with both tags, that is named.
func (r Replaces) Names(d *Dialog) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.SIPCallID == d.callID && r.ToTag == d.localTag && r.FromTag == d.remoteTag
}

// Replaces returns the dialog that an INVITE received wants to take the place of. ok is false without the header; an
// error is answered 400.
func (d *Dialog) Replaces() (r Replaces, ok bool, err error) {
	if d.outbound || d.invite == nil {
		return Replaces{}, false, nil
	}
	values := d.invite.lines("Replaces")
	switch len(values) {
	case 0:
		return Replaces{}, false, nil
	case 1:
		r, err = ParseReplaces(values[0])
		return r, true, err
	}
	return Replaces{}, true, fmt.Errorf("replaces: at most one, are %d", len(values)) // RFC 3891 §3
}

// Referral is a REFER of the peer that is being decided on, and then the subscription that it made (RFC 3515 §2.4.4).
// Notify may be called from any goroutine.
type Referral struct {
	To         URI       // of Refer-To, without headers
	Replaces   *Replaces // the dialog that the new call is to take the place of (attended transfer); nil for none
	ReferredBy string    // as it came (RFC 3892); "" without one

	d     *Dialog
	event string // value of the Event header of its NOTIFYs
	quiet bool   // the peer wants no NOTIFY (RFC 4488)

	turn chan struct{} // holds one token once the first NOTIFY is through: they are sent one after the other
	over bool          // of who holds the token
}

// referralTime is how long a subscription made by REFER lasts, as its NOTIFYs say: longer than any phone rings.
const referralTime = 180 * time.Second

// firstNotify is how long the answer to the first NOTIFY may hold up the next.
const firstNotify = 2 * time.Second

// OnRefer sets what takes REFER. It returns the status code of the response: 202 accepts, and then the peer is told 100
// Trying, and by Referral.Notify how it goes on; anything from 300 on refuses. It must not block: the dialog's later
// messages wait for it. Without it REFER is declined (603).
func (d *Dialog) OnRefer(f func(*Referral) (code int)) {
	d.mu.Lock()
	d.onRefer = f
	d.mu.Unlock()
}

// handleRefer takes a REFER within the dialog (RFC 3515 §2.4.2).
func (d *Dialog) handleRefer(st *serverTx, phase state) {
	m := st.req
	if phase == early {
		d.s.reply(st, m.respond(403, "")) // there is no party yet that could be sent elsewhere
		return
	}
	r, code := d.readRefer(m)
	if code != 0 {
		d.s.reply(st, m.respond(code, ""))
		return
	}
	d.mu.Lock()
	f := d.onRefer
	d.mu.Unlock()
	code = 603
	if f != nil {
		code = 500 // of a panic
		d.protect(func() { code = f(r) })
	}
	res := d.response(m, code, nil, nil)
	if code == 202 && r.quiet {
		res.add("Refer-Sub", "false")
	}
	d.s.reply(st, res)
	if code == 202 && !r.quiet {
		d.s.spawn(func() {
			defer func() { r.turn <- struct{}{} }()
			ctx, done := context.WithTimeout(d.ctx, firstNotify)
			defer done()
			// RFC 3515 §2.4.4: the first NOTIFY comes at once.
			if err := r.notify(ctx, 100, false); err != nil && d.ctx.Err() == nil {
				d.s.log.report("refer.notify_failed", "error", err)
			}
		})
	}
}

// readRefer reads a REFER; a code refuses it.
func (d *Dialog) readRefer(m *message) (*Referral, int) {
	values := m.values("Refer-To")
	if len(values) != 1 { // RFC 3515 §2.1
		return nil, 400
	}
	to, err := parseNameAddr(values[0])
	if err != nil {
		return nil, 400
	}
	uri, err := ParseURI(to.uri)
	if err != nil {
		return nil, 400
	}
	switch uri.Scheme {
	case "sip", "sips", "tel":
	default:
		return nil, 416
	}
	if method, ok := uri.Param("method"); ok && !strings.EqualFold(method, methodInvite) {
		return nil, 603 // only calls are transferred
	}
	r := &Referral{
		To: uri, ReferredBy: m.get("Referred-By"), d: d, event: "refer;id=" + strconv.FormatUint(uint64(m.seq), 10),
		turn:  make(chan struct{}, 1),
		quiet: strings.EqualFold(strings.TrimSpace(m.get("Refer-Sub")), "false"),
	}
	if value, ok := headerOf(to.uri, "Replaces"); ok {
		replaces, err := ParseReplaces(value)
		if err != nil {
			return nil, 400
		}
		r.Replaces = &replaces
	}
	return r, 0
}

// headerOf reads a header behind the question mark of a URI (RFC 3261 §19.1.1).
func headerOf(uri, name string) (string, bool) {
	_, list, _ := strings.Cut(uri, "?")
	for pair := range strings.SplitSeq(list, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if !strings.EqualFold(key, name) {
			continue
		}
		text, err := url.PathUnescape(value)
		if err != nil {
			return value, true // what cannot be read is refused by whoever reads it
		}
		return text, true
	}
	return "", false
}

// Notify tells the peer how the new call stands: the status line of its newest response (RFC 3515 §2.4.5), and whether
// it is the last. It waits for the answer, at most until ctx ends. After the last one it does nothing.
func (r *Referral) Notify(ctx context.Context, code int, last bool) error {
	if r.quiet {
		return nil
	}
	select {
	case <-r.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { r.turn <- struct{}{} }()
	return r.notify(ctx, code, last)
}

// notify is Notify for who holds the turn.
func (r *Referral) notify(ctx context.Context, code int, last bool) error {
	if r.over {
		return nil
	}
	r.over = last
	state := fmt.Sprintf("active;expires=%d", int(referralTime.Seconds()))
	if last {
		state = "terminated;reason=noresource"
	}
	k, to, err := r.d.hop(ctx)
	if err != nil {
		return err
	}
	d := r.d
	d.mu.Lock()
	if d.state >= ending {
		d.mu.Unlock()
		r.over = true
		return d.wrongState()
	}
	d.localSeq++
	m := d.build(methodNotify, d.localSeq, k, to)
	d.mu.Unlock()
	m.add("Contact", d.ourContact())
	m.add("Event", r.event)
	m.add("Subscription-State", state)
	m.add("Content-Type", "message/sipfrag;version=2.0")
	m.body = fmt.Appendf(nil, "SIP/2.0 %d %s\r\n", code, reasonPhrase(code))
	ct, err := d.s.startTx(m, k, to, nil)
	if err != nil {
		return err
	}
	res, err := ct.await(ctx)
	if err != nil {
		return err
	}
	if res.code >= 300 {
		r.over = true // RFC 6665 §4.2.2: whoever refuses a NOTIFY has no subscription
		return rejected(res)
	}
	return nil
}

// Progress is what a NOTIFY told of the call that a REFER of ours led to.
type Progress struct {
	Code int  // of the status line in it; 0 when there was none
	Last bool // the subscription is over
}

// Subscription is what REFER makes: the peer tells how the call goes that it was asked for.
type Subscription struct {
	// Code is the response to the REFER, 200 or 202.
	Code int
	// Quiet says that the peer will tell nothing (RFC 4488).
	Quiet bool
	// C has what NOTIFYs told, in order. It is never closed. What comes while 16 wait is dropped, but for the last.
	C <-chan Progress

	c chan Progress
}

// subscriptionRoom is how many Progress wait for their reader; one more place is kept for the last.
const subscriptionRoom = 16

// Refer asks the peer to call somebody (RFC 3515): to is a sip, sips or tel URI, with or without headers. It returns when
// the REFER is accepted; a refusal is a *RejectedError, and else the error is ErrTimeout, ErrTransport or the cause of
// ctx. The dialog goes on either way.
func (d *Dialog) Refer(ctx context.Context, to string, headers ...Header) (*Subscription, error) {
	if _, err := ParseURI(to); err != nil || strings.ContainsAny(to, "<>\" ,") || len(to) > maxHeaderValue-2 {
		return nil, fmt.Errorf("refer to %.64q: %w", to, errAddress)
	}
	if err := checkHeaders(headers); err != nil {
		return nil, err
	}
	if err := d.ready(); err != nil {
		return nil, err
	}
	k, hop, err := d.hop(ctx)
	if err != nil {
		return nil, err
	}
	sub := &Subscription{c: make(chan Progress, subscriptionRoom+1)}
	sub.C = sub.c
	d.mu.Lock()
	local := d.local
	d.localSeq++
	m := d.build(methodRefer, d.localSeq, k, hop)
	d.mu.Unlock()
	m.add("Contact", d.ourContact())
	m.add("Refer-To", "<"+to+">")
	m.add("Referred-By", local)
	m.headers = append(m.headers, headers...)
	for tries := 0; ; tries++ {
		d.subscribe(m.seq, sub) // a NOTIFY may overtake the response
		ct, err := d.s.startTx(m, k, hop, nil)
		if err != nil {
			d.unsubscribe(m.seq)
			return nil, err
		}
		res, err := ct.await(ctx)
		if err != nil {
			return nil, err // its NOTIFYs are still answered
		}
		if res.code < 300 {
			sub.Code, sub.Quiet = res.code, strings.EqualFold(strings.TrimSpace(res.get("Refer-Sub")), "false")
			return sub, nil
		}
		d.unsubscribe(m.seq)
		auth, ok := d.authorize(m, res, tries)
		if !ok {
			return nil, d.outcome(res)
		}
		m = d.again401(m, auth)
	}
}

func (d *Dialog) subscribe(seq uint32, sub *Subscription) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.subscriptions == nil {
		d.subscriptions = map[uint32]*Subscription{}
	}
	d.subscriptions[seq] = sub
}

func (d *Dialog) unsubscribe(seq uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.subscriptions, seq)
}

// subscription is the one that an Event header means: by its id, the CSeq of the REFER, which phones leave out when
// there is only one (RFC 3515 §2.4.6).
func (d *Dialog) subscription(event params) (seq uint32, sub *Subscription) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id, ok := event.lookup("id"); ok {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return 0, nil
		}
		return uint32(n), d.subscriptions[uint32(n)]
	}
	for n, s := range d.subscriptions {
		if n >= seq {
			seq, sub = n, s
		}
	}
	return seq, sub
}

// handleNotify takes a NOTIFY for a REFER of ours (RFC 3515 §2.4.5). Others belong to subscriptions nobody has.
func (d *Dialog) handleNotify(st *serverTx) {
	m := st.req
	name, list, _ := strings.Cut(m.get("Event"), ";")
	if !strings.EqualFold(strings.TrimSpace(name), "refer") {
		res := m.respond(489, "")
		res.add("Allow-Events", "refer")
		d.s.reply(st, res)
		return
	}
	event, err := parseParams(";" + list)
	if err != nil {
		event = nil
	}
	seq, sub := d.subscription(event)
	if sub == nil {
		d.s.reply(st, m.respond(481, ""))
		return
	}
	subscription, _, _ := strings.Cut(m.get("Subscription-State"), ";")
	p := Progress{Code: fragmentCode(m), Last: strings.EqualFold(strings.TrimSpace(subscription), "terminated")}
	if p.Last {
		d.unsubscribe(seq)
	}
	d.s.reply(st, m.respond(200, ""))
	if p.Last || len(sub.c) < subscriptionRoom {
		sub.c <- p // this is the only writer, and the last is written once: there is room
	}
}

// fragmentCode is the code of the status line that a body of message/sipfrag (RFC 3420) begins with; 0 without one.
func fragmentCode(m *message) int {
	if kind, _ := mediaType(m.get("Content-Type")); kind != "message/sipfrag" {
		return 0
	}
	line, _, _ := strings.Cut(string(m.body[:min(len(m.body), 256)]), "\n")
	version, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok || !strings.EqualFold(version, "SIP/2.0") || len(rest) < 3 {
		return 0
	}
	code, err := strconv.Atoi(rest[:3])
	if err != nil || code < 100 || code > 699 {
		return 0
	}
	return code
}
