package media

import (
	"bytes"
	"testing"
)

func TestEveryFormOfHeaderIsRead(t *testing.T) {
	fixed := "\x08\xFF\xFF\x80\x00\x00\x01\x00\x00\x00\x07" // all but the first octet
	plain := rtpHeader{payloadType: 8, sequence: 65535, timestamp: 1<<31 + 1, ssrc: 7}
	marked := plain
	marked.marker = true
	for _, test := range []struct {
		name, packet, payload string
		header                rtpHeader
	}{
		{name: "plain", packet: "\x80" + fixed + "audio", payload: "audio", header: plain},
		{name: "marker", packet: "\x80\x88" + fixed[1:] + "audio", payload: "audio", header: marked},
		{name: "sources", packet: "\x82" + fixed + "\x00\x00\x00\x01\x00\x00\x00\x02audio", payload: "audio", header: plain},
		{name: "extension", packet: "\x90" + fixed + "\xBE\xDE\x00\x01\x10\x85\x00\x00audio", payload: "audio", header: plain},
		{name: "empty extension", packet: "\x90" + fixed + "\xBE\xDE\x00\x00audio", payload: "audio", header: plain},
		{name: "padding", packet: "\xA0" + fixed + "audio\x00\x00\x03", payload: "audio", header: plain},
		{name: "all", packet: "\xB1" + fixed + "\x00\x00\x00\x01\xBE\xDE\x00\x01\x10\x85\x00\x00audio\x01", payload: "audio", header: plain},
		{name: "no payload", packet: "\x80" + fixed, header: plain},
		{name: "nothing but padding", packet: "\xA0" + fixed + "\x00\x02", header: plain},
	} {
		h, payload, ok := parseRTP([]byte(test.packet))
		if !ok || h != test.header || string(payload) != test.payload {
			t.Errorf("%s: %v, %+v, %q", test.name, ok, h, payload)
		}
	}
}

func TestHeaderIsWrittenAsTheRFCDrawsIt(t *testing.T) {
	var b [rtpHeaderSize]byte
	rtpHeader{marker: true, payloadType: 101, sequence: 0x0102, timestamp: 0x03040506, ssrc: 0x0708090A}.put(b[:])
	if want := "\x80\xE5\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A"; string(b[:]) != want {
		t.Errorf("% x, want % x", b, want)
	}
}

func TestPacketsWhoseLengthsDoNotAddUpAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                   {},
		"short":                     make([]byte, 11),
		"version 1":                 append([]byte{0x40}, make([]byte, 20)...),
		"sources missing":           append([]byte{0x8F}, make([]byte, 20)...),
		"extension missing":         append([]byte{0x90}, make([]byte, 13)...),
		"extension longer":          append([]byte{0x90}, append(make([]byte, 13), 0, 9)...),
		"no padding":                append([]byte{0xA0}, make([]byte, 20)...),
		"more padding than payload": append(append([]byte{0xA0}, make([]byte, 20)...), 200),
	} {
		if _, _, ok := parseRTP(b); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseRTP(f *testing.F) {
	for _, h := range []rtpHeader{{}, {marker: true, payloadType: 101, sequence: 1, timestamp: 2, ssrc: 3}} {
		b := make([]byte, rtpHeaderSize+4)
		h.put(b)
		f.Add(b)
	}
	f.Add(append([]byte{0xB1}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, ok := parseRTP(b)
		if !ok {
			return
		}
		if len(payload) > len(b)-rtpHeaderSize {
			t.Fatalf("%d octets of payload in a packet of %d", len(payload), len(b))
		}
		again := make([]byte, rtpHeaderSize, rtpHeaderSize+len(payload))
		h.put(again)
		h2, payload2, ok := parseRTP(append(again, payload...))
		if !ok || h2 != h || !bytes.Equal(payload, payload2) {
			t.Fatalf("%+v is written as %+v", h, h2)
		}
	})
}
