package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// outbox carries events to the control plane: in order per call, at least once, and through a file while the
// control plane is away, so that neither its absence nor the death of this process loses what was emitted.
//
// While the control plane answers, events live in memory for one round trip. From the first failure on every event
// goes to the end of the backlog file, and the file is drained from its front once a second until it is empty.
//
// The chunks of journals follow behind the events that were emitted before them, in an outbox of their own: storing them
// is a load, and no event waits for it.
type outbox struct {
	name    string  // of what it carries, in the log
	then    *outbox // takes the chunks when the events before them are stored; nil: it carries chunks only
	gather  time.Duration
	control control.Control
	log     *slog.Logger
	owner   control.Owner // without account and call
	fenced  func(webhooks.CallID)
	path    string
	wake    chan struct{}

	mu      sync.Mutex // guards pending, lost, held and busy
	pending []mail
	lost    int
	held    int  // octets of journals in pending
	busy    bool // events that are not pending any more are not published yet: they are on their way, or in the file

	// Of run's goroutine alone:
	packer  packer
	backlog *os.File // nil while the control plane answers
	drained int64    // octets of the backlog that are published
}

const (
	maxPending     = 100_000 // events in memory; beyond, events are dropped and counted
	publishTime    = 5 * time.Second
	publishAtOnce  = 32  // calls; the control plane stores them in one transaction
	backlogPerTurn = 500 // events read back in one go

	// How long a round waits for company: what a call emits in one breath is one transaction, and what several calls leave
	// of journals.
	gatherEvents   = 10 * time.Millisecond
	gatherJournals = 200 * time.Millisecond
)

func newOutbox(cfg Config) (*outbox, error) {
	journals, err := openOutbox(cfg, "journals", gatherJournals)
	if err != nil {
		return nil, err
	}
	o, err := openOutbox(cfg, "events", gatherEvents)
	if err != nil {
		return nil, err
	}
	o.then = journals
	return o, nil
}

func openOutbox(cfg Config, name string, gather time.Duration) (*outbox, error) {
	if err := os.MkdirAll(cfg.SpoolDir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	o := &outbox{
		name: name, gather: gather,
		control: cfg.Control, log: cfg.Logger,
		owner:  control.Owner{EdgeID: cfg.EdgeID, BootID: cfg.BootID, Epoch: 1},
		fenced: func(webhooks.CallID) {},
		path:   filepath.Join(cfg.SpoolDir, name+".ndjson"),
		wake:   make(chan struct{}, 1),
	}
	if info, err := os.Stat(o.path); err == nil && info.Size() > 0 {
		o.busy = true
		return o, o.openBacklog() // left by the process before this one
	}
	return o, nil
}

// add takes an event; it never blocks.
func (o *outbox) add(e webhooks.Event) { o.post(mail{Event: e}) }

// post takes an event, or a chunk of a journal.
func (o *outbox) post(m mail) {
	o.mu.Lock()
	if len(o.pending) < maxPending && o.held+m.size() <= maxJournals {
		o.pending = append(o.pending, m)
		o.held += m.size()
	} else {
		o.lost++
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) take() []mail {
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.pending
	o.pending, o.held = nil, 0
	o.busy = o.busy || len(events) > 0
	if o.lost > 0 {
		o.log.Error(o.name+".lost", "count", o.lost)
		o.lost = 0
	}
	return events
}

// run publishes until ctx ends; what is left then goes to the backlog file.
func (o *outbox) run(ctx context.Context) {
	if o.then != nil {
		// It outlives this one, which may hand something on to the last.
		behind, stop := context.WithCancel(context.WithoutCancel(ctx))
		var done sync.WaitGroup
		done.Go(func() { o.then.run(behind) })
		defer done.Wait()
		defer stop()
	}
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			o.keep(o.take())
			if o.backlog != nil {
				o.closeBacklog()
			}
			return
		case <-o.wake:
			sleep(ctx, o.gather)
			o.round(ctx, o.take())
		case <-retry.C:
			if o.backlog != nil {
				o.drain(ctx)
			}
		}
		o.mu.Lock()
		o.busy = o.backlog != nil
		o.mu.Unlock()
	}
}

// settle waits until everything is published, or ctx ends.
func (o *outbox) settle(ctx context.Context) {
	if o.then != nil {
		defer o.then.settle(ctx)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		o.mu.Lock()
		done := len(o.pending) == 0 && !o.busy
		o.mu.Unlock()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round publishes events, or keeps them while the control plane is away.
func (o *outbox) round(ctx context.Context, events []mail) {
	if o.backlog != nil {
		o.keep(events)
		return
	}
	if left := o.publish(ctx, events); len(left) > 0 {
		o.log.Warn(o.name+".kept", "count", len(left))
		o.keep(left)
	}
}

// publish sends the events of each call in order, several calls at once, and returns those that the control plane
// did not take because it is away.
func (o *outbox) publish(ctx context.Context, events []mail) (left []mail) {
	if o.then == nil {
		if err := o.packer.pack(events); err != nil { // then they go as they are
			o.log.Error(o.name+".pack", "error", err.Error())
		}
	}
	batches, order := map[webhooks.CallID][]mail{}, []webhooks.CallID{}
	for _, e := range events {
		if batches[e.CallID] == nil {
			order = append(order, e.CallID)
		}
		batches[e.CallID] = append(batches[e.CallID], e)
	}
	failed := make([]bool, len(order))
	limit := make(chan struct{}, publishAtOnce)
	var all sync.WaitGroup
	for i, id := range order {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			failed[i] = !o.send(ctx, batches[id])
		})
	}
	all.Wait()
	for i, id := range order {
		if failed[i] {
			left = append(left, batches[id]...)
		}
	}
	return left
}

// send publishes one call's events; false: the control plane is away. What was emitted of its journal is handed on.
func (o *outbox) send(ctx context.Context, mails []mail) bool {
	events, journal := parted(mails)
	batch := control.Batch{Owner: o.owner, Events: events}
	if o.then == nil {
		batch.Journal = journal
	}
	batch.AccountID, batch.CallID = mails[0].AccountID, mails[0].CallID
	if len(events) > 0 || o.then == nil {
		ctx, done := context.WithTimeout(ctx, publishTime)
		defer done()
		published, err := o.control.Publish(ctx, batch)
		switch control.CodeOf(err) {
		case control.CodeFenced:
			o.fenced(batch.CallID)
			return true
		case "":
		default: // refused for good: sending it again would be refused again
			o.log.Error(o.name+".refused", "call_id", batch.CallID, "count", len(mails), "error", err.Error())
			return true
		}
		if err != nil {
			return false
		}
		if len(events) > 0 && events[0].Sequence > 0 && published.Expect < events[0].Sequence {
			o.log.Error("events.gap", "call_id", batch.CallID, "expected", published.Expect, "have", events[0].Sequence)
		}
	}
	if o.then != nil {
		for _, m := range mails {
			if m.Journal != nil {
				o.then.post(m)
			}
		}
	}
	return true
}

// keep appends events to the backlog file.
func (o *outbox) keep(events []mail) {
	if len(events) == 0 {
		return
	}
	err := o.openBacklog()
	events = o.fitting(events)
	if err == nil {
		w := bufio.NewWriter(o.backlog)
		enc := json.NewEncoder(w)
		for _, e := range events {
			err = errors.Join(err, enc.Encode(e))
		}
		err = errors.Join(err, w.Flush())
	}
	if err != nil {
		o.log.Error(o.name+".lost", "count", len(events), "error", err.Error())
	}
}

func (o *outbox) openBacklog() error {
	if o.backlog != nil {
		return nil
	}
	file, err := os.OpenFile(o.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("events backlog: %w", err)
	}
	o.backlog, o.drained = file, 0
	return nil
}

// drain publishes the front of the backlog, and removes the file when it is empty. A process that dies halfway
// publishes some of it again, which the control plane passes over.
func (o *outbox) drain(ctx context.Context) {
	for ctx.Err() == nil {
		events, size, err := o.front()
		if err != nil {
			o.log.Error(o.name+".backlog", "error", err.Error())
			return
		}
		if len(events) == 0 {
			o.closeBacklog()
			if err := os.Remove(o.path); err != nil {
				o.log.Error(o.name+".backlog", "error", err.Error())
			}
			o.log.Info(o.name + ".caught_up")
			return
		}
		if left := o.publish(ctx, events); len(left) > 0 {
			return
		}
		o.drained += size
	}
}

// front reads the next events of the backlog. A last line without its end was being written when a process died.
func (o *outbox) front() (events []mail, size int64, err error) {
	r := bufio.NewReader(io.NewSectionReader(o.backlog, o.drained, 1<<62))
	for len(events) < backlogPerTurn {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		size += int64(len(line))
		var e mail
		if json.Unmarshal(line, &e) == nil {
			events = append(events, e)
		}
	}
	return events, size, nil
}

func (o *outbox) closeBacklog() {
	if err := o.backlog.Close(); err != nil {
		o.log.Error(o.name+".backlog", "error", err.Error())
	}
	o.backlog = nil
}
