package media

import (
	"net/netip"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/hookswitch/hookswitch/edge/media/codec"
	"github.com/hookswitch/hookswitch/edge/media/dtmf"
)

// speak sends this frame's packet, if we send at all, and returns what was said in it. tooLate says that three later
// frames are due in the same tick: then only time passes, and a prompt waits rather than lose a word.
func (l *leg) speak(now time.Time, tooLate bool) *[samplesPerFrame]byte {
	stamp := l.stamp
	l.stamp += uint32(samplesPerFrame)
	frame := (*[samplesPerFrame]byte)(l.packet[rtpHeaderSize:])
	switch {
	case !l.params.Send:
		l.fetch(frame, now)
		return &l.silent
	case tooLate:
		l.stats.LateTicks++
		return &l.silent
	}
	event, state := l.pressKeys(stamp, now)
	switch state {
	case dtmf.Sending:
		copy(frame[:], event.payload[:])
		l.send(rtp.Header{Marker: event.marker, PayloadType: l.params.DTMFPayloadType, Timestamp: event.stamp}, eventPayloadSize)
		return &l.silent
	case dtmf.Gap:
		*frame = l.silent
	default:
		l.fetch(frame, now)
	}
	l.send(rtp.Header{Marker: l.mark, PayloadType: l.params.PayloadType, Timestamp: stamp}, samplesPerFrame)
	l.mark = false
	return frame
}

// fetch fills frame with what the peer is to hear: a prompt, else the room, the bridged leg or those it watches, else
// silence; and what somebody who watches says over all but a prompt.
func (l *leg) fetch(frame *[samplesPerFrame]byte, now time.Time) {
	other := l.peer
	fromPeer := other != nil && other.forPeerOK
	if fromPeer {
		other.forPeerOK = false
		if !l.out.muted {
			l.overhear(other)
		}
	}
	prompted := true
	switch {
	case l.over != nil:
		l.over.take(frame[:], l.params.Codec)
		if l.over.done() {
			l.endPlay(&l.over, Ended, now)
		}
	case l.player != nil:
		l.player.take(frame[:], l.params.Codec)
		if l.player.done() {
			l.endPlay(&l.player, Ended, now)
		}
	case l.out.muted:
		*frame, prompted = l.silent, false
	case l.seat != nil:
		l.seat.hear(frame, l.params.Codec)
	case fromPeer:
		codec.Transcode(frame[:], other.forPeer[:], other.params.Codec, l.params.Codec)
		prompted = false
	case l.watching != nil:
		l.watching.hear(frame, l)
	default:
		*frame = l.silent
		if !l.intrude(frame) {
			return
		}
	}
	if !prompted {
		l.intrude(frame)
	}
	l.out.amplify(frame)
}

// send completes a header, puts it before the payload that is already in place, and sends both.
func (l *leg) send(h rtp.Header, octets int) {
	h.Version, h.SequenceNumber, h.SSRC = rtpVersion, l.sequence, l.ssrc
	l.sequence++
	b := l.packet[:rtpHeaderSize+octets]
	_, err := h.MarshalTo(b)
	if err == nil {
		err = l.rtp.Send(b, l.destination())
	}
	if err != nil {
		l.stats.SendErrors++
		return
	}
	l.stats.PacketsSent++
	l.stats.OctetsSent += uint64(octets)
	l.sinceLast |= 1
}

func (l *leg) destination() netip.AddrPort {
	if l.latch.source.IsValid() {
		return l.latch.source
	}
	return l.params.Remote
}

// sendDigits queues keys, or says at once why not.
func (l *leg) sendDigits(s sending, now time.Time) {
	if s.err == nil && !l.params.DTMF {
		s.err = ErrNoDTMF
	}
	if s.err != nil {
		l.told.emit(Event{Kind: DigitsSent, At: now, Err: s.err})
		return
	}
	l.sendings = append(l.sendings, s)
}

// pressKeys says what this frame is for: keys asked for, then keys passed on from a bridge, then audio (dtmf.Done).
func (l *leg) pressKeys(stamp uint32, now time.Time) (telephoneEvent, dtmf.State) {
	for len(l.sendings) > 0 {
		var err error
		if !l.params.DTMF {
			err = ErrNoDTMF // no longer, since a re-INVITE
		} else if event, state := l.sendings[0].next(stamp); state != dtmf.Done {
			return event, state
		}
		l.sendings = append(l.sendings[:0], l.sendings[1:]...)
		l.told.emit(Event{Kind: DigitsSent, At: now, Err: err})
	}
	if !l.params.DTMF {
		return telephoneEvent{}, dtmf.Done
	}
	event, ok := l.relay.next(stamp)
	if !ok {
		return telephoneEvent{}, dtmf.Done
	}
	return event, dtmf.Sending
}

// scheduleReport sets the time of the next RTCP report, spread so that the legs of a shard do not all report at once.
func (l *leg) scheduleReport(now time.Time, interval time.Duration) {
	l.reportAt = now.Add(interval/2 + time.Duration(l.shard.random.Int64N(int64(interval))))
}

func (l *leg) reportIfDue(now time.Time) {
	if now.Before(l.reportAt) {
		return
	}
	l.scheduleReport(now, rtcpInterval)
	if l.params.Send || l.params.Receive {
		l.sendReport(now, false)
		l.sinceLast <<= 1
	}
}

// sendReport sends SR or RR, our name, and at the end BYE.
func (l *leg) sendReport(now time.Time, bye bool) {
	r := report{
		ssrc:    l.ssrc,
		cname:   l.cname,
		sender:  l.sinceLast&3 != 0,
		now:     now,
		stamp:   l.stamp - uint32(samplesPerFrame), // of the frame that was sent at now
		packets: uint32(l.stats.PacketsSent),
		octets:  uint32(l.stats.OctetsSent),
		heard:   l.source.known,
		bye:     bye,
	}
	if l.source.known {
		r.block = l.source.block(now)
	}
	n := r.put(&l.report)
	to := l.reportDestination()
	port := l.rtcp
	if l.params.RTCPMux {
		port = l.rtp
	}
	if to.IsValid() && port.Send(l.report[:n], to) != nil {
		l.stats.SendErrors++
	}
}

// reportDestination is where RTCP goes: where the peer's comes from; else where the SDP says, unless the audio shows that
// the peer is behind a NAT, whose next port is the best guess.
func (l *leg) reportDestination() netip.AddrPort {
	switch {
	case l.params.RTCPMux:
		return l.destination()
	case l.latch.reports.IsValid():
		return l.latch.reports
	case l.latch.source.IsValid() && l.latch.source.Addr() != l.params.Remote.Addr():
		return netip.AddrPortFrom(l.latch.source.Addr(), l.latch.source.Port()+1)
	case l.params.RemoteRTCP.IsValid():
		return l.params.RemoteRTCP
	case l.params.Remote.IsValid():
		return netip.AddrPortFrom(l.params.Remote.Addr(), l.params.Remote.Port()+1)
	}
	return netip.AddrPort{}
}

// block is the report about what this source sent us.
func (s *source) block(now time.Time) rtcp.ReceptionReport {
	b := rtcp.ReceptionReport{
		SSRC:               s.ssrc,
		FractionLost:       s.reportLoss(),
		TotalLost:          uint32(min(s.lost(), 1<<23-1)),
		LastSequenceNumber: s.highest - 1<<16, // counting began one cycle up
		Jitter:             uint32(s.interarrivalJitter() * SampleRate / time.Second),
	}
	if s.senderReport != 0 {
		b.LastSenderReport = s.senderReport
		b.Delay = uint32(now.Sub(s.senderReportAt) << 16 / time.Second)
	}
	return b
}
