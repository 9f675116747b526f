package message

import (
	"encoding/json"
	"encoding/xml"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// values are what stands for the placeholders of a request.
type values map[string]string

// The placeholder whose value is JSON already.
const paramsJSON = "params_json"

var hole = regexp.MustCompile(`\{(to|to_digits|to_national|from|body|id|template_code|signature|params_json|secret)\}`)

// samples are values with all that has to be escaped.
func samples() values {
	return values{
		"to": "+8613800138000", "to_digits": "8613800138000", "to_national": "13800138000", "from": "10690", "body": "\"您好\" \\ <a> & b\n",
		"id": "msg_01J00000000000000000000001", "template_code": "SMS_1", "signature": "x", paramsJSON: `{"code":"\"1\""}`, "secret": "x\"y",
	}
}

// valuesOf are those of a message.
func valuesOf(m *Message, p *Provider) values {
	params := map[string]string{}
	for name, value := range m.Data {
		params[name], _ = scalar(value)
	}
	text, err := json.Marshal(params)
	if err != nil {
		text = []byte("{}") // texts can always be marshalled
	}
	return values{
		"to": m.To, "to_digits": strings.TrimPrefix(m.To, "+"), "to_national": national(m.To), "from": m.From, "body": m.Body, "id": m.ID,
		"template_code": m.TemplateCode, "signature": m.Signature, paramsJSON: string(text), "secret": p.Secret,
	}
}

// national is a number without its country, in digits: what gateways of one country ask for.
func national(number string) string {
	parsed, err := phonenumbers.Parse(number, "")
	if err != nil {
		return strings.TrimPrefix(number, "+")
	}
	return phonenumbers.GetNationalSignificantNumber(parsed)
}

func (v values) in(found string) (name, value string) {
	name = strings.Trim(found, "{}")
	return name, v[name]
}

// fillURL puts values into the query.
func (r Request) fillURL(v values) string {
	front, query, found := strings.Cut(r.URL, "?")
	if !found {
		return r.URL
	}
	return front + "?" + hole.ReplaceAllStringFunc(query, func(found string) string {
		_, value := v.in(found)
		return url.QueryEscape(value)
	})
}

// fillBody puts values into the body, each written so that it can be nothing but a value there.
func (r Request) fillBody(v values) string {
	if r.ContentType == asJSON {
		return fillJSON(r.Body, v)
	}
	return hole.ReplaceAllStringFunc(r.Body, func(found string) string {
		_, value := v.in(found)
		switch r.ContentType {
		case asForm:
			return url.QueryEscape(value)
		case asXML:
			var b strings.Builder
			_ = xml.EscapeText(&b, []byte(value)) // a builder takes everything
			return b.String()
		}
		return value
	})
}

// fillJSON writes a value within quotes as part of the text there, and outside of them as a text of its own; params_json
// is an object outside of quotes, and the text of one within.
func fillJSON(body string, v values) string {
	var b strings.Builder
	inside, from := false, 0
	for _, at := range hole.FindAllStringIndex(body, -1) {
		between := body[from:at[0]]
		inside = insideAfter(between, inside)
		b.WriteString(between)
		name, value := v.in(body[at[0]:at[1]])
		switch quoted := quote(value); {
		case inside:
			b.WriteString(quoted[1 : len(quoted)-1])
		case name == paramsJSON:
			b.WriteString(value)
		default:
			b.WriteString(quoted)
		}
		from = at[1]
	}
	b.WriteString(body[from:])
	return b.String()
}

// insideAfter reports whether a text in quotes is open after some JSON.
func insideAfter(text string, inside bool) bool {
	for i := 0; i < len(text); i++ {
		switch {
		case inside && text[i] == '\\':
			i++
		case text[i] == '"':
			inside = !inside
		}
	}
	return inside
}

func quote(value string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // a text can always be marshalled
	return strings.TrimSuffix(b.String(), "\n")
}

// at finds what a JSON pointer (RFC 6901) leads to; nil where there is nothing.
func at(value any, pointer string) any {
	if pointer == "" {
		return value
	}
	for _, part := range strings.Split(pointer, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// textAt is the text of what a pointer leads to, empty without one; of objects, lists and null there is none.
func textAt(value any, pointer string) string {
	if pointer == "" {
		return ""
	}
	text, _ := scalar(at(value, pointer))
	return text
}
