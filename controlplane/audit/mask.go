package audit

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hookswitch/hookswitch/controlplane/auth"
)

// hide makes of an entry what a reader with this mask may see. What an entry tells of is JSON of any kind, and people
// write numbers into names and metadata too; so beside the fields that the specification marks, everything is hidden
// that looks like a telephone number, wherever it stands. Rather too much than too little: an amount of eight digits in
// somebody's metadata is hidden as well.
func (f fields) hide(e *Entry, mask auth.Mask) {
	h := hider{mask, f.numbers}
	e.ObjectID = h.text(e.ObjectID)
	e.Before = h.object(e.Before, f.objects[e.Operation])
	e.After = h.object(e.After, f.objects[e.Operation])
}

// fields is what the specification says of the fields that entries may tell of.
type fields struct {
	// objects are, by operation, the schemas of what its entries tell of.
	objects map[string][]*openapi3.Schema
	// numbers are the names of fields that are telephone numbers anywhere: for objects that have no schema there.
	numbers map[string]bool
}

func newFields(view *openapi3.T) (fields, error) {
	f := fields{objects: objects(view), numbers: map[string]bool{}}
	err := view.WalkSchemas(func(_ string, ref *openapi3.SchemaRef) error {
		for name, p := range ref.Value.Properties {
			if p.Value.Extensions["x-mask"] == "number" {
				f.numbers[name] = true
			}
		}
		return nil
	})
	return f, err
}

// objects gives, by operation, the schemas that describe what its entries tell of: what reading the path answers, what
// the operation itself answers, and what it is sent.
func objects(view *openapi3.T) map[string][]*openapi3.Schema {
	all := map[string][]*openapi3.Schema{}
	for _, item := range view.Paths.Map() {
		for _, o := range item.Operations() {
			var found []*openapi3.Schema
			if item.Get != nil {
				found = answers(found, item.Get)
			}
			found = answers(found, o)
			if o.RequestBody != nil {
				found = content(found, o.RequestBody.Value.Content)
			}
			all[o.OperationID] = found
		}
	}
	return all
}

func answers(found []*openapi3.Schema, o *openapi3.Operation) []*openapi3.Schema {
	for status := http.StatusOK; status < http.StatusMultipleChoices; status++ {
		if r := o.Responses.Status(status); r != nil {
			found = content(found, r.Value.Content)
		}
	}
	return found
}

func content(found []*openapi3.Schema, c openapi3.Content) []*openapi3.Schema {
	if m := c.Get("application/json"); m != nil && m.Schema != nil && !slices.Contains(found, m.Schema.Value) {
		found = append(found, m.Schema.Value)
	}
	return found
}

// hider hides numbers of JSON.
type hider struct {
	mask    auth.Mask
	numbers map[string]bool
}

// object hides in a text of JSON; what is none is left out, because nobody knows what it holds.
func (h hider) object(text json.RawMessage, schemas []*openapi3.Schema) json.RawMessage {
	if text == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil
	}
	out, err := json.Marshal(h.value(value, schemas))
	if err != nil {
		return nil
	}
	return out
}

// value hides in one value. schemas are all that may describe it.
func (h hider) value(value any, schemas []*openapi3.Schema) any {
	schemas = withParts(schemas)
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			described := members(schemas, name)
			number, isText := v[name].(string)
			switch {
			case len(described) > 0:
				out[name] = h.value(v[name], described)
			case isText && h.numbers[name]:
				out[name] = h.mask.Number(number)
			default:
				out[h.text(name)] = h.value(v[name], nil)
			}
		}
		return out
	case []any:
		var items []*openapi3.Schema
		for _, s := range schemas {
			if s.Items != nil {
				items = append(items, s.Items.Value)
			}
		}
		for i := range v {
			v[i] = h.value(v[i], items)
		}
		return v
	case json.Number:
		// A count or a size that the specification describes is no telephone number.
		if len(schemas) == 0 {
			if shown := h.text(v.String()); shown != v.String() {
				return shown
			}
		}
		return v
	case string:
		if slices.ContainsFunc(schemas, func(s *openapi3.Schema) bool { return s.Extensions["x-mask"] == "number" }) {
			return h.mask.Number(v)
		}
		return h.text(v)
	}
	return value
}

// withParts adds to schemas those they are made of.
func withParts(schemas []*openapi3.Schema) []*openapi3.Schema {
	out := slices.Clone(schemas)
	for i := 0; i < len(out); i++ {
		for _, list := range []openapi3.SchemaRefs{out[i].AllOf, out[i].AnyOf, out[i].OneOf} {
			for _, part := range list {
				if !slices.Contains(out, part.Value) {
					out = append(out, part.Value)
				}
			}
		}
	}
	return out
}

// members are the schemas of one member of an object. One that any object may have is described by none of them.
func members(schemas []*openapi3.Schema, name string) []*openapi3.Schema {
	var found []*openapi3.Schema
	for _, s := range schemas {
		if p := s.Properties[name]; p != nil {
			found = append(found, p.Value)
		}
	}
	return found
}

// looks finds what looks like a telephone number, and, in front of that, what only looks like one: our ids, times and
// days, addresses of the network. Each of the first kind has a group.
var looks = regexp.MustCompile(`[a-z]+_[0-9A-HJKMNP-TV-Z]{26}\b` +
	`|\b[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2})?|\b)` +
	`|\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b` +
	`|(\+?[0-9](?:[ ().\-/]{0,2}[0-9]){6,})`)

// text hides every telephone number in a text.
func (h hider) text(text string) string {
	var out strings.Builder
	end := 0
	for _, at := range looks.FindAllStringSubmatchIndex(text, -1) {
		if at[2] < 0 {
			continue
		}
		out.WriteString(text[end:at[2]])
		out.WriteString(h.mask.Number(text[at[2]:at[3]]))
		end = at[3]
	}
	return out.String() + text[end:]
}
