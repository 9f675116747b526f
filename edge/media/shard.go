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
	// maxLateness is of Config.
	maxLateness time.Duration

	load       atomic.Int32 // legs, as NewLeg sees them
	lateness   lateness
	lateTicks  atomic.Uint64
	overloaded atomic.Bool
	realTime   atomic.Bool

	slots   [slotsPerFrame][]*leg
	added   int // legs ever: the next one's slot
	alive   int // legs in slots
	closing []*leg
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

// op says what a command asks for.
type op uint8

const (
	opAdd op = iota
	opSet
	opPlay
	opStopPlay
	opDigits
	opRecord
	opStopRecord
	opPauseRecord
	opBridge
	opUnbridge
	opClose
)

// command is one thing asked of a leg, as a value; op says which fields count.
type command struct {
	op       op
	leg      *leg
	peer     *leg
	params   Params
	player   *player
	recorder *recorder
	digits   sending
	id       uint64
	paused   bool
}

func newShard(index int, spent chan<- *leg, maxLateness time.Duration) *shard {
	return &shard{
		maxLateness: maxLateness,
		index:       index,
		spent:       spent,
		commands:    make(chan command, commandQueue),
		header:      newHeader(),
		random:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
}

// tick takes the commands that came and runs every slot that is due at now.
func (s *shard) tick(now time.Time) {
	s.takeCommands(now)
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
		for _, l := range s.slots[s.slot%slotsPerFrame] {
			l.fire(now, later)
		}
	}
	s.finishClosing(now)
}

func (s *shard) idle() bool { return s.alive == 0 && len(s.closing) == 0 }

func (s *shard) takeCommands(now time.Time) {
	for range cap(s.commands) {
		select {
		case c := <-s.commands:
			s.apply(c, now)
		default:
			return
		}
	}
}

func (s *shard) apply(c command, now time.Time) {
	l := c.leg
	if l.closed {
		if c.op == opRecord {
			c.recorder.discard()
		}
		return
	}
	switch c.op {
	case opAdd:
		s.add(l)
	case opSet:
		l.configure(c.params, now)
	case opPlay:
		l.play(c.player, now)
	case opStopPlay:
		if l.player != nil && l.player.id == PlayID(c.id) {
			l.endPlay(Stopped, now)
		}
	case opDigits:
		l.sendDigits(c.digits, now)
	case opRecord:
		l.recorders = append(l.recorders, c.recorder)
	case opStopRecord:
		l.stopRecord(RecordID(c.id))
	case opPauseRecord:
		l.pauseRecord(RecordID(c.id), c.paused)
	case opBridge:
		if !c.peer.closed {
			bridge(l, c.peer)
		}
	case opUnbridge:
		l.unbridge()
	case opClose:
		s.close(l, now)
	}
}

func (s *shard) add(l *leg) {
	l.slot = s.added % int(slotsPerFrame)
	s.added++
	s.slots[l.slot] = append(s.slots[l.slot], l)
	s.alive++
}

func (s *shard) close(l *leg, now time.Time) {
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
	l.close(now)
	s.closing = append(s.closing, l)
}

// finishClosing lets go of the legs whose recordings are written and whose events are told.
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
}

// closeAll closes every leg, as at the engine's end.
func (s *shard) closeAll(now time.Time) {
	for _, slot := range s.slots {
		for len(slot) > 0 {
			l := slot[len(slot)-1]
			slot = slot[:len(slot)-1]
			s.close(l, now)
		}
	}
}

// discardCommands ends what was asked for too late. No command can come any more.
func (s *shard) discardCommands() {
	for len(s.commands) > 0 {
		c := <-s.commands
		switch c.op {
		case opAdd:
			c.leg.discard()
			s.load.Add(-1)
		case opRecord:
			c.recorder.discard()
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
			if done == nil {
				return
			}
			s.overloaded.Store(false) // who refuses calls while it is set would leave nobody to clear it
			select {
			case c := <-s.commands:
				s.apply(c, config.Now())
			case <-done:
				return
			}
			s.counted = false
		}
		if s.serve(done, &wait, config.Now) {
			done = nil // what is left is told and written
			s.closeAll(config.Now())
		}
	}
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
