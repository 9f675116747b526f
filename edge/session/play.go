package session

import (
	"context"
	"errors"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
)

// loadTime bounds the wait for audio that is fetched or spoken before it can play.
const loadTime = 15 * time.Second

func (s *Session) play(i *webhooks.Play) *webhooks.Trigger {
	accepted := time.Now()
	if !i.Early && !s.answer(nil) {
		return s.interrupted()
	}
	p, err := s.load(i)
	if err != nil {
		return s.failed(err)
	}
	if i.Early && !s.early() {
		return s.failed(errors.New("early media needs an offer in the INVITE; play it after answering"))
	}
	s.calls.cfg.Observer.promptStarted("play", time.Since(accepted))
	return s.playout(p, i.Loop, i.Start.Duration())
}

func (s *Session) say(i *webhooks.Say) *webhooks.Trigger {
	accepted := time.Now()
	if !s.answer(nil) {
		return s.interrupted()
	}
	p, err := s.speak(i)
	if errors.Is(err, speech.ErrNone) {
		// Something must be heard: silence would look like a dead line.
		if sorry, ok := s.calls.cfg.Prompts.System("sys_no_speech", s.language(i.Language)); ok {
			s.playout(sorry, 1, 0)
		}
	}
	if err != nil {
		return s.failed(err)
	}
	s.calls.cfg.Observer.promptStarted("say", time.Since(accepted))
	return s.playout(p, i.Loop, 0)
}

// load gets the audio of a play instruction.
func (s *Session) load(i *webhooks.Play) (*media.Prompt, error) {
	ctx, done := context.WithTimeout(s.ctx, loadTime)
	defer done()
	p, err := s.audioOf(ctx, i)
	if err != nil {
		return nil, err
	}
	return louder(p, i.VolumeDB), nil
}

func (s *Session) audioOf(ctx context.Context, i *webhooks.Play) (*media.Prompt, error) {
	store, v := s.calls.cfg.Prompts, s.vars()
	switch {
	case i.URL != "":
		u := s.resolve(v.URL(i.URL))
		if p, ok := s.given.Load(u); ok {
			return p.(*media.Prompt), nil
		}
		return store.URL(ctx, u)
	case i.MediaID != "":
		return store.Media(ctx, s.account, v.Text(string(i.MediaID)), s.lang)
	case i.RecordingID != "":
		return s.ownRecording(webhooks.RecordingID(v.Text(string(i.RecordingID))))
	}
	return store.Tone(i.Tone)
}

// speak gets the audio of a say instruction.
func (s *Session) speak(i *webhooks.Say) (*media.Prompt, error) {
	ctx, done := context.WithTimeout(s.ctx, loadTime)
	defer done()
	v := s.vars()
	p, err := s.calls.cfg.Prompts.Say(ctx, speech.Request{
		Text: v.Text(i.Text), SSML: v.XML(i.SSML), Voice: i.Voice, Language: s.language(i.Language), Provider: i.Provider,
	})
	if err != nil {
		return nil, err
	}
	return louder(p, i.VolumeDB), nil
}

func (s *Session) language(asked string) string {
	if asked != "" {
		return asked
	}
	return s.lang
}

func louder(p *media.Prompt, db float64) *media.Prompt {
	if db == 0 {
		return p
	}
	return p.WithGain(db)
}

// playout plays one prompt and waits for its end.
func (s *Session) playout(p *media.Prompt, loop int, start time.Duration) *webhooks.Trigger {
	s.dropTyped()
	id := s.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{p}, Loop: loop, Start: start})
	began := time.Now()
	for {
		woke, e := s.wait(nil)
		switch {
		case woke == wokeDigit:
			s.typeAhead(e.Digit)
		case woke == wokeMedia && e.Kind == media.PlayDone && e.Play == id:
			s.counts(e.Duration)
			return &webhooks.Trigger{Outcome: webhooks.Completed, Played: webhooks.SecondsOf(e.Duration)}
		case woke == wokeAction, woke == wokeEnd:
			s.leg.StopPlay(id)
			played := time.Since(began)
			s.counts(played)
			t := s.interrupted()
			t.Played = webhooks.SecondsOf(played)
			return t
		}
	}
}

// interrupted is the outcome of an instruction that a live change or the end of the call cut short.
func (s *Session) interrupted() *webhooks.Trigger {
	if s.ctx.Err() != nil {
		return &webhooks.Trigger{Outcome: webhooks.Hangup}
	}
	return &webhooks.Trigger{Outcome: webhooks.Redirected}
}

// failed is the outcome of an instruction that could not be done, with the sentence that says why.
func (s *Session) failed(err error) *webhooks.Trigger {
	if s.ctx.Err() != nil {
		return s.interrupted()
	}
	var known *prompt.Error
	text := err.Error()
	if errors.As(err, &known) {
		text = known.Message
	}
	s.log.Info("instruction.failed", "error", text)
	return &webhooks.Trigger{Outcome: webhooks.Failed, Error: text}
}

func (s *Session) pause(i *webhooks.Pause) {
	timer := time.NewTimer(i.Length.Duration())
	defer timer.Stop()
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	for {
		woke, e := s.wait(timer.C)
		switch woke {
		case wokeDigit:
			s.typeAhead(e.Digit)
		case wokeTimer, wokeAction, wokeEnd:
			return
		}
	}
}
