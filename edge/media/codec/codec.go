// Package codec owns what happens to single samples: G.711 µ-law and A-law both ways (ITU-T G.711), conversion between
// the two, resampling of mono PCM, and the listening-quality estimate of a G.711 stream. It leaves packets, timing and
// negotiation to edge/media and edge/sdp.
//
// Every function is pure and safe for concurrent use. Nothing called once per 20 ms frame allocates.
package codec

import "strings"

// ID says which codec a leg speaks. The zero value is no codec: a leg whose negotiation has not finished.
type ID uint8

// The codecs of RFC 3551 that this edge speaks.
const (
	PCMU ID = iota + 1 // G.711 µ-law, static payload type 0
	PCMA               // G.711 A-law, static payload type 8
)

// facts is what RFC 3551 §6 table 4 and G.711 fix for each codec, indexed by ID.
var facts = [...]struct {
	name        string
	payloadType uint8
	clockRate   int
	silence     byte
}{
	PCMU: {name: "PCMU", payloadType: 0, clockRate: 8000, silence: 0xFF},
	PCMA: {name: "PCMA", payloadType: 8, clockRate: 8000, silence: 0xD5},
}

// Valid reports whether id is a codec this edge speaks.
func (id ID) Valid() bool { return id == PCMU || id == PCMA }

func (id ID) index() int {
	if !id.Valid() {
		return 0
	}
	return int(id)
}

// Name is the encoding name in SDP (RFC 3551), such as "PCMU"; empty for no codec.
func (id ID) Name() string { return facts[id.index()].name }

// String is Name, so that logs and test failures read as the SDP does.
func (id ID) String() string { return id.Name() }

// PayloadType is the static RTP payload type. A peer may map the codec to a dynamic one: what counts on the wire is what
// the offer and answer said.
func (id ID) PayloadType() uint8 { return facts[id.index()].payloadType }

// ClockRate is the RTP clock and the sample rate in Hz; 0 for no codec.
func (id ID) ClockRate() int { return facts[id.index()].clockRate }

// Silence is the octet that decodes to (nearly) zero: what a stream carries while nothing is said.
func (id ID) Silence() byte { return facts[id.index()].silence }

// ByName finds a codec by its encoding name, whatever its case (RFC 8866 §6.6: names are case-insensitive).
func ByName(name string) (ID, bool) {
	for id := PCMU; id.Valid(); id++ {
		if strings.EqualFold(name, id.Name()) {
			return id, true
		}
	}
	return 0, false
}

// ByPayloadType finds the codec that a static payload type means when no rtpmap says otherwise.
func ByPayloadType(pt uint8) (ID, bool) {
	for id := PCMU; id.Valid(); id++ {
		if pt == id.PayloadType() {
			return id, true
		}
	}
	return 0, false
}
