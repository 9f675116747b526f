package session

import (
	"errors"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/control"
	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/prompt"
	"github.com/hookswitch/hookswitch/webhooks"
)

// anyMailbox is how a message is taken while nobody can be asked how its mailbox wants it.
var anyMailbox = control.Mailbox{MinLength: 1, Silence: 5, FinishOnKey: "#"}

// voicemail takes a message for a mailbox. What makes it one is its recording.started, which names the mailbox: see
// control.Verbs.
func (s *Session) voicemail(i *webhooks.Voicemail) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	name := s.vars().Text(i.Mailbox)
	q := control.MailboxQuery{AccountID: s.account, Mailbox: name}
	box, known, t, err := remembered(s, q, s.calls.cfg.Control.Mailbox)
	switch {
	case t != nil:
		return t
	case err != nil:
		return s.failed(refusal(err))
	case !known: // the message is taken all the same: whose it is can be found out later
		box = anyMailbox
		box.ID = name
	}
	if t := s.greet(i.Greeting, box.Greeting); t != nil {
		return t
	}
	if t := s.beep(); t != nil {
		return t
	}
	return s.takeMessage(i, box)
}

// greet plays what callers hear before they speak: what the program brings, else what the mailbox has, else the system's
// own, which also serves where the others cannot be had. # skips it.
func (s *Session) greet(brought *webhooks.Sub, own *webhooks.Program) *webhooks.Trigger {
	if brought == nil {
		brought = subOf(own)
	}
	if brought != nil {
		prompts, t := s.prompts([]*webhooks.Sub{brought})
		if t == nil {
			return s.hear(prompts, "#")
		}
		if t.Outcome != webhooks.Failed {
			return t
		}
		s.log.Warn("voicemail.greeting", "error", t.Error)
	}
	greeting, ok := s.calls.cfg.Prompts.System(prompt.LeaveMessage, s.lang)
	if !ok {
		return nil
	}
	return s.hear([]*media.Prompt{greeting}, "#")
}

func (s *Session) beep() *webhooks.Trigger {
	s.dropTyped()
	tone, ok := s.calls.cfg.Prompts.System(prompt.Beep, s.lang)
	if !ok {
		return nil
	}
	return s.hear([]*media.Prompt{tone}, "")
}

// takeMessage records what the caller says.
func (s *Session) takeMessage(i *webhooks.Voicemail, box control.Mailbox) *webhooks.Trigger {
	most := i.MaxLength.Duration()
	if limit := box.MaxLength.Duration(); limit > 0 {
		most = min(most, limit)
	}
	p, err := s.startRecordingFor(
		media.RecordConfig{Channels: 1, MaxLength: most, Silence: box.Silence.Duration(), Trim: true},
		i.Verb(), statusTarget{}, box.ID, box.MinLength.Duration(),
	)
	if err != nil {
		return s.failed(err)
	}
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	t := s.recorded(&webhooks.Record{FinishOnKey: box.FinishOnKey}, p)
	interrupted := t.Outcome == webhooks.Hangup || t.Outcome == webhooks.Redirected
	note := p.note()
	switch {
	case note.Empty && interrupted:
		return t
	case note.Empty:
		return &webhooks.Trigger{Outcome: webhooks.Empty}
	case note.Failure != "" && !interrupted:
		return s.failed(errors.New(note.Failure))
	case !interrupted:
		t = &webhooks.Trigger{Outcome: webhooks.Left}
	}
	duration := webhooks.SecondsOf(time.Duration(note.Samples) * time.Second / media.SampleRate)
	t.VoicemailID, t.RecordingID, t.Duration = p.RecordingID.Voicemail(), p.RecordingID, &duration
	return t
}

// subOf is a stored program as the sub-program it was stored to be; nil for none.
func subOf(p *webhooks.Program) *webhooks.Sub {
	if p == nil {
		return nil
	}
	return &webhooks.Sub{Instructions: p.Instructions}
}

// hear plays prompts until they end, or until one of the keys in stops is pressed. Keys are kept for the next gather, as
// type-ahead is. The trigger is set when a live change or the end of the call came first.
func (s *Session) hear(prompts []*media.Prompt, stops string) *webhooks.Trigger {
	if len(prompts) == 0 {
		return nil
	}
	id := s.leg.Play(media.PlayConfig{Prompts: prompts, Loop: 1})
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	for {
		woke, e := s.wait(nil)
		switch {
		case woke == wokeDigit:
			s.typeAhead(e.Digit)
			if strings.IndexByte(stops, e.Digit) >= 0 {
				s.leg.StopPlay(id)
				return nil
			}
		case woke == wokeMedia && e.Kind == media.PlayDone && e.Play == id:
			return nil
		case woke == wokeAction, woke == wokeEnd:
			s.leg.StopPlay(id)
			return s.interrupted()
		}
	}
}
