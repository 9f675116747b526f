package webhooks

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"
)

// The ids of the contract: a type prefix, an underscore and a ULID (26 characters of Crockford base 32), so that
// they sort by the time they were made. They are opaque to applications. Each is a type of its own, because two
// bare strings next to each other in a signature are a bug waiting.
type (
	AccountID      string // acc_
	ActionID       string // act_
	AgentID        string // agt_
	ApplicationID  string // app_
	CallID         string // call_
	ConferenceID   string // conf_
	ConversationID string // conv_
	CredentialID   string // cred_
	CustomerID     string // cus_
	EdgeID         string // edge_
	EventID        string // evt_
	MediaID        string // med_, or sys_ for the system's own prompts
	MessageID      string // msg_
	NumberID       string // num_
	QueueID        string // que_
	RecordingID    string // rec_
	RequestID      string // req_
	TrunkID        string // trk_
	VoicemailID    string // vm_
)

// NewID returns a fresh id with the prefix (without underscore). It is safe for concurrent use.
func NewID(prefix string) string {
	return prefix + "_" + ulid.MustNew(ulid.Now(), rand.Reader).String()
}

// NewCallID, and the others, return a fresh id of their type.
func NewCallID() CallID                 { return CallID(NewID("call")) }
func NewConferenceID() ConferenceID     { return ConferenceID(NewID("conf")) }
func NewConversationID() ConversationID { return ConversationID(NewID("conv")) }
func NewEventID() EventID               { return EventID(NewID("evt")) }
func NewRecordingID() RecordingID       { return RecordingID(NewID("rec")) }
func NewRequestID() RequestID           { return RequestID(NewID("req")) }
func NewActionID() ActionID             { return ActionID(NewID("act")) }

// Voicemail is the id of the voicemail that a recording is, if it is one: the recording's, with another prefix. So the edge
// can name it before anybody else has heard of it, and it is made once however often it is told.
func (id RecordingID) Voicemail() VoicemailID {
	return VoicemailID("vm" + strings.TrimPrefix(string(id), "rec"))
}

// sidPrefixes maps our id prefixes to Twilio's two letters.
var sidPrefixes = map[string]string{
	"call": "CA", "acc": "AC", "rec": "RE", "que": "QU", "num": "PN", "app": "AP",
	"conf": "CF", "msg": "SM",
}

// SID returns the Twilio form of one of our ids: two letters and the id's 128 bits as 32 hexadecimal digits. It
// returns "" for an id that is not ours or has no Twilio form.
func SID(id string) string {
	prefix, text, ok := strings.Cut(id, "_")
	letters := sidPrefixes[prefix]
	if !ok || letters == "" {
		return ""
	}
	u, err := ulid.ParseStrict(text)
	if err != nil {
		return ""
	}
	return letters + hex.EncodeToString(u[:])
}

// FromSID is the inverse of SID. A value that is no SID comes back unchanged, so that either form can be given
// wherever an id is taken; a malformed SID is an error.
func FromSID(sid string) (string, error) {
	if strings.Contains(sid, "_") || len(sid) < 2 {
		return sid, nil
	}
	for prefix, letters := range sidPrefixes {
		if !strings.HasPrefix(sid, letters) {
			continue
		}
		raw, err := hex.DecodeString(sid[2:])
		if err != nil || len(raw) != 16 {
			return "", fmt.Errorf("%q is not an id: a SID is two letters and 32 hexadecimal digits", sid)
		}
		var u ulid.ULID
		copy(u[:], raw)
		return prefix + "_" + u.String(), nil
	}
	return sid, nil
}
