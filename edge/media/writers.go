package media

import "sync"

// writers are the few goroutines that write all recordings. One for each would be simpler, and was measured: when the disk
// is busy hundreds of them wait for it at once, each with a thread, and everything else of the process behind them.
type writers struct {
	ready chan *recorder
	gone  sync.WaitGroup

	mu      sync.Mutex
	open    int // recordings
	running int // goroutines: as many as there are recordings, up to mostWriters
}

const (
	// mostWriters is two, so that one slow Writer does not hold up all recordings.
	mostWriters = 2
	// writersQueue is how many recordings may wait for their turn: each asks twice a second, so it is ten seconds of a
	// thousand recordings.
	writersQueue = 16384
)

// The turns of a recorder.
const (
	turnNone    int32 = iota
	turnQueued        // it waits in ready
	turnWriting       // a goroutine is at it
	turnAgain         // and has to look once more
)

func newWriters() *writers { return &writers{ready: make(chan *recorder, writersQueue)} }

// add takes up a recording, which leaves when it has ended.
func (w *writers) add(r *recorder) {
	r.writers = w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open++
	if w.running < min(w.open, mostWriters) {
		w.running++
		w.gone.Go(w.run)
	}
}

// offer queues a recording for its turn; false means that the queue is full.
func (w *writers) offer(r *recorder) bool {
	select {
	case w.ready <- r:
		return true
	default:
		return false
	}
}

func (w *writers) run() {
	for r := range w.ready {
		if r.write() && w.leave() {
			return
		}
	}
}

// leave counts a recording out and reports whether the caller has become superfluous.
func (w *writers) leave() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	if w.running <= w.open {
		return false
	}
	w.running--
	return true
}

// wait returns when every recording is written.
func (w *writers) wait() { w.gone.Wait() }
