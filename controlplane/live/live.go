// Package live owns the stream of events for those who watch: server-sent events (HTML, "Server-sent events"), filtered,
// scoped and masked as each reader is, resumed without gap or repetition. Events, their positions and who may see which
// are package event's; who a reader is, and whether its key or session still holds, is a function given to it.
//
// One goroutine follows the feed for all readers of a process and hands each event to those it concerns, as bytes that
// are made once for everybody who sees the same. A reader that does not keep up is cut off when 256 events wait for it,
// and resumes by the position of the last one it got.
package live

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/event"
	"github.com/hookswitch/hookswitch/controlplane/rest"
)

// Config is what the stream needs.
type Config struct {
	Feed  *event.Feed
	Masks event.Masks
	// Check is asked every few seconds whether a reader's key, session or token still holds, and what it may do now; the
	// Scope of the answer is its account. Any error that is a Problem of the codes unauthenticated, forbidden or not_found
	// ends the reader's stream, others are passed over. It is asked once for all streams of one credential.
	Check func(ctx context.Context, who auth.Caller) (auth.Caller, error)
	Log   *slog.Logger
}

// Service is the streams of one process.
type Service struct {
	Config
	checks checks
	ending chan struct{} // closed by End
	end    func()

	look      time.Duration // how often the feed is looked at unasked
	check     time.Duration // how often a reader is checked
	heartbeat time.Duration // the longest silence

	mu       sync.Mutex // guards what follows
	position int64      // readers have everything up to here
	readers  map[string]map[*reader]struct{}
	count    int
}

// New makes a Service. Run it beside the feed.
func New(cfg Config) (*Service, error) {
	if cfg.Feed == nil || cfg.Check == nil || cfg.Log == nil {
		return nil, errors.New("live: Feed, Check and Log are needed")
	}
	s := &Service{
		Config: cfg, ending: make(chan struct{}), look: time.Second, check: 5 * time.Second, heartbeat: 15 * time.Second,
		readers: map[string]map[*reader]struct{}{},
	}
	s.end = sync.OnceFunc(func() { close(s.ending) })
	s.checks = checks{ask: cfg.Check, fresh: s.check / 2, known: map[identity]*answer{}}
	return s, nil
}

// Operations are the functions of the operations of events.yaml that event.Service does not have.
func (s *Service) Operations() map[string]rest.Operation {
	return map[string]rest.Operation{"streamEvents": rest.Op(s.stream)}
}

// End ends every stream, so that the server can be shut down: its clients come back to another. It can be called twice.
func (s *Service) End() { s.end() }

// Readers is how many streams are open.
func (s *Service) Readers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// readMost bounds the events of one read.
const readMost = 500

// Run follows the feed until ctx ends, and ends every stream then.
func (s *Service) Run(ctx context.Context) error {
	defer s.End()
	woken, stop := s.Feed.Watch()
	defer stop()
	tick := time.NewTicker(s.look)
	defer tick.Stop()
	for {
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("live.behind", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-tick.C:
			s.checks.sweep()
		}
	}
}

// follow hands out what was placed since.
func (s *Service) follow(ctx context.Context) error {
	for {
		s.mu.Lock()
		from, idle := s.position, s.count == 0
		s.mu.Unlock()
		if idle {
			return nil // the first reader says where to begin
		}
		events, err := s.Feed.After(ctx, from, readMost)
		if err != nil || len(events) == 0 {
			return err
		}
		s.mu.Lock()
		for i := range events {
			s.hand(&events[i])
		}
		s.position = max(s.position, events[len(events)-1].Position)
		s.mu.Unlock()
		if len(events) < readMost {
			return nil
		}
	}
}

// hand gives one event to the readers that it concerns. s.mu is held.
func (s *Service) hand(e *event.Event) {
	f := frames{service: s, event: e}
	for r := range s.readers[e.AccountID] {
		if e.Position <= r.from || !r.wants(e) {
			continue
		}
		select {
		case r.in <- f.of(r.sees.Mask()):
		default:
			s.cut(r)
		}
	}
}

// frame is an event as it is sent.
type frame struct{ text []byte }

// frames makes the bytes of one event, once for each mask.
type frames struct {
	service *Service
	event   *event.Event
	made    map[auth.Mask]*frame
}

func (f *frames) of(mask auth.Mask) *frame {
	if one := f.made[mask]; one != nil {
		return one
	}
	text, err := encode(f.service.Masks.For(*f.event, mask))
	if err != nil {
		f.service.Log.Error("live.not_encoded", "event_id", f.event.ID, "error", err.Error())
	}
	if f.made == nil {
		f.made = map[auth.Mask]*frame{}
	}
	one := &frame{text: text}
	f.made[mask] = one
	return one
}

// encode writes an event as one block of the stream. Its JSON has no line feed, and so is one line of data.
func encode(e event.Event) ([]byte, error) {
	text, err := event.Encode(e)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(len(text) + len(e.Type) + 48)
	b.WriteString("id: ")
	b.WriteString(strconv.FormatInt(e.Position, 10))
	b.WriteString("\nevent: ")
	b.WriteString(e.Type)
	b.WriteString("\ndata: ")
	b.Write(text)
	b.WriteString("\n\n")
	return b.Bytes(), nil
}

// join adds a reader, which from then on gets what follows the position it has or, without one, the present.
func (s *Service) join(ctx context.Context, r *reader) (position int64, err error) {
	last, err := s.Feed.Last(ctx)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		s.position = last
	}
	if s.readers[r.account] == nil {
		s.readers[r.account] = map[*reader]struct{}{}
	}
	s.readers[r.account][r] = struct{}{}
	s.count++
	// Another process may have shown the reader more than this one has seen.
	r.from = max(r.from, s.position)
	return s.position, nil
}

func (s *Service) leave(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(r)
}

// cut ends a reader that does not keep up. s.mu is held.
func (s *Service) cut(r *reader) {
	s.remove(r)
	close(r.slow)
}

func (s *Service) remove(r *reader) {
	if _, in := s.readers[r.account][r]; !in {
		return
	}
	s.count--
	delete(s.readers[r.account], r)
	if len(s.readers[r.account]) == 0 {
		delete(s.readers, r.account)
	}
}

// reached is the position up to which a reader has everything, when nothing waits for it.
func (s *Service) reached(r *reader) (position int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.position, r.from), len(r.in) == 0
}

// allow sets what a reader may see from now on.
func (s *Service) allow(r *reader, who auth.Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.sees = event.ReaderOf(who)
}
