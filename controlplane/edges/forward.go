package edges

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/call"
	"github.com/hookswitch/hookswitch/controlplane/db"
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// A command goes to an edge by the process that the edge is connected to. Each process is a peer on the bus under a name
// of its own, and as long as an edge is connected to it, it is present in the set of that edge. Of several the newest
// connection is the edge's; an older one is that of a process which has not noticed yet that it is over.

// Times of commands.
const (
	commandWithin = 5 * time.Second       // in all
	tryWithin     = time.Second           // by one way; a command comes by another at most once (control.Once)
	tryAgain      = 50 * time.Millisecond // after every way was tried and nobody knows

	announceEvery = 1500 * time.Millisecond
	announceFor   = 5 * time.Second
	busWithin     = time.Second // an announcement, and a question who holds an edge
)

// attachment is one connection to an edge.
type attachment struct {
	edge  control.Edge
	since time.Time
}

// Attach makes an edge reachable for commands, from every process, until detach is called: the edge of this process, or
// one that has dialled in (control.Handler.Attach). Of several connections the newest is used. The edge must carry a
// command out once that comes twice: control.Client sees to it, and for an edge of this process control.NewOnce.
func (s *Service) Attach(id webhooks.EdgeID, e control.Edge) (detach func()) {
	mine := &attachment{e, db.Now()}
	s.mu.Lock()
	if s.attached == nil {
		s.attached = map[webhooks.EdgeID][]*attachment{}
	}
	s.attached[id] = append(s.attached[id], mine)
	peer := s.peer
	s.mu.Unlock()
	s.announce(context.Background(), peer, id, mine.since)
	return func() {
		s.mu.Lock()
		s.attached[id] = slices.DeleteFunc(s.attached[id], func(a *attachment) bool { return a == mine })
		none := len(s.attached[id]) == 0
		if none {
			delete(s.attached, id)
		}
		peer := s.peer
		s.mu.Unlock()
		if none {
			s.withdraw(peer, id)
		}
	}
}

// edge is the newest connection to an edge, nil when it has none to this process.
func (s *Service) edge(id webhooks.EdgeID) control.Edge {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.attached[id]
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1].edge
}

func setOf(id webhooks.EdgeID) string { return "edge:" + string(id) }

// announce tells the others that an edge is reached by this process. What fails is repeated by join.
func (s *Service) announce(ctx context.Context, peer *bus.Peer, id webhooks.EdgeID, since time.Time) {
	if peer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, busWithin)
	defer cancel()
	if _, err := s.Bus.Enter(ctx, setOf(id), peer.Name(), strconv.AppendInt(nil, since.UnixMicro(), 10), announceFor, 0); err != nil && ctx.Err() == nil {
		s.Log.Warn("edges.bus_away", "error", err.Error())
	}
}

// withdraw tells the others that an edge is reached by this process no more. Where that fails they learn it when they ask.
func (s *Service) withdraw(peer *bus.Peer, id webhooks.EdgeID) {
	if peer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), busWithin)
	defer cancel()
	if err := s.Bus.Leave(ctx, setOf(id), peer.Name()); err != nil && !errors.Is(err, bus.ErrClosed) {
		s.Log.Warn("edges.bus_away", "error", err.Error())
	}
}

// join keeps this process a peer on the bus until ctx ends. A bus that is away is tried again.
func (s *Service) join(ctx context.Context) {
	for ctx.Err() == nil {
		peer, err := s.Bus.Join(ctx, db.NewID("process"), s.forwardedHere)
		if err == nil {
			s.be(ctx, peer)
			err = peer.Close()
		}
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("edges.bus_away", "error", err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(announceEvery):
		}
	}
}

// be is a peer until it hears nothing more or ctx ends.
func (s *Service) be(ctx context.Context, peer *bus.Peer) {
	s.mu.Lock()
	s.peer = peer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.peer = nil
		s.mu.Unlock()
	}()
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		for id, since := range s.here() {
			s.announce(ctx, peer, id, since)
		}
		select {
		case <-ctx.Done():
			for id := range s.here() {
				s.withdraw(peer, id)
			}
			return
		case <-peer.Gone():
			return
		case <-tick.C:
		}
	}
}

// here are the edges that are connected to this process, with since when.
func (s *Service) here() map[webhooks.EdgeID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[webhooks.EdgeID]time.Time{}
	for id, connections := range s.attached {
		all[id] = connections[len(connections)-1].since
	}
	return all
}

// holders are the processes that an edge is connected to, this one left out, the newest connection first.
func (s *Service) holders(ctx context.Context, id webhooks.EdgeID) ([]string, error) {
	s.mu.Lock()
	peer := s.peer
	s.mu.Unlock()
	if peer == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, busWithin)
	defer cancel()
	members, err := s.Bus.Members(ctx, setOf(id))
	if err != nil {
		return nil, err
	}
	since := map[string]int64{}
	var names []string
	for name, value := range members {
		at, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || name == peer.Name() {
			continue
		}
		since[name] = at
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(since[b], since[a]), cmp.Compare(a, b)) })
	return names, nil
}

// forwarded is a command for an edge of another process: exactly one of Originate and Action. It carries what the edge
// needs, such as the secrets of an application: the bus is trusted with them, and keeps nothing.
type forwarded struct {
	EdgeID    webhooks.EdgeID    `json:"edge_id"`
	Originate *control.Originate `json:"originate,omitempty"`
	Action    *control.Action    `json:"action,omitempty"`
}

func (f forwarded) do(ctx context.Context, e control.Edge) error {
	if f.Originate != nil {
		return e.Originate(ctx, *f.Originate)
	}
	return e.Act(ctx, *f.Action)
}

// outcome is what became of a forwarded command. The zero value: the edge has taken it.
type outcome struct {
	NotHere bool           `json:"not_here,omitempty"` // the edge is not connected to who was asked: nothing has happened
	Refused *control.Error `json:"refused,omitempty"`
	Failed  string         `json:"failed,omitempty"` // any other error
}

func outcomeOf(err error) outcome {
	if err == nil {
		return outcome{}
	}
	if refused, ok := errors.AsType[*control.Error](err); ok {
		return outcome{Refused: refused}
	}
	return outcome{Failed: err.Error()}
}

func (o outcome) err() error {
	switch {
	case o.NotHere:
		return errNotHere
	case o.Refused != nil:
		return o.Refused
	case o.Failed != "":
		return errors.New(o.Failed)
	}
	return nil
}

// errNotHere is an edge that is not connected to the process that was asked: nothing has happened.
var errNotHere = errors.New("the edge is not connected to this process")

// forwardedHere carries out a command that another process has for an edge of this one.
func (s *Service) forwardedHere(ctx context.Context, request []byte) []byte {
	var f forwarded
	var o outcome
	switch err := json.Unmarshal(request, &f); {
	case err != nil, f.Originate == nil && f.Action == nil:
		o.Refused = &control.Error{Code: control.CodeUnsupported, Message: "the process that the edge is connected to is older and cannot read the command"}
	default:
		e := s.edge(f.EdgeID)
		if o.NotHere = e == nil; e != nil {
			o = outcomeOf(f.do(ctx, e))
		}
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("edges: a struct of strings cannot be marshalled: %v", err))
	}
	return text
}

// send hands a command to an edge, by this process or by any other that the edge is connected to, and returns the edge's
// answer: nil, or a *control.Error. call.ErrAway means that nothing has happened, because the edge is connected to none,
// or the bus is away; with any other error nobody knows. Who does not answer is asked again by every way there is, as long
// as ctx and commandWithin allow; the edge carries the command out once.
func (s *Service) send(ctx context.Context, id webhooks.EdgeID, f forwarded) error {
	f.EdgeID = id
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	var unknown error
	for {
		answered, err := s.sendOnce(ctx, f)
		switch {
		case answered:
			return err
		case unknown == nil && errors.Is(err, call.ErrAway):
			return err
		case !errors.Is(err, call.ErrAway):
			unknown = err
		}
		select {
		case <-ctx.Done():
			return unknown
		case <-time.After(tryAgain):
		}
	}
}

// sendOnce tries every way once. answered: the edge said what err is.
func (s *Service) sendOnce(ctx context.Context, f forwarded) (answered bool, err error) {
	var unknown error
	try := func(do func(context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, tryWithin)
		defer cancel()
		err = do(ctx)
		switch {
		case err == nil, control.CodeOf(err) != "":
			return true
		case errors.Is(err, errNotHere), errors.Is(err, bus.ErrNobody):
		case errors.Is(err, bus.ErrBusy):
			err = &control.Error{Code: control.CodeBusy, Message: "the process that the edge is connected to has too many commands to forward"}
			return true
		default:
			unknown = err
		}
		return false
	}
	if e := s.edge(f.EdgeID); e != nil && try(func(ctx context.Context) error { return f.do(ctx, e) }) {
		return true, err
	}
	names, missing := s.holders(ctx, f.EdgeID)
	for _, name := range names {
		if try(func(ctx context.Context) error { return s.ask(ctx, name, f) }) {
			return true, err
		}
	}
	if unknown != nil {
		return false, unknown
	}
	if missing != nil {
		return false, fmt.Errorf("%w: %w", call.ErrAway, missing)
	}
	return false, call.ErrAway
}

func (s *Service) ask(ctx context.Context, name string, f forwarded) error {
	s.mu.Lock()
	peer := s.peer
	s.mu.Unlock()
	if peer == nil {
		return errNotHere
	}
	request, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("forward to edge %s: %w", f.EdgeID, err)
	}
	answer, err := peer.Ask(ctx, name, request)
	if err != nil {
		return err
	}
	var o outcome
	if err := json.Unmarshal(answer, &o); err != nil {
		return fmt.Errorf("forwarded to edge %s: %w", f.EdgeID, err)
	}
	return o.err()
}
