package media

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// PacketPort is one bound UDP port, as a tick sees it. Only one goroutine uses it at a time.
type PacketPort interface {
	// Recv takes the next packet that has arrived, cut off at len(buf); ok is false when there is none. It never blocks.
	Recv(buf []byte) (n int, from netip.AddrPort, ok bool)
	// Send hands one packet to the network. It never blocks: when there is no room the packet is lost and an error says so.
	Send(b []byte, to netip.AddrPort) error
	// Close frees the port.
	Close() error
}

// arrivalPort is a PacketPort that knows when the packet last received reached the machine. Without it a packet counts
// as arrived when it was fetched, and jitter is measured in steps of a frame.
type arrivalPort interface {
	Arrived() time.Time
}

func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// portRange hands out pairs of ports: an even one for RTP and the next for RTCP (RFC 3550 §11), in random order, so that
// a port cannot be guessed and a freed one does not come back soon.
type portRange struct {
	quarantine time.Duration
	// freed brings ports back from the shards. It has room for every pair, so that a tick never waits.
	freed chan freedPort

	mu      sync.Mutex  // guards what follows, for a few lines
	free    []uint16    // even ports, in no order
	resting []freedPort // in the order they were freed
	taken   int
}

type freedPort struct {
	port uint16
	at   time.Time
}

func newPortRange(first, last int, quarantine time.Duration) (*portRange, error) {
	const highest = 65535
	if first < 1 || last > highest {
		return nil, fmt.Errorf("media: RTP ports must be within 1–%d, are %d–%d", highest, first, last)
	}
	r := &portRange{quarantine: quarantine}
	for port := first + first%2; port+1 <= last; port += 2 {
		r.free = append(r.free, uint16(port))
	}
	if len(r.free) == 0 {
		return nil, fmt.Errorf("media: no pair of an even and an odd RTP port in %d–%d", first, last)
	}
	r.freed = make(chan freedPort, len(r.free))
	return r, nil
}

// size is how many pairs there are.
func (r *portRange) size() int { return cap(r.freed) }

// take picks a pair at random, or returns ErrNoPorts.
func (r *portRange) take(now time.Time) (uint16, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collect(now)
	if len(r.free) == 0 {
		return 0, ErrNoPorts
	}
	i := rand.IntN(len(r.free))
	port := r.free[i]
	r.free[i] = r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	r.taken++
	return port, nil
}

// giveBack puts a pair into quarantine. It never blocks.
func (r *portRange) giveBack(port uint16, now time.Time) {
	r.freed <- freedPort{port: port, at: now}
}

func (r *portRange) count(now time.Time) (free, taken int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collect(now)
	return len(r.free), r.taken + len(r.resting)
}

// collect moves ports from the shards into quarantine, and out of it when their time is over.
func (r *portRange) collect(now time.Time) {
	for len(r.freed) > 0 { // only collect receives, and it holds mu
		r.resting = append(r.resting, <-r.freed)
		r.taken--
	}
	over := 0
	for over < len(r.resting) && now.Sub(r.resting[over].at) >= r.quarantine {
		r.free = append(r.free, r.resting[over].port)
		over++
	}
	r.resting = append(r.resting[:0], r.resting[over:]...)
}
