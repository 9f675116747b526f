package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
)

// What is said of one call is heard in order, however often the control plane is away in between; what is said of another
// does not wait for it.
func TestQueueSayingsOfOneCallKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueing{wake: make(chan struct{}, 1)}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { q.run(ctx) })
		defer running.Wait()
		defer stop()

		var mu sync.Mutex
		var heard []string
		tell := func(word string, answers ...error) func(context.Context) error {
			return func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if len(answers) > 0 {
					err := answers[0]
					answers = answers[1:]
					return err
				}
				heard = append(heard, word)
				return nil
			}
		}
		away := errors.New("away")
		q.say("call_1", tell("left", away, away))
		q.say("call_1", tell("given back"))
		q.say("call_2", tell("another", &control.Error{Code: control.CodeFenced})) // which is an answer
		q.say("call_2", tell("its second"))
		before := q.said("call_1")
		<-time.After(500 * time.Millisecond)
		mu.Lock()
		if !slices.Equal(heard, []string{"its second"}) || closed(before) {
			t.Errorf("heard %q while the first is not", heard)
		}
		mu.Unlock()
		<-before
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(heard, []string{"its second", "left", "given back"}) {
			t.Errorf("heard %q", heard)
		}
		if q.said("call_1") != nil || q.said("call_2") != nil {
			t.Error("something is still to be said")
		}
	})
}
