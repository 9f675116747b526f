package media

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// wireReport is a compound packet as RFC 3550 §6 draws it, read and written without the code under test.
type wireReport struct {
	sender         bool
	ssrc           uint32
	ntp            uint64
	stamp          uint32
	packets        uint32
	octets         uint32
	blocks         []wireBlock
	cname          string
	bye            bool
	length, marked int // octets, and octets its packets say they have
}

type wireBlock struct{ ssrc, loss, highest, jitter, lastReport, delay uint32 }

func word(b []byte, n int) uint32 { return binary.BigEndian.Uint32(b[4*n:]) }

func readReport(t *testing.T, b []byte) (r wireReport) {
	t.Helper()
	r.length = len(b)
	for len(b) > 0 {
		size := 4 + 4*int(binary.BigEndian.Uint16(b[2:]))
		if b[0]>>5 != 4 || size > len(b) {
			t.Fatalf("not RTCP, or padded: % x", b)
		}
		p, blocks := b[:size], []byte(nil)
		switch p[1] {
		case 200:
			r.sender, r.ssrc, r.stamp, r.packets, r.octets = true, word(p, 1), word(p, 4), word(p, 5), word(p, 6)
			r.ntp = uint64(word(p, 2))<<32 | uint64(word(p, 3))
			blocks = p[28:]
		case 201:
			r.ssrc = word(p, 1)
			blocks = p[8:]
		case 202:
			if word(p, 1) != r.ssrc || p[8] != 1 || p[10+p[9]] != 0 {
				t.Fatalf("not a CNAME: % x", p)
			}
			r.cname = string(p[10 : 10+p[9]])
		case 203:
			r.bye = word(p, 1) == r.ssrc
		default:
			t.Fatalf("packet type %d", p[1])
		}
		for ; len(blocks) > 0; blocks = blocks[24:] {
			r.blocks = append(r.blocks, wireBlock{word(blocks, 0), word(blocks, 1), word(blocks, 2), word(blocks, 3), word(blocks, 4), word(blocks, 5)})
		}
		if p[1] <= 201 && int(p[0]&31) != len(r.blocks) {
			t.Fatalf("%d blocks, said to be %d", len(r.blocks), p[0]&31)
		}
		r.marked += size
		b = b[size:]
	}
	return r
}

func (r wireReport) write() []byte {
	b := []byte{0x80 | byte(len(r.blocks)), 201, 0, 0}
	b = binary.BigEndian.AppendUint32(b, r.ssrc)
	if r.sender {
		b[1] = 200
		b = binary.BigEndian.AppendUint64(b, r.ntp)
		b = binary.BigEndian.AppendUint32(b, r.stamp)
		b = binary.BigEndian.AppendUint32(b, r.packets)
		b = binary.BigEndian.AppendUint32(b, r.octets)
	}
	for _, k := range r.blocks {
		for _, v := range []uint32{k.ssrc, k.loss, k.highest, k.jitter, k.lastReport, k.delay} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	if r.bye {
		b = append(b, 0x81, 203, 0, 1)
		b = binary.BigEndian.AppendUint32(b, r.ssrc)
	}
	return b
}

func TestReportsSayWhatHappened(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		control := netip.AddrPortFrom(p.addr.Addr(), p.addr.Port()+1)
		listener := &phone{line: l, addr: control}
		l.peers[control] = listener

		p.talk(voice(1600))
		p.miss(160)
		l.frames(1)
		p.talk(voice(1600))
		senderTime := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
		l.report(leg, control, wireReport{sender: true, ssrc: p.ssrc, ntp: ntp(senderTime)})
		l.frames(500)

		reports := listener.reports()
		if n := len(reports); n < 1 || n > 5 {
			t.Fatalf("%d reports in 10 s", n)
		}
		sr := readReport(t, reports[0])
		if !sr.sender || len(sr.blocks) != 1 || len(sr.cname) != cnameSize || sr.marked != sr.length {
			t.Fatalf("the first report is %+v", sr)
		}
		at := listener.received[0].at
		first := p.audio()[0]
		sent := uint32(at.Sub(first.at)/Frame) + 1
		if sr.ssrc != first.ssrc || sr.packets != sent || sr.octets != sent*160 || sr.stamp != first.timestamp+(sent-1)*160 {
			t.Errorf("%+v after %d packets at %v", sr, sent, at)
		}
		if seconds := int64(sr.ntp>>32) - 2208988800; seconds != at.Unix() {
			t.Errorf("the report says it is %v, it was %v", time.Unix(seconds, 0), at)
		}
		want := wireBlock{
			ssrc:       p.ssrc,
			loss:       256/21<<24 | 1,
			highest:    1<<16 | uint32(p.seq-1),
			lastReport: uint32(ntp(senderTime) >> 16),
			delay:      sr.blocks[0].delay,
		}
		if sr.blocks[0] != want || want.delay == 0 {
			t.Errorf("block %+v, want %+v", sr.blocks[0], want)
		}

		// The peer answers 100 ms after it got the report, which took 40 ms to arrive.
		leg.own.reportAt = l.now.Add(time.Hour)
		l.report(leg, control, wireReport{ssrc: p.ssrc, blocks: []wireBlock{{
			ssrc: first.ssrc, loss: 64<<24 | 12,
			lastReport: uint32(ntp(l.now.Add(-180*time.Millisecond)) >> 16), delay: 65536 / 10,
		}}})
		l.frames(1)
		s := leg.Stats()
		if s.RTT < 79*time.Millisecond || s.RTT > 81*time.Millisecond || s.RemoteLost != 12 || s.RemoteLoss != 0.25 {
			t.Errorf("round trip %v, lost %d, ratio %v", s.RTT, s.RemoteLost, s.RemoteLoss)
		}

		leg.Close()
		l.frames(1)
		reports = listener.reports()
		if last := readReport(t, reports[len(reports)-1]); !last.bye {
			t.Errorf("the last report is %+v", last)
		}
	})
}

// report lets RTCP reach a leg's control port.
func (l *line) report(leg *Leg, from netip.AddrPort, r wireReport) {
	l.deliver(leg.Port()+1, from, r.write())
}

func TestReportsOnTheAudioPort(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		params := p.params()
		params.RTCPMux = true
		if err := leg.Set(params); err != nil {
			t.Fatal(err)
		}
		p.talk(voice(320))
		b := wireReport{ssrc: p.ssrc, blocks: []wireBlock{{ssrc: p.audio()[0].ssrc, loss: 128 << 24}}}.write()
		l.deliver(leg.Port(), p.addr, b)
		l.frames(500)
		if s := leg.Stats(); s.RemoteLoss != 0.5 || s.Malformed+s.UnknownPT != 0 {
			t.Errorf("%+v", s)
		}
		if len(p.reports()) == 0 {
			t.Error("no report came to the audio port")
		}
	})
}

func TestReportsOfStrangersAreNotBelieved(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.talk(voice(320))
		l.report(leg, netip.MustParseAddrPort("203.0.113.5:4001"), wireReport{ssrc: 1,
			blocks: []wireBlock{{ssrc: p.audio()[0].ssrc, loss: 255 << 24}}})
		l.frames(1)
		if s := leg.Stats(); s.RemoteLoss != 0 || s.Stranger != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestListenerSendsReceiverReports(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		params := p.params()
		params.Send = false
		params.RemoteRTCP = netip.MustParseAddrPort("192.0.2.77:9000")
		listener := &phone{line: l, addr: params.RemoteRTCP}
		l.peers[listener.addr] = listener
		if err := leg.Set(params); err != nil {
			t.Fatal(err)
		}
		l.frames(500)
		reports := listener.reports()
		if len(reports) == 0 {
			t.Fatal("no report came")
		}
		if readReport(t, reports[0]).sender {
			t.Error("a leg that sends nothing sends sender reports")
		}
	})
}

// RFC 3550 A.8, by hand: transit times 0, 5, 0, 5 … ms converge to 5 ms.
func TestJitterIsThatOfTheRFC(t *testing.T) {
	var s source
	s.begin(1, 1)
	at := time.Unix(1_000_000, 0)
	for i := range 500 {
		s.arrive(uint32(i)*160+4294960000, at.Add(time.Duration(i)*Frame+time.Duration(i%2)*5*time.Millisecond))
	}
	if j := s.interarrivalJitter(); j < 4900*time.Microsecond || j > 5*time.Millisecond {
		t.Errorf("jitter %v", j)
	}
}

func TestSequenceNumbersAreCountedOverTheirEnd(t *testing.T) {
	var s source
	s.begin(1, 65530)
	for _, n := range []uint16{65531, 65533, 65532, 65534, 65535, 1, 0, 0, 2, 2} {
		s.count(n)
	}
	if s.expected() != 9 || s.received != 9 || s.lost() != 0 || s.highest != 2<<16|2 {
		t.Errorf("expected %d, received %d, highest %x", s.expected(), s.received, s.highest)
	}
	if got := s.count(40000); got != astray {
		t.Errorf("a jump is %d", got)
	}
	if got := s.count(3); got != newest {
		t.Errorf("after a stray packet the next is %d", got)
	}
	if s.count(40000) != astray || s.count(40001) != restarted {
		t.Error("two packets of a new sequence do not begin it")
	}
}

func FuzzParseRTCP(f *testing.F) {
	for _, r := range []wireReport{
		{sender: true, ssrc: 1, blocks: []wireBlock{{ssrc: 2, loss: 0xFFFFFF}}},
		{ssrc: 1},
		{ssrc: 1, blocks: make([]wireBlock, 3), bye: true},
	} {
		f.Add(r.write())
	}
	r := report{ssrc: 1, sender: true, heard: true, bye: true, now: time.Unix(0, 0)}
	var b [maxReportSize]byte
	f.Add(b[:r.put(&b)])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseRTCP(b, 2)
		if !ok && (h != heardReport{}) {
			t.Fatalf("refused, and yet %+v", h)
		}
		if h.about {
			h.block.roundTrip(time.Unix(1, 0))
		}
	})
}
