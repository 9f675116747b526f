package session

import (
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/twiml"
)

// statusQueue tells status URLs of a call's events: one after the other, apart from the call, which never waits for
// it and never changes for what is answered. It is the light-weight way to follow a call; what must not be lost is
// read from the control plane's feed.
type statusQueue struct {
	mu      sync.Mutex // guards what follows
	pending []statusCall
	busy    bool
}

type statusCall struct {
	to       webhooks.Target
	event    webhooks.Event
	sequence int            // of the events that the URL is told of this leg, or of its conference, from 0
	call     *webhooks.Call // that the event is of; nil for the session's own
}

// maxStatus bounds what waits for a slow receiver; what comes beyond is dropped and logged.
const maxStatus = 256

// tellStatus queues an event for the URLs that want it: the application's, those that watch this leg, and that of a
// recording. The caller holds mu.
func (s *Session) tellStatus(e webhooks.Event, recording webhooks.Target) {
	if s.app.StatusURL != "" && (s.app.Format != control.FormatTwiML || s.endsForTwiML(e)) {
		const first = 0
		s.status.push(s, statusCall{to: webhooks.Target{URL: s.app.StatusURL}, event: e, sequence: first})
	}
	for i := range s.watchers {
		if w := &s.watchers[i]; w.wants(e.Type) {
			s.status.push(s, statusCall{to: w.to, event: e, sequence: w.told})
			w.told++
		}
	}
	if recording.URL != "" {
		s.status.push(s, statusCall{to: recording, event: e})
	}
}

// endsForTwiML reports that an event is the one that a TwiML application's own callback is told: the end of a call. The
// legs that the call dials have callbacks of their own, on their nouns. The caller holds mu.
func (s *Session) endsForTwiML(e webhooks.Event) bool {
	return e.Type == webhooks.EventCallEnded && s.call.ParentCallID == ""
}

func (q *statusQueue) push(s *Session, c statusCall) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) >= maxStatus {
		s.log.Warn("status.dropped", "event", c.event.Type)
		return
	}
	q.pending = append(q.pending, c)
	if q.busy {
		return
	}
	q.busy = true
	s.calls.telling.Go(func() { q.drain(s) })
}

func (q *statusQueue) drain(s *Session) {
	for {
		q.mu.Lock()
		if len(q.pending) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		next := q.pending[0]
		q.pending = q.pending[1:]
		q.mu.Unlock()
		s.tellOne(next)
	}
}

// tellOne sends one event, with as many attempts as the contract allows.
func (s *Session) tellOne(c statusCall) {
	retries := webhooks.MaxRetries
	ask := webhooks.Ask{
		URL: s.absolute(c.to.URL), Method: c.to.Method, Secrets: s.app.Secrets, Body: c.event,
		Limits:  webhooks.Limits{Retries: &retries},
		Request: webhooks.CallRequest{RequestID: webhooks.RequestID(c.event.ID), AccountID: s.account, CallID: c.event.CallID},
	}
	if s.app.Format == control.FormatTwiML {
		s.mu.Lock()
		call := s.call
		s.mu.Unlock()
		if c.call != nil {
			call = *c.call
		}
		form, ok := twiml.StatusParams(call, c.event, c.sequence, twiml.Options{APIBase: s.calls.cfg.PublicURL})
		if !ok {
			return
		}
		ask.Body, ask.Form = nil, func(webhooks.CallRequest) url.Values { return form }
	}
	s.traceAsk(&ask, "status", s.span, ask.URL)
	began := time.Now()
	_, err := s.calls.status.Ask(s.calls.told, ask)
	s.calls.cfg.Observer.asked(outcomeOf(err), time.Since(began))
	var rejected *webhooks.RejectedError
	if err != nil && !errors.As(err, &rejected) { // what it answers is nobody's concern
		s.log.Warn("status.undelivered", "event", c.event.Type, "host", hostOf(ask.URL), "error", outcomeOf(err))
	}
}

// absolute resolves a status URL against the application's own: by the time it is told, the program that named it
// has gone on.
func (s *Session) absolute(ref string) string {
	abs, err := webhooks.Resolve(s.app.VoiceURL, ref)
	if err != nil {
		return ref
	}
	return abs
}
