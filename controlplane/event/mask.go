package event

import (
	"bytes"
	"encoding/json"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// Masks hides what a reader must not see in the data of events, by the schemas of the specification: a schema under
// components that has
//
//	x-event-types: [job.updated, campaign.*]
//
// describes the data of these types, and "x-mask: number" stands on its telephone numbers. It is safe for concurrent
// use. The zero value knows no type.
type Masks struct {
	described []description
}

type description struct {
	types  []string
	schema *openapi3.Schema
}

// NewMasks reads the schemas of a specification (components/schemas of its View).
func NewMasks(schemas openapi3.Schemas) Masks {
	var m Masks
	for _, ref := range schemas {
		given, _ := ref.Value.Extensions["x-event-types"].([]any)
		d := description{schema: ref.Value}
		for _, one := range given {
			if text, ok := one.(string); ok {
				d.types = append(d.types, text)
			}
		}
		if len(d.types) > 0 {
			m.described = append(m.described, d)
		}
	}
	return m
}

// Data is an event's data as a reader with the mask may see it. Why the data of a type that no schema describes is
// withheld from a masked reader: what is in it nobody has said, and a number that slips out cannot be taken back.
func (m Masks) Data(kind string, data json.RawMessage, mask auth.Mask) json.RawMessage {
	if mask == (auth.Mask{}) {
		return data
	}
	nothing := json.RawMessage("{}")
	var value any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nothing
	}
	known := false
	for _, d := range m.described {
		if Match(d.types, kind) {
			known, value = true, hide(value, d.schema, mask)
		}
	}
	if !known {
		return nothing
	}
	hidden, err := json.Marshal(value)
	if err != nil {
		return nothing
	}
	return hidden
}

// hide masks what a schema says is a telephone number.
func hide(value any, s *openapi3.Schema, mask auth.Mask) any {
	if text, ok := value.(string); ok && s.Extensions["x-mask"] == "number" {
		return mask.Number(text)
	}
	for _, list := range []openapi3.SchemaRefs{s.AllOf, s.AnyOf, s.OneOf} {
		for _, part := range list {
			value = hide(value, part.Value, mask)
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for name, each := range v {
			if p := s.Properties[name]; p != nil {
				v[name] = hide(each, p.Value, mask)
			} else if more := s.AdditionalProperties.Schema; more != nil {
				v[name] = hide(each, more.Value, mask)
			}
		}
	case []any:
		for i := range v {
			if s.Items != nil {
				v[i] = hide(v[i], s.Items.Value, mask)
			}
		}
	}
	return value
}

// For is an event as a reader may see it.
func (m Masks) For(e Event, mask auth.Mask) Event {
	e.Data = m.Data(e.Type, e.Data, mask)
	return e
}
