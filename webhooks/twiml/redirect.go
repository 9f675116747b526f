package twiml

import "github.com/hookswitch/hookswitch/webhooks"

// redirect compiles <Redirect>; an empty one asks this document again.
func (c *compiler) redirect(e *element) ([]webhooks.Instruction, error) {
	if err := onlyText(e); err != nil {
		return nil, err
	}
	redirect := new(webhooks.Redirect)
	r := c.attributes(e)
	redirect.Method = r.method("method")
	if r.err != nil {
		return nil, r.err
	}
	var err error
	if text := e.text(); text != "" {
		redirect.URL, err = c.link(e, text)
	} else {
		redirect.URL, err = c.current(e, "a URL as its text")
	}
	return []webhooks.Instruction{redirect}, err
}

func (c *compiler) hangup(e *element) ([]webhooks.Instruction, error) {
	if err := nothing(e); err != nil {
		return nil, err
	}
	c.attributes(e)
	return []webhooks.Instruction{new(webhooks.HangUp)}, nil
}

func (c *compiler) reject(e *element) ([]webhooks.Instruction, error) {
	if err := nothing(e); err != nil {
		return nil, err
	}
	reject := new(webhooks.Reject)
	webhooks.Defaults(reject)
	r := c.attributes(e)
	r.text("reason", &reject.Reason)
	return []webhooks.Instruction{reject}, r.err
}
