package journal

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// Who may not see telephone numbers sees none in a journal either. Numbers stand anywhere in it: in SIP URIs, in display
// names, in bodies that applications have made, in what was keyed. So all that could be one is hidden but for its last two
// digits, unless it is known to be something else; that hides more than numbers, and never less.

// keyed are the members whose every digit is hidden, however few there are.
var keyed = map[string]bool{
	"key": true, "digit": true, "digits": true, "finish_on_key": true, "from": true, "to": true, "dialed": true, "caller_id": true,
	"number": true, "extension": true, "sip": true, "target": true, "diversion": true, "called": true, "caller": true,
}

// fixed are texts with digits that are no number: our ids, and times as RFC 3339 writes them.
var fixed = regexp.MustCompile(`\b(?:acc|act|agt|app|call|conf|conv|cred|cus|edge|evt|med|msg|num|que|rec|req|trk|usr|vm)_[0-9A-HJKMNP-TV-Z]{26}\b|` +
	`\b20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:\.[0-9]{1,9})?Z`)

// hide gives entries as a reader with the mask may see them.
func hide(entries []Entry, mask auth.Mask) []Entry {
	if !mask.Numbers {
		return entries
	}
	hidden := make([]Entry, len(entries))
	for i, e := range entries {
		hidden[i] = Entry{hideEntry(e.text, mask)}
	}
	return hidden
}

func hideEntry(text []byte, mask auth.Mask) []byte {
	var members map[string]any
	if decode(text, &members) != nil {
		return []byte(`{"t":0,"kind":"warning","code":"unreadable"}`)
	}
	kind, _ := members["kind"].(string)
	for name, value := range members {
		switch {
		case ours[name]:
		case name == "message" && (kind == "sip_in" || kind == "sip_out"):
			members[name] = hideSIP(stringOf(value))
		case name == "body":
			members[name] = hideBody(stringOf(value), mask)
		case name == "url":
			members[name] = hideURL(stringOf(value))
		default:
			members[name] = hideMember(name, value, mask)
		}
	}
	return encode(members)
}

func stringOf(value any) string {
	text, _ := value.(string)
	return text
}

func decode(text []byte, value any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(value)
}

func encode(value any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if e.Encode(value) != nil {
		return []byte(`{"t":0,"kind":"warning","code":"unreadable"}`)
	}
	return bytes.TrimSpace(out.Bytes())
}

// hideMember hides what is in a member of our own entries and of JSON that applications have made.
func hideMember(name string, value any, mask auth.Mask) any {
	switch v := value.(type) {
	case string:
		switch {
		case keyed[strings.ToLower(name)]:
			return hideDigits(v, 1)
		case strings.Contains(v, "sip:") || strings.Contains(v, "tel:") || strings.Contains(v, "sips:"):
			return hideDigits(v, 1)
		}
		return hideDigits(v, shortestNumber)
	case json.Number:
		if isNumber(v.String()) {
			return hideDigits(v.String(), 1)
		}
		return v
	case []any:
		for i := range v {
			v[i] = hideMember(name, v[i], mask)
		}
	case map[string]any:
		for inner, each := range v {
			hidden := hideMember(inner, each, mask)
			delete(v, inner)
			v[hideDigits(inner, shortestNumber)] = hidden
		}
	}
	return value
}

// isNumber reports whether a JSON number could be a telephone number, rather than an amount.
func isNumber(text string) bool {
	whole, digits := 0, 0
	for i, c := range text {
		if '0' <= c && c <= '9' {
			digits++
		}
		if digits == i+1 {
			whole = digits
		}
	}
	return whole > 4 || digits > 6
}

// ours are the members of an entry itself that never hold a number of anybody.
var ours = map[string]bool{"t": true, "kind": true, "pressed": true, "length": true, "ms": true, "sequence": true, "dropped": true, "codec": true}

// shortestNumber is the least digits that could be a number where nothing says that it is one.
const shortestNumber = 3

// hideBody hides numbers in what was sent to an application, and in what it answered.
func hideBody(body string, mask auth.Mask) string {
	text := strings.TrimSpace(body)
	switch {
	case strings.HasPrefix(text, "{") || strings.HasPrefix(text, "["):
		var value any
		if decode([]byte(text), &value) == nil {
			return string(encode(hideMember("", value, mask)))
		}
	case !strings.HasPrefix(text, "<") && strings.Contains(text, "="):
		return hideForm(text)
	}
	return hideDigits(body, 1) // who knows what is a number in it
}

func hideForm(form string) string {
	fields := strings.Split(form, "&")
	for i, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		if plain, err := url.QueryUnescape(value); err == nil {
			value = plain
		}
		fields[i] = name + "=" + strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", " ", "+").Replace(hideDigits(value, 1))
	}
	return strings.Join(fields, "&")
}

func hideURL(text string) string {
	address, query, ok := strings.Cut(text, "?")
	scheme, rest, _ := strings.Cut(address, "://")
	host, path, hasPath := strings.Cut(rest, "/")
	out := scheme + "://" + host // the account's own, as its application has it
	if hasPath {
		out += "/" + hideDigits(path, shortestNumber)
	}
	if ok {
		out += "?" + hideDigits(query, 1)
	}
	return out
}

// hideSIP hides numbers in a SIP message: in the user parts of its URIs, and whatever else has three digits and more, but
// for the status. Addresses and ports go with them.
func hideSIP(message string) string {
	var out strings.Builder
	for line := range strings.Lines(message) {
		status := ""
		if out.Len() == 0 && strings.HasPrefix(line, "SIP/2.0 ") && len(line) >= len("SIP/2.0 200") {
			status, line = line[:len("SIP/2.0 200")], line[len("SIP/2.0 200"):]
		}
		least := shortestNumber
		for _, scheme := range []string{"sip:", "sips:", "tel:", "SIP:", "SIPS:", "TEL:"} {
			if strings.Contains(line, scheme) {
				least = 1
			}
		}
		hidden := hideDigits(line, least)
		if least == 1 {
			hidden = strings.Replace(hidden, "SIP/*.*", "SIP/2.0", 1)
		}
		out.WriteString(status + hidden)
	}
	return out.String()
}

// hideDigits hides every run of so many digits and more but for the last two of it, or all of one of two and less. A run is
// digits however they are written, with up to three signs between them that people put into numbers: "138 0013-8000",
// "%31%33", "\u0031", "&#49;", "１３８".
func hideDigits(text string, least int) string {
	var out strings.Builder
	from := 0
	for _, at := range fixed.FindAllStringIndex(text, -1) {
		hideRuns(&out, text[from:at[0]], least)
		out.WriteString(text[at[0]:at[1]])
		from = at[1]
	}
	hideRuns(&out, text[from:], least)
	return out.String()
}

func hideRuns(out *strings.Builder, text string, least int) {
	for len(text) > 0 {
		if digitSize(text) == 0 {
			_, size := utf8.DecodeRuneInString(text)
			out.WriteString(text[:size])
			text = text[size:]
			continue
		}
		count, end := measureRun(text)
		shown := 0 // from the end
		switch {
		case count < least:
			shown = count
		case count > 2:
			shown = 2
		}
		for n, i := 0, 0; i < end; {
			size := digitSize(text[i:])
			if size == 0 { // a sign in between
				size = signSize(text[i:])
				out.WriteString(text[i : i+size])
				i += size
				continue
			}
			if n++; n <= count-shown {
				out.WriteByte('*')
			} else {
				out.WriteString(text[i : i+size])
			}
			i += size
		}
		text = text[end:]
	}
}

// measureRun gives how many digits the run has that a text begins with, and where it ends.
func measureRun(text string) (count, end int) {
	for i := 0; i < len(text); {
		if size := digitSize(text[i:]); size > 0 {
			i += size
			count, end = count+1, i
			continue
		}
		gap := i
		for range 3 {
			gap += signSize(text[gap:])
		}
		if gap == i || digitSize(text[gap:]) == 0 {
			break
		}
		i = gap
	}
	return count, end
}

// written are the ways to write an ASCII digit: of a URL, of JSON, of XML.
var written = regexp.MustCompile(`^(?:%3[0-9]|\\u003[0-9]|&#0*(?:4[89]|5[0-7]);|&#[xX]0*3[0-9];)`)

// digitSize is how long the digit is that a text begins with; 0 for none.
func digitSize(text string) int {
	if text == "" {
		return 0
	}
	switch c := text[0]; {
	case '0' <= c && c <= '9':
		return 1
	case c == '%' || c == '\\' || c == '&':
		return len(written.FindString(text))
	case c < utf8.RuneSelf:
		return 0
	}
	if r, size := utf8.DecodeRuneInString(text); unicode.IsDigit(r) {
		return size
	}
	return 0
}

// signSize is how long the sign is, of those that people put into numbers, that a text begins with; 0 for none.
func signSize(text string) int {
	for _, sign := range []string{" ", "-", ".", "(", ")", "/", "\u00a0", "%20", "%2D", "%2d", "%2E", "%2e", "%28", "%29"} {
		if strings.HasPrefix(text, sign) {
			return len(sign)
		}
	}
	return 0
}
