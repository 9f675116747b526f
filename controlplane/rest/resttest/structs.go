package resttest

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/openapi"
)

// Structs compares the Go structs of every operation with the schemas of the specification: the same fields, of the
// same types, and an answer's field is required exactly when Go always writes it. A type that marshals itself, and a
// schema without a type, are taken on trust.
func Structs(t *testing.T, spec *openapi.Spec, operations map[string]rest.Operation) {
	t.Helper()
	for _, line := range Compare(spec, operations) {
		t.Error(line)
	}
}

// Compare gives the differences that Structs fails on.
func Compare(spec *openapi.Spec, operations map[string]rest.Operation) []string {
	c := comparison{seen: map[pair]bool{}}
	for _, path := range slices.Sorted(maps.Keys(spec.View.Paths.Map())) {
		for _, o := range spec.View.Paths.Value(path).Operations() {
			fn, ok := operations[o.OperationID]
			if !ok {
				continue
			}
			if body := fn.Body(); body != nil && body != reflect.TypeFor[rest.Patch]() {
				if s := content(o.RequestBody.Value.Content); s != nil {
					c.compare(o.OperationID+" body", s, body, false)
				}
			}
			if fn.Out() == reflect.TypeFor[rest.Answer]() || fn.Out() == reflect.TypeFor[rest.None]() {
				continue
			}
			for status, r := range o.Responses.Map() {
				if s := content(r.Value.Content); s != nil && status < "3" {
					c.compare(o.OperationID+" answer", s, fn.Out(), true)
				}
			}
		}
	}
	slices.Sort(c.found)
	return c.found
}

func content(c openapi3.Content) *openapi3.Schema {
	if m := c.Get("application/json"); m != nil && m.Schema != nil {
		return m.Schema.Value
	}
	return nil
}

type pair struct {
	schema *openapi3.Schema
	goType reflect.Type
	answer bool
}

type comparison struct {
	seen  map[pair]bool
	found []string
}

func (c *comparison) say(at, format string, args ...any) {
	c.found = append(c.found, at+": "+fmt.Sprintf(format, args...))
}

func (c *comparison) compare(at string, s *openapi3.Schema, t reflect.Type, answer bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if c.seen[pair{s, t, answer}] {
		return
	}
	c.seen[pair{s, t, answer}] = true
	if t == reflect.TypeFor[time.Time]() {
		if !s.Type.Is("string") || s.Format != "date-time" {
			c.say(at, "is a time in Go, but no date-time in the specification")
		}
		return
	}
	if s.Type.IsEmpty() || itself(t) {
		return
	}
	kinds := map[string][]reflect.Kind{
		"string":  {reflect.String},
		"boolean": {reflect.Bool},
		"integer": {reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64},
		"number":  {reflect.Float32, reflect.Float64},
		"array":   {reflect.Slice, reflect.Array},
		"object":  {reflect.Struct, reflect.Map},
	}
	name := (*s.Type)[0]
	if !slices.Contains(kinds[name], t.Kind()) {
		c.say(at, "is a %s in Go, but %s in the specification", t, name)
		return
	}
	switch {
	case name == "array" && s.Items != nil:
		c.compare(at+"/-", s.Items.Value, t.Elem(), answer)
	case t.Kind() == reflect.Map && s.AdditionalProperties.Schema != nil:
		c.compare(at+"/*", s.AdditionalProperties.Schema.Value, t.Elem(), answer)
	case t.Kind() == reflect.Struct:
		c.object(at, s, t, answer)
	}
}

// itself reports whether a type writes its own JSON.
func itself(t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return true
	}
	for _, i := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

// member is one field of a struct as JSON has it.
type member struct {
	goType   reflect.Type
	optional bool
}

func (c *comparison) object(at string, s *openapi3.Schema, t reflect.Type, answer bool) {
	fields := map[string]member{}
	members(t, fields)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if s.Properties[name] == nil {
			c.say(at, "%s is in Go, but not in the specification", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name].Value
		f, there := fields[name]
		if p.Extensions["x-expanded"] != nil && !there {
			continue // put in by rest
		}
		switch {
		case !there && (answer && p.WriteOnly || !answer && p.ReadOnly):
			continue
		case !there:
			c.say(at, "%s is in the specification, but not in Go", name)
			continue
		}
		required := slices.Contains(s.Required, name)
		if answer && required == f.optional && !p.WriteOnly {
			c.say(at, "%s is required: %t in the specification, but left out when empty: %t in Go", name, required, f.optional)
		}
		if answer && !p.Nullable && !f.optional && f.goType.Kind() == reflect.Pointer {
			c.say(at, "%s may be null in Go, but not in the specification", name)
		}
		c.compare(at+"/"+name, p, f.goType, answer)
	}
}

// members lists the fields of a struct, those of embedded structs among them, as encoding/json does.
func members(t reflect.Type, into map[string]member) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Tag.Get("json") == "-":
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			members(inner, into)
		case f.IsExported():
			if name == "" {
				name = f.Name
			}
			into[name] = member{f.Type, strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")}
		}
	}
}
