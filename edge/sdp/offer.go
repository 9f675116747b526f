package sdp

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

const (
	defaultPTime           = 20
	minPTime, maxPTime     = 10, 60
	defaultDTMFPayloadType = 101
	profileAVP             = "RTP/AVP"
)

// Offer writes an offer of one audio stream over RTP/AVP with our codecs and telephone events, and every further line of
// Local.Lines refused with port 0. With an empty INVITE the offer goes into the 200 and the answer comes with the ACK.
func Offer(local Local) []byte {
	lines := local.Lines
	if len(lines) == 0 {
		lines = []Line{{Kind: "audio", Proto: profileAVP, Audio: true}}
	}
	formats := make([]Codec, 0, 2)
	for _, id := range local.codecs() {
		formats = append(formats, Codec{ID: id, Name: id.Name(), PayloadType: id.PayloadType(), Rate: id.ClockRate()})
	}
	w := local.writer()
	for _, line := range lines {
		if !line.Audio {
			w.refuse(line)
			continue
		}
		w.audio(local, stanza{
			proto: line.Proto, codecs: formats, dtmf: true, dtmfPayloadType: local.dtmfPayloadType(),
			direction: local.Direction, rtcpMux: local.RTCPMux,
		})
	}
	return w.Bytes()
}

// Answer accepts the audio of an offer with the first of the offer's codecs that is among ours, and refuses every other
// stream with port 0 in its place (RFC 3264 §6). A single codec is answered, so that the peer cannot change it without
// another offer. Without an error, media says what was agreed on; errors are ErrNoAudio, ErrProfile and ErrNoCodec.
func Answer(offer Session, local Local) (answer []byte, media Negotiated, err error) {
	if err := usable(offer.Audio); err != nil {
		return nil, Negotiated{}, err
	}
	remote := *offer.Audio
	chosen, ok := remote.first(local.codecs())
	if !ok {
		return nil, Negotiated{}, fmt.Errorf("%w: offered %s, spoken here %s", ErrNoCodec, remote.codecNames(), names(local.codecs()))
	}
	media = remote.negotiated(chosen, local, offer.Lines)
	media.RecvPayloadType = media.PayloadType
	media.RecvDTMFPayloadType = media.DTMFPayloadType

	w := local.writer()
	for _, line := range offer.Lines {
		if !line.Audio {
			w.refuse(line)
			continue
		}
		w.audio(local, stanza{
			proto: line.Proto, codecs: []Codec{chosen}, dtmf: media.DTMF, dtmfPayloadType: media.DTMFPayloadType,
			direction: media.Direction, rtcpMux: media.RTCPMux,
		})
	}
	return w.Bytes(), media, nil
}

// Accept reads the answer to what Offer wrote for the same Local. Of several codecs in the answer its first of ours is
// the one. Errors: ErrNoAudio when our stream was refused, ErrProfile, and ErrNoCodec when the answer names no codec that
// was offered.
func Accept(answer Session, offered Local) (Negotiated, error) {
	if err := usable(answer.Audio); err != nil {
		return Negotiated{}, err
	}
	remote := *answer.Audio
	chosen, ok := remote.first(offered.codecs())
	if !ok {
		return Negotiated{}, fmt.Errorf("%w: answered %s, offered %s", ErrNoCodec, remote.codecNames(), names(offered.codecs()))
	}
	media := remote.negotiated(chosen, offered, answer.Lines)
	media.RecvPayloadType = media.Codec.PayloadType()
	media.RecvDTMFPayloadType = offered.dtmfPayloadType()
	return media, nil
}

func usable(audio *Media) error {
	switch {
	case audio == nil || audio.Port == 0:
		return ErrNoAudio
	case !plainRTP(audio.Proto):
		return fmt.Errorf("%w: %s", ErrProfile, audio.Proto)
	}
	return nil
}

// first is the first of the stream's codecs that is in ours.
func (m Media) first(ours []codec.ID) (Codec, bool) {
	for _, c := range m.Codecs {
		for _, id := range ours {
			if c.ID == id && id.Valid() {
				return c, true
			}
		}
	}
	return Codec{}, false
}

// negotiated is what follows from the peer's stream, the codec chosen and our side; the payload types that we receive
// depend on who offered and are the caller's to set.
func (m Media) negotiated(chosen Codec, local Local, lines []Line) Negotiated {
	n := Negotiated{
		Codec: chosen.ID, PayloadType: chosen.PayloadType,
		DTMF: m.DTMF, DTMFPayloadType: m.DTMFPayloadType,
		RTCPMux:   m.RTCPMux && local.RTCPMux,
		Direction: local.Direction.And(m.Direction.Reverse()),
		PTime:     m.packetTime(),
		Lines:     lines,
	}
	if m.Addr.IsUnspecified() {
		return n
	}
	n.Remote = netip.AddrPortFrom(m.Addr, m.Port)
	n.RTCP = m.RTCP
	if n.RTCPMux {
		n.RTCP = n.Remote
	}
	return n
}

// packetTime is what the peer asked for, kept to whole 10 ms between 10 and 60 and under its maximum.
func (m Media) packetTime() int {
	ms := m.PTime
	if ms == 0 {
		ms = defaultPTime
	}
	if m.MaxPTime > 0 {
		ms = min(ms, m.MaxPTime)
	}
	return max(minPTime, min(maxPTime, ms/10*10))
}

func (m Media) codecNames() string {
	if len(m.Codecs) == 0 {
		return "none"
	}
	list := make([]string, 0, len(m.Codecs))
	for _, c := range m.Codecs {
		if c.Name == "" {
			list = append(list, fmt.Sprintf("payload type %d", c.PayloadType))
			continue
		}
		list = append(list, fmt.Sprintf("%.20q/%d", c.Name, c.Rate))
	}
	return strings.Join(list, ", ")
}

func names(ids []codec.ID) string {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, id.Name())
	}
	return strings.Join(list, ", ")
}

func (l Local) codecs() []codec.ID {
	if len(l.Codecs) > 0 {
		return l.Codecs
	}
	return []codec.ID{codec.PCMU, codec.PCMA}
}

func (l Local) dtmfPayloadType() uint8 {
	if l.DTMFPayloadType != 0 {
		return l.DTMFPayloadType
	}
	return defaultDTMFPayloadType
}

func (l Local) ptime() int {
	if l.PTime != 0 {
		return l.PTime
	}
	return defaultPTime
}
