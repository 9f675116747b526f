package twiml

import (
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/hookswitch/hookswitch/webhooks"
)

// apiVersion is what Twilio calls the API whose parameters these are.
const apiVersion = "2010-04-01"

// Options is what the parameters need besides the request.
type Options struct {
	// APIBase is the public address of the REST API, such as "https://api.example.com": recordings are found at
	// APIBase/v1/recordings/{id}/media.
	APIBase string
}

func (o Options) recordingURL(id webhooks.RecordingID) string {
	return strings.TrimRight(o.APIBase, "/") + "/v1/recordings/" + string(id) + "/media"
}

// statuses are Twilio's words for ours. It has none for a call that was declined, and calls it busy.
var statuses = map[webhooks.Status]string{
	webhooks.StatusQueued:     "queued",
	webhooks.StatusRinging:    "ringing",
	webhooks.StatusInProgress: "in-progress",
	webhooks.StatusCompleted:  "completed",
	webhooks.StatusBusy:       "busy",
	webhooks.StatusNoAnswer:   "no-answer",
	webhooks.StatusFailed:     "failed",
	webhooks.StatusCanceled:   "canceled",
	webhooks.StatusRejected:   "busy",
}

var directions = map[webhooks.Direction]string{
	webhooks.Inbound:      "inbound",
	webhooks.OutboundAPI:  "outbound-api",
	webhooks.OutboundDial: "outbound-dial",
}

// Params returns the form of a request to a TwiML application: Twilio's standard parameters, and those of what made
// the request necessary. A webhooks.Ask calls it through its Form. The first request of an inbound call says
// ringing; every later one has the call's status.
func Params(req webhooks.CallRequest, o Options) url.Values {
	p := standard(req.AccountID, req.CallID, req.Call)
	if req.Reason == webhooks.ReasonIncoming {
		p.Set("CallStatus", "ringing")
	}
	if req.Trigger != nil {
		triggerParams(p, *req.Trigger, o)
	}
	if req.Waiting != nil {
		waitingParams(p, *req.Waiting)
	}
	if req.Error != nil {
		p.Set("ErrorCode", strconv.Itoa(errorCode(*req.Error)))
		p.Set("ErrorUrl", req.Error.URL)
	}
	return p
}

// standard are the parameters of every request about a call.
func standard(account webhooks.AccountID, id webhooks.CallID, call webhooks.Call) url.Values {
	p := url.Values{}
	p.Set("CallSid", sid(string(id)))
	p.Set("AccountSid", sid(string(account)))
	p.Set("From", call.From)
	p.Set("To", call.To)
	p.Set("CallStatus", statuses[call.Status])
	p.Set("ApiVersion", apiVersion)
	p.Set("Direction", directions[call.Direction])
	p.Set("Caller", call.From) // the twins of an older API, which applications still read
	p.Set("Called", call.To)
	// Twilio sends the places of a number it cannot place as empty parameters, not as none.
	for _, party := range []string{"From", "To", "Caller", "Called"} {
		for _, place := range []string{"City", "State", "Zip", "Country"} {
			p.Set(party+place, "")
		}
	}
	setKnown(p, "ForwardedFrom", call.Diversion)
	setKnown(p, "CallerName", call.FromName)
	setKnown(p, "ParentCallSid", sid(string(call.ParentCallID)))
	setKnown(p, "SipCallId", call.SIP.CallID)
	setKnown(p, "SipSourceIp", call.SIP.Source)
	setKnown(p, "StirVerstat", call.Verstat)
	for name, value := range call.SIP.Headers {
		p.Set("SipHeader_"+name, value)
	}
	detectionParams(p, call.AnsweredBy, call.DetectionDuration)
	return p
}

// answeredBy are Twilio's words for what machine detection found.
var answeredBy = map[webhooks.AnsweredBy]string{
	webhooks.ByHuman:             "human",
	webhooks.ByFax:               "fax",
	webhooks.ByUnknown:           "unknown",
	webhooks.ByMachine:           "machine_start",
	webhooks.ByMachineEndBeep:    "machine_end_beep",
	webhooks.ByMachineEndSilence: "machine_end_silence",
	webhooks.ByMachineEndOther:   "machine_end_other",
}

// detectionParams: the duration is in milliseconds.
func detectionParams(p url.Values, by webhooks.AnsweredBy, took *webhooks.Seconds) {
	setKnown(p, "AnsweredBy", answeredBy[by])
	if by != "" && took != nil {
		p.Set("MachineDetectionDuration", strconv.FormatInt(took.Duration().Milliseconds(), 10))
	}
}

// sid is the Twilio form of an id, or the id itself where it has none: either is taken wherever an id is.
func sid(id string) string {
	if s := webhooks.SID(id); s != "" {
		return s
	}
	return id
}

func setKnown(p url.Values, name, value string) {
	if value != "" {
		p.Set(name, value)
	}
}

// triggerParams adds what became of the instruction that asks.
func triggerParams(p url.Values, t webhooks.Trigger, o Options) {
	switch t.Verb {
	case "gather":
		gatherParams(p, t)
	case "record":
		recordParams(p, t, o)
	case "dial":
		dialParams(p, t, o)
	case "conference":
		conferenceParams(p, t, o)
	case "enqueue":
		enqueueParams(p, t)
	case "dequeue":
		dequeueParams(p, t)
	case "refer":
		referParams(p, t)
	case "message":
		messageParams(p, t)
	}
}

func gatherParams(p url.Values, t webhooks.Trigger) {
	p.Set("Digits", t.Digits)
	key := t.Key
	if key == "" && t.FinishedBy == "key" {
		key = "#"
	}
	p.Set("FinishedOnKey", key)
}

// recordParams: Digits is the key that ended the recording, or the word hangup.
func recordParams(p url.Values, t webhooks.Trigger, o Options) {
	recordingParams(p, t, o)
	if t.Duration != nil {
		p.Set("RecordingDuration", wholeSeconds(*t.Duration))
	}
	switch {
	case t.Outcome == webhooks.Hangup:
		p.Set("Digits", "hangup")
	case t.Key != "":
		p.Set("Digits", t.Key)
	}
}

func recordingParams(p url.Values, t webhooks.Trigger, o Options) {
	if t.RecordingID == "" {
		return
	}
	p.Set("RecordingSid", sid(string(t.RecordingID)))
	p.Set("RecordingUrl", o.recordingURL(t.RecordingID))
}

// dialStatuses are Twilio's words for the outcomes of a dial. One that was answered is completed, whatever ended it.
var dialStatuses = map[webhooks.Outcome]string{
	webhooks.Completed:   "completed",
	webhooks.TimeLimit:   "completed",
	webhooks.Lost:        "completed",
	webhooks.Busy:        "busy",
	webhooks.Declined:    "busy",
	webhooks.NoAnswer:    "no-answer",
	webhooks.Unreachable: "failed",
	webhooks.NotAllowed:  "failed",
	webhooks.Failed:      "failed",
	webhooks.Canceled:    "canceled",
	webhooks.Hangup:      "canceled",
	webhooks.Redirected:  "canceled",
	webhooks.Machine:     "completed",
	webhooks.Referred:    "completed",
}

// dialParams: DialBridged tells a party that answered and spoke from one that answered and was screened off.
func dialParams(p url.Values, t webhooks.Trigger, o Options) {
	answered := t.AnsweredAt != nil
	status := dialStatuses[t.Outcome]
	if answered {
		status = "completed"
	}
	p.Set("DialCallStatus", status)
	p.Set("DialBridged", strconv.FormatBool(bridged(t.Outcome, answered)))
	setKnown(p, "DialCallSid", sid(string(t.CallID)))
	if answered && t.Duration != nil {
		p.Set("DialCallDuration", wholeSeconds(*t.Duration))
	}
	setCode(p, "DialSipResponseCode", t.SIPCode)
	setKnown(p, "ReferTransferTarget", t.ReferTo)
	recordingParams(p, t, o)
}

func setCode(p url.Values, name string, code int) {
	if code != 0 {
		p.Set(name, strconv.Itoa(code))
	}
}

// conferenceParams: who was in a conference was answered, and has neither DialCallSid nor DialCallDuration. Who never
// came in has failed.
func conferenceParams(p url.Values, t webhooks.Trigger, o Options) {
	status := "answered"
	if t.Outcome == webhooks.Failed || t.Outcome == webhooks.Full {
		status = "failed"
	}
	p.Set("DialCallStatus", status)
	p.Set("DialBridged", strconv.FormatBool(status == "answered"))
	setKnown(p, "ConferenceSid", sid(string(t.ConferenceID)))
	recordingParams(p, t, o)
}

// queueResults are Twilio's words for the outcomes of an enqueue. It has none for a caller who has waited too long, or
// for whom there was nobody: those have left as well.
var queueResults = map[webhooks.Outcome]string{
	webhooks.Bridged:    "bridged",
	webhooks.Lost:       "bridged",
	webhooks.Left:       "leave",
	webhooks.Timeout:    "leave",
	webhooks.NoAgents:   "leave",
	webhooks.Callback:   "leave",
	webhooks.Full:       "queue-full",
	webhooks.Hangup:     "hangup",
	webhooks.Redirected: "redirected",
	webhooks.Failed:     "error",
}

func enqueueParams(p url.Values, t webhooks.Trigger) {
	result := queueResults[t.Outcome]
	switch spoke := t.Duration != nil; {
	case spoke && t.Outcome == webhooks.Redirected:
		result = "redirected-from-bridged"
	case spoke && t.Outcome == webhooks.Hangup:
		result = "bridged"
	}
	p.Set("QueueResult", result)
	setKnown(p, "QueueSid", sid(string(t.QueueID)))
	setSeconds(p, "QueueTime", t.Waited)
}

func setSeconds(p url.Values, name string, s *webhooks.Seconds) {
	if s != nil {
		p.Set(name, wholeSeconds(*s))
	}
}

// dequeueParams are those of a Dial with a Queue in it.
func dequeueParams(p url.Values, t webhooks.Trigger) {
	status, result := "no-answer", "queue-empty"
	switch {
	case t.Outcome == webhooks.Failed:
		status, result = "failed", "queue-not-found"
	case t.CallID != "":
		status, result = "completed", "bridged"
	case t.Outcome == webhooks.Hangup, t.Outcome == webhooks.Redirected:
		status, result = "canceled", ""
	}
	p.Set("DialCallStatus", status)
	p.Set("DialBridged", strconv.FormatBool(status == "completed"))
	setKnown(p, "DequeueResult", result)
	setKnown(p, "QueueSid", sid(string(t.QueueID)))
	setKnown(p, "DialCallSid", sid(string(t.CallID)))
	setSeconds(p, "DialCallDuration", t.Duration)
	setKnown(p, "DequeuedCallSid", sid(string(t.CallID)))
	setSeconds(p, "DequeuedCallQueueTime", t.Waited)
	setSeconds(p, "DequeuedCallDuration", t.Duration)
}

// referParams: the status is that of the new call as far as NOTIFY told, in-progress once it was answered. Without a
// NOTIFY nothing is known of it.
func referParams(p url.Values, t webhooks.Trigger) {
	status := "failed"
	switch {
	case t.Outcome == webhooks.Hangup:
		status = "canceled"
	case t.Outcome == webhooks.Accepted && t.NotifyCode == 0:
		status = ""
	case t.NotifyCode/100 == 1:
		status = "ringing"
	case t.NotifyCode/100 == 2:
		status = "in-progress"
	case t.NotifyCode == 486, t.NotifyCode == 600:
		status = "busy"
	case t.NotifyCode == 408, t.NotifyCode == 480:
		status = "no-answer"
	}
	setKnown(p, "ReferCallStatus", status)
	setCode(p, "ReferSipResponseCode", t.SIPCode)
	setCode(p, "NotifySipResponseCode", t.NotifyCode)
}

func messageParams(p url.Values, t webhooks.Trigger) {
	status := "sending"
	if t.Outcome == webhooks.Failed {
		status = "invalid"
	}
	p.Set("SmsStatus", status)
	p.Set("MessageStatus", status)
	setKnown(p, "SmsSid", sid(string(t.MessageID)))
	setKnown(p, "MessageSid", sid(string(t.MessageID)))
}

// waitingParams are those of a waitUrl, and of the url that a dequeued caller hears before being connected.
func waitingParams(p url.Values, w webhooks.Waiting) {
	if w.ConferenceID != "" {
		p.Set("ConferenceSid", sid(string(w.ConferenceID)))
		p.Set("FriendlyName", w.Name)
		return
	}
	p.Set("QueueSid", sid(string(w.QueueID)))
	p.Set("QueueTime", wholeSeconds(w.Waited))
	if w.PeerCallID != "" {
		p.Set("DequeueingCallSid", sid(string(w.PeerCallID)))
		return
	}
	p.Set("QueuePosition", strconv.Itoa(w.Position))
	p.Set("CurrentQueueSize", strconv.Itoa(w.Size))
	setSeconds(p, "AvgQueueTime", w.AverageWait)
	setCode(p, "MaxQueueSize", w.MaxSize)
}

func bridged(o webhooks.Outcome, answered bool) bool {
	switch o {
	case webhooks.Completed, webhooks.TimeLimit, webhooks.Lost, webhooks.Referred:
		return true
	case webhooks.Hangup, webhooks.Redirected:
		return answered
	}
	return false
}

func wholeSeconds(s webhooks.Seconds) string {
	return strconv.Itoa(int(math.Round(float64(s))))
}

// errorCodes are Twilio's numbers for why an application could not be asked (Twilio error and warning dictionary).
var errorCodes = map[string]int{
	"url":      11100, // invalid URL format
	"connect":  11205, // HTTP connection failure
	"reset":    11205,
	"protocol": 11206, // HTTP protocol violation
	"dns":      11210, // HTTP bad host name
	"redirect": 11215, // too many HTTP redirects
	"tls":      11220, // TLS handshake error
	"rejected": 12100, // document parse failure
}

// errorCode is 11200, HTTP retrieval failure, for all that has no number of its own: a status, a time-out, a denied
// address, an open circuit, too many requests at once.
func errorCode(f webhooks.RequestFailure) int {
	if code, ok := errorCodes[f.Code]; ok {
		return code
	}
	return 11200
}
