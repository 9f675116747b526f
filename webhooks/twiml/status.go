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

// StatusParams returns the form of a status callback: Twilio's StatusCallback for initiated, ringing, answered and
// ended, its recordingStatusCallback for a recording that is completed or failed. ok is false for events that
// Twilio has no callback for; recording.started is one, because applications take any recordingStatusCallback they
// did not ask otherwise for a finished recording.
//
// call is the leg that the event is about, of which an event alone does not tell numbers and direction. sequence is
// the callback's number for this call, from 0. The form is sent like that of a request, as the Form of a webhooks.Ask.
func StatusParams(call webhooks.Call, event webhooks.Event, sequence int, o Options) (form url.Values, ok bool) {
	switch event.Type {
	case webhooks.EventRecordingCompleted:
		return recordingStatus(event, "completed", o), true
	case webhooks.EventRecordingFailed:
		return recordingStatus(event, "failed", o), true
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

var recordingSources = map[string]string{"record": "RecordVerb", "dial": "DialVerb"}

func recordingStatus(event webhooks.Event, status string, o Options) url.Values {
	d := event.Data
	p := url.Values{}
	p.Set("AccountSid", sid(string(event.AccountID)))
	p.Set("CallSid", sid(string(event.CallID)))
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
