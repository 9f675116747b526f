package twiml

import (
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

// rfc2822 is how Twilio writes times in callbacks.
const rfc2822 = time.RFC1123Z

// callEvents are the events of a call that Twilio's StatusCallback knows, with the CallStatus that each tells. The
// last one tells how the call ended.
var callEvents = map[webhooks.EventType]string{
	webhooks.EventCallInitiated: "initiated",
	webhooks.EventCallRinging:   "ringing",
	webhooks.EventCallAnswered:  "in-progress",
	webhooks.EventCallEnded:     "",
}

// StatusParams returns the form of a status callback: Twilio's statusCallback for initiated, ringing, answered and
// ended, its amdStatusCallback for what machine detection found, its recordingStatusCallback for a recording, and a
// conference's statusCallback. ok is false for events that Twilio has no callback for.
//
// Which events a URL wants is its owner's to know: recording.started goes only to those that asked for it, because
// applications take any other recordingStatusCallback for a finished recording.
//
// call is the leg that the event is about, of which an event alone does not tell numbers and direction. sequence is
// the callback's number for this call and URL, or for this conference, from 0. The form is sent like that of a request,
// as the Form of a webhooks.Ask; a repeated one has the same webhook-id.
func StatusParams(call webhooks.Call, event webhooks.Event, sequence int, o Options) (form url.Values, ok bool) {
	if status, ok := recordingStatuses[event.Type]; ok {
		return recordingStatus(event, status, o), true
	}
	if name, ok := conferenceCallbacks[event.Type]; ok {
		return conferenceStatus(call, event, name, sequence), true
	}
	if event.Type == webhooks.EventCallDetected {
		p := url.Values{}
		p.Set("CallSid", sid(string(event.CallID)))
		p.Set("AccountSid", sid(string(event.AccountID)))
		detectionParams(p, event.Data.AnsweredBy, event.Data.DetectionDuration)
		return p, true
	}
	status, ok := callEvents[event.Type]
	if !ok {
		return nil, false
	}
	p := standard(event.AccountID, event.CallID, call)
	p.Set("CallStatus", status)
	if event.Type == webhooks.EventCallEnded && event.Data.CDR != nil {
		endedParams(p, *event.Data.CDR)
	}
	p.Set("Timestamp", event.OccurredAt.UTC().Format(rfc2822))
	p.Set("CallbackSource", "call-progress-events")
	p.Set("SequenceNumber", strconv.Itoa(sequence))
	return p, true
}

// endedParams: CallDuration is the seconds from answer to end, Duration the minutes begun of them.
func endedParams(p url.Values, cdr webhooks.CDR) {
	p.Set("CallStatus", statuses[cdr.Status])
	p.Set("CallDuration", wholeSeconds(cdr.TalkTime))
	p.Set("Duration", strconv.Itoa(int(math.Ceil(float64(cdr.TalkTime)/60))))
	if cdr.SIPCode != 0 {
		p.Set("SipResponseCode", strconv.Itoa(cdr.SIPCode))
	}
}

// recordingStatuses are Twilio's words for what becomes of a recording.
var recordingStatuses = map[webhooks.EventType]string{
	webhooks.EventRecordingStarted:   "in-progress",
	webhooks.EventRecordingCompleted: "completed",
	webhooks.EventRecordingFailed:    "failed",
}

// CodeAbsent is the code of a recording.failed whose recording was too short to keep; Twilio calls it absent.
const CodeAbsent = "absent"

var recordingSources = map[string]string{"record": "RecordVerb", "dial": "DialVerb", "conference": "Conference"}

func recordingStatus(event webhooks.Event, status string, o Options) url.Values {
	d := event.Data
	if status == "failed" && d.Code == CodeAbsent {
		status = CodeAbsent
	}
	p := url.Values{}
	p.Set("AccountSid", sid(string(event.AccountID)))
	if d.ConferenceID != "" { // the room's own, which is of no one's call
		p.Set("ConferenceSid", sid(string(d.ConferenceID)))
	} else {
		p.Set("CallSid", sid(string(event.CallID)))
	}
	p.Set("RecordingSid", sid(string(d.RecordingID)))
	p.Set("RecordingUrl", o.recordingURL(d.RecordingID))
	p.Set("RecordingStatus", status)
	p.Set("RecordingChannels", strconv.Itoa(max(d.Channels, 1)))
	p.Set("RecordingTrack", "both")
	source, ok := recordingSources[d.Verb]
	if !ok {
		source = "StartCallRecordingAPI"
	}
	p.Set("RecordingSource", source)
	if d.Duration != nil {
		p.Set("RecordingDuration", wholeSeconds(*d.Duration))
		p.Set("RecordingStartTime", event.OccurredAt.Add(-d.Duration.Duration()).UTC().Format(rfc2822))
	}
	return p
}

// conferenceCallbacks are Twilio's StatusCallbackEvents.
var conferenceCallbacks = map[webhooks.EventType]string{
	webhooks.EventConferenceStarted:            "conference-start",
	webhooks.EventConferenceEnded:              "conference-end",
	webhooks.EventConferenceJoined:             "participant-join",
	webhooks.EventConferenceLeft:               "participant-leave",
	webhooks.EventConferenceMuted:              "participant-mute",
	webhooks.EventConferenceUnmuted:            "participant-unmute",
	webhooks.EventConferenceHeld:               "participant-hold",
	webhooks.EventConferenceUnheld:             "participant-unhold",
	webhooks.EventConferenceModified:           "participant-modify",
	webhooks.EventConferenceSpeechStarted:      "participant-speech-start",
	webhooks.EventConferenceSpeechStopped:      "participant-speech-stop",
	webhooks.EventConferenceAnnouncementEnded:  "announcement-end",
	webhooks.EventConferenceAnnouncementFailed: "announcement-fail",
}

// conferenceEnds and participantEnds are Twilio's words for why a room ended and why somebody left it.
var (
	conferenceEnds = map[string]string{
		webhooks.ConferenceLastLeft:    "last-participant-left",
		webhooks.ConferenceLastKicked:  "last-participant-kicked",
		webhooks.ConferenceEnderLeft:   "participant-with-end-conference-on-exit-left",
		webhooks.ConferenceEnderKicked: "participant-with-end-conference-on-exit-kicked",
		webhooks.ConferenceEndedByAPI:  "conference-ended-via-api",
	}
	participantEnds = map[string]string{
		webhooks.ParticipantHungUp:      "participant_hung_up",
		webhooks.ParticipantLeft:        "participant_hung_up",
		webhooks.ParticipantKicked:      "participant_updated_via_api",
		webhooks.ParticipantRedirected:  "participant_updated_via_api",
		webhooks.ParticipantRoomsEnding: "moderator_ended_conference",
	}
)

func conferenceStatus(call webhooks.Call, event webhooks.Event, name string, sequence int) url.Values {
	d := event.Data
	p := url.Values{}
	p.Set("ConferenceSid", sid(string(d.ConferenceID)))
	p.Set("FriendlyName", d.Name)
	p.Set("AccountSid", sid(string(event.AccountID)))
	p.Set("SequenceNumber", strconv.Itoa(sequence))
	p.Set("Timestamp", event.OccurredAt.UTC().Format(rfc2822))
	p.Set("StatusCallbackEvent", name)
	switch event.Type {
	case webhooks.EventConferenceStarted:
	case webhooks.EventConferenceEnded:
		p.Set("ReasonConferenceEnded", conferenceEnds[d.Reason])
		p.Set("Reason", conferenceEnds[d.Reason])
		setKnown(p, "CallSidEndingConference", sid(string(d.EndedByCall)))
		setKnown(p, "ParticipantLabelEndingConference", d.Label)
	case webhooks.EventConferenceAnnouncementEnded:
		setKnown(p, "AnnounceUrl", d.URL)
	case webhooks.EventConferenceAnnouncementFailed:
		setKnown(p, "AnnounceUrl", d.URL)
		p.Set("ReasonAnnouncementFailed", d.Message)
	default:
		participantParams(p, call, event)
	}
	return p
}

func participantParams(p url.Values, call webhooks.Call, event webhooks.Event) {
	d := event.Data
	yes := func(name string, v *bool) { p.Set(name, strconv.FormatBool(v != nil && *v)) }
	p.Set("CallSid", sid(string(event.CallID)))
	yes("Muted", d.Muted)
	yes("Hold", d.Held)
	p.Set("Coaching", strconv.FormatBool(d.Mode == "whisper"))
	yes("EndConferenceOnExit", d.EndOnExit)
	yes("StartConferenceOnEnter", d.StartOnEnter)
	setKnown(p, "ParticipantLabel", d.Label)
	if event.Type == webhooks.EventConferenceLeft {
		p.Set("ParticipantCallStatus", statuses[call.Status])
		p.Set("ReasonParticipantLeft", participantEnds[d.Reason])
	}
}

// MessageStatus is a text message as Twilio's statusCallback of <Sms> tells of it.
type MessageStatus struct {
	AccountID webhooks.AccountID
	ID        webhooks.MessageID
	Status    string // sent, delivered, undelivered, failed, canceled
	From, To  string
	ErrorCode string // of undelivered and failed
}

// MessageParams returns the form of a message's status callback.
func MessageParams(m MessageStatus) url.Values {
	p := url.Values{}
	p.Set("AccountSid", sid(string(m.AccountID)))
	p.Set("ApiVersion", apiVersion)
	for _, name := range []string{"MessageSid", "SmsSid"} { // the second is that of the dialect's first version
		p.Set(name, sid(string(m.ID)))
	}
	p.Set("MessageStatus", m.Status)
	p.Set("SmsStatus", m.Status)
	p.Set("To", m.To)
	setKnown(p, "From", m.From)
	setKnown(p, "ErrorCode", m.ErrorCode)
	return p
}
