package twiml

import (
	"slices"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// gather compiles <Gather>. Twilio's rules, as outcomes: digits ask the action (missing: this document). No input,
// which is what a lone finishOnKey is as well, goes on with the next verb, unless actionOnEmptyResult. Nobody is
// told of a hang-up or of a live change.
func (c *compiler) gather(e *element) ([]webhooks.Instruction, error) {
	gather := new(webhooks.Gather)
	webhooks.Defaults(gather)
	r := c.attributes(e)
	c.gatherInput(r)
	gather.Action = r.targetOrCurrent("action")
	r.seconds("timeout", &gather.Timeout)
	r.text("finishOnKey", &gather.FinishOnKey)
	if r.integer("numDigits", &gather.NumDigits) && gather.NumDigits < 1 {
		r.refuse("numDigits must be at least 1, is %d", gather.NumDigits)
	}
	r.yes("bargeIn", &gather.BargeIn)
	tellEmpty := false
	r.yes("actionOnEmptyResult", &tellEmpty)
	if r.err != nil {
		return nil, r.err
	}
	gather.On = goOn(webhooks.Hangup, webhooks.Redirected)
	if !tellEmpty {
		gather.On = goOn(webhooks.Hangup, webhooks.Redirected, webhooks.Timeout, webhooks.Invalid, webhooks.Failed)
	}
	for _, child := range e.children {
		if p := child.element; p != nil && p.name == "Play" {
			if digits, _ := p.attribute("digits"); digits != "" {
				return nil, p.refuse("cannot send digits in <Gather>; put it in front")
			}
		}
	}
	prompt, err := c.verbs(e, promptVerbs)
	if err != nil {
		return nil, err
	}
	if len(prompt) > 0 {
		gather.Prompt = &webhooks.Sub{Instructions: prompt}
	}
	return []webhooks.Instruction{gather}, nil
}

// gatherInput reads what kinds of input are wanted.
//
// Why "dtmf speech" is taken and "speech" is not: a menu that can be pressed works without its spoken half, one that
// can only be spoken cannot end with anything but no input.
func (c *compiler) gatherInput(r *reader) {
	input := "dtmf"
	r.text("input", &input)
	words := strings.Fields(input)
	for _, w := range words {
		if w != "dtmf" && w != "speech" {
			r.refuse(`input must be "dtmf" or "dtmf speech", is %q`, clip(input))
			return
		}
	}
	switch {
	case !slices.Contains(words, "dtmf"):
		r.refuse(`input="speech" is not recognised by this version of Hookswitch; use input="dtmf"`)
	case slices.Contains(words, "speech"):
		c.warn(r.e, "speech is not recognised in this version; only keys are")
	}
}

// goOn is an on in which these outcomes neither ask nor run anything.
func goOn(outcomes ...webhooks.Outcome) map[string]webhooks.Sub {
	on := make(map[string]webhooks.Sub, len(outcomes))
	for _, o := range outcomes {
		on[string(o)] = webhooks.Sub{Instructions: []webhooks.Instruction{}}
	}
	return on
}
