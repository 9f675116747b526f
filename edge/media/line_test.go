package media

import (
	"bytes"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is an engine in virtual time on a network in memory. What was started on it must run inside virtual.
type line struct {
	*testing.T
	engine *Engine
	now    time.Time
	ports  map[uint16]*memoryPort
	peers  map[netip.AddrPort]*phone
	taken  map[int]bool // by other programs
	opened int
	legs   []*Leg
	rooms  []*Room
}

// datagram is one packet under way.
type datagram struct {
	from netip.AddrPort
	data []byte
}

// memoryPort is a PacketPort of the network in memory.
type memoryPort struct {
	line   *line
	number uint16
	inbox  []datagram
	closed bool
}

func (p *memoryPort) Recv(buf []byte) (int, netip.AddrPort, bool) {
	if p.closed || len(p.inbox) == 0 {
		return 0, netip.AddrPort{}, false
	}
	d := p.inbox[0]
	p.inbox = p.inbox[1:]
	return copy(buf, d.data), d.from, true
}

func (p *memoryPort) Send(b []byte, to netip.AddrPort) error {
	if p.closed {
		return syscall.EBADF
	}
	peer := p.line.peers[to]
	if peer == nil {
		return nil // nobody there: UDP does not say
	}
	peer.received = append(peer.received, packetOf(p.line.T, bytes.Clone(b), p.line.now))
	return nil
}

func (p *memoryPort) Close() error {
	p.closed = true
	delete(p.line.ports, p.number)
	return nil
}

// packet is what a phone received: RTP, or RTCP with a zero header.
type packet struct {
	rtp.Header
	payload []byte
	raw     []byte
	at      time.Time
}

func packetOf(t *testing.T, b []byte, at time.Time) packet {
	t.Helper()
	if isRTCP(b) {
		return packet{raw: b, at: at}
	}
	var p rtp.Packet
	if err := p.Unmarshal(b); err != nil || p.Version != 2 || p.Padding || p.Extension || len(p.CSRC) != 0 {
		t.Fatalf("the engine sent % x, which is not plain RTP: %v", b, err)
	}
	return packet{Header: p.Header, payload: p.Payload, raw: b, at: at}
}

// virtual runs a test on a line, in virtual time, and ends it by closing every leg.
func virtual(t *testing.T, change func(*Config), test func(*line)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &line{
			T:     t,
			now:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			ports: map[uint16]*memoryPort{},
			peers: map[netip.AddrPort]*phone{},
			taken: map[int]bool{},
		}
		config := Config{
			Shards:  1,
			PortMin: 20000,
			PortMax: 20999,
			Now:     func() time.Time { return l.now },
			Open:    l.open,
		}
		if change != nil {
			change(&config)
		}
		engine, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		l.engine = engine
		test(l)
		l.hangUp()
	})
}

func (l *line) open(port int) (PacketPort, error) {
	if l.taken[port] || l.ports[uint16(port)] != nil {
		return nil, syscall.EADDRINUSE
	}
	l.opened++
	p := &memoryPort{line: l, number: uint16(port)}
	l.ports[p.number] = p
	return p, nil
}

// tick lets one slot pass.
func (l *line) tick() {
	l.engine.Tick(l.now)
	synctest.Wait() // until the recordings' goroutines have written
	l.now = l.now.Add(Slot)
}

// frames lets n frames pass.
func (l *line) frames(n int) {
	for range n * int(slotsPerFrame) {
		l.tick()
	}
}

func (l *line) pass(d time.Duration) { l.frames(int(d / Frame)) }

// hangUp closes every room and leg and checks that nothing is left of them.
func (l *line) hangUp() {
	l.Helper()
	for _, room := range l.rooms {
		room.Close()
	}
	for _, room := range l.rooms {
		for open := true; open; l.tick() {
			for drained := false; !drained && open; {
				select {
				case _, open = <-room.events:
				default:
					drained = true
				}
			}
		}
	}
	for _, leg := range l.legs {
		leg.Close()
	}
	for _, leg := range l.legs {
		for open := true; open; {
			l.tick()
			for drained := false; !drained && open; {
				select {
				case _, open = <-leg.events:
				default:
					drained = true
				}
			}
		}
	}
	if len(l.ports) != 0 {
		l.Errorf("%d ports are still open", len(l.ports))
	}
	if legs := l.engine.Stats().Legs; legs != 0 {
		l.Errorf("the engine still counts %d legs", legs)
	}
}

func (l *line) leg(near *Leg) *Leg {
	l.Helper()
	leg, err := l.engine.NewLeg(LegConfig{Near: near})
	if err != nil {
		l.Fatal(err)
	}
	l.legs = append(l.legs, leg)
	return leg
}

// phone is the other end of a leg, played by the test.
type phone struct {
	line     *line
	addr     netip.AddrPort
	leg      *Leg
	codec    codec.ID
	pt       uint8
	ssrc     uint32
	seq      uint16
	stamp    uint32
	received []packet
}

const keysPT = 101

// call makes a leg with a phone at its other end, speaking c and telephone-event.
func (l *line) call(c codec.ID, near *Leg) (*Leg, *phone) {
	l.Helper()
	leg := l.leg(near)
	ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(len(l.legs))})
	p := &phone{line: l, addr: netip.AddrPortFrom(ip, 4000), leg: leg, codec: c, pt: c.PayloadType(),
		ssrc: 0x1000 + uint32(len(l.legs)), seq: 65530, stamp: 0xFFFFFF00}
	l.peers[p.addr] = p
	if err := leg.Set(p.params()); err != nil {
		l.Fatal(err)
	}
	return leg, p
}

func (p *phone) params() Params {
	return Params{
		Remote: p.addr, Codec: p.codec, PayloadType: p.pt, DTMF: true, DTMFPayloadType: keysPT, Send: true, Receive: true,
	}
}

// send puts one packet on its way to the leg.
func (p *phone) send(from netip.AddrPort, h rtp.Header, payload []byte) {
	p.line.Helper()
	h.Version = 2
	b, err := (&rtp.Packet{Header: h, Payload: payload}).Marshal()
	if err != nil {
		p.line.Fatal(err)
	}
	p.line.deliver(p.leg.Port(), from, b)
}

func (l *line) deliver(port uint16, from netip.AddrPort, b []byte) {
	if to := l.ports[port]; to != nil {
		to.inbox = append(to.inbox, datagram{from: from, data: b})
	}
}

// header is the next audio packet's, for as many octets.
func (p *phone) header(octets int) rtp.Header {
	h := rtp.Header{PayloadType: p.pt, SequenceNumber: p.seq, Timestamp: p.stamp, SSRC: p.ssrc}
	p.seq++
	p.stamp += uint32(octets)
	return h
}

// say sends octets as the next audio packet.
func (p *phone) say(octets []byte) { p.send(p.addr, p.header(len(octets)), octets) }

// miss lets a packet go lost.
func (p *phone) miss(octets int) { p.header(octets) }

// talk says audio in packets of 20 ms, one each frame.
func (p *phone) talk(audio []byte) {
	for len(audio) > 0 {
		n := min(samplesPerFrame, len(audio))
		p.say(audio[:n])
		audio = audio[n:]
		p.line.frames(1)
	}
}

// audio is the RTP audio received so far; keys are the telephone-event packets.
func (p *phone) audio() (packets []packet) {
	for _, q := range p.received {
		if q.raw != nil && !isRTCP(q.raw) && q.PayloadType == p.pt {
			packets = append(packets, q)
		}
	}
	return packets
}

func (p *phone) keys() (packets []packet) {
	for _, q := range p.received {
		if !isRTCP(q.raw) && q.PayloadType == keysPT {
			packets = append(packets, q)
		}
	}
	return packets
}

func (p *phone) reports() (packets [][]byte) {
	for _, q := range p.received {
		if isRTCP(q.raw) {
			packets = append(packets, q.raw)
		}
	}
	return packets
}

// heard is the audio received so far, end to end.
func (p *phone) heard() (octets []byte) {
	for _, q := range p.audio() {
		octets = append(octets, q.payload...)
	}
	return octets
}

// events takes what a leg has told until now.
func events(leg *Leg) (told []Event) {
	for {
		select {
		case e, ok := <-leg.Events():
			if !ok {
				return told
			}
			told = append(told, e)
		default:
			return told
		}
	}
}

// only picks the events of some kinds.
func only(all []Event, kinds ...EventKind) (picked []Event) {
	for _, e := range all {
		for _, k := range kinds {
			if e.Kind == k {
				picked = append(picked, e)
			}
		}
	}
	return picked
}

// voice is n octets of G.711 in which no two neighbouring frames, and no frame and silence, are alike: a loud pattern
// that tells its position. Neither codec's silence octet occurs.
func voice(n int) []byte {
	b := make([]byte, n)
	state := uint32(n)*2654435761 + 1
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
		for b[i] == 0xFF || b[i] == 0xD5 || b[i] == 0x7F {
			state = state*1664525 + 1013904223
			b[i] = byte(state >> 24)
		}
	}
	return b
}

// prompt is voice as a Prompt, octet for octet in PCMU.
func prompt(octets []byte) *Prompt {
	pcm := make([]int16, len(octets))
	codec.PCMU.Decode(pcm, octets)
	return NewPrompt(pcm)
}

func silence(c codec.ID, n int) []byte {
	b := make([]byte, n)
	fill(b, c.Silence())
	return b
}

// mustContain checks that part occurs in whole, and returns where.
func (l *line) mustContain(whole, part []byte, what string) int {
	l.Helper()
	at := bytes.Index(whole, part)
	if at < 0 {
		l.Fatalf("%s: %d octets do not occur in %d octets", what, len(part), len(whole))
	}
	return at
}
