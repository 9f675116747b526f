package session

import (
	"context"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// Originate implements control.Edge: it starts a call and returns when this edge has taken it on.
func (c *Calls) Originate(_ context.Context, o control.Originate) error {
	if c.draining.Load() || c.overloaded() {
		return &control.Error{Code: control.CodeBusy, Message: "this edge takes no new calls", Cause: webhooks.CauseOverload}
	}
	s := c.newSession(c.ctx, o.CallID, o.AccountID, o.Application, o.Language)
	s.call.Direction = webhooks.OutboundAPI
	s.call.From, s.call.To, s.call.Dialed = o.From, o.Target.Name(), o.Target.Name()
	s.call.ExternalID, s.call.CustomerID = o.ExternalID, o.CustomerID
	s.call.ConversationID = webhooks.NewConversationID()
	if !o.StartedAt.IsZero() {
		s.call.StartedAt, s.cdr.StartedAt = o.StartedAt, o.StartedAt
	}
	s.setData(o.Data)
	s.showsCalled = o.ShowsCalled
	events := webhooks.EventTypes()
	if o.Application.Format == control.FormatTwiML {
		events = legEvents
	}
	s.watch(s.statusTarget(webhooks.Target{URL: o.StatusURL}, nil), events)
	if m := o.MachineDetection; m != nil {
		s.detectMachine(m, s.statusTarget(webhooks.Target{URL: m.StatusURL}, nil))
	}
	if !c.admit(s) {
		s.dismiss()
		return &control.Error{Code: control.CodeBusy, Message: "this edge is full", Cause: webhooks.CauseOverload}
	}
	go func() { // Run waits for it
		defer c.work.Done()
		s.conduct(func() { s.originate(o) })
	}()
	return nil
}

// originate places the call and, once it is answered, asks its application.
func (s *Session) originate(o control.Originate) {
	resolved, err := s.resolveTarget(s.ctx, s.resolveQuery(o.Target, o.From))
	if err != nil {
		s.emitInitiated()
		s.cancel(resolveEnd(err))
		return
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = 60
	}
	ctx, done := context.WithTimeoutCause(s.ctx, timeout.Duration(), ended{cause: webhooks.CauseNoAnswer})
	defer done()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	p := placing{callerName: o.CallerName, headers: o.Headers, username: o.Target.Username, password: o.Target.Password}
	p.early = func() { s.detection.hearEarly(s, giveUp) }
	answered := s.place(ctx, resolved.Hops, p)
	s.detection.endEarly()
	if !answered {
		return
	}
	s.limit(o.TimeLimit)
	if o.Record {
		if _, err := s.startRecording(recordWholeCall, "", statusTarget{}); err != nil {
			s.log.Warn("recording.not_started", "error", err.Error())
		}
	}
	if o.SendDigits != "" {
		s.press(o.SendDigits, sendDuration, sendGap)
	}
	s.judge() // whatever it finds, the application is told and decides
	s.begin(webhooks.ReasonAnswered)
}
