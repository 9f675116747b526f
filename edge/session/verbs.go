package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/media/dtmf"
	"github.com/hookswitch/hookswitch/webhooks"
)

// The verbs that are a few lines each.

// recordWholeCall is what the record option of an originated call means.
var recordWholeCall = media.RecordConfig{Channels: 2}

// How keys are sent where nobody says otherwise.
const (
	sendDuration = 100 * time.Millisecond
	sendGap      = 100 * time.Millisecond
)

// hangup ends the call, or refuses it when it is a screen that hangs up.
func (s *Session) hangup(i *webhooks.HangUp) {
	if s.screened {
		s.refused = true
		return
	}
	end := ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByApplication, text: i.Cause}
	if known := webhooks.Cause(i.Cause); known.Known() {
		end.cause = known
	}
	s.cancel(end)
}

// reject refuses the call; one that is answered already can only be ended.
func (s *Session) reject(i *webhooks.Reject) {
	if s.screened {
		s.refused = true
		return
	}
	if s.answered() {
		s.cancel(ended{cause: webhooks.CauseProgramEnd, by: webhooks.EndedByApplication})
		return
	}
	end := ended{cause: webhooks.CauseRejected, by: webhooks.EndedByApplication, code: i.SIPCode}
	if i.Reason == "busy" {
		end.cause = webhooks.CauseBusy
	}
	s.cancel(end)
}

// sendDigits presses keys. It does not answer the call: before an answer or early media there is nobody who could
// hear them.
func (s *Session) sendDigits(i *webhooks.SendDigits) {
	s.mu.Lock()
	audible := s.sdp.audible
	s.mu.Unlock()
	if !audible {
		s.log.Info("digits.refused", "error", "the call is not answered")
		return
	}
	s.press(s.vars().Text(i.Digits), time.Duration(i.DurationMS)*time.Millisecond, time.Duration(i.GapMS)*time.Millisecond)
}

// press sends keys to the other side, as RFC 4733 where that was negotiated, else by SIP INFO.
func (s *Session) press(keys string, duration, gap time.Duration) {
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	done := make(chan struct{})
	s.sendKeys(keys, duration, gap, func(err error) {
		if !errors.Is(err, media.ErrNoDTMF) {
			close(done)
			return
		}
		s.apart(func(ctx context.Context) {
			if err := s.pressINFO(ctx, keys, duration, gap); err != nil {
				s.log.Info("digits.refused", "error", err.Error())
			}
		}, func() { close(done) })
	})
	s.news = done
	defer func() { s.news = nil }()
	for {
		woke, e := s.wait(nil)
		switch woke {
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeNews, wokeAction, wokeEnd:
			return
		}
	}
}

// pauses are the keys that only wait.
var pauses = map[byte]time.Duration{'w': 500 * time.Millisecond, 'W': time.Second}

// pressINFO presses keys by SIP INFO, one after the other. It may run on any goroutine.
func (s *Session) pressINFO(ctx context.Context, keys string, duration, gap time.Duration) error {
	select {
	case <-s.confirmed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for i := range len(keys) {
		wait := duration + gap
		if pause, ok := pauses[keys[i]]; ok {
			wait = pause
		} else {
			if err := s.dialog.Info(ctx, "application/dtmf-relay", dtmf.FormatInfo(keys[i], duration)); err != nil {
				return fmt.Errorf("%s was not taken by the phone: %w", keys[i:i+1], err)
			}
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
	return nil
}
