package webhooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Trigger is the outcome that made a request necessary: which instruction ended, and how. Which members it has
// follows from verb and outcome: see triggerMembers.
type Trigger struct {
	Verb    string  `json:"verb"`
	ID      string  `json:"id,omitempty"`
	Outcome Outcome `json:"outcome"`

	Digits     string  `json:"digits,omitempty"`      // gather
	FinishedBy string  `json:"finished_by,omitempty"` // gather: num_digits, key, timeout
	Key        string  `json:"key,omitempty"`         // gather, record: the key that ended it
	Played     Seconds `json:"played,omitempty"`      // play, say

	RecordingID RecordingID `json:"recording_id,omitempty"` // record, dial, conference
	Duration    *Seconds    `json:"duration,omitempty"`     // of the recording or the talk

	CallID       CallID           `json:"call_id,omitempty"` // the other leg: that answered or was tried last, was dequeued, parked, or picked it up
	Target       string           `json:"target,omitempty"`  // dial: who answered or was tried last
	AnsweredAt   *time.Time       `json:"answered_at,omitempty"`
	EndedBy      EndedBy          `json:"ended_by,omitempty"`
	SIPCode      int              `json:"sip_code,omitempty"` // the final response to the INVITE, or to the REFER
	Cause        Cause            `json:"cause,omitempty"`
	Announcement AnnouncementKind `json:"announcement,omitempty"`    // dial: what a carrier said before an answer
	ReferTo      string           `json:"refer_to,omitempty"`        // dial, referred: where the other party wants the caller to go
	NotifyCode   int              `json:"notify_sip_code,omitempty"` // refer: the last status that NOTIFY told of the new call (RFC 3515 §2.4.5)

	AnsweredBy        AnsweredBy       `json:"answered_by,omitempty"`        // detect, dial
	DetectionDuration *Seconds         `json:"detection_duration,omitempty"` // detect, dial
	Kind              AnnouncementKind `json:"kind,omitempty"`               // detect: of the announcement

	QueueID  QueueID  `json:"queue_id,omitempty"` // enqueue, dequeue
	AgentID  AgentID  `json:"agent_id,omitempty"` // enqueue
	Waited   *Seconds `json:"waited,omitempty"`   // enqueue, dequeue, park: until the talk or the end
	Position int      `json:"position,omitempty"` // enqueue: the last one, from 1
	Slot     string   `json:"slot,omitempty"`     // park, unpark

	ConferenceID ConferenceID `json:"conference_id,omitempty"`

	VoicemailID VoicemailID    `json:"voicemail_id,omitempty"`
	MessageID   MessageID      `json:"message_id,omitempty"`
	Answers     map[string]any `json:"answers,omitempty"` // survey: question's name to answer

	Error string `json:"error,omitempty"` // failed: one sentence that says what to change
}

// Outcome is how an instruction ended. Each verb has its own set; hangup, redirected and failed exist for all that
// have any.
type Outcome string

// The outcomes of the verbs.
const (
	Completed  Outcome = "completed"
	Hangup     Outcome = "hangup"
	Redirected Outcome = "redirected"
	Failed     Outcome = "failed"

	Digits  Outcome = "digits"
	Invalid Outcome = "invalid"
	Timeout Outcome = "timeout"
	Silence Outcome = "silence"
	Key     Outcome = "key"
	Empty   Outcome = "empty"

	TimeLimit   Outcome = "time_limit"
	Busy        Outcome = "busy"
	NoAnswer    Outcome = "no_answer"
	Declined    Outcome = "declined"
	Unreachable Outcome = "unreachable"
	NotAllowed  Outcome = "not_allowed"
	Canceled    Outcome = "canceled"
	Lost        Outcome = "lost"
	Machine     Outcome = "machine"
	Referred    Outcome = "referred"
	Returned    Outcome = "returned"
	Accepted    Outcome = "accepted"
	Refused     Outcome = "refused"

	Human        Outcome = "human"
	Announcement Outcome = "announcement"
	Beep         Outcome = "beep"
	Fax          Outcome = "fax"
	Unknown      Outcome = "unknown"

	Bridged  Outcome = "bridged"
	Left     Outcome = "left"
	Full     Outcome = "full"
	NoAgents Outcome = "no_agents"
	Callback Outcome = "callback"
	Ended    Outcome = "ended"
	Kicked   Outcome = "kicked"

	Answered Outcome = "answered"
	Skipped  Outcome = "skipped"
	Sent     Outcome = "sent"
)

// What dial has found out when nobody, or somebody, was connected.
const (
	triedMembers  = "call_id? target? sip_code? cause? error? answered_at? duration? answered_by? detection_duration? announcement? recording_id?"
	talkedMembers = "call_id target answered_at duration sip_code ended_by cause answered_by? detection_duration? recording_id?"
)

// triggerMembers is the shape of a trigger for each verb and outcome: the members beside verb, id and outcome, those
// with ? only where they are known. hangup and redirected may have every member of their verb's, as far as the
// instruction came; failed has error, and the same.
//
// A masked gather has no digits.
var triggerMembers = map[string]map[Outcome]string{
	"play": {Completed: "played?"},
	"say":  {Completed: "played?"},
	"gather": {
		Digits:  "digits? finished_by? key?",
		Invalid: "digits?",
		Timeout: "",
	},
	"detect": {
		Human:        "answered_by detection_duration",
		Machine:      "answered_by detection_duration",
		Announcement: "kind detection_duration",
		Beep:         "answered_by detection_duration",
		Fax:          "answered_by detection_duration",
		Unknown:      "answered_by detection_duration",
	},
	"record": {
		Completed: "recording_id duration",
		Silence:   "recording_id duration",
		Key:       "recording_id duration key",
		Empty:     "key?",
	},
	"voicemail": {Left: "voicemail_id recording_id? duration", Empty: ""},
	"dial": {
		Completed:   talkedMembers,
		TimeLimit:   talkedMembers,
		Lost:        talkedMembers,
		Referred:    talkedMembers + " refer_to",
		Busy:        triedMembers,
		NoAnswer:    triedMembers,
		Declined:    triedMembers,
		Unreachable: triedMembers,
		NotAllowed:  triedMembers,
		Canceled:    triedMembers,
		Machine:     triedMembers,
	},
	"transfer": {
		Completed: "call_id",
		NoAnswer:  "call_id? sip_code? cause?",
		Busy:      "call_id? sip_code? cause?",
		Returned:  "call_id? sip_code? cause?",
	},
	"refer": {
		Accepted: "sip_code notify_sip_code?",
		Refused:  "sip_code? notify_sip_code?",
	},
	"park":   {Bridged: "slot call_id waited duration"},
	"unpark": {Bridged: "slot call_id waited duration", Empty: "slot"},
	"enqueue": {
		Bridged:  "queue_id agent_id? call_id waited duration ended_by? recording_id?",
		Lost:     "queue_id agent_id? call_id waited duration ended_by? recording_id?",
		Left:     "queue_id waited position?",
		Timeout:  "queue_id waited position?",
		Full:     "queue_id waited",
		NoAgents: "queue_id waited position?",
		Callback: "queue_id waited position?",
	},
	"dequeue": {
		Bridged: "queue_id? call_id waited duration ended_by?",
		Empty:   "queue_id?",
	},
	"conference": {
		Left:   "conference_id duration recording_id?",
		Ended:  "conference_id duration recording_id?",
		Kicked: "conference_id duration recording_id?",
		Full:   "conference_id duration",
	},
	"message": {Sent: "message_id"},
	"survey":  {Answered: "answers", Skipped: "answers?"},
}

// Members returns the names of the members that a trigger of this verb and outcome has beside verb, id and outcome:
// always, and where they are known. ok is false where the verb has no such outcome.
func Members(verb string, o Outcome) (always, known []string, ok bool) {
	if !HasOutcome(verb, o) {
		return nil, nil, false
	}
	own := triggerMembers[verb]
	if !slices.Contains(sharedOutcomes, o) {
		always, known = splitMembers(own[o])
		return always, known, true
	}
	all := map[string]bool{}
	for _, text := range own {
		for name := range strings.FieldsSeq(text) {
			all[strings.TrimSuffix(name, "?")] = true
		}
	}
	if o == Failed {
		always = []string{"error"}
		delete(all, "error")
	}
	return always, slices.Sorted(maps.Keys(all)), true
}

func splitMembers(text string) (always, known []string) {
	for name := range strings.FieldsSeq(text) {
		if bare, maybe := strings.CutSuffix(name, "?"); maybe {
			known = append(known, bare)
			continue
		}
		always = append(always, name)
	}
	return always, known
}

// Check says what a trigger has too much or too little for its verb and outcome; nil for a right one. What is asked
// with one that is not would not be what the contract promises, so the executor's tests check every one.
func (t Trigger) Check() error {
	always, known, ok := Members(t.Verb, t.Outcome)
	if !ok {
		return fmt.Errorf("%s has no outcome %q", t.Verb, t.Outcome)
	}
	return checkMembers(t.Verb+" "+string(t.Outcome), t, append([]string{"verb", "outcome"}, always...), append([]string{"id"}, known...))
}

// checkMembers holds a value, as JSON, to the members it must and may have.
func checkMembers(what string, v any, always, known []string) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var has map[string]json.RawMessage
	if err := json.Unmarshal(raw, &has); err != nil {
		return err
	}
	for _, name := range always {
		if _, there := has[name]; !there {
			return fmt.Errorf("%s: %s is missing", what, name)
		}
		delete(has, name)
	}
	for _, name := range known {
		delete(has, name)
	}
	if len(has) > 0 {
		return fmt.Errorf("%s: has %s as well", what, strings.Join(slices.Sorted(maps.Keys(has)), ", "))
	}
	return nil
}
