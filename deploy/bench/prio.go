package main

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// realTime gives the calling thread, which it locks, real-time priority below that of the engine under test, so that
// what is measured is the engine's pacing and not the generator's. Without the right to it the figures are worse, and
// no less true.
func realTime() {
	runtime.LockOSThread()
	param := struct{ priority int32 }{1}
	// The only failure is the missing right.
	_, _, _ = unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
}
