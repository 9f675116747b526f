package media

import (
	"encoding/binary"
	"time"
)

// RTCP packet types and sizes, RFC 3550 §6.
const (
	typeSenderReport   = 200
	typeReceiverReport = 201
	typeDescription    = 202
	typeBye            = 203

	rtcpHeaderSize  = 4
	senderInfoSize  = 20
	reportBlockSize = 24
	cnameSize       = 16
	// maxReportSize is SR, one block, SDES with our CNAME, and BYE.
	maxReportSize = 8 + senderInfoSize + reportBlockSize + descriptionSize + 8
	// SSRC, item type and length, the name, the end of the list, rounded up to words.
	descriptionSize = rtcpHeaderSize + 4 + (2+cnameSize+1+3)&^3

	itemCNAME = 1

	// rtcpInterval is RFC 3550 §6.2's minimum, spread over half to one and a half of it.
	rtcpInterval = 5 * time.Second
)

// report is one RTCP packet of ours, before it is written.
type report struct {
	ssrc  uint32
	cname [cnameSize]byte

	sender  bool // an SR: we sent since the last but one report
	now     time.Time
	stamp   uint32
	packets uint32
	octets  uint32

	block reportBlock
	heard bool // block is filled

	bye bool
}

// reportBlock is what one side tells about the other's stream (RFC 3550 §6.4.1).
type reportBlock struct {
	ssrc       uint32
	fraction   uint8 // lost since the last report, in 256ths
	lost       int32 // 24 bits, may be negative
	highest    uint32
	jitter     uint32 // in RTP clock ticks
	lastReport uint32 // middle of the NTP time in the last SR
	delay      uint32 // since that SR, in 1/65536 s
}

// put writes the compound packet and returns its length, at most maxReportSize.
func (r *report) put(b *[maxReportSize]byte) int {
	blocks := byte(0)
	if r.heard {
		blocks = 1
	}
	n := 8
	kind := byte(typeReceiverReport)
	if r.sender {
		kind = typeSenderReport
		binary.BigEndian.PutUint64(b[n:], ntp(r.now))
		binary.BigEndian.PutUint32(b[n+8:], r.stamp)
		binary.BigEndian.PutUint32(b[n+12:], r.packets)
		binary.BigEndian.PutUint32(b[n+16:], r.octets)
		n += senderInfoSize
	}
	if r.heard {
		r.block.put(b[n:])
		n += reportBlockSize
	}
	putRTCPHeader(b[:], blocks, kind, n)
	binary.BigEndian.PutUint32(b[4:], r.ssrc)

	description := b[n : n+descriptionSize]
	clear(description)
	putRTCPHeader(description, 1, typeDescription, descriptionSize)
	binary.BigEndian.PutUint32(description[4:], r.ssrc)
	description[8], description[9] = itemCNAME, cnameSize
	copy(description[10:], r.cname[:])
	n += descriptionSize

	if r.bye {
		putRTCPHeader(b[n:], 1, typeBye, 8)
		binary.BigEndian.PutUint32(b[n+4:], r.ssrc)
		n += 8
	}
	return n
}

// putRTCPHeader writes the first word; size is of the whole packet in octets.
func putRTCPHeader(b []byte, count, kind byte, size int) {
	b[0], b[1] = rtpVersion<<6|count, kind
	binary.BigEndian.PutUint16(b[2:], uint16(size/4-1))
}

func (r *reportBlock) put(b []byte) {
	binary.BigEndian.PutUint32(b, r.ssrc)
	binary.BigEndian.PutUint32(b[4:], uint32(r.fraction)<<24|uint32(r.lost)&0xFFFFFF)
	binary.BigEndian.PutUint32(b[8:], r.highest)
	binary.BigEndian.PutUint32(b[12:], r.jitter)
	binary.BigEndian.PutUint32(b[16:], r.lastReport)
	binary.BigEndian.PutUint32(b[20:], r.delay)
}

func parseReportBlock(b []byte) reportBlock {
	loss := binary.BigEndian.Uint32(b[4:])
	return reportBlock{
		ssrc:       binary.BigEndian.Uint32(b),
		fraction:   uint8(loss >> 24),
		lost:       int32(loss<<8) >> 8,
		highest:    binary.BigEndian.Uint32(b[8:]),
		jitter:     binary.BigEndian.Uint32(b[12:]),
		lastReport: binary.BigEndian.Uint32(b[16:]),
		delay:      binary.BigEndian.Uint32(b[20:]),
	}
}

// heardReport is what matters to us in a peer's RTCP packet.
type heardReport struct {
	ssrc      uint32 // of the peer
	sender    bool   // there was an SR
	senderNTP uint32 // its middle 32 bits
	block     reportBlock
	about     bool // block is about our stream
	bye       bool
}

// parseRTCP walks a compound packet and picks what concerns the stream we send as ours. ok is false when it does not
// begin with a report (RFC 3550 §6.1) or its lengths do not add up; what was read until then does not count.
func parseRTCP(b []byte, ours uint32) (h heardReport, ok bool) {
	for first := true; len(b) > 0; first = false {
		if len(b) < rtcpHeaderSize+4 || b[0]>>6 != rtpVersion {
			return heardReport{}, false
		}
		size := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
		if size > len(b) || size < rtcpHeaderSize+4 {
			return heardReport{}, false
		}
		count, kind, body := int(b[0]&0x1F), b[1], b[rtcpHeaderSize:size]
		if first && kind != typeSenderReport && kind != typeReceiverReport {
			return heardReport{}, false
		}
		switch kind {
		case typeSenderReport:
			if len(body) < 4+senderInfoSize+count*reportBlockSize {
				return heardReport{}, false
			}
			h.ssrc = binary.BigEndian.Uint32(body)
			h.sender, h.senderNTP = true, uint32(binary.BigEndian.Uint64(body[4:])>>16)
			h.pick(body[4+senderInfoSize:], count, ours)
		case typeReceiverReport:
			if len(body) < 4+count*reportBlockSize {
				return heardReport{}, false
			}
			h.ssrc = binary.BigEndian.Uint32(body)
			h.pick(body[4:], count, ours)
		case typeBye:
			h.bye = true
		}
		b = b[size:]
	}
	return h, h.ssrc != 0 || h.sender || h.about || h.bye
}

func (h *heardReport) pick(blocks []byte, count int, ours uint32) {
	for ; count > 0; count-- {
		if block := parseReportBlock(blocks); block.ssrc == ours {
			h.block, h.about = block, true
		}
		blocks = blocks[reportBlockSize:]
	}
}

// roundTrip is RFC 3550 §6.4.1's A − LSR − DLSR; 0 when the peer has had no SR of ours.
func (r reportBlock) roundTrip(now time.Time) time.Duration {
	if r.lastReport == 0 {
		return 0
	}
	units := int32(uint32(ntp(now)>>16) - r.lastReport - r.delay)
	if units < 0 {
		return 0 // clocks of different grain: as good as nothing
	}
	return time.Duration(units) * time.Second >> 16
}

// ntp is a time as RTCP writes it: seconds since 1900 and a fraction of 32 bits.
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
