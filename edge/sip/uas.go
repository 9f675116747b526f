package sip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// handleInvite makes the dialog of a new INVITE and gives it to its handler.
func (s *Server) handleInvite(st *serverTx) {
	m := st.req
	target := m.from.uri // RFC 2543 callers have no Contact
	if c := m.values("Contact"); len(c) > 0 {
		a, err := parseNameAddr(c[0])
		if err != nil {
			s.reply(st, m.respond(400, s.tagFor(m)))
			return
		}
		target = a.uri
	}
	d := &Dialog{
		callID: m.callID, localTag: s.tagFor(m), remoteTag: m.from.tag(), local: withoutTag(m.to),
		remote: withoutTag(m.from), invite: m, st: st, target: target,
		routes: m.values("Record-Route"), remoteSeq: m.seq, seqKnown: true,
	}
	d.nat = behindNAT(target, m.peer.Addr()) || viaNAT(m, target)
	d.bind(m.sock, m.peer)
	if s.newDialog(d) == nil {
		s.reply(st, m.respond(503, d.localTag))
		return
	}
	s.mu.Lock()
	st.canceled = d.canceled
	s.mu.Unlock()
	if s.known(m.peer.Addr()) {
		// The caller stops repeating itself while we ask around (RFC 3261 §17.2.1 allows it at once).
		s.reply(st, m.respond(100, ""))
	}
	d.handlers.Add(1)
	if !s.spawn(d.serve) {
		d.handlers.Done()
	}
}

// viaNAT: the sender's own idea of its address is wrong, and it is also the one it wants to be called at.
func viaNAT(m *message, target string) bool {
	u, err := ParseURI(target)
	if err != nil || u.Host != m.via.host {
		return false
	}
	host, err := netip.ParseAddr(m.via.host)
	return err == nil && host.Unmap() != m.peer.Addr()
}

// withoutTag is an address for our own From or To: without tag, parameters and control characters.
func withoutTag(a nameAddr) string {
	s := "<" + a.uri + ">"
	if display := printable(a.display); display != "" {
		s = quote(display) + " " + s
	}
	return s
}

// serve runs the handler of an incoming call and cleans up behind it.
func (d *Dialog) serve() {
	defer d.handlers.Done()
	cause := error(nil)
	defer func() {
		if r := recover(); r != nil {
			d.s.panicked(r)
			cause = ErrPanic
		}
		d.abandon(cause)
	}()
	d.s.c.Handler.Invite(d.ctx, d)
}

// abandon ends a dialog nobody looks after any more: 500 before the answer, BYE after it. A nil cause takes the one of
// the operation.
func (d *Dialog) abandon(cause error) {
	d.mu.Lock()
	st := d.state
	d.mu.Unlock()
	switch {
	case st >= ending:
	case st == early:
		if cause == nil {
			cause = &RejectedError{Code: 500, Reason: reasonPhrase(500)}
		}
		d.refuse(500, cause)
	default:
		if cause == nil {
			cause = ErrLocalBye
		}
		d.leave(context.Background(), cause)
	}
}

// response builds a response to the INVITE or a re-INVITE with what dialogs add to it.
func (d *Dialog) response(req *message, code int, body []byte, headers []Header) *message {
	tag := d.localTag
	if code == 100 {
		tag = ""
	}
	res := req.respond(code, tag)
	if code > 100 && code < 300 {
		res.add("Contact", d.ourContact())
		res.add("Allow", allow)
	}
	res.headers = append(res.headers, headers...)
	d.s.product(res)
	if len(body) > 0 {
		res.add("Content-Type", "application/sdp")
		res.body = body
	}
	return res
}

// Provisional sends 1xx, with a session description for early media when body is not nil. 100 carries nothing. The last
// one is repeated every minute, so that proxies do not give up (RFC 3261 §13.3.1.1). Inbound dialogs only.
func (d *Dialog) Provisional(code int, body []byte, headers ...Header) error {
	if code < 100 || code > 199 {
		return fmt.Errorf("provisional code %d", code)
	}
	if err := checkHeaders(headers); err != nil {
		return err
	}
	if d.outbound || d.st == nil {
		return ErrState
	}
	res := d.response(d.invite, code, body, headers)
	d.mu.Lock()
	if d.state != early {
		d.mu.Unlock()
		return d.wrongState()
	}
	if code > 100 {
		d.ringing = res
		if d.again == nil {
			d.again = time.AfterFunc(provisionalRepeat, d.ringAgain)
		} else {
			d.again.Reset(provisionalRepeat)
		}
	}
	d.mu.Unlock()
	return d.st.respond(res)
}

const provisionalRepeat = time.Minute

func (d *Dialog) ringAgain() {
	d.mu.Lock()
	res := d.ringing
	if d.state != early {
		d.mu.Unlock()
		return
	}
	d.again.Reset(provisionalRepeat)
	d.mu.Unlock()
	if err := d.st.respond(res); err != nil {
		d.s.log.report("dialog.ringing_failed", "error", err)
	}
}

// wrongState is the error of an operation that came too late or too early.
func (d *Dialog) wrongState() error {
	if err := context.Cause(d.ctx); err != nil {
		return err
	}
	return ErrState
}

// Answer sends 200 OK with the session description and waits for ACK, repeating the 200 from T1 doubling to T2
// (RFC 3261 §13.3.1.4). It returns ErrCanceled after CANCEL, and ErrNoACK after 64·T1, when BYE has been sent; ctx ends
// only the waiting. It must be called at most once. AckBody then holds the answer to an offer that was ours.
func (d *Dialog) Answer(ctx context.Context, body []byte, headers ...Header) error {
	if err := checkHeaders(headers); err != nil {
		return err
	}
	if d.outbound || d.st == nil {
		return ErrState
	}
	res := d.response(d.invite, 200, body, headers)
	w := &ackWait{done: make(chan struct{})}
	d.mu.Lock()
	if d.state != early {
		d.mu.Unlock()
		return d.wrongState()
	}
	d.state = answered
	d.acks[d.invite.seq] = w
	if d.again != nil {
		d.again.Stop()
	}
	d.mu.Unlock()
	if err := d.st.respond(res); err != nil {
		d.end(err)
		return err
	}
	if !d.s.spawn(func() { d.awaitAck(d.st, res, w) }) {
		return ErrClosed
	}
	select {
	case <-w.done:
		return nil
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// awaitAck repeats a 2xx until its ACK comes, the dialog ends or 64·T1 have passed.
func (d *Dialog) awaitAck(st *serverTx, res *message, w *ackWait) {
	giveUp := time.NewTimer(64 * timerT1)
	defer giveUp.Stop()
	interval := timerT1
	repeat := time.NewTimer(interval)
	defer repeat.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-d.ctx.Done():
			return
		case <-giveUp.C:
			d.leave(context.Background(), ErrNoACK)
			return
		case <-repeat.C:
			// Over TCP too: the hop that loses it may be a later one.
			if err := st.respond(res); err != nil {
				d.s.log.report("dialog.repeat_failed", "error", err)
			}
			interval = min(2*interval, timerT2)
			repeat.Reset(interval)
		}
	}
}

// acknowledged takes an ACK for one of our 2xx.
func (d *Dialog) acknowledged(m *message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.acks[m.seq]
	if w == nil {
		return
	}
	delete(d.acks, m.seq)
	w.body = m.sdp()
	if d.state == answered {
		d.state = confirmed
		d.ackBody = w.body
	}
	close(w.done)
}

// Reject answers 300 to 699 and ends the dialog with a *RejectedError. Inbound dialogs, before Answer.
func (d *Dialog) Reject(code int, headers ...Header) error {
	if code < 300 || code > 699 {
		return fmt.Errorf("rejection code %d", code)
	}
	if err := checkHeaders(headers); err != nil {
		return err
	}
	if d.outbound || d.st == nil {
		return ErrState
	}
	if !d.leaveEarly() {
		return d.wrongState()
	}
	err := d.st.respond(d.response(d.invite, code, nil, headers))
	d.end(&RejectedError{Code: code, Reason: reasonPhrase(code)})
	return err
}

// leaveEarly takes the right to send the one final refusal; false when there was a final response already.
func (d *Dialog) leaveEarly() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != early {
		return false
	}
	d.state = ending
	return true
}

// Challenge answers 401 with these WWW-Authenticate values and ends the dialog with a *RejectedError. Nothing is kept:
// the INVITE with credentials that follows is a new dialog.
func (d *Dialog) Challenge(values []string) error {
	if d.outbound || d.st == nil {
		return ErrState
	}
	if !d.leaveEarly() {
		return d.wrongState()
	}
	err := d.st.respond(d.response(d.invite, 401, nil, challengeHeaders(values)))
	d.st.forget() // RFC 3261 §8.2.7: a repeated INVITE is challenged again, so strangers leave no state
	d.end(&RejectedError{Code: 401, Reason: reasonPhrase(401)})
	return err
}

func challengeHeaders(values []string) []Header {
	out := make([]Header, 0, len(values))
	for _, v := range values {
		out = append(out, Header{"WWW-Authenticate", v})
	}
	return out
}

// Drop ends the dialog without a word: for scanners, who must not learn that somebody is here, and for an answered call
// that another process has taken over, which a BYE of ours would end. An INVITE of ours without a final response is
// left alone: canceling the context of Invite ends it.
func (d *Dialog) Drop() {
	if !d.outbound && d.st != nil && d.leaveEarly() {
		d.st.forget()
		d.end(ErrDropped)
		return
	}
	d.mu.Lock()
	talking := d.state == answered || d.state == confirmed
	d.mu.Unlock()
	if talking {
		d.end(ErrDropped)
	}
}

// canceled is CANCEL for the INVITE. After a final response it has no effect (RFC 3261 §9.2).
func (d *Dialog) canceled() { d.refuse(487, ErrCanceled) }

// refuse sends a final refusal if there was no final response yet, and ends the dialog with cause.
func (d *Dialog) refuse(code int, cause error) {
	if d.leaveEarly() {
		d.s.reply(d.st, d.invite.respond(code, d.localTag))
		d.end(cause)
	}
}

// request serves a request within the dialog. It runs on the Call-ID's queue.
func (d *Dialog) request(st *serverTx) {
	m := st.req
	d.mu.Lock()
	stale := d.seqKnown && m.seq <= d.remoteSeq
	if !stale {
		d.remoteSeq, d.seqKnown = m.seq, true
	}
	phase := d.state
	d.mu.Unlock()
	switch {
	case stale:
		d.s.reply(st, m.respond(500, "")) // RFC 3261 §12.2.2
	case m.method == methodBye:
		d.handleBye(st, phase)
	case phase >= ending:
		d.s.reply(st, m.respond(481, ""))
	case m.method == methodInvite:
		d.handleOffer(st, phase)
	case m.method == methodUpdate && len(m.body) > 0:
		d.handleOffer(st, phase)
	case m.method == methodUpdate:
		d.mu.Lock()
		d.refresh(m)
		d.mu.Unlock()
		d.s.reply(st, d.response(m, 200, nil, nil))
	case m.method == methodInfo:
		d.handleInfo(st)
	case m.method == methodRefer:
		d.handleRefer(st, phase)
	case m.method == methodNotify:
		d.handleNotify(st)
	case m.method == methodOptions:
		res := m.respond(200, "")
		res.add("Allow", allow)
		res.add("Accept", "application/sdp")
		d.s.reply(st, res)
	case knownMethod(m.method):
		res := m.respond(405, "")
		res.add("Allow", allow)
		d.s.reply(st, res)
	default:
		res := m.respond(501, "")
		res.add("Allow", allow)
		d.s.reply(st, res)
	}
}

func (d *Dialog) handleBye(st *serverTx, phase state) {
	d.s.reply(st, st.req.respond(200, ""))
	d.mu.Lock()
	reinvite := d.answering
	d.answering = nil
	d.mu.Unlock()
	if reinvite != nil {
		// RFC 3261 §15.1.2: requests that still wait are answered 487.
		d.s.reply(reinvite, reinvite.req.respond(487, ""))
	}
	if phase == early && !d.outbound {
		d.canceled()
		return
	}
	d.end(ErrRemoteBye)
}

// handleInfo gives INFO to the session, which answers with a status (RFC 6086; digits and flash hooks of old phones).
func (d *Dialog) handleInfo(st *serverTx) {
	d.mu.Lock()
	f := d.onInfo
	d.mu.Unlock()
	m := st.req
	if f == nil {
		code := 200
		if len(m.body) > 0 {
			code = 415
		}
		d.s.reply(st, m.respond(code, ""))
		return
	}
	code := 500 // of a panic
	d.protect(func() {
		if code = f(m.get("Content-Type"), m.body); code == 0 {
			code = 200
		}
	})
	d.s.reply(st, m.respond(code, ""))
}

// handleOffer takes a re-INVITE or an UPDATE with an offer (RFC 3261 §14.2, RFC 3311 §5.2).
func (d *Dialog) handleOffer(st *serverTx, phase state) {
	m := st.req
	d.mu.Lock()
	switch {
	case d.offering:
		d.mu.Unlock()
		d.s.reply(st, m.respond(491, ""))
		return
	case d.answering != nil || phase != confirmed:
		d.mu.Unlock()
		res := m.respond(500, "")
		res.add("Retry-After", fmt.Sprint(randomN(11)))
		d.s.reply(st, res)
		return
	}
	d.answering = st
	d.refresh(m)
	f := d.onReinvite
	d.mu.Unlock()
	d.s.mu.Lock()
	st.canceled = func() { d.cancelOffer(st) }
	d.s.mu.Unlock()
	if !d.s.spawn(func() { d.answerOffer(st, f) }) {
		d.doneAnswering(st)
	}
}

func (d *Dialog) cancelOffer(st *serverTx) {
	if d.doneAnswering(st) {
		d.s.reply(st, st.req.respond(487, ""))
	}
}

// doneAnswering makes room for the next offer; false when st was not the one being answered any more.
func (d *Dialog) doneAnswering(st *serverTx) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answering != st {
		return false
	}
	d.answering = nil
	return true
}

func (d *Dialog) answerOffer(st *serverTx, f func([]byte) ([]byte, int)) {
	body, code := d.askOffer(st, f)
	m := st.req
	if code >= 300 {
		if d.doneAnswering(st) {
			d.s.reply(st, m.respond(code, ""))
		}
		return
	}
	res := d.response(m, code, body, nil)
	w := &ackWait{done: make(chan struct{})}
	d.mu.Lock()
	if d.answering != st || d.state != confirmed {
		d.mu.Unlock()
		return // canceled, or the call ended: answered there
	}
	if m.method == methodInvite {
		d.acks[m.seq] = w
	}
	d.answering = nil
	late := d.onReinviteAnswer
	d.mu.Unlock()
	if err := st.respond(res); err != nil {
		d.s.log.report("dialog.answer_failed", "error", err)
		return
	}
	if m.method != methodInvite {
		return
	}
	d.awaitAck(st, res, w)
	select {
	case <-w.done:
		if len(m.body) == 0 && len(w.body) > 0 && late != nil {
			d.protect(func() { late(w.body) })
		}
	default:
	}
}

// askOffer asks the session; a panic there is 500 and the end of the call.
func (d *Dialog) askOffer(st *serverTx, f func([]byte) ([]byte, int)) (body []byte, code int) {
	if f == nil {
		return nil, 488
	}
	code = 500 // of a panic
	d.protect(func() {
		if body, code = f(st.req.sdp()); code == 0 {
			code = 200
		}
	})
	return body, code
}

// protect runs a function of the session; a panic there costs this call alone.
func (d *Dialog) protect(f func()) {
	defer func() {
		if r := recover(); r != nil {
			d.s.panicked(r)
			d.s.spawn(func() { d.abandon(ErrPanic) })
		}
	}()
	f()
}

// routeSet reverses Record-Route for the side that sent the INVITE (RFC 3261 §12.1.2).
func routeSet(m *message) []string {
	r := m.values("Record-Route")
	slices.Reverse(r)
	return r
}
