package webhooks

import (
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func rules(tag reflect.StructTag) []string {
	text := tag.Get("check")
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func hasRule(tag reflect.StructTag, name string) bool { return slices.Contains(rules(tag), name) }

// ruleset is what a field's tag says of its values, read once.
type ruleset struct {
	all       []string
	enum      []string // all there may be; nil: anything
	later     []string // not yet
	low, high float64
	bounded   bool
	standard  *string // the default
}

func readRules(tag reflect.StructTag) ruleset {
	r := ruleset{all: rules(tag)}
	if text := tag.Get("enum"); text != "" {
		r.enum = strings.Split(text, "|")
	}
	if text := tag.Get("later"); text != "" {
		r.later = strings.Split(text, "|")
	}
	if text, ok := tag.Lookup("default"); ok {
		r.standard = &text
	}
	r.low, r.high, r.bounded = bounds(tag)
	return r
}

// check applies a field's rules to the value it was given.
func check(at string, v reflect.Value, r *ruleset) *ProgramError {
	if err := checkEnum(at, v, r.enum, r.later); err != nil {
		return err
	}
	if r.bounded {
		if err := checkBounds(at, v, r.low, r.high); err != nil {
			return err
		}
	}
	for _, rule := range r.all {
		if err := checkFormat(at, v, rule); err != nil {
			return err
		}
	}
	return nil
}

func checkEnum(at string, v reflect.Value, allowed, later []string) *ProgramError {
	if len(allowed) == 0 {
		return nil
	}
	words, ok := v.Interface().([]string)
	if !ok {
		words = []string{v.String()}
	}
	for _, w := range words {
		if slices.Contains(later, w) {
			return &ProgramError{at, fmt.Sprintf("%s is not available yet; must be %s", w, strings.Join(allowed, " or "))}
		}
		if !slices.Contains(allowed, w) {
			return &ProgramError{at, fmt.Sprintf("must be %s, is %q", strings.Join(allowed, " or "), clip(w))}
		}
	}
	return nil
}

func bounds(tag reflect.StructTag) (low, high float64, ok bool) {
	low, high = -1e18, 1e18
	for _, rule := range rules(tag) {
		if text, found := strings.CutPrefix(rule, "min="); found {
			low, _ = strconv.ParseFloat(text, 64)
			ok = true
		}
		if text, found := strings.CutPrefix(rule, "max="); found {
			high, _ = strconv.ParseFloat(text, 64)
			ok = true
		}
	}
	return low, high, ok
}

func checkBounds(at string, v reflect.Value, low, high float64) *ProgramError {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	var n float64
	what := ""
	switch v.Kind() {
	case reflect.Int:
		n = float64(v.Int())
	case reflect.Float64:
		n = v.Float()
	case reflect.String:
		n, what = float64(utf8.RuneCountInString(v.String())), " characters"
	case reflect.Slice, reflect.Map:
		n, what = float64(v.Len()), " entries"
	}
	if v.Type() == reflect.TypeFor[Seconds]() {
		what = " seconds"
	}
	switch {
	case low > -1e18 && high < 1e18 && (n < low || n > high):
		return &ProgramError{at, fmt.Sprintf("must be %v–%v%s, is %v", low, high, what, n)}
	case n < low:
		return &ProgramError{at, fmt.Sprintf("must be at least %v%s, is %v", low, what, n)}
	case n > high:
		return &ProgramError{at, fmt.Sprintf("must be at most %v%s, is %v", high, what, n)}
	}
	return nil
}

// formats are the rules on text that a regular expression can say, with the sentence for what breaks them. Every
// one lets a template through: {{…}} is filled in and checked again when the instruction runs.
var formats = map[string]struct {
	ok   *regexp.Regexp
	want string
}{
	"id":        {regexp.MustCompile(`^[\w.:-]{1,64}$`), "must be 1–64 letters, digits, dots, colons, hyphens or underscores"},
	"key":       {regexp.MustCompile(`^[0-9*#]?$`), "must be one key of 0-9, * and #, or empty for none"},
	"keys":      {regexp.MustCompile(`^[0-9*#]{0,12}$`), "must be keys of 0-9, * and #, or empty for none"},
	"dtmf":      {regexp.MustCompile(`^[0-9A-Da-d*#wW]+$`), "must be of 0-9, A-D, * and #, with w for 0.5 s and W for 1 s"},
	"language":  {regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$`), "must be a language tag such as zh-CN or en"},
	"number":    {regexp.MustCompile(`^\+?[0-9*#][0-9*#().\s-]{0,31}$`), "must be a telephone number, such as +862368925278"},
	"extension": {regexp.MustCompile(`^[0-9]{2,8}$`), "must be an extension of 2–8 digits"},
	"caller":    {regexp.MustCompile(`^(\+?[0-9]{2,20}|[\w.-]{1,64}|anonymous)$`), "must be a number, such as +862368925278, or an extension"},
	"sip":       {regexp.MustCompile(`^sips?:[^\s<>"\r\n]{1,255}$`), "must be a SIP URI, such as sip:bob@example.com"},
	"refer":     {regexp.MustCompile(`^(sips?:[^\s<>"\r\n]{1,255}|tel:\+?[0-9*#().-]{1,32}|\+?[0-9*#]{2,32})$`), "must be a SIP or tel URI, such as sip:bob@example.com, or a number"},
	"slot":      {regexp.MustCompile(`^[\w.-]{1,32}$`), "must be 1–32 letters, digits, dots, hyphens or underscores"},
	"line":      {regexp.MustCompile(`^[^\x00-\x1f\x7f]*$`), "must be one line of text without control characters"},
	"tone":      {regexp.MustCompile(`^[a-zA-Z0-9_+*/,.()-]{1,256}$`), "must be a tone's name, such as ringback or busy, or frequencies and cadence, such as 440+480/2000,0/4000"},
}

func checkFormat(at string, v reflect.Value, rule string) *ProgramError {
	switch rule {
	case "url":
		return checkURL(at, v.String())
	case "regex":
		return checkRegex(at, v.String())
	case "headers":
		return checkHeaders(at, v)
	}
	format, ok := formats[rule]
	if !ok || strings.Contains(v.String(), "{{") {
		return nil
	}
	if !format.ok.MatchString(v.String()) {
		return &ProgramError{at, fmt.Sprintf("%s, is %q", format.want, clip(v.String()))}
	}
	return nil
}

func checkURL(at, text string) *ProgramError {
	if strings.Contains(text, "{{") {
		return nil
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || text == "" {
		return &ProgramError{at, fmt.Sprintf("must be a URL, is %q", clip(text))}
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return &ProgramError{at, fmt.Sprintf("names no host: %q", clip(text))}
		}
	case "":
	default:
		return &ProgramError{at, fmt.Sprintf("must be http, https or relative, is %q", clip(text))}
	}
	return nil
}

func checkRegex(at, text string) *ProgramError {
	if len(text) > 512 {
		return &ProgramError{at, "must be at most 512 characters"}
	}
	if _, err := regexp.Compile(text); err != nil {
		return &ProgramError{at, "is not a regular expression (RE2 syntax): " + err.Error()}
	}
	return nil
}

// headerName is what an application may put on a SIP message: its own X- headers, and User-to-User (RFC 7433).
// Everything that routes, identifies or authenticates stays ours.
var headerName = regexp.MustCompile(`^(?i)(x-[a-z0-9-]{1,60}|user-to-user)$`)

func checkHeaders(at string, v reflect.Value) *ProgramError {
	headers, _ := v.Interface().(map[string]string)
	total := 0
	for name, value := range headers {
		here := at + "/" + escapePointer(name)
		if !headerName.MatchString(name) {
			return &ProgramError{here, "must be an X- header or User-to-User"}
		}
		if !formats["line"].ok.MatchString(value) || len(value) > 1024 {
			return &ProgramError{here, "must be one line of at most 1,024 bytes"}
		}
		if total += len(name) + len(value); total > 8192 {
			return &ProgramError{at, "are more than 8,192 bytes in all"}
		}
	}
	return nil
}

// checkInstruction holds the rules that tie several attributes together.
func checkInstruction(at string, i Instruction) *ProgramError {
	switch i := i.(type) {
	case *Gather:
		if i.NumDigits > 0 && i.MinDigits > i.NumDigits {
			return &ProgramError{at + "/min_digits", fmt.Sprintf("is %d, more than num_digits %d", i.MinDigits, i.NumDigits)}
		}
	case *Conference:
		if (i.Mode == "whisper") != (i.WhisperTo != "") {
			return &ProgramError{at + "/whisper_to", "goes with mode whisper, and the mode with it"}
		}
	}
	return nil
}
