// Package dtmf owns key presses: RFC 4733 telephone events read from and written to RTP payloads, the bodies of SIP INFO,
// and the grammar of a string of keys. It leaves RTP headers, sequence numbers and the 20 ms clock to edge/media, and
// which of the two ways a call uses to the offer and answer.
//
// A digit is its byte: '0'..'9', '*', '#', 'A'..'D'. Durations on the wire count samples of the 8 kHz clock.
package dtmf

import (
	"fmt"
	"strings"
	"time"
)

const (
	samplesPerMs = 8
	tickMs       = 20
	tickSamples  = tickMs * samplesPerMs
)

// digits in the order of their event codes, RFC 4733 §3.2 table 3.
const digits = "0123456789*#ABCD"

// pauses are the letters of a string of keys that press nothing.
const (
	shortPause = 'w'
	longPause  = 'W'

	shortPauseLength = 500 * time.Millisecond
	longPauseLength  = time.Second
)

// Event is the RFC 4733 event code of a digit; ok is false for any other byte.
func Event(digit byte) (code uint8, ok bool) {
	i := strings.IndexByte(digits, digit)
	if i < 0 {
		return 0, false
	}
	return uint8(i), true
}

// Digit is the key an RFC 4733 event code stands for; ok is false for every event that is not a key: flash (16), fax and
// line tones, volume.
func Digit(code uint8) (digit byte, ok bool) {
	if int(code) >= len(digits) {
		return 0, false
	}
	return digits[code], true
}

// MaxKeys bounds a string of keys and pauses.
const MaxKeys = 256

// Valid checks a string of keys to be sent: 0-9 A-D * # and the pauses w (0.5 s) and W (1 s), 1 to MaxKeys of them. The
// error names the first byte that does not belong.
func Valid(keys string) error {
	if keys == "" {
		return fmt.Errorf("no digits to send; use 0-9 A-D * # w W")
	}
	if len(keys) > MaxKeys {
		return fmt.Errorf("%d digits to send, at most %d are allowed", len(keys), MaxKeys)
	}
	for i, r := range keys {
		if r == shortPause || r == longPause {
			continue
		}
		if r > 0x7F || strings.IndexByte(digits, byte(r)) < 0 {
			return fmt.Errorf("%q at position %d is not one of 0-9 A-D * # w W", r, i+1)
		}
	}
	return nil
}
