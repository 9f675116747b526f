package session

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
	"github.com/hookswitch/hookswitch/webhooks/twiml"
)

// reply is what an application answered: a program, and the URL it came from.
type reply struct {
	program webhooks.Program
	base    string
	err     error
}

// errInterrupted: a live change, or the end of the call, came before the answer.
var errInterrupted = errors.New("interrupted")

// askNext asks for what runs next. When no usable answer comes, the failure path runs instead and the result is
// false.
func (s *Session) askNext(reason webhooks.Reason, target webhooks.Target, trigger *webhooks.Trigger) bool {
	got, err := s.ask(s.ctx, reason, target, trigger)
	switch {
	case err == nil:
		s.replace(got.program, got.base)
		return true
	case errors.Is(err, errInterrupted):
		s.rest = nil
		return true
	}
	s.failurePath(err)
	return false
}

// failurePath is what the caller gets when the application gives no usable answer: the first of the program's own
// guard, the fallback URL, the stored fallback instructions, and an apology.
func (s *Session) failurePath(err error) {
	s.rest = nil
	if s.screened { // a gate that cannot be asked stays shut
		s.refused = true
		return
	}
	if s.waiting != nil {
		s.waiting.music = true
		return
	}
	// All who are asked for help share the time of one, so that the caller waits no longer for two that hang.
	left := s.limits().Fallback().Budget
	if g := s.guard; g != nil && g.OnFailure != nil {
		s.guard = nil // if it fails in turn, the next step is the application's own
		if g.OnFailure.Target == nil {
			s.rest = g.OnFailure.Instructions
			return
		}
		share := left
		if s.app.FallbackURL != "" {
			share = max(left/2, webhooks.MinBudget)
		}
		began := time.Now()
		if s.askFallback(*g.OnFailure.Target, err, share) {
			return
		}
		left -= time.Since(began)
	}
	if s.app.FallbackURL != "" && left > 0 && s.askFallback(webhooks.Target{URL: s.app.FallbackURL, Method: s.app.Method}, err, left) {
		return
	}
	if s.app.FallbackInstructions != nil {
		s.replace(*s.app.FallbackInstructions, "")
		return
	}
	s.apologise()
}

// askFallback asks a fallback URL within a time, telling it what became of the usual one.
func (s *Session) askFallback(target webhooks.Target, failure error, within time.Duration) bool {
	got, err := s.askWith(s.ctx, question{reason: webhooks.ReasonFallback, target: target, failure: failure, within: within})
	if errors.Is(err, errInterrupted) {
		return true
	}
	if err != nil {
		return false
	}
	s.replace(got.program, got.base)
	return true
}

// apologise ends the call with a sentence in its language.
func (s *Session) apologise() {
	if sorry, ok := s.calls.cfg.Prompts.System("sys_apology", s.lang); ok && s.answer(nil) {
		s.playout(sorry, 1, 0)
	}
	if s.pending != nil {
		return // a live change may still save the call
	}
	s.cancel(ended{cause: webhooks.CauseWebhookFailed})
}

// question is one request to the application.
type question struct {
	reason  webhooks.Reason
	target  webhooks.Target
	trigger *webhooks.Trigger
	failure error // of the usual URL, when the fallback is asked
	within  time.Duration
	// standing is the place of a caller who is dequeued, for its screen; nil for none.
	standing func() *webhooks.Waiting
}

func (s *Session) ask(ctx context.Context, reason webhooks.Reason, target webhooks.Target, trigger *webhooks.Trigger) (reply, error) {
	return s.askWith(ctx, question{reason: reason, target: target, trigger: trigger})
}

// askWith asks, and waits for the answer as every verb waits: a live change interrupts it, the end of the call
// cancels it, keys are kept, and the caller hears what the program's guard says meanwhile. A request that tells an
// outcome is not canceled but goes on without the session, within its budget: it may not have left yet.
func (s *Session) askWith(ctx context.Context, q question) (reply, error) {
	ask := s.prepare(q)
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	replies := make(chan reply, 1)
	s.spawn(func() {
		defer cancel()
		replies <- s.fetch(asking, ask)
	})
	s.replies = replies
	defer func() { s.replies = nil }()
	defer s.hearMeantime()()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeReply:
			got := s.reply
			if got.err == nil {
				got.err = s.misfit(got)
			}
			if got.err != nil {
				s.tellFailure(ask, s.resolve(q.target.URL), got.err)
			}
			return got, got.err
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeAction, wokeEnd:
			if q.trigger == nil || s.fenced() {
				cancel()
			} // else the outcome is to be told, whatever has become of its answer: nobody tells it again
			return reply{}, errInterrupted
		}
	}
}

// misfit is what is wrong with an answer that is to be a wait program or a screen: nil outside both.
func (s *Session) misfit(got reply) error {
	kind := webhooks.SubAny
	switch {
	case s.waiting != nil:
		kind = webhooks.SubWait
	case s.screened:
		kind = webhooks.SubScreen
	}
	if wrong, ok := errors.AsType[*webhooks.ProgramError](got.program.Fits(kind)); ok {
		return &webhooks.RejectedError{Pointer: wrong.Pointer, Message: wrong.Message, URL: got.base, Status: http.StatusOK}
	}
	return nil
}

// prepare makes the request. It reads the session and must run on its goroutine.
func (s *Session) prepare(q question) webhooks.Ask {
	s.asked++
	s.mu.Lock()
	call := s.call
	s.mu.Unlock()
	if s.ctx.Err() != nil { // the notice of an instruction that the end of the call cut short
		call.Status = endOf(s.ctx).cause.Info().Status
		if call.AnsweredAt != nil {
			call.Status = webhooks.StatusCompleted
		}
	}
	a := webhooks.Ask{
		URL: s.resolve(s.vars().URL(q.target.URL)), Method: q.target.Method, Secrets: s.app.Secrets,
		Limits: s.limits(),
		Request: webhooks.CallRequest{
			Reason: q.reason, RequestID: webhooks.NewRequestID(), RequestSequence: s.asked,
			AccountID: s.account, ApplicationID: s.app.ID, CallID: s.id, Call: call,
			Trigger: q.trigger, Error: webhooks.FailureOf(q.failure), State: slices.Clone(s.state), Data: maps.Clone(s.data),
		},
	}
	switch {
	case q.reason == webhooks.ReasonWait && s.waiting != nil:
		a.Request.Waiting = s.waiting.standing()
	case q.standing != nil:
		a.Request.Waiting = q.standing()
	}
	s.traceAsk(&a, string(q.reason), s.doing, s.resolve(q.target.URL))
	if a.Method == "" {
		a.Method = s.app.Method
	}
	if q.reason == webhooks.ReasonFallback {
		a.Limits.Budget = q.within
	}
	if s.app.Format == control.FormatTwiML {
		if s.cookies == nil {
			s.cookies = webhooks.NewJar()
		}
		a.Jar = s.cookies
		a.Form = func(r webhooks.CallRequest) url.Values {
			return twiml.Params(r, twiml.Options{APIBase: s.calls.cfg.PublicURL})
		}
	}
	s.noteRequest(&a)
	return a
}

// limits are the application's, but for the budget that the running program asks for.
func (s *Session) limits() webhooks.Limits {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	l := webhooks.Limits{
		ConnectTimeout: ms(s.app.ConnectTimeoutMS), Budget: ms(s.app.BudgetMS),
		Retries: s.app.Retries, FallbackTimeout: ms(s.app.FallbackTimeoutMS),
	}
	if s.guard != nil && s.guard.BudgetMS > 0 {
		l.Budget = ms(s.guard.BudgetMS)
	}
	return l
}

// resolve reads a URL relative to the document that named it.
func (s *Session) resolve(ref string) string {
	abs, err := webhooks.Resolve(s.base, ref)
	if err != nil {
		return ref // the client refuses it with a sentence
	}
	return abs
}

// fetch asks and reads the answer, in either dialect. It does not touch the session's own fields.
func (s *Session) fetch(ctx context.Context, a webhooks.Ask) reply {
	began := time.Now()
	r := s.read(ctx, a)
	s.calls.cfg.Observer.asked(outcomeOf(r.err), time.Since(began))
	return r
}

// read asks, and takes the answer apart.
func (s *Session) read(ctx context.Context, a webhooks.Ask) reply {
	got, err := s.calls.cfg.Webhook.Ask(ctx, a)
	s.noteAnswer(&a, got, err)
	if err != nil {
		return reply{err: err}
	}
	switch got.Kind {
	case webhooks.ReplyXML:
		program, warnings, err := twiml.Parse(got.Body, twiml.Context{URL: got.URL})
		if err != nil {
			return reply{err: got.Rejected(err)}
		}
		for _, w := range warnings {
			s.log.Info("webhook.warning", "pointer", w.Pointer, "message", w.Message)
			s.noteWarning(w)
		}
		return reply{program: program, base: got.URL}
	case webhooks.ReplyAudio:
		if len(got.Body) > 0 {
			audio, err := s.calls.cfg.Prompts.Bytes(got.Body)
			if err != nil {
				return reply{err: got.Rejected(err)}
			}
			s.given.Store(got.URL, audio) // what a POST answered cannot be fetched again by GET
		}
	}
	return reply{program: got.Program, base: got.URL}
}

// traced logs one attempt to ask, with the URL as it may be shown.
func (s *Session) traced(a webhooks.Attempt, shown string) {
	s.calls.cfg.Observer.attempted(outcomeWord(a.Code, a.Status))
	s.noteAttempt(a)
	s.log.Info("webhook.asked",
		"request_id", a.RequestID, "attempt", a.Number, "method", a.Method, "url", shown, "status", a.Status, "code", a.Code,
		"duration_ms", a.Duration.Milliseconds(), "bytes_out", a.BytesOut, "bytes_in", a.BytesIn)
}

// tellFailure emits what the application's owner must know: no answer, or one that was refused. A URL that was filled in
// is told as it was written: what was typed may be a secret, and events are kept.
func (s *Session) tellFailure(a webhooks.Ask, written string, err error) {
	shown := func(final string) string {
		if a.URL != written {
			return written
		}
		return final
	}
	// An error of the network names the URL that it is about.
	unfilled := strings.NewReplacer(a.URL, written, requestURI(a.URL), requestURI(written))
	var rejected *webhooks.RejectedError
	if errors.As(err, &rejected) {
		s.emitLive(webhooks.EventWebhookRejected, webhooks.EventData{
			URL: shown(rejected.URL), Status: rejected.Status, RequestID: a.Request.RequestID, Code: "rejected",
			Pointer: rejected.Pointer, Message: unfilled.Replace(rejected.Message),
		})
		return
	}
	f := webhooks.FailureOf(err)
	s.emitLive(webhooks.EventWebhookFailed, webhooks.EventData{
		URL: shown(f.URL), Status: f.Status, RequestID: a.Request.RequestID, Code: f.Code, Message: unfilled.Replace(f.Message),
	})
}

// requestURI is a URL without its scheme and host; the whole of what is none, which no text can hold.
func requestURI(text string) string {
	u, err := url.Parse(text)
	if err != nil || len(u.RequestURI()) < 2 {
		return text
	}
	return u.RequestURI()
}

// notify tells a URL of an instruction that the end of the call cut short. The call does not wait for it, and its
// answer is ignored; it is one request within the usual budget.
func (s *Session) notify(reason webhooks.Reason, target webhooks.Target, trigger *webhooks.Trigger) {
	ask, written := s.prepare(question{reason: reason, target: target, trigger: trigger}), s.resolve(target.URL)
	s.spawn(func() {
		if got := s.fetch(context.WithoutCancel(s.ctx), ask); got.err != nil {
			s.tellFailure(ask, written, got.err)
		}
	})
}
