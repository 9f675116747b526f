package media

import (
	"log/slog"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// realTimePriority is above every ordinary thread and below the kernel's own.
const realTimePriority = 20

// enterThread makes the caller's goroutine the only one of its thread, with real-time priority where asked for and
// allowed. The thread ends with the goroutine, so the priority never reaches other goroutines; nor is it inherited.
func enterThread(config Config, s *shard, warn *sync.Once) {
	runtime.LockOSThread()
	if !config.RealTime {
		return
	}
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Policy:   unix.SCHED_FIFO,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
		Priority: realTimePriority,
	}, 0)
	if err != nil {
		warn.Do(func() {
			config.Logger.Warn("media.no_real_time_priority", slog.String("error", err.Error()),
				slog.String("remedy", "allow CAP_SYS_NICE, or an rtprio limit of 20 or more"))
		})
		return
	}
	s.realTime.Store(true)
}

// pin keeps the caller's goroutine on its processor (a P of the runtime) until unpin: the scheduler's and the
// collector's requests to stop wait. Between the two nothing may block.
//
// Why: the runtime asks whatever has run for 10 ms without the scheduler to yield, and our loop looks like that to it. A
// goroutine that yields goes behind all that are waiting and comes back by way of another thread, an ordinary one: beside
// a busy file system that took 5 to 20 ms. The runtime keeps these two names for packages outside of it (runtime/proc.go).
//
//go:linkname pin runtime.procPin
func pin() int

//go:linkname unpin runtime.procUnpin
func unpin()

// slotClock sleeps until the slots of a shard, by the monotonic clock.
type slotClock struct {
	start int64 // of slot 0, in nanoseconds
}

// begin makes now the time of slot 0.
func (c *slotClock) begin() {
	var now unix.Timespec
	// CLOCK_MONOTONIC exists on every Linux; an error would mean a bad pointer.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	c.start = now.Nano()
}

// until sleeps until a slot's time, not at all when that has passed. It is called and returns pinned, and is not while it
// sleeps: then a garbage collection finds the goroutine in a system call and needs not wait for it. Nothing between the
// two has a function's prologue, where a request to yield would be seen.
func (c *slotClock) until(slot int64) {
	at := unix.NsecToTimespec(c.start + slot*int64(Slot))
	const absolute = 1 // TIMER_ABSTIME, time.h
	for {
		unpin()
		_, _, errno := syscall.Syscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, absolute,
			uintptr(unsafe.Pointer(&at)), 0, 0, 0)
		pin()
		if errno != unix.EINTR {
			return
		}
	}
}
