package dtmf

import (
	"errors"
	"testing"
	"time"
)

func TestInfoBodiesOfPhones(t *testing.T) {
	for _, c := range []struct {
		contentType, body string
		digit             byte
		duration          time.Duration
	}{
		{"application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", '5', 160 * time.Millisecond},
		{"application/dtmf-relay", "Signal= 5\r\nDuration= 160", '5', 160 * time.Millisecond},
		{"Application/DTMF-Relay; charset=utf-8", "signal = *\nduration = 250\n", '*', 250 * time.Millisecond},
		{"application/dtmf-relay", "Signal=#", '#', 0},
		{"application/dtmf-relay", "Signal=11\r\nDuration=100", '#', 100 * time.Millisecond},
		{"application/dtmf-relay", "Duration=100\r\nSignal=a", 'A', 100 * time.Millisecond},
		{"application/dtmf-relay", "\r\nSignal=1\r\n\r\nDuration=-3\r\n", '1', 0},
		{"application/dtmf-relay", "Signal=1\r\nDuration=4000000000", '1', time.Minute},
		{"application/dtmf", "5", '5', 0},
		{"application/dtmf", " 5 \r\n", '5', 0},
		{"application/dtmf", "10", '*', 0},
		{"application/dtmf", "Signal=D\r\nDuration=80", 'D', 80 * time.Millisecond},
	} {
		digit, duration, err := ParseInfo(c.contentType, []byte(c.body))
		if err != nil || digit != c.digit || duration != c.duration {
			t.Errorf("%s %q: %q for %s, %v", c.contentType, c.body, digit, duration, err)
		}
	}
}

func TestInfoThatIsNoKey(t *testing.T) {
	for _, c := range []struct {
		contentType, body string
		want              error
	}{
		{"application/dtmf-relay", "", ErrNoDigit},
		{"application/dtmf-relay", "5", ErrNoDigit},
		{"application/dtmf-relay", "Signal=\r\nDuration=160", ErrNoDigit},
		{"application/dtmf-relay", "Signal=16\r\nDuration=160", ErrNoDigit},
		{"application/dtmf-relay", "Signal=55", ErrNoDigit},
		{"application/dtmf-relay", "Signal=\xff", ErrNoDigit},
		{"application/dtmf-relay", "Signal=w", ErrNoDigit},
		{"application/dtmf", string(make([]byte, 2000)), ErrNoDigit},
		{"application/media_control+xml", "<x/>", ErrContentType},
		{"", "5", ErrContentType},
	} {
		if digit, _, err := ParseInfo(c.contentType, []byte(c.body)); !errors.Is(err, c.want) || digit != 0 {
			t.Errorf("%s %.20q: %q, %v", c.contentType, c.body, digit, err)
		}
	}
}

func TestFormatInfoIsReadBack(t *testing.T) {
	if got, want := string(FormatInfo('5', 160*time.Millisecond)), "Signal=5\r\nDuration=160\r\n"; got != want {
		t.Errorf("got %q", got)
	}
	for code := range uint8(16) {
		want, _ := Digit(code)
		got, duration, err := ParseInfo(ContentTypeRelay, FormatInfo(want, 100*time.Millisecond))
		if got != want || duration != 100*time.Millisecond || err != nil {
			t.Errorf("%c comes back as %c for %s, %v", want, got, duration, err)
		}
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(ContentTypeRelay, []byte("Signal= 5\r\nDuration= 160\r\n"))
	f.Add(ContentTypeDTMF, []byte("5"))
	f.Add("application/dtmf;x", []byte("=\n=\r"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		digit, duration, err := ParseInfo(contentType, body)
		if _, isKey := Event(digit); isKey != (err == nil) {
			t.Fatalf("%q with %v", digit, err)
		}
		if duration < 0 || duration > time.Minute {
			t.Fatalf("duration %s", duration)
		}
	})
}
