package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// agent is a SIP user agent that does as little as a load generator can: calls and answers over one UDP socket,
// no transactions but a repeated INVITE. It takes well-formed answers for granted and counts what is not.
type agent struct {
	conn   *net.UDPConn
	server *net.UDPAddr
	gen    *generator

	mu       sync.Mutex // guards what follows
	calls    map[string]*call
	incoming func(*call) // called for an INVITE; the call is answered when it returns
}

// call is one dialog.
type call struct {
	id       string
	stream   *stream
	began    time.Time
	setup    time.Duration // INVITE → 200
	code     int
	toTag    string
	contact  string
	incoming bool
	invite   map[string]string // of an incoming one
	done     chan struct{}     // closed by BYE, or a refusal
	answered chan struct{}
	once     sync.Once
	number   string
}

func newAgent(server netip.AddrPort, gen *generator) (*agent, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadBuffer(8 << 20); err != nil {
		return nil, err
	}
	return &agent{conn: conn, server: net.UDPAddrFromAddrPort(server), gen: gen, calls: map[string]*call{}}, nil
}

func (a *agent) addr() string { return a.conn.LocalAddr().String() }

func (a *agent) sdp(s *stream) string {
	return fmt.Sprintf("v=0\r\no=- %d 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n", s.seed, s.port)
}

// dial sends an INVITE; the call's channels say what becomes of it.
func (a *agent) dial(number string, seed uint32) (*call, error) {
	began := time.Now()
	s, err := openStream(began, seed)
	if err != nil {
		return nil, err
	}
	c := &call{
		id: fmt.Sprintf("bench-%d-%d", seed, began.UnixNano()), stream: s, began: began, number: number,
		done: make(chan struct{}), answered: make(chan struct{}),
	}
	a.mu.Lock()
	a.calls[c.id] = c
	a.mu.Unlock()
	body := a.sdp(s)
	a.request(c, "INVITE", 1, body)
	time.AfterFunc(500*time.Millisecond, func() { // T1, once: a loopback loses nothing but when it is flooded
		select {
		case <-c.answered:
		case <-c.done:
		default:
			a.request(c, "INVITE", 1, body)
		}
	})
	return c, nil
}

func (a *agent) request(c *call, method string, cseq int, body string) {
	uri, to := "sip:"+c.number+"@"+a.server.String(), "<sip:"+c.number+"@"+a.server.String()+">"
	from := "<sip:+8613800000000@bench.invalid>;tag=b" + c.id
	if c.incoming {
		to, from = c.invite["from"], c.invite["to"]+";tag=b"+c.id
	} else if c.toTag != "" {
		to += ";tag=" + c.toTag
	}
	if c.contact != "" {
		uri = c.contact
	}
	branch := fmt.Sprintf("z9hG4bK%s%s%d", c.id, method, cseq)
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=%s;rport\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:bench@%s>\r\nMax-Forwards: 70\r\n",
		method, uri, a.addr(), branch, from, to, c.id, cseq, method, a.addr())
	if body != "" {
		text += "Content-Type: application/sdp\r\n"
	}
	a.write(text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
}

func (a *agent) write(text string) {
	// A datagram that the kernel refuses is one that the other side does not get: it shows in the result.
	_, _ = a.conn.WriteToUDP([]byte(text), a.server)
}

// hangUp says BYE and stops the stream.
func (a *agent) hangUp(c *call) {
	a.request(c, "BYE", 2, "")
	a.end(c)
}

func (a *agent) end(c *call) {
	c.once.Do(func() {
		a.gen.remove <- c.stream
		close(c.done)
	})
}

// run reads until ctx ends.
func (a *agent) run(ctx context.Context, done *sync.WaitGroup) {
	defer done.Done()
	context.AfterFunc(ctx, func() {
		if err := a.conn.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	})
	buf := make([]byte, 65536)
	for {
		n, _, err := a.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		a.message(string(buf[:n]))
	}
}

func (a *agent) message(text string) {
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	h := map[string]string{}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if old, ok := h[name]; ok && name == "via" {
			h[name] = old + "\r\nVia: " + strings.TrimSpace(value)
			continue
		}
		h[name] = strings.TrimSpace(value)
	}
	a.mu.Lock()
	c := a.calls[h["call-id"]]
	a.mu.Unlock()
	if strings.HasPrefix(lines[0], "SIP/2.0 ") {
		a.response(c, lines[0], h, body)
		return
	}
	method, _, _ := strings.Cut(lines[0], " ")
	switch {
	case method == "INVITE" && c == nil:
		a.invited(h, body)
	case method == "BYE":
		a.write(reply(h, 200, "OK", "", "", ""))
		if c != nil {
			a.end(c)
		}
	}
}

func (a *agent) response(c *call, start string, h map[string]string, body string) {
	var code int
	if _, err := fmt.Sscanf(start, "SIP/2.0 %d", &code); err != nil || c == nil || !strings.HasSuffix(h["cseq"], "INVITE") || code < 200 {
		return
	}
	_, c.toTag, _ = strings.Cut(h["to"], "tag=")
	if code >= 300 {
		c.code = code
		a.request(c, "ACK", 1, "")
		a.end(c)
		return
	}
	c.contact = strings.Trim(strings.SplitN(h["contact"], ";", 2)[0], "<>")
	if c.code == 0 {
		c.code, c.setup = code, time.Since(c.began)
		c.stream.start(a.gen, mediaOf(body))
		close(c.answered)
	}
	a.request(c, "ACK", 1, "")
}

// invited answers a call.
func (a *agent) invited(h map[string]string, body string) {
	began := time.Now()
	a.mu.Lock()
	if a.calls[h["call-id"]] != nil || a.incoming == nil {
		a.mu.Unlock()
		return
	}
	s, err := openStream(began, uint32(len(a.calls)+1)*7919)
	if err != nil {
		a.mu.Unlock()
		return
	}
	c := &call{id: h["call-id"], stream: s, began: began, incoming: true, invite: h, code: 200, done: make(chan struct{}), answered: make(chan struct{})}
	c.contact = strings.Trim(strings.SplitN(h["contact"], ";", 2)[0], "<>")
	a.calls[c.id] = c
	a.mu.Unlock()
	a.incoming(c)
	a.write(reply(h, 200, "OK", "b"+c.id, "<sip:bench@"+a.addr()+">", a.sdp(s)))
	s.start(a.gen, mediaOf(body))
	close(c.answered)
}

func reply(h map[string]string, code int, reason, tag, contact, body string) string {
	to := h["to"]
	if tag != "" {
		to += ";tag=" + tag
	}
	text := fmt.Sprintf("SIP/2.0 %d %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n", code, reason, h["via"], h["from"], to, h["call-id"], h["cseq"])
	if body != "" {
		text += "Contact: " + contact + "\r\nContent-Type: application/sdp\r\n"
	}
	return text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

func mediaOf(body string) netip.AddrPort {
	addr, port := "127.0.0.1", 0
	for line := range strings.SplitSeq(body, "\r\n") {
		if v, ok := strings.CutPrefix(line, "c=IN IP4 "); ok {
			addr = v
		}
		if strings.HasPrefix(line, "m=audio ") {
			// The server's own description, which the end-to-end tests check; here it only has to be read.
			_, _ = fmt.Sscanf(line, "m=audio %d", &port)
		}
	}
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(ip, uint16(port))
}
