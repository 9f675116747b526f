package control_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/control/controltest"
	"github.com/hookswitch/hookswitch/webhooks"
)

func TestACommandThatComesTwiceIsCarriedOutOnceAndAnsweredAsBefore(t *testing.T) {
	for name, c := range map[string]struct {
		answer error
		times  int // that the edge is asked
	}{
		"taken":        {nil, 1},
		"refused":      {&control.Error{Code: control.CodeNotFound, Message: "the call has ended"}, 1},
		"nobody knows": {errors.New("broken"), 1},
		"busy":         {&control.Error{Code: control.CodeBusy, Message: "later"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			o := control.NewOnce(&controltest.Edge{
				OnAct:       func(context.Context, control.Action) error { asked++; return c.answer },
				OnOriginate: func(context.Context, control.Originate) error { asked++; return c.answer },
			})
			for range 2 {
				if err := o.Act(t.Context(), control.Action{ActionID: "act_1"}); !errors.Is(err, c.answer) {
					t.Errorf("Act: %v, want %v", err, c.answer)
				}
			}
			if asked != c.times {
				t.Errorf("carried out %d times, want %d", asked, c.times)
			}
			for range 2 {
				if err := o.Originate(t.Context(), control.Originate{CallID: "call_1"}); !errors.Is(err, c.answer) {
					t.Errorf("Originate: %v, want %v", err, c.answer)
				}
			}
			if asked != 2*c.times {
				t.Errorf("carried out %d times, want %d", asked, 2*c.times)
			}
			if err := o.Act(t.Context(), control.Action{ActionID: "act_2"}); !errors.Is(err, c.answer) || asked != 2*c.times+1 {
				t.Errorf("another action: %v, %d", err, asked)
			}
		})
	}
}

func TestACommandThatRunsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int32
		o := control.NewOnce(&controltest.Edge{OnAct: func(context.Context, control.Action) error {
			asked.Add(1)
			<-release
			return nil
		}})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := o.Act(t.Context(), control.Action{ActionID: "act_1"}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := o.Act(impatient, control.Action{ActionID: "act_1"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits no more: %v", err)
		}
		close(release)
		all.Wait()
		if asked.Load() != 1 {
			t.Errorf("carried out %d times", asked.Load())
		}
	})
}

func TestACommandIsRememberedForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		o := control.NewOnce(&controltest.Edge{OnAct: func(context.Context, control.Action) error { asked++; return nil }})
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{0, 1}, {9 * time.Minute, 1}, {2 * time.Minute, 2}} {
			<-time.After(c.after)
			if err := o.Act(t.Context(), control.Action{ActionID: "act_1"}); err != nil || asked != c.want {
				t.Errorf("after %s more: carried out %d times, want %d; %v", c.after, asked, c.want, err)
			}
		}
	})
}

func TestACommandOverTwoConnectionsIsCarriedOutOnce(t *testing.T) {
	p := listen(t, &controltest.Control{}, false)
	var asked atomic.Int32
	p.serve(t, p.client(t, token), &controltest.Edge{OnAct: func(context.Context, control.Action) error {
		asked.Add(1)
		return nil
	}})
	first := <-p.attached
	if err := first.Act(t.Context(), control.Action{ActionID: "act_1"}); err != nil {
		t.Fatal(err)
	}
	p.CloseClientConnections()
	<-p.detached
	second := <-p.attached
	if err := second.Act(t.Context(), control.Action{ActionID: "act_1"}); err != nil || asked.Load() != 1 {
		t.Errorf("%v, carried out %d times", err, asked.Load())
	}
}

// later is an op that no edge of this version can read.
type later struct{ *webhooks.OpHangUp }

func (later) Op() string                   { return "levitate" }
func (later) MarshalJSON() ([]byte, error) { return []byte(`{"op":"levitate"}`), nil }

func TestAnEdgeThatIsOlderRefusesWhatItCannotReadAndGoesOn(t *testing.T) {
	acted := 0
	_, e := join(t, &controltest.Control{}, &controltest.Edge{OnAct: func(context.Context, control.Action) error { acted++; return nil }}, false)
	err := e.Act(t.Context(), control.Action{ActionID: "act_1", Change: webhooks.Action{Op: later{&webhooks.OpHangUp{}}}})
	if control.CodeOf(err) != control.CodeUnsupported {
		t.Errorf("an op of a later version: %v", err)
	}
	if err := e.Act(t.Context(), control.Action{ActionID: "act_2"}); err != nil || acted != 1 {
		t.Errorf("the next: %v, %d", err, acted)
	}
}
