package smpp

import (
	"encoding/binary"
	"hash/fnv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Coding is a data_coding (§5.2.19).
type Coding byte

// The codings that are written. Default is the message centre's default alphabet, taken to be GSM 03.38 with one septet
// in an octet, as nearly all have it.
const (
	Default Coding = 0x00
	UCS2    Coding = 0x08 // UTF-16, most significant byte first
)

// Those that are only read.
const (
	ascii  Coding = 0x01
	latin1 Coding = 0x03
)

// gsm is the default alphabet of GSM 03.38 §6.2.1, by septet. The septet 0x1B leads to the extension.
const gsm = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"

const escape = 0x1B

// extension is the table of GSM 03.38 §6.2.1.1.
var extension = map[byte]rune{
	0x0A: '\f', 0x14: '^', 0x28: '{', 0x29: '}', 0x2F: '\\', 0x3C: '[', 0x3D: '~', 0x3E: ']', 0x40: '|', 0x65: '€',
}

// alphabet is the default alphabet in both directions.
type alphabet struct {
	runes [128]rune
	bytes map[rune][]byte
}

var gsmAlphabet = newAlphabet()

func newAlphabet() *alphabet {
	a := &alphabet{bytes: map[rune][]byte{}}
	septet := byte(0)
	for _, r := range gsm {
		a.runes[septet] = r
		if septet != escape {
			a.bytes[r] = []byte{septet}
		}
		septet++
	}
	for septet, r := range extension {
		a.bytes[r] = []byte{escape, septet}
	}
	return a
}

// Lengths of one message and of one part of several, in septets and in UTF-16 units: 140 octets, of which the header of
// a part takes 6 (GSM 03.40 §9.2.3.24.1).
const (
	wholeSeptets = 160
	partSeptets  = 153
	wholeUnits   = 70
	partUnits    = 67
)

// MaxParts is the most parts of a text that is sent: what carriers take at most, though the header could count to 255.
const MaxParts = 10

// Text is a text as it is sent.
type Text struct {
	Coding Coding
	Parts  [][]byte // each a short message; at least one
}

// Encode puts a text into the default alphabet where all of it is in there, else into UCS-2, and cuts it into parts. No
// character is cut in two. It is up to the caller how many parts there may be.
func Encode(text string) Text {
	if units, ok := inGSM(text); ok {
		return Text{Default, cut(units, 1, wholeSeptets, partSeptets)}
	}
	units := make([][]byte, 0, len(text)/3+1)
	for _, r := range text {
		var unit []byte
		for _, u := range utf16.AppendRune(nil, r) {
			unit = binary.BigEndian.AppendUint16(unit, u)
		}
		units = append(units, unit)
	}
	return Text{UCS2, cut(units, 2, wholeUnits, partUnits)}
}

// inGSM gives the septets of each character.
func inGSM(text string) ([][]byte, bool) {
	units := make([][]byte, 0, len(text))
	for _, r := range text {
		unit, ok := gsmAlphabet.bytes[r]
		if !ok {
			return nil, false
		}
		units = append(units, unit)
	}
	return units, true
}

// cut joins units into one part, or several; width is the bytes that count as one of the lengths.
func cut(units [][]byte, width, whole, part int) [][]byte {
	total := 0
	for _, u := range units {
		total += len(u) / width
	}
	most := part
	if total <= whole {
		most = whole
	}
	parts := [][]byte{{}}
	for _, u := range units {
		if last := parts[len(parts)-1]; (len(last)+len(u))/width > most {
			parts = append(parts, []byte{})
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], u...)
	}
	return parts
}

// Decode reads a short message. ok is false for a coding that is no text.
func Decode(coding Coding, octets []byte) (text string, ok bool) {
	// GSM 03.38 §4: 00xx and 1111 groups with a message class have the alphabet in bits 2 and 3.
	if coding&0xF0 == 0xF0 {
		coding = (coding & 0x04) // 1111x1xx is binary, the rest the default alphabet
	}
	switch coding {
	case Default:
		return fromGSM(octets), true
	case UCS2:
		units := make([]uint16, 0, len(octets)/2)
		for i := 0; i+1 < len(octets); i += 2 {
			units = append(units, binary.BigEndian.Uint16(octets[i:]))
		}
		return string(utf16.Decode(units)), true
	case ascii, latin1:
		var b strings.Builder
		for _, octet := range octets {
			b.WriteRune(rune(octet))
		}
		return b.String(), true
	}
	return "", false
}

func fromGSM(octets []byte) string {
	var b strings.Builder
	for i := 0; i < len(octets); i++ {
		switch o := octets[i]; {
		case o == escape && i+1 < len(octets):
			i++
			r, ok := extension[octets[i]]
			if !ok {
				r = ' ' // §6.2.1: as a space, where there is nothing
			}
			b.WriteRune(r)
		case o == escape:
		case o < 128:
			b.WriteRune(gsmAlphabet.runes[o])
		default:
			b.WriteRune(utf8.RuneError)
		}
	}
	return b.String()
}

// Part says which part of a text a short message is. The zero value is a text of one part.
type Part struct {
	Reference uint16 // the same in all parts; 8 bits of it in a header
	Total     byte
	Number    byte // from 1
}

// Reference is that of a message's parts: the same whenever it is sent again, so that a phone which already has one of the
// parts puts the new ones beside it.
func Reference(messageID string) uint16 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(messageID)) // a hash takes everything
	return uint16(h.Sum32())
}

// Bits of an esm_class (§5.2.12).
const (
	hasHeader      = 0x40
	kindBits       = 0x3C
	kindReceipt    = 0x04
	kindOnItsWay   = 0x20 // an intermediate notification
	kindDeliverAck = 0x08
	kindUserAck    = 0x10
)

// header is the user data header of a part (GSM 03.40 §9.2.3.24.1).
func (p Part) header() []byte { return []byte{5, 0, 3, byte(p.Reference), p.Total, p.Number} }

// cutHeader takes the user data header off a short message, and finds the part in it.
func cutHeader(octets []byte) (Part, []byte, bool) {
	if len(octets) == 0 || int(octets[0]) >= len(octets) {
		return Part{}, nil, false
	}
	header, text := octets[1:1+octets[0]], octets[1+octets[0]:]
	var p Part
	for len(header) >= 2 {
		id, n := header[0], int(header[1])
		if n > len(header)-2 {
			return Part{}, nil, false
		}
		value := header[2 : 2+n]
		switch {
		case id == 0 && n == 3:
			p = Part{uint16(value[0]), value[1], value[2]}
		case id == 8 && n == 4:
			p = Part{binary.BigEndian.Uint16(value), value[2], value[3]}
		}
		header = header[2+n:]
	}
	return p.checked(), text, true
}

// checked makes what cannot be a part the whole.
func (p Part) checked() Part {
	if p.Total < 2 || p.Number < 1 || p.Number > p.Total {
		return Part{}
	}
	return p
}
