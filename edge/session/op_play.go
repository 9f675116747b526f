package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/webhooks"
)

// played is what a live change has last had played beside the program: another takes its place.
type played struct {
	leg *Session
	id  media.PlayID
}

func (s *Session) playBeside(o *acting, op *webhooks.OpPlay) error {
	get := s.audioFor(&webhooks.Play{
		URL: op.URL, MediaID: op.MediaID, RecordingID: op.RecordingID, Tone: op.Tone, VolumeDB: op.VolumeDB,
	})
	return s.hearBeside(o, get, hearing{loop: op.Loop, both: op.To == "both", url: op.URL})
}

func (s *Session) sayBeside(o *acting, op *webhooks.OpSay) error {
	get := s.speechFor(&webhooks.Say{
		Text: op.Text, SSML: op.SSML, Voice: op.Voice, Language: op.Language, VolumeDB: op.VolumeDB, Provider: op.Provider,
	})
	return s.hearBeside(o, get, hearing{loop: op.Loop, both: op.To == "both"})
}

// hearing is how audio is heard beside the program.
type hearing struct {
	loop int
	both bool   // the other party, or the conference, as well
	url  string // where it came from, for the conference's events
}

// hearBeside gets audio and plays it over whatever the leg hears, which waits, or goes on below it where it is a voice.
func (s *Session) hearBeside(o *acting, get func(context.Context) (*media.Prompt, error), h hearing) error {
	if h.both && s.participant == nil && s.partner() == nil {
		return fmt.Errorf("to: there is nobody else to hear it: %w", errNobody)
	}
	var audio *media.Prompt
	var failure error
	s.apart(func(ctx context.Context) {
		ctx, done := context.WithTimeout(ctx, loadTime)
		defer done()
		audio, failure = get(ctx)
	}, func() { o.done(s.playOver(audio, failure, h)) })
	return errLater
}

// playOver plays audio that was got for it; failure is why there is none.
func (s *Session) playOver(audio *media.Prompt, failure error, h hearing) error {
	if p := s.participant; p != nil && h.both {
		return p.announce(audio, failure, h.loop, h.url)
	}
	if failure != nil {
		return plain(failure)
	}
	hear := []*Session{s}
	if h.both {
		other := s.partner()
		if other == nil {
			return errors.New("to: the other party has gone before it could be played")
		}
		hear = append(hear, other)
	}
	s.stopBeside()
	for _, o := range hear {
		id := o.leg.Play(media.PlayConfig{Prompts: []*media.Prompt{audio}, Loop: h.loop, Over: true})
		s.played = append(s.played, played{o, id})
	}
	return nil
}

// stopBeside ends what plays beside the program.
func (s *Session) stopBeside() {
	for _, p := range s.played {
		p.leg.leg.StopPlay(p.id)
	}
	s.played = nil
}
