package twiml

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// Context is where a document came from.
type Context struct {
	// URL is the document's own, http or https: the final one, after redirects. Relative URLs in it resolve against
	// this one, and it is what a missing action of Gather and Record and an empty Redirect mean. It is "" (or anything
	// else) for a document that was given inline; such a document must name its actions, and its relative URLs are
	// left as they are.
	URL string
	// Party is the number of who is on the line: the caller of an inbound call, the called party of an outbound one. A
	// text message goes there that names no other receiver. "" stands for the caller.
	Party string
}

// Warning is something that Hookswitch read over: the document runs, but not all that it says is done. It belongs
// in the call's journal.
type Warning struct {
	Pointer string `json:"pointer"` // element and line, such as "<Gather> line 3"
	Message string `json:"message"` // one sentence
}

// Parse compiles a TwiML document into the program that means the same: the executor knows no dialect. The program
// has Twilio's rules for a missing action, for no input and for a hang-up written out in its on and action.
//
// The error is a *webhooks.ProgramError whose Pointer is "<Gather> line 3" (element and line), or "line 3" where
// the body is not XML. Nothing of a refused document runs. An accepted one is also accepted by
// webhooks.ParseProgram when it is marshalled and not larger than webhooks.MaxProgramBytes.
func Parse(body []byte, base Context) (webhooks.Program, []Warning, error) {
	if len(body) > webhooks.MaxProgramBytes {
		return webhooks.Program{}, nil, &webhooks.ProgramError{Message: fmt.Sprintf("the document is larger than %d bytes", webhooks.MaxProgramBytes)}
	}
	root, err := readXML(body)
	if err != nil {
		return webhooks.Program{}, nil, err
	}
	c := &compiler{party: base.Party}
	if u, err := url.Parse(base.URL); err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") {
		c.base = u.String()
	}
	instructions, err := c.response(root)
	if err != nil {
		return webhooks.Program{}, nil, err
	}
	return webhooks.Program{Instructions: instructions}, c.warnings, nil
}

// compiler turns elements into instructions.
type compiler struct {
	base     string // "" for an inline document
	party    string // "" for the caller
	count    int    // instructions so far
	warnings []Warning
}

// maxWarnings bounds what one document can write into a journal.
const maxWarnings = 100

func (c *compiler) warn(e *element, format string, args ...any) {
	if len(c.warnings) == maxWarnings {
		return
	}
	c.warnings = append(c.warnings, Warning{e.at(), fmt.Sprintf(format, args...)})
}

// What may stand in which element.
var (
	responseVerbs = []string{
		"Say", "Play", "Pause", "Gather", "Record", "Dial", "Enqueue", "Leave", "Refer", "Redirect", "Hangup", "Reject", "Start", "Stop",
		"Connect", "Sms", "Message",
	}
	promptVerbs = []string{"Say", "Play", "Pause"}
	dialNouns   = []string{"Number", "Sip", "Client", "Conference", "Queue"}
	startNouns  = []string{"Recording"}
)

// later are Twilio's verbs and nouns that have a place in the contract but are not run by this version; never are
// those that have none.
var (
	later = []string{"Stream", "Transcription"}
	never = []string{
		"Pay", "Prompt", "VirtualAgent", "Conversation", "ConversationRelay", "ConversationRelaySession", "Room", "Sim", "AiSession",
		"Assistant", "Autopilot", "Siprec", "WhatsApp", "Application", "Echo", "Task", "Media",
	}
)

// response compiles what stands in the root.
func (c *compiler) response(root *element) ([]webhooks.Instruction, error) {
	if root.name != "Response" {
		return nil, root.refuse("a TwiML document is a <Response> (names are case-sensitive)")
	}
	c.attributes(root)
	return c.verbs(root, responseVerbs)
}

// verbs compiles the elements in a parent that takes only verbs, and only those allowed.
func (c *compiler) verbs(parent *element, allowed []string) ([]webhooks.Instruction, error) {
	out := []webhooks.Instruction{}
	for _, child := range parent.children {
		e := child.element
		if e == nil {
			if text := strings.TrimSpace(child.text); text != "" {
				return nil, parent.refuse("takes no text, has %q; spoken text belongs into <Say>", clip(text))
			}
			continue
		}
		if !slices.Contains(allowed, e.name) {
			return nil, notAllowed(e, parent, allowed)
		}
		instructions, err := c.verb(e)
		if err != nil {
			return nil, err
		}
		for _, i := range instructions {
			if err := c.check(e, i); err != nil {
				return nil, err
			}
		}
		out = append(out, instructions...)
		if c.count += len(instructions); c.count > webhooks.MaxInstructions {
			return nil, e.refuse("makes more than %d instructions; answer with the rest after a <Redirect>", webhooks.MaxInstructions)
		}
	}
	return out, nil
}

func (c *compiler) verb(e *element) ([]webhooks.Instruction, error) {
	switch e.name {
	case "Say":
		return c.say(e)
	case "Play":
		return c.play(e)
	case "Pause":
		return c.pause(e)
	case "Gather":
		return c.gather(e)
	case "Record":
		return c.record(e)
	case "Dial":
		return c.dial(e)
	case "Enqueue":
		return c.enqueue(e)
	case "Leave":
		return c.leave(e)
	case "Refer":
		return c.refer(e)
	case "Start":
		return c.start(e)
	case "Stop":
		return c.stop(e)
	case "Connect":
		return nil, c.connect(e)
	case "Sms", "Message":
		return c.message(e)
	case "Redirect":
		return c.redirect(e)
	case "Hangup":
		return c.hangup(e)
	case "Reject":
		return c.reject(e)
	}
	panic("twiml: no rule to compile " + e.name) // allowed lists name only those above
}

// notAllowed says why an element cannot stand where it does.
func notAllowed(e, parent *element, allowed []string) error {
	for _, name := range allowed {
		if strings.EqualFold(e.name, name) {
			return e.refuse("is not known; write <%s> (names are case-sensitive)", name)
		}
	}
	takes := fmt.Sprintf("<%s> takes %s", parent.name, strings.Join(allowed, ", "))
	if len(allowed) == 0 {
		takes = fmt.Sprintf("<%s> has nothing it could take yet", parent.name)
	}
	switch {
	case slices.Contains(never, e.name):
		return e.refuse("is not supported by Hookswitch; %s", takes)
	case slices.Contains(later, e.name):
		return e.refuse("is not run by this version of Hookswitch; %s", takes)
	case slices.Contains(responseVerbs, e.name), slices.Contains(dialNouns, e.name), slices.Contains(startNouns, e.name):
		return e.refuse("is not allowed here; %s", takes)
	}
	return e.refuse("is not known; %s", takes)
}

// onlyText refuses elements in one that holds a text.
func onlyText(e *element) error {
	for _, child := range e.children {
		if child.element != nil {
			return child.element.refuse("is not allowed in <%s>, which takes only text", e.name)
		}
	}
	return nil
}

// nothing refuses whatever stands in an element that is empty by its nature.
func nothing(e *element) error {
	if text := e.text(); text != "" {
		return e.refuse("takes no text, has %q", clip(text))
	}
	for _, child := range e.children {
		if child.element != nil {
			return child.element.refuse("is not allowed in <%s>, which is empty", e.name)
		}
	}
	return nil
}

// link reads a URL and makes it absolute. One with a template in it is left as it is: the executor fills it in and
// resolves it then.
func (c *compiler) link(e *element, text string) (string, error) {
	text = strings.TrimSpace(text)
	if c.base == "" || strings.Contains(text, "{{") {
		return text, nil
	}
	absolute, err := webhooks.Resolve(c.base, text)
	if err != nil {
		return "", e.refuse("%q is not a URL", clip(text))
	}
	return absolute, nil
}

// current is the document's own URL, for verbs that come back to it when they name no other.
func (c *compiler) current(e *element, attribute string) (string, error) {
	if c.base == "" {
		return "", e.refuse("needs %s: this document has no URL of its own to come back to", attribute)
	}
	return c.base, nil
}
