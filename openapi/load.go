package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

// Spec is a joined specification. It is not changed after Parse.
type Spec struct {
	// YAML is the one OpenAPI 3.1 document, for serving and for generators.
	YAML []byte
	// View is the same as OpenAPI 3.0, for validating. Why: in 3.1 the validator compiles a schema on each visit,
	// 348 µs a request against 19 µs, fills in no defaults and explains unions badly.
	View *openapi3.T
}

// Parse joins the *.yaml files at the root of each file system: openapi.yaml is the base, the others add tags,
// paths, webhooks and components. It fails on what two files define, on references to nothing, and on what the 3.0
// view cannot carry; whether the rest is OpenAPI, Check says.
func Parse(sources ...fs.FS) (*Spec, error) {
	root, err := join(sources)
	if err != nil {
		return nil, err
	}
	if err := complete(root); err != nil {
		return nil, err
	}
	if err := expandable(root); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	view, err := view(root)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return &Spec{YAML: text.Bytes(), View: view}, nil
}

func join(sources []fs.FS) (*yaml.Node, error) {
	var base *yaml.Node
	var modules []*yaml.Node
	var names []string
	for _, source := range sources {
		found, err := fs.Glob(source, "*.yaml")
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			text, err := fs.ReadFile(source, name)
			if err != nil {
				return nil, err
			}
			var document yaml.Node
			if err := yaml.Unmarshal(text, &document); err != nil {
				return nil, fmt.Errorf("openapi: %s: %w", name, err)
			}
			if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
				return nil, fmt.Errorf("openapi: %s: must be one object", name)
			}
			node, err := expand(document.Content[0], 0)
			if err != nil {
				return nil, fmt.Errorf("openapi: %s: %w", name, err)
			}
			if name == "openapi.yaml" {
				base = node
				continue
			}
			modules, names = append(modules, node), append(names, name)
		}
	}
	if base == nil {
		return nil, errors.New("openapi: openapi.yaml is missing")
	}
	for i, module := range modules {
		if err := merge(base, module, ""); err != nil {
			return nil, fmt.Errorf("openapi: %s: %w", names[i], err)
		}
	}
	return base, nil
}

// maxDepth is deeper than any document that was meant.
const maxDepth = 100

// expand writes out anchors and merge keys ("<<"), which JSON has no word for, and refuses $ref with siblings, which
// the 3.0 view cannot carry.
func expand(n *yaml.Node, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested more than %d deep; an anchor holds itself", n.Line, maxDepth)
	}
	if n.Kind == yaml.AliasNode {
		return expand(n.Alias, depth+1)
	}
	copied := *n
	copied.Anchor, copied.Content = "", nil
	// Comments speak to the authors.
	copied.HeadComment, copied.LineComment, copied.FootComment = "", "", ""
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content {
			c, err := expand(child, depth+1)
			if err != nil {
				return nil, err
			}
			copied.Content = append(copied.Content, c)
		}
		return &copied, nil
	}
	if member(n, "$ref") != nil && len(n.Content) != 2 {
		return nil, fmt.Errorf("line %d: $ref must stand alone", n.Line)
	}
	var merged []*yaml.Node
	for i := 0; i < len(n.Content); i += 2 {
		value, err := expand(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if n.Content[i].Tag == "!!merge" {
			from := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				from = value.Content
			}
			merged = append(merged, from...)
			continue
		}
		key := *n.Content[i]
		key.Anchor, key.HeadComment, key.LineComment, key.FootComment = "", "", "", ""
		copied.Content = append(copied.Content, &key, value)
	}
	for _, from := range merged {
		for i := 0; i+1 < len(from.Content); i += 2 {
			// What the object says itself wins over what it merges.
			if member(&copied, from.Content[i].Value) == nil {
				copied.Content = append(copied.Content, from.Content[i], from.Content[i+1])
			}
		}
	}
	return &copied, nil
}

// member gives the value of an object's member, or nil.
func member(object *yaml.Node, name string) *yaml.Node {
	if object == nil {
		return nil
	}
	for i := 0; i+1 < len(object.Content); i += 2 {
		if object.Content[i].Value == name {
			return object.Content[i+1]
		}
	}
	return nil
}

// merge adds a module's part to the base. Objects join down to the parts that one file must define as a whole.
func merge(base, part *yaml.Node, pointer string) error {
	for i := 0; i+1 < len(part.Content); i += 2 {
		key, value := part.Content[i], part.Content[i+1]
		at := pointer + "/" + key.Value
		if pointer == "" && !slices.Contains([]string{"tags", "paths", "webhooks", "components"}, key.Value) {
			return fmt.Errorf("line %d: %s is for openapi.yaml; a module adds tags, paths, webhooks and components", key.Line, at)
		}
		had := member(base, key.Value)
		open := pointer == "" || pointer == "/components"
		switch {
		case had == nil:
			base.Content = append(base.Content, key, value)
		case open && had.Kind == yaml.SequenceNode && value.Kind == yaml.SequenceNode:
			had.Style = 0
			had.Content = append(had.Content, value.Content...)
		case open && had.Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			had.Style = 0
			if err := merge(had, value, at); err != nil {
				return err
			}
		default:
			return fmt.Errorf("line %d: %s is defined in another file too", key.Line, at)
		}
	}
	return nil
}

// methods are the words of a path item that are operations.
func methods() []string {
	return []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}
}

// complete adds to every operation the answers that the server gives on its own.
func complete(root *yaml.Node) error {
	paths := member(root, "paths")
	if paths == nil {
		return errors.New("openapi: paths is missing")
	}
	for i := 0; i+1 < len(paths.Content); i += 2 {
		path, item := paths.Content[i].Value, paths.Content[i+1]
		for _, method := range methods() {
			operation := member(item, method)
			if operation == nil {
				continue
			}
			responses := member(operation, "responses")
			if responses == nil {
				return fmt.Errorf("openapi: %s %s: responses is missing", method, path)
			}
			responses.Style = 0
			for _, answer := range standard(path, item, operation) {
				status := fmt.Sprint(answer.status)
				if member(responses, status) != nil {
					continue
				}
				responses.Content = append(responses.Content,
					&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: status, Style: yaml.SingleQuotedStyle},
					&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
						{Kind: yaml.ScalarNode, Tag: "!!str", Value: "$ref"},
						{Kind: yaml.ScalarNode, Tag: "!!str", Value: "#/components/responses/" + answer.response, Style: yaml.SingleQuotedStyle},
					}})
			}
		}
	}
	return nil
}

type answer struct {
	status   int
	response string
}

func standard(path string, item, operation *yaml.Node) []answer {
	answers := []answer{{http.StatusBadRequest, "Invalid"}}
	if p := member(operation, "x-permission"); p == nil || p.Value != "none" {
		answers = append(answers, answer{http.StatusUnauthorized, "Unauthenticated"}, answer{http.StatusForbidden, "Forbidden"})
	}
	if strings.Contains(path, "{") {
		answers = append(answers, answer{http.StatusNotFound, "NotFound"})
	}
	if refers(item, operation, "IdempotencyKey") {
		answers = append(answers, answer{http.StatusConflict, "Conflict"})
	}
	if refers(item, operation, "IfMatch") {
		answers = append(answers, answer{http.StatusPreconditionFailed, "Changed"})
	}
	if member(operation, "requestBody") != nil {
		answers = append(answers, answer{http.StatusRequestEntityTooLarge, "TooLarge"}, answer{http.StatusUnsupportedMediaType, "UnsupportedMedia"},
			answer{http.StatusUnprocessableEntity, "Refused"})
	}
	return append(answers, answer{http.StatusTooManyRequests, "TooManyRequests"}, answer{http.StatusServiceUnavailable, "Unavailable"})
}

// refers reports whether an operation, or its path, has a shared parameter.
func refers(item, operation *yaml.Node, parameter string) bool {
	for _, of := range []*yaml.Node{item, operation} {
		list := member(of, "parameters")
		if list == nil {
			continue
		}
		for _, p := range list.Content {
			if ref := member(p, "$ref"); ref != nil && ref.Value == "#/components/parameters/"+parameter {
				return true
			}
		}
	}
	return false
}

// Check says what of the document, or of its view, is not OpenAPI, and which example does not fit its schema. It takes longer
// than all of Parse, and what is embedded does not change: so tests ask it, and no start of a server waits for it.
func (s *Spec) Check() error {
	doc, err := openapi3.NewLoader().LoadFromData(s.YAML)
	if err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	if err := doc.Validate(context.Background(), openapi3.AllowExtraSiblingFields("summary")); err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	if err := s.View.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		return fmt.Errorf("openapi: 3.0 view: %w", err)
	}
	return nil
}

// view turns the document into OpenAPI 3.0. It goes by way of JSON, which is read faster than YAML.
func view(root *yaml.Node) (*openapi3.T, error) {
	var document any
	if err := root.Decode(&document); err != nil {
		return nil, err
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	if err := doc.WalkSchemas(lower); err != nil {
		return nil, err
	}
	doc.OpenAPI = "3.0.3"
	doc.Webhooks, doc.Servers, doc.JSONSchemaDialect = nil, nil, ""
	doc.Info.Summary = ""
	if doc.Info.License != nil {
		doc.Info.License.Identifier = ""
	}
	return doc, nil
}

// lower turns one 3.1 schema into 3.0 in place: "null" among the types or the alternatives becomes nullable, const
// an enum of one, an exclusive bound a flag. Two things make the view wider than the specification, never narrower: a
// schema with x-checked-by is left to the Go function it names, which gives the better sentences, and
// patternProperties become any properties. Other keywords that 3.0 has no words for are refused.
func lower(pointer string, ref *openapi3.SchemaRef) error {
	s := ref.Value
	if _, ok := s.Extensions["x-checked-by"]; ok {
		*s = openapi3.Schema{Description: s.Description, Extensions: s.Extensions}
		return nil
	}
	if len(s.PatternProperties) > 0 {
		s.PatternProperties, s.AdditionalProperties = nil, openapi3.AdditionalProperties{}
	}
	if word := keyword31(s); word != "" {
		return fmt.Errorf("%s: %s is not to be had in the 3.0 view that requests are validated against", pointer, word)
	}
	if s.Type != nil && s.Type.Includes("null") {
		rest := slices.DeleteFunc(s.Type.Clone(), func(t string) bool { return t == "null" })
		if len(rest) == 0 {
			return fmt.Errorf("%s: a schema cannot be null alone, except among oneOf or anyOf", pointer)
		}
		s.Type, s.Nullable = &rest, true
	}
	if s.Type != nil && len(*s.Type) > 1 {
		return fmt.Errorf("%s: a schema has one type beside null; use oneOf", pointer)
	}
	s.OneOf, s.Nullable = withoutNull(s.OneOf, s.Nullable)
	s.AnyOf, s.Nullable = withoutNull(s.AnyOf, s.Nullable)
	if s.Const != nil {
		s.Enum, s.Const = []any{s.Const}, nil
	}
	s.Min, s.ExclusiveMin = flag(s.Min, s.ExclusiveMin)
	s.Max, s.ExclusiveMax = flag(s.Max, s.ExclusiveMax)
	if len(s.Examples) > 0 {
		s.Example, s.Examples = s.Examples[0], nil
	}
	s.ContentMediaType, s.ContentEncoding, s.Comment = "", "", ""
	return nil
}

// keyword31 names a keyword of s that cannot be carried into 3.0, or is empty.
func keyword31(s *openapi3.Schema) string {
	present := map[string]bool{
		"prefixItems":           len(s.PrefixItems) > 0,
		"contains":              s.Contains != nil,
		"minContains":           s.MinContains != nil,
		"maxContains":           s.MaxContains != nil,
		"patternProperties":     len(s.PatternProperties) > 0,
		"dependentSchemas":      len(s.DependentSchemas) > 0,
		"dependentRequired":     len(s.DependentRequired) > 0,
		"propertyNames":         s.PropertyNames != nil,
		"unevaluatedItems":      s.UnevaluatedItems.Has != nil || s.UnevaluatedItems.Schema != nil,
		"unevaluatedProperties": s.UnevaluatedProperties.Has != nil || s.UnevaluatedProperties.Schema != nil,
		"if":                    s.If != nil || s.Then != nil || s.Else != nil,
		"a boolean schema":      s.Always != nil,
		"$defs":                 len(s.Defs) > 0,
		"$id":                   s.SchemaID != "",
		"$schema":               s.SchemaDialect != "",
		"$anchor":               s.Anchor != "",
		"$dynamicRef":           s.DynamicRef != "" || s.DynamicAnchor != "",
		"contentSchema":         s.ContentSchema != nil,
		"nullable":              s.Nullable,
	}
	var found []string
	for word, there := range present {
		if there {
			found = append(found, word)
		}
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

func withoutNull(alternatives openapi3.SchemaRefs, nullable bool) (openapi3.SchemaRefs, bool) {
	rest := slices.DeleteFunc(slices.Clone(alternatives), func(a *openapi3.SchemaRef) bool {
		return a.Value.Type != nil && a.Value.Type.Is("null")
	})
	return rest, nullable || len(rest) < len(alternatives)
}

// flag turns a 3.1 exclusive bound into a bound with a flag.
func flag(bound *float64, exclusive openapi3.ExclusiveBound) (*float64, openapi3.ExclusiveBound) {
	if exclusive.Value == nil {
		return bound, exclusive
	}
	yes := true
	return exclusive.Value, openapi3.ExclusiveBound{Bool: &yes}
}
