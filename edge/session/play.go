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
			if t := s.playout(sorry, 1, 0); t.Outcome != webhooks.Completed {
				return t
			}
		}
	}
	if err != nil {
		return s.failed(err)
	}
	s.calls.cfg.Observer.promptStarted("say", time.Since(accepted))
	return s.playout(p, i.Loop, 0)
}

// load gets the audio of a play instruction.
func (s *Session) load(i *webhooks.Play) (*media.Prompt, error) { return s.meanwhile(s.audioFor(i)) }

// audioFor prepares to get the audio of a play instruction, on any goroutine.
func (s *Session) audioFor(i *webhooks.Play) func(context.Context) (*media.Prompt, error) {
	get := s.audioOf(i)
	return func(ctx context.Context) (*media.Prompt, error) {
		p, err := get(ctx)
		if err != nil {
			return nil, err
		}
		return louder(p, i.VolumeDB), nil
	}
}

func (s *Session) audioOf(i *webhooks.Play) func(context.Context) (*media.Prompt, error) {
	v, filled := s.vars(), *i
	switch {
	case i.URL != "":
		filled.URL = s.resolve(v.URL(i.URL))
		if p, ok := s.given.Load(filled.URL); ok {
			return func(context.Context) (*media.Prompt, error) { return p.(*media.Prompt), nil }
		}
	case i.MediaID != "":
		filled.MediaID = webhooks.MediaID(v.Text(string(i.MediaID)))
	case i.RecordingID != "":
		p, err := s.ownRecording(webhooks.RecordingID(v.Text(string(i.RecordingID))))
		return func(context.Context) (*media.Prompt, error) { return p, err }
	}
	return func(ctx context.Context) (*media.Prompt, error) {
		return s.calls.audio(ctx, s.account, s.lang, &filled)
	}
}

// audio gets what an account has to play: from a URL, of its media, or a tone.
func (c *Calls) audio(ctx context.Context, account webhooks.AccountID, lang string, i *webhooks.Play) (*media.Prompt, error) {
	switch {
	case i.URL != "":
		return c.cfg.Prompts.URL(ctx, i.URL)
	case i.MediaID != "":
		return c.cfg.Prompts.Media(ctx, account, string(i.MediaID), lang)
	}
	return c.cfg.Prompts.Tone(i.Tone)
}

// speak gets the audio of a say instruction.
func (s *Session) speak(i *webhooks.Say) (*media.Prompt, error) {
	return s.meanwhile(s.speechFor(i))
}

// speechFor prepares to get the audio of a say instruction, on any goroutine.
func (s *Session) speechFor(i *webhooks.Say) func(context.Context) (*media.Prompt, error) {
	v := s.vars()
	request := speech.Request{
		Text: v.Text(i.Text), SSML: v.XML(i.SSML), Voice: i.Voice, Language: s.language(i.Language), Provider: i.Provider,
	}
	return func(ctx context.Context) (*media.Prompt, error) {
		p, err := s.calls.cfg.Prompts.Say(ctx, request)
		if err != nil {
			return nil, err
		}
		return louder(p, i.VolumeDB), nil
	}
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
	if s.ctx.Err() != nil || errors.Is(err, errInterrupted) {
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
