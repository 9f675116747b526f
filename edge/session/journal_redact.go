package session

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// What a journal never holds: secrets by their names, keys of SRTP and of digests, keys pressed that a masked gather took.

// secretStand stands where a secret was.
const secretStand = "-"

// maskStand stands where a masked key was.
const maskStand = "•"

// secretWords make a name that of a secret, wherever in it they are and however they are written.
var secretWords = []string{"password", "passwd", "secret", "token", "authorization", "apikey", "privatekey"}

// secretName reports whether what goes by a name is a secret: "password", "X-Api-Key", "client_secret".
func secretName(name string) bool {
	if len(name) < len("token") {
		return false
	}
	var plain [64]byte
	n := 0
	for i := 0; i < len(name) && n < len(plain); i++ {
		switch c := name[i]; {
		case 'A' <= c && c <= 'Z':
			plain[n] = c + 'a' - 'A'
			n++
		case c != '_' && c != '-' && c != '.':
			plain[n] = c
			n++
		}
	}
	for _, word := range secretWords {
		if bytes.Contains(plain[:n], []byte(word)) {
			return true
		}
	}
	return false
}

// withoutSecrets is the body of a request or an answer without the values of what secretName names: members of JSON,
// attributes of XML (and the value of an element that has such a name attribute), fields of a form. It reads what is
// malformed as far as that goes.
func withoutSecrets(body []byte) []byte {
	text := bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\ufeff")), " \t\r\n")
	switch {
	case len(text) == 0:
		return body
	case text[0] == '{' || text[0] == '[' || text[0] == '"':
		return jsonWithoutSecrets(body)
	case text[0] == '<':
		return xmlWithoutSecrets(body)
	}
	return []byte(formWithoutSecrets(string(body)))
}

// jsonWithoutSecrets replaces the values of members with secret names. Without one it returns its argument.
func jsonWithoutSecrets(text []byte) []byte {
	var out []byte
	kept := 0
	for i := 0; i < len(text); {
		if text[i] != '"' {
			i++
			continue
		}
		end := stringEnd(text, i)
		name := text[i+1 : max(i+1, end-1)]
		i = skipSpace(text, end)
		if i >= len(text) || text[i] != ':' || !secretMember(name) {
			continue
		}
		i = skipSpace(text, i+1)
		out = append(append(out, text[kept:i]...), `"`+secretStand+`"`...)
		i = valueEnd(text, i)
		kept = i
	}
	if out == nil {
		return text
	}
	return append(out, text[kept:]...)
}

// secretMember is secretName of a member's name as JSON writes it.
func secretMember(name []byte) bool {
	if bytes.IndexByte(name, '\\') < 0 {
		return secretName(string(name))
	}
	var plain string
	if json.Unmarshal(slices.Concat([]byte(`"`), name, []byte(`"`)), &plain) != nil {
		return true // who knows
	}
	return secretName(plain)
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n') {
		i++
	}
	return i
}

// stringEnd is the place after the string that begins at i.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// valueEnd is the place after the value that begins at i.
func valueEnd(text []byte, i int) int {
	if i < len(text) && text[i] == '"' {
		return stringEnd(text, i)
	}
	for depth := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = stringEnd(text, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// xmlWithoutSecrets replaces the values of attributes with secret names, and of <Parameter name="token" value="…">.
func xmlWithoutSecrets(text []byte) []byte {
	var out []byte
	kept := 0
	for i := 0; i < len(text); {
		at := bytes.IndexByte(text[i:], '<')
		if at < 0 {
			break
		}
		i += at + 1
		secrets, end := secretAttributes(text, i)
		for _, s := range secrets {
			out = append(append(out, text[kept:s[0]]...), secretStand...)
			kept = s[1]
		}
		i = end
	}
	if out == nil {
		return text
	}
	return append(out, text[kept:]...)
}

// secretAttributes are the places of an element's secret values, and where its tag, which is open at i, ends.
func secretAttributes(text []byte, i int) (secrets [][2]int, end int) {
	named, value := false, [2]int{-1, -1}
	nameFrom := i
	for i < len(text) && text[i] != '>' {
		switch c := text[i]; c {
		case '"', '\'':
			closing := bytes.IndexByte(text[i+1:], c)
			to := len(text)
			if closing >= 0 {
				to = i + 1 + closing
			}
			name := string(bytes.Trim(text[nameFrom:i], " \t\r\n="))
			switch {
			case secretName(name):
				secrets = append(secrets, [2]int{i + 1, to})
			case strings.EqualFold(name, "name"):
				named = secretName(string(text[i+1 : to]))
			case strings.EqualFold(name, "value"):
				value = [2]int{i + 1, to}
			}
			i = min(to+1, len(text))
			nameFrom = i
		case ' ', '\t', '\r', '\n':
			next := skipSpace(text, i)
			signed := next < len(text) && text[next] == '=' || text[i-1] == '='
			if i = next; !signed { // else the name goes on to its value
				nameFrom = i
			}
		default:
			i++
		}
	}
	if named && value[0] >= 0 {
		secrets = append(secrets, value)
		slices.SortFunc(secrets, func(a, b [2]int) int { return a[0] - b[0] })
	}
	return secrets, i
}

// formWithoutSecrets replaces the values of a form's fields with secret names.
func formWithoutSecrets(form string) string {
	if !strings.Contains(form, "=") {
		return form
	}
	fields := strings.Split(form, "&")
	for i, field := range fields {
		name, _, ok := strings.Cut(field, "=")
		if plain, err := url.QueryUnescape(name); ok && (err != nil || secretName(plain)) {
			fields[i] = name + "=" + secretStand
		}
	}
	return strings.Join(fields, "&")
}

// urlWithoutSecrets is a URL without the password in it, and without the values of parameters with secret names.
func urlWithoutSecrets(text string) string {
	if !strings.ContainsAny(text, "@?#") {
		return text
	}
	text, fragment, hasFragment := strings.Cut(text, "#")
	text, query, hasQuery := strings.Cut(text, "?")
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		host, path, hasPath := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			user, _, _ := strings.Cut(host[:at], ":")
			host = user + ":" + secretStand + host[at:]
		}
		if text = scheme + "://" + host; hasPath {
			text += "/" + path
		}
	}
	if hasQuery {
		text += "?" + formWithoutSecrets(query)
	}
	if hasFragment {
		text += "#" + formWithoutSecrets(fragment)
	}
	return text
}

// sipWithoutSecrets is a SIP message without what must not be kept of it: header fields with secret names
// (Authorization, Proxy-Authorization, X-Api-Key), the passwords of SIP URIs, the keys of a session description
// (RFC 4568 §9.1, RFC 8866 §5.12, RFC 8839 §5.4), and every key pressed in an INFO, whose meaning is known later, when an
// instruction has taken it: the entry "input" tells it.
func sipWithoutSecrets(message []byte) []byte {
	head, body, whole := bytes.Cut(message, []byte("\r\n\r\n"))
	out := make([]byte, 0, len(message)+16)
	first, hidden := true, false
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if !first {
			if folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t'); folded && hidden {
				continue
			}
			out = append(out, "\r\n"...)
			name, _, ok := bytes.Cut(line, []byte(":"))
			if hidden = ok && secretName(string(bytes.TrimSpace(name))); hidden {
				out = append(append(out, name...), ": "+secretStand...)
				continue
			}
		}
		first = false
		out = appendWithoutPasswords(out, line)
	}
	if !whole {
		return out
	}
	out = append(out, "\r\n\r\n"...)
	if bytes.HasPrefix(head, []byte("INFO ")) {
		return append(out, infoWithoutKeys(body)...)
	}
	for len(body) > 0 {
		line := body
		if end := bytes.IndexByte(body, '\n'); end >= 0 {
			line = body[:end+1]
		}
		body = body[len(line):]
		out = appendSDPLine(out, line)
	}
	return out
}

// appendWithoutPasswords appends a line in which "sip:user:password@host" has lost the password (RFC 3261 §19.1.1).
func appendWithoutPasswords(out, line []byte) []byte {
	for {
		at := bytes.IndexByte(line, '@')
		if at < 0 {
			return append(out, line...)
		}
		user := line[:at]
		scheme := max(lastFold(user, "sip:")+len("sip:"), lastFold(user, "sips:")+len("sips:"))
		colon := -1
		if scheme >= len("sip:") {
			colon = bytes.IndexByte(user[scheme:], ':')
		}
		if colon >= 0 && !bytes.ContainsAny(user[scheme:], " <>\"") {
			out = append(append(out, user[:scheme+colon+1]...), secretStand...)
		} else {
			out = append(out, user...)
		}
		out = append(out, '@')
		line = line[at+1:]
	}
}

// lastFold is the last place of a lower-case word, whatever the case in text; far below 0 for none.
func lastFold(text []byte, word string) int {
	for i := len(text) - len(word); i >= 0; i-- {
		if text[i+len(word)-1] == ':' && strings.EqualFold(string(text[i:i+len(word)]), word) {
			return i
		}
	}
	return -1 << 20
}

// appendSDPLine appends a line of a body without its keys.
func appendSDPLine(out, line []byte) []byte {
	text := bytes.TrimRight(line, "\r\n")
	ending := line[len(text):]
	cut := -1
	switch {
	case bytes.HasPrefix(text, []byte("k=")):
		cut = len("k=")
	case bytes.HasPrefix(text, []byte("a=key-mgmt:")), bytes.HasPrefix(text, []byte("a=ice-pwd:")):
		cut = bytes.IndexByte(text, ':') + 1
	case bytes.HasPrefix(text, []byte("a=")):
		if at := bytes.Index(bytes.ToLower(text), []byte("inline:")); at >= 0 {
			cut = at + len("inline:")
		}
	}
	if cut < 0 {
		return append(out, line...)
	}
	return append(append(append(out, text[:cut]...), secretStand...), ending...)
}

// infoWithoutKeys replaces whatever in an INFO's body could be a key: "Signal=5", "5", and vendors' own forms.
func infoWithoutKeys(body []byte) []byte {
	if len(bytes.TrimSpace(body)) <= 2 {
		return []byte(maskStand)
	}
	var out []byte
	for line := range bytes.Lines(body) {
		name, value, ok := bytes.Cut(line, []byte("="))
		switch word := strings.ToLower(string(bytes.TrimSpace(name))); {
		case ok && word == "duration":
			out = append(out, line...)
		case ok && word == "signal":
			text := bytes.TrimRight(value, "\r\n")
			out = append(append(append(append(out, name...), '='), maskStand...), value[len(text):]...)
		default:
			for _, c := range line {
				if ('0' <= c && c <= '9') || c == '*' || c == '#' {
					out = append(out, maskStand...)
				} else {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// hiding is what masked gathers have taken in a call, and in the legs that it dials: they are told its data and may ring
// what was typed. It is shared by their journals.
type hiding struct {
	mu    sync.Mutex // guards texts, whose elements never change
	texts []string
}

// hide remembers what was typed. One or two keys are no secret, and would be found everywhere.
func (h *hiding) hide(keys string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(keys) < 3 || slices.Contains(h.texts, keys) {
		return
	}
	texts := append(slices.Clone(h.texts), keys) // readers have the old one
	if escaped := url.QueryEscape(keys); escaped != keys {
		texts = append(texts, escaped)
	}
	// The longer first, or what is left of it could not be found any more.
	slices.SortFunc(texts, func(a, b string) int { return len(b) - len(a) })
	h.texts = texts
}

// hidden are the texts to be hidden, nil for none.
func (h *hiding) hidden() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.texts
}

// clean replaces in a text what was typed: four keys and more wherever they stand, three where they are no part of a
// longer number.
func (h *hiding) clean(text []byte) []byte {
	for _, keys := range h.hidden() {
		if bytes.Contains(text, []byte(keys)) {
			text = replaceKeys(text, keys)
		}
	}
	return text
}

func replaceKeys(text []byte, keys string) []byte {
	stand := strings.Repeat(maskStand, len(keys))
	var out []byte
	rest := text
	for {
		at := bytes.Index(rest, []byte(keys))
		if at < 0 {
			return append(out, rest...)
		}
		end := at + len(keys)
		part := len(keys) == 3 && (at > 0 && isDigit(rest[at-1]) || end < len(rest) && isDigit(rest[end]))
		out = append(out, rest[:at]...)
		if part {
			out = append(out, keys...)
		} else {
			out = append(out, stand...)
		}
		rest = rest[end:]
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// cleanJSON is clean for a JSON value: it stays one, also where a number was hidden in.
func (h *hiding) cleanJSON(text []byte) []byte {
	cleaned := h.clean(text)
	if len(cleaned) == len(text) || json.Valid(cleaned) {
		return cleaned
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return []byte(`"` + secretStand + `"`)
	}
	out, err := json.Marshal(h.cleanValue(value))
	if err != nil {
		return []byte(`"` + secretStand + `"`)
	}
	return out
}

func (h *hiding) cleanValue(value any) any {
	switch v := value.(type) {
	case string:
		return string(h.clean([]byte(v)))
	case json.Number:
		if cleaned := string(h.clean([]byte(v))); cleaned != string(v) {
			return cleaned
		}
	case []any:
		for i := range v {
			v[i] = h.cleanValue(v[i])
		}
	case map[string]any:
		for name, each := range v {
			delete(v, name)
			v[string(h.clean([]byte(name)))] = h.cleanValue(each)
		}
	}
	return value
}
