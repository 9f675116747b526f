package twiml

import "github.com/hookswitch/hookswitch/webhooks"

// play compiles <Play>: a URL, digits to send, or both, the digits first.
func (c *compiler) play(e *element) ([]webhooks.Instruction, error) {
	if err := onlyText(e); err != nil {
		return nil, err
	}
	play, digits := new(webhooks.Play), new(webhooks.SendDigits)
	webhooks.Defaults(play)
	webhooks.Defaults(digits)
	r := c.attributes(e)
	r.loop(&play.Loop)
	r.text("digits", &digits.Digits)
	if r.err != nil {
		return nil, r.err
	}
	text := e.text()
	if text == "" && digits.Digits == "" {
		return nil, e.refuse("has nothing to play; give the URL of a sound file as its text, or digits")
	}
	var out []webhooks.Instruction
	if digits.Digits != "" {
		// <Play> answers; send_digits by itself does not.
		answer := new(webhooks.Answer)
		webhooks.Defaults(answer)
		out = append(out, answer, digits)
	}
	if text == "" {
		return out, nil
	}
	var err error
	if play.URL, err = c.link(e, text); err != nil {
		return nil, err
	}
	return append(out, play), nil
}

func (c *compiler) pause(e *element) ([]webhooks.Instruction, error) {
	if err := nothing(e); err != nil {
		return nil, err
	}
	pause := new(webhooks.Pause)
	webhooks.Defaults(pause)
	r := c.attributes(e)
	r.seconds("length", &pause.Length)
	return []webhooks.Instruction{pause}, r.err
}
