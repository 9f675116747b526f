package sdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

func parse(t *testing.T, text string) Session {
	t.Helper()
	session, err := Parse(wire(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return session
}

// describe writes down what the audio stream says, in one line.
func describe(m *Media) string {
	if m == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", netip.AddrPortFrom(m.Addr, m.Port), m.Proto)
	for _, c := range m.Codecs {
		fmt.Fprintf(&b, " %d=%s/%d", c.PayloadType, c.Name, c.Rate)
		if c.ID.Valid() {
			b.WriteByte('!')
		}
	}
	if m.DTMF {
		fmt.Fprintf(&b, " dtmf=%d", m.DTMFPayloadType)
	}
	fmt.Fprintf(&b, " %s ptime=%d/%d rtcp=%s", m.Direction, m.PTime, m.MaxPTime, m.RTCP)
	if m.RTCPMux {
		b.WriteString(" mux")
	}
	return b.String()
}

func TestParseReadsWhatPeersSend(t *testing.T) {
	for name, want := range map[string]string{
		"SIPp":    "192.0.2.10:6000 RTP/AVP 8=PCMA/8000! dtmf=101 sendrecv ptime=0/0 rtcp=192.0.2.10:6001",
		"baresip": "192.0.2.20:16452 RTP/AVP 96=opus/48000 97=G722/8000 0=PCMU/8000! 8=PCMA/8000! dtmf=101 sendrecv ptime=20/0 rtcp=192.0.2.20:16453",
		"linphone": "192.0.2.30:7078 RTP/AVPF 96=opus/48000 97=speex/16000 98=speex/8000 0=PCMU/8000! 8=PCMA/8000! 18=G729/8000 dtmf=100 " +
			"sendrecv ptime=0/0 rtcp=192.0.2.30:7079",
		"Chromium": "invalid AddrPort UDP/TLS/RTP/SAVPF 111=opus/48000 63=red/48000 9=G722/8000 0=PCMU/8000! 8=PCMA/8000! 13=CN/8000 dtmf=126 " +
			"sendrecv ptime=0/0 rtcp=invalid AddrPort mux",
		"IMS": "198.51.100.9:31872 RTP/AVP 104=AMR-WB/16000 102=AMR/8000 8=PCMA/8000! 0=PCMU/8000! 18=G729/8000 dtmf=100 " +
			"sendrecv ptime=20/40 rtcp=198.51.100.9:31873",
		"ZTE":            "[2001:db8:1::9]:50000 RTP/AVP 8=PCMA/8000! dtmf=97 sendrecv ptime=20/0 rtcp=[2001:db8:1::9]:50001",
		"RFC 4475":       "192.0.2.4:49217 RTP/AVP 0=PCMU/8000! 12=QCELP/8000 sendrecv ptime=0/0 rtcp=192.0.2.4:49218",
		"RFC 3264":       "192.0.2.40:49170 RTP/AVP 0=PCMU/8000! sendrecv ptime=0/0 rtcp=192.0.2.40:49171",
		"SRTP and plain": "192.0.2.50:20002 RTP/AVP 0=PCMU/8000! 8=PCMA/8000! sendrecv ptime=0/0 rtcp=192.0.2.50:20003",
		"fax":            "none",
	} {
		if got := describe(parse(t, everySample()[name]).Audio); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestParseKeepsOriginAndEveryLine(t *testing.T) {
	session := parse(t, linphoneOffer)
	if want := (Origin{Username: "alice", ID: "1235", Version: "2044", Addr: "192.0.2.30"}); session.Origin != want {
		t.Errorf("origin %+v", session.Origin)
	}
	want := []Line{
		{Kind: "audio", Proto: "RTP/AVPF", Formats: "96 97 98 0 8 18 101 99 100", Audio: true},
		{Kind: "video", Proto: "RTP/AVPF", Formats: "96"},
	}
	if !slices.Equal(session.Lines, want) {
		t.Errorf("lines %+v", session.Lines)
	}
}

// audio is a description with one audio stream and further lines.
func audio(lines ...string) string {
	return "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0 101\n" + strings.Join(lines, "\n")
}

func TestParseForgivesHarmlessMistakes(t *testing.T) {
	plain := describe(parse(t, audio("a=rtpmap:101 telephone-event/8000", "a=ptime:30", "a=recvonly")).Audio)
	for name, body := range map[string]string{
		"LF alone":      audio("a=rtpmap:101 telephone-event/8000", "a=ptime:30", "a=recvonly"),
		"blank lines":   "\r\n" + strings.ReplaceAll(audio("a=rtpmap:101 telephone-event/8000", "a=ptime:30", "a=recvonly"), "\n", "\r\n\r\n"),
		"CR CR LF":      strings.ReplaceAll(audio("a=rtpmap:101 telephone-event/8000", "a=ptime:30", "a=recvonly"), "\n", "\r\r\n"),
		"stray spaces":  "v=0 \n o=- 1 1 IN IP4 192.0.2.1\ns= \nc= IN  IP4\t192.0.2.1 \nt=0 0\nm=audio  4000\tRTP/AVP 0  101 \na=rtpmap: 101  telephone-event / 8000\na= ptime: 30\na=recvonly ",
		"only the need": "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0 101\na=rtpmap:101 TELEPHONE-EVENT/8000\na=ptime:30.0\na=RecvOnly",
		"odd lines":     audio("a=rtpmap:101 telephone-event/8000", "x=y", "i=", "a=", "a=:", "a=rtpmap:", "a=rtpmap:300 x/1", "a=rtpmap:0", "a=ptime:30", "a=recvonly", "b=AS:x", "k=clear:a"),
		"first rtpmap":  audio("a=rtpmap:101 telephone-event/8000", "a=rtpmap:101 opus/48000/2", "a=ptime:30", "a=recvonly"),
	} {
		session, err := Parse([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := describe(session.Audio); got != plain {
			t.Errorf("%s\n got %s\nwant %s", name, got, plain)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for name, c := range map[string]struct{ body, saying string }{
		"nothing":          {"", "it is empty"},
		"blank":            {"\r\n \r\n", "it is empty"},
		"HTML":             {"<html>", "line 1"},
		"no version":       {"o=- 1 1 IN IP4 192.0.2.1\n", "does not start with v=0"},
		"version 1":        {"v=1\n", "does not start with v=0"},
		"no equals sign":   {"v=0\nfoo\n", `line 2, "foo"`},
		"two letters":      {"v=0\nab=c\n", "line 2"},
		"short m=":         {"v=0\nm=audio 4000\n", "needs a kind, a port"},
		"port too big":     {"v=0\nm=audio 65536 RTP/AVP 0\n", `port "65536"`},
		"port negative":    {"v=0\nm=audio -1 RTP/AVP 0\n", `port "-1"`},
		"binary":           {"v=0\nm=audio 1 RTP/AVP 0\x00\n", "printable"},
		"not ASCII":        {"v=0\nm=vidéo 1 RTP/AVP 0\n", "printable"},
		"no address":       {"v=0\nm=audio 4000 RTP/AVP 0\n", "no c= line"},
		"host name":        {"v=0\nc=IN IP4 media.example.com\nm=audio 4000 RTP/AVP 0\n", "not an IP address; host names are not looked up"},
		"empty address":    {"v=0\nc=IN IP4\nm=audio 4000 RTP/AVP 0\n", "not of the form"},
		"ATM":              {"v=0\nc=ATM NSAP 47\nm=audio 4000 RTP/AVP 0\n", "not of the form"},
		"multicast":        {"v=0\nc=IN IP4 224.2.1.1/127\nm=audio 4000 RTP/AVP 0\n", "not of one host"},
		"broadcast":        {"v=0\nc=IN IP4 255.255.255.255\nm=audio 4000 RTP/AVP 0\n", "not of one host"},
		"zone":             {"v=0\nc=IN IP6 fe80::1%eth0\nm=audio 4000 RTP/AVP 0\n", "zone"},
		"rtcp port":        {audio("a=rtcp:x"), "a=rtcp port"},
		"rtcp host":        {audio("a=rtcp:4 IN IP4 example.com"), "a=rtcp"},
		"nine streams":     {"v=0\n" + many(9, "m=video 1 RTP/AVP 31\n"), "more than 8 m= lines"},
		"33 formats":       {"v=0\nm=audio 1 RTP/AVP" + many(33, " 0") + "\n", "33 formats"},
		"too long a body":  {"v=0\n" + many(MaxBytes, "\n"), "at most 65536"},
		"endless line cut": {"v=0\n" + many(60000, "z"), "line 2"},
	} {
		_, err := Parse([]byte(c.body))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.saying) || len(err.Error()) > 400 {
			t.Errorf("%s: %v, want it to say %q", name, err, c.saying)
		}
	}
}

func TestParseTakesTheStreamsOwnLinesOverTheSessions(t *testing.T) {
	session := parse(t, `v=0
c=IN IP4 192.0.2.1
a=sendonly
a=ptime:40
m=audio 4000 RTP/AVP 0
c=IN IP4 192.0.2.2
a=sendrecv
m=video 4002 RTP/AVP 31
c=IN IP4 video.example.com
`)
	if got := session.Audio; got.Addr != netip.MustParseAddr("192.0.2.2") || got.Direction != SendRecv || got.PTime != 40 {
		t.Errorf("got %s", describe(got))
	}
	if got := parse(t, "v=0\nc=IN IP4 192.0.2.1\na=inactive\nm=audio 4000 RTP/AVP 0").Audio; got.Direction != Inactive {
		t.Errorf("got %s", describe(got))
	}
}

func TestParseReadsAddressesOfBothFamilies(t *testing.T) {
	for connection, want := range map[string]string{
		"IN IP4 192.0.2.7":          "192.0.2.7",
		"IN IP6 2001:db8::7":        "2001:db8::7",
		"IN IP4 2001:db8::7":        "2001:db8::7",
		"IN IP6 ::ffff:192.0.2.7":   "192.0.2.7",
		"in ip6 [2001:db8::7]":      "2001:db8::7",
		"IN IP4 192.0.2.7 trailing": "192.0.2.7",
	} {
		got := parse(t, "v=0\nc="+connection+"\nm=audio 4000 RTP/AVP 0").Audio
		if got.Addr.String() != want {
			t.Errorf("%s is %s", connection, got.Addr)
		}
	}
}

func TestParseChoosesTheStreamThatCanBeUsed(t *testing.T) {
	const head = "v=0\nc=IN IP4 192.0.2.1\n"
	for lines, want := range map[string]uint16{
		"m=audio 1 RTP/AVP 18\nm=audio 2 RTP/AVP 0\nm=audio 3 RTP/AVP 0":     2,
		"m=audio 0 RTP/AVP 0\nm=audio 2 RTP/AVP 18":                          2,
		"m=audio 1 RTP/SAVP 0\nm=audio 2 RTP/AVPF 18":                        2,
		"m=audio 1 RTP/SAVP 0\nm=audio 0 RTP/AVP 0":                          1,
		"m=video 1 RTP/AVP 31\nm=AUDIO 2 rtp/avp 0\nm=application 3 TCP/x y": 2,
	} {
		if got := parse(t, head+lines).Audio; got == nil || got.Port != want {
			t.Errorf("%q: %s", lines, describe(got))
		}
	}
}

func TestParseKnowsACodecOnlyAtItsRate(t *testing.T) {
	for encoding, want := range map[string]codec.ID{
		"PCMU/8000": codec.PCMU, "pcma/8000/1": codec.PCMA, "PCMA": codec.PCMA,
		"PCMU/16000": 0, "PCMA/8000/2": 0, "PCMU/x": 0, "L16/8000": 0, "PCMU/": 0,
	} {
		got := parse(t, "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 97\na=rtpmap:97 "+encoding).Audio
		if len(got.Codecs) != 1 || got.Codecs[0].ID != want {
			t.Errorf("%s: %s", encoding, describe(got))
		}
	}
	unknown := parse(t, "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 97 128 * 0").Audio
	if got := unknown.Codecs; len(got) != 2 || got[0] != (Codec{PayloadType: 97}) || got[1].ID != codec.PCMU {
		t.Errorf("got %+v", got)
	}
}

func TestParseHoldByAddressTakesAwayReceiving(t *testing.T) {
	for _, c := range []struct {
		address, attribute string
		want               Direction
	}{
		{"IP4 0.0.0.0", "", SendOnly},
		{"IP4 0.0.0.0", "a=sendrecv", SendOnly},
		{"IP4 0.0.0.0", "a=sendonly", SendOnly},
		{"IP4 0.0.0.0", "a=recvonly", Inactive},
		{"IP6 ::", "a=inactive", Inactive},
		{"IP4 192.0.2.1", "a=sendonly", SendOnly},
		{"IP4 192.0.2.1", "a=inactive", Inactive},
	} {
		got := parse(t, "v=0\nc=IN "+c.address+"\nm=audio 4000 RTP/AVP 0\n"+c.attribute).Audio
		if got.Direction != c.want || !got.Held() {
			t.Errorf("%s %s: %s", c.address, c.attribute, describe(got))
		}
	}
	if parse(t, audio()).Audio.Held() {
		t.Error("an ordinary stream is held")
	}
}

func TestParseRTCPAddress(t *testing.T) {
	for line, want := range map[string]string{
		"":                             "192.0.2.1:4001",
		"a=rtcp:5000":                  "192.0.2.1:5000",
		"a=rtcp:5000 IN IP4 192.0.2.9": "192.0.2.9:5000",
	} {
		if got := parse(t, audio(line)).Audio.RTCP.String(); got != want {
			t.Errorf("%q: %s", line, got)
		}
	}
	if got := parse(t, "v=0\nc=IN IP4 192.0.2.1\nm=audio 65535 RTP/AVP 0").Audio.RTCP; got.IsValid() {
		t.Errorf("RTCP beyond the last port: %s", got)
	}
}

func TestDirections(t *testing.T) {
	for _, c := range []struct{ d, reverse, withSendOnly Direction }{
		{SendRecv, SendRecv, SendOnly}, {SendOnly, RecvOnly, SendOnly}, {RecvOnly, SendOnly, Inactive}, {Inactive, Inactive, Inactive},
	} {
		if got := c.d.Reverse(); got != c.reverse {
			t.Errorf("%s reversed is %s", c.d, got)
		}
		if got := c.d.And(SendOnly); got != c.withSendOnly {
			t.Errorf("%s and sendonly is %s", c.d, got)
		}
	}
}

// FuzzParse checks that whatever parses can be answered, and that our answer parses to what was negotiated.
func FuzzParse(f *testing.F) {
	for _, sample := range everySample() {
		f.Add(wire(sample))
		f.Add([]byte(sample))
	}
	f.Add([]byte("v=0\nc=IN IP6 ::\na=rtcp:0\nm=audio 65535/2 RTP/AVP 0 * 255\na=inactive"))
	f.Fuzz(func(t *testing.T, body []byte) {
		offer, err := Parse(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(offer.Lines) > MaxLines {
			t.Fatalf("%d lines", len(offer.Lines))
		}
		text, media, err := Answer(offer, ours())
		if err != nil {
			if !errors.Is(err, ErrNotAcceptable) {
				t.Fatalf("error %v", err)
			}
			return
		}
		answer, err := Parse(text)
		if err != nil {
			t.Fatalf("our answer: %v\n%s", err, text)
		}
		if len(answer.Lines) != len(offer.Lines) {
			t.Fatalf("%d lines answer %d\n%s", len(answer.Lines), len(offer.Lines), text)
		}
		if got := answer.Audio; got.Direction != media.Direction || got.Codecs[0].ID != media.Codec || got.Codecs[0].PayloadType != media.PayloadType {
			t.Fatalf("answered %s, negotiated %+v", describe(got), media)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, sample := range map[string]string{"SIPp": sippOffer, "IMS": imsOffer} {
		b.Run(name, func(b *testing.B) {
			body := wire(sample)
			for b.Loop() {
				if _, err := Parse(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
