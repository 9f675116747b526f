package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// What Ask fails with when nothing has happened. With any other error nobody knows.
var (
	ErrNobody = errors.New("bus: nobody of that name is there")
	ErrBusy   = errors.New("bus: who was asked has too much to do")
)

// mostAnswering bounds the requests that a Peer answers at a time; those above are refused with ErrBusy.
const mostAnswering = 256

// Peer is a process that others can ask something by its name, and that can ask them. A request or its answer may be
// lost on the way; so what is asked should bear being asked twice. It is safe for concurrent use.
type Peer struct {
	bus    *Bus
	name   string
	sub    *Subscription
	answer func(ctx context.Context, request []byte) []byte

	ctx    context.Context // of the answers; ends with Close
	end    context.CancelFunc
	last   atomic.Uint64
	places chan struct{} // one for each request that is being answered
	work   sync.WaitGroup
	gone   chan struct{} // closed when the subscription has ended

	mu      sync.Mutex // guards waiting
	waiting map[string]chan frame
}

// frame is what goes over the wire: this as JSON, a line feed, the body.
type frame struct {
	ID     string `json:"id"`
	From   string `json:"from,omitempty"`       // of a request: who wants the answer
	WaitMS int64  `json:"timeout_ms,omitempty"` // of a request: how long
	Busy   bool   `json:"busy,omitempty"`       // of an answer: there is none

	body []byte
}

func (f frame) bytes() ([]byte, error) {
	head, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return append(append(head, '\n'), f.body...), nil
}

func frameOf(text []byte) (f frame, ok bool) {
	head, body, found := bytes.Cut(text, []byte{'\n'})
	if !found || json.Unmarshal(head, &f) != nil || f.ID == "" {
		return frame{}, false
	}
	f.body = body
	return f, true
}

func topicOf(name string) string { return "peer:" + name }

// Join makes this process one that can be asked by a name, which no other may have. answer is called for each request,
// from many goroutines, with a context that ends when the asker waits no more. Close it.
func (b *Bus) Join(ctx context.Context, name string, answer func(ctx context.Context, request []byte) []byte) (*Peer, error) {
	sub, err := b.Subscribe(ctx, topicOf(name))
	if err != nil {
		return nil, err
	}
	p := &Peer{
		bus: b, name: name, sub: sub, answer: answer,
		places: make(chan struct{}, mostAnswering), gone: make(chan struct{}), waiting: map[string]chan frame{},
	}
	p.ctx, p.end = context.WithCancel(context.WithoutCancel(ctx))
	p.work.Go(p.listen)
	return p, nil
}

// Name is what others ask it by.
func (p *Peer) Name() string { return p.name }

// Gone is closed when the peer hears nothing any more, because it or the bus was closed.
func (p *Peer) Gone() <-chan struct{} { return p.gone }

// Close ends the answers in progress and waits for them. It can be called twice.
func (p *Peer) Close() error {
	p.end()
	err := p.sub.Close()
	p.work.Wait()
	return err
}

// Ask asks the peer of a name and waits for its answer, at most as long as ctx. ErrNobody and ErrBusy mean that nothing
// has happened.
func (p *Peer) Ask(ctx context.Context, to string, request []byte) ([]byte, error) {
	f := frame{ID: strconv.FormatUint(p.last.Add(1), 36), From: p.name, body: request}
	if until, ok := ctx.Deadline(); ok {
		f.WaitMS = max(1, time.Until(until).Milliseconds())
	}
	text, err := f.bytes()
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", to, err)
	}
	reply := make(chan frame, 1)
	p.mu.Lock()
	p.waiting[f.ID] = reply
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, f.ID)
		p.mu.Unlock()
	}()
	switch heard, err := p.bus.d.publish(ctx, topicOf(to), text); {
	case err != nil:
		return nil, err
	case heard == 0:
		return nil, ErrNobody
	}
	select {
	case r := <-reply:
		if r.Busy {
			return nil, ErrBusy
		}
		return r.body, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: %w", to, context.Cause(ctx))
	case <-p.gone:
		return nil, fmt.Errorf("ask %s: %w", to, ErrClosed)
	}
}

// listen takes what comes until the subscription ends. It never waits for anyone.
func (p *Peer) listen() {
	defer close(p.gone)
	for m := range p.sub.C {
		f, ok := frameOf(m.Payload)
		switch {
		case !ok:
		case f.From == "":
			p.mu.Lock()
			if reply := p.waiting[f.ID]; reply != nil {
				delete(p.waiting, f.ID)
				reply <- f
			}
			p.mu.Unlock()
		default:
			p.take(f)
		}
	}
}

// take answers a request in its own goroutine, or says that there are too many.
func (p *Peer) take(f frame) {
	busy := false
	select {
	case p.places <- struct{}{}:
	default:
		busy = true
	}
	p.work.Go(func() {
		if busy {
			p.reply(p.ctx, f.From, frame{ID: f.ID, Busy: true})
			return
		}
		defer func() { <-p.places }()
		ctx := p.ctx
		if f.WaitMS > 0 {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, time.Duration(f.WaitMS)*time.Millisecond)
			defer stop()
		}
		p.reply(ctx, f.From, frame{ID: f.ID, body: p.answer(ctx, f.body)})
	})
}

// reply sends an answer, unless nobody waits for it any more. One that cannot be sent is as one that is lost on the way.
func (p *Peer) reply(ctx context.Context, to string, f frame) {
	if ctx.Err() != nil {
		return
	}
	if text, err := f.bytes(); err == nil {
		_, _ = p.bus.d.publish(ctx, topicOf(to), text)
	}
}
