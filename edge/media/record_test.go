package media

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// tape is a Writer for recordings, with room for so much before it fails and a door that can be shut.
type tape struct {
	mu     sync.Mutex
	octets []byte
	room   int // 0 is endless
	shut   chan struct{}
}

var errTapeFull = errors.New("tape full")

func (t *tape) Write(b []byte) (int, error) {
	if t.shut != nil {
		<-t.shut
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.room > 0 && len(t.octets)+len(b) > t.room {
		n := t.room - len(t.octets)
		t.octets = append(t.octets, b[:n]...)
		return n, errTapeFull
	}
	t.octets = append(t.octets, b...)
	return len(b), nil
}

func (t *tape) read() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.octets)
}

// channel is every second octet, beginning at first.
func channel(b []byte, first int) (octets []byte) {
	for i := first; i < len(b); i += 2 {
		octets = append(octets, b[i])
	}
	return octets
}

// recordDone stops a recording and returns the event that ends it.
func (l *line) recordDone(leg *Leg, id RecordID) Event {
	l.Helper()
	leg.StopRecord(id)
	l.frames(2)
	done := only(events(leg), RecordDone)
	if len(done) != 1 || done[0].Record != id {
		l.Fatalf("events %+v, want one end of recording %d", done, id)
	}
	return done[0]
}

func TestRecordingIsWhatWasReceived(t *testing.T) {
	gap := silence(codec.PCMU, 160)
	audio := voice(3000 * 2)
	frame := func(i int) []byte { return audio[i*160 : (i+1)*160] }
	for _, test := range []struct {
		name string
		send func(l *line, p *phone)
		want []byte
		lost, late, duplicate, reordered,
		resets uint64
	}{
		{
			name: "in order",
			send: func(_ *line, p *phone) { p.talk(audio[:4800]) },
			want: audio[:4800],
		},
		{
			name: "packets of 10 ms",
			send: func(l *line, p *phone) {
				for i := range 30 {
					p.say(audio[i*160 : i*160+80])
					p.say(audio[i*160+80 : (i+1)*160])
					l.frames(1)
				}
			},
			want: audio[:4800],
		},
		{
			name: "packets of 30 ms",
			send: func(l *line, p *phone) {
				for i := range 10 {
					p.say(audio[i*480 : i*480+240])
					l.frames(2)
					p.say(audio[i*480+240 : (i+1)*480])
					l.frames(1)
				}
			},
			want: audio[:4800],
		},
		{
			name: "packets of 60 ms",
			send: func(l *line, p *phone) {
				for i := range 10 {
					p.say(audio[i*480 : (i+1)*480])
					l.frames(3)
				}
			},
			want: audio[:4800],
		},
		{
			name: "one lost",
			send: func(l *line, p *phone) {
				p.talk(audio[:1600])
				p.miss(160)
				l.frames(1)
				p.talk(audio[1760:3200])
			},
			want: bytes.Join([][]byte{audio[:1600], gap, audio[1760:3200]}, nil),
			lost: 1,
		},
		{
			name: "reordered and repeated",
			send: func(l *line, p *phone) {
				p.talk(audio[:800])
				first, second := p.header(160), p.header(160)
				p.send(p.addr, second, frame(6))
				l.frames(1)
				p.send(p.addr, first, frame(5))
				p.send(p.addr, first, frame(5))
				l.frames(1)
				p.talk(audio[7*160 : 3200])
			},
			want:      audio[:3200],
			duplicate: 1, reordered: 1,
		},
		{
			name: "too late",
			send: func(l *line, p *phone) {
				p.talk(audio[:800])
				tardy := p.header(160)
				l.frames(1)
				p.talk(audio[6*160 : 12*160])
				p.send(p.addr, tardy, frame(5))
				p.talk(audio[12*160 : 3200])
			},
			want:      bytes.Join([][]byte{audio[:800], gap, audio[6*160 : 3200]}, nil),
			reordered: 1, late: 1,
		},
		{
			name: "silence suppression",
			send: func(l *line, p *phone) {
				p.talk(audio[:800])
				p.stamp += 5 * 160
				l.frames(5)
				p.talk(audio[800:1600])
			},
			want: bytes.Join([][]byte{audio[:800], bytes.Repeat(gap, 5), audio[800:1600]}, nil),
		},
		{
			name: "another source at the same address",
			send: func(_ *line, p *phone) {
				p.talk(audio[:800])
				p.ssrc, p.seq, p.stamp = p.ssrc+77, 9, 123456
				p.talk(audio[800:1600])
			},
			// The two frames that were still waiting go with their source; the new one begins as late as they were.
			want:   bytes.Join([][]byte{audio[:3*160], gap, gap, audio[800:1600]}, nil),
			resets: 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			virtual(t, nil, func(l *line) {
				leg, p := l.call(codec.PCMU, nil)
				var written tape
				id := leg.Record(RecordConfig{Writer: &written, Channels: 1})
				l.frames(3)
				test.send(l, p)
				l.frames(5)
				done := l.recordDone(leg, id)
				got := written.read()
				at := l.mustContain(got, test.want, "the recording")
				for _, rest := range [][]byte{got[:at], got[at+len(test.want):]} {
					if !bytes.Equal(rest, silence(codec.PCMU, len(rest))) {
						t.Error("there is more in the recording than was said")
					}
				}
				if at != (3+2)*160 {
					t.Errorf("the audio begins at %d, want after 3 frames of waiting and 40 ms of jitter buffer", at)
				}
				if done.Reason != Stopped || done.Err != nil || done.Duration != duration(int64(len(got))) {
					t.Errorf("ended with %+v after %d octets", done, len(got))
				}
				s := leg.Stats()
				if s.Lost != test.lost || s.Late != test.late || s.Duplicate != test.duplicate ||
					s.Reordered != test.reordered || s.Resets != test.resets {
					t.Errorf("lost %d, late %d, duplicate %d, reordered %d, resets %d",
						s.Lost, s.Late, s.Duplicate, s.Reordered, s.Resets)
				}
			})
		})
	}
}

func TestTwoChannelsKeepTheSameTime(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMA, nil)
		var written tape
		id := leg.Record(RecordConfig{Writer: &written, Channels: 2})
		l.frames(1)
		said := prompt(voice(8000))
		leg.Play(PlayConfig{Prompts: []*Prompt{said}, Loop: 1})
		p.talk(voice(6400))
		l.frames(20)
		done := l.recordDone(leg, id)
		in, out := channel(written.read(), 0), channel(written.read(), 1)
		if at := l.mustContain(in, voice(6400), "the first channel"); at != 3*160 {
			t.Errorf("what was received begins at %d", at)
		}
		if at := l.mustContain(out, said.pcma, "the second channel"); at != 160 {
			t.Errorf("what was sent begins at %d", at)
		}
		if !bytes.Equal(out, p.heard()[:len(out)]) {
			t.Error("the second channel is not what the phone heard")
		}
		if done.Duration != duration(int64(len(in))) || len(in) != len(out) {
			t.Errorf("%d and %d samples, said to last %v", len(in), len(out), done.Duration)
		}
	})
}

func TestRecordingEndsAtItsLongest(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		var written tape
		leg.Record(RecordConfig{Writer: &written, Channels: 1, MaxLength: 205 * time.Millisecond})
		p.talk(voice(3200))
		done := only(events(leg), RecordDone)
		if len(done) != 1 || done[0].Reason != Max || done[0].Duration != 205*time.Millisecond {
			t.Errorf("events %+v", done)
		}
		if n := len(written.read()); n != 1640 {
			t.Errorf("%d octets written", n)
		}
	})
}

func TestPausedRecordingLeavesOut(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		var written tape
		id := leg.Record(RecordConfig{Writer: &written, Channels: 1})
		audio := voice(4800)
		p.talk(audio[:1600])
		l.frames(2)
		leg.PauseRecord(id, true)
		p.talk(audio[1600:3200]) // two frames of nothing between, since the jitter buffer ran dry
		leg.PauseRecord(id, false)
		p.talk(audio[3200:])
		l.frames(3)
		l.recordDone(leg, id)
		got := written.read()
		l.mustContain(got, audio[:1600], "before the pause")
		l.mustContain(got, audio[3200:4000], "after the pause")
		if bytes.Contains(got, audio[1920:2080]) {
			t.Error("the pause was recorded")
		}
	})
}

// speech is loud enough for the voice detector; quietness is not.
func speech(frames int) []byte { return voice(frames * samplesPerFrame) }

func TestRecordingEndsInSilenceAndIsTrimmed(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		var written tape
		leg.Record(RecordConfig{Writer: &written, Channels: 1, Silence: 2 * time.Second, Trim: true})
		p.talk(silence(codec.PCMU, 50*160))
		p.talk(speech(100))
		p.talk(silence(codec.PCMU, 200*160))
		done := only(events(leg), RecordDone)
		if len(done) != 1 || done[0].Reason != Silence {
			t.Fatalf("events %+v", done)
		}
		got := written.read()
		at := l.mustContain(got, speech(100), "the recording")
		if at > leadFrames*samplesPerFrame {
			t.Errorf("%v of leading silence was kept", duration(int64(at)))
		}
		if d := done[0].Duration; d != duration(int64(len(got))) {
			t.Errorf("said to last %v, %d octets written", d, len(got))
		}
		// The detector holds on for 200 ms after the last word, never less than what was said.
		kept := len(got) - int(samples(done[0].Trailing))
		if kept < at+100*160 || kept > at+100*160+2400 || done[0].Trailing != 2*time.Second {
			t.Errorf("cutting off %v leaves %d octets", done[0].Trailing, kept)
		}
	})
}

func TestNobodySpokeAndNothingIsKept(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		var written tape
		leg.Record(RecordConfig{Writer: &written, Channels: 2, Silence: time.Second, Trim: true})
		p.talk(silence(codec.PCMU, 60*160))
		done := only(events(leg), RecordDone)
		if len(done) != 1 || done[0].Reason != Silence || done[0].Duration != 0 || done[0].Trailing != 0 || len(written.read()) != 0 {
			t.Errorf("events %+v, %d octets", done, len(written.read()))
		}
	})
}

func TestFailingWriterEndsTheRecordingOnly(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		written := tape{room: 10000}
		id := leg.Record(RecordConfig{Writer: &written, Channels: 1})
		p.talk(voice(16000))
		done := only(events(leg), RecordDone)
		if len(done) != 1 || done[0].Record != id || done[0].Reason != Failed || !errors.Is(done[0].Err, errTapeFull) ||
			done[0].Duration != duration(10000) {
			t.Errorf("events %+v", done)
		}
		if n := len(p.audio()); n != 100 {
			t.Errorf("the call sent %d packets of 100", n)
		}
	})
}

func TestSlowWriterCostsAGapNotTime(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		written := tape{shut: make(chan struct{})}
		id := leg.Record(RecordConfig{Writer: &written, Channels: 1})
		audio := voice(40000)
		p.talk(audio[:32000]) // 4 s, of which the ring holds 2.048
		close(written.shut)
		p.talk(audio[32000:])
		l.frames(5)
		done := l.recordDone(leg, id)
		got := written.read()
		if done.Duration != 255*Frame || len(got) != 255*160 {
			t.Errorf("255 frames passed, %v or %d octets were written", done.Duration, len(got))
		}
		if s := leg.Stats(); s.RecordDropped == 0 {
			t.Error("what was dropped is not counted")
		}
		if got := got[2*160:]; !bytes.Equal(got[:16000], audio[:16000]) {
			t.Error("the first 2 s are not what was said")
		}
		end := audio[32160:]
		if at := l.mustContain(got, end, "what came after the gap"); at != 2*160+32160 {
			t.Errorf("after the gap the recording goes on at %d", at)
		}
	})
}

func TestCloseFinishesRecordings(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		written := tape{shut: make(chan struct{})}
		leg.Record(RecordConfig{Writer: &written, Channels: 1})
		p.talk(voice(1600))
		leg.Close()
		leg.Close()
		l.frames(10)
		if len(only(events(leg), RecordDone)) != 0 {
			t.Fatal("the recording was done before its last octet was handed over")
		}
		close(written.shut)
		l.frames(1)
		var told []Event
		for e := range leg.Events() {
			told = append(told, e)
		}
		done := only(told, RecordDone)
		if len(done) != 1 || done[0].Reason != Stopped || len(written.read()) != 1600 {
			t.Errorf("events %+v, %d octets", done, len(written.read()))
		}
	})
}

func TestRecordingKeepsItsCodec(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		var written tape
		id := leg.Record(RecordConfig{Writer: &written, Channels: 1})
		p.talk(voice(800))
		l.frames(3)
		p.codec, p.pt = codec.PCMA, codec.PCMA.PayloadType()
		if err := leg.Set(p.params()); err != nil {
			t.Fatal(err)
		}
		p.talk(voice(960))
		l.frames(3)
		l.recordDone(leg, id)
		want := make([]byte, 960)
		codec.Transcode(want, voice(960), codec.PCMA, codec.PCMU)
		l.mustContain(written.read(), voice(800), "before")
		l.mustContain(written.read(), want, "after the codec changed")
	})
}
