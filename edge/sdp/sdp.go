// Package sdp owns the session descriptions of one audio stream: reading them (RFC 4566, RFC 8866), and offer, answer
// and hold between them (RFC 3264). It leaves SIP, which message carries which body and what status a refusal gets, to
// edge/sip and edge/session, and sockets to edge/media. Everything is a pure function between bytes and values.
package sdp

import (
	"errors"
	"net/netip"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// Limits of what Parse reads.
const (
	MaxBytes   = 64 << 10
	MaxLines   = 8  // m= lines
	MaxFormats = 32 // formats in one m= line
)

var (
	// ErrMalformed: not a session description; answer 400.
	ErrMalformed = errors.New("malformed SDP")

	// ErrNotAcceptable: a session description that cannot become a call here; answer 488. The errors below wrap it.
	ErrNotAcceptable = errors.New("media not acceptable")
	// ErrNoAudio: there is no audio stream, or only refused ones (port 0).
	ErrNoAudio = notAcceptable("no audio stream")
	// ErrProfile: the audio wants SRTP or DTLS alone.
	ErrProfile = notAcceptable("audio profile is not RTP/AVP or RTP/AVPF")
	// ErrNoCodec: no codec in common.
	ErrNoCodec = notAcceptable("no common codec")
)

// refusal is a reason that is ErrNotAcceptable.
type refusal struct{ reason string }

func notAcceptable(reason string) error { return &refusal{reason} }

func (r *refusal) Error() string { return r.reason }
func (r *refusal) Unwrap() error { return ErrNotAcceptable }

// Direction is which way audio flows, seen from whoever's description it stands in. The zero value is both ways, the
// default of RFC 8866 §6.7.
type Direction uint8

// The directions of RFC 8866 §6.7.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// directionNames are the attribute names, indexed by Direction.
var directionNames = [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}

// String is the attribute's name: "sendrecv", "sendonly", "recvonly" or "inactive".
func (d Direction) String() string { return directionNames[d&3] }

// Sends reports whether the side whose direction this is may send.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

// Receives reports whether the side whose direction this is wants to receive.
func (d Direction) Receives() bool { return d == SendRecv || d == RecvOnly }

// Reverse is the same flow seen from the other side.
func (d Direction) Reverse() Direction { return direction(d.Receives(), d.Sends()) }

// And is what both directions allow.
func (d Direction) And(other Direction) Direction {
	return direction(d.Sends() && other.Sends(), d.Receives() && other.Receives())
}

func direction(sends, receives bool) Direction {
	switch {
	case sends && receives:
		return SendRecv
	case sends:
		return SendOnly
	case receives:
		return RecvOnly
	}
	return Inactive
}

// Origin is the o= line. Two descriptions of one session with the same ID and Version are the same description
// (RFC 3264 §8). ID and Version stay text because peers put more in them than 64 bits hold.
type Origin struct {
	Username string
	ID       string
	Version  string
	Addr     string // address or host name, never used
}

// Session is a parsed session description.
type Session struct {
	Origin Origin
	// Lines are all m= lines in order.
	Lines []Line
	// Audio is the audio stream to use: the first over plain RTP with a known codec, else the first over plain RTP, else
	// the first; nil when there is none.
	Audio *Media
}

// Line is one m= line as far as refusing or repeating it needs.
type Line struct {
	Kind    string // "audio", "video", "image", …
	Proto   string // "RTP/AVP", "UDP/TLS/RTP/SAVPF", "udptl", …
	Formats string // separated by spaces
	Audio   bool   // the line that carries the call's audio
}

// Media is the audio stream of a Session, from the point of view of who wrote it.
type Media struct {
	// Addr is where to send; the unspecified address (0.0.0.0 or ::) means hold in the manner of RFC 2543.
	Addr netip.Addr
	// Port is where to send RTP; 0 refuses the stream.
	Port  uint16
	Proto string
	// Codecs are all formats in order of preference, known (ID set) or not, telephone-event apart.
	Codecs []Codec
	// DTMF: telephone events at 8 kHz are understood, with payload type DTMFPayloadType.
	DTMF            bool
	DTMFPayloadType uint8
	// Direction is the effective one: an unspecified address takes away receiving.
	Direction Direction
	// PTime and MaxPTime are milliseconds of audio per packet wished for and at most; 0 when not told.
	PTime    int
	MaxPTime int
	// RTCP is where to send RTCP, and RTCPMux whether it may share the RTP port (RFC 3605, RFC 5761).
	RTCP    netip.AddrPort
	RTCPMux bool
}

// Codec is one format of the stream.
type Codec struct {
	ID          codec.ID // zero for a codec not spoken here
	Name        string   // encoding name as written; empty for a payload type nothing is known of
	PayloadType uint8
	Rate        int // clock rate in Hz; 0 when unknown
}

// Held reports whether the writer of the stream does not want to hear.
func (m Media) Held() bool { return !m.Direction.Receives() }

// Local is our side of a stream: what to offer, or what an answer may use.
type Local struct {
	Addr netip.Addr
	Port uint16
	// SessionID stays the same through a dialog; Version is one more in each new description (RFC 3264 §8).
	SessionID, Version uint64
	// Codecs in order of preference; none means PCMU, PCMA.
	Codecs []codec.ID
	// Direction is ours; an answer narrows it to what the offer allows.
	Direction Direction
	// PTime is the milliseconds of audio per packet that we want to receive; 0 means 20.
	PTime int
	// DTMFPayloadType is the payload type to offer for telephone events; 0 means 101. A re-offer repeats the one in use
	// (RFC 3264 §8.3.2).
	DTMFPayloadType uint8
	// RTCPMux: our RTP port takes RTCP too.
	RTCPMux bool
	// Lines are the m= lines negotiated before (Negotiated.Lines): a re-offer must repeat them all in order
	// (RFC 3264 §8). None means a first offer.
	Lines []Line
}

// Negotiated is the outcome of an offer and its answer, from our point of view.
type Negotiated struct {
	Codec codec.ID
	// PayloadType and DTMFPayloadType are for what we send; the Recv ones for what we receive, which differ only when the
	// peer answered with numbers other than those offered (RFC 3264 §6.1).
	PayloadType         uint8
	RecvPayloadType     uint8
	DTMF                bool // telephone events were agreed on; without, the next two mean nothing
	DTMFPayloadType     uint8
	RecvDTMFPayloadType uint8
	// Remote is where to send RTP; not valid while the peer holds by address 0.0.0.0.
	Remote netip.AddrPort
	// RTCP is where to send RTCP: Remote itself when RTCPMux; not valid when Remote is not.
	RTCP    netip.AddrPort
	RTCPMux bool
	// Direction is ours: whether we may send and will receive.
	Direction Direction
	// PTime is the milliseconds of audio per packet that the peer wants to receive, a multiple of 10 in 10..60.
	PTime int
	// Lines are all m= lines, for Local.Lines of the next offer.
	Lines []Line
}
