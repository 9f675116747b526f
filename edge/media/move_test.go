package media

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func twoShards(c *Config) { c.Shards = 2 }

// apart makes two legs in different shards.
func (l *line) apart() (a, b *Leg, alice, bob *phone) {
	l.Helper()
	a, alice = l.call(codec.PCMU, nil)
	for b == nil || b.shard == a.shard {
		b, bob = l.call(codec.PCMU, nil)
	}
	return a, b, alice, bob
}

func TestLegsOfDifferentShardsAreBridged(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		a, b, alice, bob := l.apart()
		l.frames(3)
		if err := Bridge(a, b); err != nil {
			t.Fatal(err)
		}
		fromAlice, fromBob := voice(8000), voice(8160)
		for i := range 50 {
			alice.say(fromAlice[i*160 : (i+1)*160])
			bob.say(fromBob[i*160 : (i+1)*160])
			l.frames(1)
		}
		l.frames(4)
		l.mustContain(bob.heard(), fromAlice, "Bob")
		l.mustContain(alice.heard(), fromBob[:8000], "Alice")
		if b.own.shard != a.own.shard {
			t.Error("they are still apart")
		}
	})
}

// What runs on a leg, and the packets on both ways, do not notice a move; twice there and back.
func TestMovedLegLosesNothing(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		a, b, _, bob := l.apart()
		l.tick()
		l.tick()
		room, far := l.room(), l.room()
		for far.shard == room.shard {
			far = l.room()
		}
		var written tape
		id := b.Record(RecordConfig{Writer: &written, Channels: 2})
		music := voice(16001)
		play := b.Play(PlayConfig{Prompts: []*Prompt{prompt(music)}, Loop: 1})
		said := voice(16000)
		bob.press('7', 3, 3) // the end of the key is on the way too
		homes := map[*shard]bool{}
		for i := range 100 {
			switch i {
			case 20:
				l.join(room, b, Seat{})
			case 40:
				l.join(far, b, Seat{})
			case 60: // through all at once
				l.join(room, b, Seat{})
				l.join(far, b, Seat{})
				l.join(room, b, Seat{})
			case 80:
				if err := Bridge(a, b); err != nil {
					t.Fatal(err)
				}
			}
			bob.say(said[i*160 : (i+1)*160])
			for range slotsPerFrame {
				l.tick()
				homes[b.own.shard] = true
			}
		}
		l.frames(6)
		if len(homes) != 2 {
			t.Fatal("it did not move")
		}
		b.StopRecord(id)
		l.frames(3)
		told := events(b)
		if done := only(told, PlayDone); len(done) != 1 || done[0].Play != play || done[0].Reason != Ended {
			t.Errorf("told: %+v", done)
		}
		if done := only(told, RecordDone); len(done) != 1 || done[0].Reason != Stopped {
			t.Errorf("told: %+v", done)
		}
		if got := digits(told); got != "7" {
			t.Errorf("keys: %q", got)
		}
		l.mustContain(bob.heard(), music, "the prompt")
		l.mustContain(channel(written.read(), 0), said, "the recording of what was said")
		l.mustContain(channel(written.read(), 1), music, "the recording of what was played")
		for i, q := range bob.audio()[1:] {
			before := bob.audio()[i]
			if q.SequenceNumber != before.SequenceNumber+1 || q.Timestamp != before.Timestamp+160 || q.SSRC != before.SSRC {
				t.Errorf("packet %d does not follow on the one before", i+1)
			}
			if d := q.at.Sub(before.at); d < Frame-2*Slot || d > Frame+2*Slot {
				t.Errorf("packet %d comes %v after the one before", i+1, d)
			}
		}
	})
}

// What is asked of a leg that moves happens in the order asked, whichever shard takes it.
func TestCommandsFollowTheLegInOrder(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		a, b, alice, bob := l.apart()
		l.frames(1)
		for range 3 {
			if err := Bridge(a, b); err != nil {
				t.Fatal(err)
			}
			b.Unbridge()
			if err := Bridge(b, a); err != nil {
				t.Fatal(err)
			}
			a.Unbridge()
			first := b.Play(PlayConfig{Prompts: []*Prompt{prompt(voice(1600))}})
			b.StopPlay(first)
			l.frames(2)
			if done := only(events(b), PlayDone); len(done) != 1 || done[0].Reason != Stopped {
				t.Fatalf("told: %+v", done)
			}
		}
		bob.received = nil
		alice.talk(voice(1600))
		if heard := bob.heard(); !bytes.Equal(heard, silence(codec.PCMU, len(heard))) {
			t.Error("the bridge is still there")
		}
		// To each other at once.
		if Bridge(a, b) != nil || Bridge(b, a) != nil {
			t.Fatal("refused")
		}
		alice.talk(silence(codec.PCMU, 800))
		alice.talk(voice(1760))
		l.frames(4)
		l.mustContain(bob.heard(), voice(1760), "Bob")
	})
}

func TestLegClosedOnItsWay(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		for _, closeAfter := range []int{0, 1, 2} {
			a, b, _, _ := l.apart()
			l.frames(1)
			var written tape
			b.Record(RecordConfig{Writer: &written})
			if err := Bridge(a, b); err != nil {
				t.Fatal(err)
			}
			for range closeAfter {
				l.tick()
			}
			b.Close()
			a.Unbridge() // behind the bridge, which waits for b
			l.frames(2)
			if done := only(events(b), RecordDone); len(done) != 1 || done[0].Reason != Stopped {
				t.Errorf("told: %+v", done)
			}
			if _, open := <-b.Events(); open {
				t.Error("the events go on")
			}
		}
	})
}

// A command to move may be behind Close, and others for the new shard already there.
func TestClosedLegDoesNotHoldUpTheShardItWasToMoveTo(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		a, b, _, _ := l.apart()
		l.frames(1)
		room := a.shard
		old := b.shard
		b.Close()
		l.engine.send(old, command{op: opMove, leg: b.own, to: room})
		r := newRecorder(1, codec.PCMU, RecordConfig{Writer: discard{}})
		l.engine.writers.add(r)
		l.engine.send(room, command{op: opRecord, leg: b.own, recorder: r})
		id := a.Play(PlayConfig{})
		l.frames(1)
		if done := only(events(a), PlayDone); len(done) != 1 || done[0].Play != id {
			t.Errorf("told: %+v", done)
		}
	})
}

// Real threads: legs are bridged and joined across shards from several goroutines, closed in between, and the engine ends
// in the middle of it.
func TestLegsMoveWhileTheyAreClosedAndTheEngineEnds(t *testing.T) {
	e, err := New(Config{Shards: 3, IP: netip.MustParseAddr("127.0.0.1"), PortMin: 32000, PortMax: 33999})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var legs []*Leg
	var readers, callers sync.WaitGroup
	remote := netip.MustParseAddrPort("127.0.0.1:9")
	for range 12 {
		leg, err := e.NewLeg(LegConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := leg.Set(Params{Remote: remote, Codec: codec.PCMU, Send: true, Receive: true}); err != nil {
			t.Fatal(err)
		}
		legs = append(legs, leg)
		leg.Record(RecordConfig{Writer: discard{}})
		readers.Go(func() {
			for range leg.Events() {
			}
		})
	}
	room, err := e.NewRoom(RoomConfig{})
	if err != nil {
		t.Fatal(err)
	}
	room.Record(RecordConfig{Writer: discard{}})
	readers.Go(func() {
		for range room.Events() {
		}
	})
	for k := range 4 {
		callers.Go(func() {
			for i := range 300 {
				a, b := legs[(i*5+k)%len(legs)], legs[(i*7+3*k+1)%len(legs)]
				if a != b {
					_ = Bridge(a, b) // either may be closed
				}
				_ = room.Join(b, Seat{Role: Role(i % 2)})
				a.Play(PlayConfig{})
				a.Unbridge()
				_ = a.SetGain(Both, float64(i%20))
				room.Leave(b)
				if i == 200 {
					legs[k].Close()
				}
			}
		})
	}
	callers.Wait()
	// These are on their way, or not yet, when the engine ends.
	for i := 4; i+1 < len(legs); i++ {
		_ = Bridge(legs[i], legs[i+1])
	}
	cancel()
	running.Wait()
	readers.Wait()
	if s := e.Stats(); s.Legs != 0 {
		t.Errorf("%d legs are left", s.Legs)
	}
	free, taken := e.ports.count(time.Now().Add(time.Hour))
	if taken != 0 || free != e.ports.size() {
		t.Errorf("%d ports are taken, %d free", taken, free)
	}
}

// A shard without legs sleeps, but not while a command waits for a leg: one that was closed elsewhere never arrives.
func TestShardWithoutLegsDoesNotSleepOverACommandThatWaits(t *testing.T) {
	e, err := New(Config{Shards: 2, IP: netip.MustParseAddr("127.0.0.1"), PortMin: 34000, PortMax: 34999})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	gone, err := e.NewLeg(LegConfig{})
	if err != nil {
		t.Fatal(err)
	}
	old, empty := gone.shard, e.shards[1-gone.shard.index]
	e.send(empty, command{op: opUnbridge, leg: gone.own})
	gone.Close()
	for range gone.Events() {
	}
	e.send(old, command{op: opMove, leg: gone.own, to: empty})
	room := &Room{engine: e, shard: empty, events: make(chan Event, 1)}
	room.own = newRoom(room)
	e.send(empty, command{op: opOpenRoom, room: room.own})
	room.Close()
	for range room.Events() { // until the shard has closed it
	}
	cancel()
	running.Wait()
}
