package session

import (
	"slices"
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	// waitRound is how long a round of a wait program takes at least; the rest of it is silence. So a program that has
	// nothing to say asks its application once a second, not as often as that answers.
	waitRound = time.Second
	// waitRetry is how long music is heard instead of a program that could not be had, before it is asked for again.
	waitRetry = 15 * time.Second
	// announceEvery is the time between two announcements where the queue says nothing.
	announceEvery = time.Minute
)

// waitInQueue runs the wait program, again and again, until it leaves (true), until something has come (waiter.called), or
// until the call ends or is changed. It differs from whileWaiting in that it repeats, and in what it does when the program
// cannot be had: it asks again after a while. A redirect in it names what is repeated from there on.
func (s *Session) waitInQueue(w *waiter) (left bool) {
	rest, base, guard := s.rest, s.base, s.guard
	now := w.program()
	s.waiting, s.called = &now, now.called
	defer func() { s.waiting, s.called, s.rest, s.base, s.guard = nil, nil, rest, base, guard }()
	defer w.watch()()
	for !now.left && !s.calledAway() {
		if !s.announcePosition(w) {
			break
		}
		began := time.Now()
		s.base, s.guard = w.base, guard
		switch s.waitOnce(&now); {
		case now.left || s.calledAway():
		case now.music && now.sub != nil: // it could not be had
			now.music = false
			s.idle(w, s.music(), waitRetry)
		case now.sub == nil:
			s.idle(w, s.queueMusic(w), 0)
		case now.sub.Target == nil && len(now.sub.Instructions) == 0:
			s.idle(w, nil, 0)
		default:
			if left := waitRound - time.Since(began); left > 0 {
				s.idle(w, nil, left)
			}
		}
	}
	return now.left
}

// program is what the call hears now: what its instruction says, else its queue.
func (w *waiter) program() waiting {
	w.mu.Lock()
	defer w.mu.Unlock()
	sub := w.i.Wait
	if sub == nil {
		sub = subOf(w.entry.Wait)
	}
	return waiting{sub: sub, called: w.called, standing: w.standing}
}

// waitOnce runs the wait program to its end.
func (s *Session) waitOnce(w *waiting) {
	s.rest = nil
	switch {
	case w.sub == nil:
		return
	case w.sub.Target != nil:
		s.askNext(webhooks.ReasonWait, *w.sub.Target, nil)
	default:
		s.rest = w.sub.Instructions
	}
	for len(s.rest) > 0 && !w.left && !s.calledAway() {
		next := s.rest[0]
		s.rest = s.rest[1:]
		if s.silent++; s.silent > webhooks.MaxSilentStretch {
			s.cancel(ended{cause: webhooks.CauseLoop})
			return
		}
		if r, ok := next.(*webhooks.Redirect); ok {
			w.sub = &webhooks.Sub{Target: &webhooks.Target{URL: s.resolve(s.vars().URL(r.URL)), Method: r.Method}}
		}
		t := s.observed(next)
		if s.ctx.Err() == nil && s.pending == nil && closed(w.called) {
			return
		}
		s.outcome(next, t)
	}
}

// idle lets time pass with music, or in silence without any, until it is over (0: never), the position is to be said, or
// the wait is.
func (s *Session) idle(w *waiter, music []*media.Prompt, d time.Duration) {
	if len(music) > 0 {
		id := s.leg.Play(media.PlayConfig{Prompts: music, Loop: 0})
		defer s.leg.StopPlay(id)
	}
	until, limited := w.untilAnnounced()
	if d > 0 && (!limited || d < until) {
		until, limited = d, true
	}
	var over <-chan time.Time
	if limited {
		timer := time.NewTimer(max(until, 0))
		defer timer.Stop()
		over = timer.C
	}
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	for {
		switch woke, e := s.wait(over); woke {
		case wokeDigit:
			s.emit(webhooks.EventDTMF, webhooks.EventData{Digit: string(e.Digit)})
		case wokeTimer, wokeAction, wokeEnd:
			return
		}
	}
}

// queueMusic is what the queue has callers hear.
func (s *Session) queueMusic(w *waiter) []*media.Prompt {
	w.mu.Lock()
	id := w.entry.MusicID
	w.mu.Unlock()
	if id == "" {
		return s.music()
	}
	audio, err := s.load(&webhooks.Play{MediaID: id})
	if err != nil {
		s.log.Warn("queue.music", "media_id", id, "error", plain(err).Error())
		return s.music()
	}
	return []*media.Prompt{audio}
}

// untilAnnounced is the time until the position is to be said; ok is false where it never is.
func (w *waiter) untilAnnounced() (d time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.i.AnnouncePosition && !w.entry.AnnouncePosition {
		return 0, false
	}
	every := w.entry.AnnounceInterval.Duration()
	if every <= 0 {
		every = announceEvery
	}
	if w.announced.IsZero() {
		return 0, true
	}
	return time.Until(w.announced.Add(every)), true
}

// announcePosition says the position in the call's language, when it is time to. False: the wait is over.
func (s *Session) announcePosition(w *waiter) bool {
	if d, ok := w.untilAnnounced(); !ok || d > 0 {
		return true
	}
	w.mu.Lock()
	w.announced = time.Now()
	position := w.entry.Position
	w.mu.Unlock()
	if position <= 0 {
		return true
	}
	audio := s.spoken(prompt.Position, position)
	return s.hear(audio, "") == nil
}

// spoken is a prompt of the system's followed by a number, digit by digit.
func (s *Session) spoken(first webhooks.MediaID, number int) []*media.Prompt {
	ids := []webhooks.MediaID{first}
	for _, digit := range strconv.Itoa(number) {
		ids = append(ids, webhooks.MediaID("sys_digits_"+string(digit)))
	}
	var audio []*media.Prompt
	for _, id := range ids {
		if p, ok := s.calls.cfg.Prompts.System(id, s.lang); ok {
			audio = append(audio, p)
		}
	}
	return slices.Clip(audio)
}

// gate runs a screen on a leg that goes on with its instruction afterwards, until stop is closed. It reports whether the leg
// may be connected: the screen has come to its end, and neither rejected nor hung up.
func (s *Session) gate(sub webhooks.Sub, stop <-chan struct{}, standing func() *webhooks.Waiting) bool {
	rest, base, guard := s.rest, s.base, s.guard
	s.screened, s.called, s.rest = true, stop, nil
	defer func() {
		s.screened, s.refused, s.called, s.rest, s.base, s.guard = false, false, nil, rest, base, guard
	}()
	s.rest = sub.Instructions
	if sub.Target != nil {
		s.askScreen(*sub.Target, standing)
	}
	for len(s.rest) > 0 && s.gateOpen() {
		next := s.rest[0]
		s.rest = s.rest[1:]
		if s.silent++; s.silent > webhooks.MaxSilentStretch {
			s.cancel(ended{cause: webhooks.CauseLoop})
			return false
		}
		t := s.observed(next)
		if s.ctx.Err() == nil && s.pending == nil && closed(stop) {
			return false
		}
		s.outcome(next, t)
	}
	return s.gateOpen()
}

// gateOpen reports whether a screen goes on.
func (s *Session) gateOpen() bool {
	return !s.refused && s.ctx.Err() == nil && s.pending == nil && !closed(s.called)
}

// askScreen asks for a screen. A gate that cannot be asked stays shut.
func (s *Session) askScreen(target webhooks.Target, standing func() *webhooks.Waiting) {
	got, err := s.askWith(s.ctx, question{reason: webhooks.ReasonScreen, target: target, standing: standing})
	if err != nil {
		s.refused = true
		return
	}
	s.replace(got.program, got.base)
}
