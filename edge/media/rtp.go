package media

import (
	"encoding/binary"

	"github.com/pion/rtp"
)

const (
	rtpVersion     = 2
	rtpHeaderSize  = 12 // without contributing sources and extension, as we send it
	maxPayloadType = 127

	maxSources = 15
	// maxExtensions is how many elements fit into a packet, at two octets each (RFC 8285 §4.2 and §4.3).
	maxExtensions = maxPacket / 2
)

// newHeader has room for every list a packet can bring, so that parseRTP into it allocates nothing.
func newHeader() rtp.Header {
	return rtp.Header{CSRC: make([]uint32, 0, maxSources), Extensions: make([]rtp.Extension, 0, maxExtensions)}
}

// parseRTP reads a packet's header (RFC 3550 §5.1) into h and returns its payload, without contributing sources, header
// extension and padding. ok is false for anything that is not RTP version 2 or whose lengths do not add up; h is
// undefined then. The payload and h's extensions alias b.
//
// Why lengths are added up here: what does not fit costs no error value on the 20 ms path, and what is left for
// Unmarshal to refuse is damage inside an RFC 8285 extension. No one here reads those, it reads them last, and audio is
// not to be lost over them.
func parseRTP(h *rtp.Header, b []byte) (payload []byte, ok bool) {
	if len(b) < rtpHeaderSize || b[0]>>6 != rtpVersion {
		return nil, false
	}
	padded, extended, sources := b[0]&0x20 != 0, b[0]&0x10 != 0, int(b[0]&0x0F)
	start := rtpHeaderSize + 4*sources
	if extended {
		if len(b) < start+4 {
			return nil, false
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(b[start+2:]))
	}
	end := len(b)
	if padded {
		// §5.1: the last octet counts the padding, itself included.
		padding := int(b[len(b)-1])
		if padding == 0 {
			return nil, false
		}
		end -= padding
	}
	if start > end {
		return nil, false
	}
	if _, err := h.Unmarshal(b); err != nil && !extended {
		return nil, false
	}
	return b[start:end], true
}

// isRTCP tells RTCP from RTP on a shared port: packet types 192–223 are payload types 64–95 with the marker set, which no
// one negotiates (RFC 5761 §4).
func isRTCP(b []byte) bool {
	return len(b) >= 2 && b[0]>>6 == rtpVersion && b[1] >= 192 && b[1] <= 223
}
