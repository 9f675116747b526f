package rest_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookswitch/hookswitch/controlplane/auth"
	"github.com/hookswitch/hookswitch/controlplane/bus"
	"github.com/hookswitch/hookswitch/controlplane/db/dbtest"
	"github.com/hookswitch/hookswitch/controlplane/problem"
	"github.com/hookswitch/hookswitch/controlplane/rest"
	"github.com/hookswitch/hookswitch/controlplane/rest/resttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func memoryBus(t *testing.T) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), "memory:")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func callers(known map[string]auth.Caller) func(context.Context, rest.Credential) (auth.Caller, error) {
	return func(_ context.Context, c rest.Credential) (auth.Caller, error) {
		who, ok := known[c.Bearer]
		if !ok {
			return who, problem.Unauthenticated("unknown")
		}
		return who, nil
	}
}

func TestMountFailsWhereSpecificationAndFunctionsDiffer(t *testing.T) {
	type none = struct{}
	d := dbtest.Open(t, dbtest.SQLiteURL(t))
	cfg := rest.Config{DB: d, Bus: memoryBus(t), Log: discard(), Authenticate: callers(nil)}
	get := func(context.Context, auth.Caller, struct {
		ID string `path:"thing_id"`
	}) (thing, error) {
		return thing{}, nil
	}
	for _, c := range []struct {
		name, operation string
		with            *rest.Operation
		want            string
	}{
		{"no function", "getThing", nil, "no function"},
		{"no operation", "getNothing", ptr(rest.Op(get)), "no operation"},
		{"parameter not read", "getThing", ptr(rest.Op(func(context.Context, auth.Caller, none) (thing, error) { return thing{}, nil })), "thing_id"},
		{"parameter not declared", "getThing", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			ID string `path:"thing_id"`
			X  string `query:"x"`
		}) (thing, error) {
			return thing{}, nil
		})), `"x"`},
		{"no place for the type", "getThing", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			ID []string `path:"thing_id"`
		}) (thing, error) {
			return thing{}, nil
		})), "cannot be"},
		{"body not read", "createThing", ptr(rest.Op(func(context.Context, auth.Caller, none) (thing, error) { return thing{}, nil })), "body"},
		{"body not declared", "getPing", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			Body none `body:"json"`
		}) (none, error) {
			return none{}, nil
		})), "body"},
		{"answer for 204", "deleteThing", ptr(rest.Op(func(context.Context, auth.Caller, one) (thing, error) { return thing{}, nil })), "204"},
		{"nothing for 200", "getThing", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			ID string `path:"thing_id"`
		}) (rest.None, error) {
			return rest.None{}, nil
		})), "200"},
		{"several answers", "getThingFile", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			ID string `path:"thing_id"`
			As string `query:"as"`
		}) (none, error) {
			return none{}, nil
		})), "rest.Answer"},
		{"not a struct", "getPing", ptr(rest.Op(func(context.Context, auth.Caller, string) (none, error) { return none{}, nil })), "struct"},
		{"wrong stream", "replaceThingFile", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			one
			Upload string `body:"stream"`
		}) (size, error) {
			return size{}, nil
		})), "rest.Upload"},
		{"wrong query", "listThings", ptr(rest.Op(func(context.Context, auth.Caller, struct {
			Query map[string]string `query:"*"`
		}) (none, error) {
			return none{}, nil
		})), "url.Values"},
	} {
		operations := (&things{db: d}).operations()
		if c.with == nil {
			delete(operations, c.operation)
		} else {
			operations[c.operation] = *c.with
		}
		_, err := rest.Mount(cfg, specification(t), operations)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	if _, err := rest.Mount(cfg, specification(t), (&things{db: d}).operations()); err != nil {
		t.Error(err)
	}
	if _, err := rest.Mount(rest.Config{}, specification(t), nil); err == nil {
		t.Error("mounted without a database")
	}
}

func ptr[T any](v T) *T { return &v }

func TestCompareFindsWhereStructsLeaveTheSpecification(t *testing.T) {
	type page struct {
		Data []struct {
			ID    int    `json:"id"`
			Extra string `json:"extra"`
		} `json:"data,omitempty"`
		NextCursor *string `json:"next_cursor"`
	}
	operations := map[string]rest.Operation{
		"listThings": rest.Op(func(context.Context, auth.Caller, struct {
			Query url.Values `query:"*"`
		}) (page, error) {
			return page{}, nil
		}),
		"createThing": rest.Op(func(context.Context, auth.Caller, struct {
			Body struct {
				Name bool `json:"name"`
			} `body:"json"`
		}) (thing, error) {
			return thing{}, nil
		}),
	}
	got := resttest.Compare(specification(t), operations)
	for _, want := range []string{
		"listThings answer: data is required: true", "listThings answer/data/-: extra is in Go", "listThings answer/data/-/id: is a int",
		"listThings answer/data/-: name is in the specification", "listThings answer: next_cursor may be null",
		"createThing body/name: is a bool", "createThing body: pin is in the specification", "listThings answer: total is in the specification",
	} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("%q is not among\n%s", want, strings.Join(got, "\n"))
		}
	}
	if whole := resttest.Compare(specification(t), (&things{}).operations()); len(whole) > 0 {
		t.Error(strings.Join(whole, "\n"))
	}
}

// The examples of RFC 7396, appendix A, that have an object as target.
func TestMergePatch(t *testing.T) {
	type document struct {
		A any `json:"a,omitempty"`
		B any `json:"b,omitempty"`
		C any `json:"c,omitempty"`
		E any `json:"e,omitempty"`
	}
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"a":"foo"}`, `{"b":{"x":null}}`, `{"a":"foo","b":{}}`},
		{`{"a":12345678901234567890}`, `{"b":12345678901234567891}`, `{"a":12345678901234567890,"b":12345678901234567891}`},
	} {
		var target struct {
			A json.RawMessage `json:"a,omitempty"`
			B json.RawMessage `json:"b,omitempty"`
			C json.RawMessage `json:"c,omitempty"`
			E json.RawMessage `json:"e,omitempty"`
		}
		if err := json.Unmarshal([]byte(c[0]), &target); err != nil {
			t.Fatal(err)
		}
		if err := rest.Patch(c[1]).Apply(&target); err != nil {
			t.Errorf("%s + %s: %v", c[0], c[1], err)
		}
		if got, _ := json.Marshal(target); string(got) != c[2] {
			t.Errorf("%s + %s: got %s, want %s", c[0], c[1], got, c[2])
		}
	}
	var wrong struct {
		N int `json:"n"`
	}
	if err := rest.Patch(`{"n":"x"}`).Apply(&wrong); problem.From(err).Status != 400 {
		t.Errorf("got %v", err)
	}
	if err := rest.Patch(`{`).Apply(&document{}); problem.From(err).Status != 400 {
		t.Errorf("got %v", err)
	}
}

func FuzzPatch(f *testing.F) {
	f.Add(`{"a":{"b":null}}`, `{"a":{"b":1}}`)
	f.Add(`[]`, `{}`)
	f.Add(`null`, `null`)
	f.Fuzz(func(t *testing.T, before, patch string) {
		var target struct {
			A map[string]any `json:"a"`
			B []string       `json:"b"`
		}
		if json.Unmarshal([]byte(before), &target) != nil {
			return
		}
		once := target
		if rest.Patch(patch).Apply(&once) != nil {
			return
		}
		twice := once
		if err := rest.Patch(patch).Apply(&twice); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(once)
		b, _ := json.Marshal(twice)
		if string(a) != string(b) {
			t.Errorf("doing it twice: %s, then %s", a, b)
		}
	})
}
