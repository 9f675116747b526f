package calltest

import (
	"bytes"
	"container/heap"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Datagram is one packet under way, SIP or media.
type Datagram struct {
	From, To netip.AddrPort
	Data     []byte
}

// latency is how long a datagram is under way where no rule says otherwise: two slots of the media clock, so that
// cause and effect never fall into the same instant of a ladder.
const latency = 4 * time.Millisecond

// onTime is what becomes of a datagram that no rule touches: one copy, no further delay.
var onTime = []time.Duration{0}

// wire is a network in memory that loses, delays and doubles only what a rule says. It delivers nothing by itself:
// Bench.step takes what is due, in the order it was sent.
type wire struct {
	mu     sync.Mutex // guards what follows
	queue  flying
	sent   uint64
	impair func(Datagram) []time.Duration
	ports  map[netip.AddrPort]func(Datagram)
}

// flight is a copy of a datagram with its time of arrival.
type flight struct {
	Datagram
	due   time.Time
	order uint64
}

// flying is a heap by time of arrival, then by order of sending.
type flying []flight

func (f flying) Len() int      { return len(f) }
func (f flying) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flying) Push(x any)   { *f = append(*f, x.(flight)) }

func (f flying) Less(i, j int) bool {
	if f[i].due.Equal(f[j].due) {
		return f[i].order < f[j].order
	}
	return f[i].due.Before(f[j].due)
}

func (f *flying) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

func newWire() *wire { return &wire{ports: map[netip.AddrPort]func(Datagram){}} }

// send puts a copy of data on its way. Nobody is told when it is lost.
func (w *wire) send(from, to netip.AddrPort, data []byte) {
	w.mu.Lock()
	impair := w.impair
	w.mu.Unlock()
	d := Datagram{From: from, To: to, Data: bytes.Clone(data)}
	delays := onTime
	if impair != nil {
		delays = impair(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, delay := range delays {
		w.sent++
		heap.Push(&w.queue, flight{d, time.Now().Add(latency + delay), w.sent})
	}
}

// next takes the next datagram that has arrived by now, with who receives at its address (nil: nobody).
func (w *wire) next(now time.Time) (d Datagram, to func(Datagram), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 || w.queue[0].due.After(now) {
		return Datagram{}, nil, false
	}
	d = heap.Pop(&w.queue).(flight).Datagram
	return d, w.ports[d.To], true
}

// open has what arrives at an address handed to receive, on the goroutine of Bench.step. It reports whether the
// address was free.
func (w *wire) open(at netip.AddrPort, receive func(Datagram)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ports[at] != nil {
		return false
	}
	w.ports[at] = receive
	return true
}

func (w *wire) close(at netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.ports, at)
}

// conn is the net.PacketConn that the edge listens on.
type conn struct {
	w      *wire
	addr   netip.AddrPort
	in     chan Datagram
	once   sync.Once
	closed chan struct{}
}

func (w *wire) listen(at netip.AddrPort) *conn {
	c := &conn{w: w, addr: at, in: make(chan Datagram, 1024), closed: make(chan struct{})}
	w.open(at, func(d Datagram) {
		select {
		case c.in <- d:
		default: // as a kernel does with a full buffer
		}
	})
	return c
}

// ReadFrom implements net.PacketConn.
func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(b, d.Data), net.UDPAddrFromAddrPort(d.From), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn.
func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) {
	addr := to.(*net.UDPAddr).AddrPort()
	c.w.send(c.addr, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), b)
	return len(b), nil
}

// Close implements net.PacketConn.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.w.close(c.addr)
		close(c.closed)
	})
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// SetDeadline implements net.PacketConn; nobody sets one on a listener.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// mediaPort is a media.PacketPort of the edge. Everything but its opening happens on the goroutine of Bench.step.
type mediaPort struct {
	w     *wire
	addr  netip.AddrPort
	inbox []Datagram
}

// openMedia opens one of the edge's RTP or RTCP ports.
func (w *wire) openMedia(at netip.AddrPort) (*mediaPort, error) {
	p := &mediaPort{w: w, addr: at}
	if !w.open(at, func(d Datagram) { p.inbox = append(p.inbox, d) }) {
		return nil, syscall.EADDRINUSE
	}
	return p, nil
}

// Recv implements media.PacketPort.
func (p *mediaPort) Recv(buf []byte) (int, netip.AddrPort, bool) {
	if len(p.inbox) == 0 {
		return 0, netip.AddrPort{}, false
	}
	d := p.inbox[0]
	p.inbox = p.inbox[1:]
	return copy(buf, d.Data), d.From, true
}

// Send implements media.PacketPort.
func (p *mediaPort) Send(b []byte, to netip.AddrPort) error {
	p.w.send(p.addr, to, b)
	return nil
}

// Close implements media.PacketPort.
func (p *mediaPort) Close() error {
	p.w.close(p.addr)
	return nil
}
