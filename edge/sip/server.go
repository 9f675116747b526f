package sip

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Server is a set of sockets and the dialogs on them.
type Server struct {
	c      Config
	log    *sampler
	quiet  *slog.Logger // for sipgo, whose lines are not ours
	tagKey [32]byte
	udp    []*socket
	tcp    []netip.AddrPort

	// life ends when Run begins to end: the context of handlers without a dialog of their own.
	life context.Context
	end  context.CancelCauseFunc
	wg   sync.WaitGroup // everything started, see spawn

	counters counters
	messages messages

	// mu guards the tables below. It is never held while a transaction or a caller's function is called.
	mu      sync.Mutex
	closing bool // no new connection, transaction or dialog
	closed  bool // no new request
	servers map[string]*serverTx
	clients map[string]*clientTx
	dialogs map[string]*Dialog
	queues  map[string]*queue
	queued  int
	conns   map[netip.AddrPort]*socket
	connsOf map[netip.Addr]int
}

// counters are Counters while they are counted.
type counters struct {
	received, sent, guarded, malformed, refused, overflow, panics, writeErrors, orphans atomic.Uint64
}

// New checks the configuration. It starts nothing: Run does.
func New(c Config) (*Server, error) {
	if len(c.Listen) == 0 {
		return nil, errors.New("sip: nothing to listen on")
	}
	if hasControl(c.UserAgent) {
		return nil, errors.New("sip: user agent must not contain control characters")
	}
	l := &c.Limits
	l.ConnsPerIP = cmp.Or(l.ConnsPerIP, 20)
	l.Conns = cmp.Or(l.Conns, 4096)
	l.FirstMessage = cmp.Or(l.FirstMessage, 10*time.Second)
	l.IdleConn = cmp.Or(l.IdleConn, 120*time.Second)
	l.Transactions = cmp.Or(l.Transactions, 100_000)
	l.QueuedPerCall = cmp.Or(l.QueuedPerCall, 1024)
	l.Queued = cmp.Or(l.Queued, 65536)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	s := &Server{
		c: c, log: &sampler{log: c.Logger, last: map[string]*sample{}}, quiet: slog.New(slog.DiscardHandler),
		servers: map[string]*serverTx{}, clients: map[string]*clientTx{}, dialogs: map[string]*Dialog{},
		queues: map[string]*queue{}, conns: map[netip.AddrPort]*socket{}, connsOf: map[netip.Addr]int{},
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	rand.Read(s.tagKey[:]) // never fails (crypto/rand)
	for i, listen := range c.Listen {
		if err := s.addListener(listen); err != nil {
			return nil, fmt.Errorf("sip: listener %d: %w", i, err)
		}
	}
	return s, nil
}

func (s *Server) addListener(l Listener) error {
	var local netip.AddrPort
	switch {
	case strings.EqualFold(l.Network, "udp") && l.PacketConn != nil:
		local = addrPort(l.PacketConn.LocalAddr())
		s.udp = append(s.udp, &socket{network: "UDP", pc: l.PacketConn, local: local})
	case strings.EqualFold(l.Network, "tcp") && l.Listener != nil:
		local = addrPort(l.Listener.Addr())
		s.tcp = append(s.tcp, local)
	default:
		return fmt.Errorf("network %q needs a PacketConn (udp) or a Listener (tcp)", l.Network)
	}
	if !local.IsValid() || local.Addr().IsUnspecified() && s.c.Contact == nil {
		return fmt.Errorf("address %s cannot be shown to peers: set Contact", local)
	}
	return nil
}

// Run serves until ctx ends, then ends every dialog (BYE, CANCEL or 503), waits for their handlers, closes the sockets
// and returns when everything it started is gone. It returns nil, or the error of a socket somebody else closed. It must
// be called exactly once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var readers sync.WaitGroup
	for _, k := range s.udp {
		readers.Go(func() { cancel(s.servePackets(k)) })
	}
	for _, l := range s.c.Listen {
		if l.Listener != nil {
			readers.Go(func() { cancel(s.serveStreams(l.Listener)) })
		}
	}
	<-ctx.Done()
	s.end(ErrClosed)
	s.shutdown()
	for _, l := range s.c.Listen {
		if err := l.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.report("socket.close_failed", "error", err)
		}
	}
	readers.Wait()
	s.closeAll()
	s.wg.Wait()
	if err := context.Cause(ctx); errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("sip: %w", err)
	}
	return nil
}

func (l Listener) close() error {
	if l.PacketConn != nil {
		return l.PacketConn.Close()
	}
	return l.Listener.Close()
}

// byeWait is how long the end of the server waits for the answers to its BYEs.
const byeWait = 2 * time.Second

func (s *Server) shutdown() {
	s.mu.Lock()
	s.closing = true
	live := make([]*Dialog, 0, len(s.dialogs))
	for _, d := range s.dialogs {
		live = append(live, d)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), byeWait)
	defer cancel()
	var ends sync.WaitGroup
	for _, d := range live {
		ends.Go(func() { d.shutdown(ctx) })
	}
	ends.Wait()
	for _, d := range live {
		d.handlers.Wait()
	}
}

// closeAll ends what timers would end later.
func (s *Server) closeAll() {
	s.mu.Lock()
	s.closed = true
	var ends []func()
	for _, st := range s.servers {
		ends = append(ends, st.fsm.Terminate)
	}
	for _, ct := range s.clients {
		ends = append(ends, ct.fsm.Terminate)
	}
	for _, k := range s.conns {
		ends = append(ends, func() { k.conn.Close() })
	}
	s.mu.Unlock()
	for _, end := range ends {
		end()
	}
}

// Counters returns the totals so far.
func (s *Server) Counters() Counters {
	c := &s.counters
	return Counters{
		Received: c.received.Load(), Sent: c.sent.Load(), Guarded: c.guarded.Load(), Malformed: c.malformed.Load(),
		Refused: c.refused.Load(), Overflow: c.overflow.Load(), Panics: c.panics.Load(),
		WriteErrors: c.writeErrors.Load(), Orphans: c.orphans.Load(),
	}
}

func (s *Server) known(peer netip.Addr) bool {
	return s.c.Handler.Known == nil || s.c.Handler.Known(peer)
}

// receive takes one message off a socket: parse, check, queue. It runs on the socket's goroutine and must not block.
func (s *Server) receive(k *socket, peer netip.AddrPort, data []byte) {
	m, err := parse(data)
	if errors.Is(err, errLimit) || errors.Is(err, errNotSIP) {
		s.counters.guarded.Add(1)
		s.log.report("message.dropped", "peer", peer, "bytes", len(data), "error", err)
		return
	}
	m.sock, m.peer = k, peer
	// read also after a fault of syntax: what can be read is what a 400 is addressed with.
	if rerr := m.read(); err == nil {
		err = rerr
	}
	if err == nil && k.stream() && m.count("Content-Length") == 0 {
		err = syntaxError("no Content-Length") // RFC 3261 §18.3
	}
	if err != nil {
		s.counters.malformed.Add(1)
		s.messages.malformed[k.transport()].Add(1)
		s.log.report("message.malformed", "peer", peer, "bytes", len(data), "error", err)
		code := 400
		if m.version != "SIP/2.0" {
			code = 505 // whatever else is different in it
		}
		s.refuse(m, &refusal{code: code})
		return
	}
	s.counters.received.Add(1)
	s.messages.count(k, false, cmp.Or(m.method, m.seqFor), m.code)
	s.trace(false, k, peer, data, m.callID)
	if m.isRequest() {
		m.received(peer)
		if r := m.check(); r != nil {
			s.counters.refused.Add(1)
			s.refuse(m, r)
			return
		}
	}
	s.enqueue(m)
}

// refuse answers a request without a transaction, and only to those we know: anyone else learns nothing, and a forged
// source gets no traffic from us.
func (s *Server) refuse(m *message, r *refusal) {
	if !m.isRequest() || m.method == methodAck || !s.known(m.peer.Addr()) {
		return
	}
	res := m.respond(r.code, randomHex(8))
	res.headers = append(res.headers, r.headers...)
	s.product(res)
	to := m.peer
	if !m.sock.stream() {
		to = m.replyTo(m.peer)
	}
	if err := s.send(m.sock, to, res.bytes(), m.callID); err != nil {
		s.log.report("message.refuse_failed", "error", err)
		return
	}
	s.messages.count(m.sock, true, m.method, r.code)
}

// product adds the Server header.
func (s *Server) product(res *message) {
	if s.c.UserAgent != "" {
		res.add("Server", s.c.UserAgent)
	}
}

// queue holds the messages of one Call-ID that wait for their turn.
type queue struct{ waiting []*message }

// enqueue keeps the order of arrival per Call-ID: one goroutine handles a Call-ID's messages while there are any.
func (s *Server) enqueue(m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	q := s.queues[m.callID]
	if s.queued >= s.c.Limits.Queued || q != nil && len(q.waiting) >= s.c.Limits.QueuedPerCall {
		s.counters.overflow.Add(1)
		return
	}
	s.queued++
	if q != nil {
		q.waiting = append(q.waiting, m)
		return
	}
	q = &queue{waiting: []*message{m}}
	s.queues[m.callID] = q
	s.wg.Go(func() { s.drain(m.callID, q) })
}

func (s *Server) drain(callID string, q *queue) {
	for {
		s.mu.Lock()
		if len(q.waiting) == 0 {
			delete(s.queues, callID)
			s.mu.Unlock()
			return
		}
		m := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		s.queued--
		s.mu.Unlock()
		s.handle(m)
	}
}

// handle gives a message to its transaction or makes one. A panic below it costs that message alone.
func (s *Server) handle(m *message) {
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r)
		}
	}()
	if !m.isRequest() {
		s.handleResponse(m)
		return
	}
	switch m.method {
	case methodAck:
		s.handleAck(m)
		return
	case methodCancel:
		s.handleCancel(m)
		return
	}
	key := serverKey(m, m.method)
	if st := s.serverTx(key); st != nil {
		s.messages.repeated[m.sock.transport()][dirIn].Add(1)
		st.repeat()
		return
	}
	if m.method == methodOptions && m.to.tag() == "" {
		s.handleOptions(m) // RFC 3261 §8.2.7: answered without state, so that floods leave none
		return
	}
	st := s.newServerTx(m, key)
	if st == nil {
		s.counters.overflow.Add(1)
		s.refuse(m, &refusal{code: 503, headers: []Header{{"Retry-After", "5"}}})
		return
	}
	s.handleRequest(st)
}

func (s *Server) panicked(r any) {
	s.counters.panics.Add(1)
	s.c.Logger.Error("handler.panicked", "error", fmt.Sprint(r), "stack", string(debug.Stack()))
}

func (s *Server) serverTx(key string) *serverTx {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.servers[key]
}

func (s *Server) handleResponse(m *message) {
	s.mu.Lock()
	ct := s.clients[m.via.branch()+"\x00"+m.seqFor]
	s.mu.Unlock()
	if ct == nil || ct.req.callID != m.callID || ct.req.seq != m.seq {
		return // RFC 6026 §8.9: a stray response is dropped
	}
	ct.receive(m)
}

// handleAck separates the ACK of a refusal, which ends its transaction, from the ACK of a 2xx, which is the dialog's.
func (s *Server) handleAck(m *message) {
	st := s.serverTx(serverKey(m, methodInvite))
	if st != nil {
		s.mu.Lock()
		refused := st.refused
		s.mu.Unlock()
		if refused {
			st.receive(m)
			return
		}
	}
	if d := s.dialogOf(m); d != nil {
		d.acknowledged(m)
	}
}

// handleCancel answers the CANCEL and cancels the INVITE it names (RFC 3261 §9.2).
func (s *Server) handleCancel(m *message) {
	own := serverKey(m, methodCancel)
	if st := s.serverTx(own); st != nil {
		s.messages.repeated[m.sock.transport()][dirIn].Add(1)
		st.repeat()
		return
	}
	invite := s.serverTx(serverKey(m, methodInvite))
	if invite == nil {
		s.refuse(m, &refusal{code: 481})
		return
	}
	st := s.newServerTx(m, own)
	if st == nil {
		s.counters.overflow.Add(1)
		return
	}
	s.reply(st, m.respond(200, s.tagFor(invite.req)))
	s.mu.Lock()
	canceled := invite.canceled
	s.mu.Unlock()
	if canceled != nil {
		canceled()
	}
}

// reply sends a response when nothing is to be done about a failure.
func (s *Server) reply(st *serverTx, res *message) {
	s.product(res)
	if err := st.respond(res); err != nil {
		s.log.report("transaction.respond_failed", "code", res.code, "error", err)
	}
}

func (s *Server) handleRequest(st *serverTx) {
	m := st.req
	switch {
	case m.to.tag() != "":
		d := s.dialogOf(m)
		if d == nil {
			s.outOfDialog(st)
			return
		}
		d.request(st)
	case m.method == methodBye, m.method == methodInfo, m.method == methodUpdate, m.method == methodNotify:
		s.outOfDialog(st)
	case m.method == methodRefer && s.known(m.peer.Addr()):
		s.reply(st, m.respond(403, s.tagFor(m))) // only within a call: a REFER of its own would have us call strangers
	case m.method == methodInvite && s.c.Handler.Invite != nil:
		s.handleInvite(st)
	case m.method == methodRegister && s.c.Handler.Register != nil:
		s.serve(st, s.c.Handler.Register)
	case !s.known(m.peer.Addr()):
		st.forget()
	case knownMethod(m.method):
		res := m.respond(405, s.tagFor(m))
		res.add("Allow", allow)
		s.reply(st, res)
	default:
		res := m.respond(501, s.tagFor(m))
		res.add("Allow", allow)
		s.reply(st, res)
	}
}

// outOfDialog answers a request for a dialog that is not here (RFC 3261 §12.2.2).
func (s *Server) outOfDialog(st *serverTx) {
	if !s.known(st.req.peer.Addr()) {
		st.forget()
		return
	}
	s.reply(st, st.req.respond(481, ""))
}

// serve runs a handler for one request and answers 500 when it panics or says nothing.
func (s *Server) serve(st *serverTx, f func(context.Context, *Request)) {
	r := &Request{s: s, m: st.req, st: st}
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
		}
		r.finish()
	}()
	f(s.life, r)
}

// handleOptions answers a question about what we can do (RFC 3261 §11.2).
func (s *Server) handleOptions(m *message) {
	if s.c.Handler.Options != nil {
		s.serve(&serverTx{s: s, req: m}, s.c.Handler.Options)
		return
	}
	s.refuse(m, &refusal{code: 200, headers: []Header{{"Allow", allow}, {"Accept", "application/sdp"}}})
}

// spawn starts a goroutine that Run waits for; false when the server is closed and nothing was started.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// tagFor is our tag for a request without one: the same for its retransmissions, and not to be guessed (RFC 3261 §19.3).
func (s *Server) tagFor(m *message) string {
	h := hmac.New(sha256.New, s.tagKey[:])
	for _, part := range [...]string{m.callID, m.from.tag(), m.via.branch(), m.via.host} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// trace reports a message with credentials removed.
func (s *Server) trace(out bool, k *socket, peer netip.AddrPort, data []byte, callID string) {
	if s.c.Trace == nil {
		return
	}
	s.c.Trace(TraceEvent{
		Time: time.Now(), Out: out, Transport: k.network, Local: k.local, Peer: peer, SIPCallID: callID,
		Message: redact(data),
	})
}

// redact copies a message without the values of Authorization and Proxy-Authorization, folded lines included.
func redact(data []byte) []byte {
	head, body, whole := bytes.Cut(data, []byte("\r\n\r\n"))
	out := make([]byte, 0, len(data))
	hiding := false
	for i, line := range bytes.Split(head, []byte("\r\n")) {
		if i > 0 && len(line) > 0 && (line[0] == ' ' || line[0] == '\t') && hiding {
			continue
		}
		if i > 0 {
			out = append(out, "\r\n"...)
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		name = bytes.TrimSpace(name)
		hiding = i > 0 && (bytes.EqualFold(name, []byte("Authorization")) || bytes.EqualFold(name, []byte("Proxy-Authorization")))
		if hiding {
			out = append(append(out, name...), ": -"...)
			continue
		}
		out = append(out, line...)
	}
	if whole {
		out = append(out, "\r\n\r\n"...)
		out = append(out, body...)
	}
	return out
}

// sampler logs what strangers can cause at most once a second per event, with the number left out since.
type sampler struct {
	log *slog.Logger

	mu   sync.Mutex // guards last
	last map[string]*sample
}

type sample struct {
	at      time.Time
	skipped int
}

func (l *sampler) report(event string, attrs ...any) {
	now := time.Now()
	l.mu.Lock()
	e := l.last[event]
	if e == nil {
		e = &sample{}
		l.last[event] = e
	}
	if !e.at.IsZero() && now.Sub(e.at) < time.Second {
		e.skipped++
		l.mu.Unlock()
		return
	}
	skipped := e.skipped
	e.at, e.skipped = now, 0
	l.mu.Unlock()
	l.log.Warn(event, append(attrs, "skipped", skipped)...)
}
