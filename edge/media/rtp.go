package media

import "encoding/binary"

const (
	rtpVersion     = 2
	rtpHeaderSize  = 12
	maxPayloadType = 127
)

// rtpHeader is the fixed part of an RTP header (RFC 3550 §5.1), as far as anyone here needs it.
type rtpHeader struct {
	marker      bool
	payloadType uint8
	sequence    uint16
	timestamp   uint32
	ssrc        uint32
}

// parseRTP splits a packet into its header and payload; contributing sources, header extension and padding are skipped.
// ok is false for anything that is not RTP version 2 or whose lengths do not add up. The payload aliases b.
func parseRTP(b []byte) (h rtpHeader, payload []byte, ok bool) {
	if len(b) < rtpHeaderSize || b[0]>>6 != rtpVersion {
		return h, nil, false
	}
	padded, extended, sources := b[0]&0x20 != 0, b[0]&0x10 != 0, int(b[0]&0x0F)
	h = rtpHeader{
		marker:      b[1]&0x80 != 0,
		payloadType: b[1] & 0x7F,
		sequence:    binary.BigEndian.Uint16(b[2:]),
		timestamp:   binary.BigEndian.Uint32(b[4:]),
		ssrc:        binary.BigEndian.Uint32(b[8:]),
	}
	start := rtpHeaderSize + 4*sources
	if extended {
		if len(b) < start+4 {
			return h, nil, false
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(b[start+2:]))
	}
	end := len(b)
	if padded {
		// §5.1: the last octet counts the padding, itself included.
		padding := int(b[len(b)-1])
		if padding == 0 {
			return h, nil, false
		}
		end -= padding
	}
	if start > end {
		return h, nil, false
	}
	return h, b[start:end], true
}

// put writes the header into the first rtpHeaderSize octets of b.
func (h rtpHeader) put(b []byte) {
	_ = b[rtpHeaderSize-1]
	b[0] = rtpVersion << 6
	b[1] = h.payloadType
	if h.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], h.sequence)
	binary.BigEndian.PutUint32(b[4:], h.timestamp)
	binary.BigEndian.PutUint32(b[8:], h.ssrc)
}

// isRTCP tells RTCP from RTP on a shared port: packet types 192–223 are payload types 64–95 with the marker set, which no
// one negotiates (RFC 5761 §4).
func isRTCP(b []byte) bool {
	return len(b) >= 2 && b[0]>>6 == rtpVersion && b[1] >= 192 && b[1] <= 223
}
