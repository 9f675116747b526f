package media

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// watched is a bridged pair, phones 0 and 1, and a third, phone 2, that watches the first of them; each in another codec
// than the one before, and the third from another shard.
func (l *line) watched() (legs [3]*Leg, v *voices) {
	l.Helper()
	v = &voices{line: l}
	for i, c := range []codec.ID{codec.PCMU, codec.PCMA, codec.PCMU} {
		leg, p := l.call(c, nil)
		for i == 2 && leg.shard == legs[0].shard {
			leg, p = l.call(c, nil)
		}
		legs[i], v.phones, v.loud = leg, append(v.phones, p), append(v.loud, 4000)
	}
	if err := Bridge(legs[0], legs[1]); err != nil {
		l.Fatal(err)
	}
	l.frames(3)
	return legs, v
}

func (v *voices) hear(what string, want ...string) {
	v.Helper()
	for i, p := range v.phones {
		if got := fmt.Sprint(v.hears(p)); got != want[i] {
			v.Errorf("%s: phone %d hears %s, expected %s", what, i, got, want[i])
		}
	}
}

func (l *line) watch(by, of *Leg, role Role) {
	l.Helper()
	if err := by.Watch(of, role); err != nil {
		l.Fatal(err)
	}
}

func TestWatchHearsBothAndIsHeardByItsRole(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		legs, v := l.watched()
		for _, c := range []struct {
			role Role
			of   int
			want []string
		}{
			{Listen, 0, []string{"[1]", "[0]", "[0 1]"}},
			{Whisper, 0, []string{"[1 2]", "[0]", "[0 1]"}},
			{Whisper, 1, []string{"[1]", "[0 2]", "[0 1]"}},
			{Talk, 1, []string{"[1 2]", "[0 2]", "[0 1]"}},
			{Listen, 1, []string{"[1]", "[0]", "[0 1]"}},
		} {
			l.watch(legs[2], legs[c.of], c.role)
			v.talk(30)
			v.hear(fmt.Sprintf("%s of %d", c.role, c.of), c.want...)
		}
		legs[2].Unwatch()
		v.talk(30)
		v.hear("after it", "[1]", "[0]", "[]")
	})
}

// Octet for octet: with a watch that says nothing the talk is as without.
func TestWatchLeavesTheTalkAsItIs(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		legs, v := l.watched()
		fromAlice, fromBob := voice(16000), make([]byte, 16000)
		codec.Transcode(fromBob, voice(16160)[160:], codec.PCMU, codec.PCMA)
		for i := range 100 {
			switch {
			case i == 90:
				legs[2].Unwatch()
			case i%15 == 10:
				l.watch(legs[2], legs[i/15%2], []Role{Listen, Whisper, Talk}[i/15%3])
			}
			v.phones[0].say(fromAlice[i*160 : (i+1)*160])
			v.phones[1].say(fromBob[i*160 : (i+1)*160])
			v.phones[2].say(silence(codec.PCMU, 160))
			l.frames(1)
		}
		l.frames(5)
		want := make([]byte, len(fromAlice))
		codec.Transcode(want, fromAlice, codec.PCMU, codec.PCMA)
		l.mustContain(v.phones[1].heard(), want, "Bob")
		codec.Transcode(want, fromBob, codec.PCMA, codec.PCMU)
		l.mustContain(v.phones[0].heard(), want, "Alice")
	})
}

// Three watch the two of a bridge: who speaks to both is heard by the others who watch as well, a whisper by one leg alone.
func TestWatchOfSeveral(t *testing.T) {
	virtual(t, twoShards, func(l *line) {
		legs, v := l.watched()
		all := legs[:]
		for range 2 {
			leg, p := l.call(codec.PCMA, nil)
			all, v.phones, v.loud = append(all, leg), append(v.phones, p), append(v.loud, 3000)
		}
		l.watch(all[2], all[0], Listen)
		l.watch(all[3], all[1], Whisper)
		l.watch(all[4], all[0], Talk)
		v.talk(30)
		v.hear("three", "[1 4]", "[0 3 4]", "[0 1 4]", "[0 1 4]", "[0 1]")
		l.watch(all[3], all[0], Talk) // it goes over to the other leg
		v.talk(30)
		v.hear("two speak", "[1 3 4]", "[0 3 4]", "[0 1 3 4]", "[0 1 4]", "[0 1 3]")
		all[4].Unwatch()
		v.talk(30)
		v.hear("one has gone", "[1 3]", "[0 3]", "[0 1 3]", "[0 1]", "[]")
		all[3].Close()
		v.phones, v.loud = v.phones[:3], v.loud[:3]
		v.talk(30)
		v.hear("another has", "[1]", "[0]", "[0 1]")
	})
}

func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(l *line, legs [3]*Leg){
		"when the one watched moves": func(l *line, legs [3]*Leg) {
			var far *Leg
			for far == nil || far.shard == legs[0].shard {
				far, _ = l.call(codec.PCMU, nil)
			}
			_ = Bridge(far, legs[0])
			l.frames(2)
			_ = Bridge(legs[1], legs[0])
		},
		"when the one watched closes":      func(_ *line, legs [3]*Leg) { legs[0].Close() },
		"when the watching one goes":       func(l *line, legs [3]*Leg) { l.join(l.room(), legs[2], Seat{}) },
		"when the watching one is bridged": func(l *line, legs [3]*Leg) { other, _ := l.call(codec.PCMU, nil); _ = Bridge(other, legs[2]) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, twoShards, func(l *line) {
				legs, v := l.watched()
				l.watch(legs[2], legs[0], Talk)
				v.talk(30)
				end(l, legs)
				v.talk(35)
				if heard := v.hears(v.phones[2]); len(heard) > 0 {
					t.Errorf("it hears %v", heard)
				}
				if heard := fmt.Sprint(v.hears(v.phones[1])); heard != "[0]" && heard != "[]" {
					t.Errorf("the other hears %s", heard)
				}
			})
		})
	}
}

func TestWatchThatCannotBe(t *testing.T) {
	virtual(t, nil, func(l *line) {
		a, b := l.leg(nil), l.leg(nil)
		if a.Watch(a, Listen) == nil || a.Watch(b, Whisper+1) == nil {
			t.Error("a leg watches itself, or in no role")
		}
		withStranger(l, func(stranger *Leg) {
			if err := a.Watch(stranger, Listen); !errors.Is(err, ErrOtherShard) {
				t.Errorf("got %v", err)
			}
		})
		b.Close()
		if err := a.Watch(b, Listen); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		l.frames(1)
	})
}
