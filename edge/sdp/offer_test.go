package sdp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func ours() Local {
	return Local{Addr: netip.MustParseAddr("203.0.113.5"), Port: 10000, SessionID: 42, Version: 7}
}

func answer(t *testing.T, offer string, local Local) (string, Negotiated) {
	t.Helper()
	text, media, err := Answer(parse(t, offer), local)
	if err != nil {
		t.Fatalf("%v\n%s", err, offer)
	}
	return string(text), media
}

func TestOfferAsWritten(t *testing.T) {
	const want = "v=0\r\n" +
		"o=- 42 7 IN IP4 203.0.113.5\r\n" +
		"s=-\r\n" +
		"c=IN IP4 203.0.113.5\r\n" +
		"t=0 0\r\n" +
		"m=audio 10000 RTP/AVP 0 8 101\r\n" +
		"a=rtpmap:0 PCMU/8000\r\n" +
		"a=rtpmap:8 PCMA/8000\r\n" +
		"a=rtpmap:101 telephone-event/8000\r\n" +
		"a=fmtp:101 0-15\r\n" +
		"a=ptime:20\r\n" +
		"a=sendrecv\r\n"
	if got := string(Offer(ours())); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestOfferFollowsLocal(t *testing.T) {
	local := ours()
	local.Addr = netip.MustParseAddr("2001:db8::5")
	local.Codecs = []codec.ID{codec.PCMA}
	local.Direction = SendOnly
	local.PTime = 30
	local.DTMFPayloadType = 96
	local.RTCPMux = true
	text := string(Offer(local))
	for _, line := range []string{
		"o=- 42 7 IN IP6 2001:db8::5", "c=IN IP6 2001:db8::5", "m=audio 10000 RTP/AVP 8 96", "a=rtpmap:96 telephone-event/8000",
		"a=ptime:30", "a=rtcp-mux", "a=sendonly",
	} {
		if !strings.Contains(text, "\r\n"+line+"\r\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func TestAnswerAsWritten(t *testing.T) {
	text, media := answer(t, linphoneOffer, ours())
	const want = "v=0\r\n" +
		"o=- 42 7 IN IP4 203.0.113.5\r\n" +
		"s=-\r\n" +
		"c=IN IP4 203.0.113.5\r\n" +
		"t=0 0\r\n" +
		"m=audio 10000 RTP/AVPF 0 100\r\n" +
		"a=rtpmap:0 PCMU/8000\r\n" +
		"a=rtpmap:100 telephone-event/8000\r\n" +
		"a=fmtp:100 0-15\r\n" +
		"a=ptime:20\r\n" +
		"a=sendrecv\r\n" +
		"m=video 0 RTP/AVPF 96\r\n"
	if text != want {
		t.Errorf("got\n%s", text)
	}
	if media.Codec != codec.PCMU || media.PayloadType != 0 || media.RecvPayloadType != 0 || !media.DTMF ||
		media.DTMFPayloadType != 100 || media.RecvDTMFPayloadType != 100 || media.Direction != SendRecv || media.PTime != 20 ||
		media.Remote.String() != "192.0.2.30:7078" || media.RTCP.String() != "192.0.2.30:7079" || media.RTCPMux {
		t.Errorf("negotiated %+v", media)
	}
}

func TestAnswerTakesTheOfferersFirstCodecThatIsOurs(t *testing.T) {
	onlyPCMU := ours()
	onlyPCMU.Codecs = []codec.ID{codec.PCMU}
	for _, c := range []struct {
		name, offer string
		local       Local
		want        codec.ID
		payloadType uint8
	}{
		{"PCMA alone", sippOffer, ours(), codec.PCMA, 8},
		{"PCMA before PCMU", imsOffer, ours(), codec.PCMA, 8},
		{"PCMA not allowed here", imsOffer, onlyPCMU, codec.PCMU, 0},
		{"PCMU before PCMA", baresipOffer, ours(), codec.PCMU, 0},
		{"dynamic payload type", "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 97 0\na=rtpmap:97 PCMA/8000", ours(), codec.PCMA, 97},
		{"static number for something else", "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0 8\na=rtpmap:0 opus/48000/2", ours(), codec.PCMA, 8},
	} {
		text, media := answer(t, c.offer, c.local)
		if media.Codec != c.want || media.PayloadType != c.payloadType {
			t.Errorf("%s: negotiated %s as %d", c.name, media.Codec, media.PayloadType)
		}
		if got := parse(t, text).Audio.Codecs; len(got) != 1 || got[0].ID != c.want || got[0].PayloadType != c.payloadType {
			t.Errorf("%s: answered %+v", c.name, got)
		}
	}
}

func TestAnswerOffersTelephoneEventsOnlyWhenOffered(t *testing.T) {
	text, media := answer(t, tortuousOffer, ours())
	if media.DTMF || strings.Contains(text, "telephone-event") {
		t.Errorf("%+v\n%s", media, text)
	}
	_, media = answer(t, "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/48000", ours())
	if media.DTMF {
		t.Error("telephone events of another clock were taken")
	}
}

func TestAnswerRefusesEveryOtherStreamInItsPlace(t *testing.T) {
	text, media := answer(t, "v=0\nc=IN IP4 192.0.2.1\nm=video 5000 RTP/AVP 31 32\nm=audio 4000 RTP/AVP 0\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\nm=audio 4004 RTP/AVP 8", ours())
	lines := parse(t, text).Lines
	want := []Line{
		{Kind: "video", Proto: "RTP/AVP", Formats: "31 32"},
		{Kind: "audio", Proto: "RTP/AVP", Formats: "0", Audio: true},
		{Kind: "application", Proto: "UDP/DTLS/SCTP", Formats: "webrtc-datachannel"},
		{Kind: "audio", Proto: "RTP/AVP", Formats: "8"},
	}
	if !slices.Equal(lines, want) || !slices.Equal(media.Lines, want) {
		t.Errorf("answered %+v, kept %+v", lines, media.Lines)
	}
	if strings.Count(text, "m=") != 4 || strings.Count(text, " 0 RTP") != 2 || !strings.Contains(text, "m=application 0 ") {
		t.Errorf("got\n%s", text)
	}
}

func TestReOfferRepeatsEveryStreamInItsPlace(t *testing.T) {
	_, media := answer(t, "v=0\nc=IN IP4 192.0.2.1\nm=video 5000 RTP/AVP 31\nm=audio 4000 RTP/AVPF 0 96\na=rtpmap:96 telephone-event/8000", ours())
	local := ours()
	local.Version++
	local.Direction = SendOnly
	local.Lines = media.Lines
	local.DTMFPayloadType = media.DTMFPayloadType
	text := string(Offer(local))
	session := parse(t, text)
	if len(session.Lines) != 2 || session.Lines[0].Kind != "video" || !session.Lines[1].Audio || session.Lines[1].Proto != "RTP/AVPF" {
		t.Errorf("got\n%s", text)
	}
	if session.Origin.ID != "42" || session.Origin.Version != "8" || session.Audio.DTMFPayloadType != 96 || session.Audio.Direction != SendOnly {
		t.Errorf("got\n%s", text)
	}
}

func TestAnswerRefusesWhatCannotBecomeACall(t *testing.T) {
	const head = "v=0\nc=IN IP4 192.0.2.1\n"
	for name, c := range map[string]struct {
		offer string
		want  error
		says  string
	}{
		"no common codec":  {head + "m=audio 4000 RTP/AVP 18 97 98\na=rtpmap:97 opus/48000/2", ErrNoCodec, `offered "G729"/8000, "opus"/48000, payload type 98, spoken here PCMU, PCMA`},
		"events alone":     {head + "m=audio 4000 RTP/AVP 101\na=rtpmap:101 telephone-event/8000", ErrNoCodec, "offered none"},
		"fax alone":        {faxOffer, ErrNoAudio, ""},
		"no stream":        {head, ErrNoAudio, ""},
		"audio refused":    {head + "m=audio 0 RTP/AVP 0", ErrNoAudio, ""},
		"a browser":        {chromiumOffer, ErrProfile, "UDP/TLS/RTP/SAVPF"},
		"SRTP alone":       {head + "m=audio 4000 RTP/SAVP 0", ErrProfile, "RTP/SAVP"},
		"no address there": {"v=0\nm=audio 4000 RTP/SAVPF 0", ErrProfile, ""},
	} {
		text, _, err := Answer(parse(t, c.offer), ours())
		if text != nil || !errors.Is(err, c.want) || !errors.Is(err, ErrNotAcceptable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnswerUsesPlainStreamBesideSecureOne(t *testing.T) {
	text, media := answer(t, srtpThenPlainOffer, ours())
	if !strings.Contains(text, "m=audio 0 RTP/SAVP 0 8\r\nm=audio 10000 RTP/AVP 0\r\n") || media.Remote.Port() != 20002 {
		t.Errorf("%+v\n%s", media, text)
	}
}

func TestHoldAndResume(t *testing.T) {
	for _, c := range []struct {
		name, connection, attribute string
		want                        Direction
		sendTo                      string
	}{
		{"talk", "IP4 192.0.2.1", "", SendRecv, "192.0.2.1:4000"},
		{"hold", "IP4 192.0.2.1", "a=sendonly", RecvOnly, "192.0.2.1:4000"},
		{"hold without music", "IP4 192.0.2.1", "a=inactive", Inactive, "192.0.2.1:4000"},
		{"hold of RFC 2543", "IP4 0.0.0.0", "", RecvOnly, "invalid AddrPort"},
		{"both holds", "IP4 0.0.0.0", "a=sendonly", RecvOnly, "invalid AddrPort"},
		{"peer listens only", "IP4 192.0.2.1", "a=recvonly", SendOnly, "192.0.2.1:4000"},
		{"resume", "IP4 192.0.2.1", "a=sendrecv", SendRecv, "192.0.2.1:4000"},
	} {
		text, media := answer(t, "v=0\nc=IN "+c.connection+"\nm=audio 4000 RTP/AVP 0\n"+c.attribute, ours())
		if media.Direction != c.want || media.Remote.String() != c.sendTo || media.RTCP.IsValid() != media.Remote.IsValid() {
			t.Errorf("%s: negotiated %+v", c.name, media)
		}
		if got := parse(t, text).Audio.Direction; got != c.want {
			t.Errorf("%s: answered %s", c.name, got)
		}
	}
}

func TestOurOwnHoldNarrowsTheAnswer(t *testing.T) {
	for _, c := range []struct{ offered, local, want Direction }{
		{SendRecv, SendOnly, SendOnly}, {SendOnly, SendOnly, Inactive}, {RecvOnly, SendRecv, SendOnly}, {SendRecv, Inactive, Inactive},
	} {
		local := ours()
		local.Direction = c.local
		_, media := answer(t, audio("a="+c.offered.String()), local)
		if media.Direction != c.want {
			t.Errorf("offered %s, ours %s: %s", c.offered, c.local, media.Direction)
		}
	}
}

func TestPacketTimeIsWhatThePeerWantsWithinReason(t *testing.T) {
	for lines, want := range map[string]int{
		"": 20, "a=ptime:30": 30, "a=ptime:10": 10, "a=ptime:5": 10, "a=ptime:45": 40, "a=ptime:200": 60, "a=ptime:0": 20, "a=ptime:x": 20,
		"a=ptime:NaN": 20, "a=maxptime:10": 10, "a=ptime:60\na=maxptime:40": 40, "a=maxptime:150": 20, "a=ptime:1e9": 20,
	} {
		if _, media := answer(t, audio(lines), ours()); media.PTime != want {
			t.Errorf("%q: %d ms, want %d", lines, media.PTime, want)
		}
	}
}

func TestRTCPSharesThePortOnlyWhenBothSaySo(t *testing.T) {
	mux := ours()
	mux.RTCPMux = true
	text, media := answer(t, audio("a=rtcp-mux"), mux)
	if !media.RTCPMux || media.RTCP != media.Remote || !strings.Contains(text, "a=rtcp-mux") {
		t.Errorf("%+v\n%s", media, text)
	}
	if text, media := answer(t, audio("a=rtcp-mux"), ours()); media.RTCPMux || strings.Contains(text, "rtcp-mux") {
		t.Errorf("%+v\n%s", media, text)
	}
	if text, media := answer(t, audio(), mux); media.RTCPMux || strings.Contains(text, "rtcp-mux") || media.RTCP.Port() != 4001 {
		t.Errorf("%+v\n%s", media, text)
	}
}

func TestAcceptReadsTheAnswerToOurOffer(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		local        Local
		want         Negotiated
	}{
		{
			"plain", audio("a=rtpmap:101 telephone-event/8000"), ours(),
			Negotiated{Codec: codec.PCMU, DTMF: true, DTMFPayloadType: 101, RecvDTMFPayloadType: 101, PTime: 20},
		},
		{
			"numbers of its own", "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 96 97\na=rtpmap:96 PCMA/8000\na=rtpmap:97 telephone-event/8000", ours(),
			Negotiated{Codec: codec.PCMA, PayloadType: 96, RecvPayloadType: 8, DTMF: true, DTMFPayloadType: 97, RecvDTMFPayloadType: 101, PTime: 20},
		},
		{
			"both codecs, no events", "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 8 0\na=recvonly", ours(),
			Negotiated{Codec: codec.PCMA, PayloadType: 8, RecvPayloadType: 8, RecvDTMFPayloadType: 101, Direction: SendOnly, PTime: 20},
		},
		{
			"our hold", audio("a=recvonly"), Local{Direction: SendOnly, DTMFPayloadType: 96},
			Negotiated{Codec: codec.PCMU, RecvDTMFPayloadType: 96, Direction: SendOnly, PTime: 20},
		},
		{
			"our hold answered as if there were none", audio("a=sendrecv"), Local{Direction: SendOnly},
			Negotiated{Codec: codec.PCMU, RecvDTMFPayloadType: 101, Direction: SendOnly, PTime: 20},
		},
	} {
		got, err := Accept(parse(t, c.answer), c.local)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got.Remote.String() != "192.0.2.1:4000" || got.RTCP.String() != "192.0.2.1:4001" || len(got.Lines) != 1 {
			t.Errorf("%s: %+v", c.name, got)
		}
		got.Remote, got.RTCP, got.Lines = netip.AddrPort{}, netip.AddrPort{}, nil
		if !sameMedia(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func sameMedia(a, b Negotiated) bool {
	return a.Codec == b.Codec && a.PayloadType == b.PayloadType && a.RecvPayloadType == b.RecvPayloadType && a.DTMF == b.DTMF &&
		a.DTMFPayloadType == b.DTMFPayloadType && a.RecvDTMFPayloadType == b.RecvDTMFPayloadType && a.Direction == b.Direction &&
		a.PTime == b.PTime && a.RTCPMux == b.RTCPMux
}

func TestAcceptRefusesAnswersThatRefuseUs(t *testing.T) {
	const head = "v=0\nc=IN IP4 192.0.2.1\n"
	for text, want := range map[string]error{
		head + "m=audio 0 RTP/AVP 0":     ErrNoAudio,
		head:                             ErrNoAudio,
		head + "m=audio 4000 RTP/AVP 18": ErrNoCodec,
		head + "m=audio 4000 RTP/SAVP 0": ErrProfile,
	} {
		if _, err := Accept(parse(t, text), ours()); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestBothEndsAgree(t *testing.T) {
	caller := Local{Addr: netip.MustParseAddr("2001:db8::1"), Port: 5000, SessionID: 1, Version: 1, Codecs: []codec.ID{codec.PCMA, codec.PCMU}, RTCPMux: true}
	callee := Local{Addr: netip.MustParseAddr("2001:db8::2"), Port: 6000, SessionID: 2, Version: 1, RTCPMux: true, Direction: RecvOnly}
	text, far := answer(t, string(Offer(caller)), callee)
	near, err := Accept(parse(t, text), caller)
	if err != nil {
		t.Fatal(err)
	}
	if near.Codec != codec.PCMA || far.Codec != codec.PCMA || near.Direction != SendOnly || far.Direction != RecvOnly {
		t.Errorf("near %+v\nfar %+v", near, far)
	}
	if near.Remote.String() != "[2001:db8::2]:6000" || far.Remote.String() != "[2001:db8::1]:5000" || near.RTCP != near.Remote || !near.DTMF || !far.DTMF {
		t.Errorf("near %+v\nfar %+v", near, far)
	}
}

func BenchmarkAnswer(b *testing.B) {
	offer, err := Parse(wire(imsOffer))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := Answer(offer, ours()); err != nil {
			b.Fatal(err)
		}
	}
}
