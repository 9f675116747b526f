package sip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/netip"
	"strconv"
	"strings"
)

// URI is a sip, sips or tel URI. Other schemes have only Scheme and, in Host, everything after the colon.
type URI struct {
	Scheme string // lower case
	User   string // unescaped, without password; the number of a tel URI
	Host   string // lower case, IPv6 without brackets; empty for tel
	Port   int    // 0 when not given
	Params string // "transport=tcp;lr", as it came
}

// Param returns a URI parameter and whether it is there.
func (u URI) Param(name string) (string, bool) {
	p, err := parseParams(u.Params)
	if err != nil {
		return "", false
	}
	return p.lookup(name)
}

// String renders the URI without the headers it may have come with.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString(u.Scheme)
	b.WriteByte(':')
	switch u.Scheme {
	case "tel":
		b.WriteString(escapeUser(u.User))
	case "sip", "sips":
		if u.User != "" {
			b.WriteString(escapeUser(u.User))
			b.WriteByte('@')
		}
		b.WriteString(bracket(u.Host))
		if u.Port != 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(u.Port))
		}
	default:
		b.WriteString(u.Host)
	}
	if u.Params != "" {
		b.WriteByte(';')
		b.WriteString(u.Params)
	}
	return b.String()
}

// ParseURI reads a URI (RFC 3261 §19.1.1, RFC 3966). Headers after "?" are dropped: they must never be acted upon.
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isScheme(scheme) {
		return URI{}, fmt.Errorf("uri %.64q: no scheme", s)
	}
	if i := strings.IndexAny(s, " \t<>\""); i >= 0 || hasControl(s) {
		return URI{}, fmt.Errorf("uri %.64q: forbidden character", s)
	}
	u := URI{Scheme: strings.ToLower(scheme)}
	switch u.Scheme {
	case "tel":
		number, params, _ := strings.Cut(rest, ";")
		u.User, u.Params = unescape(number), params
		if number == "" {
			return URI{}, errors.New("uri: tel without a number")
		}
		return u, nil
	case "sip", "sips":
	default:
		u.Host = rest
		return u, nil
	}
	// userinfo may hold ; ? / but never an unescaped @.
	if user, after, ok := strings.Cut(rest, "@"); ok {
		user, _, _ = strings.Cut(user, ":")
		if user == "" {
			return URI{}, fmt.Errorf("uri %.64q: empty user", s)
		}
		u.User = unescape(user)
		rest = after
	}
	rest, _, _ = strings.Cut(rest, "?")
	hostport, params, _ := strings.Cut(rest, ";")
	u.Params = params
	host, port, err := splitHostPort(hostport)
	if err != nil {
		return URI{}, fmt.Errorf("uri %.64q: %w", s, err)
	}
	u.Host, u.Port = strings.ToLower(host), port
	return u, nil
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if 'a' <= c && c <= 'z' || i > 0 && ('0' <= s[i] && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.') {
			continue
		}
		return false
	}
	return s != ""
}

// splitHostPort takes host, host:port, [v6] and [v6]:port; the port is 0 when absent.
func splitHostPort(s string) (host string, port int, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, errors.New("no ] after the address")
		}
		host, s = s[1:end], s[end+1:]
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return "", 0, errors.New("not an IPv6 address")
		}
		if s != "" && s[0] != ':' {
			return "", 0, errors.New("text after ]")
		}
		s = strings.TrimSpace(strings.TrimPrefix(s, ":"))
	} else {
		host, s, _ = strings.Cut(s, ":")
		host, s = strings.TrimSpace(host), strings.TrimSpace(s)
	}
	if !isHost(host) {
		return "", 0, fmt.Errorf("host %.64q", host)
	}
	if s == "" {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %.16q", s)
	}
	return host, int(n), nil
}

// isHost is liberal: names in the field hold underscores. It only has to be harmless inside a message.
func isHost(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ':':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 255
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// unescape decodes %XX. A value that would then hold control characters stays as it came.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(v))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	if hasControl(string(b)) {
		return s
	}
	return string(b)
}

// escapeUser encodes what the user part may not hold (RFC 3261 §25.1 user).
func escapeUser(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = isUserChar(s[i])
	}
	if clean {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); i++ {
		if c := s[i]; isUserChar(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func isUserChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0
}

// param is one ;name=value. Quotes around a value are removed.
type param struct {
	name, value string
	hasValue    bool
	quoted      bool
}

type params []param

func (p params) lookup(name string) (string, bool) {
	for _, v := range p {
		if strings.EqualFold(v.name, name) {
			return v.value, true
		}
	}
	return "", false
}

func (p params) get(name string) string {
	v, _ := p.lookup(name)
	return v
}

func (p params) String() string {
	var b strings.Builder
	for _, v := range p {
		b.WriteByte(';')
		b.WriteString(v.name)
		if !v.hasValue {
			continue
		}
		b.WriteByte('=')
		if v.quoted {
			b.WriteString(quote(v.value))
		} else {
			b.WriteString(v.value)
		}
	}
	return b.String()
}

var (
	errQuote = errors.New("quotation mark without its pair")
	errParam = errors.New("malformed parameter")
)

// parseParams reads "a=b; c ;d="e;f"" with any white space around = and ;. Empty parameters, as after a last semicolon,
// are skipped.
func parseParams(s string) (params, error) {
	var out params
	for {
		s = strings.TrimLeft(s, " \t;")
		if s == "" {
			return out, nil
		}
		i := strings.IndexAny(s, "=;\",")
		if i >= 0 && (s[i] == '"' || s[i] == ',') {
			return nil, errParam
		}
		if i < 0 {
			i = len(s)
		}
		p := param{name: strings.TrimRight(s[:i], " \t")}
		if p.name == "" || strings.ContainsAny(p.name, " \t<>@") {
			return nil, errParam
		}
		s = s[i:]
		if strings.HasPrefix(s, "=") {
			var err error
			if s, err = p.readValue(strings.TrimLeft(s[1:], " \t")); err != nil {
				return nil, err
			}
		}
		out = append(out, p)
	}
}

// readValue takes the value at the start of s and returns what follows it.
func (p *param) readValue(s string) (string, error) {
	p.hasValue = true
	if !strings.HasPrefix(s, "\"") {
		i := strings.IndexByte(s, ';')
		if i < 0 {
			i = len(s)
		}
		p.value = strings.TrimRight(s[:i], " \t")
		if strings.ContainsAny(p.value, " \t\",") {
			return "", errParam
		}
		return s[i:], nil
	}
	v, n, err := unquote(s)
	if err != nil {
		return "", err
	}
	p.value, p.quoted = v, true
	s = strings.TrimLeft(s[n:], " \t")
	if s != "" && s[0] != ';' {
		return "", errParam
	}
	return s, nil
}

// unquote reads the quoted-string at the start of s and returns its content and its length with the quotes.
func unquote(s string) (string, int, error) {
	var b []byte
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return "", 0, errQuote
			}
			b = append(b, s[i])
		case '"':
			return string(b), i + 1, nil
		default:
			b = append(b, s[i])
		}
	}
	return "", 0, errQuote
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// nameAddr is From, To, Contact, a route or an identity.
type nameAddr struct {
	display string
	uri     string // as it came
	params  params
}

func (a nameAddr) tag() string { return a.params.get("tag") }

// party gives the parts people look at; unparsable URIs give only the display name.
func (a nameAddr) party() Party {
	p := Party{Display: printable(a.display)}
	if u, err := ParseURI(a.uri); err == nil {
		p.User, p.Host = u.User, u.Host
	}
	return p
}

var errAddress = errors.New("malformed address")

// parseNameAddr reads name-addr or addr-spec with header parameters (RFC 3261 §20.10). Without brackets everything after
// the first semicolon belongs to the header.
func parseNameAddr(s string) (nameAddr, error) {
	var a nameAddr
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "\"") {
		display, n, err := unquote(s)
		if err != nil {
			return a, err
		}
		a.display = display
		s = strings.TrimSpace(s[n:])
		if !strings.HasPrefix(s, "<") {
			return a, errAddress
		}
	}
	var rest string
	if i := strings.IndexByte(s, '<'); i >= 0 && !strings.ContainsAny(s[:i], ";\"") {
		if a.display == "" {
			a.display = strings.TrimSpace(s[:i])
			if !isDisplayTokens(a.display) {
				return a, errAddress
			}
		}
		end := strings.IndexByte(s[i:], '>')
		if end < 0 {
			return a, errAddress
		}
		a.uri, rest = s[i+1:i+end], strings.TrimLeft(s[i+end+1:], " \t")
		if rest != "" && rest[0] != ';' {
			return a, errAddress
		}
	} else {
		if i := strings.IndexByte(s, ';'); i >= 0 {
			s, rest = s[:i], s[i:]
		}
		a.uri = strings.TrimRight(s, " \t")
		if strings.ContainsAny(a.uri, "?,") {
			return a, errAddress
		}
	}
	if _, err := ParseURI(a.uri); err != nil {
		return a, err
	}
	var err error
	a.params, err = parseParams(rest)
	return a, err
}

// isDisplayTokens accepts what a display name without quotes may hold, and raw UTF-8, which many phones send.
func isDisplayTokens(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isTokenChar(c) && c != ' ' && c != '\t' && c < 0x80 {
			return false
		}
	}
	return true
}

// formatParty renders an identity; control characters in the display name are dropped and the user is escaped.
func formatParty(p Party) (string, error) {
	if !isHost(p.Host) {
		return "", fmt.Errorf("host %.64q of address", p.Host)
	}
	u := URI{Scheme: "sip", User: p.User, Host: p.Host}
	display := printable(p.Display)
	if display == "" {
		return "<" + u.String() + ">", nil
	}
	return quote(display) + " <" + u.String() + ">", nil
}

// printable is s without control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// via is one Via value.
type via struct {
	transport string // upper case
	host      string // IPv6 without brackets
	port      int
	params    params
}

func (v via) branch() string { return v.params.get("branch") }

func (v via) String() string {
	s := "SIP/2.0/" + v.transport + " " + bracket(v.host)
	if v.port != 0 {
		s += ":" + strconv.Itoa(v.port)
	}
	return s + v.params.String()
}

var errVia = errors.New("malformed Via")

// parseVia reads one Via value with white space wherever RFC 3261 §25.1 allows it.
func parseVia(s string) (via, error) {
	var v via
	name, rest, ok := strings.Cut(s, "/")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "SIP") {
		return v, errVia
	}
	version, rest, ok := strings.Cut(rest, "/")
	if !ok || strings.TrimSpace(version) != "2.0" {
		return v, errVia
	}
	rest = strings.TrimLeft(rest, " \t")
	i := strings.IndexAny(rest, " \t")
	if i <= 0 || !isToken(rest[:i]) {
		return v, errVia
	}
	v.transport = strings.ToUpper(rest[:i])
	sentBy := strings.TrimLeft(rest[i:], " \t")
	var list string
	if i := strings.IndexByte(sentBy, ';'); i >= 0 {
		sentBy, list = sentBy[:i], sentBy[i+1:]
	}
	var err error
	if v.host, v.port, err = splitHostPort(strings.TrimSpace(sentBy)); err != nil {
		return v, errVia
	}
	v.params, err = parseParams(list)
	return v, err
}

// mediaType splits a Content-Type into its lower-case type and its parameters.
func mediaType(s string) (string, params) {
	kind, list, _ := strings.Cut(s, ";")
	t, sub, _ := strings.Cut(kind, "/")
	p, err := parseParams(list)
	if err != nil {
		p = nil
	}
	return strings.ToLower(strings.TrimSpace(t) + "/" + strings.TrimSpace(sub)), p
}

// sdpPart finds the application/sdp part of a multipart body, nil when there is none.
func sdpPart(body []byte, boundary string) []byte {
	if boundary == "" {
		return nil
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for range 16 {
		part, err := r.NextRawPart()
		if err != nil {
			return nil
		}
		if kind, _ := mediaType(part.Header.Get("Content-Type")); kind == "application/sdp" {
			b, err := io.ReadAll(part)
			if err != nil {
				return nil
			}
			return b
		}
	}
	return nil
}
