package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// errAway is what a question fails with while the control plane cannot be asked.
var errAway = errors.New("the control plane is away; try again later")

// inquiryTime bounds a question that a verb waits for.
const inquiryTime = 5 * time.Second

// inquire asks something while the call goes on. The trigger is set when a live change or the end of the call came
// first. Then orphan, where it is set, is given what comes of it, on another goroutine and at most inquiryTime later;
// without one the question ends.
func inquire[T any](s *Session, ask func(context.Context) (T, error), orphan func(T, error)) (T, *webhooks.Trigger, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), inquiryTime)
	var answer T
	var err error
	answered, gone := make(chan struct{}), make(chan struct{})
	s.spawn(func() {
		defer cancel()
		answer, err = ask(ctx)
		select {
		case answered <- struct{}{}:
		case <-gone:
			if orphan != nil {
				orphan(answer, err)
			}
		}
	})
	s.news = answered
	defer func() { s.news = nil }()
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeNews:
			return answer, nil, err
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			if orphan == nil {
				cancel()
			}
			close(gone)
			var none T
			return none, s.interrupted(), nil
		}
	}
}

// refusal is what a program is told of a question that was refused, or could not be asked.
func refusal(err error) error {
	if refused, ok := errors.AsType[*control.Error](err); ok {
		return errors.New(refused.Message)
	}
	return errAway
}

// askedMemory keeps the mailboxes and surveys that the control plane has last told of, for while it is away.
type askedMemory struct {
	mu    sync.Mutex // guards known
	known map[askedKey]any
}

// askedKey is a question: a MailboxQuery or a SurveyQuery.
type askedKey any

// maxAsked bounds the memory, which is begun anew beyond it as that of routes is.
const maxAsked = 10_000

func (m *askedMemory) keep(q askedKey, answer any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxAsked {
		m.known = map[askedKey]any{}
	}
	m.known[q] = answer
}

func (m *askedMemory) forget(q askedKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, q)
}

func (m *askedMemory) recall(q askedKey) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[q]
}

// remembered is an answer from the control plane, or while it is away the last there was; known is false when it is away
// and there was none. A refusal is an error, and ends the memory.
func remembered[Q comparable, T any](s *Session, q Q, ask func(context.Context, Q) (T, error)) (answer T, known bool, t *webhooks.Trigger, err error) {
	answer, t, err = inquire(s, func(ctx context.Context) (T, error) { return ask(ctx, q) }, nil)
	switch {
	case t != nil:
		return answer, false, t, nil
	case err == nil:
		s.calls.asked.keep(q, answer)
		return answer, true, nil, nil
	case control.CodeOf(err) != "":
		s.calls.asked.forget(q)
		return answer, false, nil, err
	}
	s.log.Warn("control.unasked", "error", err.Error())
	answer, known = s.calls.asked.recall(q).(T)
	return answer, known, nil, nil
}
