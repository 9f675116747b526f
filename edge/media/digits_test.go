package media

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/dtmf"
)

// press sends the packets of a key held for n frames, the last of them three times, at the pace of a phone.
func (p *phone) press(key byte, n int, ends int) {
	code, _ := dtmf.Event(key)
	start := p.stamp
	event := func(i int, end bool) {
		payload := []byte{code, 10, 0, 0}
		if end {
			payload[1] |= 0x80
		}
		binary.BigEndian.PutUint16(payload[2:], uint16(i*160))
		h := rtp.Header{PayloadType: keysPT, Marker: i == 1 && !end, SequenceNumber: p.seq, Timestamp: start, SSRC: p.ssrc}
		p.seq++
		p.send(p.addr, h, payload)
	}
	for i := 1; i < n; i++ {
		event(i, false)
		p.stamp += 160
		p.line.frames(1)
	}
	for range ends {
		event(n, true)
	}
	p.stamp += 160
	p.line.frames(1)
}

func digits(told []Event) (keys string) {
	for _, e := range only(told, Digit) {
		keys += string(e.Digit)
	}
	return keys
}

func TestEachKeyIsToldOnce(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.talk(voice(800))
		for _, key := range []byte("159#*0DD") {
			p.press(key, 5, 3)
			p.talk(voice(320))
		}
		told := events(leg)
		if got := digits(told); got != "159#*0DD" {
			t.Errorf("digits %q", got)
		}
		ends := only(told, DigitEnd)
		if len(ends) != 8 {
			t.Fatalf("%d ends of 8 keys", len(ends))
		}
		for i, e := range ends {
			if e.Duration != 5*Frame || e.Source != SourceRTP {
				t.Errorf("end %d: %+v", i, e)
			}
		}
		if first, end := only(told, Digit)[0], ends[0]; !first.At.Before(end.At) {
			t.Error("the key was told at its end, not at its start")
		}
	})
}

func TestKeyWhoseEndIsLostIsReleased(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		p.press('1', 4, 0)
		p.press('1', 4, 0)
		l.frames(10)
		told := events(leg)
		if digits(told) != "11" || len(only(told, DigitEnd)) != 2 {
			t.Errorf("%+v", told)
		}
	})
}

func TestSendDigits(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(16000))}, Loop: 1})
		l.frames(3)
		leg.SendDigits("1w#", 100*time.Millisecond, 60*time.Millisecond)
		leg.SendDigits("9", 100*time.Millisecond, 60*time.Millisecond)
		l.frames(80)
		if done := only(events(leg), DigitsSent); len(done) != 2 || done[0].Err != nil || done[1].Err != nil {
			t.Errorf("%+v", done)
		}
		var receiver dtmf.Receiver
		var keys string
		for _, q := range p.keys() {
			if key, ok := receiver.Packet(q.payload, q.Timestamp, q.Marker); ok {
				keys += string(key)
				if !q.Marker {
					t.Error("a key begins without the marker")
				}
			}
			if _, held, over := receiver.Ended(); over && held != 800 {
				t.Errorf("held for %d samples", held)
			}
		}
		if keys != "1#9" || len(p.keys()) != 3*(5+2) {
			t.Errorf("keys %q in %d packets", keys, len(p.keys()))
		}
		// One packet per frame throughout, one sequence, and the prompt waits.
		for i, q := range p.received[1:] {
			if before := p.received[i]; q.SequenceNumber != before.SequenceNumber+1 || q.at.Sub(before.at) != Frame {
				t.Errorf("packet %d: %+v does not follow on %+v", i+1, q.Header, before.Header)
			}
		}
		heard := p.heard()
		rest := heard[len(heard)-160*20:]
		l.mustContain(voice(16000), rest, "the prompt after the keys")
		if at := l.mustContain(heard, voice(16000)[480:960], "the prompt, after a wait"); at < 480 {
			t.Errorf("the prompt goes on at %d", at)
		}
	})
}

func TestDigitsThatCannotBeSent(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		sent := func() Event {
			t.Helper()
			done := only(events(leg), DigitsSent)
			if len(done) != 1 {
				t.Fatalf("%d events", len(done))
			}
			return done[0]
		}
		leg.SendDigits("12x", 100*time.Millisecond, 60*time.Millisecond)
		l.frames(1)
		if sent().Err == nil {
			t.Error("x was sent")
		}
		leg.SendDigits("123456789", 100*time.Millisecond, 60*time.Millisecond)
		l.frames(3)
		params := p.params()
		params.DTMF = false
		if err := leg.Set(params); err != nil {
			t.Fatal(err)
		}
		l.frames(1)
		if !errors.Is(sent().Err, ErrNoDTMF) {
			t.Error("sending went on without telephone-event")
		}
		leg.SendDigits("1", 100*time.Millisecond, 60*time.Millisecond)
		l.frames(1)
		if !errors.Is(sent().Err, ErrNoDTMF) {
			t.Error("sent without telephone-event")
		}
		if err := leg.Set(p.params()); err != nil {
			t.Fatal(err)
		}
		leg.SendDigits("123", 100*time.Millisecond, 60*time.Millisecond)
		l.frames(1)
		leg.Close()
		l.frames(1)
		if !errors.Is(sent().Err, ErrClosed) {
			t.Error("a closed leg sent its digits")
		}
	})
}

func TestBridgePassesKeysOn(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMA, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		alice.talk(voice(1600))
		alice.press('7', 8, 3)
		alice.talk(voice(800))
		alice.press('8', 1, 3) // a tap: shorter than what receivers take
		alice.press('8', 4, 0) // its end is lost
		alice.talk(voice(1600))
		l.frames(20)
		if got := digits(events(a)); got != "788" {
			t.Errorf("Alice's leg tells %q", got)
		}
		if got := digits(events(b)); got != "" {
			t.Errorf("Bob's leg tells %q", got)
		}
		var receiver dtmf.Receiver
		var keys string
		var held []uint32
		for _, q := range bob.keys() {
			if key, ok := receiver.Packet(q.payload, q.Timestamp, q.Marker); ok {
				keys += string(key)
			}
			if _, n, over := receiver.Ended(); over {
				held = append(held, n)
			}
		}
		if keys != "788" || len(held) != 3 {
			t.Fatalf("Bob gets %q, releases %v", keys, held)
		}
		if held[0] < 8*160 || held[0] > 10*160 || held[1] < 320 || held[1] > 480 {
			t.Errorf("keys are held for %v samples", held)
		}
		for i, q := range bob.received[1:] {
			if before := bob.received[i]; q.SequenceNumber != before.SequenceNumber+1 || q.at.Sub(before.at) != Frame {
				t.Errorf("packet %d: %+v does not follow on %+v", i+1, q.Header, before.Header)
			}
		}
	})
}

func TestHeldKeyIsReleasedWhenTheBridgeEnds(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		alice.press('5', 6, 0)
		a.Unbridge()
		l.frames(10)
		keys := bob.keys()
		if len(keys) < 3 || keys[len(keys)-1].payload[1]&0x80 == 0 {
			t.Errorf("%d packets, the last without end bit", len(keys))
		}
		if last := bob.received[len(bob.received)-1]; last.PayloadType != bob.pt {
			t.Error("audio does not come back")
		}
	})
}
