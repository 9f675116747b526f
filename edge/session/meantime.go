package session

import (
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// meantime is what the guard of a program has the leg hear while a request is in flight. It is fetched once, apart from the
// request, whose answer never waits for it, and kept for the later requests of the program. What cannot be had is silence.
type meantime struct {
	of     *webhooks.Guard
	audio  []*media.Prompt // nil until it is there
	wanted bool            // a request is in flight
	play   media.PlayID    // 0 while it is not heard
}

// hearMeantime has the leg hear what its program's guard says, until stop. A leg that is not answered hears nothing.
func (s *Session) hearMeantime() (stop func()) {
	g := s.guard
	if g == nil || g.WhileWaiting == nil || !s.answered() {
		return func() {}
	}
	m := s.meantime
	if m == nil || m.of != g {
		m = &meantime{of: g}
		s.meantime = m
		s.fetchPrompts(g.WhileWaiting, func(audio []*media.Prompt, err error) {
			if err != nil {
				s.log.Info("guard.silent", "error", plain(err).Error())
			}
			m.audio = audio
			s.playMeantime(m)
		})
	}
	m.wanted = true
	s.playMeantime(m)
	return func() {
		s.leg.StopPlay(m.play)
		m.wanted, m.play = false, 0
	}
}

// playMeantime plays what is there, while it is wanted.
func (s *Session) playMeantime(m *meantime) {
	if m.wanted && m.play == 0 && len(m.audio) > 0 {
		m.play = s.leg.Play(media.PlayConfig{Prompts: m.audio, Loop: 0})
	}
}
