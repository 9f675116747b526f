package session

import (
	"context"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
)

// routeMemory keeps the last routes the control plane gave, so that calls to numbers in use are still answered
// while it is away. Only a route that says KeepFor is kept.
type routeMemory struct {
	mu    sync.Mutex // guards known
	known map[routeKey]keptRoute
}

// routeKey is what a route depended on. The caller's number is no part of it: a memory per caller would hold
// nothing that a new caller could use.
type routeKey struct {
	credential string
	source     string
	called     string
}

type keptRoute struct {
	route control.Route
	until time.Time
}

// maxRoutes bounds the memory; beyond it the whole is begun anew, which costs nothing while the control plane is
// there.
const maxRoutes = 10_000

func keyOf(in control.Incoming) routeKey {
	key := routeKey{credential: string(in.CredentialID), called: in.ToUser + "@" + in.ToHost}
	if key.credential == "" {
		key.source = in.Source.Addr().String()
	}
	return key
}

func (m *routeMemory) keep(in control.Incoming, r control.Route) {
	if r.KeepFor <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxRoutes {
		m.known = map[routeKey]keptRoute{}
	}
	m.known[keyOf(in)] = keptRoute{r, time.Now().Add(r.KeepFor.Duration())}
}

func (m *routeMemory) recall(in control.Incoming) (control.Route, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept, ok := m.known[keyOf(in)]
	if !ok || time.Now().After(kept.until) {
		return control.Route{}, false
	}
	r := kept.route
	r.From, r.CustomerID = in.FromUser, "" // another caller
	if in.PAI != "" {
		r.From = in.PAI
	}
	return r, true
}

// route asks the control plane, or the memory when it is away.
func (c *Calls) route(ctx context.Context, in control.Incoming) (control.Route, error) {
	asking, done := context.WithTimeout(ctx, routeTime)
	defer done()
	route, err := c.cfg.Control.Route(asking, in)
	if err == nil {
		c.routes.keep(in, route)
		return route, nil
	}
	if control.CodeOf(err) != "" || ctx.Err() != nil {
		return control.Route{}, err
	}
	if route, ok := c.routes.recall(in); ok {
		c.cfg.Logger.Warn("call.routed_from_memory", "call_id", in.CallID, "error", err.Error())
		return route, nil
	}
	return control.Route{}, err
}
