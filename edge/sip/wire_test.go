package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a network in memory. It works inside a synctest bubble: everything waits on channels.
type wire struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*wireConn
	// lose, when set, sees every datagram and says whether it is lost.
	lose func(from, to netip.AddrPort, data string) bool
}

func newWire() *wire { return &wire{conns: map[netip.AddrPort]*wireConn{}} }

func (w *wire) listen(addr string) *wireConn {
	c := &wireConn{w: w, addr: netip.MustParseAddrPort(addr), in: make(chan datagram, 4096), closed: make(chan struct{})}
	w.mu.Lock()
	w.conns[c.addr] = c
	w.mu.Unlock()
	return c
}

type datagram struct {
	from netip.AddrPort
	data []byte
}

// wireConn is a net.PacketConn on a wire.
type wireConn struct {
	w      *wire
	addr   netip.AddrPort
	in     chan datagram
	once   sync.Once
	closed chan struct{}
}

func (c *wireConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *wireConn) WriteTo(b []byte, to net.Addr) (int, error) {
	dst := addrPort(to)
	c.w.mu.Lock()
	peer, lose := c.w.conns[dst], c.w.lose
	c.w.mu.Unlock()
	if peer == nil || lose != nil && lose(c.addr, dst, string(b)) {
		return len(b), nil
	}
	select {
	case peer.in <- datagram{c.addr, append([]byte(nil), b...)}:
	default:
	}
	return len(b), nil
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *wireConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.addr) }
func (c *wireConn) SetDeadline(time.Time) error      { return nil }
func (c *wireConn) SetReadDeadline(time.Time) error  { return nil }
func (c *wireConn) SetWriteDeadline(time.Time) error { return nil }

// phone is a scripted UA that speaks only what the test says.
type phone struct {
	t      testing.TB
	conn   net.PacketConn
	addr   netip.AddrPort
	server netip.AddrPort
	got    chan *message
	callID string
	tag    string
	toTag  string
	target string // Request-URI of in-dialog requests
	seq    int
	// oneCall skips what belongs to other calls: a benchmark under load sees repetitions.
	oneCall bool
}

const sdpOffer = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

func newPhone(t testing.TB, conn net.PacketConn, server netip.AddrPort) *phone {
	p := &phone{t: t, conn: conn, addr: addrPort(conn.LocalAddr()), server: server, got: make(chan *message, 4096),
		callID: "call-" + randomHex(4), tag: "phone-" + randomHex(4), seq: 1}
	p.target = "sip:service@" + server.String()
	go func() {
		defer close(p.got)
		buf := make([]byte, maxMessage)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := parse(buf[:n])
			if err == nil {
				err = m.read()
			}
			if m == nil || err != nil && m.code < 400 { // a refusal echoes what was malformed
				t.Errorf("phone got %q: %v", buf[:n], err)
				return
			}
			m.peer = addrPort(from)
			p.got <- m
		}
	}()
	return p
}

func (p *phone) send(raw string) {
	p.t.Helper()
	if _, err := p.conn.WriteTo([]byte(raw), net.UDPAddrFromAddrPort(p.server)); err != nil {
		p.t.Errorf("send: %v", err)
	}
}

// request renders a request of the phone's dialog. extra are whole header lines.
func (p *phone) request(method, branch, body string, extra ...string) string {
	to := "<sip:service@" + p.server.String() + ">"
	if p.toTag != "" {
		to += ";tag=" + p.toTag
	}
	lines := []string{
		method + " " + p.target + " SIP/2.0",
		"Via: SIP/2.0/UDP " + p.addr.String() + ";branch=z9hG4bK" + branch + ";rport",
		"Max-Forwards: 70",
		"From: \"Li Lei\" <sip:1001@example.com>;tag=" + p.tag,
		"To: " + to,
		"Call-ID: " + p.callID,
		fmt.Sprintf("CSeq: %d %s", p.seq, method),
		"Contact: <sip:1001@" + p.addr.String() + ">",
	}
	lines = append(lines, extra...)
	if body != "" && method != methodInfo {
		lines = append(lines, "Content-Type: application/sdp")
	}
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// next is the next message; nil when none comes in 40 s (virtual in a bubble).
func (p *phone) next() *message {
	select {
	case m := <-p.got:
		return m
	case <-time.After(40 * time.Second):
		return nil
	}
}

// code waits for a response with this status; others of the same class of 1xx are skipped when skip is set.
func (p *phone) code(want int) *message {
	p.t.Helper()
	for {
		m := p.next()
		if m == nil {
			p.t.Fatalf("no %d", want)
		}
		if m.code == 100 && want != 100 || p.oneCall && m.callID != p.callID {
			continue
		}
		if m.code != want {
			p.t.Fatalf("got %d %s %s, want %d", m.code, m.reason, m.method, want)
		}
		if tag := m.to.tag(); tag != "" && m.seqFor == methodInvite && m.code < 300 {
			p.toTag = tag
		}
		return m
	}
}

// method waits for a request.
func (p *phone) method(want string) *message {
	p.t.Helper()
	m := p.next()
	if m == nil {
		p.t.Fatalf("no %s", want)
	}
	if m.method != want {
		p.t.Fatalf("got %d %s, want %s", m.code, m.method, want)
	}
	return m
}

// answer responds to a request of the server. extra are whole header lines.
func (p *phone) answer(req *message, code int, body string, extra ...string) {
	p.t.Helper()
	res := req.respond(code, p.tag)
	if code > 100 && code < 300 && (req.method == methodInvite) {
		res.add("Contact", "<sip:callee@"+p.addr.String()+">")
	}
	for _, line := range extra {
		name, value, _ := strings.Cut(line, ": ")
		res.add(name, value)
	}
	if body != "" {
		res.add("Content-Type", "application/sdp")
		res.body = []byte(body)
	}
	p.send(string(res.bytes()))
}

// call sets up a call from the phone and returns after the ACK was sent.
func (p *phone) call() {
	p.t.Helper()
	p.send(p.request(methodInvite, "call", sdpOffer))
	p.code(200)
	p.send(p.request(methodAck, "ack", ""))
}

// stage is a server on a wire and one phone.
type stage struct {
	t      testing.TB
	w      *wire
	s      *Server
	phone  *phone
	cancel context.CancelFunc
	done   chan error
}

const (
	serverAddr = "192.0.2.1:5060"
	phoneAddr  = "192.0.2.7:5060"
)

func newStage(t testing.TB, h Handler, change ...func(*Config)) *stage {
	t.Helper()
	w := newWire()
	c := Config{Listen: []Listener{{Network: "udp", PacketConn: w.listen(serverAddr)}}, UserAgent: "test", Handler: h,
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{t: t, w: w, s: s, cancel: cancel, done: make(chan error, 1)}
	go func() { st.done <- s.Run(ctx) }()
	st.phone = newPhone(t, w.listen(phoneAddr), netip.MustParseAddrPort(serverAddr))
	return st
}

// close ends everything and checks that nothing is left in the server's tables.
func (st *stage) close() {
	st.t.Helper()
	st.cancel()
	if err := <-st.done; err != nil {
		st.t.Errorf("run: %v", err)
	}
	st.phone.conn.Close()
	for range st.phone.got { // drained until its reader is gone
	}
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if n := len(st.s.dialogs) + len(st.s.servers) + len(st.s.clients) + len(st.s.queues) + len(st.s.conns); n != 0 {
		st.t.Errorf("left: %d dialogs, %d server and %d client transactions, %d queues, %d connections",
			len(st.s.dialogs), len(st.s.servers), len(st.s.clients), len(st.s.queues), len(st.s.conns))
	}
}

// bubble runs a story in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func sayBye(t testing.TB, d *Dialog) {
	if err := d.Bye(context.Background()); err != nil {
		t.Errorf("bye: %v", err)
	}
}

// causeSoon waits for the end of a dialog.
func causeSoon(t testing.TB, d *Dialog) error {
	t.Helper()
	select {
	case <-d.Context().Done():
		return context.Cause(d.Context())
	case <-time.After(2 * time.Minute):
		t.Fatal("dialog did not end")
		return nil
	}
}

func tortureMessage(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/torture/" + name + ".dat")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
