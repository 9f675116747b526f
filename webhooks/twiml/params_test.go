package twiml

import (
	"net/url"
	"testing"
	"time"

	"github.com/hookswitch/hookswitch/webhooks"
)

const (
	callID   = webhooks.CallID("call_01J9Z3NDEKTSV4RRFFQ69G5FAV")
	parentID = webhooks.CallID("call_01J9Z3NDEKTSV4RRFFQ69G5FAW")
	childID  = webhooks.CallID("call_01J9Z3NDEKTSV4RRFFQ69G5FAX")
	account  = webhooks.AccountID("acc_01J9Z3NDEKTSV4RRFFQ69G5FAY")
	taped    = webhooks.RecordingID("rec_01J9Z3NDEKTSV4RRFFQ69G5FAZ")
	line     = webhooks.QueueID("que_01J9Z3NDEKTSV4RRFFQ69G5FB0")
	room     = webhooks.ConferenceID("conf_01J9Z3NDEKTSV4RRFFQ69G5FB1")
	sent     = webhooks.MessageID("msg_01J9Z3NDEKTSV4RRFFQ69G5FB2")
)

var (
	options  = Options{APIBase: "https://api.example.com/"}
	answered = time.Date(2025, 3, 1, 8, 0, 5, 0, time.UTC)
	tapeURL  = "https://api.example.com/v1/recordings/" + string(taped) + "/media"
)

func incoming() webhooks.CallRequest {
	return webhooks.CallRequest{
		Type: "program.request", Reason: webhooks.ReasonIncoming, Contract: 1, AccountID: account, CallID: callID,
		Call: webhooks.Call{
			From: "+8613800138000", To: "+862368925278", Dialed: "02368925278",
			Direction: webhooks.Inbound, Status: webhooks.StatusRinging,
		},
	}
}

func seconds(s float64) *webhooks.Seconds { v := webhooks.Seconds(s); return &v }

// expect checks the named parameters; "-" means that there is none of that name.
func expect(t *testing.T, got url.Values, want map[string]string) {
	t.Helper()
	for name, value := range want {
		given, there := got[name]
		switch {
		case value == "-" && there:
			t.Errorf("%s is sent as %q", name, given)
		case value == "-":
		case !there || len(given) != 1 || given[0] != value:
			t.Errorf("%s is %q, want %q", name, given, value)
		}
	}
}

func TestTheFirstRequestHasTwiliosStandardParametersAndNoOthers(t *testing.T) {
	got := Params(incoming(), options)
	want := map[string]string{
		"CallSid": webhooks.SID(string(callID)), "AccountSid": webhooks.SID(string(account)),
		"From": "+8613800138000", "To": "+862368925278", "Caller": "+8613800138000", "Called": "+862368925278",
		"CallStatus": "ringing", "ApiVersion": "2010-04-01", "Direction": "inbound",
	}
	for _, party := range []string{"From", "To", "Caller", "Called"} {
		for _, place := range []string{"City", "State", "Zip", "Country"} {
			want[party+place] = ""
		}
	}
	expect(t, got, want)
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is sent as well", name)
		}
	}
	if len(got.Get("CallSid")) != 34 {
		t.Errorf("CallSid is %q", got.Get("CallSid"))
	}
}

func TestWhatIsKnownOfACallIsSent(t *testing.T) {
	req := incoming()
	req.Reason = webhooks.ReasonScreen
	req.Call.Status, req.Call.Direction = webhooks.StatusInProgress, webhooks.OutboundDial
	req.Call.ParentCallID, req.Call.Diversion, req.Call.FromName = parentID, "+862312345678", "王先生"
	req.Call.SIP = webhooks.SIP{CallID: "a84b4c76e66710@pc33", Source: "203.0.113.7", Headers: map[string]string{"X-Account": "7"}}
	expect(t, Params(req, options), map[string]string{
		"CallStatus": "in-progress", "Direction": "outbound-dial", "ParentCallSid": webhooks.SID(string(parentID)),
		"ForwardedFrom": "+862312345678", "CallerName": "王先生",
		"SipCallId": "a84b4c76e66710@pc33", "SipSourceIp": "203.0.113.7", "SipHeader_X-Account": "7",
	})
}

func TestEveryStatusAndDirectionHasTwiliosWord(t *testing.T) {
	for ours, want := range map[webhooks.Status]string{
		webhooks.StatusQueued: "queued", webhooks.StatusRinging: "ringing", webhooks.StatusInProgress: "in-progress",
		webhooks.StatusCompleted: "completed", webhooks.StatusBusy: "busy", webhooks.StatusNoAnswer: "no-answer",
		webhooks.StatusFailed: "failed", webhooks.StatusCanceled: "canceled", webhooks.StatusRejected: "busy",
	} {
		req := incoming()
		req.Reason, req.Call.Status, req.Call.Direction = webhooks.ReasonAction, ours, webhooks.OutboundAPI
		expect(t, Params(req, options), map[string]string{"CallStatus": want, "Direction": "outbound-api"})
	}
}

func TestTriggersBecomeTheParametersOfTheirVerb(t *testing.T) {
	for _, c := range []struct {
		name    string
		trigger webhooks.Trigger
		want    map[string]string
	}{
		{
			"gather, complete",
			webhooks.Trigger{Verb: "gather", Outcome: webhooks.Digits, Digits: "1", FinishedBy: "num_digits"},
			map[string]string{"Digits": "1", "FinishedOnKey": "", "RecordingUrl": "-", "DialCallStatus": "-"},
		},
		{
			"gather, finished by its key",
			webhooks.Trigger{Verb: "gather", Outcome: webhooks.Digits, Digits: "12", FinishedBy: "key"},
			map[string]string{"Digits": "12", "FinishedOnKey": "#"},
		},
		{
			"gather, finished by another key",
			webhooks.Trigger{Verb: "gather", Outcome: webhooks.Digits, Digits: "12", FinishedBy: "key", Key: "*"},
			map[string]string{"Digits": "12", "FinishedOnKey": "*"},
		},
		{
			"gather, nothing, but to be told",
			webhooks.Trigger{Verb: "gather", Outcome: webhooks.Timeout, FinishedBy: "timeout"},
			map[string]string{"Digits": "", "FinishedOnKey": ""},
		},
		{
			"record, ended by a key",
			webhooks.Trigger{Verb: "record", Outcome: webhooks.Key, Key: "#", RecordingID: taped, Duration: seconds(3.62)},
			map[string]string{"Digits": "#", "RecordingUrl": tapeURL, "RecordingSid": webhooks.SID(string(taped)), "RecordingDuration": "4"},
		},
		{
			"record, hung up",
			webhooks.Trigger{Verb: "record", Outcome: webhooks.Hangup, RecordingID: taped, Duration: seconds(10)},
			map[string]string{"Digits": "hangup", "RecordingUrl": tapeURL, "RecordingDuration": "10"},
		},
		{
			"record, ended by silence",
			webhooks.Trigger{Verb: "record", Outcome: webhooks.Silence, RecordingID: taped, Duration: seconds(0.2)},
			map[string]string{"Digits": "-", "RecordingUrl": tapeURL, "RecordingDuration": "0"},
		},
		{
			"dial, spoken",
			webhooks.Trigger{
				Verb: "dial", Outcome: webhooks.Completed, CallID: childID, AnsweredAt: &answered, Duration: seconds(61.4),
				SIPCode: 200, RecordingID: taped,
			},
			map[string]string{
				"DialCallStatus": "completed", "DialCallSid": webhooks.SID(string(childID)), "DialCallDuration": "61", "DialBridged": "true",
				"DialSipResponseCode": "200", "RecordingUrl": tapeURL, "RecordingDuration": "-", "Digits": "-",
			},
		},
		{
			"dial, screened off",
			webhooks.Trigger{Verb: "dial", Outcome: webhooks.Declined, CallID: childID, AnsweredAt: &answered, Duration: seconds(4)},
			map[string]string{"DialCallStatus": "completed", "DialBridged": "false", "DialCallDuration": "4"},
		},
		{
			"dial, busy",
			webhooks.Trigger{Verb: "dial", Outcome: webhooks.Busy, CallID: childID, SIPCode: 486, Duration: seconds(0)},
			map[string]string{
				"DialCallStatus": "busy", "DialCallSid": webhooks.SID(string(childID)), "DialCallDuration": "-", "DialBridged": "false",
				"DialSipResponseCode": "486", "RecordingUrl": "-",
			},
		},
		{
			"dial, nobody could be tried",
			webhooks.Trigger{Verb: "dial", Outcome: webhooks.NotAllowed},
			map[string]string{"DialCallStatus": "failed", "DialCallSid": "-", "DialSipResponseCode": "-"},
		},
		{
			"dial, the callee referred",
			webhooks.Trigger{Verb: "dial", Outcome: webhooks.Referred, CallID: childID, AnsweredAt: &answered, ReferTo: "sip:bob@example.com"},
			map[string]string{"ReferTransferTarget": "sip:bob@example.com", "DialCallStatus": "completed"},
		},
		{
			"a conference",
			webhooks.Trigger{Verb: "conference", Outcome: webhooks.Left, ConferenceID: room, Duration: seconds(61), RecordingID: taped},
			map[string]string{"DialCallStatus": "answered", "DialCallSid": "-", "DialCallDuration": "-", "ConferenceSid": webhooks.SID(string(room)), "RecordingUrl": tapeURL},
		},
		{
			"a conference that was full",
			webhooks.Trigger{Verb: "conference", Outcome: webhooks.Full, ConferenceID: room},
			map[string]string{"DialCallStatus": "failed"},
		},
		{
			"enqueue, spoken",
			webhooks.Trigger{Verb: "enqueue", Outcome: webhooks.Bridged, QueueID: line, Waited: seconds(42.4), Duration: seconds(60), CallID: childID},
			map[string]string{"QueueResult": "bridged", "QueueSid": webhooks.SID(string(line)), "QueueTime": "42", "DialCallStatus": "-"},
		},
		{
			"enqueue, redirected while speaking",
			webhooks.Trigger{Verb: "enqueue", Outcome: webhooks.Redirected, QueueID: line, Waited: seconds(4), Duration: seconds(6)},
			map[string]string{"QueueResult": "redirected-from-bridged"},
		},
		{
			"dequeue, spoken",
			webhooks.Trigger{Verb: "dequeue", Outcome: webhooks.Bridged, QueueID: line, CallID: childID, Waited: seconds(9), Duration: seconds(30)},
			map[string]string{
				"DialCallStatus": "completed", "DequeueResult": "bridged", "QueueSid": webhooks.SID(string(line)), "DequeuedCallSid": webhooks.SID(string(childID)),
				"DequeuedCallQueueTime": "9", "DequeuedCallDuration": "30", "DialCallDuration": "30",
			},
		},
		{
			"dequeue, nobody there",
			webhooks.Trigger{Verb: "dequeue", Outcome: webhooks.Empty, QueueID: line},
			map[string]string{"DialCallStatus": "no-answer", "DequeueResult": "queue-empty", "DequeuedCallSid": "-"},
		},
		{
			"dequeue, no such queue",
			webhooks.Trigger{Verb: "dequeue", Outcome: webhooks.Failed, Error: "there is no queue x"},
			map[string]string{"DialCallStatus": "failed", "DequeueResult": "queue-not-found", "QueueSid": "-"},
		},
		{
			"refer, answered", // the four cases of Twilio's own page
			webhooks.Trigger{Verb: "refer", Outcome: webhooks.Accepted, SIPCode: 202, NotifyCode: 200},
			map[string]string{"ReferCallStatus": "in-progress", "ReferSipResponseCode": "202", "NotifySipResponseCode": "200"},
		},
		{
			"refer, busy",
			webhooks.Trigger{Verb: "refer", Outcome: webhooks.Refused, SIPCode: 202, NotifyCode: 486},
			map[string]string{"ReferCallStatus": "busy", "ReferSipResponseCode": "202", "NotifySipResponseCode": "486"},
		},
		{
			"refer, refused",
			webhooks.Trigger{Verb: "refer", Outcome: webhooks.Refused, SIPCode: 405},
			map[string]string{"ReferCallStatus": "failed", "ReferSipResponseCode": "405", "NotifySipResponseCode": "-"},
		},
		{
			"refer, hung up",
			webhooks.Trigger{Verb: "refer", Outcome: webhooks.Hangup, SIPCode: 202, NotifyCode: 180},
			map[string]string{"ReferCallStatus": "canceled", "ReferSipResponseCode": "202", "NotifySipResponseCode": "180"},
		},
		{
			"refer, without NOTIFY",
			webhooks.Trigger{Verb: "refer", Outcome: webhooks.Accepted, SIPCode: 202},
			map[string]string{"ReferCallStatus": "-", "ReferSipResponseCode": "202", "NotifySipResponseCode": "-"},
		},
		{
			"a message, taken",
			webhooks.Trigger{Verb: "message", Outcome: webhooks.Sent, MessageID: sent},
			map[string]string{"SmsStatus": "sending", "SmsSid": webhooks.SID(string(sent)), "MessageSid": webhooks.SID(string(sent))},
		},
		{
			"a message, refused",
			webhooks.Trigger{Verb: "message", Outcome: webhooks.Failed, Error: "no"},
			map[string]string{"SmsStatus": "invalid", "SmsSid": "-"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := incoming()
			req.Reason, req.Call.Status, req.Trigger = webhooks.ReasonAction, webhooks.StatusInProgress, &c.trigger
			expect(t, Params(req, options), c.want)
		})
	}
}

func TestEveryOutcomeOfDialHasADialCallStatus(t *testing.T) {
	want := map[webhooks.Outcome][2]string{ // unanswered, answered
		webhooks.Completed: {"completed", "completed"}, webhooks.TimeLimit: {"completed", "completed"}, webhooks.Lost: {"completed", "completed"},
		webhooks.Busy: {"busy", "completed"}, webhooks.Declined: {"busy", "completed"}, webhooks.NoAnswer: {"no-answer", "completed"},
		webhooks.Unreachable: {"failed", "completed"}, webhooks.NotAllowed: {"failed", "completed"}, webhooks.Failed: {"failed", "completed"},
		webhooks.Machine: {"completed", "completed"}, webhooks.Referred: {"completed", "completed"},
		webhooks.Canceled: {"canceled", "completed"}, webhooks.Hangup: {"canceled", "completed"}, webhooks.Redirected: {"canceled", "completed"},
	}
	for _, o := range webhooks.Outcomes("dial") {
		for n, at := range []*time.Time{nil, &answered} {
			got := url.Values{}
			dialParams(got, webhooks.Trigger{Verb: "dial", Outcome: o, AnsweredAt: at}, options)
			if got.Get("DialCallStatus") != want[o][n] {
				t.Errorf("%s, answered %v: DialCallStatus is %q, want %q", o, at != nil, got.Get("DialCallStatus"), want[o][n])
			}
		}
	}
}

func TestAFallbackURLIsToldWhatFailed(t *testing.T) {
	for code, want := range map[string]string{
		"url": "11100", "status": "11200", "timeout": "11200", "denied": "11200", "circuit_open": "11200", "connect": "11205", "reset": "11205",
		"protocol": "11206", "dns": "11210", "redirect": "11215", "tls": "11220", "rejected": "12100",
	} {
		req := incoming()
		req.Reason = webhooks.ReasonFallback
		req.Error = &webhooks.RequestFailure{Code: code, URL: "https://app.example.com/voice"}
		expect(t, Params(req, options), map[string]string{"ErrorCode": want, "ErrorUrl": "https://app.example.com/voice", "CallStatus": "ringing"})
	}
}

func TestStatusCallbacksTellWhereACallStands(t *testing.T) {
	call := webhooks.Call{From: "1001", To: "+8613800138000", Direction: webhooks.OutboundAPI, Status: webhooks.StatusInProgress}
	at := time.Date(2025, 3, 1, 16, 1, 6, 0, time.FixedZone("CST", 8*3600))
	for _, c := range []struct {
		event webhooks.EventType
		cdr   *webhooks.CDR
		want  map[string]string
	}{
		{webhooks.EventCallInitiated, nil, map[string]string{"CallStatus": "initiated", "CallDuration": "-", "Duration": "-"}},
		{webhooks.EventCallRinging, nil, map[string]string{"CallStatus": "ringing"}},
		{webhooks.EventCallAnswered, nil, map[string]string{"CallStatus": "in-progress", "SipResponseCode": "-"}},
		{
			webhooks.EventCallEnded, &webhooks.CDR{Status: webhooks.StatusCompleted, SIPCode: 200, Duration: 75, TalkTime: 61.2},
			map[string]string{"CallStatus": "completed", "CallDuration": "61", "Duration": "2", "SipResponseCode": "200"},
		},
		{
			webhooks.EventCallEnded, &webhooks.CDR{Status: webhooks.StatusNoAnswer, SIPCode: 480, Duration: 30},
			map[string]string{"CallStatus": "no-answer", "CallDuration": "0", "Duration": "0", "SipResponseCode": "480"},
		},
	} {
		got, ok := StatusParams(call, webhooks.Event{
			Type: c.event, AccountID: account, CallID: callID, Sequence: 9, OccurredAt: at, Data: webhooks.EventData{CDR: c.cdr},
		}, 2, options)
		if !ok {
			t.Errorf("%s has no callback", c.event)
		}
		expect(t, got, c.want)
		expect(t, got, map[string]string{
			"CallSid": webhooks.SID(string(callID)), "AccountSid": webhooks.SID(string(account)), "From": "1001", "To": "+8613800138000",
			"Direction": "outbound-api", "ApiVersion": "2010-04-01", "Timestamp": "Sat, 01 Mar 2025 08:01:06 +0000",
			"CallbackSource": "call-progress-events", "SequenceNumber": "2",
		})
	}
}

func TestARecordingsCallbackComesOnceItIsOver(t *testing.T) {
	event := webhooks.Event{
		Type: webhooks.EventRecordingCompleted, AccountID: account, CallID: callID, OccurredAt: answered.Add(10 * time.Second),
		Data: webhooks.EventData{Verb: "record", RecordingID: taped, Channels: 1, Duration: seconds(10)},
	}
	got, ok := StatusParams(webhooks.Call{}, event, 0, options)
	if !ok {
		t.Fatal("recording.completed has no callback")
	}
	expect(t, got, map[string]string{
		"AccountSid": webhooks.SID(string(account)), "CallSid": webhooks.SID(string(callID)), "RecordingSid": webhooks.SID(string(taped)),
		"RecordingUrl": tapeURL, "RecordingStatus": "completed", "RecordingDuration": "10", "RecordingChannels": "1",
		"RecordingStartTime": "Sat, 01 Mar 2025 08:00:05 +0000", "RecordingSource": "RecordVerb", "RecordingTrack": "both", "From": "-",
	})
	event.Type, event.Data.Verb, event.Data.Duration = webhooks.EventRecordingFailed, "", nil
	got, _ = StatusParams(webhooks.Call{}, event, 0, options)
	expect(t, got, map[string]string{"RecordingStatus": "failed", "RecordingSource": "StartCallRecordingAPI", "RecordingDuration": "-"})
	event.Data.Code = CodeAbsent
	got, _ = StatusParams(webhooks.Call{}, event, 0, options)
	expect(t, got, map[string]string{"RecordingStatus": "absent"})
	event.Type, event.Data.Code = webhooks.EventRecordingStarted, ""
	got, _ = StatusParams(webhooks.Call{}, event, 0, options)
	expect(t, got, map[string]string{"RecordingStatus": "in-progress", "RecordingDuration": "-"})
	event.Data.ConferenceID, event.Data.Verb = room, "conference"
	got, _ = StatusParams(webhooks.Call{}, event, 0, options)
	expect(t, got, map[string]string{"ConferenceSid": webhooks.SID(string(room)), "RecordingSource": "Conference", "CallSid": "-"})
	for _, other := range []webhooks.EventType{webhooks.EventCallBridged, webhooks.EventDTMF, webhooks.EventQueueJoined} {
		event.Type = other
		if _, ok := StatusParams(webhooks.Call{}, event, 0, options); ok {
			t.Errorf("%s has a callback, which no TwiML application expects", other)
		}
	}
}

func TestEveryOutcomeOfEnqueueHasAQueueResult(t *testing.T) {
	want := map[webhooks.Outcome]string{
		webhooks.Bridged: "bridged", webhooks.Lost: "bridged", webhooks.Left: "leave", webhooks.Timeout: "leave", webhooks.NoAgents: "leave",
		webhooks.Callback: "leave", webhooks.Full: "queue-full", webhooks.Hangup: "hangup", webhooks.Redirected: "redirected", webhooks.Failed: "error",
	}
	for _, o := range webhooks.Outcomes("enqueue") {
		got := url.Values{}
		enqueueParams(got, webhooks.Trigger{Verb: "enqueue", Outcome: o})
		if got.Get("QueueResult") != want[o] {
			t.Errorf("%s: QueueResult is %q, want %q", o, got.Get("QueueResult"), want[o])
		}
	}
}

func TestAWaitURLIsToldWhereTheCallerStands(t *testing.T) {
	req := incoming()
	req.Reason = webhooks.ReasonWait
	req.Waiting = &webhooks.Waiting{QueueID: line, Name: "support", Position: 2, Waited: 31.6, AverageWait: seconds(20), Size: 5, MaxSize: 100}
	expect(t, Params(req, options), map[string]string{
		"QueueSid": webhooks.SID(string(line)), "QueuePosition": "2", "QueueTime": "32", "AvgQueueTime": "20", "CurrentQueueSize": "5", "MaxQueueSize": "100",
		"CallSid": webhooks.SID(string(callID)), "DequeueingCallSid": "-",
	})
	req.Reason, req.Waiting = webhooks.ReasonScreen, &webhooks.Waiting{QueueID: line, Name: "support", Waited: 40, PeerCallID: childID}
	expect(t, Params(req, options), map[string]string{
		"QueueSid": webhooks.SID(string(line)), "QueueTime": "40", "DequeueingCallSid": webhooks.SID(string(childID)), "QueuePosition": "-",
	})
	req.Reason, req.Waiting = webhooks.ReasonWait, &webhooks.Waiting{ConferenceID: room, Name: "Room 1"}
	expect(t, Params(req, options), map[string]string{"ConferenceSid": webhooks.SID(string(room)), "FriendlyName": "Room 1", "QueueSid": "-", "QueueTime": "-"})
}

func TestMachineDetectionHasTwiliosWords(t *testing.T) {
	for by, want := range map[webhooks.AnsweredBy]string{
		webhooks.ByHuman: "human", webhooks.ByFax: "fax", webhooks.ByUnknown: "unknown", webhooks.ByMachine: "machine_start",
		webhooks.ByMachineEndBeep: "machine_end_beep", webhooks.ByMachineEndSilence: "machine_end_silence", webhooks.ByMachineEndOther: "machine_end_other",
	} {
		req := incoming()
		req.Reason, req.Call.AnsweredBy, req.Call.DetectionDuration = webhooks.ReasonAnswered, by, seconds(2.3)
		expect(t, Params(req, options), map[string]string{"AnsweredBy": want, "MachineDetectionDuration": "2300"})
		got, ok := StatusParams(webhooks.Call{}, webhooks.Event{
			Type: webhooks.EventCallDetected, AccountID: account, CallID: childID, Data: webhooks.EventData{AnsweredBy: by, DetectionDuration: seconds(4)},
		}, 0, options)
		if !ok || len(got) != 4 {
			t.Errorf("amdStatusCallback: %v", got)
		}
		expect(t, got, map[string]string{
			"AnsweredBy": want, "MachineDetectionDuration": "4000", "CallSid": webhooks.SID(string(childID)), "AccountSid": webhooks.SID(string(account)),
		})
	}
	expect(t, Params(incoming(), options), map[string]string{"AnsweredBy": "-", "MachineDetectionDuration": "-"})
}

func TestAConferencesCallbacksHaveTwiliosNames(t *testing.T) {
	yes, no := true, false
	participant := webhooks.EventData{
		ConferenceID: room, Name: "Room 1", Label: "amy", Mode: "whisper", Muted: &yes, Held: &no, EndOnExit: &yes, StartOnEnter: &no,
	}
	leaving := participant
	leaving.Reason = webhooks.ParticipantHungUp
	names := map[webhooks.EventType]string{
		webhooks.EventConferenceJoined: "participant-join", webhooks.EventConferenceMuted: "participant-mute", webhooks.EventConferenceUnmuted: "participant-unmute",
		webhooks.EventConferenceHeld: "participant-hold", webhooks.EventConferenceUnheld: "participant-unhold", webhooks.EventConferenceModified: "participant-modify",
		webhooks.EventConferenceSpeechStarted: "participant-speech-start", webhooks.EventConferenceSpeechStopped: "participant-speech-stop",
		webhooks.EventConferenceLeft: "participant-leave",
	}
	send := func(kind webhooks.EventType, d webhooks.EventData) url.Values {
		got, ok := StatusParams(webhooks.Call{Status: webhooks.StatusCompleted}, webhooks.Event{
			Type: kind, AccountID: account, CallID: callID, OccurredAt: answered, Data: d,
		}, 3, options)
		if !ok {
			t.Fatalf("%s has no callback", kind)
		}
		expect(t, got, map[string]string{
			"ConferenceSid": webhooks.SID(string(room)), "FriendlyName": "Room 1", "AccountSid": webhooks.SID(string(account)), "SequenceNumber": "3",
			"Timestamp": "Sat, 01 Mar 2025 08:00:05 +0000",
		})
		return got
	}
	for kind, name := range names {
		d := participant
		if kind == webhooks.EventConferenceLeft {
			d = leaving
		}
		expect(t, send(kind, d), map[string]string{
			"StatusCallbackEvent": name, "CallSid": webhooks.SID(string(callID)), "Muted": "true", "Hold": "false", "Coaching": "true",
			"EndConferenceOnExit": "true", "StartConferenceOnEnter": "false", "ParticipantLabel": "amy",
		})
	}
	expect(t, send(webhooks.EventConferenceLeft, leaving), map[string]string{"ParticipantCallStatus": "completed", "ReasonParticipantLeft": "participant_hung_up"})
	expect(t, send(webhooks.EventConferenceStarted, webhooks.EventData{ConferenceID: room, Name: "Room 1"}), map[string]string{"StatusCallbackEvent": "conference-start", "CallSid": "-"})
	expect(t, send(webhooks.EventConferenceEnded, webhooks.EventData{
		ConferenceID: room, Name: "Room 1", Reason: webhooks.ConferenceEnderLeft, EndedByCall: callID, Label: "amy",
	}), map[string]string{
		"StatusCallbackEvent": "conference-end", "ReasonConferenceEnded": "participant-with-end-conference-on-exit-left",
		"CallSidEndingConference": webhooks.SID(string(callID)), "ParticipantLabelEndingConference": "amy", "CallSid": "-",
	})
	expect(t, send(webhooks.EventConferenceAnnouncementEnded, webhooks.EventData{ConferenceID: room, Name: "Room 1", URL: "https://x/a"}),
		map[string]string{"StatusCallbackEvent": "announcement-end", "AnnounceUrl": "https://x/a"})
	expect(t, send(webhooks.EventConferenceAnnouncementFailed, webhooks.EventData{ConferenceID: room, Name: "Room 1", URL: "https://x/a", Message: "404"}),
		map[string]string{"StatusCallbackEvent": "announcement-fail", "ReasonAnnouncementFailed": "404"})
	for _, reason := range []string{
		webhooks.ConferenceLastLeft, webhooks.ConferenceLastKicked, webhooks.ConferenceEnderLeft, webhooks.ConferenceEnderKicked, webhooks.ConferenceEndedByAPI,
	} {
		if conferenceEnds[reason] == "" {
			t.Errorf("%s has no word of Twilio's", reason)
		}
	}
	for _, reason := range []string{
		webhooks.ParticipantHungUp, webhooks.ParticipantLeft, webhooks.ParticipantKicked, webhooks.ParticipantRedirected, webhooks.ParticipantRoomsEnding,
	} {
		if participantEnds[reason] == "" {
			t.Errorf("%s has no word of Twilio's", reason)
		}
	}
}
