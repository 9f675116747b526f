package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// pressBeside presses keys beside the program, after those that are still being pressed.
func (s *Session) pressBeside(o *acting, op *webhooks.OpDigits) error {
	duration, gap := time.Duration(op.DurationMS)*time.Millisecond, time.Duration(op.GapMS)*time.Millisecond
	s.sendKeys(op.Digits, duration, gap, func(err error) {
		if !errors.Is(err, media.ErrNoDTMF) {
			o.done(err)
			return
		}
		var failure error
		s.apart(func(ctx context.Context) { failure = s.pressINFO(ctx, op.Digits, duration, gap) }, func() { o.done(failure) })
	})
	return errLater
}

// sendKeys presses keys as RFC 4733. told is called on the leg's goroutine, where it waits, when they are sent or cannot
// be; whoever has asked first is told first.
func (s *Session) sendKeys(keys string, duration, gap time.Duration, told func(error)) {
	s.pressing = append(s.pressing, told)
	s.leg.SendDigits(keys, duration, gap)
}

// keysSent takes note that keys are sent.
func (s *Session) keysSent(err error) {
	if len(s.pressing) == 0 {
		return
	}
	told := s.pressing[0]
	s.pressing = s.pressing[1:]
	told(err)
}
