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
// checked by Check. Each line begins with where it is.
func (s *Spec) Lint() []string {
	l := &linter{view: s.View, tags: map[string]bool{}, bodies: map[*openapi3.Schema]bool{}}
	for _, tag := range s.View.Tags {
		l.tags[tag.Name] = true
	}
	paths := s.View.Paths.Map()
	l.expansions(paths)
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

// expansions checks that what x-expand names is a list that can be asked for ids.
func (l *linter) expansions(paths map[string]*openapi3.PathItem) {
	lists := map[string]*openapi3.Operation{}
	for _, item := range paths {
		if item.Get != nil && strings.HasPrefix(item.Get.OperationID, "list") {
			lists[item.Get.OperationID] = item.Get
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.view.Components.Schemas)) {
		properties := l.view.Components.Schemas[name].Value.Properties
		for _, property := range slices.Sorted(maps.Keys(properties)) {
			target, ok := properties[property].Value.Extensions["x-expand"].(string)
			if !ok {
				continue
			}
			at := "components/schemas/" + name + "/" + property
			switch list := lists[target]; {
			case list == nil:
				l.say(at, "x-expand names %s, which is no list", target)
			case list.Parameters.GetByInAndName(openapi3.ParameterInQuery, "id[in]") == nil:
				l.say(at, "x-expand names %s, which must take #/components/parameters/IDs", target)
			case list.Extensions["x-audit"] == true:
				l.say(at, "x-expand names %s, whose every use is audited", target)
			}
		}
	}
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
	search := method == http.MethodPost && strings.HasSuffix(at, "/search")
	if search != strings.HasPrefix(o.OperationID, "search") {
		l.say(at, "a search is POST /v1/things/search with an operationId such as searchThings")
	}
	audit, says := o.Extensions["x-audit"].(bool)
	if (search || (says && !audit)) && !strings.HasSuffix(p, ".read") {
		l.say(at, "what is not audited changes nothing, and needs a permission to read")
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
	search := strings.HasPrefix(o.OperationID, "search")
	if method == http.MethodPost && !search && !has(openapi3.ParameterInHeader, "Idempotency-Key") {
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
