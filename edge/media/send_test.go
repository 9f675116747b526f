package media

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func TestOnePacketEveryTwentyMilliseconds(t *testing.T) {
	virtual(t, nil, func(l *line) {
		_, p := l.call(codec.PCMA, nil)
		l.frames(50)
		got := p.audio()
		if len(got) != 50 {
			t.Fatalf("%d packets in 50 frames", len(got))
		}
		for i, q := range got {
			if q.Marker != (i == 0) {
				t.Errorf("packet %d: marker %v", i, q.Marker)
			}
			if !bytes.Equal(q.payload, silence(codec.PCMA, samplesPerFrame)) {
				t.Errorf("packet %d is not silence", i)
			}
			if i == 0 {
				continue
			}
			before := got[i-1]
			if q.SequenceNumber != before.SequenceNumber+1 || q.Timestamp != before.Timestamp+160 || q.SSRC != before.SSRC {
				t.Errorf("packet %d: %+v does not follow on %+v", i, q.Header, before.Header)
			}
			if q.at.Sub(before.at) != Frame {
				t.Errorf("packet %d came %v after the one before", i, q.at.Sub(before.at))
			}
		}
	})
}

func TestPromptIsHeardToTheSample(t *testing.T) {
	for _, test := range []struct {
		name    string
		lengths []int // samples of each prompt
		loop    int
		start   time.Duration
		skipped int
	}{
		{name: "whole frames", lengths: []int{1600}, loop: 1},
		{name: "odd length", lengths: []int{1601}, loop: 1},
		{name: "shorter than a frame", lengths: []int{7}, loop: 1},
		{name: "several without a gap", lengths: []int{100, 333, 1, 999}, loop: 1},
		{name: "three rounds", lengths: []int{250, 60}, loop: 3},
		{name: "from the middle", lengths: []int{400, 400}, loop: 2, start: 60 * time.Millisecond, skipped: 480},
		{name: "start behind the end", lengths: []int{400}, loop: 2, start: time.Second, skipped: 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			virtual(t, nil, func(l *line) {
				leg, p := l.call(codec.PCMU, nil)
				var prompts []*Prompt
				var want []byte
				for i, n := range test.lengths {
					octets := voice(n + i)[:n]
					prompts = append(prompts, prompt(octets))
					want = append(want, octets...)
				}
				want = bytes.Repeat(want, test.loop)[test.skipped:]
				id := leg.Play(PlayConfig{Prompts: prompts, Loop: test.loop, Start: test.start})
				frames := (len(want) + samplesPerFrame - 1) / samplesPerFrame
				l.frames(frames + 3)
				heard := p.heard()
				if !bytes.Equal(heard[:len(want)], want) {
					t.Error("what was heard is not the prompt")
				}
				if rest := heard[len(want):]; !bytes.Equal(rest, silence(codec.PCMU, len(rest))) {
					t.Error("there is no silence after the prompt")
				}
				done := only(events(leg), PlayDone)
				if len(done) != 1 || done[0].Play != id || done[0].Reason != Ended || done[0].Duration != duration(int64(len(want))) {
					t.Errorf("events %+v, want one end of play %d after %v", done, id, duration(int64(len(want))))
				}
			})
		})
	}
}

func TestPromptInTheOtherCodec(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMA, nil)
		pr := prompt(voice(800))
		leg.Play(PlayConfig{Prompts: []*Prompt{pr}, Loop: 1})
		l.frames(5)
		if !bytes.Equal(p.heard(), pr.pcma) {
			t.Error("a PCMA leg does not hear the prompt as PCMA")
		}
	})
}

func TestPromptLoopsForEver(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		id := leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(77))}})
		l.frames(100)
		if !bytes.Equal(p.heard(), bytes.Repeat(voice(77), 300)[:16000]) {
			t.Error("the loop is not seamless")
		}
		leg.StopPlay(id + 1) // another one: nothing happens
		l.frames(1)
		leg.StopPlay(id)
		l.frames(1)
		done := only(events(leg), PlayDone)
		if len(done) != 1 || done[0].Reason != Stopped || done[0].Duration != 101*Frame {
			t.Errorf("events %+v, want one stop after 101 frames", done)
		}
	})
}

func TestPlayReplacesWhatPlays(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		first := leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(8000))}, Loop: 1})
		l.frames(10)
		second := leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(320))}, Loop: 1})
		empty := leg.Play(PlayConfig{Prompts: []*Prompt{NewPrompt(nil)}})
		l.frames(1)
		third := leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(320))}, Loop: 1})
		l.frames(2)
		leg.Close()
		l.frames(1)
		want := []Event{
			{Play: first, Reason: Replaced, Duration: 10 * Frame},
			{Play: second, Reason: Replaced, Duration: 0},
			{Play: empty, Reason: Ended, Duration: 0},
			{Play: third, Reason: Ended, Duration: 2 * Frame},
		}
		got := only(events(leg), PlayDone)
		if len(got) != len(want) {
			t.Fatalf("%d events, want %d: %+v", len(got), len(want), got)
		}
		for i, w := range want {
			if g := got[i]; g.Play != w.Play || g.Reason != w.Reason || g.Duration != w.Duration {
				t.Errorf("event %d is %+v, want %+v", i, g, w)
			}
		}
		if !bytes.Equal(p.heard()[11*160:], voice(320)) {
			t.Error("the last prompt was not heard whole")
		}
	})
}

func TestPromptWaitsForTheFirstSet(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg := l.leg(nil)
		leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(480))}, Loop: 1})
		l.frames(20)
		_, other := l.call(codec.PCMU, nil) // only for its address
		if err := leg.Set(other.params()); err != nil {
			t.Fatal(err)
		}
		other.leg.Close()
		other.received = nil
		l.frames(4)
		l.mustContain(other.heard(), voice(480), "the prompt")
	})
}

func TestGainScalesAndClips(t *testing.T) {
	loud := NewPrompt([]int16{1000, -1000, 20000, -20000})
	louder := loud.WithGain(6.0206)
	pcm := make([]int16, 4)
	codec.PCMU.Decode(pcm, louder.pcmu)
	for i, want := range []int{2000, -2000, 32124, -32124} {
		if got := int(pcm[i]); got < want-want/20 && want > 0 || got*want <= 0 || max(got-want, want-got) > 1100 {
			t.Errorf("sample %d is %d, want about %d", i, got, want)
		}
	}
	if loud.WithGain(0) != loud {
		t.Error("no gain makes another prompt")
	}
	if loud.Size() != 8 || loud.Duration() != 500*time.Microsecond {
		t.Errorf("size %d, duration %v", loud.Size(), loud.Duration())
	}
}

func TestHoldSendsNothingAndTimeGoesOn(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(3200))}, Loop: 1})
		l.frames(5)
		held := p.params()
		held.Send, held.Receive = false, false
		if err := leg.Set(held); err != nil {
			t.Fatal(err)
		}
		l.frames(10)
		if n := len(p.audio()); n != 5 {
			t.Fatalf("%d packets, want the 5 from before the hold", n)
		}
		p.say(voice(160))
		l.frames(1)
		if err := leg.Set(p.params()); err != nil {
			t.Fatal(err)
		}
		l.frames(3)
		got := p.audio()
		if len(got) != 8 || !got[5].Marker {
			t.Fatalf("%d packets, marker %v", len(got), got[5].Marker)
		}
		if got[5].SequenceNumber != got[4].SequenceNumber+1 || got[5].Timestamp != got[4].Timestamp+12*160 {
			t.Errorf("%+v does not follow on %+v after 11 held frames", got[5].Header, got[4].Header)
		}
		if !bytes.Equal(got[5].payload, voice(3200)[16*160:17*160]) {
			t.Error("the prompt did not run on while nobody heard it")
		}
		if s := leg.Stats(); s.Discarded != 1 || s.PacketsReceived != 0 {
			t.Errorf("received while on hold: %+v", s)
		}
	})
}

func TestLateTickSendsAtMostThreeFrames(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		leg.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(16000))}, Loop: 1})
		l.frames(10)
		before := len(p.audio())
		l.now = l.now.Add(10 * Frame)
		l.tick()
		got := p.audio()
		if n := len(got) - before; n != 3 {
			t.Fatalf("%d packets in a tick that is ten frames late", n)
		}
		last, next := got[before-1], got[before]
		if next.SequenceNumber != last.SequenceNumber+1 || next.Timestamp != last.Timestamp+(11-3+1)*160 && next.Timestamp != last.Timestamp+(10-3+1)*160 {
			t.Errorf("%+v does not follow on %+v", next.Header, last.Header)
		}
		l.frames(5)
		if heard := p.heard(); !bytes.Equal(heard, voice(16000)[:len(heard)]) {
			t.Error("the late tick lost a piece of the prompt")
		}
		if leg.Stats().LateTicks == 0 {
			t.Error("late frames were not counted")
		}
		if l.engine.Stats().LateTicks == 0 {
			t.Error("late ticks were not counted")
		}
		l.now = l.now.Add(time.Hour)
		l.tick()
		l.frames(2)
		got = p.audio()
		if d := got[len(got)-1].Timestamp - got[len(got)-2].Timestamp; d != 160 {
			t.Errorf("after an hour's stand-still timestamps go by %d", d)
		}
	})
}

func TestLatenessDecidesOverload(t *testing.T) {
	virtual(t, nil, func(l *line) {
		l.call(codec.PCMU, nil)
		// A machine that wakes up every so often finds the oldest due slot one Slot less late.
		wake := func(every time.Duration) {
			for end := l.now.Add(7 * time.Second); l.now.Before(end); l.now = l.now.Add(every) {
				l.engine.Tick(l.now)
			}
		}
		for _, test := range []struct {
			every, lateness time.Duration
			overloaded      bool
		}{
			{every: Slot, lateness: 50 * time.Microsecond},
			{every: 10 * time.Millisecond, lateness: 10 * time.Millisecond},
			{every: 14 * time.Millisecond, lateness: 15 * time.Millisecond, overloaded: true},
			{every: 8 * time.Millisecond, lateness: 7500 * time.Microsecond, overloaded: true},
			{every: 4 * time.Millisecond, lateness: 2 * time.Millisecond},
		} {
			wake(test.every)
			if got := l.engine.Lateness(); got != test.lateness || l.engine.Overloaded() != test.overloaded {
				t.Fatalf("waking every %v: lateness %v, overloaded %v", test.every, got, l.engine.Overloaded())
			}
		}
	})
}
