package media

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what an Engine needs. The zero value works: ports 10000 to 29999 on every address.
type Config struct {
	// Shards is the number of media threads; 0 is one less than the processors, at least one. main sets
	// GOMAXPROCS to more than processors + shards: a media thread needs a P whenever it wakes (see slotClock.until).
	Shards int
	// IP is the IPv4 address to bind ports to; the zero Addr is every address.
	IP netip.Addr
	// PortMin and PortMax bound the RTP ports, both included; 0 is 10000 and 29999. A leg takes an even port and the odd
	// one above it for RTCP.
	PortMin, PortMax int
	// Open opens one port; nil is a UDP socket. An error that wraps syscall.EADDRINUSE makes the engine try another.
	Open func(port int) (PacketPort, error)
	// Quarantine is how long a port stays unused after its leg, so that late packets of one call never reach another;
	// 0 is 10 s.
	Quarantine time.Duration
	// RealTime asks for SCHED_FIFO on the media threads, which needs CAP_SYS_NICE or an rtprio limit. Refused, it is
	// logged once and the engine runs on.
	RealTime bool
	// MaxLateness is how late the clock may come, in 99 of 100 slots over 5 s, before new calls are refused; 0 is 2 ms with
	// real-time priority and 10 ms without.
	MaxLateness time.Duration
	// Logger is told about the threads, never about calls; nil is silent.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

const (
	defaultPortMin    = 10000
	defaultPortMax    = 29999
	defaultQuarantine = 10 * time.Second

	// commandQueue is how many commands a shard holds between two ticks; then callers wait.
	commandQueue = 512
	// defaultEvents is the room of a leg's event channel.
	defaultEvents = 64
)

// Engine carries the media of all calls. Run drives it in real time, Tick in virtual time; use one of the two.
type Engine struct {
	config  Config
	ports   *portRange
	shards  []*shard
	writers *writers
	spent   chan *leg // closed, their sockets not yet; room for all there can be, so that a tick never waits
	ids     atomic.Uint64
	running atomic.Int32 // shards that have not ended

	// gate is held for reading while a command is handed over, so that Run knows when none can come any more.
	gate     sync.RWMutex
	closed   bool
	stopping chan struct{} // closed when the shards no longer take commands
}

// New checks the configuration and builds an engine that has no thread and no socket yet.
func New(config Config) (*Engine, error) {
	if config.Shards < 0 {
		return nil, fmt.Errorf("media: shards must be 0 or more, is %d", config.Shards)
	}
	if config.Shards == 0 {
		config.Shards = max(1, runtime.NumCPU()-1)
	}
	if config.PortMin == 0 && config.PortMax == 0 {
		config.PortMin, config.PortMax = defaultPortMin, defaultPortMax
	}
	if config.IP.IsValid() && !config.IP.Unmap().Is4() {
		return nil, fmt.Errorf("media: address to bind must be IPv4, is %s", config.IP)
	}
	if config.Quarantine == 0 {
		config.Quarantine = defaultQuarantine
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Open == nil {
		ip := config.IP
		config.Open = func(port int) (PacketPort, error) { return openUDP(ip, port) }
	}
	ports, err := newPortRange(config.PortMin, config.PortMax, config.Quarantine)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		config: config, ports: ports, stopping: make(chan struct{}),
		writers: newWriters(), spent: make(chan *leg, ports.size()),
	}
	for i := range config.Shards {
		e.shards = append(e.shards, newShard(i, e))
	}
	e.running.Store(int32(config.Shards))
	return e, nil
}

// Run drives every shard on a thread of its own until ctx ends; then it closes the legs that are left, waits until their
// recordings are written and returns nil. It must be called at most once, and not together with Tick.
func (e *Engine) Run(ctx context.Context) error {
	var threads sync.WaitGroup
	var warn sync.Once
	for _, s := range e.shards {
		threads.Go(func() { s.run(ctx, e.config, &warn) })
	}
	var sockets sync.WaitGroup
	sockets.Go(func() {
		for l := range e.spent {
			l.closePorts(e.config.Now())
		}
	})
	threads.Wait()
	close(e.spent)
	sockets.Wait()
	close(e.stopping)
	e.gate.Lock()
	e.closed = true
	e.gate.Unlock()
	for _, s := range e.shards {
		s.discardCommands()
	}
	e.writers.wait()
	return nil
}

// Tick runs every slot that is due at now, on every shard, on the caller's goroutine: the same code as Run, in virtual
// time. Call it every Slot; a caller that comes later is treated as a machine that was late. At most 512 commands may be
// given between two calls, since nobody takes them meanwhile.
func (e *Engine) Tick(now time.Time) {
	for _, s := range e.shards {
		s.tick(now)
	}
	for len(e.spent) > 0 {
		l := <-e.spent
		l.closePorts(now)
	}
}

// Lateness is how late the slots of the worst shard were, at the 99th percentile over the last 5 s. It is quantised
// upwards, to 1–1.5–2–3–5–7.5 steps; 0 when nothing runs.
func (e *Engine) Lateness() time.Duration {
	second := e.config.Now().Unix()
	var worst time.Duration
	for _, s := range e.shards {
		worst = max(worst, s.lateness.p99(second))
	}
	return worst
}

// Overloaded reports whether new calls should be refused: the clock of some shard was later than MaxLateness for 1 in 100
// slots over 5 s. Once set it stays until the lateness is half of that.
func (e *Engine) Overloaded() bool {
	for _, s := range e.shards {
		if s.overloaded.Load() {
			return true
		}
	}
	return false
}

// Stats is the state of the whole engine, for metrics.
func (e *Engine) Stats() EngineStats {
	stats := EngineStats{Shards: len(e.shards), Lateness: e.Lateness(), Overloaded: e.Overloaded(), RealTime: true}
	for _, s := range e.shards {
		stats.Legs += int(s.load.Load())
		stats.LateTicks += s.lateTicks.Load()
		stats.RealTime = stats.RealTime && s.realTime.Load()
	}
	stats.PortsFree, stats.PortsTaken = e.ports.count(e.config.Now())
	return stats
}

// LegConfig is what a new leg needs; the zero value works.
type LegConfig struct {
	// Near puts the leg into the shard of another that it will be bridged with, so that it needs not move.
	Near *Leg
	// EventBuffer is the room of the leg's event channel; 0 is 64.
	EventBuffer int
}

// NewLeg takes a random free port pair and opens it. The leg is deaf and mute until Set. It returns ErrNoPorts when the
// range is exhausted, ErrClosed after Run ended, and otherwise what the system said about opening a socket.
func (e *Engine) NewLeg(config LegConfig) (*Leg, error) {
	if config.EventBuffer <= 0 {
		config.EventBuffer = defaultEvents
	}
	s := e.near(config.Near)
	port, rtp, rtcp, err := e.openPair()
	if err != nil {
		return nil, err
	}
	l := &Leg{
		engine: e,
		id:     e.ids.Add(1),
		shard:  s,
		port:   port,
		events: make(chan Event, config.EventBuffer),
	}
	l.own = newLeg(s, l, rtp, rtcp)
	s.load.Add(1)
	if !e.send(s, command{op: opAdd, leg: l.own}) {
		s.load.Add(-1)
		l.own.closePorts(e.config.Now())
		return nil, ErrClosed
	}
	return l, nil
}

// near is the shard of a leg, or the best one.
func (e *Engine) near(l *Leg) *shard {
	if l == nil {
		return e.leastLoaded()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shard
}

// openPair opens the two sockets of a leg, passing over ports that another program holds.
func (e *Engine) openPair() (port uint16, rtp, rtcp PacketPort, err error) {
	for {
		port, err := e.ports.take(e.config.Now())
		if err != nil {
			return 0, nil, nil, err
		}
		rtp, rtcp, err := e.open(port)
		if err == nil {
			return port, rtp, rtcp, nil
		}
		e.ports.giveBack(port, e.config.Now())
		if !isInUse(err) {
			return 0, nil, nil, fmt.Errorf("open RTP port %d: %w", port, err)
		}
	}
}

func (e *Engine) open(port uint16) (rtp, rtcp PacketPort, err error) {
	rtp, err = e.config.Open(int(port))
	if err != nil {
		return nil, nil, err
	}
	rtcp, err = e.config.Open(int(port) + 1)
	if err != nil {
		_ = rtp.Close() // nothing was received on it; the error that matters is the other one
		return nil, nil, err
	}
	return rtp, rtcp, nil
}

// leastLoaded picks by the number of legs; between equals at random, so that short calls spread too.
func (e *Engine) leastLoaded() *shard {
	first := rand.IntN(len(e.shards))
	best := e.shards[first]
	for i := range e.shards {
		if s := e.shards[(first+i)%len(e.shards)]; s.load.Load() < best.load.Load() {
			best = s
		}
	}
	return best
}

// send hands a command to a shard; false means that the engine has ended.
func (e *Engine) send(s *shard, c command) bool {
	e.gate.RLock()
	defer e.gate.RUnlock()
	if e.closed {
		return false
	}
	select {
	case s.commands <- c:
		return true
	case <-e.stopping:
		return false
	}
}
