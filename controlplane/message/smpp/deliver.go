package smpp

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Address is a telephone number, or a name, with its type and plan (§5.2.5, §5.2.6).
type Address struct {
	TON    byte // 1 international, 2 national, 3 network specific, 5 alphanumeric, 0 unknown
	NPI    byte // 1 ISDN (E.164), 0 unknown
	Number string
}

// Delivery is a deliver_sm: a message from a phone, or a receipt of one that was submitted.
type Delivery struct {
	From, To Address
	// Text is the message; of a receipt, what its text form says. Binary is set, and Text is empty, for what is no text.
	Text   string
	Binary bool
	Part   Part
	// Receipt is set when it is one.
	Receipt *Receipt
}

// State is where a submitted message stands (§5.2.28).
type State byte

// The states.
const (
	EnRoute       State = 1
	Delivered     State = 2
	Expired       State = 3
	Deleted       State = 4
	Undeliverable State = 5
	Accepted      State = 6 // read by somebody on the phone's behalf
	Unknown       State = 7
	Rejected      State = 8
)

// Final reports whether no other state follows.
func (s State) Final() bool { return s != EnRoute && s != Accepted && s != 0 }

// String is the state as receipts write it.
func (s State) String() string {
	for word, state := range states {
		if state == s {
			return word
		}
	}
	return "state " + strconv.Itoa(int(s))
}

// states are the words of a receipt's text (Appendix B).
var states = map[string]State{
	"ENROUTE": EnRoute, "DELIVRD": Delivered, "EXPIRED": Expired, "DELETED": Deleted, "UNDELIV": Undeliverable, "ACCEPTD": Accepted,
	"UNKNOWN": Unknown, "REJECTD": Rejected,
}

// Receipt tells what became of a submitted message.
type Receipt struct {
	ID    string // the message centre's, of submit_sm_resp
	State State
	// Error is the network's or the message centre's code; empty for none.
	Error  string
	DoneAt time.Time // in the message centre's time zone, which is not told; zero where it is not known
}

// Lengths of the fields of deliver_sm with their NULs (§4.6.1). Addresses are given more than the 21 of the specification:
// some message centres send longer names.
const (
	maxServiceType = 6
	maxAddress     = 65
	maxTime        = 17
)

// parseDelivery reads the body of a deliver_sm.
func parseDelivery(body []byte) (Delivery, error) {
	r := reader{rest: body}
	var d Delivery
	r.text(maxServiceType)
	d.From = Address{r.octet(), r.octet(), plain(r.text(maxAddress))}
	d.To = Address{r.octet(), r.octet(), plain(r.text(maxAddress))}
	class := r.octet()
	r.octets(2) // protocol_id, priority_flag
	r.text(maxTime)
	r.text(maxTime)
	r.octets(2) // registered_delivery, replace_if_present_flag
	coding := Coding(r.octet())
	r.octet() // sm_default_msg_id
	octets := r.octets(int(r.octet()))
	more := r.parameters()
	if r.err != nil {
		return Delivery{}, r.err
	}
	if payload, ok := more[tagMessagePayload]; ok && len(octets) == 0 {
		octets = payload
	}
	if class&hasHeader != 0 {
		var ok bool
		if d.Part, octets, ok = cutHeader(octets); !ok {
			return Delivery{}, errBody
		}
	} else if reference, ok := more[tagSARReference]; ok {
		d.Part = sar(reference, more[tagSARTotal], more[tagSARNumber])
	}
	text, ok := Decode(coding, octets)
	d.Text, d.Binary = strings.ReplaceAll(text, "\x00", ""), !ok
	switch class & kindBits {
	case kindReceipt, kindOnItsWay:
		d.Receipt = parseReceipt(octets, more)
	case kindDeliverAck, kindUserAck:
		d.Binary, d.Text = true, "" // an acknowledgement by the phone itself is no text of a person
	}
	return d, nil
}

func sar(reference, total, number []byte) Part {
	if len(reference) != 2 || len(total) != 1 || len(number) != 1 {
		return Part{}
	}
	return Part{binary.BigEndian.Uint16(reference), total[0], number[0]}.checked()
}

// parseReceipt reads a receipt from its optional parameters, and what they do not say from its text, which is ASCII in
// every alphabet: "id:IIIIIIIIII sub:SSS dlvrd:DDD submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DDDDDDD err:E text:…"
// (Appendix B). An id that is not there is empty.
func parseReceipt(octets []byte, more map[tag][]byte) *Receipt {
	fields := receiptFields(string(octets))
	r := &Receipt{ID: fields["id"], State: states[strings.ToUpper(fields["stat"])], Error: strings.Trim(fields["err"], "0")}
	if r.Error != "" {
		r.Error = fields["err"]
	}
	if id := strings.TrimRight(string(more[tagReceiptedMessageID]), "\x00"); id != "" && len(id) < maxMessageID {
		r.ID = id
	}
	if state := more[tagMessageState]; len(state) == 1 {
		r.State = State(state[0])
	}
	// §5.3.2.31: the network type, and its code.
	if code := more[tagNetworkErrorCode]; len(code) == 3 && binary.BigEndian.Uint16(code[1:]) != 0 {
		r.Error = fmt.Sprint(binary.BigEndian.Uint16(code[1:]))
	}
	for _, layout := range []string{"0601021504", "060102150405"} {
		if at, err := time.Parse(layout, fields["done date"]); err == nil {
			r.DoneAt = at
		}
	}
	if len(r.ID) >= maxMessageID {
		r.ID = ""
	}
	r.ID, r.Error = plain(r.ID), plain(r.Error)
	return r
}

// plain leaves what is printable ASCII of a text that should be.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
}

// receiptFields takes the text form apart. The text of the message itself, at its end, may hold anything and is left out.
func receiptFields(text string) map[string]string {
	found := map[string]string{}
	lower := strings.ToLower(text)
	if len(lower) != len(text) {
		return found // what changes its length is no ASCII, and no receipt
	}
	if at := strings.Index(lower, "text:"); at >= 0 {
		text, lower = text[:at], lower[:at]
	}
	for _, name := range []string{"id", "stat", "err", "done date"} {
		at := -1
		for from := 0; from < len(lower); {
			i := strings.Index(lower[from:], name+":")
			if i < 0 {
				break
			}
			if i += from; i == 0 || lower[i-1] == ' ' {
				at = i
				break
			}
			from = i + 1
		}
		if at < 0 {
			continue
		}
		value, _, _ := strings.Cut(text[at+len(name)+1:], " ")
		found[name] = strings.TrimSpace(value)
	}
	return found
}
