package openapi

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// expandable adds to every get, list and search whose answer has a property with x-expand the parameter expand, and
// to that answer's schema the property that the object goes to:
//
//	thing_id: {type: string, x-expand: listThings}
//	thing: {allOf: [{$ref: '#/components/schemas/Thing'}], x-expanded: thing_id, readOnly: true}
//
// A list operation that is not there is left to Lint, so that a module can be parsed alone.
func expandable(root *yaml.Node) error {
	paths := member(root, "paths")
	for i := 0; i+1 < len(paths.Content); i += 2 {
		path, item := paths.Content[i].Value, paths.Content[i+1]
		for _, method := range []string{"get", "post"} {
			operation := member(item, method)
			if operation == nil || (method == "post" && !strings.HasSuffix(path, "/search")) {
				continue
			}
			object := answered(root, operation)
			if object == nil {
				continue
			}
			added, err := expandProperties(root, object)
			if err != nil {
				return fmt.Errorf("openapi: %s %s: %w", method, path, err)
			}
			if added {
				addExpandParameter(operation)
			}
		}
	}
	return nil
}

// answered is the schema of the object that an operation answers with, or that of the rows of its list; nil for none.
func answered(root, operation *yaml.Node) *yaml.Node {
	object := resolve(root, dig(operation, "responses", "200"))
	object = resolve(root, dig(object, "content", "application/json", "schema"))
	if rows := dig(object, "properties", "data", "items"); rows != nil {
		object = resolve(root, rows)
	}
	return object
}

// expandProperties adds the properties of an object's expansions, unless they are there. any is whether it has some.
func expandProperties(root, object *yaml.Node) (any bool, err error) {
	properties := member(object, "properties")
	if properties == nil {
		return false, nil
	}
	for i := len(properties.Content) - 2; i >= 0; i -= 2 {
		name, property := properties.Content[i].Value, properties.Content[i+1]
		list := member(property, "x-expand")
		if list == nil {
			continue
		}
		bare, ok := strings.CutSuffix(name, "_id")
		if !ok {
			return false, fmt.Errorf("x-expand: %s must end with _id", name)
		}
		ref := listed(root, list.Value)
		if ref == nil {
			continue
		}
		any = true
		if had := member(properties, bare); had != nil {
			if member(had, "x-expanded") == nil {
				return false, fmt.Errorf("x-expand: there is a property %s already", bare)
			}
			continue
		}
		properties.Style = 0
		properties.Content = append(properties.Content, text(bare), &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
			text("description"), text("What " + name + " refers to, with `expand=" + bare + "`."),
			text("readOnly"), {Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"},
			text("x-expanded"), text(name),
			text("allOf"), {Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{ref}},
		}})
	}
	return any, nil
}

// listed is the reference to the schema of a list operation's rows; nil when there is none.
func listed(root *yaml.Node, operationID string) *yaml.Node {
	paths := member(root, "paths")
	for i := 1; i < len(paths.Content); i += 2 {
		operation := member(paths.Content[i], "get")
		if id := member(operation, "operationId"); id == nil || id.Value != operationID {
			continue
		}
		page := resolve(root, dig(operation, "responses", "200"))
		page = resolve(root, dig(page, "content", "application/json", "schema"))
		if ref := dig(page, "properties", "data", "items"); member(ref, "$ref") != nil {
			return ref
		}
	}
	return nil
}

func addExpandParameter(operation *yaml.Node) {
	ref := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{text("$ref"), text("#/components/parameters/Expand")}}
	parameters := member(operation, "parameters")
	if parameters == nil {
		parameters = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		operation.Content = append(operation.Content, text("parameters"), parameters)
	}
	parameters.Style = 0
	parameters.Content = append(parameters.Content, ref)
}

func text(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

// dig gives a member of a member, nil when one is missing.
func dig(n *yaml.Node, names ...string) *yaml.Node {
	for _, name := range names {
		n = member(n, name)
	}
	return n
}

// resolve follows a $ref within the document.
func resolve(root, n *yaml.Node) *yaml.Node {
	ref := member(n, "$ref")
	if ref == nil {
		return n
	}
	pointer, ok := strings.CutPrefix(ref.Value, "#/")
	if !ok {
		return nil
	}
	return dig(root, strings.Split(pointer, "/")...)
}
