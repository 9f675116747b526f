package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stream is the audio of one call as the generator sends and checks it. The generator's media thread owns it once it
// is started.
type stream struct {
	fd     int
	port   uint16
	remote unix.SockaddrInet4
	seed   uint32 // of the pattern sent

	began    time.Time // of the INVITE
	first    time.Duration
	seq      uint16 // next to send
	ts       uint32
	ssrc     uint32
	sent     int
	lastSeq  uint16
	lastAt   int64 // kernel's receive time, ns
	received int
	lost     int // gaps in the sequence
	wrong    int // frames that are neither silence nor the prompt's next
	frame    int // next frame of the prompt expected; -1 before it began
	jitterNS float64
	stopped  bool
}

const (
	frameOctets = 160
	frameTime   = 20 * time.Millisecond
	slots       = 10
	slotTime    = frameTime / slots
)

// generator sends and receives all streams on one thread.
type generator struct {
	prompt [][]byte // frames of the looping prompt, µ-law
	add    chan *stream
	remove chan *stream
	slots  [slots][]*stream
	deltas histogram // |distance between packets − 20 ms|
	cpuNS  atomic.Int64
}

func newGenerator(prompt [][]byte) *generator {
	return &generator{prompt: prompt, add: make(chan *stream, 4096), remove: make(chan *stream, 4096)}
}

// openStream binds a socket whose packets carry the kernel's time of arrival.
func openStream(began time.Time, seed uint32) (*stream, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &stream{fd: fd, began: began, seed: seed, ssrc: seed, frame: -1}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	s.port = uint16(at.(*unix.SockaddrInet4).Port)
	return s, nil
}

func (s *stream) start(g *generator, remote netip.AddrPort) {
	s.remote = unix.SockaddrInet4{Port: int(remote.Port()), Addr: remote.Addr().As4()}
	g.add <- s
}

// pattern is the n-th octet that a stream sends: noise that differs between streams and never repeats within a call,
// so that a frame out of place shows. 0x7F and 0xFF, which both mean silence, do not occur.
func pattern(seed uint32, n int) byte {
	x := seed + uint32(n)*2654435761
	x ^= x >> 15
	x *= 2246822519
	x ^= x >> 13
	b := byte(x)
	if b&0x7F == 0x7F {
		b ^= 0x40
	}
	return b
}

// run is the media thread. It polls each socket when its slot fires, as the engine under test does, so that the
// generator costs the machine as little as can be.
func (g *generator) run(ctx context.Context, done *sync.WaitGroup) {
	defer done.Done()
	realTime()
	next := time.Now()
	packet := make([]byte, 12+frameOctets)
	in := make([]byte, 2048)
	oob := make([]byte, 128)
	for slot := 0; ctx.Err() == nil; slot = (slot + 1) % slots {
		g.take()
		for _, s := range g.slots[slot] {
			g.receive(s, in, oob)
			s.send(packet)
		}
		next = next.Add(slotTime)
		if wait := time.Until(next); wait > 0 {
			pause := unix.NsecToTimespec(wait.Nanoseconds())
			_ = unix.Nanosleep(&pause, nil) // an early return only makes a slot early
		}
		g.cpuNS.Store(threadCPU())
	}
}

func threadCPU() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return ts.Nano()
}

// take adds and removes streams between slots.
func (g *generator) take() {
	for {
		select {
		case s := <-g.add:
			least := 0
			for i := range g.slots {
				if len(g.slots[i]) < len(g.slots[least]) {
					least = i
				}
			}
			g.slots[least] = append(g.slots[least], s)
		case s := <-g.remove:
			for i, list := range g.slots {
				for j, have := range list {
					if have == s {
						g.slots[i] = append(list[:j], list[j+1:]...)
						s.stopped = true
					}
				}
			}
		default:
			return
		}
	}
}

func (s *stream) send(packet []byte) {
	packet[0], packet[1] = 0x80, 0
	binary.BigEndian.PutUint16(packet[2:], s.seq)
	binary.BigEndian.PutUint32(packet[4:], s.ts)
	binary.BigEndian.PutUint32(packet[8:], s.ssrc)
	for i := range frameOctets {
		packet[12+i] = pattern(s.seed, s.sent*frameOctets+i)
	}
	if unix.Sendto(s.fd, packet, 0, &s.remote) == nil {
		s.sent++
	}
	s.seq++
	s.ts += frameOctets
}

func (g *generator) receive(s *stream, in, oob []byte) {
	for range 8 {
		n, oobn, _, _, err := unix.Recvmsg(s.fd, in, oob, 0)
		if err != nil {
			return
		}
		if n == 12+frameOctets && in[1]&0x7F == 0 {
			g.check(s, in[:n], arrival(oob[:oobn]))
		}
	}
}

// arrival reads the kernel's receive time (SCM_TIMESTAMPNS) from the control message.
func arrival(oob []byte) int64 {
	head := unix.CmsgLen(0)
	if len(oob) < head+int(unsafe.Sizeof(unix.Timespec{})) {
		return time.Now().UnixNano()
	}
	sec := int64(binary.LittleEndian.Uint64(oob[head:]))
	return sec*1e9 + int64(binary.LittleEndian.Uint64(oob[head+8:]))
}

// check verifies one packet: its sequence, its distance from the last, and its payload against the prompt.
func (g *generator) check(s *stream, packet []byte, at int64) {
	seq := binary.BigEndian.Uint16(packet[2:])
	if s.received > 0 {
		if gap := int(seq - s.lastSeq - 1); gap != 0 {
			s.lost += gap & 0xFFFF
		}
		delta := float64(at-s.lastAt) - float64(frameTime)
		if delta < 0 {
			delta = -delta
		}
		s.jitterNS += (delta - s.jitterNS) / 16 // RFC 3550 §6.4.1
		g.deltas.add(time.Duration(delta))
	} else {
		s.first = time.Unix(0, at).Sub(s.began)
	}
	s.received++
	s.lastSeq, s.lastAt = seq, at
	payload := packet[12:]
	if s.frame < 0 {
		if silent(payload) {
			return
		}
		s.frame = 0
	}
	if s.frame == 0 && silent(payload) {
		return // between the end of the prompt and that of the call
	}
	if string(payload) != string(g.prompt[s.frame]) {
		s.wrong++
	}
	s.frame = (s.frame + 1) % len(g.prompt)
}

func silent(payload []byte) bool {
	for _, b := range payload {
		if b != 0xFF && b != 0x7F {
			return false
		}
	}
	return true
}

// histogram counts durations in steps of 10 µs up to 1 s.
type histogram struct {
	counts [100_001]uint32
	total  int
}

func (h *histogram) add(d time.Duration) {
	h.counts[min(int(d/(10*time.Microsecond)), len(h.counts)-1)]++
	h.total++
}

func (h *histogram) quantile(q float64) time.Duration {
	left := int(float64(h.total) * q)
	for i, n := range h.counts {
		if left -= int(n); left < 0 {
			return time.Duration(i) * 10 * time.Microsecond
		}
	}
	return 0
}

func (h *histogram) String() string {
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms", ms(h.quantile(.5)), ms(h.quantile(.99)), ms(h.quantile(.999)))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
