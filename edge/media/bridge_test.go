package media

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func TestBridgedLegsHearEachOther(t *testing.T) {
	for _, codecs := range [][2]codec.ID{{codec.PCMU, codec.PCMU}, {codec.PCMA, codec.PCMA}, {codec.PCMU, codec.PCMA}, {codec.PCMA, codec.PCMU}} {
		t.Run(codecs[0].String()+"-"+codecs[1].String(), func(t *testing.T) {
			virtual(t, nil, func(l *line) {
				a, alice := l.call(codecs[0], nil)
				b, bob := l.call(codecs[1], a)
				if err := Bridge(a, b); err != nil {
					t.Fatal(err)
				}
				fromAlice, fromBob := voice(8000), voice(8160)
				for i := range 50 {
					alice.say(fromAlice[i*160 : (i+1)*160])
					bob.say(fromBob[i*160 : (i+1)*160])
					l.frames(1)
				}
				l.frames(5)
				heard := func(p *phone, said []byte, from codec.ID) {
					t.Helper()
					want := make([]byte, len(said))
					codec.Transcode(want, said, from, p.codec)
					if at := l.mustContain(p.heard(), want, "the other side"); at > 4*160 {
						t.Errorf("it is heard after %v", duration(int64(at)))
					}
				}
				heard(bob, fromAlice, codecs[0])
				heard(alice, fromBob[:8000], codecs[1])
				for i, q := range bob.audio()[1:] {
					if before := bob.audio()[i]; q.SequenceNumber != before.SequenceNumber+1 || q.Timestamp != before.Timestamp+160 {
						t.Errorf("packet %d does not follow on the one before", i+1)
					}
				}
			})
		})
	}
}

func TestUnbridgedLegsHearSilence(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, a)
		c, carol := l.call(codec.PCMU, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		alice.talk(voice(1600))
		// Alice goes on with Carol: Bob is alone.
		if err := Bridge(a, c); err != nil {
			t.Fatal(err)
		}
		alice.talk(silence(codec.PCMU, 480))
		bob.received, carol.received = nil, nil
		alice.talk(voice(1760))
		l.frames(3)
		if heard := bob.heard(); !bytes.Equal(heard, silence(codec.PCMU, len(heard))) {
			t.Error("Bob hears what is said to Carol")
		}
		l.mustContain(carol.heard(), voice(1760), "Carol")
		c.Unbridge()
		l.frames(1)
		carol.received = nil
		alice.talk(voice(1600))
		if heard := carol.heard(); !bytes.Equal(heard, silence(codec.PCMU, len(heard))) {
			t.Error("Carol hears Alice after the bridge ended")
		}
	})
}

func TestClosedLegLeavesTheBridge(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		alice.talk(voice(800))
		a.Close()
		l.frames(5)
		bob.received = nil
		l.frames(5)
		if heard := bob.heard(); !bytes.Equal(heard, silence(codec.PCMU, 800)) {
			t.Error("Bob does not hear silence after Alice left")
		}
		if err := Bridge(a, b); !errors.Is(err, ErrClosed) {
			t.Errorf("bridging a closed leg: %v", err)
		}
		if err := Bridge(b, a); !errors.Is(err, ErrClosed) {
			t.Errorf("bridging with a closed leg: %v", err)
		}
	})
}

func TestOnlyTwoLegsOfOneEngineAreBridged(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a := l.leg(nil)
		if err := Bridge(a, a); err == nil {
			t.Error("a leg was bridged with itself")
		}
		withStranger(l, func(stranger *Leg) {
			if err := Bridge(a, stranger); !errors.Is(err, ErrOtherShard) {
				t.Errorf("got %v", err)
			}
		})
		l.frames(1)
	})
}

// withStranger lends a leg of another engine on the same network.
func withStranger(l *line, use func(*Leg)) {
	other, err := New(Config{Shards: 1, PortMin: 40000, PortMax: 40001, Now: func() time.Time { return l.now }, Open: l.open})
	if err != nil {
		l.Fatal(err)
	}
	leg, err := other.NewLeg(LegConfig{})
	if err != nil {
		l.Fatal(err)
	}
	use(leg)
	leg.Close()
	other.Tick(l.now)
	other.Tick(l.now)
}

func TestPlayCoversTheBridgeUntilItEnds(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		fromAlice, whisper := voice(8000), voice(1601)
		alice.talk(fromAlice[:1600])
		b.Play(PlayConfig{Prompts: []*Prompt{prompt(whisper)}, Loop: 1})
		alice.talk(fromAlice[1600:])
		l.frames(3)
		at := l.mustContain(bob.heard(), whisper, "the whisper")
		after := at + 11*160
		rest := bob.heard()[after:]
		l.mustContain(fromAlice, rest[:4800], "Alice after the whisper")
		if bytes.Contains(alice.heard(), whisper[:160]) {
			t.Error("the other side hears the whisper too")
		}
	})
}

func TestRecordingABridgeHasBothParties(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMA, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		var written tape
		id := a.Record(RecordConfig{Writer: &written, Channels: 2})
		fromAlice, fromBob := voice(4800), voice(4960)[:4800]
		for i := range 30 {
			alice.say(fromAlice[i*160 : (i+1)*160])
			bob.say(fromBob[i*160 : (i+1)*160])
			l.frames(1)
		}
		l.frames(4)
		l.recordDone(a, id)
		want := make([]byte, len(fromBob))
		codec.Transcode(want, fromBob, codec.PCMA, codec.PCMU)
		l.mustContain(channel(written.read(), 0), fromAlice, "Alice's channel")
		l.mustContain(channel(written.read(), 1), want, "Bob's channel")
	})
}

func TestLossIsCoveredUpInABridgeAndFadesAway(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		audio := voice(8000)
		alice.talk(audio[:1600])
		for range 5 {
			alice.miss(160)
			l.frames(1)
		}
		alice.talk(audio[2400:4000])
		alice.talk(silence(codec.PCMU, 640))
		heard := bob.heard()
		before := l.mustContain(heard, audio[:1600], "before the loss")
		after := l.mustContain(heard, audio[2400:4000], "after the loss")
		gap := heard[before+1600 : after]
		if len(gap) != 800 {
			t.Fatalf("the loss of 5 frames takes %d samples", len(gap))
		}
		loudness := func(b []byte) (sum int) {
			pcm := make([]int16, len(b))
			codec.PCMU.Decode(pcm, b)
			for _, s := range pcm {
				sum += max(int(s), -int(s))
			}
			return sum
		}
		last := loudness(heard[before+1440 : before+1600])
		for i := range concealedFrames {
			now := loudness(gap[i*160 : (i+1)*160])
			if now == 0 || now >= last {
				t.Errorf("frame %d of the gap has loudness %d after %d", i, now, last)
			}
			last = now
		}
		if !bytes.Equal(gap[480:], silence(codec.PCMU, 320)) {
			t.Error("after 60 ms the gap is not silent")
		}
		if s := a.Stats(); s.Concealed != 3 || s.Lost != 5 {
			t.Errorf("concealed %d, lost %d", s.Concealed, s.Lost)
		}
	})
}
