package media

import (
	"fmt"
	"slices"
)

// watch is a leg that hears another one and whom that is bridged with, and may speak to the first alone or to both. The two
// stay bridged as they are: nothing of what they say to each other is delayed, left out or repeated when a watch begins,
// changes or ends. All legs are in one shard; only a tick touches it.
type watch struct {
	by, of *leg
	role   Role

	said   [2]pcmFrame // of of and of whom it is bridged with, if ready, for by to take
	ready  [2]bool
	voice  pcmFrame // by's, while fresh for of and for whom it is bridged with
	fresh  [2]bool
	joined sum // what the others who watch have said to both, if any has, for by to take
	others bool
}

// Watch lets the leg hear another one and whom that is bridged with, now or later: with Listen it is heard by neither, with
// Whisper by the other leg alone, with Talk by both. A bridge, a room or a watch that it was in is left; watching the same
// leg again changes the role. It moves to where the other leg is, and the watch ends when that moves. One leg at a time
// watches another: who comes takes the place of who was there. It returns ErrClosed, and ErrOtherShard for legs of two
// engines.
func (l *Leg) Watch(of *Leg, role Role) error {
	switch {
	case role > Whisper:
		return fmt.Errorf("media: no role %d", role)
	case l.engine != of.engine:
		return ErrOtherShard
	case l == of:
		return fmt.Errorf("media: a leg cannot watch itself")
	}
	first, second := l, of
	if of.id < l.id {
		first, second = of, l
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	second.mu.Lock()
	defer second.mu.Unlock()
	if l.closed.Load() || of.closed.Load() || !l.moveTo(of.shard) || !l.hand(command{op: opWatch, peer: of.own, role: role}) {
		return ErrClosed
	}
	return nil
}

// Unwatch ends what Watch began; nothing happens when the leg watches none.
func (l *Leg) Unwatch() {
	l.send(command{op: opUnwatch})
}

func (l *leg) watch(of *leg, role Role) {
	if w := l.watching; w != nil && w.of == of {
		w.role = role
		return
	}
	l.unbridge()
	l.leave()
	l.unwatch()
	w := &watch{by: l, of: of, role: role}
	l.watching, of.watchers = w, append(of.watchers, w)
}

// unwatch ends the leg's own watch.
func (l *leg) unwatch() {
	if w := l.watching; w != nil {
		l.watching = nil
		w.of.watchers = slices.DeleteFunc(w.of.watchers, func(o *watch) bool { return o == w })
	}
}

// unwatched ends every watch that the leg has to do with.
func (l *leg) unwatched() {
	l.unwatch()
	for _, w := range l.watchers {
		w.by.watching = nil
	}
	l.watchers = nil
}

// tell gives what the leg has said in this frame to those of a watch who hear it beside a bridged leg.
func (l *leg) tell() {
	if !l.forPeerOK {
		return
	}
	for _, w := range l.watchers {
		l.params.Codec.Decode(w.said[0][:], l.forPeer[:])
		w.ready[0] = true
	}
	if w := l.watching; w != nil {
		l.params.Codec.Decode(w.voice[:], l.forPeer[:])
		w.fresh = [2]bool{true, true}
		l.forPeerOK = false
		if w.role == Talk {
			w.join(w.of.watchers)
			if peer := w.of.peer; peer != nil {
				w.join(peer.watchers)
			}
		}
	}
}

// join lets others who watch hear the voice.
func (w *watch) join(all []*watch) {
	for _, o := range all {
		if o != w {
			o.joined.add(&w.voice)
			o.others = true
		}
	}
}

// overhear gives those who watch what the leg is told by whom it is bridged with.
func (l *leg) overhear(other *leg) {
	for _, w := range l.watchers {
		other.params.Codec.Decode(w.said[1][:], other.forPeer[:])
		w.ready[1] = true
	}
}

// hear fills a frame with what the watching leg hears.
func (w *watch) hear(frame *[samplesPerFrame]byte, own *leg) {
	if w.ready == [2]bool{} && !w.others {
		*frame = own.silent
		return
	}
	all := w.joined
	for i, ready := range w.ready {
		if ready {
			all.add(&w.said[i])
		}
	}
	w.ready, w.joined, w.others = [2]bool{}, sum{}, false
	var mix pcmFrame
	all.put(&mix)
	own.params.Codec.Encode(frame[:], mix[:])
}

// intrude adds to a frame what watching legs say to this one, and reports whether they said anything. Silence leaves the
// frame as it is, octet for octet.
func (l *leg) intrude(frame *[samplesPerFrame]byte) bool {
	if len(l.watchers) == 0 && (l.peer == nil || len(l.peer.watchers) == 0) {
		return false
	}
	var all sum
	spoken := false
	for _, w := range l.watchers {
		spoken = w.speak(0, Whisper, &all) || spoken
	}
	if l.peer != nil {
		for _, w := range l.peer.watchers {
			spoken = w.speak(1, Talk, &all) || spoken
		}
	}
	if !spoken {
		return false
	}
	var heard pcmFrame
	l.params.Codec.Decode(heard[:], frame[:])
	all.add(&heard)
	all.put(&heard)
	l.params.Codec.Encode(frame[:], heard[:])
	return true
}

// speak adds the voice to what one of the two hears, if the role is the one given, or Talk, and reports whether it did.
func (w *watch) speak(side int, role Role, all *sum) bool {
	if !w.fresh[side] {
		return false
	}
	w.fresh[side] = false
	if w.role != role && w.role != Talk || w.voice == (pcmFrame{}) {
		return false
	}
	all.add(&w.voice)
	return true
}
