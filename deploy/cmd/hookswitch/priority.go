package main

import (
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// edgeNice is how much the process of an edge comes before ordinary ones.
const edgeNice = -10

// raisePriority lets every thread of an edge come before ordinary processes, where the system allows it. The media
// threads have real-time priority of their own, but when the garbage collector stops the world they wait for every
// other thread of the process to stop: one that the kernel has put aside for another program's sake makes all calls
// late together. Threads made later inherit it.
func raisePriority(log *slog.Logger) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		log.Warn("edge.priority", "error", err.Error())
		return
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, id, edgeNice)
		}
		if err != nil {
			log.Warn("edge.priority", "error", err.Error(), "hint", "CAP_SYS_NICE keeps audio on time beside other programs")
			return
		}
	}
}
