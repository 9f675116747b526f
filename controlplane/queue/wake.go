package queue

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// topic is where processes tell each other which queues and calls to look at again.
const topic = "queues"

const (
	// pollEvery is how long a take that waits goes without looking when nobody wakes it.
	pollEvery = time.Second
	// publishMost bounds the keys of one message.
	publishMost = 100
	// publishWithin bounds how long a bus that hangs holds back the next message.
	publishWithin = 2 * time.Second
)

// hub wakes the takes of this process that wait, and collects what others are to be woken for. Everyone who waits for a
// key is woken: each looks for itself, and one look at an empty queue is cheap. The zero value is ready.
type hub struct {
	mu       sync.Mutex // guards what follows
	sleeping map[string]map[chan struct{}]bool
	out      map[string]bool // to be published
	more     chan struct{}   // has a value when out is not empty
}

// listen has the channel get a value whenever one of the keys is woken, until stop is called. Wakes while nobody reads
// are one.
func (h *hub) listen(keys ...string) (woken <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sleeping == nil {
		h.sleeping = map[string]map[chan struct{}]bool{}
	}
	for _, key := range keys {
		if h.sleeping[key] == nil {
			h.sleeping[key] = map[chan struct{}]bool{}
		}
		h.sleeping[key][c] = true
	}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, key := range keys {
			delete(h.sleeping[key], c)
			if len(h.sleeping[key]) == 0 {
				delete(h.sleeping, key)
			}
		}
	}
}

// wake wakes this process at once, and has the others told.
func (h *hub) wake(keys ...string) {
	h.local(keys...)
	more := h.outgoing()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out == nil {
		h.out = map[string]bool{}
	}
	for _, key := range keys {
		h.out[key] = true
	}
	select {
	case more <- struct{}{}:
	default:
	}
}

// local wakes this process alone.
func (h *hub) local(keys ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		for c := range h.sleeping[key] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func (h *hub) outgoing() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.more == nil {
		h.more = make(chan struct{}, 1)
	}
	return h.more
}

// drain takes up to publishMost keys that are to be published; what is left keeps the signal.
func (h *hub) drain() []string {
	more := h.outgoing()
	h.mu.Lock()
	defer h.mu.Unlock()
	var keys []string
	for key := range h.out {
		if len(keys) == publishMost {
			select {
			case more <- struct{}{}:
			default:
			}
			break
		}
		keys = append(keys, key)
		delete(h.out, key)
	}
	slices.Sort(keys)
	return keys
}

// publish tells the other processes whom to wake, until ctx ends. What a bus that is away does not take is lost: they
// look by themselves a second later.
func (s *Service) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hub.outgoing():
		}
		keys := s.hub.drain()
		if len(keys) == 0 || s.Bus == nil {
			continue
		}
		within, cancel := context.WithTimeout(ctx, publishWithin)
		err := s.Bus.Publish(within, topic, []byte(strings.Join(keys, " ")))
		cancel()
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("queues.wake", "error", err.Error())
		}
	}
}

// hear wakes this process for what others have told it, until ctx ends.
func (s *Service) hear(ctx context.Context) {
	for s.Bus != nil && ctx.Err() == nil {
		if err := s.hearOnce(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("queues.hear", "error", err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
}

func (s *Service) hearOnce(ctx context.Context) error {
	sub, err := s.Bus.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return sub.Close()
		case m, open := <-sub.C:
			if !open {
				return sub.Close()
			}
			s.hub.local(strings.Fields(string(m.Payload))...)
		}
	}
}
