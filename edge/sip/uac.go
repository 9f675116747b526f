package sip

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	crand "crypto/rand"
)

// InviteConfig is a call to be made.
type InviteConfig struct {
	URI   string   // Request-URI, "sip:+8613800138000@203.0.113.5"
	Route []string // preloaded route set, "<sip:proxy.example.com;lr>"; the first is where the INVITE goes

	// Transport is "udp" or "tcp"; empty takes it from the transport parameter of the first route or the URI, else udp.
	Transport string

	// Destination, when valid, is where the INVITE goes whatever Route and URI say: a registered phone's source address.
	// Requests within the dialog go there too when the peer's Contact is a private address behind it.
	Destination netip.AddrPort

	From Party
	To   Party  // zero takes user and host of URI
	PAI  *Party // P-Asserted-Identity, only for trusted peers (RFC 3325)

	// Headers are added as they are; use ValidHeader on those that come from an application.
	Headers []Header

	// Body is the offer, application/sdp.
	Body []byte

	// Auth answers 401 and 407. Its password never answers a challenge to anything but this call's requests.
	Auth *Credentials

	// OnProvisional is called in order for every 1xx but 100. Response.Body is early media's session description. It runs
	// on the goroutine that called Invite and must not block: later responses wait for it.
	OnProvisional func(*Response)
}

// Invite calls. It returns when the call is answered (the dialog is confirmed, its ACK sent) or has failed: with a
// *RejectedError, ErrTimeout (nobody answered at all for 64·T1) or ErrTransport. When ctx ends first it returns
// ErrCanceled at once; CANCEL, and ACK and BYE for a 200 that crosses it, are sent in the background (RFC 3261 §9.1).
// The CANCEL gives a reason where the cause of ctx is ErrElsewhere.
// The ringing time has no other limit than ctx. The caller owns the dialog and must Bye it.
func (s *Server) Invite(ctx context.Context, c InviteConfig) (*Dialog, error) {
	d, m, err := s.newInvite(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	// The end of the server ends the call too.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(d.ctx, func() { stop(context.Cause(d.ctx)) })()
	if err := d.call(ctx, m, c); err != nil {
		d.end(causeOf(err))
		return nil, err
	}
	return d, nil
}

// causeOf is the error of the list above that err is.
func causeOf(err error) error {
	for _, c := range [...]error{ErrCanceled, ErrTimeout, ErrTransport, ErrClosed} {
		if errors.Is(err, c) {
			return c
		}
	}
	return err
}

// newInvite builds the INVITE and the dialog it may become.
func (s *Server) newInvite(ctx context.Context, c InviteConfig) (*Dialog, *message, error) {
	uri, err := ParseURI(c.URI)
	if err != nil {
		return nil, nil, err
	}
	if c.To == (Party{}) {
		c.To = Party{User: uri.User, Host: uri.Host}
	}
	if err := checkHeaders(c.Headers); err != nil {
		return nil, nil, err
	}
	for _, r := range c.Route {
		if _, err := parseNameAddr(r); err != nil {
			return nil, nil, fmt.Errorf("route %.64q: %w", r, err)
		}
	}
	from, err := formatParty(c.From)
	if err != nil {
		return nil, nil, err
	}
	to, err := formatParty(c.To)
	if err != nil {
		return nil, nil, err
	}
	d := &Dialog{
		s: s, outbound: true, callID: randomHex(16), localTag: randomHex(16), local: from, remote: to, auth: c.Auth,
		target: uri.String(), routes: slices.Clone(c.Route),
	}
	network := c.Transport
	if network == "" {
		network = networkOf(d.nextHop())
	}
	k, peer, err := d.locate(ctx, network, nil, c.Destination)
	if err != nil {
		return nil, nil, err
	}
	d.bind(k, peer)
	if s.newDialog(d) == nil {
		return nil, nil, ErrClosed
	}
	m := d.newRequest(methodInvite, c.Body, c.Headers)
	if c.PAI != nil {
		pai, err := formatParty(*c.PAI)
		if err != nil {
			d.end(err)
			return nil, nil, err
		}
		m.add("P-Asserted-Identity", pai)
	}
	d.invite = m
	return d, m, nil
}

// call sends the INVITE, again with credentials when asked for them, until there is a final response.
func (d *Dialog) call(ctx context.Context, m *message, c InviteConfig) error {
	d.mu.Lock()
	k, to := d.sock, d.peer
	d.mu.Unlock()
	for tries := 0; ; tries++ {
		ct, err := d.s.startTx(m, k, to, d.extraAnswer(m))
		if err != nil {
			return err
		}
		res, err := d.ring(ctx, ct, c)
		if err != nil {
			return err
		}
		if res.code < 300 {
			d.mu.Lock()
			d.invite = m
			d.mu.Unlock()
			return d.established(res)
		}
		auth, ok := d.authorize(m, res, tries)
		if !ok {
			return rejected(res)
		}
		m = d.again401(m, auth)
	}
}

// ring waits for the final response. When ctx ends it leaves the rest to the background.
func (d *Dialog) ring(ctx context.Context, ct *clientTx, c InviteConfig) (*message, error) {
	progress := false
	for {
		res, err := ct.next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			reason := cancelReason(context.Cause(ctx))
			if progress {
				d.sendCancel(ct, reason...)
			}
			if !d.s.spawn(func() { d.cancelCall(ct, progress, reason) }) {
				ct.fsm.Terminate()
			}
			return nil, fmt.Errorf("%w: %w", ErrCanceled, context.Cause(ctx))
		case err != nil:
			return nil, err
		case res.code >= 200:
			return res, nil
		}
		progress = true
		if res.code > 100 {
			d.mu.Lock()
			d.remoteTag = res.to.tag() // for requests of the early dialog
			d.mu.Unlock()
			if c.OnProvisional != nil {
				c.OnProvisional(responseOf(res))
			}
		}
	}
}

// cancelReason is what a CANCEL says of its cause (RFC 3326 §2).
func cancelReason(cause error) []Header {
	if errors.Is(cause, ErrElsewhere) {
		return []Header{{"Reason", `SIP;cause=200;text="Call completed elsewhere"`}}
	}
	return nil
}

// cancelCall looks after an INVITE nobody waits for any more: CANCEL once there was a provisional response (RFC 3261
// §9.1; canceled says that it was sent), then 64·T1 for the final one. A 2xx that crossed it is acknowledged and ended.
func (d *Dialog) cancelCall(ct *clientTx, canceled bool, reason []Header) {
	defer ct.fsm.Terminate()
	ctx, cancel := context.WithTimeout(context.Background(), 64*timerT1)
	defer cancel()
	for {
		res, err := ct.next(ctx)
		if err != nil {
			return
		}
		switch {
		case res.code >= 300:
			return
		case res.code >= 200:
			d.refuseAnswer(ct.req, res)
			return
		case !canceled:
			canceled = true
			d.sendCancel(ct, reason...)
		}
	}
}

// sendCancel sends CANCEL with the INVITE's Via and waits for its answer elsewhere: it says nothing of interest.
func (d *Dialog) sendCancel(ct *clientTx, extra ...Header) {
	m := &message{method: methodCancel, uri: ct.req.uri, callID: d.callID, seq: ct.req.seq, via: ct.req.via}
	for _, h := range ct.req.headers {
		switch h.Name {
		case "Via", "From", "To", "Call-ID", "Max-Forwards", "Route":
			m.headers = append(m.headers, h)
		}
	}
	m.add("CSeq", fmt.Sprintf("%d CANCEL", m.seq))
	m.headers = append(m.headers, extra...)
	cancel, err := d.s.sendTx(m, ct.conn.sock, ct.conn.to, nil)
	if err != nil {
		return
	}
	if !d.s.spawn(func() { cancel.discard() }) {
		cancel.fsm.Terminate()
	}
}

// discard waits for a final response nobody needs.
func (ct *clientTx) discard() {
	if _, err := ct.await(context.Background()); err != nil {
		return
	}
}

// refuseAnswer acknowledges a 2xx nobody wants and ends the dialog it made (RFC 3261 §13.2.2.4): another fork's, or one
// that crossed CANCEL.
func (d *Dialog) refuseAnswer(invite, res *message) {
	d.s.counters.orphans.Add(1)
	o := &Dialog{
		s: d.s, outbound: true, callID: d.callID, localTag: d.localTag, local: d.local, remote: d.remote,
		localSeq: invite.seq, remoteTag: res.to.tag(), routes: routeSet(res), target: invite.uri, auth: d.auth,
	}
	o.refresh(res)
	defer o.unbind()
	ctx, cancel := context.WithTimeout(context.Background(), 64*timerT1)
	defer cancel()
	if err := o.sendAck(ctx, invite); err != nil {
		d.s.log.report("dialog.orphan_ack_failed", "error", err)
	}
	if _, err := o.ask(ctx, methodBye, nil, nil); err != nil {
		d.s.log.report("dialog.orphan_bye_failed", "error", err)
	}
}

func (d *Dialog) unbind() {
	if d.sock.stream() {
		d.sock.dialogs.Add(-1)
	}
}

// extraAnswer handles the 2xx after the first: a repeated one is acknowledged again, another fork is ended.
func (d *Dialog) extraAnswer(invite *message) func(res *message, repeated bool) {
	orphans := map[string]bool{}
	return func(res *message, repeated bool) {
		if repeated {
			d.ackAgain(invite)
			return
		}
		if tag := res.to.tag(); !orphans[tag] && len(orphans) < maxForks {
			orphans[tag] = true
			d.s.spawn(func() { d.refuseAnswer(invite, res) })
		}
	}
}

// maxForks bounds what a forking proxy can make us do.
const maxForks = 16

func (d *Dialog) ackAgain(invite *message) {
	d.mu.Lock()
	phase := d.state
	d.mu.Unlock()
	if phase < confirmed {
		return // the first ACK is on its way
	}
	ctx, cancel := context.WithTimeout(context.Background(), timerT1)
	defer cancel()
	if err := d.sendAck(ctx, invite); err != nil {
		d.s.log.report("dialog.ack_failed", "error", err)
	}
}

// established makes the dialog of a 2xx and acknowledges it.
func (d *Dialog) established(res *message) error {
	d.mu.Lock()
	if d.state != early { // the server is closing
		invite := d.invite
		d.mu.Unlock()
		d.s.spawn(func() { d.refuseAnswer(invite, res) })
		return d.wrongState()
	}
	d.remoteTag = res.to.tag()
	d.remote = withoutTag(res.to)
	d.routes = routeSet(res)
	d.final = res
	d.refresh(res)
	d.state = confirmed
	invite := d.invite
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 64*timerT1)
	defer cancel()
	if err := d.sendAck(ctx, invite); err != nil {
		// The 2xx will come again, and so will the ACK.
		d.s.log.report("dialog.ack_failed", "error", err)
	}
	return nil
}

// sendAck acknowledges a 2xx (RFC 3261 §13.2.2.4): a request of its own, along the route set, outside transactions.
func (d *Dialog) sendAck(ctx context.Context, invite *message) error {
	k, to, err := d.hop(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	ack := d.build(methodAck, invite.seq, k, to)
	d.mu.Unlock()
	for _, name := range [...]string{"Authorization", "Proxy-Authorization"} {
		if v := invite.get(name); v != "" { // RFC 3261 §22.1
			ack.add(name, v)
		}
	}
	sentBy := d.s.contact(k, to.Addr())
	top := via{transport: k.network, host: sentBy.Addr().String(), port: int(sentBy.Port()), params: params{
		{name: "branch", value: newBranch(), hasValue: true}, {name: "rport"}}}
	ack.headers = append([]Header{{"Via", top.String()}}, ack.headers...)
	d.s.messages.count(k, true, methodAck, 0)
	return d.s.send(k, to, ack.bytes(), d.callID)
}

// build starts a request of this dialog with its route set (RFC 3261 §12.2.1.1). d.mu is held.
func (d *Dialog) build(method string, seq uint32, k *socket, to netip.AddrPort) *message {
	m := &message{method: method, uri: d.target, callID: d.callID, seq: seq, headers: make([]Header, 0, 16)}
	routes := d.routes
	if len(routes) > 0 {
		first, err := parseNameAddr(routes[0])
		u, uerr := ParseURI(first.uri)
		if _, loose := u.Param("lr"); err == nil && uerr == nil && !loose {
			m.uri = u.String()
			routes = append(slices.Clone(routes[1:]), "<"+d.target+">")
		}
	}
	if u, err := ParseURI(m.uri); err == nil && strings.Contains(m.uri, "?") {
		m.uri = u.String() // RFC 3261 §19.1.5: headers of a Contact are not for the Request-URI
	}
	for _, r := range routes {
		m.add("Route", r)
	}
	m.add("Max-Forwards", "70")
	m.add("From", d.local+";tag="+d.localTag)
	remote := d.remote
	if d.remoteTag != "" {
		remote += ";tag=" + d.remoteTag
	}
	m.add("To", remote)
	m.add("Call-ID", d.callID)
	m.add("CSeq", strconv.FormatUint(uint64(seq), 10)+" "+method)
	switch method {
	case methodInvite, methodUpdate:
		m.add("Contact", d.s.contactFor(k, to.Addr(), partyOf(d.local).User))
		m.add("Allow", allow)
	}
	if d.s.c.UserAgent != "" {
		m.add("User-Agent", d.s.c.UserAgent)
	}
	return m
}

// newRequest builds the next request. d.mu is not held.
func (d *Dialog) newRequest(method string, body []byte, headers []Header) *message {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.localSeq++
	m := d.build(method, d.localSeq, d.sock, d.peer)
	m.headers = append(m.headers, headers...)
	if len(body) > 0 && method != methodInfo {
		m.add("Content-Type", "application/sdp")
	}
	m.body = body
	return m
}

// again401 is the same request with credentials and the next CSeq (RFC 3261 §22.2).
func (d *Dialog) again401(m *message, auth Header) *message {
	d.mu.Lock()
	d.localSeq++
	seq := d.localSeq
	d.mu.Unlock()
	n := &message{method: m.method, uri: m.uri, callID: m.callID, seq: seq, body: m.body}
	for _, h := range m.headers {
		switch h.Name {
		case "Via", auth.Name:
		case "CSeq":
			n.add("CSeq", strconv.FormatUint(uint64(seq), 10)+" "+m.method)
		default:
			n.headers = append(n.headers, h)
		}
	}
	n.headers = append(n.headers, auth)
	return n
}

// nextHop is the URI a request is sent to: the first route or the target. d.mu is held or the dialog is new.
func (d *Dialog) nextHop() URI {
	next := d.target
	if len(d.routes) > 0 {
		if a, err := parseNameAddr(d.routes[0]); err == nil {
			next = a.uri
		}
	}
	u, err := ParseURI(next)
	if err != nil {
		return URI{}
	}
	return u
}

// networkOf is the transport a URI asks for.
func networkOf(u URI) string {
	if t, ok := u.Param("transport"); ok {
		return t
	}
	return "udp"
}

// hop finds socket and address for the next request of the dialog. A TCP connection is used for as long as it lives;
// over UDP a peer behind a NAT is reached the way its messages came.
func (d *Dialog) hop(ctx context.Context) (*socket, netip.AddrPort, error) {
	d.mu.Lock()
	u, k, peer, nat := d.nextHop(), d.sock, d.peer, d.nat && len(d.routes) == 0
	d.mu.Unlock()
	switch {
	case k.network == "TCP":
		if live := d.s.connTo(k.remote); live != nil {
			return live, k.remote, nil
		}
		return d.locate(ctx, "tcp", nil, netip.AddrPort{})
	case nat:
		return k, peer, nil
	}
	sock, to, err := d.locate(ctx, networkOf(u), k, netip.AddrPort{})
	if err != nil && ctx.Err() == nil {
		// A Contact nobody can resolve: phones show the name they were given at home.
		return k, peer, nil
	}
	return sock, to, err
}

// locate resolves the next hop and finds the socket to it. A valid destination replaces the look-up.
func (d *Dialog) locate(ctx context.Context, network string, prefer *socket, destination netip.AddrPort) (*socket, netip.AddrPort, error) {
	if !strings.EqualFold(network, "udp") && !strings.EqualFold(network, "tcp") {
		return nil, netip.AddrPort{}, fmt.Errorf("transport %.16q: %w", network, ErrTransport)
	}
	to := netip.AddrPortFrom(destination.Addr().Unmap(), destination.Port())
	if !destination.IsValid() {
		d.mu.Lock()
		u := d.nextHop()
		d.mu.Unlock()
		addr, err := d.s.lookUp(ctx, u.Host)
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		port := uint16(defaultPort)
		if u.Port != 0 {
			port = uint16(u.Port)
		}
		to = netip.AddrPortFrom(addr, port)
	}
	k, err := d.s.socketFor(ctx, network, to, prefer)
	return k, to, err
}

// lookUp turns a host into an address, IPv4 first.
func (s *Server) lookUp(ctx context.Context, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	if host == "" {
		return netip.Addr{}, fmt.Errorf("no host to send to: %w", ErrTransport)
	}
	addrs, err := s.c.Resolve(ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up %.128q: %w: %w", host, ErrTransport, err)
	}
	for _, a := range addrs {
		if a.Unmap().Is4() {
			return a.Unmap(), nil
		}
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("look up %.128q: no address: %w", host, ErrTransport)
	}
	return addrs[0], nil
}

// ask sends a request other than INVITE and waits for its final response, with credentials when asked for them.
func (d *Dialog) ask(ctx context.Context, method string, body []byte, headers []Header) (*message, error) {
	k, to, err := d.hop(ctx)
	if err != nil {
		return nil, err
	}
	m := d.newRequest(method, body, headers)
	for tries := 0; ; tries++ {
		ct, err := d.s.startTx(m, k, to, nil)
		if err != nil {
			return nil, err
		}
		res, err := ct.await(ctx)
		if err != nil {
			return nil, err
		}
		auth, ok := d.authorize(m, res, tries)
		if !ok {
			return res, nil
		}
		m = d.again401(m, auth)
	}
}

// Bye ends a confirmed dialog: its context ends at once with ErrLocalBye, then BYE is sent and its answer awaited until
// ctx ends; without answer the BYE is repeated for 64·T1 all the same. With the dialog's own context Bye returns nil as
// soon as the BYE is on its way. While our 200 still waits for its ACK, Bye waits
// too (RFC 3261 §15). On a dialog that has ended, or is ending, it does nothing. ErrState means that the INVITE has had no
// final response: Reject it, or cancel the context of Invite.
func (d *Dialog) Bye(ctx context.Context, headers ...Header) error {
	if err := checkHeaders(headers); err != nil {
		return err
	}
	return d.hangUp(ctx, ErrLocalBye, headers)
}

// leave hangs up when there is nobody to tell how it went.
func (d *Dialog) leave(ctx context.Context, cause error) {
	if err := d.hangUp(ctx, cause, nil); err != nil {
		d.s.log.report("dialog.bye_failed", "error", err)
	}
}

func (d *Dialog) hangUp(ctx context.Context, cause error, headers []Header) error {
	d.mu.Lock()
	if d.state == answered && !errors.Is(cause, ErrNoACK) {
		w := d.acks[d.invite.seq]
		d.mu.Unlock()
		select {
		case <-w.done:
		case <-d.ctx.Done():
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		d.mu.Lock()
	}
	switch {
	case d.state == early:
		d.mu.Unlock()
		return ErrState
	case d.state >= ending:
		d.mu.Unlock()
		return nil
	}
	d.state = ending
	d.mu.Unlock()
	d.cancel(cause)
	done := make(chan error, 1)
	if !d.s.spawn(func() { done <- d.sayBye(cause, headers) }) {
		d.end(cause)
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), cause) {
			return nil // ctx is the dialog's own
		}
		return context.Cause(ctx)
	}
}

// sayBye sends BYE and keeps the dialog until it is answered, so that a BYE of the peer that crosses it finds one.
func (d *Dialog) sayBye(cause error, headers []Header) error {
	defer d.end(cause)
	_, err := d.ask(context.Background(), methodBye, nil, headers)
	return err
}

// shutdown ends the dialog because the server ends.
func (d *Dialog) shutdown(ctx context.Context) {
	d.mu.Lock()
	phase := d.state
	d.mu.Unlock()
	switch {
	case phase == early && d.outbound:
		d.cancel(ErrClosed) // Invite watches it and sends CANCEL
		select {
		case <-d.over:
		case <-ctx.Done():
		}
	case phase == early:
		d.refuse(503, ErrClosed)
	case phase == ending:
		select {
		case <-d.over:
		case <-ctx.Done():
		}
	default:
		if phase == answered {
			d.mu.Lock()
			d.state = confirmed // there is no time to wait for the ACK
			d.mu.Unlock()
		}
		d.leave(ctx, ErrClosed)
	}
	d.end(ErrClosed)
}

// Info sends INFO (RFC 6086, and the digits of RFC 2976 phones) and returns nil for a 2xx, else a *RejectedError,
// ErrTimeout, ErrTransport or the cause of ctx.
func (d *Dialog) Info(ctx context.Context, contentType string, body []byte) error {
	if len(contentType) > maxHeaderValue || hasControl(contentType) {
		return fmt.Errorf("content type %.64q", contentType)
	}
	if err := d.ready(); err != nil {
		return err
	}
	var headers []Header
	if len(body) > 0 {
		headers = []Header{{"Content-Type", contentType}}
	}
	res, err := d.ask(ctx, methodInfo, body, headers)
	if err != nil {
		return err
	}
	return d.outcome(res)
}

// ready says whether a request can be sent within the dialog.
func (d *Dialog) ready() error {
	d.mu.Lock()
	phase := d.state
	d.mu.Unlock()
	if phase != confirmed {
		return d.wrongState()
	}
	return nil
}

// outcome turns a final response into an error. 481 means that the peer has no such call any more (RFC 3261 §12.2.1.2).
func (d *Dialog) outcome(res *message) error {
	if res.code < 300 {
		return nil
	}
	err := rejected(res)
	if res.code == 481 {
		d.end(err)
	}
	return err
}

// reinviteTries is how often a re-INVITE is repeated after 491.
const reinviteTries = 6

// Reinvite sends a re-INVITE with an offer, or without one to be offered, and returns the session description of the
// 200, which it acknowledges. Offers of the peer that cross ours (491) are given way to as RFC 3261 §14.1 says. Without
// success the session stays as it was: the error is a *RejectedError, ErrTimeout, ErrTransport or the cause of ctx.
func (d *Dialog) Reinvite(ctx context.Context, body []byte, headers ...Header) (answer []byte, err error) {
	if err := checkHeaders(headers); err != nil {
		return nil, err
	}
	select {
	case d.offers <- struct{}{}:
		defer func() { <-d.offers }()
	case <-d.ctx.Done():
		return nil, context.Cause(d.ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for tries := 1; ; tries++ {
		res, err := d.reinvite(ctx, body, headers)
		if err != nil {
			return nil, err
		}
		if res != nil && (res.code != 491 || tries == reinviteTries) {
			return res.sdp(), d.outcome(res)
		}
		// A nil response is our own glare: the peer's offer is being answered.
		if tries == reinviteTries {
			return nil, &RejectedError{Code: 491, Reason: reasonPhrase(491)}
		}
		if err := d.pause(ctx, d.glareDelay()); err != nil {
			return nil, err
		}
	}
}

// glareDelay is 2.1–4 s for the side that made the Call-ID and 0–2 s for the other, in steps of 10 ms (RFC 3261 §14.1).
func (d *Dialog) glareDelay() time.Duration {
	if d.outbound {
		return time.Duration(210+randomN(191)) * 10 * time.Millisecond
	}
	return time.Duration(randomN(201)) * 10 * time.Millisecond
}

// randomN is a random number in [0, n).
func randomN(n int64) int64 {
	v, err := crand.Int(crand.Reader, big.NewInt(n))
	if err != nil {
		return 0 // cannot be: crypto/rand never fails
	}
	return v.Int64()
}

func (d *Dialog) pause(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reinvite makes one attempt. A nil message means that the peer's offer is being answered just now.
func (d *Dialog) reinvite(ctx context.Context, body []byte, headers []Header) (*message, error) {
	if err := d.ready(); err != nil {
		return nil, err
	}
	k, to, err := d.hop(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.answering != nil {
		d.mu.Unlock()
		return nil, nil
	}
	d.offering = true
	d.mu.Unlock()
	defer d.offered()
	m := d.newRequest(methodInvite, body, headers)
	for tries := 0; ; tries++ {
		ct, err := d.s.startTx(m, k, to, d.extraAnswer(m))
		if err != nil {
			return nil, err
		}
		res, err := d.waitOffer(ctx, ct)
		if err != nil {
			return nil, err
		}
		if res.code < 300 {
			d.mu.Lock()
			d.refresh(res)
			d.mu.Unlock()
			return res, d.sendAck(ctx, m)
		}
		auth, ok := d.authorize(m, res, tries)
		if !ok {
			return res, nil
		}
		m = d.again401(m, auth)
	}
}

func (d *Dialog) offered() {
	d.mu.Lock()
	d.offering = false
	d.mu.Unlock()
}

// waitOffer waits for the final response to a re-INVITE. When ctx or the dialog ends first it is canceled in the
// background, and a 200 that crosses the CANCEL is acknowledged and otherwise ignored.
func (d *Dialog) waitOffer(ctx context.Context, ct *clientTx) (*message, error) {
	both, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(d.ctx, func() { stop(context.Cause(d.ctx)) })()
	progress := false
	for {
		res, err := ct.next(both)
		switch {
		case err != nil && both.Err() != nil:
			if progress {
				d.sendCancel(ct)
			}
			if !d.s.spawn(func() { d.cancelOfferOut(ct, progress) }) {
				ct.fsm.Terminate()
			}
			return nil, context.Cause(both)
		case err != nil:
			return nil, err
		case res.code >= 200:
			return res, nil
		}
		progress = true
	}
}

func (d *Dialog) cancelOfferOut(ct *clientTx, canceled bool) {
	defer ct.fsm.Terminate()
	ctx, cancel := context.WithTimeout(context.Background(), 64*timerT1)
	defer cancel()
	for {
		res, err := ct.next(ctx)
		switch {
		case err != nil || res.code >= 300:
			return
		case res.code >= 200:
			if err := d.sendAck(ctx, ct.req); err != nil {
				d.s.log.report("dialog.ack_failed", "error", err)
			}
			return
		case !canceled:
			canceled = true
			d.sendCancel(ct)
		}
	}
}
