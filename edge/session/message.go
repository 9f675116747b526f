package session

import (
	"context"
	"maps"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/webhooks"
)

// How often the control plane is asked to take a message when it does not answer, and how long between.
const (
	messageTries = 3
	messageWait  = time.Second
)

// message has a text message sent. It has ended when the message was taken. A hang-up does not stop it: what a program
// sends when it says goodbye is to arrive.
func (s *Session) message(i *webhooks.Message) *webhooks.Trigger {
	v := s.vars()
	m := control.TextMessage{
		AccountID: s.account, CallID: s.id, Key: webhooks.NewID("key"),
		To: v.Text(i.To), From: v.Text(i.From), Body: v.Text(i.Body), TemplateID: v.Text(i.TemplateID),
	}
	if m.TemplateID != "" {
		m.Data = maps.Clone(s.data)
	}
	if i.StatusURL != "" {
		m.StatusURL, m.ApplicationID = s.resolve(v.URL(i.StatusURL)), s.app.ID
	}
	kept := func(control.MessageTaken, error) {} // it is sent all the same
	taken, t, err := inquire(s, func(ctx context.Context) (control.MessageTaken, error) { return s.send(ctx, m) }, kept)
	switch {
	case t != nil:
		return t
	case err != nil:
		return s.failed(refusal(err))
	}
	return &webhooks.Trigger{Outcome: webhooks.Sent, MessageID: taken.MessageID}
}

// send asks until there is an answer: an answer that was lost is given again, by the message's key.
func (s *Session) send(ctx context.Context, m control.TextMessage) (control.MessageTaken, error) {
	for try := 1; ; try++ {
		taken, err := s.calls.cfg.Control.SendMessage(ctx, m)
		if err == nil || control.CodeOf(err) != "" || try == messageTries || !sleep(ctx, messageWait) {
			return taken, err
		}
	}
}
