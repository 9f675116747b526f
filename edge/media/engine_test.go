package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/detect"
)

func TestPortsRunOutAndRestAfterUse(t *testing.T) {
	virtual(t, func(c *Config) { c.PortMin, c.PortMax = 20001, 20009 }, func(l *line) {
		seen := map[uint16]bool{}
		for range 4 {
			seen[l.leg(nil).Port()] = true
		}
		for _, port := range []uint16{20002, 20004, 20006, 20008} {
			if !seen[port] {
				t.Errorf("port %d was not used", port)
			}
		}
		if _, err := l.engine.NewLeg(LegConfig{}); !errors.Is(err, ErrNoPorts) {
			t.Fatalf("a fifth leg: %v", err)
		}
		l.frames(1)
		freed := l.legs[2].Port()
		l.legs[2].Close()
		l.pass(9 * time.Second)
		if _, err := l.engine.NewLeg(LegConfig{}); !errors.Is(err, ErrNoPorts) {
			t.Fatalf("9 s after a port was freed: %v", err)
		}
		if s := l.engine.Stats(); s.PortsFree != 0 || s.PortsTaken != 4 || s.Legs != 3 {
			t.Errorf("%+v", s)
		}
		l.pass(2 * time.Second)
		if again := l.leg(nil); again.Port() != freed {
			t.Errorf("port %d, want %d", again.Port(), freed)
		}
	})
}

func TestPortsOfOtherProgramsArePassedOver(t *testing.T) {
	virtual(t, func(c *Config) { c.PortMin, c.PortMax = 20000, 20007 }, func(l *line) {
		l.taken[20000], l.taken[20003] = true, true // one for RTP, one for RTCP
		a, b := l.leg(nil), l.leg(nil)
		if a.Port()+b.Port() != 20004+20006 {
			t.Errorf("ports %d and %d", a.Port(), b.Port())
		}
		if _, err := l.engine.NewLeg(LegConfig{}); !errors.Is(err, ErrNoPorts) {
			t.Errorf("a third leg: %v", err)
		}
		if len(l.ports) != 4 {
			t.Errorf("%d ports are open", len(l.ports))
		}
	})
}

func TestErrorsOfTheSystemAreReported(t *testing.T) {
	open := func(int) (PacketPort, error) { return nil, syscall.EMFILE }
	e, err := New(Config{Open: open})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.NewLeg(LegConfig{}); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("%v", err)
	}
}

func TestConfigsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"shards":     {Shards: -1},
		"no pair":    {PortMin: 20001, PortMax: 20002},
		"backwards":  {PortMin: 20010, PortMax: 20000},
		"over 65535": {PortMin: 60000, PortMax: 70000},
		"IPv6":       {IP: netip.IPv6Loopback()},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEventsThatAnswerArriveThoughNobodyReads(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, err := l.engine.NewLeg(LegConfig{EventBuffer: 2})
		if err != nil {
			t.Fatal(err)
		}
		l.legs = append(l.legs, leg)
		p := &phone{line: l, addr: netip.MustParseAddrPort("192.0.2.9:4000"), leg: leg, codec: codec.PCMU, ssrc: 1}
		if err := leg.Set(p.params()); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			leg.Play(PlayConfig{})
		}
		l.frames(1)
		p.press('1', 3, 3)
		if n := len(events(leg)); n != 2 {
			t.Fatalf("%d events in a channel of 2", n)
		}
		l.frames(1)
		p.press('2', 3, 3)
		more := events(leg)
		l.frames(1)
		more = append(more, events(leg)...)
		if n := len(only(more, PlayDone)); n != 3 {
			t.Errorf("%d of the 3 remaining ends of plays came", n)
		}
		if leg.Stats().DroppedEvents == 0 {
			t.Error("dropped events were not counted")
		}
		// A reader that is gone does not keep a closed leg.
		for range 5 {
			leg.Play(PlayConfig{})
		}
		leg.Close()
		l.pass(3 * time.Second)
		if n := l.engine.Stats().Legs; n != 0 {
			t.Errorf("%d legs are left", n)
		}
	})
}

func TestClosedLegDoesNothing(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.talk(voice(1600))
		leg.Close()
		l.frames(1)
		if id := leg.Play(PlayConfig{}); id != 0 {
			t.Error("played")
		}
		if id := leg.Record(RecordConfig{Writer: &tape{}}); id != 0 {
			t.Error("recorded")
		}
		if err := leg.Set(p.params()); !errors.Is(err, ErrClosed) {
			t.Errorf("set: %v", err)
		}
		leg.SendDigits("1", time.Second, time.Second)
		leg.Unbridge()
		l.frames(1)
		if s := leg.Stats(); s.PacketsReceived != 10 || s.PacketsSent != 10 || s.MOS < 4 || s.Codec != codec.PCMU {
			t.Errorf("after its end the leg's statistics are %+v", s)
		}
		if n := l.opened; n != 2 {
			t.Errorf("%d ports were opened", n)
		}
	})
}

// A command may overtake Close on its way: the shard then finds a closed leg.
func TestCommandsBehindCloseAreHarmless(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, _ := l.call(codec.PCMU, nil)
		l.frames(1)
		r := newRecorder(1, codec.PCMU, RecordConfig{Writer: &tape{}})
		l.engine.writers.add(r)
		leg.Close()
		for _, c := range []command{{op: opRecord, recorder: r}, {op: opPlay, player: newPlayer(1, PlayConfig{})}, {op: opUnbridge}, {op: opClose}} {
			c.leg = leg.own
			l.engine.send(leg.shard, c)
		}
		l.frames(1)
		synctest.Wait()
		if !r.finished.Load() {
			t.Error("the recording's goroutine is still there")
		}
	})
}

func TestTickDoesNotAllocate(t *testing.T) {
	e, now := busyEngine(t, 100)
	frame := func() {
		for range slotsPerFrame {
			e.Tick(now)
			now = now.Add(Slot)
		}
	}
	for range 100 {
		frame()
	}
	if n := testing.AllocsPerRun(300, frame); n != 0 {
		t.Errorf("%v allocations per frame of 100 legs", n)
	}
	endBusy(t, e, now)
}

func TestRoomsDoNotAllocate(t *testing.T) {
	for _, legs := range []int{3, 10, 100} {
		e, now := busyRooms(t, 100/legs, legs, true)
		frame := func() {
			for range slotsPerFrame {
				e.Tick(now)
				now = now.Add(Slot)
			}
		}
		for range 100 {
			frame()
		}
		if n := testing.AllocsPerRun(200, frame); n != 0 {
			t.Errorf("%v allocations per frame of rooms of %d legs", n, legs)
		}
		endBusy(t, e, now)
	}
}

func BenchmarkRooms(b *testing.B) {
	for _, legs := range []int{3, 10, 100, 250} {
		b.Run(fmt.Sprintf("legs=%d", legs), func(b *testing.B) {
			rooms := max(1, 300/legs)
			e, now := busyRooms(b, rooms, legs, false)
			b.ReportAllocs()
			for b.Loop() {
				for range slotsPerFrame {
					e.Tick(now)
					now = now.Add(Slot)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rooms*legs), "ns/leg-frame")
			endBusy(b, e, now)
		})
	}
}

// busyRooms has rooms in which every leg talks in one of two codecs, one of them with a gain, one whispering, and one that a
// detector hears if asked for; the rooms are recorded.
func busyRooms(tb testing.TB, rooms, legs int, detects bool) (*Engine, time.Time) {
	tb.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := talkers(tb, &now)
	for range rooms {
		room, err := e.NewRoom(RoomConfig{})
		if err != nil {
			tb.Fatal(err)
		}
		room.Record(RecordConfig{Writer: discard{}})
		var first *Leg
		for i := range legs {
			leg, err := e.NewLeg(LegConfig{})
			if err != nil {
				tb.Fatal(err)
			}
			seat := Seat{}
			switch i {
			case 0:
				first = leg
				if err := leg.SetGain(Both, 3); err != nil {
					tb.Fatal(err)
				}
			case 2:
				if detects {
					leg.Detect(detect.New(detect.Tuning{}, detect.WantFax, nil))
				}
			case 3:
				seat = Seat{Role: Whisper, To: first}
			}
			c := []codec.ID{codec.PCMU, codec.PCMA}[i%2]
			if err := leg.Set(Params{Remote: busyRemote, Codec: c, Send: true, Receive: true, Timeout: DefaultTimeout}); err != nil {
				tb.Fatal(err)
			}
			if err := room.Join(leg, seat); err != nil {
				tb.Fatal(err)
			}
			e.Tick(now)
		}
	}
	return e, now
}

func BenchmarkTick(b *testing.B) {
	for _, legs := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("legs=%d", legs), func(b *testing.B) {
			e, now := busyEngine(b, legs)
			b.ReportAllocs()
			for b.Loop() {
				for range slotsPerFrame {
					e.Tick(now)
					now = now.Add(Slot)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(legs), "ns/leg-frame")
			endBusy(b, e, now)
		})
	}
}

// talker is a PacketPort at whose other end somebody always talks, and that allocates nothing.
type talker struct {
	packet [rtpHeaderSize + samplesPerFrame]byte
	talks  bool
	asked  bool
}

func (p *talker) Recv(buf []byte) (int, netip.AddrPort, bool) {
	if p.asked = !p.asked; !p.asked || !p.talks {
		return 0, netip.AddrPort{}, false
	}
	n := copy(buf, p.packet[:])
	sequence, stamp := p.packet[2:4], p.packet[4:8]
	binary.BigEndian.PutUint16(sequence, binary.BigEndian.Uint16(sequence)+1)
	binary.BigEndian.PutUint32(stamp, binary.BigEndian.Uint32(stamp)+uint32(samplesPerFrame))
	return n, busyRemote, true
}

func (p *talker) Send([]byte, netip.AddrPort) error { return nil }
func (p *talker) Close() error                      { return nil }

var busyRemote = netip.MustParseAddrPort("192.0.2.1:4000")

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// busyEngine has legs that receive, play in a loop and record both directions; every second one is bridged.
func busyEngine(tb testing.TB, legs int) (*Engine, time.Time) {
	tb.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := talkers(tb, &now)
	loop := prompt(voice(4001))
	var before *Leg
	for i := range legs {
		leg, err := e.NewLeg(LegConfig{Near: before})
		if err != nil {
			tb.Fatal(err)
		}
		c := []codec.ID{codec.PCMU, codec.PCMA}[i/2%2]
		if err := leg.Set(Params{Remote: busyRemote, Codec: c, Send: true, Receive: true, Timeout: DefaultTimeout}); err != nil {
			tb.Fatal(err)
		}
		leg.Play(PlayConfig{Prompts: []*Prompt{loop}})
		leg.Record(RecordConfig{Writer: discard{}, Channels: 1 + i%2, Silence: time.Hour})
		if i%4 == 1 {
			if err := Bridge(before, leg); err != nil {
				tb.Fatal(err)
			}
		}
		before = leg
		e.Tick(now)
	}
	return e, now
}

// talkers is an engine at whose other ends somebody always talks.
func talkers(tb testing.TB, now *time.Time) *Engine {
	tb.Helper()
	open := func(port int) (PacketPort, error) {
		p := &talker{}
		if port%2 == 0 {
			p.talks = true
			if _, err := (rtp.Header{Version: 2, SSRC: uint32(port)}).MarshalTo(p.packet[:]); err != nil {
				return nil, err
			}
			copy(p.packet[rtpHeaderSize:], voice(samplesPerFrame))
		}
		return p, nil
	}
	e, err := New(Config{Shards: 1, Open: open, Now: func() time.Time { return *now }})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// endBusy closes every leg and room and ticks until their recordings are written.
func endBusy(tb testing.TB, e *Engine, now time.Time) {
	tb.Helper()
	e.shards[0].closeAll(now)
	for !e.shards[0].idle() {
		e.Tick(now)
		now = now.Add(Slot)
		runtime.Gosched()
	}
	e.writers.wait()
}

// Real sockets, real threads, and several goroutines on the same legs; nothing here looks at the clock.
func TestRunWithRealSockets(t *testing.T) {
	e, err := New(Config{Shards: 2, IP: netip.MustParseAddr("127.0.0.1"), PortMin: 30000, PortMax: 31999})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() { realCall(t, e) })
	}
	calls.Wait()

	// What is left when the engine ends is ended too.
	leg, err := e.NewLeg(LegConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var written tape
	leg.Record(RecordConfig{Writer: &written})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range leg.Events() {
	}
	leg.Close()
	if err := leg.Set(Params{}); !errors.Is(err, ErrClosed) {
		t.Errorf("set after the end: %v", err)
	}
	if _, err := e.NewLeg(LegConfig{}); !errors.Is(err, ErrClosed) {
		t.Errorf("a leg after the end: %v", err)
	}
	if n := e.Stats().Legs; n != 0 {
		t.Errorf("%d legs are left", n)
	}
}

// realCall makes two legs that send to each other, and lets one hear what the other plays.
func realCall(t *testing.T, e *Engine) {
	a, err := e.NewLeg(LegConfig{})
	if err != nil {
		t.Error(err)
		return
	}
	b, err := e.NewLeg(LegConfig{Near: a})
	if err != nil {
		t.Error(err)
		return
	}
	to := func(other *Leg) Params {
		return Params{
			Remote: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), other.Port()),
			Codec:  codec.PCMU, DTMF: true, DTMFPayloadType: keysPT, Send: true, Receive: true,
		}
	}
	for leg, other := range map[*Leg]*Leg{a: b, b: a} {
		if err := leg.Set(to(other)); err != nil {
			t.Error(err)
		}
	}
	wait := func(leg *Leg, kind EventKind) Event {
		for event := range leg.Events() {
			if event.Kind == kind {
				return event
			}
		}
		t.Errorf("the leg ended without %v", kind)
		return Event{}
	}
	wait(b, FirstPacket)
	var written tape
	record := b.Record(RecordConfig{Writer: &written, Channels: 1})
	play := a.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(1600))}, Loop: 1})
	var readers sync.WaitGroup
	readers.Go(func() { a.Stats(); e.Stats(); e.Overloaded() })
	if done := wait(a, PlayDone); done.Play != play || done.Reason != Ended {
		t.Errorf("%+v", done)
	}
	a.SendDigits("5", 60*time.Millisecond, 40*time.Millisecond)
	if got := wait(b, Digit); got.Digit != '5' {
		t.Errorf("%+v", got)
	}
	b.StopRecord(record)
	if done := wait(b, RecordDone); done.Err != nil || done.Duration == 0 {
		t.Errorf("%+v", done)
	}
	readers.Wait()
	a.Close()
	b.Close()
	for range a.Events() {
	}
	for range b.Events() {
	}
	if s := a.Stats(); s.PacketsSent == 0 || s.PacketsReceived == 0 || s.Stranger != 0 {
		t.Errorf("%+v", s)
	}
}

// Who refuses calls while the engine is overloaded leaves its threads without legs: they must not stay overloaded then.
func TestOverloadEndsWithTheLastLeg(t *testing.T) {
	e, err := New(Config{
		Shards: 1, IP: netip.MustParseAddr("127.0.0.1"), PortMin: 32000, PortMax: 32099,
		MaxLateness: 1, // every slot is later than a nanosecond
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	leg, err := e.NewLeg(LegConfig{})
	if err != nil {
		t.Fatal(err)
	}
	until := func(overloaded bool) {
		for e.Overloaded() != overloaded && t.Context().Err() == nil {
			runtime.Gosched()
		}
	}
	until(true)
	leg.Close()
	for range leg.Events() {
	}
	until(false)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
