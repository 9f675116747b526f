package media

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// sine is n samples of a tone as a phone sends it. Tones at multiples of 50 Hz are whole periods in a frame.
func sine(c codec.ID, hz, amplitude float64, n int) []byte {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(math.Round(amplitude * math.Sin(2*math.Pi*hz*float64(i)/SampleRate)))
	}
	b := make([]byte, n)
	c.Encode(b, pcm)
	return b
}

// amplitude is how strong a tone is in what was heard.
func amplitude(c codec.ID, heard []byte, hz float64) float64 {
	pcm := make([]int16, len(heard))
	c.Decode(pcm, heard)
	var re, im float64
	for i, s := range pcm {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / SampleRate)
		re += float64(s) * cos
		im += float64(s) * sin
	}
	return 2 * math.Hypot(re, im) / float64(len(pcm))
}

// voices are phones that each say a tone of their own: 400 Hz, 500 Hz, and so on.
type voices struct {
	*line
	phones []*phone
	loud   []float64 // amplitudes
}

func hz(i int) float64 { return float64(400 + 100*i) }

// conference is n legs with phones that all talk in a room; every second one in A-law.
func (l *line) conference(n int) (*Room, *voices) {
	l.Helper()
	room := l.room()
	v := &voices{line: l}
	for i := range n {
		leg, p := l.call([]codec.ID{codec.PCMU, codec.PCMA}[i%2], nil)
		v.phones = append(v.phones, p)
		v.loud = append(v.loud, 4000)
		l.join(room, leg, Seat{})
	}
	l.frames(1)
	return room, v
}

func (l *line) room() *Room {
	l.Helper()
	room, err := l.engine.NewRoom(RoomConfig{})
	if err != nil {
		l.Fatal(err)
	}
	l.rooms = append(l.rooms, room)
	return room
}

func (l *line) join(r *Room, leg *Leg, s Seat) {
	l.Helper()
	if err := r.Join(leg, s); err != nil {
		l.Fatal(err)
	}
}

// talk lets everybody whose loudness is not 0 talk for n frames.
func (v *voices) talk(n int) {
	for range n {
		for i, p := range v.phones {
			if v.loud[i] == 0 {
				p.say(silence(p.codec, samplesPerFrame))
			} else {
				p.say(sine(p.codec, hz(i), v.loud[i], samplesPerFrame))
			}
		}
		v.frames(1)
	}
}

// hears lists whom a phone has heard in the last half second of what it received.
func (v *voices) hears(p *phone) (heard []int) {
	b := p.heard()
	b = b[len(b)-4000:]
	for i := range v.phones {
		if amplitude(p.codec, b, hz(i)) > 100 {
			heard = append(heard, i)
		}
	}
	return heard
}

// expect checks whom each phone hears.
func (v *voices) expect(want ...[]int) {
	v.Helper()
	for i, p := range v.phones {
		if got := v.hears(p); !slices.Equal(got, want[i]) {
			v.Errorf("phone %d hears %v, not %v", i, got, want[i])
		}
	}
}

func TestEverybodyHearsAllOthersInARoom(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(4)
		if err := room.Change(v.phones[3].leg, Seat{Role: Listen}); err != nil {
			t.Fatal(err)
		}
		v.talk(50)
		v.expect([]int{1, 2}, []int{0, 2}, []int{0, 1}, []int{0, 1, 2})
		// As loud as they were said: adding is all that happens.
		for _, p := range v.phones {
			for _, i := range v.hears(p) {
				if got := amplitude(p.codec, p.heard()[len(p.heard())-4000:], hz(i)); math.Abs(got-4000) > 80 {
					t.Errorf("tone %d has amplitude %.0f", i, got)
				}
			}
			for i, q := range p.audio()[1:] {
				if before := p.audio()[i]; q.SequenceNumber != before.SequenceNumber+1 || q.Timestamp != before.Timestamp+160 {
					t.Fatalf("packet %d does not follow on the one before", i+1)
				}
			}
		}
		if room.Legs() != 4 {
			t.Errorf("%d legs", room.Legs())
		}
	})
}

func TestSumsOverFullScaleAreClipped(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(3)
		if err := room.Change(v.phones[2].leg, Seat{Role: Listen}); err != nil {
			t.Fatal(err)
		}
		v.loud = []float64{30000, 30000, 0}
		v.talk(50)
		pcm := make([]int16, 4000)
		heard := v.phones[2].heard()
		codec.PCMU.Decode(pcm, heard[len(heard)-4000:])
		if top := slices.Max(pcm); top < 32000 {
			t.Errorf("the loudest sample is %d", top)
		}
		// What wraps around would turn a loud wave into steps of twice full scale.
		for i := range pcm[1:] {
			if d := int(pcm[i+1]) - int(pcm[i]); d > 45000 || d < -45000 {
				t.Fatalf("from %d to %d", pcm[i], pcm[i+1])
			}
		}
	})
}

func TestWhisperIsHeardByOneAlone(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(4)
		agent, supervisor := v.phones[1].leg, v.phones[3].leg
		if err := room.Change(supervisor, Seat{Role: Whisper, To: agent}); err != nil {
			t.Fatal(err)
		}
		v.talk(50)
		v.expect([]int{1, 2}, []int{0, 2, 3}, []int{0, 1}, []int{0, 1, 2})
		// To someone who says nothing.
		v.loud[1] = 0
		v.talk(50)
		v.expect([]int{2}, []int{0, 2, 3}, []int{0}, []int{0, 2})
		// To someone who is not there.
		room.Leave(agent)
		v.talk(50)
		v.expect([]int{2}, nil, []int{0}, []int{0, 2})
		// And there again, before he barges in.
		l.join(room, agent, Seat{Role: Listen})
		v.talk(50)
		v.expect([]int{2}, []int{0, 2, 3}, []int{0}, []int{0, 2})
		if err := room.Change(supervisor, Seat{}); err != nil {
			t.Fatal(err)
		}
		v.talk(50)
		v.expect([]int{2, 3}, []int{0, 2, 3}, []int{0, 3}, []int{0, 2})
	})
}

func TestSeatsThatMakeNoSenseAreRefused(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(1)
		leg := v.phones[0].leg
		for _, s := range []Seat{{Role: 3}, {Role: Whisper}, {Role: Whisper, To: leg}, {Role: Listen, To: leg}} {
			if room.Join(leg, s) == nil || room.Change(leg, s) == nil {
				t.Errorf("%v", s)
			}
		}
		withStranger(l, func(stranger *Leg) {
			if err := room.Join(stranger, Seat{}); !errors.Is(err, ErrOtherShard) {
				t.Errorf("got %v", err)
			}
		})
		gone := l.leg(nil)
		gone.Close()
		if err := room.Join(gone, Seat{}); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		room.Close()
		if err := room.Join(leg, Seat{}); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		if room.Play(PlayConfig{}) != 0 || room.Record(RecordConfig{Writer: discard{}}) != 0 {
			t.Error("a closed room plays or records")
		}
		l.frames(2)
		if room.Legs() != 0 {
			t.Errorf("%d legs", room.Legs())
		}
	})
}

func TestMutedLegIsHeardByNobody(t *testing.T) {
	virtual(t, nil, func(l *line) {
		_, v := l.conference(3)
		v.phones[0].leg.SetMute(In, true)
		v.phones[1].leg.SetMute(Out, true)
		v.talk(50)
		v.expect([]int{1, 2}, nil, []int{1})
		v.phones[0].leg.SetMute(Both, false)
		v.phones[1].leg.SetMute(Both, false)
		v.talk(50)
		v.expect([]int{1, 2}, []int{0, 2}, []int{0, 1})
	})
}

func TestTheThreeLoudestAreHeard(t *testing.T) {
	virtual(t, nil, func(l *line) {
		_, v := l.conference(7)
		v.loud = []float64{1000, 8000, 2000, 7000, 3000, 6000, 0}
		v.talk(100)
		others := []int{1, 3, 5}
		v.expect(others, []int{3, 5}, others, []int{1, 5}, others, []int{1, 3}, others)
		// Somebody much louder is heard, instead of the softest.
		v.loud[6] = 16000
		v.talk(50)
		others = []int{1, 3, 6}
		v.expect(others, []int{3, 6}, others, []int{1, 6}, others, others, []int{1, 3})
		// When two of them have said all, others come in.
		v.loud[6], v.loud[1] = 0, 0
		v.talk(100)
		others = []int{3, 4, 5}
		v.expect(others, others, others, []int{4, 5}, []int{3, 5}, []int{3, 4}, others)
	})
}

func TestVoicesAreNotChopped(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(6)
		listener, ears := l.call(codec.PCMU, nil)
		l.join(room, listener, Seat{Role: Listen})
		// Three hold the floor.
		v.loud = []float64{4000, 4000, 4000, 0, 0, 0}
		v.talk(50)
		// The others are as loud, a little more or less, and the three pause for 80 ms now and then, as between words.
		ears.received = nil
		for round := range 10 {
			wave := float64(round%3) * 300
			v.loud = []float64{4000, 3900 - wave, 4100, 4000 + wave, 3800, 4300 - wave}
			v.talk(10)
			v.loud[round%3] = 0
			v.talk(4)
		}
		for i := range 6 {
			got := amplitude(codec.PCMU, ears.heard(), hz(i))
			if held := i < 3; held != (got > 1000) {
				t.Errorf("voice %d has amplitude %.0f", i, got)
			}
		}
		// The floor is taken by whoever goes on when one has finished, and within a quarter of a second.
		v.loud = []float64{4000, 4000, 0, 4000, 0, 0}
		ears.received = nil
		v.talk(25)
		if got := amplitude(codec.PCMU, ears.heard()[2000:], hz(3)); got < 3500 {
			t.Errorf("who goes on has amplitude %.0f", got)
		}
	})
}

func TestRecordingOfARoomIsTheMixToTheSample(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room := l.room()
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMA, nil)
		c, carol := l.call(codec.PCMU, nil)
		l.join(room, a, Seat{})
		l.join(room, b, Seat{})
		l.join(room, c, Seat{Role: Listen})
		l.frames(1)
		var written tape
		id := room.Record(RecordConfig{Writer: &written, Channels: 2})
		fromAlice, fromBob := voice(4800), voice(4960)[:4800]
		codec.Transcode(fromBob, fromBob, codec.PCMU, codec.PCMA)
		for i := range 30 {
			alice.say(fromAlice[i*160 : (i+1)*160])
			bob.say(fromBob[i*160 : (i+1)*160])
			l.frames(1)
		}
		quiet := func() {
			for range 6 {
				alice.say(silence(codec.PCMU, 160))
				bob.say(silence(codec.PCMA, 160))
				l.frames(1)
			}
		}
		quiet()
		room.PauseRecord(id, true)
		for i := range 10 {
			alice.say(voice(1600)[i*160 : (i+1)*160])
			bob.say(silence(codec.PCMA, 160))
			l.frames(1)
		}
		quiet()
		room.PauseRecord(id, false)
		bob.talk(sine(codec.PCMA, 400, 4000, 1600))
		l.frames(5)
		room.StopRecord(id)
		l.frames(3)
		done := only(roomEvents(room), RecordDone)
		if len(done) != 1 || done[0].Record != id || done[0].Reason != Stopped || done[0].Err != nil {
			t.Fatalf("told: %+v", done)
		}
		got := written.read()
		if want := samples(done[0].Duration); int64(len(got)) != want {
			t.Errorf("%d octets in %v", len(got), done[0].Duration)
		}

		want := make([]byte, 4800)
		x, y := make([]int16, 4800), make([]int16, 4800)
		codec.PCMU.Decode(x, fromAlice)
		codec.PCMA.Decode(y, fromBob)
		for i := range x {
			x[i] = clip(int32(x[i]) + int32(y[i]))
		}
		codec.PCMU.Encode(want, x)
		l.mustContain(got, want, "the recording")
		l.mustContain(carol.heard(), want, "who only listens")
		if bytes.Contains(got, voice(1600)[:160]) {
			t.Error("what was said in the pause is recorded")
		}
		tone := make([]byte, 1600)
		codec.Transcode(tone, sine(codec.PCMA, 400, 4000, 1600), codec.PCMA, codec.PCMU)
		l.mustContain(got, tone, "after the pause")
		inPause := make([]byte, 1600)
		codec.PCMU.Decode(x[:1600], voice(1600))
		for i := range inPause {
			x[i] = clip(int32(x[i]) + 8) // Bob's silence, which in A-law is not nothing
		}
		codec.PCMU.Encode(inPause, x[:1600])
		l.mustContain(carol.heard(), inPause, "the pause, heard")
	})
}

// roomEvents takes what a room has told until now.
func roomEvents(r *Room) (told []Event) {
	for {
		select {
		case e, ok := <-r.Events():
			if !ok {
				return told
			}
			told = append(told, e)
		default:
			return told
		}
	}
}

func TestRoomPlaysToEverybody(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(3)
		var written tape
		record := room.Record(RecordConfig{Writer: &written, MaxLength: 400 * time.Millisecond})
		beep := voice(1000)
		id := room.Play(PlayConfig{Prompts: []*Prompt{prompt(beep)}, Loop: 1})
		l.frames(25)
		for i, p := range v.phones {
			want := slices.Clone(beep)
			codec.Transcode(want, want, codec.PCMU, p.codec)
			l.mustContain(p.heard(), want, fmt.Sprint("phone ", i))
		}
		told := roomEvents(room)
		if plays := only(told, PlayDone); len(plays) != 1 || plays[0].Play != id || plays[0].Reason != Ended || plays[0].Duration != 125*time.Millisecond {
			t.Errorf("told: %+v", told)
		}
		if records := only(told, RecordDone); len(records) != 1 || records[0].Record != record || records[0].Reason != Max {
			t.Errorf("told: %+v", told)
		}
		if got := written.read(); !bytes.HasPrefix(got, beep) || len(got) != 3200 {
			t.Error("the recording does not begin with the beep, or is not as long as it may be")
		}
		first := room.Play(PlayConfig{Prompts: []*Prompt{prompt(beep)}})
		second := room.Play(PlayConfig{Prompts: []*Prompt{prompt(beep)}})
		l.frames(5)
		room.StopPlay(second)
		l.frames(1)
		plays := only(roomEvents(room), PlayDone)
		if len(plays) != 2 || plays[0].Play != first || plays[0].Reason != Replaced || plays[1].Reason != Stopped {
			t.Errorf("told: %+v", plays)
		}
	})
}

func TestPlayCoversTheRoomForOneLeg(t *testing.T) {
	virtual(t, nil, func(l *line) {
		_, v := l.conference(3)
		music := voice(1601)
		v.phones[0].leg.Play(PlayConfig{Prompts: []*Prompt{prompt(music)}, Loop: 1})
		v.talk(60)
		l.mustContain(v.phones[0].heard(), music, "who is played to")
		for _, p := range v.phones[1:] {
			if bytes.Contains(p.heard(), music[:160]) {
				t.Error("the others hear it too")
			}
		}
		v.expect([]int{1, 2}, []int{0, 2}, []int{0, 1})
	})
}

func TestKeysInARoomAreToldAndNotPassedOn(t *testing.T) {
	virtual(t, nil, func(l *line) {
		_, v := l.conference(2)
		v.talk(5)
		v.phones[0].press('5', 5, 3)
		v.talk(10)
		if got := digits(events(v.phones[0].leg)); got != "5" {
			t.Errorf("told: %q", got)
		}
		if n := len(v.phones[1].keys()); n != 0 {
			t.Errorf("%d packets of keys reach the other", n)
		}
	})
}

func TestRoomAndBridgeTakeEachOthersPlace(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room, v := l.conference(4)
		if err := Bridge(v.phones[0].leg, v.phones[1].leg); err != nil {
			t.Fatal(err)
		}
		v.talk(50)
		v.expect([]int{1}, []int{0}, []int{3}, []int{2})
		if room.Legs() != 2 {
			t.Errorf("%d legs", room.Legs())
		}
		l.join(room, v.phones[0].leg, Seat{})
		v.talk(50)
		v.expect([]int{2, 3}, nil, []int{0, 3}, []int{0, 2})
		// From one room into the other, and a leg that hangs up.
		other := l.room()
		l.join(other, v.phones[0].leg, Seat{})
		l.join(other, v.phones[1].leg, Seat{})
		v.phones[3].leg.Close()
		v.talk(50)
		if a, b, c := v.hears(v.phones[0]), v.hears(v.phones[1]), v.hears(v.phones[2]); !slices.Equal(a, []int{1}) || !slices.Equal(b, []int{0}) || c != nil {
			t.Errorf("they hear %v, %v, %v", a, b, c)
		}
		if room.Legs() != 1 || other.Legs() != 2 {
			t.Errorf("%d and %d legs", room.Legs(), other.Legs())
		}
		// Leaving a room that one is not in, and a room that closes.
		room.Leave(v.phones[0].leg)
		other.Close()
		other.Close()
		v.talk(50)
		if heard := v.phones[0].heard(); !bytes.Equal(heard[len(heard)-4000:], silence(codec.PCMU, 4000)) {
			t.Error("after its end the room is heard")
		}
		if _, open := <-other.Events(); open {
			t.Error("the closed room's events go on")
		}
	})
}

func TestJitterAndLossInARoom(t *testing.T) {
	virtual(t, nil, func(l *line) {
		room := l.room()
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, nil)
		l.join(room, a, Seat{})
		l.join(room, b, Seat{})
		// Packets of 60 ms, and one of 10 ms.
		audio := voice(14480)
		alice.say(audio[:80])
		for i := range 30 {
			alice.say(audio[80+i*480 : 80+(i+1)*480])
			l.frames(3)
		}
		l.frames(5)
		l.mustContain(bob.heard(), audio, "long packets")
		// What comes late or not at all is concealed for three frames, then silent, and the rest in its place.
		bob.received = nil
		l.frames(60)
		audio = voice(8000)
		alice.talk(audio[:1600])
		for range 6 {
			alice.miss(160)
			l.frames(1)
		}
		alice.talk(audio[2560:4160])
		l.frames(5)
		heard := bob.heard()
		before := l.mustContain(heard, audio[:1600], "before the loss")
		after := l.mustContain(heard, audio[2560:4160], "after the loss")
		gap := heard[before+1600 : after]
		if len(gap) != 960 || bytes.Equal(gap[:160], silence(codec.PCMU, 160)) || !bytes.Equal(gap[480:], silence(codec.PCMU, 480)) {
			t.Errorf("the gap has %d octets", len(gap))
		}
	})
}

func TestRoomTakesTwoHundredFiftyLegs(t *testing.T) {
	virtual(t, func(c *Config) { c.Shards = 2 }, func(l *line) {
		room := l.room()
		v := &voices{line: l}
		var last *Leg
		for range 251 {
			leg, p := l.call(codec.PCMU, nil)
			v.phones, v.loud = append(v.phones, p), append(v.loud, 0)
			last = leg
			err := room.Join(leg, Seat{})
			if full := len(v.phones) > DefaultMaxLegs; full != errors.Is(err, ErrRoomFull) {
				t.Fatalf("leg %d: %v", len(v.phones), err)
			}
			l.tick()
		}
		v.loud[7], v.loud[30] = 4000, 3000
		v.talk(30)
		hears := func(p *phone, i int) bool {
			b := p.heard()
			return amplitude(p.codec, b[len(b)-1600:], hz(i)) > 100
		}
		for i, p := range v.phones[:250] {
			if hears(p, 7) != (i != 7) || hears(p, 30) != (i != 30) {
				t.Errorf("phone %d hears one %t, the other %t", i, hears(p, 7), hears(p, 30))
			}
		}
		if hears(v.phones[250], 7) {
			t.Error("who found the room full hears it")
		}
		v.phones[0].leg.Close()
		l.frames(1)
		l.join(room, last, Seat{})
		v.talk(15)
		if !hears(v.phones[250], 7) {
			t.Error("the place of one who left was not given to another")
		}
	})
}

func TestGainOfALeg(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMA, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		for _, db := range []float64{-20.5, 21, math.NaN(), math.Inf(1)} {
			if a.SetGain(In, db) == nil {
				t.Errorf("%v dB", db)
			}
		}
		for _, test := range []struct{ in, out, want float64 }{
			{0, 0, 1000}, {6, 0, 1995}, {-6, 0, 501}, {0, 20, 10000}, {20, 20, 32000}, {-20, 20, 1000}, {0, 0, 1000},
		} {
			if a.SetGain(In, test.in) != nil || b.SetGain(Out, test.out) != nil {
				t.Fatal("refused")
			}
			var written tape
			a.Record(RecordConfig{Writer: &written, MaxLength: time.Second})
			for range 50 {
				alice.say(sine(codec.PCMU, 400, 1000, 160))
				l.frames(1)
			}
			heard := bob.heard()
			// 20 dB and 20 dB more are clipped: more than full scale of the tone itself.
			if got := amplitude(codec.PCMA, heard[len(heard)-4000:], 400); got < test.want*0.95 || got > test.want*1.3 || got > test.want*1.05 && test.want < 32000 {
				t.Errorf("in %v dB, out %v dB: amplitude %.0f", test.in, test.out, got)
			}
			l.frames(2)
			in := 1000 * math.Pow(10, test.in/20)
			if got := amplitude(codec.PCMU, written.read()[4000:8000], 400); math.Abs(got-in) > in/20 {
				t.Errorf("in %v dB: recorded with amplitude %.0f", test.in, got)
			}
		}
		// It stays over a change of codec.
		if err := a.SetGain(In, 6); err != nil {
			t.Fatal(err)
		}
		alice.codec, alice.pt = codec.PCMA, codec.PCMA.PayloadType()
		if err := a.Set(alice.params()); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			alice.say(sine(codec.PCMA, 400, 1000, 160))
			l.frames(1)
		}
		heard := bob.heard()
		if got := amplitude(codec.PCMA, heard[len(heard)-4000:], 400); math.Abs(got-1995) > 100 {
			t.Errorf("after a change of codec: amplitude %.0f", got)
		}
	})
}

func TestMuteIsForVoicesAndNotForPrompts(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, alice := l.call(codec.PCMU, nil)
		b, bob := l.call(codec.PCMU, a)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		// Hold: Alice hears music, and Bob nothing of her.
		music := voice(1601)
		a.Play(PlayConfig{Prompts: []*Prompt{prompt(music)}})
		a.SetMute(Both, true)
		var written tape
		a.Record(RecordConfig{Writer: &written, Channels: 1})
		l.frames(1)
		bob.received = nil
		alice.talk(voice(3200))
		l.mustContain(alice.heard(), music, "the music")
		if heard := bob.heard(); !bytes.Equal(heard, silence(codec.PCMU, len(heard))) {
			t.Error("who is muted is heard")
		}
		if recorded := written.read(); !bytes.Equal(recorded, silence(codec.PCMU, len(recorded))) {
			t.Error("who is muted is recorded")
		}
		a.SetMute(Both, false)
		alice.talk(voice(3360))
		l.frames(4)
		l.mustContain(bob.heard(), voice(3360), "no longer muted")
	})
}
