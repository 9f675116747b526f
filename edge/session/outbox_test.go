package session

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// publisher is a control plane that only takes events.
type publisher struct {
	control.Control
	publish func(ctx context.Context, b control.Batch) error
}

func (p publisher) Publish(ctx context.Context, b control.Batch) (control.Published, error) {
	return control.Published{}, p.publish(ctx, b)
}

// An edge that ends while its last events are on their way waits for them: in the backlog they would wait for its next
// start, and the control plane would take the call for lost.
func TestSettleWaitsForEventsOnTheirWay(t *testing.T) {
	for name, first := range map[string]error{"slow": nil, "away for a moment": errors.New("away")} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var published []webhooks.EventType
				fails := first
				o, err := newOutbox(Config{SpoolDir: dir, Logger: slog.New(slog.DiscardHandler), Control: publisher{publish: func(_ context.Context, b control.Batch) error {
					<-time.After(time.Second) // virtual: the way there
					if err := fails; err != nil {
						fails = nil
						return err
					}
					for _, e := range b.Events {
						published = append(published, e.Type)
					}
					return nil
				}}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { o.run(ctx) })
				o.add(webhooks.Event{Type: webhooks.EventCallEnded, CallID: "call_1", Sequence: 1})
				<-time.After(500 * time.Millisecond)
				grace, done := context.WithTimeout(ctx, 5*time.Second)
				defer done()
				o.settle(grace)
				cancel()
				running.Wait()
				if len(published) != 1 || published[0] != webhooks.EventCallEnded {
					t.Errorf("published %v", published)
				}
			})
		})
	}
}

// A control plane that is slow at storing journals holds up no event; and of a call's journal nothing is sent before the
// events that were emitted before it are stored.
func TestNoEventWaitsForAJournal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		journals := make(chan struct{})
		var mu sync.Mutex
		var stored []string
		o, err := newOutbox(Config{SpoolDir: dir, Logger: slog.New(slog.DiscardHandler), Control: publisher{publish: func(ctx context.Context, b control.Batch) error {
			if len(b.Journal) > 0 {
				select {
				case <-journals:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, e := range b.Events {
				stored = append(stored, string(b.CallID)+" event "+string(e.Type))
			}
			for range b.Journal {
				stored = append(stored, string(b.CallID)+" journal")
			}
			return nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { o.run(ctx) })
		chunk := func(call webhooks.CallID) {
			o.post(mail{Event: webhooks.Event{CallID: call}, Journal: &control.JournalChunk{Number: 1, Text: []byte("{}\n"), Last: true}})
		}
		has := func(when string, want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(stored, want) {
				t.Errorf("%s there is %q, want %q", when, stored, want)
			}
		}
		o.add(webhooks.Event{Type: webhooks.EventCallEnded, CallID: "call_1", Sequence: 1})
		chunk("call_1")
		<-time.After(time.Second)
		has("with a journal on its way", "call_1 event call.ended")
		o.add(webhooks.Event{Type: webhooks.EventCallEnded, CallID: "call_2", Sequence: 1})
		<-time.After(gatherEvents)
		synctest.Wait()
		has("after the next event", "call_1 event call.ended", "call_2 event call.ended")
		// The control plane takes no journal before the edge ends, which keeps it for its next start.
		<-time.After(20 * time.Second)
		cancel()
		running.Wait()
		has("without journals", "call_1 event call.ended", "call_2 event call.ended")
		close(journals)
		next, err := newOutbox(Config{SpoolDir: dir, Logger: slog.New(slog.DiscardHandler), Control: o.control})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		running.Go(func() { next.run(ctx) })
		next.settle(ctx)
		cancel()
		running.Wait()
		has("after the next start", "call_1 event call.ended", "call_2 event call.ended", "call_1 journal")
	})
}
