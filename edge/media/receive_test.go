package media

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func TestStrangersAreNotHeard(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		var written tape
		id := leg.Record(RecordConfig{Writer: &written, Channels: 1})
		stranger := netip.MustParseAddrPort("203.0.113.9:666")
		audio := voice(1600)
		for i := range 10 {
			p.say(audio[i*160 : (i+1)*160])
			p.send(stranger, rtp.Header{SequenceNumber: uint16(i), SSRC: 6, Timestamp: uint32(i * 160)}, voice(161)[:160])
			p.send(netip.AddrPortFrom(p.addr.Addr(), 5), rtp.Header{SequenceNumber: uint16(i), SSRC: 7}, voice(162)[:160])
			l.frames(1)
		}
		l.pass(5 * time.Second) // the peer pauses: still nobody else gets in
		p.send(stranger, rtp.Header{SequenceNumber: 1, SSRC: 6}, voice(160))
		l.frames(1)
		l.recordDone(leg, id)
		l.mustContain(written.read(), audio, "the recording")
		if s := leg.Stats(); s.Stranger != 21 || s.Resets != 0 || s.PacketsReceived != 10 || s.Source != p.addr {
			t.Errorf("%+v", s)
		}
	})
}

func TestAudioGoesWhereItComesFrom(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		l.frames(1)
		if len(p.received) != 1 {
			t.Fatal("before anything came, audio goes where the SDP says")
		}
		nat := netip.MustParseAddrPort("198.51.100.7:9999")
		behind := &phone{line: l, addr: nat}
		l.peers[nat] = behind
		p.send(nat, rtp.Header{PayloadType: 96, SequenceNumber: 1, SSRC: 5}, voice(160)) // not negotiated: decides nothing
		l.frames(1)
		p.send(nat, rtp.Header{SequenceNumber: 2, SSRC: 5}, voice(160))
		l.frames(1)
		if len(p.audio()) != 2 || len(behind.received) != 1 {
			t.Errorf("%d packets to the SDP's address, %d to the source", len(p.audio()), len(behind.received))
		}
		if s := leg.Stats(); s.UnknownPT != 1 || s.Source != nat {
			t.Errorf("%+v", s)
		}
		// The SDP's address soon after: the other was quicker than the peer.
		p.say(voice(160))
		l.frames(1)
		if s := leg.Stats(); s.Source != p.addr {
			t.Errorf("source is %v, want the SDP's address", s.Source)
		}
		p.send(nat, rtp.Header{SequenceNumber: 3, SSRC: 5}, voice(160))
		l.frames(1)
		if s := leg.Stats(); s.Source != p.addr || s.Stranger != 1 {
			t.Errorf("source is %v after the doubt was settled", s.Source)
		}
	})
}

func TestAnotherRemoteOpensTheLatch(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.talk(voice(320))
		moved := p.params()
		if err := leg.Set(moved); err != nil { // a re-INVITE that changes nothing
			t.Fatal(err)
		}
		next := netip.MustParseAddrPort("198.51.100.8:7000")
		p.send(next, rtp.Header{SequenceNumber: 1, SSRC: 5}, voice(160))
		l.frames(1)
		if s := leg.Stats(); s.Source != p.addr || s.Stranger != 1 {
			t.Fatalf("source %v, %d strangers", s.Source, s.Stranger)
		}
		moved.Remote = next
		if err := leg.Set(moved); err != nil {
			t.Fatal(err)
		}
		p.send(next, rtp.Header{SequenceNumber: 2, SSRC: 5}, voice(160))
		l.frames(1)
		if s := leg.Stats(); s.Source != next {
			t.Errorf("source %v, want %v", s.Source, next)
		}
	})
}

func TestGarbageIsCountedAndDropped(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.talk(voice(160))
		for _, b := range [][]byte{{}, {0x80}, []byte("OPTIONS sip:a@b SIP/2.0\r\n\r\n"), make([]byte, 3000)} {
			l.deliver(leg.Port(), p.addr, b)
			l.deliver(leg.Port()+1, p.addr, b)
		}
		p.say(nil)
		l.frames(2)
		if s := leg.Stats(); s.Malformed != 7 && s.Malformed != 8 || s.PacketsReceived != 2 {
			t.Errorf("%d malformed, %d received", s.Malformed, s.PacketsReceived)
		}
	})
}

func TestFirstPacketIsToldOnce(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		l.frames(3)
		p.talk(voice(800))
		told := only(events(leg), FirstPacket)
		if len(told) != 1 {
			t.Fatalf("told %d times", len(told))
		}
	})
}

func TestMediaTimeoutComesOncePerSilence(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		params := p.params()
		params.Timeout = DefaultTimeout
		set := func(p Params) {
			t.Helper()
			if err := leg.Set(p); err != nil {
				t.Fatal(err)
			}
		}
		timeouts := func(want int, when string) {
			t.Helper()
			told := only(events(leg), MediaTimeout)
			if len(told) != want {
				t.Errorf("%s: %d timeouts, want %d", when, len(told), want)
			}
		}
		set(params)
		l.pass(29 * time.Second)
		timeouts(0, "after 29 s")
		l.pass(2 * time.Second)
		timeouts(1, "after 31 s")
		l.pass(60 * time.Second)
		timeouts(0, "after another minute")
		p.say(voice(160))
		l.pass(31 * time.Second)
		timeouts(1, "31 s after a packet")
		held := params
		held.Receive = false
		set(held)
		l.pass(60 * time.Second)
		timeouts(0, "on hold")
		set(params)
		l.pass(29 * time.Second)
		timeouts(0, "29 s after the hold")
		l.pass(2 * time.Second)
		timeouts(1, "31 s after the hold")
	})
}

func TestParametersThatMakeNoSenseAreRefused(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		for name, change := range map[string]func(*Params){
			"no codec":          func(p *Params) { p.Codec = 0 },
			"no remote":         func(p *Params) { p.Remote = netip.AddrPort{} },
			"payload type 128":  func(p *Params) { p.PayloadType = 128 },
			"one type for both": func(p *Params) { p.DTMFPayloadType = p.PayloadType },
		} {
			params := p.params()
			change(&params)
			if err := leg.Set(params); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		if err := leg.Set(Params{}); err != nil {
			t.Errorf("on hold nothing is needed, but: %v", err)
		}
		l.frames(2)
	})
}

// After a re-INVITE to another port of the same host, what was on its way from the old port must not keep the new one
// out.
func TestALatePacketFromTheOldPortDoesNotHoldTheLatch(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.talk(voice(320))
		moved := p.params()
		moved.Remote = netip.AddrPortFrom(p.addr.Addr(), p.addr.Port()+100)
		if err := leg.Set(moved); err != nil {
			t.Fatal(err)
		}
		l.frames(1)
		p.send(p.addr, rtp.Header{SequenceNumber: 900, SSRC: 5}, voice(160))
		l.frames(1)
		p.send(moved.Remote, rtp.Header{SequenceNumber: 1, SSRC: 6}, voice(160))
		l.frames(1)
		if s := leg.Stats(); s.Source != moved.Remote {
			t.Errorf("source %v, want the new port %v", s.Source, moved.Remote)
		}
	})
}
