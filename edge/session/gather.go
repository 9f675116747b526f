package session

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hookswitch/hookswitch/edge/media"
	"github.com/hookswitch/hookswitch/edge/speech"
	"github.com/hookswitch/hookswitch/webhooks"
)

// collected is what one attempt of a gather came to.
type collected struct {
	digits     string
	finishedBy string // num_digits, key, timeout; "" when nothing was pressed
	trigger    *webhooks.Trigger
}

func (s *Session) gather(i *webhooks.Gather) *webhooks.Trigger {
	if !s.answer(nil) {
		return s.interrupted()
	}
	defer s.masking(i.Mask)()
	t := s.attempts(i)
	if t.Outcome == webhooks.Failed || t.Outcome == webhooks.Redirected {
		return t
	}
	data := webhooks.EventData{Verb: "gather", Instruction: i.ID, Outcome: t.Outcome, Digits: t.Digits}
	if i.Mask {
		data.Digits = ""
	}
	s.emit(webhooks.EventGatherCompleted, data)
	return t
}

// attempts asks as often as the instruction allows.
func (s *Session) attempts(i *webhooks.Gather) *webhooks.Trigger {
	valid, err := regexp.Compile(`^(?:` + i.Valid + `)$`)
	if err != nil {
		return s.failed(fmt.Errorf("valid is not a regular expression: %w", err))
	}
	before := []*webhooks.Sub{i.Prompt}
	for attempt := 1; ; attempt++ {
		got := s.collect(i, before)
		if got.trigger != nil {
			return got.trigger
		}
		last := attempt >= i.Attempts
		switch {
		case got.digits == "":
			if last {
				return &webhooks.Trigger{Outcome: webhooks.Timeout}
			}
			before = []*webhooks.Sub{i.NoInputPrompt, i.Prompt}
		case len(got.digits) >= i.MinDigits && (i.Valid == "" || valid.MatchString(got.digits)):
			t := &webhooks.Trigger{Outcome: webhooks.Digits, Digits: got.digits, FinishedBy: got.finishedBy}
			if got.finishedBy == "key" {
				t.Key = i.FinishOnKey
			}
			return t
		default:
			if last {
				return &webhooks.Trigger{Outcome: webhooks.Invalid, Digits: got.digits}
			}
			before = []*webhooks.Sub{i.InvalidPrompt, i.Prompt}
		}
	}
}

// collect plays the prompts and takes keys until the input is complete or the time is over.
func (s *Session) collect(i *webhooks.Gather, before []*webhooks.Sub) collected {
	input := entry{gather: i}
	for len(s.typed) > 0 { // pressed before the question was asked
		digit := s.typed[0]
		s.typed = s.typed[1:]
		if input.press(digit) {
			return input.done()
		}
	}
	playing := media.PlayID(0)
	if input.digits.Len() == 0 {
		prompts, t := s.prompts(before)
		if t != nil {
			return collected{trigger: t}
		}
		if len(prompts) > 0 {
			playing = s.leg.Play(media.PlayConfig{Prompts: prompts, Loop: 1})
		}
	}
	began := time.Now()
	defer func() { s.counts(time.Since(began)) }()
	timer := time.NewTimer(input.patience())
	defer timer.Stop()
	for {
		expired := timer.C
		if playing != 0 {
			expired = nil // the time to think begins when the question has been heard
		}
		woke, e := s.wait(expired)
		switch {
		case woke == wokeDigit:
			s.counts(time.Second) // input is worth as much as media
			if playing != 0 && !i.BargeIn {
				continue
			}
			s.leg.StopPlay(playing)
			playing = 0
			if input.press(e.Digit) {
				return input.done()
			}
			timer.Reset(input.patience())
		case woke == wokeMedia && e.Kind == media.PlayDone && e.Play == playing:
			playing = 0
			timer.Reset(input.patience())
		case woke == wokeTimer:
			input.finishedBy = "timeout"
			return input.done()
		case woke == wokeAction, woke == wokeEnd:
			s.leg.StopPlay(playing)
			t := s.interrupted()
			t.Digits = input.digits.String()
			return collected{trigger: t}
		}
	}
}

// entry is the keys of one attempt so far.
type entry struct {
	gather     *webhooks.Gather
	digits     strings.Builder
	finishedBy string
	pressed    bool // some key, be it only the finishing one
}

// press takes a key and reports whether the input is complete.
func (e *entry) press(digit byte) bool {
	e.pressed = true
	if e.gather.FinishOnKey != "" && digit == e.gather.FinishOnKey[0] {
		e.finishedBy = "key"
		return true
	}
	e.digits.WriteByte(digit)
	if e.gather.NumDigits > 0 && e.digits.Len() >= e.gather.NumDigits {
		e.finishedBy = "num_digits"
		return true
	}
	const most = 64 // without num_digits
	return e.digits.Len() >= most
}

// patience is how long the next key may take.
func (e *entry) patience() time.Duration {
	if e.digits.Len() > 0 && e.gather.DigitTimeout != nil {
		return e.gather.DigitTimeout.Duration()
	}
	return e.gather.Timeout.Duration()
}

// done is the outcome of the attempt. The finishing key alone is no input.
func (e *entry) done() collected {
	return collected{digits: e.digits.String(), finishedBy: e.finishedBy}
}

// prompts gets the audio of sub-programs of say, play and pause, in order. The trigger is set when there is none to
// be had.
func (s *Session) prompts(subs []*webhooks.Sub) ([]*media.Prompt, *webhooks.Trigger) {
	var out []*media.Prompt
	for _, sub := range subs {
		if sub == nil {
			continue
		}
		list, base, t := s.promptProgram(*sub)
		if t != nil {
			return nil, t
		}
		prompts, err := s.promptsOf(list, base)
		if err != nil {
			return nil, s.failed(err)
		}
		out = append(out, prompts...)
	}
	return out, nil
}

// promptsOf gets the audio of a prompt's instructions. base is the URL of the document they stand in.
func (s *Session) promptsOf(list []webhooks.Instruction, base string) ([]*media.Prompt, error) {
	program := s.base
	s.base = base
	defer func() { s.base = program }()
	var out []*media.Prompt
	for _, i := range list {
		p, loop, err := s.promptOf(i)
		if err != nil {
			return nil, err
		}
		for range max(1, min(loop, 20)) { // a prompt that never ends would never ask
			out = append(out, p)
		}
	}
	return out, nil
}

// promptsFor prepares to get the audio of a prompt's instructions, on any goroutine.
func (s *Session) promptsFor(list []webhooks.Instruction, base string) func(context.Context) ([]*media.Prompt, error) {
	program := s.base
	s.base = base
	defer func() { s.base = program }()
	var all []func(context.Context) (*media.Prompt, error)
	for _, i := range list {
		get, loop := s.promptFor(i)
		for range max(1, min(loop, 20)) {
			all = append(all, get)
		}
	}
	return func(ctx context.Context) ([]*media.Prompt, error) {
		ctx, done := context.WithTimeout(ctx, loadTime)
		defer done()
		var out []*media.Prompt
		for _, get := range all {
			p, err := get(ctx)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		return out, nil
	}
}

func (s *Session) promptFor(i webhooks.Instruction) (get func(context.Context) (*media.Prompt, error), loop int) {
	switch i := i.(type) {
	case *webhooks.Play:
		return s.audioFor(i), i.Loop
	case *webhooks.Say:
		return s.speechFor(i), i.Loop
	}
	return func(context.Context) (*media.Prompt, error) {
		p, _, err := s.promptOf(i) // neither is waited for
		return p, err
	}, 1
}

// promptOf gets the audio of one instruction of a prompt.
func (s *Session) promptOf(i webhooks.Instruction) (p *media.Prompt, loop int, err error) {
	switch i := i.(type) {
	case *webhooks.Play:
		p, err = s.load(i)
		return p, i.Loop, err
	case *webhooks.Say:
		p, err = s.speak(i)
		if errors.Is(err, speech.ErrNone) { // the question cannot be heard, but keys can still be pressed
			if sorry, ok := s.calls.cfg.Prompts.System("sys_no_speech", s.language(i.Language)); ok {
				return sorry, 1, nil
			}
		}
		return p, i.Loop, err
	case *webhooks.Pause:
		const most = 60 // seconds of silence a prompt may hold
		return media.NewPrompt(make([]int16, int(min(i.Length, most)*media.SampleRate))), 1, nil
	}
	return nil, 0, fmt.Errorf("%s cannot stand in a prompt", i.Verb())
}

// promptProgram returns a prompt's instructions, asking its URL where it is one, and the URL of the document they
// stand in.
func (s *Session) promptProgram(sub webhooks.Sub) (list []webhooks.Instruction, base string, t *webhooks.Trigger) {
	if sub.Target == nil {
		return sub.Instructions, s.base, nil
	}
	got, err := s.ask(s.ctx, webhooks.ReasonPrompt, *sub.Target, nil)
	if err != nil {
		if s.pending != nil || s.ctx.Err() != nil {
			return nil, "", s.interrupted()
		}
		return nil, "", s.failed(err)
	}
	s.keepState(got.program)
	return got.program.Instructions, got.base, nil
}
