package twiml

import (
	"regexp"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// enqueue compiles <Enqueue>: a queue that there is none of yet is made. Without an action every outcome goes on with
// the next verb; with one it is asked always, and told of a hang-up and of a live change as well. What waitUrl
// answers begins again when it is over.
func (c *compiler) enqueue(e *element) ([]webhooks.Instruction, error) {
	enqueue := &webhooks.Enqueue{Create: true}
	webhooks.Defaults(enqueue)
	r := c.attributes(e)
	enqueue.Action = r.target("action", "method")
	enqueue.Wait = r.wait("waitUrl", "waitUrlMethod")
	if r.integer("maxQueueSize", &enqueue.MaxSize) && enqueue.MaxSize < 1 {
		r.refuse("maxQueueSize must be at least 1, is %d", enqueue.MaxSize)
	}
	if r.err != nil {
		return nil, r.err
	}
	for _, child := range e.children {
		if child.element != nil {
			return nil, notAllowed(child.element, e, []string{"the name of a queue as its text"})
		}
	}
	if enqueue.Queue = ownID(e.text()); enqueue.Queue == "" {
		return nil, e.refuse("names no queue; give its name as text")
	}
	return []webhooks.Instruction{enqueue}, nil
}

func (c *compiler) leave(e *element) ([]webhooks.Instruction, error) {
	if err := nothing(e); err != nil {
		return nil, err
	}
	c.attributes(e)
	return []webhooks.Instruction{new(webhooks.Leave)}, nil
}

// queue compiles <Dial> with <Queue> in it: this call takes the one that waits longest. The noun's url is run on the
// caller who waited.
func (c *compiler) queue(e, noun *element) ([]webhooks.Instruction, error) {
	if err := onlyText(noun); err != nil {
		return nil, err
	}
	dequeue := new(webhooks.Dequeue)
	webhooks.Defaults(dequeue)
	dial, r := c.attributes(e), c.attributes(noun)
	dequeue.Timeout = 30
	dial.seconds("timeout", &dequeue.Timeout)
	if action := dial.target("action", "method"); action != nil {
		dequeue.On = map[string]webhooks.Sub{"default": {Target: action}, string(webhooks.Redirected): {Instructions: []webhooks.Instruction{}}}
	}
	dial.ineffective(noun, "timeLimit", "callerId", "hangupOnStar", "answerOnBridge", "record", "ringTone", "sequential", "referUrl", "recordingStatusCallback")
	dequeue.Screen = r.screen()
	if dequeue.Queue = ownID(noun.text()); dequeue.Queue == "" {
		r.refuse("names no queue; give its name as text")
	}
	if dial.err != nil {
		return nil, dial.err
	}
	return []webhooks.Instruction{dequeue}, r.err
}

// ineffective warns about attributes of <Dial> that mean nothing for what it dials.
func (r *reader) ineffective(noun *element, names ...string) {
	for _, name := range names {
		if value, given := r.e.attribute(name); given && value != "" && value != "false" {
			r.c.warn(r.e, "%s has no effect with <%s>", name, noun.name)
		}
	}
}

var sidForm = regexp.MustCompile(`^[A-Z]{2}[0-9a-f]{32}$`)

// ownID turns the SID of something of ours into its id; what is none comes back trimmed.
func ownID(text string) string {
	text = strings.TrimSpace(text)
	if !sidForm.MatchString(text) {
		return text
	}
	id, err := webhooks.FromSID(text)
	if err != nil {
		return text
	}
	return id
}
