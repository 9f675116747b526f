package twiml

import (
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

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
	status := ""
	if r.text("recordingStatusCallback", &status) && strings.TrimSpace(status) != "" {
		link, err := c.link(e, status)
		if err != nil {
			r.refuse("recordingStatusCallback must be a URL, is %q", clip(status))
		}
		record.StatusURL = link
	}
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
