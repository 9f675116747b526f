package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Two ways to share the machine's processors while the REST API is measured. Apart, the server has the first to itself,
// and the generator, with PostgreSQL where there is one, has the others: what is counted is what one processor does.
// Together, all share all. On a machine that has only one there is no difference.
const serverProcessor = 0

// standApart confines this process, and what it starts from now on unless it says otherwise, to the processors that are
// not the server's.
func standApart() error {
	if runtime.NumCPU() == 1 {
		return nil
	}
	return share(slices.DeleteFunc(processors(), func(i int) bool { return i == serverProcessor }))
}

// standTogether gives this process, and others that it has started, all processors.
func standTogether(others ...int) error { return share(processors(), others...) }

// processors are those that this process had when it began.
func processors() []int {
	all := make([]int, runtime.NumCPU())
	for i := range all {
		all[i] = i
	}
	return all
}

func share(processors []int, others ...int) error {
	runtime.GOMAXPROCS(len(processors))
	for _, pid := range append(others, os.Getpid()) {
		if err := pin(pid, processors); err != nil {
			return err
		}
	}
	return nil
}

// pin confines all threads of a process to some processors; threads that they start later inherit that.
func pin(pid int, processors []int) error {
	var set unix.CPUSet
	for _, i := range processors {
		set.Set(i)
	}
	// A thread may be born of one that was not pinned yet: twice over all finds it.
	for range 2 {
		threads, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) { // it may be gone again
				return fmt.Errorf("pin thread %d to processors %v: %w", id, processors, err)
			}
		}
	}
	return nil
}
