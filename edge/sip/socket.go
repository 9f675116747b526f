package sip

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// socket is where a message came from and where its answers go: a UDP listener, or one TCP connection.
type socket struct {
	network string // "UDP" or "TCP", as in Via
	local   netip.AddrPort

	pc net.PacketConn

	conn    net.Conn
	remote  netip.AddrPort
	writeMu sync.Mutex // one message at a time on conn
	// dialogs counts those that send on this connection: such a connection may be idle for as long as it likes.
	dialogs atomic.Int32
}

// writeTimeout bounds a TCP write to a peer that stopped reading.
const writeTimeout = 10 * time.Second

func (k *socket) stream() bool { return k.conn != nil }

func (k *socket) write(data []byte, to netip.AddrPort) error {
	if !k.stream() {
		n, err := k.pc.WriteTo(data, net.UDPAddrFromAddrPort(to))
		if err == nil && n != len(data) {
			return fmt.Errorf("wrote %d of %d bytes", n, len(data))
		}
		return err
	}
	k.writeMu.Lock()
	defer k.writeMu.Unlock()
	if err := k.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := k.conn.Write(data); err != nil {
		k.conn.Close() // half a message may be out: nothing more can follow
		return err
	}
	return nil
}

// addrPort reads a net.Addr without caring which package made it.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	default:
		parsed, err := netip.ParseAddrPort(a.String())
		if err != nil {
			return netip.AddrPort{}
		}
		ap = parsed
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// servePackets reads datagrams until the socket is closed. Errors other than that never end it.
func (s *Server) servePackets(k *socket) error {
	buf := make([]byte, maxMessage)
	var pause backoff
	for {
		n, from, err := k.pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// ICMP answers and full socket buffers surface here; the listener must outlive them.
			s.log.report("socket.read_failed", "error", err)
			if !pause.wait(s.life.Done()) {
				return err
			}
			continue
		}
		pause = 0
		peer := addrPort(from)
		if !s.admit(peer.Addr()) || keepAlive(buf[:n]) {
			continue
		}
		s.receive(k, peer, buf[:n])
	}
}

// keepAlive is what phones send to hold a NAT binding: empty lines, zeros, STUN (RFC 5626 §3.5).
func keepAlive(b []byte) bool {
	return len(bytes.Trim(b, "\r\n\x00 ")) == 0 || len(b) >= 20 && b[0] < 2
}

func (s *Server) admit(peer netip.Addr) bool {
	if b := s.c.Handler.Banned; b != nil && b(peer) {
		s.counters.guarded.Add(1)
		return false
	}
	return peer.IsValid()
}

// backoff is a pause that doubles from 5 ms to 1 s, for errors that may pass: EMFILE, ENOBUFS.
type backoff time.Duration

// wait returns false when stop closed first.
func (b *backoff) wait(stop <-chan struct{}) bool {
	*b = min(max(*b*2, backoff(5*time.Millisecond)), backoff(time.Second))
	t := time.NewTimer(time.Duration(*b))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}

// serveStreams accepts connections until the listener is closed, within the limits per address and in total.
func (s *Server) serveStreams(l net.Listener) error {
	var pause backoff
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			s.log.report("socket.accept_failed", "error", err)
			if !pause.wait(s.life.Done()) {
				return err
			}
			continue
		}
		pause = 0
		k := &socket{network: "TCP", conn: conn, local: addrPort(conn.LocalAddr()), remote: addrPort(conn.RemoteAddr())}
		if !s.admit(k.remote.Addr()) || !s.addConn(k) {
			conn.Close()
			continue
		}
		if !s.spawn(func() { s.serveConn(k) }) {
			s.dropConn(k)
		}
	}
}

// addConn counts a connection in; false when a limit is reached.
func (s *Server) addConn(k *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.c.Limits.Conns || s.connsOf[k.remote.Addr()] >= s.c.Limits.ConnsPerIP {
		s.counters.guarded.Add(1)
		return false
	}
	s.conns[k.remote] = k
	s.connsOf[k.remote.Addr()]++
	return true
}

func (s *Server) dropConn(k *socket) {
	k.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[k.remote] == k {
		delete(s.conns, k.remote)
	}
	if s.connsOf[k.remote.Addr()]--; s.connsOf[k.remote.Addr()] <= 0 {
		delete(s.connsOf, k.remote.Addr())
	}
}

// serveConn reads the messages of one connection until it ends or sends something that cannot be cut into messages.
func (s *Server) serveConn(k *socket) {
	defer s.dropConn(k)
	r := bufio.NewReaderSize(k.conn, maxLine+2)
	first := true
	for {
		data, err := s.readFrame(k, r, first)
		if errors.Is(err, os.ErrDeadlineExceeded) && data == nil && k.dialogs.Load() > 0 {
			continue
		}
		if bad := syntaxError(""); errors.As(err, &bad) {
			s.receive(k, k.remote, data) // parse finds the same fault and answers it
			return
		}
		if err != nil {
			return
		}
		if data == nil {
			continue
		}
		first = false
		s.receive(k, k.remote, data)
	}
}

// readFrame takes one message, or nil after a keep-alive (RFC 5626 §3.5.1). A connection may wait for its next message
// for the idle time, but a message once begun, and the first one, must be complete within FirstMessage.
func (s *Server) readFrame(k *socket, r *bufio.Reader, first bool) ([]byte, error) {
	wait := s.c.Limits.IdleConn
	if first {
		wait = s.c.Limits.FirstMessage
	}
	if err := k.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	c, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	if err := r.UnreadByte(); err != nil {
		return nil, err
	}
	if err := k.conn.SetReadDeadline(time.Now().Add(s.c.Limits.FirstMessage)); err != nil {
		return nil, err
	}
	if c == '\r' || c == '\n' {
		return nil, s.readKeepAlive(k, r)
	}
	return readMessage(r)
}

// readKeepAlive takes empty lines between messages and answers a double one.
func (s *Server) readKeepAlive(k *socket, r *bufio.Reader) error {
	if _, err := r.Discard(1); err != nil {
		return err
	}
	n := 1
	for r.Buffered() > 0 {
		c, err := r.ReadByte()
		if err != nil {
			return err
		}
		if c != '\r' && c != '\n' {
			return r.UnreadByte()
		}
		if n++; n == 4 {
			return k.write([]byte("\r\n"), k.remote)
		}
	}
	return nil
}

// readMessage reads up to the empty line, then Content-Length bytes. A syntaxError comes with what was read and leaves
// the stream without a boundary to go on from.
func readMessage(r *bufio.Reader) ([]byte, error) {
	var data []byte
	length, lengths := 0, 0
	for lines := 0; ; lines++ {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				return nil, errLimit
			}
			return data, err
		}
		if len(data)+len(line) > maxMessage || lines > maxLines+1 {
			return nil, errLimit
		}
		data = append(data, line...)
		if len(line) == 2 && line[0] == '\r' {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		switch strings.ToLower(strings.TrimRight(name, " \t")) {
		case "content-length", "l":
			lengths++
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
			if err != nil {
				return append(data, "\r\n"...), syntaxError("malformed Content-Length")
			}
			length = int(n)
		}
	}
	// RFC 3261 §18.3: on a stream Content-Length is what ends a message.
	if lengths != 1 {
		return data, syntaxError("not one Content-Length")
	}
	if len(data)+length > maxMessage {
		return nil, errLimit
	}
	head := len(data)
	data = append(data, make([]byte, length)...)
	for head < len(data) {
		n, err := r.Read(data[head:])
		if err != nil {
			return data[:head], err
		}
		head += n
	}
	return data, nil
}

// socketFor finds the way to a peer: a listener's UDP socket, a living TCP connection, or a new one.
func (s *Server) socketFor(ctx context.Context, network string, to netip.AddrPort, prefer *socket) (*socket, error) {
	if strings.EqualFold(network, "UDP") {
		if prefer != nil && prefer.network == "UDP" {
			return prefer, nil
		}
		return s.packetSocket(to.Addr())
	}
	if k := s.connTo(to); k != nil {
		return k, nil
	}
	return s.dial(ctx, to)
}

// connTo is the living connection to a peer, nil when there is none.
func (s *Server) connTo(peer netip.AddrPort) *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[peer]
}

// packetSocket is the first UDP listener that can send to this address family.
func (s *Server) packetSocket(to netip.Addr) (*socket, error) {
	for _, k := range s.udp {
		a := k.local.Addr()
		if a.Is4() == to.Is4() || a == netip.IPv6Unspecified() {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: no UDP listener for %s", ErrTransport, to)
}

func (s *Server) dial(ctx context.Context, to netip.AddrPort) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	conn, err := s.c.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTransport, err)
	}
	k := &socket{network: "TCP", conn: conn, local: addrPort(conn.LocalAddr()), remote: to}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		conn.Close()
		return nil, ErrClosed
	}
	s.conns[to] = k
	s.connsOf[to.Addr()]++
	s.wg.Go(func() { s.serveConn(k) })
	s.mu.Unlock()
	return k, nil
}

// contact is the address this server shows to a peer on this socket.
func (s *Server) contact(k *socket, peer netip.Addr) netip.AddrPort {
	local := k.local
	if k.stream() {
		// An outgoing connection has a port nobody can call: show the listener's.
		if l, ok := s.streamListener(local.Addr()); ok {
			local = netip.AddrPortFrom(local.Addr(), l.Port())
		}
	}
	if s.c.Contact == nil {
		return local
	}
	c := s.c.Contact(peer)
	if c.Port() == 0 {
		c = netip.AddrPortFrom(c.Addr(), local.Port())
	}
	if !c.Addr().IsValid() {
		c = netip.AddrPortFrom(local.Addr(), c.Port())
	}
	return c
}

func (s *Server) streamListener(local netip.Addr) (netip.AddrPort, bool) {
	for _, a := range s.tcp {
		if a.Addr() == local || a.Addr().IsUnspecified() {
			return a, true
		}
	}
	return netip.AddrPort{}, false
}
