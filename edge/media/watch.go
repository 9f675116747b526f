package media

import "fmt"

// watch is a leg that hears another one and whom that is bridged with, and may speak to the first alone or to both. The two
// stay bridged as they are: nothing of what they say to each other is delayed, left out or repeated when a watch begins,
// changes or ends. All three legs are in one shard; only a tick touches it.
type watch struct {
	by, of *leg
	role   Role

	said  [2]pcmFrame // of of and of whom it is bridged with, if ready, for by to take
	ready [2]bool
	voice pcmFrame // by's, while fresh for of and for whom it is bridged with
	fresh [2]bool
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
	of.watcher.end()
	w := &watch{by: l, of: of, role: role}
	l.watching, of.watcher = w, w
}

// unwatch ends the leg's own watch.
func (l *leg) unwatch() { l.watching.end() }

// unwatched ends every watch that the leg has to do with.
func (l *leg) unwatched() {
	l.watching.end()
	l.watcher.end()
}

func (w *watch) end() {
	if w != nil {
		w.by.watching, w.of.watcher = nil, nil
	}
}

// tell gives what the leg has said in this frame to those of a watch who hear it beside a bridged leg.
func (l *leg) tell() {
	if !l.forPeerOK {
		return
	}
	if w := l.watcher; w != nil {
		l.params.Codec.Decode(w.said[0][:], l.forPeer[:])
		w.ready[0] = true
	}
	if w := l.watching; w != nil {
		l.params.Codec.Decode(w.voice[:], l.forPeer[:])
		w.fresh = [2]bool{true, true}
		l.forPeerOK = false
	}
}

// overhear gives the watch what the leg is told by whom it is bridged with.
func (w *watch) overhear(other *leg) {
	if w != nil {
		other.params.Codec.Decode(w.said[1][:], other.forPeer[:])
		w.ready[1] = true
	}
}

// hear fills a frame with what the watching leg hears.
func (w *watch) hear(frame *[samplesPerFrame]byte, own *leg) {
	if w.ready == [2]bool{} {
		*frame = own.silent
		return
	}
	var all sum
	for i, ready := range w.ready {
		if ready {
			all.add(&w.said[i])
		}
	}
	w.ready = [2]bool{}
	var mix pcmFrame
	all.put(&mix)
	own.params.Codec.Encode(frame[:], mix[:])
}

// intrude adds to a frame what a watching leg says to this one, and reports whether it said anything.
func (l *leg) intrude(frame *[samplesPerFrame]byte) bool {
	spoken := l.watcher.take(0, Whisper, Talk, frame, l)
	if l.peer != nil && l.peer.watcher.take(1, Talk, Talk, frame, l) {
		spoken = true
	}
	return spoken
}

// take adds the voice to what one of the two hears, if the role is one of those in which it does. Silence leaves the
// frame as it is, octet for octet.
func (w *watch) take(side int, a, b Role, frame *[samplesPerFrame]byte, own *leg) bool {
	if w == nil || !w.fresh[side] {
		return false
	}
	w.fresh[side] = false
	if w.role != a && w.role != b || w.voice == (pcmFrame{}) {
		return false
	}
	var heard pcmFrame
	own.params.Codec.Decode(heard[:], frame[:])
	var all sum
	all.add(&heard)
	all.add(&w.voice)
	all.put(&heard)
	own.params.Codec.Encode(frame[:], heard[:])
	return true
}
