package openapi

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

var (
	verbNoun   = regexp.MustCompile(`^[a-z]+([A-Z][a-z0-9]*)+$`)
	permission = regexp.MustCompile(`^(none|[a-z_]+\.[a-z_]+)$`)
	snake      = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	pathForm   = regexp.MustCompile(`^/v1(/[a-z0-9_]+|/\{[a-z0-9_]+\})+$`)
)

// Lint lists what the specification lacks that OpenAPI itself does not ask for; that examples fit their schemas is
// checked by Parse. Each line begins with where it is.
func (s *Spec) Lint() []string {
	l := &linter{view: s.View, tags: map[string]bool{}, bodies: map[*openapi3.Schema]bool{}}
	for _, tag := range s.View.Tags {
		l.tags[tag.Name] = true
	}
	paths := s.View.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if !pathForm.MatchString(path) {
			l.say(path, "must be /v1 and parts in snake_case")
		}
		operations := paths[path].Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			l.operation(method+" "+path, method, operations[method], paths[path].Parameters)
		}
	}
	return l.found
}

type linter struct {
	view   *openapi3.T
	tags   map[string]bool
	bodies map[*openapi3.Schema]bool // those looked at
	found  []string
}

func (l *linter) say(at, format string, args ...any) {
	l.found = append(l.found, at+": "+fmt.Sprintf(format, args...))
}

func (l *linter) operation(at, method string, o *openapi3.Operation, shared openapi3.Parameters) {
	if !verbNoun.MatchString(o.OperationID) {
		l.say(at, "operationId %q must be a verb and a noun, as in listCalls", o.OperationID)
	}
	if o.Summary == "" {
		l.say(at, "summary is missing")
	}
	if len(o.Tags) != 1 || !l.tags[o.Tags[0]] {
		l.say(at, "must have one tag, described under tags")
	}
	p, _ := o.Extensions["x-permission"].(string)
	if !permission.MatchString(p) {
		l.say(at, "x-permission must be none or like calls.read, is %q", p)
	}
	if open := o.Security != nil && len(*o.Security) == 0; open != (p == "none") {
		l.say(at, "security: [] and x-permission: none go together")
	}
	l.parameters(at, method, o, append(slices.Clone(shared), o.Parameters...))
	if o.RequestBody != nil {
		l.request(at, o.RequestBody.Value)
	}
	l.answers(at, o)
}

func (l *linter) parameters(at, method string, o *openapi3.Operation, all openapi3.Parameters) {
	has := func(in, name string) bool { return all.GetByInAndName(in, name) != nil }
	single := false
	for _, p := range all {
		if p.Value.Description == "" {
			l.say(at, "parameter %s: description is missing", p.Value.Name)
		}
		single = single || p.Value.In == openapi3.ParameterInPath
	}
	if method == http.MethodPost && !has(openapi3.ParameterInHeader, "Idempotency-Key") {
		l.say(at, "a POST takes #/components/parameters/IdempotencyKey")
	}
	change := method == http.MethodPatch || method == http.MethodPut || method == http.MethodDelete
	if change && single && !has(openapi3.ParameterInHeader, "If-Match") {
		l.say(at, "a change takes #/components/parameters/IfMatch")
	}
	if !strings.HasPrefix(o.OperationID, "list") {
		return
	}
	for _, name := range []string{"limit", "cursor", "sort"} {
		if !has(openapi3.ParameterInQuery, name) {
			l.say(at, "a list takes the parameter %s", name)
		}
	}
}

func (l *linter) request(at string, body *openapi3.RequestBody) {
	if !body.Required {
		l.say(at, "requestBody: required: true is missing; an optional body is a body with no required member")
	}
	for name, media := range body.Content {
		if name != "application/json" {
			continue
		}
		if media.Example == nil && len(media.Examples) == 0 {
			l.say(at, "requestBody: example is missing")
		}
		if media.Schema != nil {
			l.closed(at+" body", media.Schema.Value)
		}
	}
}

// closed checks that unknown fields of a body are refused.
func (l *linter) closed(at string, s *openapi3.Schema) {
	if s == nil || l.bodies[s] {
		return
	}
	l.bodies[s] = true
	if len(s.AllOf) > 0 {
		l.say(at, "allOf cannot refuse unknown fields; write the properties out, with YAML's <<")
	}
	more := s.AdditionalProperties
	if s.Type.Is("object") && more.Has == nil && more.Schema == nil {
		l.say(at, "additionalProperties is missing: false, or true where anything may be sent")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !snake.MatchString(name) {
			l.say(at, "property %s must be in snake_case", name)
		}
		l.closed(at+"/"+name, s.Properties[name].Value)
	}
	for _, list := range []openapi3.SchemaRefs{s.OneOf, s.AnyOf} {
		for _, part := range list {
			l.closed(at, part.Value)
		}
	}
	if s.Items != nil {
		l.closed(at+"/-", s.Items.Value)
	}
	if more.Schema != nil {
		l.closed(at+"/*", more.Schema.Value)
	}
}

func (l *linter) answers(at string, o *openapi3.Operation) {
	good := 0
	for _, status := range slices.Sorted(maps.Keys(o.Responses.Map())) {
		if status >= "4" {
			continue
		}
		good++
		media := o.Responses.Value(status).Value.Content.Get("application/json")
		if media == nil {
			continue
		}
		if media.Schema == nil || (media.Example == nil && len(media.Examples) == 0) {
			l.say(at, "answer %s: schema or example is missing", status)
			continue
		}
		if strings.HasPrefix(o.OperationID, "list") && (media.Schema.Value.Properties["data"] == nil || media.Schema.Value.Properties["next_cursor"] == nil) {
			l.say(at, "answer %s: a list answers data and next_cursor", status)
		}
	}
	if good == 0 {
		l.say(at, "an answer below 400 is missing")
	}
}
