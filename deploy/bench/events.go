package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The load of the deliveries.
const (
	eventRate = 500 // a second
	eventsFor = 20 * time.Second
	// A call's events come a fifth of a second apart; so many calls are up at a time.
	eventsOfCall = 5
	callsAtOnce  = eventRate / eventsOfCall
)

// delivering measures the way of an event from where it happens to the endpoint of its account. An edge of our own
// publishes the events of calls as every edge does, each by itself; the server stores them with the call's record, gives
// them their places in the feed, and posts them, signed, to an endpoint that we serve.
//
// Why an edge and not the REST API: it emits events only of jobs, which take longer than that, and of the test of an
// endpoint, which goes past the feed and the choice of endpoints.
func delivering(ctx context.Context, s *server, token, account string, out sheet) error {
	const mark = 50 * time.Millisecond
	edge, err := control.NewClient(control.ClientConfig{URL: s.edges, Token: token, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer edge.Close()
	r := &receiver{occurred: map[webhooks.EventID]time.Time{}, arrived: map[webhooks.EventID]int{}, last: map[webhooks.CallID]int64{}}
	address, stop, err := r.listen(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := s.post(ctx, "/v1/event_endpoints", map[string]any{"url": address, "types": []string{"call.*", "dtmf"}}, nil); err != nil {
		return err
	}
	before, began := s.usage(), time.Now()
	p := &publisher{edge: edge, receiver: r, account: webhooks.AccountID(account), boot: webhooks.NewID("boot")}
	if err := p.run(ctx); err != nil {
		return err
	}
	busy := (s.usage().cpu - before.cpu).Seconds() / time.Since(began).Seconds()
	r.await(ctx, time.Minute)
	lost, f := r.lost(), r.figures()
	out.set(fmt.Sprintf("%d events a second for %s, each to its endpoint: p50 / p99", eventRate, eventsFor), "p50 < 50 ms", both(f.took), quantile(f.took, .5) < mark)
	slices.Sort(p.stored)
	out.tell("events, until the edge knows that one is stored: p50 / p99", both(p.stored))
	out.tell("events, processor time of the server", fmt.Sprintf("%.0f %% of one", 100*busy))
	out.set("events lost, delivered twice, out of order; of all", "0 lost", fmt.Sprintf("%d, %d, %d; %s", lost, f.twice, f.disorder, thousands(f.sent)), lost == 0)
	if lost > 0 || f.disorder > 0 || f.strange > 0 {
		return fmt.Errorf("of %d events %d were lost, %d came out of order, and %d came that nobody sent", f.sent, lost, f.disorder, f.strange)
	}
	return nil
}

// publisher is an edge whose calls are made up.
type publisher struct {
	edge     *control.Client
	receiver *receiver
	account  webhooks.AccountID
	boot     string

	mu     sync.Mutex // guards what follows
	stored []time.Duration
	failed error
}

// edgeName is our edge's.
const edgeName = "edge_generator"

// run publishes at a steady rate, which slow answers do not change.
func (p *publisher) run(ctx context.Context) error {
	beating, stop := context.WithCancel(ctx)
	defer stop()
	if err := p.beat(ctx); err != nil {
		return err
	}
	var all sync.WaitGroup
	all.Go(func() {
		for beating.Err() == nil {
			select {
			case <-beating.Done():
			case <-time.After(time.Second):
				// A beat that is lost is followed by another.
				_ = p.beat(beating)
			}
		}
	})
	var publishing sync.WaitGroup
	began := time.Now()
	ids := make([]webhooks.CallID, callsAtOnce)
	for n := range int(eventsFor.Seconds()) * eventRate {
		if wait := time.Until(began.Add(time.Duration(n) * time.Second / eventRate)); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil {
			break
		}
		at, sequence := n%callsAtOnce, n/callsAtOnce%eventsOfCall+1
		if sequence == 1 {
			ids[at] = webhooks.NewCallID()
		}
		id := ids[at]
		publishing.Go(func() { p.publish(ctx, id, int64(sequence)) })
	}
	publishing.Wait()
	stop()
	all.Wait()
	return errors.Join(ctx.Err(), p.failed)
}

func (p *publisher) beat(ctx context.Context) error {
	return p.edge.Beat(ctx, control.Beat{EdgeID: edgeName, BootID: p.boot, Calls: callsAtOnce, At: time.Now()})
}

// publish brings one event to the control plane, again for as long as one before it is missing there.
func (p *publisher) publish(ctx context.Context, id webhooks.CallID, sequence int64) {
	e := p.event(sequence)
	p.receiver.expect(e.ID, e.OccurredAt)
	batch := control.Batch{
		Owner:  control.Owner{EdgeID: edgeName, BootID: p.boot, Epoch: 1, AccountID: p.account, CallID: id},
		Events: []webhooks.Event{e},
	}
	for {
		done, err := p.edge.Publish(ctx, batch)
		if err == nil && done.Expect <= sequence {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stored = append(p.stored, time.Since(e.OccurredAt))
		if err != nil && p.failed == nil {
			p.failed = fmt.Errorf("publish: %w", err)
		}
		return
	}
}

// event makes a call's next event.
func (p *publisher) event(sequence int64) webhooks.Event {
	now := time.Now()
	e := webhooks.Event{ID: webhooks.NewEventID(), ConversationID: "conv_generator", Sequence: sequence, OccurredAt: now}
	switch sequence {
	case 1:
		e.Type = webhooks.EventCallInitiated
		e.Data = webhooks.EventData{
			From: "+8613800138000", To: webhookNumber, Dialed: "02368925278", Direction: webhooks.Inbound, SIPCallID: string(e.ID), Source: "192.0.2.1",
		}
	case 2:
		e.Type = webhooks.EventCallRinging
	case 3:
		e.Type = webhooks.EventCallAnswered
	case 4:
		e.Type = webhooks.EventDTMF
		e.Data = webhooks.EventData{Digit: "5"}
	case eventsOfCall:
		e.Type = webhooks.EventCallEnded
		answered := now.Add(-400 * time.Millisecond)
		e.Data = webhooks.EventData{CDR: &webhooks.CDR{
			Status: webhooks.StatusCompleted, Cause: webhooks.CauseCallerHangup, SIPCode: 200, EndedBy: webhooks.EndedByCaller,
			Reason: "The caller hung up.", ReasonZH: "主叫挂机。", StartedAt: now.Add(-800 * time.Millisecond), AnsweredAt: &answered, EndedAt: now,
			Duration: .8, RingTime: .4, TalkTime: .4,
		}}
	}
	return e
}

// receiver is the endpoint.
type receiver struct {
	mu       sync.Mutex                     // guards what follows
	occurred map[webhooks.EventID]time.Time // of what is published
	arrived  map[webhooks.EventID]int       // how often
	last     map[webhooks.CallID]int64      // sequence
	found    figures
}

// figures are what was received.
type figures struct {
	took     []time.Duration // from where an event happened to its first arrival
	sent     int
	twice    int // arrivals of what had arrived before
	disorder int // events behind a later one of their call
	strange  int // events that nobody published
}

// listen serves until stop is called.
func (r *receiver) listen(ctx context.Context) (address string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	web := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "bench: the endpoint:", err)
		}
	})
	return "http://" + listener.Addr().String() + "/", func() {
		if err := web.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the endpoint's end:", err)
		}
		serving.Wait()
	}, nil
}

// ServeHTTP takes one event.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	now := time.Now()
	var e webhooks.Event
	if err := json.NewDecoder(q.Body).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.take(e, now)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) take(e webhooks.Event, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	occurred, known := r.occurred[e.ID]
	switch {
	case !known:
		r.found.strange++
		return
	case r.arrived[e.ID] > 0:
		r.found.twice++
	default:
		r.found.took = append(r.found.took, now.Sub(occurred))
		if e.Sequence < r.last[e.CallID] {
			r.found.disorder++
		}
		r.last[e.CallID] = e.Sequence
	}
	r.arrived[e.ID]++
}

// expect says that an event is about to be published.
func (r *receiver) expect(id webhooks.EventID, occurred time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.occurred[id] = occurred
	r.found.sent++
}

// lost is how many events have not arrived.
func (r *receiver) lost() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.occurred) - len(r.arrived)
}

// await waits until all have arrived, and a moment longer for what might arrive twice.
func (r *receiver) await(ctx context.Context, most time.Duration) {
	deadline := time.Now().Add(most)
	for r.lost() > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second)
}

// figures gives what was received, the times sorted.
func (r *receiver) figures() figures {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.found.took)
	return r.found
}
