package session

import (
	"context"
	"errors"
	"log/slog"
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
