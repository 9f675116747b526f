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
		webhooks.Canceled: {"canceled", "completed"}, webhooks.Hangup: {"canceled", "completed"}, webhooks.Redirected: {"canceled", "completed"},
	}
	for _, o := range []webhooks.Outcome{
		webhooks.Completed, webhooks.Hangup, webhooks.Redirected, webhooks.Failed, webhooks.TimeLimit, webhooks.Busy, webhooks.NoAnswer,
		webhooks.Declined, webhooks.Unreachable, webhooks.NotAllowed, webhooks.Canceled, webhooks.Lost,
	} {
		if !webhooks.HasOutcome("dial", o) {
			t.Errorf("dial has no outcome %s any more", o)
		}
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
	for _, other := range []webhooks.EventType{webhooks.EventRecordingStarted, webhooks.EventCallBridged, webhooks.EventDTMF} {
		event.Type = other
		if _, ok := StatusParams(webhooks.Call{}, event, 0, options); ok {
			t.Errorf("%s has a callback, which no TwiML application expects", other)
		}
	}
}
