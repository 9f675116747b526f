package twiml

import "github.com/hookswitch/hookswitch/webhooks"

// record compiles <Record>. The action (missing: this document) is asked whenever something was recorded, a hang-up
// included; an empty recording, and one that failed, go on with the next verb.
func (c *compiler) record(e *element) ([]webhooks.Instruction, error) {
	if err := nothing(e); err != nil {
		return nil, err
	}
	record := new(webhooks.Record)
	webhooks.Defaults(record)
	r := c.attributes(e)
	record.Action = r.targetOrCurrent("action")
	r.seconds("timeout", &record.Silence)
	r.seconds("maxLength", &record.MaxLength)
	r.text("finishOnKey", &record.FinishOnKey)
	r.yes("playBeep", &record.Beep)
	record.Trim = r.trim()
	record.StatusURL, record.StatusMethod, record.StatusEvents = r.recordingCallback()
	record.On = goOn(webhooks.Empty, webhooks.Failed, webhooks.Redirected)
	return []webhooks.Instruction{record}, r.err
}

// trim reads whether silence at both ends is cut off; true and false are words of older documents.
func (r *reader) trim() bool {
	value := "trim-silence"
	r.text("trim", &value)
	switch value {
	case "trim-silence", "true":
		return true
	case "do-not-trim", "false":
		return false
	}
	r.refuse("trim must be trim-silence or do-not-trim, is %q", clip(value))
	return false
}

// recordingEvents are Twilio's words for what becomes of a recording. absent is one that could not be had.
var recordingEvents = map[string][]string{
	"in-progress": {string(webhooks.EventRecordingStarted)},
	"completed":   {string(webhooks.EventRecordingCompleted)},
	"absent":      {string(webhooks.EventRecordingFailed)},
}

// recordingCallback reads where and by which method a recording is told of, and what. Without a list both ends of it are told: Twilio
// tells a failed one under completed as well.
func (r *reader) recordingCallback() (link, method string, events []string) {
	link, method = r.callback("recordingStatusCallback", "recordingStatusCallbackMethod")
	if link == "" {
		return "", method, nil
	}
	return link, method, r.events("recordingStatusCallbackEvent", nil, recordingEvents)
}

// start compiles <Start>: what goes on beside the document.
func (c *compiler) start(e *element) ([]webhooks.Instruction, error) {
	return c.recordings(e, func(r *reader) webhooks.Instruction {
		recording := &webhooks.Recording{Op: "start", Channels: 2, Format: "wav"}
		recording.StatusURL, recording.StatusMethod, recording.StatusEvents = r.recordingCallback()
		channels := "dual"
		r.text("channels", &channels)
		switch channels {
		case "dual":
		case "mono":
			recording.Channels = 1
		default:
			r.refuse("channels must be mono or dual, is %q", clip(channels))
		}
		return recording
	})
}

// stop compiles <Stop>. A call has one recording at a time, so that its name need not be looked at.
func (c *compiler) stop(e *element) ([]webhooks.Instruction, error) {
	return c.recordings(e, func(*reader) webhooks.Instruction {
		return &webhooks.Recording{Op: "stop", Channels: 2, Format: "wav"}
	})
}

func (c *compiler) recordings(e *element, compile func(*reader) webhooks.Instruction) ([]webhooks.Instruction, error) {
	c.attributes(e)
	var out []webhooks.Instruction
	for _, child := range e.children {
		noun := child.element
		if noun == nil {
			if text := oneLine(child.text); text != "" {
				return nil, e.refuse("takes no text, has %q", clip(text))
			}
			continue
		}
		if noun.name != "Recording" {
			return nil, notAllowed(noun, e, startNouns)
		}
		if err := nothing(noun); err != nil {
			return nil, err
		}
		r := c.attributes(noun)
		i := compile(r)
		if r.err != nil {
			return nil, r.err
		}
		if err := c.check(noun, i); err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	if len(out) == 0 {
		return nil, e.refuse("is empty; it takes <Recording>")
	}
	return out, nil
}

// connect says why <Connect> cannot be run: of what it connects to, nothing is there yet.
func (c *compiler) connect(e *element) error {
	c.attributes(e)
	for _, child := range e.children {
		if child.element != nil {
			return notAllowed(child.element, e, nil)
		}
	}
	return e.refuse("names nothing to connect to")
}
