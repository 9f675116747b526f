package media

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"

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

// readReport reads one with pion/rtcp, which had no part in writing it.
func readReport(t *testing.T, b []byte) (r wireReport) {
	t.Helper()
	r.length = len(b)
	for rest := b; len(rest) > 0; {
		var h rtcp.Header
		if err := h.Unmarshal(rest); err != nil || h.Padding || 4+4*int(h.Length) > len(rest) {
			t.Fatalf("not RTCP, or padded: % x: %v", rest, err)
		}
		size := 4 + 4*int(h.Length)
		r.marked += size
		rest = rest[size:]
	}
	var compound rtcp.CompoundPacket
	if err := compound.Unmarshal(b); err != nil {
		t.Fatalf("% x: %v", b, err)
	}
	blocks, beyond := []rtcp.ReceptionReport(nil), []byte(nil)
	for _, p := range compound {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			r.sender, r.ssrc, r.ntp, r.stamp, r.packets, r.octets = true, p.SSRC, p.NTPTime, p.RTPTime, p.PacketCount, p.OctetCount
			blocks, beyond = p.Reports, p.ProfileExtensions
		case *rtcp.ReceiverReport:
			r.ssrc = p.SSRC
			blocks, beyond = p.Reports, p.ProfileExtensions
		case *rtcp.SourceDescription:
			if len(p.Chunks) != 1 || p.Chunks[0].Source != r.ssrc || len(p.Chunks[0].Items) != 1 || p.Chunks[0].Items[0].Type != rtcp.SDESCNAME {
				t.Fatalf("not a CNAME: %+v", p)
			}
			r.cname = p.Chunks[0].Items[0].Text
		case *rtcp.Goodbye:
			r.bye = len(p.Sources) == 1 && p.Sources[0] == r.ssrc
		default:
			t.Fatalf("a %T", p)
		}
	}
	if len(beyond) != 0 {
		t.Fatalf("% x behind the blocks", beyond)
	}
	for _, k := range blocks {
		r.blocks = append(r.blocks, wireBlock{k.SSRC, uint32(k.FractionLost)<<24 | k.TotalLost, k.LastSequenceNumber, k.Jitter, k.LastSenderReport, k.Delay})
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
		if sr.ssrc != first.SSRC || sr.packets != sent || sr.octets != sent*160 || sr.stamp != first.Timestamp+(sent-1)*160 {
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
			ssrc: first.SSRC, loss: 64<<24 | 12,
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
		b := wireReport{ssrc: p.ssrc, blocks: []wireBlock{{ssrc: p.audio()[0].SSRC, loss: 128 << 24}}}.write()
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
			blocks: []wireBlock{{ssrc: p.audio()[0].SSRC, loss: 255 << 24}}})
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

// Peers send extended reports, feedback and things of their own; nothing but lengths is asked of those.
func TestReportIsReadWhateverFollowsIt(t *testing.T) {
	const cname = "\x81\xCA\x00\x02\x00\x00\x00\x01\x01\x01a\x00"
	blocks := make([]wireBlock, maxReportBlocks)
	blocks[30] = wireBlock{ssrc: 7, loss: 128<<24 | 0xFFFFFE, highest: 3, jitter: 4, lastReport: 5, delay: 6}
	about := rtcp.ReceptionReport{SSRC: 7, FractionLost: 128, TotalLost: 0xFFFFFE, LastSequenceNumber: 3, Jitter: 4, LastSenderReport: 5, Delay: 6}
	full := wireReport{sender: true, ssrc: 9, ntp: 0x0102030405060708, blocks: blocks}
	sender := heardReport{ssrc: 9, sender: true, senderNTP: 0x03040506, block: about, about: true}
	receiver := heardReport{ssrc: 9, block: about, about: true}
	goodbye := full
	goodbye.bye = true
	left := sender
	left.bye = true
	for _, test := range []struct {
		name   string
		packet string
		want   heardReport
	}{
		{name: "sender report", packet: string(full.write()), want: sender},
		{name: "receiver report", packet: string(wireReport{ssrc: 9, blocks: blocks}.write()), want: receiver},
		{name: "name", packet: string(full.write()) + cname, want: sender},
		{name: "goodbye", packet: string(goodbye.write()), want: left},
		{name: "second report", packet: string(wireReport{ssrc: 9}.write()) + string(full.write()), want: sender},
		{name: "name without an end", packet: string(full.write()) + "\x81\xCA\x00\x01\x00\x00\x00\x01", want: sender},
		{name: "extended report of no length", packet: string(full.write()) + "\x80\xCF\x00\x02\x00\x00\x00\x01\x04\x00\xFF\xFF", want: sender},
		{name: "feedback cut short", packet: string(full.write()) + "\x8F\xCD\x00\x01\x00\x00\x00\x01", want: sender},
		{name: "unknown type", packet: string(full.write()) + "\x80\xDF\x00\x01\x00\x00\x00\x01", want: sender},
	} {
		var room reportBlocks
		packet := []byte(test.packet)
		if got, ok := parseRTCP(packet, 7, &room); !ok || got != test.want || got.lost() != -2 {
			t.Errorf("%s: %v, %+v", test.name, ok, got)
		}
		if n := testing.AllocsPerRun(10, func() { parseRTCP(packet, 7, &room) }); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func TestReportsWhoseLengthsDoNotAddUpAreRefused(t *testing.T) {
	good := string(wireReport{ssrc: 9, blocks: make([]wireBlock, 1)}.write())
	for name, packet := range map[string]string{
		"nothing":                     "",
		"short":                       "\x80\xC9\x00",
		"no SSRC":                     "\x80\xC9\x00\x00",
		"version 1":                   "\x40" + good[1:],
		"begins with a goodbye":       "\x81\xCB\x00\x01\x00\x00\x00\x09" + good,
		"longer than the datagram":    good[:len(good)-4],
		"more blocks than fit":        "\x82" + good[1:],
		"sender without its times":    "\x80\xC8\x00\x01\x00\x00\x00\x09",
		"second one cut":              good + "\x81\xCB\x00",
		"second one longer":           good + "\x81\xCB\x00\x02\x00\x00\x00\x09",
		"second one of no length":     good + "\x80\xCB\x00\x00",
		"second one of other version": good + "\x41\xCB\x00\x01\x00\x00\x00\x09",
	} {
		var room reportBlocks
		if h, ok := parseRTCP([]byte(packet), 0, &room); ok || h != (heardReport{}) {
			t.Errorf("%s: %v, %+v", name, ok, h)
		}
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
		var blocks reportBlocks
		h, ok := parseRTCP(b, 2, &blocks)
		if !ok && (h != heardReport{}) {
			t.Fatalf("refused, and yet %+v", h)
		}
		if h.about {
			h.roundTrip(time.Unix(1, 0))
		}
		if !ok {
			return
		}
		// pion reads the same, where it finds nothing wrong with what else is in the packet.
		packets, err := rtcp.Unmarshal(b)
		if err != nil {
			return
		}
		want := heardReport{}
		for _, p := range packets {
			var reports []rtcp.ReceptionReport
			switch p := p.(type) {
			case *rtcp.SenderReport:
				want.ssrc, want.sender, want.senderNTP, reports = p.SSRC, true, uint32(p.NTPTime>>16), p.Reports
			case *rtcp.ReceiverReport:
				want.ssrc, reports = p.SSRC, p.Reports
			case *rtcp.Goodbye:
				want.bye = true
			}
			for _, r := range reports {
				if r.SSRC == 2 {
					want.block, want.about = r, true
				}
			}
		}
		if h != want {
			t.Fatalf("%+v, pion: %+v", h, want)
		}
	})
}
