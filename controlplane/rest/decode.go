package rest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// field is one field of an operation's In and where it comes from.
type field struct {
	index []int
	in    string // path, query, header, body
	name  string // of the parameter; for body json, multipart or stream
}

// fields reads the tags of an In and compares them with the specification: every parameter and body it declares must
// be read, and nothing else.
func fields(in reflect.Type, path string, parameters []*openapi3.Parameter, body *openapi3.RequestBodyRef) (found []field, stream string, err error) {
	if in.Kind() != reflect.Struct {
		return nil, "", fmt.Errorf("in must be a struct, is %s", in)
	}
	read := map[string]bool{}
	for _, f := range reflect.VisibleFields(in) {
		for _, source := range []string{"path", "query", "header", "body"} {
			name, ok := f.Tag.Lookup(source)
			if !ok {
				continue
			}
			if source == "path" && name == "*" {
				name = lastName(path)
			}
			found = append(found, field{index: f.Index, in: source, name: name})
			read[source+" "+http.CanonicalHeaderKey(name)] = true
			if err := fits(f.Type, source, name); err != nil {
				return nil, "", fmt.Errorf("%s: %w", f.Name, err)
			}
			if source == "body" && name != "json" {
				stream = name
			}
		}
	}
	declared := map[string]bool{"query *": true}
	for _, p := range parameters {
		key := p.In + " " + http.CanonicalHeaderKey(p.Name)
		declared[key] = true
		all := p.In == "query" && read["query *"]
		if !read[key] && !all && p.Name != idempotencyHeader && !isExpand(p) {
			return nil, "", fmt.Errorf("the %s parameter %q is declared, but no field of %s reads it", p.In, p.Name, in)
		}
	}
	for _, f := range found {
		if f.in != "body" && !declared[f.in+" "+http.CanonicalHeaderKey(f.name)] {
			return nil, "", fmt.Errorf("%s reads the %s parameter %q, which is not declared", in, f.in, f.name)
		}
	}
	hasBody := read["body Json"] || stream != ""
	if hasBody != (body != nil) {
		return nil, "", fmt.Errorf("request body: declared %t, read %t", body != nil, hasBody)
	}
	return found, stream, nil
}

// fits checks that a field can hold what its tag promises.
func fits(t reflect.Type, source, name string) error {
	special := map[string]reflect.Type{
		"query *": reflect.TypeFor[url.Values](), "body multipart": reflect.TypeFor[*multipart.Reader](), "body stream": reflect.TypeFor[Upload](),
	}
	if want, ok := special[source+" "+name]; ok {
		if t != want {
			return fmt.Errorf("%s:%q needs a %s, is %s", source, name, want, t)
		}
		return nil
	}
	if source == "body" {
		if name != "json" {
			return fmt.Errorf("body:%q is none of json, multipart, stream", name)
		}
		return nil
	}
	if t.Kind() == reflect.Pointer || (t.Kind() == reflect.Slice && source == "query") {
		t = t.Elem()
	}
	return assign(reflect.New(t).Elem(), sample(t))
}

// sample is a text that assign takes for a type, where it takes any.
func sample(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return time.Time{}.Format(time.RFC3339)
	case t.Kind() == reflect.Bool:
		return "false"
	}
	return "0"
}

// assign reads one parameter's text into v.
func assign(v reflect.Value, text string) error {
	switch target := v.Addr().Interface().(type) {
	case *time.Time:
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return errors.New("must be a time such as 2026-01-31T08:00:00Z")
		}
		*target = at.UTC()
		return nil
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("must be true or false")
		}
		v.SetBool(b)
		return nil
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return errors.New("must be a whole number")
		}
		v.SetInt(n)
		return nil
	case v.CanFloat():
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return errors.New("must be a number")
		}
		v.SetFloat(n)
		return nil
	}
	return fmt.Errorf("a parameter cannot be a %s", v.Type())
}

// decode fills an In from a request that was validated.
func (e *endpoint) decode(r *http.Request, path map[string]string, body []byte) (reflect.Value, error) {
	in := reflect.New(e.fn.in).Elem()
	query := r.URL.Query()
	for _, f := range e.fields {
		v := in.FieldByIndex(f.index)
		var err error
		switch {
		case f.in == "body":
			err = e.decodeBody(v, f.name, r, body)
		case f.in == "query" && f.name == "*":
			v.Set(reflect.ValueOf(query))
		case f.in == "query":
			err = assignAll(v, f.name, query[f.name])
		case f.in == "header":
			err = assignAll(v, f.name, r.Header.Values(f.name))
		default:
			err = assignAll(v, f.name, []string{path[f.name]})
		}
		if err != nil {
			return in, err
		}
	}
	return in, nil
}

func assignAll(v reflect.Value, name string, texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(texts), len(texts)))
		for i, text := range texts {
			if err := assign(v.Index(i), text); err != nil {
				return problem.InvalidField(name, "type", "%s", err.Error())
			}
		}
		return nil
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if err := assign(v, texts[0]); err != nil {
		return problem.InvalidField(name, "type", "%s", err.Error())
	}
	return nil
}

func (e *endpoint) decodeBody(v reflect.Value, how string, r *http.Request, body []byte) error {
	switch how {
	case "multipart":
		parts, err := r.MultipartReader()
		if err != nil {
			return problem.New(problem.CodeUnsupportedMedia, "send the parts as multipart/form-data")
		}
		v.Set(reflect.ValueOf(parts))
		return nil
	case "stream":
		v.Set(reflect.ValueOf(Upload{Body: r.Body, ContentType: r.Header.Get("Content-Type"), Size: r.ContentLength}))
		return nil
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v.Addr().Interface()); err != nil {
		return decodeProblem(err)
	}
	return nil
}

// decodeProblem explains what encoding/json did not take. The specification has let it pass, so this is a schema that
// is wider than its Go type.
func decodeProblem(err error) error {
	if _, ok := errors.AsType[*problem.Problem](err); ok {
		return err
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		pointer := ""
		for _, name := range strings.Split(e.Field, ".") {
			// An embedded struct is in the path under its Go name.
			if r, _ := utf8.DecodeRuneInString(name); !unicode.IsUpper(r) {
				pointer += "/" + name
			}
		}
		return problem.InvalidField(pointer, "type", "cannot be %s here", e.Value)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return problem.Invalid(fmt.Sprintf("the body is not JSON: %s at byte %d", e.Error(), e.Offset))
	}
	return problem.Invalid("the body cannot be read: " + err.Error())
}

// decodeNumbers reads JSON with its numbers as they are written.
func decodeNumbers(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// validate checks a request against the specification. body is nil for a stream.
func (e *endpoint) validate(r *http.Request, path map[string]string, body []byte) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.Invalid("the query is not well-formed; encode its special characters")
	}
	for name, values := range query {
		if !e.query[name] {
			return problem.InvalidField(name, "unknown", "is no parameter of %s", e.id)
		}
		for _, v := range values {
			if err := plain(name, v); err != nil {
				return err
			}
		}
	}
	for name, v := range path {
		if err := plain(name, v); err != nil {
			return err
		}
	}
	if body != nil {
		if err := e.media(r); err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		// The validator reads the first value and no further.
		var value json.RawMessage
		if err := json.Unmarshal(body, &value); err != nil && len(body) > 0 {
			return decodeProblem(err)
		}
	}
	err = openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: path, QueryParams: query, Route: e.route, Options: e.options,
	})
	if err == nil {
		return nil
	}
	errs := explain(nil, "", err)
	if len(errs) == 1 && errs[0].Pointer != "" {
		return problem.Invalid(errs[0].Pointer+": "+errs[0].Message, errs...)
	}
	return problem.Invalid("the request does not fit the specification of "+e.id+"; errors says where", errs...)
}

// plain refuses what no text in a database may hold.
func plain(name, text string) error {
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		return problem.InvalidField(name, "encoding", "must be UTF-8 without NUL")
	}
	return nil
}

// media checks the Content-Type of a body.
func (e *endpoint) media(r *http.Request) error {
	if e.spec.RequestBody == nil || r.ContentLength == 0 {
		return nil
	}
	given := r.Header.Get("Content-Type")
	if given != "" && e.spec.RequestBody.Value.Content.Get(given) != nil {
		return nil
	}
	var takes []string
	for name := range e.spec.RequestBody.Value.Content {
		takes = append(takes, name)
	}
	return problem.New(problem.CodeUnsupportedMedia, "send the body with Content-Type: "+strings.Join(takes, " or "))
}

// explain turns the validator's errors into field errors. at is the pointer of what was validated.
func explain(errs []problem.FieldError, at string, err error) []problem.FieldError {
	const most = 20
	if len(errs) >= most {
		return errs
	}
	// A walk through the validator's own tree: nothing in it is wrapped, and errors.As would skip levels.
	switch e := any(err).(type) {
	case openapi3.MultiError:
		for _, each := range e {
			errs = explain(errs, at, each)
		}
		return errs
	case *openapi3filter.RequestError:
		if e.Parameter != nil {
			at = e.Parameter.Name
		}
		if errors.Is(e.Err, openapi3filter.ErrInvalidRequired) {
			return append(errs, problem.Field(at, "required", "is required"))
		}
		if e.Err == nil {
			return append(errs, problem.Field(at, "body", "%s", e.Reason))
		}
		return explain(errs, at, e.Err)
	case *openapi3filter.ParseError:
		return append(errs, problem.Field(at, "parse", "%s", e.Reason))
	case *openapi3.SchemaError:
		return append(errs, schemaError(at, e))
	}
	return append(errs, problem.Field(at, "invalid", "%s", err.Error()))
}

func schemaError(at string, e *openapi3.SchemaError) problem.FieldError {
	pointer := at
	for _, part := range e.JSONPointer() {
		pointer += "/" + escape(part)
	}
	// An error of a part, as of a union whose discriminator chose one.
	if inner, ok := errors.AsType[*openapi3.SchemaError](e.Origin); ok {
		return schemaError(pointer, inner)
	}
	reason := e.Reason
	if reason == "" && e.Origin != nil {
		reason = e.Origin.Error()
	}
	// The validator names an unknown field in its sentence alone: property "x" is unsupported.
	if e.SchemaField == "properties" {
		if name, err := strconv.QuotedPrefix(strings.TrimPrefix(reason, "property ")); err == nil {
			if name, err = strconv.Unquote(name); err == nil {
				return problem.Field(pointer+"/"+escape(name), "unknown", "is no field that can be set here")
			}
		}
	}
	return problem.Field(pointer, e.SchemaField, "%s", reason)
}

// escape writes a name as part of a JSON pointer (RFC 6901 §3).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// formats are the string formats that are enforced.
func formats() []openapi3.SchemaValidationOption {
	check := func(ok func(string) bool, must string) openapi3.StringFormatValidator {
		return openapi3.NewCallbackValidator(func(s string) error {
			if ok(s) {
				return nil
			}
			return errors.New(must)
		})
	}
	return []openapi3.SchemaValidationOption{openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
		"date-time": check(func(s string) bool { _, err := time.Parse(time.RFC3339, s); return err == nil }, "must be a time such as 2026-01-31T08:00:00Z"),
		"date":      check(func(s string) bool { _, err := time.Parse(time.DateOnly, s); return err == nil }, "must be a date such as 2026-01-31"),
		"uri": check(func(s string) bool {
			u, err := url.Parse(s)
			return err == nil && u.IsAbs()
		}, "must be an absolute URL such as https://example.com/voice"),
		"email": check(func(s string) bool {
			a, err := mail.ParseAddress(s)
			return err == nil && a.Address == s
		}, "must be an e-mail address"),
		"ip":   check(func(s string) bool { _, err := netip.ParseAddr(s); return err == nil }, "must be an IP address"),
		"cidr": check(func(s string) bool { _, err := netip.ParsePrefix(s); return err == nil }, "must be a network such as 192.0.2.0/24"),
	})}
}
