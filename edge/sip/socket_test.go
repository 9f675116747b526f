package sip

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// tcpPhone makes a TCP connection look like a phone's datagrams: one message per read.
type tcpPhone struct {
	net.Conn
	r *bufio.Reader
}

func (c tcpPhone) ReadFrom(b []byte) (int, net.Addr, error) {
	for { // pongs
		if next, err := c.r.Peek(1); err != nil || next[0] != '\r' && next[0] != '\n' {
			break
		}
		if _, err := c.r.Discard(1); err != nil {
			return 0, nil, err
		}
	}
	data, err := readMessage(c.r)
	return copy(b, data), c.RemoteAddr(), err
}

func (c tcpPhone) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// serve starts a server on real sockets of the loopback interface; the test's end waits for it.
func serve(t testing.TB, h Handler, change ...func(*Config)) (s *Server, udp, tcp netip.AddrPort) {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Listen: []Listener{{Network: "udp", PacketConn: pc}, {Network: "tcp", Listener: ln}}, Handler: h}
	for _, f := range change {
		f(&c)
	}
	if s, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, addrPort(pc.LocalAddr()), addrPort(ln.Addr())
}

func dialPhone(t testing.TB, server netip.AddrPort) *phone {
	t.Helper()
	conn, err := net.Dial("tcp4", server.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newPhone(t, tcpPhone{conn, bufio.NewReaderSize(conn, maxMessage)}, server)
}

func (p *phone) tcp(raw string) string { return strings.Replace(raw, "SIP/2.0/UDP", "SIP/2.0/TCP", 1) }

func TestCallsOverRealSockets(t *testing.T) {
	dialogs := make(chan *Dialog, 1)
	_, udp, tcp := serve(t, answering(dialogs, nil))
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	for name, p := range map[string]*phone{"UDP": newPhone(t, pc, udp), "TCP": dialPhone(t, tcp)} {
		t.Run(name, func(t *testing.T) {
			wire := func(s string) string { return strings.Replace(s, "SIP/2.0/UDP", "SIP/2.0/"+name, 1) }
			big := sdpOffer + strings.Repeat("a=x\r\n", 400)
			p.send(wire(p.request(methodInvite, "1", big)))
			ok := p.code(200)
			if contact := ok.get("Contact"); strings.Contains(contact, "transport=tcp") != (name == "TCP") {
				t.Errorf("contact %s", contact)
			}
			p.send(wire(p.request(methodAck, "2", "")))
			d := <-dialogs
			if d.Transport() != name || d.RemoteAddr() != p.addr || len(d.Body()) != len(big) {
				t.Errorf("%s from %s", d.Transport(), d.RemoteAddr())
			}
			result := make(chan error, 1)
			go func() { result <- d.Bye(context.Background()) }()
			p.answer(p.method(methodBye), 200, "")
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStreamIsCutIntoMessages(t *testing.T) {
	_, _, tcp := serve(t, Handler{})
	p := dialPhone(t, tcp)
	one := p.tcp(options)
	p.send("\r\n" + one + "\r\n\r\n" + one)
	for i := range one {
		p.send(one[i : i+1])
	}
	for range 3 {
		p.code(200)
	}
}

func TestStreamKeepAliveIsAnswered(t *testing.T) {
	_, _, tcp := serve(t, Handler{})
	conn, err := net.Dial("tcp4", tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "\r\n" {
		t.Errorf("pong %q, %v", b, err)
	}
}

// What cannot be cut into messages ends the connection, with 400 where there is somebody to answer.
func TestStreamWithoutBoundaryIsClosed(t *testing.T) {
	_, _, tcp := serve(t, Handler{})
	for name, tt := range map[string]struct {
		raw  string
		code string
	}{
		"no Content-Length":   {strings.Replace(options, "Content-Length: 0", "X: y", 1), "SIP/2.0 400"},
		"two Content-Length":  {strings.Replace(options, "Max-Forwards: 70", "l: 0", 1), "SIP/2.0 400"},
		"bad Content-Length":  {strings.Replace(options, "Content-Length: 0", "Content-Length: x", 1), "SIP/2.0 400"},
		"huge Content-Length": {strings.Replace(options, "Content-Length: 0", "Content-Length: 2147483647", 1), ""},
		"endless line":        {"OPTIONS sip:" + strings.Repeat("x", 3*maxLine), ""},
		"endless headers":     {strings.Replace(options, "Max-Forwards: 70", strings.Repeat("X: y\r\n", 500)+"X: y", 1), ""},
		"HTTP":                {"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + strings.Repeat("x", maxLine+10), ""},
	} {
		conn, err := net.Dial("tcp4", tcp.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tt.raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := io.ReadAll(conn) // until closed; a reset is as good
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Errorf("%s: still open", name)
		}
		if !strings.HasPrefix(string(got), tt.code) || tt.code == "" && len(got) > 0 {
			t.Errorf("%s: %q", name, got)
		}
		conn.Close()
	}
}

func TestConnectionsPerAddressAreLimited(t *testing.T) {
	s, _, tcp := serve(t, Handler{}, func(c *Config) { c.Limits.ConnsPerIP = 2 })
	for range 2 {
		p := dialPhone(t, tcp)
		p.send(p.tcp(options))
		p.code(200)
	}
	conn, err := net.Dial("tcp4", tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("third connection served")
	}
	if s.Counters().Guarded != 1 {
		t.Errorf("%d guarded", s.Counters().Guarded)
	}
}

func TestInviteOverTCP(t *testing.T) {
	s, _, _ := serve(t, Handler{})
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	})
	type result struct {
		d   *Dialog
		err error
	}
	got := make(chan result, 1)
	go func() {
		d, err := s.Invite(context.Background(), InviteConfig{URI: "sip:1@" + ln.Addr().String() + ";transport=tcp",
			From: Party{User: "4000", Host: "127.0.0.1"}, Body: []byte(sdpOffer)})
		got <- result{d, err}
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := newPhone(t, tcpPhone{conn, bufio.NewReaderSize(conn, maxMessage)}, addrPort(conn.RemoteAddr()))
	inv := p.method(methodInvite)
	if inv.via.transport != "TCP" || !strings.Contains(inv.get("Contact"), "transport=tcp") ||
		strings.Contains(inv.get("Contact"), conn.RemoteAddr().String()) {
		t.Errorf("via %v contact %s", inv.via, inv.get("Contact"))
	}
	p.answer(inv, 200, "x")
	p.method(methodAck)
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	done := make(chan error, 1)
	go func() { done <- r.d.Bye(context.Background()) }()
	p.answer(p.method(methodBye), 200, "")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// pipes is a listener in memory; its connections have IP addresses.
type pipes struct {
	in     chan net.Conn
	once   sync.Once
	closed chan struct{}
	fail   atomic.Int32 // Accept fails so many times
}

type pipeConn struct {
	net.Conn
	remote net.Addr
}

func (c pipeConn) LocalAddr() net.Addr  { return pipeAddr("192.0.2.1:5060") }
func (c pipeConn) RemoteAddr() net.Addr { return c.remote }

func pipeAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

func newPipes() *pipes { return &pipes{in: make(chan net.Conn), closed: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	if l.fail.Add(-1) >= 0 {
		return nil, errors.New("accept: too many open files")
	}
	select {
	case c := <-l.in:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return pipeAddr("192.0.2.1:5060") }

func (l *pipes) dial(from string) net.Conn {
	a, b := net.Pipe()
	l.in <- pipeConn{b, pipeAddr(from)}
	return pipeConn{a, pipeAddr("192.0.2.1:5060")}
}

func tcpStage(t *testing.T, h Handler) (*stage, *pipes) {
	l := newPipes()
	return newStage(t, h, func(c *Config) { c.Listen = append(c.Listen, Listener{Network: "tcp", Listener: l}) }), l
}

func write(t *testing.T, c net.Conn, s string) {
	if _, err := io.WriteString(c, s); err != nil {
		t.Error(err)
	}
}

func untilClosed(c net.Conn) time.Duration {
	start := time.Now()
	if _, err := io.Copy(io.Discard, c); err != nil {
		return -1
	}
	return time.Since(start)
}

func TestSilentConnectionsAreClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st, l := tcpStage(t, Handler{})
		defer st.close()
		silent := l.dial("192.0.2.9:1000")
		if d := untilClosed(silent); d != 10*time.Second {
			t.Errorf("a silent connection lived %v", d)
		}
		half := l.dial("192.0.2.9:1001")
		write(t, half, "OPTIONS sip:x")
		if d := untilClosed(half); d != 10*time.Second {
			t.Errorf("half a line lived %v", d)
		}
		idle := l.dial("192.0.2.9:1002")
		go write(t, idle, strings.Replace(options, "UDP", "TCP", 1))
		if d := untilClosed(idle); d != 120*time.Second {
			t.Errorf("an idle connection lived %v", d)
		}
	})
}

func TestConnectionOfACallMayBeIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dialogs := make(chan *Dialog, 1)
		st, l := tcpStage(t, answering(dialogs, nil))
		defer st.close()
		conn := l.dial("192.0.2.9:1000")
		p := newPhone(t, tcpPhone{conn, bufio.NewReaderSize(conn, maxMessage)}, st.phone.server)
		p.send(p.tcp(p.request(methodInvite, "1", sdpOffer)))
		p.code(200)
		p.send(p.tcp(p.request(methodAck, "2", "")))
		d := <-dialogs
		pass(time.Hour)
		p.seq++
		p.send(p.tcp(p.request(methodBye, "3", "")))
		p.code(200)
		if err := causeSoon(t, d); !errors.Is(err, ErrRemoteBye) {
			t.Error(err)
		}
		if d := untilClosed(conn); d != 0 && d != 120*time.Second {
			t.Errorf("after the call the connection lived %v", d)
		}
	})
}

func TestListenersOutliveErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var fail atomic.Int32
		l := newPipes()
		l.fail.Store(20)
		fail.Store(20)
		st := newStage(t, Handler{}, func(c *Config) {
			c.Listen[0].PacketConn = failing{c.Listen[0].PacketConn, &fail}
			c.Listen = append(c.Listen, Listener{Network: "tcp", Listener: l})
		})
		defer st.close()
		st.phone.send(options)
		st.phone.code(200)
		conn := l.dial("192.0.2.9:1000")
		defer conn.Close()
		p := newPhone(t, tcpPhone{conn, bufio.NewReaderSize(conn, maxMessage)}, st.phone.server)
		p.send(p.tcp(options))
		p.code(200)
		synctest.Wait()
	})
}

// failing is a socket whose reads fail at first.
type failing struct {
	net.PacketConn
	fail *atomic.Int32
}

func (f failing) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.fail.Add(-1) >= 0 {
		return 0, nil, errors.New("no buffer space available")
	}
	return f.PacketConn.ReadFrom(b)
}

func TestRunReportsASocketClosedByOthers(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listen: []Listener{{Network: "udp", PacketConn: pc}}})
	if err != nil {
		t.Fatal(err)
	}
	pc.Close()
	if err := s.Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("run: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	any4, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer any4.Close()
	for name, c := range map[string]Config{
		"nothing":    {},
		"no socket":  {Listen: []Listener{{Network: "udp"}}},
		"network":    {Listen: []Listener{{Network: "sctp", PacketConn: any4}}},
		"wildcard":   {Listen: []Listener{{Network: "udp", PacketConn: any4}}},
		"user agent": {Listen: []Listener{{Network: "udp", PacketConn: any4}}, UserAgent: "a\r\nb"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestContactIsPerPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := newStage(t, answering(make(chan *Dialog, 1), nil), func(c *Config) {
			c.Contact = func(peer netip.Addr) netip.AddrPort {
				return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), 0)
			}
		})
		defer st.close()
		st.phone.send(st.phone.request(methodInvite, "1", sdpOffer))
		if c := st.phone.code(200).get("Contact"); c != "<sip:service@198.51.100.1:5060>" {
			t.Errorf("contact %s", c)
		}
		st.phone.send(st.phone.request(methodAck, "2", ""))
	})
}

// BenchmarkCall is INVITE, 100, 200, ACK, BYE, 200 over loopback UDP, one call after the other per worker, with a client
// that is part of what is measured.
func BenchmarkCall(b *testing.B) {
	_, udp, _ := serve(b, Handler{Invite: func(ctx context.Context, d *Dialog) {
		if d.Answer(ctx, d.Body()) == nil {
			<-ctx.Done()
		}
	}})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			b.Error(err)
			return
		}
		defer pc.Close()
		p := newPhone(b, pc, udp)
		p.oneCall = true
		for pb.Next() {
			p.callID, p.tag, p.toTag, p.seq = randomHex(8), randomHex(4), "", 1
			p.call()
			p.seq = 2
			p.send(p.request(methodBye, "bye", ""))
			p.code(200)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func BenchmarkParse(b *testing.B) {
	p := &phone{addr: netip.MustParseAddrPort(phoneAddr), server: netip.MustParseAddrPort(serverAddr), callID: "c", tag: "t", seq: 1,
		target: "sip:service@" + serverAddr}
	raw := []byte(p.request(methodInvite, "1", sdpOffer))
	b.ReportAllocs()
	for b.Loop() {
		m, err := parse(raw)
		if err == nil {
			err = m.read()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
