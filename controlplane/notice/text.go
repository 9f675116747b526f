package notice

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// scope is what the placeholders of a template can name.
type scope struct {
	rule    string
	account string
	count   int64
	event   *told
	zone    *time.Location
}

// roots are the names that a placeholder may have, beside a path into data.
func roots() []string {
	return []string{"rule", "account", "count", "event.id", "event.type", "event.object_id", "event.occurred_at"}
}

// checkPlaceholders refuses a template that names what there is not.
func checkPlaceholders(pointer, text string) error {
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "{{")
		if !found {
			return nil
		}
		path, left, closed := strings.Cut(after, "}}")
		if !closed {
			return problem.InvalidField(pointer, "placeholder", "has {{ without }}")
		}
		path = strings.TrimSpace(path)
		root, deeper, _ := strings.Cut(path, ".")
		if !slices.Contains(roots(), path) && (root != "data" || deeper == "") {
			return problem.InvalidField(pointer, "placeholder", "has {{%s}}; there are %s and data.…", path, strings.Join(roots(), ", "))
		}
		rest = left
	}
}

const (
	maxValue = 300  // characters of a value in a text
	maxText  = 2000 // of a line or subject with its values
)

// fill puts values in the place of placeholders. Nothing is evaluated: a placeholder is a path and no more. What is
// missing becomes empty. The result is one line, whatever is in the values: they come from callers and applications.
func (s scope) fill(text string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{{")
		out.WriteString(before)
		if !found {
			break
		}
		path, after, _ := strings.Cut(rest, "}}")
		out.WriteString(clean(s.value(strings.TrimSpace(path)), maxValue))
		text = after
	}
	return clean(out.String(), maxText)
}

// clean makes a text one line of at most n characters.
func clean(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n]) + "…"
}

func (s scope) value(path string) string {
	switch path {
	case "rule":
		return s.rule
	case "account":
		return s.account
	case "count":
		return fmt.Sprint(s.count)
	}
	if s.event == nil {
		return ""
	}
	switch path {
	case "event.id":
		return s.event.EventID
	case "event.type":
		return s.event.Type
	case "event.object_id":
		return s.event.ObjectID
	case "event.occurred_at":
		return s.event.OccurredAt.In(s.zone).Format("2006-01-02 15:04:05 -07:00")
	}
	keys := strings.Split(path, ".")
	var value any = s.event.Data
	for _, key := range keys[1:] {
		object, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = object[key]
	}
	return readable(value)
}

// readable is a JSON value as a person reads it.
func readable(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// words are the defaults of a language.
type words struct {
	Template
	head string // with the number of events
	more string // with the number of those left out
	test Template
}

func wordsOf(language string) words {
	if language == "zh-CN" {
		return words{
			Template: Template{Subject: "{{rule}}：{{count}} 条通知", Line: "{{event.occurred_at}}  {{event.type}}  {{event.object_id}}"},
			head:     "以下是“{{rule}}”的 {{count}} 条通知：", more: "……另有 %d 条未列出。",
			test: Template{Subject: "测试通知", Line: "这是一条测试通知：{{account}} 的通知渠道“{{rule}}”工作正常。"},
		}
	}
	return words{
		Template: Template{Subject: "{{rule}}: {{count}} notifications", Line: "{{event.occurred_at}}  {{event.type}}  {{event.object_id}}"},
		head:     "{{count}} notifications of \"{{rule}}\":", more: "… and %d more.",
		test: Template{Subject: "Test notification", Line: "This is a test: the notification channel \"{{rule}}\" of {{account}} works."},
	}
}

// in gives a rule's template in a language, with the defaults for what it leaves out.
func (t Templates) in(language string) Template {
	own, standard := t.English, wordsOf(language).Template
	if language == "zh-CN" {
		own = t.Chinese
	}
	if own.Subject == "" {
		own.Subject = standard.Subject
	}
	if own.Line == "" {
		own.Line = standard.Line
	}
	return own
}

// digest is the subject and body of a notification of count events, of which the first ones are given.
func digest(s scope, t Template, language string, events []told) (subject, body string) {
	if len(events) > 0 {
		s.event = &events[0]
	}
	subject = s.fill(t.Subject)
	lines := []string{s.fill(wordsOf(language).head), ""}
	for i := range events {
		s.event = &events[i]
		lines = append(lines, s.fill(t.Line))
	}
	if left := s.count - int64(len(events)); left > 0 {
		lines = append(lines, "", fmt.Sprintf(wordsOf(language).more, left))
	}
	return subject, strings.Join(lines, "\n") + "\n"
}
