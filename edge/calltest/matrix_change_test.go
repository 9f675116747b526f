package calltest

import (
	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The live changes of the matrix.

func hangingUp(a *control.Action) { a.Change.Op = new(webhooks.OpHangUp) }

func programmed(c *cell, program string) func(*control.Action) {
	return func(a *control.Action) { a.Change.Program = Program(c.b.t, program) }
}

func changedBy(c *cell, path string) func(*control.Action) {
	return func(a *control.Action) { a.Change.Target = &webhooks.Target{URL: c.b.App.URL + path} }
}
