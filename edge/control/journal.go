package control

// JournalVersion is the version of the journal's format that this edge writes.
const JournalVersion = 1

// JournalChunk is a piece of a call's journal, on its way to the control plane behind the call's events: whole lines, each
// an entry of one JSON object, plain or compressed by gzip (RFC 1952). It is idempotent by (call, epoch, number): what is stored already is passed over.
//
// Every entry has "t", the microseconds since the first entry, which never go back, and "kind", which says what else it
// has:
//
//	begin        version, call_id, epoch, edge_id, began_at (RFC 3339, to the microsecond): always the first of an epoch
//	sip_in       transport, peer (address and port), message
//	sip_out      the same of a message that we sent
//	request      id (req_…), sequence, reason, method, url, body: a question to the application
//	answer       id of the request; status, url, content_type, body; or error {code, message}; with "attempt" it is a
//	             single attempt that failed and may be repeated
//	instruction  instruction: one that begins, as the program gave it
//	outcome      verb, id, ms; outcome and trigger where the verb has any: how it ended
//	input        key, source (rtp, info), pressed: the t at which it came, where it was noted later
//	timer        name: what ran out
//	media        fact: first_packet · agreed {codec, direction, remote, dtmf} · play_done, record_done {reason, ms} · …
//	event        type, sequence, data: as subscribers are told
//	warning      code, message, pointer: what the application's owner may want to change
//	action       action: a live change that is made now
//	end          dropped: how many entries there was no room for; always the last of a journal that is whole
//
// Texts that were cut have their whole length in "length", in octets. Secrets are "-", keys that a masked gather took "•".
// A reader passes over members and kinds that it does not know.
type JournalChunk struct {
	Number int    `json:"number"` // from 1, without a gap, of a call and epoch
	Text   []byte `json:"text"`
	Last   bool   `json:"last,omitempty"` // nothing follows: the journal is whole
}

// Kinds of journal entries.
const (
	JournalBegin       = "begin"
	JournalSIPIn       = "sip_in"
	JournalSIPOut      = "sip_out"
	JournalRequest     = "request"
	JournalAnswer      = "answer"
	JournalInstruction = "instruction"
	JournalOutcome     = "outcome"
	JournalInput       = "input"
	JournalTimer       = "timer"
	JournalMedia       = "media"
	JournalEvent       = "event"
	JournalWarning     = "warning"
	JournalAction      = "action"
	JournalEnd         = "end"
)

// MaxJournal is the most octets of a call's journal on an edge.
const MaxJournal = 256 << 10
