package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/problem"
)

// Operation is one operation of the spec as a Go function, made by Op.
type Operation struct {
	in   reflect.Type // a struct
	out  reflect.Type
	call func(ctx context.Context, who auth.Caller, in reflect.Value) (any, error)
}

// Op makes an operation of a function. In is a struct whose fields say by tag where they come from:
//
//	ID      string            `path:"application_id"`  "*" for the last one of the path
//	Query   url.Values        `query:"*"`            every query parameter, for list.Table.Parse
//	IfMatch string            `header:"If-Match"`
//	Draft   Draft             `body:"json"`          also rest.Patch, for a merge patch
//	Parts   *multipart.Reader `body:"multipart"`     streamed, not validated
//	Upload  rest.Upload       `body:"stream"`        streamed, not validated
//
// path, query and header fields are strings, booleans, numbers, time.Time, types of these, pointers to them (nil
// when absent), and for query slices of them.
//
// The answer's status is the one 2xx (or 3xx) status that the spec gives the operation. Out is what is answered as
// JSON; None where the status is 204; Answer where the function decides. An Out with an identity (db.Row) has
// its etag sent as ETag, and on 201 its id as Location.
func Op[In, Out any](fn func(ctx context.Context, who auth.Caller, in In) (Out, error)) Operation {
	return Operation{
		in:  reflect.TypeFor[In](),
		out: reflect.TypeFor[Out](),
		call: func(ctx context.Context, who auth.Caller, in reflect.Value) (any, error) {
			return fn(ctx, who, in.Interface().(In))
		},
	}
}

// None is the Out of an operation that answers 204 No Content.
type None struct{}

// Answer is the Out of an operation that chooses among the statuses of its spec.
type Answer struct {
	Status int
	Header http.Header // added to the answer's
	Body   any         // as JSON; nil for none
}

// Stream is the Out of an operation that writes its answer itself, for as long as the client stays: server-sent events.
// It begins with the status 200, which it need not write; nothing of it is validated, masked, kept or audited here, and
// Config.Timeout does not apply. Problems are returned before, by the operation's function.
type Stream func(w http.ResponseWriter, r *http.Request) error

// Redirect is an answer that sends the client to a URL for this once (302).
func Redirect(url string) Answer {
	return Answer{Status: http.StatusFound, Header: http.Header{"Location": {url}}}
}

// Upload is a body that the operation reads itself, up to its limit: reading more fails with a TooLarge problem.
type Upload struct {
	Body        interface{ Read([]byte) (int, error) }
	ContentType string
	Size        int64 // -1 when the client did not say
}

// Patch is a JSON merge patch (RFC 7396).
type Patch json.RawMessage

// UnmarshalJSON keeps the patch as it is.
func (p *Patch) UnmarshalJSON(text []byte) error {
	*p = append((*p)[:0], text...)
	return nil
}

// Apply changes target, a pointer to a struct, by the patch: members given replace, null removes (which leaves the
// zero value), objects merge. The patch was validated against its schema before; what still does not fit is an
// Invalid problem.
func (p Patch) Apply(target any) error {
	before, err := json.Marshal(target)
	if err != nil {
		return err
	}
	var document, patch any
	if err := decodeNumbers(before, &document); err != nil {
		return err
	}
	if err := decodeNumbers(p, &patch); err != nil {
		return problem.Invalid("the body is not JSON: " + err.Error())
	}
	after, err := json.Marshal(merge(document, patch))
	if err != nil {
		return err
	}
	fresh := reflect.New(reflect.TypeOf(target).Elem())
	if err := json.Unmarshal(after, fresh.Interface()); err != nil {
		return decodeProblem(err)
	}
	keepHidden(fresh.Elem(), reflect.ValueOf(target).Elem())
	reflect.ValueOf(target).Elem().Set(fresh.Elem())
	return nil
}

// merge is the function MergePatch of RFC 7396 §2.
func merge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range members {
		if value == nil {
			delete(object, name)
			continue
		}
		object[name] = merge(object[name], value)
	}
	return object
}

// keepHidden copies the fields that JSON does not show (json:"-"), which no patch can reach, from old to fresh.
func keepHidden(fresh, old reflect.Value) {
	for i := range old.NumField() {
		f := old.Type().Field(i)
		switch {
		case !f.IsExported() || (f.Anonymous && f.Type.Kind() != reflect.Struct):
		case f.Tag.Get("json") == "-":
			fresh.Field(i).Set(old.Field(i))
		case f.Anonymous:
			keepHidden(fresh.Field(i), old.Field(i))
		}
	}
}

// In is the struct that a request is decoded into.
func (o Operation) In() reflect.Type { return o.in }

// Out is what the function answers with.
func (o Operation) Out() reflect.Type { return o.out }

// Body is the type of the field of In that holds the JSON body, or nil.
func (o Operation) Body() reflect.Type {
	for _, f := range reflect.VisibleFields(o.in) {
		if f.Tag.Get("body") == "json" {
			return f.Type
		}
	}
	return nil
}
