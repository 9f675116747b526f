package webhooks

import (
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
)

// Vars is what the templates of a program can see.
type Vars struct {
	Call    Call
	Trigger *Trigger
	State   json.RawMessage
	Data    map[string]any
}

// Text fills the templates of plain text: {{data.x}}, {{state.x}}, {{trigger.digits}}, {{call.from}}, and deeper
// paths. What is missing becomes empty. Nothing is evaluated: a template is a path and no more.
func (v Vars) Text(s string) string { return v.expand(s, func(value string) string { return value }) }

// URL fills the templates of a URL, escaping each value for where it stands: percent-encoded, so that a value
// never adds a path segment, a parameter or a host.
func (v Vars) URL(s string) string { return v.expand(s, url.QueryEscape) }

// XML fills the templates of SSML, escaping each value as XML text.
func (v Vars) XML(s string) string { return v.expand(s, html.EscapeString) }

func (v Vars) expand(s string, escape func(string) string) string {
	if !strings.Contains(s, "{{") {
		return s
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "{{")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		path, after, closed := strings.Cut(rest, "}}")
		if !closed {
			out.WriteString("{{" + rest)
			return out.String()
		}
		out.WriteString(escape(v.lookup(strings.TrimSpace(path))))
		s = after
	}
}

// lookup follows a dotted path. The values are walked as JSON, so that a path means the same as in the request an
// application receives.
func (v Vars) lookup(path string) string {
	root, rest, _ := strings.Cut(path, ".")
	var value any
	switch root {
	case "data":
		value = v.Data
	case "state":
		value = asJSON(v.State)
	case "trigger":
		value = asJSON(v.Trigger)
	case "call":
		value = asJSON(v.Call)
	default:
		return ""
	}
	for _, key := range strings.Split(rest, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = object[key]
	}
	return asText(value)
}

func asJSON(v any) any {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var out any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if dec.Decode(&out) != nil {
		return nil
	}
	return out
}

func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any, []any:
		raw, _ := json.Marshal(v) // parsed JSON always marshals
		return string(raw)
	}
	return fmt.Sprint(v)
}
