package sip

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// message is one SIP message, read or to be written. Header names are in their long form; values are unfolded and
// trimmed and otherwise as they came. It is not changed after it was handed to a transaction.
type message struct {
	method string // requests only, case kept
	uri    string
	code   int // responses only
	reason string

	version string // "SIP/2.0" unless the peer wrote something else
	headers []Header
	body    []byte

	// Filled in by read for received messages.
	via    via
	from   nameAddr
	to     nameAddr
	callID string
	seq    uint32
	seqFor string // CSeq method

	sock *socket
	peer netip.AddrPort
}

func (m *message) isRequest() bool { return m.method != "" }

// get returns the first value of a header, "" when there is none.
func (m *message) get(name string) string {
	for i := range m.headers {
		if strings.EqualFold(m.headers[i].Name, name) {
			return m.headers[i].Value
		}
	}
	return ""
}

// lines returns the header's lines in order.
func (m *message) lines(name string) []string {
	var out []string
	for i := range m.headers {
		if strings.EqualFold(m.headers[i].Name, name) {
			out = append(out, m.headers[i].Value)
		}
	}
	return out
}

// values returns the header's comma-separated values over all its lines in order.
func (m *message) values(name string) []string {
	var out []string
	for _, line := range m.lines(name) {
		out = append(out, splitList(line)...)
	}
	return out
}

func (m *message) add(name, value string) {
	m.headers = append(m.headers, Header{Name: name, Value: value})
}

// bytes renders the message with its Content-Length.
func (m *message) bytes() []byte {
	n := 64 + len(m.uri) + len(m.reason) + len(m.body)
	for i := range m.headers {
		n += len(m.headers[i].Name) + len(m.headers[i].Value) + 4
	}
	b := make([]byte, 0, n)
	if m.isRequest() {
		b = append(b, m.method...)
		b = append(b, ' ')
		b = append(b, m.uri...)
		b = append(b, " SIP/2.0\r\n"...)
	} else {
		b = append(b, "SIP/2.0 "...)
		b = strconv.AppendInt(b, int64(m.code), 10)
		b = append(b, ' ')
		b = append(b, m.reason...)
		b = append(b, "\r\n"...)
	}
	for i := range m.headers {
		b = append(b, m.headers[i].Name...)
		b = append(b, ": "...)
		b = append(b, m.headers[i].Value...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(m.body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, m.body...)
}

// respond builds a response as RFC 3261 §8.2.6.2 has it: Via, From, To, Call-ID and CSeq as they came. toTag is added
// unless the request had one or it is empty.
func (m *message) respond(code int, toTag string) *message {
	res := &message{code: code, reason: reasonPhrase(code), headers: make([]Header, 0, len(m.headers)+4)}
	for i := range m.headers {
		switch h := m.headers[i]; h.Name {
		case "Via", "From", "Call-ID", "CSeq":
			res.headers = append(res.headers, h)
		case "To":
			if toTag != "" && m.to.tag() == "" {
				h.Value += ";tag=" + toTag
			}
			res.headers = append(res.headers, h)
		case "Record-Route":
			if m.method == methodInvite && code > 100 && code < 300 {
				res.headers = append(res.headers, h)
			}
		case "Timestamp":
			if code == 100 {
				res.headers = append(res.headers, h)
			}
		}
	}
	return res
}

// sdp returns the session description of a body: the body itself, or the application/sdp part of a multipart body as
// trunks with ISUP attachments send it (RFC 3204 §3, RFC 5621).
func (m *message) sdp() []byte {
	kind, params := mediaType(m.get("Content-Type"))
	if !strings.HasPrefix(kind, "multipart/") {
		return m.body
	}
	return sdpPart(m.body, params.get("boundary"))
}

// splitList splits at commas outside quotes and angle brackets and drops empty elements.
func splitList(s string) []string {
	var out []string
	for s != "" {
		n := elementEnd(s)
		if v := strings.TrimSpace(s[:n]); v != "" {
			out = append(out, v)
		}
		if n == len(s) {
			break
		}
		s = s[n+1:]
	}
	return out
}

// elementEnd is the index of the comma that ends the first element of a list, or len(s).
func elementEnd(s string) int {
	quoted, bracket := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !bracket:
			quoted = !quoted
		case quoted:
		case c == '<':
			bracket = true
		case c == '>':
			bracket = false
		case c == ',' && !bracket:
			return i
		}
	}
	return len(s)
}

const (
	methodInvite    = "INVITE"
	methodAck       = "ACK"
	methodBye       = "BYE"
	methodCancel    = "CANCEL"
	methodOptions   = "OPTIONS"
	methodRegister  = "REGISTER"
	methodInfo      = "INFO"
	methodUpdate    = "UPDATE"
	methodPrack     = "PRACK"
	methodRefer     = "REFER"
	methodNotify    = "NOTIFY"
	methodSubscribe = "SUBSCRIBE"
	methodMessage   = "MESSAGE"
	methodPublish   = "PUBLISH"
)

// reasonPhrase is the phrase of RFC 3261 §21 and later RFCs; a code without one gets the phrase of its class.
func reasonPhrase(code int) string {
	switch code {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 181:
		return "Call Is Being Forwarded"
	case 182:
		return "Queued"
	case 183:
		return "Session Progress"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 300:
		return "Multiple Choices"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Moved Temporarily"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 402:
		return "Payment Required"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 410:
		return "Gone"
	case 413:
		return "Request Entity Too Large"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 421:
		return "Extension Required"
	case 422:
		return "Session Interval Too Small"
	case 423:
		return "Interval Too Brief"
	case 429:
		return "Provide Referrer Identity"
	case 433:
		return "Anonymity Disallowed"
	case 469:
		return "Bad Info Package"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 484:
		return "Address Incomplete"
	case 485:
		return "Ambiguous"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 489:
		return "Bad Event"
	case 491:
		return "Request Pending"
	case 494:
		return "Security Agreement Required"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Server Time-out"
	case 505:
		return "Version Not Supported"
	case 513:
		return "Message Too Large"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	case 604:
		return "Does Not Exist Anywhere"
	case 606:
		return "Not Acceptable"
	case 607:
		return "Unwanted"
	case 608:
		return "Rejected"
	}
	switch code / 100 {
	case 1:
		return "Progress"
	case 2:
		return "OK"
	case 3:
		return "Redirection"
	case 4:
		return "Request Failure"
	case 5:
		return "Server Failure"
	default:
		return "Global Failure"
	}
}

// maxHeaderValue and maxHeaders bound what callers may add to a message.
const (
	maxHeaderValue = 1024
	maxHeaders     = 8192
)

// ValidHeader says whether an application may put this header into a message: a token of at most 64 bytes that is not
// one the protocol, identity or credentials depend on, and a value of at most 1,024 bytes without CR, LF, NUL or other
// control characters. Headers from webhooks, CSV files and other messages must pass it.
func ValidHeader(name, value string) error {
	if err := checkHeader(name, value); err != nil {
		return err
	}
	if forbiddenName(name) {
		return fmt.Errorf("header %s: not allowed, it is set by the server", name)
	}
	return nil
}

// checkHeader is what must hold for every header of an outgoing message, whoever asks for it.
func checkHeader(name, value string) error {
	if name == "" || len(name) > 64 || !isToken(name) {
		return fmt.Errorf("header name %.64q: must be a token of 1–64 bytes", name)
	}
	if len(value) > maxHeaderValue {
		return fmt.Errorf("header %s: value must be at most %d bytes, is %d", name, maxHeaderValue, len(value))
	}
	if hasControl(value) {
		return fmt.Errorf("header %s: value must not contain control characters", name)
	}
	if structuralName(name) {
		return fmt.Errorf("header %s: not allowed, it is set by the server", name)
	}
	return nil
}

func checkHeaders(headers []Header) error {
	total := 0
	for _, h := range headers {
		if err := checkHeader(h.Name, h.Value); err != nil {
			return err
		}
		total += len(h.Name) + len(h.Value) + 4
	}
	if total > maxHeaders {
		return fmt.Errorf("headers: must be at most %d bytes together, are %d", maxHeaders, total)
	}
	return nil
}

// structuralName holds the headers that make a message what it is, in both forms.
func structuralName(name string) bool {
	switch strings.ToLower(name) {
	case "via", "v", "from", "f", "to", "t", "call-id", "i", "cseq", "contact", "m", "route", "record-route",
		"max-forwards", "content-length", "l", "content-type", "c", "content-encoding", "e", "content-disposition",
		"content-language":
		return true
	}
	return false
}

// forbiddenName holds the headers that decide on trust, money or the dialog's extensions and so are not an
// application's to write.
func forbiddenName(name string) bool {
	n := strings.ToLower(name)
	switch n {
	case "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "authentication-info",
		"proxy-authentication-info", "p-asserted-identity", "p-preferred-identity", "p-charging-vector",
		"p-charging-function-addresses", "p-access-network-info", "p-visited-network-id", "p-served-user",
		"identity", "y", "identity-info", "n", "privacy", "diversion", "history-info", "remote-party-id", "require",
		"proxy-require", "supported", "k", "unsupported", "allow", "allow-events", "u", "accept", "accept-encoding",
		"event", "o", "refer-to", "r", "referred-by", "b", "replaces", "join", "target-dialog", "session-expires", "x",
		"min-se", "rseq", "rack", "path", "service-route", "security-client", "security-server", "security-verify",
		"sip-etag", "sip-if-match", "subscription-state", "expires", "min-expires", "mime-version", "user-agent", "server",
		"date", "timestamp", "warning":
		return true
	}
	return strings.HasPrefix(n, "content-")
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// isTokenChar is token of RFC 3261 §25.1.
func isTokenChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-.!%*_+`'~", c) >= 0
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}
