package sdp

import (
	"bytes"
	"fmt"
)

// writer writes a description from its first line on.
type writer struct{ bytes.Buffer }

// stanza is the audio stream to write.
type stanza struct {
	proto           string
	codecs          []Codec
	dtmf            bool
	dtmfPayloadType uint8
	direction       Direction
	rtcpMux         bool
}

// writer begins our description. The username is "-": RFC 8866 §5.2 for hosts without user ids.
func (l Local) writer() *writer {
	family := "IP4"
	if l.Addr.Is6() && !l.Addr.Is4In6() {
		family = "IP6"
	}
	addr := l.Addr.Unmap()
	w := &writer{}
	w.Grow(512)
	w.printf("v=0\r\n")
	w.printf("o=- %d %d IN %s %s\r\n", l.SessionID, l.Version, family, addr)
	w.printf("s=-\r\n")
	w.printf("c=IN %s %s\r\n", family, addr)
	w.printf("t=0 0\r\n")
	return w
}

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(&w.Buffer, format, args...) }

func (w *writer) audio(local Local, s stanza) {
	w.printf("m=audio %d %s", local.Port, s.proto)
	for _, c := range s.codecs {
		w.printf(" %d", c.PayloadType)
	}
	if s.dtmf {
		w.printf(" %d", s.dtmfPayloadType)
	}
	w.printf("\r\n")
	for _, c := range s.codecs {
		w.printf("a=rtpmap:%d %s/%d\r\n", c.PayloadType, c.ID.Name(), c.Rate)
	}
	if s.dtmf {
		w.printf("a=rtpmap:%d telephone-event/8000\r\n", s.dtmfPayloadType)
		w.printf("a=fmtp:%d 0-15\r\n", s.dtmfPayloadType)
	}
	w.printf("a=ptime:%d\r\n", local.ptime())
	if s.rtcpMux {
		w.printf("a=rtcp-mux\r\n")
	}
	w.printf("a=%s\r\n", s.direction)
}

// refuse repeats a line with port 0 (RFC 3264 §6).
func (w *writer) refuse(line Line) {
	w.printf("m=%s 0 %s %s\r\n", line.Kind, line.Proto, line.Formats)
}
