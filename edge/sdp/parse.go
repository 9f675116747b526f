package sdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hookswitch/hookswitch/edge/media/codec"
)

const telephoneEvent = "telephone-event"

// staticFormats are the audio payload types of RFC 3551 §6 that need no rtpmap, as "name/rate".
var staticFormats = map[uint8]string{
	0: "PCMU/8000", 3: "GSM/8000", 4: "G723/8000", 5: "DVI4/8000", 6: "DVI4/16000", 7: "LPC/8000", 8: "PCMA/8000",
	9: "G722/8000", 10: "L16/44100", 11: "L16/44100", 12: "QCELP/8000", 13: "CN/8000", 14: "MPA/90000", 15: "G728/8000",
	16: "DVI4/11025", 17: "DVI4/22050", 18: "G729/8000",
}

// Parse reads a session description. It is lenient about what peers get wrong harmlessly (LF alone, stray spaces, blank
// and unknown lines, missing o=, s= and t=) and checks the audio stream in use. Every error wraps ErrMalformed and names
// the line at fault. A host name for the address is refused: nothing is looked up for a peer.
func Parse(body []byte) (Session, error) {
	if len(body) > MaxBytes {
		return Session{}, malformed("%d bytes, at most %d are read", len(body), MaxBytes)
	}
	var p parser
	number := 0
	for text := range strings.SplitSeq(string(body), "\n") {
		number++
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if err := p.line(text); err != nil {
			return Session{}, fmt.Errorf("%w: line %d, %.60q: %w", ErrMalformed, number, text, err)
		}
	}
	if !p.begun {
		return Session{}, malformed("it is empty")
	}
	return p.finish()
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// parser collects what the lines say until all are read: attributes of the session apply to streams that do not tell
// their own.
type parser struct {
	begun   bool
	origin  Origin
	session section
	streams []stream
}

// section is what c= and a= lines say at one level.
type section struct {
	connection string // as written; checked when the stream turns out to be the one in use
	direction  Direction
	directed   bool
	ptime      int
	maxPTime   int
	rtcp       string
	rtcpMux    bool
	rtpmaps    []rtpmap
}

// rtpmap says which encoding, as "name/rate/channels", a payload type stands for.
type rtpmap struct {
	payloadType uint8
	encoding    string
}

// stream is one m= line with its section.
type stream struct {
	section
	kind, proto string
	port        uint16
	formats     []string
}

func (p *parser) line(text string) error {
	name, value, ok := strings.Cut(text, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || len(name) != 1 {
		return fmt.Errorf(`is not of the form "x=value"`)
	}
	if !p.begun {
		if name != "v" || value != "0" {
			return fmt.Errorf("does not start with v=0")
		}
		p.begun = true
		return nil
	}
	here := &p.session
	if len(p.streams) > 0 {
		here = &p.streams[len(p.streams)-1].section
	}
	switch name {
	case "o":
		p.origin = parseOrigin(value)
	case "c":
		// RFC 8866 §5.7 allows several for layered multicast; the first is as good as any.
		if here.connection == "" {
			here.connection = value
		}
	case "a":
		here.attribute(value)
	case "m":
		return p.media(value)
	}
	return nil
}

// parseOrigin reads what is there: nothing depends on it but telling two descriptions apart.
func parseOrigin(value string) Origin {
	fields := append(strings.Fields(value), make([]string, 6)...)
	return Origin{Username: fields[0], ID: fields[1], Version: fields[2], Addr: fields[5]}
}

// media reads "audio 49170 RTP/AVP 0 8 101", the port perhaps with a count of ports behind a slash.
func (p *parser) media(value string) error {
	if len(p.streams) == MaxLines {
		return fmt.Errorf("more than %d m= lines", MaxLines)
	}
	fields := strings.Fields(value)
	if len(fields) < 4 {
		return fmt.Errorf("m= needs a kind, a port, a protocol and a format")
	}
	for _, field := range fields {
		if !isToken(field) {
			return fmt.Errorf("m= holds bytes other than printable ASCII")
		}
	}
	formats := fields[3:]
	if len(formats) > MaxFormats {
		return fmt.Errorf("%d formats, at most %d are read", len(formats), MaxFormats)
	}
	portText, _, _ := strings.Cut(fields[1], "/")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("port %.20q is not 0–65535", fields[1])
	}
	p.streams = append(p.streams, stream{kind: strings.ToLower(fields[0]), port: uint16(port), proto: fields[2], formats: formats})
	return nil
}

func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

func (s *section) attribute(text string) {
	name, value, _ := strings.Cut(text, ":")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	switch name {
	case "rtpmap":
		s.addRTPMap(value)
	case "ptime":
		s.ptime = milliseconds(value)
	case "maxptime":
		s.maxPTime = milliseconds(value)
	case "rtcp":
		s.rtcp = value
	case "rtcp-mux":
		s.rtcpMux = true
	case "sendrecv", "sendonly", "recvonly", "inactive":
		s.direction, s.directed = Direction(slices.Index(directionNames[:], name)), true
	}
}

// addRTPMap reads "101 telephone-event/8000". A line that cannot be read describes nothing: its payload type stays
// unknown, or what RFC 3551 says it is.
func (s *section) addRTPMap(value string) {
	fields := strings.Fields(value)
	if len(fields) < 2 {
		return
	}
	if pt, ok := payloadType(fields[0]); ok {
		s.rtpmaps = append(s.rtpmaps, rtpmap{payloadType: pt, encoding: strings.Join(fields[1:], "")})
	}
}

func payloadType(text string) (uint8, bool) {
	pt, err := strconv.ParseUint(text, 10, 7)
	return uint8(pt), err == nil
}

// milliseconds reads a packet time, which may have a fraction (RFC 8866 §6.4), 0 for one that makes no sense.
func milliseconds(value string) int {
	ms, err := strconv.ParseFloat(value, 64)
	if err != nil || !(ms >= 1 && ms <= 1000) {
		return 0
	}
	return int(ms)
}

func (p *parser) finish() (Session, error) {
	session := Session{Origin: p.origin, Lines: make([]Line, 0, len(p.streams))}
	for i := range p.streams {
		s := &p.streams[i]
		session.Lines = append(session.Lines, Line{Kind: s.kind, Proto: s.proto, Formats: strings.Join(s.formats, " ")})
	}
	best := p.bestAudio()
	if best < 0 {
		return session, nil
	}
	audio, err := p.streams[best].resolve(&p.session)
	if err != nil {
		return Session{}, malformed("m= line %d: %v", best+1, err)
	}
	session.Audio = &audio
	session.Lines[best].Audio = true
	return session, nil
}

// bestAudio is the index of the stream to use, -1 for none.
func (p *parser) bestAudio() int {
	best, bestRank := -1, 0
	for i := range p.streams {
		if rank := p.streams[i].rank(); rank > bestRank {
			best, bestRank = i, rank
		}
	}
	return best
}

func (s *stream) rank() int {
	switch {
	case s.kind != "audio":
		return 0
	case s.port == 0:
		return 1
	case !plainRTP(s.proto):
		return 2
	}
	for _, f := range s.formats {
		if c, ok := s.codec(f); ok && c.ID.Valid() {
			return 4
		}
	}
	return 3
}

// plainRTP reports whether a profile carries RTP in the clear.
func plainRTP(proto string) bool {
	return strings.EqualFold(proto, "RTP/AVP") || strings.EqualFold(proto, "RTP/AVPF")
}

// resolve makes the Media of a stream with what the session level adds to it.
func (s *stream) resolve(session *section) (Media, error) {
	m := Media{Port: s.port, Proto: s.proto, RTCPMux: s.rtcpMux || session.rtcpMux}
	for _, f := range s.formats {
		c, ok := s.codec(f)
		switch {
		case !ok:
		case strings.EqualFold(c.Name, telephoneEvent):
			if c.Rate == codec.PCMU.ClockRate() && !m.DTMF {
				m.DTMF, m.DTMFPayloadType = true, c.PayloadType
			}
		default:
			m.Codecs = append(m.Codecs, c)
		}
	}
	m.Direction = s.direction
	if !s.directed {
		m.Direction = session.direction
	}
	m.PTime, m.MaxPTime = s.ptime, s.maxPTime
	if m.PTime == 0 {
		m.PTime = session.ptime
	}
	if m.MaxPTime == 0 {
		m.MaxPTime = session.maxPTime
	}
	if s.port == 0 || !plainRTP(s.proto) {
		return m, nil
	}
	return m, s.address(&m, session)
}

// address fills in where the stream goes: its own c= line, else the session's (RFC 8866 §5.7).
func (s *stream) address(m *Media, session *section) error {
	connection := s.connection
	if connection == "" {
		connection = session.connection
	}
	addr, err := parseConnection(connection)
	if err != nil {
		return err
	}
	m.Addr = addr
	if addr.IsUnspecified() {
		// RFC 3264 §8.4: the way RFC 2543 put a call on hold; audio may still come from there.
		m.Direction = m.Direction.And(SendOnly)
	}
	m.RTCP, err = s.parseRTCP(addr)
	return err
}

// parseConnection reads "IN IP4 192.0.2.1". The address itself says its family; some write IP4 before IPv6 ones.
func parseConnection(value string) (netip.Addr, error) {
	if value == "" {
		return netip.Addr{}, fmt.Errorf("no c= line")
	}
	fields := strings.Fields(value)
	if len(fields) < 3 || !strings.EqualFold(fields[0], "IN") {
		return netip.Addr{}, fmt.Errorf(`c=%.60s is not of the form "IN IP4 address"`, value)
	}
	return parseAddr(fields[2])
}

func parseAddr(text string) (netip.Addr, error) {
	text, _, multicast := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%.60q is not an IP address; host names are not looked up", text)
	case addr.Zone() != "":
		return netip.Addr{}, fmt.Errorf("address %.60q has a zone", text)
	case multicast || addr.IsMulticast() || addr.Unmap() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Addr{}, fmt.Errorf("address %.60q is not of one host", text)
	}
	return addr.Unmap(), nil
}

// parseRTCP reads "a=rtcp:53020 IN IP6 2001:db8::1" (RFC 3605); without it RTCP goes to the port after RTP's.
func (s *stream) parseRTCP(addr netip.Addr) (netip.AddrPort, error) {
	if s.rtcp == "" {
		if s.port == 65535 {
			return netip.AddrPort{}, nil
		}
		return netip.AddrPortFrom(addr, s.port+1), nil
	}
	fields := strings.Fields(s.rtcp)
	port, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("a=rtcp port %.20q is not 0–65535", fields[0])
	}
	if len(fields) >= 4 {
		if addr, err = parseAddr(fields[3]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("a=rtcp: %w", err)
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// codec says what a format of an m= line stands for; ok is false for one that is no RTP payload type.
func (s *stream) codec(format string) (c Codec, ok bool) {
	pt, ok := payloadType(format)
	if !ok {
		return Codec{}, false
	}
	parts := strings.SplitN(s.encoding(pt), "/", 3)
	c = Codec{PayloadType: pt, Name: parts[0]}
	known, ok := codec.ByName(c.Name)
	switch {
	case len(parts) > 1:
		c.Rate = clockRate(parts[1])
	case ok:
		c.Rate = known.ClockRate()
	}
	mono := len(parts) < 3 || parts[2] == "1"
	if ok && mono && c.Rate == known.ClockRate() {
		c.ID = known
	}
	return c, true
}

// encoding is what the stream's own rtpmap says of a payload type, else RFC 3551.
func (s *stream) encoding(pt uint8) string {
	for _, m := range s.rtpmaps {
		if m.payloadType == pt {
			return m.encoding
		}
	}
	return staticFormats[pt]
}

// clockRate is 0 for what is no rate.
func clockRate(text string) int {
	rate, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(rate)
}
