package smpp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLengthsThatCannotBeAreRefused(t *testing.T) {
	for text, want := range map[string]error{
		"0000000f 00000015 00000000 00000001":   errLength,
		"ffffffff 00000015 00000000 00000001":   errLength,
		"00004001 00000015 00000000 00000001":   errLength,
		"00000011 00000015 00000000 00000001":   io.EOF,
		"00000012 00000015 00000000 0000000100": io.ErrUnexpectedEOF,
		"00000010 000000":                       io.ErrUnexpectedEOF,
		"00000010 00000015 00000000 00000001":   nil,
	} {
		if _, err := readPDU(bytes.NewReader(octets(t, text))); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

// delivery is the body of a deliver_sm.
func delivery(class, coding byte, text []byte, more ...byte) []byte {
	body := []byte("\x00\x01\x018613800138000\x00\x00\x0010690\x00")
	body = append(body, class, 0, 0, 0, 0, 0, 0, coding, 0, byte(len(text)))
	return append(append(body, text...), more...)
}

func TestReceiptsAreReadInEveryForm(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		want Receipt
	}{
		"text": {
			delivery(4, 0, []byte("id:0A1 sub:001 dlvrd:001 submit date:2601310800 done date:2601310801 stat:DELIVRD err:000 text:stat:UNDELIV id:9")),
			Receipt{ID: "0A1", State: Delivered},
		},
		"other order and case": {
			delivery(4, 0, []byte("ID:7 STAT:rejectd err:0AB Text:")), Receipt{ID: "7", State: Rejected, Error: "0AB"},
		},
		"parameters win": {
			delivery(4, 0, []byte("id:1 stat:ENROUTE err:001"), append(appendTLV(nil, tagReceiptedMessageID, 'x', 'y', 0), append(appendTLV(nil, tagMessageState, 3), appendTLV(nil, tagNetworkErrorCode, 3, 1, 2)...)...)...),
			Receipt{ID: "xy", State: Expired, Error: "258"},
		},
		"in a payload": {
			delivery(4, 0, nil, appendTLV(nil, tagMessagePayload, []byte("id:5 stat:ACCEPTD")...)...), Receipt{ID: "5", State: Accepted},
		},
		"nothing in it": {delivery(0x20, 0, []byte("hello")), Receipt{}},
	} {
		d, err := parseDelivery(c.body)
		if err != nil || d.Receipt == nil {
			t.Errorf("%s: %+v, %v", name, d, err)
			continue
		}
		got := *d.Receipt
		if got.DoneAt = c.want.DoneAt; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestPartsOfAMessageFromAPhone(t *testing.T) {
	sar := append(appendTLV(nil, tagSARReference, 1, 2), append(appendTLV(nil, tagSARTotal, 3), appendTLV(nil, tagSARNumber, 2)...)...)
	for name, c := range map[string]struct {
		body []byte
		part Part
		text string
		bad  bool
	}{
		"8 bits":               {delivery(0x40, 0, append([]byte{5, 0, 3, 9, 2, 1}, "hi"...)), Part{9, 2, 1}, "hi", false},
		"16 bits after others": {delivery(0x40, 0, append([]byte{10, 1, 2, 0, 0, 8, 4, 1, 2, 3, 3}, "hi"...)), Part{0x102, 3, 3}, "hi", false},
		"parameters":           {delivery(0, 0, []byte("hi"), sar...), Part{0x102, 3, 2}, "hi", false},
		"no part of so many":   {delivery(0x40, 0, append([]byte{5, 0, 3, 9, 2, 3}, "hi"...)), Part{}, "hi", false},
		"header too long":      {delivery(0x40, 0, []byte{5, 0}), Part{}, "", true},
		"element too long":     {delivery(0x40, 0, []byte{3, 0, 9, 1, 'x'}), Part{}, "", true},
		"no header":            {delivery(0x40, 0, nil), Part{}, "", true},
	} {
		d, err := parseDelivery(c.body)
		if (err != nil) != c.bad || d.Part != c.part || d.Text != c.text || d.Receipt != nil {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func FuzzDelivery(f *testing.F) {
	f.Add(delivery(4, 0, []byte("id:0A1 sub:001 dlvrd:001 submit date:2601310800 done date:2601310801 stat:DELIVRD err:000 text:x")))
	f.Add(delivery(4, 0, []byte("\xa5\xa5 id:1 teXt:0")))
	f.Add(delivery(0x40, 8, []byte{5, 0, 3, 9, 2, 1, 0x60, 0xa8}))
	f.Add(delivery(0, 0, []byte("hi"), appendTLV(nil, tagSARReference, 1, 2)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := parseDelivery(body)
		switch {
		case err != nil && (d.Text != "" || d.Receipt != nil):
			t.Errorf("%+v beside %v", d, err)
		case !utf8.ValidString(d.Text) || strings.Contains(d.Text, "\x00"):
			t.Errorf("the text is %q", d.Text)
		case d.Part != d.Part.checked():
			t.Errorf("the part is %+v", d.Part)
		case d.Receipt != nil && (len(d.Receipt.ID) >= maxMessageID || plain(d.Receipt.ID+d.Receipt.Error) != d.Receipt.ID+d.Receipt.Error):
			t.Errorf("the receipt is %+v", d.Receipt)
		}
	})
}

func FuzzPDU(f *testing.F) {
	f.Add(pdu{id: enquireLink, sequence: 1}.bytes())
	f.Add(pdu{id: submitSM | response, sequence: 2, body: []byte("id\x00")}.bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		p, err := readPDU(bytes.NewReader(stream))
		if err != nil {
			return
		}
		again := p.bytes()
		if !bytes.Equal(again, stream[:len(again)]) {
			t.Errorf("%x became %x", stream, again)
		}
		if id, err := p.messageID(); err == nil && (id == "" || len(id) >= maxMessageID) {
			t.Errorf("the id is %q", id)
		}
	})
}
