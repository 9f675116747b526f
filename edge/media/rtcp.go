package media

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
)

// RTCP sizes in octets, RFC 3550 §6.
const (
	rtcpHeaderSize  = 4
	senderInfoSize  = 20
	reportBlockSize = 24
	cnameSize       = 16
	// maxReportSize is SR, one block, SDES with our CNAME, and BYE.
	maxReportSize = 8 + senderInfoSize + reportBlockSize + descriptionSize + 8
	// SSRC, item type and length, the name, the end of the list, rounded up to words.
	descriptionSize = rtcpHeaderSize + 4 + (2+cnameSize+1+3)&^3

	// maxReportBlocks is what the five bits of a report's count can say.
	maxReportBlocks = 31

	// rtcpInterval is RFC 3550 §6.2's minimum, spread over half to one and a half of it.
	rtcpInterval = 5 * time.Second
)

// report is one RTCP packet of ours, before it is written.
//
// Why it is written by hand: rtcp.CompoundPacket.Marshal makes 13 allocations and takes 0.7 µs, and reports are sent by
// the tick, which allocates nothing.
type report struct {
	ssrc  uint32
	cname [cnameSize]byte

	sender  bool // an SR: we sent since the last but one report
	now     time.Time
	stamp   uint32
	packets uint32
	octets  uint32

	block rtcp.ReceptionReport // about the peer's stream
	heard bool                 // block is filled

	bye bool
}

// put writes the compound packet and returns its length, at most maxReportSize.
func (r *report) put(b *[maxReportSize]byte) int {
	blocks := byte(0)
	if r.heard {
		blocks = 1
	}
	n := 8
	kind := rtcp.TypeReceiverReport
	if r.sender {
		kind = rtcp.TypeSenderReport
		binary.BigEndian.PutUint64(b[n:], ntp(r.now))
		binary.BigEndian.PutUint32(b[n+8:], r.stamp)
		binary.BigEndian.PutUint32(b[n+12:], r.packets)
		binary.BigEndian.PutUint32(b[n+16:], r.octets)
		n += senderInfoSize
	}
	if r.heard {
		putReportBlock(b[n:], r.block)
		n += reportBlockSize
	}
	putRTCPHeader(b[:], blocks, kind, n)
	binary.BigEndian.PutUint32(b[4:], r.ssrc)

	description := b[n : n+descriptionSize]
	clear(description)
	putRTCPHeader(description, 1, rtcp.TypeSourceDescription, descriptionSize)
	binary.BigEndian.PutUint32(description[4:], r.ssrc)
	description[8], description[9] = byte(rtcp.SDESCNAME), cnameSize
	copy(description[10:], r.cname[:])
	n += descriptionSize

	if r.bye {
		putRTCPHeader(b[n:], 1, rtcp.TypeGoodbye, 8)
		binary.BigEndian.PutUint32(b[n+4:], r.ssrc)
		n += 8
	}
	return n
}

// putRTCPHeader writes the first word; size is of the whole packet in octets.
func putRTCPHeader(b []byte, count byte, kind rtcp.PacketType, size int) {
	b[0], b[1] = rtpVersion<<6|count, byte(kind)
	binary.BigEndian.PutUint16(b[2:], uint16(size/4-1))
}

func putReportBlock(b []byte, r rtcp.ReceptionReport) {
	binary.BigEndian.PutUint32(b, r.SSRC)
	binary.BigEndian.PutUint32(b[4:], uint32(r.FractionLost)<<24|r.TotalLost&0xFFFFFF)
	binary.BigEndian.PutUint32(b[8:], r.LastSequenceNumber)
	binary.BigEndian.PutUint32(b[12:], r.Jitter)
	binary.BigEndian.PutUint32(b[16:], r.LastSenderReport)
	binary.BigEndian.PutUint32(b[20:], r.Delay)
}

// reportBlocks is room for the blocks of the report being read, so that reading one allocates nothing.
type reportBlocks [maxReportBlocks]rtcp.ReceptionReport

// heardReport is what matters to us in a peer's RTCP packet.
type heardReport struct {
	ssrc      uint32 // of the peer
	sender    bool   // there was an SR
	senderNTP uint32 // its middle 32 bits
	block     rtcp.ReceptionReport
	about     bool // block is about our stream
	bye       bool
}

// parseRTCP walks a compound packet and picks what concerns the stream we send as ours. ok is false when it does not
// begin with a report (RFC 3550 §6.1) or its lengths do not add up; what was read until then does not count.
//
// Why not rtcp.Unmarshal: it allocates for each packet, and one it dislikes, of a kind that no one here reads, would cost
// the report before it.
func parseRTCP(b []byte, ours uint32, blocks *reportBlocks) (h heardReport, ok bool) {
	for first := true; len(b) > 0; first = false {
		var header rtcp.Header
		if header.Unmarshal(b) != nil {
			return heardReport{}, false
		}
		size := 4 * (int(header.Length) + 1)
		if size > len(b) || size < rtcpHeaderSize+4 {
			return heardReport{}, false
		}
		if first && header.Type != rtcp.TypeSenderReport && header.Type != rtcp.TypeReceiverReport {
			return heardReport{}, false
		}
		switch header.Type {
		case rtcp.TypeSenderReport:
			r := rtcp.SenderReport{Reports: blocks[:0]}
			if r.Unmarshal(b[:size]) != nil {
				return heardReport{}, false
			}
			h.ssrc = r.SSRC
			h.sender, h.senderNTP = true, uint32(r.NTPTime>>16)
			h.pick(r.Reports, ours)
		case rtcp.TypeReceiverReport:
			r := rtcp.ReceiverReport{Reports: blocks[:0]}
			if r.Unmarshal(b[:size]) != nil {
				return heardReport{}, false
			}
			h.ssrc = r.SSRC
			h.pick(r.Reports, ours)
		case rtcp.TypeGoodbye:
			h.bye = true
		}
		b = b[size:]
	}
	return h, h.ssrc != 0 || h.sender || h.about || h.bye
}

func (h *heardReport) pick(blocks []rtcp.ReceptionReport, ours uint32) {
	for _, block := range blocks {
		if block.SSRC == ours {
			h.block, h.about = block, true
		}
	}
}

// lost is how many packets of ours the peer misses: 24 bits with a sign, since duplicates count as received
// (RFC 3550 §6.4.1).
func (h *heardReport) lost() int32 { return int32(h.block.TotalLost<<8) >> 8 }

// roundTrip is RFC 3550 §6.4.1's A − LSR − DLSR; 0 when the peer has had no SR of ours.
func (h *heardReport) roundTrip(now time.Time) time.Duration {
	if h.block.LastSenderReport == 0 {
		return 0
	}
	units := int32(uint32(ntp(now)>>16) - h.block.LastSenderReport - h.block.Delay)
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
