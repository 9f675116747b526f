package dtmf

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Content types of a key press in a SIP INFO. Neither has an RFC; the relay form is Cisco's and what phones send, the
// other carries the key alone.
const (
	ContentTypeRelay = "application/dtmf-relay"
	ContentTypeDTMF  = "application/dtmf"
)

var (
	// ErrContentType: the body is not of a type that carries keys; answer 415.
	ErrContentType = errors.New("not a DTMF content type")
	// ErrNoDigit: the body is malformed or names something other than a key, such as flash; answer 400.
	ErrNoDigit = errors.New("no DTMF digit in INFO body")
)

const (
	maxInfoBody     = 1024
	maxInfoDuration = 60 * time.Second
)

// ParseInfo reads the body of a SIP INFO: "Signal=5\r\nDuration=160" as application/dtmf-relay or "5" as
// application/dtmf, with whatever spaces, letter case and line ends. Event codes 10 to 15 are taken for * # A to D. The
// duration is 0 when the body does not tell a usable one. Errors are ErrContentType or wrap ErrNoDigit.
func ParseInfo(contentType string, body []byte) (digit byte, duration time.Duration, err error) {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	if mediaType != ContentTypeRelay && mediaType != ContentTypeDTMF {
		return 0, 0, ErrContentType
	}
	if len(body) > maxInfoBody {
		return 0, 0, fmt.Errorf("%w: %d bytes", ErrNoDigit, len(body))
	}
	signal, length := "", ""
	for line := range strings.FieldsFuncSeq(string(body), func(r rune) bool { return r == '\r' || r == '\n' }) {
		name, value, named := strings.Cut(line, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case named && name == "signal":
			signal = value
		case named && name == "duration":
			length = value
		case !named && signal == "" && mediaType == ContentTypeDTMF:
			signal = strings.TrimSpace(line)
		}
	}
	if digit, err = signalDigit(signal); err != nil {
		return 0, 0, err
	}
	return digit, infoDuration(length), nil
}

// FormatInfo is the body of an application/dtmf-relay INFO for one key, with the duration in whole milliseconds.
func FormatInfo(digit byte, duration time.Duration) []byte {
	return fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", digit, duration.Milliseconds())
}

func signalDigit(signal string) (byte, error) {
	if len(signal) == 1 {
		upper := strings.ToUpper(signal)[0]
		if _, ok := Event(upper); ok {
			return upper, nil
		}
	}
	if code, err := strconv.ParseUint(signal, 10, 8); err == nil {
		if digit, ok := Digit(uint8(code)); ok {
			return digit, nil
		}
	}
	return 0, fmt.Errorf("%w: signal %.16q", ErrNoDigit, signal)
}

func infoDuration(text string) time.Duration {
	ms, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(ms)*time.Millisecond, maxInfoDuration)
}
