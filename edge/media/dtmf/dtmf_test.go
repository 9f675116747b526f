package dtmf

import (
	"strings"
	"testing"
)

func TestEventCodesAreThoseOfTheRFC(t *testing.T) {
	for digit, code := range map[byte]uint8{'0': 0, '9': 9, '*': 10, '#': 11, 'A': 12, 'D': 15} {
		if got, ok := Event(digit); !ok || got != code {
			t.Errorf("%c is event %d, want %d", digit, got, code)
		}
		if got, ok := Digit(code); !ok || got != digit {
			t.Errorf("event %d is %c, want %c", code, got, digit)
		}
	}
	for _, other := range []byte{'w', 'W', 'E', 'a', ' ', 0, 0xFF} {
		if code, ok := Event(other); ok {
			t.Errorf("%q is event %d", other, code)
		}
	}
	for _, other := range []uint8{16, 32, 66, 255} {
		if digit, ok := Digit(other); ok {
			t.Errorf("event %d is %c", other, digit)
		}
	}
}

func TestValidKeys(t *testing.T) {
	for _, good := range []string{"0", "123#", "w1W*", "ABCD", "www", strings.Repeat("5", MaxKeys)} {
		if err := Valid(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, saying := range map[string]string{
		"":                              "no digits",
		"12a":                           `'a' at position 3`,
		"1 2":                           `' ' at position 2`,
		"1é":                            "position 2",
		"1\xff":                         "position 2",
		"1,2":                           "position 2",
		strings.Repeat("5", MaxKeys+1):  "257 digits",
		strings.Repeat("w", 10*MaxKeys): "at most 256",
	} {
		if err := Valid(bad); err == nil || !strings.Contains(err.Error(), saying) {
			t.Errorf("%.20q: %v, want it to say %q", bad, err, saying)
		}
	}
}
