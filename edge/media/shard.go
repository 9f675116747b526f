package media

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
)

// shard is one clock and the legs it drives. Everything below the atomics belongs to whoever ticks: the shard's thread
// in Run, the caller of Engine.Tick in virtual time.
type shard struct {
	index    int
	spent    chan<- *leg // of the engine
	commands chan command
	arrivals chan *leg     // from other shards
	running  *atomic.Int32 // of the engine: shards that have not ended
	// maxLateness is of Config.
	maxLateness time.Duration

	load       atomic.Int32 // legs, as NewLeg sees them
	lateness   lateness
	lateTicks  atomic.Uint64
	overloaded atomic.Bool
	realTime   atomic.Bool

	slots   [slotsPerFrame][]*leg
	rooms   [slotsPerFrame][]*room
	added   int // legs and rooms ever: the next one's slot
	alive   int // legs and rooms in slots
	closing []*leg
	closed  []*room // of which something is left to write or to tell
	held    command // taken, but its leg is still on its way here; only while holds
	holds   bool
	ended   bool      // the engine ends: nothing new is begun, and no leg given to another shard
	counted bool      // the clock counts slots; false while there is no leg
	start   time.Time // of slot 0
	slot    int64     // the next to run
	buffer  [maxPacket]byte
	header  rtp.Header   // of the packet in buffer
	blocks  reportBlocks // of the report in buffer
	random  *rand.Rand
}

const (
	// maxPacket is more than any packet worth reading: 60 ms of G.711 is 492 octets.
	maxPacket = 1500
	// maxCatchUp is how many frames a late tick makes up for. What lies further back is skipped and counted.
	maxCatchUp = 64
	// maxLateSends is how many packets a late tick sends per leg: a burst of old audio helps nobody.
	maxLateSends = 3

	// decisive is how many slots must have run before their lateness says anything: of a handful the 99th percentile is
	// the worst.
	decisive = int64(time.Second / Slot)

	overloadRealTime = 2 * time.Millisecond
	overloadOrdinary = 10 * time.Millisecond
)

func newShard(index int, e *Engine) *shard {
	return &shard{
		maxLateness: e.config.MaxLateness,
		index:       index,
		spent:       e.spent,
		running:     &e.running,
		commands:    make(chan command, commandQueue),
		arrivals:    make(chan *leg, e.ports.size()),
		header:      newHeader(),
		random:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
}

// tick takes the legs and commands that came and runs every slot that is due at now.
func (s *shard) tick(now time.Time) {
	s.land(now)
	s.takeCommands(now)
	if s.ended {
		s.closeAll(now) // what came too late
	}
	if s.idle() {
		s.counted = false
		s.overloaded.Store(false)
		return
	}
	if !s.counted {
		s.counted, s.start, s.slot = true, now, 0
	}
	due := int64(now.Sub(s.start) / Slot)
	if behind := (due-s.slot)/slotsPerFrame - maxCatchUp; behind > 0 {
		s.skip(behind)
	}
	for ; s.slot <= due; s.slot++ {
		s.note(now, now.Sub(s.start)-time.Duration(s.slot)*Slot)
		later := (due - s.slot) / slotsPerFrame // how often these legs fire again in this tick
		at := s.start.Add(time.Duration(s.slot) * Slot)
		for _, r := range s.rooms[s.slot%slotsPerFrame] {
			r.fire(now)
		}
		for _, l := range s.slots[s.slot%slotsPerFrame] {
			l.firedAt = at
			l.fire(now, later)
		}
	}
	s.finishClosing(now)
}

// idle reports whether there is nothing to drive. At the engine's end a leg may arrive until every shard has ended.
func (s *shard) idle() bool {
	if s.ended && s.running.Load() > 0 {
		return false
	}
	return s.alive == 0 && !s.holds && len(s.closing) == 0 && len(s.closed) == 0 && len(s.arrivals) == 0
}

func (s *shard) add(l *leg) {
	s.put(l, s.added%int(slotsPerFrame))
	s.added++
}

func (s *shard) put(l *leg, slot int) {
	l.slot = slot
	s.slots[slot] = append(s.slots[slot], l)
	s.alive++
}

func (s *shard) remove(l *leg) {
	slot := s.slots[l.slot]
	for i := range slot {
		if slot[i] == l {
			slot[i] = slot[len(slot)-1]
			slot[len(slot)-1] = nil
			s.slots[l.slot] = slot[:len(slot)-1]
			break
		}
	}
	s.alive--
}

func (s *shard) close(l *leg, now time.Time) {
	s.remove(l)
	l.close(now)
	s.closing = append(s.closing, l)
}

func (s *shard) openRoom(r *room) {
	r.slot = s.added % int(slotsPerFrame)
	s.added++
	s.rooms[r.slot] = append(s.rooms[r.slot], r)
	s.alive++
}

func (s *shard) closeRoom(r *room, now time.Time) {
	slot := s.rooms[r.slot]
	for i := range slot {
		if slot[i] == r {
			slot[i] = slot[len(slot)-1]
			slot[len(slot)-1] = nil
			s.rooms[r.slot] = slot[:len(slot)-1]
			break
		}
	}
	s.alive--
	r.close(now)
	s.closed = append(s.closed, r)
}

// finishClosing lets go of the legs and rooms whose recordings are written and whose events are told.
func (s *shard) finishClosing(now time.Time) {
	left := s.closing[:0]
	for _, l := range s.closing {
		if l.finish(now) {
			s.load.Add(-1)
			continue
		}
		left = append(left, l)
	}
	clear(s.closing[len(left):])
	s.closing = left

	open := s.closed[:0]
	for _, r := range s.closed {
		if !r.finish(now) {
			open = append(open, r)
		}
	}
	clear(s.closed[len(open):])
	s.closed = open
}

// note counts how late a slot is, and once a second what that means.
func (s *shard) note(now time.Time, late time.Duration) {
	if late > Slot {
		s.lateTicks.Add(1)
	}
	second := now.Unix()
	if !s.lateness.add(second, late) || s.slot < decisive {
		return
	}
	limit := s.maxLateness
	switch {
	case limit > 0:
	case s.realTime.Load():
		limit = overloadRealTime
	default:
		limit = overloadOrdinary
	}
	p99 := s.lateness.p99(second)
	switch {
	case p99 > limit:
		s.overloaded.Store(true)
	case p99 <= limit/2:
		s.overloaded.Store(false)
	}
}

// skip leaves out whole frames that nobody was there for.
func (s *shard) skip(frames int64) {
	s.slot += frames * slotsPerFrame
	for _, slot := range s.slots {
		for _, l := range slot {
			l.skip(frames)
		}
	}
	for _, slot := range s.rooms {
		for _, r := range slot {
			r.recordings.lose(frames)
		}
	}
}

// end begins the end of the engine.
func (s *shard) end(now time.Time) {
	s.ended = true
	s.closeAll(now)
	s.running.Add(-1) // last: from here on no leg comes from this shard
}

// closeAll closes every leg and room, as at the engine's end.
func (s *shard) closeAll(now time.Time) {
	for _, slot := range s.slots {
		for len(slot) > 0 {
			l := slot[len(slot)-1]
			slot = slot[:len(slot)-1]
			s.close(l, now)
		}
	}
	for _, slot := range s.rooms {
		for len(slot) > 0 {
			r := slot[len(slot)-1]
			slot = slot[:len(slot)-1]
			s.closeRoom(r, now)
		}
	}
}

// run is the shard's thread: a tick at every slot while there are legs, parked without any use of the processor while
// there are none. It returns after ctx ended and the last leg is closed.
//
// It is pinned while it ticks, and sleeps by a system call of its own: see clock.go. What may block, as closing sockets
// does, is left to Engine.Run.
func (s *shard) run(ctx context.Context, config Config, warn *sync.Once) {
	enterThread(config, s, warn)
	var wait slotClock
	done := ctx.Done()
	for {
		if s.idle() {
			if s.ended {
				return
			}
			s.overloaded.Store(false) // who refuses calls while it is set would leave nobody to clear it
			s.counted = false
			if s.park(done, config.Now) {
				done = nil
				s.end(config.Now())
				continue
			}
		}
		if s.serve(done, &wait, config.Now) {
			done = nil // what is left is told and written
			s.end(config.Now())
		}
	}
}

// park waits until there is something to do, or until done; then it returns true.
func (s *shard) park(done <-chan struct{}, now func() time.Time) (ended bool) {
	select {
	case s.held = <-s.commands:
		s.holds = true
		s.applyHeld(now())
	case l := <-s.arrivals:
		s.receive(l, now())
	case <-done:
		return true
	}
	return false
}

// serve ticks until there are no legs, or until done; then it returns true.
func (s *shard) serve(done <-chan struct{}, wait *slotClock, now func() time.Time) (ended bool) {
	pin()
	defer unpin()
	for {
		anew := !s.counted
		s.tick(now())
		if anew {
			wait.begin() // after the tick read its clock: a wait never ends before a slot's time
		}
		select {
		case <-done:
			return true
		default:
		}
		if s.idle() {
			return false
		}
		wait.until(s.slot)
	}
}
