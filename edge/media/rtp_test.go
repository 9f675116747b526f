package media

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

// fields are those of a header that are the same in every form of it.
type fields struct {
	marker      bool
	payloadType uint8
	sequence    uint16
	timestamp   uint32
	ssrc        uint32
}

func fieldsOf(h *rtp.Header) fields {
	return fields{h.Marker, h.PayloadType, h.SequenceNumber, h.Timestamp, h.SSRC}
}

func TestEveryFormOfHeaderIsRead(t *testing.T) {
	fixed := "\x08\xFF\xFF\x80\x00\x00\x01\x00\x00\x00\x07" // all but the first octet
	plain := fields{payloadType: 8, sequence: 65535, timestamp: 1<<31 + 1, ssrc: 7}
	marked := plain
	marked.marker = true
	reused := newHeader() // as between the packets of a shard
	for _, test := range []struct {
		name, packet, payload string
		header                fields
		damaged               bool // inside the extension, which is skipped
	}{
		{name: "plain", packet: "\x80" + fixed + "audio", payload: "audio", header: plain},
		{name: "marker", packet: "\x80\x88" + fixed[1:] + "audio", payload: "audio", header: marked},
		{name: "sources", packet: "\x82" + fixed + "\x00\x00\x00\x01\x00\x00\x00\x02audio", payload: "audio", header: plain},
		{name: "all sources", packet: "\x8F" + fixed + strings.Repeat("\x00\x00\x00\x01", 15) + "audio", payload: "audio", header: plain},
		{name: "extension", packet: "\x90" + fixed + "\xBE\xDE\x00\x01\x10\x85\x00\x00audio", payload: "audio", header: plain},
		{name: "empty extension", packet: "\x90" + fixed + "\xBE\xDE\x00\x00audio", payload: "audio", header: plain},
		{name: "two-octet elements", packet: "\x90" + fixed + "\x10\x00\x00\x01\x01\x00\x02\x00audio", payload: "audio", header: plain},
		{name: "as many elements as fit", packet: "\x90" + fixed + "\x10\x00\x01\x71" + strings.Repeat("\x01\x00", 2*0x171) + "audio", payload: "audio", header: plain},
		{name: "another profile's extension", packet: "\x90" + fixed + "\x12\x34\x00\x01\xFF\xFF\xFF\xFFaudio", payload: "audio", header: plain},
		{name: "one-octet element too long", packet: "\x90" + fixed + "\xBE\xDE\x00\x01\x1F\x85\x00\x00audio", payload: "audio", header: plain, damaged: true},
		{name: "two-octet element too long", packet: "\x90" + fixed + "\x10\x00\x00\x01\x01\xC8\x00\x00audio", payload: "audio", header: plain, damaged: true},
		{name: "two-octet element cut", packet: "\x90" + fixed + "\x10\x00\x00\x01\x00\x00\x00\x01audio", payload: "audio", header: plain, damaged: true},
		{name: "padding", packet: "\xA0" + fixed + "audio\x00\x00\x03", payload: "audio", header: plain},
		{name: "all", packet: "\xB1" + fixed + "\x00\x00\x00\x01\xBE\xDE\x00\x01\x10\x85\x00\x00audio\x01", payload: "audio", header: plain},
		{name: "no payload", packet: "\x80" + fixed, header: plain},
		{name: "nothing but padding", packet: "\xA0" + fixed + "\x00\x02", header: plain},
	} {
		packet := []byte(test.packet)
		payload, ok := parseRTP(&reused, packet)
		if !ok || fieldsOf(&reused) != test.header || string(payload) != test.payload {
			t.Errorf("%s: %v, %+v, %q", test.name, ok, reused, payload)
		}
		if n := testing.AllocsPerRun(10, func() { parseRTP(&reused, packet) }); n != 0 && !test.damaged {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func TestHeaderIsWrittenAsTheRFCDrawsIt(t *testing.T) {
	virtual(t, nil, func(l *line) {
		leg, p := l.call(codec.PCMU, nil)
		leg.own.sequence, leg.own.stamp, leg.own.ssrc = 0x0102, 0x03040506, 0x0708090A
		leg.SendDigits("1", 60*time.Millisecond, 40*time.Millisecond)
		l.frames(2)
		marked, next := p.keys()[0].raw, p.keys()[1].raw
		if want := "\x80\xE5\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A"; string(marked[:12]) != want {
			t.Errorf("% x, want % x", marked[:12], want)
		}
		if want := "\x80\x65\x01\x03\x03\x04\x05\x06\x07\x08\x09\x0A"; string(next[:12]) != want {
			t.Errorf("% x, want % x", next[:12], want)
		}
	})
}

func TestPacketsWhoseLengthsDoNotAddUpAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                   {},
		"short":                     make([]byte, 11),
		"short, of version 2":       append([]byte{0x80}, make([]byte, 10)...),
		"version 0":                 make([]byte, 20),
		"version 1":                 append([]byte{0x40}, make([]byte, 20)...),
		"version 3":                 append([]byte{0xC0}, make([]byte, 20)...),
		"sources missing":           append([]byte{0x8F}, make([]byte, 20)...),
		"extension missing":         append([]byte{0x90}, make([]byte, 13)...),
		"extension longer":          append([]byte{0x90}, append(make([]byte, 13), 0, 9)...),
		"no padding":                append([]byte{0xA0}, make([]byte, 20)...),
		"more padding than payload": append(append([]byte{0xA0}, make([]byte, 20)...), 200),
	} {
		h := newHeader()
		if _, ok := parseRTP(&h, b); ok {
			t.Errorf("%s: accepted", name)
		}
		if n := testing.AllocsPerRun(10, func() { parseRTP(&h, b) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzParseRTP(f *testing.F) {
	for _, h := range []rtp.Header{{Version: 2}, {Version: 2, Marker: true, PayloadType: 101, SequenceNumber: 1, Timestamp: 2, SSRC: 3}} {
		b := make([]byte, rtpHeaderSize+4)
		if _, err := h.MarshalTo(b); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(append([]byte{0xB1}, make([]byte, 40)...))
	f.Add([]byte("\x90\x08\xFF\xFF\x80\x00\x00\x01\x00\x00\x00\x07\xBE\xDE\x00\x01\x1F\x85\x00\x00audio"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h rtp.Header
		payload, ok := parseRTP(&h, b)
		// rtp.Packet is of the same opinion, except about versions and the inside of extensions.
		var p rtp.Packet
		err := p.Unmarshal(b)
		if whole := err == nil && p.Version == 2; whole && (!ok || !bytes.Equal(payload, p.Payload)) || ok && !whole && !h.Extension {
			t.Fatalf("%v, %q; pion: %v, %q", ok, payload, err, p.Payload)
		}
		if !ok {
			return
		}
		if len(payload) > len(b)-rtpHeaderSize {
			t.Fatalf("%d octets of payload in a packet of %d", len(payload), len(b))
		}
		read := fieldsOf(&h)
		plain := rtp.Header{Version: 2, Marker: h.Marker, PayloadType: h.PayloadType, SequenceNumber: h.SequenceNumber, Timestamp: h.Timestamp, SSRC: h.SSRC}
		again := make([]byte, rtpHeaderSize, rtpHeaderSize+len(payload))
		if _, err := plain.MarshalTo(again); err != nil {
			t.Fatal(err)
		}
		payload2, ok := parseRTP(&h, append(again, payload...))
		if !ok || fieldsOf(&h) != read || !bytes.Equal(payload, payload2) {
			t.Fatalf("%+v is written as %+v", read, fieldsOf(&h))
		}
	})
}
