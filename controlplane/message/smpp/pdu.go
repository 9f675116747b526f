// Package smpp owns the client's side of SMPP 3.4 (Short Message Peer to Peer Protocol Specification v3.4, issue 1.2): a
// transceiver's session with its window, links checked both ways and bound anew when lost, the texts of short messages
// in its alphabets and parts, and delivery receipts. Which messages there are, and what becomes of one that was not
// taken, is left to package message, as are the addresses that may be dialled.
//
// Why it is our own: what is sent must be known to have been taken, to have been refused, or to be neither, because that
// decides whether sending again is safe; and a message centre is a peer that an account names, so that every length it
// claims is bounded.
package smpp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// command is a command_id (§5.1.2.1).
type command uint32

// response is the bit that an answer's command has besides that of its request.
const response command = 0x80000000

const (
	genericNack       command = 0x80000000
	submitSM          command = 0x00000004
	deliverSM         command = 0x00000005
	unbind            command = 0x00000006
	bindTransceiver   command = 0x00000009
	outbind           command = 0x0000000B
	enquireLink       command = 0x00000015
	alertNotification command = 0x00000102
)

// Status is a command_status that is not zero: why the message centre refused.
type Status uint32

// The statuses that are told apart (§5.1.3).
const (
	statusOK Status = 0

	InvalidLength  Status = 0x00000002 // ESME_RINVCMDLEN
	InvalidCommand Status = 0x00000003 // ESME_RINVCMDID
	SystemError    Status = 0x00000008 // ESME_RSYSERR
	BindFailed     Status = 0x0000000D // ESME_RBINDFAIL
	WrongPassword  Status = 0x0000000E // ESME_RINVPASWD
	WrongSystemID  Status = 0x0000000F // ESME_RINVSYSID
	QueueFull      Status = 0x00000014 // ESME_RMSGQFUL
	Throttled      Status = 0x00000058 // ESME_RTHROTTLED
	NotNow         Status = 0x00000064 // ESME_RX_T_APPN: a temporary error of the receiver's application
)

// names are those statuses that are met, as the specification writes them.
var names = map[Status]string{
	0x01: "ESME_RINVMSGLEN", InvalidLength: "ESME_RINVCMDLEN", InvalidCommand: "ESME_RINVCMDID", 0x04: "ESME_RINVBNDSTS",
	0x05: "ESME_RALYBND", 0x06: "ESME_RINVPRTFLG", 0x07: "ESME_RINVREGDLVFLG", SystemError: "ESME_RSYSERR",
	0x0A: "ESME_RINVSRCADR", 0x0B: "ESME_RINVDSTADR", 0x0C: "ESME_RINVMSGID", BindFailed: "ESME_RBINDFAIL",
	WrongPassword: "ESME_RINVPASWD", WrongSystemID: "ESME_RINVSYSID", 0x11: "ESME_RCANCELFAIL", QueueFull: "ESME_RMSGQFUL",
	0x15: "ESME_RINVSERTYP", 0x43: "ESME_RINVESMCLASS", 0x45: "ESME_RSUBMITFAIL", 0x48: "ESME_RINVSRCTON", 0x49: "ESME_RINVSRCNPI",
	0x50: "ESME_RINVDSTTON", 0x51: "ESME_RINVDSTNPI", 0x53: "ESME_RINVSYSTYP", Throttled: "ESME_RTHROTTLED",
	0x61: "ESME_RINVSCHED", 0x62: "ESME_RINVEXPIRY", NotNow: "ESME_RX_T_APPN", 0x65: "ESME_RX_P_APPN", 0x66: "ESME_RX_R_APPN",
	0xC4: "ESME_RINVOPTPARAMVAL", 0xFE: "ESME_RDELIVERYFAILURE", 0xFF: "ESME_RUNKNOWNERR",
}

// Name is the status as the specification writes it, or in hexadecimal where it is the message centre's own.
func (s Status) Name() string {
	if name := names[s]; name != "" {
		return name
	}
	return fmt.Sprintf("0x%08X", uint32(s))
}

// Error says that the message centre refused, and how.
func (s Status) Error() string { return "the message centre refused: " + s.Name() }

// Busy reports whether the same may be taken a little later, at a slower rate.
func (s Status) Busy() bool { return s == Throttled || s == QueueFull }

// Temporary reports whether the same may be taken later. What the message centre says of the message itself is not.
func (s Status) Temporary() bool { return s.Busy() || s == SystemError || s == NotNow || s == 0x66 }

// pdu is one protocol data unit (§3.2).
type pdu struct {
	id       command
	status   Status
	sequence uint32
	body     []byte
}

const (
	headerBytes = 16
	// maxPDU is the most bytes of a PDU that is read: a message_payload of 64 kB is the only thing that would be longer, and
	// no text is.
	maxPDU = 16 << 10
)

var (
	errLength = errors.New("the message centre sent a length that cannot be")
	errBody   = errors.New("the message centre sent a body that cannot be read")
)

// readPDU reads one PDU. With errLength the header is in the result, and the stream cannot be read on.
func readPDU(r io.Reader) (pdu, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return pdu{}, err
	}
	p := pdu{
		id: command(binary.BigEndian.Uint32(header[4:])), status: Status(binary.BigEndian.Uint32(header[8:])), sequence: binary.BigEndian.Uint32(header[12:]),
	}
	length := binary.BigEndian.Uint32(header[:])
	if length < headerBytes || length > maxPDU {
		return p, errLength
	}
	p.body = make([]byte, length-headerBytes)
	if _, err := io.ReadFull(r, p.body); err != nil {
		return p, fmt.Errorf("body: %w", err)
	}
	return p, nil
}

// bytes is the PDU as it is sent.
func (p pdu) bytes() []byte {
	out := make([]byte, headerBytes, headerBytes+len(p.body))
	binary.BigEndian.PutUint32(out, uint32(headerBytes+len(p.body)))
	binary.BigEndian.PutUint32(out[4:], uint32(p.id))
	binary.BigEndian.PutUint32(out[8:], uint32(p.status))
	binary.BigEndian.PutUint32(out[12:], p.sequence)
	return append(out, p.body...)
}

// appendString writes a C-octet string (§3.1). What follows a NUL in it is left out.
func appendString(to []byte, text string) []byte {
	if at := bytes.IndexByte([]byte(text), 0); at >= 0 {
		text = text[:at]
	}
	return append(append(to, text...), 0)
}

// tag is that of an optional parameter (§5.3.2).
type tag uint16

const (
	tagReceiptedMessageID tag = 0x001E
	tagSARReference       tag = 0x020C
	tagSARTotal           tag = 0x020E
	tagSARNumber          tag = 0x020F
	tagNetworkErrorCode   tag = 0x0423
	tagMessagePayload     tag = 0x0424
	tagMessageState       tag = 0x0427
)

func appendTLV(to []byte, t tag, value ...byte) []byte {
	to = binary.BigEndian.AppendUint16(to, uint16(t))
	to = binary.BigEndian.AppendUint16(to, uint16(len(value)))
	return append(to, value...)
}

// reader takes a body apart. After the first error everything is empty.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail() {
	r.rest, r.err = nil, errBody
}

// text takes a C-octet string of at most so many bytes with its NUL.
func (r *reader) text(most int) string {
	at := bytes.IndexByte(r.rest, 0)
	if at < 0 || at >= most {
		r.fail()
		return ""
	}
	text := string(r.rest[:at])
	r.rest = r.rest[at+1:]
	return text
}

func (r *reader) octet() byte {
	b := r.octets(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (r *reader) octets(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// maxParameters is more optional parameters than any message has.
const maxParameters = 64

// parameters takes the optional parameters, which end the body. Of several with one tag the first counts.
func (r *reader) parameters() map[tag][]byte {
	found := map[tag][]byte{}
	for n := 0; len(r.rest) > 0; n++ {
		head := r.octets(4)
		if r.err != nil || n >= maxParameters {
			r.fail()
			return nil
		}
		t := tag(binary.BigEndian.Uint16(head))
		value := r.octets(int(binary.BigEndian.Uint16(head[2:])))
		if r.err != nil {
			return nil
		}
		if _, had := found[t]; !had {
			found[t] = value
		}
	}
	return found
}

// maxMessageID is the most bytes of a message_id with its NUL (§5.2.23).
const maxMessageID = 65

// messageID is the id in a submit_sm_resp.
func (p pdu) messageID() (string, error) {
	r := reader{rest: p.body}
	id := plain(r.text(maxMessageID))
	if r.err == nil && id == "" {
		r.fail()
	}
	return id, r.err
}
