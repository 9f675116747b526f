package twiml

import "github.com/hookswitch/hookswitch/webhooks"

// conferenceEvents are Twilio's words for what a statusCallback is told of a conference.
var conferenceEvents = map[string][]string{
	"start":        {string(webhooks.EventConferenceStarted)},
	"end":          {string(webhooks.EventConferenceEnded)},
	"join":         {string(webhooks.EventConferenceJoined)},
	"leave":        {string(webhooks.EventConferenceLeft)},
	"mute":         {string(webhooks.EventConferenceMuted), string(webhooks.EventConferenceUnmuted)},
	"hold":         {string(webhooks.EventConferenceHeld), string(webhooks.EventConferenceUnheld)},
	"modify":       {string(webhooks.EventConferenceModified)},
	"speaker":      {string(webhooks.EventConferenceSpeechStarted), string(webhooks.EventConferenceSpeechStopped)},
	"announcement": {string(webhooks.EventConferenceAnnouncementEnded), string(webhooks.EventConferenceAnnouncementFailed)},
}

// conferenceBeeps are Twilio's words for who is heard to come and go.
var conferenceBeeps = map[string]string{"true": "both", "false": "none", "onEnter": "enter", "onExit": "exit"}

// conference compiles <Dial> with <Conference> in it. What its waitUrl answers is heard once: unlike a queue's it does
// not begin again.
func (c *compiler) conference(e, noun *element) ([]webhooks.Instruction, error) {
	if err := onlyText(noun); err != nil {
		return nil, err
	}
	conference := new(webhooks.Conference)
	webhooks.Defaults(conference)
	dial, r := c.attributes(e), c.attributes(noun)
	if conference.Action = dial.target("action", "method"); conference.Action != nil {
		conference.On = goOn(webhooks.Redirected)
	}
	dial.seconds("timeLimit", &conference.TimeLimit)
	star := false
	if dial.yes("hangupOnStar", &star); star {
		conference.HangUpOn = "*"
	}
	dial.ineffective(noun, "timeout", "callerId", "answerOnBridge", "record", "ringTone", "sequential", "referUrl", "recordingStatusCallback")
	if conference.Name = noun.text(); conference.Name == "" {
		r.refuse("names no room; give its name as text")
	}
	r.conference(conference)
	if dial.err != nil {
		return nil, dial.err
	}
	if r.err != nil {
		return nil, r.err
	}
	return []webhooks.Instruction{conference}, c.check(noun, conference)
}

// conference reads the attributes of <Conference>.
func (r *reader) conference(out *webhooks.Conference) {
	r.yes("muted", &out.Muted)
	r.yes("startConferenceOnEnter", &out.StartOnEnter)
	r.yes("endConferenceOnExit", &out.EndOnExit)
	r.text("participantLabel", &out.Label)
	r.integer("maxParticipants", &out.MaxParticipants)
	r.word("beep", "true", conferenceBeeps, &out.Beep)
	recorded := ""
	r.word("record", "do-not-record", map[string]string{
		"do-not-record": "", "false": "", "record-from-start": "start", "true": "start",
	}, &recorded)
	out.Record = recorded != ""
	out.Wait = r.wait("waitUrl", "waitMethod")
	if coach := ""; r.text("coach", &coach) && coach != "" {
		out.Mode, out.WhisperTo = "whisper", webhooks.CallID(ownID(coach))
	}
	out.StatusURL, out.StatusMethod = r.callback("statusCallback", "statusCallbackMethod")
	if out.StatusURL != "" {
		usual := []string{string(webhooks.EventConferenceStarted), string(webhooks.EventConferenceEnded)}
		out.StatusEvents = r.events("statusCallbackEvent", usual, conferenceEvents)
	}
	out.RecordingStatusURL, out.RecordingStatusMethod, out.RecordingStatusEvents = r.recordingCallback()
}
