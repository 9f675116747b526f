package media

import (
	"net/netip"
	"time"

	"github.com/pion/rtp"
)

// latch remembers where a peer's packets come from.
//
// The first valid packet decides (RFC 4961 and every NAT between), since the SDP may name a private address. Should it
// not come from the address in the SDP, then for two seconds the first that does takes its place: a stranger may have
// been quicker than the peer. After that only signalling opens the latch again, so nobody can steal a running call.
type latch struct {
	remote  netip.AddrPort // from the SDP
	source  netip.AddrPort // decided; the zero value is open
	since   time.Time      // source was decided
	reports netip.AddrPort // where RTCP comes from
}

const latchDoubt = 2 * time.Second

func (a *latch) open(remote netip.AddrPort) { *a = latch{remote: remote} }

// admits reports whether a packet may be from the peer, without deciding anything.
func (a *latch) admits(from netip.AddrPort, now time.Time) bool {
	return !a.source.IsValid() || from == a.source || a.doubts(from, now)
}

// doubts reports whether a packet from the signalled address comes in time to take over from another one: from the
// very port, or from the host when it is not that host that is latched. So a late packet from where the audio was
// before a re-INVITE does not keep the new source out.
func (a *latch) doubts(from netip.AddrPort, now time.Time) bool {
	better := from == a.remote || (a.source.Addr() != a.remote.Addr() && from.Addr() == a.remote.Addr())
	return a.source != a.remote && better && now.Sub(a.since) < latchDoubt
}

// drain reads what has arrived, up to a bound; the rest waits in the socket for the next frame.
func (l *leg) drain(now time.Time, late bool) {
	limit := maxRecv
	if late {
		limit = maxLateRecv
	}
	buffer := l.shard.buffer[:]
	for range limit {
		n, from, ok := l.rtp.Recv(buffer)
		if !ok {
			break
		}
		from = unmapped(from)
		if isRTCP(buffer[:n]) {
			l.hearReport(buffer[:n], from, now)
			continue
		}
		l.hear(buffer[:n], from, now)
	}
	for range maxRTCPRecv {
		n, from, ok := l.rtcp.Recv(buffer)
		if !ok {
			break
		}
		l.hearReport(buffer[:n], unmapped(from), now)
	}
}

// hear takes one packet from the RTP port.
func (l *leg) hear(b []byte, from netip.AddrPort, now time.Time) {
	if !l.configured || !l.params.Receive {
		l.stats.Discarded++
		return
	}
	if !l.latch.admits(from, now) {
		l.stats.Stranger++
		return
	}
	h := &l.shard.header
	payload, ok := parseRTP(h, b)
	if !ok {
		l.stats.Malformed++
		return
	}
	isDTMF := l.params.DTMF && h.PayloadType == l.params.DTMFPayloadType
	if !isDTMF && h.PayloadType != l.params.PayloadType {
		l.stats.UnknownPT++
		return
	}
	if from != l.latch.source {
		l.latch.source, l.latch.since = from, now
		l.stats.Source = from
	}
	place, ok := l.place(h)
	if !ok {
		return
	}
	l.stats.PacketsReceived++
	l.stats.OctetsReceived += uint64(len(payload))
	l.heardAt, l.timedOut = now, false
	if !l.heardEver {
		l.heardEver = true
		l.told.emit(Event{Kind: FirstPacket, At: now})
	}
	if isDTMF {
		l.hearKey(payload, h, now)
		return
	}
	l.source.arrive(h.Timestamp, l.arrival(now))
	switch l.jitter.put(h.Timestamp, payload, place == newest, h.Marker) {
	case late, outside:
		l.stats.Late++
	case jumped:
		l.stats.Resets++
	}
}

// place counts a packet in its stream; ok is false when it is to be dropped.
func (l *leg) place(h *rtp.Header) (place order, ok bool) {
	if !l.source.known || l.source.ssrc != h.SSRC {
		if l.source.known {
			l.stats.Resets++
			l.lostBefore += l.source.lost()
			l.jitter.reset()
			l.keys.Reset()
		}
		l.source.begin(h.SSRC, h.SequenceNumber)
		return newest, true
	}
	switch place = l.source.count(h.SequenceNumber); place {
	case duplicate:
		l.stats.Duplicate++
		return place, false
	case astray:
		l.stats.Late++
		return place, false
	case reordered:
		l.stats.Reordered++
	case restarted:
		l.stats.Resets++
		l.lostBefore += l.source.lost()
		l.source.beginSequence(h.SequenceNumber)
		l.jitter.reset()
		place = newest
	}
	return place, true
}

// arrival is when the packet just read reached the machine, as well as the port can tell.
func (l *leg) arrival(now time.Time) time.Time {
	if l.arrivals != nil {
		if at := l.arrivals.Arrived(); !at.IsZero() {
			return at
		}
	}
	return now
}

// hearKey takes a telephone-event packet.
func (l *leg) hearKey(payload []byte, h *rtp.Header, now time.Time) {
	digit, pressed := l.keys.Packet(payload, h.Timestamp, h.Marker)
	if pressed && l.keys.Down() {
		l.releaseKey(now) // of the key before, whose own end was lost
	}
	if pressed {
		l.told.emit(Event{Kind: Digit, At: now, Digit: digit, Source: SourceRTP})
		if l.relays() {
			l.peer.relay.press(digit)
		}
	}
	l.releaseKey(now)
}

// releaseKey tells the release of a key, if there was one.
func (l *leg) releaseKey(now time.Time) {
	digit, held, over := l.keys.Ended()
	if !over {
		return
	}
	l.told.emit(Event{Kind: DigitEnd, At: now, Digit: digit, Source: SourceRTP, Duration: duration(int64(held))})
	if l.relays() {
		l.peer.relay.release(digit, held)
	}
}

// relays reports whether keys received here are to be pressed on the other side.
func (l *leg) relays() bool { return l.peer != nil && l.peer.configured && l.peer.params.DTMF }

// hearReport takes an RTCP packet. It is believed only from the host that sends the audio.
func (l *leg) hearReport(b []byte, from netip.AddrPort, now time.Time) {
	if !l.configured {
		l.stats.Discarded++
		return
	}
	host := l.latch.source.Addr()
	if !host.IsValid() {
		host = l.latch.remote.Addr()
	}
	if from.Addr() != host {
		l.stats.Stranger++
		return
	}
	h, ok := parseRTCP(b, l.ssrc, &l.shard.blocks)
	if !ok {
		l.stats.Malformed++
		return
	}
	l.latch.reports = from
	if h.sender && h.ssrc == l.source.ssrc {
		l.source.senderReport, l.source.senderReportAt = h.senderNTP, now
	}
	if h.about {
		l.stats.RemoteLost = uint64(max(0, h.lost()))
		l.stats.RemoteLoss = float64(h.block.FractionLost) / 256
		if rtt := h.roundTrip(now); rtt > 0 {
			l.stats.RTT = rtt
		}
	}
}
