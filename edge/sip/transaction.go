package sip

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// RFC 3261 §17.1.1.1 and appendix A; the same as sipgo's, which is left at its defaults.
const (
	timerT1 = 500 * time.Millisecond
	timerT2 = 4 * time.Second
)

// serverTx is one server transaction: a request and what was answered.
type serverTx struct {
	s     *Server
	key   string
	req   *message
	reply netip.AddrPort
	fsm   *gosip.ServerTx

	// Set and read on the Call-ID's queue or before the transaction is visible there.
	canceled func() // CANCEL handler of an INVITE
	refused  bool   // a final response of 300 or more was sent: ACK belongs to the transaction
}

// txConn is what sipgo's state machines write to: one peer on one socket.
type txConn struct {
	s    *Server
	sock *socket
	to   netip.AddrPort

	// Client transactions send these bytes for the request and for the ACK of a refusal, whatever sipgo would render.
	request []byte
	ack     []byte
	callID  string
	method  string      // of the request
	begun   atomic.Bool // the request was sent: what follows repeats it
}

func (c *txConn) LocalAddr() net.Addr    { return net.UDPAddrFromAddrPort(c.sock.local) }
func (c *txConn) Ref(int) int            { return 1 }
func (c *txConn) TryClose() (int, error) { return 1, nil }
func (c *txConn) Close() error           { return nil }

func (c *txConn) WriteMsg(msg gosip.Message) error {
	switch msg := msg.(type) {
	case *gosip.Request:
		c.s.messages.count(c.sock, true, string(msg.Method), 0)
		if msg.Method == gosip.ACK {
			return c.s.send(c.sock, c.to, c.ack, c.callID)
		}
		if c.begun.Swap(true) {
			c.s.messages.repeated[c.sock.transport()][dirOut].Add(1)
		}
		return c.s.send(c.sock, c.to, c.request, c.callID)
	case *gosip.Response:
		m := carriedBy(msg)
		if m == nil {
			return nil
		}
		c.s.messages.count(c.sock, true, c.method, m.code)
		err := c.s.send(c.sock, c.to, m.bytes(), c.callID)
		if c.sock.stream() {
			return err
		}
		return nil // a datagram that could not be sent is a datagram lost: the timers repeat it
	}
	return nil
}

// carrier takes one of our messages through a sipgo state machine. The embedded header gives it sipgo's private methods.
type carrier struct {
	gosip.Header
	m *message
}

func carry(m *message) *gosip.Response {
	res := gosip.NewResponse(m.code, m.reason)
	res.AppendHeader(carrier{Header: gosip.NewHeader("X", ""), m: m})
	return res
}

func carriedBy(res *gosip.Response) *message {
	for _, h := range res.Headers() {
		if c, ok := h.(carrier); ok {
			return c.m
		}
	}
	return nil
}

// fsmRequest is all that sipgo's state machines look at: method, transport, CSeq.
func fsmRequest(m *message, network string) *gosip.Request {
	req := gosip.NewRequest(gosip.RequestMethod(m.method), gosip.Uri{})
	req.SetTransport(network)
	req.AppendHeader(&gosip.CSeqHeader{SeqNo: m.seq, MethodName: gosip.RequestMethod(m.method)})
	return req
}

// serverKey matches requests to server transactions (RFC 3261 §17.2.3). Call-ID and From tag are part of it for every
// branch, so that a guessed branch does not reach another call's transaction.
func serverKey(m *message, method string) string {
	branch := m.via.branch()
	if !strings.HasPrefix(branch, magicCookie) || branch == magicCookie {
		branch = m.via.String() // RFC 2543
	}
	return strings.Join([]string{method, branch, m.via.host, strconv.Itoa(m.via.port), m.callID, m.from.tag(),
		strconv.FormatUint(uint64(m.seq), 10)}, "\x00")
}

const magicCookie = "z9hG4bK"

// newServerTx makes the transaction of a new request and finds it again for its retransmissions. Nil when the table is
// full.
func (s *Server) newServerTx(m *message, key string) *serverTx {
	st := &serverTx{s: s, key: key, req: m, reply: m.peer}
	if !m.sock.stream() {
		st.reply = m.replyTo(m.peer)
	}
	conn := &txConn{s: s, sock: m.sock, to: st.reply, callID: m.callID, method: m.method}
	st.fsm = gosip.NewServerTx(key, fsmRequest(m, m.sock.network), conn, s.quiet)
	s.mu.Lock()
	if s.closing || len(s.servers) >= s.c.Limits.Transactions {
		s.mu.Unlock()
		return nil
	}
	s.servers[key] = st
	s.mu.Unlock()
	st.fsm.OnTerminate(func(string, error) {
		s.mu.Lock()
		delete(s.servers, key)
		s.mu.Unlock()
	})
	// The errors of both calls are always nil. A transaction of sipgo sends 100 by itself after 200 ms, which would tell a
	// scanner that we are here; showing it its own request again stops that timer and does nothing else.
	if err := st.fsm.Init(); err == nil && m.method == methodInvite {
		st.repeat()
	}
	return st
}

// repeat hands a retransmitted request to the state machine, which sends its last response again.
func (st *serverTx) repeat() { st.receive(st.req) }

func (st *serverTx) receive(m *message) {
	if err := st.fsm.Receive(fsmRequest(m, m.sock.network)); err != nil {
		st.s.log.report("transaction.receive_failed", "error", err)
	}
}

// respond sends a response through the transaction. An error means that the transport failed or the transaction is over.
func (st *serverTx) respond(res *message) error {
	if res.code >= 300 {
		st.s.mu.Lock()
		st.refused = true
		st.s.mu.Unlock()
	}
	if err := st.fsm.Respond(carry(res)); err != nil {
		return fmt.Errorf("%w: %w", ErrTransport, err)
	}
	return nil
}

// forget ends the transaction without waiting for retransmissions: nothing was said, or it may be said again.
func (st *serverTx) forget() { st.fsm.Terminate() }

// clientTx is one client transaction.
type clientTx struct {
	s    *Server
	key  string
	req  *message
	conn *txConn
	fsm  *gosip.ClientTx

	// The first final response; touched on the Call-ID's queue only.
	final    int
	finalTag string
	// on2xx gets every further 2xx to an INVITE: the first one repeated, or the answer of another fork. It runs on the
	// Call-ID's queue.
	on2xx func(res *message, repeated bool)
}

// newBranch is unique over time and space (RFC 3261 §8.1.1.7).
func newBranch() string { return magicCookie + randomHex(12) }

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// startTx adds Via to a request and sends it.
func (s *Server) startTx(m *message, k *socket, to netip.AddrPort, on2xx func(*message, bool)) (*clientTx, error) {
	branch := newBranch()
	sentBy := s.contact(k, to.Addr())
	top := via{transport: k.network, host: sentBy.Addr().String(), port: int(sentBy.Port()), params: params{
		{name: "branch", value: branch, hasValue: true}, {name: "rport"}}}
	m.via = top
	m.headers = append([]Header{{"Via", top.String()}}, m.headers...)
	return s.sendTx(m, k, to, on2xx)
}

// sendTx sends a request that has its Via, which CANCEL takes from its INVITE.
func (s *Server) sendTx(m *message, k *socket, to netip.AddrPort, on2xx func(*message, bool)) (*clientTx, error) {
	ct := &clientTx{s: s, key: m.via.branch() + "\x00" + m.method, req: m, on2xx: on2xx}
	ct.conn = &txConn{s: s, sock: k, to: to, request: m.bytes(), callID: m.callID, method: m.method}
	ct.fsm = gosip.NewClientTx(ct.key, fsmRequest(m, k.network), ct.conn, s.quiet)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.clients[ct.key] = ct
	s.mu.Unlock()
	ct.fsm.OnTerminate(func(string, error) {
		s.mu.Lock()
		delete(s.clients, ct.key)
		s.mu.Unlock()
	})
	if err := ct.fsm.Init(); err != nil {
		ct.fsm.Terminate()
		return nil, fmt.Errorf("%w: %w", ErrTransport, err)
	}
	return ct, nil
}

// receive takes a response on the Call-ID's queue. It waits until the transaction's owner has taken it.
func (ct *clientTx) receive(m *message) {
	invite := ct.req.method == methodInvite
	switch {
	case ct.final == 0 && m.code >= 300 && invite:
		ct.conn.ack = ct.ackFor(m).bytes()
	case ct.final >= 300 && m.code >= 300 && invite:
		// Not through sipgo, which waits T2 with its lock held before it repeats an ACK.
		ct.s.messages.count(ct.conn.sock, true, methodAck, 0)
		if err := ct.s.send(ct.conn.sock, ct.conn.to, ct.conn.ack, ct.conn.callID); err != nil {
			ct.s.log.report("transaction.ack_failed", "error", err)
		}
		return
	case ct.final != 0:
		if m.code/100 == 2 && ct.on2xx != nil {
			ct.on2xx(m, m.to.tag() == ct.finalTag)
		}
		return
	}
	if m.code >= 200 {
		ct.final, ct.finalTag = m.code, m.to.tag()
	}
	ct.fsm.Receive(carry(m))
}

// ackFor is the ACK of a refusal (RFC 3261 §17.1.1.3).
func (ct *clientTx) ackFor(res *message) *message {
	ack := &message{method: methodAck, uri: ct.req.uri, callID: ct.req.callID}
	for _, h := range ct.req.headers {
		switch h.Name {
		case "Via", "From", "Call-ID", "Max-Forwards", "Route":
			ack.headers = append(ack.headers, h)
		}
	}
	ack.add("To", res.get("To"))
	ack.add("CSeq", fmt.Sprintf("%d ACK", ct.req.seq))
	return ack
}

// next waits for the next response. ErrTimeout and ErrTransport end the transaction; when ctx ends it goes on.
func (ct *clientTx) next(ctx context.Context) (*message, error) {
	select {
	case res := <-ct.fsm.Responses():
		return carriedBy(res), nil
	case <-ct.fsm.Done():
		err := ct.fsm.Err()
		if errors.Is(err, gosip.ErrTransactionTransport) {
			return nil, fmt.Errorf("%w: %w", ErrTransport, err)
		}
		if ct.s.life.Err() != nil {
			return nil, ErrClosed
		}
		return nil, ErrTimeout
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// await waits for the final response and ends the transaction when ctx ends first. Not for INVITE.
func (ct *clientTx) await(ctx context.Context) (*message, error) {
	for {
		m, err := ct.next(ctx)
		if err != nil {
			ct.fsm.Terminate()
			return nil, err
		}
		if m.code >= 200 {
			return m, nil
		}
	}
}

// send writes bytes to a peer, traces and counts them.
func (s *Server) send(k *socket, to netip.AddrPort, data []byte, callID string) error {
	s.trace(true, k, to, data, callID)
	if err := k.write(data, to); err != nil {
		s.counters.writeErrors.Add(1)
		s.log.report("socket.write_failed", "peer", to, "error", err)
		return err
	}
	s.counters.sent.Add(1)
	return nil
}
