package sip

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Limits of one message. A message beyond them is dropped without an answer: nothing honest comes near.
const (
	maxMessage = 64 << 10
	maxLine    = 8 << 10
	maxLines   = 128
	maxParams  = 64 // of one value
)

var (
	// errLimit: beyond the limits above, dropped unseen.
	errLimit = errors.New("message beyond limits")
	// errNotSIP: the first line is not SIP, so that there is nobody to answer.
	errNotSIP = errors.New("not a SIP message")
)

// syntaxError is a message that is SIP but malformed. The message returned with it holds the headers that could be read.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }

// parse reads one message: a datagram, or a message cut out of a stream by its Content-Length. Leading empty lines are
// skipped (RFC 3261 §7.5). The result shares no memory with data. With a syntaxError the message is what could be read.
func parse(data []byte) (*message, error) {
	if len(data) > maxMessage {
		return nil, errLimit
	}
	data = bytes.TrimLeft(data, "\r\n")
	head, body, whole := bytes.Cut(data, []byte("\r\n\r\n"))
	text := string(head)
	start, rest, _ := strings.Cut(text, "\r\n")
	if len(start) > maxLine {
		return nil, errLimit
	}
	m, err := parseStart(start)
	if m == nil {
		return nil, err
	}
	if herr := m.parseHeaders(rest); err == nil || errors.Is(herr, errLimit) {
		err = herr
	}
	if errors.Is(err, errLimit) {
		return nil, err
	}
	if err == nil && !whole {
		err = syntaxError("headers do not end")
	}
	if err != nil {
		return m, err
	}
	return m, m.takeBody(body)
}

// parseStart reads the first line. A nil message means that it is not SIP at all.
func parseStart(line string) (*message, error) {
	if len(line) >= 4 && strings.EqualFold(line[:4], "SIP/") {
		return parseStatusLine(line)
	}
	// The version decides whether this is SIP; everything else may be wrong and is then answered 400.
	trimmed := strings.TrimRight(line, " \t")
	i := strings.LastIndexAny(trimmed, " \t")
	if i < 0 || len(trimmed)-i < 5 || !strings.EqualFold(trimmed[i+1:i+5], "SIP/") {
		return nil, errNotSIP
	}
	m := &message{version: strings.ToUpper(trimmed[i+1:])}
	method, uri, ok := strings.Cut(trimmed[:i], " ")
	if !isToken(method) {
		return nil, errNotSIP
	}
	m.method, m.uri = method, uri
	if !ok || trimmed != line || uri == "" || strings.ContainsAny(uri, " \t<>\"") || hasControl(uri) {
		return m, syntaxError("malformed request line")
	}
	return m, nil
}

func parseStatusLine(line string) (*message, error) {
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || n < 100 || n > 699 || !strings.EqualFold(version, "SIP/2.0") || hasControl(reason) {
		return nil, errNotSIP
	}
	return &message{version: "SIP/2.0", code: n, reason: reason}, nil
}

// parseHeaders reads unfolded header lines into m.headers and goes on after a malformed one, so that a 400 can be
// addressed.
func (m *message) parseHeaders(text string) error {
	var bad error
	m.headers = make([]Header, 0, 16)
	for lines := 0; text != ""; lines++ {
		if lines == maxLines {
			return errLimit
		}
		var line string
		line, text = nextLine(text)
		if len(line) > maxLine {
			return errLimit
		}
		h, err := parseHeader(line)
		if errors.Is(err, errLimit) {
			return err
		}
		if err != nil {
			bad = err
			continue
		}
		m.headers = append(m.headers, h)
	}
	return bad
}

// nextLine takes one header line and the lines that continue it (RFC 3261 §7.3.1), joined by one space.
func nextLine(text string) (line, rest string) {
	line, rest, _ = strings.Cut(text, "\r\n")
	for rest != "" && (rest[0] == ' ' || rest[0] == '\t') && len(line) <= maxLine {
		var more string
		more, rest, _ = strings.Cut(rest, "\r\n")
		line = strings.TrimRight(line, " \t") + " " + strings.Trim(more, " \t")
	}
	return line, rest
}

func parseHeader(line string) (Header, error) {
	name, value, ok := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || !isToken(name) {
		return Header{}, syntaxError("malformed header")
	}
	// A bare CR or LF, or a NUL, would mean something else to the next reader.
	if hasBareControl(value) {
		return Header{}, syntaxError("control character in header")
	}
	if tooManyParams(value) {
		return Header{}, errLimit
	}
	return Header{Name: longName(name), Value: strings.Trim(value, " \t")}, nil
}

// hasBareControl allows what a quoted-pair may hold (RFC 3261 §25.1): any control character but CR and LF after a
// backslash.
func hasBareControl(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != 0x7f || c == '\t' {
			continue
		}
		if c == '\r' || c == '\n' || i == 0 || s[i-1] != '\\' {
			return true
		}
	}
	return false
}

func tooManyParams(s string) bool {
	n := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ';', '&':
			if n++; n > maxParams {
				return true
			}
		case ',':
			n = 0
		}
	}
	return false
}

// longName gives compact and oddly written names their usual form (RFC 3261 §7.3.3 and the registry of header fields).
func longName(name string) string {
	if len(name) == 1 {
		switch name[0] | 0x20 {
		case 'a':
			return "Accept-Contact"
		case 'b':
			return "Referred-By"
		case 'c':
			return "Content-Type"
		case 'e':
			return "Content-Encoding"
		case 'f':
			return "From"
		case 'i':
			return "Call-ID"
		case 'k':
			return "Supported"
		case 'l':
			return "Content-Length"
		case 'm':
			return "Contact"
		case 'o':
			return "Event"
		case 'r':
			return "Refer-To"
		case 's':
			return "Subject"
		case 't':
			return "To"
		case 'u':
			return "Allow-Events"
		case 'v':
			return "Via"
		case 'x':
			return "Session-Expires"
		case 'y':
			return "Identity"
		}
		return name
	}
	for _, known := range [...]string{"Via", "From", "To", "Call-ID", "CSeq", "Record-Route", "Timestamp", "Content-Length"} {
		if strings.EqualFold(name, known) {
			return known
		}
	}
	return name
}

// takeBody cuts the body by Content-Length; bytes after it are not part of the message (RFC 3261 §18.3).
func (m *message) takeBody(body []byte) error {
	lengths := m.lines("Content-Length")
	switch len(lengths) {
	case 0:
	case 1:
		n, err := parseLength(lengths[0])
		if err != nil {
			return err
		}
		if n > len(body) {
			return syntaxError("body shorter than Content-Length")
		}
		body = body[:n]
	default:
		// Even equal values are refused: two readers that take different ones disagree about the next message.
		return syntaxError("two Content-Length")
	}
	if len(body) > 0 {
		m.body = bytes.Clone(body)
	}
	return nil
}

func parseLength(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, syntaxError("malformed Content-Length")
	}
	return int(n), nil
}

// read fills in the fields every message must have (RFC 3261 §8.1.1) and checks that the single ones are single.
func (m *message) read() error {
	for _, name := range [...]string{"From", "To", "Call-ID", "CSeq"} {
		switch n := m.count(name); {
		case n == 0:
			return syntaxError("no " + name)
		case n > 1:
			return syntaxError("two " + name)
		}
	}
	for _, name := range [...]string{"Max-Forwards", "Content-Type", "Expires"} {
		if m.count(name) > 1 {
			return syntaxError("two " + name)
		}
	}
	if err := m.readVia(); err != nil {
		return err
	}
	var err error
	if m.from, err = parseNameAddr(m.get("From")); err != nil {
		return syntaxError("malformed From")
	}
	if m.to, err = parseNameAddr(m.get("To")); err != nil {
		return syntaxError("malformed To")
	}
	if m.callID = m.get("Call-ID"); m.callID == "" || strings.ContainsAny(m.callID, " \t") {
		return syntaxError("malformed Call-ID")
	}
	return m.readCSeq()
}

func (m *message) count(name string) int {
	n := 0
	for i := range m.headers {
		if strings.EqualFold(m.headers[i].Name, name) {
			n++
		}
	}
	return n
}

// readVia reads the first Via value; the others must only be there to be echoed, but malformed ones are refused too.
func (m *message) readVia() error {
	values := m.values("Via")
	if len(values) == 0 {
		return syntaxError("no Via")
	}
	for i, s := range values {
		v, err := parseVia(s)
		if err != nil {
			return syntaxError("malformed Via")
		}
		if i == 0 {
			m.via = v
		}
	}
	return nil
}

func (m *message) readCSeq() error {
	f := strings.Fields(m.get("CSeq"))
	if len(f) != 2 || !isToken(f[1]) {
		return syntaxError("malformed CSeq")
	}
	// RFC 3261 §8.1.1.5: less than 2**31.
	n, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil || n > math.MaxInt32 {
		return syntaxError("malformed CSeq")
	}
	m.seq, m.seqFor = uint32(n), f[1]
	return nil
}

// received writes the source into the top Via as RFC 3261 §18.2.1 and RFC 3581 §4 ask, so that every response built from
// the request carries it.
func (m *message) received(peer netip.AddrPort) {
	host, err := netip.ParseAddr(m.via.host)
	same := err == nil && host.Unmap() == peer.Addr()
	_, rport := m.via.params.lookup("rport")
	if same && !rport {
		return
	}
	v := m.via
	v.params = nil
	for _, p := range m.via.params {
		if strings.EqualFold(p.name, "rport") {
			p.value, p.hasValue = strconv.Itoa(int(peer.Port())), true
		}
		if !strings.EqualFold(p.name, "received") {
			v.params = append(v.params, p)
		}
	}
	v.params = append(v.params, param{name: "received", value: peer.Addr().String(), hasValue: true})
	for i := range m.headers {
		if m.headers[i].Name != "Via" {
			continue
		}
		line := m.headers[i].Value
		m.headers[i].Value = v.String() + line[elementEnd(line):]
		break
	}
}

// replyTo is where responses to a request over UDP go. With rport it is the source. Without it is the source address and
// the Via port, except behind a NAT, which shows in a sent-by address that is not the source: such devices hear only
// what comes back the way they went.
func (m *message) replyTo(peer netip.AddrPort) netip.AddrPort {
	if _, ok := m.via.params.lookup("rport"); ok {
		return peer
	}
	if host, err := netip.ParseAddr(m.via.host); err == nil && host.Unmap() != peer.Addr() {
		return peer
	}
	port := uint16(defaultPort)
	if m.via.port != 0 {
		port = uint16(m.via.port)
	}
	return netip.AddrPortFrom(peer.Addr(), port)
}

const defaultPort = 5060
